-- What an audit of one schema must read: floor.sql for schema little.
select sum(n) from (select count(*) n from pg_class c left join lateral aclexplode(c.relacl) on true where c.relnamespace = 'little'::regnamespace
  union all select count(*) from pg_proc p left join lateral aclexplode(p.proacl) on true where p.pronamespace = 'little'::regnamespace
  union all select count(*) from pg_policy l join pg_class c on c.oid = l.polrelid where c.relnamespace = 'little'::regnamespace
  union all select count(*) from pg_namespace n left join lateral aclexplode(n.nspacl) on true
  union all select count(*) from pg_auth_members) q;

-- Writes a snapshot of the catalogs of a database as JSON, for ops.audit_snapshot() and the program
-- dragonfly-guard. Any role that may connect can run it. It changes nothing and reads no table of
-- an application:
--
--   psql -XAtq -v ON_ERROR_STOP=1 -f snapshot.sql DATABASE > snapshot.json
--
-- The format is described in docs/reference/catalog-snapshot.md. This file is generated from
-- src/reader/catalogs.rs.
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset pager off
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL quote_all_identifiers = off;
-- Roles of hosted platforms often have one.
SET LOCAL statement_timeout = 0;

-- Waits a minute for a lock, unless the role waits for another time. The values of settings are not
-- those that the role or the client has of its own: these are unknown.
SELECT left(set_config('lock_timeout', CASE current_setting('lock_timeout')
    WHEN '0' THEN '1min' ELSE current_setting('lock_timeout') END, true), 0)
  || '{"dragonfly_guard_snapshot":1,"server":' || json_build_object(
  'version_num', current_setting('server_version_num')::int4,
  'encoding', current_setting('server_encoding'),
  'database', d.oid::int8,
  'role', current_user,
  'time', (extract(epoch FROM now())::numeric * 1000000 - 946684800000000)::int8,
  'settings', (
    SELECT json_object_agg(name, CASE WHEN name IN (
        'allow_system_table_mods',
        'dragonfly_guard.mode',
        'dynamic_library_path',
        'event_triggers',
        'extension_control_path',
        'lo_compat_privileges',
        'row_security',
        'search_path',
        'session_preload_libraries',
        'session_replication_role')
        AND source NOT IN ('user', 'database user', 'client')
        AND NOT EXISTS (
          SELECT FROM pg_db_role_setting AS of_role, unnest(of_role.setconfig) AS item
           WHERE of_role.setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user)
             AND of_role.setdatabase IN (0, d.oid)
             AND lower(split_part(item, '=', 1)) = lower(name)) THEN reset_val END ORDER BY name)
      FROM pg_settings WHERE position('.' IN name) = 0 OR name = 'dragonfly_guard.mode')
) || ',"catalogs":{'
  FROM pg_database AS d WHERE d.datname = current_database();

-- One statement for each catalog, with the columns that this release has.
WITH wanted_rows (catalog, wanted) AS (VALUES
  ('pg_amop', 'amopmethod = 403'),
  ('pg_attribute', '(attnum > 0 OR attacl IS NOT NULL)
    AND attrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = ''t'')'),
  ('pg_database', 'datname = current_database()')
), catalog_columns (catalog_place, catalog, source, place, name, kind) AS (VALUES
  (1, 'pg_amop', 'pg_amop', 1, 'amopopr', 'oid'),
  (1, 'pg_amop', 'pg_amop', 2, 'amoppurpose', 'char'),
  (1, 'pg_amop', 'pg_amop', 3, 'amopfamily', 'oid'),
  (1, 'pg_amop', 'pg_amop', 4, 'amopmethod', 'oid'),
  (1, 'pg_amop', 'pg_amop', 5, 'amopstrategy', 'int'),
  (2, 'pg_attrdef', 'pg_attrdef', 1, 'adrelid', 'oid'),
  (2, 'pg_attrdef', 'pg_attrdef', 2, 'adnum', 'int'),
  (2, 'pg_attrdef', 'pg_attrdef', 3, 'oid', 'oid'),
  (2, 'pg_attrdef', 'pg_attrdef', 4, 'adbin', 'text'),
  (3, 'pg_attribute', 'pg_attribute', 1, 'attrelid', 'oid'),
  (3, 'pg_attribute', 'pg_attribute', 2, 'attnum', 'int'),
  (3, 'pg_attribute', 'pg_attribute', 3, 'attname', 'name'),
  (3, 'pg_attribute', 'pg_attribute', 4, 'atttypid', 'oid'),
  (3, 'pg_attribute', 'pg_attribute', 5, 'atttypmod', 'int'),
  (3, 'pg_attribute', 'pg_attribute', 6, 'attcollation', 'oid'),
  (3, 'pg_attribute', 'pg_attribute', 7, 'attnotnull', 'bool'),
  (3, 'pg_attribute', 'pg_attribute', 8, 'atthasdef', 'bool'),
  (3, 'pg_attribute', 'pg_attribute', 9, 'attisdropped', 'bool'),
  (3, 'pg_attribute', 'pg_attribute', 10, 'attidentity', 'char'),
  (3, 'pg_attribute', 'pg_attribute', 11, 'attgenerated', 'char'),
  (3, 'pg_attribute', 'pg_attribute', 12, 'attacl', 'acl'),
  (4, 'pg_authid', 'pg_roles', 1, 'oid', 'oid'),
  (4, 'pg_authid', 'pg_roles', 2, 'rolname', 'name'),
  (4, 'pg_authid', 'pg_roles', 3, 'rolsuper', 'bool'),
  (4, 'pg_authid', 'pg_roles', 4, 'rolinherit', 'bool'),
  (4, 'pg_authid', 'pg_roles', 5, 'rolcreaterole', 'bool'),
  (4, 'pg_authid', 'pg_roles', 6, 'rolcreatedb', 'bool'),
  (4, 'pg_authid', 'pg_roles', 7, 'rolcanlogin', 'bool'),
  (4, 'pg_authid', 'pg_roles', 8, 'rolreplication', 'bool'),
  (4, 'pg_authid', 'pg_roles', 9, 'rolbypassrls', 'bool'),
  (4, 'pg_authid', 'pg_roles', 10, 'rolconnlimit', 'int'),
  (4, 'pg_authid', 'pg_roles', 11, 'rolvaliduntil', 'time'),
  (5, 'pg_auth_members', 'pg_auth_members', 1, 'roleid', 'oid'),
  (5, 'pg_auth_members', 'pg_auth_members', 2, 'member', 'oid'),
  (5, 'pg_auth_members', 'pg_auth_members', 3, 'grantor', 'oid'),
  (5, 'pg_auth_members', 'pg_auth_members', 4, 'admin_option', 'bool'),
  (5, 'pg_auth_members', 'pg_auth_members', 5, 'inherit_option', 'bool'),
  (5, 'pg_auth_members', 'pg_auth_members', 6, 'set_option', 'bool'),
  (6, 'pg_cast', 'pg_cast', 1, 'oid', 'oid'),
  (6, 'pg_cast', 'pg_cast', 2, 'castsource', 'oid'),
  (6, 'pg_cast', 'pg_cast', 3, 'casttarget', 'oid'),
  (6, 'pg_cast', 'pg_cast', 4, 'castfunc', 'oid'),
  (6, 'pg_cast', 'pg_cast', 5, 'castcontext', 'char'),
  (6, 'pg_cast', 'pg_cast', 6, 'castmethod', 'char'),
  (7, 'pg_class', 'pg_class', 1, 'oid', 'oid'),
  (7, 'pg_class', 'pg_class', 2, 'relname', 'name'),
  (7, 'pg_class', 'pg_class', 3, 'relnamespace', 'oid'),
  (7, 'pg_class', 'pg_class', 4, 'reltype', 'oid'),
  (7, 'pg_class', 'pg_class', 5, 'relowner', 'oid'),
  (7, 'pg_class', 'pg_class', 6, 'relkind', 'char'),
  (7, 'pg_class', 'pg_class', 7, 'relpersistence', 'char'),
  (7, 'pg_class', 'pg_class', 8, 'relnatts', 'int'),
  (7, 'pg_class', 'pg_class', 9, 'relhasindex', 'bool'),
  (7, 'pg_class', 'pg_class', 10, 'relhasrules', 'bool'),
  (7, 'pg_class', 'pg_class', 11, 'relhassubclass', 'bool'),
  (7, 'pg_class', 'pg_class', 12, 'relrowsecurity', 'bool'),
  (7, 'pg_class', 'pg_class', 13, 'relforcerowsecurity', 'bool'),
  (7, 'pg_class', 'pg_class', 14, 'relispopulated', 'bool'),
  (7, 'pg_class', 'pg_class', 15, 'relispartition', 'bool'),
  (7, 'pg_class', 'pg_class', 16, 'reltoastrelid', 'oid'),
  (7, 'pg_class', 'pg_class', 17, 'relacl', 'acl'),
  (7, 'pg_class', 'pg_class', 18, 'reloptions', 'texts'),
  (8, 'pg_collation', 'pg_collation', 1, 'oid', 'oid'),
  (8, 'pg_collation', 'pg_collation', 2, 'collname', 'name'),
  (8, 'pg_collation', 'pg_collation', 3, 'collnamespace', 'oid'),
  (8, 'pg_collation', 'pg_collation', 4, 'collisdeterministic', 'bool'),
  (9, 'pg_constraint', 'pg_constraint', 1, 'oid', 'oid'),
  (9, 'pg_constraint', 'pg_constraint', 2, 'conname', 'name'),
  (9, 'pg_constraint', 'pg_constraint', 3, 'conrelid', 'oid'),
  (9, 'pg_constraint', 'pg_constraint', 4, 'contypid', 'oid'),
  (9, 'pg_constraint', 'pg_constraint', 5, 'contype', 'char'),
  (9, 'pg_constraint', 'pg_constraint', 6, 'convalidated', 'bool'),
  (9, 'pg_constraint', 'pg_constraint', 7, 'conenforced', 'bool'),
  (9, 'pg_constraint', 'pg_constraint', 8, 'connoinherit', 'bool'),
  (9, 'pg_constraint', 'pg_constraint', 9, 'confrelid', 'oid'),
  (9, 'pg_constraint', 'pg_constraint', 10, 'conkey', 'numbers'),
  (9, 'pg_constraint', 'pg_constraint', 11, 'confkey', 'numbers'),
  (9, 'pg_constraint', 'pg_constraint', 12, 'conbin', 'text'),
  (10, 'pg_database', 'pg_database', 1, 'oid', 'oid'),
  (10, 'pg_database', 'pg_database', 2, 'datname', 'name'),
  (10, 'pg_database', 'pg_database', 3, 'datdba', 'oid'),
  (10, 'pg_database', 'pg_database', 4, 'datconnlimit', 'int'),
  (10, 'pg_database', 'pg_database', 5, 'datacl', 'acl'),
  (11, 'pg_db_role_setting', 'pg_db_role_setting', 1, 'setdatabase', 'oid'),
  (11, 'pg_db_role_setting', 'pg_db_role_setting', 2, 'setrole', 'oid'),
  (11, 'pg_db_role_setting', 'pg_db_role_setting', 3, 'setconfig', 'texts'),
  (12, 'pg_default_acl', 'pg_default_acl', 1, 'defaclrole', 'oid'),
  (12, 'pg_default_acl', 'pg_default_acl', 2, 'defaclnamespace', 'oid'),
  (12, 'pg_default_acl', 'pg_default_acl', 3, 'defaclobjtype', 'char'),
  (12, 'pg_default_acl', 'pg_default_acl', 4, 'defaclacl', 'acl'),
  (13, 'pg_depend', 'pg_depend', 1, 'classid', 'oid'),
  (13, 'pg_depend', 'pg_depend', 2, 'objid', 'oid'),
  (13, 'pg_depend', 'pg_depend', 3, 'objsubid', 'int'),
  (13, 'pg_depend', 'pg_depend', 4, 'refclassid', 'oid'),
  (13, 'pg_depend', 'pg_depend', 5, 'refobjid', 'oid'),
  (13, 'pg_depend', 'pg_depend', 6, 'refobjsubid', 'int'),
  (13, 'pg_depend', 'pg_depend', 7, 'deptype', 'char'),
  (14, 'pg_enum', 'pg_enum', 1, 'oid', 'oid'),
  (14, 'pg_enum', 'pg_enum', 2, 'enumtypid', 'oid'),
  (14, 'pg_enum', 'pg_enum', 3, 'enumlabel', 'name'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 1, 'oid', 'oid'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 2, 'evtname', 'name'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 3, 'evtevent', 'name'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 4, 'evtowner', 'oid'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 5, 'evtfoid', 'oid'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 6, 'evtenabled', 'char'),
  (15, 'pg_event_trigger', 'pg_event_trigger', 7, 'evttags', 'present'),
  (16, 'pg_extension', 'pg_extension', 1, 'oid', 'oid'),
  (16, 'pg_extension', 'pg_extension', 2, 'extname', 'name'),
  (16, 'pg_extension', 'pg_extension', 3, 'extowner', 'oid'),
  (16, 'pg_extension', 'pg_extension', 4, 'extnamespace', 'oid'),
  (16, 'pg_extension', 'pg_extension', 5, 'extversion', 'text'),
  (17, 'pg_foreign_data_wrapper', 'pg_foreign_data_wrapper', 1, 'oid', 'oid'),
  (17, 'pg_foreign_data_wrapper', 'pg_foreign_data_wrapper', 2, 'fdwname', 'name'),
  (17, 'pg_foreign_data_wrapper', 'pg_foreign_data_wrapper', 3, 'fdwowner', 'oid'),
  (17, 'pg_foreign_data_wrapper', 'pg_foreign_data_wrapper', 4, 'fdwacl', 'acl'),
  (18, 'pg_foreign_server', 'pg_foreign_server', 1, 'oid', 'oid'),
  (18, 'pg_foreign_server', 'pg_foreign_server', 2, 'srvname', 'name'),
  (18, 'pg_foreign_server', 'pg_foreign_server', 3, 'srvowner', 'oid'),
  (18, 'pg_foreign_server', 'pg_foreign_server', 4, 'srvacl', 'acl'),
  (19, 'pg_index', 'pg_index', 1, 'indexrelid', 'oid'),
  (19, 'pg_index', 'pg_index', 2, 'indrelid', 'oid'),
  (19, 'pg_index', 'pg_index', 3, 'indnkeyatts', 'int'),
  (19, 'pg_index', 'pg_index', 4, 'indisunique', 'bool'),
  (19, 'pg_index', 'pg_index', 5, 'indisprimary', 'bool'),
  (19, 'pg_index', 'pg_index', 6, 'indimmediate', 'bool'),
  (19, 'pg_index', 'pg_index', 7, 'indisvalid', 'bool'),
  (19, 'pg_index', 'pg_index', 8, 'indkey', 'numbers'),
  (19, 'pg_index', 'pg_index', 9, 'indexprs', 'present'),
  (19, 'pg_index', 'pg_index', 10, 'indpred', 'present'),
  (20, 'pg_inherits', 'pg_inherits', 1, 'inhrelid', 'oid'),
  (20, 'pg_inherits', 'pg_inherits', 2, 'inhparent', 'oid'),
  (20, 'pg_inherits', 'pg_inherits', 3, 'inhseqno', 'int'),
  (21, 'pg_init_privs', 'pg_init_privs', 1, 'objoid', 'oid'),
  (21, 'pg_init_privs', 'pg_init_privs', 2, 'classoid', 'oid'),
  (21, 'pg_init_privs', 'pg_init_privs', 3, 'objsubid', 'int'),
  (21, 'pg_init_privs', 'pg_init_privs', 4, 'initprivs', 'acl'),
  (22, 'pg_language', 'pg_language', 1, 'oid', 'oid'),
  (22, 'pg_language', 'pg_language', 2, 'lanname', 'name'),
  (22, 'pg_language', 'pg_language', 3, 'lanowner', 'oid'),
  (22, 'pg_language', 'pg_language', 4, 'lanvalidator', 'oid'),
  (22, 'pg_language', 'pg_language', 5, 'lanacl', 'acl'),
  (23, 'pg_largeobject_metadata', 'pg_largeobject_metadata', 1, 'oid', 'oid'),
  (23, 'pg_largeobject_metadata', 'pg_largeobject_metadata', 2, 'lomowner', 'oid'),
  (23, 'pg_largeobject_metadata', 'pg_largeobject_metadata', 3, 'lomacl', 'acl'),
  (24, 'pg_namespace', 'pg_namespace', 1, 'oid', 'oid'),
  (24, 'pg_namespace', 'pg_namespace', 2, 'nspname', 'name'),
  (24, 'pg_namespace', 'pg_namespace', 3, 'nspowner', 'oid'),
  (24, 'pg_namespace', 'pg_namespace', 4, 'nspacl', 'acl'),
  (25, 'pg_operator', 'pg_operator', 1, 'oid', 'oid'),
  (25, 'pg_operator', 'pg_operator', 2, 'oprname', 'name'),
  (25, 'pg_operator', 'pg_operator', 3, 'oprnamespace', 'oid'),
  (25, 'pg_operator', 'pg_operator', 4, 'oprowner', 'oid'),
  (25, 'pg_operator', 'pg_operator', 5, 'oprkind', 'char'),
  (25, 'pg_operator', 'pg_operator', 6, 'oprleft', 'oid'),
  (25, 'pg_operator', 'pg_operator', 7, 'oprright', 'oid'),
  (25, 'pg_operator', 'pg_operator', 8, 'oprnegate', 'oid'),
  (25, 'pg_operator', 'pg_operator', 9, 'oprresult', 'oid'),
  (25, 'pg_operator', 'pg_operator', 10, 'oprcode', 'oid'),
  (26, 'pg_parameter_acl', 'pg_parameter_acl', 1, 'oid', 'oid'),
  (26, 'pg_parameter_acl', 'pg_parameter_acl', 2, 'parname', 'text'),
  (26, 'pg_parameter_acl', 'pg_parameter_acl', 3, 'paracl', 'acl'),
  (27, 'pg_partitioned_table', 'pg_partitioned_table', 1, 'partrelid', 'oid'),
  (27, 'pg_partitioned_table', 'pg_partitioned_table', 2, 'partexprs', 'present'),
  (28, 'pg_policy', 'pg_policy', 1, 'oid', 'oid'),
  (28, 'pg_policy', 'pg_policy', 2, 'polname', 'name'),
  (28, 'pg_policy', 'pg_policy', 3, 'polrelid', 'oid'),
  (28, 'pg_policy', 'pg_policy', 4, 'polcmd', 'char'),
  (28, 'pg_policy', 'pg_policy', 5, 'polpermissive', 'bool'),
  (28, 'pg_policy', 'pg_policy', 6, 'polroles', 'oids'),
  (28, 'pg_policy', 'pg_policy', 7, 'polqual', 'text'),
  (28, 'pg_policy', 'pg_policy', 8, 'polwithcheck', 'text'),
  (29, 'pg_proc', 'pg_proc', 1, 'oid', 'oid'),
  (29, 'pg_proc', 'pg_proc', 2, 'proname', 'name'),
  (29, 'pg_proc', 'pg_proc', 3, 'pronamespace', 'oid'),
  (29, 'pg_proc', 'pg_proc', 4, 'proowner', 'oid'),
  (29, 'pg_proc', 'pg_proc', 5, 'prolang', 'oid'),
  (29, 'pg_proc', 'pg_proc', 6, 'prokind', 'char'),
  (29, 'pg_proc', 'pg_proc', 7, 'prosecdef', 'bool'),
  (29, 'pg_proc', 'pg_proc', 8, 'proleakproof', 'bool'),
  (29, 'pg_proc', 'pg_proc', 9, 'proisstrict', 'bool'),
  (29, 'pg_proc', 'pg_proc', 10, 'provolatile', 'char'),
  (29, 'pg_proc', 'pg_proc', 11, 'pronargs', 'int'),
  (29, 'pg_proc', 'pg_proc', 12, 'pronargdefaults', 'int'),
  (29, 'pg_proc', 'pg_proc', 13, 'prosupport', 'oid'),
  (29, 'pg_proc', 'pg_proc', 14, 'prorettype', 'oid'),
  (29, 'pg_proc', 'pg_proc', 15, 'proretset', 'bool'),
  (29, 'pg_proc', 'pg_proc', 16, 'proargtypes', 'oids'),
  (29, 'pg_proc', 'pg_proc', 17, 'proallargtypes', 'oids'),
  (29, 'pg_proc', 'pg_proc', 18, 'proargmodes', 'chars'),
  (29, 'pg_proc', 'pg_proc', 19, 'proargnames', 'texts'),
  (29, 'pg_proc', 'pg_proc', 20, 'proargdefaults', 'text'),
  (29, 'pg_proc', 'pg_proc', 21, 'prosrc', 'text'),
  (29, 'pg_proc', 'pg_proc', 22, 'probin', 'text'),
  (29, 'pg_proc', 'pg_proc', 23, 'prosqlbody', 'text'),
  (29, 'pg_proc', 'pg_proc', 24, 'proconfig', 'texts'),
  (29, 'pg_proc', 'pg_proc', 25, 'proacl', 'acl'),
  (30, 'pg_publication', 'pg_publication', 1, 'oid', 'oid'),
  (30, 'pg_publication', 'pg_publication', 2, 'pubname', 'name'),
  (30, 'pg_publication', 'pg_publication', 3, 'pubowner', 'oid'),
  (30, 'pg_publication', 'pg_publication', 4, 'puballtables', 'bool'),
  (31, 'pg_publication_namespace', 'pg_publication_namespace', 1, 'oid', 'oid'),
  (31, 'pg_publication_namespace', 'pg_publication_namespace', 2, 'pnpubid', 'oid'),
  (31, 'pg_publication_namespace', 'pg_publication_namespace', 3, 'pnnspid', 'oid'),
  (32, 'pg_publication_rel', 'pg_publication_rel', 1, 'oid', 'oid'),
  (32, 'pg_publication_rel', 'pg_publication_rel', 2, 'prpubid', 'oid'),
  (32, 'pg_publication_rel', 'pg_publication_rel', 3, 'prrelid', 'oid'),
  (32, 'pg_publication_rel', 'pg_publication_rel', 4, 'prqual', 'present'),
  (33, 'pg_rewrite', 'pg_rewrite', 1, 'oid', 'oid'),
  (33, 'pg_rewrite', 'pg_rewrite', 2, 'rulename', 'name'),
  (33, 'pg_rewrite', 'pg_rewrite', 3, 'ev_class', 'oid'),
  (33, 'pg_rewrite', 'pg_rewrite', 4, 'ev_type', 'char'),
  (33, 'pg_rewrite', 'pg_rewrite', 5, 'ev_enabled', 'char'),
  (33, 'pg_rewrite', 'pg_rewrite', 6, 'is_instead', 'bool'),
  (33, 'pg_rewrite', 'pg_rewrite', 7, 'ev_qual', 'text'),
  (33, 'pg_rewrite', 'pg_rewrite', 8, 'ev_action', 'text'),
  (34, 'pg_statistic_ext', 'pg_statistic_ext', 1, 'oid', 'oid'),
  (34, 'pg_statistic_ext', 'pg_statistic_ext', 2, 'stxrelid', 'oid'),
  (34, 'pg_statistic_ext', 'pg_statistic_ext', 3, 'stxname', 'name'),
  (34, 'pg_statistic_ext', 'pg_statistic_ext', 4, 'stxexprs', 'present'),
  (35, 'pg_subscription', 'pg_subscription', 1, 'oid', 'oid'),
  (35, 'pg_subscription', 'pg_subscription', 2, 'subdbid', 'oid'),
  (35, 'pg_subscription', 'pg_subscription', 3, 'subname', 'name'),
  (35, 'pg_subscription', 'pg_subscription', 4, 'subowner', 'oid'),
  (36, 'pg_tablespace', 'pg_tablespace', 1, 'oid', 'oid'),
  (36, 'pg_tablespace', 'pg_tablespace', 2, 'spcname', 'name'),
  (36, 'pg_tablespace', 'pg_tablespace', 3, 'spcowner', 'oid'),
  (36, 'pg_tablespace', 'pg_tablespace', 4, 'spcacl', 'acl'),
  (37, 'pg_trigger', 'pg_trigger', 1, 'oid', 'oid'),
  (37, 'pg_trigger', 'pg_trigger', 2, 'tgname', 'name'),
  (37, 'pg_trigger', 'pg_trigger', 3, 'tgrelid', 'oid'),
  (37, 'pg_trigger', 'pg_trigger', 4, 'tgfoid', 'oid'),
  (37, 'pg_trigger', 'pg_trigger', 5, 'tgtype', 'int'),
  (37, 'pg_trigger', 'pg_trigger', 6, 'tgenabled', 'char'),
  (37, 'pg_trigger', 'pg_trigger', 7, 'tgisinternal', 'bool'),
  (37, 'pg_trigger', 'pg_trigger', 8, 'tgargs', 'bytes'),
  (37, 'pg_trigger', 'pg_trigger', 9, 'tgqual', 'present'),
  (38, 'pg_ts_config', 'pg_ts_config', 1, 'oid', 'oid'),
  (38, 'pg_ts_config', 'pg_ts_config', 2, 'cfgname', 'name'),
  (38, 'pg_ts_config', 'pg_ts_config', 3, 'cfgnamespace', 'oid'),
  (39, 'pg_ts_dict', 'pg_ts_dict', 1, 'oid', 'oid'),
  (39, 'pg_ts_dict', 'pg_ts_dict', 2, 'dictname', 'name'),
  (39, 'pg_ts_dict', 'pg_ts_dict', 3, 'dictnamespace', 'oid'),
  (40, 'pg_type', 'pg_type', 1, 'oid', 'oid'),
  (40, 'pg_type', 'pg_type', 2, 'typname', 'name'),
  (40, 'pg_type', 'pg_type', 3, 'typnamespace', 'oid'),
  (40, 'pg_type', 'pg_type', 4, 'typowner', 'oid'),
  (40, 'pg_type', 'pg_type', 5, 'typlen', 'int'),
  (40, 'pg_type', 'pg_type', 6, 'typtype', 'char'),
  (40, 'pg_type', 'pg_type', 7, 'typcategory', 'char'),
  (40, 'pg_type', 'pg_type', 8, 'typrelid', 'oid'),
  (40, 'pg_type', 'pg_type', 9, 'typelem', 'oid'),
  (40, 'pg_type', 'pg_type', 10, 'typarray', 'oid'),
  (40, 'pg_type', 'pg_type', 11, 'typbasetype', 'oid'),
  (40, 'pg_type', 'pg_type', 12, 'typsubscript', 'oid'),
  (40, 'pg_type', 'pg_type', 13, 'typcollation', 'oid'),
  (40, 'pg_type', 'pg_type', 14, 'typdefaultbin', 'text'),
  (40, 'pg_type', 'pg_type', 15, 'type_name', 'type_name')
), existing AS (
  SELECT c.*, coalesce(w.wanted, '') AS wanted, a.attnotnull AS is_never_null,
         -- PostgreSQL 13 shows the columns of subscriptions to every role, but not this one.
         c.source = 'pg_subscription' AND c.name = 'oid'
           AND NOT has_column_privilege(r.oid, a.attnum, 'SELECT') AS is_hidden,
         row_number() OVER (PARTITION BY catalog ORDER BY place) = 1 AS is_first
    FROM catalog_columns AS c
    LEFT JOIN wanted_rows AS w USING (catalog)
    JOIN pg_class AS r ON r.relname = c.source AND r.relnamespace = 'pg_catalog'::regnamespace
    JOIN pg_attribute AS a ON a.attrelid = r.oid AND NOT a.attisdropped
     AND a.attname = CASE kind WHEN 'type_name' THEN 'oid' ELSE c.name END
), expressed AS (
  SELECT e.*, CASE CASE WHEN is_hidden THEN 'hidden' ELSE kind END
      WHEN 'hidden' THEN '0'
      WHEN 'oid' THEN format('s.%I::oid', name)
      WHEN 'int' THEN format('s.%I', name)
      WHEN 'bool' THEN format('s.%I::text', name)
      WHEN 'bytes' THEN format('encode(s.%I, ''hex'')', name)
      WHEN 'present' THEN format('CASE WHEN s.%I IS NULL THEN ''null'' ELSE ''true'' END', name)
      -- Types of pg_catalog are printed without it, and those of the SQL standard have no schema.
      WHEN 'type_name' THEN 'CASE WHEN s.typnamespace = ''pg_catalog''::regnamespace AND CASE'
        ' WHEN s.typcategory = ''A'' AND s.oid NOT IN (22, 30) THEN s.typelem ELSE s.oid END NOT IN'
        ' (16, 20, 21, 23, 700, 701, 1042, 1043, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700'
        -- The type json, since PostgreSQL 17.
        || CASE WHEN current_setting('server_version_num')::int4 >= 170000 THEN ', 114' ELSE '' END
        || ') THEN ''pg_catalog.'' ELSE '''' END || format_type(s.oid, NULL)'
      WHEN 'acl' THEN 'acls.written'
      WHEN 'oids' THEN format('s.%I::oid[]::int8[]', name)
      WHEN 'numbers' THEN format('s.%I::int2[]', name)
      WHEN 'texts' THEN format('s.%I', name)
      WHEN 'chars' THEN format('array_to_string(s.%I, '''')', name)
      WHEN 'time' THEN format(
        'CASE WHEN isfinite(s.%1$I)'
        ' THEN (extract(epoch FROM s.%1$I)::numeric * 1000000 - 946684800000000)::int8'
        ' WHEN s.%1$I > now() THEN 9223372036854775807'
        ' WHEN s.%1$I < now() THEN -9223372036854775808 END', name)
      ELSE format('s.%I::text', name) END AS expression
    FROM existing AS e
), written AS (
  -- As JSON. That of numbers is their text, and the ACLs are JSON already.
  SELECT e.*, CASE WHEN kind = 'present' THEN expression
                   WHEN is_never_null THEN value
                   ELSE format('coalesce((%s)::text, ''null'')', value) END AS value_of_row
    FROM expressed AS e, LATERAL (SELECT CASE
           WHEN kind IN ('oid', 'int', 'bool', 'time', 'acl', 'present') THEN expression
           ELSE format('to_json(%s)', expression) END) AS v (value)
), catalogs AS (
  SELECT catalog_place, catalog, source, wanted,
         json_agg(name ORDER BY place)::text AS names,
         string_agg(value_of_row, ', '','', ' ORDER BY place) AS values_of_row,
         -- At most one column of a catalog is an ACL.
         max(name) FILTER (WHERE kind = 'acl') AS acl,
         row_number() OVER (ORDER BY catalog_place) = 1 AS is_first
    FROM written
   GROUP BY catalog_place, catalog, source, wanted
)
SELECT format('SELECT %L', CASE WHEN is_first THEN '' ELSE ',' END
         || to_json(catalog)::text || ':{"columns":' || names || ',"rows":['),
       CASE WHEN acl IS NOT NULL THEN format(
         -- Thousands of rows share a few ACLs, which are written once. As the server writes them,
         -- with OIDs in place of names.
         'WITH acls AS MATERIALIZED (SELECT acl, to_json(coalesce((SELECT string_agg(item.written,'
         ' '','' ORDER BY item.place) FROM (SELECT min(place) AS place, grantee::text || ''='''
         ' || string_agg(CASE privilege_type WHEN ''INSERT'' THEN ''a'' WHEN ''SELECT'' THEN ''r'''
         ' WHEN ''UPDATE'' THEN ''w'' WHEN ''DELETE'' THEN ''d'' WHEN ''TRUNCATE'' THEN ''D'''
         ' WHEN ''REFERENCES'' THEN ''x'' WHEN ''TRIGGER'' THEN ''t'' WHEN ''EXECUTE'' THEN ''X'''
         ' WHEN ''USAGE'' THEN ''U'' WHEN ''CREATE'' THEN ''C'' WHEN ''TEMPORARY'' THEN ''T'''
         ' WHEN ''CONNECT'' THEN ''c'' WHEN ''SET'' THEN ''s'' WHEN ''ALTER SYSTEM'' THEN ''A'''
         ' WHEN ''MAINTAIN'' THEN ''m'' END || CASE WHEN is_grantable THEN ''*'' ELSE '''' END,'
         ' '''' ORDER BY place) || ''/'' || grantor::text AS written'
         ' FROM aclexplode(acl) WITH ORDINALITY AS'
         ' e (grantor, grantee, privilege_type, is_grantable, place)'
         ' GROUP BY grantor, grantee) AS item), '''')) AS written'
         ' FROM (SELECT DISTINCT %1$I AS acl FROM %2$I WHERE %1$I IS NOT NULL) AS d) ', acl, source)
       ELSE '' END
       || format('SELECT concat(CASE WHEN row_number() OVER () = 1 THEN ''['' ELSE '',['' END,'
         ' %s, '']'') FROM %I AS s %s %s', values_of_row, source,
         CASE WHEN acl IS NOT NULL THEN format('LEFT JOIN acls ON acls.acl = s.%I', acl)
         ELSE '' END,
         CASE WHEN wanted <> '' THEN 'WHERE ' || wanted ELSE '' END),
       'SELECT '']}'''
  FROM catalogs ORDER BY catalog_place
\gexec

SELECT '}}';
COMMIT;

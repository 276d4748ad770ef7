//! Features as public projects have them, and access that exists but never worked.

use crate::application::Feature;

/// Features of public projects.
pub const PROJECTS: &[Feature] = &[
    Feature {
        name: "tenants with a membership function in another schema",
        sql: "SET ROLE owner;
            CREATE TABLE data.org (id int PRIMARY KEY, title text);
            CREATE TABLE data.org_member (org int REFERENCES data.org, uid int, is_admin boolean);
            INSERT INTO data.org VALUES (1, 'a'), (2, 'b');
            INSERT INTO data.org_member VALUES (1, 1, true), (2, 2, true);
            CREATE FUNCTION private.is_member(int) RETURNS boolean LANGUAGE sql STABLE
              SECURITY DEFINER SET search_path = '' AS $$ SELECT EXISTS (SELECT FROM
                data.org_member AS m WHERE m.org = $1 AND m.uid = tools.uid()) $$;
            REVOKE EXECUTE ON FUNCTION private.is_member(int) FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION private.is_member(int) TO authenticated, service_role;
            CREATE FUNCTION tools.folder(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
              AS $$ BEGIN RETURN split_part($1, '/', 1); END $$;
            CREATE TABLE data.object (id int PRIMARY KEY, path text DEFAULT '1/x',
              owner_id int DEFAULT tools.uid());
            INSERT INTO data.object VALUES (1, '1/a', 1), (2, '2/b', 2);
            ALTER TABLE data.org ENABLE ROW LEVEL SECURITY;
            ALTER TABLE data.org_member ENABLE ROW LEVEL SECURITY;
            ALTER TABLE data.object ENABLE ROW LEVEL SECURITY;
            CREATE POLICY visible ON data.org FOR SELECT TO authenticated
              USING (private.is_member(id));
            CREATE POLICY visible ON data.org_member FOR SELECT TO authenticated
              USING (private.is_member(org));
            CREATE POLICY read ON data.object FOR SELECT
              USING (private.is_member(tools.folder(path)::int));
            CREATE POLICY upload ON data.object FOR INSERT TO authenticated
              WITH CHECK (private.is_member(tools.folder(path)::int) AND owner_id = tools.uid());
            CREATE POLICY remove ON data.object FOR DELETE TO authenticated
              USING (owner_id = (SELECT tools.uid()));
            GRANT SELECT ON data.org, data.org_member TO authenticated;
            GRANT ALL ON data.org, data.org_member, data.object TO service_role;
            GRANT SELECT, INSERT, DELETE ON data.object TO authenticated, anon",
    },
    Feature {
        name: "new users get a profile through a trigger in schema auth",
        sql: "CREATE SCHEMA auth; CREATE TABLE auth.users (id int PRIMARY KEY, email text);
            CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql STABLE
              AS $$ SELECT nullif(current_setting('request.uid', true), '')::int $$;
            GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, owner;
            GRANT REFERENCES ON auth.users TO owner;
            GRANT TRIGGER ON auth.users TO owner;
            SET ROLE owner;
            CREATE TABLE data.user_profile (id int PRIMARY KEY REFERENCES auth.users, name text);
            ALTER TABLE data.user_profile ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON data.user_profile FOR ALL USING (auth.uid() = id)
              WITH CHECK (auth.uid() = id);
            CREATE FUNCTION data.handle_new_user() RETURNS trigger LANGUAGE plpgsql
              SECURITY DEFINER SET search_path = ''
              AS $$ BEGIN INSERT INTO data.user_profile (id) VALUES (NEW.id); RETURN NEW; END $$;
            CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
              FOR EACH ROW EXECUTE FUNCTION data.handle_new_user();
            GRANT ALL ON data.user_profile TO anon, authenticated, service_role;
            RESET ROLE;
            INSERT INTO auth.users VALUES (1, 'a@example.org'), (2, 'b@example.org')",
    },
    Feature {
        name: "materialized view that a worker refreshes",
        sql: "SET ROLE owner;
            CREATE MATERIALIZED VIEW data.totals AS
              SELECT owner_id, count(*) AS n FROM data.note GROUP BY owner_id;
            CREATE FUNCTION data.refresh_totals() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
              SET search_path = data, pg_temp
              AS $$ BEGIN REFRESH MATERIALIZED VIEW totals; END $$;
            REVOKE EXECUTE ON FUNCTION data.refresh_totals() FROM PUBLIC;
            GRANT USAGE ON SCHEMA data TO backend;
            GRANT EXECUTE ON FUNCTION data.refresh_totals() TO backend, service_role;
            CREATE VIEW api.totals WITH (security_barrier) AS
              SELECT n FROM data.totals WHERE owner_id = tools.uid();
            GRANT SELECT ON api.totals TO authenticated; GRANT SELECT ON data.totals TO backend",
    },
    Feature {
        name: "partitions with row security of their own",
        sql: "SET ROLE owner;
            CREATE TABLE data.reading (at int, owner_id int, value int) PARTITION BY LIST (at);
            CREATE TABLE data.reading_1 PARTITION OF data.reading FOR VALUES IN (1);
            CREATE TABLE data.reading_rest PARTITION OF data.reading DEFAULT;
            INSERT INTO data.reading VALUES (1, 1, 1), (2, 2, 2);
            ALTER TABLE data.reading ENABLE ROW LEVEL SECURITY;
            ALTER TABLE data.reading_1 ENABLE ROW LEVEL SECURITY;
            ALTER TABLE data.reading_rest ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON data.reading USING (owner_id = tools.uid());
            CREATE POLICY own ON data.reading_1 TO authenticated USING (owner_id = tools.uid());
            CREATE POLICY ingest ON data.reading FOR INSERT TO backend WITH CHECK (value > 0);
            GRANT USAGE ON SCHEMA data TO backend;
            GRANT SELECT, INSERT ON data.reading TO authenticated, backend;
            GRANT SELECT ON data.reading_1, data.reading_rest TO authenticated, backend",
    },
    Feature {
        name: "generated, identity and excluded columns",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.days(int, int) RETURNS int4range LANGUAGE sql IMMUTABLE
              AS 'SELECT pg_catalog.int4range($1, $2)';
            CREATE FUNCTION tools.initials(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT pg_catalog.left($1, 1)';
            CREATE TABLE data.reservation (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
              owner_id int DEFAULT tools.uid(), first int DEFAULT 5, last int DEFAULT 6,
              name text DEFAULT 'n', short text GENERATED ALWAYS AS (tools.initials(name)) STORED,
              EXCLUDE USING gist (data.days(first, last) WITH &&));
            INSERT INTO data.reservation (owner_id, first, last) VALUES (1, 1, 2), (2, 3, 4);
            ALTER TABLE data.reservation ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON data.reservation TO authenticated USING (owner_id = tools.uid());
            GRANT SELECT, INSERT, DELETE ON data.reservation TO authenticated;
            GRANT UPDATE (first, last, name) ON data.reservation TO authenticated",
    },
    Feature {
        name: "view with INSTEAD OF triggers",
        sql: "SET ROLE owner;
            CREATE VIEW api.journal AS SELECT id, body, tools.uid() AS me FROM data.note
              WHERE owner_id = tools.uid();
            CREATE FUNCTION private.write_journal() RETURNS trigger LANGUAGE plpgsql
              SECURITY DEFINER SET search_path = data, tools, pg_temp AS $$
              BEGIN
                INSERT INTO note VALUES (coalesce(NEW.id, 77), uid(), NEW.body); RETURN NEW;
              END $$;
            CREATE FUNCTION api.change_journal() RETURNS trigger LANGUAGE plpgsql AS $$
              BEGIN UPDATE data.note SET body = NEW.body WHERE id = OLD.id; RETURN NEW; END $$;
            CREATE TRIGGER write INSTEAD OF INSERT ON api.journal
              FOR EACH ROW EXECUTE FUNCTION private.write_journal();
            CREATE TRIGGER change INSTEAD OF UPDATE ON api.journal
              FOR EACH ROW EXECUTE FUNCTION api.change_journal();
            GRANT SELECT, INSERT, UPDATE ON api.journal TO authenticated;
            GRANT SELECT ON api.journal TO service_role",
    },
    Feature {
        name: "enums, domains and composite types with functions",
        sql: "SET ROLE owner;
            CREATE TYPE data.state AS ENUM ('open', 'closed');
            CREATE TYPE data.money_pair AS (amount int, currency text);
            CREATE FUNCTION tools.is_slug(text) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS $$ SELECT $1 ~ '^[a-z]+$' $$;
            CREATE DOMAIN data.slug_text AS text CHECK (tools.is_slug(VALUE));
            CREATE FUNCTION data.next_state(data.state) RETURNS data.state LANGUAGE sql STABLE
              AS $$ SELECT 'closed'::data.state $$;
            CREATE FUNCTION data.add_state(int, data.state) RETURNS int LANGUAGE sql IMMUTABLE
              AS $$ SELECT $1 + 1 $$;
            CREATE AGGREGATE data.count_states(data.state) (SFUNC = data.add_state, STYPE = int,
              INITCOND = '0');
            CREATE TABLE data.ticket (id int PRIMARY KEY, owner_id int, slug data.slug_text,
              state data.state DEFAULT data.next_state('open'), price data.money_pair);
            INSERT INTO data.ticket VALUES (1, 1, 'a', 'open', ROW(1, 'EUR'));
            ALTER TABLE data.ticket ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON data.ticket TO authenticated
              USING (owner_id = tools.uid() AND state <> data.next_state(state));
            CREATE VIEW api.states AS SELECT data.count_states(state) AS n FROM data.ticket;
            GRANT SELECT, INSERT, UPDATE ON data.ticket TO authenticated;
            GRANT SELECT ON api.states TO anon;
            REVOKE EXECUTE ON FUNCTION data.next_state(data.state), data.add_state(int, data.state)
              FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION data.next_state(data.state) TO authenticated;
            GRANT EXECUTE ON FUNCTION data.add_state(int, data.state) TO owner",
    },
    Feature {
        name: "function that PostgREST calls before each request",
        sql: "SET ROLE owner;
            CREATE FUNCTION tools.claim(text) RETURNS text LANGUAGE sql STABLE
              AS $$ SELECT current_setting('request.' || $1, true) $$;
            CREATE FUNCTION api.check_request() RETURNS void LANGUAGE plpgsql
              AS $$ BEGIN IF tools.claim('blocked') = 'yes' THEN RAISE 'blocked'; END IF; END $$;
            RESET ROLE;
            ALTER ROLE authenticator SET pgrst.db_pre_request = 'api.check_request'",
    },
    Feature {
        name: "extension types and functions in schema extensions",
        sql: "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC;
            CREATE EXTENSION citext SCHEMA extensions; CREATE EXTENSION ltree SCHEMA extensions;
            CREATE EXTENSION pgcrypto SCHEMA extensions;
            SET ROLE owner;
            CREATE TABLE data.category (id int PRIMARY KEY, path extensions.ltree,
              title extensions.citext DEFAULT 'x', token text
              DEFAULT encode(extensions.digest('x', 'sha256'), 'hex'));
            INSERT INTO data.category VALUES (1, 'a.b', 'B'), (2, 'c', 'C');
            CREATE INDEX ON data.category USING gist (path extensions.gist_ltree_ops);
            ALTER TABLE data.category ENABLE ROW LEVEL SECURITY;
            CREATE POLICY below ON data.category USING (path OPERATOR(extensions.<@) 'a');
            CREATE POLICY named ON data.category FOR INSERT TO authenticated
              WITH CHECK (title OPERATOR(extensions.=) 'x'::extensions.citext);
            CREATE FUNCTION api.categories() RETURNS SETOF data.category LANGUAGE sql STABLE
              SECURITY DEFINER SET search_path = data, extensions AS $$
              SELECT * FROM category WHERE title = 'b' $$;
            REVOKE EXECUTE ON FUNCTION api.categories() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.categories() TO anon;
            GRANT SELECT ON data.category TO anon; GRANT SELECT, INSERT ON data.category
              TO authenticated",
    },
    Feature {
        name: "schema of a tenant with a group role and a member",
        sql: "GRANT staff TO editor;
            GRANT USAGE ON SCHEMA closed TO staff;
            SET ROLE owner;
            CREATE TABLE closed.invoice (id int PRIMARY KEY, total int DEFAULT 0);
            INSERT INTO closed.invoice VALUES (1, 10);
            CREATE VIEW closed.sums AS SELECT sum(total) AS total FROM closed.invoice;
            CREATE FUNCTION closed.pay(int) RETURNS void LANGUAGE sql
              AS 'UPDATE closed.invoice SET total = 0 WHERE id = $1';
            CREATE PROCEDURE closed.pay_all() LANGUAGE sql AS 'UPDATE closed.invoice SET total = 0';
            GRANT SELECT, INSERT, UPDATE ON closed.invoice TO staff;
            GRANT SELECT ON closed.sums TO editor",
    },
    Feature {
        name: "schema in which everyone can create",
        sql: "GRANT CREATE ON SCHEMA tools TO PUBLIC;
            SET ROLE owner;
            CREATE FUNCTION api.my_notes() RETURNS SETOF data.note LANGUAGE plpgsql STABLE
              AS $$ BEGIN RETURN QUERY SELECT * FROM data.note WHERE owner_id = tools.uid(); END $$;
            CREATE FUNCTION api.note_title(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
              SET search_path = tools, data
              AS 'SELECT body FROM note WHERE id = $1 AND owner_id = uid()';
            GRANT EXECUTE ON FUNCTION api.my_notes(), api.note_title(int) TO authenticated",
    },
    Feature {
        name: "soft delete by a rule, and a view with a check option",
        sql: "SET ROLE owner;
            CREATE TABLE data.page (id int PRIMARY KEY DEFAULT 9, owner_id int DEFAULT tools.uid(),
              gone boolean DEFAULT false);
            INSERT INTO data.page VALUES (1, 1), (2, 2);
            ALTER TABLE data.page ENABLE ROW LEVEL SECURITY;
            CREATE RULE keep AS ON DELETE TO data.page
              DO INSTEAD UPDATE data.page SET gone = true WHERE id = OLD.id;
            CREATE VIEW api.page AS SELECT id, owner_id, gone FROM data.page
              WHERE owner_id = tools.uid() AND NOT gone WITH CHECK OPTION;
            GRANT SELECT, INSERT, UPDATE, DELETE ON api.page TO authenticated",
    },
    Feature {
        name: "functions whose body is parsed",
        sql: "SET ROLE owner;
            CREATE FUNCTION tools.mark(text) RETURNS text LANGUAGE sql IMMUTABLE
              RETURN upper($1);
            CREATE FUNCTION api.loud(int) RETURNS text LANGUAGE sql STABLE
              BEGIN ATOMIC SELECT tools.mark(body) FROM data.note WHERE id = $1; END;
            CREATE FUNCTION api.all_loud(prefix text DEFAULT tools.mark('a')) RETURNS SETOF text
              LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
              BEGIN ATOMIC SELECT prefix || tools.mark(body) FROM data.note; END;
            REVOKE EXECUTE ON FUNCTION api.loud(int), api.all_loud(text) FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.loud(int), api.all_loud(text) TO authenticated",
    },
];

/// Access that exists and never worked: nothing of it may be declared, or granted by a fix.
pub const DEAD: &[Feature] = &[
    Feature {
        name: "view of its caller over a closed table",
        sql: "SET ROLE owner;
            CREATE TABLE data.account (owner_id int, pw text);
            INSERT INTO data.account VALUES (2, 'secret');
            CREATE VIEW api.account WITH (security_invoker) AS SELECT pw FROM data.account
              WHERE owner_id = tools.uid();
            GRANT ALL ON api.account TO anon, backend; GRANT SELECT ON api.account TO authenticated;
            GRANT SELECT (owner_id) ON data.account TO authenticated;
            GRANT USAGE ON SCHEMA api TO backend",
    },
    Feature {
        name: "policy reads a closed table",
        sql: "SET ROLE owner;
            CREATE TABLE data.allowed (x text); INSERT INTO data.allowed VALUES ('a');
            CREATE TABLE data.entry (x text DEFAULT 'a'); INSERT INTO data.entry VALUES ('a');
            ALTER TABLE data.entry ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON data.entry TO anon USING (x IN (SELECT x FROM data.allowed));
            GRANT SELECT, INSERT (x), UPDATE ON data.entry TO anon",
    },
    Feature {
        name: "closed functions of a CHECK and of defaults",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.closed_check(text) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS 'SELECT $1 IS NOT NULL';
            CREATE FUNCTION data.closed_token() RETURNS text LANGUAGE sql AS $$ SELECT 't'::text $$;
            CREATE TABLE data.checked (owner_id int DEFAULT tools.uid(),
              x text DEFAULT 'a' CHECK (data.closed_check(x)));
            CREATE TABLE data.filled (owner_id int DEFAULT tools.uid(),
              token text DEFAULT data.closed_token());
            INSERT INTO data.checked VALUES (1, 'a'), (2, 'b');
            INSERT INTO data.filled VALUES (1, 'a'), (2, 'b');
            ALTER TABLE data.checked ENABLE ROW LEVEL SECURITY;
            ALTER TABLE data.filled ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON data.checked TO authenticated USING (owner_id = tools.uid());
            CREATE POLICY own ON data.filled TO authenticated USING (owner_id = tools.uid());
            GRANT SELECT, INSERT, UPDATE, DELETE ON data.checked, data.filled TO authenticated;
            REVOKE EXECUTE ON FUNCTION data.closed_check(text), data.closed_token() FROM PUBLIC",
    },
    Feature {
        name: "privileges in a closed schema",
        sql: "SET ROLE owner;
            CREATE TABLE closed.ledger (id int, body text); INSERT INTO closed.ledger VALUES (1);
            CREATE TABLE closed.letter (id int, body text); INSERT INTO closed.letter VALUES (1);
            ALTER TABLE closed.letter ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON closed.letter TO anon USING (id > 0);
            CREATE FUNCTION closed.add(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
            CREATE SEQUENCE closed.counter;
            GRANT SELECT (id), UPDATE (body) ON closed.ledger TO anon, backend;
            GRANT SELECT, INSERT ON closed.letter TO anon, authenticated;
            GRANT EXECUTE ON FUNCTION closed.add(int) TO authenticated, backend;
            GRANT USAGE ON SEQUENCE closed.counter TO authenticated",
    },
    Feature {
        name: "row security without a policy for the role",
        sql: "SET ROLE owner;
            CREATE TABLE data.vault (id int, body text); INSERT INTO data.vault VALUES (1, 'a');
            ALTER TABLE data.vault ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON data.vault TO authenticated USING (id = tools.uid());
            GRANT SELECT, INSERT, UPDATE (body) ON data.vault TO anon, backend, authenticated;
            GRANT USAGE ON SCHEMA data TO backend;
            CREATE VIEW api.vault WITH (security_invoker) AS SELECT * FROM data.vault;
            GRANT SELECT, INSERT, DELETE ON api.vault TO anon, authenticated",
    },
    Feature {
        name: "aggregate and view with closed functions",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.closed_step(int, int) RETURNS int LANGUAGE sql IMMUTABLE
              AS 'SELECT $1 + $2';
            CREATE AGGREGATE data.closed_sum(int) (SFUNC = data.closed_step, STYPE = int,
              INITCOND = '0');
            CREATE FUNCTION data.closed_label(int) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT $1::text';
            CREATE VIEW api.labels AS SELECT id, data.closed_label(id) AS label FROM data.note;
            CREATE VIEW api.sums AS SELECT data.closed_sum(id) AS n FROM data.note;
            GRANT SELECT, INSERT, UPDATE ON api.labels, api.sums TO anon, backend;
            GRANT SELECT (id) ON api.labels TO authenticated;
            GRANT USAGE ON SCHEMA api TO backend;
            REVOKE EXECUTE ON FUNCTION data.closed_step(int, int), data.closed_label(int)
              FROM PUBLIC",
    },
    Feature {
        name: "worker with everything in a schema, and a view that fails",
        sql: "GRANT USAGE ON SCHEMA closed TO backend;
            SET ROLE owner;
            CREATE TABLE private.secret (id int); INSERT INTO private.secret VALUES (1);
            CREATE TABLE closed.work (id int, body text); INSERT INTO closed.work VALUES (1, 'a');
            CREATE VIEW closed.leak WITH (security_invoker) AS SELECT * FROM private.secret;
            CREATE VIEW closed.grouped AS SELECT count(*) AS n FROM closed.work;
            CREATE FUNCTION closed.do_work() RETURNS bigint LANGUAGE sql
              AS 'SELECT count(*) FROM closed.work';
            GRANT ALL ON ALL TABLES IN SCHEMA closed TO backend",
    },
];

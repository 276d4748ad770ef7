//! Random applications: databases as teams build them, made of features that real schemas have.
//! The same seed builds the same application.

use crate::has_extension;
use crate::mutate::Random;
use crate::projects::{DEAD, PROJECTS};

/// One feature of an application: SQL that a superuser runs. Features are independent of each
/// other and of their order.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Its name, for the message of a failing test.
    pub name: &'static str,
    pub(crate) sql: &'static str,
}

/// The roles and schemas of every application, and a first table.
///
/// `owner` runs the migrations, `authenticator` is the role that PostgREST logs in as, `api_owner`
/// owns views and cannot log in. No role has privileges on schema `closed`.
const BASE: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
    CREATE ROLE authenticator LOGIN NOINHERIT; CREATE ROLE owner LOGIN; CREATE ROLE api_owner;
    CREATE ROLE backend LOGIN; CREATE ROLE report LOGIN;
    CREATE ROLE staff; CREATE ROLE editor LOGIN;
    GRANT anon, authenticated, service_role TO authenticator;
    CREATE SCHEMA data AUTHORIZATION owner; CREATE SCHEMA api AUTHORIZATION owner;
    CREATE SCHEMA tools AUTHORIZATION owner; CREATE SCHEMA private AUTHORIZATION owner;
    CREATE SCHEMA closed AUTHORIZATION owner;
    GRANT USAGE ON SCHEMA data, api TO anon, authenticated, service_role;
    GRANT USAGE ON SCHEMA tools TO PUBLIC;
    SET ROLE owner;
    CREATE FUNCTION tools.uid() RETURNS int LANGUAGE sql STABLE
      AS $$ SELECT nullif(current_setting('request.uid', true), '')::int $$;
    CREATE TABLE data.note (id int PRIMARY KEY, owner_id int, body text);
    INSERT INTO data.note VALUES (1, 1, 'mine'), (2, 2, 'not mine');
    ALTER TABLE data.note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON data.note TO authenticated
      USING (owner_id = tools.uid()) WITH CHECK (owner_id = tools.uid());
    GRANT SELECT, INSERT, UPDATE, DELETE ON data.note TO authenticated;
    GRANT ALL ON data.note TO service_role;
    RESET ROLE;
";

/// Returns every feature whose extensions the server under test has: some distributions of
/// PostgreSQL leave out a part of contrib.
pub fn features() -> impl Iterator<Item = &'static Feature> {
    [FEATURES, PROJECTS, DEAD].into_iter().flatten().filter(|feature| {
        let parts = feature.sql.split("CREATE EXTENSION ").skip(1);
        parts.filter_map(|part| part.split_whitespace().next()).all(has_extension)
    })
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "policy calls a SECURITY DEFINER function without pg_temp in its path",
        sql: "SET ROLE owner;
            CREATE TABLE data.member (uid int, org int);
            INSERT INTO data.member VALUES (1, 7);
            ALTER TABLE data.member ENABLE ROW LEVEL SECURITY;
            CREATE TABLE data.doc (id int PRIMARY KEY, org int);
            INSERT INTO data.doc VALUES (1, 7), (2, 8);
            ALTER TABLE data.doc ENABLE ROW LEVEL SECURITY;
            CREATE FUNCTION data.is_member(int) RETURNS boolean LANGUAGE sql STABLE
              SECURITY DEFINER SET search_path = data, tools
              AS $$ SELECT EXISTS (SELECT FROM member WHERE org = $1 AND uid = uid()) $$;
            REVOKE EXECUTE ON FUNCTION data.is_member(int) FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION data.is_member(int) TO authenticated;
            CREATE POLICY members ON data.doc FOR SELECT TO authenticated
              USING (data.is_member(org));
            GRANT SELECT ON data.doc TO authenticated",
    },
    Feature {
        name: "policy reads another table",
        sql: "SET ROLE owner;
            CREATE TABLE data.team (uid int, team int);
            INSERT INTO data.team VALUES (1, 1);
            CREATE TABLE data.task (id int PRIMARY KEY, team int);
            INSERT INTO data.task VALUES (1, 1), (2, 2);
            ALTER TABLE data.task ENABLE ROW LEVEL SECURITY;
            CREATE POLICY team ON data.task FOR SELECT TO authenticated
              USING (team IN (SELECT t.team FROM data.team t WHERE t.uid = tools.uid()));
            GRANT SELECT ON data.task, data.team TO authenticated",
    },
    Feature {
        name: "view of another owner over a table with row security",
        sql: "CREATE TABLE data.todo (id int PRIMARY KEY, owner_id int, todo text);
            INSERT INTO data.todo VALUES (1, 1, 'mine'), (2, 2, 'not mine');
            ALTER TABLE data.todo OWNER TO owner;
            ALTER TABLE data.todo ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.todo TO api_owner
              USING (owner_id = current_setting('request.uid', true)::int);
            GRANT USAGE ON SCHEMA data, api TO api_owner;
            GRANT SELECT ON data.todo TO api_owner;
            CREATE VIEW api.todo AS SELECT * FROM data.todo;
            ALTER VIEW api.todo OWNER TO api_owner;
            GRANT SELECT ON api.todo TO authenticated",
    },
    Feature {
        name: "view of a client",
        sql: "CREATE VIEW api.of_client AS SELECT id, owner_id FROM data.note;
            ALTER VIEW api.of_client OWNER TO authenticated;
            GRANT SELECT ON api.of_client TO anon, report;
            GRANT USAGE ON SCHEMA api TO report",
    },
    Feature {
        name: "SECURITY DEFINER function of a client",
        sql: "CREATE FUNCTION api.of_client() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
              SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN current_user; END $$;
            ALTER FUNCTION api.of_client() OWNER TO anon",
    },
    Feature {
        name: "table of a client with a trigger and an expression index",
        sql: "CREATE TABLE data.of_client (id int, body text);
            CREATE FUNCTION data.of_client_body(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT lower($1)';
            CREATE INDEX ON data.of_client (data.of_client_body(body));
            ALTER TABLE data.of_client OWNER TO authenticated",
    },
    Feature {
        name: "view calls functions of PUBLIC",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.slug(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT lower($1)';
            CREATE FUNCTION tools.shout(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT upper($1)';
            CREATE VIEW api.slugs AS SELECT 1 AS id, data.slug('A b') AS slug;
            CREATE VIEW api.loud_slugs AS SELECT id, tools.shout(slug) AS slug FROM api.slugs;
            GRANT SELECT ON api.slugs, api.loud_slugs TO anon, authenticated",
    },
    Feature {
        name: "CHECK, default, generated column and index call functions",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.is_short(text) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS 'SELECT length($1) < 99';
            CREATE FUNCTION data.token() RETURNS text LANGUAGE sql AS $$ SELECT 'x'::text $$;
            CREATE FUNCTION data.fold(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT lower($1)';
            CREATE FUNCTION data.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
            CREATE TABLE data.post (id serial PRIMARY KEY, owner_id int DEFAULT tools.uid(),
              title text DEFAULT 'a' CHECK (data.is_short(title)),
              token text DEFAULT data.token(),
              twice int GENERATED ALWAYS AS (data.twice(owner_id)) STORED);
            CREATE INDEX ON data.post (data.fold(title));
            ALTER TABLE data.post ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.post TO authenticated
              USING (owner_id = tools.uid()) WITH CHECK (owner_id = tools.uid());
            GRANT SELECT, INSERT, UPDATE, DELETE ON data.post TO authenticated;
            GRANT USAGE ON SEQUENCE data.post_id_seq TO authenticated",
    },
    Feature {
        name: "trigger writes a log",
        sql: "SET ROLE owner;
            CREATE TABLE data.log (at timestamptz DEFAULT now(), what text);
            CREATE FUNCTION data.write_log() RETURNS trigger LANGUAGE plpgsql
              SECURITY DEFINER SET search_path = data
              AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP); RETURN NEW; END $$;
            CREATE TABLE data.logged (id int, owner_id int DEFAULT 1);
            CREATE TRIGGER log BEFORE INSERT ON data.logged
              FOR EACH ROW EXECUTE FUNCTION data.write_log();
            ALTER TABLE data.logged ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.logged FOR INSERT TO authenticated
              WITH CHECK (owner_id = tools.uid());
            GRANT INSERT ON data.logged TO authenticated",
    },
    Feature {
        name: "column grants",
        sql: "SET ROLE owner;
            CREATE TABLE data.profile (id int PRIMARY KEY, name text, is_admin boolean);
            INSERT INTO data.profile VALUES (1, 'a', false), (2, 'b', true);
            ALTER TABLE data.profile ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.profile TO authenticated USING (id = tools.uid());
            GRANT SELECT, UPDATE (name) ON data.profile TO authenticated;
            GRANT SELECT (id, name) ON data.profile TO anon",
    },
    Feature {
        name: "table without row security that clients read",
        sql: "SET ROLE owner;
            CREATE TABLE data.zip (code text PRIMARY KEY);
            INSERT INTO data.zip VALUES ('10115'), ('20095');
            GRANT SELECT ON data.zip TO anon, authenticated",
    },
    Feature {
        name: "reference data: readable for all, writable by administrators",
        sql: "SET ROLE owner;
            CREATE TABLE data.country (id int PRIMARY KEY);
            INSERT INTO data.country VALUES (1), (2);
            ALTER TABLE data.country ENABLE ROW LEVEL SECURITY;
            CREATE POLICY readable ON data.country FOR SELECT USING (true);
            CREATE POLICY admins ON data.country TO authenticated
              USING (current_setting('request.admin', true) = 'yes');
            GRANT SELECT ON data.country TO anon;
            GRANT SELECT, INSERT, UPDATE, DELETE ON data.country TO authenticated",
    },
    Feature {
        name: "policy without TO",
        sql: "SET ROLE owner;
            CREATE TABLE data.draft (id int PRIMARY KEY, owner_id int);
            INSERT INTO data.draft VALUES (1, 1), (2, 2);
            ALTER TABLE data.draft ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.draft USING (tools.uid() = owner_id);
            GRANT ALL ON data.draft TO anon, authenticated, service_role",
    },
    Feature {
        name: "default privileges for clients",
        sql: "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA data
              GRANT ALL ON TABLES TO anon, authenticated, service_role;
            ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA data
              GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
            ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA data, api
              GRANT EXECUTE ON FUNCTIONS TO anon, authenticated, service_role;
            SET ROLE owner;
            CREATE TABLE data.item (id bigserial PRIMARY KEY, owner_id int DEFAULT tools.uid());
            INSERT INTO data.item (owner_id) VALUES (1), (2);
            ALTER TABLE data.item ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.item TO authenticated USING (owner_id = tools.uid());
            CREATE FUNCTION api.items() RETURNS bigint LANGUAGE sql STABLE
              AS 'SELECT count(*) FROM data.item'",
    },
    Feature {
        name: "default privileges of another role",
        sql: "ALTER DEFAULT PRIVILEGES FOR ROLE backend IN SCHEMA api
              GRANT SELECT ON TABLES TO anon, report",
    },
    Feature {
        name: "SECURITY DEFINER function without a path",
        sql: "SET ROLE owner;
            CREATE TABLE data.counter (n int); INSERT INTO data.counter VALUES (41);
            CREATE FUNCTION api.next_number() RETURNS int LANGUAGE sql SECURITY DEFINER
              AS 'SELECT max(n) + 1 FROM data.counter';
            CREATE FUNCTION api.who() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
              AS 'BEGIN RETURN current_user; END';
            GRANT EXECUTE ON FUNCTION api.next_number() TO authenticated",
    },
    Feature {
        name: "SECURITY DEFINER function with an empty path",
        sql: "SET ROLE owner;
            CREATE FUNCTION api.whoami() RETURNS text LANGUAGE sql SECURITY DEFINER
              SET search_path = '' AS $$ SELECT pg_catalog.concat(current_user) $$;
            REVOKE EXECUTE ON FUNCTION api.whoami() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.whoami() TO anon, authenticated",
    },
    Feature {
        name: "SECURITY DEFINER function that finds names in two schemas",
        sql: "SET ROLE owner;
            CREATE TABLE private.setting (name text, value text);
            INSERT INTO private.setting VALUES ('greeting', 'hello');
            CREATE FUNCTION tools.decorate(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS $$ SELECT $1 || '!' $$;
            CREATE FUNCTION api.greeting() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
              SET search_path = private, tools AS $$
              BEGIN RETURN decorate((SELECT value FROM setting WHERE name = 'greeting')); END $$;
            REVOKE EXECUTE ON FUNCTION api.greeting() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.greeting() TO anon, authenticated",
    },
    Feature {
        name: "view with the privileges of its caller",
        sql: "CREATE VIEW api.my_notes WITH (security_invoker) AS
              SELECT id, body, upper(body) AS loud FROM data.note;
            ALTER VIEW api.my_notes OWNER TO owner;
            GRANT SELECT, UPDATE ON api.my_notes TO authenticated",
    },
    Feature {
        name: "materialized view that clients read",
        sql: "SET ROLE owner;
            CREATE MATERIALIZED VIEW api.note_count AS SELECT count(*) AS n FROM data.note;
            GRANT SELECT ON api.note_count TO anon",
    },
    Feature {
        name: "undeclared role with privileges",
        sql: "GRANT USAGE ON SCHEMA data TO report; GRANT SELECT ON data.note TO report",
    },
    Feature {
        name: "worker that logs in",
        sql: "GRANT USAGE ON SCHEMA data TO backend;
            GRANT SELECT, INSERT ON data.note TO backend;
            CREATE POLICY backend ON data.note TO backend USING (owner_id > 0)",
    },
    Feature {
        name: "privileges of the login role",
        sql: "SET ROLE owner;
            CREATE FUNCTION api.pre_request() RETURNS void LANGUAGE sql AS 'SELECT';
            REVOKE EXECUTE ON FUNCTION api.pre_request() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.pre_request() TO authenticator, anon, authenticated;
            GRANT USAGE ON SCHEMA api TO authenticator",
    },
    Feature {
        name: "partitioned table",
        sql: "SET ROLE owner;
            CREATE TABLE data.event (at int, owner_id int) PARTITION BY RANGE (at);
            CREATE TABLE data.event_1 PARTITION OF data.event FOR VALUES FROM (0) TO (10);
            INSERT INTO data.event VALUES (1, 1), (2, 2);
            ALTER TABLE data.event ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.event TO authenticated USING (owner_id = tools.uid());
            GRANT SELECT, INSERT ON data.event TO authenticated",
    },
    Feature {
        name: "restrictive policy",
        sql: "SET ROLE owner;
            CREATE TABLE data.secret (id int PRIMARY KEY, owner_id int, level int);
            INSERT INTO data.secret VALUES (1, 1, 1), (2, 1, 9);
            ALTER TABLE data.secret ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.secret TO authenticated USING (owner_id = tools.uid());
            CREATE POLICY low ON data.secret AS RESTRICTIVE USING (level < 5);
            GRANT SELECT, UPDATE ON data.secret TO authenticated, service_role",
    },
    Feature {
        name: "privileges of PUBLIC",
        sql: "SET ROLE owner;
            CREATE TABLE data.open (id int); INSERT INTO data.open VALUES (1);
            GRANT SELECT ON data.open TO PUBLIC;
            CREATE SEQUENCE data.number; GRANT USAGE ON SEQUENCE data.number TO PUBLIC",
    },
    Feature {
        name: "truncate and trigger privileges",
        sql: "GRANT TRUNCATE, TRIGGER, REFERENCES ON data.note TO authenticated",
    },
    Feature {
        name: "helper calls a helper",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.inner_check(int) RETURNS boolean LANGUAGE sql STABLE
              RETURN $1 = 1;
            CREATE FUNCTION data.outer_check(int) RETURNS boolean LANGUAGE sql STABLE
              RETURN data.inner_check($1);
            CREATE TABLE data.nested (id int PRIMARY KEY); INSERT INTO data.nested VALUES (1), (2);
            ALTER TABLE data.nested ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON data.nested FOR SELECT TO authenticated
              USING (data.outer_check(id));
            GRANT SELECT ON data.nested TO authenticated",
    },
    Feature {
        name: "operator and domain with functions",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.same(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS 'SELECT $1 = $2';
            CREATE OPERATOR data.=== (FUNCTION = data.same, LEFTARG = int, RIGHTARG = int);
            CREATE FUNCTION data.is_code(text) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS $$ SELECT $1 <> '' $$;
            CREATE DOMAIN data.code AS text DEFAULT 'c' CHECK (data.is_code(VALUE));
            CREATE TABLE data.coded (owner_id int DEFAULT tools.uid(), code data.code);
            INSERT INTO data.coded VALUES (1, 'a'), (2, 'b');
            ALTER TABLE data.coded ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON data.coded TO authenticated
              USING (owner_id OPERATOR(data.===) tools.uid());
            GRANT SELECT, INSERT ON data.coded TO authenticated",
    },
    Feature {
        name: "range type of the application",
        sql: "SET ROLE owner;
            CREATE TYPE data.span AS RANGE (subtype = float8);
            CREATE TABLE data.booking (owner_id int DEFAULT tools.uid(),
              during data.span DEFAULT data.span(0, 1));
            INSERT INTO data.booking VALUES (1, data.span(1, 2));
            ALTER TABLE data.booking ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.booking TO authenticated USING (owner_id = tools.uid());
            GRANT SELECT, INSERT ON data.booking TO authenticated;
            CREATE FUNCTION api.book() RETURNS text LANGUAGE sql
              AS 'INSERT INTO data.booking (during) VALUES (data.span(3, 4))
                RETURNING during::text';
            REVOKE EXECUTE ON FUNCTION api.book() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.book() TO authenticated",
    },
    Feature {
        name: "type with an operator and a cast",
        sql: "SET ROLE owner;
            CREATE TYPE data.mood AS ENUM ('sad', 'glad');
            CREATE FUNCTION data.is_better(data.mood, data.mood) RETURNS boolean LANGUAGE sql
              IMMUTABLE AS 'SELECT $1 > $2';
            CREATE OPERATOR data.>>> (FUNCTION = data.is_better, LEFTARG = data.mood,
              RIGHTARG = data.mood);
            CREATE FUNCTION data.to_number(data.mood) RETURNS int LANGUAGE sql IMMUTABLE
              AS $$ SELECT CASE $1 WHEN 'glad' THEN 1 ELSE 0 END $$;
            CREATE CAST (data.mood AS int) WITH FUNCTION data.to_number(data.mood);
            CREATE TABLE data.day (owner_id int DEFAULT tools.uid(), mood data.mood);
            INSERT INTO data.day VALUES (1, 'glad'), (2, 'sad');
            ALTER TABLE data.day ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.day TO authenticated USING (owner_id = tools.uid());
            GRANT SELECT ON data.day TO authenticated;
            CREATE FUNCTION api.good_days() RETURNS bigint LANGUAGE sql STABLE AS
              $$ SELECT count(*) FROM data.day
                 WHERE mood OPERATOR(data.>>>) 'sad' OR mood::int > 0 $$;
            REVOKE EXECUTE ON FUNCTION api.good_days() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.good_days() TO authenticated",
    },
    Feature {
        name: "SECURITY DEFINER functions whose owner depends on PUBLIC",
        sql: "SET ROLE owner;
            CREATE SEQUENCE data.calls; GRANT USAGE ON SEQUENCE data.calls TO PUBLIC;
            CREATE FUNCTION data.is_even(int) RETURNS boolean LANGUAGE sql IMMUTABLE
              AS 'SELECT $1 % 2 = 0';
            CREATE FUNCTION data.clock() RETURNS timestamptz LANGUAGE sql
              AS $$ SELECT timestamptz '2026-01-01' $$;
            CREATE FUNCTION data.stamp() RETURNS trigger LANGUAGE plpgsql AS
              'BEGIN NEW.at := data.clock(); RETURN NEW; END';
            CREATE TABLE data.audit (n int CHECK (data.is_even(n)), at timestamptz);
            CREATE TRIGGER stamp BEFORE INSERT ON data.audit
              FOR EACH ROW EXECUTE FUNCTION data.stamp();
            CREATE TABLE data.rate (rate int); INSERT INTO data.rate VALUES (7);
            GRANT SELECT ON data.rate TO PUBLIC;
            GRANT INSERT ON data.audit TO api_owner;
            GRANT USAGE ON SCHEMA data, api TO api_owner;
            RESET ROLE;
            CREATE FUNCTION api.count_up() RETURNS boolean LANGUAGE sql SECURITY DEFINER
              SET search_path = pg_catalog, pg_temp AS $$ SELECT nextval('data.calls') > 0 $$;
            CREATE FUNCTION api.record() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
              SET search_path = pg_catalog, pg_temp
              AS 'BEGIN INSERT INTO data.audit (n) VALUES (2); END';
            CREATE FUNCTION api.rate() RETURNS int LANGUAGE sql SECURITY DEFINER
              SET search_path = pg_catalog, pg_temp AS 'SELECT rate FROM data.rate';
            ALTER FUNCTION api.count_up() OWNER TO api_owner;
            ALTER FUNCTION api.record() OWNER TO api_owner;
            ALTER FUNCTION api.rate() OWNER TO api_owner;
            REVOKE EXECUTE ON FUNCTION api.count_up(), api.record(), api.rate() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.count_up(), api.record(), api.rate() TO authenticated",
    },
    Feature {
        name: "body with the privileges of its caller over what PUBLIC has",
        sql: "SET ROLE owner;
            CREATE TABLE data.price (price int); INSERT INTO data.price VALUES (3);
            GRANT SELECT ON data.price TO PUBLIC, authenticated;
            CREATE FUNCTION data.tax(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
            CREATE FUNCTION data.total() RETURNS int LANGUAGE sql AS
              'SELECT sum(data.tax(price))::int FROM data.price';
            CREATE FUNCTION api.total() RETURNS int LANGUAGE plpgsql AS
              'BEGIN RETURN data.total(); END';
            REVOKE EXECUTE ON FUNCTION api.total() FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION api.total() TO authenticated",
    },
    Feature {
        name: "policies and views that ask for memberships",
        sql: "GRANT staff TO authenticated;
            SET ROLE owner;
            CREATE TABLE data.memo (memo text); INSERT INTO data.memo VALUES ('a');
            ALTER TABLE data.memo ENABLE ROW LEVEL SECURITY;
            CREATE POLICY staff ON data.memo FOR SELECT TO authenticated
              USING (pg_has_role(current_user, 'staff', 'MEMBER'));
            CREATE FUNCTION tools.is_staff() RETURNS boolean LANGUAGE sql STABLE
              AS $$ SELECT pg_has_role(current_user, 'staff', 'MEMBER') $$;
            CREATE TABLE data.shift (shift int); INSERT INTO data.shift VALUES (1);
            ALTER TABLE data.shift ENABLE ROW LEVEL SECURITY;
            CREATE POLICY staff ON data.shift FOR SELECT TO authenticated
              USING (tools.is_staff());
            CREATE VIEW data.rota AS
              SELECT shift FROM data.shift WHERE pg_has_role(current_user, 'staff', 'MEMBER');
            CREATE VIEW api.rota AS SELECT shift FROM data.rota;
            GRANT SELECT ON data.memo, data.shift, api.rota TO authenticated",
    },
    Feature {
        name: "policy calls a parsed body that asks for memberships",
        sql: "GRANT staff TO authenticated;
            SET ROLE owner;
            CREATE FUNCTION tools.belongs_to_staff() RETURNS boolean LANGUAGE sql STABLE
              RETURN pg_has_role(current_user, 'staff', 'MEMBER');
            CREATE TABLE data.night (night int); INSERT INTO data.night VALUES (1);
            ALTER TABLE data.night ENABLE ROW LEVEL SECURITY;
            CREATE POLICY staff ON data.night FOR SELECT TO authenticated
              USING (tools.belongs_to_staff());
            GRANT SELECT ON data.night TO authenticated",
    },
    Feature {
        name: "trigger behind a view calls a function of PUBLIC",
        sql: "SET ROLE owner;
            CREATE FUNCTION data.clean(text) RETURNS text LANGUAGE sql IMMUTABLE
              AS 'SELECT lower($1)';
            CREATE FUNCTION data.clean_word() RETURNS trigger LANGUAGE plpgsql AS
              'BEGIN NEW.word := data.clean(NEW.word); RETURN NEW; END';
            CREATE TABLE data.word (owner_id int DEFAULT tools.uid(), word text);
            CREATE TRIGGER clean BEFORE INSERT ON data.word
              FOR EACH ROW EXECUTE FUNCTION data.clean_word();
            ALTER TABLE data.word ENABLE ROW LEVEL SECURITY;
            CREATE POLICY mine ON data.word TO authenticated USING (owner_id = tools.uid());
            CREATE VIEW api.words AS SELECT word FROM data.word;
            GRANT INSERT ON api.words TO authenticated",
    },
    Feature {
        name: "worker that calls a function through PUBLIC",
        sql: "GRANT USAGE ON SCHEMA data TO backend;
            SET ROLE owner;
            CREATE TABLE data.job (id int, done boolean); INSERT INTO data.job VALUES (1, false);
            GRANT SELECT, INSERT, UPDATE, DELETE ON data.job TO backend;
            CREATE FUNCTION data.finish(int) RETURNS void LANGUAGE sql
              AS 'UPDATE data.job SET done = true WHERE id = $1'",
    },
];

/// Returns a random application: SQL that creates it, and the names of its features.
#[must_use]
pub fn application(random: &mut Random) -> (String, Vec<&'static str>) {
    let chosen: Vec<&Feature> = features().filter(|_| random.below(3) == 0).collect();
    of_features(&chosen)
}

/// Returns the application with the features that have these names.
///
/// # Panics
/// If there is no feature with a name.
#[must_use]
pub fn with_features(names: &[&str]) -> (String, Vec<&'static str>) {
    let find = |name: &&str| {
        let found = features().find(|feature| feature.name == *name);
        found.unwrap_or_else(|| panic!("there is no feature \"{name}\""))
    };
    of_features(&names.iter().map(find).collect::<Vec<_>>())
}

fn of_features(features: &[&Feature]) -> (String, Vec<&'static str>) {
    let parts = features.iter().map(|feature| format!("{};\nRESET ROLE;\n", feature.sql));
    let sql = std::iter::once(BASE.to_owned()).chain(parts).collect();
    (sql, features.iter().map(|feature| feature.name).collect())
}

/// Drops the database `name` and every role that an application creates.
#[must_use]
pub fn clean_up(name: &str) -> String {
    format!(
        "DROP DATABASE {name} WITH (FORCE);
         DROP ROLE anon, authenticated, service_role, authenticator, owner, api_owner, backend,
           report, staff, editor;"
    )
}

//! What an audit says of the bodies of SECURITY DEFINER routines that clients may execute: whose
//! rows they reach, and what their callers choose.

use dragonfly_tests::{Cluster, SUPERUSER, column};
use postgres::Client;

/// An application of a platform whose sessions have claims: documents of users, who is a member of
/// which tenant, and tables that every client reads.
const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE app_owner;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated, app_owner;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated, app_owner;
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL DEFAULT auth.uid(),
        tenant int NOT NULL, status text NOT NULL, body text);
    CREATE TABLE app.members (user_id uuid NOT NULL, tenant int NOT NULL, role text NOT NULL,
        PRIMARY KEY (user_id, tenant));
    CREATE TABLE app.profiles (id uuid PRIMARY KEY, name text);
    CREATE TABLE app.posts (id int PRIMARY KEY, author uuid NOT NULL, published bool NOT NULL);
    CREATE TABLE app.log (at timestamptz NOT NULL DEFAULT now(), what text);
    CREATE TABLE app.grants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), number serial,
        user_id uuid NOT NULL, right_of text NOT NULL, at timestamptz DEFAULT now());
    ALTER TABLE app.grants ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.grants FOR SELECT TO authenticated
        USING (user_id = (SELECT auth.uid()));
    CREATE TABLE app.prices (item text PRIMARY KEY, price numeric);
    CREATE TABLE app.forced (owner uuid NOT NULL);
    ALTER TABLE app.forced OWNER TO app_owner;
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.profiles ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.posts ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.log ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.docs TO authenticated USING (owner = (SELECT auth.uid()));
    CREATE POLICY own ON app.members FOR SELECT TO authenticated
        USING (user_id = (SELECT auth.uid()));
    CREATE POLICY everyone ON app.profiles FOR SELECT USING (true);
    CREATE POLICY published ON app.posts FOR SELECT USING (published);
    CREATE POLICY own ON app.forced USING (owner = (SELECT auth.uid()));
    GRANT SELECT ON ALL TABLES IN SCHEMA app TO anon, authenticated;
    CREATE VIEW app.all_docs AS SELECT * FROM app.docs;
    REVOKE ALL ON app.all_docs FROM anon, authenticated;
    CREATE FUNCTION app.is_member(of int) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT EXISTS (SELECT FROM app.members m WHERE m.tenant = of
            AND m.user_id = auth.uid())';
    CREATE FUNCTION app.must_be_admin() RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'BEGIN IF auth.uid() IS NULL THEN RAISE EXCEPTION ''no''; END IF; RETURN true; END';
    CREATE POLICY tenant ON app.prices USING (item = current_setting('app.tenant', true));
    ALTER TABLE app.prices ENABLE ROW LEVEL SECURITY;
    SET client_min_messages = error";

/// Arguments and result, body, and what is found: severity and rule.
type Case = (&'static str, &'static str, &'static str);

const UNSCOPED: &str = "warning definer_body_unscoped";
const ARGUMENT: &str = "warning definer_body_argument_identity";
const CAPTURED: &str = "error definer_name_captured";
const UNREAD: &str = "info definer_body_unscoped";

/// Bodies in SQL.
const IN_SQL: &[Case] = &[
    // Rows of the caller.
    ("() RETURNS SETOF app.docs", "SELECT * FROM app.docs WHERE owner = auth.uid()", ""),
    (
        "(d int) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE id = d AND owner = auth.uid()",
        "",
    ),
    ("() RETURNS SETOF app.docs", "SELECT * FROM app.docs WHERE app.is_member(tenant)", ""),
    (
        "(t int) RETURNS SETOF app.docs",
        "SELECT d.* FROM app.docs d JOIN app.members m ON m.tenant = d.tenant
          WHERE m.user_id = auth.uid() AND d.tenant = t",
        "",
    ),
    (
        "(u uuid) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE owner = u AND u = auth.uid()",
        "",
    ),
    (
        "() RETURNS bigint",
        "WITH mine AS (SELECT * FROM app.docs WHERE owner = auth.uid()) SELECT count(*) FROM mine",
        "",
    ),
    (
        "() RETURNS bigint",
        "SELECT count(*) FROM (SELECT * FROM app.docs) d WHERE d.owner = auth.uid()",
        "",
    ),
    // Defaults that are another value for each row are no guard.
    (
        "(u uuid, r text) RETURNS void",
        "INSERT INTO app.grants (user_id, right_of) VALUES (u, r)",
        UNSCOPED,
    ),
    (
        "(r text) RETURNS void",
        "INSERT INTO app.grants (user_id, right_of) VALUES (auth.uid(), r)",
        "",
    ),
    (
        "(t int) RETURNS boolean",
        "SELECT EXISTS (SELECT FROM app.members m WHERE m.tenant = t
        AND m.user_id = auth.uid())",
        "",
    ),
    (
        "(d int) RETURNS void",
        "UPDATE app.docs SET status = 'published' WHERE id = d AND owner = auth.uid()",
        "",
    ),
    ("(d int) RETURNS void", "DELETE FROM app.docs WHERE id = d AND app.is_member(tenant)", ""),
    (
        "(d int, t int, b text) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status, body) VALUES (d, t, 'draft', b)",
        "",
    ),
    ("(t int) RETURNS void", "INSERT INTO app.members SELECT auth.uid(), t, 'member'", ""),
    // Rows that the caller reaches anyway, or that belong to no caller.
    ("() RETURNS SETOF app.profiles", "SELECT * FROM app.profiles", ""),
    ("() RETURNS SETOF app.posts", "SELECT * FROM app.posts WHERE published", ""),
    ("() RETURNS void", "INSERT INTO app.log (what) VALUES ('called')", ""),
    // A right of the caller, and what is not known.
    ("() RETURNS SETOF app.docs", "SELECT * FROM app.docs WHERE app.must_be_admin()", UNREAD),
    ("() RETURNS SETOF app.docs", "SELECT app.must_be_admin(); SELECT * FROM app.docs", UNREAD),
    // A row that is updated because it has the key of one that was to be inserted.
    (
        "(n text) RETURNS void",
        "INSERT INTO app.members VALUES (auth.uid(), 1, 'member') ON CONFLICT (user_id, tenant)
             DO UPDATE SET role = excluded.role",
        "",
    ),
    (
        "(n int) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status) VALUES (n, 1, 'new') ON CONFLICT (id)
             DO UPDATE SET status = 'changed'",
        UNSCOPED,
    ),
    (
        "(n int) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status) VALUES (n, 1, 'new') ON CONFLICT (id)
             DO UPDATE SET status = 'changed' WHERE docs.owner = auth.uid()",
        "",
    ),
    (
        "(n int) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status) VALUES (n, 1, 'new') ON CONFLICT (id)
             DO UPDATE SET status = 'changed' WHERE excluded.owner = auth.uid()",
        UNSCOPED,
    ),
    (
        "(n int) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status) VALUES (n, 1, 'new') ON CONFLICT (id)
             DO NOTHING",
        "",
    ),
    (
        "(n text) RETURNS void",
        "INSERT INTO app.members VALUES (auth.uid(), 1, 'member')
             ON CONFLICT ON CONSTRAINT members_pkey DO UPDATE SET role = excluded.role",
        "",
    ),
    (
        "(n int) RETURNS void",
        "INSERT INTO app.docs (id, tenant, status) VALUES (n, 1, 'new')
             ON CONFLICT ON CONSTRAINT docs_pkey DO UPDATE SET status = 'changed'",
        UNSCOPED,
    ),
    // Rows of others.
    ("() RETURNS SETOF app.docs", "SELECT * FROM app.docs", UNSCOPED),
    ("() RETURNS SETOF app.docs", "SELECT * FROM app.all_docs", UNSCOPED),
    ("(d int) RETURNS SETOF app.docs", "SELECT * FROM app.docs WHERE id = d", UNSCOPED),
    ("(t int) RETURNS bigint", "SELECT count(*) FROM app.docs WHERE tenant = t", UNSCOPED),
    ("() RETURNS bigint", "SELECT (SELECT count(*) FROM app.docs)", UNSCOPED),
    (
        "(a boolean) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE owner = auth.uid() OR a",
        UNSCOPED,
    ),
    (
        "(t int) RETURNS SETOF app.docs",
        "SELECT d.* FROM app.docs d WHERE EXISTS (SELECT FROM app.members m
          WHERE m.user_id = auth.uid() AND m.tenant = t)",
        UNSCOPED,
    ),
    ("(d int) RETURNS void", "UPDATE app.docs SET status = 'draft' WHERE id = d", UNSCOPED),
    ("(d int) RETURNS void", "DELETE FROM app.docs WHERE id = d", UNSCOPED),
    (
        "(u uuid, t int, r text) RETURNS void",
        "INSERT INTO app.members VALUES (u, t, r) ON CONFLICT (user_id, tenant)
            DO UPDATE SET role = excluded.role",
        "warning definer_body_argument_identity|warning definer_body_unscoped",
    ),
    (
        "(d int) RETURNS void",
        "WITH gone AS (DELETE FROM app.docs WHERE id = d RETURNING *) SELECT",
        UNSCOPED,
    ),
    (
        "() RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE status = 'published'",
        "info definer_body_unscoped",
    ),
    // The argument says who the caller is.
    (
        "(u uuid DEFAULT auth.uid()) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE owner = u",
        ARGUMENT,
    ),
    (
        "(u uuid) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE owner = coalesce(u, auth.uid())",
        ARGUMENT,
    ),
    (
        "(p jsonb) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE owner = (p ->> 'user')::uuid",
        ARGUMENT,
    ),
    ("(u uuid) RETURNS void", "DELETE FROM app.docs WHERE owner = u", ARGUMENT),
    (
        "(u uuid, t int) RETURNS boolean",
        "SELECT EXISTS (SELECT FROM app.members m WHERE m.user_id = u AND m.tenant = t)",
        "info definer_body_argument_identity",
    ),
    // A name means a column.
    ("(id int) RETURNS SETOF app.docs", "SELECT * FROM app.docs WHERE docs.id = id", CAPTURED),
    (
        "() RETURNS SETOF app.docs",
        "SELECT * FROM app.docs d WHERE EXISTS (SELECT FROM app.members m
          WHERE m.user_id = auth.uid() AND m.tenant = tenant)",
        CAPTURED,
    ),
    (
        "(id int) RETURNS SETOF app.docs",
        "SELECT * FROM app.docs WHERE docs.id = id AND owner = auth.uid()",
        "",
    ),
    // What the caller sets.
    (
        "(u uuid) RETURNS text",
        "SELECT set_config('request.jwt.claims', json_build_object('sub', u)::text, true)",
        "error definer_sets_identity",
    ),
    ("(t text) RETURNS text", "SELECT set_config('app.tenant', t, false)", {
        "error definer_sets_identity"
    }),
    ("(t text) RETURNS text", "SELECT set_config('app.request', t, false)", ""),
    ("() RETURNS text", "SELECT set_config('app.tenant', auth.uid()::text, false)", ""),
];

/// Bodies in PL/pgSQL.
const IN_PLPGSQL: &[Case] = &[
    ("() RETURNS SETOF app.docs", "BEGIN RETURN QUERY SELECT * FROM app.docs; END", UNSCOPED),
    ("() RETURNS bigint", "BEGIN RETURN (SELECT count(*) FROM app.docs); END", UNSCOPED),
    ("(d int) RETURNS void", "BEGIN DELETE FROM app.docs WHERE id = d; RETURN; END", UNSCOPED),
    (
        "(d int) RETURNS void",
        "BEGIN UPDATE app.docs SET status = 'a' WHERE id = d AND owner = auth.uid(); END",
        "",
    ),
    (
        "(d int) RETURNS void",
        "BEGIN IF NOT EXISTS (SELECT FROM app.docs x JOIN app.members m ON m.tenant = x.tenant
             WHERE x.id = d AND m.user_id = auth.uid()) THEN RAISE EXCEPTION 'no'; END IF;
           UPDATE app.docs SET status = 'published' WHERE id = d; END",
        UNREAD,
    ),
    (
        "(d int) RETURNS void",
        "BEGIN PERFORM app.must_be_admin(); DELETE FROM app.docs; END",
        UNREAD,
    ),
    (
        "(q text) RETURNS SETOF app.docs",
        "BEGIN RETURN QUERY EXECUTE 'SELECT * FROM app.docs WHERE owner = auth.uid()
             AND body LIKE ''' || q || ''''; END",
        "error definer_body_dynamic_sql",
    ),
    ("(q text) RETURNS void", "DECLARE s text := format('%s', q); BEGIN EXECUTE s; END", {
        "error definer_body_dynamic_sql"
    }),
    (
        "(q text) RETURNS void",
        "BEGIN IF q NOT IN ('a', 'b') THEN RAISE EXCEPTION 'no'; END IF; EXECUTE q; END",
        "info definer_body_dynamic_sql",
    ),
    (
        "(q text) RETURNS SETOF app.docs",
        "BEGIN RETURN QUERY EXECUTE format('SELECT * FROM app.docs WHERE owner = auth.uid()
             AND body = %L ORDER BY %I', q, q) USING q; END",
        UNREAD,
    ),
    ("(n int) RETURNS void", "BEGIN EXECUTE 'SELECT ' || n; END", ""),
    (
        "(t int) RETURNS void",
        "BEGIN PERFORM set_config('app.tenant', t::text, true); END",
        "error definer_sets_identity",
    ),
    (
        "(t int) RETURNS void",
        "BEGIN IF NOT app.is_member(t) THEN RAISE EXCEPTION 'no'; END IF;
           PERFORM set_config('app.tenant', t::text, true); END",
        "info definer_sets_identity",
    ),
    (
        "(n text, v text) RETURNS void",
        "BEGIN PERFORM set_config(n, v, true); END",
        "error definer_sets_identity",
    ),
    (
        "(t text) RETURNS void",
        "BEGIN EXECUTE format('SET LOCAL app.tenant = %L', t); END",
        "error definer_sets_identity",
    ),
];

/// Creates a function of each case, `app.NAME1` and so on, with other properties.
fn create(client: &mut Client, cases: &[Case], (name, language): (&str, &str), more: &str) {
    for (number, (signature, body, _)) in cases.iter().enumerate() {
        let sql = format!(
            "CREATE FUNCTION app.{name}{number}{signature} LANGUAGE {language} SECURITY DEFINER
                SET search_path = pg_catalog, pg_temp {more} AS $body$ {body} $body$"
        );
        client.batch_execute(&sql).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    }
}

/// Declares the database as it is.
fn declare(client: &mut Client) {
    client
        .batch_execute(
            "CREATE EXTENSION dragonfly_guard; SET client_min_messages = error;
             SET dragonfly_guard.mode = 'off';
             SELECT ops.load_contract(ops.infer_contract(ARRAY['app'], 'as_is'))",
        )
        .unwrap();
}

/// Returns what the rules find about a function.
fn found(client: &mut Client, name: &str) -> String {
    let query = format!(
        "SELECT DISTINCT concat(severity, ' ', rule) FROM ops.audit_security()
          WHERE rule LIKE 'definer%' AND object LIKE 'app.{name}(%' ORDER BY 1"
    );
    column(client, &query).join("|")
}

#[test]
fn bodies_are_read_as_conditions_of_policies_are() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    create(&mut client, IN_SQL, ("q", "sql"), "");
    create(&mut client, IN_PLPGSQL, ("p", "plpgsql"), "");
    declare(&mut client);
    client
        .batch_execute(
            "CREATE TEMPORARY TABLE found AS
                 SELECT * FROM ops.audit_security() WHERE rule LIKE 'definer%'",
        )
        .unwrap();
    let mut wrong = Vec::new();
    for (name, cases) in [("q", IN_SQL), ("p", IN_PLPGSQL)] {
        for (number, (_, body, expected)) in cases.iter().enumerate() {
            let query = format!(
                "SELECT DISTINCT concat(severity, ' ', rule) FROM found
                  WHERE object LIKE 'app.{name}{number}(%' ORDER BY 1"
            );
            let found = column(&mut client, &query).join("|");
            if found != *expected {
                wrong.push(format!("{body}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn routine_that_clients_cannot_call_or_whose_owner_is_not_exempt_is_not_reported() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION app.inside() RETURNS SETOF app.docs LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM app.docs';
             REVOKE EXECUTE ON FUNCTION app.inside() FROM PUBLIC;
             CREATE FUNCTION app.invoker() RETURNS SETOF app.docs LANGUAGE sql
                 AS 'SELECT * FROM app.docs';
             CREATE FUNCTION app.forced() RETURNS SETOF app.forced LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT * FROM app.forced';
             ALTER FUNCTION app.forced() OWNER TO app_owner;
             CREATE FUNCTION app.atomic(d int) RETURNS SETOF app.docs LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 BEGIN ATOMIC SELECT * FROM app.docs WHERE id = d; END;
             CREATE FUNCTION app.as_admin() RETURNS SETOF app.docs LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp SET app.tenant = '1'
                 AS 'SELECT * FROM app.docs'",
        )
        .unwrap();
    declare(&mut client);
    for (name, expected) in [
        ("inside", ""),
        ("invoker", ""),
        ("forced", ""),
        ("as_admin", UNREAD),
        ("atomic", "warning definer_body_unscoped"),
    ] {
        assert_eq!(found(&mut client, name), expected, "{name}");
    }
    client
        .batch_execute(
            "SELECT ops.load_contract(jsonb_set(ops.infer_contract(ARRAY['app'], 'as_is'),
                 '{functions}', '[{\"schema\": \"app\", \"name\": \"atomic\",
                     \"security_definer\": true, \"all_rows\": true}]'))",
        )
        .unwrap();
    assert_eq!(found(&mut client, "atomic"), "");
}

#[test]
fn reading_a_body_does_not_execute_it_and_writes_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "INSERT INTO app.docs VALUES (1, gen_random_uuid(), 1, 'draft', '');
             CREATE FUNCTION app.clears() RETURNS void LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'DELETE FROM app.docs'",
        )
        .unwrap();
    declare(&mut client);
    assert_eq!(found(&mut client, "clears"), "warning definer_body_unscoped");
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM app.docs"), ["1"]);
    // The lock of a table that is written is not kept.
    client.batch_execute("BEGIN; SELECT count(*) FROM ops.audit_security()").unwrap();
    let locks = "SELECT mode FROM pg_locks WHERE relation = 'app.docs'::regclass
                    AND mode LIKE '%Exclusive%'";
    assert_eq!(column(&mut client, locks), [""; 0]);
    client.batch_execute("ROLLBACK").unwrap();
}

#[test]
fn body_that_is_not_read_is_named_with_the_reason() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION app.loops(d int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS $$
                 DECLARE n int := 1; BEGIN IF d > n THEN DELETE FROM app.docs; END IF; END $$;
             CREATE FUNCTION app.counts() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS $$
                 DECLARE n int := 1; BEGIN IF n > 0 THEN n := 2; END IF; RETURN n; END $$;
             CREATE FUNCTION app.asks() RETURNS SETOF app.docs LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 AS 'SELECT * FROM app.docs WHERE app.must_be_admin()';
             CREATE FUNCTION app.becomes(t text) RETURNS text LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 BEGIN ATOMIC SELECT set_config('app.tenant', t, false); END;
             CREATE FUNCTION app.stays() RETURNS text LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp
                 BEGIN ATOMIC SELECT set_config('app.tenant', auth.uid()::text, false); END",
        )
        .unwrap();
    declare(&mut client);
    for (name, expected) in [
        ("loops", UNREAD),
        ("counts", ""),
        ("asks", UNREAD),
        ("becomes", "error definer_sets_identity"),
        ("stays", ""),
    ] {
        assert_eq!(found(&mut client, name), expected, "{name}");
    }
    let details = "SELECT DISTINCT detail FROM ops.audit_security()
        WHERE rule = 'definer_body_unscoped' AND object LIKE 'app.loops(%' ORDER BY 1";
    let details = column(&mut client, details);
    let [detail] = &details[..] else { panic!("{details:?}") };
    assert!(
        detail.ends_with(
            "reach table app.docs in a way that is not known: it has statements that are not SQL."
        ),
        "{detail}"
    );
}

#[test]
fn body_that_is_not_read_and_writes_is_named_for_each_client_that_may_execute_it() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    // Users read every role of the tenants, and write none; others read none.
    client
        .batch_execute(
            "CREATE POLICY everyone ON app.members FOR SELECT TO authenticated USING (true);
             CREATE FUNCTION app.promote(u uuid, t int) RETURNS void LANGUAGE plpgsql
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
                 DECLARE r text; BEGIN
                 SELECT role INTO r FROM app.members WHERE user_id = auth.uid() AND tenant = t;
                 IF r <> 'admin' THEN RAISE EXCEPTION 'no'; END IF;
                 INSERT INTO app.members VALUES (u, t, 'admin')
                     ON CONFLICT (user_id, tenant) DO UPDATE SET role = 'admin'; END $$;
             CREATE FUNCTION app.tells(t int) RETURNS text LANGUAGE plpgsql
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
                 DECLARE r text; BEGIN
                 IF t > 0 THEN SELECT max(role) INTO r FROM app.members WHERE tenant = t; END IF;
                 RETURN r; END $$",
        )
        .unwrap();
    declare(&mut client);
    for (name, expected) in [
        ("promote", "lets roles \"anon\" and \"authenticated\" reach table app.members"),
        ("tells", "lets role \"anon\" reach table app.members"),
    ] {
        let query = format!(
            "SELECT substring(detail FROM 'lets .*app.members') FROM ops.audit_security()
              WHERE rule = 'definer_body_unscoped' AND object LIKE 'app.{name}(%'"
        );
        assert_eq!(column(&mut client, &query), [expected], "{name}");
    }
}

/// Returns the rules about bodies that the guard warns of when it allows a transaction.
fn warned(cluster: &Cluster, sql: &str) -> Vec<String> {
    let output = cluster.client_program(
        "psql",
        &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", sql],
    );
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {messages}");
    let rules = messages.split(|c: char| !c.is_ascii_alphabetic() && c != '_');
    let mut rules: Vec<String> =
        rules.filter(|word| word.starts_with("definer_")).map(str::to_owned).collect();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn guard_warns_of_a_body_when_a_client_may_call_it() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    declare(&mut client);
    client
        .batch_execute(
            "SELECT ops.load_contract(jsonb_set(ops.contract() || '{\"version\": \"9.0.0\"}',
                 '{rules}', '{\"security_definer_executable_by_clients\": {\"guard\": \"audit\"},
                     \"routine_privileges\": {\"guard\": \"audit\"}}'))",
        )
        .unwrap();
    let create = |name: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION app.{name}(d int, q text) RETURNS SETOF app.docs
                 LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                 AS $body$ BEGIN {body}; END $body$;"
        )
    };
    let read = "RETURN QUERY SELECT * FROM app.docs WHERE";
    let own = create("f", &format!("{read} owner = auth.uid()"));
    let any = create("f", &format!("{read} id = d"));
    let captured = create(
        "f",
        &format!(
            "{read} EXISTS (SELECT FROM app.members m WHERE m.user_id = auth.uid()
                 AND m.tenant = tenant)"
        ),
    );
    let execute = create("f", "EXECUTE q");
    let identity = create("f", "PERFORM set_config('request.jwt.claims', q, true)");
    let none = [""; 0];
    assert_eq!(warned(&cluster, &own), none);
    assert_eq!(warned(&cluster, &any), ["definer_body_unscoped"]);
    assert_eq!(warned(&cluster, &any), none, "it was so before");
    assert_eq!(warned(&cluster, &own), none);
    assert_eq!(warned(&cluster, &captured), ["definer_name_captured"]);
    assert_eq!(warned(&cluster, &execute), ["definer_body_dynamic_sql"]);
    assert_eq!(warned(&cluster, &identity), ["definer_sets_identity"]);
    // No client may call it before a later transaction.
    let hidden = format!(
        "DROP FUNCTION app.f(int, text); {any}
         REVOKE EXECUTE ON FUNCTION app.f(int, text) FROM PUBLIC;"
    );
    assert_eq!(warned(&cluster, &hidden), none);
    let grant = "GRANT EXECUTE ON FUNCTION app.f(int, text) TO authenticated";
    assert_eq!(warned(&cluster, grant), ["definer_body_unscoped"]);
    assert_eq!(warned(&cluster, &format!("BEGIN; {execute} {own} COMMIT")), none);
}

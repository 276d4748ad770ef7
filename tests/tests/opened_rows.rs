//! Statements with which a client sees more rows of declared objects than before: policies that
//! become always true, restrictive policies that are gone, views that lose security_invoker.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// A schema of `rows_owner` with rows of two tenants, of which `rows_app` sees one, and an inferred
/// contract. `declares`: what replaces parts of the contract.
fn world(cluster: &Cluster, declares: &str) -> Client {
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE rows_app; CREATE ROLE rows_login LOGIN NOINHERIT; CREATE ROLE rows_owner;
             GRANT rows_app TO rows_login;
             CREATE SCHEMA app AUTHORIZATION rows_owner; GRANT USAGE ON SCHEMA app TO rows_app;
             SET ROLE rows_owner;
             CREATE TABLE app.t (id int, tenant text, sealed bool DEFAULT false);
             ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
             INSERT INTO app.t VALUES (1, 'a', false), (2, 'b', false), (3, 'a', true);
             CREATE POLICY own ON app.t TO rows_app USING (tenant = current_setting('app.tenant'));
             CREATE POLICY hide_sealed ON app.t AS RESTRICTIVE TO rows_app USING (NOT sealed);
             CREATE TABLE app.open (id int); ALTER TABLE app.open ENABLE ROW LEVEL SECURITY;
             CREATE POLICY readable ON app.open FOR SELECT TO rows_app USING (true);
             CREATE VIEW app.v WITH (security_invoker = true) AS SELECT id FROM app.t;
             GRANT SELECT, INSERT, UPDATE, DELETE ON app.t TO rows_app;
             GRANT SELECT ON app.open, app.v TO rows_app; RESET ROLE;
             CREATE EXTENSION dragonfly_guard",
        )
        .unwrap();
    client
        .batch_execute(&format!(
            "SELECT ops.load_contract(jsonb_set({declares}, '{{version}}', '\"1.0.1\"'));
             SET app.tenant = 'a'; SET client_min_messages = error"
        ))
        .unwrap();
    client
}

const INFERRED: &str = "ops.infer_contract('{app}', mode => 'as_is')";

/// The contract without what it says about rows, as contracts before this field.
const WITHOUT_ALL_ROWS: &str = "(SELECT jsonb_set(c, '{tables}', (SELECT jsonb_agg(t - 'all_rows') \
    FROM jsonb_array_elements(c->'tables') AS t)) FROM ops.infer_contract('{app}', mode => \
    'as_is') AS c)";

const FOUND: &str = "SELECT severity || ' ' || rule || ' ' || object FROM \
    ops.audit_security(min_severity => 'warning')
    WHERE rule NOT IN (SELECT rule FROM ops.security_rules() WHERE area = 'policies') ORDER BY 1";

/// Executes statements in one transaction as the owner of the table.
fn run(client: &mut Client, sql: &str) -> Result<(), String> {
    client.batch_execute("SET ROLE rows_owner").unwrap();
    let result = attempt(client, &format!("BEGIN; {sql}; COMMIT"));
    client.batch_execute("ROLLBACK; RESET ROLE").unwrap();
    result.map(drop).map_err(|error| format!("{} {}", error.code, error.message))
}

fn visible(client: &mut Client, relation: &str) -> String {
    client.batch_execute("SET ROLE rows_app").unwrap();
    let count = column(client, &format!("SELECT count(*)::text FROM {relation}")).remove(0);
    client.batch_execute("RESET ROLE").unwrap();
    count
}

#[test]
fn inferred_contract_says_which_policies_are_for_every_row() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    let all_rows = "SELECT t->>'name' || ' ' || (t->>'all_rows') FROM \
        jsonb_array_elements(ops.contract()->'tables') AS t ORDER BY 1";
    assert_eq!(column(&mut client, all_rows), ["open {\"rows_app\": [\"SELECT\"]}", "t {}"]);
    assert_eq!(column(&mut client, FOUND), [""; 0]);
}

#[test]
fn policy_that_becomes_always_true_is_rejected() {
    let cluster = Cluster::start();
    for (database, declares) in [("said", INFERRED), ("unsaid", WITHOUT_ALL_ROWS)] {
        let cluster = if database == "said" { &cluster } else { &Cluster::start() };
        let mut client = world(cluster, declares);
        for sql in [
            "ALTER POLICY own ON app.t USING (true)",
            "ALTER POLICY own ON app.t USING (1 = 1 OR tenant = 'a')",
            "DROP POLICY own ON app.t; CREATE POLICY own ON app.t TO rows_app USING (true)",
            "CREATE POLICY x ON app.t FOR SELECT TO rows_app USING (true)",
            "CREATE POLICY x ON app.t FOR SELECT USING (true)",
            "ALTER POLICY own ON app.t USING (NOT false)",
            "ALTER POLICY own ON app.t USING (NOT (1 > 2))",
            "ALTER POLICY own ON app.t \
             USING (tenant = 'a' OR tenant IS NULL OR tenant IS NOT NULL)",
            "ALTER POLICY own ON app.t USING (tenant IS NOT DISTINCT FROM tenant)",
            "ALTER POLICY own ON app.t USING (tenant LIKE '%')",
            "ALTER POLICY own ON app.t USING (COALESCE(NULL, true))",
            "ALTER POLICY own ON app.t \
             USING (CASE WHEN sealed IS TRUE THEN true ELSE NOT false END)",
            "ALTER POLICY own ON app.t USING ((tenant = 'a') IS UNKNOWN IS NOT UNKNOWN)",
            "ALTER POLICY own ON app.t USING (CURRENT_USER IS NOT NULL)",
            "ALTER POLICY own ON app.t USING (ctid IS NOT NULL)",
            "ALTER TABLE app.t ALTER id SET NOT NULL; ALTER POLICY own ON app.t USING (id IS NOT \
             NULL)",
            "ALTER POLICY own ON app.t USING (NULL IS NULL)",
            "ALTER POLICY own ON app.t USING (id IN (id))",
            "ALTER POLICY own ON app.t USING (id = ANY (ARRAY[3, id]))",
            "ALTER POLICY own ON app.t USING (1 IN (3, 2, 1))",
            "ALTER POLICY own ON app.t USING (1 <> ALL (ARRAY[2, 3]))",
            "ALTER POLICY own ON app.t USING (1::bool)",
            "ALTER POLICY own ON app.t USING ('yes'::text::bool)",
            "ALTER POLICY own ON app.t USING ((1 = 1) = true)",
            "ALTER POLICY own ON app.t USING ((id IS NULL) IS NOT NULL)",
            "ALTER POLICY own ON app.t USING (EXISTS (SELECT 1))",
            "ALTER POLICY own ON app.t USING (EXISTS (SELECT WHERE NOT false))",
            "ALTER POLICY own ON app.t USING ((SELECT true WHERE 1 < 2))",
            "ALTER POLICY own ON app.t USING (sealed OR NOT sealed)",
            "ALTER POLICY own ON app.t USING (id > 1 OR id <= 1)",
            "CREATE FUNCTION app.yes() RETURNS bool LANGUAGE sql AS 'select true'; ALTER POLICY \
             own ON app.t USING (app.yes())",
            "CREATE FUNCTION app.yes(int) RETURNS bool LANGUAGE sql AS 'select 1 = 1; -- yes'; \
             ALTER POLICY own ON app.t USING (tenant = 'a' OR (SELECT app.yes(id)))",
            "CREATE FUNCTION app.yes() RETURNS bool RETURN NOT false; ALTER POLICY own ON app.t \
             USING (app.yes())",
            "CREATE FUNCTION app.yes() RETURNS bool BEGIN ATOMIC SELECT true; END; ALTER POLICY \
             own ON app.t USING (app.yes())",
            "CREATE FUNCTION app.yes() RETURNS bool LANGUAGE plpgsql AS 'begin return true; end'; \
             ALTER POLICY own ON app.t USING (app.yes())",
            "ALTER TABLE app.t RENAME TO old; CREATE TABLE app.t (LIKE app.old); ALTER TABLE app.t \
             ENABLE ROW LEVEL SECURITY; REVOKE ALL ON app.old FROM rows_app; GRANT SELECT, INSERT, \
             UPDATE, DELETE ON app.t TO rows_app; CREATE POLICY own ON app.t TO rows_app USING \
             (true)",
        ] {
            let error = run(&mut client, sql).unwrap_err();
            assert!(error.starts_with("42P17"), "{database}: {sql}: {error}");
            assert_eq!(visible(&mut client, "app.t"), "1", "{database}: {sql}");
        }
        // Another condition, and a policy that was always true before, are allowed.
        for condition in [
            "id IS NOT NULL",
            "tenant IS NULL AND tenant IS NOT NULL OR sealed",
            "COALESCE(sealed, true)",
            "CASE WHEN sealed THEN true END",
            "sealed IS NOT TRUE",
            "tenant LIKE '_%'",
            "id IN (1, 2)",
            "id = ALL (ARRAY[id, 1])",
            "EXISTS (SELECT 1 FROM app.open)",
            "EXISTS (SELECT 1 LIMIT 0)",
            "sealed OR NOT (id = 1)",
            "id > 1 OR id < 1",
            "tenant = 'b'",
        ] {
            run(&mut client, &format!("ALTER POLICY own ON app.t USING ({condition})")).unwrap();
        }
        for function in [
            "f(text) RETURNS bool LANGUAGE sql AS 'select $1 = ''a'''",
            "f(text) RETURNS bool LANGUAGE sql STRICT AS 'select true'",
            "f(text) RETURNS bool LANGUAGE sql AS 'select true from app.open'",
            "f(text) RETURNS bool LANGUAGE plpgsql AS 'begin return $1 = ''a''; end'",
        ] {
            let sql = format!(
                "CREATE FUNCTION app.{function}; ALTER POLICY own ON app.t USING (app.f(tenant)); \
                 ALTER POLICY own ON app.t USING (tenant = 'b'); DROP FUNCTION app.f"
            );
            run(&mut client, &sql).unwrap();
        }
        run(&mut client, "ALTER POLICY readable ON app.open USING (2 = 2)").unwrap();
        run(
            &mut client,
            "DROP POLICY readable ON app.open; CREATE POLICY again ON app.open FOR SELECT TO \
             rows_app USING (true)",
        )
        .unwrap();
        assert_eq!(column(&mut client, FOUND), [""; 0], "{database}");
    }
}

/// The audit of a contract without `all_rows` does not report such a policy, so that an exemption
/// can only be by pattern.
#[test]
fn exempt_policy_that_becomes_always_true_is_allowed() {
    let cluster = Cluster::start();
    for (database, declares) in [("said", INFERRED), ("unsaid", WITHOUT_ALL_ROWS)] {
        let cluster = if database == "said" { &cluster } else { &Cluster::start() };
        let mut client = world(cluster, declares);
        let open = "CREATE POLICY x ON app.t FOR SELECT TO rows_app USING (true)";
        assert!(run(&mut client, open).unwrap_err().starts_with("42P17"), "{database}");
        client
            .batch_execute(
                "SELECT ops.exempt(rule => 'rls_policy_always_true', object => 'x on app.t', \
                 reason => 'public until the launch')",
            )
            .unwrap();
        run(&mut client, open).unwrap();
        assert_eq!(column(&mut client, FOUND), [""; 0], "{database}");
        let other = run(&mut client, "ALTER POLICY own ON app.t USING (true)").unwrap_err();
        assert!(other.starts_with("42P17"), "{database}: {other}");
    }
}

#[test]
fn function_of_a_condition_that_becomes_constant_is_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let create = |body: &str| {
        format!("CREATE OR REPLACE FUNCTION app.f(t text) RETURNS bool LANGUAGE sql AS '{body}'")
    };
    let policy = "ALTER POLICY own ON app.t USING (app.f(tenant))";
    run(&mut client, &format!("{}; {policy}", create("select length(t) = 2"))).unwrap();
    client.batch_execute("RESET dragonfly_guard.mode").unwrap();
    let error = run(&mut client, &create("select true")).unwrap_err();
    assert!(error.starts_with("42P17"), "{error}");
    run(&mut client, &create("select length(t) = 1")).unwrap();
    // The earlier condition calls a function that is missing afterwards.
    run(
        &mut client,
        "ALTER POLICY own ON app.t USING (app.f(tenant) IS NULL OR app.f(tenant) AND sealed)",
    )
    .unwrap();
    let dropped = run(&mut client, "DROP FUNCTION app.f CASCADE").unwrap_err();
    assert!(dropped.starts_with("42P17"), "{dropped}");
}

#[test]
fn function_that_a_function_of_a_condition_calls_is_checked_again() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let create = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION app.inner(t text) RETURNS bool LANGUAGE sql AS 'select \
             {body}'"
        )
    };
    let around = "CREATE FUNCTION app.middle(t text) RETURNS bool RETURN app.inner(t);
        CREATE FUNCTION app.outer(t text) RETURNS bool BEGIN ATOMIC SELECT app.middle(t) OR false; \
        END; ALTER POLICY own ON app.t USING (app.outer(tenant))";
    run(&mut client, &format!("{}; {around}", create("length(t) = 2"))).unwrap();
    client.batch_execute("RESET dragonfly_guard.mode").unwrap();
    for constant in ["true", "1 = 1"] {
        let error = run(&mut client, &create(constant)).unwrap_err();
        assert!(error.starts_with("42P17"), "{constant}: {error}");
    }
    run(&mut client, &create("length(t) = 1")).unwrap();
    let middle = "CREATE OR REPLACE FUNCTION app.middle(t text) RETURNS bool RETURN true";
    let error = run(&mut client, middle).unwrap_err();
    assert!(error.starts_with("42P17"), "{error}");
}

/// A policy that reads a generated column is true for every row where the expression is.
#[test]
fn generated_column_of_a_condition_that_becomes_constant_is_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let add = |expression: &str, kind: &str| {
        format!(
            "ALTER TABLE app.t DROP COLUMN IF EXISTS shown CASCADE; ALTER TABLE app.t ADD COLUMN \
             shown {kind} GENERATED ALWAYS AS ({expression}) STORED"
        )
    };
    let policy = |condition: &str| {
        format!(
            "DROP POLICY IF EXISTS own ON app.t; CREATE POLICY own ON app.t TO rows_app USING \
             ({condition})"
        )
    };
    let is_17 = column(&mut client, "SELECT current_setting('server_version_num')")[0]
        .parse::<u32>()
        .unwrap()
        >= 170_000;
    let cases = [
        ("bool", "shown", "id = 1", "true"),
        ("bool", "sealed OR shown", "id = 1", "id IS NOT DISTINCT FROM id"),
        ("bool", "shown = true", "id = 1", "true"),
        ("text", "shown = 'all'", "tenant", "'all'"),
        ("int", "shown > 0", "id - 1", "1"),
        ("text", "shown IS NOT NULL", "CASE WHEN id > 1 THEN tenant END", "'x'"),
    ];
    for (kind, condition, before, after) in cases {
        client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
        run(&mut client, &format!("{}; {}", add(before, kind), policy(condition))).unwrap();
        assert_eq!(column(&mut client, FOUND), [""; 0], "{condition}: {before}");
        client.batch_execute("RESET dragonfly_guard.mode").unwrap();
        let again = format!("{}; {}", add(after, kind), policy(condition));
        let set = format!("ALTER TABLE app.t ALTER COLUMN shown SET EXPRESSION AS ({after})");
        for sql in [Some(again), is_17.then_some(set)].into_iter().flatten() {
            let error = run(&mut client, &sql).unwrap_err();
            assert!(error.starts_with("42P17"), "{sql}: {error}");
        }
    }
    // Conditions with the same text on tables whose columns differ.
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    for (name, shown) in
        [("u", ""), ("w", "GENERATED ALWAYS AS (true) STORED"), ("x", "DEFAULT true")]
    {
        let sql = format!(
            "CREATE TABLE app.{name} (id int, shown bool {shown}); ALTER TABLE app.{name} ENABLE \
             ROW LEVEL SECURITY; CREATE POLICY p ON app.{name} TO rows_app USING (shown); GRANT \
             SELECT ON app.{name} TO rows_app"
        );
        run(&mut client, &sql).unwrap();
    }
    let always_true = format!(
        "SELECT t->>'name' FROM jsonb_array_elements({INFERRED}->'tables') AS t WHERE \
         t->'all_rows' ? 'rows_app' AND t->>'name' <> 't' ORDER BY 1"
    );
    assert_eq!(column(&mut client, &always_true), ["open", "w"]);
}

#[test]
fn audit_reports_policies_for_every_row_that_the_contract_does_not_declare() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    run(&mut client, "CREATE POLICY x ON app.t FOR SELECT TO rows_app USING (true)").unwrap();
    assert_eq!(column(&mut client, FOUND), ["error rls_policy_always_true x on app.t"]);
    run(&mut client, "ALTER POLICY own ON app.t USING (true)").unwrap();
    assert_eq!(
        column(&mut client, FOUND),
        ["error rls_policy_always_true own on app.t", "error rls_policy_always_true x on app.t"]
    );
    // Declared: every row may be read, and still not written.
    client
        .batch_execute(
            "SELECT ops.load_contract((SELECT jsonb_set(jsonb_set(c, '{version}', '\"1.0.2\"'), \
             '{tables}', (SELECT jsonb_agg(t || '{\"all_rows\": {\"rows_app\": [\"SELECT\"]}}') \
             FROM jsonb_array_elements(c->'tables') AS t)) FROM ops.contract() AS c))",
        )
        .unwrap();
    assert_eq!(column(&mut client, FOUND), ["error rls_policy_always_true own on app.t"]);
}

#[test]
fn restrictive_policy_that_restricts_less_is_a_warning() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    let warned = "SELECT rule || ' ' || object FROM ops.v_guard_log WHERE event = 'warned' ORDER \
        BY logged_at DESC LIMIT 1";
    assert_eq!(visible(&mut client, "app.t"), "1");
    let create = "CREATE POLICY hide_sealed ON app.t AS RESTRICTIVE TO rows_app USING (NOT sealed)";
    // Replaced in one transaction, or with another condition: not known to be weaker.
    run(&mut client, &format!("DROP POLICY hide_sealed ON app.t; {create}")).unwrap();
    run(&mut client, "ALTER POLICY hide_sealed ON app.t USING (sealed IS NOT TRUE)").unwrap();
    assert_eq!(column(&mut client, warned), [""; 0]);
    for (sql, back) in [
        ("DROP POLICY hide_sealed ON app.t", create),
        (
            "ALTER POLICY hide_sealed ON app.t TO rows_owner",
            "ALTER POLICY hide_sealed ON app.t TO rows_app",
        ),
        (
            "ALTER POLICY hide_sealed ON app.t USING (true)",
            "ALTER POLICY hide_sealed ON app.t USING (NOT sealed)",
        ),
        (
            "ALTER POLICY hide_sealed ON app.t USING (NOT sealed OR NOT false)",
            "ALTER POLICY hide_sealed ON app.t USING (NOT sealed)",
        ),
    ] {
        run(&mut client, sql).unwrap();
        assert_eq!(
            column(&mut client, warned),
            ["rls_policy_missing hide_sealed on app.t"],
            "{sql}"
        );
        assert_eq!(visible(&mut client, "app.t"), "2", "{sql}");
        run(&mut client, back).unwrap();
        client
            .batch_execute(
                "SET dragonfly_guard.mode = off; DELETE FROM dragonfly_guard.log;
                 RESET dragonfly_guard.mode",
            )
            .unwrap();
    }
}

#[test]
fn declared_view_that_loses_security_invoker_is_rejected_and_reported() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    let declared = "SELECT v->>'security_invoker' FROM \
        jsonb_array_elements(ops.contract()->'views') AS v";
    assert_eq!(column(&mut client, declared), ["true"]);
    for sql in [
        "CREATE OR REPLACE VIEW app.v AS SELECT id, 1 AS n FROM app.t",
        "ALTER VIEW app.v RESET (security_invoker)",
        "ALTER VIEW app.v SET (security_invoker = off)",
        "DROP VIEW app.v; CREATE VIEW app.v AS SELECT id FROM app.t; GRANT SELECT ON app.v TO \
         rows_app",
    ] {
        let error = run(&mut client, sql).unwrap_err();
        assert!(error.starts_with("42P17"), "{sql}: {error}");
        assert_eq!(visible(&mut client, "app.v"), "1", "{sql}");
    }
    run(
        &mut client,
        "CREATE OR REPLACE VIEW app.v WITH (security_invoker) AS SELECT id, 1 AS n FROM app.t",
    )
    .unwrap();
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    run(&mut client, "ALTER VIEW app.v RESET (security_invoker)").unwrap();
    assert_eq!(visible(&mut client, "app.v"), "3");
    assert_eq!(column(&mut client, FOUND), ["error view_privileges app.v"]);
    let plan = "SELECT statement FROM ops.golden_sql() WHERE statement LIKE '%security_invoker%'";
    assert_eq!(
        column(&mut client, plan),
        ["-- Risk: the roles that read the view then need privileges on the relations that it \
          reads, and row security restricts their rows.\n-- ALTER VIEW app.v SET \
          (security_invoker = true);"]
    );
    run(&mut client, "ALTER VIEW app.v SET (security_invoker = true)").unwrap();
    assert_eq!(column(&mut client, FOUND), [""; 0]);
}

#[test]
fn table_that_becomes_a_child_of_an_open_table_is_a_warning() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    let warned = "SELECT rule || ' ' || object || ' ' || message FROM ops.v_guard_log WHERE event \
        = 'warned' ORDER BY 1";
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    run(
        &mut client,
        "CREATE TABLE app.hidden (id int); INSERT INTO app.hidden VALUES (1); CREATE TABLE \
         app.parts (id int) PARTITION BY LIST (id); ALTER TABLE app.parts ENABLE ROW LEVEL \
         SECURITY; GRANT SELECT ON app.parts TO rows_app; CREATE POLICY readable ON app.parts FOR \
         SELECT TO rows_app USING (true); CREATE TABLE app.middle (id int); ALTER TABLE app.middle \
         INHERIT app.open",
    )
    .unwrap();
    client.batch_execute("RESET dragonfly_guard.mode; TRUNCATE dragonfly_guard.log").unwrap();
    let line = |table: &str| {
        format!(
            "table_privileges app.{table} ALTER TABLE opens rows of table app.{table} to role \
             \"rows_app\""
        )
    };
    // A parent of a parent counts.
    for (change, undo) in [
        ("INHERIT app.open", "NO INHERIT app.open"),
        ("INHERIT app.middle", "NO INHERIT app.middle"),
    ] {
        run(&mut client, &format!("ALTER TABLE app.hidden {change}")).unwrap();
        assert_eq!(visible(&mut client, "app.open"), "1", "{change}");
        assert_eq!(column(&mut client, warned), [line("hidden")], "{change}");
        run(&mut client, &format!("ALTER TABLE app.hidden {undo}")).unwrap();
        client.batch_execute("TRUNCATE dragonfly_guard.log").unwrap();
    }
    run(&mut client, "ALTER TABLE app.parts ATTACH PARTITION app.hidden FOR VALUES IN (1)")
        .unwrap();
    assert_eq!(column(&mut client, warned), [line("hidden")]);
    client.batch_execute("TRUNCATE dragonfly_guard.log").unwrap();
    // A new partition opens nothing that was there before, and the rows of this one were open.
    run(&mut client, "CREATE TABLE app.new PARTITION OF app.parts FOR VALUES IN (2)").unwrap();
    run(
        &mut client,
        "ALTER TABLE app.parts DETACH PARTITION app.hidden; ALTER TABLE app.hidden INHERIT \
         app.open",
    )
    .unwrap();
    assert_eq!(column(&mut client, warned), [""; 0]);
}

#[test]
fn declared_policy_that_becomes_never_true_is_rejected_and_reported() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, INFERRED);
    let closing = [
        "ALTER POLICY own ON app.t USING (false)",
        "ALTER POLICY own ON app.t USING (1 = 2)",
        "ALTER POLICY own ON app.t USING (NOT (SELECT true) OR NULL)",
        "ALTER POLICY own ON app.t USING (false AND tenant = 'a')",
        "DROP POLICY own ON app.t; CREATE POLICY own ON app.t TO rows_app USING (false)",
        "CREATE POLICY closed ON app.t AS RESTRICTIVE FOR SELECT TO rows_app USING (false)",
        "CREATE POLICY closed ON app.t AS RESTRICTIVE USING (false)",
        "ALTER POLICY hide_sealed ON app.t USING (false)",
        "ALTER POLICY own ON app.t USING (tenant IS NULL AND tenant IS NOT NULL)",
        "ALTER POLICY own ON app.t USING (id <> id)",
        "ALTER POLICY own ON app.t USING (ctid IS NULL)",
        "ALTER POLICY own ON app.t USING (COALESCE(NULL, false))",
    ];
    for sql in closing {
        let error = run(&mut client, sql).unwrap_err();
        assert!(error.starts_with("42P17 "), "{sql}: {error}");
    }
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    run(&mut client, closing[0]).unwrap();
    assert_eq!(column(&mut client, FOUND), ["error rls_policy_missing app.t"]);
    let step = "SELECT ok::text || ' ' || detail FROM ops.explain_access('rows_app', 'app.t') \
        WHERE step LIKE 'row security%'";
    let excluded = "false Row security is enabled, and no policy allows role \"rows_app\" to \
        SELECT: every row is excluded, and no error is raised.";
    let why = "Policy own lets no row through: its condition is never true.";
    assert_eq!(column(&mut client, step), [format!("{excluded} {why}")]);
    run(&mut client, &format!("ALTER POLICY own ON app.t USING (true); {}", closing[6])).unwrap();
    let excluded = "false Row security is enabled, and a restrictive policy allows role \
        \"rows_app\" to SELECT no row: every row is excluded, and no error is raised.";
    let why = "Policy closed lets no row through: its condition is never true.";
    assert_eq!(column(&mut client, step), [format!("{excluded} {why}")]);
    let found = column(&mut client, FOUND);
    assert!(found.contains(&"error rls_policy_missing app.t".to_owned()), "{found:?}");
    // A policy that allows nothing is neither declared nor reported for a role without one.
    run(
        &mut client,
        "DROP POLICY closed ON app.t; ALTER POLICY own ON app.t USING (tenant = 'a'); CREATE \
         POLICY none ON app.open FOR INSERT TO rows_app WITH CHECK (false)",
    )
    .unwrap();
    assert_eq!(column(&mut client, FOUND), [""; 0]);
}

/// The contract declares no queries of views. What a new query reads is compared with the earlier
/// one and with what the contract permits.
#[test]
fn declared_view_that_reads_another_table_is_rejected_or_warned_about() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE rows_app; CREATE ROLE rows_login LOGIN NOINHERIT; CREATE ROLE rows_owner;
             GRANT rows_app TO rows_login; CREATE SCHEMA app AUTHORIZATION rows_owner;
             GRANT USAGE ON SCHEMA app TO rows_app; SET ROLE rows_owner;
             CREATE TABLE app.items (id int); CREATE TABLE app.open (id int);
             CREATE TABLE app.closed (id int); ALTER TABLE app.open ENABLE ROW LEVEL SECURITY;
             CREATE POLICY all_rows ON app.open FOR SELECT TO rows_app USING (id > 0);
             GRANT SELECT ON app.open TO rows_app;
             CREATE VIEW app.inner_v AS SELECT id FROM app.items;
             CREATE VIEW app.v AS SELECT id FROM app.inner_v;
             CREATE VIEW app.invoker WITH (security_invoker) AS SELECT id FROM app.open;
             CREATE VIEW app.w AS SELECT id, id AS other FROM app.items;
             GRANT SELECT ON app.v, app.w, app.invoker TO rows_app; RESET ROLE;
             CREATE EXTENSION dragonfly_guard",
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT ops.load_contract(ops.infer_contract('{app}', mode => 'as_is'));
             SET client_min_messages = error",
        )
        .unwrap();
    run(&mut client, "CREATE TABLE app.unknown (id int)").unwrap();
    let message = "shows rows of table app.unknown to role \"rows_app\"";
    for sql in [
        "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.unknown",
        "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.inner_v WHERE id IN (TABLE \
         app.unknown)",
        "CREATE OR REPLACE VIEW app.inner_v AS SELECT id FROM app.unknown",
        "CREATE VIEW app.other AS TABLE app.unknown; CREATE OR REPLACE VIEW app.inner_v AS SELECT \
         id FROM app.other",
        "DROP VIEW app.v; CREATE VIEW app.v AS SELECT id AS x FROM app.unknown; GRANT SELECT ON \
         app.v TO rows_app",
        "ALTER VIEW app.v RENAME TO old; REVOKE SELECT ON app.old FROM rows_app; CREATE VIEW app.v \
         AS TABLE app.unknown; GRANT SELECT ON app.v TO rows_app",
        "CREATE VIEW app.prepared AS TABLE app.unknown; DROP VIEW app.v; ALTER VIEW app.prepared \
         RENAME TO v; GRANT SELECT ON app.v TO rows_app",
        "SET LOCAL dragonfly_guard.check_at = commit; CREATE OR REPLACE VIEW app.v AS SELECT id \
         FROM app.unknown",
    ] {
        let error = run(&mut client, sql).unwrap_err();
        assert!(error.starts_with("42P17") && error.contains(message), "{sql}: {error}");
    }
    let warnings = |table: &str| {
        let text = format!("shows rows of table {table} to role \"rows_app\"");
        cluster.log().lines().filter(|l| l.contains("WARNING") && l.contains(&text)).count()
    };
    for sql in [
        // The client may read the table itself, or the view shows only what its caller may read.
        "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.open",
        "CREATE OR REPLACE VIEW app.invoker WITH (security_invoker) AS SELECT id FROM app.unknown",
        "CREATE OR REPLACE VIEW app.v WITH (security_invoker) AS SELECT id FROM app.unknown",
        // Nothing new is read.
        "CREATE OR REPLACE VIEW app.v AS SELECT 1 AS id",
        "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.inner_v",
        "ALTER TABLE app.items RENAME TO items_old; CREATE TABLE app.items (id int); CREATE OR \
         REPLACE VIEW app.inner_v AS SELECT id FROM app.items",
    ] {
        run(&mut client, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!((warnings("app.unknown"), warnings("app.closed")), (0, 0), "{sql}");
    }
    // Another view with the same name.
    let other = "DROP VIEW app.w; CREATE VIEW app.w AS SELECT 1 AS nothing; GRANT SELECT ON app.w \
                 TO rows_app";
    let error = run(&mut client, other).unwrap_err();
    assert!(error.starts_with("2BP01") && error.contains("replaces view app.w"), "{error}");
    run(&mut client, &format!("{other}; ALTER VIEW app.w RENAME COLUMN nothing TO id")).unwrap();
    // The contract declares the table, but not that the client may read it.
    run(&mut client, "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.closed").unwrap();
    assert_eq!(warnings("app.closed"), 1);
    client
        .batch_execute(
            "SELECT ops.exempt(rule => 'view_privileges', object => 'app.v', reason => 'reviewed')",
        )
        .unwrap();
    run(&mut client, "CREATE OR REPLACE VIEW app.v AS SELECT id FROM app.unknown").unwrap();
}

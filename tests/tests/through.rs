//! Declared views and routines access tables as their owner: what the owner can no longer read,
//! or reads without row security from now on, changes what clients see. The guard warns.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, with_reason};
use postgres::Client;

/// An application whose clients read a table only through views of an owner.
const APPLICATION: &str = "
    CREATE ROLE n_owner; CREATE ROLE n_group; CREATE ROLE n_views IN ROLE n_group;
    CREATE ROLE n_user; CREATE ROLE n_login LOGIN NOINHERIT; GRANT n_user TO n_login;
    CREATE SCHEMA app AUTHORIZATION n_owner; CREATE SCHEMA api AUTHORIZATION n_owner;
    GRANT USAGE ON SCHEMA api TO n_user, n_views; GRANT CREATE ON SCHEMA api TO n_views;
    GRANT USAGE ON SCHEMA app TO n_views;
    SET ROLE n_owner;
    CREATE TABLE app.c (id int, login text); ALTER TABLE app.c ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.c TO n_views USING (id = 1); INSERT INTO app.c VALUES (1), (2);
    GRANT SELECT ON app.c TO n_group;
    CREATE TABLE app.o (id int); ALTER TABLE app.o ENABLE ROW LEVEL SECURITY;
    CREATE VIEW api.of_owner AS SELECT id FROM app.c; GRANT SELECT ON api.of_owner TO n_user;
    CREATE FUNCTION api.counted() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT count(id) FROM app.c; END;
    REVOKE ALL ON FUNCTION api.counted() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION api.counted() TO n_user;
    SET ROLE n_views;
    CREATE VIEW api.shared AS SELECT id FROM app.c; GRANT SELECT ON api.shared TO n_user;
    RESET ROLE;";

const CONTRACT: &str = "SELECT ops.load_contract(jsonb_set(ops.infer_contract('{app,api}'), \
                        '{version}', '\"1.0.1\"'))";

/// Hardened mode, in which sessions write the log themselves.
const HARDENED: &[&str] = &["session_preload_libraries=dragonfly_guard"];

fn application(settings: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start_with(settings);
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    for sql in [APPLICATION, "CREATE EXTENSION dragonfly_guard", CONTRACT] {
        client.batch_execute(sql).unwrap();
    }
    (cluster, client)
}

/// Executes statements, which must pass, and returns the messages and HINTs of the warnings.
fn warnings(client: &mut Client, sql: &str) -> Vec<String> {
    client.batch_execute("TRUNCATE dragonfly_guard.log").unwrap();
    attempt(client, sql).unwrap_or_else(|rejected| panic!("{sql}: {rejected:?}"));
    column(client, "SELECT message FROM ops.v_guard_log WHERE event = 'warned' ORDER BY message")
}

/// Returns how many rows a view shows to a client; -1 where it is denied.
fn rows(client: &mut Client, view: &str) -> String {
    client.batch_execute("BEGIN; SET LOCAL ROLE n_user").unwrap();
    let is_allowed = attempt(client, &format!("SAVEPOINT s; SELECT * FROM {view}")).is_ok();
    client.batch_execute("ROLLBACK TO s").unwrap();
    let count = format!("SELECT count(*)::text FROM {view}");
    let count = if is_allowed { column(client, &count).remove(0) } else { "-1".to_owned() };
    client.batch_execute("ROLLBACK").unwrap();
    count
}

#[test]
fn owner_that_loses_what_its_view_reads_is_a_warning() {
    let (_cluster, mut client) = application(HARDENED);
    assert_eq!(rows(&mut client, "api.of_owner"), "2");
    let revoke = "SET ROLE n_owner; REVOKE ALL ON app.c FROM n_owner; RESET ROLE";
    assert_eq!(
        warnings(&mut client, revoke),
        [
            "REVOKE ends access of role \"n_user\" through function api.counted()",
            "REVOKE ends access of role \"n_user\" through view api.of_owner"
        ]
    );
    assert_eq!(rows(&mut client, "api.of_owner"), "-1");
    assert_eq!(warnings(&mut client, "GRANT ALL ON app.c TO n_owner"), [""; 0]);
    let ended = ["REVOKE ROLE", "REVOKE", "DROP OWNED"]
        .map(|tag| format!("{tag} ends access of role \"n_user\" through view api.shared"));
    // Through a membership, and by the privilege of a group.
    assert_eq!(warnings(&mut client, "REVOKE n_group FROM n_views"), ended[..1]);
    assert_eq!(rows(&mut client, "api.shared"), "-1");
    client.batch_execute("GRANT n_group TO n_views").unwrap();
    assert_eq!(warnings(&mut client, "REVOKE SELECT ON app.c FROM n_group"), ended[1..2]);
    // The contract does not declare the group.
    let restore = "SET dragonfly_guard.mode = off; GRANT SELECT ON app.c TO n_group;
                   RESET dragonfly_guard.mode";
    client.batch_execute(restore).unwrap();
    assert_eq!(warnings(&mut client, "DROP OWNED BY n_group"), ended[2..]);
    // It is granted in the same transaction, and a column is enough.
    client.batch_execute(restore).unwrap();
    let again = "BEGIN; REVOKE SELECT ON app.c FROM n_group; GRANT SELECT (id) ON app.c TO \
                 n_views; COMMIT";
    assert_eq!(warnings(&mut client, again), [""; 0]);
    assert_eq!(rows(&mut client, "api.shared"), "1");
}

#[test]
fn view_that_is_checked_as_its_callers_ends_access_that_they_have_through_it() {
    let (_cluster, mut client) = application(&[]);
    let wider = "CREATE OR REPLACE VIEW api.of_owner AS SELECT id, (SELECT count(*) FROM app.o) AS \
                 n FROM app.c";
    assert_eq!(
        warnings(&mut client, &format!("SET ROLE n_owner; {wider}; RESET ROLE")),
        ["CREATE VIEW shows rows of table app.o to role \"n_user\""]
    );
    let invoker = "ALTER VIEW api.of_owner SET (security_invoker = true)";
    let ended = "ALTER VIEW ends access of role \"n_user\" through view api.of_owner";
    assert_eq!(warnings(&mut client, invoker), [ended; 2]);
    assert_eq!(rows(&mut client, "api.of_owner"), "-1");
    attempt(&mut client, "ALTER VIEW api.of_owner SET (security_invoker = false)").unwrap();
    assert_eq!(rows(&mut client, "api.of_owner"), "2");
}

#[test]
fn write_that_a_view_never_allowed_does_not_end_and_what_ends_is_granted_again() {
    let (cluster, mut client) = application(&[]);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE TABLE app.d (id int, c int); GRANT USAGE ON SCHEMA app TO n_user;
             GRANT SELECT, INSERT, DELETE ON app.c, app.d TO n_user;
             CREATE VIEW api.joined WITH (security_invoker) AS
                 SELECT d.id, c.login FROM app.d JOIN app.c ON c.id = d.c;
             CREATE VIEW api.plain WITH (security_invoker) AS SELECT id, c FROM app.d;
             CREATE VIEW api.ruled WITH (security_invoker) AS SELECT d.id FROM app.d, app.c;
             CREATE RULE add AS ON INSERT TO api.ruled
                 DO INSTEAD INSERT INTO app.d VALUES (NEW.id);
             GRANT SELECT, INSERT, DELETE ON api.joined, api.plain, api.ruled TO n_user;
             RESET dragonfly_guard.mode;
             SELECT ops.load_contract(jsonb_set(ops.infer_contract('{app,api}', 'as_is'),
                                      '{version}', '\"1.0.2\"'))",
        )
        .unwrap();
    let revoke = "REVOKE INSERT, DELETE ON app.d FROM n_user";
    let ended = "REVOKE ends access of role \"n_user\" through view api.plain";
    let found = warnings(&mut client, revoke);
    assert!(found.contains(&ended.to_owned()), "{found:?}");
    assert!(!found.iter().any(|message| message.contains("api.joined")), "{found:?}");
    // A rule that replaces INSERT on a view which cannot be updated writes the table.
    assert!(found.contains(&ended.replace("plain", "ruled")), "{found:?}");
    attempt(&mut client, "GRANT INSERT, DELETE ON app.d TO n_user").unwrap();
    let said = cluster.client_program("psql", &["-X", "-q", "-d", "app", "-c", revoke]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let again = "GRANT INSERT, DELETE ON TABLE app.d TO n_user;";
    assert!(said.contains(&format!("If this is not intended, run: {again}")), "{said}");
    assert_eq!(warnings(&mut client, again), [""; 0]);
}

#[test]
fn row_security_that_hides_or_shows_the_rows_of_a_view_is_a_warning() {
    let (_cluster, mut client) = application(HARDENED);
    let hidden = |tag: &str, way: &str| {
        format!("{tag} hides rows of table app.c from role \"n_user\" in {way}")
    };
    let shown = |tag: &str, way: &str| {
        format!("{tag} shows rows of table app.c to role \"n_user\" through {way}")
    };
    let [of_owner, shared] = ["view api.of_owner", "view api.shared"];
    let forced = warnings(&mut client, "ALTER TABLE app.c FORCE ROW LEVEL SECURITY");
    let counted = hidden("ALTER TABLE", "function api.counted()");
    assert_eq!(forced, [counted, hidden("ALTER TABLE", of_owner)]);
    assert_eq!(rows(&mut client, "api.of_owner"), "0");
    let to_root = format!("ALTER VIEW api.of_owner OWNER TO {SUPERUSER}");
    assert_eq!(warnings(&mut client, &to_root), [shown("ALTER VIEW", of_owner)]);
    assert_eq!(rows(&mut client, "api.of_owner"), "2");
    // The table was read by policy.
    assert_eq!(rows(&mut client, "api.shared"), "1");
    for (sql, tag, back) in [
        ("ALTER ROLE n_views BYPASSRLS", "ALTER ROLE", "ALTER ROLE n_views NOBYPASSRLS"),
        (
            "ALTER TABLE app.c NO FORCE ROW LEVEL SECURITY; GRANT n_owner TO n_views",
            "COMMIT",
            "REVOKE n_owner FROM n_views; ALTER TABLE app.c FORCE ROW LEVEL SECURITY",
        ),
    ] {
        let found = warnings(&mut client, sql);
        assert!(found.contains(&shown(tag, shared)), "{sql}: {found:?}");
        assert_eq!(rows(&mut client, "api.shared"), "2", "{sql}");
        attempt(&mut client, back).unwrap();
        assert_eq!(rows(&mut client, "api.shared"), "1", "{back}");
    }
    let dropped = warnings(&mut client, "DROP POLICY own ON app.c");
    assert_eq!(dropped, [hidden("DROP POLICY", shared)]);
}

#[test]
fn declared_view_that_loses_an_option_is_a_warning_for_the_clients_that_depend_on_it() {
    let (_cluster, mut client) = application(HARDENED);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT UPDATE ON api.of_owner TO n_user;
             CREATE OR REPLACE VIEW api.of_owner WITH (security_barrier) AS
                 SELECT id FROM app.c WHERE id < 3 WITH CHECK OPTION;
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    let lost = |tag: &str, option: &str| {
        format!("{tag} removes {option} from view api.of_owner, which role \"n_user\" can use")
    };
    let replace = "CREATE OR REPLACE VIEW api.of_owner AS SELECT id FROM app.c WHERE id < 3";
    assert_eq!(
        warnings(&mut client, replace),
        [lost("CREATE VIEW", "WITH CHECK OPTION"), lost("CREATE VIEW", "security_barrier")]
    );
    for option in ["security_barrier = true", "check_option = cascaded"] {
        let restore = format!("ALTER VIEW api.of_owner SET ({option});");
        assert_eq!(warnings(&mut client, &restore), [""; 0], "{restore}");
    }
    for (option, name) in
        [("security_barrier", "security_barrier"), ("check_option", "WITH CHECK OPTION")]
    {
        let reset = format!("ALTER VIEW api.of_owner RESET ({option})");
        assert_eq!(warnings(&mut client, &reset), [lost("ALTER VIEW", name)]);
    }
}

#[test]
fn view_whose_writes_nothing_replaces_any_longer_is_a_warning() {
    let (_cluster, mut client) = application(HARDENED);
    let create = "CREATE TRIGGER t INSTEAD OF UPDATE ON api.of_owner FOR EACH ROW
                      EXECUTE FUNCTION app.checked()";
    let rule = "CREATE RULE r AS ON DELETE TO api.of_owner DO INSTEAD NOTHING";
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; GRANT UPDATE, DELETE ON api.of_owner TO n_user;
             CREATE FUNCTION app.checked() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN RAISE ''not allowed''; END';
             REVOKE ALL ON FUNCTION app.checked() FROM PUBLIC;
             {create}; {rule};
             CREATE VIEW api.counted AS SELECT count(*) AS id FROM app.c;
             GRANT UPDATE ON api.counted TO n_user; RESET dragonfly_guard.mode; {}",
            CONTRACT.replace("1.0.1", "1.0.2").replace(
                "infer_contract('{app,api}')",
                "infer_contract('{app,api}', mode => 'as_is')"
            )
        ))
        .unwrap();
    let lets = |tag: &str, view: &str| {
        [format!("{tag} lets role \"n_user\" change table app.c through view {view}")]
    };
    let of_owner = "api.of_owner";
    assert_eq!(
        warnings(&mut client, "DROP TRIGGER t ON api.of_owner"),
        lets("DROP TRIGGER", of_owner)
    );
    assert_eq!(warnings(&mut client, create), [""; 0]);
    let again = format!("BEGIN; DROP TRIGGER t ON api.of_owner; {create}; COMMIT");
    assert_eq!(warnings(&mut client, &again), [""; 0], "it is there again at commit");
    assert_eq!(warnings(&mut client, "DROP RULE r ON api.of_owner"), lets("DROP RULE", of_owner));
    let updatable = "CREATE OR REPLACE VIEW api.counted AS SELECT id::bigint AS id, id AS plain
                         FROM app.c";
    assert_eq!(warnings(&mut client, updatable), lets("CREATE VIEW", "api.counted"));
}

#[test]
fn table_that_a_view_shows_through_a_new_parent_is_a_warning() {
    let (_cluster, mut client) = application(HARDENED);
    client
        .batch_execute(
            "SET ROLE n_owner;
             CREATE TABLE app.pay (id int, login text);
             CREATE TABLE app.days (id int) PARTITION BY RANGE (id);
             CREATE TABLE app.day (id int); RESET ROLE;
             SET dragonfly_guard.mode = off; CREATE VIEW api.days AS SELECT id FROM app.days;
             ALTER VIEW api.days OWNER TO n_owner; GRANT SELECT ON api.days TO n_user;
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    client.batch_execute(&CONTRACT.replace("1.0.1", "1.0.2")).unwrap();
    let shows =
        |table: &str| [format!("ALTER TABLE shows rows of table {table} to role \"n_user\"")];
    assert_eq!(
        warnings(&mut client, "ALTER TABLE app.pay INHERIT app.c"),
        [shows("app.pay"), shows("app.pay")].concat(),
        "two views show it"
    );
    let attach = "ALTER TABLE app.days ATTACH PARTITION app.day FOR VALUES FROM (1) TO (9)";
    assert_eq!(warnings(&mut client, attach), shows("app.day"));
    let new = "CREATE TABLE app.next PARTITION OF app.days FOR VALUES FROM (10) TO (19)";
    assert_eq!(warnings(&mut client, new), [""; 0], "a new partition has no rows");
}

#[test]
fn undeclared_view_that_shows_another_table_than_before_is_a_warning() {
    let (_cluster, mut client) = application(HARDENED);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE VIEW api.old AS SELECT 1 AS id;
             ALTER VIEW api.old OWNER TO n_owner; GRANT SELECT ON api.old TO n_user;
             CREATE VIEW api.closed AS SELECT 1 AS id; RESET dragonfly_guard.mode",
        )
        .unwrap();
    let shows = ["CREATE VIEW shows rows of table app.o to role \"n_user\""];
    let replace = |view: &str| format!("CREATE OR REPLACE VIEW {view} AS SELECT id FROM app.o");
    assert_eq!(warnings(&mut client, &replace("api.old")), shows);
    assert_eq!(warnings(&mut client, &replace("api.closed")), [""; 0], "clients cannot read it");
    let again = "BEGIN; DROP VIEW api.old; CREATE VIEW api.old AS SELECT id FROM app.c;
                 ALTER VIEW api.old OWNER TO n_owner; GRANT SELECT ON api.old TO n_user; COMMIT";
    let messages = warnings(&mut client, again);
    assert_eq!(messages, ["COMMIT shows rows of table app.c to role \"n_user\""]);
}

#[test]
fn declared_view_that_shows_a_table_of_a_schema_that_is_not_governed_is_rejected() {
    let (_cluster, mut client) = application(HARDENED);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE SCHEMA auth AUTHORIZATION n_owner;
             CREATE TABLE auth.users (id int, email text); ALTER TABLE auth.users OWNER TO n_owner;
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    let replace = "CREATE OR REPLACE VIEW api.of_owner AS
                   SELECT c.id FROM app.c JOIN auth.users USING (id)";
    let rejected = attempt(&mut client, replace).expect_err("it shows addresses");
    assert_eq!(rejected.code, "42P17", "{rejected:?}");
    let shows = "CREATE VIEW shows rows of table auth.users to role \"n_user\"";
    assert_eq!(rejected.message, shows);
    let exempt = "If this is intended, exempt it first: SELECT ops.exempt(";
    assert!(rejected.hint.starts_with(exempt), "{}", rejected.hint);
    let call = rejected.hint.split_once("first: ").unwrap().1.split_once(';').unwrap().0;
    client.batch_execute(&with_reason(&format!("{call};"))).unwrap();
    assert_eq!(warnings(&mut client, replace), [""; 0]);
}

//! Privileges on columns and tables that are declared without row security: what a role can do
//! before and after a plan, with real statements.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

/// A table with one row, of which a client may read all columns of its own row and change one, and
/// a table without row security that it may read.
const DATABASE: &str = "
    CREATE ROLE owner_role; CREATE ROLE app_user; CREATE ROLE job_worker LOGIN;
    CREATE SCHEMA app AUTHORIZATION owner_role;
    SET ROLE owner_role;
    CREATE TABLE app.users (id int PRIMARY KEY, name text, is_admin boolean DEFAULT false);
    ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.users TO app_user USING (id = 1);
    CREATE POLICY worker ON app.users TO job_worker USING (id > 0);
    CREATE TABLE app.zips (id int, note text);
    GRANT USAGE ON SCHEMA app TO app_user, job_worker;
    INSERT INTO app.users VALUES (1, 'one'); INSERT INTO app.zips VALUES (1);
    RESET ROLE;
    CREATE EXTENSION dragonfly_guard;
    SET dragonfly_guard.mode = off;";

/// The contract, in which app_user may change app.users.name and nothing else.
const CONTRACT: &str = r#"{
    "name": "columns", "version": "1.0.1",
    "roles": [{"name": "app_user", "kind": "client"}, {"name": "job_worker", "kind": "worker"},
              {"name": "owner_role", "kind": "owner"}],
    "trusted_roles": ["owner_role"],
    "schemas": [{"name": "app", "usage": ["app_user", "job_worker"]}],
    "tables": [
        {"schema": "app", "name": "users", "row_security": true,
         "grants": {"app_user": ["SELECT"]},
         "column_grants": {"app_user": {"UPDATE": ["name"]}, "job_worker": {"SELECT": ["id"]}},
         "policies": {"app_user": ["ALL"], "job_worker": ["ALL"]}},
        {"schema": "app", "name": "zips", "grants": {"app_user": ["SELECT"]}}],
    "security_definer": {"search_path": ["pg_catalog", "pg_temp"]}}"#;

/// Findings other than information.
const FOUND: &str = "SELECT concat_ws(' ', severity, rule, object, role_name) FROM \
                     ops.audit_security(min_severity => 'warning') WHERE object LIKE 'app.%' \
                     ORDER BY 1";
const APPLY: &str = "SELECT * FROM ops.apply_golden_sql(dry_run => false)";

fn load(client: &mut Client, contract: &str) {
    let contract = contract.replace('\'', "''");
    client.batch_execute(&format!("SELECT ops.load_contract('{contract}'::jsonb)")).unwrap();
}

/// A database with the grants `grants` under [`CONTRACT`].
fn database(grants: &str) -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut root = cluster.connect("postgres", dragonfly_tests::SUPERUSER);
    root.batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", dragonfly_tests::SUPERUSER);
    client.batch_execute(&format!("{DATABASE} {grants}")).unwrap();
    load(&mut client, CONTRACT);
    (cluster, client)
}

/// Whether a role can run a statement, in a transaction that is rolled back.
fn can(client: &mut Client, role: &str, statement: &str) -> bool {
    client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}")).unwrap();
    let done = attempt(client, statement).is_ok();
    client.batch_execute("ROLLBACK").unwrap();
    done
}

/// What app_user can do with app.users: read it, change the name, change is_admin; and whether
/// job_worker can read the ids and the names.
fn abilities(client: &mut Client) -> [bool; 5] {
    [
        can(client, "app_user", "SELECT * FROM app.users"),
        can(client, "app_user", "UPDATE app.users SET name = 'two' WHERE id = 1"),
        can(client, "app_user", "UPDATE app.users SET is_admin = true WHERE id = 1"),
        can(client, "job_worker", "SELECT id FROM app.users"),
        can(client, "job_worker", "SELECT name FROM app.users"),
    ]
}

const DECLARED: [bool; 5] = [true, true, false, true, false];

#[test]
fn declared_column_grant_is_no_finding_and_works_for_doctor_and_explain_access() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker; GRANT SELECT ON app.zips TO app_user;",
    );
    assert_eq!(column(&mut client, FOUND), ["warning rls_disabled app.zips"]);
    assert_eq!(abilities(&mut client), DECLARED);
    client.batch_execute(APPLY).unwrap();
    assert_eq!(abilities(&mut client), DECLARED);
    let doctor = "SELECT concat_ws(' ', ok, detail) FROM ops.doctor() WHERE object = 'app.users'";
    assert_eq!(
        column(&mut client, doctor),
        ["t Exists, with row security, for \"app_user\" and \"job_worker\"."]
    );
    for (role, object, privilege, expected) in [
        ("app_user", "app.users(name)", "UPDATE", "t t"),
        ("app_user", "app.users(is_admin)", "UPDATE", "f t"),
        ("app_user", "app.users", "UPDATE", "f t"),
        ("job_worker", "app.users(id)", "SELECT", "t t"),
        ("job_worker", "app.users", "SELECT", "f t"),
    ] {
        let links = format!(
            "SELECT string_agg(CASE WHEN ok THEN 't' ELSE 'f' END, ' ' ORDER BY step DESC)
               FROM ops.explain_access('{role}', '{object}', '{privilege}')
              WHERE step IN ('verdict', 'contract')"
        );
        assert_eq!(column(&mut client, &links), [expected], "{role} {privilege} {object}");
    }
}

#[test]
fn plan_grants_missing_columns_and_revokes_others() {
    let (_cluster, mut client) =
        database("GRANT SELECT, UPDATE (is_admin), UPDATE (id) ON app.users TO app_user;");
    assert_eq!(abilities(&mut client), [true, false, true, false, false]);
    client.batch_execute(APPLY).unwrap();
    assert_eq!(abilities(&mut client), DECLARED);
    assert_eq!(column(&mut client, FOUND), ["warning rls_disabled app.zips"]);
}

/// REVOKE on a table takes the privileges on its columns away as well.
#[test]
fn plan_that_revokes_a_table_privilege_keeps_the_declared_columns() {
    for grants in [
        "GRANT SELECT, UPDATE ON app.users TO app_user; GRANT SELECT ON app.users TO job_worker;",
        "GRANT SELECT, UPDATE, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT, SELECT (id) ON app.users TO job_worker;",
        "GRANT SELECT ON app.users TO app_user; GRANT UPDATE ON app.users TO PUBLIC;",
        "GRANT SELECT ON app.users TO app_user;
         GRANT UPDATE (name, is_admin), SELECT (id) ON app.users TO PUBLIC;",
        "CREATE ROLE staff; GRANT staff TO app_user, job_worker;
         GRANT SELECT, UPDATE ON app.users TO staff;",
    ] {
        let (_cluster, mut client) = database(grants);
        client.batch_execute(APPLY).unwrap();
        assert_eq!(abilities(&mut client), DECLARED, "{grants}");
        assert_eq!(column(&mut client, FOUND), ["warning rls_disabled app.zips"], "{grants}");
        let again = "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) <> '-- '";
        assert_eq!(column(&mut client, again), [""; 0], "{grants}");
    }
}

#[test]
fn plan_does_not_widen_a_column_grant_to_a_declared_table_privilege() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker;",
    );
    let wider = CONTRACT.replace("1.0.1", "1.0.2").replace(
        r#""app_user": ["SELECT"]},
         "column_grants": {"app_user": {"UPDATE": ["name"]}, "#,
        r#""app_user": ["SELECT", "UPDATE"]},
         "column_grants": {"#,
    );
    load(&mut client, &wider);
    assert_eq!(
        column(&mut client, FOUND),
        ["error table_privileges app.zips app_user", "warning table_privileges app.users app_user"]
    );
    client.batch_execute(APPLY).unwrap();
    assert_eq!(abilities(&mut client), DECLARED);
    let doctor = "SELECT ok::text FROM ops.doctor() WHERE object = 'app.users'";
    assert_eq!(column(&mut client, doctor), ["true"]);
}

#[test]
fn dropping_a_declared_column_is_rejected() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker; GRANT SELECT ON app.zips TO app_user;",
    );
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    // The privilege on a renamed column would be one on a column that is not declared.
    for (statement, rule) in [
        ("ALTER TABLE app.users DROP COLUMN name", "required_object_missing"),
        ("ALTER TABLE app.users RENAME COLUMN name TO label", "column_privileges"),
    ] {
        let error = attempt(&mut client, statement).unwrap_err();
        assert!(error.detail.contains(&format!("Rule {rule},")), "{error:?}");
    }
    attempt(&mut client, "ALTER TABLE app.users DROP COLUMN is_admin").unwrap();
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE app.users RENAME COLUMN name TO label",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, FOUND),
        [
            "error column_privileges app.users app_user",
            "error required_object_missing app.users.name",
            "warning rls_disabled app.zips"
        ]
    );
    let doctor = "SELECT detail FROM ops.doctor() WHERE object = 'app.users'";
    assert_eq!(
        column(&mut client, doctor),
        ["Column \"name\", on which the contract declares privileges, does not exist."]
    );
}

#[test]
fn inferred_contract_declares_column_grants() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id), INSERT (id, name) ON app.users TO job_worker;",
    );
    assert_eq!(
        column(
            &mut client,
            "SELECT jsonb_path_query(ops.infer_contract('{app}'), '$.tables[*].column_grants')
               ::text"
        ),
        ["{\"app_user\": {\"UPDATE\": [\"name\"]}, \"job_worker\": {\"INSERT\": [\"id\", \
             \"name\"], \"SELECT\": [\"id\"]}}"]
    );
    let found = "SELECT rule FROM ops.audit_contract(ops.infer_contract('{app}')) \
                 WHERE severity <> 'info' AND object LIKE 'app.%'";
    assert_eq!(column(&mut client, found), [""; 0]);
}

#[test]
fn table_declared_without_row_security_passes_the_guard_and_keeps_its_rows() {
    let (_cluster, mut client) = database("GRANT SELECT ON app.zips TO app_user;");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = block;
             DROP TABLE IF EXISTS app.nothing;
             BEGIN; ALTER TABLE app.zips RENAME TO zips_old; CREATE TABLE app.zips (id int);
             GRANT SELECT ON app.zips TO app_user; REVOKE ALL ON app.zips_old FROM app_user;
             INSERT INTO app.zips SELECT id FROM app.zips_old; COMMIT",
        )
        .unwrap();
    client.batch_execute(APPLY).unwrap();
    assert!(can(&mut client, "app_user", "SELECT 1 / count(*) FROM app.zips"));
    let error = attempt(&mut client, "GRANT SELECT ON app.zips_old TO app_user").unwrap_err();
    assert!(error.message.contains("violates the security contract"), "{}", error.message);
}

#[test]
fn row_security_is_enabled_only_where_policies_admit_the_declared_roles() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker; GRANT SELECT ON app.zips TO app_user;
         ALTER TABLE app.users DISABLE ROW LEVEL SECURITY; DROP POLICY worker ON app.users;",
    );
    let statement = "SELECT statement FROM ops.golden_sql(rules => '{rls_disabled}') WHERE \
                     object = 'app.users'";
    assert_eq!(
        column(&mut client, statement),
        ["-- No policy on table app.users admits role \"job_worker\" (SELECT).\n\
          -- Run in one transaction:\n\
          -- CREATE POLICY \"job_worker select\" ON app.users FOR SELECT TO job_worker \
          USING (...);\n\
          -- ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;"]
    );
    client.batch_execute(APPLY).unwrap();
    assert!(can(&mut client, "job_worker", "SELECT 1 / count(id) FROM app.users"));
    client.batch_execute("CREATE POLICY worker ON app.users TO job_worker USING (id > 0)").unwrap();
    assert_eq!(
        column(&mut client, statement),
        ["ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;"]
    );
    client.batch_execute(APPLY).unwrap();
    assert_eq!(abilities(&mut client), DECLARED);
    assert!(can(&mut client, "job_worker", "SELECT 1 / count(id) FROM app.users"));
}

#[test]
fn policy_is_dropped_only_where_no_declared_privilege_needs_it() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker; GRANT SELECT ON app.zips TO app_user;",
    );
    let without_policies = CONTRACT
        .replace("1.0.1", "1.0.2")
        .replace(r#"{"app_user": ["ALL"], "job_worker": ["ALL"]}"#, r#"{"job_worker": ["ALL"]}"#);
    load(&mut client, &without_policies);
    client.batch_execute(APPLY).unwrap();
    assert!(can(&mut client, "app_user", "SELECT 1 / count(*) FROM app.users"));
    assert_eq!(abilities(&mut client), DECLARED);
}

#[test]
fn column_that_takes_the_name_of_a_declared_one_is_checked_at_commit() {
    let (_cluster, mut client) = database(
        "GRANT SELECT, UPDATE (name) ON app.users TO app_user;
         GRANT SELECT (id) ON app.users TO job_worker; GRANT SELECT ON app.zips TO app_user;",
    );
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    let swap = "BEGIN; ALTER TABLE app.users ADD COLUMN name_new varchar(80);
                ALTER TABLE app.users RENAME COLUMN name TO name_old;
                ALTER TABLE app.users RENAME COLUMN name_new TO name;
                GRANT UPDATE (name) ON app.users TO app_user;";
    let rejected = attempt(&mut client, &format!("{swap} COMMIT")).unwrap_err();
    assert_eq!(
        rejected.detail.lines().next(),
        Some(
            "The cause of one violation is that column \"name\" of table app.users has become \
             column \"name_old\" of table app.users: the privileges that the contract declares \
             for column \"name\" have stayed on it."
        ),
        "{rejected:?}"
    );
    let (_, revoke) = rejected.hint.split_once("in the same transaction:").expect(&rejected.hint);
    let again = format!("{swap} {revoke} COMMIT");
    attempt(&mut client, "ROLLBACK").unwrap();
    attempt(&mut client, &again).unwrap();
    attempt(&mut client, "ALTER TABLE app.users DROP COLUMN name_old").unwrap();
    let others = "BEGIN; ALTER TABLE app.users DROP COLUMN name;
                  ALTER TABLE app.users ADD COLUMN name text;
                  GRANT UPDATE (name) ON app.users TO app_user; COMMIT;
                  BEGIN; ALTER TABLE app.users RENAME COLUMN name TO n;
                  ALTER TABLE app.users RENAME COLUMN n TO name; COMMIT";
    attempt(&mut client, others).unwrap();
    assert_eq!(column(&mut client, FOUND), ["warning rls_disabled app.zips"]);
    assert_eq!(abilities(&mut client), [true, true, false, true, false]);
}

//! Privileges of clients on objects of the server: those that initdb creates, and those that belong
//! to no schema.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

const RULE: &str = "server_object_privileges";

/// Grants with the object and the role of the finding. Those of the second list fire no event
/// trigger.
const GRANTS: &[(&str, &str)] = &[
    ("SELECT ON pg_authid TO anon", "pg_catalog.pg_authid anon"),
    ("SELECT ON pg_statistic, pg_proc TO authenticated", "pg_catalog.pg_statistic authenticated"),
    ("SELECT (rolpassword) ON pg_authid TO anon", "pg_catalog.pg_authid.rolpassword anon"),
    ("SELECT (rolpassword) ON pg_authid TO PUBLIC", "pg_catalog.pg_authid.rolpassword PUBLIC"),
    ("INSERT ON information_schema.sql_features TO anon", "information_schema.sql_features anon"),
    (
        "EXECUTE ON FUNCTION pg_read_file(text), lower(text) TO anon",
        "pg_catalog.pg_read_file(pg_catalog.text) anon",
    ),
    (
        "EXECUTE ON FUNCTION lo_import(text) TO PUBLIC",
        "pg_catalog.lo_import(pg_catalog.text) PUBLIC",
    ),
    ("EXECUTE ON FUNCTION pg_ls_dir(text) TO team", "pg_catalog.pg_ls_dir(pg_catalog.text) team"),
    ("USAGE ON LANGUAGE sql TO anon WITH GRANT OPTION", "sql anon"),
    ("USAGE ON FOREIGN DATA WRAPPER files TO anon", "files anon"),
    ("USAGE ON FOREIGN SERVER remote TO authenticated", "remote authenticated"),
    ("SELECT ON LARGE OBJECT 4711 TO anon", "4711 anon"),
];
const GRANTS_WITHOUT_EVENT: &[(&str, &str)] = &[
    ("CREATE ON TABLESPACE pg_default TO anon", "pg_default anon"),
    ("ALTER SYSTEM ON PARAMETER archive_command TO anon", "archive_command anon"),
    ("SET ON PARAMETER log_statement TO PUBLIC", "log_statement PUBLIC"),
];

fn database(settings: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start_with(settings);
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE team; ALTER ROLE anon NOINHERIT; GRANT \
             team TO anon; CREATE FOREIGN DATA WRAPPER files; CREATE SERVER remote FOREIGN DATA \
             WRAPPER files; SELECT lo_create(4711); RESET dragonfly_guard.mode",
        )
        .unwrap();
    (cluster, client)
}

fn findings(client: &mut Client) -> Vec<String> {
    column(
        client,
        &format!(
            "SELECT concat_ws(' ', object, role_name) FROM ops.audit_security('{{{RULE}}}') \
             ORDER BY object COLLATE \"C\""
        ),
    )
}

#[test]
fn new_database_has_no_finding() {
    let (_cluster, mut client) = database(&[]);
    client.batch_execute("SET dragonfly_guard.mode = off; CREATE EXTENSION IF NOT EXISTS lo").ok();
    assert_eq!(findings(&mut client), [""; 0]);
}

#[test]
fn grant_on_an_object_of_the_server_is_rejected_found_and_fixed() {
    for (settings, grants) in [
        (&[][..], vec![GRANTS]),
        (&["shared_preload_libraries=dragonfly_guard"][..], vec![GRANTS, GRANTS_WITHOUT_EVENT]),
    ] {
        let (_cluster, mut client) = database(settings);
        for (grant, found) in grants.concat() {
            let rejected = attempt(&mut client, &format!("GRANT {grant}"))
                .expect_err(&format!("{settings:?}: {grant}"));
            assert_eq!(rejected.code, "0LP01", "{grant}: {rejected:?}");
            let object = found.rsplit_once(' ').unwrap().0;
            assert!(rejected.message.contains(object), "{grant}: {rejected:?}");
            client
                .batch_execute(&format!(
                    "SET dragonfly_guard.mode = off; GRANT {grant}; RESET dragonfly_guard.mode"
                ))
                .unwrap();
            let now = findings(&mut client);
            assert!(now.contains(&found.to_owned()), "{grant}: {now:?}");
            // What is there already does not block other statements.
            client.batch_execute("CREATE SCHEMA other; DROP SCHEMA other").unwrap();
            let fixes =
                column(&mut client, &format!("SELECT fix FROM ops.audit_security('{{{RULE}}}')"));
            fixes.iter().for_each(|fix| client.batch_execute(fix).unwrap());
            assert_eq!(findings(&mut client), [""; 0], "{grant}: {fixes:?}");
        }
    }
}

#[test]
fn plan_revokes_privileges_on_objects_of_the_server_and_can_be_undone() {
    let (_cluster, mut client) = database(&[]);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let all = [GRANTS, GRANTS_WITHOUT_EVENT].concat();
    for (grant, _) in &all {
        client.batch_execute(&format!("GRANT {grant}")).unwrap();
    }
    client.batch_execute("RESET dragonfly_guard.mode").unwrap();
    let before = findings(&mut client);
    assert!(before.len() >= all.len(), "{before:?}");
    let plan = format!("FROM ops.golden_sql(rules => '{{{RULE}}}')");
    let undo = column(&mut client, &format!("SELECT undo {plan} ORDER BY step DESC"));
    let sql = column(&mut client, &format!("SELECT statement {plan} ORDER BY step"));
    sql.iter().for_each(|sql| client.batch_execute(sql).unwrap());
    assert_eq!(findings(&mut client), [""; 0], "{sql:?}");
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    undo.iter().for_each(|sql| client.batch_execute(sql).unwrap());
    assert_eq!(findings(&mut client), before);
}

#[test]
fn default_privilege_on_large_objects_is_rejected_found_fixed_and_compared() {
    let (_cluster, mut client) = database(&[]);
    let version = "SELECT current_setting('server_version_num')::int";
    // Earlier versions have no default privileges on large objects.
    if client.query_one(version, &[]).unwrap().get::<_, i32>(0) < 180_000 {
        return;
    }
    let audited = "SELECT concat_ws(' ', object, role_name) FROM \
                   ops.audit_security('{default_privileges}')";
    let before = column(&mut client, audited);
    for (grant, grantee) in [
        ("SELECT ON LARGE OBJECTS TO anon", "anon"),
        ("UPDATE ON LARGE OBJECTS TO authenticated WITH GRANT OPTION", "authenticated"),
        ("ALL ON LARGE OBJECTS TO PUBLIC", "PUBLIC"),
    ] {
        let grant = format!("ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT {grant}");
        client.batch_execute("SELECT ops.freeze_schema('lo', replace => true)").unwrap();
        let rejected = attempt(&mut client, &grant).expect_err(&grant);
        assert!(rejected.detail.contains("on new large objects"), "{grant}: {rejected:?}");
        client
            .batch_execute(&format!(
                "SET dragonfly_guard.mode = off; {grant}; RESET dragonfly_guard.mode"
            ))
            .unwrap();
        let found = format!("for role postgres on large objects {grantee}");
        assert!(column(&mut client, audited).contains(&found), "{grant}");
        let changes = "SELECT change || ' ' || object FROM ops.check_schema_consistency('lo') \
                       WHERE source <> 'contract'";
        assert_eq!(
            column(&mut client, changes),
            ["added for role postgres on large objects"],
            "{grant}"
        );
        let fixes = "SELECT fix FROM ops.audit_security('{default_privileges}') WHERE object ~ \
                     'large objects'";
        let fixes = column(&mut client, fixes);
        fixes.iter().for_each(|fix| client.batch_execute(fix).unwrap());
        assert_eq!(column(&mut client, audited), before, "{grant}: {fixes:?}");
        assert_eq!(column(&mut client, changes), [""; 0], "{grant}: {fixes:?}");
    }
}

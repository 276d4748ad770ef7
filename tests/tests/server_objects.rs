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
    ("USAGE ON SCHEMA pg_toast TO anon", "pg_toast anon"),
    ("SELECT ON pg_toast.pg_toast_1255 TO authenticated", "pg_toast.pg_toast_1255 authenticated"),
    ("SELECT ON information_schema.leak TO anon", "information_schema.leak anon"),
    ("SELECT (name) ON information_schema.leak TO PUBLIC", "information_schema.leak PUBLIC"),
];
const GRANTS_WITHOUT_EVENT: &[(&str, &str)] = &[
    ("CREATE ON TABLESPACE pg_default TO anon", "pg_default anon"),
    ("ALTER SYSTEM ON PARAMETER archive_command TO anon", "archive_command anon"),
    ("SET ON PARAMETER log_statement TO PUBLIC", "log_statement PUBLIC"),
];

/// Changes of owners with the object and the role of the finding. Those of the second list fire no
/// event trigger.
const OWNERS: &[(&str, &str)] = &[
    ("ALTER LARGE OBJECT 4711 OWNER TO anon", "4711 anon"),
    ("ALTER SERVER remote OWNER TO authenticated", "remote authenticated"),
    ("ALTER SERVER remote OWNER TO team", "remote team"),
    ("ALTER PUBLICATION changes OWNER TO anon", "changes anon"),
    ("ALTER LANGUAGE sql OWNER TO anon", "sql anon"),
    ("ALTER FUNCTION lower(text) OWNER TO anon", "pg_catalog.lower(pg_catalog.text) anon"),
    ("ALTER VIEW pg_catalog.pg_shadow OWNER TO anon", "pg_catalog.pg_shadow anon"),
    ("ALTER VIEW information_schema.leak OWNER TO anon", "information_schema.leak anon"),
    ("ALTER SCHEMA pg_toast OWNER TO anon", "pg_toast anon"),
];
const OWNERS_WITHOUT_EVENT: &[(&str, &str)] = &[
    ("ALTER TABLESPACE pg_default OWNER TO anon", "pg_default anon"),
    ("REASSIGN OWNED BY keeper TO anon", "4712 anon"),
];

fn database(settings: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start_with(settings);
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE team; ALTER ROLE anon NOINHERIT; GRANT \
             team TO anon; CREATE FOREIGN DATA WRAPPER files; CREATE SERVER remote FOREIGN DATA \
             WRAPPER files; SELECT lo_create(4711); CREATE PUBLICATION changes; CREATE ROLE \
             keeper; SELECT lo_create(4712); ALTER LARGE OBJECT 4712 OWNER TO keeper; CREATE VIEW \
             information_schema.leak AS SELECT name FROM public.plaintiffs; RESET \
             dragonfly_guard.mode",
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
            // Messages name routines as the server does.
            let is_routine = object.contains('(');
            let shown = if is_routine { object.replace("pg_catalog.", "") } else { object.into() };
            assert!(rejected.message.contains(&shown), "{grant}: {rejected:?}");
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
fn object_of_the_server_given_to_a_client_is_rejected_and_found() {
    for (settings, owners) in [
        (&[][..], vec![OWNERS]),
        (&["shared_preload_libraries=dragonfly_guard"][..], vec![OWNERS, OWNERS_WITHOUT_EVENT]),
    ] {
        let (_cluster, mut client) = database(settings);
        for (change, found) in owners.concat() {
            let rejected = attempt(&mut client, change).expect_err(change);
            let text = format!("{} {}", rejected.message, rejected.detail);
            assert!(text.contains(RULE), "{change}: {rejected:?}");
            client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
            client.batch_execute(change).unwrap();
            let now = findings(&mut client);
            assert!(now.contains(&found.to_owned()), "{change}: {now:?}");
            client.batch_execute("ROLLBACK").unwrap();
            assert_eq!(findings(&mut client), [""; 0], "{change}");
        }
    }
}

#[test]
fn large_object_that_a_client_creates_is_allowed() {
    let (_cluster, mut client) = database(&["shared_preload_libraries=dragonfly_guard"]);
    // The ALTER makes the guard compare the large objects.
    client
        .batch_execute(
            "BEGIN; SET ROLE anon; SELECT lo_create(4713); RESET ROLE; ALTER LARGE OBJECT 4711 \
             OWNER TO keeper; COMMIT",
        )
        .unwrap();
    assert_eq!(findings(&mut client), ["4713 anon"]);
    let given = "BEGIN; SELECT lo_create(4714); ALTER LARGE OBJECT 4714 OWNER TO anon; COMMIT";
    attempt(&mut client, given).unwrap_err();
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(findings(&mut client), ["4713 anon"]);
}

#[test]
fn toast_table_of_a_governed_table_is_checked_like_its_rows() {
    let (_cluster, mut client) = database(&[]);
    let toast = "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = \
                 'public.plaintiffs'::regclass";
    let toast = column(&mut client, toast).remove(0);
    for (grant, found) in [
        (format!("SELECT ON {toast} TO anon"), format!("{toast} anon")),
        (
            format!("SELECT (chunk_data) ON {toast} TO authenticated"),
            format!("{toast}.chunk_data authenticated"),
        ),
    ] {
        let rejected = attempt(&mut client, &format!("GRANT {grant}")).expect_err(&grant);
        assert!(rejected.message.contains(&toast), "{grant}: {rejected:?}");
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL dragonfly_guard.mode = off; GRANT USAGE ON SCHEMA pg_toast TO \
                 anon; GRANT {grant}"
            ))
            .unwrap();
        assert_eq!(findings(&mut client), ["pg_toast anon".to_owned(), found], "{grant}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn object_moved_into_a_schema_of_the_server_is_rejected_with_its_privileges() {
    let (_cluster, mut client) = database(&[]);
    client
        .batch_execute(
            "CREATE SCHEMA other; CREATE VIEW other.names AS SELECT name FROM public.plaintiffs; \
             GRANT SELECT ON other.names TO anon; CREATE FUNCTION other.count() RETURNS bigint \
             LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT \
             count(*) FROM public.plaintiffs'; REVOKE EXECUTE ON FUNCTION other.count() FROM \
             PUBLIC; GRANT EXECUTE ON FUNCTION other.count() TO anon",
        )
        .unwrap();
    for (kind, object, found) in [
        ("VIEW", "names", "information_schema.names anon"),
        ("FUNCTION", "count()", "information_schema.count() anon"),
    ] {
        let change = format!("ALTER {kind} other.{object} SET SCHEMA information_schema");
        let rejected = attempt(&mut client, &change).expect_err(&change);
        assert!(rejected.message.contains(RULE), "{change}: {rejected:?}");
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        client.batch_execute(&change).unwrap();
        assert_eq!(findings(&mut client), [found], "{change}");
        client.batch_execute("ROLLBACK").unwrap();
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

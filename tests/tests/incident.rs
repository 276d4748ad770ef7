//! Incident response, section 10 of the contract document.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use std::time::Duration;

/// PGRST002: sessions that listen as PostgREST does are notified, and each failing condition is
/// reported with the SQL that fixes it.
#[test]
fn fix_schema_cache_notifies_and_reports_conditions() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let mut postgrest = cluster.connect("app", "authenticator");
    postgrest.batch_execute("LISTEN pgrst").unwrap();
    let steps = "SELECT step || ' ' || ok FROM ops.fix_schema_cache()";
    assert_eq!(
        column(&mut client, steps),
        [
            "role authenticator true",
            "database app true",
            "SET ROLE anon true",
            "SET ROLE authenticated true",
            "SET ROLE service_role true",
            "schema public true",
            "schema api true",
            "schema intake true",
            "pgrst.db_schemas true",
            "NOTIFY pgrst, 'reload schema' true",
            "NOTIFY pgrst, 'reload config' true"
        ]
    );
    let mut received = Vec::new();
    let mut notifications = postgrest.notifications();
    let mut waiting = notifications.timeout_iter(Duration::from_secs(10));
    while received.len() < 2 {
        let notification = postgres::fallible_iterator::FallibleIterator::next(&mut waiting)
            .unwrap()
            .expect("in time");
        received.push(format!("{} {}", notification.channel(), notification.payload()));
    }
    assert_eq!(received, ["pgrst reload schema", "pgrst reload config"]);
    // Failing conditions and their fixes.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; REVOKE anon FROM authenticator; REVOKE USAGE ON \
             SCHEMA api FROM anon, PUBLIC;
             ALTER ROLE authenticator NOLOGIN; SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let failing = "SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok";
    let fixes = column(&mut client, failing);
    assert_eq!(
        fixes,
        [
            "ALTER ROLE authenticator LOGIN;",
            "GRANT anon TO authenticator;",
            "GRANT USAGE ON SCHEMA api TO anon;"
        ]
    );
    for fix in fixes {
        client.batch_execute(&fix).unwrap();
    }
    assert_eq!(column(&mut client, failing), [""; 0]);
    // Another login role that does not exist.
    assert_eq!(
        column(&mut client, "SELECT detail FROM ops.fix_schema_cache('web') WHERE NOT ok"),
        ["Role \"web\" does not exist. Roles that log in and can become clients: \
          \"authenticator\"."]
    );
    // Workers can call it; clients cannot.
    client
        .batch_execute(
            "SET ROLE service_role; SELECT * FROM ops.fix_schema_cache(); RESET ROLE; \
                          SET ROLE anon",
        )
        .unwrap();
    assert_eq!(
        attempt(&mut client, "SELECT * FROM ops.fix_schema_cache()").unwrap_err().code,
        "42501"
    );
    drop(cluster.connect("app", SUPERUSER));
}

/// The fix of a setting changes it where it is stored, and doctor reports the same.
#[test]
fn fix_schema_cache_fixes_settings_where_they_are_stored() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let failing = "SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok";
    // Settings that prevent logins and requests, stored for the role or for the role in the
    // database; the more specific one is in force.
    for (change, step) in [
        (
            "ALTER ROLE authenticator CONNECTION LIMIT 0 VALID UNTIL '2020-01-01'",
            "role authenticator",
        ),
        ("ALTER ROLE authenticator SET pgrst.db_schemas = ''", "pgrst.db_schemas"),
        (
            "ALTER ROLE authenticator SET pgrst.db_schemas = 'public'; ALTER ROLE authenticator IN \
             DATABASE app SET pgrst.db_schemas = 'nowhere'",
            "pgrst.db_schemas",
        ),
        (
            "ALTER ROLE authenticator SET pgrst.db_extra_search_path = 'gone, public'",
            "pgrst.db_extra_search_path",
        ),
        (
            "ALTER ROLE authenticator IN DATABASE app SET pgrst.db_anon_role = 'web_anon'",
            "pgrst.db_anon_role",
        ),
        ("ALTER ROLE authenticator SET pgrst.db_anon_role = 'postgres'", "pgrst.db_anon_role"),
        (
            "ALTER ROLE authenticator SET statement_timeout = '1ms'",
            "statement_timeout of role authenticator",
        ),
        ("ALTER ROLE anon SET statement_timeout = 300", "statement_timeout of role anon"),
        (
            "CREATE SCHEMA hooks; CREATE FUNCTION hooks.check() RETURNS void LANGUAGE sql AS \
             'SELECT'; REVOKE EXECUTE ON FUNCTION hooks.check() FROM PUBLIC; ALTER ROLE \
             authenticator SET pgrst.db_pre_request = 'hooks.check'",
            "pgrst.db_pre_request",
        ),
    ] {
        client
            .batch_execute(&format!("SET dragonfly_guard.mode = off; {change}"))
            .unwrap_or_else(|e| panic!("{change}: {e:?}"));
        let of_both = "SELECT step FROM ops.fix_schema_cache() WHERE NOT ok INTERSECT SELECT \
                       object FROM ops.doctor() WHERE NOT ok AND area = 'postgrest'";
        assert_eq!(column(&mut client, of_both), [step], "{change}");
        for fix in column(&mut client, failing) {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
        }
        assert_eq!(column(&mut client, failing), [""; 0], "{change}");
    }
    client.batch_execute("SET ROLE anon; SELECT hooks.check(); RESET ROLE").unwrap();
}

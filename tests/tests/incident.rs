//! Incident response, section 10 of the document: what a person calls at night.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use std::time::Duration;

/// PGRST002: who listens as PostgREST does is told, and what stands in the way is named with the
/// SQL that mends it.
#[test]
fn the_schema_cache_is_read_anew() {
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
            "NOTIFY pgrst, 'reload schema' true",
            "NOTIFY pgrst, 'reload config' true"
        ]
    );
    let mut heard = Vec::new();
    let mut notifications = postgrest.notifications();
    let mut waiting = notifications.timeout_iter(Duration::from_secs(10));
    while heard.len() < 2 {
        let notification = postgres::fallible_iterator::FallibleIterator::next(&mut waiting)
            .unwrap()
            .expect("in time");
        heard.push(format!("{} {}", notification.channel(), notification.payload()));
    }
    assert_eq!(heard, ["pgrst reload schema", "pgrst reload config"]);
    // What is wrong, and what mends it.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; REVOKE anon FROM authenticator; REVOKE USAGE ON SCHEMA api FROM anon, PUBLIC;
             ALTER ROLE authenticator NOLOGIN; SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let wrong = "SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok";
    let fixes = column(&mut client, wrong);
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
    assert_eq!(column(&mut client, wrong), [""; 0]);
    // Another login role; and one that is not there.
    assert_eq!(
        column(&mut client, "SELECT detail FROM ops.fix_schema_cache('web') WHERE NOT ok"),
        ["Role \"web\" does not exist."]
    );
    // Workers may; clients may not.
    client.batch_execute("SET ROLE service_role; SELECT * FROM ops.fix_schema_cache(); RESET ROLE; SET ROLE anon").unwrap();
    assert_eq!(
        attempt(&mut client, "SELECT * FROM ops.fix_schema_cache()").unwrap_err().code,
        "42501"
    );
    drop(cluster.connect("app", SUPERUSER));
}

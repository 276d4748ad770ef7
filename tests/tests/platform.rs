//! Platforms that skip event triggers: the guard says which sessions are unchecked.

use dragonfly_tests::{Cluster, column};
use postgres::Client;

fn event_triggers(client: &mut Client) -> String {
    column(
        client,
        "SELECT concat_ws(' | ', active, gap, fix) FROM ops.guard_status() WHERE component = \
         'event triggers'",
    )
    .remove(0)
}

fn audit(client: &mut Client) -> Vec<String> {
    column(client, "SELECT severity || ' ' || detail FROM ops.audit_guard()")
}

#[test]
fn event_triggers_that_are_called_have_no_gap() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    for session in ["", "BEGIN READ ONLY", "SET ROLE pg_read_all_data"] {
        client
            .batch_execute(
                "RESET ROLE; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ops TO \
                              pg_read_all_data; GRANT USAGE ON SCHEMA ops TO pg_read_all_data",
            )
            .ok();
        client.batch_execute(session).unwrap();
        assert_eq!(event_triggers(&mut client), "t", "{session}");
        assert_eq!(audit(&mut client), [""; 0], "{session}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn sessions_of_other_superusers_are_unchecked_where_supautils_skips_event_triggers() {
    let cluster = Cluster::start_with(&["supautils.superuser=platform"]);
    let mut client = cluster.guarded("app");
    let status = event_triggers(&mut client);
    assert!(
        status.starts_with(
            "t | Sessions of superusers other than the owner of the event triggers are unchecked: \
             supautils skips event triggers there. | Add dragonfly_guard to \
             shared_preload_libraries"
        ),
        "{status}"
    );
    assert_eq!(
        audit(&mut client),
        ["warning Extension dragonfly_guard is unchecked in sessions of superusers other than \
          \"root_su\": supautils skips event triggers there."]
    );
    // Where the library is preloaded, every session is checked.
    client
        .batch_execute("ALTER DATABASE app SET session_preload_libraries = 'dragonfly_guard'")
        .unwrap();
    let mut client = cluster.connect("app", dragonfly_tests::SUPERUSER);
    assert_eq!(event_triggers(&mut client), "t");
    assert_eq!(audit(&mut client), [""; 0]);
    // Background workers do not load it.
    let gap = "SELECT gap FROM ops.guard_status() WHERE component = 'statements without an event'";
    assert!(
        column(&mut client, gap)[0].starts_with("Background workers, such as those of pg_cron")
    );
}

//! Platforms that skip event triggers: the guard says which sessions are unchecked.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, provide_extension, provide_library};
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
    let mut client = cluster.connect("app", SUPERUSER);
    assert_eq!(event_triggers(&mut client), "t");
    assert_eq!(audit(&mut client), [""; 0]);
    // Background workers do not load it.
    let gap = "SELECT gap FROM ops.guard_status() WHERE component = 'statements without an event'";
    assert!(
        column(&mut client, gap)[0].starts_with("Background workers, such as those of pg_cron")
    );
}

/// Starts a server with a stand-in for supautils, of which there is no package. Another superuser
/// than the one of the session returned has created the extension.
fn platform(settings: &[&str]) -> (Cluster, Client) {
    provide_library("supautils_stand_in", "skip_event_triggers.c");
    let cluster = Cluster::start_with(settings);
    cluster.guarded_document("app").batch_execute("CREATE ROLE other_su LOGIN SUPERUSER").unwrap();
    let client = cluster.connect("app", "other_su");
    (cluster, client)
}

const GRANT: &str = "GRANT SELECT ON public.judgments TO anon";

#[test]
fn skipped_event_triggers_are_reported_in_the_session_that_skips_them() {
    let (cluster, mut other) = platform(&["session_preload_libraries=supautils_stand_in"]);
    // Nothing checks this session, and the guard says so.
    other.batch_execute(&format!("BEGIN; {GRANT}; ROLLBACK")).unwrap();
    assert!(
        event_triggers(&mut other)
            .starts_with("f | DDL is not checked, except where the library is preloaded. | Add"),
    );
    let skipped = |name| {
        format!(
            "error Event trigger zz_dragonfly_guard_{name} is skipped in this session, probably by \
             an extension of the platform such as supautils: its DDL is not checked."
        )
    };
    let unchecked = "warning Extension dragonfly_guard is unchecked in sessions of superusers \
                     other than \"root_su\": supautils skips event triggers there.";
    assert_eq!(audit(&mut other), [&skipped("start"), &skipped("end"), unchecked]);
    attempt(&mut other, "SELECT ops.assert_security()").unwrap_err();
    // Sessions of its owner, and of roles that are not superusers, are checked.
    for user in [SUPERUSER, "postgres"] {
        let mut client = cluster.connect("app", user);
        assert_eq!(attempt(&mut client, GRANT).unwrap_err().code, "0LP01", "{user}");
        assert_eq!(audit(&mut client), [unchecked], "{user}");
    }
}

#[test]
fn preloaded_library_checks_sessions_whose_event_triggers_are_skipped() {
    provide_extension(
        "unsafe_member",
        "default_version = '1'\n",
        "1",
        "CREATE FUNCTION unsafe_member() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';",
    );
    for libraries in [
        &["shared_preload_libraries=supautils_stand_in,dragonfly_guard"][..],
        &["shared_preload_libraries=dragonfly_guard,supautils_stand_in"],
        // As in the images of Supabase.
        &[
            "shared_preload_libraries=dragonfly_guard",
            "session_preload_libraries=supautils_stand_in",
        ],
    ] {
        let (cluster, mut other) = platform(libraries);
        assert_eq!(event_triggers(&mut other), "t", "{libraries:?}");
        assert_eq!(audit(&mut other), [""; 0], "{libraries:?}");
        // The hooks reject what the event triggers do, with the same message.
        let mut owner = cluster.connect("app", SUPERUSER);
        for statement in [
            GRANT,
            "DO $$ BEGIN EXECUTE 'GRANT SELECT ON public.judgments TO anon'; END $$",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "CREATE EXTENSION unsafe_member",
            "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE public.judgments RENAME TO j",
            "CREATE POLICY open ON public.judgments TO authenticated USING (true)",
            "ALTER ROLE anon BYPASSRLS",
            "ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE",
            "BEGIN; SET LOCAL dragonfly_guard.check_at = commit; \
             GRANT SELECT ON public.judgments TO anon; COMMIT",
        ] {
            let expected = attempt(&mut owner, statement).unwrap_err();
            let error = attempt(&mut other, statement).unwrap_err();
            assert_eq!(error, expected, "{libraries:?}: {statement}");
            for client in [&mut owner, &mut other] {
                client.batch_execute("ROLLBACK").unwrap();
            }
        }
        // What conforms is executed.
        other
            .batch_execute("CREATE TABLE public.t (id int); DROP TABLE public.t")
            .unwrap_or_else(|e| panic!("{libraries:?}: {e}"));
        // The extension can be dropped as in every session.
        attempt(&mut other, "DROP EXTENSION dragonfly_guard").unwrap_err();
        other
            .batch_execute("SET dragonfly_guard.mode = off; DROP EXTENSION dragonfly_guard")
            .unwrap_or_else(|e| panic!("{libraries:?}: {e}"));
    }
}

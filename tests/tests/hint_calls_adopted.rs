//! The HINTs of the guard in an adopted database: after the calls that belong together, the
//! statement passes and no finding is left, also about objects that the statement does not touch.

use dragonfly_tests::hints::Hint;
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// A schema that the application declares beside those of the fixtures, with several objects.
const JOBS: &str = "CREATE SCHEMA jobs;
    CREATE TABLE jobs.queue (id bigserial PRIMARY KEY, payload jsonb);
    CREATE TABLE jobs.done (id bigint PRIMARY KEY);
    CREATE VIEW jobs.open AS SELECT id FROM jobs.queue;
    CREATE FUNCTION jobs.next() RETURNS bigint LANGUAGE sql AS 'SELECT min(id) FROM jobs.queue';
    GRANT USAGE ON SCHEMA jobs TO anon, service_role;
    GRANT ALL ON ALL TABLES IN SCHEMA jobs TO service_role;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA jobs TO service_role;";

/// Creates the database of an application with its contract: `app`.
fn adopted(cluster: &Cluster) {
    attempt(&mut cluster.connect("postgres", SUPERUSER), "CREATE DATABASE app").unwrap();
    for fixture in ["supabase", "garden"] {
        cluster.psql_file("app", &format!("fixtures/adopt/{fixture}.sql"));
    }
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("SET client_min_messages = error").unwrap();
    for sql in [
        JOBS,
        "CREATE EXTENSION dragonfly_guard",
        "SELECT FROM ops.adopt(dry_run => false)",
        "SELECT ops.assert_security('warning')",
    ] {
        attempt(&mut client, sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Returns a connection to a new copy of the adopted database: `tried`.
fn copy(cluster: &Cluster) -> Client {
    let mut admin = cluster.connect("postgres", SUPERUSER);
    attempt(&mut admin, "DROP DATABASE IF EXISTS tried WITH (FORCE)").unwrap();
    attempt(&mut admin, "DROP ROLE IF EXISTS nurse").unwrap();
    attempt(&mut admin, "CREATE DATABASE tried TEMPLATE app").unwrap();
    let mut client = cluster.connect("tried", SUPERUSER);
    attempt(&mut client, "SET client_min_messages = error").unwrap();
    client
}

/// A statement, sent by psql: whether it has succeeded, and the messages.
fn send(cluster: &Cluster, sql: &str) -> (bool, String) {
    let output = cluster.client_program("psql", &["-X", "-q", "-d", "tried", "-c", sql]);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the messages with which a statement is rejected.
fn rejected(cluster: &Cluster, sql: &str) -> String {
    let (succeeded, messages) = send(cluster, sql);
    assert!(!succeeded && messages.contains("HINT:  "), "{sql}: {messages}");
    messages
}

/// Executes what a HINT says before the statement, the statement, and what it says afterwards.
fn follow(cluster: &Cluster, client: &mut Client, sql: &str, hint: &Hint) {
    assert!(!hint.calls.is_empty(), "{sql}: {hint:?}");
    for call in &hint.calls {
        attempt(client, call).unwrap_or_else(|error| panic!("{sql}\n{call}: {error:?}"));
    }
    let (succeeded, messages) = send(cluster, sql);
    assert!(succeeded, "{sql}\n{hint:#?}\n{messages}");
    attempt(client, &hint.afterwards).unwrap_or_else(|error| panic!("{sql}\n{hint:?}: {error:?}"));
    let found = "SELECT concat_ws(' ', severity, rule, object, role_name, detail)
        FROM ops.audit_security(min_severity => 'warning')";
    assert_eq!(column(client, found), [""; 0], "{sql}\n{hint:#?}");
    attempt(client, "SELECT ops.assert_security('warning')").unwrap();
}

/// Returns the calls of the alternative to exempt what a HINT is about.
fn exempting(messages: &str) -> Hint {
    let (_, rest) = messages.split_once("\nOr exempt it:").unwrap_or_default();
    let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    let calls = lines.take_while(|line| line.starts_with("SELECT ops.exempt("));
    Hint { calls: calls.map(str::to_owned).collect(), ..Hint::default() }
}

/// A new role of requests.
const NURSE: &str = "CREATE ROLE nurse; GRANT nurse TO authenticator";

/// Statements of a first day, each with what runs before it.
const STATEMENTS: [(&str, &str); 12] = [
    (NURSE, "GRANT SELECT ON public.plots TO nurse"),
    (NURSE, "GRANT SELECT ON public.posts TO nurse"),
    ("", "CREATE OR REPLACE VIEW public.free_plots AS SELECT id, label FROM public.plots"),
    ("", "ALTER VIEW public.free_plots SET (security_invoker = false)"),
    ("", "DROP VIEW public.free_plots"),
    ("", "DROP SCHEMA jobs CASCADE"),
    ("", "DROP TABLE jobs.queue CASCADE"),
    ("", "DROP POLICY \"Published posts are visible.\" ON public.posts"),
    ("", "ALTER POLICY \"Published posts are visible.\" ON public.posts TO authenticated"),
    ("", "ALTER TABLE public.posts DISABLE ROW LEVEL SECURITY"),
    ("", "GRANT SELECT ON jobs.done TO PUBLIC"),
    ("", "GRANT SELECT ON jobs.done TO anon"),
];

#[test]
fn calls_that_belong_together_leave_no_finding_in_an_adopted_database() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (before, sql) in STATEMENTS {
        let mut client = copy(&cluster);
        attempt(&mut client, before).unwrap();
        let messages = rejected(&cluster, sql);
        follow(&cluster, &mut client, sql, &Hint::read(&messages));
    }
}

#[test]
fn calls_that_exempt_leave_no_finding_and_cover_the_role_only() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (role, other) in [("anon", "authenticated"), ("PUBLIC", "anon")] {
        let mut client = copy(&cluster);
        let sql = format!("GRANT SELECT ON jobs.done TO {role}");
        let hint = exempting(&rejected(&cluster, &sql));
        let role = format!("role_name => '{role}'");
        assert!(
            hint.calls.iter().all(|call| call.contains(&role) || call.contains("'rls_")),
            "{hint:?}"
        );
        follow(&cluster, &mut client, &sql, &hint);
        rejected(&cluster, &format!("GRANT INSERT ON jobs.done TO {other}"));
    }
}

#[test]
fn dropped_objects_have_one_call_and_no_statements_that_bring_them_back() {
    let cluster = Cluster::start();
    adopted(&cluster);
    drop(copy(&cluster));
    for (sql, call) in [
        ("DROP SCHEMA jobs CASCADE", "ops.declare('DROP SCHEMA jobs', "),
        ("DROP TABLE jobs.queue CASCADE", "ops.declare('DROP TABLE jobs.queue; "),
        ("DROP TABLE jobs.done", "ops.declare('DROP TABLE jobs.done', "),
    ] {
        let messages = rejected(&cluster, sql);
        assert!(messages.contains(call), "{sql}: {messages}");
        assert!(!messages.contains("therwise") && !messages.contains("exempt"), "{messages}");
        let block = format!("BEGIN; {sql}; COMMIT");
        assert!(!rejected(&cluster, &block).contains("therwise"), "{block}");
    }
}

#[test]
fn hint_does_not_contradict_what_it_declares() {
    let cluster = Cluster::start();
    adopted(&cluster);
    drop(copy(&cluster));
    for sql in [
        "ALTER TABLE public.posts DISABLE ROW LEVEL SECURITY",
        "DROP POLICY \"Published posts are visible.\" ON public.posts",
        "DROP POLICY \"Everyone sees the plots.\" ON public.plots",
    ] {
        let messages = rejected(&cluster, sql);
        let text = messages.split_once("HINT:  ").unwrap().1;
        assert!(!text.contains("ops.declare(") || !text.contains("ENABLE ROW"), "{messages}");
        assert!(!text.contains("\nRun") && !text.contains("\nCreate"), "{messages}");
    }
    for sql in [
        "CREATE POLICY everyone ON public.bookings USING (true)",
        "CREATE POLICY everyone ON public.payments FOR SELECT USING (true)",
    ] {
        let messages = rejected(&cluster, sql);
        assert!(messages.matches("ALTER POLICY everyone ").count() <= 1, "{messages}");
    }
}

#[test]
fn each_choice_of_a_hint_begins_a_line_in_the_same_order() {
    let cluster = Cluster::start();
    adopted(&cluster);
    drop(copy(&cluster));
    let choices = ["HINT:  If this is intended, declare it first: ", "Or exempt it:", "Otherwise "];
    for sql in ["GRANT SELECT ON jobs.done TO anon", "GRANT ALL ON jobs.done TO anon"] {
        let block = format!("BEGIN; SET LOCAL dragonfly_guard.check_at = commit; {sql}; COMMIT");
        let messages = rejected(&cluster, &block);
        let found =
            messages.lines().filter_map(|line| choices.iter().position(|c| line.starts_with(c)));
        assert_eq!(found.collect::<Vec<_>>(), [0, 1, 2], "{messages}");
    }
}

//! The HINTs of the guard in an adopted database: after the calls that belong together, the
//! statement passes and no finding is left, also about objects that the statement does not touch.

use dragonfly_tests::hints::Hint;
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, with_reason};
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

/// Executes a statement that is not rejected, and what the HINT of its WARNING says.
fn follow_warning(cluster: &Cluster, client: &mut Client, sql: &str) -> String {
    let (succeeded, messages) = send(cluster, sql);
    assert!(succeeded && messages.contains("WARNING:  "), "{sql}: {messages}");
    let (_, hint) = messages.split_once("HINT:  ").unwrap_or_else(|| panic!("{sql}: {messages}"));
    let hint = Hint::read(hint);
    assert!(!hint.is_empty(), "{sql}: {messages}");
    for call in hint.calls.iter().chain([&hint.afterwards]) {
        attempt(client, call).unwrap_or_else(|error| panic!("{sql}\n{call}: {error:?}"));
    }
    assert_clean(client, sql, &messages);
    messages
}

/// Fails where the audit has a finding after a statement.
fn assert_clean(client: &mut Client, sql: &str, messages: &str) {
    let found = "SELECT concat_ws(' ', severity, rule, object, role_name, detail)
        FROM ops.audit_security(min_severity => 'warning')";
    assert_eq!(column(client, found), [""; 0], "{sql}\n{messages}");
    attempt(client, "SELECT ops.assert_security('warning')").unwrap();
}

/// Executes what a HINT says before the statement, the statement, and what it says afterwards.
fn follow(cluster: &Cluster, client: &mut Client, sql: &str, hint: &Hint) {
    assert!(!hint.calls.is_empty(), "{sql}: {hint:?}");
    for call in &hint.calls {
        attempt(client, call).unwrap_or_else(|error| panic!("{sql}\n{call}: {error:?}"));
    }
    let (succeeded, messages) = send(cluster, &format!("{sql}; {}", hint.together));
    assert!(succeeded, "{sql}\n{hint:#?}\n{messages}");
    attempt(client, &hint.afterwards).unwrap_or_else(|error| panic!("{sql}\n{hint:?}: {error:?}"));
    assert_clean(client, sql, &format!("{hint:#?}"));
}

/// Returns the calls of the alternative to exempt what a HINT is about.
fn exempting(messages: &str) -> Hint {
    let (_, rest) = messages.split_once("\nOr exempt it:").unwrap_or_default();
    let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    let calls = lines.take_while(|line| line.starts_with("SELECT ops.exempt("));
    Hint { calls: calls.map(with_reason).collect(), ..Hint::default() }
}

/// A new role of requests.
const NURSE: &str = "CREATE ROLE nurse; GRANT nurse TO authenticator";

/// Statements of a first day, each with what runs before it.
const STATEMENTS: [(&str, &str); 15] = [
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
    ("", CONTACT_FORM),
    ("GRANT CREATE ON SCHEMA public TO postgres", VIEW_AS_ITS_USER),
    ("CREATE ROLE nurse", "ALTER TABLE jobs.done OWNER TO nurse"),
];

/// Rows that belong to no user.
const CONTACT_FORM: &str =
    "CREATE POLICY ask ON public.posts FOR INSERT TO anon WITH CHECK (author IS NULL)";

/// A view that default privileges open.
const VIEW_AS_ITS_USER: &str = "SET ROLE postgres; CREATE VIEW public.drafts \
     WITH (security_invoker) AS SELECT id, title FROM public.posts WHERE NOT published";

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
fn calls_that_exempt_what_remains_are_about_what_the_statement_causes() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let setup = "SET dragonfly_guard.mode = off;
        CREATE POLICY \"Members see their bookings.\" ON public.bookings FOR SELECT TO authenticated
            USING (member = auth.uid());
        CREATE VIEW public.booked WITH (security_invoker = true) AS
            SELECT b.id, p.label FROM public.bookings b JOIN public.plots p ON p.id = b.plot;
        GRANT ALL ON public.booked TO anon, authenticated, service_role;
        RESET dragonfly_guard.mode;
        SELECT FROM ops.declare('CREATE VIEW public.booked WITH (security_invoker) AS SELECT;
            GRANT ALL ON public.booked TO anon, authenticated, service_role', 'test');
        SELECT ops.exempt(fingerprint, 'test') FROM ops.audit_security(min_severity => 'warning')";
    for (before, sql) in [
        (NURSE, "GRANT SELECT ON public.bookings TO nurse"),
        ("", "DROP POLICY \"Members manage their bookings.\" ON public.bookings"),
    ] {
        let mut client = copy(&cluster);
        for sql in [setup, before] {
            attempt(&mut client, sql).unwrap();
        }
        let messages = rejected(&cluster, sql);
        assert!(!messages.contains("exempt what remains"), "{messages}");
        follow(&cluster, &mut client, sql, &Hint::read(&messages));
    }
}

#[test]
fn grant_that_no_declaration_permits_has_the_calls_that_exempt_it_once() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    let setup = "SELECT FROM ops.declare('CREATE FUNCTION jobs.login() SECURITY DEFINER;
            GRANT EXECUTE ON FUNCTION jobs.login() TO anon, authenticated, service_role', 'test');
        SET dragonfly_guard.mode = off;
        CREATE FUNCTION jobs.login() RETURNS int LANGUAGE sql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
        REVOKE EXECUTE ON FUNCTION jobs.login() FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION jobs.login() TO anon, authenticated, service_role;
        RESET dragonfly_guard.mode";
    attempt(&mut client, setup).unwrap();
    let grant = "GRANT EXECUTE ON FUNCTION jobs.login() TO PUBLIC";
    let (_, messages) = send(&cluster, grant);
    let calls = messages.matches("SELECT ops.exempt(").count();
    assert!(calls == 1 && !messages.contains("ops.declare('"), "{messages}");
    let call = &messages[messages.find("SELECT ops.exempt(").unwrap()..];
    attempt(&mut client, &with_reason(call.lines().next().unwrap())).unwrap();
    assert!(send(&cluster, grant).0, "{messages}");
    assert_clean(&mut client, grant, &messages);
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
    let order = |sql: &str, choices: &[&str]| {
        let block = format!("BEGIN; SET LOCAL dragonfly_guard.check_at = commit; {sql}; COMMIT");
        let messages = rejected(&cluster, &block);
        let found =
            messages.lines().filter_map(|line| choices.iter().position(|c| line.starts_with(c)));
        let all: Vec<usize> = (0..choices.len()).collect();
        assert_eq!(found.collect::<Vec<_>>(), all, "{messages}");
    };
    order("GRANT SELECT ON jobs.open TO authenticated", &choices);
    // A table without row security.
    let enable = "HINT:  Run first: ALTER TABLE jobs.done ENABLE ROW LEVEL SECURITY;";
    let choices = [enable, "If this is intended, declare it first: ", choices[1], choices[2]];
    for sql in ["GRANT SELECT ON jobs.done TO anon", "GRANT ALL ON jobs.done TO anon"] {
        order(sql, &choices);
    }
}

#[test]
fn grant_on_a_table_without_row_security_is_safe_by_the_first_choice() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (role, declare) in [
        ("anon", "ops.declare('GRANT SELECT ON TABLE jobs.done TO anon', "),
        ("PUBLIC", "ops.declare('GRANT SELECT ON TABLE jobs.done TO "),
    ] {
        let mut client = copy(&cluster);
        let sql = format!("GRANT SELECT ON jobs.done TO {role}");
        let messages = rejected(&cluster, &sql);
        assert!(messages.contains(declare) && !messages.contains("DISABLE"), "{messages}");
        let (_, enable) = messages.split_once("HINT:  Run first: ").expect(&messages);
        attempt(&mut client, enable.lines().next().unwrap()).unwrap();
        let messages = rejected(&cluster, &sql);
        assert!(!messages.contains("ROW LEVEL SECURITY"), "{messages}");
        assert!(!messages.contains("rls_disabled"), "{messages}");
        follow(&cluster, &mut client, &sql, &Hint::read(&messages));
    }
}

#[test]
fn declaration_that_allows_a_statement_is_in_the_hint() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (before, sql, declared) in [
        ("", CONTACT_FORM, "ALTER TABLE public.posts SET (contract.append_only_by = ''anon'')"),
        (
            "GRANT CREATE ON SCHEMA public TO postgres",
            VIEW_AS_ITS_USER,
            "CREATE VIEW public.drafts WITH (security_invoker = true) AS SELECT; GRANT ",
        ),
        (
            "CREATE ROLE nurse",
            "ALTER TABLE jobs.done OWNER TO nurse",
            "CREATE ROLE nurse; ALTER ROLE nurse SET contract.kind = owner",
        ),
    ] {
        let mut client = copy(&cluster);
        attempt(&mut client, before).unwrap();
        let messages = rejected(&cluster, sql);
        assert!(messages.contains(declared), "{sql}: {messages}");
    }
}

#[test]
fn finding_about_several_tables_is_accepted_for_all_of_them() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    attempt(&mut client, "SELECT ops.unexempt(id => id) FROM ops.v_exemptions").unwrap();
    let grouped = "FROM ops.audit_security() WHERE detail LIKE '% tables of schema %'";
    let found = column(&mut client, &format!("SELECT fingerprint {grouped}"));
    assert!(!found.is_empty());
    for fingerprint in found {
        let accept = format!("SELECT ops.accept('{fingerprint}', 'test')");
        match attempt(&mut client, &accept) {
            Ok(()) => {}
            // What it leaves has a call that fixes or exempts it.
            Err(error) => {
                assert!(error.message.starts_with("a contract that allows this"), "{error:?}");
                for call in Hint::read(&error.hint).calls {
                    attempt(&mut client, &call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
                }
            }
        }
    }
    assert_eq!(column(&mut client, &format!("SELECT detail {grouped}")), [""; 0]);
}

#[test]
fn accepted_information_is_declared_or_has_another_call() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    let sql = "CREATE POLICY few ON public.bookings FOR SELECT TO authenticated USING (plot > 2)";
    attempt(&mut client, sql).unwrap();
    let found = "FROM ops.audit_security() WHERE object LIKE 'few on %' AND severity = 'info'";
    let opened = format!("{found} AND rule = 'policy_row_open'");
    let accept = format!("SELECT ops.accept(fingerprint, 'test') {opened}");
    attempt(&mut client, &accept).unwrap();
    assert_eq!(column(&mut client, &format!("SELECT detail {opened}")), [""; 0]);
    let declared = "SELECT ops.contract_sql()";
    let declared = column(&mut client, declared).concat();
    let open_rows = r#"SET (contract.open_rows = '{"authenticated":["plot"]}')"#;
    assert!(declared.contains(open_rows), "{declared}");
    // No contract allows the others.
    let others = "SELECT fingerprint FROM ops.audit_security() WHERE severity = 'info' \
                  AND rule IN ('rls_not_forced', 'policy_per_row', 'policy_unindexed')";
    let others = column(&mut client, others);
    assert!(!others.is_empty());
    for fingerprint in others {
        let accept = format!("SELECT ops.accept('{fingerprint}', 'test')");
        let error = attempt(&mut client, &accept).unwrap_err();
        assert_eq!(error.message, "no contract can allow this finding", "{error:?}");
        let (_, exempt) = error.hint.split_once("Or exempt it: ").expect(&error.hint);
        attempt(&mut client, &with_reason(exempt)).unwrap();
    }
}

#[test]
fn each_grant_in_a_new_schema_has_the_call_for_all_of_it() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    let statements = [
        "CREATE SCHEMA more",
        "GRANT USAGE ON SCHEMA more TO anon",
        "CREATE TABLE more.t (id bigserial PRIMARY KEY)",
        "GRANT SELECT ON more.t TO anon",
    ];
    let mut arguments = vec!["-X", "-q", "-d", "tried"];
    arguments.extend(statements.iter().flat_map(|sql| ["-c", sql]));
    let output = cluster.client_program("psql", &arguments);
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = messages.rsplit("HINT:  ").next().unwrap();
    let hint = Hint::read(last);
    assert!(last.contains("GRANT SELECT ON TABLE more.t TO anon"), "{messages}");
    for call in &hint.calls {
        attempt(&mut client, call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    assert_clean(&mut client, "a new schema", &messages);
}

/// Statements that pass with a WARNING, each with what runs before it.
const WARNED: [(&str, &str); 14] = [
    ("CREATE ROLE nurse", "GRANT SELECT ON jobs.done TO nurse"),
    (
        "CREATE ROLE nurse; GRANT USAGE ON SCHEMA jobs TO nurse",
        "GRANT SELECT ON jobs.done TO nurse",
    ),
    ("CREATE ROLE nurse", "GRANT EXECUTE ON FUNCTION jobs.next() TO nurse"),
    ("CREATE ROLE nurse", "GRANT USAGE ON SEQUENCE jobs.queue_id_seq TO nurse"),
    ("CREATE ROLE nurse", "GRANT SELECT (payload) ON jobs.queue TO nurse"),
    ("CREATE ROLE nurse", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO nurse"),
    ("", "CREATE TABLE public.notes (id int PRIMARY KEY)"),
    ("", "CREATE SEQUENCE public.numbers"),
    ("", "CREATE POLICY idle ON jobs.done USING (true)"),
    ("", "CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO anon"),
    (
        "CREATE SCHEMA more; CREATE TABLE more.t (id int); \
         CREATE VIEW more.v WITH (security_invoker) AS SELECT id FROM more.t",
        "GRANT USAGE ON SCHEMA more TO PUBLIC; GRANT SELECT ON more.t, more.v TO PUBLIC",
    ),
    ("", "CREATE VIEW jobs.seen AS SELECT * FROM public.plots; GRANT SELECT ON jobs.seen TO anon"),
    (
        "CREATE MATERIALIZED VIEW jobs.seen AS SELECT * FROM public.plots",
        "GRANT SELECT ON jobs.seen TO anon",
    ),
    (
        "SELECT FROM ops.declare('GRANT SELECT ON jobs.open TO anon, authenticated;
           REVOKE ALL ON jobs.open FROM service_role', 'test', run => true)",
        "GRANT SELECT ON jobs.open TO PUBLIC",
    ),
];

#[test]
fn what_is_a_finding_afterwards_is_warned_about_with_the_calls_that_resolve_it() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (before, sql) in WARNED {
        let mut client = copy(&cluster);
        attempt(&mut client, before).unwrap_or_else(|error| panic!("{before}: {error:?}"));
        follow_warning(&cluster, &mut client, sql);
    }
}

/// Statements that leave a role its privilege on some columns only.
const NARROWED: [&str; 4] = [
    "REVOKE UPDATE ON public.profiles FROM authenticated;
        GRANT UPDATE (name, is_public) ON public.profiles TO authenticated",
    "REVOKE SELECT, INSERT ON public.posts FROM authenticated;
        GRANT SELECT (id, title), INSERT (title) ON public.posts TO authenticated",
    "REVOKE SELECT ON public.bookings, public.posts FROM authenticated;
        GRANT SELECT (id) ON public.bookings, public.posts TO authenticated",
    "REVOKE SELECT ON public.latest_posts FROM anon;
        GRANT SELECT (title) ON public.latest_posts TO anon",
];

#[test]
fn privilege_that_is_narrowed_to_columns_is_declared_in_one_call() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for sql in NARROWED {
        let mut client = copy(&cluster);
        let messages = follow_warning(&cluster, &mut client, sql);
        assert_eq!(messages.matches("SELECT * FROM ops.declare(").count(), 1, "{messages}");
        assert!(!messages.contains('{') && !messages.contains("ops.exempt("), "{messages}");
        // So does a finding of the audit.
        let mut client = copy(&cluster);
        send(&cluster, sql);
        let found = "FROM ops.audit_security(min_severity => 'warning')";
        let plan = "SELECT statement FROM ops.golden_sql() WHERE why LIKE '% only, while %'";
        let proposed = column(&mut client, plan);
        assert_eq!(proposed.len(), column(&mut client, &format!("SELECT 1::text {found}")).len());
        for fix in proposed {
            assert!(fix.contains("ops.declare('REVOKE ") && !fix.contains('{'), "{sql}: {fix}");
        }
        let accept = format!("SELECT ops.accept(fingerprint, 'test') {found} LIMIT 1");
        for _ in column(&mut client, &format!("SELECT fingerprint {found}")) {
            attempt(&mut client, &accept).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        assert_clean(&mut client, sql, "");
    }
}

#[test]
fn grant_of_what_public_has_is_a_warning() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (object, privilege) in
        [("TABLE jobs.done", "SELECT"), ("SEQUENCE jobs.queue_id_seq", "USAGE")]
    {
        let mut client = copy(&cluster);
        let grant = |role: &str| format!("GRANT {privilege} ON {object} TO {role}");
        let public = format!("SET dragonfly_guard.mode = off; {}", grant("PUBLIC"));
        attempt(&mut client, &public).unwrap();
        let (succeeded, messages) = send(&cluster, &grant("anon"));
        assert!(succeeded && messages.contains("Role \"anon\" has"), "{messages}");
        let hint = Hint::read(messages.split_once("HINT:  ").unwrap().1);
        for call in &hint.calls {
            attempt(&mut client, call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
        }
        let left = "SELECT DISTINCT role_name FROM ops.audit_security(min_severity => 'error')";
        assert_eq!(column(&mut client, left), ["PUBLIC"], "{messages}");
    }
}

#[test]
fn policy_without_row_security_names_the_statement_that_gives_it_an_effect() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    let sql = "CREATE POLICY idle ON jobs.done TO service_role USING (true)";
    let (_, messages) = send(&cluster, sql);
    let (_, hint) = messages.split_once("HINT:  Run: ").expect(&messages);
    let enable = hint.lines().next().unwrap();
    assert_eq!(enable, "ALTER TABLE jobs.done ENABLE ROW LEVEL SECURITY;");
    attempt(&mut client, enable).unwrap();
    assert_clean(&mut client, sql, &messages);
    let sql = "BEGIN; CREATE TABLE jobs.more (id int); \
               CREATE POLICY p ON jobs.more TO service_role USING (true); \
               ALTER TABLE jobs.more ENABLE ROW LEVEL SECURITY; \
               GRANT ALL ON jobs.more TO service_role; COMMIT";
    let (_, messages) = send(&cluster, sql);
    assert!(!messages.contains("policy_without_rls"), "{messages}");
}

#[test]
fn accepted_finding_about_a_new_role_leaves_none() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    attempt(&mut client, "CREATE ROLE nurse; GRANT SELECT ON public.plots, jobs.done TO nurse")
        .unwrap();
    let accept = "SELECT FROM ops.accept((SELECT fingerprint FROM ops.audit_security() \
                  WHERE object = 'jobs'), 'test')";
    attempt(&mut client, accept).unwrap();
    assert_clean(&mut client, accept, "");
}

#[test]
fn finding_that_leaves_others_if_it_is_accepted_has_the_calls_that_resolve_all() {
    let cluster = Cluster::start();
    adopted(&cluster);
    let mut client = copy(&cluster);
    let create = "SET dragonfly_guard.mode = off; \
                  CREATE SCHEMA more; CREATE TABLE more.t (id int); \
                  GRANT USAGE ON SCHEMA more TO anon; GRANT SELECT ON more.t TO anon; \
                  RESET dragonfly_guard.mode";
    attempt(&mut client, create).unwrap();
    let accept = "SELECT FROM ops.accept((SELECT fingerprint FROM ops.audit_security() \
                  WHERE object = 'more'), 'test')";
    let error = attempt(&mut client, accept).unwrap_err();
    assert_eq!(error.message, "a contract that allows this finding leaves 1 other finding");
    assert!(error.detail.contains("Row security is disabled on table more.t"), "{error:?}");
    let hint = Hint::read(&error.hint);
    assert_eq!(hint.calls.len(), 2, "{error:?}");
    for call in &hint.calls {
        attempt(&mut client, call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    assert_clean(&mut client, accept, &error.hint);
    // A table in a governed schema: the finding itself has a call.
    let create = "SET dragonfly_guard.mode = off; CREATE TABLE public.notes (id int); \
                  GRANT SELECT ON public.notes TO anon; RESET dragonfly_guard.mode";
    attempt(&mut client, create).unwrap();
    let accept = "SELECT FROM ops.accept((SELECT fingerprint FROM ops.audit_security() \
                  WHERE rule = 'rls_disabled' AND object = 'public.notes'), 'test')";
    let error = attempt(&mut client, accept).unwrap_err();
    assert_eq!(error.message, "no contract can allow this finding");
    assert!(error.hint.contains("ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY"), "{error:?}");
    let (_, call) = error.hint.split_once("Or exempt it: ").unwrap();
    attempt(&mut client, &with_reason(call)).unwrap();
}

/// Owner of the objects of the application, in whose name default privileges open new ones.
const AS_OWNER: &str = "SET ROLE postgres; ";

#[test]
fn safe_choice_is_the_first_where_default_privileges_open_a_new_object() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for create in [
        "CREATE TABLE public.notes (id int)",
        "CREATE VIEW public.notes AS SELECT * FROM public.plots",
        "CREATE SEQUENCE public.notes",
        "CREATE FUNCTION public.notes() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        let mut client = copy(&cluster);
        attempt(&mut client, "GRANT CREATE ON SCHEMA public TO postgres").unwrap();
        let sql = format!("{AS_OWNER}{create}");
        let messages = rejected(&cluster, &sql);
        let (_, hint) = messages.split_once("HINT:  ").unwrap();
        assert!(
            hint.starts_with("Run BEGIN; before the statement, and after it:\nREVOKE"),
            "{hint}"
        );
        assert!(hint.contains("\nIf this is intended, declare it first: "), "{hint}");
        let (_, rest) = hint.split_once("after it:\n").unwrap();
        let (revoke, _) = rest.split_once("COMMIT;").unwrap();
        let (succeeded, again) = send(&cluster, &format!("BEGIN; {sql}; {revoke} COMMIT;"));
        assert!(succeeded, "{sql}: {again}");
        let errors = "SELECT detail FROM ops.audit_security(min_severity => 'error')";
        assert_eq!(column(&mut client, errors), [""; 0], "{sql}: {messages}");
    }
}

/// A table with policies, in one transaction, and one with a serial column and two policies.
const WITH_POLICIES: [(&str, &str); 2] = [
    (
        "CREATE TABLE public.lockers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            user_id uuid NOT NULL, code text);
         CREATE INDEX ON public.lockers (user_id);
         ALTER TABLE public.lockers ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON public.lockers TO authenticated
            USING (user_id = (SELECT auth.uid()));
         CREATE VIEW public.locker_codes AS SELECT code FROM public.lockers;
         CREATE TABLE public.locker_log (id int);
         ALTER TABLE public.locker_log ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.lockers TO authenticated",
    ),
    (
        "CREATE TABLE public.notices (id serial PRIMARY KEY, author uuid NOT NULL, body text);
         CREATE INDEX ON public.notices (author);
         ALTER TABLE public.notices ENABLE ROW LEVEL SECURITY;
         CREATE POLICY mine ON public.notices FOR SELECT TO authenticated
            USING (author = (SELECT auth.uid()));
         CREATE POLICY write ON public.notices FOR INSERT TO authenticated
            WITH CHECK (author = (SELECT auth.uid()))",
        "GRANT SELECT, INSERT ON TABLE public.notices TO authenticated",
    ),
];

#[test]
fn new_table_keeps_what_its_policies_allow_by_the_first_choice_of_the_hint() {
    let cluster = Cluster::start();
    adopted(&cluster);
    for (sql, granted) in WITH_POLICIES {
        let mut client = copy(&cluster);
        attempt(&mut client, "GRANT CREATE ON SCHEMA public TO postgres").unwrap();
        let messages = rejected(&cluster, &format!("{AS_OWNER}{sql}"));
        let (_, hint) = messages.split_once("HINT:  To keep what the policies allow").unwrap();
        let hint = Hint::read(hint);
        assert_eq!(hint.calls.len(), 1, "{messages}");
        assert!(hint.calls[0].contains(granted), "{messages}");
        assert!(hint.together.contains("FROM anon;"), "{messages}");
        follow(&cluster, &mut client, &format!("{AS_OWNER}{sql}"), &hint);
        let table = granted.split("ON TABLE ").nth(1).unwrap().split(' ').next().unwrap();
        let held = format!(
            "SELECT concat_ws(' ', grantee, table_name,
                 string_agg(privilege_type, ', ' ORDER BY privilege_type))
             FROM information_schema.role_table_grants
             WHERE (table_schema || '.' || table_name = '{table}' OR table_name LIKE 'locker%')
                 AND grantee IN ('anon', 'authenticated') GROUP BY grantee, table_name"
        );
        let of_client = if table.ends_with("lockers") {
            "authenticated lockers DELETE, INSERT, SELECT, UPDATE"
        } else {
            "authenticated notices INSERT, SELECT"
        };
        assert_eq!(column(&mut client, &held), [of_client], "{messages}");
        // A policy that lets everything through was not declared.
        let open = format!(
            "DROP POLICY IF EXISTS x ON {table}; CREATE POLICY x ON {table} FOR \
                            SELECT TO authenticated USING (true)"
        );
        assert!(rejected(&cluster, &open).contains("rls_policy_always_true"), "{open}");
    }
}

#[test]
fn view_that_reads_rows_as_its_owner_is_said_to() {
    let cluster = Cluster::start();
    adopted(&cluster);
    drop(copy(&cluster));
    let says = "It reads table public.plots with the privileges and the row security policies of \
                its owner.";
    let grant = "GRANT SELECT ON jobs.seen TO anon";
    let messages = |query: &str| {
        send(&cluster, "DROP VIEW IF EXISTS jobs.seen");
        send(&cluster, &format!("CREATE VIEW jobs.seen {query}; {grant}")).1
    };
    let indirect = "AS SELECT * FROM (SELECT id FROM public.plots) AS plots";
    for query in ["AS SELECT id FROM public.plots", indirect] {
        let messages = messages(query);
        assert!(messages.contains(says), "{query}: {messages}");
    }
    for query in ["WITH (security_invoker) AS SELECT id FROM public.plots", "AS SELECT 1 AS id"] {
        let messages = messages(query);
        assert!(!messages.contains("It reads"), "{query}: {messages}");
    }
}

//! One HINT suffices: the statements that it gives, run in the same transaction, let the rejected
//! statement or commit pass, and a cause that several findings share is named once.

use dragonfly_tests::{
    Cluster, ServerError, attempt, column, major_version, with_reason, without_runbook,
};
use postgres::Client;

/// The default privileges of every Supabase database.
const OPEN_DEFAULTS: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
    CREATE ROLE postgres SUPERUSER LOGIN; GRANT USAGE ON SCHEMA public TO anon, authenticated;
    SET ROLE postgres;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated;
    RESET ROLE;";

/// Returns the statements of a HINT; none where it has none for the same transaction. Where default
/// privileges are the cause, they come before the other choices.
fn statements(hint: &str) -> String {
    let Some((_, sql)) = hint.split_once("in the same transaction:") else { return String::new() };
    sql.split("\nIf this is intended").next().unwrap_or_default().to_owned()
}

/// Runs `sql` in a transaction, with `rest` before COMMIT. A failed transaction is rolled back.
fn transaction(client: &mut Client, sql: &str, rest: &str) -> Result<(), ServerError> {
    let result = ["BEGIN", sql, rest, "COMMIT"].iter().try_for_each(|sql| attempt(client, sql));
    attempt(client, "ROLLBACK")?;
    result
}

/// Runs `sql`, which must be rejected, and again with the statements of the HINT, which must pass.
/// Returns the rejection.
fn one_round(client: &mut Client, sql: &str) -> ServerError {
    let rejected = transaction(client, sql, "").expect_err(sql);
    let rest = statements(&rejected.hint);
    assert!(!rest.trim().is_empty(), "{sql}: {rejected:?}");
    if let Err(again) = transaction(client, sql, &rest) {
        panic!("{sql}\nfirst: {rejected:?}\nthen: {again:?}");
    }
    rejected
}

fn database(cluster: &Cluster, name: &str) -> Client {
    drop(cluster.guarded(name));
    let mut client = cluster.connect(name, "postgres");
    attempt(&mut client, "SET dragonfly_guard.check_at = statement").unwrap();
    client
}

fn start() -> Cluster {
    let cluster = Cluster::start();
    let mut client = cluster.connect("template1", dragonfly_tests::SUPERUSER);
    client.batch_execute(OPEN_DEFAULTS).unwrap();
    cluster
}

#[test]
fn statements_of_one_hint_let_a_new_object_pass() {
    let cluster = start();
    let scenarios = [
        "CREATE TABLE public.notes (id serial PRIMARY KEY, body text)",
        "CREATE TABLE public.notes AS SELECT 1 AS id",
        "CREATE TABLE public.t (id int); CREATE VIEW public.v AS SELECT * FROM public.t",
        "CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS id",
        "CREATE SEQUENCE public.s",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
         pg_catalog, pg_temp AS 'SELECT 1'",
        "CREATE TABLE public.t (id bigint GENERATED ALWAYS AS IDENTITY); \
         GRANT ALL ON public.t TO PUBLIC",
        "CREATE TABLE public.t (id int); CREATE TABLE public.\"Odd; name\" (id serial); \
         CREATE VIEW public.v AS SELECT 1; CREATE SEQUENCE public.s",
        "CREATE SCHEMA later; CREATE TABLE public.t (id serial); ALTER TABLE public.t RENAME TO u",
    ];
    for (number, sql) in scenarios.iter().enumerate() {
        let mut client = database(&cluster, &format!("hint{number}"));
        let rejected = one_round(&mut client, sql);
        let cause = "default privileges of role \"postgres\" in schema public grant privileges";
        assert_eq!(rejected.detail.matches(cause).count(), 1, "{sql}: {rejected:?}");
        assert!(
            rejected.hint.contains(
                "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE ALL ON"
            )
        );
        // The cause is removed: the next table needs no statement at all.
        if rejected.hint.contains("ON TABLES FROM anon, authenticated;") {
            transaction(&mut client, "CREATE TABLE public.next (id int)", "").unwrap();
        }
    }
}

#[test]
fn grants_on_a_new_table_get_one_merged_revoke() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("grants");
    client.batch_execute("CREATE ROLE anon; CREATE ROLE authenticated").unwrap();
    let table = "CREATE TABLE public.t (id int)";
    let rejected = one_round(
        &mut client,
        &format!("{table}; GRANT SELECT, INSERT ON public.t TO authenticated, anon"),
    );
    assert_eq!(
        rejected.hint,
        "If this is intended, declare it first: SELECT * FROM ops.declare('CREATE TABLE public.t \
         (); GRANT SELECT, INSERT ON TABLE public.t TO anon, authenticated', note => \
         '...');\nAfter the statement, run: ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;\n\
         Otherwise run in the same transaction: REVOKE SELECT, INSERT ON TABLE public.t FROM \
         anon, authenticated;"
    );
    client.batch_execute("DROP TABLE public.t").unwrap();
    let rejected = one_round(&mut client, &format!("{table}; GRANT ALL ON public.t TO PUBLIC"));
    assert_eq!(
        rejected.hint,
        "If this is intended, declare it first: SELECT * FROM ops.declare('CREATE TABLE public.t \
         (); GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON TABLE public.t \
         TO anon, authenticated, service_role', note => '...');\nAfter the statement, run: ALTER \
         TABLE public.t ENABLE ROW LEVEL SECURITY;\nOtherwise run in the same transaction: REVOKE \
         ALL ON TABLE public.t FROM PUBLIC;"
            .replace("TRIGGER", if major_version() < 17 { "TRIGGER" } else { "TRIGGER, MAINTAIN" })
    );
    assert!(!rejected.detail.contains("default privileges"), "{rejected:?}");
}

#[test]
fn rejected_routine_gets_its_path_and_its_revokes_in_one_hint() {
    let cluster = start();
    let mut client = database(&cluster, "routine");
    let create = |path: &str| {
        format!(
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER {path} AS \
             'SELECT 1'"
        )
    };
    let rejected = transaction(&mut client, &create(""), "").unwrap_err();
    assert!(rejected.message.contains("has no safe search_path"), "{rejected:?}");
    let rest = statements(&rejected.hint);
    assert!(rest.contains("FROM anon, authenticated;"), "{rejected:?}");
    let path = "SET search_path = pg_catalog, pg_temp";
    transaction(&mut client, &create(path), &rest).unwrap();
}

#[test]
fn intended_change_can_be_exempted_or_reverted_by_the_statements_of_the_hint() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("intended");
    let grant = "GRANT ALL ON public.judgments TO PUBLIC";
    let rejected = transaction(&mut client, grant, "").unwrap_err();
    // Every finding can be exempted as the HINT says.
    let calls: Vec<&str> = rejected
        .hint
        .split("SELECT ops.exempt(")
        .skip(1)
        .map(|c| c.split(';').next().unwrap())
        .collect();
    assert_eq!(calls.len(), 2, "{rejected:?}");
    for call in calls {
        attempt(&mut client, &with_reason(&format!("SELECT ops.exempt({call}"))).unwrap();
    }
    transaction(&mut client, grant, "").unwrap();
    client.batch_execute("REVOKE ALL ON public.judgments FROM PUBLIC").unwrap();
    attempt(&mut client, "SELECT ops.unexempt(id => id) FROM ops.v_exemptions").unwrap();
    // At commit, the same transaction can also revert it.
    let deferred = format!("SET LOCAL dragonfly_guard.check_at = commit; {grant}");
    let rejected = one_round(&mut client, &deferred);
    assert!(rejected.hint.contains("Otherwise run in the same transaction:"), "{rejected:?}");
}

#[test]
fn hint_about_very_many_objects_names_the_query_that_lists_the_statements() {
    let cluster = start();
    let mut client = database(&cluster, "many");
    let create = "DO $$ BEGIN FOR i IN 1..100 LOOP
        EXECUTE format('CREATE TABLE public.t%s (id serial)', i); END LOOP; END $$";
    let rejected = transaction(&mut client, create, "").unwrap_err();
    assert!(rejected.hint.len() < 1_000, "{rejected:?}");
    let query = rejected.hint.lines().find(|line| line.starts_with("SELECT statement ")).unwrap();
    let query = query.trim_end_matches(';').to_owned();
    attempt(&mut client, "BEGIN").unwrap();
    attempt(&mut client, create).unwrap();
    let listed = column(&mut client, &query);
    assert!(listed.len() >= 200, "{listed:?}");
    for statement in listed.iter().filter(|sql| !sql.starts_with("--")) {
        attempt(&mut client, statement).unwrap();
    }
    attempt(&mut client, "COMMIT").unwrap();
}

/// Returns the findings of the audit that concern its reader, without those in `known`.
fn findings(client: &mut Client, known: &[String]) -> Vec<String> {
    // The finding that the contract does not describe the database names the schemas with objects.
    let query = "SELECT concat_ws(' ', severity, rule, object, role_name, detail) \
                 FROM ops.audit_security(min_severity => 'warning') \
                 WHERE (rule, object_type) <> ('required_object_missing', 'database')";
    column(client, query).into_iter().filter(|one| !known.contains(one)).collect()
}

/// Returns message, DETAIL and HINT of the rejection that `ops.try_migration()` reports.
fn tried(client: &mut Client, sql: &str) -> [String; 3] {
    let query = "SELECT outcome, detail, evidence->>'detail', evidence->>'hint' \
                 FROM ops.try_migration($1)";
    let rows = client.query(query, &[&sql]).unwrap();
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    assert_eq!(rows[0].get::<_, String>(0), "rejected", "{sql}");
    [1, 2, 3].map(|column| without_runbook(rows[0].get(column)).to_owned())
}

const SEVERAL_VIOLATIONS: [(&str, usize); 8] = [
    ("CREATE TABLE public.notes (id serial PRIMARY KEY, body text)", 5),
    (
        "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
         pg_catalog, pg_temp AS 'SELECT 1'; \
         CREATE FUNCTION public.f(text) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path \
         = pg_catalog, pg_temp AS 'SELECT 1'",
        5,
    ),
    (
        "CREATE TABLE public.t (id int); ALTER TABLE public.t ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON public.t USING (id = 1); CREATE POLICY q ON public.t USING (true)",
        5,
    ),
    (
        "CREATE TABLE public.a (id int); CREATE TABLE public.b (id int); \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated, PUBLIC",
        5,
    ),
    (
        "CREATE SCHEMA intake CREATE TABLE intake.x (id serial) CREATE VIEW intake.v AS SELECT 1 \
         AS id GRANT ALL ON intake.x TO anon GRANT SELECT ON intake.v TO PUBLIC",
        3,
    ),
    (
        "DO $$ BEGIN CREATE TABLE public.t (id int); CREATE VIEW public.v AS SELECT * FROM \
         public.t; CREATE PROCEDURE public.p() LANGUAGE sql SECURITY DEFINER SET search_path = \
         pg_catalog, pg_temp AS 'SELECT 1'; GRANT EXECUTE ON PROCEDURE public.p() TO PUBLIC; \
         END $$",
        5,
    ),
    ("CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS id; CREATE SEQUENCE public.s", 3),
    (
        "CREATE TABLE public.p (id int) PARTITION BY RANGE (id); CREATE TABLE public.p1 PARTITION \
         OF public.p FOR VALUES FROM (1) TO (2)",
        5,
    ),
];

#[test]
fn hint_resolves_every_listed_violation_and_leaves_no_finding() {
    let cluster = start();
    for (number, (sql, least)) in SEVERAL_VIOLATIONS.iter().enumerate() {
        let mut client = database(&cluster, &format!("several{number}"));
        let known = findings(&mut client, &[]);
        let trial = tried(&mut client, sql);
        let rejected = one_round(&mut client, sql);
        assert_eq!(trial, [&*rejected.message, &*rejected.detail, &*rejected.hint], "{sql}");
        let lines: Vec<&str> = rejected.detail.lines().collect();
        assert!(lines.len() >= *least, "{sql}: {lines:#?}");
        if let Some(last) = lines.iter().rposition(|line| line.starts_with("The cause of ")) {
            assert!(lines[..last].iter().all(|line| line.starts_with("The cause of ")));
        }
        assert_eq!(findings(&mut client, &known), [""; 0], "{sql}: {rejected:?}");
    }
}

#[test]
fn grants_on_all_tables_can_be_exempted_by_the_calls_of_the_hint() {
    let cluster = start();
    let mut client = database(&cluster, "all_tables");
    for table in ["a", "b", "\"Odd; 'name\""] {
        let create = format!("CREATE TABLE public.{table} (id int)");
        transaction(
            &mut client,
            &create,
            &format!("REVOKE ALL ON public.{table} FROM anon, authenticated"),
        )
        .unwrap();
    }
    let known = findings(&mut client, &[]);
    let grant = "GRANT SELECT, TRUNCATE ON ALL TABLES IN SCHEMA public TO anon, authenticated";
    let trial = tried(&mut client, grant);
    let rejected = attempt(&mut client, grant).unwrap_err();
    assert_eq!(trial, [&*rejected.message, &*rejected.detail, &*rejected.hint]);
    let (_, choice) = rejected.hint.split_once("Or exempt it:").unwrap_or(("", &rejected.hint));
    let calls: Vec<&str> =
        choice.lines().filter(|line| line.starts_with("SELECT ops.exempt(")).collect();
    assert!(calls.len() >= 6, "{rejected:?}");
    calls.iter().for_each(|call| attempt(&mut client, &with_reason(call)).unwrap());
    attempt(&mut client, grant).unwrap();
    assert_eq!(findings(&mut client, &known), [""; 0], "{rejected:?}");
}

#[test]
fn renamed_table_is_named_as_the_cause_and_loses_its_privileges_by_the_hint() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("swap");
    let swap = "CREATE TABLE public.judgments_new (LIKE public.judgments INCLUDING ALL); \
                ALTER TABLE public.judgments RENAME TO judgments_old; \
                ALTER TABLE public.judgments_new RENAME TO judgments";
    let rejected = transaction(&mut client, swap, "").unwrap_err();
    let cause = "is that table public.judgments has become table public.judgments_old";
    assert!(rejected.detail.lines().next().unwrap().contains(cause), "{rejected:?}");
    assert!(!rejected.hint.contains("ops.exempt"), "{rejected:?}");
    assert!(rejected.hint.contains("ON TABLE public.judgments_old FROM"), "{rejected:?}");
}

#[test]
fn trial_does_not_change_the_messages_about_the_same_statement_in_its_transaction() {
    let cluster = start();
    let mut client = database(&cluster, "trial");
    let sql = "CREATE TABLE public.notes (id int)";
    attempt(&mut client, "BEGIN").unwrap();
    let first = tried(&mut client, sql);
    assert_eq!(tried(&mut client, sql), first);
    let rejected = transaction(&mut client, sql, "").unwrap_err();
    assert_eq!(first, [rejected.message, rejected.detail, rejected.hint]);
}

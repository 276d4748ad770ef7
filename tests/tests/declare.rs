//! The contract in SQL: statements amend it, it is described by statements, and the call in the
//! HINT of a rejection makes the contract allow the statement.

use dragonfly_tests::{Cluster, ServerError, attempt, column, declare_call};
use postgres::Client;

/// Runs statements in a transaction, and returns the rejection.
fn rejection(client: &mut Client, sql: &str) -> Option<ServerError> {
    let result = ["BEGIN", sql, "COMMIT"].iter().try_for_each(|sql| attempt(client, sql));
    attempt(client, "ROLLBACK").unwrap();
    result.err()
}

/// Returns the findings that are not `known`.
fn findings(client: &mut Client, known: &[String]) -> Vec<String> {
    let query = "SELECT concat_ws(' ', severity, rule, object, role_name, detail) \
                 FROM ops.audit_security(min_severity => 'warning')";
    column(client, query).into_iter().filter(|one| !known.contains(one)).collect()
}

/// What a contract can allow.
const ALLOWED: [&str; 25] = [
    "GRANT SELECT ON public.plaintiff_contacts TO anon",
    "GRANT SELECT, INSERT ON public.plaintiff_contacts TO anon, authenticated",
    "GRANT UPDATE (id) ON public.judgments TO authenticated",
    "GRANT SELECT (id) ON public.judgments TO anon",
    "GRANT USAGE ON SCHEMA intake TO anon",
    "CREATE TABLE public.\"Odd 'name\" (id int); \
     ALTER TABLE public.\"Odd 'name\" ENABLE ROW LEVEL SECURITY; \
     CREATE POLICY p ON public.\"Odd 'name\" FOR SELECT TO anon USING (id IS NOT NULL); \
     GRANT SELECT ON public.\"Odd 'name\" TO anon; \
     GRANT ALL ON public.\"Odd 'name\" TO service_role",
    "CREATE SEQUENCE public.numbers; GRANT USAGE ON SEQUENCE public.numbers TO authenticated; \
     GRANT ALL ON SEQUENCE public.numbers TO service_role",
    "GRANT INSERT ON public.v_judgment_pipeline TO authenticated",
    "CREATE FUNCTION public.f(a bigint, b text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION public.f FROM PUBLIC; \
     GRANT EXECUTE ON ROUTINE public.f \
     TO authenticated, service_role",
    "CREATE FUNCTION public.d(int) RETURNS int LANGUAGE sql SECURITY DEFINER \
     SET search_path = pg_catalog, pg_temp AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION public.d FROM PUBLIC; \
     GRANT EXECUTE ON ROUTINE public.d \
     TO authenticated, service_role",
    "CREATE POLICY more ON public.judgments FOR INSERT TO authenticated \
     WITH CHECK (id IS NOT NULL)",
    "CREATE POLICY deletes ON public.judgments FOR DELETE TO anon USING (id IS NOT NULL)",
    "DROP TABLE public.plaintiff_tasks CASCADE",
    "DROP VIEW public.v_judgment_pipeline",
    "DROP FUNCTION api.get_ceo_metrics()",
    "DROP FUNCTION api.queue_job",
    "DROP VIEW public.v_plaintiffs_overview CASCADE; DROP VIEW ops.v_reaper_status",
    "GRANT UPDATE ON public.plaintiff_contacts TO anon; GRANT INSERT ON public.plaintiffs TO anon",
    "GRANT SELECT ON public.judgments TO PUBLIC",
    "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.judgments TO authenticated",
    "GRANT DELETE ON intake.simplicity_batches TO authenticated; \
     CREATE POLICY d ON intake.simplicity_batches FOR DELETE TO authenticated \
     USING (id IS NOT NULL)",
    "ALTER TABLE public.plaintiff_contacts RENAME TO contacts",
    "ALTER VIEW public.v_collectability_snapshot RENAME TO \"v Snapshot\"",
    "ALTER FUNCTION api.get_dashboard_stats() RENAME TO stats",
    "ALTER SCHEMA enforcement RENAME TO \"Enforce it\"",
];

#[test]
fn call_in_the_hint_of_a_rejection_lets_the_statement_pass_and_leaves_no_finding() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("allowed");
    let known = findings(&mut client, &[]);
    let mut failed = Vec::new();
    for sql in ALLOWED {
        // A statement that the guard rejects hides what it would say about the next one.
        let mut calls = String::new();
        for _ in 0..3 {
            let Some(error) = rejection(&mut client, &format!("{calls} {sql}")) else { break };
            match declare_call(&error.hint) {
                Some(call) => calls += &call,
                None => failed.push(format!("{sql}: {calls} no call in {error:#?}")),
            }
        }
        // It has been committed with the last call.
        if calls.is_empty() {
            failed.push(format!("{sql} is not rejected, or its HINT has no call"));
        }
        let left = findings(&mut client, &known);
        if !left.is_empty() {
            failed.push(format!("{sql}: {calls}\n  leaves {left:#?}"));
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn contract_printed_as_sql_and_declared_again_is_the_same() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("printed");
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    // Declared on another contract, in a statement for each line.
    attempt(
        &mut client,
        "SELECT FROM ops.declare('DROP SCHEMA intake; DROP ROLE anon; CREATE SCHEMA other; \
         GRANT USAGE ON SCHEMA other TO authenticated; SET contract.name = other', 'differs')",
    )
    .unwrap();
    client.execute("SELECT FROM ops.declare($1, 'as before')", &[&printed]).unwrap();
    let changes = "SELECT unnest(ops.contract_changes(dragonfly_guard.default_contract(), \
                   ops.contract()))";
    assert_eq!(column(&mut client, changes), ["~ version: 1.0.0 -> 1.2.0"]);
    let again = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert_eq!(again.replace("1.2.0", "1.0.0"), printed);
    // What is declared already is no new contract.
    client.execute("SELECT FROM ops.declare($1, 'once more')", &[&again]).unwrap();
    assert_eq!(
        column(&mut client, "SELECT version FROM ops.contract_history"),
        ["1.0.0", "1.1.0", "1.2.0"]
    );
}

#[test]
fn text_of_a_contract_that_is_no_single_declaration_is_not_printed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("texts");
    let edited = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.0.0"'), '{functions,0,arguments}',
        '"int); ALTER ROLE anon SET contract.kind = worker; CREATE FUNCTION api.x(int"'))"#;
    client.batch_execute(edited).unwrap();
    let view = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.1.0"'), '{views,0,definition}', '"SELECT 1 AS a -- a comment"'))"#;
    client.batch_execute(view).unwrap();
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert!(!printed.contains("worker; CREATE"), "{printed}");
    assert!(printed.contains("AS SELECT 1 AS a -- a comment\n;\n"), "{printed}");
    client.execute("SELECT FROM ops.declare($1, 'again')", &[&printed]).unwrap();
    let kind = "SELECT r->>'kind' FROM jsonb_array_elements(ops.contract()->'roles') AS r
        WHERE r->>'name' = 'anon'";
    assert_eq!(column(&mut client, kind), ["client"]);
}

/// Statements, and the beginning of the error that they raise.
const REFUSED: [(&str, &str); 14] = [
    ("VACUUM", "VACUUM does not amend a contract"),
    ("SELECT 1", "SELECT does not amend a contract"),
    ("GRNT SELECT", "syntax error at or near \"GRNT\""),
    ("GRANT SELECT ON public.judgments TO PUBLIC", "a contract does not grant to PUBLIC"),
    ("GRANT SELECT ON public.judgments TO ghost", "role \"ghost\" is not declared"),
    ("GRANT SELECT ON judgments TO anon", "judgments has no schema"),
    ("GRANT SELECT ON public.missing TO anon", "relation public.missing is neither declared"),
    ("GRANT anon TO authenticated", "a contract does not declare memberships"),
    ("GRANT SELECT ON public.judgments TO anon WITH GRANT OPTION", "a contract does not declare"),
    ("CREATE ROLE worker PASSWORD 'secret'", "a contract does not declare passwords"),
    ("ALTER TABLE public.judgments ADD COLUMN x int", "this action of ALTER TABLE does not amend"),
    ("CREATE POLICY p ON public.judgments USING (true)", "a contract declares policies for roles"),
    ("SET work_mem = '1GB'", "setting \"work_mem\" is no field of the contract"),
    (
        "ALTER ROLE anon SUPERUSER; DROP TABLE public.missing",
        "table public.missing is not declared",
    ),
];

#[test]
fn statement_that_a_contract_cannot_express_changes_and_executes_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("refused");
    let query = "SELECT FROM ops.declare($1, 'test', run => true)";
    for (sql, message) in REFUSED {
        let sql = format!("CREATE SCHEMA unwanted; {sql}");
        let error = client.execute(query, &[&sql]).expect_err(&sql);
        let error = error.as_db_error().unwrap();
        assert!(error.message().starts_with(message), "{sql}: {error:?}");
        let has_hint = error.hint().is_some() || error.code().code() == "42601";
        assert!(has_hint, "{sql}: {error:?}");
    }
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["1"]);
    assert_eq!(column(&mut client, "SELECT to_regnamespace('unwanted')::text"), [""]);
}

#[test]
fn statements_are_executed_only_with_run_and_checked_together() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("run");
    let table = "CREATE TABLE public.notes (id bigint PRIMARY KEY); \
                 GRANT ALL ON public.notes TO service_role; \
                 GRANT SELECT ON public.notes TO authenticated; \
                 ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY own ON public.notes FOR SELECT TO authenticated USING (id > 0); \
                 ALTER ROLE anon SET contract.kind = client";
    let known = findings(&mut client, &[]);
    client.execute("SELECT FROM ops.declare($1, 'first')", &[&table]).unwrap();
    assert_eq!(column(&mut client, "SELECT to_regclass('public.notes')::text"), [""]);
    client.execute("SELECT FROM ops.declare($1, 'then', run => true)", &[&table]).unwrap();
    assert_eq!(column(&mut client, "SELECT to_regclass('public.notes')::text"), ["notes"]);
    assert_eq!(findings(&mut client, &known), [""; 0]);
    // A statement that fails takes the contract with it.
    let failing = "CREATE TABLE public.notes (id bigint); COMMENT ON TABLE public.notes IS 'x'";
    client.execute("SELECT FROM ops.declare($1, 'fails', run => true)", &[&failing]).unwrap_err();
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["2"]);
}

#[test]
fn accepted_finding_is_none_and_one_that_no_contract_allows_says_what_to_do() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("accept");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT UPDATE ON public.judgments TO authenticated; \
             CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    let fingerprint = |client: &mut Client, rule: &str| {
        let query = format!(
            "SELECT fingerprint FROM ops.audit_security(ARRAY['{rule}']) \
             WHERE object IN ('public.judgments', 'public.f()')"
        );
        column(client, &query)
    };
    let found = fingerprint(&mut client, "direct_write");
    assert_eq!(found.len(), 1);
    let accept = format!("SELECT change FROM ops.accept('{}', 'reviewed')", found[0]);
    let changes = column(&mut client, &accept);
    assert!(
        changes.contains(&"~ tables[public.judgments].grants.authenticated: +UPDATE".to_owned()),
        "{changes:?}"
    );
    assert_eq!(fingerprint(&mut client, "direct_write"), [""; 0]);
    let found = fingerprint(&mut client, "security_definer_search_path").remove(0);
    let error = attempt(&mut client, &format!("SELECT FROM ops.accept('{found}', 'x')"));
    let error = error.unwrap_err();
    assert_eq!(error.message, "no contract can allow this finding");
    assert!(error.hint.contains("SET search_path"), "{error:?}");
    let error = attempt(&mut client, "SELECT FROM ops.accept('none', 'x')").unwrap_err();
    assert_eq!(error.message, "no finding has fingerprint \"none\"");
}

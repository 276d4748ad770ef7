//! The contract in SQL: statements amend it, it is described by statements, and the call in the
//! HINT of a rejection makes the contract allow the statement.

use dragonfly_tests::{Cluster, ServerError, attempt, column};
use postgres::Client;

/// Returns the call of ops.declare() in a HINT.
fn call(hint: &str) -> Option<String> {
    let rest = &hint[hint.find("SELECT * FROM ops.declare(")?..];
    let end = rest.find("note => '...');")? + "note => '...');".len();
    Some(rest[..end].to_owned())
}

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
const ALLOWED: [&str; 20] = [
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
     GRANT EXECUTE ON FUNCTION public.f TO authenticated, service_role",
    "CREATE FUNCTION public.d(int) RETURNS int LANGUAGE sql SECURITY DEFINER \
     SET search_path = pg_catalog, pg_temp AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION public.d FROM PUBLIC; \
     GRANT EXECUTE ON FUNCTION public.d TO authenticated, service_role",
    "CREATE POLICY more ON public.judgments FOR INSERT TO authenticated WITH CHECK (id IS NOT NULL)",
    "CREATE POLICY deletes ON public.judgments FOR DELETE TO anon USING (id IS NOT NULL)",
    "DROP TABLE public.plaintiff_tasks CASCADE",
    "DROP VIEW public.v_judgment_pipeline",
    "DROP FUNCTION api.get_ceo_metrics()",
    "DROP VIEW public.v_plaintiffs_overview CASCADE; DROP VIEW ops.v_reaper_status",
    "GRANT UPDATE ON public.plaintiff_contacts TO anon; GRANT INSERT ON public.plaintiffs TO anon",
    "GRANT SELECT ON public.judgments TO PUBLIC",
    "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.judgments TO authenticated",
    "GRANT DELETE ON intake.simplicity_batches TO authenticated; \
     CREATE POLICY d ON intake.simplicity_batches FOR DELETE TO authenticated USING (id IS NOT NULL)",
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
            match call(&error.hint) {
                Some(call) => calls += &call,
                None => failed.push(format!("{sql}: {calls} no call in {error:#?}")),
            }
        }
        // It has been committed with the last call.
        assert!(!calls.is_empty(), "{sql} is not rejected");
        let left = findings(&mut client, &known);
        if !left.is_empty() {
            failed.push(format!("{sql}: {calls}\n  leaves {left:#?}"));
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

//! `ops.try_migration()` returns the findings that a migration adds and removes, and rolls it back.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// The rows of `ops.try_migration()` as lines: `outcome rule object role: detail`, for a rejection
/// followed by the first sentence of its DETAIL.
fn tried(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client
        .query(
            "SELECT concat_ws(' ', outcome, rule, object, role_name) || ': ' || detail ||
                    CASE outcome WHEN 'rejected'
                    THEN coalesce(': ' || substring(evidence->>'detail' FROM '^.*?[.](?= [A-Z])'), \
             '')
                    ELSE '' END
               FROM ops.try_migration($1) WHERE severity <> 'info'",
            &[&sql],
        )
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

const STATE: &str = "SELECT (SELECT string_agg(fingerprint, ',' ORDER BY fingerprint) FROM \
                     ops.audit_security()) || ' '
    || (SELECT count(*) FROM pg_class) || ' ' || (SELECT count(*) FROM pg_proc) || ' ' || (SELECT \
                     count(*) FROM pg_policy) || ' '
    || current_user || ' ' || current_setting('search_path') || ' ' || current_setting('work_mem')";

#[test]
fn try_migration_reports_outcomes_and_changes_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute("SET client_min_messages = error").unwrap();
    let before = column(&mut client, STATE);
    // Findings that it adds.
    assert_eq!(
        tried(
            &mut client,
            "CREATE TABLE public.notes (id int); GRANT SELECT ON public.notes TO authenticated"
        ),
        ["rejected table_privileges: COMMIT violates the security contract: table_privileges on \
             table public.notes: Role \"authenticated\" has SELECT on table public.notes, which \
          the \
             contract does not declare."]
    );
    assert_eq!(
        tried(
            &mut client,
            "CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        ),
        ["added routine_executable_by_public public.helper() PUBLIC: PUBLIC (every role) has \
             EXECUTE on function public.helper() by default, \
          which the contract does not declare."]
    );
    // Findings that it removes.
    let mut admin = cluster.connect("app", SUPERUSER);
    admin
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE public.job_queue DISABLE ROW \
                         LEVEL SECURITY",
        )
        .unwrap();
    assert_eq!(
        tried(&mut client, "ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY"),
        ["removed rls_disabled public.job_queue: Row security is disabled on table \
             public.job_queue, for which the contract requires it."]
    );
    admin.batch_execute("ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY").unwrap();
    // No difference.
    assert_eq!(
        tried(
            &mut client,
            "COMMENT ON TABLE public.judgments IS 'x'; SELECT 1; SET work_mem = '7MB'; SET ROLE \
             postgres"
        ),
        [""; 0]
    );
    // A rejection at commit, and one at the end of the statement.
    assert_eq!(
        tried(&mut client, "DROP VIEW public.v_judgment_pipeline"),
        ["rejected required_object_missing: DROP VIEW violates the security contract: \
             required_object_missing on view public.v_judgment_pipeline: View \
             public.v_judgment_pipeline, which the contract declares, does not exist."]
    );
    let definer = tried(
        &mut client,
        "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    assert_eq!(
        definer,
        ["rejected security_definer_search_path: SECURITY DEFINER function api.f() has no safe \
             search_path: The function would be exploitable: no search_path is set, so names in \
          its \
             body are looked up in the caller's search_path."]
    );
    let evidence = "SELECT (evidence->>'sqlstate') || ' ' || (evidence->>'hint') FROM \
                    ops.try_migration(
        'SET ROLE postgres; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS \
                    ''SELECT 1''')";
    assert_eq!(
        column(&mut client, evidence),
        ["42P13 Create the function with SECURITY DEFINER SET search_path = public, pg_temp.\n\
          See docs/how-to/runbook.md."]
    );
    // A statement that fails, and a deferred constraint that fails at commit.
    assert_eq!(tried(&mut client, "SELECT 1/0"), ["failed: division by zero"]);
    assert_eq!(
        tried(&mut client, "CREATE TABEL x ()"),
        ["failed: syntax error at or near \"TABEL\""]
    );
    let deferred = "CREATE TABLE enforcement.a (id int PRIMARY KEY);
        CREATE TABLE enforcement.b (a int REFERENCES enforcement.a DEFERRABLE INITIALLY DEFERRED); \
                    INSERT INTO enforcement.b VALUES (1)";
    assert!(
        tried(&mut client, deferred)[0]
            .starts_with("failed: insert or update on table \"b\" violates foreign key"),
        "deferred"
    );
    // Migrations that cannot be tried.
    for (sql, message) in [
        ("BEGIN", "a statement that begins or ends a transaction cannot be tried"),
        (
            "COMMENT ON SCHEMA public IS 'x'; COMMIT",
            "a statement that begins or ends a transaction cannot be tried",
        ),
        ("ROLLBACK", "a statement that begins or ends a transaction cannot be tried"),
        ("SAVEPOINT s", "a statement that begins or ends a transaction cannot be tried"),
        ("COPY public.judgments FROM STDIN", "COPY from or to the client cannot be tried"),
        (
            "CREATE INDEX CONCURRENTLY i ON public.judgments (stage)",
            "CREATE INDEX CONCURRENTLY cannot run inside a transaction block",
        ),
        ("VACUUM public.judgments", "VACUUM cannot run inside a transaction block"),
        ("DO $$ BEGIN COMMIT; END $$", "invalid transaction termination"),
        ("SELECT 1; PREPARE p AS SELECT 1", "a statement that changes the session cannot be tried"),
        ("DEALLOCATE ALL", "a statement that changes the session cannot be tried"),
        ("DISCARD SEQUENCES", "a statement that changes the session cannot be tried"),
        ("CLOSE ALL", "a statement that changes the session cannot be tried"),
        (
            "DROP EXTENSION dragonfly_guard",
            "a migration that drops the security guard cannot be tried",
        ),
    ] {
        assert_eq!(tried(&mut client, sql), [format!("not tried: {message}")], "{sql}");
    }
    // A function with the name of one of the extension's.
    let impostor = tried(
        &mut client,
        "CREATE FUNCTION ops.golden_sql(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    assert!(impostor[0].starts_with("rejected"), "{impostor:?}");
    for (sql, message) in [("NULL", "sql must not be null"), ("' '", "sql must not be empty")] {
        let call = format!("SELECT ops.try_migration({sql})");
        assert_eq!(attempt(&mut client, &call).unwrap_err().message, message);
    }
    assert_eq!(column(&mut client, STATE), before);
}

#[test]
fn try_migration_changes_nothing_within_a_transaction() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET client_min_messages = error; BEGIN; CREATE TABLE enforcement.mine (id int)",
        )
        .unwrap();
    for sql in [
        "CREATE TABLE enforcement.other (id int)",
        "DROP VIEW public.v_judgment_pipeline",
        "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "SELECT 1/0",
        "SELECT ops.load_contract(jsonb_set(ops.contract(), '{version}', '\"9.0.0\"'))",
        "SELECT ops.exempt(rule => 'direct_write', object => '*', reason => 'x')",
    ] {
        tried(&mut client, sql);
    }
    client.batch_execute("ALTER TABLE enforcement.mine ADD name text; COMMIT").unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT to_regclass('enforcement.mine')::text || ' ' || \
             (to_regclass('enforcement.other') IS NULL)"
        ),
        ["enforcement.mine true"]
    );
    assert_eq!(
        column(
            &mut client,
            "SELECT ops.contract()->>'version' || ' ' || count(*) FROM ops.v_exemptions"
        ),
        ["1.0.0 0"]
    );
    // The migration has the privileges of the caller, and the guard checks later statements.
    client.batch_execute("SET ROLE postgres").unwrap();
    assert_eq!(tried(&mut client, "ALTER ROLE postgres SUPERUSER").len(), 1);
    assert!(attempt(&mut client, "DROP VIEW public.v_judgment_pipeline").is_err());
    client.batch_execute("RESET ROLE; SET ROLE service_role").unwrap();
    assert_eq!(
        attempt(&mut client, "SELECT ops.try_migration('SELECT 1')").unwrap_err().code,
        "42501"
    );
    client.batch_execute("RESET ROLE; SET statement_timeout = '300ms'").unwrap();
    assert_eq!(
        attempt(&mut client, "SELECT ops.try_migration('SELECT pg_sleep(60)')").unwrap_err().code,
        "57014"
    );
    assert!(!cluster.log().contains("leaked"), "{}", cluster.log());
    // Notices are sent to the client.
    let output = cluster.client_program(
        "psql",
        &[
            "-X",
            "-d",
            "app",
            "-c",
            "SELECT * FROM ops.try_migration($$ DO 'BEGIN RAISE NOTICE ''seen''; END' $$)",
        ],
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("NOTICE:  seen"), "{output:?}");
}

/// Only errors that the guard has raised are reported as rejections.
#[test]
fn imitated_rejection_is_reported_as_failed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute("SET client_min_messages = error").unwrap();
    let definer = "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    let raise = "message = text, detail = details, errcode = code";
    let block = |handler: &str| {
        format!(
            "DO $d$ DECLARE text text; details text; code text; BEGIN {definer};
             EXCEPTION WHEN OTHERS THEN
               GET STACKED DIAGNOSTICS text = MESSAGE_TEXT, details = PG_EXCEPTION_DETAIL, code = \
             RETURNED_SQLSTATE;
               {handler} END $d$"
        )
    };
    let mut outcome = |sql: &str| {
        let rows = client
            .query(
                "SELECT concat_ws(' ', outcome, rule, evidence->>'sqlstate') FROM \
                    ops.try_migration($1)",
                &[&sql],
            )
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows[0].get::<_, String>(0)
    };
    // A rejection stays one where a function raises the error again.
    assert_eq!(outcome(definer), "rejected security_definer_search_path 42P13");
    assert_eq!(outcome(&block("RAISE;")), "rejected security_definer_search_path 42P13");
    // Message and SQLSTATE alone do not make a rejection, not even after one that was caught.
    assert_eq!(outcome(&block(&format!("RAISE EXCEPTION USING {raise};"))), "failed 42P13");
    assert_eq!(
        outcome(&block("PERFORM ops.load_contract('{}'::jsonb);")).split(' ').next(),
        Some("failed")
    );
    let imitated = |message: &str, detail: &str, code: &str| {
        format!(
            "DO $d$ BEGIN RAISE EXCEPTION '{message}' USING detail = '{detail}', errcode = \
             '{code}'; END $d$"
        )
    };
    let rule = "Rule table_privileges, contract dragonfly_civil 1.0.0, section 4.";
    assert_eq!(
        outcome(&imitated("COMMIT violates the security contract", rule, "0LP01")),
        "failed 0LP01"
    );
    assert_eq!(
        outcome(&imitated("ALTER ROLE would disable the security guard", "", "42939")),
        "failed 42939"
    );
    assert_eq!(outcome(&imitated("this migration cannot be tried", "", "0A000")), "failed 0A000");
}

//! The enforcement of a contract: what the guard does about a violation at most. The audit does not
//! depend on it, and the guard protects itself whatever it is.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

/// A statement that violates rule `table_privileges` of the shipped contract.
const VIOLATION: &str = "GRANT SELECT ON public.judgments TO anon";

/// The contract in force with another version and other fields.
fn load(client: &mut Client, version: &str, fields: &str) {
    let load = format!(
        "SELECT ops.load_contract(ops.contract() || '{{\"version\": \"{version}\"}}' || '{fields}')"
    );
    attempt(client, &load).unwrap_or_else(|e| panic!("{e:?}\n{load}"));
}

/// Runs SQL with psql in its own session, and returns whether it succeeded and the messages.
fn psql(cluster: &Cluster, sql: &str) -> (bool, String) {
    let arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "app", "-c", sql];
    let output = cluster.client_program("psql", &arguments);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns event and rule of each row of the log.
fn logged(client: &mut Client) -> Vec<String> {
    column(client, "SELECT concat_ws(' ', event, rule, command) FROM ops.v_guard_log")
}

#[test]
fn contract_that_observes_allows_violation_without_message_and_logs_it() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    load(&mut client, "1.1.0", r#"{"enforcement": "observe"}"#);
    assert_eq!(psql(&cluster, VIOLATION), (true, String::new()));
    assert_eq!(logged(&mut client), ["observed table_privileges GRANT"]);
    let message = column(&mut client, "SELECT message FROM ops.v_guard_log");
    assert!(message[0].starts_with("GRANT violates the security contract"), "{message:?}");
    // What would only be a WARNING with another enforcement is logged as well.
    let view = "CREATE VIEW public.shown AS SELECT 1 AS id; GRANT SELECT ON public.shown TO anon";
    assert_eq!(psql(&cluster, view), (true, String::new()));
    let warned = "observed undeclared_view_readable COMMIT".to_owned();
    assert!(logged(&mut client).contains(&warned), "{:?}", logged(&mut client));
    // Neither audit nor assertion depends on it.
    let found = "SELECT object FROM ops.audit_security() WHERE rule = 'table_privileges'";
    assert_eq!(column(&mut client, found), ["public.judgments"]);
    assert!(attempt(&mut client, "SELECT ops.assert_security()").is_err());
}

#[test]
fn contract_that_warns_allows_violation_with_a_warning() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    load(&mut client, "1.1.0", r#"{"enforcement": "warn"}"#);
    let (succeeded, message) = psql(&cluster, VIOLATION);
    assert!(succeeded && message.starts_with("WARNING:  GRANT violates"), "{message}");
    assert_eq!(logged(&mut client), ["warned table_privileges GRANT"]);
    load(&mut client, "1.2.0", r#"{"enforcement": "block"}"#);
    let changes = column(&mut client, "SELECT changes::text FROM ops.contract_history");
    assert!(changes[2].contains("~ enforcement: warn -> block"), "{changes:?}");
    let error = attempt(&mut client, "GRANT DELETE ON public.judgments TO anon").unwrap_err();
    assert_eq!(error.code, "0LP01");
}

#[test]
fn rule_that_observes_is_logged_while_other_rules_block() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    load(&mut client, "1.1.0", r#"{"rules": {"table_privileges": {"guard": "observe"}}}"#);
    let action = "SELECT guard FROM ops.security_rules() WHERE rule = 'table_privileges'";
    assert_eq!(column(&mut client, action), ["observe"]);
    assert_eq!(psql(&cluster, VIOLATION), (true, String::new()));
    assert_eq!(logged(&mut client), ["observed table_privileges GRANT"]);
    let disabled = "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY";
    assert_eq!(attempt(&mut client, disabled).unwrap_err().code, "42P17");
}

#[test]
fn mode_of_a_session_cannot_exceed_the_enforcement_of_the_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let (succeeded, message) =
        psql(&cluster, &format!("SET dragonfly_guard.mode = warn; {VIOLATION}"));
    assert!(succeeded && message.contains("WARNING:"), "the contract blocks: {message}");
    attempt(&mut client, "REVOKE SELECT ON public.judgments FROM anon").unwrap();
    load(&mut client, "1.1.0", r#"{"enforcement": "observe"}"#);
    for mode in ["block", "warn"] {
        let sql = format!("BEGIN; SET LOCAL dragonfly_guard.mode = {mode}; {VIOLATION}; ROLLBACK");
        assert_eq!(psql(&cluster, &sql), (true, String::new()), "{mode}");
    }
    let off = format!("SET dragonfly_guard.mode = off; {VIOLATION}");
    assert_eq!(psql(&cluster, &off), (true, String::new()));
    assert!(logged(&mut client).contains(&"unchecked GRANT".to_owned()));
}

#[test]
fn guard_protects_itself_whatever_the_enforcement() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let mut client = cluster.guarded_document("app");
    load(&mut client, "1.1.0", r#"{"enforcement": "observe"}"#);
    assert_eq!(
        column(&mut client, "SELECT guard FROM ops.security_rules() WHERE rule = 'guard_tampered'"),
        ["block"]
    );
    for (sql, code) in [
        ("ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE", "42939"),
        ("GRANT EXECUTE ON FUNCTION ops.audit_security TO PUBLIC", "42939"),
        ("GRANT INSERT ON dragonfly_guard.contract TO anon", "42939"),
        ("CREATE FUNCTION ops.exempt(text) RETURNS int LANGUAGE sql AS 'SELECT 1'", "42939"),
        (
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER \
             SET search_path = public, pg_temp SET dragonfly_guard.mode = off AS 'SELECT 1'",
            "42P13",
        ),
        ("ALTER ROLE anon SET dragonfly_guard.mode = off", "42939"),
        ("ALTER ROLE anon SET session_replication_role = replica", "42939"),
        ("DROP EXTENSION dragonfly_guard", "2BP01"),
        ("DROP SCHEMA dragonfly_guard CASCADE", "2BP01"),
    ] {
        assert_eq!(attempt(&mut client, sql).map_err(|e| e.code), Err(code.to_owned()), "{sql}");
    }
}

#[test]
fn transaction_with_a_changed_schema_can_be_prepared_where_nothing_is_blocked() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let prepare = "BEGIN; CREATE SCHEMA reports; PREPARE TRANSACTION 'p'";
    assert_eq!(attempt(&mut client, prepare).unwrap_err().code, "0A000");
    attempt(&mut client, "ROLLBACK").unwrap();
    load(&mut client, "1.1.0", r#"{"enforcement": "observe"}"#);
    assert_eq!(psql(&cluster, prepare), (true, String::new()));
    attempt(&mut client, "COMMIT PREPARED 'p'").unwrap();
    assert_eq!(logged(&mut client), ["observed PREPARE TRANSACTION"]);
}

#[test]
fn status_and_doctor_say_which_enforcement_is_in_force() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let status = "SELECT concat_ws('|', active, detail, gap, fix) FROM ops.guard_status() \
                  WHERE component = 'contract'";
    assert_eq!(
        column(&mut client, status),
        ["t|Contract \"dragonfly_civil\" 1.0.0 is in force. Its enforcement is block: statements \
          that violate it are rejected."]
    );
    load(&mut client, "1.1.0", r#"{"enforcement": "observe"}"#);
    assert_eq!(
        column(&mut client, status),
        ["f|Contract \"dragonfly_civil\" 1.1.0 is in force. Its enforcement is observe: \
          statements that violate it are allowed and logged.|Statements that violate the contract \
          are not rejected.|SELECT * FROM ops.load_contract(ops.contract() || '{\"version\": \
          \"1.2.0\", \"enforcement\": \"block\"}');"]
    );
    let mode = "SELECT detail FROM ops.guard_status() WHERE component = 'mode'";
    assert_eq!(column(&mut client, mode), ["block: what the contract's enforcement says is done."]);
    let doctor = "SELECT detail FROM ops.doctor() WHERE area = 'guard'";
    assert!(column(&mut client, doctor)[0].contains("enforcement is observe"));
    let (_, message) =
        psql(&cluster, "SELECT ops.load_contract(ops.contract() || '{\"version\": \"1.1.1\"}')");
    assert!(message.contains("DETAIL:  Its enforcement is observe:"), "{message}");
    // The fix of the status ends it.
    let fix = "SELECT fix FROM ops.guard_status() WHERE component = 'contract'";
    let fix = column(&mut client, fix).remove(0);
    attempt(&mut client, &fix).unwrap();
    assert_eq!(attempt(&mut client, VIOLATION).unwrap_err().code, "0LP01");
    assert!(column(&mut client, status)[0].starts_with("t|"));
}

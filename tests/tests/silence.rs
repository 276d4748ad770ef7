//! No function answers a question that was not asked: NULL where a value is required, an empty
//! text, an empty array, and null elements are errors that name the argument.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// The arguments for which NULL has a documented meaning: all, the default, or none.
const NULL_HAS_A_MEANING: &[&str] = &[
    "adopt(schemas)",
    "adopt(name)",
    "adopt(reason)",
    "adopt(expires_in)",
    "apply_golden_sql(schemas)",
    "apply_golden_sql(rules)",
    "apply_golden_sql(steps)",
    "apply_golden_sql(max_risk)",
    "audit_security(rules)",
    "audit_security(schemas)",
    "audit_security(min_severity)",
    "audit_snapshot(contract)",
    "audit_snapshot(rules)",
    "audit_snapshot(schemas)",
    "audit_snapshot(min_severity)",
    "check_schema_consistency(label)",
    "check_schema_consistency(schemas)",
    "doctor(authenticator)",
    "exempt(expires_at)",
    "exempt(role_name)",
    "explain_access(privilege)",
    "explain_access(authenticator)",
    "explain_policy(policy)",
    "explain_policy(role)",
    "fix_schema_cache(authenticator)",
    "freeze_schema(schemas)",
    "golden_sql(schemas)",
    "golden_sql(rules)",
    "contract_json(contract)",
    "infer_contract(schemas)",
    "infer_exemptions(contract)",
    "infer_exemptions(expires_in)",
    "judge_search_path(path)",
    "load_contract(note)",
    "prove_isolation(role)",
    "prove_isolation(commands)",
    "prove_policy(policy)",
    "prove_policy(role)",
    "report(rules)",
    "report(schemas)",
    "report(min_severity)",
    "rollback_contract(to_version)",
    "rollback_contract(note)",
    "schema_fingerprint(schemas)",
    "schema_snapshot(schemas)",
];

/// The arguments for which an empty text has a meaning: the empty search_path, and a text of which
/// the result says that it is empty.
const EMPTY_HAS_A_MEANING: &[&str] = &["judge_search_path(path)", "validate_contract(contract)"];

/// The SQLSTATEs of an argument that cannot be answered: null_value_not_allowed,
/// invalid_parameter_value and, for empty jsonb text, invalid_text_representation.
const EXPECTED: [&str; 3] = ["22004", "22023", "22P02"];

/// Returns a valid value of an argument.
fn valid(function: &str, argument: &str, kind: &str) -> String {
    let text = match argument {
        "contract" if kind == "jsonb" => return "ops.contract()".into(),
        "contract" => return "ops.contract()::text".into(),
        "earlier" | "later" => return "ops.contract()".into(),
        "snapshot" if kind == "json" => return "ops.snapshot()".into(),
        "snapshot" => return "ops.schema_snapshot()".into(),
        "schemas" => "{public}",
        "rules" => "{direct_write}",
        "steps" => "{1}",
        "max_risk" => "low",
        "min_severity" => "error",
        "mode" => "strict",
        "format" => "sarif",
        "path" => "public",
        "role" | "role_name" | "authenticator" => "anon",
        "object" => "public.t",
        "table" => "public.limited",
        "policy" => "p",
        "privilege" => "SELECT",
        "label" if function == "unfreeze_schema" => "frozen",
        "label" if function == "check_schema_consistency" => "frozen",
        "label" => "another",
        "sql" => "SELECT 1",
        "function" => "public.f()",
        "owner" => "postgres",
        "fingerprint" => return "(SELECT fingerprint FROM ops.audit_security() LIMIT 1)".into(),
        "reason" => "because",
        "rule" => "direct_write",
        "expires_at" => "infinity",
        "expires_in" => "1 day",
        "name" if function == "contract_preset" => "postgrest",
        "name" if function == "adopt" => "app",
        "note" => "note",
        "to_version" | "version" => "1.0.0",
        "id" => "1",
        "dry_run" | "include_exempted" | "replace" | "without_where" => "true",
        "a" | "b" => r#"{"sub": "x"}"#,
        "commands" => "{SELECT}",
        "statements" => "CREATE SCHEMA declared",
        "run" => "false",
        other => panic!("{function} has the argument {other}, which this test does not know"),
    };
    format!("'{text}'::{kind}")
}

struct Function {
    name: String,
    /// Name and type of each argument.
    arguments: Vec<(String, String)>,
}

fn functions(client: &mut Client) -> Vec<Function> {
    let rows = column(
        client,
        "SELECT concat_ws(' ', p.proname, string_agg(a.name || ':' || replace(format_type(a.type, \
         NULL), ' ', '_'), ' ' ORDER BY a.ord))
         FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dragonfly_guard',
         LATERAL unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) WITH ORDINALITY
           AS a(type, name, ord)
         WHERE d.deptype = 'e' AND p.pronamespace = 'ops'::regnamespace
         GROUP BY p.oid, p.proname ORDER BY 1",
    );
    rows.iter()
        .map(|row| {
            let mut parts = row.split(' ');
            let name = parts.next().unwrap().to_owned();
            let argument = |part: &str| {
                let (name, kind) = part.split_once(':').unwrap();
                (name.to_owned(), kind.replace('_', " "))
            };
            Function { name, arguments: parts.map(argument).collect() }
        })
        .collect()
}

/// Returns a call in which one argument has another value, and every other one a valid value.
fn call(function: &Function, wrong: &str, value: &str) -> String {
    // Of these, one or the other is given.
    let excluded: &[&str] = match (function.name.as_str(), wrong) {
        ("exempt", "rule" | "object" | "role_name") | ("unexempt", "id") => &["fingerprint"],
        ("exempt", _) => &["rule", "object", "role_name"],
        ("unexempt", _) => &["id"],
        _ => &[],
    };
    let arguments: Vec<String> = function
        .arguments
        .iter()
        .filter(|(name, _)| !excluded.contains(&name.as_str()))
        .map(|(name, kind)| {
            let value =
                if name == wrong { value.to_owned() } else { valid(&function.name, name, kind) };
            format!("\"{name}\" => {value}")
        })
        .collect();
    format!("SELECT * FROM ops.{}({})", function.name, arguments.join(", "))
}

/// Returns the values that say nothing, of an argument of some type.
fn empty_values(argument: &str, kind: &str) -> Vec<String> {
    let mut values = Vec::new();
    if !NULL_HAS_A_MEANING.contains(&argument) {
        values.push(format!("NULL::{kind}"));
    }
    if matches!(kind, "text" | "name") && !EMPTY_HAS_A_MEANING.contains(&argument) {
        values.push(format!("''::{kind}"));
    }
    if kind == "text" && !EMPTY_HAS_A_MEANING.contains(&argument) {
        values.push("E' \\n'::text".to_owned());
    }
    if kind.ends_with("[]") {
        values.extend([format!("'{{}}'::{kind}"), format!("'{{NULL}}'::{kind}")]);
    }
    if matches!(kind, "text[]" | "name[]") {
        values.push(format!("'{{\"\"}}'::{kind}"));
    }
    values
}

#[test]
fn argument_that_says_nothing_is_an_error_in_every_function() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("silence");
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE ROLE postgres; CREATE TABLE public.t (id int);
             CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE TABLE public.limited (id int);
             ALTER TABLE public.limited ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON public.limited TO postgres USING (id > 0);
             SELECT ops.freeze_schema('frozen')",
        )
        .unwrap();
    let (mut tried, mut silent) = (0, Vec::new());
    for function in functions(&mut client) {
        for (argument, kind) in &function.arguments {
            for value in empty_values(&format!("{}({argument})", function.name), kind) {
                let sql = call(&function, argument, &value);
                attempt(&mut client, "BEGIN").unwrap();
                tried += 1;
                match attempt(&mut client, &sql) {
                    Ok(()) => silent.push(format!("{sql}: no error")),
                    Err(error) if !EXPECTED.contains(&error.code.as_str()) => {
                        silent.push(format!("{sql}: {error:?}"));
                    }
                    Err(error) => {
                        let says = format!("{} {} {}", error.message, error.detail, error.hint);
                        if error.hint.is_empty() || !says.contains(argument.as_str()) {
                            silent.push(format!("{sql}: does not name the argument: {error:?}"));
                        }
                    }
                }
                attempt(&mut client, "ROLLBACK").unwrap();
            }
        }
    }
    assert!(tried > 60, "{tried}");
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn function_with_valid_arguments_is_no_error() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("silence");
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE ROLE postgres; CREATE TABLE public.t (id int);
             CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE TABLE public.limited (id int);
             ALTER TABLE public.limited ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON public.limited TO postgres USING (id > 0);
             SELECT ops.freeze_schema('frozen')",
        )
        .unwrap();
    for function in functions(&mut client) {
        // A contract must have a higher version, and a database without its objects is no success.
        // No contract allows that finding.
        let fails = [
            "load_contract",
            "rollback_contract",
            "assert_security",
            "unexempt",
            "apply_golden_sql",
            "accept",
        ];
        if fails.contains(&function.name.as_str()) {
            continue;
        }
        attempt(&mut client, "BEGIN").unwrap();
        let sql = call(&function, "", "");
        attempt(&mut client, &sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        attempt(&mut client, "ROLLBACK").unwrap();
    }
}

#[test]
fn unknown_severity_lists_the_severities() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("severity");
    for sql in ["ops.assert_security('high')", "ops.audit_security(min_severity => 'high')"] {
        let error = attempt(&mut client, &format!("SELECT {sql}")).unwrap_err();
        assert_eq!(error.code, "22023");
        assert!(error.hint.contains("error, warning, info"), "{error:?}");
    }
    let error = attempt(&mut client, "SELECT ops.assert_security(NULL)").unwrap_err();
    assert_eq!(error.message, "min_severity must not be null");
}

/// Loads a contract that the database conforms to.
fn conforming(cluster: &Cluster, database: &str) -> Client {
    let mut client = cluster.guarded(database);
    client
        .batch_execute(
            "DO $$ BEGIN CREATE ROLE anon; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             CREATE SCHEMA app; SELECT ops.load_contract(ops.infer_contract('{app}'))",
        )
        .unwrap();
    client
}

/// Runs `ops.assert_consistency()` and returns the DETAIL of its error.
fn inconsistency(client: &mut Client) -> String {
    match attempt(client, "SELECT ops.assert_consistency()") {
        Ok(()) => String::new(),
        Err(error) => {
            assert_eq!(error.code, "P0004", "{error:?}");
            assert!(error.message.starts_with("security guard and contract are not consistent"));
            error.detail
        }
    }
}

#[test]
fn consistent_guard_and_contract_pass() {
    let cluster = Cluster::start();
    assert_eq!(inconsistency(&mut conforming(&cluster, "consistent")), "");
    // The shipped contract is a contract like any other where the database conforms to it.
    let cluster = Cluster::start();
    assert_eq!(inconsistency(&mut cluster.guarded_document("document")), "");
}

#[test]
fn everything_that_makes_a_check_meaningless_is_named() {
    let cluster = Cluster::start();
    let detail = inconsistency(&mut cluster.guarded("empty"));
    for line in [
        "No contract has been loaded, and the database does not conform to the shipped one.",
        "Governed schema \"enforcement\" does not exist.",
        "Declared role \"service_role\" does not exist.",
    ] {
        assert!(detail.contains(line), "{detail}");
    }
    let mut client = conforming(&cluster, "states");
    let cases = [
        ("SET dragonfly_guard.mode = off", "dragonfly_guard.mode is off in this session."),
        ("SET dragonfly_guard.mode = warn", "dragonfly_guard.mode is warn in this session."),
        (
            "ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE",
            "Event trigger zz_dragonfly_guard_end is disabled.",
        ),
        (
            "ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE",
            "does not fire under session_replication_role = replica",
        ),
        ("ALTER DATABASE states SET dragonfly_guard.mode = 'off'", "dragonfly_guard.mode"),
        (
            "SET dragonfly_guard.mode = off; DROP SCHEMA app; SET dragonfly_guard.mode = block",
            "Governed schema \"app\" does not exist.",
        ),
        (
            "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'dragonfly_guard'",
            "Extension dragonfly_guard has version 0.9, and the library of this session has",
        ),
        (
            "SELECT set_config('search_path', '', false); SET check_function_bodies = off; \
             SET client_min_messages = warning",
            "The settings of this session are those of a dump that is being restored.",
        ),
    ];
    for (sql, expected) in cases {
        attempt(&mut client, "BEGIN").unwrap();
        for statement in sql.split("; ") {
            attempt(&mut client, statement).unwrap();
        }
        let detail = inconsistency(&mut client);
        assert!(detail.contains(expected), "{sql}: {detail}");
        attempt(&mut client, "ROLLBACK").unwrap();
    }
    assert_eq!(inconsistency(&mut client), "");
    client.batch_execute("SET dragonfly_guard.mode = off; DROP SCHEMA app").unwrap();
    let error = attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    assert_eq!(error.code, "55000", "{error:?}");
    assert_eq!(error.message, "no schema that the security contract governs exists");
}

#[test]
fn role_without_execute_cannot_pass_a_check() {
    let cluster = Cluster::start();
    let mut client = conforming(&cluster, "privileges");
    client
        .batch_execute("CREATE ROLE ci LOGIN; CREATE ROLE checks LOGIN IN ROLE pg_monitor")
        .unwrap();
    let mut ci = cluster.connect("privileges", "ci");
    for gate in ["assert_consistency", "assert_security"] {
        let error = attempt(&mut ci, &format!("SELECT ops.{gate}()")).unwrap_err();
        assert_eq!(error.code, "42501", "{error:?}");
    }
    let mut checks = cluster.connect("privileges", "checks");
    attempt(&mut checks, "SELECT ops.assert_consistency(), ops.assert_security()").unwrap();
}

/// Returns the commands of the page about CI that are gates.
fn gates() -> Vec<String> {
    let page = dragonfly_tests::project().join("docs/how-to/run-the-checks-in-ci.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```console\n").skip(1);
    let blocks: Vec<String> = blocks
        .map(|block| block.split("```").next().unwrap().replace("\n> ", "\n"))
        .map(|block| block.trim_start_matches("$ ").to_owned())
        .collect();
    assert!(blocks.len() >= 4, "{blocks:?}");
    blocks
}

/// Runs a command of the page with the programs and the server of the test, in a new folder with
/// `files`; returns whether it succeeds.
fn run(cluster: &Cluster, command: &str, database: &str, files: &[(&str, &str)]) -> bool {
    let folder = cluster.folder().join("ci");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let bin = dragonfly_tests::program("psql");
    let path = format!("{}:/usr/bin:/bin", bin.parent().unwrap().display());
    let output = std::process::Command::new("bash")
        .args(["-c", &command.replace("-d app", &format!("-d {database}"))])
        .current_dir(&folder)
        .env("PATH", path)
        .env("PGHOST", cluster.folder())
        .env("PGUSER", SUPERUSER)
        .output()
        .unwrap();
    for (name, _) in files {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    output.status.success()
}

#[test]
fn documented_gate_fails_where_it_cannot_run() {
    let cluster = Cluster::start();
    let mut client = conforming(&cluster, "good");
    let contract = column(&mut client, "SELECT ops.contract()::text").remove(0);
    let snapshot = column(&mut client, "SELECT ops.schema_snapshot()::text").remove(0);
    client.batch_execute("CREATE DATABASE without_extension").unwrap();
    let files = [
        ("contract.json", contract.as_str()),
        ("migration.sql", "CREATE TABLE app.t (id int);"),
        ("expected.json", snapshot.as_str()),
    ];
    conforming(&cluster, "disabled")
        .batch_execute("ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE")
        .unwrap();
    for gate in gates() {
        assert!(run(&cluster, &gate, "good", &files), "{gate}");
        assert!(!run(&cluster, &gate, "without_extension", &files), "{gate}");
        assert!(!run(&cluster, &gate, "missing_database", &files), "{gate}");
        if gate.contains("assert_consistency") {
            assert!(!run(&cluster, &gate, "disabled", &files), "{gate}");
        }
        if let Some((name, _)) = files.iter().find(|(name, _)| gate.contains(name)) {
            assert!(!run(&cluster, &gate, "good", &[]), "without {name}: {gate}");
            assert!(!run(&cluster, &gate, "good", &[(name, "")]), "with an empty {name}: {gate}");
        }
    }
}

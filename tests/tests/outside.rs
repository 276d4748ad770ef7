//! What the extension finds, the program `dragonfly-guard` finds on a server without it: the
//! examples of the rules, the violations of the contract document, and the search_path corpus.
//!
//! `scripts/test-majors` runs this on every major version that the program supports.

use dragonfly_core::rule::Area;
use dragonfly_core::rules::RULES;
use dragonfly_tests::outside::{Outside, contract, findings, run};
use dragonfly_tests::search_path_cases::{self, Case, ROLES};
use dragonfly_tests::{Cluster, SUPERUSER, ServerError, attempt, column, project};
use serde_json::Value;
use std::collections::BTreeSet;

/// Rule, and severity, object type, object, role and detail of a finding.
type Found = BTreeSet<(String, String)>;

/// The database of the contract document, which each case finds as it was created.
struct Application {
    outside: Outside,
    /// What the databases of the server share.
    shared: Vec<String>,
}

impl Application {
    fn start() -> Self {
        let outside = Outside::start();
        let mut server = outside.cluster.connect("postgres", SUPERUSER);
        attempt(&mut server, "ALTER DATABASE app RENAME TO unchanged").unwrap();
        let mut application = Self { outside, shared: Vec::new() };
        application.create();
        application.shared = application.shared_now();
        application
    }

    fn create(&self) {
        let mut server = self.outside.cluster.connect("postgres", SUPERUSER);
        attempt(&mut server, "CREATE DATABASE app TEMPLATE unchanged OWNER postgres").unwrap();
    }

    fn shared_now(&self) -> Vec<String> {
        let mut server = self.outside.cluster.connect("postgres", SUPERUSER);
        let query = "SELECT to_jsonb(a) - 'oid' || '{\"of\": 1}' FROM pg_authid AS a
             UNION ALL SELECT to_jsonb(m) - 'oid' FROM pg_auth_members AS m
             UNION ALL SELECT to_jsonb(s) FROM pg_db_role_setting AS s
             UNION ALL SELECT jsonb_build_array(d.datname, d.datdba, d.datacl) FROM pg_database AS d
             UNION ALL SELECT to_jsonb(t) FROM pg_tablespace AS t";
        column(&mut server, &format!("SELECT j::text FROM ({query}) AS j (j) ORDER BY 1"))
    }

    /// Returns what the program finds after `sql`, which is executed in one transaction.
    fn findings_after(&mut self, sql: &str) -> Found {
        let found = match findings_after(&self.outside, sql) {
            // Of a role that is dropped, the database without changes has objects, too.
            Err(error) if error.code == "2BP01" => findings_after(&Outside::start(), sql),
            other => other,
        };
        self.undo();
        found.unwrap_or_else(|error| panic!("{error:?}\n{sql}"))
    }

    fn undo(&mut self) {
        let mut server = self.outside.cluster.connect("postgres", SUPERUSER);
        attempt(&mut server, "DROP DATABASE app").unwrap();
        drop(server);
        self.create();
        if self.shared_now() != self.shared {
            *self = Self::start();
        }
    }
}

fn findings_after(outside: &Outside, sql: &str) -> Result<Found, ServerError> {
    let (contract, sql) = declared(sql);
    let contract = outside.write("contract.json", &contract.to_string());
    attempt(&mut outside.client(), &format!("BEGIN; {sql}; COMMIT"))?;
    let audit = outside.connected(&["audit", "-c", &contract, "--format", "jsonl"]);
    assert!(matches!(audit.code, Some(0 | 1)), "{audit:?}\n{sql}");
    Ok(findings(&audit.out).iter().map(of_finding).collect())
}

/// Splits off a call of ops.declare() that an example begins with. Returns the shipped contract
/// with what it declares, and the rest.
fn declared(example: &str) -> (Value, &str) {
    let mut contract = shipped_contract();
    let Some(call) = example.strip_prefix("SELECT ops.declare('") else {
        return (contract, example);
    };
    let (statements, rest) = call.split_once("',").unwrap();
    let (_, rest) = rest.split_once("');").unwrap();
    for statement in statements.split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        declare(&mut contract, &words.join(" "));
    }
    (contract, rest)
}

/// Amends a contract by a statement, as `ops.declare()` does.
fn declare(contract: &mut Value, statement: &str) {
    if let Some(function) = statement.strip_prefix("CREATE FUNCTION api.") {
        let name = function.strip_suffix("()").unwrap();
        let function = serde_json::json!({"schema": "api", "name": name, "arguments": ""});
        return contract["functions"].as_array_mut().unwrap().push(function);
    }
    let tables = contract["tables"].as_array_mut().unwrap();
    let batches = tables.iter_mut().find(|table| table["name"] == "simplicity_batches").unwrap();
    let (part, is_added, command) = match statement {
        "GRANT DELETE ON intake.simplicity_batches TO authenticated" => ("grants", true, "DELETE"),
        "CREATE POLICY batches_delete ON intake.simplicity_batches FOR DELETE TO authenticated" => {
            ("policies", true, "DELETE")
        }
        "DROP POLICY batches_read ON intake.simplicity_batches" => ("policies", false, "SELECT"),
        "ALTER TABLE intake.simplicity_batches RESET (contract.append_only_by)" => {
            batches.as_object_mut().unwrap().remove("append_only_by");
            return;
        }
        other => panic!("{other:?} is not known here"),
    };
    let commands = batches[part]["authenticated"].as_array_mut().unwrap();
    commands.retain(|item| item != command);
    commands.extend(is_added.then(|| command.into()));
}

fn text<'f>(finding: &'f Value, key: &str) -> &'f str {
    finding[key].as_str().unwrap_or_default()
}

fn of_finding(finding: &Value) -> (String, String) {
    let said = ["severity", "object_type", "object", "role_name", "detail"];
    let said = said.map(|key| text(finding, key)).join(" ");
    (text(finding, "rule").to_owned(), said)
}

#[test]
fn example_of_each_rule_is_reported_by_that_rule_only() {
    let mut application = Application::start();
    let before = application.findings_after("");
    let mut checked = 0;
    // What guards the database is the extension, which this server does not have.
    for rule in RULES.iter().filter(|rule| rule.area != Area::Guard) {
        let correct = application.findings_after(rule.example.correct);
        let added: Vec<_> = correct.difference(&before).collect();
        assert!(added.is_empty(), "{}: the correct example has findings: {added:#?}", rule.id);

        let violating = application.findings_after(rule.example.violating);
        let added: Vec<_> = violating.difference(&correct).collect();
        assert!(!added.is_empty(), "{}: the violating example has no finding", rule.id);
        for (found_by, finding) in added {
            assert_eq!(found_by, rule.id, "{finding}");
        }
        checked += 1;
    }
    assert!(checked > 70, "{checked}");
}

#[test]
fn exactly_the_violations_of_the_document_are_found() {
    let outside = Outside::start();
    let fixtures = project().join("tests/fixtures");
    let read = |file| std::fs::read_to_string(fixtures.join(file)).unwrap();
    // The extension is not there, to be set or to be violated.
    let is_of_extension =
        |line: &&str| line.contains("dragonfly_guard") || line.contains("ops.declare(");
    let without_extension = |file| -> String {
        read(file).lines().filter(|line| !is_of_extension(line)).collect::<Vec<_>>().join("\n")
    };
    attempt(&mut outside.client(), &without_extension("violations.sql")).unwrap();
    let listed = read("violations.txt");
    let mut expected: BTreeSet<&str> = listed.lines().filter(|line| is_violation(line)).collect();
    expected.retain(|line| !line.starts_with("rls_not_forced"));
    let found = of_severities(&outside, &contract(), &["error", "warning"]);
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);

    attempt(&mut outside.client(), &without_extension("policy_violations.sql")).unwrap();
    // What the extension is told by ops.declare().
    let mut declared = shipped_contract();
    declare(&mut declared, "GRANT DELETE ON intake.simplicity_batches TO authenticated");
    let declared = outside.write("contract.json", &declared.to_string());
    let found = of_severities(&outside, &declared, &["error", "warning", "info"]);
    // A rule is violated by an object with its name, or by another one that a comment tells of.
    for rule in RULES.iter().filter(|rule| rule.area == Area::Policies) {
        let mut of_rule = found.iter().filter(|line| line.starts_with(&format!("{} | ", rule.id)));
        assert!(of_rule.next().is_some(), "{}: {found:#?}", rule.id);
    }
}

fn is_violation(line: &str) -> bool {
    !line.starts_with('#') && !line.starts_with("guard_tampered")
}

fn shipped_contract() -> Value {
    serde_json::from_str(&std::fs::read_to_string(contract()).unwrap()).unwrap()
}

fn of_severities(outside: &Outside, contract: &str, severities: &[&str]) -> BTreeSet<String> {
    let audit = outside.connected(&["audit", "-c", contract, "--format", "jsonl"]);
    let found = findings(&audit.out);
    let found = found.iter().filter(|finding| severities.contains(&text(finding, "severity")));
    let line = |finding| {
        let words = ["rule", "object_type", "object", "role_name"].map(|key| text(finding, key));
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" | ")
    };
    found.map(line).collect()
}

#[test]
fn verdict_of_each_search_path_case_is_as_expected() {
    let cases = search_path_cases::all();
    assert!(cases.len() >= 41, "only {} cases", cases.len());
    let start = || {
        let cluster = Cluster::start();
        attempt(&mut cluster.connect("postgres", SUPERUSER), ROLES).unwrap();
        cluster
    };
    let mut cluster = start();
    let mut wrong = Vec::new();
    for case in cases {
        let mut server = cluster.connect("postgres", SUPERUSER);
        let create = format!("CREATE DATABASE {} OWNER app_owner", case.id);
        attempt(&mut server, &create).unwrap();
        drop(server);
        case.create(&mut cluster.connect(&case.id, SUPERUSER));
        match assessed(&cluster, &case) {
            None if case.verdict == "safe" => {}
            Some((verdict, reasons))
                if verdict == case.verdict && case.reasons.iter().all(|r| reasons.contains(r)) => {}
            other => wrong.push(format!("{case:?}: {other:?}")),
        }
        if case.changes_roles() {
            cluster = start();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns what the program says about the routine of a case: the verdict and the reasons, or
/// nothing. Who may create objects in a schema of the path is a finding about the schema.
fn assessed(cluster: &Cluster, case: &Case) -> Option<(String, Vec<String>)> {
    let mut contract = shipped_contract();
    contract["trusted_roles"] = case.trusted.clone().into();
    let file = cluster.folder().with_extension("contract.json");
    std::fs::write(&file, contract.to_string()).unwrap();
    let (contract, folder) = (file.to_str().unwrap(), cluster.folder().to_str().unwrap());
    let rules = ["--rule", "security_definer_search_path", "--rule", "schema_create"];
    let audit = ["audit", "-c", contract, "--format", "jsonl"];
    let connection = ["-h", folder, "-U", SUPERUSER, "-d", &case.id];
    let ended = run(&[&audit[..], &rules, &connection].concat(), &[]);
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(ended.code, Some(0 | 1)), "{case:?}: {ended:?}");
    let found = findings(&ended.out);
    if let Some(of_routine) = found.iter().find(|f| text(f, "object") == "subject.f()") {
        let evidence = &of_routine["evidence"];
        let reasons = evidence["reasons"].as_array().unwrap();
        let reasons = reasons.iter().map(|reason| text(reason, "reason").to_owned()).collect();
        return Some((text(evidence, "verdict").to_owned(), reasons));
    }
    let is_of_schema = |finding: &Value| {
        text(finding, "rule") == "schema_create"
            && text(finding, "severity") == "error"
            && finding["fix"].is_string()
    };
    let of_schema = found.iter().any(is_of_schema);
    of_schema.then(|| (case.verdict.clone(), case.reasons.clone()))
}

//! `ops.report()`: the findings in the formats that pipelines read.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;
use serde_json::Value;

fn report(client: &mut Client, arguments: &str) -> String {
    client.query_one(&format!("SELECT ops.report({arguments})"), &[]).unwrap().get(0)
}

fn json(client: &mut Client, arguments: &str) -> Value {
    serde_json::from_str(&report(client, arguments)).unwrap()
}

#[test]
fn each_format_has_the_findings_of_the_audit() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let expected =
        client.query("SELECT fingerprint, severity FROM ops.audit_security()", &[]).unwrap();
    let expected: Vec<(String, String)> =
        expected.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(expected.len() > 20, "{}", expected.len());
    let fingerprints: Vec<&str> = expected.iter().map(|of| of.0.as_str()).collect();

    let lines = report(&mut client, "'jsonl'");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_lines: Vec<&str> = lines.iter().map(|of| of["fingerprint"].as_str().unwrap()).collect();
    assert_eq!(of_lines, fingerprints);

    let log = json(&mut client, "'sarif', path => 'db/contract.json'");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let of_results: Vec<&str> = results
        .iter()
        .map(|of| of["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap())
        .collect();
    assert_eq!(of_results, fingerprints);
    let file = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(file, "db/contract.json");
    assert_eq!(log["runs"][0]["automationDetails"]["id"], "dragonfly_guard/app/");

    let issues = json(&mut client, "'gitlab'");
    let issues = issues.as_array().unwrap();
    let of_issues: Vec<&str> =
        issues.iter().map(|of| of["fingerprint"].as_str().unwrap()).collect();
    assert_eq!(of_issues, fingerprints);

    assert_eq!(report(&mut client, "'github'").lines().count(), expected.len());
    let errors = expected.iter().filter(|of| of.1 == "error").count();
    let title = report(&mut client, "'markdown'");
    let title = title.lines().next().unwrap().to_owned();
    assert!(title.contains(&format!(": {errors} errors, ")), "{title}");
    let cases = report(&mut client, "'junit'");
    let rules: i64 =
        client.query_one("SELECT count(*) FROM ops.security_rules()", &[]).unwrap().get(0);
    assert_eq!(cases.matches("<testcase ").count(), usize::try_from(rules).unwrap());
}

#[test]
fn accepted_finding_is_suppressed_and_not_left_out() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let count = |log: &Value| log["runs"][0]["results"].as_array().unwrap().len();
    let before = json(&mut client, "'sarif'");
    client
        .batch_execute(
            "SELECT ops.exempt((SELECT fingerprint FROM ops.audit_security() LIMIT 1), \
             'public prices')",
        )
        .unwrap();
    let after = json(&mut client, "'sarif'");
    assert_eq!(count(&after), count(&before));
    let suppressed: Vec<&Value> = after["runs"][0]["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|of| of["suppressions"][0].get("justification"))
        .collect();
    assert_eq!(suppressed, ["public prices"]);
    let open = json(&mut client, "'sarif', include_exempted => false");
    assert_eq!(count(&open), count(&before) - 1);
    let issues = json(&mut client, "'gitlab'");
    assert_eq!(issues.as_array().unwrap().len(), count(&before) - 1);
}

#[test]
fn unknown_format_is_an_error_with_the_formats() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let error = attempt(&mut client, "SELECT ops.report('saref')").unwrap_err();
    assert_eq!(error.code, "22023");
    assert!(error.hint.contains("sarif"), "{}", error.hint);
}

#[test]
fn page_shows_the_state_of_the_database_and_names_as_text() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE TABLE public.\"<script>alert(1)</script>\" (id int);
             CREATE POLICY \"<img src=x>\" ON public.\"<script>alert(1)</script>\" USING (true);
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    let page: String = client.query_one("SELECT ops.report_html()", &[]).unwrap().get(0);
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;"), "{page}");
    let errors: i64 = client
        .query_one("SELECT count(*) FROM ops.audit_security(min_severity => 'error')", &[])
        .unwrap()
        .get(0);
    let verdict = format!("The database differs from its contract: {errors} errors, ");
    assert!(page.contains(&verdict), "{verdict}");
    let components: i64 =
        client.query_one("SELECT count(*) FROM ops.guard_status()", &[]).unwrap().get(0);
    let guard = page.split("id=\"guard\"").nth(1).unwrap();
    let guard = guard.split("</section>").next().unwrap();
    assert_eq!(guard.matches("<th scope=\"row\">").count(), usize::try_from(components).unwrap());
}

#[test]
fn summary_has_the_verdict_of_the_audit_in_ten_lines() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let lines = "SELECT topic || ': ' || summary FROM ops.security_summary()";
    let clean = column(&mut client, lines);
    let conforms = |line: &String| line.starts_with("verdict: The database conforms to its");
    assert!(clean.iter().any(conforms), "{clean:#?}");
    cluster.psql_file("app", "fixtures/violations.sql");
    let found = column(&mut client, lines);
    assert!(found.len() <= 10, "{found:#?}");
    let errors = "SELECT count(*)::text FROM ops.audit_security(min_severity => 'error')";
    let errors = column(&mut client, errors).remove(0);
    let verdict = format!("verdict: The database differs from its contract: {errors} errors, ");
    assert!(found.iter().any(|line| line.starts_with(&verdict)), "{found:#?}");
    assert_eq!(found.iter().filter(|line| line.starts_with("first: error: ")).count(), 4);
    let next = "next: SELECT * FROM ops.golden_sql();";
    assert!(found.last().unwrap().starts_with(next), "{found:#?}");
}

#[test]
fn page_of_a_database_in_its_contract_has_nothing_to_fix() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let page: String = client.query_one("SELECT ops.report_html()", &[]).unwrap().get(0);
    assert!(page.contains("class=\"verdict good\""), "{page}");
}

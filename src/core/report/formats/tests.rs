use super::*;
use crate::catalog::{Object, ObjectId};
use crate::contract::{Contract, Severity};
use crate::finding::Draft;
use crate::finding::Finding;
use crate::fix::Fix;
use crate::rules::{RULES, policy_opaque, routine_privileges, table_privileges};
use quick_xml::events::Event;
use serde_json::{Value, json};

/// A name that would be read as something else in each format.
const HOSTILE: &str = "\"</script>|`x`%0A::error::\n@all & ]]> \u{202e}\u{1b}[31m\"";

fn object(identity: &str) -> Object {
    Object {
        object_type: "table",
        schema: Some("app".into()),
        identity: identity.into(),
        managed_by: None,
        id: ObjectId::Relation(1),
    }
}

fn findings() -> Vec<Finding> {
    let draft = |name: &str, severity, detail: &str| Draft::new(object(name), severity, detail);
    let fix = Fix::Restated("REVOKE SELECT ON app.t FROM anon;".into());
    let exempt = json!({"exemption": {"status": "active", "reason": "public <prices>"}});
    let ended = json!({"exemption": {"status": "expired", "reason": "was public"}});
    vec![
        draft("app.t", Severity::Error, "Role \"anon\" has SELECT.")
            .role("anon")
            .fix(fix)
            .finish(&table_privileges::RULE, Severity::Error),
        draft(&format!("app.{HOSTILE}"), Severity::Error, &format!("About {HOSTILE}."))
            .evidence(ended)
            .finish(&table_privileges::RULE, Severity::Error),
        draft("app.prices", Severity::Warning, "Role \"anon\" has SELECT on prices.")
            .evidence(exempt)
            .finish(&routine_privileges::RULE, Severity::Error),
        draft("app.n", Severity::Info, "It is not known.")
            .finish(&policy_opaque::RULE, Severity::Error),
    ]
}

fn written(findings: &[Finding], format: Format) -> String {
    let contract = Contract::from_json(crate::contract::DEFAULT).unwrap();
    let place = |_: &Finding| Place { path: "db/my contract.json".into(), line: 7 };
    let report =
        Report { contract: &contract, database: "shop", version: "1.0.0", findings, place: &place };
    write(&report, format)
}

#[test]
fn format_has_one_name() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    assert_eq!("SARIF".parse::<Format>(), Err(UnknownFormat));
}

#[test]
fn sarif_conforms_to_its_schema_and_suppresses_what_is_exempt() {
    let schema = include_str!("../../tests/data/sarif-2.1.0.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    for findings in [findings(), vec![]] {
        let log: Value = serde_json::from_str(&written(&findings, Format::Sarif)).unwrap();
        let errors: Vec<String> = validator.iter_errors(&log).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0]);
        let run = &log["runs"][0];
        assert_eq!(run["results"].as_array().unwrap().len(), findings.len());
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), RULES.len());
    }
    let log: Value = serde_json::from_str(&written(&findings(), Format::Sarif)).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let of_rule = |of: &Value| {
        let number = usize::try_from(of["ruleIndex"].as_u64().unwrap()).unwrap();
        log["runs"][0]["tool"]["driver"]["rules"][number]["id"] == of["ruleId"]
    };
    assert!(results.iter().all(of_rule));
    let levels: Vec<&str> = results.iter().map(|of| of["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "error", "warning", "note"]);
    let suppressed: Vec<&Value> = results.iter().map(|of| &of["suppressions"]).collect();
    let public = json!([{"kind": "external", "justification": "public <prices>"}]);
    assert_eq!(suppressed, [&Value::Null, &Value::Null, &public, &Value::Null]);
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "db/my%20contract.json");
    assert_eq!(
        place["region"],
        json!({"startLine": 7, "startColumn": 1, "endLine": 7, "endColumn": 1})
    );
    assert_eq!(
        results[0]["message"]["text"],
        "Role \"anon\" has SELECT.\nFix:\nREVOKE SELECT ON app.t FROM anon;"
    );
}

#[test]
fn descriptions_of_rules_are_not_longer_than_code_scanning_reads() {
    let log: Value = serde_json::from_str(&written(&[], Format::Sarif)).unwrap();
    for rule in log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap() {
        let description = rule["fullDescription"]["text"].as_str().unwrap();
        assert!(description.chars().count() <= 1024, "{description}");
    }
}

#[test]
fn junit_has_a_case_for_each_rule_and_a_failure_for_what_is_not_exempt() {
    let text = written(&findings(), Format::Junit);
    let mut reader = quick_xml::Reader::from_str(&text);
    let (mut cases, mut failures, mut last) = (0, Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(of) | Event::Empty(of) if of.name().as_ref() == "testcase" => {
                cases += 1;
                let name = of.try_get_attribute("name").unwrap().unwrap();
                last = name.value.into_owned();
            }
            Event::Start(of) if of.name().as_ref() == "failure" => failures.push(last.clone()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(cases, RULES.len());
    assert_eq!(failures, ["table_privileges"]);
    let total = format!("tests=\"{}\" failures=\"1\"", RULES.len());
    assert!(text.contains(&total), "{text}");
    assert!(text.contains(&format!("message=\"{}: 2 findings\"", table_privileges::RULE.title)));
    assert!(text.contains("Exempt: public &lt;prices&gt;"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("</script>"), "{text}");
}

#[test]
fn junit_is_read_by_others() {
    let text = written(&findings(), Format::Junit);
    let read = junit_parser::from_reader(text.as_bytes()).unwrap();
    let counted = |of: u64| usize::try_from(of).unwrap();
    assert_eq!((counted(read.tests), read.failures), (RULES.len(), 1));
    let cases: Vec<_> = read.suites.iter().flat_map(|suite| &suite.cases).collect();
    let failed = cases.iter().filter(|case| case.status.is_failure());
    let failed: Vec<&str> = failed.map(|case| case.original_name.as_str()).collect();
    assert_eq!((cases.len(), failed), (RULES.len(), vec!["table_privileges"]));
    for suite in &read.suites {
        assert_eq!(counted(suite.tests), suite.cases.len(), "{}", suite.name);
    }
}

#[test]
fn code_quality_has_an_issue_for_each_finding_that_is_not_exempt() {
    let issues: Value = serde_json::from_str(&written(&findings(), Format::GitLab)).unwrap();
    let issues = issues.as_array().unwrap();
    let severities: Vec<&str> = issues.iter().map(|of| of["severity"].as_str().unwrap()).collect();
    assert_eq!(severities, ["critical", "critical", "info"]);
    assert_eq!(
        issues[0]["location"],
        json!({"path": "db/my contract.json", "lines": {"begin": 7}})
    );
    assert_eq!(written(&[], Format::GitLab), "[]\n");
}

#[test]
fn annotation_is_one_line_whatever_the_finding_says() {
    let text = written(&findings(), Format::GitHub);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0],
        format!(
            "::error file=db/my contract.json,line=7,title={}::Role \"anon\" has \
             SELECT.%0AFix:%0AREVOKE SELECT ON app.t FROM anon;",
            table_privileges::RULE.title
        )
    );
    assert!(lines[1].contains("%250A::error::%0A@all"), "{text}");
    assert!(lines[2].starts_with("::notice "), "{text}");
    assert_eq!(written(&[], Format::GitHub), "");
}

#[test]
fn markdown_shows_names_as_they_are() {
    let text = written(&findings(), Format::Markdown);
    assert!(text.starts_with("### Security contract "), "{text}");
    assert!(text.lines().next().unwrap().ends_with(": 2 errors, 1 note"), "{text}");
    assert!(text.contains("&lt;/script&gt;\\|\\`x\\`%0A::error::"), "{text}");
    assert!(!text.contains("@all") && !text.contains('\u{202e}'), "{text}");
    assert!(text.contains("```sql\nREVOKE SELECT ON app.t FROM anon;\n```"), "{text}");
    assert!(text.contains("| warning | routine_privileges | app.prices | public &lt;prices&gt; |"));
    assert!(written(&[], Format::Markdown).trim_end().ends_with(": no findings"));
}

#[test]
fn markdown_of_many_findings_fits_into_a_comment() {
    let one = findings();
    let many: Vec<Finding> = (0..2_000).flat_map(|_| one.clone()).collect();
    let text = written(&many, Format::Markdown);
    assert!(text.chars().count() < 65_536, "{}", text.chars().count());
    assert!(text.contains("more findings are not listed."));
}

#[test]
fn json_line_is_a_finding() {
    let text = written(&findings(), Format::JsonLines);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["rule"], "table_privileges");
    assert_eq!(lines[0]["role_name"], "anon");
    assert_eq!(lines[1]["object"], format!("app.{HOSTILE}"));
}

#[test]
fn fence_is_longer_than_each_run_of_backticks_in_a_fix() {
    let fix = Fix::Restated("COMMENT ON TABLE app.t IS '```';".into());
    let finding = Draft::new(object("app.t"), Severity::Error, "It is.")
        .fix(fix)
        .finish(&table_privileges::RULE, Severity::Error);
    let text = written(&[finding], Format::Markdown);
    assert!(text.contains("````sql\nCOMMENT ON TABLE app.t IS '```';\n````"), "{text}");
}

//! SARIF 2.1.0, with the properties that GitHub code scanning reads. Findings that are exempt are
//! suppressed: an omitted one would count as fixed.

use super::findings::{Place, Report, exemption, shortened, with_fix};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::RULES;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The schema that the text conforms to.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The greatest length of a description, in characters.
const DESCRIPTION: usize = 1024;

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let numbers: HashMap<&str, usize> =
        RULES.iter().enumerate().map(|(number, rule)| (rule.id, number)).collect();
    let results = report.findings.iter().map(|of| result(report, of, numbers.get(of.rule.id)));
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "dragonfly_guard",
                "semanticVersion": report.version,
                "rules": RULES.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            // Runs on several databases of one repository do not replace each other.
            "automationDetails": {"id": format!("dragonfly_guard/{}/", report.database)},
            "columnKind": "unicodeCodePoints",
            "properties": {
                "contract": report.contract.name,
                "contractVersion": report.contract.version,
            },
            "results": results.collect::<Vec<_>>(),
        }],
    });
    format!("{log:#}")
}

/// Returns the level of a severity.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// Returns a rule.
fn descriptor(rule: &Rule) -> Value {
    let Rule { id, title, checks, why, fix, exempt, .. } = rule;
    let mut tags = vec!["security".to_owned(), rule.area.as_str().to_owned()];
    let weaknesses = rule.references.iter().filter(|of| of.starts_with("CWE-"));
    tags.extend(weaknesses.map(|of| format!("external/cwe/{}", of.to_lowercase())));
    let score = match rule.severity {
        Severity::Error => "8.0",
        Severity::Warning => "5.0",
        Severity::Info => "2.0",
    };
    json!({
        "id": id,
        "name": id,
        "shortDescription": {"text": title},
        "fullDescription": {"text": shortened(checks, DESCRIPTION)},
        "help": {
            "text": format!("{checks}\n\nWhy: {why}\n\nFix: {fix}\n\nExempt: {exempt}"),
            "markdown": format!(
                "{checks}\n\n**Why:** {why}\n\n**Fix:** {fix}\n\n**Exempt:** {exempt}"
            ),
        },
        "defaultConfiguration": {"level": level(rule.severity)},
        "properties": {"tags": tags, "precision": "very-high", "security-severity": score},
    })
}

/// Returns a finding; `number` is that of its rule.
fn result(report: &Report<'_>, finding: &Finding, number: Option<&usize>) -> Value {
    let Place { path, line } = (report.place)(finding);
    let mut result = Map::new();
    let mut add = |key: &str, value: Value| {
        result.insert(key.to_owned(), value);
    };
    add("ruleId", json!(finding.rule.id));
    if let Some(number) = number {
        add("ruleIndex", json!(number));
    }
    add("level", json!(level(finding.severity)));
    add("message", json!({"text": with_fix(finding)}));
    add(
        "locations",
        json!([{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&path)},
                "region": {"startLine": line, "startColumn": 1, "endLine": line, "endColumn": 1},
            },
            "logicalLocations": [{
                "fullyQualifiedName": finding.object.identity,
                "kind": finding.object.object_type,
            }],
        }]),
    );
    add(
        "partialFingerprints",
        json!({
            "primaryLocationLineHash": finding.fingerprint,
            "dragonflyGuardFinding/v1": finding.fingerprint,
        }),
    );
    if let Some(reason) = exemption(finding) {
        add("suppressions", json!([{"kind": "external", "justification": reason}]));
    }
    add(
        "properties",
        json!({
            "roles": finding.roles,
            "fix": finding.fix.sql(),
            "contractSection": report.contract.section(finding.rule.id),
            "evidence": finding.evidence,
        }),
    );
    Value::Object(result)
}

/// Returns a path as a relative reference: what has a meaning in one is percent-encoded.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=@".contains(&byte);
    let mut written = String::new();
    for byte in path.bytes() {
        if plain(byte) {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

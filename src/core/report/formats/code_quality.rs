//! GitLab Code Quality: an array of issues. Findings that are exempt are not issues.

use super::findings::{Place, Report};
use crate::contract::Severity;
use serde_json::{Value, json};

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let issues = report.open().map(|finding| {
        let Place { path, line } = (report.place)(finding);
        json!({
            "description": finding.detail,
            "check_name": finding.rule.id,
            "fingerprint": finding.fingerprint,
            "severity": match finding.severity {
                Severity::Error => "critical",
                Severity::Warning => "minor",
                Severity::Info => "info",
            },
            "location": {"path": path, "lines": {"begin": line}},
        })
    });
    Value::Array(issues.collect()).to_string()
}

//! One JSON object a line: the columns of `ops.audit_security()`.

use super::findings::Report;
use serde_json::json;

/// Writes the findings.
pub fn write(report: &Report<'_>) -> String {
    let lines = report.findings.iter().map(|finding| {
        let line = json!({
            "rule": finding.rule.id,
            "severity": finding.severity.as_str(),
            "object_type": finding.object.object_type,
            "schema_name": finding.object.schema,
            "object": finding.object.identity,
            "role_name": finding.role(),
            "detail": finding.detail,
            "evidence": finding.evidence,
            "fix": finding.fix.sql(),
            "contract_section": report.contract.section(finding.rule.id),
            "fingerprint": finding.fingerprint,
        });
        format!("{line}\n")
    });
    lines.collect()
}

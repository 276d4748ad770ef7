//! Workflow commands of GitHub Actions: a line a finding, which becomes an annotation.

use super::findings::{Place, Report, with_fix};
use crate::contract::Severity;

/// Writes the findings that are not exempt.
pub fn write(report: &Report<'_>) -> String {
    let commands = report.open().map(|finding| {
        let Place { path, line } = (report.place)(finding);
        let level = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        format!(
            "::{level} file={},line={line},title={}::{}\n",
            escaped(&path, true),
            escaped(finding.rule.title, true),
            escaped(&with_fix(finding), false)
        )
    });
    commands.collect()
}

/// Returns a text as a command contains it: as the value of a property, or as the message.
fn escaped(text: &str, is_property: bool) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if is_property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
}

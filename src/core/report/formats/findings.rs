//! The findings of an audit, as the formats show them.

use crate::contract::{Contract, Severity};
use crate::finding::Finding;
use crate::sql::printable;

/// A place in a file. Pipelines show no finding without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path, relative to the root of the repository, with slashes.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
}

/// The findings of an audit, with what the formats say about the whole.
pub struct Report<'a> {
    /// The contract under which they were found.
    pub contract: &'a Contract,
    /// The name of the database.
    pub database: &'a str,
    /// The version of the program.
    pub version: &'a str,
    /// The findings, the most severe first. Those that are exempt have the exemption in their
    /// evidence.
    pub findings: &'a [Finding],
    /// Where each finding is shown.
    pub place: &'a dyn Fn(&Finding) -> Place,
}

impl Report<'_> {
    /// Returns the findings that are not exempt.
    pub(super) fn open(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| exemption(finding).is_none())
    }

    /// Returns contract, version and database, for a title.
    pub(super) fn title(&self) -> String {
        let Self { contract, database, .. } = self;
        let (name, database) = (printable(&contract.name), printable(database));
        format!("Security contract {name} {} on database {database}", contract.version)
    }
}

/// Returns the reason for which a finding is exempt; `None` where it is not.
pub(in crate::report) fn exemption(finding: &Finding) -> Option<&str> {
    let exemption = &finding.evidence["exemption"];
    let is_active = exemption["status"] == "active";
    exemption["reason"].as_str().filter(|_| is_active)
}

/// Returns the sentence that states the problem, and the statements that fix it.
pub(super) fn with_fix(finding: &Finding) -> String {
    match finding.fix.sql() {
        Some(fix) => format!("{}\nFix:\n{fix}", finding.detail),
        None => finding.detail.clone(),
    }
}

/// Returns how many findings have each severity: `1 error, 2 warnings`. Empty without findings.
pub fn counts<'f>(findings: impl Iterator<Item = &'f Finding>) -> String {
    let mut counts = [0_usize; Severity::ALL.len()];
    for finding in findings {
        let place = Severity::ALL.iter().position(|of| *of == finding.severity);
        counts[place.unwrap_or_default()] += 1;
    }
    let counted = Severity::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
    let words = counted.map(|(severity, count)| match (severity, count) {
        (Severity::Info, 1) => "1 note".to_owned(),
        (Severity::Info, _) => format!("{count} notes"),
        (_, 1) => format!("1 {}", severity.as_str()),
        _ => format!("{count} {}s", severity.as_str()),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Returns whether the database conforms to its contract, by the findings that are not exempt.
pub(in crate::report) fn verdict(open: &[&Finding]) -> String {
    let counts = counts(open.iter().copied());
    match open.iter().map(|finding| finding.severity).max() {
        None => "The database conforms to its contract.".to_owned(),
        Some(Severity::Info) => format!("The database conforms to its contract, with {counts}."),
        Some(_) => format!("The database differs from its contract: {counts}."),
    }
}

/// Returns the first characters of a text, with an ellipsis where more follow.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most.saturating_sub(1)) {
        Some((end, last)) if end + last.len_utf8() < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

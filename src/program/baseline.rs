//! The findings of an earlier audit, which are not counted again.

use crate::failure::Failure;
use crate::output::{read, shown};
use dragonfly_core::contract::Severity;
use dragonfly_core::exemptions::Accepted;
use dragonfly_core::finding::Finding;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A line of `--format jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    fingerprint: String,
    severity: Severity,
    #[serde(default)]
    evidence: Value,
}

/// The findings of an earlier audit, by fingerprint.
#[derive(Debug, Default)]
pub struct Baseline(HashMap<String, Accepted>);

impl Baseline {
    /// Reads a file that `--format jsonl` has written; without one, nothing is known.
    pub fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self::default()) };
        Self::of_text(&read(file)?, &shown(file))
    }

    fn of_text(text: &str, name: &str) -> Result<Self, Failure> {
        let mut found = HashMap::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                Failure::new(format!("{name} is not a baseline"))
                    .detail(format!("line {number}: {error}"))
                    .hint("dragonfly-guard audit --format jsonl -o FILE writes one.")
            })?;
            // A finding that was exempt is found again when its exemption has ended.
            if line.evidence["exemption"]["status"] != "active" {
                let state = Accepted::of_evidence(line.severity, &line.evidence, "");
                found.insert(line.fingerprint, state);
            }
        }
        Ok(Self(found))
    }

    /// Whether the earlier audit had a finding as it is now, or a more severe one: it can become
    /// worse, for instance when a privilege makes a policy effective, or be about more objects.
    pub fn has(&self, finding: &Finding) -> bool {
        let now = Accepted::now(finding, &|_| None);
        self.0
            .get(&finding.fingerprint)
            .is_some_and(|earlier| earlier.severity >= now.severity && earlier.state == now.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(text: &str) -> Baseline {
        Baseline::of_text(text, "f").unwrap()
    }

    #[test]
    fn findings_that_were_exempt_are_not_known() {
        let text = "{\"fingerprint\":\"a\",\"severity\":\"info\",\"evidence\":{}}\n\n\
                    {\"fingerprint\":\"b\",\"severity\":\"info\",\
                     \"evidence\":{\"exemption\":{\"status\":\"active\"}}}\n";
        assert_eq!(baseline(text).0.into_keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn other_files_are_rejected() {
        let text = "{\"fingerprint\":\"a\",\"severity\":\"info\"}\n[]\n";
        let failure = Baseline::of_text(text, "f").unwrap_err();
        assert_eq!(failure.message, "f is not a baseline");
        assert!(failure.detail.unwrap().starts_with("Line 2: "));
        assert!(baseline("").0.is_empty());
    }
}

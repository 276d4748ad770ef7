//! The findings of an earlier audit, which are not counted again.

use crate::failure::Failure;
use crate::output::{read, shown};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// A line of `--format jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    fingerprint: String,
    #[serde(default)]
    evidence: Value,
}

/// The fingerprints of an earlier audit.
#[derive(Debug, Default)]
pub struct Baseline(HashSet<String>);

impl Baseline {
    /// Reads a file that `--format jsonl` has written; without one, nothing is known.
    pub fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self::default()) };
        Self::of_text(&read(file)?, &shown(file))
    }

    fn of_text(text: &str, name: &str) -> Result<Self, Failure> {
        let mut found = HashSet::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                Failure::new(format!("{name} is not a baseline"))
                    .detail(format!("line {number}: {error}"))
                    .hint("dragonfly-guard audit --format jsonl -o FILE writes one.")
            })?;
            // A finding that was exempt is found again when its exemption has ended.
            if line.evidence["exemption"]["status"] != "active" {
                found.insert(line.fingerprint);
            }
        }
        Ok(Self(found))
    }

    /// Whether the earlier audit had a finding.
    pub fn has(&self, fingerprint: &str) -> bool {
        self.0.contains(fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_that_were_exempt_are_not_known() {
        let text = "{\"fingerprint\":\"a\",\"evidence\":{}}\n\n\
                    {\"fingerprint\":\"b\",\"evidence\":{\"exemption\":{\"status\":\"active\"}}}\n";
        let baseline = Baseline::of_text(text, "f").unwrap();
        assert!(baseline.has("a") && !baseline.has("b"));
    }

    #[test]
    fn other_files_are_rejected() {
        let failure = Baseline::of_text("{\"fingerprint\":\"a\"}\n[]\n", "f").unwrap_err();
        assert_eq!(failure.message, "f is not a baseline");
        assert!(failure.detail.unwrap().starts_with("Line 2: "));
        assert!(Baseline::of_text("", "f").unwrap().0.is_empty());
    }
}

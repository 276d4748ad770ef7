//! The result of a check.

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub step: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The result, as a sentence.
    pub detail: String,
    /// SQL that fixes it; `None` where the check passed, or a person has to decide.
    pub fix: Option<String>,
}

//! The results of experiments.

use dragonfly_core::catalog::Command;

/// The result of an experiment.
#[derive(Debug)]
pub struct Proof {
    /// The policy.
    pub policy: String,
    /// The command.
    pub command: Command,
    /// Who tries to reach a row.
    pub as_who: String,
    /// Whose row it is.
    pub of_whom: String,
    /// What the analysis says.
    pub expected: Expected,
    /// What was observed.
    pub observed: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub why: String,
    /// What holds in the way that was tried.
    pub witness: Vec<[String; 3]>,
}

/// What the analysis says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The client reaches it.
    Reached,
    /// The client does not reach it.
    NotReached,
    /// It is not known.
    Unknown,
}

/// What an experiment says of the analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client reaches what the analysis says.
    Confirmed,
    /// The server does something else.
    Refuted,
    /// The client does not reach this row, as expected.
    IsolatedHere,
    /// There was no experiment.
    NotTried,
}

impl Expected {
    /// Returns the words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::NotReached => "not reached",
            Self::Unknown => "unknown",
        }
    }
}

impl Verdict {
    /// Returns the words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::IsolatedHere => "isolated here",
            Self::NotTried => "not tried",
        }
    }
}

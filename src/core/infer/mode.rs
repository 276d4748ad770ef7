//! The modes of inference.

use std::str::FromStr;

/// How much of what exists an inferred contract declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The least privileges with which declared access works.
    Strict,
    /// What exists, except for what no contract should declare.
    AsIs,
}

/// The text is not the name of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mode")]
pub struct UnknownMode;

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Strict, Self::AsIs];

    /// Returns the name of the mode in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::AsIs => "as_is",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name).ok_or(UnknownMode)
    }
}

//! Findings in the formats that pipelines read. Each format shows the same findings, in the same
//! order; what it cannot show, it leaves out.

mod annotations;
mod code_quality;
mod findings;
mod json_lines;
mod junit;
mod markdown;
mod sarif;

pub use findings::{Place, Report, counts};
pub(super) use findings::{exemption, verdict};

use std::str::FromStr;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, with the columns of `ops.audit_security()`.
    JsonLines,
    /// SARIF 2.1.0, as GitHub code scanning reads it.
    Sarif,
    /// JUnit XML: a test case a rule.
    Junit,
    /// GitLab Code Quality.
    GitLab,
    /// Workflow commands of GitHub Actions, which become annotations.
    GitHub,
    /// Markdown for a pull request.
    Markdown,
}

impl Format {
    /// Every format, in the order in which they are listed.
    pub const ALL: [Self; 6] =
        [Self::JsonLines, Self::Sarif, Self::Junit, Self::GitLab, Self::GitHub, Self::Markdown];

    /// Returns the name of the format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::GitLab => "gitlab",
            Self::GitHub => "github",
            Self::Markdown => "markdown",
        }
    }
}

/// The text is not the name of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a format")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.as_str() == word).ok_or(UnknownFormat)
    }
}

/// Writes a report in a format. It ends with a line break, unless it is empty.
#[must_use]
pub fn write(report: &Report<'_>, format: Format) -> String {
    let mut text = match format {
        Format::JsonLines => json_lines::write(report),
        Format::Sarif => sarif::write(report),
        Format::Junit => junit::write(report),
        Format::GitLab => code_quality::write(report),
        Format::GitHub => annotations::write(report),
        Format::Markdown => markdown::write(report),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;

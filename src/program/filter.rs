//! Which findings a command is about, and which of them make it fail.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use dragonfly_core::audit::Filter;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::report::formats::counts as severity_counts;
use dragonfly_core::rules::{self, RULES};
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;

/// The exit code of a command that could judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 0: nothing was found that counts.
    Clean,
    /// 1: something was found.
    Findings,
}

impl Verdict {
    /// Returns whether something was found.
    pub fn of(is_found: bool) -> Self {
        if is_found { Self::Findings } else { Self::Clean }
    }
}

/// A severity on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Level {
    Error,
    Warning,
    Info,
}

impl Level {
    /// Returns the severity.
    pub fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Info => Severity::Info,
        }
    }
}

/// The findings that make a command end with exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// Any finding.
    Info,
    /// None.
    Never,
}

impl FailOn {
    /// Returns the verdict about some findings.
    pub fn verdict<'f>(self, findings: impl IntoIterator<Item = &'f Finding>) -> Verdict {
        let least = match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Info => Severity::Info,
            Self::Never => return Verdict::Clean,
        };
        Verdict::of(findings.into_iter().any(|finding| finding.severity >= least))
    }
}

/// The rules and schemas that a command is about.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only findings of this rule; may be repeated
    #[arg(long = "rule", value_name = "ID")]
    rules: Vec<String>,
    /// Only findings about objects in this schema; may be repeated
    #[arg(long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
}

impl FilterArgs {
    /// Whether every finding is included.
    pub fn is_total(&self) -> bool {
        self.rules.is_empty() && self.schemas.is_empty()
    }

    /// Returns the filter, with exempt findings.
    pub fn filter(&self, least: Severity) -> Result<Filter, Failure> {
        if let Some(unknown) = self.rules.iter().find(|id| rules::find(id).is_none()) {
            let failure = Failure::new(format!("rule \"{}\" does not exist", printable(unknown)));
            let meant = did_you_mean(unknown, RULES.iter().map(|rule| rule.id));
            return Err(failure.hint("dragonfly-guard rules lists them.").meant(meant));
        }
        let is_wanted = |id: &str| self.rules.is_empty() || self.rules.iter().any(|of| of == id);
        let rules = RULES.iter().copied().filter(|rule| is_wanted(rule.id)).collect();
        let schemas = (!self.schemas.is_empty()).then(|| self.schemas.clone());
        Ok(Filter { schemas, exempted: true, ..Filter::new(rules, least) })
    }
}

/// Rejects a schema that neither exists nor is in the contract.
pub fn check_schemas(
    filter: &Filter,
    contract: &Contract,
    snapshot: &Snapshot,
) -> Result<(), Failure> {
    let Some((unknown, known)) = filter.unknown_schema(contract, snapshot) else { return Ok(()) };
    let failure = Failure::new(format!("schema \"{}\" does not exist", printable(unknown)));
    Err(failure.meant(did_you_mean(unknown, known)))
}

/// Whether a finding is exempt.
pub fn is_exempt(finding: &Finding) -> bool {
    finding.evidence["exemption"]["status"] == "active"
}

/// Returns how many findings have each severity: `1 error, 2 warnings`.
pub fn counts<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> String {
    let words = severity_counts(findings.into_iter());
    if words.is_empty() { "no findings".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragonfly_core::catalog::{Object, ObjectId};
    use dragonfly_core::finding::Draft;
    use dragonfly_core::rules::rls_disabled;

    fn finding(severity: Severity) -> Finding {
        let object = Object {
            id: ObjectId::Relation(1),
            object_type: "table",
            schema: Some("public".into()),
            identity: "public.t".into(),
            managed_by: None,
        };
        Draft::new(object, severity, "It is open.").finish(&rls_disabled::RULE, Severity::Error)
    }

    #[test]
    fn verdict_depends_on_the_least_severity_that_counts() {
        let found = [finding(Severity::Warning), finding(Severity::Info)];
        let verdicts = [FailOn::Error, FailOn::Warning, FailOn::Info, FailOn::Never]
            .map(|fail_on| fail_on.verdict(&found));
        let [clean, findings] = [Verdict::Clean, Verdict::Findings];
        assert_eq!(verdicts, [clean, findings, findings, clean]);
        assert_eq!(FailOn::Info.verdict(&[]), Verdict::Clean);
        assert_eq!(counts(&found), "1 warning, 1 note");
        assert_eq!(counts(&[]), "no findings");
    }

    #[test]
    fn unknown_rule_is_rejected() {
        let args = FilterArgs { rules: vec!["rls_disable".into()], ..FilterArgs::default() };
        let failure = args.filter(Severity::Info).unwrap_err();
        assert_eq!(failure.message, "rule \"rls_disable\" does not exist");
        assert_eq!(failure.hint.as_deref(), Some("Did you mean \"rls_disabled\"?"));
    }
}

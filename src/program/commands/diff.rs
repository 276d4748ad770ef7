//! `dragonfly-guard diff`: the findings that one state of a database has and another has not.

use crate::contract_file;
use crate::failure::{Failure, note};
use crate::filter::{FailOn, Verdict, counts};
use crate::output::{is_terminal, write};
use crate::progress::Progress;
use crate::source::of_argument;
use crate::table::{framed, plain};
use clap::Args;
use dragonfly_core::audit::{Filter, Fixes};
use dragonfly_core::finding::Finding;
use dragonfly_core::report::NarrowFinding;
use dragonfly_core::sql::printable;
use dragonfly_reader::audit::with_audit;
use std::collections::HashSet;
use std::path::PathBuf;

/// The arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Snapshot before, or a connection string with = or ://
    #[arg(value_name = "OLD")]
    old: String,
    /// Snapshot after, or a connection string
    #[arg(value_name = "NEW")]
    new: String,
    /// Contract to audit both against (required)
    #[arg(short, long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Least severity of added findings that makes the exit code 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Info)]
    fail_on: FailOn,
}

impl DiffArgs {
    /// Compares the findings.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let contract = contract_file::given(self.contract.as_deref())?.contract;
        let audited = |argument: &str| -> Result<Vec<Finding>, Failure> {
            let data = of_argument(argument)?;
            Progress::step("applying the rules");
            Ok(with_audit(&data, &contract, |audit| audit.findings(&Filter::all(), Fixes::OfRules)))
        };
        let (old, new) = (audited(&self.old)?, audited(&self.new)?);
        let (added, removed) = (without(&new, &old), without(&old, &new));
        let is_terminal = is_terminal(self.output.as_deref());
        let row = |change: &str, finding: &Finding| {
            if is_terminal { narrow(change, finding) } else { line(change, finding) }
        };
        let rows = added.iter().map(|finding| row("added", finding));
        let rows: Vec<_> = rows.chain(removed.iter().map(|f| row("removed", f))).collect();
        let text = match rows.is_empty() {
            true => String::new(),
            false if is_terminal => framed(&["change", "severity", "object", "finding"], &rows),
            false => plain(&rows),
        };
        write(self.output.as_deref(), &text)?;
        note(&format!(
            "added: {}; removed: {}",
            counts(added.iter().copied()),
            counts(removed.iter().copied())
        ));
        Ok(self.fail_on.verdict(added))
    }
}

/// Returns the findings that others do not have. A finding that is more severe than before is
/// another one.
fn without<'f>(findings: &'f [Finding], others: &[Finding]) -> Vec<&'f Finding> {
    let known: HashSet<_> =
        others.iter().map(|of| (of.fingerprint.as_str(), of.severity)).collect();
    findings.iter().filter(|of| !known.contains(&(of.fingerprint.as_str(), of.severity))).collect()
}

fn narrow(change: &str, finding: &Finding) -> Vec<String> {
    let NarrowFinding { object, finding: text } = NarrowFinding::of(finding);
    vec![change.to_owned(), finding.severity.as_str().to_owned(), object, text]
}

fn line(change: &str, finding: &Finding) -> Vec<String> {
    let object = &finding.object;
    vec![
        change.to_owned(),
        finding.severity.as_str().to_owned(),
        finding.rule.id.to_owned(),
        format!("{} {}", object.type_in_message(), printable(&object.identity)),
        finding.detail.clone(),
    ]
}

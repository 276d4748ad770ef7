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
use dragonfly_core::contract::Severity;
use dragonfly_core::exemptions::Accepted;
use dragonfly_core::finding::Finding;
use dragonfly_core::report::NarrowFinding;
use dragonfly_core::rules::Tool;
use dragonfly_core::sql::printable;
use dragonfly_reader::audit::with_audit;
use std::collections::{HashMap, HashSet};
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
            Ok(with_audit(&data, &contract, Tool::Program, |audit| {
                audit.findings(&Filter::all(), Fixes::OfRules)
            }))
        };
        let (old, new) = (audited(&self.old)?, audited(&self.new)?);
        let Changes { added, changed, removed } = Changes::between(&old, &new);
        let is_terminal = is_terminal(self.output.as_deref());
        let row = |change: &str, finding: &Finding| {
            if is_terminal { narrow(change, finding) } else { line(change, finding) }
        };
        let all = [("added", &added), ("changed", &changed), ("removed", &removed)];
        let rows = all.iter().flat_map(|(change, found)| found.iter().map(|one| row(change, one)));
        let rows: Vec<_> = rows.collect();
        let text = match rows.is_empty() {
            true => String::new(),
            false if is_terminal => framed(&["change", "severity", "object", "finding"], &rows),
            false => plain(&rows),
        };
        write(self.output.as_deref(), &text)?;
        let counted =
            all.map(|(change, found)| format!("{change}: {}", counts(found.iter().copied())));
        note(&counted.join("; "));
        Ok(self.fail_on.verdict(added.into_iter().chain(changed)))
    }
}

/// How the findings of two states differ.
struct Changes<'f> {
    /// The findings that are new, or more severe than before.
    added: Vec<&'f Finding>,
    /// The findings whose evidence is another one: the same problem with more objects, or fewer.
    changed: Vec<&'f Finding>,
    /// The findings that are gone, or more severe now.
    removed: Vec<&'f Finding>,
}

impl<'f> Changes<'f> {
    fn between(old: &'f [Finding], new: &'f [Finding]) -> Self {
        fn key(of: &Finding) -> (&str, Severity) {
            (&of.fingerprint, of.severity)
        }
        let earlier: HashMap<_, _> = old.iter().map(|of| (key(of), state(of))).collect();
        let now: HashSet<_> = new.iter().map(key).collect();
        let is_new = |of: &&'f Finding| !earlier.contains_key(&key(of));
        let is_other =
            |of: &&'f Finding| earlier.get(&key(of)).is_some_and(|was| *was != state(of));
        Self {
            added: new.iter().filter(is_new).collect(),
            changed: new.iter().filter(is_other).collect(),
            removed: old.iter().filter(|of| !now.contains(&key(of))).collect(),
        }
    }
}

fn state(finding: &Finding) -> String {
    Accepted::now(finding, &|_| None).state
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

//! `dragonfly-guard validate`: the errors of a contract, and what contradicts itself in it.

use crate::failure::{Failure, note};
use crate::filter::{Level, Verdict};
use crate::output::write;
use crate::output::{read, shown};
use clap::Args;
use dragonfly_core::contract::{Problem, examine_lines};
use dragonfly_core::sql::capitalized;
use std::path::PathBuf;

/// The arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Contract; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Least severity of a problem that makes the exit code 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = Level::Error)]
    fail_on: Level,
}

impl ValidateArgs {
    /// Lists the problems of the contract.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let examined = examine_lines(&read(&self.file)?, &|| {});
        let name = shown(&self.file);
        let text: String = examined.problems.iter().map(|problem| line(&name, problem)).collect();
        write(None, &text)?;
        if let Some(contract) = &examined.contract {
            note(&format!("{name} is a valid contract, version {}", contract.version));
        } else {
            note(&format!("{name} is not a valid contract"));
        }
        let is_severe = |problem: &Problem| problem.severity >= self.fail_on.severity();
        Ok(Verdict::of(examined.contract.is_none() || examined.problems.iter().any(is_severe)))
    }
}

/// Returns a problem in the form that editors find the place by.
fn line(file: &str, problem: &Problem) -> String {
    let Problem { severity, path, object, line, problem, allowed, hint } = problem;
    let place = line.map(|line| format!(":{line}")).unwrap_or_default();
    let about = object.as_ref().map(|object| format!(" ({object})")).unwrap_or_default();
    let mut text = format!("{file}{place}: {}: {path}{about}: {problem}\n", severity.as_str());
    if let Some(hint) = hint {
        text.push_str(&format!("    HINT:  {}\n", capitalized(hint)));
    } else if let Some(allowed) = allowed {
        text.push_str(&format!("    allowed: {allowed}\n"));
    }
    text
}

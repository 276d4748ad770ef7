//! `dragonfly-guard rules`: what an audit checks.

use crate::failure::Failure;
use crate::filter::Verdict;
use crate::output::{is_terminal, write};
use crate::table::{framed, plain};
use clap::{Args, ValueEnum};
use dragonfly_core::rule::Rule;
use dragonfly_core::rules::RULES;
use serde_json::{Value, json};

/// The arguments of `rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// Format of the list
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table on a terminal; one line a rule, with tabs, in a pipe
    Table,
    /// A JSON array, with the documentation of each rule
    Json,
}

impl RulesArgs {
    /// Lists the rules.
    pub fn run(&self) -> Result<Verdict, Failure> {
        let row = |rule: &&Rule| {
            [rule.id, rule.severity.as_str(), rule.area.as_str(), rule.title].map(str::to_owned)
        };
        let rows: Vec<Vec<String>> = RULES.iter().map(|rule| row(rule).to_vec()).collect();
        let text = match self.format {
            Format::Json => {
                let all: Vec<Value> = RULES.iter().map(|rule| described(rule)).collect();
                format!("{:#}\n", Value::from(all))
            }
            Format::Table if is_terminal(None) => {
                framed(&["rule", "severity", "area", "title"], &rows)
            }
            Format::Table => plain(&rows),
        };
        write(None, &text)?;
        Ok(Verdict::Clean)
    }
}

fn described(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "title": rule.title,
        "area": rule.area.as_str(),
        "severity": rule.severity.as_str(),
        "checks": rule.checks,
        "why": rule.why,
        "fix": rule.fix,
        "exempt": rule.exempt,
        "exempt_by_pattern": rule.exempt_by_pattern,
        "example": {"violating": rule.example.violating, "correct": rule.example.correct},
        "references": rule.references,
    })
}

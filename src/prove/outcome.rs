//! What was observed, as a verdict on the analysis.

use super::attempt::Observed;
use super::plan::Plan;
use super::proof::{Expected, Verdict};
use super::table::Table;
use super::value::Values;
use dragonfly_core::catalog::Command;
use dragonfly_core::sql::listed;
use std::collections::BTreeSet;

/// What came out of an experiment.
pub struct Outcome {
    pub observed: String,
    pub verdict: Verdict,
    pub why: String,
    /// The values of the row that was there.
    pub values: Option<Values>,
}

impl Outcome {
    /// Returns the outcome of an experiment that was not executed.
    pub fn not_tried(why: String) -> Self {
        let observed = "nothing".to_owned();
        Self { observed, verdict: Verdict::NotTried, why, values: None }
    }
}

/// Why a statement that finds no row says nothing.
pub const NEEDS_NO_WHERE: &str = "A statement with WHERE reaches only what SELECT shows, and one \
    without it would reach the other rows of the table: without_where => true executes it, and \
    locks them until it is rolled back.";

/// Returns the outcome where the client could not write a lookup.
pub fn outcome_of_forgery(table: &str, observed: &Observed) -> Outcome {
    let why = format!("The client could not write a row of {table}: {}.", observed.text());
    // A new row may need others, which the client could write as well.
    let verdict = match observed {
        Observed::NotReached | Observed::Changed => Verdict::Refuted,
        _ => Verdict::NotTried,
    };
    Outcome { observed: "not reached".to_owned(), verdict, why, values: None }
}

/// Returns the outcome where the analysis says that the row is not the caller's, and passes.
pub fn outcome_of_open(
    plan: &Plan<'_>,
    expected: Expected,
    observed: Observed,
    (unset, is_alone, table): (&[String], bool, &Table),
) -> Outcome {
    let text = observed.text();
    let (verdict, why) = match observed {
        // Any new row counts, where it is not said by which columns a row is its caller's.
        Observed::Reached if plan.asks_nothing() && !table.triggers.is_empty() => (
            Verdict::NotTried,
            format!(
                "A row is written, but trigger {} may have made it the caller's: declare the keys \
                 of the table.",
                listed(&table.triggers)
            ),
        ),
        Observed::Reached => match &plan.main.forged {
            Some(forged) => (Verdict::Confirmed, forged.describe()),
            None => (Verdict::Confirmed, when(&plan.main.conditions)),
        },
        Observed::Changed => (Verdict::Refuted, changed(table)),
        Observed::NotTried(why) => (Verdict::NotTried, why),
        Observed::Rejected(error) | Observed::Failed(error) if plan.main.may_fail => {
            (Verdict::IsolatedHere, format!("Reading fails: {}.", error.message))
        }
        Observed::Failed(error) => (Verdict::NotTried, error.sentences()),
        _ if expected == Expected::Unknown => (
            Verdict::NotTried,
            "It is not known which rows pass: compare two callers with ops.prove_isolation()."
                .to_owned(),
        ),
        _ if !(plan.main.unmet.is_empty() && unset.is_empty()) => {
            (Verdict::NotTried, unmet(&plan.main.unmet, unset).trim_start().to_owned())
        }
        Observed::NotReached | Observed::Rejected(_)
            if plan.command != Command::Select && plan.command != Command::Insert && !is_alone =>
        {
            (Verdict::NotTried, NEEDS_NO_WHERE.to_owned())
        }
        Observed::NotReached | Observed::Rejected(_) => {
            (Verdict::Refuted, "The server decides: it does not let this row through.".to_owned())
        }
    };
    Outcome { observed: text, verdict, why, values: None }
}

/// Returns the outcome where the row is another caller's.
pub fn outcome_of_tied(
    observed: Observed,
    (is_never, is_update): (bool, bool),
    table: &Table,
) -> Outcome {
    let text = observed.text();
    let (verdict, why) = match observed {
        Observed::NotReached | Observed::Rejected(_) | Observed::Failed(_) if is_never => (
            Verdict::IsolatedHere,
            "No row passes, says the analysis, and this one does not: a sample, and no proof."
                .to_owned(),
        ),
        Observed::Reached => (
            Verdict::Refuted,
            "The server lets another caller reach the row: another policy, or something that the \
             analysis does not see."
                .to_owned(),
        ),
        Observed::Changed => (Verdict::IsolatedHere, changed(table)),
        Observed::Rejected(error) if is_update => (
            Verdict::NotTried,
            format!("The row was found, and the new one was rejected: {}.", error.message),
        ),
        Observed::NotReached | Observed::Rejected(_) => (
            Verdict::IsolatedHere,
            "The caller whose row it is reaches it, and another one does not: a sample, and no \
             proof."
                .to_owned(),
        ),
        Observed::Failed(error) => (Verdict::NotTried, error.sentences()),
        Observed::NotTried(why) => (Verdict::NotTried, why),
    };
    Outcome { observed: text, verdict, why, values: None }
}

/// Returns the sentence about a row that triggers have changed.
pub fn changed(table: &Table) -> String {
    if table.triggers.is_empty() {
        let why = "The row that is written is another one: the role cannot write every column.";
        return why.to_owned();
    }
    format!("The row that is written is another one: see trigger {}.", listed(&table.triggers))
}

/// Returns the sentence about the way in which a row passes.
pub fn when(conditions: &[String]) -> String {
    if conditions.is_empty() {
        return "Nothing is asked of the row.".to_owned();
    }
    format!("The row passes when {}.", conditions.join(" AND "))
}

/// Returns the sentence about what could not be brought about.
pub fn unmet(of_rows: &BTreeSet<String>, of_session: &[String]) -> String {
    let all: Vec<&str> =
        of_rows.iter().map(String::as_str).chain(of_session.iter().map(String::as_str)).collect();
    if all.is_empty() {
        return String::new();
    }
    format!(" It is not known how to bring about {}.", listed(&all))
}

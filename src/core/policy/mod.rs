//! What a row security policy lets through, decided on its stored expression.
//!
//! A [reader](reader::Reader) makes a [condition](formula::Formula) over [terms](term::Term) of the
//! expression; a [search] finds the ways in which it can be true, or cannot. [`prove`] answers
//! the questions that need no more: whether a condition is true for every row, or for none.

mod anonymous;
mod answer;
mod asked;
mod asks;
mod body;
mod constants;
mod exposure;
pub mod facts;
mod formula;
pub mod identity;

mod literals;
mod opening;
mod parts;
mod reader;
mod scenario;
mod search;
mod sessions;
mod taken;
mod term;
mod ties;
mod value;
mod witness;
mod writable;

pub use anonymous::is_never_true_for_anonymous;
pub use answer::Answer;
pub use asked::{Question, Written, is_covered};
pub use body::{CalledBody, body_accesses};
pub use constants::types;
pub use exposure::exposure;
pub use formula::Comparison;
pub use reader::DEEPEST;
pub use scenario::{
    Cell, Claims, NUMBERS, Planned, Reached, Scenario, completed, each_scenario, scenarios,
};
pub use search::TooLarge;
pub use term::Constant;

use crate::catalog::Oid;
use crate::stored::Expression;
use facts::Catalog;
use literals::Session;
use reader::Reader;
use search::{Nulls, Want, is_possible};
use std::collections::BTreeSet;
use term::Terms;

/// What is proven of a condition, whatever the session is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// Whether it is true for every row.
    pub is_always_true: bool,
    /// Whether it is true for every row in which nothing that it compares is null.
    pub is_true_unless_null: bool,
    /// Whether it is true for no row.
    pub is_never_true: bool,
    /// The columns of the table on which the answers may depend.
    pub columns: BTreeSet<i16>,
    /// The names of what nothing is known of: where there are none, and neither is proven, there
    /// are rows of both kinds.
    pub unknown: BTreeSet<String>,
}

/// Proves what it can of a stored condition about the rows of a relation: nothing of one that is
/// too large.
#[must_use]
pub fn prove(catalog: &dyn Catalog, relation: Oid, expression: &Expression) -> Proven {
    let mut terms = Terms::default();
    let mut reader = Reader::new(catalog, &mut terms, relation);
    let condition = reader.condition(expression);
    let (columns, unknown) = (reader.columns, reader.unknown);
    let session = Session::default();
    let is_proven =
        |want, nulls| is_possible(&terms, &session, nulls, &[(&*condition, want)]) == Ok(false);
    let is_true_unless_null = is_proven(Want::NotTrue, Nulls::WhereTested);
    Proven {
        is_always_true: is_true_unless_null && is_proven(Want::NotTrue, Nulls::Everywhere),
        is_true_unless_null,
        is_never_true: !is_true_unless_null && is_proven(Want::True, Nulls::Everywhere),
        columns,
        unknown,
    }
}

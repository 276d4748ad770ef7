//! Rows of others that UPDATE makes the caller's: those of which the caller can write the columns
//! that say whose they are, while nothing says that they were the caller's before.

use super::opening::Way;
use super::term::Row;
use super::ties::{Tie, Ties};
use std::collections::{BTreeMap, BTreeSet};

/// The columns by which a row of a lookup is the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OfCaller {
    columns: BTreeMap<i16, Tie>,
    /// How columns tie it that the relation which is written does not have.
    kept: Option<Tie>,
    /// The columns that lead to other rows.
    leads: BTreeSet<i16>,
}

/// What UPDATE does to the row of a way.
#[derive(Clone, Copy)]
pub struct Replacing<'a> {
    /// The way, with what was true of the row before.
    pub way: &'a Way<'a>,
    /// What is tied in it.
    pub ties: &'a Ties,
    /// The row before.
    pub replaced: Row,
    /// The columns that can be written: the others are those of the checked row.
    pub written: &'a BTreeSet<i16>,
    /// Those of them that say whose row it is.
    pub taken: &'a BTreeSet<i16>,
}

impl OfCaller {
    /// Returns the columns by which a row is tied directly.
    pub fn new(ties: &Ties, way: &Way<'_>, row: Row) -> Self {
        let of_row = ties.direct.iter().filter(|((of, _), _)| *of == row);
        let leads = way.joined(row).others.into_values().flat_map(|(own, _)| own);
        Self {
            columns: of_row.map(|((_, number), tie)| (*number, *tie)).collect(),
            kept: None,
            leads: leads.collect(),
        }
    }

    /// Returns the same of a relation whose columns have other numbers.
    pub fn renumbered(&self, columns: &BTreeMap<i16, i16>) -> Self {
        let theirs = |number: &i16| columns.get(number).copied();
        let missing = self.columns.iter().filter(|(number, _)| theirs(number).is_none());
        Self {
            columns: self.columns.iter().filter_map(|(n, tie)| Some((theirs(n)?, *tie))).collect(),
            kept: missing.map(|(_, tie)| *tie).max().max(self.kept),
            leads: self.leads.iter().filter_map(theirs).collect(),
        }
    }

    /// Returns the columns that can be written.
    pub fn written(&self, written: &BTreeSet<i16>) -> BTreeSet<i16> {
        self.columns.keys().copied().filter(|number| written.contains(number)).collect()
    }

    /// Returns the columns that lead to other rows.
    pub fn leads(&self) -> &BTreeSet<i16> {
        &self.leads
    }

    /// Returns how the row before was tied to the caller; `None` where it can be that of anyone.
    pub fn before(&self, of: Replacing<'_>) -> Option<Tie> {
        let Replacing { ties, replaced, written, taken, .. } = of;
        let column = |number: i16| {
            let row = if written.contains(&number) { replaced } else { Row::CHECKED };
            (row, number)
        };
        let was = |number: &i16| ties.direct.get(&column(*number)).copied();
        // The row had all that the caller writes.
        if taken.iter().all(|number| was(number).is_some()) {
            return Some(Tie::User);
        }
        let unwritten = self.columns.iter().filter(|(number, _)| !taken.contains(number));
        let of_row = ties.direct.iter().filter(|(of, _)| column(of.1) == **of);
        let direct = of_row.map(|(_, tie)| *tie).chain(unwritten.map(|(_, tie)| *tie));
        let is_led_to = ties.lookups.contains(&replaced)
            || ties.columns.iter().any(|number| !written.contains(number));
        direct.max().max(self.kept).max(is_led_to.then_some(Tie::Shared))
    }
}

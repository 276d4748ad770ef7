//! What ties a row to the caller: a value of the session that is equal to a column of the row, or
//! to a column of other rows that lead to it.

use super::formula::Comparison;
use super::identity::{Identity, Kind};
use super::literals::Literal;
use super::parts::Inspector;
use super::term::{Row, TermId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The rows that are tied to the caller in one way to meet a condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ties {
    /// The columns of the checked row by which it is tied; none where it is not.
    pub columns: BTreeSet<i16>,
    /// The rows of lookups that are tied.
    pub lookups: BTreeSet<Row>,
}

/// Terms that are equal to each other, or elements of each other.
#[derive(Default)]
struct Class {
    /// By row: its columns in the class.
    columns: BTreeMap<Row, BTreeSet<i16>>,
    identities: Vec<Identity>,
    has_constant: bool,
}

/// Returns what is tied in a way to meet a condition, by values of the session of some kinds, where
/// some rows of lookups do not count.
pub fn ties(
    inspector: Inspector<'_>,
    literals: &[Literal],
    is_trusted: &dyn Fn(Kind) -> bool,
    without: &BTreeSet<Row>,
) -> Ties {
    let mut classes = classes(inspector, literals);
    classes.retain(|class| !class.has_constant);
    for class in &mut classes {
        class.columns.retain(|row, _| !without.contains(row));
    }
    let is_known = |class: &Class| class.identities.iter().any(|of| is_trusted(of.kind));
    let mut ties = Ties::default();
    let mut waiting: Vec<&Class> = classes.iter().filter(|class| is_known(class)).collect();
    while let Some(class) = waiting.pop() {
        for (row, columns) in &class.columns {
            if *row == Row::CHECKED {
                ties.columns.extend(columns);
            } else if ties.lookups.insert(*row) {
                waiting.extend(classes.iter().filter(|next| next.columns.contains_key(row)));
            }
        }
    }
    ties
}

/// Returns the terms that must be equal, or elements of each other.
fn classes(inspector: Inspector<'_>, literals: &[Literal]) -> Vec<Class> {
    let mut parents: HashMap<TermId, TermId> = HashMap::new();
    let root = |parents: &HashMap<TermId, TermId>, mut term: TermId| {
        while let Some(parent) = parents.get(&term).filter(|parent| **parent != term) {
            term = *parent;
        }
        term
    };
    for (a, b) in literals.iter().filter_map(|literal| equal(inspector, *literal)) {
        let (a, b) = (root(&parents, a), root(&parents, b));
        parents.insert(a, b);
        parents.entry(b).or_insert(b);
    }
    let mut classes: BTreeMap<TermId, Class> = BTreeMap::new();
    for term in parents.keys() {
        let class = classes.entry(root(&parents, *term)).or_default();
        class.add(inspector, *term);
    }
    classes.into_values().collect()
}

/// Returns the terms that a literal says are equal, or one an element of the other.
fn equal(inspector: Inspector<'_>, literal: Literal) -> Option<(TermId, TermId)> {
    match literal {
        Literal::Compare(Comparison::Equal, a, b) => Some((a, b)),
        // Of elements that two arrays share, it is not known which they are.
        Literal::Member(by, a, b, Some(true))
            if !by.is_overlap || is_identity(inspector, a) || is_identity(inspector, b) =>
        {
            Some((a, b))
        }
        _ => None,
    }
}

fn is_identity(inspector: Inspector<'_>, term: TermId) -> bool {
    inspector.parts(term).identity().is_some()
}

impl Class {
    fn add(&mut self, inspector: Inspector<'_>, term: TermId) {
        let parts = inspector.parts(term);
        self.has_constant |= parts.is_constant();
        self.identities.extend(parts.identity().cloned());
        if let Some(row) = parts.row() {
            let columns = parts.columns.iter().map(|(_, number)| *number);
            self.columns.entry(row).or_default().extend(columns);
        }
    }
}

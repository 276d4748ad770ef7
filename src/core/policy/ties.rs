//! What ties a row to the caller: a value of the session that is equal to a column of the row, or
//! to a column of other rows that lead to it.

use super::formula::{Comparison, Shape};
use super::identity::{Identity, Kind};
use super::literals::Literal;
use super::parts::Inspector;
use super::term::{Row, Term, TermId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The rows that are tied to the caller in one way to meet a condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ties {
    /// The columns of the checked row by which it is tied; none where it is not.
    pub columns: BTreeSet<i16>,
    /// The same, each with the term where that is a part of the column.
    pub parts: BTreeSet<(i16, Option<TermId>)>,
    /// The rows of lookups that are tied.
    pub lookups: BTreeSet<Row>,
    /// The columns of any row that are equal to values of the session themselves.
    pub direct: BTreeMap<(Row, i16), Tie>,
}

/// What a column is equal to that ties its row to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tie {
    /// What several users share, such as a tenant.
    Shared,
    /// The user.
    User,
}

/// Terms that are equal to each other, or elements of each other.
#[derive(Default)]
struct Class {
    /// By row: its columns in the class.
    columns: BTreeMap<Row, BTreeSet<i16>>,
    /// The columns of the checked row, each with the term where that is a part of it.
    parts: BTreeSet<(i16, Option<TermId>)>,
    /// The columns of the checked row of which other terms in the class are functions.
    of_function: BTreeSet<i16>,
    identities: Vec<Identity>,
    has_constant: bool,
}

/// Returns what is tied in a way to meet a condition, by values of the session of some kinds, where
/// some rows of lookups do not count, and nothing that `untrusted` columns are equal to.
pub fn ties(
    inspector: Inspector<'_>,
    literals: &[Literal],
    is_trusted: &dyn Fn(Kind) -> bool,
    without: &BTreeSet<Row>,
    untrusted: &BTreeSet<(Row, i16)>,
) -> Ties {
    ties_of(classes(inspector, literals), is_trusted, without, untrusted)
}

/// As [`ties`], where a column that is only in a function is free: it can have other values for
/// which the function returns the same.
pub fn strict_ties(
    inspector: Inspector<'_>,
    literals: &[Literal],
    is_trusted: &dyn Fn(Kind) -> bool,
    without: &BTreeSet<Row>,
    untrusted: &BTreeSet<(Row, i16)>,
) -> Ties {
    let mut classes = classes(inspector, literals);
    classes.iter_mut().for_each(|class| class.of_function.clear());
    ties_of(classes, is_trusted, without, untrusted)
}

fn ties_of(
    mut classes: Vec<Class>,
    is_trusted: &dyn Fn(Kind) -> bool,
    without: &BTreeSet<Row>,
    untrusted: &BTreeSet<(Row, i16)>,
) -> Ties {
    classes.retain(|class| !class.has_constant && !class.has_one_of(untrusted));
    for class in &mut classes {
        // Whatever the function is, each row belongs to one caller by what it returns.
        class.columns.entry(Row::CHECKED).or_default().extend(&class.of_function);
        class.columns.retain(|_, columns| !columns.is_empty());
        class.columns.retain(|row, _| !without.contains(row));
    }
    let is_known = |class: &Class| class.identities.iter().any(|of| is_trusted(of.kind));
    let mut ties = Ties::default();
    let mut waiting: Vec<&Class> = classes.iter().filter(|class| is_known(class)).collect();
    for class in &waiting {
        let is_user =
            |of: &Identity| matches!(of.kind, Kind::User | Kind::Email) && is_trusted(of.kind);
        let tie = if class.identities.iter().any(is_user) { Tie::User } else { Tie::Shared };
        for (row, columns) in &class.columns {
            let columns = columns.iter().map(|number| ((*row, *number), tie));
            columns.for_each(|(column, tie)| {
                let strongest = ties.direct.entry(column).or_insert(tie);
                *strongest = tie.max(*strongest);
            });
        }
    }
    while let Some(class) = waiting.pop() {
        for (row, columns) in &class.columns {
            if *row == Row::CHECKED {
                ties.columns.extend(columns);
                ties.parts.extend(&class.parts);
            } else if ties.lookups.insert(*row) {
                waiting.extend(classes.iter().filter(|next| next.columns.contains_key(row)));
            }
        }
    }
    ties
}

/// Adds to columns those that must be equal to them.
pub fn with_equal(
    inspector: Inspector<'_>,
    literals: &[Literal],
    columns: &mut BTreeSet<(Row, i16)>,
) {
    if columns.is_empty() {
        return;
    }
    let classes = classes(inspector, literals);
    loop {
        let before = columns.len();
        for class in classes.iter().filter(|class| class.has_one_of(columns)).collect::<Vec<_>>() {
            let all = class.columns.iter();
            columns.extend(all.flat_map(|(row, numbers)| numbers.iter().map(|n| (*row, *n))));
        }
        if columns.len() == before {
            return;
        }
    }
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
    for (a, b) in literals.iter().flat_map(|literal| equal(inspector, *literal)) {
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

/// Returns the pairs of terms of which a literal says that they are equal, or one an element of the
/// other.
fn equal(inspector: Inspector<'_>, literal: Literal) -> Vec<(TermId, TermId)> {
    let elements = |term| match inspector.terms.get(term) {
        Term::Array(elements) => Some(&elements[..]),
        _ => None,
    };
    // The only element, of a list of one; and what is no list.
    let alone = |term| match elements(term) {
        None => Some(term),
        Some([only]) => Some(*only),
        Some(_) => None,
    };
    // Each element of a list that is not empty is one of the container.
    let contained = |all: TermId, container: TermId| {
        let values = elements(all).map_or_else(|| inspector.document(all), <[_]>::to_vec);
        let container = alone(container).filter(|of| !inspector.is_root(*of));
        // That there is a constant as well says nothing of the others.
        let values = values.into_iter().filter(|one| inspector.terms.as_constant(*one).is_none());
        values.filter_map(|one| Some((one, container?))).collect()
    };
    // The position of an element in an array is not null.
    let found = |term| {
        let arguments = inspector.called(term, &["array_position"])?;
        let [array, element, ..] = *arguments else { return None };
        Some((element, alone(array)?))
    };
    match literal {
        Literal::Compare(Comparison::Equal, a, b) => {
            [Some((a, b)), found(a), found(b)].into_iter().flatten().collect()
        }
        Literal::Compare(_, a, b) => [found(a), found(b)].into_iter().flatten().collect(),
        Literal::NotNull(term) => found(term).into_iter().collect(),
        Literal::Member(by, a, b, Some(true)) => match by.shape {
            Shape::Element => alone(b).map(|b| (a, inspector.listed(b))).into_iter().collect(),
            Shape::Contains => contained(b, a),
            Shape::Contained => contained(a, b),
            Shape::Overlap => match (elements(a), elements(b)) {
                (Some([one]), _) => alone(b).map(|b| (*one, b)).into_iter().collect(),
                (_, Some([one])) => alone(a).map(|a| (a, *one)).into_iter().collect(),
                _ => vec![],
            },
            Shape::Key if inspector.is_root(a) => vec![],
            Shape::Key => vec![(a, b)],
        },
        _ => vec![],
    }
}

impl Class {
    fn add(&mut self, inspector: Inspector<'_>, term: TermId) {
        let parts = inspector.parts(term);
        self.has_constant |= parts.is_constant();
        self.identities.extend(parts.identity().cloned());
        if let Some(row) = parts.row() {
            let columns = parts.columns.iter().map(|(_, number)| *number);
            if row == Row::CHECKED {
                let part = parts.is_part.then_some(term);
                self.parts.extend(columns.clone().map(|number| (number, part)));
            }
            self.columns.entry(row).or_default().extend(columns);
        } else if parts.row_of_function() == Some(Row::CHECKED) {
            self.of_function.extend(parts.columns_of(Row::CHECKED));
        }
    }

    fn has_one_of(&self, columns: &BTreeSet<(Row, i16)>) -> bool {
        columns.iter().any(|(row, number)| {
            self.columns.get(row).is_some_and(|numbers| numbers.contains(number))
        })
    }
}

//! Literals, and whether they can hold at once.

use super::formula::{Comparison, Membership};
use super::term::{Constant, Operation, Row, Term, TermId, Terms};
use crate::stored::SqlValue;
use std::collections::{HashMap, HashSet};

/// What a way to a goal asks of terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Literal {
    /// The term is null.
    Null(TermId),
    /// The term is not null.
    NotNull(TermId),
    /// Neither term is null, and the comparison holds.
    Compare(Comparison, TermId, TermId),
    /// The boolean term has this value.
    Holds(TermId, bool),
    /// Neither term is null, and the first is an element of the second, or not, or that is null.
    Member(Membership, TermId, TermId, Option<bool>),
    /// The columns of the row are null.
    NullRow(Row),
    /// The subquery with this number returns a row, or none.
    Found(u32, bool),
}

/// What is known of the session in which a condition is evaluated.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Terms that are null in the session, or are not.
    pub nulls: HashMap<TermId, bool>,
    /// Terms and the constants that they are in the session.
    pub constants: Vec<(TermId, TermId)>,
    /// Boolean terms that are false in the session.
    pub falsehoods: HashSet<TermId>,
}

/// Whether the literals cannot all hold in the session.
#[must_use]
pub fn contradict(terms: &Terms, session: &Session, literals: &[Literal]) -> bool {
    let mut facts = Facts { terms, session, nulls: HashMap::new(), null_rows: Vec::new() };
    !facts.are_consistent(literals)
}

struct Facts<'a> {
    terms: &'a Terms,
    session: &'a Session,
    nulls: HashMap<TermId, bool>,
    null_rows: Vec<Row>,
}

impl Facts<'_> {
    fn are_consistent(&mut self, literals: &[Literal]) -> bool {
        for literal in literals {
            if let Literal::NullRow(row) = literal {
                self.null_rows.push(*row);
            }
        }
        literals.iter().all(|literal| match *literal {
            Literal::Holds(term, true) if self.session.falsehoods.contains(&term) => false,
            Literal::Null(term) => self.set_null(term, true),
            Literal::NotNull(term) | Literal::Holds(term, _) => self.set_null(term, false),
            Literal::Compare(_, a, b) | Literal::Member(_, a, b, _) => {
                self.set_null(a, false) && self.set_null(b, false)
            }
            Literal::NullRow(_) | Literal::Found(..) => true,
        }) && self
            .nulls
            .iter()
            .all(|(term, is_null)| self.known_null(*term).is_none_or(|known| known == *is_null))
            && are_unambiguous(literals)
            && self.have_an_order(literals)
    }

    /// Notes whether a term is null, and what follows from it; false where it contradicts.
    fn set_null(&mut self, term: TermId, is_null: bool) -> bool {
        if let Some(known) = self.nulls.insert(term, is_null) {
            return known == is_null;
        }
        match self.terms.get(term) {
            // The result is not null, so no argument is.
            Term::Applied { strict: true, arguments, .. } if !is_null => {
                arguments.iter().all(|argument| self.set_null(*argument, false))
            }
            // A conversion makes null of nothing else.
            Term::Applied { operation: Operation::Conversion(_), arguments, .. } => {
                arguments.iter().all(|argument| self.set_null(*argument, is_null))
            }
            _ => true,
        }
    }

    /// Whether a term is null by what it is; `None` where it can be both.
    fn known_null(&self, term: TermId) -> Option<bool> {
        if let Some(known) = self.session.nulls.get(&term) {
            return Some(*known);
        }
        match self.terms.get(term) {
            Term::Constant(_) | Term::Array(_) | Term::Count(_) | Term::IsEmpty(_) => Some(false),
            Term::Session(value) => (*value != SqlValue::Schema).then_some(false),
            Term::Null => Some(true),
            Term::Column { row, .. } if self.null_rows.contains(row) => Some(true),
            Term::Column { nullable, .. } => (!nullable).then_some(false),
            Term::Applied { strict: true, arguments, .. } => {
                let is_null = |argument: &TermId| {
                    self.nulls.get(argument) == Some(&true)
                        || self.known_null(*argument) == Some(true)
                };
                arguments.iter().any(is_null).then_some(true)
            }
            Term::Applied { .. } | Term::Unknown(_) | Term::Identity(_) => None,
        }
    }

    /// Whether the comparisons have values that satisfy them, in orders without gaps.
    fn have_an_order(&self, literals: &[Literal]) -> bool {
        let mut classes = Classes::default();
        let constants = self.session.constants.iter().copied();
        let equal = literals.iter().filter_map(|literal| match *literal {
            Literal::Compare(Comparison::Equal, a, b) => Some((a, b)),
            _ => None,
        });
        for (a, b) in constants.chain(equal) {
            classes.join(a, b);
        }
        let mut order = Order::default();
        for literal in literals {
            match *literal {
                Literal::Compare(comparison, a, b) => {
                    let (a_class, b_class) = (classes.of(a), classes.of(b));
                    match comparison {
                        Comparison::Equal => {}
                        Comparison::NotEqual => order.different.push((a_class, b_class)),
                        Comparison::Less => order.add(a_class, b_class, true),
                        Comparison::LessOrEqual => order.add(a_class, b_class, false),
                        Comparison::Greater => order.add(b_class, a_class, true),
                        Comparison::GreaterOrEqual => order.add(b_class, a_class, false),
                    }
                    for term in [a, b] {
                        self.note_constant(term, &mut classes, &mut order);
                    }
                }
                Literal::Holds(term, value) => order.booleans.push((classes.of(term), value)),
                _ => {}
            }
        }
        for (term, constant) in &self.session.constants {
            for term in [*term, *constant] {
                self.note_constant(term, &mut classes, &mut order);
            }
        }
        order.has_values(self.terms)
    }

    fn note_constant(&self, term: TermId, classes: &mut Classes, order: &mut Order) {
        let class = classes.of(term);
        match self.terms.get(term) {
            Term::Constant(_) => order.constants.push((class, term)),
            Term::Count(_) => order.counts.push(class),
            _ => {}
        }
    }
}

/// Whether no boolean term, membership or subquery is wanted both ways.
fn are_unambiguous(literals: &[Literal]) -> bool {
    let mut wanted: HashMap<Literal, Option<bool>> = HashMap::new();
    literals.iter().all(|literal| {
        let (positive, value) = match *literal {
            Literal::Holds(term, value) => (Literal::Holds(term, true), Some(value)),
            Literal::Member(by, a, b, value) => (Literal::Member(by, a, b, None), value),
            Literal::Found(number, value) => (Literal::Found(number, true), Some(value)),
            _ => return true,
        };
        *wanted.entry(positive).or_insert(value) == value
    })
}

/// Terms that are equal to each other.
#[derive(Default)]
pub struct Classes {
    parents: HashMap<TermId, TermId>,
}

impl Classes {
    /// Returns the term that stands for all those that are equal to `term`.
    pub fn of(&mut self, term: TermId) -> TermId {
        let mut root = term;
        while let Some(parent) = self.parents.get(&root) {
            root = *parent;
        }
        if root != term {
            self.parents.insert(term, root);
        }
        root
    }

    /// Notes that two terms are equal.
    pub fn join(&mut self, a: TermId, b: TermId) {
        let (a, b) = (self.of(a), self.of(b));
        if a != b {
            self.parents.insert(a, b);
        }
    }

    /// Whether a term is equal to another one.
    pub fn is_joined(&self, term: TermId) -> bool {
        self.parents.contains_key(&term) || self.parents.values().any(|of| *of == term)
    }
}

/// What is known of the order of classes.
#[derive(Default)]
struct Order {
    /// The lesser, the greater, and whether they are different.
    edges: Vec<(TermId, TermId, bool)>,
    different: Vec<(TermId, TermId)>,
    constants: Vec<(TermId, TermId)>,
    booleans: Vec<(TermId, bool)>,
    counts: Vec<TermId>,
}

impl Order {
    fn add(&mut self, lesser: TermId, greater: TermId, is_strict: bool) {
        self.edges.push((lesser, greater, is_strict));
    }

    fn has_values(mut self, terms: &Terms) -> bool {
        let are_booleans_possible = {
            let mut known = HashMap::new();
            self.booleans.iter().all(|(class, is)| *known.entry(*class).or_insert(*is) == *is)
        };
        are_booleans_possible && self.are_constants_possible(terms) && {
            self.order_constants(terms);
            self.has_no_circle()
        }
    }

    /// Whether no class has two different constants.
    fn are_constants_possible(&self, terms: &Terms) -> bool {
        let mut known: HashMap<TermId, Vec<TermId>> = HashMap::new();
        self.constants.iter().all(|(class, term)| {
            let of_class = known.entry(*class).or_default();
            if of_class.contains(term) {
                return true;
            }
            let constant = |term: TermId| terms.as_constant(term);
            let differs = |other: &TermId| match (constant(*term), constant(*other)) {
                (Some(a), Some(b)) => a.differs(b),
                _ => false,
            };
            let is_possible = !of_class.iter().any(differs);
            of_class.push(*term);
            is_possible
        })
    }

    /// Adds the order of the integers among the constants, each with the next one, and that counts
    /// are not below zero.
    fn order_constants(&mut self, terms: &Terms) {
        let integer = |(class, term): &(TermId, TermId)| match terms.as_constant(*term) {
            Some(Constant::Integer(value)) => Some((*value, *class)),
            _ => None,
        };
        let mut integers: Vec<(i64, TermId)> = self.constants.iter().filter_map(integer).collect();
        integers.sort_unstable();
        integers.dedup();
        for pair in integers.windows(2) {
            let [(lesser, a), (greater, b)] = *pair else { continue };
            self.edges.push((a, b, lesser < greater));
            if lesser == greater {
                self.edges.push((b, a, false));
            }
        }
        // The greatest constant that is not above zero bounds a count; lesser ones are below it.
        if let Some((value, class)) = integers.iter().rev().find(|(value, _)| *value <= 0) {
            let counts = self.counts.iter().map(|count| (*class, *count, *value < 0));
            self.edges.extend(counts);
        }
    }

    /// Whether no class is below itself, and none is different from what it must be equal to.
    fn has_no_circle(&self) -> bool {
        let components = Components::of(&self.edges);
        let are_equal = |a: TermId, b: TermId| a == b || components.are_joined(a, b);
        !self.edges.iter().any(|(a, b, is_strict)| *is_strict && are_equal(*a, *b))
            && !self.different.iter().any(|(a, b)| are_equal(*a, *b))
    }
}

/// The classes that are "not above" each other in a circle: they must be equal.
struct Components(HashMap<TermId, usize>);

impl Components {
    /// Returns the strongly connected components of the order: those that are reached from a class
    /// in both directions, by the algorithm of Kosaraju.
    fn of(edges: &[(TermId, TermId, bool)]) -> Self {
        let (mut above, mut below): (Neighbors, Neighbors) = Default::default();
        for (a, b, _) in edges {
            above.entry(*a).or_default().push(*b);
            below.entry(*b).or_default().push(*a);
        }
        let mut finished = Vec::new();
        let mut seen = HashSet::new();
        for (a, b, _) in edges {
            for start in [*a, *b] {
                visit(start, &above, &mut seen, &mut |class| finished.push(class));
            }
        }
        let mut components = HashMap::new();
        seen.clear();
        for (number, start) in finished.into_iter().rev().enumerate() {
            visit(start, &below, &mut seen, &mut |class| {
                components.insert(class, number);
            });
        }
        Self(components)
    }

    fn are_joined(&self, a: TermId, b: TermId) -> bool {
        self.0.get(&a).is_some_and(|component| self.0.get(&b) == Some(component))
    }
}

type Neighbors = HashMap<TermId, Vec<TermId>>;

/// Calls `each` with what is reached from a class and has not been seen, those that are reached
/// last first.
fn visit(
    start: TermId,
    neighbors: &Neighbors,
    seen: &mut HashSet<TermId>,
    each: &mut dyn FnMut(TermId),
) {
    if !seen.insert(start) {
        return;
    }
    // A class, and how many of its neighbors have been visited.
    let mut path = vec![(start, 0)];
    while let Some((class, visited)) = path.last_mut() {
        let next = neighbors.get(class).and_then(|all| all.get(*visited)).copied();
        *visited += 1;
        match next {
            Some(next) if seen.insert(next) => path.push((next, 0)),
            Some(_) => {}
            None => {
                each(*class);
                path.pop();
            }
        }
    }
}

#[cfg(test)]
impl Literal {
    /// Whether the literal is true of one row; see [`super::formula::evaluated`].
    pub fn is_met(&self, terms: &Terms, row: &[Option<i64>]) -> bool {
        use super::formula::{Formula, evaluated};
        let is_true = |formula: Formula| evaluated::formula(terms, row, &formula) == Some(true);
        match *self {
            Self::Null(term) => is_true(Formula::IsNull(term)),
            Self::NotNull(term) => !is_true(Formula::IsNull(term)),
            Self::Compare(comparison, a, b) => is_true(Formula::Compare(comparison, a, b)),
            Self::Holds(term, value) => {
                evaluated::formula(terms, row, &Formula::Holds(term)) == Some(value)
            }
            ref other => unreachable!("{other:?} is about more than one row"),
        }
    }
}

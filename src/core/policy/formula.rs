//! Conditions with three values, over terms.

use super::term::{Row, TermId};
use crate::catalog::Oid;
use std::collections::HashSet;
use std::rc::Rc;

/// A condition. Parts are shared, because the branches of a conditional value repeat what they are
/// compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// A constant; `None` is null.
    Constant(Option<bool>),
    /// The negation of a condition.
    Not(Rc<Self>),
    /// AND.
    All(Vec<Rc<Self>>),
    /// OR.
    Any(Vec<Rc<Self>>),
    /// A boolean term.
    Holds(TermId),
    /// A comparison by a built-in operator; null where an operand is.
    Compare(Comparison, TermId, TermId),
    /// `a IS DISTINCT FROM b`.
    Distinct(TermId, TermId),
    /// Whether the first term is an element of the second, contained in it, or equal to it by an
    /// equality that is more than sameness; null where an operand is, and possibly elsewhere.
    Member(Membership, TermId, TermId),
    /// `a IS NULL`, of a value that is no boolean.
    IsNull(TermId),
    /// Whether the condition is null.
    IsUnknown(Rc<Self>),
    /// The second condition where the first is true, else the third.
    If(Rc<Self>, Rc<Self>, Rc<Self>),
    /// Whether a subquery returns a row: one of its queries does.
    Exists(Exists),
    /// Whether an outer join has found nothing for these rows, so that their columns are null.
    AllNull(Vec<Row>),
}

/// A subquery that is asked for rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exists {
    /// Tells subqueries apart.
    pub number: u32,
    /// For each query of a UNION: the condition of its rows, and whether it reads something that
    /// may be empty.
    pub queries: Vec<(Rc<Formula>, bool)>,
}

/// How a term is an element of another, or equal to it: two memberships say nothing of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The operator; 0 for the equality of texts.
    pub operator: Oid,
    /// The collation of texts.
    pub collation: Oid,
    /// Which of the two is an element of the other, or contained in it.
    pub shape: Shape,
}

/// How two values that are related by a [`Membership`] belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The first is an element of the second, or equal to it.
    Element,
    /// The first contains the second: `@>`.
    Contains,
    /// The first is contained in the second: `<@`.
    Contained,
    /// They have an element in common: `&&`.
    Overlap,
    /// The second is a key of the first, or an element: `?`.
    Key,
}

/// A comparison of the default order of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Returns the comparison that holds where this one does not.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// Returns the comparison that holds for the operands in the other order.
    #[must_use]
    pub fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            equality => equality,
        }
    }

    /// Returns the operator.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether two operands in this order satisfy the comparison.
    #[must_use]
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Formula {
    /// Calls `each` with this condition and each of its parts, once. Parts are shared, so that
    /// there may be far more paths than parts.
    pub fn visit(&self, each: &mut dyn FnMut(&Self)) {
        let (mut seen, mut waiting) = (HashSet::new(), vec![self]);
        while let Some(part) = waiting.pop() {
            if !seen.insert(std::ptr::from_ref(part)) {
                continue;
            }
            each(part);
            match part {
                Self::Not(of) | Self::IsUnknown(of) => waiting.push(of),
                Self::All(parts) | Self::Any(parts) => {
                    waiting.extend(parts.iter().map(|part| &**part));
                }
                Self::If(condition, then, otherwise) => {
                    waiting.extend([&**condition, then, otherwise]);
                }
                Self::Exists(exists) => {
                    waiting.extend(exists.queries.iter().map(|(condition, _)| &**condition));
                }
                _ => {}
            }
        }
    }

    /// Returns the terms of a condition without those of its parts.
    pub fn terms(&self) -> Vec<TermId> {
        match self {
            Self::Holds(a) | Self::IsNull(a) => vec![*a],
            Self::Compare(_, a, b) | Self::Distinct(a, b) | Self::Member(_, a, b) => vec![*a, *b],
            _ => vec![],
        }
    }

    /// The condition that is true.
    pub const TRUE: Self = Self::Constant(Some(true));
    /// The condition that is false.
    pub const FALSE: Self = Self::Constant(Some(false));
    /// The condition that is null.
    pub const NULL: Self = Self::Constant(None);
}

#[cfg(test)]
pub mod evaluated {
    //! What a formula is for given values, by the definitions of SQL.

    use super::super::term::{Constant, Term, TermId, Terms};
    use super::Formula;

    /// The values of the columns of one row; `None` is null.
    pub type Values = [Option<i64>];

    fn value(terms: &Terms, values: &Values, term: TermId) -> Option<i64> {
        match terms.get(term) {
            Term::Constant(Constant::Integer(constant)) => Some(*constant),
            Term::Constant(Constant::Boolean(constant)) => Some(i64::from(*constant)),
            Term::Column { number, .. } => values[*number as usize - 1],
            other => unreachable!("{other:?} has no value here"),
        }
    }

    /// Returns the value of AND, which one false part decides, or of OR, which one true part
    /// decides.
    fn decided(parts: Vec<Option<bool>>, decides: bool) -> Option<bool> {
        match parts {
            _ if parts.contains(&Some(decides)) => Some(decides),
            _ if parts.contains(&None) => None,
            _ => Some(!decides),
        }
    }

    /// Returns the value of a formula without subqueries.
    pub fn formula(terms: &Terms, values: &Values, of: &Formula) -> Option<bool> {
        let part = |part: &Formula| formula(terms, values, part);
        let term = |id: &TermId| value(terms, values, *id);
        match of {
            Formula::Constant(constant) => *constant,
            Formula::Not(a) => part(a).map(|value| !value),
            Formula::All(parts) => decided(parts.iter().map(|a| part(a)).collect(), false),
            Formula::Any(parts) => decided(parts.iter().map(|a| part(a)).collect(), true),
            Formula::Holds(a) => term(a).map(|value| value != 0),
            Formula::Compare(comparison, a, b) => Some(comparison.holds(term(a)?.cmp(&term(b)?))),
            Formula::Distinct(a, b) => Some(term(a) != term(b)),
            Formula::IsNull(a) => Some(term(a).is_none()),
            Formula::IsUnknown(a) => Some(part(a).is_none()),
            Formula::If(condition, then, otherwise) => {
                part(if part(condition) == Some(true) { then } else { otherwise })
            }
            other => unreachable!("{other:?} is about more than one row"),
        }
    }
}

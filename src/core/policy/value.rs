//! Values that depend on conditions, and what is made of them.

use super::formula::{Comparison, Formula};
use super::term::{Constant, TermId, Terms};
use std::rc::Rc;

/// The value of an expression that is no condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Null.
    Null,
    /// A term.
    Term(TermId),
    /// The first value where the condition is true, else the second.
    If(Rc<Formula>, Rc<Self>, Rc<Self>, Size),
}

/// How many terms a value can be. Parts are shared, so that counting them could take forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(usize);

/// What an expression is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A boolean.
    Condition(Rc<Formula>),
    /// A value of another type.
    Value(Value),
}

impl Value {
    /// Returns the condition that `leaf` makes of each term, or of null (`None`).
    pub fn condition(&self, leaf: &mut dyn FnMut(Option<TermId>) -> Formula) -> Formula {
        match self {
            Self::Null => leaf(None),
            Self::Term(term) => leaf(Some(*term)),
            Self::If(condition, then, otherwise, _) => {
                let (then, otherwise) = (then.condition(leaf), otherwise.condition(leaf));
                choice(condition, then, otherwise)
            }
        }
    }

    /// Returns the value that `leaf` makes of each term, or of null (`None`).
    pub fn map(&self, leaf: &mut dyn FnMut(Option<TermId>) -> Self) -> Self {
        match self {
            Self::Null => leaf(None),
            Self::Term(term) => leaf(Some(*term)),
            Self::If(condition, then, otherwise, _) => {
                Self::when(condition, then.map(leaf), otherwise.map(leaf))
            }
        }
    }

    /// Returns the first value where the condition is true, else the second.
    pub fn when(condition: &Rc<Formula>, then: Self, otherwise: Self) -> Self {
        match **condition {
            Formula::Constant(Some(true)) => then,
            Formula::Constant(_) => otherwise,
            // Parts are shared: a comparison of all of them could take forever.
            _ if matches!((&then, &otherwise), (Self::Null, Self::Null)) => then,
            _ if matches!((&then, &otherwise), (Self::Term(a), Self::Term(b)) if a == b) => then,
            _ => {
                let size = Size(then.size().saturating_add(otherwise.size()));
                Self::If(Rc::clone(condition), Rc::new(then), Rc::new(otherwise), size)
            }
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self, terms: &Terms) -> Formula {
        self.condition(&mut |term| match term {
            None => Formula::TRUE,
            Some(term) if terms.as_constant(term).is_some() => Formula::FALSE,
            Some(term) => Formula::IsNull(term),
        })
    }

    /// Returns how many terms the value can be.
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Term(_) => 1,
            Self::If(.., Size(size)) => *size,
        }
    }
}

/// Returns the second condition where the first is true, else the third.
pub fn choice(condition: &Rc<Formula>, then: Formula, otherwise: Formula) -> Formula {
    match **condition {
        Formula::Constant(Some(true)) => then,
        Formula::Constant(_) => otherwise,
        _ if matches!(then, Formula::Constant(_)) && then == otherwise => then,
        _ => Formula::If(Rc::clone(condition), Rc::new(then), Rc::new(otherwise)),
    }
}

/// Returns the negation of a condition.
pub fn not(condition: Formula) -> Formula {
    match condition {
        Formula::Constant(value) => Formula::Constant(value.map(|value| !value)),
        Formula::Not(of) => Rc::unwrap_or_clone(of),
        other => Formula::Not(Rc::new(other)),
    }
}

/// Returns the comparison of two values.
pub fn compare(terms: &Terms, comparison: Comparison, a: &Value, b: &Value) -> Formula {
    pairs(a, b, &mut |a, b| {
        let (Some(a), Some(b)) = (a, b) else { return Formula::NULL };
        let constants = (terms.as_constant(a), terms.as_constant(b));
        let (Some(first), Some(second)) = constants else {
            return Formula::Compare(comparison, a, b);
        };
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        match (first, second) {
            _ if a == b => Formula::Constant(Some(comparison.holds(std::cmp::Ordering::Equal))),
            (Constant::Integer(first), Constant::Integer(second)) => {
                Formula::Constant(Some(comparison.holds(first.cmp(second))))
            }
            _ if is_equality && first.differs(second) => {
                Formula::Constant(Some(comparison == Comparison::NotEqual))
            }
            _ => Formula::Compare(comparison, a, b),
        }
    })
}

/// Returns the condition that `leaf` makes of each pair of terms of two values.
pub fn pairs(
    a: &Value,
    b: &Value,
    leaf: &mut dyn FnMut(Option<TermId>, Option<TermId>) -> Formula,
) -> Formula {
    a.condition(&mut |a| b.condition(&mut |b| leaf(a, b)))
}

/// Returns the comparison of two conditions: false is less than true.
pub fn compare_conditions(comparison: Comparison, a: &Rc<Formula>, b: &Rc<Formula>) -> Formula {
    match (comparison, &**a, &**b) {
        (Comparison::Equal, Formula::Constant(Some(true)), _) => return (**b).clone(),
        (Comparison::Equal, _, Formula::Constant(Some(true))) => return (**a).clone(),
        _ => {}
    }
    let row = |first: bool| {
        let of = |second: bool| Formula::Constant(Some(comparison.holds(first.cmp(&second))));
        choice(b, of(true), of(false))
    };
    unless_unknown(a, unless_unknown(b, choice(a, row(true), row(false))))
}

/// Whether two conditions have different values, where null is one.
pub fn are_distinct(a: &Rc<Formula>, b: &Rc<Formula>) -> Formula {
    let is = |value: bool| Formula::Constant(Some(value));
    let is_unknown = |of: &Rc<Formula>| Rc::new(Formula::IsUnknown(Rc::clone(of)));
    let when_true = choice(b, is(false), is(true));
    let when_unknown = choice(&is_unknown(b), is(false), is(true));
    let when_false = choice(b, is(true), choice(&is_unknown(b), is(true), is(false)));
    choice(a, when_true, choice(&is_unknown(a), when_unknown, when_false))
}

/// Returns `then`, or null where the condition is null.
fn unless_unknown(condition: &Rc<Formula>, then: Formula) -> Formula {
    match **condition {
        Formula::Constant(None) => Formula::NULL,
        Formula::Constant(_) => then,
        _ => choice(&Rc::new(Formula::IsUnknown(Rc::clone(condition))), Formula::NULL, then),
    }
}

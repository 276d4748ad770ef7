//! What a condition asks of one row, apart from its terms, so that it can be compared with what
//! another condition asks of a row of the same table.
//!
//! Two conditions are evaluated at different times: only what stays the same is compared, such as
//! constants and the user. What may have changed in between, like claims or the time, says nothing.

use super::constants::{elements, types};
use super::facts::Catalog;
use super::formula::{Comparison, Membership, Shape};
use super::identity::{Identity, Kind};
use super::literals::Literal;
use super::term::{Constant, Operation, Row, Term, TermId, Terms};
use crate::stored::{self, Expression};
use std::collections::{BTreeMap, BTreeSet};

/// One thing that is asked of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// The value is null.
    Null(Operand),
    /// The value is not null.
    NotNull(Operand),
    /// Neither value is null, and the comparison holds.
    Compare(Comparison, Operand, Operand),
    /// The boolean value.
    Holds(Operand, bool),
    /// Whether the first value is an element of the second; `None`: that is null.
    Member(Membership, Operand, Operand, Option<bool>),
}

/// A value that does not change with the session of a user, or with time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A column of a row.
    Column(Row, i16),
    /// A constant.
    Constant(Constant),
    /// The user.
    User(Identity),
    /// Null.
    Null,
    /// What an operation returns, and whether that is null where an argument is.
    Applied(Operation, bool, Vec<Self>),
    /// The elements of an array.
    Array(Vec<Self>),
}

/// Reads what literals ask of rows.
pub struct AskReader<'a> {
    /// The terms of the literals.
    pub terms: &'a Terms,
    /// What tells which functions return the same each time.
    pub catalog: &'a dyn Catalog,
}

impl AskReader<'_> {
    /// Returns what a literal asks of rows, which `named` gives new names; `None` where it is about
    /// other rows, or about what may change.
    pub fn ask(&self, literal: Literal, named: &dyn Fn(Row) -> Option<Row>) -> Option<Ask> {
        let value = |term| self.value(term, named);
        Some(match literal {
            Literal::Null(a) => Ask::Null(value(a)?),
            Literal::NotNull(a) => Ask::NotNull(value(a)?),
            Literal::Compare(by, a, b) => Ask::Compare(by, value(a)?, value(b)?),
            Literal::Holds(a, is) => Ask::Holds(value(a)?, is),
            Literal::Member(by, a, b, is) => Ask::Member(by, value(a)?, value(b)?, is),
            Literal::NullRow(_) | Literal::Found(..) => return None,
        })
    }

    fn value(&self, term: TermId, named: &dyn Fn(Row) -> Option<Row>) -> Option<Operand> {
        let all = |terms: &[TermId]| -> Option<Vec<Operand>> {
            terms.iter().map(|of| self.value(*of, named)).collect()
        };
        Some(match self.terms.get(term) {
            Term::Constant(constant) => Operand::Constant(constant.clone()),
            Term::Column { row, number, .. } => Operand::Column(named(*row)?, *number),
            Term::Identity(of) if of.kind == Kind::User => Operand::User(of.clone()),
            Term::Null => Operand::Null,
            Term::Array(elements) => Operand::Array(all(elements)?),
            Term::Applied { operation, strict, arguments } => {
                if let Operation::Function(oid, _) = operation {
                    self.catalog.function(*oid).filter(|of| of.is_built_in && of.is_immutable)?;
                }
                Operand::Applied(*operation, *strict, all(arguments)?)
            }
            _ => return None,
        })
    }
}

impl Ask {
    fn values(&self) -> Vec<&Operand> {
        match self {
            Self::Null(a) | Self::NotNull(a) | Self::Holds(a, _) => vec![a],
            Self::Compare(_, a, b) | Self::Member(_, a, b, _) => vec![a, b],
        }
    }

    /// Returns the columns that it is about.
    pub fn columns(&self) -> BTreeSet<(Row, i16)> {
        let mut found = BTreeSet::new();
        self.values().into_iter().for_each(|value| value.add_columns(&mut found));
        found
    }

    /// Whether it is about one row and nothing else that is not a constant or the user.
    pub fn is_only_of(&self, row: Row) -> bool {
        let columns = self.columns();
        !columns.is_empty() && columns.iter().all(|(of, _)| *of == row)
    }

    /// Returns the columns that are compared with a constant, or are boolean.
    pub fn bound(&self) -> BTreeSet<i16> {
        let is_bound = match self {
            Self::Compare(_, a, b) => {
                [a, b].into_iter().any(|of| matches!(of, Operand::Constant(_) | Operand::Array(_)))
            }
            Self::Holds(..) => true,
            _ => false,
        };
        let columns = if is_bound { self.columns() } else { BTreeSet::new() };
        columns.into_iter().map(|(_, number)| number).collect()
    }

    /// Returns the columns that must not be null for it.
    pub fn needed(&self) -> BTreeSet<i16> {
        let mut found = BTreeSet::new();
        if !matches!(self, Self::Null(_)) {
            self.values().into_iter().for_each(|value| value.add_needed(&mut found));
        }
        found
    }

    /// Returns the same of a table whose columns have other numbers; `None` where it lacks one.
    pub fn renumbered(&self, columns: &BTreeMap<i16, i16>) -> Option<Self> {
        let of = |value: &Operand| value.renumbered(columns);
        Some(match self {
            Self::Null(a) => Self::Null(of(a)?),
            Self::NotNull(a) => Self::NotNull(of(a)?),
            Self::Compare(by, a, b) => Self::Compare(*by, of(a)?, of(b)?),
            Self::Holds(a, is) => Self::Holds(of(a)?, *is),
            Self::Member(by, a, b, is) => Self::Member(*by, of(a)?, of(b)?, *is),
        })
    }

    /// Returns what is asked where a value is one of several constants: that it is each of them;
    /// `None` where that is not asked.
    pub fn alternatives(&self, catalog: &dyn Catalog) -> Option<Vec<Self>> {
        let Self::Member(by, value, list, Some(true)) = self else { return None };
        let constants = match list {
            Operand::Array(elements) => elements
                .iter()
                .map(|element| match element {
                    Operand::Constant(constant) => Some(constant.clone()),
                    _ => None,
                })
                .collect(),
            Operand::Constant(constant) => elements_of(constant),
            _ => None,
        };
        let constants = constants.filter(|_| is_one_of(catalog, *by))?;
        let equal = |of| Self::Compare(Comparison::Equal, value.clone(), Operand::Constant(of));
        Some(constants.into_iter().map(equal).collect())
    }

    /// Returns the column that has a certain value, and that value as a text; values of one column
    /// with different texts are different.
    pub fn value_of_column(&self) -> Option<(i16, String)> {
        let (number, constant) = match self {
            Self::Holds(Operand::Column(_, number), is) => (number, &Constant::Boolean(*is)),
            Self::Compare(
                Comparison::Equal,
                Operand::Column(_, number),
                Operand::Constant(constant),
            )
            | Self::Compare(
                Comparison::Equal,
                Operand::Constant(constant),
                Operand::Column(_, number),
            ) => (number, constant),
            _ => return None,
        };
        let text = match constant {
            Constant::Boolean(is) => is.to_string(),
            Constant::Integer(value) => value.to_string(),
            Constant::Text(text) => text.clone(),
            Constant::Uuid(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Constant::Other(..) => return None,
        };
        Some((*number, text))
    }

    /// Returns it as a literal, with terms for the columns.
    pub fn literal(&self, terms: &mut Terms, column: &dyn Fn(i16) -> Term) -> Literal {
        let mut term = |value: &Operand| value.term(terms, column);
        match self {
            Self::Null(a) => Literal::Null(term(a)),
            Self::NotNull(a) => Literal::NotNull(term(a)),
            Self::Compare(by, a, b) => Literal::Compare(*by, term(a), term(b)),
            Self::Holds(a, is) => Literal::Holds(term(a), *is),
            Self::Member(by, a, b, is) => Literal::Member(*by, term(a), term(b), *is),
        }
    }
}

impl Operand {
    fn parts(&self) -> &[Self] {
        match self {
            Self::Applied(_, _, parts) | Self::Array(parts) => parts,
            _ => &[],
        }
    }

    fn add_columns(&self, found: &mut BTreeSet<(Row, i16)>) {
        if let Self::Column(row, number) = self {
            found.insert((*row, *number));
        }
        self.parts().iter().for_each(|part| part.add_columns(found));
    }

    fn add_needed(&self, found: &mut BTreeSet<i16>) {
        match self {
            Self::Column(_, number) => {
                found.insert(*number);
            }
            Self::Applied(_, true, parts) => parts.iter().for_each(|part| part.add_needed(found)),
            _ => {}
        }
    }

    fn renumbered(&self, columns: &BTreeMap<i16, i16>) -> Option<Self> {
        let all = |parts: &[Self]| -> Option<Vec<Self>> {
            parts.iter().map(|part| part.renumbered(columns)).collect()
        };
        Some(match self {
            Self::Column(row, number) => Self::Column(*row, *columns.get(number)?),
            Self::Applied(operation, strict, parts) => {
                Self::Applied(*operation, *strict, all(parts)?)
            }
            Self::Array(parts) => Self::Array(all(parts)?),
            other => other.clone(),
        })
    }

    fn term(&self, terms: &mut Terms, column: &dyn Fn(i16) -> Term) -> TermId {
        let all = |terms: &mut Terms, parts: &[Self]| -> Vec<TermId> {
            parts.iter().map(|part| part.term(terms, column)).collect()
        };
        let term = match self {
            Self::Column(_, number) => column(*number),
            Self::Constant(constant) => Term::Constant(constant.clone()),
            Self::User(of) => Term::Identity(of.clone()),
            Self::Null => Term::Null,
            Self::Applied(operation, strict, parts) => {
                let arguments = all(terms, parts);
                Term::Applied { operation: *operation, strict: *strict, arguments }
            }
            Self::Array(parts) => Term::Array(all(terms, parts)),
        };
        terms.add(term)
    }
}

/// Whether a membership says that a value is equal to an element of an array, so that it is none
/// of the other constants.
pub fn is_one_of(catalog: &dyn Catalog, by: Membership) -> bool {
    let is_equality = |of| matches!(of, Comparison::Equal | Comparison::NotEqual);
    by.shape == Shape::Element
        && catalog.is_deterministic(by.collation)
        && catalog
            .operator(by.operator)
            .is_some_and(|of| of.is_built_in && of.comparison.is_some_and(is_equality))
}

/// Returns the elements of a constant array that a value can be equal to: null is none.
pub fn elements_of(array: &Constant) -> Option<Vec<Constant>> {
    let Constant::Other(data_type, bytes) = array else { return None };
    Some(elements(*data_type, bytes)?.into_iter().flatten().collect())
}

/// Returns the literals of which one holds where a literal does not.
pub fn negated(literal: Literal) -> Vec<Literal> {
    let null = Literal::Null;
    match literal {
        Literal::Null(a) => vec![Literal::NotNull(a)],
        Literal::NotNull(a) => vec![null(a)],
        Literal::Compare(by, a, b) => vec![Literal::Compare(by.negated(), a, b), null(a), null(b)],
        Literal::Holds(a, is) => vec![Literal::Holds(a, !is), null(a)],
        Literal::Member(by, a, b, is) => {
            let others = [Some(true), Some(false), None].into_iter().filter(|of| *of != is);
            let others = others.map(|of| Literal::Member(by, a, b, of));
            others.chain([null(a), null(b)]).collect()
        }
        Literal::NullRow(_) | Literal::Found(..) => vec![],
    }
}

/// Returns the condition that one of several conditions is true.
pub fn any(mut conditions: Vec<Expression>) -> Option<Expression> {
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Expression::Logical { logic: stored::Logic::Or, arguments: conditions }),
    }
}

/// Returns the condition that is always true.
pub fn always() -> Expression {
    Expression::Constant(stored::Constant { data_type: types::BOOL, value: Some(vec![1]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(number: i16, with: Operand) -> Ask {
        Ask::Compare(Comparison::Equal, Operand::Column(Row::CHECKED, number), with)
    }

    #[test]
    fn column_is_bound_by_a_constant_and_not_by_the_user_or_another_row() {
        let constant = compared(2, Operand::Constant(Constant::Integer(1)));
        assert_eq!(constant.bound(), BTreeSet::from([2]));
        let other = compared(2, Operand::Column(Row(1), 3));
        assert!(other.bound().is_empty() && !other.is_only_of(Row::CHECKED));
        assert!(Ask::Null(Operand::Column(Row::CHECKED, 2)).bound().is_empty());
    }

    #[test]
    fn column_is_needed_where_nothing_holds_of_null() {
        let column = || Operand::Column(Row::CHECKED, 2);
        let applied = |strict| Operand::Applied(Operation::Function(1, 0), strict, vec![column()]);
        let constant = || Operand::Constant(Constant::Integer(1));
        let needed = |of| Ask::Compare(Comparison::Equal, of, constant()).needed();
        assert_eq!(needed(column()), BTreeSet::from([2]));
        assert_eq!(needed(applied(true)), BTreeSet::from([2]));
        assert!(needed(applied(false)).is_empty());
        assert!(Ask::Null(column()).needed().is_empty());
    }

    #[test]
    fn ask_of_a_column_that_another_table_lacks_is_none_of_that_table() {
        let ask = compared(2, Operand::Constant(Constant::Integer(1)));
        assert_eq!(ask.renumbered(&[(1, 1)].into()), None);
        assert_eq!(ask.renumbered(&[(2, 5)].into()).unwrap().bound(), BTreeSet::from([5]));
    }

    #[test]
    fn value_of_a_column_is_a_constant_on_either_side() {
        let constant = || Operand::Constant(Constant::Text("drives".to_owned()));
        let column = || Operand::Column(Row::CHECKED, 2);
        let expected = Some((2, "drives".to_owned()));
        let equal = |a, b| Ask::Compare(Comparison::Equal, a, b).value_of_column();
        assert_eq!(equal(column(), constant()), expected);
        assert_eq!(equal(constant(), column()), expected);
        assert_eq!(Ask::Holds(column(), false).value_of_column(), Some((2, "false".to_owned())));
        let other = Operand::Constant(Constant::Other(types::NUMERIC, vec![1]));
        assert_eq!(equal(column(), other), None, "two of them may be equal");
        let differs = Ask::Compare(Comparison::NotEqual, column(), constant());
        assert_eq!(differs.value_of_column(), None);
    }

    #[test]
    fn negation_of_a_comparison_includes_its_nulls() {
        let mut terms = Terms::default();
        let column = |number| Term::Column { row: Row::CHECKED, number, nullable: true };
        let ask = compared(2, Operand::Constant(Constant::Integer(1)));
        let literal = ask.literal(&mut terms, &column);
        let others = negated(literal);
        assert_eq!(others.len(), 3);
        assert!(matches!(others[0], Literal::Compare(Comparison::NotEqual, ..)));
    }
}

//! Terms: the values that conditions compare.

use super::identity::Identity;
use crate::catalog::Oid;
use crate::stored::SqlValue;
use std::collections::HashMap;

/// A term of [`Terms`]; equal terms have equal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TermId(u32);

/// A row that a condition is about: [`Row::CHECKED`] is the row of the policy, the others are rows
/// of the relations in subqueries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub u32);

impl Row {
    /// The row that the policy lets through or not.
    pub const CHECKED: Self = Self(0);
}

/// A value of an expression that is not divided further.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// A constant that is not null.
    Constant(Constant),
    /// A column of a row.
    Column {
        /// The row.
        row: Row,
        /// The number of the column.
        number: i16,
        /// Whether the column can be null, because of the table or of an outer join.
        nullable: bool,
    },
    /// What a function or another operation returns for other terms.
    Applied {
        /// The operation.
        operation: Operation,
        /// Whether the result is null where an argument is.
        strict: bool,
        /// The arguments.
        arguments: Vec<TermId>,
    },
    /// Null, as an argument of an operation.
    Null,
    /// The elements of an array.
    Array(Vec<TermId>),
    /// How many rows a subquery returns: never null, never below zero. The number tells subqueries
    /// apart.
    Count(u32),
    /// A value of the session.
    Session(SqlValue),
    /// A value of the session that says something about the caller.
    Identity(Identity),
    /// Whether a parameter is set to an empty text.
    IsEmpty(Identity),
    /// A value of which nothing is known. The number tells such values apart.
    Unknown(u32),
}

/// An operation whose result is not divided further: equal arguments give equal results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A function, or the function of an operator, and its collation.
    Function(Oid, Oid),
    /// A conversion to a type.
    Conversion(Oid),
    /// An element, or with `true` a slice, of an array or document.
    Subscript(bool),
    /// A column of a row value.
    Field(i16),
    /// A row value.
    Row,
    /// GREATEST or LEAST, and the collation.
    Extreme {
        /// Whether it is LEAST.
        is_least: bool,
        /// The collation.
        collation: Oid,
    },
}

/// A constant. Two constants of one variant are different values where they are not equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Constant {
    /// A boolean.
    Boolean(bool),
    /// An integer of any size.
    Integer(i64),
    /// A string, compared byte by byte.
    Text(String),
    /// A UUID.
    Uuid([u8; 16]),
    /// The bytes of another type, whose operators may call two of them equal.
    Other(Oid, Vec<u8>),
}

impl Constant {
    /// Whether two constants are certainly different values.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a != b,
            (Self::Integer(a), Self::Integer(b)) => a != b,
            (Self::Text(a), Self::Text(b)) => a != b,
            (Self::Uuid(a), Self::Uuid(b)) => a != b,
            _ => false,
        }
    }
}

/// The terms of the conditions that are checked together.
#[derive(Debug, Default)]
pub struct Terms {
    all: Vec<Term>,
    known: HashMap<Term, TermId>,
    fresh: u32,
}

impl Terms {
    /// Returns the number of a term.
    pub fn add(&mut self, term: Term) -> TermId {
        if let Some(known) = self.known.get(&term) {
            return *known;
        }
        let id = TermId(self.all.len() as u32);
        self.all.push(term.clone());
        self.known.insert(term, id);
        id
    }

    /// Returns all terms with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (TermId, &Term)> {
        self.all.iter().enumerate().map(|(number, term)| (TermId(number as u32), term))
    }

    /// Returns the number of a constant.
    pub fn constant(&mut self, constant: Constant) -> TermId {
        self.add(Term::Constant(constant))
    }

    /// Returns a number that no row, count or unknown value has yet.
    pub fn fresh(&mut self) -> u32 {
        self.fresh += 1;
        self.fresh
    }

    /// Returns the term with a number.
    #[must_use]
    pub fn get(&self, id: TermId) -> &Term {
        &self.all[id.0 as usize]
    }

    /// Returns the constant that a term is.
    #[must_use]
    pub fn as_constant(&self, id: TermId) -> Option<&Constant> {
        match self.get(id) {
            Term::Constant(constant) => Some(constant),
            _ => None,
        }
    }
}

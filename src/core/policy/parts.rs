//! What a term is made of.

use super::facts::Catalog;
use super::identity::{Identities, Identity};
use super::term::{Operation, Row, Term, TermId, Terms};
use crate::catalog::Oid;
use std::collections::BTreeSet;

/// What a term is made of.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The columns of rows.
    pub columns: BTreeSet<(Row, i16)>,
    /// The values of the session.
    pub identities: BTreeSet<Identity>,
    /// Whether there is a constant.
    pub has_constant: bool,
    /// Functions of the application, and what else nothing is known of; 0 for the latter.
    pub opaque: BTreeSet<Oid>,
    /// Whether an operation may map different values to one, so that equal results say little.
    pub is_lossy: bool,
}

/// Built-in functions that keep a value, or return a part of one that stands for it.
const KEEPING: [&str; 25] = [
    "text",
    "varchar",
    "bpchar",
    "name",
    "int2",
    "int4",
    "int8",
    "numeric",
    "oid",
    "lower",
    "upper",
    "btrim",
    "ltrim",
    "rtrim",
    "split_part",
    "string_to_array",
    "jsonb_object_field",
    "jsonb_object_field_text",
    "json_object_field",
    "json_object_field_text",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_array_element",
    "jsonb_array_element_text",
    "to_jsonb",
];

/// Finds what terms are made of.
#[derive(Clone, Copy)]
pub struct Inspector<'a> {
    pub terms: &'a Terms,
    pub catalog: &'a dyn Catalog,
    pub identities: &'a Identities,
}

impl Inspector<'_> {
    /// Returns what a term is made of.
    pub fn parts(&self, term: TermId) -> Parts {
        let mut parts = Parts::default();
        self.add(term, &mut parts);
        parts
    }

    fn add(&self, term: TermId, parts: &mut Parts) {
        match self.terms.get(term) {
            Term::Constant(_) | Term::Null => parts.has_constant = true,
            Term::Column { row, number, .. } => {
                parts.columns.insert((*row, *number));
            }
            Term::Identity(identity) => {
                parts.identities.insert(identity.clone());
            }
            Term::Applied { operation, arguments, .. } => {
                self.note(*operation, parts);
                arguments.iter().for_each(|argument| self.add(*argument, parts));
            }
            Term::Array(elements) => elements.iter().for_each(|element| self.add(*element, parts)),
            Term::Unknown(_) => {
                parts.opaque.insert(0);
            }
            Term::Count(_) | Term::Session(_) | Term::IsEmpty(_) => {}
        }
    }

    fn note(&self, operation: Operation, parts: &mut Parts) {
        let Operation::Function(oid) = operation else {
            parts.is_lossy |= operation == Operation::Extreme;
            return;
        };
        let function = self.catalog.function(oid);
        match function {
            Some(of) if of.is_built_in => parts.is_lossy |= !KEEPING.contains(&of.name.as_str()),
            Some(of) if self.identities.parts.contains(&of.signature) => {}
            _ => {
                parts.opaque.insert(oid);
            }
        }
    }
}

impl Parts {
    /// Returns the value of the session that the term is, or stands for; `None` where there is
    /// something else in it.
    pub fn identity(&self) -> Option<&Identity> {
        let mut identities = self.identities.iter();
        let only = identities.next().filter(|_| identities.next().is_none())?;
        (self.columns.is_empty() && self.opaque.is_empty() && !self.is_lossy).then_some(only)
    }

    /// Returns the row that the term is a column of, or stands for a column of; `None` where there
    /// is something else in it.
    pub fn row(&self) -> Option<Row> {
        let (row, _) = self.columns.first()?;
        let is_one = self.columns.iter().all(|(other, _)| other == row);
        let is_plain = self.identities.is_empty() && self.opaque.is_empty() && !self.is_lossy;
        (is_one && is_plain).then_some(*row)
    }

    /// Whether there is nothing but constants in the term.
    pub fn is_constant(&self) -> bool {
        self.has_constant
            && self.columns.is_empty()
            && self.identities.is_empty()
            && self.opaque.is_empty()
    }

    /// Returns the columns of a row.
    pub fn columns_of(&self, row: Row) -> impl Iterator<Item = i16> {
        self.columns.iter().filter(move |(of, _)| *of == row).map(|(_, number)| *number)
    }

    /// Whether a column of the checked row is in the term.
    pub fn is_of_checked(&self) -> bool {
        self.columns.iter().any(|(row, _)| *row == Row::CHECKED)
    }

    /// Whether a column of a lookup is in the term.
    pub fn is_of_lookup(&self) -> bool {
        self.columns.iter().any(|(row, _)| *row != Row::CHECKED)
    }
}

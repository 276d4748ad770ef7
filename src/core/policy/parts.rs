//! What a term is made of.

use super::constants::types;
use super::facts::Catalog;
use super::identity::{Identities, Identity, Kind};
use super::term::{Operation, Row, Term, TermId, Terms};
use crate::catalog::Oid;
use crate::stored::SqlValue;
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
    /// Whether that is not because it is an array.
    pub is_computed: bool,
    /// Whether it is a part of a value, such as an element.
    pub is_part: bool,
    /// Whether the name of the database role is in it.
    pub has_role_name: bool,
}

/// Built-in functions with one argument that keep the value, or the word that it is.
pub const KEEPING: [&str; 2] = ["lower", "upper"];

/// Built-in conversions to a wider type of number, and to text (pg_proc.dat).
pub const WIDENING: [Oid; 8] = [313, 481, 754, 1740, 1781, 1782, 401, 406];

/// Built-in functions that return a part of their first argument.
const PARTS: [&str; 14] = [
    "split_part",
    "string_to_array",
    "jsonb_object_field",
    "jsonb_object_field_text",
    "json_object_field",
    "json_object_field_text",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "json_extract_path",
    "json_extract_path_text",
    "jsonb_array_element",
    "jsonb_array_element_text",
    "json_array_element",
    "json_array_element_text",
];

/// Types as which values are as different as before.
const INJECTIVE: [Oid; 9] = [
    types::TEXT,
    types::VARCHAR,
    types::UUID,
    types::INT2,
    types::INT4,
    types::INT8,
    types::NUMERIC,
    types::JSON,
    types::JSONB,
];

/// Types of arrays of such values.
const INJECTIVE_ARRAYS: [Oid; 6] = [
    types::TEXT_ARRAY,
    types::VARCHAR_ARRAY,
    types::UUID_ARRAY,
    types::INT2_ARRAY,
    types::INT4_ARRAY,
    types::INT8_ARRAY,
];

/// Finds what terms are made of.
#[derive(Clone, Copy)]
pub struct Inspector<'a> {
    pub terms: &'a Terms,
    pub catalog: &'a dyn Catalog,
    pub identities: &'a Identities,
    /// The row that is asked about, which [`Parts`] have as [`Row::CHECKED`].
    pub checked: Row,
}

impl Inspector<'_> {
    /// Returns what a term is made of.
    pub fn parts(&self, term: TermId) -> Parts {
        let mut parts = Parts::default();
        self.add(term, &mut parts);
        parts
    }

    /// Whether a term contains a call that is wanted.
    pub fn calls(&self, term: TermId, is_wanted: &dyn Fn(Oid) -> bool) -> bool {
        match self.terms.get(term) {
            Term::Applied { operation, arguments, .. } => {
                matches!(operation, Operation::Function(oid, _) if is_wanted(*oid))
                    || arguments.iter().any(|argument| self.calls(*argument, is_wanted))
            }
            Term::Array(elements) => elements.iter().any(|of| self.calls(*of, is_wanted)),
            _ => false,
        }
    }

    /// Returns the arguments of a call of one of some functions of the server.
    pub fn called(&self, term: TermId, names: &[&str]) -> Option<&[TermId]> {
        let Term::Applied { operation: Operation::Function(oid, _), arguments, .. } =
            self.terms.get(term)
        else {
            return None;
        };
        let function = self.catalog.function(*oid)?;
        let is_one = function.is_built_in && names.contains(&function.name.as_str());
        is_one.then_some(arguments)
    }

    /// Returns the values in a document that a call makes.
    pub fn document(&self, term: TermId) -> Vec<TermId> {
        if let Some(arguments) = self.called(term, &["to_jsonb", "jsonb_build_array"]) {
            return self.elements(arguments);
        }
        let arguments = self.called(term, &["jsonb_build_object"]).unwrap_or_default();
        let arguments = self.elements(arguments);
        arguments.into_iter().skip(1).step_by(2).collect()
    }

    /// Returns arguments that may be one VARIADIC array.
    fn elements(&self, arguments: &[TermId]) -> Vec<TermId> {
        match arguments {
            [one] => match self.terms.get(*one) {
                Term::Array(elements) => elements.clone(),
                _ => vec![*one],
            },
            several => several.to_vec(),
        }
    }

    /// Returns the value whose parts are the elements of a list: the text that is split.
    pub fn listed(&self, term: TermId) -> TermId {
        if let Term::Applied { operation: Operation::Conversion(result), arguments, .. } =
            self.terms.get(term)
            && INJECTIVE_ARRAYS.contains(result)
            && let [list] = arguments[..]
        {
            return self.listed(list);
        }
        match self.called(term, &["string_to_array", "regexp_split_to_array"]) {
            Some([text, delimiter, ..]) if self.terms.as_constant(*delimiter).is_some() => *text,
            _ => term,
        }
    }

    /// Whether a term is all claims, or all that the application says about the user: these have
    /// keys that say nothing, and are the same for many users.
    pub fn is_root(&self, term: TermId) -> bool {
        match self.terms.get(term) {
            Term::Identity(of) => {
                matches!(of.kind, Kind::Claims) || of.name == "claims.app_metadata"
            }
            _ => false,
        }
    }

    /// Whether a column of a row is in a term.
    pub fn is_about(&self, term: TermId, row: Row) -> bool {
        let is_about = |of: &TermId| self.is_about(*of, row);
        match self.terms.get(term) {
            Term::Column { row: of, .. } => *of == row,
            Term::Applied { arguments, .. } => arguments.iter().any(is_about),
            Term::Array(elements) => elements.iter().any(is_about),
            _ => false,
        }
    }

    fn add(&self, term: TermId, parts: &mut Parts) {
        match self.terms.get(term) {
            Term::Constant(_) | Term::Null => parts.has_constant = true,
            Term::Column { row, number, .. } => {
                let row = if *row == self.checked { Row::CHECKED } else { *row };
                parts.columns.insert((row, *number));
            }
            Term::Identity(identity) => {
                parts.identities.insert(identity.clone());
            }
            Term::Applied { operation, arguments, .. } => {
                self.add_applied(*operation, arguments, parts);
            }
            Term::Array(elements) => {
                parts.is_lossy |= elements.len() != 1;
                elements.iter().for_each(|element| self.add(*element, parts));
            }
            Term::Unknown(_) => {
                parts.opaque.insert(0);
            }
            Term::Session(SqlValue::CurrentUser | SqlValue::SessionUser) => {
                parts.has_role_name = true;
            }
            Term::Count(_) | Term::Session(_) | Term::IsEmpty(_) => {}
        }
    }

    fn add_applied(&self, operation: Operation, arguments: &[TermId], parts: &mut Parts) {
        let takes_part = match operation {
            Operation::Conversion(result) => {
                let is_kept = INJECTIVE.contains(&result)
                    || INJECTIVE_ARRAYS.contains(&result)
                    || self.catalog.is_text_of_extension(result);
                parts.is_computed |= !is_kept;
                false
            }
            Operation::Subscript(_) => true,
            Operation::Function(oid, _) => match self.catalog.function(oid) {
                Some(of) if of.is_built_in => {
                    let name = of.name.as_str();
                    let is_kept = WIDENING.contains(&oid)
                        || (KEEPING.contains(&name) && arguments.len() == 1);
                    let is_part = PARTS.contains(&name);
                    parts.is_computed |= !(is_kept || is_part);
                    is_part
                }
                Some(of) if self.identities.parts.contains(&of.signature) => true,
                _ => {
                    parts.opaque.insert(oid);
                    false
                }
            },
            Operation::Field(_) | Operation::Row | Operation::Extreme { .. } => {
                parts.is_computed = true;
                false
            }
        };
        parts.is_part |= takes_part;
        for (position, argument) in arguments.iter().enumerate() {
            let mut of = Parts::default();
            self.add(*argument, &mut of);
            // What is taken of a constant, and by a value, is another value for each.
            parts.is_computed |= takes_part && of.is_constant() != (position > 0);
            parts.join(of);
        }
        parts.is_lossy |= parts.is_computed;
    }
}

impl Parts {
    fn join(&mut self, of: Self) {
        self.columns.extend(of.columns);
        self.identities.extend(of.identities);
        self.opaque.extend(of.opaque);
        self.has_constant |= of.has_constant;
        self.is_lossy |= of.is_lossy;
        self.is_computed |= of.is_computed;
        self.is_part |= of.is_part;
        self.has_role_name |= of.has_role_name;
    }

    /// Returns the value of the session that the term is, or stands for; `None` where there is
    /// something else in it.
    pub fn identity(&self) -> Option<&Identity> {
        let mut identities = self.identities.iter();
        let only = identities.next().filter(|_| identities.next().is_none())?;
        let is_alone = self.columns.is_empty() && self.opaque.is_empty() && !self.has_constant;
        (is_alone && !self.is_lossy && !self.is_part).then_some(only)
    }

    /// Whether there is a value of the session in the term, and not only arguments.
    pub fn asks_session(&self) -> bool {
        self.identities.iter().any(|identity| identity.kind != Kind::Argument)
    }

    /// Returns the row that the term is a column of, or stands for a column of; `None` where there
    /// is something else in it.
    pub fn row(&self) -> Option<Row> {
        self.row_of_function().filter(|_| !self.is_lossy)
    }

    /// Returns the row of whose columns the term is a function, which may map different values to
    /// one.
    pub fn row_of_function(&self) -> Option<Row> {
        let (row, _) = self.columns.first()?;
        let is_one = self.columns.iter().all(|(other, _)| other == row);
        let is_plain = self.identities.is_empty() && self.opaque.is_empty();
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

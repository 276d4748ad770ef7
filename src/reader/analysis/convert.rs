//! Values of one type as values of another one.

use super::Analyzer;
use super::expression::Typed;
use crate::oids;
use crate::types;
use dragonfly_core::catalog::Oid;
use dragonfly_core::stored::{Constant, Expression};

const BOOL: Oid = 16;
const INT8: Oid = 20;
const INT2: Oid = 21;
const INT4: Oid = 23;
const UUID: Oid = 2950;

impl Analyzer<'_> {
    /// Returns a value as one of another type; `None` where the server would reject it, or where it
    /// is not known what the server makes of it. `is_asked`: by a cast in the text.
    pub(super) fn converted(&self, value: Typed, to: Oid, is_asked: bool) -> Option<Expression> {
        if let Some(text) = &value.literal {
            return constant(to, text).or_else(|| self.label(to, text));
        }
        if value.is_null() {
            return Some(Expression::Constant(Constant { data_type: to, value: None }));
        }
        let from = value.data_type;
        if from == to {
            return Some(value.expression);
        }
        let argument = Box::new(value.expression);
        let cast = self.names.cast(from, to);
        match cast {
            Some(cast) if !is_asked && !cast.is_implicit => None,
            Some(cast) => match cast.method {
                b'b' => Some(Expression::Relabel { argument, result: to }),
                b'i' => Some(Expression::ThroughText { argument, result: to }),
                _ => {
                    // A function with more arguments gets the modifier of the type.
                    let count = self.argument_count(cast.function)?;
                    (count == 1).then(|| Expression::Call {
                        function: cast.function,
                        result: to,
                        returns_set: false,
                        collation: value.collation,
                        arguments: vec![*argument],
                    })
                }
            },
            None if is_asked && self.are_plain(&[from, to]) => {
                let is_text = |of: Oid| self.category(of) == Some(b'S');
                (is_text(from) || is_text(to))
                    .then_some(Expression::ThroughText { argument, result: to })
            }
            None => None,
        }
    }

    /// Returns the constant that a label of an enumeration is.
    fn label(&self, enumeration: Oid, label: &str) -> Option<Expression> {
        let table = self.state.table(oids::PG_ENUM);
        let column = |name| table.column(name);
        let (oid, name) = (column("oid"), column("enumlabel"));
        let (mut found, keys) = (None, [(column("enumtypid"), enumeration)]);
        table.lookup(oids::PG_ENUM_TYPID_LABEL_INDEX, &keys, |row| {
            if row.borrowed_name(name) == label {
                found = Some(row.oid(oid));
            }
        });
        let value = i64::from(found?).to_le_bytes().to_vec();
        Some(Expression::Constant(Constant { data_type: enumeration, value: Some(value) }))
    }

    /// Whether a type is an enumeration.
    pub(super) fn is_enumeration(&self, of: Oid) -> bool {
        self.names.of_type(of, "typtype", |row, kind| row.char(kind)) == Some(b'e')
    }

    /// Whether types are base types or enumerations, and no arrays.
    pub(super) fn are_plain(&self, all: &[Oid]) -> bool {
        all.iter().all(|of| {
            let kind = self.names.of_type(*of, "typtype", |row, kind| row.char(kind));
            matches!(kind, Some(b'b' | b'e')) && self.category(*of) != Some(b'A')
        })
    }

    /// Returns `pg_type.typcategory` of a type.
    pub(super) fn category(&self, of: Oid) -> Option<u8> {
        self.names.of_type(of, "typcategory", |row, category| row.char(category))
    }
}

/// Returns the constant that a literal is as a value of a type; `None` for types of which the bytes
/// are not known, and for invalid values.
fn constant(data_type: Oid, text: &str) -> Option<Expression> {
    let number = |number: i64| Some(number.to_le_bytes().to_vec());
    let value = match data_type {
        BOOL => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "yes" | "y" | "on" | "1" => number(1),
            "f" | "false" | "no" | "n" | "off" | "0" => number(0),
            _ => None,
        },
        INT2 => number(text.trim().parse::<i16>().ok()?.into()),
        INT4 => number(text.trim().parse::<i32>().ok()?.into()),
        INT8 => number(text.trim().parse::<i64>().ok()?),
        types::TEXT | types::VARCHAR => {
            let length = u32::try_from(text.len() + 4).ok()?;
            let header = (length << 2).to_le_bytes();
            Some([&header[..], text.as_bytes()].concat())
        }
        types::NAME => {
            let mut name = text.as_bytes().to_vec();
            (name.len() < 64).then(|| {
                name.resize(64, 0);
                name
            })
        }
        UUID => {
            let digits: String = text.chars().filter(|c| *c != '-').collect();
            let is_usual = text.len() == 36 && digits.len() == 32;
            crate::data::bytes(&digits).filter(|_| is_usual)
        }
        _ => None,
    }?;
    Some(Expression::Constant(Constant { data_type, value: Some(value) }))
}

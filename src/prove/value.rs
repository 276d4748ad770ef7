//! Values as the texts that the server makes columns of.

use crate::pg::constant::written;
use crate::pg::statement;
use dragonfly_core::policy::{Cell, Constant};
use dragonfly_core::sql::quote_literal;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};

/// The values of the columns of a row: a text, or null.
pub type Values = BTreeMap<i16, Option<String>>;

/// The type of a column, or of what a domain is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    kind: Kind,
    modifier: i32,
    labels: Vec<String>,
}

/// What the values of a type look like, the ones with the fewest values first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Enum,
    Bool,
    Int2,
    Int4,
    Int8,
    Number,
    Uuid,
    Date,
    Time,
    Interval,
    Text,
    Json,
    Array,
    Range,
    Bytes,
    Address,
    Point,
    Other,
}

impl Type {
    /// Returns a type by its name, `typtype`, `typcategory`, the modifier of the column, and the
    /// labels of an enum as an array.
    pub fn new(name: &str, kind: &str, category: &str, modifier: i32, labels: &str) -> Self {
        let kind = match (name, kind, category) {
            (_, "e", _) => Kind::Enum,
            (_, "r" | "m", _) => Kind::Range,
            (_, _, "A") => Kind::Array,
            ("bool", ..) => Kind::Bool,
            ("int2", ..) => Kind::Int2,
            ("int4", ..) => Kind::Int4,
            ("int8", ..) => Kind::Int8,
            ("numeric" | "float4" | "float8", ..) => Kind::Number,
            ("uuid", ..) => Kind::Uuid,
            ("date" | "timestamp" | "timestamptz", ..) => Kind::Date,
            ("time" | "timetz", ..) => Kind::Time,
            ("interval", ..) => Kind::Interval,
            ("json" | "jsonb", ..) => Kind::Json,
            ("bytea", ..) => Kind::Bytes,
            ("inet" | "cidr", ..) => Kind::Address,
            ("point", ..) => Kind::Point,
            (_, _, "S") | ("citext" | "tsvector" | "ltree" | "hstore", ..) => Kind::Text,
            _ => Kind::Other,
        };
        let inner = labels.trim_start_matches('{').trim_end_matches('}');
        let labels = inner.split(',').map(|label| label.trim_matches('"').to_owned());
        Self { kind, modifier, labels: labels.filter(|label| !label.is_empty()).collect() }
    }

    /// The type of a value of a session that is compared with no column.
    pub fn of_session(is_user: bool) -> Self {
        let kind = if is_user { Kind::Uuid } else { Kind::Text };
        Self { kind, modifier: -1, labels: Vec::new() }
    }

    /// Whether two values of the type can be compared by `=` of the server.
    pub fn is_comparable(&self) -> bool {
        !matches!(self.kind, Kind::Json | Kind::Point | Kind::Other)
    }

    /// Whether a text can be a value of the type, as far as that is obvious.
    pub fn has(&self, text: &str) -> bool {
        let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        match self.kind {
            Kind::Text => true,
            Kind::Uuid => text.len() == 36 && text.chars().all(is_hex),
            Kind::Int4 => text.parse::<i32>().is_ok(),
            Kind::Int8 => text.parse::<i64>().is_ok(),
            _ => false,
        }
    }

    /// Returns a value, another one for each number, as far as the type has as many.
    pub fn any(&self, number: u32) -> Option<String> {
        let text = match self.kind {
            Kind::Enum => {
                let at = number as usize % self.labels.len().max(1);
                return self.labels.get(at).cloned();
            }
            Kind::Bool => (number % 2 == 1).to_string(),
            Kind::Int2 => (30_000 + number % 2_000).to_string(),
            Kind::Int4 => (2_000_000_000 + number).to_string(),
            Kind::Int8 => (9_000_000_000_000_000_000 + i64::from(number)).to_string(),
            Kind::Number => (1 + number).to_string(),
            Kind::Uuid => format!("d7a90f17-0000-4000-8000-{number:012x}"),
            Kind::Date => "now".to_owned(),
            Kind::Time => "12:00".to_owned(),
            Kind::Interval => "1 day".to_owned(),
            Kind::Json | Kind::Array => "{}".to_owned(),
            Kind::Range => "empty".to_owned(),
            Kind::Bytes => format!("\\x{number:08x}"),
            Kind::Address => format!("192.0.2.{}", number % 256),
            Kind::Point => "(0,0)".to_owned(),
            Kind::Text => return Some(self.cut(format!("proof-{number}"))),
            Kind::Other => return None,
        };
        Some(text)
    }

    /// Returns a value that says little: false, or any value.
    pub fn usual(&self, number: u32) -> Option<String> {
        if self.kind == Kind::Bool { Some("false".to_owned()) } else { self.any(number) }
    }

    /// Returns a text that fits into varchar(n), where it is another one for each number.
    fn cut(&self, text: String) -> String {
        let header = 4;
        let most = usize::try_from(self.modifier - header).unwrap_or(usize::MAX);
        text.chars().skip(text.len().saturating_sub(most)).collect()
    }

    /// Returns the sum of two integers, of which the second one is only the direction where the sum
    /// would be none of the type.
    fn sum(&self, number: i64, step: i64) -> Option<i64> {
        let most = match self.kind {
            Kind::Int2 => i16::MAX.into(),
            Kind::Int4 => i32::MAX.into(),
            _ => i64::MAX,
        };
        let fits = |sum: &i64| sum.unsigned_abs() <= most as u64;
        let far = number.checked_add(step).filter(fits);
        far.or_else(|| number.checked_add(step.signum()).filter(fits))
    }

    /// Returns the value that is less or greater than another one.
    pub fn beside(&self, of: &str, is_above: bool) -> Option<String> {
        let text = match self.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Number => {
                // Far away, where there is hardly a row yet.
                let far: i64 = match self.kind {
                    Kind::Int2 => 10_000,
                    Kind::Number => 1,
                    _ => 1_000_000_000,
                };
                let step = if is_above { far } else { -far };
                if let Ok(number) = of.parse::<i64>() {
                    self.sum(number, step)?.to_string()
                } else {
                    let step = if is_above { 1.0 } else { -1.0 };
                    (of.parse::<f64>().ok()? + step).to_string()
                }
            }
            Kind::Date if of == "now" => if is_above { "tomorrow" } else { "yesterday" }.to_owned(),
            Kind::Date => if is_above { "infinity" } else { "-infinity" }.to_owned(),
            Kind::Time => if is_above { "24:00" } else { "00:00" }.to_owned(),
            Kind::Interval => if is_above { "1000 years" } else { "-1000 years" }.to_owned(),
            Kind::Uuid => {
                let digit = if is_above { "f" } else { "0" };
                digit.repeat(32)
            }
            Kind::Text if is_above => format!("{of}z"),
            Kind::Text => String::new(),
            _ => return None,
        };
        Some(text)
    }
}

impl Type {
    /// Returns a value from one on to another one, which is another one for each number as far as
    /// there are as many; `None` where that is not known.
    pub fn within(&self, low: &str, high: &str, number: u32) -> Option<String> {
        if !matches!(self.kind, Kind::Int2 | Kind::Int4 | Kind::Int8) {
            return self.between(low, high);
        }
        let (low, high): (i128, i128) = (low.parse().ok()?, high.parse().ok()?);
        // From the end, where there is hardly a row yet.
        let at = i128::from(number).checked_rem(high - low)?;
        Some((high - 1 - at).to_string())
    }

    /// Returns the value in the middle of two other ones; `None` where that is not known.
    fn between(&self, low: &str, high: &str) -> Option<String> {
        match self.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 => {
                let (low, high): (i128, i128) = (low.parse().ok()?, high.parse().ok()?);
                Some((low + (high - low) / 2).to_string())
            }
            Kind::Number => {
                let (low, high): (f64, f64) = (low.parse().ok()?, high.parse().ok()?);
                Some((low + (high - low) / 2.0).to_string())
            }
            Kind::Date => {
                let [low, high] =
                    [low, high].map(|of| format!("{}::pg_catalog.timestamptz", quote_literal(of)));
                computed(&format!(
                    "{low} OPERATOR(pg_catalog.+)
                       (({high} OPERATOR(pg_catalog.-) {low}) OPERATOR(pg_catalog./) 2)"
                ))
            }
            Kind::Text => Some(format!("{low}0")),
            _ => None,
        }
    }
}

/// How many values are tried where some are excluded: more than most enums have labels.
const MOST_LABELS: usize = 100;

/// Returns the result of an expression.
fn computed(sql: &str) -> Option<String> {
    statement::rows(&format!("SELECT ({sql})::pg_catalog.text")).pop()?.pop()?
}

/// There is no such value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoValue;

/// The values of the numbers of [`Cell::Any`].
#[derive(Debug, Default, Clone)]
pub struct Chosen {
    types: HashMap<u32, Type>,
    values: HashMap<u32, String>,
    next: u32,
}

impl Chosen {
    /// Notes that a value must be one of a type: of several types, the one with the fewest values
    /// counts.
    pub fn note(&mut self, cell: &Cell, data_type: &Type) {
        match cell {
            Cell::Any(number) => {
                let known = self.types.entry(*number).or_insert_with(|| data_type.clone());
                if data_type.kind < known.kind {
                    known.clone_from(data_type);
                }
            }
            // The value is a text, unless it is compared with something else as well.
            Cell::List(of) | Cell::Part { of, .. } => self.note(of, &Type::of_session(false)),
            Cell::Beside { of, .. } => self.note(of, data_type),
            Cell::Between { low, high } => {
                self.note(low, data_type);
                self.note(high, data_type);
            }
            Cell::Except { number, .. } => self.note(&Cell::Any(*number), data_type),
            Cell::Object(keys) => {
                for of in keys.values() {
                    self.note(of, &Type::of_session(false));
                }
            }
            Cell::Null | Cell::Constant(_) | Cell::Role | Cell::Now | Cell::Computed(_) => {}
        }
    }

    /// Notes that a value has the type of another one.
    pub fn note_like(&mut self, number: u32, cell: &Cell) {
        if let Cell::Any(known) = cell
            && let Some(data_type) = self.types.get(known).cloned()
        {
            self.types.insert(number, data_type);
        }
    }

    /// Gives a number a certain value.
    pub fn set(&mut self, number: u32, value: String) {
        self.values.insert(number, value);
    }

    /// Whether a number has a value.
    pub fn is_set(&self, number: u32) -> bool {
        self.values.contains_key(&number)
    }

    /// Returns a number that has not been used for a value.
    pub fn next(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Returns the value of a number; `None` where there is none of the type.
    fn of(&mut self, number: u32) -> Option<String> {
        if let Some(value) = self.values.get(&number) {
            return Some(value.clone());
        }
        let next = self.next();
        let data_type = self.types.get(&number).cloned();
        let value = data_type.unwrap_or_else(|| Type::of_session(false)).any(next)?;
        self.values.insert(number, value.clone());
        Some(value)
    }

    /// Returns the value of a number, which is none of some constants; `None` where there is no
    /// such value.
    fn except(&mut self, number: u32, not: &[Constant]) -> Option<String> {
        let not: Vec<String> = not.iter().map(text_of).collect();
        for _ in 0..=MOST_LABELS {
            let value = self.of(number)?;
            if !not.contains(&value) {
                return Some(value);
            }
            self.values.remove(&number);
        }
        None
    }

    /// Returns a value as the text of a column; `None` for null.
    ///
    /// # Errors
    /// There is no such value of the type.
    pub fn text(
        &mut self,
        cell: &Cell,
        data_type: &Type,
        role: &str,
    ) -> Result<Option<String>, NoValue> {
        let inner = Type::of_session(false);
        let text = match cell {
            Cell::Null => return Ok(None),
            Cell::Constant(constant) => text_of(constant),
            Cell::Any(number) => self.of(*number).ok_or(NoValue)?,
            Cell::Role => role.to_owned(),
            Cell::Now => "now".to_owned(),
            Cell::Beside { of, is_above } => {
                let of = self.text(of, data_type, role)?.ok_or(NoValue)?;
                data_type.beside(&of, *is_above).ok_or(NoValue)?
            }
            Cell::Between { low, high } => {
                let low = self.text(low, data_type, role)?.ok_or(NoValue)?;
                let high = self.text(high, data_type, role)?.ok_or(NoValue)?;
                data_type.between(&low, &high).ok_or(NoValue)?
            }
            Cell::Except { number, not } => self.except(*number, not).ok_or(NoValue)?,
            Cell::Computed(sql) => computed(sql).ok_or(NoValue)?,
            Cell::List(of) => {
                let element = self.text(of, &inner, role)?.ok_or(NoValue)?;
                match data_type.kind {
                    Kind::Array => {
                        format!("{{\"{}\"}}", element.replace('\\', "\\\\").replace('"', "\\\""))
                    }
                    Kind::Json => json!([element]).to_string(),
                    _ => element,
                }
            }
            Cell::Object(_) => self.json(cell, role)?.to_string(),
            Cell::Part { of, position, separator } => {
                let part = self.text(of, &inner, role)?.ok_or(NoValue)?;
                let before = "x".to_owned() + separator;
                format!("{}{part}{separator}x", before.repeat(position - 1))
            }
        };
        Ok(Some(text))
    }

    /// Returns a value as one of a JSON document.
    ///
    /// # Errors
    /// There is no such value.
    pub fn json(&mut self, cell: &Cell, role: &str) -> Result<Json, NoValue> {
        Ok(match cell {
            Cell::Constant(Constant::Boolean(value)) => json!(value),
            Cell::Constant(Constant::Integer(value)) => json!(value),
            Cell::Constant(constant @ Constant::Other(..)) => {
                let text = text_of(constant);
                serde_json::from_str(&text).unwrap_or(Json::String(text))
            }
            Cell::List(of) => json!([self.json(of, role)?]),
            Cell::Object(keys) => {
                let of = |(key, of): (&String, &Cell)| Ok((key.clone(), self.json(of, role)?));
                Json::Object(keys.iter().map(of).collect::<Result<_, _>>()?)
            }
            _ => self.text(cell, &Type::of_session(false), role)?.map_or(Json::Null, Json::String),
        })
    }
}

/// Returns a constant as its type writes it.
pub fn text_of(constant: &Constant) -> String {
    match constant {
        Constant::Boolean(value) => value.to_string(),
        Constant::Integer(value) => value.to_string(),
        Constant::Text(text) => text.clone(),
        Constant::Uuid(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Constant::Other(data_type, bytes) => written(*data_type, bytes),
    }
}

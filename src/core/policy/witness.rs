//! A way in which a row passes, as people read it.

use super::facts::Catalog;
use super::formula::{Comparison, Membership, Shape};
use super::literals::Literal;
use super::opening::operands;
use super::parts::Inspector;
use super::reader::Found;
use super::term::{Constant, Operation, Row, Term, TermId};
use crate::catalog::Oid;
use crate::sql::quote_literal;
use crate::stored::SqlValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The names of rows: `R` for the checked one, and for the others their tables, with a number where
/// there are several rows of one table.
pub struct Names<'a> {
    inspector: Inspector<'a>,
    found: &'a Found,
    rows: BTreeMap<Row, (String, Option<u32>)>,
}

impl<'a> Names<'a> {
    /// Names the rows that literals are about.
    pub fn of(inspector: Inspector<'a>, found: &'a Found, literals: &[Literal]) -> Self {
        let terms = literals.iter().flat_map(|literal| operands(*literal));
        Self::of_terms(inspector, found, terms)
    }

    /// Names the rows that a term is about.
    pub fn of_term(inspector: Inspector<'a>, found: &'a Found, term: TermId) -> Self {
        Self::of_terms(inspector, found, [term].into_iter())
    }

    fn of_terms(
        inspector: Inspector<'a>,
        found: &'a Found,
        terms: impl Iterator<Item = TermId>,
    ) -> Self {
        let mentioned = terms.flat_map(|term| inspector.parts(term).columns);
        let mut rows: BTreeMap<Row, (String, Option<u32>)> = BTreeMap::new();
        for (row, _) in mentioned {
            let relation = found.rows.get(&row).copied();
            rows.entry(row).or_insert((String::new(), relation));
        }
        let mut names = BTreeMap::<String, u32>::new();
        for (row, (name, relation)) in &mut rows {
            if *row == Row::CHECKED {
                "R".clone_into(name);
                continue;
            }
            let table = relation.and_then(|relation| inspector.catalog.relation_name(relation));
            let table = table.unwrap_or_else(|| "subquery".to_owned());
            let count = names.entry(table.clone()).or_default();
            *count += 1;
            *name = if *count == 1 { table } else { format!("{table}#{count}") };
        }
        Self { inspector, found, rows }
    }

    /// Returns what holds in a way, without what follows from the rest.
    pub fn witness(&self, literals: &[Literal]) -> Vec<[String; 3]> {
        self.said(literals).into_iter().map(|(_, part)| part).collect()
    }

    /// Returns the literals that say something, each with its operands and operator.
    fn said(&self, literals: &[Literal]) -> Vec<(Literal, [String; 3])> {
        let mut all: Vec<(Literal, [String; 3])> = Vec::new();
        for literal in literals {
            if let Some(part) = self.literal(*literal)
                && all.iter().all(|(_, known)| *known != part)
            {
                all.push((*literal, part));
            }
        }
        let says_more = |[left, operator, _]: &[String; 3], of: &str| {
            left == of && (operator == "=" || operator == "IS")
        };
        let follows = |[left, operator, right]: &[String; 3]| {
            operator == "<>" && right == "''" && all.iter().any(|(_, part)| says_more(part, left))
        };
        all.iter().filter(|(_, part)| !follows(part)).cloned().collect()
    }

    /// Returns what holds in a way as conditions in SQL, without what follows from the rest. The
    /// columns of the checked row have no table before them.
    pub fn conditions(mut self, literals: &[Literal]) -> Vec<String> {
        if let Some((name, _)) = self.rows.get_mut(&Row::CHECKED) {
            name.clear();
        }
        let text = |(literal, part): (Literal, [String; 3])| match literal {
            Literal::Member(by, a, b, value) => self.membership(by, a, b, value),
            _ => part.join(" "),
        };
        self.said(literals).into_iter().map(text).collect()
    }

    /// Returns a membership in SQL: whether it is true, false or null.
    fn membership(&self, by: Membership, a: TermId, b: TermId, value: Option<bool>) -> String {
        let (left, right) = (self.operand(a), self.operand(b));
        let array = match self.inspector.terms.get(b) {
            Term::Array(elements) => Some(self.list(elements)),
            _ => None,
        };
        let operator = self.inspector.catalog.operator(by.operator);
        let is_of_elements = by.operator == Oid::MAX
            || operator.as_ref().is_some_and(|of| of.comparison == Some(Comparison::Equal));
        let symbol = operator.map_or_else(|| "=".to_owned(), |operator| operator.name);
        match (by.shape, array, value) {
            (Shape::Element, Some(list), Some(true)) => format!("{left} IN ({list})"),
            (Shape::Element, Some(list), Some(false)) => format!("{left} NOT IN ({list})"),
            (Shape::Element, None, Some(true)) if is_of_elements => {
                format!("{left} = ANY ({right})")
            }
            (Shape::Element, None, Some(false)) if is_of_elements => {
                format!("{left} <> ALL ({right})")
            }
            (.., Some(true)) => format!("{left} {symbol} {right}"),
            (.., Some(false)) => format!("NOT ({left} {symbol} {right})"),
            (.., None) => format!("({left} {symbol} {right}) IS NULL"),
        }
    }

    /// Returns a literal as a left operand, an operator and a right operand; `None` where there is
    /// nothing to say.
    fn literal(&self, literal: Literal) -> Option<[String; 3]> {
        let three =
            |left: String, operator: &str, right: String| Some([left, operator.to_owned(), right]);
        match literal {
            Literal::Null(a) => three(self.term(a), "IS", "NULL".to_owned()),
            Literal::NotNull(a) => three(self.term(a), "IS NOT", "NULL".to_owned()),
            Literal::Compare(Comparison::Equal, a, b) if a == b => {
                three(self.term(a), "IS NOT", "NULL".to_owned())
            }
            Literal::Compare(comparison, a, b) => {
                three(self.term(a), comparison.symbol(), self.term(b))
            }
            Literal::Holds(a, value) if let Term::IsEmpty(of) = self.inspector.terms.get(a) => {
                three(of.name.clone(), if value { "=" } else { "<>" }, "''".to_owned())
            }
            Literal::Holds(a, true) if let Some((left, symbol, right)) = self.operation(a) => {
                three(self.operand(left), &symbol, self.operand(right))
            }
            Literal::Holds(a, value) => {
                three(self.operand(a), "IS", value.to_string().to_uppercase())
            }
            Literal::Member(_, a, b, Some(false)) => three(self.term(a), "NOT IN", self.term(b)),
            Literal::Member(_, a, b, _) => three(self.term(a), "IN", self.term(b)),
            Literal::NullRow(_) | Literal::Found(..) => None,
        }
    }

    /// Returns a term as people write it.
    pub fn term(&self, term: TermId) -> String {
        if let Some(call) = self.found.facts.get(&term) {
            return call.clone();
        }
        match self.inspector.terms.get(term) {
            Term::Constant(constant) => literal(self.inspector.catalog, constant),
            Term::Null => "NULL".to_owned(),
            Term::Column { row, number, .. } => {
                let row = if *row == self.inspector.checked { Row::CHECKED } else { *row };
                let (name, relation) = self.rows.get(&row).cloned().unwrap_or_default();
                let catalog = self.inspector.catalog;
                let column = relation.and_then(|relation| catalog.column_name(relation, *number));
                let column = column.unwrap_or_else(|| number.to_string());
                if name.is_empty() { column } else { format!("{name}.{column}") }
            }
            Term::Identity(identity) => identity.name.clone(),
            Term::IsEmpty(identity) => format!("{} = ''", identity.name),
            Term::Applied { operation, arguments, .. } => self.applied(*operation, arguments),
            Term::Array(elements) => format!("ARRAY[{}]", self.list(elements)),
            Term::Count(_) => "count(*)".to_owned(),
            Term::Session(value) => match value {
                SqlValue::CurrentUser => "current_user",
                SqlValue::SessionUser => "session_user",
                SqlValue::Database => "current_catalog",
                SqlValue::Schema => "current_schema",
                SqlValue::Time { .. } => "the current time",
            }
            .to_owned(),
            Term::Unknown(_) => "(something)".to_owned(),
        }
    }

    /// Returns the operands and the symbol of a term that is an operation.
    fn operation(&self, term: TermId) -> Option<(TermId, Rc<str>, TermId)> {
        match self.inspector.terms.get(term) {
            Term::Applied { operation: Operation::Function(oid, _), arguments, .. } => {
                let symbol = self.inspector.catalog.symbol(*oid)?;
                match arguments[..] {
                    [left, right] => Some((left, symbol, right)),
                    _ => None,
                }
            }
            Term::Applied { operation: Operation::Conversion(_), arguments, .. } => {
                match arguments[..] {
                    [only] => self.operation(only),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Returns a term as an operand: in parentheses, where it is an operation itself.
    fn operand(&self, term: TermId) -> String {
        let text = self.term(term);
        if self.operation(term).is_some() { format!("({text})") } else { text }
    }

    fn list(&self, terms: &[TermId]) -> String {
        terms.iter().map(|term| self.term(*term)).collect::<Vec<_>>().join(", ")
    }

    fn applied(&self, operation: Operation, arguments: &[TermId]) -> String {
        match operation {
            Operation::Conversion(_) => self.list(arguments),
            Operation::Function(oid, _) => {
                let function = self.inspector.catalog.function(oid);
                if let (Some(symbol), [left, right]) =
                    (self.inspector.catalog.symbol(oid), arguments)
                {
                    return format!("{} {symbol} {}", self.operand(*left), self.operand(*right));
                }
                let name = function.map(|function| function.name.clone());
                let by_key = match name.as_deref() {
                    Some("jsonb_object_field_text" | "json_object_field_text") => Some("->>"),
                    Some("jsonb_object_field" | "json_object_field") => Some("->"),
                    _ => None,
                };
                if let (Some(operator), [document, key]) = (by_key, arguments) {
                    return format!("{} {operator} {}", self.term(*document), self.term(*key));
                }
                format!("{}({})", name.unwrap_or_default(), self.list(arguments))
            }
            Operation::Subscript(_) => match arguments {
                [container, subscripts @ ..] => {
                    format!("{}[{}]", self.term(*container), self.list(subscripts))
                }
                [] => String::new(),
            },
            Operation::Field(number) => format!("({}).{number}", self.list(arguments)),
            Operation::Row => format!("({})", self.list(arguments)),
            Operation::Extreme { is_least, .. } => {
                let name = if is_least { "LEAST" } else { "GREATEST" };
                format!("{name}({})", self.list(arguments))
            }
        }
    }
}

/// The types whose constants are numbers, besides integers: numeric, real and double precision.
const NUMBERS: [Oid; 3] = [1700, 700, 701];

/// Returns a constant in SQL.
fn literal(catalog: &dyn Catalog, constant: &Constant) -> String {
    match constant {
        Constant::Boolean(value) => value.to_string(),
        Constant::Integer(value) => value.to_string(),
        Constant::Text(text) => quote_literal(text),
        Constant::Uuid(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            quote_literal(&parts.join("-"))
        }
        Constant::Other(data_type, bytes) => match catalog.constant(*data_type, bytes) {
            // NaN and infinity are no numbers in SQL.
            Some(text) if NUMBERS.contains(data_type) && !text.contains(char::is_alphabetic) => {
                text
            }
            Some(text) => quote_literal(&text),
            None => "(a constant)".to_owned(),
        },
    }
}

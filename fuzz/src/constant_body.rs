//! Bodies with a constant condition: their value is that of SQL, or is not known.

use super::input::{Bytes, text};
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::constant_body::{Truth, truth_of, value};

/// Checks the properties: the input is a body, and a list of decisions from which a condition is
/// built.
pub fn check(input: &[u8]) {
    let body = text(input);
    read(&body);
    assert_eq!(value(&body, Language::Other), None);
    for language in [Language::Sql, Language::PlPgSql] {
        let found = value(&body, language);
        assert_eq!(value(&format!("-- a comment\n{body}"), language), found);
        assert_eq!(value(&format!("/* a /* nested */ comment */ {body}"), language), found);
    }
    let condition = condition(&mut Bytes(input), 0);
    let (sql, expected) = (condition.sql(), condition.truth());
    assert_eq!(value(&format!("SELECT {sql}"), Language::Sql), Some(expected), "{sql}");
    let body = format!("BEGIN RETURN {sql}; END;");
    assert_eq!(value(&body, Language::PlPgSql), Some(expected), "{sql}");
    let with_name = format!("SELECT {sql} AND is_admin");
    assert_eq!(value(&with_name, Language::Sql), None, "{sql}");
}

/// A condition, of which the value is known.
enum Condition {
    Constant(Truth),
    /// A boolean as text.
    Text(&'static str),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    /// IS, or IS NOT, a truth value.
    Is(Box<Condition>, bool, Truth),
    /// A comparison of two numbers.
    Compare(u8, &'static str, u8),
    /// The first that is not null.
    Coalesce(Box<Condition>, Box<Condition>),
}

/// How deeply conditions are built. The core reads deeper ones.
const DEEPEST: u8 = 6;

/// Builds a condition.
fn condition(input: &mut Bytes<'_>, depth: u8) -> Condition {
    let choice = if depth < DEEPEST && !input.is_empty() { input.below(8) } else { 0 };
    let part = |input: &mut Bytes<'_>| Box::new(condition(input, depth + 1));
    match choice {
        1 => Condition::Text(["t", "false", "on", "No", "yes", "0"][usize::from(input.below(6))]),
        2 => Condition::Not(part(input)),
        3 => Condition::And(part(input), part(input)),
        4 => Condition::Or(part(input), part(input)),
        5 => Condition::Is(part(input), input.below(2) == 0, truth(input)),
        6 => {
            let operator = ["=", "<>", "!=", "<", "<=", ">", ">="][usize::from(input.below(7))];
            Condition::Compare(input.below(3), operator, input.below(3))
        }
        7 => Condition::Coalesce(part(input), part(input)),
        _ => Condition::Constant(truth(input)),
    }
}

fn truth(input: &mut Bytes<'_>) -> Truth {
    [Some(true), Some(false), None][usize::from(input.below(3))]
}

impl Condition {
    /// Returns the condition in SQL.
    fn sql(&self) -> String {
        let word = |truth: &Truth| match truth {
            Some(true) => "TRUE",
            Some(false) => "FALSE",
            None => "NULL",
        };
        match self {
            Self::Constant(truth) => word(truth).to_owned(),
            Self::Text(text) => format!("'{text}'::boolean"),
            Self::Not(of) => format!("NOT ({})", of.sql()),
            Self::And(one, other) => format!("({}) AND ({})", one.sql(), other.sql()),
            Self::Or(one, other) => format!("({}) OR ({})", one.sql(), other.sql()),
            Self::Is(of, is_positive, truth) => {
                format!(
                    "({}) IS {}{}",
                    of.sql(),
                    if *is_positive { "" } else { "NOT " },
                    word(truth)
                )
            }
            Self::Compare(one, operator, other) => format!("{one} {operator} {other}"),
            Self::Coalesce(one, other) => format!("COALESCE({}, {})", one.sql(), other.sql()),
        }
    }

    /// Returns the value.
    fn truth(&self) -> Truth {
        match self {
            Self::Constant(truth) => *truth,
            Self::Text(text) => Some(matches!(*text, "t" | "on" | "yes")),
            Self::Not(of) => of.truth().map(|truth| !truth),
            Self::And(one, other) => match (one.truth(), other.truth()) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(one, other) => match (one.truth(), other.truth()) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Is(of, is_positive, truth) => Some((of.truth() == *truth) == *is_positive),
            Self::Compare(one, operator, other) => Some(match *operator {
                "=" => one == other,
                "<>" | "!=" => one != other,
                "<" => one < other,
                "<=" => one <= other,
                ">" => one > other,
                _ => one >= other,
            }),
            Self::Coalesce(one, other) => one.truth().or(other.truth()),
        }
    }
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let _ = truth_of(text);
    for language in [Language::Sql, Language::PlPgSql, Language::Other] {
        let _ = value(text, language);
        let _ = value(&format!("SELECT {text}"), language);
        let _ = value(&format!("BEGIN RETURN {text}; END"), language);
    }
}

//! The rule behind the product: is a `search_path` *safe*, now, in this catalog?

mod assess;

pub use crate::sql::identifiers::{SyntaxError, split_identifiers, split_uncut};
pub use assess::{Assessment, Reason, ReasonCode, SearchPaths, Verdict};

/// The values of `search_path` in a routine's `proconfig`, in order. Keys are compared as the
/// server compares them, in any case; where there are several, the last one is in force.
#[must_use]
pub fn settings(config: &[String]) -> Vec<&str> {
    config
        .iter()
        .filter_map(|item| item.split_once('='))
        .filter(|(key, _)| key.eq_ignore_ascii_case("search_path"))
        .map(|(_, value)| value)
        .collect()
}

/// `path` as a value that the server stores and every reader of one gives back: each name in
/// quotes.
#[must_use]
pub fn stored_value<S: AsRef<str>>(path: &[S]) -> String {
    path.iter()
        .map(|name| format!("\"{}\"", name.as_ref().replace('"', "\"\"")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `path` as the list of a `SET search_path = ...` clause. An identifier folds as the server folds
/// it, so that the statement stores what was meant.
#[must_use]
pub fn set_clause(path: &[String]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    // An identifier cannot be empty, a literal can.
    let items = path
        .iter()
        .map(|name| if name.is_empty() { "''".into() } else { crate::sql::safe_ident(name) });
    items.collect::<Vec<_>>().join(", ")
}

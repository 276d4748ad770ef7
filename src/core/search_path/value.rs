//! Values of the `search_path` setting.

use crate::sql::safe_ident;
use std::rc::Rc;

/// A path with the forms that it has in statements: many statements set the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The names.
    pub names: Vec<String>,
    /// See [`stored_value`].
    pub stored: String,
    /// See [`set_clause`].
    pub clause: String,
}

impl Path {
    /// Returns the path with these names.
    #[must_use]
    pub fn new(names: Vec<String>) -> Rc<Self> {
        let (stored, clause) = (stored_value(&names), set_clause(&names));
        Rc::new(Self { names, stored, clause })
    }
}

/// Returns the values of `search_path` in a routine's `proconfig`, in order. Like the server, it
/// ignores the case of keys; if there are several, the last one is in force.
#[must_use]
pub fn settings(config: &[String]) -> Vec<&str> {
    config
        .iter()
        .filter_map(|item| item.split_once('='))
        .filter(|(key, _)| key.eq_ignore_ascii_case("search_path"))
        .map(|(_, value)| value)
        .collect()
}

/// Returns `path` as a stored value of the setting, with every name in quotes.
#[must_use]
pub fn stored_value<S: AsRef<str>>(path: &[S]) -> String {
    path.iter()
        .map(|name| format!("\"{}\"", name.as_ref().replace('"', "\"\"")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns `path` as the list of a `SET search_path = ...` clause, quoted so that the server stores
/// exactly these names.
#[must_use]
pub fn set_clause(path: &[String]) -> String {
    if path.is_empty() {
        return "''".to_owned();
    }
    // An identifier cannot be empty, but a literal can.
    let items =
        path.iter().map(|name| if name.is_empty() { "''".into() } else { safe_ident(name) });
    items.collect::<Vec<_>>().join(", ")
}

//! Search paths with quoted names, where the encoding of the database is not UTF-8: the server
//! folds and truncates names by the rules of the encoding, which the core does not know.

use crate::source::State;

/// Replaces the search_path in the settings of a routine by one with quoted names, where the
/// encoding of the database is not UTF-8.
pub fn with_quoted_path(state: &dyn State, mut config: Vec<String>) -> Vec<String> {
    if !state.is_utf8() {
        for item in &mut config {
            if let Some((key, value)) = item.split_once('=')
                && key.eq_ignore_ascii_case("search_path")
            {
                *item = format!("{key}={}", state.quoted_path(value));
            }
        }
    }
    config
}

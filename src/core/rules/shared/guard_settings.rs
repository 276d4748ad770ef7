//! Settings that disable the guard or its event triggers.

/// Whether a value of a parameter disables the guard or the event triggers that it depends on.
#[must_use]
pub fn disables_guard(parameter: &str, value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    match parameter {
        // "local" fires ordinary triggers, as "origin" does.
        "session_replication_role" => value == "replica",
        // parse_bool accepts any unambiguous prefix of its words.
        "event_triggers" => {
            value == "0"
                || (value.len() > 1 && "off".starts_with(&value))
                || is_prefix(&value, &["false", "no"])
        }
        "dragonfly_guard.mode" => value != "block",
        _ => false,
    }
}

fn is_prefix(value: &str, words: &[&str]) -> bool {
    !value.is_empty() && words.iter().any(|word| word.starts_with(value))
}

//! Settings that disable the guard or its event triggers.

/// Settings that can disable the guard or its event triggers.
pub const DISABLING: [&str; 4] =
    ["session_replication_role", "event_triggers", "dragonfly_guard.mode", LIBRARY_PATH];

/// Settings that load the library into a session, or determine the files of the extension. A role
/// that can change them can omit or replace it.
pub const LOADING: [&str; 3] =
    ["session_preload_libraries", "shared_preload_libraries", "extension_control_path"];

/// The setting that determines the file of the library since PostgreSQL 18.
pub const LIBRARY_PATH: &str = "dynamic_library_path";

/// Whether the guard depends on a parameter, so that no role may set it, in a major version.
#[must_use]
pub fn is_own_parameter(name: &str, version: u32) -> bool {
    let is_used = name != LIBRARY_PATH || version >= 18;
    is_used && (DISABLING.contains(&name) || LOADING.contains(&name))
}

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
        // Since PostgreSQL 18 the server looks up `$libdir/dragonfly_guard` in this path. The first
        // folder decides which file is loaded.
        "dynamic_library_path" => value.split(':').next() != Some("$libdir"),
        _ => false,
    }
}

fn is_prefix(value: &str, words: &[&str]) -> bool {
    !value.is_empty() && words.iter().any(|word| word.starts_with(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_path_disables_the_guard_where_another_folder_is_searched_first() {
        for (path, disables) in [
            ("$libdir", false),
            ("$libdir:/more", false),
            ("/own:$libdir", true),
            ("$libdir/sub", true),
            ("/own", true),
            ("", true),
        ] {
            assert_eq!(disables_guard("dynamic_library_path", path), disables, "{path}");
        }
    }
}

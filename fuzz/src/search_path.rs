//! Values of `search_path`: they are read as the server reads them.

use super::input::{stored_text, text};
use dragonfly_core::search_path::{set_clause, settings, stored_value};
use dragonfly_core::sql::identifiers::{split_identifiers, split_uncut};
use dragonfly_core::sql::is_unprintable;

/// Checks the properties: the input is a value of the setting, and its lines are names.
pub fn check(input: &[u8]) {
    let path = stored_text(input);
    read(&text(input));
    for version in [15, 17] {
        let actual = split_identifiers(&path, version).ok();
        assert_eq!(actual, split(path.as_bytes(), version), "{path:?} in version {version}");
    }
    let names: Vec<String> = path.lines().map(str::to_owned).collect();
    let stored = stored_value(&names);
    assert_eq!(split_uncut(&stored, 15).as_ref(), Ok(&names), "{stored}");
    let clause = set_clause(&names);
    if !names.iter().any(|name| name.chars().any(is_unprintable)) {
        // The server takes '' as the empty name; a list without names has this one.
        let expected = if names.is_empty() { vec![String::new()] } else { names };
        let clause = if clause.contains('"') { clause } else { clause.replace("''", "\"\"") };
        if !clause.contains("''") {
            assert_eq!(split_uncut(&clause, 15).as_ref(), Ok(&expected), "{clause}");
        }
    }
    let config = [format!("search_path={path}"), format!("Search_Path={stored}")];
    assert_eq!(settings(&config), [path.as_str(), stored.as_str()]);
}

/// Returns the names in a value, as `SplitIdentifierString` (varlena.c) does, byte by byte.
fn split(value: &[u8], version: u32) -> Option<Vec<String>> {
    let is_space = |at: usize| {
        value.get(at).is_some_and(|byte| {
            matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c) || (version >= 17 && *byte == 0x0b)
        })
    };
    let skip_spaces = |mut at: usize| {
        while is_space(at) {
            at += 1;
        }
        at
    };
    let mut names = Vec::new();
    let mut at = skip_spaces(0);
    if at == value.len() {
        return Some(names);
    }
    loop {
        let mut name = Vec::new();
        if value.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (value.get(at)?, value.get(at + 1)) {
                    (b'"', Some(b'"')) => {
                        name.push(b'"');
                        at += 2;
                    }
                    (b'"', _) => break,
                    (other, _) => {
                        name.push(*other);
                        at += 1;
                    }
                }
            }
            at += 1;
        } else {
            let start = at;
            while at < value.len() && value[at] != b',' && !is_space(at) {
                at += 1;
            }
            if start == at {
                return None;
            }
            name.extend(value[start..at].to_ascii_lowercase());
        }
        // A character that does not fit is omitted (`pg_mbcliplen`).
        let mut name = String::from_utf8(name).expect("cut at ASCII characters");
        while name.len() > 63 {
            name.pop();
        }
        names.push(name);
        at = skip_spaces(at);
        match value.get(at) {
            None => return Some(names),
            Some(b',') => at = skip_spaces(at + 1),
            Some(_) => return None,
        }
    }
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    for version in [15, 17] {
        let _ = split_identifiers(text, version);
    }
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    let _ = (stored_value(&names), set_clause(&names));
    let _ = settings(&names);
}

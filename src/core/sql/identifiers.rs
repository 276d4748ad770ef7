//! Reads quoted identifiers and lists of identifiers as the server does.

/// The maximum length of a name, in bytes (`NAMEDATALEN - 1`).
const MAX_NAME_LENGTH: usize = 63;

/// The value is not a list of names. The server rejects it when the routine is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of names")]
pub struct SyntaxError;

/// Returns the names in `value`: a port of `SplitIdentifierString`
/// (`src/backend/utils/adt/varlena.c`).
///
/// Unquoted names are folded to lower case (ASCII only, as in every multibyte encoding), `""` in a
/// quoted name is a quote, and names are truncated to 63 bytes at a character boundary. `version`
/// is the server's major version: the vertical tab is white space from 17 on (`scanner_isspace`,
/// scansup.c).
///
/// # Errors
/// [`SyntaxError`] if the server's function would return false.
pub fn split_identifiers(value: &str, version: u32) -> Result<Vec<String>, SyntaxError> {
    let mut names = split_uncut(value, version)?;
    names.iter_mut().for_each(truncate);
    Ok(names)
}

/// Returns the names in `value` without truncating them.
///
/// # Errors
/// As [`split_identifiers`].
pub fn split_uncut(value: &str, version: u32) -> Result<Vec<String>, SyntaxError> {
    let is_space =
        |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c') || (c == '\x0b' && version >= 17);
    // The server's string would end at a zero byte, which a catalog cannot store.
    let mut rest = value.trim_start_matches(is_space);
    let mut names = Vec::new();
    if rest.is_empty() {
        return Ok(names);
    }
    loop {
        let name;
        if rest.starts_with('"') {
            (name, rest) = unquote(rest).ok_or(SyntaxError)?;
        } else {
            let end = rest.find(|c| c == ',' || is_space(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(SyntaxError);
            }
            name = rest[..end].to_ascii_lowercase();
            rest = &rest[end..];
        }
        names.push(name);
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return Ok(names);
        }
        rest = rest.strip_prefix(',').ok_or(SyntaxError)?.trim_start_matches(is_space);
    }
}

/// Returns the byte position just after the quoted token that `text` begins with. The token ends at
/// the first `quote` that is not doubled; `None` if there is none. `text` must begin with
/// `quote`.
pub(super) fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut rest = quote.len_utf8();
    loop {
        rest += text[rest..].find(quote)? + quote.len_utf8();
        if !text[rest..].starts_with(quote) {
            return Some(rest);
        }
        rest += quote.len_utf8();
    }
}

/// Returns the name in the double-quoted identifier that `text` begins with, and the text after it;
/// `None` if the closing quote is missing.
pub(crate) fn unquote(text: &str) -> Option<(String, &str)> {
    let end = quoted_end(text, '"')?;
    Some((text[1..end - 1].replace("\"\"", "\""), &text[end..]))
}

/// Truncates a name at a character boundary, like `truncate_identifier` (scansup.c).
pub fn truncate(name: &mut String) {
    if name.len() > MAX_NAME_LENGTH {
        name.truncate(name.floor_char_boundary(MAX_NAME_LENGTH));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(value: &str) -> Vec<String> {
        split_identifiers(value, 15).expect("a list")
    }

    #[test]
    fn names_are_split_as_by_the_server() {
        assert_eq!(split("  PUBLIC ,  \"pg_temp\"  "), ["public", "pg_temp"]);
        assert_eq!(split("public\t,\n pg_temp"), ["public", "pg_temp"]);
        assert_eq!(split("\"public, pg_temp\""), ["public, pg_temp"]);
        assert_eq!(split("\"a\"\"b\""), ["a\"b"]);
        assert_eq!(split("\"\""), [""]);
        assert_eq!(split(" "), [""; 0]);
        assert_eq!(split("ÄPub"), ["Äpub"], "only ASCII is folded");
        assert_eq!(
            split("pg_temp\u{a0}"),
            ["pg_temp\u{a0}"],
            "a no-break space is part of the name"
        );
    }

    #[test]
    fn vertical_tab_is_white_space_since_17() {
        assert_eq!(
            split_identifiers("public\x0b, pg_temp", 16).unwrap(),
            ["public\x0b", "pg_temp"]
        );
        assert_eq!(split_identifiers("public\x0b, pg_temp", 17).unwrap(), ["public", "pg_temp"]);
    }

    #[test]
    fn names_are_truncated_at_a_character_boundary() {
        assert_eq!(split(&"x".repeat(100))[0].len(), 63);
        assert_eq!(split(&"é".repeat(40))[0], "é".repeat(31));
    }

    #[test]
    fn invalid_lists_are_errors() {
        for value in [
            "\"public, pg_temp",
            ",",
            "public,",
            "public pg_temp",
            "public,,pg_temp",
            "\"a\"b",
            "a\"b\" c",
        ] {
            assert_eq!(split_identifiers(value, 15), Err(SyntaxError), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(value in "(?s).{0,80}", version in 15u32..=18) {
            let _ = split_identifiers(&value, version);
        }

        #[test]
        fn quoted_names_are_read_back(names in proptest::collection::vec("[^\0]{0,15}", 1..5)) {
            let quote = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
            let list: Vec<_> = names.iter().map(quote).collect();
            prop_assert_eq!(split_identifiers(&list.join(" , "), 15).unwrap(), names);
        }
    }
}

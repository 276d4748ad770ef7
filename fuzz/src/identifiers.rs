//! Names: what is written is read again, and what is shown is printable.

use super::input::{first_line, stored_text};
use dragonfly_core::explain;
use dragonfly_core::sql::identifiers::split_uncut;
use dragonfly_core::sql::{
    RAW_BYTES, argument_types, canonical_type, find_unquoted, is_unprintable, literal_types,
    printable, quote_ident, quote_literal, safe_ident, safe_qualified, safe_sql, without_modifiers,
};

/// Checks the properties: the first line of the input is a name, and so is the rest.
pub fn check(input: &[u8]) {
    let text = stored_text(input);
    read(&text);
    let (first, second) = first_line(&text);
    for name in [first, second] {
        one_name(name);
    }
    let list = [quote_ident(first), quote_ident(second)].join(" , ");
    assert_eq!(split_uncut(&list, 15).as_deref(), Ok(&[first.to_owned(), second.to_owned()][..]));
    if !first.is_empty() && !second.is_empty() {
        let qualified = safe_qualified(first, second);
        let named = explain::parse(&qualified).expect("a qualified name is a name");
        assert_eq!(named.parts, [first, second], "{qualified}");
        two_columns(first, second);
    }
    assert_eq!(canonical_type(&canonical_type(&text)), canonical_type(&text));
}

fn one_name(name: &str) {
    let quoted = quote_ident(name);
    assert_eq!(split_uncut(&quoted, 15).as_deref(), Ok(&[name.to_owned()][..]));
    let assignment = format!("{quoted}=1=2");
    assert_eq!(find_unquoted(&assignment, "="), Some(quoted.len()));
    assert_eq!(without_modifiers(&quoted), *quoted);
    let literal = quote_literal(name);
    assert_eq!(literal_content(&literal), name);
    if !literal.starts_with('E') {
        let typed = format!("{literal}::{quoted}, 1");
        assert_eq!(literal_types(&typed), Some(vec![&*quoted]), "{typed}");
    }

    let safe = safe_ident(name);
    assert_eq!(unquoted(&safe), name, "{safe}");
    let is_shown = |c: char| !is_unprintable(c) || RAW_BYTES.contains(&c);
    assert!(safe.chars().all(is_shown), "{safe:?}");
    assert!(!printable(name).chars().any(is_unprintable));
    assert!(safe_sql(&quoted).chars().all(is_shown));
    if safe == quoted {
        assert_eq!(safe_sql(&quoted), quoted);
    }
}

/// A list of columns is read as the names in it.
fn two_columns(first: &str, second: &str) {
    let list = format!("t({}, {})", quote_ident(first), quote_ident(second));
    let columns = explain::parse(&list).expect("a relation with columns").columns();
    assert_eq!(columns, Some(vec![first.to_owned(), second.to_owned()]), "{list}");
}

/// Returns what a string literal stands for.
fn literal_content(literal: &str) -> String {
    let (text, has_escapes) = match literal.strip_prefix('E') {
        Some(text) => (text, true),
        None => (literal, false),
    };
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).expect("quotes");
    let mut chars = inner.chars();
    let mut content = String::new();
    while let Some(c) = chars.next() {
        content.push(c);
        if c == '\'' || (c == '\\' && has_escapes) {
            assert_eq!(chars.next(), Some(c), "{literal} ends before its end");
        } else {
            assert!(c != '\\', "{literal} has a backslash, and is no E literal");
        }
    }
    content
}

/// Returns the name that an identifier with or without quotes and escapes stands for.
fn unquoted(identifier: &str) -> String {
    let (text, has_escapes) = match identifier.strip_prefix("U&") {
        Some(text) => (text, true),
        None => (identifier, false),
    };
    let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
    let mut rest = inner.strip_suffix('"').expect("a closing quote");
    let mut name = String::new();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '"' {
            rest = rest.strip_prefix('"').expect("quotes are doubled");
        } else if c == '\\' && has_escapes {
            let (digits, after) = match rest.strip_prefix('+') {
                Some(long) => long.split_at(6),
                None if rest.starts_with('\\') => {
                    name.push('\\');
                    rest = &rest[1..];
                    continue;
                }
                None => rest.split_at(4),
            };
            let code = u32::from_str_radix(digits, 16).expect("hexadecimal digits");
            name.push(char::from_u32(code).expect("a character"));
            rest = after;
            continue;
        }
        name.push(c);
    }
    name
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let _ = split_uncut(text, 17);
    let _ = (quote_ident(text), safe_ident(text), quote_literal(text), printable(text));
    let _ = (safe_sql(text), without_modifiers(text), canonical_type(text));
    let _ = (argument_types(text), find_unquoted(text, "="), literal_types(text));
    let _ = explain::parse(text).map(|named| named.columns());
    let _ = (explain::arguments(text), explain::bare_type(text), explain::types_of_argument(text));
}

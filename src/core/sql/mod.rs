//! Writes SQL text safely: identifiers and literals as PostgreSQL's `quote_ident` and
//! `quote_literal` write them, and names as messages show them.

pub mod argument_use;
pub mod assigned;
pub mod body;
pub mod chosen_text;
pub mod constant_body;
pub mod cursor_use;
pub mod identifiers;
mod keywords;
mod plain;
mod returned;
pub mod secrets;
pub mod similar;
pub mod written;

pub use plain::plain_statements;
pub use returned::returned_expression;

use identifiers::{quoted_end, unquote};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Returns `name` as an identifier, quoted only if required, exactly as the server's
/// `quote_identifier` does (ruleutils.c).
#[must_use]
pub fn quote_ident(name: &str) -> Cow<'_, str> {
    let is_plain = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !keywords::needs_quotes(name);
    if is_plain {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    }
}

/// The characters for bytes that are invalid in the encoding: U+10FF80 for 0x80 to U+10FFFF for
/// 0xFF, in a private plane.
pub const RAW_BYTES: std::ops::RangeInclusive<char> = '\u{10ff80}'..='\u{10ffff}';

/// Whether a text consists of printable ASCII characters, as most names do.
fn is_plain_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns `name` as an identifier in SQL that is both shown and executed: control and direction
/// characters are written as `U&"\000A"`, so that a name cannot affect the statement or the
/// terminal. [`RAW_BYTES`] are not escaped, because no escape can write them.
#[must_use]
pub fn safe_ident(name: &str) -> Cow<'_, str> {
    let is_unprintable = |c| is_unprintable(c) && !RAW_BYTES.contains(&c);
    if is_plain_ascii(name) || !name.chars().any(is_unprintable) {
        return quote_ident(name);
    }
    let code =
        |code| if code > 0xffff { format!("\\+{code:06X}") } else { format!("\\{code:04X}") };
    Cow::Owned(format!("U&{}", escaped(name, '"', is_unprintable, code)))
}

/// Returns a text in quotes, with its quotes and backslashes doubled, and the characters that
/// `is_escaped` names as `code` writes their code points.
fn escaped(
    text: &str,
    quote: char,
    is_escaped: impl Fn(char) -> bool,
    code: impl Fn(u32) -> String,
) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        if is_escaped(c) {
            out.push_str(&code(u32::from(c)));
            continue;
        }
        if c == quote || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push(quote);
    out
}

/// Returns `schema.name`, each part as [`safe_ident`] writes it.
#[must_use]
pub fn safe_qualified(schema: &str, name: &str) -> String {
    [&*safe_ident(schema), ".", &*safe_ident(name)].concat()
}

/// Returns SQL of the server, such as the name of a type, with each quoted identifier that contains
/// unprintable characters as [`safe_ident`] writes it.
#[must_use]
pub fn safe_sql(sql: &str) -> Cow<'_, str> {
    if !sql.chars().any(is_unprintable) {
        return Cow::Borrowed(sql);
    }
    let mut out = String::new();
    let mut rest = sql;
    while let Some(start) = rest.find('"') {
        out.push_str(&rest[..start]);
        let name;
        (name, rest) =
            unquote(&rest[start..]).unwrap_or_else(|| (rest[start + 1..].to_owned(), ""));
        // A quoted name stays quoted, even if it need not be.
        match safe_ident(&name) {
            Cow::Borrowed(plain) => {
                let _ = write!(out, "\"{plain}\"");
            }
            Cow::Owned(quoted) => out.push_str(&quoted),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Returns `text` as a string literal, in the `E''` form if it contains a backslash.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Returns `text` as a string literal that is both shown and executed: control and direction
/// characters are written as `E'\u000A'`. `None` with [`RAW_BYTES`], which no escape can write.
#[must_use]
pub fn safe_literal(text: &str) -> Option<String> {
    if text.chars().any(|c| RAW_BYTES.contains(&c)) {
        return None;
    }
    if !text.chars().any(is_unprintable) {
        return Some(quote_literal(text));
    }
    let code =
        |code| if code > 0xffff { format!("\\U{code:08X}") } else { format!("\\u{code:04X}") };
    Some(format!("E{}", escaped(text, '\'', is_unprintable, code)))
}

/// Returns the types in a list of arguments such as `text, app."a,b"[]`, without `pg_catalog.` and
/// without spaces around them.
#[must_use]
pub fn argument_types(list: &str) -> Vec<String> {
    let (mut types, mut current, mut quoted, mut depth) = (Vec::new(), String::new(), false, 0);
    for c in list.chars() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                types.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    types.push(current);
    let mut types: Vec<String> = types
        .iter()
        .map(|t| t.trim())
        .map(|t| t.strip_prefix("pg_catalog.").unwrap_or(t).to_owned())
        .collect();
    if types == [""] {
        types.clear();
    }
    types
}

/// Returns a type as [`argument_types`] returns it, written as the server prints it: `bigint` for
/// `INT8`, `character varying[]` for `varchar(5)[]`, `app.t` for `"app"."t"`.
#[must_use]
pub fn canonical_type(name: &str) -> String {
    let plain = without_modifiers(name);
    let mut element = plain.trim_end();
    let mut is_array = false;
    // The length in brackets has no meaning.
    while let Some(outer) = element.strip_suffix(']').and_then(|rest| {
        let rest = rest.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_whitespace());
        rest.strip_suffix('[')
    }) {
        (element, is_array) = (outer.trim_end(), true);
    }
    let (words, array) = (folded(element), if is_array { "[]" } else { "" });
    let words = words.strip_prefix("pg_catalog.").unwrap_or(&words);
    if let Some((_, standard)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == words) {
        return format!("{standard}{array}");
    }
    if TYPE_KEYWORDS.contains(&words) {
        return format!("{words}{array}");
    }
    // A keyword that begins no type is the name of one only in quotes, or after a schema.
    match find_unquoted(words, ".") {
        Some(dot) => format!("{}.{}{array}", quoted(&words[..dot]), quoted(&words[dot + 1..])),
        None => format!("{}{array}", quoted(words)),
    }
}

/// Returns a word in quotes where it is a keyword that cannot be an identifier without them.
fn quoted(word: &str) -> Cow<'_, str> {
    if keywords::needs_quotes(word) { Cow::Owned(format!("\"{word}\"")) } else { word.into() }
}

/// Returns the types in a list of arguments, each as [`canonical_type`] writes it.
#[must_use]
pub fn canonical_types(list: &str) -> Vec<String> {
    argument_types(list).iter().map(|one| canonical_type(one)).collect()
}

/// Returns a query without spaces around it and semicolons at its end.
#[must_use]
pub fn bare_query(text: &str) -> &str {
    text.trim_start().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// The names by which SQL knows the server's types, and those that the server prints.
const SYNONYMS: [(&str, &str); 19] = [
    ("bool", "boolean"),
    ("bpchar", "character"),
    ("char", "character"),
    ("char varying", "character varying"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("float", "double precision"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("int", "integer"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("time", "time without time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("timetz", "time with time zone"),
    ("varbit", "bit varying"),
    ("varchar", "character varying"),
];

/// The keywords that are, or begin, the name of a type of the server without being a synonym.
const TYPE_KEYWORDS: [&str; 10] = [
    "bigint",
    "bit",
    "boolean",
    "character",
    "integer",
    "interval",
    "json",
    "numeric",
    "real",
    "smallint",
];

/// Returns the words and names of a type in lower case where they are not quoted, with quotes only
/// where they are required, and with single spaces.
fn folded(name: &str) -> String {
    let (mut out, mut rest) = (String::new(), name.trim());
    while let Some(next) = rest.chars().next() {
        if next == '"'
            && let Some((quoted, after)) = unquote(rest)
        {
            out.push_str(&quote_ident(&quoted));
            rest = after;
        } else if next.is_whitespace() {
            rest = rest.trim_start();
            if !out.ends_with('.') && !rest.starts_with('.') {
                out.push(' ');
            }
        } else {
            out.push(next.to_ascii_lowercase());
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// Returns the name of a type without its modifiers: `numeric[]` for `numeric(12,2)[]`.
#[must_use]
pub fn without_modifiers(name: &str) -> String {
    let (mut quoted, mut depth) = (false, 0);
    name.chars()
        .filter(|c| {
            quoted ^= *c == '"';
            depth += i32::from(!quoted && *c == '(');
            let is_kept = depth == 0;
            depth -= i32::from(!quoted && *c == ')');
            is_kept
        })
        .collect()
}

/// Returns the byte position of `wanted` in SQL of the server, outside of quotes.
#[must_use]
pub fn find_unquoted(sql: &str, wanted: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = &sql[from..];
        let mark = rest.find(['"', '\'']).unwrap_or(rest.len());
        if let Some(at) = rest[..mark].find(wanted) {
            return Some(from + at);
        }
        let quote = rest[mark..].chars().next()?;
        from += mark + quoted_end(&rest[mark..], quote)?;
    }
}

/// Returns the types of the literals in SQL of the server: `app.positive` for
/// `'{1}'::app.positive[]`, `text` for `'a'::text`. For a type with several words, it returns the
/// first. `None` if a quote is not closed or a type name is missing.
#[must_use]
pub fn literal_types(sql: &str) -> Option<Vec<&str>> {
    let (mut types, mut rest) = (Vec::new(), sql);
    while let Some(at) = rest.find(['"', '\'']) {
        let is_literal = rest[at..].starts_with('\'');
        rest = &rest[at + quoted_end(&rest[at..], if is_literal { '\'' } else { '"' })?..];
        let Some(name) = rest.strip_prefix("::").filter(|_| is_literal) else { continue };
        let first = identifier_end(name)?;
        let end = if name[first..].starts_with('.') {
            first + 1 + identifier_end(&name[first + 1..])?
        } else {
            first
        };
        types.push(&name[..end]);
    }
    Some(types)
}

/// Returns the byte position just after the identifier that `text` begins with.
fn identifier_end(text: &str) -> Option<usize> {
    if text.starts_with('"') {
        return quoted_end(text, '"');
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    Some(text.find(|c| !is_part(c)).unwrap_or(text.len())).filter(|end| *end > 0)
}

/// The maximum number of characters of one name in a message. A search_path can have 128 kB.
const MAX_IN_MESSAGE: usize = 300;

/// Returns `text` for a message: control and direction characters are escaped, and it is truncated
/// after 300 characters.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let has_unprintable = || !is_plain_ascii(text) && text.chars().any(is_unprintable);
    if text.len() <= MAX_IN_MESSAGE && !has_unprintable() {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX_IN_MESSAGE {
            out.push_str("...");
            break;
        }
        if is_unprintable(c) {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns the call of `ops.declare()` with these statements, with a gap for the reason.
#[must_use]
pub fn call_declaring(statements: &str) -> String {
    format!("SELECT * FROM ops.declare({}, note => '...');", quote_literal(statements))
}

/// Returns the call of `ops.declare()` that declares statements and executes them.
#[must_use]
pub fn call_running(statements: &str) -> String {
    format!("SELECT * FROM ops.declare({}, note => '...', run => true);", quote_literal(statements))
}

/// Returns `names` as a list in a sentence: `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    joined(names, "and")
}

/// Returns the names of a set as a list in a sentence, as [`listed`] does.
#[must_use]
pub fn listed_set(names: &BTreeSet<String>) -> String {
    listed(&names.iter().collect::<Vec<_>>())
}

/// Returns `names` as alternatives in a sentence: `a`, `a or b`, `a, b or c`.
#[must_use]
pub fn listed_as_alternatives<S: AsRef<str>>(names: &[S]) -> String {
    joined(names, "or")
}

/// Returns `names` with commas between them, and with `conjunction` before the last.
fn joined<S: AsRef<str>>(names: &[S], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} {conjunction} {}", most.join(", "), last.as_ref())
        }
    }
}

/// Returns `text` with its first letter in upper case, if it is an ASCII letter.
#[must_use]
pub fn capitalized(text: &str) -> String {
    let mut capitalized = text.to_owned();
    if let Some(first) = capitalized.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    capitalized
}

/// Whether a character affects a terminal or the direction of text, or stands for an invalid byte.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    RAW_BYTES.contains(&c)
        || c.is_control()
        || matches!(c,
            '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_only_if_required() {
        for (name, quoted) in [
            ("judgments", "judgments"),
            ("Judgments", "\"Judgments\""),
            ("select", "\"select\""),
            ("1st", "\"1st\""),
            ("", "\"\""),
            ("a\"b", "\"a\"\"b\""),
            ("größe", "\"größe\""),
        ] {
            assert_eq!(quote_ident(name), quoted);
        }
    }

    #[test]
    fn unprintable_characters_of_names_are_escaped() {
        assert_eq!(safe_ident("a\nb\u{1b}\\\""), "U&\"a\\000Ab\\001B\\\\\"\"\"");
        assert_eq!(printable("a\nb"), "a\\u000Ab");
        // An invalid byte is shown as an escape but written unchanged in SQL.
        assert_eq!(printable("a\u{10ffe9}"), "a\\u10FFE9");
        assert_eq!(safe_ident("a\u{10ffe9}"), "\"a\u{10ffe9}\"");
        assert_eq!(safe_ident("\n\u{10ffe9}"), "U&\"\\000A\u{10ffe9}\"");
        assert!(printable(&"x".repeat(100_000)).len() < 400);
    }

    #[test]
    fn unprintable_characters_of_type_names_are_escaped() {
        assert_eq!(
            safe_sql("app.\"a\nb\",integer,\"Q\"\"x\"[]"),
            "app.U&\"a\\000Ab\",integer,\"Q\"\"x\"[]"
        );
    }

    #[test]
    fn quotes_and_backslashes_of_literals_are_escaped() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b"), "E'a\\\\b'");
    }

    #[test]
    fn types_of_literals_are_found() {
        let types = |sql| literal_types(sql).unwrap();
        assert_eq!(
            types(r#"SELECT 'a'::text, '{1}'::app.bait[], E'\\'''::"A.""b"."c.d"(3), 1"#),
            ["text", "app.bait", r#""A.""b"."c.d""#]
        );
        assert_eq!(
            types(r#""'" = ''::text AND 'it''::app.x' <> "a'::b.c" AND (a)::app.y"#),
            ["text"]
        );
        assert_eq!(
            types(r#"'{1}'::ed[], 'a'::character varying, 'b'::"My type""#),
            ["ed", "character", r#""My type""#]
        );
        assert_eq!(literal_types("'a"), None);
        assert_eq!(literal_types("'a'::app.[]"), None);
    }

    #[test]
    fn quoted_text_is_not_searched() {
        assert_eq!(find_unquoted(r#"" WHEN (" 'WHEN (' x WHEN (a)"#, "WHEN ("), Some(21));
        assert_eq!(find_unquoted(r#""WHEN"#, "WHEN"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_searched(
            text in r#"(['".:a-c]|::|é){0,20}"#,
            wanted in "[a:']{1,2}",
        ) {
            let _ = literal_types(&text);
            if let Some(at) = find_unquoted(&text, &wanted) {
                proptest::prop_assert!(text[at..].starts_with(&wanted));
            }
        }
    }

    #[test]
    fn names_are_listed_in_a_sentence() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed_as_alternatives(&["a and b", "c", "d"]), "a and b, c or d");
    }

    #[test]
    fn modifiers_of_types_are_removed() {
        for (name, plain) in [
            ("numeric(12,2)[]", "numeric[]"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("app.\"odd(1)\"(2)", "app.\"odd(1)\""),
            ("text", "text"),
        ] {
            assert_eq!(without_modifiers(name), plain);
        }
    }

    #[test]
    fn synonyms_of_a_type_have_one_canonical_name() {
        for (names, canonical) in [
            (vec!["int8", "INT8", "pg_catalog.int8", "bigint"], "bigint"),
            (vec!["varchar", "varchar(5)", "character  varying"], "character varying"),
            (vec!["int[]", "integer[][]", "int4 [3]"], "integer[]"),
            (vec!["timestamptz", "timestamp(3) with time zone"], "timestamp with time zone"),
            (vec!["app.t", "App.T", "\"app\".\"t\"", "app . t"], "app.t"),
            (vec!["app.\"T\"[]", "APP.\"T\" []"], "app.\"T\"[]"),
            (vec!["app.t2[]", "app.t2 [ 3 ][]"], "app.t2[]"),
            (vec!["app.t2"], "app.t2"),
            (vec!["\"char\"", "pg_catalog.\"char\""], "\"char\""),
            (vec!["app.int8"], "app.int8"),
            (vec!["any", "ANY", "\"any\""], "\"any\""),
            (vec!["user[]", "\"user\" []"], "\"user\"[]"),
            (vec!["app.user", "app.\"user\""], "app.\"user\""),
            (vec!["json", "JSON"], "json"),
            (vec!["interval", "interval(3)"], "interval"),
            (vec!["app.\"a.b c\""], "app.\"a.b c\""),
        ] {
            for name in names {
                assert_eq!(canonical_type(name), canonical, "{name}");
            }
        }
    }

    #[test]
    fn argument_lists_with_the_same_types_are_equal() {
        assert_eq!(argument_types(""), [""; 0]);
        assert_eq!(
            argument_types("pg_catalog.text,jsonb"),
            argument_types(" text,  pg_catalog.jsonb ")
        );
        assert_eq!(
            argument_types("app.\"a,b\"[], numeric(10,2)"),
            ["app.\"a,b\"[]", "numeric(10,2)"]
        );
        assert_eq!(
            argument_types("app.\"pg_catalog.A\", my_pg_catalog.t"),
            ["app.\"pg_catalog.A\"", "my_pg_catalog.t"]
        );
    }
}

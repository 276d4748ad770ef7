//! Removes what may be a secret from the text of a statement, so that the rest of it can be logged.
//!
//! A statement can contain a secret by its kind (`ALTER ROLE ... PASSWORD`, `CREATE USER MAPPING`),
//! or because something in it is named like one (`SET app.jwt_secret`). Its literals are replaced
//! then. Words in comments decide nothing about the statement.

use super::body::comment_end;
use super::identifiers::quoted_end;
use std::borrow::Cow;

/// Words whose presence in a name or a keyword means that literals may be secrets.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "secret",
    "token",
    "jwt",
    "api_key",
    "apikey",
    "private",
    "credential",
    "options",
    "subscription",
    "mapping",
];

/// What stands for a literal, a word or a comment that is removed.
const REMOVED: &str = "...";

/// How deeply texts within literals are read: the body of a DO block, and SQL text in it.
const MOST_DEPTH: usize = 3;

/// Returns a statement, or the beginning of one, without literals that may be secrets, and without
/// comments that mention one. Unchanged where there is nothing of the kind.
#[must_use]
pub fn without_secrets(statement: &str) -> Cow<'_, str> {
    if mentions_secret(statement) {
        Cow::Owned(cleaned(statement, 0))
    } else {
        Cow::Borrowed(statement)
    }
}

fn mentions_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'t> {
    Comment(&'t str),
    /// A keyword or a name, quoted or not.
    Word(&'t str),
    /// A literal: the text up to its content, its content, and the text after it.
    Literal(&'t str, &'t str, &'t str),
    /// A number, an operator, white space.
    Other(&'t str),
}

fn cleaned(text: &str, depth: usize) -> String {
    let parts = parts(text);
    let mut out = String::with_capacity(text.len());
    for statement in parts.split_inclusive(|part| *part == Part::Other(";")) {
        clean_statement(statement, depth, &mut out);
    }
    out
}

fn clean_statement(parts: &[Part<'_>], depth: usize, out: &mut String) {
    let is_secret_word = |part: &Part<'_>| matches!(part, Part::Word(w) if mentions_secret(w));
    let is_set =
        |part: &Part<'_>| matches!(part, Part::Word(word) if word.eq_ignore_ascii_case("set"));
    // `set_config('app.jwt_secret', '...')` and dblink name the secret in a literal.
    let names_secret_in_literal =
        |part: &Part<'_>| matches!(part, Part::Literal("'", text, _) if mentions_secret(text));
    let has_secret = parts.iter().any(is_secret_word) || parts.iter().any(names_secret_in_literal);
    let sets = parts.iter().any(is_set);
    // After `SET app.jwt_secret =` or `TO`, also a word or a number is the value. Any part of a
    // name with dots can be the one that tells.
    let (mut last_word_is_secret, mut is_value, mut follows_dot) = (false, false, false);
    // The body of a routine or a DO block.
    let is_do =
        parts.iter().find_map(|part| if let Part::Word(word) = part { Some(*word) } else { None });
    let is_do = is_do.is_some_and(|word| word.eq_ignore_ascii_case("do"));
    let mut is_body = is_do;
    for part in parts {
        match *part {
            Part::Comment(comment) if mentions_secret(comment) => {
                *out += if comment.starts_with("--") { "-- ..." } else { "/* ... */" };
            }
            Part::Comment(text) => *out += text,
            Part::Word(_) if is_value => *out += REMOVED,
            Part::Word(word) => {
                is_value = sets && last_word_is_secret && word.eq_ignore_ascii_case("to");
                last_word_is_secret = mentions_secret(word) || (last_word_is_secret && follows_dot);
                follows_dot = false;
                is_body = is_do || word.eq_ignore_ascii_case("as");
                *out += word;
            }
            Part::Literal(open, content, close) => {
                *out += open;
                *out += &match open {
                    "'" => literal(content, has_secret),
                    _ if is_body && depth < MOST_DEPTH => body(content, depth),
                    _ => literal(content, has_secret),
                };
                *out += close;
            }
            Part::Other(text) => {
                let is_number = text.starts_with(|c: char| c.is_ascii_digit());
                is_value |= sets && last_word_is_secret && text == "=";
                follows_dot |= text == ".";
                *out += if is_value && is_number { REMOVED } else { text };
            }
        }
    }
}

/// Returns the content of a literal without secrets.
fn literal(content: &str, has_secret: bool) -> String {
    if has_secret || mentions_secret(content) { REMOVED.to_owned() } else { content.to_owned() }
}

/// Returns a body, which is SQL text itself, without secrets.
fn body(content: &str, depth: usize) -> String {
    if mentions_secret(content) { cleaned(content, depth + 1) } else { content.to_owned() }
}

/// Splits a text into its parts, which together are the text.
fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut rest, mut parts) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        let (part, length) = part(rest, first);
        parts.push(part);
        rest = &rest[length..];
    }
    parts
}

/// Returns the part that `text` begins with, and its length.
fn part(text: &str, first: char) -> (Part<'_>, usize) {
    if text.starts_with("--") {
        let end = text.find(['\n', '\r']).unwrap_or(text.len());
        return (Part::Comment(&text[..end]), end);
    }
    if text.starts_with("/*") {
        let end = comment_end(text);
        return (Part::Comment(&text[..end]), end);
    }
    match first {
        '\'' => match string_end(text) {
            Some(end) => (Part::Literal("'", &text[1..end - 1], "'"), end),
            None => (Part::Literal("'", &text[1..], ""), text.len()),
        },
        '"' => {
            let end = quoted_end(text, '"').unwrap_or(text.len());
            (Part::Word(&text[..end]), end)
        }
        '$' => dollar(text),
        c if is_word_part(c) && !c.is_ascii_digit() => {
            // A dollar sign in a word does not begin a literal.
            let end = text.find(|c| !is_word_part(c) && c != '$').unwrap_or(text.len());
            (Part::Word(&text[..end]), end)
        }
        c if c.is_ascii_digit() => {
            // A point belongs to it before a digit. Otherwise a name may follow: `$1.secret`.
            let has_digit = |at: usize| text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
            let is_end = |&(at, c): &(usize, char)| !(is_word_part(c) || c == '.' && has_digit(at));
            let end = text.char_indices().find(is_end).map_or(text.len(), |(at, _)| at);
            (Part::Other(&text[..end]), end)
        }
        c => (Part::Other(&text[..c.len_utf8()]), c.len_utf8()),
    }
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii()
}

/// Returns the end of the string literal that `text` begins with; `None` where it is not closed.
/// Whether a backslash escapes the quote after it depends on the literal and on a setting; such a
/// literal extends to the end of the text, so that no part of a secret is taken for something else.
fn string_end(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(['\'', '\\'])?;
        match (&text[at..=at], text.as_bytes().get(at + 1)) {
            ("'", Some(b'\'')) => at += 2,
            ("'", _) => return Some(at + 1),
            (_, Some(b'\'' | b'\\')) => return None,
            _ => at += 1,
        }
    }
}

/// Returns the literal in dollar quotes that `text` begins with, or the dollar sign.
fn dollar(text: &str) -> (Part<'_>, usize) {
    let other = (Part::Other(&text[..1]), 1);
    let Some(end) = text[1..].find('$') else { return other };
    let tag = &text[1..=end];
    let is_tag = tag.chars().all(is_word_part) && !tag.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return other;
    }
    let quote = &text[..end + 2];
    let content = &text[quote.len()..];
    match content.find(quote) {
        Some(at) => {
            let close = &content[at..at + quote.len()];
            (Part::Literal(quote, &content[..at], close), at + 2 * quote.len())
        }
        None => (Part::Literal(quote, content, ""), text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_without_secret_is_unchanged() {
        for text in [
            "GRANT SELECT ON app.t TO anon",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 'x' $$",
            "SELECT 'it''s', E'\\'', U&'\\0061', $1 -- note",
            "",
            "'",
            "$a$",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn literal_of_a_statement_about_a_secret_is_removed() {
        for (text, expected) in [
            ("ALTER ROLE a PASSWORD 'hunter2'", "ALTER ROLE a PASSWORD '...'"),
            (
                "alter role a encrypted password E'a\\'b' valid until 'x'",
                "alter role a encrypted password E'...",
            ),
            ("CREATE ROLE a PASSWORD $p$hunter2$p$", "CREATE ROLE a PASSWORD $p$...$p$"),
            (
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'p')",
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user '...', password '...')",
            ),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=h password=p' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION '...' PUBLICATION p",
            ),
            (
                "SELECT set_config('app.jwt_secret', 'abc', false)",
                "SELECT set_config('...', '...', false)",
            ),
            ("SET app.jwt_secret = abc", "SET app.jwt_secret = ..."),
            ("SET jwt . key = abc", "SET jwt . key = ..."),
            (
                "SELECT set_config('app.jwt', a$b$ || 'c', $b$hunter2$b$)",
                "SELECT set_config('...', a$b$ || '...', $b$...$b$)",
            ),
            (
                "ALTER DATABASE d SET \"app.jwt_secret\" TO 12345; SELECT 1",
                "ALTER DATABASE d SET \"app.jwt_secret\" TO ...; SELECT 1",
            ),
            ("SELECT vault.create_secret('abc')", "SELECT vault.create_secret('...')"),
            ("SELECT dblink('password=p', 'SELECT 1')", "SELECT dblink('...', '...')"),
            (
                "SELECT set_config('app.jwt_secret', $$two words$$, false)",
                "SELECT set_config('...', $$...$$, false)",
            ),
            ("ALTER ROLE a PASSWORD 'hunter", "ALTER ROLE a PASSWORD '..."),
        ] {
            assert_eq!(without_secrets(text), expected, "{text}");
        }
    }

    #[test]
    fn word_in_a_comment_or_in_another_statement_removes_nothing_else() {
        for (text, expected) in [
            ("/* token */ GRANT SELECT ON t TO anon", "/* ... */ GRANT SELECT ON t TO anon"),
            ("SELECT 'x' -- password hunter2\n, 'y'", "SELECT 'x' -- ...\n, 'y'"),
            (
                "SELECT 'a'; ALTER ROLE a PASSWORD 'b'; SELECT 'c'",
                "SELECT 'a'; ALTER ROLE a PASSWORD '...'; SELECT 'c'",
            ),
            ("GRANT SELECT ON app.tokens TO anon", "GRANT SELECT ON app.tokens TO anon"),
            ("GRANT password_reader TO anon", "GRANT password_reader TO anon"),
        ] {
            assert_eq!(without_secrets(text), expected, "{text}");
        }
    }

    #[test]
    fn body_is_kept_without_the_literals_of_its_statements_about_secrets() {
        let text = "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''p'''; PERFORM 'x'; END $$";
        let expected = "DO $$ BEGIN EXECUTE '...'; PERFORM 'x'; END $$";
        assert_eq!(without_secrets(text), expected);
    }

    proptest::proptest! {
        #[test]
        fn secret_in_a_literal_is_in_no_result(
            before in "[a-z '$;/*\\\\\"-]{0,12}",
            secret in "[A-Z0-9]{12}",
        ) {
            // Whatever comes before: in it, a literal or a comment may begin.
            let text = format!("{before} ALTER ROLE a PASSWORD '{secret}'");
            let is_open = !parts(&before).iter().all(|part| match part {
                Part::Literal(open, _, close) => open == close,
                Part::Comment(comment) => comment.starts_with("/*") && comment.ends_with("*/")
                    && comment.len() > 3,
                Part::Word(word) => !word.starts_with('"') || quoted_end(word, '"').is_some(),
                Part::Other(_) => true,
            });
            if !is_open {
                proptest::prop_assert!(!without_secrets(&text).contains(&secret), "{}", text);
            }
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,40}") {
            let whole: String = parts(&text).iter().map(|part| match part {
                Part::Comment(text) | Part::Word(text) | Part::Other(text) => (*text).to_owned(),
                Part::Literal(open, content, close) => [*open, content, close].concat(),
            }).collect();
            proptest::prop_assert_eq!(whole, text.as_str());
            let _ = without_secrets(&text);
        }
    }
}

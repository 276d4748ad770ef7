//! Secrets in statements: no literal of a statement about a secret is in the result, and everything
//! else is unchanged.

use super::input::text;
use dragonfly_core::sql::secrets::without_secrets;

/// The words that make a statement one about a secret.
const WORDS: [&str; 5] = ["password", "secret", "token", "jwt", "credential"];

/// How deeply SQL text within bodies is read.
const DEEPEST: usize = 3;

/// The shortest literal of which it can be said whether it is in a result, in bytes.
const SHORTEST: usize = 6;

/// Checks the properties: the input is a statement.
pub fn check(input: &[u8]) {
    let statement = text(input);
    let cleaned = without_secrets(&statement);
    assert_eq!(without_secrets(&cleaned), cleaned, "{statement}");
    if !mentions_secret(&statement) && cleaned == statement {
        return;
    }
    // Whether a backslash is an escape depends on the literal and on a setting.
    let Some(parts) = parts(&statement) else { return };
    if statement.contains('\\') {
        return;
    }
    assert_secrets_are_removed(&statement, &parts, &cleaned, 0);
    assert_rest_is_unchanged(&parts, &cleaned);
}

/// A part of a statement, as the server's scanner finds it (scan.l).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'t> {
    Comment(&'t str),
    Word(&'t str),
    /// The content of a literal in single quotes.
    Quoted(&'t str),
    /// The content of a literal in dollar quotes.
    InDollars(&'t str),
    Other(&'t str),
}

fn mentions_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// No literal of a statement about a secret is in the result, unless it is in the statement outside
/// of literals too.
fn assert_secrets_are_removed(whole: &str, parts: &[Part<'_>], cleaned: &str, depth: usize) {
    for statement in parts.split(|part| *part == Part::Other(";")) {
        let is_secret = statement.iter().any(|part| match part {
            Part::Word(text) | Part::Quoted(text) => mentions_secret(text),
            _ => false,
        });
        let starts_with_do = matches!(
            statement.iter().find(|part| matches!(part, Part::Word(_))),
            Some(Part::Word(word)) if word.eq_ignore_ascii_case("do")
        );
        let mut is_body = starts_with_do;
        for part in statement {
            let (content, is_body) = match part {
                Part::Word(word) => {
                    is_body = starts_with_do || word.eq_ignore_ascii_case("as");
                    continue;
                }
                Part::Quoted(content) => (*content, false),
                Part::InDollars(content) => (*content, is_body),
                _ => continue,
            };
            if is_body && depth < DEEPEST {
                if let Some(inner) = self::parts(content) {
                    assert_secrets_are_removed(whole, &inner, cleaned, depth + 1);
                }
                continue;
            }
            let is_elsewhere = whole.matches(content).count() != 1;
            if content.len() >= SHORTEST && !is_elsewhere && (is_secret || mentions_secret(content))
            {
                assert!(!cleaned.contains(content), "{content} of {whole} is in {cleaned}");
            }
        }
    }
}

/// Words, operators and white space are the same in the result; only after SET, a value that is not
/// a literal may be removed.
fn assert_rest_is_unchanged(parts: &[Part<'_>], cleaned: &str) {
    let is_set = |part: &Part<'_>| matches!(part, Part::Word(w) if w.eq_ignore_ascii_case("set"));
    let has_open_end = |text: &str| text.contains(['\'', '"', '$', '*']);
    let last = parts.last().map(|part| match part {
        Part::Comment(text) | Part::Word(text) | Part::Other(text) => *text,
        Part::Quoted(_) | Part::InDollars(_) => "'",
    });
    if parts.iter().any(is_set) || last.is_some_and(has_open_end) {
        return;
    }
    let after = self::parts(cleaned).expect("the result has the parts of the statement");
    let outside = |parts: &[Part<'_>]| {
        let text = parts.iter().map(|part| match part {
            Part::Word(text) | Part::Other(text) => *text,
            Part::Comment(_) => "/**/",
            Part::Quoted(_) => "''",
            Part::InDollars(_) => "$$",
        });
        text.collect::<String>()
    };
    assert_eq!(outside(&after), outside(parts), "{cleaned}");
}

/// Splits a text as the server does, with `standard_conforming_strings`; `None` where the server
/// rejects it: a number or parameter with letters after it, or a quote that is not closed.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let bytes = text.as_bytes();
    let is_start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b >= 0x80;
    let is_part = |b: u8| is_start(b) || b.is_ascii_digit() || b == b'$';
    let until = |mut at: usize, is_in: &dyn Fn(u8) -> bool| {
        while at < bytes.len() && is_in(bytes[at]) {
            at += 1;
        }
        at
    };
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'-' if bytes[at..].starts_with(b"--") => {
                at = until(at, &|b| b != b'\n' && b != b'\r');
                parts.push(Part::Comment(&text[start..at]));
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                let mut depth = 1;
                at += 2;
                while depth > 0 {
                    match bytes.get(at..at + 2)? {
                        b"/*" => (depth, at) = (depth + 1, at + 2),
                        b"*/" => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                }
                parts.push(Part::Comment(&text[start..at]));
            }
            quote @ (b'\'' | b'"') => {
                loop {
                    at = until(at + 1, &|b| b != quote) + 1;
                    if at > bytes.len() {
                        return None;
                    }
                    if bytes.get(at) != Some(&quote) {
                        break;
                    }
                }
                parts.push(match quote {
                    b'\'' => Part::Quoted(&text[start + 1..at - 1]),
                    _ => Part::Word(&text[start..at]),
                });
            }
            b'$' => {
                let tag = until(at + 1, &|b| is_part(b) && b != b'$');
                let starts_with_digit = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                if bytes.get(tag) == Some(&b'$') && !starts_with_digit {
                    let quote = &text[at..=tag];
                    let content = &text[tag + 1..];
                    let end = content.find(quote)?;
                    parts.push(Part::InDollars(&content[..end]));
                    at = tag + 1 + end + quote.len();
                } else {
                    at = until(at + 1, &|b| b.is_ascii_digit());
                    if starts_with_digit && bytes.get(at).is_some_and(|b| is_start(*b)) {
                        return None;
                    }
                    parts.push(Part::Other(&text[start..at]));
                }
            }
            b if b.is_ascii_digit() => {
                at = until(at, &|b| b.is_ascii_digit() || b == b'.');
                if bytes.get(at).is_some_and(|b| is_part(*b)) {
                    return None;
                }
                parts.push(Part::Other(&text[start..at]));
            }
            b if is_start(b) => {
                at = until(at, &is_part);
                parts.push(Part::Word(&text[start..at]));
            }
            _ => {
                at += 1;
                parts.push(Part::Other(&text[start..at]));
            }
        }
    }
    Some(parts)
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let _ = without_secrets(text);
    let _ = without_secrets(&format!("ALTER ROLE a PASSWORD {text}"));
    let _ = without_secrets(&format!("DO $x$ password {text} $x$"));
    let _ = without_secrets(&format!("SET a.secret = {text}"));
}

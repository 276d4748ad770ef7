//! Reads the names that users write: `public.v_x`, `schema api`, `api.f(uuid)`,
//! `public.t(email, phone)`.

use crate::sql::identifiers::unquote;
use crate::sql::{argument_types, without_modifiers};

/// The kind of object that a user writes before the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Noun {
    Schema,
    Relation,
    Routine,
}

/// A name that has been parsed but not looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The word before the name.
    pub noun: Option<Noun>,
    /// Its parts, as the catalogs store them.
    pub parts: Vec<String>,
    /// The list in parentheses after it: arguments or columns.
    pub list: Option<String>,
}

impl Named {
    /// Returns the list as names of columns; `None` where it is not such a list.
    #[must_use]
    pub fn columns(&self) -> Option<Vec<String>> {
        let list = self.list.as_deref().unwrap_or_default();
        argument_types(list)
            .iter()
            .map(|item| identifiers(item).filter(|parts| parts.len() == 1).map(|mut p| p.remove(0)))
            .collect()
    }
}

/// Returns the possible types of an argument of a routine, in the order in which to look them up.
/// The argument may be `uuid`, `job_id uuid` or `INOUT "my arg" numeric(12,2) DEFAULT 5`. `None`
/// for an OUT argument, which is not part of the signature.
#[must_use]
pub fn types_of_argument(text: &str) -> Option<Vec<String>> {
    let plain =
        without_modifiers(&text[..crate::sql::find_unquoted(text, "=").unwrap_or(text.len())]);
    let mut words = words(&plain);
    let ends = |word: &str| word.eq_ignore_ascii_case("DEFAULT");
    words.truncate(words.iter().position(|word| ends(word)).unwrap_or(words.len()));
    let is =
        |word: Option<&&str>, mode: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(mode));
    // The mode is before the name or after it.
    for place in [0, 1] {
        let word = words.get(place).filter(|_| words.len() > place + 1);
        if is(word, "OUT") {
            return None;
        }
        if ["IN", "INOUT", "VARIADIC"].iter().any(|mode| is(word, mode)) {
            words.remove(place);
            break;
        }
    }
    Some((0..words.len().min(2)).map(|from| words[from..].join(" ")).collect())
}

/// Splits the list of arguments of a routine, as psql and `pg_get_function_identity_arguments()`
/// print it, at the commas between them: `a integer DEFAULT 1, b text`, or
/// `double precision ORDER BY anyelement` of an aggregate. `*` is the list without arguments.
#[must_use]
pub fn arguments(list: &str) -> Vec<String> {
    let (mut found, mut current) = (Vec::new(), String::new());
    let (mut quote, mut depth) = (None, 0);
    for c in list.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('(' | '[', None) => depth += 1,
            (')' | ']', None) => depth -= 1,
            (',', None) if depth == 0 => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found.push(current);
    let is_none = |only: &str| only.trim().is_empty() || only.trim() == "*";
    if matches!(found.as_slice(), [only] if is_none(only)) {
        return vec![];
    }
    found.iter().flat_map(|argument| around_order_by(argument)).collect()
}

/// Splits the last direct argument of an ordered-set aggregate from the first that is aggregated.
fn around_order_by(argument: &str) -> Vec<String> {
    let words = words(argument);
    let is = |at: usize, word: &str| words[at].eq_ignore_ascii_case(word);
    let place = (1..words.len()).find(|at| is(at - 1, "ORDER") && is(*at, "BY"));
    let Some(place) = place else { return vec![argument.to_owned()] };
    [&words[..place - 1], &words[place + 1..]]
        .iter()
        .filter(|words| !words.is_empty())
        .map(|words| words.join(" "))
        .collect()
}

/// Returns the name of a type without its schema, and whether brackets make it an array; `None`
/// where the text is not such a name.
#[must_use]
pub fn bare_type(text: &str) -> Option<(String, bool)> {
    let plain = without_modifiers(text);
    let name =
        plain.trim_end_matches(['[', ']', ' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    let is_array = plain[name.len()..].contains('[');
    let name = if is_array { name } else { plain.trim_end() };
    Some((identifiers(name)?.pop()?, is_array))
}

/// Splits a text at whitespace that is not within quotes.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start, mut quoted) = (Vec::new(), None, false);
    for (at, c) in text.char_indices() {
        quoted ^= c == '"';
        match (c.is_whitespace() && !quoted, start) {
            (true, Some(from)) => {
                words.push(&text[from..at]);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| &text[from..]));
    words
}

const NOUNS: [(&str, Noun); 11] = [
    ("schema", Noun::Schema),
    ("table", Noun::Relation),
    ("foreign table", Noun::Relation),
    ("view", Noun::Relation),
    ("materialized view", Noun::Relation),
    ("sequence", Noun::Relation),
    ("column", Noun::Relation),
    ("function", Noun::Routine),
    ("procedure", Noun::Routine),
    ("aggregate", Noun::Routine),
    ("routine", Noun::Routine),
];

/// Parses a name; `None` where the text is not a valid one.
#[must_use]
pub fn parse(text: &str) -> Option<Named> {
    let text = text.trim();
    let noun = NOUNS.iter().rev().find_map(|(word, noun)| {
        let start = text.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word))?;
        let rest = &text[start.len()..];
        rest.starts_with(char::is_whitespace).then(|| (*noun, rest.trim_start()))
    });
    let (noun, rest) = noun.map_or((None, text), |(noun, rest)| (Some(noun), rest));
    let (name, list) = match parenthesis(rest) {
        Some(at) => (&rest[..at], Some(rest[at + 1..].trim_end().strip_suffix(')')?.to_owned())),
        None => (rest, None),
    };
    Some(Named { noun, parts: identifiers(name)?, list })
}

/// The place of the first parenthesis that is not within a quoted name, in bytes.
fn parenthesis(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices()
        .find(|(_, c)| {
            quoted ^= *c == '"';
            !quoted && *c == '('
        })
        .map(|(at, _)| at)
}

/// Splits identifiers at the dots between them. Those without quotes are folded as the server folds
/// them.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    loop {
        let mut part;
        let is_escaped = rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("U&\""));
        let quoted = if is_escaped { &rest[2..] } else { rest };
        if quoted.starts_with('"') {
            (part, rest) = unquote(quoted)?;
            rest = rest.trim_start();
            if is_escaped {
                part = unescaped(&part)?;
            }
        } else {
            let end = rest
                .find(|c: char| c == '.' || c == '"' || c.is_whitespace() || c == '(' || c == ')')
                .unwrap_or(rest.len());
            part = rest[..end].to_ascii_lowercase();
            rest = rest[end..].trim_start();
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None => return rest.is_empty().then_some(parts),
        }
    }
}

/// Replaces the escapes of a `U&"..."` identifier: `\000A`, `\+01F600`, `\\`.
fn unescaped(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (start, length) = match escape.chars().next()? {
            '\\' => {
                out.push('\\');
                rest = &escape[1..];
                continue;
            }
            '+' => (1, 6),
            _ => (0, 4),
        };
        let digits = escape.get(start..start + length)?;
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = &escape[start + length..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<Noun>, String, Option<String>)> {
        parse(text).map(|n| (n.noun, n.parts.join("|"), n.list))
    }

    #[test]
    fn parse_accepts_names_with_quotes_kinds_and_lists() {
        assert_eq!(read("public.v_x"), Some((None, "public|v_x".into(), None)));
        assert_eq!(read(" Public.\"V x\" "), Some((None, "public|V x".into(), None)));
        assert_eq!(read("schema api"), Some((Some(Noun::Schema), "api".into(), None)));
        assert_eq!(read("schema"), Some((None, "schema".into(), None)));
        assert_eq!(read("materialized view a.b"), Some((Some(Noun::Relation), "a|b".into(), None)));
        assert_eq!(
            read("api.f( uuid, text )"),
            Some((None, "api|f".into(), Some(" uuid, text ".into())))
        );
        assert_eq!(read("a.\"b(\"\"\".c"), Some((None, "a|b(\"|c".into(), None)));
        assert_eq!(
            parse("public.t(id, \"E mail\")").unwrap().columns(),
            Some(vec!["id".into(), "E mail".into()])
        );
        assert_eq!(
            read("public.U&\"a\\000A\\+01F600\\\\\"\"b\""),
            Some((None, "public|a\n\u{1f600}\\\"b".into(), None))
        );
        for invalid in [
            "",
            "U&\"\\00\"",
            "U&\"\\D800\"",
            ".",
            "a.",
            "a..b",
            "a b",
            "\"a",
            "a.f(",
            "f)",
            "a.\"\"",
            "a;b c",
        ] {
            assert_eq!(read(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn types_of_argument_ignores_modes_names_and_defaults() {
        let types = |text: &str| types_of_argument(text).map(|types| types.join(" | "));
        for (text, found) in [
            ("uuid", "uuid"),
            ("job_id uuid", "job_id uuid | uuid"),
            ("job_id\tuuid", "job_id uuid | uuid"),
            ("VARIADIC a integer[]", "a integer[] | integer[]"),
            ("INOUT \"my arg\" numeric(12,2) DEFAULT 5", "\"my arg\" numeric | numeric"),
            ("in int = 5", "int"),
            ("a INOUT int=5", "a int | int"),
            (
                "at timestamp with time zone",
                "at timestamp with time zone | timestamp with time zone",
            ),
        ] {
            assert_eq!(types(text).as_deref(), Some(found), "{text}");
        }
        assert_eq!(types("OUT b int"), None);
    }

    #[test]
    fn arguments_are_split_outside_of_quotes_and_parentheses() {
        let split =
            |list: &str| arguments(list).iter().map(|a| a.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(split("bigint,text"), ["bigint", "text"]);
        assert_eq!(
            split("a numeric(12,2) DEFAULT 'x, (y'::text, \"b, c\" int[] DEFAULT ARRAY[1, 2]"),
            ["a numeric(12,2) DEFAULT 'x, (y'::text", "\"b, c\" int[] DEFAULT ARRAY[1, 2]"]
        );
        assert_eq!(
            split("double precision ORDER BY anyelement"),
            ["double precision", "anyelement"]
        );
        assert_eq!((split("*").len(), split(" ").len()), (0, 0));
    }

    #[test]
    fn bare_type_drops_schema_modifiers_and_brackets() {
        let bare = |text: &str| bare_type(text);
        assert_eq!(bare("ext.citext"), Some(("citext".into(), false)));
        assert_eq!(bare("\"Kind (1)\"[]"), Some(("Kind (1)".into(), true)));
        assert_eq!(bare("geometry(Point,4326) [3]"), Some(("geometry".into(), true)));
        assert_eq!(bare("point2"), Some(("point2".into(), false)));
        assert_eq!(bare("a b"), None);
    }

    proptest::proptest! {
        #[test]
        fn parse_does_not_panic_on_any_text(text in "\\PC*") {
            let _ = parse(&text).map(|n| n.columns());
        }

        #[test]
        fn parse_reverses_quote_ident(name in "\\PC{1,20}") {
            let quoted = crate::sql::quote_ident(&name).into_owned();
            let parts = parse(&format!("public.{quoted}")).unwrap().parts;
            proptest::prop_assert_eq!(parts, vec!["public".to_owned(), name]);
        }
    }
}

//! What a person types to name something: `public.v_x`, `schema api`, `api.f(uuid)`, `public.t(email, phone)`.

use crate::sql::argument_types;

/// The kind of thing, where a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Noun {
    Schema,
    Relation,
    Routine,
}

/// A name that has been read, and not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Before the name.
    pub noun: Option<Noun>,
    /// Its parts, as the catalogs hold them.
    pub parts: Vec<String>,
    /// What stands in parentheses after it: arguments, or columns.
    pub list: Option<String>,
}

impl Named {
    /// The list as names of columns; `None` where it is no such list.
    #[must_use]
    pub fn columns(&self) -> Option<Vec<String>> {
        let list = self.list.as_deref().unwrap_or_default();
        argument_types(list)
            .iter()
            .map(|item| identifiers(item).filter(|parts| parts.len() == 1).map(|mut p| p.remove(0)))
            .collect()
    }
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

/// Reads a name; `None` where it is none.
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

/// Where the first parenthesis is that is in no quoted name.
fn parenthesis(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices()
        .find(|(_, c)| {
            quoted ^= *c == '"';
            !quoted && *c == '('
        })
        .map(|(at, _)| at)
}

/// Identifiers with dots between them, folded as the server folds them where they are not quoted.
fn identifiers(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    loop {
        let mut part = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.char_indices().peekable();
            let mut end = None;
            while let Some((at, c)) = chars.next() {
                match (c, chars.peek()) {
                    ('"', Some((_, '"'))) => {
                        part.push('"');
                        chars.next();
                    }
                    ('"', _) => {
                        end = Some(at + 1);
                        break;
                    }
                    _ => part.push(c),
                }
            }
            rest = quoted[end?..].trim_start();
        } else {
            let end =
                rest.find(|c: char| c == '.' || c == '"' || c.is_whitespace() || c == '(' || c == ')').unwrap_or(rest.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<Noun>, String, Option<String>)> {
        parse(text).map(|n| (n.noun, n.parts.join("|"), n.list))
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        assert_eq!(read("public.v_x"), Some((None, "public|v_x".into(), None)));
        assert_eq!(read(" Public.\"V x\" "), Some((None, "public|V x".into(), None)));
        assert_eq!(read("schema api"), Some((Some(Noun::Schema), "api".into(), None)));
        assert_eq!(read("schema"), Some((None, "schema".into(), None)));
        assert_eq!(read("materialized view a.b"), Some((Some(Noun::Relation), "a|b".into(), None)));
        assert_eq!(read("api.f( uuid, text )"), Some((None, "api|f".into(), Some(" uuid, text ".into()))));
        assert_eq!(read("a.\"b(\"\"\".c"), Some((None, "a|b(\"|c".into(), None)));
        assert_eq!(parse("public.t(id, \"E mail\")").unwrap().columns(), Some(vec!["id".into(), "E mail".into()]));
        for nonsense in ["", ".", "a.", "a..b", "a b", "\"a", "a.f(", "f)", "a.\"\"", "a;b c"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "\\PC*") {
            let _ = parse(&text).map(|n| n.columns());
        }

        #[test]
        fn what_is_quoted_comes_back(name in "\\PC{1,20}") {
            let quoted = crate::sql::quote_ident(&name).into_owned();
            proptest::prop_assert_eq!(parse(&format!("public.{quoted}")).unwrap().parts, vec!["public".to_owned(), name]);
        }
    }
}

//! Finds names and arguments that are written as in SQL, and probably mean something else here.
//!
//! A table can be called `app.plans`, so that this is a warning. No type contains parentheses or a
//! space outside of quotes, so that these are errors.

use super::problem::{Path, Problems};
use super::types::{Contract, Severity};
use crate::sql::identifiers::unquote;
use crate::sql::{argument_types, canonical_type, find_unquoted, printable};
use serde_json::Value;
use std::collections::HashSet;

impl Contract {
    /// Reports names with a schema or arguments in them, and arguments that are no types.
    pub(super) fn mistakes(&self, problems: &mut Problems<'_>) {
        let schemas = self.schemas.iter().map(|s| s.name.as_str()).collect();
        let mut search = Search { schemas, problems };
        let list = Path::Root.field("tables");
        for (i, table) in self.tables.iter().enumerate() {
            search.qualified_name(&list.item(i), &table.schema, &table.name);
        }
        let list = Path::Root.field("views");
        for (i, view) in self.views.iter().enumerate() {
            search.qualified_name(&list.item(i), &view.schema, &view.name);
        }
        let list = Path::Root.field("sequences");
        for (i, sequence) in self.sequences.iter().enumerate() {
            search.qualified_name(&list.item(i), &sequence.schema, &sequence.name);
        }
        let list = Path::Root.field("functions");
        for (i, function) in self.functions.iter().enumerate() {
            let at = list.item(i);
            if !search.name_with_arguments(&at, &function.name) {
                search.qualified_name(&at, &function.schema, &function.name);
            }
            if let Some(arguments) = &function.arguments {
                search.arguments(&at.field("arguments"), arguments);
            }
        }
    }
}

/// Returns the hint for a declaration without a schema whose name has one: `app.plans`.
pub(super) fn missing_schema(name: &str) -> Option<String> {
    split_name(name).map(|(schema, name)| hint_for_name(&schema, &name))
}

fn hint_for_name(schema: &str, name: &str) -> String {
    format!("write \"schema\": {}, \"name\": {}", json(schema), json(name))
}

/// Returns a text as JSON in a message.
fn json(text: &str) -> String {
    printable(&Value::from(text).to_string()).into_owned()
}

struct Search<'c, 'p, 'i> {
    schemas: HashSet<&'c str>,
    problems: &'p mut Problems<'i>,
}

impl Search<'_, '_, '_> {
    fn qualified_name(&mut self, at: &Path<'_>, schema: &str, name: &str) {
        let Some((qualifier, plain)) = split_name(name) else { return };
        // Without a schema, another error says the same.
        if schema.is_empty() {
            return;
        }
        if qualifier == schema || self.schemas.contains(qualifier.as_str()) {
            self.problems.add(
                Severity::Warning,
                &at.field("name"),
                "the name contains the schema".into(),
                Some("a name without the schema".into()),
                Some(hint_for_name(&qualifier, &plain)),
            );
        }
    }

    /// Reports a name such as `f(bigint)`. Returns whether it is one.
    fn name_with_arguments(&mut self, at: &Path<'_>, name: &str) -> bool {
        let Some((plain, arguments)) =
            name.trim().strip_suffix(')').and_then(|name| name.split_once('('))
        else {
            return false;
        };
        let plain = split_name(plain).map_or_else(|| plain.to_owned(), |(_, plain)| plain);
        self.problems.add(
            Severity::Warning,
            &at.field("name"),
            "the name contains the arguments".into(),
            Some("a name without arguments".into()),
            Some(format!(
                "write \"name\": {}, \"arguments\": {}",
                json(&plain),
                json(&Arguments::of(arguments).types)
            )),
        );
        true
    }

    fn arguments(&mut self, at: &Path<'_>, declared: &str) {
        let trimmed = declared.trim();
        let inner = trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let Arguments { types, has_names, has_others } = Arguments::of(inner.unwrap_or(trimmed));
        let allowed = "the input argument types, with commas between them".to_owned();
        if has_others {
            self.problems.error(at, "an argument is not the name of a type", allowed);
            return;
        }
        let (severity, problem) = if inner.is_some() {
            (Severity::Error, "the arguments are in parentheses")
        } else if has_names {
            (Severity::Error, "an argument is more than a type")
        } else if types != argument_types(declared).join(", ") {
            (Severity::Info, "the server prints these types in another way")
        } else {
            return;
        };
        let hint = format!("write {}", json(&types));
        self.problems.add(severity, at, problem.into(), Some(allowed), Some(hint));
    }
}

/// Splits `app.plans` or `"App".plans` into the schema and the name; `None` if it has no dot.
fn split_name(name: &str) -> Option<(String, String)> {
    let (schema, rest) = part(name)?;
    let rest = rest.strip_prefix('.').filter(|rest| !rest.is_empty())?;
    let name = part(rest).filter(|(_, rest)| rest.is_empty()).map_or(rest.to_owned(), |(n, _)| n);
    (!schema.is_empty()).then_some((schema, name))
}

/// Returns the first part of a name, and the text after it.
fn part(name: &str) -> Option<(String, &str)> {
    if name.starts_with('"') {
        return unquote(name);
    }
    let end = name.find('.').unwrap_or(name.len());
    Some((name[..end].to_owned(), &name[end..]))
}

/// The arguments of a function as they were probably meant.
struct Arguments {
    /// The types, as the server prints them.
    types: String,
    /// Whether there were names, modes or defaults.
    has_names: bool,
    /// Whether there was anything that is no argument.
    has_others: bool,
}

impl Arguments {
    fn of(list: &str) -> Self {
        let (mut types, mut has_names, mut has_others) = (Vec::new(), false, false);
        for argument in argument_types(list) {
            if is_type(&argument) {
                types.push(canonical_type(&argument));
            } else if let Some(meant) = without_name(&argument) {
                has_names = true;
                types.extend(meant);
            } else {
                has_others = true;
            }
        }
        Self { types: types.join(", "), has_names, has_others }
    }
}

/// Returns the type in an argument such as `id bigint DEFAULT 0`, in a list that is empty for an
/// OUT argument; `None` if it has none.
fn without_name(argument: &str) -> Option<Vec<String>> {
    let lower = argument.to_ascii_lowercase();
    let default = find_unquoted(&lower, " default ").or_else(|| find_unquoted(&lower, "="));
    let mut rest = argument[..default.unwrap_or(argument.len())].trim();
    if lower.starts_with("out ") {
        return Some(vec![]);
    }
    // At most a mode and a name.
    for _ in 0..3 {
        if is_type(rest) {
            return Some(vec![canonical_type(rest)]);
        }
        rest = rest[find_unquoted(rest, " ")?..].trim_start();
    }
    None
}

/// Whether a text is the name of a type, with or without modifiers and brackets.
fn is_type(text: &str) -> bool {
    /// The server's types with several words.
    const WORDS: [&str; 7] = [
        "bit varying",
        "character varying",
        "double precision",
        "time with time zone",
        "time without time zone",
        "timestamp with time zone",
        "timestamp without time zone",
    ];
    let brackets = find_unquoted(text, "[").unwrap_or(text.len());
    let element = canonical_type(&text[..brackets]);
    has_plain_modifiers(text)
        && are_plain_brackets(&text[brackets..])
        && (WORDS.contains(&element.as_str()) || is_qualified_name(&element))
}

/// Whether quotes and parentheses are closed, and parentheses contain numbers and words only.
fn has_plain_modifiers(text: &str) -> bool {
    let (mut is_quoted, mut is_inside) = (false, false);
    for c in text.chars() {
        match c {
            '"' if !is_inside => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' if !is_inside => is_inside = true,
            ')' if is_inside => is_inside = false,
            '(' | ')' => return false,
            _ if is_inside && !(c.is_alphanumeric() || ", _-".contains(c)) => return false,
            _ => {}
        }
    }
    !is_quoted && !is_inside
}

/// Whether a text consists of brackets in pairs, with numbers in them.
fn are_plain_brackets(text: &str) -> bool {
    let mut rest = text.trim_end();
    while let Some(inner) = rest.strip_prefix('[') {
        let Some((size, after)) = inner.split_once(']') else { return false };
        if !size.trim().bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        rest = after.trim_start();
    }
    rest.is_empty()
}

/// Whether a text is a name, or a schema and a name, each quoted or a word.
fn is_qualified_name(text: &str) -> bool {
    let mut rest = text;
    for _ in 0..2 {
        let after = if rest.starts_with('"') {
            unquote(rest).filter(|(name, _)| !name.is_empty()).map(|(_, after)| after)
        } else {
            let is_part = |c: char| c.is_alphanumeric() || !c.is_ascii() || "_$".contains(c);
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let is_word = rest.starts_with(|c: char| !c.is_ascii_digit() && c != '$') && end > 0;
            is_word.then(|| &rest[end..])
        };
        let Some(after) = after else { return false };
        if after.is_empty() {
            return true;
        }
        let Some(next) = after.strip_prefix('.') else { return false };
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::examine::examine;
    use super::super::shipped::DEFAULT;
    use super::*;

    /// Returns the problems that `entry` adds to a list of the shipped contract.
    fn found(list: &str, entry: Value) -> Vec<String> {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        let before = examine(&document.to_string()).problems.len();
        document[list] = vec![entry].into();
        let all = examine(&document.to_string()).problems;
        assert!(all.len() <= before + 2);
        let path = format!("$.{list}[0].");
        all.iter()
            .filter(|p| p.path.starts_with(&path) && p.hint.is_some())
            .map(|p| format!("{} {p}", p.severity.as_str()))
            .collect()
    }

    #[test]
    fn arguments_that_are_no_list_of_types_are_an_error() {
        let errors = |arguments: &str| -> Vec<String> {
            let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
            document["functions"] = serde_json::json!([
                {"schema": "public", "name": "f", "arguments": arguments}
            ]);
            let all = examine(&document.to_string()).problems.into_iter();
            let errors = all.filter(|problem| problem.severity == Severity::Error);
            errors.map(|problem| problem.problem).collect()
        };
        for types in [
            "",
            "text",
            "int, numeric(10,2)[]",
            "app.\"a;b,c\"[]",
            "\"char\", timestamp(3) with time zone, bit varying(5)",
            "geometry(Point,4326), integer[3][3], ünits, _text",
        ] {
            assert_eq!(errors(types), [""; 0], "{types}");
        }
        for others in [
            "a; drop",
            "int); ALTER ROLE anon SUPERUSER; --",
            "int(1; drop)",
            "text, \"open",
            "numeric(10",
            "numeric 10)",
            "int[",
            "int]",
            "int[] drop",
            "int 4[]",
            "int,",
            ",",
            "'text'",
            "a.b.c",
            "\"\"",
            "text -- x",
            "text /* x */",
            "4",
        ] {
            assert_eq!(errors(others).len(), 1, "{others}");
        }
    }

    #[test]
    fn name_with_a_schema_is_a_warning() {
        for list in ["tables", "views", "sequences", "functions"] {
            let entry = serde_json::json!({"schema": "public", "name": "public.goods"});
            assert_eq!(
                found(list, entry),
                [format!(
                    "warning $.{list}[0].name (public.\"public.goods\"): the name contains the \
                     schema; write \"schema\": \"public\", \"name\": \"goods\""
                )]
            );
        }
        let other = serde_json::json!({"schema": "public", "name": "api.\"Goods\""});
        assert!(
            found("tables", other)[0].ends_with("write \"schema\": \"api\", \"name\": \"Goods\"")
        );
        // A dot in a name is allowed.
        for name in ["v1.2", ".public", "public.", "\"public", "public"] {
            let entry = serde_json::json!({"schema": "public", "name": name});
            assert_eq!(found("tables", entry), [""; 0], "{name}");
        }
        assert_eq!(
            found("tables", serde_json::json!({"name": "nowhere.goods"})),
            ["error $.tables[0].schema (\"nowhere.goods\"): required field is missing; write \
              \"schema\": \"nowhere\", \"name\": \"goods\""]
        );
    }

    #[test]
    fn name_with_arguments_is_a_warning() {
        for (name, meant) in [
            ("f(int8)", "\"name\": \"f\", \"arguments\": \"bigint\""),
            ("api.f(a text, b int)", "\"name\": \"f\", \"arguments\": \"text, integer\""),
            ("f()", "\"name\": \"f\", \"arguments\": \"\""),
        ] {
            let entry = serde_json::json!({"schema": "api", "name": name});
            let found = found("functions", entry);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].starts_with("warning $.functions[0].name (api.\"")
                    && found[0].ends_with(&format!("contains the arguments; write {meant}")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn arguments_are_types_as_the_server_prints_them() {
        let of = |arguments: &str| {
            let entry = serde_json::json!({"schema": "api", "name": "f", "arguments": arguments});
            let found = found("functions", entry);
            found
                .into_iter()
                .map(|p| {
                    let (severity, rest) = p.split_once(' ').unwrap();
                    format!("{severity}: {}", rest.split_once("): ").unwrap().1)
                })
                .collect::<Vec<_>>()
        };
        for (arguments, problem) in [
            ("(bigint)", "error: the arguments are in parentheses; write \"bigint\""),
            ("(int8, text)", "error: the arguments are in parentheses; write \"bigint, text\""),
            ("()", "error: the arguments are in parentheses; write \"\""),
            ("id bigint", "error: an argument is more than a type; write \"bigint\""),
            (
                "IN id int8 DEFAULT 0, \"a b\" double precision = 1.5, OUT x text",
                "error: an argument is more than a type; write \"bigint, double precision\"",
            ),
            ("int8", "info: the server prints these types in another way; write \"bigint\""),
            (
                "TEXT, varchar(20)[]",
                "info: the server prints these types in another way; write \"text, character \
                 varying[]\"",
            ),
        ] {
            assert_eq!(of(arguments), [problem], "{arguments}");
        }
        for arguments in [
            "",
            "bigint,text",
            "timestamp with time zone, double precision[]",
            "app.\"My type\", \"char\", app.\"a(b)\"[]",
        ] {
            assert_eq!(of(arguments), [""; 0], "{arguments}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_and_any_arguments_can_be_searched(
            text in "(?s)([(). ,=\"]|default |out |int8|é|.){0,20}"
        ) {
            let _ = (split_name(&text), Arguments::of(&text));
        }
    }
}

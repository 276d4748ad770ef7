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
        let Arguments { types, has_names } = Arguments::of(inner.unwrap_or(trimmed));
        let (severity, problem) = if inner.is_some() {
            (Severity::Error, "the arguments are in parentheses")
        } else if has_names {
            (Severity::Error, "an argument is more than a type")
        } else if types != argument_types(declared).join(", ") {
            (Severity::Info, "the server prints these types in another way")
        } else {
            return;
        };
        let allowed = "the input argument types, with commas between them".to_owned();
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
}

impl Arguments {
    fn of(list: &str) -> Self {
        let (mut types, mut has_names) = (Vec::new(), false);
        for argument in argument_types(list) {
            let canonical = canonical_type(&argument);
            if is_type(&canonical) {
                types.push(canonical);
            } else if let Some(meant) = without_name(&argument) {
                has_names = true;
                types.extend(meant);
            } else {
                types.push(canonical);
            }
        }
        Self { types: types.join(", "), has_names }
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
        let canonical = canonical_type(rest);
        if is_type(&canonical) {
            return Some(vec![canonical]);
        }
        rest = rest[find_unquoted(rest, " ")?..].trim_start();
    }
    None
}

/// Whether a text is the name of a type.
fn is_type(canonical: &str) -> bool {
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
    let element = canonical.strip_suffix("[]").unwrap_or(canonical);
    WORDS.contains(&element)
        || !element.is_empty()
            && find_unquoted(element, " ").is_none()
            && find_unquoted(element, "=").is_none()
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

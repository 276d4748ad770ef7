//! Reads a snapshot from JSON text of any origin.

use super::snapshot::{Object, Release, Snapshot};
use crate::sql::printable;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The version of the format that is written and read.
pub const FORMAT: u32 = 1;

/// The maximum length of a document, in bytes. The snapshot of a database with a hundred thousand
/// objects has a fifth of it.
pub const MAX_LENGTH: usize = 256 << 20;

/// Reads a snapshot. Calls `interrupts` between objects.
///
/// # Errors
/// If the text is not a snapshot: the path of the first error, as jsonpath, and what is wrong
/// there.
pub fn read(text: &str, interrupts: &dyn Fn()) -> Result<Snapshot, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!(
            "$: document is {} bytes long; at most {MAX_LENGTH} are allowed",
            text.len()
        ));
    }
    let document: Value =
        serde_json::from_str(text).map_err(|e| format!("$: {}", printable(&e.to_string())))?;
    let Value::Object(mut fields) = document else {
        return Err(expected("$", "an object", &document));
    };
    let format = number(&mut fields, "format")?;
    if format != FORMAT {
        return Err(format!("$.format: format {format} is not supported; supported: {FORMAT}"));
    }
    let server = Release::of_number(number(&mut fields, "server")?);
    let schemas = list(&mut fields, "schemas")?;
    let schemas = schemas.into_iter().enumerate().map(|(i, name)| match name {
        Value::String(name) => Ok(name),
        other => Err(expected(&format!("$.schemas[{i}]"), "a name", &other)),
    });
    let schemas = schemas.collect::<Result<_, _>>()?;
    let objects = objects(list(&mut fields, "objects")?, interrupts)?;
    if let Some(name) = fields.keys().next() {
        return Err(format!(
            "$: unknown field \"{}\"; allowed: format, server, schemas, objects",
            printable(name)
        ));
    }
    Ok(Snapshot { format, server, schemas, objects })
}

fn objects(values: Vec<Value>, interrupts: &dyn Fn()) -> Result<Vec<Object>, String> {
    let mut objects: Vec<Object> = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        interrupts();
        let object = serde_json::from_value(value)
            .map_err(|e| format!("$.objects[{i}]: {}", printable(&e.to_string())))?;
        objects.push(object);
    }
    let mut keys = HashSet::new();
    if let Some(i) = objects.iter().position(|object| !keys.insert(object.key())) {
        return Err(format!(
            "$.objects[{i}]: duplicate object {}",
            printable(&objects[i].identity)
        ));
    }
    Ok(objects)
}

fn take(fields: &mut Map<String, Value>, name: &str) -> Result<Value, String> {
    fields.remove(name).ok_or_else(|| format!("$.{name}: required field is missing"))
}

fn number(fields: &mut Map<String, Value>, name: &str) -> Result<u32, String> {
    let value = take(fields, name)?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| expected(&format!("$.{name}"), "a non-negative integer", &value))
}

fn list(fields: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, String> {
    match take(fields, name)? {
        Value::Array(items) => Ok(items),
        other => Err(expected(&format!("$.{name}"), "a list", &other)),
    }
}

/// Returns the error for a value of the wrong type.
fn expected(path: &str, expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) => return format!("{path}: expected {expected}, found {number}"),
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{path}: expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        read(text, &|| {}).unwrap_err()
    }

    #[test]
    fn error_names_its_path() {
        assert_eq!(error("[]"), "$: expected an object, found a list");
        assert_eq!(error("{}"), "$.format: required field is missing");
        assert_eq!(error(r#"{"format": 2}"#), "$.format: format 2 is not supported; supported: 1");
        let head = r#""format": 1, "server": 15, "schemas": ["public"]"#;
        assert_eq!(
            error(&format!("{{{head}, \"objects\": 1}}")),
            "$.objects: expected a list, found 1"
        );
        assert_eq!(
            error(&format!(r#"{{{head}, "objects": [{{"type": "table"}}]}}"#)),
            "$.objects[0]: missing field `object`"
        );
        let table = r#"{"type": "table", "object": "public.t"}"#;
        assert_eq!(
            error(&format!(r#"{{{head}, "objects": [{table}, {table}]}}"#)),
            "$.objects[1]: duplicate object public.t"
        );
        assert_eq!(
            error(&format!(r#"{{{head}, "objects": [], "more": 1}}"#)),
            "$: unknown field \"more\"; allowed: format, server, schemas, objects"
        );
        assert_eq!(
            error(r#"{"format": 1, "server": 15, "schemas": [1], "objects": []}"#),
            "$.schemas[0]: expected a name, found 1"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![
            "format", "server", "schemas", "objects", "type", "object", "of", "columns", "x",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            prop::sample::select(vec![0u32, 1, 15]).prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(word.clone().prop_map(String::from), inner, 0..7)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_a_snapshot_or_an_error(json in any_json(), text in ".{0,40}") {
            let _ = read(&text, &|| {});
            if let Ok(snapshot) = read(&json.to_string(), &|| {}) {
                prop_assert_eq!(compare(&snapshot, &snapshot), vec![]);
            }
        }
    }
}

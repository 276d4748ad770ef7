//! A snapshot as somebody hands it over: JSON, which may be anything.

use super::{Object, Snapshot};
use crate::sql::printable;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The version of the format that is written and read.
pub const FORMAT: u32 = 1;

/// The longest document that is read, in bytes: a database of a hundred thousand objects has a
/// fifth of it.
pub const LARGEST: usize = 256 << 20;

/// Reads a snapshot; calls `interrupts` between objects.
///
/// # Errors
/// Where it is none: the place, as jsonpath, and what is wrong there.
pub fn read(text: &str, interrupts: &dyn Fn()) -> Result<Snapshot, String> {
    if text.len() > LARGEST {
        return Err(format!("$: {} bytes; a snapshot has at most {LARGEST}", text.len()));
    }
    let document: Value =
        serde_json::from_str(text).map_err(|e| format!("$: {}", printable(&e.to_string())))?;
    let Value::Object(mut fields) = document else {
        return Err(format!("$: {}, where an object is expected", kind(&document)));
    };
    let format = number(&mut fields, "format")?;
    if format != FORMAT {
        return Err(format!(
            "$.format: {format}, which this version of dragonfly_guard does not know; it reads format {FORMAT}"
        ));
    }
    let server = number(&mut fields, "server")?;
    let schemas = list(&mut fields, "schemas")?;
    let schemas = schemas.into_iter().enumerate().map(|(i, name)| match name {
        Value::String(name) => Ok(name),
        other => Err(format!("$.schemas[{i}]: {}, where a name is expected", kind(&other))),
    });
    let schemas = schemas.collect::<Result<_, _>>()?;
    let mut objects: Vec<Object> = Vec::new();
    for (i, object) in list(&mut fields, "objects")?.into_iter().enumerate() {
        interrupts();
        objects.push(
            serde_json::from_value(object)
                .map_err(|e| format!("$.objects[{i}]: {}", printable(&e.to_string())))?,
        );
    }
    let mut keys = HashSet::new();
    if let Some(i) = objects.iter().position(|object| !keys.insert(object.key())) {
        return Err(format!("$.objects[{i}]: {} is there twice", printable(&objects[i].identity)));
    }
    if let Some(name) = fields.keys().next() {
        return Err(format!(
            "$: unknown field \"{}\"; known: format, server, schemas, objects",
            printable(name)
        ));
    }
    Ok(Snapshot { format, server, schemas, objects })
}

fn taken(fields: &mut Map<String, Value>, name: &str) -> Result<Value, String> {
    fields.remove(name).ok_or_else(|| format!("$: the field \"{name}\" is missing"))
}

fn number(fields: &mut Map<String, Value>, name: &str) -> Result<u32, String> {
    let value = taken(fields, name)?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("$.{name}: {}, where a number is expected", kind(&value)))
}

fn list(fields: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, String> {
    match taken(fields, name)? {
        Value::Array(items) => Ok(items),
        other => Err(format!("$.{name}: {}, where a list is expected", kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(text: &str) -> String {
        read(text, &|| {}).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(wrong("[]"), "$: a list, where an object is expected");
        assert_eq!(wrong("{}"), "$: the field \"format\" is missing");
        assert_eq!(
            wrong(r#"{"format": 2}"#),
            "$.format: 2, which this version of dragonfly_guard does not know; it reads format 1"
        );
        let head = r#""format": 1, "server": 15, "schemas": ["public"]"#;
        assert_eq!(
            wrong(&format!("{{{head}, \"objects\": 1}}")),
            "$.objects: a number, where a list is expected"
        );
        assert_eq!(
            wrong(&format!(r#"{{{head}, "objects": [{{"type": "table"}}]}}"#)),
            "$.objects[0]: missing field `object`"
        );
        let table = r#"{"type": "table", "object": "public.t"}"#;
        assert_eq!(
            wrong(&format!(r#"{{{head}, "objects": [{table}, {table}]}}"#)),
            "$.objects[1]: public.t is there twice"
        );
        assert_eq!(
            wrong(&format!(r#"{{{head}, "objects": [], "more": 1}}"#)),
            "$: unknown field \"more\"; known: format, server, schemas, objects"
        );
        assert_eq!(
            wrong(r#"{"format": 1, "server": 15, "schemas": [1], "objects": []}"#),
            "$.schemas[0]: a number, where a name is expected"
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
        fn whatever_comes_in_nothing_breaks(json in any_json(), text in ".{0,40}") {
            let _ = read(&text, &|| {});
            if let Ok(snapshot) = read(&json.to_string(), &|| {}) {
                prop_assert_eq!(super::super::compare(&snapshot, &snapshot), vec![]);
            }
        }
    }
}

//! The JSON Schema (draft 2020-12) of a contract, generated from its types. [`super::shape`] checks
//! documents against it.

use super::shipped::shipped_rules;
use super::types::Contract;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Returns the schema of the types, with the ids of the rules as the allowed fields of `rules`.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Contract).to_value();
        schema["title"] = json!("Security contract for dragonfly_guard");
        let ids: Vec<&String> = shipped_rules().keys().collect();
        schema["properties"]["rules"]["propertyNames"] = json!({"enum": ids});
        name_shared(&mut schema["$defs"]["TableDecl"]);
        join_lines(&mut schema);
        schema
    })
}

/// Adds the other name of a table's `all_rows`, which serde alone knows.
fn name_shared(table: &mut Value) {
    let mut shared = table["properties"]["all_rows"].clone();
    shared["description"] = json!("Another name of `all_rows`.");
    table["properties"]["shared"] = shared;
    table["not"] = json!({"required": ["all_rows", "shared"]});
}

/// Removes the line breaks of doc comments from descriptions.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => *text = text.replace('\n', " "),
                    value => join_lines(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::*;

    /// `UPDATE_DOCS=1 cargo test -p dragonfly_core` writes `docs/reference/contract.schema.json`.
    #[test]
    fn schema_file_equals_the_schema_of_the_types() {
        let file =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/contract.schema.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, serde_json::to_string_pretty(schema()).unwrap() + "\n").unwrap();
        }
        let shipped: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(&shipped, schema(), "run it with UPDATE_DOCS=1");
    }

    #[test]
    fn schema_and_shipped_contract_are_valid_for_another_validator() {
        jsonschema::meta::validate(schema()).unwrap();
        assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let validator = jsonschema::draft202012::new(schema()).unwrap();
        let mut contract: Value = serde_json::from_str(DEFAULT).unwrap();
        validator.validate(&contract).unwrap();
        contract["rules"]["no_such_rule"] = json!({});
        assert!(!validator.is_valid(&contract));
        contract["rules"] = json!({});
        contract["version"] = json!("1.0");
        assert!(!validator.is_valid(&contract));
    }

    /// Editors show the description of a field.
    #[test]
    fn every_field_has_a_description() {
        let defs = schema()["$defs"].as_object().unwrap().values();
        for object in defs.chain([schema()]).filter(|s| s["properties"].is_object()) {
            for (name, field) in object["properties"].as_object().unwrap() {
                assert!(field["description"].is_string(), "{name} of {}", object["description"]);
            }
        }
    }
}

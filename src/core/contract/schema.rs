//! The JSON Schema (draft 2020-12) of a contract: made from the types, and what [`super::shape`]
//! checks a document against.

use super::shipped::shipped_rules;
use super::types::Contract;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A semantic version, as semver.org has it.
pub const VERSION_PATTERN: &str = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?$";

/// The schema: what types say, and the names of the rules.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Contract).to_value();
        schema["title"] = json!("A security contract for dragonfly_guard");
        let ids: Vec<&String> = shipped_rules().keys().collect();
        schema["properties"]["rules"]["propertyNames"] = json!({"enum": ids});
        schema
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DEFAULT;

    /// `docs/reference/contract.schema.json` is made from the types: `UPDATE_DOCS=1 cargo test -p
    /// dragonfly_core` writes it anew.
    #[test]
    fn the_file_for_editors_is_made_from_the_types() {
        let file =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/contract.schema.json");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, serde_json::to_string_pretty(schema()).unwrap() + "\n").unwrap();
        }
        let shipped: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(&shipped, schema(), "run it with UPDATE_DOCS=1");
    }

    #[test]
    fn an_independent_validator_takes_it_and_the_shipped_contract() {
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

    /// An editor shows what a field is for.
    #[test]
    fn everything_is_explained() {
        let defs = schema()["$defs"].as_object().unwrap().values();
        for object in defs.chain([schema()]).filter(|s| s["properties"].is_object()) {
            for (name, field) in object["properties"].as_object().unwrap() {
                assert!(field["description"].is_string(), "{name} of {}", object["description"]);
            }
        }
    }
}

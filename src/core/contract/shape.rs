//! Compares a document with the shape of a contract and reports every difference. Serde stops at
//! the first one, so this follows the JSON Schema that is generated from the same types.

use super::mistakes::missing_schema;
use super::problem::{Path, Problems};
use super::schema::schema;
use crate::sql::printable;
use crate::sql::similar::did_you_mean;
use serde_json::{Map, Value};

/// A document that has the shape of a contract.
#[derive(Debug)]
pub struct Shaped {
    /// Can be deserialized as a contract. Without problems, it is the document itself.
    pub document: Value,
    /// Whether it holds no placeholder for a wrong or missing value. Unknown fields may have been
    /// omitted.
    pub is_complete: bool,
}

/// Reports every error in the shape of `document`. Returns the document with a placeholder for each
/// wrong or missing value, so that later checks can find further errors; `None` if it is not an
/// object.
pub fn examine(document: &Value, problems: &mut Problems<'_>) -> Option<Shaped> {
    let mut walk = Walk { problems, is_complete: true };
    let document = walk.value(schema(), document, &Path::Root)?;
    Some(Shaped { document, is_complete: walk.is_complete })
}

struct Walk<'p, 'i> {
    problems: &'p mut Problems<'i>,
    is_complete: bool,
}

impl Walk<'_, '_> {
    /// Returns the value with placeholders in it; `None` if the value itself is wrong.
    fn value(&mut self, at: &'static Value, value: &Value, path: &Path<'_>) -> Option<Value> {
        let Resolved { schema, is_optional } = resolve(at);
        if value.is_null() && is_optional {
            return Some(Value::Null);
        }
        let allowed = allowed_texts(schema);
        let is_allowed = match kind(schema) {
            "string" => {
                value.as_str().is_some_and(|text| allowed.is_empty() || allowed.contains(&text))
            }
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        if !is_allowed {
            let (problem, hint) = match value {
                Value::String(text) if !allowed.is_empty() => (
                    format!("\"{}\" is not allowed", printable(text)),
                    did_you_mean(text, allowed.iter().copied()),
                ),
                other => (format!("{} is not allowed", describe_value(other)), None),
            };
            self.problems.error_with_hint(path, problem, describe(schema), hint);
            self.is_complete = false;
            return None;
        }
        match value {
            Value::Array(items) => Some(self.array(schema, items, path).into()),
            Value::Object(fields) => Some(self.object(schema, fields, path).into()),
            plain => Some(plain.clone()),
        }
    }

    fn array(&mut self, schema: &'static Value, items: &[Value], path: &Path<'_>) -> Vec<Value> {
        let mut kept = Vec::new();
        let each = &schema["items"];
        if items.is_empty() && schema["minItems"].is_u64() {
            self.problems.error(path, "list is empty", "one or more elements".to_owned());
        }
        for (i, item) in items.iter().enumerate() {
            if self.problems.is_full() {
                break;
            }
            // A placeholder keeps the indexes of the elements after it.
            kept.push(self.value(each, item, &path.item(i)).unwrap_or_else(|| placeholder(each)));
        }
        kept
    }

    fn object(
        &mut self,
        schema: &'static Value,
        fields: &Map<String, Value>,
        path: &Path<'_>,
    ) -> Map<String, Value> {
        if fields.is_empty() && schema["minProperties"].is_u64() {
            self.problems.error(path, "object is empty", fields_of(schema).join(", "));
        }
        let mut kept = Map::new();
        for (name, value) in fields {
            if self.problems.is_full() {
                break;
            }
            let place = path.field(name);
            let any = Some(&schema["additionalProperties"]).filter(|any| any.is_object());
            if let Some(declared) = schema["properties"].get(name).or(any) {
                let value = self.value(declared, value, &place);
                kept.extend(value.map(|value| (name.clone(), value)));
            } else {
                let known = fields_of(schema);
                let hint =
                    did_you_mean(name, known.iter().copied()).or_else(|| other_word(name, &known));
                let allowed = known.join(", ");
                self.problems.error_with_hint(&place, "unknown field", allowed, hint);
            }
        }
        // Two names of one field.
        let names = schema["not"]["required"].as_array().into_iter().flatten();
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        if let [.., other] = names[..]
            && names.iter().all(|name| fields.contains_key(*name))
        {
            let problem = "another name of a field that is there as well";
            let allowed = format!("one of {}", names.join(", "));
            self.problems.error(&path.field(other), problem, allowed);
            kept.remove(other);
            self.is_complete = false;
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let declared = &schema["properties"][name];
            if !fields.contains_key(name) {
                let declared_name = fields.get("name").and_then(Value::as_str);
                self.problems.error_with_hint(
                    &path.field(name),
                    "required field is missing",
                    describe(resolve(declared).schema),
                    declared_name.filter(|_| name == "schema").and_then(missing_schema),
                );
                self.is_complete = false;
            }
            kept.entry(name).or_insert_with(|| placeholder(declared));
        }
        kept
    }
}

/// Words that people use for a field, with its name.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("args", "arguments"),
    ("comment", "description"),
    ("comment", "purpose"),
    ("description", "purpose"),
    ("force_rls", "force_row_security"),
    ("parameters", "arguments"),
    ("permissions", "grants"),
    ("privileges", "grants"),
    ("purpose", "description"),
    ("rls", "row_security"),
    ("rls_enabled", "row_security"),
    ("routines", "functions"),
];

/// Returns the hint for a field that has another name.
fn other_word(given: &str, known: &[&str]) -> Option<String> {
    let mut meant = OTHER_WORDS.iter().filter(|(word, _)| *word == given).map(|(_, field)| field);
    meant.find(|field| known.contains(field)).map(|field| format!("did you mean \"{field}\"?"))
}

/// A part of the schema without references.
pub(super) struct Resolved {
    pub schema: &'static Value,
    /// Whether null is allowed.
    pub is_optional: bool,
}

/// Follows the references in a part of the schema.
pub(super) fn resolve(at: &'static Value) -> Resolved {
    if let Some(reference) = at["$ref"].as_str() {
        let schema = schema().pointer(&reference[1..]).unwrap_or(at);
        return Resolved { schema, is_optional: false };
    }
    if let Some([some, ..]) = at["anyOf"].as_array().map(Vec::as_slice) {
        return Resolved { is_optional: true, ..resolve(some) };
    }
    Resolved { schema: at, is_optional: at["type"].is_array() }
}

/// Returns the JSON type of the allowed values.
fn kind(schema: &'static Value) -> &'static str {
    let one = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    one.unwrap_or(if schema["oneOf"].is_array() { "string" } else { "object" })
}

/// Returns the allowed texts of an enumeration; an empty list if any text is allowed.
fn allowed_texts(schema: &'static Value) -> Vec<&'static str> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let texts = described
        .flat_map(|one| one["enum"].as_array().into_iter().flatten().chain(one.get("const")));
    plain.chain(texts).filter_map(Value::as_str).collect()
}

/// Returns the smallest value that is allowed.
fn placeholder(at: &'static Value) -> Value {
    let Resolved { schema, is_optional } = resolve(at);
    match kind(schema) {
        _ if is_optional => Value::Null,
        "string" => allowed_texts(schema).first().copied().unwrap_or_default().into(),
        "boolean" => false.into(),
        "array" => Value::Array(vec![]),
        _ => {
            let required =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required
                .map(|name| (name.to_owned(), placeholder(&schema["properties"][name])))
                .collect::<Map<_, _>>()
                .into()
        }
    }
}

/// Describes the allowed values.
fn describe(schema: &'static Value) -> String {
    match kind(schema) {
        "string" => match allowed_texts(schema) {
            texts if texts.is_empty() => "text".to_owned(),
            texts => texts.join(", "),
        },
        "boolean" => "true or false".to_owned(),
        "array" => format!("a list of: {}", describe(resolve(&schema["items"]).schema)),
        _ => match fields_of(schema) {
            fields if fields.is_empty() => {
                let each = resolve(&schema["additionalProperties"]).schema;
                format!("an object with fields of: {}", describe(each))
            }
            fields => format!("an object with the fields {}", fields.join(", ")),
        },
    }
}

fn fields_of(schema: &'static Value) -> Vec<&'static str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn describe_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::super::types::Contract;
    use super::*;
    use proptest::prelude::*;

    fn shipped() -> Value {
        serde_json::from_str(DEFAULT).unwrap()
    }

    fn found(edit: impl Fn(&mut Value)) -> Vec<String> {
        let mut document = shipped();
        edit(&mut document);
        let mut problems = Problems::new(&|| {});
        let _ = examine(&document, &mut problems);
        problems.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_error_names_its_path_and_allowed_values() {
        assert_eq!(found(|_| {}), [""; 0]);
        let problems = found(|j| {
            j["tables"][0]["colour"] = "red".into();
            j["tables"][0]["grants"]["anon"] = serde_json::json!(["FLY", "SELECT"]);
            j["tables"][1].as_object_mut().unwrap().remove("name");
            j["roles"][0]["kind"] = "king".into();
            j["roles"][1]["superuser"] = "no".into();
            j["security_definer"]["search_path"] = "public".into();
            j["rules"]["rls_disabled"] = serde_json::json!({"severity": null, "guard": 1});
        });
        assert_eq!(
            problems,
            [
                "$.roles[0].kind: \"king\" is not allowed; allowed: client, worker, owner, login",
                "$.roles[1].superuser: text is not allowed; allowed: true or false",
                "$.rules.rls_disabled.guard: number is not allowed; allowed: audit, observe, warn, \
                 block",
                "$.security_definer.search_path: text is not allowed; allowed: a list of: text",
                "$.tables[0].colour: unknown field; allowed: all_rows, append_only_by, \
                 column_grants, force_row_security, grants, keys, name, open_rows, policies, \
                 privileged, purpose, row_security, schema, shared",
                "$.tables[0].grants.anon[0]: \"FLY\" is not allowed; allowed: ALL, SELECT, INSERT, \
                 UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN",
                "$.tables[1].name: required field is missing; allowed: text",
            ]
        );
    }

    #[test]
    fn document_that_is_not_an_object_has_one_error() {
        let mut problems = Problems::new(&|| {});
        assert!(examine(&serde_json::json!([1, 2]), &mut problems).is_none());
        let problems = problems.into_vec();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].to_string().starts_with(
                "$: list is not allowed; allowed: an object with the fields $schema, "
            ),
            "{}",
            problems[0]
        );
    }

    /// Returns a value in the document by the indexes of fields and elements on the way to it.
    fn place<'v>(value: &'v mut Value, steps: &[usize]) -> &'v mut Value {
        let Some((step, rest)) = steps.split_first() else { return value };
        let length = match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        match value {
            plain if length == 0 => plain,
            Value::Array(items) => place(&mut items[step % length], rest),
            value => {
                place(value.as_object_mut().unwrap().values_mut().nth(step % length).unwrap(), rest)
            }
        }
    }

    /// Returns the schema without its constraints on plain text.
    fn without_text_constraints(schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => {
                let is_constraint = |name: &String| {
                    matches!(name.as_str(), "pattern" | "minLength" | "maxLength" | "propertyNames")
                };
                fields
                    .iter()
                    .filter(|(name, _)| !is_constraint(name))
                    .map(|(name, value)| (name.clone(), without_text_constraints(value)))
                    .collect()
            }
            Value::Array(items) => items.iter().map(without_text_constraints).collect(),
            plain => plain.clone(),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            "[a-z]{0,4}|SELECT|block|client|\\$schema".prop_map(Value::from),
            Just(serde_json::json!([])),
            Just(serde_json::json!({})),
            Just(serde_json::json!(["SELECT"])),
            Just(serde_json::json!({"name": "x"})),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn errors_agree_with_another_validator_and_the_result_is_a_contract(
            edits in proptest::collection::vec(
                (
                    proptest::collection::vec(0usize..12, 0..6),
                    any::<Option<String>>(),
                    any_value(),
                ),
                0..4,
            )
        ) {
            let mut document = shipped();
            for (steps, name, value) in edits {
                match (name, place(&mut document, &steps)) {
                    (Some(name), Value::Object(fields)) => { fields.insert(name, value); }
                    (_, at) => *at = value,
                }
            }
            let mut problems = Problems::new(&|| {});
            let shaped = examine(&document, &mut problems);
            let problems = problems.into_vec();
            if let Some(shaped) = shaped {
                let contract = serde_json::from_value::<Contract>(shaped.document.clone());
                prop_assert!(contract.is_ok(), "{shaped:?}");
                let is_unchanged = shaped.document == document && shaped.is_complete;
                prop_assert!(!problems.is_empty() || is_unchanged);
            }
            // An independent validator, without the constraints that `shape` does not check.
            let schema = without_text_constraints(schema());
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            prop_assert_eq!(problems.is_empty(), validator.is_valid(&document), "{:?}", problems);
        }
    }
}

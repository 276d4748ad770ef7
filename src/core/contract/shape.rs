//! Whether a document has the shape of a contract: every place where it has not, not only the
//! first. Serde stops at the first, so this walks along the JSON Schema that is made from the same
//! types.

use super::problem::{Path, Problems};
use super::schema::schema;
use crate::sql::printable;
use serde_json::{Map, Value};

/// What is left of a document.
#[derive(Debug)]
pub struct Rest {
    /// Can be read as a contract; where nothing was noted, it is the document itself.
    pub document: Value,
    /// Nothing had to be put in the place of something that was wrong or missing: at most, fields
    /// that do not exist have been left away.
    pub is_all_there: bool,
}

/// Notes everything that is wrong with the shape of `document`. Gives the rest, with the least that
/// does wherever something is lacking, so that whatever else is wrong can be found as well; `None`
/// where it is no object.
pub fn examine(document: &Value, problems: &mut Problems<'_>) -> Option<Rest> {
    let mut walk = Walk { problems, is_all_there: true };
    let document = walk.value(schema(), document, &Path::Root)?;
    Some(Rest { document, is_all_there: walk.is_all_there })
}

struct Walk<'p, 'i> {
    problems: &'p mut Problems<'i>,
    is_all_there: bool,
}

impl Walk<'_, '_> {
    /// The value, or what is left of it; `None` where it is of no use.
    fn value(&mut self, at: &'static Value, value: &Value, path: &Path<'_>) -> Option<Value> {
        let (schema, optional) = resolve(at);
        if value.is_null() && optional {
            return Some(Value::Null);
        }
        let words = words(schema);
        let as_expected = match kind(schema) {
            "string" => {
                value.as_str().is_some_and(|text| words.is_empty() || words.contains(&text))
            }
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            _ => value.is_object(),
        };
        if !as_expected {
            let given = match value {
                Value::String(word) if !words.is_empty() => {
                    format!("\"{}\" is none of the words that are allowed", printable(word))
                }
                other => {
                    format!("{} stands where {} belongs", describe_value(other), describe(schema))
                }
            };
            self.problems.error(path, given, describe(schema));
            self.is_all_there = false;
            return None;
        }
        match value {
            Value::Array(items) => {
                let mut kept = Vec::new();
                let each = &schema["items"];
                for (i, item) in items.iter().enumerate() {
                    if self.problems.is_full() {
                        break;
                    }
                    // Something stands in every place, or what comes after would seem to be
                    // elsewhere.
                    kept.push(self.value(each, item, &path.item(i)).unwrap_or_else(|| least(each)));
                }
                Some(kept.into())
            }
            Value::Object(fields) => Some(self.object(schema, fields, path).into()),
            plain => Some(plain.clone()),
        }
    }

    fn object(
        &mut self,
        schema: &'static Value,
        fields: &Map<String, Value>,
        path: &Path<'_>,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in fields {
            if self.problems.is_full() {
                break;
            }
            let place = path.field(name);
            let any = Some(&schema["additionalProperties"]).filter(|any| any.is_object());
            match schema["properties"].get(name).or(any) {
                Some(declared) => kept
                    .extend(self.value(declared, value, &place).map(|value| (name.clone(), value))),
                None => self.problems.error(
                    &place,
                    "there is no such field",
                    fields_of(schema).join(", "),
                ),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let declared = &schema["properties"][name];
            if !fields.contains_key(name) {
                self.problems.error(
                    &path.field(name),
                    "this field is missing",
                    describe(resolve(declared).0),
                );
                self.is_all_there = false;
            }
            kept.entry(name).or_insert_with(|| least(declared));
        }
        kept
    }
}

/// What a value is held against, with references followed; and whether there may as well be none.
fn resolve(at: &'static Value) -> (&'static Value, bool) {
    if let Some(reference) = at["$ref"].as_str() {
        return (schema().pointer(&reference[1..]).unwrap_or(at), false);
    }
    if let Some([some, ..]) = at["anyOf"].as_array().map(Vec::as_slice) {
        return (resolve(some).0, true);
    }
    (at, at["type"].is_array())
}

/// The JSON type of what belongs there.
fn kind(schema: &'static Value) -> &'static str {
    let one = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    one.unwrap_or(if schema["oneOf"].is_array() { "string" } else { "object" })
}

/// The words of an enumeration; none where any text will do.
fn words(schema: &'static Value) -> Vec<&'static str> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let explained = schema["oneOf"].as_array().into_iter().flatten();
    let words = explained
        .flat_map(|one| one["enum"].as_array().into_iter().flatten().chain(one.get("const")));
    plain.chain(words).filter_map(Value::as_str).collect()
}

/// The least that can stand there.
fn least(at: &'static Value) -> Value {
    let (schema, optional) = resolve(at);
    match kind(schema) {
        _ if optional => Value::Null,
        "string" => words(schema).first().copied().unwrap_or_default().into(),
        "boolean" => false.into(),
        "array" => Value::Array(vec![]),
        _ => {
            let required =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required
                .map(|name| (name.to_owned(), least(&schema["properties"][name])))
                .collect::<Map<_, _>>()
                .into()
        }
    }
}

/// What belongs there, in words.
fn describe(schema: &'static Value) -> String {
    match kind(schema) {
        "string" => match words(schema) {
            words if words.is_empty() => "text".to_owned(),
            words => words.join(", "),
        },
        "boolean" => "true or false".to_owned(),
        "array" => format!("a list, each {}", describe(resolve(&schema["items"]).0)),
        _ => match fields_of(schema) {
            fields if fields.is_empty() => {
                format!(
                    "an object, each field {}",
                    describe(resolve(&schema["additionalProperties"]).0)
                )
            }
            fields => format!("an object with {}", fields.join(", ")),
        },
    }
}

fn fields_of(schema: &'static Value) -> Vec<&'static str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn describe_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, DEFAULT};
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
    fn every_place_is_named_with_what_belongs_there() {
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
                "$.roles[0].kind: \"king\" is none of the words that are allowed; allowed: client, worker, owner",
                "$.roles[1].superuser: text stands where true or false belongs; allowed: true or false",
                "$.rules.rls_disabled.guard: a number stands where audit, warn, block belongs; allowed: audit, warn, block",
                "$.security_definer.search_path: text stands where a list, each text belongs; allowed: a list, each text",
                "$.tables[0].colour: there is no such field; allowed: force_row_security, grants, name, policies, purpose, row_security, \
                 schema",
                "$.tables[0].grants.anon[0]: \"FLY\" is none of the words that are allowed; allowed: ALL, SELECT, INSERT, UPDATE, DELETE, \
                 TRUNCATE, REFERENCES, TRIGGER, MAINTAIN",
                "$.tables[1].name: this field is missing; allowed: text",
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_said_once() {
        let mut problems = Problems::new(&|| {});
        assert!(examine(&serde_json::json!([1, 2]), &mut problems).is_none());
        let problems = problems.into_vec();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].to_string().starts_with("$: a list stands where an object with "),
            "{}",
            problems[0]
        );
    }

    /// A value somewhere in the document, by the numbers of its fields and elements.
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

    /// The schema without what it says about plain text.
    fn shape_alone(schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => {
                let of_text = |name: &String| {
                    matches!(name.as_str(), "pattern" | "minLength" | "maxLength" | "propertyNames")
                };
                fields
                    .iter()
                    .filter(|(name, _)| !of_text(name))
                    .map(|(name, value)| (name.clone(), shape_alone(value)))
                    .collect()
            }
            Value::Array(items) => items.iter().map(shape_alone).collect(),
            plain => plain.clone(),
        }
    }

    fn junk() -> impl Strategy<Value = Value> {
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
        fn it_sees_what_other_validators_see_and_what_it_gives_back_is_a_contract(
            edits in proptest::collection::vec((proptest::collection::vec(0usize..12, 0..6), any::<Option<String>>(), junk()), 0..4)
        ) {
            let mut document = shipped();
            for (steps, name, value) in edits {
                match (name, place(&mut document, &steps)) {
                    (Some(name), Value::Object(fields)) => { fields.insert(name, value); }
                    (_, at) => *at = value,
                }
            }
            let mut problems = Problems::new(&|| {});
            let rest = examine(&document, &mut problems);
            let problems = problems.into_vec();
            if let Some(rest) = rest {
                prop_assert!(serde_json::from_value::<Contract>(rest.document.clone()).is_ok(), "{rest:?}");
                prop_assert!(!problems.is_empty() || (rest.document == document && rest.is_all_there));
            }
            // An independent validator, held to shape alone.
            let validator = jsonschema::draft202012::new(&shape_alone(schema())).unwrap();
            prop_assert_eq!(problems.is_empty(), validator.is_valid(&document), "{:?}", problems);
        }
    }
}

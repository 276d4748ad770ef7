//! The fields of a contract that are no lists of objects, set by their paths:
//! `SET contract.security_definer.accept = canonical`.

use super::Unfit;
use crate::contract::{Contract, is_version, schema, shipped_rules};
use crate::sql::similar::did_you_mean;
use crate::sql::{capitalized, listed_as_alternatives, printable};
use serde_json::{Map, Value};

/// The fields whose elements have statements of their own.
const OBJECTS: [&str; 6] = ["roles", "schemas", "tables", "views", "sequences", "functions"];

/// The type of a field.
enum Field {
    Text,
    /// A text that is one of these.
    OneOf(Vec<&'static str>),
    Boolean,
    Texts,
    /// An object with any names.
    Names,
}

/// Sets a field of the contract; without values, to its default.
///
/// # Errors
/// Where the contract has no such field, or the values are not of its type.
pub(super) fn set(
    contract: &mut Contract,
    path: &[String],
    values: &[String],
) -> Result<(), Unfit> {
    let path = &of_identity(path)[..];
    let field = field(path)?;
    let value = match (field, values) {
        (Field::OneOf(known), [value]) if !known.contains(&value.as_str()) => {
            return Err(unknown_value(path, value, &known));
        }
        (_, [version]) if path == ["version"] && !is_version(version) => {
            return Err(Unfit::new(
                format!("invalid value for {}: \"{}\"", shown(path), printable(version)),
                "Use a semantic version such as 1.0.0, with numbers up to 4294967295.",
            ));
        }
        (_, []) => None,
        // SQL has no empty list of values.
        (Field::Texts, [empty]) if empty.is_empty() => Some(Value::Array(vec![])),
        (Field::Texts, values) => Some(Value::from(values)),
        (Field::Names, [value]) => Some(names(path, value)?),
        (Field::Text | Field::OneOf(_), [value]) => Some(Value::from(value.as_str())),
        (Field::Boolean, [value]) => Some(boolean(path, value)?.into()),
        _ => {
            return Err(Unfit::new(
                format!("{} takes only one value", shown(path)),
                "Specify one value.",
            ));
        }
    };
    let mut document = serde_json::to_value(&*contract).expect("a contract is JSON");
    place(&mut document, path, value);
    *contract = serde_json::from_value(document).map_err(|error| {
        Unfit::new(
            format!("invalid value for {}", shown(path)),
            format!("{}.", crate::sql::capitalized(&printable(&error.to_string()))),
        )
    })?;
    Ok(())
}

/// Reads an object of names.
fn names(path: &[String], value: &str) -> Result<Value, Unfit> {
    serde_json::from_str(value).ok().filter(Value::is_object).ok_or_else(|| {
        let field = shown(path);
        let hint = format!("Use {field}.\"...\", or all names as a JSON object.");
        Unfit::new(format!("invalid value for {field}"), hint)
    })
}

/// Returns a path with one step for a name in an object of `identity`: SQL has dots between the
/// parts of `contract.identity.settings.app.tenant`.
fn of_identity(path: &[String]) -> Vec<String> {
    match path {
        [identity, of, name @ ..] if identity == "identity" && !name.is_empty() => {
            vec![identity.clone(), of.clone(), name.join(".")]
        }
        other => other.to_vec(),
    }
}

fn shown(path: &[String]) -> String {
    format!("contract.{}", printable(&path.join(".")))
}

fn boolean(path: &[String], value: &str) -> Result<bool, Unfit> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(Unfit::new(format!("{} requires a Boolean value", shown(path)), "Use on or off.")),
    }
}

/// Returns the type of the field at a path, from the JSON Schema.
fn field(path: &[String]) -> Result<Field, Unfit> {
    let mut at = schema();
    for (depth, step) in path.iter().enumerate() {
        let is_object = depth == 0 && OBJECTS.contains(&step.as_str());
        let next = at["properties"].get(step).or_else(|| {
            let names = at["propertyNames"]["enum"].as_array();
            let is_known = names.is_some_and(|names| names.iter().any(|name| name == step))
                || has_any_names(at);
            Some(&at["additionalProperties"]).filter(|any| any.is_object() && is_known)
        });
        match next.filter(|_| !is_object) {
            Some(next) => at = resolved(next),
            None => return Err(unknown(&path[..=depth], at)),
        }
    }
    let kind = at["type"].as_str().or_else(|| at["type"][0].as_str());
    match kind {
        Some("array") => Ok(Field::Texts),
        Some("boolean") => Ok(Field::Boolean),
        Some("object") if has_any_names(at) => Ok(Field::Names),
        Some("object") => Err(unknown(path, at)),
        _ => {
            let listed = at["enum"].as_array().into_iter().flatten();
            let described = at["oneOf"].as_array().into_iter().flatten().map(|one| &one["const"]);
            let known: Vec<&str> = listed.chain(described).filter_map(Value::as_str).collect();
            Ok(if known.is_empty() { Field::Text } else { Field::OneOf(known) })
        }
    }
}

/// Whether an object has fields of any names, each with a text.
fn has_any_names(at: &'static Value) -> bool {
    let each = &at["additionalProperties"];
    each.is_object() && !at["propertyNames"].is_object() && resolved(each)["type"] != "object"
}

fn resolved(at: &'static Value) -> &'static Value {
    if let Some(reference) = at["$ref"].as_str() {
        return schema().pointer(&reference[1..]).unwrap_or(at);
    }
    match at["anyOf"].as_array().and_then(|any| any.first()) {
        Some(first) => resolved(first),
        None => at,
    }
}

fn unknown(path: &[String], at: &Value) -> Unfit {
    let fields = at["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let names = at["propertyNames"]["enum"].as_array().into_iter().flatten();
    let known: Vec<&str> = fields
        .filter(|name| path.len() > 1 || !OBJECTS.contains(name))
        .chain(names.filter_map(Value::as_str))
        .collect();
    Unfit::new(
        format!("unrecognized field {} of the contract", shown(path)),
        if known.is_empty() {
            "See the reference of the contract.".to_owned()
        } else {
            let given = path.last().map_or("", String::as_str);
            meant(given, &known, &format!("Use {}.", listed_as_alternatives(&known)))
        },
    )
}

fn unknown_value(path: &[String], given: &str, known: &[&str]) -> Unfit {
    Unfit::new(
        format!("invalid value for {}: \"{}\"", shown(path), printable(given)),
        meant(given, known, &format!("Use {}.", listed_as_alternatives(known))),
    )
}

/// Returns a hint that first asks for the known name that was probably meant.
fn meant(given: &str, known: &[&str], hint: &str) -> String {
    match did_you_mean(given, known.iter().copied()) {
        Some(question) => format!("{} {hint}", capitalized(&question)),
        None => hint.to_owned(),
    }
}

/// Sets or removes the value at a path.
fn place(document: &mut Value, path: &[String], value: Option<Value>) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = document;
    for step in parents {
        if !at[step].is_object() {
            at[step] = Value::Object(Map::new());
        }
        at = &mut at[step];
    }
    let Some(fields) = at.as_object_mut() else { return };
    match value {
        Some(value) => _ = fields.insert(last.clone(), value),
        None => _ = fields.remove(last),
    }
}

/// Returns every field of the contract that is set and no list of objects, as paths and values.
pub(super) fn settings(contract: &Contract) -> Vec<(Vec<String>, Vec<String>)> {
    let mut bare = contract.clone();
    let defaults = shipped_rules();
    for (id, rule) in &mut bare.rules {
        // A rule keeps the defaults that it does not change. It has no section by default.
        if let Some(default) = defaults.get(id) {
            rule.severity = rule.severity.filter(|_| rule.severity != default.severity);
            rule.guard = rule.guard.filter(|_| rule.guard != default.guard);
        }
    }
    bare.roles.clear();
    bare.schemas.clear();
    bare.tables.clear();
    bare.views.clear();
    bare.sequences.clear();
    bare.functions.clear();
    let document = serde_json::to_value(&bare).expect("a contract is JSON");
    let mut fields: Vec<(&String, &Value)> = document.as_object().into_iter().flatten().collect();
    let first = ["name", "version", "description"];
    fields.sort_by_key(|(name, _)| {
        let place = first.iter().position(|field| field == name).unwrap_or(first.len());
        (place, *name)
    });
    let mut found = Vec::new();
    for (name, value) in fields.into_iter().filter(|(name, _)| !OBJECTS.contains(&name.as_str())) {
        flatten(&mut vec![name.clone()], value, &mut found);
    }
    found
}

/// Whether SQL can quote a name: the server truncates longer ones.
fn is_identifier(name: &str) -> bool {
    (1..=63).contains(&name.len())
}

fn flatten(path: &mut Vec<String>, value: &Value, found: &mut Vec<(Vec<String>, Vec<String>)>) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Null => {}
        // A name that is no identifier, and thus no step of a path in SQL.
        Value::Object(fields) if !fields.keys().all(|name| is_identifier(name)) => {
            found.push((path.clone(), vec![value.to_string()]));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                path.push(name.clone());
                flatten(path, value, found);
                path.pop();
            }
        }
        Value::Array(items) if items.is_empty() => found.push((path.clone(), vec![String::new()])),
        Value::Array(items) => found.push((path.clone(), items.iter().map(text).collect())),
        plain => found.push((path.clone(), vec![text(plain)])),
    }
}

//! How one contract differs from another, as people review it: a line a change, objects by their
//! names and not by their places in a list.

use super::shipped::shipped_rules;
use super::types::{ByRole, Contract, PrivilegeSet};
use crate::catalog::Privileges;
use crate::sql::{argument_types, printable, safe_ident, safe_qualified};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What has changed from `earlier` to `later`: `+` added, `-` taken away, `~` changed. What is left
/// away and what says the default are the same.
#[must_use]
pub fn changes(earlier: &Contract, later: &Contract) -> Vec<String> {
    let document = |contract: &Contract| {
        let mut contract = contract.clone();
        for (id, default) in shipped_rules() {
            let declared = contract.rules.entry(id.clone()).or_default();
            declared.severity = declared.severity.or(default.severity);
            declared.guard = declared.guard.or(default.guard);
        }
        // ALL, and everything that it stands for, are the same.
        let tables = contract.tables.iter_mut().map(|t| &mut t.grants);
        tables.chain(contract.views.iter_mut().map(|v| &mut v.grants)).for_each(in_full_words);
        contract.sequences.iter_mut().map(|s| &mut s.grants).for_each(in_full_words);
        serde_json::to_value(&contract).expect("a contract is JSON")
    };
    let mut lines = Vec::new();
    compare("", &document(earlier), &document(later), &mut lines);
    lines
}

/// Every privilege once, in one order.
fn in_full_words<W: PrivilegeSet>(grants: &mut ByRole<W>) {
    for words in grants.values_mut() {
        *words = W::words_of(words.iter().fold(Privileges::NONE, |all, word| all | word.bits()));
    }
}

fn compare(at: &str, earlier: &Value, later: &Value, lines: &mut Vec<String>) {
    if earlier == later {
        return;
    }
    match (earlier, later) {
        (Value::Object(earlier), Value::Object(later)) => fields(at, earlier, later, lines),
        (Value::Array(earlier), Value::Array(later))
            if earlier.iter().chain(later).all(Value::is_object) =>
        {
            let (earlier, later) = (by_name(earlier), by_name(later));
            let names: BTreeSet<&String> = earlier.keys().chain(later.keys()).collect();
            for name in names {
                entry(
                    &format!("{at}[{name}]"),
                    earlier.get(name).copied(),
                    later.get(name).copied(),
                    lines,
                );
            }
        }
        // The order of a path matters.
        (Value::Array(earlier), Value::Array(later)) if !at.ends_with("search_path") => {
            let words = |values: &[Value]| values.iter().map(word).collect::<BTreeSet<String>>();
            let missing = |from: &[Value], of: &[Value], sign: char| -> Vec<String> {
                words(of).difference(&words(from)).map(|word| format!("{sign}{word}")).collect()
            };
            let words = [missing(earlier, later, '+'), missing(later, earlier, '-')].concat();
            if !words.is_empty() {
                lines.push(format!("~ {at}: {}", words.join(" ")));
            }
        }
        // Names in a path are written as SQL writes them.
        (Value::Array(earlier), Value::Array(later)) => {
            let path = |names: &[Value]| {
                names
                    .iter()
                    .filter_map(Value::as_str)
                    .map(safe_ident)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            lines.push(format!("~ {at}: {} -> {}", path(earlier), path(later)));
        }
        _ => lines.push(format!("~ {at}: {} -> {}", word(earlier), word(later))),
    }
}

/// Fields of an object. What is empty and what is not there are the same.
fn fields(
    at: &str,
    earlier: &Map<String, Value>,
    later: &Map<String, Value>,
    lines: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = earlier.keys().chain(later.keys()).collect();
    for name in names {
        let step = if at.is_empty() {
            printable(name).into_owned()
        } else {
            format!("{at}.{}", safe_ident(name))
        };
        let there = |fields: &Map<String, Value>| {
            fields.get(name).filter(|value| !is_empty(value)).cloned()
        };
        match (there(earlier), there(later)) {
            (Some(Value::Array(before)), None) => {
                compare(&step, &before.into(), &Value::Array(vec![]), lines)
            }
            (None, Some(Value::Array(after))) => {
                compare(&step, &Value::Array(vec![]), &after.into(), lines)
            }
            (Some(Value::Object(before)), None) => {
                compare(&step, &before.into(), &Value::Object(Map::new()), lines)
            }
            (None, Some(Value::Object(after))) => {
                compare(&step, &Value::Object(Map::new()), &after.into(), lines)
            }
            (before, after) => entry(&step, before.as_ref(), after.as_ref(), lines),
        }
    }
}

fn entry(at: &str, earlier: Option<&Value>, later: Option<&Value>, lines: &mut Vec<String>) {
    match (earlier, later) {
        (Some(earlier), Some(later)) => compare(at, earlier, later, lines),
        // What comes with a new object matters as much as that it comes.
        (None, Some(Value::Object(new))) => {
            lines.push(format!("+ {at}"));
            let about = |name: &String| !matches!(name.as_str(), "schema" | "name");
            for (name, value) in new.iter().filter(|(name, value)| {
                about(name) && !is_empty(value) && **value != Value::Bool(false)
            }) {
                let step = format!("{at}.{}", safe_ident(name));
                match value {
                    Value::Object(of) => fields(&step, &Map::new(), of, lines),
                    plain => lines.push(format!("+ {step}: {}", word(plain))),
                }
            }
        }
        (Some(Value::Object(_)), None) => lines.push(format!("- {at}")),
        (None, Some(later)) => lines.push(format!("+ {at}: {}", word(later))),
        (Some(earlier), None) => lines.push(format!("- {at}: {}", word(earlier))),
        (None, None) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Declarations by what they are about: `public.judgments`, `api.queue_job(uuid)`.
fn by_name(declarations: &[Value]) -> std::collections::BTreeMap<String, &Value> {
    let name = |declaration: &Value| {
        let text = |field: &str| declaration[field].as_str().unwrap_or_default();
        let name = match declaration["schema"].as_str() {
            Some(schema) => safe_qualified(schema, text("name")),
            None => safe_ident(text("name")).into_owned(),
        };
        match declaration["arguments"].as_str() {
            Some(arguments) => {
                format!("{name}({})", printable(&argument_types(arguments).join(", ")))
            }
            None => name,
        }
    };
    declarations.iter().map(|declaration| (name(declaration), declaration)).collect()
}

/// A plain value as a person reads it.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).into_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DEFAULT;
    use serde_json::json;

    fn after(edit: impl Fn(&mut Value)) -> Vec<String> {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        let earlier = Contract::from_json(DEFAULT).unwrap();
        edit(&mut document);
        changes(&earlier, &Contract::from_json(&document.to_string()).unwrap())
    }

    #[test]
    fn a_change_reads_like_a_change_log() {
        assert_eq!(after(|_| {}), [""; 0]);
        assert_eq!(after(|j| j["rules"] = json!({})), [""; 0], "they were the rules' own");
        assert_eq!(
            after(|j| {
                j["version"] = json!("1.1.0");
                j["schemas"][2]["usage"] = json!(["anon", "service_role"]);
                j["tables"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"schema": "public", "name": "Invoices", "row_security": true}));
                j["tables"][0]["grants"] =
                    json!({"authenticated": ["SELECT", "UPDATE"], "anon": ["SELECT"]});
                j["tables"][3]["force_row_security"] = json!(false);
                j["views"].as_array_mut().unwrap().swap(0, 1);
                j["functions"].as_array_mut().unwrap().truncate(5);
                j["security_definer"]["search_path"] = json!(["pg_catalog", "public", "pg_temp"]);
                j["rules"]["rls_not_forced"] = json!({"severity": "warning"});
                j["roles"][0].as_object_mut().unwrap().remove("bypass_rls");
            }),
            [
                "- functions[ops.complete_outbox_message(uuid)]",
                "- roles[anon].bypass_rls: false",
                "~ rules.rls_not_forced.severity: info -> warning",
                "~ schemas[intake].usage: +anon -authenticated",
                "~ security_definer.search_path: public, pg_temp -> pg_catalog, public, pg_temp",
                "+ tables[public.\"Invoices\"]",
                "+ tables[public.\"Invoices\"].row_security: true",
                "~ tables[public.judgments].grants.anon: +SELECT",
                "~ tables[public.judgments].grants.authenticated: +UPDATE",
                "~ version: 1.0.0 -> 1.1.0",
            ]
        );
    }

    #[test]
    fn there_is_no_change_exactly_where_contracts_say_the_same() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        let mut other = contract.clone();
        other.description = "another".into();
        assert_eq!(changes(&contract, &other).len(), 1);
        assert_eq!(changes(&other, &contract).len(), 1);
    }
}

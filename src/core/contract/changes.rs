//! Compares two contracts for a review: one line for each change, with objects by their names
//! instead of their indexes.

use super::place::declared_name;
use super::readers::OpsAccess;
use super::shipped::shipped_rules;
use super::types::{ByRole, Contract, GrantPrivilege};
use crate::catalog::Privileges;
use crate::sql::{bare_query, canonical_types, printable, safe_ident};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the changes from `earlier` to `later`: `+` added, `-` removed, `~` changed. An omitted
/// field equals its default.
#[must_use]
pub fn changes(earlier: &Contract, later: &Contract) -> Vec<String> {
    let document = |contract: &Contract| {
        let mut contract = normalized(contract);
        contract.rules.values_mut().for_each(|rule| rule.section = None);
        let mut document = serde_json::to_value(&contract).expect("a contract is JSON");
        document["enforcement"] = contract.enforcement.as_str().into();
        // Unlike other fields, all_rows says something where it is empty.
        let tables = document["tables"].as_array_mut().into_iter().flatten();
        for all_rows in tables.filter_map(|table| table.get_mut("all_rows")).filter(|r| is_empty(r))
        {
            *all_rows = "for no command".into();
        }
        document
    };
    let mut lines = Vec::new();
    compare("", &document(earlier), &document(later), &mut lines);
    lines.extend(changed_sections(earlier, later));
    lines
}

/// Returns one line about all rules that come from another section of a document than before. A
/// contract of its own usually has no sections, or other ones.
fn changed_sections(earlier: &Contract, later: &Contract) -> Option<String> {
    let is_changed = |rule: &&String| earlier.section(rule) != later.section(rule);
    match shipped_rules().keys().filter(is_changed).count() {
        0 => None,
        1 => Some("~ rules: the section of 1 rule".to_owned()),
        count => Some(format!("~ rules: the sections of {count} rules")),
    }
}

/// Returns the names of the readers and of the deployers, also where the contract does not say.
fn readers(contract: &Contract) -> [Option<Vec<String>>; 2] {
    let roles = contract.ops_roles();
    [OpsAccess::Read, OpsAccess::Deploy].map(|wanted| {
        let named = roles.iter().filter(|(_, access)| **access == wanted);
        Some(named.map(|(role, _)| (*role).to_owned()).collect())
    })
}

/// Whether two contracts have the same contents, in whatever order and with whatever defaults
/// omitted.
#[must_use]
pub fn are_same(a: &Contract, b: &Contract) -> bool {
    normalized(a).sorted() == normalized(b).sorted()
}

/// Returns the contract with the severity and guard action of every rule, and with one way of
/// writing the same privileges, argument types and queries.
fn normalized(contract: &Contract) -> Contract {
    let mut contract = contract.clone();
    for (id, default) in shipped_rules() {
        let declared = contract.rules.entry(id.clone()).or_default();
        declared.severity = declared.severity.or(default.severity);
        declared.guard = declared.guard.or(default.guard);
    }
    [contract.readers, contract.deployers] = readers(&contract);
    // ALL equals the list of all privileges.
    let tables = contract.tables.iter_mut().map(|t| &mut t.grants);
    tables.chain(contract.views.iter_mut().map(|v| &mut v.grants)).for_each(normalize);
    contract.sequences.iter_mut().map(|s| &mut s.grants).for_each(normalize);
    for arguments in contract.functions.iter_mut().filter_map(|f| f.arguments.as_mut()) {
        *arguments = canonical_types(arguments).join(", ");
    }
    for all_rows in contract.tables.iter_mut().filter_map(|table| table.all_rows.as_mut()) {
        all_rows.retain(|_, commands| !commands.is_empty());
    }
    contract.identity = contract.identity.normalized();
    for query in contract.views.iter_mut().filter_map(|view| view.definition.as_mut()) {
        *query = bare_query(query).to_owned();
    }
    contract
}

/// Removes duplicate privileges and puts the rest in a fixed order.
fn normalize<P: GrantPrivilege>(grants: &mut ByRole<P>) {
    for names in grants.values_mut() {
        let privileges = names.iter().fold(Privileges::NONE, |all, one| all | one.privileges());
        *names = P::names_of(privileges);
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
        (Value::Array(earlier), Value::Array(later)) if !at.ends_with("search_path") => {
            let texts = |values: &[Value]| values.iter().map(text).collect::<BTreeSet<String>>();
            let missing = |from: &[Value], of: &[Value], sign: char| -> Vec<String> {
                texts(of).difference(&texts(from)).map(|text| format!("{sign}{text}")).collect()
            };
            let differences = [missing(earlier, later, '+'), missing(later, earlier, '-')].concat();
            if !differences.is_empty() {
                lines.push(format!("~ {at}: {}", differences.join(" ")));
            }
        }
        // The order of a search_path matters. Its names are quoted as in SQL.
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
        _ => lines.push(format!("~ {at}: {} -> {}", text(earlier), text(later))),
    }
}

/// Compares the fields of an object. An empty field equals a missing one.
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
        let value_in = |fields: &Map<String, Value>| {
            fields.get(name).filter(|value| !is_empty(value)).cloned()
        };
        match (value_in(earlier), value_in(later)) {
            (Some(Value::Array(before)), None) => {
                compare(&step, &before.into(), &Value::Array(vec![]), lines);
            }
            (None, Some(Value::Array(after))) => {
                compare(&step, &Value::Array(vec![]), &after.into(), lines);
            }
            (Some(Value::Object(before)), None) => {
                compare(&step, &before.into(), &Value::Object(Map::new()), lines);
            }
            (None, Some(Value::Object(after))) => {
                compare(&step, &Value::Object(Map::new()), &after.into(), lines);
            }
            (before, after) => entry(&step, before.as_ref(), after.as_ref(), lines),
        }
    }
}

fn entry(at: &str, earlier: Option<&Value>, later: Option<&Value>, lines: &mut Vec<String>) {
    match (earlier, later) {
        (Some(earlier), Some(later)) => compare(at, earlier, later, lines),
        // The fields of a new object are listed as well.
        (None, Some(Value::Object(new))) => {
            lines.push(format!("+ {at}"));
            for (name, value) in new {
                let is_default = is_empty(value) || *value == Value::Bool(false);
                if is_default || matches!(name.as_str(), "schema" | "name") {
                    continue;
                }
                let step = format!("{at}.{}", safe_ident(name));
                match value {
                    Value::Object(of) => fields(&step, &Map::new(), of, lines),
                    plain => lines.push(format!("+ {step}: {}", text(plain))),
                }
            }
        }
        (Some(Value::Object(_)), None) => lines.push(format!("- {at}")),
        (None, Some(later)) => lines.push(format!("+ {at}: {}", text(later))),
        (Some(earlier), None) => lines.push(format!("- {at}: {}", text(earlier))),
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

/// Returns the declarations by their names: `public.judgments`, `api.queue_job(uuid)`.
fn by_name(declarations: &[Value]) -> BTreeMap<String, &Value> {
    let named = |declaration| (declared_name(declaration).unwrap_or_default(), declaration);
    declarations.iter().map(named).collect()
}

/// Returns a plain value as readable text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).into_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::*;
    use serde_json::json;

    fn changes_after(edit: impl Fn(&mut Value)) -> Vec<String> {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        let earlier = Contract::from_json(DEFAULT).unwrap();
        edit(&mut document);
        changes(&earlier, &Contract::from_json(&document.to_string()).unwrap())
    }

    #[test]
    fn each_change_is_one_line() {
        assert_eq!(changes_after(|_| {}), [""; 0]);
        assert_eq!(
            changes_after(|j| j["rules"] = json!({})),
            ["~ rules: the sections of 79 rules"],
            "the severity and guard action of an omitted rule equal its defaults"
        );
        assert_eq!(
            changes_after(|j| {
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
                j["rules"]["rls_not_forced"] = json!({"severity": "warning", "section": "8"});
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
                "~ rules: the section of 1 rule",
            ]
        );
    }

    #[test]
    fn column_grants_are_compared_without_their_order() {
        let mut earlier: Value = serde_json::from_str(DEFAULT).unwrap();
        earlier["tables"][0]["column_grants"] =
            json!({"anon": {"SELECT": ["id", "status"]}, "authenticated": {"UPDATE": ["status"]}});
        let mut later = earlier.clone();
        later["tables"][0]["column_grants"] =
            json!({"anon": {"SELECT": ["status", "id", "name"], "INSERT": ["name"]}});
        let contract = |json: &Value| Contract::from_json(&json.to_string()).unwrap();
        assert_eq!(
            changes(&contract(&earlier), &contract(&later)),
            [
                "~ tables[public.judgments].column_grants.anon.\"INSERT\": +name",
                "~ tables[public.judgments].column_grants.anon.\"SELECT\": +name",
                "~ tables[public.judgments].column_grants.authenticated.\"UPDATE\": -status",
            ]
        );
    }

    #[test]
    fn rows_of_a_caller_are_compared_by_what_is_meant() {
        let edit = |j: &mut Value, kind: &str, name: &str, keys: &[&str]| {
            j["identity"] = json!({"settings": {name: kind}, "email_verified": false});
            j["tables"][0]["keys"] = json!(keys);
            j["tables"][0]["privileged"] = json!(keys.len() == 1);
        };
        assert_eq!(changes_after(|j| j["identity"] = json!({"sessions": {}})), [""; 0]);
        assert_eq!(
            changes_after(|j| {
                edit(j, "tenant", "App.Tenant", &["owner"]);
                j["tables"][0]["open_rows"] = json!({"anon": ["status"], "authenticated": []});
            }),
            [
                "+ identity.settings.\"app.tenant\": trusted",
                "~ tables[public.judgments].keys: +owner",
                "~ tables[public.judgments].open_rows.anon: +status",
                "+ tables[public.judgments].privileged: true",
            ]
        );
        let contract = |kind: &str, name: &str, keys: &[&str]| {
            let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
            edit(&mut document, kind, name, keys);
            Contract::from_json(&document.to_string()).unwrap()
        };
        let (earlier, later) = (
            contract("tenant", "App.Tenant", &["tenant", "owner"]),
            contract("trusted", "app.tenant", &["owner", "tenant"]),
        );
        assert_eq!(changes(&earlier, &later), [""; 0]);
        assert!(are_same(&earlier, &later));
    }

    #[test]
    fn enforcement_that_is_omitted_equals_block() {
        assert_eq!(changes_after(|j| j["enforcement"] = json!("block")), [""; 0]);
        assert_eq!(
            changes_after(|j| j["enforcement"] = json!("observe")),
            ["~ enforcement: block -> observe"]
        );
    }

    #[test]
    fn readers_that_are_omitted_equal_those_of_the_shipped_contract() {
        let without = |j: &mut Value| {
            j.as_object_mut().unwrap().remove("readers");
            j.as_object_mut().unwrap().remove("deployers");
        };
        assert_eq!(changes_after(without), [""; 0]);
        assert_eq!(
            changes_after(|j| {
                j["readers"] = json!(["grafana", "pg_monitor"]);
                j["deployers"] = json!([]);
            }),
            ["~ deployers: -postgres", "~ readers: +grafana -service_role"]
        );
    }

    #[test]
    fn order_defaults_and_spaces_are_no_difference() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        let mut other = contract.clone();
        other.tables.reverse();
        other.functions.reverse();
        other.schemas[0].usage.reverse();
        for rule in other.rules.values_mut() {
            (rule.severity, rule.guard) = (None, None);
        }
        other.functions[0].arguments = other.functions[0]
            .arguments
            .as_ref()
            .map(|list| format!(" pg_catalog.{} ", crate::sql::argument_types(list).join(" ,  ")));
        assert!(other.functions[0].arguments.is_some());
        assert_ne!(contract, other);
        assert!(are_same(&contract, &other));
        assert_eq!(changes(&contract, &other), [""; 0]);
        for edit in [
            (|c| c.description.push('x')) as fn(&mut Contract),
            |c| c.version = "1.0.1".into(),
            |c| c.security_definer.search_path.insert(0, "api".into()),
            |c| c.tables[0].all_rows = Some(ByRole::new()),
            |c| {
                c.tables.pop();
            },
        ] {
            let mut other = contract.clone();
            edit(&mut other);
            assert!(!are_same(&contract, &other));
            assert!(!changes(&contract, &other).is_empty());
        }
    }

    #[test]
    fn description_counts_as_a_change() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        let mut other = contract.clone();
        other.description = "another".into();
        assert_eq!(changes(&contract, &other).len(), 1);
        assert_eq!(changes(&other, &contract).len(), 1);
    }
}

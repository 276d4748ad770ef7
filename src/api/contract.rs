//! The SQL functions of the contract: what is in force, another one comes into force, and what
//! people do with one before: check it, complete it in an editor, compare it, try it on the
//! database.

use super::audit::row;
use super::permission;
use crate::audit;
use crate::catalog::Own;
use crate::pg::call::{Call, Value, json_datum, sql_function, texts};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::store::contract::{History, document_in_force, version};
use dragonfly_core::contract::{
    self, Contract, Examined, Problem, Severity, examine_interruptibly,
};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::HashSet;

sql_function!(
    /// `ops.contract() RETURNS jsonb`
    ops_contract => contract_in_force
);
fn contract_in_force(_: Call) -> pg_sys::Datum {
    let state = State::now();
    let text = document_in_force(&state, &Own::find(&state));
    let json =
        serde_json::from_str(&text).unwrap_or_else(|e| pgrx::error!("jsonb_out gave no JSON: {e}"));
    json_datum(&json)
}

sql_function!(
    /// `dragonfly_guard.default_contract() RETURNS jsonb`
    guard_default_contract => default_contract
);
fn default_contract(_: Call) -> pg_sys::Datum {
    let json = serde_json::from_str(contract::DEFAULT).expect("the shipped contract is JSON");
    json_datum(&json)
}

sql_function!(
    /// `dragonfly_guard.is_contract(jsonb) RETURNS boolean`: true, or an error that says where the
    /// document is wrong.
    guard_is_contract => is_contract
);
fn is_contract(call: Call) -> pg_sys::Datum {
    let Some(text) = call.json_text(0) else { return call.null() };
    valid(&text);
    pg_sys::Datum::from(true)
}

/// The contract in a document; an error where it is none.
fn valid(text: &str) -> Contract {
    let Examined { contract, problems } = examine_interruptibly(text, &interrupts);
    contract.unwrap_or_else(|| {
        let errors: Vec<String> =
            problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect();
        let shown = errors.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        let more = errors.len().saturating_sub(SHOWN);
        Report {
            message: "not a valid security contract".into(),
            detail: if more > 0 { format!("{shown}\n... and {more} more.") } else { format!("{shown}.") },
            hint: "SELECT * FROM ops.validate_contract(...) lists everything that is wrong with it; ops.contract() is a valid one.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    })
}

/// How much of what is wrong an error repeats.
const SHOWN: usize = 10;

sql_function!(
    /// `ops.load_contract(contract jsonb, note text)`
    ops_load_contract => load_jsonb
);
fn load_jsonb(call: Call) -> pg_sys::Datum {
    load(call, call.json_text(0))
}

sql_function!(
    /// `ops.load_contract(contract text, note text)`
    ops_load_contract_text => load_text
);
fn load_text(call: Call) -> pg_sys::Datum {
    load(call, call.text(0))
}

fn load(call: Call, document: Option<String>) -> pg_sys::Datum {
    let document = document.unwrap_or_else(|| {
        Report { message: "contract must not be null".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
    });
    permission::check(call);
    let contract = valid(&document);
    let history = History::open();
    if let Some(highest) = history.highest()
        && version(&contract).cmp_precedence(&highest.version).is_le()
    {
        let same = contract.version == highest.version.to_string()
            && highest.contract.as_ref() == Some(&contract);
        Report {
            message: format!("contract {} is not higher than {}", contract.version, highest.version),
            detail: if same {
                "The same contract has been loaded already.".into()
            } else {
                "Each contract has a higher version than all that were loaded before it, so that a version says what it is."
                    .into()
            },
            hint: "Raise its version; to go back to an earlier one, SELECT * FROM ops.rollback_contract('...').".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE);
    }
    put_into_force(call, &history, &contract, &document, call.text(1))
}

sql_function!(
    /// `ops.rollback_contract(to_version text, note text)`
    ops_rollback_contract => rollback
);
fn rollback(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let history = History::open();
    let current = history.past.last().map(|p| p.version.to_string());
    let earlier = history.past.iter().rev().skip(1);
    // What was in force before this version came; going back twice leads two steps back.
    let came = history
        .past
        .iter()
        .position(|p| current.as_ref().is_some_and(|version| p.version.to_string() == *version));
    let wanted = call.text(0);
    let found = match &wanted {
        Some(version) if current.as_ref() == Some(version) => Report {
            message: format!("contract {version} is in force already"),
            ..Report::default()
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE),
        Some(version) => earlier.clone().find(|p| p.version.to_string() == *version),
        None => came.and_then(|came| came.checked_sub(1)).map(|before| &history.past[before]),
    };
    let Some((contract, document)) = found.and_then(|p| Some((p.contract.as_ref()?, &p.document)))
    else {
        let mut known: Vec<String> =
            earlier.filter(|p| p.contract.is_some()).map(|p| p.version.to_string()).collect();
        known.dedup();
        Report {
            message: match &wanted {
                Some(version) => format!("there was no contract {}", printable(version)),
                None => "there was no contract before the one in force".into(),
            },
            detail: if known.is_empty() {
                String::new()
            } else {
                format!("Earlier ones: {}.", known.join(", "))
            },
            hint: "SELECT * FROM ops.contract_history shows them.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    };
    let note =
        call.text(1).unwrap_or_else(|| format!("Rolled back from {}", current.unwrap_or_default()));
    put_into_force(call, &history, contract, document, Some(note))
}

/// Stores the contract and reports what follows from it.
fn put_into_force(
    call: Call,
    history: &History,
    contract: &Contract,
    document: &str,
    note: Option<String>,
) -> pg_sys::Datum {
    let earlier = history.past.last().and_then(|p| p.contract.as_ref());
    history.add(document, note.as_deref());
    let found = |contract: &Contract| -> HashSet<String> {
        audit::findings_under(contract, &history.state, &history.own)
            .into_iter()
            .map(|f| f.fingerprint)
            .collect()
    };
    let (before, after) = (earlier.map(found).unwrap_or_default(), found(contract));
    let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
    let changes = earlier.map(|earlier| contract::changes(earlier, contract)).unwrap_or_default();
    say(contract, after.len(), added, removed);
    call.table([vec![
        Value::Text(contract.version.clone()),
        Value::text(earlier.map(|c| c.version.clone())),
        Value::Int(after.len() as i64),
        Value::Int(added as i64),
        Value::Int(removed as i64),
        Value::Texts(changes),
    ]])
}

fn say(contract: &Contract, findings: usize, added: usize, removed: usize) {
    let count = |n: usize| if n == 1 { "1 finding".to_owned() } else { format!("{n} findings") };
    Report {
        message: format!(
            "contract {} is in force: {} now, {added} more and {removed} less than before",
            contract.version,
            count(findings)
        ),
        detail: String::new(),
        hint: match added {
            0 => String::new(),
            _ => "SELECT * FROM ops.audit_security() lists them; the guard refuses only what makes it worse.".into(),
        },
    }
    .notice();
}

sql_function!(
    /// `ops.validate_contract(contract jsonb)`
    ops_validate_contract => validate_jsonb
);
fn validate_jsonb(call: Call) -> pg_sys::Datum {
    problems(call, call.json_text(0))
}

sql_function!(
    /// `ops.validate_contract(contract text)`
    ops_validate_contract_text => validate_text
);
fn validate_text(call: Call) -> pg_sys::Datum {
    problems(call, call.text(0))
}

fn problems(call: Call, document: Option<String>) -> pg_sys::Datum {
    let problems =
        document.map(|text| examine_interruptibly(&text, &interrupts).problems).unwrap_or_default();
    call.table(problems.into_iter().map(|Problem { severity, path, problem, allowed }| {
        vec![
            Value::Text(severity.as_str().into()),
            Value::Text(path),
            Value::Text(problem),
            Value::text(allowed),
        ]
    }))
}

sql_function!(
    /// `ops.contract_schema() RETURNS jsonb`
    ops_contract_schema => schema
);
fn schema(_: Call) -> pg_sys::Datum {
    json_datum(contract::schema())
}

sql_function!(
    /// `ops.contract_changes(earlier jsonb, later jsonb) RETURNS text[]`
    ops_contract_changes => changes
);
fn changes(call: Call) -> pg_sys::Datum {
    match (call.json_text(0), call.json_text(1)) {
        (Some(earlier), Some(later)) => texts(&contract::changes(&valid(&earlier), &valid(&later))),
        _ => call.null(),
    }
}

sql_function!(
    /// `ops.audit_contract(contract jsonb)`
    ops_audit_contract => audit_contract
);
fn audit_contract(call: Call) -> pg_sys::Datum {
    let Some(document) = call.json_text(0) else { return call.table([]) };
    let contract = valid(&document);
    let state = State::now();
    let findings = audit::findings_under(&contract, &state, &Own::find(&state));
    call.table(findings.into_iter().map(row))
}

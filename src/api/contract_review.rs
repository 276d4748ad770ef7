//! What people do with a contract before it comes into force: check it, complete it in an editor, compare it, try it on the database.

use crate::audit;
use crate::catalog::Own;
use crate::pg::call::{Call, Value, json_datum, sql_function, texts};
use crate::pg::heap::{State, interrupts};
use crate::store::contract::valid;
use dragonfly_core::contract::{self, Problem, examine_interruptibly};
use pgrx::pg_sys;

sql_function!(
    /// `ops.validate_contract(contract jsonb)`
    ops_validate_contract => of_jsonb
);
fn of_jsonb(call: Call) -> pg_sys::Datum {
    rows(call, call.json_text(0))
}

sql_function!(
    /// `ops.validate_contract(contract text)`
    ops_validate_contract_text => of_text
);
fn of_text(call: Call) -> pg_sys::Datum {
    rows(call, call.text(0))
}

fn rows(call: Call, document: Option<String>) -> pg_sys::Datum {
    let problems = document.map(|text| examine_interruptibly(&text, &interrupts).problems).unwrap_or_default();
    call.table(problems.into_iter().map(|Problem { severity, path, problem, allowed }| {
        vec![Value::Text(severity.word().into()), Value::Text(path), Value::Text(problem), Value::text(allowed)]
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
    call.table(findings.into_iter().map(audit::row))
}

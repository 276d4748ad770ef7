//! `ops.exemptions()`, behind `ops.v_exemptions`: each with what it hides today.

use crate::audit;
use crate::catalog::{Look, Own};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::State;
use crate::store::contract;
use crate::store::exemptions::{Current, Record, Records};
use dragonfly_core::exemptions::{Exemptions, Standing};
use dragonfly_core::findings::Finding;
use pgrx::pg_sys;
use serde_json::json;

sql_function!(
    /// `ops.exemptions()`
    ops_exemptions => exemptions
);
fn exemptions(call: Call) -> pg_sys::Datum {
    let state = State::now();
    let own = Own::find(&state);
    let records = Records::open(&state, &own).map(|records| records.read(&state)).unwrap_or_default();
    let findings = match records.is_empty() {
        true => vec![],
        false => audit::findings_with_accepted(&contract::in_force(&state, &own), &state, &own),
    };
    let looking = Current::of(Exemptions::default(), &state, Look::Afresh);
    call.table(records.iter().map(|record| row(&looking, record, &findings)))
}

fn row(looking: &Current<'_>, record: &Record, findings: &[Finding]) -> Vec<Value> {
    crate::pg::heap::interrupts();
    let Record { exemption, exempted_at, expires_at, withdrawn } = record;
    let about: Vec<(&Finding, Standing)> = findings
        .iter()
        .filter(|f| exemption.is_about(f))
        .map(|f| (f, exemption.standing(f, &|object| looking.basis(object))))
        .collect();
    let hidden: Vec<serde_json::Value> = about
        .iter()
        .filter(|(_, standing)| *standing == Standing::Active && withdrawn.is_none())
        .map(|(f, _)| {
            json!({"severity": f.severity.word(), "object": f.object.identity, "role": f.role, "detail": f.detail, "fingerprint": f.fingerprint})
        })
        .collect();
    let status = match withdrawn {
        Some(_) => "withdrawn",
        None if exemption.is_expired => Standing::Expired.word(),
        None if hidden.is_empty() && !about.is_empty() => Standing::Changed.word(),
        None => Standing::Active.word(),
    };
    vec![
        Value::Int4(exemption.id),
        Value::Text(status.into()),
        Value::Text(exemption.rule.clone()),
        Value::Text(exemption.object.clone()),
        Value::text(exemption.fingerprint.clone()),
        Value::Text(exemption.reason.clone()),
        Value::Name(exemption.exempted_by.clone()),
        Value::Timestamp(*exempted_at),
        expires_at.map_or(Value::Null, Value::Timestamp),
        Value::Int(hidden.len() as i64),
        Value::Json(hidden.into()),
        withdrawn.as_ref().map_or(Value::Null, |(at, _)| Value::Timestamp(*at)),
        Value::name(withdrawn.as_ref().map(|(_, by)| by.clone())),
    ]
}

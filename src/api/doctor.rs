//! `ops.doctor()`: the daily check.

use super::argument;
use super::postgrest::authenticator_of;
use crate::access::Probe;
use crate::access::declared;
use crate::audit::with_findings;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::lock_timeout;
use dragonfly_core::doctor::{AccessOutcome, Check, Probes, accesses_by_name, examine};
use pgrx::pg_sys;
use std::collections::HashMap;

sql_function!(
    /// `ops.doctor(authenticator name DEFAULT NULL) RETURNS TABLE (area text, object text, ok bool,
    /// detail text, fix text)`
    ops_doctor => doctor
);
fn doctor(call: Call) -> pg_sys::Datum {
    let named = argument::optional_name(call, 0, "authenticator");
    let checks: Vec<Check> = lock_timeout::of_reader(|| checks(named.as_deref()));
    call.table(checks.into_iter().map(|check| {
        vec![
            Value::Text(check.area.into()),
            Value::Text(check.object),
            Value::Bool(check.ok),
            Value::Text(check.detail),
            Value::text(check.fix),
        ]
    }))
}

fn checks(authenticator: Option<&str>) -> Vec<Check> {
    with_findings(|cx, findings, state| {
        let probe = Probe::new(cx, state);
        let outcomes: HashMap<_, _> =
            declared::outcomes(cx, state, accesses_by_name(cx), &probe.timeout)
                .into_iter()
                .collect();
        let probes = Probes {
            view: &|view| probe.view(view),
            routine: &|routine| probe.body(routine),
            access: &|access| outcomes.get(access).cloned().unwrap_or(AccessOutcome::Works),
            interrupts: &interrupts,
        };
        examine(cx, findings, &authenticator_of(authenticator, cx.contract), &probes)
    })
}

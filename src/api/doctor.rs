//! `ops.doctor()`: the daily check.

use super::argument;
use super::postgrest::authenticator_of;
use crate::access::{Probe, TextBodies, declared};
use crate::audit::with_findings;
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::lock_timeout;
use dragonfly_core::catalog::Oid;
use dragonfly_core::doctor::{
    AccessOutcome, Check, DeclaredAccess, Probes, Server, Target, accesses_by_name, examine,
};
use dragonfly_core::rules::Context;
use pgrx::pg_sys;
use std::collections::{BTreeSet, HashMap};

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
        let accesses = accesses_by_name(cx);
        let runs: BTreeSet<_> = accesses.iter().filter_map(|access| run(cx, access)).collect();
        let routines = runs.iter().map(|(routine, _)| *routine).collect();
        let told = TextBodies::read(state, &routines).tell(cx.contract, runs);
        let outcomes: HashMap<_, _> =
            declared::outcomes(cx, state, accesses, &probe.timeout).into_iter().collect();
        let probes = Probes {
            view: &|view| probe.view(view),
            routine: &|routine| probe.body(routine),
            text: &|access| {
                let run = run(cx, access)?;
                told.get(&run).and_then(|told| told.missing.clone())
            },
            access: &|access| outcomes.get(access).cloned().unwrap_or(AccessOutcome::Works),
            interrupts: &interrupts,
        };
        let authenticator = authenticator_of(authenticator, cx.contract);
        let server = Server {
            release: catalog::release(),
            statistics_are_hidden: catalog::statistics_are_hidden(),
        };
        examine(cx, findings, &authenticator, server, &probes)
    })
}

/// Returns the routine that a declared access executes, and the role that the body runs as.
fn run(cx: &Context<'_>, access: &DeclaredAccess) -> Option<(Oid, Oid)> {
    let Target::Routine(oid) = access.target else { return None };
    let routine = cx.snapshot.routine(oid)?;
    let runs_as = if routine.security_definer { routine.owner } else { access.role };
    Some((oid, runs_as))
}

//! `ops.doctor()`: the daily check.

use super::{AUTHENTICATOR, with_findings};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::text::to_server;
use crate::pg::{restricted, setting, subtransaction};
use crate::scan;
use dragonfly_core::catalog::{ContentKind, Oid, Relation, Routine, RoutineKind};
use dragonfly_core::doctor::{Body, Check, Trials, examine};
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::{safe_ident, safe_qualified};
use pgrx::pg_sys;
use std::ffi::CString;

sql_function!(
    /// `ops.doctor(authenticator name)`
    ops_doctor => doctor
);
fn doctor(call: Call) -> pg_sys::Datum {
    let authenticator = call.name(0).unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let checks: Vec<Check> = with_findings(|cx, findings, state| {
        let role = cx.snapshot.role_named(&authenticator);
        let trials = Trials {
            view: &|relation| view(cx, relation),
            routine: &|routine| body(cx, state, routine),
            exposed_schemas: role.and_then(|role| scan::setting_of(state, role.oid, "pgrst.db_schemas")),
            interrupts: &interrupts,
        };
        examine(cx, findings, &authenticator, &trials)
    });
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

/// Has the server put the queries of a view and of the views behind it in its place, as for its owner; what is wrong, if it cannot. Nothing is planned: a
/// planner runs the functions of index expressions, statistics, partition keys, policies and operators, whoever made them.
fn view(cx: &Context<'_>, view: &Relation) -> Option<String> {
    let name = safe_qualified(cx.snapshot.schema_name(view.schema), &view.name);
    crate::explain::rewritten(&format!("SELECT * FROM {name}"), view.owner).err()
}

/// Has the validator of its language read the body of a routine, as its owner and along its own path. Reading a literal can run the checks of a domain:
/// not those of anybody but its owner and superusers.
fn body(cx: &Context<'_>, state: &State, routine: &Routine) -> Body {
    // An aggregate has none; what it calls has.
    if routine.kind == RoutineKind::Aggregate {
        return Body::Fine;
    }
    let Some(validator) = scan::validator(state, routine.oid) else { return Body::Fine };
    let is_strange = |(owner, kind): &(Oid, ContentKind)| {
        *kind == ContentKind::Type && *owner != routine.owner && !cx.access.is_superuser(*owner)
    };
    // The session's own temporary types may come first in the routine's path.
    if scan::temporary::has_schema() || cx.snapshot.contents.values().flatten().any(is_strange) {
        return Body::Unread;
    }
    let path = match settings(&routine.config).last() {
        Some(path) => (*path).to_owned(),
        None => format!("{}, public, pg_temp", safe_ident(cx.snapshot.schema_name(routine.schema))),
    };
    let path = CString::new(to_server(&path)).unwrap_or_default();
    let along = [(c"search_path", path.as_c_str()), (c"check_function_bodies", c"on")];
    let problem = tried(|| {
        restricted::as_role(routine.owner, || {
            setting::under(&along, || {
                // SAFETY: a validator takes the OID of the routine, which is there, and raises an error or returns nothing.
                unsafe { pg_sys::OidFunctionCall1Coll(validator.into(), pg_sys::InvalidOid, pg_sys::Datum::from(routine.oid)) };
                Ok(())
            })
        })
    });
    problem.map_or(Body::Fine, Body::Broken)
}

/// What is wrong, where `work` fails; whatever it did is rolled back.
fn tried(work: impl FnOnce() -> Result<(), String>) -> Option<String> {
    match subtransaction::rolled_back(work) {
        Ok(done) => done.err(),
        Err(error) => Some(subtransaction::report(&error).message().to_owned()),
    }
}

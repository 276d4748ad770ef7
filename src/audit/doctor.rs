//! `ops.doctor()`: the daily check.

use super::{AUTHENTICATOR, with_findings};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::text::to_server;
use crate::pg::{restricted, setting, strangers, subtransaction};
use crate::scan;
use dragonfly_core::catalog::{Oid, Relation, RelationKind, Role, Routine, RoutineKind};
use dragonfly_core::contract::RoleKind;
use dragonfly_core::doctor::{Check, Trial, Trials, examine};
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::{printable, safe_ident, safe_qualified};
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
            view: &|relation| view(cx, state, relation),
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

/// Has the server plan the query of a view as its owner. A planner runs functions whose arguments are constant, those of index expressions, policies and
/// operators among them: of nobody but superusers and an owner whom the contract trusts with the structure. It also asks the wrappers of foreign tables,
/// which may ask their servers.
fn view(cx: &Context<'_>, state: &State, view: &Relation) -> Trial {
    let select = format!("SELECT * FROM {}", safe_qualified(cx.snapshot.schema_name(view.schema), &view.name));
    let read = match crate::explain::rewritten(&select, view.owner) {
        Ok(read) => read,
        Err(problem) => return Trial::Broken(problem),
    };
    if read.iter().any(|oid| scan::relation_kind(state, *oid) == Some(RelationKind::ForeignTable)) {
        return Trial::Untried("that would ask the server of a foreign table".into());
    }
    let path = default_path(cx, view.schema);
    tried(cx, state, view.owner, || crate::explain::planned(&select, view.owner, &path))
}

/// Has the validator of its language read the body of a routine, as its owner and along its own path. Reading a literal can run the checks of a domain.
fn body(cx: &Context<'_>, state: &State, routine: &Routine) -> Trial {
    // An aggregate has none; what it calls has.
    if routine.kind == RoutineKind::Aggregate {
        return Trial::Fine;
    }
    let Some(validator) = scan::validator(state, routine.oid) else { return Trial::Fine };
    let path = match settings(&routine.config).last() {
        Some(path) => CString::new(to_server(path)).unwrap_or_default(),
        None => default_path(cx, routine.schema),
    };
    let along = [(c"search_path", path.as_c_str()), (c"check_function_bodies", c"on")];
    let read = || {
        restricted::as_role(routine.owner, || {
            setting::under(&along, || {
                // SAFETY: a validator takes the OID of the routine, which is there, and raises an error or returns nothing.
                unsafe { pg_sys::OidFunctionCall1Coll(validator.into(), pg_sys::InvalidOid, pg_sys::Datum::from(routine.oid)) };
            });
        });
    };
    tried(cx, state, routine.owner, || {
        subtransaction::rolled_back(read).map_err(|error| subtransaction::report(&error).message().to_owned())
    })
}

/// The path of whoever uses something without setting one: PostgREST puts the schema first.
fn default_path(cx: &Context<'_>, schema: Oid) -> CString {
    CString::new(to_server(&format!("{}, public, pg_temp", safe_ident(cx.snapshot.schema_name(schema))))).unwrap_or_default()
}

/// What comes of `work` that the server does for something of `owner`'s, while nobody else's code runs.
fn tried(cx: &Context<'_>, state: &State, owner: Oid, work: impl FnOnce() -> Result<(), String>) -> Trial {
    let is_trusted = |role: &Role| {
        role.superuser || role.oid == owner && cx.contract.roles_of(RoleKind::Owner).any(|name| name == role.name)
    };
    let trusted = cx.snapshot.roles.iter().filter(|role| is_trusted(role)).map(|role| role.oid).collect();
    match strangers::refused(trusted, work) {
        (_, Some(function)) => Trial::Untried(format!("that would run {}", of_whom(cx, state, function))),
        (Ok(()), None) => Trial::Fine,
        (Err(problem), None) => Trial::Broken(problem),
    }
}

fn of_whom(cx: &Context<'_>, state: &State, function: Oid) -> String {
    let name = scan::name(scan::PG_PROC, function).map_or_else(
        || "a function".into(),
        |(schema, name)| format!("function {}({})", safe_qualified(&schema, &name), scan::argument_types_of(state, function)),
    );
    let owner = scan::routine_owner(state, function).map(|owner| cx.snapshot.role_name(owner)).unwrap_or_default();
    format!("{}, which belongs to \"{}\"", printable(&name), printable(&owner))
}

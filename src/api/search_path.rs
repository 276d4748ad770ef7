//! The SQL functions of search paths: verdicts on one routine, on one path, and on every SECURITY
//! DEFINER routine.

use super::argument;
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::store::Installation;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{OidSet, Routine};
use dragonfly_core::rules::Context;
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::search_path::{Assessment, Path, settings};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::rc::Rc;

/// Reads what a verdict on search paths requires and calls `check` with it.
fn with_context<T>(check: impl FnOnce(&Context<'_>) -> T) -> T {
    with_bodies(&OidSet::default(), check)
}

/// As [`with_context`], with the bodies of some routines.
fn with_bodies<T>(routines: &OidSet, check: impl FnOnce(&Context<'_>) -> T) -> T {
    let Installation { state, contract, .. } = Installation::now();
    let mut snapshot = catalog::for_paths(&state);
    catalog::bodies_of(&state, routines, &mut snapshot);
    let access = Access::new(&snapshot);
    check(&Context::new(&contract, &snapshot, &access, &interrupts))
}

/// The columns verdict, reasons and canonical.
fn verdict(cx: &Context<'_>, assessment: &Assessment) -> [Value; 3] {
    [
        Value::Text(assessment.verdict.as_str().into()),
        Value::Texts(assessment.reasons.iter().map(ToString::to_string).collect()),
        Value::Bool(assessment.is_canonical(&cx.contract.security_definer.search_path)),
    ]
}

/// Adds the column `safe_path`: the list of SET search_path.
fn with_safe_path(verdict: [Value; 3], safe_path: Option<Rc<Path>>) -> Vec<Value> {
    let [verdict, reasons, canonical] = verdict;
    vec![verdict, reasons, canonical, Value::text(safe_path.map(|path| path.clause.clone()))]
}

sql_function!(
    /// `ops.judge_search_path(function regprocedure)
    /// RETURNS TABLE (verdict text, reasons text[], canonical bool, safe_path text)`
    ops_judge_search_path => of_routine
);
fn of_routine(call: Call) -> pg_sys::Datum {
    let oid = argument::required(call.oid(0), "function");
    let Some(routine) = catalog::routine(&State::now(), oid) else {
        Report {
            message: format!("routine with OID {oid} does not exist"),
            detail: "Routines in temporary schemas are not considered, because only their own \
                     session can call them."
                .into(),
            ..Report::default()
        }
        .error(PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION)
    };
    let row = with_bodies(&OidSet::from_iter([oid]), |cx| {
        let path = cx.paths.config(&routine.config, routine.owner);
        let safe_path = definer_path::suggestion(cx, &routine, &path);
        with_safe_path(verdict(cx, &cx.paths.routine(&routine)), safe_path)
    });
    call.table([row])
}

sql_function!(
    /// `ops.judge_search_path(path text, owner regrole)
    /// RETURNS TABLE (verdict text, reasons text[], canonical bool, safe_path text)`
    ops_judge_search_path_of_owner => of_path
);
fn of_path(call: Call) -> pg_sys::Datum {
    let owner = argument::required(call.oid(1), "owner");
    let path = call.text(0).map(|path| catalog::quoted_path(&path));
    let row = with_context(|cx| {
        if cx.snapshot.role(owner).is_none() {
            Report {
                message: format!("role with OID {owner} does not exist"),
                ..Report::default()
            }
            .error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT);
        }
        let assessment = match &path {
            Some(path) => cx.paths.path(path, owner),
            None => cx.paths.config(&[], owner),
        };
        let safe_path = definer_path::suggestion_for_path(cx, &assessment, owner);
        with_safe_path(verdict(cx, &assessment), safe_path)
    });
    call.table([row])
}

sql_function!(
    /// `ops.security_definer_functions() RETURNS TABLE (schema_name name, routine_name name,
    /// arguments text, owner_name name, search_path text, config text, verdict text,
    /// reasons text[], canonical bool, managed_by text)`
    ops_security_definer_functions => security_definer_functions
);
fn security_definer_functions(call: Call) -> pg_sys::Datum {
    let rows = with_context(|cx| {
        let definers = cx.snapshot.routines.iter().filter(|r| r.security_definer);
        definers.map(|routine| row(cx, routine)).collect::<Vec<_>>()
    });
    call.table(rows)
}

fn row(cx: &Context<'_>, routine: &Routine) -> Vec<Value> {
    let [verdict, reasons, canonical] = verdict(cx, &cx.paths.routine(routine));
    vec![
        Value::Name(cx.snapshot.schema_name(routine.schema).into()),
        Value::Name(routine.name.clone()),
        Value::Text(cx.snapshot.argument_names(routine).join(", ").replace("pg_catalog.", "")),
        Value::Name(cx.snapshot.role_name(routine.owner)),
        Value::text(settings(&routine.config).last().copied()),
        if routine.config.is_empty() {
            Value::Null
        } else {
            Value::Text(routine.config.join(", "))
        },
        verdict,
        reasons,
        canonical,
        Value::text(cx.routine_managed_by(routine)),
    ]
}

//! `ops.assert_consistency()`: raises an error unless the guard and its contract are consistent, so
//! that a check that passes means something.

use crate::audit::with_findings;
use crate::log::queue;
use crate::pg::call::{Call, sql_function};
use crate::pg::report::Report;
use crate::settings::{self, Mode};
use dragonfly_core::contract::{Contract, DEFAULT, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::Area;
use dragonfly_core::rules::Context;
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};

/// The number of problems that the error lists.
const SHOWN: usize = 20;

sql_function!(
    /// `ops.assert_consistency() RETURNS void`
    ops_assert_consistency => assert_consistency
);
fn assert_consistency(_: Call) -> pg_sys::Datum {
    let problems = with_findings(|cx, findings, _| {
        [session(), integrity(findings), contract(cx, findings), log()].concat()
    });
    if !problems.is_empty() {
        let count = problems.len();
        let mut lines: Vec<String> = problems.into_iter().take(SHOWN).collect();
        if count > SHOWN {
            lines.push(format!("... and {} more.", count - SHOWN));
        }
        Report {
            message: format!(
                "security guard and contract are not consistent: {count} {}",
                if count == 1 { "problem" } else { "problems" }
            ),
            detail: lines.join("\n"),
            hint: "SELECT * FROM ops.guard_status() and SELECT * FROM ops.audit_guard() show how \
                   to fix the guard; SELECT ops.contract() returns the contract in force."
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE);
    }
    pg_sys::Datum::null()
}

/// The guard must check the statements of this session.
fn session() -> Vec<String> {
    let mut problems = Vec::new();
    match settings::mode() {
        Mode::block => {}
        Mode::warn => problems.push("dragonfly_guard.mode is warn in this session.".to_owned()),
        Mode::off => problems.push("dragonfly_guard.mode is off in this session.".to_owned()),
    }
    if settings::is_restoring_a_dump() {
        problems.push(
            "The settings of this session are those of a dump that is being restored.".to_owned(),
        );
    }
    // Since PostgreSQL 17 a setting disables all event triggers.
    if settings::value("event_triggers").is_some_and(|value| value != "on") {
        problems.push("event_triggers is off in this session.".to_owned());
    }
    problems
}

/// The guard's own objects and the settings stored for it must be intact.
fn integrity(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .filter(|f| f.rule.area == Area::Guard && f.severity > Severity::Info)
        .map(|f| f.detail.clone())
        .collect()
}

/// The contract must describe this database.
fn contract(cx: &Context<'_>, findings: &[Finding]) -> Vec<String> {
    let mut problems = Vec::new();
    if cx.contract.schemas.is_empty() {
        problems.push("The contract in force governs no schema.".to_owned());
    }
    let is_shipped = Contract::from_json(DEFAULT).is_ok_and(|shipped| shipped == *cx.contract);
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    if is_shipped && errors > 0 {
        problems.push(
            "No contract has been loaded, and the database does not conform to the shipped one."
                .to_owned(),
        );
    }
    let schemas = cx.contract.schemas.iter().map(|schema| &schema.name);
    problems.extend(
        schemas
            .filter(|name| cx.snapshot.schema_named(name).is_none())
            .map(|name| format!("Governed schema \"{}\" does not exist.", printable(name))),
    );
    let roles = cx.contract.roles.iter().map(|role| &role.name);
    problems.extend(
        roles
            .filter(|name| cx.snapshot.role_named(name).is_none())
            .map(|name| format!("Declared role \"{}\" does not exist.", printable(name))),
    );
    problems
}

/// Where the library is preloaded, the log writer must be able to start.
fn log() -> Vec<String> {
    let is_stuck = queue::count().is_some_and(|count| count.stuck);
    let problem = "Log entries are waiting, and no log writer starts: increase \
                   max_worker_processes.";
    is_stuck.then(|| problem.to_owned()).into_iter().collect()
}

//! `ops.try_migration()`: what a migration would break, without keeping anything of it.

use crate::audit;
use crate::catalog::Own;
use crate::guard;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::State;
use crate::pg::report::Report;
use crate::pg::statement::{self, Refused};
use crate::pg::subtransaction;
use dragonfly_core::findings::Finding;
use dragonfly_core::rules::RULES;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::CStr;

sql_function!(
    /// `ops.try_migration(sql text)`
    ops_try_migration => try_migration
);
fn try_migration(call: Call) -> pg_sys::Datum {
    let Some(sql) = call.text(0) else { return call.table([]) };
    let before = audit::findings_now();
    let rows: Vec<Vec<Value>> = match subtransaction::rolled_back(|| run(&sql)) {
        Ok(after) => {
            let known = |findings: &[Finding]| findings.iter().map(|f| f.fingerprint.clone()).collect::<HashSet<_>>();
            let (old, new) = (known(&before), known(&after));
            let added = after.into_iter().filter(|f| !old.contains(&f.fingerprint)).map(|f| row("added", f));
            let removed = before.into_iter().filter(|f| !new.contains(&f.fingerprint)).map(|f| row("removed", f));
            added.chain(removed).collect()
        }
        Err(error) => vec![failure(&error)],
    };
    call.table(rows)
}

/// Runs the migration as the caller, with everything that would wait for the commit, and gives what an audit finds then.
fn run(sql: &str) -> Vec<Finding> {
    if statement::outlasts_the_transaction(sql) {
        cannot(
            "a statement that changes the session for good",
            "PREPARE, DEALLOCATE, DISCARD, CLOSE and LOAD are taken back by no transaction.".to_owned(),
        );
    }
    execute(sql);
    if !Own::is_there(&State::now()) {
        cannot("a migration that takes the security guard away", "There is nothing left to judge by.".to_owned());
    }
    // Deferred constraints are checked when a transaction commits.
    execute("SET CONSTRAINTS ALL IMMEDIATE");
    guard::judge_as_if_committing();
    audit::findings_now()
}

fn execute(sql: &str) {
    let Err(refused) = statement::run(sql) else { return };
    let (what, detail) = match refused {
        Refused::Transaction => {
            ("a statement that begins or ends a transaction", "The migration runs within this one.".to_owned())
        }
        Refused::Copy => ("COPY from or to the client", "There is no client that would send or take the data.".to_owned()),
        Refused::Other(_) => ("this migration", format!("{}.", refused.code())),
    };
    cannot(what, detail)
}

fn cannot(what: &str, detail: String) -> ! {
    Report { message: format!("{what} cannot be tried"), detail, hint: "Try the other statements without it.".into() }
        .error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED)
}

/// Whether a refusal that names no rule is the guard's.
fn is_the_guards(message: &str) -> bool {
    ["the security guard", "stand in the way"].iter().any(|words| message.contains(words))
}

fn row(outcome: &str, finding: Finding) -> Vec<Value> {
    let mut row = super::audit::row(finding);
    row.insert(0, Value::Text(outcome.to_owned()));
    row
}

/// That the guard refuses the migration, or that it does not run at all.
fn failure(error: &CaughtError) -> Vec<Value> {
    let report = subtransaction::report(error);
    let detail = report.detail().unwrap_or_default();
    let rule = RULES.iter().find(|rule| detail.contains(&format!("Rule {}, contract section", rule.id)));
    let outcome = match (rule, report.sql_error_code()) {
        (Some(_), _) => "refused",
        // The guard guards itself.
        (None, PgSqlErrorCode::ERRCODE_RESERVED_NAME) if is_the_guards(report.message()) => "refused",
        // What cannot run within a transaction, or wants to end it (tcop/utility.c, `PreventInTransactionBlock`; spi.c).
        (None, PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION | PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION) => {
            "not tried"
        }
        (None, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED) if report.message().ends_with("cannot be tried") => "not tried",
        (None, _) => "failed",
    };
    let code = report.sql_error_code() as i32;
    // SAFETY: gives a C string of the server's own.
    let sqlstate = unsafe { CStr::from_ptr(pg_sys::unpack_sql_state(code)) }.to_string_lossy().into_owned();
    let evidence = json!({"sqlstate": sqlstate, "detail": report.detail(), "hint": report.hint()});
    vec![
        Value::Text(outcome.to_owned()),
        Value::text(rule.map(|rule| rule.id)),
        Value::Text("error".into()),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Text(report.message().to_owned()),
        Value::Json(evidence),
        Value::Null,
        Value::text(rule.map(|rule| rule.section)),
        Value::Null,
    ]
}

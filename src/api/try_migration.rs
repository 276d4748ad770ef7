//! `ops.try_migration()`: runs a migration, returns the findings that it adds and removes, and
//! rolls it back.

use super::argument;
use crate::audit;
use crate::catalog::Own;
use crate::guard::{self, Rejection};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::State;
use crate::pg::statement::{self, NotExecuted};
use crate::pg::subtransaction;
use crate::store::Installation;
use dragonfly_core::contract::Contract;
use dragonfly_core::finding::Finding;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::CStr;

sql_function!(
    /// `ops.try_migration(sql text) RETURNS TABLE (outcome text, rule text, severity text,
    /// object_type text, schema_name name, object text, role_name name, detail text,
    /// evidence jsonb, fix text, contract_section text, fingerprint text)`
    ops_try_migration => try_migration
);
fn try_migration(call: Call) -> pg_sys::Datum {
    let sql = argument::text(call, 0, "sql");
    let Installation { contract, .. } = Installation::now();
    let before = audit::findings_now();
    let earlier = guard::before_trial();
    let result = subtransaction::rolled_back(|| run(&sql));
    guard::after_trial(earlier);
    let rows = match result {
        Ok(Ok(after)) => differences(before, after, &contract),
        Ok(Err(reason)) => vec![reason.failure().row(&contract)],
        Err(error) => vec![Failure::of(&error).row(&contract)],
    };
    call.table(rows)
}

/// Returns a row for each finding that exists only after the migration, or only before it.
fn differences(before: Vec<Finding>, after: Vec<Finding>, contract: &Contract) -> Vec<Vec<Value>> {
    let known = |findings: &[Finding]| {
        findings.iter().map(|f| f.fingerprint.clone()).collect::<HashSet<_>>()
    };
    let (old, new) = (known(&before), known(&after));
    let row = |outcome: &str, finding| {
        let mut row = super::audit::row(finding, contract);
        row.insert(0, Value::Text(outcome.to_owned()));
        row
    };
    let added =
        after.into_iter().filter(|f| !old.contains(&f.fingerprint)).map(|f| row("added", f));
    let removed =
        before.into_iter().filter(|f| !new.contains(&f.fingerprint)).map(|f| row("removed", f));
    added.chain(removed).collect()
}

/// Runs the migration as the caller, with everything that happens at commit, and returns the
/// findings of an audit after it.
fn run(sql: &str) -> Result<Vec<Finding>, NotTried> {
    if statement::outlasts_the_transaction(sql) {
        return Err(NotTried::ChangesSession);
    }
    statement::run(sql).map_err(NotTried::Statement)?;
    if !Own::is_there(&State::now()) {
        return Err(NotTried::DropsGuard);
    }
    // Deferred constraints are checked when a transaction commits.
    statement::run("SET CONSTRAINTS ALL IMMEDIATE").map_err(NotTried::Statement)?;
    guard::check_as_if_committing();
    Ok(audit::findings_now())
}

/// Why a migration cannot be tried.
#[derive(Debug, Clone, Copy)]
enum NotTried {
    /// Rolling back would not undo one of its statements.
    ChangesSession,
    /// It drops the extension.
    DropsGuard,
    /// One of its statements cannot be executed by a function.
    Statement(NotExecuted),
}

impl NotTried {
    fn failure(self) -> Failure {
        let (what, detail) = match self {
            Self::ChangesSession => (
                "a statement that changes the session",
                "PREPARE, DEALLOCATE, DISCARD, CLOSE and LOAD cannot be rolled back.".to_owned(),
            ),
            Self::DropsGuard => (
                "a migration that drops the security guard",
                "Without the extension there is no contract to check against.".to_owned(),
            ),
            Self::Statement(NotExecuted::Transaction) => (
                "a statement that begins or ends a transaction",
                "The migration runs within the current transaction.".to_owned(),
            ),
            Self::Statement(NotExecuted::Copy) => (
                "COPY from or to the client",
                "There is no client to send or receive the data.".to_owned(),
            ),
            Self::Statement(rejected @ NotExecuted::Other(_)) => {
                ("this migration", format!("{}.", rejected.code()))
            }
        };
        Failure {
            outcome: Outcome::NotTried,
            code: PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            message: format!("{what} cannot be tried"),
            detail: Some(detail),
            hint: Some("Try the other statements without it.".to_owned()),
        }
    }
}

/// The outcome of a migration that was not executed completely.
#[derive(Clone, Copy)]
enum Outcome {
    /// The guard rejects it.
    Rejected(Rejection),
    /// It can run only outside a transaction, or ends the transaction.
    NotTried,
    /// It raises another error.
    Failed,
}

impl Outcome {
    /// Reads the error fields and not the text, which may be a translation or imitate another
    /// error.
    fn of(error: &CaughtError) -> Self {
        if let Some(rejection) = Rejection::of(error) {
            return Self::Rejected(rejection);
        }
        match subtransaction::report(error).sql_error_code() {
            // xact.c, `PreventInTransactionBlock`; spi.c.
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION
            | PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION => Self::NotTried,
            _ => Self::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::NotTried => "not tried",
            Self::Failed => "failed",
        }
    }
}

/// A migration that was not executed completely, and what is reported about it.
struct Failure {
    outcome: Outcome,
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    fn of(error: &CaughtError) -> Self {
        let report = subtransaction::report(error);
        Self {
            outcome: Outcome::of(error),
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
        }
    }

    /// Returns the columns of a finding of severity `error` about no object.
    fn row(self, contract: &Contract) -> Vec<Value> {
        let rule =
            if let Outcome::Rejected(rejection) = self.outcome { rejection.rule() } else { None };
        let code = self.code as i32;
        // SAFETY: returns a C string in a static buffer of the server, which is copied at once.
        let sqlstate = unsafe { CStr::from_ptr(pg_sys::unpack_sql_state(code)) }
            .to_string_lossy()
            .into_owned();
        let evidence = json!({"sqlstate": sqlstate, "detail": self.detail, "hint": self.hint});
        vec![
            Value::Text(self.outcome.as_str().to_owned()),
            Value::text(rule.map(|rule| rule.id)),
            Value::Text("error".into()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Text(self.message),
            Value::Json(evidence.into()),
            Value::Null,
            Value::text(rule.and_then(|rule| contract.section(rule.id))),
            Value::Null,
        ]
    }
}

//! Errors that reading or changing any of the extension's tables can raise.

use crate::pg::report::Report;
use dragonfly_core::guard::RUNBOOK;
use pgrx::PgSqlErrorCode;

/// The contents of a table, and the view that shows them, for messages.
pub struct Subject {
    /// The rows of the table, for example `the exemptions`.
    pub name: &'static str,
    /// The view, for example `ops.v_exemptions`.
    pub view: &'static str,
}

/// Raises the error for a table that another transaction has changed since this transaction took
/// its snapshot.
pub fn changed_since(subject: &Subject) -> ! {
    let Subject { name, view } = subject;
    Report {
        message: format!("could not serialize access due to a concurrent change of {name}"),
        detail: String::new(),
        hint: format!(
            "Run SELECT * FROM {view}; to see the change, then retry in a new transaction."
        ),
    }
    .error(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE)
}

/// Raises the error for a table that does not have the definition of the install script.
pub fn table_changed(table: &str, detail: impl Into<String>, hint: &str) -> ! {
    Report {
        message: format!("table dragonfly_guard.{table} has been altered"),
        detail: detail.into(),
        hint: format!("{hint} {RUNBOOK}"),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// The HINT for an altered table that the audit reports.
pub const AUDIT_GUARD: &str = "Run SELECT * FROM ops.audit_guard(); to see the difference.";

//! Errors that every table of the extension's own can raise.

use crate::pg::report::Report;
use pgrx::PgSqlErrorCode;

/// What a table holds, in the words of an error, and the view that shows it.
pub struct Subject {
    /// With its verb: `the exemptions have`.
    pub has: &'static str,
    /// `ops.v_exemptions`.
    pub view: &'static str,
}

/// Raises the error for a table that another transaction has changed since this one began to see a
/// state of its own.
pub fn changed_since(subject: &Subject) -> ! {
    let Subject { has, view } = subject;
    Report {
        message: format!("could not serialize access: {has} changed since this transaction began"),
        detail: String::new(),
        hint: format!("SELECT * FROM {view} shows how; try again in a new transaction."),
    }
    .error(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE)
}

/// Raises the error for a table that is not as the extension made it.
pub fn table_changed(table: &str, detail: impl Into<String>, hint: &str) -> ! {
    Report {
        message: format!("the table dragonfly_guard.{table} has been changed"),
        detail: detail.into(),
        hint: hint.into(),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// The HINT of a changed table that the audit reports.
pub const AUDIT_GUARD: &str = "SELECT * FROM ops.audit_guard() says what is wrong.";

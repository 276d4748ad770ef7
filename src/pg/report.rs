//! Errors, warnings and log lines in PostgreSQL's style: primary message lower case without a period, DETAIL a sentence, HINT a way out.

use super::text::for_message;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys::panic::ErrorReport};

/// What is to be said.
#[derive(Debug, Default)]
pub struct Report {
    /// Primary message.
    pub message: String,
    /// DETAIL, left away where empty.
    pub detail: String,
    /// HINT, left away where empty.
    pub hint: String,
}

impl Report {
    fn at(self, level: PgLogLevel, code: PgSqlErrorCode) {
        let mut report = ErrorReport::new(code, for_message(self.message), "dragonfly_guard");
        if !self.detail.is_empty() {
            report = report.set_detail(for_message(self.detail));
        }
        if !self.hint.is_empty() {
            report = report.set_hint(for_message(self.hint));
        }
        report.report(level);
    }

    /// Ends the statement.
    pub fn error(self, code: PgSqlErrorCode) -> ! {
        self.at(PgLogLevel::ERROR, code);
        unreachable!("an error has been raised")
    }

    /// Tells the client.
    pub fn warning(self, code: PgSqlErrorCode) {
        self.at(PgLogLevel::WARNING, code);
    }

    /// Tells the server log alone.
    pub fn log(self) {
        self.at(PgLogLevel::LOG, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION);
    }
}

/// An argument that names nothing there is: the error lists what there is.
pub fn unknown_argument(kind: &str, given: &str, valid: &[&str]) -> ! {
    let given = dragonfly_core::sql::printable(given);
    Report {
        message: format!("there is no {kind} \"{given}\""),
        detail: String::new(),
        hint: format!("Valid: {}.", valid.join(", ")),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

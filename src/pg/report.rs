//! Errors, warnings and log lines in PostgreSQL's style: primary message lower case without a
//! period, DETAIL a sentence, HINT a way out.

use super::text::for_message;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ffi::{CString, c_char, c_int};

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

/// The origin of an error for which none is named.
const EXTENSION: &str = "dragonfly_guard";

impl Report {
    fn at(self, level: PgLogLevel, code: PgSqlErrorCode, origin: &'static str) {
        let mut report = ErrorReport::new(code, for_message(self.message), origin);
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
        self.error_from(EXTENSION, code)
    }

    /// Ends the statement with an error that [`origin`] recognizes.
    pub fn error_from(self, origin: &'static str, code: PgSqlErrorCode) -> ! {
        self.at(PgLogLevel::ERROR, code, origin);
        unreachable!("an error has been raised")
    }

    /// Tells the client something that is as it should be.
    pub fn notice(self) {
        self.at(PgLogLevel::NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, EXTENSION);
    }

    /// Tells the client.
    pub fn warning(self, code: PgSqlErrorCode) {
        self.at(PgLogLevel::WARNING, code, EXTENSION);
    }
}

/// The origin that an error of this extension was given; `None` for any other error.
///
/// The origin is the error's function name, and counts only beside the name of this file. SQL can
/// set neither of the two, no translation changes them, and they stay with an error that a
/// procedural language catches and raises again.
pub fn origin(report: &ErrorReportWithLevel) -> Option<&str> {
    // The server keeps the last part of the path only (elog.c).
    let is_this = |path: &str| path.rsplit('/').next() == file!().rsplit('/').next();
    report.function_name().filter(|_| is_this(report.file()))
}

/// One line in the server log and nowhere else, without the statement that the server would add: it
/// may hold a password.
pub fn to_server_log(line: &str) {
    unsafe extern "C-unwind" {
        fn errstart(level: c_int, domain: *const c_char) -> bool;
        fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
    let Ok(text) = CString::new(super::text::to_server(&for_message(line.to_owned()))) else {
        return;
    };
    // SAFETY: what `ereport(LOG_SERVER_ONLY, ...)` does (elog.h). The two functions that are not
    // pgrx's are called in its setting for errors.
    unsafe {
        if pg_sys::ffi::pg_guard_ffi_boundary(|| {
            errstart(pg_sys::LOG_SERVER_ONLY as c_int, std::ptr::null())
        }) {
            pg_sys::errmsg_internal(c"%s".as_ptr(), text.as_ptr());
            pg_sys::errhidestmt(true);
            pg_sys::errhidecontext(true);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                errfinish(c"dragonfly_guard".as_ptr(), 0, c"log".as_ptr())
            });
        }
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

//! Errors, warnings and log lines in PostgreSQL's style: the primary message is lower case without
//! a period, DETAIL is a full sentence, HINT is the next command or action.

use super::text::for_message;
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_core::sql::{capitalized, printable, quote_literal};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};
use std::ffi::{CString, c_char, c_int};

/// A message to the client.
#[derive(Debug, Default)]
pub struct Report {
    /// The primary message.
    pub message: String,
    /// The DETAIL; omitted where empty.
    pub detail: String,
    /// The HINT; omitted where empty.
    pub hint: String,
}

unsafe extern "C-unwind" {
    /// Begins a report, which `errfinish` ends (elog.h); false where it is not wanted. pgrx does
    /// not bind the two functions.
    pub(super) fn errstart(level: c_int, domain: *const c_char) -> bool;
    pub(super) fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// The origin of errors for which no other is given.
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

    /// Raises an error.
    pub fn error(self, code: PgSqlErrorCode) -> ! {
        self.error_from(EXTENSION, code)
    }

    /// Raises an error with an origin, which [`origin`] returns.
    pub fn error_from(self, origin: &'static str, code: PgSqlErrorCode) -> ! {
        self.at(PgLogLevel::ERROR, code, origin);
        unreachable!("an error has been raised")
    }

    /// Sends a NOTICE to the client.
    pub fn notice(self) {
        self.at(PgLogLevel::NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, EXTENSION);
    }

    /// Sends a WARNING to the client.
    pub fn warning(self, code: PgSqlErrorCode) {
        self.at(PgLogLevel::WARNING, code, EXTENSION);
    }
}

/// Returns the origin of an error of this extension; `None` for any other error.
///
/// The origin is stored as the error's function name, and the name of this file as the error's file
/// identifies it. SQL can set neither of the two, they are not translated, and an error keeps them
/// when a procedural language catches it and raises it again.
pub fn origin(report: &ErrorReportWithLevel) -> Option<&str> {
    // The server keeps the last part of the path only (elog.c).
    let is_this = |path: &str| path.rsplit('/').next() == file!().rsplit('/').next();
    report.function_name().filter(|_| is_this(report.file()))
}

/// Writes a line to the server log only. The statement, which the server would add, is suppressed
/// because it may contain a password.
pub fn to_server_log(line: &str) {
    let Ok(text) = CString::new(super::text::to_server(&for_message(line.to_owned()))) else {
        return;
    };
    // SAFETY: the calls that `ereport(LOG_SERVER_ONLY, ...)` expands to (elog.h). The two functions
    // that pgrx does not bind are called within its guard for errors.
    unsafe {
        if pg_sys::ffi::pg_guard_ffi_boundary(|| {
            errstart(pg_sys::LOG_SERVER_ONLY as c_int, std::ptr::null())
        }) {
            pg_sys::errmsg_internal(c"%s".as_ptr(), text.as_ptr());
            pg_sys::errhidestmt(true);
            pg_sys::errhidecontext(true);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                errfinish(c"dragonfly_guard".as_ptr(), 0, c"log".as_ptr());
            });
        }
    }
}

/// Raises the error for a schema that is not among the valid ones. Where it is a list of them, the
/// HINT says how to name several.
pub fn unknown_schema(given: &str, valid: &[&str]) -> ! {
    let names: Vec<&str> = given.split(',').map(str::trim).collect();
    if names.len() > 1 && names.iter().all(|name| valid.contains(name)) {
        let names: Vec<String> = names.into_iter().map(quote_literal).collect();
        Report {
            message: format!("unrecognized schema \"{}\"", printable(given)),
            detail: String::new(),
            hint: format!("To name several schemas, use ARRAY[{}].", printable(&names.join(", "))),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
    unknown_argument("schema", given, valid)
}

/// Raises the error for an argument with an unknown name. The HINT names the valid one that was
/// probably meant, and lists them.
pub fn unknown_argument(kind: &str, given: &str, valid: &[&str]) -> ! {
    if valid.is_empty() {
        unrecognized(kind, given, "There is none.".into())
    }
    let meant = meant(given, valid);
    unrecognized(kind, given, format!("{meant}Valid: {}.", valid.join(", ")))
}

/// Raises the error for an argument that is no rule. There are too many to list them.
pub fn unknown_rule(given: &str, valid: &[&str]) -> ! {
    let meant = meant(given, valid);
    let hint = format!("{meant}SELECT rule, title FROM ops.security_rules() lists the rules.");
    unrecognized("rule", given, hint)
}

/// Returns the question for the valid name that was probably meant, if there is one.
fn meant(given: &str, valid: &[&str]) -> String {
    let meant = did_you_mean(given, valid.iter().copied());
    meant.map(|question| format!("{} ", capitalized(&question))).unwrap_or_default()
}

fn unrecognized(kind: &str, given: &str, hint: String) -> ! {
    let message = format!("unrecognized {kind} \"{}\"", printable(given));
    Report { message, detail: String::new(), hint }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

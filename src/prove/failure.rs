//! Errors of the server, with what the reader can do about them.

use crate::pg::subtransaction;
use dragonfly_core::sql::capitalized;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;

/// How much of the message of an error is returned.
const LONGEST: usize = 200;

/// An error of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its message.
    pub message: String,
    /// What a reader knows or does about it, as sentences; may be empty.
    pub advice: String,
    /// Whether a policy rejects a row, or a privilege is missing.
    pub is_of_privilege: bool,
}

impl Failure {
    /// Returns what an error says.
    pub fn of(error: &CaughtError) -> Self {
        let report = subtransaction::report(error);
        let short = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let code = report.sql_error_code();
        // The DETAIL names the key.
        let names_key = matches!(
            code,
            PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
                | PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
        );
        let detail = report.detail().filter(|_| names_key).map(short);
        let advice = advice(code).map(str::to_owned);
        let all: Vec<String> = detail.into_iter().chain(advice).collect();
        Self {
            message: short(report.message()),
            advice: all.join(" "),
            is_of_privilege: code == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        }
    }

    /// Returns the error and the advice as sentences.
    pub fn sentences(&self) -> String {
        self.after(&capitalized(&self.message))
    }

    /// Returns sentences of which the first one is `said`, without its full stop.
    pub fn after(&self, said: &str) -> String {
        if self.advice.is_empty() { format!("{said}.") } else { format!("{said}. {}", self.advice) }
    }
}

/// Returns what a reader can do about an error.
fn advice(code: PgSqlErrorCode) -> Option<&'static str> {
    Some(match code {
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
            "Call the function again with a higher limit: SET statement_timeout = '1min'."
        }
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
            "Another session holds the lock: call the function again later, or after SET \
             lock_timeout = '1min'."
        }
        PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION => {
            "The role has no INSERT on that column and it has no default, or a trigger removes the \
             value."
        }
        PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION => {
            "Insert the row that is missing, and have ops.prove_isolation() use it: its arguments \
             a and b are the claims."
        }
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION => {
            "A row that is there is in the way: delete it, or try other callers with the \
             arguments a and b of ops.prove_isolation()."
        }
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION => {
            "Insert a row that meets the constraint: the columns that the policy does not ask for \
             are then filled as in that row."
        }
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT => {
            "What the condition asks for is not set: set the parameter before the call, as the \
             application does."
        }
        code if is_data_exception(code) => {
            "The condition cannot read a value that was made up: give values that it can read in \
             the arguments a and b of ops.prove_isolation()."
        }
        _ => return None,
    })
}

/// Whether an error is of class 22.
fn is_data_exception(code: PgSqlErrorCode) -> bool {
    // Five characters of six bits each, the first one lowest (elog.h).
    let of = |c: u8| i32::from(c - b'0') & 0x3f;
    code as i32 & 0xfff == of(b'2') | of(b'2') << 6
}

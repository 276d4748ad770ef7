//! Limits for how long the server waits for a lock.

use super::report::{Report, origin};
use super::{setting, subtransaction};
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

/// How long functions that only read the catalog wait for a lock where the session does not set
/// `lock_timeout`, in milliseconds.
const OF_READERS: i32 = 5_000;

/// Returns the session's `lock_timeout` in milliseconds; 0: it waits without a limit.
fn of_session() -> i32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::LockTimeout }
}

/// Executes `work`, which waits for each lock at most `limit` milliseconds, or `lock_timeout` where
/// that is shorter. Where `limit` is exceeded, raises an error with the report that `exceeded`
/// returns, and SQLSTATE 55P03.
pub fn at_most<T>(
    limit: i32,
    exceeded: impl Fn() -> Report + UnwindSafe + RefUnwindSafe,
    work: impl FnOnce() -> T,
) -> T {
    if (1..=limit).contains(&of_session()) {
        return work();
    }
    let value = CString::new(format!("{limit}ms")).unwrap_or_default();
    PgTryBuilder::new(AssertUnwindSafe(|| {
        setting::under(&[(c"lock_timeout", value.as_c_str())], work)
    }))
    .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |error| {
        // Errors of this extension with the same SQLSTATE say more.
        if origin(subtransaction::report(&error)).is_some() {
            error.rethrow();
        }
        exceeded().error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE)
    })
    .execute()
}

/// Executes `work`, which only reads the catalog, and waits for each lock as long as `lock_timeout`
/// allows, or a few seconds where the session does not set it: a daily check must not wait for the
/// end of a long migration.
pub fn of_reader<T>(work: impl FnOnce() -> T) -> T {
    if of_session() > 0 {
        return work();
    }
    let exceeded = || Report {
        message: "could not obtain a lock on a table or view that must be read".into(),
        detail: format!("Another session has held it for more than {OF_READERS} ms."),
        hint: "Run the statement again when the other transaction has ended, or set lock_timeout \
               to wait longer."
            .into(),
    };
    at_most(OF_READERS, exceeded, work)
}

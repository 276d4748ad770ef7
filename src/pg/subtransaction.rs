//! Executing work whose errors do not abort the transaction.

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, RefUnwindSafe};
use std::time::{Duration, Instant};

/// Executes `work` in a subtransaction, as PL/pgSQL executes a block with EXCEPTION (pl_exec.c,
/// `exec_stmt_block`).
///
/// # Errors
/// The error of `work`, whose changes are rolled back. Cancellation, shutdown and out-of-memory
/// errors are not caught.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    run(work, |_| pg_sys::ReleaseCurrentSubTransaction)
}

/// Executes `work` as [`attempt`] does, and rolls its changes back in any case.
///
/// # Errors
/// As for [`attempt`].
pub fn rolled_back<T>(work: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    run(work, |_| pg_sys::RollbackAndReleaseCurrentSubTransaction)
}

/// Executes `work` as [`attempt`] does, and rolls its changes back unless `is_kept` returns true
/// for its result.
///
/// # Errors
/// As for [`attempt`].
pub fn kept_if<T>(
    work: impl FnOnce() -> T,
    is_kept: impl FnOnce(&T) -> bool,
) -> Result<T, Box<CaughtError>> {
    run(work, |result| end_of(is_kept(result)))
}

unsafe extern "C-unwind" {
    // Timers of the backend (timeout.h). pgrx does not bind the functions.
    fn get_timeout_active(id: c_int) -> bool;
    fn enable_timeout_after(id: c_int, milliseconds: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
}

/// The timer of `statement_timeout`.
const STATEMENT_TIMEOUT: c_int = 3;

/// Executes `work` as [`kept_if`] does, and cancels it after some milliseconds, unless the session
/// has a `statement_timeout` of its own.
///
/// # Errors
/// As for [`attempt`], and that it took too long.
pub fn limited<T>(
    milliseconds: c_int,
    work: impl FnOnce() -> T,
    is_kept: impl FnOnce(&T) -> bool,
) -> Result<T, Box<CaughtError>> {
    // SAFETY: reads and sets a timer of the backend, which is not in use.
    let is_own = unsafe {
        let is_own = !get_timeout_active(STATEMENT_TIMEOUT);
        if is_own {
            enable_timeout_after(STATEMENT_TIMEOUT, milliseconds);
        }
        is_own
    };
    let start = Instant::now();
    let limit = Duration::from_millis(u64::from(milliseconds.unsigned_abs()));
    let stop = || {
        if is_own {
            // SAFETY: the timer was set above.
            unsafe { disable_timeout(STATEMENT_TIMEOUT, false) };
        }
    };
    let when_done = |result: &T| {
        stop();
        end_of(is_kept(result))
    };
    let is_over = || {
        stop();
        is_own && start.elapsed() >= limit
    };
    run_with(work, when_done, is_over)
}

fn end_of(is_kept: bool) -> unsafe fn() {
    if is_kept {
        pg_sys::ReleaseCurrentSubTransaction
    } else {
        pg_sys::RollbackAndReleaseCurrentSubTransaction
    }
}

fn run<T>(
    work: impl FnOnce() -> T,
    when_done: impl FnOnce(&T) -> unsafe fn(),
) -> Result<T, Box<CaughtError>> {
    run_with(work, when_done, || false)
}

/// Executes `work`; `catches_cancel` is called after an error, and tells whether a cancellation is
/// returned as one.
fn run_with<T>(
    work: impl FnOnce() -> T,
    when_done: impl FnOnce(&T) -> unsafe fn(),
    catches_cancel: impl Fn() -> bool + RefUnwindSafe,
) -> Result<T, Box<CaughtError>> {
    // SAFETY: reads variables of the backend and starts a subtransaction, which one of the two
    // branches below ends.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let end = |how: unsafe fn()| {
        // SAFETY: the subtransaction is the current one; memory context and resource owner are
        // restored afterwards.
        unsafe {
            pg_sys::MemoryContextSwitchTo(context);
            how();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        end(when_done(&result));
        Ok(result)
    }))
    .catch_others(|error| {
        end(pg_sys::RollbackAndReleaseCurrentSubTransaction);
        let is_caught = catches_cancel() && is_timeout(&error);
        if is_cancelled(&error) && !is_caught { error.rethrow() } else { Err(Box::new(error)) }
    })
    .execute()
}

/// Returns the report of an error.
pub fn report(error: &CaughtError) -> &ErrorReportWithLevel {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    report
}

fn is_timeout(error: &CaughtError) -> bool {
    report(error).sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED
}

fn is_cancelled(error: &CaughtError) -> bool {
    matches!(
        report(error).sql_error_code(),
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    )
}

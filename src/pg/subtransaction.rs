//! Executing work whose errors do not abort the transaction.

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

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
    run(work, |result| {
        if is_kept(result) {
            pg_sys::ReleaseCurrentSubTransaction
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction
        }
    })
}

fn run<T>(
    work: impl FnOnce() -> T,
    when_done: impl FnOnce(&T) -> unsafe fn(),
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
        if is_cancelled(&error) { error.rethrow() } else { Err(Box::new(error)) }
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

fn is_cancelled(error: &CaughtError) -> bool {
    matches!(
        report(error).sql_error_code(),
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    )
}

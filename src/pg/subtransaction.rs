//! Work that may fail without taking the transaction along.

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs `work` in a subtransaction of its own, as PL/pgSQL runs a block with EXCEPTION (pl_exec.c,
/// `exec_stmt_block`).
///
/// # Errors
/// What the work raised; everything it did is rolled back. That somebody cancels it is no such
/// error, and goes on.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    run(work, pg_sys::ReleaseCurrentSubTransaction)
}

/// The same, and everything that the work did is rolled back in any case.
///
/// # Errors
/// What the work raised.
pub fn rolled_back<T>(work: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    run(work, pg_sys::RollbackAndReleaseCurrentSubTransaction)
}

fn run<T>(work: impl FnOnce() -> T, when_done: unsafe fn()) -> Result<T, Box<CaughtError>> {
    // SAFETY: reads variables of the backend, and begins a subtransaction, which one of the two
    // arms below ends.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let end = |how: unsafe fn()| {
        // SAFETY: the subtransaction is the current one; afterwards memory context and resource
        // owner are those of before.
        unsafe {
            pg_sys::MemoryContextSwitchTo(context);
            how();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        end(when_done);
        Ok(result)
    }))
    .catch_others(|error| {
        end(pg_sys::RollbackAndReleaseCurrentSubTransaction);
        if is_cancelled(&error) { error.rethrow() } else { Err(Box::new(error)) }
    })
    .execute()
}

/// What an error says.
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

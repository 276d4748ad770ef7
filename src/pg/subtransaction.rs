//! Work that may fail without taking the transaction along.

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs `work` in a subtransaction of its own, as PL/pgSQL runs a block with EXCEPTION (pl_exec.c, `exec_stmt_block`).
///
/// # Errors
/// What the work raised; everything it did is rolled back. That somebody cancels it is no such error, and goes on.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Box<CaughtError>> {
    // SAFETY: reads variables of the backend, and begins a subtransaction, which one of the two arms below ends.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let end = |how: unsafe fn()| {
        // SAFETY: the subtransaction is the current one; afterwards memory context and resource owner are those of before.
        unsafe {
            pg_sys::MemoryContextSwitchTo(context);
            how();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        end(pg_sys::ReleaseCurrentSubTransaction);
        Ok(result)
    }))
    .catch_others(|error| {
        end(pg_sys::RollbackAndReleaseCurrentSubTransaction);
        match is_cancelled(&error) {
            true => error.rethrow(),
            false => Err(Box::new(error)),
        }
    })
    .execute()
}

fn is_cancelled(error: &CaughtError) -> bool {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    matches!(
        report.sql_error_code(),
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    )
}

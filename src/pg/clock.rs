//! The current time.

use pgrx::pg_sys;

/// Returns the current time as a timestamptz: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

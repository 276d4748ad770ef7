//! The time.

use pgrx::pg_sys;

/// The time now, as a timestamptz: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: asks the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

//! The log table, `dragonfly_guard.log`.

use crate::catalog::Own;
use crate::pg::call::json_datum;
use crate::pg::heap::{self, Appended, State};
use pgrx::pg_sys;

/// The number of rows that are kept, the newest ones.
const KEPT: usize = 10_000;

/// Adds a row. `at` is in microseconds since 2000.
pub fn append(at: i64, json: &str) -> Appended {
    let Some(table) = Own::log_table(&State::now()) else { return Appended::Impossible };
    let Ok(value) = serde_json::from_str(json) else { return Appended::Impossible };
    heap::append(
        table,
        &[
            (pg_sys::TIMESTAMPTZOID, pg_sys::Datum::from(at)),
            (pg_sys::JSONBOID, json_datum(&value)),
        ],
    )
}

/// Deletes the oldest rows.
pub fn trim() {
    let state = State::now();
    if let Some(table) = Own::log_table(&state) {
        heap::keep_newest(table, "at", KEPT, &state);
    }
}

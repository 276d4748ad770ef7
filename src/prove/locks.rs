//! Session-level advisory locks, which no rollback releases.

use crate::pg::setting::{self, SAFE_PATH};
use crate::pg::{statement, subtransaction};

/// The advisory locks of the session, each as the call that releases it.
const HELD: &str = "
    SELECT 'pg_catalog.pg_advisory_unlock' || CASE mode WHEN 'ShareLock' THEN '_shared' ELSE '' END
             || CASE objsubid
                  WHEN 1 THEN format('(%s)', (classid::int8 << 32) | objid::int8)
                  ELSE format('(%s, %s)', classid::int8::bit(32)::int4,
                              objid::int8::bit(32)::int4)
                END
      FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// How often one lock that was taken several times is released.
const MOST: usize = 1_000;

/// Executes `work`, and releases the session-level advisory locks that it has taken and that the
/// session had not before.
pub fn released<T>(work: impl FnOnce() -> T) -> T {
    let before = held();
    let result = work();
    for _ in 0..MOST {
        let taken: Vec<String> = held().into_iter().filter(|of| !before.contains(of)).collect();
        if taken.is_empty() {
            break;
        }
        let sql = format!("SELECT {}", taken.join(", "));
        if subtransaction::attempt(|| statement::count(&sql)).is_err() {
            break;
        }
    }
    result
}

fn held() -> Vec<String> {
    let read = || setting::under(&[SAFE_PATH], || statement::rows(HELD));
    let rows = subtransaction::attempt(read).unwrap_or_default();
    rows.into_iter().filter_map(|row| row.into_iter().next()?).collect()
}

//! The log of the guard: a line of JSON in the server log and a row of `dragonfly_guard.log` for
//! each event.
//!
//! The line is always written. Where the library is preloaded, a background worker ([`writer`])
//! inserts the row, because a rejected transaction is rolled back with its rows. Elsewhere, events
//! other than rejections get a row, inserted in the transaction itself.

mod entry;
mod launcher;
pub mod queue;
mod slots;
mod spool;
mod writer;

use crate::pg::{clock, report};
use crate::store::log::{Repeated, Row, append};
use entry::Entry;
pub use entry::{About, Event};
pub use launcher::register as register_launcher;

/// Writes an event to the server log and to the log table; `command` is the command tag.
pub fn write(event: Event, command: &str, about: About<'_>) {
    let entry = Entry::now(event, command, about);
    let line = entry.line();
    report::to_server_log(&line);
    if queue::exists() {
        match entry.line_within(queue::ENTRY) {
            Some(line) => {
                queue::push(&line);
                launcher::start_writers();
            }
            None => queue::count_dropped(),
        }
    } else if event != Event::Rejected && !is_standby() {
        let at = clock::now();
        append(&Row { at, json: &line, repeated: Repeated { count: 0, last_at: at } });
    }
}

/// Whether the server is a standby, on which a session can change its mode but write no row.
fn is_standby() -> bool {
    // SAFETY: reads a variable of the server.
    unsafe { pgrx::pg_sys::RecoveryInProgress() }
}

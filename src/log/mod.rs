//! What the guard did and let pass: a line of JSON in the server log for each event, and a row of
//! `dragonfly_guard.log`.
//!
//! The line is always written. The row is written by a process of its own where the library is
//! preloaded ([`writer`]), for what is refused is rolled back, and its row would be too; elsewhere
//! only what was not refused gets one, in its own transaction.

mod entry;
mod launcher;
pub mod queue;
mod writer;

use crate::pg::{clock, report};
use crate::store::log::append;
use dragonfly_core::guard::Rejection;
use entry::Entry;
pub use entry::Event;
pub use launcher::register as register_launcher;

/// Writes an event to the server log and to the table; `command` is its tag.
pub fn write(event: Event, command: &str, rejection: Option<&Rejection>) {
    let entry = Entry::now(event, command, rejection);
    let line = entry.line();
    report::to_server_log(&line);
    if queue::is_there() {
        match entry.line_within(queue::ENTRY) {
            Some(line) => {
                queue::push(&line);
                launcher::start_writers();
            }
            None => queue::drop_one(),
        }
    } else if event != Event::Rejected {
        append(clock::now(), &line);
    }
}

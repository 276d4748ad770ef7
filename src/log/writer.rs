//! The writer: a background worker for one database, started when there are entries to insert. It
//! ends soon after the last entry, because a database with a connected worker cannot be dropped.

use super::queue;
use crate::pg::heap::Appended;
use crate::store::log::{append, trim};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};
use std::time::Duration;

/// The time between two reads of the queue.
const INTERVAL: Duration = Duration::from_millis(100);

/// The number of intervals without an entry after which the writer ends.
const MOST_IDLE: u32 = 10;

/// The number of intervals for which entries are kept while another session has locked the table.
const MOST_RETRIES: u32 = 20;

/// Starts a writer for a database and returns whether it could: not where the server has no free
/// background worker (`max_worker_processes`).
pub fn start(database: u32) -> bool {
    BackgroundWorkerBuilder::new("dragonfly_guard log writer")
        .set_library("dragonfly_guard")
        .set_function("guard_log_writer")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_spi_access()
        .load_dynamic()
        .is_ok()
}

/// The main function of the writer.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn guard_log_writer(argument: pg_sys::Datum) {
    let database = argument.value() as u32;
    // SAFETY: the callback is called at any end of the process, while shared memory still exists.
    unsafe { pg_sys::before_shmem_exit(Some(ended), argument) };
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database.into()), None);
    queue::writer_runs(database);
    let (mut idle, mut retries) = (0, 0);
    let mut locked_out: Vec<(i64, String)> = Vec::new();
    loop {
        let entries = [std::mem::take(&mut locked_out), queue::take(database)].concat();
        if entries.is_empty() {
            idle += 1;
            if idle > MOST_IDLE && queue::writer_may_end(database) {
                return;
            }
        } else {
            idle = 0;
            let count = entries.len();
            let (written, left) = BackgroundWorker::transaction(|| write(entries));
            retries = if written > 0 { 0 } else { retries + 1 };
            locked_out = if retries >= MOST_RETRIES { Vec::new() } else { left };
            queue::settle(database, written, count - written - locked_out.len());
        }
        if !BackgroundWorker::wait_latch(Some(INTERVAL)) {
            return;
        }
    }
}

/// Writes entries and removes old ones. Returns how many were written, and the entries that could
/// not be written because another session has locked the table.
fn write(entries: Vec<(i64, String)>) -> (usize, Vec<(i64, String)>) {
    let (mut written, mut locked_out) = (0, Vec::new());
    for (at, json) in entries {
        match append(at, &json) {
            Appended::Written => written += 1,
            Appended::Locked => locked_out.push((at, json)),
            Appended::Impossible => {}
        }
    }
    if written > 0 {
        trim();
    }
    (written, locked_out)
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(_code: i32, argument: pg_sys::Datum) {
    queue::writer_has_ended(argument.value() as u32);
}

//! The writer: a background worker for one database, started when there are entries to insert. It
//! ends soon after the last entry, because a database with a connected worker cannot be dropped.

use super::queue;
use super::slots::{CAPACITY, Outcome, Taken};
use crate::pg::heap::Appended;
use crate::store::log;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};
use std::time::Duration;

/// The time between two reads of the queue, in which equal entries become one, and the shorter one
/// while many entries arrive.
const INTERVAL: Duration = Duration::from_millis(100);
const SHORT: Duration = Duration::from_millis(5);

/// The number of entries in one read that are many.
const MANY: usize = CAPACITY / 4;

/// The number of reads without an entry after which the writer ends.
const MOST_IDLE: u32 = 10;

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
    BackgroundWorker::transaction(forget_dropped_databases);
    let mut idle = 0;
    let mut is_last = false;
    loop {
        let entries = queue::take(database);
        let are_many = entries.len() >= MANY;
        let has_written = write(entries);
        // After SIGTERM, as when the server is shut down, it has written what was waiting.
        if is_last {
            return;
        }
        idle = if has_written { 0 } else { idle + 1 };
        if idle > MOST_IDLE && queue::writer_may_end(database) {
            return;
        }
        let interval = if has_written && are_many { SHORT } else { INTERVAL };
        is_last = !BackgroundWorker::wait_latch(Some(interval));
    }
}

/// Writes entries and removes old rows. Returns whether any was written. Entries for which the
/// table is locked stay in the queue; so do all of them if an error ends the writer.
fn write(entries: Vec<Taken>) -> bool {
    if entries.is_empty() {
        return false;
    }
    let is_written = |(_, outcome): &(Taken, Outcome)| *outcome == Outcome::Written;
    let outcomes = BackgroundWorker::transaction(|| {
        let outcomes = entries.into_iter().map(|entry| {
            let outcome = write_one(&entry);
            (entry, outcome)
        });
        let outcomes: Vec<(Taken, Outcome)> = outcomes.collect();
        if outcomes.iter().any(is_written) {
            log::trim();
        }
        outcomes
    });
    queue::settle(&outcomes);
    outcomes.iter().any(is_written)
}

fn write_one(entry: &Taken) -> Outcome {
    let repeated = log::Repeated { count: entry.repeated, last_at: entry.last_at };
    let row = log::Row { at: entry.at, json: &entry.text, repeated };
    // The server may have ended after the row was committed.
    if entry.is_restored && log::contains(&row) {
        return Outcome::Written;
    }
    match log::append(&row) {
        Appended::Written => Outcome::Written,
        Appended::Locked => Outcome::Kept,
        Appended::Impossible => Outcome::Dropped,
    }
}

/// Drops the entries of databases that do not exist any more, for which no writer can start.
fn forget_dropped_databases() {
    for database in queue::databases() {
        // SAFETY: a lookup in the system cache.
        let exists = unsafe {
            let key = pg_sys::Datum::from(database);
            let (cache, none) = (pg_sys::SysCacheIdentifier::DATABASEOID, pg_sys::Datum::null());
            pg_sys::SearchSysCacheExists(cache as i32, key, none, none, none)
        };
        if !exists {
            queue::forget(database);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(_code: i32, argument: pg_sys::Datum) {
    queue::writer_has_ended(argument.value() as u32);
}

//! The writer: a background worker, one a database, started when there is something to write and
//! gone a moment after. (It does not stay: a database with a session in it cannot be dropped.)

use super::queue;
use crate::store::log::{append, trim};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};
use std::time::Duration;

/// It looks again after this time, and ends when it has found nothing so many times.
const INTERVAL: Duration = Duration::from_millis(100);
const IDLE: u32 = 10;

/// Starts a writer for a database; false where the server has no process to spare
/// (`max_worker_processes`).
pub fn start(database: u32) -> bool {
    BackgroundWorkerBuilder::new("dragonfly_guard log writer")
        .set_library("dragonfly_guard")
        .set_function("guard_log_writer")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_spi_access()
        .load_dynamic()
        .is_ok()
}

/// What the worker does.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn guard_log_writer(argument: pg_sys::Datum) {
    let database = argument.value() as u32;
    // SAFETY: called when the process ends, in whatever way, while shared memory is still there.
    unsafe { pg_sys::before_shmem_exit(Some(ended), argument) };
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database.into()), None);
    queue::writer_runs(database);
    let mut idle = 0;
    loop {
        let entries = queue::take(database);
        if entries.is_empty() {
            idle += 1;
            if idle > IDLE && queue::writer_may_end(database) {
                return;
            }
        } else {
            idle = 0;
            let written = BackgroundWorker::transaction(|| {
                let written = entries.iter().filter(|(at, json)| append(*at, json)).count();
                trim();
                written
            });
            queue::written(written);
        }
        if !BackgroundWorker::wait_latch(Some(INTERVAL)) {
            return;
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(_code: i32, argument: pg_sys::Datum) {
    queue::writer_has_ended(argument.value() as u32);
}

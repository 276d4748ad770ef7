//! Starts a writer for each database whose entries wait for one: at once by the session that adds
//! an entry, and by a process of its own that looks every second, for the server may have had no
//! process to spare.

use super::{queue, writer};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::{pg_guard, pg_sys};
use std::time::Duration;

/// Starts a writer for each database whose entries wait for one, as far as the server has processes
/// to spare.
pub fn start_writers() {
    // Not with the queue's lock held: this takes one of the server's own, and may fail.
    while let Some(database) = queue::claim_writer() {
        if !writer::start(database) {
            return queue::forget_writer(database);
        }
    }
}

/// Registers the launcher: in `_PG_init`, where the postmaster loads the library.
pub fn register() {
    BackgroundWorkerBuilder::new("dragonfly_guard log launcher")
        .set_library("dragonfly_guard")
        .set_function("guard_log_launcher")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(10)))
        .load();
}

/// What the launcher does.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn guard_log_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    while BackgroundWorker::wait_latch(Some(Duration::from_secs(1))) {
        start_writers();
    }
}

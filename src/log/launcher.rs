//! Starts a writer for each database with queued entries. The session that adds an entry starts one
//! at once; the launcher, a background worker, tries again every second, because the server may
//! have had no free background worker.

use super::{queue, writer};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::{pg_guard, pg_sys};
use std::time::Duration;

/// Starts a writer for each database with queued entries, as long as the server has free background
/// workers.
pub fn start_writers() {
    // Without holding the lock of the queue: starting a worker acquires a lock of the server and
    // may raise an error.
    while let Some(database) = queue::claim_writer() {
        if !writer::start(database) {
            return queue::release_writer(database);
        }
    }
}

/// Registers the launcher. Called in `_PG_init`, where the postmaster loads the library.
pub fn register() {
    BackgroundWorkerBuilder::new("dragonfly_guard log launcher")
        .set_library("dragonfly_guard")
        .set_function("guard_log_launcher")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(10)))
        .load();
}

/// The main function of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn guard_log_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    while BackgroundWorker::wait_latch(Some(Duration::from_secs(1))) {
        start_writers();
    }
    // The server starts a worker again whose exit code is 1, after the restart time, and never one
    // that returns.
    // SAFETY: ends the process as the server's own workers end after SIGTERM.
    unsafe { pg_sys::proc_exit(1) }
}

//! The queue between sessions and writers, in shared memory. It exists where the library is in
//! `shared_preload_libraries`. Its size is fixed, and sessions never wait for space.

use super::slots::{Outcome, Session, Slots, Taken};
use super::spool;
use crate::pg::clock;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_sys};
use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, Ordering};

pub use super::slots::ENTRY;

/// The time in microseconds after which a writer is considered not to start.
const WRITER_TIMEOUT: i64 = 10_000_000;

/// The maximum number of databases with a writer.
const WRITERS: usize = 32;

/// The writer of a database. `requested_at` is in microseconds since 2000.
#[derive(Clone, Copy, Default)]
struct Writer {
    database: u32,
    requested_at: i64,
    runs: bool,
}

/// The contents of the shared memory.
pub struct Queue {
    slots: Slots,
    writers: [Writer; WRITERS],
    /// Whether the entries that waited when the server ended have been read.
    is_restored: bool,
    /// Whether the last writer with entries ended without having written them.
    has_failed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            slots: Slots::EMPTY,
            writers: [Writer::default(); WRITERS],
            is_restored: false,
            has_failed: false,
        }
    }
}

// SAFETY: plain numbers and bytes, no pointers.
unsafe impl PGRXSharedMemory for Queue {}

// SAFETY: no other library uses a lock of this name.
static QUEUE: PgLwLock<Queue> = unsafe { PgLwLock::new(c"dragonfly_guard_log") };

/// Whether the postmaster has requested the memory.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The numbers of queued, written and dropped entries.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Count {
    pub waiting: u64,
    pub written: u64,
    pub dropped: u64,
    /// Whether an entry has waited longer than a writer takes to start.
    pub stuck: bool,
    /// Whether the last writer ended without having written its entries.
    pub has_failed: bool,
}

/// Requests the shared memory. Called in `_PG_init`, where the postmaster loads the library.
#[allow(unexpected_cfgs, static_mut_refs, reason = "the macro of pgrx expands to both")]
pub fn request() {
    pgrx::pg_shmem_init!(QUEUE);
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether the queue exists.
pub fn exists() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Returns the queue, locked. The first caller after a start of the server restores the entries
/// that waited when it ended.
fn locked() -> impl DerefMut<Target = Queue> {
    let mut queue = QUEUE.exclusive();
    if !queue.is_restored {
        queue.restore();
    }
    queue
}

/// Returns the numbers of all databases since the server started; `None` where there is no queue.
pub fn count() -> Option<Count> {
    exists().then(|| {
        let queue = locked();
        let now = clock::now();
        Count {
            waiting: queue.slots.waiting(),
            written: queue.slots.written,
            dropped: queue.slots.dropped,
            stuck: queue.slots.used().any(|slot| now - slot.at > WRITER_TIMEOUT),
            has_failed: queue.has_failed,
        }
    })
}

/// Adds an entry of this session.
pub fn push(json: &str) {
    let (session, now) = (this_session(), clock::now());
    let mut queue = locked();
    let index = queue.slots.push(session, now, json.as_bytes());
    spool::store(index, queue.slots.slot(index));
}

/// Counts an entry that is too long for the queue.
pub fn count_dropped() {
    locked().slots.dropped += 1;
}

/// Returns a database with queued entries and without a writer, and records that it gets a writer.
pub fn claim_writer() -> Option<u32> {
    let now = clock::now();
    let mut queue = locked();
    let waiting: Vec<u32> = queue.slots.used().map(|slot| slot.session.database).collect();
    waiting.into_iter().find(|database| queue.needs_writer(*database, now))
}

/// Records that a database does not get a writer: it could not be started.
pub fn release_writer(database: u32) {
    locked().release_writer(database);
}

/// Returns the entries of a database, oldest first. They stay queued until [`settle`] is called.
pub fn take(database: u32) -> Vec<Taken> {
    locked().slots.take(database)
}

/// Records what became of entries that a writer had taken.
pub fn settle(entries: &[(Taken, Outcome)]) {
    let mut queue = locked();
    for (entry, outcome) in entries {
        queue.has_failed &= *outcome != Outcome::Written;
        if let Some(index) = queue.slots.settle(entry, *outcome) {
            spool::clear(index);
        }
    }
}

/// Returns the databases with queued entries.
pub fn databases() -> Vec<u32> {
    let mut databases: Vec<u32> = locked().slots.used().map(|slot| slot.session.database).collect();
    databases.sort_unstable();
    databases.dedup();
    databases
}

/// Drops the entries of a database that does not exist any more.
pub fn forget(database: u32) {
    let taken = take(database);
    settle(&taken.into_iter().map(|entry| (entry, Outcome::Dropped)).collect::<Vec<_>>());
}

/// Records that a writer has started.
pub fn writer_runs(database: u32) {
    if let Some(writer) = locked().writer(database) {
        writer.runs = true;
    }
}

/// Returns whether no entry is left for a writer, and records then that it ends.
pub fn writer_may_end(database: u32) -> bool {
    let mut queue = locked();
    let left = queue.slots.used().any(|slot| slot.session.database == database);
    if !left {
        queue.release_writer(database);
    }
    !left
}

/// Records that a writer has ended: what it had taken and not written waits for the next one. A
/// writer that could not connect stays recorded until its timeout, so that starting it again does
/// not take a worker from other databases.
pub fn writer_has_ended(database: u32) {
    let mut queue = locked();
    queue.has_failed |= queue.slots.give_back(database);
    if queue.writers.iter().any(|w| w.database == database && w.runs) {
        queue.release_writer(database);
    }
}

impl Queue {
    fn restore(&mut self) {
        let (slots, damaged) = spool::read();
        self.slots.dropped += damaged;
        spool::remove();
        for slot in &slots {
            if let Some(index) = self.slots.restore(slot) {
                spool::store(index, self.slots.slot(index));
            }
        }
        self.is_restored = true;
    }

    fn writer(&mut self, database: u32) -> Option<&mut Writer> {
        self.writers.iter_mut().find(|writer| writer.database == database)
    }

    /// Returns whether a writer has to be started for a database, and records then that it is.
    fn needs_writer(&mut self, database: u32, now: i64) -> bool {
        match self.writer(database) {
            // The writer was requested and has not started.
            Some(writer) if !writer.runs && now - writer.requested_at > WRITER_TIMEOUT => {
                writer.requested_at = now;
                true
            }
            Some(_) => false,
            None => match self.writers.iter_mut().find(|w| w.database == 0) {
                Some(free) => {
                    *free = Writer { database, requested_at: now, runs: false };
                    true
                }
                None => false,
            },
        }
    }

    /// Forgets the writer of a database.
    fn release_writer(&mut self, database: u32) {
        if let Some(writer) = self.writer(database) {
            *writer = Writer::default();
        }
    }
}

fn this_session() -> Session {
    // SAFETY: reads variables of the backend.
    unsafe { Session { database: pg_sys::MyDatabaseId.to_u32(), pid: pg_sys::MyProcPid } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_gets_one_writer_at_a_time() {
        let mut queue = Box::new(Queue::default());
        assert!(queue.needs_writer(5, 100));
        assert!(!queue.needs_writer(5, 200), "a writer is requested");
        assert!(queue.needs_writer(5, 20_000_000), "the writer has not started");
        assert!(queue.needs_writer(6, 200));
        queue.release_writer(5);
        assert!(queue.needs_writer(5, 300));
    }
}

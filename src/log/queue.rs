//! The queue between sessions and writers, in shared memory. It exists where the library is in
//! `shared_preload_libraries`. Its size is fixed, and sessions never wait for space: entries for
//! which there is none are dropped and counted.

use crate::pg::clock;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};

/// The maximum number of queued entries of all databases.
const CAPACITY: usize = 128;

/// The maximum length of an entry, in bytes.
pub const ENTRY: usize = 4_000;

/// The time in microseconds after which a writer is considered not to start.
const WRITER_TIMEOUT: i64 = 10_000_000;

/// The maximum number of databases with a writer.
const WRITERS: usize = 32;

/// An entry: database, time (microseconds since 2000), and the first `length` bytes of `text`.
#[derive(Clone, Copy)]
struct Entry {
    database: u32,
    at: i64,
    length: usize,
    text: [u8; ENTRY],
}

/// The writer of a database. `requested_at` is in microseconds since 2000; `taken` is the number of
/// entries that it has taken from the queue and neither written nor dropped.
#[derive(Clone, Copy, Default)]
struct Writer {
    database: u32,
    requested_at: i64,
    runs: bool,
    taken: usize,
}

/// The contents of the shared memory.
pub struct Queue {
    entries: [Entry; CAPACITY],
    /// The number of entries in use, which are the first ones.
    count: usize,
    writers: [Writer; WRITERS],
    written: u64,
    dropped: u64,
}

impl Default for Queue {
    #[allow(clippy::large_stack_arrays, reason = "a constant that initializes shared memory")]
    fn default() -> Self {
        let entry = Entry { database: 0, at: 0, length: 0, text: [0; ENTRY] };
        Self {
            entries: [entry; CAPACITY],
            count: 0,
            writers: [Writer::default(); WRITERS],
            written: 0,
            dropped: 0,
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
    pub waiting: usize,
    pub written: u64,
    pub dropped: u64,
    /// Whether an entry has waited longer than a writer takes to start.
    pub stuck: bool,
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

/// Returns the numbers of all databases since the server started; `None` where there is no queue.
pub fn count() -> Option<Count> {
    exists().then(|| {
        let queue = QUEUE.share();
        let now = clock::now();
        let queued = &queue.entries[..queue.count];
        let stuck = queued.iter().any(|entry| now - entry.at > WRITER_TIMEOUT);
        let taken: usize = queue.writers.iter().map(|writer| writer.taken).sum();
        Count {
            waiting: queue.count + taken,
            written: queue.written,
            dropped: queue.dropped,
            stuck,
        }
    })
}

/// Adds an entry of this database. In a full queue it replaces the oldest entry, so that entries of
/// a database without a writer (one that was dropped, or allows no connections) do not block the
/// entries of others.
pub fn push(json: &str) {
    let (database, now) = (my_database(), clock::now());
    let text = json.as_bytes();
    let mut queue = QUEUE.exclusive();
    if queue.count == CAPACITY {
        queue.entries.copy_within(1.., 0);
        queue.count -= 1;
        queue.dropped += 1;
    }
    let next = queue.count;
    let entry = &mut queue.entries[next];
    (entry.database, entry.at, entry.length) = (database, now, text.len().min(ENTRY));
    entry.text[..text.len().min(ENTRY)].copy_from_slice(&text[..text.len().min(ENTRY)]);
    queue.count += 1;
}

/// Counts an entry that is too long for the queue.
pub fn count_dropped() {
    QUEUE.exclusive().dropped += 1;
}

/// Returns a database with queued entries and without a writer, and records that it gets a writer.
pub fn claim_writer() -> Option<u32> {
    let now = clock::now();
    let mut queue = QUEUE.exclusive();
    let waiting: Vec<u32> = queue.entries[..queue.count].iter().map(|e| e.database).collect();
    waiting.into_iter().find(|database| queue.needs_writer(*database, now))
}

/// Records that a database does not get a writer: it could not be started.
pub fn release_writer(database: u32) {
    QUEUE.exclusive().release_writer(database);
}

/// Removes the entries of a database and returns the time (microseconds since 2000) and the text of
/// each. They are counted as waiting until [`settle`] is called for them, and as dropped if the
/// writer ends before.
pub fn take(database: u32) -> Vec<(i64, String)> {
    let mut queue = QUEUE.exclusive();
    let mut taken = Vec::new();
    let mut kept = 0;
    for i in 0..queue.count {
        let entry = queue.entries[i];
        if entry.database == database {
            taken.push((
                entry.at,
                String::from_utf8_lossy(&entry.text[..entry.length]).into_owned(),
            ));
        } else {
            queue.entries[kept] = entry;
            kept += 1;
        }
    }
    queue.count = kept;
    if let Some(writer) = queue.writer(database) {
        writer.taken += taken.len();
    }
    taken
}

/// Counts entries that the writer of a database had taken: those that it has written, and those
/// that it could not write.
pub fn settle(database: u32, written: usize, dropped: usize) {
    QUEUE.exclusive().settle(database, written, dropped);
}

/// Records that a writer has started.
pub fn writer_runs(database: u32) {
    let mut queue = QUEUE.exclusive();
    if let Some(writer) = queue.writer(database) {
        writer.runs = true;
    }
}

/// Returns whether no entry is left for a writer, and records then that it ends.
pub fn writer_may_end(database: u32) -> bool {
    let mut queue = QUEUE.exclusive();
    let left = queue.entries[..queue.count].iter().any(|e| e.database == database);
    if !left {
        queue.release_writer(database);
    }
    !left
}

/// Records that a writer has ended. A writer that could not connect stays recorded until its
/// timeout, so that starting it again does not take a worker from other databases.
pub fn writer_has_ended(database: u32) {
    let mut queue = QUEUE.exclusive();
    if queue.writers.iter().any(|w| w.database == database && w.runs) {
        queue.release_writer(database);
    }
}

impl Queue {
    fn writer(&mut self, database: u32) -> Option<&mut Writer> {
        self.writers.iter_mut().find(|writer| writer.database == database)
    }

    fn settle(&mut self, database: u32, written: usize, dropped: usize) {
        if let Some(writer) = self.writer(database) {
            writer.taken = writer.taken.saturating_sub(written + dropped);
        }
        self.written += written as u64;
        self.dropped += dropped as u64;
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
                    *free = Writer { database, requested_at: now, ..Writer::default() };
                    true
                }
                None => false,
            },
        }
    }

    /// Forgets the writer of a database. Entries that it has taken and not written are lost.
    fn release_writer(&mut self, database: u32) {
        let Some(writer) = self.writer(database) else { return };
        let lost = std::mem::take(writer).taken;
        self.dropped += lost as u64;
    }
}

fn my_database() -> u32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
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

    #[test]
    fn entries_that_a_writer_has_taken_are_written_or_dropped() {
        let mut queue = Box::new(Queue::default());
        assert!(queue.needs_writer(5, 100));
        queue.writer(5).unwrap().taken = 7;
        queue.settle(5, 3, 1);
        assert_eq!((queue.writer(5).unwrap().taken, queue.written, queue.dropped), (3, 3, 1));
        queue.release_writer(5);
        assert!(queue.writer(5).is_none());
        assert_eq!((queue.written, queue.dropped), (3, 4));
    }
}

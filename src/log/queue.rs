//! The way from a session to the writer: a queue in shared memory, there where the library is in
//! `shared_preload_libraries`. It has a fixed size and never makes anybody wait: what does not fit
//! is counted and dropped.

use crate::pg::clock;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};

/// So many entries wait at the most, in all databases.
const CAPACITY: usize = 128;

/// So many bytes an entry has at the most.
pub const ENTRY: usize = 4_000;

/// An entry that has waited for so long, in microseconds, waits for a writer that does not come.
const PATIENCE: i64 = 10_000_000;

/// So many databases have a writer at the same time.
const WRITERS: usize = 32;

/// An entry: database, time, and the first `length` bytes of `text`.
#[derive(Clone, Copy)]
struct Entry {
    database: u32,
    at: i64,
    length: usize,
    text: [u8; ENTRY],
}

/// A database that has a writer, and since when one that has not yet begun.
#[derive(Clone, Copy, Default)]
struct Writer {
    database: u32,
    asked_at: i64,
    runs: bool,
}

/// What is in shared memory.
pub struct Queue {
    entries: [Entry; CAPACITY],
    /// How many of them, from the first on.
    count: usize,
    writers: [Writer; WRITERS],
    written: u64,
    dropped: u64,
}

impl Default for Queue {
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

// SAFETY: nobody else has a lock of this name.
static QUEUE: PgLwLock<Queue> = unsafe { PgLwLock::new(c"dragonfly_guard_log") };

/// The postmaster asked for the memory.
static THERE: AtomicBool = AtomicBool::new(false);

/// How full the queue is.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Count {
    pub waiting: usize,
    pub written: u64,
    pub dropped: u64,
    /// Something waits for a writer that does not come.
    pub stuck: bool,
}

/// Asks for the memory: in `_PG_init`, where the postmaster loads the library.
#[allow(unexpected_cfgs, static_mut_refs)]
pub fn request() {
    pgrx::pg_shmem_init!(QUEUE);
    THERE.store(true, Ordering::Relaxed);
}

/// Whether there is a queue.
pub fn is_there() -> bool {
    THERE.load(Ordering::Relaxed)
}

/// The counts, of all databases since the server started.
pub fn count() -> Option<Count> {
    is_there().then(|| {
        let queue = QUEUE.share();
        let (waiting, now) = (queue.count, clock::now());
        let stuck = queue.entries[..waiting].iter().any(|entry| now - entry.at > PATIENCE);
        Count { waiting, written: queue.written, dropped: queue.dropped, stuck }
    })
}

/// Puts an entry of this database into the queue. Where there is no room the oldest goes: a
/// database that is gone, or lets nobody in, keeps nobody else's entries out.
pub fn push(json: &str) {
    let (database, now) = (my_database(), clock::now());
    let text = json.as_bytes();
    let mut queue = QUEUE.exclusive();
    if queue.count == CAPACITY {
        queue.entries.copy_within(1.., 0);
        queue.count -= 1;
        queue.dropped += 1;
    }
    let place = queue.count;
    let entry = &mut queue.entries[place];
    (entry.database, entry.at, entry.length) = (database, now, text.len().min(ENTRY));
    entry.text[..text.len().min(ENTRY)].copy_from_slice(&text[..text.len().min(ENTRY)]);
    queue.count += 1;
}

/// An entry that nobody can make fit.
pub fn drop_one() {
    QUEUE.exclusive().dropped += 1;
}

/// A database whose entries wait for a writer, if there is one; notes that it gets one, and so
/// gives no database twice.
pub fn claim_writer() -> Option<u32> {
    let now = clock::now();
    let mut queue = QUEUE.exclusive();
    let waiting: Vec<u32> = queue.entries[..queue.count].iter().map(|e| e.database).collect();
    waiting.into_iter().find(|database| queue.needs_writer(*database, now))
}

/// Takes back that a database gets a writer: it could not be started.
pub fn forget_writer(database: u32) {
    QUEUE.exclusive().forget_writer(database);
}

/// The entries of a database, taken out of the queue: time and text of each.
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
    taken
}

/// So many entries have been written.
pub fn written(count: usize) {
    QUEUE.exclusive().written += count as u64;
}

/// A writer has begun.
pub fn writer_runs(database: u32) {
    let mut queue = QUEUE.exclusive();
    if let Some(writer) = queue.writers.iter_mut().find(|w| w.database == database) {
        writer.runs = true;
    }
}

/// A writer ends, if nothing is left for it: otherwise false.
pub fn writer_may_end(database: u32) -> bool {
    let mut queue = QUEUE.exclusive();
    let left = queue.entries[..queue.count].iter().any(|e| e.database == database);
    if !left {
        queue.forget_writer(database);
    }
    !left
}

/// A writer has ended, whatever is left. One that could not even connect is not asked again at
/// once, or it would take the place of others.
pub fn writer_has_ended(database: u32) {
    let mut queue = QUEUE.exclusive();
    if queue.writers.iter().any(|w| w.database == database && w.runs) {
        queue.forget_writer(database);
    }
}

impl Queue {
    /// Whether somebody has to be started for the database; notes that somebody is.
    fn needs_writer(&mut self, database: u32, now: i64) -> bool {
        let current = self.writers.iter_mut().find(|w| w.database == database);
        match current {
            // One that was asked for and never came.
            Some(writer) if !writer.runs && now - writer.asked_at > PATIENCE => {
                writer.asked_at = now;
                true
            }
            Some(_) => false,
            None => match self.writers.iter_mut().find(|w| w.database == 0) {
                Some(free) => {
                    *free = Writer { database, asked_at: now, runs: false };
                    true
                }
                None => false,
            },
        }
    }

    fn forget_writer(&mut self, database: u32) {
        for writer in self.writers.iter_mut().filter(|w| w.database == database) {
            *writer = Writer::default();
        }
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
    fn a_database_gets_one_writer() {
        let mut queue = Box::new(Queue::default());
        assert!(queue.needs_writer(5, 100));
        assert!(!queue.needs_writer(5, 200), "one is on its way");
        assert!(queue.needs_writer(5, 20_000_000), "it never came");
        assert!(queue.needs_writer(6, 200));
        queue.forget_writer(5);
        assert!(queue.needs_writer(5, 300));
    }
}

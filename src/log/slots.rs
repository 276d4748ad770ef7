//! The entries that wait for a writer: a fixed number of slots, and what is counted about them.
//!
//! Every entry is waiting, written or dropped. It stays in its slot until it has been written, so
//! that a writer that fails loses nothing.

/// The maximum number of waiting entries of all databases.
pub const CAPACITY: usize = 128;

/// The maximum length of an entry, in bytes.
pub const ENTRY: usize = 4_000;

/// The session that an entry is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Session {
    pub database: u32,
    pub pid: i32,
}

/// A slot with an entry, or a free one.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// The number of the entry: later ones have higher numbers. 0: the slot is free.
    pub number: u64,
    /// The session that it is of.
    pub session: Session,
    /// When it happened, in microseconds since 2000.
    pub at: i64,
    /// When an equal one happened last.
    pub last_at: i64,
    /// How many equal ones of the session followed.
    pub repeated: u32,
    /// Whether a writer is writing it.
    pub is_taken: bool,
    /// Whether it is from before the server started: it may have been written already.
    pub is_restored: bool,
    length: u32,
    text: [u8; ENTRY],
}

impl Slot {
    const FREE: Self = Self {
        number: 0,
        session: Session { database: 0, pid: 0 },
        at: 0,
        last_at: 0,
        repeated: 0,
        is_taken: false,
        is_restored: false,
        length: 0,
        text: [0; ENTRY],
    };

    /// Returns the slot of an entry; `text` has at most [`ENTRY`] bytes.
    pub fn new(number: u64, session: Session, at: i64, text: &[u8]) -> Self {
        let mut slot = Self { number, session, at, last_at: at, ..Self::FREE };
        let length = text.len().min(ENTRY);
        slot.text[..length].copy_from_slice(&text[..length]);
        slot.length = length as u32;
        slot
    }

    /// Returns the entry's text.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.length as usize]
    }

    /// How many entries it stands for.
    pub fn count(&self) -> u64 {
        u64::from(self.number != 0) * (1 + u64::from(self.repeated))
    }
}

/// An entry that a writer has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the slot")]
pub struct Taken {
    pub number: u64,
    pub at: i64,
    pub last_at: i64,
    pub repeated: u32,
    pub is_restored: bool,
    pub text: String,
}

impl Taken {
    fn count(&self) -> u64 {
        1 + u64::from(self.repeated)
    }
}

/// What became of an entry that a writer had taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is a row of the log table.
    Written,
    /// It waits for another attempt.
    Kept,
    /// It can never be written.
    Dropped,
}

/// The slots.
pub struct Slots {
    all: [Slot; CAPACITY],
    last_number: u64,
    /// How many entries have been written.
    pub written: u64,
    /// How many entries have been dropped.
    pub dropped: u64,
}

impl Slots {
    /// No entries.
    #[allow(clippy::large_stack_arrays, reason = "a constant that initializes shared memory")]
    pub const EMPTY: Self =
        Self { all: [Slot::FREE; CAPACITY], last_number: 0, written: 0, dropped: 0 };

    /// Returns the slot at an index.
    pub fn slot(&self, index: usize) -> &Slot {
        &self.all[index]
    }

    /// The slots with entries.
    pub fn used(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter().filter(|slot| slot.number != 0)
    }

    /// The number of waiting entries.
    pub fn waiting(&self) -> u64 {
        self.used().map(Slot::count).sum()
    }

    /// Adds an entry and returns the index of its slot. Equal entries of one session that wait
    /// share a slot. Where none is free, an entry is dropped: the oldest of the session with the
    /// most entries, so that no session can push out those of others.
    pub fn push(&mut self, session: Session, at: i64, text: &[u8]) -> usize {
        let is_equal = |slot: &Slot| {
            slot.number != 0
                && !slot.is_taken
                && slot.session == session
                && is_same_event(slot.text(), text)
        };
        if let Some(index) = self.all.iter().position(is_equal) {
            let slot = &mut self.all[index];
            (slot.repeated, slot.last_at) = (slot.repeated.saturating_add(1), at);
            return index;
        }
        let free = self.all.iter().position(|slot| slot.number == 0);
        let index = free.unwrap_or_else(|| self.least_needed());
        self.dropped += self.all[index].count();
        self.last_number += 1;
        self.all[index] = Slot::new(self.last_number, session, at, text);
        index
    }

    /// Puts an entry back that waited when the server ended, and returns the index of its slot.
    pub fn restore(&mut self, slot: &Slot) -> Option<usize> {
        let index = self.all.iter().position(|slot| slot.number == 0)?;
        self.last_number = self.last_number.max(slot.number);
        self.all[index] = Slot { is_taken: false, is_restored: true, ..*slot };
        Some(index)
    }

    /// The index of the entry to drop where no slot is free.
    fn least_needed(&self) -> usize {
        let of_session =
            |slot: &Slot| self.all.iter().filter(|other| other.session == slot.session).count();
        let order = |(_, slot): &(usize, &Slot)| {
            (slot.is_taken, std::cmp::Reverse(of_session(slot)), slot.number)
        };
        self.all.iter().enumerate().min_by_key(order).map_or(0, |(index, _)| index)
    }

    /// Returns the entries of a database that no writer has, oldest first, as taken by one.
    pub fn take(&mut self, database: u32) -> Vec<Taken> {
        let mut taken = Vec::new();
        for slot in &mut self.all {
            if slot.number != 0 && slot.session.database == database && !slot.is_taken {
                slot.is_taken = true;
                taken.push(Taken {
                    number: slot.number,
                    at: slot.at,
                    last_at: slot.last_at,
                    repeated: slot.repeated,
                    is_restored: slot.is_restored,
                    text: String::from_utf8_lossy(slot.text()).into_owned(),
                });
            }
        }
        taken.sort_by_key(|entry| entry.number);
        taken
    }

    /// Records what became of a taken entry. Returns the index of the slot that is free now.
    pub fn settle(&mut self, entry: &Taken, outcome: Outcome) -> Option<usize> {
        let index = self.all.iter().position(|slot| slot.number == entry.number);
        match (outcome, index) {
            (Outcome::Kept, Some(index)) => {
                self.all[index].is_taken = false;
                return None;
            }
            (Outcome::Kept | Outcome::Dropped, None) => {}
            (Outcome::Written, Some(_)) => self.written += entry.count(),
            // All slots were taken, and this one was needed: it was counted as dropped.
            (Outcome::Written, None) => {
                self.written += entry.count();
                self.dropped = self.dropped.saturating_sub(entry.count());
            }
            (Outcome::Dropped, Some(_)) => self.dropped += entry.count(),
        }
        let index = index?;
        self.all[index] = Slot::FREE;
        Some(index)
    }

    /// Gives entries of a database back that its writer had taken. Returns whether there were any.
    pub fn give_back(&mut self, database: u32) -> bool {
        let mut any = false;
        for slot in &mut self.all {
            if slot.session.database == database && slot.is_taken {
                (slot.is_taken, any) = (false, true);
            }
        }
        any
    }
}

/// Whether two entries are equal but for their time.
fn is_same_event(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && without_time(one).eq(without_time(other))
}

/// The bytes of an entry without those of its time, `"at":"..."`.
fn without_time(text: &[u8]) -> impl Iterator<Item = &u8> {
    const KEY: &[u8] = b"\"at\":\"";
    let start = text.windows(KEY.len()).position(|part| part == KEY);
    let start = start.map_or(text.len(), |at| at + KEY.len());
    let end =
        text[start..].iter().position(|byte| *byte == b'"').map_or(text.len(), |at| start + at);
    text[..start].iter().chain(&text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Session = Session { database: 5, pid: 1 };
    const OTHER: Session = Session { database: 5, pid: 2 };
    const ELSEWHERE: Session = Session { database: 6, pid: 3 };

    fn empty() -> Box<Slots> {
        Box::new(Slots::EMPTY)
    }

    fn entry(at: usize, object: &str) -> Vec<u8> {
        format!("{{\"dragonfly_guard\":\"rejected\",\"at\":\"{at:010}\",\"object\":\"{object}\"}}")
            .into_bytes()
    }

    /// Written, waiting and dropped entries.
    fn counts(slots: &Slots) -> [u64; 3] {
        [slots.written, slots.waiting(), slots.dropped]
    }

    #[test]
    fn entry_waits_until_it_is_written() {
        let mut slots = empty();
        slots.push(ONE, 1, &entry(1, "a"));
        slots.push(ELSEWHERE, 2, &entry(2, "a"));
        let taken = slots.take(5);
        assert_eq!((taken.len(), counts(&slots)), (1, [0, 2, 0]));
        assert_eq!(slots.take(5), [], "another writer has it");
        assert_eq!(slots.settle(&taken[0], Outcome::Kept), None);
        assert_eq!(slots.take(5), taken, "it could not be written yet");
        assert!(slots.give_back(5) && !slots.give_back(5), "the writer has ended");
        assert_eq!(slots.take(5), taken);
        assert!(slots.settle(&taken[0], Outcome::Written).is_some());
        assert_eq!(counts(&slots), [1, 1, 0]);
        let taken = slots.take(6);
        assert!(slots.settle(&taken[0], Outcome::Dropped).is_some());
        assert_eq!(counts(&slots), [1, 0, 1]);
    }

    #[test]
    fn equal_entries_of_a_session_are_one_with_their_number() {
        let mut slots = empty();
        for at in 1..=4 {
            slots.push(ONE, at as i64, &entry(at, "a"));
        }
        slots.push(OTHER, 5, &entry(5, "a"));
        slots.push(ONE, 6, &entry(6, "b"));
        assert_eq!(counts(&slots), [0, 6, 0]);
        let taken = slots.take(5);
        let repeated: Vec<u32> = taken.iter().map(|entry| entry.repeated).collect();
        assert_eq!((repeated, taken[0].at, taken[0].last_at), (vec![3, 0, 0], 1, 4));
        slots.push(ONE, 7, &entry(7, "a"));
        assert_eq!(slots.take(5).len(), 1, "the first is being written");
        taken.iter().for_each(|entry| {
            slots.settle(entry, Outcome::Written);
        });
        assert_eq!(counts(&slots), [6, 1, 0]);
    }

    #[test]
    fn session_with_many_entries_pushes_out_none_of_another() {
        let mut slots = empty();
        slots.push(OTHER, 1, &entry(1, "evidence"));
        for at in 2..1_000 {
            slots.push(ONE, at as i64, &entry(at, &at.to_string()));
        }
        let taken = slots.take(5);
        assert!(taken[0].text.contains("evidence"));
        assert!(taken.last().unwrap().text.contains("\"999\""), "the newest are kept");
        assert_eq!(counts(&slots), [0, CAPACITY as u64, 999 - CAPACITY as u64]);
    }

    #[test]
    fn entry_that_is_dropped_while_it_is_written_is_counted_once() {
        let mut slots = empty();
        for at in 0..CAPACITY {
            slots.push(ONE, at as i64, &entry(at, &at.to_string()));
        }
        let taken = slots.take(5);
        slots.push(ELSEWHERE, 1_000, &entry(1_000, "new"));
        assert_eq!(counts(&slots), [0, CAPACITY as u64, 1]);
        for entry in &taken {
            slots.settle(entry, Outcome::Written);
        }
        assert_eq!(counts(&slots), [CAPACITY as u64, 1, 0]);
    }

    #[test]
    fn restored_entry_is_marked_and_later_ones_have_higher_numbers() {
        let mut slots = empty();
        slots.restore(&Slot::new(7, ONE, 1, &entry(1, "a"))).unwrap();
        slots.push(ONE, 2, &entry(2, "b"));
        let taken = slots.take(5);
        let seen: Vec<(u64, bool)> = taken.iter().map(|e| (e.number, e.is_restored)).collect();
        assert_eq!(seen, [(7, true), (8, false)]);
    }
}

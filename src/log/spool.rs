//! A copy of the waiting entries in a file, so that they outlive the shared memory: a crash, an
//! immediate or a fast shutdown of the server loses none of them.
//!
//! The file has a record for each slot. A record that cannot be written is not an error: the entry
//! is in shared memory. The folder is not part of base backups, and the server does not empty it.

use super::slots::{CAPACITY, ENTRY, Session, Slot};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// The file, below the data directory, in which the server's processes run.
const FILE: &str = "pg_stat_tmp/dragonfly_guard.queue";

/// The format of the records.
const MAGIC: u64 = u64::from_le_bytes(*b"dfguard1");

/// The length of the numbers at the start of a record: magic, checksum, number, database, process,
/// both times, repetitions, and length of the text.
const HEAD: usize = 6 * 8 + 4 * 4;

/// The length of a record.
const RECORD: usize = HEAD + ENTRY;

/// Stores a slot.
pub fn store(index: usize, slot: &Slot) {
    write(index, &encoded(slot));
}

/// Removes the record of a slot that is free now.
pub fn clear(index: usize) {
    write(index, &[0; HEAD]);
}

fn write(index: usize, record: &[u8]) {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(FILE);
    // Without the copy, the entry is lost if the server crashes. Its line is in the server log.
    let _ = file.and_then(|file| file.write_all_at(record, (index * RECORD) as u64));
}

/// Reads the records. Returns the entries, and the number of records that are damaged: they were
/// being written when the server ended.
pub fn read() -> (Vec<Slot>, u64) {
    let mut bytes = Vec::new();
    let most = (CAPACITY * RECORD) as u64;
    if File::open(FILE).and_then(|file| file.take(most).read_to_end(&mut bytes)).is_err() {
        return (vec![], 0);
    }
    let (mut slots, mut damaged) = (Vec::new(), 0);
    for record in bytes.chunks(RECORD) {
        match decoded(record) {
            Ok(slot) => slots.extend(slot),
            Err(Damaged) => damaged += 1,
        }
    }
    slots.sort_by_key(|slot| slot.number);
    (slots, damaged)
}

/// Removes the file.
pub fn remove() {
    // Where it cannot be removed, its records are overwritten.
    let _ = std::fs::remove_file(FILE);
}

/// A record that was not written as a whole.
struct Damaged;

fn encoded(slot: &Slot) -> Vec<u8> {
    let mut body = Vec::with_capacity(RECORD);
    body.extend(slot.number.to_le_bytes());
    body.extend(slot.at.to_le_bytes());
    body.extend(slot.last_at.to_le_bytes());
    body.extend(slot.session.database.to_le_bytes());
    body.extend(slot.session.pid.to_le_bytes());
    body.extend(slot.repeated.to_le_bytes());
    body.extend((slot.text().len() as u32).to_le_bytes());
    body.extend([0; 8]);
    body.extend(slot.text());
    let mut record = MAGIC.to_le_bytes().to_vec();
    record.extend(checksum(&body).to_le_bytes());
    record.extend(body);
    record
}

/// # Errors
/// Where the record is damaged. `None` for a record without an entry.
fn decoded(record: &[u8]) -> Result<Option<Slot>, Damaged> {
    if record.iter().take(HEAD).all(|byte| *byte == 0) {
        return Ok(None);
    }
    if record.len() < HEAD || u64::from_le_bytes(part(record, 0)) != MAGIC {
        return Err(Damaged);
    }
    let length = u32::from_le_bytes(part(record, 52)) as usize;
    let body = record.get(16..HEAD + length).filter(|_| length <= ENTRY).ok_or(Damaged)?;
    if u64::from_le_bytes(part(record, 8)) != checksum(body) {
        return Err(Damaged);
    }
    let session = Session {
        database: u32::from_le_bytes(part(record, 40)),
        pid: i32::from_le_bytes(part(record, 44)),
    };
    let (number, at) = (u64::from_le_bytes(part(record, 16)), i64::from_le_bytes(part(record, 24)));
    let mut slot = Slot::new(number, session, at, &body[HEAD - 16..]);
    slot.last_at = i64::from_le_bytes(part(record, 32));
    slot.repeated = u32::from_le_bytes(part(record, 48));
    Ok(Some(slot))
}

fn part<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[at..at + N]);
    bytes
}

/// The FNV-1a hash, which finds a record that was written in part.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let mut slot = Slot::new(7, Session { database: 5, pid: 4711 }, 100, b"{\"an\":\"entry\"}");
        (slot.repeated, slot.last_at) = (3, 200);
        slot
    }

    #[test]
    fn record_has_what_the_slot_has() {
        let read = decoded(&encoded(&slot())).ok().flatten().unwrap();
        assert_eq!((read.number, read.at, read.last_at, read.repeated), (7, 100, 200, 3));
        assert_eq!((read.session, read.text()), (slot().session, slot().text()));
        let longest = Slot::new(1, Session::default(), 0, &[b'x'; ENTRY]);
        assert_eq!(decoded(&encoded(&longest)).ok().flatten().unwrap().text().len(), ENTRY);
    }

    #[test]
    fn record_of_a_free_slot_has_no_entry() {
        assert!(matches!(decoded(&[0; RECORD]), Ok(None)));
        assert!(matches!(decoded(&[0; HEAD]), Ok(None)));
    }

    #[test]
    fn damaged_record_is_recognized() {
        let whole = encoded(&slot());
        for length in 1..whole.len() {
            assert!(decoded(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // Eight bytes are unused.
            assert!(decoded(&changed).is_err(), "{at}");
        }
    }
}

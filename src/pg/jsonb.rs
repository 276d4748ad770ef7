//! Writes values of type jsonb in the format in which the server stores them (jsonb.h), without a
//! detour through text.

use super::text::borrowed_to_server;
use pgrx::pg_sys;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;

/// The kinds of containers, in the header of a container.
const ARRAY: u32 = 0x4000_0000;
const OBJECT: u32 = 0x2000_0000;

/// The types in an entry of a container.
const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// Each entry has the length of its value; every 32nd has the offset of the end of its value
/// instead, and this bit.
const HAS_OFFSET: u32 = 0x8000_0000;
const OFFSET_STRIDE: usize = 32;

/// The highest offset, and the highest number of elements.
const MOST: usize = 0x0fff_ffff;

/// Returns the contents of a jsonb value, without the header of the varlena. `None` where the
/// server's input function has to convert it: a value that is neither an object nor an array, or
/// that contains a character that jsonb does not permit or a number that is not a 64-bit integer,
/// or is too long.
pub fn contents(value: &Value) -> Option<Vec<u8>> {
    if !matches!(value, Value::Object(_) | Value::Array(_)) {
        return None;
    }
    let mut out = Vec::new();
    write_value(value, &mut out)?;
    Some(out)
}

/// Writes a value and returns the type of its entry.
fn write_value(value: &Value, out: &mut Vec<u8>) -> Option<u32> {
    Some(match value {
        Value::Null => NULL,
        Value::Bool(false) => FALSE,
        Value::Bool(true) => TRUE,
        Value::Number(number) => {
            align(out);
            write_number(number, out)?;
            NUMERIC
        }
        Value::String(text) => {
            out.extend_from_slice(&string(text)?);
            STRING
        }
        Value::Array(items) => {
            align(out);
            let mut container = Container::begin(ARRAY, items.len(), items.len(), out)?;
            for item in items {
                container.add(out, |out| write_value(item, out))?;
            }
            CONTAINER
        }
        Value::Object(members) => {
            align(out);
            write_object(members, out)?;
            CONTAINER
        }
    })
}

/// A member of an object.
pub enum Member<'m> {
    /// A value.
    Value(Value),
    /// A list of this length, of which one element at a time is in memory.
    List(usize, Box<dyn Iterator<Item = Value> + 'm>),
}

/// Returns the contents of a jsonb object, as [`contents`] does.
pub fn object(mut members: Vec<(&str, Member<'_>)>) -> Option<Vec<u8>> {
    members.sort_by_key(|(key, _)| (key.len(), *key));
    let mut out = Vec::new();
    let count = members.len();
    let mut container = Container::begin(OBJECT, count, 2 * count, &mut out)?;
    for (key, _) in &members {
        container.add(&mut out, |out| {
            out.extend_from_slice(&string(key)?);
            Some(STRING)
        })?;
    }
    for (_, member) in members {
        container.add(&mut out, |out| match member {
            Member::Value(value) => write_value(&value, out),
            Member::List(length, items) => write_list(length, items, out),
        })?;
    }
    Some(out)
}

fn write_list(
    length: usize,
    items: Box<dyn Iterator<Item = Value> + '_>,
    out: &mut Vec<u8>,
) -> Option<u32> {
    align(out);
    let mut container = Container::begin(ARRAY, length, length, out)?;
    for item in items {
        container.add(out, |out| write_value(&item, out))?;
    }
    Some(CONTAINER)
}

/// Writes an integer as a value of type numeric.
fn write_number(number: &Number, out: &mut Vec<u8>) -> Option<()> {
    let number = number.as_i64()?;
    // SAFETY: returns a new varlena with a header of four bytes.
    unsafe {
        let numeric = pg_sys::int64_to_numeric(number).cast::<u8>();
        let length = pgrx::varsize_any(numeric.cast());
        out.extend_from_slice(std::slice::from_raw_parts(numeric, length));
        pg_sys::pfree(numeric.cast());
    }
    Some(())
}

/// Writes an object: the keys, ordered by length and then by their bytes, and the values in the
/// order of the keys.
fn write_object(members: &Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    let keys = members.iter().map(|(key, value)| Some((string(key)?, value)));
    let mut members = keys.collect::<Option<Vec<_>>>()?;
    members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    let mut container = Container::begin(OBJECT, members.len(), 2 * members.len(), out)?;
    for (key, _) in &members {
        container.add(out, |out| {
            out.extend_from_slice(key);
            Some(STRING)
        })?;
    }
    for (_, value) in &members {
        container.add(out, |out| write_value(value, out))?;
    }
    Some(())
}

/// Returns a text in the encoding of the database.
fn string(text: &str) -> Option<Cow<'_, [u8]>> {
    (!text.contains('\0')).then(|| borrowed_to_server(text))
}

/// Containers start at multiples of four.
fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A container that is being written: its header, an entry for each value, and the values.
struct Container {
    /// Where the next entry is.
    entry: usize,
    /// The number of values so far.
    count: usize,
    /// Where the values start.
    start: usize,
}

impl Container {
    /// Writes the header, with the number of elements or members, and space for the entries.
    fn begin(kind: u32, length: usize, entries: usize, out: &mut Vec<u8>) -> Option<Self> {
        let header = kind | u32::try_from(length).ok().filter(|_| length <= MOST)?;
        out.extend_from_slice(&header.to_ne_bytes());
        let entry = out.len();
        out.resize(entry + 4 * entries, 0);
        Some(Self { entry, count: 0, start: out.len() })
    }

    /// Adds a value, which `write` appends. What aligns it counts as a part of it.
    fn add(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Option<u32>,
    ) -> Option<()> {
        let before = out.len();
        let kind = write(out)?;
        let end = out.len() - self.start;
        let is_offset = self.count.is_multiple_of(OFFSET_STRIDE);
        let length = if is_offset { end } else { out.len() - before };
        let length = u32::try_from(length).ok().filter(|_| end <= MOST)?;
        let entry = kind | length | if is_offset { HAS_OFFSET } else { 0 };
        out[self.entry..self.entry + 4].copy_from_slice(&entry.to_ne_bytes());
        self.entry += 4;
        self.count += 1;
        Some(())
    }
}

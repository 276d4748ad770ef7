//! Conversion of text between the server's encoding and Rust strings.

use dragonfly_core::sql::{RAW_BYTES, is_unprintable};
use pgrx::datetime::ToIsoString;
use pgrx::pg_sys;
use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt::Write;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// As [`from_server`], without a copy where none is needed.
pub fn borrowed_from_server(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(from_server(bytes)),
    }
}

/// Returns bytes in the encoding of the database as a Rust string.
///
/// Raises no error, and different bytes result in different strings: bytes that have no equivalent
/// or are not valid (names of roles are shared by databases of all encodings) are kept one by one.
pub fn from_server(bytes: &[u8]) -> String {
    if bytes.is_ascii() {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    let text = match encoding {
        UTF8 | SQL_ASCII => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => converted(bytes, encoding),
    };
    let Some(text) = text else { return bytes.iter().map(|b| by_byte(*b)).collect() };
    // A character that also represents a raw byte is kept as its bytes. Under SQL_ASCII, so are
    // unprintable characters, which have no other escaped form there.
    let is_hidden = |c: char| {
        RAW_BYTES.contains(&c) || encoding == SQL_ASCII && !c.is_ascii() && is_unprintable(c)
    };
    match encoding {
        UTF8 | SQL_ASCII if text.contains(is_hidden) => {
            let mut out = String::with_capacity(text.len() * 2);
            for c in text.chars() {
                if is_hidden(c) {
                    out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(by_byte));
                } else {
                    out.push(c);
                }
            }
            out
        }
        _ if text.contains(|c| RAW_BYTES.contains(&c)) => {
            bytes.iter().map(|b| by_byte(*b)).collect()
        }
        _ => text,
    }
}

fn by_byte(byte: u8) -> char {
    if byte.is_ascii() {
        char::from(byte)
    } else {
        char::from_u32(0x10_ff00 + u32::from(byte)).expect("within the plane")
    }
}

/// Converts by the server's function that stops instead of raising an error; `None` where it
/// stopped.
fn converted(bytes: &[u8], encoding: i32) -> Option<String> {
    // The server's own bound for any conversion.
    let mut buffer = vec![0u8; bytes.len() * pg_sys::MAX_CONVERSION_GROWTH as usize + 1];
    // SAFETY: the lengths are those of source and destination; the server writes at most the
    // length of the buffer, including a zero at the end.
    let used = unsafe {
        let procedure = pg_sys::FindDefaultConversionProc(encoding, UTF8);
        if procedure == pg_sys::InvalidOid {
            return None;
        }
        let (source, length) = (bytes.as_ptr().cast_mut(), bytes.len() as i32);
        let (target, size) = (buffer.as_mut_ptr(), buffer.len() as i32);
        pg_sys::pg_do_encoding_conversion_buf(
            procedure, encoding, UTF8, source, length, target, size, true,
        )
    };
    if used as usize != bytes.len() {
        return None;
    }
    let end = buffer.iter().position(|b| *b == 0)?;
    buffer.truncate(end);
    String::from_utf8(buffer).ok()
}

/// Returns a Rust string as bytes in the encoding of the database. Raises an error for a character
/// that the encoding does not have. Under UTF-8, bytes that are not valid text are kept as they
/// are.
pub fn to_server(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        return text.as_bytes().to_vec();
    }
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if encoding == SQL_ASCII || encoding == UTF8 {
        return with_bytes(text, encoding == UTF8);
    }
    let shown = text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if RAW_BYTES.contains(&c) {
            let _ = write!(out, "\\x{:02X}", u32::from(c) as u8);
        } else {
            out.push(c);
        }
        out
    });
    let text = shown.as_str();
    // SAFETY: as above.
    unsafe {
        let converted = pg_sys::pg_any_to_server(text.as_ptr().cast(), text.len() as i32, UTF8);
        if converted.cast_const().cast() == text.as_ptr() {
            text.as_bytes().to_vec()
        } else {
            CStr::from_ptr(converted).to_bytes().to_vec()
        }
    }
}

/// As [`to_server`], without a copy where none is needed.
pub fn borrowed_to_server(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() { Cow::Borrowed(text.as_bytes()) } else { Cow::Owned(to_server(text)) }
}

/// Returns a text as bytes; characters that represent raw bytes are replaced by these.
fn with_bytes(text: &str, is_utf8: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c| RAW_BYTES.contains(&c)) {
        let (plain, from) = rest.split_at(start);
        let (raw, after) =
            from.split_at(from.find(|c| !RAW_BYTES.contains(&c)).unwrap_or(from.len()));
        let bytes: Vec<u8> = raw.chars().map(|c| u32::from(c) as u8).collect();
        out.extend_from_slice(plain.as_bytes());
        // Bytes that form valid UTF-8 can only result from a character of this kind in the text.
        let is_text = !is_utf8 || std::str::from_utf8(&bytes).is_ok();
        out.extend_from_slice(if is_text { &bytes } else { raw.as_bytes() });
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Returns text for a message of the server. pgrx passes messages as UTF-8, whatever the encoding
/// of the database is. Where it is another one, characters beyond ASCII are written as `\u00FC`,
/// because they would be garbled otherwise.
pub fn for_message(text: String) -> String {
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if text.is_ascii() || encoding == UTF8 || encoding == SQL_ASCII {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_ascii() {
            out.push(c);
        } else {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        }
        out
    })
}

/// Returns a time (microseconds since 2000) in the format of the server log.
pub fn timestamp(at: i64) -> String {
    // SAFETY: returns a static C string of the server.
    unsafe { from_server(CStr::from_ptr(pg_sys::timestamptz_to_str(at)).to_bytes()) }
}

/// Returns a time (microseconds since 2000) in UTC as every session reads it: ISO 8601, in seconds.
pub fn utc(at: i64) -> String {
    let seconds = at - at.rem_euclid(1_000_000);
    let time = pgrx::datum::TimestampWithTimeZone::try_from(seconds).ok();
    let utc = time.and_then(|time| time.to_iso_string_with_timezone("UTC").ok());
    utc.unwrap_or_else(|| timestamp(at))
}

/// Whether the database's encoding is UTF-8.
pub fn is_utf8() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() == UTF8 }
}

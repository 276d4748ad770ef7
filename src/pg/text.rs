//! Text between the server's encoding and Rust's.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::fmt::Write;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// Bytes in the encoding of the database, as a Rust string. Never an error: what has no equivalent, or is not valid to begin with (names of
/// roles are shared by databases of all encodings), is written byte by byte as `\\x81`.
pub fn from_server(bytes: &[u8]) -> String {
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if bytes.is_ascii() || encoding == UTF8 || encoding == SQL_ASCII {
        return std::str::from_utf8(bytes).map_or_else(|_| by_byte(bytes), str::to_owned);
    }
    converted(bytes, encoding).unwrap_or_else(|| by_byte(bytes))
}

/// The conversion that does not raise an error but stops; `None` where it did.
fn converted(bytes: &[u8], encoding: i32) -> Option<String> {
    // The server's own bound for any conversion.
    let mut buffer = vec![0u8; bytes.len() * pg_sys::MAX_CONVERSION_GROWTH as usize + 1];
    // SAFETY: source and destination are as long as said; the server writes at most the buffer's length and a zero at the end.
    let used = unsafe {
        let procedure = pg_sys::FindDefaultConversionProc(encoding, UTF8);
        if procedure == pg_sys::InvalidOid {
            return None;
        }
        let (source, length) = (bytes.as_ptr().cast_mut(), bytes.len() as i32);
        let (target, size) = (buffer.as_mut_ptr(), buffer.len() as i32);
        pg_sys::pg_do_encoding_conversion_buf(procedure, encoding, UTF8, source, length, target, size, true)
    };
    if used as usize != bytes.len() {
        return None;
    }
    let end = buffer.iter().position(|b| *b == 0)?;
    buffer.truncate(end);
    String::from_utf8(buffer).ok()
}

fn by_byte(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        if byte.is_ascii() {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "\\x{byte:02X}");
        }
        out
    })
}

/// A Rust string as bytes in the encoding of the database. A character that it does not have is an error.
pub fn to_server(text: &str) -> Vec<u8> {
    if text.is_ascii() || is_utf8() {
        return text.as_bytes().to_vec();
    }
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

/// Text for a message of the server. pgrx passes messages on as UTF-8, whatever the encoding of the database: where that is another one,
/// characters beyond ASCII are written as `\u00FC`, for else they would be broken.
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

/// Whether the database's encoding is UTF-8.
pub fn is_utf8() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() == UTF8 }
}

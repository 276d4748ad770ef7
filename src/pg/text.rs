//! Text between the server's encoding and Rust's.

use pgrx::pg_sys;
use std::ffi::CStr;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;

/// Bytes in the encoding of the database, as a Rust string. In a SQL_ASCII database, which knows no encoding, bytes that are no UTF-8
/// are replaced.
pub fn from_server(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && (text.is_ascii() || is_utf8())
    {
        return text.to_owned();
    }
    // SAFETY: the pointer and length are those of the slice; the server gives back the same pointer or a zero-terminated copy.
    unsafe {
        let converted = pg_sys::pg_server_to_any(bytes.as_ptr().cast(), bytes.len() as i32, UTF8);
        if converted.cast_const().cast() == bytes.as_ptr() {
            String::from_utf8_lossy(bytes).into_owned()
        } else {
            CStr::from_ptr(converted).to_string_lossy().into_owned()
        }
    }
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
    use std::fmt::Write;
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if text.is_ascii() || encoding == UTF8 || encoding == pg_sys::pg_enc::PG_SQL_ASCII as i32 {
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

fn is_utf8() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() == UTF8 }
}

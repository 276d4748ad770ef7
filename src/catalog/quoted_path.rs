//! Search paths with quoted names: the server folds and truncates names by the rules of the
//! encoding, which the core does not know.

use crate::pg::text::{self, from_server};
use dragonfly_core::search_path::stored_value;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Replaces the search_path in the settings of a routine by one with quoted names, where the
/// encoding of the database is not UTF-8. The server folds and truncates names by the rules of the
/// encoding, which the core does not know.
pub fn with_quoted_path(mut config: Vec<String>) -> Vec<String> {
    if !text::is_utf8() {
        for item in &mut config {
            if let Some((key, value)) = item.split_once('=')
                && key.eq_ignore_ascii_case("search_path")
            {
                *item = format!("{key}={}", quoted_path(value));
            }
        }
    }
    config
}

/// Returns a search_path with quoted names where the encoding of the database is not UTF-8;
/// unchanged where it is not a valid list.
pub fn quoted_path(value: &str) -> String {
    if text::is_utf8() {
        return value.to_owned();
    }
    let Ok(raw) = CString::new(text::to_server(value)) else { return value.to_owned() };
    // SAFETY: the server modifies the copy, and its list points into the copy.
    unsafe {
        let mut list: *mut pg_sys::List = std::ptr::null_mut();
        if !pg_sys::SplitIdentifierString(pg_sys::pstrdup(raw.as_ptr()), b',' as _, &mut list) {
            return value.to_owned();
        }
        let length = if list.is_null() { 0 } else { (*list).length as usize };
        let name =
            |i| from_server(CStr::from_ptr((*(*list).elements.add(i)).ptr_value.cast()).to_bytes());
        stored_value(&(0..length).map(name).collect::<Vec<_>>())
    }
}

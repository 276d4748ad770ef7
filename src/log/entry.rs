//! An entry of the log, written as one line of JSON.

use crate::pg::clock;
use crate::pg::text::{from_server, timestamp};
use crate::settings;
use dragonfly_core::guard::Rejection;
use dragonfly_core::sql::secrets::without_secrets;
use pgrx::pg_sys;
use serde::Serialize;
use std::ffi::CStr;
use std::fmt::Write;

/// An event of the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Event {
    Rejected,
    Warned,
    /// A violation that was allowed without a message, because the contract only observes.
    Observed,
    /// A command was not checked because the mode is off.
    Unchecked,
    /// A session restores a dump and is not checked.
    Restoring,
    /// The guard itself was changed: its mode, or the extension was dropped.
    Changed,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the fields are named like those of the entry")]
pub struct About<'a> {
    pub rule: Option<&'static str>,
    pub object: Option<&'a str>,
    pub verdict: Option<&'static str>,
    pub message: Option<&'a str>,
}

impl<'a> About<'a> {
    /// Returns an entry's subject of which only a message is known.
    pub fn message(message: &'a str) -> Self {
        Self { message: Some(message), ..Self::default() }
    }
}

impl<'a> From<&'a Rejection> for About<'a> {
    fn from(rejection: &'a Rejection) -> Self {
        Self {
            rule: Some(rejection.rule.id),
            object: Some(&rejection.object),
            verdict: rejection.verdict.map(dragonfly_core::search_path::Verdict::as_str),
            message: Some(&rejection.message),
        }
    }
}

/// One entry; the fields are in the order of the line.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    dragonfly_guard: Event,
    at: String,
    mode: &'static str,
    database: String,
    session_user: String,
    role: String,
    pid: i32,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    statement: Option<String>,
}

/// The maximum length of a text in an entry, in bytes.
const LONGEST: usize = 1_000;

impl<'a> Entry<'a> {
    /// Returns the entry for an event that happens now; `command` is the command tag.
    pub fn now(event: Event, command: &'a str, about: About<'_>) -> Self {
        Self {
            dragonfly_guard: event,
            at: timestamp(clock::now()),
            mode: settings::mode().as_str(),
            database: clean(&database()),
            session_user: clean(&role_name(login_role())),
            role: clean(&role_name(session_role())),
            pid: my_pid(),
            command,
            rule: about.rule,
            object: about.object.map(|object| shortened(&clean(object))),
            verdict: about.verdict,
            message: about.message.map(|message| shortened(&clean(message))),
            statement: Some(statement()),
        }
    }
}

impl Entry<'_> {
    /// Returns the entry as one line, without any character that a reader may take for a line end.
    pub fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("an entry is JSON");
        json.replace('\u{85}', "\\u0085")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029")
    }

    /// Returns the entry as one line of at most `limit` bytes. Where escapes make the line longer,
    /// texts are omitted; `None` where it is still too long.
    pub fn line_within(mut self, limit: usize) -> Option<String> {
        let texts: [fn(&mut Entry<'_>); 3] = [
            |_| {},
            |entry| entry.statement = None,
            |entry| (entry.message, entry.object) = (None, None),
        ];
        texts.into_iter().find_map(|shorten| {
            shorten(&mut self);
            Some(self.line()).filter(|line| line.len() <= limit)
        })
    }
}

/// Returns a text with `\x..` in place of bytes that are not valid text. (Strings from the server
/// hold these as characters of a private plane.)
fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match u32::from(c) {
            raw @ 0x10_ff80..=0x10_ffff => {
                let _ = write!(out, "\\x{:02x}", raw & 0xff);
            }
            _ => out.push(c),
        }
        out
    })
}

/// Returns the statement that the client sent, shortened and without secrets.
fn statement() -> String {
    // SAFETY: null or a C string that lives as long as the statement runs.
    let text = unsafe {
        let text = pg_sys::debug_query_string;
        if text.is_null() {
            String::new()
        } else {
            from_server(beginning(CStr::from_ptr(text).to_bytes()))
        }
    };
    shortened(&without_secrets(&clean(&text)))
}

/// Returns the part of a text that an entry can need, cut at a character boundary of UTF-8.
fn beginning(bytes: &[u8]) -> &[u8] {
    let mut end = bytes.len().min(LONGEST + 8);
    while end < bytes.len() && end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &bytes[..end]
}

fn shortened(text: &str) -> String {
    match text
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|end| *end <= LONGEST)
        .last()
    {
        Some(end) if end < text.len() => format!("{}...", &text[..end]),
        _ => text.to_owned(),
    }
}

fn database() -> String {
    // SAFETY: null or a C string; the session is connected to a database.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

/// Returns the name of a role; empty where the role does not exist.
fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: null where there is no such role, or a C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { String::new() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

/// Returns the role that logged in, regardless of SET SESSION AUTHORIZATION and SET ROLE.
fn login_role() -> pg_sys::Oid {
    // SAFETY: a backend has an entry in the process array.
    unsafe { (*pg_sys::MyProc).roleId }
}

/// Returns the role of the session, regardless of SECURITY DEFINER routines that are running.
fn session_role() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetOuterUserId() }
}

fn my_pid() -> i32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::MyProcPid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"x".repeat(LONGEST)).len(), LONGEST);
        let cut = shortened(&"é".repeat(LONGEST));
        assert!(cut.len() <= LONGEST + 3 && cut.ends_with("é..."));
    }
}

//! An entry of the log.

use crate::pg::clock;
use crate::pg::text::{from_server, timestamp};
use crate::settings::{self, Mode};
use dragonfly_core::guard::Rejection;
use pgrx::pg_sys;
use serde::Serialize;
use std::ffi::CStr;
use std::fmt::Write;

/// What the guard did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Event {
    Rejected,
    Warned,
    /// The command was not checked, because the mode is off.
    Unchecked,
    /// The session restores a dump and is not checked.
    Restoring,
}

/// One entry, the fields in the order in which the line has them.
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

/// No text in an entry has more bytes.
const LONGEST: usize = 1_000;

impl<'a> Entry<'a> {
    /// The entry for an event as it happens now; `command` is its tag.
    pub fn now(event: Event, command: &'a str, rejection: Option<&Rejection>) -> Self {
        Self {
            dragonfly_guard: event,
            at: timestamp(clock::now()),
            mode: match settings::mode() {
                Mode::block => "block",
                Mode::warn => "warn",
                Mode::off => "off",
            },
            database: clean(&database()),
            session_user: clean(&role_name(login())),
            role: clean(&role_name(outer_user())),
            pid: my_pid(),
            command,
            rule: rejection.map(|r| r.rule.id),
            object: rejection.map(|r| shortened(&clean(&r.object))),
            verdict: rejection.and_then(|r| r.verdict).map(|v| v.as_str()),
            message: rejection.map(|r| shortened(&clean(&r.message))),
            statement: statement(),
        }
    }
}

impl Entry<'_> {
    /// One line, whatever its reader takes for the end of a line.
    pub fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("an entry is JSON");
        json.replace('\u{85}', "\\u0085")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029")
    }

    /// One line of no more than so many bytes. What is mostly escapes may be longer: better without
    /// its texts than not at all.
    pub fn line_within(mut self, most: usize) -> Option<String> {
        let texts: [fn(&mut Entry<'_>); 3] = [
            |_| {},
            |entry| entry.statement = None,
            |entry| (entry.message, entry.object) = (None, None),
        ];
        texts.into_iter().find_map(|shorten| {
            shorten(&mut self);
            Some(self.line()).filter(|line| line.len() <= most)
        })
    }
}

/// Bytes that are no text, which a Rust string here holds as characters of a private plane, as
/// people write them.
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

/// The statement that the client sent, shortened; `None` where what is left of it may hold a
/// secret.
fn statement() -> Option<String> {
    // SAFETY: null or a C string that lives as long as the statement runs, of which the beginning
    // is looked at.
    let text = unsafe {
        let text = pg_sys::debug_query_string;
        if text.is_null() {
            String::new()
        } else {
            from_server(beginning(CStr::from_ptr(text).to_bytes()))
        }
    };
    let text = shortened(&clean(&text));
    let lower = text.to_ascii_lowercase();
    (!SECRETS.iter().any(|word| lower.contains(word))).then_some(text)
}

/// ALTER ROLE ... PASSWORD, CREATE USER MAPPING, CREATE SUBSCRIPTION, set_config('app.jwt_secret',
/// ...): the whole text is withheld, for who knows what else is in it.
const SECRETS: [&str; 12] = [
    "password",
    "passwd",
    "user mapping",
    "subscription",
    "options",
    "secret",
    "token",
    "jwt",
    "api_key",
    "apikey",
    "private",
    "credential",
];

/// No more of a text than can be needed, cut where UTF-8 can be cut.
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

/// A role's name; empty where it is gone.
fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: null where there is no such role, or a C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { String::new() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

/// Who is logged in, whatever SET SESSION AUTHORIZATION and SET ROLE have said since.
fn login() -> pg_sys::Oid {
    // SAFETY: a session has its entry among the processes.
    unsafe { (*pg_sys::MyProc).roleId }
}

/// The role that the session has set, whatever SECURITY DEFINER routines are running.
fn outer_user() -> pg_sys::Oid {
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
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"x".repeat(LONGEST)).len(), LONGEST);
        let cut = shortened(&"é".repeat(LONGEST));
        assert!(cut.len() <= LONGEST + 3 && cut.ends_with("é..."));
    }
}

//! What an object is made of, as one hash: what an exemption is about, and ends with. Made of names and texts, so that it is the same after
//! dump and restore.

use super::oids;
use crate::pg::heap::{Row, State, Table};
use crate::pg::text::from_server;
use dragonfly_core::findings::{ObjectId, fingerprint};
use pgrx::pg_sys;
use std::ffi::CStr;

/// The basis of a routine: owner, language, body, SECURITY DEFINER, settings; of a relation: owner, kind, and what a view selects. `None` for
/// everything else, and for what is not there.
pub fn basis(state: &State, object: ObjectId) -> Option<String> {
    let parts = match object {
        ObjectId::Routine(oid) => routine(state, oid),
        ObjectId::Relation(oid) => relation(state, oid),
        _ => None,
    }?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(fingerprint(&parts))
}

fn routine(state: &State, routine: u32) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, owner, language, definer) = (column("oid"), column("proowner"), column("prolang"), column("prosecdef"));
    let (source, library, body, config) = (column("prosrc"), column("probin"), column("prosqlbody"), column("proconfig"));
    let mut parts = None;
    table.lookup(state, oids::PG_PROC_OID_INDEX, &[(oid, routine)], |row: Row<'_>| {
        let body = match row.is_null(body) {
            true => String::new(),
            false => as_text(pg_sys::pg_get_function_sqlbody, routine),
        };
        let mut all = vec![role_name(row.oid(owner)), language_name(row.oid(language)), row.bool(definer).to_string(), body];
        all.extend([row.text(source), row.text(library)].map(Option::unwrap_or_default));
        all.extend(row.texts(config));
        parts = Some(all);
    });
    parts
}

fn relation(state: &State, relation: u32) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_CLASS);
    let column = |name| table.column(name);
    let (oid, owner, kind, options) = (column("oid"), column("relowner"), column("relkind"), column("reloptions"));
    let mut parts = None;
    table.lookup(state, oids::PG_CLASS_OID_INDEX, &[(oid, relation)], |row: Row<'_>| {
        let mut all = vec![role_name(row.oid(owner)), char::from(row.char(kind)).to_string()];
        if matches!(row.char(kind), b'v' | b'm') {
            all.push(as_text(pg_sys::pg_get_viewdef, relation));
            all.extend(row.texts(options));
        }
        parts = Some(all);
    });
    parts
}

type Deparse = unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// What one of the server's functions says about an object, with every name that is not the server's own qualified, whatever the session's
/// search_path.
fn as_text(deparse: Deparse, object: u32) -> String {
    let name = c"search_path";
    // SAFETY: the setting is undone as a function's own is, by an error too (guc.c, `AtEOXact_GUC`); the snapshot is taken away again, by an error
    // too. The functions take an OID and give text, or null for what is not there.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let (user, session) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        let save = pg_sys::GucAction::GUC_ACTION_SAVE;
        pg_sys::set_config_option(name.as_ptr(), c"pg_catalog, pg_temp".as_ptr(), user, session, save, true, 0, false);
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let text = pgrx::direct_function_call_as_datum(deparse, &[Some(pg_sys::Datum::from(object))]);
        let text = text.map(crate::pg::heap::text_of).unwrap_or_default();
        pg_sys::PopActiveSnapshot();
        pg_sys::AtEOXact_GUC(true, level);
        text
    }
}

fn role_name(role: u32) -> String {
    // SAFETY: null where there is no such role, or a C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role.into(), true);
        if name.is_null() { role.to_string() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

fn language_name(language: u32) -> String {
    // SAFETY: null where there is no such language, or a C string.
    unsafe {
        let name = pg_sys::get_language_name(language.into(), true);
        if name.is_null() { language.to_string() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

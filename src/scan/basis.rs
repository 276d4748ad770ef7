//! What an object is made of, as one hash: what an exemption is about, and ends with. Made of names and texts, so that it is the same after
//! dump and restore, and whatever the session has set.

use super::oids;
use crate::pg::heap::{Column, Row, State, Table, text_of};
use crate::pg::subtransaction;
use crate::pg::text::from_server;
use dragonfly_core::findings::{ObjectId, fingerprint};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

/// How a query is written down. The server locks the relations that it names, and may wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Now.
    Afresh,
    /// As it was when somebody last looked afresh, unless it has been stored anew since: for whoever must not wait.
    Remembered,
}

/// The basis of a routine: what it is declared as, body and settings; of a relation: owner, columns, triggers, rules, and what the views behind
/// it select; of a policy: its roles and conditions. `None` for everything else, and for what is not there.
pub fn basis(state: &State, object: ObjectId, look: Look) -> Option<String> {
    let parts = match object {
        ObjectId::Routine(oid) => routine(state, oid, look),
        ObjectId::Relation(oid) => relation(state, oid, look),
        ObjectId::Policy(oid) => policy(state, oid, look),
        _ => None,
    }?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(fingerprint(&parts))
}

/// Looks afresh at everything that hangs on some relations and routines, for a later look that must not wait.
pub fn remember(state: &State, objects: impl Iterator<Item = ObjectId>) {
    for object in objects {
        if let ObjectId::Relation(relation) = object {
            for policy in policies_of(state, relation) {
                basis(state, ObjectId::Policy(policy), Look::Afresh);
            }
        }
        basis(state, object, Look::Afresh);
    }
}

fn routine(state: &State, routine: u32, look: Look) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, owner, language, config) = (column("oid"), column("proowner"), column("prolang"), column("proconfig"));
    let (source, library, body) = (column("prosrc"), column("probin"), column("prosqlbody"));
    let letters = [column("prokind"), column("provolatile")];
    let flags = [column("prosecdef"), column("proisstrict"), column("proretset"), column("proleakproof")];
    let mut parts = None;
    table.lookup(state, oids::PG_PROC_OID_INDEX, &[(oid, routine)], |row: Row<'_>| {
        let mut all = vec![role_name(row.oid(owner)), language_name(row.oid(language))];
        all.extend(letters.map(|column| char::from(row.char(column)).to_string()));
        all.extend(flags.map(|column| row.bool(column).to_string()));
        // Names, modes and defaults of its arguments, and its result, take no lock.
        for declared in [pg_sys::pg_get_function_arguments as Deparse, pg_sys::pg_get_function_result] {
            all.push(attempted(|| call(declared, &[pg_sys::Datum::from(routine)])));
        }
        if let Some(stored) = row.text(body) {
            let write = || call(pg_sys::pg_get_function_sqlbody, &[pg_sys::Datum::from(routine)]);
            all.push(written(look, (oids::PG_PROC, routine), &stored, write));
        }
        all.extend([row.text(source), row.text(library)].map(Option::unwrap_or_default));
        all.extend(row.texts(config));
        parts = Some(all);
    });
    parts
}

fn relation(state: &State, relation: u32, look: Look) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_CLASS);
    let column = |name| table.column(name);
    let (oid, owner, kind, options) = (column("oid"), column("relowner"), column("relkind"), column("reloptions"));
    let mut parts = None;
    table.lookup(state, oids::PG_CLASS_OID_INDEX, &[(oid, relation)], |row: Row<'_>| {
        let mut all = vec![role_name(row.oid(owner)), char::from(row.char(kind)).to_string()];
        all.extend(row.texts(options).into_iter().filter(|option| option.starts_with("security_")));
        parts = Some(all);
    });
    let parts = parts.as_mut()?;
    columns(state, relation, parts);
    triggers(state, relation, parts);
    // What the views behind it select is what it selects.
    let (mut queue, mut seen) = (vec![relation], HashSet::from([relation]));
    while let Some(next) = queue.pop() {
        for rule in rules(state, next) {
            let write = || call(pg_sys::pg_get_ruledef, &[pg_sys::Datum::from(rule.oid)]);
            parts.push(written(look, (oids::PG_REWRITE, rule.oid), &rule.stored, write));
            queue.extend(rule.relations.into_iter().filter(|oid| seen.insert(*oid)));
        }
    }
    Some(std::mem::take(parts))
}

fn columns(state: &State, relation: u32, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_ATTRIBUTE);
    let (owner, name, number) = (table.column("attrelid"), table.column("attname"), table.column("attnum"));
    let (type_oid, dropped) = (table.column("atttypid"), table.column("attisdropped"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        let number = row.int(number) as i16;
        if number > 0 && !row.bool(dropped) {
            found.push(format!("{} {}", row.name(name), super::routines::argument_types(&[row.oid(type_oid)])));
        }
    });
    // A dump may bring them in another order than years of ALTER TABLE have.
    found.sort();
    parts.append(&mut found);
}

fn triggers(state: &State, relation: u32, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_TRIGGER);
    let (oid, on, internal) = (table.column("oid"), table.column("tgrelid"), table.column("tgisinternal"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_TRIGGER_RELID_INDEX, &[(on, relation)], |row| {
        if !row.bool(internal) {
            found.push(row.oid(oid));
        }
    });
    let mut found: Vec<String> = found
        .into_iter()
        .map(|trigger| attempted(|| call(pg_sys::pg_get_triggerdef, &[pg_sys::Datum::from(trigger)])))
        .collect();
    found.sort();
    parts.append(&mut found);
}

/// A rule of a relation: a view's query is one.
struct Rule {
    oid: u32,
    /// As the server stores it.
    stored: String,
    /// What it names that has rules itself, perhaps.
    relations: Vec<u32>,
}

/// In order of their names.
fn rules(state: &State, relation: u32) -> Vec<Rule> {
    let table = Table::open(oids::PG_REWRITE);
    let column = |name| table.column(name);
    let (oid, on, action, condition) = (column("oid"), column("ev_class"), column("ev_action"), column("ev_qual"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_REWRITE_RELATION_INDEX, &[(on, relation)], |row| {
        let stored = row.text(action).unwrap_or_default() + &row.text(condition).unwrap_or_default();
        found.push(Rule { oid: row.oid(oid), stored, relations: vec![] });
    });
    let table = Table::open(oids::PG_DEPEND);
    let (class, object, to_class, to_object) =
        (table.column("classid"), table.column("objid"), table.column("refclassid"), table.column("refobjid"));
    for rule in &mut found {
        table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &[(class, oids::PG_REWRITE), (object, rule.oid)], |row| {
            if row.oid(to_class) == oids::PG_CLASS {
                rule.relations.push(row.oid(to_object));
            }
        });
        rule.relations.sort_unstable();
    }
    found
}

fn policies_of(state: &State, relation: u32) -> Vec<u32> {
    let table = Table::open(oids::PG_POLICY);
    let (oid, on) = (table.column("oid"), table.column("polrelid"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_POLICY_RELID_INDEX, &[(on, relation)], |row| found.push(row.oid(oid)));
    found
}

fn policy(state: &State, policy: u32, look: Look) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, on, command, permissive) = (column("oid"), column("polrelid"), column("polcmd"), column("polpermissive"));
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let mut parts = None;
    table.lookup(state, oids::PG_POLICY_OID_INDEX, &[(oid, policy)], |row: Row<'_>| {
        let mut names: Vec<String> =
            row.oids(roles).into_iter().map(|role| if role == 0 { "PUBLIC".into() } else { role_name(role) }).collect();
        names.sort();
        let mut all = vec![char::from(row.char(command)).to_string(), row.bool(permissive).to_string(), names.join("\0")];
        let relation = pg_sys::Datum::from(row.oid(on));
        let mut condition = |part: u32, column: Column| {
            let stored = row.text(column).unwrap_or_default();
            let write = || row.raw(column).map_or_else(String::new, |tree| call(pg_sys::pg_get_expr, &[tree, relation]));
            all.push(written(look, (oids::PG_POLICY + part, policy), &stored, write));
        };
        condition(0, using);
        condition(1, check);
        parts = Some(all);
    });
    parts
}

type Deparse = unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

thread_local! {
    /// How objects were written down when somebody looked, by catalog and OID: as they were stored, and the text.
    static WRITTEN: RefCell<HashMap<(u32, u32), (String, String)>> = RefCell::default();
}

/// So many are remembered.
const MOST: usize = 10_000;

/// An object written down by `write`; `stored` is how the server stores it.
fn written(look: Look, key: (u32, u32), stored: &str, write: impl FnOnce() -> String) -> String {
    let stored = fingerprint(&[stored]);
    if look == Look::Remembered {
        let known =
            WRITTEN.with_borrow(|written| written.get(&key).filter(|(then, _)| *then == stored).map(|(_, text)| text.clone()));
        return known.unwrap_or_else(|| "not looked at".to_owned());
    }
    let text = attempted(write);
    WRITTEN.with_borrow_mut(|written| {
        if written.len() >= MOST {
            written.clear();
        }
        written.insert(key, (stored, text.clone()));
    });
    text
}

/// What cannot be written down is like nothing else that somebody could have accepted; it must not end the audit.
fn attempted(write: impl FnOnce() -> String) -> String {
    thread_local! {
        static FAILED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    subtransaction::attempt(|| plainly(write)).unwrap_or_else(|_| {
        FAILED.set(FAILED.get() + 1);
        // SAFETY: reads a variable of the process, and asks the clock.
        let (pid, now) = unsafe { (pg_sys::MyProcPid, pg_sys::GetCurrentTimestamp()) };
        format!("cannot be written down: {pid} {now} {}", FAILED.get())
    })
}

/// What changes the text that the server writes.
const SETTINGS: [(&CStr, &CStr); 10] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"quote_all_identifiers", c"off"),
    (c"extra_float_digits", c"1"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"xmlbinary", c"base64"),
    (c"lc_monetary", c"C"),
    (c"standard_conforming_strings", c"on"),
];

/// Calls `write` with settings that leave nothing to the session.
fn plainly(write: impl FnOnce() -> String) -> String {
    // SAFETY: the settings are undone as a function's own are, and the snapshot is taken away again, by an error too: this runs in a
    // subtransaction (guc.c, `AtEOXact_GUC`).
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let (user, session) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        let save = pg_sys::GucAction::GUC_ACTION_SAVE;
        for (name, value) in SETTINGS {
            pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), user, session, save, true, 0, false);
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let text = write();
        pg_sys::PopActiveSnapshot();
        pg_sys::AtEOXact_GUC(true, level);
        text
    }
}

/// One of the server's functions that write an object down; the empty text where there is nothing to write.
fn call(deparse: Deparse, arguments: &[pg_sys::Datum]) -> String {
    let arguments: Vec<Option<pg_sys::Datum>> = arguments.iter().copied().map(Some).collect();
    // SAFETY: the functions take an OID, or an expression tree and an OID, and give text or null.
    unsafe { pgrx::direct_function_call_as_datum(deparse, &arguments) }.map(text_of).unwrap_or_default()
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

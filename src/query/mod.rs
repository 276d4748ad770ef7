//! The privileges that the server checks before it executes a statement, read from the statement as
//! the server itself rewrites it: views replaced by their queries, policies added. Nothing is
//! planned and nothing is executed.

mod constant;
mod nodes;
mod permissions;
mod reader;
mod unused;
mod writes;
mod written;

use crate::catalog;
use crate::pg::heap::State;
use crate::pg::inert::{Trust, inert};
use crate::pg::list::nodes;
use crate::pg::text::to_server;
use crate::pg::{restricted, setting, subtransaction};
use dragonfly_core::catalog::{BOOTSTRAP_SUPERUSER, Oid, Privileges};
use dragonfly_core::explain::Need;
pub use permissions::all_columns;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use reader::Reader;
pub use reader::{Call, Needs};
use std::cell::Cell;
use std::ffi::CString;
use written::{Command, Written};

/// Why a statement cannot be read.
pub enum Unreadable {
    /// No role can run it: the server's message.
    Never(String),
    /// Not at present: a relation is locked, or the statement is too complex for the server's
    /// limits.
    Now(Box<CaughtError>),
}

/// What a statement needs when `role` runs it. Names in it are looked up as by a superuser: whether
/// the role may use them is not checked here. Reading executes nothing but input functions of
/// types, and those only where `trust` includes their owners.
///
/// # Errors
/// Where the server cannot read it.
pub fn of(sql: &str, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        // SAFETY: a list of queries, which are ours to change.
        unsafe { nodes(rewritten(sql, role)).for_each(|query| reader.expression(query)) };
        for written in reader.written.take() {
            reader.written(written);
        }
    })
}

/// Has the server rewrite and plan the query of a view, as its owner and under the settings in
/// force. Returns false where the name now is another view's, or the view another owner's.
/// `has_mutable_functions` is set where a function in it may return something else another time. An
/// error where the server cannot: there must be a subtransaction.
pub fn view_is_read(view: Oid, name: &str, owner: Oid, has_mutable_functions: &Cell<bool>) -> bool {
    let query = analyzed(&format!("SELECT * FROM {name}"));
    // SAFETY: the query names one relation, which it has locked.
    let found = unsafe {
        nodes((*query).rtable)
            .next()
            .map(|entry| (*entry.cast::<pg_sys::RangeTblEntry>()).relid.to_u32())
    };
    if found != Some(view) || catalog::relation_owner(&State::now(), view) != Some(owner) {
        return false;
    }
    // SAFETY: a query as the analysis gave it, and what the server has made of it; the snapshot is
    // taken away again, by an error too.
    restricted::as_role(owner, || unsafe {
        let queries = pg_sys::QueryRewrite(query);
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        for query in nodes(queries) {
            has_mutable_functions
                .set(has_mutable_functions.get() || pg_sys::contain_mutable_functions(query));
            pg_sys::pg_plan_query(query.cast(), c"".as_ptr(), 0, std::ptr::null_mut());
        }
        pg_sys::PopActiveSnapshot();
    });
    true
}

/// A statement as the server rewrites it for `role`.
fn rewritten(sql: &str, role: Oid) -> *mut pg_sys::List {
    let query = analyzed(sql);
    // SAFETY: a query as the analysis gave it. It is rewritten for the role, whose policies are the
    // ones that count.
    restricted::as_role(role, || unsafe { pg_sys::QueryRewrite(query) })
}

/// A statement as the parser understands it.
fn analyzed(sql: &str) -> *mut pg_sys::Query {
    let text = CString::new(to_server(sql)).expect("names hold no zero byte");
    // SAFETY: a C string with one statement; the parser raises an error or gives a list of one.
    // Reading a statement runs no code of anybody's but the input functions of types, and there is
    // nothing but names in it.
    restricted::as_role(BOOTSTRAP_SUPERUSER, || unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statement = nodes(statements).next().expect("one statement");
        pg_sys::parse_analyze_fixedparams(
            statement.cast(),
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        )
    })
}

/// What TRUNCATE needs.
///
/// # Errors
/// As [`of`].
pub fn of_truncate(table: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        reader.need(Need { relation: table, privileges: Privileges::TRUNCATE, ..Need::default() });
        reader.written(Written { table, command: Command::Truncate, changed: vec![] });
    })
}

/// What calling a routine needs beside EXECUTE on it: for an aggregate, what its owner needs; for
/// arguments that are domains, the checks.
///
/// # Errors
/// As [`of`].
pub fn of_call(routine: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        reader.aggregate(routine.into());
        reader.needs.borrow_mut().calls.retain(|call| call.routine != routine);
        catalog::argument_type_oids(&State::now(), routine)
            .into_iter()
            .for_each(|of| reader.domain(of));
    })
}

fn reading(trust: &Trust, read: impl FnOnce(&Reader)) -> Result<Needs, Unreadable> {
    let settings = [setting::SAFE_PATH, (c"row_security", c"on")];
    let work = || {
        setting::under(&settings, || {
            let reader = Reader::new();
            read(&reader);
            reader.needs.into_inner()
        })
    };
    let (outcome, refused) = inert(trust, || subtransaction::rolled_back(work));
    outcome.map_err(|error| match subtransaction::report(&error).sql_error_code() {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX => Unreadable::Now(error),
        // Reading it was blocked here; executing it would not be.
        _ if refused.is_some() => Unreadable::Now(error),
        _ => Unreadable::Never(subtransaction::report(&error).message().to_owned()),
    })
}

//! The privileges that the server checks before it executes a statement, read from the statement as
//! the server itself rewrites it: views replaced by their queries, policies added. Nothing is
//! planned and nothing is executed.

mod bodies;
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
use dragonfly_reader::needs::Needs;
pub use permissions::{all_columns, is_updatable_column};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use reader::Reader;
use std::cell::Cell;
use std::ffi::CString;
use written::{Command, Written};

/// Why a statement cannot be read.
pub enum Unreadable {
    /// No role can execute it: the server's message.
    Never(String),
    /// Not at present: a relation is locked, or the statement is too complex for the server's
    /// limits.
    Now(Box<CaughtError>),
}

/// Returns what a statement needs when `role` executes it. Names in it are looked up as a
/// superuser, so that missing USAGE on a schema is no error here. Reading executes nothing but the
/// input functions of types, and those only where `trust` includes their owners.
///
/// # Errors
/// Where the server cannot read it.
pub fn of(sql: &str, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(role, trust, |reader| {
        // SAFETY: a list of queries, which this function owns.
        unsafe { nodes(rewritten(sql, role)).for_each(|query| reader.expression(query)) };
        reader.all_written();
    })
}

/// Has the server rewrite and plan the query of a view, as its owner and with the current settings.
/// Returns false where the name now belongs to another view, or the view to another owner. Sets
/// `has_mutable_functions` where a function in the query may return something else another time.
/// Raises an error where the query cannot be planned; the caller must have a subtransaction.
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
    // SAFETY: the query of the analysis and the queries of the rewriter; the snapshot is popped
    // again, after an error too.
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

/// Returns a statement as the server rewrites it for `role`.
fn rewritten(sql: &str, role: Oid) -> *mut pg_sys::List {
    let query = analyzed(sql);
    // SAFETY: the query of the analysis. It is rewritten as the role, because its policies apply.
    restricted::as_role(role, || unsafe { pg_sys::QueryRewrite(query) })
}

/// Returns a statement as the parser analyzes it.
fn analyzed(sql: &str) -> *mut pg_sys::Query {
    let text = CString::new(to_server(sql)).expect("names hold no zero byte");
    // SAFETY: a C string with one statement; the parser raises an error or returns a list of one.
    // The analysis of a statement executes only the input functions of types, and the statement
    // contains names only.
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

/// Returns what TRUNCATE needs when `role` executes it.
///
/// # Errors
/// As [`of`].
pub fn of_truncate(table: Oid, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(role, trust, |reader| {
        reader.need(Need { relation: table, privileges: Privileges::TRUNCATE, ..Need::default() });
        reader.written(Written { table, command: Command::Truncate, changed: vec![] });
    })
}

/// Returns what a call of a routine by `role` needs beside EXECUTE on it: for an aggregate, what
/// its owner needs; for arguments of domains, what the checks of the domains need; what the parsed
/// body needs; and what the defaults of its arguments need.
///
/// # Errors
/// As [`of`].
pub fn of_call(routine: Oid, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    let call = reading(role, trust, |reader| {
        reader.aggregate(routine.into());
        reader.needs.borrow_mut().calls.retain(|call| call.routine != routine);
        catalog::argument_type_oids(&State::now(), routine)
            .into_iter()
            .for_each(|of| reader.domain(of));
    })?;
    let defaults = reading(role, trust, |reader| {
        reader.defaults(routine).into_iter().for_each(|default| reader.argument(default));
    })?;
    Ok(Needs { defaults: Some(Box::new(defaults)), ..call })
}

/// Reads what a statement of `role` needs, with the bodies of the routines that it calls.
fn reading(role: Oid, trust: &Trust, read: impl FnOnce(&Reader)) -> Result<Needs, Unreadable> {
    let settings = [setting::SAFE_PATH, setting::ALL_KINDS, (c"row_security", c"on")];
    let work = || {
        setting::under(&settings, || {
            let reader = Reader::new(role);
            read(&reader);
            let bodies = reader.bodies();
            Needs { bodies, entered: reader.texts.take(), ..reader.needs.into_inner() }
        })
    };
    let (outcome, blocked) = inert(trust, || subtransaction::rolled_back(work));
    outcome.map_err(|error| match subtransaction::report(&error).sql_error_code() {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX => Unreadable::Now(error),
        // Only reading it is blocked; the server would execute it.
        _ if blocked.is_some() => Unreadable::Now(error),
        _ => Unreadable::Never(subtransaction::report(&error).message().to_owned()),
    })
}

//! How the server writes things down: its own functions, called with settings that leave nothing to
//! the session.

use crate::pg::heap::text_of;
use crate::pg::setting as session;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::search_path::{split_identifiers, stored_value};
use dragonfly_core::sql::literal_types;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// One of the server's functions that write an object down.
pub type Deparse = unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// A path as a dump would write it: FROM CURRENT stores what the session had, as it was typed.
pub fn setting(item: &str) -> String {
    match item.split_once('=') {
        Some((key, value)) if key.eq_ignore_ascii_case("search_path") => {
            match split_identifiers(value, super::VERSION) {
                Ok(names) => format!("search_path={}", stored_value(&names)),
                Err(_) => item.to_owned(),
            }
        }
        _ => item.to_owned(),
    }
}

/// A query as the server writes it down after it has read what it wrote down: what a dump and its
/// restore make of it (casts in a list, as in `IN ('a', 'b')` on varchar, are not stored as they
/// were).
pub fn canonical(query: &str) -> String {
    // SAFETY: the parser's own output.
    unsafe {
        let Some(parsed) = analyzed(query) else { return query.to_owned() };
        from_server(CStr::from_ptr(pg_sys::pg_get_querydef(parsed, false)).to_bytes())
    }
}

/// Whether reading an expression would run somebody's code: a literal of a type that somebody made
/// is read by the type's input function, and that of an array or a row over a domain runs the
/// domain's checks. Enums run nothing. With the settings here, the server writes types that are not
/// its own with their schema, `'{1}'::app.positive[]`, but for the session's own temporary ones.
pub fn runs_code(text: &str) -> bool {
    literal_types(text).is_none_or(|types| !types.into_iter().all(is_harmless))
}

fn is_harmless(name: &str) -> bool {
    let is_qualified = !name.starts_with('"') && name.contains('.') || name.contains("\".");
    if is_qualified {
        is_enum(name)
    } else {
        !super::temporary::has_schema() || type_named(&format!("pg_temp.{name}")).is_none()
    }
}

fn is_enum(name: &str) -> bool {
    // SAFETY: a look-up in the system cache.
    type_named(name).is_some_and(|oid| unsafe { pg_sys::get_typtype(oid.into()) } as u8 == b'e')
}

/// The type of a name, along the path in force. The parser raises an error where it is no name at
/// all.
pub fn type_named(name: &str) -> Option<u32> {
    let bytes = to_server(name);
    // SAFETY: takes a text, gives a type or null; a look-up in the system cache.
    unsafe {
        let name = pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
        let found = pgrx::direct_function_call_as_datum(
            pg_sys::to_regtype,
            &[Some(pg_sys::Datum::from(name))],
        );
        found.map(|found| found.value() as u32)
    }
}

/// A query as the parser understands it; `None` where somebody's code would run, an error where it
/// is not understood. Relations that it names are locked.
///
/// # Safety
/// The query is one statement, and the memory context is one that lives as long as the result is
/// used.
unsafe fn analyzed(query: &str) -> Option<*mut pg_sys::Query> {
    if runs_code(query) {
        return None;
    }
    let text = CString::new(to_server(query)).ok()?;
    // SAFETY: C strings; the parser raises an error or gives a list of statements. The tree holds
    // no pointers into the text.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statement = crate::pg::list::nodes(statements).next()?;
        let (none, no_environment) = (std::ptr::null(), std::ptr::null_mut());
        Some(pg_sys::parse_analyze_fixedparams(
            statement.cast(),
            text.as_ptr(),
            none,
            0,
            no_environment,
        ))
    }
}

/// The same for an expression over the columns of one relation, `name`.
pub fn canonical_expression(expression: &str, name: &str, relation: u32) -> String {
    // SAFETY: a query has a list of target entries, each with an expression; what nodeToString
    // gives is a C string.
    unsafe {
        let parsed = analyzed(&format!("SELECT ({expression}) FROM {name}"));
        let Some(target) =
            parsed.and_then(|query| crate::pg::list::nodes((*query).targetList).next())
        else {
            return expression.to_owned();
        };
        expression_text((*target.cast::<pg_sys::TargetEntry>()).expr.cast(), relation)
    }
}

/// An expression over the columns of a relation, as the server writes it down.
///
/// # Safety
/// `node` is a valid expression tree.
pub unsafe fn expression_text(node: *mut pg_sys::Node, relation: u32) -> String {
    // SAFETY: as the caller promises; C strings.
    let tree = unsafe { pg_sys::cstring_to_text(pg_sys::nodeToString(node.cast())) };
    call(pg_sys::pg_get_expr, &[pg_sys::Datum::from(tree), pg_sys::Datum::from(relation)])
}

/// What a type's output function gives for an OID: `regprocout` and the like.
pub fn named(output: Deparse, oid: u32) -> String {
    // SAFETY: the functions take an OID and give a C string.
    unsafe {
        let text = pgrx::direct_function_call_as_datum(output, &[Some(pg_sys::Datum::from(oid))]);
        text.map(|text| from_server(CStr::from_ptr(text.cast_mut_ptr()).to_bytes()))
            .unwrap_or_default()
    }
}

/// A type as SQL names it, with its modifier.
pub fn type_name(type_oid: u32, modifier: i32) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
    // SAFETY: gives a C string.
    unsafe {
        let name = pg_sys::format_type_extended(type_oid.into(), modifier, flags as pg_sys::bits16);
        from_server(CStr::from_ptr(name).to_bytes())
    }
}

/// What cannot be written down is like nothing else that somebody could have accepted; it must not
/// end the audit.
pub fn attempted(write: impl FnOnce() -> String) -> String {
    thread_local! {
        static FAILED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    subtransaction::attempt(|| plainly(write)).unwrap_or_else(|error| {
        rethrow_if_locked(*error);
        FAILED.set(FAILED.get() + 1);
        // SAFETY: reads a variable of the process, and asks the clock.
        let (pid, now) = unsafe { (pg_sys::MyProcPid, pg_sys::GetCurrentTimestamp()) };
        format!("cannot be written down: {pid} {now} {}", FAILED.get())
    })
}

/// Nobody knows what something is while somebody else has locked it.
fn rethrow_if_locked(error: CaughtError) {
    let code = subtransaction::report(&error).sql_error_code();
    if matches!(
        code,
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
    ) {
        error.rethrow();
    }
}

/// A text that the server wrote, read by it as `owner` and written once more, so that it is the
/// same whoever looks; as it is where the owner cannot. In a subtransaction that is rolled back,
/// for reading locks what is named, and thousands of tables would be more than the server has locks
/// for.
pub fn read_again(text: String, owner: Oid, read: impl FnOnce(&str) -> String) -> String {
    let outcome = subtransaction::rolled_back(|| restricted::as_role(owner, || read(&text)));
    outcome.unwrap_or_else(|error| {
        rethrow_if_locked(*error);
        text
    })
}

/// What changes the text that the server writes.
const SETTINGS: [(&CStr, &CStr); 12] = [
    session::SAFE_PATH,
    (c"quote_all_identifiers", c"off"),
    (c"extra_float_digits", c"1"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"xmlbinary", c"base64"),
    (c"lc_monetary", c"C"),
    (c"standard_conforming_strings", c"on"),
    (c"array_nulls", c"on"),
    (c"xmloption", c"content"),
];

/// Calls `write` with settings that leave nothing to the session.
pub fn plainly<T>(write: impl FnOnce() -> T) -> T {
    // SAFETY: the snapshot is taken away again, by an error too: at the end of the (sub)transaction
    // that it ends.
    session::under(&SETTINGS, || unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let text = write();
        pg_sys::PopActiveSnapshot();
        text
    })
}

/// One of the server's functions that write an object down; the empty text where there is nothing
/// to write.
pub fn call(deparse: Deparse, arguments: &[pg_sys::Datum]) -> String {
    let arguments: Vec<Option<pg_sys::Datum>> = arguments.iter().copied().map(Some).collect();
    // SAFETY: the functions take an OID, or an expression tree and an OID, and give text or null.
    unsafe { pgrx::direct_function_call_as_datum(deparse, &arguments) }
        .map(text_of)
        .unwrap_or_default()
}

/// A role's name; its number where there is none.
pub fn role_name(role: u32) -> String {
    // SAFETY: null where there is no such role, or a C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role.into(), true);
        if name.is_null() { role.to_string() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

/// A language's name.
pub fn language_name(language: u32) -> String {
    // SAFETY: null where there is no such language, or a C string.
    unsafe {
        let name = pg_sys::get_language_name(language.into(), true);
        if name.is_null() {
            language.to_string()
        } else {
            from_server(CStr::from_ptr(name).to_bytes())
        }
    }
}

//! Deparsing objects by the functions of the server, with fixed settings, so that the result does
//! not depend on the session.

use crate::pg::heap::text_of;
use crate::pg::setting as session;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::search_path::stored_value;
use dragonfly_core::sql::identifiers::split_identifiers;
use dragonfly_core::sql::literal_types;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// A function of the server that deparses an object.
pub type Deparse = unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// Returns a setting of a routine in the form of a dump. FROM CURRENT stores a search_path as it
/// was typed in the session.
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

/// Returns a deparsed query after parsing and deparsing it again, which is its form after dump and
/// restore (which changes, for example, the casts in the list of `IN ('a', 'b')` on varchar).
pub fn canonical(query: &str) -> String {
    // SAFETY: the argument is the output of the parser.
    unsafe {
        let Some(parsed) = analyzed(query) else { return query.to_owned() };
        from_server(CStr::from_ptr(pg_sys::pg_get_querydef(parsed, false)).to_bytes())
    }
}

/// Whether parsing an expression would execute user-defined code: a literal of a user-defined type
/// is parsed by the input function of the type, and for an array or a row over a domain, the
/// domain's checks are executed. Enums execute no code.
///
/// With the settings of this module, deparsed user-defined types are qualified
/// (`'{1}'::app.positive[]`), except types in the session's own temporary schema.
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
    // SAFETY: a lookup in the system cache.
    type_named(name).is_some_and(|oid| unsafe { pg_sys::get_typtype(oid.into()) } as u8 == b'e')
}

/// Returns the type of this name, found by the current search_path; `None` where it does not exist.
/// Raises an error where the name is not valid.
pub fn type_named(name: &str) -> Option<u32> {
    let bytes = to_server(name);
    // SAFETY: takes a text, returns a type or null; a lookup in the system cache.
    unsafe {
        let name = pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32);
        let found = pgrx::direct_function_call_as_datum(
            pg_sys::to_regtype,
            &[Some(pg_sys::Datum::from(name))],
        );
        found.map(|found| found.value() as u32)
    }
}

/// Parses and analyzes a query; `None` where user-defined code would be executed. Raises an error
/// where the query is not valid. Locks the relations in it.
///
/// # Safety
/// The query is one statement, and the current memory context lives as long as the result is used.
unsafe fn analyzed(query: &str) -> Option<*mut pg_sys::Query> {
    if runs_code(query) {
        return None;
    }
    let text = CString::new(to_server(query)).ok()?;
    // SAFETY: C strings; the parser raises an error or returns a list of statements. The tree has
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

/// Returns the same as [`canonical`], for an expression over the columns of one relation, `name`.
pub fn canonical_expression(expression: &str, name: &str, relation: u32) -> String {
    // SAFETY: a query has a list of target entries, each with an expression; nodeToString returns a
    // C string.
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

/// Deparses an expression over the columns of a relation.
///
/// # Safety
/// `node` is a valid expression tree.
pub unsafe fn expression_text(node: *mut pg_sys::Node, relation: u32) -> String {
    // SAFETY: as the caller promises; C strings.
    let tree = unsafe { pg_sys::cstring_to_text(pg_sys::nodeToString(node.cast())) };
    call(pg_sys::pg_get_expr, &[pg_sys::Datum::from(tree), pg_sys::Datum::from(relation)])
}

/// Returns the text of an OID by the output function of a type such as `regproc`.
pub fn named(output: Deparse, oid: u32) -> String {
    // SAFETY: the functions take an OID and return a C string.
    unsafe {
        let text = pgrx::direct_function_call_as_datum(output, &[Some(pg_sys::Datum::from(oid))]);
        text.map(|text| from_server(CStr::from_ptr(text.cast_mut_ptr()).to_bytes()))
            .unwrap_or_default()
    }
}

/// Returns a type with its modifier in SQL syntax.
pub fn type_name(type_oid: u32, modifier: i32) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
    // SAFETY: returns a C string.
    unsafe {
        let name = pg_sys::format_type_extended(type_oid.into(), modifier, flags as pg_sys::bits16);
        from_server(CStr::from_ptr(name).to_bytes())
    }
}

/// Deparses an object. Where that fails, returns a text that equals no other, so that no exemption
/// matches it, rather than ending the audit with an error.
pub fn deparsed(deparse: impl FnOnce() -> String) -> String {
    thread_local! {
        static FAILURES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    subtransaction::attempt(|| with_plain_settings(deparse)).unwrap_or_else(|error| {
        rethrow_if_locked(*error);
        FAILURES.set(FAILURES.get() + 1);
        // SAFETY: reads a variable of the process and the clock.
        let (pid, now) = unsafe { (pg_sys::MyProcPid, pg_sys::GetCurrentTimestamp()) };
        format!("cannot be deparsed: {pid} {now} {}", FAILURES.get())
    })
}

/// Raises an error again if it is due to a lock: the state of a locked object is not known.
fn rethrow_if_locked(error: CaughtError) {
    let code = subtransaction::report(&error).sql_error_code();
    if matches!(
        code,
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
    ) {
        error.rethrow();
    }
}

/// Parses a deparsed text as `owner` and deparses it again, so that the result does not depend on
/// the role of the session; unchanged where `owner` cannot parse it.
///
/// This happens in a subtransaction that is rolled back, because parsing locks the relations in the
/// text, and the locks of thousands of tables would exhaust the lock table.
pub fn reparsed(text: String, owner: Oid, read: impl FnOnce(&str) -> String) -> String {
    let outcome = subtransaction::rolled_back(|| restricted::as_role(owner, || read(&text)));
    outcome.unwrap_or_else(|error| {
        rethrow_if_locked(*error);
        text
    })
}

/// The settings that affect deparsed text.
const SETTINGS: [(&CStr, &CStr); 12] = [
    session::SAFE_PATH,
    (c"quote_all_identifiers", c"off"),
    (c"extra_float_digits", c"1"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    // The only zone that the server knows without reading a file. Where memory has run out, it says
    // of any other one that the value is invalid.
    (c"timezone", c"GMT"),
    (c"bytea_output", c"hex"),
    (c"xmlbinary", c"base64"),
    (c"lc_monetary", c"C"),
    (c"standard_conforming_strings", c"on"),
    (c"array_nulls", c"on"),
    (c"xmloption", c"content"),
];

/// Calls `work` with fixed values of the settings that affect deparsed text.
pub fn with_plain_settings<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the snapshot is popped; after an error, the end of the (sub)transaction does it.
    session::under(&SETTINGS, || unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    })
}

/// Calls a function of the server that deparses an object; the empty text where it returns null.
pub fn call(deparse: Deparse, arguments: &[pg_sys::Datum]) -> String {
    let arguments: Vec<Option<pg_sys::Datum>> = arguments.iter().copied().map(Some).collect();
    // SAFETY: the functions take an OID, or an expression tree and an OID, and return text or null.
    unsafe { pgrx::direct_function_call_as_datum(deparse, &arguments) }
        .map(text_of)
        .unwrap_or_default()
}

/// Returns the name of a role; its OID where the role does not exist.
pub fn role_name(role: u32) -> String {
    // SAFETY: null where the role does not exist, or a C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role.into(), true);
        if name.is_null() { role.to_string() } else { from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

/// Returns the name of a language; its OID where the language does not exist.
pub fn language_name(language: u32) -> String {
    // SAFETY: null where the language does not exist, or a C string.
    unsafe {
        let name = pg_sys::get_language_name(language.into(), true);
        if name.is_null() {
            language.to_string()
        } else {
            from_server(CStr::from_ptr(name).to_bytes())
        }
    }
}

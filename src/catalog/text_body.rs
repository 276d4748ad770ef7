//! The query in the text of a function, as the server reads it when the function is called. Nothing
//! is executed.

use super::{oids, types};
use crate::pg::heap::{State, of_row};
use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use crate::settings;
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::returned_expression;
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::ffi::{CStr, CString, c_void};

/// Reads the texts of functions in a state.
pub struct Texts<'a> {
    state: &'a State,
    /// Whether the server may execute code of the application when it reads a literal.
    literals_run_code: OnceCell<bool>,
}

/// What a text is read with.
pub struct Text<'a> {
    pub function: Oid,
    pub language: Language,
    pub source: &'a str,
    /// The search_path that the function sets.
    pub path: Option<String>,
    pub owner: Oid,
}

unsafe extern "C-unwind" {
    /// Not among the functions of `pg_sys` (executor/functions.h).
    fn prepare_sql_fn_parse_info(
        procedure: pg_sys::HeapTuple,
        call: *mut pg_sys::Node,
        collation: pg_sys::Oid,
    ) -> *mut c_void;
    fn sql_fn_parser_setup(state: *mut pg_sys::ParseState, info: *mut c_void);
}

impl<'a> Texts<'a> {
    /// Returns a reader of texts.
    pub fn in_state(state: &'a State) -> Self {
        Self { state, literals_run_code: OnceCell::new() }
    }

    /// Returns the query of a function as a stored expression; `None` where its text is no query
    /// alone, where the server cannot read it, and where reading it could execute code.
    pub fn query(&self, text: &Text<'_>) -> Option<String> {
        let source = match text.language {
            Language::Sql => text.source.to_owned(),
            Language::PlPgSql => format!("SELECT {}", returned_expression(text.source)?),
            Language::Other => return None,
        };
        let runs_code = || types::type_running_code(self.state).is_some();
        if *self.literals_run_code.get_or_init(runs_code) {
            return None;
        }
        let source = CString::new(to_server(&source)).ok()?;
        let path = text.path.clone().or_else(|| settings::reset_value("search_path"));
        // Temporary objects of this session are none of other sessions.
        let path =
            format!("{}, pg_temp", path.filter(|p| !p.is_empty()).as_deref().unwrap_or("\"\""));
        let path = CString::new(to_server(&path)).ok()?;
        // A text that the server cannot read raises an error when the function is called.
        subtransaction::rolled_back(|| {
            restricted::as_role(text.owner, || {
                setting::under(&[(c"search_path", path.as_c_str())], || {
                    analyzed(text.function, &source)
                })
            })
        })
        .ok()
        .flatten()
    }
}

/// Returns the only statement of a text, if it is a query, as the parser analyzes it.
fn analyzed(function: Oid, source: &CStr) -> Option<String> {
    // SAFETY: C strings and trees of the server, which are used before this function returns. The
    // row of the function is released after its last use. Errors pass through no frame of Rust:
    // `pg_guard_ffi_boundary` catches them.
    unsafe {
        let statements =
            pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let mut statements = nodes(statements);
        let statement = statements.next()?.cast::<pg_sys::RawStmt>();
        if statements.next().is_some()
            || (*(*statement).stmt).type_ != pg_sys::NodeTag::T_SelectStmt
        {
            return None;
        }
        let key = pg_sys::Datum::from(pg_sys::Oid::from(function));
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, key);
        if row.is_null() {
            return None;
        }
        let call = std::ptr::null_mut();
        let info = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            prepare_sql_fn_parse_info(row, call, pg_sys::InvalidOid)
        });
        pg_sys::ReleaseSysCache(row);
        let query = pg_sys::parse_analyze_withcb(
            statement,
            source.as_ptr(),
            Some(set_up),
            info,
            std::ptr::null_mut(),
        );
        let text = pg_sys::nodeToString(query.cast());
        Some(from_server(CStr::from_ptr(text).to_bytes()))
    }
}

/// Lets a parser find the parameters of a function.
unsafe extern "C-unwind" fn set_up(state: *mut pg_sys::ParseState, info: *mut c_void) {
    // SAFETY: called by the parser with what `prepare_sql_fn_parse_info` has returned.
    unsafe { sql_fn_parser_setup(state, info) }
}

/// Returns the search_path that a function sets.
pub fn path_of(state: &State, function: Oid) -> Option<String> {
    let config = of_row(state, oids::PROC_BY_OID, function, "proconfig", |row, of| row.texts(of))?;
    let path = dragonfly_core::search_path::settings(&config);
    path.last().map(|path| (*path).to_owned())
}

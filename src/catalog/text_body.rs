//! The query in the text of a function, as the server reads it when the function is called. Nothing
//! is executed.

use super::moved_names::MovedNames;
use super::{objects, oids, roles, types};
use crate::pg::heap::{Row, State, Table};
use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use crate::settings;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::{plain_statements, returned_expression};
use dragonfly_core::stored::{self, Query, oids_in};
use dragonfly_reader::captured::captured;
use dragonfly_reader::text_body::{Analyzed, Text, Texts, Used};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};

/// How long reading a text waits for a lock on a table that it names.
const LONGEST_WAIT: &CStr = c"1s";

/// How long it waits in a session that others wait for: shorter than any of them waits before it
/// looks for a deadlock.
const SHORTEST_WAIT: &CStr = c"10ms";

/// Reads the texts of functions in a state.
pub struct InServer<'a> {
    state: &'a State,
    /// The names that stand for something else now than in the state.
    moved: Option<&'a MovedNames>,
    /// How long reading a text waits for a lock.
    longest_wait: &'static CStr,
    /// Whether the server may execute code of the application when it reads a literal.
    literals_run_code: OnceCell<bool>,
    /// The search_path with which sessions start.
    default_path: OnceCell<String>,
    /// Whether another session holds a lock on a table that a text names. No other text is read
    /// then: each could wait as long.
    is_locked: Cell<bool>,
}

/// Statements as the server reads them.
struct Parsed {
    /// The statements, as stored expressions.
    queries: Vec<String>,
    /// The names of relations without a schema.
    unqualified: BTreeSet<String>,
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

impl<'a> InServer<'a> {
    /// Returns a reader of texts.
    pub fn in_state(state: &'a State) -> Self {
        let (moved, literals_run_code, default_path, is_locked) = Default::default();
        let longest_wait = LONGEST_WAIT;
        Self { state, moved, longest_wait, literals_run_code, default_path, is_locked }
    }

    /// Hardly waits for locks.
    pub fn without_waiting(self) -> Self {
        Self { longest_wait: SHORTEST_WAIT, ..self }
    }

    /// Reads no text that mentions one of some names.
    pub fn without(self, moved: &'a MovedNames) -> Self {
        Self { moved: Some(moved), ..self }
    }

    fn analyzed(&self, text: &Text<'_>, sources: &[String], writes: bool) -> Option<Parsed> {
        let runs_code = || types::type_running_code(self.state).is_some();
        if self.is_locked.get() || *self.literals_run_code.get_or_init(runs_code) {
            return None;
        }
        let sources: Vec<CString> = sources
            .iter()
            .map(|source| CString::new(to_server(source)).ok())
            .collect::<Option<_>>()?;
        let default_path = || self.default_path.get_or_init(|| default_path(self.state)).clone();
        let path = text.path.clone().unwrap_or_else(default_path);
        let is_moved =
            |moved: &MovedNames| moved.is_in(text.source, text.language, &path, text.owner);
        if self.moved.is_some_and(is_moved) {
            return None;
        }
        // Temporary objects of this session are none of other sessions.
        let path = if path.is_empty() { "pg_temp".to_owned() } else { format!("{path}, pg_temp") };
        let path = CString::new(to_server(&path)).ok()?;
        let settings = [
            (c"search_path", path.as_c_str()),
            (c"lock_timeout", self.longest_wait),
            // As in other sessions, whatever this one has set.
            (c"transform_null_equals", c"off"),
            (c"standard_conforming_strings", c"on"),
            (c"backslash_quote", c"safe_encoding"),
        ];
        let table = Table::open(oids::PG_PROC);
        let (mut read, key) = (None, [(table.column("oid"), text.routine)]);
        table.lookup(self.state, oids::PG_PROC_OID_INDEX, &key, |row| {
            read = Some(subtransaction::rolled_back(|| {
                restricted::as_role(text.owner, || {
                    setting::under(&settings, || {
                        let each = sources.iter().map(|source| analyzed(row, source, writes));
                        each.collect::<Option<Vec<_>>>()
                    })
                })
            }));
        });
        // A text that the server cannot read raises an error when the function is called, too.
        let parsed = read?.unwrap_or_else(|error| {
            let code = subtransaction::report(&error).sql_error_code();
            self.is_locked.set(matches!(
                code,
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                    | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
            ));
            None
        })?;
        let mut all = Parsed { queries: Vec::new(), unqualified: BTreeSet::new() };
        for Parsed { queries, unqualified } in parsed {
            all.queries.extend(queries);
            all.unqualified.extend(unqualified);
        }
        // Temporary objects of this session are none of other sessions.
        let is_permanent = |query: &String| {
            let mut relations = oids_in(query, ":relid ").flatten();
            relations.all(|oid| oid == 0 || objects::is_permanent(self.state, oid))
        };
        all.queries.iter().all(is_permanent).then_some(all)
    }
}

impl Texts for InServer<'_> {
    fn is_locked(&self) -> bool {
        self.is_locked.get()
    }

    fn fault(&self, language: Language) -> &'static str {
        match language {
            Language::PlPgSql => "it has statements that are not SQL",
            _ => "its text cannot be read",
        }
    }

    fn query(&self, text: &Text<'_>) -> Option<Analyzed> {
        let source = match text.language {
            Language::Sql => text.source.to_owned(),
            Language::PlPgSql => format!("SELECT {}", returned_expression(text.source)?),
            Language::Other => return None,
        };
        let Parsed { mut queries, unqualified } = self.analyzed(text, &[source], false)?;
        let query = queries.pop().filter(|_| queries.is_empty())?;
        let captured = captured(&super::name, text, &used(&query, unqualified));
        Some(Analyzed { query: stored::query(&query).ok().flatten()?, captured })
    }

    fn statements(&self, text: &Text<'_>) -> Option<Vec<Query>> {
        let sources = match text.language {
            Language::Sql => vec![text.source.to_owned()],
            Language::PlPgSql => plain_statements(text.source)?,
            Language::Other => return None,
        };
        let queries = self.analyzed(text, &sources, true)?.queries;
        queries.iter().map(|query| stored::query(query).ok().flatten()).collect()
    }
}

/// Returns the search_path with which sessions start.
pub fn default_path(state: &State) -> String {
    // The name of the database is for the settings that are returned.
    let (of_database, _) = roles::search_paths(state, "");
    of_database.or_else(|| settings::reset_value("search_path")).unwrap_or_default()
}

/// Returns what a query, as a stored expression, names.
fn used(query: &str, unqualified: BTreeSet<String>) -> Used {
    let oids = |field| oids_in(query, field).flatten().collect();
    Used { relations: oids(":relid "), functions: oids(":funcid "), unqualified }
}

/// Returns the statements of a text as the parser analyzes them; `None` where one is no query, or
/// with `writes` none that writes rows either.
fn analyzed(function: Row<'_>, source: &CStr, writes: bool) -> Option<Parsed> {
    // SAFETY: C strings and trees of the server, which are used before this function returns. The
    // row is one of pg_proc, and only its columns are read. Errors pass through no frame of Rust:
    // `pg_guard_ffi_boundary` catches them.
    unsafe {
        let statements =
            pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statements: Vec<*mut pg_sys::RawStmt> =
            nodes(statements).map(<*mut pg_sys::Node>::cast).collect();
        let is_read = |statement: &*mut pg_sys::RawStmt| match (*(**statement).stmt).type_ {
            pg_sys::NodeTag::T_SelectStmt => true,
            pg_sys::NodeTag::T_InsertStmt
            | pg_sys::NodeTag::T_UpdateStmt
            | pg_sys::NodeTag::T_DeleteStmt => writes,
            _ => false,
        };
        if !statements.iter().all(is_read) || (!writes && statements.len() != 1) {
            return None;
        }
        // The parser's tree is changed when it is analyzed.
        let mut unqualified = BTreeSet::new();
        for statement in &statements {
            add_unqualified((**statement).stmt, std::ptr::from_mut(&mut unqualified).cast());
        }
        let (row, call) = (function.tuple(), std::ptr::null_mut());
        let info = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            prepare_sql_fn_parse_info(row, call, pg_sys::InvalidOid)
        });
        let read = statements.into_iter().map(|statement| {
            let query = pg_sys::parse_analyze_withcb(
                statement,
                source.as_ptr(),
                Some(set_up),
                info,
                std::ptr::null_mut(),
            );
            let text = pg_sys::nodeToString(query.cast());
            from_server(CStr::from_ptr(text).to_bytes())
        });
        Some(Parsed { queries: read.collect(), unqualified })
    }
}

/// Adds the relations without a schema in a tree of the parser to a set of names.
///
/// # Safety
/// A valid tree of the parser, or null, and a set of names that outlives the call.
unsafe extern "C-unwind" fn add_unqualified(node: *mut pg_sys::Node, names: *mut c_void) -> bool {
    // SAFETY: as the caller promises; the name of a relation is a C string.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_RangeVar {
            let relation = node.cast::<pg_sys::RangeVar>();
            if (*relation).schemaname.is_null() {
                let name = CStr::from_ptr((*relation).relname).to_bytes();
                (*names.cast::<BTreeSet<String>>()).insert(from_server(name));
            }
            return false;
        }
        pg_sys::raw_expression_tree_walker(node, Some(add_unqualified), names)
    }
}

/// Lets a parser find the parameters of a function.
unsafe extern "C-unwind" fn set_up(state: *mut pg_sys::ParseState, info: *mut c_void) {
    // SAFETY: called by the parser with what `prepare_sql_fn_parse_info` has returned.
    unsafe { sql_fn_parser_setup(state, info) }
}

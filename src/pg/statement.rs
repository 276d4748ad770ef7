//! Executing SQL as the caller.

use super::list::nodes;
use super::text::{from_server, to_server};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A statement that SPI does not execute (spi.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotExecuted {
    /// A statement that begins or ends a transaction.
    Transaction,
    /// COPY from or to the client.
    Copy,
    /// Another error code of SPI.
    Other(i32),
}

impl NotExecuted {
    /// Returns the name of the error code of SPI.
    pub fn code(self) -> String {
        let code = match self {
            Self::Transaction => pg_sys::SPI_ERROR_TRANSACTION,
            Self::Copy => pg_sys::SPI_ERROR_COPY,
            Self::Other(code) => code,
        };
        // SAFETY: returns a static C string of the server.
        unsafe { CStr::from_ptr(pg_sys::SPI_result_code_string(code)) }
            .to_string_lossy()
            .into_owned()
    }
}

/// Whether one of the statements has an effect on the session that a rollback does not undo. Raises
/// an error where the parser rejects them.
pub fn outlasts_the_transaction(sql: &str) -> bool {
    let Ok(text) = CString::new(to_server(sql)) else { return false };
    // SAFETY: a C string; the parser returns a list of RawStmt nodes.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        nodes(statements).any(|raw| {
            matches!(
                (*(*raw.cast::<pg_sys::RawStmt>()).stmt).type_,
                pg_sys::NodeTag::T_PrepareStmt
                    | pg_sys::NodeTag::T_DeallocateStmt
                    | pg_sys::NodeTag::T_DiscardStmt
                    | pg_sys::NodeTag::T_ClosePortalStmt
                    | pg_sys::NodeTag::T_LoadStmt
            )
        })
    }
}

/// Executes one or more statements and makes their changes visible to the next command. Must be
/// called in a subtransaction, whose end cleans up after an error.
///
/// # Errors
/// A statement that SPI does not execute. Errors of the statements themselves are not caught.
pub fn run(sql: &str) -> Result<(), NotExecuted> {
    let Ok(text) = CString::new(to_server(sql)) else { return Ok(()) };
    // SAFETY: a C string; after an error, the end of the subtransaction disconnects from SPI.
    unsafe {
        pg_sys::SPI_connect();
        let done = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        pg_sys::SPI_finish();
        pg_sys::CommandCounterIncrement();
        match done {
            pg_sys::SPI_ERROR_TRANSACTION => Err(NotExecuted::Transaction),
            pg_sys::SPI_ERROR_COPY => Err(NotExecuted::Copy),
            code if code < 0 => Err(NotExecuted::Other(code)),
            _ => Ok(()),
        }
    }
}

/// Executes one statement and returns how many rows it returns or changes. Must be called in a
/// subtransaction, whose end cleans up after an error.
pub fn count(sql: &str) -> u64 {
    each_row(sql, &mut |_| {})
}

/// Executes one query and returns its rows, each value as a text. Must be called as [`count`].
pub fn rows(sql: &str) -> Vec<Vec<Option<String>>> {
    let mut found = Vec::new();
    each_row(sql, &mut |row| found.push(row));
    found
}

fn each_row(sql: &str, each: &mut dyn FnMut(Vec<Option<String>>)) -> u64 {
    let Ok(text) = CString::new(to_server(sql)) else { return 0 };
    // SAFETY: a C string; the rows are read before SPI frees them; after an error, the end of the
    // subtransaction disconnects from SPI.
    unsafe {
        pg_sys::SPI_connect();
        let code = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        if code < 0 {
            let code = NotExecuted::Other(code).code();
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("could not execute a statement: {code}")
            );
        }
        let (count, table) = (pg_sys::SPI_processed, pg_sys::SPI_tuptable);
        if !table.is_null() {
            let descriptor = (*table).tupdesc;
            for at in 0..usize::try_from(count).unwrap_or_default() {
                let tuple = *(*table).vals.add(at);
                let value = |column: i32| {
                    let value = pg_sys::SPI_getvalue(tuple, descriptor, column);
                    (!value.is_null()).then(|| from_server(CStr::from_ptr(value).to_bytes()))
                };
                each((1..=(*descriptor).natts).map(value).collect());
            }
        }
        pg_sys::SPI_finish();
        pg_sys::CommandCounterIncrement();
        count
    }
}

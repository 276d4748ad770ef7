//! Executing SQL as the caller.

use super::list::nodes;
use super::text::to_server;
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

//! SQL that is run as the caller.

use super::list::nodes;
use super::text::to_server;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// What SPI will not run (spi.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A statement that begins or ends a transaction.
    Transaction,
    /// COPY from or to the client.
    Copy,
    /// Anything else, by the code of it.
    Other(i32),
}

impl Refused {
    /// The code as SPI spells it.
    pub fn code(self) -> String {
        let code = match self {
            Self::Transaction => pg_sys::SPI_ERROR_TRANSACTION,
            Self::Copy => pg_sys::SPI_ERROR_COPY,
            Self::Other(code) => code,
        };
        // SAFETY: gives a C string of the server's own.
        unsafe { CStr::from_ptr(pg_sys::SPI_result_code_string(code)) }
            .to_string_lossy()
            .into_owned()
    }
}

/// Whether one of some statements leaves something in the session, or takes something from it, that
/// the end of no transaction takes back. An error where the parser does not understand them.
pub fn outlasts_the_transaction(sql: &str) -> bool {
    let Ok(text) = CString::new(to_server(sql)) else { return false };
    // SAFETY: a C string; the parser gives a list of statements, each in a node of its own.
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

/// Runs one statement or more, and lets what follows see what they did. Within a subtransaction,
/// for its end takes back what an error leaves.
///
/// # Errors
/// What cannot be run this way; what the statements raise goes on.
pub fn run(sql: &str) -> Result<(), Refused> {
    let Ok(text) = CString::new(to_server(sql)) else { return Ok(()) };
    // SAFETY: a C string; after an error the end of the subtransaction disconnects from SPI.
    unsafe {
        pg_sys::SPI_connect();
        let done = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        pg_sys::SPI_finish();
        pg_sys::CommandCounterIncrement();
        match done {
            pg_sys::SPI_ERROR_TRANSACTION => Err(Refused::Transaction),
            pg_sys::SPI_ERROR_COPY => Err(Refused::Copy),
            code if code < 0 => Err(Refused::Other(code)),
            _ => Ok(()),
        }
    }
}

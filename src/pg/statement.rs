//! SQL that is run as the caller.

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
        unsafe { CStr::from_ptr(pg_sys::SPI_result_code_string(code)) }.to_string_lossy().into_owned()
    }
}

/// Runs one statement or more, and lets what follows see what they did. Within a subtransaction, for its end takes back what an error leaves.
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

//! What is written to standard error.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

/// Prints a line to standard error.
pub fn print_error(line: &str) {
    Progress::erase();
    // There is no other place to say that this fails.
    let _ = writeln!(io::stderr(), "{line}");
}

thread_local! {
    static SHOWN: Cell<bool> = const { Cell::new(false) };
}

/// A line about what is being done, on a terminal only.
#[derive(Debug)]
pub struct Progress;

impl Progress {
    /// Says what is being done now.
    pub fn step(what: &str) {
        if io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "\r\x1b[K{what}");
            let _ = io::stderr().flush();
            SHOWN.set(true);
        }
    }

    /// Removes the line.
    pub fn erase() {
        if SHOWN.replace(false) {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}

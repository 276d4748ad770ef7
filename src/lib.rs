//! dragonfly_guard stores a declarative security contract in the database, audits the database
//! against it, and blocks DDL that violates it.
//!
//! This crate is the edge between the server and `dragonfly_core`, which contains the rules. It
//! reads `pg_catalog` ([`catalog`]) and the contract ([`store`]) and has `dragonfly_core` check the
//! catalog against the contract ([`audit`]). It returns the findings ([`api`]) or rejects
//! statements ([`guard`]).
#![warn(missing_docs)]

// In the order of the layers: a module imports only from the modules above it
// (`src/core/tests/layering.rs`).
mod pg;

mod settings;

mod catalog;

mod store;

mod audit;

mod query;

mod access;

mod declare;

mod prove;

mod log;

mod guard;

mod api;

#[cfg(any(test, feature = "pg_test"))]
mod in_server;

use pgrx::prelude::*;

// The program that runs the tests is no server, and has none of its symbols.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: pg::memory::Allocator = pg::memory::Allocator;

::pgrx::pg_module_magic!(name = c"dragonfly_guard", version = c"1.0.0");

extension_sql_file!("../sql/dragonfly_guard--1.0.0.sql", name = "install", finalize);

/// Called by the server when it loads the library: defines the settings and installs the hooks of
/// the guard.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // With RUST_BACKTRACE in the environment, pgrx would append a stack trace to the DETAIL of
    // errors.
    // SAFETY: a backend has one thread, and so has the postmaster.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    settings::define();
    if settings::preload() == settings::Preload::Shared {
        log::queue::request();
        log::register_launcher();
    }
    guard::install();
}

#[cfg(test)]
#[allow(missing_docs, reason = "only cargo pgrx test calls it")]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}

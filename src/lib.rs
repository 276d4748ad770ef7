//! dragonfly_guard: a security contract for PostgreSQL databases that enforces itself.
//!
//! This crate is the edge. It reads `pg_catalog` ([`catalog`]) and the contract ([`store`]), lets
//! `dragonfly_core` check the one against the other ([`audit`]), and gives what it finds to people
//! ([`api`]) or rejects a statement ([`guard`]).
#![warn(missing_docs)]

// In the order of the layers: each imports only from those above it (`src/core/tests/layering.rs`).
mod pg;

mod settings;

mod catalog;

mod store;

mod audit;

mod query;

mod log;

mod guard;

mod api;

#[cfg(any(test, feature = "pg_test"))]
mod in_server;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name = c"dragonfly_guard", version = c"1.0.0");

extension_sql_file!("../sql/install.sql", name = "install", finalize);

/// Called by the server when it loads the library: defines the settings and hangs the guard into
/// the object access hook.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // An environment with RUST_BACKTRACE would make a stack trace the DETAIL of every error that
    // passes through here. SAFETY: a backend has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    settings::define();
    if settings::preload() == settings::Preload::Shared {
        log::queue::request();
        log::register_launcher();
    }
    guard::install();
}

#[cfg(test)]
#[allow(missing_docs)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}

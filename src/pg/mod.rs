//! Thin bindings to the server. The `unsafe` code of the project is here, in the catalog reader and
//! in the guard.

pub mod call;
pub mod clock;
pub mod heap;
pub mod inert;
pub mod language;
pub mod list;
pub mod report;
pub mod restricted;
pub mod scratch;
pub mod setting;
pub mod statement;
pub mod subtransaction;
pub mod syscache;
pub mod text;
pub mod write;

/// The server's major version.
pub const VERSION: u32 = pgrx::pg_sys::PG_VERSION_NUM / 10_000;

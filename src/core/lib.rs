//! The judging core of dragonfly_guard: a contract and a catalog in, findings out.
//!
//! ```text
//! contract (what is declared) ─┐
//!                              ├─▶ rules ─▶ findings
//! catalog (what there is) ─▶ access ─┘
//! ```
//!
//! Nothing here knows a server: everything takes plain structs and gives plain structs, and is tested in seconds.

pub mod access;
pub mod catalog;
pub mod contract;
pub mod doctor;
pub mod drift;
pub mod exemptions;
pub mod explain;
pub mod finding;
pub mod guard;
pub mod infer;
pub mod mend;
pub mod postgrest;
pub mod rules;
pub mod search_path;
pub mod sql;

// The edge still uses the former name.
#[doc(hidden)]
pub use finding as findings;

//! The core of dragonfly_guard: a contract and a catalog in, findings out.
//!
//! ```text
//! contract (what is declared) ─┐
//!                              ├─▶ rules ─▶ findings
//! catalog (what there is) ─▶ access ─┘
//! ```
//!
//! Nothing here knows a server: everything takes plain structs and gives plain structs, and is
//! tested in seconds.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod sql;

pub mod catalog;

pub mod access;

pub mod search_path;

pub mod contract;

pub mod fix;

pub mod rule;

pub mod finding;

pub mod rules;

pub mod doctor;
pub mod drift;
pub mod exemptions;
pub mod explain;
pub mod guard;
pub mod infer;
pub mod plan;
pub mod postgrest;
pub mod report;

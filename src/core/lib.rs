//! The core of dragonfly_guard: checks a catalog against a contract and returns findings.
//!
//! ```text
//! contract (what is declared) ─┐
//!                              ├─▶ rules ─▶ findings
//! catalog (what there is) ─▶ access ─┘
//! ```
//!
//! Nothing here depends on a server: functions take and return plain structs, and their tests need
//! seconds.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod sql;

pub mod catalog;

pub mod stored;

pub mod access;

pub mod policy;

pub mod search_path;

pub mod contract;

pub mod requests;

pub mod fix;

pub mod rule;

pub mod finding;

pub mod rules;

pub mod declare;

pub mod orientation;

pub mod doctor;
pub mod drift;
pub mod exemptions;
pub mod explain;
pub mod guard;
pub mod infer;
pub mod plan;
pub mod postgrest;
pub mod report;

pub mod audit;

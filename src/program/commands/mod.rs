//! The commands, one per file.

pub mod audit;
pub mod completions;
pub mod contract;
pub mod diff;
pub mod explain;
pub mod infer;
pub mod plan;
pub mod rules;
pub mod snapshot;
pub mod validate;

//! The extension's own tables.

pub mod contract;
pub mod exemptions;
pub mod frozen;

//! The SQL functions, one file per family. Nothing else imports this module.

mod contract;
mod contract_review;
mod doctor;
pub mod drift;
mod exemptions;
mod exemptions_show;
mod explain;
mod guard_status;
mod infer;
mod overview;
pub mod permission;
mod plan;
mod postgrest;
mod search_path;
mod try_migration;

//! The SQL functions, one file per family. Nothing else imports this module.

mod adopt;
mod apply;
mod argument;
mod audit;
mod consistency;
mod contract;
mod declare;
mod doctor;
mod drift;
mod exemptions;
mod explain;
mod guard_status;
mod infer;
mod overview;
mod permission;
mod plan;
mod policies;
mod postgrest;
mod prove;
mod readers;
mod report;
mod search_path;
mod snapshot;
mod try_migration;

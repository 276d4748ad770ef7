//! The guard: event triggers that check the changes of each command by the rules of the audit.
//!
//! The trigger for `ddl_command_start` makes the backend load the library before the first command
//! is executed. From then on, [`changes`] records what commands change, even where
//! `pg_event_trigger_ddl_commands()` lists nothing (inside REFRESH MATERIALIZED VIEW). The trigger
//! for `ddl_command_end` checks the changes in the catalog; an error there rolls the command back.
//! Violations that a later command of the transaction may still correct are checked at commit,
//! where everything else is checked again too, with the commit lock held.
//!
//! The server calls [`hooks`], which records [`changes`] and calls [`commands`], which decides when
//! to check. [`irrelevant`] leaves out what cannot matter. [`snapshots`] reads both states of the
//! catalog, as much of it as [`scope`] and [`plan`] determine; [`check`] compares them; [`enforce`]
//! rejects, warns and logs.

mod bodies;
mod changes;
mod check;
mod commands;
mod ended;
mod enforce;
mod grants;
mod hooks;
mod inherited;
mod irrelevant;
mod plan;
mod policies;
mod reasons;
mod rejection;
mod renamed;
mod scope;
mod snapshots;
mod through;
mod transaction;
mod untrusted;
mod utility;
mod views;
mod written;

pub use commands::{check_after_declaring, check_as_if_committing};
pub use hooks::install;
pub use rejection::Rejection;
pub use transaction::{after_trial, before_trial};

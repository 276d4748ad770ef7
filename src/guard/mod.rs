//! The guard: event triggers that check what a command has changed, by the same rules as the audit.
//!
//! `ddl_command_start` makes the backend load the library before the first command does anything;
//! from then on [`changes`] records what any command changes, also where the list of
//! `pg_event_trigger_ddl_commands()` is empty (inside REFRESH MATERIALIZED VIEW). `ddl_command_end`
//! checks that against the catalog as the command left it; an error there takes the command back.
//! What a later command of the same transaction may still put right is checked when the transaction
//! commits, and so is everything else once more, in turn with other transactions.
//!
//! In the order of who calls whom, the last first: [`hooks`] is called by the server, records
//! [`changes`] and calls [`commands`], which decides when to check; [`snapshots`] reads the catalog
//! before and after, as much of it as [`scope`] and [`plan`] say; [`check`] compares the two; and
//! [`enforce`] rejects, warns and logs.

mod changes;
mod check;
mod commands;
mod enforce;
mod grants;
mod hooks;
mod plan;
mod rejection;
mod scope;
mod snapshots;
mod transaction;
mod utility;

pub use commands::check_as_if_committing;
pub use hooks::install;
pub use rejection::Rejection;

//! Reads the rows of PostgreSQL's catalogs into a [`dragonfly_core::catalog::Snapshot`], in a few
//! passes over the catalogs.
//!
//! The rows come from a [`State`]: from a server, which the extension runs in, or from a file with
//! a copy of them. Nothing is executed.

pub mod analysis;
pub mod audit;
pub mod bodies;
mod by_rows;
pub mod caller_typed;
pub mod captured;
pub mod catalogs;
pub mod code;
pub mod data;
pub mod declared;
pub mod definer_bodies;
pub mod dependencies;
pub mod detours;
pub mod explain;
pub mod exposures;
pub mod expressions;
pub mod extension;
pub mod guard;
mod in_memory;
pub mod mentions;
pub mod name;
pub mod named;
pub mod needs;
pub mod objects;
pub mod oids;
pub mod page;
pub mod place;
pub mod policies;
mod printed;
pub mod publications;
pub mod question;
pub mod quoted_path;
mod rights;
pub mod roles;
pub mod routines;
mod row_triggers;
pub mod script;
pub mod server_objects;
pub mod snapshot;
mod source;
pub mod statement;
pub mod stored_policies;
pub mod text_body;
pub mod texts;
pub mod toast;
pub mod types;
pub mod unique_keys;
pub mod updatable;
pub mod write;

pub use by_rows::ByRows;
pub use rights::Rights;
pub use source::{ByOid, Column, Repeated, Row, Rows, State, Table, Values, Wanted, of_row};

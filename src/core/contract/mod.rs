//! The contract: the declared security state of a database, read from one JSON document.
//!
//! [`types`] are the structs of the document, with [`identity`] for who the caller is, and
//! [`schema`] generates its JSON Schema from them. [`examine`] checks a document: [`read`] parses
//! it, [`shape`] compares it with the schema, [`check`] resolves names, [`contradictions`] finds
//! declarations that contradict each other, and [`mistakes`] what is written as in SQL.
//! [`not_json`] says what a text is that cannot be parsed, and [`place`] names the declaration and
//! the line of each problem. [`presets`] are the usual declarations of a platform. [`lookup`] finds
//! declarations by name, [`readers`] are the roles that may use the extension's functions,
//! [`changes`] compares two contracts, and [`write`] writes one for people, in the order of
//! [`order`].

mod changes;
mod check;
mod contradictions;
mod examine;
mod identity;
mod index;
mod lookup;
mod mistakes;
mod not_json;
mod order;
mod place;
mod presets;
mod problem;
mod read;
mod readers;
mod schema;
mod shape;
mod shipped;
mod types;
mod write;

pub use changes::{are_same, changes};
pub(crate) use check::is_version;
pub use examine::{ContractError, Examined, examine, examine_interruptibly, examine_lines};
pub use identity::{IdentityDecl, IdentityKind, SessionKind};
pub(crate) use lookup::matches;
pub use place::declaration_lines;
pub use presets::{Platform, Preset};
pub use problem::{Path, Problem};
pub use readers::{OpsAccess, OpsRoles};
pub use schema::schema;
pub use shipped::DEFAULT;
pub(crate) use shipped::shipped_rules;
pub use types::*;
pub use write::write;

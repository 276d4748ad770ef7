//! Drift: a snapshot of some schemas in names and texts, its fingerprint, and the differences
//! between two snapshots.
//!
//! The edge reads `pg_catalog` into a [`Snapshot`]; everything here works the same on every server.
//! A snapshot holds no OIDs and no grantors, and the order in which objects were created does not
//! matter. Two databases have the same fingerprint exactly if [`compare`] finds no difference.

mod acl;
mod compare;
mod declared;
mod document;
mod properties;
mod snapshot;

pub use acl::{AclKind, grants};
pub use compare::{Change, Difference, compare};
pub use declared::from_findings;
pub use document::{FORMAT, MAX_LENGTH, read};
pub use properties::{Properties, SharedTexts};
pub use snapshot::{Object, Release, Snapshot, hash_of};

#[cfg(test)]
mod tests;

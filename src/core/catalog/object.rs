//! The identity of the object that a finding, a statement or an exemption is about.

use super::{Oid, Snapshot};
use crate::sql::printable;

/// What identifies an object even after it has been renamed: its catalog and OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum ObjectId {
    Schema(Oid),
    Relation(Oid),
    Routine(Oid),
    Policy(Oid),
    Role(Oid),
    Type(Oid),
    /// Identified by its name only: a database, default privileges, a declared object that is
    /// missing.
    #[default]
    Named,
}

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The object type, as `pg_identify_object` returns it.
    pub object_type: &'static str,
    /// The schema's name; `None` for an object that is in no schema.
    pub schema: Option<String>,
    /// The identity, as `pg_identify_object` returns it.
    pub identity: String,
    /// The managed schema or extension that owns the object, if one does.
    pub managed_by: Option<String>,
    /// The identity that survives a rename. It is not part of a finding's fingerprint.
    pub id: ObjectId,
}

impl Object {
    /// Returns the object type as a message names it.
    #[must_use]
    pub fn type_in_message(&self) -> &'static str {
        match self.object_type {
            "default acl" => "default privileges",
            object_type => object_type,
        }
    }

    /// Returns the identity as a message names it: printable, and of a routine without
    /// `pg_catalog.`.
    #[must_use]
    pub fn name_in_message(&self) -> String {
        match self.object_type {
            "function" | "procedure" | "aggregate" => Snapshot::message_of(&self.identity),
            _ => printable(&self.identity).into_owned(),
        }
    }
}

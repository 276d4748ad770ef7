//! TOAST tables, which contain the long values of other tables.

use crate::oids;
use crate::source::{State, of_row};
use dragonfly_core::catalog::{Oid, Snapshot};

/// Whether a relation is a TOAST table with an ACL, or with one on a column.
pub fn is_granted_toast(state: &dyn State, relation: Oid) -> bool {
    let by_oid = oids::CLASS_BY_OID;
    of_row(state, by_oid, relation, "relkind", |row, kind| row.char(kind)) == Some(TOAST)
        && (of_row(state, by_oid, relation, "relacl", |row, acl| !row.is_null(acl)) == Some(true)
            || has_column_acl(state, relation))
}

/// Whether other roles than its owner may have privileges on the schema of TOAST tables.
#[must_use]
pub fn may_use_toast(snapshot: &Snapshot) -> bool {
    snapshot.schemas.iter().any(|schema| schema.oid == PG_TOAST && schema.acl.is_some())
}

fn has_column_acl(state: &dyn State, relation: Oid) -> bool {
    let table = state.table(oids::PG_ATTRIBUTE);
    let (of, acl) = (table.column("attrelid"), table.column("attacl"));
    let mut found = false;
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(of, relation)], |row| {
        found |= !row.is_null(acl);
    });
    found
}

/// `pg_class.relkind` of a TOAST table.
pub const TOAST: u8 = b't';

/// The schema `pg_toast` (pg_namespace.dat).
pub const PG_TOAST: Oid = 99;

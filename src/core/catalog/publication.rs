//! Publications: what logical replication sends.

use super::{Oid, Relation};
use std::collections::HashSet;

/// A row of `pg_publication`, with what it contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Whether it contains all tables.
    pub all_tables: bool,
    /// The tables that it contains.
    pub tables: HashSet<Oid>,
    /// The schemas whose tables it contains.
    pub schemas: HashSet<Oid>,
}

impl Publication {
    /// Whether it contains a table.
    #[must_use]
    pub fn contains(&self, relation: &Relation) -> bool {
        relation.kind.has_row_security()
            && (self.all_tables
                || self.tables.contains(&relation.oid)
                || self.schemas.contains(&relation.schema))
    }
}

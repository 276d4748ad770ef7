//! Reads what logical replication sends.

use crate::oids;
use crate::source::State;
use dragonfly_core::catalog::{Oid, Publication};
use std::collections::HashMap;

/// Returns the publications. Tables whose rows are restricted are left out.
pub fn publications(state: &dyn State) -> Vec<Publication> {
    let table = state.table(oids::PG_PUBLICATION);
    let column = |name| table.column(name);
    let (oid, name, all) = (column("oid"), column("pubname"), column("puballtables"));
    let mut found: HashMap<Oid, Publication> = HashMap::new();
    table.scan(|row| {
        let of = Publication {
            oid: row.oid(oid),
            name: row.name(name),
            all_tables: row.bool(all),
            ..Publication::default()
        };
        found.insert(of.oid, of);
    });
    if found.is_empty() {
        return Vec::new();
    }
    let table = state.table(oids::PG_PUBLICATION_REL);
    let column = |name| table.column(name);
    let (publication, relation, rows) = (column("prpubid"), column("prrelid"), column("prqual"));
    table.scan(|row| {
        if let Some(of) = found.get_mut(&row.oid(publication)).filter(|_| row.is_null(rows)) {
            of.tables.insert(row.oid(relation));
        }
    });
    let table = state.table(oids::PG_PUBLICATION_NAMESPACE);
    let column = |name| table.column(name);
    let (publication, schema) = (column("pnpubid"), column("pnnspid"));
    table.scan(|row| {
        if let Some(of) = found.get_mut(&row.oid(publication)) {
            of.schemas.insert(row.oid(schema));
        }
    });
    let mut found: Vec<Publication> = found.into_values().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

//! What has another name in a later state of the catalogs.

use super::objects::numbered_columns;
use super::oids;
use crate::pg::heap::{State, Table};
use dragonfly_core::catalog::Oid;
use std::collections::BTreeMap;

/// The earlier and the later name of something.
pub type Names = (String, String);

/// Returns the names of the roles that have another one in the second state.
pub fn roles(then: &State, now: &State) -> Vec<Names> {
    let named = |state| {
        let table = Table::open(oids::PG_AUTHID);
        let (oid, name) = (table.column("oid"), table.column("rolname"));
        let mut named = BTreeMap::new();
        table.scan(state, |row| _ = named.insert(row.oid(oid), row.name(name)));
        named
    };
    differing(named(then), &named(now))
}

/// Returns the names of the policies on a relation that have another one in the second state.
pub fn policies(then: &State, now: &State, relation: Oid) -> Vec<Names> {
    let named = |state| {
        let table = Table::open(oids::PG_POLICY);
        let (oid, name) = (table.column("oid"), table.column("polname"));
        let key = [(table.column("polrelid"), relation)];
        let mut named = BTreeMap::new();
        table.lookup(state, oids::PG_POLICY_RELID_INDEX, &key, |row| {
            named.insert(row.oid(oid), row.name(name));
        });
        named
    };
    differing(named(then), &named(now))
}

/// Returns the names of the columns of a relation that have another one in the second state.
pub fn columns(then: &State, now: &State, relation: Oid) -> Vec<Names> {
    let named = |state| numbered_columns(state, relation).into_iter().collect::<BTreeMap<_, _>>();
    differing(named(then), &named(now))
}

fn differing<K: Ord>(then: BTreeMap<K, String>, now: &BTreeMap<K, String>) -> Vec<Names> {
    let names = then.into_iter().filter_map(|(key, was)| Some((was, now.get(&key)?.clone())));
    names.filter(|(was, is)| was != is).collect()
}

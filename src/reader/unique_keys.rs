//! Reads the unique keys of tables: a duplicate tells that there is another row.

use crate::source::State;
use crate::{name, oids};
use dragonfly_core::catalog::{Oid, UniqueKey};
use dragonfly_core::policy::types;
use std::collections::HashMap;

/// A column, as far as its values can be guessed.
struct Column {
    name: String,
    is_uuid: bool,
    is_integer: bool,
    is_identity: bool,
}

/// Returns the unique indexes of a table on columns alone.
pub fn unique_keys(state: &dyn State, relation: Oid) -> Vec<UniqueKey> {
    let index = state.table(oids::PG_INDEX);
    let column = |name| index.column(name);
    let (oid, is_unique, is_primary) =
        (column("indexrelid"), column("indisunique"), column("indisprimary"));
    let (keys, count, is_valid) = (column("indkey"), column("indnkeyatts"), column("indisvalid"));
    let mut found: Vec<(Oid, bool, Vec<i16>)> = Vec::new();
    let of_table = [(column("indrelid"), relation)];
    index.lookup(oids::PG_INDEX_RELID_INDEX, &of_table, |row| {
        let mut key = row.numbers(keys);
        key.truncate(row.int(count) as i16 as usize);
        // 0 stands for an expression.
        if row.bool(is_unique) && row.bool(is_valid) && !key.contains(&0) {
            found.push((row.oid(oid), row.bool(is_primary), key));
        }
    });
    let columns = columns(state, relation);
    let mut unique: Vec<UniqueKey> = found
        .into_iter()
        .filter_map(|(oid, is_primary, key)| {
            let of: Vec<&Column> =
                key.iter().map(|number| columns.get(number)).collect::<Option<_>>()?;
            let is_number = of.iter().any(|column| column.is_uuid || column.is_identity)
                || (is_primary && of.iter().all(|column| column.is_integer));
            Some(UniqueKey {
                relation,
                index: name::qualified_name(state, oids::PG_CLASS, oid)?,
                columns: of.iter().map(|column| column.name.clone()).collect(),
                is_number,
            })
        })
        .collect();
    unique.sort_by(|a, b| a.index.cmp(&b.index));
    unique
}

fn columns(state: &dyn State, relation: Oid) -> HashMap<i16, Column> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let column = |name| table.column(name);
    let (number, name) = (column("attnum"), column("attname"));
    let (data_type, identity) = (column("atttypid"), column("attidentity"));
    let (mut found, of_table) = (HashMap::new(), [(column("attrelid"), relation)]);
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &of_table, |row| {
        let data_type = row.oid(data_type);
        let of = Column {
            name: row.name(name),
            is_uuid: data_type == types::UUID,
            is_integer: [types::INT2, types::INT4, types::INT8].contains(&data_type),
            is_identity: row.char(identity) != 0,
        };
        found.insert(row.int(number) as i16, of);
    });
    found
}

//! What names of columns and parameters stand for.

use crate::caller_typed::argument_names;
use crate::oids;
use crate::source::State;
use dragonfly_core::catalog::Oid;
use std::cell::Cell;

/// The tables that a query, or the query around it, reads.
pub(super) struct Scope<'p> {
    pub tables: Vec<Table>,
    pub outer: Option<&'p Self>,
    /// Whether an aggregate of the query was read.
    pub has_aggregates: Cell<bool>,
    /// Whether a function that returns a set was read.
    pub has_sets: Cell<bool>,
}

/// A table that a query reads.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its number among the entries of the query.
    pub entry: usize,
    /// Its alias, or its name.
    pub name: String,
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub number: i16,
    pub data_type: Oid,
    pub collation: Oid,
}

/// The function whose text is read.
pub(super) struct Routine {
    pub name: String,
    /// The names of its input arguments, empty for those without one, with their types.
    pub arguments: Vec<(String, Oid)>,
}

impl Routine {
    pub(super) fn of(state: &dyn State, routine: Oid) -> Option<Self> {
        let table = state.table(oids::PG_PROC);
        let column = |name| table.column(name);
        let (mut found, key) = (None, [(column("oid"), routine)]);
        table.lookup(oids::PG_PROC_OID_INDEX, &key, |row| {
            let mut names = argument_names(&row, column("proargnames"), column("proargmodes"));
            let types = row.oids(column("proargtypes"));
            names.resize(types.len(), String::new());
            let arguments = names.into_iter().zip(types).collect();
            found = Some(Self { name: row.name(column("proname")), arguments });
        });
        found
    }
}

/// Returns the columns of a relation that exist.
pub(super) fn columns_of(state: &dyn State, relation: Oid) -> Vec<Column> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let column = |name| table.column(name);
    let (number, name, is_dropped) = (column("attnum"), column("attname"), column("attisdropped"));
    let (data_type, collation) = (column("atttypid"), column("attcollation"));
    let mut found = Vec::new();
    let keys = [(column("attrelid"), relation)];
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
        let number = row.int(number) as i16;
        if number > 0 && !row.bool(is_dropped) {
            found.push(Column {
                name: row.name(name),
                number,
                data_type: row.oid(data_type),
                collation: row.oid(collation),
            });
        }
    });
    found
}

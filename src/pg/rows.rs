//! The rows of the server as the reader of catalogs sees them.

use super::heap::{self, State};
use dragonfly_core::catalog::{AclItem, Oid};
use dragonfly_reader::{Column, Row, Rows, Values, Wanted};
use std::borrow::Cow;

/// A catalog in a state, open for reading.
struct Catalog<'s> {
    table: heap::Table,
    state: &'s State,
}

/// Opens a catalog with ACCESS SHARE.
pub fn open(state: &State, catalog: Oid) -> Box<dyn Rows + '_> {
    Box::new(Catalog { table: heap::Table::open(catalog), state })
}

impl Rows for Catalog<'_> {
    fn find(&self, name: &str) -> Option<Column> {
        self.table.find(name)
    }

    fn visit(&self, wanted: &Wanted<'_>, each: &mut dyn FnMut(Row<'_>) -> bool) {
        let (table, state) = (&self.table, self.state);
        let mut each_while = |row: heap::Row<'_>| each(Row(&row));
        match wanted {
            Wanted::All => table.scan_while(state, each_while),
            Wanted::Equal { index, keys } => table.lookup_while(state, *index, keys, each_while),
            Wanted::Below { index, column, end } => {
                table.lookup_below(state, *index, (*column, *end), |row| {
                    each_while(row);
                });
            }
            Wanted::Named { index, column, name } => {
                table.lookup_name(state, *index, *column, name, |row| {
                    each_while(row);
                });
            }
        }
    }

    fn pages(&self) -> usize {
        self.table.pages()
    }
}

impl Values for heap::Row<'_> {
    fn is_null(&self, column: Column) -> bool {
        self.is_null(column)
    }

    fn oid(&self, column: Column) -> Oid {
        self.oid(column)
    }

    fn int(&self, column: Column) -> i32 {
        self.int(column)
    }

    fn timestamp(&self, column: Column) -> Option<i64> {
        self.timestamp(column)
    }

    fn bool(&self, column: Column) -> bool {
        self.bool(column)
    }

    fn char(&self, column: Column) -> u8 {
        self.char(column)
    }

    fn name(&self, column: Column) -> Cow<'_, str> {
        self.borrowed_name(column)
    }

    fn text(&self, column: Column) -> Option<String> {
        self.text(column)
    }

    fn with_bytes(&self, column: Column, use_it: &mut dyn FnMut(&[u8])) {
        if !self.is_null(column) {
            self.with_bytes(column, use_it);
        }
    }

    fn bytea(&self, column: Column) -> Option<Vec<u8>> {
        self.bytes(column)
    }

    fn acl_items(&self, column: Column) -> Vec<AclItem> {
        self.acl_items(column)
    }

    fn oids(&self, column: Column) -> Vec<Oid> {
        self.oids(column)
    }

    fn numbers(&self, column: Column) -> Vec<i16> {
        self.numbers(column)
    }

    fn texts(&self, column: Column) -> Vec<String> {
        self.texts(column)
    }

    fn chars(&self, column: Column) -> Vec<u8> {
        self.chars(column)
    }

    fn is_own(&self) -> bool {
        self.is_own()
    }
}

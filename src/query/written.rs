//! The tables that a statement writes to, and what the catalogs store about them that is evaluated
//! then.

use super::permissions::{changed_columns, column_name, names};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, State, Table};
use crate::pg::list::nodes;
use dragonfly_core::catalog::Oid;
use dragonfly_core::explain::Moment;
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// How a table is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A table that is written to.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub table: Oid,
    pub command: Command,
    /// The columns that UPDATE names.
    pub changed: Vec<String>,
}

impl Written {
    /// Returns the tables that a query writes to, and how; none where it only reads.
    ///
    /// # Safety
    /// `query` is a query.
    pub(super) unsafe fn of(query: *mut pg_sys::Query) -> Vec<Self> {
        // SAFETY: as the caller promises; the result relation is an entry of the range table.
        unsafe {
            let command = match (*query).commandType {
                pg_sys::CmdType::CMD_INSERT => Command::Insert,
                pg_sys::CmdType::CMD_UPDATE => Command::Update,
                pg_sys::CmdType::CMD_DELETE => Command::Delete,
                _ => return vec![],
            };
            let place = usize::try_from((*query).resultRelation - 1).unwrap_or(usize::MAX);
            let Some(entry) = nodes((*query).rtable)
                .nth(place)
                .map(<*mut pgrx::pg_sys::Node>::cast::<pg_sys::RangeTblEntry>)
            else {
                return vec![];
            };
            let (table, changed) = ((*entry).relid.to_u32(), changed_columns(query, entry));
            let conflict = (*query).onConflict;
            let updates = !conflict.is_null()
                && (*conflict).action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
            let update =
                updates.then(|| Self { table, command: Command::Update, changed: changed.clone() });
            let mut found = vec![Self { table, command, changed }];
            found.extend(update);
            found
        }
    }
}

impl Command {
    /// Its bit in `pg_trigger.tgtype` (pg_trigger.h).
    fn event(self) -> u32 {
        match self {
            Self::Insert => pg_sys::TRIGGER_TYPE_INSERT,
            Self::Update => pg_sys::TRIGGER_TYPE_UPDATE,
            Self::Delete => pg_sys::TRIGGER_TYPE_DELETE,
            Self::Truncate => pg_sys::TRIGGER_TYPE_TRUNCATE,
        }
    }

    /// Whether it stores rows.
    pub(super) fn makes_rows(self) -> bool {
        matches!(self, Self::Insert | Self::Update)
    }
}

/// Returns the table that a partition belongs to.
pub(super) fn parent(state: &State, partition: Oid) -> Option<Oid> {
    let catalog = Table::open(oids::PG_INHERITS);
    let (child, parent) = (catalog.column("inhrelid"), catalog.column("inhparent"));
    let mut found = None;
    catalog.lookup(state, oids::PG_INHERITS_CHILD_INDEX, &[(child, partition)], |row| {
        found = Some(row.oid(parent));
    });
    found
}

/// A trigger that fires.
pub(super) struct Trigger {
    pub moment: Moment,
    pub condition: Option<CString>,
}

/// The triggers of a table for a command.
pub(super) struct Triggers {
    /// Those that fire, in the order of their names.
    pub firing: Vec<Trigger>,
    /// Whether any trigger, even a disabled one, could change a row before it is stored.
    pub can_change_rows: bool,
}

/// Reads the triggers of a table for a command. `changed` are the columns that an UPDATE changes.
pub(super) fn triggers(
    state: &State,
    table: Oid,
    command: Command,
    changed: &[String],
) -> Triggers {
    let catalog = Table::open(oids::PG_TRIGGER);
    let column = |name| catalog.column(name);
    let (on, name, kind, enabled) =
        (column("tgrelid"), column("tgname"), column("tgtype"), column("tgenabled"));
    let (columns, condition) = (column("tgattr"), column("tgqual"));
    let (mut found, mut can_change_rows) = (Vec::new(), false);
    catalog.lookup(state, oids::PG_TRIGGER_RELID_INDEX, &[(on, table)], |row| {
        let kind = row.int(kind) as u32;
        let numbers = row.numbers(columns);
        let is_affected = command != Command::Update
            || numbers.is_empty()
            || numbers
                .iter()
                .any(|n| column_name(table.into(), *n).is_some_and(|name| changed.contains(&name)));
        let (is_row, is_before) =
            (kind & pg_sys::TRIGGER_TYPE_ROW != 0, kind & pg_sys::TRIGGER_TYPE_BEFORE != 0);
        can_change_rows |= is_row && is_before && kind & command.event() != 0;
        let fires =
            kind & command.event() != 0 && matches!(row.char(enabled), b'O' | b'A') && is_affected;
        let moment = match (is_row, is_before) {
            (false, true) => Moment::Statement,
            (true, true) => Moment::Row,
            (true, false) => Moment::Kept,
            (false, false) => Moment::End,
        };
        if fires {
            found.push((row.name(name), Trigger { moment, condition: stored(&row, condition) }));
        }
    });
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let firing = found.into_iter().map(|(_, trigger)| trigger).collect();
    Triggers { firing, can_change_rows }
}

/// Returns the tables that inherit from a table, including its partitions.
pub(super) fn children(state: &State, table: Oid) -> Vec<Oid> {
    let catalog = Table::open(oids::PG_INHERITS);
    let (child, parent) = (catalog.column("inhrelid"), catalog.column("inhparent"));
    let mut found = Vec::new();
    catalog.lookup(state, oids::PG_INHERITS_PARENT_INDEX, &[(parent, table)], |row| {
        found.push(row.oid(child));
    });
    found
}

/// Returns the types of the columns of a table.
pub(super) fn types(state: &State, table: Oid) -> Vec<Oid> {
    let catalog = Table::open(oids::PG_ATTRIBUTE);
    let column = |name| catalog.column(name);
    let (on, number, of, dropped) =
        (column("attrelid"), column("attnum"), column("atttypid"), column("attisdropped"));
    let mut found = Vec::new();
    catalog.lookup(state, oids::PG_ATTRIBUTE_RELID_INDEX, &[(on, table)], |row| {
        if row.int(number) as i16 > 0 && !row.bool(dropped) {
            found.push(row.oid(of));
        }
    });
    found
}

/// A generated column.
pub(super) struct Generated {
    pub number: i16,
    pub name: String,
    pub is_not_null: bool,
    pub expression: CString,
}

/// Returns the stored generated columns of a table.
pub(super) fn generated(state: &State, table: Oid) -> Vec<Generated> {
    columns_of_kind(state, table, b's')
}

/// Returns the virtual generated columns of a table, which are computed when they are read; there
/// are none before PostgreSQL 18.
pub(super) fn virtual_columns(state: &State, table: Oid) -> Vec<Generated> {
    if catalog::VERSION < 18 { vec![] } else { columns_of_kind(state, table, b'v') }
}

/// Returns the generated columns of a table with this value of `pg_attribute.attgenerated`.
fn columns_of_kind(state: &State, table: Oid, wanted: u8) -> Vec<Generated> {
    let attributes = Table::open(oids::PG_ATTRIBUTE);
    let column = |name| attributes.column(name);
    let (on, number, kind, not_null) =
        (column("attrelid"), column("attnum"), column("attgenerated"), column("attnotnull"));
    let mut numbers = Vec::new();
    attributes.lookup(state, oids::PG_ATTRIBUTE_RELID_INDEX, &[(on, table)], |row| {
        if row.char(kind) == wanted {
            numbers.push((row.int(number) as i16, row.bool(not_null)));
        }
    });
    if numbers.is_empty() {
        return vec![];
    }
    let catalog = Table::open(oids::PG_ATTRDEF);
    let (on, number, expression) =
        (catalog.column("adrelid"), catalog.column("adnum"), catalog.column("adbin"));
    let mut found = Vec::new();
    catalog.lookup(state, oids::PG_ATTRDEF_RELID_INDEX, &[(on, table)], |row| {
        let of_column = numbers.iter().find(|(known, _)| *known == row.int(number) as i16);
        found.extend(of_column.and_then(|&(number, is_not_null)| {
            let name = column_name(table.into(), number)?;
            Some(Generated { number, name, is_not_null, expression: stored(&row, expression)? })
        }));
    });
    found
}

/// Returns the CHECK constraints of a table or of a domain; `of` is the column of `pg_constraint`
/// that refers to it, and `index` the index on that column. Those that are NOT ENFORCED (from
/// PostgreSQL 18 on) are not evaluated.
pub(super) fn checks(state: &State, of: &str, index: Oid, object: Oid) -> Vec<CString> {
    let catalog = Table::open(oids::PG_CONSTRAINT);
    let column = |name| catalog.column(name);
    let (of, name, kind, expression) =
        (column(of), column("conname"), column("contype"), column("conbin"));
    let enforced = catalog.find("conenforced");
    let mut found = Vec::new();
    catalog.lookup(state, index, &[(of, object)], |row| {
        if row.char(kind) == b'c' && enforced.is_none_or(|column| row.bool(column)) {
            found.push((row.name(name), stored(&row, expression)));
        }
    });
    // The server checks them in the order of their names (relcache.c, `CheckConstraintFetch`;
    // typcache.c).
    found.sort();
    found.into_iter().filter_map(|(_, expression)| expression).collect()
}

/// Returns the expressions of the indexes into which a row is written; none for an UPDATE that
/// changes no column of any index.
pub(super) fn indexes(
    state: &State,
    table: Oid,
    command: Command,
    changed: &[String],
) -> Vec<CString> {
    let catalog = Table::open(oids::PG_INDEX);
    let column = |name| catalog.column(name);
    let (on, is_ready, keys) = (column("indrelid"), column("indisready"), column("indkey"));
    let (expressions, predicate) = (column("indexprs"), column("indpred"));
    let (mut found, mut is_affected) = (Vec::new(), command == Command::Insert);
    catalog.lookup(state, oids::PG_INDEX_RELID_INDEX, &[(on, table)], |row| {
        if !row.bool(is_ready) {
            return;
        }
        let parts: Vec<CString> = [predicate, expressions]
            .into_iter()
            .filter_map(|column| stored(&row, column))
            .collect();
        is_affected |= row
            .numbers(keys)
            .iter()
            .any(|n| column_name(table.into(), *n).is_some_and(|name| changed.contains(&name)))
            || parts.iter().any(|part| depends_on(part, table, changed));
        found.extend(parts);
    });
    if is_affected { found } else { vec![] }
}

/// Returns the conditions of the partial indexes of a table.
pub(super) fn predicates(state: &State, table: Oid) -> Vec<CString> {
    let catalog = Table::open(oids::PG_INDEX);
    let (on, predicate) = (catalog.column("indrelid"), catalog.column("indpred"));
    let mut found = Vec::new();
    catalog.lookup(state, oids::PG_INDEX_RELID_INDEX, &[(on, table)], |row| {
        found.extend(stored(&row, predicate));
    });
    found
}

/// Returns the expressions that select the partition of a row.
pub(super) fn partition_key(state: &State, table: Oid) -> Vec<CString> {
    let catalog = Table::open(oids::PG_PARTITIONED_TABLE);
    let (on, expressions) = (catalog.column("partrelid"), catalog.column("partexprs"));
    let mut found = Vec::new();
    catalog.lookup(state, oids::PG_PARTITIONED_TABLE_RELID_INDEX, &[(on, table)], |row| {
        found.extend(stored(&row, expressions));
    });
    found
}

/// Whether an expression over the columns of a table reads one of `columns`.
pub(super) fn depends_on(expression: &CStr, table: Oid, columns: &[String]) -> bool {
    // SAFETY: the server has written it with nodeToString; in a catalog, the table is the first and
    // only one, and in the condition of a trigger its old row is the first and the new one the
    // second.
    let read = unsafe {
        let node = pg_sys::stringToNode(expression.as_ptr()).cast();
        let mut set = std::ptr::null_mut();
        pg_sys::pull_varattnos(node, 1, &mut set);
        pg_sys::pull_varattnos(node, 2, &mut set);
        names(table.into(), set)
    };
    read.iter().any(|name| columns.contains(name))
}

/// An expression as the server stores it.
fn stored(row: &Row<'_>, column: Column) -> Option<CString> {
    row.bytes(column).and_then(|text| CString::new(text).ok())
}

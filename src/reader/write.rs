//! Writes the rows of catalogs as the JSON text of a snapshot.

use crate::catalogs::{CATALOGS, Catalog, Kind};
use crate::data::{Server, VERSION, acl_text};
use crate::oids;
use crate::source::{Column, Row, State, Table};
use dragonfly_core::catalog::Oid;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write;

/// Returns the catalogs in a state as the JSON text of a snapshot, rows in the order in which the
/// source has them.
#[must_use]
pub fn snapshot(state: &dyn State, server: &Server) -> String {
    let mut json = format!("{{\"dragonfly_guard_snapshot\":{VERSION},\"server\":{},", text(server));
    json.push_str("\"catalogs\":{");
    for (at, catalog) in CATALOGS.iter().filter(|of| state.has_catalog(of.oid)).enumerate() {
        json.push_str(if at == 0 { "\n" } else { ",\n" });
        write_catalog(state, catalog, &mut json);
    }
    json.push_str("}}\n");
    json
}

fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn write_catalog(state: &dyn State, catalog: &Catalog, json: &mut String) {
    let table = state.table(catalog.oid);
    let columns: Vec<(&str, Kind, Column)> = catalog
        .columns
        .iter()
        .filter_map(|(name, kind)| {
            let of = if *kind == Kind::TypeName { "oid" } else { name };
            Some((*name, *kind, table.find(of)?))
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
    let is_wanted = wanted(state, catalog.oid, &table);
    let _ = write!(json, "\"{}\":{{\"columns\":{},\"rows\":[", catalog.name, text(&names));
    let mut is_first = true;
    table.scan(|row| {
        if !is_wanted(&row) {
            return;
        }
        json.push_str(if is_first { "\n[" } else { ",\n[" });
        is_first = false;
        for (at, (_, kind, column)) in columns.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            if *kind == Kind::TypeName {
                json.push_str(&text(&state.type_name(row.oid(*column))));
            } else {
                write_value(&row, *kind, *column, json);
            }
        }
        json.push(']');
    });
    json.push_str("]}");
}

/// The access method btree (pg_am.dat).
const BTREE: Oid = 403;

/// Returns which rows of a catalog are written: what `Catalog::rows` says in SQL.
fn wanted(state: &dyn State, catalog: Oid, table: &Table<'_>) -> Box<dyn Fn(&Row<'_>) -> bool> {
    match catalog {
        oids::PG_AMOP => {
            let method = table.column("amopmethod");
            Box::new(move |row| row.oid(method) == BTREE)
        }
        oids::PG_ATTRIBUTE => {
            let (relation, toast) = (table.column("attrelid"), toast_tables(state));
            let (number, acl) = (table.column("attnum"), table.column("attacl"));
            Box::new(move |row| {
                let is_own = row.int(number) as i16 > 0 || !row.is_null(acl);
                is_own && !toast.contains(&row.oid(relation))
            })
        }
        oids::PG_DATABASE => {
            let (oid, current) = (table.column("oid"), state.database());
            Box::new(move |row| row.oid(oid) == current)
        }
        _ => Box::new(|_| true),
    }
}

fn toast_tables(state: &dyn State) -> HashSet<Oid> {
    let table = state.table(oids::PG_CLASS);
    let (oid, kind) = (table.column("oid"), table.column("relkind"));
    let mut found = HashSet::new();
    table.scan(|row| {
        if row.char(kind) == b't' {
            found.insert(row.oid(oid));
        }
    });
    found
}

fn write_value(row: &Row<'_>, kind: Kind, column: Column, json: &mut String) {
    if row.is_null(column) {
        json.push_str("null");
        return;
    }
    let _ = match kind {
        Kind::Oid => write!(json, "{}", row.oid(column)),
        Kind::Int => write!(json, "{}", row.int(column)),
        Kind::Time => write!(json, "{}", row.timestamp(column).unwrap_or_default()),
        Kind::Bool => write!(json, "{}", row.bool(column)),
        Kind::Present => write!(json, "true"),
        Kind::Char => {
            let letter = row.char(column);
            let letter = if letter == 0 { String::new() } else { char::from(letter).to_string() };
            write!(json, "{}", text(&letter))
        }
        Kind::Name | Kind::TypeName => write!(json, "{}", text(&row.borrowed_name(column))),
        Kind::Text => write!(json, "{}", text(&row.text(column))),
        Kind::Bytes => {
            let bytes = row.bytea(column).unwrap_or_default();
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write!(json, "\"{digits}\"")
        }
        Kind::Acl => write!(json, "\"{}\"", acl_text(&row.acl_items(column))),
        Kind::Oids => write!(json, "{}", text(&row.oids(column))),
        Kind::Numbers => write!(json, "{}", text(&row.numbers(column))),
        Kind::Texts => write!(json, "{}", text(&row.texts(column))),
        Kind::Chars => {
            let letters: String = row.chars(column).into_iter().map(char::from).collect();
            write!(json, "{}", text(&letters))
        }
    };
}

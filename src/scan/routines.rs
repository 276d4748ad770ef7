//! `pg_proc`.

use super::objects::{self, Contents};
use super::oids;
use crate::pg::heap::{Column, Latest, Row, Table};
use dragonfly_core::catalog::{ContentKind, Oid, Routine, RoutineKind, Snapshot};
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::CStr;

/// The columns of `pg_proc` that the rules need.
struct Columns {
    oid: Column,
    name: Column,
    schema: Column,
    owner: Column,
    kind: Column,
    security_definer: Column,
    config: Column,
    acl: Column,
    arguments: Column,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("proname"),
            schema: table.column("pronamespace"),
            owner: table.column("proowner"),
            kind: table.column("prokind"),
            security_definer: table.column("prosecdef"),
            config: table.column("proconfig"),
            acl: table.column("proacl"),
            arguments: table.column("proargtypes"),
        }
    }

    fn routine(&self, row: &Row<'_>) -> Routine {
        Routine {
            oid: row.oid(self.oid),
            name: row.name(self.name),
            schema: row.oid(self.schema),
            owner: row.oid(self.owner),
            kind: match row.char(self.kind) {
                b'p' => RoutineKind::Procedure,
                b'a' => RoutineKind::Aggregate,
                _ => RoutineKind::Function,
            },
            security_definer: row.bool(self.security_definer),
            config: row.texts(self.config),
            acl: row.acl(self.acl),
            arguments: row.oids(self.arguments),
        }
    }
}

/// Reads every SECURITY DEFINER routine and every routine of a governed schema; of all others, who owns some where.
pub fn all(latest: &Latest, governed: &HashSet<Oid>, snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_PROC);
    let columns = Columns::of(&table);
    let mut routines = Vec::new();
    let mut contents = Contents::of(snapshot);
    table.scan(latest, |row| {
        let schema = row.oid(columns.schema);
        contents.hold(schema, row.oid(columns.owner), ContentKind::Routine);
        if (row.bool(columns.security_definer) || governed.contains(&schema)) && !is_temporary(schema) {
            routines.push(columns.routine(&row));
        }
    });
    snapshot.routines = routines;
    name_types(snapshot);
}

/// Reads the routines `oids`, those that are there and in no temporary schema, and the extension each is a member of.
pub fn some(latest: &Latest, oids: &[Oid], snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_PROC);
    let columns = Columns::of(&table);
    for oid in oids {
        table.lookup(latest, oids::PG_PROC_OID_INDEX, &[(columns.oid, *oid)], |row| {
            if !is_temporary(row.oid(columns.schema)) {
                snapshot.routines.push(columns.routine(&row));
            }
        });
        if let Some(extension) = objects::extension_of_routine(latest, *oid) {
            snapshot.routine_extension.insert(*oid, extension);
        }
    }
    name_types(snapshot);
}

/// Only the session itself can call what is in its temporary schema.
fn is_temporary(schema: Oid) -> bool {
    // SAFETY: a look-up in the system cache.
    unsafe { pg_sys::isAnyTempNamespace(schema.into()) }
}

/// The names of all argument types, each once.
fn name_types(snapshot: &mut Snapshot) {
    for routine in &snapshot.routines {
        for argument in &routine.arguments {
            snapshot.types.entry(*argument).or_insert_with(|| {
                let flags = pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
                // SAFETY: gives a C string, "???" where the type is gone.
                unsafe {
                    let name = pg_sys::format_type_extended((*argument).into(), -1, flags as pg_sys::bits16);
                    crate::pg::text::from_server(CStr::from_ptr(name).to_bytes())
                }
            });
        }
    }
}

/// What a routine was before the command that runs now: owner, SECURITY DEFINER, `proconfig`.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Before {
    pub owner: Oid,
    pub security_definer: bool,
    pub config: Vec<String>,
}

impl Before {
    /// As the system cache still shows it: a command's own changes reach it only when the command is over. `None` where the
    /// routine did not exist.
    pub fn now(routine: Oid) -> Option<Self> {
        let table = Table::open(oids::PG_PROC);
        let columns = Columns::of(&table);
        // SAFETY: the tuple is of pg_proc, used while it is held, and released.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(routine));
            if tuple.is_null() {
                return None;
            }
            let row = Row::from_tuple(tuple, &table);
            let before = Self {
                owner: row.oid(columns.owner),
                security_definer: row.bool(columns.security_definer),
                config: row.texts(columns.config),
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(before)
        }
    }
}

//! What lasts and rests on something temporary: it goes with it, at the end of the session or of the transaction, and no command says so.

use super::oids;
use crate::pg::heap::{State, Table};
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::collections::HashSet;

/// So many objects are looked at for one.
const MOST: usize = 50_000;

/// Whether this session has a temporary schema: only then can it make anything that rests on something temporary.
pub fn has_schema() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: writes both.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema != pg_sys::InvalidOid
}

/// Whether an object rests on something temporary: a table, a type or a routine, by itself, by a part of it (a policy, the rule of a view), or
/// by way of anything that it needs.
pub fn is_under(state: &State, catalog: Oid, object: Oid) -> bool {
    let table = Table::open(oids::PG_DEPEND);
    let (class, oid, kind) = (table.column("classid"), table.column("objid"), table.column("deptype"));
    let (to_class, to_oid) = (table.column("refclassid"), table.column("refobjid"));
    let mut seen: HashSet<(Oid, Oid)> = HashSet::from([(catalog, object)]);
    let mut waiting = vec![(catalog, object)];
    // The parts of a table come with it; those of a table that it needs are that table's affair.
    if matches!(catalog, oids::PG_CLASS | oids::PG_TYPE) {
        table.lookup(state, oids::PG_DEPEND_REFERENCE_INDEX, &[(to_class, catalog), (to_oid, object)], |row| {
            let part = (row.oid(class), row.oid(oid));
            if matches!(row.char(kind), b'a' | b'i') && part.0 != oids::PG_CLASS && seen.insert(part) {
                waiting.push(part);
            }
        });
    }
    while let Some((current_class, current)) = waiting.pop() {
        let mut found = false;
        table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &[(class, current_class), (oid, current)], |row| {
            let needed = (row.oid(to_class), row.oid(to_oid));
            found |= is_temporary(state, needed);
            if seen.insert(needed) {
                waiting.push(needed);
            }
        });
        if current_class == oids::PG_EXTENSION {
            // Nothing of an extension goes without the whole of it.
            super::objects::members(state, current, &mut |member_class, member| {
                if seen.insert((member_class, member)) {
                    waiting.push((member_class, member));
                }
            });
        }
        // Where there is more than anybody could mean, better no than yes.
        if found || seen.len() > MOST {
            return true;
        }
    }
    false
}

/// Whether an object outlives the session, and is not a part of something that does not: as the system caches show it.
pub fn outlives(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    let state = State::now();
    let in_lasting_schema = |column: &str| {
        let opened = Table::open(class.to_u32());
        let (oid, schema) = (opened.column("oid"), opened.column(column));
        let mut temporary = true;
        opened.lookup(&state, oid_index(class.to_u32()), &[(oid, object.to_u32())], |row| {
            // SAFETY: a look-up in the system cache.
            temporary = unsafe { pg_sys::isAnyTempNamespace(row.oid(schema).into()) };
        });
        !temporary
    };
    match class.to_u32() {
        oids::PG_CLASS => super::objects::is_permanent(&state, object.to_u32()),
        oids::PG_PROC => in_lasting_schema("pronamespace"),
        oids::PG_TYPE => in_lasting_schema("typnamespace"),
        oids::PG_OPERATOR => in_lasting_schema("oprnamespace"),
        // A schema, an extension, a cast; or a part of a relation or a domain.
        other => !is_part_of_temporary(&state, other, object.to_u32()),
    }
}

fn oid_index(catalog: Oid) -> Oid {
    match catalog {
        oids::PG_PROC => oids::PG_PROC_OID_INDEX,
        oids::PG_TYPE => oids::PG_TYPE_OID_INDEX,
        _ => oids::PG_OPERATOR_OID_INDEX,
    }
}

fn is_part_of_temporary(state: &State, catalog: Oid, object: Oid) -> bool {
    let table = Table::open(oids::PG_DEPEND);
    let (class, oid, kind) = (table.column("classid"), table.column("objid"), table.column("deptype"));
    let (to_class, to_oid) = (table.column("refclassid"), table.column("refobjid"));
    let mut whole = None;
    table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &[(class, catalog), (oid, object)], |row| {
        if matches!(row.char(kind), b'a' | b'i') && matches!(row.oid(to_class), oids::PG_CLASS | oids::PG_TYPE) {
            whole = Some((row.oid(to_class), row.oid(to_oid)));
        }
    });
    whole.is_some_and(|(class, oid)| !outlives(class.into(), oid.into()))
}

fn is_temporary(state: &State, (catalog, object): (Oid, Oid)) -> bool {
    match catalog {
        oids::PG_CLASS => !super::objects::is_permanent(state, object),
        // SAFETY: a look-up in the system cache.
        oids::PG_NAMESPACE => unsafe { pg_sys::isAnyTempNamespace(object.into()) },
        _ => false,
    }
}

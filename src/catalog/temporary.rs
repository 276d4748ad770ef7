//! What lasts and depends on a temporary object: it is dropped with it, at the end of the session
//! or of the transaction, and no command says so.

use super::oids;
use crate::pg::heap::{Column, State, Table};
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::collections::HashSet;

/// So many objects are looked at for one.
const MOST: usize = 50_000;

/// Whether this session has a temporary schema: only then can it create anything that depends on a
/// temporary object.
pub fn has_schema() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: writes both.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema != pg_sys::InvalidOid
}

/// How an object depends on temporary ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryDependency {
    /// On none.
    None,
    /// A temporary table, type or routine.
    Temporary,
    /// A temporary routine that is SECURITY DEFINER: who can reach the object can call it.
    TemporaryDefiner,
}

/// Catalog and OID.
pub type Address = (Oid, Oid);

/// Rows of `pg_depend`, one way or the other.
struct Dependencies {
    table: Table,
    class: Column,
    object: Column,
    to_class: Column,
    to_object: Column,
    kind: Column,
}

impl Dependencies {
    fn open() -> Self {
        let table = Table::open(oids::PG_DEPEND);
        let column = |name| table.column(name);
        let (class, object, kind) = (column("classid"), column("objid"), column("deptype"));
        let (to_class, to_object) = (column("refclassid"), column("refobjid"));
        Self { class, object, to_class, to_object, kind, table }
    }

    /// What an object needs, each with the kind of dependency.
    fn needs(&self, state: &State, (class, object): Address, mut each: impl FnMut(Address, u8)) {
        let keys = [(self.class, class), (self.object, object)];
        self.table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            each((row.oid(self.to_class), row.oid(self.to_object)), row.char(self.kind));
        });
    }

    /// What needs an object.
    fn users(&self, state: &State, (class, object): Address, mut each: impl FnMut(Address, u8)) {
        let keys = [(self.to_class, class), (self.to_object, object)];
        self.table.lookup(state, oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            each((row.oid(self.class), row.oid(self.object)), row.char(self.kind));
        });
    }
}

/// How an object depends on temporary ones: by itself, by a part of it (a policy, the rule of a
/// view), or by way of anything that it needs.
pub fn dependency(state: &State, object: Address) -> TemporaryDependency {
    let dependencies = Dependencies::open();
    let mut seen: HashSet<Address> = HashSet::from([object]);
    let mut waiting = vec![object];
    // The parts of a table or a type come with it; those of one that it needs are that one's
    // affair.
    if matches!(object.0, oids::PG_CLASS | oids::PG_TYPE) {
        dependencies.users(state, object, |part, kind| {
            if matches!(kind, b'a' | b'i') && part.0 != oids::PG_CLASS && seen.insert(part) {
                waiting.push(part);
            }
        });
    }
    let mut dependency = TemporaryDependency::None;
    while let Some(current) = waiting.pop() {
        let mut temporary = false;
        dependencies.needs(state, current, |needed, _| {
            temporary |= is_temporary(state, needed);
            if seen.insert(needed) {
                waiting.push(needed);
            }
        });
        if current.0 == oids::PG_EXTENSION {
            // Nothing of an extension goes without the whole of it.
            super::objects::members(state, current.1, &mut |member_class, member| {
                if seen.insert((member_class, member)) {
                    waiting.push((member_class, member));
                }
            });
        }
        if temporary && current.0 == oids::PG_PROC && super::routines::is_definer(state, current.1)
        {
            return TemporaryDependency::TemporaryDefiner;
        }
        // Where there is more than anybody could mean, better no than yes.
        if temporary || seen.len() > MOST {
            dependency = TemporaryDependency::Temporary;
        }
        if seen.len() > MOST {
            break;
        }
    }
    dependency
}

/// An object and everything that would be dropped with it.
pub fn dropped_with(state: &State, object: Address) -> HashSet<Address> {
    let dependencies = Dependencies::open();
    let mut seen: HashSet<Address> = HashSet::from([object]);
    let mut waiting = vec![object];
    while let Some(current) = waiting.pop() {
        let mut next = Vec::new();
        dependencies.users(state, current, |user, _| next.push(user));
        // The rule of a view is the view, a policy is told by its table; and a member of an
        // extension is the extension.
        dependencies.needs(state, current, |whole, kind| {
            if kind == b'e'
                || (kind == b'i' && current.0 != oids::PG_CLASS)
                || current.0 == oids::PG_POLICY
            {
                next.push(whole);
            }
        });
        waiting.extend(next.into_iter().filter(|user| seen.len() <= MOST && seen.insert(*user)));
    }
    seen
}

/// Whether something that lasts depends on a temporary table.
pub fn has_permanent_dependents(state: &State, relation: Oid) -> bool {
    let dependencies = Dependencies::open();
    let mut users = Vec::new();
    let object = (oids::PG_CLASS, relation);
    dependencies.users(state, object, |user, _| users.push(user));
    // Its row type is what functions take and give.
    let types: Vec<Address> =
        users.iter().copied().filter(|user| user.0 == oids::PG_TYPE).collect();
    for row_type in types {
        dependencies.users(state, row_type, |user, _| users.push(user));
    }
    users.iter().any(|(class, oid)| outlives_session((*class).into(), (*oid).into()))
}

/// Whether an object outlives the session, and is not a part of something that does not: as the
/// system caches show it.
pub fn outlives_session(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
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
        other => !is_part_of_temporary(&state, (other, object.to_u32())),
    }
}

fn oid_index(catalog: Oid) -> Oid {
    match catalog {
        oids::PG_PROC => oids::PG_PROC_OID_INDEX,
        oids::PG_TYPE => oids::PG_TYPE_OID_INDEX,
        _ => oids::PG_OPERATOR_OID_INDEX,
    }
}

fn is_part_of_temporary(state: &State, object: Address) -> bool {
    let mut whole = None;
    Dependencies::open().needs(state, object, |needed, kind| {
        if matches!(kind, b'a' | b'i') && matches!(needed.0, oids::PG_CLASS | oids::PG_TYPE) {
            whole = Some(needed);
        }
    });
    whole.is_some_and(|(class, oid)| !outlives_session(class.into(), oid.into()))
}

fn is_temporary(state: &State, (catalog, object): (Oid, Oid)) -> bool {
    match catalog {
        oids::PG_CLASS => !super::objects::is_permanent(state, object),
        // SAFETY: a look-up in the system cache.
        oids::PG_NAMESPACE => unsafe { pg_sys::isAnyTempNamespace(object.into()) },
        _ => false,
    }
}

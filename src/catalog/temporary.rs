//! Dependencies of permanent objects on temporary ones. A permanent object is dropped with the
//! temporary object that it depends on, at the end of the session or the transaction, without any
//! command.

use super::oids;
use crate::pg::heap::{State, Table};
use dragonfly_core::catalog::Oid;
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::collections::HashSet;

/// The maximum number of objects that are visited for one object.
const MOST: usize = 50_000;

/// Whether this session has a temporary schema: only then can it create anything that depends on a
/// temporary object.
pub fn has_schema() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: writes both variables.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema != pg_sys::InvalidOid
}

/// How an object depends on temporary objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryDependency {
    /// It does not.
    None,
    /// It depends on a temporary table, type or routine.
    Temporary,
    /// It depends on a temporary SECURITY DEFINER routine, which roles that can use the object can
    /// call.
    TemporaryDefiner,
}

/// An object: its catalog and its OID.
pub type Address = (Oid, Oid);

/// The dependencies in `pg_depend`, in both directions.
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
        Self { table, class, object, to_class, to_object, kind }
    }

    /// Calls `each` with the objects that an object depends on, and the type of the dependency.
    fn references(
        &self,
        state: &State,
        (class, object): Address,
        mut each: impl FnMut(Address, u8),
    ) {
        let keys = [(self.class, class), (self.object, object)];
        self.table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            each((row.oid(self.to_class), row.oid(self.to_object)), row.char(self.kind));
        });
    }

    /// Calls `each` with the objects that depend on an object, and the type of the dependency.
    fn dependents(
        &self,
        state: &State,
        (class, object): Address,
        mut each: impl FnMut(Address, u8),
    ) {
        let keys = [(self.to_class, class), (self.to_object, object)];
        self.table.lookup(state, oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            each((row.oid(self.class), row.oid(self.object)), row.char(self.kind));
        });
    }
}

/// Returns how an object depends on temporary objects: directly, by one of its parts (a policy, the
/// rule of a view), or through other objects that it depends on.
pub fn dependency(state: &State, object: Address) -> TemporaryDependency {
    let dependencies = Dependencies::open();
    let mut seen: HashSet<Address> = HashSet::from([object]);
    let mut waiting = vec![object];
    // Only the parts of the object itself are visited, not those of objects that it depends on.
    if matches!(object.0, oids::PG_CLASS | oids::PG_TYPE) {
        dependencies.dependents(state, object, |part, kind| {
            if matches!(kind, b'a' | b'i') && part.0 != oids::PG_CLASS && seen.insert(part) {
                waiting.push(part);
            }
        });
    }
    let mut dependency = TemporaryDependency::None;
    while let Some(current) = waiting.pop() {
        let mut temporary = false;
        dependencies.references(state, current, |needed, _| {
            temporary |= is_temporary(state, needed);
            if seen.insert(needed) {
                waiting.push(needed);
            }
        });
        if current.0 == oids::PG_EXTENSION {
            // A member of an extension is only dropped with the extension and all its members.
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
        // Where the limit is exceeded, the object counts as dependent.
        if temporary || seen.len() > MOST {
            dependency = TemporaryDependency::Temporary;
        }
        if seen.len() > MOST {
            break;
        }
    }
    dependency
}

/// Returns an object and all objects that would be dropped with it.
pub fn dropped_with(state: &State, object: Address) -> HashSet<Address> {
    let dependencies = Dependencies::open();
    let mut seen: HashSet<Address> = HashSet::from([object]);
    let mut waiting = vec![object];
    while let Some(current) = waiting.pop() {
        let mut next = Vec::new();
        dependencies.dependents(state, current, |user, _| next.push(user));
        // Dropping the rule of a view drops the view, and dropping a member drops the extension.
        // The table of a policy is included because the contract declares the table.
        dependencies.references(state, current, |container, kind| {
            if kind == b'e'
                || (kind == b'i' && current.0 != oids::PG_CLASS)
                || current.0 == oids::PG_POLICY
            {
                next.push(container);
            }
        });
        waiting.extend(next.into_iter().filter(|user| seen.len() <= MOST && seen.insert(*user)));
    }
    seen
}

/// Whether a relation is a temporary one of this session. (Those of other sessions end with them.)
pub fn is_own(state: &State, relation: Oid) -> bool {
    super::objects::schema_of(state, relation).is_some_and(|schema| {
        // SAFETY: compares with a variable of the backend.
        unsafe { pg_sys::isTempNamespace(schema.into()) }
    })
}

/// Whether a permanent object depends on a temporary table.
pub fn has_permanent_dependents(state: &State, relation: Oid) -> bool {
    let dependencies = Dependencies::open();
    let mut dependents = Vec::new();
    let object = (oids::PG_CLASS, relation);
    dependencies.dependents(state, object, |user, _| dependents.push(user));
    // Functions depend on the row type of the table.
    let types: Vec<Address> =
        dependents.iter().copied().filter(|user| user.0 == oids::PG_TYPE).collect();
    for row_type in types {
        dependencies.dependents(state, row_type, |user, _| dependents.push(user));
    }
    dependents.iter().any(|dependent| is_permanent(state, *dependent))
}

/// Returns the permanent objects that depend on an object, directly or through other temporary
/// objects, if it is a SECURITY DEFINER routine; otherwise none.
pub fn permanent_dependents_of_definer(state: &State, object: Address) -> Vec<Address> {
    if object.0 != oids::PG_PROC || !super::routines::is_definer(state, object.1) {
        return vec![];
    }
    let dependencies = Dependencies::open();
    let mut seen: HashSet<Address> = HashSet::from([object]);
    let mut waiting = vec![object];
    let mut found = Vec::new();
    while let Some(current) = waiting.pop() {
        let mut dependents = Vec::new();
        dependencies.dependents(state, current, |user, _| dependents.push(user));
        for user in dependents {
            if seen.len() > MOST || !seen.insert(user) {
                continue;
            }
            if is_permanent(state, user) {
                found.push(user);
            } else {
                waiting.push(user);
            }
        }
    }
    found
}

/// Whether an object is permanent: neither temporary nor a part of a temporary object.
pub fn is_permanent(state: &State, (class, object): Address) -> bool {
    let is_in_permanent_schema = |column: &str| {
        let opened = Table::open(class);
        let (oid, schema) = (opened.column("oid"), opened.column(column));
        let mut temporary = true;
        opened.lookup(state, oid_index(class), &[(oid, object)], |row| {
            // SAFETY: a lookup in the system cache.
            temporary = unsafe { pg_sys::isAnyTempNamespace(row.oid(schema).into()) };
        });
        !temporary
    };
    match class {
        oids::PG_CLASS => super::objects::is_permanent(state, object),
        oids::PG_PROC => is_in_permanent_schema("pronamespace"),
        oids::PG_TYPE => is_in_permanent_schema("typnamespace"),
        oids::PG_OPERATOR => is_in_permanent_schema("oprnamespace"),
        // A schema, an extension, a cast, or a part of a relation or a domain.
        other => !is_part_of_temporary(state, (other, object)),
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
    let mut container = None;
    Dependencies::open().references(state, object, |needed, kind| {
        if matches!(kind, b'a' | b'i') && matches!(needed.0, oids::PG_CLASS | oids::PG_TYPE) {
            container = Some(needed);
        }
    });
    container.is_some_and(|container| !is_permanent(state, container))
}

fn is_temporary(state: &State, (catalog, object): (Oid, Oid)) -> bool {
    match catalog {
        oids::PG_CLASS => !super::objects::is_permanent(state, object),
        // SAFETY: a lookup in the system cache.
        oids::PG_NAMESPACE => unsafe { pg_sys::isAnyTempNamespace(object.into()) },
        _ => false,
    }
}

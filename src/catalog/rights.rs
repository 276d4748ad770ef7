//! What roles may do in a state of the catalogs. The system caches answer for the current one; for
//! an earlier one, the rows of the state do.

use super::{objects, oids};
use crate::pg::heap::{State, of_row};
use crate::pg::privileges;
use crate::pg::text::from_server;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectKind, Oid, Privileges, Relation, Snapshot};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

/// What roles may do in a state.
pub enum Rights<'a> {
    /// In the current one.
    Now,
    /// In an earlier one.
    Earlier(Earlier<'a>),
}

/// An earlier state, with its roles.
pub struct Earlier<'a> {
    state: &'a State,
    snapshot: &'a Snapshot,
    access: &'a Access<'a>,
    /// The relations that have been asked about.
    relations: RefCell<HashMap<Oid, Option<Rc<Relation>>>>,
}

impl<'a> Rights<'a> {
    /// Returns what roles may do in an earlier state; `access` is that of `snapshot`, which has the
    /// roles and memberships of the state.
    pub fn earlier(state: &'a State, snapshot: &'a Snapshot, access: &'a Access<'a>) -> Self {
        Self::Earlier(Earlier { state, snapshot, access, relations: RefCell::default() })
    }

    /// Whether a role has the privileges of another one without SET ROLE.
    pub fn has_privileges_of(&self, role: Oid, of: Oid) -> bool {
        match self {
            // SAFETY: lookups in the system cache.
            Self::Now => unsafe { pg_sys::has_privs_of_role(role.into(), of.into()) },
            Self::Earlier(earlier) => earlier.access.has_privileges_of(role, of),
        }
    }

    /// Whether policies limit a role on a table.
    pub fn is_limited(&self, role: Oid, relation: Oid) -> bool {
        match self {
            Self::Now => has_active_policies(role, relation),
            Self::Earlier(earlier) => {
                let table = earlier.relation(relation);
                table.is_some_and(|table| earlier.access.is_limited_by_policies(role, &table))
            }
        }
    }

    /// Whether a role has a privilege on a relation.
    pub fn on_relation(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        match self {
            Self::Now => privileges::on_relation(role, relation, mode(privilege)),
            Self::Earlier(earlier) => earlier.relation(relation).is_some_and(|of| {
                earlier.access.relation_privileges(role, &of).contains(privilege)
            }),
        }
    }

    /// Whether a role has a privilege on a relation, or on a column of it at least.
    pub fn on_part(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        match self {
            Self::Now => privileges::on_part(role, relation, mode(privilege)),
            Self::Earlier(earlier) => earlier.relation(relation).is_some_and(|of| {
                earlier.access.relation_privileges(role, &of).contains(privilege)
                    || of.columns.iter().any(|(column, _)| {
                        earlier.access.column_privileges(role, &of, column).contains(privilege)
                    })
            }),
        }
    }

    /// Whether a role has a privilege on a column, which has a number and a name.
    pub fn on_column(
        &self,
        role: Oid,
        relation: Oid,
        (number, name): (i16, &str),
        privilege: Privileges,
    ) -> bool {
        match self {
            Self::Now => privileges::on_column(role, relation, number, mode(privilege)),
            Self::Earlier(earlier) => earlier.relation(relation).is_some_and(|of| {
                earlier.access.column_privileges(role, &of, name).contains(privilege)
            }),
        }
    }

    /// Whether a role has EXECUTE on a routine.
    pub fn on_routine(&self, role: Oid, routine: Oid) -> bool {
        let Self::Earlier(earlier) = self else { return privileges::on_routine(role, routine) };
        let row = oids::PROC_BY_OID;
        let owner = of_row(earlier.state, row, routine, "proowner", |row, of| row.oid(of));
        let acl = of_row(earlier.state, row, routine, "proacl", |row, of| row.acl(of)).flatten();
        owner.is_some_and(|owner| {
            let held = earlier.access.privileges(role, owner, acl.as_ref(), ObjectKind::Routine);
            held.contains(Privileges::EXECUTE)
        })
    }

    /// Whether a role has USAGE on a schema.
    pub fn on_schema(&self, role: Oid, schema: Oid) -> bool {
        let Self::Earlier(earlier) = self else { return privileges::on_schema(role, schema) };
        earlier.snapshot.schema(schema).is_some_and(|schema| {
            let acl = schema.acl.as_ref();
            let held = earlier.access.privileges(role, schema.owner, acl, ObjectKind::Schema);
            held.contains(Privileges::USAGE)
        })
    }

    /// Returns the name of a role.
    pub fn role_name(&self, role: Oid) -> Option<String> {
        match self {
            // SAFETY: a lookup in the system cache; null or a C string.
            Self::Now => unsafe {
                let name = pg_sys::GetUserNameFromId(role.into(), true);
                (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
            },
            Self::Earlier(earlier) => earlier.snapshot.role(role).map(|role| role.name.clone()),
        }
    }
}

impl Earlier<'_> {
    fn relation(&self, oid: Oid) -> Option<Rc<Relation>> {
        if let Some(known) = self.relations.borrow().get(&oid) {
            return known.clone();
        }
        let mut found = Snapshot::default();
        objects::some_relations(self.state, &[oid], &mut found);
        let found = found.relations.pop().map(Rc::new);
        self.relations.borrow_mut().insert(oid, found.clone());
        found
    }
}

/// Whether policies limit a role on a table now.
pub fn has_active_policies(role: Oid, relation: Oid) -> bool {
    let active = pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32;
    // SAFETY: lookups in the system cache, which raise no error for what does not exist.
    unsafe { pg_sys::check_enable_rls(relation.into(), role.into(), true) == active }
}

/// Returns a privilege as the server's functions take it: its bits are those of the server.
fn mode(privilege: Privileges) -> u32 {
    privilege.0
}

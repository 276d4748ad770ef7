//! What roles may do by the rows of a state.

use crate::objects;
use crate::oids;
use crate::rights::Rights;
use crate::source::{State, of_row};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Acl, ObjectKind, Oid, Privileges, Relation, Snapshot};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// What roles may do by the rows of a state.
pub struct ByRows<'a> {
    state: &'a dyn State,
    snapshot: &'a Snapshot,
    access: &'a Access<'a>,
    /// The relations that have been asked about.
    relations: RefCell<HashMap<Oid, Option<Rc<Relation>>>>,
}

impl<'a> ByRows<'a> {
    /// Returns what roles may do in a state; `access` is that of `snapshot`, which has the roles,
    /// memberships and schemas of the state.
    #[must_use]
    pub fn new(state: &'a dyn State, snapshot: &'a Snapshot, access: &'a Access<'a>) -> Self {
        Self { state, snapshot, access, relations: RefCell::default() }
    }

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

    fn has(
        &self,
        role: Oid,
        (owner, acl, kind): (Oid, Option<&Acl>, ObjectKind),
        privilege: Privileges,
    ) -> bool {
        self.access.privileges(role, owner, acl, kind).contains(privilege)
    }

    fn has_on_schema(&self, role: Oid, schema: Oid, privilege: Privileges) -> bool {
        self.snapshot.schema(schema).is_some_and(|schema| {
            let of = (schema.owner, schema.acl.as_ref(), ObjectKind::Schema);
            self.has(role, of, privilege)
        })
    }
}

impl Rights for ByRows<'_> {
    fn has_privileges_of(&self, role: Oid, of: Oid) -> bool {
        self.access.has_privileges_of(role, of)
    }

    fn is_limited(&self, role: Oid, relation: Oid) -> bool {
        let table = self.relation(relation);
        table.is_some_and(|table| self.access.is_limited_by_policies(role, &table))
    }

    fn on_relation(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        self.relation(relation)
            .is_some_and(|of| self.access.relation_privileges(role, &of).contains(privilege))
    }

    fn on_part(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        self.relation(relation).is_some_and(|of| {
            self.access.relation_privileges(role, &of).contains(privilege)
                || of.columns.iter().any(|(column, _)| {
                    self.access.column_privileges(role, &of, column).contains(privilege)
                })
        })
    }

    fn on_column(
        &self,
        role: Oid,
        relation: Oid,
        (_, name): (i16, &str),
        privilege: Privileges,
    ) -> bool {
        self.relation(relation)
            .is_some_and(|of| self.access.column_privileges(role, &of, name).contains(privilege))
    }

    fn on_routine(&self, role: Oid, routine: Oid) -> bool {
        let row = oids::PROC_BY_OID;
        let owner = of_row(self.state, row, routine, "proowner", |row, of| row.oid(of));
        let acl = of_row(self.state, row, routine, "proacl", |row, of| row.acl(of)).flatten();
        owner.is_some_and(|owner| {
            self.has(role, (owner, acl.as_ref(), ObjectKind::Routine), Privileges::EXECUTE)
        })
    }

    fn on_schema(&self, role: Oid, schema: Oid) -> bool {
        self.has_on_schema(role, schema, Privileges::USAGE)
    }

    fn creates_in(&self, role: Oid, schema: Oid) -> bool {
        self.has_on_schema(role, schema, Privileges::CREATE)
    }

    fn creates_schemas(&self, role: Oid) -> bool {
        let database = &self.snapshot.database;
        let of = (database.owner, database.acl.as_ref(), ObjectKind::Database);
        self.has(role, of, Privileges::CREATE)
    }

    fn role_name(&self, role: Oid) -> Option<String> {
        self.snapshot.role(role).map(|role| role.name.clone())
    }
}

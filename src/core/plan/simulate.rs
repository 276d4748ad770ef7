//! Simulation: the effects of statements on a copy of the catalog (aclchk.c, user.c, `aclnewowner`
//! and `recursive_revoke` in acl.c).

use crate::access::Access;
use crate::catalog::{
    Acl, AclItem, ContentKind, DefaultAcl, ObjectId, ObjectKind, Oid, PUBLIC, Privileges, Relation,
    RelationKind, Role, Routine, Schema, ServerObject, Snapshot,
};
use crate::finding::fingerprint;
use crate::fix::{AclStatement, Change, RoutineChange, Statement, Verb};
use std::collections::HashMap;

/// A snapshot on which statements are simulated.
pub(super) struct Simulation {
    snapshot: Snapshot,
    /// The role that executes the statements and owns new objects.
    runner: Oid,
    relations: HashMap<Oid, usize>,
    routines: HashMap<Oid, usize>,
}

impl Simulation {
    pub(super) fn new(snapshot: Snapshot, runner: Oid) -> Self {
        let relations = snapshot.relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        let routines = snapshot.routines.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        Self { snapshot, runner, relations, routines }
    }

    /// Returns the resulting catalog.
    pub(super) fn complete(self) -> Snapshot {
        self.snapshot.complete()
    }

    /// Returns the current catalog; its lookup tables are not updated.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the name of a relation as SQL; `None` if it does not exist.
    pub(super) fn relation_sql(&self, relation: Oid) -> Option<String> {
        self.relations
            .get(&relation)
            .map(|i| self.snapshot.relation_sql(&self.snapshot.relations[*i]))
    }

    /// Applies a statement; returns whether it changes anything.
    pub(super) fn execute(&mut self, statement: &Statement) -> bool {
        match statement {
            Statement::Acl(statement) => self.acl(statement),
            Statement::Ddl(ddl) => self.ddl(&ddl.change),
        }
    }

    /// Applies the effect of a DDL statement; returns whether it changes anything.
    fn ddl(&mut self, change: &Change) -> bool {
        match change {
            Change::AddRole(role) => {
                let is_new = self.snapshot.roles.iter().all(|r| r.name != role.name);
                let oid = simulated_oid("role", &role.name);
                self.snapshot.roles.extend(is_new.then(|| Role { oid, ..role.clone() }));
                is_new
            }
            Change::AlterRole { role, attribute, on } => {
                let role = self
                    .snapshot
                    .roles
                    .iter_mut()
                    .find(|r| r.oid == *role && r.has(*attribute) != *on);
                role.map(|r| r.set(*attribute, *on)).is_some()
            }
            Change::ResetSetting(setting) => {
                let settings = &mut self.snapshot.guard.settings;
                let before = settings.len();
                settings.retain(|stored| stored != setting);
                settings.len() != before
            }
            Change::RevokeMembership(membership) => {
                let before = self.snapshot.memberships.len();
                self.end_memberships(membership.role, membership.member, membership.grantor);
                self.snapshot.memberships.len() != before
            }
            Change::AddSchema(name) => self.add_schema(name),
            Change::AddRelation(kind, schema, name) => self.add_relation(*kind, schema, name),
            Change::ChangeOwner { object, owner, .. } => self.change_owner(*object, *owner),
            Change::RevokeDefault { role, schema, object_type, grantee, privileges } => {
                let is_it = |d: &&mut DefaultAcl| {
                    (d.role, d.schema, d.object_type) == (*role, *schema, *object_type)
                };
                let defaults = self.snapshot.default_acls.iter_mut().find(is_it);
                defaults.is_some_and(|defaults| revoke_default(defaults, *grantee, *privileges))
            }
            Change::RevokeOnServerObject { object, grantee, privileges } => {
                let all = self.snapshot.server_objects.iter_mut();
                let mut found =
                    all.filter(|o| (o.object_type, &o.identity) == (object.0, &object.1));
                found.next().is_some_and(|object| revoke_added(object, *grantee, *privileges))
            }
            Change::AlterRoutine(routine, actions) => {
                self.routine(*routine).is_some_and(|routine| {
                    let altered = RoutineChange::apply_all(actions, routine);
                    replace(routine, altered)
                })
            }
            Change::DropRoutine(schema, name, arguments) => {
                self.drop_routine(schema, name, arguments)
            }
            Change::EnableRowSecurity(table) => {
                self.relation(*table).is_some_and(|t| replace(&mut t.row_security, true))
            }
            Change::ForceRowSecurity(table) => {
                self.relation(*table).is_some_and(|t| replace(&mut t.force_row_security, true))
            }
            Change::DropPolicy(policy) => {
                let before = self.snapshot.policies.len();
                self.snapshot.policies.retain(|p| p.oid != *policy);
                self.snapshot.policies.len() != before
            }
            Change::PolicyRoles(policy, roles) => {
                let policy = self.snapshot.policies.iter_mut().find(|p| p.oid == *policy);
                policy.is_some_and(|p| replace(&mut p.roles, roles.clone()))
            }
            // The guard's own state is not simulated: the planner takes repairs as successful.
            Change::Guard => true,
        }
    }

    fn add_schema(&mut self, name: &str) -> bool {
        if self.snapshot.schemas.iter().any(|s| s.name == name) {
            return false;
        }
        let acl = self.default_acl(0, b'n', ObjectKind::Schema);
        let (oid, owner) = (simulated_oid("schema", name), self.runner);
        self.snapshot.schemas.push(Schema { oid, name: name.to_owned(), owner, acl });
        true
    }

    fn add_relation(&mut self, kind: RelationKind, schema: &str, name: &str) -> bool {
        let oid = simulated_oid("relation", &format!("{schema}.{name}"));
        let Some(schema) = self.snapshot.schemas.iter().find(|s| s.name == schema).map(|s| s.oid)
        else {
            return false;
        };
        let object_type = if kind.acl_kind() == ObjectKind::Sequence { b'S' } else { b'r' };
        let acl = self.default_acl(schema, object_type, kind.acl_kind());
        let (owner, name) = (self.runner, name.to_owned());
        self.move_content(schema, ContentKind::Relation, None, owner);
        self.relations.insert(oid, self.snapshot.relations.len());
        self.snapshot.relations.push(Relation {
            oid,
            name,
            schema,
            owner,
            kind,
            acl,
            ..Relation::default()
        });
        true
    }

    fn relation(&mut self, oid: Oid) -> Option<&mut Relation> {
        self.relations.get(&oid).map(|i| &mut self.snapshot.relations[*i])
    }

    fn routine(&mut self, oid: Oid) -> Option<&mut Routine> {
        self.routines.get(&oid).map(|i| &mut self.snapshot.routines[*i])
    }

    fn schema(&mut self, oid: Oid) -> Option<&mut Schema> {
        self.snapshot.schemas.iter_mut().find(|s| s.oid == oid)
    }

    /// Revokes memberships, and since 16 the memberships that depend on their admin option (user.c,
    /// `plan_recursive_revoke`).
    fn end_memberships(&mut self, role: Oid, member: Oid, grantor: Oid) {
        let by_grantor = self.snapshot.version >= 16;
        self.snapshot.memberships.retain(|m| {
            (m.role, m.member) != (role, member) || (by_grantor && m.grantor != grantor)
        });
        let still = self
            .snapshot
            .memberships
            .iter()
            .any(|m| (m.role, m.member, m.admin) == (role, member, true));
        if !by_grantor || still {
            return;
        }
        let dependent: Vec<Oid> = self
            .snapshot
            .memberships
            .iter()
            .filter(|m| (m.role, m.grantor) == (role, member))
            .map(|m| m.member)
            .collect();
        for next in dependent {
            self.end_memberships(role, next, member);
        }
    }

    fn drop_routine(&mut self, schema: &str, name: &str, arguments: &str) -> bool {
        let Some(place) = self.routine_place(schema, name, arguments) else { return false };
        let gone = self.snapshot.routines.remove(place);
        let others =
            self.snapshot.routines.iter().any(|r| (r.schema, r.owner) == (gone.schema, gone.owner));
        if !others && let Some(contents) = self.snapshot.contents.get_mut(&gone.schema) {
            contents.remove(&(gone.owner, ContentKind::Routine));
        }
        self.snapshot
            .guard
            .impostors
            .retain(|(n, a)| (n.as_str(), a.as_str()) != (name, arguments));
        self.routines =
            self.snapshot.routines.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        true
    }

    /// Returns the index of a routine, by schema, name and argument types.
    pub(super) fn routine_place(&self, schema: &str, name: &str, arguments: &str) -> Option<usize> {
        let snapshot = &self.snapshot;
        let schema = snapshot.schemas.iter().find(|s| s.name == schema)?.oid;
        let is_it = |r: &Routine| {
            r.schema == schema
                && r.name == name
                && snapshot.argument_names(r).join(",") == arguments
        };
        snapshot.routines.iter().position(is_it)
    }

    fn change_owner(&mut self, object: ObjectId, owner: Oid) -> bool {
        match object {
            ObjectId::Schema(oid) => self.schema(oid).is_some_and(|schema| {
                new_owner(schema.acl.as_mut(), schema.owner, owner);
                replace(&mut schema.owner, owner)
            }),
            ObjectId::Routine(oid) => {
                let Some(routine) = self.routine(oid) else { return false };
                new_owner(routine.acl.as_mut(), routine.owner, owner);
                let (schema, from) = (routine.schema, std::mem::replace(&mut routine.owner, owner));
                let others =
                    self.snapshot.routines.iter().any(|r| (r.schema, r.owner) == (schema, from));
                let last = (!others).then_some(from);
                self.move_content(schema, ContentKind::Routine, last, owner);
                from != owner
            }
            // The sequences of a table's columns get the new owner as well.
            ObjectId::Relation(oid) => {
                let mut moved = Vec::new();
                for relation in self
                    .snapshot
                    .relations
                    .iter_mut()
                    .filter(|r| r.oid == oid || r.owned_by == Some(oid))
                {
                    let from = std::mem::replace(&mut relation.owner, owner);
                    new_owner(relation.acl.as_mut(), from, owner);
                    relation
                        .columns
                        .iter_mut()
                        .for_each(|(_, acl)| new_owner(Some(acl), from, owner));
                    if from != owner {
                        moved.push((relation.schema, from));
                    }
                }
                for &(schema, from) in &moved {
                    let others = self
                        .snapshot
                        .relations
                        .iter()
                        .any(|r| (r.schema, r.owner) == (schema, from));
                    let last = (!others).then_some(from);
                    self.move_content(schema, ContentKind::Relation, last, owner);
                }
                !moved.is_empty()
            }
            ObjectId::Policy(_) | ObjectId::Role(_) | ObjectId::Type(_) | ObjectId::Named => false,
        }
    }

    /// Records that an object of a schema has another owner; `from` is the former one if it owns no
    /// other object of that kind there.
    fn move_content(&mut self, schema: Oid, kind: ContentKind, from: Option<Oid>, to: Oid) {
        let contents = self.snapshot.contents.entry(schema).or_default();
        if let Some(from) = from {
            contents.remove(&(from, kind));
        }
        contents.insert((to, kind));
    }

    /// Returns the ACL of a new object by the runner's default privileges (aclchk.c,
    /// `get_user_default_acl`).
    fn default_acl(&self, schema: Oid, object_type: u8, kind: ObjectKind) -> Option<Acl> {
        let entry = |schema: Oid| {
            let all = &mut self.snapshot.default_acls.iter();
            all.find(|d| (d.role, d.schema, d.object_type) == (self.runner, schema, object_type))
                .map(|d| d.acl.clone())
        };
        let (everywhere, here) = (entry(0), (schema != 0).then(|| entry(schema)).flatten());
        if everywhere.is_none() && here.is_none() {
            return None;
        }
        let mut acl = everywhere.unwrap_or_else(|| kind.default_acl(self.runner));
        acl.extend(here.iter().flatten());
        Some(merged(acl))
    }

    /// Calls `work` with the current inheritance of privileges.
    pub(super) fn with_members<T>(&self, work: impl FnOnce(Inherits<'_>) -> T) -> T {
        let access = Access::new(&self.snapshot);
        work(&|member, role| access.has_privileges_of(member, role))
    }

    fn acl(&mut self, statement: &AclStatement) -> bool {
        let Some(before) = self.acls(&statement.on.id) else { return false };
        let after = self.with_members(|inherits| before.clone().with(statement, inherits));
        if after == before {
            return false;
        }
        match statement.on.id {
            ObjectId::Relation(oid) => {
                let relation = self.relation(oid);
                relation.into_iter().for_each(|r| {
                    (r.acl, r.columns) = (Some(after.acl.clone()), after.columns.clone());
                });
            }
            ObjectId::Routine(oid) => {
                self.routine(oid).into_iter().for_each(|r| r.acl = Some(after.acl.clone()));
            }
            ObjectId::Schema(oid) => {
                self.schema(oid).into_iter().for_each(|s| s.acl = Some(after.acl.clone()));
            }
            ObjectId::Named => self.snapshot.database.acl = Some(after.acl),
            ObjectId::Policy(_) | ObjectId::Role(_) | ObjectId::Type(_) => {}
        }
        true
    }

    /// Returns the ACLs of an object; `None` if it does not exist.
    pub(super) fn acls(&self, object: &ObjectId) -> Option<Acls> {
        let (owner, acl, kind, columns) = match object {
            ObjectId::Relation(oid) => {
                let r = self.relations.get(oid).map(|i| &self.snapshot.relations[*i])?;
                (r.owner, &r.acl, r.kind.acl_kind(), r.columns.clone())
            }
            ObjectId::Routine(oid) => {
                let r = self.routines.get(oid).map(|i| &self.snapshot.routines[*i])?;
                (r.owner, &r.acl, ObjectKind::Routine, vec![])
            }
            ObjectId::Schema(oid) => {
                let s = self.snapshot.schemas.iter().find(|s| s.oid == *oid)?;
                (s.owner, &s.acl, ObjectKind::Schema, vec![])
            }
            ObjectId::Named => (
                self.snapshot.database.owner,
                &self.snapshot.database.acl,
                ObjectKind::Database,
                vec![],
            ),
            ObjectId::Policy(_) | ObjectId::Role(_) | ObjectId::Type(_) => return None,
        };
        Some(Acls { owner, acl: acl.clone().unwrap_or_else(|| kind.default_acl(owner)), columns })
    }
}

/// The ACLs of one object.
#[derive(Debug, Clone)]
pub(super) struct Acls {
    pub owner: Oid,
    pub acl: Acl,
    pub columns: Vec<(String, Acl)>,
}

impl Acls {
    /// Returns the ACLs after a statement.
    pub(super) fn with(mut self, statement: &AclStatement, inherits: Inherits<'_>) -> Self {
        let owner = self.owner;
        let revokes = matches!(statement.verb, Verb::Revoke | Verb::RevokeGrantOption);
        for column in &statement.on.columns {
            let place = self.columns.iter().position(|(name, _)| name == column);
            let place = place.unwrap_or_else(|| {
                self.columns.push((column.clone(), Acl::default()));
                self.columns.len() - 1
            });
            change(&mut self.columns[place].1, owner, statement, inherits);
        }
        if statement.on.columns.is_empty() {
            change(&mut self.acl, owner, statement, inherits);
            // REVOKE on a table revokes column privileges as well (aclchk.c,
            // `expand_all_col_privileges`).
            self.columns
                .iter_mut()
                .filter(|_| revokes)
                .for_each(|(_, acl)| change(acl, owner, statement, inherits));
        }
        statement.then.iter().fold(self, |acls, next| acls.with(next, inherits))
    }

    /// Returns the ACLs after a change of the owner.
    pub(super) fn owned_by(mut self, owner: Oid) -> Self {
        let from = std::mem::replace(&mut self.owner, owner);
        new_owner(Some(&mut self.acl), from, owner);
        self.columns.iter_mut().for_each(|(_, acl)| new_owner(Some(acl), from, owner));
        self
    }
}

/// Compares ACLs regardless of the order of entries; an empty ACL of a column counts as none.
impl PartialEq for Acls {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |acl: &Acl| {
            let mut items: Vec<_> =
                acl.iter().map(|i| (i.grantee, i.grantor, i.privileges, i.grantable)).collect();
            items.sort_unstable();
            items
        };
        let columns = |acls: &Self| {
            let filled = acls.columns.iter().filter(|(_, acl)| !acl.is_empty());
            let mut columns: Vec<_> =
                filled.map(|(name, acl)| (name.clone(), sorted(acl))).collect();
            columns.sort_unstable();
            columns
        };
        self.owner == other.owner
            && sorted(&self.acl) == sorted(&other.acl)
            && columns(self) == columns(other)
    }
}

/// Replaces `old` by `new`; returns whether they differ.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

/// Applies a GRANT or REVOKE by the owner.
fn change(acl: &mut Acl, owner: Oid, statement: &AclStatement, inherits: Inherits<'_>) {
    for grantee in &statement.grantees {
        let all = Revocation::by(owner, grantee.oid, statement.privileges);
        match statement.verb {
            Verb::Grant | Verb::Keep | Verb::GrantWithOption => {
                let (privileges, grantor) = (statement.privileges, owner);
                let with_option = statement.verb == Verb::GrantWithOption;
                let grantable = if with_option { privileges } else { Privileges::NONE };
                acl.push(AclItem { grantee: grantee.oid, grantor, privileges, grantable });
                *acl = merged(std::mem::take(acl));
            }
            Verb::Revoke => {
                revoke(acl, owner, all, inherits);
            }
            Verb::RevokeGrantOption => {
                let option_only = Revocation { privileges: Privileges::NONE, ..all };
                revoke(acl, owner, option_only, inherits);
            }
        }
    }
}

/// Whether the first role has the privileges of the second (acl.c, `has_privs_of_role`).
pub(super) type Inherits<'a> = &'a dyn Fn(Oid, Oid) -> bool;

/// Revokes default privileges that a role grants to `grantee`; returns whether that changes
/// anything.
fn revoke_default(defaults: &mut DefaultAcl, grantee: Oid, privileges: Privileges) -> bool {
    let (mut acl, role) = (defaults.acl.clone(), defaults.role);
    revoke(&mut acl, role, Revocation::by(role, grantee, privileges), &|_, _| false);
    replace(&mut defaults.acl, acl)
}

/// What is revoked from one grantee.
#[derive(Clone, Copy)]
struct Revocation {
    grantor: Oid,
    grantee: Oid,
    privileges: Privileges,
    /// The privileges whose grant options are revoked.
    options: Privileges,
}

impl Revocation {
    /// Returns the revocation of privileges with their grant options.
    fn by(grantor: Oid, grantee: Oid, privileges: Privileges) -> Self {
        Self { grantor, grantee, privileges, options: privileges }
    }
}

/// Revokes privileges and grant options, and dependent grants (acl.c, `aclupdate` and
/// `recursive_revoke`).
fn revoke(acl: &mut Acl, owner: Oid, revocation: Revocation, inherits: Inherits<'_>) {
    let Revocation { grantor, grantee, privileges, options } = revocation;
    let mut lost = Privileges::NONE;
    for item in acl.iter_mut().filter(|i| (i.grantee, i.grantor) == (grantee, grantor)) {
        lost |= item.grantable & options;
        item.privileges = item.privileges & !privileges;
        item.grantable = item.grantable & !options;
    }
    acl.retain(|i| !i.privileges.is_empty());
    // The owner, and roles with the privileges of the owner, have all grant options. Other roles
    // may have them from another grantor, or through a membership.
    if lost.is_empty() || grantee == PUBLIC || grantee == owner {
        return;
    }
    let depends = |item: &AclItem, lost: Privileges| {
        item.grantor == grantee && item.privileges.intersects(lost)
    };
    if !acl.iter().any(|item| depends(item, lost)) || inherits(grantee, owner) {
        return;
    }
    let still = acl
        .iter()
        .filter(|i| i.grantee != PUBLIC && (i.grantee == grantee || inherits(grantee, i.grantee)));
    let lost = lost & !still.fold(Privileges::NONE, |all, i| all | i.grantable);
    while let Some(next) = acl.iter().find(|item| depends(item, lost)).map(|item| item.grantee) {
        revoke(acl, owner, Revocation::by(grantee, next, lost), inherits);
    }
}

/// Returns an ACL with one item for each pair of grantee and grantor.
fn merged(acl: Acl) -> Acl {
    let mut out: Vec<AclItem> = Vec::with_capacity(acl.len());
    for item in &acl {
        match out.iter_mut().find(|i| (i.grantee, i.grantor) == (item.grantee, item.grantor)) {
            Some(known) => {
                known.privileges |= item.privileges;
                known.grantable |= item.grantable;
            }
            None => out.push(*item),
        }
    }
    out.into()
}

/// Replaces the owner in an ACL (acl.c, `aclnewowner`).
fn new_owner(acl: Option<&mut Acl>, from: Oid, to: Oid) {
    let Some(acl) = acl else { return };
    for item in acl.iter_mut() {
        for role in [&mut item.grantee, &mut item.grantor] {
            if *role == from {
                *role = to;
            }
        }
    }
    *acl = merged(std::mem::take(acl));
}

/// Returns a stable OID for a new object, beyond the OIDs that a server normally assigns.
fn simulated_oid(kind: &str, name: &str) -> Oid {
    let hash = fingerprint(&[kind, name]);
    0xe000_0000 | u32::from_str_radix(&hash[..7], 16).unwrap_or_default()
}

/// Removes privileges of a grantee from what has been added to an object of the server.
fn revoke_added(object: &mut ServerObject, grantee: Oid, privileges: Privileges) -> bool {
    let before = object.added.clone();
    for item in object.added.iter_mut().filter(|item| item.grantee == grantee) {
        item.privileges = item.privileges & !privileges;
        item.grantable = item.grantable & !privileges;
    }
    object.added.retain(|item| !item.privileges.is_empty());
    object.added != before
}

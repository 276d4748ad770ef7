//! Effective privileges: role membership, ownership and ACLs, evaluated as the server does
//! (`src/backend/utils/adt/acl.c`, `src/backend/catalog/aclchk.c`).

use crate::catalog::{
    Acl, AclItem, FIRST_UNPINNED, ObjectKind, Oid, OidMap, OidSet, PG_CATALOG, PG_DATABASE_OWNER,
    PUBLIC, Policy, Privileges, Relation, RelationKind, Snapshot,
};
use std::cell::{OnceCell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// The memberships that a search follows (acl.c, `RoleRecurseType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Follow {
    /// Every membership: the roles of which the role is a member.
    Members,
    /// Memberships WITH INHERIT: the roles whose privileges it has.
    Privileges,
    /// Memberships WITH SET: the roles to which it can SET ROLE.
    Set,
}

/// The predefined roles with privileges that no ACL shows (pg_authid.dat).
const PG_READ_ALL_DATA: &str = "pg_read_all_data";
const PG_WRITE_ALL_DATA: &str = "pg_write_all_data";
const PG_MAINTAIN: &str = "pg_maintain";

/// The roles that a role reaches, including itself.
pub type Closure = Rc<OidSet>;

/// The effective privileges in one snapshot. What is known of roles is cached.
#[derive(Debug)]
pub struct Access<'a> {
    snapshot: &'a Snapshot,
    /// The positions of memberships by member, looked up on first use. Often they are not needed,
    /// if one role owns all objects.
    memberships: OnceCell<Rc<OidMap<Vec<usize>>>>,
    closures: RefCell<OidMap<Closure, (Oid, Follow)>>,
    /// By role: the privileges on every relation that predefined roles give to it.
    on_everything: RefCell<OidMap<Privileges>>,
    /// By role: the roles in which it can grant membership.
    administered: RefCell<OidMap<Closure>>,
    /// By member: what [`Self::first_step`] returns for the roles that it reaches.
    first_steps: RefCell<OidMap<OidMap<Oid>>>,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    role: Oid,
    admin: bool,
    inherit: bool,
    set: bool,
}

impl Edge {
    fn is_followed(self, follow: Follow) -> bool {
        match follow {
            Follow::Members => true,
            Follow::Privileges => self.inherit,
            Follow::Set => self.set,
        }
    }
}

impl<'a> Access<'a> {
    /// Returns the effective privileges in `snapshot`.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            memberships: OnceCell::new(),
            closures: RefCell::default(),
            on_everything: RefCell::default(),
            administered: RefCell::default(),
            first_steps: RefCell::default(),
        }
    }

    /// Returns the direct memberships of `member`.
    fn edges_of(&self, member: Oid) -> impl Iterator<Item = Edge> {
        let snapshot = self.snapshot;
        let memberships = self.memberships.get_or_init(|| snapshot.memberships_by_member());
        let stored = memberships.get(&member).into_iter().flatten().map(|&i| {
            let m = &snapshot.memberships[i];
            Edge { role: m.role, admin: m.admin, inherit: m.inherit, set: m.set }
        });
        // The owner of the database is the only, implicit member of pg_database_owner. In
        // PostgreSQL 15 a NOINHERIT owner does not inherit its privileges; in later releases it
        // does.
        let owner = (member == snapshot.database.owner).then(|| snapshot.role(member)).flatten();
        let implicit = owner.map(|role| Edge {
            role: PG_DATABASE_OWNER,
            admin: false,
            inherit: snapshot.version >= 16 || role.inherit,
            set: true,
        });
        stored.chain(implicit)
    }

    /// Returns all roles that `member` reaches through such memberships, including itself.
    #[must_use]
    pub fn closure(&self, member: Oid, follow: Follow) -> Closure {
        if let Some(known) = self.closures.borrow().get(&(member, follow)) {
            return Rc::clone(known);
        }
        let mut reached = OidSet::from_iter([member]);
        let mut queue = vec![member];
        while let Some(role) = queue.pop() {
            for edge in self.edges_of(role) {
                if edge.is_followed(follow) && reached.insert(edge.role) {
                    queue.push(edge.role);
                }
            }
        }
        let reached = Rc::new(reached);
        self.closures.borrow_mut().insert((member, follow), Rc::clone(&reached));
        reached
    }

    /// Whether `member` is a superuser.
    #[must_use]
    pub fn is_superuser(&self, member: Oid) -> bool {
        self.snapshot.role(member).is_some_and(|r| r.superuser)
    }

    /// Whether `member` has the attribute BYPASSRLS.
    #[must_use]
    pub fn bypasses_row_security(&self, member: Oid) -> bool {
        self.snapshot.role(member).is_some_and(|r| r.bypass_rls)
    }

    /// Whether policies of a table limit a role (rls.c, `check_enable_rls`).
    #[must_use]
    pub fn is_limited_by_policies(&self, role: Oid, table: &Relation) -> bool {
        let is_owner = || !table.force_row_security && self.has_privileges_of(role, table.owner);
        let is_exempt =
            || self.is_superuser(role) || self.bypasses_row_security(role) || is_owner();
        table.row_security && !is_exempt()
    }

    /// Whether `member` has the privileges of `role` without SET ROLE (acl.c, `has_privs_of_role`).
    #[must_use]
    pub fn has_privileges_of(&self, member: Oid, role: Oid) -> bool {
        member == role
            || self.is_superuser(member)
            || self.closure(member, Follow::Privileges).contains(&role)
    }

    /// Whether a policy applies to a role (rowsecurity.c, `check_role_for_policy`).
    #[must_use]
    pub fn policy_applies(&self, policy: &Policy, role: Oid) -> bool {
        policy.roles.iter().any(|named| *named == PUBLIC || self.has_privileges_of(role, *named))
    }

    /// Whether `member` can SET ROLE to `role` (acl.c, `member_can_set_role`).
    #[must_use]
    pub fn can_set_role(&self, member: Oid, role: Oid) -> bool {
        member == role
            || self.is_superuser(member)
            || self.closure(member, Follow::Set).contains(&role)
    }

    /// Whether `member` can grant membership in `role`, also to itself (acl.c, `is_admin_of_role`).
    #[must_use]
    pub fn is_admin_of(&self, member: Oid, role: Oid) -> bool {
        self.is_superuser(member) || self.administered(member).contains(&role)
    }

    /// Returns the roles in which `member` can grant membership by memberships WITH ADMIN.
    fn administered(&self, member: Oid) -> Closure {
        if let Some(known) = self.administered.borrow().get(&member) {
            return Rc::clone(known);
        }
        let closure = self.closure(member, Follow::Members);
        let edges = closure.iter().flat_map(|role| self.edges_of(*role));
        let roles: Closure = Rc::new(edges.filter(|edge| edge.admin).map(|e| e.role).collect());
        self.administered.borrow_mut().insert(member, Rc::clone(&roles));
        roles
    }

    /// Whether `member` can already do everything that `role` can.
    ///
    /// In PostgreSQL 15 any membership is sufficient. In 16 and later it must have INHERIT, SET or
    /// ADMIN.
    #[must_use]
    pub fn can_act_as(&self, member: Oid, role: Oid) -> bool {
        if member == role || self.is_superuser(member) {
            return true;
        }
        if self.snapshot.version < 16 {
            return self.closure(member, Follow::Members).contains(&role);
        }
        self.has_privileges_of(member, role)
            || self.can_set_role(member, role)
            || self.is_admin_of(member, role)
    }

    /// Returns the first role of the shortest membership chain from `member` to `role`: a role that
    /// was granted to `member`.
    #[must_use]
    pub fn first_step(&self, member: Oid, role: Oid) -> Option<Oid> {
        let mut known = self.first_steps.borrow_mut();
        let steps = known.entry(member).or_insert_with(|| self.first_steps(member));
        steps.get(&role).copied()
    }

    /// Returns the first roles of the shortest chains from a member to every role that it reaches.
    fn first_steps(&self, member: Oid) -> OidMap<Oid> {
        let mut steps: OidMap<Oid> = OidMap::default();
        let mut queue = VecDeque::from([member]);
        while let Some(at) = queue.pop_front() {
            let first = steps.get(&at).copied();
            for edge in self.edges_of(at).filter(|edge| edge.role != member) {
                if let Entry::Vacant(place) = steps.entry(edge.role) {
                    place.insert(first.unwrap_or(edge.role));
                    queue.push_back(edge.role);
                }
            }
        }
        steps
    }

    /// Returns the roles of the shortest chain of such memberships from `member` to `role`, without
    /// the member; an empty list if there is no chain.
    #[must_use]
    pub fn path(&self, member: Oid, role: Oid, follow: Follow) -> Vec<Oid> {
        let mut came_from: HashMap<Oid, Oid> = HashMap::from([(member, member)]);
        let mut queue = VecDeque::from([member]);
        while let Some(at) = queue.pop_front() {
            if at == role {
                let mut path = Vec::new();
                let mut at = role;
                while at != member {
                    path.push(at);
                    at = came_from[&at];
                }
                path.reverse();
                return path;
            }
            for edge in self.edges_of(at).filter(|edge| edge.is_followed(follow)) {
                if let Entry::Vacant(entry) = came_from.entry(edge.role) {
                    entry.insert(at);
                    queue.push_back(edge.role);
                }
            }
        }
        Vec::new()
    }

    /// Returns the privileges that an ACL gives to `role` directly or by inheritance, without those
    /// of PUBLIC.
    #[must_use]
    pub fn granted(&self, role: Oid, acl: &[AclItem]) -> Privileges {
        let closure = self.closure(role, Follow::Privileges);
        acl.iter()
            .filter(|item| item.grantee != PUBLIC && closure.contains(&item.grantee))
            .fold(Privileges::NONE, |all, item| all | item.privileges)
    }

    /// Returns the privileges that an ACL gives to PUBLIC.
    #[must_use]
    pub fn public(acl: &[AclItem]) -> Privileges {
        acl.iter()
            .filter(|item| item.grantee == PUBLIC)
            .fold(Privileges::NONE, |all, item| all | item.privileges)
    }

    /// Returns the privileges of `role` on an object, as `has_*_privilege` reports them: those of a
    /// superuser, of the ACL or its default, of PUBLIC, and inherited ones.
    #[must_use]
    pub fn privileges(
        &self,
        role: Oid,
        owner: Oid,
        acl: Option<&Acl>,
        kind: ObjectKind,
    ) -> Privileges {
        if self.is_superuser(role) {
            return Privileges(u32::MAX);
        }
        let default;
        let acl = if let Some(acl) = acl {
            acl
        } else {
            default = kind.default_acl(owner);
            &default
        };
        let mut held = self.granted(role, acl) | Self::public(acl);
        let data = Privileges::SELECT | Privileges::INSERT;
        if kind == ObjectKind::Schema && self.on_every_relation(role).intersects(data) {
            held |= Privileges::USAGE;
        }
        held
    }

    /// Returns the privileges of `role` on a relation, including those of predefined roles such as
    /// `pg_read_all_data`.
    #[must_use]
    pub fn relation_privileges(&self, role: Oid, relation: &Relation) -> Privileges {
        let mut held =
            self.privileges(role, relation.owner, relation.acl.as_ref(), relation.kind.acl_kind());
        let on_everything = self.on_every_relation(role);
        held |= match relation.kind {
            RelationKind::Sequence => on_everything & !Privileges::MAINTAIN,
            _ => on_everything,
        };
        // Only a superuser can write to a system catalog, whatever its ACL (aclchk.c,
        // `pg_class_aclmask_ext`).
        let is_pinned = relation.schema == PG_CATALOG && relation.oid < FIRST_UNPINNED;
        let is_catalog = is_pinned && relation.kind != RelationKind::View;
        if is_catalog && !self.is_superuser(role) { held & !Privileges::WRITES } else { held }
    }

    /// Returns the privileges of `role` on a column, by the ACL of the column or the table.
    #[must_use]
    pub fn column_privileges(&self, role: Oid, relation: &Relation, column: &str) -> Privileges {
        let own = relation.columns.iter().find(|(name, _)| name == column).map(|(_, acl)| acl);
        self.relation_privileges(role, relation)
            | own.map_or(Privileges::NONE, |acl| {
                self.privileges(role, relation.owner, Some(acl), ObjectKind::Column)
            })
    }

    /// Returns the privileges on every relation that predefined roles give to `role`.
    #[must_use]
    pub fn on_every_relation(&self, role: Oid) -> Privileges {
        if let Some(known) = self.on_everything.borrow().get(&role) {
            return *known;
        }
        let writes = Privileges::INSERT | Privileges::UPDATE | Privileges::DELETE;
        let given = [
            (PG_READ_ALL_DATA, Privileges::SELECT),
            (PG_WRITE_ALL_DATA, writes),
            (PG_MAINTAIN, Privileges::MAINTAIN),
        ];
        let holds = |predefined: &str| {
            let predefined = self.snapshot.role_named(predefined);
            predefined.is_some_and(|predefined| self.has_privileges_of(role, predefined.oid))
        };
        let held = given.into_iter().filter(|(predefined, _)| holds(predefined));
        let held = held.fold(Privileges::NONE, |all, (_, privileges)| all | privileges);
        self.on_everything.borrow_mut().insert(role, held);
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Membership, Role};

    /// Returns a snapshot with the roles 1, 2 and 3, and memberships `(member, role, inherit, set,
    /// admin)`.
    fn snapshot(version: u32, memberships: &[(Oid, Oid, bool, bool, bool)]) -> Snapshot {
        let role =
            |oid: Oid| Role { oid, name: format!("r{oid}"), inherit: true, ..Role::default() };
        let memberships = memberships.iter().map(|&(member, role, inherit, set, admin)| {
            Membership { role, member, grantor: 10, admin, inherit, set }
        });
        Snapshot {
            version,
            roles: (1..=3).map(role).collect(),
            memberships: memberships.collect(),
            ..Snapshot::default()
        }
        .complete()
    }

    #[test]
    fn noinherit_membership_ends_the_inheritance_chain() {
        let s = snapshot(16, &[(1, 2, true, true, false), (2, 3, true, true, false)]);
        assert!(Access::new(&s).has_privileges_of(1, 3));
        let s = snapshot(16, &[(1, 2, true, true, false), (2, 3, false, true, false)]);
        let access = Access::new(&s);
        assert!(!access.has_privileges_of(1, 3));
        assert!(access.can_set_role(1, 3));
        assert_eq!(access.first_step(1, 3), Some(2));
    }

    #[test]
    fn membership_without_options_gives_no_access_since_16() {
        let without_options = [(1, 2, false, false, false)];
        let s = snapshot(16, &without_options);
        assert!(!Access::new(&s).can_act_as(1, 2));
        let s = snapshot(15, &without_options);
        assert!(Access::new(&s).can_act_as(1, 2));
        let s = snapshot(16, &[(1, 2, false, false, true)]);
        assert!(
            Access::new(&s).can_act_as(1, 2),
            "with ADMIN, a role can grant itself the options"
        );
    }

    #[test]
    fn missing_acl_is_the_built_in_default() {
        let s = snapshot(15, &[]);
        let access = Access::new(&s);
        assert_eq!(access.privileges(1, 2, None, ObjectKind::Routine), Privileges::EXECUTE);
        assert_eq!(access.privileges(1, 2, None, ObjectKind::Relation), Privileges::NONE);
        assert!(access.privileges(2, 2, None, ObjectKind::Relation).contains(Privileges::SELECT));
    }
}

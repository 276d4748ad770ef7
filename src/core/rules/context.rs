//! The input of every rule: contract, catalog and access, with the declared roles and schemas
//! looked up.

use super::needs::Needs;
use super::recipients::Recipients;
use crate::access::{Access, Closure, Follow};
use crate::catalog::{
    Acl, AclItem, Command, Object, ObjectId, ObjectKind, Oid, OidMap, OidSet, PUBLIC, Policy,
    Privileges, Relation, RelationKind, Role, Routine, Schema, Snapshot, extension,
};
use crate::contract::{
    ColumnGrants, Contract, GuardAction, RoleKind, SchemaDecl, Severity, granted_to,
};
use crate::requests::Requests;
use crate::rule::Rule;
use crate::search_path::{Path, SearchPaths};
use crate::sql::{argument_types, call_declaring, canonical_type, printable, quote_ident};
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The safe paths that change paths least, by path.
pub(super) type LeastChanges = HashMap<Vec<String>, Rc<Path>>;

/// What a permissive policy lets a client reach, by its place in the snapshot: some thirty rules
/// ask for it.
pub(super) struct OfClient {
    pub relation: Oid,
    /// The position of the policy among those of the relation.
    pub policy: usize,
    /// The position of the role among the clients.
    pub role: usize,
    /// The positions of what is reached among all exposures.
    pub exposures: Vec<usize>,
}

/// What a person uses, and messages name the commands of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Tool {
    #[default]
    Extension,
    /// `dragonfly-guard`, with a contract in a file.
    Program,
}

impl Tool {
    /// Returns how a person declares what some statements say: a call of `ops.declare()`, or a line
    /// about the file of the contract.
    #[must_use]
    pub fn declaring(self, statements: &str) -> String {
        match self {
            Self::Extension => call_declaring(statements),
            Self::Program => format!("in the contract, what {} says", printable(statements)),
        }
    }
}

/// The input of every rule: the contract, the catalog, access, and the declared roles and schemas
/// that exist.
pub struct Context<'a> {
    /// The declared state.
    pub contract: &'a Contract,
    /// The actual state.
    pub snapshot: &'a Snapshot,
    /// Effective privileges.
    pub access: &'a Access<'a>,
    /// What the person uses who reads the messages.
    pub tool: Tool,
    /// Verdicts on search paths.
    pub paths: SearchPaths<'a>,
    /// Declared client roles that exist; and undeclared roles with privileges in governed schemas
    /// that a login role can become, for which nothing is declared.
    pub clients: Vec<&'a Role>,
    /// Declared worker and login roles that exist.
    pub workers: Vec<&'a Role>,
    /// The roles for which privileges are declared: clients, then workers.
    pub(crate) subjects: Vec<&'a Role>,
    /// The roles that requests log in as and become.
    pub(crate) requests: Requests<'a>,
    governed: OidMap<&'a SchemaDecl>,
    /// The declared kinds of roles by name, once something has asked.
    kinds: OnceCell<HashMap<String, RoleKind>>,
    /// By role: what [`Self::own_grantees`] has returned.
    own_grantees: RefCell<OidMap<Closure>>,
    /// By grantee: the subjects for which a grant to it counts, in order of OID.
    holders: OnceCell<OidMap<Vec<Oid>>>,
    /// Which clients a grant reaches, once a rule has asked.
    pub(super) recipients: OnceCell<Recipients>,
    /// The positions of the subjects.
    positions: OnceCell<OidMap<usize>>,
    /// By schema: the positions of the clients with USAGE on it.
    with_usage: RefCell<OidMap<Rc<[usize]>>>,
    /// The schemas about whose objects findings are wanted; `None` for all.
    about: Option<Rc<HashSet<Oid>>>,
    /// The names of the declared objects about which findings are wanted; `None` for all.
    names: Option<Rc<HashSet<String>>>,
    /// The positions of the relations of governed schemas in the snapshot, determined when a rule
    /// first asks for them.
    governed_relations: OnceCell<Vec<usize>>,
    /// The positions of the routines of governed schemas.
    governed_routines: OnceCell<Vec<usize>>,
    /// The paths that change unsafe ones as little as possible, by owner and path: thousands of
    /// routines share a few of both.
    pub(super) least_changes: RefCell<OidMap<LeastChanges>>,
    /// The path that the contract declares for SECURITY DEFINER routines, once a rule has asked.
    canonical_path: OnceCell<Rc<Path>>,
    /// Called in each loop over data whose size the user controls; unwinds if the query is
    /// canceled.
    pub(crate) interrupts: &'a dyn Fn(),
    /// What the declared access needs, once it has been determined.
    pub(super) needs: OnceCell<Needs>,
    /// Which policies let which clients reach something, once a rule has asked.
    pub(super) exposed: OnceCell<Vec<OfClient>>,
}

impl<'a> Context<'a> {
    /// Looks up the declared roles and schemas in the catalog. `interrupts` is called repeatedly
    /// while rules run.
    #[must_use]
    pub fn new(
        contract: &'a Contract,
        snapshot: &'a Snapshot,
        access: &'a Access<'a>,
        interrupts: &'a dyn Fn(),
    ) -> Self {
        let existing =
            |kind| contract.roles_of(kind).filter_map(|name| snapshot.role_named(name)).collect();
        let trusted = contract
            .trusted_roles
            .iter()
            .filter_map(|name| snapshot.role_named(name))
            .map(|r| r.oid)
            .collect();
        let governed = contract
            .schemas
            .iter()
            .filter_map(|d| snapshot.schema_named(&d.name).map(|s| (s.oid, d)))
            .collect();
        let mut workers: Vec<&Role> = existing(RoleKind::Worker);
        workers.extend(existing(RoleKind::Login));
        let mut cx = Self {
            contract,
            snapshot,
            access,
            tool: Tool::default(),
            paths: SearchPaths::new(snapshot, access, trusted),
            subjects: vec![],
            clients: existing(RoleKind::Client),
            workers,
            requests: Requests::of(contract, snapshot, access),
            governed,
            kinds: OnceCell::new(),
            own_grantees: RefCell::default(),
            holders: OnceCell::new(),
            recipients: OnceCell::new(),
            positions: OnceCell::new(),
            with_usage: RefCell::default(),
            about: None,
            names: None,
            governed_relations: OnceCell::new(),
            governed_routines: OnceCell::new(),
            least_changes: RefCell::default(),
            canonical_path: OnceCell::new(),
            interrupts,
            needs: OnceCell::new(),
            exposed: OnceCell::new(),
        };
        cx.clients.extend(cx.undeclared_clients());
        cx.subjects = cx.clients.iter().chain(&cx.workers).copied().collect();
        cx
    }

    /// Takes over what declared access needs from a context of the same contract that shows more of
    /// the catalog.
    #[must_use]
    pub fn with_needs_of(self, whole: &Context<'_>) -> Self {
        Self { needs: OnceCell::from(whole.needs().clone()), ..self }
    }

    /// Says that findings about objects in other schemas are not wanted; `None`: all are. Rules
    /// with many of them leave them out; others may return them.
    #[must_use]
    pub fn about(self, schemas: Option<Rc<HashSet<Oid>>>) -> Self {
        Self { about: schemas, ..self }
    }

    /// Says that findings about declared objects with other names are not wanted; `None`: all are.
    #[must_use]
    pub fn about_names(self, names: Option<Rc<HashSet<String>>>) -> Self {
        Self { names, ..self }
    }

    /// Whether findings about a declared object of this name are wanted.
    pub(crate) fn wants_name(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|wanted| wanted.contains(name))
    }

    /// Whether findings about objects in a schema are wanted.
    pub(crate) fn wants_schema(&self, schema: Oid) -> bool {
        self.about.as_ref().is_none_or(|wanted| wanted.contains(&schema))
    }

    /// Returns the undeclared roles of requests that have privileges of their own in governed
    /// schemas, or own something there.
    fn undeclared_clients(&self) -> Vec<&'a Role> {
        let mut roles = self.requests.undeclared.clone();
        if !roles.is_empty() {
            let grantees = self.grantees();
            roles.retain(|role| !self.own_grantees(role.oid).is_disjoint(&grantees));
        }
        roles
    }

    /// Returns the grantees and owners of governed schemas and the objects in them, and the
    /// grantees of default privileges for such objects.
    fn grantees(&self) -> OidSet {
        let mut grantees = OidSet::default();
        let mut add = |owner: Oid, acl: Option<&Acl>| {
            grantees.insert(owner);
            grantees.extend(acl.into_iter().flatten().map(|item| item.grantee));
        };
        self.schemas().for_each(|(schema, _)| add(schema.owner, schema.acl.as_ref()));
        for (relation, _) in self.relations() {
            add(relation.owner, relation.acl.as_ref());
            relation.columns.iter().for_each(|(_, acl)| add(relation.owner, Some(acl)));
        }
        self.routines().for_each(|(routine, _)| add(routine.owner, routine.acl.as_ref()));
        let defaults = self.snapshot.default_acls.iter();
        let defaults = defaults.filter(|d| d.schema == 0 || self.governed(d.schema).is_some());
        grantees.extend(defaults.flat_map(|default| &default.acl).map(|item| item.grantee));
        grantees
    }

    /// Returns the roles whose grants count as those of `role`: itself and the roles whose
    /// privileges it inherits. Not counted are the declared roles that a login role or an
    /// undeclared role of requests inherits from: requests can become those anyway.
    pub(crate) fn own_grantees(&self, role: Oid) -> Closure {
        if let Some(known) = self.own_grantees.borrow().get(&role) {
            return Rc::clone(known);
        }
        let own = self.grantees_of(role);
        self.own_grantees.borrow_mut().insert(role, Rc::clone(&own));
        own
    }

    fn grantees_of(&self, role: Oid) -> Closure {
        let closure = self.access.closure(role, Follow::Privileges);
        match self.kind_of(role) {
            Some(RoleKind::Login) => Rc::new(OidSet::from_iter([role])),
            None if self.requests.reach(role) => {
                let is_own = |held: &Oid| *held == role || self.kind_of(*held).is_none();
                Rc::new(closure.iter().copied().filter(is_own).collect())
            }
            _ => closure,
        }
    }

    /// Returns the privileges that an ACL gives to a role by grants that count as its own, without
    /// those of PUBLIC.
    pub(crate) fn granted(&self, role: &Role, acl: &[AclItem]) -> Privileges {
        granted_to_any(&self.own_grantees(role.oid), acl)
    }

    /// Returns those of some roles to which an ACL may give privileges by grants that count as
    /// their own: all of them, where there are few.
    pub(crate) fn holders<'r>(&self, roles: &'r [&'r Role], acl: &[AclItem]) -> Vec<&'r Role> {
        const FEW: usize = 8;
        if roles.len() <= FEW {
            return roles.to_vec();
        }
        let all = self.holders.get_or_init(|| {
            let mut all: OidMap<Vec<Oid>> = OidMap::default();
            for role in &self.subjects {
                for grantee in self.own_grantees(role.oid).iter() {
                    all.entry(*grantee).or_default().push(role.oid);
                }
            }
            all
        });
        let grantees = acl.iter().map(|item| item.grantee).filter(|grantee| *grantee != PUBLIC);
        let held = grantees.filter_map(|grantee| all.get(&grantee)).flatten();
        let held: OidSet = held.copied().collect();
        if std::ptr::eq(roles, self.clients.as_slice()) {
            // The clients are the first subjects.
            let mut places: Vec<usize> =
                held.iter().filter_map(|role| self.positions().get(role).copied()).collect();
            places.retain(|at| *at < roles.len());
            places.sort_unstable();
            return places.into_iter().map(|at| roles[at]).collect();
        }
        let holds = |role: &&&Role| held.contains(&role.oid) || !self.is_subject(role.oid);
        roles.iter().filter(holds).copied().collect()
    }

    /// Returns the subjects of these names, in their order.
    pub(super) fn subjects_named<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
    ) -> Vec<&'a Role> {
        let roles = names.filter_map(|name| self.snapshot.role_named(name));
        let mut found: Vec<usize> =
            roles.filter_map(|role| self.positions().get(&role.oid).copied()).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| self.subjects[at]).collect()
    }

    fn positions(&self) -> &OidMap<usize> {
        self.positions.get_or_init(|| {
            self.subjects.iter().enumerate().map(|(at, role)| (role.oid, at)).collect()
        })
    }

    /// Whether a policy applies to a role, and not only to a declared role that it inherits from.
    pub(crate) fn policy_applies(&self, policy: &Policy, role: &Role) -> bool {
        self.access.policy_applies(policy, role.oid)
            && (self.declared_kind(&role.name).is_some() || {
                let own = self.own_grantees(role.oid);
                policy.roles.iter().any(|named| *named == PUBLIC || own.contains(named))
            })
    }

    /// Whether what PUBLIC may do with an object counts although no client exists: the contract has
    /// no client, and PUBLIC stands for roles that it says nothing about. A contract whose clients
    /// do not exist may be that of another database. EXECUTE on routines, which the server grants
    /// to PUBLIC, does not count.
    pub(crate) fn counts_public_without_clients(&self, object: ObjectId) -> bool {
        matches!(object, ObjectId::Relation(_) | ObjectId::Named)
            && self.contract.roles_of(RoleKind::Client).next().is_none()
    }

    /// Returns the privileges in `mask` that are declared for each of the declared clients and
    /// workers in `roles`: PUBLIC may have them. A login role has what PUBLIC has as well, which
    /// matters to none of its requests.
    pub(crate) fn declared_for_all(
        &self,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
    ) -> Privileges {
        let mut all = mask;
        for role in roles.iter().filter(|role| self.is_declared_subject(role.oid)) {
            all = all & declared(role).with_maintain(self.snapshot.version);
            if all.is_empty() {
                break;
            }
        }
        all
    }

    /// Returns a managed role as what manages the object of a finding; `None` if the role is not
    /// managed. Patterns apply to roles that requests cannot become and whose memberships were
    /// granted by superusers: others may have been created to look like the platform's.
    #[must_use]
    pub fn managed_role(&self, role: Oid) -> Option<String> {
        let name = &self.snapshot.role(role)?.name;
        let is_platforms = || {
            let mut memberships = self.snapshot.memberships.iter().filter(|m| m.member == role);
            !self.requests.reach(role) && memberships.all(|m| self.access.is_superuser(m.grantor))
        };
        (self.contract.manages_role(name, true)
            && (self.contract.manages_role(name, false) || is_platforms()))
        .then(|| format!("role {}", quote_ident(name)))
    }

    /// Returns the path that the contract declares for SECURITY DEFINER routines.
    pub(super) fn canonical_path(&self) -> &Rc<Path> {
        let names = &self.contract.security_definer.search_path;
        self.canonical_path.get_or_init(|| Path::new(names.clone()))
    }

    /// Unwinds if the query is canceled.
    pub(crate) fn check_interrupts(&self) {
        (self.interrupts)();
    }

    /// Returns the severity of a rule in the contract.
    #[must_use]
    pub fn severity(&self, rule: &Rule) -> Severity {
        rule.severity_in(self.contract)
    }

    /// Returns the guard action of a rule in the contract.
    #[must_use]
    pub fn guard_action(&self, rule: &Rule) -> GuardAction {
        self.contract.rules.get(rule.id).and_then(|r| r.guard).unwrap_or(rule.guard)
    }

    /// Returns the privilege on a schema that a role needs for the audits, if the contract says
    /// that it may read them.
    pub(crate) fn usage_for_audits(&self, schema: &Schema, role: &str) -> Privileges {
        if schema.name == extension::API_SCHEMA && self.contract.names_in_ops(role) {
            Privileges::USAGE
        } else {
            Privileges::NONE
        }
    }

    /// Returns the governed schemas that exist, with their declarations, in order of name.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = (&'a Schema, &'a SchemaDecl)> + '_ {
        self.snapshot
            .schemas
            .iter()
            .filter_map(|schema| self.governed(schema.oid).map(|declared| (schema, declared)))
    }

    /// Returns the schemas that [are not governed](Self::is_ungoverned), in order of name.
    pub(crate) fn ungoverned(&self) -> impl Iterator<Item = &'a Schema> + '_ {
        self.snapshot.schemas.iter().filter(|schema| self.is_ungoverned(schema))
    }

    /// Whether neither the contract governs a schema nor the platform manages it, nor is it one of
    /// the server or of this extension.
    pub(crate) fn is_ungoverned(&self, schema: &Schema) -> bool {
        (self.interrupts)();
        !schema.is_of_server()
            && schema.name != extension::SCHEMA
            && self.governed(schema.oid).is_none()
            && !self.manages_schema(schema)
    }

    /// Whether the platform manages what is in a schema: the contract lists it, and it belongs to a
    /// superuser or a managed role. Another role may have created a schema with such a name.
    pub(crate) fn manages_schema(&self, schema: &Schema) -> bool {
        let is_platforms =
            || self.access.is_superuser(schema.owner) || self.managed_role(schema.owner).is_some();
        self.contract.manages_schema(&schema.name, true) && is_platforms()
    }

    /// Returns EXECUTE if the contract declares it for a role on a routine, otherwise no
    /// privileges.
    pub(crate) fn execute_declared(
        &self,
        routine: &Routine,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        if self.declares_execute(routine, schema, role) {
            Privileges::EXECUTE
        } else {
            Privileges::NONE
        }
    }

    /// Returns the first client that can access rows of a relation.
    pub(crate) fn reached_by(&self, relation: &Relation) -> Option<&'a Role> {
        let with_usage = self.clients_with_usage(relation.schema);
        with_usage.into_iter().find(|client| self.accesses_rows(client, relation))
    }

    /// Whether a role can access rows of a relation: with USAGE on the schema, and a privilege on
    /// the relation or on one of its columns.
    pub(crate) fn reaches(&self, role: &Role, relation: &Relation) -> bool {
        self.snapshot.schema(relation.schema).is_some_and(|schema| self.has_usage(role, schema))
            && self.accesses_rows(role, relation)
    }

    fn has_usage(&self, role: &Role, schema: &Schema) -> bool {
        self.access
            .privileges(role.oid, schema.owner, schema.acl.as_ref(), ObjectKind::Schema)
            .contains(Privileges::USAGE)
    }

    /// Whether a role has a privilege to access rows of a relation, or on one of its columns.
    fn accesses_rows(&self, role: &Role, relation: &Relation) -> bool {
        let rows = Privileges::SELECT | Privileges::WRITES;
        self.on_some_column(role.oid, relation).intersects(rows)
    }

    /// Returns the clients with USAGE on a schema, in their order.
    pub(crate) fn clients_with_usage(&self, schema: Oid) -> Vec<&'a Role> {
        let known = self.with_usage.borrow().get(&schema).cloned();
        let positions = known.unwrap_or_else(|| {
            let found: Rc<[usize]> = self.snapshot.schema(schema).map_or_else(Rc::default, |of| {
                let clients = self.clients.iter().enumerate();
                clients.filter(|(_, role)| self.has_usage(role, of)).map(|(at, _)| at).collect()
            });
            self.with_usage.borrow_mut().insert(schema, Rc::clone(&found));
            found
        });
        positions.iter().map(|at| self.clients[*at]).collect()
    }

    /// Returns the privileges of a role on a relation and those on some of its columns.
    pub(crate) fn on_some_column(&self, role: Oid, relation: &Relation) -> Privileges {
        let of_column =
            |acl| self.access.privileges(role, relation.owner, Some(acl), ObjectKind::Column);
        let on_relation = self.access.relation_privileges(role, relation);
        relation.columns.iter().fold(on_relation, |all, (_, acl)| all | of_column(acl))
    }

    pub(crate) fn is_client(&self, role: Oid) -> bool {
        self.clients.iter().any(|c| c.oid == role)
    }

    pub(crate) fn is_subject(&self, role: Oid) -> bool {
        self.positions().contains_key(&role)
    }

    /// Whether a permissive policy can allow a role the command. A policy for PUBLIC, one without
    /// TO, counts only for roles that have the privilege, and if its condition requires an
    /// authenticated caller, not for the role of anonymous requests.
    pub(crate) fn policy_admits(
        &self,
        policy: &Policy,
        relation: &Relation,
        role: &Role,
        command: Command,
    ) -> bool {
        let own = self.own_grantees(role.oid);
        let is_named = |named: &Oid| *named != PUBLIC && own.contains(named);
        policy.covers(command)
            && !policy.is_for_no_rows(command)
            && (policy.roles.iter().any(is_named)
                || policy.roles.contains(&PUBLIC)
                    && !(policy.requires_authentication && self.snapshot.is_anonymous(role))
                    && self.has_privilege_on_a_column(role, relation, command.privilege()))
    }

    /// Returns the restrictive policy, if there is one, that excludes every row for a role and a
    /// command, because its condition is never true.
    pub(crate) fn closing_policy(
        &self,
        relation: &Relation,
        role: &Role,
        command: Command,
    ) -> Option<&'a Policy> {
        self.snapshot.policies_of(relation.oid).iter().find(|policy| {
            !policy.permissive
                && policy.covers(command)
                && policy.is_for_no_rows(command)
                && self.access.policy_applies(policy, role.oid)
        })
    }

    /// Whether a role has a privilege on a relation or on one of its columns.
    pub(crate) fn has_privilege_on_a_column(
        &self,
        role: &Role,
        relation: &Relation,
        privilege: Privileges,
    ) -> bool {
        self.on_some_column(role.oid, relation).contains(privilege)
    }

    /// Returns the clients with a privilege to access rows of a table whose policies limit them.
    #[must_use]
    pub fn clients_limited_by_policies(&self, table: &Relation) -> Vec<Oid> {
        if !table.row_security {
            return vec![];
        }
        let rows = Command::ALL
            .map(Command::privilege)
            .into_iter()
            .fold(Privileges::NONE, |all, privilege| all | privilege);
        let has_privilege =
            |client: &&Role| self.on_some_column(client.oid, table).intersects(rows);
        let clients = self.clients_reaching(table).into_iter().filter(has_privilege);
        let is_limited = |client: &&Role| self.access.is_limited_by_policies(client.oid, table);
        clients.filter(is_limited).map(|client| client.oid).collect()
    }

    /// Returns the declared login roles: requests use them before they become another role.
    pub(crate) fn logins(&self) -> Vec<&'a Role> {
        let is_login = |role: &&Role| self.kind_of(role.oid) == Some(RoleKind::Login);
        self.workers.iter().copied().filter(is_login).collect()
    }

    /// Returns the declared owners that are not superusers and own a relation or routine of a
    /// governed schema. The checks of foreign keys look up names as the owner of the table, too.
    pub(crate) fn owners_of_code(&self) -> Vec<Oid> {
        let owners = self.contract.roles_of(RoleKind::Owner);
        let owners = owners.filter_map(|name| self.snapshot.role_named(name));
        let owns_code = |role: &&Role| {
            let owns = |r: &Relation| r.owner == role.oid && r.kind != RelationKind::Sequence;
            !role.superuser
                && (self.snapshot.routines.iter().any(|r| r.owner == role.oid)
                    || self.snapshot.relations.iter().any(owns))
        };
        owners.filter(owns_code).map(|role| role.oid).collect()
    }

    /// Whether the contract declares the role as a worker.
    pub(crate) fn is_worker(&self, role: Oid) -> bool {
        self.kind_of(role) == Some(RoleKind::Worker)
    }

    /// Whether the contract declares the role as a client or worker: what login roles become.
    pub(crate) fn is_declared_subject(&self, role: Oid) -> bool {
        matches!(self.kind_of(role), Some(RoleKind::Client | RoleKind::Worker))
    }

    /// Returns the declared kind of a role.
    fn kind_of(&self, role: Oid) -> Option<RoleKind> {
        self.snapshot.role(role).and_then(|role| self.declared_kind(&role.name))
    }

    /// Returns the declared kind of the role of this name.
    fn declared_kind(&self, role: &str) -> Option<RoleKind> {
        let kinds = self.kinds.get_or_init(|| {
            // Of two declarations of a role, the first one counts.
            let declared = self.contract.roles.iter().rev();
            declared.map(|role| (role.name.clone(), role.kind)).collect()
        });
        kinds.get(role).copied()
    }

    /// Returns the declared clients that exist.
    pub(crate) fn declared_clients(&self) -> Vec<&'a Role> {
        let clients = self.contract.roles_of(RoleKind::Client);
        clients.filter_map(|name| self.snapshot.role_named(name)).collect()
    }

    /// Returns the declaration of a schema; `None` if it is not governed.
    #[must_use]
    pub fn governed(&self, schema: Oid) -> Option<&'a SchemaDecl> {
        self.governed.get(&schema).copied()
    }

    /// Returns the relations of governed schemas, with the declaration of the schema, in order of
    /// name.
    pub fn relations(&self) -> impl Iterator<Item = (&'a Relation, &'a SchemaDecl)> + '_ {
        let positions = self.governed_relations.get_or_init(|| {
            let extensions = &self.snapshot.relation_extension;
            let is_checked = |relation: &Relation| {
                self.governed(relation.schema).is_some()
                    && !self.is_own(extensions.get(&relation.oid))
            };
            let all = self.snapshot.relations.iter().enumerate();
            all.filter(|(_, relation)| is_checked(relation)).map(|(at, _)| at).collect()
        });
        positions.iter().filter_map(|at| {
            self.check_interrupts();
            let relation = &self.snapshot.relations[*at];
            Some((relation, self.governed(relation.schema)?))
        })
    }

    /// Returns the routines of governed schemas, with the declaration of the schema, in order of
    /// name. Aggregates are included, because they have an ACL.
    pub fn routines(&self) -> impl Iterator<Item = (&'a Routine, &'a SchemaDecl)> + '_ {
        let positions = self.governed_routines.get_or_init(|| {
            let extensions = &self.snapshot.routine_extension;
            let is_checked = |routine: &Routine| {
                self.governed(routine.schema).is_some()
                    && !self.is_own(extensions.get(&routine.oid))
            };
            let all = self.snapshot.routines.iter().enumerate();
            all.filter(|(_, routine)| is_checked(routine)).map(|(at, _)| at).collect()
        });
        positions.iter().filter_map(|at| {
            self.check_interrupts();
            let routine = &self.snapshot.routines[*at];
            Some((routine, self.governed(routine.schema)?))
        })
    }

    /// Returns the privileges that the contract declares for a role on a relation.
    pub(crate) fn declared_on_relation(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        let mut declared = Privileges::NONE;
        if schema.all_on_objects.contains(&role.name) {
            declared |= match relation.kind {
                RelationKind::Sequence => Privileges::ALL_ON_SEQUENCE,
                _ => Privileges::ALL_ON_TABLE,
            };
        }
        if let Some(table) = self.contract.table(&schema.name, &relation.name) {
            declared |= granted_to(&table.grants, &role.name);
        }
        if let Some(view) = self.contract.view(&schema.name, &relation.name) {
            declared |= granted_to(&view.grants, &role.name);
        }
        if let Some(sequence) = self.contract.sequence(&schema.name, &relation.name) {
            declared |= granted_to(&sequence.grants, &role.name);
        }
        // MAINTAIN exists since 17.
        if self.snapshot.version < 17 { declared & !Privileges::MAINTAIN } else { declared }
    }

    /// Returns the privileges that the contract declares for a role on single columns of a
    /// relation.
    pub(crate) fn column_grants(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Option<&'a ColumnGrants> {
        self.contract.column_grants(&schema.name, &relation.name, &role.name)
    }

    /// Returns the privileges that the contract declares for a role on a column: those on the
    /// relation, and those on the column itself.
    pub(crate) fn declared_on_column(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
        column: &str,
    ) -> Privileges {
        let on_column = self.column_grants(relation, schema, role).map(|grants| grants.on(column));
        self.declared_on_relation(relation, schema, role) | on_column.unwrap_or_default()
    }

    /// Returns the privileges that the contract declares for a role on a relation or on some column
    /// of it.
    pub(crate) fn declared_on_some_column(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        let on_columns = self.column_grants(relation, schema, role).map(ColumnGrants::privileges);
        self.declared_on_relation(relation, schema, role) | on_columns.unwrap_or_default()
    }

    /// Returns the subjects for which the contract declares privileges on a relation or on columns
    /// of it, in their order.
    pub(crate) fn declared_subjects(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
    ) -> Vec<&'a Role> {
        let (contract, name) = (self.contract, &relation.name);
        let table = contract.table(&schema.name, name);
        let view = contract.view(&schema.name, name);
        let sequence = contract.sequence(&schema.name, name);
        let of_table = table.into_iter().flat_map(|of| of.grants.keys());
        let of_view = view.into_iter().flat_map(|of| of.grants.keys());
        let of_sequence = sequence.into_iter().flat_map(|of| of.grants.keys());
        let on_columns = contract.column_grants_of(&schema.name, name);
        let on_columns = on_columns.into_iter().flat_map(|of| of.keys());
        let all = schema.all_on_objects.iter().chain(of_table).chain(of_view).chain(of_sequence);
        self.subjects_named(all.chain(on_columns))
    }

    /// Returns the subjects for which the contract declares EXECUTE on a routine, or on another
    /// one of its name.
    pub(crate) fn declared_callers(&self, routine: &Routine, schema: &SchemaDecl) -> Vec<&'a Role> {
        let functions = self.contract.functions_named(&schema.name, &routine.name);
        let of_schema = schema.all_on_objects.iter().chain(&schema.execute_on_routines);
        self.subjects_named(of_schema.chain(functions.flat_map(|of| &of.execute)))
    }

    /// Whether the contract declares INSERT for a role on the table that owns a sequence, or on
    /// columns of that table.
    pub(crate) fn declares_insert_by(&self, sequence: &Relation, role: &Role) -> bool {
        let table = sequence.owned_by.and_then(|table| self.snapshot.relation(table));
        table.is_some_and(|table| {
            let schema = self.governed(table.schema);
            schema.is_some_and(|schema| {
                self.declared_on_some_column(table, schema, role).contains(Privileges::INSERT)
            })
        })
    }

    /// Whether the contract declares EXECUTE for a role on a routine.
    pub(crate) fn declares_execute(
        &self,
        routine: &Routine,
        schema: &SchemaDecl,
        role: &Role,
    ) -> bool {
        schema.all_on_objects.contains(&role.name)
            || schema.execute_on_routines.contains(&role.name)
            || self.contract.functions_named(&schema.name, &routine.name).any(|f| {
                f.execute.contains(&role.name)
                    && self.has_arguments(routine, f.arguments.as_deref())
            })
    }

    /// Whether a routine is SECURITY DEFINER and not declared executable for all clients: then
    /// `security_definer_executable_by_clients` checks it.
    pub(crate) fn is_undeclared_definer(&self, routine: &Routine, schema: &SchemaDecl) -> bool {
        routine.security_definer
            && !self
                .contract
                .roles_of(RoleKind::Client)
                .filter_map(|name| self.snapshot.role_named(name))
                .all(|client| self.declares_execute(routine, schema, client))
    }

    /// Whether a routine has the declared argument types.
    pub(crate) fn has_arguments(&self, routine: &Routine, declared: Option<&str>) -> bool {
        let Some(declared) = declared else { return true };
        let actual = self.snapshot.argument_names(routine);
        let own = |name: &str| name.strip_prefix("pg_catalog.").unwrap_or(name).to_owned();
        let (actual, declared) = (actual.into_iter().map(own), argument_types(declared));
        actual.len() == declared.len()
            && actual.zip(&declared).all(|(actual, declared)| {
                actual == *declared || canonical_type(&actual) == canonical_type(declared)
            })
    }

    /// Returns a relation as the object of a finding.
    pub(crate) fn relation_object(&self, relation: &Relation) -> Object {
        Object {
            object_type: relation.kind.object_type(),
            schema: Some(self.snapshot.schema_name(relation.schema).to_owned()),
            identity: self.snapshot.relation_identity(relation),
            managed_by: self.creating_extension(
                self.snapshot.relation_extension.get(&relation.oid),
                relation.owner,
                self.declares_relation(relation),
            ),
            id: ObjectId::Relation(relation.oid),
        }
    }

    /// Whether the contract names a relation.
    pub fn declares_relation(&self, relation: &Relation) -> bool {
        let schema = self.snapshot.schema_name(relation.schema);
        self.contract.declares_relation(schema, &relation.name)
    }

    /// Whether the contract names a routine.
    pub(crate) fn declares_routine(&self, routine: &Routine) -> bool {
        let schema = self.snapshot.schema_name(routine.schema);
        self.contract.functions_named(schema, &routine.name).next().is_some()
    }

    /// Returns a routine as the object of a finding.
    #[must_use]
    pub fn routine_object(&self, routine: &Routine) -> Object {
        Object {
            object_type: routine.object_type(),
            schema: Some(self.snapshot.schema_name(routine.schema).to_owned()),
            identity: self.snapshot.routine_identity(routine),
            managed_by: self.routine_managed_by(routine).or_else(|| {
                let extension = self.snapshot.routine_extension.get(&routine.oid);
                self.creating_extension(extension, routine.owner, self.declares_routine(routine))
                    .filter(|_| !routine.security_definer)
            }),
            id: ObjectId::Routine(routine.oid),
        }
    }

    /// Returns the managed schema or extension that a routine belongs to; `None` if there is none.
    /// A schema that the contract lists as managed and that belongs to a trusted owner manages the
    /// members of extensions in it only.
    #[must_use]
    pub fn routine_managed_by(&self, routine: &Routine) -> Option<String> {
        let schema = self.snapshot.schema(routine.schema)?;
        if self.manages_schema(schema) {
            return Some(format!("schema {}", quote_ident(&schema.name)));
        }
        let extension = self.snapshot.routine_extension.get(&routine.oid)?;
        let (name, extension_owner) = self.snapshot.extensions.get(extension)?;
        let is_declared = name == "dragonfly_guard"
            || self.contract.managed.extensions.iter().any(|extension| extension == name)
            || self.is_trusted_owner(schema.owner)
                && self.contract.lists_managed_schema(&schema.name, false);
        // The script of an extension that requires a superuser creates all objects as one, even of
        // a trusted extension. A member of an ordinary role may have been added later, by a role
        // that owns both.
        (is_declared
            && self.access.is_superuser(routine.owner)
            && self.is_trusted_owner(*extension_owner))
        .then(|| format!("extension {}", quote_ident(name)))
    }

    /// Whether this is the guard's own extension: only guard_tampered checks its members, and
    /// reports those that the extension did not create.
    pub(crate) fn is_own(&self, extension: Option<&Oid>) -> bool {
        extension.is_some_and(|oid| {
            self.snapshot.extensions.get(oid).is_some_and(|(name, _)| name == "dragonfly_guard")
        })
    }

    /// Returns the extension whose script created an object: the extension has a trusted owner, and
    /// the object is a superuser's, as all objects created by an extension that requires a
    /// superuser. An object of another role was probably added later, and a declared one is the
    /// application's.
    pub(crate) fn creating_extension(
        &self,
        extension: Option<&Oid>,
        owner: Oid,
        declared: bool,
    ) -> Option<String> {
        let (name, extension_owner) = self.snapshot.extensions.get(extension?)?;
        (self.is_trusted_owner(*extension_owner) && self.access.is_superuser(owner) && !declared)
            .then(|| format!("extension {}", quote_ident(name)))
    }

    /// Whether a role is a trusted owner: superusers, and the contract's owner and trusted roles.
    #[must_use]
    pub fn is_trusted_owner(&self, role: Oid) -> bool {
        self.access.is_superuser(role) || self.contract.trusts(&self.snapshot.role_name(role))
    }

    /// Returns a schema as the object of a finding.
    pub(crate) fn schema_object(name: &str) -> Object {
        Object {
            object_type: "schema",
            schema: Some(name.to_owned()),
            identity: quote_ident(name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        }
    }

    /// Returns a role as the object of a finding.
    pub(crate) fn role_object(name: &str) -> Object {
        Object {
            object_type: "role",
            schema: None,
            identity: quote_ident(name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        }
    }
}

/// Returns the privileges that an ACL gives to some roles, without those of PUBLIC.
pub(crate) fn granted_to_any(roles: &OidSet, acl: &[AclItem]) -> Privileges {
    acl.iter()
        .filter(|item| item.grantee != PUBLIC && roles.contains(&item.grantee))
        .fold(Privileges::NONE, |all, item| all | item.privileges)
}

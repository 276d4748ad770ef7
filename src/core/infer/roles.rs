//! The roles of an inferred contract: their kinds, and the reasons for them.

use super::mode::Mode;
use crate::access::Follow;
use crate::catalog::{
    Acl, AclItem, Command, Oid, OidMap, PG_DATABASE_OWNER, PUBLIC, Policy, Privileges, Relation,
    Role, extension,
};
use crate::contract::{ByRole, GrantPrivilege, RoleDecl, RoleKind};
use crate::rules::Context;
use crate::rules::shared::reached::is_for_all_rows;
use crate::sql::{listed, printable};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The description of a role that the seed declares without one.
const DECLARED: &str = "Declared with this kind by the contract that was in force.";

/// Why a role has its kind, if neither the contract in force nor the preset of the platform
/// declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The contract in force trusts it.
    Trusted,
    OwnsDatabase,
    OwnsMost,
    OwnsObjects,
    /// The seed lists it as a managed role.
    IsManaged,
    BecomesClients,
    BypassesRowSecurity,
    CanLogIn,
    /// Policies decide which rows it can access.
    IsLimitedByPolicies,
    /// Roles that can log in inherit its privileges.
    IsGroup,
    IsBecome,
    CannotLogIn,
}

impl Reason {
    fn kind(self) -> RoleKind {
        match self {
            Self::IsBecome | Self::IsLimitedByPolicies | Self::CannotLogIn => RoleKind::Client,
            Self::Trusted
            | Self::OwnsDatabase
            | Self::OwnsMost
            | Self::OwnsObjects
            | Self::IsManaged => RoleKind::Owner,
            Self::BecomesClients => RoleKind::Login,
            Self::BypassesRowSecurity | Self::CanLogIn | Self::IsGroup => RoleKind::Worker,
        }
    }

    /// Returns the reason as the description of the role.
    fn description(self) -> &'static str {
        match self {
            Self::Trusted => "Trusted by the contract that was in force.",
            Self::OwnsDatabase => "Owns the database.",
            Self::OwnsMost => "Owns most of the objects.",
            Self::OwnsObjects => {
                "Owns objects, cannot log in, and requests cannot become it. It is not in \
                 trusted_roles."
            }
            Self::IsManaged => {
                "A role of the platform that owns objects. It is not in trusted_roles."
            }
            Self::BecomesClients => {
                "Can log in and become clients with SET ROLE: requests log in as it."
            }
            Self::BypassesRowSecurity => "Bypasses row security, as backend services do.",
            Self::CanLogIn => "Can log in itself, as backend services do.",
            Self::IsLimitedByPolicies => {
                "Row security limits the rows that it can access: it acts for those who may see \
                 only theirs."
            }
            Self::IsGroup => {
                "Cannot log in. Roles that can log in inherit its privileges, as backend services \
                 do."
            }
            Self::IsBecome => "A login role can become it with SET ROLE: requests become it.",
            Self::CannotLogIn => {
                "Cannot log in, owns nothing, and no service or login role is a member of it: \
                 taken for a role of requests."
            }
        }
    }
}

/// An undeclared role with the kind that was inferred for it, which a person should confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToConfirm {
    /// The name of the role.
    pub role: String,
    /// The inferred kind.
    pub kind: RoleKind,
    /// Why, as the end of a sentence about the role.
    pub why: String,
}

/// The roles of an inferred contract with their kinds.
pub(super) struct Roles<'a> {
    kinds: BTreeMap<&'a str, Classified<'a>>,
    /// The roles for which privileges are declared, and the workers among them, in order of name.
    subjects: Vec<&'a Role>,
    workers: Vec<&'a Role>,
    /// The clients and workers, and whether they are clients.
    is_client: OidMap<bool>,
    /// By grantee: the roles for which a grant to it is declared. For clients and login roles, only
    /// their own grants count; for workers, also the grants that they inherit.
    declared_for: OidMap<Vec<Oid>>,
}

/// A role with its kind.
struct Classified<'a> {
    role: &'a Role,
    kind: RoleKind,
    /// `None` for a role that the seed declares.
    reason: Option<Reason>,
    /// What the database shows, also for a role that the seed declares.
    shown: Option<Reason>,
}

impl<'a> Roles<'a> {
    /// Returns the roles that own objects or have privileges in the governed schemas, except
    /// through PUBLIC, the login roles that become them, and those of the roles that the seed
    /// declares which this database uses: others may belong to another database of the cluster.
    /// Roles of the platform are not declared, unless they own what is.
    pub fn of(cx: &Context<'a>, mode: Mode) -> Self {
        let found = Found::of(cx, mode);
        let mut kinds = BTreeMap::new();
        for role in &cx.snapshot.roles {
            if let Some((kind, reason)) = found.classify(role) {
                let shown = found.reason(role);
                kinds.insert(role.name.as_str(), Classified { role, kind, reason, shown });
            }
        }
        let mut declared_for: OidMap<Vec<Oid>> = OidMap::default();
        for Classified { role, kind, .. } in kinds.values() {
            match kind {
                RoleKind::Client | RoleKind::Login => {
                    declared_for.entry(role.oid).or_default().push(role.oid);
                }
                RoleKind::Worker => {
                    for grantee in cx.access.closure(role.oid, Follow::Privileges).iter() {
                        declared_for.entry(*grantee).or_default().push(role.oid);
                    }
                }
                RoleKind::Owner => {}
            }
        }
        let of_kind = |is_wanted: &dyn Fn(RoleKind) -> bool| -> Vec<&'a Role> {
            kinds.values().filter(|of| is_wanted(of.kind)).map(|of| of.role).collect()
        };
        let subjects = of_kind(&|kind| kind != RoleKind::Owner);
        let workers = of_kind(&|kind| kind == RoleKind::Worker);
        let clients = of_kind(&|kind| kind == RoleKind::Client);
        let of_workers = workers.iter().map(|role| (role.oid, false));
        let is_client =
            of_workers.chain(clients.into_iter().map(|role| (role.oid, true))).collect();
        Self { kinds, subjects, workers, is_client, declared_for }
    }

    /// Returns the undeclared roles whose kind a person should confirm: the workers, and the
    /// clients that no login role becomes.
    pub fn to_confirm(&self, cx: &Context<'_>) -> Vec<ToConfirm> {
        let reason = |of: &Classified<'_>| {
            Some(match of.reason? {
                Reason::BypassesRowSecurity => "bypasses row security".to_owned(),
                Reason::CanLogIn => "can log in".to_owned(),
                Reason::IsGroup => {
                    let names: Vec<String> = members_that_log_in(cx, of.role)
                        .map(|member| format!("\"{}\"", printable(&member.name)))
                        .collect();
                    let verb = if names.len() == 1 { "inherits" } else { "inherit" };
                    format!("cannot log in; {} can, and {verb} its privileges", listed(&names))
                }
                Reason::IsLimitedByPolicies => "is limited by row security policies".to_owned(),
                Reason::CannotLogIn => {
                    "cannot log in, owns nothing, and no service or login role is a member of it"
                        .to_owned()
                }
                _ => return None,
            })
        };
        self.kinds
            .values()
            .filter_map(|of| {
                Some(ToConfirm { role: of.role.name.clone(), kind: of.kind, why: reason(of)? })
            })
            .collect()
    }

    /// Returns the roles that run the migrations, in order of name: the owners of the structure,
    /// without owners of single objects, roles of the platform, and superusers, which need no
    /// privilege.
    pub fn deployers(&self) -> impl Iterator<Item = &'a Role> + '_ {
        let deploys = |of: &&Classified<'_>| {
            of.kind == RoleKind::Owner
                && !matches!(of.reason, Some(Reason::OwnsObjects | Reason::IsManaged))
                && !of.role.superuser
        };
        self.kinds.values().filter(deploys).map(|of| of.role)
    }

    /// Returns the roles for which privileges are declared, in order of name.
    pub fn subjects(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.subjects.iter().copied()
    }

    /// Returns the same roles as a list.
    pub fn all_subjects(&self) -> &[&'a Role] {
        &self.subjects
    }

    /// Returns the workers in order of name.
    pub fn workers(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.workers.iter().copied()
    }

    /// Whether a role is declared as a client.
    pub fn is_client(&self, role: Oid) -> bool {
        self.is_client.get(&role) == Some(&true)
    }

    /// Whether a role is declared as a worker.
    pub fn is_worker(&self, role: Oid) -> bool {
        self.is_client.get(&role) == Some(&false)
    }

    /// Whether a role is declared as an owner.
    pub fn is_owner(&self, role: &Role) -> bool {
        self.kinds.get(role.name.as_str()).is_some_and(|of| of.kind == RoleKind::Owner)
    }

    /// Whether a role is declared as a login role: only its grants are declared, and no policies,
    /// because requests change their role before they access rows.
    pub fn is_login(&self, role: &Role) -> bool {
        self.kinds.get(role.name.as_str()).is_some_and(|of| of.kind == RoleKind::Login)
    }

    /// Returns the privileges that an ACL gives to each client and worker, without those of PUBLIC.
    pub fn privileges_in(&self, acl: &[AclItem]) -> OidMap<Privileges> {
        let mut privileges: OidMap<Privileges> = OidMap::default();
        for item in acl.iter().filter(|item| item.grantee != PUBLIC) {
            for role in self.declared_for.get(&item.grantee).into_iter().flatten() {
                *privileges.entry(*role).or_default() |= item.privileges;
            }
        }
        privileges
    }

    /// Returns the declarations of the roles, owners of single objects last: fixes that change an
    /// owner name the first one. Clients, workers and login roles are declared without the
    /// attributes that bypass the contract, whether they have them or not, except that a worker
    /// keeps BYPASSRLS.
    pub fn declarations(&self, cx: &Context<'_>) -> Vec<RoleDecl> {
        let mut declared: Vec<(&Classified<'_>, RoleDecl)> =
            self.kinds.values().map(|of| (of, of.declaration(cx))).collect();
        declared.sort_by_key(|(of, _)| {
            matches!(of.reason, Some(Reason::OwnsObjects | Reason::IsManaged))
        });
        declared.into_iter().map(|(_, declaration)| declaration).collect()
    }
}

impl Classified<'_> {
    /// Whether the description of a role in the seed fits what the database shows.
    fn is_as_described(&self, known: &RoleDecl) -> bool {
        !known.description.is_empty()
            && self.shown.is_none_or(|reason| reason.kind() == self.kind)
            && known.bypass_rls.is_none_or(|bypasses| bypasses == self.role.bypass_rls)
    }

    fn declaration(&self, cx: &Context<'_>) -> RoleDecl {
        let kind = self.kind;
        let known = cx.contract.role(&self.role.name).filter(|known| self.is_as_described(known));
        let description = known.map_or_else(
            || {
                let shown = self.shown.filter(|reason| reason.kind() == kind);
                shown.map_or(DECLARED, Reason::description).to_owned()
            },
            |known| known.description.clone(),
        );
        let bypass_rls = match kind {
            RoleKind::Client | RoleKind::Login => Some(false),
            RoleKind::Worker => Some(self.role.bypass_rls),
            RoleKind::Owner => None,
        };
        let must_not = (kind != RoleKind::Owner).then_some(false);
        RoleDecl {
            name: self.role.name.clone(),
            kind,
            description,
            superuser: must_not,
            bypass_rls,
            create_role: must_not,
            create_db: must_not,
            replication: must_not,
        }
    }
}

/// What decides about the kinds of roles.
struct Found<'c, 'a> {
    cx: &'c Context<'a>,
    mode: Mode,
    /// The grantees in the governed schemas.
    grantees: HashSet<Oid>,
    /// The owners in the governed schemas.
    owners: HashSet<Oid>,
    /// The owners of what the contract will declare: not of members of extensions.
    owners_of_declared: HashSet<Oid>,
    /// The role that owns most of the objects.
    owns_most: Option<Oid>,
    logins: HashSet<Oid>,
    /// The roles that the login roles can become.
    usable: HashSet<Oid>,
    /// The roles that have privileges, objects or settings in this database.
    present: HashSet<Oid>,
    /// By role, or PUBLIC: the policies that are for it, with their relations.
    policies: HashMap<Oid, Vec<(&'a Policy, &'a Relation)>>,
}

impl<'c, 'a> Found<'c, 'a> {
    fn of(cx: &'c Context<'a>, mode: Mode) -> Self {
        let (grantees, owned) = in_schemas(cx);
        let all: usize = owned.values().sum();
        // A person has to decide about other owners that can log in.
        let owns_most = owned.iter().find(|(_, count)| **count * 2 > all).map(|(owner, _)| *owner);
        let owners_of_declared =
            owned.iter().filter(|(_, count)| **count > 0).map(|(owner, _)| *owner).collect();
        let owners = owned.into_keys().collect();
        let mut found = Self {
            cx,
            mode,
            present: present(cx, &grantees, &owners),
            policies: policies(cx),
            grantees,
            owners,
            owners_of_declared,
            owns_most,
            logins: HashSet::new(),
            usable: HashSet::new(),
        };
        let members: HashSet<Oid> = cx.snapshot.memberships.iter().map(|m| m.member).collect();
        let is_login = |role: &&Role| members.contains(&role.oid) && found.is_login(role);
        found.logins = cx.snapshot.roles.iter().filter(is_login).map(|role| role.oid).collect();
        for login in &found.logins {
            found.usable.extend(cx.access.closure(*login, Follow::Set).iter());
        }
        found
    }

    /// Returns the kind of a role with the reason; `None` if the contract does not declare it.
    fn classify(&self, role: &Role) -> Option<(RoleKind, Option<Reason>)> {
        if let Some(kind) = self.cx.contract.kind_of(&role.name) {
            return self.is_used(role).then_some((kind, None));
        }
        let reason = self.reason(role)?;
        Some((reason.kind(), Some(reason)))
    }

    /// Whether this database uses a role: the role or one that it is a member of has privileges,
    /// objects or settings in it.
    fn is_used(&self, role: &Role) -> bool {
        let has_own = self.present.contains(&role.oid);
        has_own
            || [Follow::Set, Follow::Privileges].into_iter().any(|follow| {
                let held = self.cx.access.closure(role.oid, follow);
                held.iter().any(|other| self.present.contains(other))
            })
    }

    /// Returns the reason for the kind of a role that the seed does not declare.
    fn reason(&self, role: &Role) -> Option<Reason> {
        let cx = self.cx;
        if cx.contract.trusted_roles.contains(&role.name) && self.is_used(role) {
            return Some(Reason::Trusted);
        }
        // A contract declares no predefined roles, and cannot restrict superusers.
        if role.superuser || role.is_predefined() {
            return None;
        }
        if cx.managed_role(role.oid).is_some() {
            // The owner of the database is accepted as the owner of what it has anyway.
            let owns = role.oid != cx.snapshot.database.owner
                && self.owners_of_declared.contains(&role.oid)
                && !self.usable.contains(&role.oid);
            return owns.then_some(Reason::IsManaged);
        }
        if role.oid == cx.snapshot.database.owner {
            return Some(Reason::OwnsDatabase);
        }
        if self.owns_most == Some(role.oid) {
            return Some(Reason::OwnsMost);
        }
        let is_used = self.usable.contains(&role.oid);
        if self.owners.contains(&role.oid) && !role.can_login && !is_used {
            return Some(Reason::OwnsObjects);
        }
        // What it can do as an owner, no contract restricts. The audit reports the membership.
        if role.can_login && self.acts_as_owner(role) {
            return None;
        }
        if self.logins.contains(&role.oid) {
            return Some(Reason::BecomesClients);
        }
        if !self.grantees.contains(&role.oid) {
            return None;
        }
        Some(match (role.bypass_rls, role.can_login) {
            (true, _) => Reason::BypassesRowSecurity,
            (false, false) if is_used => Reason::IsBecome,
            // A strict contract would take privileges from a service that it calls a client.
            _ if self.mode == Mode::AsIs && self.is_limited_by_policies(role) => {
                Reason::IsLimitedByPolicies
            }
            (false, true) => Reason::CanLogIn,
            (false, false) if self.is_group(role) => Reason::IsGroup,
            (false, false) => Reason::CannotLogIn,
        })
    }

    /// Whether row security limits the rows that a role can access: for a command that it has the
    /// privilege for, there is a policy with a condition, and none that opens every row to it. Who
    /// may see only some rows is no service of the operator, however it logs in.
    fn is_limited_by_policies(&self, role: &Role) -> bool {
        let groups = self.cx.access.closure(role.oid, Follow::Privileges);
        let of_role = groups.iter().copied().chain([PUBLIC]);
        let mut policies = of_role.flat_map(|of| self.policies.get(&of).into_iter().flatten());
        policies.any(|(policy, relation)| {
            let is_limited = |command: &Command| {
                policy.covers(*command)
                    && !is_for_all_rows(self.cx, policy, role, *command)
                    && self.cx.has_privilege_on_a_column(role, relation, command.privilege())
                    && !self.opens_every_row(role, relation, *command)
            };
            !groups.contains(&relation.owner) && Command::ALL.iter().any(is_limited)
        })
    }

    /// Whether a policy opens every row of a relation to a role.
    fn opens_every_row(&self, role: &Role, relation: &Relation, command: Command) -> bool {
        self.cx.snapshot.policies_of(relation.oid).iter().any(|policy| {
            policy.permissive
                && is_for_all_rows(self.cx, policy, role, command)
                && self.cx.policy_admits(policy, relation, role, command)
        })
    }

    /// Whether services log in and inherit the privileges of a role that is not the role of
    /// anonymous requests.
    fn is_group(&self, role: &Role) -> bool {
        !self.cx.snapshot.is_anonymous(role)
            && members_that_log_in(self.cx, role).any(|member| !self.acts_as_owner(member))
    }

    /// Whether a role is an owner of the structure: the owner of the database, the role that owns
    /// most of the objects, and those that the seed declares or trusts.
    fn is_owner(&self, role: Oid) -> bool {
        role == self.cx.snapshot.database.owner
            || self.owns_most == Some(role)
            || self.cx.is_trusted_owner(role)
    }

    /// Whether a role is or can act as an owner of the structure.
    fn acts_as_owner(&self, role: &Role) -> bool {
        [Follow::Set, Follow::Privileges].into_iter().any(|follow| {
            self.cx.access.closure(role.oid, follow).iter().any(|held| self.is_owner(*held))
        })
    }

    /// Whether requests log in as an undeclared role: it can log in and become a client. If the
    /// client is not declared either, the role must not inherit its privileges, because a service
    /// that inherits those of a group need not change its role; unless settings of PostgREST are
    /// stored for the role, or the other one is the role of anonymous requests.
    fn is_login(&self, role: &Role) -> bool {
        let cx = self.cx;
        let becomes = |other: &Oid| {
            let Some(other) = cx.snapshot.role(*other) else { return false };
            match cx.contract.kind_of(&other.name) {
                Some(kind) => kind == RoleKind::Client && self.is_used(other),
                None => {
                    self.grantees.contains(&other.oid)
                        && !(other.can_login || other.superuser || other.is_predefined())
                        && !self.is_owner(other.oid)
                        && cx.managed_role(other.oid).is_none()
                        && (!cx.access.has_privileges_of(role.oid, other.oid)
                            || cx.snapshot.is_anonymous(other)
                            || has_settings_of_postgrest(cx, role))
                }
            }
        };
        role.can_login
            && !role.superuser
            && cx.contract.kind_of(&role.name).is_none_or(|kind| kind == RoleKind::Login)
            && cx.managed_role(role.oid).is_none()
            && !self.acts_as_owner(role)
            && cx.access.closure(role.oid, Follow::Set).iter().any(becomes)
    }
}

/// Returns the permissive policies of the tables with row security by the roles that they are for.
fn policies<'a>(cx: &Context<'a>) -> HashMap<Oid, Vec<(&'a Policy, &'a Relation)>> {
    let mut by_role: HashMap<Oid, Vec<(&Policy, &Relation)>> = HashMap::new();
    for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
        for policy in cx.snapshot.policies_of(relation.oid).iter().filter(|p| p.permissive) {
            for role in &policy.roles {
                by_role.entry(*role).or_default().push((policy, relation));
            }
        }
    }
    by_role
}

fn has_settings_of_postgrest(cx: &Context<'_>, role: &Role) -> bool {
    let mut settings = cx.snapshot.settings.iter().filter(|of| of.role == Some(role.oid));
    settings.any(|setting| setting.name.starts_with("pgrst."))
}

/// Returns the roles that have privileges, objects or settings in the database. `grantees` and
/// `owners` are those in the governed schemas.
fn present(cx: &Context<'_>, grantees: &HashSet<Oid>, owners: &HashSet<Oid>) -> HashSet<Oid> {
    let snapshot = cx.snapshot;
    let mut present: HashSet<Oid> = grantees.union(owners).copied().collect();
    present.insert(snapshot.database.owner);
    // CREATE EXTENSION grants USAGE on its schemas to roles of other databases. If the application
    // uses schema ops as well, it is among the governed schemas.
    let is_own = |name: &str| [extension::SCHEMA, extension::API_SCHEMA].contains(&name);
    let schemas = snapshot.schemas.iter();
    let schemas = schemas.filter(|schema| !schema.name.starts_with("pg_") && !is_own(&schema.name));
    let of_schemas = schemas.map(|schema| (schema.owner, schema.acl.as_ref()));
    let of_database = (snapshot.database.owner, snapshot.database.acl.as_ref());
    for (owner, acl) in of_schemas.chain([of_database]) {
        let items = acl.into_iter().flatten();
        present.extend(items.map(|item| item.grantee).filter(|grantee| *grantee != owner));
    }
    for default in &snapshot.default_acls {
        present.insert(default.role);
        present.extend(default.acl.iter().map(|item| item.grantee));
    }
    for (relation, _) in cx.relations() {
        present.extend(snapshot.policies_of(relation.oid).iter().flat_map(|p| &p.roles));
    }
    let of_database = snapshot.settings.iter().filter(|setting| setting.database.is_some());
    present.extend(of_database.filter_map(|setting| setting.role));
    present.remove(&PUBLIC);
    present
}

/// Returns the grantees in the governed schemas, and the number of objects that each role owns in
/// them. The members of an extension do not count: they belong to the role that installed it, which
/// need not be one that runs migrations.
fn in_schemas(cx: &Context<'_>) -> (HashSet<Oid>, HashMap<Oid, usize>) {
    let mut grantees = HashSet::new();
    let mut owned: HashMap<Oid, usize> = HashMap::new();
    let mut count = |owner: Oid, acl: Option<&Acl>, is_member: bool| {
        *owned.entry(owner).or_default() += usize::from(!is_member);
        grantees.extend(
            acl.into_iter().flatten().map(|item| item.grantee).filter(|grantee| *grantee != owner),
        );
    };
    for (schema, _) in cx.schemas() {
        let owner = if schema.owner == PG_DATABASE_OWNER {
            cx.snapshot.database.owner
        } else {
            schema.owner
        };
        count(owner, schema.acl.as_ref(), false);
    }
    for (relation, _) in cx.relations() {
        let is_member = cx.snapshot.relation_extension.contains_key(&relation.oid);
        count(relation.owner, relation.acl.as_ref(), is_member);
        relation.columns.iter().for_each(|(_, acl)| count(relation.owner, Some(acl), is_member));
    }
    for (routine, _) in cx.routines() {
        let is_member = cx.snapshot.routine_extension.contains_key(&routine.oid);
        count(routine.owner, routine.acl.as_ref(), is_member);
    }
    (grantees, owned)
}

/// Returns the roles that can log in and inherit the privileges of a role, without superusers and
/// roles of the platform.
pub(super) fn members_that_log_in<'a>(
    cx: &Context<'a>,
    role: &Role,
) -> impl Iterator<Item = &'a Role> {
    cx.snapshot.roles.iter().filter(|member| {
        member.can_login
            && !member.superuser
            && cx.managed_role(member.oid).is_none()
            && cx.access.has_privileges_of(member.oid, role.oid)
    })
}

/// Returns the privileges in `held` as grants by role name. Roles without privileges are omitted.
pub(super) fn grants_by_name<P: GrantPrivilege>(
    cx: &Context<'_>,
    held: &OidMap<Privileges>,
) -> ByRole<P> {
    held.iter()
        .map(|(role, privileges)| (cx.snapshot.role_name(*role), P::names_of(*privileges)))
        .filter(|(_, names)| !names.is_empty())
        .collect()
}

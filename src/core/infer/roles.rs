//! The roles of an inferred contract and their kinds.

use crate::access::Follow;
use crate::catalog::{Acl, Oid, PG_DATABASE_OWNER, PUBLIC, Privileges, Role};
use crate::contract::{ByRole, GrantPrivilege, RoleDecl, RoleKind};
use crate::rules::Context;
use std::collections::{BTreeMap, HashMap, HashSet};

/// System objects such as the predefined roles have lower OIDs (transam.h, `FirstNormalObjectId`).
const FIRST_NORMAL: Oid = 16_384;

/// The roles of an inferred contract with their kinds.
pub(super) struct Roles<'a> {
    kinds: BTreeMap<&'a str, (&'a Role, RoleKind)>,
    /// By grantee: the roles for which a grant to it is declared. For a client, only its own grants
    /// count; for a worker, also the grants that it inherits.
    declared_for: HashMap<Oid, Vec<Oid>>,
}

impl<'a> Roles<'a> {
    /// Returns the roles that own objects or have privileges in the governed schemas, and the roles
    /// that the seed declares.
    pub fn of(cx: &Context<'a>) -> Self {
        let (grantees, owned) = in_schemas(cx);
        let trusted =
            |role: &Role| cx.contract.trusted_roles.contains(&role.name).then_some(RoleKind::Owner);
        let declared = |role: &Role| {
            cx.contract
                .roles
                .iter()
                .find(|d| d.name == role.name)
                .map(|d| d.kind)
                .or_else(|| trusted(role))
        };
        let structure_owners = structure_owners(cx, &owned);
        let mut kinds = BTreeMap::new();
        for role in &cx.snapshot.roles {
            let kind = match declared(role) {
                Some(kind) => kind,
                // A contract declares no predefined roles and cannot restrict superusers.
                None if role.superuser
                    || (role.oid < FIRST_NORMAL && role.name.starts_with("pg_")) =>
                {
                    continue;
                }
                None if structure_owners.contains(&role.oid) => RoleKind::Owner,
                None if !grantees.contains(&role.oid) => continue,
                None if worker_reason(role).is_some() => RoleKind::Worker,
                None => RoleKind::Client,
            };
            kinds.insert(role.name.as_str(), (role, kind));
        }
        let mut declared_for: HashMap<Oid, Vec<Oid>> = HashMap::new();
        for (role, kind) in kinds.values() {
            match kind {
                RoleKind::Client => declared_for.entry(role.oid).or_default().push(role.oid),
                RoleKind::Worker => {
                    for grantee in cx.access.closure(role.oid, Follow::Privileges).iter() {
                        declared_for.entry(*grantee).or_default().push(role.oid);
                    }
                }
                RoleKind::Owner => {}
                RoleKind::Login => declared_for.entry(role.oid).or_default().push(role.oid),
            }
        }
        Self { kinds, declared_for }
    }

    /// Returns the undeclared roles with kind worker, with the reasons.
    pub fn inferred_workers(&self, cx: &Context<'_>) -> Vec<(String, &'static str)> {
        let known = |role: &Role| cx.contract.roles.iter().any(|d| d.name == role.name);
        self.workers()
            .filter(|role| !known(role))
            .filter_map(|role| Some((role.name.clone(), worker_reason(role)?)))
            .collect()
    }

    /// Returns the clients and workers in order of name.
    pub fn subjects(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind != RoleKind::Owner).map(|(role, _)| *role)
    }

    /// Returns the workers in order of name.
    pub fn workers(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind == RoleKind::Worker).map(|(role, _)| *role)
    }

    /// Returns the clients in order of name.
    pub fn clients(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind == RoleKind::Client).map(|(role, _)| *role)
    }

    /// Returns the privileges that an ACL gives to each client and worker, without those of PUBLIC.
    pub fn privileges_in(&self, acl: &Acl) -> HashMap<Oid, Privileges> {
        let mut privileges: HashMap<Oid, Privileges> = HashMap::new();
        for item in acl.iter().filter(|item| item.grantee != PUBLIC) {
            for role in self.declared_for.get(&item.grantee).into_iter().flatten() {
                *privileges.entry(*role).or_default() |= item.privileges;
            }
        }
        privileges
    }

    /// Returns the declarations of the roles. Clients and workers are declared without the
    /// attributes that bypass the contract, whether they have them or not, except that a worker
    /// keeps BYPASSRLS.
    pub fn declarations(&self, cx: &Context<'_>) -> Vec<RoleDecl> {
        let description = |role: &Role| {
            let known = cx
                .contract
                .roles
                .iter()
                .find(|d| d.name == role.name)
                .map(|d| d.description.clone());
            let inferred = || {
                let reason = worker_reason(role)?;
                Some(format!("Inferred as a worker because it {reason}."))
            };
            known.or_else(inferred).unwrap_or_default()
        };
        let restricted = |role: &Role, kind| RoleDecl {
            name: role.name.clone(),
            kind,
            description: description(role),
            superuser: Some(false),
            bypass_rls: Some(kind == RoleKind::Worker && role.bypass_rls),
            create_role: Some(false),
            create_db: Some(false),
            replication: Some(false),
        };
        self.kinds
            .values()
            .map(|(role, kind)| match kind {
                RoleKind::Owner => RoleDecl {
                    name: role.name.clone(),
                    kind: *kind,
                    description: description(role),
                    superuser: None,
                    bypass_rls: None,
                    create_role: None,
                    create_db: None,
                    replication: None,
                },
                kind => restricted(role, *kind),
            })
            .collect()
    }
}

/// Returns the grantees in the governed schemas, and the number of objects that each role owns in
/// them.
fn in_schemas(cx: &Context<'_>) -> (HashSet<Oid>, HashMap<Oid, usize>) {
    let mut grantees = HashSet::new();
    let mut owned: HashMap<Oid, usize> = HashMap::new();
    let mut count = |owner: Oid, acl: Option<&Acl>| {
        *owned.entry(owner).or_default() += 1;
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
        count(owner, schema.acl.as_ref());
    }
    for (relation, _) in cx.relations() {
        count(relation.owner, relation.acl.as_ref());
        relation.columns.iter().for_each(|(_, acl)| count(relation.owner, Some(acl)));
    }
    for (routine, _) in cx.routines() {
        count(routine.owner, routine.acl.as_ref());
    }
    (grantees, owned)
}

/// Returns the roles that own the structure: the owner of the database, and the role that owns more
/// than half of the objects. A person has to decide about other owners.
fn structure_owners(cx: &Context<'_>, owned: &HashMap<Oid, usize>) -> HashSet<Oid> {
    let all: usize = owned.values().sum();
    let most = owned.iter().filter(|(_, count)| **count * 2 > all).map(|(owner, _)| *owner);
    most.chain([cx.snapshot.database.owner]).collect()
}

/// Returns why an undeclared role is a worker. Roles of requests from outside cannot log in,
/// because requests switch to them, and are subject to row security.
fn worker_reason(role: &Role) -> Option<&'static str> {
    match (role.bypass_rls, role.can_login) {
        (true, _) => Some("bypasses row security"),
        (false, true) => Some("can log in"),
        (false, false) => None,
    }
}

/// Returns the privileges in `held` as grants by role name. Roles without privileges are omitted.
pub(super) fn grants_by_name<P: GrantPrivilege>(
    cx: &Context<'_>,
    held: &HashMap<Oid, Privileges>,
) -> ByRole<P> {
    held.iter()
        .map(|(role, privileges)| (cx.snapshot.role_name(*role), P::names_of(*privileges)))
        .filter(|(_, names)| !names.is_empty())
        .collect()
}

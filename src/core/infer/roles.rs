//! Which roles a contract is about, and what each is for.

use crate::catalog::{Acl, Oid, PG_DATABASE_OWNER, PUBLIC, Privileges, Role};
use crate::contract::{RoleDecl, RoleKind};
use crate::rules::Context;
use std::collections::{BTreeMap, HashMap, HashSet};

/// OIDs below are the server's own, its predefined roles among them (transam.h,
/// `FirstNormalObjectId`).
const FIRST_NORMAL: Oid = 16_384;

/// The roles of a contract to be, by kind.
pub(super) struct Roles<'a> {
    kinds: BTreeMap<&'a str, (&'a Role, RoleKind)>,
    /// By grantee: the roles to which a grant to it is declared. A client has what it was granted
    /// itself; a worker also what comes by membership.
    reaches: HashMap<Oid, Vec<Oid>>,
}

impl<'a> Roles<'a> {
    /// The roles that hold or own something in the governed schemas, and those of which the seed
    /// speaks.
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
        let keepers = keepers(cx, &owned);
        let mut kinds = BTreeMap::new();
        for role in &cx.snapshot.roles {
            let kind = match declared(role) {
                Some(kind) => kind,
                // What is the server's own, and what no contract binds.
                None if role.superuser
                    || (role.oid < FIRST_NORMAL && role.name.starts_with("pg_")) =>
                {
                    continue;
                }
                None if keepers.contains(&role.oid) => RoleKind::Owner,
                None if !grantees.contains(&role.oid) => continue,
                None if why_a_worker(role).is_some() => RoleKind::Worker,
                None => RoleKind::Client,
            };
            kinds.insert(role.name.as_str(), (role, kind));
        }
        let mut reaches: HashMap<Oid, Vec<Oid>> = HashMap::new();
        for (role, kind) in kinds.values() {
            match kind {
                RoleKind::Client => reaches.entry(role.oid).or_default().push(role.oid),
                RoleKind::Worker => {
                    for grantee in
                        cx.access.closure(role.oid, crate::access::Follow::Privileges).iter()
                    {
                        reaches.entry(*grantee).or_default().push(role.oid);
                    }
                }
                RoleKind::Owner => {}
            }
        }
        Self { kinds, reaches }
    }

    /// The roles that are taken for workers though nobody has said so, and why.
    pub fn taken_for_workers(&self, cx: &Context<'_>) -> Vec<(String, &'static str)> {
        let known = |role: &Role| cx.contract.roles.iter().any(|d| d.name == role.name);
        self.workers()
            .filter(|role| !known(role))
            .filter_map(|role| Some((role.name.clone(), why_a_worker(role)?)))
            .collect()
    }

    /// Clients and workers, in order of name.
    pub fn subjects(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind != RoleKind::Owner).map(|(role, _)| *role)
    }

    /// Workers alone.
    pub fn workers(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind == RoleKind::Worker).map(|(role, _)| *role)
    }

    /// Clients alone.
    pub fn clients(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.kinds.values().filter(|(_, kind)| *kind == RoleKind::Client).map(|(role, _)| *role)
    }

    /// What an ACL gives to each of them, PUBLIC's share left out.
    pub fn held(&self, acl: &Acl) -> HashMap<Oid, Privileges> {
        let mut held: HashMap<Oid, Privileges> = HashMap::new();
        for item in acl.iter().filter(|item| item.grantee != PUBLIC) {
            for role in self.reaches.get(&item.grantee).into_iter().flatten() {
                *held.entry(*role).or_default() |= item.privileges;
            }
        }
        held
    }

    /// As the contract declares them. A client or worker is declared without the attributes that
    /// pass the contract by, whether it has them or not; of a worker, BYPASSRLS is what many are
    /// for.
    pub fn declarations(&self, cx: &Context<'_>) -> Vec<RoleDecl> {
        let description = |role: &Role| {
            let known = cx
                .contract
                .roles
                .iter()
                .find(|d| d.name == role.name)
                .map(|d| d.description.clone());
            let why = || {
                why_a_worker(role).map(|why| format!("Inferred: taken for a worker, for it {why}."))
            };
            known.or_else(why).unwrap_or_default()
        };
        let bound = |role: &Role, kind| RoleDecl {
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
                kind => bound(role, *kind),
            })
            .collect()
    }
}

/// Who is granted something in the governed schemas, and how many things in them each role owns.
fn in_schemas(cx: &Context<'_>) -> (HashSet<Oid>, HashMap<Oid, usize>) {
    let mut grantees = HashSet::new();
    let mut owned: HashMap<Oid, usize> = HashMap::new();
    let mut look = |owner: Oid, acl: Option<&Acl>| {
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
        look(owner, schema.acl.as_ref());
    }
    for (relation, _) in cx.relations() {
        look(relation.owner, relation.acl.as_ref());
        relation.columns.iter().for_each(|(_, acl)| look(relation.owner, Some(acl)));
    }
    for (routine, _) in cx.routines() {
        look(routine.owner, routine.acl.as_ref());
    }
    (grantees, owned)
}

/// Who keeps the structure: the owner of the database, and the role that owns most of what is in
/// the schemas. Others who own something are for a person to judge.
fn keepers(cx: &Context<'_>, owned: &HashMap<Oid, usize>) -> HashSet<Oid> {
    let all: usize = owned.values().sum();
    let most = owned.iter().filter(|(_, count)| **count * 2 > all).map(|(owner, _)| *owner);
    most.chain([cx.snapshot.database.owner]).collect()
}

/// Why a role that no contract knows is taken for a worker: requests become roles that do not log
/// in, and row security is for them.
fn why_a_worker(role: &Role) -> Option<&'static str> {
    match (role.bypass_rls, role.can_login) {
        (true, _) => Some("bypasses row security"),
        (false, true) => Some("logs in itself"),
        (false, false) => None,
    }
}

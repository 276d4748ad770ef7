//! Snapshots of the whole catalog.

use crate::definer_bodies::definer_bodies;
use crate::exposures::{exposures_of_clients, files_of_storage, keys_of_hidden_rows};
use crate::expressions::Mentioned;
use crate::extension::Own;
use crate::publications::publications;
use crate::source::State;
use crate::{
    bodies, code, dependencies, guard, objects, policies, roles, routines, server_objects,
};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::extension::SCHEMA;
use dragonfly_core::catalog::{ObjectId, Oid, Privileges, Role, Schema, Shared, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::rules::{Context, Reads};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

/// What an audit needs of the catalog beyond roles, schemas, objects and their privileges.
pub struct Needed<'a> {
    /// What its rules look at.
    pub reads: Reads,
    /// The schemas that it is about; `None` for all.
    pub schemas: Option<&'a [String]>,
}

/// Reads what the rules of an audit check as it is now. `needed` is asked once roles, schemas,
/// objects and their privileges have been read.
pub fn for_audit<'a>(
    state: &dyn State,
    contract: &Contract,
    own: Option<&Own>,
    needed: impl FnOnce(&Snapshot) -> Needed<'a>,
) -> Snapshot {
    let mut snapshot = without_bodies(state, contract, own);
    let Needed { reads, schemas } = needed(&snapshot);
    if reads.bodies {
        let is_wanted = |schema: &str| schemas.is_none_or(|of| of.iter().any(|s| s == schema));
        bodies::read(state, contract, &is_wanted, &mut snapshot);
    }
    if reads.parts {
        snapshot = with_parts(state, snapshot);
    }
    if reads.reach {
        add_reach(state, contract, &mut snapshot);
    }
    snapshot
}

/// Adds to a snapshot of the whole catalog, as it is now, what policies and the bodies of routines
/// let clients reach, and what tells of rows that policies hide.
pub fn add_reach(state: &dyn State, contract: &Contract, snapshot: &mut Snapshot) {
    let (exposures, storage_policies, unique_keys, definer_bodies) = {
        let access = Access::new(snapshot);
        let interrupts = || state.interrupts();
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let catalog = Mentioned::new(state, state.rights(snapshot, &access), state.texts());
        let identities = contract.identities();
        let of = (&catalog, &identities);
        let (exposures, _) = exposures_of_clients(state, &cx, of, &|_| true, None);
        (
            exposures,
            files_of_storage(state, &cx, of),
            keys_of_hidden_rows(state, &cx),
            definer_bodies(state, &cx, of),
        )
    };
    snapshot.exposures = exposures;
    snapshot.storage_policies = storage_policies;
    snapshot.unique_keys = unique_keys;
    snapshot.definer_bodies = definer_bodies;
    snapshot.publications = Rc::new(publications(state));
}

/// Adds to a snapshot what the parts of all its objects use.
pub fn with_parts(state: &dyn State, mut snapshot: Snapshot) -> Snapshot {
    dependencies::add_all(state, &mut snapshot);
    snapshot
}

/// Returns a snapshot with what leads to some of its objects: which parts of objects use them.
pub fn with_users(state: &dyn State, snapshot: &Snapshot, objects: &[ObjectId]) -> Snapshot {
    let settings = roles::settings(state, &snapshot.database.name);
    let mut snapshot = Snapshot { settings, ..snapshot.clone() };
    dependencies::add_leading_to(state, &mut snapshot, objects);
    snapshot
}

/// Reads everything that the rules check, without what the parts of objects use.
pub fn objects_of(state: &dyn State, contract: &Contract, own: Option<&Own>) -> Snapshot {
    let mut snapshot = without_bodies(state, contract, own);
    bodies::read(state, contract, &|_| true, &mut snapshot);
    snapshot
}

/// Reads what [`objects_of`] does, without the bodies of routines.
fn without_bodies(state: &dyn State, contract: &Contract, own: Option<&Own>) -> Snapshot {
    let mut snapshot = base(state);
    let governed = governed(&snapshot, contract);
    let open = open(&snapshot, contract);
    let toast = objects::relations(state, &governed, &open, &mut snapshot);
    objects::view_sources(state, &open, &mut snapshot);
    code::read(state, contract, &mut snapshot);
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    server_objects::read(state, contract, (&toast, own.is_some()), &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::all(state, &governed, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.settings = roles::settings(state, &snapshot.database.name);
    routines::named_in_settings(state, &mut snapshot);
    snapshot.complete()
}

/// Reads everything that the assessment of search paths needs, with the contents of all schemas.
pub fn for_paths(state: &dyn State) -> Snapshot {
    let mut snapshot = base(state);
    objects::relations(state, &HashSet::new(), &HashSet::new(), &mut snapshot);
    objects::extensions(state, &mut snapshot);
    routines::all(state, &HashSet::new(), &mut snapshot);
    snapshot.complete()
}

/// Reads roles, memberships, the database and schemas.
pub fn base(state: &dyn State) -> Snapshot {
    let mut snapshot = without_schemas(state);
    objects::schemas(state, &mut snapshot);
    snapshot
}

/// Reads roles, memberships and the database.
pub fn without_schemas(state: &dyn State) -> Snapshot {
    let (version, cuts_names) = (state.version(), state.is_utf8());
    let mut snapshot = Snapshot { version, cuts_names, ..Snapshot::default() };
    roles::read(state, &mut snapshot);
    snapshot
}

/// Returns a snapshot with the roles of another one and with the schemas in a state.
pub fn with_schemas(roles: &Snapshot, state: &dyn State) -> Snapshot {
    let mut snapshot = Snapshot { schemas: Shared::default(), ..roles.clone() };
    objects::schemas(state, &mut snapshot);
    snapshot.with_roles_and_schemas()
}

/// Returns the schemas that neither the contract governs nor the platform manages, and that other
/// roles than their owner may use. Clients may reach governed data through the objects in them.
pub fn open(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    let is_platforms = |role: &&Role| role.superuser || contract.manages_role(&role.name, false);
    let platforms: HashSet<Oid> =
        snapshot.roles.iter().filter(is_platforms).map(|role| role.oid).collect();
    let is_open = |schema: &&Schema| {
        let grants = schema.acl.iter().flatten().filter(|item| item.grantee != schema.owner);
        grants.fold(Privileges::NONE, |all, item| all | item.privileges).contains(Privileges::USAGE)
            && !schema.is_of_server()
            && schema.name != SCHEMA
            && contract.schema(&schema.name).is_none()
            && !contract.manages_schema(&schema.name, platforms.contains(&schema.owner))
    };
    snapshot.schemas.iter().filter(is_open).map(|schema| schema.oid).collect()
}

/// Returns the governed schemas that exist.
pub fn governed(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    snapshot.schemas.iter().filter(|s| contract.schema(&s.name).is_some()).map(|s| s.oid).collect()
}

/// Reads some relations and routines, with their policies and extensions and nothing else, at a
/// cost that does not depend on the size of the catalog. [`around`] adds the rest.
pub fn part(state: &dyn State, relations: &[Oid], routines: &[Oid]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    objects::some_relations(state, relations, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::some(state, routines, &mut snapshot);
    snapshot
}

/// Adds to a part everything else that checking it needs: roles and schemas, from `base`,
/// extensions and default privileges. The contents of schemas are read by the caller.
pub fn around(part: Snapshot, base: Snapshot, state: &dyn State) -> Snapshot {
    let Snapshot {
        relations,
        policies,
        mut routines,
        routine_extension,
        relation_extension,
        types,
        caller_typed,
        ..
    } = part;
    // Routines in a temporary schema can be called by their session only, because permanent
    // objects must not depend on them. (A temporary schema may have been renamed.)
    let temporary: HashSet<Oid> =
        base.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    routines.retain(|r| !temporary.contains(&r.schema));
    let mut snapshot = Snapshot {
        relations,
        policies,
        routines,
        routine_extension,
        relation_extension,
        types,
        caller_typed,
        ..base
    };
    objects::extension_names(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    roles::anonymous(state, &mut snapshot);
    snapshot.complete()
}

/// The relations and routines that statements are about.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Objects {
    pub relations: BTreeSet<Oid>,
    pub routines: BTreeSet<Oid>,
}

impl Objects {
    /// Reads these objects and what checking them requires; also the tables that own the sequences
    /// among them, because the contract declares privileges on those tables.
    #[must_use]
    pub fn snapshot(self, state: &dyn State, base: Snapshot) -> Snapshot {
        let relations: Vec<Oid> = self.relations.into_iter().collect();
        let routines: Vec<Oid> = self.routines.into_iter().collect();
        let mut found = part(state, &relations, &routines);
        let owners = found.relations.iter().filter_map(|relation| relation.owned_by);
        let owners: Vec<Oid> = owners.filter(|table| !relations.contains(table)).collect();
        found.relations.extend(part(state, &owners, &[]).relations);
        around(found, base, state)
    }
}

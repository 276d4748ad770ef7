//! Snapshots of the whole catalog, or of the part that a check needs.

use super::definer_bodies::definer_bodies;
use super::exposures::{exposures_of_clients, files_of_storage, keys_of_hidden_rows};
use super::expressions::Mentioned;
use super::moved_names::MovedNames;
use super::publications::publications;
use super::rights::Rights;
use super::routines::Concerning;
use super::{
    Own, bodies, code, dependencies, guard, objects, policies, roles, routines, server_objects,
};
use crate::pg::VERSION;
use crate::pg::heap::{State, interrupts};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::extension::SCHEMA;
use dragonfly_core::catalog::{ObjectId, Oid, Privileges, Role, Routine, Schema, Shared, Snapshot};
use dragonfly_core::contract::{Contract, TableDecl};
use dragonfly_core::rules::{Context, Reads};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

/// Reads everything that the rules check as it is now, with what the parts of objects use and what
/// policies and the bodies of routines let clients reach.
pub fn full(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let whole = |_: &Snapshot| Needed { reads: Reads::ALL, schemas: None };
    for_audit(state, contract, own, whole)
}

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
    state: &State,
    contract: &Contract,
    own: &Own,
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

/// Reads what [`objects_of`] does, with what policies let clients reach.
pub fn with_exposures(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = objects_of(state, contract, own);
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let (catalog, identities) = (Mentioned::with_texts(state), contract.identities());
    let of = (&catalog, &identities);
    let (exposures, _) = exposures_of_clients(state, &cx, of, &|_| true, None);
    snapshot.exposures = exposures;
    snapshot
}

/// Adds to a snapshot of the whole catalog, as it is now, what policies and the bodies of routines
/// let clients reach, and what tells of rows that policies hide.
pub fn add_reach(state: &State, contract: &Contract, snapshot: &mut Snapshot) {
    let access = Access::new(snapshot);
    let cx = Context::new(contract, snapshot, &access, &interrupts);
    let (catalog, identities) = (Mentioned::with_texts(state), contract.identities());
    let of = (&catalog, &identities);
    let (exposures, _) = exposures_of_clients(state, &cx, of, &|_| true, None);
    let storage_policies = files_of_storage(state, &cx, of);
    let unique_keys = keys_of_hidden_rows(state, &cx);
    let definer_bodies = definer_bodies(state, &cx, of);
    snapshot.exposures = exposures;
    snapshot.storage_policies = storage_policies;
    snapshot.unique_keys = unique_keys;
    snapshot.definer_bodies = definer_bodies;
    snapshot.publications = Rc::new(publications(state));
}

/// What is read of what policies let clients reach.
pub struct Exposures<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// Whether the policies of a governed table are read, by its declaration.
    pub is_wanted: &'a dyn Fn(Option<&TableDecl>) -> bool,
    /// How long that may take.
    pub most: Duration,
}

/// Adds to a snapshot of a part of the catalog what the policies of some governed tables let
/// clients reach. Returns the tables for which there is no more time. `earlier`: the state is an
/// earlier one, and these names stand for something else now.
#[must_use]
pub fn add_exposures(
    state: &State,
    earlier: Option<&MovedNames>,
    snapshot: &mut Snapshot,
    read: &Exposures<'_>,
) -> Vec<Oid> {
    if snapshot.policies.is_empty() {
        return Vec::new();
    }
    let access = Access::new(snapshot);
    let cx = Context::new(read.contract, snapshot, &access, &interrupts);
    let catalog = mentioned(state, earlier, snapshot, &access);
    let of = (&catalog, &read.contract.identities());
    let (found, unread) = exposures_of_clients(state, &cx, of, read.is_wanted, Some(read.most));
    snapshot.exposures = found;
    unread
}

/// Adds to a snapshot of a part of the catalog what the bodies of its SECURITY DEFINER routines let
/// clients do; `earlier` as for [`add_exposures`].
pub fn add_definer_bodies(
    state: &State,
    earlier: Option<&MovedNames>,
    contract: &Contract,
    snapshot: &mut Snapshot,
) {
    let access = Access::new(snapshot);
    let cx = Context::new(contract, snapshot, &access, &interrupts);
    let catalog = mentioned(state, earlier, snapshot, &access);
    let found = definer_bodies(state, &cx, (&catalog, &contract.identities()));
    snapshot.definer_bodies = found;
}

/// Returns the catalog in a state, for the guard: others may wait for it.
fn mentioned<'a>(
    state: &'a State,
    earlier: Option<&'a MovedNames>,
    snapshot: &'a Snapshot,
    access: &'a Access<'a>,
) -> Mentioned<'a> {
    match earlier {
        Some(moved) => Mentioned::earlier(state, Rights::earlier(state, snapshot, access), moved),
        None => Mentioned::without_waiting(state),
    }
}

/// Adds to a snapshot what the parts of all its objects use.
pub fn with_parts(state: &State, mut snapshot: Snapshot) -> Snapshot {
    dependencies::add_all(state, &mut snapshot);
    snapshot
}

/// Returns a snapshot with what leads to some of its objects: which parts of objects use them.
pub fn with_users(state: &State, snapshot: &Snapshot, objects: &[ObjectId]) -> Snapshot {
    let settings = roles::settings(state, &snapshot.database.name);
    let mut snapshot = Snapshot { settings, ..snapshot.clone() };
    dependencies::add_leading_to(state, &mut snapshot, objects);
    snapshot
}

/// Reads everything that the rules check, without what the parts of objects use.
pub fn objects_of(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = without_bodies(state, contract, own);
    bodies::read(state, contract, &|_| true, &mut snapshot);
    snapshot
}

/// Reads what [`objects_of`] does, without the bodies of routines.
fn without_bodies(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = base(state);
    let governed = governed(&snapshot, contract);
    let open = open(&snapshot, contract);
    let toast = objects::relations(state, &governed, &open, &mut snapshot);
    objects::view_sources(state, &open, &mut snapshot);
    code::read(state, contract, &mut snapshot);
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    server_objects::read(state, contract, &toast, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::all(state, &governed, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.settings = roles::settings(state, &snapshot.database.name);
    routines::named_in_settings(state, &mut snapshot);
    snapshot.complete()
}

/// Reads everything that the assessment of search paths needs, with the contents of all schemas.
pub fn for_paths(state: &State) -> Snapshot {
    let mut snapshot = base(state);
    objects::relations(state, &HashSet::new(), &HashSet::new(), &mut snapshot);
    objects::extensions(state, &mut snapshot);
    routines::all(state, &HashSet::new(), &mut snapshot);
    snapshot.complete()
}

/// Reads some relations and routines, with their policies and extensions and nothing else, at a
/// cost that does not depend on the size of the catalog. [`around`] adds the rest.
pub fn part(state: &State, relations: &[Oid], routines: &[Oid]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    objects::some_relations(state, relations, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::some(state, routines, &mut snapshot);
    snapshot
}

/// Adds to a part everything else that checking it needs: roles and schemas, from `base`,
/// extensions and default privileges. The contents of schemas are read by [`super::contents`].
pub fn around(part: Snapshot, base: Snapshot, state: &State) -> Snapshot {
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

/// Reads what depends on some schemas, which are in `base`: their relations, where the contract
/// governs them or clients may reach them, their routines, and the SECURITY DEFINER routines whose
/// search_path contains one of the names; and some other relations and routines. The contents of
/// schemas are read by [`super::contents`].
pub fn concerning(
    state: &State,
    base: Snapshot,
    contract: &Contract,
    wanted: &Concerning<'_>,
) -> Snapshot {
    let mut snapshot = base;
    let concerning = wanted;
    let Concerning { schemas, relations, .. } = *wanted;
    let open = open(&snapshot, contract);
    let wanted: HashSet<Oid> = governed(&snapshot, contract)
        .union(&open)
        .copied()
        .filter(|schema| schemas.contains(schema))
        .collect();
    objects::relations_in(state, &wanted, relations, &mut snapshot);
    objects::view_sources(state, &open, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::searching(state, concerning, &mut snapshot);
    let temporary: HashSet<Oid> =
        snapshot.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    snapshot.routines.retain(|r| !temporary.contains(&r.schema));
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    roles::anonymous(state, &mut snapshot);
    snapshot.complete()
}

/// Reads one routine; `None` where it does not exist or is in a temporary schema.
pub fn routine(state: &State, oid: Oid) -> Option<Routine> {
    let mut snapshot = Snapshot::default();
    objects::schemas(state, &mut snapshot);
    around(part(state, &[], &[oid]), snapshot, state).routines.pop()
}

/// A part of what [`current_base`] returns, until one of its catalogs changes.
#[derive(Debug)]
struct Cached {
    snapshot: RefCell<Option<Rc<Snapshot>>>,
    /// Whether one of its catalogs has changed since it was read.
    is_changed: Cell<bool>,
}

impl Cached {
    const fn new() -> Self {
        Self { snapshot: RefCell::new(None), is_changed: Cell::new(false) }
    }

    fn forget(&self) {
        self.snapshot.replace(None);
        self.is_changed.set(true);
    }

    /// Returns it as it was read last, or reads it.
    fn get(&self, read: impl FnOnce() -> Snapshot) -> Rc<Snapshot> {
        let known = self.snapshot.borrow().clone();
        known.unwrap_or_else(|| {
            // Changes whose invalidations have been processed are committed, and the state taken
            // now shows them. A change that is reported during the read may be missing, so that
            // the result is not cached then.
            self.is_changed.set(false);
            let snapshot = Rc::new(read());
            if !self.is_changed.get() {
                self.snapshot.replace(Some(Rc::clone(&snapshot)));
            }
            snapshot
        })
    }
}

thread_local! {
    /// Roles, memberships and the database.
    static ROLES: Cached = const { Cached::new() };
    /// The same with schemas.
    static BASE: Cached = const { Cached::new() };
}

/// Reads roles, memberships, the database and schemas.
pub fn base(state: &State) -> Snapshot {
    let mut snapshot = without_schemas(state);
    objects::schemas(state, &mut snapshot);
    snapshot
}

/// Reads roles, memberships and the database.
fn without_schemas(state: &State) -> Snapshot {
    let cuts_names = crate::pg::text::is_utf8();
    let mut snapshot = Snapshot { version: VERSION, cuts_names, ..Snapshot::default() };
    roles::read(state, &mut snapshot);
    snapshot
}

/// Returns the current [`base`] with its index, which is read again only after a change: a server
/// can have thousands of roles. Snapshots that are made of it share the roles and their index.
///
/// A committing transaction sends its invalidations before it releases its locks. So the result
/// contains everything that was committed by an earlier holder of the commit lock.
pub fn current_base() -> Rc<Snapshot> {
    // SAFETY: processes the invalidations of other sessions.
    unsafe { pgrx::pg_sys::AcceptInvalidationMessages() };
    let roles = || without_schemas(&State::now()).with_roles_and_schemas();
    let base = || with_schemas(&ROLES.with(|cached| cached.get(roles)), &State::now());
    BASE.with(|cached| cached.get(base))
}

/// Returns a snapshot with the roles of another one and with the schemas in a state.
pub fn with_schemas(roles: &Snapshot, state: &State) -> Snapshot {
    let mut snapshot = Snapshot { schemas: Shared::default(), ..roles.clone() };
    objects::schemas(state, &mut snapshot);
    snapshot.with_roles_and_schemas()
}

/// Discards what [`current_base`] has cached, after a change of roles, memberships or the database.
pub fn forget_base() {
    ROLES.with(Cached::forget);
    BASE.with(Cached::forget);
}

/// Does the same after a change of a schema.
pub fn forget_schemas() {
    BASE.with(Cached::forget);
}

/// Returns the schemas that neither the contract governs nor the platform manages, and that other
/// roles than their owner may use. Clients may reach governed data through the objects in them.
fn open(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
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
fn governed(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    snapshot.schemas.iter().filter(|s| contract.schema(&s.name).is_some()).map(|s| s.oid).collect()
}

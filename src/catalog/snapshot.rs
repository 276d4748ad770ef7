//! Snapshots of the whole catalog, or of the part that a check needs.

use super::moved_names::MovedNames;
use super::rights::Now;
use super::text_body::InServer;
use super::{Own, known_routines, objects, roles, routines};
use crate::pg::heap::{State, interrupts};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::{Contract, TableDecl};
use dragonfly_core::rules::{Context, Reads};
use dragonfly_reader::definer_bodies::definer_bodies;
use dragonfly_reader::exposures::exposures_of_clients;
use dragonfly_reader::expressions::Mentioned;
use dragonfly_reader::policies;
use dragonfly_reader::routines::Concerning;
use dragonfly_reader::snapshot::{
    self, Needed, around, governed, open, part, with_schemas, without_schemas,
};
use dragonfly_reader::{ByRows, State as _};
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

/// Reads what the rules of an audit check as it is now. `needed` is asked once roles, schemas,
/// objects and their privileges have been read.
pub fn for_audit<'a>(
    state: &State,
    contract: &Contract,
    own: &Own,
    needed: impl FnOnce(&Snapshot) -> Needed<'a>,
) -> Snapshot {
    snapshot::for_audit(state, contract, Some(own), needed)
}

/// Reads everything that the rules check, without what the parts of objects use.
pub fn objects_of(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    snapshot::objects_of(state, contract, Some(own))
}

/// Returns the current catalog, with the texts of functions as the server reads them. That locks
/// the tables in them.
pub fn mentioned(state: &State) -> Mentioned<'_> {
    Mentioned::new(state, Box::new(Now), state.texts())
}

/// Reads what [`objects_of`] does, with what policies let clients reach.
pub fn with_exposures(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = objects_of(state, contract, own);
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let (catalog, identities) = (mentioned(state), contract.identities());
    let of = (&catalog, &identities);
    let (exposures, _) = exposures_of_clients(state, &cx, of, &|_| true, None);
    snapshot.exposures = exposures;
    snapshot
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
    let catalog = mentioned_in(state, earlier, snapshot, &access);
    let of = (&catalog, &read.contract.identities());
    let (found, unread) = exposures_of_clients(state, &cx, of, read.is_wanted, Some(read.most));
    drop(catalog);
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
    let catalog = mentioned_in(state, earlier, snapshot, &access);
    let found = definer_bodies(state, &cx, (&catalog, &contract.identities()));
    drop(catalog);
    snapshot.definer_bodies = found;
}

/// Returns the catalog in a state, for the guard: others may wait for it, so that it hardly waits
/// for locks.
///
/// Of an earlier state, roles may do what they could do then. The server reads a text with the
/// names of now: nothing is known of one that mentions a name which stood for something else then.
fn mentioned_in<'a>(
    state: &'a State,
    earlier: Option<&'a MovedNames>,
    snapshot: &'a Snapshot,
    access: &'a Access<'a>,
) -> Mentioned<'a> {
    let texts = InServer::in_state(state).without_waiting();
    match earlier {
        Some(moved) => {
            let rights = Box::new(ByRows::new(state, snapshot, access));
            Mentioned::new(state, rights, Some(Box::new(texts.without(moved))))
        }
        None => Mentioned::new(state, Box::new(Now), Some(Box::new(texts))),
    }
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
    let Concerning { schemas, names, relations, searching, .. } = *wanted;
    let known = (searching.is_none() && state.is_current() && !names.contains("pg_catalog"))
        .then(|| known_routines::searching(names, &snapshot));
    let concerning = &Concerning { searching: searching.or(known.as_ref()), ..*wanted };
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

/// Discards what [`current_base`] has cached, after a change of roles, memberships or the database.
pub fn forget_base() {
    ROLES.with(Cached::forget);
    BASE.with(Cached::forget);
}

/// Does the same after a change of a schema.
pub fn forget_schemas() {
    BASE.with(Cached::forget);
}

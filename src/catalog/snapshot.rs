//! Snapshots: the whole catalog, or as much of it as a check takes.

use super::{Own, guard, objects, policies, roles, routines};
use crate::pg::VERSION;
use crate::pg::heap::State;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::Contract;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// Everything that the rules look at.
pub fn full(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = base(state);
    let governed = governed(&snapshot, contract);
    objects::relations(state, &governed, &mut snapshot);
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::all(state, &governed, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.complete()
}

/// What judging search paths takes, with everything that schemas hold.
pub fn for_paths(state: &State) -> Snapshot {
    let mut snapshot = base(state);
    objects::relations(state, &HashSet::new(), &mut snapshot);
    objects::extensions(state, &mut snapshot);
    routines::all(state, &HashSet::new(), &mut snapshot);
    snapshot.complete()
}

/// A few relations and routines, with their policies and extensions, at a cost that does not grow
/// with the number of routines or tables there are. Nothing else: [`around`] adds that.
pub fn part(state: &State, relations: &[Oid], routines: &[Oid]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    objects::some_relations(state, relations, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::some(state, routines, &mut snapshot);
    snapshot
}

/// What judging a part takes, added to it: roles and schemas, which `base` has read, extensions and
/// default privileges. The contents of schemas are left to [`super::contents`].
pub fn around(part: Snapshot, base: Snapshot, state: &State) -> Snapshot {
    let Snapshot {
        relations,
        policies,
        mut routines,
        routine_extension,
        relation_extension,
        types,
        ..
    } = part;
    // Only the session itself can call what is in its temporary schema, for nothing that lasts may
    // refer to it. (A schema that was temporary may be renamed.)
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
        ..base
    };
    objects::extension_names(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    snapshot.complete()
}

/// What [`concerning`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Concerning<'a> {
    /// The schemas.
    pub schemas: &'a HashSet<Oid>,
    /// The names that they have, or had.
    pub names: &'a HashSet<String>,
    /// These relations, wherever they are.
    pub relations: &'a HashSet<Oid>,
    /// These routines, wherever they are.
    pub routines: &'a HashSet<Oid>,
}

/// What has to do with some schemas, which `base` has read with all others: what is in them as far
/// as the contract governs them, what is SECURITY DEFINER in them or searches them, by OID or by
/// name; and some relations and routines. The contents of schemas are left to [`super::contents`].
pub fn concerning(
    state: &State,
    base: Snapshot,
    contract: &Contract,
    own: &Own,
    wanted: &Concerning<'_>,
) -> Snapshot {
    let mut snapshot = base;
    let Concerning { schemas, names, relations, routines } = *wanted;
    let governed: HashSet<Oid> =
        governed(&snapshot, contract).intersection(schemas).copied().collect();
    objects::relations_in(state, &governed, relations, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::searching(state, names, schemas, routines, &mut snapshot);
    let temporary: HashSet<Oid> =
        snapshot.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    snapshot.routines.retain(|r| !temporary.contains(&r.schema));
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.complete()
}

/// One routine as it is; `None` where it is not there, or in a temporary schema.
pub fn routine(state: &State, oid: Oid) -> Option<Routine> {
    let mut snapshot = Snapshot::default();
    objects::schemas(state, &mut snapshot);
    around(part(state, &[], &[oid]), snapshot, state).routines.pop()
}

thread_local! {
    /// What [`current_base`] has read last, until something of it changes.
    static BASE: RefCell<Option<Rc<Snapshot>>> = const { RefCell::new(None) };
    static BASE_CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// Roles, memberships, the database, schemas.
pub fn base(state: &State) -> Snapshot {
    let cuts_names = crate::pg::text::is_utf8();
    let mut snapshot = Snapshot { version: VERSION, cuts_names, ..Snapshot::default() };
    roles::read(state, &mut snapshot);
    objects::schemas(state, &mut snapshot);
    snapshot
}

/// The same as it is now, read again only where something of it has changed since: a server can
/// have thousands of roles.
///
/// Whoever commits a change tells the others before it lets go of its locks. So nothing that has
/// been committed in an earlier turn of the guard's is missing here.
pub fn current_base() -> Snapshot {
    // SAFETY: takes in what others have told since.
    unsafe { pgrx::pg_sys::AcceptInvalidationMessages() };
    let known = BASE.with_borrow(Option::clone).unwrap_or_else(|| {
        // What others told us of was committed before we look: the state must be no older than what
        // we know. What they tell us while we read may be in it or not, and so it is not kept.
        BASE_CHANGED.set(false);
        let base = Rc::new(base(&State::now()));
        if !BASE_CHANGED.get() {
            BASE.set(Some(Rc::clone(&base)));
        }
        base
    });
    (*known).clone()
}

/// Something has changed of what [`current_base`] reads.
pub fn forget_base() {
    BASE.set(None);
    BASE_CHANGED.set(true);
}

/// The governed schemas that exist.
fn governed(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    snapshot.schemas.iter().filter(|s| contract.schema(&s.name).is_some()).map(|s| s.oid).collect()
}

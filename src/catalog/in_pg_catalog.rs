//! The objects in `pg_catalog` that do not belong to the server. They are in every search_path, and
//! no dependency leads from the schema to them, so that finding them takes a pass over whole
//! catalogs. Nearly always there are none, which a session determines once; after that it looks at
//! the objects for which the server has reported a change.

use dragonfly_core::catalog::{ContentKind, Oid};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Owners and kinds of objects, by catalog and OID.
pub type Objects = HashMap<(Oid, Oid), (Oid, ContentKind)>;

/// The objects, as far as they are known.
#[derive(Debug, Default)]
struct Known {
    objects: Objects,
    /// The objects, of any schema, that have changed since.
    changed: HashSet<(Oid, Oid)>,
}

/// The number of changed objects from which on the catalogs are read again.
const MOST_CHANGED: usize = 10_000;

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// Records that an object of a catalog may have changed, 0 for any object.
pub fn changed(catalog: Oid, object: Oid) {
    KNOWN.with_borrow_mut(|known| {
        if let Some(all) = known {
            if object == 0 || all.changed.len() >= MOST_CHANGED {
                *known = None;
            } else {
                all.changed.insert((catalog, object));
            }
        }
    });
}

/// Returns the owners and kinds of the objects in `pg_catalog`, in the current state, without the
/// bootstrap superuser, which every role trusts and which owns thousands. `read` returns them from
/// all catalogs, and `look_up` one of them; both may return any owner.
pub fn owners(
    read: &dyn Fn() -> Objects,
    look_up: &dyn Fn(Oid, Oid) -> Option<(Oid, ContentKind)>,
) -> HashSet<(Oid, ContentKind)> {
    let distinct = |objects: &Objects| objects.values().copied().collect();
    // SAFETY: processes the invalidations of other sessions.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    if KNOWN.with_borrow(Option::is_none) {
        // What changes from now on is looked at afterwards.
        KNOWN.set(Some(Known::default()));
        let mut objects = read();
        objects.retain(|_, (owner, _)| is_counted(*owner));
        let is_known = KNOWN.with_borrow(Option::is_some);
        if !is_known {
            return distinct(&objects);
        }
        KNOWN.with_borrow_mut(|known| known.get_or_insert_default().objects = objects);
    }
    // A look at an object may report changes of others.
    while let Some(changed) = next_changed() {
        let (catalog, oid) = changed;
        let object = look_up(catalog, oid).filter(|(owner, _)| is_counted(*owner));
        KNOWN.with_borrow_mut(|known| match (known, object) {
            (Some(known), Some(object)) => drop(known.objects.insert(changed, object)),
            (Some(known), None) => drop(known.objects.remove(&changed)),
            (None, _) => {}
        });
    }
    let known = KNOWN.with_borrow(|known| known.as_ref().map(|known| distinct(&known.objects)));
    known.unwrap_or_else(|| {
        let mut objects = read();
        objects.retain(|_, (owner, _)| is_counted(*owner));
        distinct(&objects)
    })
}

fn next_changed() -> Option<(Oid, Oid)> {
    KNOWN.with_borrow_mut(|known| {
        let changed = &mut known.as_mut()?.changed;
        let next = changed.iter().next().copied()?;
        changed.take(&next)
    })
}

fn is_counted(owner: Oid) -> bool {
    owner != pg_sys::BOOTSTRAP_SUPERUSERID
}

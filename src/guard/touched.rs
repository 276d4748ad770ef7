//! What a transaction has touched, and which of it has yet to be judged.
//!
//! Three things of the server tell, wherever a command came from: the object access hook (routines,
//! extensions, event triggers; it is called after the catalog row is written, objectaccess.h), and
//! the invalidations of the caches of relations and catalogs, which every change of a row sends to
//! its own backend too, no later than the next command counter increment (inval.c): GRANT, policies
//! and row security among them. Others' changes arrive the same way; what is noted for them is the
//! same before and after, and judged to be no change.
//!
//! What was touched stays noted until the transaction ends: commands nest, and a nested command's
//! end must not let the outer one go unjudged. What a subtransaction did, touching or judging, is
//! undone with it.

use super::{act, transaction};
use crate::catalog;
use crate::settings;
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;

/// Something that a transaction may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Touch {
    /// A routine.
    Routine(Oid),
    /// A table, view or sequence; or an index or what else has a row in `pg_class`.
    Relation(Oid),
    /// A type or an operator, by its catalog.
    Other(Oid, Oid),
    /// An extension: its members.
    Extension(Oid),
    /// An event trigger, or something else that the guard lives by and no cache tells of.
    Own,
    /// Anything else that may come to rest on something temporary, by its catalog.
    Object(Oid, Oid),
    /// Rows of a catalog, written directly.
    Catalogs,
    /// Some schema.
    Schemas,
    /// Some default privileges.
    DefaultAcls,
    /// Some role, membership or database.
    Roles,
}

/// Everything touched in this transaction.
#[derive(Debug, Default)]
struct Log {
    /// With the subtransaction of the first touch.
    touched: HashMap<Touch, pg_sys::SubTransactionId>,
    /// Touched, or their assessment undone, since they were judged.
    dirty: HashSet<Touch>,
    /// Which subtransaction touched or judged what, in that order: a subtransaction's own entries
    /// are always the last.
    journal: Vec<(pg_sys::SubTransactionId, Touch)>,
}

thread_local! {
    static LOG: RefCell<Log> = RefCell::default();
    static PREVIOUS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// What has yet to be judged.
pub fn unjudged() -> Vec<Touch> {
    LOG.with_borrow(|log| log.dirty.iter().copied().collect())
}

/// Everything that has been touched.
pub fn all() -> Vec<Touch> {
    LOG.with_borrow(|log| log.touched.keys().copied().collect())
}

/// Notes that those have been judged, and may stay as they are.
pub fn judged(touched: &[Touch]) {
    let now = subtransaction();
    LOG.with_borrow_mut(|log| {
        for touch in touched {
            log.dirty.remove(touch);
            log.journal.push((now, *touch));
        }
    });
}

/// The transaction is over.
pub fn forget() {
    LOG.with_borrow_mut(|log| {
        if !log.journal.is_empty() {
            *log = Log::default();
        }
    });
}

fn subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Hangs itself into the hook, in front of whoever is there already, and asks to be told of
/// changes.
pub fn install() {
    // SAFETY: called once, when the library is loaded, by a backend's only thread.
    unsafe {
        PREVIOUS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
        let none = pg_sys::Datum::null();
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        use pg_sys::SysCacheIdentifier::{
            AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, NAMESPACEOID,
        };
        use pg_sys::SysCacheIdentifier::{EVENTTRIGGEROID, PARAMETERACLOID};
        for cache in [AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, NAMESPACEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), none);
        }
        if settings::is_hardened() {
            for cache in [EVENTTRIGGEROID, PARAMETERACLOID] {
                pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), none);
            }
        }
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut());
    }
}

/// This frame holds nothing that would have to be dropped, so that an error of the other hook may
/// leave it by the server's own way.
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut c_void,
) {
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: the hook that was there, with what the server gave.
        unsafe { previous(access, class, object, sub, argument) };
    }
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    if matches!(access, OAT_POST_CREATE | OAT_POST_ALTER | OAT_DROP) {
        // SAFETY: asks nothing of its arguments.
        unsafe { object_changed(class, object, access == OAT_DROP) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(class: pg_sys::Oid, object: pg_sys::Oid, dropped: bool) {
    // ON COMMIT DROP, after everything has been judged, takes along what depends on the table.
    // (What else lasts and depends on the table is the affair of whoever made it so.)
    if dropped
        && transaction::is_committing()
        && settings::mode() == settings::Mode::block
        && matches!(
            class.to_u32(),
            catalog::PG_EXTENSION | catalog::PG_NAMESPACE | catalog::PG_POLICY
        )
        && catalog::temporary::outlives(class, object)
    {
        act::dropped_at_commit(&catalog::description(class, object));
    }
    match class.to_u32() {
        // A sequence that is given to a column, or taken from it, changes nothing in any cache.
        catalog::PG_CLASS if !dropped => note(Touch::Relation(object.to_u32())),
        catalog::PG_TYPE | catalog::PG_OPERATOR if !dropped => {
            note(Touch::Other(class.to_u32(), object.to_u32()))
        }
        catalog::PG_PROC => note(Touch::Routine(object.to_u32())),
        catalog::PG_EXTENSION => note(Touch::Extension(object.to_u32())),
        catalog::PG_EVENT_TRIGGER => note(Touch::Own),
        catalog::PG_CAST | catalog::PG_CONSTRAINT if !dropped => {
            note(Touch::Object(class.to_u32(), object.to_u32()))
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // What initdb made is no matter of the contract's; 0 is a reset of everything, and never the
    // only word about a change of one's own.
    if relation.to_u32() >= pg_sys::FirstNormalObjectId && may_change() {
        note(Touch::Relation(relation.to_u32()));
    }
}

#[pg_guard]
#[allow(clippy::unnecessary_cast)]
unsafe extern "C-unwind" fn catalog_changed(_argument: pg_sys::Datum, cache: i32, _hash: u32) {
    use pg_sys::SysCacheIdentifier::{
        AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, EVENTTRIGGEROID, NAMESPACEOID,
        PARAMETERACLOID,
    };
    if matches!(
        cache as pg_sys::SysCacheIdentifier::Type,
        AUTHMEMROLEMEM | AUTHOID | DATABASEOID | NAMESPACEOID
    ) {
        catalog::forget_base();
    }
    if may_change() {
        note(match cache as pg_sys::SysCacheIdentifier::Type {
            NAMESPACEOID => Touch::Schemas,
            DEFACLROLENSPOBJ => Touch::DefaultAcls,
            EVENTTRIGGEROID | PARAMETERACLOID => Touch::Own,
            _ => Touch::Roles,
        });
    }
}

/// Whether this transaction may have changed a catalog: it has a number of its own, and is not just
/// being rolled back.
pub fn may_change() -> bool {
    // SAFETY: reads the state of the transaction.
    unsafe {
        pg_sys::IsTransactionState()
            && pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId
    }
}

/// Notes a routine that a statement names.
pub fn note_routine(routine: Oid) {
    if routine != 0 {
        note(Touch::Routine(routine));
    }
}

/// Notes that something has been touched.
pub fn note(touch: Touch) {
    let now = subtransaction();
    LOG.with_borrow_mut(|log| {
        let first = *log.touched.entry(touch).or_insert(now);
        // Dirty since this very subtransaction touched it first: the journal says so already.
        if log.dirty.insert(touch) || first != now {
            log.journal.push((now, touch));
        }
    });
}

/// What a subtransaction touched first goes with it when it aborts; what it touched or judged again
/// must be judged again. When it commits, it was its parent.
#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    own: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    LOG.with_borrow_mut(|log| {
        let start = log.journal.iter().rposition(|(id, _)| *id != own).map_or(0, |last| last + 1);
        match event {
            SUBXACT_EVENT_ABORT_SUB => {
                for (_, touch) in log.journal.split_off(start) {
                    if log.touched.get(&touch) == Some(&own) {
                        log.touched.remove(&touch);
                        log.dirty.remove(&touch);
                    } else if log.touched.contains_key(&touch) {
                        log.dirty.insert(touch);
                    }
                }
            }
            SUBXACT_EVENT_COMMIT_SUB => {
                for (id, touch) in &mut log.journal[start..] {
                    *id = parent;
                    if let Some(first) = log.touched.get_mut(touch).filter(|first| **first == own) {
                        *first = parent;
                    }
                }
            }
            _ => {}
        }
    });
}

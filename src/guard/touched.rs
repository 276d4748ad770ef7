//! Which routines a transaction has touched, what they were before it, and which of them have yet to be judged.
//!
//! The server calls the object access hook for every routine that is created or altered, wherever the command came from. It does so after
//! the catalog row is written and before the command's own changes become visible, so that the system cache still shows the routine as
//! it was (objectaccess.h). A few commands change what a routine is without touching it: it is noted by what they do touch, its schema or its
//! extension.
//!
//! A routine stays noted until the transaction ends, with what it was before the first touch: commands nest, and a nested command's end
//! must not let the outer one go unjudged. What a subtransaction did, touching or judging, is undone with it.

use crate::scan::{self, Before};
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;

/// A routine that has been touched in this transaction.
#[derive(Debug)]
struct Touched {
    /// `None`: it did not exist.
    before: Option<Before>,
    /// The subtransaction of the first touch.
    first: pg_sys::SubTransactionId,
    /// Noted by its schema or extension alone, which does not keep others from altering it.
    from_afar: bool,
}

/// Everything touched in this transaction.
#[derive(Debug, Default)]
struct Log {
    routines: HashMap<Oid, Touched>,
    /// Touched, or their judgment undone, since they were judged.
    dirty: HashSet<Oid>,
    /// Which subtransaction touched or judged which routine, in that order: a subtransaction's own entries are always the last.
    journal: Vec<(pg_sys::SubTransactionId, Oid)>,
}

thread_local! {
    static LOG: RefCell<Log> = RefCell::default();
    static PREVIOUS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// The routines that have yet to be judged, each with what it was before this transaction.
pub fn unjudged() -> HashMap<Oid, Option<Before>> {
    LOG.with_borrow(|log| {
        let entry = |oid: &Oid| log.routines.get(oid).map(|touched| (*oid, touched.before.clone()));
        log.dirty.iter().filter_map(entry).collect()
    })
}

/// Notes that those have been judged, and may stay as they are.
pub fn judged(routines: impl Iterator<Item = Oid>) {
    let now = subtransaction();
    LOG.with_borrow_mut(|log| {
        for routine in routines {
            log.dirty.remove(&routine);
            log.journal.push((now, routine));
        }
    });
}

fn subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Hangs itself into the hook, in front of whoever is there already.
pub fn install_hook() {
    // SAFETY: called once, when the library is loaded, by a backend's only thread.
    unsafe {
        PREVIOUS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
        pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut());
    }
}

#[pg_guard]
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
    use pg_sys::ObjectAccessType::{OAT_POST_ALTER, OAT_POST_CREATE};
    match class {
        pg_sys::ProcedureRelationId if access == OAT_POST_CREATE || access == OAT_POST_ALTER => note(object.to_u32(), false),
        // A routine whose schema gets another name is no longer excused by the old one.
        pg_sys::NamespaceRelationId if access == OAT_POST_ALTER => {
            scan::routines_of_schema(object.to_u32()).into_iter().for_each(|routine| note(routine, true))
        }
        _ => {}
    }
}

/// Notes the members of an extension before a command that may let one of them go: no hook tells which.
pub fn note_members(extension: Oid) {
    scan::routines_of_extension(extension).into_iter().for_each(|routine| note(routine, true));
}

/// Remembers a routine as it was when the transaction first touched it.
fn note(routine: Oid, from_afar: bool) {
    let now = subtransaction();
    // Reads the catalog, and so must not happen while the log is borrowed.
    let read = LOG.with_borrow(|log| log.routines.get(&routine).is_none_or(|known| known.from_afar && !from_afar));
    let current = if read { Before::now(routine) } else { None };
    LOG.with_borrow_mut(|log| {
        log.dirty.insert(routine);
        log.journal.push((now, routine));
        let Some(known) = log.routines.get_mut(&routine) else {
            log.routines.insert(routine, Touched { before: current, first: now, from_afar });
            return;
        };
        if read {
            // Others may have altered it since; but what excused it then is no excuse now.
            known.from_afar = false;
            if let (Some(before), Some(current)) = (&mut known.before, current) {
                (before.owner, before.security_definer, before.config) =
                    (current.owner, current.security_definer, current.config);
            }
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        LOG.set(Log::default());
    }
}

/// What a subtransaction touched first goes with it when it aborts; what it touched or judged again must be judged again. When it
/// commits, it was its parent.
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
                for (_, routine) in log.journal.split_off(start) {
                    if log.routines.get(&routine).is_some_and(|touched| touched.first == own) {
                        log.routines.remove(&routine);
                        log.dirty.remove(&routine);
                    } else if log.routines.contains_key(&routine) {
                        log.dirty.insert(routine);
                    }
                }
            }
            SUBXACT_EVENT_COMMIT_SUB => {
                for (id, routine) in &mut log.journal[start..] {
                    *id = parent;
                    if let Some(touched) = log.routines.get_mut(routine).filter(|touched| touched.first == own) {
                        touched.first = parent;
                    }
                }
            }
            _ => {}
        }
    });
}

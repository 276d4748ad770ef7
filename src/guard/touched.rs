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
use std::collections::HashMap;
use std::ffi::c_void;

/// A routine that has been touched in this transaction.
#[derive(Debug)]
struct Touched {
    /// `None`: it did not exist.
    before: Option<Before>,
    /// Touched, or its judgment undone, since it was judged.
    dirty: bool,
    /// The subtransactions of the first touch, and of the last touch or judgment.
    first: pg_sys::SubTransactionId,
    last: pg_sys::SubTransactionId,
}

thread_local! {
    static TOUCHED: RefCell<HashMap<Oid, Touched>> = RefCell::default();
    static PREVIOUS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// The routines that have yet to be judged, each with what it was before this transaction.
pub fn unjudged() -> HashMap<Oid, Option<Before>> {
    TOUCHED.with_borrow(|touched| touched.iter().filter(|(_, t)| t.dirty).map(|(oid, t)| (*oid, t.before.clone())).collect())
}

/// Notes that those have been judged, and may stay as they are.
pub fn judged(routines: impl Iterator<Item = Oid>) {
    let now = subtransaction();
    TOUCHED.with_borrow_mut(|touched| {
        for routine in routines {
            if let Some(entry) = touched.get_mut(&routine) {
                (entry.dirty, entry.last) = (false, now);
            }
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
        pg_sys::ProcedureRelationId if access == OAT_POST_CREATE || access == OAT_POST_ALTER => note(object.to_u32()),
        // A routine whose schema gets another name is no longer excused by the old one.
        pg_sys::NamespaceRelationId if access == OAT_POST_ALTER => {
            scan::routines_of_schema(object.to_u32()).into_iter().for_each(note)
        }
        _ => {}
    }
}

/// Notes the members of an extension before a command that may let one of them go: no hook tells which.
pub fn note_members(extension: Oid) {
    scan::routines_of_extension(extension).into_iter().for_each(note);
}

/// Remembers a routine as it was when the transaction first touched it.
fn note(routine: Oid) {
    let now = subtransaction();
    let known = TOUCHED
        .with_borrow_mut(|touched| touched.get_mut(&routine).map(|entry| (entry.dirty, entry.last) = (true, now)).is_some());
    if !known {
        let before = Before::now(routine);
        let entry = Touched { before, dirty: true, first: now, last: now };
        TOUCHED.with_borrow_mut(|touched| touched.insert(routine, entry));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        TOUCHED.with_borrow_mut(HashMap::clear);
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
    TOUCHED.with_borrow_mut(|touched| match event {
        SUBXACT_EVENT_ABORT_SUB => {
            touched.retain(|_, entry| entry.first != own);
            for entry in touched.values_mut().filter(|entry| entry.last == own) {
                (entry.dirty, entry.last) = (true, parent);
            }
        }
        SUBXACT_EVENT_COMMIT_SUB => {
            for entry in touched.values_mut() {
                for id in [&mut entry.first, &mut entry.last] {
                    if *id == own {
                        *id = parent;
                    }
                }
            }
        }
        _ => {}
    });
}

//! Which routines a command has touched, and what they were before it.
//!
//! The server calls the object access hook for every routine that is created or altered, wherever the command came from. It does so after the
//! catalog row is written and before the command's own changes become visible, so that the system cache still shows the routine as it
//! was (objectaccess.h).

use crate::scan::Before;
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;

thread_local! {
    /// Touched routines since the last judgment; `None`: created by the command.
    static TOUCHED: RefCell<HashMap<Oid, Option<Before>>> = RefCell::default();
    static PREVIOUS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// Everything touched since the last call.
pub fn take() -> HashMap<Oid, Option<Before>> {
    TOUCHED.take()
}

/// Hangs itself into the hook, in front of whoever is there already.
pub fn install_hook() {
    // SAFETY: called once, when the library is loaded, by a backend's only thread.
    unsafe {
        PREVIOUS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
        pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut());
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
    if class == pg_sys::ProcedureRelationId && (access == OAT_POST_CREATE || access == OAT_POST_ALTER) {
        note(object.to_u32());
    }
}

/// Remembers a routine as it was when the command first touched it.
fn note(routine: Oid) {
    let known = TOUCHED.with_borrow(|touched| touched.contains_key(&routine));
    if !known {
        let before = Before::now(routine);
        TOUCHED.with_borrow_mut(|touched| touched.insert(routine, before));
    }
}

/// What was touched and never judged (a command that failed half-way, a trigger that was silenced) ends with its transaction.
#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE) {
        TOUCHED.with_borrow_mut(HashMap::clear);
    }
}

//! Work that waits until the transaction commits.

use super::memory;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

thread_local! {
    static WAITING: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work` once when the transaction is about to commit, and not if it is rolled back. What a
/// subtransaction has left to be done is done even if that one is rolled back.
pub fn before_commit(work: fn()) {
    if !IS_REGISTERED.replace(true) {
        // SAFETY: the callback stays valid, because the library is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) };
    }
    WAITING.with_borrow_mut(|waiting| {
        // Function pointers are compared by address: the same work is done once.
        if !waiting.iter().any(|known| std::ptr::fn_addr_eq(*known, work)) {
            waiting.push(work);
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            let work = WAITING.take();
            if !work.is_empty() {
                memory::guarded(|| work.iter().for_each(|work| work()));
            }
        }
        XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE => drop(WAITING.take()),
        _ => {}
    }
}

//! Whether calls of a function reach it. An extension of a platform can replace the functions of
//! event triggers by ones that do nothing, for some roles (supautils does, by `fmgr_hook`). The
//! function is called as the server calls it for an event trigger, for an event that does not
//! exist: no statement is executed, and no other event trigger is called.

use super::call::Call;
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::cell::Cell;

/// The event of the probe.
const EVENT: &std::ffi::CStr = c"dragonfly_guard_probe";

thread_local! {
    static IS_REACHED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a call of a function of an event trigger reaches it; it must pass the call to
/// [`answers`] first.
pub fn reaches(function: Oid) -> bool {
    IS_REACHED.set(false);
    // SAFETY: the function information and the event live as long as the call, which passes no
    // arguments. The structures are valid when zeroed, and their tags are set.
    unsafe {
        let mut information: pg_sys::FmgrInfo = std::mem::zeroed();
        pg_sys::fmgr_info(function.into(), &raw mut information);
        let mut event: pg_sys::EventTriggerData = std::mem::zeroed();
        event.type_ = pg_sys::NodeTag::T_EventTriggerData;
        event.event = EVENT.as_ptr();
        let mut call: pg_sys::FunctionCallInfoBaseData = std::mem::zeroed();
        call.flinfo = &raw mut information;
        call.context = (&raw mut event).cast();
        if let Some(address) = information.fn_addr {
            address(&raw mut call);
        }
    }
    IS_REACHED.get()
}

/// Whether a call is the probe's; then it has been answered.
pub fn answers(call: &Call) -> bool {
    let is_probe = call.event() == Some(EVENT);
    if is_probe {
        IS_REACHED.set(true);
    }
    is_probe
}

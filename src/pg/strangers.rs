//! Having the server read and plan what others have written, without running their code.
//!
//! Reading a literal runs the input function of its type, and with it the checks of a domain; planning a query runs functions whose arguments are
//! constant. The server asks a hook whenever it prepares a call of a function that is not built in (fmgr.c, `fmgr_info_cxt_security`): a function of
//! somebody who is not trusted is refused there, wherever it is called from.

use dragonfly_core::catalog::Oid;
use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};
use std::cell::{Cell, RefCell};

/// The hooks of others, which stay in force.
type Hooks = (pg_sys::needs_fmgr_hook_type, pg_sys::fmgr_hook_type);

thread_local! {
    /// Whose code may run.
    static TRUSTED: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
    static OTHERS: Cell<Hooks> = const { Cell::new((None, None)) };
    /// The first function that was refused.
    static REFUSED: Cell<Option<Oid>> = const { Cell::new(None) };
}

/// Puts things back as they were, after an error too.
struct Hooked {
    hooks: Hooks,
}

impl Hooked {
    fn install(trusted: Vec<Oid>) -> Self {
        TRUSTED.set(trusted);
        REFUSED.set(None);
        // SAFETY: variables of this backend, which has one thread.
        unsafe {
            let hooks = (pg_sys::needs_fmgr_hook, pg_sys::fmgr_hook);
            OTHERS.set(hooks);
            pg_sys::needs_fmgr_hook = Some(is_asked);
            pg_sys::fmgr_hook = Some(called);
            Self { hooks }
        }
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (pg_sys::needs_fmgr_hook, pg_sys::fmgr_hook) = self.hooks };
    }
}

/// Does `work`, which catches its own errors, while the code of nobody but the `trusted` runs, and built-in functions; also gives the first function that
/// was refused, with an error, for belonging to somebody else.
pub fn refused<T>(trusted: Vec<Oid>, work: impl FnOnce() -> T) -> (T, Option<Oid>) {
    let hooked = Hooked::install(trusted);
    let result = work();
    drop(hooked);
    (result, REFUSED.take())
}

fn is_strange(function: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system cache; the row is read before it is released.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        TRUSTED.with_borrow(|trusted| !trusted.contains(&owner))
    }
}

/// Whether calls of a function are to be announced.
#[pg_guard]
unsafe extern "C-unwind" fn is_asked(function: pg_sys::Oid) -> bool {
    // SAFETY: handed on as it came.
    is_strange(function) || OTHERS.get().0.is_some_and(|needs| unsafe { needs(function) })
}

/// A call is announced.
#[pg_guard]
unsafe extern "C-unwind" fn called(
    event: pg_sys::FmgrHookEventType::Type,
    call: *mut pg_sys::FmgrInfo,
    private: *mut pg_sys::Datum,
) {
    // SAFETY: the server hands what it calls; the rest is handed on as it came.
    unsafe {
        let function = (*call).fn_oid;
        if event == pg_sys::FmgrHookEventType::FHET_START && is_strange(function) {
            REFUSED.set(REFUSED.get().or(Some(function.to_u32())));
            ereport!(ERROR, PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, "somebody else's code is not run here");
        }
        if let Some(next) = OTHERS.get().1 {
            next(event, call, private);
        }
    }
}

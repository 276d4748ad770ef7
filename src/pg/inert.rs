//! Parsing and planning of untrusted SQL without executing any of its code.
//!
//! Parsing a literal executes the input function of its type, and with it the checks of a domain.
//! Planning a query executes functions with constant arguments, among them built-in functions that
//! execute whole queries; it reads data of each table; and it calls the wrappers of foreign tables,
//! which contact other servers. The server has a hook for each of these, and the hooks here block
//! them.
//!
//! The caller must exclude the cases that no hook covers: checks of domains, which may call
//! built-in functions with side effects or contain an inlined function; and the functions of range
//! types, which the server may have cached before.

use super::language::{C, INTERNAL, SQL};
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::contract::{Contract, RoleKind};
use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::c_char;

/// An execution that was blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// A user-defined function.
    Function(Oid),
    /// A query, executed by a function.
    Query,
    /// The planning of a table of an untrusted role.
    Relation(Oid),
    /// A call of the wrapper of a foreign table.
    ForeignTable(Oid),
}

/// The trusted roles.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The roles whose functions in C may be executed.
    pub superusers: HashSet<Oid>,
    /// The roles whose tables may be planned and whose functions in SQL may be inlined.
    pub owners: HashSet<Oid>,
}

impl Trust {
    /// Returns superusers and the trusted owners of a contract.
    pub fn under(contract: &Contract, snapshot: &Snapshot) -> Self {
        let trusted_owners =
            contract.roles_of(RoleKind::Owner).filter_map(|name| snapshot.role_named(name));
        let mut trust = Self::of_superusers(snapshot);
        trust.owners.extend(trusted_owners.map(|role| role.oid));
        trust
    }

    /// Returns superusers only.
    pub fn of_superusers(snapshot: &Snapshot) -> Self {
        let superusers: HashSet<Oid> =
            snapshot.roles.iter().filter(|role| role.superuser).map(|role| role.oid).collect();
        Self { owners: superusers.clone(), superusers }
    }
}

#[derive(Debug, Clone, Copy)]
struct Hooks {
    is_asked: pg_sys::needs_fmgr_hook_type,
    called: pg_sys::fmgr_hook_type,
    started: pg_sys::ExecutorStart_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
    planned: pg_sys::get_relation_info_hook_type,
}

impl Hooks {
    /// Installs these hooks and returns the previous ones.
    fn swap(self) -> Self {
        // SAFETY: variables of this backend, which has one thread.
        unsafe {
            let before = Self {
                is_asked: pg_sys::needs_fmgr_hook,
                called: pg_sys::fmgr_hook,
                started: pg_sys::ExecutorStart_hook,
                utility: pg_sys::ProcessUtility_hook,
                planned: pg_sys::get_relation_info_hook,
            };
            pg_sys::needs_fmgr_hook = self.is_asked;
            pg_sys::fmgr_hook = self.called;
            pg_sys::ExecutorStart_hook = self.started;
            pg_sys::ProcessUtility_hook = self.utility;
            pg_sys::get_relation_info_hook = self.planned;
            before
        }
    }
}

thread_local! {
    static TRUST: RefCell<Trust> = RefCell::default();
    /// The previous hooks, while those of this module are installed.
    static OTHERS: Cell<Option<Hooks>> = const { Cell::new(None) };
    /// The first execution that was blocked.
    static BLOCKED: Cell<Option<Blocked>> = const { Cell::new(None) };
}

/// Restores the previous hooks, after an error too.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(others) = OTHERS.take() {
            others.swap();
        }
    }
}

/// Executes `work` with the hooks installed, and returns its result and the first execution that
/// was blocked. A blocked execution raises an error, which `work` must catch.
pub fn inert<T>(trust: &Trust, work: impl FnOnce() -> T) -> (T, Option<Blocked>) {
    if OTHERS.get().is_some() {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "cannot parse an object while another object is being parsed"
        );
    }
    TRUST.set(trust.clone());
    BLOCKED.set(None);
    let ours = Hooks {
        is_asked: Some(is_asked),
        called: Some(called),
        started: Some(started),
        utility: Some(utility),
        planned: Some(planned),
    };
    OTHERS.set(Some(ours.swap()));
    let installed = Installed;
    let result = work();
    drop(installed);
    (result, BLOCKED.take())
}

fn block(what: Blocked) -> ! {
    BLOCKED.set(BLOCKED.get().or(Some(what)));
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        "parsing this object would execute untrusted code"
    );
}

/// Whether calls of a function are blocked: of all but built-in functions and functions of
/// superusers in C. Calls of trusted functions in SQL are allowed so that the planner can inline
/// them; the queries that they would execute are blocked.
fn is_blocked(function: pg_sys::Oid) -> bool {
    // SAFETY: a lookup in the system cache; the row is read before it is released.
    let (language, owner) = unsafe {
        let id = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let found = ((*row).prolang.to_u32(), (*row).proowner.to_u32());
        pg_sys::ReleaseSysCache(tuple);
        found
    };
    TRUST.with_borrow(|trust| match language {
        INTERNAL | C => !trust.superusers.contains(&owner),
        SQL => !trust.owners.contains(&owner),
        _ => true,
    })
}

/// Hook: whether [`called`] is called for a function (fmgr.c, `fmgr_info_cxt_security`).
#[pg_guard]
unsafe extern "C-unwind" fn is_asked(function: pg_sys::Oid) -> bool {
    let next = OTHERS.get().and_then(|others| others.is_asked);
    // SAFETY: the argument of the server is passed on unchanged.
    is_blocked(function)
        || next.is_some_and(|next| unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(function)) })
}

/// Hook: a function is called (fmgr.c, `fmgr_security_definer`).
#[pg_guard]
unsafe extern "C-unwind" fn called(
    event: pg_sys::FmgrHookEventType::Type,
    call: *mut pg_sys::FmgrInfo,
    private: *mut pg_sys::Datum,
) {
    // SAFETY: `call` is valid; the arguments of the server are passed on unchanged.
    unsafe {
        let function = (*call).fn_oid;
        if event == pg_sys::FmgrHookEventType::FHET_START && is_blocked(function) {
            block(Blocked::Function(function.to_u32()));
        }
        if let Some(next) = OTHERS.get().and_then(|others| others.called) {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(event, call, private));
        }
    }
}

/// Hook: a query is executed (execMain.c, `ExecutorStart`).
#[pg_guard]
unsafe extern "C-unwind" fn started(_query: *mut pg_sys::QueryDesc, _flags: std::ffi::c_int) {
    block(Blocked::Query);
}

/// Hook: a utility command is executed (utility.c, `ProcessUtility`), for example by a function in
/// SQL.
#[allow(clippy::too_many_arguments, reason = "the signature is that of the server's hook")]
#[pg_guard]
unsafe extern "C-unwind" fn utility(
    _statement: *mut pg_sys::PlannedStmt,
    _text: *const c_char,
    _read_only: bool,
    _context: pg_sys::ProcessUtilityContext::Type,
    _parameters: pg_sys::ParamListInfo,
    _environment: *mut pg_sys::QueryEnvironment,
    _destination: *mut pg_sys::DestReceiver,
    _completion: *mut pg_sys::QueryCompletion,
) {
    block(Blocked::Query);
}

/// Hook: a table is planned (plancat.c, `get_relation_info`).
#[pg_guard]
unsafe extern "C-unwind" fn planned(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: a lookup in the system cache; the row is read before it is released.
    let (owner, kind) = unsafe {
        let id = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let found = ((*row).relowner.to_u32(), (*row).relkind as u8);
        pg_sys::ReleaseSysCache(tuple);
        found
    };
    if kind == pg_sys::RELKIND_FOREIGN_TABLE {
        block(Blocked::ForeignTable(relation.to_u32()));
    }
    if TRUST.with_borrow(|trust| !trust.owners.contains(&owner)) {
        block(Blocked::Relation(relation.to_u32()));
    }
    if let Some(next) = OTHERS.get().and_then(|others| others.planned) {
        // SAFETY: the argument of the server is passed on unchanged.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(root, relation, is_parent, info)) };
    }
}

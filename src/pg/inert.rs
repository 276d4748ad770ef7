//! Having the server read and plan what others have written, while nothing of it runs.
//!
//! Reading a literal runs the input function of its type, and with it the checks of a domain.
//! Planning a query runs functions whose arguments are constant, among them some of the server's
//! own that run whole queries; it reads what belongs to each table; and it asks the wrappers of
//! foreign tables, which ask other servers. The server has a hook for each of that, by which it is
//! refused here.
//!
//! What no hook sees must not be there to begin with, and that is the caller's to know: the checks
//! of domains, which may call built-in functions that do something, or hold a function that was put
//! in its place before; and the functions of range types, which the server may have at hand since
//! before.

use super::language::{C, INTERNAL, SQL};
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::contract::{Contract, RoleKind};
use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::c_char;

/// What was to run, and was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A function that somebody has made.
    Function(Oid),
    /// A query, by a function that runs one.
    Query,
    /// A table of somebody's who is not trusted, which was to be planned.
    Relation(Oid),
    /// A foreign table, whose wrapper was to be asked.
    ForeignTable(Oid),
}

/// Who is trusted how far.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whose functions in C run.
    pub superusers: HashSet<Oid>,
    /// Whose tables are planned, and whose functions in SQL are put in the place of their calls.
    pub owners: HashSet<Oid>,
}

impl Trust {
    /// Superusers, and whom a contract trusts with the structure.
    pub fn under(contract: &Contract, snapshot: &Snapshot) -> Self {
        let keepers =
            contract.roles_of(RoleKind::Owner).filter_map(|name| snapshot.role_named(name));
        let mut trust = Self::of_superusers(snapshot);
        trust.owners.extend(keepers.map(|role| role.oid));
        trust
    }

    /// Superusers, and nobody else.
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
    /// Puts these in the place of those in force; gives the latter.
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
    /// The hooks of others, while ours are in force.
    static OTHERS: Cell<Option<Hooks>> = const { Cell::new(None) };
    /// What was refused first.
    static REFUSED: Cell<Option<Refused>> = const { Cell::new(None) };
}

/// Puts things back as they were, after an error too.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(others) = OTHERS.take() {
            others.swap();
        }
    }
}

/// Does `work`, which catches its own errors; also gives what was refused first, by an error.
pub fn inert<T>(trust: &Trust, work: impl FnOnce() -> T) -> (T, Option<Refused>) {
    if OTHERS.get().is_some() {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            "an object cannot be read while another one is being read"
        );
    }
    TRUST.set(trust.clone());
    REFUSED.set(None);
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
    (result, REFUSED.take())
}

fn refuse(what: Refused) -> ! {
    REFUSED.set(REFUSED.get().or(Some(what)));
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        "reading this would execute untrusted code"
    );
}

/// Whether calls of a function are refused: of all but those of superusers in C. Those in SQL run
/// queries, which are refused on their own; their calls are let be, so that the planner can put
/// what they say in their place.
fn is_refused(function: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system cache; the row is read before it is released.
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

/// Whether calls of a function are to be announced (fmgr.c, `fmgr_info_cxt_security`).
#[pg_guard]
unsafe extern "C-unwind" fn is_asked(function: pg_sys::Oid) -> bool {
    let next = OTHERS.get().and_then(|others| others.is_asked);
    // SAFETY: handed on as it came.
    is_refused(function)
        || next.is_some_and(|next| unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(function)) })
}

/// A call is announced (fmgr.c, `fmgr_security_definer`).
#[pg_guard]
unsafe extern "C-unwind" fn called(
    event: pg_sys::FmgrHookEventType::Type,
    call: *mut pg_sys::FmgrInfo,
    private: *mut pg_sys::Datum,
) {
    // SAFETY: the server hands what it calls; the rest is handed on as it came.
    unsafe {
        let function = (*call).fn_oid;
        if event == pg_sys::FmgrHookEventType::FHET_START && is_refused(function) {
            refuse(Refused::Function(function.to_u32()));
        }
        if let Some(next) = OTHERS.get().and_then(|others| others.called) {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(event, call, private));
        }
    }
}

/// A query is to be run (execMain.c, `ExecutorStart`).
#[pg_guard]
unsafe extern "C-unwind" fn started(_query: *mut pg_sys::QueryDesc, _flags: std::ffi::c_int) {
    refuse(Refused::Query);
}

/// A command is to be carried out (utility.c, `ProcessUtility`), by a function in SQL for one.
#[allow(clippy::too_many_arguments)]
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
    refuse(Refused::Query);
}

/// A table is to be planned (plancat.c, `get_relation_info`).
#[pg_guard]
unsafe extern "C-unwind" fn planned(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: a look-up in the system cache; the row is read before it is released.
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
        refuse(Refused::ForeignTable(relation.to_u32()));
    }
    if TRUST.with_borrow(|trust| !trust.owners.contains(&owner)) {
        refuse(Refused::Relation(relation.to_u32()));
    }
    if let Some(next) = OTHERS.get().and_then(|others| others.planned) {
        // SAFETY: handed on as it came.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| next(root, relation, is_parent, info)) };
    }
}

//! Settings (GUCs).

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// `dragonfly_guard.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum Mode {
    /// Refuse.
    block,
    /// A WARNING where the guard would refuse.
    warn,
    /// Let everything pass, and say so in the server log.
    off,
}

/// `dragonfly_guard.check_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum CheckAt {
    /// At the end of each statement, but for what a later one of the same transaction may still put
    /// right.
    statement,
    /// Everything when the transaction commits.
    commit,
}

static CHECK_AT: GucSetting<CheckAt> = GucSetting::<CheckAt>::new(CheckAt::statement);

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::block);

/// Defines the settings. Only a superuser, or whom one has granted SET on the parameter, can change
/// them: a value that anybody else set before the library was loaded is thrown away by the server
/// here.
pub fn define() {
    GucRegistry::define_enum_guc(
        c"dragonfly_guard.mode",
        c"What the guard does about a statement that breaks the security contract.",
        c"block: refuse it; warn: a WARNING in place of the rejection; off: let it pass, with a line in the server log.",
        &MODE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // Anybody may wait: at commit everything is judged in either case.
    GucRegistry::define_enum_guc(
        c"dragonfly_guard.check_at",
        c"When the guard judges what a transaction does.",
        c"statement: at the end of each statement, but for what a later one may still put right; commit: everything at commit.",
        &CHECK_AT,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: a static C string; called once, when the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"dragonfly_guard".as_ptr()) };
}

/// How the library came into the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preload {
    /// By the first thing that needed it.
    No,
    /// By `session_preload_libraries`, before the first statement.
    Session,
    /// By `shared_preload_libraries`, before there was a session.
    Shared,
}

static PRELOAD: OnceLock<Preload> = OnceLock::new();

/// How the library came into the session; first asked in `_PG_init`.
pub fn preload() -> Preload {
    *PRELOAD.get_or_init(|| {
        // SAFETY: reads variables of the process. Between connecting and its first statement a
        // session runs nothing but these.
        unsafe {
            if pg_sys::process_shared_preload_libraries_in_progress {
                Preload::Shared
            } else if pg_sys::debug_query_string.is_null() && !pg_sys::MyProc.is_null() {
                Preload::Session
            } else {
                Preload::No
            }
        }
    })
}

/// Whether the library was there before the session's first statement: then no statement escapes.
pub fn is_hardened() -> bool {
    preload() != Preload::No
}

/// Whether this list of libraries names ours, as every session like this one gets it.
pub fn loads_library(parameter: &str) -> bool {
    let Ok(name) = CString::new(parameter) else { return false };
    // SAFETY: a C string; every server has these parameters, and lets a superuser see them.
    unsafe {
        if !pg_sys::superuser() {
            // Nor may anybody else set them.
            return false;
        }
        let list = pg_sys::GetConfigOptionResetString(name.as_ptr());
        !list.is_null() && CStr::from_ptr(list).to_string_lossy().contains("dragonfly_guard")
    }
}

/// The value of a parameter in this session; `None` where the server has no such parameter.
pub fn value(parameter: &str) -> Option<String> {
    let name = CString::new(parameter).ok()?;
    // SAFETY: C strings; null where there is no such parameter.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| crate::pg::text::from_server(CStr::from_ptr(value).to_bytes()))
    }
}

/// When to judge.
pub fn check_at() -> CheckAt {
    CHECK_AT.get()
}

/// Whether this session is a superuser's that restores a dump. Every program that pg_dump writes
/// begins with the same settings (pg_backup_archiver.c, `_doSetFixedOutputState`), which together
/// nobody else has: an empty search_path, no check of function bodies, and no messages below
/// WARNING; the first two set by the session itself, and not what a database or a role brings
/// along. A dump makes every routine as the restoring superuser first and gives it to its owner
/// later, brings privileges last, and holds what was there before the guard came: its statements
/// cannot be judged one by one.
pub fn is_restoring_a_dump() -> bool {
    // SAFETY: reads variables of the backend, whose own process entry is there; the path is null or
    // a C string. `roleId` is who logged in, whatever SET SESSION AUTHORIZATION has said since.
    let looks_like_it = unsafe {
        let path = pg_sys::namespace_search_path;
        !path.is_null()
            && (*path == 0
                || LEFT_BY_AN_EXTENSION
                    .with_borrow(|left| left.as_deref() == Some(CStr::from_ptr(path))))
            && !pg_sys::check_function_bodies
            && pg_sys::client_min_messages >= pg_sys::WARNING as i32
            && pg_sys::superuser_arg((*pg_sys::MyProc).roleId)
    };
    looks_like_it
        && !is_in_somebodys_code()
        && ["search_path", "check_function_bodies"].iter().all(|name| is_set_by_the_session(name))
}

thread_local! {
    /// The path that the script of an extension has left to a session that restores a dump.
    static LEFT_BY_AN_EXTENSION: RefCell<Option<CString>> = const { RefCell::new(None) };
    static BEFORE_AN_EXTENSION: Cell<bool> = const { Cell::new(false) };
}

/// CREATE EXTENSION begins. Some scripts set a search_path for the whole session (that of
/// postgis_topology does), which then is no longer the dump's.
pub fn extension_begins() {
    BEFORE_AN_EXTENSION.set(is_restoring_a_dump());
}

/// CREATE EXTENSION is done: what its script has left does not end the restore.
pub fn extension_ends() {
    // SAFETY: reads a variable of the backend, a C string.
    let path = unsafe { CStr::from_ptr(pg_sys::namespace_search_path) };
    if BEFORE_AN_EXTENSION.replace(false) && !path.is_empty() {
        LEFT_BY_AN_EXTENSION.set(Some(path.to_owned()));
    }
}

/// Whether RESET would change a parameter.
fn is_set_by_the_session(name: &str) -> bool {
    let reset = of_new_sessions(name).unwrap_or_default();
    value(name).is_some_and(|value| value != reset)
}

/// What RESET makes of a parameter that every server has, and everybody may see.
pub fn of_new_sessions(parameter: &str) -> Option<String> {
    let name = CString::new(parameter).ok()?;
    // SAFETY: a C string; null where there is no value.
    unsafe {
        let reset = pg_sys::GetConfigOptionResetString(name.as_ptr());
        (!reset.is_null()).then(|| crate::pg::text::from_server(CStr::from_ptr(reset).to_bytes()))
    }
}

/// Whether the server itself is at work: autovacuum, or a session that ends and drops its temporary
/// objects.
pub fn is_the_servers_own_work() -> bool {
    // SAFETY: reads variables of the process.
    unsafe {
        pg_sys::proc_exit_inprogress
            || pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
    }
}

/// Whether code of another role runs, as in ANALYZE of that role's table, or in a SECURITY DEFINER
/// routine: what is set there is not the session's own.
fn is_in_somebodys_code() -> bool {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: writes both.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut role, &mut context) };
    context != 0
}

/// The mode in force.
pub fn mode() -> Mode {
    MODE.get()
}

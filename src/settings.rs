//! Settings (GUCs).

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// `dragonfly_guard.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types, reason = "the variants are the values of the setting")]
pub enum Mode {
    /// Violations are rejected.
    block,
    /// Violations raise a WARNING.
    warn,
    /// Nothing is checked; the server log records it.
    off,
}

impl Mode {
    /// Returns the value of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::block => "block",
            Self::warn => "warn",
            Self::off => "off",
        }
    }
}

/// `dragonfly_guard.check_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types, reason = "the variants are the values of the setting")]
pub enum CheckAt {
    /// Changes are checked at the end of each statement, except those that a later statement of
    /// the transaction can still correct.
    statement,
    /// All changes are checked when the transaction commits.
    commit,
}

static CHECK_AT: GucSetting<CheckAt> = GucSetting::<CheckAt>::new(CheckAt::statement);

static COMMIT_LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::block);

/// Defines the settings. `mode` can be changed by superusers and by roles with SET on the parameter
/// only: the server discards here a value that another role set before the library was loaded.
pub fn define() {
    GucRegistry::define_enum_guc(
        c"dragonfly_guard.mode",
        c"Sets how the security guard responds to violations of the security contract.",
        c"block rejects the statement. warn raises a WARNING instead. off checks nothing and \
          writes a line to the server log.",
        &MODE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // Any role can change this one: everything is checked at commit with either value.
    GucRegistry::define_enum_guc(
        c"dragonfly_guard.check_at",
        c"Sets when the security guard checks the changes of a transaction.",
        c"statement checks at the end of each statement, except changes that a later statement can \
          still correct. commit checks everything at commit.",
        &CHECK_AT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"dragonfly_guard.commit_lock_timeout",
        c"Sets how long a commit waits for other transactions that are committing.",
        c"A transaction that waits longer is rolled back.",
        &COMMIT_LOCK_TIMEOUT,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    // SAFETY: a static C string; called once, when the library is loaded.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"dragonfly_guard".as_ptr()) };
}

/// How the library was loaded into the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preload {
    /// On demand, by the first function or trigger of the extension.
    No,
    /// By `session_preload_libraries`, before the first statement.
    Session,
    /// By `shared_preload_libraries`, at server start.
    Shared,
}

static PRELOAD: OnceLock<Preload> = OnceLock::new();

/// Returns how the library was loaded into the session; `_PG_init` is the first caller.
pub fn preload() -> Preload {
    *PRELOAD.get_or_init(|| {
        // SAFETY: reads variables of the process. Between connecting and its first statement, a
        // session loads libraries only by `session_preload_libraries`, which applies to sessions of
        // clients: a background worker has no statement of a client and loads none.
        unsafe {
            if pg_sys::process_shared_preload_libraries_in_progress {
                Preload::Shared
            } else if is_session()
                && pg_sys::debug_query_string.is_null()
                && !pg_sys::MyProc.is_null()
            {
                Preload::Session
            } else {
                Preload::No
            }
        }
    })
}

/// Whether the library was loaded before the session's first statement, so that all statements are
/// checked.
pub fn is_hardened() -> bool {
    preload() != Preload::No
}

/// Whether supautils is loaded, which skips event triggers in sessions of some superusers.
pub fn has_supautils() -> bool {
    value("supautils.superuser").is_some()
        || value("shared_preload_libraries").is_some_and(|list| list.contains("supautils"))
        || value("session_preload_libraries").is_some_and(|list| list.contains("supautils"))
}

/// Whether a list of libraries contains this library in new sessions of the same role and database.
pub fn loads_library(parameter: &str) -> bool {
    let Ok(name) = CString::new(parameter) else { return false };
    // SAFETY: a C string; every server has these parameters, and a superuser may read them.
    unsafe {
        if !pg_sys::superuser() {
            // Other roles cannot set the parameter.
            return false;
        }
        let list = pg_sys::GetConfigOptionResetString(name.as_ptr());
        !list.is_null() && CStr::from_ptr(list).to_string_lossy().contains("dragonfly_guard")
    }
}

/// Whether ALTER SYSTEM has stored a value with this library for a list of libraries, so that ALTER
/// SYSTEM RESET removes it. True where the file cannot be read.
pub fn is_stored_by_alter_system(parameter: &str) -> bool {
    // SAFETY: a C string that the server sets when it starts.
    let folder = unsafe { CStr::from_ptr(pg_sys::DataDir) }.to_string_lossy().into_owned();
    let file = std::path::Path::new(&folder).join("postgresql.auto.conf");
    // The server writes each setting in a line of its own.
    let Ok(text) = std::fs::read(file) else { return true };
    mentions(&String::from_utf8_lossy(&text), parameter)
}

/// Whether a configuration file sets a parameter to a value with this library.
fn mentions(text: &str, parameter: &str) -> bool {
    text.lines().filter_map(|line| line.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case(parameter) && value.contains("dragonfly_guard")
    })
}

/// Returns the value of a parameter in this session; `None` where the server has no such parameter.
pub fn value(parameter: &str) -> Option<String> {
    let name = CString::new(parameter).ok()?;
    // SAFETY: C strings; null where there is no such parameter.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| crate::pg::text::from_server(CStr::from_ptr(value).to_bytes()))
    }
}

/// Returns when changes are checked.
pub fn check_at() -> CheckAt {
    CHECK_AT.get()
}

/// Returns how long a commit waits for the commit lock, in milliseconds.
pub fn commit_lock_timeout() -> i32 {
    COMMIT_LOCK_TIMEOUT.get()
}

/// Whether this session belongs to a superuser and restores a dump.
///
/// A dump of pg_dump starts with settings (pg_backup_archiver.c, `_doSetFixedOutputState`) whose
/// combination is not used otherwise: an empty search_path, `check_function_bodies` off, and
/// `client_min_messages` of at least WARNING. The first two must have been set by the session
/// itself, not by a setting of the database or the role.
///
/// The statements of a dump cannot be checked one by one: it creates each routine as the restoring
/// superuser and changes the owner later, grants privileges last, and contains objects that are
/// older than the guard.
pub fn is_restoring_a_dump() -> bool {
    // SAFETY: reads variables of the backend, whose own process entry is there; the path is null or
    // a C string. `roleId` is the role that logged in, not the one of SET SESSION AUTHORIZATION.
    let has_settings_of_dump = unsafe {
        let path = pg_sys::namespace_search_path;
        !path.is_null()
            && (*path == 0
                || PATH_SET_BY_EXTENSION
                    .with_borrow(|set| set.as_deref() == Some(CStr::from_ptr(path))))
            && !pg_sys::check_function_bodies
            && pg_sys::client_min_messages >= pg_sys::WARNING as i32
            && pg_sys::superuser_arg((*pg_sys::MyProc).roleId)
    };
    has_settings_of_dump
        && !runs_code_of_another_role()
        && ["search_path", "check_function_bodies"].iter().all(|name| is_set_by_session(name))
}

thread_local! {
    /// The search_path that an extension's script has set in a session that restores a dump.
    static PATH_SET_BY_EXTENSION: RefCell<Option<CString>> = const { RefCell::new(None) };
    /// Whether the session was restoring a dump when CREATE EXTENSION started.
    static RESTORED_BEFORE_EXTENSION: Cell<bool> = const { Cell::new(false) };
}

/// Records the start of CREATE EXTENSION. Some scripts (that of postgis_topology, for example) set
/// the search_path of the session, which is then no longer the one of the dump.
pub fn extension_begins() {
    RESTORED_BEFORE_EXTENSION.set(is_restoring_a_dump());
}

/// Records the end of CREATE EXTENSION: a search_path that its script has set does not end the
/// restore.
pub fn extension_ends() {
    // SAFETY: reads a variable of the backend, a C string.
    let path = unsafe { CStr::from_ptr(pg_sys::namespace_search_path) };
    if RESTORED_BEFORE_EXTENSION.replace(false) && !path.is_empty() {
        PATH_SET_BY_EXTENSION.set(Some(path.to_owned()));
    }
}

/// Whether RESET would change a parameter.
fn is_set_by_session(name: &str) -> bool {
    let reset = reset_value(name).unwrap_or_default();
    value(name).is_some_and(|value| value != reset)
}

/// Whether the server has a parameter of this name.
pub fn exists(parameter: &str) -> bool {
    let Ok(name) = CString::new(parameter) else { return false };
    // SAFETY: a C string; null for a parameter that does not exist.
    unsafe { !pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() }
}

/// Returns the value that RESET would restore, of a parameter that every server has and every role
/// may read.
pub fn reset_value(parameter: &str) -> Option<String> {
    let name = CString::new(parameter).ok()?;
    // SAFETY: a C string; null where there is no value. `GetConfigOptionResetString` raises an
    // error for a parameter that does not exist, so `GetConfigOption` with missing_ok comes first.
    unsafe {
        if pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
            return None;
        }
        let reset = pg_sys::GetConfigOptionResetString(name.as_ptr());
        (!reset.is_null()).then(|| crate::pg::text::from_server(CStr::from_ptr(reset).to_bytes()))
    }
}

/// Whether the server runs this on its own: autovacuum, or the end of a session, which drops the
/// session's temporary objects.
pub fn is_server_internal() -> bool {
    // SAFETY: reads variables of the process.
    unsafe {
        pg_sys::proc_exit_inprogress
            || pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
    }
}

/// Whether this process serves a client.
pub fn is_session() -> bool {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::MyBackendType == pg_sys::BackendType::B_BACKEND }
}

/// Whether code of another role runs, as in ANALYZE of that role's table, or in a SECURITY DEFINER
/// routine: settings made there are not the session's own.
fn runs_code_of_another_role() -> bool {
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: writes both variables.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut role, &mut context) };
    context != 0
}

/// Returns the mode in force.
pub fn mode() -> Mode {
    MODE.get()
}

//! Temporary settings, as for the SET clauses of a function.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A search_path in which names resolve to objects of the server first.
pub const SAFE_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");

/// Views and foreign tables can be read: a setting that minor releases of 2024 have added can
/// forbid it, as pg_dump does.
pub const ALL_KINDS: (&CStr, &CStr) = (c"restrict_nonsystem_relation_kind", c"");

/// Executes `work` with these settings, whatever role the caller is; a setting that the server does
/// not have is left out. Must be called in a subtransaction, whose end resets them after an error.
pub fn under<T>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> T) -> T {
    with(settings, true, work)
}

/// Executes `work` as [`under`] does, and takes back what it has set itself.
pub fn isolated<T>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> T) -> T {
    with(settings, false, work)
}

fn with<T>(settings: &[(&CStr, &CStr)], keeps_others: bool, work: impl FnOnce() -> T) -> T {
    // SAFETY: C strings; the settings are reset like those of a function (guc.c, `AtEOXact_GUC`).
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let (user, session) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        let save = pg_sys::GucAction::GUC_ACTION_SAVE;
        for (name, value) in settings {
            if pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
                continue;
            }
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                user,
                session,
                save,
                true,
                0,
                false,
            );
        }
        let result = work();
        pg_sys::AtEOXact_GUC(keeps_others, level);
        result
    }
}

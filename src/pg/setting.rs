//! Settings for a while, as a function's own SET clauses have them.

use pgrx::pg_sys;
use std::ffi::CStr;

/// What leaves a name to nobody but the server.
pub const SAFE_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");

/// Does `work` under these settings, whoever the caller is. After an error the end of a
/// subtransaction takes them back: there must be one.
pub fn under<T>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> T) -> T {
    // SAFETY: C strings; the settings are undone as a function's own are (guc.c, `AtEOXact_GUC`).
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        let (user, session) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        let save = pg_sys::GucAction::GUC_ACTION_SAVE;
        for (name, value) in settings {
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
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}

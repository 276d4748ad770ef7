//! Thin bindings to the server. The `unsafe` code of the project is here, in the catalog reader and
//! in the guard.

pub mod caches;
pub mod call;
pub mod clock;
pub mod commit;
pub mod constant;
pub mod heap;
pub mod inert;
pub mod jsonb;
pub mod language;
pub mod library;
pub mod list;
pub mod lock_timeout;
#[cfg_attr(
    test,
    allow(dead_code, reason = "the program that runs the tests has another allocator")
)]
pub mod memory;
pub mod privileges;
pub mod probe;
pub mod progress;
pub mod report;
pub mod restricted;
pub mod rows;
pub mod scratch;
pub mod setting;
pub mod statement;
pub mod subtransaction;
pub mod syscache;
pub mod text;
pub mod write;

/// The server's major version.
pub const VERSION: u32 = pgrx::pg_sys::PG_VERSION_NUM / 10_000;

/// Returns the running server's `server_version_num`. (The library may have been built for another
/// minor release.)
pub fn release() -> u32 {
    // SAFETY: C strings; every server has the parameter.
    let number = unsafe {
        let value = pgrx::pg_sys::GetConfigOption(c"server_version_num".as_ptr(), false, false);
        std::ffi::CStr::from_ptr(value).to_str().ok().and_then(|value| value.parse().ok())
    };
    number.unwrap_or(pgrx::pg_sys::PG_VERSION_NUM)
}

//! Where the server has loaded this library from.

use pgrx::pg_sys;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `Dl_info` of dlfcn.h.
#[repr(C)]
struct Info {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
}

/// Returns the folder of the file of this library; `None` where it cannot be determined.
fn folder() -> Option<PathBuf> {
    let mut info = Info {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: an address within this library; the name of its file is a C string that lives as long
    // as the library is loaded.
    let file = unsafe {
        if dladdr(folder as *const c_void, &raw mut info) == 0 || info.file.is_null() {
            return None;
        }
        CStr::from_ptr(info.file)
    };
    Path::new(OsStr::from_bytes(file.to_bytes())).canonicalize().ok()?.parent().map(Path::to_owned)
}

/// Returns the server's own folder of libraries.
fn of_server() -> String {
    // SAFETY: the server's own array, a C string.
    let folder = unsafe { CStr::from_ptr((&raw const pg_sys::pkglib_path).cast()) };
    folder.to_string_lossy().into_owned()
}

/// Returns a list of libraries with `$libdir` where it names the server's own folder.
pub fn with_macro(libraries: &str) -> String {
    libraries.replace(&format!("{}/", of_server()), "$libdir/")
}

/// Whether the first folder of a `dynamic_library_path` is the one that this library has been
/// loaded from.
pub fn is_in_first_folder_of(path: &str) -> bool {
    let first = path.split(':').next().unwrap_or_default();
    let first = match first.strip_prefix("$libdir") {
        Some(rest) => format!("{}{rest}", of_server()),
        None => first.to_owned(),
    };
    let first = Path::new(&first).canonicalize().ok();
    first.is_some() && first == folder()
}

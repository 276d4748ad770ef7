//! The server as a source of the rows of catalogs.

use super::rights::Now;
use super::text_body::InServer;
use super::{name, type_name};
use crate::pg::heap::{self, interrupts};
use crate::pg::{VERSION, clock, constant, library, probe, rows, text};
use crate::settings;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::rules::shared::guard_settings;
use dragonfly_core::search_path::stored_value;
use dragonfly_reader::text_body::Texts;
use dragonfly_reader::{Rights, Rows, State};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

impl State for heap::State {
    fn open(&self, catalog: Oid) -> Box<dyn Rows + '_> {
        rows::open(self, catalog)
    }

    fn has_catalog(&self, _: Oid) -> bool {
        true
    }

    fn interrupts(&self) {
        interrupts();
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn is_utf8(&self) -> bool {
        text::is_utf8()
    }

    fn quoted_path(&self, value: &str) -> String {
        quoted_path(value)
    }

    fn database(&self) -> Oid {
        // SAFETY: reads a variable of the backend.
        unsafe { pg_sys::MyDatabaseId }.to_u32()
    }

    fn time(&self) -> i64 {
        clock::now()
    }

    fn default_of(&self, setting: &str) -> Option<String> {
        // Other roles may not read these, and cannot have set them.
        if setting == guard_settings::LIBRARY_PATH && !is_superuser() {
            // SAFETY: null or a C string.
            return unsafe { text_at(pg_sys::Dynamic_library_path) };
        }
        let is_hidden = guard_settings::LOADING.contains(&setting) && !is_superuser();
        if is_hidden { None } else { settings::reset_value(setting) }
    }

    fn login(&self) -> Option<Oid> {
        // SAFETY: reads the role that has logged in.
        Some(unsafe { pg_sys::GetSessionUserId() }.to_u32())
    }

    fn libraries(&self, list: &str) -> String {
        library::with_macro(list)
    }

    fn leads_to_own_library(&self, path: &str) -> bool {
        library::is_in_first_folder_of(path)
    }

    fn skips(&self, function: Oid) -> bool {
        // Hooks check the statements of a session that has preloaded the library.
        !settings::is_hardened() && !probe::reaches(function)
    }

    fn skips_superusers(&self) -> bool {
        settings::has_supautils() && !settings::is_hardened()
    }

    fn has_setting(&self, name: &str) -> bool {
        settings::exists(name)
    }

    fn type_name(&self, oid: Oid) -> String {
        type_name::type_name(self, oid)
    }

    fn type_name_now(&self, oid: Oid) -> String {
        type_name::current(oid)
    }

    fn name(&self, catalog: Oid, object: Oid) -> Option<(String, String)> {
        name::name(catalog, object)
    }

    fn schema_name(&self, schema: Oid) -> Option<String> {
        name::schema_name(schema)
    }

    fn constant(&self, data_type: Oid, bytes: &[u8]) -> Option<String> {
        constant::is_plain(data_type).then(|| constant::written(data_type, bytes))
    }

    fn rights<'a>(&'a self, _: &'a Snapshot, _: &'a Access<'a>) -> Box<dyn Rights + 'a> {
        Box::new(Now)
    }

    fn texts(&self) -> Option<Box<dyn Texts + '_>> {
        Some(Box::new(InServer::in_state(self)))
    }
}

fn is_superuser() -> bool {
    // SAFETY: reads the role of the session.
    unsafe { pg_sys::superuser() }
}

/// # Safety
/// `value` is null or a C string.
unsafe fn text_at(value: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!value.is_null()).then(|| text::from_server(unsafe { CStr::from_ptr(value) }.to_bytes()))
}

/// Returns a search_path with quoted names where the encoding of the database is not UTF-8;
/// unchanged where it is not a valid list.
pub fn quoted_path(value: &str) -> String {
    if text::is_utf8() {
        return value.to_owned();
    }
    let Ok(raw) = CString::new(text::to_server(value)) else { return value.to_owned() };
    // SAFETY: the server modifies the copy, and its list points into the copy.
    unsafe {
        let mut list: *mut pg_sys::List = std::ptr::null_mut();
        if !pg_sys::SplitIdentifierString(pg_sys::pstrdup(raw.as_ptr()), b',' as _, &mut list) {
            return value.to_owned();
        }
        let length = if list.is_null() { 0 } else { (*list).length as usize };
        let name = |i| {
            let name = (*(*list).elements.add(i)).ptr_value;
            text::from_server(CStr::from_ptr(name.cast()).to_bytes())
        };
        stored_value(&(0..length).map(name).collect::<Vec<_>>())
    }
}

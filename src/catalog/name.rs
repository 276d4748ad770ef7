//! Names and descriptions of objects.

use super::oids;
use crate::pg::text::{from_server, to_server};
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

/// Returns schema and name of a relation or a routine from the system cache; `None` for other
/// objects and for objects that do not exist.
pub fn name(class: Oid, object: Oid) -> Option<(String, String)> {
    // SAFETY: lookups in the system cache; null or C strings.
    unsafe {
        let (schema, name) = match class {
            oids::PG_CLASS => {
                (pg_sys::get_rel_namespace(object.into()), pg_sys::get_rel_name(object.into()))
            }
            oids::PG_PROC => {
                (pg_sys::get_func_namespace(object.into()), pg_sys::get_func_name(object.into()))
            }
            _ => return None,
        };
        let schema = pg_sys::get_namespace_name(schema);
        let text = |name: *mut c_char| {
            (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
        };
        Some((text(schema)?, text(name)?))
    }
}

/// Returns the name of a routine that exists with its argument types, everything qualified, as
/// GRANT names it.
pub fn signature(routine: Oid) -> String {
    // SAFETY: returns a C string for every OID.
    unsafe {
        let text = pg_sys::format_procedure_qualified(routine.into());
        from_server(CStr::from_ptr(text).to_bytes())
    }
}

/// Returns the server's description of an object, such as `view public.v`.
pub fn description(class: pg_sys::Oid, object: pg_sys::Oid) -> String {
    let address = pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    // SAFETY: returns null for an object that does not exist, or a C string.
    unsafe {
        let text = pg_sys::getObjectDescription(&address, true);
        if text.is_null() {
            "an object".to_owned()
        } else {
            from_server(CStr::from_ptr(text).to_bytes())
        }
    }
}

/// Returns the name of a schema from the system cache; `None` where it does not exist.
pub fn schema_name(schema: Oid) -> Option<String> {
    // SAFETY: a lookup in the system cache; null or a C string.
    unsafe {
        let name = pg_sys::get_namespace_name(schema.into());
        (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
    }
}

/// Returns the relation of this name, of any kind, in a schema, from the system cache.
pub fn relation_named(schema: Oid, name: &str) -> Option<Oid> {
    let name = CString::new(to_server(name)).ok()?;
    // SAFETY: a lookup in the system cache; 0 where there is none.
    Some(unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema.into()) }.to_u32())
        .filter(|oid| *oid != 0)
}

/// Returns the schema of this name from the system cache.
pub fn schema_named(name: &CStr) -> Option<Oid> {
    // SAFETY: a lookup in the system cache; 0 where there is none.
    Some(unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) }.to_u32()).filter(|oid| *oid != 0)
}

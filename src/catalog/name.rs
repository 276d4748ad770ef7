//! Names and descriptions of objects.

use super::oids;
use crate::pg::heap::{State, of_row};
use crate::pg::text::from_server;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::sql::quote_ident;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

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

/// Returns schema and name of a relation or a routine in a state of the catalogs, quoted; `None`
/// for other objects and for objects that do not exist in it.
pub fn qualified_name(state: &State, class: Oid, object: Oid) -> Option<String> {
    let (by_oid, name, schema) = match class {
        oids::PG_CLASS => (oids::CLASS_BY_OID, "relname", "relnamespace"),
        oids::PG_PROC => (oids::PROC_BY_OID, "proname", "pronamespace"),
        _ => return None,
    };
    let schema = of_row(state, by_oid, object, schema, |row, schema| row.oid(schema))?;
    let name = of_row(state, by_oid, object, name, |row, name| row.name(name))?;
    // SAFETY: a lookup in the system cache; null or a C string.
    let schema = unsafe {
        let schema = pg_sys::get_namespace_name(schema.into());
        (!schema.is_null()).then(|| from_server(CStr::from_ptr(schema).to_bytes()))
    }?;
    Some(format!("{}.{}", quote_ident(&schema), quote_ident(&name)))
}

/// Returns the identity of a relation or a routine in a state of the catalogs; `None` for other
/// objects and for objects that do not exist in it.
pub fn identity(state: &State, object: ObjectId) -> Option<String> {
    match object {
        ObjectId::Relation(oid) => qualified_name(state, oids::PG_CLASS, oid),
        ObjectId::Routine(oid) => {
            let name = qualified_name(state, oids::PG_PROC, oid)?;
            Some(format!("{name}({})", super::routines::argument_types_of(state, oid)))
        }
        _ => None,
    }
}

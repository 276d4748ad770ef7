//! What the guard asks about its own objects and settings.

use super::name::schema_name;
use super::oids;
use super::type_name::argument_types;
use crate::pg::heap::{State, Table};
use dragonfly_core::catalog::Oid;
use dragonfly_core::catalog::extension::is_called_in_ops;
use dragonfly_reader::guard;
use pgrx::pg_sys;

/// Whether a setting disables the guard in sessions that have it.
pub fn disables_guard(setting: &str, value: &str) -> bool {
    guard::disables_guard(&State::now(), setting, value)
}

/// Whether a setting weakens what privileges protect.
pub fn weakens(setting: &str, value: &str) -> bool {
    guard::weakens(&State::now(), setting, value)
}

/// Returns name and arguments of a routine if it is in schema ops, has the name of one of the
/// extension's functions, and is not a member of the extension.
pub fn impostor(routine: Oid) -> Option<String> {
    let state = State::now();
    let table = Table::open(oids::PG_PROC);
    let (oid, name, schema, arguments) = (
        table.column("oid"),
        table.column("proname"),
        table.column("pronamespace"),
        table.column("proargtypes"),
    );
    let mut found = None;
    table.lookup(&state, oids::PG_PROC_OID_INDEX, &[(oid, routine)], |row| {
        let name = row.name(name);
        if is_called_in_ops(&name) && schema_name(row.oid(schema)).as_deref() == Some("ops") {
            found = Some(format!(
                "ops.{name}({})",
                argument_types(&row.oids(arguments)).replace("pg_catalog.", "")
            ));
        }
    });
    found.filter(|_| {
        super::objects::extension_of(&state, oids::PG_PROC, routine).is_none_or(|e| !is_own(e))
    })
}

/// Whether a script of this extension is running, whose objects are about to become members.
pub fn in_own_script() -> bool {
    // SAFETY: reads variables of the backend.
    unsafe { pg_sys::creating_extension && is_own(pg_sys::CurrentExtensionObject.to_u32()) }
}

/// Whether this is the extension dragonfly_guard.
fn is_own(extension: Oid) -> bool {
    // SAFETY: a C string; 0 where the extension does not exist.
    unsafe { pg_sys::get_extension_oid(c"dragonfly_guard".as_ptr(), true).to_u32() == extension }
}

//! What roles may do now, as the system caches of the server answer.

use crate::pg::privileges;
use crate::pg::text::from_server;
use dragonfly_core::catalog::{Oid, Privileges};
use dragonfly_reader::Rights;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What roles may do in the current state.
pub struct Now;

impl Rights for Now {
    fn has_privileges_of(&self, role: Oid, of: Oid) -> bool {
        // SAFETY: lookups in the system cache.
        unsafe { pg_sys::has_privs_of_role(role.into(), of.into()) }
    }

    fn is_limited(&self, role: Oid, relation: Oid) -> bool {
        has_active_policies(role, relation)
    }

    fn on_relation(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        privileges::on_relation(role, relation, mode(privilege))
    }

    fn on_part(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool {
        privileges::on_part(role, relation, mode(privilege))
    }

    fn on_column(
        &self,
        role: Oid,
        relation: Oid,
        (number, _): (i16, &str),
        privilege: Privileges,
    ) -> bool {
        privileges::on_column(role, relation, number, mode(privilege))
    }

    fn on_routine(&self, role: Oid, routine: Oid) -> bool {
        privileges::on_routine(role, routine)
    }

    fn on_schema(&self, role: Oid, schema: Oid) -> bool {
        privileges::on_schema(role, schema)
    }

    fn creates_in(&self, role: Oid, schema: Oid) -> bool {
        privileges::creates_in(role, schema)
    }

    fn creates_schemas(&self, role: Oid) -> bool {
        privileges::creates_schemas(role)
    }

    fn role_name(&self, role: Oid) -> Option<String> {
        // SAFETY: a lookup in the system cache; null or a C string.
        unsafe {
            let name = pg_sys::GetUserNameFromId(role.into(), true);
            (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
        }
    }
}

/// Whether policies limit a role on a table now.
pub fn has_active_policies(role: Oid, relation: Oid) -> bool {
    let active = pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32;
    // SAFETY: lookups in the system cache, which raise no error for what does not exist.
    unsafe { pg_sys::check_enable_rls(relation.into(), role.into(), true) == active }
}

/// Returns a privilege as the server's functions take it: its bits are those of the server.
fn mode(privilege: Privileges) -> u32 {
    privilege.0
}

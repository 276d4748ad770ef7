//! ALTER DEFAULT PRIVILEGES, as SQL text.

use crate::catalog::{Oid, Snapshot};
use crate::sql::safe_ident;

/// Returns `ALTER DEFAULT PRIVILEGES FOR ROLE ... IN SCHEMA ...` without its action. `schema` 0 is
/// every schema.
pub(crate) fn alter_default_privileges(snapshot: &Snapshot, creator: Oid, schema: Oid) -> String {
    let in_schema = match schema {
        0 => String::new(),
        schema => format!(" IN SCHEMA {}", safe_ident(snapshot.schema_name(schema))),
    };
    format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{in_schema}", snapshot.grantee(creator))
}

/// Returns the objects of `pg_default_acl.defaclobjtype` as ALTER DEFAULT PRIVILEGES names them;
/// `None` for types, which hold no rows and run no code.
pub(crate) fn default_acl_objects(object_type: u8) -> Option<&'static str> {
    match object_type {
        b'r' => Some("TABLES"),
        b'S' => Some("SEQUENCES"),
        b'f' => Some("ROUTINES"),
        b'n' => Some("SCHEMAS"),
        // Since PostgreSQL 18.
        b'L' => Some("LARGE OBJECTS"),
        _ => None,
    }
}

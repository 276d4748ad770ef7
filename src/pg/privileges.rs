//! Privileges that a role has now, as the server checks them.

use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;

const ALLOWED: pg_sys::AclResult::Type = pg_sys::AclResult::ACLCHECK_OK;

/// Whether a role has a privilege on a relation. False for a relation that does not exist.
pub fn on_relation(role: Oid, relation: Oid, privilege: u32) -> bool {
    let mut is_missing = false;
    // SAFETY: lookups in the system cache.
    let result = unsafe {
        pg_sys::pg_class_aclcheck_ext(
            relation.into(),
            role.into(),
            privilege as pg_sys::AclMode,
            &mut is_missing,
        )
    };
    result == ALLOWED
}

/// Whether a role has a privilege on a relation, or on a column of it at least. False for a
/// relation that does not exist.
pub fn on_part(role: Oid, relation: Oid, privilege: u32) -> bool {
    let (mode, any) = (privilege as pg_sys::AclMode, pg_sys::AclMaskHow::ACLMASK_ANY);
    // SAFETY: lookups in the system cache.
    let result =
        unsafe { pg_sys::pg_attribute_aclcheck_all(relation.into(), role.into(), mode, any) };
    result == ALLOWED || on_relation(role, relation, privilege)
}

/// Whether a role has a privilege on a column, of a relation that exists. False for a column that
/// does not exist.
pub fn on_column(role: Oid, relation: Oid, number: i16, privilege: u32) -> bool {
    let mut is_missing = false;
    // SAFETY: lookups in the system cache.
    let result = unsafe {
        pg_sys::pg_attribute_aclcheck_ext(
            relation.into(),
            number,
            role.into(),
            privilege as pg_sys::AclMode,
            &mut is_missing,
        )
    };
    result == ALLOWED
}

/// Whether a role has EXECUTE on a routine. False for a routine that does not exist.
pub fn on_routine(role: Oid, routine: Oid) -> bool {
    let (routine, mode) = (pg_sys::Oid::from(routine), pg_sys::ACL_EXECUTE as pg_sys::AclMode);
    // SAFETY: lookups in the system cache; the check raises an error for a routine that does not
    // exist.
    unsafe {
        if pg_sys::get_func_name(routine).is_null() {
            return false;
        }
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_proc_aclcheck(routine, role.into(), mode);
        #[cfg(not(feature = "pg15"))]
        let result =
            pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, routine, role.into(), mode);
        result == ALLOWED
    }
}

/// Whether a role has USAGE on a schema. False for a schema that does not exist.
pub fn on_schema(role: Oid, schema: Oid) -> bool {
    has_on_schema(role, schema, pg_sys::ACL_USAGE)
}

/// Whether a role can create objects in a schema. False for a schema that does not exist.
pub fn creates_in(role: Oid, schema: Oid) -> bool {
    has_on_schema(role, schema, pg_sys::ACL_CREATE)
}

fn has_on_schema(role: Oid, schema: Oid, privilege: u32) -> bool {
    let (schema, mode) = (pg_sys::Oid::from(schema), privilege as pg_sys::AclMode);
    // SAFETY: lookups in the system cache; the check raises an error for a schema that does not
    // exist.
    unsafe {
        if pg_sys::get_namespace_name(schema).is_null() {
            return false;
        }
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_namespace_aclcheck(schema, role.into(), mode);
        #[cfg(not(feature = "pg15"))]
        let result =
            pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role.into(), mode);
        result == ALLOWED
    }
}

/// Whether a role can create schemas in the current database.
pub fn creates_schemas(role: Oid) -> bool {
    let mode = pg_sys::ACL_CREATE as pg_sys::AclMode;
    // SAFETY: a lookup in the system cache; the current database exists.
    unsafe {
        let database = pg_sys::MyDatabaseId;
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_database_aclcheck(database, role.into(), mode);
        #[cfg(not(feature = "pg15"))]
        let result =
            pg_sys::object_aclcheck(pg_sys::DatabaseRelationId, database, role.into(), mode);
        result == ALLOWED
    }
}

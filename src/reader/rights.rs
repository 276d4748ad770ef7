//! What roles may do in a state of the catalogs.

use dragonfly_core::catalog::{Oid, Privileges};

/// What roles may do in a state.
pub trait Rights {
    /// Whether a role has the privileges of another one without SET ROLE.
    fn has_privileges_of(&self, role: Oid, of: Oid) -> bool;
    /// Whether policies limit a role on a table.
    fn is_limited(&self, role: Oid, relation: Oid) -> bool;
    /// Whether a role has a privilege on a relation.
    fn on_relation(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool;
    /// Whether a role has a privilege on a relation, or on a column of it at least.
    fn on_part(&self, role: Oid, relation: Oid, privilege: Privileges) -> bool;
    /// Whether a role has a privilege on a column, which has a number and a name.
    fn on_column(
        &self,
        role: Oid,
        relation: Oid,
        column: (i16, &str),
        privilege: Privileges,
    ) -> bool;
    /// Whether a role has EXECUTE on a routine.
    fn on_routine(&self, role: Oid, routine: Oid) -> bool;
    /// Whether a role has USAGE on a schema.
    fn on_schema(&self, role: Oid, schema: Oid) -> bool;
    /// Whether a role can create objects in a schema.
    fn creates_in(&self, role: Oid, schema: Oid) -> bool;
    /// Whether a role can create schemas.
    fn creates_schemas(&self, role: Oid) -> bool;
    /// Returns the name of a role.
    fn role_name(&self, role: Oid) -> Option<String>;
}

//! Names of objects.

use crate::source::{State, of_row};
use crate::{oids, routines};
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::sql::quote_ident;

/// Returns schema and name of a relation or a routine in a state of the catalogs, quoted; `None`
/// for other objects and for objects that do not exist in it.
pub fn qualified_name(state: &dyn State, class: Oid, object: Oid) -> Option<String> {
    let (by_oid, name, schema) = match class {
        oids::PG_CLASS => (oids::CLASS_BY_OID, "relname", "relnamespace"),
        oids::PG_PROC => (oids::PROC_BY_OID, "proname", "pronamespace"),
        _ => return None,
    };
    let schema = of_row(state, by_oid, object, schema, |row, schema| row.oid(schema))?;
    let name = of_row(state, by_oid, object, name, |row, name| row.name(name))?;
    // The schema may have been dropped since.
    let earlier =
        || of_row(state, oids::NAMESPACE_BY_OID, schema, "nspname", |row, name| row.name(name));
    let schema = state.schema_name(schema).or_else(earlier)?;
    Some(format!("{}.{}", quote_ident(&schema), quote_ident(&name)))
}

/// Returns the identity of a relation or a routine in a state of the catalogs; `None` for other
/// objects and for objects that do not exist in it.
pub fn identity(state: &dyn State, object: ObjectId) -> Option<String> {
    match object {
        ObjectId::Relation(oid) => qualified_name(state, oids::PG_CLASS, oid),
        ObjectId::Routine(oid) => {
            let name = qualified_name(state, oids::PG_PROC, oid)?;
            Some(format!("{name}({})", routines::argument_types_of(state, oid)))
        }
        _ => None,
    }
}

//! Where types and operators are.

use crate::oids;
use crate::source::{State, of_row};
use dragonfly_core::catalog::Oid;

/// Schema and owner of a relation, routine, type or operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The schema.
    pub schema: Oid,
    /// The owner.
    pub owner: Oid,
}

/// Returns schema and owner of a type or an operator; `None` where it does not exist, is temporary,
/// or belongs to a table or another type.
pub fn place(state: &dyn State, catalog: Oid, object: Oid) -> Option<Place> {
    let table = state.table(catalog);
    let (index, [schema, owner]) = match catalog {
        oids::PG_TYPE => (oids::PG_TYPE_OID_INDEX, ["typnamespace", "typowner"]),
        _ => (oids::PG_OPERATOR_OID_INDEX, ["oprnamespace", "oprowner"]),
    };
    let (oid, schema, owner) = (table.column("oid"), table.column(schema), table.column(owner));
    let (kind, element, length) =
        (table.find("typtype"), table.find("typelem"), table.find("typlen"));
    let relation = table.find("typrelid");
    let mut found = None;
    table.lookup(index, &[(oid, object)], |row| {
        // A domain over an array type is no array type.
        let is_array = match (kind, element, length) {
            (Some(kind), Some(element), Some(length)) => {
                row.char(kind) == b'b' && row.oid(element) != 0 && row.int(length) as i16 == -1
            }
            _ => false,
        };
        let relation = relation.map_or(0, |relation| row.oid(relation));
        if !is_array {
            found = Some((relation, Place { schema: row.oid(schema), owner: row.oid(owner) }));
        }
    });
    let (relation, place) = found?;
    let of_table = || {
        let kind =
            of_row(state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind));
        relation != 0 && kind != Some(b'c')
    };
    let is_temporary = || {
        state
            .schema_name(place.schema)
            .is_some_and(|name| name.starts_with("pg_temp_") || name.starts_with("pg_toast_temp_"))
    };
    (!of_table() && !is_temporary()).then_some(place)
}

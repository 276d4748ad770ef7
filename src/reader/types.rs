//! Types, their OIDs, and which types contain others.

use crate::oids;
use crate::source::{State, of_row};
use dragonfly_core::catalog::Oid;
use std::collections::HashSet;

/// Types of the server (pg_type.dat).
pub const NAME: Oid = 19;
pub const TEXT: Oid = 25;
pub const JSON: Oid = 114;
pub const XML: Oid = 142;
pub const UNKNOWN: Oid = 705;
pub const NAME_ARRAY: Oid = 1003;
pub const TEXT_ARRAY: Oid = 1009;
pub const BPCHAR_ARRAY: Oid = 1014;
pub const VARCHAR_ARRAY: Oid = 1015;
pub const JSON_ARRAY: Oid = 199;
pub const BPCHAR: Oid = 1042;
pub const VARCHAR: Oid = 1043;
pub const REFCURSOR: Oid = 1790;
pub const REFCURSOR_ARRAY: Oid = 2201;
pub const RECORD: Oid = 2249;
pub const RECORD_ARRAY: Oid = 2287;
pub const ANY: Oid = 2276;
pub const ANYARRAY: Oid = 2277;
pub const VOID: Oid = 2278;
pub const TRIGGER: Oid = 2279;
pub const ANYELEMENT: Oid = 2283;
pub const ANYNONARRAY: Oid = 2776;
pub const ANYENUM: Oid = 3500;
pub const JSONB: Oid = 3802;
pub const JSONB_ARRAY: Oid = 3807;
pub const ANYRANGE: Oid = 3831;
pub const EVENT_TRIGGER: Oid = 3838;
pub const ANYMULTIRANGE: Oid = 4537;
pub const ANYCOMPATIBLEMULTIRANGE: Oid = 4538;
pub const ANYCOMPATIBLE: Oid = 5077;
pub const ANYCOMPATIBLEARRAY: Oid = 5078;
pub const ANYCOMPATIBLENONARRAY: Oid = 5079;
pub const ANYCOMPATIBLERANGE: Oid = 5080;

/// The pseudo-types that stand for a type which the arguments of a call decide about.
pub const POLYMORPHIC: [Oid; 13] = [
    ANY,
    ANYARRAY,
    ANYELEMENT,
    ANYNONARRAY,
    ANYENUM,
    ANYRANGE,
    ANYMULTIRANGE,
    ANYCOMPATIBLE,
    ANYCOMPATIBLEARRAY,
    ANYCOMPATIBLENONARRAY,
    ANYCOMPATIBLERANGE,
    ANYCOMPATIBLEMULTIRANGE,
    RECORD,
];

/// How many types are followed from the types that contain others.
const MOST_TYPES: usize = 1000;

/// Adds to some types the domains over them, the arrays of them, and the types of rows with a
/// column of one of them.
pub fn types_containing(state: &dyn State, mut types: HashSet<Oid>) -> HashSet<Oid> {
    let table = state.table(oids::PG_DEPEND);
    let (class, object) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let mut waiting: Vec<Oid> = types.iter().copied().collect();
    while let Some(one) = waiting.pop().filter(|_| types.len() < MOST_TYPES) {
        state.interrupts();
        let mut containing = Vec::new();
        let keys = [(to_class, oids::PG_TYPE), (to_object, one)];
        table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            match row.oid(class) {
                oids::PG_TYPE => containing.push(row.oid(object)),
                // A column of this type.
                oids::PG_CLASS => containing.extend(row_type(state, row.oid(object))),
                _ => {}
            }
        });
        waiting.extend(containing.into_iter().filter(|found| types.insert(*found)));
    }
    types
}

/// Returns the type of the rows of a relation; `None` where it has none, such as an index.
pub fn row_type(state: &dyn State, relation: Oid) -> Option<Oid> {
    of_row(state, oids::CLASS_BY_OID, relation, "reltype", |row, of| row.oid(of))
        .filter(|row_type| *row_type != 0)
}

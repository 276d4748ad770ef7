//! Names of types, in each state of the catalogs.

use super::oids;
use crate::pg::heap::{State, Table, of_row};
use crate::pg::text::from_server;
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::quote_ident;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Returns the name that a type has in a state, qualified whatever the search_path is; `???` where
/// it does not exist. Types of the server have the names of the SQL standard: `bigint`.
pub fn type_name(state: &State, oid: Oid) -> String {
    // The names of the server's own types never change.
    if oid < pg_sys::FirstNormalObjectId || state.is_current() {
        current(oid)
    } else {
        stored(state, oid).unwrap_or_else(|| "???".to_owned())
    }
}

/// Returns the name of a type now, as the server prints it.
pub fn current(oid: Oid) -> String {
    let flags = pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
    let _plain = PlainIdentifiers::begin();
    // SAFETY: returns a C string.
    unsafe {
        let name = pg_sys::format_type_extended(oid.into(), -1, flags as pg_sys::bits16);
        from_server(CStr::from_ptr(name).to_bytes())
    }
}

/// Returns the name of a type that initdb did not create, from the rows of a state; `None` where it
/// does not exist.
fn stored(state: &State, oid: Oid) -> Option<String> {
    let row = TypeRow::read(state, oid)?;
    if let Some(element) = row.array_of {
        return Some(format!("{}[]", type_name(state, element)));
    }
    let schema =
        of_row(state, oids::NAMESPACE_BY_OID, row.schema, "nspname", |row, name| row.name(name))?;
    Some(format!("{}.{}", quote_ident(&schema), quote_ident(&row.name)))
}

/// Whether a type exists in both states and has another name, or another schema, in the second.
/// (Renamed schemas are not considered.)
pub fn is_renamed(then: &State, now: &State, oid: Oid) -> bool {
    TypeRow::read(then, oid)
        .zip(TypeRow::read(now, oid))
        .is_some_and(|(earlier, later)| earlier != later)
}

/// Returns a list of argument types as in the identity of a routine.
pub fn argument_types(oids: &[Oid]) -> String {
    oids.iter().map(|oid| current(*oid)).collect::<Vec<_>>().join(",")
}

/// What names a type.
#[derive(PartialEq, Eq)]
struct TypeRow {
    name: String,
    schema: Oid,
    /// The type of the elements, if it is the array type of a type.
    array_of: Option<Oid>,
}

impl TypeRow {
    fn read(state: &State, oid: Oid) -> Option<Self> {
        let table = Table::open(oids::PG_TYPE);
        let column = |name| table.column(name);
        let (key, name, schema) = (column("oid"), column("typname"), column("typnamespace"));
        let (element, subscript) = (column("typelem"), column("typsubscript"));
        let mut found = None;
        table.lookup(state, oids::PG_TYPE_OID_INDEX, &[(key, oid)], |row| {
            let is_array = row.oid(subscript) == pg_sys::F_ARRAY_SUBSCRIPT_HANDLER;
            found = Some(Self {
                name: row.name(name),
                schema: row.oid(schema),
                array_of: Some(row.oid(element)).filter(|element| is_array && *element != 0),
            });
        });
        found
    }
}

/// Switches `quote_all_identifiers` off until it is dropped: contracts contain the names of types
/// without unnecessary quotes.
struct PlainIdentifiers(bool);

impl PlainIdentifiers {
    fn begin() -> Self {
        // SAFETY: a variable of the backend, which has one thread.
        unsafe {
            let before = Self(pg_sys::quote_all_identifiers);
            pg_sys::quote_all_identifiers = false;
            before
        }
    }
}

impl Drop for PlainIdentifiers {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::quote_all_identifiers = self.0 };
    }
}

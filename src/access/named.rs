//! Looks up the types that users name, as psql and the server print their names.

use crate::catalog;
use crate::pg::report::Report;
use crate::pg::text::to_server;
use crate::pg::{setting, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::safe_ident;
use dragonfly_reader::named::{UNQUALIFIED, Unnamed};
use pgrx::PgSqlErrorCode;
use std::ffi::CString;

/// Looks up a type as users write it, `int` or `numeric(12,2)`: as a name of the server, of the
/// schema of the routine, or in the search_path of the session, with which psql and regprocedure
/// print names.
pub fn type_named(schema: &str, name: &str) -> Option<Oid> {
    let session = crate::settings::value("search_path").unwrap_or_default();
    let names = crate::pg::text::is_utf8()
        .then(|| {
            dragonfly_core::sql::identifiers::split_identifiers(&session, catalog::VERSION).ok()
        })
        .flatten()
        .unwrap_or_default();
    let mut path = vec!["pg_catalog".to_owned(), safe_ident(schema).into_owned()];
    let is_named = |name: &&String| !name.is_empty() && *name != "$user" && *name != "pg_temp";
    path.extend(names.iter().filter(is_named).map(|name| safe_ident(name).into_owned()));
    path.extend(["public".to_owned(), "pg_temp".to_owned()]);
    let path = CString::new(to_server(&path.join(", "))).unwrap_or_default();
    let work = || {
        setting::under(&[(c"search_path", path.as_c_str())], || catalog::deparse::type_named(name))
    };
    // The parser raises an error for a text that is not the name of a type.
    subtransaction::rolled_back(work).ok().flatten()
}

/// Returns a type, as it is written for a routine in this schema, in the form of the contract;
/// `None` where there is no such type.
pub fn type_in_contract(schema: &str, written: &str) -> Option<String> {
    type_named(schema, written).map(in_contract)
}

/// Returns the type that the server finds by the search_path of the session, in the form of the
/// contract.
pub fn type_in_session(written: &str) -> Option<String> {
    let found = subtransaction::rolled_back(|| catalog::deparse::type_named(written));
    found.ok().flatten().map(in_contract)
}

fn in_contract(oid: Oid) -> String {
    let name = catalog::current_type_name(oid);
    name.strip_prefix("pg_catalog.").map_or(name.clone(), str::to_owned)
}

/// Raises the error for a name that cannot be looked up.
pub fn reject(unnamed: &Unnamed) -> ! {
    let code = match unnamed {
        Unnamed::NoColumn { .. } => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        Unnamed::Invalid(_) => PgSqlErrorCode::ERRCODE_INVALID_NAME,
        Unnamed::Ambiguous { .. } => PgSqlErrorCode::ERRCODE_AMBIGUOUS_FUNCTION,
        Unnamed::Unqualified { .. } => PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
    };
    let is_unqualified = matches!(unnamed, Unnamed::Unqualified { .. });
    let detail = if is_unqualified { UNQUALIFIED } else { "" };
    Report { message: unnamed.message(), detail: detail.into(), hint: unnamed.hint() }.error(code)
}

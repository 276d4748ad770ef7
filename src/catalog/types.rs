//! Types for which user-defined code is executed when their values are parsed or compared.

use super::oids;
use crate::pg::heap::{State, Table, of_row};
use dragonfly_core::catalog::Oid;
use dragonfly_core::stored;
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};

/// Returns a type whose values execute more than immutable functions of the server: a domain with
/// such a check, or a range with a user-defined function. Types in the temporary schemas of other
/// sessions are ignored, because this session cannot use them.
pub fn type_running_code(state: &State) -> Option<Oid> {
    let checks = checks(state);
    let ranges = ranges(state);
    let table = Table::open(oids::PG_TYPE);
    let (oid, schema) = (table.column("oid"), table.column("typnamespace"));
    let mut found: Option<Oid> = None;
    table.scan(state, |row| {
        let type_oid = row.oid(oid);
        let runs_code = ranges.contains(&type_oid)
            || checks
                .get(&type_oid)
                .is_some_and(|checks| !checks.iter().all(|check| is_pure(state, check)));
        // SAFETY: a lookup in the system cache.
        if runs_code && !unsafe { pg_sys::isOtherTempNamespace(row.oid(schema).into()) } {
            // The lowest OID, so that the result is the same each time.
            found = Some(found.map_or(type_oid, |known| known.min(type_oid)));
        }
    });
    found
}

/// Returns the check expressions of each domain.
fn checks(state: &State) -> HashMap<Oid, Vec<String>> {
    let table = Table::open(oids::PG_CONSTRAINT);
    let (of, kind, expression) =
        (table.column("contypid"), table.column("contype"), table.column("conbin"));
    let mut found: HashMap<Oid, Vec<String>> = HashMap::new();
    table.scan(state, |row| {
        if row.oid(of) != 0 && row.char(kind) == b'c' {
            found.entry(row.oid(of)).or_default().extend(row.text(expression));
        }
    });
    found
}

/// Returns the range types with a user-defined function, or with a user-defined operator class,
/// which compares the bounds of a literal.
fn ranges(state: &State) -> HashSet<Oid> {
    let table = Table::open(oids::PG_RANGE);
    let column = |name| table.column(name);
    let of = column("rngtypid");
    let parts = [column("rngcanonical"), column("rngsubdiff"), column("rngsubopc")];
    let mut found = HashSet::new();
    table.scan(state, |row| {
        if parts.iter().any(|part| row.oid(*part) >= pg_sys::FirstNormalObjectId) {
            found.insert(row.oid(of));
        }
    });
    found
}

/// Whether an expression calls immutable functions of the server only.
fn is_pure(state: &State, text: &str) -> bool {
    let function_of =
        |operator| of_row(state, oids::OPERATOR_BY_OID, operator, "oprcode", |row, of| row.oid(of));
    let is_immutable = |function| {
        let volatility = "provolatile";
        of_row(state, oids::PROC_BY_OID, function, volatility, |row, of| row.char(of)) == Some(b'i')
    };
    stored::executed(text).is_ok_and(|executed| executed.is_pure(function_of, is_immutable))
}

//! The conditions of policies as the server deparses them.

use super::deparse::call;
use super::oids;
use crate::pg::heap::{Row, State, Table};
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::collections::HashMap;

/// The conditions of a policy, `None` where it does not have them.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct PolicyTexts {
    pub using: Option<String>,
    pub check: Option<String>,
}

/// Returns the conditions of policies, by their OIDs, with the settings of the session: those of
/// the tables that are wanted.
pub fn policy_texts(state: &State, is_wanted: impl Fn(Oid) -> bool) -> HashMap<Oid, PolicyTexts> {
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, on) = (column("oid"), column("polrelid"));
    let (using, check) = (column("polqual"), column("polwithcheck"));
    let mut texts = HashMap::new();
    table.scan(state, |row: Row<'_>| {
        let relation = row.oid(on);
        if !is_wanted(relation) {
            return;
        }
        let text = |column| {
            let tree = row.raw(column)?;
            Some(call(pg_sys::pg_get_expr, &[tree, pg_sys::Datum::from(relation)]))
        };
        texts.insert(row.oid(oid), PolicyTexts { using: text(using), check: text(check) });
    });
    texts
}

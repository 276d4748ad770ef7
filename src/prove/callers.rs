//! The rows that say who callers are: those of a table of users, and of tables that have one row
//! for each user. The code of an application expects them of each caller.

use super::seed::Seeder;
use super::table::Table;
use super::value::{Chosen, Values};
use crate::pg::setting::{self, SAFE_PATH};
use crate::pg::{statement, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::sql::quote_literal;
use std::collections::BTreeSet;

/// How many tables with one row for each user get such a row.
const MOST: usize = 5;

/// Returns the tables of users, each with the column that has the number of the user: those that
/// some columns of a table reference, those of the platform, and those that have one row for each
/// row of these.
pub fn tables(table: &Table, columns: &BTreeSet<i16>, identities: &Identities) -> Vec<(Oid, i16)> {
    let mut found = Vec::new();
    for reference in &table.references {
        if let [(from, to)] = reference.columns[..]
            && columns.contains(&from)
        {
            found.push((reference.target, to));
        }
    }
    found.extend(of_platform(identities));
    found.sort_unstable();
    found.dedup();
    let beside: Vec<_> = found.iter().flat_map(|(oid, number)| one_to_one(*oid, *number)).collect();
    found.extend(beside.into_iter().take(MOST));
    found.dedup();
    found
}

/// Returns the tables whose columns are values of the session, with their primary keys.
fn of_platform(identities: &Identities) -> Vec<(Oid, i16)> {
    let names = identities.columns.keys().filter_map(|name| name.rsplit_once('.'));
    let names: BTreeSet<String> = names.map(|(table, _)| quote_literal(table)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = names.into_iter().collect();
    pairs(&format!(
        "SELECT i.indrelid, i.indkey[0] FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE i.indisprimary AND i.indnkeyatts = 1
            AND pg_catalog.format('%s.%s', n.nspname, c.relname) IN ({})",
        names.join(", ")
    ))
}

/// Returns the tables with a unique column that references a column of another one.
fn one_to_one(oid: Oid, number: i16) -> Vec<(Oid, i16)> {
    pairs(&format!(
        "SELECT c.conrelid, c.conkey[1] FROM pg_constraint c
          WHERE c.contype = 'f' AND c.confrelid = {oid} AND c.confkey = ARRAY[{number}::int2]
            AND EXISTS (SELECT FROM pg_index i
                         WHERE i.indrelid = c.conrelid AND i.indisunique AND i.indnkeyatts = 1
                           AND i.indpred IS NULL AND i.indkey[0] = c.conkey[1])
          ORDER BY c.conrelid"
    ))
}

fn pairs(sql: &str) -> Vec<(Oid, i16)> {
    let rows = setting::under(&[SAFE_PATH], || statement::rows(sql));
    let pair = |row: Vec<Option<String>>| match &row[..] {
        [Some(oid), Some(number)] => Some((oid.parse().ok()?, number.parse().ok()?)),
        _ => None,
    };
    rows.into_iter().filter_map(pair).collect()
}

impl Seeder<'_> {
    /// Puts a row of a caller into a table, unless it is there or the experiment is about the table
    /// itself. Returns whether it did: where it cannot, the code of the application is on its own.
    pub fn caller_row(
        &mut self,
        (relation, column): (Oid, i16),
        user: &str,
        chosen: &mut Chosen,
    ) -> bool {
        if self.is_planned(relation) {
            return false;
        }
        let key: Values = [(column, Some(user.to_owned()))].into();
        let done = subtransaction::attempt(|| self.referenced(relation, &key, chosen));
        matches!(done, Ok(Ok(true)))
    }
}

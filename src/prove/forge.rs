//! Lookups that a client writes to make a row its own.

use super::attempt::{Client, Observed};
use super::seed::{Seeder, note_types};
use super::value::Chosen;
use dragonfly_core::catalog::{Command, Forgeable};
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::policy::{Cell, NUMBERS, Planned, Scenario};
use std::collections::BTreeMap;

/// Writes rows as a client.
pub struct Forger<'a> {
    /// What names the tables.
    pub catalog: &'a dyn Catalog,
    /// The name of the client role.
    pub role: &'a str,
    /// What the client can write.
    pub forged: &'a Forgeable,
}

/// Returns the lookups of a scenario that the client writes, and the others.
pub fn forged(catalog: &dyn Catalog, scenario: &Scenario) -> (Vec<Planned>, Vec<Planned>) {
    let lookups = scenario.rows.iter().skip(1).cloned();
    let is_forged = |row: &Planned| {
        let name = catalog.relation_name(row.relation);
        scenario.forged.as_ref().is_some_and(|of| name.as_ref() == Some(&of.table))
    };
    lookups.partition(is_forged)
}

impl Forger<'_> {
    /// Writes the rows as the client. Returns the table that the client could not write, with what
    /// was observed.
    ///
    /// # Errors
    /// Why that could not be tried.
    pub fn write(
        &self,
        seeder: &mut Seeder<'_>,
        rows: &[Planned],
        client: &Client<'_>,
        chosen: &mut Chosen,
    ) -> Result<Option<(String, Observed)>, String> {
        if rows.is_empty() {
            return Err(format!("It is not known which row of {} is written.", self.forged.table));
        }
        for row in rows {
            let table = seeder.table(row.relation)?;
            let (all, asked) = seeder.planned(&table, &row.columns, self.role, chosen)?;
            let observed = if self.forged.command == Command::Insert {
                client.insert(seeder, &table, &all, &asked)
            } else {
                let before = self.before(row);
                note_types(&table, &before, chosen);
                let own = seeder.row(row.relation, &before, self.role, chosen)?;
                client.update(seeder, &table, &own, &asked, Some(&asked))
            };
            if observed != Observed::Reached {
                return Ok(Some((table.name.clone(), observed)));
            }
        }
        Ok(None)
    }

    /// Returns a row before the client changes the columns that it can change.
    fn before(&self, row: &Planned) -> BTreeMap<i16, Cell> {
        let mut columns = row.columns.clone();
        for (number, cell) in &mut columns {
            let name = self.catalog.column_name(row.relation, *number);
            if name.is_some_and(|name| self.forged.columns.contains(&name)) {
                *cell = Cell::Any(4 * NUMBERS + u32::from(number.unsigned_abs()));
            }
        }
        columns
    }
}

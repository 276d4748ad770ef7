//! Lookups that a client writes to make a row its own.

use super::attempt::{Client, Observed};
use super::seed::{Seeded, Seeder, note_types};
use super::value::Chosen;
use dragonfly_core::catalog::{Command, Forgeable, Oid};
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Cell, NUMBERS, Planned, Question, Scenario, Written, each_scenario};
use std::collections::BTreeSet;

/// Writes rows as a client.
pub struct Forger<'a> {
    /// What names the tables.
    pub catalog: &'a dyn Catalog,
    /// The name of the client role.
    pub role: &'a str,
    /// What the client can write.
    pub forged: &'a Forgeable,
    /// What lets it write, where that was looked for.
    pub writer: Option<&'a Writer>,
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

/// What lets a client write a row of a lookup.
pub struct Writer {
    /// The row of the lookup: as it is before the client updates it, or as it is inserted.
    pub row: Planned,
    /// The rows of lookups of its policies.
    pub rows: Vec<Planned>,
}

/// How many ways in which the client may write a row are tried.
const MOST_WRITERS: usize = 8;

/// Returns ways in which the policies of a lookup let the client write its row.
pub fn writers(
    (catalog, identities): (&dyn Catalog, &Identities),
    role: Oid,
    scenario: &Scenario,
) -> Vec<Writer> {
    let (Some(of), [row]) = (&scenario.forged, &forged(catalog, scenario).0[..]) else {
        return Vec::new();
    };
    let relation = row.relation;
    let Some(writable) = catalog.writes(role, relation, of.command) else { return Vec::new() };
    let is_insert = of.command == Command::Insert;
    let columns = Some(&writable.columns);
    let (policies, written) = if is_insert {
        (writable.policies.as_ref(), Some(Written::Inserted { columns }))
    } else {
        (writable.policies.as_ref().map(|_| &writable.existing), None)
    };
    let Some(policies) = policies else { return Vec::new() };
    let restrictive: Vec<_> = policies.restrictive.iter().collect();
    let keys = catalog.unique_keys(relation);
    let (known, free) =
        if is_insert { (row.clone(), BTreeSet::new()) } else { before(catalog, of, row) };
    let all = policies.permissive.iter().flat_map(|condition| {
        let condition = Some(condition);
        let restrictive = &restrictive;
        each_scenario(&Question {
            catalog,
            identities,
            relation,
            role,
            condition,
            restrictive,
            written,
        })
    });
    let found = all.filter_map(|by| by.within(&scenario.session, (&known, &free), &keys));
    found.map(|(row, rows)| Writer { row, rows }).take(MOST_WRITERS).collect()
}

/// Returns a row before the client changes the columns that it can change, and their numbers.
fn before(catalog: &dyn Catalog, forged: &Forgeable, row: &Planned) -> (Planned, BTreeSet<i16>) {
    let (mut row, mut free) = (row.clone(), BTreeSet::new());
    for (number, cell) in &mut row.columns {
        let name = catalog.column_name(row.relation, *number);
        if name.is_some_and(|name| forged.columns.contains(&name)) {
            let another = 4 * NUMBERS + u32::from(number.unsigned_abs());
            *cell = match cell {
                Cell::Constant(constant) => {
                    Cell::Except { number: another, not: vec![constant.clone()] }
                }
                _ => Cell::Any(another),
            };
            free.insert(*number);
        }
    }
    (row, free)
}

impl Forger<'_> {
    /// Puts the rows that the client updates into their table.
    ///
    /// # Errors
    /// Why there are no such rows.
    pub fn prepare(
        &self,
        seeder: &mut Seeder<'_>,
        rows: &[Planned],
        chosen: &mut Chosen,
    ) -> Result<Vec<Seeded>, String> {
        if self.forged.command == Command::Insert {
            return Ok(Vec::new());
        }
        let prepared = rows.iter().map(|row| {
            let table = seeder.table(row.relation)?;
            let of_writer = self.writer.map(|writer| writer.row.clone());
            let before = of_writer.unwrap_or_else(|| before(self.catalog, self.forged, row).0);
            note_types(&table, &before.columns, chosen);
            seeder.meet_checks(&table, &before.columns, chosen);
            seeder.row(row.relation, &before.columns, self.role, chosen)
        });
        prepared.collect()
    }

    /// Writes the rows as the client. Returns the table that the client could not write, with what
    /// was observed.
    ///
    /// # Errors
    /// Why that could not be tried.
    pub fn write(
        &self,
        seeder: &mut Seeder<'_>,
        (rows, prepared): (&[Planned], &[Seeded]),
        client: &Client<'_>,
        chosen: &mut Chosen,
    ) -> Result<Option<(String, Observed)>, String> {
        if rows.is_empty() {
            return Err(format!("It is not known which row of {} is written.", self.forged.table));
        }
        for (at, row) in rows.iter().enumerate() {
            let table = seeder.table(row.relation)?;
            let is_insert = self.forged.command == Command::Insert;
            let inserted = self.writer.filter(|_| is_insert).map_or(row, |writer| &writer.row);
            let (all, asked) = seeder.planned(&table, &inserted.columns, self.role, chosen)?;
            let observed = match prepared.get(at) {
                Some(own) => client.update(seeder, &table, own, &asked, Some(&asked)),
                None => client.insert(seeder, &table, &all, &asked),
            };
            if observed != Observed::Reached {
                return Ok(Some((table.name.clone(), observed)));
            }
        }
        Ok(None)
    }
}

//! What an experiment is going to do, before anything is put into tables.

use super::proof::Expected;
use super::seed::{Seeder, note_types, note_user};
use super::value::{Chosen, Values, text_of};
use dragonfly_core::catalog::{Command, Opening, Rows};
use dragonfly_core::policy::{Cell, Constant, NUMBERS, Planned, Reached, Scenario};
use std::collections::BTreeMap;

/// An experiment before anything is put into tables.
pub struct Plan<'s> {
    pub command: Command,
    pub rows: Rows,
    pub reached: Reached,
    /// The row that must be there, with the ones that it needs.
    pub old: Option<&'s Scenario>,
    /// The row that is written, with the ones that it needs.
    pub new: Option<&'s Scenario>,
    /// The scenario that the experiment is about.
    pub main: &'s Scenario,
}

impl Plan<'_> {
    /// Returns what the analysis says.
    pub fn expected(&self) -> Expected {
        match self.reached {
            _ if self.main.may_fail => Expected::Unknown,
            Reached::Open(Opening::Opaque | Opening::ForeignOperator) => Expected::Unknown,
            Reached::Open(_) | Reached::Forged(_) => Expected::Reached,
            Reached::Tied | Reached::Privileged | Reached::Never => Expected::NotReached,
        }
    }

    /// Whether the one who asks is said to reach the row, which is not that caller's.
    pub fn is_own(&self) -> bool {
        matches!(self.reached, Reached::Open(_) | Reached::Forged(_))
    }

    /// Whether a new row is asked for nothing.
    pub fn asks_nothing(&self) -> bool {
        let columns = self.new.and_then(|of| of.rows.first()).map(|row| &row.columns);
        self.rows == Rows::New && columns.is_some_and(BTreeMap::is_empty)
    }

    pub fn writes(&self) -> bool {
        self.command != Command::Select
    }
}

/// Returns the values that a new row has where another caller writes it: those of the session are
/// the other caller's.
pub fn own_values(
    scenario: &Scenario,
    written: Option<&(Values, Values)>,
    value: &dyn Fn(&String) -> Option<String>,
) -> (Values, Values) {
    let (mut all, mut asked) = written.cloned().unwrap_or_default();
    let cells = scenario.rows.first().map(|row| &row.columns);
    for (number, cell) in cells.into_iter().flatten() {
        let of_session = scenario.session.iter().find(|(_, of)| *of == cell);
        if let Some(value) = of_session.and_then(|(name, _)| value(name)) {
            all.insert(*number, Some(value.clone()));
            asked.insert(*number, Some(value));
        }
    }
    (all, asked)
}

/// Whether a row with these values may pass in the way of a scenario.
pub fn may_have(values: &Values, scenario: &Scenario) -> bool {
    let columns = scenario.rows.first().map(|row| &row.columns);
    columns.into_iter().flatten().all(|(number, cell)| {
        // It may have its default.
        let Some(value) = values.get(number).cloned() else { return true };
        match cell {
            Cell::Null => value.is_none(),
            Cell::Constant(constant) => value == Some(text_of(constant)),
            // Whether a value is less than another one is not compared.
            Cell::Beside { .. } | Cell::Between { .. } | Cell::Computed(_) => false,
            Cell::Except { not, .. } => not.iter().all(|constant| value != Some(text_of(constant))),
            _ => true,
        }
    })
}

/// Notes the types of all values of a scenario.
pub fn note_all(
    seeder: &mut Seeder<'_>,
    scenario: &Scenario,
    chosen: &mut Chosen,
) -> Result<(), String> {
    note_rows(seeder, &scenario.rows, chosen)?;
    if let Some(user) = scenario.session.get("user") {
        note_user(user, chosen);
    }
    Ok(())
}

/// Notes the types of the values of rows, and chooses those that CHECK constraints ask for.
pub fn note_rows(
    seeder: &mut Seeder<'_>,
    rows: &[Planned],
    chosen: &mut Chosen,
) -> Result<(), String> {
    for row in rows {
        let table = seeder.table(row.relation)?;
        note_types(&table, &row.columns, chosen);
        seeder.meet_checks(&table, &row.columns, chosen);
    }
    Ok(())
}

/// Returns the values of a session of another caller: where the row is tied to the caller, those
/// that are no constants are others; where the caller has a right, that right is missing.
pub fn another(plan: &Plan<'_>, chosen: &mut Chosen) -> BTreeMap<String, Cell> {
    let mut number = 3 * NUMBERS;
    let mut other = |cell: &Cell, chosen: &mut Chosen| {
        number += 1;
        chosen.note_like(number, cell);
        Cell::Any(number)
    };
    let keeps_constants = plan.reached != Reached::Privileged;
    let cells = plan.main.session.iter().map(|(name, cell)| {
        let cell = match cell {
            Cell::Null => Cell::Null,
            constant @ Cell::Constant(_) if keeps_constants => constant.clone(),
            Cell::Constant(Constant::Boolean(value)) => Cell::Constant(Constant::Boolean(!value)),
            Cell::List(of) => Cell::List(other(of, chosen).into()),
            cell => other(cell, chosen),
        };
        (name.clone(), cell)
    });
    cells.collect()
}

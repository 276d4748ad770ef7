//! Putting rows into tables, as the owners of these.

use super::table::{Reference, Table};
use super::value::{Chosen, NoValue, Type};
use crate::pg::{restricted, setting, statement, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::policy::{Cell, Constant, completed};
use dragonfly_core::sql::{capitalized, quote_literal};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// How many foreign keys are followed from a row.
const DEEPEST: usize = 5;

/// Puts rows into tables.
pub struct Seeder<'a> {
    /// What tables, and the conditions of their constraints, mention.
    pub catalog: &'a dyn Catalog,
    /// The caller.
    pub caller: Caller,
    /// The tables of the rows that are put into them anyway.
    planned: BTreeSet<Oid>,
    tables: HashMap<Oid, Option<Rc<Table>>>,
}

/// The role that asks for an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Its OID.
    pub oid: Oid,
    /// Whether it is a superuser.
    pub is_superuser: bool,
}

/// The values of the columns of a row: a text, or null.
pub type Values = BTreeMap<i16, Option<String>>;

/// A row of a table.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// The condition that finds it by its place.
    pub place: String,
    /// Its values, where they were given.
    pub values: Values,
}

impl<'a> Seeder<'a> {
    /// Returns what puts rows into tables for a caller.
    pub fn new(catalog: &'a dyn Catalog, caller: Caller, planned: BTreeSet<Oid>) -> Self {
        Self { catalog, caller, planned, tables: HashMap::new() }
    }

    /// Returns a table.
    ///
    /// # Errors
    /// Why no rows can be put into it.
    pub fn table(&mut self, oid: Oid) -> Result<Rc<Table>, String> {
        let known = self.tables.entry(oid).or_insert_with(|| Table::read(oid).map(Rc::new));
        known.clone().ok_or_else(|| {
            let name = self.catalog.relation_name(oid).unwrap_or_else(|| oid.to_string());
            format!("{name} is no table.")
        })
    }

    /// Executes `work` as the role that may put rows into a table and read all of them. Must be
    /// called in a subtransaction.
    ///
    /// # Errors
    /// Why there is no such role.
    pub fn as_owner<T>(&self, table: &Table, work: impl FnOnce() -> T) -> Result<T, String> {
        let role = if !table.limits_owner {
            table.owner
        } else if self.caller.is_superuser && !table.runs_code {
            // Only code of the server runs with the privileges of the caller.
            self.caller.oid
        } else {
            return Err(format!(
                "Row security is forced on {}, so that its owner does not see its rows, and other \
                 roles could execute code of the owner.",
                table.name
            ));
        };
        // SAFETY: lookups in the system cache.
        let may = role == self.caller.oid
            || unsafe { pg_sys::is_member_of_role(self.caller.oid.into(), role.into()) };
        if !may {
            return Err(format!(
                "The caller is no member of {}, which owns {}.",
                table.owner_name, table.name
            ));
        }
        Ok(restricted::as_role(role, || setting::isolated(&[setting::SAFE_PATH], work)))
    }

    /// Puts a row into a table, and before it those that its foreign keys reference.
    ///
    /// # Errors
    /// Why there is no such row.
    pub fn row(
        &mut self,
        relation: Oid,
        cells: &BTreeMap<i16, Cell>,
        role: &str,
        chosen: &mut Chosen,
    ) -> Result<Seeded, String> {
        let table = self.table(relation)?;
        let given = self.given(&table, cells, role, chosen)?;
        self.insert(&table, given, chosen, DEEPEST)
    }

    /// Puts a row into a table as [`Seeder::row`] does, unless there is such a row.
    ///
    /// # Errors
    /// Why there is no such row.
    pub fn lookup(
        &mut self,
        relation: Oid,
        cells: &BTreeMap<i16, Cell>,
        role: &str,
        chosen: &mut Chosen,
    ) -> Result<(), String> {
        let table = self.table(relation)?;
        let given = self.given(&table, cells, role, chosen)?;
        if self.exists(&table, &given)? {
            return Ok(());
        }
        self.insert(&table, given, chosen, DEEPEST).map(|_| ())
    }

    /// Returns the values of a row that is not put into its table, all of them and those of the
    /// cells; the rows that it references are put into theirs.
    ///
    /// # Errors
    /// Why there are no such values.
    pub fn planned(
        &mut self,
        table: &Table,
        cells: &BTreeMap<i16, Cell>,
        role: &str,
        chosen: &mut Chosen,
    ) -> Result<(Values, Values), String> {
        let given = self.given(table, cells, role, chosen)?;
        let mut asked = given.clone();
        asked.retain(|number, _| cells.contains_key(number));
        Ok((self.complete(table, given, chosen, DEEPEST)?, asked))
    }

    /// Returns the values of cells, and of other columns that the CHECK constraints name.
    fn given(
        &self,
        table: &Table,
        cells: &BTreeMap<i16, Cell>,
        role: &str,
        chosen: &mut Chosen,
    ) -> Result<Values, String> {
        let mut given = self.allowed(table, cells, chosen);
        for (number, cell) in cells {
            let Some(column) = table.columns.get(number).filter(|of| !of.is_generated) else {
                continue;
            };
            let text = chosen.text(cell, &column.data_type, role);
            let no_value = || format!("No value of {}.{} is known.", table.name, column.name);
            given.insert(*number, text.map_err(|NoValue| no_value())?);
        }
        Ok(given)
    }

    /// Returns values of other columns that the CHECK constraints allow.
    fn allowed(&self, table: &Table, cells: &BTreeMap<i16, Cell>, chosen: &mut Chosen) -> Values {
        let more = completed(self.catalog, table.oid, cells);
        let value = |(number, cell): (&i16, &Cell)| {
            let column = table.columns.get(number).filter(|of| !of.is_generated)?;
            let text = match cell {
                Cell::Any(_) => Some(column.data_type.any(chosen.next())?),
                cell => chosen.text(cell, &column.data_type, "").ok()?,
            };
            Some((*number, text))
        };
        more.iter().filter_map(value).collect()
    }

    /// Returns the values of a row with those that are required, and puts the rows that it
    /// references into their tables.
    fn complete(
        &mut self,
        table: &Table,
        mut given: Values,
        chosen: &mut Chosen,
        depth: usize,
    ) -> Result<Values, String> {
        // What other rows reference is there.
        let mut taken = BTreeSet::new();
        for reference in &table.references {
            let is_open = |number: &i16| {
                !given.contains_key(number)
                    && table.columns.get(number).is_some_and(|of| of.is_required)
            };
            if reference.columns.iter().all(|(from, _)| is_open(from)) {
                let target = self.table(reference.target)?;
                let own: Vec<_> =
                    reference.columns.iter().map(|(from, _)| (*from, *from)).collect();
                let known = self.existing(&target, &reference.columns);
                let known = known.or_else(|_| self.existing(table, &own))?;
                taken.extend(known.keys().copied());
                given.extend(known);
            }
        }
        for (number, column) in &table.columns {
            if given.contains_key(number) || column.is_generated || column.has_constant {
                continue;
            }
            let value = if column.is_required {
                let value = column.data_type.usual(chosen.next());
                let no_value = || format!("No value of {}.{} is known.", table.name, column.name);
                Some(value.ok_or_else(no_value)?)
            } else {
                None
            };
            given.insert(*number, value);
        }
        let is_made = |of: &&Reference| of.columns.iter().any(|(from, _)| !taken.contains(from));
        for reference in table.references.iter().filter(is_made) {
            self.reference(table, &given, reference, chosen, depth)?;
        }
        Ok(given)
    }

    fn insert(
        &mut self,
        table: &Table,
        given: Values,
        chosen: &mut Chosen,
        depth: usize,
    ) -> Result<Seeded, String> {
        let certain: Vec<i16> = given.keys().copied().collect();
        let values = self.complete(table, given, chosen, depth)?;
        let first = subtransaction::attempt(|| self.insert_values(table, &values));
        let error = match first {
            Ok(done) => return done,
            Err(error) => error,
        };
        let report = subtransaction::report(&error);
        let failed = format!("No row could be put into {}: {}.", table.name, report.message());
        // What a constraint allows is what another row has.
        if report.sql_error_code() != PgSqlErrorCode::ERRCODE_CHECK_VIOLATION {
            return Err(failed);
        }
        let unique: Vec<i16> = table.keys.iter().flatten().copied().collect();
        let free: Vec<(i16, i16)> = values
            .keys()
            .filter(|number| !certain.contains(number) && !unique.contains(number))
            .map(|number| (*number, *number))
            .collect();
        let mut values = values.clone();
        values.extend(self.existing(table, &free)?);
        subtransaction::attempt(|| self.insert_values(table, &values)).unwrap_or(Err(failed))
    }

    fn insert_values(&self, table: &Table, values: &Values) -> Result<Seeded, String> {
        let sql = format!("{} RETURNING ctid, tableoid", insertion(table, values.iter()));
        let rows = self.without_triggers(|| self.as_owner(table, || statement::rows(&sql)))?;
        let place = match rows.first().map(Vec::as_slice) {
            Some([Some(place), Some(table)]) => format!(
                "ctid OPERATOR(pg_catalog.=) {}::pg_catalog.tid
                   AND tableoid OPERATOR(pg_catalog.=) {table}::pg_catalog.oid",
                quote_literal(place)
            ),
            _ => return Err(format!("A trigger of {} kept the row out.", table.name)),
        };
        Ok(Seeded { place, values: values.clone() })
    }

    /// Executes `work` without ordinary triggers and foreign keys, if the caller may turn them off.
    /// An error ends the subtransaction, and with it the setting.
    fn without_triggers<T>(&self, work: impl FnOnce() -> T) -> T {
        let set = |role: &str| {
            let name = "session_replication_role";
            statement::count(&format!("SELECT pg_catalog.set_config('{name}', '{role}', true)"));
        };
        if self.caller.is_superuser {
            set("replica");
        }
        let result = work();
        if self.caller.is_superuser {
            set("origin");
        }
        result
    }

    /// Puts the row that a foreign key references into its table, unless it is there.
    fn reference(
        &mut self,
        table: &Table,
        values: &Values,
        reference: &Reference,
        chosen: &mut Chosen,
        depth: usize,
    ) -> Result<(), String> {
        let key: Option<Values> = reference
            .columns
            .iter()
            .map(|(from, to)| {
                let value = values.get(from)?.clone()?;
                Some((*to, Some(value)))
            })
            .collect();
        let Some(key) = key else { return Ok(()) };
        // Foreign keys are off, and the row comes later.
        if self.caller.is_superuser && self.planned.contains(&reference.target) {
            return Ok(());
        }
        let is_itself = reference.target == table.oid
            && key.iter().all(|(number, value)| values.get(number) == Some(value));
        if is_itself {
            return Ok(());
        }
        let target = self.table(reference.target)?;
        let is_there = self.exists(&target, &key)?;
        if is_there {
            return Ok(());
        }
        if depth == 0 {
            return Err(format!("The foreign keys of {} lead too far.", table.name));
        }
        let known = key.iter().map(|(number, value)| {
            let text = value.clone().unwrap_or_default();
            (*number, Cell::Constant(Constant::Text(text)))
        });
        let mut given = key.clone();
        given.extend(self.allowed(&target, &known.collect(), chosen));
        self.insert(&target, given, chosen, depth - 1).map(|_| ())
    }

    /// Whether a table has a row with these values.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn exists(&self, table: &Table, values: &Values) -> Result<bool, String> {
        let condition = condition(table, values);
        let sql = format!("SELECT FROM {} WHERE {condition} LIMIT 1", table.name);
        let found = subtransaction::attempt(|| self.as_owner(table, || statement::count(&sql)));
        Ok(found.map_err(|error| message(&error))?? > 0)
    }

    /// Whether a row is at a place of a table.
    pub fn is_at(&self, table: &Table, place: &str) -> bool {
        let sql = format!("SELECT FROM {} WHERE {place}", table.name);
        let found = subtransaction::attempt(|| self.as_owner(table, || statement::count(&sql)));
        matches!(found, Ok(Ok(1..)))
    }

    /// Returns values of a row of a table, for the first columns of pairs those of the second.
    fn existing(&self, table: &Table, columns: &[(i16, i16)]) -> Result<Values, String> {
        let known = |(from, to): &(i16, i16)| Some((*from, table.columns.get(to)?));
        let columns: Vec<_> = columns.iter().filter_map(known).collect();
        if columns.is_empty() {
            return Ok(Values::new());
        }
        let names: Vec<&str> = columns.iter().map(|(_, column)| column.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {} LIMIT 1", names.join(", "), table.name);
        let rows = subtransaction::attempt(|| self.as_owner(table, || statement::rows(&sql)));
        let rows = rows.map_err(|error| message(&error))??;
        let numbers = columns.iter().map(|(number, _)| *number);
        Ok(rows.into_iter().next().map(|row| numbers.zip(row).collect()).unwrap_or_default())
    }
}

/// Returns what an error says, as a sentence.
fn message(error: &CaughtError) -> String {
    format!("{}.", capitalized(subtransaction::report(error).message()))
}

/// Returns the condition that finds rows with values that can be compared.
pub fn condition(table: &Table, values: &Values) -> String {
    let compared = values.iter().filter_map(|(number, value)| {
        let column = table.columns.get(number)?;
        match value {
            None => Some(format!("{} IS NULL", column.name)),
            Some(value) => column.data_type.is_comparable().then(|| {
                format!("{} OPERATOR(pg_catalog.=) {}", column.name, quote_literal(value))
            }),
        }
    });
    let all: Vec<String> = compared.collect();
    if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
}

/// Returns the statement that inserts a row.
pub fn insertion<'v>(
    table: &Table,
    values: impl Iterator<Item = (&'v i16, &'v Option<String>)>,
) -> String {
    let of = |(number, value): (&i16, &Option<String>)| {
        (table.columns[number].name.as_str(), literal(value.as_deref()))
    };
    let (names, values): (Vec<&str>, Vec<String>) = values.map(of).unzip();
    if names.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table.name);
    }
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})", table.name)
}

/// Returns a value in SQL.
pub fn literal(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), quote_literal)
}

/// Notes the types that the values of cells must have.
pub fn note_types(table: &Table, cells: &BTreeMap<i16, Cell>, chosen: &mut Chosen) {
    for (number, cell) in cells {
        if let Some(column) = table.columns.get(number) {
            chosen.note(cell, &column.data_type);
        }
    }
}

/// Notes that the user is a UUID where no column says otherwise.
pub fn note_user(cell: &Cell, chosen: &mut Chosen) {
    chosen.note(cell, &Type::of_session(true));
}

//! Putting rows into tables, as the owners of these.

use super::failure::Failure;
use super::partition;
use super::table::{Reference, Table};
use super::value::{Chosen, NoValue, Type, Values};
use crate::pg::{restricted, setting, statement, subtransaction};
use dragonfly_core::catalog::Oid;
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::policy::{Cell, Constant, NUMBERS, completed};
use dragonfly_core::sql::{quote_literal, safe_ident};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// More columns than a table has.
const MOST_COLUMNS: u32 = 2_000;

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
            format!("{name} is looked up, and is no table: no row can be put into it.")
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
                "Row security is forced on {0}, so that its owner does not see its rows, and other \
                 roles could execute code of the owner: try it in a copy of the database, after \
                 ALTER TABLE {0} NO FORCE ROW LEVEL SECURITY.",
                table.name
            ));
        };
        // SAFETY: lookups in the system cache.
        let may = role == self.caller.oid
            || unsafe { pg_sys::is_member_of_role(self.caller.oid.into(), role.into()) };
        if !may {
            let owner = safe_ident(&table.owner_name);
            // SAFETY: a lookup in the system cache.
            let advice = if unsafe { pg_sys::superuser_arg(role.into()) } {
                "call the function as a superuser.".to_owned()
            } else {
                let caller = self.catalog.role_name(self.caller.oid).unwrap_or_default();
                format!("GRANT {owner} TO {};", safe_ident(&caller))
            };
            return Err(format!(
                "The caller is no member of {owner}, which owns {}: {advice}",
                table.name
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
        self.insert(&table, (given, &certain(cells)), chosen, DEEPEST)
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
        self.insert(&table, (given, &certain(cells)), chosen, DEEPEST).map(|_| ())
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
        // The other rows are there already.
        let planned = std::mem::take(&mut self.planned);
        let values = self.complete(table, given, chosen, DEEPEST);
        self.planned = planned;
        let values = values?;
        // Whether the constraints allow them is tried before the client does.
        match subtransaction::rolled_back(|| self.insert_values(table, &values)) {
            Err(error) if is_of_check(&error) => {
                Ok((self.as_another(table, values, &certain(cells))?, asked))
            }
            _ => Ok((values, asked)),
        }
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
            let no_value = |NoValue| {
                format!(
                    "The policy asks {}.{} for something that is true of no value that is known of \
                     its type.",
                    table.name, column.name
                )
            };
            given.insert(*number, text.map_err(no_value)?);
        }
        Ok(given)
    }

    /// Chooses values for the free cells of a row that the CHECK constraints of its table allow,
    /// where these have none yet.
    pub fn meet_checks(&self, table: &Table, cells: &BTreeMap<i16, Cell>, chosen: &mut Chosen) {
        let allowed = completed(self.catalog, table.oid, cells);
        for (number, cell) in cells {
            let (of, column) = match (cell, table.columns.get(number)) {
                (Cell::Any(of) | Cell::Except { number: of, .. }, Some(column)) => (*of, column),
                _ => continue,
            };
            let is_asked = |of: &&Cell| !matches!(of, Cell::Any(_) | Cell::Except { .. });
            let Some(value) = allowed.get(number).filter(is_asked) else { continue };
            let value = chosen.text(&value.numbered_from(of), &column.data_type, "");
            if let Ok(Some(text)) = value
                && !chosen.is_set(of)
            {
                chosen.set(of, text);
            }
        }
    }

    /// Returns values of other columns that the CHECK constraints allow.
    fn allowed(&self, table: &Table, cells: &BTreeMap<i16, Cell>, chosen: &mut Chosen) -> Values {
        let more = completed(self.catalog, table.oid, cells);
        // These are values of this row alone.
        let from = 5 * NUMBERS + chosen.next() * MOST_COLUMNS;
        let value = |(number, cell): (&i16, &Cell)| {
            let column = table.columns.get(number).filter(|of| !of.is_generated)?;
            let cell = cell.numbered_from(from);
            chosen.note(&cell, &column.data_type);
            Some((*number, chosen.text(&cell, &column.data_type, "").ok()?))
        };
        more.iter().filter(|(number, _)| !cells.contains_key(number)).filter_map(value).collect()
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
        given.extend(partition::values(table, &given, chosen));
        let open: BTreeSet<i16> =
            table.columns.keys().filter(|number| !given.contains_key(number)).copied().collect();
        for (number, column) in &table.columns {
            if given.contains_key(number) || column.is_generated || column.has_constant {
                continue;
            }
            let value = if column.is_required {
                let value = column.data_type.usual(chosen.next());
                let of_another =
                    || self.existing(table, &[(*number, *number)]).ok()?.remove(number)?;
                let no_value = || {
                    format!(
                        "No value of {}.{} is known: insert a row into {0}, and its value is used, \
                         or give the column a constant as its default.",
                        table.name, column.name
                    )
                };
                Some(value.or_else(of_another).ok_or_else(no_value)?)
            } else {
                None
            };
            given.insert(*number, value);
        }
        // The first row of a tree references itself.
        for reference in table.references.iter().filter(|of| of.target == table.oid) {
            let is_open = |number: &i16| open.contains(number) && !is_unset(&given, *number);
            if reference.columns.iter().all(|(from, _)| is_open(from)) {
                let own = |(from, to): &(i16, i16)| Some((*from, given.get(to)?.clone()));
                given.extend(reference.columns.iter().filter_map(own).collect::<Values>());
            }
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
        (given, certain): (Values, &BTreeSet<i16>),
        chosen: &mut Chosen,
        depth: usize,
    ) -> Result<Seeded, String> {
        let values = self.complete(table, given, chosen, depth)?;
        let error = match subtransaction::attempt(|| self.insert_values(table, &values)) {
            Ok(done) => return done,
            Err(error) => error,
        };
        let failure = Failure::of(&error);
        let failed =
            failure.after(&format!("No row could be put into {}: {}", table.name, failure.message));
        if !is_of_check(&error) {
            return Err(failed);
        }
        let values = self.as_another(table, values, certain)?;
        subtransaction::attempt(|| self.insert_values(table, &values)).unwrap_or(Err(failed))
    }

    /// Returns values, of which those that are not certain are what another row has: a constraint
    /// allows these.
    fn as_another(
        &self,
        table: &Table,
        mut values: Values,
        certain: &BTreeSet<i16>,
    ) -> Result<Values, String> {
        let unique: BTreeSet<i16> = table.keys.iter().flatten().copied().collect();
        let is_free = |number: &&i16| !certain.contains(number) && !unique.contains(number);
        let free: Vec<(i16, i16)> =
            values.keys().filter(is_free).map(|number| (*number, *number)).collect();
        values.extend(self.existing(table, &free)?);
        Ok(values)
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
            _ => {
                return Err(format!(
                    "A trigger or a rule of {} kept the row out: one that fires ALWAYS, or any \
                     where the caller is no superuser.",
                    table.name
                ));
            }
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
        if depth == 0 {
            let target = self.table(reference.target)?;
            if self.exists(&target, &key)? {
                return Ok(());
            }
            return Err(format!(
                "The foreign keys of {} lead too far: insert a row into {}, and it is referenced.",
                table.name, target.name
            ));
        }
        self.with_key(reference.target, &key, chosen, depth - 1).map(|_| ())
    }

    /// Whether the experiment is about rows of a table.
    pub fn is_planned(&self, relation: Oid) -> bool {
        self.planned.contains(&relation)
    }

    /// Puts a row with a key into a table, unless it is there; returns whether it did.
    ///
    /// # Errors
    /// Why there is no such row.
    pub fn referenced(
        &mut self,
        relation: Oid,
        key: &Values,
        chosen: &mut Chosen,
    ) -> Result<bool, String> {
        self.with_key(relation, key, chosen, DEEPEST)
    }

    fn with_key(
        &mut self,
        relation: Oid,
        key: &Values,
        chosen: &mut Chosen,
        depth: usize,
    ) -> Result<bool, String> {
        let table = self.table(relation)?;
        if self.exists(&table, key)? {
            return Ok(false);
        }
        let known = key.iter().map(|(number, value)| {
            let text = value.clone().unwrap_or_default();
            (*number, Cell::Constant(Constant::Text(text)))
        });
        let mut given = key.clone();
        given.extend(self.allowed(&table, &known.collect(), chosen));
        let certain = key.keys().copied().collect();
        self.insert(&table, (given, &certain), chosen, depth).map(|_| true)
    }

    /// Whether a table has a row with these values.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn exists(&self, table: &Table, values: &Values) -> Result<bool, String> {
        let condition = condition(table, values);
        let sql = format!("SELECT FROM {} WHERE {condition} LIMIT 1", table.name);
        let found = subtransaction::attempt(|| self.as_owner(table, || statement::count(&sql)));
        Ok(found.map_err(|error| Failure::of(&error).sentences())?? > 0)
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
        let rows = rows.map_err(|error| Failure::of(&error).sentences())??;
        let numbers = columns.iter().map(|(number, _)| *number);
        Ok(rows.into_iter().next().map(|row| numbers.zip(row).collect()).unwrap_or_default())
    }
}

/// Whether a column has no value, or null.
fn is_unset(values: &Values, number: i16) -> bool {
    values.get(&number).is_none_or(Option::is_none)
}

/// Returns the columns that must have certain values.
fn certain(cells: &BTreeMap<i16, Cell>) -> BTreeSet<i16> {
    cells.keys().copied().collect()
}

/// Whether an error is that of a CHECK constraint.
fn is_of_check(error: &CaughtError) -> bool {
    subtransaction::report(error).sql_error_code() == PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
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

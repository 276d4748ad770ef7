//! What a client reaches of a row, as the client.

use super::failure::Failure;
use super::seed::{Seeded, Seeder, condition, insertion, literal};
use super::session::Session;
use super::table::Table;
use super::value::Values;
use crate::pg::{privileges, restricted, setting, statement, subtransaction};
use dragonfly_core::catalog::Oid;
use pgrx::{PgSqlErrorCode, pg_sys};

/// How long a statement of a client may take, in milliseconds, unless the session limits it.
const LIMIT: i32 = 5_000;

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The statement reached the row.
    Reached,
    /// It did not.
    NotReached,
    /// The policies reject the new row.
    Rejected(Failure),
    /// It raised another error.
    Failed(Failure),
    /// A trigger wrote something else.
    Changed,
    /// It was not executed, with the reason.
    NotTried(String),
}

impl Observed {
    /// Returns what was observed in words.
    pub fn text(&self) -> String {
        match self {
            Self::Reached => "reached".to_owned(),
            Self::NotReached => "not reached".to_owned(),
            Self::Changed => "another row is written".to_owned(),
            Self::Rejected(error) | Self::Failed(error) => format!("error: {}", error.message),
            Self::NotTried(_) => "nothing".to_owned(),
        }
    }

    /// Whether something else than a policy or a missing privilege ended the statement.
    pub fn is_raised(&self) -> bool {
        match self {
            Self::Rejected(error) | Self::Failed(error) => !error.is_of_privilege,
            _ => false,
        }
    }

    /// Returns what a reader can do about an error; it may be empty.
    pub fn advice(&self) -> &str {
        match self {
            Self::Rejected(error) | Self::Failed(error) => &error.advice,
            _ => "",
        }
    }
}

/// A client that tries to reach a row.
pub struct Client<'a> {
    /// The role.
    pub role: Oid,
    /// The session.
    pub session: &'a Session,
    /// Whether the table had no row before.
    pub is_alone: bool,
    /// Whether what it writes is kept until the end of the experiment.
    pub keeps: bool,
}

impl Client<'_> {
    /// Reads a row.
    pub fn select(&self, seeder: &Seeder<'_>, table: &Table, row: &Seeded) -> Observed {
        match self.finds(table, row) {
            Some(found) => {
                let sql = format!("SELECT FROM {} WHERE {found}", table.name);
                self.execute(seeder, table, &sql, None)
            }
            None => Observed::NotTried(format!(
                "The role has SELECT on no unique key of {0}, and not on the whole table: with \
                     neither, no statement of its finds a certain row.",
                table.name
            )),
        }
    }

    /// Inserts a row, whose values with their defaults are `all`, and of which `asked` matter.
    pub fn insert(
        &self,
        seeder: &Seeder<'_>,
        table: &Table,
        all: &Values,
        asked: &Values,
    ) -> Observed {
        let may = |number: &i16| self.may(table, *number, pg_sys::ACL_INSERT);
        let sql = insertion(table, all.iter().filter(|(number, _)| may(number)));
        self.execute(seeder, table, &sql, Some(asked))
    }

    /// Updates a row to new values, of which `asked` matter: first by a condition that finds it,
    /// and then, where no other row is there, by none.
    pub fn update(
        &self,
        seeder: &Seeder<'_>,
        table: &Table,
        row: &Seeded,
        new: &Values,
        asked: Option<&Values>,
    ) -> Observed {
        let may = |number: &i16| self.may(table, *number, pg_sys::ACL_UPDATE);
        let differs = |(number, value): &(&i16, &Option<String>)| {
            row.values.get(number) != Some(value) && may(number)
        };
        let mut sets: Vec<(&i16, &Option<String>)> = new.iter().filter(differs).collect();
        if sets.is_empty() {
            let in_key = |number: &i16| table.keys.iter().flatten().any(|of| of == number);
            let own = || row.values.iter().filter(|(number, _)| may(number));
            sets.extend(own().find(|(number, _)| !in_key(number)).or_else(|| own().next()));
        }
        if sets.is_empty() {
            return Observed::NotTried(format!(
                "The role has UPDATE on no column of {} that has a value here.",
                table.name
            ));
        }
        let set = |(number, value): &(&i16, &Option<String>)| {
            format!("{} = {}", table.columns[*number].name, literal(value.as_deref()))
        };
        let sets: Vec<String> = sets.iter().map(set).collect();
        let sql = format!("UPDATE {} SET {}", table.name, sets.join(", "));
        self.change(seeder, table, row, &sql, asked)
    }

    /// Deletes a row, as [`Client::update`] finds it.
    pub fn delete(&self, seeder: &Seeder<'_>, table: &Table, row: &Seeded) -> Observed {
        self.change(seeder, table, row, &format!("DELETE FROM {}", table.name), None)
    }

    fn change(
        &self,
        seeder: &Seeder<'_>,
        table: &Table,
        row: &Seeded,
        sql: &str,
        asked: Option<&Values>,
    ) -> Observed {
        let found = match self.finds(table, row) {
            Some(found) => {
                let sql = format!("{sql} WHERE {found}");
                self.execute(seeder, table, &sql, asked)
            }
            None => Observed::NotReached,
        };
        // Without a condition, no policy of SELECT is asked, of the row before and after.
        match found {
            Observed::NotReached | Observed::Rejected(_) if self.is_alone => {
                self.execute_on(seeder, table, sql, asked, Some(row))
            }
            found => found,
        }
    }

    /// Returns the condition by which the role finds a row; `None` where it has no privilege for
    /// one.
    fn finds(&self, table: &Table, row: &Seeded) -> Option<String> {
        let known = |key: &&Vec<i16>| {
            key.iter().all(|number| {
                let is_comparable =
                    table.columns.get(number).is_some_and(|of| of.data_type.is_comparable());
                is_comparable
                    && matches!(row.values.get(number), Some(Some(_)))
                    && self.may(table, *number, pg_sys::ACL_SELECT)
            })
        };
        if let Some(key) = table.keys.iter().find(known) {
            let of_key = |number: &i16| Some((*number, row.values.get(number)?.clone()));
            return Some(condition(table, &key.iter().filter_map(of_key).collect()));
        }
        let may = privileges::on_relation(self.role, table.oid, pg_sys::ACL_SELECT);
        may.then(|| row.place.clone())
    }

    fn may(&self, table: &Table, number: i16, privilege: u32) -> bool {
        privileges::on_relation(self.role, table.oid, privilege)
            || privileges::on_column(self.role, table.oid, number, privilege)
    }

    /// Executes a statement as the client, and rolls it back unless it is to be kept.
    fn execute(
        &self,
        seeder: &Seeder<'_>,
        table: &Table,
        sql: &str,
        asked: Option<&Values>,
    ) -> Observed {
        self.execute_on(seeder, table, sql, asked, None)
    }

    /// Executes a statement as [`Client::execute`] does; it counts only if it has changed a row,
    /// among others.
    fn execute_on(
        &self,
        seeder: &Seeder<'_>,
        table: &Table,
        sql: &str,
        asked: Option<&Values>,
        changed: Option<&Seeded>,
    ) -> Observed {
        let run = || {
            // As the client, which may set only some parameters; what its code sets is taken back.
            let set = || restricted::as_role(self.role, || self.session.set());
            if let Err(error) = subtransaction::attempt(set) {
                let message = Failure::of(&error).message;
                return Observed::NotTried(format!(
                    "The role cannot set what the policy asks for: {message}. A client reaches the \
                     row only where the server sets the parameter for it."
                ));
            }
            let count = || setting::isolated(&[], || statement::count(sql));
            if restricted::as_role(self.role, count) == 0 {
                return Observed::NotReached;
            }
            // A row that is updated or deleted is at its place no longer.
            if changed.is_some_and(|row| seeder.is_at(table, &row.place)) {
                return Observed::NotReached;
            }
            match asked.map(|values| seeder.exists(table, values)) {
                Some(Err(why)) => Observed::NotTried(why),
                Some(Ok(false)) => Observed::Changed,
                Some(Ok(true)) | None => Observed::Reached,
            }
        };
        let is_kept = |observed: &Observed| self.keeps && *observed == Observed::Reached;
        let done = subtransaction::limited(LIMIT, run, is_kept);
        done.unwrap_or_else(|error| {
            let failure = Failure::of(&error);
            match subtransaction::report(&error).sql_error_code() {
                // The policies, or a trigger, say no.
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
                | PgSqlErrorCode::ERRCODE_RAISE_EXCEPTION => Observed::Rejected(failure),
                _ => Observed::Failed(failure),
            }
        })
    }
}

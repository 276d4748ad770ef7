//! The statements that a privilege on a relation is for, and what they need.

use crate::catalog;
use crate::pg::heap::State;
use crate::pg::inert::Trust;
use crate::query::{self, Unreadable};
use dragonfly_core::catalog::{Oid, Privileges, RelationKind};
use dragonfly_core::explain::{Form, Need, never_truncated};
use dragonfly_core::sql::{safe_ident, safe_qualified};
use dragonfly_reader::needs::Needs;

/// A statement on a relation, or on some of its columns, that requires one privilege.
#[derive(Clone, Copy)]
pub struct Statement<'c> {
    pub relation: Oid,
    pub kind: Option<RelationKind>,
    pub privilege: Privileges,
    /// No columns for the whole relation.
    pub columns: &'c [String],
    /// `None` for the statement that needs the least.
    pub form: Option<Form>,
}

/// What is known about the statement.
enum Text {
    /// The server can read this SQL.
    Sql(String),
    Truncate,
    /// No statement is read: the privilege itself is needed, or one of the others.
    Privilege {
        or: Privileges,
    },
}

/// The relation as SQL names it.
struct Name {
    sql: String,
    /// The name alone.
    plain: String,
}

impl Name {
    fn of(relation: Oid) -> Option<Self> {
        let (schema, name) = catalog::name(catalog::PG_CLASS, relation)?;
        Some(Self { sql: safe_qualified(&schema, &name), plain: name })
    }
}

impl Statement<'_> {
    /// Returns what the statement needs when `role` executes it, as the server reads it; or the
    /// privilege itself where there is no such statement.
    ///
    /// # Errors
    /// Where the server cannot read it.
    pub fn needs(&self, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
        let Some(name) = Name::of(self.relation) else { return Ok(Needs::default()) };
        match self.text(&name, self.columns).map_err(Unreadable::Never)? {
            Text::Truncate => query::of_truncate(self.relation, role, trust),
            Text::Privilege { or } => {
                let (relation, privileges) = (self.relation, self.privilege);
                let need = Need { relation, privileges, or, ..Need::default() };
                Ok(Needs { needs: vec![need], ..Needs::default() })
            }
            Text::Sql(sql) => match query::of(&sql, role, trust) {
                Ok(needs) => Ok(self.of_whole(needs)),
                Err(Unreadable::Never(error)) => {
                    self.of_settable_columns(&name, role, trust, error)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Returns what an UPDATE of those columns of a view needs that can be updated, where the
    /// UPDATE of all columns raises `error`: a view can have computed columns.
    fn of_settable_columns(
        &self,
        name: &Name,
        role: Oid,
        trust: &Trust,
        error: String,
    ) -> Result<Needs, Unreadable> {
        let is_candidate = self.privilege == Privileges::UPDATE
            && self.columns.is_empty()
            && self.kind == Some(RelationKind::View);
        let mut candidates =
            if is_candidate { query::all_columns(self.relation) } else { Vec::new() };
        candidates.retain(|column| query::is_updatable_column(self.relation, column));
        let mut settable = Vec::new();
        for column in candidates {
            let Ok(Text::Sql(sql)) = self.text(name, std::slice::from_ref(&column)) else {
                continue;
            };
            match query::of(&sql, role, trust) {
                Ok(_) => settable.push(column),
                Err(Unreadable::Never(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if settable.is_empty() {
            return Err(Unreadable::Never(error));
        }
        let Ok(Text::Sql(sql)) = self.text(name, &settable) else {
            return Err(Unreadable::Never(error));
        };
        query::of(&sql, role, trust).map(|needs| self.of_whole(needs))
    }

    /// Where the question names no column, the privilege on the whole relation is needed, and
    /// SELECT on any column that the condition could read instead.
    fn of_whole(&self, mut needs: Needs) -> Needs {
        let is_own = |need: &&mut Need| need.relation == self.relation && need.check_as.is_none();
        for need in needs.needs.iter_mut().filter(is_own) {
            need.is_partial = !self.columns.is_empty();
            if self.form.is_some_and(|form| form != Form::OnConflict) {
                need.selected.clear();
            }
        }
        needs
    }

    /// # Errors
    /// Where no role can execute the statement: the server's message.
    fn text(&self, name: &Name, columns: &[String]) -> Result<Text, String> {
        if self.kind == Some(RelationKind::Sequence) {
            // nextval requires one of the two (sequence.c).
            let is_usage = self.privilege == Privileges::USAGE;
            let or = if is_usage { Privileges::UPDATE } else { Privileges::NONE };
            return Ok(Text::Privilege { or });
        }
        let sql = &name.sql;
        Ok(Text::Sql(match self.privilege {
            Privileges::SELECT if columns.is_empty() => format!("SELECT * FROM {sql}"),
            Privileges::SELECT => format!("SELECT {} FROM {sql}", list(columns)),
            Privileges::INSERT => self.insert(sql, columns),
            Privileges::UPDATE => self.update(sql, columns)?,
            Privileges::DELETE => format!("DELETE FROM {sql}{}", self.condition("WHERE")),
            Privileges::TRUNCATE => {
                let never =
                    self.kind.and_then(|kind| never_truncated(self.relation, kind, &name.plain));
                return never.map_or(Ok(Text::Truncate), Err);
            }
            _ => return Ok(Text::Privilege { or: Privileges::NONE }),
        }))
    }

    /// An INSERT that gives values to these columns and leaves the others to their defaults.
    fn insert(&self, sql: &str, columns: &[String]) -> String {
        let values = if columns.is_empty() {
            "DEFAULT VALUES".to_owned()
        } else {
            let computed = catalog::computed_columns(&State::now(), self.relation);
            let values: Vec<&str> = columns.iter().map(|column| value(&computed, column)).collect();
            format!("({}) VALUES ({})", list(columns), values.join(", "))
        };
        let end = match self.form {
            Some(Form::OnConflict) => self.on_conflict(),
            _ => self.condition("RETURNING"),
        };
        format!("INSERT INTO {sql} {values}{end}")
    }

    /// An UPDATE of these columns, or of all that can be set.
    ///
    /// # Errors
    /// Where the relation has no column.
    fn update(&self, sql: &str, columns: &[String]) -> Result<String, String> {
        let computed = catalog::computed_columns(&State::now(), self.relation);
        let mut set = columns.to_vec();
        if set.is_empty() {
            set = query::all_columns(self.relation);
            if set.iter().any(|column| !computed.contains(column)) {
                set.retain(|column| !computed.contains(column));
            }
        }
        if set.is_empty() {
            return Err(format!("{sql} has no columns to update"));
        }
        let assigned: Vec<String> = set
            .iter()
            .map(|column| format!("{} = {}", safe_ident(column), value(&computed, column)))
            .collect();
        Ok(format!("UPDATE {sql} SET {}{}", assigned.join(", "), self.condition("WHERE")))
    }

    /// The end of a statement that also reads a column, and calls no function for it; empty for
    /// the plain statement.
    fn condition(&self, keyword: &str) -> String {
        let column = self.form.and_then(|_| self.plain_column());
        column.map_or_else(String::new, |column| {
            let column = safe_ident(&column).into_owned();
            match keyword {
                "WHERE" => format!(" WHERE {column} IS NOT NULL"),
                _ => format!(" {keyword} {column}"),
            }
        })
    }

    /// The column that a condition reads: the first that is not computed from others.
    fn plain_column(&self) -> Option<String> {
        let columns = query::all_columns(self.relation);
        let is_plain =
            |column: &&String| query::is_updatable_column(self.relation, column.as_str());
        columns.iter().find(is_plain).or(columns.first()).cloned()
    }

    /// The end of an INSERT that updates a row with the same key.
    fn on_conflict(&self) -> String {
        let Some(key) = catalog::unique_key(&State::now(), self.relation) else {
            return String::new();
        };
        let computed = catalog::computed_columns(&State::now(), self.relation);
        let mut set: Vec<String> = if self.columns.is_empty() {
            query::all_columns(self.relation)
        } else {
            self.columns.to_vec()
        };
        set.retain(|column| !computed.contains(column));
        let assigned: Vec<String> = set
            .iter()
            .map(|column| safe_ident(column))
            .map(|column| format!("{column} = EXCLUDED.{column}"))
            .collect();
        format!(" ON CONFLICT ({}) DO UPDATE SET {}", list(&key), assigned.join(", "))
    }
}

/// The forms of the statement for a privilege that a relation allows beside the plain one.
pub fn forms(relation: Oid, kind: Option<RelationKind>, privilege: Privileges) -> Vec<Form> {
    let has_columns = || !query::all_columns(relation).is_empty();
    let is_table = kind.is_some_and(RelationKind::is_table);
    match privilege {
        Privileges::UPDATE | Privileges::DELETE if has_columns() => vec![Form::Where],
        Privileges::INSERT if has_columns() => {
            let has_key = is_table && catalog::unique_key(&State::now(), relation).is_some();
            [Form::Returning].into_iter().chain(has_key.then_some(Form::OnConflict)).collect()
        }
        _ => vec![],
    }
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| safe_ident(column).into_owned()).collect::<Vec<_>>().join(", ")
}

/// The value that a statement gives to a column. Some can only be set to DEFAULT.
fn value(computed: &std::collections::HashSet<String>, column: &str) -> &'static str {
    if computed.contains(column) { "DEFAULT" } else { "NULL" }
}

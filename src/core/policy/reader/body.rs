//! The body of a routine as a whole: which rows it reaches, and under which conditions.

use super::expression::all;
use super::query::{equals, writes};
use super::{Entry, Reader, Scope};
use crate::catalog::{Command, Oid};
use crate::policy::facts::Catalog;
use crate::policy::formula::{Comparison, Formula};
use crate::policy::identity::{Identities, Identity};
use crate::policy::term::{Row, Term, Terms};
use crate::policy::value::{Meaning, Value, compare};
use crate::stored::{self, Expression, Query};
use std::rc::Rc;

/// A row of a table with row security that the executing role is exempt from.
#[derive(Debug, Clone)]
pub struct Access {
    /// The row.
    pub row: Row,
    /// The table.
    pub relation: Oid,
    /// What is done with the row.
    pub command: Command,
    /// What is true of a row that is reached.
    pub condition: Rc<Formula>,
    /// Whether the caller is only told whether there is such a row.
    pub is_asked_only: bool,
}

impl<'a> Reader<'a> {
    /// Returns a reader of the body of a routine that a client calls, and that its owner executes.
    pub fn of_body(
        catalog: &'a dyn Catalog,
        terms: &'a mut Terms,
        (client, owner): (Oid, Oid),
        identities: &'a Identities,
        arguments: &'a [String],
    ) -> Self {
        let mut reader = Self::new(catalog, terms, 0);
        reader.found.rows.clear();
        reader.scopes.clear();
        reader.identities = Some(identities);
        reader.users = vec![client, owner];
        reader.functions = 1;
        reader.own_arguments = arguments;
        reader
    }

    /// Returns the rows that a statement of the body reaches.
    pub fn statement(&mut self, query: &Query) -> Vec<Access> {
        self.notes_accesses = true;
        self.any_statement(query);
        self.notes_accesses = false;
        std::mem::take(&mut self.accesses)
    }

    fn any_statement(&mut self, query: &Query) {
        for (_, part) in query.with.iter().filter(|(_, part)| writes(part)) {
            self.any_statement(part);
        }
        match query.command {
            stored::Command::Select => {
                let before = self.accesses.len();
                self.select(query);
                let mut targets = query.targets.iter().filter(|target| !target.is_hidden);
                if targets.all(|target| super::expression::is_boolean(&target.expression)) {
                    self.accesses[before..].iter_mut().for_each(|of| of.is_asked_only = true);
                }
            }
            stored::Command::Insert => self.written(query, Command::Insert),
            stored::Command::Update => self.written(query, Command::Update),
            stored::Command::Delete => self.written(query, Command::Delete),
            stored::Command::Other => {
                self.unknown.insert("a statement".to_owned());
            }
        }
    }

    /// Notes the rows that a statement writes.
    fn written(&mut self, query: &Query, command: Command) {
        self.scopes.push(Scope {
            entries: vec![Entry::Unknown; query.entries.len()],
            with: Rc::new(query.with.clone()),
        });
        let (before, mut conditions) = (self.accesses.len(), Vec::new());
        self.notes_accesses = command != Command::Insert;
        for item in &query.from {
            let joined = self.from(query, item, false);
            conditions.push(Rc::new(joined.condition));
        }
        self.notes_accesses = false;
        let sources = conditions.clone();
        if command == Command::Insert {
            self.inserted(query, &mut conditions);
        } else {
            let target = query
                .written
                .checked_sub(1)
                .and_then(|index| self.scopes.last()?.entries.get(index).cloned());
            // Of what else the statement reads, nothing is returned; the rows of a view are those
            // of its tables.
            if let Some(Entry::Row { row, .. }) = target {
                let mut index = 0;
                self.accesses.retain(|of| {
                    index += 1;
                    index <= before || of.row == row
                });
            }
        }
        if let Some(condition) = &query.condition {
            conditions.push(self.condition(condition));
        }
        let updated = self.updated_instead(query, sources);
        self.scopes.pop();
        self.notes_accesses = true;
        let condition = Rc::new(all(conditions));
        self.restrict_accesses(before, &condition);
        for access in &mut self.accesses[before..] {
            (access.command, access.is_asked_only) = (command, false);
        }
        self.accesses.extend(updated);
    }

    /// Notes the row that INSERT writes: what its columns are equal to.
    fn inserted(&mut self, query: &Query, conditions: &mut Vec<Rc<Formula>>) {
        let written = query.written.checked_sub(1).and_then(|index| query.entries.get(index));
        let Some(stored::Range::Relation { oid, .. }) = written.map(|entry| &entry.range) else {
            self.unknown.insert("what is written".to_owned());
            return;
        };
        let row = Row(self.terms.fresh());
        self.notes_accesses = true;
        let readable = self.read_rows(row, *oid, false);
        self.notes_accesses = false;
        if readable != Formula::TRUE {
            return;
        }
        let given: Vec<i16> = query.targets.iter().map(|target| target.number).collect();
        for target in &query.targets {
            let value = self.meaning(&target.expression);
            conditions.push(self.column_is((row, *oid), target.number, value));
        }
        for (number, default) in self.catalog.defaults(*oid).iter() {
            if !given.contains(number) && !self.is_new_value(default) {
                // What is not known of a default, such as the next number, is no guard.
                let unknown = self.unknown.clone();
                let value = self.meaning(default);
                self.unknown = unknown;
                conditions.push(self.column_is((row, *oid), *number, value));
            }
        }
    }

    /// Returns the row that ON CONFLICT DO UPDATE updates: it has a key of the one that was to be
    /// inserted, from rows of which conditions are true.
    fn updated_instead(&mut self, query: &Query, sources: Vec<Rc<Formula>>) -> Vec<Access> {
        let Some(of) = &query.on_conflict else { return Vec::new() };
        let written = query.written.checked_sub(1).and_then(|index| query.entries.get(index));
        let Some(stored::Range::Relation { oid: table, .. }) = written.map(|of| &of.range) else {
            return Vec::new();
        };
        let inserted = self.inserted_values(query, *table);
        let row = Row(self.terms.fresh());
        let old = Entry::Row { row, relation: *table, nullable: false };
        let before = self.accesses.len();
        self.notes_accesses = true;
        let _ = self.read_rows(row, *table, false);
        self.notes_accesses = false;
        let mut conditions = sources;
        let named = of.constraint.and_then(|of| self.catalog.key_of_constraint(of));
        if of.keys.is_empty() && named.is_none() {
            self.unknown.insert("ON CONFLICT ON CONSTRAINT".to_owned());
        }
        for number in named.unwrap_or_default() {
            let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
            let own = index.and_then(|index| inserted.get(index)).cloned();
            let own = own.unwrap_or(Meaning::Value(Value::Null));
            conditions.push(self.column_is((row, *table), number, own));
        }
        let new = Entry::Columns(inserted);
        for key in &of.keys {
            self.set_entry(query.written, new.clone());
            let own = self.meaning(key);
            self.set_entry(query.written, old.clone());
            let (own, theirs) = (self.as_value(own), self.meaning(key));
            let theirs = self.as_value(theirs);
            conditions.push(Rc::new(compare(self.terms, Comparison::Equal, &theirs, &own)));
        }
        self.set_entry(of.excluded, new);
        if let Some(condition) = &of.condition {
            conditions.push(self.condition(condition));
        }
        self.restrict_accesses(before, &Rc::new(all(conditions)));
        let mut updated = self.accesses.split_off(before);
        for access in &mut updated {
            (access.command, access.is_asked_only) = (Command::Update, false);
        }
        updated
    }

    /// Returns the values of the columns of a row that is to be inserted.
    fn inserted_values(&mut self, query: &Query, table: Oid) -> Vec<Meaning> {
        let defaults = self.catalog.defaults(table);
        let given = query.targets.iter().map(|target| (target.number, &target.expression));
        let all = given.chain(defaults.iter().map(|(number, default)| (*number, default)));
        let mut values: Vec<Option<Meaning>> = Vec::new();
        for (number, expression) in all {
            let Some(index) = usize::try_from(number).ok().and_then(|n| n.checked_sub(1)) else {
                continue;
            };
            values.resize(values.len().max(index + 1), None);
            if values[index].is_none() {
                let unknown = self.unknown.clone();
                values[index] = Some(self.meaning(expression));
                self.unknown = unknown;
            }
        }
        values.into_iter().map(|value| value.unwrap_or(Meaning::Value(Value::Null))).collect()
    }

    /// Whether a default is another value for each row, which no caller has chosen and which says
    /// nothing of any caller.
    fn is_new_value(&self, default: &Expression) -> bool {
        let mut calls = 0;
        let mut waiting = vec![default];
        while let Some(part) = waiting.pop() {
            match part {
                Expression::Call { function, .. } => {
                    let Some(function) = self.catalog.function(*function) else { return false };
                    let is_new = function.is_volatile && function.is_new_value();
                    if !is_new && !function.is_built_in {
                        return false;
                    }
                    if function.is_built_in && !function.is_volatile && !function.is_immutable {
                        // Such as current_setting.
                        return false;
                    }
                    calls += usize::from(is_new);
                }
                Expression::Constant(_)
                | Expression::Operator { .. }
                | Expression::Relabel { .. }
                | Expression::ThroughText { .. }
                | Expression::Collate { .. } => {}
                _ => return false,
            }
            waiting.extend(part.parts());
        }
        calls > 0
    }

    fn column_is(
        &mut self,
        (row, relation): (Row, Oid),
        number: i16,
        value: Meaning,
    ) -> Rc<Formula> {
        let nullable = self.catalog.column(relation, number).is_none_or(|column| column.nullable);
        let column = self.terms.add(Term::Column { row, number, nullable });
        let value = self.as_value(value);
        Rc::new(equals(column, &value))
    }

    /// Notes a row whose reader is exempt from row security.
    pub(super) fn note_access(&mut self, row: Row, relation: Oid) {
        if self.notes_accesses && self.catalog.has_row_security(relation) {
            self.accesses.push(Access {
                row,
                relation,
                command: Command::Select,
                condition: Rc::new(Formula::TRUE),
                is_asked_only: self.only_asks,
            });
        }
    }

    /// Adds a condition to those of the rows that have been noted since there were `before`.
    pub(super) fn restrict_accesses(&mut self, before: usize, condition: &Rc<Formula>) {
        for access in self.accesses.iter_mut().skip(before) {
            access.condition =
                Rc::new(all(vec![Rc::clone(&access.condition), Rc::clone(condition)]));
        }
    }

    /// Reads a condition: the rows in it are not returned.
    pub(super) fn unnoted<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let noted = std::mem::replace(&mut self.notes_accesses, false);
        let found = read(self);
        self.notes_accesses = noted;
        found
    }

    /// Reads a subquery that is only asked whether it has rows.
    pub(super) fn asked_only<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let asked = std::mem::replace(&mut self.only_asks, true);
        let found = read(self);
        self.only_asks = asked;
        found
    }

    /// Returns the value of an argument of the routine: the caller chooses it.
    pub(super) fn own_argument(&mut self, number: usize, is_boolean: bool) -> Meaning {
        let name = number.checked_sub(1).and_then(|index| self.own_arguments.get(index));
        let Some(name) = name else { return self.unknown("a parameter", is_boolean) };
        let name = if name.is_empty() { format!("${number}") } else { name.clone() };
        Self::of_term(self.terms.add(Term::Identity(Identity::argument(&name))), is_boolean)
    }
}

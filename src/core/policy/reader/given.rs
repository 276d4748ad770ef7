//! What is true of a new row whatever its writer writes.

use super::Reader;
use super::query::equals;
use crate::catalog::{Command, Oid};
use crate::policy::asked::{Question, Written};
use crate::policy::formula::Formula;
use crate::policy::term::{Row, Term};
use crate::stored::Expression;
use std::collections::BTreeSet;
use std::rc::Rc;

impl Reader<'_> {
    /// Returns what is true of a row that a role writes, beside what is asked of it: columns that
    /// it cannot write have their defaults, or the values that the row had before.
    pub fn given(&mut self, question: &Question<'_>, replaced: Row) -> Vec<Rc<Formula>> {
        let Question { catalog, role, relation, .. } = *question;
        let Some(written) = question.written else { return Vec::new() };
        let (command, columns) = match written {
            Written::Inserted { columns } => (Command::Insert, columns),
            Written::Updated { columns, .. } => (Command::Update, columns),
        };
        let own = || catalog.writes(role, relation, command).map(|of| of.columns.clone());
        let writable = columns.cloned().or_else(own).unwrap_or_default();
        let (found, unknown, columns) =
            (self.found.clone(), self.unknown.clone(), self.columns.clone());
        let given = match written {
            Written::Inserted { .. } => self.defaults(relation, &writable),
            Written::Updated { using, needs_before: false, .. }
                if is_same(using, question.condition) =>
            {
                Vec::new()
            }
            Written::Updated { using, restrictive, .. } => {
                self.replaced = Some((replaced, writable));
                let conditions = using.into_iter().chain(restrictive.iter().copied());
                let read = conditions.map(|of| self.condition(of)).collect();
                self.replaced = None;
                read
            }
        };
        // What is wrong with it is reported where it is asked for.
        let of_given = std::mem::replace(&mut self.found, found);
        self.found.rows.extend(of_given.rows);
        self.found.depends.extend(of_given.depends);
        (self.unknown, self.columns) = (unknown, columns);
        given.into_iter().filter(|of| **of != Formula::TRUE).collect()
    }

    /// Returns that columns of the checked row have their defaults.
    fn defaults(&mut self, relation: Oid, writable: &BTreeSet<i16>) -> Vec<Rc<Formula>> {
        let defaults = self.catalog.defaults(relation);
        let is_given = |(number, default): &&(i16, Expression)| {
            !writable.contains(number) && !matches!(default, Expression::Unknown(_))
        };
        let own = defaults.iter().filter(is_given);
        own.filter_map(|(number, default)| {
            let facts = self.catalog.column(relation, *number);
            let nullable = facts.is_none_or(|column| column.nullable);
            let column = Term::Column { row: Row::CHECKED, number: *number, nullable };
            let column = self.terms.add(column);
            let value = self.meaning(default);
            let value = self.as_value(value);
            let has_it = equals(column, &value);
            // Of a value that is another one for each row, nothing more is known.
            let (mut is_known, terms) = (true, &*self.terms);
            has_it.visit(&mut |part| {
                let mut all = part.terms().into_iter();
                is_known &= !all.any(|of| matches!(terms.get(of), Term::Unknown(_)));
            });
            is_known.then(|| Rc::new(has_it))
        })
        .collect()
    }
}

/// Whether a new row is asked what the one before was asked.
fn is_same(using: Option<&Expression>, check: Option<&Expression>) -> bool {
    match (using, check) {
        (Some(using), Some(check)) => using == check,
        _ => false,
    }
}

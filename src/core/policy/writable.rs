//! Lookups that their reader can write: a row that such a lookup ties to the caller is one that the
//! caller can take.

use super::asked::{Asked, Question};
use super::opening::Way;
use super::term::Row;
use super::ties::Ties;
use crate::catalog::{Command, Forgeable, Oid};
use crate::stored::Expression;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

/// How deeply the policies of lookups are followed for what their own lookups allow.
const DEEPEST: usize = 3;

/// Finds what a role can write.
pub struct Writers<'a> {
    question: Question<'a>,
    known: RefCell<HashMap<Asking, Option<Free>>>,
}

/// A table, a command and the columns that are asked for.
type Asking = (Oid, Command, BTreeSet<i16>);

/// Columns that a role can give any value.
#[derive(Debug, Clone)]
struct Free {
    columns: BTreeSet<i16>,
    is_unrestricted: bool,
}

impl<'a> Writers<'a> {
    /// Returns what finds the columns that the role of a question can write.
    pub fn new(question: Question<'a>) -> Self {
        Self { question, known: RefCell::default() }
    }

    /// Returns the columns of lookups by which the caller can meet a way: those of each lookup
    /// without which the row is not tied.
    pub fn forgeable(&self, way: &Way<'_>, ties: &Ties) -> Vec<Forgeable> {
        let mut found = Vec::new();
        for (row, relation) in way.lookups() {
            let without = way.ties(&BTreeSet::from([row]));
            let is_needed = without.columns.is_empty() && !way.is_privileged(&without);
            if is_needed {
                let is_of_caller = ties.lookups.contains(&row);
                found.extend(self.of_lookup(way, (row, relation), is_of_caller));
            }
        }
        found
    }

    fn of_lookup(
        &self,
        way: &Way<'_>,
        (row, relation): (Row, Oid),
        is_of_caller: bool,
    ) -> Vec<Forgeable> {
        let catalog = self.question.catalog;
        let joined = way.joined(row);
        let is_key = |(other, (own, theirs)): (&Row, &(BTreeSet<i16>, BTreeSet<i16>))| {
            let other = way.relation_of(*other);
            other.is_some_and(|other| {
                catalog.references(other).iter().any(|reference| {
                    reference.target == relation
                        && reference.columns.is_subset(theirs)
                        && reference.target_columns.is_subset(own)
                })
            })
        };
        // A row with a key that another row refers to exists already: no other one has it.
        let is_keyed = joined.others.iter().any(is_key);
        // What belongs to the caller's own row is the caller's, whatever that row contains.
        let is_parent = joined.others.iter().any(|of| *of.0 == Row::CHECKED && is_key(of));
        let mut wanted = BTreeSet::new();
        if !is_keyed {
            wanted.extend(joined.others.values().flat_map(|(own, _)| own));
        }
        if is_of_caller && !is_parent {
            wanted.extend(&joined.constants);
        }
        let commands =
            if is_keyed { &[Command::Update][..] } else { &[Command::Insert, Command::Update][..] };
        let written = commands.iter().filter_map(|command| {
            let free = self.free((relation, *command, wanted.clone()), 0)?;
            let names = free.columns.iter();
            Some(Forgeable {
                command: *command,
                table: catalog.relation_name(relation)?,
                columns: names.filter_map(|n| catalog.column_name(relation, *n)).collect(),
                is_unrestricted: free.is_unrestricted,
            })
        });
        written.collect()
    }

    /// Returns which of some columns of a table the role can give any value; `None` where it can
    /// none.
    fn free(&self, asking: Asking, depth: usize) -> Option<Free> {
        if let Some(known) = self.known.borrow().get(&asking) {
            return known.clone();
        }
        // What leads to itself is not free by that.
        self.known.borrow_mut().insert(asking.clone(), None);
        let free = self.read_free(&asking, depth);
        self.known.borrow_mut().insert(asking, free.clone());
        free
    }

    fn read_free(&self, (table, command, wanted): &Asking, depth: usize) -> Option<Free> {
        let (table, command) = (*table, *command);
        let Question { catalog, role, .. } = self.question;
        let writable = catalog.writes(role, table, command)?;
        let columns: BTreeSet<i16> = wanted & &writable.columns;
        if columns.is_empty() {
            return None;
        }
        let Some(policies) = &writable.policies else {
            return Some(Free { columns, is_unrestricted: true });
        };
        let restrictive: Vec<&Expression> = policies.restrictive.iter().collect();
        let question =
            Question { relation: table, restrictive: &restrictive, written: None, ..self.question };
        let mut free = BTreeSet::new();
        for condition in &policies.permissive {
            let asked = Asked::read(Question { condition: Some(condition), ..question });
            // Of what is too large, nothing is known.
            let _ = asked.each_way(&mut |_, way| {
                let forged = self.forged(table, way, depth);
                let ties = way.ties(&forged);
                if ties.columns.is_empty() && way.is_privileged(&ties) {
                    return ControlFlow::Continue(());
                }
                let mut held = way.joined(Row::CHECKED).constants;
                // Who can write it has such a row already, for what it is tied to.
                if !ties.columns.is_disjoint(wanted) {
                    let own = way
                        .lookups()
                        .into_iter()
                        .filter(|(row, relation)| *relation == table && ties.lookups.contains(row));
                    held.extend(own.flat_map(|(row, _)| way.joined(row).constants));
                }
                free = columns.iter().copied().collect();
                free.retain(|c| !ties.columns.contains(c) && !held.contains(c));
                if free.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if !free.is_empty() {
                return Some(Free { columns: free, is_unrestricted: false });
            }
        }
        None
    }

    /// Returns the rows of lookups in a way that the role can write itself.
    fn forged(&self, table: Oid, way: &Way<'_>, depth: usize) -> BTreeSet<Row> {
        if depth >= DEEPEST {
            return BTreeSet::new();
        }
        let is_forged = |(row, relation): &(Row, Oid)| {
            let joined = way.joined(*row);
            let mut wanted = joined.constants;
            wanted.extend(joined.others.values().flat_map(|(own, _)| own));
            *relation != table
                && [Command::Insert, Command::Update].into_iter().any(|command| {
                    self.free((*relation, command, wanted.clone()), depth + 1).is_some()
                })
        };
        way.lookups().into_iter().filter(is_forged).map(|(row, _)| row).collect()
    }
}

//! Lookups that their reader can write: a row that such a lookup ties to the caller is one that the
//! caller can take.

use super::asked::{Asked, Question, Written};
use super::constants::types;
use super::facts::{Policies, Writable};
use super::opening::Way;
use super::term::{Constant, Row};
use super::ties::Ties;
use crate::catalog::{Command, Forgeable, Free, Oid};
use crate::stored::{self, Expression};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// How deeply the policies of lookups are followed for what their own lookups allow.
const DEEPEST: usize = 3;

/// Finds what a role can write.
pub struct Writers<'a> {
    question: Question<'a>,
    known: RefCell<HashMap<Asking, Option<Given>>>,
    /// What writes lookups in a way that is not known.
    unknown: RefCell<BTreeSet<String>>,
}

/// Returns the condition that is always true.
fn always() -> Expression {
    Expression::Constant(stored::Constant { data_type: types::BOOL, value: Some(vec![1]) })
}

/// What is asked for: rows of a table by a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asking {
    table: Oid,
    command: Command,
    /// The columns that lead to other rows.
    joined: BTreeSet<i16>,
    /// The columns that are to be certain constants.
    constants: BTreeSet<i16>,
    /// These constants, as far as they are known.
    values: BTreeMap<i16, Constant>,
}

/// Columns that a role can give the value that it wants.
#[derive(Debug, Clone)]
struct Given {
    through: Option<String>,
    columns: BTreeSet<i16>,
    why: Free,
}

impl<'a> Writers<'a> {
    /// Returns what finds the columns that the role of a question can write.
    pub fn new(question: Question<'a>) -> Self {
        Self { question, known: RefCell::default(), unknown: RefCell::default() }
    }

    /// Returns what may write lookups in a way that is not known.
    pub fn unknown(self) -> BTreeSet<String> {
        self.unknown.into_inner()
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
        let mut asking = Asking {
            table: relation,
            command: Command::Update,
            joined: BTreeSet::new(),
            constants: BTreeSet::new(),
            values: BTreeMap::new(),
        };
        if !is_keyed {
            asking.joined.extend(joined.others.values().flat_map(|(own, _)| own));
        }
        if is_of_caller && !is_parent {
            asking.constants.extend(&joined.constants);
            asking.values.extend(joined.values);
        }
        let commands =
            if is_keyed { &[Command::Update][..] } else { &[Command::Insert, Command::Update][..] };
        let written = commands.iter().filter_map(|command| {
            let given = self.given(Asking { command: *command, ..asking.clone() }, 0)?;
            let names = given.columns.iter();
            Some(Forgeable {
                command: *command,
                table: catalog.relation_name(relation)?,
                through: given.through,
                columns: names.filter_map(|n| catalog.column_name(relation, *n)).collect(),
                why: given.why,
            })
        });
        written.collect()
    }

    /// Returns which of some columns of a table the role can give the value that it wants; `None`
    /// where it can none.
    fn given(&self, asking: Asking, depth: usize) -> Option<Given> {
        if let Some(known) = self.known.borrow().get(&asking) {
            return known.clone();
        }
        // What leads to itself is not given by that.
        self.known.borrow_mut().insert(asking.clone(), None);
        let given = self.given_directly(&asking, depth).or_else(|| self.by_detour(&asking, depth));
        self.known.borrow_mut().insert(asking, given.clone());
        given
    }

    fn given_directly(&self, asking: &Asking, depth: usize) -> Option<Given> {
        let Question { catalog, role, .. } = self.question;
        let writable = catalog.writes(role, asking.table, asking.command)?;
        self.by(asking, &writable, depth)
    }

    /// Returns what the role can write of a table by way of other relations.
    fn by_detour(&self, asking: &Asking, depth: usize) -> Option<Given> {
        let Question { catalog, role, .. } = self.question;
        let detours = catalog.detours(role, asking.table, asking.command);
        detours.iter().find_map(|detour| {
            let Some(writable) = &detour.writable else {
                self.unknown.borrow_mut().insert(detour.through.clone());
                return None;
            };
            let theirs = |number: &i16| detour.columns.get(number).copied();
            let mapped = |numbers: &BTreeSet<i16>| numbers.iter().filter_map(theirs).collect();
            let values = asking.values.iter();
            let of_table = Asking {
                table: detour.table,
                command: asking.command,
                joined: mapped(&asking.joined),
                constants: mapped(&asking.constants),
                values: values.filter_map(|(n, of)| Some((theirs(n)?, of.clone()))).collect(),
            };
            let given = self.by(&of_table, writable, depth)?;
            let own = |number: &i16| {
                detour.columns.iter().find(|(_, of)| *of == number).map(|(own, _)| *own)
            };
            Some(Given {
                through: Some(detour.through.clone()),
                columns: given.columns.iter().filter_map(own).collect(),
                why: given.why,
            })
        })
    }

    fn by(&self, asking: &Asking, writable: &Writable, depth: usize) -> Option<Given> {
        let Asking { table, command, joined, constants, .. } = asking;
        let (table, command) = (*table, *command);
        let wanted = joined | constants;
        let columns: BTreeSet<i16> = &wanted & &writable.columns;
        // Where the row is only asked to be the caller's, and to have constants, each row that the
        // caller may insert with them will do.
        let is_right = command == Command::Insert
            && joined.is_empty()
            && !constants.is_empty()
            && constants.iter().all(|number| asking.values.contains_key(number));
        if columns.is_empty() && !is_right {
            return None;
        }
        let catalog = self.question.catalog;
        let mut values = asking.values.clone();
        match command {
            Command::Insert => {
                let defaults = catalog.defaults(table);
                let is_null = |number: &i16| {
                    !writable.columns.contains(number)
                        && !defaults.iter().any(|(of, _)| of == number)
                };
                if values.keys().any(is_null) {
                    return None;
                }
            }
            // The row may have it already.
            _ => values.retain(|number, _| writable.columns.contains(number)),
        }
        if writable.policies.is_none() && !columns.is_empty() {
            return Some(Given { through: None, columns, why: Free::Unrestricted });
        }
        let none = Policies { permissive: vec![always()], restrictive: Vec::new() };
        let policies = writable.policies.as_ref().unwrap_or(&none);
        let restrictive: Vec<&Expression> = policies.restrictive.iter().collect();
        let question = Question {
            relation: table,
            restrictive: &restrictive,
            written: (command == Command::Insert).then_some(Written::Inserted),
            ..self.question
        };
        for condition in &policies.permissive {
            let mut asked = Asked::read(Question { condition: Some(condition), ..question });
            let wanted_values = asked.that_columns_are(&values);
            let (mut free, mut has_way) = (BTreeSet::new(), false);
            // Of what is too large, nothing is known.
            let _ = asked.each_way(&mut |literals, way| {
                if !asked.allows(literals, &wanted_values) {
                    return ControlFlow::Continue(());
                }
                let forged = self.forged(table, way, depth);
                let ties = way.strict_ties(&forged);
                if ties.columns.is_empty() && way.is_privileged(&ties) {
                    return ControlFlow::Continue(());
                }
                let Some(unknown) = way.asked_of_unknown() else {
                    return ControlFlow::Continue(());
                };
                has_way = true;
                let mut held = way.joined(Row::CHECKED).constants;
                held.extend(unknown);
                // Who can write it has such a row already, for what it is tied to.
                if !ties.columns.is_disjoint(&wanted) {
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
                return Some(Given { through: None, columns: free, why: Free::AnyValue });
            }
            if is_right && has_way {
                let columns = constants.clone();
                return Some(Given { through: None, columns, why: Free::EachRow });
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
            let others = joined.others.values().flat_map(|(own, _)| own);
            let asking = Asking {
                table: *relation,
                command: Command::Insert,
                joined: others.copied().collect(),
                constants: joined.constants,
                values: joined.values,
            };
            *relation != table
                && [Command::Insert, Command::Update].into_iter().any(|command| {
                    let asking = Asking { command, ..asking.clone() };
                    self.given(asking, depth + 1).is_some()
                })
        };
        way.lookups().into_iter().filter(is_forged).map(|(row, _)| row).collect()
    }
}

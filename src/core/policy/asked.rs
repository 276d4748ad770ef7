//! A policy and a role, as questions to the search.

use super::asks::{Ask, elements_of, is_one_of, negated};
use super::facts::Catalog;
use super::formula::{Comparison, Exists, Formula};
use super::identity::{Identities, Kind};
use super::literals::{Literal, Session, contradict};
use super::opening::{Subquery, Way, operands};
use super::parts::Inspector;
use super::reader::{Found, Reader};
use super::search::{Budget, Nulls, TooLarge, Want, is_possible, ways};
use super::sessions::sessions;
use super::term::{Row, Term, TermId, Terms};
use crate::catalog::{Caller, Calls, Oid};
use crate::stored::Expression;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;

/// How many cases a way is divided into at most, by which constants its values are.
const MOST_CASES: usize = 64;

/// A policy, for a role.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// What the conditions mention.
    pub catalog: &'a dyn Catalog,
    /// Where the values of sessions are.
    pub identities: &'a Identities,
    /// The table.
    pub relation: Oid,
    /// The role.
    pub role: Oid,
    /// The condition of the policy; without one, no row passes.
    pub condition: Option<&'a Expression>,
    /// The conditions of the restrictive policies that a row has to meet as well.
    pub restrictive: &'a [&'a Expression],
    /// How the rows come about that are asked about; `None`: they exist.
    pub written: Option<Written<'a>>,
}

/// How a new row comes about.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a> {
    /// By INSERT: a column that is not given a value has its default.
    Inserted {
        /// The columns that can be given one; `None`: those that the role has the privilege for.
        columns: Option<&'a BTreeSet<i16>>,
    },
    /// By UPDATE of a row that meets USING and the restrictive policies: a column that is not
    /// updated keeps its value.
    Updated {
        /// The columns that can be updated; `None`: those that the role has the privilege for.
        columns: Option<&'a BTreeSet<i16>>,
        /// The condition of USING.
        using: Option<&'a Expression>,
        /// Those of the restrictive policies.
        restrictive: &'a [&'a Expression],
        /// Whether the row before is asked for where the new one has to meet the same condition.
        needs_before: bool,
    },
}

/// The conditions of a policy, as they were read.
pub struct Asked<'a> {
    question: Question<'a>,
    terms: Terms,
    conditions: Vec<Rc<Formula>>,
    /// What is true of a new row whatever the role writes.
    given: Vec<Rc<Formula>>,
    /// The row that UPDATE replaces by the checked one.
    pub replaced: Row,
    /// The CHECK constraints that are about columns of the conditions.
    checks: Vec<Rc<Formula>>,
    /// The sessions of the role.
    pub sessions: Vec<Session>,
    /// Whether they have a user.
    pub caller: Option<Caller>,
    /// What was found where lookups are read.
    pub found: Found,
    /// What the condition calls, without the restrictive policies.
    pub calls: Calls,
    /// The names of what could not be read.
    pub unknown: BTreeSet<String>,
}

impl<'a> Asked<'a> {
    /// Reads the conditions.
    pub fn read(question: Question<'a>) -> Self {
        Self::read_with(question, false)
    }

    /// Reads the conditions as they would be if the readers of lookups could read rows that no
    /// privilege or policy lets them read.
    pub fn read_where_readable(question: Question<'a>) -> Self {
        Self::read_with(question, true)
    }

    fn read_with(question: Question<'a>, finds_unreadable: bool) -> Self {
        let Question { catalog, identities, relation, role, .. } = question;
        let mut terms = Terms::default();
        let mut reader = Reader::new(catalog, &mut terms, relation)
            .for_role(role, relation, identities)
            .finding_unreadable(finds_unreadable);
        let mut conditions = vec![match question.condition {
            Some(condition) => reader.condition(condition),
            None => Rc::new(Formula::FALSE),
        }];
        let calls = std::mem::take(&mut reader.found.calls);
        let others = question.restrictive.iter();
        conditions.extend(others.map(|condition| reader.condition(condition)));
        let checks = checks(&mut reader, catalog, relation);
        let replaced = Row(reader.terms.fresh());
        let given = reader.given(&question, replaced);
        let (found, unknown) = (reader.found, reader.unknown);
        let name = catalog.role_name(role).unwrap_or_default();
        let caller = identities.sessions.get(&name).copied();
        let sessions = sessions(identities, &mut terms, caller, &name);
        Self {
            question,
            terms,
            conditions,
            given,
            replaced,
            checks,
            sessions,
            caller,
            found,
            calls,
            unknown,
        }
    }

    /// Whether something is true of a new row whatever the role writes.
    pub fn has_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Returns what finds the parts of terms.
    pub fn inspector(&self) -> Inspector<'_> {
        let Question { catalog, identities, .. } = self.question;
        Inspector { terms: &self.terms, catalog, identities, checked: Row::CHECKED }
    }

    /// Returns the values of the caller that the conditions ask for: only sessions with a user have
    /// them.
    pub fn values_of_caller(&self) -> BTreeSet<String> {
        let is_of_caller =
            |kind| matches!(kind, Kind::User | Kind::Trusted | Kind::Email | Kind::UserEditable);
        let values = self.terms.all().filter_map(|(_, term)| match term {
            Term::Identity(of) if is_of_caller(of.kind) => Some(of.name.clone()),
            _ => None,
        });
        let all: BTreeSet<String> = values.collect();
        // The claims that a claim is read from are asked for on the way.
        let is_part = |name: &str, of: &str| name.starts_with(&format!("{of}."));
        let has_part = |of: &String| all.iter().any(|name| is_part(name, of));
        all.iter().filter(|name| !has_part(name)).cloned().collect()
    }

    /// Calls `each` with every way in which a row passes in a session of the role.
    ///
    /// # Errors
    /// [`TooLarge`] where there are too many.
    pub fn each_way(
        &self,
        each: &mut dyn FnMut(&[Literal], &Way<'_>) -> ControlFlow<()>,
    ) -> Result<(), TooLarge> {
        self.sessions.iter().try_for_each(|session| self.each_way_in(session, false, each))
    }

    /// As [`Asked::each_way`], with what was true of the row that UPDATE replaces as well, which
    /// the way says nothing of.
    ///
    /// # Errors
    /// [`TooLarge`] where there are too many.
    pub fn each_update(
        &self,
        each: &mut dyn FnMut(&[Literal], &Way<'_>) -> ControlFlow<()>,
    ) -> Result<(), TooLarge> {
        self.sessions.iter().try_for_each(|session| self.each_whole_way(session, false, each))
    }

    /// Calls `each` with every way in which a row passes in one session: with what CHECK
    /// constraints ask of the row as well, or without.
    ///
    /// # Errors
    /// [`TooLarge`] where there are too many.
    pub fn each_way_in(
        &self,
        session: &Session,
        with_checks: bool,
        each: &mut dyn FnMut(&[Literal], &Way<'_>) -> ControlFlow<()>,
    ) -> Result<(), TooLarge> {
        self.each_whole_way(session, with_checks, &mut |_, way| each(way.literals(), way))
    }

    fn each_whole_way(
        &self,
        session: &Session,
        with_checks: bool,
        each: &mut dyn FnMut(&[Literal], &Way<'_>) -> ControlFlow<()>,
    ) -> Result<(), TooLarge> {
        let inspector = self.inspector();
        let all: Vec<_> = self.conditions.iter().chain(&self.given).cloned().collect();
        let subqueries = subqueries(inspector, &all);
        let mut goals = self.all_true();
        if with_checks {
            goals.extend(self.checks.iter().map(|check| (&**check, Want::NotFalse)));
        }
        let is_of_replaced = |literal: &Literal| match literal {
            Literal::NullRow(row) => *row == self.replaced,
            of => operands(*of).into_iter().any(|term| {
                let mut depends = self.found.depends.get(&term).into_iter().flatten();
                inspector.is_about(term, self.replaced)
                    || depends.any(|(row, _)| *row == self.replaced)
            }),
        };
        let mut of_way = |all: &[Literal]| {
            self.question.catalog.interrupts();
            // What was true of the row before says nothing of what has replaced it.
            let kept: Vec<Literal>;
            let literals = if self.given.is_empty() {
                all
            } else {
                kept = all.iter().filter(|l| !is_of_replaced(l)).copied().collect();
                &kept
            };
            each(all, &Way::new(inspector, &self.found, &subqueries, literals))
        };
        ways(&self.terms, session, Nulls::Everywhere, Budget::default(), &goals, &mut of_way)
    }

    /// Returns what is asked of a row of the table as literals; `row` says of which row each column
    /// is taken.
    pub fn literals(&mut self, asks: &[Ask], row: &dyn Fn(i16) -> Row) -> Vec<Literal> {
        let Question { catalog, relation, .. } = self.question;
        let column = |number| {
            let facts = catalog.column(relation, number);
            let nullable = facts.is_none_or(|column| column.nullable);
            Term::Column { row: row(number), number, nullable }
        };
        asks.iter().map(|ask| ask.literal(&mut self.terms, &column)).collect()
    }

    /// Returns the elements of the arrays of constants among the terms.
    pub fn lists(&mut self) -> HashMap<TermId, Vec<TermId>> {
        let mut found = HashMap::new();
        let mut constants = Vec::new();
        for (id, term) in self.terms.all() {
            match term {
                Term::Array(of) if of.iter().all(|of| self.terms.as_constant(*of).is_some()) => {
                    found.insert(id, of.clone());
                }
                Term::Constant(of) => constants.extend(elements_of(of).map(|of| (id, of))),
                _ => {}
            }
        }
        for (id, elements) in constants {
            let elements = elements.into_iter().map(|of| self.terms.constant(of));
            found.insert(id, elements.collect());
        }
        found
    }

    /// Returns the cases that a way consists of: for each value that is one of several constants,
    /// which one it is. `lists` are the [`Asked::lists`].
    pub fn cases(
        &self,
        way: &[Literal],
        lists: &HashMap<TermId, Vec<TermId>>,
    ) -> Vec<Vec<Literal>> {
        let mut cases = vec![way.to_vec()];
        for literal in way {
            let Literal::Member(by, value, list, Some(true)) = *literal else { continue };
            let Some(elements) = lists.get(&list) else { continue };
            let is_few = cases.len() * elements.len() <= MOST_CASES;
            if is_few && is_one_of(self.question.catalog, by) {
                let equal = elements.iter().map(|of| {
                    let is_it = Literal::Compare(Comparison::Equal, value, *of);
                    cases.iter().map(move |case| [&case[..], &[is_it]].concat())
                });
                cases = equal.flatten().collect();
            }
        }
        cases
    }

    /// Whether a way leaves it open that further literals hold.
    pub fn allows(&self, way: &[Literal], further: &[Literal]) -> bool {
        !contradict(&self.terms, &Session::default(), &[way, further].concat())
    }

    /// Whether further literals hold in each case in which those of a way do.
    pub fn implies(&self, way: &[Literal], further: &[Literal]) -> bool {
        further.iter().all(|one| {
            way.contains(one) || negated(*one).iter().all(|other| !self.allows(way, &[*other]))
        })
    }

    /// Whether a row can pass in a session.
    pub fn can_pass(&self, session: &Session) -> Result<bool, TooLarge> {
        is_possible(&self.terms, session, Nulls::Everywhere, &self.all_true())
    }

    fn all_true(&self) -> Vec<(&Formula, Want)> {
        let all = self.conditions.iter().chain(&self.given);
        all.map(|condition| (&**condition, Want::True)).collect()
    }

    /// Whether a row can fail in a session.
    pub fn can_fail(&self, session: &Session) -> Result<bool, TooLarge> {
        for condition in self.conditions.iter().chain(&self.given) {
            let mut goals = vec![(&**condition, Want::NotTrue)];
            goals.extend(self.checks.iter().map(|check| (&**check, Want::NotFalse)));
            if is_possible(&self.terms, session, Nulls::Everywhere, &goals)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns what the subqueries of conditions are about, by number.
pub fn subqueries(inspector: Inspector<'_>, conditions: &[Rc<Formula>]) -> HashMap<u32, Subquery> {
    let mut found = HashMap::new();
    let mut note = |exists: &Exists| {
        let mut about = Subquery::default();
        for (condition, _) in &exists.queries {
            condition.visit(&mut |part| {
                for parts in part.terms().into_iter().map(|term| inspector.parts(term)) {
                    about.has_identity |= parts.asks_session();
                    about.is_of_checked |= parts.is_of_checked();
                }
            });
        }
        found.insert(exists.number, about);
    };
    for condition in conditions {
        condition.visit(&mut |part| {
            if let Formula::Exists(exists) = part {
                note(exists);
            }
        });
    }
    found
}

/// Whether a row that passes the condition of a question also passes another one, for the role.
#[must_use]
pub fn is_covered(question: &Question<'_>, other: &Expression) -> bool {
    let Question { catalog, identities, relation, role, .. } = *question;
    let Some(condition) = question.condition else { return true };
    if condition == other {
        return true;
    }
    let mut terms = Terms::default();
    let mut reader =
        Reader::new(catalog, &mut terms, relation).for_role(role, relation, identities);
    let (one, other) = (reader.condition(condition), reader.condition(other));
    let name = catalog.role_name(role).unwrap_or_default();
    let caller = identities.sessions.get(&name).copied();
    let sessions = sessions(identities, &mut terms, caller, &name);
    let goals = [(&*one, Want::True), (&*other, Want::NotTrue)];
    sessions
        .iter()
        .all(|session| is_possible(&terms, session, Nulls::Everywhere, &goals) == Ok(false))
}

/// Returns the CHECK constraints of a table that are about no other columns than those that have
/// been read: others would make the search longer, and say nothing.
fn checks(reader: &mut Reader<'_>, catalog: &dyn Catalog, relation: Oid) -> Vec<Rc<Formula>> {
    let mentioned = reader.columns.clone();
    let mut found = Vec::new();
    for check in catalog.checks(relation).iter() {
        let mut terms = Terms::default();
        let mut alone = Reader::new(catalog, &mut terms, relation);
        alone.condition(check);
        if alone.unknown.is_empty() && alone.columns.is_subset(&mentioned) {
            found.push(reader.condition(check));
        }
    }
    found
}

//! Which rows a policy lets a role reach, apart from those that are tied to the caller.

use super::facts::Catalog;
use super::formula::{Exists, Formula};
use super::identity::{Caller, Identities, Kind};
use super::literals::{Literal, Session};
use super::opening::{Opening, Subquery, Way};
use super::parts::Inspector;
use super::reader::{Found, Reader};
use super::search::{Budget, Nulls, TooLarge, Want, is_possible, ways};
use super::term::{Constant, Row, Term, TermId, Terms};
use super::witness::Names;
use crate::catalog::Oid;
use crate::stored::Expression;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;

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
}

/// What a policy lets a role reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Every row, whatever the session is.
    pub is_always_true: bool,
    /// No row.
    pub is_never_true: bool,
    /// Every row, in each session of the role.
    pub ignores_row: bool,
    /// Whether the role's sessions have a user.
    pub caller: Option<Caller>,
    /// The columns that tie a row to the caller: those of each way in which it is tied.
    pub ties: BTreeSet<BTreeSet<String>>,
    /// Whether callers with a right reach rows that are not tied to them.
    pub has_privileged: bool,
    /// The ways in which other rows are reached, one of each kind.
    pub open: Vec<Open>,
    /// The tables and views that are looked up.
    pub lookups: BTreeSet<String>,
    /// What could not be read.
    pub unknown: BTreeSet<String>,
    /// The relations that the reader of a lookup has no privilege on.
    pub denied: BTreeSet<String>,
    /// The tables of which no policy lets the reader of a lookup read a row.
    pub hidden: BTreeSet<String>,
    /// The functions that their caller has no privilege on.
    pub not_executable: BTreeSet<String>,
    /// The tables whose policies lead to themselves.
    pub recursive: BTreeSet<String>,
}

/// A way in which a row that is not tied to the caller is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What kind of opening it is.
    pub opening: Opening,
    /// The columns of the row that are asked for something.
    pub columns: BTreeSet<String>,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
}

/// Returns what a policy lets a role reach.
#[must_use]
pub fn exposure(question: &Question<'_>) -> Exposure {
    let Question { catalog, identities, relation, role, .. } = *question;
    let mut terms = Terms::default();
    let mut reader =
        Reader::new(catalog, &mut terms, relation).for_role(role, relation, identities);
    let mut conditions = vec![match question.condition {
        Some(condition) => reader.condition(condition),
        None => Rc::new(Formula::FALSE),
    }];
    conditions.extend(question.restrictive.iter().map(|condition| reader.condition(condition)));
    let checks = checks(&mut reader, catalog, relation);
    let (found, mut unknown) = (reader.found, reader.unknown);
    let name = catalog.role_name(role).unwrap_or_default();
    let caller = identities.sessions.get(&name).copied();
    let sessions = sessions(identities, &mut terms, caller, &name);
    let asked = Asked { question, terms: &terms, found: &found, conditions, checks, sessions };
    let mut exposure = asked.answer().unwrap_or_else(|TooLarge| {
        unknown.insert("a condition that is too large".to_owned());
        Exposure::default()
    });
    let names = |oids: BTreeSet<Oid>| -> BTreeSet<String> {
        oids.into_iter().filter_map(|oid| catalog.relation_name(oid)).collect()
    };
    let lookups = found.rows.iter().filter(|(row, _)| **row != Row::CHECKED).map(|(_, oid)| *oid);
    exposure.lookups = names(lookups.collect());
    exposure.denied = names(found.denied);
    exposure.hidden = names(found.hidden);
    exposure.recursive = names(found.recursive);
    exposure.not_executable = found.not_executable;
    exposure.caller = caller;
    exposure.unknown = unknown;
    exposure
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

/// Returns the sessions of a role. Those without a user have no claims at all, or those of the role
/// alone.
fn sessions(
    identities: &Identities,
    terms: &mut Terms,
    caller: Option<Caller>,
    role: &str,
) -> Vec<Session> {
    let values: Vec<(TermId, Kind)> = terms
        .all()
        .filter_map(|(id, term)| match term {
            Term::Identity(identity) => Some((id, identity.kind)),
            _ => None,
        })
        .collect();
    let name = terms.constant(Constant::Text(role.to_owned()));
    let with = |is_null: &dyn Fn(Kind) -> Option<bool>, has_role: bool| {
        let mut session = Session::default();
        for (term, kind) in &values {
            session.nulls.extend(is_null(*kind).map(|is_null| (*term, is_null)));
            if has_role && *kind == Kind::Role {
                session.constants.push((*term, name));
            }
        }
        session
    };
    let is_sent = |kind| matches!(kind, Kind::Request | Kind::Settable);
    match caller {
        Some(Caller::With) => {
            let is_known = |kind| matches!(kind, Kind::User | Kind::Claims | Kind::Role);
            vec![with(&|kind| is_known(kind).then_some(false), true)]
        }
        Some(Caller::Without) => {
            let has_role = |kind| matches!(kind, Kind::Claims | Kind::Role);
            vec![
                with(&|kind| (!is_sent(kind)).then_some(true), false),
                with(&|kind| (!is_sent(kind)).then_some(!has_role(kind)), true),
            ]
        }
        None if identities.roles_are_tenants => vec![with(&|_| None, false)],
        None => vec![with(&|_| None, true)],
    }
}

/// The conditions of a policy, as they were read.
struct Asked<'a> {
    question: &'a Question<'a>,
    terms: &'a Terms,
    found: &'a Found,
    conditions: Vec<Rc<Formula>>,
    /// The CHECK constraints that are about columns of the conditions.
    checks: Vec<Rc<Formula>>,
    sessions: Vec<Session>,
}

impl Asked<'_> {
    fn answer(&self) -> Result<Exposure, TooLarge> {
        let is_always_true = !self.can_fail(&Session::default())?;
        let (mut can_pass, mut can_fail) = (false, false);
        for session in &self.sessions {
            can_pass |= self.can_pass(session)?;
            can_fail |= self.can_fail(session)?;
        }
        let mut exposure = Exposure {
            is_always_true,
            is_never_true: !can_pass,
            ignores_row: can_pass && !can_fail,
            ..Exposure::default()
        };
        self.add_ways(&mut exposure)?;
        Ok(exposure)
    }

    /// Returns what the subqueries of the conditions are about, by number.
    fn subqueries(&self, inspector: Inspector<'_>) -> HashMap<u32, Subquery> {
        let mut found = HashMap::new();
        let mut note = |exists: &Exists| {
            let mut about = Subquery::default();
            for (condition, _) in &exists.queries {
                condition.visit(&mut |part| {
                    for parts in part.terms().into_iter().map(|term| inspector.parts(term)) {
                        about.has_identity |= !parts.identities.is_empty();
                        about.is_of_checked |= parts.is_of_checked();
                    }
                });
            }
            found.insert(exists.number, about);
        };
        for condition in &self.conditions {
            condition.visit(&mut |part| {
                if let Formula::Exists(exists) = part {
                    note(exists);
                }
            });
        }
        found
    }

    fn can_pass(&self, session: &Session) -> Result<bool, TooLarge> {
        is_possible(self.terms, session, Nulls::Everywhere, &self.all_true())
    }

    fn all_true(&self) -> Vec<(&Formula, Want)> {
        self.conditions.iter().map(|condition| (&**condition, Want::True)).collect()
    }

    fn can_fail(&self, session: &Session) -> Result<bool, TooLarge> {
        for condition in &self.conditions {
            let mut goals = vec![(&**condition, Want::NotTrue)];
            goals.extend(self.checks.iter().map(|check| (&**check, Want::NotFalse)));
            if is_possible(self.terms, session, Nulls::Everywhere, &goals)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the ways in which a row passes.
    fn add_ways(&self, exposure: &mut Exposure) -> Result<(), TooLarge> {
        let Question { catalog, identities, relation, .. } = *self.question;
        let inspector = Inspector { terms: self.terms, catalog, identities };
        let column_names = |columns: &BTreeSet<i16>| {
            columns.iter().filter_map(|number| catalog.column_name(relation, *number)).collect()
        };
        let subqueries = self.subqueries(inspector);
        let mut open: BTreeMap<Opening, Vec<Literal>> = BTreeMap::new();
        let mut columns: BTreeMap<Opening, BTreeSet<i16>> = BTreeMap::new();
        let goals = self.all_true();
        for session in &self.sessions {
            let mut each = |literals: &[Literal]| {
                catalog.interrupts();
                let way = Way::new(inspector, self.found, &subqueries, literals);
                let ties = way.ties(&BTreeSet::new());
                if !ties.columns.is_empty() {
                    exposure.ties.insert(column_names(&ties.columns));
                } else if way.is_privileged(&ties) {
                    exposure.has_privileged = true;
                } else {
                    let opening = way.opening();
                    columns.entry(opening).or_default().extend(way.conditions_on_row());
                    let known = open.entry(opening).or_insert_with(|| literals.to_vec());
                    if literals.len() < known.len() {
                        *known = literals.to_vec();
                    }
                }
                ControlFlow::Continue(())
            };
            let nulls = Nulls::Everywhere;
            ways(self.terms, session, nulls, Budget::default(), &goals, &mut each)?;
        }
        for (opening, literals) in open {
            let names = Names::of(inspector, self.found, &literals);
            let columns = column_names(&columns[&opening]);
            let witness = literals.iter().filter_map(|literal| names.literal(*literal)).collect();
            exposure.open.push(Open { opening, columns, witness });
        }
        Ok(())
    }
}

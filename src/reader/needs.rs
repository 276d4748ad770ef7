//! What statements need, as a reader has found it, and the statements as the core checks them.

use crate::snapshot::Objects;
use dragonfly_core::catalog::{Oid, Relation, Routine, Snapshot};
use dragonfly_core::explain::{Attempt, Body as CheckedBody, Called, Checks, Execution};
use dragonfly_core::explain::{Moment, Need};
use std::collections::HashMap;

/// What a statement needs.
#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "the core calls them needs, too")]
pub struct Needs {
    /// The privileges on relations.
    pub needs: Vec<Need>,
    /// The functions that it would call, in the order of the statement.
    pub calls: Vec<Call>,
    /// The sequences that it names by a text without a schema.
    pub unresolved: Vec<String>,
    /// The statements in the parsed bodies of the routines that it calls, in their order.
    pub bodies: Vec<Body>,
    /// The routines that it calls and whose bodies may be texts, each with the role that runs the
    /// body, where that is not the role that runs the statement.
    pub entered: Vec<(Oid, Option<Oid>)>,
    /// What the defaults of the arguments of a call need, where the call omits these.
    pub defaults: Option<Box<Self>>,
    /// Why no role can execute it.
    pub impossible: Option<String>,
    /// Whether something was not followed: what cannot be read, or is too much.
    pub is_cut: bool,
}

/// A function that would be called: the role that needs EXECUTE, where that is not the role that
/// runs the statement, and when that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Call {
    pub routine: Oid,
    pub check_as: Option<Oid>,
    pub moment: Moment,
}

/// What is in the parsed body of a routine (BEGIN ATOMIC).
#[derive(Debug)]
pub struct Body {
    /// The routine.
    pub routine: Oid,
    /// The role that runs it, where that is not the role that runs the statement.
    pub runs_as: Option<Oid>,
    /// What it needs, without the bodies that it calls itself.
    pub needs: Needs,
}

impl Needs {
    /// Returns the needs on relations, of the statement and of the bodies, of the role that runs
    /// the statement.
    pub fn of_caller(&self) -> impl Iterator<Item = &Need> {
        let bodies = self.bodies.iter().filter(|body| body.runs_as.is_none());
        let needs = self.needs.iter().chain(bodies.flat_map(|body| &body.needs.needs));
        needs.filter(|need| need.check_as.is_none())
    }

    /// Adds what the statement is about to the objects that are read.
    pub fn add_to(&self, objects: &mut Objects) {
        objects.relations.extend(self.needs.iter().map(|need| need.relation));
        objects.routines.extend(self.calls.iter().map(|call| call.routine));
        objects.routines.extend(self.entered.iter().map(|(routine, _)| *routine));
        self.defaults.iter().for_each(|defaults| defaults.add_to(objects));
        for body in &self.bodies {
            objects.routines.insert(body.routine);
            body.needs.add_to(objects);
        }
    }
}

/// The routines of a snapshot, by OID.
pub struct Callable<'s>(HashMap<Oid, &'s Routine>);

impl<'s> Callable<'s> {
    /// Returns the routines of a snapshot.
    #[must_use]
    pub fn new(snapshot: &'s Snapshot) -> Self {
        Self(snapshot.routines.iter().map(|routine| (routine.oid, routine)).collect())
    }

    /// Returns a routine.
    #[must_use]
    pub fn get(&self, routine: Oid) -> Option<&'s Routine> {
        self.0.get(&routine).copied()
    }

    /// Returns a statement on a relation for the core. `unusable` tells why it fails for a role
    /// with all privileges.
    #[must_use]
    pub fn attempt(
        &self,
        relation: &'s Relation,
        needs: &Needs,
        unusable: Option<String>,
    ) -> Attempt<'s> {
        let mut checks = self.checks(needs);
        // The server checks the relation that the statement names first.
        let is_named = |need: &Need| need.relation == relation.oid && need.check_as.is_none();
        checks.needs.sort_by_key(|need| !is_named(need));
        let (bodies, impossible) = (self.bodies(needs), needs.impossible.clone());
        Attempt { relation, checks, bodies, texts: vec![], impossible, unusable }
    }

    /// Returns a call of a routine for the core.
    #[must_use]
    pub fn execution(&self, routine: &'s Routine, needs: &Needs) -> Execution<'s> {
        Execution {
            routine,
            calls: self.calls(needs),
            defaults: needs.defaults.as_ref().map(|needs| self.checks(needs)).unwrap_or_default(),
            bodies: self.bodies(needs),
            texts: vec![],
            impossible: needs.impossible.clone(),
        }
    }

    fn calls(&self, needs: &Needs) -> Vec<Called<'s>> {
        let called = |call: &Call| {
            let Call { routine, check_as, moment } = *call;
            self.get(routine).map(|routine| Called { routine, check_as, moment })
        };
        needs.calls.iter().filter_map(called).collect()
    }

    fn checks(&self, needs: &Needs) -> Checks<'s> {
        Checks {
            needs: needs.needs.clone(),
            calls: self.calls(needs),
            unresolved: needs.unresolved.clone(),
        }
    }

    fn bodies(&self, needs: &Needs) -> Vec<CheckedBody<'s>> {
        let body = |body: &Body| {
            let routine = self.get(body.routine)?;
            Some(CheckedBody { routine, runs_as: body.runs_as, checks: self.checks(&body.needs) })
        };
        needs.bodies.iter().filter_map(body).collect()
    }
}

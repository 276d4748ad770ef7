//! Statements as the core checks them.

use crate::objects;
use crate::snapshot::Objects;
use crate::source::State;
use crate::statement::{Body as ParsedBody, Needs};
use dragonfly_core::catalog::{Oid, Privileges, Relation, Routine, Snapshot};
use dragonfly_core::explain::{Attempt, Body, Called, Checks, Execution};
use std::collections::HashMap;

/// Adds what a statement needs to the objects that are read.
pub fn add(objects: &mut Objects, needs: &Needs) {
    objects.relations.extend(needs.needs.iter().map(|need| need.relation));
    objects.routines.extend(needs.calls.iter().map(|(routine, _)| *routine));
    objects.routines.extend(needs.entered.iter().map(|(routine, _)| *routine));
    needs.defaults.iter().for_each(|defaults| add(objects, defaults));
    for body in &needs.bodies {
        objects.routines.insert(body.routine);
        add(objects, &body.needs);
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

    fn calls(&self, needs: &Needs) -> Vec<Called<'s>> {
        let called = |(routine, moment): &(Oid, _)| {
            let routine = self.get(*routine)?;
            Some(Called { routine, check_as: None, moment: *moment })
        };
        needs.calls.iter().filter_map(called).collect()
    }

    fn checks(&self, needs: &Needs) -> Checks<'s> {
        Checks { needs: needs.needs.clone(), calls: self.calls(needs), unresolved: vec![] }
    }

    fn bodies(&self, needs: &Needs) -> Vec<Body<'s>> {
        let body = |body: &ParsedBody| {
            let routine = self.get(body.routine)?;
            Some(Body { routine, runs_as: body.runs_as, checks: self.checks(&body.needs) })
        };
        needs.bodies.iter().filter_map(body).collect()
    }

    /// Returns a statement on a relation for the core.
    #[must_use]
    pub fn attempt(
        &self,
        state: &dyn State,
        relation: &'s Relation,
        privilege: Privileges,
        needs: &Needs,
    ) -> Attempt<'s> {
        Attempt {
            relation,
            checks: self.checks(needs),
            bodies: self.bodies(needs),
            texts: vec![],
            impossible: needs.impossible.clone(),
            unusable: objects::unusable(state, relation, privilege),
        }
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
}

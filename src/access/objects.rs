//! The part of the catalog that statements are about, and the statements as the core checks them.

use super::Required;
use crate::query::{self, Needs};
use dragonfly_core::catalog::{Oid, Relation, Routine, Snapshot};
use dragonfly_core::explain::{Attempt, Body, Called, Checks, Execution, Need};
use dragonfly_reader::snapshot::Objects;
use std::collections::HashMap;

/// Adds what a statement needs.
pub fn add(objects: &mut Objects, needs: &Needs) {
    objects.relations.extend(needs.needs.iter().map(|need| need.relation));
    objects.routines.extend(needs.calls.iter().map(|call| call.routine));
    objects.routines.extend(needs.bodies.iter().map(|body| body.routine));
    objects.routines.extend(needs.texts.iter().map(|(routine, _)| *routine));
    needs.bodies.iter().for_each(|body| add(objects, &body.needs));
}

/// The routines of a snapshot, by OID.
pub struct Callable<'s>(HashMap<Oid, &'s Routine>);

impl<'s> Callable<'s> {
    pub fn of(snapshot: &'s Snapshot) -> Self {
        Self(snapshot.routines.iter().map(|routine| (routine.oid, routine)).collect())
    }

    pub fn get(&self, routine: Oid) -> Option<&'s Routine> {
        self.0.get(&routine).copied()
    }

    fn calls(&self, needs: &Needs) -> Vec<Called<'s>> {
        let called = |call: &query::Call| {
            let query::Call { routine, check_as, moment } = *call;
            self.get(routine).map(|routine| Called { routine, check_as, moment })
        };
        needs.calls.iter().filter_map(called).collect()
    }

    /// Returns a statement on a relation for the core. `unusable` tells why it fails for a role
    /// with all privileges.
    pub fn attempt(
        &self,
        relation: &'s Relation,
        required: &Required,
        unusable: Option<String>,
    ) -> Attempt<'s> {
        let Required { needs, impossible, .. } = required;
        let mut checks = self.checks(needs);
        named_first(&mut checks.needs, relation.oid);
        let (bodies, impossible) = (self.bodies(needs), impossible.clone());
        Attempt { relation, checks, bodies, texts: vec![], impossible, unusable }
    }

    /// Returns a call of a routine for the core.
    pub fn execution(&self, routine: &'s Routine, required: &Required) -> Execution<'s> {
        let Required { needs, defaults, impossible } = required;
        Execution {
            routine,
            calls: self.calls(needs),
            defaults: self.checks(defaults),
            bodies: self.bodies(needs),
            texts: vec![],
            impossible: impossible.clone(),
        }
    }

    fn checks(&self, needs: &Needs) -> Checks<'s> {
        Checks {
            needs: needs.needs.clone(),
            calls: self.calls(needs),
            unresolved: needs.unresolved.clone(),
        }
    }

    fn bodies(&self, needs: &Needs) -> Vec<Body<'s>> {
        let body = |body: &query::Body| {
            let routine = self.get(body.routine)?;
            Some(Body { routine, runs_as: body.runs_as, checks: self.checks(&body.needs) })
        };
        needs.bodies.iter().filter_map(body).collect()
    }
}

/// Puts the needs on the relation that the statement names first, because the server checks them
/// first.
fn named_first(needs: &mut [Need], named: Oid) {
    needs.sort_by_key(|need| !(need.relation == named && need.check_as.is_none()));
}

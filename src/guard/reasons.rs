//! Privileges that were permitted because something declared needed them, and that stay when the
//! reason is gone: the policy, default or view has been dropped or altered. Nothing has changed
//! about the object itself, so that the comparison of the changed objects does not show it.

use super::changes::Changed;
use super::snapshots::Snapshots;
use crate::catalog::{self, Users};
use crate::pg::heap::{State, interrupts};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use dragonfly_core::guard::{Change, Regression, Remaining};
use dragonfly_core::rule::{Recheck, Rule};
use dragonfly_core::rules::Context;
use std::collections::HashSet;

/// Returns the objects that the changed ones have used before and use no longer. Only a part that
/// has been dropped, altered or replaced can have removed a use: a GRANT removes none.
pub fn lost(changed: &[Changed], [then, now]: [&State; 2]) -> HashSet<ObjectId> {
    if !changed.contains(&Changed::Parts) {
        return HashSet::new();
    }
    let users: Vec<Users> = changed.iter().filter_map(users_in).collect();
    let mut lost = catalog::uses_of(then, &users);
    if !lost.is_empty() {
        let kept = catalog::uses_of(now, &users);
        lost.retain(|object| !kept.contains(object));
    }
    lost
}

/// Returns the objects that changed views and routines use as another role than before: their owner
/// has changed, or whether they run with the privileges of their caller.
pub fn used_as_another(states: &Snapshots, now: &State) -> HashSet<ObjectId> {
    let Snapshots { before, after, .. } = states;
    let views = after.relations.iter().filter(|view| {
        before.relation(view.oid).is_some_and(|earlier| {
            (earlier.owner, earlier.security_invoker) != (view.owner, view.security_invoker)
        })
    });
    let routines = after.routines.iter().filter(|routine| {
        before.routine(routine.oid).is_some_and(|earlier| {
            (earlier.owner, earlier.security_definer) != (routine.owner, routine.security_definer)
        })
    });
    let views = views.map(|view| Users::Of(catalog::PG_CLASS, view.oid));
    let routines = routines.map(|routine| Users::Itself(catalog::PG_PROC, routine.oid));
    let users: Vec<Users> = views.chain(routines).collect();
    if users.is_empty() { HashSet::new() } else { catalog::uses_of(now, &users) }
}

/// Returns what remains of what `rules` reported before about objects that the changed ones use, or
/// have used, and for which `is_wanted`: what something declared needs is permitted.
pub fn remaining(
    states: &Snapshots,
    changed: &[Changed],
    [then, now]: [&State; 2],
    rules: &[&'static Rule],
    is_wanted: &dyn Fn(ObjectId) -> bool,
) -> Vec<Remaining> {
    let users: Vec<Users> = changed.iter().filter_map(users_in).collect();
    let mut used = catalog::uses_of(now, &users);
    used.extend(catalog::uses_of(then, &users));
    let mut objects = with_inner(now, &used);
    objects.retain(|object| is_wanted(*object));
    if objects.is_empty() {
        return vec![];
    }
    let [before, after] =
        [(then, &states.before), (now, &states.after)].map(|(s, base)| around(s, base, &objects));
    let (old, new) = (Access::new(&before), Access::new(&after));
    let old = Context::new(&states.contract, &before, &old, &interrupts);
    let new = Context::new(&states.contract, &after, &new, &interrupts);
    let change = Change::new(&old, &new);
    let rules = rules.iter().filter(|rule| matches!(rule.recheck, Recheck::ChangedObjects));
    let remaining = rules.flat_map(|rule| change.remaining(rule));
    remaining.filter(|remaining| objects.contains(&remaining.is.object.id)).collect()
}

/// Returns what `rules` report about objects that are [`lost`], and did not report before.
pub fn left_behind(
    states: &Snapshots,
    lost: &HashSet<ObjectId>,
    [then, now]: [&State; 2],
    rules: &[&'static Rule],
) -> Vec<Regression> {
    if lost.is_empty() {
        return vec![];
    }
    let objects = with_inner(then, lost);
    let mut concerned = rules.to_vec();
    concerned.retain(|rule| matches!(rule.recheck, Recheck::ChangedObjects));
    let mut regressions = regressions(states, &objects, [then, now], &concerned);
    regressions.retain(|regression| !regression.is_missing);
    regressions
}

/// Returns what `rules` report about objects and what needs them, and did not report before.
pub(super) fn regressions(
    states: &Snapshots,
    objects: &[ObjectId],
    [then, now]: [&State; 2],
    rules: &[&'static Rule],
) -> Vec<Regression> {
    let before = around(then, &states.before, objects);
    let after = around(now, &states.after, objects);
    let (old, new) = (Access::new(&before), Access::new(&after));
    let old = Context::new(&states.contract, &before, &old, &interrupts);
    let new = Context::new(&states.contract, &after, &new, &interrupts);
    let change = Change::new(&old, &new);
    rules.iter().flat_map(|rule| change.regressions(rule)).collect()
}

fn users_in(changed: &Changed) -> Option<Users> {
    match *changed {
        Changed::Relation(oid) => Some(Users::Of(catalog::PG_CLASS, oid)),
        Changed::Routine(oid) => Some(Users::Itself(catalog::PG_PROC, oid)),
        Changed::Other(class, oid) => Some(Users::Of(class, oid)),
        _ => None,
    }
}

/// The maximum number of objects that are followed: those behind bodies and views.
const MOST: usize = 500;

/// Adds what the bodies of the routines and the queries of the views use themselves.
fn with_inner(state: &State, objects: &HashSet<ObjectId>) -> Vec<ObjectId> {
    let (mut seen, mut waiting) = (objects.clone(), objects.iter().copied().collect::<Vec<_>>());
    while let Some(object) = waiting.pop().filter(|_| seen.len() < MOST) {
        interrupts();
        let part = match object {
            ObjectId::Routine(oid) => Users::Itself(catalog::PG_PROC, oid),
            ObjectId::Relation(oid) => Users::Of(catalog::PG_CLASS, oid),
            _ => continue,
        };
        let inner = catalog::uses_of(state, &[part]);
        waiting.extend(inner.into_iter().filter(|inner| seen.insert(*inner)));
    }
    seen.into_iter().collect()
}

/// Reads objects, with what needs them.
pub(super) fn around(state: &State, base: &Snapshot, objects: &[ObjectId]) -> Snapshot {
    let (mut relations, mut routines): (Vec<Oid>, Vec<Oid>) = (vec![], vec![]);
    for object in objects {
        match object {
            ObjectId::Relation(oid) => relations.push(*oid),
            ObjectId::Routine(oid) => routines.push(*oid),
            _ => {}
        }
    }
    relations.sort_unstable();
    routines.sort_unstable();
    let part = catalog::part(state, &relations, &routines);
    let snapshot = catalog::around(part, base.clone(), state);
    catalog::with_users(state, &snapshot, objects)
}

//! Code of roles that may not be trusted, and that changed objects execute: a trigger, a policy or
//! a default of a trusted role can call it, and a partition can have triggers of its owner. The
//! rows of the objects do not show it.

use super::changes::Changed;
use super::reasons;
use super::snapshots::Snapshots;
use crate::catalog::{self, Users};
use crate::pg::heap::State;
use crate::store::contract;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::guard::Regression;
use dragonfly_core::rules::untrusted_code;
use std::cell::OnceCell;
use std::collections::HashMap;

/// Returns the objects of roles that the contract does not trust: the routines and types that have
/// another owner or that changed objects use, and the partitions and inheritance children that have
/// changed.
pub fn executed(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<ObjectId> {
    let children = changed.iter().filter_map(|one| match *one {
        Changed::Relation(oid) if !catalog::ancestors(now, oid).is_empty() => Some(oid),
        _ => None,
    });
    let mut objects: Vec<ObjectId> = children.map(ObjectId::Relation).collect();
    if changed.contains(&Changed::Parts) {
        objects.extend(used_or_given(changed, [then, now]));
    }
    objects.sort_unstable();
    objects.dedup();
    without_trusted(objects, now)
}

/// Returns the objects whose owner is neither a superuser nor trusted by the contract, which is
/// read only where there are owners that are no superusers. The rule decides about the others.
fn without_trusted(mut objects: Vec<ObjectId>, now: &State) -> Vec<ObjectId> {
    if objects.is_empty() {
        return vec![];
    }
    let base = catalog::current_base();
    let contract = OnceCell::new();
    let by_contract = |name: &str| {
        contract.get_or_init(|| contract::in_force(now, &catalog::find_own(now))).trusts(name)
    };
    let mut known: HashMap<Oid, bool> = HashMap::new();
    let mut is_trusted = |owner: Oid| {
        *known.entry(owner).or_insert_with(|| {
            base.role(owner).is_some_and(|role| role.superuser || by_contract(&role.name))
        })
    };
    objects.retain(|object| owner(now, *object).is_some_and(|by| !is_trusted(by)));
    objects
}

/// Returns the routines and types that have another owner than before, and those that changed
/// objects use. What uses a new one has changed as well.
fn used_or_given(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<ObjectId> {
    let (mut users, mut objects) = (Vec::new(), Vec::new());
    for one in changed {
        match *one {
            Changed::Relation(oid) => users.push(Users::Of(catalog::PG_CLASS, oid)),
            Changed::Routine(oid) => {
                objects.push(ObjectId::Routine(oid));
                users.push(Users::Itself(catalog::PG_PROC, oid));
            }
            Changed::Other(catalog::PG_TYPE, oid) => {
                objects.push(ObjectId::Type(oid));
                users.push(Users::Of(catalog::PG_TYPE, oid));
            }
            Changed::Other(class, oid) | Changed::Object(class, oid) => {
                users.push(Users::Itself(class, oid));
            }
            _ => {}
        }
    }
    let is_given = |object: &ObjectId| {
        let before = owner(then, *object);
        before.is_some() && before != owner(now, *object)
    };
    objects.retain(is_given);
    objects.extend(catalog::executed_by(now, &users));
    objects
}

fn owner(state: &State, object: ObjectId) -> Option<Oid> {
    match object {
        ObjectId::Routine(oid) => catalog::routine_owner(state, oid),
        ObjectId::Relation(oid) => catalog::relation_owner(state, oid),
        ObjectId::Type(oid) => {
            catalog::place(state, catalog::PG_TYPE, oid).map(|place| place.owner)
        }
        _ => None,
    }
}

/// Returns what the rule reports about declared objects that execute the code of `objects`, and did
/// not report before.
pub fn regressions(states: &Snapshots, objects: &[ObjectId], both: [&State; 2]) -> Vec<Regression> {
    if objects.is_empty() {
        return vec![];
    }
    let mut found = reasons::regressions(states, objects, both, &[&untrusted_code::RULE]);
    // The earlier state was read around the code, which the object may not have executed then.
    let [then, _] = both;
    for regression in &mut found {
        regression.existed |= owner(then, regression.finding.object.id).is_some();
    }
    found
}

//! Routines of roles that may not be trusted, and that changed objects execute: a trigger, a policy
//! or a default of a trusted role can call them. The rows of the objects do not show it.

use super::changes::Changed;
use super::reasons::around;
use super::snapshots::Snapshots;
use crate::catalog::{self, Own, Users};
use crate::pg::heap::{State, interrupts};
use crate::store::contract;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::contract::RoleKind;
use dragonfly_core::guard::{Change, Regression};
use dragonfly_core::rules::{Context, untrusted_code};

/// Returns the routines of roles that the contract does not trust: those that have changed, and
/// those that changed objects execute.
pub fn executed(changed: &[Changed], now: &State) -> Vec<ObjectId> {
    if !changed.contains(&Changed::Parts) {
        return vec![];
    }
    let mut users = Vec::new();
    let mut routines = Vec::new();
    for one in changed {
        match *one {
            Changed::Relation(oid) => users.push(Users::Of(catalog::PG_CLASS, oid)),
            Changed::Routine(oid) => {
                routines.push(oid);
                users.push(Users::Itself(catalog::PG_PROC, oid));
            }
            Changed::Other(catalog::PG_TYPE, oid) => users.push(Users::Of(catalog::PG_TYPE, oid)),
            Changed::Other(class, oid) | Changed::Object(class, oid) => {
                users.push(Users::Itself(class, oid));
            }
            _ => {}
        }
    }
    routines.extend(catalog::executed_by(now, &users));
    if routines.is_empty() {
        return vec![];
    }
    routines.sort_unstable();
    routines.dedup();
    let mut is_trusted = trusted(now);
    routines.retain(|oid| catalog::routine_owner(now, *oid).is_some_and(|by| !is_trusted(by)));
    routines.into_iter().map(ObjectId::Routine).collect()
}

/// Returns what tells superusers and the roles that the contract trusts from others. The rule
/// decides about these.
fn trusted(now: &State) -> impl FnMut(Oid) -> bool {
    let base = catalog::current_base();
    let contract = contract::in_force(now, &Own::find(now));
    let mut last = None;
    move |owner: Oid| {
        if let Some((role, known)) = last
            && role == owner
        {
            return known;
        }
        let is_trusted = base.role(owner).is_some_and(|role| {
            role.superuser
                || contract.trusted_roles.contains(&role.name)
                || contract.roles_of(RoleKind::Owner).any(|name| *name == role.name)
        });
        last = Some((owner, is_trusted));
        is_trusted
    }
}

/// Returns what the rule reports about declared objects that execute `routines`, and did not report
/// before.
pub fn regressions(
    states: &Snapshots,
    routines: &[ObjectId],
    [then, now]: [&State; 2],
) -> Vec<Regression> {
    if routines.is_empty() {
        return vec![];
    }
    let before = around(then, &states.before, routines);
    let after = around(now, &states.after, routines);
    let (old, new) = (Access::new(&before), Access::new(&after));
    let old = Context::new(&states.contract, &before, &old, &interrupts);
    let new = Context::new(&states.contract, &after, &new, &interrupts);
    Change::new(&old, &new).regressions(&untrusted_code::RULE)
}

//! What the bodies of changed SECURITY DEFINER routines let clients do.

use super::changes::Changed;
use super::snapshots::{MOST_FOR_POLICIES, Snapshots};
use super::{policies, reasons};
use crate::catalog::{self, Exposures};
use crate::pg::heap::{State, interrupts};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Routine, Snapshot};
use dragonfly_core::contract::GuardAction;
use dragonfly_core::guard::{Change, Regression};
use dragonfly_core::rule::Rule;
use dragonfly_core::rules::shared::definer_bodies::callers;
use dragonfly_core::rules::{
    Context, definer_body_argument_identity, definer_body_dynamic_sql, definer_body_unscoped,
    definer_name_captured, definer_sets_identity,
};
use std::collections::HashSet;

/// The rules about bodies.
const RULES: [&Rule; 5] = [
    &definer_body_argument_identity::RULE,
    &definer_body_dynamic_sql::RULE,
    &definer_body_unscoped::RULE,
    &definer_name_captured::RULE,
    &definer_sets_identity::RULE,
];

/// Whether a changed SECURITY DEFINER routine has another body than before.
pub fn differ(changed: &[Changed], [then, now]: [&State; 2]) -> bool {
    changed.iter().any(|one| {
        matches!(one, Changed::Routine(oid) if catalog::definer_body(now, *oid).is_some_and(|body| {
            catalog::definer_body(then, *oid).is_some_and(|before| before != body)
        }))
    })
}

/// Returns those of some changed routines that the rules are about: SECURITY DEFINER routines that
/// a client may call. Nothing where the contract leaves the rules to the audit.
pub fn concerned(cx: &Context<'_>, changed: &HashSet<Oid>) -> Vec<Oid> {
    if RULES.iter().all(|rule| cx.guard_action(rule) == GuardAction::Audit) {
        return Vec::new();
    }
    let is_concerned =
        |routine: &&Routine| changed.contains(&routine.oid) && !callers(cx, routine).is_empty();
    let governed = cx.routines().map(|(routine, _)| routine);
    governed.filter(is_concerned).map(|routine| routine.oid).collect()
}

/// Returns what the bodies of routines let clients do, and did not before. Nothing where reading
/// them takes too long: the audit reports it.
pub fn regressions(
    states: &Snapshots,
    routines: &[Oid],
    [then, now]: [&State; 2],
) -> Vec<Regression> {
    let contract = &states.contract;
    let routines: Vec<ObjectId> = routines.iter().copied().map(ObjectId::Routine).collect();
    let moved = policies::moved_names([then, now], [&states.before, &states.after]);
    let mut tables = HashSet::new();
    for (state, earlier, base) in [(then, Some(&moved), &states.before), (now, None, &states.after)]
    {
        let mut alone = reasons::around(state, base, &routines);
        catalog::add_definer_bodies(state, earlier, contract, &mut alone);
        let accesses = alone.definer_bodies.iter().flat_map(|body| &body.accesses);
        tables.extend(accesses.flat_map(|(_, all)| all).map(|access| access.relation));
    }
    let tables = tables.into_iter().map(ObjectId::Relation);
    let objects: Vec<ObjectId> = routines.into_iter().chain(tables).collect();
    let read = Exposures { contract, is_wanted: &|_| true, most: MOST_FOR_POLICIES };
    let with_bodies = |state, earlier, base| -> Option<Snapshot> {
        let mut snapshot = reasons::around(state, base, &objects);
        catalog::add_definer_bodies(state, earlier, contract, &mut snapshot);
        // Rows that policies let a client reach are reached in any case.
        let unread = catalog::add_exposures(state, earlier, &mut snapshot, &read);
        unread.is_empty().then_some(snapshot)
    };
    let Some(before) = with_bodies(then, Some(&moved), &states.before) else { return vec![] };
    let Some(after) = with_bodies(now, None, &states.after) else { return vec![] };
    let (old, new) = (Access::new(&before), Access::new(&after));
    let old = Context::new(contract, &before, &old, &interrupts);
    let new = Context::new(contract, &after, &new, &interrupts);
    let change = Change::new(&old, &new);
    RULES.iter().flat_map(|rule| change.regressions(rule)).collect()
}

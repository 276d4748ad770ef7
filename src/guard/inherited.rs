//! Tables that have become children or partitions of others: their rows may be open to clients
//! through these.

use super::changes::Changed;
use super::snapshots::Snapshots;
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::guard::{Rejection, inherited};
use dragonfly_core::rules::Context;

/// A table that existed before, with its ancestors then and now.
#[derive(Debug)]
pub struct Attached {
    pub(super) child: Oid,
    pub(super) earlier: Vec<Oid>,
    pub(super) later: Vec<Oid>,
}

/// Returns the tables among the changed ones that have a new parent.
pub fn attached(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<Attached> {
    let relations = changed.iter().filter_map(|one| match one {
        Changed::Relation(oid) => Some(*oid),
        _ => None,
    });
    relations.filter_map(|child| of(child, [then, now])).collect()
}

fn of(child: Oid, [then, now]: [&State; 2]) -> Option<Attached> {
    let later = catalog::ancestors(now, child);
    if later.is_empty() || catalog::relation_owner(then, child).is_none() {
        return None;
    }
    let earlier = catalog::ancestors(then, child);
    let has_new = later.iter().any(|oid| !earlier.contains(oid));
    has_new.then_some(Attached { child, earlier, later })
}

/// Returns the rejections of tables whose rows clients can access through a new ancestor.
pub fn rejections(
    states: &Snapshots,
    attached: &[Attached],
    [then, now]: [&State; 2],
    tag: &str,
) -> Vec<Rejection> {
    let mut relations: Vec<Oid> = attached
        .iter()
        .flat_map(|one| [&[one.child][..], &one.earlier, &one.later].concat())
        .collect();
    if relations.is_empty() {
        return vec![];
    }
    relations.sort_unstable();
    relations.dedup();
    let before = around(then, &states.before, &relations);
    let after = around(now, &states.after, &relations);
    let (old, new) = (Access::new(&before), Access::new(&after));
    let old = Context::new(&states.contract, &before, &old, &interrupts);
    let new = Context::new(&states.contract, &after, &new, &interrupts);
    let found = attached
        .iter()
        .flat_map(|one| inherited(&old, &new, one.child, [&one.earlier, &one.later]));
    found.map(|found| Rejection::of_inherited(&new, &found, tag)).collect()
}

/// Reads relations in a state, with the roles and schemas of another snapshot of it.
fn around(state: &State, base: &Snapshot, relations: &[Oid]) -> Snapshot {
    let part = catalog::part(state, relations, &[]);
    catalog::around(part, base.clone(), state)
}

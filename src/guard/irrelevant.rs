//! The changes on which nothing depends that the guard checks: indexes, storage parameters,
//! temporary tables, and objects that other sessions have changed.

use super::changes::{self, Changed};
use crate::catalog;
use crate::pg::heap::{State, interrupts};

/// Returns those of some changes that may matter. Without the others, both states are the same for
/// the rules.
pub fn relevant(changed: Vec<Changed>, states: [&State; 2]) -> Vec<Changed> {
    let (mut relevant, mut irrelevant) = (changed, Vec::new());
    relevant.retain(|one| {
        let is_relevant = !is_irrelevant(one, states);
        if !is_relevant {
            irrelevant.push(*one);
        }
        is_relevant
    });
    // Permanent objects may depend on temporary tables later.
    irrelevant.retain(|one| !is_temporary(one, states[1]));
    changes::discard(&irrelevant);
    // The object whose part has changed is among the changes as well.
    if relevant == [Changed::Parts] {
        relevant.clear();
    }
    relevant
}

fn is_irrelevant(changed: &Changed, [then, now]: [&State; 2]) -> bool {
    interrupts();
    match *changed {
        Changed::Relation(oid) => catalog::is_relation_unaffected(oid, [then, now]),
        Changed::Other(catalog::PG_TYPE, oid) => catalog::is_type_unaffected(oid, [then, now]),
        Changed::RoutineRow(oid) => catalog::is_row_unaffected(oid, now),
        _ => false,
    }
}

fn is_temporary(changed: &Changed, now: &State) -> bool {
    let Changed::Relation(oid) = *changed else { return false };
    catalog::temporary::has_schema()
        && !catalog::temporary::is_permanent(now, (catalog::PG_CLASS, oid))
}

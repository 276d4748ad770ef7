//! Views whose writes change a table by themselves, and did not before: a trigger or a rule is
//! gone, or the query is another one.

use super::changes::Changed;
use super::views::Earlier;
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use dragonfly_core::catalog::Oid;
use dragonfly_core::guard::Written;
use std::collections::HashSet;

/// Returns the changed views, and the views over them, through which more commands change a table
/// than before.
pub fn written(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<Written> {
    let earlier = Earlier::of(changed, [then, now]);
    let differs = |view: &Oid| {
        let before = earlier.view(*view);
        before.is_some_and(|before| catalog::facts(then, before) != catalog::facts(now, *view))
    };
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for changed in earlier.changed_views().into_iter().filter(differs) {
        for view in catalog::views_over(now, changed) {
            interrupts();
            if seen.insert(view) {
                found.extend(one(view, &earlier, [then, now]));
            }
        }
    }
    found
}

fn one(view: Oid, earlier: &Earlier<'_>, [then, now]: [&State; 2]) -> Option<Written> {
    let before = earlier.view(view)?;
    let mut target = catalog::target(now, view)?;
    if let Some(past) = catalog::target(then, before) {
        target.commands.retain(|command| !past.commands.contains(command));
    }
    let catalog::Target { table, commands } = target;
    (!commands.is_empty()).then_some(Written { view, table, commands })
}

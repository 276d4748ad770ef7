//! Views that read more than before: a new query is no change of the row of the view.

use super::changes::Changed;
use super::reasons::around;
use super::snapshots::Snapshots;
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use dragonfly_core::guard::Widened;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

/// Returns the changed views, and the views over them, that read relations which they did not read
/// before.
pub fn widened(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<Widened> {
    let relations = || {
        changed.iter().filter_map(|one| match *one {
            Changed::Relation(oid) => Some(oid),
            _ => None,
        })
    };
    let views = catalog::views_among(now, relations());
    if views.is_empty() {
        return vec![];
    }
    // The names that the changed relations had, which others may have now.
    let earlier = LazyCell::new(|| -> HashMap<String, Oid> {
        let named = |oid| Some((catalog::qualified_name(then, catalog::PG_CLASS, oid)?, oid));
        relations().filter_map(named).collect()
    });
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for view in views.into_iter().flat_map(|view| catalog::views_over(now, view)) {
        interrupts();
        if seen.insert(view) {
            let named = |name: &String| earlier.get(name).copied();
            found.extend(one(view, named, [then, now]));
        }
    }
    found
}

/// Compares a view with the one that had its name before or, where no view had it, with itself.
fn one(
    view: Oid,
    earlier: impl Fn(&String) -> Option<Oid>,
    [then, now]: [&State; 2],
) -> Option<Widened> {
    let name = |state, oid| catalog::qualified_name(state, catalog::PG_CLASS, oid);
    let current = name(now, view)?;
    let kept = name(then, view).is_some_and(|name| name == current).then_some(view);
    let before = kept.or_else(|| earlier(&current)).unwrap_or(view);
    if !catalog::is_view(then, before) {
        return None;
    }
    let read_before = catalog::behind_view(then, before);
    let mut reads: Vec<Oid> = catalog::behind_view(now, view)
        .into_iter()
        .filter(|oid| *oid != view && !read_before.contains(oid))
        .collect();
    if !reads.is_empty() {
        // A table that has taken the name of one that was read is its successor.
        let names: HashSet<String> =
            read_before.iter().filter_map(|oid| name(then, *oid)).collect();
        reads.retain(|oid| name(now, *oid).is_some_and(|name| !names.contains(&name)));
    }
    reads.sort_unstable();
    (!reads.is_empty()).then_some(Widened { view, reads, existed: before == view })
}

/// Returns the later state with the views and what they read.
pub fn with_views(states: &Snapshots, views: &[Widened], now: &State) -> Snapshot {
    let objects = views.iter().flat_map(|one| one.reads.iter().chain([&one.view]));
    let objects: Vec<ObjectId> = objects.map(|oid| ObjectId::Relation(*oid)).collect();
    around(now, &states.after, &objects)
}

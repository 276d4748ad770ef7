//! Views that read more than before: a new query is no change of the row of the view.

use super::changes::Changed;
use super::inherited::Attached;
use super::reasons::around;
use super::snapshots::Snapshots;
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use dragonfly_core::guard::{Reading, Widened};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// Which views had the names of the current ones.
pub(super) struct Earlier<'s> {
    relations: Vec<Oid>,
    states: [&'s State; 2],
    /// The names that the changed relations had, which others may have now.
    names: OnceCell<HashMap<String, Oid>>,
}

impl<'s> Earlier<'s> {
    pub(super) fn of(changed: &[Changed], states: [&'s State; 2]) -> Self {
        let relations = changed.iter().filter_map(|one| match *one {
            Changed::Relation(oid) => Some(oid),
            _ => None,
        });
        Self { relations: relations.collect(), states, names: OnceCell::new() }
    }

    /// Returns the changed relations that are views.
    pub(super) fn changed_views(&self) -> Vec<Oid> {
        catalog::views_among(self.states[1], self.relations.iter().copied())
    }

    /// Returns the view that had the name of a view before or, where none had it, the view itself;
    /// `None` where there was neither.
    pub(super) fn view(&self, view: Oid) -> Option<Oid> {
        let [then, now] = self.states;
        let name = |state, oid| catalog::qualified_name(state, catalog::PG_CLASS, oid);
        let current = name(now, view)?;
        let kept = name(then, view).is_some_and(|name| name == current).then_some(view);
        let before = kept.or_else(|| self.named(&current)).unwrap_or(view);
        catalog::is_view(then, before).then_some(before)
    }

    fn named(&self, name: &str) -> Option<Oid> {
        let then = self.states[0];
        let read = || {
            let named =
                |oid: &Oid| Some((catalog::qualified_name(then, catalog::PG_CLASS, *oid)?, *oid));
            self.relations.iter().filter_map(named).collect()
        };
        self.names.get_or_init(read).get(name).copied()
    }
}

/// Returns the changed views, and the views over them, that read relations which they did not read
/// before.
pub fn widened(changed: &[Changed], [then, now]: [&State; 2]) -> Vec<Widened> {
    let earlier = Earlier::of(changed, [then, now]);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for changed in earlier.changed_views() {
        for view in catalog::views_over(now, changed) {
            interrupts();
            if seen.insert(view) {
                found.extend(one(view, &earlier, [then, now]));
            }
        }
    }
    found
}

/// Returns the views that read tables through a new parent of these, and did not read them before.
pub fn widened_by(attached: &[Attached], [then, now]: [&State; 2]) -> Vec<Widened> {
    let mut found = Vec::new();
    for Attached { child, earlier, later } in attached {
        let mut views = HashSet::new();
        for parent in later.iter().filter(|parent| !earlier.contains(parent)) {
            views.extend(catalog::views_over(now, *parent));
        }
        let is_new = |view: &Oid| {
            interrupts();
            let reads = catalog::behind_view(then, *view);
            catalog::is_view(then, *view)
                && !std::iter::once(child).chain(earlier).any(|table| reads.contains(table))
        };
        let mut views: Vec<Oid> = views.into_iter().filter(is_new).collect();
        views.sort_unstable();
        let (how, existed) = (Reading::Inheritance, true);
        let widened = |view| Widened { view, reads: vec![*child], how, existed };
        found.extend(views.into_iter().map(widened));
    }
    found
}

/// Compares a view with the one that had its name before or, where no view had it, with itself.
fn one(view: Oid, earlier: &Earlier<'_>, [then, now]: [&State; 2]) -> Option<Widened> {
    let name = |state, oid| catalog::qualified_name(state, catalog::PG_CLASS, oid);
    let before = earlier.view(view)?;
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
    let (how, existed) = (Reading::Query, before == view);
    (!reads.is_empty()).then_some(Widened { view, reads, how, existed })
}

/// Returns the later state with some relations, and what needs them.
pub fn with_relations(
    states: &Snapshots,
    relations: impl IntoIterator<Item = Oid>,
    now: &State,
) -> Snapshot {
    let objects: Vec<ObjectId> = relations.into_iter().map(ObjectId::Relation).collect();
    around(now, &states.after, &objects)
}

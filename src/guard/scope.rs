//! What has to be looked at to check what a transaction has changed.

use super::changes::Changed;
use super::plan::{Aspect, Aspects};
use crate::catalog::{self, Own, Place};
use crate::pg::heap::State;
use dragonfly_core::catalog::{Oid, Snapshot};
use std::collections::HashSet;

/// What has to be looked at.
#[derive(Debug, Default)]
pub struct Scope {
    /// Relations, in order.
    pub relations: Vec<Oid>,
    /// Routines, in order.
    pub routines: Vec<Oid>,
    /// Where the types and operators are that have come to stand where they are.
    pub placed: Vec<Place>,
    /// Whether something has changed of which only matters what it depends on.
    has_dependents: bool,
    /// What else has changed.
    aspects: Aspects,
}

impl Scope {
    /// Returns what the changed things are, and what belongs to them.
    pub fn of(changed: &[Changed], then: &State, now: &State) -> Self {
        let mut scope = Self::default();
        for one in changed {
            match *one {
                Changed::Relation(oid) => scope.relations.push(oid),
                Changed::Routine(oid) => scope.routines.push(oid),
                Changed::Extension(oid) => scope.extension(oid, then, now),
                Changed::Object(..) => scope.has_dependents = true,
                Changed::Other(catalog, oid) => {
                    let place = catalog::place(now, catalog, oid);
                    scope
                        .placed
                        .extend(place.filter(|_| place != catalog::place(then, catalog, oid)));
                }
                Changed::Catalogs => scope.has(Aspect::Catalogs),
                Changed::Own => scope.has(Aspect::Own),
                Changed::Schemas => scope.has(Aspect::Schemas),
                Changed::Roles => scope.has(Aspect::Roles),
                Changed::DefaultAcls => scope.has(Aspect::DefaultAcls),
            }
        }
        if !scope.placed.is_empty() {
            scope.has(Aspect::Placed);
        }
        for list in [&mut scope.relations, &mut scope.routines] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    fn has(&mut self, aspect: Aspect) {
        self.aspects.insert(aspect);
    }

    /// The members of an extension: what left it was excused perhaps while it was a member, and
    /// what came is now.
    fn extension(&mut self, extension: Oid, then: &State, now: &State) {
        for state in [now, then] {
            catalog::members(state, extension, &mut |class, member| match class {
                catalog::PG_PROC => self.routines.push(member),
                catalog::PG_CLASS => self.relations.push(member),
                _ => {}
            });
        }
        if Own::is(extension, [now, then]) {
            self.has(Aspect::Own);
        }
    }

    /// Returns what has changed, as far as the parts show it.
    pub fn aspects(&self, parts: &Parts, then: &State, now: &State) -> Aspects {
        let mut aspects = self.aspects.clone();
        // What a view or a policy depends on is in no row that is compared.
        let may_depend = self.has_dependents
            || !parts.after.relations.is_empty()
            || !parts.after.routines.is_empty()
            || !self.placed.is_empty();
        if parts.differ() || may_depend && catalog::temporary::has_schema() {
            aspects.insert(Aspect::Objects);
        }
        if parts.extensions().into_iter().any(|extension| Own::is(extension, [now, then])) {
            aspects.insert(Aspect::Own);
        }
        aspects
    }

    /// Reads what was changed, with what has to be looked at beside it: the table that a sequence
    /// serves, and the other routines of a name.
    pub fn parts(&self, then: &State, now: &State) -> Parts {
        let read = |relations: &[Oid], routines: &[Oid]| Parts {
            before: catalog::part(then, relations, routines),
            after: catalog::part(now, relations, routines),
        };
        let parts = read(&self.relations, &self.routines);
        let both = || [&parts.before, &parts.after].into_iter();
        let served = both().flat_map(|s| &s.relations).filter_map(|r| r.owned_by);
        let relations = with(&self.relations, served.collect());
        let names: HashSet<&str> =
            both().flat_map(|s| &s.routines).map(|r| r.name.as_str()).collect();
        let schemas: HashSet<Oid> = both().flat_map(|s| &s.routines).map(|r| r.schema).collect();
        let routines = with(&self.routines, catalog::routines_named(now, &names, &schemas));
        if relations.len() == self.relations.len() && routines.len() == self.routines.len() {
            parts
        } else {
            read(&relations, &routines)
        }
    }
}

/// Both states of some relations and routines, and of nothing else.
pub struct Parts {
    /// Without what the transaction has done.
    pub before: Snapshot,
    /// With it.
    pub after: Snapshot,
}

impl Parts {
    fn differ(&self) -> bool {
        let Self { before, after } = self;
        before.relations != after.relations
            || before.policies != after.policies
            || before.routines != after.routines
            || before.relation_extension != after.relation_extension
            || before.routine_extension != after.routine_extension
    }

    /// The extensions that any of it belongs to.
    fn extensions(&self) -> HashSet<Oid> {
        let of = |s: &Snapshot| -> Vec<Oid> {
            s.routine_extension.values().chain(s.relation_extension.values()).copied().collect()
        };
        [of(&self.before), of(&self.after)].concat().into_iter().collect()
    }
}

/// The two lists as one, in order and without duplicates.
fn with(list: &[Oid], more: Vec<Oid>) -> Vec<Oid> {
    let mut all = [list.to_vec(), more].concat();
    all.sort_unstable();
    all.dedup();
    all
}

//! Determines the objects that have to be read to check the changes of a transaction.

use super::changes::Changed;
use super::plan::{Aspect, Aspects};
use crate::catalog::{self, Own, Place};
use crate::pg::heap::State;
use dragonfly_core::catalog::{ObjectId, Oid, Snapshot};
use std::collections::HashSet;

/// The objects to read.
#[derive(Debug, Default)]
pub struct Scope {
    /// Relations, ordered by OID.
    pub relations: Vec<Oid>,
    /// Routines, ordered by OID.
    pub routines: Vec<Oid>,
    /// Schema and owner of the types and operators for which one of the two has changed.
    pub placed: Vec<Place>,
    /// Changed TOAST tables with an ACL.
    pub toast: Vec<Oid>,
    /// Large objects with another owner than before.
    pub large_objects: HashSet<Oid>,
    /// Whether an object has changed of which only its dependencies are checked.
    has_dependents: bool,
    /// Whether a changed object uses other objects than before, or has a new parent, or policies
    /// consult it, which its row does not show.
    pub uses_differ: bool,
    /// The other kinds of changes.
    aspects: Aspects,
}

impl Scope {
    /// Returns the scope of some changes: the changed objects, the members of changed extensions,
    /// and the routines with an argument of a type that is renamed, moved or given to another role.
    pub fn of(changed: &[Changed], then: &State, now: &State) -> Self {
        let mut scope = Self::default();
        let (mut renamed, mut given) = (HashSet::new(), HashSet::new());
        for one in changed {
            match *one {
                Changed::Relation(oid) => {
                    scope.relations.push(oid);
                    if catalog::is_granted_toast(now, oid) {
                        scope.toast.push(oid);
                        scope.has(Aspect::ServerObjects);
                    }
                    given.extend(catalog::row_type_of_another_owner(then, now, oid));
                    given.extend(catalog::row_type_with_new_types(then, now, oid));
                }
                Changed::Routine(oid) => {
                    scope.routines.push(oid);
                    // A condition that calls it may be true for every row now.
                    scope.relations.extend(catalog::relations_with_policy_that_calls(now, oid));
                }
                Changed::GrantToPublic(oid) => scope.routines.push(oid),
                // Those of other sessions are the same in both states.
                Changed::RoutineRow(oid) => {
                    let is_own = catalog::is_written(now, ObjectId::Routine(oid));
                    scope.routines.extend(is_own.then_some(oid));
                }
                Changed::Extension(oid) => scope.extension(oid, then, now),
                Changed::Object(catalog::PG_LARGEOBJECT, oid) => {
                    scope.large_objects.insert(oid);
                    scope.has(Aspect::ServerObjects);
                }
                Changed::Object(..) => scope.has_dependents = true,
                // The object itself is reported as well.
                Changed::Parts => {}
                Changed::Other(catalog, oid) => {
                    let [before, after] =
                        [then, now].map(|state| catalog::place(state, catalog, oid));
                    scope.placed.extend(after.filter(|_| after != before));
                    if catalog == catalog::PG_TYPE {
                        let owner = |place: Option<Place>| place.map(|place| place.owner);
                        if before.is_some() && owner(before) != owner(after) {
                            given.insert(oid);
                        }
                        if catalog::type_is_renamed(then, now, oid) {
                            renamed.insert(oid);
                        }
                    }
                }
                Changed::Catalogs => scope.has(Aspect::Catalogs),
                Changed::Own => scope.has(Aspect::Own),
                Changed::Schemas => scope.has(Aspect::Schemas),
                Changed::Roles => scope.has(Aspect::Roles),
                Changed::DefaultAcls => scope.has(Aspect::DefaultAcls),
                Changed::ServerObjects => scope.has(Aspect::ServerObjects),
            }
        }
        if !scope.placed.is_empty() {
            scope.has(Aspect::Placed);
        }
        if !renamed.is_empty() {
            // The names of its argument types are part of the identity of a routine.
            scope.routines.extend(catalog::routines_with_argument(now, &renamed));
        }
        if !given.is_empty() {
            // The owner of a type can add casts to it, and to the types that consist of it.
            let containing = catalog::types_containing(now, given);
            scope.routines.extend(catalog::routines_with_argument(now, &containing));
        }
        for list in [&mut scope.relations, &mut scope.routines] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    /// Adds tables whose policies consult something that has changed.
    pub fn add_concerned(&mut self, tables: Vec<Oid>) {
        self.uses_differ |= !tables.is_empty();
        self.relations = merged(&self.relations, tables);
    }

    fn has(&mut self, aspect: Aspect) {
        self.aspects.insert(aspect);
    }

    /// Adds the members that an extension has or had: whether a finding is excused may depend on
    /// membership.
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

    /// Returns the kinds of changes, as far as the parts show them.
    pub fn aspects(&self, parts: &Parts, then: &State, now: &State) -> Aspects {
        let mut aspects = self.aspects.clone();
        // The dependencies of a view or a policy are not part of the rows that are compared.
        let may_depend = self.has_dependents
            || !parts.after.relations.is_empty()
            || !parts.after.routines.is_empty()
            || !self.placed.is_empty();
        if parts.differ() || self.uses_differ || may_depend && catalog::temporary::has_schema() {
            aspects.insert(Aspect::Objects);
        }
        if parts.extensions().into_iter().any(|extension| Own::is(extension, [now, then])) {
            aspects.insert(Aspect::Own);
        }
        aspects
    }

    /// Reads both states of the objects, of the tables that own changed sequences, and of the
    /// routines with the same name in the same schemas.
    pub fn parts(&self, then: &State, now: &State) -> Parts {
        let read = |relations: &[Oid], routines: &[Oid]| Parts {
            before: catalog::part(then, relations, routines),
            after: catalog::part(now, relations, routines),
        };
        let parts = read(&self.relations, &self.routines);
        let both = || [&parts.before, &parts.after].into_iter();
        let owning = both().flat_map(|s| &s.relations).filter_map(|r| r.owned_by);
        let relations = merged(&self.relations, owning.collect());
        let names: HashSet<&str> =
            both().flat_map(|s| &s.routines).map(|r| r.name.as_str()).collect();
        let schemas: HashSet<Oid> = both().flat_map(|s| &s.routines).map(|r| r.schema).collect();
        let routines = merged(&self.routines, catalog::routines_named(now, &names, &schemas));
        if relations.len() == self.relations.len() && routines.len() == self.routines.len() {
            parts
        } else {
            read(&relations, &routines)
        }
    }
}

/// Both states of some relations and routines.
pub struct Parts {
    /// The state without the changes of the transaction.
    pub before: Snapshot,
    /// The state with them.
    pub after: Snapshot,
}

impl Parts {
    fn differ(&self) -> bool {
        let Self { before, after } = self;
        before.relations != after.relations
            || before.policies != after.policies
            || before.routines != after.routines
            // What a body does with arguments whose types callers choose.
            || before.caller_typed != after.caller_typed
            || before.types != after.types
            || before.relation_extension != after.relation_extension
            || before.routine_extension != after.routine_extension
    }

    /// Returns the extensions that the objects are members of.
    fn extensions(&self) -> HashSet<Oid> {
        let of = |s: &Snapshot| -> Vec<Oid> {
            s.routine_extension.values().chain(s.relation_extension.values()).copied().collect()
        };
        [of(&self.before), of(&self.after)].concat().into_iter().collect()
    }
}

/// Merges two lists: ordered, without duplicates.
fn merged(list: &[Oid], more: Vec<Oid>) -> Vec<Oid> {
    let mut all = [list.to_vec(), more].concat();
    all.sort_unstable();
    all.dedup();
    all
}

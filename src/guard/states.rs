//! Both states of what was touched: the catalog without what the transaction has done, and with it;
//! as much of it as judging takes.

use super::touched::Touch;
use super::transaction;
use crate::catalog::{self, Own};
use crate::pg::heap::{State, interrupts};
use crate::settings;
use crate::store::contract;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectKind, Oid, Privileges, Routine, Schema, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::settings as path_settings;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What is to be looked at.
pub struct Scope {
    relations: Vec<Oid>,
    routines: Vec<Oid>,
    /// Schema and owner of the types and operators that have come to stand where they are.
    placed: Vec<(Oid, Oid)>,
    /// Schemas, roles or the database: whatever depends on them, which may be everything.
    schemas: bool,
    roles: bool,
    /// Something of which only matters what it rests on.
    objects: bool,
    /// A catalog has been written directly: who knows what.
    everything: bool,
    default_acls: bool,
    /// Something of the guard's own.
    own: bool,
}

impl Scope {
    /// What the touched things are, and what belongs to them.
    pub fn of(touched: &[Touch], now: &State) -> Self {
        let then = transaction::before();
        let mut scope = Self {
            relations: vec![],
            routines: vec![],
            placed: vec![],
            schemas: false,
            roles: false,
            objects: false,
            everything: false,
            default_acls: false,
            own: false,
        };
        for touch in touched {
            match *touch {
                Touch::Relation(oid) => scope.relations.push(oid),
                Touch::Routine(oid) => scope.routines.push(oid),
                // What left it was excused perhaps while it was a member, and what came is now.
                Touch::Extension(oid) => {
                    for state in [now, &then] {
                        catalog::members(state, oid, &mut |class, member| match class {
                            catalog::PG_PROC => scope.routines.push(member),
                            catalog::PG_CLASS => scope.relations.push(member),
                            _ => {}
                        });
                    }
                    scope.own |= Own::is(oid, [now, &then]);
                }
                Touch::Catalogs => scope.everything = true,
                Touch::Object(..) => scope.objects = true,
                Touch::Other(catalog, oid) => {
                    let place = catalog::place(now, catalog, oid);
                    scope
                        .placed
                        .extend(place.filter(|_| place != catalog::place(&then, catalog, oid)));
                }
                Touch::Own => scope.own = true,
                Touch::Schemas => scope.schemas = true,
                Touch::Roles => scope.roles = true,
                Touch::DefaultAcls => scope.default_acls = true,
            }
        }
        for list in [&mut scope.relations, &mut scope.routines] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    /// What was touched, with what has to be looked at beside it: the table that a sequence serves,
    /// and the other routines of a name.
    fn parts(&self, then: &State, now: &State) -> (Snapshot, Snapshot) {
        let read = |relations: &[Oid], routines: &[Oid]| {
            (catalog::part(then, relations, routines), catalog::part(now, relations, routines))
        };
        let (before, after) = read(&self.relations, &self.routines);
        let both = || [&before, &after].into_iter();
        let served = both().flat_map(|s| &s.relations).filter_map(|r| r.owned_by);
        let relations = with(&self.relations, served.collect());
        let names: HashSet<&str> =
            both().flat_map(|s| &s.routines).map(|r| r.name.as_str()).collect();
        let schemas: HashSet<Oid> = both().flat_map(|s| &s.routines).map(|r| r.schema).collect();
        let routines = with(&self.routines, catalog::routines_named(now, &names, &schemas));
        match relations.len() == self.relations.len() && routines.len() == self.routines.len() {
            true => (before, after),
            false => read(&relations, &routines),
        }
    }

    /// Reads both states; `None` where they do not differ in anything that rules look at.
    pub fn read(&self, then: &State, now: &State) -> Option<States> {
        let (before, after) = self.parts(then, now);
        let extensions = [&before, &after]
            .map(|s| s.routine_extension.values().chain(s.relation_extension.values()));
        let extensions: HashSet<Oid> = extensions.into_iter().flatten().copied().collect();
        let own_touched =
            self.own || extensions.iter().any(|extension| Own::is(*extension, [now, then]));
        let differ = before.relations != after.relations
            || before.policies != after.policies
            || before.routines != after.routines
            || before.relation_extension != after.relation_extension
            || before.routine_extension != after.routine_extension;
        // What a view or a policy rests on is in no row that is compared.
        let rests = self.objects
            || !after.relations.is_empty()
            || !after.routines.is_empty()
            || !self.placed.is_empty();
        let differ = differ || (rests && catalog::temporary::has_schema());
        if !(differ
            || self.schemas
            || self.default_acls
            || own_touched
            || !self.placed.is_empty()
            || self.everything
            || (self.roles && settings::is_hardened()))
        {
            return None;
        }
        let base_after = catalog::current_base();
        let base_before = if self.schemas || self.roles || self.everything {
            catalog::base(then)
        } else {
            base_after.clone()
        };
        // Roles and the database change by statements without an event alone, which not every
        // session would see judged.
        let roles = self.everything
            || self.roles
                && settings::is_hardened()
                && (base_before.roles != base_after.roles
                    || base_before.memberships != base_after.memberships
                    || base_before.database != base_after.database);
        let schemas =
            self.schemas && !changed_schemas(&base_before.schemas, &base_after.schemas).is_empty();
        if !(roles
            || schemas
            || differ
            || self.default_acls
            || own_touched
            || !self.placed.is_empty())
        {
            return None;
        }
        // An extension that is being made has no past to compare with.
        let existed = Own::is_there(then);
        let own = &Own::find(now);
        let contract = contract::in_force(now, own);
        if roles {
            let (before, after) =
                (catalog::whole(then, &contract, own), catalog::whole(now, &contract, own));
            return Some(States {
                before,
                after,
                scale: Scale::Everything,
                own: existed,
                contract,
            });
        }
        let schemas = changed_schemas(&base_before.schemas, &base_after.schemas);
        if !schemas.is_empty() {
            let (before, after) = self.around_schemas(
                schemas,
                [then, now],
                [base_before, base_after],
                &contract,
                own,
            );
            return Some(States { before, after, scale: Scale::Schemas, own: existed, contract });
        }
        let (mut before, mut after) =
            (catalog::around(before, base_before, then), catalog::around(after, base_after, now));
        let schemas = self.planted(&before, &after);
        if !schemas.is_empty() {
            let bases = [catalog::base(then), catalog::base(now)];
            let (before, after) = self.around_schemas(schemas, [then, now], bases, &contract, own);
            return Some(States { before, after, scale: Scale::Schemas, own: existed, contract });
        }
        let own_touched = existed && own_touched;
        if own_touched {
            catalog::guard(then, own, &mut before);
            catalog::guard(now, own, &mut after);
        }
        // Others may be about to name the schema in which something has come to stand.
        let differ = differ
            || own_touched
            || !self.placed.is_empty()
            || before.default_acls != after.default_acls;
        if after.routines.iter().any(|r| r.security_definer) {
            let wanted = searched(&contract, &before, &after, &|_| true);
            fill(&mut after, now, &contract, &wanted);
        }
        differ.then_some(States {
            before,
            after,
            scale: Scale::Touched,
            own: own_touched,
            contract,
        })
    }

    /// What was touched, and what has to do with some schemas.
    fn around_schemas(
        &self,
        schemas: HashSet<Oid>,
        [then, now]: [&State; 2],
        [base_before, base_after]: [Snapshot; 2],
        contract: &Contract,
        own: &Own,
    ) -> (Snapshot, Snapshot) {
        let named = |base: &Snapshot| -> Vec<String> {
            base.schemas
                .iter()
                .filter(|s| schemas.contains(&s.oid))
                .map(|s| s.name.clone())
                .collect()
        };
        let names: HashSet<String> =
            [named(&base_before), named(&base_after)].concat().into_iter().collect();
        let (part_before, part_after) = self.parts(then, now);
        let read = |state: &State, base: Snapshot, parts: [&Snapshot; 2]| {
            let relations = parts.iter().flat_map(|part| &part.relations).map(|r| r.oid).collect();
            let routines = parts.iter().flat_map(|part| &part.routines).map(|r| r.oid).collect();
            catalog::concerning(
                state,
                base,
                contract,
                own,
                (&schemas, &names),
                (&relations, &routines),
            )
        };
        // What was in a schema that is governed no longer, for it has another name, is still there;
        // and so was what is in one that is now.
        let mut before = read(then, base_before.clone(), [&part_before, &part_before]);
        let mut after = read(now, base_after, [&part_after, &before]);
        if is_elsewhere(&before, &after) {
            before = read(then, base_before, [&part_before, &after]);
        }
        let touched: HashSet<Oid> = self.routines.iter().copied().collect();
        let searched = searched(contract, &before, &after, &|r| touched.contains(&r.oid));
        let wanted = searched.union(&schemas).copied().collect();
        fill(&mut before, then, contract, &wanted);
        fill(&mut after, now, contract, &wanted);
        (before, after)
    }
}

/// Whether the second shows something that the first does not.
fn is_elsewhere(first: &Snapshot, second: &Snapshot) -> bool {
    let relations: HashSet<Oid> = first.relations.iter().map(|r| r.oid).collect();
    let routines: HashSet<Oid> = first.routines.iter().map(|r| r.oid).collect();
    second.relations.iter().any(|r| !relations.contains(&r.oid))
        || second.routines.iter().any(|r| !routines.contains(&r.oid))
}

impl Scope {
    /// Whether a type or an operator has come to stand somewhere.
    pub fn places_anything(&self) -> bool {
        !self.placed.is_empty()
    }

    /// The schemas in which something has come to stand whose owner could not have made it there:
    /// somebody else has moved it, or the right has been taken back since. Whoever searches that
    /// schema finds it.
    fn planted(&self, before: &Snapshot, after: &Snapshot) -> HashSet<Oid> {
        let mut placed = self.placed.clone();
        let pasts: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
        for routine in &after.routines {
            let same =
                |past: &&Routine| past.schema == routine.schema && past.owner == routine.owner;
            if !pasts.get(&routine.oid).is_some_and(same) {
                placed.push((routine.schema, routine.owner));
            }
        }
        if placed.is_empty() {
            return HashSet::new();
        }
        let access = Access::new(after);
        // What belongs to the schema's owner, or to a superuser, needs no look at memberships.
        let strange = |(schema, owner): &(Oid, Oid)| {
            after
                .schema(*schema)
                .filter(|s| s.owner != *owner && !access.is_superuser(*owner))
                .is_some_and(|s| {
                    let held =
                        access.privileges(*owner, s.owner, s.acl.as_ref(), ObjectKind::Schema);
                    !s.is_temporary() && !held.contains(Privileges::CREATE)
                })
        };
        placed.into_iter().filter(strange).map(|(schema, _)| schema).collect()
    }
}

/// The two lists as one, in order and without duplicates.
fn with(list: &[Oid], more: Vec<Oid>) -> Vec<Oid> {
    let mut all = [list.to_vec(), more].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// The schemas that are not what they were, but for those of sessions.
fn changed_schemas(before: &[Schema], after: &[Schema]) -> HashSet<Oid> {
    let lasting = |schemas: &'_ [Schema]| -> HashMap<Oid, Schema> {
        schemas.iter().filter(|s| !s.is_temporary()).map(|s| (s.oid, s.clone())).collect()
    };
    let (before, after) = (lasting(before), lasting(after));
    before
        .keys()
        .chain(after.keys())
        .copied()
        .filter(|oid| before.get(oid) != after.get(oid))
        .collect()
}

/// How much of the catalog two states show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// What was touched.
    Touched,
    /// That, and what has to do with some schemas.
    Schemas,
    /// All of it, for roles have changed.
    Everything,
}

/// The catalog without what the transaction has done, and with it.
pub struct States {
    pub before: Snapshot,
    pub after: Snapshot,
    pub scale: Scale,
    /// With the guard's own objects, which were there before.
    pub own: bool,
    pub contract: Rc<Contract>,
}

/// The schemas that the paths of SECURITY DEFINER routines name, of those that `counts`; and of the
/// contract's own path, for the hint.
fn searched(
    contract: &Contract,
    before: &Snapshot,
    after: &Snapshot,
    counts: &dyn Fn(&Routine) -> bool,
) -> HashSet<Oid> {
    let mut names: HashSet<String> =
        contract.security_definer.search_path.iter().cloned().collect();
    for routine in
        before.routines.iter().chain(&after.routines).filter(|r| r.security_definer && counts(r))
    {
        let paths = path_settings(&routine.config)
            .into_iter()
            .filter_map(|value| after.split_path(value).ok());
        names.extend(
            paths
                .flatten()
                .map(|name| if name == "$user" { after.role_name(routine.owner) } else { name }),
        );
    }
    names.iter().filter_map(|name| after.schema_named(name)).map(|s| s.oid).collect()
}

/// Adds to a snapshot what others have put into those schemas.
fn fill(snapshot: &mut Snapshot, state: &State, contract: &Contract, schemas: &HashSet<Oid>) {
    let owners: HashSet<Oid> =
        snapshot.routines.iter().filter(|r| r.security_definer).map(|r| r.owner).collect();
    // Who is not trusted by some owner takes a walk through all memberships, which most of the time
    // nobody needs.
    let untrusted = || {
        let access = Access::new(snapshot);
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let by_some = |role: Oid| owners.iter().any(|owner| !cx.paths.trusts(role, *owner));
        snapshot.roles.iter().map(|r| r.oid).filter(|r| by_some(*r)).collect()
    };
    for (schema, owner, kind) in catalog::planted(state, schemas, snapshot.roles.len(), untrusted) {
        snapshot.contents.entry(schema).or_default().insert((owner, kind));
    }
}

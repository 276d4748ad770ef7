//! Both states of what was changed: the catalog without what the transaction has done, and with it;
//! as much of it as checking takes.

use super::plan::{self, Plan};
use super::scope::{Parts, Scope};
use crate::catalog::{self, Concerning, Own, Place};
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

/// The catalog without what the transaction has done, and with it.
pub struct Snapshots {
    /// Without.
    pub before: Snapshot,
    /// With.
    pub after: Snapshot,
    /// How much of the catalog they show; never [`Plan::Skip`].
    pub plan: Plan,
    /// Whether they show the guard's own objects, which were there before.
    pub own: bool,
    /// The contract in force.
    pub contract: Rc<Contract>,
}

/// Reads both states; `None` where they do not differ in anything that rules look at.
pub fn read(scope: &Scope, then: &State, now: &State) -> Option<Snapshots> {
    let parts = scope.parts(then, now);
    let aspects = scope.aspects(&parts, then, now);
    let is_hardened = settings::is_hardened();
    if !plan::needs_base(&aspects, is_hardened) {
        return None;
    }
    let after = catalog::current_base();
    let before =
        if plan::needs_base_before(&aspects) { catalog::base(then) } else { after.clone() };
    let bases = Bases { before, after };
    let schemas = bases.changed_schemas();
    let plan = plan::by_base(&aspects, is_hardened, !schemas.is_empty(), || bases.roles_differ());
    if plan == Plan::Skip {
        return None;
    }
    let own = Own::find(now);
    let reader = Reader {
        scope,
        then,
        now,
        existed: Own::is_there(then),
        contract: contract::in_force(now, &own),
        own,
    };
    match plan {
        Plan::Skip => None,
        Plan::Everything => Some(reader.everything()),
        Plan::Schemas => Some(reader.schemas(schemas, bases)),
        Plan::Changed => reader.changed(&aspects, parts, bases),
    }
}

/// Both states of roles, memberships, the database and schemas.
struct Bases {
    before: Snapshot,
    after: Snapshot,
}

impl Bases {
    fn roles_differ(&self) -> bool {
        let Self { before, after } = self;
        before.roles != after.roles
            || before.memberships != after.memberships
            || before.database != after.database
    }

    /// The schemas that are not what they were, but for those of sessions.
    fn changed_schemas(&self) -> HashSet<Oid> {
        let lasting = |schemas: &'_ [Schema]| -> HashMap<Oid, Schema> {
            schemas.iter().filter(|s| !s.is_temporary()).map(|s| (s.oid, s.clone())).collect()
        };
        let (before, after) = (lasting(&self.before.schemas), lasting(&self.after.schemas));
        before
            .keys()
            .chain(after.keys())
            .copied()
            .filter(|oid| before.get(oid) != after.get(oid))
            .collect()
    }
}

/// What reading takes.
struct Reader<'a> {
    scope: &'a Scope,
    then: &'a State,
    now: &'a State,
    own: Own,
    /// Whether the extension was there before: one that is being created has no past to compare
    /// with.
    existed: bool,
    contract: Rc<Contract>,
}

impl Reader<'_> {
    fn snapshots(self, before: Snapshot, after: Snapshot, plan: Plan) -> Snapshots {
        Snapshots { before, after, plan, own: self.existed, contract: self.contract }
    }

    fn everything(self) -> Snapshots {
        let before = catalog::full(self.then, &self.contract, &self.own);
        let after = catalog::full(self.now, &self.contract, &self.own);
        self.snapshots(before, after, Plan::Everything)
    }

    /// What was changed, and what has to do with some schemas.
    fn schemas(self, schemas: HashSet<Oid>, bases: Bases) -> Snapshots {
        let (before, after) = self.around_schemas(&schemas, bases);
        self.snapshots(before, after, Plan::Schemas)
    }

    fn changed(self, aspects: &plan::Aspects, parts: Parts, bases: Bases) -> Option<Snapshots> {
        let mut before = catalog::around(parts.before, bases.before, self.then);
        let mut after = catalog::around(parts.after, bases.after, self.now);
        let planted = planted_schemas(&self.scope.placed, &before, &after);
        let default_acls_differ = before.default_acls != after.default_acls;
        let shows_own = self.existed && aspects.contains(&plan::Aspect::Own);
        match plan::by_changed(aspects, !planted.is_empty(), default_acls_differ, self.existed) {
            Plan::Skip => return None,
            Plan::Changed => {}
            Plan::Schemas | Plan::Everything => {
                let bases =
                    Bases { before: catalog::base(self.then), after: catalog::base(self.now) };
                return Some(self.schemas(planted, bases));
            }
        }
        if shows_own {
            catalog::guard(self.then, &self.own, &mut before);
            catalog::guard(self.now, &self.own, &mut after);
        }
        if after.routines.iter().any(|r| r.security_definer) {
            let wanted = searched_schemas(&self.contract, &before, &after, &|_| true);
            add_contents(&mut after, self.now, &self.contract, &wanted);
        }
        Some(Snapshots { own: shows_own, ..self.snapshots(before, after, Plan::Changed) })
    }

    fn around_schemas(&self, schemas: &HashSet<Oid>, bases: Bases) -> (Snapshot, Snapshot) {
        let named = |base: &Snapshot| -> Vec<String> {
            base.schemas
                .iter()
                .filter(|s| schemas.contains(&s.oid))
                .map(|s| s.name.clone())
                .collect()
        };
        let names: HashSet<String> =
            [named(&bases.before), named(&bases.after)].concat().into_iter().collect();
        let parts = self.scope.parts(self.then, self.now);
        let read = |state: &State, base: Snapshot, parts: [&Snapshot; 2]| {
            let relations = parts.iter().flat_map(|part| &part.relations).map(|r| r.oid).collect();
            let routines = parts.iter().flat_map(|part| &part.routines).map(|r| r.oid).collect();
            let wanted =
                Concerning { schemas, names: &names, relations: &relations, routines: &routines };
            catalog::concerning(state, base, &self.contract, &self.own, &wanted)
        };
        // What was in a schema that is governed no longer, for it has another name, is still there;
        // and so was what is in one that is now.
        let mut before = read(self.then, bases.before.clone(), [&parts.before, &parts.before]);
        let mut after = read(self.now, bases.after, [&parts.after, &before]);
        if shows_more(&before, &after) {
            before = read(self.then, bases.before, [&parts.before, &after]);
        }
        let changed: HashSet<Oid> = self.scope.routines.iter().copied().collect();
        let searched =
            searched_schemas(&self.contract, &before, &after, &|r| changed.contains(&r.oid));
        let wanted = searched.union(schemas).copied().collect();
        add_contents(&mut before, self.then, &self.contract, &wanted);
        add_contents(&mut after, self.now, &self.contract, &wanted);
        (before, after)
    }
}

/// Whether the second shows something that the first does not.
fn shows_more(first: &Snapshot, second: &Snapshot) -> bool {
    let relations: HashSet<Oid> = first.relations.iter().map(|r| r.oid).collect();
    let routines: HashSet<Oid> = first.routines.iter().map(|r| r.oid).collect();
    second.relations.iter().any(|r| !relations.contains(&r.oid))
        || second.routines.iter().any(|r| !routines.contains(&r.oid))
}

/// Returns the schemas in which something has come to stand whose owner could not have created it
/// there: another role has moved it, or the right has been taken back since. A path with that
/// schema finds it. `placed` are types and operators.
fn planted_schemas(placed: &[Place], before: &Snapshot, after: &Snapshot) -> HashSet<Oid> {
    let mut placed = placed.to_vec();
    let pasts: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
    for routine in &after.routines {
        let same = |past: &&Routine| past.schema == routine.schema && past.owner == routine.owner;
        if !pasts.get(&routine.oid).is_some_and(same) {
            placed.push(Place { schema: routine.schema, owner: routine.owner });
        }
    }
    if placed.is_empty() {
        return HashSet::new();
    }
    let access = Access::new(after);
    // What belongs to the schema's owner, or to a superuser, needs no look at memberships.
    let is_planted = |place: &Place| {
        let owner = place.owner;
        after
            .schema(place.schema)
            .filter(|s| s.owner != owner && !access.is_superuser(owner))
            .is_some_and(|s| {
                let held = access.privileges(owner, s.owner, s.acl.as_ref(), ObjectKind::Schema);
                !s.is_temporary() && !held.contains(Privileges::CREATE)
            })
    };
    placed.into_iter().filter(is_planted).map(|place| place.schema).collect()
}

/// Returns the schemas that the paths of SECURITY DEFINER routines name, of those that `counts`;
/// and of the contract's own path, for the hint.
fn searched_schemas(
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
fn add_contents(
    snapshot: &mut Snapshot,
    state: &State,
    contract: &Contract,
    schemas: &HashSet<Oid>,
) {
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
    for content in catalog::contents(state, schemas, snapshot.roles.len(), untrusted) {
        snapshot
            .contents
            .entry(content.place.schema)
            .or_default()
            .insert((content.place.owner, content.kind));
    }
}

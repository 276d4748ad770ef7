//! Reads both states of the catalog, without and with the changes of the transaction, as far as
//! checking needs them.

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

/// Both states of the catalog.
pub struct Snapshots {
    /// The state without the changes of the transaction.
    pub before: Snapshot,
    /// The state with them.
    pub after: Snapshot,
    /// How much of the catalog they show; never [`Plan::Skip`].
    pub plan: Plan,
    /// Whether they show the guard's own objects, and these existed before.
    pub own: bool,
    /// The contract in force.
    pub contract: Rc<Contract>,
}

/// Reads both states; `None` where they do not differ in anything that the rules check.
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
        Plan::Schemas => Some(reader.schemas(schemas, bases, &aspects)),
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

    /// Returns the schemas that have changed, temporary schemas excepted.
    fn changed_schemas(&self) -> HashSet<Oid> {
        let permanent = |schemas: &'_ [Schema]| -> HashMap<Oid, Schema> {
            schemas.iter().filter(|s| !s.is_temporary()).map(|s| (s.oid, s.clone())).collect()
        };
        let (before, after) = (permanent(&self.before.schemas), permanent(&self.after.schemas));
        before
            .keys()
            .chain(after.keys())
            .copied()
            .filter(|oid| before.get(oid) != after.get(oid))
            .collect()
    }
}

/// The input of reading.
struct Reader<'a> {
    scope: &'a Scope,
    then: &'a State,
    now: &'a State,
    own: Own,
    /// Whether the extension existed before. Otherwise it is being created, and there is no earlier
    /// state to compare with.
    existed: bool,
    contract: Rc<Contract>,
}

impl Reader<'_> {
    fn snapshots(self, before: Snapshot, after: Snapshot, plan: Plan) -> Snapshots {
        Snapshots { before, after, plan, own: self.existed, contract: self.contract }
    }

    fn everything(self) -> Snapshots {
        let before = catalog::objects_of(self.then, &self.contract, &self.own);
        let after = catalog::objects_of(self.now, &self.contract, &self.own);
        self.snapshots(before, after, Plan::Everything)
    }

    /// Reads the changed objects and everything that depends on some schemas.
    fn schemas(self, schemas: HashSet<Oid>, bases: Bases, aspects: &plan::Aspects) -> Snapshots {
        let (mut before, mut after) = self.around_schemas(&schemas, bases);
        if aspects.contains(&plan::Aspect::ServerObjects) {
            self.add_server_objects(&mut before, &mut after);
        }
        self.snapshots(before, after, Plan::Schemas)
    }

    fn changed(self, aspects: &plan::Aspects, parts: Parts, bases: Bases) -> Option<Snapshots> {
        let mut before = catalog::around(parts.before, bases.before, self.then);
        let mut after = catalog::around(parts.after, bases.after, self.now);
        let misplaced = schemas_with_misplaced(&self.scope.placed, &before, &after);
        let default_acls_differ = before.default_acls != after.default_acls;
        if aspects.contains(&plan::Aspect::ServerObjects) {
            self.add_server_objects(&mut before, &mut after);
        }
        let server_objects_differ = before.server_objects != after.server_objects;
        let shows_own = self.existed && aspects.contains(&plan::Aspect::Own);
        let acls_differ = default_acls_differ || server_objects_differ;
        match plan::by_changed(aspects, !misplaced.is_empty(), acls_differ, self.existed) {
            Plan::Skip => return None,
            Plan::Changed => {}
            Plan::Schemas | Plan::Everything => {
                let bases =
                    Bases { before: catalog::base(self.then), after: catalog::base(self.now) };
                return Some(self.schemas(misplaced, bases, aspects));
            }
        }
        if shows_own {
            catalog::guard(self.then, &self.own, &mut before);
            catalog::guard(self.now, &self.own, &mut after);
        }
        if after.routines.iter().any(|r| r.security_definer) {
            let wanted = searched_schemas(&self.contract, &before, &after, &|_| true);
            add_contents(&mut after, self.now, &self.contract, &wanted);
            catalog::bodies(self.now, &self.contract, &mut after);
        }
        Some(Snapshots { own: shows_own, ..self.snapshots(before, after, Plan::Changed) })
    }

    fn add_server_objects(&self, before: &mut Snapshot, after: &mut Snapshot) {
        catalog::server_objects(self.then, before);
        catalog::server_objects(self.now, after);
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
        // A renamed schema may be governed in one of the two states only. Each state shows the
        // objects that the other one shows.
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
        catalog::bodies(self.now, &self.contract, &mut after);
        (before, after)
    }
}

/// Whether the second snapshot shows an object that the first does not show.
fn shows_more(first: &Snapshot, second: &Snapshot) -> bool {
    let relations: HashSet<Oid> = first.relations.iter().map(|r| r.oid).collect();
    let routines: HashSet<Oid> = first.routines.iter().map(|r| r.oid).collect();
    second.relations.iter().any(|r| !relations.contains(&r.oid))
        || second.routines.iter().any(|r| !routines.contains(&r.oid))
}

/// Returns the schemas that contain a changed object whose owner has no privilege to create objects
/// there: another role has moved the object there, or has revoked the privilege. Search paths with
/// such a schema have to be checked. `placed` are the changed types and operators.
fn schemas_with_misplaced(placed: &[Place], before: &Snapshot, after: &Snapshot) -> HashSet<Oid> {
    let mut placed = placed.to_vec();
    let earlier: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
    for routine in &after.routines {
        let is_same =
            |earlier: &&Routine| earlier.schema == routine.schema && earlier.owner == routine.owner;
        if !earlier.get(&routine.oid).is_some_and(is_same) {
            placed.push(Place { schema: routine.schema, owner: routine.owner });
        }
    }
    if placed.is_empty() {
        return HashSet::new();
    }
    let access = Access::new(after);
    // The common cases, the schema's owner and superusers, are decided without memberships.
    let is_misplaced = |place: &Place| {
        let owner = place.owner;
        after
            .schema(place.schema)
            .filter(|s| s.owner != owner && !access.is_superuser(owner))
            .is_some_and(|s| {
                let held = access.privileges(owner, s.owner, s.acl.as_ref(), ObjectKind::Schema);
                !s.is_temporary() && !held.contains(Privileges::CREATE)
            })
    };
    placed.into_iter().filter(is_misplaced).map(|place| place.schema).collect()
}

/// Returns the schemas in the search paths of the SECURITY DEFINER routines for which `counts`, and
/// in the contract's own search_path, which the HINT uses.
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

/// Adds to a snapshot which roles own objects in some schemas.
fn add_contents(
    snapshot: &mut Snapshot,
    state: &State,
    contract: &Contract,
    schemas: &HashSet<Oid>,
) {
    let owners: HashSet<Oid> =
        snapshot.routines.iter().filter(|r| r.security_definer).map(|r| r.owner).collect();
    // The roles that are not trusted by every owner. Determining them takes a pass over all
    // memberships, which is rarely needed.
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

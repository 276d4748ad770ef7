//! Reads both states of the catalog, without and with the changes of the transaction, as far as
//! checking needs them.

use super::changes::{self, Changed};
use super::plan::{self, Plan};
use super::scope::{Parts, Scope};
use super::{policies, transaction};
use crate::catalog::{self, Concerning, Exposures, Own, Place};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::settings;
use crate::store::contract;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::extension::SCHEMA;
use dragonfly_core::catalog::{
    ObjectKind, Oid, OidMap, PG_CATALOG, Privileges, Relation, Routine, Schema, Snapshot,
};
use dragonfly_core::contract::{Contract, TableDecl};
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::{settings as path_settings, type_creators};
use pgrx::PgSqlErrorCode;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

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
    /// The extension's own objects.
    pub objects: Own,
    /// The contract in force.
    pub contract: Rc<Contract>,
    /// The roles and schemas with the changes, where all changes of schemas are covered.
    pub base: Option<Rc<Snapshot>>,
}

/// Reads both states; `None` where they do not differ in anything that the rules check. `checked`
/// has the schemas as an earlier check of this transaction has allowed them: those that are still
/// the same are not checked again, so that the cost of a statement does not depend on how many
/// schemas the earlier ones have created. `checks_policies`: also what policies let clients reach.
pub fn read(
    scope: &Scope,
    then: &State,
    now: &State,
    checked: Option<&Snapshot>,
    checks_policies: bool,
) -> Option<Snapshots> {
    let parts = scope.parts(then, now);
    let aspects = scope.aspects(&parts, then, now);
    let is_hardened = settings::is_hardened();
    if !plan::needs_base(&aspects, is_hardened) {
        return None;
    }
    let after = catalog::current_base();
    let covers_schemas = plan::needs_base_before(&aspects);
    let before =
        if covers_schemas { transaction::base_before(then, &after) } else { Rc::clone(&after) };
    let mut bases = Bases { before, after };
    let schemas = bases.changed_schemas(checked);
    if schemas.is_empty() && checked.is_some() && !plan::needs_roles_before(&aspects) {
        // As after a command that changes no schema.
        bases.before = Rc::clone(&bases.after);
    }
    let base = covers_schemas.then(|| Rc::clone(&bases.after));
    let plan = plan::by_base(&aspects, is_hardened, !schemas.is_empty(), || bases.roles_differ());
    if plan == Plan::Skip {
        return None;
    }
    let own = catalog::find_own(now);
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
        Plan::Schemas => {
            let misplaced = reader.misplaced(parts, &bases);
            let names = &bases.searched_differently(&schemas) | &bases.names(&misplaced);
            Some(reader.schemas(&aspects, &(&schemas | &misplaced), &names, bases))
        }
        Plan::Changed => reader.changed(&aspects, parts, bases),
    }
    .map(|states| {
        let mut states = Snapshots { base, ..states };
        let contract = Rc::clone(&states.contract);
        if !checks_policies && !policies::states_all_rows(&contract, &states.after) {
            if policies::are_in(&contract, &states.after) {
                transaction::leave_for_commit();
            }
            return states;
        }
        add_policies([&mut states.before, &mut states.after], &contract, [then, now]);
        states
    })
}

/// How long reading what policies let clients reach may take in each state.
pub const MOST_FOR_POLICIES: Duration = Duration::from_millis(200);

/// Adds to both states what the policies of tables let clients reach, where the contract says by
/// which columns a row is its caller's. Without that, it is for the audit alone.
pub fn add_policies(snapshots: [&mut Snapshot; 2], contract: &Contract, states: [&State; 2]) {
    let [before, after] = snapshots;
    if !policies::checks_any(contract) || after.policies.is_empty() {
        return;
    }
    let has_keys = |table: Option<&TableDecl>| table.is_some_and(|of| !of.keys.is_empty());
    let moved = policies::moved_names(states, [before, after]);
    let read = Exposures { contract, is_wanted: &has_keys, most: MOST_FOR_POLICIES };
    let mut unread = catalog::add_exposures(states[1], None, after, &read);
    unread.extend(catalog::add_exposures(states[0], Some(&moved), before, &read));
    unread.sort_unstable();
    unread.dedup();
    if !unread.is_empty() {
        // One state alone cannot be compared.
        leave_out_exposures(before, &unread);
        leave_out_exposures(after, &unread);
        warn_of_unchecked(after, &unread);
    }
}

/// Removes what policies of some tables let clients reach.
fn leave_out_exposures(snapshot: &mut Snapshot, without: &[Oid]) {
    let policies = without.iter().flat_map(|table| snapshot.policies_of(*table));
    let removed: HashSet<Oid> = policies.map(|policy| policy.oid).collect();
    Rc::make_mut(&mut snapshot.exposures).retain(|of| !removed.contains(&of.policy));
}

/// Warns about tables whose policies have not been checked.
fn warn_of_unchecked(snapshot: &Snapshot, tables: &[Oid]) {
    if !transaction::report_once("policies that take too long") {
        return;
    }
    let names: Vec<String> = tables
        .iter()
        .filter_map(|table| Some(snapshot.relation_sql(snapshot.relation(*table)?)))
        .collect();
    let (first, more) = names.split_at(names.len().min(MOST_NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Report {
        message: "policies were not checked for the rows that they let clients reach".into(),
        detail: format!(
            "Checking the policies of {}{more} would have taken too long.",
            first.join(", ")
        ),
        hint: "SELECT * FROM ops.audit_policies() checks them.".into(),
    }
    .warning(PgSqlErrorCode::ERRCODE_WARNING);
}

/// How many tables a warning names.
const MOST_NAMED: usize = 5;

/// Both states of roles, memberships, the database and schemas.
struct Bases {
    before: Rc<Snapshot>,
    after: Rc<Snapshot>,
}

impl Bases {
    fn roles_differ(&self) -> bool {
        let Self { before, after } = self;
        before.roles != after.roles
            || before.memberships != after.memberships
            || before.database != after.database
    }

    /// Whether a role or PUBLIC can create types that could not create any before.
    fn have_more_creators(&self) -> bool {
        !type_creators(&self.after).is_subset(&type_creators(&self.before))
    }

    /// Returns those of some schemas that have another name than before.
    fn renamed(&self, schemas: &HashSet<Oid>) -> HashSet<Oid> {
        let name = |base: &Snapshot, oid: Oid| {
            base.schemas.iter().find(|s| s.oid == oid).map(|s| s.name.clone())
        };
        let is_renamed = |oid: &Oid| {
            let names = name(&self.before, *oid).zip(name(&self.after, *oid));
            names.is_some_and(|(old, new)| old != new)
        };
        schemas.iter().copied().filter(is_renamed).collect()
    }

    /// Returns the current and earlier names of those of some schemas that differ in what the
    /// verdict on a search_path depends on: existence, name, and the roles that can create objects.
    fn searched_differently(&self, schemas: &HashSet<Oid>) -> HashSet<String> {
        let facts = |base: &Snapshot| -> HashMap<Oid, (String, Oid, HashSet<Oid>)> {
            let wanted = base.schemas.iter().filter(|schema| schemas.contains(&schema.oid));
            wanted.map(|s| (s.oid, (s.name.clone(), s.owner, s.creators()))).collect()
        };
        let (before, after) = (facts(&self.before), facts(&self.after));
        let differing = schemas.iter().filter(|oid| before.get(oid) != after.get(oid)).copied();
        self.names(&differing.collect())
    }

    /// Returns the names of some schemas in both states.
    fn names(&self, schemas: &HashSet<Oid>) -> HashSet<String> {
        let both = self.before.schemas.iter().chain(&self.after.schemas);
        both.filter(|s| schemas.contains(&s.oid)).map(|s| s.name.clone()).collect()
    }

    /// Returns the schemas that have changed, temporary schemas excepted, without those that are as
    /// in `checked`.
    fn changed_schemas(&self, checked: Option<&Snapshot>) -> HashSet<Oid> {
        if Rc::ptr_eq(&self.before, &self.after) {
            return HashSet::new();
        }
        let since = differing(checked.unwrap_or(&self.before), &self.after);
        match checked {
            None => since,
            Some(_) if since.is_empty() => since,
            Some(_) => differing(&self.before, &self.after).intersection(&since).copied().collect(),
        }
    }
}

/// Returns the schemas that differ in two states, temporary schemas excepted.
fn differing(before: &Snapshot, after: &Snapshot) -> HashSet<Oid> {
    // Both lists are in the order of the catalog, in which most rows have the same place.
    let same = before.schemas.iter().zip(&after.schemas).take_while(|(a, b)| a == b).count();
    let (before, after) = (permanent(&before.schemas[same..]), permanent(&after.schemas[same..]));
    before
        .keys()
        .chain(after.keys())
        .copied()
        .filter(|oid| before.get(oid) != after.get(oid))
        .collect()
}

fn permanent(schemas: &[Schema]) -> OidMap<&Schema> {
    schemas.iter().filter(|s| !s.is_temporary()).map(|schema| (schema.oid, schema)).collect()
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
        let Self { existed: own, own: objects, contract, .. } = self;
        Snapshots { before, after, plan, own, objects, contract, base: None }
    }

    fn everything(self) -> Snapshots {
        let before = catalog::objects_of(self.then, &self.contract, &self.own);
        let after = catalog::objects_of(self.now, &self.contract, &self.own);
        self.snapshots(before, after, Plan::Everything)
    }

    /// Reads the changed objects and everything that depends on some schemas, and the routines
    /// whose search_path contains one of `names`.
    fn schemas(
        self,
        aspects: &plan::Aspects,
        schemas: &HashSet<Oid>,
        names: &HashSet<String>,
        bases: Bases,
    ) -> Snapshots {
        let is_of_guard = |base: &Snapshot| {
            let mut changed = base.schemas.iter().filter(|s| schemas.contains(&s.oid));
            changed.any(|s| s.oid == self.own.schema || [SCHEMA, "ops"].contains(&s.name.as_str()))
        };
        let own = self.existed
            && (aspects.contains(&plan::Aspect::Own)
                || is_of_guard(&bases.before)
                || is_of_guard(&bases.after));
        let (mut before, mut after) = self.around_schemas(schemas, names, bases);
        if aspects.contains(&plan::Aspect::ServerObjects) {
            self.add_server_objects(&mut before, &mut after);
        }
        if own {
            catalog::guard(self.then, Some(&self.own), &mut before);
            catalog::guard(self.now, Some(&self.own), &mut after);
        }
        Snapshots { own, ..self.snapshots(before, after, Plan::Schemas) }
    }

    /// Returns the schemas that another role has moved a changed object into.
    fn misplaced(&self, parts: Parts, bases: &Bases) -> HashSet<Oid> {
        let owners: HashMap<Oid, Oid> =
            bases.after.schemas.iter().map(|schema| (schema.oid, schema.owner)).collect();
        let is_owners = |schema: Oid, owner: Oid| owners.get(&schema) == Some(&owner);
        // The common case is decided without the privileges of all roles.
        if self.scope.placed.iter().all(|place| is_owners(place.schema, place.owner))
            && parts.after.routines.iter().all(|r| is_owners(r.schema, r.owner))
            && parts.after.relations.iter().all(|r| is_owners(r.schema, r.owner))
            && !parts.after.relations.iter().any(|r| r.schema == PG_CATALOG)
        {
            return HashSet::new();
        }
        let after = catalog::around(parts.after, (*bases.after).clone(), self.now);
        schemas_with_misplaced(&self.scope.placed, &parts.before, &after)
    }

    fn changed(self, aspects: &plan::Aspects, parts: Parts, bases: Bases) -> Option<Snapshots> {
        let mut before = catalog::around(parts.before, (*bases.before).clone(), self.then);
        let mut after = catalog::around(parts.after, (*bases.after).clone(), self.now);
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
                    Bases { before: transaction::base_before(self.then, &bases.after), ..bases };
                let names = bases.names(&misplaced);
                return Some(self.schemas(aspects, &misplaced, &names, bases));
            }
        }
        if shows_own {
            catalog::guard(self.then, Some(&self.own), &mut before);
            catalog::guard(self.now, Some(&self.own), &mut after);
        }
        if after.routines.iter().any(|r| r.security_definer) {
            let wanted = searched_schemas(&self.contract, &before, &after, &|_| true);
            add_contents(&mut after, self.now, &self.contract, &wanted);
            catalog::changed_bodies(self.now, &self.contract, &before, &mut after);
        }
        Some(Snapshots { own: shows_own, ..self.snapshots(before, after, Plan::Changed) })
    }

    fn add_server_objects(&self, before: &mut Snapshot, after: &mut Snapshot) {
        let toast = &self.scope.toast;
        catalog::server_objects(self.then, &self.contract, (toast, true), before);
        catalog::server_objects(self.now, &self.contract, (toast, true), after);
        catalog::forget_new_large_objects(self.then, &self.scope.large_objects, after);
    }

    fn around_schemas(
        &self,
        schemas: &HashSet<Oid>,
        names: &HashSet<String>,
        bases: Bases,
    ) -> (Snapshot, Snapshot) {
        let parts = self.scope.parts(self.then, self.now);
        let renamed = bases.renamed(schemas);
        let mut also: HashSet<Oid> = HashSet::new();
        if !renamed.is_empty() {
            also.extend(catalog::routines_with_argument_in(self.now, &renamed));
        }
        if bases.have_more_creators() {
            also.extend(catalog::routines_choosing_types());
        }
        // A routine with another search_path in the two states has been changed.
        let searching = |found: &Snapshot| -> HashSet<Oid> {
            let changed = changes::all().into_iter().filter_map(|one| match one {
                Changed::Routine(oid) | Changed::RoutineRow(oid) => Some(oid),
                _ => None,
            });
            changed.chain(found.routines.iter().map(|routine| routine.oid)).collect()
        };
        let read = |state: &State,
                    base: &Snapshot,
                    parts: [&Snapshot; 2],
                    searching: Option<&HashSet<Oid>>| {
            let relations = parts.iter().flat_map(|part| &part.relations).map(|r| r.oid).collect();
            let routines = parts.iter().flat_map(|part| &part.routines).map(|r| r.oid);
            let routines = routines.chain(also.iter().copied()).collect();
            let wanted = Concerning {
                schemas,
                names,
                relations: &relations,
                routines: &routines,
                searching,
            };
            catalog::concerning(state, base.clone(), &self.contract, &wanted)
        };
        // A renamed schema may be governed in one of the two states only. Each state shows the
        // objects that the other one shows.
        let mut after = read(self.now, &bases.after, [&parts.after, &parts.before], None);
        let among = searching(&after);
        let mut before = read(self.then, &bases.before, [&parts.before, &after], Some(&among));
        if shows_more(&after, &before) {
            after = read(self.now, &bases.after, [&parts.after, &before], Some(&among));
        }
        let changed: HashSet<Oid> = self.scope.routines.iter().copied().collect();
        let searched =
            searched_schemas(&self.contract, &before, &after, &|r| changed.contains(&r.oid));
        let wanted = searched.union(schemas).copied().collect();
        add_contents(&mut before, self.then, &self.contract, &wanted);
        add_contents(&mut after, self.now, &self.contract, &wanted);
        catalog::changed_bodies(self.now, &self.contract, &before, &mut after);
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
    let earlier: OidMap<&Relation> = before.relations.iter().map(|r| (r.oid, r)).collect();
    let is_placed = |relation: &&Relation| {
        let is_same = |earlier: &&Relation| {
            earlier.schema == relation.schema && earlier.owner == relation.owner
        };
        relation.schema == PG_CATALOG || !earlier.get(&relation.oid).is_some_and(is_same)
    };
    let relations = after.relations.iter().filter(is_placed);
    placed.extend(relations.map(|r| Place { schema: r.schema, owner: r.owner }));
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
/// in the contract's own search_path, which the HINT uses. `pg_catalog` is in every search_path.
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
        names.insert("pg_catalog".to_owned());
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
    for content in catalog::contents(state, schemas, untrusted) {
        snapshot
            .contents
            .entry(content.place.schema)
            .or_default()
            .insert((content.place.owner, content.kind));
    }
}

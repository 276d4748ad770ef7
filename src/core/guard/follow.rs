//! What a contract would have to say so that declared objects keep under other names what is
//! declared for them. Whether it would is tried on the contract, never assumed.

use super::calls::exempt_calls;
use super::change::{Change, Regression};
use super::completion::Cause;
use super::declared::{Declared, Left, Rejected, States};
use super::rename_order::in_order;
use crate::access::Access;
use crate::catalog::{ObjectId, Oid, Snapshot};
use crate::contract::Contract;
use crate::declare::{Declaration, Name, Renamed, Target, add, amended, candidates, reported};
use crate::finding::Finding;
use crate::rules::Context;
use crate::search_path::{set_clause, settings, stored_value};
use crate::sql::quote_literal;
use std::collections::{BTreeMap, HashSet};

/// How often declarations are added for what the earlier ones leave.
const MOST_ROUNDS: usize = 4;

/// How many routines are altered by a statement each.
const MOST_ROUTINES: usize = 20;

impl Declared {
    /// Returns the declarations with which the contract follows everything that has been renamed;
    /// `None` where it would not allow `regressions` then, or nothing has been renamed. The objects
    /// of these keep the exemptions that they have: the WARNING about those that end renews them.
    #[must_use]
    pub fn of_renamed(
        states: States<'_>,
        causes: &[Cause],
        regressions: &[&Regression],
    ) -> Option<Self> {
        let States { before, after, .. } = states;
        let renames = renames(after.contract, causes);
        if renames.is_empty() {
            return None;
        }
        let paths = paths(before.snapshot, after.snapshot, &renames);
        let snapshot = with_paths(after.snapshot, &paths);
        let access = Access::new(&snapshot);
        let after = &Context::new(after.contract, &snapshot, &access, after.interrupts);
        let mut declarations = new_schemas(after.contract, &renames);
        declarations.extend(replaced(after, &renames));
        declarations.extend(renames);
        let earlier = reported(before);
        let held = held(&earlier, before, after);
        let missing: HashSet<&str> = earlier.iter().filter_map(missing_name).collect();
        let left = Left::of(before, after, regressions, states.is_exempt);
        for _ in 0..MOST_ROUNDS {
            let contract = amended(after, &declarations)?;
            let new = Context::new(&contract, after.snapshot, after.access, after.interrupts);
            let mut found = left.added(&new);
            found.retain(|finding| !held.contains(&Subject::of(finding)));
            found
                .retain(|finding| missing_name(finding).is_none_or(|name| !missing.contains(name)));
            let more = found.iter().flat_map(|finding| candidates(&new, finding));
            let more: Vec<_> = more.filter(|one| !declarations.contains(one)).collect();
            if more.is_empty() {
                let old = Context::new(&contract, before.snapshot, before.access, after.interrupts);
                let change =
                    Change::new(&old, &new).with_grants_to_public(states.granted_to_public.clone());
                let exempt = exemptions(&change, &found, &held, reported(&new))?;
                let together = altered_paths(&snapshot, &paths);
                return Some(Self::following(regressions, declarations, exempt, together));
            }
            more.into_iter().for_each(|one| add(&mut declarations, one));
        }
        None
    }
}

/// Returns the declarations of the causes, those of schemas first, each when its new name is free.
pub(super) fn renames(contract: &Contract, causes: &[Cause]) -> Vec<Declaration> {
    let mut renames: Vec<Vec<Declaration>> = Vec::new();
    for one in causes.iter().map(|cause| &cause.declares).filter(|one| !one.is_empty()) {
        if !renames.contains(one) {
            renames.push(one.clone());
        }
    }
    let is_declared = |name: &Name| contract.declares_relation(&name.schema, &name.name);
    let mut ordered = in_order(renames, &is_declared);
    let is_inner = |one: &Declaration| renamed_schema(one).is_none();
    ordered.sort_by_key(is_inner);
    ordered
}

/// Returns the declarations that drop the declared relations whose names others have now, where
/// these have no other name themselves: they do not exist any more.
fn replaced(cx: &Context<'_>, renames: &[Declaration]) -> Vec<Declaration> {
    let contract = cx.contract;
    let relation = |target: &Target| match target {
        Target::Table(name)
        | Target::View(name)
        | Target::MaterializedView(name)
        | Target::Sequence(name) => Some(name.clone()),
        Target::Role(_) | Target::Schema(_) | Target::Function(_) => None,
    };
    let of_objects = || {
        renames.iter().filter_map(|one| match one {
            Declaration::Rename(Renamed::Object(target, to)) => Some((relation(target)?, to)),
            _ => None,
        })
    };
    let declared = |name: &Name| {
        let (schema, own) = (name.schema.as_str(), name.name.as_str());
        if contract.table(schema, own).is_some() {
            return Some(Target::Table(name.clone()));
        }
        if let Some(view) = contract.view(schema, own) {
            let is_materialized = view.materialized;
            let target = if is_materialized { Target::MaterializedView } else { Target::View };
            return Some(target(name.clone()));
        }
        contract.sequence(schema, own).map(|_| Target::Sequence(name.clone()))
    };
    let is_replaced = |to: &Name| !of_objects().any(|(from, _)| from == *to);
    let replaced = of_objects().filter(|(_, to)| is_replaced(to));
    replaced.filter_map(|(_, to)| Some(Declaration::Drop(declared(to)?))).collect()
}

/// Returns the earlier and the new name of a schema that a declaration renames.
fn renamed_schema(declaration: &Declaration) -> Option<(&str, &str)> {
    match declaration {
        Declaration::Rename(Renamed::Object(Target::Schema(from), to)) => Some((from, &to.name)),
        _ => None,
    }
}

/// Returns the declarations of the schemas that objects have been moved to.
fn new_schemas(contract: &Contract, renames: &[Declaration]) -> Vec<Declaration> {
    let mut created: Vec<Declaration> = Vec::new();
    for one in renames {
        let Declaration::Rename(Renamed::Object(target, to)) = one else { continue };
        let is_known = target.schema().is_none()
            || contract.schema(&to.schema).is_some()
            || renames.iter().filter_map(renamed_schema).any(|(_, name)| name == to.schema);
        let create = Declaration::Create(Target::Schema(to.schema.clone()));
        if !is_known && !created.contains(&create) {
            created.push(create);
        }
    }
    created
}

/// What a finding is about, whatever the names of its object and of its roles are.
#[derive(PartialEq, Eq, Hash)]
struct Subject {
    rule: &'static str,
    object: ObjectId,
    roles: Vec<String>,
}

impl Subject {
    fn of(finding: &Finding) -> Self {
        Self { rule: finding.rule.id, object: finding.object.id, roles: finding.roles.clone() }
    }
}

/// Returns the name, without its schema, of an object that is declared and does not exist. What
/// has been missing before is not missing because of another name of its schema.
fn missing_name(finding: &Finding) -> Option<&str> {
    let identity = Some(finding.object.identity.as_str());
    let named = identity.filter(|_| finding.object.id == ObjectId::Named)?;
    Some(named.split_once('.').map_or(named, |(_, name)| name))
}

/// Returns the findings of the earlier state, with the names that roles have now.
fn held(found: &[Finding], before: &Context<'_>, after: &Context<'_>) -> HashSet<Subject> {
    let now = |role: &String| {
        let oid = before.snapshot.role_named(role).map(|role| role.oid);
        let role_now = oid.and_then(|oid| after.snapshot.role(oid));
        role_now.map_or_else(|| role.clone(), |role| role.name.clone())
    };
    let found = found.iter().filter(|finding| finding.object.id != ObjectId::Named);
    found
        .map(|finding| Subject {
            roles: finding.roles.iter().map(now).collect(),
            ..Subject::of(finding)
        })
        .collect()
}

/// Returns the calls that exempt what the declarations leave: what would be new, and what the guard
/// would reject because the contract has not declared the schema under its earlier name. `None`
/// where the guard would reject something else, or something cannot be exempted.
fn exemptions(
    change: &Change<'_>,
    new: &[Finding],
    held: &HashSet<Subject>,
    found: Vec<Finding>,
) -> Option<Vec<String>> {
    let mut calls = new.iter().map(exempt_calls).collect::<Option<Vec<_>>>()?.concat();
    let rejected = Rejected::by(change);
    for finding in found.iter().filter(|finding| rejected.contains(finding)) {
        if !held.contains(&Subject::of(finding)) {
            return None;
        }
        for call in exempt_calls(finding)? {
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
    }
    Some(calls)
}

/// Returns the routines that search a renamed schema under its earlier name, with the names that
/// they would have to search.
fn paths(
    before: &Snapshot,
    after: &Snapshot,
    renames: &[Declaration],
) -> BTreeMap<Oid, Vec<String>> {
    let schemas: Vec<(&str, &str)> = renames
        .iter()
        .filter_map(renamed_schema)
        .filter(|(from, _)| after.schema_named(from).is_none())
        .collect();
    let mut paths = BTreeMap::new();
    if schemas.is_empty() {
        return paths;
    }
    for routine in &after.routines {
        let is_own = !after.routine_extension.contains_key(&routine.oid);
        let value = settings(&routine.config).last().copied().filter(|_| is_own);
        let Some(mut path) = value.and_then(|value| before.split_path(value).ok()) else {
            continue;
        };
        let mut is_changed = false;
        for name in &mut path {
            if let Some((_, to)) = schemas.iter().find(|(from, _)| from == name) {
                (*to).clone_into(name);
                is_changed = true;
            }
        }
        if is_changed {
            paths.insert(routine.oid, path);
        }
    }
    paths
}

/// Returns the catalog in which routines have other search_paths.
fn with_paths(snapshot: &Snapshot, paths: &BTreeMap<Oid, Vec<String>>) -> Snapshot {
    let mut snapshot = snapshot.clone();
    for routine in &mut snapshot.routines {
        if let Some(path) = paths.get(&routine.oid) {
            routine.config.retain(|item| settings(std::slice::from_ref(item)).is_empty());
            routine.config.push(format!("search_path={}", stored_value(path)));
        }
    }
    snapshot
}

/// Returns the statements that set search_paths: one for each routine or, where there are many, one
/// for all that have the same.
fn altered_paths(snapshot: &Snapshot, paths: &BTreeMap<Oid, Vec<String>>) -> Vec<String> {
    let routines = snapshot.routines.iter().filter_map(|r| Some((r, paths.get(&r.oid)?)));
    if paths.len() <= MOST_ROUTINES {
        let alter = |(routine, path): (_, &Vec<String>)| {
            let name = snapshot.routine_sql(routine);
            format!("ALTER ROUTINE {name} SET search_path = {};", set_clause(path))
        };
        return routines.map(alter).collect();
    }
    let mut by_path: BTreeMap<&Vec<String>, Vec<String>> = BTreeMap::new();
    for (routine, path) in routines {
        by_path.entry(path).or_default().push(routine.oid.to_string());
    }
    let alter = |(path, oids): (&Vec<String>, Vec<String>)| {
        let set =
            format!("ALTER ROUTINE %s SET search_path = {}", set_clause(path).replace('%', "%%"));
        format!(
            "DO $do$ DECLARE r regprocedure; BEGIN FOREACH r IN ARRAY '{{{}}}'::regprocedure[] \
             LOOP EXECUTE format({}, r); END LOOP; END $do$;",
            oids.join(","),
            quote_literal(&set)
        )
    };
    by_path.into_iter().map(alter).collect()
}

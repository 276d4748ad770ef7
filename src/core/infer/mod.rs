//! Infers a first contract from an existing database.
//!
//! In mode [`Mode::Strict`], privileges that are probably not intended are omitted, so the first
//! audit under the contract reports them: tables that clients can access without row security,
//! policies that are always true for a client, routines with an unsafe search_path, privileges of
//! PUBLIC, privileges given by GRANT ALL or by default privileges, writes to views, and privileges
//! that a client has through membership in another role. What row security restricts is declared
//! however it was granted: on tables, and SELECT on the views that read them as the caller.
//!
//! In mode [`Mode::AsIs`], what exists is declared, and only what no declaration should express is
//! omitted. [`exempt`] writes an exemption for each finding that remains.
//!
//! In both modes the contract passes its own validation without warnings: a privilege that has no
//! effect is not declared, because the role has no USAGE on the schema, or because no policy allows
//! a client any row. A routine that the declared access calls is declared in any case. What fails
//! when the server is asked about it is not declared: see [`LeftOut`].

pub mod exempt;
mod failing;
mod mode;
mod needed;
mod objects;
mod roles;
pub mod summary;
mod views;

pub use failing::{Answer, LeftOut, Outcomes};
pub use mode::Mode;
pub use roles::ToConfirm;

use crate::access::Access;
use crate::catalog::{Privileges, Role, Schema, Snapshot, extension, owner_of_reserved_schema};
use crate::contract::{
    Accept, Contract, ManagedDecl, Platform, RoleDecl, RoleKind, RuleDecl, SchemaDecl,
    SecurityDefinerDecl, matches,
};
use crate::rules::Context;
use crate::search_path::{Verdict, settings};
use failing::Failing;
use roles::Roles;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Returns the contract from which [`infer`] starts: `base`, with `schemas` as the governed schemas
/// and without declared objects. The declared roles of `base` remain, because the catalog does not
/// show which roles are clients.
#[must_use]
pub fn seed(base: &Contract, schemas: &[String]) -> Contract {
    let empty = |name: &String| SchemaDecl {
        name: name.clone(),
        purpose: String::new(),
        usage: vec![],
        all_on_objects: vec![],
        execute_on_routines: vec![],
    };
    let mut seed = base.clone();
    // The sections of the shipped contract are those of a document that the reader does not have.
    if base.is_shipped() {
        omit_sections(&mut seed);
    }
    seed.omit_shipped_readers();
    seed.schemas = schemas.iter().map(empty).collect();
    (seed.tables, seed.views, seed.sequences, seed.functions) = (vec![], vec![], vec![], vec![]);
    seed
}

fn omit_sections(contract: &mut Contract) {
    contract.rules.values_mut().for_each(|rule| rule.section = None);
}

/// Returns the names of the schemas that belong neither to the server nor to the platform nor to
/// the extension.
#[must_use]
pub fn schemas_of_application(base: &Contract, present: &Snapshot) -> Vec<String> {
    let access = Access::new(present);
    let is_of_application = |schema: &&Schema| {
        owner_of_reserved_schema(&schema.name).is_none()
            && schema.name != extension::API_SCHEMA
            && !base.lists_managed_schema(&schema.name, access.is_superuser(schema.owner))
    };
    present.schemas.iter().filter(is_of_application).map(|schema| schema.name.clone()).collect()
}

/// Returns `base`, which may be the contract of another database, with the preset of the platform
/// to which this database belongs, if its roles show one. If no relation that `base` declares
/// exists, its descriptions of roles, its sections, and the schemas that it leaves to services of a
/// platform, are about another database and are removed: a schema of the application may have such
/// a name.
#[must_use]
pub fn with_preset(
    base: &Contract,
    present: &Snapshot,
    exists: &dyn Fn(&Schema, &str) -> bool,
) -> Contract {
    let mut base = base.clone();
    let tables = base.tables.iter().map(|table| (&table.schema, &table.name));
    let mut relations = tables.chain(base.views.iter().map(|view| (&view.schema, &view.name)));
    let is_there = |(schema, name): (&String, &String)| {
        present.schema_named(schema).is_some_and(|schema| exists(schema, name))
    };
    let is_about_another = relations.clone().next().is_some() && !relations.any(is_there);
    if is_about_another {
        omit_sections(&mut base);
        base.roles.iter_mut().for_each(|role| role.description.clear());
        base.managed.schemas.retain(|name| !OF_SERVICES.contains(&name.as_str()));
    }
    for platform in Platform::of(present) {
        platform.preset().add_to(&mut base, present);
    }
    base
}

/// The schemas of Supabase's services, as the shipped contract lists them. The others that it lists
/// are those of extensions.
const OF_SERVICES: [&str; 6] =
    ["auth", "storage", "realtime*", "_realtime", "supabase_*", "pgbouncer"];

/// An inferred contract.
#[derive(Debug)]
pub struct Inferred {
    /// The contract.
    pub contract: Contract,
    /// The access that the contract does not declare, because it does not work.
    pub left_out: Vec<LeftOut>,
}

/// Returns the roles of the contract that [`infer`] returns, with their kinds.
#[must_use]
pub fn roles(cx: &Context<'_>, mode: Mode) -> Vec<RoleDecl> {
    Roles::of(cx, mode).declarations(cx)
}

/// Infers a contract that the governed schemas of a [`seed`] conform to, except for the omitted
/// privileges. `outcomes` asks the server which access works.
#[must_use]
pub fn infer(cx: &Context<'_>, version: &str, mode: Mode, outcomes: &Outcomes<'_>) -> Inferred {
    let roles = Roles::of(cx, mode);
    let mut failing = Failing::default();
    // Without access that fails, other access may have to be declared in another way.
    loop {
        let contract = draft(cx, &roles, version, mode, &failing);
        if !failing.learn(&contract, cx.snapshot, cx.interrupts, outcomes) {
            return Inferred { contract, left_out: failing.into_left_out() };
        }
    }
}

/// Returns the contract without the access that fails.
fn draft(
    cx: &Context<'_>,
    roles: &Roles<'_>,
    version: &str,
    mode: Mode,
    failing: &Failing,
) -> Contract {
    let seed = cx.contract;
    let mut contract = seed.clone();
    contract.json_schema = None;
    contract.name.clone_from(&cx.snapshot.database.name);
    version.clone_into(&mut contract.version);
    let how = match mode {
        Mode::Strict => "with least privilege",
        Mode::AsIs => "as it was",
    };
    contract.description = format!("Inferred from database {} {how}.", contract.name);
    contract.roles = roles.declarations(cx);
    contract.trusted_roles.retain(|name| contract.roles.iter().any(|role| role.name == *name));
    contract.security_definer = security_definer(cx);
    // Severities and guard actions that equal the defaults are omitted.
    for (id, declared) in &mut contract.rules {
        let own = crate::rules::find(id);
        declared.severity =
            declared.severity.filter(|severity| own.is_none_or(|rule| rule.severity != *severity));
        declared.guard = declared.guard.filter(|guard| own.is_none_or(|rule| rule.guard != *guard));
    }
    contract.rules.retain(|_, declared| *declared != RuleDecl::default());
    let names: Vec<String> = contract.schemas.iter().map(|s| s.name.clone()).collect();
    let declared: Vec<String> = contract.roles.iter().map(|role| role.name.clone()).collect();
    let clients: Vec<String> = contract.roles_of(RoleKind::Client).map(str::to_owned).collect();
    contract.identity.sessions.retain(|role, _| clients.contains(role));
    let (managed, snapshot) = (&mut contract.managed, cx.snapshot);
    let is_of_another = of_another_platform(
        snapshot,
        |managed| managed.schemas,
        |name| snapshot.schemas.iter().any(|schema| matches(name, &schema.name)),
    );
    managed.schemas.retain(|pattern| {
        !names.iter().any(|name| matches(pattern, name)) && !is_of_another(pattern)
    });
    let is_of_another = of_another_platform(
        snapshot,
        |managed| managed.roles,
        |name| snapshot.roles.iter().any(|role| matches(name, &role.name)),
    );
    managed.roles.retain(|pattern| {
        !declared.iter().any(|name| matches(pattern, name)) && !is_of_another(pattern)
    });
    objects::declare(cx, roles, mode, failing, &mut contract);
    declare_usage(cx, roles, mode, &mut contract);
    needed::declare(cx, roles, failing, &mut contract);
    contract
}

/// Returns whether a pattern of managed roles or schemas is that of a platform to which the
/// database does not belong, and matches nothing: what is created with such a name later would be
/// excused. The shipped contract is one for Supabase.
fn of_another_platform(
    snapshot: &Snapshot,
    list: fn(ManagedDecl) -> Vec<String>,
    exists: impl Fn(&str) -> bool,
) -> impl Fn(&str) -> bool {
    let own = Platform::of(snapshot);
    let others = Platform::ALL.into_iter().filter(|platform| !own.contains(platform));
    let mut listed: Vec<String> = others.flat_map(|other| list(other.preset().managed)).collect();
    if !own.contains(&Platform::Supabase) {
        let shipped = Contract::from_json(crate::contract::DEFAULT).ok();
        listed.extend(shipped.into_iter().flat_map(|shipped| list(shipped.managed)));
    }
    let kept: Vec<String> = own.into_iter().flat_map(|own| list(own.preset().managed)).collect();
    move |pattern| {
        listed.iter().any(|other| other == pattern)
            && !kept.iter().any(|own| own == pattern)
            && !exists(pattern)
    }
}

/// Returns the requirements on SECURITY DEFINER routines: the most frequent safe path and, where
/// most routines have `search_path = ''`, that it is accepted. These routines are warnings then,
/// and do not hide the others.
fn security_definer(cx: &Context<'_>) -> SecurityDefinerDecl {
    let known = &cx.contract.security_definer;
    let paths = DefinerPaths::of(cx);
    let accept_empty = known.accept_empty || paths.are_mostly_empty();
    let search_path = paths
        .most_frequent_safe
        .unwrap_or_else(|| if accept_empty { catalog_only() } else { minimal_path(cx) });
    // The declared restriction to the canonical path applied to another path.
    let is_known = search_path == known.search_path && !accept_empty;
    let accept = if is_known { known.accept } else { Accept::Safe };
    SecurityDefinerDecl { search_path, accept, accept_empty }
}

/// The search paths of the SECURITY DEFINER routines in the governed schemas.
#[derive(Debug, Default)]
pub struct DefinerPaths {
    /// The number of routines with `search_path = ''`.
    pub empty: usize,
    /// The number of routines with another path.
    pub other: usize,
    /// The number of routines without a path of their own.
    pub without: usize,
    /// The most frequent safe path whose schemas are governed or managed; of several, the first in
    /// alphabetical order.
    most_frequent_safe: Option<Vec<String>>,
}

impl DefinerPaths {
    /// Counts the paths.
    #[must_use]
    pub fn of(cx: &Context<'_>) -> Self {
        let mut paths = Self::default();
        let mut safe: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for (routine, _) in cx.routines().filter(|(r, _)| r.security_definer) {
            let assessment = cx.paths.config(&routine.config, routine.owner);
            let path = settings(&routine.config)
                .last()
                .map(|value| cx.snapshot.split_path(value).unwrap_or_default());
            match path {
                None => paths.without += 1,
                Some(_) if assessment.is_empty_path() => paths.empty += 1,
                Some(path) => {
                    paths.other += 1;
                    if assessment.verdict == Verdict::Safe && is_checked(cx, &path) {
                        *safe.entry(path).or_default() += 1;
                    }
                }
            }
        }
        let most = safe.values().copied().max();
        paths.most_frequent_safe =
            safe.into_iter().find(|(_, count)| Some(*count) == most).map(|(path, _)| path);
        paths
    }

    /// Whether most routines with a path of their own have an empty one.
    #[must_use]
    pub fn are_mostly_empty(&self) -> bool {
        self.empty > self.other
    }
}

/// Whether the contract checks which roles can create objects in the schemas of a path, or leaves
/// that to the platform.
fn is_checked(cx: &Context<'_>, path: &[String]) -> bool {
    let managed = &cx.contract.managed.schemas;
    path.iter().all(|name| {
        matches!(name.as_str(), "pg_catalog" | "pg_temp")
            || cx.contract.schema(name).is_some()
            || managed.iter().any(|pattern| matches(pattern, name))
    })
}

/// Returns the path that searches only the system catalog.
fn catalog_only() -> Vec<String> {
    vec!["pg_catalog".into(), "pg_temp".into()]
}

/// Returns the path of the seed if all of its schemas are governed, otherwise a path that searches
/// only the system catalog.
fn minimal_path(cx: &Context<'_>) -> Vec<String> {
    let known = &cx.contract.security_definer.search_path;
    let governed = |name: &String| {
        matches!(name.as_str(), "pg_catalog" | "pg_temp") || cx.contract.schema(name).is_some()
    };
    if known.iter().all(governed) { known.clone() } else { catalog_only() }
}

/// Returns which of these roles have members that can log in and inherit their privileges, with the
/// names of those that are neither owners nor among the roles themselves. What is revoked from the
/// role, they lose as well.
#[must_use]
pub fn heirs(cx: &Context<'_>, roles: &BTreeSet<&str>) -> Vec<(String, Vec<String>)> {
    // Owners are the same in both modes.
    let known = Roles::of(cx, Mode::AsIs);
    let heirs_of = |role: &Role| -> Vec<String> {
        let members = roles::members_that_log_in(cx, role).filter(|member| !known.is_owner(member));
        let names = members.map(|member| member.name.clone());
        names.filter(|name| !roles.contains(name.as_str())).collect()
    };
    let roles = roles.iter().filter_map(|name| cx.snapshot.role_named(name));
    roles
        .map(|role| (role.name.clone(), heirs_of(role)))
        .filter(|(_, heirs)| !heirs.is_empty())
        .collect()
}

/// Returns the undeclared roles whose inferred kind a person should confirm, in order of name.
#[must_use]
pub fn roles_to_confirm(cx: &Context<'_>, mode: Mode) -> Vec<ToConfirm> {
    Roles::of(cx, mode).to_confirm(cx)
}

/// Makes the roles that run the migrations the deployers of an inferred contract, unless the
/// contract that was in force names deployers of its own, or they are those of the shipped one.
pub fn name_deployers(cx: &Context<'_>, contract: &mut Contract) {
    let roles = Roles::of(cx, Mode::AsIs);
    let deployers: Vec<String> = roles.deployers().map(|role| role.name.clone()).collect();
    if contract.deployers.is_none() && !deployers.is_empty() {
        contract.deployers = Some(deployers);
        contract.omit_shipped_readers();
    }
}

/// Declares USAGE for the roles that were granted it, and, on a schema on which PUBLIC has it, for
/// the roles that need it, or (as it is) for all.
fn declare_usage(cx: &Context<'_>, roles: &Roles<'_>, mode: Mode, contract: &mut Contract) {
    let mut needed: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut need = |schema: &'_ str, names: Vec<String>| {
        let schema = cx.snapshot.schema_named(schema).map(|s| s.name.as_str());
        let names =
            names.iter().filter_map(|name| cx.snapshot.role_named(name)).map(|r| r.name.as_str());
        needed.entry(schema.unwrap_or_default()).or_default().extend(names);
    };
    contract.tables.iter().for_each(|t| {
        let granted = t.grants.keys().chain(t.column_grants.keys());
        need(&t.schema, granted.chain(t.policies.keys()).cloned().collect());
    });
    contract.views.iter().for_each(|v| {
        need(&v.schema, v.grants.keys().chain(v.column_grants.keys()).cloned().collect());
    });
    contract.sequences.iter().for_each(|s| need(&s.schema, s.grants.keys().cloned().collect()));
    contract.functions.iter().for_each(|f| need(&f.schema, f.execute.clone()));
    contract.schemas.iter().for_each(|s| need(&s.name, s.all_on_objects.clone()));
    for declared in &mut contract.schemas {
        let Some(schema) = cx.snapshot.schema_named(&declared.name) else { continue };
        let acl = schema.acl.clone().unwrap_or_default();
        let public_has_usage = Access::public(&acl).contains(Privileges::USAGE);
        let held = roles.privileges_in(&acl);
        declared.usage = roles
            .subjects()
            .filter(|role| {
                let own = held.get(&role.oid).is_some_and(|p| p.contains(Privileges::USAGE));
                let needs = || {
                    let names = needed.get(declared.name.as_str());
                    names.is_some_and(|names| names.contains(role.name.as_str()))
                };
                own || (public_has_usage && (mode == Mode::AsIs || needs()))
            })
            .map(|role| role.name.clone())
            .collect();
    }
}

#[cfg(test)]
mod tests;

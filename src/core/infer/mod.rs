//! Infers a first contract from an existing database: it declares the state that was found, as far
//! as a contract should allow it.
//!
//! Privileges that are probably not intended are omitted, so the first audit under the contract
//! reports them: tables that clients can access without row security, policies that are always true
//! for a client, routines with an unsafe search_path, privileges of PUBLIC, privileges given by
//! GRANT ALL or by default privileges, and privileges that a client has through membership in
//! another role.

mod objects;
mod roles;

use crate::access::Access;
use crate::catalog::{Privileges, Snapshot};
use crate::contract::{Accept, Contract, Platform, SchemaDecl, SecurityDefinerDecl, matches};
use crate::rules::Context;
use crate::search_path::{Verdict, settings};
use roles::Roles;
use std::collections::{BTreeMap, HashMap};

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
    seed.schemas = schemas.iter().map(empty).collect();
    (seed.tables, seed.views, seed.sequences, seed.functions) = (vec![], vec![], vec![], vec![]);
    seed
}

/// Returns `base`, which may be the contract of another database, with the preset of the platform
/// to which this database belongs, if its roles show one.
#[must_use]
pub fn with_preset(base: &Contract, present: &Snapshot) -> Contract {
    let mut base = base.clone();
    if let Some(platform) = Platform::of(present) {
        platform.preset().add_to(&mut base, present);
    }
    base
}

/// Returns a contract that the governed schemas of a [`seed`] conform to, except for the omitted
/// privileges.
#[must_use]
pub fn infer(cx: &Context<'_>, version: &str) -> Contract {
    let seed = cx.contract;
    let roles = Roles::of(cx);
    let mut contract = seed.clone();
    contract.json_schema = None;
    contract.name.clone_from(&cx.snapshot.database.name);
    version.clone_into(&mut contract.version);
    contract.description =
        format!("Inferred from database {} with least privilege.", contract.name);
    contract.roles = roles.declarations(cx);
    contract.trusted_roles.retain(|name| cx.snapshot.role_named(name).is_some());
    let known = &seed.security_definer;
    let search_path = usual_path(cx).unwrap_or_else(|| minimal_path(cx));
    // The declared restriction to the canonical path applied to another path.
    let accept = if search_path == known.search_path { known.accept } else { Accept::Safe };
    contract.security_definer = SecurityDefinerDecl { search_path, accept, accept_empty: false };
    // Severities and guard actions that equal the defaults are omitted.
    for (id, declared) in &mut contract.rules {
        let own = crate::rules::find(id);
        declared.severity =
            declared.severity.filter(|severity| own.is_none_or(|rule| rule.severity != *severity));
        declared.guard = declared.guard.filter(|guard| own.is_none_or(|rule| rule.guard != *guard));
    }
    contract.rules.retain(|_, declared| declared.severity.is_some() || declared.guard.is_some());
    let names: Vec<String> = contract.schemas.iter().map(|s| s.name.clone()).collect();
    contract.managed.schemas.retain(|pattern| !names.iter().any(|name| matches(pattern, name)));
    let declared: Vec<String> = contract.roles.iter().map(|role| role.name.clone()).collect();
    contract.managed.roles.retain(|pattern| !declared.iter().any(|name| matches(pattern, name)));
    objects::declare(cx, &roles, &mut contract);
    declare_usage(cx, &roles, &mut contract);
    contract
}

/// Returns the path of the seed if all of its schemas are governed, otherwise a path that searches
/// only the system catalog.
fn minimal_path(cx: &Context<'_>) -> Vec<String> {
    let known = &cx.contract.security_definer.search_path;
    let governed = |name: &String| {
        matches!(name.as_str(), "pg_catalog" | "pg_temp") || cx.contract.schema(name).is_some()
    };
    if known.iter().all(governed) {
        known.clone()
    } else {
        vec!["pg_catalog".into(), "pg_temp".into()]
    }
}

/// Returns the undeclared roles that an inferred contract declares as workers, with the reasons.
#[must_use]
pub fn inferred_workers(cx: &Context<'_>) -> Vec<(String, &'static str)> {
    Roles::of(cx).inferred_workers()
}

/// Returns the most frequent safe path of the SECURITY DEFINER routines; of several, the first in
/// alphabetical order.
fn usual_path(cx: &Context<'_>) -> Option<Vec<String>> {
    let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for (routine, _) in cx.routines().filter(|(r, _)| r.security_definer) {
        if cx.paths.config(&routine.config, routine.owner).verdict == Verdict::Safe
            && let Some(path) = settings(&routine.config)
                .last()
                .and_then(|value| cx.snapshot.split_path(value).ok())
        {
            *counts.entry(path).or_default() += 1;
        }
    }
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(path, _)| path)
}

/// Declares USAGE for the roles that were granted it, and, on a schema on which PUBLIC has it, for
/// the roles that need it.
fn declare_usage(cx: &Context<'_>, roles: &Roles<'_>, contract: &mut Contract) {
    let mut needed: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut need = |schema: &'_ str, names: Vec<String>| {
        let schema = cx.snapshot.schema_named(schema).map(|s| s.name.as_str());
        let names =
            names.iter().filter_map(|name| cx.snapshot.role_named(name)).map(|r| r.name.as_str());
        needed.entry(schema.unwrap_or_default()).or_default().extend(names);
    };
    contract
        .tables
        .iter()
        .for_each(|t| need(&t.schema, t.grants.keys().chain(t.policies.keys()).cloned().collect()));
    contract.views.iter().for_each(|v| need(&v.schema, v.grants.keys().cloned().collect()));
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
                own || (public_has_usage
                    && needed
                        .get(declared.name.as_str())
                        .is_some_and(|names| names.contains(&role.name.as_str())))
            })
            .map(|role| role.name.clone())
            .collect();
    }
}

#[cfg(test)]
mod tests;

//! A first contract from a living database: what is there becomes what is declared, as far as a
//! contract should bless it.
//!
//! Nothing is blessed that a person would not have decided: tables that a client reaches without
//! row security, policies that are always true for a client, routines with an unsafe search_path,
//! what PUBLIC has, what came along with GRANT ALL or by default privileges, what a client has by
//! membership in another role. All of that is left out, and so is found by the first audit under
//! the contract.

mod objects;
mod roles;

use crate::access::Access;
use crate::catalog::{Oid, Privileges};
use crate::contract::{Accept, ByRole, Contract, PrivilegeSet, SchemaDecl, SecurityDefinerDecl};
use crate::rules::Context;
use crate::search_path::{Verdict, settings};
use roles::Roles;
use std::collections::{BTreeMap, HashMap};

/// What a database is looked at by, to infer a contract for some of its schemas: `base` with those
/// schemas governed and nothing declared in them. What `base` says about roles is kept: which are
/// clients, nobody can see.
#[must_use]
pub fn seed(base: &Contract, schemas: &[String]) -> Contract {
    let governed = |name: &String| SchemaDecl {
        name: name.clone(),
        purpose: String::new(),
        usage: vec![],
        all_on_objects: vec![],
        execute_on_routines: vec![],
    };
    let mut seed = base.clone();
    seed.schemas = schemas.iter().map(governed).collect();
    (seed.tables, seed.views, seed.sequences, seed.functions) = (vec![], vec![], vec![], vec![]);
    seed
}

/// The contract that the schemas of a [`seed`] keep as they are.
#[must_use]
pub fn infer(cx: &Context<'_>, version: &str) -> Contract {
    let seed = cx.contract;
    let roles = Roles::of(cx);
    let mut contract = seed.clone();
    contract.json_schema = None;
    contract.name.clone_from(&cx.snapshot.database.name);
    version.clone_into(&mut contract.version);
    contract.description =
        format!("Inferred from database {}: what was there, least privilege first.", contract.name);
    contract.roles = roles.declarations(cx);
    contract.trusted_roles.retain(|name| cx.snapshot.role_named(name).is_some());
    let known = &seed.security_definer;
    let search_path = usual_path(cx).unwrap_or_else(|| minimal_path(cx));
    // That no other path will do was said about another one.
    let accept = if search_path == known.search_path { known.accept } else { Accept::Safe };
    contract.security_definer = SecurityDefinerDecl { search_path, accept, accept_empty: false };
    // What a person has decided about rules stays; what only repeats the rules' own is left away.
    for (id, declared) in &mut contract.rules {
        let own = crate::rules::find(id);
        declared.severity =
            declared.severity.filter(|severity| own.is_none_or(|rule| rule.severity != *severity));
        declared.guard = declared.guard.filter(|guard| own.is_none_or(|rule| rule.guard != *guard));
    }
    contract.rules.retain(|_, declared| declared.severity.is_some() || declared.guard.is_some());
    let names: Vec<String> = contract.schemas.iter().map(|s| s.name.clone()).collect();
    contract
        .managed
        .schemas
        .retain(|pattern| !names.iter().any(|name| crate::contract::matches(pattern, name)));
    objects::declare(cx, &roles, &mut contract);
    usage(cx, &roles, &mut contract);
    contract
}

/// The path that the seed has, where all of it is governed; or the one that looks nowhere but in
/// the server's own schema.
fn minimal_path(cx: &Context<'_>) -> Vec<String> {
    let known = &cx.contract.security_definer.search_path;
    let governed = |name: &String| {
        matches!(name.as_str(), "pg_catalog" | "pg_temp") || cx.contract.schema(name).is_some()
    };
    match known.iter().all(governed) {
        true => known.clone(),
        false => vec!["pg_catalog".into(), "pg_temp".into()],
    }
}

/// The roles that an inferred contract takes for workers although nobody has said so, and why.
#[must_use]
pub fn taken_for_workers(cx: &Context<'_>) -> Vec<(String, &'static str)> {
    Roles::of(cx).taken_for_workers(cx)
}

/// The safe path that most SECURITY DEFINER routines of the schemas have; of several, the first in
/// order of name.
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

/// USAGE where a role has it by itself, or where everybody has and the role needs it.
fn usage(cx: &Context<'_>, roles: &Roles<'_>, contract: &mut Contract) {
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
        let everybody = Access::public(&acl).contains(Privileges::USAGE);
        let held = roles.held(&acl);
        declared.usage = roles
            .subjects()
            .filter(|role| {
                let own = held.get(&role.oid).is_some_and(|p| p.contains(Privileges::USAGE));
                own || (everybody
                    && needed
                        .get(declared.name.as_str())
                        .is_some_and(|names| names.contains(&role.name.as_str())))
            })
            .map(|role| role.name.clone())
            .collect();
    }
}

/// What each role is given, by name, in the words of GRANT; roles without anything are left out.
fn by_name<W: PrivilegeSet>(cx: &Context<'_>, held: &HashMap<Oid, Privileges>) -> ByRole<W> {
    held.iter()
        .map(|(role, privileges)| (cx.snapshot.role_name(*role), W::words_of(*privileges)))
        .filter(|(_, words)| !words.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;

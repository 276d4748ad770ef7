//! What the contract declares, thing by thing.

use super::{Check, Illness, Reach, Trial, Trials};
use crate::catalog::{ObjectKind, Privileges, Relation, RelationKind, Routine};
use crate::contract::SchemaDecl;
use crate::rules::Context;
use crate::sql::{listed, printable, quote_ident, safe_ident};
use std::collections::HashMap;

pub(super) fn schemas(cx: &Context<'_>, illness: &Illness<'_>) -> Vec<Check> {
    let check = |declared: &SchemaDecl| {
        let identity = quote_ident(&declared.name);
        illness.check(
            "schema",
            ("schema", &identity),
            format!("Exists, {}.", for_whom(&declared.usage)),
        )
    };
    cx.contract.schemas.iter().map(check).collect()
}

pub(super) fn tables(cx: &Context<'_>, illness: &Illness<'_>, trials: &Trials<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.tables {
        (trials.interrupts)();
        let rows = if declared.row_security { ", with row level security" } else { "" };
        let roles = reaching(cx, &declared.schema, declared.grants.keys());
        let relation = relation(cx, &declared.schema, &declared.name);
        let object_type =
            relation.filter(|r| r.kind.is_table()).map_or("table", |r| r.kind.object_type());
        let identity = identity(&declared.schema, &declared.name);
        let check =
            illness.check("table", (object_type, &identity), format!("Exists{rows}, {roles}."));
        checks.push(within_reach(cx, check, relation, trials));
    }
    checks
}

pub(super) fn sequences(
    cx: &Context<'_>,
    illness: &Illness<'_>,
    trials: &Trials<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.sequences {
        (trials.interrupts)();
        let roles = reaching(cx, &declared.schema, declared.grants.keys());
        let identity = identity(&declared.schema, &declared.name);
        checks.push(illness.check(
            "sequence",
            ("sequence", &identity),
            format!("Exists, {roles}."),
        ));
    }
    checks
}

/// The declared views, and any other of the governed schemas that does not work.
pub(super) fn views(cx: &Context<'_>, illness: &Illness<'_>, trials: &Trials<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.views {
        (trials.interrupts)();
        let object_type = if declared.materialized { "materialized view" } else { "view" };
        let roles = reaching(cx, &declared.schema, declared.grants.keys());
        let identity = identity(&declared.schema, &declared.name);
        let view = relation(cx, &declared.schema, &declared.name);
        let trial = view.map_or(Trial::Fine, |view| tried(view, trials));
        let read = match &trial {
            Trial::Untried(why) => format!(" (its query was not planned: {})", printable(why)),
            _ => " and can be read".to_owned(),
        };
        let check =
            illness.check("view", (object_type, &identity), format!("Exists{read}, {roles}."));
        checks.push(within_reach(cx, check.and(broken(trial)), view, trials));
    }
    for (view, schema) in cx.relations() {
        if cx.contract.view(&schema.name, &view.name).is_none()
            && let Some(problem) = broken(tried(view, trials))
        {
            let object = printable(&cx.snapshot.relation_identity(view)).into_owned();
            checks.push(Check { area: "view", object, ok: false, detail: problem, fix: None });
        }
    }
    checks
}

/// What the contract opens of the declared tables and views to roles that are there; of views,
/// reading alone.
#[must_use]
pub fn reach(cx: &Context<'_>) -> Vec<Reach> {
    let tables = cx.contract.tables.iter().filter_map(|t| relation(cx, &t.schema, &t.name));
    let views = cx.contract.views.iter().filter_map(|v| relation(cx, &v.schema, &v.name));
    tables.chain(views).flat_map(|relation| reach_of(cx, relation)).collect()
}

fn reach_of(cx: &Context<'_>, relation: &Relation) -> Vec<Reach> {
    let Some(schema) = cx.governed(relation.schema) else { return vec![] };
    let mut found = Vec::new();
    for role in schema.usage.iter().filter_map(|name| cx.snapshot.role_named(name)) {
        let declared = cx.declared_on_relation(relation, schema, role);
        for privilege in
            [Privileges::SELECT, Privileges::INSERT, Privileges::UPDATE, Privileges::DELETE]
        {
            let is_tried = privilege == Privileges::SELECT || relation.kind.is_table();
            if is_tried && declared.contains(privilege) {
                found.push(Reach { relation: relation.oid, role: role.oid, privilege });
            }
        }
    }
    found
}

/// Whether those can do it who are meant to. That they lack the privilege on it, or on its schema,
/// has been found already.
fn within_reach(
    cx: &Context<'_>,
    check: Check,
    relation: Option<&Relation>,
    trials: &Trials<'_>,
) -> Check {
    let is_lacking = |reach: &Reach| {
        let lacking = relation.is_some_and(|r| {
            !cx.access.relation_privileges(reach.role, r).contains(reach.privilege)
        });
        !check.ok && lacking
    };
    // A role without USAGE on the schema is a finding about the schema.
    let lacks_usage = |reach: &Reach| {
        let schema = relation.and_then(|r| cx.snapshot.schema(r.schema));
        schema.is_some_and(|s| {
            let held =
                cx.access.privileges(reach.role, s.owner, s.acl.as_ref(), ObjectKind::Schema);
            !held.contains(Privileges::USAGE)
        })
    };
    let (mut problems, mut untried) = (Vec::new(), None);
    for reach in relation.into_iter().flat_map(|r| reach_of(cx, r)) {
        match (trials.reached)(&reach) {
            Trial::Fine => {}
            Trial::Untried(why) => untried = untried.or(Some(why)),
            Trial::Broken(_) if is_lacking(&reach) || lacks_usage(&reach) => {}
            Trial::Broken(why) => {
                let (role, privilege) = (cx.snapshot.role_name(reach.role), reach.privilege);
                problems.push(format!(
                    "Role \"{}\" cannot {privilege}, which the contract declares: {why}.",
                    printable(&role)
                ));
            }
        }
    }
    let mut check = check.and((!problems.is_empty()).then(|| problems.join(" ")));
    if let Some(why) = untried {
        check.detail += &format!(" Access was not tested: {}.", printable(&why));
    }
    check
}

fn tried(view: &Relation, trials: &Trials<'_>) -> Trial {
    match view.kind {
        RelationKind::View | RelationKind::MaterializedView => (trials.view)(view),
        _ => Trial::Fine,
    }
}

/// Why a view is of no use any more.
fn broken(trial: Trial) -> Option<String> {
    match trial {
        Trial::Broken(error) => Some(format!("Cannot be read: {}.", printable(&error))),
        Trial::Fine | Trial::Untried(_) => None,
    }
}

pub(super) fn functions(
    cx: &Context<'_>,
    illness: &Illness<'_>,
    trials: &Trials<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut named: HashMap<(&str, &str), Vec<(&Routine, &SchemaDecl)>> = HashMap::new();
    for (routine, schema) in cx.routines() {
        named.entry((&schema.name, &routine.name)).or_default().push((routine, schema));
    }
    for declared in &cx.contract.functions {
        (trials.interrupts)();
        let of_that_name = named
            .get(&(declared.schema.as_str(), declared.name.as_str()))
            .map_or(&[][..], Vec::as_slice);
        let candidates: Vec<_> = of_that_name
            .iter()
            .filter(|(r, _)| cx.has_arguments(r, declared.arguments.as_deref()))
            .copied()
            .collect();
        if candidates.is_empty() {
            let arguments = declared.arguments.as_deref().unwrap_or("...");
            let identity = format!("{}({arguments})", identity(&declared.schema, &declared.name));
            checks.push(illness.check("function", ("function", &identity), "Exists.".into()));
        }
        for (routine, schema) in candidates {
            let callers = declared.execute.iter().chain(&schema.execute_on_routines);
            let roles = reaching(cx, &schema.name, callers);
            let rights = if routine.security_definer {
                ", SECURITY DEFINER with a safe search_path"
            } else {
                ""
            };
            let identity = cx.snapshot.routine_identity(routine);
            let (body, unreadable) = match (trials.routine)(routine) {
                Trial::Fine => (" and its body is valid".to_owned(), None),
                Trial::Untried(why) => {
                    (format!(" (its body was not checked: {})", printable(&why)), None)
                }
                Trial::Broken(why) => {
                    (String::new(), Some(format!("Its body is not valid: {}.", printable(&why))))
                }
            };
            let well = format!("Exists{body}{rights}, {roles}.");
            checks.push(
                illness.check("function", (routine.object_type(), &identity), well).and(unreadable),
            );
        }
    }
    checks
}

fn relation<'a>(cx: &'a Context<'_>, schema: &str, name: &str) -> Option<&'a Relation> {
    cx.snapshot.relation_named(cx.snapshot.schema_named(schema)?.oid, name)
}

fn identity(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// For which roles something is, workers with everything included; and which of them cannot use its
/// schema, as declared.
fn reaching<'a>(
    cx: &'a Context<'_>,
    schema: &str,
    roles: impl Iterator<Item = &'a String>,
) -> String {
    let Some(declared) = cx.contract.schema(schema) else { return for_whom::<String>(&[]) };
    let mut all: Vec<&str> = roles.chain(&declared.all_on_objects).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    let outside: Vec<String> = all
        .iter()
        .filter(|role| !declared.usage.iter().any(|u| u == *role))
        .map(|role| safe_ident(role).into_owned())
        .collect();
    let but = match outside.as_slice() {
        [] => String::new(),
        roles => format!(
            "; the contract gives {} no USAGE on schema {}",
            listed(roles),
            safe_ident(schema)
        ),
    };
    format!("{}{but}", for_whom(&all))
}

fn for_whom<S: AsRef<str>>(roles: &[S]) -> String {
    match roles {
        [] => "for no declared role".to_owned(),
        roles => format!(
            "for {}",
            listed(&roles.iter().map(|r| safe_ident(r.as_ref()).into_owned()).collect::<Vec<_>>())
        ),
    }
}

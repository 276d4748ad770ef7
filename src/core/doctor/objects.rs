//! The checks of the declared schemas, tables, views, sequences and functions.

use super::check::{Check, Identified, Outcome, Probes, Problems};
use super::declared::{AccessOutcome, DeclaredAccess, accesses_to, executions_of, fails};
use crate::catalog::{ObjectKind, Oid, Privileges, Relation, RelationKind, Routine};
use crate::contract::{ColumnGrants, ColumnGrantsByRole, SchemaDecl};
use crate::explain::{Cause, Denial};
use crate::rules::Context;
use crate::rules::shared::target::named_columns;
use crate::sql::{capitalized, listed, printable, quote_ident, safe_ident};
use std::collections::{BTreeSet, HashMap};

pub(super) fn schemas(cx: &Context<'_>, problems: &Problems<'_>) -> Vec<Check> {
    let check = |declared: &SchemaDecl| {
        let identity = quote_ident(&declared.name);
        problems.check(
            "schema",
            Identified { object_type: "schema", identity: &identity },
            format!("Exists, {}.", for_roles(&declared.usage)),
        )
    };
    cx.contract.schemas.iter().map(check).collect()
}

pub(super) fn tables(cx: &Context<'_>, problems: &Problems<'_>, probes: &Probes<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.tables {
        (probes.interrupts)();
        let rows = if declared.row_security { ", with row security" } else { "" };
        let granted = declared.grants.keys().chain(declared.column_grants.keys());
        let roles = declared_for(cx, &declared.schema, granted);
        let relation = relation(cx, &declared.schema, &declared.name);
        let object_type =
            relation.filter(|r| r.kind.is_table()).map_or("table", |r| r.kind.object_type());
        let identity = identity(&declared.schema, &declared.name);
        let object = Identified { object_type, identity: &identity };
        let check = problems.check("table", object, format!("Exists{rows}, {roles}."));
        let check = check.and(missing_columns(relation, &declared.column_grants));
        checks.push(with_access(cx, check, relation, probes));
    }
    checks
}

pub(super) fn sequences(
    cx: &Context<'_>,
    problems: &Problems<'_>,
    probes: &Probes<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.sequences {
        (probes.interrupts)();
        let roles = declared_for(cx, &declared.schema, declared.grants.keys());
        let identity = identity(&declared.schema, &declared.name);
        let object = Identified { object_type: "sequence", identity: &identity };
        let check = problems.check("sequence", object, format!("Exists, {roles}."));
        let sequence = relation(cx, &declared.schema, &declared.name);
        checks.push(with_access(cx, check, sequence, probes));
    }
    checks
}

/// Checks the declared views, and every other view of the governed schemas that cannot be read.
pub(super) fn views(cx: &Context<'_>, problems: &Problems<'_>, probes: &Probes<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for declared in &cx.contract.views {
        (probes.interrupts)();
        let object_type = if declared.materialized { "materialized view" } else { "view" };
        let granted = declared.grants.keys().chain(declared.column_grants.keys());
        let roles = declared_for(cx, &declared.schema, granted);
        let identity = identity(&declared.schema, &declared.name);
        let view = relation(cx, &declared.schema, &declared.name);
        let outcome = view.map_or(Outcome::Works, |view| probed(view, probes));
        let read = match &outcome {
            Outcome::Unchecked(why) => format!(" (its query was not planned: {})", printable(why)),
            _ => " and can be read".to_owned(),
        };
        let object = Identified { object_type, identity: &identity };
        let check = problems.check("view", object, format!("Exists{read}, {roles}."));
        let check = check.and(failure(outcome));
        let check = check.and(missing_columns(view, &declared.column_grants));
        checks.push(with_access(cx, check, view, probes));
    }
    for (view, schema) in cx.relations() {
        if cx.contract.view(&schema.name, &view.name).is_none()
            && let Some(problem) = failure(probed(view, probes))
        {
            let object = printable(&cx.snapshot.relation_identity(view)).into_owned();
            checks.push(Check { area: "view", object, ok: false, detail: problem, fix: None });
        }
    }
    checks
}

/// Returns the problem that columns, on which the contract declares privileges, do not exist.
fn missing_columns(
    relation: Option<&Relation>,
    column_grants: &ColumnGrantsByRole,
) -> Option<String> {
    let relation = relation?;
    let declared = column_grants.values().flat_map(ColumnGrants::each).flat_map(|(_, names)| names);
    let missing: BTreeSet<&str> = declared
        .filter(|column| !relation.column_names.contains(column))
        .map(String::as_str)
        .collect();
    let missing: Vec<&str> = missing.into_iter().collect();
    let verb = if missing.len() == 1 { "does" } else { "do" };
    (!missing.is_empty()).then(|| {
        let named = capitalized(&named_columns(&missing));
        format!("{named}, on which the contract declares privileges, {verb} not exist.")
    })
}

/// Adds the declared accesses to a relation that fail.
fn with_access(
    cx: &Context<'_>,
    check: Check,
    relation: Option<&Relation>,
    probes: &Probes<'_>,
) -> Check {
    let Some(relation) = relation else { return check };
    let is_reported = |access: &DeclaredAccess, denial: &Denial| {
        let lacks_column = |column: &String| {
            let held = cx.access.column_privileges(access.role, relation, column);
            !held.contains(access.privilege)
        };
        let is_missing = || match access.columns.as_slice() {
            [] => !cx.access.relation_privileges(access.role, relation).contains(access.privilege),
            columns => columns.iter().any(lacks_column),
        };
        // A missing privilege on the relation is a finding of its own.
        fails(cx, relation, access, denial)
            && (denial.cause != Cause::Privilege || check.ok || !is_missing())
    };
    let accesses = accesses_to(cx, relation);
    let failing = failing(cx, relation.schema, &accesses, probes, &is_reported);
    let mut check = add_failing(cx, check, failing);
    if let Some(note) = only_without_where(cx, relation, &accesses) {
        check.detail += &format!(" {note}");
    }
    check
}

/// A sentence about the roles for which UPDATE or DELETE is declared and SELECT is not: the
/// contract declares no access to single rows.
fn only_without_where(
    cx: &Context<'_>,
    relation: &Relation,
    accesses: &[DeclaredAccess],
) -> Option<String> {
    let cannot_select = |role: Oid| {
        !cx.access.relation_privileges(role, relation).contains(Privileges::SELECT)
            && !relation.columns.iter().any(|(column, _)| {
                cx.access.column_privileges(role, relation, column).contains(Privileges::SELECT)
            })
    };
    // A declared SELECT that is missing is a finding of its own.
    let declares_select = |role: Oid| {
        accesses.iter().any(|access| access.role == role && access.privilege == Privileges::SELECT)
    };
    let writes = Privileges::UPDATE | Privileges::DELETE;
    let mut roles: Vec<String> = accesses
        .iter()
        .filter(|access| writes.contains(access.privilege))
        .filter(|access| !declares_select(access.role) && cannot_select(access.role))
        .map(|access| quoted(&cx.snapshot.role_name(access.role)))
        .collect();
    roles.dedup();
    let (role, has) = if roles.len() == 1 { ("Role", "does") } else { ("Roles", "do") };
    (!roles.is_empty()).then(|| {
        format!(
            "{role} {} {has} not have SELECT, so that UPDATE and DELETE with a WHERE are denied.",
            listed(&roles)
        )
    })
}

/// The declared accesses to one object that fail, and why some were not checked.
#[derive(Default)]
struct Failing {
    denied: Vec<(DeclaredAccess, Denial)>,
    unchecked: Option<String>,
}

fn failing(
    cx: &Context<'_>,
    schema: Oid,
    accesses: &[DeclaredAccess],
    probes: &Probes<'_>,
    is_reported: &dyn Fn(&DeclaredAccess, &Denial) -> bool,
) -> Failing {
    // A role without USAGE on the schema is a finding about the schema.
    let has_usage = |access: &&DeclaredAccess| {
        cx.snapshot.schema(schema).is_none_or(|s| {
            let held =
                cx.access.privileges(access.role, s.owner, s.acl.as_ref(), ObjectKind::Schema);
            held.contains(Privileges::USAGE)
        })
    };
    let mut found = Failing::default();
    for access in accesses.iter().filter(has_usage) {
        match (probes.access)(access) {
            AccessOutcome::Unchecked(why) => {
                found.unchecked.get_or_insert(why);
            }
            AccessOutcome::Denied(denial) if is_reported(access, &denial) => {
                found.denied.push((access.clone(), denial));
            }
            AccessOutcome::Works | AccessOutcome::Denied(_) => {}
        }
    }
    found
}

/// Adds to a check what fails, with the fixes.
fn add_failing(cx: &Context<'_>, mut check: Check, failing: Failing) -> Check {
    for (access, denial) in &failing.denied {
        let (role, privilege) = (cx.snapshot.role_name(access.role), access.privilege);
        let columns: Vec<&str> = access.columns.iter().map(String::as_str).collect();
        let columns = match columns.as_slice() {
            [] => String::new(),
            columns => format!(" {}", named_columns(columns)),
        };
        let problem = format!(
            "Role \"{}\" cannot {privilege}{columns}, which the contract declares: {}.",
            printable(&role),
            denial.message
        );
        check = check.and(Some(problem)).with_fix(denial.fix.as_deref());
    }
    if let Some(why) = failing.unchecked {
        check.detail += &format!(" Access was not tested: {}.", printable(&why));
    }
    check
}

fn probed(view: &Relation, probes: &Probes<'_>) -> Outcome {
    match view.kind {
        RelationKind::View | RelationKind::MaterializedView => (probes.view)(view),
        _ => Outcome::Works,
    }
}

/// Why a view cannot be read.
fn failure(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Fails(error) => Some(format!("Cannot be read: {}.", printable(&error))),
        Outcome::Works | Outcome::Unchecked(_) => None,
    }
}

pub(super) fn functions(
    cx: &Context<'_>,
    problems: &Problems<'_>,
    probes: &Probes<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut named: HashMap<(&str, &str), Vec<(&Routine, &SchemaDecl)>> = HashMap::new();
    for (routine, schema) in cx.routines() {
        named.entry((&schema.name, &routine.name)).or_default().push((routine, schema));
    }
    for declared in &cx.contract.functions {
        (probes.interrupts)();
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
            let object = Identified { object_type: "function", identity: &identity };
            checks.push(problems.check("function", object, "Exists.".into()));
        }
        for (routine, schema) in candidates {
            let callers = declared.execute.iter().chain(&schema.execute_on_routines);
            let roles = declared_for(cx, &schema.name, callers);
            checks.push(function(cx, problems, probes, routine, &roles));
        }
    }
    checks
}

/// The check of one function. `roles` is the clause about the roles that it is declared for.
fn function(
    cx: &Context<'_>,
    problems: &Problems<'_>,
    probes: &Probes<'_>,
    routine: &Routine,
    roles: &str,
) -> Check {
    let definer =
        if routine.security_definer { ", SECURITY DEFINER with a safe search_path" } else { "" };
    let (body, failure) = match (probes.routine)(routine) {
        Outcome::Works => (" and its body is valid".to_owned(), None),
        Outcome::Unchecked(why) => {
            (format!(" (its body was not checked: {})", printable(&why)), None)
        }
        Outcome::Fails(why) => {
            (String::new(), Some(format!("Its body is not valid: {}.", printable(&why))))
        }
    };
    let identity = cx.snapshot.routine_identity(routine);
    let object = Identified { object_type: routine.object_type(), identity: &identity };
    let passing = format!("Exists{body}{definer}, {roles}.");
    let check = problems.check("function", object, passing).and(failure);
    // A missing privilege on the routine is a finding of its own.
    let has_execute = |access: &DeclaredAccess, _: &Denial| {
        let (owner, acl) = (routine.owner, routine.acl.as_ref());
        let held = cx.access.privileges(access.role, owner, acl, ObjectKind::Routine);
        held.contains(Privileges::EXECUTE)
    };
    let accesses = executions_of(cx, routine);
    let failing = failing(cx, routine.schema, &accesses, probes, &has_execute);
    let mut check = add_failing(cx, check, failing);
    // Whether the body gets there is known only when it runs.
    let mut missing: Vec<String> = accesses.iter().filter_map(|of| (probes.text)(of)).collect();
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        check.detail +=
            &format!(" Its body is text, which is checked only when it runs. {missing}");
    }
    check
}

fn relation<'a>(cx: &'a Context<'_>, schema: &str, name: &str) -> Option<&'a Relation> {
    cx.snapshot.relation_named(cx.snapshot.schema_named(schema)?.oid, name)
}

fn identity(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Returns a clause about the roles that an object is declared for, including those with ALL on
/// every object, and about those of them to which the contract gives no USAGE on the schema.
fn declared_for<'a>(
    cx: &'a Context<'_>,
    schema: &str,
    roles: impl Iterator<Item = &'a String>,
) -> String {
    let Some(declared) = cx.contract.schema(schema) else { return for_roles::<String>(&[]) };
    let mut all: Vec<&str> = roles.chain(&declared.all_on_objects).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    let outside: Vec<String> = all
        .iter()
        .filter(|role| !declared.usage.iter().any(|u| u == *role))
        .map(|role| quoted(role))
        .collect();
    let but = match outside.as_slice() {
        [] => String::new(),
        roles => format!(
            "; the contract gives {} no USAGE on schema {}",
            listed(roles),
            safe_ident(schema)
        ),
    };
    format!("{}{but}", for_roles(&all))
}

fn quoted(role: &str) -> String {
    format!("\"{}\"", printable(role))
}

fn for_roles<S: AsRef<str>>(roles: &[S]) -> String {
    match roles {
        [] => "for no declared role".to_owned(),
        roles => {
            format!("for {}", listed(&roles.iter().map(|r| quoted(r.as_ref())).collect::<Vec<_>>()))
        }
    }
}

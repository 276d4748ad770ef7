//! The checks of the declared schemas, tables, views, sequences and functions.

use super::check::{Check, DeclaredAccess, Identified, Outcome, Probes, Problems};
use crate::catalog::{ObjectKind, Privileges, Relation, RelationKind, Role, Routine};
use crate::contract::{ColumnGrants, ColumnGrantsByRole, SchemaDecl};
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
        checks.push(problems.check("sequence", object, format!("Exists, {roles}.")));
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

/// Returns the accesses that the contract declares on existing tables and views for existing roles.
/// Of views, only SELECT is included.
#[must_use]
pub fn declared_accesses(cx: &Context<'_>) -> Vec<DeclaredAccess> {
    let tables = cx.contract.tables.iter().filter_map(|t| relation(cx, &t.schema, &t.name));
    let views = cx.contract.views.iter().filter_map(|v| relation(cx, &v.schema, &v.name));
    tables.chain(views).flat_map(|relation| accesses_to(cx, relation)).collect()
}

fn accesses_to(cx: &Context<'_>, relation: &Relation) -> Vec<DeclaredAccess> {
    let Some(schema) = cx.governed(relation.schema) else { return vec![] };
    let mut found = Vec::new();
    for role in schema.usage.iter().filter_map(|name| cx.snapshot.role_named(name)) {
        for privilege in
            [Privileges::SELECT, Privileges::INSERT, Privileges::UPDATE, Privileges::DELETE]
        {
            let is_checked = privilege == Privileges::SELECT || relation.kind.is_table();
            let columns =
                is_checked.then(|| declared_columns(cx, relation, schema, role, privilege));
            if let Some(columns) = columns.flatten() {
                let (relation, role) = (relation.oid, role.oid);
                found.push(DeclaredAccess { relation, role, privilege, columns });
            }
        }
    }
    found
}

/// Returns the columns for which the contract declares a privilege, as far as they exist; no
/// columns where it declares the privilege for the whole relation, and `None` where it does not
/// declare it. Where a role has on columns what is declared for the whole relation, which the audit
/// reports, these are the columns.
fn declared_columns(
    cx: &Context<'_>,
    relation: &Relation,
    schema: &SchemaDecl,
    role: &Role,
    privilege: Privileges,
) -> Option<Vec<String>> {
    let of_role = |column: &&String| {
        cx.access.column_privileges(role.oid, relation, column).contains(privilege)
    };
    let exists = |column: &&String| relation.column_names.contains(column);
    if cx.declared_on_relation(relation, schema, role).contains(privilege) {
        let is_held = cx.access.relation_privileges(role.oid, relation).contains(privilege);
        let held = relation.column_names.iter().filter(|column| !is_held && of_role(column));
        return Some(held.cloned().collect());
    }
    let declared = cx.column_grants(relation, schema, role)?.columns(privilege);
    let columns: Vec<String> = declared.iter().filter(exists).cloned().collect();
    (!columns.is_empty()).then_some(columns)
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

/// Adds the declared accesses that fail. A missing privilege on the relation or on its schema is
/// already a finding of its own.
fn with_access(
    cx: &Context<'_>,
    check: Check,
    relation: Option<&Relation>,
    probes: &Probes<'_>,
) -> Check {
    let has_no_privilege = |access: &DeclaredAccess| {
        let lacks_column = |r: &Relation, column: &String| {
            !cx.access.column_privileges(access.role, r, column).contains(access.privilege)
        };
        let is_missing = relation.is_some_and(|r| match access.columns.as_slice() {
            [] => !cx.access.relation_privileges(access.role, r).contains(access.privilege),
            columns => columns.iter().any(|column| lacks_column(r, column)),
        });
        !check.ok && is_missing
    };
    // A role without USAGE on the schema is a finding about the schema.
    let has_no_usage = |access: &DeclaredAccess| {
        let schema = relation.and_then(|r| cx.snapshot.schema(r.schema));
        schema.is_some_and(|s| {
            let held =
                cx.access.privileges(access.role, s.owner, s.acl.as_ref(), ObjectKind::Schema);
            !held.contains(Privileges::USAGE)
        })
    };
    let (mut problems, mut unchecked) = (Vec::new(), None);
    for access in relation.into_iter().flat_map(|r| accesses_to(cx, r)) {
        match (probes.access)(&access) {
            Outcome::Works => {}
            Outcome::Unchecked(why) => unchecked = unchecked.or(Some(why)),
            Outcome::Fails(_) if has_no_privilege(&access) || has_no_usage(&access) => {}
            Outcome::Fails(why) => {
                let (role, privilege) = (cx.snapshot.role_name(access.role), access.privilege);
                let columns: Vec<&str> = access.columns.iter().map(String::as_str).collect();
                let columns = match columns.as_slice() {
                    [] => String::new(),
                    columns => format!(" {}", named_columns(columns)),
                };
                problems.push(format!(
                    "Role \"{}\" cannot {privilege}{columns}, which the contract declares: {why}.",
                    printable(&role)
                ));
            }
        }
    }
    let mut check = check.and((!problems.is_empty()).then(|| problems.join(" ")));
    if let Some(why) = unchecked {
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
    problems.check("function", object, passing).and(failure)
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

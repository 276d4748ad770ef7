//! The accesses that the contract declares, and what the server says about them.

use crate::catalog::{Oid, Privileges, Relation, RelationKind, Role, Routine, Snapshot};
use crate::contract::SchemaDecl;
use crate::explain::{Cause, Denial};
use crate::rules::Context;

/// The object of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Target {
    Schema(Oid),
    Relation(Oid),
    Routine(Oid),
}

/// An access that the contract declares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeclaredAccess {
    /// The object, which exists.
    pub target: Target,
    /// The role, which exists.
    pub role: Oid,
    /// USAGE on a schema; SELECT, INSERT, UPDATE or DELETE on a table or view; EXECUTE on a
    /// routine; USAGE, SELECT or UPDATE on a sequence.
    pub privilege: Privileges,
    /// The columns, where the access is to these only. Empty: the whole object.
    pub columns: Vec<String>,
}

/// A declared access by names, which stay the same when objects are created again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessName {
    /// The role.
    pub role: String,
    /// The object with its type, such as `table public.posts` or `function api.f(integer)`.
    pub object: String,
    /// The privilege, with the columns where it is on these only.
    pub privilege: String,
}

/// What the server does when a declared access is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessOutcome {
    /// It is allowed.
    Works,
    /// It fails, or row security excludes every row.
    Denied(Denial),
    /// It was not checked, for this reason.
    Unchecked(String),
}

/// The privileges on data that are checked.
const ON_DATA: [Privileges; 4] =
    [Privileges::SELECT, Privileges::INSERT, Privileges::UPDATE, Privileges::DELETE];

/// The privileges on sequences that are checked.
const ON_SEQUENCES: [Privileges; 3] = [Privileges::USAGE, Privileges::SELECT, Privileges::UPDATE];

/// Returns every access to an existing object that the contract declares for an existing role with
/// USAGE on the schema: declared for the object itself, or for all objects of its schema.
#[must_use]
pub fn declared_accesses(cx: &Context<'_>) -> Vec<DeclaredAccess> {
    let mut found = Vec::new();
    for (schema, declared) in cx.schemas() {
        let roles = declared.usage.iter().filter_map(|name| cx.snapshot.role_named(name));
        found.extend(roles.map(|role| DeclaredAccess {
            target: Target::Schema(schema.oid),
            role: role.oid,
            privilege: Privileges::USAGE,
            columns: vec![],
        }));
    }
    found.extend(cx.relations().flat_map(|(relation, _)| accesses_to(cx, relation)));
    found.extend(cx.routines().flat_map(|(routine, _)| executions_of(cx, routine)));
    found
}

/// Returns those of [`declared_accesses`] that are about an object that the contract names: the
/// doctor reports these.
#[must_use]
pub fn accesses_by_name(cx: &Context<'_>) -> Vec<DeclaredAccess> {
    let relations = cx.relations().filter(|(relation, schema)| {
        cx.declares_relation(relation)
            || cx.contract.sequence(&schema.name, &relation.name).is_some()
    });
    let routines = cx.routines().filter(|(routine, schema)| {
        cx.contract.functions_named(&schema.name, &routine.name).next().is_some()
    });
    relations
        .flat_map(|(relation, _)| accesses_to(cx, relation))
        .chain(routines.flat_map(|(routine, _)| executions_of(cx, routine)))
        .collect()
}

/// Returns the declared accesses to a relation.
pub(super) fn accesses_to(cx: &Context<'_>, relation: &Relation) -> Vec<DeclaredAccess> {
    let Some(schema) = cx.governed(relation.schema) else { return vec![] };
    let checked = match relation.kind {
        RelationKind::Sequence => &ON_SEQUENCES[..],
        RelationKind::MaterializedView => &ON_DATA[..1],
        _ => &ON_DATA[..],
    };
    let mut found = Vec::new();
    for role in schema.usage.iter().filter_map(|name| cx.snapshot.role_named(name)) {
        for privilege in checked {
            if let Some(columns) = declared_columns(cx, relation, schema, role, *privilege) {
                let (target, role) = (Target::Relation(relation.oid), role.oid);
                found.push(DeclaredAccess { target, role, privilege: *privilege, columns });
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

/// Returns the declared accesses to a routine.
pub(super) fn executions_of(cx: &Context<'_>, routine: &Routine) -> Vec<DeclaredAccess> {
    let Some(schema) = cx.governed(routine.schema) else { return vec![] };
    let roles = schema.usage.iter().filter_map(|name| cx.snapshot.role_named(name));
    roles
        .filter(|role| cx.declares_execute(routine, schema, role))
        .map(|role| DeclaredAccess {
            target: Target::Routine(routine.oid),
            role: role.oid,
            privilege: Privileges::EXECUTE,
            columns: vec![],
        })
        .collect()
}

/// Whether it contradicts the contract that an access to a relation is denied: then it is reported.
#[must_use]
pub fn fails(
    cx: &Context<'_>,
    relation: &Relation,
    access: &DeclaredAccess,
    denial: &Denial,
) -> bool {
    // ALL on a view includes privileges that it cannot have, such as INSERT on one with GROUP BY or
    // on a catalog.
    let is_of_all = || {
        let role = cx.snapshot.role(access.role);
        relation.kind == RelationKind::View
            && access.privilege != Privileges::SELECT
            && role.is_some_and(|role| declares_all(cx, relation, role))
    };
    match denial.cause {
        _ if is_of_all() => false,
        Cause::Privilege => true,
        // For a materialized view the query is reported.
        Cause::Statement => relation.kind != RelationKind::MaterializedView,
        // The contract declares which commands policies allow, and a policy that is missing is a
        // finding. Behind a view are tables of which it may say nothing.
        Cause::RowSecurity => {
            relation.kind == RelationKind::View && access.privilege != Privileges::SELECT
        }
    }
}

/// Whether row security rejects every row that an access would add to a table, and the contract
/// does not declare every privilege at once.
#[must_use]
pub fn rejects_every_row(
    cx: &Context<'_>,
    relation: &Relation,
    access: &DeclaredAccess,
    denial: &Denial,
) -> bool {
    let role = cx.snapshot.role(access.role);
    denial.cause == Cause::RowSecurity
        && access.privilege == Privileges::INSERT
        && !role.is_some_and(|role| declares_all(cx, relation, role))
}

/// Whether the contract declares every privilege on a relation at once. Then those that such a
/// relation cannot have, such as INSERT on a view with GROUP BY, are not meant.
fn declares_all(cx: &Context<'_>, relation: &Relation, role: &Role) -> bool {
    cx.governed(relation.schema).is_some_and(|schema| {
        cx.declared_on_relation(relation, schema, role).contains(Privileges::ALL_ON_TABLE)
    })
}

impl DeclaredAccess {
    /// Returns the access by names; `None` where the role or the object is not in the snapshot.
    #[must_use]
    pub fn name(&self, snapshot: &Snapshot) -> Option<AccessName> {
        let object = match self.target {
            Target::Schema(oid) => format!("schema {}", snapshot.schema(oid)?.name),
            Target::Relation(oid) => {
                let relation = snapshot.relation(oid)?;
                format!("{} {}", relation.kind.object_type(), snapshot.relation_identity(relation))
            }
            Target::Routine(oid) => {
                let routine = snapshot.routine(oid)?;
                format!("{} {}", routine.object_type(), snapshot.routine_identity(routine))
            }
        };
        Some(AccessName {
            role: snapshot.role(self.role)?.name.clone(),
            object,
            privilege: match self.columns.as_slice() {
                [] => self.privilege.to_string(),
                columns => format!("{} ({})", self.privilege, columns.join(", ")),
            },
        })
    }
}

//! Declared objects that belong to roles which the contract does not name.

use super::creators::exposed;
use crate::catalog::{ContentKind, Oid, Relation, Routine};
use crate::contract::RoleKind;
use crate::rules::context::Context;

/// Whether the contract neither names a role nor trusts it for another reason. An owner of this
/// kind can change what the contract declares. The owner of the database does not count: what it
/// owns is one finding, about the database.
pub(crate) fn is_unnamed(cx: &Context<'_>, owner: Oid) -> bool {
    is_named_nowhere(cx, owner) && owner != cx.snapshot.database.owner
}

/// Whether the owner of the database is a role that the contract does not name, although it names
/// an owner.
pub(crate) fn has_strange_database_owner(cx: &Context<'_>) -> bool {
    is_named_nowhere(cx, cx.snapshot.database.owner)
        && cx.contract.roles_of(RoleKind::Owner).next().is_some()
}

/// Whether a role is a client or a worker, or one that [`is_unnamed`].
pub(crate) fn is_untrusted(cx: &Context<'_>, owner: Oid) -> bool {
    cx.is_subject(owner) || is_unnamed(cx, owner)
}

fn is_named_nowhere(cx: &Context<'_>, owner: Oid) -> bool {
    !cx.is_subject(owner) && !cx.is_trusted_owner(owner)
}

/// Returns how many of the declared relations and routines a role owns.
pub(crate) fn declared_objects_of(cx: &Context<'_>, owner: Oid) -> usize {
    let relations = cx.relations().filter(|(relation, schema)| {
        relation.owner == owner && cx.contract.declares_relation(&schema.name, &relation.name)
    });
    let routines = cx.routines().filter(|(routine, schema)| {
        routine.owner == owner
            && cx.contract.functions_named(&schema.name, &routine.name).next().is_some()
    });
    relations.count() + routines.count()
}

/// Whether a declared relation belongs to a role that it does not name. A sequence of a column
/// belongs to the owner of the table.
pub(crate) fn has_strange_owner(cx: &Context<'_>, relation: &Relation) -> bool {
    let schema = cx.snapshot.schema_name(relation.schema);
    is_unnamed(cx, relation.owner)
        && relation.owned_by.is_none()
        && cx.contract.declares_relation(schema, &relation.name)
}

/// Whether a declared routine belongs to a role that it does not name.
pub(crate) fn routine_has_strange_owner(cx: &Context<'_>, routine: &Routine) -> bool {
    is_unnamed(cx, routine.owner) && cx.declares_routine(routine)
}

/// Whether `object_ownership` reports everything that a role owns in a schema: then consequences
/// need no finding of their own.
pub(crate) fn reports(cx: &Context<'_>, schema: &str, role: &str) -> bool {
    let (Some(schema), Some(role)) =
        (cx.snapshot.schema_named(schema), cx.snapshot.role_named(role))
    else {
        return false;
    };
    let owned = |kind| {
        let contents = cx.snapshot.contents.get(&schema.oid);
        contents.is_some_and(|contents| contents.contains(&(role.oid, kind)))
    };
    let is_owned = |schema_of: Oid, owner: Oid| (schema_of, owner) == (schema.oid, role.oid);
    let relations = || {
        let owned = cx.snapshot.relations.iter().filter(|r| is_owned(r.schema, r.owner));
        owned.filter(|relation| relation.owned_by.is_none())
    };
    let routines = || cx.snapshot.routines.iter().filter(|r| is_owned(r.schema, r.owner));
    cx.governed(schema.oid).is_some()
        && !owned(ContentKind::Operator)
        && !owned(ContentKind::Type)
        && owned(ContentKind::Relation) == relations().next().is_some()
        && owned(ContentKind::Routine) == routines().next().is_some()
        && relations().all(|relation| has_strange_owner(cx, relation))
        && routines().all(|routine| routine_has_strange_owner(cx, routine))
}

/// Returns a clause about the SECURITY DEFINER routines that search the schema of an object, and
/// the evidence about them.
pub(crate) fn consequences(cx: &Context<'_>, schema: &str) -> (String, serde_json::Value) {
    let (count, first) = exposed(cx, schema);
    let clause = match count {
        0 => String::new(),
        1 => "; 1 SECURITY DEFINER routine searches its schema".to_owned(),
        _ => format!("; {count} SECURITY DEFINER routines search its schema"),
    };
    (clause, serde_json::json!({"count": count, "first": first}))
}

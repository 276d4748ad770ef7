//! Which untrusted roles can create objects in a schema.

use crate::catalog::{ObjectKind, Oid, PG_DATABASE_OWNER, PUBLIC, Privileges, Role, Schema};
use crate::rules::context::Context;
use crate::search_path::{Exploiter, settings};

/// The schemas of the server that hold objects which applications use.
pub(crate) const SERVER: [&str; 2] = ["information_schema", "pg_catalog"];

/// Returns the roles with CREATE on the schema that are not trusted owners. The owner of the schema
/// counts as one, unless it is a client or worker; in a schema of the server only superusers do.
pub(crate) fn creators(cx: &Context<'_>, schema: &Schema) -> Vec<Oid> {
    let owner =
        if schema.owner == PG_DATABASE_OWNER { cx.snapshot.database.owner } else { schema.owner };
    let acl = schema.acl.clone().unwrap_or_else(|| ObjectKind::Schema.default_acl(schema.owner));
    let creates = |role: &&&Role| cx.granted(role, &acl).contains(Privileges::CREATE);
    let subjects = cx.subjects.iter().filter(creates).map(|role| role.oid);
    let mut found: Vec<Oid> = acl
        .iter()
        .filter(|item| item.privileges.contains(Privileges::CREATE))
        .map(|item| {
            if item.grantee == PG_DATABASE_OWNER {
                cx.snapshot.database.owner
            } else {
                item.grantee
            }
        })
        .chain(subjects)
        .filter(|role| {
            *role == PUBLIC
                || cx.is_subject(*role)
                || if schema.is_of_server() {
                    !cx.access.is_superuser(*role)
                } else {
                    *role != owner && !cx.is_trusted_owner(*role)
                }
        })
        .collect();
    found.sort_by_cached_key(|role| cx.snapshot.role_name(*role));
    found.dedup();
    found
}

/// Whether `schema_create` reports that `role` can create objects in `schema`: then consequences
/// need no finding of their own.
pub(crate) fn reports(cx: &Context<'_>, schema: &str, role: &Exploiter) -> bool {
    let oid = match role {
        Exploiter::Public => Some(PUBLIC),
        Exploiter::Role(name) => cx.snapshot.role_named(name).map(|r| r.oid),
    };
    cx.snapshot
        .schema_named(schema)
        .filter(|s| cx.governed(s.oid).is_some() || SERVER.contains(&s.name.as_str()))
        .is_some_and(|s| oid.is_some_and(|oid| creators(cx, s).contains(&oid)))
}

/// Returns how many SECURITY DEFINER routines search the schema, and the first three of them.
pub(crate) fn exposed(cx: &Context<'_>, schema: &str) -> (usize, Vec<String>) {
    let mut count = 0;
    let mut first = Vec::new();
    for routine in cx.snapshot.routines.iter().filter(|r| r.security_definer) {
        let path = settings(&routine.config).last().and_then(|v| cx.snapshot.split_path(v).ok());
        let searches = |names: Vec<String>| names.iter().any(|name| name == schema);
        // pg_catalog is searched even if it is not listed.
        if schema == "pg_catalog" || path.is_some_and(searches) {
            count += 1;
            if first.len() < 3 {
                first.push(cx.snapshot.routine_identity(routine));
            }
        }
    }
    (count, first)
}

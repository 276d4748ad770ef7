//! Privileges on a schema.

use super::chain::{Granted, how};
use super::grant::{Grant, On};
use super::question::{Link, Verdict};
use crate::catalog::{ObjectKind, Privileges, Role, Schema};
use crate::rules::Context;
use crate::sql::{printable, safe_ident};

/// Whether the role can access objects in the schema at all.
pub(super) fn usage(
    cx: &Context<'_>,
    role: &Role,
    schema: Option<&Schema>,
    verdict: &mut Verdict,
) -> Link {
    match schema {
        Some(schema) => privilege_on_schema(cx, role, schema, Privileges::USAGE, verdict),
        None => Link {
            step: "schema".into(),
            ok: None,
            detail: "The schema no longer exists.".into(),
            fix: None,
        },
    }
}

pub(super) fn privilege_on_schema(
    cx: &Context<'_>,
    role: &Role,
    schema: &Schema,
    wanted: Privileges,
    verdict: &mut Verdict,
) -> Link {
    let (sql, name) = (safe_ident(&schema.name), printable(&role.name));
    let object =
        Granted { owner: schema.owner, acl: schema.acl.as_ref(), kind: ObjectKind::Schema };
    let step = format!("{wanted} on schema {sql}");
    if object.grants(cx, role).contains(wanted) {
        let how = how(cx, role, object, wanted);
        let detail = format!("Role \"{name}\" has {wanted}{how}.");
        return Link { step, ok: Some(true), detail, fix: None };
    }
    verdict.deny(format!("permission denied for schema {}", printable(&schema.name)));
    let consequence = if wanted == Privileges::USAGE {
        format!("objects in schema {sql} cannot be accessed")
    } else {
        format!("objects cannot be created in schema {sql}")
    };
    let detail = format!("Role \"{name}\" does not have {wanted}: {consequence}.");
    let link = Link { step, ok: Some(false), detail, fix: None };
    Grant { role, privilege: wanted, on: On::Schema(schema) }.fix(cx, link)
}

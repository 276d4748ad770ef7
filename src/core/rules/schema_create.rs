//! CREATE on a governed schema, held by anybody who is not trusted with the structure. The one finding, with its one fix, behind every
//! SECURITY DEFINER routine whose path leads through that schema.

use super::holdings::Difference;
use super::{Area, Context, Rule};
use crate::catalog::{ObjectKind, Oid, PG_DATABASE_OWNER, PUBLIC, Privileges, Schema};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::search_path::settings;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "schema_create",
    title: "Somebody who is not trusted can create objects in a governed schema, or schemas",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "6",
    why: "Whoever can create in a schema can hide the objects of every SECURITY DEFINER routine whose search_path names it, and \
          so runs code as its owner. Workers make no objects: ALL in the contract means everything on the objects.",
    mend: "Revoke CREATE.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    // Whoever can make schemas can make the one that some path names and that is not there.
    let none = |_: &crate::catalog::Role| Privileges::NONE;
    cx.database_target().report_undeclared(cx, &cx.subjects, &none, Privileges::CREATE, Severity::Error, out);
    for (schema, _) in cx.schemas() {
        let target = cx.schema_target(schema);
        let mut drafts: Vec<Draft> = creators(cx, schema)
            .into_iter()
            .map(|role| target.undeclared_draft(cx, &Difference { role, privileges: Privileges::CREATE }, Severity::Error))
            .collect();
        if drafts.is_empty() {
            continue;
        }
        let (count, first) = exposed(cx, &schema.name);
        for draft in &mut drafts {
            if count > 0 {
                let noun = if count == 1 { "routine searches" } else { "routines search" };
                draft.detail.pop();
                draft.detail += &format!("; {count} SECURITY DEFINER {noun} this schema.");
            }
            draft.evidence["exposed_routines"] = json!({"count": count, "first": first});
        }
        out.append(&mut drafts);
    }
}

/// Everybody with CREATE on the schema who is not trusted with the structure. The schema's own owner, if not a client or worker, is.
fn creators(cx: &Context<'_>, schema: &Schema) -> Vec<Oid> {
    let owner = if schema.owner == PG_DATABASE_OWNER { cx.snapshot.database.owner } else { schema.owner };
    let acl = schema.acl.clone().unwrap_or_else(|| ObjectKind::Schema.default_acl(schema.owner));
    let subjects = cx.subjects.iter().copied().map(|r| r.oid);
    let creates = |role: Oid| cx.access.granted(role, &acl).contains(Privileges::CREATE);
    let mut found: Vec<Oid> = acl
        .iter()
        .filter(|item| item.privileges.contains(Privileges::CREATE))
        .map(|item| if item.grantee == PG_DATABASE_OWNER { cx.snapshot.database.owner } else { item.grantee })
        .chain(subjects.filter(|role| creates(*role)))
        .filter(|role| *role == PUBLIC || cx.is_subject(*role) || (*role != owner && !cx.keeps_structure(*role)))
        .collect();
    found.sort_by_cached_key(|role| cx.snapshot.role_name(*role));
    found.dedup();
    found
}

/// Whether this rule says that `role` can create in `schema`: then what follows from it needs no finding of its own.
pub(super) fn reports(cx: &Context<'_>, schema: &str, role: &str) -> bool {
    let oid = if role == "PUBLIC" { Some(PUBLIC) } else { cx.snapshot.role_named(role).map(|r| r.oid) };
    cx.snapshot
        .schema_named(schema)
        .filter(|s| cx.governed(s.oid).is_some())
        .is_some_and(|s| oid.is_some_and(|oid| creators(cx, s).contains(&oid)))
}

/// How many SECURITY DEFINER routines search the schema, and the first few of them.
fn exposed(cx: &Context<'_>, schema: &str) -> (usize, Vec<String>) {
    let mut count = 0;
    let mut first = Vec::new();
    for routine in cx.snapshot.routines.iter().filter(|r| r.security_definer) {
        let path = settings(&routine.config).last().and_then(|v| cx.snapshot.split_path(v).ok());
        if path.is_some_and(|names| names.iter().any(|n| n == schema)) {
            count += 1;
            if first.len() < 3 {
                first.push(cx.snapshot.routine_identity(routine));
            }
        }
    }
    (count, first)
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::{AclItem, PUBLIC, Privileges};

    #[test]
    fn only_the_owners_of_the_structure_create() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.add_role("tenant");
        let tenant = world.role("tenant").oid;
        let worker = world.role("service_role").oid;
        let grantor = world.snapshot.database.owner;
        let item = AclItem { grantee: worker, grantor, privileges: Privileges::CREATE, grantable: Privileges::NONE };
        world.snapshot.database.acl = Some(vec![item]);
        world.grant_schema("public", PUBLIC, Privileges::CREATE);
        world.grant_schema("enforcement", tenant, Privileges::CREATE);
        world.grant_schema("enforcement", worker, Privileges::CREATE);
        assert_eq!(
            world.found(&RULE),
            [
                "error database app service_role: Role \"service_role\" has CREATE on database app, which the contract does not \
                 declare. => REVOKE CREATE ON DATABASE app FROM service_role;",
                "error schema enforcement service_role: Role \"service_role\" has CREATE on schema enforcement, which the contract \
                 does not declare. => REVOKE CREATE ON SCHEMA enforcement FROM service_role;",
                "error schema enforcement tenant: Role \"tenant\" has CREATE on schema enforcement, which the contract does not \
                 declare. => REVOKE CREATE ON SCHEMA enforcement FROM tenant;",
                "error schema public PUBLIC: PUBLIC (every role) has CREATE on schema public, which the contract does not declare; \
                 6 SECURITY DEFINER routines search this schema. => REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
            ]
        );
    }
}

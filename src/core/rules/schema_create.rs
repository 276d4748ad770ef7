//! An untrusted role has CREATE on a governed schema, a schema of the server or the database; it is
//! one finding for all SECURITY DEFINER routines that search the schema.

use super::context::Context;
use super::shared::creators::{self, SERVER};
use super::shared::privileges::Difference;
use super::shared::target::Target;
use crate::catalog::Privileges;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "schema_create",
    title: "An untrusted role can create objects in a governed schema or in pg_catalog, or \
            schemas in the database",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::Schemas,
    breaks_declared: false,
    checks: "Only trusted owners have CREATE on governed schemas and on the database, and only \
             superusers on pg_catalog and information_schema.",
    why: "A role with CREATE on a schema can create objects that a SECURITY DEFINER routine finds \
          before the intended ones, and so run code as the owner of the routine. \
          ALL in the contract means all privileges on the objects, not CREATE on the schema.",
    fix: "Revoke CREATE.",
    exempt: "A worker that must create objects. No SECURITY DEFINER routine may then have the \
             schema in its search_path.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT CREATE ON SCHEMA intake TO service_role;",
        correct: "GRANT USAGE ON SCHEMA intake TO service_role;",
    },
    references: &["CWE-426"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    // A role that can create schemas can create one that a path names and that does not exist.
    let none = |_: &crate::catalog::Role| Privileges::NONE;
    Target::of_database(cx).report_undeclared(
        cx,
        &cx.subjects,
        &none,
        Privileges::CREATE,
        Severity::Error,
        out,
    );
    let of_server = SERVER.iter().filter_map(|name| cx.snapshot.schema_named(name));
    for schema in cx.schemas().map(|(schema, _)| schema).chain(of_server) {
        let target = Target::of_schema(cx, schema);
        let mut drafts: Vec<Draft> = creators::creators(cx, schema)
            .into_iter()
            .map(|role| {
                let difference = Difference { role, privileges: Privileges::CREATE };
                let mut draft = target.undeclared_draft(cx, &difference, Severity::Error);
                draft.object.managed_by = cx.managed_role(role);
                draft
            })
            .collect();
        if drafts.is_empty() {
            continue;
        }
        let (count, first) = creators::exposed(cx, &schema.name);
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

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, PUBLIC, Privileges};

    #[test]
    fn create_of_untrusted_roles_is_reported_with_exposed_routines() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.add_role("tenant");
        let tenant = world.role("tenant").oid;
        let worker = world.role("service_role").oid;
        let grantor = world.snapshot.database.owner;
        let item = AclItem {
            grantee: worker,
            grantor,
            privileges: Privileges::CREATE,
            grantable: Privileges::NONE,
        };
        world.snapshot.database.acl = Some(vec![item].into());
        world.grant_schema("public", PUBLIC, Privileges::CREATE);
        world.grant_schema("enforcement", tenant, Privileges::CREATE);
        world.grant_schema("enforcement", worker, Privileges::CREATE);
        assert_eq!(
            world.found(&RULE),
            [
                "error database app service_role: Role \"service_role\" has CREATE on database \
                 app, which the contract does not \
                 declare. => REVOKE CREATE ON DATABASE app FROM service_role;",
                "error schema enforcement service_role: Role \"service_role\" has CREATE on schema \
                 enforcement, which the contract \
                 does not declare. => REVOKE CREATE ON SCHEMA enforcement FROM service_role;",
                "error schema enforcement tenant: Role \"tenant\" has CREATE on schema \
                 enforcement, which the contract does not \
                 declare. => REVOKE CREATE ON SCHEMA enforcement FROM tenant;",
                "error schema public PUBLIC: PUBLIC (every role) has CREATE on schema public, \
                 which the contract does not declare; \
                 6 SECURITY DEFINER routines search this schema. => REVOKE CREATE ON SCHEMA public \
                 FROM PUBLIC;"
            ]
        );
    }
}

//! USAGE on a governed schema differs from the contract.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{Privileges, Role, Schema};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::safe_ident;

/// The rule.
pub static RULE: Rule = Rule {
    id: "schema_usage",
    title: "USAGE on a schema differs from the contract",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::Schemas,
    breaks_declared: false,
    checks: "Client and worker roles have USAGE on exactly the schemas that the contract \
             declares for them.",
    why: "Without USAGE no privilege on an object of the schema can be used; with it, every one \
          can.",
    fix: "Grant or revoke USAGE as the contract declares.",
    exempt: "A schema that a client must reach for a limited time. Declare it if it is meant to \
             stay.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT USAGE ON SCHEMA enforcement TO authenticated;",
        correct: "GRANT USAGE ON SCHEMA enforcement TO service_role;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (schema, declared) in cx.schemas() {
        let usage = |role: &Role| {
            if declared.usage.contains(&role.name) { Privileges::USAGE } else { Privileges::NONE }
        };
        let permitted = |role: &Role| usage(role) | cx.usage_for_audits(schema, &role.name);
        let target = Target::of_schema(cx, schema);
        let first = out.len();
        let allowed = Allowed { declared: &usage, permitted: &permitted };
        let mask = Mask::Of(Privileges::USAGE);
        target.report_beyond(cx, &cx.subjects, allowed, mask, Severity::Error, out);
        if contains_extension_routines(cx, schema) {
            for draft in out[first..].iter_mut().filter(|draft| draft.is_to_public) {
                draft.fix = Fix::Proposal(format!(
                    "Schema {} contains objects of extensions, which bodies of routines find \
                     through the search_path, as the role that executes them. Grant USAGE to the \
                     roles that need it first:\n{}",
                    safe_ident(&schema.name),
                    draft.fix.sql().unwrap_or_default()
                ));
            }
        }
        target.report_missing(cx, &cx.subjects, &usage, Severity::Error, out);
    }
}

/// Whether an extension other than this one has created routines in a schema.
fn contains_extension_routines(cx: &Context<'_>, schema: &Schema) -> bool {
    cx.snapshot.routines.iter().filter(|routine| routine.schema == schema.oid).any(|routine| {
        let extension = cx.snapshot.routine_extension.get(&routine.oid);
        extension.is_some() && !cx.is_own(extension)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges};
    use crate::contract::RoleKind;
    use crate::fix::Fix;

    #[test]
    fn reader_of_the_audits_may_use_their_schema_and_no_other() {
        let mut world = World::conforming();
        world.add_role("collector");
        world.declare("collector", RoleKind::Worker);
        let collector = world.role("collector").oid;
        for schema in ["ops", "enforcement"] {
            world.grant_schema(schema, collector, Privileges::USAGE);
        }
        assert_eq!(world.found(&RULE).len(), 2);
        world.contract.readers = Some(vec!["collector".into()]);
        assert_eq!(world.fixes(&RULE), ["REVOKE USAGE ON SCHEMA enforcement FROM collector;"]);
    }

    #[test]
    fn owner_of_a_definer_keeps_usage_that_public_loses() {
        let mut world = World::conforming();
        world.add_role("code_owner");
        world.declare("code_owner", RoleKind::Owner);
        world.routine("get_ceo_metrics").owner = world.role("code_owner").oid;
        world.grant_schema("intake", PUBLIC, Privileges::USAGE);
        assert_eq!(
            world.fixes(&RULE),
            ["GRANT USAGE ON SCHEMA intake TO code_owner;\n\
              REVOKE USAGE ON SCHEMA intake FROM PUBLIC;"]
        );
    }

    #[test]
    fn usage_of_a_schema_with_extension_objects_is_a_proposal() {
        let mut world = World::conforming();
        let intake = world.schema("intake").oid;
        world.routine("get_ceo_metrics").schema = intake;
        world.grant_schema("intake", PUBLIC, Privileges::USAGE);
        let (routine, owner) = (world.routine("get_ceo_metrics").oid, world.role("postgres").oid);
        world.snapshot.extensions.insert(9_100, ("citext".into(), owner));
        world.snapshot.routine_extension.insert(routine, 9_100);
        let findings = world.findings(&RULE);
        let of_public = findings.iter().find(|f| f.role() == Some("PUBLIC")).unwrap();
        assert!(matches!(of_public.fix, Fix::Proposal(_)), "{:?}", of_public.fix);
    }

    #[test]
    fn undeclared_and_missing_usage_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant_schema("intake", PUBLIC, Privileges::USAGE);
        world.schema("api").acl = Some(vec![].into());
        assert_eq!(
            world.found(&RULE),
            [
                "error schema api anon: Role \"anon\" does not have USAGE on schema api, which the \
                 contract declares. \
                 => GRANT USAGE ON SCHEMA api TO anon;",
                "error schema api authenticated: Role \"authenticated\" does not have USAGE on \
                 schema api, which the contract declares. \
                 => GRANT USAGE ON SCHEMA api TO authenticated;",
                "error schema api service_role: Role \"service_role\" does not have USAGE on \
                 schema api, which the contract declares. \
                 => GRANT USAGE ON SCHEMA api TO service_role;",
                "error schema intake PUBLIC: PUBLIC (every role) has USAGE on schema intake, which \
                 the contract does not declare. \
                 => REVOKE USAGE ON SCHEMA intake FROM PUBLIC;"
            ]
        );
    }
}

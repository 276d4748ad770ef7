//! A client can write to a table or view outside the declared write paths.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{RelationKind, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "direct_write",
    title: "A client can write to a table or view outside the declared write paths",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client roles and PUBLIC have INSERT, UPDATE, DELETE and TRUNCATE only where the \
             contract declares them. Undeclared REFERENCES, TRIGGER and MAINTAIN of a role with \
             undeclared TRUNCATE are part of the finding.",
    why: "Writes go through row security, RPCs or workers. TRUNCATE bypasses row security.",
    fix: "Revoke the privilege.",
    exempt: "A write path that is being replaced by an RPC; set an expiry.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT UPDATE ON public.judgments TO authenticated;",
        correct: "GRANT INSERT ON intake.simplicity_batches TO authenticated;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.kind != RelationKind::Sequence) {
        let declared = |role: &Role| cx.declared_on_relation(relation, schema, role);
        let permitted = |role: &Role| cx.permitted_on_relation(relation, schema, role);
        let target = Target::of_relation(cx, relation);
        target.report_beyond(
            cx,
            &cx.clients,
            Allowed { declared: &declared, permitted: &permitted },
            Mask::Writes,
            Severity::Error,
            out,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::super::{table_privileges, view_privileges};
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn undeclared_write_privileges_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let authenticated = world.role("authenticated").oid;
        world.grant("intake.simplicity_batches", authenticated, Privileges::WRITES);
        world.grant("public.v_judgment_pipeline", authenticated, Privileges::UPDATE);
        assert_eq!(
            world.found(&RULE),
            [
                "error table intake.simplicity_batches authenticated: Role \"authenticated\" has \
                 UPDATE, DELETE, TRUNCATE on table \
                 intake.simplicity_batches, which the contract does not declare. \
                 => REVOKE UPDATE, DELETE, TRUNCATE ON TABLE intake.simplicity_batches FROM \
                 authenticated;",
                "error view public.v_judgment_pipeline authenticated: Role \"authenticated\" has \
                 UPDATE on view \
                 public.v_judgment_pipeline, which the contract does not declare. \
                 => REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM authenticated;"
            ]
        );
    }

    #[test]
    fn what_grant_all_leaves_over_is_one_finding_for_all_grantees() {
        let mut world = World::conforming();
        let left_over = Privileges::TRUNCATE | Privileges::REFERENCES | Privileges::TRIGGER;
        let clients = ["anon", "authenticated"].map(|name| world.role(name).oid);
        for client in clients {
            world.grant("public.job_queue", client, left_over);
        }
        assert_eq!(
            world.found(&RULE),
            ["error table public.job_queue anon,authenticated: Roles \"anon\" and \
              \"authenticated\" have TRUNCATE, REFERENCES, TRIGGER on table public.job_queue, \
              which the contract does not declare. => REVOKE TRUNCATE, REFERENCES, TRIGGER ON \
              TABLE public.job_queue FROM anon, authenticated;"]
        );
        assert_eq!(world.found(&table_privileges::RULE), [""; 0]);
        // Without TRUNCATE, they are not about writes.
        let acl = world.relation("public.job_queue").acl.as_mut().unwrap();
        for item in acl.iter_mut().filter(|item| clients.contains(&item.grantee)) {
            item.privileges = left_over & !Privileges::TRUNCATE;
        }
        assert_eq!(world.found(&RULE), [""; 0]);
        assert_eq!(
            world.found(&table_privileges::RULE),
            ["error table public.job_queue anon,authenticated: Roles \"anon\" and \
              \"authenticated\" have REFERENCES, TRIGGER on table public.job_queue, which the \
              contract does not declare. => REVOKE REFERENCES, TRIGGER ON TABLE public.job_queue \
              FROM anon, authenticated;"]
        );
    }

    #[test]
    fn privileges_on_a_view_that_grant_all_leaves_over_are_one_finding() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        world.grant("public.v_judgment_pipeline", anon, Privileges::ALL_ON_TABLE);
        let privileges: Vec<String> = [&RULE, &view_privileges::RULE]
            .into_iter()
            .flat_map(|rule| world.findings(rule))
            .map(|finding| finding.evidence["privileges"].to_string())
            .collect();
        assert_eq!(
            privileges,
            [r#"["INSERT","UPDATE","DELETE","TRUNCATE","REFERENCES","TRIGGER"]"#]
        );
    }
}

//! A client can write to a table or view outside the declared write paths.

use super::context::Context;
use super::shared::privileges::Allowed;
use super::shared::target::Target;
use crate::catalog::{Privileges, RelationKind, Role};
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
    section: "5",
    checks: "Client roles and PUBLIC have INSERT, UPDATE, DELETE and TRUNCATE only where the \
             contract declares them.",
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
            Privileges::WRITES,
            Severity::Error,
            out,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
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
}

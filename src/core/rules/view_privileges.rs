//! Privileges on declared views, and privileges of workers on all views.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{Privileges, RelationKind, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "view_privileges",
    title: "Privileges on a declared view differ from the contract",
    area: Area::Views,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    section: "4",
    checks: "Client and worker roles have exactly the declared privileges on each declared view.",
    why: "Clients read through the declared views: a missing grant is an outage, an additional \
          one exposes data.",
    fix: "Grant or revoke as the contract declares.",
    exempt: "A grant that the next release needs. Declare it with that release.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT TRIGGER ON public.v_judgment_pipeline TO anon;",
        correct: "GRANT SELECT ON public.v_judgment_pipeline TO anon;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (view, schema) in cx
        .relations()
        .filter(|(r, _)| matches!(r.kind, RelationKind::View | RelationKind::MaterializedView))
    {
        let declared = |role: &Role| cx.declared_on_relation(view, schema, role);
        let is_declared = cx.contract.view(&schema.name, &view.name).is_some();
        // Rules undeclared_view_readable and materialized_view_readable check which clients can
        // read an undeclared view.
        let reading = if is_declared { Privileges::NONE } else { Privileges::SELECT };
        let target = Target::of_relation(cx, view);
        let permitted = |role: &Role| cx.permitted_on_relation(view, schema, role);
        target.report_beyond(
            cx,
            &cx.clients,
            Allowed { declared: &declared, permitted: &permitted },
            Mask::BesideWrites(!(Privileges::WRITES | reading)),
            Severity::Error,
            out,
        );
        target.report_undeclared_of_workers(cx, &cx.workers, &permitted, out);
        target.report_missing(cx, &cx.subjects, &declared, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn privileges_beyond_and_below_the_declared_ones_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.grant("ops.v_reaper_status", anon, Privileges::SELECT);
        world.grant("public.v_judgment_pipeline", anon, Privileges::TRIGGER);
        world
            .relation("public.v_plaintiffs_overview")
            .acl
            .as_mut()
            .unwrap()
            .retain(|item| item.grantee != anon);
        assert_eq!(
            world.found(&RULE),
            [
                "error view ops.v_reaper_status anon: Role \"anon\" has SELECT on view \
                 ops.v_reaper_status, which the contract does \
                 not declare. => REVOKE SELECT ON TABLE ops.v_reaper_status FROM anon;",
                "error view public.v_judgment_pipeline anon: Role \"anon\" has TRIGGER on view \
                 public.v_judgment_pipeline, which the \
                 contract does not declare. => REVOKE TRIGGER ON TABLE public.v_judgment_pipeline \
                 FROM anon;",
                "error view public.v_plaintiffs_overview anon: Role \"anon\" does not have SELECT \
                 on view \
                 public.v_plaintiffs_overview, which the contract declares. => GRANT SELECT ON \
                 TABLE public.v_plaintiffs_overview TO anon;"
            ]
        );
    }
}

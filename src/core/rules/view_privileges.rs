//! Privileges on declared views, privileges of workers on all views, and with whose privileges
//! declared views run.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{Privileges, Relation, RelationKind, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::Fix;
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
    checks: "Client and worker roles have exactly the declared privileges on each declared view, \
             and a view that the contract declares with security_invoker has that option.",
    why: "Clients read through the declared views: a missing grant is an outage, an additional \
          one exposes data. Without security_invoker, which CREATE OR REPLACE VIEW without WITH \
          removes, a view bypasses row security: it runs with the privileges of its owner.",
    fix: "Grant or revoke as the contract declares. Repeat WITH (security_invoker = true) where \
          the view is replaced.",
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
        target.report_roles(cx, &cx.workers, &permitted, Mask::ALL, Severity::Error, out);
        let subjects = cx.declared_subjects(view, schema);
        target.report_missing(cx, &subjects, &declared, Severity::Error, out);
        let declaration = cx.contract.view(&schema.name, &view.name);
        if !view.security_invoker && declaration.is_some_and(|view| view.security_invoker) {
            out.push(not_invoker(cx, view));
        }
    }
}

/// Returns the finding about a view that runs with the privileges of its owner although the
/// contract declares it with `security_invoker`. The fix is a proposal, because it can take access
/// away.
fn not_invoker(cx: &Context<'_>, view: &Relation) -> Draft {
    let sql = cx.snapshot.relation_sql(view);
    let detail = format!(
        "View {sql} runs with the privileges of its owner and bypasses row security; the contract \
         declares it with security_invoker."
    );
    let proposal = format!(
        "Risk: the roles that read the view then need privileges on the relations that it reads, \
         and row security restricts their rows.\n\
         ALTER VIEW {sql} SET (security_invoker = true);"
    );
    Draft::new(cx.relation_object(view), Severity::Error, detail)
        .key("security_invoker")
        .fix(Fix::Proposal(proposal))
        .measure(Measure::excess("security_invoker", vec![]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn view_without_its_declared_security_invoker_is_reported() {
        let mut world = World::conforming();
        world.contract.views[0].security_invoker = true;
        let view = world.contract.views[0].name.clone();
        assert_eq!(
            world.found(&RULE),
            ["error view public.v_plaintiffs_overview: View public.v_plaintiffs_overview runs \
              with the privileges of its owner and bypasses row security; the contract declares \
              it with security_invoker."]
        );
        world.relation(&format!("public.{view}")).security_invoker = true;
        assert_eq!(world.found(&RULE), [""; 0]);
        world.contract.views[0].security_invoker = false;
        assert_eq!(world.found(&RULE), [""; 0], "either is allowed where it is not declared");
    }

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

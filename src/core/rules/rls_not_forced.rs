//! Row security is not forced on the owner of the table.

use super::context::Context;
use super::shared::row_security::RowSecurity;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_not_forced",
    title: "Row security is not forced on the table owner",
    area: Area::Rls,
    severity: Severity::Info,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    checks: "FORCE ROW LEVEL SECURITY is set where the contract declares it. Elsewhere its \
             absence is reported as information.",
    why: "Without FORCE the owner bypasses its own policies, and so does every view and \
          SECURITY DEFINER routine of the owner. Declared views often depend on that.",
    fix: "Run ALTER TABLE ... FORCE ROW LEVEL SECURITY after creating the policies that the \
          owner's views and routines need.",
    exempt: "Tables that are read through views of their owner. The finding is information \
             unless the contract declares FORCE.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER TABLE public.judgments NO FORCE ROW LEVEL SECURITY;",
        correct: "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;",
    },
    references: &["CIS PostgreSQL Benchmark 4.7"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let row_security = RowSecurity::new(cx);
    for (relation, schema) in
        cx.relations().filter(|(r, _)| r.row_security && !r.force_row_security)
    {
        let Some(table) =
            cx.contract.table(&schema.name, &relation.name).filter(|t| t.row_security)
        else {
            continue;
        };
        let sql = cx.snapshot.relation_sql(relation);
        let (severity, required, fix) = if table.force_row_security {
            let fix = row_security.force(relation, schema);
            (Severity::Error, ", which the contract requires", fix)
        } else {
            (Severity::Info, "", Fix::Unknown)
        };
        let detail = format!("Row security is not forced on the owner of table {sql}{required}.");
        let evidence = json!({"force_row_security": false, "declared": table.force_row_security});
        let draft = Draft::new(cx.relation_object(relation), severity, detail)
            .role(cx.snapshot.role_name(relation.owner))
            .evidence(evidence)
            .fix(fix)
            .measure(Measure::missing("", vec![]));
        out.push(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Policy;
    use crate::fix::Fix;

    #[test]
    fn missing_force_is_information_unless_declared() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.relation("public.judgments").force_row_security = false;
        assert_eq!(
            world.found(&RULE),
            ["info table public.judgments postgres: Row security is not forced on the owner of \
                 table public.judgments."]
        );
    }

    #[test]
    fn force_is_a_proposal_unless_the_owner_is_admitted() {
        let mut world = World::conforming();
        world.relation("public.judgments").force_row_security = false;
        world.contract.tables[0].force_row_security = true;
        world.contract.rules.remove("rls_not_forced");
        let fix = |world: &World| world.findings(&RULE)[0].fix.clone();
        let Fix::Proposal(proposal) = fix(&world) else { panic!("a proposal") };
        assert_eq!(
            proposal.lines().collect::<Vec<_>>(),
            [
                "No policy on table public.judgments admits role \"postgres\" (SELECT, INSERT, \
                 UPDATE, DELETE).",
                "Run in one transaction:",
                "CREATE POLICY \"postgres select\" ON public.judgments FOR SELECT TO postgres \
                 USING (...);",
                "CREATE POLICY \"postgres insert\" ON public.judgments FOR INSERT TO postgres \
                 WITH CHECK (...);",
                "CREATE POLICY \"postgres update\" ON public.judgments FOR UPDATE TO postgres \
                 USING (...) WITH CHECK (...);",
                "CREATE POLICY \"postgres delete\" ON public.judgments FOR DELETE TO postgres \
                 USING (...);",
                "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;",
            ]
        );
        let force = "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;";
        let (owner, relation) =
            (world.role("postgres").oid, world.relation("public.judgments").oid);
        let policy = Policy {
            name: "owner".into(),
            relation,
            permissive: true,
            roles: vec![owner],
            ..Policy::default()
        };
        world.snapshot.policies.push(policy);
        assert_eq!(fix(&world).sql().as_deref(), Some(force), "a policy admits the owner");
        world.snapshot.policies.pop();
        world.role("postgres").bypass_rls = true;
        assert_eq!(fix(&world).sql().as_deref(), Some(force), "the owner bypasses row security");
    }
}

//! A restrictive policy restricts nothing.

use super::context::Context;
use super::shared::policies::policy_object;
use crate::catalog::{Command, Policy};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::safe_ident;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_restrictive_inert",
    title: "A restrictive policy restricts nothing",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No restrictive policy that applies to a client has a condition that is always true, \
             or a WITH CHECK that is.",
    why: "A restrictive policy is a floor under all permissive ones. One that is always true \
          looks like a floor and is none.",
    fix: "Give it the condition that every row must meet, or drop it.",
    exempt: "A policy whose condition a later release tightens; set an expiry.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE POLICY floor ON intake.simplicity_batches AS RESTRICTIVE FOR \
              SELECT TO authenticated\n\
              USING (true);",
        correct: "CREATE POLICY floor ON intake.simplicity_batches AS RESTRICTIVE FOR \
              SELECT TO authenticated\n\
              USING (file_name = (SELECT current_setting('request.jwt.claims', \
              true)::json ->> 'sub'));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid).iter();
        for policy in policies.filter(|policy| !policy.permissive) {
            let applies = cx.clients.iter().any(|client| cx.policy_applies(policy, client));
            let Some(what) = inert(policy).filter(|_| applies) else { continue };
            let (name, table) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
            let detail = format!(
                "Restrictive policy {name} on table {table} restricts {what}, because its \
                 condition \
                 is always true."
            );
            let proposal = format!("{}\nDROP POLICY {name} ON {table};", RULE.fix);
            let draft = Draft::new(policy_object(cx, policy, relation), Severity::Warning, detail);
            out.push(draft.evidence(json!({"always_true": true})).fix(Fix::Proposal(proposal)));
        }
    }
}

/// Returns what a restrictive policy does not restrict; `None` where it restricts what it is for.
fn inert(policy: &Policy) -> Option<&'static str> {
    let is_for_one_condition =
        matches!(policy.command, Some(Command::Select | Command::Insert | Command::Delete));
    if policy.always_true && (is_for_one_condition || policy.unchecked || !policy.has_check) {
        Some("nothing")
    } else {
        policy.unchecked.then_some("no new row")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Policy};

    fn found(policy: Policy) -> Vec<String> {
        let mut world = World::conforming();
        let (relation, role) =
            (world.relation("public.judgments").oid, world.role("authenticated").oid);
        world.snapshot.policies.push(Policy {
            name: "floor".into(),
            relation,
            roles: vec![role],
            ..policy
        });
        world.details(&RULE)
    }

    #[test]
    fn restrictive_policy_that_is_always_true_is_reported() {
        let select = Some(Command::Select);
        let floor = Policy { command: select, always_true: true, ..Policy::default() };
        assert_eq!(
            found(floor.clone()),
            ["warning: Restrictive policy floor on table public.judgments restricts nothing, \
              because its condition is always true."]
        );
        assert_eq!(found(Policy { always_true: false, ..floor.clone() }), [""; 0]);
        assert_eq!(found(Policy { permissive: true, ..floor }), [""; 0]);
    }

    #[test]
    fn restrictive_policy_for_new_rows_alone_is_no_finding() {
        let all = Policy { always_true: true, has_check: true, ..Policy::default() };
        assert_eq!(found(all.clone()), [""; 0], "USING (true) WITH CHECK (...)");
        let unchecked = Policy { always_true: false, unchecked: true, ..all };
        assert!(found(unchecked)[0].contains("restricts no new row"));
    }
}

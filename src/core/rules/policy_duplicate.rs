//! A policy adds nothing to another one.

use super::context::Context;
use super::shared::policies::policy_object;
use super::shared::reached::of_policy;
use crate::catalog::{Policy, PolicyExposure};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::safe_ident;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_duplicate",
    title: "A policy adds nothing to another one",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No permissive policy lets through only rows that another one lets \
              through as well, for each command and client that it is for. It concerns \
              permissive policies of governed tables with row security, for clients. A \
              policy that is always true is reported for itself.",
    why: "Each permissive policy is evaluated for the rows that the others have \
              not let through. A change of one of two equal policies leaves the \
              other one as it was.",
    fix: "Drop the policy that adds nothing.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));\n\
              CREATE POLICY batches_empty ON intake.simplicity_batches FOR SELECT TO \
              authenticated\n\
              USING (file_name = (SELECT current_setting('request.jwt.claims', \
              true)::json ->> 'sub') AND rows_total = 0);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));",
    },
    references: &["CWE-1164"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
        cx.check_interrupts();
        let policies = cx.snapshot.policies_of(relation.oid);
        for policy in policies.iter().filter(|of| of.permissive) {
            let Some(other) = covering(cx, policy, policies) else { continue };
            let (name, table) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
            let detail = format!(
                "Policy {name} on table {table} adds nothing to policy {}, which lets all of its \
                 rows through.",
                safe_ident(&other.name)
            );
            let proposal = format!("{}\nDROP POLICY {name} ON {table};", RULE.fix);
            let draft = Draft::new(policy_object(cx, policy, relation), Severity::Info, detail);
            out.push(draft.evidence(json!({"beside": other.name})).fix(Fix::Proposal(proposal)));
        }
    }
}

/// Returns the policy that lets through what another one does, for all commands and clients that
/// this is for.
fn covering<'a>(cx: &Context<'a>, policy: &Policy, all: &'a [Policy]) -> Option<&'a Policy> {
    let mut exposures = of_policy(cx, policy);
    let first = exposures.next()?.covered_by?;
    let is_by_first = |of: &PolicyExposure| of.covered_by == Some(first);
    let other = all.iter().find(|other| other.oid == first)?;
    exposures.all(is_by_first).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Policy, Rows};

    #[test]
    fn policy_beside_a_wider_one_is_reported() {
        let mut world = World::conforming();
        world.expose("authenticated", Command::Select, Rows::Existing, Exposure::default());
        let policy = world.snapshot.policies.last().unwrap().clone();
        world.snapshot.policies.push(Policy { oid: 9_001, name: "q".into(), ..policy });
        assert_eq!(world.details(&RULE), [""; 0]);
        let mut exposure = world.snapshot.exposures[0].clone();
        exposure.covered_by = Some(9_001);
        let mut exposures = vec![exposure.clone()];
        world.snapshot.exposures = exposures.clone().into();
        assert_eq!(
            world.details(&RULE),
            ["info: Policy p on table public.judgments adds nothing to policy q, which lets all \
              of its rows through."]
        );
        exposure.covered_by = None;
        exposures.push(exposure);
        world.snapshot.exposures = exposures.into();
        assert_eq!(world.details(&RULE), [""; 0], "not for another command");
    }
}

//! A policy lets a role that it names reach no row.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use super::shared::policies::policy_object;
use crate::catalog::{Command, Policy};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_never_true",
    title: "A policy lets a role that it names reach no row",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each policy lets the clients that it names reach a row. A client that a restrictive \
             policy names has a permissive policy for one of its commands as well.",
    why: "A condition that cannot be true is not noticed: results are empty, and writes change no \
          row. A misspelled role, a comparison with NULL, or a parameter without a dot in its \
          name are common reasons.",
    fix: "Correct the condition, or drop the policy.",
    exempt: "A table that is closed on purpose. Revoke the privilege instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING ((SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'role') = \
                    'authenticatd');",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-284"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let exposure = of.exposure;
        let is_named = of.policy.roles.contains(&of.role.oid);
        let is_found = exposure.is_never_true
            && is_named
            && !exposure.fails()
            && exposure.hidden.is_empty()
            && cx.closing_policy(of.relation, of.role, of.command).is_none()
            // Whatever the session is: a policy that the contract declares is then missing.
            && !(of.is_declared() && of.policy.is_for_no_rows(of.command));
        let fault =
            || Fault::plain("", Sentence::Lets("no row: its condition is never true".into()));
        is_found.then(fault).into_iter().collect()
    };
    exposed::report(cx, &RULE, faults, out);
    report_restrictive_alone(cx, out);
}

/// Adds a finding for each restrictive policy and client that it names without a permissive policy
/// to restrict. Restrictive policies alone let no row through.
fn report_restrictive_alone(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid);
        for floor in policies.iter().filter(|policy| !policy.permissive) {
            let named = cx.clients.iter().copied().filter(|of| floor.roles.contains(&of.oid));
            for client in named {
                let mut commands = floor.commands();
                commands
                    .retain(|of| cx.has_privilege_on_a_column(client, relation, of.privilege()));
                let is_admitted = |policy: &Policy| {
                    let admits = |of: &Command| cx.policy_admits(policy, relation, client, *of);
                    policy.permissive && commands.iter().any(admits)
                };
                let is_limited = cx.access.is_limited_by_policies(client.oid, relation);
                if commands.is_empty() || !is_limited || policies.iter().any(is_admitted) {
                    continue;
                }
                let words = commands.iter().map(|of| of.as_str()).collect::<Vec<_>>().join(", ");
                let (name, table) = (safe_ident(&floor.name), cx.snapshot.relation_sql(relation));
                let detail = format!(
                    "Restrictive policy {name} on table {table} lets role \"{}\" {words} no row: \
                     no permissive policy applies besides it.",
                    printable(&client.name)
                );
                let object = policy_object(cx, floor, relation);
                let draft = Draft::new(object, Severity::Warning, detail).key(&client.name);
                let draft = draft.evidence(json!({"commands": words, "restrictive": true}));
                out.push(draft.fix(Fix::Proposal(
                    "Add a permissive policy, or make this one permissive.".to_owned(),
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Policy, Privileges, Rows};

    #[test]
    fn policy_never_true_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = Exposure { is_never_true: true, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             no row: its condition is never true."]
        );
    }

    #[test]
    fn restrictive_policy_without_a_permissive_one_is_reported() {
        let mut world = World::conforming();
        let client = world.role("authenticated").oid;
        let relation = world.relation("public.job_queue").oid;
        world.relation("public.job_queue").row_security = true;
        let floor = Policy {
            oid: 9_001,
            name: "floor".into(),
            relation,
            command: Some(Command::Select),
            roles: vec![client],
            ..Policy::default()
        };
        world.snapshot.policies.push(floor.clone());
        assert_eq!(world.details(&RULE), [""; 0], "without the privilege it is idle");
        world.grant("public.job_queue", client, Privileges::SELECT);
        assert_eq!(
            world.details(&RULE),
            ["warning: Restrictive policy floor on table public.job_queue lets role \
              \"authenticated\" SELECT no row: no permissive policy applies besides it."]
        );
        let own = Policy { oid: 9_002, name: "own".into(), permissive: true, ..floor };
        world.snapshot.policies.push(own);
        assert_eq!(world.details(&RULE), [""; 0]);
    }
}

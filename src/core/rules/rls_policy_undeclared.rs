//! A policy allows a client a command that the contract does not declare.

use super::context::Context;
use super::shared::policies;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_policy_undeclared",
    title: "A policy opens a table to a client beyond the contract",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    section: "7",
    checks: "No permissive policy applies to a client role for a command that the contract does \
             not declare.",
    why: "Permissive policies are combined with OR: a single additional policy makes rows visible \
          that all other policies exclude.",
    fix: "Drop the policy, or remove the client from its roles.",
    exempt: "A policy that is created before the client is granted a privilege on the table.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE POLICY mine ON public.plaintiffs FOR UPDATE TO authenticated USING \
                    (status = 'new');",
        correct: "CREATE POLICY mine ON public.plaintiffs AS RESTRICTIVE FOR UPDATE TO \
                  authenticated USING (status = 'new');",
    },
    references: &["CIS PostgreSQL Benchmark 4.7", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    policies::report_undeclared(cx, |policy| !policy.always_true, "", out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, PUBLIC, Policy};

    #[test]
    fn undeclared_policy_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let (judgments, queue) =
            (world.relation("public.judgments").oid, world.relation("public.job_queue").oid);
        let policy = |name: &str, relation, command, roles| Policy {
            oid: 0,
            name: name.into(),
            relation,
            command,
            permissive: true,
            roles,
            always_true: false,
            unchecked: false,
        };
        world.snapshot.policies.push(policy(
            "mine",
            judgments,
            Some(Command::Select),
            vec![PUBLIC],
        ));
        world.snapshot.policies.push(policy("all", queue, None, vec![anon]));
        assert_eq!(
            world.found(&RULE),
            [
                "error policy all on public.job_queue anon: Policy \"all\" on table \
                 public.job_queue allows role \"anon\" to SELECT, INSERT, \
                 UPDATE, DELETE, which the contract does not declare. => DROP POLICY \"all\" ON \
                 public.job_queue;",
                "error policy mine on public.judgments anon: Policy mine on table public.judgments \
                 allows role \"anon\" to SELECT, which the \
                 contract does not declare. => ALTER POLICY mine ON public.judgments TO \
                 authenticated, service_role;"
            ]
            .map(|s| s.replace("policy all on", "policy \"all\" on"))
        );
    }
}

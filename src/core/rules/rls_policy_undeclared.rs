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
             not declare. A policy for PUBLIC counts only for roles that have the privilege, and \
             one that requires an authenticated caller not for the role of anonymous requests.",
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
    use crate::catalog::{Command, PUBLIC, Policy, Privileges};

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
            requires_authentication: false,
        };
        world.snapshot.policies.push(policy(
            "mine",
            judgments,
            Some(Command::Select),
            vec![PUBLIC],
        ));
        world.snapshot.policies.push(policy("all", queue, None, vec![anon]));
        assert_eq!(world.found(&RULE).len(), 1, "anon has no privilege on judgments");
        world.grant("public.judgments", anon, Privileges::SELECT);
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
                 authenticated, service_role, postgres;"
            ]
            .map(|s| s.replace("policy all on", "policy \"all\" on"))
        );
        // An anonymous caller cannot satisfy the condition.
        let mine = |p: &&mut Policy| p.name == "mine";
        world
            .snapshot
            .policies
            .iter_mut()
            .filter(mine)
            .for_each(|p| p.requires_authentication = true);
        assert_eq!(world.found(&RULE).len(), 1);
    }

    #[test]
    fn policy_for_public_keeps_the_owners_of_views() {
        let mut world = World::conforming();
        let (anon, judgments) = (world.role("anon").oid, world.relation("public.judgments").oid);
        world.add_role("view_owner");
        let view_owner = world.role("view_owner").oid;
        for role in [anon, view_owner] {
            world.grant("public.judgments", role, Privileges::SELECT);
        }
        world.snapshot.policies.push(Policy {
            name: "mine".into(),
            relation: judgments,
            command: Some(Command::Select),
            permissive: true,
            roles: vec![PUBLIC],
            ..Policy::default()
        });
        assert_eq!(
            world.fixes(&RULE),
            [
                "ALTER POLICY mine ON public.judgments TO authenticated, service_role, view_owner, postgres;"
            ]
        );
    }
}

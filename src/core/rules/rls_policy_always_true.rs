//! A policy whose condition is always true allows a client more than the contract declares.

use super::context::Context;
use super::shared::policies;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_policy_always_true",
    title: "A policy that is always true opens a table to a client beyond the contract",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No permissive policy whose condition is constantly true applies to a client role \
             for a command that the contract does not declare, for which a policy with a \
             condition also applies to it, or that all_rows of the table omits. On a table where \
             no client has a privilege to access rows, and the contract declares none, the policy \
             opens nothing and is only information; the GRANT that changes this is a violation.",
    why: "With USING (true), row security is enabled but every row is visible. Permissive policies \
          are combined with OR: next to it, the condition of another policy restricts nothing.",
    fix: "Drop the policy, remove the client from its roles, or give it a condition.",
    exempt: "A table whose rows are public. Declare the policy's command for the role, and in \
             all_rows, instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE POLICY anybody ON public.plaintiff_contacts FOR SELECT TO anon USING \
                    (1 = 1);",
        correct: "CREATE POLICY worker ON public.plaintiff_contacts FOR SELECT TO service_role \
                  USING (1 = 1);",
    },
    references: &["splinter 0024_permissive_rls_policy", "CIS PostgreSQL Benchmark 4.7", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    policies::report_undeclared(
        cx,
        |policy| policy.always_true,
        "; its condition is always true, so it applies to every row",
        out,
    );
    policies::report_overriding(cx, out);
    policies::report_opened(cx, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, PUBLIC, Policy, Privileges};
    use crate::contract::{Severity, TablePrivilege};

    #[test]
    fn undeclared_policy_that_is_always_true_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0], "a declared policy may be always true");
        let (anon, relation) =
            (world.role("anon").oid, world.relation("public.plaintiff_contacts").oid);
        world.snapshot.policies.push(Policy {
            oid: 0,
            name: "p".into(),
            relation,
            command: Some(Command::Select),
            permissive: true,
            roles: vec![anon],
            always_true: true,
            unchecked: false,
            has_check: false,
            requires_authentication: false,
            asks_memberships: false,
            never_true: false,
            rejects_new_rows: false,
        });
        assert_eq!(
            world.found(&RULE),
            ["error policy p on public.plaintiff_contacts anon: Policy p on table \
                 public.plaintiff_contacts allows role \"anon\" \
              to SELECT, which the contract does not declare; its condition is always true, so it \
              applies to every row. \
              => DROP POLICY p ON public.plaintiff_contacts;"]
        );
    }

    #[test]
    fn policy_that_opens_a_table_to_several_clients_is_one_finding() {
        let mut world = World::conforming();
        let relation = world.relation("public.plaintiff_contacts").oid;
        let clients = ["authenticated", "anon"].map(|name| world.role(name).oid);
        world.snapshot.policies.push(Policy {
            name: "p".into(),
            relation,
            command: Some(Command::Update),
            permissive: true,
            roles: clients.into(),
            always_true: true,
            ..Policy::default()
        });
        let findings = world.findings(&RULE);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].roles, ["anon", "authenticated"]);
        assert_eq!(
            findings[0].detail,
            "Policy p on table public.plaintiff_contacts allows roles \"anon\" and \
             \"authenticated\" to UPDATE, which the contract does not declare; its condition is \
             always true, so it applies to every row."
        );
        assert_eq!(
            findings[0].fix.sql().as_deref(),
            Some("DROP POLICY p ON public.plaintiff_contacts;")
        );
    }

    #[test]
    fn policy_on_a_table_without_privileges_of_clients_is_information() {
        let mut world = World::conforming();
        let (anon, queue) = (world.role("anon").oid, world.relation("public.job_queue").oid);
        world.snapshot.policies.push(Policy {
            name: "idle".into(),
            relation: queue,
            permissive: true,
            roles: vec![PUBLIC],
            always_true: true,
            ..Policy::default()
        });
        let severities = |world: &World| -> Vec<Severity> {
            world.findings(&RULE).iter().map(|finding| finding.severity).collect()
        };
        assert_eq!(severities(&world), [Severity::Info]);
        assert!(
            world.findings(&RULE)[0].detail.ends_with(
                " applies to every row. It opens nothing while no client can access rows of the \
                 table."
            ),
            "{:?}",
            world.findings(&RULE)
        );
        let mut declared = world.clone();
        let table = declared.contract.tables.iter_mut().find(|t| t.name == "job_queue").unwrap();
        table.grants.insert("anon".into(), vec![TablePrivilege::Delete]);
        assert_eq!(severities(&declared), [Severity::Error], "the GRANT may follow");
        let mut on_column = world.clone();
        on_column.grant_column("public.job_queue", "id", anon, Privileges::SELECT);
        assert_eq!(severities(&on_column), [Severity::Error]);
        world.grant("public.job_queue", anon, Privileges::REFERENCES);
        assert_eq!(severities(&world), [Severity::Info]);
        world.grant("public.job_queue", anon, Privileges::UPDATE);
        assert_eq!(severities(&world), [Severity::Error]);
    }

    #[test]
    fn policy_that_overrides_a_condition_is_reported() {
        let mut world = World::conforming();
        let (authenticated, relation) =
            (world.role("authenticated").oid, world.relation("public.judgments").oid);
        world.snapshot.policies.push(Policy {
            name: "mine".into(),
            relation,
            permissive: true,
            roles: vec![authenticated],
            ..Policy::default()
        });
        assert_eq!(
            world.found(&RULE),
            ["error policy \"authenticated SELECT\" on public.judgments authenticated: Policy \
              \"authenticated SELECT\" on table public.judgments allows role \"authenticated\" to \
              SELECT every row, because its condition is always true; the condition of policy mine \
              restricts nothing."]
        );
        assert!(world.findings(&RULE)[0].fix.sql().is_none(), "a person decides");
        world.snapshot.policies.last_mut().unwrap().permissive = false;
        assert_eq!(world.found(&RULE), [""; 0], "a restrictive policy is combined with AND");
    }
}

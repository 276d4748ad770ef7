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
    checks: "No permissive policy applies to a client role for a command that the contract does \
             not declare. A policy for PUBLIC counts only for roles that have the privilege, and \
             one that requires an authenticated caller, itself or by a function that it calls, \
             not for the role of anonymous requests. On a table that is not declared and that no \
             client can access, such a policy is information.",
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
    use crate::catalog::{
        Command, Exposure, Oid, PUBLIC, Policy, PolicyExposure, Privileges, Rows,
    };
    use crate::contract::RoleKind;
    use crate::fix::Fix;
    use std::rc::Rc;

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
            has_check: false,
            requires_authentication: false,
            asks_memberships: false,
            never_true: false,
            rejects_new_rows: false,
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
                "info policy all on public.job_queue anon: Policy \"all\" on table \
                 public.job_queue allows role \"anon\" to SELECT, INSERT, \
                 UPDATE, DELETE, which the contract does not declare. It opens nothing while no \
                 client can access rows of the table. => DROP POLICY \"all\" ON \
                 public.job_queue;",
                "error policy mine on public.judgments anon: Policy mine on table public.judgments \
                 allows role \"anon\" to SELECT, which the \
                 contract does not declare. => ALTER POLICY mine ON public.judgments TO \
                 authenticated, postgres;"
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

    fn policy(relation: Oid, name: &str, roles: Vec<Oid>) -> Policy {
        let command = Some(Command::Select);
        let name = name.into();
        Policy { name, relation, command, permissive: true, roles, ..Policy::default() }
    }

    #[test]
    fn policy_that_a_granted_privilege_needs_is_not_dropped() {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        table.policies.remove("authenticated");
        let fixes: Vec<Fix> = world.findings(&RULE).into_iter().map(|f| f.fix).collect();
        assert_eq!(fixes, [], "the policy of the world is always true");
        let judgments = world.relation("public.judgments").oid;
        world.snapshot.policies.retain(|p| p.relation != judgments);
        let authenticated = world.role("authenticated").oid;
        world.snapshot.policies.push(policy(judgments, "own", vec![authenticated]));
        let Fix::Proposal(proposal) = world.findings(&RULE)[0].fix.clone() else {
            panic!("a proposal")
        };
        let lines: Vec<&str> = proposal.lines().collect();
        assert!(
            lines[0].starts_with(
                "The contract grants role \"authenticated\" SELECT on table public.judgments, but \
                 declares no policy that admits it"
            ),
            "{lines:?}"
        );
        assert_eq!(
            lines[1..],
            [
                "CREATE POLICY \"authenticated select\" ON public.judgments FOR SELECT TO \
                 authenticated USING (...);",
                "DROP POLICY own ON public.judgments;",
            ]
        );
    }

    #[test]
    fn policy_keeps_workers_and_owners_of_views_that_it_served() {
        let mut world = World::conforming();
        world.add_role("staff");
        world.add_role("reporting");
        world.role("service_role").bypass_rls = false;
        let [staff, reporting] = ["staff", "reporting"].map(|name| world.role(name).oid);
        for member in ["anon", "service_role", "reporting"] {
            world.grant_role("staff", member);
        }
        world.relation("public.v_judgment_pipeline").owner = reporting;
        let queue = world.relation("public.job_queue").oid;
        world.snapshot.policies.push(policy(queue, "p", vec![staff]));
        assert_eq!(
            world.fixes(&RULE),
            ["ALTER POLICY p ON public.job_queue TO service_role, reporting;"]
        );
    }

    #[test]
    fn policy_on_an_undeclared_table_that_no_client_reaches_is_information() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let queue = world.relation("public.job_queue").oid;
        world.relation("public.job_queue").name = "job_queue_old".into();
        world.snapshot.policies.push(policy(queue, "p", vec![anon]));
        assert!(world.found(&RULE)[0].starts_with("info policy p on public.job_queue_old anon"));
        world.grant("public.job_queue_old", anon, Privileges::SELECT);
        assert!(world.found(&RULE)[0].starts_with("error policy p on public.job_queue_old anon"));
    }

    /// Returns a world in which a policy of judgments for PUBLIC lets anon through as `exposure`
    /// says.
    fn exposed(exposure: Exposure) -> World {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let judgments = world.relation("public.judgments").oid;
        world.grant("public.judgments", anon, Privileges::SELECT);
        let oid = 9_000;
        world.snapshot.policies.push(Policy { oid, ..policy(judgments, "p", vec![PUBLIC]) });
        let (command, rows) = (Command::Select, Rows::Existing);
        let (covered_by, triggers) = (None, Rc::default());
        let exposure = exposure.into();
        let of = PolicyExposure {
            policy: oid,
            role: anon,
            command,
            rows,
            exposure,
            covered_by,
            triggers,
        };
        world.snapshot.exposures = vec![of].into();
        world
    }

    #[test]
    fn policy_for_public_that_lets_no_row_through_does_not_count() {
        let values_of_caller = ["auth.uid()".to_owned()].into();
        let never = Exposure { is_never_true: true, values_of_caller, ..Exposure::default() };
        assert_eq!(exposed(never.clone()).found(&RULE), [""; 0]);
        let relation = || ["public.m".to_owned()].into();
        for undecided in [
            Exposure::default(),
            Exposure { unknown: ["f()".to_owned()].into(), ..Exposure::default() },
            // It does not ask who the caller is.
            Exposure { is_never_true: true, ..Exposure::default() },
            // They may be readable later.
            Exposure { hidden: relation(), ..never.clone() },
            Exposure { denied: relation(), ..never.clone() },
            Exposure { recursive: relation(), ..never.clone() },
        ] {
            assert_eq!(exposed(undecided).found(&RULE).len(), 1);
        }
        let mut named = exposed(never);
        let anon = named.role("anon").oid;
        let policies = named.snapshot.policies.iter_mut();
        policies.filter(|of| of.oid == 9_000).for_each(|of| of.roles = vec![anon]);
        assert_eq!(named.found(&RULE).len(), 1, "the role is named");
    }

    #[test]
    fn roles_without_a_use_for_a_policy_are_not_named() {
        let fixes = |change: &dyn Fn(&mut World)| {
            let mut world = exposed(Exposure::default());
            let names = ["service_role", "postgres"];
            names.iter().for_each(|name| world.role(name).bypass_rls = false);
            world.add_login("web");
            world.declare("web", RoleKind::Login);
            world.grant_role_without_inherit("anon", "web");
            change(&mut world);
            world.fixes(&RULE).concat()
        };
        let all = "ALTER POLICY p ON public.judgments TO authenticated, service_role, postgres;";
        assert_eq!(fixes(&|_| ()), all);
        let with_login =
            "ALTER POLICY p ON public.judgments TO authenticated, service_role, web, postgres;";
        let grant = |world: &mut World| {
            let web = world.role("web").oid;
            world.grant("public.judgments", web, Privileges::SELECT);
        };
        assert_eq!(fixes(&grant), with_login);
        let bypass = |world: &mut World| world.role("postgres").bypass_rls = true;
        assert_eq!(fixes(&bypass), all.replace(", postgres", ""));
    }

    #[test]
    fn restrictive_policy_is_not_reported() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let judgments = world.relation("public.judgments").oid;
        let restrictive = Policy { permissive: false, ..policy(judgments, "r", vec![anon]) };
        world.snapshot.policies.push(restrictive);
        assert_eq!(world.found(&RULE), [""; 0]);
    }
}

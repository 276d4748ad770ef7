//! A policy has no effect for the roles that it names.

use super::context::Context;
use super::shared::policies::policy_object;
use crate::catalog::{Command, PUBLIC, Policy, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_dead",
    title: "A policy has no effect for the roles that it names",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each permissive policy that names roles applies to one that row security limits and \
             that has a privilege for a command of the policy, or the contract declares the policy \
             with the privilege, or that the role bypasses row security.",
    why: "The policy looks as if it opened or restricted something. A privilege that is granted \
          later makes it effective, when it is not thought of.",
    fix: "Drop the policy, or grant the privilege that it is for.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE POLICY idle ON intake.simplicity_raw FOR SELECT TO pg_monitor USING \
                    (row_number = 1);",
        correct: "CREATE POLICY idle ON intake.simplicity_raw FOR SELECT TO service_role USING \
                  (row_number = 1);",
    },
    references: &["CWE-1164"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(relation, _)| relation.row_security) {
        let declared = cx.contract.table(&schema.name, &relation.name);
        // Where the contract declares the privilege as well, it is missing by another rule.
        let is_declared = |role: &Role, command: Command| {
            let commands = declared.map(|of| of.policy_commands(&role.name)).unwrap_or_default();
            let privileges = cx.declared_on_some_column(relation, schema, role);
            commands.contains(&command) && privileges.contains(command.privilege())
        };
        let policies = cx.snapshot.policies_of(relation.oid).iter();
        for policy in policies.filter(|of| of.permissive && !of.roles.contains(&PUBLIC)) {
            let roles = policy.roles.iter().filter_map(|role| cx.snapshot.role(*role));
            let roles: Vec<&Role> = roles.collect();
            // That row security does not apply to a worker may be what the contract declares.
            let bypasses = |role: &&Role| {
                cx.contract.role(&role.name).is_some_and(|of| of.bypass_rls == Some(true))
            };
            let is_declared = roles.iter().any(bypasses)
                || roles.iter().any(|role| policy.commands().iter().any(|c| is_declared(role, *c)));
            let reasons: Option<Vec<String>> =
                roles.iter().map(|role| reason(cx, policy, relation, role)).collect();
            let Some(reasons) = reasons.filter(|all| !all.is_empty() && !is_declared) else {
                continue;
            };
            let (name, table) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
            let detail =
                format!("Policy {name} on table {table} has no effect: {}.", reasons.join("; "));
            let proposal = format!("{}\nDROP POLICY {name} ON {table};", RULE.fix);
            let draft = Draft::new(policy_object(cx, policy, relation), Severity::Info, detail);
            out.push(draft.evidence(json!({"reasons": reasons})).fix(Fix::Proposal(proposal)));
        }
    }
}

/// Returns why a policy has no effect for a role; `None` where it has one.
fn reason(cx: &Context<'_>, policy: &Policy, relation: &Relation, role: &Role) -> Option<String> {
    let name = printable(&role.name);
    if !cx.access.is_limited_by_policies(role.oid, relation) {
        return Some(format!("row security does not apply to role \"{name}\""));
    }
    let commands = policy.commands();
    let has_one = |of: &Role| {
        commands.iter().any(|one| cx.has_privilege_on_a_column(of, relation, one.privilege()))
    };
    // The policy is also for the members that inherit the role, which may have what it has not.
    let members = cx.snapshot.roles.iter().filter(|of| {
        !of.superuser && of.oid != role.oid && cx.access.has_privileges_of(of.oid, role.oid)
    });
    if has_one(role) || members.into_iter().any(has_one) {
        return None;
    }
    let words: Vec<&str> = commands.iter().map(|command| command.as_str()).collect();
    Some(format!("role \"{name}\" does not have {} on the table", words.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Policy, Privileges};

    #[test]
    fn policy_without_a_privilege_is_reported() {
        let mut world = World::conforming();
        world.add_role("reporter");
        let (relation, role) = (world.relation("public.job_queue").oid, world.role("reporter").oid);
        world.snapshot.policies.push(Policy {
            oid: 9_000,
            name: "idle".into(),
            relation,
            command: Some(Command::Select),
            permissive: true,
            roles: vec![role],
            ..Policy::default()
        });
        assert_eq!(
            world.details(&RULE),
            ["info: Policy idle on table public.job_queue has no effect: role \"reporter\" \
                 does not \
              have SELECT on the table."]
        );
        let mut switched = world.clone();
        switched.add_login("gateway");
        switched.grant_role_without_inherit("reporter", "gateway");
        let gateway = switched.role("gateway").oid;
        switched.grant("public.job_queue", gateway, Privileges::SELECT);
        assert_eq!(switched.details(&RULE).len(), 1, "the policy is not for it");
        switched.grant_role("reporter", "gateway");
        assert_eq!(switched.details(&RULE), [""; 0]);
        let mut exempt = world.clone();
        exempt.role("reporter").bypass_rls = true;
        assert_eq!(
            exempt.details(&RULE),
            ["info: Policy idle on table public.job_queue has no effect: row security does not \
              apply to role \"reporter\"."]
        );
        world.grant("public.job_queue", role, Privileges::SELECT);
        assert_eq!(world.details(&RULE), [""; 0]);
    }
}

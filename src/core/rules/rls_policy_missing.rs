//! A declared policy is missing or allows no row, so that a role sees no rows, without an error.

use super::context::Context;
use super::shared::row_security::is_admitted;
use crate::catalog::{Command, Relation, Role};
use crate::contract::{GuardAction, Severity, TableDecl};
use crate::finding::{Draft, Measure};
use crate::fix::{Fix, create_policy};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_policy_missing",
    title: "A declared policy is missing",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    checks: "For every command that the contract declares for a role on a table with row \
             security, a permissive policy applies. Policies whose condition is never true, such \
             as USING (false), do not count, and no restrictive policy of this kind applies.",
    why: "With row security enabled and no policy that allows a row, the role sees no rows and \
          gets no error.",
    fix: "Create the policy, or give it a condition; the condition has to be written by a person.",
    exempt: "A table that is not in use yet.",
    exempt_by_pattern: true,
    example: Example {
        violating: "DROP POLICY batches_upload ON intake.simplicity_batches;",
        correct: "ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
                  (rows_total = 0);",
    },
    references: &["splinter 0008_rls_enabled_no_policy", "CIS PostgreSQL Benchmark 4.7"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for table in &cx.contract.tables {
        let Some(schema) = cx.snapshot.schema_named(&table.schema) else { continue };
        let Some(relation) = cx.snapshot.relation_named(schema.oid, &table.name) else { continue };
        for name in table.policies.keys() {
            let Some(role) = cx.snapshot.role_named(name) else { continue };
            // A role that bypasses row security needs no policy; role_attributes checks one that
            // should.
            let declared = cx.contract.roles.iter().find(|r| r.name == *name);
            if role.bypass_rls
                || role.superuser
                || declared.is_some_and(|r| r.bypass_rls == Some(true))
            {
                continue;
            }
            let commands: Vec<Command> = table
                .policy_commands(name)
                .into_iter()
                .filter(|c| !is_admitted(cx, relation, role.oid, *c))
                .collect();
            closed(cx, relation, role, table, out);
            if commands.is_empty() {
                continue;
            }
            let missing: Vec<&str> = commands.iter().map(|c| c.as_str()).collect();
            let sql = cx.snapshot.relation_sql(relation);
            let proposal = commands
                .iter()
                .map(|c| create_policy(&sql, role, *c))
                .collect::<Vec<_>>()
                .join("\n");
            let detail = format!(
                "No policy on table {sql} allows role \"{}\" to {}, which the contract declares.",
                printable(name),
                missing.join(", ")
            );
            let draft = Draft::new(cx.relation_object(relation), Severity::Error, detail)
                .role(&role.name)
                .key(missing.join(", "))
                .evidence(json!({"commands": missing}))
                .fix(Fix::Proposal(proposal))
                .measure(Measure::missing("", missing));
            out.push(draft);
        }
    }
}

/// Adds a finding for each restrictive policy that excludes every row for declared commands of a
/// role, because its condition is never true.
fn closed(
    cx: &Context<'_>,
    relation: &Relation,
    role: &Role,
    table: &TableDecl,
    out: &mut Vec<Draft>,
) {
    for policy in cx.snapshot.policies_of(relation.oid).iter().filter(|p| !p.permissive) {
        let excludes = |command: &Command| {
            policy.covers(*command)
                && policy.is_for_no_rows(*command)
                && cx.access.policy_applies(policy, role.oid)
        };
        let commands = table.policy_commands(&role.name).into_iter().filter(excludes);
        let words: Vec<&str> = commands.map(Command::as_str).collect();
        if words.is_empty() {
            continue;
        }
        let (name, sql) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
        let detail = format!(
            "Restrictive policy {name} on table {sql} excludes every row for role \"{}\" in {}, \
             which the contract declares: its condition is never true.",
            printable(&role.name),
            words.join(", ")
        );
        let proposal = format!(
            "Give the policy a condition, or drop it, which opens rows:\n\
             ALTER POLICY {name} ON {sql} USING (...);"
        );
        let draft = Draft::new(cx.relation_object(relation), Severity::Error, detail)
            .role(&role.name)
            .key(format!("closed by {name}: {}", words.join(", ")))
            .evidence(json!({"commands": words, "policy": policy.name}))
            .fix(Fix::Proposal(proposal))
            .measure(Measure::missing(format!("closed by {name}"), words));
        out.push(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Policy};

    #[test]
    fn declared_command_without_a_policy_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let batches = world.relation("intake.simplicity_batches").oid;
        world.snapshot.policies.retain(|p| !(p.relation == batches && p.covers(Command::Insert)));
        assert_eq!(
            world.found(&RULE),
            ["error table intake.simplicity_batches authenticated: No policy on table \
                 intake.simplicity_batches allows role \
              \"authenticated\" to INSERT, which the contract declares."]
        );
    }

    #[test]
    fn policy_that_is_never_true_does_not_count_and_a_restrictive_one_closes() {
        let mut world = World::conforming();
        let relation = world.relation("intake.simplicity_batches").oid;
        let is_insert = |p: &Policy| p.relation == relation && p.covers(Command::Insert);
        let at = world.snapshot.policies.iter().position(is_insert).unwrap();
        let closes = |policy: &mut Policy, on| {
            (policy.never_true, policy.rejects_new_rows) = (on, on);
        };
        closes(&mut world.snapshot.policies[at], true);
        assert_eq!(
            world.found(&RULE),
            ["error table intake.simplicity_batches authenticated: No policy on table \
              intake.simplicity_batches allows role \"authenticated\" to INSERT, which the \
              contract declares."]
        );
        let closing = Policy {
            oid: 9001,
            name: "closed".into(),
            permissive: false,
            roles: vec![crate::catalog::PUBLIC],
            ..world.snapshot.policies[at].clone()
        };
        closes(&mut world.snapshot.policies[at], false);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.policies.push(closing);
        assert_eq!(
            world.found(&RULE),
            ["error table intake.simplicity_batches authenticated: Restrictive policy closed on \
              table intake.simplicity_batches excludes every row for role \"authenticated\" in \
              INSERT, which the contract declares: its condition is never true."]
        );
    }
}

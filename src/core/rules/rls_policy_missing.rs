//! A declared policy is missing, so that a role sees no rows, without an error.

use super::context::Context;
use super::shared::row_security::is_admitted;
use crate::catalog::Command;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Fix, create_policy};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::printable;
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
    section: "7",
    checks: "For every command that the contract declares for a role on a table with row \
             security, a permissive policy applies.",
    why: "With row security enabled and no policy that applies, the role sees no rows and gets no \
          error.",
    fix: "Create the policy; its condition has to be written by a person.",
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

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn declared_command_without_a_policy_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let batches = world.relation("intake.simplicity_batches").oid;
        world
            .snapshot
            .policies
            .retain(|p| !(p.relation == batches && p.covers(crate::catalog::Command::Insert)));
        assert_eq!(
            world.found(&RULE),
            ["error table intake.simplicity_batches authenticated: No policy on table \
                 intake.simplicity_batches allows role \
              \"authenticated\" to INSERT, which the contract declares."]
        );
    }
}

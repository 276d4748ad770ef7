//! A policy that the contract declares is not there: the role gets no rows, without an error.

use super::{Area, Context, Rule};
use crate::catalog::{Command, PUBLIC, Policy, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::Mend;
use crate::sql::{printable, safe_ident};
use serde_json::json;

pub(super) static RULE: Rule = Rule {
    id: "rls_policy_missing",
    title: "A declared row security policy is missing",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "7",
    why: "With row security on and no policy that applies, the role sees nothing, and no error says so.",
    mend: "CREATE POLICY; its condition is for a person to say.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for table in &cx.contract.tables {
        let Some(schema) = cx.snapshot.schema_named(&table.schema) else { continue };
        let Some(relation) = cx.snapshot.relation_named(schema.oid, &table.name) else { continue };
        for name in table.policies.keys() {
            let Some(role) = cx.snapshot.role_named(name) else { continue };
            // A role that bypasses row security needs no policy, and one that should is the matter of role_attributes.
            let declared = cx.contract.roles.iter().find(|r| r.name == *name);
            if role.bypass_rls || role.superuser || declared.is_some_and(|r| r.bypass_rls == Some(true)) {
                continue;
            }
            let commands: Vec<Command> =
                table.policy_commands(name).into_iter().filter(|c| !is_open(cx, relation, role, *c)).collect();
            if commands.is_empty() {
                continue;
            }
            let missing: Vec<&str> = commands.iter().map(|c| c.word()).collect();
            let sql = cx.snapshot.relation_sql(relation);
            let proposal = commands.iter().map(|c| create_policy(&sql, role, *c)).collect::<Vec<_>>().join("\n");
            out.push(Draft {
                object: cx.relation_object(relation),
                role: Some(role.name.clone()),
                severity: Severity::Error,
                key: missing.join(", "),
                measure: Measure::lack("", missing.clone()),
                detail: format!(
                    "No policy of table {sql} lets role \"{}\" {}, which the contract declares.",
                    printable(name),
                    missing.join(", ")
                ),
                evidence: json!({"commands": missing}),
                mend: Mend::Proposal(proposal),
            });
        }
    }
}

/// A policy that would let a role do something with the rows of a table, its condition left open.
pub(crate) fn create_policy(table: &str, role: &Role, command: Command) -> String {
    let word = command.word();
    let condition = match command {
        Command::Insert => "WITH CHECK (...)",
        Command::Update => "USING (...) WITH CHECK (...)",
        Command::Select | Command::Delete => "USING (...)",
    };
    let name = format!("{} {}", role.name, word.to_lowercase());
    format!("CREATE POLICY {} ON {table} FOR {word} TO {} {condition};", safe_ident(&name), safe_ident(&role.name))
}

/// Some permissive policy opens the command to the role.
fn is_open(cx: &Context<'_>, relation: &Relation, role: &Role, command: Command) -> bool {
    let applies = |policy: &&Policy| policy.permissive && policy.covers(command) && applies_to(cx, policy, role);
    cx.snapshot.policies_of(relation.oid).iter().find(applies).is_some()
}

/// Whether a policy applies to a role (rowsecurity.c, `check_role_for_policy`).
pub(crate) fn applies_to(cx: &Context<'_>, policy: &Policy, role: &Role) -> bool {
    policy.roles.iter().any(|named| *named == PUBLIC || cx.access.has_privileges_of(role.oid, *named))
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn a_declared_command_needs_a_policy() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let batches = world.relation("intake.simplicity_batches").oid;
        world.snapshot.policies.retain(|p| !(p.relation == batches && p.covers(crate::catalog::Command::Insert)));
        assert_eq!(
            world.found(&RULE),
            ["error table intake.simplicity_batches authenticated: No policy of table intake.simplicity_batches lets role \
              \"authenticated\" INSERT, which the contract declares."]
        );
    }
}

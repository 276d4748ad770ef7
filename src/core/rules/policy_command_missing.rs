//! A client has a privilege for which its table has no policy.

use super::context::Context;
use crate::catalog::{Command, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_command_missing",
    title: "A client has a privilege for which its table has no policy",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "A client with a policy for SELECT on a table has one for each other command that the \
             contract grants it, or the contract declares that policy, which is then missing.",
    why: "The command affects no row, or fails for INSERT. Where that is meant, the privilege is \
          not needed; a policy that is created for another purpose makes it effective.",
    fix: "Revoke the privilege, or create the policy that it is for.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('GRANT DELETE ON intake.simplicity_batches TO \
                    authenticated', 'uploads are withdrawn');\n\
                    GRANT DELETE ON intake.simplicity_batches TO authenticated;",
        correct: "REVOKE DELETE ON intake.simplicity_batches FROM authenticated;",
    },
    references: &["CWE-1164"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(relation, _)| relation.row_security) {
        let declared = cx.contract.table(&schema.name, &relation.name);
        for client in cx.clients_reaching(relation) {
            let mut missing = missing(cx, relation, client);
            if missing.is_empty() {
                continue;
            }
            let of_contract = declared.map(|of| of.policy_commands(&client.name));
            // A privilege that the contract does not declare is a finding of another rule.
            let granted = cx.declared_on_some_column(relation, schema, client);
            missing.retain(|command| granted.contains(command.privilege()));
            // A policy that the contract declares is missing by another rule.
            missing.retain(|command| !of_contract.as_ref().is_some_and(|of| of.contains(command)));
            if missing.is_empty() {
                continue;
            }
            let words: Vec<&str> = missing.iter().map(|command| command.as_str()).collect();
            let predicate = Predicate {
                verb: Verb::Has,
                rest: format!(
                    "{} on table {} and no policy for it, only for other commands.",
                    words.join(", "),
                    cx.snapshot.relation_sql(relation)
                ),
            };
            let grantee = (client.oid, client.name.as_str());
            let object = cx.relation_object(relation);
            out.push(
                Draft::of_grantee(object, Severity::Info, grantee, predicate)
                    .key(words.join(", "))
                    .evidence(json!({"commands": words}))
                    .fix(Fix::Proposal(RULE.fix.to_owned()))
                    .measure(Measure::missing("", words)),
            );
        }
    }
}

/// Returns the commands that a client has the privilege for and no policy, on a table on which it
/// has one for SELECT.
fn missing(cx: &Context<'_>, relation: &Relation, client: &Role) -> Vec<Command> {
    let policies = cx.snapshot.policies_of(relation.oid);
    let is_admitted = |command: Command| {
        policies.iter().any(|p| p.permissive && cx.policy_admits(p, relation, client, command))
    };
    if !is_admitted(Command::Select) || !cx.access.is_limited_by_policies(client.oid, relation) {
        return Vec::new();
    }
    let mut missing = Command::ALL.to_vec();
    missing.retain(|command| {
        cx.has_privilege_on_a_column(client, relation, command.privilege())
            && !is_admitted(*command)
    });
    missing
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;
    use crate::contract::TablePrivilege;

    #[test]
    fn privilege_without_a_policy_is_reported() {
        let mut world = World::conforming();
        let role = world.role("authenticated").oid;
        assert_eq!(world.details(&RULE), [""; 0]);
        world.grant("public.judgments", role, Privileges::DELETE | Privileges::UPDATE);
        assert_eq!(world.details(&RULE), [""; 0], "privileges that are not declared");
        let table = world.contract.tables.iter_mut().find(|table| table.name == "judgments");
        let granted = vec![TablePrivilege::Select, TablePrivilege::Update, TablePrivilege::Delete];
        table.unwrap().grants.insert("authenticated".into(), granted);
        assert_eq!(
            world.details(&RULE),
            ["info: Role \"authenticated\" has UPDATE, DELETE on table public.judgments and no \
              policy for it, only for other commands."]
        );
    }
}

//! A client can write a table by policies, and read no row of it.

use super::context::Context;
use crate::catalog::{Command, Relation, Role};
use crate::contract::TableDecl;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure, Predicate, Verb};
use crate::fix::{Fix, create_policy};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_read_missing",
    title: "A client can write a table by policies, and read no row of it",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "A client with a policy for INSERT, UPDATE or DELETE on a table, and with SELECT on \
             it, also has a policy for SELECT. An INSERT is excused where append_only_by declares \
             the client.",
    why: "INSERT ... RETURNING fails, which every API does that returns the new row. UPDATE and \
          DELETE with WHERE find no row, and report success.",
    fix: "Create a policy for SELECT, or revoke SELECT from the client.",
    exempt: "A table that clients fill and never read. Declare append_only_by for it, or revoke \
             SELECT, instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('DROP POLICY batches_read ON \
                    intake.simplicity_batches;\n\
                    ALTER TABLE intake.simplicity_batches RESET \
                    (contract.append_only_by)', 'uploads are not read');\n\
                    DROP POLICY batches_read ON intake.simplicity_batches;\n\
                    ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub'));",
        correct: "ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
                  (file_name = (SELECT current_setting('request.jwt.claims', true)::json \
                  ->> 'sub'));",
    },
    references: &["CWE-284"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(relation, _)| relation.row_security) {
        let declared = cx.contract.table(&schema.name, &relation.name);
        for client in cx.clients_reaching(relation) {
            let written = written(cx, relation, declared, client);
            if written.is_empty() {
                continue;
            }
            let sql = cx.snapshot.relation_sql(relation);
            let words: Vec<&str> = written.iter().map(|command| command.as_str()).collect();
            let predicate = Predicate {
                verb: Verb::Has,
                rest: format!(
                    "policies for {} on table {sql} and none for SELECT, so that RETURNING fails \
                     and conditions find no row.",
                    words.join(", ")
                ),
            };
            let proposal =
                format!("{}\n{}", RULE.fix, create_policy(&sql, client, Command::Select));
            let grantee = (client.oid, client.name.as_str());
            let object = cx.relation_object(relation);
            out.push(
                Draft::of_grantee(object, Severity::Warning, grantee, predicate)
                    .key(words.join(", "))
                    .evidence(json!({"commands": words}))
                    .fix(Fix::Proposal(proposal))
                    .measure(Measure::missing("", words)),
            );
        }
    }
}

/// Returns the commands with which a client can write a table by policies, where it has SELECT and
/// no policy for it that the contract declares or the table has.
fn written(
    cx: &Context<'_>,
    relation: &Relation,
    declared: Option<&TableDecl>,
    client: &Role,
) -> Vec<Command> {
    let policies = cx.snapshot.policies_of(relation.oid);
    let is_allowed = |command: Command| {
        cx.has_privilege_on_a_column(client, relation, command.privilege())
            && policies
                .iter()
                .any(|p| p.permissive && cx.policy_admits(p, relation, client, command))
    };
    // A policy for SELECT that asks for a user shows those without one no row, as is meant.
    let has_one_for_users = cx.snapshot.is_anonymous(client)
        && policies.iter().any(|policy| {
            policy.permissive
                && policy.covers(Command::Select)
                && cx.access.policy_applies(policy, client.oid)
        });
    let is_reader = !has_one_for_users
        && cx.has_privilege_on_a_column(client, relation, Command::Select.privilege())
        && cx.access.is_limited_by_policies(client.oid, relation)
        && !is_allowed(Command::Select)
        && !declared.is_some_and(|of| of.policy_commands(&client.name).contains(&Command::Select));
    let appends = declared.is_some_and(|of| of.append_only_by.contains(&client.name));
    let mut written = vec![Command::Insert, Command::Update, Command::Delete];
    written.retain(|command| {
        is_reader && is_allowed(*command) && !(appends && *command == Command::Insert)
    });
    written
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Policy, Privileges};

    #[test]
    fn client_that_writes_and_cannot_read_is_reported() {
        let mut world = World::conforming();
        let (relation, role) =
            (world.relation("public.job_queue").oid, world.role("authenticated").oid);
        world.snapshot.policies.push(Policy {
            oid: 9_000,
            name: "add".into(),
            relation,
            command: Some(Command::Insert),
            permissive: true,
            roles: vec![role],
            ..Policy::default()
        });
        world.grant("public.job_queue", role, Privileges::INSERT);
        assert_eq!(world.details(&RULE), [""; 0], "it has no SELECT");
        world.grant("public.job_queue", role, Privileges::SELECT);
        assert_eq!(
            world.details(&RULE),
            ["warning: Role \"authenticated\" has policies for INSERT on table \
                 public.job_queue and \
              none for SELECT, so that RETURNING fails and conditions find no row."]
        );
        let table = world.contract.tables.iter_mut().find(|table| table.name == "job_queue");
        table.unwrap().append_only_by = vec!["authenticated".into()];
        assert_eq!(world.details(&RULE), [""; 0]);
    }
}

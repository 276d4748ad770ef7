//! Permissive policies that allow clients more than the contract declares, or more than another
//! policy intends, for two rules.

use crate::catalog::{Command, Object, ObjectId, Oid, PUBLIC, Policy, Relation, Role};
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rules::context::Context;
use crate::sql::{printable, safe_ident};
use serde_json::json;
use std::collections::HashSet;

/// Adds a finding for each permissive policy selected by `includes` that allows a client a command
/// which the contract does not declare; `remark` is appended to the sentence.
pub(crate) fn report_undeclared(
    cx: &Context<'_>,
    includes: impl Fn(&Policy) -> bool,
    remark: &str,
    out: &mut Vec<Draft>,
) {
    for (relation, schema) in cx.relations() {
        for policy in
            cx.snapshot.policies_of(relation.oid).iter().filter(|p| p.permissive && includes(p))
        {
            for client in cx.clients.iter().copied() {
                let undeclared = undeclared(cx, policy, relation, schema, client);
                if undeclared.is_empty() {
                    continue;
                }
                let words: Vec<&str> = undeclared.iter().map(|c| c.as_str()).collect();
                let sql = format!(
                    "{} on table {}",
                    safe_ident(&policy.name),
                    cx.snapshot.relation_sql(relation)
                );
                let detail = format!(
                    "Policy {sql} allows role \"{}\" to {}, which the contract does not \
                     declare{remark}.",
                    printable(&client.name),
                    words.join(", ")
                );
                let object = policy_object(cx, policy, relation);
                let draft = Draft::new(object, Severity::Error, detail)
                    .role(&client.name)
                    .key(words.join(", "))
                    .evidence(json!({"commands": words, "always_true": policy.always_true}))
                    .fix(fix(cx, policy, relation, schema))
                    .measure(Measure::excess("", words));
                out.push(draft);
            }
        }
    }
}

/// Adds a finding for each policy that is always true and applies to a client together with a
/// conditional policy for a declared command: the condition then restricts nothing.
pub(crate) fn report_overriding(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid);
        for policy in policies.iter().filter(|p| p.permissive && p.always_true) {
            for client in cx.clients.iter().copied() {
                let declared = |command: &Command| {
                    cx.contract
                        .table(&schema.name, &relation.name)
                        .is_some_and(|t| t.policy_commands(&client.name).contains(command))
                };
                let overridden = |command: &Command| {
                    cx.policy_admits(policy, relation, client, *command)
                        && declared(command)
                        && conditional(cx, relation, client, *command).is_some()
                };
                let commands: Vec<Command> = Command::ALL.into_iter().filter(overridden).collect();
                let Some(other) =
                    commands.first().and_then(|c| conditional(cx, relation, client, *c))
                else {
                    continue;
                };
                out.push(overriding(cx, policy, relation, client, &commands, other));
            }
        }
    }
}

/// Returns the first policy that allows a client the command only for rows that satisfy a
/// condition.
pub(crate) fn conditional<'p>(
    cx: &Context<'p>,
    relation: &Relation,
    client: &Role,
    command: Command,
) -> Option<&'p Policy> {
    cx.snapshot.policies_of(relation.oid).iter().find(|policy| {
        policy.permissive
            && !policy.is_for_all_rows(command)
            && cx.policy_admits(policy, relation, client, command)
    })
}

/// Returns the finding about a policy that makes another one ineffective.
fn overriding(
    cx: &Context<'_>,
    policy: &Policy,
    relation: &Relation,
    client: &Role,
    commands: &[Command],
    other: &Policy,
) -> Draft {
    let words: Vec<&str> = commands.iter().map(|c| c.as_str()).collect();
    let (name, table) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
    let detail = format!(
        "Policy {name} on table {table} allows role \"{}\" to {} every row, because its condition \
         is always true; the condition of policy {} restricts nothing.",
        printable(&client.name),
        words.join(", "),
        safe_ident(&other.name)
    );
    let proposal = format!(
        "Without this policy, the role can access only the rows that other policies allow:\n\
         DROP POLICY {name} ON {table};"
    );
    Draft::new(policy_object(cx, policy, relation), Severity::Error, detail)
        .role(&client.name)
        .key(format!("overrides {}", words.join(", ")))
        .evidence(json!({"commands": words, "always_true": true, "overrides": other.name}))
        .fix(Fix::Proposal(proposal))
        .measure(Measure::excess("overrides", words).limited_to(GuardAction::Warn))
}

/// Returns a policy as the object of a finding.
fn policy_object(cx: &Context<'_>, policy: &Policy, relation: &Relation) -> Object {
    Object {
        object_type: "policy",
        identity: cx.snapshot.policy_identity(policy, relation),
        id: ObjectId::Policy(policy.oid),
        ..cx.relation_object(relation)
    }
}

/// Returns the commands that the policy allows the client and the contract does not declare.
fn undeclared(
    cx: &Context<'_>,
    policy: &Policy,
    relation: &Relation,
    schema: &SchemaDecl,
    client: &Role,
) -> Vec<Command> {
    let declared = cx
        .contract
        .table(&schema.name, &relation.name)
        .map_or(vec![], |t| t.policy_commands(&client.name));
    policy
        .commands()
        .into_iter()
        .filter(|c| !declared.contains(c) && cx.policy_admits(policy, relation, client, *c))
        .collect()
}

/// Returns ALTER POLICY without the clients to which the policy should not apply, or DROP POLICY
/// where no role is left. Where the contract declares a part of the commands for a client, the
/// policy must be split, which is a proposal. Where the policy is for PUBLIC, it keeps the other
/// roles with privileges on the table, such as the owners of views.
fn fix(cx: &Context<'_>, policy: &Policy, relation: &Relation, schema: &SchemaDecl) -> Fix {
    let table = cx.snapshot.relation_sql(relation);
    let name = safe_ident(&policy.name);
    let mut keep: Vec<Oid> = Vec::new();
    for client in cx.clients.iter().filter(|c| cx.policy_applies(policy, c)) {
        let lost = undeclared(cx, policy, relation, schema, client).len();
        if lost == 0 {
            keep.push(client.oid);
        } else if lost < policy.commands().len() {
            return Fix::Proposal(format!(
                "Replace it by one policy for each role and its commands:\n\
                 DROP POLICY {name} ON {table};\n\
                 CREATE POLICY ... ON {table} FOR ... TO ... USING (...);"
            ));
        }
    }
    let serves_all = policy.roles.contains(&PUBLIC);
    let others = policy.roles.iter().filter(|r| {
        cx.snapshot.role(**r).is_some()
            && !cx.clients.iter().any(|c| cx.access.has_privileges_of(c.oid, **r))
    });
    keep.extend(others);
    if serves_all {
        keep.extend(cx.workers.iter().map(|w| w.oid));
        keep.extend(other_grantees(cx, relation));
    }
    let mut seen = HashSet::new();
    keep.retain(|role| seen.insert(*role));
    let roles: Vec<String> = keep.iter().map(|r| cx.snapshot.grantee(*r)).collect();
    Fix::by(if keep.is_empty() {
        Statement::with_repeatable(
            Change::DropPolicy(policy.oid),
            format!("DROP POLICY {name} ON {table};"),
            format!("DROP POLICY IF EXISTS {name} ON {table};"),
        )
    } else {
        Statement::new(
            Change::PolicyRoles(policy.oid, keep),
            format!("ALTER POLICY {name} ON {table} TO {};", roles.join(", ")),
        )
    })
}

/// Returns the roles that are neither clients nor workers and have privileges on the table, and the
/// owner that row security is forced on.
fn other_grantees(cx: &Context<'_>, relation: &Relation) -> Vec<Oid> {
    let columns = relation.columns.iter().flat_map(|(_, acl)| acl);
    let grantees = relation.acl.iter().flatten().chain(columns).map(|item| item.grantee);
    let owner = relation.force_row_security.then_some(relation.owner);
    grantees
        .filter(|role| *role != relation.owner)
        .chain(owner)
        .filter(|role| cx.snapshot.role(*role).is_some() && !cx.is_subject(*role))
        .collect()
}

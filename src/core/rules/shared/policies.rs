//! Permissive policies that allow clients more than the contract declares, for two rules.

use crate::catalog::{Command, Object, ObjectId, Oid, PUBLIC, Policy, Relation, Role};
use crate::contract::{SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rules::context::Context;
use crate::sql::{printable, safe_ident};
use serde_json::json;

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
            for client in cx.clients.iter().copied().filter(|c| cx.policy_applies(policy, c)) {
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
                let object = Object {
                    object_type: "policy",
                    identity: cx.snapshot.policy_identity(policy, relation),
                    id: ObjectId::Policy(policy.oid),
                    ..cx.relation_object(relation)
                };
                let detail = format!(
                    "Policy {sql} allows role \"{}\" to {}, which the contract does not \
                     declare{remark}.",
                    printable(&client.name),
                    words.join(", ")
                );
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

/// Returns the commands that the policy covers and the contract does not declare for the client.
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
    policy.commands().into_iter().filter(|c| !declared.contains(c)).collect()
}

/// Returns ALTER POLICY without the clients to which the policy should not apply, or DROP POLICY
/// where no role is left. Where the contract declares a part of the commands for a client, the
/// policy must be split, which is a proposal.
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
    keep.extend(cx.workers.iter().filter(|_| serves_all).map(|w| w.oid));
    keep.dedup();
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

//! What policies open to clients beyond what is declared: both rules about such policies ask here.

use crate::catalog::{Command, Object, ObjectId, Oid, PUBLIC, Policy, Relation, Role};
use crate::contract::{SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rules::context::Context;
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// Writes down each permissive policy of a governed table that opens a command to a client which
/// the contract does not declare, as far as `picks` wants it; `how` says what kind of policy that
/// is.
pub(in crate::rules) fn report_undeclared(
    cx: &Context<'_>,
    picks: impl Fn(&Policy) -> bool,
    how: &str,
    out: &mut Vec<Draft>,
) {
    for (relation, schema) in cx.relations() {
        for policy in
            cx.snapshot.policies_of(relation.oid).iter().filter(|p| p.permissive && picks(p))
        {
            for client in
                cx.clients.iter().copied().filter(|c| cx.access.policy_applies(policy, c.oid))
            {
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
                out.push(Draft {
                    object: Object {
                        object_type: "policy",
                        identity: cx.snapshot.policy_identity(policy, relation),
                        id: ObjectId::Policy(policy.oid),
                        ..cx.relation_object(relation)
                    },
                    role: Some(client.name.clone()),
                    severity: Severity::Error,
                    key: words.join(", "),
                    measure: Measure::surplus("", words.clone()),
                    detail: format!(
                        "Policy {sql} lets role \"{}\" {}{how}, which the contract does not declare.",
                        printable(&client.name),
                        words.join(", ")
                    ),
                    evidence: json!({"commands": words, "always_true": policy.always_true}),
                    fix: fix(cx, policy, relation, schema),
                });
            }
        }
    }
}

/// The commands that the policy covers and the contract does not declare for the client.
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

/// The policy without the clients that it should not serve; its end where nobody is left. Nothing
/// where a client is meant to have a part of what the policy covers: then its split is for a
/// person.
fn fix(cx: &Context<'_>, policy: &Policy, relation: &Relation, schema: &SchemaDecl) -> Fix {
    let table = cx.snapshot.relation_sql(relation);
    let name = safe_ident(&policy.name);
    let mut keep: Vec<Oid> = Vec::new();
    for client in cx.clients.iter().filter(|c| cx.access.policy_applies(policy, c.oid)) {
        let lost = undeclared(cx, policy, relation, schema, client).len();
        if lost == 0 {
            keep.push(client.oid);
        } else if lost < policy.commands().len() {
            return Fix::Proposal(format!(
                "One policy for what each role is meant to do, in place of this one:\nDROP POLICY {name} ON {table};\n\
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
    Fix::by(match keep.is_empty() {
        true => Statement::with_repeatable(
            Change::DropPolicy(policy.oid),
            format!("DROP POLICY {name} ON {table};"),
            format!("DROP POLICY IF EXISTS {name} ON {table};"),
        ),
        false => Statement::new(
            Change::PolicyRoles(policy.oid, keep),
            format!("ALTER POLICY {name} ON {table} TO {};", roles.join(", ")),
        ),
    })
}

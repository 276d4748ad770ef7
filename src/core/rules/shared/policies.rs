//! Permissive policies that allow clients more than the contract declares, or more than another
//! policy intends, for two rules.

use super::reached::{is_for_all_rows, lets_through};
use super::row_security::RowSecurity;
use crate::catalog::{Command, Object, ObjectId, Oid, Policy, Privileges, Relation, Role};
use crate::contract::{SchemaDecl, Severity};
use crate::finding::{Draft, Measure, Predicate, Verb};
use crate::fix::{Change, Fix, Statement, create_policy};
use crate::rules::context::Context;
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// Adds a finding for each permissive policy selected by `includes` that allows clients a command
/// which the contract does not declare; `remark` is appended to the sentence. Clients that it
/// allows the same are one finding.
pub(crate) fn report_undeclared(
    cx: &Context<'_>,
    includes: impl Fn(&Policy) -> bool,
    remark: &str,
    out: &mut Vec<Draft>,
) {
    let row_security = RowSecurity::new(cx);
    for (relation, schema) in cx.relations() {
        let policies = cx.snapshot.policies_of(relation.oid);
        let policies = policies.iter().filter(|p| p.permissive && includes(p));
        let opening = policies.clone().next().map(|_| can_open(cx, relation, schema));
        let (severity, nothing) = match opening {
            Some(true) => (Severity::Error, ""),
            _ => {
                (Severity::Info, " It opens nothing while no client can access rows of the table.")
            }
        };
        for policy in policies {
            for client in cx.clients_of_policy(policy) {
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
                let predicate = Predicate {
                    verb: Verb::Of(format!("Policy {sql} allows")),
                    rest: format!(
                        "to {}, which the contract does not declare{remark}.{nothing}",
                        words.join(", ")
                    ),
                };
                let object = policy_object(cx, policy, relation);
                let grantee = (client.oid, client.name.as_str());
                let draft = Draft::of_grantee(object, severity, grantee, predicate)
                    .key(words.join(", "))
                    .evidence(json!({"commands": words, "always_true": policy.always_true}))
                    .fix(fix(&row_security, policy, (relation, schema)))
                    .measure(Measure::excess("", words));
                out.push(draft);
            }
        }
    }
}

/// Whether policies on a relation can open rows to a client: one has a privilege to access rows, or
/// the contract declares one. On a table that the contract does not mention, a client also needs
/// USAGE on the schema.
fn can_open(cx: &Context<'_>, relation: &Relation, schema: &SchemaDecl) -> bool {
    if !cx.declares_relation(relation) {
        return cx.reached_by(relation).is_some();
    }
    let accesses = |held: Privileges| {
        Command::ALL.into_iter().map(Command::privilege).any(|privilege| held.contains(privilege))
    };
    let declared = || cx.declared_subjects(relation, schema).into_iter();
    cx.clients_reaching(relation)
        .iter()
        .any(|client| accesses(cx.on_some_column(client.oid, relation)))
        || declared().any(|role| {
            cx.is_client(role.oid) && accesses(cx.declared_on_some_column(relation, schema, role))
        })
}

/// Adds a finding for each policy that is always true and applies to a client together with a
/// conditional policy for a declared command: the condition then restricts nothing.
pub(crate) fn report_overriding(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid);
        for policy in policies.iter().filter(|p| p.permissive && p.always_true) {
            for client in cx.clients.iter().copied() {
                let declared = |command: &Command| {
                    cx.contract.table(&schema.name, &relation.name).is_some_and(|table| {
                        let all_rows = table.all_rows_commands(&client.name);
                        table.policy_commands(&client.name).contains(command)
                            && !all_rows.is_some_and(|all_rows| all_rows.contains(command))
                    })
                };
                let overridden = |command: &Command| {
                    cx.policy_admits(policy, relation, client, *command)
                        && is_for_all_rows(cx, policy, client, *command)
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
        .measure(Measure::excess("overrides", words))
}

/// Adds a finding for each policy that allows a client every row for a declared command, although
/// the contract declares for which commands a policy may do so, and not for this one. Where a
/// policy with a condition applies as well, [`report_overriding`] reports it.
pub(crate) fn report_opened(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.row_security) {
        let Some(table) = cx.contract.table(&schema.name, &relation.name) else { continue };
        for client in cx.clients_named(table.policies.keys()) {
            let Some(all_rows) = table.all_rows_commands(&client.name) else { continue };
            let mut commands = table.policy_commands(&client.name);
            commands.retain(|command| !all_rows.contains(command));
            for policy in cx.snapshot.policies_of(relation.oid) {
                let opens = |command: &Command| opens(cx, policy, relation, client, *command);
                let opened: Vec<Command> = commands.iter().copied().filter(opens).collect();
                if !opened.is_empty() {
                    out.push(opening(cx, policy, relation, client, &opened));
                }
            }
        }
    }
}

/// Whether a policy allows a client the command for every row, and that is not reported as
/// overriding another policy.
pub(crate) fn opens(
    cx: &Context<'_>,
    policy: &Policy,
    relation: &Relation,
    client: &Role,
    command: Command,
) -> bool {
    policy.permissive
        && is_for_all_rows(cx, policy, client, command)
        && cx.policy_admits(policy, relation, client, command)
        && !(policy.always_true && conditional(cx, relation, client, command).is_some())
}

/// Returns the finding about a policy that allows every row.
pub(crate) fn opening(
    cx: &Context<'_>,
    policy: &Policy,
    relation: &Relation,
    client: &Role,
    commands: &[Command],
) -> Draft {
    let words: Vec<&str> = commands.iter().map(|c| c.as_str()).collect();
    let (name, table) = (safe_ident(&policy.name), cx.snapshot.relation_sql(relation));
    let only_new = !policy.always_true && policy.unchecked;
    let (rows, condition) = if only_new {
        ("any new row", "its WITH CHECK condition")
    } else {
        ("every row", "its condition")
    };
    let detail = format!(
        "Policy {name} on table {table} allows role \"{}\" to {} {rows}, because {condition} is \
         always true; all_rows of the contract does not declare that.",
        printable(&client.name),
        words.join(", ")
    );
    let clauses = match (only_new || policy.command == Some(Command::Insert), policy.unchecked) {
        (true, _) => "WITH CHECK (...)",
        (false, true) => "USING (...) WITH CHECK (...)",
        (false, false) => "USING (...)",
    };
    let proposal = format!(
        "Give the policy a condition, or declare the commands in all_rows of the table:\n\
         ALTER POLICY {name} ON {table} {clauses};"
    );
    Draft::new(policy_object(cx, policy, relation), Severity::Error, detail)
        .role(&client.name)
        .key(format!("opens {}", words.join(", ")))
        .evidence(json!({"commands": words, "always_true": true}))
        .fix(Fix::Proposal(proposal))
        .measure(Measure::excess("opens", words))
}

/// Returns a policy as the object of a finding.
pub(crate) fn policy_object(cx: &Context<'_>, policy: &Policy, relation: &Relation) -> Object {
    Object {
        object_type: "policy",
        identity: cx.snapshot.policy_identity(policy, relation),
        id: ObjectId::Policy(policy.oid),
        ..cx.relation_object(relation)
    }
}

/// Returns the commands that the policy allows the client and the contract does not declare. A
/// policy for all rows counts for every role that it applies to, because a privilege that the role
/// gets later would be on all rows.
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
    let applies = cx.policy_applies(policy, client);
    let counts = |command: Command| {
        lets_through(cx, policy, relation, client, command)
            || (applies && policy.is_for_all_rows(command))
    };
    policy.commands().into_iter().filter(|c| !declared.contains(c) && counts(*c)).collect()
}

/// Returns ALTER POLICY without the clients to which the policy should not apply, or DROP POLICY
/// where no role is left. It is a proposal where the contract declares a part of the commands for a
/// client, so that the policy must be split, and where a client would see no rows although the
/// contract grants it a privilege on the table. Only permissive policies are fixed: dropping or
/// narrowing a restrictive policy opens rows.
fn fix(
    row_security: &RowSecurity<'_, '_>,
    policy: &Policy,
    (relation, schema): (&Relation, &SchemaDecl),
) -> Fix {
    let cx = row_security.cx();
    let table = cx.snapshot.relation_sql(relation);
    let name = safe_ident(&policy.name);
    let (mut kept, mut losing): (Vec<Oid>, Vec<Oid>) = (vec![], vec![]);
    for client in cx.clients.iter().filter(|c| cx.policy_applies(policy, c)) {
        let lost = undeclared(cx, policy, relation, schema, client);
        if lost.is_empty() {
            kept.push(client.oid);
            continue;
        }
        if lost.len() < policy.commands().len() {
            return Fix::Proposal(format!(
                "Replace it by one policy for each role and its commands:\n\
                 DROP POLICY {name} ON {table};\n\
                 CREATE POLICY ... ON {table} FOR ... TO ... USING (...);"
            ));
        }
        let granted = cx.permitted_on_some_column(relation, schema, client);
        let needed: Vec<Command> =
            lost.into_iter().filter(|command| granted.contains(command.privilege())).collect();
        if !needed.is_empty()
            && row_security.is_subject(client, relation, relation.force_row_security)
        {
            let declared = cx.declared_on_some_column(relation, schema, client);
            let is_declared = needed.iter().all(|c| declared.contains(c.privilege()));
            return replacement(policy, &table, (client, is_declared), &needed);
        }
        losing.push(client.oid);
    }
    let others = others(row_security, policy, relation, &losing);
    let (used, idle): (Vec<Oid>, Vec<Oid>) =
        others.into_iter().partition(|role| has_use(cx, policy, relation, *role));
    kept.extend(used);
    if kept.is_empty() {
        kept = idle;
    }
    kept.dedup();
    let roles: Vec<String> = kept.iter().map(|role| cx.snapshot.grantee(*role)).collect();
    Fix::by(if kept.is_empty() {
        Statement::with_repeatable(
            Change::DropPolicy(policy.oid),
            format!("DROP POLICY {name} ON {table};"),
            format!("DROP POLICY IF EXISTS {name} ON {table};"),
        )
    } else {
        Statement::new(
            Change::PolicyRoles(policy.oid, kept),
            format!("ALTER POLICY {name} ON {table} TO {};", roles.join(", ")),
        )
    })
}

/// Returns the proposal for a policy without which a client would see no rows, although the
/// contract grants it privileges on the table (`is_declared`), or something declared needs them.
fn replacement(
    policy: &Policy,
    table: &str,
    (client, is_declared): (&Role, bool),
    needed: &[Command],
) -> Fix {
    let name = safe_ident(&policy.name);
    let words: Vec<&str> = needed.iter().map(|command| command.as_str()).collect();
    let policies: Vec<String> =
        needed.iter().map(|command| create_policy(table, client, *command)).collect();
    let (role, words) = (printable(&client.name), words.join(", "));
    let because = if is_declared {
        format!(
            "The contract grants role \"{role}\" {words} on table {table}, but declares no policy \
             that admits it"
        )
    } else {
        format!(
            "What the contract declares needs {words} on table {table} for role \"{role}\", but \
             no declared policy admits it"
        )
    };
    Fix::Proposal(format!(
        "{because}: without this policy the role sees no rows. Declare the policy in the contract; \
         or declare and create another one, and run in one transaction:\n\
         {}\nDROP POLICY {name} ON {table};",
        policies.join("\n")
    ))
}

/// Whether a policy has a use for a role that it names, or to which it applies without naming it.
/// It has none for a role that bypasses row security, and none for a login role that only becomes
/// other ones.
fn has_use(cx: &Context<'_>, policy: &Policy, relation: &Relation, oid: Oid) -> bool {
    let Some(role) = cx.snapshot.role(oid).filter(|_| !policy.roles.contains(&oid)) else {
        return true;
    };
    let declared = cx.contract.role(&role.name);
    // The plan takes the attribute from a role that is not to have it.
    let may_bypass = declared.is_none_or(|of| of.bypass_rls != Some(false));
    let bypasses = (role.superuser || role.bypass_rls) && may_bypass;
    let is_login = cx.logins().iter().any(|login| login.oid == oid);
    let has_privilege =
        |command: Command| cx.has_privilege_on_a_column(role, relation, command.privilege());
    !bypasses && (!is_login || policy.commands().into_iter().any(has_privilege))
}

/// Returns the roles other than clients to which a policy applies and should still apply: the named
/// ones, workers, and the owners of views and SECURITY DEFINER routines that row security
/// restricts. A role whose privileges one of the `losing` clients has is not among them.
fn others(
    row_security: &RowSecurity<'_, '_>,
    policy: &Policy,
    relation: &Relation,
    losing: &[Oid],
) -> Vec<Oid> {
    let cx = row_security.cx();
    let is_open = |role: Oid| losing.iter().any(|l| cx.access.has_privileges_of(*l, role));
    let is_client = |role: Oid| cx.clients.iter().any(|c| cx.access.has_privileges_of(c.oid, role));
    let mut others: Vec<Oid> = policy
        .roles
        .iter()
        .copied()
        .filter(|role| cx.snapshot.role(*role).is_some() && !is_client(*role))
        .collect();
    let restricted = row_security
        .code_owners()
        .iter()
        .filter(|owner| row_security.is_subject(owner, relation, relation.force_row_security));
    for role in cx.workers.iter().chain(restricted) {
        let is_covered = others.iter().any(|other| cx.access.has_privileges_of(role.oid, *other));
        let is_other = !cx.is_client(role.oid) && !is_covered && !is_open(role.oid);
        if is_other && cx.access.policy_applies(policy, role.oid) {
            others.push(role.oid);
        }
    }
    others
}

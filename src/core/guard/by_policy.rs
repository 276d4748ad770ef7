//! What remains of declarations where a new table keeps only the privileges that its policies give
//! a use: without that, what default privileges grant would have to be declared or revoked as a
//! whole.

use crate::catalog::{Command, Oid, Policy, Privileges, Relation, Role};
use crate::declare::{Declaration, Grant, Granted, Name, On, Target, add};
use crate::rules::Context;
use std::collections::HashSet;

/// Returns declarations in which each client has the privileges on a new table with row security
/// for which a policy applies, and none on what has no policies: other new tables, their sequences,
/// and views, which may show the rows of the table to everyone. `None` where no policy of a new
/// table applies to a client, or the declarations say no more than that.
pub(crate) fn narrowed(
    after: &Context<'_>,
    declarations: &[Declaration],
    is_new: &dyn Fn(Oid) -> bool,
) -> Option<Vec<Declaration>> {
    let find = |name: &Name| {
        let schema = after.snapshot.schema_named(&name.schema)?;
        after.snapshot.relation_named(schema.oid, &name.name)
    };
    let mut narrowed = Vec::new();
    let (mut is_less, mut has_policies) = (false, false);
    for one in declarations {
        let Declaration::Grant(grant) = one else {
            narrowed.push(one.clone());
            continue;
        };
        let (On::Tables(names) | On::Sequences(names)) = &grant.on else {
            narrowed.push(one.clone());
            continue;
        };
        for name in names {
            let on = match grant.on {
                On::Sequences(_) => On::Sequences(vec![name.clone()]),
                _ => On::Tables(vec![name.clone()]),
            };
            let all = with(grant, on.clone(), grant.roles.clone(), None);
            let Some(relation) = find(name).filter(|of| is_new(of.oid)) else {
                narrowed.push(all);
                continue;
            };
            // What a policy allows and another one excludes is a finding, however it is declared.
            if is_partly_closed(after, relation) {
                return None;
            }
            let left = of_relation(after, relation, grant, &on);
            if left != [all.clone()] {
                is_less = true;
            }
            let is_of_client = |declared: &Declaration| match declared {
                Declaration::Grant(of) => of.roles.iter().any(|role| client(after, role).is_some()),
                _ => false,
            };
            if left.iter().any(is_of_client) {
                has_policies = true;
                // A policy that is always true is not among what is declared.
                add(&mut narrowed, Declaration::AllRows(name.clone(), true));
            }
            narrowed.extend(left);
        }
    }
    drop_sequences_without_grants(&mut narrowed, declarations);
    (is_less && has_policies).then_some(narrowed)
}

/// Whether a restrictive policy excludes every row for a client and a command.
fn is_partly_closed(cx: &Context<'_>, table: &Relation) -> bool {
    let is_closed = |client: &Role| {
        let is_closed = |command| cx.closing_policy(table, client, command).is_some();
        Command::ALL.into_iter().any(is_closed)
    };
    table.row_security && cx.clients.iter().copied().any(is_closed)
}

/// Returns the commands for which a policy of a table lets a client through to some rows.
fn admitted(cx: &Context<'_>, table: &Relation, client: &Role) -> Vec<Command> {
    if !table.row_security {
        return vec![];
    }
    let policies = cx.snapshot.policies_of(table.oid);
    let is_admitted = |command: &Command| {
        let admits = |of: &&Policy| {
            of.permissive
                && !of.is_for_all_rows(*command)
                && cx.policy_admits(of, table, client, *command)
        };
        policies.iter().any(|of| admits(&of))
    };
    Command::ALL.into_iter().filter(is_admitted).collect()
}

fn client<'a>(cx: &Context<'a>, name: &str) -> Option<&'a Role> {
    cx.clients.iter().copied().find(|client| client.name == name)
}

/// Returns what is left of a grant on a new relation: for each client what its policies give a use,
/// which is nothing on a sequence or view, and for the other roles everything.
fn of_relation(cx: &Context<'_>, table: &Relation, grant: &Grant, on: &On) -> Vec<Declaration> {
    let (clients, others): (Vec<&String>, Vec<&String>) =
        grant.roles.iter().partition(|role| client(cx, role).is_some());
    let mut left: Vec<(Privileges, Vec<String>)> = Vec::new();
    for role in clients {
        let commands = client(cx, role).map_or(vec![], |client| admitted(cx, table, client));
        let allowed = commands.iter().fold(Privileges::NONE, |all, one| all | one.privilege());
        match left.iter_mut().find(|(known, _)| *known == allowed) {
            Some((_, roles)) => roles.push(role.clone()),
            None => left.push((allowed, vec![role.clone()])),
        }
    }
    let mut declared: Vec<Declaration> = left
        .into_iter()
        .filter(|(allowed, _)| holds(grant, *allowed))
        .map(|(allowed, roles)| with(grant, on.clone(), roles, Some(allowed)))
        .collect();
    if !others.is_empty() {
        let roles = others.into_iter().cloned().collect();
        declared.push(with(grant, on.clone(), roles, None));
    }
    declared
}

/// Whether something of a grant is left with some privileges.
fn holds(grant: &Grant, allowed: Privileges) -> bool {
    grant.privileges.iter().any(|of| is_allowed(of, allowed))
}

/// ALL is more than policies give a use: TRUNCATE asks none.
fn is_allowed(granted: &Granted, allowed: Privileges) -> bool {
    granted.privilege.is_some_and(|one| allowed.contains(one))
}

/// Returns a grant with other objects and roles, and of its privileges those that are `allowed`.
fn with(grant: &Grant, on: On, roles: Vec<String>, allowed: Option<Privileges>) -> Declaration {
    let mut grant = Grant { on, roles, ..grant.clone() };
    if let Some(allowed) = allowed {
        grant.privileges.retain(|of| is_allowed(of, allowed));
    }
    Declaration::Grant(grant)
}

/// Removes the declarations of sequences on which nothing is granted any more.
fn drop_sequences_without_grants(narrowed: &mut Vec<Declaration>, before: &[Declaration]) {
    let granted = |all: &[Declaration]| -> HashSet<Name> {
        let names = all.iter().filter_map(|one| match one {
            Declaration::Grant(Grant { on: On::Sequences(names), .. }) => Some(names.clone()),
            _ => None,
        });
        names.flatten().collect()
    };
    let (was, is) = (granted(before), granted(narrowed));
    narrowed.retain(|one| match one {
        Declaration::Create(Target::Sequence(name)) => !was.contains(name) || is.contains(name),
        _ => true,
    });
}

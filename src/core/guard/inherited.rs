//! Rows of a table that a transaction opens to clients by making it a child or partition of
//! another table: a query on the parent needs the privileges and policies of the parent only.

use crate::catalog::{Command, Relation, Role};
use crate::rules::Context;

/// A table whose rows clients can access through another table, and could not access before.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Inherited<'a> {
    pub child: &'a Relation,
    pub ancestor: &'a Relation,
    pub clients: Vec<&'a Role>,
    pub commands: Vec<Command>,
}

/// The commands that read or change rows which exist.
const COMMANDS: [Command; 3] = [Command::Select, Command::Update, Command::Delete];

/// How many rows of a table a client can access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    None,
    /// Those that policies allow.
    Some,
    All,
}

/// Returns the new ancestors of a table that existed before through which clients can access more
/// of its rows than before: through no table, by themselves or through its earlier ancestors.
#[must_use]
pub fn inherited<'a>(
    before: &Context<'a>,
    after: &Context<'a>,
    child: u32,
    [earlier, later]: [&[u32]; 2],
) -> Vec<Inherited<'a>> {
    let Some(table) = after.snapshot.relation(child) else { return vec![] };
    let was = |client: &Role, command: Command| {
        let tables = std::iter::once(child).chain(earlier.iter().copied());
        let tables = tables.filter_map(|oid| before.snapshot.relation(oid));
        tables.map(|table| rows(before, table, client, command)).max().unwrap_or(Rows::None)
    };
    let new = later.iter().filter(|oid| !earlier.contains(oid));
    let new = new.filter_map(|oid| after.snapshot.relation(*oid));
    let mut found: Vec<Inherited<'_>> = Vec::new();
    for ancestor in new {
        for client in after.clients.iter().copied() {
            after.check_interrupts();
            let mut commands = COMMANDS.to_vec();
            commands.retain(|c| rows(after, ancestor, client, *c) > was(client, *c));
            let known = found
                .iter_mut()
                .find(|known| known.ancestor.oid == ancestor.oid && known.commands == commands);
            match known {
                _ if commands.is_empty() => {}
                Some(known) => known.clients.push(client),
                None => {
                    let clients = vec![client];
                    found.push(Inherited { child: table, ancestor, clients, commands });
                }
            }
        }
    }
    found
}

fn rows(cx: &Context<'_>, table: &Relation, client: &Role, command: Command) -> Rows {
    if !cx.reaches(client, table)
        || !cx.has_privilege_on_a_column(client, table, command.privilege())
    {
        return Rows::None;
    }
    if !table.row_security || cx.access.bypasses_row_security(client.oid) {
        return Rows::All;
    }
    let policies = cx.snapshot.policies_of(table.oid);
    let mut admitting = policies
        .iter()
        .filter(|p| p.permissive && cx.policy_admits(p, table, client, command))
        .peekable();
    if admitting.peek().is_none() {
        return Rows::None;
    }
    let is_restricted = policies.iter().any(|policy| {
        !policy.permissive
            && policy.covers(command)
            && !policy.is_for_all_rows(command)
            && cx.access.policy_applies(policy, client.oid)
    });
    if !is_restricted && admitting.any(|policy| policy.is_for_all_rows(command)) {
        Rows::All
    } else {
        Rows::Some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Policy, Privileges};
    use crate::rules::testing::World;

    /// Returns what a client can access after `child` becomes one of `ancestor`.
    fn found(before: &World, after: &World, earlier: &[&str]) -> Vec<String> {
        let oid = |name: &str| after.clone().relation(name).oid;
        let earlier: Vec<u32> = earlier.iter().map(|name| oid(name)).collect();
        let later = [oid("public.plaintiffs")];
        let line = |found: &Inherited<'_>| {
            let clients: Vec<&str> = found.clients.iter().map(|c| c.name.as_str()).collect();
            let words: Vec<&str> = found.commands.iter().map(|c| c.as_str()).collect();
            format!("{} {}", clients.join(","), words.join(","))
        };
        let child = oid("public.judgments");
        before.compared_with(after, |old, new| {
            inherited(old, new, child, [&earlier, &later]).iter().map(line).collect()
        })
    }

    /// A world in which `anon` can read the rows of plaintiffs by a policy, and none of judgments.
    fn world(always_true: bool) -> World {
        let mut world = World::conforming();
        let (anon, parent) = (world.role("anon").oid, world.relation("public.plaintiffs").oid);
        let child = world.relation("public.judgments").oid;
        world.snapshot.policies.retain(|p| p.relation != parent && p.relation != child);
        world.grant("public.plaintiffs", anon, Privileges::SELECT);
        world.snapshot.policies.push(Policy {
            oid: 9001,
            name: "open".into(),
            relation: parent,
            permissive: true,
            roles: vec![anon],
            always_true,
            ..Policy::default()
        });
        world
    }

    #[test]
    fn rows_that_only_the_parent_opens_are_reported() {
        assert_eq!(found(&world(true), &world(true), &[]), ["anon SELECT"]);
        assert_eq!(found(&world(false), &world(false), &[]), ["anon SELECT"]);
        let mut closed = world(true);
        closed.snapshot.policies.clear();
        assert_eq!(found(&closed, &closed, &[]), [""; 0], "row security of the parent");
    }

    #[test]
    fn rows_that_the_client_could_access_before_are_not() {
        let mut readable = world(true);
        let anon = readable.role("anon").oid;
        readable.grant("public.judgments", anon, Privileges::SELECT);
        let child = readable.relation("public.judgments").oid;
        let policy = readable.snapshot.policies.last().unwrap().clone();
        readable.snapshot.policies.push(Policy { oid: 9002, relation: child, ..policy });
        assert_eq!(found(&readable, &readable, &[]), [""; 0]);
        readable.snapshot.policies.last_mut().unwrap().always_true = false;
        assert_eq!(found(&readable, &readable, &[]), ["anon SELECT"], "only some rows before");
        let world = world(true);
        assert_eq!(found(&world, &world, &["public.plaintiffs"]), [""; 0], "no new parent");
    }
}

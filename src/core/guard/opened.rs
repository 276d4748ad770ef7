//! Rows of declared tables that a transaction opens to clients in a way that is no finding: the
//! contract declares neither the conditions of policies nor restrictive policies, so that only the
//! two states show the difference.

use crate::catalog::{Command, Policy, Relation, Role};
use crate::contract::{Severity, TableDecl};
use crate::finding::{Draft, Finding};
use crate::rule::Rule;
use crate::rules::shared::policies::{opening, opens, policy_object};
use crate::rules::{Context, rls_policy_always_true, rls_policy_missing};

/// A policy with which a client can access more rows than before.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Opened<'a> {
    pub policy: &'a Policy,
    pub relation: &'a Relation,
    pub client: &'a Role,
    pub commands: Vec<Command>,
    pub how: Opening,
}

/// How rows are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A permissive policy allows every row, where only policies with a condition did before.
    AlwaysTrue {
        /// Whether the policy existed before.
        existed: bool,
    },
    /// A restrictive policy no longer restricts the client, and no other one does instead.
    NoLongerRestricted,
}

impl Opened<'_> {
    /// Returns the rule whose guard action and exemptions count.
    #[must_use]
    pub fn rule(&self) -> &'static Rule {
        match self.how {
            Opening::AlwaysTrue { .. } => &rls_policy_always_true::RULE,
            Opening::NoLongerRestricted => &rls_policy_missing::RULE,
        }
    }

    /// Returns the finding about it. Of a policy that is always true, it is that of the audit for a
    /// contract that declares `all_rows`, so that the same exemptions apply to it.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let Self { policy, relation, client, ref commands, how } = *self;
        let draft = match how {
            Opening::AlwaysTrue { .. } => opening(cx, policy, relation, client, commands),
            Opening::NoLongerRestricted => {
                Draft::new(policy_object(cx, policy, relation), Severity::Warning, String::new())
                    .role(&client.name)
                    .key("no longer restricts")
            }
        };
        draft.finish(self.rule(), cx.severity(self.rule()))
    }
}

/// Returns the policies that open rows of declared tables with row security to clients. Commands
/// for which the contract declares whether a policy may allow every row are omitted: these are
/// findings.
#[must_use]
pub fn opened<'a>(before: &Context<'a>, after: &Context<'a>) -> Vec<Opened<'a>> {
    let mut found = Vec::new();
    for (relation, schema) in after.relations().filter(|(relation, _)| relation.row_security) {
        let Some(table) = after.contract.table(&schema.name, &relation.name) else { continue };
        let earlier = earlier(before, after, relation).filter(|r| r.row_security);
        let Some(earlier) = earlier else { continue };
        if before.snapshot.policies_of(earlier.oid) == after.snapshot.policies_of(relation.oid) {
            continue;
        }
        for client in after.clients.iter().copied() {
            after.check_interrupts();
            let states = States { before, after, earlier, relation, client };
            if table.all_rows.is_none() {
                found.extend(states.always_true(table));
            }
            found.extend(states.no_longer_restricted(table));
        }
    }
    found
}

/// Returns the table that a table was before: the table that had its name, which may have been
/// dropped or renamed since, or otherwise itself. The contract declares rows by the name of a
/// table.
pub(super) fn earlier<'a>(
    before: &Context<'a>,
    after: &Context<'a>,
    relation: &Relation,
) -> Option<&'a Relation> {
    let schema = after.snapshot.schema_name(relation.schema);
    let has_its_name = |other: &Relation| {
        other.name == relation.name && before.snapshot.schema_name(other.schema) == schema
    };
    let itself = before.snapshot.relation(relation.oid);
    if itself.is_some_and(has_its_name) {
        return itself;
    }
    let mut others = before.relations().map(|(other, _)| other);
    others.find(|other| has_its_name(other)).or(itself)
}

/// A table in both states, and a client.
#[derive(Clone, Copy)]
struct States<'c, 'a> {
    before: &'c Context<'a>,
    after: &'c Context<'a>,
    earlier: &'a Relation,
    relation: &'a Relation,
    client: &'a Role,
}

impl<'c, 'a> States<'c, 'a> {
    fn always_true(self, table: &TableDecl) -> impl Iterator<Item = Opened<'a>> + use<'c, 'a> {
        let mut commands = table.policy_commands(&self.client.name);
        commands.retain(|command| self.was_conditional(*command));
        let policies = self.after.snapshot.policies_of(self.relation.oid).iter();
        policies.filter_map(move |policy| {
            let opens =
                |command: &Command| opens(self.after, policy, self.relation, self.client, *command);
            let commands = commands.iter().copied().filter(opens).collect();
            let existed = self.policies_before().iter().any(|p| p.oid == policy.oid);
            self.opened(policy, commands, Opening::AlwaysTrue { existed })
        })
    }

    /// Whether policies allowed the command before, each with a condition.
    fn was_conditional(self, command: Command) -> bool {
        let mut admitting = self
            .policies_before()
            .iter()
            .filter(|policy| policy.permissive)
            .filter(|p| self.before.policy_admits(p, self.earlier, self.client, command))
            .peekable();
        admitting.peek().is_some() && admitting.all(|policy| !policy.is_for_all_rows(command))
    }

    fn no_longer_restricted(
        self,
        table: &TableDecl,
    ) -> impl Iterator<Item = Opened<'a>> + use<'c, 'a> {
        let mut commands = table.policy_commands(&self.client.name);
        commands.retain(|command| self.is_admitted(*command));
        self.policies_before().iter().filter_map(move |policy| {
            let is_gone = |command: &Command| {
                restricts(self.before, policy, self.client, *command)
                    && !self.is_replaced(policy, *command)
            };
            let commands = commands.iter().copied().filter(is_gone).collect();
            self.opened(policy, commands, Opening::NoLongerRestricted)
        })
    }

    /// Whether a permissive policy allows the client the command now.
    fn is_admitted(self, command: Command) -> bool {
        self.after.snapshot.policies_of(self.relation.oid).iter().any(|policy| {
            policy.permissive
                && self.after.policy_admits(policy, self.relation, self.client, command)
        })
    }

    /// Whether a restrictive policy still restricts the client, or a new one does instead.
    fn is_replaced(self, policy: &Policy, command: Command) -> bool {
        self.after.snapshot.policies_of(self.relation.oid).iter().any(|other| {
            let is_successor = other.oid == policy.oid
                || other.name == policy.name
                || !self.policies_before().iter().any(|earlier| earlier.oid == other.oid);
            is_successor && restricts(self.after, other, self.client, command)
        })
    }

    fn policies_before(self) -> &'a [Policy] {
        self.before.snapshot.policies_of(self.earlier.oid)
    }

    fn opened(
        self,
        policy: &'a Policy,
        commands: Vec<Command>,
        how: Opening,
    ) -> Option<Opened<'a>> {
        (!commands.is_empty()).then_some(Opened {
            policy,
            relation: self.relation,
            client: self.client,
            commands,
            how,
        })
    }
}

/// Whether a restrictive policy restricts the rows that a client can access with a command.
fn restricts(cx: &Context<'_>, policy: &Policy, client: &Role, command: Command) -> bool {
    !policy.permissive
        && policy.covers(command)
        && cx.access.policy_applies(policy, client.oid)
        && !policy.is_for_all_rows(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    /// Returns what opens rows from `before` to `after`.
    fn found(before: &World, after: &World) -> Vec<String> {
        let line = |o: &Opened<'_>| {
            let words: Vec<&str> = o.commands.iter().map(|c| c.as_str()).collect();
            format!("{} {} {} {:?}", o.policy.name, o.client.name, words.join(","), o.how)
        };
        before.compared_with(after, |old, new| opened(old, new).iter().map(line).collect())
    }

    /// A conforming world whose declared policy for SELECT of `authenticated` on judgments has a
    /// condition, and a restrictive policy on it.
    fn world() -> World {
        let mut world = World::conforming();
        let relation = world.relation("public.judgments").oid;
        let client = world.role("authenticated").oid;
        world.snapshot.policies.retain(|p| p.relation != relation);
        for (oid, name, permissive) in [(9001, "own", true), (9002, "hide_sealed", false)] {
            world.snapshot.policies.push(Policy {
                oid,
                name: name.into(),
                relation,
                command: permissive.then_some(Command::Select),
                permissive,
                roles: vec![client],
                ..Policy::default()
            });
        }
        let judgments = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        assert!(!judgments.policy_commands("authenticated").is_empty());
        world
    }

    fn policy(world: &mut World, oid: u32) -> &mut Policy {
        world.snapshot.policies.iter_mut().find(|p| p.oid == oid).unwrap()
    }

    #[test]
    fn only_policy_that_becomes_always_true_opens_rows() {
        let (before, mut after) = (world(), world());
        assert_eq!(found(&before, &after), [""; 0]);
        policy(&mut after, 9001).always_true = true;
        let opened = found(&before, &after);
        assert!(
            opened.len() == 1 && opened[0].starts_with("own authenticated SELECT"),
            "{opened:?}"
        );
        assert_eq!(found(&after, &after), [""; 0], "it was so before");
        // The contract says which commands may be for every row: a finding of the rule.
        let judgments = after.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        judgments.all_rows = Some(std::collections::BTreeMap::new());
        assert_eq!(found(&before, &after), [""; 0]);
        assert_eq!(after.found(&crate::rules::rls_policy_always_true::RULE).len(), 1);
    }

    #[test]
    fn first_policy_of_a_client_may_be_always_true() {
        let (mut before, mut after) = (world(), world());
        before.snapshot.policies.retain(|policy| policy.oid != 9001);
        policy(&mut after, 9001).always_true = true;
        assert_eq!(found(&before, &after), [""; 0]);
    }

    /// A change of a world.
    type Edit = fn(&mut World);

    #[test]
    fn restrictive_policy_that_restricts_less_opens_rows() {
        let before = world();
        let changes: [(&str, Edit); 4] = [
            ("dropped", |w| w.snapshot.policies.retain(|p| p.oid != 9002)),
            ("for another role", |w| policy(w, 9002).roles = vec![1]),
            ("always true", |w| policy(w, 9002).always_true = true),
            ("for another command", |w| policy(w, 9002).command = Some(Command::Delete)),
        ];
        for (name, change) in changes {
            let mut after = world();
            change(&mut after);
            let opened = found(&before, &after);
            assert!(
                opened.len() == 1 && opened[0].ends_with("NoLongerRestricted"),
                "{name}: {opened:?}"
            );
            assert_eq!(found(&after, &before), [""; 0], "{name}: the way back restricts more");
        }
    }

    #[test]
    fn table_that_takes_the_name_of_another_is_compared_with_it() {
        let before = world();
        let mut after = world();
        let old = after.relation("public.judgments").clone();
        after.relation("public.judgments").name = "judgments_old".into();
        after.add_relation(Relation { oid: 9100, ..old });
        let mut copy = |oid, from: u32| {
            let policy = policy(&mut after, from).clone();
            after.snapshot.policies.push(Policy { oid, relation: 9100, ..policy });
        };
        copy(9101, 9001);
        let lost = found(&before, &after);
        assert!(lost.len() == 1 && lost[0].starts_with("hide_sealed authenticated"), "{lost:?}");
        let mut copy = |oid, from: u32| {
            let policy = policy(&mut after, from).clone();
            after.snapshot.policies.push(Policy { oid, relation: 9100, ..policy });
        };
        copy(9102, 9002);
        assert_eq!(found(&before, &after), [""; 0]);
        policy(&mut after, 9101).always_true = true;
        let opened = found(&before, &after);
        assert!(opened.len() == 1 && opened[0].starts_with("own authenticated SELECT"));
    }

    #[test]
    fn restrictive_policy_that_is_replaced_or_no_longer_matters_opens_nothing() {
        let before = world();
        let mut replaced = world();
        let oid = &mut policy(&mut replaced, 9002).oid;
        *oid = 9003;
        assert_eq!(found(&before, &replaced), [""; 0]);
        let mut closed = world();
        closed.snapshot.policies.retain(|policy| policy.oid > 9002 || policy.oid < 9001);
        assert_eq!(found(&before, &closed), [""; 0], "no policy admits the client");
    }
}

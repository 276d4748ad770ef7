//! Which clients a grant or a policy reaches. A contract may declare a thousand clients, and most
//! objects and policies are for few of them.

use super::context::Context;
use super::recipients::Recipients;
use crate::access::{Access, Follow};
use crate::catalog::{Oid, PUBLIC, Policy, Relation, Role};

impl<'a> Context<'a> {
    fn recipients(&self) -> &Recipients {
        self.recipients.get_or_init(|| {
            let mut found = Recipients::default();
            for (at, client) in self.clients.iter().enumerate() {
                for grantee in self.access.closure(client.oid, Follow::Privileges).iter() {
                    found.by_grantee.entry(*grantee).or_default().push(at);
                }
                if self.access.is_superuser(client.oid) {
                    found.superusers.push(at);
                }
                if !self.access.on_every_relation(client.oid).is_empty() {
                    found.everywhere.push(at);
                }
            }
            found
        })
    }

    /// Returns the clients that may have a privilege on a relation or on one of its columns, in
    /// their order. The others have none.
    pub(crate) fn clients_reaching(&self, relation: &Relation) -> Vec<&'a Role> {
        let of_columns = relation.columns.iter().map(|(_, acl)| acl);
        let acls = || of_columns.clone().chain(relation.acl.as_ref());
        if acls().any(|acl| !Access::public(acl).is_empty()) {
            return self.clients.clone();
        }
        let grantees = acls().flatten().map(|item| item.grantee);
        // Without an ACL, the owner has all privileges.
        self.clients_of(grantees.chain([relation.owner]), &self.recipients().everywhere)
    }

    /// Returns the clients to which a policy applies, in their order.
    pub(crate) fn clients_of_policy(&self, policy: &Policy) -> Vec<&'a Role> {
        if policy.roles.contains(&PUBLIC) {
            return self.clients.clone();
        }
        self.clients_of(policy.roles.iter().copied(), &[])
    }

    /// Returns the clients that have the privileges of one of some roles, and others by their
    /// positions.
    fn clients_of(&self, roles: impl Iterator<Item = Oid>, others: &[usize]) -> Vec<&'a Role> {
        let Recipients { by_grantee, superusers, .. } = self.recipients();
        let mut found: Vec<usize> = superusers.iter().chain(others).copied().collect();
        found.extend(roles.filter_map(|role| by_grantee.get(&role)).flatten());
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| self.clients[at]).collect()
    }

    /// Returns the clients of these names, in their order.
    pub(crate) fn clients_named<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
    ) -> Vec<&'a Role> {
        let found = self.subjects_named(names).into_iter();
        found.filter(|role| self.is_client(role.oid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::catalog::Privileges;

    /// The clients that are found are those that have a privilege, or to which the policy applies.
    #[test]
    fn clients_are_those_that_a_look_at_each_finds() {
        let mut world = World::conforming();
        world.add_role("group_role");
        world.grant_role("group_role", "authenticated");
        let group = world.role("group_role").oid;
        world.grant("public.job_queue", group, Privileges::DELETE);
        world.grant("public.judgments", PUBLIC, Privileges::UPDATE);
        for is_superuser in [false, true] {
            world.role("anon").superuser = is_superuser;
            let snapshot = world.snapshot.clone().complete();
            let access = Access::new(&snapshot);
            let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
            let mut policies = 0;
            for relation in &snapshot.relations {
                let reaching: Vec<Oid> =
                    cx.clients_reaching(relation).iter().map(|role| role.oid).collect();
                let holding = cx.clients.iter().map(|role| role.oid);
                let holding = holding.filter(|role| !cx.on_some_column(*role, relation).is_empty());
                for role in holding {
                    assert!(reaching.contains(&role), "{role} on {}", relation.name);
                }
                for policy in snapshot.policies_of(relation.oid) {
                    let applies = |role: &&Role| access.policy_applies(policy, role.oid);
                    let each: Vec<Oid> =
                        cx.clients.iter().copied().filter(applies).map(|role| role.oid).collect();
                    let found: Vec<Oid> =
                        cx.clients_of_policy(policy).iter().map(|role| role.oid).collect();
                    assert_eq!(found, each, "{}", policy.name);
                    policies += 1;
                }
            }
            assert!(policies > 0);
            let judgments = snapshot.relations.iter().find(|of| of.name == "judgments").unwrap();
            assert_eq!(cx.clients_reaching(judgments).len(), cx.clients.len());
        }
    }
}

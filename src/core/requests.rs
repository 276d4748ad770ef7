//! The roles that requests use: those that log in for them, and those that they become.
//!
//! PostgREST and similar services log in as one role and execute each request as another one, with
//! SET ROLE. So a request can use every role that the login role can become, whether the contract
//! declares that role or not.

use crate::access::{Access, Follow};
use crate::catalog::{Oid, Role, Snapshot};
use crate::contract::{Contract, RoleKind};
use std::collections::HashSet;

/// The roles of requests in one snapshot under one contract.
#[derive(Debug)]
pub struct Requests<'a> {
    /// The undeclared roles that a declared login role can become, or that a client can become
    /// without inheriting their privileges, in order of name.
    pub undeclared: Vec<&'a Role>,
    /// Every role that a client or a login role is a member of.
    reached: HashSet<Oid>,
}

impl<'a> Requests<'a> {
    /// Returns the roles of requests. Roles that the contract or the platform restricts in another
    /// way are not among the undeclared ones: declared roles of any kind, superusers, predefined
    /// and managed roles, the owner of the database, and roles whose privileges a client inherits,
    /// because they count as its own, or that a worker is a member of.
    #[must_use]
    pub fn of(contract: &Contract, snapshot: &'a Snapshot, access: &Access<'_>) -> Self {
        let existing = |kind| -> Vec<&'a Role> {
            contract.roles_of(kind).filter_map(|name| snapshot.role_named(name)).collect()
        };
        let closure = |roles: &[&Role], follow| -> HashSet<Oid> {
            let closures = roles.iter().map(|role| access.closure(role.oid, follow));
            closures.flat_map(|closure| closure.as_ref().clone()).collect()
        };
        let (logins, clients) = (existing(RoleKind::Login), existing(RoleKind::Client));
        let possible = [logins.clone(), clients.clone(), possible_logins(snapshot, &clients)];
        let reached = closure(&possible.concat(), Follow::Members);
        let reported =
            closure(&[clients.clone(), existing(RoleKind::Worker)].concat(), Follow::Members);
        let mut usable = closure(&logins, Follow::Set);
        let groups = clients_groups(snapshot, access, &clients);
        usable.extend(&groups);
        let is_undeclared = |role: &&Role| {
            contract.role(&role.name).is_none()
                && !contract.trusted_roles.contains(&role.name)
                && !contract.manages_role(&role.name, false)
                && !role.superuser
                && !role.is_predefined()
                && role.oid != snapshot.database.owner
                && (groups.contains(&role.oid) || !reported.contains(&role.oid))
        };
        let mut undeclared: Vec<&Role> =
            usable.iter().filter_map(|oid| snapshot.role(*oid)).filter(is_undeclared).collect();
        undeclared.sort_by(|a, b| a.name.cmp(&b.name));
        Self { undeclared, reached }
    }

    /// Whether a client, a declared login role or a role that may be one is a member of this role,
    /// directly or indirectly.
    #[must_use]
    pub fn reach(&self, role: Oid) -> bool {
        self.reached.contains(&role)
    }
}

/// Returns the roles that a client can act as without inheriting their privileges: it can SET ROLE,
/// or grant itself the membership. What is granted to them is as good as granted to the client.
fn clients_groups(snapshot: &Snapshot, access: &Access<'_>, clients: &[&Role]) -> HashSet<Oid> {
    let mut groups = HashSet::new();
    for client in clients.iter().filter(|client| !client.superuser) {
        let closure = access.closure(client.oid, Follow::Members);
        groups.extend(closure.iter().filter(|role| {
            !access.has_privileges_of(client.oid, **role)
                && access.can_act_as(client.oid, **role)
                && snapshot.role(**role).is_some()
        }));
    }
    groups
}

/// Returns the direct members of clients that can log in.
fn possible_logins<'a>(snapshot: &'a Snapshot, clients: &[&Role]) -> Vec<&'a Role> {
    let of_client = snapshot
        .memberships
        .iter()
        .filter(|m| clients.iter().any(|client| client.oid == m.role))
        .filter_map(|m| snapshot.role(m.member));
    of_client.filter(|member| member.can_login && !member.superuser).collect()
}

/// Whether a role can log in and become one of `clients`: if the contract does not declare it
/// otherwise, its memberships in clients and workers are taken for its purpose.
#[must_use]
pub fn may_be_login(access: &Access<'_>, role: &Role, clients: &[&Role]) -> bool {
    role.can_login
        && !role.superuser
        && clients.iter().any(|c| c.oid != role.oid && access.can_set_role(role.oid, c.oid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    /// Returns the names of the undeclared roles that login roles can become.
    fn undeclared(world: &World) -> Vec<String> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let requests = Requests::of(&world.contract, &snapshot, &access);
        requests.undeclared.iter().map(|role| role.name.clone()).collect()
    }

    #[test]
    fn role_that_a_declared_login_role_can_become_is_a_role_of_requests() {
        let mut world = World::conforming();
        world.add_login("authenticator");
        for role in ["anon", "authenticated", "service_role"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        for name in ["web_admin", "team", "helpers", "supabase_storage_admin", "pgsodium_x"] {
            world.add_role(name);
        }
        world.grant_role("team", "web_admin");
        world.grant_role("helpers", "anon");
        for role in ["web_admin", "supabase_storage_admin", "pgsodium_x", "postgres", "root"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        world.contract.managed.roles =
            vec!["supabase_storage_admin".to_owned(), "pgsodium_*".to_owned()];
        assert_eq!(undeclared(&world), [""; 0], "no login role is declared");
        world.declare("authenticator", RoleKind::Login);
        assert_eq!(
            undeclared(&world),
            ["pgsodium_x", "team", "web_admin"],
            "a pattern of managed roles excuses no role of requests; memberships in owners and \
             superusers, and those of clients, are reported"
        );
    }

    #[test]
    fn group_that_a_client_can_become_without_inheriting_is_a_role_of_requests() {
        let mut world = World::conforming();
        world.snapshot.version = 16;
        for name in ["group", "inner", "inherited", "powerless", "granted"] {
            world.add_role(name);
        }
        world.grant_role_without_inherit("group", "anon");
        world.grant_role("inner", "group");
        world.grant_role("inherited", "anon");
        world.grant_role_without_inherit("service_role", "anon");
        for role in ["powerless", "granted"] {
            world.grant_role_without_inherit(role, "authenticated");
            world.snapshot.memberships.last_mut().unwrap().set = false;
        }
        world.snapshot.memberships.last_mut().unwrap().admin = true;
        assert_eq!(undeclared(&world), ["granted", "group", "inner"]);
    }

    #[test]
    fn login_role_of_an_older_contract_is_a_possible_one() {
        let mut world = World::conforming();
        world.add_login("authenticator");
        world.add_role("anon_x");
        let reached = |world: &World| {
            let snapshot = world.snapshot.clone().complete();
            let access = Access::new(&snapshot);
            let role = snapshot.role_named("anon_x").unwrap().oid;
            Requests::of(&world.contract, &snapshot, &access).reach(role)
        };
        world.grant_role_without_inherit("anon_x", "authenticator");
        assert!(!reached(&world));
        world.grant_role_without_inherit("anon", "authenticator");
        assert!(reached(&world));
    }
}

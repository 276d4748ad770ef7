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
    /// The login roles: the declared ones that exist or, if the contract declares none, those that
    /// [`is_certain_login`] recognises.
    pub logins: Vec<&'a Role>,
    /// The undeclared roles that a login role can become, in order of name.
    pub undeclared: Vec<&'a Role>,
    /// Every role that a client or a login role is a member of.
    reached: HashSet<Oid>,
}

impl<'a> Requests<'a> {
    /// Returns the roles of requests. Roles that the contract or the platform restricts in another
    /// way are not among the undeclared ones: declared roles of any kind, superusers, predefined
    /// and managed roles, and the owner of the database.
    #[must_use]
    pub fn of(contract: &Contract, snapshot: &'a Snapshot, access: &Access<'_>) -> Self {
        let logins = logins(contract, snapshot, access);
        let clients = existing(contract, snapshot, RoleKind::Client);
        let reached = logins
            .iter()
            .chain(&clients)
            .flat_map(|role| access.closure(role.oid, Follow::Members).as_ref().clone())
            .collect();
        let is_undeclared = |role: &&Role| {
            contract.role(&role.name).is_none()
                && !contract.trusted_roles.contains(&role.name)
                && !contract.manages_role(&role.name, true)
                && !role.superuser
                && !role.is_predefined()
                && role.oid != snapshot.database.owner
                && !logins.iter().any(|login| login.oid == role.oid)
        };
        let usable: HashSet<Oid> = logins
            .iter()
            .flat_map(|login| access.closure(login.oid, Follow::Set).as_ref().clone())
            .collect();
        let mut undeclared: Vec<&Role> =
            usable.iter().filter_map(|oid| snapshot.role(*oid)).filter(is_undeclared).collect();
        undeclared.sort_by(|a, b| a.name.cmp(&b.name));
        Self { logins, undeclared, reached }
    }

    /// Whether a client or a login role is a member of this role, directly or indirectly.
    #[must_use]
    pub fn reach(&self, role: Oid) -> bool {
        self.reached.contains(&role)
    }
}

/// Returns the declared roles of one kind that exist.
fn existing<'a>(contract: &Contract, snapshot: &'a Snapshot, kind: RoleKind) -> Vec<&'a Role> {
    contract.roles_of(kind).filter_map(|name| snapshot.role_named(name)).collect()
}

/// Returns the declared login roles that exist; if none is declared, those that are certain.
fn logins<'a>(contract: &Contract, snapshot: &'a Snapshot, access: &Access<'_>) -> Vec<&'a Role> {
    if contract.roles_of(RoleKind::Login).next().is_some() {
        return existing(contract, snapshot, RoleKind::Login);
    }
    let clients = existing(contract, snapshot, RoleKind::Client);
    candidates(contract, snapshot, &clients)
        .filter(|role| is_certain_login(access, role, &clients))
        .collect()
}

/// Returns the undeclared roles that can log in and are direct members of a client: login roles,
/// unless they are people or services that were granted a client for another purpose.
fn candidates<'a>(
    contract: &Contract,
    snapshot: &'a Snapshot,
    clients: &[&Role],
) -> impl Iterator<Item = &'a Role> {
    let members: HashSet<Oid> = snapshot
        .memberships
        .iter()
        .filter(|m| clients.iter().any(|client| client.oid == m.role))
        .map(|m| m.member)
        .collect();
    let mut roles: Vec<&Role> = members
        .iter()
        .filter_map(|oid| snapshot.role(*oid))
        .filter(|role| {
            role.can_login
                && !role.superuser
                && role.oid != snapshot.database.owner
                && contract.role(&role.name).is_none()
                && !contract.trusted_roles.contains(&role.name)
        })
        .collect();
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    roles.into_iter()
}

/// Whether an undeclared role is a login role without doubt: it can become every client, inherits
/// the privileges of none, and cannot create roles, as an administrator could.
fn is_certain_login(access: &Access<'_>, role: &Role, clients: &[&Role]) -> bool {
    !role.create_role
        && clients.iter().all(|client| {
            access.can_set_role(role.oid, client.oid)
                && !access.has_privileges_of(role.oid, client.oid)
        })
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

    /// Returns the names of the login roles, and of the undeclared roles that they can become.
    fn requests(world: &World) -> (Vec<String>, Vec<String>) {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let requests = Requests::of(&world.contract, &snapshot, &access);
        let names = |roles: &[&Role]| roles.iter().map(|role| role.name.clone()).collect();
        (names(&requests.logins), names(&requests.undeclared))
    }

    fn world_with_authenticator() -> World {
        let mut world = World::conforming();
        world.add_login("authenticator");
        for role in ["anon", "authenticated", "service_role"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        world
    }

    #[test]
    fn undeclared_login_role_is_recognised_only_without_doubt() {
        let mut world = world_with_authenticator();
        assert_eq!(requests(&world).0, ["authenticator"]);
        world.role("authenticator").create_role = true;
        assert_eq!(requests(&world).0, [""; 0], "an administrator");
        world.role("authenticator").create_role = false;
        world.snapshot.memberships[0].inherit = true;
        assert_eq!(requests(&world).0, [""; 0], "it inherits the privileges of anon");
        world.snapshot.memberships.remove(0);
        assert_eq!(requests(&world).0, [""; 0], "it cannot become anon");
    }

    #[test]
    fn declared_login_role_replaces_the_recognised_ones() {
        let mut world = world_with_authenticator();
        world.add_login("gateway");
        world.declare("gateway", RoleKind::Login);
        assert_eq!(requests(&world).0, ["gateway"]);
    }

    #[test]
    fn role_that_a_login_role_can_become_is_a_role_of_requests() {
        let mut world = world_with_authenticator();
        for name in ["web_admin", "team", "supabase_storage_admin", "pgsodium_x"] {
            world.add_role(name);
        }
        world.grant_role("team", "web_admin");
        for role in ["web_admin", "supabase_storage_admin", "pgsodium_x", "postgres", "root"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        world.contract.managed.roles =
            vec!["supabase_storage_admin".to_owned(), "pgsodium_*".to_owned()];
        assert_eq!(
            requests(&world).1,
            ["pgsodium_x", "team", "web_admin"],
            "a pattern of managed roles excuses no role of requests; owners and superusers are \
             reported as memberships"
        );
    }
}

//! A role is a member of another role whose privileges it should not have.

use super::context::Context;
use super::shared::privileges::end_membership;
use crate::access::Follow;
use crate::catalog::{Object, ObjectId, Oid, PG_DATABASE_OWNER, Role};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Fix, end_inheritance};
use crate::requests;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;
use std::collections::BTreeSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "role_membership",
    title: "A role is a member of another role whose privileges it should not have",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::Roles,
    breaks_declared: false,
    checks: "No client or worker role is a direct or indirect member of another role. A login \
             role is a member of clients and workers only, does not inherit their privileges, and \
             can become a client. \
             A role that the contract does not declare and that can log in is not a member of an \
             owner, of a predefined role with which it can access all rows, files or programs, \
             of a superuser, or, unless it can become clients as a login role does, of a worker. \
             A managed role may be a member of these, but of an owner only if a pattern matches \
             its name and superusers granted its memberships.",
    why: "A member can use SET ROLE or inherits the privileges of the role, so every request \
          can do what that role can do. NOINHERIT does not prevent SET ROLE. PostgreSQL fires \
          no event trigger for GRANT of a role, so only hardened mode blocks it.",
    fix: "Revoke the membership. Where it may be intended, the fix is a proposal.",
    exempt: "A group role without privileges of its own that an external tool needs.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT service_role TO authenticated;",
        correct: "GRANT authenticated TO authenticator;",
    },
    references: &["CIS PostgreSQL Benchmark 4.3", "CWE-269"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for declared in &cx.contract.roles {
        let Some(member) = cx.snapshot.role_named(&declared.name) else { continue };
        match declared.kind {
            RoleKind::Client | RoleKind::Worker => out.extend(of_subject(cx, member)),
            RoleKind::Login => {
                out.extend(of_login(cx, member));
                out.extend(cut_off(cx, member));
            }
            RoleKind::Owner => {}
        }
    }
    for member in undeclared_members(cx) {
        out.extend(of_undeclared(cx, member));
    }
}

/// Returns the memberships of a client or worker.
fn of_subject(cx: &Context<'_>, member: &Role) -> Vec<Draft> {
    let may_be_login = cx.is_worker(member.oid)
        && requests::may_be_login(cx.access, member, &cx.declared_clients());
    let mut drafts = Vec::new();
    for role in reached(cx, member, &[Follow::Members]) {
        cx.check_interrupts();
        let found = Found::new(cx, member, role);
        let power = Power::of(cx, member, role);
        let is_purpose = may_be_login && cx.is_declared_subject(role.oid);
        let draft = match power {
            // The contract may have been written before there were login roles.
            Some(power) if is_purpose => found
                .draft(cx, GuardAction::Warn, power)
                .fix(Fix::Proposal(declare_login(cx, member, found.step))),
            Some(power) if found.is_direct() || !found.options.is_empty() => {
                found.draft(cx, GuardAction::Block, power).fix(found.revoke(cx))
            }
            // A service with the role that holds its privileges.
            None if found.is_direct() && is_worker(cx, member) && is_worker(cx, role) => {
                let fix = Fix::Proposal(found.unless_intended(cx));
                found.draft(cx, GuardAction::Warn, Power::Group).fix(fix)
            }
            None if found.is_direct() => {
                found.draft(cx, GuardAction::Warn, Power::Other).fix(found.revoke(cx))
            }
            _ => continue,
        };
        drafts.push(draft);
    }
    drafts
}

fn is_worker(cx: &Context<'_>, role: &Role) -> bool {
    cx.contract.kind_of(&role.name) == Some(RoleKind::Worker)
}

/// Returns the memberships of a declared login role that are not its purpose, and the clients and
/// workers whose privileges it inherits.
fn of_login(cx: &Context<'_>, member: &Role) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for role in reached(cx, member, &[Follow::Members]) {
        cx.check_interrupts();
        let found = Found::new(cx, member, role);
        if cx.is_declared_subject(role.oid) {
            if found.is_direct() && cx.access.has_privileges_of(member.oid, role.oid) {
                drafts.push(
                    found
                        .draft(cx, GuardAction::Warn, Power::Inherited)
                        .key("inherited")
                        .fix(Fix::Proposal(format!(
                            "Queries that are executed without SET ROLE lose these privileges:\n{}",
                            end_inheritance(cx.snapshot, role.oid, member.oid)
                        )))
                        .measure(
                            Measure::excess("inherited", vec![]).limited_to(GuardAction::Warn),
                        ),
                );
            }
            continue;
        }
        // What a client or worker is a member of is reported for that role.
        let through_subject = cx.is_declared_subject(found.step.oid);
        let Some(power) = Power::of(cx, member, role).filter(|_| !through_subject) else {
            continue;
        };
        let is_reported = found.is_direct() || !found.options.is_empty();
        if is_reported && (cx.managed_role(role.oid).is_none() || role.superuser) {
            drafts.push(found.draft(cx, GuardAction::Block, power).fix(found.revoke(cx)));
        }
    }
    drafts
}

/// Returns the finding about a login role that can become no client: requests fail. A login role
/// of background jobs may become workers only, if another one becomes clients.
fn cut_off(cx: &Context<'_>, member: &Role) -> Option<Draft> {
    let clients = cx.declared_clients();
    let becomes = |login: &Role, role: &Role| cx.access.can_set_role(login.oid, role.oid);
    let becomes_client = |login: &Role| clients.iter().any(|client| becomes(login, client));
    let is_of_jobs = || {
        let mut workers = cx.workers.iter().filter(|worker| cx.is_worker(worker.oid));
        workers.any(|worker| becomes(member, worker)) && cx.logins().into_iter().any(becomes_client)
    };
    if clients.is_empty() || becomes_client(member) || is_of_jobs() {
        return None;
    }
    let detail = format!(
        "Role \"{}\" can become no client of the contract: requests that log in as this role fail.",
        printable(&member.name)
    );
    let names: Vec<_> = clients.iter().map(|client| safe_ident(&client.name)).collect();
    let grant = format!(
        "If requests log in as this role:\nGRANT {} TO {};",
        names.join(", "),
        safe_ident(&member.name)
    );
    let object = Object { id: ObjectId::Role(member.oid), ..Context::role_object(&member.name) };
    Some(
        Draft::new(object, Severity::Warning, detail)
            .role(&member.name)
            .key("no client")
            .evidence(json!({"problem": "no client"}))
            .fix(Fix::Proposal(grant))
            .measure(Measure::missing("no client", vec![]).limited_to(GuardAction::Warn)),
    )
}

/// Returns the undeclared roles that can log in and are members of other roles: people, services,
/// and login roles of an older contract.
fn undeclared_members<'a>(cx: &Context<'a>) -> Vec<&'a Role> {
    let members: BTreeSet<Oid> = cx.snapshot.memberships.iter().map(|m| m.member).collect();
    let mut roles: Vec<&Role> = members
        .iter()
        .filter_map(|oid| cx.snapshot.role(*oid))
        .filter(|role| {
            role.can_login
                && cx.contract.role(&role.name).is_none()
                && !cx.is_trusted_owner(role.oid)
                && role.oid != cx.snapshot.database.owner
                && !is_managed_by_pattern(cx, role)
        })
        .collect();
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    roles
}

/// Whether a pattern of the contract makes a role a managed one: a role of the platform that exists
/// for a limited time, with memberships that superusers granted. Where the contract lists the name
/// itself, nothing shows who created the role.
fn is_managed_by_pattern(cx: &Context<'_>, role: &Role) -> bool {
    cx.managed_role(role.oid).is_some() && !cx.contract.manages_role(&role.name, false)
}

/// The predefined roles that read or write all rows, or files of the server, or execute programs.
const WITH_DATA: [&str; 5] = [
    "pg_execute_server_program",
    "pg_read_all_data",
    "pg_read_server_files",
    "pg_write_all_data",
    "pg_write_server_files",
];

/// Returns the memberships by which an undeclared role can act as a role that the contract trusts:
/// an owner, or a worker unless the role may be a login role; and those in roles with which it can
/// access all rows: superusers, and some predefined roles. It is not known what they are for. A
/// member with ADMIN alone can grant itself the rest. A managed role needs most of them, but the
/// platform does not act as an owner.
fn of_undeclared(cx: &Context<'_>, member: &Role) -> Vec<Draft> {
    let may_be_login = cx.contract.roles_of(RoleKind::Login).next().is_none()
        && requests::may_be_login(cx.access, member, &cx.declared_clients());
    let is_managed = cx.managed_role(member.oid).is_some();
    let mut drafts = Vec::new();
    for role in reached(cx, member, &[Follow::Members]) {
        cx.check_interrupts();
        if Options::of(cx, member, role).is_empty() {
            continue;
        }
        let power = match cx.contract.kind_of(&role.name) {
            Some(RoleKind::Owner) => Power::Owner,
            _ if cx.contract.trusted_roles.contains(&role.name) => Power::Owner,
            _ if is_managed => continue,
            Some(RoleKind::Worker) if !may_be_login => Power::Worker,
            Some(_) => continue,
            _ if role.superuser => Power::Superuser,
            _ if role.replication && !member.replication => Power::Replicates,
            _ if WITH_DATA.contains(&role.name.as_str()) => Power::Predefined,
            _ => continue,
        };
        let found = Found::new(cx, member, role);
        let fix = Fix::Proposal(found.unless_intended(cx));
        drafts.push(found.draft(cx, GuardAction::Warn, power).fix(fix));
    }
    drafts
}

/// Returns the roles that `member` reaches through such memberships, in order of name. If the owner
/// of the database is one of them, its implicit membership in `pg_database_owner` is not another.
fn reached<'a>(cx: &Context<'a>, member: &Role, follow: &[Follow]) -> Vec<&'a Role> {
    let mut reached: BTreeSet<Oid> = follow
        .iter()
        .flat_map(|follow| cx.access.closure(member.oid, *follow).as_ref().clone())
        .filter(|role| *role != member.oid)
        .collect();
    if reached.contains(&cx.snapshot.database.owner) {
        reached.remove(&PG_DATABASE_OWNER);
    }
    let mut reached: Vec<&Role> =
        reached.iter().filter_map(|role| cx.snapshot.role(*role)).collect();
    reached.sort_by(|a, b| a.name.cmp(&b.name));
    reached
}

/// A membership.
struct Found<'a> {
    member: &'a Role,
    role: &'a Role,
    /// The role that was granted to the member, at the beginning of the shortest chain to `role`.
    step: &'a Role,
    options: Options,
}

/// What the options of memberships let the member do with a role. Before PostgreSQL 16 every member
/// can SET ROLE.
#[derive(Clone, Copy)]
struct Options {
    inherit: bool,
    set: bool,
    admin: bool,
}

impl Options {
    fn of(cx: &Context<'_>, member: &Role, role: &Role) -> Self {
        let reaches = |follow| cx.access.closure(member.oid, follow).contains(&role.oid);
        Self {
            inherit: reaches(Follow::Privileges),
            set: reaches(Follow::Set),
            admin: cx.access.is_admin_of(member.oid, role.oid),
        }
    }

    /// Returns the options that are true, as GRANT names them.
    fn words(self) -> Vec<&'static str> {
        let each = [(self.inherit, "INHERIT"), (self.set, "SET"), (self.admin, "ADMIN")];
        each.into_iter().filter(|(is_true, _)| *is_true).map(|(_, word)| word).collect()
    }

    fn is_empty(self) -> bool {
        !(self.inherit || self.set || self.admin)
    }
}

impl<'a> Found<'a> {
    fn new(cx: &Context<'a>, member: &'a Role, role: &'a Role) -> Self {
        let step = cx.access.first_step(member.oid, role.oid);
        let step = step.and_then(|oid| cx.snapshot.role(oid)).unwrap_or(role);
        Self { member, role, step, options: Options::of(cx, member, role) }
    }

    fn is_direct(&self) -> bool {
        self.step.oid == self.role.oid
    }

    /// Returns the finding, without fix. `action` is that of the guard where the membership gives
    /// anything. The guard compares the options: one that becomes true is a regression.
    fn draft(&self, cx: &Context<'_>, action: GuardAction, power: Power) -> Draft {
        let action = if self.options.is_empty() { GuardAction::Warn } else { action };
        let severity =
            if action == GuardAction::Block { Severity::Error } else { Severity::Warning };
        let through = if self.is_direct() {
            String::new()
        } else {
            format!(" through role \"{}\"", printable(&self.step.name))
        };
        let detail = format!(
            "Role \"{}\" is a member of role \"{}\"{through}, {}.",
            printable(&self.member.name),
            printable(&self.role.name),
            self.clause(power)
        );
        let object =
            Object { id: ObjectId::Role(self.role.oid), ..Context::role_object(&self.role.name) };
        Draft::new(object, severity, detail)
            .role(&self.member.name)
            .evidence(json!({
                "through": cx.snapshot.role_name(self.step.oid),
                "strength": power.evidence(),
                "options": self.options.words(),
            }))
            .measure(Measure {
                extent: self.options.words(),
                ..Measure::default().limited_to(action)
            })
    }

    /// Returns the clause that follows the role in the finding.
    fn clause(&self, power: Power) -> String {
        if self.options.is_empty() {
            return "which gives it no privileges while INHERIT, SET and ADMIN are FALSE"
                .to_owned();
        }
        let admin = if self.options.admin { ", and can grant membership in it" } else { "" };
        format!("{}{admin}", power.clause())
    }

    /// Returns the proposal to revoke the membership.
    fn unless_intended(&self, cx: &Context<'_>) -> String {
        let revoke = self.revoke(cx).sql().unwrap_or_else(|| {
            format!(
                "REVOKE {} FROM {};",
                safe_ident(&self.step.name),
                safe_ident(&self.member.name)
            )
        });
        format!("If this is not intended:\n{revoke}")
    }

    /// Returns the REVOKE of the membership at the beginning of the chain.
    fn revoke(&self, cx: &Context<'_>) -> Fix {
        Fix::or_proposal(end_membership(cx, self.member.oid, self.step.oid), || {
            format!("ALTER DATABASE {} OWNER TO ...;", safe_ident(&cx.snapshot.database.name))
        })
    }
}

/// Returns the proposal for a worker that can log in and become clients.
fn declare_login(cx: &Context<'_>, member: &Role, step: &Role) -> String {
    let name = printable(&member.name);
    let revoke = end_membership(cx, member.oid, step.oid)
        .into_iter()
        .flatten()
        .map(|statement| statement.to_string())
        .collect::<Vec<_>>();
    format!(
        "If requests log in as \"{name}\" and become other roles, declare it with kind \"login\". \
         Otherwise:\n{}",
        revoke.join("\n")
    )
}

/// What a member of a role can do that it should not.
#[derive(Clone, Copy)]
enum Power {
    Owner,
    Client,
    Worker,
    Login,
    Superuser,
    BypassesRowSecurity,
    CreatesRoles,
    CreatesDatabases,
    Replicates,
    DatabaseOwner,
    Predefined,
    /// A login role has the privileges of the role without SET ROLE.
    Inherited,
    /// A worker has the privileges of another one.
    Group,
    /// Only the privileges of the role.
    Other,
}

impl Power {
    /// Returns what makes a role more powerful than the member; `None` if nothing does.
    fn of(cx: &Context<'_>, member: &Role, role: &Role) -> Option<Self> {
        let kind = |role: &Role| cx.contract.kind_of(&role.name);
        match kind(role) {
            Some(RoleKind::Owner) => return Some(Self::Owner),
            Some(RoleKind::Client) => return Some(Self::Client),
            Some(RoleKind::Login) => return Some(Self::Login),
            Some(RoleKind::Worker) if kind(member) == Some(RoleKind::Client) => {
                return Some(Self::Worker);
            }
            _ if cx.contract.trusted_roles.contains(&role.name) => return Some(Self::Owner),
            _ => {}
        }
        [
            (role.superuser, Self::Superuser),
            (role.bypass_rls && !member.bypass_rls, Self::BypassesRowSecurity),
            (role.create_role, Self::CreatesRoles),
            (role.create_db, Self::CreatesDatabases),
            (role.replication, Self::Replicates),
            (role.oid == PG_DATABASE_OWNER, Self::DatabaseOwner),
            (role.name.starts_with("pg_"), Self::Predefined),
        ]
        .into_iter()
        .find(|(applies, _)| *applies)
        .map(|(_, power)| power)
    }

    /// Returns the clause that follows the role in the finding.
    fn clause(self) -> &'static str {
        match self {
            Self::Owner => "which is an owner role of the contract",
            Self::Client => "which is another client role",
            Self::Worker => "which is a worker role",
            Self::Login => "which is a login role and can become other roles",
            Self::Superuser => "which is a superuser",
            Self::BypassesRowSecurity => "which bypasses row security",
            Self::CreatesRoles => "which can create roles",
            Self::CreatesDatabases => "which can create databases",
            Self::Replicates => "which can read all data by replication",
            Self::DatabaseOwner => "because it owns the database",
            Self::Predefined => "which is a predefined role with privileges that no ACL shows",
            Self::Inherited => "whose privileges it has without SET ROLE",
            Self::Group => "which is another worker role",
            Self::Other => "whose privileges the contract does not declare for it",
        }
    }

    /// Returns the value in the evidence. Exemptions compare it, so it must not change.
    fn evidence(self) -> &'static str {
        match self {
            Self::Owner => "which owns the structure",
            Self::Client => "another client role",
            Self::Worker => "a worker role",
            Self::Login => "a login role",
            Self::Superuser => "a superuser",
            Self::BypassesRowSecurity => "which bypasses row security",
            Self::CreatesRoles => "which may create roles",
            Self::CreatesDatabases => "which may create databases",
            Self::Replicates => "which may read everything by replication",
            Self::DatabaseOwner => "for it owns the database",
            Self::Predefined => "a predefined role with powers that no grant shows",
            Self::Inherited => "whose privileges it inherits",
            Self::Group | Self::Other => {
                "and may do what that role may, which the contract does not declare"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::contract::RoleKind;

    #[test]
    fn membership_of_a_client_in_a_worker_is_reported_even_if_indirect() {
        let mut world = World::conforming();
        world.add_role("helpers");
        world.grant_role("helpers", "anon");
        let helpers = "warning role helpers anon: Role \"anon\" is a member of role \"helpers\", \
                       whose privileges the contract does not declare for it. => REVOKE helpers \
                       FROM anon;";
        assert_eq!(world.found(&RULE), [helpers]);
        world.grant_role("service_role", "helpers");
        assert_eq!(
            world.found(&RULE),
            [
                helpers,
                "error role service_role anon: Role \"anon\" is a member of role \"service_role\" \
              through role \"helpers\", which is a worker role. \
              => REVOKE helpers FROM anon;"
            ]
        );
    }

    #[test]
    fn membership_of_a_service_in_its_group_is_reported_and_revoked_by_no_plan() {
        let mut world = World::conforming();
        world.add_role("app_rw");
        world.add_login("service");
        world.declare("app_rw", RoleKind::Worker);
        world.declare("service", RoleKind::Worker);
        world.grant_role("app_rw", "service");
        assert_eq!(
            world.found(&RULE),
            ["warning role app_rw service: Role \"service\" is a member of role \"app_rw\", \
              which is another worker role."]
        );
        // A group with more power is none that a service needs.
        world.role("app_rw").bypass_rls = true;
        assert_eq!(
            world.found(&RULE),
            ["error role app_rw service: Role \"service\" is a member of role \"app_rw\", which \
              bypasses row security. => REVOKE app_rw FROM service;"]
        );
    }

    /// Returns a world of a release in which `anon` is a member of `role` with these options.
    fn world_with_options(version: u32, role: &str, options: [bool; 3]) -> World {
        let mut world = World::conforming();
        world.snapshot.version = version;
        world.add_role("helper");
        world.grant_role(role, "anon");
        let membership = world.snapshot.memberships.last_mut().unwrap();
        [membership.inherit, membership.set, membership.admin] = options;
        world
    }

    #[test]
    fn membership_without_options_gives_nothing_since_16() {
        for role in ["helper", "service_role"] {
            let world = world_with_options(16, role, [false; 3]);
            let expected = format!(
                "warning role {role} anon: Role \"anon\" is a member of role \"{role}\", which \
                 gives it no privileges while INHERIT, SET and ADMIN are FALSE. => REVOKE {role} \
                 FROM anon GRANTED BY root;"
            );
            assert_eq!(world.found(&RULE), [expected]);
        }
    }

    #[test]
    fn roles_behind_a_membership_without_options_are_not_reached_since_16() {
        let mut world = world_with_options(16, "helper", [false; 3]);
        world.grant_role("service_role", "helper");
        assert_eq!(world.findings(&RULE).len(), 1);
        world.snapshot.memberships[0].set = true;
        assert_eq!(world.findings(&RULE).len(), 2);
    }

    #[test]
    fn membership_with_admin_says_so() {
        let world = world_with_options(16, "helper", [false, false, true]);
        assert_eq!(
            world.found(&RULE),
            ["warning role helper anon: Role \"anon\" is a member of role \"helper\", whose \
              privileges the contract does not declare for it, and can grant membership in it. => \
              REVOKE helper FROM anon GRANTED BY root CASCADE;"]
        );
    }

    /// Returns a world with a login role that can become every client and the worker.
    fn world_with_login(kind: Option<RoleKind>) -> World {
        let mut world = World::conforming();
        world.add_login("gateway");
        kind.into_iter().for_each(|kind| world.declare("gateway", kind));
        for role in ["anon", "authenticated", "service_role"] {
            world.grant_role_without_inherit(role, "gateway");
        }
        world
    }

    #[test]
    fn memberships_of_a_login_role_in_clients_and_workers_are_its_purpose() {
        for kind in [None, Some(RoleKind::Login)] {
            assert_eq!(world_with_login(kind).found(&RULE), [""; 0], "{kind:?}");
        }
    }

    #[test]
    fn login_role_that_can_become_no_client_is_reported() {
        let mut world = world_with_login(Some(RoleKind::Login));
        let expected = "warning role gateway gateway: Role \"gateway\" can become no client of \
                        the contract: requests that log in as this role fail.";
        let worker = world.role("service_role").oid;
        world.snapshot.memberships.retain(|m| m.role == worker);
        assert_eq!(world.found(&RULE), [expected]);
        world.add_login("web");
        world.declare("web", RoleKind::Login);
        world.grant_role_without_inherit("anon", "web");
        assert_eq!(world.found(&RULE), [""; 0], "one becomes clients, the other workers");
        world.snapshot.memberships.retain(|m| m.role != worker);
        assert_eq!(world.found(&RULE), [expected]);
    }

    #[test]
    fn login_role_that_inherits_from_a_client_is_a_proposal() {
        let mut world = world_with_login(Some(RoleKind::Login));
        world.snapshot.memberships[0].inherit = true;
        assert_eq!(
            world.found(&RULE),
            ["warning role anon gateway: Role \"gateway\" is a member of role \"anon\", whose \
              privileges it has without SET ROLE."]
        );
    }

    #[test]
    fn login_role_must_not_become_owners_superusers_and_predefined_roles() {
        let mut world = world_with_login(Some(RoleKind::Login));
        world.add_role("pg_read_all_data");
        for role in ["postgres", "root", "pg_read_all_data"] {
            world.grant_role_without_inherit(role, "gateway");
        }
        let reported: Vec<String> =
            world.findings(&RULE).iter().map(|f| f.object.identity.clone()).collect();
        assert_eq!(reported, ["pg_read_all_data", "postgres", "root"]);
        assert_eq!(world.fixes(&RULE).len(), 3);
    }

    #[test]
    fn login_role_may_become_a_managed_role() {
        let mut world = world_with_login(Some(RoleKind::Login));
        world.add_role("storage_admin");
        world.role("storage_admin").create_role = true;
        world.grant_role_without_inherit("storage_admin", "gateway");
        assert_eq!(world.findings(&RULE).len(), 1);
        world.contract.managed.roles = vec!["storage_admin".into()];
        assert_eq!(world.found(&RULE), [""; 0]);
        world.role("storage_admin").superuser = true;
        assert_eq!(world.findings(&RULE).len(), 1, "requests could become a superuser");
    }

    #[test]
    fn worker_that_may_be_a_login_role_loses_no_membership() {
        let world = world_with_login(Some(RoleKind::Worker));
        assert_eq!(world.findings(&RULE).len(), 3);
        assert_eq!(world.fixes(&RULE), [""; 0]);
    }

    #[test]
    fn undeclared_role_that_can_read_all_rows_is_reported() {
        let mut world = World::conforming();
        world.add_login("backup");
        for role in ["pg_read_all_data", "pg_monitor"] {
            world.add_role(role);
            world.grant_role(role, "backup");
        }
        let found = world.found(&RULE);
        assert!(
            found.len() == 1 && found[0].starts_with("warning role pg_read_all_data backup"),
            "{found:?}"
        );
    }

    #[test]
    fn undeclared_member_of_a_superuser_or_with_admin_alone_is_reported() {
        let mut world = World::conforming();
        world.snapshot.version = 16;
        world.add_login("alice");
        world.add_role("boss");
        world.role("boss").superuser = true;
        world.grant_role("boss", "alice");
        world.grant_role("postgres", "alice");
        let membership = world.snapshot.memberships.last_mut().unwrap();
        [membership.inherit, membership.set, membership.admin] = [false, false, true];
        assert_eq!(
            world.found(&RULE),
            [
                "warning role boss alice: Role \"alice\" is a member of role \"boss\", which is a \
                 superuser.",
                "warning role postgres alice: Role \"alice\" is a member of role \"postgres\", \
                 which is an owner role of the contract, and can grant membership in it.",
            ]
        );
    }

    #[test]
    fn undeclared_role_that_can_act_as_an_owner_or_worker_is_reported() {
        let mut world = World::conforming();
        world.add_login("alice");
        world.grant_role("anon", "alice");
        assert_eq!(world.found(&RULE), [""; 0], "what a client can do, requests can do anyway");
        world.grant_role("service_role", "alice");
        assert_eq!(world.found(&RULE), [""; 0], "as a login role");
        world.snapshot.memberships.remove(0);
        world.grant_role("postgres", "alice");
        assert_eq!(
            world.found(&RULE),
            [
                "warning role postgres alice: Role \"alice\" is a member of role \"postgres\", \
                 which is an owner role of the contract.",
                "warning role service_role alice: Role \"alice\" is a member of role \
                 \"service_role\", which is a worker role.",
            ]
        );
        world.contract.managed.roles = vec!["al*".into()];
        assert_eq!(world.found(&RULE), [""; 0], "the platform's");
        let grantor = world.role("anon").oid;
        world.snapshot.memberships.last_mut().unwrap().grantor = grantor;
        assert_eq!(world.findings(&RULE).len(), 2, "a superuser did not grant all of it");
        world.contract.managed.roles = vec!["alice".into()];
        let found = world.found(&RULE);
        assert!(
            found.len() == 1 && found[0].starts_with("warning role postgres alice"),
            "a name excuses no membership in an owner: {found:?}"
        );
    }
}

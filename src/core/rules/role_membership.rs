//! A client or worker role is a member of another role.

use super::context::Context;
use super::shared::privileges::end_membership;
use crate::access::Follow;
use crate::catalog::{Object, ObjectId, PG_DATABASE_OWNER, Role};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "role_membership",
    title: "A client or worker role is a member of another role",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::Roles,
    breaks_declared: false,
    section: "2",
    checks: "No client or worker role is a direct or indirect member of a role that the \
             contract does not declare for it.",
    why: "A member can use SET ROLE or inherits the privileges of the role, so every request \
          can do what that role can do. NOINHERIT does not prevent SET ROLE. PostgreSQL fires \
          no event trigger for GRANT of a role, so only hardened mode blocks it.",
    fix: "Revoke the membership.",
    exempt: "A group role without privileges of its own that an external tool needs.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT service_role TO authenticated;",
        correct: "GRANT authenticated TO authenticator;",
    },
    references: &["CIS PostgreSQL Benchmark 4.3", "CWE-269"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for member in cx.subjects.iter().copied() {
        let mut reached: Vec<&Role> = cx
            .access
            .closure(member.oid, Follow::Members)
            .iter()
            .filter(|role| **role != member.oid)
            .filter_map(|role| cx.snapshot.role(*role))
            .collect();
        reached.sort_by(|a, b| a.name.cmp(&b.name));
        for role in reached {
            let step = cx.access.first_step(member.oid, role.oid).unwrap_or(role.oid);
            let (severity, at_most, power) = match Power::of(cx, member, role) {
                Some(power) => (Severity::Error, GuardAction::Block, power),
                None if step == role.oid => (Severity::Warning, GuardAction::Warn, Power::Other),
                None => continue,
            };
            let through = if step == role.oid {
                String::new()
            } else {
                format!(" through role \"{}\"", printable(&cx.snapshot.role_name(step)))
            };
            let detail = format!(
                "Role \"{}\" is a member of role \"{}\"{through}, {}.",
                printable(&member.name),
                printable(&role.name),
                power.clause()
            );
            let fix = Fix::or_proposal(end_membership(cx, member.oid, step), || {
                format!("ALTER DATABASE {} OWNER TO ...;", safe_ident(&cx.snapshot.database.name))
            });
            let object =
                Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) };
            let draft = Draft::new(object, severity, detail)
                .role(&member.name)
                .evidence(json!({
                    "through": cx.snapshot.role_name(step),
                    "strength": power.evidence(),
                }))
                .fix(fix)
                .measure(Measure::default().limited_to(at_most));
            out.push(draft);
        }
    }
}

/// What a member of a role can do that it should not.
#[derive(Clone, Copy)]
enum Power {
    Owner,
    Client,
    Worker,
    Superuser,
    BypassesRowSecurity,
    CreatesRoles,
    CreatesDatabases,
    Replicates,
    DatabaseOwner,
    Predefined,
    /// Only the privileges of the role.
    Other,
}

impl Power {
    /// Returns what makes a role more powerful than the member; `None` if nothing does.
    fn of(cx: &Context<'_>, member: &Role, role: &Role) -> Option<Self> {
        let kind = |name: &str| cx.contract.roles.iter().find(|r| r.name == name).map(|r| r.kind);
        match kind(&role.name) {
            Some(RoleKind::Owner) => return Some(Self::Owner),
            Some(RoleKind::Client) => return Some(Self::Client),
            Some(RoleKind::Worker) if kind(&member.name) == Some(RoleKind::Client) => {
                return Some(Self::Worker);
            }
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
            Self::Superuser => "which is a superuser",
            Self::BypassesRowSecurity => "which bypasses row security",
            Self::CreatesRoles => "which can create roles",
            Self::CreatesDatabases => "which can create databases",
            Self::Replicates => "which can read all data by replication",
            Self::DatabaseOwner => "because it owns the database",
            Self::Predefined => "which is a predefined role with privileges that no ACL shows",
            Self::Other => "whose privileges the contract does not declare for it",
        }
    }

    /// Returns the value in the evidence. Exemptions compare it, so it must not change.
    fn evidence(self) -> &'static str {
        match self {
            Self::Owner => "which owns the structure",
            Self::Client => "another client role",
            Self::Worker => "a worker role",
            Self::Superuser => "a superuser",
            Self::BypassesRowSecurity => "which bypasses row security",
            Self::CreatesRoles => "which may create roles",
            Self::CreatesDatabases => "which may create databases",
            Self::Replicates => "which may read everything by replication",
            Self::DatabaseOwner => "for it owns the database",
            Self::Predefined => "a predefined role with powers that no grant shows",
            Self::Other => "and may do what that role may, which the contract does not declare",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

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
}

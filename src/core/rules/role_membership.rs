//! A client or worker role can become something stronger by a membership.

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
            let (severity, strength) = match strength(cx, member, role) {
                Some(strength) => (Severity::Error, strength),
                None if step == role.oid => (
                    Severity::Warning,
                    "and may do what that role may, which the contract does not declare",
                ),
                None => continue,
            };
            let by = match step == role.oid {
                true => String::new(),
                false => format!(" by way of \"{}\"", printable(&cx.snapshot.role_name(step))),
            };
            out.push(Draft {
                object: Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) },
                role: Some(member.name.clone()),
                severity,
                key: String::new(),
                measure: Measure {
                    at_most: if severity == Severity::Error {
                        GuardAction::Block
                    } else {
                        GuardAction::Warn
                    },
                    ..Measure::default()
                },
                detail: format!(
                    "Role \"{}\" is a member of \"{}\"{by}, {strength}.",
                    printable(&member.name),
                    printable(&role.name)
                ),
                evidence: json!({"through": cx.snapshot.role_name(step), "strength": strength}),
                fix: Fix::or_proposal(end_membership(cx, member.oid, step), || {
                    format!(
                        "ALTER DATABASE {} OWNER TO ...;",
                        safe_ident(&cx.snapshot.database.name)
                    )
                }),
            });
        }
    }
}

/// What makes a role stronger than the member, if anything does.
fn strength(cx: &Context<'_>, member: &Role, role: &Role) -> Option<&'static str> {
    let kind = |name: &str| cx.contract.roles.iter().find(|r| r.name == name).map(|r| r.kind);
    match kind(&role.name) {
        Some(RoleKind::Owner) => return Some("which owns the structure"),
        Some(RoleKind::Client) => return Some("another client role"),
        Some(RoleKind::Worker) if kind(&member.name) == Some(RoleKind::Client) => {
            return Some("a worker role");
        }
        _ => {}
    }
    [
        (role.superuser, "a superuser"),
        (role.bypass_rls && !member.bypass_rls, "which bypasses row security"),
        (role.create_role, "which may create roles"),
        (role.create_db, "which may create databases"),
        (role.replication, "which may read everything by replication"),
        (role.oid == PG_DATABASE_OWNER, "for it owns the database"),
        (role.name.starts_with("pg_"), "a predefined role with powers that no grant shows"),
    ]
    .into_iter()
    .find(|(is, _)| *is)
    .map(|(_, strength)| strength)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn a_client_must_not_reach_the_worker_even_in_two_steps() {
        let mut world = World::conforming();
        world.add_role("helpers");
        world.grant_role("helpers", "anon");
        let helpers = "warning role helpers anon: Role \"anon\" is a member of \"helpers\", and may do what that role may, which the \
                       contract does not declare. => REVOKE helpers FROM anon;";
        assert_eq!(world.found(&RULE), [helpers]);
        world.grant_role("service_role", "helpers");
        assert_eq!(
            world.found(&RULE),
            [
                helpers,
                "error role service_role anon: Role \"anon\" is a member of \"service_role\" by way of \"helpers\", a worker role. \
              => REVOKE helpers FROM anon;"
            ]
        );
    }
}

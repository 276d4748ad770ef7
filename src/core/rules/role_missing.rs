//! A role that the contract declares does not exist.

use super::context::Context;
use crate::catalog::{Attribute, Role};
use crate::contract::{GuardAction, RoleDecl, RoleKind, Severity};
use crate::finding::Draft;
use crate::fix::{Change, Fix, Statement, ignoring};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};

/// The rule.
pub static RULE: Rule = Rule {
    id: "role_missing",
    title: "A declared role does not exist",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::DependentObjectsStillExist,
    recheck: Recheck::Roles,
    breaks_declared: true,
    checks: "Every role that the contract declares exists.",
    why: "Grants and policies that name a missing role protect nothing. A role created later \
          under that name gets every privilege that the application then grants to it.",
    fix: "Create the role with the attributes that the contract declares.",
    exempt: "A role that the platform creates later, for example in a staging cluster. Remove it \
             from the contract if it will not be created.",
    exempt_by_pattern: true,
    example: Example {
        violating: "DROP OWNED BY service_role; DROP ROLE service_role;",
        correct: "ALTER ROLE service_role NOLOGIN;",
    },
    references: &["CWE-266"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for declared in &cx.contract.roles {
        if cx.snapshot.role_named(&declared.name).is_some() {
            continue;
        }
        let attributes: String =
            wanted(declared).map(|attribute| format!(" {}", attribute.as_str())).collect();
        // A login role must not inherit the privileges of the roles that it becomes.
        let login = if declared.kind == RoleKind::Login { "LOGIN NOINHERIT" } else { "NOLOGIN" };
        let create = format!("CREATE ROLE {} {login}{attributes};", safe_ident(&declared.name));
        // There is no CREATE ROLE IF NOT EXISTS.
        let repeatable = ignoring(&create, "duplicate_object");
        let change = Change::AddRole(new_role(declared));
        let detail = format!(
            "Role \"{}\", which the contract declares, does not exist.",
            printable(&declared.name)
        );
        let draft = Draft::new(Context::role_object(&declared.name), Severity::Error, detail)
            .role(&declared.name)
            .fix(Fix::by(Statement::with_repeatable(change, create, repeatable)));
        out.push(draft);
    }
}

/// Returns the role that the statement creates.
fn new_role(declared: &RoleDecl) -> Role {
    let is_login = declared.kind == RoleKind::Login;
    let mut role = Role {
        name: declared.name.clone(),
        inherit: !is_login,
        can_login: is_login,
        ..Role::default()
    };
    wanted(declared).for_each(|attribute| role.set(attribute, true));
    role
}

/// Returns the declared attributes that CREATE ROLE must name.
fn wanted(declared: &RoleDecl) -> impl Iterator<Item = Attribute> {
    Attribute::ALL.into_iter().filter(|attribute| declared.attribute(*attribute) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::contract::RoleKind;

    #[test]
    fn missing_role_is_fixed_by_create_role_with_its_attributes() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.roles.retain(|r| r.name != "service_role");
        assert_eq!(
            world.found(&RULE),
            ["error role service_role service_role: Role \"service_role\", which the contract \
                 declares, does not exist. \
              => CREATE ROLE service_role NOLOGIN BYPASSRLS;"]
        );
    }

    #[test]
    fn missing_login_role_is_created_with_login_and_noinherit() {
        let mut world = World::conforming();
        world.declare("gateway", RoleKind::Login);
        assert_eq!(world.fixes(&RULE), ["CREATE ROLE gateway LOGIN NOINHERIT;"]);
    }
}

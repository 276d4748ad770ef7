//! A role that the contract declares does not exist.

use super::{Area, Context, Rule};
use crate::catalog::{Attribute, Role};
use crate::contract::{GuardAction, RoleDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::{Change, Mend, Statement};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "role_missing",
    title: "A declared role does not exist",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Audit,
    section: "2",
    why: "Grants and policies for a role that is not there protect and permit nothing; whoever creates a role of that name \
          later gets whatever the application then gives it.",
    mend: "Create the role with the attributes that the contract declares.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for declared in &cx.contract.roles {
        if cx.snapshot.role_named(&declared.name).is_some() {
            continue;
        }
        let attributes: String = wanted(declared).map(|attribute| format!(" {}", attribute.word())).collect();
        out.push(Draft {
            object: Context::role_object(&declared.name),
            role: Some(declared.name.clone()),
            severity: Severity::Error,
            key: String::new(),
            measure: Measure::default(),
            detail: format!("Role \"{}\", which the contract declares, does not exist.", printable(&declared.name)),
            evidence: json!({}),
            mend: Mend::by(Statement::new(
                Change::AddRole(new_role(declared)),
                format!("CREATE ROLE {} NOLOGIN{attributes};", safe_ident(&declared.name)),
            )),
        });
    }
}

/// The role as it will be.
fn new_role(declared: &RoleDecl) -> Role {
    let mut role = Role { name: declared.name.clone(), inherit: true, ..Role::default() };
    wanted(declared).for_each(|attribute| role.set(attribute, true));
    role
}

/// The declared attributes that a new role does not have by itself.
fn wanted(declared: &RoleDecl) -> impl Iterator<Item = Attribute> {
    Attribute::ALL.into_iter().filter(|attribute| declared.attribute(*attribute) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn a_missing_role_is_created_with_its_attributes() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.roles.retain(|r| r.name != "service_role");
        assert_eq!(
            world.found(&RULE),
            ["error role service_role service_role: Role \"service_role\", which the contract declares, does not exist. \
              => CREATE ROLE service_role NOLOGIN BYPASSRLS;"]
        );
    }
}

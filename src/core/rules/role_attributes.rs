//! The attributes of a role differ from the contract.

use super::context::Context;
use crate::catalog::{Attribute, Object, ObjectId};
use crate::contract::{GuardAction, RoleDecl, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "role_attributes",
    title: "The attributes of a role differ from the contract",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::Roles,
    breaks_declared: true,
    section: "2",
    checks: "Each declared role has exactly the attributes that the contract declares for it: \
             SUPERUSER, BYPASSRLS, CREATEROLE, CREATEDB, REPLICATION. A login role must not have \
             SUPERUSER or BYPASSRLS even if its declaration omits them.",
    why: "SUPERUSER and BYPASSRLS bypass every policy; with CREATEROLE and CREATEDB a role can \
          gain further privileges. PostgreSQL fires no event trigger for ALTER ROLE, so only \
          hardened mode blocks it.",
    fix: "Run ALTER ROLE with the attribute that the contract declares.",
    exempt: "During a migration that needs the attribute for a limited time; set an expiry.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER ROLE anon BYPASSRLS;",
        correct: "ALTER ROLE anon NOBYPASSRLS;",
    },
    references: &["CIS PostgreSQL Benchmark 4.3", "CWE-250"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for declared in &cx.contract.roles {
        let Some(role) = cx.snapshot.role_named(&declared.name) else { continue };
        for attribute in Attribute::ALL {
            let (actual, word) = (role.has(attribute), attribute.as_str());
            let stated = declared.attribute(attribute);
            let Some(wanted) = stated.or_else(|| of_kind(declared, attribute)) else { continue };
            if wanted == actual {
                continue;
            }
            let (no, has, requires) = match (wanted, stated) {
                (true, _) => ("", "does not have", "which the contract requires"),
                (false, Some(_)) => ("NO", "has", "which the contract forbids"),
                (false, None) => ("NO", "has", "which a login role must not have"),
            };
            let detail =
                format!("Role \"{}\" {has} attribute {word}, {requires}.", printable(&role.name));
            let alter = Statement::new(
                Change::AlterRole { role: role.oid, attribute, on: wanted },
                format!("ALTER ROLE {} {no}{word};", safe_ident(&role.name)),
            );
            let object =
                Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) };
            let draft = Draft::new(object, Severity::Error, detail)
                .role(&role.name)
                .key(word)
                .evidence(json!({"attribute": word, "declared": wanted, "actual": actual}))
                .fix(Fix::by(alter))
                .measure(Measure { is_missing: wanted, ..Measure::default() });
            out.push(draft);
        }
    }
}

/// Returns what the kind of a role requires where its declaration omits an attribute: a login role
/// with one of these would make row security and privileges ineffective for every request that
/// does not change its role.
fn of_kind(declared: &RoleDecl, attribute: Attribute) -> Option<bool> {
    let bypasses = matches!(attribute, Attribute::Superuser | Attribute::BypassRls);
    (declared.kind == RoleKind::Login && bypasses).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::contract::RoleKind;

    #[test]
    fn login_role_must_not_bypass_row_security() {
        let mut world = World::conforming();
        world.add_login("gateway");
        world.declare("gateway", RoleKind::Login);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.role("gateway").bypass_rls = true;
        world.role("gateway").create_db = true;
        assert_eq!(
            world.found(&RULE),
            ["error role gateway gateway: Role \"gateway\" has attribute BYPASSRLS, which a \
                 login role must not have. => ALTER ROLE gateway NOBYPASSRLS;"]
        );
    }

    #[test]
    fn undeclared_and_missing_attributes_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.role("anon").bypass_rls = true;
        world.role("service_role").bypass_rls = false;
        assert_eq!(
            world.found(&RULE),
            [
                "error role anon anon: Role \"anon\" has attribute BYPASSRLS, which the contract \
                 forbids. \
                 => ALTER ROLE anon NOBYPASSRLS;",
                "error role service_role service_role: Role \"service_role\" does not have \
                 attribute BYPASSRLS, \
                 which the contract requires. => ALTER ROLE service_role BYPASSRLS;"
            ]
        );
    }
}

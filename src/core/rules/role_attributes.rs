//! A role has attributes that the contract does not give it, or lacks one.

use super::{Area, Context, Rule};
use crate::catalog::{Attribute, Object, ObjectId};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::{Change, Mend, Statement};
use crate::sql::{printable, safe_ident};
use serde_json::json;

pub(super) static RULE: Rule = Rule {
    id: "role_attributes",
    title: "A role's attributes differ from the contract",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "2",
    why: "SUPERUSER and BYPASSRLS pass every policy by; CREATEROLE and CREATEDB are a way to more. No event tells of such a change.",
    mend: "ALTER ROLE with the attribute that the contract declares.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for declared in &cx.contract.roles {
        let Some(role) = cx.snapshot.role_named(&declared.name) else { continue };
        for attribute in Attribute::ALL {
            let (actual, word) = (role.has(attribute), attribute.word());
            let Some(wanted) = declared.attribute(attribute).filter(|w| *w != actual) else { continue };
            let (no, verb) = if wanted { ("", "lacks") } else { ("NO", "has") };
            out.push(Draft {
                object: Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) },
                role: Some(role.name.clone()),
                severity: Severity::Error,
                key: word.to_owned(),
                measure: Measure { lacks: wanted, ..Measure::default() },
                detail: format!(
                    "Role \"{}\" {verb} the attribute {word}, which the contract {}.",
                    printable(&role.name),
                    if wanted { "demands" } else { "forbids" }
                ),
                evidence: json!({"attribute": word, "declared": wanted, "actual": actual}),
                mend: Mend::by(Statement::new(
                    Change::AlterRole { role: role.oid, attribute, on: wanted },
                    format!("ALTER ROLE {} {no}{word};", safe_ident(&role.name)),
                )),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn bypassrls_is_for_the_worker_alone() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.role("anon").bypass_rls = true;
        world.role("service_role").bypass_rls = false;
        assert_eq!(
            world.found(&RULE),
            [
                "error role anon anon: Role \"anon\" has the attribute BYPASSRLS, which the contract forbids. \
                 => ALTER ROLE anon NOBYPASSRLS;",
                "error role service_role service_role: Role \"service_role\" lacks the attribute BYPASSRLS, which the contract \
                 demands. => ALTER ROLE service_role BYPASSRLS;"
            ]
        );
    }
}

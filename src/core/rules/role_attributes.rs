//! The attributes of a role differ from the contract.

use super::context::Context;
use crate::catalog::{Attribute, Object, ObjectId, ObjectKind, Privileges, Role};
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
    checks: "Each declared role has exactly the attributes that the contract declares for it: \
             SUPERUSER, BYPASSRLS, CREATEROLE, CREATEDB, REPLICATION. A client or login role must \
             have none of them even if its declaration omits them; CREATEDB is a warning then. A \
             login role has LOGIN, and CONNECT on the database.",
    why: "SUPERUSER and BYPASSRLS bypass every policy; with CREATEROLE a role can give a password \
          to the owner, or grant itself memberships; with REPLICATION it can read all data. Every \
          request can use the attributes of its login role after RESET ROLE. PostgreSQL fires no \
          event trigger for ALTER ROLE, so only hardened mode blocks it.",
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
        if declared.kind == RoleKind::Login {
            out.extend(cannot_log_in(cx, role));
        }
        for attribute in Attribute::ALL {
            let (actual, word) = (role.has(attribute), attribute.as_str());
            let stated = declared.attribute(attribute);
            let Some(wanted) = stated.or_else(|| of_kind(declared)) else { continue };
            if wanted == actual {
                continue;
            }
            let (no, has, requires) = match (wanted, stated) {
                (true, _) => ("", "does not have", "which the contract requires"),
                (false, Some(_)) => ("NO", "has", "which the contract forbids"),
                (false, None) if declared.kind == RoleKind::Login => {
                    ("NO", "has", "which a login role must not have")
                }
                (false, None) => ("NO", "has", "which a client must not have"),
            };
            let severity = match (stated, attribute) {
                // Databases of its own give it no access to this one.
                (None, Attribute::CreateDb) => Severity::Warning,
                _ => Severity::Error,
            };
            let detail =
                format!("Role \"{}\" {has} attribute {word}, {requires}.", printable(&role.name));
            let alter = Statement::new(
                Change::AlterRole { role: role.oid, attribute, on: wanted },
                format!("ALTER ROLE {} {no}{word};", safe_ident(&role.name)),
            );
            let object =
                Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) };
            let draft = Draft::new(object, severity, detail)
                .role(&role.name)
                .key(word)
                .evidence(json!({"attribute": word, "declared": wanted, "actual": actual}))
                .fix(Fix::by(alter))
                .measure(Measure { is_missing: wanted, ..Measure::default() });
            out.push(draft);
        }
    }
}

/// Returns what to report about a login role that cannot log in, or not to this database. A person
/// may have intended it for a limited time.
fn cannot_log_in(cx: &Context<'_>, role: &Role) -> Vec<Draft> {
    let (database, name) = (&cx.snapshot.database, printable(&role.name));
    let mut drafts = Vec::new();
    if !role.can_login {
        let detail = format!(
            "Role \"{name}\" does not have attribute LOGIN: requests cannot log in as this login \
             role."
        );
        let sql = format!("ALTER ROLE {} LOGIN;", safe_ident(&role.name));
        drafts.push(missing(role, "LOGIN", detail, &sql));
    }
    let acl = database.acl.as_ref();
    let held = cx.access.privileges(role.oid, database.owner, acl, ObjectKind::Database);
    if !held.contains(Privileges::CONNECT) {
        let detail = format!(
            "Role \"{name}\" does not have CONNECT on database {}: requests cannot log in as this \
             login role.",
            safe_ident(&database.name)
        );
        let (database, login) = (safe_ident(&database.name), safe_ident(&role.name));
        let sql = format!("GRANT CONNECT ON DATABASE {database} TO {login};");
        drafts.push(missing(role, "CONNECT", detail, &sql));
    }
    drafts
}

/// Returns the finding about what a login role needs.
fn missing(role: &Role, word: &str, detail: String, sql: &str) -> Draft {
    let object = Object { id: ObjectId::Role(role.oid), ..Context::role_object(&role.name) };
    Draft::new(object, Severity::Warning, detail)
        .role(&role.name)
        .key(word)
        .evidence(json!({"attribute": word, "declared": true, "actual": false}))
        .fix(Fix::Proposal(format!("If this is not intended:\n{sql}")))
        .measure(Measure { is_missing: true, ..Measure::default() }.limited_to(GuardAction::Warn))
}

/// Returns what the kind of a role requires where its declaration omits an attribute. Each of them
/// lets a client do what the contract does not declare; and a request can use those of the login
/// role after RESET ROLE.
fn of_kind(declared: &RoleDecl) -> Option<bool> {
    matches!(declared.kind, RoleKind::Client | RoleKind::Login).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Attribute;
    use crate::contract::RoleKind;

    #[test]
    fn client_or_login_role_has_no_attribute_even_if_its_declaration_omits_it() {
        let mut world = World::conforming();
        let found = |world: &World| world.found(&RULE);
        for (name, kind) in [("gateway", RoleKind::Login), ("visitor", RoleKind::Client)] {
            world.add_login(name);
            world.declare(name, kind);
            assert_eq!(found(&world), [""; 0]);
            for (attribute, severity) in [
                (Attribute::Superuser, "error"),
                (Attribute::BypassRls, "error"),
                (Attribute::CreateRole, "error"),
                (Attribute::CreateDb, "warning"),
                (Attribute::Replication, "error"),
            ] {
                let (word, kind) = (attribute.as_str(), format!("a {}", noun(kind)));
                world.role(name).set(attribute, true);
                assert_eq!(
                    found(&world),
                    [format!(
                        "{severity} role {name} {name}: Role \"{name}\" has attribute {word}, \
                         which {kind} must not have. => ALTER ROLE {name} NO{word};"
                    )]
                );
                world.role(name).set(attribute, false);
            }
        }
    }

    fn noun(kind: RoleKind) -> &'static str {
        if kind == RoleKind::Login { "login role" } else { "client" }
    }

    #[test]
    fn attribute_that_is_declared_or_of_a_worker_is_accepted() {
        let mut world = World::conforming();
        for (name, kind) in [("gateway", RoleKind::Login), ("jobs", RoleKind::Worker)] {
            world.add_login(name);
            world.declare(name, kind);
            world.role(name).create_db = true;
        }
        assert_eq!(world.findings(&RULE).len(), 1);
        let gateway = world.contract.roles.iter_mut().find(|role| role.name == "gateway").unwrap();
        gateway.create_db = Some(true);
        assert_eq!(world.found(&RULE), [""; 0]);
    }

    #[test]
    fn login_role_that_cannot_log_in_is_a_warning() {
        let mut world = World::conforming();
        for (name, kind) in [("gateway", RoleKind::Login), ("jobs", RoleKind::Worker)] {
            world.add_role(name);
            world.declare(name, kind);
        }
        assert_eq!(
            world.found(&RULE),
            ["warning role gateway gateway: Role \"gateway\" does not have attribute LOGIN: \
              requests cannot log in as this login role."]
        );
        world.role("gateway").can_login = true;
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.database.acl = Some(vec![].into());
        assert_eq!(
            world.found(&RULE),
            ["warning role gateway gateway: Role \"gateway\" does not have CONNECT on database \
              app: requests cannot log in as this login role."]
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

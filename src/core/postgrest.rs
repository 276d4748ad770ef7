//! What PostgREST needs before it can read its schema cache: where one of these is missing, it
//! answers PGRST002.
//!
//! It logs in as one role, the authenticator, and becomes another for each request (`SET ROLE`):
//! see "Role System" and "Schema Cache" in its documentation, and section 10 of the contract
//! document.

use crate::catalog::{ObjectKind, Privileges, Role};
use crate::contract::RoleKind;
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

/// One thing that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub step: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen, as a sentence.
    pub detail: String,
    /// SQL that mends it; `None` where there is nothing to mend, or a person has to decide.
    pub fix: Option<String>,
}

/// Looks at the role that PostgREST logs in as, the roles that it becomes, and the schemas that
/// these reach, in that order.
#[must_use]
pub fn checks(cx: &Context<'_>, authenticator: &str) -> Vec<Check> {
    let role = cx.snapshot.role_named(authenticator);
    let mut checks = vec![authenticator_check(authenticator, role)];
    if let Some(role) = role {
        checks.push(connect_check(cx, role));
        checks.extend(become_checks(cx, role));
    }
    checks.extend(schema_checks(cx));
    checks
}

fn authenticator_check(name: &str, role: Option<&Role>) -> Check {
    let sql = safe_ident(name);
    let shown = printable(name);
    let (ok, detail, fix) = match role {
        None => (
            false,
            format!("Role \"{shown}\" does not exist."),
            Some(format!("CREATE ROLE {sql} LOGIN NOINHERIT;")),
        ),
        Some(role) if role.superuser => (
            false,
            format!("Role \"{shown}\" is a superuser: every request could act as any role."),
            Some(format!("ALTER ROLE {sql} NOSUPERUSER;")),
        ),
        Some(role) if !role.can_login => (
            false,
            format!("Role \"{shown}\" cannot log in."),
            Some(format!("ALTER ROLE {sql} LOGIN;")),
        ),
        Some(_) => (true, format!("Role \"{shown}\" can log in."), None),
    };
    Check { step: format!("role {sql}"), ok, detail, fix }
}

fn connect_check(cx: &Context<'_>, authenticator: &Role) -> Check {
    let database = &cx.snapshot.database;
    let held = cx.access.privileges(
        authenticator.oid,
        database.owner,
        database.acl.as_ref(),
        ObjectKind::Database,
    );
    let (sql, role) = (safe_ident(&database.name), safe_ident(&authenticator.name));
    let ok = held.contains(Privileges::CONNECT);
    Check {
        step: format!("database {sql}"),
        ok,
        detail: format!(
            "Role \"{}\" may{} connect to it.",
            printable(&authenticator.name),
            if ok { "" } else { " not" }
        ),
        fix: (!ok).then(|| format!("GRANT CONNECT ON DATABASE {sql} TO {role};")),
    }
}

/// Clients and workers: what requests become.
fn become_checks(cx: &Context<'_>, authenticator: &Role) -> Vec<Check> {
    // Who logs in itself need not be what a request becomes.
    let logs_in = |name: &&str| cx.snapshot.role_named(name).is_some_and(|role| role.can_login);
    let names = cx
        .contract
        .roles_of(RoleKind::Client)
        .chain(cx.contract.roles_of(RoleKind::Worker).filter(|n| !logs_in(n)));
    names
        .map(|name| {
            let sql = safe_ident(name);
            let step = format!("SET ROLE {sql}");
            match cx.snapshot.role_named(name) {
                None => Check {
                    step,
                    ok: false,
                    detail: format!("Role \"{}\" does not exist.", printable(name)),
                    fix: None,
                },
                Some(role) => {
                    let ok = cx.access.can_set_role(authenticator.oid, role.oid);
                    let can = if ok { "can" } else { "cannot" };
                    let who = printable(&authenticator.name);
                    Check {
                        step,
                        ok,
                        detail: format!("Role \"{who}\" {can} become \"{}\".", printable(name)),
                        fix: (!ok).then(|| {
                            format!("GRANT {sql} TO {};", safe_ident(&authenticator.name))
                        }),
                    }
                }
            }
        })
        .collect()
}

/// The governed schemas that some client has USAGE on: the ones that PostgREST may expose.
fn schema_checks(cx: &Context<'_>) -> Vec<Check> {
    let clients: Vec<&str> = cx.contract.roles_of(RoleKind::Client).collect();
    let exposed = cx
        .contract
        .schemas
        .iter()
        .filter(|s| s.usage.iter().any(|role| clients.contains(&role.as_str())));
    exposed
        .map(|declared| {
            let sql = safe_ident(&declared.name);
            let step = format!("schema {sql}");
            let Some(schema) = cx.snapshot.schema_named(&declared.name) else {
                let fix = Some(format!("CREATE SCHEMA {sql};"));
                return Check {
                    step,
                    ok: false,
                    detail: format!("Schema {sql} does not exist."),
                    fix,
                };
            };
            let lacks = |name: &&String| {
                cx.snapshot.role_named(name).is_some_and(|role| {
                    let held = cx.access.privileges(
                        role.oid,
                        schema.owner,
                        schema.acl.as_ref(),
                        ObjectKind::Schema,
                    );
                    !held.contains(Privileges::USAGE)
                })
            };
            let lacking: Vec<String> = declared
                .usage
                .iter()
                .filter(lacks)
                .map(|name| safe_ident(name).into_owned())
                .collect();
            match lacking.is_empty() {
                true => Check {
                    step,
                    ok: true,
                    detail: format!("Schema {sql} is accessible to the roles declared for it."),
                    fix: None,
                },
                false => Check {
                    step,
                    ok: false,
                    detail: format!("{} cannot use schema {sql}.", listed(&lacking)),
                    fix: Some(format!("GRANT USAGE ON SCHEMA {sql} TO {};", lacking.join(", "))),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::testing::World;

    fn lines(world: &World) -> Vec<String> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let contract = world.contract.clone();
        let cx = Context::new(&contract, &snapshot, &access, &|| {});
        let line = |c: Check| {
            format!(
                "{} {}: {}{}",
                if c.ok { "ok" } else { "NO" },
                c.step,
                c.detail,
                c.fix.map(|f| format!(" => {f}")).unwrap_or_default()
            )
        };
        checks(&cx, "authenticator").into_iter().map(line).collect()
    }

    #[test]
    fn each_step_says_what_is_well_and_what_is_not() {
        let mut world = World::conforming();
        assert_eq!(
            lines(&world)[0],
            "NO role authenticator: Role \"authenticator\" does not exist. => CREATE ROLE authenticator LOGIN NOINHERIT;"
        );
        world.add_role("authenticator");
        world.role("authenticator").can_login = true;
        for role in ["anon", "service_role"] {
            world.grant_role(role, "authenticator");
        }
        world.schema("api").acl = Some(vec![]);
        assert_eq!(
            lines(&world),
            [
                "ok role authenticator: Role \"authenticator\" can log in.",
                "ok database app: Role \"authenticator\" may connect to it.",
                "ok SET ROLE anon: Role \"authenticator\" can become \"anon\".",
                "NO SET ROLE authenticated: Role \"authenticator\" cannot become \"authenticated\". => GRANT authenticated TO authenticator;",
                "ok SET ROLE service_role: Role \"authenticator\" can become \"service_role\".",
                "ok schema public: Schema public is accessible to the roles declared for it.",
                "NO schema api: anon, authenticated and service_role cannot use schema api. => GRANT USAGE ON SCHEMA api TO anon, authenticated, \
                 service_role;",
                "ok schema intake: Schema intake is accessible to the roles declared for it.",
            ]
        );
        world.role("authenticator").superuser = true;
        assert!(
            lines(&world)[0]
                .starts_with("NO role authenticator: Role \"authenticator\" is a superuser")
        );
    }
}

//! What PostgREST needs to read its schema cache. Where one of these conditions is not met,
//! PostgREST returns error PGRST002.
//!
//! PostgREST logs in as one role, the authenticator, and becomes another one for each request (`SET
//! ROLE`): see "Role System" and "Schema Cache" in its documentation, and section 10 of the
//! contract document.

use crate::catalog::{ObjectKind, Privileges, Role};
use crate::contract::{RoleKind, SchemaDecl};
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub step: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The result, as a sentence.
    pub detail: String,
    /// SQL that fixes it; `None` where the check passed, or a person has to decide.
    pub fix: Option<String>,
}

/// Checks the role that PostgREST logs in as, the roles that it becomes, and the schemas that these
/// can access, in that order.
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
            "Role \"{}\" {} connect to the database.",
            printable(&authenticator.name),
            if ok { "can" } else { "cannot" }
        ),
        fix: (!ok).then(|| format!("GRANT CONNECT ON DATABASE {sql} TO {role};")),
    }
}

/// The roles that requests become: clients and workers.
fn become_checks(cx: &Context<'_>, authenticator: &Role) -> Vec<Check> {
    // A worker that can log in itself is not necessarily a role that requests become.
    let can_log_in = |name: &&str| cx.snapshot.role_named(name).is_some_and(|role| role.can_login);
    let names = cx
        .contract
        .roles_of(RoleKind::Client)
        .chain(cx.contract.roles_of(RoleKind::Worker).filter(|name| !can_log_in(name)));
    names.map(|name| become_check(cx, authenticator, name)).collect()
}

fn become_check(cx: &Context<'_>, authenticator: &Role, name: &str) -> Check {
    let (sql, shown) = (safe_ident(name), printable(name));
    let step = format!("SET ROLE {sql}");
    let Some(role) = cx.snapshot.role_named(name) else {
        let detail = format!("Role \"{shown}\" does not exist.");
        return Check { step, ok: false, detail, fix: None };
    };
    let ok = cx.access.can_set_role(authenticator.oid, role.oid);
    let can = if ok { "can" } else { "cannot" };
    Check {
        step,
        ok,
        detail: format!("Role \"{}\" {can} become \"{shown}\".", printable(&authenticator.name)),
        fix: (!ok).then(|| format!("GRANT {sql} TO {};", safe_ident(&authenticator.name))),
    }
}

/// The governed schemas on which a client has USAGE: those that PostgREST may expose.
fn schema_checks(cx: &Context<'_>) -> Vec<Check> {
    let clients: Vec<&str> = cx.contract.roles_of(RoleKind::Client).collect();
    let is_exposed =
        |declared: &&SchemaDecl| declared.usage.iter().any(|role| clients.contains(&role.as_str()));
    cx.contract
        .schemas
        .iter()
        .filter(is_exposed)
        .map(|declared| schema_check(cx, declared))
        .collect()
}

fn schema_check(cx: &Context<'_>, declared: &SchemaDecl) -> Check {
    let sql = safe_ident(&declared.name);
    let step = format!("schema {sql}");
    let Some(schema) = cx.snapshot.schema_named(&declared.name) else {
        let detail = format!("Schema {sql} does not exist.");
        return Check { step, ok: false, detail, fix: Some(format!("CREATE SCHEMA {sql};")) };
    };
    let has_no_usage = |name: &&String| {
        cx.snapshot.role_named(name).is_some_and(|role| {
            let (owner, acl) = (schema.owner, schema.acl.as_ref());
            let held = cx.access.privileges(role.oid, owner, acl, ObjectKind::Schema);
            !held.contains(Privileges::USAGE)
        })
    };
    let without: Vec<&String> = declared.usage.iter().filter(has_no_usage).collect();
    if without.is_empty() {
        let detail = format!("Schema {sql} is accessible to the roles declared for it.");
        return Check { step, ok: true, detail, fix: None };
    }
    let (roles, have) = if without.len() == 1 { ("Role", "does") } else { ("Roles", "do") };
    let names: Vec<String> =
        without.iter().map(|name| format!("\"{}\"", printable(name))).collect();
    let grantees: Vec<_> = without.iter().map(|name| safe_ident(name)).collect();
    Check {
        step,
        ok: false,
        detail: format!("{roles} {} {have} not have USAGE on schema {sql}.", listed(&names)),
        fix: Some(format!("GRANT USAGE ON SCHEMA {sql} TO {};", grantees.join(", "))),
    }
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
    fn checks_report_each_condition_with_its_fix() {
        let mut world = World::conforming();
        assert_eq!(
            lines(&world)[0],
            "NO role authenticator: Role \"authenticator\" does not exist. => CREATE ROLE \
             authenticator LOGIN NOINHERIT;"
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
                "ok database app: Role \"authenticator\" can connect to the database.",
                "ok SET ROLE anon: Role \"authenticator\" can become \"anon\".",
                "NO SET ROLE authenticated: Role \"authenticator\" cannot \
                 become \"authenticated\". => \
                 GRANT authenticated TO authenticator;",
                "ok SET ROLE service_role: Role \"authenticator\" can become \"service_role\".",
                "ok schema public: Schema public is accessible to the roles declared for it.",
                "NO schema api: Roles \"anon\", \"authenticated\" and \"service_role\" do not have \
                 USAGE on schema api. => GRANT USAGE ON SCHEMA api TO anon, authenticated, \
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

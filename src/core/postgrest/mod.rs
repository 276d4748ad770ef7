//! What PostgREST needs to read its schema cache. Where one of these conditions is not met,
//! PostgREST returns error PGRST002.
//!
//! PostgREST logs in as one role, the authenticator, and becomes another one for each request (`SET
//! ROLE`): see "Role System" and "Schema Cache" in its documentation, and section 10 of the
//! contract document.

mod check;
mod membership;
mod settings;

pub use check::Check;

use membership::{grant_membership, reason_against};

use crate::catalog::{ObjectKind, Privileges, Role};
use crate::contract::{RoleKind, SchemaDecl};
use crate::explain::other_login;
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

/// Checks the role that PostgREST logs in as, the roles that it becomes, the schemas that these can
/// access, and the settings stored for these roles, in that order.
#[must_use]
pub fn checks(cx: &Context<'_>, authenticator: &str) -> Vec<Check> {
    let role = cx.snapshot.role_named(authenticator);
    let mut checks = vec![login_check(cx, authenticator, role)];
    if let Some(role) = role {
        checks.push(connect_check(cx, role));
        checks.extend(become_checks(cx, role));
    }
    checks.extend(schema_checks(cx));
    if let Some(role) = role {
        checks.extend(settings::checks(cx, role));
    }
    checks
}

/// The check of the role that PostgREST logs in as.
fn login_check(cx: &Context<'_>, name: &str, role: Option<&Role>) -> Check {
    let (sql, step) = (safe_ident(name), format!("role {}", safe_ident(name)));
    let shown = printable(name);
    let Some(role) = role else {
        let (detail, fix) = missing_login(cx, name);
        return Check { step, ok: false, detail, fix };
    };
    if !role.can_login && cx.is_subject(role.oid) {
        let detail = format!(
            "Role \"{shown}\" is a role that requests become, not the one that PostgREST logs in \
             as."
        );
        return Check { step, ok: false, detail, fix: None };
    }
    let mut problems: Vec<(String, String)> = Vec::new();
    let mut problem = |is: bool, detail: String, options: &str| {
        if is {
            problems.push((detail, format!("ALTER ROLE {sql} {options};")));
        }
    };
    problem(
        role.superuser,
        format!("Role \"{shown}\" is a superuser: every request could act as any role."),
        "NOSUPERUSER",
    );
    problem(!role.can_login, format!("Role \"{shown}\" cannot log in."), "LOGIN");
    problem(
        role.connection_limit == Some(0) && !role.superuser,
        format!("Role \"{shown}\" has CONNECTION LIMIT 0, so that it cannot connect."),
        "CONNECTION LIMIT -1",
    );
    problem(
        role.password_expired,
        format!("The password of role \"{shown}\" is no longer valid (VALID UNTIL)."),
        "VALID UNTIL 'infinity'",
    );
    if problems.is_empty() {
        let detail = format!("Role \"{shown}\" can log in.");
        return Check { step, ok: true, detail, fix: None };
    }
    let (details, fixes): (Vec<String>, Vec<String>) = problems.into_iter().unzip();
    Check { step, ok: false, detail: details.join(" "), fix: Some(fixes.join("\n")) }
}

/// Why there is no login role of this name, and the fix: where other roles log in and become
/// clients, the name is probably wrong.
fn missing_login(cx: &Context<'_>, name: &str) -> (String, Option<String>) {
    let shown = printable(name);
    let becomes_client =
        |role: &&Role| cx.clients.iter().any(|c| cx.access.can_set_role(role.oid, c.oid));
    let is_login = |role: &&Role| role.can_login && !cx.is_trusted_owner(role.oid);
    let others: Vec<String> = cx
        .snapshot
        .roles
        .iter()
        .filter(is_login)
        .filter(becomes_client)
        .map(|role| format!("\"{}\"", printable(&role.name)))
        .collect();
    let detail = format!("Role \"{shown}\" does not exist.");
    if !others.is_empty() {
        let detail =
            format!("{detail} Roles that log in and can become clients: {}.", listed(&others));
        return (detail, None);
    }
    (detail, Some(format!("CREATE ROLE {} LOGIN NOINHERIT;", safe_ident(name))))
}

fn connect_check(cx: &Context<'_>, login: &Role) -> Check {
    let database = &cx.snapshot.database;
    let held = cx.access.privileges(
        login.oid,
        database.owner,
        database.acl.as_ref(),
        ObjectKind::Database,
    );
    let (sql, role) = (safe_ident(&database.name), safe_ident(&login.name));
    let step = format!("database {sql}");
    if database.connection_limit == Some(0) && !login.superuser {
        let detail = "The database has CONNECTION LIMIT 0: only superusers can connect.".to_owned();
        let fix = Some(format!("ALTER DATABASE {sql} CONNECTION LIMIT -1;"));
        return Check { step, ok: false, detail, fix };
    }
    let ok = held.contains(Privileges::CONNECT);
    Check {
        step,
        ok,
        detail: format!(
            "Role \"{}\" {} connect to the database.",
            printable(&login.name),
            if ok { "can" } else { "cannot" }
        ),
        fix: (!ok).then(|| format!("GRANT CONNECT ON DATABASE {sql} TO {role};")),
    }
}

/// The roles that requests become: clients and workers.
fn become_checks(cx: &Context<'_>, authenticator: &Role) -> Vec<Check> {
    // The name of the login role is wrong.
    if !authenticator.can_login && cx.is_subject(authenticator.oid) {
        return vec![];
    }
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
    let by = printable(&authenticator.name);
    if cx.access.can_set_role(authenticator.oid, role.oid) {
        let detail = format!("Role \"{by}\" can become \"{shown}\".");
        return Check { step, ok: true, detail, fix: None };
    }
    if let Some(other) = other_login(cx, role) {
        let detail = format!(
            "Role \"{}\" can become \"{shown}\", and \"{by}\" cannot.",
            printable(&other.name)
        );
        return Check { step, ok: true, detail, fix: None };
    }
    let why = reason_against(cx, role)
        .map(|why| format!(", which {why}: a person has to decide whether requests may become it"));
    Check {
        step,
        ok: false,
        detail: format!("Role \"{by}\" cannot become \"{shown}\"{}.", why.unwrap_or_default()),
        fix: grant_membership(cx, role, authenticator),
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
    use crate::catalog::RoleSetting;
    use crate::rules::testing::World;

    fn checks_of(world: &World, authenticator: &str) -> Vec<Check> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        checks(&Context::new(&world.contract, &snapshot, &access, &|| {}), authenticator)
    }

    fn lines(world: &World) -> Vec<String> {
        let line = |c: Check| {
            format!(
                "{} {}: {}{}",
                if c.ok { "ok" } else { "NO" },
                c.step,
                c.detail,
                c.fix.map(|f| format!(" => {f}")).unwrap_or_default()
            )
        };
        checks_of(world, "authenticator").into_iter().map(line).collect()
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
        world.schema("api").acl = Some(vec![].into());
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
                "ok pgrst.db_schemas: Not set in the database: PostgREST takes db-schemas from its \
                 own configuration.",
            ]
        );
        world.role("authenticator").superuser = true;
        assert!(
            lines(&world)[0]
                .starts_with("NO role authenticator: Role \"authenticator\" is a superuser")
        );
    }

    /// Returns the failing checks of a world with the login role, after a change.
    fn failing(change: impl FnOnce(&mut World)) -> Vec<String> {
        let mut world = World::conforming();
        world.add_role("authenticator");
        world.role("authenticator").can_login = true;
        for role in ["anon", "authenticated", "service_role"] {
            world.grant_role(role, "authenticator");
        }
        change(&mut world);
        lines(&world).into_iter().filter(|line| line.starts_with("NO ")).collect()
    }

    fn store(world: &mut World, role: Option<&str>, database: bool, name: &str, value: &str) {
        let setting = RoleSetting {
            role: role.map(|role| world.role(role).oid),
            database: database.then(|| world.snapshot.database.name.clone()),
            name: name.into(),
            value: value.into(),
        };
        world.snapshot.settings.push(setting);
    }

    #[test]
    fn login_that_is_closed_is_reported_with_all_fixes() {
        assert_eq!(failing(|_| {}), [""; 0]);
        let closed = failing(|world| {
            let role = world.role("authenticator");
            (role.can_login, role.connection_limit, role.password_expired) = (false, Some(0), true);
            world.snapshot.database.connection_limit = Some(0);
        });
        assert_eq!(
            closed,
            [
                "NO role authenticator: Role \"authenticator\" cannot log in. \
                 Role \"authenticator\" has CONNECTION LIMIT 0, so that it cannot connect. The \
                 password of role \"authenticator\" is no longer valid (VALID UNTIL). => \
                 ALTER ROLE authenticator LOGIN;\nALTER ROLE authenticator CONNECTION LIMIT \
                 -1;\nALTER ROLE authenticator VALID UNTIL 'infinity';",
                "NO database app: The database has CONNECTION LIMIT 0: only superusers can \
                 connect. => ALTER DATABASE app CONNECTION LIMIT -1;",
            ]
        );
    }

    #[test]
    fn misspelled_login_is_not_created() {
        let mut world = World::conforming();
        world.add_role("web");
        world.role("web").can_login = true;
        world.grant_role("anon", "web");
        assert_eq!(
            lines(&world)[0],
            "NO role authenticator: Role \"authenticator\" does not exist. Roles that log in and \
             can become clients: \"web\"."
        );
    }

    #[test]
    fn membership_in_a_powerful_role_is_no_fix() {
        let bypasses = failing(|world| {
            world.snapshot.memberships.pop();
            assert!(world.role("service_role").bypass_rls);
        });
        assert_eq!(
            bypasses,
            ["NO SET ROLE service_role: Role \"authenticator\" cannot become \"service_role\", \
              which bypasses row security: a person has to decide whether requests may become it."]
        );
    }

    #[test]
    fn setting_that_names_missing_objects_is_fixed_where_it_is_stored() {
        let by = |database: bool, name: &'static str, value: &'static str| {
            failing(move |world| store(world, Some("authenticator"), database, name, value))
                .join("|")
        };
        let found = |line: &str| format!("NO pgrst.{line}\nNOTIFY pgrst, 'reload config';");
        for (database, name, value, line) in [
            (
                true,
                "pgrst.db_schemas",
                "public, nope",
                "db_schemas: Exposes nope, which does not exist. => ALTER ROLE authenticator IN \
                 DATABASE app SET pgrst.db_schemas = 'public';",
            ),
            (
                false,
                "pgrst.db_schemas",
                "",
                "db_schemas: Is empty: PostgREST exposes no schema. => ALTER ROLE authenticator \
                 SET pgrst.db_schemas = 'api, intake, public';",
            ),
            (
                false,
                "pgrst.db_extra_search_path",
                "public, gone",
                "db_extra_search_path: Names gone, which does not exist. => ALTER ROLE \
                 authenticator SET pgrst.db_extra_search_path = 'public';",
            ),
            (
                true,
                "pgrst.db_anon_role",
                "web_anon",
                "db_anon_role: Requests without a token become role \"web_anon\", which does not \
                 exist. Without the setting, PostgREST takes db-anon-role from its own \
                 configuration. => ALTER ROLE authenticator IN DATABASE app RESET \
                 pgrst.db_anon_role;",
            ),
            (
                false,
                "pgrst.db_anon_role",
                "root",
                "db_anon_role: Requests without a token become role \"root\", which is a \
                 superuser. Without the setting, PostgREST takes db-anon-role from its own \
                 configuration. => ALTER ROLE authenticator RESET pgrst.db_anon_role;",
            ),
        ] {
            assert_eq!(by(database, name, value), found(line));
        }
        assert_eq!(
            by(false, "pgrst.db_pre_request", "api.gone"),
            "NO pgrst.db_pre_request: Names function api.gone, which does not exist: requests \
             fail. Create it, or remove the setting if requests need not be checked. => -- ALTER \
             ROLE authenticator RESET pgrst.db_pre_request;"
        );
    }

    #[test]
    fn function_before_requests_must_be_executable_by_the_roles_of_requests() {
        let closed = failing(|world| {
            store(world, None, true, "pgrst.db_pre_request", "api.get_call_queue");
            let anon = world.role("anon").oid;
            let acl = world.routine("get_call_queue").acl.as_mut().unwrap();
            acl.retain(|item| item.grantee != anon);
        });
        assert_eq!(
            closed,
            ["NO pgrst.db_pre_request: Role \"anon\" cannot execute function api.get_call_queue. \
              => GRANT EXECUTE ON ROUTINE api.get_call_queue() TO anon;"]
        );
    }

    #[test]
    fn client_named_as_the_login_role_gets_no_fix() {
        let mut world = World::conforming();
        world.add_login("authenticator");
        for role in ["anon", "authenticated", "service_role"] {
            world.grant_role(role, "authenticator");
        }
        let found = checks_of(&world, "anon");
        assert!(found.iter().all(|check| check.fix.is_none()), "{found:?}");
        assert!(found[0].detail.contains("is a role that requests become"), "{:?}", found[0]);
    }

    #[test]
    fn role_of_another_login_role_is_not_offered() {
        let mut world = World::conforming();
        world.add_login("authenticator");
        world.add_login("admin_login");
        world.grant_role("anon", "admin_login");
        let found = checks_of(&world, "authenticator");
        let anon = found.iter().find(|check| check.step == "SET ROLE anon").unwrap();
        assert_eq!((anon.ok, anon.fix.as_deref()), (true, None));
        assert_eq!(
            anon.detail,
            "Role \"admin_login\" can become \"anon\", and \"authenticator\" cannot."
        );
    }

    #[test]
    fn short_timeout_in_force_is_reported() {
        let short = failing(|world| {
            store(world, Some("authenticator"), false, "statement_timeout", "1ms");
            store(world, Some("anon"), true, "statement_timeout", "250");
            store(world, Some("authenticated"), false, "statement_timeout", "8s");
        });
        assert_eq!(
            short,
            [
                "NO statement_timeout of role authenticator: Statements of \
                 role \"authenticator\" are canceled after 1ms, which is too short for \
                 PostgREST. => ALTER ROLE authenticator RESET statement_timeout;",
                "NO statement_timeout of role anon: Statements of role \"anon\" are canceled after \
                 250ms, which is too short for PostgREST. => ALTER ROLE anon IN DATABASE app RESET \
                 statement_timeout;",
            ]
        );
        // The setting of the role wins over that of the database.
        let longer = failing(|world| {
            store(world, None, true, "statement_timeout", "1ms");
            for role in ["authenticator", "anon", "authenticated", "service_role"] {
                store(world, Some(role), false, "statement_timeout", "5s");
            }
        });
        assert_eq!(longer, [""; 0]);
    }
}

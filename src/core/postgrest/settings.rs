//! The settings that the database stores for the role that PostgREST logs in as ("In-Database
//! Configuration" in its documentation), and the timeouts of the roles of requests.

use super::check::Check;
use super::membership::{grant_membership, reason_against};
use crate::catalog::{ObjectKind, Privileges, Role, RoleSetting, Routine};
use crate::contract::RoleKind;
use crate::rules::Context;
use crate::sql::{listed, printable, quote_literal, safe_ident};

/// PostgREST reads its configuration again when it is told.
const RELOAD: &str = "\nNOTIFY pgrst, 'reload config';";

/// Statements that take longer than this many milliseconds are normal.
const SHORTEST_TIMEOUT: f64 = 1_000.0;

/// Checks the settings with which sessions of the login role start. Without a stored value
/// PostgREST takes its own configuration, of which only the exposed schemas are mentioned.
pub(super) fn checks(cx: &Context<'_>, login: &Role) -> Vec<Check> {
    let stored = |name: &str| cx.snapshot.setting_of(login.oid, name);
    let mut checks = vec![exposed_schemas(cx, stored("pgrst.db_schemas"))];
    checks.extend(stored("pgrst.db_extra_search_path").map(|s| extra_search_path(cx, s)));
    checks.extend(stored("pgrst.db_anon_role").map(|s| anonymous_role(cx, login, s)));
    let callers = callers(cx, login);
    for (name, callers) in [
        ("pgrst.db_pre_request", &callers[..]),
        ("pgrst.db_root_spec", &callers[..]),
        ("pgrst.db_pre_config", &[login][..]),
    ] {
        checks.extend(stored(name).and_then(|setting| function(cx, setting, callers)));
    }
    for role in [login].into_iter().chain(callers.iter().copied()) {
        let timeouts = ["statement_timeout", "transaction_timeout"];
        let stored = timeouts.iter().filter_map(|name| cx.snapshot.setting_of(role.oid, name));
        checks.extend(stored.filter_map(|setting| timeout(cx, role, setting)));
    }
    checks
}

/// The declared clients and workers that requests become.
fn callers<'a>(cx: &Context<'a>, login: &Role) -> Vec<&'a Role> {
    let all = cx.clients.iter().chain(&cx.workers);
    let becomes =
        |role: &&Role| role.oid != login.oid && cx.access.can_set_role(login.oid, role.oid);
    all.copied().filter(becomes).collect()
}

/// Returns the statement that changes a setting where it is stored, without its end.
fn alter(cx: &Context<'_>, setting: &RoleSetting) -> String {
    let database = setting.database.as_deref().map(safe_ident);
    match (setting.role, database) {
        (Some(role), Some(database)) => {
            let role = cx.snapshot.role_name(role);
            format!("ALTER ROLE {} IN DATABASE {database}", safe_ident(&role))
        }
        (Some(role), None) => format!("ALTER ROLE {}", safe_ident(&cx.snapshot.role_name(role))),
        (None, Some(database)) => format!("ALTER DATABASE {database}"),
        (None, None) => "ALTER ROLE ALL".to_owned(),
    }
}

fn reset(cx: &Context<'_>, setting: &RoleSetting) -> String {
    format!("{} RESET {};", alter(cx, setting), setting.name)
}

fn set(cx: &Context<'_>, setting: &RoleSetting, value: &str) -> String {
    format!("{} SET {} = {};", alter(cx, setting), setting.name, quote_literal(value))
}

/// The check of one setting. `problem` has its fix, where a statement fixes it.
fn check(
    setting: &RoleSetting,
    passing: String,
    problem: Option<(String, Option<String>)>,
) -> Check {
    let step = setting.name.clone();
    match problem {
        None => Check { step, ok: true, detail: passing, fix: None },
        Some((detail, fix)) => Check { step, ok: false, detail, fix },
    }
}

fn names_in(setting: &RoleSetting) -> Vec<&str> {
    setting.value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn list(names: &[&str]) -> String {
    listed(&names.iter().map(|name| safe_ident(name).into_owned()).collect::<Vec<_>>())
}

fn missing_schemas<'n>(cx: &Context<'_>, names: &[&'n str]) -> Vec<&'n str> {
    names.iter().copied().filter(|name| cx.snapshot.schema_named(name).is_none()).collect()
}

/// Returns `which does not exist` or `which do not exist`.
fn which_are_missing(names: &[&str]) -> String {
    format!("which {} not exist", if names.len() == 1 { "does" } else { "do" })
}

fn exposed_schemas(cx: &Context<'_>, stored: Option<&RoleSetting>) -> Check {
    let Some(setting) = stored else {
        return Check {
            step: "pgrst.db_schemas".into(),
            ok: true,
            detail: "Not set in the database: PostgREST takes db-schemas from its own \
                     configuration."
                .into(),
            fix: None,
        };
    };
    let names = names_in(setting);
    let missing = missing_schemas(cx, &names);
    let closed: Vec<&str> =
        names.iter().copied().filter(|name| !is_open_to_clients(cx, name)).collect();
    let problem = if names.is_empty() {
        Some("Is empty: PostgREST exposes no schema.".to_owned())
    } else if !missing.is_empty() {
        Some(format!("Exposes {}, {}.", list(&missing), which_are_missing(&missing)))
    } else if !closed.is_empty() {
        let closed = list(&closed);
        Some(format!("Exposes {closed}, on which the contract gives no client USAGE."))
    } else {
        None
    };
    let is_kept = |name: &&str| !missing.contains(name) && !closed.contains(name);
    let mut kept: Vec<&str> = names.iter().copied().filter(is_kept).collect();
    if kept.is_empty() {
        let declared = cx.schemas().map(|(_, declared)| declared.name.as_str());
        kept = declared.filter(|name| is_open_to_clients(cx, name)).collect();
    }
    let fix = if kept.is_empty() {
        None
    } else {
        Some(format!("{}{RELOAD}", set(cx, setting, &kept.join(", "))))
    };
    check(setting, format!("Exposes {}.", list(&names)), problem.map(|problem| (problem, fix)))
}

/// Whether the contract gives a client USAGE on the schema.
fn is_open_to_clients(cx: &Context<'_>, schema: &str) -> bool {
    let is_client = |name: &String| cx.contract.roles_of(RoleKind::Client).any(|r| r == name);
    cx.contract.schema(schema).is_some_and(|declared| declared.usage.iter().any(is_client))
}

fn extra_search_path(cx: &Context<'_>, setting: &RoleSetting) -> Check {
    let names = names_in(setting);
    let missing = missing_schemas(cx, &names);
    let passing = match names.as_slice() {
        [] => "Adds no schema to the search_path of requests.".to_owned(),
        names => format!("Adds {} to the search_path of requests.", list(names)),
    };
    let problem = (!missing.is_empty()).then(|| {
        let kept: Vec<&str> =
            names.iter().copied().filter(|name| !missing.contains(name)).collect();
        let statement =
            if kept.is_empty() { reset(cx, setting) } else { set(cx, setting, &kept.join(", ")) };
        let detail = format!("Names {}, {}.", list(&missing), which_are_missing(&missing));
        (detail, Some(format!("{statement}{RELOAD}")))
    });
    check(setting, passing, problem)
}

fn anonymous_role(cx: &Context<'_>, login: &Role, setting: &RoleSetting) -> Check {
    let name = setting.value.trim();
    let (shown, by) = (printable(name), printable(&login.name));
    if name.is_empty() {
        return check(setting, "Requests without a token are rejected.".into(), None);
    }
    let without_it =
        "Without the setting, PostgREST takes db-anon-role from its own configuration.";
    let problem = match cx.snapshot.role_named(name) {
        None => Some((
            format!(
                "Requests without a token become role \"{shown}\", which does not exist. \
                 {without_it}"
            ),
            Some(format!("{}{RELOAD}", reset(cx, setting))),
        )),
        Some(role) => match reason_against(cx, role) {
            Some(why) => Some((
                format!(
                    "Requests without a token become role \"{shown}\", which {why}. {without_it}"
                ),
                Some(format!("{}{RELOAD}", reset(cx, setting))),
            )),
            None if cx.access.can_set_role(login.oid, role.oid) => None,
            None => Some((
                format!(
                    "Requests without a token become role \"{shown}\", but role \"{by}\" cannot \
                     become it."
                ),
                grant_membership(cx, role, login)
                    .or_else(|| Some(format!("{}{RELOAD}", reset(cx, setting)))),
            )),
        },
    };
    check(setting, format!("Requests without a token become role \"{shown}\"."), problem)
}

/// The check of a setting that names a function; `None` where it names none. The function is called
/// as each of `callers`.
fn function(cx: &Context<'_>, setting: &RoleSetting, callers: &[&Role]) -> Option<Check> {
    let named = crate::explain::parse(&setting.value)?;
    let (schema, name) = match named.parts.as_slice() {
        [name] => (None, name),
        [schema, name] => (Some(schema), name),
        _ => return None,
    };
    let is_it = |routine: &&Routine| {
        routine.name == *name
            && schema.is_none_or(|schema| cx.snapshot.schema_name(routine.schema) == schema)
    };
    let shown = printable(setting.value.trim()).into_owned();
    let missing = || {
        let detail = format!(
            "Names function {shown}, which does not exist: requests fail. Create it, or remove \
             the setting if requests need not be checked."
        );
        // Without the function, requests would no longer be checked: a person has to decide.
        (detail, Some(format!("-- {}", reset(cx, setting))))
    };
    // The first without arguments, which is the one that can be called.
    let mut found: Vec<&Routine> = cx.snapshot.routines.iter().filter(is_it).collect();
    found.sort_by_key(|routine| routine.arguments.len());
    let problem = match found.first() {
        None => Some(missing()),
        Some(routine) => not_executable(cx, routine, callers, &shown),
    };
    Some(check(setting, format!("Function {shown} exists and can be executed."), problem))
}

/// The roles that cannot call a function, as a problem with its fix.
fn not_executable(
    cx: &Context<'_>,
    routine: &Routine,
    callers: &[&Role],
    shown: &str,
) -> Option<(String, Option<String>)> {
    let schema = cx.snapshot.schema(routine.schema)?;
    let lacks = |role: &Role, owner, acl, kind, wanted: Privileges| {
        !cx.access.privileges(role.oid, owner, acl, kind).contains(wanted)
    };
    let (mut without, mut fixes) = (Vec::new(), Vec::new());
    // The guard rejects USAGE on a governed schema that the contract does not declare.
    let mut undeclared = Vec::new();
    let governed = cx.governed(schema.oid);
    for role in callers {
        let name = safe_ident(&role.name);
        let mut statements = Vec::new();
        let usage = Privileges::USAGE;
        if lacks(role, schema.owner, schema.acl.as_ref(), ObjectKind::Schema, usage) {
            statements
                .push(format!("GRANT USAGE ON SCHEMA {} TO {name};", safe_ident(&schema.name)));
            let is_declared = governed.is_none_or(|declared| declared.usage.contains(&role.name));
            undeclared.extend((!is_declared).then(|| format!("\"{}\"", printable(&role.name))));
        }
        let execute = Privileges::EXECUTE;
        if lacks(role, routine.owner, routine.acl.as_ref(), ObjectKind::Routine, execute) {
            let sql = cx.snapshot.routine_sql(routine);
            statements.push(format!("GRANT EXECUTE ON ROUTINE {sql} TO {name};"));
        }
        if !statements.is_empty() {
            without.push(format!("\"{}\"", printable(&role.name)));
            fixes.extend(statements);
        }
    }
    let roles = if without.len() == 1 { "Role" } else { "Roles" };
    (!without.is_empty()).then(|| {
        let detail = format!("{roles} {} cannot execute function {shown}.", listed(&without));
        if undeclared.is_empty() {
            return (detail, Some(fixes.join("\n")));
        }
        let declare = format!(
            " The contract does not declare USAGE on schema {} for {}: add the role to \"usage\" \
             of the schema and load it with ops.load_contract().",
            printable(&safe_ident(&schema.name)),
            listed(&undeclared)
        );
        (detail + &declare, None)
    })
}

/// The check of a timeout; `None` where it is long enough.
fn timeout(cx: &Context<'_>, role: &Role, setting: &RoleSetting) -> Option<Check> {
    let milliseconds = milliseconds(&setting.value)?;
    (milliseconds > 0.0 && milliseconds < SHORTEST_TIMEOUT).then(|| Check {
        step: format!("{} of role {}", setting.name, safe_ident(&role.name)),
        ok: false,
        detail: format!(
            "Statements of role \"{}\" are canceled after {}, which is too short for PostgREST.",
            printable(&role.name),
            printable(&shown(&setting.value))
        ),
        fix: Some(reset(cx, setting)),
    })
}

/// A value with its unit.
fn shown(value: &str) -> String {
    let value = value.trim();
    let has_unit = value.ends_with(|c: char| c.is_ascii_alphabetic());
    if has_unit { value.to_owned() } else { format!("{value}ms") }
}

/// Reads a time as the server reads it (guc.c, `parse_real`), without unit in milliseconds; `None`
/// where it is not valid.
fn milliseconds(value: &str) -> Option<f64> {
    let value = value.trim();
    let unit = value.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(value.len());
    let number: f64 = value[..unit].trim().parse().ok()?;
    let factor = match value[unit..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_reads_every_unit() {
        for (value, found) in [
            ("1", Some(1.0)),
            ("500us", Some(0.5)),
            (" 2 s ", Some(2_000.0)),
            ("1.5min", Some(90_000.0)),
            ("0", Some(0.0)),
            ("soon", None),
        ] {
            assert_eq!(milliseconds(value), found, "{value}");
        }
    }
}

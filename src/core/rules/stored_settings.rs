//! A stored setting weakens what privileges protect.

use super::context::Context;
use super::shared::stored_setting::{StoredSetting, items};
use crate::catalog::{Object, ObjectId, Oid, RoleSetting};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{capitalized, printable, quote_literal};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "stored_settings",
    title: "A stored setting weakens what privileges protect",
    area: Area::Roles,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::OwnObjects,
    breaks_declared: false,
    checks: "No setting that is stored for roles, for the database or for the server has \
             lo_compat_privileges or allow_system_table_mods on, loads libraries from outside of \
             the server\'s own folder with session_preload_libraries, or has extensions created \
             from another folder with extension_control_path. row_security = off, stored for \
             clients, login roles or all roles, is a warning. Settings of superusers count where \
             superusers are restricted too. A setting of the server that the auditing role cannot \
             see is a note.",
    why: "Each of these settings lets the sessions that start with it do what the privileges of \
          their role do not, or makes their queries fail. A role with SET on the parameter can \
          store it for itself. No event trigger fires for ALTER ROLE, ALTER DATABASE and ALTER \
          SYSTEM, so only hardened mode blocks them.",
    fix: "Run ALTER ROLE, ALTER DATABASE or ALTER SYSTEM with RESET for that parameter.",
    exempt: "During an upgrade of applications that used large objects before PostgreSQL 9.0; a \
             library that is installed elsewhere, in a folder that only the administrator can \
             write.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER ROLE anon SET lo_compat_privileges = on;",
        correct: "ALTER ROLE anon SET statement_timeout = \'3s\';",
    },
    references: &["CWE-732"],
};

/// The parameters that are checked.
pub const PARAMETERS: [&str; 5] = [
    "lo_compat_privileges",
    "allow_system_table_mods",
    "session_preload_libraries",
    "extension_control_path",
    "row_security",
];

/// What a value of a parameter does, by the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// Privileges on large objects are not checked.
    LargeObjects,
    /// The system catalogs are not protected from superusers.
    SystemCatalogs,
    /// Code from outside of the server\'s folder runs.
    Libraries,
    /// Scripts from another folder than the server\'s create extensions.
    Extensions,
    /// Queries with a policy raise errors.
    RowSecurity,
}

/// Returns what a value of a parameter weakens; `None` for settings that weaken nothing.
///
/// local_preload_libraries weakens nothing: it loads only what the administrator has installed in
/// `$libdir/plugins`, and every role can set it for itself.
#[must_use]
pub fn weakness(parameter: &str, value: &str) -> Option<Weakness> {
    let (weakness, weakens) = match parameter {
        "lo_compat_privileges" => (Weakness::LargeObjects, boolean(value) == Some(true)),
        "allow_system_table_mods" => (Weakness::SystemCatalogs, boolean(value) == Some(true)),
        "session_preload_libraries" => (Weakness::Libraries, items(value).any(|l| is_foreign(&l))),
        // The first folder with the file of an extension decides. An empty path is `$system`.
        "extension_control_path" => {
            let first = value.trim().split(':').next().unwrap_or_default();
            (Weakness::Extensions, !matches!(first, "" | "$system"))
        }
        "row_security" => (Weakness::RowSecurity, boolean(value) == Some(false)),
        _ => return None,
    };
    weakens.then_some(weakness)
}

/// Whether a library is another file than one in the server\'s folder. Names without a folder are
/// looked up there.
fn is_foreign(library: &str) -> bool {
    let inside = library.strip_prefix("$libdir/").unwrap_or(library);
    let leaves = || inside.split('/').any(|folder| folder == "..");
    inside.contains('/') && (inside.len() == library.len() || leaves())
}

/// Returns the value of a Boolean parameter, as the server reads it: any unambiguous prefix of its
/// words.
fn boolean(value: &str) -> Option<bool> {
    let value = value.trim().to_ascii_lowercase();
    let is_prefix_of = |word: &&str| !value.is_empty() && word.starts_with(&value);
    match value.as_str() {
        "1" | "on" => Some(true),
        "0" | "of" | "off" => Some(false),
        _ if ["true", "yes"].iter().any(is_prefix_of) => Some(true),
        _ if ["false", "no"].iter().any(is_prefix_of) => Some(false),
        _ => None,
    }
}

impl Weakness {
    /// Returns the effect on the sessions with the setting, as a clause.
    fn effect(self) -> &'static str {
        match self {
            Self::LargeObjects => "privileges on large objects are not checked",
            Self::SystemCatalogs => "the system catalogs can be altered",
            Self::Libraries => "code from outside of the server\'s own folder is loaded",
            Self::Extensions => "extensions are created by scripts from another folder",
            Self::RowSecurity => "queries that a policy would filter raise errors",
        }
    }

    /// Returns how severe the setting is for the sessions of some roles; `None` where it has no
    /// effect on them, or is a common decision about them.
    fn severity(self, sessions: Sessions) -> Option<Severity> {
        match (self, sessions) {
            (Self::RowSecurity, Sessions::All | Sessions::Requests) => Some(Severity::Warning),
            (Self::LargeObjects, Sessions::Superuser) | (Self::RowSecurity, _) => None,
            (_, Sessions::Superuser | Sessions::Trusted) => Some(Severity::Warning),
            (_, Sessions::All | Sessions::Requests | Sessions::Undeclared) => Some(Severity::Error),
        }
    }
}

/// The sessions that a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    /// Those of every role.
    All,
    /// Those of a client or a login role.
    Requests,
    /// Those of a role that is none of the others.
    Undeclared,
    /// Those of a declared worker or a trusted owner.
    Trusted,
    /// Those of a superuser.
    Superuser,
}

impl Sessions {
    fn of(cx: &Context<'_>, role: Option<Oid>) -> Self {
        let Some(role) = role else { return Self::All };
        if cx.snapshot.role(role).is_some_and(|role| role.superuser) {
            Self::Superuser
        } else if cx.is_worker(role) || cx.is_trusted_owner(role) {
            Self::Trusted
        } else if cx.is_subject(role) || cx.requests.reach(role) {
            Self::Requests
        } else {
            Self::Undeclared
        }
    }
}

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let guard = &cx.snapshot.guard;
    out.extend(guard.settings.iter().filter_map(|setting| stored(cx, setting)));
    out.extend(guard.server_settings.iter().filter_map(|(name, value)| of_server(name, value)));
    out.extend(guard.hidden_settings.iter().map(|name| hidden(name)));
}

/// Returns the finding about a setting of a role or a database.
fn stored(cx: &Context<'_>, setting: &RoleSetting) -> Option<Draft> {
    let weakness = weakness(&setting.name, &setting.value)?;
    let severity = weakness.severity(Sessions::of(cx, setting.role))?;
    let StoredSetting { object_type, identity, reset } = StoredSetting::of(cx.snapshot, setting);
    let detail = format!(
        "{} {} has the setting {} = {}: {}.",
        capitalized(object_type),
        printable(&identity),
        setting.name,
        printable(&quote_literal(&setting.value)),
        weakness.effect()
    );
    let object =
        Object { object_type, schema: None, identity, managed_by: None, id: ObjectId::Named };
    let reset = Statement::new(Change::ResetSetting(setting.clone()), reset);
    let draft = draft(object, severity, detail, (&setting.name, &setting.value))
        .fix(Fix::by(reset))
        .key(key(&setting.name, &setting.value, setting.database.as_deref()));
    Some(match setting.role {
        Some(role) => draft.role(cx.snapshot.role_name(role)),
        None => draft,
    })
}

fn parameter_object(parameter: &str) -> Object {
    Object {
        object_type: "parameter",
        schema: None,
        identity: parameter.to_owned(),
        managed_by: None,
        id: ObjectId::Named,
    }
}

/// Returns the finding about a setting whose value is not known.
fn hidden(parameter: &str) -> Draft {
    let detail = format!(
        "The value of parameter {parameter} on the server is not checked: the role that has read \
         the catalogs is no member of pg_read_all_settings and cannot see it."
    );
    Draft::new(parameter_object(parameter), Severity::Info, detail)
        .evidence(json!({"parameter": parameter, "value": null}))
        .key(format!("{parameter} hidden"))
}

/// Returns the finding about a setting for all sessions.
fn of_server(parameter: &str, value: &str) -> Option<Draft> {
    let weakness = weakness(parameter, value)?;
    let severity = weakness.severity(Sessions::All)?;
    let detail = format!(
        "Parameter {parameter} is {} for every session: {}.",
        printable(&quote_literal(value)),
        weakness.effect()
    );
    let fix = Fix::OutsideTransaction(format!(
        "ALTER SYSTEM RESET {parameter};\nSELECT pg_catalog.pg_reload_conf();"
    ));
    Some(
        draft(parameter_object(parameter), severity, detail, (parameter, value))
            .key(key(parameter, value, None))
            .fix(fix),
    )
}

fn draft(object: Object, severity: Severity, detail: String, setting: (&str, &str)) -> Draft {
    let action = if severity == Severity::Error { GuardAction::Block } else { GuardAction::Warn };
    Draft::new(object, severity, detail)
        .evidence(json!({"parameter": setting.0, "value": setting.1}))
        .measure(Measure::default().limited_to(action))
}

/// Returns what identifies a setting of an object. The value of a path counts: neither an earlier
/// one nor an exemption excuses another one.
fn key(parameter: &str, value: &str, database: Option<&str>) -> String {
    let value = if boolean(value).is_some() { "" } else { value };
    format!("{parameter} {} {value}", database.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::{RULE, Weakness, weakness};
    use crate::catalog::RoleSetting;
    use crate::contract::RoleKind;

    fn found(world: &mut World, role: Option<&str>, name: &str, value: &str) -> Vec<String> {
        let role = role.map(|role| world.role(role).oid);
        let database = role.is_none().then(|| "app".to_owned());
        world.snapshot.guard.settings =
            vec![RoleSetting { role, database, name: name.into(), value: value.into() }];
        world.found(&RULE)
    }

    #[test]
    fn setting_that_weakens_privileges_is_reported_where_it_is_stored() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        assert_eq!(
            found(&mut world, Some("anon"), "lo_compat_privileges", "on"),
            ["error role anon anon: Role anon has the setting lo_compat_privileges = 'on': \
              privileges on large objects are not checked. \
              => ALTER ROLE anon RESET lo_compat_privileges;"]
        );
        assert_eq!(
            found(&mut world, None, "session_preload_libraries", "auto_explain, \"/tmp/x\""),
            ["error database app: Database app has the setting session_preload_libraries = \
              'auto_explain, \"/tmp/x\"': code from outside of the server\'s own folder is loaded. \
              => ALTER DATABASE app RESET session_preload_libraries;"]
        );
        world.snapshot.guard.settings.clear();
        world.snapshot.guard.server_settings = vec![("lo_compat_privileges".into(), "on".into())];
        assert!(world.found(&RULE)[0].starts_with(
            "error parameter lo_compat_privileges: Parameter lo_compat_privileges is 'on' for \
             every session: privileges on large objects are not checked."
        ));
    }

    #[test]
    fn value_that_the_auditing_role_cannot_see_is_a_note() {
        let mut world = World::conforming();
        world.snapshot.guard.hidden_settings = vec!["session_preload_libraries".into()];
        assert_eq!(
            world.found(&RULE),
            ["info parameter session_preload_libraries: The value of parameter \
              session_preload_libraries on the server is not checked: the role that has read the \
              catalogs is no member of pg_read_all_settings and cannot see it."]
        );
    }

    #[test]
    fn severity_depends_on_the_roles_with_the_setting() {
        let mut world = World::conforming();
        world.add_role("boss");
        world.role("boss").superuser = true;
        world.add_login("gateway");
        world.declare("gateway", RoleKind::Login);
        world.add_role("mallory");
        let mut severities = |name: &str, value: &str| {
            let roles = [None, Some("anon"), Some("gateway"), Some("mallory")];
            let trusted = [Some("service_role"), Some("postgres"), Some("boss")];
            let roles = roles.into_iter().chain(trusted);
            let first = |role| {
                let found = found(&mut world, role, name, value);
                assert!(found.len() < 2, "{found:?}");
                found.first().map_or("-".to_owned(), |line| line[..1].to_owned())
            };
            roles.map(first).collect::<String>()
        };
        assert_eq!(severities("lo_compat_privileges", "on"), "eeeeww-");
        assert_eq!(severities("allow_system_table_mods", "on"), "eeeewww");
        assert_eq!(severities("session_preload_libraries", "/tmp/x"), "eeeewww");
        assert_eq!(severities("row_security", "off"), "www----");
        assert_eq!(severities("statement_timeout", "0"), "-------");
    }

    #[test]
    fn value_is_checked_as_the_server_reads_it() {
        for (parameter, value, expected) in [
            ("lo_compat_privileges", "TRUE", Some(Weakness::LargeObjects)),
            ("lo_compat_privileges", "y", Some(Weakness::LargeObjects)),
            ("lo_compat_privileges", "off", None),
            ("allow_system_table_mods", "1", Some(Weakness::SystemCatalogs)),
            ("allow_system_table_mods", "f", None),
            ("row_security", "no", Some(Weakness::RowSecurity)),
            ("row_security", "on", None),
            ("session_preload_libraries", "safeupdate, supautils", None),
            ("session_preload_libraries", "", None),
            ("session_preload_libraries", "\"$libdir/plugins/own\"", None),
            ("session_preload_libraries", "\"$libdir/../../tmp/x\"", Some(Weakness::Libraries)),
            ("session_preload_libraries", "base/x", Some(Weakness::Libraries)),
            ("local_preload_libraries", "\"$libdir/plugins/own\"", None),
            ("extension_control_path", "", None),
            ("extension_control_path", "$system:/opt/extensions", None),
            ("extension_control_path", "/tmp:$system", Some(Weakness::Extensions)),
            ("default_transaction_read_only", "on", None),
            ("search_path", "api", None),
        ] {
            assert_eq!(weakness(parameter, value), expected, "{parameter} = {value}");
        }
    }
}

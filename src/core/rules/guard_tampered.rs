//! Somebody has laid hands on the guard itself, or on what can silence it.

use super::{Area, Context, Rule};
use crate::catalog::{Privileges, RoleSetting};
use crate::contract::{GuardAction, Severity};
use crate::findings::{Draft, Object};
use crate::sql::{printable, quote_ident, quote_literal, safe_ident};
use serde_json::json;

pub(super) static RULE: Rule = Rule {
    id: "guard_tampered",
    title: "The guard is not whole, or something can silence it",
    area: Area::Guard,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "9",
    why: "A contract that enforces itself is worth what its guard is worth; none of these changes fires an event.",
    mend: "Undo it; where the extension itself is damaged, DROP EXTENSION and CREATE EXTENSION put it right.",
    judge,
};

/// The event triggers that the extension installs: name and event.
pub const TRIGGERS: [(&str, &str); 2] =
    [("zz_dragonfly_guard_start", "ddl_command_start"), ("zz_dragonfly_guard_end", "ddl_command_end")];

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let guard = &cx.snapshot.guard;
    if !guard.installed {
        return;
    }
    triggers(cx, out);
    for function in &guard.functions {
        let mut problems = Vec::new();
        if !function.genuine {
            problems.push("has been replaced".to_owned());
        }
        if !cx.access.is_superuser(function.owner) {
            problems
                .push(format!("belongs to \"{}\", who is not a superuser", printable(&cx.snapshot.role_name(function.owner))));
        }
        for problem in problems {
            out.push(finding(
                "function",
                &function.identity,
                &format!("Function {}", printable(&function.identity)),
                &problem,
                None,
            ));
        }
    }
    for name in &guard.impostors {
        let subject = format!("Function {}", printable(name));
        out.push(finding(
            "function",
            name,
            &subject,
            "has the name of one of the extension's own and would be called in its place",
            None,
        ));
    }
    private_schema(cx, out);
    settings(cx, out);
}

fn triggers(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (name, event) in TRIGGERS {
        let subject = format!("Event trigger {name}");
        let Some(trigger) = cx.snapshot.guard.triggers.iter().find(|t| t.name == name) else {
            let fix = format!(
                "CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION dragonfly_guard.{event}();\n\
                 ALTER EVENT TRIGGER {name} ENABLE ALWAYS;\nALTER EXTENSION dragonfly_guard ADD EVENT TRIGGER {name};"
            );
            out.push(finding("event trigger", name, &subject, "does not exist", Some(fix)));
            continue;
        };
        let enabled = match trigger.enabled {
            b'A' => None,
            b'D' => Some("is disabled"),
            b'R' => Some("is enabled for replicas alone"),
            _ => Some("is silent under session_replication_role = replica"),
        };
        if let Some(problem) = enabled {
            let fix = format!("ALTER EVENT TRIGGER {name} ENABLE ALWAYS;");
            out.push(finding("event trigger", name, &subject, problem, Some(fix)));
        }
        if trigger.event != event || !trigger.own_function {
            out.push(finding("event trigger", name, &subject, "does not call the guard", None));
        }
        if !cx.access.is_superuser(trigger.owner) {
            let owner = cx.snapshot.role_name(trigger.owner);
            let problem = format!("belongs to \"{}\", who is not a superuser and can drop it", printable(&owner));
            let fix = format!("ALTER EVENT TRIGGER {name} OWNER TO CURRENT_USER;");
            out.push(finding("event trigger", name, &subject, &problem, Some(fix)));
        }
        if !trigger.extension_member {
            let fix = format!("ALTER EXTENSION dragonfly_guard ADD EVENT TRIGGER {name};");
            out.push(finding("event trigger", name, &subject, "is no member of the extension and can be dropped", Some(fix)));
        }
    }
}

/// The private schema and its tables belong to a superuser, and nobody else writes there.
fn private_schema(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let Some(schema) = cx.snapshot.guard.schema.and_then(|oid| cx.snapshot.schema(oid)) else { return };
    let structure = Privileges::CREATE | Privileges::WRITES | Privileges::TRIGGER | Privileges::REFERENCES;
    let own = [("schema", quote_ident(&schema.name).into_owned(), schema.owner, schema.acl.as_ref())];
    let tables = cx.snapshot.guard.tables.iter().map(|(name, owner, acl)| {
        ("table", format!("{}.{}", quote_ident(&schema.name), quote_ident(name)), *owner, acl.as_ref())
    });
    for (object_type, identity, owner, acl) in own.into_iter().chain(tables) {
        let subject = format!("{} {}", if object_type == "schema" { "Schema" } else { "Table" }, printable(&identity));
        if !cx.access.is_superuser(owner) {
            let problem = format!("belongs to \"{}\", who is not a superuser", printable(&cx.snapshot.role_name(owner)));
            let fix = format!("ALTER {} {identity} OWNER TO CURRENT_USER;", object_type.to_uppercase());
            out.push(finding(object_type, &identity, &subject, &problem, Some(fix)));
        }
        for item in acl.into_iter().flatten().filter(|i| i.privileges.intersects(structure)) {
            if item.grantee == owner || cx.access.is_superuser(item.grantee) {
                continue;
            }
            let grantee = cx.snapshot.grantee(item.grantee);
            let words = (item.privileges & structure).to_string();
            let problem = format!("gives {words} to {}", printable(&cx.snapshot.role_name(item.grantee)));
            let fix = format!("REVOKE {words} ON {} {identity} FROM {grantee};", object_type.to_uppercase());
            out.push(finding(object_type, &identity, &subject, &problem, Some(fix)));
        }
    }
}

/// Settings stored for a role or database that silence triggers, and who may make such settings.
fn settings(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for setting in &cx.snapshot.guard.settings {
        let silences = match setting.name.to_ascii_lowercase().as_str() {
            "session_replication_role" => setting.value != "origin",
            "event_triggers" => matches!(setting.value.as_str(), "off" | "false" | "no" | "0" | "f" | "n"),
            "dragonfly_guard.mode" => setting.value != "block",
            _ => false,
        };
        if !silences {
            continue;
        }
        let (object_type, identity, fix) = place(cx, setting);
        let problem = format!("has the setting {} = {}", setting.name, printable(&quote_literal(&setting.value)));
        let subject = format!("{}{} {}", object_type[..1].to_uppercase(), &object_type[1..], printable(&identity));
        out.push(finding(object_type, &identity, &subject, &problem, Some(fix)));
    }
    for (parameter, acl) in &cx.snapshot.guard.parameters {
        for item in acl.iter().filter(|i| !cx.access.is_superuser(i.grantee)) {
            let words = (item.privileges & (Privileges::SET | Privileges::ALTER_SYSTEM)).to_string();
            let problem = format!("may be set by {} ({words})", printable(&cx.snapshot.role_name(item.grantee)));
            let fix = format!("REVOKE {words} ON PARAMETER {parameter} FROM {};", cx.snapshot.grantee(item.grantee));
            out.push(finding("parameter ACL", parameter, &format!("Parameter {parameter}"), &problem, Some(fix)));
        }
    }
}

/// Where a setting is stored, and the statement that takes it away.
fn place(cx: &Context<'_>, setting: &RoleSetting) -> (&'static str, String, String) {
    let name = &setting.name;
    match (setting.role.map(|r| cx.snapshot.role_name(r)), &setting.database) {
        (Some(role), Some(database)) => (
            "role",
            quote_ident(&role).into_owned(),
            format!("ALTER ROLE {} IN DATABASE {} RESET {name};", safe_ident(&role), safe_ident(database)),
        ),
        (Some(role), None) => {
            ("role", quote_ident(&role).into_owned(), format!("ALTER ROLE {} RESET {name};", safe_ident(&role)))
        }
        (None, Some(database)) => {
            ("database", quote_ident(database).into_owned(), format!("ALTER DATABASE {} RESET {name};", safe_ident(database)))
        }
        (None, None) => ("role", "ALL".to_owned(), format!("ALTER ROLE ALL RESET {name};")),
    }
}

fn finding(object_type: &'static str, identity: &str, subject: &str, problem: &str, fix: Option<String>) -> Draft {
    Draft {
        object: Object { object_type, schema: None, identity: identity.to_owned(), managed_by: None },
        role: None,
        severity: Severity::Error,
        key: problem.to_owned(),
        detail: format!("{subject} {problem}."),
        evidence: json!({"problem": problem}),
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::RoleSetting;

    #[test]
    fn a_silenced_trigger_is_seen() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.guard.triggers[1].enabled = b'D';
        world.snapshot.guard.triggers.remove(0);
        let found = world.found(&RULE);
        assert!(
            found[0].starts_with(
                "error event trigger zz_dragonfly_guard_end: Event trigger zz_dragonfly_guard_end is disabled. =>"
            ),
            "{found:?}"
        );
        assert!(found[1].contains("zz_dragonfly_guard_start does not exist."), "{found:?}");
    }

    #[test]
    fn so_is_a_setting_that_silences_it() {
        let mut world = World::conforming();
        let role = Some(world.role("postgres").oid);
        let setting = |name: &str, value: &str| RoleSetting { role, database: None, name: name.into(), value: value.into() };
        world.snapshot.guard.settings =
            vec![setting("session_replication_role", "replica"), setting("dragonfly_guard.mode", "block")];
        assert_eq!(
            world.found(&RULE),
            ["error role postgres: Role postgres has the setting session_replication_role = 'replica'. \
              => ALTER ROLE postgres RESET session_replication_role;"]
        );
    }
}

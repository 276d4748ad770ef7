//! A SECURITY DEFINER routine, or one that clients execute, sets a parameter that disables a
//! protection.

use super::context::Context;
use super::shared::guard_settings::disables_guard;
use crate::catalog::{ObjectKind, Privileges, Role, Routine};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::fix::{Change, Fix, RoutineChange, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{capitalized, printable};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_settings",
    title: "A routine sets a parameter that disables protection or changes the role",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::Routines,
    breaks_declared: false,
    checks: "No SECURITY DEFINER routine has session_replication_role, row_security = off, \
             role, session_authorization, event_triggers or dragonfly_guard.mode in its SET \
             clauses. No other routine of a governed schema that clients can execute, or for \
             which their EXECUTE is declared, has role, session_authorization or \
             row_security = off there.",
    why: "With session_replication_role = replica, ordinary triggers and foreign keys do not \
          fire while the routine runs; with row_security = off, queries that a policy would filter \
          raise errors; with role, a SECURITY DEFINER routine acts as a role other than its owner, \
          and another one as any role that the role of the session can become, such as a worker: \
          a request that can only call routines does what the worker can do.",
    fix: "Run ALTER ROUTINE ... RESET for that parameter.",
    exempt: "A maintenance routine that only a worker can execute and that must load data \
             without firing triggers.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER FUNCTION api.get_call_queue() SET session_replication_role = replica;",
        correct: "ALTER FUNCTION api.get_call_queue() SET statement_timeout = '5s';",
    },
    references: &["CWE-693"],
};

/// Parameters that a SECURITY DEFINER routine should not set.
const SUSPECT: [&str; 6] = [
    "session_replication_role",
    "row_security",
    "role",
    "session_authorization",
    "event_triggers",
    "dragonfly_guard.mode",
];

/// Those that count in a routine with the privileges of its caller. The others only superusers
/// change, or the guard itself prevents.
const SUSPECT_OF_INVOKER: [&str; 3] = ["row_security", "role", "session_authorization"];

/// Returns the settings of a routine that are reported: name and value.
#[must_use]
pub fn reported<'r>(cx: &Context<'_>, routine: &'r Routine) -> Vec<(&'static str, &'r str)> {
    let mut found: Vec<_> = suspect(&routine.config).collect();
    if !routine.security_definer {
        found.retain(|(name, _)| SUSPECT_OF_INVOKER.contains(name));
        found.retain(|_| is_executed_by_clients(cx, routine));
    }
    found
}

/// Whether a routine of a governed schema can be executed by a client, or the contract declares
/// that it can.
fn is_executed_by_clients(cx: &Context<'_>, routine: &Routine) -> bool {
    let Some(schema) = cx.governed(routine.schema) else { return false };
    let may_execute = |client: &Role| {
        let acl = routine.acl.as_ref();
        let held = cx.access.privileges(client.oid, routine.owner, acl, ObjectKind::Routine);
        held.contains(Privileges::EXECUTE) || cx.declares_execute(routine, schema, client)
    };
    cx.clients.iter().any(|client| may_execute(client))
}

/// Returns the settings of a `proconfig` that disable a protection: name and value.
fn suspect(config: &[String]) -> impl Iterator<Item = (&'static str, &str)> {
    config.iter().filter_map(|item| item.split_once('=')).filter_map(|(name, value)| {
        let name = SUSPECT.into_iter().find(|suspect| suspect.eq_ignore_ascii_case(name))?;
        let harmless = match name {
            "row_security" => {
                matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
            }
            "role" | "session_authorization" => false,
            parameter => !disables_guard(parameter, value),
        };
        (!harmless).then_some((name, value))
    })
}

/// Returns what such a setting of a routine does, in a sentence.
#[must_use]
pub fn effect(routine: &Routine, name: &str) -> &'static str {
    match name {
        "row_security" if !routine.security_definer => {
            "In the routine, queries that a policy would filter raise errors."
        }
        "role" | "session_authorization" if !routine.security_definer => {
            "The routine acts as this role instead of its caller, if the role of the session can \
             become it."
        }
        "session_replication_role" => {
            "Ordinary triggers and foreign keys do not fire while the routine runs."
        }
        "row_security" => {
            "In the routine, queries that a policy would filter raise errors, unless the owner \
             bypasses row security."
        }
        "event_triggers" | "dragonfly_guard.mode" => {
            "The security guard does not check what the routine does."
        }
        _ => "The routine acts as a role other than its owner.",
    }
}

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for routine in cx.snapshot.routines.iter().filter(|r| !r.config.is_empty()) {
        cx.check_interrupts();
        let settings = reported(cx, routine).into_iter();
        out.extend(settings.map(|(name, value)| draft(cx, routine, name, value)));
    }
}

/// Returns the finding about one setting of a routine.
#[must_use]
pub fn finding(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Finding {
    draft(cx, routine, name, value).finish(&RULE, cx.severity(&RULE))
}

/// Returns a routine in a sentence.
#[must_use]
pub fn described(cx: &Context<'_>, routine: &Routine) -> String {
    let definer = if routine.security_definer { "SECURITY DEFINER " } else { "" };
    format!("{definer}{} {}", routine.object_type(), cx.snapshot.routine_message(routine))
}

fn draft(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Draft {
    let detail = capitalized(&format!(
        "{} runs with {name} set to \"{}\".",
        described(cx, routine),
        printable(value)
    ));
    let reset = Statement::new(
        Change::AlterRoutine(routine.oid, vec![RoutineChange::Reset(name)]),
        format!("ALTER ROUTINE {} RESET {name};", cx.snapshot.routine_sql(routine)),
    );
    Draft::new(cx.routine_object(routine), Severity::Warning, detail)
        .key(name)
        .evidence(json!({"setting": name, "value": value}))
        .fix(Fix::by(reset))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn setting_that_disables_a_protection_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("get_call_queue").config.push("session_replication_role=replica".into());
        assert_eq!(
            world.found(&RULE),
            ["warning function api.get_call_queue(): SECURITY DEFINER function \
                 api.get_call_queue() runs with \
              session_replication_role set to \"replica\". => ALTER ROUTINE api.get_call_queue() \
              RESET session_replication_role;"]
        );
    }

    #[test]
    fn role_of_an_invoker_routine_is_reported_where_clients_execute_it() {
        let mut world = World::conforming();
        let routine = world.routine("get_ceo_metrics");
        routine.security_definer = false;
        routine.config = vec!["role=service_role".into()].into();
        let found = world.found(&RULE);
        assert_eq!(
            found,
            ["warning function api.get_ceo_metrics(): Function api.get_ceo_metrics() runs with \
              role set to \"service_role\". => ALTER ROUTINE api.get_ceo_metrics() RESET role;"]
        );
        world.routine("get_ceo_metrics").acl = Some(vec![].into());
        assert_eq!(world.found(&RULE), found, "the contract declares EXECUTE");
        for harmless in ["row_security=on", "session_replication_role=replica", "work_mem=1MB"] {
            world.routine("get_ceo_metrics").config = vec![harmless.into()].into();
            assert_eq!(world.found(&RULE), [""; 0], "{harmless}");
        }
    }

    #[test]
    fn role_of_an_invoker_routine_of_workers_is_accepted() {
        let mut world = World::conforming();
        let worker = world.role("service_role").oid;
        let routine = world.routine("complete_outbox_message");
        routine.security_definer = false;
        routine.config = vec!["role=service_role".into()].into();
        routine.acl.as_mut().unwrap().retain(|item| item.grantee == worker);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("complete_outbox_message").acl = None;
        assert_eq!(world.findings(&RULE).len(), 1, "PUBLIC can execute it");
    }
}

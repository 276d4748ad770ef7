//! A SECURITY DEFINER routine sets a parameter that disables a protection.

use super::context::Context;
use super::shared::guard_settings::disables_guard;
use crate::catalog::Routine;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::fix::{Change, Fix, RoutineChange, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::printable;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_settings",
    title: "A SECURITY DEFINER routine sets a parameter that disables protection",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::Routines,
    breaks_declared: false,
    section: "6",
    checks: "No SECURITY DEFINER routine has session_replication_role, row_security = off, \
             role, session_authorization, event_triggers or dragonfly_guard.mode in its SET \
             clauses.",
    why: "With session_replication_role = replica, ordinary triggers and foreign keys do not \
          fire while the routine runs; with row_security = off, queries that a policy would filter \
          raise errors; with role, the routine acts as a role other than its owner.",
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

/// Returns the settings of a `proconfig` that disable a protection: name and value.
pub fn suspect(config: &[String]) -> impl Iterator<Item = (&'static str, &str)> {
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
pub fn effect(name: &str) -> &'static str {
    match name {
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
    for routine in cx.snapshot.routines.iter().filter(|r| r.security_definer) {
        cx.check_interrupts();
        out.extend(suspect(&routine.config).map(|(name, value)| draft(cx, routine, name, value)));
    }
}

/// Returns the finding about one setting of a routine.
#[must_use]
pub fn finding(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Finding {
    draft(cx, routine, name, value).finish(&RULE, cx.severity(&RULE))
}

fn draft(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Draft {
    let detail = format!(
        "SECURITY DEFINER {} {} runs with {name} set to \"{}\".",
        routine.object_type(),
        cx.snapshot.routine_message(routine),
        printable(value)
    );
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
}

//! A SECURITY DEFINER routine carries a setting that switches off protection while it runs.

use super::guard_tampered::silences;
use super::{Area, Context, Rule};
use crate::catalog::Routine;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding, Measure};
use crate::mend::{Change, Mend, RoutineChange, Statement};
use crate::sql::printable;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_settings",
    title: "A SECURITY DEFINER routine sets a parameter that switches off protection",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    section: "6",
    why: "With session_replication_role = replica ordinary triggers and foreign keys are silent while the routine runs, with \
          row_security = off policies raise errors, with role it acts as somebody other than its owner.",
    mend: "ALTER ROUTINE ... RESET of that parameter.",
    judge,
};

/// Parameters that have no place in the `SET` clause of a SECURITY DEFINER routine.
const SUSPECT: [&str; 6] =
    ["session_replication_role", "row_security", "role", "session_authorization", "event_triggers", "dragonfly_guard.mode"];

/// The suspect settings of a `proconfig`: name and value.
pub fn suspect(config: &[String]) -> impl Iterator<Item = (&'static str, &str)> {
    config.iter().filter_map(|item| item.split_once('=')).filter_map(|(name, value)| {
        let name = SUSPECT.into_iter().find(|suspect| suspect.eq_ignore_ascii_case(name))?;
        let harmless = match name {
            "row_security" => matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1"),
            "role" | "session_authorization" => false,
            parameter => !silences(parameter, value),
        };
        (!harmless).then_some((name, value))
    })
}

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for routine in cx.snapshot.routines.iter().filter(|r| r.security_definer) {
        (cx.interrupts)();
        out.extend(suspect(&routine.config).map(|(name, value)| draft(cx, routine, name, value)));
    }
}

/// What the audit says about one setting of a routine.
#[must_use]
pub fn finding(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Finding {
    draft(cx, routine, name, value).finish(&RULE, cx.severity(&RULE))
}

fn draft(cx: &Context<'_>, routine: &Routine, name: &'static str, value: &str) -> Draft {
    Draft {
        object: cx.routine_object(routine),
        role: None,
        severity: Severity::Warning,
        key: name.to_owned(),
        measure: Measure::default(),
        detail: format!(
            "SECURITY DEFINER {} {} sets {name} to \"{}\" while it runs.",
            routine.object_type(),
            cx.snapshot.routine_message(routine),
            printable(value)
        ),
        evidence: json!({"setting": name, "value": value}),
        mend: Mend::by(Statement::new(
            Change::AlterRoutine(routine.oid, vec![RoutineChange::Reset(name)]),
            format!("ALTER ROUTINE {} RESET {name};", cx.snapshot.routine_sql(routine)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn replica_is_no_setting_for_a_routine() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("get_call_queue").config.push("session_replication_role=replica".into());
        assert_eq!(
            world.found(&RULE),
            [
                "warning function api.get_call_queue(): SECURITY DEFINER function api.get_call_queue() sets session_replication_role to \
              \"replica\" while it runs. => ALTER ROUTINE api.get_call_queue() RESET session_replication_role;"
            ]
        );
    }
}

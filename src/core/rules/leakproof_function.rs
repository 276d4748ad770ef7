//! A function of the application is LEAKPROOF.

use super::context::Context;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "leakproof_function",
    title: "A function of the application is LEAKPROOF",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No function in a governed schema is LEAKPROOF, but those of extensions.",
    why: "The server evaluates a LEAKPROOF function before the conditions of \
              policies and of security_barrier views, so that it sees rows that they \
              hide. Whether it leaks nothing, the server does not check.",
    fix: "Declare it NOT LEAKPROOF, which is the default.",
    exempt: "A function that is proven to tell nothing of its arguments, in results, \
              errors and messages.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER FUNCTION enforcement.open_actions(bigint) LEAKPROOF;",
        correct: "ALTER FUNCTION enforcement.open_actions(bigint) NOT LEAKPROOF;",
    },
    references: &["CWE-200", "PostgreSQL documentation: Rules and Privileges"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (routine, _) in cx.routines().filter(|(routine, _)| routine.is_leakproof) {
        cx.check_interrupts();
        let sql = cx.snapshot.routine_sql(routine);
        let detail = format!(
            "Function {} is LEAKPROOF: it sees rows that policies hide.",
            cx.snapshot.routine_message(routine)
        );
        let proposal = format!("{}\nALTER FUNCTION {sql} NOT LEAKPROOF;", RULE.fix);
        let draft = Draft::new(cx.routine_object(routine), RULE.severity, detail);
        out.push(draft.fix(Fix::Proposal(proposal)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn leakproof_function_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.details(&RULE), [""; 0]);
        world.routine("queue_job").is_leakproof = true;
        assert_eq!(
            world.details(&RULE),
            ["warning: Function api.queue_job() is LEAKPROOF: it sees rows that policies hide."]
        );
    }
}

//! A policy trusts a parameter that a session can set.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_trusts_settable_parameter",
    title: "A policy trusts a parameter that a session can set",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows by a parameter that the contract does not declare as a value of \
             the session. It concerns permissive policies of governed tables with row security, \
             for clients, and no command for which all_rows of the table says that every row is \
             meant.",
    why: "Any session can SET a parameter with a dot in its name. A client that can send SQL, or \
          call a routine that sets it, chooses whose rows to read.",
    fix: "Compare with a claim of the token. Where only the API sets the parameter, declare it in \
          identity of the contract.",
    exempt: "None: a parameter that clients cannot set is declared in identity of the contract.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('app.user_id', true)));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-807", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = ", and a session can set that parameter";
    exposed::report_opening(cx, &RULE, Opening::SettableParameter, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_trusts_settable_parameter_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure =
            opened(Opening::SettableParameter, "amount", &[["R.owner", "=", "app.user_id"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when owner = app.user_id, and a session can set that parameter."]
        );
    }
}

//! A policy compares the caller by an order.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_identity_not_equal",
    title: "A policy compares the caller by an order",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows because a column is less or greater than a value of the caller, \
             or than something else that is not a constant. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
    why: "An order ties no row to the caller: half of all users are greater than any one.",
    fix: "Compare with =.",
    exempt: "An order that is meant, such as a level of clearance. Declare the columns in \
             open_rows instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name >= (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-697", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = "; an order ties no row to the caller";
    exposed::report_opening(cx, &RULE, Opening::NotEqual, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_identity_not_equal_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::NotEqual, "amount", &[["R.owner", ">=", "user"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when owner >= the user; an order ties no row to the caller."]
        );
    }
}

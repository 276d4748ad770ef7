//! A policy asks the session and not the row.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_ignores_row",
    title: "A policy asks the session and not the row",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens every row in each session of a client: that the user has signed in \
             ties no row to the user. It concerns permissive policies of governed tables with row \
             security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "auth.uid() IS NOT NULL is true for each user who has signed up, whichever user the row \
          belongs to.",
    fix: "Compare a column with the caller. Where every row is meant, declare the command in \
          all_rows.",
    exempt: "Rows that all signed-in users share. Declare the command in all_rows of the table \
             instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING ((SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub') IS NOT \
                    NULL);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["splinter 0024_permissive_rls_policy", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report_read(
        cx,
        &RULE,
        Opening::IgnoresRow,
        "every row, because nothing is asked of the row",
        out,
    );
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_ignores_row_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::IgnoresRow, "amount", &[]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             every row, because nothing is asked of the row."]
        );
    }
}

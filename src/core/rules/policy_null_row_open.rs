//! A policy opens rows in which a column is null.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_null_row_open",
    title: "A policy opens rows in which a column is null",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows because a column is null. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
    why: "Rows without an owner are open to each user. They come from an import, from a deleted \
          user whose rows are kept, or from an INSERT that may leave the column out.",
    fix: "Leave the rows out, or set the column and make it NOT NULL. Where these rows are meant, \
          declare the column in open_rows.",
    exempt: "Rows that are public until a user takes them. Declare the column in open_rows of the \
             table instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub') OR uploaded_at IS NULL);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report_read(cx, &RULE, Opening::NullRowOpen, "rows that may belong to no user", out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_null_row_open_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::NullRowOpen, "amount", &[["R.owner", "IS", "NULL"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows that may belong to no user when owner IS NULL."]
        );
    }
}

//! A policy opens rows in which a column has a value.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault};
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_row_open",
    title: "A policy opens rows in which a column has a value",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each way in which a policy opens rows because of a value in the row, or in the row \
             that it belongs to, is declared: by the columns, in open_rows of the table. It \
             concerns permissive policies of governed tables with row security, for clients, and \
             no command for which all_rows of the table says that every row is meant.",
    why: "That published rows are public is usual. Which columns open a row is worth knowing: a \
          role that can write them can open it.",
    fix: "Declare the columns in open_rows of the table, or compare a column with the caller.",
    exempt: "None: it is information. Declare the columns in open_rows of the table instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub') OR rows_total = 0);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let open = of.openings().into_iter().filter(|open| {
            of.reads() && matches!(open.opening, Opening::RowOpen | Opening::RowOpenByParent)
        });
        open.map(|open| Fault::of(&open, "rows of others", "")).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_row_open_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::RowOpen, "amount", &[["R.stage", "=", "'public'"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["info: Policy p on table public.judgments lets role \"authenticated\" SELECT rows \
             of others when stage = 'public'."]
        );
    }
}

//! A policy lets a client change or delete rows of others.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault};
use crate::catalog::Rows;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_writes_others_rows",
    title: "A policy lets a client change or delete rows of others",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each policy for UPDATE and DELETE ties the existing rows to the caller. Where a \
             BEFORE trigger that no client can change may refuse it, it is a warning. It \
             concerns permissive policies of governed tables with row security, for clients, and \
             no command for which all_rows of the table says that every row is meant.",
    why: "An UPDATE or DELETE without WHERE and RETURNING reads no column, so that policies for \
          SELECT are not asked. The rows that meet USING of the policy for the command are \
          changed.",
    fix: "Compare a column with the caller in USING of the policy for the command.",
    exempt: "Rows that all callers share. Declare the commands in all_rows of the table instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('GRANT DELETE ON intake.simplicity_batches TO \
              authenticated;\n\
              CREATE POLICY batches_delete ON intake.simplicity_batches FOR DELETE TO \
              authenticated',\n\
              'uploads can be withdrawn');\n\
              GRANT DELETE ON intake.simplicity_batches TO authenticated;\n\
              CREATE POLICY batches_delete ON intake.simplicity_batches FOR DELETE TO \
              authenticated\n\
              USING (rows_total = 0);",
        correct: "SELECT ops.declare('GRANT DELETE ON intake.simplicity_batches TO \
              authenticated;\n\
              CREATE POLICY batches_delete ON intake.simplicity_batches FOR DELETE TO \
              authenticated',\n\
              'uploads can be withdrawn');\n\
              GRANT DELETE ON intake.simplicity_batches TO authenticated;\n\
              CREATE POLICY batches_delete ON intake.simplicity_batches FOR DELETE TO \
              authenticated\n\
              USING (file_name = (SELECT current_setting('request.jwt.claims', \
              true)::json ->> 'sub'));",
    },
    references: &["CWE-639", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        if of.rows != Rows::Existing || of.reads() {
            return Vec::new();
        }
        let open = of.openings().into_iter().filter(exposed::is_of_no_other_rule);
        open.map(|open| Fault::of_write(of, &open, "rows of others")).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_writes_others_rows_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::RowOpen, "stage", &[["R.stage", "=", "'new'"]]);
        world.expose("authenticated", Command::Delete, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["error: Policy p on table public.judgments lets role \"authenticated\" DELETE \
             rows of others when stage = 'new'."]
        );
    }
}

//! A policy compares with an operator of the application.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_foreign_operator",
    title: "A policy compares with an operator of the application",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No condition of a policy depends on an operator that neither the server nor an \
             extension of a superuser has created. It concerns permissive policies of governed \
             tables with row security, for clients, and no command for which all_rows of the \
             table says that every row is meant.",
    why: "The stored condition refers to the operator that was found by the search_path when the \
          policy was created. Its text shows an = that may mean anything.",
    fix: "Write OPERATOR(pg_catalog.=), or create the policy with search_path = pg_catalog.",
    exempt: "An operator of a type of the application that has been reviewed.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE OPERATOR public.=== (FUNCTION = pg_catalog.texteq, LEFTARG = \
                    text, RIGHTARG = text);\n\
                    ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name OPERATOR(public.===) (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-426", "CWE-697"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = "; an operator in the condition is the application's";
    exposed::report_opening(cx, &RULE, Opening::ForeignOperator, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_foreign_operator_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::ForeignOperator, "amount", &[]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others; an operator in the condition is the application's."]
        );
    }
}

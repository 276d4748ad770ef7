//! A policy opens rows to sessions without a user.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_open_without_identity",
    title: "A policy opens rows to sessions without a user",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy returns a row because a value of the session is not set. It concerns \
             permissive policies of governed tables with row security, for clients, and no \
             command for which all_rows of the table says that every row is meant.",
    why: "A condition such as auth.uid() IS NULL OR ..., or owner IS NOT DISTINCT FROM \
          auth.uid(), is true for requests without a token. A request that sends none reads the \
          rows.",
    fix: "Ask for the user first, and compare a column with it: USING (owner = auth.uid()).",
    exempt: "Rows that are public. Declare the command in all_rows, or the columns in open_rows, \
             instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub') OR (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'tenant') IS \
                    NULL);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-863", "OWASP API1:2023"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report_read(cx, &RULE, Opening::WithoutIdentity, "rows of others", out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_open_without_identity_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure =
            opened(Opening::WithoutIdentity, "amount", &[["claims.tenant", "IS", "NULL"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when claims.tenant IS NULL."]
        );
    }
}

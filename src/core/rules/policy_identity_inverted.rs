//! A policy opens the rows that are not the caller's.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_identity_inverted",
    title: "A policy opens the rows that are not the caller's",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy compares a column with the caller by <> or NOT, so that the rows of all \
             other users are allowed. It concerns permissive policies of governed tables with row \
             security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "The condition means the opposite of what row security is for: each caller reads what \
          belongs to others.",
    fix: "Compare with =, or drop the condition if it was meant for a restrictive policy.",
    exempt: "A list of other people's rows that is meant, such as open invitations. Declare the \
             command in all_rows instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name <> (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-697", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = "";
    exposed::report_opening(cx, &RULE, Opening::Inverted, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_identity_inverted_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::Inverted, "amount", &[["R.owner", "<>", "user"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when owner <> the user."]
        );
    }
}

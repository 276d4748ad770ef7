//! A policy matches the caller by a pattern.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_pattern_identity",
    title: "A policy matches the caller by a pattern",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows because a column matches a pattern with a value of the caller \
             in it, or the caller a pattern in a column. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
    why: "A pattern matches more than one value: '%@example.com' matches evil@other-example.com \
          as well, and a value with % or _ in it matches others.",
    fix: "Compare with =, or compare parts: split_part(email, '@', 2) = 'example.com'.",
    exempt: "Patterns that only the application writes.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name LIKE '%' || (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-697", "CWE-625"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = "";
    exposed::report_opening(cx, &RULE, Opening::Pattern, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_pattern_identity_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure =
            opened(Opening::Pattern, "amount", &[["textlike(R.owner, user)", "IS", "TRUE"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when textlike(owner, user) IS TRUE."]
        );
    }
}

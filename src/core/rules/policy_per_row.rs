//! A policy asks for the caller once for each row.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_per_row",
    title: "A policy asks for the caller once for each row",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each call in a policy that is the same for all rows, such as auth.uid() \
              and current_setting(), is in a subquery of its own. It concerns \
              permissive policies of governed tables with row security, for clients.",
    why: "A condition is evaluated for each row. In (SELECT auth.uid()) the server \
              calls the function once for the query, and can use an index.",
    fix: "Put the call into a subquery.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = current_setting('request.jwt.claims', true)::json ->> 'sub');",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));",
    },
    references: &["splinter 0003_auth_rls_initplan"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report(cx, &RULE, |of| fault(of).into_iter().collect(), out);
}

fn fault(of: &Exposed<'_>) -> Option<Fault> {
    let calls = &of.exposure.calls.per_row;
    let is_one = calls.len() == 1;
    let rest = if is_one { "which is called" } else { "which are called" };
    let what = format!("with {}, {rest} for each row", listed_set(calls));
    let wrapped: Vec<String> = calls.iter().map(|call| format!("(SELECT {call})")).collect();
    let list = calls.iter().cloned().collect::<Vec<_>>().join(", ");
    let proposal = format!("Write {} in the place of {list}.", wrapped.join(", "));
    (!calls.is_empty())
        .then(|| Fault::plain("per_row", Sentence::Asks(what)).with_proposal(proposal))
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Calls, Exposure};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let calls = Calls { per_row: ["auth.uid()".to_owned()].into(), ..Calls::default() };
        let exposure = Exposure { calls, ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            ["info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT with auth.uid(), which is called for each row."]
        );
    }
}

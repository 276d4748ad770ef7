//! A policy calls a VOLATILE function.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_volatile",
    title: "A policy calls a VOLATILE function",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy calls a function or operator that is VOLATILE by its \
              declaration. It concerns permissive policies of governed tables with row \
              security, for clients.",
    why: "What is VOLATILE can have another result for each row. The server calls \
              it for each row, and uses no index for what is compared with it. A \
              function that is created without a word about it is VOLATILE.",
    fix: "Declare the function STABLE if it only reads: ALTER FUNCTION ... STABLE.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub') \
              AND random() < 2);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));",
    },
    references: &["PostgreSQL documentation: Function Volatility Categories"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report(cx, &RULE, |of| fault(of).into_iter().collect(), out);
}

fn fault(of: &Exposed<'_>) -> Option<Fault> {
    let functions = &of.exposure.calls.volatile;
    let what = format!(
        "with {}, which {}",
        listed_set(functions),
        if functions.len() == 1 {
            "is VOLATILE: the server calls it for each row and uses no index for it"
        } else {
            "are VOLATILE: the server calls them for each row and uses no index for them"
        }
    );
    (!functions.is_empty()).then(|| Fault::plain("volatile", Sentence::Asks(what)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Calls, Exposure};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let calls = Calls { volatile: ["me()".to_owned()].into(), ..Calls::default() };
        let exposure = Exposure { calls, ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            ["info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT with me(), which is VOLATILE: the server calls it for each row and uses \
                 no index for it."]
        );
    }
}

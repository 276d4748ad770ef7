//! A policy can raise an error.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::catalog::Raise;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::quote_literal;
use std::collections::BTreeSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_raises",
    title: "A policy can raise an error",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No condition asks for a parameter that a session may not have without \
              saying so (missing_ok), converts a parameter that may be empty without \
              NULLIF, converts the user's number, a UUID, to a number, or takes the \
              value of a subquery that may return several rows. It concerns permissive \
              policies of governed tables with row security, for clients.",
    why: "The error does not hide a row: it ends the query. A parameter that a \
              request has set is empty, and not null, for the next one on the \
              same connection.",
    fix: "Write NULLIF(current_setting('name', true), ''). In the place of = \
              (SELECT ...), write IN (SELECT ...).",
    exempt: "Sessions that always have the parameter, or tokens whose sub is a \
              number.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims')::json ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));",
    },
    references: &["CWE-248"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let raises = &of.exposure.calls.raises;
        // A session has the parameters that the contract says who the caller is by.
        let is_declared = |raise: &&Raise| {
            let (Raise::Missing(name) | Raise::Empty(name)) = raise else { return false };
            cx.contract.identity.settings.contains_key(name)
        };
        let raises_unsaid = raises.iter().filter(|raise| !is_declared(raise));
        raises_unsaid.filter_map(|raise| fault(raise, raises)).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

/// Returns what is said about a part of a condition; `None` where the same is said about another.
fn fault(raise: &Raise, all: &BTreeSet<Raise>) -> Option<Fault> {
    let nullif = |name: &str| {
        let name = quote_literal(name);
        format!("Write NULLIF(current_setting({name}, true), '') in the place of the parameter.")
    };
    let (kind, why, proposal) = match raise {
        Raise::Missing(name) => {
            ("missing", format!("a session may not have the parameter {name}"), nullif(name))
        }
        Raise::Empty(name) if all.contains(&Raise::Missing(name.clone())) => return None,
        Raise::Empty(name) => (
            "empty",
            format!("the parameter {name} is empty after a request that has set it"),
            nullif(name),
        ),
        Raise::UserAsNumber => (
            "user_as_number",
            "the user is a UUID, which is no number".to_owned(),
            "Compare a column of type uuid with the user.".to_owned(),
        ),
        Raise::Several(table) => (
            "several",
            format!("the subquery may return several rows of {table}, because it has no whole key"),
            "Write IN (SELECT ...) in the place of = (SELECT ...).".to_owned(),
        ),
    };
    Some(Fault::plain(kind, Sentence::MayFail(why)).with_proposal(proposal))
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Calls, Exposure, Raise};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let raises = [
            Raise::Missing("app.tenant".to_owned()),
            Raise::Empty("app.tenant".to_owned()),
            Raise::UserAsNumber,
            Raise::Several("public.members".to_owned()),
        ];
        let calls = Calls { raises: raises.into(), ..Calls::default() };
        let exposure = Exposure { calls, ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            [
                "warning: Policy p on table public.judgments can raise an error for role \
                 \"authenticated\" on SELECT: a session may not have the parameter app.tenant.",
                "warning: Policy p on table public.judgments can raise an error for role \
                 \"authenticated\" on SELECT: the user is a UUID, which is no number.",
                "warning: Policy p on table public.judgments can raise an error for role \
                 \"authenticated\" on SELECT: the subquery may return several rows of \
                 public.members, because it has no whole key."
            ]
        );
    }
}

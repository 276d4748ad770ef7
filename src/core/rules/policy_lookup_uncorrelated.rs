//! A policy looks the caller up without asking for the row.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, is_of_privileged, namesakes};
use crate::catalog::{Open, Opening};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_lookup_uncorrelated",
    title: "A policy looks the caller up without asking for the row",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each subquery of a policy that finds the caller also asks for a column of the row, \
             or for a right that the row of the caller has. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
    why: "Each user who is found in the table reads every row. That is meant where the table \
          lists administrators, and a mistake where it lists members.",
    fix: "Compare a column of the looked-up table with one of the row: m.tenant = docs.tenant. \
          Where each user in the table has the right, declare privileged for it.",
    exempt: "A table of administrators that is not declared. Declare privileged for it instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                    FROM public.plaintiffs p WHERE p.name = (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub')));",
        correct: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                  FROM public.plaintiffs p WHERE p.tier = judgments.tier AND p.name = \
                  (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub')));",
    },
    references: &["CWE-863", "OWASP API1:2023"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let open = of.of_kind(Opening::LookupUncorrelated).filter(|open| !is_privileged(cx, open));
        open.map(|open| {
            let why = format!("; the lookup does not ask for the row{}", namesakes(of, &open));
            Fault::of(&open, "rows of others", &why)
        })
        .collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

/// Whether a row is opened to those that are found in tables that the contract declares to list
/// callers with a right.
fn is_privileged(cx: &Context<'_>, open: &Open) -> bool {
    open.lookups.as_ref().is_some_and(|of| !of.is_empty() && is_of_privileged(cx, of))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_lookup_uncorrelated_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(
            Opening::LookupUncorrelated,
            "amount",
            &[["public.plaintiffs.name", "=", "user"]],
        );
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when public.plaintiffs.name = the user; the lookup does not ask \
             for the row."]
        );
    }
}

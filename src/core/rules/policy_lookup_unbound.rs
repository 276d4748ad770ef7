//! A policy looks a row up without asking for the caller.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, namesakes};
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_lookup_unbound",
    title: "A policy looks a row up without asking for the caller",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each subquery of a policy that opens rows asks for the caller. It concerns \
             permissive policies of governed tables with row security, for clients, and no \
             command for which all_rows of the table says that every row is meant.",
    why: "That a user is a member of the tenant says nothing about who asks: the row is open to \
          all callers.",
    fix: "Compare a column of the looked-up table with the caller: m.user_id = auth.uid().",
    exempt: "Rows that are open because of their parent. Declare the columns in open_rows instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                    FROM public.plaintiffs p WHERE p.tier = judgments.tier));",
        correct: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                  FROM public.plaintiffs p WHERE p.tier = judgments.tier AND p.name = \
                  (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub')));",
    },
    references: &["CWE-863", "OWASP API1:2023"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let open = of.of_kind(Opening::LookupUnbound);
        open.map(|open| {
            let why = format!("; the lookup does not ask for the caller{}", namesakes(of, &open));
            Fault::of(&open, "rows of others", &why)
        })
        .collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_lookup_unbound_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure =
            opened(Opening::LookupUnbound, "amount", &[["public.plaintiffs.tier", "=", "R.tier"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when tier = public.plaintiffs.tier; the lookup does not ask for \
             the caller."]
        );
    }
}

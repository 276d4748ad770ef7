//! A column name in a policy's subquery means another table than it seems.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault};
use crate::catalog::{Open, Opening};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_name_captured",
    title: "A column name in a policy's subquery means another table than it seems",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No subquery of a policy compares a column with itself because the name without a \
             table was meant to be the policy's table. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
    why: "In EXISTS (SELECT FROM members m WHERE m.tenant = tenant), the second tenant is that of \
          members as well. The comparison is true of every row, and the subquery says nothing of \
          the row that is checked.",
    fix: "Write the name of the policy's table before the column: m.tenant = docs.tenant.",
    exempt: "None: the comparison has no purpose.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                    FROM public.plaintiffs p WHERE p.name = (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub') AND \
                    p.tier = tier));",
        correct: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                  FROM public.plaintiffs p WHERE p.name = (SELECT \
                  current_setting('request.jwt.claims', true)::json ->> 'sub') AND p.tier \
                  = judgments.tier));",
    },
    references: &["CWE-697", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let fault = |open: Open| Fault::of(&open, "rows of others", &format!("; {}", why(&open)));
    let found = |of: &Exposed<'_>| of.of_kind(Opening::NameCaptured).map(fault).collect();
    exposed::report(cx, &RULE, found, out);
    exposed::report(cx, &RULE, latent, out);
}

fn why(open: &Open) -> String {
    match &open.captured {
        Some(captured) => captured.describe(),
        None => "a column of the lookup is compared with itself, because its name means the \
                 lookup and not the policy's table"
            .to_owned(),
    }
}

/// Returns what a policy would let through as soon as its lookup can be read: a policy or a grant
/// for the lookup alone would open it.
fn latent(of: &Exposed<'_>) -> Vec<Fault> {
    let is_found = of.of_kind(Opening::NameCaptured).next().is_some() || of.is_for_all();
    let captured = of.exposure.latent.iter().filter(|open| open.opening == Opening::NameCaptured);
    let fault = |open: &Open| {
        let lookups = open.lookups.clone().unwrap_or_default();
        let why = format!(
            ", as soon as the role can read rows of {}; {}",
            listed_set(&lookups),
            why(open)
        );
        Fault {
            kind: "name_captured_unreadable".to_owned(),
            ..Fault::of(open, "rows of others", &why)
        }
    };
    captured.filter(|_| !is_found).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{CapturedArgument, Command, Exposure, Open, Opening, Rows};

    #[test]
    fn policy_name_captured_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(
            Opening::NameCaptured,
            "amount",
            &[["public.plaintiffs.tier", "IS NOT", "NULL"]],
        );
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when public.plaintiffs.tier IS NOT NULL; a column of the lookup \
             is compared with itself, because its name means the lookup and not the policy's \
             table."]
        );
    }

    #[test]
    fn captured_argument_of_a_function_is_named() {
        let mut world = World::conforming();
        let mut exposure = opened(Opening::NameCaptured, "amount", &[]);
        exposure.open[0].captured = Some(CapturedArgument {
            function: "app.is_member(tenant integer)".into(),
            argument: "tenant".into(),
        });
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others; argument tenant of function app.is_member(tenant integer) is not \
             asked for, because its name means a column in the function's body."]
        );
    }

    #[test]
    fn captured_name_of_a_lookup_that_cannot_be_read_yet_is_reported() {
        let mut world = World::conforming();
        let open = opened(
            Opening::NameCaptured,
            "amount",
            &[["public.plaintiffs.tier", "IS NOT", "NULL"]],
        );
        let lookups = Some(["public.plaintiffs".to_owned()].into());
        let latent = open.open.into_iter().map(|open| Open { lookups: lookups.clone(), ..open });
        let exposure =
            Exposure { is_never_true: true, latent: latent.collect(), ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when public.plaintiffs.tier IS NOT NULL, as soon as the role can \
             read rows of public.plaintiffs; a column of the lookup is compared with itself, \
             because its name means the lookup and not the policy's table."]
        );
    }
}

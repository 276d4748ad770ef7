//! A policy reads what the client may not read.

use super::context::Context;
use super::shared::exposed::{self, Fault, Sentence, when};
use crate::catalog::Exposure;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;
use std::collections::BTreeSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_lookup_denied",
    title: "A policy reads what the client may not read",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "A client has the privileges on what its policies read and call, and the policies of \
             looked-up tables let it read a row.",
    why: "Every query of the table fails with permission denied, or returns no row, although the \
          policy of the table would allow it.",
    fix: "Grant the client SELECT on the columns that are looked up, with a policy, or read them \
          in a SECURITY DEFINER function with a safe search_path.",
    exempt: "A policy for several roles that only some of them use.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                    FROM enforcement.actions a WHERE a.kind = (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub') AND \
                    a.outcome = judgments.case_number));",
        correct: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                  FROM public.plaintiffs p WHERE p.name = (SELECT \
                  current_setting('request.jwt.claims', true)::json ->> 'sub') AND \
                  p.status = judgments.case_number));",
    },
    references: &["CWE-284"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report(cx, &RULE, |of| fault(of.exposure).into_iter().collect(), out);
}

fn fault(exposure: &Exposure) -> Option<Fault> {
    let denied: BTreeSet<String> = &exposure.denied | &exposure.not_executable;
    if !denied.is_empty() {
        let why = format!("the role has no privilege on {}", listed_set(&denied));
        return Some(Fault::plain("denied", Sentence::Fails(why)));
    }
    if exposure.fails() || exposure.hidden.is_empty() {
        return None;
    }
    let hidden = listed_set(&exposure.hidden);
    let (kind, what) = if exposure.is_never_true {
        ("hidden", format!("no row, because no policy lets the role read rows of {hidden}"))
    } else {
        let what = format!(
            "no row by its lookup in {hidden}, because no policy lets the role read rows there"
        );
        ("hidden_in_part", what)
    };
    let fault = Fault::plain(kind, Sentence::Lets(what));
    // A policy for the lookup would not make the condition right.
    let open = exposure.latent.first();
    Some(match open {
        Some(open) => fault.with_proposal(format!(
            "Correct the condition first: if the role could read the lookup, rows of others would \
             pass{}.",
            when(&open.witness)
        )),
        None => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_lookup_denied_is_reported_for_the_client() {
        let mut world = World::conforming();
        let denied = ["auth.users".to_owned()].into();
        let exposure = Exposure { denied, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments raises an error for role \
             \"authenticated\" on SELECT: the role has no privilege on auth.users."]
        );
    }

    #[test]
    fn lookup_without_a_policy_is_reported_where_rows_pass_by_other_conditions() {
        let mut world = World::conforming();
        let hidden = ["public.plaintiffs".to_owned()].into();
        let exposure = Exposure { hidden, has_privileged: true, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT no \
             row by its lookup in public.plaintiffs, because no policy lets the role read rows \
             there."]
        );
    }
}

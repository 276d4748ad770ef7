//! A policy lets a role that it names reach no row.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_never_true",
    title: "A policy lets a role that it names reach no row",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each policy lets the clients that it names reach a row. On a table with restrictive \
             policies for a command, a client with the privilege has a permissive one as well.",
    why: "A condition that cannot be true is not noticed: results are empty, and writes change no \
          row. A misspelled role, a comparison with NULL, or a parameter without a dot in its \
          name are common reasons.",
    fix: "Correct the condition, or drop the policy.",
    exempt: "A table that is closed on purpose. Revoke the privilege instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING ((SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'role') = \
                    'authenticatd');",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-284"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let exposure = of.exposure;
        let is_named = of.policy.roles.contains(&of.role.oid);
        let is_found = exposure.is_never_true
            && is_named
            && !exposure.fails()
            && exposure.hidden.is_empty()
            && cx.closing_policy(of.relation, of.role, of.command).is_none()
            // Whatever the session is: a policy that the contract declares is then missing.
            && !(of.is_declared() && of.policy.is_for_no_rows(of.command));
        let fault =
            || Fault::plain("", Sentence::Lets("no row: its condition is never true".into()));
        is_found.then(fault).into_iter().collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_never_true_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = Exposure { is_never_true: true, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             no row: its condition is never true."]
        );
    }
}

//! A policy trusts an address that may not be verified.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_trusts_email",
    title: "A policy trusts an address that may not be verified",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows by the address in a token, unless the contract declares that \
             addresses are verified. It concerns permissive policies of governed tables with row \
             security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "Where sign-up does not verify addresses, a user who signs up with the address of \
          another one reads that user's rows.",
    fix: "Compare with the user's id. Where addresses are verified, set email_verified in \
          identity of the contract.",
    exempt: "None: verified addresses are declared in identity of the contract.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'email'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-807", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = ", and the address may not be verified";
    exposed::report_opening(cx, &RULE, Opening::Email, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_trusts_email_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::Email, "amount", &[["R.email", "=", "claims.email"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when email = claims.email, and the address may not be verified."]
        );
    }
}

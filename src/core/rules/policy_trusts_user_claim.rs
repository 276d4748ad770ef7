//! A policy trusts what users can change about themselves.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_trusts_user_claim",
    title: "A policy trusts what users can change about themselves",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows by a claim or column that users can change themselves, such as \
             user_metadata. It concerns permissive policies of governed tables with row security, \
             for clients, and no command for which all_rows of the table says that every row is \
             meant.",
    why: "Users write user_metadata with a call of the authentication service. A user who puts \
          another tenant there reads its rows.",
    fix: "Use a claim that only the server sets, such as app_metadata, or look the user up in a \
          table.",
    exempt: "None: a claim that users cannot change is declared as trusted in identity of the \
             contract.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json #>> '{user_metadata,name}'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-807", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = ", and users can change that about themselves";
    exposed::report_opening(cx, &RULE, Opening::UserClaim, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_trusts_user_claim_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(
            Opening::UserClaim,
            "amount",
            &[["R.tenant", "=", "claims.user_metadata.tenant"]],
        );
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when tenant = claims.user_metadata.tenant, and users can change \
             that about themselves."]
        );
    }
}

//! A function of a policy is told who the caller is.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_helper_argument",
    title: "A function of a policy is told who the caller is",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy gives a value of the session that says who the caller is to a \
              SECURITY DEFINER function that the client can call itself. It concerns \
              permissive policies of governed tables with row security, for clients.",
    why: "Clients can call the function with any other value, and so ask it about \
              anybody.",
    fix: "Let the function ask for the caller itself, or REVOKE USAGE on its \
              schema from clients: policies do not need it.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SET LOCAL ROLE postgres;\n\
              CREATE FUNCTION api.name_of_caller(caller text) RETURNS text LANGUAGE \
              sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ \
              SELECT caller $$;\n\
              REVOKE EXECUTE ON FUNCTION api.name_of_caller(text) FROM PUBLIC;\n\
              ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT api.name_of_caller(current_setting('request.jwt.claims', \
              true)::json ->> 'sub')));\n\
              RESET ROLE;",
        correct: "SET LOCAL ROLE postgres;\n\
              CREATE FUNCTION api.name_of_caller() RETURNS text LANGUAGE sql STABLE \
              SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT \
              current_setting('request.jwt.claims', true)::json ->> 'sub' $$;\n\
              REVOKE EXECUTE ON FUNCTION api.name_of_caller() FROM PUBLIC;\n\
              ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT api.name_of_caller()));\n\
              RESET ROLE;",
    },
    references: &["CWE-203"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report(cx, &RULE, |of| fault(of).into_iter().collect(), out);
}

fn fault(of: &Exposed<'_>) -> Option<Fault> {
    let functions = &of.exposure.calls.told;
    let what = format!(
        "with {}, which takes the caller as an argument: clients can ask it about anybody",
        listed_set(functions)
    );
    (!functions.is_empty()).then(|| Fault::plain("told", Sentence::Asks(what)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Calls, Exposure};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let told = ["is_member(uuid, integer)".to_owned()].into();
        let calls = Calls { told, ..Calls::default() };
        let exposure = Exposure { calls, ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            ["info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT with is_member(uuid, integer), which takes the caller as an argument: \
                 clients can ask it about anybody."]
        );
    }
}

//! A policy trusts what the request contains.

use super::context::Context;
use super::shared::exposed;
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_trusts_request",
    title: "A policy trusts what the request contains",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows by a header, a cookie, the path or the method of the request, \
             or by application_name. It concerns permissive policies of governed tables with row \
             security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "PostgREST puts what the client has sent into these parameters. Clients send what they \
          want.",
    fix: "Compare with a claim of the token instead.",
    exempt: "A header that a proxy overwrites in every request. Declare the parameter as trusted \
             in identity of the contract instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.headers', true)::json \
                    ->> 'x-user'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-807", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let why = ", and clients send what they want";
    exposed::report_opening(cx, &RULE, Opening::Request, why, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_trusts_request_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure =
            opened(Opening::Request, "amount", &[["R.owner", "=", "request.headers.x-user"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others when owner = request.headers.x-user, and clients send what they \
             want."]
        );
    }
}

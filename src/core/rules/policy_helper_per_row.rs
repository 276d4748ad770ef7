//! A policy calls a function of the application for each row.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_helper_per_row",
    title: "A policy calls a function of the application for each row",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy calls a function of the application with a column as argument \
              that the server cannot make a part of the query: one that is SECURITY \
              DEFINER, has a SET clause, reads tables, or is not in SQL. It concerns \
              permissive policies of governed tables with row security, for clients.",
    why: "Such a function is called once for each row of the table, and no index \
              is used for what it compares.",
    fix: "Compare the column with a function without columns as arguments, in a \
              subquery: tenant IN (SELECT tenants_of_caller()).",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE SCHEMA lab;\n\
              CREATE FUNCTION lab.mine(name text) RETURNS boolean LANGUAGE plpgsql \
              STABLE AS $$ BEGIN RETURN name = current_setting('request.jwt.claims', \
              true)::json ->> 'sub'; END $$;\n\
              ALTER POLICY batches_read ON intake.simplicity_batches USING \
              (lab.mine(file_name));",
        correct: "CREATE SCHEMA lab;\n\
              CREATE FUNCTION lab.mine(name text) RETURNS boolean LANGUAGE sql STABLE \
              AS $$ SELECT name = current_setting('request.jwt.claims', true)::json \
              ->> 'sub' $$;\n\
              ALTER POLICY batches_read ON intake.simplicity_batches USING \
              (lab.mine(file_name));",
    },
    references: &["Supabase documentation: RLS performance"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    exposed::report(cx, &RULE, |of| fault(of).into_iter().collect(), out);
}

fn fault(of: &Exposed<'_>) -> Option<Fault> {
    let functions = &of.exposure.calls.helpers;
    let which = if functions.len() == 1 { "is" } else { "are" };
    let what = format!("with {}, which {which} executed for each row", listed_set(functions));
    (!functions.is_empty()).then(|| Fault::plain("helper", Sentence::Asks(what)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Calls, Exposure};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let helpers = ["private.is_member(integer)".to_owned()].into();
        let calls = Calls { helpers, ..Calls::default() };
        let exposure = Exposure { calls, ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            ["info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT with private.is_member(integer), which is executed for each row."]
        );
    }
}

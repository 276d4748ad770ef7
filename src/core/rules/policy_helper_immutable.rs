//! A policy calls an IMMUTABLE function that asks the session or tables.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_helper_immutable",
    title: "A policy calls an IMMUTABLE function that asks the session or tables",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No function that a policy calls is declared IMMUTABLE although its body asks for the \
             caller, a parameter or a table.",
    why: "The planner computes the result once. A plan that is kept for the next user of the \
          connection has the result for the last one.",
    fix: "Declare the function STABLE: ALTER FUNCTION ... STABLE.",
    exempt: "None: STABLE costs nothing here.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('CREATE FUNCTION api.caller()', 'for policies');\n\
                    CREATE FUNCTION api.caller() RETURNS text LANGUAGE sql IMMUTABLE\n\
                      AS 'SELECT current_setting(''request.jwt.claims'', true)::json ->> \
                    ''sub''';\n\
                    REVOKE EXECUTE ON FUNCTION api.caller() FROM PUBLIC;\n\
                    GRANT EXECUTE ON FUNCTION api.caller() TO anon, authenticated, \
                    service_role;\n\
                    ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT api.caller()));",
        correct: "SELECT ops.declare('CREATE FUNCTION api.caller()', 'for policies');\n\
                  CREATE FUNCTION api.caller() RETURNS text LANGUAGE sql STABLE\n\
                    AS 'SELECT current_setting(''request.jwt.claims'', true)::json ->> \
                  ''sub''';\n\
                  REVOKE EXECUTE ON FUNCTION api.caller() FROM PUBLIC;\n\
                  GRANT EXECUTE ON FUNCTION api.caller() TO anon, authenticated, \
                  service_role;\n\
                  ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT api.caller()));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults =
        |of: &Exposed<'_>| -> Vec<Fault> { of.exposure.immutable.iter().map(fault).collect() };
    exposed::report(cx, &RULE, faults, out);
}

fn fault(function: &String) -> Fault {
    let what = format!(
        "by {function}, which is declared IMMUTABLE although it asks the session or tables; a plan \
         that is kept has the result for an earlier user"
    );
    Fault::plain(function, Sentence::Asks(what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_helper_immutable_is_reported_for_the_client() {
        let mut world = World::conforming();
        let immutable = ["app.caller()".to_owned()].into();
        let exposure = Exposure { immutable, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments decides for role \"authenticated\" \
             on SELECT by app.caller(), which is declared IMMUTABLE although it asks the \
             session or tables; a plan that is kept has the result for an earlier user."]
        );
    }
}

//! A policy calls a function in which the caller decides what a name means.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;
use std::collections::BTreeSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_helper_path",
    title: "A policy calls a function in which the caller decides what a name means",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each function that a policy calls and that is a text qualifies the tables in it, or \
             sets search_path.",
    why: "Names in the text are looked up in the search_path of the caller, also where the \
          function is not SECURITY DEFINER. A role that can create a temporary table, or set \
          search_path, gives them another meaning.",
    fix: "Qualify the names, or SET search_path = pg_catalog, pg_temp on the function.",
    exempt: "Clients that can neither create temporary tables nor send SQL.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('CREATE FUNCTION api.status_of_caller()', 'for \
                    policies');\n\
                    CREATE FUNCTION api.status_of_caller() RETURNS text LANGUAGE sql \
                    STABLE\n\
                      AS 'SELECT max(p.status) FROM plaintiffs p WHERE p.name = (SELECT \
                    current_setting(''request.jwt.claims'', true)::json ->> ''sub'')';\n\
                    REVOKE EXECUTE ON FUNCTION api.status_of_caller() FROM PUBLIC;\n\
                    GRANT EXECUTE ON FUNCTION api.status_of_caller() TO anon, \
                    authenticated, service_role;\n\
                    ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT api.status_of_caller()));",
        correct: "SELECT ops.declare('CREATE FUNCTION api.status_of_caller()', 'for \
                  policies');\n\
                  CREATE FUNCTION api.status_of_caller() RETURNS text LANGUAGE sql STABLE\n\
                    AS 'SELECT max(p.status) FROM public.plaintiffs p WHERE p.name = \
                  (SELECT current_setting(''request.jwt.claims'', true)::json ->> \
                  ''sub'')';\n\
                  REVOKE EXECUTE ON FUNCTION api.status_of_caller() FROM PUBLIC;\n\
                  GRANT EXECUTE ON FUNCTION api.status_of_caller() TO anon, \
                  authenticated, service_role;\n\
                  ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT api.status_of_caller()));",
    },
    references: &["CWE-426"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        of.exposure.captured.iter().map(|(function, names)| fault(function, names)).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

fn fault(function: &str, names: &BTreeSet<String>) -> Fault {
    let what = format!(
        "by {function}, in which the caller decides what {} {}: by search_path, or by temporary \
         tables",
        listed_set(names),
        if names.len() == 1 { "means" } else { "mean" }
    );
    Fault::plain(function, Sentence::Asks(what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_helper_path_is_reported_for_the_client() {
        let mut world = World::conforming();
        let captured = [("app.is_member()".to_owned(), ["members".to_owned()].into())].into();
        let exposure = Exposure { captured, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments decides for role \"authenticated\" \
             on SELECT by app.is_member(), in which the caller decides what members means: by \
             search_path, or by temporary tables."]
        );
    }
}

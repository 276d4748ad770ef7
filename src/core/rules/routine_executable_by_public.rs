//! PUBLIC can execute a routine of a governed schema, usually by the built-in default.

use super::context::Context;
use super::shared::routines;
use super::shared::target::Target;
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "routine_executable_by_public",
    title: "PUBLIC can execute a routine in a governed schema",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "PUBLIC has no EXECUTE on routines of the governed schemas, neither granted nor by \
             PostgreSQL's built-in default. The guard is silent about the default, which CREATE \
             FUNCTION cannot omit.",
    why: "With explicit grants only, the routines that clients can call are those that the \
          contract lists.",
    fix: "Revoke EXECUTE from PUBLIC and grant it to the roles that the contract declares.",
    exempt: "A helper that policies, views or CHECK constraints call and that every role may \
             execute.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO PUBLIC;",
        correct: "GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO service_role;",
    },
    references: &["CIS PostgreSQL Benchmark 4.5", "CWE-276"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (routine, schema) in cx.routines() {
        if cx.is_undeclared_definer(routine, schema) || routines::is_of_no_concern(routine) {
            continue;
        }
        let target = Target::of_routine(cx, routine);
        let permitted = |role: &Role| cx.permitted_execute(routine, schema, role);
        let severity = routines::severity(cx, routine, Severity::Warning);
        let others = out.len();
        target.report_public(cx, &permitted, Privileges::EXECUTE, severity, out);
        // CREATE FUNCTION cannot omit what the server grants: the guard is silent about that.
        let is_built_in = |draft: &&mut Draft| draft.measure.at_most < GuardAction::Block;
        for draft in out[others..].iter_mut().filter(is_built_in) {
            draft.measure.at_most = GuardAction::Audit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn constructor_of_a_range_type_is_no_finding() {
        let mut world = World::conforming();
        let routine = world.routine("queue_job");
        (routine.acl, routine.security_definer) = (None, false);
        assert_eq!(world.found(&RULE).len(), 1);
        world.routine("queue_job").is_constructor = true;
        assert_eq!(world.found(&RULE), [""; 0]);
    }

    #[test]
    fn default_execute_of_public_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("queue_job").acl = None;
        assert_eq!(
            world.found(&RULE),
            ["warning function api.queue_job() PUBLIC: PUBLIC (every role) has EXECUTE on \
                 function api.queue_job() by default, which the \
              contract does not declare. => GRANT EXECUTE ON ROUTINE api.queue_job() TO anon, \
              authenticated, service_role;\n\
              REVOKE EXECUTE ON ROUTINE api.queue_job() FROM PUBLIC;"]
        );
    }
}

//! Every role can call a routine in a governed schema: the built-in default that nobody revoked.

use super::{Area, Context, Rule, security_definer_executable_by_clients};
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "routine_executable_by_public",
    title: "PUBLIC can execute a routine in a governed schema",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    section: "2",
    why: "EXECUTE is given by explicit grants, so that the RPC surface is what somebody wrote down and not what somebody forgot.",
    mend: "Revoke EXECUTE from PUBLIC, and grant it to the roles that the contract names.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (routine, schema) in cx.routines() {
        if security_definer_executable_by_clients::judges(cx, routine, schema) {
            continue;
        }
        let target = cx.routine_target(routine);
        let declared = |role: &Role| cx.execute_declared(routine, schema, role);
        target.report_public(cx, &declared, Privileges::EXECUTE, Severity::Warning, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn execute_is_by_explicit_grants() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("queue_job").acl = None;
        assert_eq!(
            world.found(&RULE),
            [
                "warning function api.queue_job() PUBLIC: PUBLIC (every role) has EXECUTE on function api.queue_job() by default, which the \
              contract does not declare. => GRANT EXECUTE ON ROUTINE api.queue_job() TO anon;\n\
              GRANT EXECUTE ON ROUTINE api.queue_job() TO authenticated;\nGRANT EXECUTE ON ROUTINE api.queue_job() TO service_role;\n\
              REVOKE EXECUTE ON ROUTINE api.queue_job() FROM PUBLIC;"
            ]
        );
    }
}

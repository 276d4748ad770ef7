//! EXECUTE on a routine is missing for a role, or a client has it without a declaration.

use super::context::Context;
use super::shared::privileges::Mask;
use super::shared::routines;
use super::shared::target::Target;
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "routine_privileges",
    title: "EXECUTE on a routine differs from the contract",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client and worker roles have EXECUTE on exactly the routines that the contract \
             declares for them. Routines that declared access calls, for example in policies, are \
             permitted as well.",
    why: "A declared RPC without its grant is an outage; a client that can execute an \
          undeclared routine reaches code that was not written for it.",
    fix: "Grant or revoke EXECUTE as the contract declares.",
    exempt: "An RPC that the next release adds. Declare it with that release.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO authenticated;",
        correct: "GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO service_role;",
    },
    references: &["CIS PostgreSQL Benchmark 4.5", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let callers = [cx.clients.clone(), cx.logins()].concat();
    for (routine, schema) in cx.routines() {
        let declared = |role: &Role| cx.execute_declared(routine, schema, role);
        let target = Target::of_routine(cx, routine);
        if !routine.security_definer && !routines::is_of_no_concern(routine) {
            // PUBLIC is checked by routine_executable_by_public, SECURITY DEFINER routines by
            // security_definer_executable_by_clients.
            let permitted = |role: &Role| cx.permitted_execute(routine, schema, role);
            let severity = routines::severity(cx, routine, Severity::Warning);
            let execute = Mask::Of(Privileges::EXECUTE);
            target.report_roles(cx, &callers, &permitted, execute, severity, out);
        }
        let subjects = cx.declared_callers(routine, schema);
        target.report_missing(cx, &subjects, &declared, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, Privileges};

    #[test]
    fn missing_and_undeclared_execute_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let helper = world.routine("complete_outbox_message");
        helper.security_definer = false;
        let grantor = helper.owner;
        let item = AclItem {
            grantee: anon,
            grantor,
            privileges: Privileges::EXECUTE,
            grantable: Privileges::NONE,
        };
        helper.acl.as_mut().unwrap().push(item);
        world.routine("get_ceo_metrics").acl.as_mut().unwrap().retain(|item| item.grantee != anon);
        assert_eq!(
            world.found(&RULE),
            [
                "error function api.get_ceo_metrics() anon: Role \"anon\" does not have EXECUTE on \
                 function \
                 api.get_ceo_metrics(), which the contract declares. => GRANT EXECUTE ON ROUTINE \
                 api.get_ceo_metrics() TO anon;",
                "warning function ops.complete_outbox_message(pg_catalog.uuid) anon: Role \"anon\" \
                 has EXECUTE on function \
                 ops.complete_outbox_message(uuid), which the contract does not declare. \
                 => REVOKE EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) FROM \
                 anon;"
            ]
        );
    }

    #[test]
    fn grantees_are_one_finding_only_where_they_hold_execute_in_the_same_way() {
        let mut world = World::conforming();
        world.add_role("callers");
        world.grant_role("callers", "anon");
        let grantees = ["callers", "authenticated"].map(|name| world.role(name).oid);
        let helper = world.routine("complete_outbox_message");
        helper.security_definer = false;
        let grantor = helper.owner;
        let item = |grantee| AclItem {
            grantee,
            grantor,
            privileges: Privileges::EXECUTE,
            grantable: Privileges::NONE,
        };
        helper.acl.as_mut().unwrap().extend(grantees.map(item));
        let details = |world: &World| -> Vec<String> {
            world.findings(&RULE).into_iter().map(|finding| finding.detail).collect()
        };
        assert_eq!(
            details(&world),
            [
                "Role \"anon\" has EXECUTE on function ops.complete_outbox_message(uuid) through \
                 membership in \"callers\", which the contract does not declare.",
                "Role \"authenticated\" has EXECUTE on function \
                 ops.complete_outbox_message(uuid), which the contract does not declare."
            ]
        );
        world.grant_role("callers", "authenticated");
        world.routine("complete_outbox_message").acl.as_mut().unwrap().pop();
        assert_eq!(
            details(&world),
            ["Roles \"anon\" and \"authenticated\" have EXECUTE on function \
              ops.complete_outbox_message(uuid) through membership in \"callers\", which the \
              contract does not declare."]
        );
        assert_eq!(
            world.fixes(&RULE),
            ["REVOKE callers FROM anon;\nREVOKE callers FROM authenticated;"]
        );
    }

    #[test]
    fn roles_without_a_declared_execute_are_one_finding() {
        let mut world = World::conforming();
        let roles = ["anon", "authenticated"].map(|name| world.role(name).oid);
        let routine = world.routine("get_ceo_metrics");
        routine.acl.as_mut().unwrap().retain(|item| !roles.contains(&item.grantee));
        assert_eq!(
            world.found(&RULE),
            ["error function api.get_ceo_metrics() anon,authenticated: Roles \"anon\" and \
              \"authenticated\" do not have EXECUTE on function api.get_ceo_metrics(), which the \
              contract declares. => GRANT EXECUTE ON ROUTINE api.get_ceo_metrics() TO anon, \
              authenticated;"]
        );
    }
}

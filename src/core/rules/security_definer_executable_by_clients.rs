//! A client can execute a SECURITY DEFINER routine without a declaration.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::routines;
use super::shared::target::Target;
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_executable_by_clients",
    title: "A client can execute a SECURITY DEFINER routine that the contract does not declare",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client roles and PUBLIC have EXECUTE on SECURITY DEFINER routines of the governed \
             schemas only where the contract declares it, or something declared calls the routine. \
             The latter is reported as information, with what calls it.",
    why: "The routine runs with the privileges of its owner and bypasses row security. \
          PostgreSQL grants EXECUTE on every new routine to PUBLIC; a trigger function can be \
          executed through a temporary table.",
    fix: "Revoke EXECUTE. Move a routine for clients to a schema whose routines the contract \
          declares for them.",
    exempt: "A routine that checks the caller itself and is about to be declared.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT EXECUTE ON FUNCTION ops.complete_outbox_message(uuid) TO \
                    authenticated;",
        correct: "GRANT EXECUTE ON FUNCTION ops.complete_outbox_message(uuid) TO service_role;",
    },
    references: &[
        "splinter 0028_anon_security_definer_function_executable",
        "splinter 0029_authenticated_security_definer_function_executable",
        "CIS PostgreSQL Benchmark 4.5",
        "CWE-250",
    ],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let logins = cx.logins();
    let execute = Mask::Of(Privileges::EXECUTE);
    // If a routine is declared for all clients, only the grant option is reported.
    for (routine, schema) in cx.routines().filter(|(r, _)| r.security_definer) {
        let declared = |role: &Role| cx.execute_declared(routine, schema, role);
        let permitted = |role: &Role| cx.permitted_execute(routine, schema, role);
        let target = Target::of_routine(cx, routine);
        let severity = routines::severity(cx, routine, Severity::Error);
        let allowed = Allowed { declared: &declared, permitted: &permitted };
        target.report_beyond(cx, &cx.clients, allowed, execute, severity, out);
        target.report_roles(cx, &logins, &permitted, execute, severity, out);
        target.report_needed_execute(cx, &cx.clients, &declared, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, PUBLIC, Privileges};
    use crate::contract::RoleKind;
    use serde_json::json;

    #[test]
    fn execute_of_a_login_role_is_reported() {
        let mut world = World::conforming();
        world.add_login("web_login");
        world.declare("web_login", RoleKind::Login);
        let (login, routine) = (world.role("web_login").oid, world.routine("queue_job"));
        let grantor = routine.owner;
        routine.acl.as_mut().unwrap().push(AclItem {
            grantee: login,
            grantor,
            privileges: Privileges::EXECUTE,
            grantable: Privileges::NONE,
        });
        assert_eq!(
            world.fixes(&RULE),
            ["REVOKE EXECUTE ON ROUTINE api.queue_job() FROM web_login;"]
        );
    }

    #[test]
    fn default_execute_of_public_on_a_definer_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("complete_outbox_message").acl = None;
        assert_eq!(
            world.found(&RULE),
            ["error function ops.complete_outbox_message(pg_catalog.uuid) PUBLIC: PUBLIC (every \
                 role) has EXECUTE on function \
              ops.complete_outbox_message(uuid) by default, which the contract does not declare. \
              => GRANT EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) TO \
              service_role;\n\
              REVOKE EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) FROM PUBLIC;"]
        );
    }

    #[test]
    fn public_and_clients_with_execute_on_one_routine_are_one_finding() {
        let mut world = World::conforming();
        let grantees = [world.role("authenticated").oid, PUBLIC, world.role("anon").oid];
        let routine = world.routine("complete_outbox_message");
        let grantor = routine.owner;
        let item = |grantee| AclItem {
            grantee,
            grantor,
            privileges: Privileges::EXECUTE,
            grantable: Privileges::NONE,
        };
        routine.acl.as_mut().unwrap().extend(grantees.map(item));
        assert_eq!(
            world.found(&RULE),
            ["error function ops.complete_outbox_message(pg_catalog.uuid) \
              PUBLIC,anon,authenticated: PUBLIC (every role) and roles \"anon\" and \
              \"authenticated\" have EXECUTE on function ops.complete_outbox_message(uuid), which \
              the contract does not declare. => REVOKE EXECUTE ON ROUTINE \
              ops.complete_outbox_message(pg_catalog.uuid) FROM PUBLIC, anon, authenticated;"]
        );
        let finding = &world.findings(&RULE)[0];
        assert_eq!(finding.role(), None);
        assert_eq!(finding.evidence["grantees"], json!(["PUBLIC", "anon", "authenticated"]));
    }
}

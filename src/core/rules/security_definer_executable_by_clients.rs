//! A client can call a SECURITY DEFINER routine that the contract does not give it.

use super::{Area, Context, Rule};
use crate::catalog::{Privileges, Role, Routine};
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "security_definer_executable_by_clients",
    title: "A client can execute a SECURITY DEFINER routine that the contract does not declare",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "2",
    why: "Such a routine runs with the rights of its owner and passes row security by. Every new routine is executable by PUBLIC \
          until somebody revokes it; a trigger function too, for a client can make a temporary table with that trigger.",
    mend: "Revoke EXECUTE; move what clients may call to the schema whose routines the contract declares.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    // Of one that is declared for every client, only the right to hand it on is too much.
    for (routine, schema) in cx.routines().filter(|(r, _)| r.security_definer) {
        let declared = |role: &Role| cx.execute_declared(routine, schema, role);
        let target = cx.routine_target(routine);
        target.report_undeclared(cx, &cx.clients, &declared, Privileges::EXECUTE, Severity::Error, out);
    }
}

/// Whether a routine is this rule's matter: SECURITY DEFINER, and not declared for every client.
pub(super) fn judges(cx: &Context<'_>, routine: &Routine, schema: &SchemaDecl) -> bool {
    routine.security_definer && !cx.clients.iter().all(|client| cx.declares_execute(routine, schema, client))
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;

    #[test]
    fn outside_the_rpc_schema_the_default_is_too_wide() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.routine("complete_outbox_message").acl = None;
        assert_eq!(
            world.found(&RULE),
            [
                "error function ops.complete_outbox_message(pg_catalog.uuid) PUBLIC: PUBLIC (every role) has EXECUTE on function \
              ops.complete_outbox_message(uuid) by default, which the contract does not declare. \
              => GRANT EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) TO service_role;\n\
              REVOKE EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) FROM PUBLIC;"
            ]
        );
    }
}

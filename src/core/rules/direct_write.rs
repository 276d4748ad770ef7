//! A client writes to a table without going through a declared path.

use super::{Area, Context, Rule};
use crate::catalog::{Privileges, RelationKind, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "direct_write",
    title: "A client can write to a table or view outside the declared write paths",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "5",
    why: "All writes go through row security, RPCs or backend services; TRUNCATE passes even row security by.",
    mend: "Revoke the privilege.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| r.kind != RelationKind::Sequence) {
        let declared = |role: &Role| cx.declared_on_relation(relation, schema, role);
        let target = cx.relation_target(relation);
        target.report_undeclared(cx, &cx.clients, &declared, Privileges::WRITES, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn only_declared_writes() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let authenticated = world.role("authenticated").oid;
        world.grant("intake.simplicity_batches", authenticated, Privileges::WRITES);
        world.grant("public.v_judgment_pipeline", authenticated, Privileges::UPDATE);
        assert_eq!(
            world.found(&RULE),
            [
                "error table intake.simplicity_batches authenticated: Role \"authenticated\" has UPDATE, DELETE, TRUNCATE on table \
                 intake.simplicity_batches, which the contract does not declare. \
                 => REVOKE UPDATE, DELETE, TRUNCATE ON TABLE intake.simplicity_batches FROM authenticated;",
                "error view public.v_judgment_pipeline authenticated: Role \"authenticated\" has UPDATE on view \
                 public.v_judgment_pipeline, which the contract does not declare. \
                 => REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM authenticated;"
            ]
        );
    }
}

//! A materialized view outside the declared read surface that a client can read.

use super::{Area, Context, Rule};
use crate::catalog::RelationKind;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "materialized_view_readable",
    title: "A client can read a materialized view that the contract does not declare",
    area: Area::Views,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    section: "4",
    why: "A materialized view is a copy of rows, and can have no row security: who may read it reads all of it.",
    mend: "Revoke SELECT, or declare it.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    cx.report_undeclared_readers(RelationKind::MaterializedView, out);
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges, Relation, RelationKind};

    #[test]
    fn a_copy_of_rows_is_not_for_everybody() {
        let mut world = World::conforming();
        let view = world.relation("public.v_judgment_pipeline").clone();
        let kind = RelationKind::MaterializedView;
        world.add_relation(Relation { name: "m".into(), oid: 9001, kind, acl: None, ..view });
        world.grant("public.m", PUBLIC, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "error materialized view public.m PUBLIC: PUBLIC (every role) has SELECT on materialized view public.m, which the contract \
              does not declare. => GRANT SELECT ON TABLE public.m TO service_role;\nREVOKE SELECT ON TABLE public.m FROM PUBLIC;"
            ]
        );
    }
}

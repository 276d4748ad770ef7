//! A client can read a materialized view that the contract does not declare.

use super::context::Context;
use super::shared::privileges::report_undeclared_readers;
use crate::catalog::RelationKind;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "materialized_view_readable",
    title: "A client can read a materialized view that the contract does not declare",
    area: Area::Views,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client roles and PUBLIC have SELECT only on declared materialized views.",
    why: "A materialized view is a copy of rows and cannot have row security: a role that can \
          read it reads all of it.",
    fix: "Revoke SELECT, or declare the materialized view.",
    exempt: "An aggregate that exposes no individual rows. Prefer declaring it in the contract.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE MATERIALIZED VIEW public.m_contacts AS SELECT * FROM \
                    public.plaintiff_contacts;\n\
                    GRANT ALL ON public.m_contacts TO service_role;\n\
                    GRANT SELECT ON public.m_contacts TO authenticated;",
        correct: "CREATE MATERIALIZED VIEW public.m_contacts AS SELECT * FROM \
                  public.plaintiff_contacts;\n\
                  GRANT ALL ON public.m_contacts TO service_role;",
    },
    references: &["splinter 0016_materialized_view_in_api", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    report_undeclared_readers(cx, RelationKind::MaterializedView, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges, Relation, RelationKind};

    #[test]
    fn undeclared_materialized_view_is_reported() {
        let mut world = World::conforming();
        let view = world.relation("public.v_judgment_pipeline").clone();
        let kind = RelationKind::MaterializedView;
        world.add_relation(Relation { name: "m".into(), oid: 9001, kind, acl: None, ..view });
        world.grant("public.m", PUBLIC, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            ["error materialized view public.m PUBLIC: PUBLIC (every role) has SELECT on \
                 materialized view public.m, which the contract \
              does not declare. => GRANT SELECT ON TABLE public.m TO service_role;\nREVOKE SELECT \
              ON TABLE public.m FROM PUBLIC;"]
        );
    }
}

//! A client can read a view that the contract does not declare.

use super::context::Context;
use super::shared::privileges::report_undeclared_readers;
use crate::catalog::RelationKind;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "undeclared_view_readable",
    title: "A client can read a view that the contract does not declare",
    area: Area::Views,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client roles and PUBLIC have SELECT only on declared views. A view with \
             security_invoker is reported as information.",
    why: "A view runs with the privileges of its owner and so bypasses row security: it shows \
          every row of its tables to every role that can read it.",
    fix: "Revoke SELECT; or, where the client can read the tables itself, run ALTER VIEW ... \
          SET (security_invoker = true); or declare the view.",
    exempt: "A view of data that is public. Prefer declaring it in the contract.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE VIEW public.v_contacts AS SELECT * FROM public.plaintiff_contacts;\n\
                    GRANT ALL ON public.v_contacts TO service_role;\n\
                    GRANT SELECT ON public.v_contacts TO authenticated;",
        correct: "CREATE VIEW public.v_contacts AS SELECT * FROM public.plaintiff_contacts;\n\
                  GRANT ALL ON public.v_contacts TO service_role;",
    },
    references: &["splinter 0010_security_definer_view", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    report_undeclared_readers(cx, RelationKind::View, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn undeclared_view_is_an_error_and_with_security_invoker_information() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let mut view = world.relation("public.v_judgment_pipeline").clone();
        (view.name, view.oid) = ("v_secret".into(), 9001);
        view.acl
            .as_mut()
            .unwrap()
            .retain(|item| item.grantee != anon && item.privileges != Privileges::SELECT);
        world.add_relation(view);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant("public.v_secret", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            ["error view public.v_secret anon: Role \"anon\" has SELECT on view \
                 public.v_secret, which the contract does not declare. \
              => REVOKE SELECT ON TABLE public.v_secret FROM anon;"]
        );
        world.relation("public.v_secret").security_invoker = true;
        assert!(world.found(&RULE)[0].starts_with("info"));
    }
}

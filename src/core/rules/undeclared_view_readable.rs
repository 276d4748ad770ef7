//! A view outside the declared read surface that a client can read.

use super::{Area, Context, Rule};
use crate::catalog::RelationKind;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "undeclared_view_readable",
    title: "A client can read a view that the contract does not declare",
    area: Area::Views,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    section: "4",
    why: "A view runs with the rights of its owner and so passes row security by: every row of its tables, to whoever may read it.",
    mend: "Revoke SELECT; or, where the client may read the tables itself, ALTER VIEW ... SET (security_invoker = true); or declare it.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    cx.report_undeclared_readers(RelationKind::View, out);
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn an_owners_rights_view_leaks_and_an_invokers_does_not() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let mut view = world.relation("public.v_judgment_pipeline").clone();
        (view.name, view.oid) = ("v_secret".into(), 9001);
        view.acl.as_mut().unwrap().retain(|item| item.grantee != anon && item.privileges != Privileges::SELECT);
        world.add_relation(view);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant("public.v_secret", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "error view public.v_secret anon: Role \"anon\" has SELECT on view public.v_secret, which the contract does not declare. \
              => REVOKE SELECT ON TABLE public.v_secret FROM anon;"
            ]
        );
        world.relation("public.v_secret").security_invoker = true;
        assert!(world.found(&RULE)[0].starts_with("info"));
    }
}

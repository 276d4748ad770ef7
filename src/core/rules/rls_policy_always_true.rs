//! A policy that is no condition at all opens every row to a client.

use super::{Area, Context, Rule, policies};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "rls_policy_always_true",
    title: "A policy lets a client at every row of a table that is not declared for it",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "7",
    why: "USING (true) is row security in name only: it is on, every check says so, and every row is open.",
    mend: "Drop the policy, or take the client from its roles, or give it a condition.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    policies::report_undeclared(cx, |policy| policy.always_true, " on every row, for its condition is always true", out);
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::{Command, Policy};

    #[test]
    fn true_is_no_condition() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0], "on a table that is declared readable it is one");
        let (anon, relation) = (world.role("anon").oid, world.relation("public.plaintiff_contacts").oid);
        world.snapshot.policies.push(Policy {
            oid: 0,
            name: "p".into(),
            relation,
            command: Some(Command::Select),
            permissive: true,
            roles: vec![anon],
            always_true: true,
            unchecked: false,
        });
        assert_eq!(
            world.found(&RULE),
            [
                "error policy p on public.plaintiff_contacts anon: Policy p on table public.plaintiff_contacts lets role \"anon\" SELECT on \
              every row, for its condition is always true, which the contract does not declare. \
              => DROP POLICY p ON public.plaintiff_contacts;"
            ]
        );
    }
}

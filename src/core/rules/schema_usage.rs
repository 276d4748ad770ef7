//! USAGE on a governed schema: the role x schema matrix.

use super::{Area, Context, Rule};
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;

pub(super) static RULE: Rule = Rule {
    id: "schema_usage",
    title: "USAGE on a schema differs from the role matrix",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "2",
    why: "USAGE is the door of a schema: with it, every grant inside counts; without it, none does.",
    mend: "Grant or revoke USAGE so that it equals the matrix.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (schema, declared) in cx.schemas() {
        let usage = |role: &Role| match declared.usage.contains(&role.name) {
            true => Privileges::USAGE,
            false => Privileges::NONE,
        };
        let target = cx.schema_target(schema);
        target.report_undeclared(cx, &cx.subjects, &usage, Privileges::USAGE, Severity::Error, out);
        target.report_missing(cx, &cx.subjects, &usage, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges};

    #[test]
    fn the_matrix_holds_in_both_directions() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant_schema("intake", PUBLIC, Privileges::USAGE);
        world.schema("api").acl = Some(vec![]);
        assert_eq!(
            world.found(&RULE),
            [
                "error schema api anon: Role \"anon\" lacks USAGE on schema api, which the contract declares. \
                 => GRANT USAGE ON SCHEMA api TO anon;",
                "error schema api authenticated: Role \"authenticated\" lacks USAGE on schema api, which the contract declares. \
                 => GRANT USAGE ON SCHEMA api TO authenticated;",
                "error schema api service_role: Role \"service_role\" lacks USAGE on schema api, which the contract declares. \
                 => GRANT USAGE ON SCHEMA api TO service_role;",
                "error schema intake PUBLIC: PUBLIC (every role) has USAGE on schema intake, which the contract does not declare. \
                 => REVOKE USAGE ON SCHEMA intake FROM PUBLIC;"
            ]
        );
    }
}

//! A policy compares a column with the name of the database role.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault};
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_role_name",
    title: "A policy compares a column with the name of the database role",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy opens rows because a column is equal to current_user or session_user, \
             unless the contract says with database_roles_are_tenants that each role stands for \
             one user or tenant. It concerns permissive policies of governed tables with row \
             security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "A platform whose requests become a few roles has one database role for all users: what \
          is the role's is everybody's.",
    fix: "Compare a column with a value of the session that is the user's. Where each database \
          role is one user or tenant, set database_roles_are_tenants in identity.",
    exempt: "None: where it is right, the contract can say so.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name = \
                    current_user);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name = \
                  (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let open = of.of_kind(Opening::RoleName);
        let why = ", which is the same for all callers with this role";
        open.map(|open| Fault::of(&open, "rows of others", why)).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn policy_role_name_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::RoleName, "stage", &[["R.stage", "=", "current_user"]]);
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
                 rows \
              of others when stage = current_user, which is the same for all callers with this \
              role."]
        );
    }
}

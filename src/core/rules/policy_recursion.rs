//! A policy leads to itself.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_recursion",
    title: "A policy leads to itself",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No policy reads, also through views, functions or policies of other tables, the \
             table that it belongs to as a role that the policy applies to.",
    why: "Every query of the table fails, with SQLSTATE 42P17 for policies, or 54001 where a \
          function is in between.",
    fix: "Read the table in a SECURITY DEFINER function whose owner row security does not apply \
          to, with a safe search_path, and call that in the policy.",
    exempt: "None: nothing can be read.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (EXISTS \
                    (SELECT FROM intake.simplicity_batches b WHERE b.file_name = (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub')));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-674"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let tables = &of.exposure.recursive;
        let why = || format!("the policies of {} lead to themselves", listed_set(tables));
        let found = (!tables.is_empty()).then(|| Fault::plain("", Sentence::Fails(why())));
        found.into_iter().collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_recursion_is_reported_for_the_client() {
        let mut world = World::conforming();
        let recursive = ["public.judgments".to_owned()].into();
        let exposure = Exposure { recursive, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments raises an error for role \
             \"authenticated\" on SELECT: the policies of public.judgments lead to \
             themselves."]
        );
    }
}

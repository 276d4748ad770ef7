//! It is not known which rows a policy opens.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::catalog::Opening;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_opaque",
    title: "It is not known which rows a policy opens",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "The condition of each policy is understood, as far as it matters for whose rows \
             pass, and so is what writes the rows that it looks up. It concerns permissive \
             policies of governed tables with row security, for clients, and no command for \
             which all_rows of the table says that every row is meant.",
    why: "Functions in other languages than SQL, arithmetic and other operations are not \
          followed. What depends on them is neither proven to be tied to the caller nor found to \
          be open.",
    fix: "Try the policy as two users. Write the condition with = and subqueries, or the function \
          as one SQL query.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (hashtext(file_name) = hashtext((SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub')));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub'));",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| fault(of).into_iter().chain(writers(of)).collect();
    exposed::report(cx, &RULE, faults, out);
}

/// Returns what is said of what may write lookups, unless they are known to be written.
fn writers(of: &Exposed<'_>) -> Option<Fault> {
    let exposure = of.exposure;
    let is_known = exposure.lookup_writers.is_empty() || !exposure.forgeable.is_empty();
    let what = || {
        let by = listed_set(&exposure.lookup_writers);
        format!("by rows of other tables that {by} may write, in a way that is not understood")
    };
    (!is_known && !of.is_for_all()).then(|| Fault::plain("writers", Sentence::Asks(what())))
}

fn fault(of: &Exposed<'_>) -> Option<Fault> {
    let exposure = of.exposure;
    let is_undecided = of.of_kind(Opening::Opaque).next().is_some()
        || (exposure.is_undecided() && !of.is_for_all());
    let what = || {
        let names = listed_set(&exposure.unknown);
        if names.is_empty() {
            "by what the audit cannot read".to_owned()
        } else {
            format!("by what the audit cannot read: {names}")
        }
    };
    is_undecided.then(|| Fault::plain("", Sentence::Asks(what())))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Open, Opening, Rows};

    #[test]
    fn policy_opaque_is_reported_for_the_client() {
        let mut world = World::conforming();
        let open = Open { opening: Opening::Opaque, ..Open::default() };
        let unknown = ["function app.f()".to_owned()].into();
        let exposure = Exposure { open: vec![open], unknown, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["info: Policy p on table public.judgments decides for role \"authenticated\" on \
             SELECT by what the audit cannot read: function app.f()."]
        );
    }
}

//! A policy lets a client write rows that are not tied to the caller.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault};
use crate::catalog::Rows;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_write_unchecked",
    title: "A policy lets a client write rows that are not tied to the caller",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each policy for INSERT and UPDATE ties new rows to the caller: by WITH CHECK, or by \
             USING where that is missing. An UPDATE is excused where USING ties the row by \
             columns that the client cannot update; an INSERT, where columns that the client \
             cannot insert have the caller as default, and where append_only_by declares the \
             client. Where a BEFORE trigger that no client can change may set what the row \
             contains, it is a warning. It concerns permissive policies of governed tables with \
             row security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "A client can write a row in the name of another user, or into another tenant.",
    fix: "Check the new row as the old one: WITH CHECK (owner = auth.uid()). Where rows without \
          an owner are meant, as in a contact form, declare append_only_by.",
    exempt: "Rows that belong to no user. Declare the client in append_only_by of the table \
             instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "SELECT ops.declare('ALTER TABLE intake.simplicity_batches RESET \
              (contract.append_only_by)',\n\
              'an upload is its user''s');",
        correct: "SELECT ops.declare('ALTER TABLE intake.simplicity_batches RESET \
              (contract.append_only_by)',\n\
              'an upload is its user''s');\n\
              ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
              (file_name = (SELECT current_setting('request.jwt.claims', true)::json \
              ->> 'sub'));",
    },
    references: &["CWE-639", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        if of.rows != Rows::New {
            return Vec::new();
        }
        let open = of.openings().into_iter().filter(exposed::is_of_no_other_rule);
        open.map(|open| Fault::of_write(of, &open, "rows that are not tied to the caller"))
            .collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, opened};
    use super::RULE;
    use crate::catalog::{Command, Opening, Rows};

    #[test]
    fn trigger_that_may_set_the_owner_makes_it_a_warning() {
        let mut world = World::conforming();
        let exposure = opened(Opening::RowOpen, "stage", &[["R.stage", "=", "'new'"]]);
        world.expose("authenticated", Command::Insert, Rows::New, exposure);
        let mut exposures = (*world.snapshot.exposures).clone();
        exposures[0].triggers = std::rc::Rc::new(["fill".to_owned()].into());
        world.snapshot.exposures = exposures.into();
        let keys = |t: &mut crate::contract::TableDecl| t.keys = vec!["owner".into()];
        world.contract.tables.iter_mut().filter(|t| t.name == "judgments").for_each(keys);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" INSERT \
             rows that are not tied to the caller when stage = 'new'; trigger fill may set what \
             they contain."]
        );
    }

    #[test]
    fn policy_write_unchecked_is_reported_for_the_client() {
        let mut world = World::conforming();
        let exposure = opened(Opening::RowOpen, "stage", &[["R.stage", "=", "'new'"]]);
        world.expose("authenticated", Command::Insert, Rows::New, exposure);
        assert_eq!(
            world.details(&RULE),
            ["error: Policy p on table public.judgments lets role \"authenticated\" INSERT \
             rows that are not tied to the caller when stage = 'new'."]
        );
    }
}

//! A policy ties rows to the caller by other columns than others do.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use super::shared::reached::tied_by;
use crate::catalog::{Command, Rows};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_set;
use std::collections::BTreeSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_check_wider",
    title: "A policy ties rows to the caller by other columns than others do",
    area: Area::Policies,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Each policy that ties rows to the caller does so by one of the keys that the \
             contract declares for the table. Where it declares none, policies for INSERT and \
             UPDATE tie new rows by a column by which all policies for SELECT do. It concerns \
             permissive policies of governed tables with row security, for clients, and no \
             command for which all_rows of the table says that every row is meant.",
    why: "Where rows are read by tenant and written by owner, a user can write a row into another \
          tenant.",
    fix: "Tie new rows by the same column as SELECT does, as well: WITH CHECK (tenant = ... AND \
          owner = auth.uid()).",
    exempt: "A second column that is as good, such as the recipient of a message. Declare it in \
             keys of the table instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));\n\
              ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
              (id::text = (SELECT current_setting('request.jwt.claims', true)::json \
              ->> 'sub'));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));\n\
              ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK \
              (file_name = (SELECT current_setting('request.jwt.claims', true)::json \
              ->> 'sub'));",
    },
    references: &["CWE-639", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let declared = of.table.map(|table| &table.keys).filter(|keys| !keys.is_empty());
        let (keys, how): (BTreeSet<String>, _) = match declared {
            Some(keys) => (keys.iter().cloned().collect(), "a row is its caller's by"),
            None if of.rows == Rows::New => {
                let read = tied_by(cx, of.relation, of.role);
                (read.unwrap_or_default(), "rows are read by")
            }
            None => return Vec::new(),
        };
        // A new row has another key than all rows of others.
        let is_new = of.command == Command::Insert && !keys.is_disjoint(&of.exposure.unique);
        if keys.is_empty() || is_new || of.is_for_all() {
            return Vec::new();
        }
        let others = of.exposure.ties.iter().filter(|columns| columns.is_disjoint(&keys));
        others.map(|columns| fault(columns, how, &keys)).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

fn fault(columns: &BTreeSet<String>, how: &str, keys: &BTreeSet<String>) -> Fault {
    let (by, keys) = (listed_set(columns), listed_set(keys));
    let what = format!("rows that are the caller's by {by}; {how} {keys}");
    Fault::plain(by, Sentence::Lets(what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows};

    #[test]
    fn policy_check_wider_is_reported_for_the_client() {
        let mut world = World::conforming();
        world.contract.tables.iter_mut().find(|table| table.name == "judgments").unwrap().keys =
            vec!["owner".into()];
        let ties = [["assignee".to_owned()].into()].into();
        let exposure = Exposure { ties, ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows that are the caller's by assignee; a row is its caller's by owner."]
        );
    }
}

//! A policy ties rows to the caller by other columns than others do.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use super::shared::reached::{parts_tied_by, tied_by_where_written};
use crate::catalog::{Command, Rows, TiedBy};
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
             UPDATE tie new rows by a column by which all policies for SELECT do that may let \
             such a row through, and by the same part of it: a policy that asks a column for \
             other values, such as another bucket, lets none through. It concerns \
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
                let read = tied_by_where_written(cx, (of.relation, of.role), of.exposure);
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
        let mut faults: Vec<Fault> = others.map(|columns| fault(columns, how, &keys)).collect();
        faults.extend(by_other_parts(cx, of, &keys));
        faults
    };
    exposed::report(cx, &RULE, faults, out);
}

/// Returns what is said of ways that tie rows by other parts of the keys than those are by which
/// rows are read. A key by which no row is read is as good as those: the contract declares it.
fn by_other_parts(cx: &Context<'_>, of: &Exposed<'_>, keys: &BTreeSet<String>) -> Vec<Fault> {
    let read = parts_tied_by(cx, (of.relation, of.role), of.exposure);
    let read: Vec<&TiedBy> = read.into_iter().filter(|by| keys.contains(&by.column)).collect();
    let names = |of: &[&TiedBy]| of.iter().map(|by| by.as_str().to_owned()).collect();
    let mut faults = Vec::new();
    for way in of.exposure.tied_by.iter().filter(|_| !of.reads() && !read.is_empty()) {
        let by_keys: Vec<&TiedBy> = way.iter().filter(|by| keys.contains(&by.column)).collect();
        let is_as_good = |by: &TiedBy| {
            let mut same = read.iter().filter(|other| other.column == by.column).peekable();
            same.peek().is_none() || same.any(|other| other.meets(by))
        };
        let is_read = by_keys.iter().any(|by| is_as_good(by));
        if !by_keys.is_empty() && !is_read {
            faults.push(fault(&names(&by_keys), "rows are read by", &names(&read)));
        }
    }
    faults
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
    use crate::catalog::{Command, Exposure, Rows, TiedBy};

    #[test]
    fn other_part_of_a_key_is_another_key() {
        let tied_by = |part: Option<&str>| {
            let part = part.map(|key| format!("data ->> '{key}'"));
            TiedBy { column: "data".to_owned(), part }
        };
        let (owner, editor, whole) =
            (tied_by(Some("owner")), tied_by(Some("editor")), tied_by(None));
        assert!(!owner.meets(&editor));
        assert!(owner.meets(&whole) && whole.meets(&editor));
        assert_eq!((owner.as_str(), whole.as_str()), ("data ->> 'owner'", "data"));
    }

    #[test]
    fn each_declared_key_is_as_good_for_writes_as_the_one_that_rows_are_read_by() {
        let mut world = World::conforming();
        world.contract.tables.iter_mut().find(|table| table.name == "judgments").unwrap().keys =
            vec!["owner".into(), "editor".into()];
        let by = |column: &str| {
            let column = column.to_owned();
            Exposure {
                ties: [[column.clone()].into()].into(),
                tied_by: [[TiedBy { column, part: None }].into()].into(),
                ..Exposure::default()
            }
        };
        world.expose("authenticated", Command::Select, Rows::Existing, by("owner"));
        let read = (*world.snapshot.exposures).clone();
        world.expose("authenticated", Command::Delete, Rows::Existing, by("editor"));
        let all = read.into_iter().chain((*world.snapshot.exposures).clone());
        world.snapshot.exposures = std::rc::Rc::new(all.collect());
        assert_eq!(world.details(&RULE), [""; 0]);
        world.contract.tables.iter_mut().find(|table| table.name == "judgments").unwrap().keys =
            vec!["owner".into()];
        assert_eq!(world.details(&RULE).len(), 1, "editor is no key");
    }

    #[test]
    fn rows_with_other_values_than_those_that_are_read_are_nobodys() {
        let mut world = World::conforming();
        let by = |column: &str, bucket: &str| Exposure {
            ties: [[column.to_owned()].into()].into(),
            values: [("bucket".to_owned(), [bucket.to_owned()].into())].into(),
            ..Exposure::default()
        };
        world.expose("authenticated", Command::Select, Rows::Existing, by("tenant", "drives"));
        let read = (*world.snapshot.exposures).clone();
        for (bucket, expected) in [("drives", 1), ("profiles", 0)] {
            world.expose("authenticated", Command::Insert, Rows::New, by("owner", bucket));
            let written = (*world.snapshot.exposures).clone();
            let all = read.iter().cloned().chain(written);
            world.snapshot.exposures = std::rc::Rc::new(all.collect());
            assert_eq!(world.details(&RULE).len(), expected, "{bucket}");
        }
    }

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

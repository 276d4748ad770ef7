//! No index begins with the column that a policy compares with the caller.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::catalog::{Rows, Unindexed};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed_set, safe_ident};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_unindexed",
    title: "No index begins with the column that a policy compares with the caller",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Of the columns by which a policy finds rows of its table, or of a table \
              that it looks up, an index begins with one. It concerns permissive \
              policies of governed tables with row security, for clients, and what \
              they read, update and delete.",
    why: "Without an index, each query of a client reads the whole table, and a \
              lookup reads all of its table for each row.",
    fix: "Create an index that begins with the column.",
    exempt: "None: it is information.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (rows_total \
              = (SELECT (current_setting('request.jwt.claims', true)::json ->> \
              'size')::int));",
        correct: "CREATE INDEX ON intake.simplicity_batches (rows_total);\n\
              ALTER POLICY batches_read ON intake.simplicity_batches USING (rows_total \
              = (SELECT (current_setting('request.jwt.claims', true)::json ->> \
              'size')::int));",
    },
    references: &["Supabase documentation: RLS performance"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        let is_read = of.rows == Rows::Existing && !of.exposure.is_never_true;
        of.exposure.unindexed.iter().filter(|_| is_read).map(fault).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

fn fault(of: &Unindexed) -> Fault {
    let Unindexed { table, is_lookup, columns } = of;
    let of_table = if *is_lookup { format!(" of {table}") } else { String::new() };
    let what = format!("by {}{of_table}, which no index begins with", listed_set(columns));
    let list: Vec<String> = columns.iter().map(|column| safe_ident(column).into_owned()).collect();
    let proposal = format!("CREATE INDEX ON {table} ({});", list.join(", "));
    Fault::plain(format!("unindexed {table}"), Sentence::Asks(what)).with_proposal(proposal)
}

#[cfg(test)]
mod tests {
    use super::super::testing::details_with;
    use super::RULE;
    use crate::catalog::{Exposure, Unindexed};

    #[test]
    fn policy_is_reported_for_the_client() {
        assert_eq!(details_with(&RULE, Exposure::default()), [""; 0]);
        let unindexed = |is_lookup| Unindexed {
            table: "public.shares".to_owned(),
            is_lookup,
            columns: ["doc".to_owned(), "user_id".to_owned()].into(),
        };
        let all = [unindexed(false), unindexed(true)];
        let exposure = Exposure { unindexed: all.into(), ..Exposure::default() };
        assert_eq!(
            details_with(&RULE, exposure),
            [
                "info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT by doc and user_id, which no index begins with.",
                "info: Policy p on table public.judgments decides for role \"authenticated\" on \
                 SELECT by doc and user_id of public.shares, which no index begins with."
            ]
        );
    }
}

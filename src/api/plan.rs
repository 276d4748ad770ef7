//! `ops.golden_sql()`: the plan that brings the database into its contract;
//! `ops.apply_golden_sql()`: carries it out and proves it.

use crate::audit::{self, Filter};
use crate::catalog::{self, Freshness};
use crate::guard;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::report::Report;
use crate::pg::{setting, statement, subtransaction};
use crate::store::Installation;
use crate::store::exemptions::Current;
use dragonfly_core::contract::Severity;
use dragonfly_core::finding::Finding;
use dragonfly_core::plan::{Plan, Planner, Step};
use dragonfly_core::sql::printable;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::collections::HashSet;

sql_function!(
    /// `ops.golden_sql(schemas name[], rules text[])`
    ops_golden_sql => golden_sql
);
fn golden_sql(call: Call) -> pg_sys::Datum {
    let (_, plan) = plan(&Filter::about(call.texts(1), call.names(0)));
    call.table(plan.steps.into_iter().zip(1..).map(|(step, number)| row(step, number)))
}

sql_function!(
    /// `ops.apply_golden_sql(dry_run boolean, schemas name[], rules text[])`
    ops_apply_golden_sql => apply_golden_sql
);
fn apply_golden_sql(call: Call) -> pg_sys::Datum {
    let dry_run = call.bool(0).unwrap_or(true);
    let (before, plan) = plan(&Filter::about(call.texts(2), call.names(1)));
    let at = Cell::new(0);
    let work = || carry_out(&plan, &before, &at);
    let done =
        if dry_run { subtransaction::rolled_back(work) } else { subtransaction::attempt(work) };
    let left = done.unwrap_or_else(|error| failed(&plan, at.get(), *error));
    let changes = plan.steps.iter().filter(|step| !step.is_proposal).count();
    if dry_run && changes > 0 {
        Report {
            message: format!("{changes} statements ran and the audit says what the plan said; everything was rolled back"),
            detail: String::new(),
            hint: "SELECT * FROM ops.apply_golden_sql(dry_run => false) carries the plan out.".into(),
        }
        .notice();
    }
    call.table(plan.steps.into_iter().zip(1..).map(|(step, number)| {
        let outcome = match (step.is_proposal, dry_run) {
            (true, _) => "proposed",
            (false, _) if step.findings.iter().any(|finding| left.contains(finding)) => {
                "incomplete"
            }
            (false, true) => "tried",
            (false, false) => "done",
        };
        let mut row = row(step, number);
        row.insert(1, Value::Text(outcome.to_owned()));
        row
    }))
}

/// What is found now, and the plan for it.
fn plan(filter: &Filter) -> (Vec<Finding>, Plan) {
    let Installation { state, own, contract } = Installation::now();
    let current = Current::read(&state, &own, Freshness::Fresh);
    let snapshot = catalog::full(&state, &contract, &own);
    filter.check_schemas(&contract, &snapshot);
    // SAFETY: reads a variable of the backend.
    let runner = unsafe { pg_sys::GetUserId() }.to_u32();
    let planner = Planner {
        audit: &|snapshot| audit::visible_in(&contract, snapshot, &current),
        wants: &|finding| filter.wants(finding),
        policy_sql: &|policy| catalog::policy_definition(&state, policy),
        runner,
        interrupts: &interrupts,
    };
    let before = (planner.audit)(&snapshot);
    let plan = planner.plan(&snapshot, &before);
    (before, plan)
}

fn row(step: Step, number: i32) -> Vec<Value> {
    vec![
        Value::Int4(number),
        Value::Text(step.rules.iter().map(|rule| rule.id).collect::<Vec<_>>().join(", ")),
        Value::Text(step.object),
        Value::Text(step.why.join("\n")),
        Value::Text(step.statement),
        Value::Bool(step.undo.is_some()),
        Value::Text(step.risk.to_owned()),
        Value::text(step.undo),
    ]
}

/// Runs the statements, and judges what they leave; an error where that is not what the plan said.
/// Gives what is left of the warnings that the plan said it would mend: the server lets statements
/// pass that do nothing, with a warning. `at` counts the steps.
fn carry_out(plan: &Plan, before: &[Finding], at: &Cell<usize>) -> HashSet<String> {
    // Only what the whole plan leaves counts: a step may rest on one that comes after it.
    setting::under(&[setting::SAFE_PATH, (c"dragonfly_guard.check_at", c"commit")], || {
        for (i, step) in plan.steps.iter().enumerate().filter(|(_, step)| !step.is_proposal) {
            interrupts();
            at.set(i + 1);
            if let Err(refused) = statement::run(&step.statement) {
                Report {
                    message: format!("cannot be run here: {}", refused.code()),
                    ..Report::default()
                }
                .error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED);
            }
        }
    });
    at.set(0);
    guard::check_as_if_committing();
    prove(plan, before)
}

/// No error that the plan said it would mend is left, and none is there that was not. The
/// fingerprints of what else is left.
fn prove(plan: &Plan, before: &[Finding]) -> HashSet<String> {
    let after = audit::findings_now();
    let known: HashSet<_> = before.iter().map(Finding::about).collect();
    let there: HashSet<&str> = before.iter().map(|f| f.fingerprint.as_str()).collect();
    // What the plan said it would mend: the finding itself, or one about the same that has become
    // another, as where a part was left.
    let claimed = |f: &Finding| -> Vec<String> {
        if plan.fixes.contains(&f.fingerprint) {
            vec![f.fingerprint.clone()]
        } else if there.contains(f.fingerprint.as_str()) {
            vec![]
        } else {
            plan.about.get(&f.subject()).cloned().unwrap_or_default()
        }
    };
    let errors = after.iter().filter(|f| f.severity == Severity::Error);
    let wrong: Vec<String> = errors
        .filter_map(|f| match (!claimed(f).is_empty(), known.contains(&f.about())) {
            (true, _) => Some(format!("left: {}: {}", f.rule.id, f.detail)),
            (false, false) => Some(format!("new: {}: {}", f.rule.id, f.detail)),
            (false, true) => None,
        })
        .collect();
    if !wrong.is_empty() {
        Report {
            message: "the plan was carried out and does not bring the database into its contract".into(),
            detail: wrong.join("\n"),
            hint: format!(
                "Everything was rolled back. SELECT * FROM ops.golden_sql() shows the statements.{}",
                in_whose_name()
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE);
    }
    after.iter().flat_map(claimed).collect()
}

/// Why a GRANT or REVOKE may have done nothing: the server picks a grantor that the caller can act
/// for (acl.c, `select_best_grantor`).
fn in_whose_name() -> &'static str {
    // SAFETY: a look-up in the system cache.
    if unsafe { pg_sys::superuser() } {
        ""
    } else {
        " You are no superuser: what you grant and revoke on objects of other roles is done in the name of whichever role lets you, or not at \
             all. Apply the plan as their owner or as a superuser."
    }
}

/// Says which step it was.
fn failed(plan: &Plan, at: usize, error: CaughtError) -> ! {
    let Some(step) = at.checked_sub(1).map(|i| &plan.steps[i]) else { error.rethrow() };
    let report = subtransaction::report(&error);
    let said =
        [report.detail(), report.hint()].into_iter().flatten().collect::<Vec<_>>().join("\n");
    let failure = Report {
        message: format!("step {at} of the plan failed: {}", report.message()),
        detail: format!("{}\n{said}", printable(&step.statement.replace('\n', " ")))
            .trim_end()
            .to_owned(),
        hint: "Everything was rolled back. ops.golden_sql(schemas, rules) makes a plan for a part."
            .into(),
    };
    // A rejection by the guard stays one.
    match guard::Rejection::of(&error) {
        Some(rejection) => failure.error_from(rejection.origin(), report.sql_error_code()),
        None => failure.error(report.sql_error_code()),
    }
}

//! `ops.golden_sql()`: the plan after which the database conforms to its contract;
//! `ops.apply_golden_sql()`: executes the plan and checks its result.

use super::argument;
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
    /// `ops.golden_sql(schemas name[] DEFAULT NULL, rules text[] DEFAULT NULL)
    /// RETURNS TABLE (step int4, rule text, object text, why text, statement text,
    /// reversible bool, risk text, undo text)`
    ops_golden_sql => golden_sql
);
fn golden_sql(call: Call) -> pg_sys::Datum {
    let (schemas, rules) = (argument::names(call, 0, "schemas"), argument::texts(call, 1, "rules"));
    let (_, plan) = plan(&Filter::about(rules, schemas));
    call.table(plan.steps.into_iter().zip(1..).map(|(step, number)| row(step, number)))
}

sql_function!(
    /// `ops.apply_golden_sql(dry_run bool DEFAULT true, schemas name[] DEFAULT NULL,
    /// rules text[] DEFAULT NULL) RETURNS TABLE (step int4, outcome text, rule text, object text,
    /// why text, statement text, reversible bool, risk text, undo text)`
    ops_apply_golden_sql => apply_golden_sql
);
fn apply_golden_sql(call: Call) -> pg_sys::Datum {
    let dry_run = argument::flag(call, 0, "dry_run");
    let (schemas, rules) = (argument::names(call, 1, "schemas"), argument::texts(call, 2, "rules"));
    let (before, plan) = plan(&Filter::about(rules, schemas));
    let at = Cell::new(0);
    let work = || execute(&plan, &before, &at);
    let result =
        if dry_run { subtransaction::rolled_back(work) } else { subtransaction::attempt(work) };
    let left = result.unwrap_or_else(|error| report_failure(&plan, at.get(), *error));
    let changes = plan.steps.iter().filter(|step| !step.is_proposal).count();
    if dry_run && changes > 0 {
        Report {
            message: format!(
                "dry run succeeded: {changes} {} and rolled back, and the audit confirmed the plan",
                if changes == 1 { "statement was executed" } else { "statements were executed" }
            ),
            detail: String::new(),
            hint: "SELECT * FROM ops.apply_golden_sql(dry_run => false) applies the plan.".into(),
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

/// Returns the current findings and the plan that fixes them.
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

/// Executes the statements and checks the result. Raises an error where the result is not the one
/// that the plan promised. Returns the fingerprints of the findings below severity `error` that the
/// plan promised to fix and that are still there: the server executes some statements without
/// effect and raises a warning only. `at` is set to the number of the current step.
fn execute(plan: &Plan, before: &[Finding], at: &Cell<usize>) -> HashSet<String> {
    // Only the result of the whole plan counts: a step may depend on a later one.
    setting::under(&[setting::SAFE_PATH, (c"dragonfly_guard.check_at", c"commit")], || {
        for (i, step) in plan.steps.iter().enumerate().filter(|(_, step)| !step.is_proposal) {
            interrupts();
            at.set(i + 1);
            if let Err(rejected) = statement::run(&step.statement) {
                Report {
                    message: format!(
                        "statement cannot be executed in a function: {}",
                        rejected.code()
                    ),
                    ..Report::default()
                }
                .error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED);
            }
        }
    });
    at.set(0);
    guard::check_as_if_committing();
    check_result(plan, before)
}

/// Raises an error where a finding of severity `error` is new, or is still there although the plan
/// promised to fix it. Returns the fingerprints of the other findings that are still there.
fn check_result(plan: &Plan, before: &[Finding]) -> HashSet<String> {
    let after = audit::findings_now();
    let known: HashSet<_> = before.iter().map(Finding::about).collect();
    let earlier: HashSet<&str> = before.iter().map(|f| f.fingerprint.as_str()).collect();
    // The findings that the plan promised to fix and that this one is: the finding itself, or,
    // where a part of it was fixed, those about the same subject.
    let promised = |f: &Finding| -> Vec<String> {
        if plan.fixes.contains(&f.fingerprint) {
            vec![f.fingerprint.clone()]
        } else if earlier.contains(f.fingerprint.as_str()) {
            vec![]
        } else {
            plan.about.get(&f.subject()).cloned().unwrap_or_default()
        }
    };
    let errors = after.iter().filter(|f| f.severity == Severity::Error);
    let wrong: Vec<String> = errors
        .filter_map(|f| match (!promised(f).is_empty(), known.contains(&f.about())) {
            (true, _) => Some(format!("Not resolved: {}: {}", f.rule.id, f.detail)),
            (false, false) => Some(format!("New: {}: {}", f.rule.id, f.detail)),
            (false, true) => None,
        })
        .collect();
    if !wrong.is_empty() {
        Report {
            message: "the plan did not resolve all findings".into(),
            detail: wrong.join("\n"),
            hint: format!(
                "All changes were rolled back. SELECT * FROM ops.golden_sql() shows the \
                 statements.{}",
                grantor_hint()
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE);
    }
    after.iter().flat_map(promised).collect()
}

/// Explains why a GRANT or REVOKE may have had no effect: the server selects the grantor from the
/// roles that the caller is a member of (acl.c, `select_best_grantor`).
fn grantor_hint() -> &'static str {
    // SAFETY: a look-up in the system cache.
    if unsafe { pg_sys::superuser() } {
        ""
    } else {
        " For a role that is not a superuser, GRANT and REVOKE on objects of other roles use the \
         grantor that the server selects, or have no effect. Apply the plan as the owner of the \
         objects or as a superuser."
    }
}

/// Raises the error again with the step that it belongs to.
fn report_failure(plan: &Plan, at: usize, error: CaughtError) -> ! {
    let Some(step) = at.checked_sub(1).map(|i| &plan.steps[i]) else { error.rethrow() };
    let report = subtransaction::report(&error);
    let original =
        [report.detail(), report.hint()].into_iter().flatten().collect::<Vec<_>>().join("\n");
    let failure = Report {
        message: format!("step {at} of the plan failed: {}", report.message()),
        detail: format!("{}\n{original}", printable(&step.statement.replace('\n', " ")))
            .trim_end()
            .to_owned(),
        hint: "All changes were rolled back. SELECT * FROM ops.golden_sql(schemas, rules) plans a \
               part of the changes."
            .into(),
    };
    // An error that the guard raised is still recognized as one.
    match guard::Rejection::of(&error) {
        Some(rejection) => failure.error_from(rejection.origin(), report.sql_error_code()),
        None => failure.error(report.sql_error_code()),
    }
}

//! `ops.golden_sql()`: the plan after which the database conforms to its contract;
//! `ops.apply_golden_sql()`: executes the plan, or some of its steps, and checks the result.

use super::apply::Execution;
use super::argument;
use crate::audit::{self, Filter};
use crate::catalog::{self, Freshness};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::progress::{self, Progress};
use crate::pg::report::{Report, unknown_argument};
use crate::store::Installation;
use crate::store::exemptions::Current;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation::Orientation;
use dragonfly_core::plan::{Plan, Planner, Risk, Step};
use dragonfly_core::sql::listed;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::rc::Rc;

sql_function!(
    /// `ops.golden_sql(schemas name[] DEFAULT NULL, rules text[] DEFAULT NULL)
    /// RETURNS TABLE (step int4, rule text, object text, why text, statement text,
    /// reversible bool, risk text, undo text)`
    ops_golden_sql => golden_sql
);
fn golden_sql(call: Call) -> pg_sys::Datum {
    steps(call, argument::names)
}

sql_function!(
    /// `ops.golden_sql(schemas text, rules text[] DEFAULT NULL)`, with the same columns
    ops_golden_sql_text => golden_sql_text
);
fn golden_sql_text(call: Call) -> pg_sys::Datum {
    steps(call, argument::names_in_text)
}

/// Returns the plan for the schemas that `names` reads from the arguments.
fn steps(call: Call, names: argument::Names) -> pg_sys::Datum {
    let (schemas, rules) = (names(call, 0, "schemas"), argument::texts(call, 1, "rules"));
    let _progress = Progress::begin("planning", 3);
    let Planned { plan, .. } = plan(&audit::filter_about(rules, schemas));
    call.table(plan.steps.into_iter().zip(1..).map(|(step, number)| row(step, number)))
}

sql_function!(
    /// `ops.apply_golden_sql(dry_run bool DEFAULT true, schemas name[] DEFAULT NULL,
    /// rules text[] DEFAULT NULL, steps int4[] DEFAULT NULL, max_risk text DEFAULT NULL)
    /// RETURNS TABLE (step int4, outcome text, rule text, object text, why text, statement text,
    /// reversible bool, risk text, undo text)`
    ops_apply_golden_sql => apply_golden_sql
);
fn apply_golden_sql(call: Call) -> pg_sys::Datum {
    let dry_run = argument::flag(call, 0, "dry_run");
    let (schemas, rules) = (argument::names(call, 1, "schemas"), argument::texts(call, 2, "rules"));
    let numbers = argument::integers(call, 3, "steps");
    let max_risk = argument::optional_text(call, 4, "max_risk").map(|word| risk_named(&word));
    let _progress = Progress::begin("applying the plan", 6);
    let Planned { before, snapshot, plan } = plan(&audit::filter_about(rules, schemas));
    let steps = selected(&plan, numbers.as_deref(), max_risk);
    let left = if steps.is_empty() {
        std::collections::HashSet::new()
    } else {
        Execution { plan: &plan, steps: &steps, before: &before, snapshot: &snapshot }.run(dry_run)
    };
    if dry_run && !steps.is_empty() {
        report_dry_run(steps.len());
    }
    call.table(plan.steps.into_iter().enumerate().map(|(position, step)| {
        let outcome = match (step.is_proposal(), steps.binary_search(&position).is_ok()) {
            (true, _) => "proposed",
            (false, false) => "skipped",
            (false, true) if step.findings.iter().any(|finding| left.contains(finding)) => {
                "incomplete"
            }
            (false, true) if dry_run => "tried",
            (false, true) => "done",
        };
        let mut row = row(step, position as i32 + 1);
        row.insert(1, Value::Text(outcome.to_owned()));
        row
    }))
}

fn report_dry_run(steps: usize) {
    Report {
        message: format!(
            "dry run succeeded: {steps} {} and rolled back, and the audit confirmed the plan",
            if steps == 1 { "statement was executed" } else { "statements were executed" }
        ),
        detail: String::new(),
        hint: "SELECT * FROM ops.apply_golden_sql(dry_run => false) applies the plan.".into(),
    }
    .notice();
}

/// Returns the level of risk of this name. Raises an error where there is none.
fn risk_named(word: &str) -> Risk {
    let known = Risk::ALL.into_iter().find(|risk| risk.as_str().eq_ignore_ascii_case(word));
    known.unwrap_or_else(|| unknown_argument("risk", word, &Risk::ALL.map(Risk::as_str)))
}

/// Returns the positions of the steps to execute: those with these numbers, `None` for all, of at
/// most this risk. Raises an error where a number is not that of a statement.
fn selected(plan: &Plan, numbers: Option<&[i32]>, max_risk: Option<Risk>) -> Vec<usize> {
    if let Some(numbers) = numbers {
        check_numbers(plan, numbers);
    }
    let is_selected = |(position, step): &(usize, &Step)| {
        step.level.is_some_and(|level| max_risk.is_none_or(|most| level <= most))
            && numbers.is_none_or(|numbers| numbers.contains(&(*position as i32 + 1)))
    };
    plan.steps.iter().enumerate().filter(is_selected).map(|(position, _)| position).collect()
}

fn check_numbers(plan: &Plan, numbers: &[i32]) {
    let step =
        |number: i32| usize::try_from(number).ok().and_then(|n| plan.steps.get(n.checked_sub(1)?));
    let matching = |is_it: &dyn Fn(Option<&Step>) -> bool| -> Vec<String> {
        numbers.iter().filter(|n| is_it(step(**n))).map(ToString::to_string).collect()
    };
    let unknown = matching(&|step| step.is_none());
    let proposals = matching(&|step| step.is_some_and(Step::is_proposal));
    let noun = |numbers: &[String]| if numbers.len() == 1 { "step" } else { "steps" };
    let (message, detail) = if numbers.is_empty() {
        ("steps must not be empty".to_owned(), String::new())
    } else if !unknown.is_empty() {
        (
            format!("the plan has no {} {}", noun(&unknown), listed(&unknown)),
            format!("It has {} steps with these filters.", plan.steps.len()),
        )
    } else if !proposals.is_empty() {
        let are = if proposals.len() == 1 { "is a proposal" } else { "are proposals" };
        (
            format!("{} {} of the plan {are}", noun(&proposals), listed(&proposals)),
            "A proposal is a comment, which a person completes and executes.".to_owned(),
        )
    } else {
        return;
    };
    Report {
        message,
        detail,
        hint: "SELECT step, statement FROM ops.golden_sql() shows the numbers; use the same \
               filters."
            .into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

/// A plan, with the state that it is for.
struct Planned {
    before: Vec<Rc<Finding>>,
    snapshot: Snapshot,
    plan: Plan,
}

/// Returns the plan that fixes the current findings.
fn plan(filter: &Filter) -> Planned {
    progress::step("reading the catalog");
    let Installation { state, own, contract } = Installation::now();
    let current = Current::read(&state, &own, Freshness::Fresh);
    let snapshot = catalog::full(&state, &contract, &own);
    audit::check_schemas(filter, &contract, &snapshot);
    let orientation = audit::in_context(&contract, &snapshot, Orientation::of);
    // SAFETY: reads a variable of the backend.
    let runner = unsafe { pg_sys::GetUserId() }.to_u32();
    let planner = Planner {
        contract: &contract,
        audit: &|snapshot| audit::visible_in(&contract, snapshot, &current),
        wants: &|finding| filter.wants(finding),
        policy_sql: &|policy| catalog::policy_definition(&state, policy),
        code: &|| catalog::code(&state),
        runner,
        interrupts: &interrupts,
    };
    progress::step("applying the rules");
    let before: Vec<Rc<Finding>> = (planner.audit)(&snapshot).into_iter().map(Rc::new).collect();
    progress::step("searching the statements");
    let plan = planner.plan_with(orientation.as_ref(), &snapshot, &before);
    Planned { before, snapshot, plan }
}

fn row(step: Step, number: i32) -> Vec<Value> {
    vec![
        Value::Int4(number),
        Value::Text(step.rules.iter().map(|rule| rule.id).collect::<Vec<_>>().join(", ")),
        Value::Text(step.object),
        Value::Text(step.why.join("\n")),
        Value::Text(step.statement),
        Value::Bool(step.undo.is_some()),
        Value::Text(step.risk),
        Value::text(step.undo),
    ]
}

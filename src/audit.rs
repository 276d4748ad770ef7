//! The audit: runs the rules and applies the exemptions.

use crate::catalog::{self, Freshness, Needed, Own};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{unknown_rule, unknown_schema};
use crate::store::Installation;
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::audit::{Audit, InForce, is_searched};
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation::Orientation;
use dragonfly_core::report::shared_causes;
use dragonfly_core::rule::Rule;
use dragonfly_core::rules::{self, Context, RULES, Reads};
use std::rc::Rc;

pub use dragonfly_core::audit::{Filter, Fixes};

/// Calls `work` with the contract in force and the catalog.
pub fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, work)
}

/// Returns the orientation in the contract in force, where hardly anything exists that it declares.
pub fn orientation() -> Option<Orientation> {
    let Installation { state, own, contract } = Installation::now();
    let needed = |_: &Snapshot| Needed { reads: Reads::of(&[]), schemas: None };
    in_context(&contract, &catalog::for_audit(&state, &contract, &own, needed), Orientation::of)
}

/// Calls `work` with a contract and the catalog.
fn under<T>(
    contract: &Contract,
    state: &State,
    own: &Own,
    work: impl FnOnce(&Context<'_>) -> T,
) -> T {
    in_context(contract, &catalog::full(state, contract, own), work)
}

/// Calls `work` with a contract and a snapshot.
pub fn in_context<T>(
    contract: &Contract,
    snapshot: &Snapshot,
    work: impl FnOnce(&Context<'_>) -> T,
) -> T {
    let access = Access::new(snapshot);
    work(&Context::new(contract, snapshot, &access, &interrupts))
}

/// Calls `work` with the findings under the contract in force as the audit reports them, and with
/// the context and the state of the catalogs from which they result.
pub fn with_findings<T>(work: impl FnOnce(&Context<'_>, &[Finding], &State) -> T) -> T {
    with_all_findings(false, Fixes::OfPlan, work)
}

/// As [`with_findings`], with exempt findings as well if `with_exempt`.
pub fn with_all_findings<T>(
    with_exempt: bool,
    fixes: Fixes,
    work: impl FnOnce(&Context<'_>, &[Finding], &State) -> T,
) -> T {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, |cx| {
        let current = Current::read(&state, &own, Freshness::Fresh);
        let found = of(cx, &current, &state, |audit| audit.all_findings(with_exempt, fixes));
        work(cx, &found, &state)
    })
}

/// Returns the findings under the contract in force, exempt ones omitted.
pub fn findings_now() -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    findings_under(&contract, &state, &own)
}

/// Calls `each` with the findings in a snapshot as the audit would report them, under a contract
/// that governs the same schemas: rule by rule, because there may be hundreds of thousands.
pub fn each_reported_in(
    contract: &Contract,
    snapshot: &Snapshot,
    current: &Current<'_>,
    each: &mut dyn FnMut(&Finding),
) {
    in_context(contract, snapshot, |cx| {
        let may_be_merged = |finding: &mut Finding| {
            Orientation::stands_for(finding) || shared_causes::may_be_merged(cx, finding)
        };
        let mut kept = Vec::new();
        for rule in &RULES {
            let mut found = current.apply(cx.run(rule), false);
            kept.extend(found.extract_if(.., may_be_merged));
            found.iter().for_each(&mut *each);
        }
        let kept = of(cx, current, current.state(), |audit| audit.reported(kept));
        kept.iter().for_each(each);
    });
}

/// Returns the findings under a contract as the audit would report them. It need not be the
/// contract in force.
pub fn reported_under(contract: &Contract, state: &State, own: &Own, fixes: Fixes) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| {
        of(cx, &current, state, |audit| audit.all_findings(false, fixes))
    })
}

/// Returns the findings under a contract, exempt ones omitted. It need not be the contract in
/// force.
pub fn findings_under(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| visible(cx, &current, state))
}

/// Returns the findings in a snapshot, exempt ones omitted, under a contract that governs the same
/// schemas.
pub fn visible_in(contract: &Contract, snapshot: &Snapshot, current: &Current<'_>) -> Vec<Finding> {
    in_context(contract, snapshot, |cx| visible(cx, current, current.state()))
}

/// Returns the findings in a context, exempt ones omitted.
fn visible(cx: &Context<'_>, current: &Current<'_>, state: &State) -> Vec<Finding> {
    of(cx, current, state, |audit| audit.visible(&RULES, false))
}

/// Calls `work` with the audit in a context.
fn of<T>(
    cx: &Context<'_>,
    current: &Current<'_>,
    state: &State,
    work: impl FnOnce(Audit<'_>) -> T,
) -> T {
    let code = || catalog::code(state);
    work(Audit { cx, exemptions: current, code: &code, interrupts: &interrupts })
}

/// Returns all findings under a contract, exempt ones included: those that can be exempted.
pub fn findings_with_exempt(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    findings_with_exempt_of(&RULES, contract, own, &current, state)
}

/// Does the same as [`findings_with_exempt`] for some rules.
pub fn findings_with_exempt_of(
    rules: &[&'static Rule],
    contract: &Contract,
    own: &Own,
    current: &Current<'_>,
    state: &State,
) -> Vec<Finding> {
    under(contract, state, own, |cx| of(cx, current, state, |audit| audit.with_consequences(rules)))
}

/// Calls `work` with the findings under a contract that are not exempt, and with those that would
/// take the place of findings of [`CAUSES`] if these were exempt too.
pub fn with_unexempt<T>(
    contract: &Contract,
    state: &State,
    own: &Own,
    work: impl FnOnce(&Context<'_>, Vec<Finding>) -> T,
) -> T {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| {
        let found = of(cx, &current, state, |audit| audit.unexempt());
        work(cx, found)
    })
}

/// Returns the filter for some rules and some schemas, `None` for all. Raises an error where a rule
/// does not exist.
pub fn filter_about(rules: Option<Vec<String>>, schemas: Option<Vec<String>>) -> Filter {
    let known = || RULES.iter().map(|r| r.id).collect::<Vec<_>>();
    let rules = match rules {
        None => RULES.to_vec(),
        Some(ids) => {
            if let Some(unknown) = ids.iter().find(|id| rules::find(id).is_none()) {
                unknown_rule(unknown, &known());
            }
            RULES.iter().copied().filter(|r| ids.iter().any(|id| id == r.id)).collect()
        }
    };
    Filter { schemas, ..Filter::new(rules, Severity::Info) }
}

/// Raises an error where a schema of a filter neither exists nor is in the contract.
pub fn check_schemas(filter: &Filter, contract: &Contract, snapshot: &Snapshot) {
    if let Some((unknown, known)) = filter.unknown_schema(contract, snapshot) {
        unknown_schema(unknown, &known);
    }
}

/// Returns the findings that a filter includes, ordered by severity (the highest first), rule (in
/// the order of the contract's sections) and object. Those that have one cause are one.
pub fn findings(filter: &Filter, fixes: Fixes) -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    let rules = filter.rules_under(&contract);
    // The plan runs all rules.
    let is_limited = |snapshot: &Snapshot| fixes == Fixes::OfRules || !is_searched(snapshot);
    let schemas = |snapshot: &Snapshot| filter.schemas.as_deref().filter(|_| is_limited(snapshot));
    let snapshot = catalog::for_audit(&state, &contract, &own, |snapshot| {
        check_schemas(filter, &contract, snapshot);
        let reads = if is_limited(snapshot) { Reads::of(&rules) } else { Reads::ALL };
        // Bodies only matter to fixes.
        let bodies = reads.bodies && fixes == Fixes::OfPlan;
        Needed { reads: Reads { bodies, ..reads }, schemas: schemas(snapshot) }
    });
    let access = Access::new(&snapshot);
    let about = schemas(&snapshot).map(|names| {
        let named = names.iter().filter_map(|name| snapshot.schema_named(name));
        Rc::new(named.map(|schema| schema.oid).collect())
    });
    let cx = &Context::new(&contract, &snapshot, &access, &interrupts).about(about);
    let current = Current::read(&state, &own, Freshness::Fresh);
    of(cx, &current, &state, |audit| audit.findings(filter, fixes))
}

/// Returns the findings of some rules under the contract in force, one for each object, exempt ones
/// omitted.
pub fn findings_of(rules: &[&'static Rule]) -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, |cx| {
        let current = Current::read(&state, &own, Freshness::Fresh);
        of(cx, &current, &state, |audit| audit.visible(rules, false))
    })
}

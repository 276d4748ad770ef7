//! The audit: runs the rules and applies the exemptions.

use crate::catalog::{self, Freshness, Needed, Own};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{unknown_rule, unknown_schema};
use crate::store::Installation;
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation::{self, Orientation};
use dragonfly_core::plan::Planner;
use dragonfly_core::report::shared_causes;
use dragonfly_core::rule::{Area, Rule};
use dragonfly_core::rules::{
    self, Context, RULES, Reads, default_privileges, object_ownership, schema_create,
    security_definer_search_path as search_path,
};
use pgrx::pg_sys;
use std::collections::HashSet;
use std::rc::Rc;

/// The rules of which unsafe search_paths can be consequences.
static CAUSES: [&Rule; 2] = [&schema_create::RULE, &object_ownership::RULE];

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
        let mut found = visible(cx, &RULES, &current, with_exempt);
        if fixes == Fixes::OfPlan {
            restate(cx, &mut found, !with_exempt, (&state, &current));
        }
        work(cx, &reported(cx, found, &current), &state)
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
        reported(cx, kept, current).iter().for_each(each);
    });
}

/// Returns the findings under a contract as the audit would report them. It need not be the
/// contract in force.
pub fn reported_under(contract: &Contract, state: &State, own: &Own, fixes: Fixes) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| {
        let mut found = visible(cx, &RULES, &current, false);
        if fixes == Fixes::OfPlan {
            restate(cx, &mut found, true, (state, &current));
        }
        reported(cx, found, &current)
    })
}

/// Returns findings as the audit reports them: those that have one cause are one.
fn reported(cx: &Context<'_>, found: Vec<Finding>, current: &Current<'_>) -> Vec<Finding> {
    let found = orientation::merged(cx, found);
    let of_defaults = || current.apply(cx.run(&default_privileges::RULE), false);
    shared_causes::merged(cx, found, of_defaults)
}

/// Returns the findings under a contract, exempt ones omitted. It need not be the contract in
/// force.
pub fn findings_under(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| visible(cx, &RULES, &current, false))
}

/// Returns the findings in a snapshot, exempt ones omitted, under a contract that governs the same
/// schemas.
pub fn visible_in(contract: &Contract, snapshot: &Snapshot, current: &Current<'_>) -> Vec<Finding> {
    in_context(contract, snapshot, |cx| visible(cx, &RULES, current, false))
}

/// Returns the findings of some rules; exempt findings are omitted unless `with_exempt`.
fn visible(
    cx: &Context<'_>,
    rules: &[&'static Rule],
    current: &Current<'_>,
    with_exempt: bool,
) -> Vec<Finding> {
    current.apply(with_consequences(cx, rules, current), with_exempt)
}

/// Returns all findings of some rules, exempt ones included, and the findings that exempt findings
/// had stood for.
fn with_consequences(
    cx: &Context<'_>,
    rules: &[&'static Rule],
    current: &Current<'_>,
) -> Vec<Finding> {
    let mut found = all(cx, rules);
    // The unsafe search_paths that result from a schema, or from objects of an untrusted role in
    // it, are reported by the finding about these. Where that is exempt, each routine is reported
    // instead.
    let of_causes: Vec<&Rule> = CAUSES.into_iter().filter(|rule| current.mention(rule)).collect();
    if rules.contains(&&search_path::RULE) && !of_causes.is_empty() {
        let exempt = of_causes
            .into_iter()
            .flat_map(|rule| cx.run(rule))
            .filter(|finding| current.accept(finding));
        let causes = exempt.filter_map(|finding| cause(&finding)).collect();
        found.extend(search_path::following_from(cx, &causes));
        found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    }
    found
}

/// Returns the schema and the role of a finding of [`CAUSES`].
fn cause(finding: &Finding) -> Option<(String, String)> {
    Some((finding.object.schema.clone()?, finding.role()?.to_owned()))
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
    under(contract, state, own, |cx| with_consequences(cx, rules, current))
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
        let mut found = visible(cx, &RULES, &current, false);
        let causes = found.iter().filter(|finding| CAUSES.contains(&finding.rule));
        let causes = causes.filter_map(cause).collect();
        let known: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        let following = current.apply(search_path::following_from(cx, &causes), false);
        found.extend(following.into_iter().filter(|f| !known.contains(&f.fingerprint)));
        work(cx, found)
    })
}

/// What the fixes of findings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixes {
    /// What the rules say, where the fixes are not shown.
    OfRules,
    /// What the plan says: see [`Planner::restated`].
    OfPlan,
}

/// The findings of an audit that are wanted.
pub struct Filter {
    /// Findings of these rules.
    pub rules: Vec<&'static Rule>,
    /// Findings about objects in these schemas; `None` for all.
    pub schemas: Option<Vec<String>>,
    /// Findings of at least this severity.
    pub min_severity: Severity,
    /// Whether exempt findings are included.
    pub exempted: bool,
}

impl Filter {
    /// Returns the filter for some rules and some schemas, `None` for all. Raises an error where a
    /// rule does not exist.
    pub fn about(rules: Option<Vec<String>>, schemas: Option<Vec<String>>) -> Self {
        let known = || RULES.iter().map(|r| r.id).collect::<Vec<_>>();
        let rules = match rules {
            None => RULES.to_vec(),
            Some(ids) => {
                for id in &ids {
                    if rules::find(id).is_none() {
                        unknown_rule(id, &known());
                    }
                }
                RULES.iter().copied().filter(|r| ids.iter().any(|id| id == r.id)).collect()
            }
        };
        Self { schemas, ..Self::new(rules, Severity::Info) }
    }

    /// Returns the filter for some rules and a minimum severity.
    pub fn new(rules: Vec<&'static Rule>, min_severity: Severity) -> Self {
        Self { rules, schemas: None, min_severity, exempted: false }
    }

    /// Returns the filter for the rules of an area.
    pub fn area(area: Area) -> Self {
        Self::new(RULES.iter().copied().filter(|r| r.area == area).collect(), Severity::Info)
    }

    /// Raises an error where a schema of the filter neither exists nor is in the contract.
    pub fn check_schemas(&self, contract: &Contract, snapshot: &Snapshot) {
        for name in self.schemas.iter().flatten() {
            if contract.schema(name).is_none() && snapshot.schema_named(name).is_none() {
                let mut known: Vec<&str> =
                    contract.schemas.iter().map(|s| s.name.as_str()).collect();
                known.extend(
                    snapshot
                        .schemas
                        .iter()
                        .map(|s| s.name.as_str())
                        .filter(|s| !s.starts_with("pg_")),
                );
                known.sort_unstable();
                known.dedup();
                unknown_schema(name, &known);
            }
        }
    }

    /// Whether the filter includes every finding that is not exempt, and no other.
    fn is_total(&self) -> bool {
        self.rules.len() == RULES.len()
            && self.schemas.is_none()
            && self.min_severity == Severity::Info
            && !self.exempted
    }

    /// Whether the filter includes a finding.
    pub fn wants(&self, finding: &Finding) -> bool {
        finding.severity >= self.min_severity
            && self.rules.contains(&finding.rule)
            && self.schemas.as_ref().is_none_or(|s| {
                finding.object.schema.as_ref().is_some_and(|schema| s.contains(schema))
            })
    }
}

/// Returns the findings that a filter includes, ordered by severity (the highest first), rule (in
/// the order of the contract's sections) and object. Those that have one cause are one.
pub fn findings(filter: &Filter, fixes: Fixes) -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    let is_severe = |rule: &&Rule| rule.severity_in(&contract) >= filter.min_severity;
    let rules: Vec<&'static Rule> = filter.rules.iter().copied().filter(is_severe).collect();
    // The plan runs all rules.
    let is_limited = |snapshot: &Snapshot| fixes == Fixes::OfRules || !is_searched(snapshot);
    let schemas = |snapshot: &Snapshot| filter.schemas.as_deref().filter(|_| is_limited(snapshot));
    let snapshot = catalog::for_audit(&state, &contract, &own, |snapshot| {
        filter.check_schemas(&contract, snapshot);
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
    let mut found = visible(cx, &rules, &current, filter.exempted);
    found.retain(|finding| filter.wants(finding));
    if fixes == Fixes::OfPlan {
        restate(cx, &mut found, filter.is_total(), (&state, &current));
    }
    reported(cx, found, &current)
}

/// The largest number of relations and routines in a catalog for which an audit searches the plan.
/// The search costs several audits, whatever the number of findings.
const SEARCHED: usize = 4_000;

/// Whether an audit may search the plan for the fixes in a catalog.
fn is_searched(snapshot: &Snapshot) -> bool {
    snapshot.relations.len() + snapshot.routines.len() <= SEARCHED
}

/// The largest number of findings for which an audit searches the plan.
const MOST_SEARCHED: usize = 2_000;

/// Replaces the fixes of which the plan only proposes something by what the plan says. It is the
/// plan of a superuser, so that a fix does not depend on the caller. In a larger catalog, and where
/// there are more findings, the fixes are those of the rules. `are_all`: no filter has left out any
/// that are not exempt, and no exempt ones are included.
fn restate(
    cx: &Context<'_>,
    found: &mut [Finding],
    are_all: bool,
    (state, current): (&State, &Current<'_>),
) {
    let planner = Planner {
        contract: cx.contract,
        audit: &|snapshot| visible_in(cx.contract, snapshot, current),
        wants: &|_| true,
        policy_sql: &|_| None,
        code: &|| catalog::code(state),
        runner: pg_sys::BOOTSTRAP_SUPERUSERID,
        interrupts: &interrupts,
    };
    let is_searched = is_searched(cx.snapshot) && found.len() <= MOST_SEARCHED;
    if !is_searched || !found.iter().any(|finding| planner.may_propose(finding)) {
        return;
    }
    let all = if are_all { found.to_vec() } else { visible(cx, &RULES, current, false) };
    if all.len() > MOST_SEARCHED {
        return;
    }
    let mut restated = planner.restated(cx.snapshot, &all);
    for finding in found {
        if let Some(fix) = restated.remove(&finding.fingerprint) {
            finding.fix = fix;
        }
    }
}

/// Returns the findings of some rules under the contract in force, one for each object, exempt ones
/// omitted.
pub fn findings_of(rules: &[&'static Rule]) -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, |cx| {
        visible(cx, rules, &Current::read(&state, &own, Freshness::Fresh), false)
    })
}

fn all(cx: &Context<'_>, rules: &[&'static Rule]) -> Vec<Finding> {
    let mut found: Vec<Finding> = rules.iter().flat_map(|rule| cx.run(rule)).collect();
    // Each rule returns its findings ordered by name; the sort is stable.
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

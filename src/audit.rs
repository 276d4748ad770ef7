//! The audit: what differs from the contract, but for what is exempt.

use crate::catalog::{self, Freshness, Own};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::unknown_argument;
use crate::store::Installation;
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::{Area, Rule};
use dragonfly_core::rules::{
    self, Context, RULES, schema_create, security_definer_search_path as search_path,
};

/// Reads contract and catalog, and gives both to `judge`.
pub fn with_context<T>(judge: impl FnOnce(&Context<'_>) -> T) -> T {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, judge)
}

/// The same under another contract.
fn under<T>(
    contract: &Contract,
    state: &State,
    own: &Own,
    judge: impl FnOnce(&Context<'_>) -> T,
) -> T {
    judging(contract, &catalog::full(state, contract, own), judge)
}

fn judging<T>(
    contract: &Contract,
    snapshot: &Snapshot,
    judge: impl FnOnce(&Context<'_>) -> T,
) -> T {
    let access = Access::new(snapshot);
    judge(&Context::new(contract, snapshot, &access, &interrupts))
}

/// Everything that differs from the contract in force but for what is exempt, with what was looked
/// at.
pub fn with_findings<T>(judge: impl FnOnce(&Context<'_>, &[Finding], &State) -> T) -> T {
    let Installation { state, own, contract } = Installation::now();
    under(&contract, &state, &own, |cx| {
        let found = visible(cx, &RULES, &Current::read(&state, &own, Freshness::Fresh), false);
        judge(cx, &found, &state)
    })
}

/// Everything that differs from the contract in force but for what is exempt.
pub fn findings_now() -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    findings_under(&contract, &state, &own)
}

/// Everything in a snapshot that differs from a contract which governs the same schemas.
pub fn findings_in(contract: &Contract, snapshot: &Snapshot) -> Vec<Finding> {
    judging(contract, snapshot, |cx| all(cx, &RULES))
}

/// Everything that differs from a contract, whether it is in force or not, but for what is exempt.
pub fn findings_under(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| visible(cx, &RULES, &current, false))
}

/// Everything in a snapshot that differs from a contract which governs the same schemas, but for
/// what is exempt.
pub fn visible_in(contract: &Contract, snapshot: &Snapshot, current: &Current<'_>) -> Vec<Finding> {
    judging(contract, snapshot, |cx| visible(cx, &RULES, current, false))
}

/// What some rules find, without what is exempt unless that is asked for.
fn visible(
    cx: &Context<'_>,
    rules: &[&'static Rule],
    current: &Current<'_>,
    with_accepted: bool,
) -> Vec<Finding> {
    current.apply(with_consequences(cx, rules, current), with_accepted)
}

/// What some rules find, whether it is exempt or not, and what follows from what is.
fn with_consequences(
    cx: &Context<'_>,
    rules: &[&'static Rule],
    current: &Current<'_>,
) -> Vec<Finding> {
    let mut found = all(cx, rules);
    // What follows from an open schema is said about the schema; where nobody is to hear of that,
    // it is said about each routine.
    if rules.contains(&&search_path::RULE) && current.mention(&schema_create::RULE) {
        let accepted =
            cx.run(&schema_create::RULE).into_iter().filter(|finding| current.accept(finding));
        let causes =
            accepted.filter_map(|finding| Some((finding.object.schema?, finding.role?))).collect();
        found.extend(search_path::following_from(cx, &causes));
        found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    }
    found
}

/// Everything that differs from a contract as it is found, whether it is exempt or not: what can be
/// accepted.
pub fn findings_with_accepted(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Freshness::Fresh);
    under(contract, state, own, |cx| with_consequences(cx, &RULES, &current))
}

/// What of an audit is wanted.
pub struct Filter {
    /// Of these rules.
    pub rules: Vec<&'static Rule>,
    /// About these schemas; `None` for all.
    pub schemas: Option<Vec<String>>,
    /// Nothing less severe.
    pub min_severity: Severity,
    /// With what is exempt.
    pub exempted: bool,
}

impl Filter {
    /// What some rules find about some schemas; `None` for all.
    pub fn about(rules: Option<Vec<String>>, schemas: Option<Vec<String>>) -> Self {
        let known = || RULES.iter().map(|r| r.id).collect::<Vec<_>>();
        let rules = match rules {
            None => RULES.to_vec(),
            Some(ids) => {
                for id in &ids {
                    if rules::find(id).is_none() {
                        unknown_argument("rule", id, &known());
                    }
                }
                RULES.iter().copied().filter(|r| ids.iter().any(|id| id == r.id)).collect()
            }
        };
        Self { schemas, ..Self::new(rules, Severity::Info) }
    }

    /// What some rules find, from a severity on.
    pub fn new(rules: Vec<&'static Rule>, min_severity: Severity) -> Self {
        Self { rules, schemas: None, min_severity, exempted: false }
    }

    /// What the rules of an area find.
    pub fn area(area: Area) -> Self {
        Self::new(RULES.iter().copied().filter(|r| r.area == area).collect(), Severity::Info)
    }

    /// An error where a schema is neither there nor in the contract.
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
                unknown_argument("schema", name, &known);
            }
        }
    }

    /// Whether a finding is wanted.
    pub fn wants(&self, finding: &Finding) -> bool {
        finding.severity >= self.min_severity
            && self.rules.contains(&finding.rule)
            && self.schemas.as_ref().is_none_or(|s| {
                finding.object.schema.as_ref().is_some_and(|schema| s.contains(schema))
            })
    }
}

/// The findings that the filter wants: the worst first, then by rule in the order of the contract's
/// sections, then by object.
pub fn findings(filter: &Filter) -> Vec<Finding> {
    let Installation { state, own, contract } = Installation::now();
    let found = under(&contract, &state, &own, |cx| {
        filter.check_schemas(cx.contract, cx.snapshot);
        visible(cx, &filter.rules, &Current::read(&state, &own, Freshness::Fresh), filter.exempted)
    });
    found.into_iter().filter(|f| filter.wants(f)).collect()
}

/// What some rules find under the contract in force, without what is exempt.
pub fn findings_of(rules: &[&'static Rule]) -> Vec<Finding> {
    findings(&Filter::new(rules.to_vec(), Severity::Info))
}

fn all(cx: &Context<'_>, rules: &[&'static Rule]) -> Vec<Finding> {
    let mut found: Vec<Finding> = rules.iter().flat_map(|rule| cx.run(rule)).collect();
    // Each rule gives its findings in order of name; the sort is stable.
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

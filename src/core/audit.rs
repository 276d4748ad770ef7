//! The audit: what the rules find in a catalog, without what is exempt, with the fixes of the plan.

use crate::catalog::{BOOTSTRAP_SUPERUSER, Snapshot};
use crate::contract::{Contract, Severity};
use crate::finding::Finding;
use crate::orientation;
use crate::plan::{Code, Planner};
use crate::report::shared_causes;
use crate::rule::{Area, Rule};
use crate::rules::{
    Context, RULES, default_privileges, object_ownership, schema_create,
    security_definer_search_path as search_path,
};
use std::collections::HashSet;

/// The rules of which unsafe search_paths can be consequences.
static CAUSES: [&Rule; 2] = [&schema_create::RULE, &object_ownership::RULE];

/// The exemptions in force.
pub trait InForce {
    /// Returns the findings; exempt findings are omitted unless `with_exempt`.
    fn apply(&self, findings: Vec<Finding>, with_exempt: bool) -> Vec<Finding>;

    /// Whether an exemption could be about a rule.
    fn mention(&self, rule: &Rule) -> bool;

    /// Whether a finding is exempt.
    fn accept(&self, finding: &Finding) -> bool;
}

/// No exemptions.
#[derive(Debug, Clone, Copy)]
pub struct NoExemptions;

impl InForce for NoExemptions {
    fn apply(&self, findings: Vec<Finding>, _: bool) -> Vec<Finding> {
        findings
    }

    fn mention(&self, _: &Rule) -> bool {
        false
    }

    fn accept(&self, _: &Finding) -> bool {
        false
    }
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
#[derive(Debug, Clone)]
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
    /// Returns the filter for every finding that is not exempt.
    #[must_use]
    pub fn all() -> Self {
        Self::new(RULES.to_vec(), Severity::Info)
    }

    /// Returns the filter for some rules and a minimum severity.
    #[must_use]
    pub fn new(rules: Vec<&'static Rule>, min_severity: Severity) -> Self {
        Self { rules, schemas: None, min_severity, exempted: false }
    }

    /// Returns the filter for the rules of an area.
    #[must_use]
    pub fn area(area: Area) -> Self {
        Self::new(RULES.iter().copied().filter(|r| r.area == area).collect(), Severity::Info)
    }

    /// Returns the rules that can have a finding which the filter includes, under a contract.
    #[must_use]
    pub fn rules_under(&self, contract: &Contract) -> Vec<&'static Rule> {
        let is_severe = |rule: &&Rule| rule.severity_in(contract) >= self.min_severity;
        self.rules.iter().copied().filter(is_severe).collect()
    }

    /// Returns a schema of the filter that neither exists nor is in the contract, with the known
    /// ones.
    #[must_use]
    pub fn unknown_schema<'f>(
        &'f self,
        contract: &'f Contract,
        snapshot: &'f Snapshot,
    ) -> Option<(&'f str, Vec<&'f str>)> {
        let is_unknown = |name: &&String| {
            contract.schema(name).is_none() && snapshot.schema_named(name).is_none()
        };
        let unknown = self.schemas.iter().flatten().find(is_unknown)?;
        let existing = snapshot.schemas.iter().map(|s| s.name.as_str());
        let existing = existing.filter(|name| !name.starts_with("pg_"));
        let mut known: Vec<&str> =
            contract.schemas.iter().map(|s| s.name.as_str()).chain(existing).collect();
        known.sort_unstable();
        known.dedup();
        Some((unknown, known))
    }

    /// Whether the filter includes every finding that is not exempt, and no other.
    fn is_total(&self) -> bool {
        self.rules.len() == RULES.len()
            && self.schemas.is_none()
            && self.min_severity == Severity::Info
            && !self.exempted
    }

    /// Whether the filter includes a finding.
    #[must_use]
    pub fn wants(&self, finding: &Finding) -> bool {
        finding.severity >= self.min_severity
            && self.rules.contains(&finding.rule)
            && self.schemas.as_ref().is_none_or(|s| {
                finding.object.schema.as_ref().is_some_and(|schema| s.contains(schema))
            })
    }
}

/// An audit of a catalog under a contract.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    /// The contract and the catalog.
    pub cx: &'a Context<'a>,
    /// The exemptions.
    pub exemptions: &'a dyn InForce,
    /// Reads the code in the database, for the plan.
    pub code: &'a dyn Fn() -> Code,
    /// Called repeatedly; unwinds if the query is canceled.
    pub interrupts: &'a dyn Fn(),
}

impl Audit<'_> {
    /// Returns the findings that a filter includes, ordered by severity (the highest first), rule
    /// (in the order of the contract's sections) and object. Those that have one cause are one.
    #[must_use]
    pub fn findings(&self, filter: &Filter, fixes: Fixes) -> Vec<Finding> {
        let mut found = self.visible(&filter.rules_under(self.cx.contract), filter.exempted);
        found.retain(|finding| filter.wants(finding));
        if fixes == Fixes::OfPlan {
            self.restate(&mut found, filter.is_total());
        }
        self.reported(found)
    }

    /// Returns the findings as the audit reports them, with exempt ones as well if `with_exempt`.
    #[must_use]
    pub fn all_findings(&self, with_exempt: bool, fixes: Fixes) -> Vec<Finding> {
        self.findings(&Filter { exempted: with_exempt, ..Filter::all() }, fixes)
    }

    /// Returns findings as the audit reports them: those that have one cause are one.
    #[must_use]
    pub fn reported(&self, found: Vec<Finding>) -> Vec<Finding> {
        let found = orientation::merged(self.cx, found);
        let of_defaults = || self.exemptions.apply(self.cx.run(&default_privileges::RULE), false);
        shared_causes::merged(self.cx, found, of_defaults)
    }

    /// Returns the findings of some rules, one for each object; exempt findings are omitted unless
    /// `with_exempt`.
    #[must_use]
    pub fn visible(&self, rules: &[&'static Rule], with_exempt: bool) -> Vec<Finding> {
        self.exemptions.apply(self.with_consequences(rules), with_exempt)
    }

    /// Returns all findings of some rules, exempt ones included, and the findings that exempt
    /// findings had stood for.
    #[must_use]
    pub fn with_consequences(&self, rules: &[&'static Rule]) -> Vec<Finding> {
        let mut found: Vec<Finding> = rules.iter().flat_map(|rule| self.cx.run(rule)).collect();
        // Each rule returns its findings ordered by name; the sort is stable.
        found.sort_by_key(|f| std::cmp::Reverse(f.severity));
        // The unsafe search_paths that result from a schema, or from objects of an untrusted role
        // in it, are reported by the finding about these. Where that is exempt, each routine is
        // reported instead.
        let of_causes: Vec<&Rule> =
            CAUSES.into_iter().filter(|rule| self.exemptions.mention(rule)).collect();
        if rules.contains(&&search_path::RULE) && !of_causes.is_empty() {
            let exempt = of_causes
                .into_iter()
                .flat_map(|rule| self.cx.run(rule))
                .filter(|finding| self.exemptions.accept(finding));
            let causes = exempt.filter_map(|finding| cause(&finding)).collect();
            found.extend(search_path::following_from(self.cx, &causes));
            found.sort_by_key(|f| std::cmp::Reverse(f.severity));
        }
        found
    }

    /// Returns the findings that are not exempt, and those that would take the place of findings of
    /// [`CAUSES`] if these were exempt too.
    #[must_use]
    pub fn unexempt(&self) -> Vec<Finding> {
        let mut found = self.visible(&RULES, false);
        let causes = found.iter().filter(|finding| CAUSES.contains(&finding.rule));
        let causes = causes.filter_map(cause).collect();
        let known: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        let following = search_path::following_from(self.cx, &causes);
        let following = self.exemptions.apply(following, false);
        found.extend(following.into_iter().filter(|f| !known.contains(&f.fingerprint)));
        found
    }

    /// Replaces the fixes of which the plan only proposes something by what the plan says. It is
    /// the plan of a superuser, so that a fix does not depend on the caller. In a larger catalog,
    /// and where there are more findings, the fixes are those of the rules. `are_all`: no filter
    /// has left out any that are not exempt, and no exempt ones are included.
    fn restate(&self, found: &mut [Finding], are_all: bool) {
        let planner = Planner {
            contract: self.cx.contract,
            audit: &|snapshot| self.visible_in(snapshot),
            wants: &|_| true,
            policy_sql: &|_| None,
            code: self.code,
            runner: BOOTSTRAP_SUPERUSER,
            interrupts: self.interrupts,
        };
        let is_searched = is_searched(self.cx.snapshot) && found.len() <= MOST_SEARCHED;
        if !is_searched || !found.iter().any(|finding| planner.may_propose(finding)) {
            return;
        }
        let all = if are_all { found.to_vec() } else { self.visible(&RULES, false) };
        if all.len() > MOST_SEARCHED {
            return;
        }
        let mut restated = planner.restated(self.cx.snapshot, &all);
        for finding in found {
            if let Some(fix) = restated.remove(&finding.fingerprint) {
                finding.fix = fix;
            }
        }
    }

    /// Returns the findings in another snapshot, exempt ones omitted.
    fn visible_in(&self, snapshot: &Snapshot) -> Vec<Finding> {
        let access = crate::access::Access::new(snapshot);
        let cx = Context::new(self.cx.contract, snapshot, &access, self.interrupts);
        Audit { cx: &cx, ..*self }.visible(&RULES, false)
    }
}

/// Returns the schema and the role of a finding of [`CAUSES`].
fn cause(finding: &Finding) -> Option<(String, String)> {
    Some((finding.object.schema.clone()?, finding.role()?.to_owned()))
}

/// The largest number of relations and routines in a catalog for which an audit searches the plan.
/// The search costs several audits, whatever the number of findings.
const SEARCHED: usize = 4_000;

/// The largest number of findings for which an audit searches the plan.
const MOST_SEARCHED: usize = 2_000;

/// Whether an audit may search the plan for the fixes in a catalog.
#[must_use]
pub fn is_searched(snapshot: &Snapshot) -> bool {
    snapshot.relations.len() + snapshot.routines.len() <= SEARCHED
}

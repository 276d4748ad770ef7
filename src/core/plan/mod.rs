//! The plan: the statements that fix findings, in order.

mod completion;
pub mod effects;
mod guarded;
mod mentioned;
mod order;
mod restated;
mod rights;
mod search;
mod simulate;
mod step;
mod undo;
mod uses;

pub use completion::Completer;
pub use mentioned::Mentioned;
pub use search::Planner;
pub use step::{Risk, Step};
pub use uses::{Code, Text, Uses};

#[cfg(test)]
mod tests;

use crate::catalog::Snapshot;
use crate::finding::{Finding, Subject};
use crate::orientation::Orientation;
use order::in_order;
use rights::Rights;
use search::Search;
use simulate::Simulation;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use undo::undo;

/// Steps in their order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Proposals come last.
    pub steps: Vec<Step>,
    /// The fingerprints of the findings that the statements fix.
    pub fixes: HashSet<String>,
    /// The same fingerprints, by those subjects of the finding that no finding is about after the
    /// statements: where the fix for one grantee is a proposal, the finding remains for it.
    pub about: HashMap<Subject, Vec<String>>,
    /// The privileges that bodies use and that no step may take away.
    pub uses: Uses,
    /// The statements, without the proposals.
    #[cfg(test)]
    chosen: Vec<crate::fix::Statement>,
}

impl Plan {
    /// Puts the proposal that a finding consists of before all other steps.
    pub fn begin_with(&mut self, finding: &Finding) {
        self.steps.insert(0, Step::proposal(finding, None));
    }
}

impl Planner<'_> {
    /// Returns the plan for a catalog; `before` contains its findings. `orientation` says what is
    /// missing as a whole: where the plan does not create it, the findings about it are left out,
    /// and the plan begins with one that stands for them.
    #[must_use]
    pub fn plan_with(
        &self,
        orientation: Option<&Orientation>,
        snapshot: &Snapshot,
        before: &[Rc<Finding>],
    ) -> Plan {
        let Some(orientation) = orientation else { return self.plan(snapshot, before) };
        let is_missing = |finding: &Finding| Orientation::stands_for(finding);
        let wants = |finding: &Finding| {
            (self.wants)(finding) && (orientation.is_planned() || !is_missing(finding))
        };
        let mut plan = Planner { wants: &wants, ..*self }.plan(snapshot, before);
        let missing = before.iter().filter(|f| (self.wants)(f) && is_missing(f));
        let missing: Vec<Finding> = missing.map(|finding| Finding::clone(finding)).collect();
        if let Some(first) = orientation.of_plan(&missing) {
            plan.begin_with(&first);
        }
        plan
    }

    /// Returns the plan for a catalog; `before` contains its findings.
    #[must_use]
    pub fn plan(&self, snapshot: &Snapshot, before: &[Rc<Finding>]) -> Plan {
        let search = Search::run(self, snapshot, before);
        let mut plan = Plan::default();
        let mut simulation = Simulation::new(snapshot.clone(), self.runner);
        for wanted in in_order(&search.chosen) {
            (self.interrupts)();
            let back = undo(&wanted.statement, &simulation, self.policy_sql);
            // A statement that changes nothing after the earlier ones is omitted.
            if simulation.execute(&wanted.statement) {
                plan.steps.push(Step::statement(&wanted, back));
                #[cfg(test)]
                plan.chosen.push(wanted.statement);
            }
        }
        let found = &search.state.found;
        let left: HashSet<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        let gone: Vec<&Rc<Finding>> = before
            .iter()
            .filter(|f| self.is_wanted(f) && !left.contains(f.fingerprint.as_str()))
            .collect();
        plan.fixes = gone.iter().map(|f| f.fingerprint.clone()).collect();
        let remaining: HashSet<Subject> = found.iter().flat_map(|f| f.subjects()).collect();
        for finding in gone {
            for subject in finding.subjects().filter(|subject| !remaining.contains(subject)) {
                plan.about.entry(subject).or_default().push(finding.fingerprint.clone());
            }
        }
        plan.steps.extend(self.proposals(&search));
        plan.uses = search.uses;
        plan
    }

    /// Returns a proposal for each finding that is left.
    fn proposals(&self, search: &Search<'_>) -> Vec<Step> {
        let rights = Rights::of(&search.state.snapshot, self.runner);
        let rejected: HashMap<String, &str> =
            search.rejected.iter().map(|r| (r.statement.to_string(), r.why.as_str())).collect();
        let proposal = |finding: &Rc<Finding>| {
            let statements = finding.fix.statements();
            if let Some(obstacle) = statements.iter().find_map(|s| rights.obstacle(s)) {
                return Step::for_another_role(finding, &obstacle);
            }
            let why = statements.iter().find_map(|s| rejected.get(&s.to_string()));
            Step::proposal(finding, why.copied())
        };
        search.state.found.iter().filter(|f| self.is_wanted(f)).map(proposal).collect()
    }
}

//! The plan: the statements that fix findings, in order.

mod completion;
mod order;
mod simulate;
mod step;
mod undo;

pub use completion::Completer;
pub use step::Step;

#[cfg(test)]
mod tests;

use crate::catalog::{Oid, Snapshot};
use crate::contract::Severity;
use crate::finding::{Finding, Subject};
use crate::fix::{Change, Statement};
use order::{Wanted, in_order, phase};
use simulate::Simulation;
use std::collections::{HashMap, HashSet};
use undo::{PolicySql, undo};

/// Steps in their order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Proposals come last.
    pub steps: Vec<Step>,
    /// The fingerprints of the findings that the statements fix.
    pub fixes: HashSet<String>,
    /// The same fingerprints, by the subject of the finding.
    pub about: HashMap<Subject, Vec<String>>,
    /// The statements, without the proposals.
    chosen: Vec<Statement>,
}

/// The input of a plan.
pub struct Planner<'a> {
    /// Returns the findings in a catalog.
    pub audit: &'a dyn Fn(&Snapshot) -> Vec<Finding>,
    /// Selects the findings to fix.
    pub wants: &'a dyn Fn(&Finding) -> bool,
    /// Returns the CREATE POLICY of an existing policy.
    pub policy_sql: PolicySql<'a>,
    /// The role that will execute the plan.
    pub runner: Oid,
    /// Called repeatedly; unwinds if the query is canceled.
    pub interrupts: &'a dyn Fn(),
}

/// How often the catalog is audited again: once for each phase, and for findings that a fix adds.
const MOST_ROUNDS: usize = 32;
/// How many statements are rejected because they would add errors.
const MOST_REJECTED: usize = 16;

/// The limit of statements times objects up to which each statement is tested for being necessary.
const MOST_TESTED: usize = 50_000;

impl Planner<'_> {
    /// Returns the plan for a catalog; `before` contains its findings.
    #[must_use]
    pub fn plan(&self, snapshot: &Snapshot, before: &[Finding]) -> Plan {
        let mut chosen: Vec<Wanted> = Vec::new();
        let mut rejected: Vec<Statement> = Vec::new();
        let mut found = before.to_vec();
        loop {
            for _ in 0..MOST_ROUNDS {
                let fresh = self.fresh(&found, &chosen, &rejected);
                if fresh.is_empty() {
                    break;
                }
                chosen.extend(fresh);
                found = self.after(snapshot, &in_order(&chosen));
            }
            if rejected.len() >= MOST_REJECTED {
                break;
            }
            // A statement that only adds another error is rejected.
            let Some(culprit) = self.culprit(snapshot, before, &found, &in_order(&chosen)) else {
                break;
            };
            let parts: Vec<Statement> = chosen
                .iter()
                .filter(|w| culprit.covers(&w.statement))
                .map(|w| w.statement.clone())
                .collect();
            if parts.is_empty() {
                break;
            }
            chosen.retain(|w| !culprit.covers(&w.statement));
            rejected.extend(parts);
            found = self.after(snapshot, &in_order(&chosen));
        }
        self.remove_ineffective(snapshot, &mut chosen, &mut found);
        self.remove_unnecessary(snapshot, &mut chosen, &found);
        self.steps(snapshot, before, &chosen, &found)
    }

    /// Returns the statements that are not chosen yet, of the first phase that has any: they may
    /// make statements of later phases unnecessary.
    fn fresh(&self, found: &[Finding], chosen: &[Wanted], rejected: &[Statement]) -> Vec<Wanted> {
        // The same text may be needed again in a later phase: a GRANT to the former owner.
        let key = |statement: &Statement| (phase(statement), statement.to_string());
        let mut known: HashSet<(u8, String)> = chosen.iter().map(|w| key(&w.statement)).collect();
        known.extend(rejected.iter().map(key));
        let mut fresh: Vec<Wanted> = Vec::new();
        for finding in found.iter().filter(|f| self.is_wanted(f)) {
            (self.interrupts)();
            for statement in finding.fix.statements() {
                if known.insert(key(statement)) {
                    fresh.push(Wanted {
                        statement: statement.clone(),
                        findings: vec![finding.clone()],
                    });
                } else if let Some(same) = fresh.iter_mut().find(|w| w.statement == *statement) {
                    same.findings.push(finding.clone());
                }
            }
        }
        let first = fresh.iter().map(|w| phase(&w.statement)).min();
        fresh.retain(|w| Some(phase(&w.statement)) == first);
        fresh
    }

    /// Whether the plan fixes a finding: not information, which includes the platform's objects.
    fn is_wanted(&self, finding: &Finding) -> bool {
        finding.severity > Severity::Info && (self.wants)(finding)
    }

    /// Returns the catalog after some statements.
    fn simulate(&self, snapshot: &Snapshot, statements: &[Wanted]) -> Snapshot {
        let mut simulation = Simulation::new(snapshot.clone(), self.runner);
        for wanted in statements {
            (self.interrupts)();
            simulation.execute(&wanted.statement);
        }
        simulation.complete()
    }

    /// Returns the findings after some statements.
    fn after(&self, snapshot: &Snapshot, statements: &[Wanted]) -> Vec<Finding> {
        let repaired: HashSet<&str> = statements
            .iter()
            .filter(|w| matches!(&w.statement, Statement::Ddl(ddl) if ddl.change == Change::Guard))
            .flat_map(|w| w.findings.iter().map(|f| f.fingerprint.as_str()))
            .collect();
        let mut found = (self.audit)(&self.simulate(snapshot, statements));
        found.retain(|f| !repaired.contains(f.fingerprint.as_str()));
        found
    }

    /// Returns the first statement that adds an error which no other statement fixes.
    fn culprit(
        &self,
        snapshot: &Snapshot,
        before: &[Finding],
        found: &[Finding],
        order: &[Wanted],
    ) -> Option<Statement> {
        let known: HashSet<_> = before.iter().map(Finding::about).collect();
        let is_new = |f: &Finding| f.severity == Severity::Error && !known.contains(&f.about());
        let new = found.iter().find(|f| is_new(f) || adds_reason(before, f))?;
        let is_there = |first: usize| {
            self.after(snapshot, &order[..first]).iter().any(|f| f.fingerprint == new.fingerprint)
        };
        let (mut without, mut with) = (0, order.len());
        while with - without > 1 {
            let middle = without.midpoint(with);
            if is_there(middle) { with = middle } else { without = middle }
        }
        order.get(with.checked_sub(1)?).map(|w| w.statement.clone())
    }

    /// Removes statements that fix none of the findings for which they were chosen.
    fn remove_ineffective(
        &self,
        snapshot: &Snapshot,
        chosen: &mut Vec<Wanted>,
        found: &mut Vec<Finding>,
    ) {
        let left: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        let useful: Vec<Wanted> = chosen
            .iter()
            .filter(|w| w.findings.iter().any(|f| !left.contains(&f.fingerprint)))
            .cloned()
            .collect();
        if useful.len() == chosen.len() {
            return;
        }
        let then = self.after(snapshot, &in_order(&useful));
        if then.iter().all(|f| left.contains(&f.fingerprint)) {
            (*chosen, *found) = (useful, then);
        }
    }

    /// Removes statements without which the result is the same, if testing each is fast enough.
    fn remove_unnecessary(&self, snapshot: &Snapshot, chosen: &mut Vec<Wanted>, found: &[Finding]) {
        let size = snapshot.relations.len() + snapshot.routines.len();
        if chosen.len() * size > MOST_TESTED {
            return;
        }
        let left: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        for place in (0..chosen.len()).rev() {
            (self.interrupts)();
            let mut without = chosen.clone();
            without.remove(place);
            if self
                .after(snapshot, &in_order(&without))
                .iter()
                .all(|f| left.contains(&f.fingerprint))
            {
                *chosen = without;
            }
        }
    }

    /// Returns the plan with its steps: statements, then proposals.
    fn steps(
        &self,
        snapshot: &Snapshot,
        before: &[Finding],
        chosen: &[Wanted],
        found: &[Finding],
    ) -> Plan {
        let mut plan = Plan::default();
        let mut simulation = Simulation::new(snapshot.clone(), self.runner);
        for wanted in in_order(chosen) {
            (self.interrupts)();
            let back = undo(&wanted.statement, &simulation, self.policy_sql);
            // A statement that changes nothing after the earlier ones is omitted.
            if simulation.execute(&wanted.statement) {
                plan.steps.push(Step::statement(&wanted, back));
                plan.chosen.push(wanted.statement);
            }
        }
        let left: HashSet<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        let gone: Vec<&Finding> = before
            .iter()
            .filter(|f| self.is_wanted(f) && !left.contains(f.fingerprint.as_str()))
            .collect();
        plan.fixes = gone.iter().map(|f| f.fingerprint.clone()).collect();
        for finding in gone {
            plan.about.entry(finding.subject()).or_default().push(finding.fingerprint.clone());
        }
        plan.steps.extend(found.iter().filter(|f| self.is_wanted(f)).map(Step::proposal));
        plan
    }
}

impl Statement {
    /// Whether this statement, merged from several, contains `part`.
    fn covers(&self, part: &Self) -> bool {
        match (self, part) {
            (Self::Acl(all), Self::Acl(part)) => {
                all.verb == part.verb
                    && all.on == part.on
                    && all.privileges.contains(part.privileges)
                    && part.grantees.iter().all(|g| all.grantees.contains(g))
            }
            _ => self == part,
        }
    }
}

/// Whether a routine's path is unsafe for an additional reason, which the guard would block.
fn adds_reason(before: &[Finding], after: &Finding) -> bool {
    let reasons = |finding: &Finding| -> HashSet<String> {
        let all = finding.evidence["reasons"].as_array().into_iter().flatten();
        all.map(|reason| format!("{} {} {}", reason["reason"], reason["schema"], reason["role"]))
            .collect()
    };
    let was = before.iter().find(|f| f.about() == after.about());
    was.is_some_and(|was| !reasons(after).is_subset(&reasons(was)))
}

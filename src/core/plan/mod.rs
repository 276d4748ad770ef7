//! The plan: which statements, in which order.

mod order;
mod simulate;
mod step;
mod undo;

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
use undo::{Written, undo};

/// Steps in their order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Proposals come last.
    pub steps: Vec<Step>,
    /// The fingerprints of the findings that are gone when it has been carried out.
    pub mends: HashSet<String>,
    /// The same, by what they are about.
    pub about: HashMap<Subject, Vec<String>>,
    /// What the steps do, without the proposals.
    chosen: Vec<Statement>,
}

/// What making a plan takes.
pub struct Planner<'a> {
    /// Everything that differs from the contract.
    pub judge: &'a dyn Fn(&Snapshot) -> Vec<Finding>,
    /// Which of it is to be mended.
    pub wants: &'a dyn Fn(&Finding) -> bool,
    /// The SQL that makes a policy anew.
    pub written: Written<'a>,
    /// Who carries the plan out.
    pub runner: Oid,
    /// Called again and again; may unwind when the user cancels.
    pub interrupts: &'a dyn Fn(),
}

/// How often the catalog is judged anew: each phase once, and some more for what a mend brings up.
const ROUNDS: usize = 32;
/// How many statements are given up because of what they would bring.
const REJECTED: usize = 16;

/// So many objects are judged to see whether each statement is needed.
const TRIED: usize = 50_000;

impl Planner<'_> {
    /// What brings the catalog into the contract; `before` is what is found in it.
    #[must_use]
    pub fn plan(&self, snapshot: &Snapshot, before: &[Finding]) -> Plan {
        let mut chosen: Vec<Wanted> = Vec::new();
        let mut rejected: Vec<Statement> = Vec::new();
        let mut found = before.to_vec();
        loop {
            for _ in 0..ROUNDS {
                let fresh = self.fresh(&found, &chosen, &rejected);
                if fresh.is_empty() {
                    break;
                }
                chosen.extend(fresh);
                found = self.after(snapshot, &in_order(&chosen));
            }
            if rejected.len() >= REJECTED {
                break;
            }
            // What would only bring another error is not done.
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
        self.without_the_useless(snapshot, &mut chosen, &mut found);
        self.without_the_needless(snapshot, &mut chosen, &found);
        self.written_down(snapshot, before, &chosen, &found)
    }

    /// The statements of findings that nobody has chosen yet, of the first phase that has any: they
    /// may make those of later phases needless.
    fn fresh(&self, found: &[Finding], chosen: &[Wanted], rejected: &[Statement]) -> Vec<Wanted> {
        // The same text may be needed again in a later phase: a GRANT to whom the object belonged
        // when it was first said.
        let key = |statement: &Statement| (phase(statement), statement.to_string());
        let mut known: HashSet<(u8, String)> = chosen.iter().map(|w| key(&w.statement)).collect();
        known.extend(rejected.iter().map(key));
        let mut fresh: Vec<Wanted> = Vec::new();
        for finding in found.iter().filter(|f| self.mends(f)) {
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

    /// A note is no breach, and what the platform brings is not ours to mend.
    fn mends(&self, finding: &Finding) -> bool {
        finding.severity > Severity::Info && (self.wants)(finding)
    }

    fn imagined(&self, snapshot: &Snapshot, statements: &[Wanted]) -> Snapshot {
        let mut imagined = Simulation::new(snapshot.clone(), self.runner);
        for wanted in statements {
            (self.interrupts)();
            imagined.carry_out(&wanted.statement);
        }
        imagined.complete()
    }

    /// What is found after some statements.
    fn after(&self, snapshot: &Snapshot, statements: &[Wanted]) -> Vec<Finding> {
        let mended: HashSet<&str> = statements
            .iter()
            .filter(|w| matches!(&w.statement, Statement::Ddl(ddl) if ddl.change == Change::Guard))
            .flat_map(|w| w.findings.iter().map(|f| f.fingerprint.as_str()))
            .collect();
        let mut found = (self.judge)(&self.imagined(snapshot, statements));
        found.retain(|f| !mended.contains(f.fingerprint.as_str()));
        found
    }

    /// The first statement after which there is an error that was not there before and that nothing
    /// mends.
    fn culprit(
        &self,
        snapshot: &Snapshot,
        before: &[Finding],
        found: &[Finding],
        order: &[Wanted],
    ) -> Option<Statement> {
        let known: HashSet<_> = before.iter().map(Finding::about).collect();
        let is_new = |f: &Finding| f.severity == Severity::Error && !known.contains(&f.about());
        let new = found.iter().find(|f| is_new(f) || spoils_a_path(before, f))?;
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

    /// Leaves out what mends nothing that it was chosen for.
    fn without_the_useless(
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

    /// Leaves out what nothing is lost without, where trying each is no matter of minutes.
    fn without_the_needless(
        &self,
        snapshot: &Snapshot,
        chosen: &mut Vec<Wanted>,
        found: &[Finding],
    ) {
        let size = snapshot.relations.len() + snapshot.routines.len();
        if chosen.len() * size > TRIED {
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

    fn written_down(
        &self,
        snapshot: &Snapshot,
        before: &[Finding],
        chosen: &[Wanted],
        found: &[Finding],
    ) -> Plan {
        let mut plan = Plan::default();
        let mut imagined = Simulation::new(snapshot.clone(), self.runner);
        for wanted in in_order(chosen) {
            (self.interrupts)();
            let back = undo(&wanted.statement, &imagined, self.written);
            // What an earlier statement has made needless is left out.
            if imagined.carry_out(&wanted.statement) {
                plan.steps.push(Step::statement(&wanted, back));
                plan.chosen.push(wanted.statement);
            }
        }
        let left: HashSet<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        let gone: Vec<&Finding> = before
            .iter()
            .filter(|f| self.mends(f) && !left.contains(f.fingerprint.as_str()))
            .collect();
        plan.mends = gone.iter().map(|f| f.fingerprint.clone()).collect();
        for finding in gone {
            plan.about.entry(finding.subject()).or_default().push(finding.fingerprint.clone());
        }
        plan.steps.extend(found.iter().filter(|f| self.mends(f)).map(Step::proposal));
        plan
    }
}

impl Statement {
    /// Whether this one, made of many, has that one in it.
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

/// Whether a routine's path has become unsafe for one more reason, which the guard would refuse.
fn spoils_a_path(before: &[Finding], after: &Finding) -> bool {
    let reasons = |finding: &Finding| -> HashSet<String> {
        let all = finding.evidence["reasons"].as_array().into_iter().flatten();
        all.map(|reason| format!("{} {} {}", reason["reason"], reason["schema"], reason["role"]))
            .collect()
    };
    let was = before.iter().find(|f| f.about() == after.about());
    was.is_some_and(|was| !reasons(after).is_subset(&reasons(was)))
}

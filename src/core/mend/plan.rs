//! The plan: which statements, in which order.

use super::apply::Imagined;
use super::statement::{AclStatement, Change, Mend, RoutineChange, Securable, Statement, Verb, repeatable};
use super::undo::{Written, undo};
use crate::catalog::{Object, ObjectId, Oid, Snapshot};
use crate::contract::Severity;
use crate::finding::{Finding, Subject};
use crate::rules::Rule;
use std::collections::{HashMap, HashSet};

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rules whose findings it mends, in the order of the contract's sections.
    pub rules: Vec<&'static Rule>,
    /// What it is about, by its identity.
    pub object: String,
    /// The findings, a sentence each.
    pub why: Vec<String>,
    /// Their fingerprints.
    pub findings: Vec<String>,
    /// A statement that can be run twice; for what a person decides a comment.
    pub statement: String,
    /// The statement that takes it back; `None` where there is none.
    pub undo: Option<String>,
    /// What may go wrong: `low`, `medium` or `high`, and a few words.
    pub risk: &'static str,
    /// What a person decides.
    pub is_proposal: bool,
}

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
    pub(super) chosen: Vec<Statement>,
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

/// A statement with the findings that ask for it.
#[derive(Debug, Clone)]
struct Wanted {
    statement: Statement,
    findings: Vec<Finding>,
}

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
            let Some(culprit) = self.culprit(snapshot, before, &found, &in_order(&chosen)) else { break };
            let parts: Vec<Statement> =
                chosen.iter().filter(|w| culprit.covers(&w.statement)).map(|w| w.statement.clone()).collect();
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

    /// The statements of findings that nobody has chosen yet, of the first phase that has any: they may make those of later phases needless.
    fn fresh(&self, found: &[Finding], chosen: &[Wanted], rejected: &[Statement]) -> Vec<Wanted> {
        // The same text may be needed again in a later phase: a GRANT to whom the object belonged when it was first said.
        let key = |statement: &Statement| (phase(statement), statement.to_string());
        let mut known: HashSet<(u8, String)> = chosen.iter().map(|w| key(&w.statement)).collect();
        known.extend(rejected.iter().map(key));
        let mut fresh: Vec<Wanted> = Vec::new();
        for finding in found.iter().filter(|f| self.mends(f)) {
            (self.interrupts)();
            for statement in finding.mend.statements() {
                if known.insert(key(statement)) {
                    fresh.push(Wanted { statement: statement.clone(), findings: vec![finding.clone()] });
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
        let mut imagined = Imagined::new(snapshot.clone(), self.runner);
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
            .filter(|w| matches!(w.statement, Statement::Other(Change::Guard(_), _)))
            .flat_map(|w| w.findings.iter().map(|f| f.fingerprint.as_str()))
            .collect();
        let mut found = (self.judge)(&self.imagined(snapshot, statements));
        found.retain(|f| !mended.contains(f.fingerprint.as_str()));
        found
    }

    /// The first statement after which there is an error that was not there before and that nothing mends.
    fn culprit(&self, snapshot: &Snapshot, before: &[Finding], found: &[Finding], order: &[Wanted]) -> Option<Statement> {
        let known: HashSet<_> = before.iter().map(Finding::about).collect();
        let is_new = |f: &Finding| f.severity == Severity::Error && !known.contains(&f.about());
        let new = found.iter().find(|f| is_new(f) || spoils_a_path(before, f))?;
        let is_there = |first: usize| self.after(snapshot, &order[..first]).iter().any(|f| f.fingerprint == new.fingerprint);
        let (mut without, mut with) = (0, order.len());
        while with - without > 1 {
            let middle = without.midpoint(with);
            if is_there(middle) { with = middle } else { without = middle }
        }
        order.get(with.checked_sub(1)?).map(|w| w.statement.clone())
    }

    /// Leaves out what mends nothing that it was chosen for.
    fn without_the_useless(&self, snapshot: &Snapshot, chosen: &mut Vec<Wanted>, found: &mut Vec<Finding>) {
        let left: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        let useful: Vec<Wanted> =
            chosen.iter().filter(|w| w.findings.iter().any(|f| !left.contains(&f.fingerprint))).cloned().collect();
        if useful.len() == chosen.len() {
            return;
        }
        let then = self.after(snapshot, &in_order(&useful));
        if then.iter().all(|f| left.contains(&f.fingerprint)) {
            (*chosen, *found) = (useful, then);
        }
    }

    /// Leaves out what nothing is lost without, where trying each is no matter of minutes.
    fn without_the_needless(&self, snapshot: &Snapshot, chosen: &mut Vec<Wanted>, found: &[Finding]) {
        let size = snapshot.relations.len() + snapshot.routines.len();
        if chosen.len() * size > TRIED {
            return;
        }
        let left: HashSet<String> = found.iter().map(|f| f.fingerprint.clone()).collect();
        for place in (0..chosen.len()).rev() {
            (self.interrupts)();
            let mut without = chosen.clone();
            without.remove(place);
            if self.after(snapshot, &in_order(&without)).iter().all(|f| left.contains(&f.fingerprint)) {
                *chosen = without;
            }
        }
    }

    fn written_down(&self, snapshot: &Snapshot, before: &[Finding], chosen: &[Wanted], found: &[Finding]) -> Plan {
        let mut plan = Plan::default();
        let mut imagined = Imagined::new(snapshot.clone(), self.runner);
        for wanted in in_order(chosen) {
            (self.interrupts)();
            let back = undo(&wanted.statement, &imagined, self.written);
            // What an earlier statement has made needless is left out.
            if imagined.carry_out(&wanted.statement) {
                plan.steps.push(step(&wanted, back));
                plan.chosen.push(wanted.statement);
            }
        }
        let left: HashSet<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        let gone: Vec<&Finding> = before.iter().filter(|f| self.mends(f) && !left.contains(f.fingerprint.as_str())).collect();
        plan.mends = gone.iter().map(|f| f.fingerprint.clone()).collect();
        for finding in gone {
            plan.about.entry(finding.subject()).or_default().push(finding.fingerprint.clone());
        }
        plan.steps.extend(found.iter().filter(|f| self.mends(f)).map(proposal));
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
        all.map(|reason| format!("{} {} {}", reason["reason"], reason["schema"], reason["role"])).collect()
    };
    let was = before.iter().find(|f| f.about() == after.about());
    after.rule.id == "security_definer_search_path" && was.is_some_and(|was| !reasons(after).is_subset(&reasons(was)))
}

/// Where a statement stands in a plan: what there must be first, then what closes something, then what opens.
fn phase(statement: &Statement) -> u8 {
    match statement {
        Statement::Other(change, _) => match change {
            Change::Guard(_) | Change::DropRoutine(..) => 0,
            Change::AddRole(_) | Change::AlterRole { .. } => 1,
            Change::EndMembership(_) => 2,
            Change::AddSchema(_) | Change::Own { object: ObjectId::Schema(_), .. } => 3,
            Change::RevokeDefault { .. } => 4,
            Change::AddRelation(..) => 5,
            // What a client owns in a schema spoils every path through it.
            Change::Own { definer: false, .. } => 7,
            // A path is judged for the owner of the routine: the one that is safe for the next owner comes first.
            Change::AlterRoutine(..) => 8,
            Change::Own { definer: true, .. } => 9,
            Change::DropPolicy(_) | Change::PolicyRoles(..) => 10,
            // A policy that is gone needs no row security.
            Change::EnableRowSecurity(_) | Change::ForceRowSecurity(_) => 11,
        },
        Statement::Acl(AclStatement { verb: Verb::Grant | Verb::GrantWithOption, .. }) => 12,
        Statement::Acl(_) => 6,
    }
}

/// The statements in the order of a plan, those for many roles or privileges as one.
fn in_order(chosen: &[Wanted]) -> Vec<Wanted> {
    let mut ordered: Vec<Wanted> = Vec::new();
    let mut places: HashMap<(Securable, Verb), Vec<usize>> = HashMap::new();
    // The privileges of one role on one object first.
    for wanted in chosen {
        let Statement::Acl(statement) = &wanted.statement else {
            ordered.push(wanted.clone());
            continue;
        };
        let same = places.entry((statement.on.clone(), statement.verb)).or_default();
        let of_role = same.iter().find(|i| match &ordered[**i].statement {
            Statement::Acl(known) => known.grantees == statement.grantees,
            Statement::Other(..) => false,
        });
        match of_role.copied() {
            Some(i) => {
                if let Statement::Acl(known) = &mut ordered[i].statement {
                    known.privileges |= statement.privileges;
                    known.cascade |= statement.cascade;
                }
                ordered[i].findings.extend(wanted.findings.iter().cloned());
            }
            None => {
                same.push(ordered.len());
                ordered.push(wanted.clone());
            }
        }
    }
    // Then the roles that get or lose the same.
    let mut merged: Vec<Wanted> = Vec::new();
    let mut places: HashMap<AclStatement, usize> = HashMap::new();
    for wanted in ordered {
        if let Statement::Acl(statement) = &wanted.statement {
            let key = AclStatement { grantees: vec![], ..statement.clone() };
            if let Some(i) = places.get(&key) {
                let known = &mut merged[*i];
                if let Statement::Acl(known) = &mut known.statement {
                    known.grantees.extend(statement.grantees.iter().cloned());
                }
                known.findings.extend(wanted.findings);
                continue;
            }
            places.insert(key, merged.len());
        }
        merged.push(wanted);
    }
    // What is done to one object's ACL stands together, and roles keep what is declared before PUBLIC loses it.
    let mut objects: HashMap<ObjectId, usize> = HashMap::new();
    merged.sort_by_cached_key(|wanted| {
        let (place, after) = match &wanted.statement {
            Statement::Acl(s) if s.verb != Verb::Grant => {
                let next = objects.len();
                (*objects.entry(s.on.id).or_insert(next), s.verb != Verb::Keep)
            }
            _ => (0, false),
        };
        (phase(&wanted.statement), place, after)
    });
    merged
}

fn step(wanted: &Wanted, undo: Option<String>) -> Step {
    let first: &Finding = &wanted.findings[0];
    let mut rules: Vec<&'static Rule> = Vec::new();
    for finding in &wanted.findings {
        if !rules.contains(&finding.rule) {
            rules.push(finding.rule);
        }
    }
    let mut why: Vec<String> = wanted.findings.iter().map(|f| f.detail.clone()).collect();
    why.dedup();
    Step {
        rules,
        object: first.object.identity.clone(),
        why,
        findings: wanted.findings.iter().map(|f| f.fingerprint.clone()).collect(),
        statement: repeatable(&wanted.statement),
        undo,
        risk: risk(&wanted.statement),
        is_proposal: false,
    }
}

/// What only a person can decide, as a comment.
fn proposal(finding: &Finding) -> Step {
    let text = match &finding.mend {
        Mend::Proposal(text) | Mend::Alone(text) => text.clone(),
        // Tried on the copy, and left out of the plan.
        Mend::Statements(_) => {
            format!("Does not mend it by itself, or would bring something else:\n{}", finding.mend.sql().unwrap_or_default())
        }
        Mend::Unknown => finding.rule.mend.to_owned(),
    };
    let Object { identity, .. } = &finding.object;
    Step {
        rules: vec![finding.rule],
        object: identity.clone(),
        why: vec![finding.detail.clone()],
        findings: vec![finding.fingerprint.clone()],
        statement: text.lines().map(|line| format!("-- {line}")).collect::<Vec<_>>().join("\n"),
        undo: None,
        risk: "a person decides",
        is_proposal: true,
    }
}

/// What may go wrong.
fn risk(statement: &Statement) -> &'static str {
    match statement {
        Statement::Acl(s) => match s.verb {
            Verb::Grant | Verb::Keep | Verb::GrantWithOption => "low: opens what the contract declares, and nothing else",
            Verb::Revoke => "medium: whoever lives by this privilege without the contract is refused",
            Verb::RevokeGrantOption => "medium: what others were granted by it is gone too",
        },
        Statement::Other(change, _) => match change {
            Change::Guard(_) => "low: the guard watches again",
            Change::AddRole(_) => "low: a role that nobody logs in as",
            Change::AlterRole { on: true, .. } => "medium: the role can do what the attribute allows",
            Change::AlterRole { on: false, .. } => "medium: the role can no longer do what the attribute allows",
            Change::EndMembership(_) => "medium: whoever lives by the membership is refused",
            Change::AddSchema(_) | Change::AddRelation(..) => "low: adds what is not there",
            Change::RevokeDefault { .. } => "low: what there is already stays as it is",
            Change::AlterRoutine(_, actions) if matches!(actions[..], [RoutineChange::SearchPath(_)]) => {
                "medium: names in the body are looked up along this path"
            }
            Change::AlterRoutine(..) => "medium: the body runs under other settings or rights",
            Change::DropRoutine(..) => "medium: whoever calls the routine is refused",
            Change::Own { .. } => "medium: the former owner loses what only an owner can do",
            Change::EnableRowSecurity(_) => "high: a role without a policy sees no rows, and no error says so",
            Change::ForceRowSecurity(_) => "high: the owner's views and routines obey the policies too",
            Change::DropPolicy(_) | Change::PolicyRoles(..) => "medium: rows that the policy opened are closed",
        },
    }
}

//! The search for the statements of a plan: the fixes of all findings, without those that cause a
//! problem, that the caller has no right to execute, or that are not needed.

use super::effects::{acl_of, lost, opened};
use super::guarded::Guarded;
use super::order::{Wanted, in_order, phase, sort};
use super::rights::Rights;
use super::simulate::Simulation;
use super::undo::PolicySql;
use super::uses::{Code, OwnerUse, Uses};
use crate::access::Access;
use crate::catalog::{Acl, ObjectId, ObjectKind, Oid, PUBLIC, Snapshot};
use crate::contract::{Contract, GuardAction, Severity};
use crate::finding::{About, Finding};
use crate::fix::{AclStatement, Change, Grantee, Securable, Statement, Verb};
use crate::rules::Context;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The input of a plan.
pub struct Planner<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// Returns the findings in a catalog.
    pub audit: &'a dyn Fn(&Snapshot) -> Vec<Finding>,
    /// Selects the findings to fix.
    pub wants: &'a dyn Fn(&Finding) -> bool,
    /// Returns the CREATE POLICY of an existing policy.
    pub policy_sql: PolicySql<'a>,
    /// Reads the code in the database.
    pub code: &'a dyn Fn() -> Code,
    /// The role that will execute the plan.
    pub runner: Oid,
    /// Called repeatedly; unwinds if the query is canceled.
    pub interrupts: &'a dyn Fn(),
}

impl Planner<'_> {
    /// Whether the plan fixes a finding: not information, which includes the platform's objects.
    pub(super) fn is_wanted(&self, finding: &Finding) -> bool {
        finding.severity > Severity::Info && (self.wants)(finding)
    }

    /// Whether the guard blocks a finding that a transaction adds, whatever the severity of its
    /// rule in the contract.
    fn is_blocked(&self, finding: &Finding) -> bool {
        let declared = self.contract.rules.get(finding.rule.id);
        let action = declared.and_then(|r| r.guard).unwrap_or(finding.rule.guard);
        let worst = declared.and_then(|r| r.severity).unwrap_or(finding.rule.severity);
        finding.severity == Severity::Error
            || (action == GuardAction::Block
                && finding.rule.severity == Severity::Error
                && finding.severity == worst
                && finding.object.managed_by.is_none())
    }
}

impl Planner<'_> {
    fn in_context<R>(&self, snapshot: &Snapshot, work: impl FnOnce(&Context<'_>) -> R) -> R {
        let access = Access::new(snapshot);
        work(&Context::new(self.contract, snapshot, &access, self.interrupts))
    }

    /// Returns the privileges that bodies use.
    fn uses(&self, snapshot: &Snapshot) -> Uses {
        self.in_context(snapshot, |cx| Uses::of(cx, &(self.code)()))
    }
}

/// Type and identity of an object.
type Place = (&'static str, String);

/// Something that the statements of a plan must not cause: an error, an opening, a loss.
struct Problem {
    object: Place,
    /// Identifies it in every state.
    key: String,
    /// One sentence.
    why: String,
}

impl Problem {
    fn of(finding: &Finding) -> Self {
        Self {
            object: place_of(finding),
            key: format!("{:?}", finding.about().collect::<Vec<_>>()),
            why: finding.detail.clone(),
        }
    }
}

/// The catalog after some statements, and its findings.
#[derive(Default)]
pub(super) struct State {
    pub snapshot: Snapshot,
    pub found: Vec<Rc<Finding>>,
}

/// A statement that is not in the plan because it causes a problem.
pub(super) struct Rejected {
    pub statement: Statement,
    /// The problem, as one sentence.
    pub why: String,
}

/// The statements that have been chosen so far.
pub(super) struct Search<'a> {
    planner: &'a Planner<'a>,
    snapshot: &'a Snapshot,
    before: &'a [Rc<Finding>],
    pub chosen: Vec<Wanted>,
    pub rejected: Vec<Rejected>,
    /// The privileges that bodies use.
    pub uses: Uses,
    guarded: Guarded<'a>,
    /// The state after the chosen statements.
    pub state: State,
}

impl<'a> Search<'a> {
    /// Returns the result for a catalog; `before` contains its findings.
    pub(super) fn run(
        planner: &'a Planner<'a>,
        snapshot: &'a Snapshot,
        before: &'a [Rc<Finding>],
    ) -> Self {
        let mut search = Self::choose(planner, snapshot, before);
        search.remove_ineffective();
        search.remove_unnecessary();
        search
    }

    /// Returns the result with statements that are not needed.
    pub(super) fn choose(
        planner: &'a Planner<'a>,
        snapshot: &'a Snapshot,
        before: &'a [Rc<Finding>],
    ) -> Self {
        let state = State { snapshot: snapshot.clone(), found: before.to_vec() };
        let has_fixes = |f: &Rc<Finding>| planner.is_wanted(f) && !f.fix.statements().is_empty();
        let uses =
            if before.iter().any(has_fixes) { planner.uses(snapshot) } else { Uses::default() };
        let guarded = Guarded::new(planner.contract, snapshot, before, planner.interrupts);
        let (chosen, rejected) = (vec![], vec![]);
        let mut search = Self { planner, snapshot, before, chosen, rejected, uses, guarded, state };
        loop {
            search.extend();
            if !search.reject() {
                return search;
            }
        }
    }

    /// Chooses the fixes of all findings, and of the findings that the fixes add. Ends because each
    /// round adds a statement, and a finding has the same fixes each time.
    fn extend(&mut self) {
        loop {
            let fresh = self.fresh();
            if fresh.is_empty() {
                return;
            }
            self.chosen.extend(fresh);
            self.execute();
        }
    }

    /// Replaces the state by the one after the chosen statements. The earlier one is freed first:
    /// a state is as large as the catalog.
    fn execute(&mut self) {
        self.state = State::default();
        self.state = self.after(&self.chosen);
    }

    /// Returns the statements that are not chosen yet, of the first phase that has any: they may
    /// make statements of later phases unnecessary.
    fn fresh(&self) -> Vec<Wanted> {
        // The same text may be needed again in a later phase: a GRANT to the former owner.
        let key = |statement: &Statement| (phase(statement), statement.to_string());
        let chosen = self.chosen.iter().map(|w| &w.statement);
        let mut known: HashSet<(u8, String)> =
            chosen.chain(self.rejected.iter().map(|r| &r.statement)).map(key).collect();
        let Planner { contract, interrupts, runner, .. } = *self.planner;
        let rights = Rights::of(&self.state.snapshot, runner);
        let access = Access::new(&self.state.snapshot);
        let cx = Context::new(contract, &self.state.snapshot, &access, interrupts);
        let mut fresh: Vec<Wanted> = Vec::new();
        let mut places: HashMap<(u8, String), usize> = HashMap::new();
        for finding in self.state.found.iter().filter(|f| self.planner.is_wanted(f)) {
            (self.planner.interrupts)();
            for fix in finding.fix.statements() {
                let kept = self.kept(&cx, fix);
                for statement in kept.iter().chain([fix]) {
                    let key = key(statement);
                    if let Some(place) = places.get(&key) {
                        fresh[*place].findings.push(Rc::clone(finding));
                    } else if !known.contains(&key) && rights.obstacle(statement).is_none() {
                        places.insert(key.clone(), fresh.len());
                        known.insert(key);
                        fresh.push(Wanted {
                            statement: statement.clone(),
                            findings: vec![Rc::clone(finding)],
                        });
                    }
                }
            }
        }
        let first = fresh.iter().map(|w| phase(&w.statement)).min();
        fresh.retain(|w| Some(phase(&w.statement)) == first);
        fresh
    }

    /// Returns the grants that keep what an owner uses and has through PUBLIC only, for a statement
    /// that revokes it from PUBLIC. The contract restricts an owner nowhere.
    fn kept(&self, cx: &Context<'_>, statement: &Statement) -> Vec<Statement> {
        let Statement::Acl(revoke) = statement else { return vec![] };
        let is_from_public = revoke.grantees.iter().any(|grantee| grantee.oid == PUBLIC);
        if revoke.verb != Verb::Revoke || !is_from_public || !revoke.on.columns.is_empty() {
            return vec![];
        }
        let acl = acl_on(cx.snapshot, revoke.on.id).unwrap_or_default();
        let grant = |OwnerUse { role, privileges, columns }: OwnerUse| {
            let lost = privileges & revoke.privileges & !cx.access.granted(role, &acl);
            let grantee = Grantee { oid: role, sql: cx.snapshot.grantee(role) };
            let on = Securable { columns, ..revoke.on.clone() };
            (!lost.is_empty()).then(|| {
                Statement::Acl(AclStatement {
                    verb: Verb::Keep,
                    privileges: lost,
                    on,
                    grantees: vec![grantee],
                    cascade: false,
                    then: vec![],
                })
            })
        };
        self.uses.of_owners(cx, revoke.on.id).into_iter().filter_map(grant).collect()
    }

    /// Returns the state after some statements, in the order of a plan.
    fn after(&self, statements: &[Wanted]) -> State {
        self.after_sequence(&in_order(statements))
    }

    /// Returns the state after some statements, in this order.
    fn after_sequence(&self, statements: &[Wanted]) -> State {
        let mut simulation = Simulation::new(self.snapshot.clone(), self.planner.runner);
        for wanted in statements {
            (self.planner.interrupts)();
            simulation.execute(&wanted.statement);
        }
        let snapshot = simulation.complete();
        // The guard's own state is not simulated.
        let repaired: HashSet<&str> = statements
            .iter()
            .filter(|w| matches!(&w.statement, Statement::Ddl(ddl) if ddl.change == Change::Guard))
            .flat_map(|w| w.findings.iter().map(|f| f.fingerprint.as_str()))
            .collect();
        let mut found = (self.planner.audit)(&snapshot);
        found.retain(|f| !repaired.contains(f.fingerprint.as_str()));
        State { snapshot, found: found.into_iter().map(Rc::new).collect() }
    }

    /// Returns what is worse in a state than in the catalog: errors, what the guard would reject,
    /// openings, losses.
    fn problems(&self, state: &State) -> Vec<Problem> {
        let Planner { contract, interrupts, .. } = *self.planner;
        let earlier: HashMap<About<'_>, &Rc<Finding>> =
            self.before.iter().flat_map(|f| f.about().map(move |about| (about, f))).collect();
        let is_worse = |finding: &&Finding| {
            let mut about = finding.about();
            about.any(|about| earlier.get(&about).is_none_or(|was| adds_reason(was, finding)))
        };
        let found = state.found.iter().map(AsRef::as_ref);
        let blocked = found.filter(|f| self.planner.is_blocked(f)).filter(is_worse);
        let rejected = self.guarded.rejected(&state.snapshot, &state.found);
        let mut problems: Vec<Problem> = blocked.chain(&rejected).map(Problem::of).collect();
        let effects = opened(contract, self.snapshot, &state.snapshot, interrupts)
            .into_iter()
            .chain(lost(contract, self.snapshot, &state.snapshot, interrupts));
        let lost_by_bodies = self.planner.in_context(&state.snapshot, |cx| self.uses.lost(cx));
        problems.extend(effects.chain(lost_by_bodies).map(|effect| Problem {
            object: effect.object,
            key: effect.detail.clone(),
            why: effect.detail,
        }));
        problems
    }

    /// Rejects the statements that cause problems; returns whether there are any. Of a REVOKE of
    /// several privileges, those that cause none are still revoked.
    fn reject(&mut self) -> bool {
        let problems = self.problems(&self.state);
        if problems.is_empty() {
            return false;
        }
        let mut why = self.culprits_about(&problems);
        if why.is_empty() {
            why.extend(self.culprit_in_sequence(&problems));
        }
        if why.is_empty() {
            return false;
        }
        let mut kept = Vec::new();
        for (i, wanted) in std::mem::take(&mut self.chosen).into_iter().enumerate() {
            match why.get(&i) {
                Some(why) => {
                    kept.extend(self.parts(&wanted));
                    self.rejected.push(Rejected { statement: wanted.statement, why: why.clone() });
                }
                None => kept.push(wanted),
            }
        }
        self.chosen = kept;
        self.execute();
        true
    }

    /// Returns the parts of a statement that have not been rejected by themselves.
    fn parts(&self, wanted: &Wanted) -> Vec<Wanted> {
        let Statement::Acl(statement) = &wanted.statement else { return vec![] };
        let parts = statement.parts().into_iter().map(Statement::Acl);
        let is_rejected = |part: &Statement| self.rejected.iter().any(|r| r.statement == *part);
        let with = |statement| Wanted { statement, findings: wanted.findings.clone() };
        parts.filter(|part| !is_rejected(part)).map(with).collect()
    }

    /// Returns the statements about the objects with problems that cause these problems, by their
    /// position, and the problems. All objects are searched at the same time, so that the cost does
    /// not depend on their number: in each round, half of the suspects of each object are left out.
    fn culprits_about(&self, problems: &[Problem]) -> HashMap<usize, String> {
        let mut suspects: HashMap<&Place, Vec<usize>> =
            problems.iter().map(|p| (&p.object, vec![])).collect();
        for (i, wanted) in self.chosen.iter().enumerate() {
            for place in self.places_of(wanted) {
                if let Some(of_object) = suspects.get_mut(&place) {
                    of_object.push(i);
                }
            }
        }
        suspects.retain(|_, of_object| !of_object.is_empty());
        let has_problem = |left_out: &HashSet<usize>| -> HashSet<Place> {
            let state = self.after(&self.without(left_out));
            self.problems(&state).into_iter().map(|p| p.object).collect()
        };
        while suspects.values().any(|of_object| of_object.len() > 1) {
            let half = |of_object: &Vec<usize>| of_object.len().div_ceil(2);
            let left_out = suspects.values().flat_map(|s| s[..half(s)].iter().copied()).collect();
            let still = has_problem(&left_out);
            for (place, of_object) in suspects.iter_mut().filter(|(_, s)| s.len() > 1) {
                let (first, second) = of_object.split_at(half(of_object));
                *of_object = if still.contains(*place) { second } else { first }.to_vec();
            }
        }
        let left_out = suspects.values().flatten().copied().collect();
        let still = has_problem(&left_out);
        suspects.retain(|place, _| !still.contains(*place));
        let culprit = |p: &Problem| Some((*suspects.get(&p.object)?.first()?, p.why.clone()));
        problems.iter().rev().filter_map(culprit).collect()
    }

    /// Returns the statement with which one of the problems begins when the statements are executed
    /// one after the other. It sorts the chosen statements. The states that are computed for one
    /// problem also narrow the search for the others: without the first culprit, these may not
    /// begin at all.
    fn culprit_in_sequence(&mut self, problems: &[Problem]) -> Option<(usize, String)> {
        sort(&mut self.chosen);
        // Each problem is absent after the first number of statements, and present after the
        // second.
        let mut ranges: Vec<(usize, usize)> = vec![(0, self.chosen.len()); problems.len()];
        loop {
            let first = ranges.iter().enumerate().min_by_key(|(_, (_, present))| *present)?;
            let (problem, &(absent, present)) = first;
            if present - absent <= 1 {
                return Some((present.checked_sub(1)?, problems[problem].why.clone()));
            }
            let middle = absent.midpoint(present);
            let state = self.after_sequence(&self.chosen[..middle]);
            let keys: HashSet<String> = self.problems(&state).into_iter().map(|p| p.key).collect();
            for (range, problem) in ranges.iter_mut().zip(problems) {
                if range.0 < middle && middle < range.1 {
                    *if keys.contains(&problem.key) { &mut range.1 } else { &mut range.0 } = middle;
                }
            }
        }
    }

    /// Returns the objects that a statement is about: those of its findings, and the table of a
    /// policy.
    fn places_of(&self, wanted: &Wanted) -> HashSet<Place> {
        let mut places: HashSet<Place> = wanted.findings.iter().map(|f| place_of(f)).collect();
        let target = match &wanted.statement {
            Statement::Acl(acl) => Some(acl.on.id),
            Statement::Ddl(ddl) => match &ddl.change {
                Change::DropPolicy(oid) | Change::PolicyRoles(oid, _) => self
                    .snapshot
                    .policies
                    .iter()
                    .find(|p| p.oid == *oid)
                    .map(|p| ObjectId::Relation(p.relation)),
                _ => None,
            },
        };
        if let Some(ObjectId::Relation(oid)) = target
            && let Some(relation) = self.snapshot.relation(oid)
        {
            let identity = self.snapshot.relation_identity(relation);
            places.insert((relation.kind.object_type(), identity));
        }
        places
    }

    /// Returns the chosen statements without some.
    fn without(&self, left_out: &HashSet<usize>) -> Vec<Wanted> {
        let kept = self.chosen.iter().enumerate().filter(|(i, _)| !left_out.contains(i));
        kept.map(|(_, wanted)| wanted.clone()).collect()
    }

    /// Leaves out some statements where the result is no worse; returns whether it is not.
    fn leave_out(&mut self, left_out: &HashSet<usize>) -> bool {
        let kept = self.without(left_out);
        let state = self.after(&kept);
        let is_as_good = self.added(&state).is_empty() && self.problems(&state).is_empty();
        if is_as_good {
            (self.chosen, self.state) = (kept, state);
        }
        is_as_good
    }

    /// Returns the objects of the findings that exist in a state only, and not in the current one.
    fn added(&self, state: &State) -> HashSet<Place> {
        let left: HashSet<&str> = self.state.found.iter().map(|f| f.fingerprint.as_str()).collect();
        let added = state.found.iter().filter(|f| !left.contains(f.fingerprint.as_str()));
        added.map(|f| place_of(f)).collect()
    }

    /// Removes statements that fix none of the findings for which they were chosen.
    fn remove_ineffective(&mut self) {
        let left: HashSet<&str> = self.state.found.iter().map(|f| f.fingerprint.as_str()).collect();
        let fixes_none =
            |w: &Wanted| w.findings.iter().all(|f| left.contains(f.fingerprint.as_str()));
        let positions = self.chosen.iter().enumerate().filter(|(_, w)| fixes_none(w));
        let ineffective: Vec<usize> = positions.map(|(i, _)| i).collect();
        self.remove(ineffective);
    }

    /// Removes statements without which the result is the same: because of other statements, they
    /// are not needed. In each round, one statement of each object is left out.
    fn remove_unnecessary(&mut self) {
        let mut by_object: HashMap<Place, Vec<usize>> = HashMap::new();
        // A privilege that something declared needs is kept, although no finding says so.
        let keeps = |w: &Wanted| matches!(&w.statement, Statement::Acl(s) if s.verb == Verb::Keep);
        for (i, wanted) in self.chosen.iter().enumerate().filter(|(_, w)| !keeps(w)) {
            by_object.entry(place_of(&wanted.findings[0])).or_default().push(i);
        }
        let rounds = by_object.values().map(Vec::len).max().unwrap_or_default();
        let mut unnecessary: Vec<usize> = Vec::new();
        for round in 0..rounds {
            (self.planner.interrupts)();
            let tested: HashMap<&Place, usize> = by_object
                .iter()
                .filter_map(|(place, of_object)| {
                    Some((place, *of_object.get(of_object.len().checked_sub(round + 1)?)?))
                })
                .collect();
            let left_out: HashSet<usize> = tested.values().chain(&unnecessary).copied().collect();
            let state = self.after(&self.without(&left_out));
            let mut hurt = self.added(&state);
            hurt.extend(self.problems(&state).into_iter().map(|p| p.object));
            let is_hurt = |i: usize| !self.places_of(&self.chosen[i]).is_disjoint(&hurt);
            // No finding says that something needed is missing, but it must not be lost.
            let keeps = |i: usize| {
                let statement = &self.chosen[i].statement;
                matches!(statement, Statement::Acl(acl) if acl.verb == Verb::Keep)
            };
            unnecessary.extend(tested.into_values().filter(|i| !is_hurt(*i) && !keeps(*i)));
        }
        unnecessary.sort_unstable();
        self.remove(unnecessary);
    }

    /// Removes those of some statements, given by ascending position, without which the result is
    /// no worse.
    fn remove(&mut self, positions: Vec<usize>) {
        if positions.is_empty() || self.leave_out(&positions.iter().copied().collect()) {
            return;
        }
        if let [_, _, ..] = positions[..] {
            // The second half first, so that the positions of the first stay valid.
            let (first, second) = positions.split_at(positions.len() / 2);
            self.remove(second.to_vec());
            self.remove(first.to_vec());
        }
    }
}

/// Returns the ACL of an object, or its built-in default.
fn acl_on(snapshot: &Snapshot, object: ObjectId) -> Option<Acl> {
    Some(match object {
        ObjectId::Relation(oid) => {
            let relation = snapshot.relation(oid)?;
            acl_of(relation.acl.as_ref(), relation.owner, relation.kind.acl_kind())
        }
        ObjectId::Routine(oid) => {
            let routine = snapshot.routine(oid)?;
            acl_of(routine.acl.as_ref(), routine.owner, ObjectKind::Routine)
        }
        ObjectId::Schema(oid) => {
            let schema = snapshot.schema(oid)?;
            acl_of(schema.acl.as_ref(), schema.owner, ObjectKind::Schema)
        }
        _ => return None,
    })
}

fn place_of(finding: &Finding) -> Place {
    (finding.object.object_type, finding.object.identity.clone())
}

/// Whether a routine's path is unsafe for an additional reason, which the guard would block.
fn adds_reason(was: &Finding, is: &Finding) -> bool {
    let reasons = |finding: &Finding| -> HashSet<[String; 3]> {
        let all = finding.evidence["reasons"].as_array().into_iter().flatten();
        all.map(|reason| ["reason", "schema", "role"].map(|key| reason[key].to_string())).collect()
    };
    !reasons(is).is_subset(&reasons(was))
}

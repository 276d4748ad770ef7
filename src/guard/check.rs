//! What has been changed, as it was without this transaction and as it is now, checked by the
//! rules.

use super::changes::{self, Changed};
use super::plan::Plan;
use super::scope::Scope;
use super::snapshots::{self, Snapshots};
use super::{enforce, transaction};
use crate::catalog::temporary::{self, TemporaryDependency};
use crate::catalog::{self, Freshness, Own};
use crate::pg::heap::{State, interrupts};
use crate::settings;
use crate::store::exemptions::Current;
use crate::store::{contract, lock};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Routine, Snapshot};
use dragonfly_core::contract::GuardAction;
use dragonfly_core::finding::Finding;
use dragonfly_core::guard::{Change, Rejection, exposed, is_excused, is_regression};
use dragonfly_core::rule::{Recheck, Rule};
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::rules::{
    Context, RULES, security_definer_search_path as search_path, security_definer_settings,
};
use dragonfly_core::search_path::{ReasonCode, Verdict};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// When something is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At the end of a command: what no later one is expected to put right.
    Statement,
    /// At the end of the transaction: everything.
    Commit,
}

/// Checks what a command has changed; an error where it is rejected.
pub fn run(changed: &[Changed], moment: Moment, tag: &str) {
    reject_impostors(changed, tag);
    let now = State::now();
    if !Own::is_there(&now) {
        return;
    }
    let committed = now.committed();
    let Some(states) = snapshots_of(changed, &now) else {
        transaction::statement_checked(false, committed, None);
        return;
    };
    // Who holds the commit lock must not wait for other locks.
    let freshness = if moment == Moment::Commit { Freshness::Cached } else { Freshness::Fresh };
    let found = check(Input { states: &states, now: &now, changed, tag, freshness });
    let (at_once, later): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| {
        moment == Moment::Commit || (found.is_settled && found.action == GuardAction::Block)
    });
    transaction::statement_checked(!later.is_empty(), committed, Some(&states.contract));
    enforce::act(at_once.into_iter().map(|found| (found.rejection, found.action)).collect(), tag);
}

/// Both states of what was changed; `None` where they do not differ in anything that rules look at.
fn snapshots_of(changed: &[Changed], now: &State) -> Option<Snapshots> {
    let then = transaction::before();
    snapshots::read(&Scope::of(changed, &then, now), &then, now)
}

/// Checks the whole transaction, in turn with others: two could otherwise pass one by one and
/// together leave what neither would have been allowed. The commit lock is taken when everything
/// else has been done, so that no session waits for a lock while it holds this one. A transaction
/// that is prepared releases it: it may stay for days, and no other could change anything
/// meanwhile.
pub fn before_commit(is_prepared: bool) {
    let changed = changes::all();
    if changed.is_empty() {
        return;
    }
    let now = State::now();
    if !Own::is_there(&now) {
        return reject_disappearance();
    }
    transaction::commits();
    if !transaction::is_relevant() && snapshots_of(&changed, &now).is_none() {
        return;
    }
    let own = Own::find(&now);
    cache_exempt(&changed, &now, &own);
    lock::acquire_commit_lock(&own);
    let fresh = State::now();
    if !transaction::is_settled(&fresh.committed(), &contract::in_force(&fresh, &own)) {
        run(&changes::all(), Moment::Commit, &transaction::subject());
    }
    if is_prepared || drops_lasting_objects(&changed, &now) {
        if matters_to_others(&changed) {
            enforce::cannot_release_commit_lock(is_prepared);
        }
        lock::release_commit_lock(&own);
    }
}

/// Whether a temporary table that is dropped now takes along what lasts and depends on it. That may
/// have to wait for locks: no other session should wait for this one meanwhile.
fn drops_lasting_objects(changed: &[Changed], now: &State) -> bool {
    let is_dropped_with_dependents = |oid: Oid| {
        !temporary::outlives(catalog::PG_CLASS.into(), oid.into())
            && temporary::has_lasting_dependents(now, oid)
    };
    temporary::has_schema()
        && changed
            .iter()
            .any(|c| matches!(c, Changed::Relation(oid) if is_dropped_with_dependents(*oid)))
}

/// Hashing what is exempt may have to wait for locks: before the commit lock is taken, and not
/// while others wait for it.
fn cache_exempt(changed: &[Changed], now: &State, own: &Own) {
    let current = Current::read(now, own, Freshness::Cached);
    if current.is_empty() {
        return;
    }
    let concerned = |catalog: Oid, oid: Oid| {
        catalog::name(catalog, oid).is_some_and(|(schema, name)| current.concern(&schema, &name))
    };
    let objects = changed.iter().filter_map(|one| match *one {
        Changed::Relation(oid) => {
            concerned(catalog::PG_CLASS, oid).then_some(ObjectId::Relation(oid))
        }
        Changed::Routine(oid) => concerned(catalog::PG_PROC, oid).then_some(ObjectId::Routine(oid)),
        _ => None,
    });
    catalog::cache_hashes(now, objects);
}

/// Checks now what a commit would check; an error where it would be rejected.
pub fn as_if_committing() {
    let (changed, now) = (changes::all(), State::now());
    if !changed.is_empty() && Own::is_there(&now) {
        cache_exempt(&changed, &now, &Own::find(&now));
        run(&changed, Moment::Commit, &transaction::subject());
    }
}

/// Whether what another transaction does could depend on it: schemas, SECURITY DEFINER routines,
/// what stands in schemas.
fn matters_to_others(changed: &[Changed]) -> bool {
    let (then, now) = (transaction::before(), State::now());
    let scope = Scope::of(changed, &then, &now);
    let Some(states) = snapshots::read(&scope, &then, &now) else { return false };
    states.plan != Plan::Changed
        || !scope.placed.is_empty()
        || states.after.routines.iter().any(|r| r.security_definer)
}

/// The extension is gone. A superuser may drop it by its name, unless the guard is hardened;
/// nothing else may take it along.
fn reject_disappearance() {
    if Own::is_there(&transaction::before())
        && (settings::is_hardened() || !transaction::drops_guard())
    {
        enforce::drops_guard(&transaction::last_started());
    }
}

/// What is rejected, if the contract wants that.
struct Found {
    rejection: Rejection,
    /// What the contract wants done about it.
    action: GuardAction,
    /// Whether no later statement is expected to put it right.
    is_settled: bool,
}

/// What one check is about.
struct Input<'a> {
    states: &'a Snapshots,
    now: &'a State,
    changed: &'a [Changed],
    /// The command.
    tag: &'a str,
    /// Of the hashes of what is exempt.
    freshness: Freshness,
}

fn check(input: Input<'_>) -> Vec<Found> {
    let Input { states, now, changed, tag, freshness } = input;
    let Snapshots { before, after, contract, .. } = states;
    let wide = states.plan != Plan::Changed;
    let (access_before, access_after) = (Access::new(before), Access::new(after));
    let old = Context::new(contract, before, &access_before, &interrupts);
    let new = Context::new(contract, after, &access_after, &interrupts);

    let pasts: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
    let noted = changed
        .iter()
        .filter_map(|c| if let Changed::Routine(oid) = c { Some(*oid) } else { None });
    // Written directly, or by an unknown way: another row is another routine.
    let written = after
        .routines
        .iter()
        .filter(|r| pasts.get(&r.oid).is_none_or(|past| *past != *r))
        .map(|r| r.oid);
    let routines: HashSet<Oid> = noted.chain(written).collect();
    // In snapshots that show more, what no command changed is checked for what has changed around
    // it.
    let is_changed = |r: &Routine| !wide || routines.contains(&r.oid);
    let exempt = Exempt { now, freshness, current: OnceCell::new() };
    let mut found = Vec::new();
    for routine in after
        .routines
        .iter()
        .filter(|r| r.security_definer && is_changed(r) && !is_excused(&old, &new, r))
    {
        let past =
            pasts.get(&routine.oid).copied().filter(|past| compares(&old, &new, past, routine));
        found.extend(setting_checks(&new, routine, past, &exempt));
        found.extend(path_check(&new, routine, past, tag).filter(|_| !exempt.path(&new, routine)));
    }
    if wide {
        let mut exposed = exposed(&old, &new, &routines);
        exposed.retain(|e| !exempt.path(&new, e.routine));
        // A schema that is renamed or dropped may have a successor, or the paths that name it may
        // follow.
        let settled = exposed
            .iter()
            .any(|e| e.assessment.reasons.iter().any(|r| r.code != ReasonCode::MissingSchema));
        let rejection = Rejection::of_exposed(&new, &exposed, tag);
        found.extend(rejection.map(|rejection| Found {
            rejection,
            action: new.guard_action(&search_path::RULE),
            is_settled: settled,
        }));
    }
    if temporary::has_schema() {
        found.extend(temporary_dependencies(&new, changed, now));
    }
    let change = Change::new(&old, &new);
    let moved = names(before) != names(after);
    for rule in RULES.iter().copied().filter(|rule| applies(rule, states, moved)) {
        for worse in
            change.worse(rule).into_iter().filter(|worse| !exempt.finding(&new, &worse.finding))
        {
            let rejection = Rejection::of_regression(&worse, tag);
            found.push(Found { rejection, action: worse.action, is_settled: worse.settled });
        }
    }
    found
}

/// What somebody has accepted; read when something is about to be refused, which is seldom.
struct Exempt<'s> {
    now: &'s State,
    freshness: Freshness,
    current: OnceCell<Current<'s>>,
}

impl Exempt<'_> {
    /// Whether a finding is accepted. Then the transaction is judged once more when it commits, for
    /// by then it may be no longer.
    fn finding(&self, cx: &Context<'_>, finding: &Finding) -> bool {
        let current = self
            .current
            .get_or_init(|| Current::read(self.now, &Own::find(self.now), self.freshness));
        // As bad as the audit calls it.
        let severity = finding.severity.min(cx.severity(finding.rule));
        let accepted =
            !current.is_empty() && current.accept(&Finding { severity, ..finding.clone() });
        if accepted {
            transaction::leave_for_commit();
        }
        accepted
    }

    /// Whether what the audit says about a routine's path is accepted.
    fn path(&self, cx: &Context<'_>, routine: &Routine) -> bool {
        search_path::finding(cx, routine).is_some_and(|finding| self.finding(cx, &finding))
    }
}

/// What lasts, depends on a temporary object, and takes along what the contract is about when that
/// is dropped; or lets others call what only this session should.
fn temporary_dependencies(cx: &Context<'_>, changed: &[Changed], now: &State) -> Vec<Found> {
    let then = transaction::before();
    let mut found = Vec::new();
    for one in changed {
        let object = match *one {
            Changed::Relation(oid) => (catalog::PG_CLASS, oid),
            Changed::Routine(oid) => (catalog::PG_PROC, oid),
            Changed::Other(catalog, oid) | Changed::Object(catalog, oid) => (catalog, oid),
            _ => continue,
        };
        if !temporary::outlives(object.0.into(), object.1.into()) {
            continue;
        }
        let dependency = temporary::dependency(now, object);
        if dependency == TemporaryDependency::None
            || dependency == temporary::dependency(&then, object)
        {
            continue;
        }
        if dependency == TemporaryDependency::TemporaryDefiner
            || temporary::dropped_with(now, object)
                .into_iter()
                .any(|object| is_promised(cx, object))
        {
            let rejection = Rejection::of_temporary_dependency(&catalog::description(
                object.0.into(),
                object.1.into(),
            ));
            found.push(Found { rejection, action: GuardAction::Block, is_settled: true });
        }
    }
    found
}

/// Whether the contract relies on an object: it names it, or it is a policy of a governed table, or
/// the guard itself.
fn is_promised(cx: &Context<'_>, (catalog, oid): (Oid, Oid)) -> bool {
    if catalog == catalog::PG_EXTENSION {
        return cx.snapshot.extensions.get(&oid).is_some_and(|(name, _)| name == "dragonfly_guard");
    }
    if catalog == catalog::PG_POLICY {
        return true;
    }
    let Some((schema, name)) = catalog::name(catalog, oid) else { return false };
    cx.contract.declares_relation(&schema, &name)
        || cx.contract.functions_named(&schema, &name).next().is_some()
}

/// Whether a rule is checked after these changes. Those about routines are checked routine by
/// routine.
fn applies(rule: &Rule, states: &Snapshots, moved: bool) -> bool {
    match rule.recheck {
        Recheck::Routines => false,
        Recheck::Roles => states.plan == Plan::Everything,
        Recheck::Schemas => states.plan != Plan::Changed,
        Recheck::Names => states.plan != Plan::Changed || moved,
        Recheck::OwnObjects => states.own,
        Recheck::ChangedObjects => true,
    }
}

/// What is where under which name, and of what kind.
fn names(snapshot: &Snapshot) -> HashSet<(Oid, &str, &str, bool)> {
    let relations =
        snapshot.relations.iter().map(|r| (r.schema, r.name.as_str(), r.kind.object_type(), false));
    let routines = snapshot
        .routines
        .iter()
        .map(|r| (r.schema, r.name.as_str(), r.object_type(), r.security_definer));
    relations.chain(routines).collect()
}

/// Whether what a routine was can excuse what it is: it was SECURITY DEFINER, nothing of the
/// platform excused it then, and its owner now can do no more than its owner could.
fn compares(old: &Context<'_>, new: &Context<'_>, past: &Routine, routine: &Routine) -> bool {
    past.security_definer
        && old.routine_managed_by(past).is_none()
        && new.access.can_act_as(past.owner, routine.owner)
}

/// A routine beside one of the extension's own, under its name: who calls ours with fewer arguments
/// would call that one, with all of the caller's rights.
fn reject_impostors(changed: &[Changed], tag: &str) {
    for one in changed {
        let Changed::Routine(oid) = one else { continue };
        if let Some(identity) = catalog::impostor(*oid) {
            enforce::act(vec![(Rejection::of_impostor(&identity), GuardAction::Block)], tag);
        }
    }
}

/// The rejection of a routine's path, where the transaction made it worse.
fn path_check(
    cx: &Context<'_>,
    routine: &Routine,
    past: Option<&Routine>,
    tag: &str,
) -> Option<Found> {
    let after = definer_path::assess(cx, routine)?;
    let before = past.map(|past| cx.paths.config(&past.config, past.owner));
    let worse = if after.verdict == Verdict::Safe {
        let was = before.as_ref().is_some_and(|b| {
            definer_path::must_be_canonical(cx, routine, b) || b.verdict != Verdict::Safe
        });
        definer_path::must_be_canonical(cx, routine, &after) && !was
    } else {
        !definer_path::accepts_empty(cx, &after) && is_regression(before.as_deref(), &after)
    };
    worse.then(|| Found {
        rejection: Rejection::of_routine(cx, routine, &after, tag),
        action: cx.guard_action(&search_path::RULE),
        is_settled: true,
    })
}

/// Settings that switch off protection, where the transaction added them.
fn setting_checks(
    cx: &Context<'_>,
    routine: &Routine,
    past: Option<&Routine>,
    exempt: &Exempt<'_>,
) -> Vec<Found> {
    let known: Vec<&str> = past
        .map(|past| security_definer_settings::suspect(&past.config).map(|(n, _)| n).collect())
        .unwrap_or_default();
    security_definer_settings::suspect(&routine.config)
        .filter(|(name, _)| !known.contains(name))
        .filter(|(name, value)| {
            !exempt.finding(cx, &security_definer_settings::finding(cx, routine, name, value))
        })
        .map(|(name, value)| {
            // Of a setting that switches off the guard itself, a warning would be the last word.
            let action = match name {
                "dragonfly_guard.mode" => GuardAction::Block,
                _ => cx.guard_action(&security_definer_settings::RULE),
            };
            Found {
                rejection: Rejection::of_setting(cx, routine, name, value),
                action,
                is_settled: true,
            }
        })
        .collect()
}

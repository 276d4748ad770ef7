//! What has been touched, as it was without this transaction and as it is now, judged by the rules.

use super::states::{Scale, Scope, States};
use super::touched::{self, Touch};
use super::{act, transaction};
use crate::catalog::temporary::{self, Ground};
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

/// When something is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At the end of a command: what no later one is expected to put right.
    Statement,
    /// At the end of the transaction: everything.
    Commit,
}

/// Judges what a command has touched; an error where it is refused.
pub fn run(touched: &[Touch], moment: Moment, tag: &str) {
    refuse_impostors(touched, tag);
    let now = State::now();
    if !Own::is_there(&now) {
        return;
    }
    let committed = now.committed();
    let Some(states) = Scope::of(touched, &now).read(&transaction::before(), &now) else {
        transaction::statement_judged(false, committed, None);
        return;
    };
    // Whoever has the turn must not wait for locks of others.
    let freshness = if moment == Moment::Commit { Freshness::Cached } else { Freshness::Fresh };
    let found = judge(&states, &now, touched, (tag, freshness));
    let (at_once, later): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, action, settled)| {
        moment == Moment::Commit || (*settled && *action == GuardAction::Block)
    });
    transaction::statement_judged(!later.is_empty(), committed, Some(&states.contract));
    act::carry_out(
        at_once.into_iter().map(|(rejection, action, _)| (rejection, action)).collect(),
        tag,
    );
}

/// Judges the whole transaction, in turn with others: two could otherwise pass one by one and
/// together leave what neither would have been allowed. The turn comes when everything else has
/// been done, so that nobody waits for a lock while it is somebody's turn. A transaction that is
/// prepared gives its turn back: it may stay for days, and nobody could change anything meanwhile.
pub fn before_commit(is_prepared: bool) {
    let touched = touched::all();
    if touched.is_empty() {
        return;
    }
    let now = State::now();
    if !Own::is_there(&now) {
        return refuse_disappearance();
    }
    transaction::commits();
    if !transaction::is_relevant()
        && Scope::of(&touched, &now).read(&transaction::before(), &now).is_none()
    {
        return;
    }
    let own = Own::find(&now);
    cache_exempt(&touched, &now, &own);
    lock::acquire_commit_lock(&own);
    let fresh = State::now();
    if !transaction::is_settled(&fresh.committed(), &contract::in_force(&fresh, &own)) {
        run(&touched::all(), Moment::Commit, &transaction::subject());
    }
    // A temporary table that goes now takes along what lasts and depends on it, and may have to
    // wait for that: nobody else should.
    let builds_on_sand = temporary::has_schema()
        && touched.iter().any(|t| {
            matches!(t, Touch::Relation(oid) if !temporary::outlives(catalog::PG_CLASS.into(), (*oid).into())
                && temporary::carries_what_lasts(&now, *oid))
        });
    if is_prepared || builds_on_sand {
        if matters_to_others(&touched) {
            act::cannot_give_turn_back(is_prepared);
        }
        lock::release_commit_lock(&own);
    }
}

/// Looking at what is exempt may have to wait for locks: before the turn comes, and not while
/// others wait for it.
fn cache_exempt(touched: &[Touch], now: &State, own: &Own) {
    let current = Current::read(now, own, Freshness::Cached);
    if current.is_empty() {
        return;
    }
    let concerned = |catalog: Oid, oid: Oid| {
        catalog::name(catalog, oid).is_some_and(|(schema, name)| current.concern(&schema, &name))
    };
    let objects = touched.iter().filter_map(|touch| match *touch {
        Touch::Relation(oid) => {
            concerned(catalog::PG_CLASS, oid).then_some(ObjectId::Relation(oid))
        }
        Touch::Routine(oid) => concerned(catalog::PG_PROC, oid).then_some(ObjectId::Routine(oid)),
        _ => None,
    });
    catalog::cache_hashes(now, objects);
}

/// What a commit would judge, judged now; an error where it would be refused.
pub fn as_if_committing() {
    let (touched, now) = (touched::all(), State::now());
    if !touched.is_empty() && Own::is_there(&now) {
        cache_exempt(&touched, &now, &Own::find(&now));
        run(&touched, Moment::Commit, &transaction::subject());
    }
}

/// Whether what another transaction does could depend on it: schemas, SECURITY DEFINER routines,
/// what stands in schemas.
fn matters_to_others(touched: &[Touch]) -> bool {
    let now = State::now();
    let scope = Scope::of(touched, &now);
    let Some(states) = scope.read(&transaction::before(), &now) else { return false };
    states.scale != Scale::Touched
        || scope.places_anything()
        || states.after.routines.iter().any(|r| r.security_definer)
}

/// The extension is gone. A superuser may drop it by its name, unless the guard is hardened;
/// nothing else may take it along.
fn refuse_disappearance() {
    if Own::is_there(&transaction::before())
        && (settings::is_hardened() || !transaction::drops_guard())
    {
        act::taken_along(&transaction::last_started());
    }
}

/// What is refused, what the contract wants done about it, and whether no later statement is
/// expected to put it right.
type Found = Vec<(Rejection, GuardAction, bool)>;

fn judge(
    states: &States,
    now: &State,
    touched: &[Touch],
    (tag, freshness): (&str, Freshness),
) -> Found {
    let States { before, after, contract, .. } = states;
    let wide = states.scale != Scale::Touched;
    let (access_before, access_after) = (Access::new(before), Access::new(after));
    let old = Context::new(contract, before, &access_before, &interrupts);
    let new = Context::new(contract, after, &access_after, &interrupts);

    let pasts: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
    let noted =
        touched.iter().filter_map(|t| if let Touch::Routine(oid) = t { Some(*oid) } else { None });
    // Written directly, or by a way that nobody knows: another row is another routine.
    let written = after
        .routines
        .iter()
        .filter(|r| pasts.get(&r.oid).is_none_or(|past| *past != *r))
        .map(|r| r.oid);
    let routines: HashSet<Oid> = noted.chain(written).collect();
    // In states that show more, what no command touched is judged for what has changed around it.
    let is_touched = |r: &Routine| !wide || routines.contains(&r.oid);
    let exempt = Exempt { now, freshness, current: OnceCell::new() };
    let mut found = Found::new();
    for routine in after
        .routines
        .iter()
        .filter(|r| r.security_definer && is_touched(r) && !is_excused(&old, &new, r))
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
        found.extend(
            rejection.map(|rejection| (rejection, new.guard_action(&search_path::RULE), settled)),
        );
    }
    if temporary::has_schema() {
        found.extend(on_sand(&new, touched, now));
    }
    let change = Change::new(&old, &new);
    let moved = names(before) != names(after);
    for rule in RULES.iter().copied().filter(|rule| applies(rule, states, moved)) {
        for worse in
            change.worse(rule).into_iter().filter(|worse| !exempt.finding(&new, &worse.finding))
        {
            found.push((Rejection::of_regression(&worse, tag), worse.action, worse.settled));
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

/// What lasts, rests on something temporary, and takes along what the contract is about when that
/// goes; or lets others call what only this session should.
fn on_sand(cx: &Context<'_>, touched: &[Touch], now: &State) -> Found {
    let then = transaction::before();
    let mut found = Found::new();
    for touch in touched {
        let object = match *touch {
            Touch::Relation(oid) => (catalog::PG_CLASS, oid),
            Touch::Routine(oid) => (catalog::PG_PROC, oid),
            Touch::Other(catalog, oid) | Touch::Object(catalog, oid) => (catalog, oid),
            _ => continue,
        };
        if !temporary::outlives(object.0.into(), object.1.into()) {
            continue;
        }
        let ground = temporary::ground(now, object);
        if ground == Ground::Firm || ground == temporary::ground(&then, object) {
            continue;
        }
        if ground == Ground::TemporaryDefiner
            || temporary::fall(now, object).into_iter().any(|object| is_promised(cx, object))
        {
            let rejection = Rejection::of_temporary_dependency(&catalog::description(
                object.0.into(),
                object.1.into(),
            ));
            found.push((rejection, GuardAction::Block, true));
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
fn applies(rule: &Rule, states: &States, moved: bool) -> bool {
    match rule.recheck {
        Recheck::Routines => false,
        Recheck::Roles => states.scale == Scale::Everything,
        Recheck::Schemas => states.scale != Scale::Touched,
        Recheck::Names => states.scale != Scale::Touched || moved,
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
fn refuse_impostors(touched: &[Touch], tag: &str) {
    for touch in touched {
        let Touch::Routine(oid) = touch else { continue };
        if let Some(identity) = catalog::impostor(*oid) {
            act::carry_out(vec![(Rejection::of_impostor(&identity), GuardAction::Block)], tag);
        }
    }
}

/// The rejection of a routine's path, where the transaction made it worse.
fn path_check(
    cx: &Context<'_>,
    routine: &Routine,
    past: Option<&Routine>,
    tag: &str,
) -> Option<(Rejection, GuardAction, bool)> {
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
    worse.then(|| {
        (Rejection::of_routine(cx, routine, &after, tag), cx.guard_action(&search_path::RULE), true)
    })
}

/// Settings that switch off protection, where the transaction added them.
fn setting_checks(
    cx: &Context<'_>,
    routine: &Routine,
    past: Option<&Routine>,
    exempt: &Exempt<'_>,
) -> Found {
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
            (Rejection::of_setting(cx, routine, name, value), action, true)
        })
        .collect()
}

//! What has been touched, as it was without this transaction and as it is now, judged by the rules.

use super::touched::{self, Touch};
use super::{act, transaction};
use crate::contract;
use crate::pg::heap::{State, interrupts};
use crate::scan::{self, own::Own};
use crate::settings;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Routine, Schema, Snapshot};
use dragonfly_core::contract::{Contract, GuardAction};
use dragonfly_core::guard::{Change, Refusal, exposed, is_worse};
use dragonfly_core::rules::{
    Context, RULES, Rule, guard_tampered, security_definer_search_path as search_path, security_definer_settings,
};
use dragonfly_core::search_path::{Verdict, settings as path_settings};
use std::collections::HashSet;
use std::rc::Rc;

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
        transaction::statement_judged(false, false, committed);
        return;
    };
    let found = judge(&states, &now, touched, moment, tag);
    let (at_once, later): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(_, action, settled)| moment == Moment::Commit || (*settled && *action == GuardAction::Block));
    transaction::statement_judged(true, !later.is_empty(), committed);
    act::carry_out(at_once.into_iter().map(|(refusal, action, _)| (refusal, action)).collect(), tag);
}

/// Judges the whole transaction, in turn with others: two could otherwise pass one by one and together leave what neither would have been
/// allowed. The turn comes when everything else has been done, so that nobody waits for a lock while it is somebody's turn. A transaction that
/// is prepared gives its turn back: it may stay for days, and nobody could change anything meanwhile.
pub fn before_commit(is_prepared: bool) {
    let touched = touched::all();
    if touched.is_empty() {
        return;
    }
    let now = State::now();
    if !Own::is_there(&now) {
        return refuse_disappearance();
    }
    if !transaction::is_relevant() && Scope::of(&touched, &now).read(&transaction::before(), &now).is_none() {
        return;
    }
    let own = Own::find(&now);
    own.lock();
    if !transaction::is_settled(&State::now().committed()) {
        run(&touched::all(), Moment::Commit, &transaction::subject());
    }
    if is_prepared {
        own.unlock();
    }
}

/// The extension is gone. It may be dropped by its name; nothing else may take it along.
fn refuse_disappearance() {
    let tag = transaction::last_started();
    if Own::is_there(&transaction::before()) && (tag != "DROP EXTENSION" || settings::is_hardened()) {
        act::taken_along(&tag);
    }
}

/// What is to be looked at.
struct Scope {
    relations: Vec<Oid>,
    routines: Vec<Oid>,
    /// Schemas, roles or the database: whatever depends on them, which may be everything.
    schemas: bool,
    roles: bool,
    default_acls: bool,
    /// Something of the guard's own.
    own: bool,
}

impl Scope {
    fn of(touched: &[Touch], now: &State) -> Self {
        let then = transaction::before();
        let mut rows: HashSet<u32> = HashSet::new();
        let mut scope =
            Self { relations: vec![], routines: vec![], schemas: false, roles: false, default_acls: false, own: false };
        for touch in touched {
            match *touch {
                Touch::Relation(oid) => scope.relations.push(oid),
                Touch::Routine(oid) => scope.routines.push(oid),
                // What left it was excused perhaps while it was a member, and what came is now.
                Touch::Extension(oid) => {
                    for state in [now, &then] {
                        scan::members(state, oid, &mut |class, member| match class {
                            scan::PG_PROC => scope.routines.push(member),
                            scan::PG_CLASS => scope.relations.push(member),
                            _ => {}
                        });
                    }
                    scope.own |= Own::is(oid, [now, &then]);
                }
                Touch::RoutineRow(hash) => drop(rows.insert(hash)),
                Touch::Own => scope.own = true,
                Touch::Schemas => scope.schemas = true,
                Touch::Roles => scope.roles = true,
                Touch::DefaultAcls => scope.default_acls = true,
            }
        }
        // Rows that no command of ours has told about: somebody else's, or written directly.
        for routine in &scope.routines {
            rows.remove(&scan::routine_hash(*routine));
        }
        if !rows.is_empty() {
            scope.routines.extend(scan::routines_written_here(now));
        }
        for list in [&mut scope.relations, &mut scope.routines] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    /// Reads both states; `None` where they do not differ in anything that rules look at.
    fn read(&self, then: &State, now: &State) -> Option<States> {
        let (before, after) =
            (scan::part(then, &self.relations, &self.routines), scan::part(now, &self.relations, &self.routines));
        let differ = before.relations != after.relations
            || before.policies != after.policies
            || before.routines != after.routines
            || before.relation_extension != after.relation_extension
            || before.routine_extension != after.routine_extension;
        if !(differ || self.schemas || self.default_acls || self.own || (self.roles && settings::is_hardened())) {
            return None;
        }
        let base_after = scan::base(now);
        let base_before = if self.schemas || self.roles { scan::base(then) } else { base_after.clone() };
        // Roles and the database change by statements without an event alone, which not every session would see judged.
        let roles = self.roles
            && settings::is_hardened()
            && (base_before.roles != base_after.roles
                || base_before.memberships != base_after.memberships
                || base_before.database != base_after.database);
        let whole = roles || (self.schemas && lasting(&base_before.schemas) != lasting(&base_after.schemas));
        if !(whole || differ || self.default_acls || self.own) {
            return None;
        }
        // An extension that is being made has no past to compare with.
        let existed = Own::is_there(then);
        let own = &Own::find(now);
        if whole {
            let contract = contract::in_force(now, own);
            let (before, after) = (scan::whole(then, &contract, own), scan::whole(now, &contract, own));
            return Some(States { before, after, whole: true, own: existed, roles, contract });
        }
        let (mut before, mut after) = (scan::around(before, base_before, then), scan::around(after, base_after, now));
        let belongs = |snapshot: &Snapshot| {
            let mut extensions = snapshot.routine_extension.values().chain(snapshot.relation_extension.values());
            extensions.any(|extension| *extension == own.extension)
        };
        let own_touched = existed && (self.own || belongs(&before) || belongs(&after));
        if own_touched {
            scan::guard(then, own, &mut before);
            scan::guard(now, own, &mut after);
        }
        let differ = differ || own_touched || before.default_acls != after.default_acls;
        differ.then(|| States {
            before,
            after,
            whole: false,
            own: own_touched,
            roles: false,
            contract: contract::in_force(now, own),
        })
    }
}

/// Schemas without those of sessions, in order of OID.
fn lasting(schemas: &[Schema]) -> Vec<&Schema> {
    let mut lasting: Vec<&Schema> = schemas.iter().filter(|s| !s.is_temporary()).collect();
    lasting.sort_unstable_by_key(|s| s.oid);
    lasting
}

/// The catalog without what the transaction has done, and with it.
struct States {
    before: Snapshot,
    after: Snapshot,
    /// All of it; otherwise what was touched.
    whole: bool,
    /// With the guard's own objects, which were there before.
    own: bool,
    /// Roles have changed, and that is to be judged.
    roles: bool,
    contract: Rc<Contract>,
}

/// What is refused, what the contract wants done about it, and whether no later statement is expected to put it right.
type Found = Vec<(Refusal, GuardAction, bool)>;

fn judge(states: &States, now: &State, touched: &[Touch], moment: Moment, tag: &str) -> Found {
    let States { before, after, contract, .. } = states;
    let whole = states.whole;
    let with_contents = (!whole && after.routines.iter().any(|r| r.security_definer)).then(|| {
        let mut after = after.clone();
        for (schema, owner, kind) in planted(now, contract, before, &after) {
            after.contents.entry(schema).or_default().insert((owner, kind));
        }
        after
    });
    let after = with_contents.as_ref().unwrap_or(after);
    let (access_before, access_after) = (Access::new(before), Access::new(after));
    let old = Context::new(contract, before, &access_before, &interrupts);
    let new = Context::new(contract, after, &access_after, &interrupts);

    let routines: HashSet<Oid> =
        touched.iter().filter_map(|t| if let Touch::Routine(oid) = t { Some(*oid) } else { None }).collect();
    // In both states whole, what no command touched is judged for what has changed around it.
    let is_touched = |r: &Routine| !whole || routines.contains(&r.oid);
    let mut found = Found::new();
    for routine in after.routines.iter().filter(|r| r.security_definer && is_touched(r) && new.routine_managed_by(r).is_none())
    {
        let past =
            before.routines.iter().find(|past| past.oid == routine.oid).filter(|past| compares(&old, &new, past, routine));
        found.extend(setting_checks(&new, routine, past));
        found.extend(path_check(&new, routine, past, tag));
    }
    if whole {
        let refusal = Refusal::of_exposed(&new, &exposed(&old, &new, &routines), tag);
        found.extend(refusal.map(|refusal| (refusal, new.guard_action(&search_path::RULE), true)));
    }
    let change = Change::new(&old, &new);
    let moved = names(before) != names(after);
    let at_commit = moment == Moment::Commit;
    for rule in RULES.iter().copied().filter(|rule| applies(rule, states, moved)) {
        for worse in change.worse(rule) {
            found.push((Refusal::of_finding(&worse.finding, tag, at_commit), worse.action, worse.settled));
        }
    }
    found
}

/// Whether a rule has something to say. Those about search_path and settings have words of their own for what a command does.
fn applies(rule: &Rule, states: &States, moved: bool) -> bool {
    match rule.id {
        "security_definer_search_path" | "security_definer_settings" => false,
        "role_missing" | "role_attributes" | "role_membership" => states.roles,
        "schema_usage" | "schema_create" => states.whole,
        "required_object_missing" => states.whole || moved,
        id if id == guard_tampered::RULE.id => states.own,
        _ => true,
    }
}

/// What is where under which name, and of what kind.
fn names(snapshot: &Snapshot) -> HashSet<(Oid, &str, &str, bool)> {
    let relations = snapshot.relations.iter().map(|r| (r.schema, r.name.as_str(), r.kind.object_type(), false));
    let routines = snapshot.routines.iter().map(|r| (r.schema, r.name.as_str(), r.object_type(), r.security_definer));
    relations.chain(routines).collect()
}

/// Whether what a routine was can excuse what it is: it was SECURITY DEFINER, nothing of the platform excused it then, and its
/// owner now can do no more than its owner could.
fn compares(old: &Context<'_>, new: &Context<'_>, past: &Routine, routine: &Routine) -> bool {
    past.security_definer && old.routine_managed_by(past).is_none() && new.access.can_act_as(past.owner, routine.owner)
}

/// A routine beside one of the extension's own, under its name: who calls ours with fewer arguments would call that one, with all of
/// the caller's rights.
fn refuse_impostors(touched: &[Touch], tag: &str) {
    for touch in touched {
        let Touch::Routine(oid) = touch else { continue };
        if let Some(identity) = scan::impostor(*oid) {
            act::carry_out(vec![(Refusal::of_impostor(&identity), GuardAction::Block)], tag);
        }
    }
}

/// The refusal of a routine's path, where the transaction made it worse.
fn path_check(cx: &Context<'_>, routine: &Routine, past: Option<&Routine>, tag: &str) -> Option<(Refusal, GuardAction, bool)> {
    let after = search_path::judgment(cx, routine)?;
    let before = past.map(|past| cx.judge.config(&past.config, past.owner));
    let worse = if after.verdict == Verdict::Safe {
        let was = before.as_ref().is_some_and(|b| search_path::must_be_canonical(cx, routine, b) || b.verdict != Verdict::Safe);
        search_path::must_be_canonical(cx, routine, &after) && !was
    } else {
        !search_path::accepts_empty(cx, &after) && is_worse(before.as_deref(), &after)
    };
    worse.then(|| (Refusal::of_routine(cx, routine, &after, tag), cx.guard_action(&search_path::RULE), true))
}

/// Settings that switch off protection, where the transaction added them.
fn setting_checks(cx: &Context<'_>, routine: &Routine, past: Option<&Routine>) -> Found {
    let known: Vec<&str> =
        past.map(|past| security_definer_settings::suspect(&past.config).map(|(n, _)| n).collect()).unwrap_or_default();
    security_definer_settings::suspect(&routine.config)
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, value)| {
            // Of a setting that switches off the guard itself, a warning would be the last word.
            let action = match name {
                "dragonfly_guard.mode" => GuardAction::Block,
                _ => cx.guard_action(&security_definer_settings::RULE),
            };
            (Refusal::of_setting(cx, routine, name, value), action, true)
        })
        .collect()
}

/// What others have put into the schemas of all paths of the touched routines; and of the contract's own path, for the hint.
fn planted(state: &State, contract: &Contract, before: &Snapshot, after: &Snapshot) -> scan::Found {
    let routines = || after.routines.iter().chain(&before.routines).filter(|r| r.security_definer);
    let owners: HashSet<Oid> = routines().map(|r| r.owner).collect();
    let mut names: HashSet<String> = contract.security_definer.search_path.iter().cloned().collect();
    for routine in routines() {
        let paths = path_settings(&routine.config).into_iter().filter_map(|value| after.split_path(value).ok());
        names.extend(paths.flatten());
    }
    if names.contains("$user") {
        names.extend(owners.iter().map(|owner| after.role_name(*owner)));
    }
    let schemas = names.iter().filter_map(|name| after.schema_named(name)).map(|s| s.oid).collect();
    // Who is not trusted by some owner takes a walk through all memberships, which most of the time nobody needs.
    let untrusted = || {
        let access = Access::new(after);
        let cx = Context::new(contract, after, &access, &interrupts);
        let by_some = |role: Oid| owners.iter().any(|owner| !cx.judge.trusts(role, *owner));
        after.roles.iter().map(|r| r.oid).filter(|r| by_some(*r)).collect()
    };
    scan::planted(state, &schemas, untrusted)
}

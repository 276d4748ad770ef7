//! What has been touched, as it was without this transaction and as it is now, judged by the rules.

use super::touched::{self, Touch};
use super::{act, transaction};
use crate::contract;
use crate::pg::heap::{State, interrupts};
use crate::scan::{self, own::Own};
use crate::settings;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectKind, Oid, Privileges, Routine, Schema, Snapshot};
use dragonfly_core::contract::{Contract, GuardAction};
use dragonfly_core::guard::{Change, Refusal, exposed, is_excused, is_worse};
use dragonfly_core::rules::{
    Context, RULES, Rule, guard_tampered, security_definer_search_path as search_path, security_definer_settings,
};
use dragonfly_core::search_path::{ReasonCode, Verdict, settings as path_settings};
use std::collections::{HashMap, HashSet};
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
    let found = judge(&states, &now, touched, tag);
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
    // Some catalogs have no cache that tells of them; only a superuser can write them directly.
    let may_have_written = settings::is_hardened() && touched::may_change() && scan::is_superuser();
    if touched.is_empty() && !may_have_written {
        return;
    }
    let now = State::now();
    if !Own::is_there(&now) {
        return refuse_disappearance();
    }
    transaction::commits();
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

/// The extension is gone. A superuser may drop it by its name, unless the guard is hardened; nothing else may take it along.
fn refuse_disappearance() {
    if Own::is_there(&transaction::before()) && (settings::is_hardened() || !transaction::drops_guard()) {
        act::taken_along(&transaction::last_started());
    }
}

/// What is to be looked at.
struct Scope {
    relations: Vec<Oid>,
    routines: Vec<Oid>,
    /// Schema and owner of the types and operators that have come to stand where they are.
    placed: Vec<(Oid, Oid)>,
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
        let mut scope = Self {
            relations: vec![],
            routines: vec![],
            placed: vec![],
            schemas: false,
            roles: false,
            default_acls: false,
            own: false,
        };
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
                Touch::Other(catalog, oid) => {
                    let place = scan::place(now, catalog, oid);
                    scope.placed.extend(place.filter(|_| place != scan::place(&then, catalog, oid)));
                }
                Touch::Own => scope.own = true,
                Touch::Schemas => scope.schemas = true,
                Touch::Roles => scope.roles = true,
                Touch::DefaultAcls => scope.default_acls = true,
            }
        }
        if settings::is_hardened() && scan::is_superuser() {
            scope.relations.extend(scan::policies_written_here(now, &then));
            scope.own |= scan::settings_written_here(now, &then);
        }
        // Rows that no command of ours has told about: somebody else's, or written directly.
        for routine in &scope.routines {
            rows.remove(&scan::routine_hash(*routine));
        }
        if !rows.is_empty() {
            scope.routines.extend(scan::routines_written_here(now));
        }
        // What this session has in its temporary schema can be called by others as soon as something of theirs refers to it.
        scope.routines.extend(touched::temporary_definers(&scope.routines));
        for list in [&mut scope.relations, &mut scope.routines] {
            list.sort_unstable();
            list.dedup();
        }
        scope
    }

    /// What was touched, with what has to be looked at beside it: the table that a sequence serves, and the other routines of a name.
    fn parts(&self, then: &State, now: &State) -> (Snapshot, Snapshot) {
        let read =
            |relations: &[Oid], routines: &[Oid]| (scan::part(then, relations, routines), scan::part(now, relations, routines));
        let (before, after) = read(&self.relations, &self.routines);
        let both = || [&before, &after].into_iter();
        let served = both().flat_map(|s| &s.relations).filter_map(|r| r.owned_by);
        let relations = with(&self.relations, served.collect());
        let names: HashSet<&str> = both().flat_map(|s| &s.routines).map(|r| r.name.as_str()).collect();
        let schemas: HashSet<Oid> = both().flat_map(|s| &s.routines).map(|r| r.schema).collect();
        let routines = with(&self.routines, scan::routines_named(now, &names, &schemas));
        match relations.len() == self.relations.len() && routines.len() == self.routines.len() {
            true => (before, after),
            false => read(&relations, &routines),
        }
    }

    /// Reads both states; `None` where they do not differ in anything that rules look at.
    fn read(&self, then: &State, now: &State) -> Option<States> {
        let (before, after) = self.parts(then, now);
        let extensions = [&before, &after].map(|s| s.routine_extension.values().chain(s.relation_extension.values()));
        let own_touched = self.own || extensions.into_iter().flatten().any(|extension| Own::is(*extension, [now, then]));
        let differ = before.relations != after.relations
            || before.policies != after.policies
            || before.routines != after.routines
            || before.relation_extension != after.relation_extension
            || before.routine_extension != after.routine_extension;
        // What a view or a policy rests on is in no row that is compared.
        let differ = differ || (scan::temporary::has_schema() && !(after.relations.is_empty() && after.routines.is_empty()));
        if !(differ
            || self.schemas
            || self.default_acls
            || own_touched
            || !self.placed.is_empty()
            || (self.roles && settings::is_hardened()))
        {
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
        let schemas = self.schemas && !changed_schemas(&base_before.schemas, &base_after.schemas).is_empty();
        if !(roles || schemas || differ || self.default_acls || own_touched || !self.placed.is_empty()) {
            return None;
        }
        // An extension that is being made has no past to compare with.
        let existed = Own::is_there(then);
        let own = &Own::find(now);
        let contract = contract::in_force(now, own);
        if roles {
            let (before, after) = (scan::whole(then, &contract, own), scan::whole(now, &contract, own));
            return Some(States { before, after, scale: Scale::Everything, own: existed, contract });
        }
        let mut schemas = changed_schemas(&base_before.schemas, &base_after.schemas);
        let around = schemas.is_empty().then(|| {
            (scan::around(before.clone(), base_before.clone(), then), scan::around(after.clone(), base_after.clone(), now))
        });
        if let Some((before, after)) = &around {
            schemas = self.planted(before, after);
        }
        if !schemas.is_empty() {
            let names = [&base_before, &base_after]
                .map(|s| s.schemas.iter().filter(|s| schemas.contains(&s.oid)).map(|s| s.name.clone()));
            let names: HashSet<String> = names.into_iter().flatten().collect();
            let of = |part: &Snapshot| -> (HashSet<Oid>, HashSet<Oid>) {
                (part.relations.iter().map(|r| r.oid).collect(), part.routines.iter().map(|r| r.oid).collect())
            };
            let read = |state: &State, base: Snapshot, part: &Snapshot| {
                let (relations, routines) = of(part);
                scan::concerning(state, base, &contract, own, (&schemas, &names), (&relations, &routines))
            };
            let (mut before, mut after) = (read(then, base_before, &before), read(now, base_after, &after));
            let touched: HashSet<Oid> = self.routines.iter().copied().collect();
            let wanted =
                searched(&contract, &before, &after, &|r| touched.contains(&r.oid)).into_iter().chain(schemas).collect();
            fill(&mut before, then, &contract, &wanted);
            fill(&mut after, now, &contract, &wanted);
            return Some(States { before, after, scale: Scale::Schemas, own: existed, contract });
        }
        let (mut before, mut after) = around?;
        let own_touched = existed && own_touched;
        if own_touched {
            scan::guard(then, own, &mut before);
            scan::guard(now, own, &mut after);
        }
        let differ = differ || own_touched || before.default_acls != after.default_acls;
        if after.routines.iter().any(|r| r.security_definer) {
            let wanted = searched(&contract, &before, &after, &|_| true);
            fill(&mut after, now, &contract, &wanted);
        }
        differ.then_some(States { before, after, scale: Scale::Touched, own: own_touched, contract })
    }
}

impl Scope {
    /// The schemas in which something has come to stand whose owner could not have made it there: somebody else has moved it, or the right
    /// has been taken back since. Whoever searches that schema finds it.
    fn planted(&self, before: &Snapshot, after: &Snapshot) -> HashSet<Oid> {
        let mut placed = self.placed.clone();
        for routine in &after.routines {
            let same = |past: &Routine| past.oid == routine.oid && past.schema == routine.schema && past.owner == routine.owner;
            if !before.routines.iter().any(same) {
                placed.push((routine.schema, routine.owner));
            }
        }
        if placed.is_empty() {
            return HashSet::new();
        }
        let access = Access::new(after);
        let strange = |(schema, owner): &(Oid, Oid)| {
            after.schema(*schema).is_some_and(|s| {
                let held = access.privileges(*owner, s.owner, s.acl.as_ref(), ObjectKind::Schema);
                !s.is_temporary() && !held.contains(Privileges::CREATE)
            })
        };
        placed.into_iter().filter(strange).map(|(schema, _)| schema).collect()
    }
}

/// The two lists as one, in order and without duplicates.
fn with(list: &[Oid], more: Vec<Oid>) -> Vec<Oid> {
    let mut all = [list.to_vec(), more].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// The schemas that are not what they were, but for those of sessions.
fn changed_schemas(before: &[Schema], after: &[Schema]) -> HashSet<Oid> {
    let lasting = |schemas: &'_ [Schema]| -> HashMap<Oid, Schema> {
        schemas.iter().filter(|s| !s.is_temporary()).map(|s| (s.oid, s.clone())).collect()
    };
    let (before, after) = (lasting(before), lasting(after));
    before.keys().chain(after.keys()).copied().filter(|oid| before.get(oid) != after.get(oid)).collect()
}

/// How much of the catalog two states show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// What was touched.
    Touched,
    /// That, and what has to do with some schemas.
    Schemas,
    /// All of it, for roles have changed.
    Everything,
}

/// The catalog without what the transaction has done, and with it.
struct States {
    before: Snapshot,
    after: Snapshot,
    scale: Scale,
    /// With the guard's own objects, which were there before.
    own: bool,
    contract: Rc<Contract>,
}

/// What is refused, what the contract wants done about it, and whether no later statement is expected to put it right.
type Found = Vec<(Refusal, GuardAction, bool)>;

fn judge(states: &States, now: &State, touched: &[Touch], tag: &str) -> Found {
    let States { before, after, contract, .. } = states;
    let wide = states.scale != Scale::Touched;
    let (access_before, access_after) = (Access::new(before), Access::new(after));
    let old = Context::new(contract, before, &access_before, &interrupts);
    let new = Context::new(contract, after, &access_after, &interrupts);

    let routines: HashSet<Oid> =
        touched.iter().filter_map(|t| if let Touch::Routine(oid) = t { Some(*oid) } else { None }).collect();
    // In states that show more, what no command touched is judged for what has changed around it.
    let is_touched = |r: &Routine| !wide || routines.contains(&r.oid);
    let mut found = Found::new();
    for routine in after.routines.iter().filter(|r| r.security_definer && is_touched(r) && !is_excused(&old, &new, r)) {
        let past =
            before.routines.iter().find(|past| past.oid == routine.oid).filter(|past| compares(&old, &new, past, routine));
        found.extend(setting_checks(&new, routine, past));
        found.extend(path_check(&new, routine, past, tag));
    }
    if wide {
        let exposed = exposed(&old, &new, &routines);
        // A schema that is renamed or dropped may have a successor, or the paths that name it may follow.
        let settled = exposed.iter().any(|e| e.judgment.reasons.iter().any(|r| r.code != ReasonCode::MissingSchema));
        let refusal = Refusal::of_exposed(&new, &exposed, tag);
        found.extend(refusal.map(|refusal| (refusal, new.guard_action(&search_path::RULE), settled)));
    }
    if scan::temporary::has_schema() {
        found.extend(on_sand(&new, touched, now));
    }
    let change = Change::new(&old, &new);
    let moved = names(before) != names(after);
    for rule in RULES.iter().copied().filter(|rule| applies(rule, states, moved)) {
        for worse in change.worse(rule) {
            found.push((Refusal::of_worse(&worse, tag), worse.action, worse.settled));
        }
    }
    found
}

/// What the contract is about and what would go with something temporary.
fn on_sand(cx: &Context<'_>, touched: &[Touch], now: &State) -> Found {
    let then = transaction::before();
    let new = |catalog, oid| scan::temporary::is_under(now, catalog, oid) && !scan::temporary::is_under(&then, catalog, oid);
    let mut found = Found::new();
    for touch in touched {
        let name = match *touch {
            Touch::Relation(oid) => cx
                .snapshot
                .relation(oid)
                .filter(|r| cx.governed(r.schema).is_some() && new(scan::PG_CLASS, oid))
                .map(|r| (r.kind.object_type(), cx.snapshot.relation_identity(r))),
            Touch::Routine(oid) => cx
                .snapshot
                .routines
                .iter()
                .find(|r| r.oid == oid)
                .filter(|r| cx.governed(r.schema).is_some() && new(scan::PG_PROC, oid))
                .map(|r| (r.object_type(), cx.snapshot.routine_identity(r))),
            _ => None,
        };
        let refusal = name.map(|(kind, identity)| Refusal::of_object_on_sand(kind, &identity));
        found.extend(refusal.map(|refusal| (refusal, GuardAction::Block, true)));
    }
    found
}

/// Whether a rule has something to say. Those about search_path and settings have words of their own for what a command does.
fn applies(rule: &Rule, states: &States, moved: bool) -> bool {
    match rule.id {
        "security_definer_search_path" | "security_definer_settings" => false,
        "role_missing" | "role_attributes" | "role_membership" => states.scale == Scale::Everything,
        "schema_usage" | "schema_create" => states.scale != Scale::Touched,
        "required_object_missing" => states.scale != Scale::Touched || moved,
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

/// The schemas that the paths of SECURITY DEFINER routines name, of those that `counts`; and of the contract's own path, for the hint.
fn searched(contract: &Contract, before: &Snapshot, after: &Snapshot, counts: &dyn Fn(&Routine) -> bool) -> HashSet<Oid> {
    let mut names: HashSet<String> = contract.security_definer.search_path.iter().cloned().collect();
    for routine in before.routines.iter().chain(&after.routines).filter(|r| r.security_definer && counts(r)) {
        let paths = path_settings(&routine.config).into_iter().filter_map(|value| after.split_path(value).ok());
        names.extend(paths.flatten().map(|name| if name == "$user" { after.role_name(routine.owner) } else { name }));
    }
    names.iter().filter_map(|name| after.schema_named(name)).map(|s| s.oid).collect()
}

/// Adds to a snapshot what others have put into those schemas.
fn fill(snapshot: &mut Snapshot, state: &State, contract: &Contract, schemas: &HashSet<Oid>) {
    let owners: HashSet<Oid> = snapshot.routines.iter().filter(|r| r.security_definer).map(|r| r.owner).collect();
    // Who is not trusted by some owner takes a walk through all memberships, which most of the time nobody needs.
    let untrusted = || {
        let access = Access::new(snapshot);
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let by_some = |role: Oid| owners.iter().any(|owner| !cx.judge.trusts(role, *owner));
        snapshot.roles.iter().map(|r| r.oid).filter(|r| by_some(*r)).collect()
    };
    for (schema, owner, kind) in scan::planted(state, schemas, untrusted) {
        snapshot.contents.entry(schema).or_default().insert((owner, kind));
    }
}

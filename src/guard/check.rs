//! Checks changes: compares the catalog without and with the changes of this transaction by the
//! rules of the audit.

use super::changes::{self, Changed};
use super::enforce::Violation;
use super::inherited::{self, Attached};
use super::plan::Plan;
use super::scope::Scope;
use super::snapshots::{self, Snapshots};
use super::through::{Concerned, was_possible};
use super::{
    bodies, ended, enforce, irrelevant, policies, reasons, transaction, untrusted, views, written,
};
use crate::catalog::temporary::{self, Address, TemporaryDependency};
use crate::catalog::{self, Freshness, Own};
use crate::pg::heap::{State, interrupts};
use crate::settings::{self, Mode};
use crate::store::exemptions::Current;
use crate::store::{contract, lock};
use dragonfly_core::access::Access;
use dragonfly_core::audit::InForce;
use dragonfly_core::catalog::{ObjectId, Oid, Relation, RelationKind, Routine, Snapshot};
use dragonfly_core::contract::{Enforcement, GuardAction};
use dragonfly_core::exemptions::Status;
use dragonfly_core::finding::Finding;
use dragonfly_core::guard::{
    Change, Completion, Declared, Exposed, Loosened, Opened, Opening, Redirected, Regression,
    RejectedAt, Rejection, Remaining, Replaced, Shown, States, Through, Widened, Written, causes,
    exposed, intended, is_by_default, is_excused, is_role_missing, loosened, opened, path_at_most,
    redirected, renames_roles, replaced, shown, through,
};
use dragonfly_core::plan::Completer;
use dragonfly_core::rule::{Recheck, Rule};
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::rules::{
    Context, RULES, security_definer_search_path as search_path, security_definer_settings,
    stored_settings, undeclared_role_privileges, undeclared_view_readable,
    ungoverned_schema_access, view_privileges,
};
use dragonfly_core::search_path::{ReasonCode, Verdict};
use pgrx::pg_sys;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// When changes are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// At the end of a command: violations that no later command is expected to correct.
    Statement,
    /// At commit: all violations.
    Commit,
}

impl Moment {
    fn of(at: RejectedAt) -> Self {
        match at {
            RejectedAt::Statement => Self::Statement,
            RejectedAt::Commit | RejectedAt::Alone => Self::Commit,
        }
    }
}

/// Checks the changes of a command. Raises an error where the command is rejected.
pub fn run(changed: &[Changed], at: RejectedAt, tag: &str) {
    run_after(changed, at, tag, None);
}

/// Does the same. `statements` are those of the call of `ops.declare()` that has made the changes.
fn run_after(changed: &[Changed], at: RejectedAt, tag: &str, statements: Option<&str>) {
    let moment = Moment::of(at);
    reject_impostors(changed, tag);
    let now = State::now();
    if !Own::is_there(&now) {
        return;
    }
    let committed = now.committed();
    let concerned = concerned_at(moment, changed, &now);
    let changed = &irrelevant::relevant(changed.to_vec(), [&transaction::before(&now), &now])[..];
    let states = (!changed.is_empty() || !concerned.is_empty()).then(|| {
        let uses = Uses::of(changed, &now);
        Some((snapshots_of(changed, concerned, &now, moment, &uses)?, uses))
    });
    let Some((states, uses)) = states.flatten() else {
        transaction::statement_checked(false, committed, None);
        return;
    };
    // A session that holds the commit lock must not wait for other locks.
    let freshness = if moment == Moment::Commit { Freshness::Cached } else { Freshness::Fresh };
    let input = Input { states: &states, now: &now, changed, uses: &uses, moment, tag, freshness };
    let Violations { found, mut completion } = check(input);
    statements.into_iter().for_each(|statements| completion.called_with(statements));
    let is_rejected = found.iter().any(|found| found.is_rejected_at(moment));
    let (at_once, later): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| {
        found.is_due_at(moment)
            // The message about a rejected statement covers what the commit would reject as well.
            || is_rejected && found.is_addition()
    });
    transaction::statement_checked(!later.is_empty(), committed, Some(&states.contract));
    enforce::act(
        &states.contract,
        at_once.into_iter().map(|found| found.violation).collect(),
        &completion,
        at,
        tag,
    );
    if let Some(base) = states.base {
        transaction::base_checked(base);
    }
}

/// What changed objects use in another way than before. Their rows do not show it.
struct Uses {
    /// The objects that they use no longer.
    lost: HashSet<ObjectId>,
    /// The views that read more.
    widened: Vec<Widened>,
    /// The views whose writes change a table by themselves.
    written: Vec<Written>,
    /// The tables that have a new parent.
    attached: Vec<Attached>,
    /// The routines of roles that may not be trusted.
    untrusted: Vec<ObjectId>,
    /// Whether a SECURITY DEFINER routine has another body.
    has_other_body: bool,
}

impl Uses {
    fn of(changed: &[Changed], now: &State) -> Self {
        let states = [&transaction::before(now), now];
        let attached = inherited::attached(changed, states);
        let mut widened = views::widened(changed, states);
        widened.extend(views::widened_by(&attached, states));
        Self {
            lost: reasons::lost(changed, states),
            widened,
            written: written::written(changed, states),
            attached,
            untrusted: untrusted::executed(changed, states),
            has_other_body: bodies::differ(changed, states),
        }
    }

    fn differ(&self) -> bool {
        !(self.lost.is_empty()
            && self.widened.is_empty()
            && self.written.is_empty()
            && self.attached.is_empty()
            && self.untrusted.is_empty()
            && !self.has_other_body)
    }
}

/// Returns the tables whose policies consult something that has changed, which only a commit
/// checks.
fn concerned_at(moment: Moment, changed: &[Changed], now: &State) -> Vec<Oid> {
    if moment == Moment::Statement {
        return vec![];
    }
    policies::concerned(changed, [&transaction::before(now), now]).unwrap_or_default()
}

/// Reads both states of what was changed, and of the tables with concerned policies; `None` where
/// they do not differ in anything that the rules check, and all objects use the same ones.
fn snapshots_of(
    changed: &[Changed],
    concerned: Vec<Oid>,
    now: &State,
    moment: Moment,
    uses: &Uses,
) -> Option<Snapshots> {
    let then = transaction::before(now);
    let checked = (moment == Moment::Statement).then(transaction::checked_base).flatten();
    let mut scope = Scope::of(changed, &then, now);
    scope.uses_differ = uses.differ();
    scope.add_concerned(concerned);
    snapshots::read(&scope, &then, now, checked.as_deref(), moment == Moment::Commit)
}

/// Checks the whole transaction, with the commit lock held.
///
/// Without the lock, two transactions could each pass their check and together create a violation.
/// The lock is acquired last, so that no session waits for another lock while it holds this one. A
/// prepared transaction releases the lock: it can exist for days, and would block all others.
pub fn before_commit(is_prepared: bool) {
    let changed = changes::all();
    if changed.is_empty() {
        return;
    }
    let now = State::now();
    if !Own::is_there(&now) {
        return reject_dropping_guard();
    }
    let (all, then) = (changed, transaction::before(&now));
    let checked = policies::concerned(&all, [&then, &now]);
    let is_concerned = checked.as_ref().is_some_and(|tables| !tables.is_empty());
    let changed = if transaction::is_relevant() || is_concerned {
        all.clone()
    } else {
        irrelevant::relevant(all.clone(), [&then, &now])
    };
    if changed.is_empty() {
        return transaction::commits();
    }
    let found = OnceCell::new();
    let own = || Rc::clone(found.get_or_init(|| Rc::new(catalog::find_own(&now))));
    let ended = ended::warnings(&changed, &now, &own);
    transaction::commits();
    if is_concerned {
        // Nothing but a commit checks the policies of unchanged tables.
        transaction::leave_for_commit();
    } else if checked.is_none() && !transaction::is_relevant() {
        if transaction::is_settled(&now.committed(), None) {
            return ended::raise(ended);
        }
        let uses = Uses::of(&changed, &now);
        if snapshots_of(&changed, vec![], &now, Moment::Commit, &uses).is_none() {
            return ended::raise(ended);
        }
    }
    let own = own();
    cache_hashes_of_exempt(&changed, &now, &own);
    lock::acquire_commit_lock(&own);
    let fresh = State::now();
    let contract = contract::in_force(&fresh, &own);
    if !transaction::is_settled(&fresh.committed(), Some(&contract)) {
        // SAFETY: reads the state of the current transaction.
        let is_block = unsafe { pg_sys::IsTransactionBlock() };
        let at = if is_block { RejectedAt::Commit } else { RejectedAt::Alone };
        run(&changes::all(), at, &transaction::subject());
    }
    ended::raise(ended);
    if is_prepared || drops_permanent_objects(&all, &fresh) {
        if affects_other_transactions(&changed, &fresh) {
            enforce::cannot_release_commit_lock(is_prepared, contract.enforcement);
        }
        lock::release_commit_lock(&own);
    }
}

/// Whether a temporary table of this session, which may be dropped now, has permanent dependents.
/// Dropping these may wait for locks, and meanwhile no other session should wait for this one.
/// (Tables of other sessions are among the changes too: a session receives the invalidations of all
/// others.)
fn drops_permanent_objects(changed: &[Changed], now: &State) -> bool {
    let is_dropped_with_dependents =
        |oid: Oid| temporary::is_own(now, oid) && temporary::has_permanent_dependents(now, oid);
    temporary::has_schema()
        && changed
            .iter()
            .any(|c| matches!(c, Changed::Relation(oid) if is_dropped_with_dependents(*oid)))
}

/// Computes the hashes of exempt objects that this transaction has written. This may wait for
/// locks, so it happens before the commit lock is acquired, and for no other objects: a session
/// must not wait for the locks of objects that only others have changed.
fn cache_hashes_of_exempt(changed: &[Changed], now: &State, own: &Own) {
    let current = Current::read(now, own, Freshness::Cached);
    if current.is_empty() {
        return;
    }
    let then = transaction::before(now);
    let is_exempt = |object: ObjectId| {
        interrupts();
        catalog::identity(now, object).is_some_and(|identity| current.rest_on(object, &identity))
    };
    let is_written = |object: ObjectId| {
        catalog::is_written(now, object) || catalog::is_redefined(&then, now, object)
    };
    let objects: HashSet<ObjectId> = changed
        .iter()
        .filter_map(|one| match *one {
            Changed::Relation(oid) => Some(ObjectId::Relation(oid)),
            Changed::Routine(oid) | Changed::RoutineRow(oid) => Some(ObjectId::Routine(oid)),
            _ => None,
        })
        .filter(|object| is_exempt(*object) && is_written(*object))
        .collect();
    catalog::cache_hashes(now, objects.into_iter());
}

/// Checks the transaction as a commit would. Raises an error where a commit would be rejected.
/// `statements` are those of the call of `ops.declare()` that has executed it.
pub fn as_if_committing(statements: Option<&str>) {
    let (changed, now) = (changes::all(), State::now());
    if !changed.is_empty() && Own::is_there(&now) {
        let own = Rc::new(catalog::find_own(&now));
        let ended = ended::warnings(&changed, &now, &|| Rc::clone(&own));
        cache_hashes_of_exempt(&changed, &now, &own);
        run_after(&changed, RejectedAt::Commit, &transaction::subject(), statements);
        ended::raise(ended);
    }
}

/// Checks the value that ALTER SYSTEM is about to store: it writes a file, which an error after the
/// statement does not undo. `tag` is the command.
pub fn server_setting(parameter: &str, value: &str, tag: &str) {
    let now = State::now();
    if settings::mode() == Mode::off || !catalog::weakens(parameter, value) || !Own::is_there(&now)
    {
        return;
    }
    let own = catalog::find_own(&now);
    let contract = contract::in_force(&now, &own);
    let before = (*catalog::current_base()).clone().complete();
    let mut after = before.clone();
    after.guard.server_settings.push((parameter.to_owned(), value.to_owned()));
    let (access_before, access_after) = (Access::new(&before), Access::new(&after));
    let old = Context::new(&contract, &before, &access_before, &interrupts);
    let new = Context::new(&contract, &after, &access_after, &interrupts);
    let exempt = Exempt { now: &now, own, freshness: Freshness::Cached, current: OnceCell::new() };
    let mut found = Change::new(&old, &new).regressions(&stored_settings::RULE);
    found.retain(|regression| !exempt.finding(&new, &regression.audited));
    // No later statement of a transaction can revert it.
    found.iter_mut().for_each(|regression| regression.settled = false);
    let found = found.iter().map(|r| {
        let rejection = Rejection::of_regression(&contract, r, tag);
        let limit = rejection.rule.limit(&contract);
        Violation { rejection, action: r.action, limit }
    });
    let none = Completion::default();
    enforce::act(&contract, found.collect(), &none, RejectedAt::Statement, tag);
}

/// Whether the guard rejects violations in this session, under the contract in force.
pub fn is_blocking(now: &State) -> bool {
    let blocks =
        || contract::in_force(now, &catalog::find_own(now)).enforcement == Enforcement::Block;
    settings::mode() == Mode::block && (!Own::is_there(now) || blocks())
}

/// Whether checks of other transactions may depend on these changes: changes of schemas, of
/// SECURITY DEFINER routines or of the objects in schemas.
fn affects_other_transactions(changed: &[Changed], now: &State) -> bool {
    let then = transaction::before(now);
    let scope = Scope::of(changed, &then, now);
    let Some(states) = snapshots::read(&scope, &then, now, None, false) else { return false };
    states.plan != Plan::Changed
        || !scope.placed.is_empty()
        || states.after.routines.iter().any(|r| r.security_definer)
}

/// Rejects the transaction if it has dropped the extension. Only a superuser may drop it, by its
/// name, and only where the guard is not hardened.
fn reject_dropping_guard() {
    let is_by_name = transaction::drops_guard();
    if Own::is_there(&transaction::before(&State::now()))
        && (settings::is_hardened() || !is_by_name)
    {
        let tag = transaction::last_started();
        // A temporary object that is dropped at commit may take the extension along.
        let tag = if tag.is_empty() { "COMMIT" } else { &tag };
        enforce::drops_guard(tag, is_by_name);
    }
    log_dropping_guard();
}

/// Logs a transaction that has dropped the extension.
pub fn log_dropping_guard() {
    let now = State::now();
    if Own::is_there(&transaction::before(&now)) && !Own::is_there(&now) {
        let tag = transaction::last_started();
        enforce::dropped(if tag.is_empty() { "DROP EXTENSION" } else { &tag });
    }
}

/// A violation, and when it is reported.
struct Found {
    violation: Violation,
    /// Whether no later statement is expected to correct it.
    is_settled: bool,
}

impl Found {
    /// Returns a violation with the guard action of its rule in the contract, or a milder one.
    fn new(cx: &Context<'_>, rejection: Rejection, action: GuardAction, is_settled: bool) -> Self {
        let limit = rejection.rule.limit(cx.contract);
        Self { violation: Violation { rejection, action, limit }, is_settled }
    }

    /// Returns a violation that would disable the guard, which is blocked whatever the contract
    /// says: the guard could report nothing after it.
    fn of_guard(rejection: Rejection) -> Self {
        let violation =
            Violation { rejection, action: GuardAction::Block, limit: GuardAction::Block };
        Self { violation, is_settled: true }
    }

    /// Whether it is reported now, and not at commit.
    fn is_due_at(&self, moment: Moment) -> bool {
        moment == Moment::Commit || self.is_settled && self.violation.action == GuardAction::Block
    }

    /// Whether the guard rejects the statement or the transaction because of it.
    fn is_rejected_at(&self, moment: Moment) -> bool {
        self.is_due_at(moment) && self.violation.enforced() == GuardAction::Block
    }

    /// Whether it would be reported at commit because a new object allows too much.
    fn is_addition(&self) -> bool {
        let regression = self.violation.rejection.regression.as_ref();
        regression.is_some_and(|r| r.can_be_completed && !r.is_missing)
    }
}

/// What a check has found.
struct Violations {
    found: Vec<Found>,
    /// The statements that fix what is rejected; none where nothing is.
    completion: Completion,
}

/// The input of one check.
struct Input<'a> {
    states: &'a Snapshots,
    now: &'a State,
    changed: &'a [Changed],
    /// What the changed objects use, compared with before.
    uses: &'a Uses,
    moment: Moment,
    /// The tag of the command.
    tag: &'a str,
    /// Freshness of the hashes of exempt objects.
    freshness: Freshness,
}

fn check(input: Input<'_>) -> Violations {
    let Input { states, now, changed, uses, moment, tag, freshness } = input;
    let Snapshots { before, after, contract, .. } = states;
    let (access_before, access_after) = (Access::new(before), Access::new(after));
    let schemas = differing_schemas([before, after]);
    let names = schemas.as_ref().map(|_| names_of([before, after]));
    let old = Context::new(contract, before, &access_before, &interrupts);
    let new = Context::new(contract, after, &access_after, &interrupts);
    let checked = Checked {
        states,
        old: &old.about(schemas.clone()).about_names(names.clone()),
        new: &new.about(schemas.clone()).about_names(names.clone()),
        schemas,
        names,
        exempt: &Exempt { now, own: states.objects, freshness, current: OnceCell::new() },
        granted_to_public: granted_to_public(changed),
        needs: OnceCell::new(),
        tag,
    };
    let routines = checked.changed_routines(changed);
    let mut found = checked.routines(&routines);
    if checked.shows_more_than_changes() {
        found.extend(checked.exposed_routines(&routines));
        found.extend(checked.routines_with_caller_types(&routines));
    }
    if temporary::has_schema() {
        found.extend(temporary_dependencies(checked.new, changed, now));
    }
    found.extend(checked.regressions());
    found.extend(checked.bodies(&routines, moment));
    found.extend(checked.remaining(changed));
    found.extend(checked.opened_rows());
    found.extend(checked.replaced_views());
    found.extend(checked.loosened_views());
    found.extend(checked.left_behind(&(&uses.lost | &reasons::used_as_another(states, now))));
    found.extend(checked.shown_by(&uses.widened));
    found.extend(checked.redirected_writes(&uses.written));
    found.extend(checked.inherited_rows(&uses.attached));
    found.extend(checked.untrusted_code(&uses.untrusted));
    found.extend(checked.accesses_through(moment));
    let completion = checked.completion(&found, moment);
    Violations { found, completion }
}

/// Returns the schemas about which the states can differ: `None` for all, and where schemas and
/// roles are the same in both, as after most statements, those of the objects that the states show.
/// A rule says the same of the others, of which there can be thousands.
fn differing_schemas([before, after]: [&Snapshot; 2]) -> Option<Rc<HashSet<Oid>>> {
    let is_same = before.schemas.is_same(&after.schemas)
        && before.roles.is_same(&after.roles)
        && before.memberships.is_same(&after.memberships)
        && before.database == after.database
        && before.anonymous == after.anonymous;
    is_same.then(|| {
        let states = [before, after];
        let relations = states.into_iter().flat_map(|state| &state.relations).map(|r| r.schema);
        let routines = states.into_iter().flat_map(|state| &state.routines).map(|r| r.schema);
        Rc::new(relations.chain(routines).collect())
    })
}

/// Returns the names of the objects that the states show. Where schemas and roles are the same in
/// both states, a rule says the same of declared objects with other names, which neither shows: a
/// contract can declare thousands of them.
fn names_of(states: [&Snapshot; 2]) -> Rc<HashSet<String>> {
    let relations = states.into_iter().flat_map(|state| &state.relations).map(|r| &r.name);
    let routines = states.into_iter().flat_map(|state| &state.routines).map(|r| &r.name);
    Rc::new(relations.chain(routines).cloned().collect())
}

/// Returns the routines on which statements have granted EXECUTE to PUBLIC.
fn granted_to_public(changed: &[Changed]) -> HashSet<Oid> {
    let grants = changed.iter().filter_map(|one| match one {
        Changed::GrantToPublic(oid) => Some(*oid),
        _ => None,
    });
    grants.collect()
}

/// Both states with everything that is needed to check them.
struct Checked<'c, 's> {
    states: &'s Snapshots,
    old: &'c Context<'s>,
    new: &'c Context<'s>,
    exempt: &'c Exempt<'s>,
    /// See [`differing_schemas`].
    schemas: Option<Rc<HashSet<Oid>>>,
    /// See [`names_of`].
    names: Option<Rc<HashSet<String>>>,
    /// The routines on which EXECUTE has been granted to PUBLIC.
    granted_to_public: HashSet<Oid>,
    /// See [`Self::read_needs`].
    needs: OnceCell<Option<Snapshot>>,
    tag: &'c str,
}

impl Checked<'_, '_> {
    /// Whether the snapshots show objects that no command has changed.
    fn shows_more_than_changes(&self) -> bool {
        self.states.plan != Plan::Changed
    }

    /// Returns the routines that commands have changed, and those whose catalog row differs,
    /// because it may have been written directly.
    fn changed_routines(&self, changed: &[Changed]) -> HashSet<Oid> {
        let Snapshots { before, after, .. } = self.states;
        let earlier: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
        let by_commands = changed
            .iter()
            .filter_map(|c| if let Changed::Routine(oid) = c { Some(*oid) } else { None });
        let by_row = after
            .routines
            .iter()
            .filter(|r| earlier.get(&r.oid).is_none_or(|earlier| *earlier != *r))
            .map(|r| r.oid);
        by_commands.chain(by_row).collect()
    }

    /// Checks the SECURITY DEFINER routines among `routines`, and the settings of the others.
    /// (Routines that no command has changed are checked for changes of the schemas around them,
    /// see [`Self::exposed_routines`].)
    fn routines(&self, routines: &HashSet<Oid>) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        let Snapshots { before, after, .. } = self.states;
        let earlier: HashMap<Oid, &Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
        let is_changed = |r: &Routine| !self.shows_more_than_changes() || routines.contains(&r.oid);
        let mut found = Vec::new();
        for routine in after.routines.iter().filter(|r| is_changed(r) && !is_excused(old, new, r)) {
            if !routine.security_definer {
                let earlier = earlier.get(&routine.oid).copied();
                found.extend(setting_checks(old, new, (routine, earlier), exempt));
                continue;
            }
            let earlier = earlier
                .get(&routine.oid)
                .copied()
                .filter(|earlier| is_comparable(old, new, earlier, routine));
            found.extend(setting_checks(old, new, (routine, earlier), exempt));
            found.extend(caller_types_check(old, new, (routine, earlier), exempt));
            found.extend(
                path_check(new, routine, earlier, tag).filter(|_| !exempt.path(new, routine)),
            );
        }
        found
    }

    /// Checks what the bodies of changed SECURITY DEFINER routines let clients do: at commit,
    /// because the server grants EXECUTE on a new routine to PUBLIC.
    fn bodies(&self, routines: &HashSet<Oid>, moment: Moment) -> Vec<Found> {
        let concerned = bodies::concerned(self.new, routines);
        if concerned.is_empty() {
            return vec![];
        }
        if moment == Moment::Statement {
            transaction::leave_for_commit();
            return vec![];
        }
        let states = [&transaction::before(self.exempt.now), self.exempt.now];
        let mut worse = bodies::regressions(self.states, &concerned, states);
        worse.iter_mut().for_each(|regression| regression.settled = false);
        self.found(self.new, worse)
    }

    /// Checks unchanged SECURITY DEFINER routines whose search_path has become unsafe by changes
    /// of schemas.
    fn exposed_routines(&self, routines: &HashSet<Oid>) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        let mut all = exposed(old, new, routines);
        all.retain(|e| !exempt.path(new, e.routine));
        let (blocked, warned): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|e| e.at_most == GuardAction::Block);
        let found = |exposed: Vec<Exposed<'_>>| {
            // Another schema may still get the name of a renamed or dropped one, or the
            // search_paths that name it may still be changed. The contract trusts roles by name.
            let is_settled = !renames_roles(old.snapshot, new.snapshot)
                && exposed.iter().any(|e| {
                    e.assessment.reasons.iter().any(|r| r.code != ReasonCode::MissingSchema)
                });
            let at_most = exposed.first()?.at_most;
            let action = new.guard_action(&search_path::RULE).min(at_most);
            let rejection = Rejection::of_exposed(new, &exposed, tag)?;
            Some(Found::new(new, rejection, action, is_settled))
        };
        [blocked, warned].into_iter().filter_map(found).collect()
    }

    /// Checks unchanged SECURITY DEFINER routines whose callers choose a type: a role can create
    /// types now, or execute the routine.
    fn routines_with_caller_types(&self, changed: &HashSet<Oid>) -> Vec<Found> {
        let Self { old, new, exempt, .. } = *self;
        let earlier: HashMap<Oid, &Routine> =
            old.snapshot.routines.iter().map(|r| (r.oid, r)).collect();
        let typed = &new.snapshot.caller_typed;
        let is_unchanged = |r: &&Routine| typed.contains_key(&r.oid) && !changed.contains(&r.oid);
        let mut found = Vec::new();
        for routine in new.snapshot.routines.iter().filter(is_unchanged) {
            interrupts();
            let earlier = earlier.get(&routine.oid).copied();
            if earlier.is_some() && !is_excused(old, new, routine) {
                found.extend(caller_types_check(old, new, (routine, earlier), exempt));
            }
        }
        found
    }

    /// Checks whether policies open rows to clients in a way that is no finding.
    fn opened_rows(&self) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        let found = |opened: &Opened<'_>| {
            let rejection = Rejection::of_opened(new, opened, tag);
            let by_contract = new.guard_action(rejection.rule);
            let (action, is_settled) = match opened.how {
                Opening::AlwaysTrue { existed } => (by_contract, existed),
                Opening::NoLongerRestricted => (by_contract.min(GuardAction::Warn), false),
            };
            Found::new(new, rejection, action, is_settled)
        };
        let mut opened = opened(old, new);
        opened.retain(|opened| !exempt.finding(new, &opened.finding(new)));
        opened.iter().map(found).collect()
    }

    /// Warns about tables whose rows clients can access through a new parent. An application's
    /// partitions are attached in the same way.
    fn inherited_rows(&self, attached: &[Attached]) -> Vec<Found> {
        let states = [&transaction::before(self.exempt.now), self.exempt.now];
        let found = |rejection: Rejection| {
            let action = self.new.guard_action(rejection.rule).min(GuardAction::Warn);
            Found::new(self.new, rejection, action, true)
        };
        inherited::rejections(self.states, attached, states, self.tag)
            .into_iter()
            .map(found)
            .collect()
    }

    /// Checks whether declared views have been replaced by other ones.
    fn replaced_views(&self) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        let mut replaced = replaced(old, new);
        replaced.retain(|replaced| !exempt.finding(new, &replaced.finding(new)));
        let found = |replaced: &Replaced<'_>| {
            let rejection = Rejection::of_replaced(new, replaced, tag);
            // A later statement may still drop it and create it again.
            let action = new.guard_action(rejection.rule);
            Found::new(new, rejection, action, false)
        };
        replaced.iter().map(found).collect()
    }

    /// Warns about declared views that lose an option that clients depend on. A later statement may
    /// still restore it.
    fn loosened_views(&self) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        let mut loosened = loosened(old, new);
        loosened.retain(|loosened| !exempt.finding(new, &loosened.finding(new)));
        let found = |loosened: &Loosened<'_>| {
            let rejection = Rejection::of_loosened(new, loosened, tag);
            let action = new.guard_action(rejection.rule).min(GuardAction::Warn);
            Found::new(new, rejection, action, false)
        };
        loosened.iter().map(found).collect()
    }

    /// Checks whether views show clients rows that the contract does not permit these to read.
    fn shown_by(&self, widened: &[Widened]) -> Vec<Found> {
        if widened.is_empty() {
            return vec![];
        }
        let Self { exempt, tag, .. } = *self;
        let relations = widened.iter().flat_map(|one| one.reads.iter().copied().chain([one.view]));
        let snapshot = views::with_relations(self.states, relations, exempt.now);
        let access = Access::new(&snapshot);
        let cx = &Context::new(&self.states.contract, &snapshot, &access, &interrupts);
        let mut shown = shown(self.old, cx, widened);
        shown.retain(|shown| !exempt.finding(cx, &shown.finding(cx)));
        let found = |shown: &Shown<'_>| {
            let rejection = Rejection::of_shown(cx, shown, tag);
            let action = cx.guard_action(rejection.rule).min(shown.at_most());
            Found::new(cx, rejection, action, shown.existed)
        };
        shown.iter().map(found).collect()
    }

    /// Warns about declared views through which clients change tables as the owner of the view,
    /// which triggers or rules prevented before. A later statement may still create them again.
    fn redirected_writes(&self, written: &[Written]) -> Vec<Found> {
        if written.is_empty() {
            return vec![];
        }
        let Self { exempt, tag, .. } = *self;
        let relations = written.iter().flat_map(|one| [one.view, one.table]);
        let snapshot = views::with_relations(self.states, relations, exempt.now);
        let access = Access::new(&snapshot);
        let cx = &Context::new(&self.states.contract, &snapshot, &access, &interrupts);
        let mut redirected = redirected(cx, written);
        redirected.retain(|redirected| !exempt.finding(cx, &redirected.finding(cx)));
        let found = |redirected: &Redirected<'_>| {
            let rejection = Rejection::of_redirected(cx, redirected, tag);
            let action = cx.guard_action(rejection.rule).min(GuardAction::Warn);
            Found::new(cx, rejection, action, false)
        };
        redirected.iter().map(found).collect()
    }

    /// Warns about declared views and routines that access less than before, or show more, because
    /// the role has changed as which they are checked, or what it can access. A later statement may
    /// still revert it.
    fn accesses_through(&self, moment: Moment) -> Vec<Found> {
        let Some(concerned) = Concerned::of(self.states) else { return vec![] };
        if moment == Moment::Statement {
            transaction::leave_for_commit();
            return vec![];
        }
        let Self { exempt, tag, .. } = *self;
        let states = [&transaction::before(exempt.now), exempt.now];
        let [before, after] = concerned.read(self.states, states);
        let (old, new) = (Access::new(&before), Access::new(&after));
        let contract = &self.states.contract;
        let old = Context::new(contract, &before, &old, &interrupts);
        let new = Context::new(contract, &after, &new, &interrupts);
        let mut through = through(&old, &new);
        through.retain_mut(|through| was_possible(exempt.now, through));
        through.retain(|through| !exempt.finding(&new, &through.finding(&new)));
        let found = |through: &Through<'_>| {
            let rejection = Rejection::of_through(&new, through, tag);
            let action = new.guard_action(rejection.rule).min(GuardAction::Warn);
            Found::new(&new, rejection, action, false)
        };
        through.iter().map(found).collect()
    }

    /// Returns the rules that are checked by comparing findings.
    fn rules(&self) -> Vec<&'static Rule> {
        let states = self.states;
        let are_names_changed = names(&states.before) != names(&states.after)
            || declared_columns(states, &states.before) != declared_columns(states, &states.after);
        RULES.iter().copied().filter(|rule| applies(rule, states, are_names_changed)).collect()
    }

    /// Checks both states by all other rules: only regressions are blocked. What the contract
    /// declares may need a privilege that is beyond it: this is read only where a regression is
    /// found. The earlier state is checked without it, so that a privilege which is needed no
    /// longer is no regression of the transaction that drops, for example, the policy.
    fn regressions(&self) -> Vec<Found> {
        let worse = self.worse_in(self.new);
        let Some(needs) = self.needs.get_or_init(|| self.read_needs(&worse)) else {
            return self.found(self.new, worse);
        };
        // A later statement of the transaction may remove the reason.
        transaction::leave_for_commit();
        let access = Access::new(needs);
        let new = Context::new(&self.states.contract, needs, &access, &interrupts);
        let new = &new.about(self.schemas.clone()).about_names(self.names.clone());
        self.found(new, self.worse_in(new))
    }

    /// Warns about what remains of exempt findings: it is another finding than the accepted one.
    /// Also about objects that the changed ones use, which may need privileges there now.
    fn remaining(&self, changed: &[Changed]) -> Vec<Found> {
        let Self { old, new, exempt, tag, .. } = *self;
        if self.shows_more_than_changes() || exempt.current().is_empty() {
            return vec![];
        }
        let change = Change::new(old, new);
        let rules = self.rules();
        let mut remaining: Vec<Remaining> =
            rules.iter().flat_map(|rule| change.remaining(rule)).collect();
        let (then, now) = (&transaction::before(exempt.now), exempt.now);
        let is_exempt = |object| {
            catalog::identity(now, object)
                .is_some_and(|identity| exempt.current().rest_on(object, &identity))
        };
        remaining.extend(reasons::remaining(self.states, changed, [then, now], &rules, &is_exempt));
        let found = |remaining: Remaining| {
            let (exemption, status) = exempt.current().about(&remaining.was)?;
            if status != Status::Active || exempt.hides(new, &remaining.is) {
                return None;
            }
            let rejection = Rejection::of_remaining(new.contract, exemption, &remaining, tag);
            let action = new.guard_action(rejection.rule).min(GuardAction::Warn);
            Some(Found::new(new, rejection, action, true))
        };
        remaining.into_iter().filter_map(found).collect()
    }

    /// Warns about privileges that are permitted no longer, because a command has removed what
    /// needed them. Dropping that is allowed: the privileges were there before.
    fn left_behind(&self, lost: &HashSet<ObjectId>) -> Vec<Found> {
        let (then, now) = (&transaction::before(self.exempt.now), self.exempt.now);
        let warning = |worse: Regression| {
            let mut rejection = Rejection::of_regression(&self.states.contract, &worse, self.tag);
            rejection.left_behind(&worse);
            Found::new(self.new, rejection, worse.action.min(GuardAction::Warn), true)
        };
        reasons::left_behind(self.states, lost, [then, now], &self.rules())
            .into_iter()
            .filter(|worse| !self.exempt.finding(self.new, &worse.audited))
            .map(warning)
            .collect()
    }

    /// Checks whether declared objects execute routines of roles that are not trusted.
    fn untrusted_code(&self, routines: &[ObjectId]) -> Vec<Found> {
        let (then, now) = (&transaction::before(self.exempt.now), self.exempt.now);
        let worse = untrusted::regressions(self.states, routines, [then, now]);
        self.found(self.new, worse)
    }

    /// Returns the later state with what something declared needs of the objects with regressions;
    /// `None` where there are none.
    fn read_needs(&self, worse: &[Regression]) -> Option<Snapshot> {
        let objects: Vec<ObjectId> = worse
            .iter()
            .map(|worse| worse.finding.object.id)
            .filter(|id| matches!(id, ObjectId::Routine(_) | ObjectId::Relation(_)))
            .collect();
        let after = &self.states.after;
        (!objects.is_empty()).then(|| catalog::with_users(self.exempt.now, after, &objects))
    }

    /// Returns the earlier state with what something declared needed of the objects of violations:
    /// what is permitted because of that is no finding there either.
    fn read_earlier_needs(&self, found: &[Found]) -> Snapshot {
        let regressions = found.iter().filter_map(|f| f.violation.rejection.regression.as_ref());
        let objects: Vec<ObjectId> = regressions
            .map(|regression| regression.finding.object.id)
            .filter(|id| matches!(id, ObjectId::Routine(_) | ObjectId::Relation(_)))
            .collect();
        let then = transaction::before(self.exempt.now);
        catalog::with_users(&then, &self.states.before, &objects)
    }

    fn worse_in(&self, new: &Context<'_>) -> Vec<Regression> {
        let change =
            Change::new(self.old, new).with_grants_to_public(self.granted_to_public.clone());
        self.rules().into_iter().flat_map(|rule| change.regressions(rule)).collect()
    }

    /// Returns the regressions that are not exempt.
    fn found(&self, new: &Context<'_>, worse: Vec<Regression>) -> Vec<Found> {
        let found = |worse: Regression| {
            let mut rejection = Rejection::of_regression(&self.states.contract, &worse, self.tag);
            let tables = self.read_as_owner(new, &worse);
            if !tables.is_empty() {
                rejection.reads_as_owner(&tables);
            }
            Found::new(new, rejection, worse.action, worse.settled)
        };
        worse
            .into_iter()
            .filter(|worse| !self.exempt.finding(new, &worse.audited))
            .map(found)
            .collect()
    }

    /// Returns the tables with row security that a view reads with the privileges of its owner,
    /// where a regression is about who can read the view.
    fn read_as_owner(&self, new: &Context<'_>, worse: &Regression) -> Vec<String> {
        let view = match worse.finding.object.id {
            ObjectId::Relation(oid)
                if !worse.is_missing && READING.contains(&worse.finding.rule) =>
            {
                new.snapshot.relation(oid)
            }
            _ => None,
        };
        let is_owners =
            |view: &&Relation| view.kind == RelationKind::View && !view.security_invoker;
        let Some(view) = view.filter(is_owners) else { return vec![] };
        let behind = catalog::behind_view(self.exempt.now, view.oid);
        let snapshot = views::with_relations(self.states, behind.iter().copied(), self.exempt.now);
        let tables =
            snapshot.relations.iter().filter(|r| behind.contains(&r.oid) && r.row_security);
        tables.map(|table| snapshot.relation_sql(table)).collect()
    }

    /// Returns the statements that fix what is rejected and what would be warned about: after a
    /// statement only what a new object allows, because the transaction has to run the statement
    /// again.
    fn completion(&self, found: &[Found], moment: Moment) -> Completion {
        if !found.iter().any(|found| found.is_rejected_at(moment)) {
            return self.accepting(found, moment);
        }
        let is_offered = |r: &Regression| moment == Moment::Commit || r.can_be_completed;
        let rejections = found.iter().map(|found| &found.violation.rejection);
        let regressions = rejections.filter_map(|rejection| rejection.regression.as_ref());
        let offered: Vec<&Regression> = regressions.filter(|r| is_offered(r)).collect();
        let needs = self.needs.get().and_then(Option::as_ref);
        let earlier = needs.map(|_| self.read_earlier_needs(found));
        let [before, after] =
            [earlier.as_ref().unwrap_or(&self.states.before), needs.unwrap_or(&self.states.after)];
        let (was, is) = (Access::new(before), Access::new(after));
        let before = Context::new(&self.states.contract, before, &was, &interrupts);
        let after = Context::new(&self.states.contract, after, &is, &interrupts);
        let (mut rejected, mut warned): (Vec<&Regression>, Vec<&Regression>) = (vec![], vec![]);
        for found in found {
            let Some(regression) = found.violation.rejection.regression.as_ref() else { continue };
            if found.is_rejected_at(moment) {
                rejected.push(regression);
            } else if found.violation.is_new_warning() && !is_by_default(regression) {
                warned.push(regression);
            }
        }
        Completer {
            before: &before,
            after: &after,
            rules: &self.rules(),
            granted_to_public: &self.granted_to_public,
            is_wanted: &|cx, regression| {
                is_offered(regression) && !self.exempt.finding(cx, &regression.audited)
            },
            whole: &|| Some(self.whole()),
            is_exempt: &|cx, finding| self.exempt.hides(cx, finding),
            // SAFETY: reads a variable of the backend.
            runner: unsafe { pg_sys::GetUserId() }.to_u32(),
            interrupts: &interrupts,
        }
        .complete(&offered, &rejected, &warned)
    }

    /// Returns the causes of what the guard is about to warn of, and the declarations under which
    /// the contract would allow it: all of it, or else single violations.
    fn accepting(&self, found: &[Found], moment: Moment) -> Completion {
        let warned: Vec<&Regression> = found
            .iter()
            .filter(|found| found.is_due_at(moment) && found.violation.is_new_warning())
            .filter_map(|found| found.violation.rejection.regression.as_ref())
            .filter(|regression| !is_by_default(regression))
            .collect();
        let mut intended = intended(warned.iter().copied(), &[]);
        intended.retain(|regression| {
            !READING_ALL.contains(&regression.finding.rule) || is_among_first(&regression.finding)
        });
        // A role that is missing may have another name now.
        let missing = warned.into_iter().filter(|regression| is_role_missing(regression));
        let all: Vec<&Regression> = intended.iter().copied().chain(missing).collect();
        if all.is_empty() {
            return Completion::default();
        }
        let needs = self.needs.get().and_then(Option::as_ref);
        let earlier = needs.map(|_| self.read_earlier_needs(found));
        let [before, after] =
            [earlier.as_ref().unwrap_or(&self.states.before), needs.unwrap_or(&self.states.after)];
        let (was, is) = (Access::new(before), Access::new(after));
        let before = Context::new(&self.states.contract, before, &was, &interrupts);
        let after = Context::new(&self.states.contract, after, &is, &interrupts);
        let states = States {
            before: &before,
            after: &after,
            granted_to_public: &self.granted_to_public,
            whole: &|| Some(self.whole()),
            is_exempt: &|cx, finding| self.exempt.hides(cx, finding),
        };
        // SAFETY: reads a variable of the backend.
        let runner = unsafe { pg_sys::GetUserId() }.to_u32();
        let causes = causes(&before, &after, runner, &all);
        let renamed = Declared::of_renamed(states, &causes, &all);
        let declared = match renamed.or_else(|| Declared::of(states, &intended)) {
            Some(all) => vec![all],
            None if intended.len() == 1 => vec![],
            None => {
                let single = intended.into_iter().take(MOST_TRIED);
                single.filter_map(|regression| Declared::of(states, &[regression])).collect()
            }
        };
        Completion { declared, causes, ..Completion::default() }
    }

    /// Reads both states of everything that the rules check, as an audit would: a declaration may
    /// concern objects that the transaction does not change.
    fn whole(&self) -> [Snapshot; 2] {
        let now = self.exempt.now;
        let then = transaction::before(now);
        let own = catalog::find_own(now);
        let contract = &self.states.contract;
        let read =
            |state: &State| catalog::with_parts(state, catalog::objects_of(state, contract, &own));
        let [mut before, mut after] = [read(&then), read(now)];
        snapshots::add_policies([&mut before, &mut after], contract, [&then, now]);
        [before, after]
    }
}

/// The rules about who can read views.
const READING: [&Rule; 2] = [&undeclared_view_readable::RULE, &view_privileges::RULE];

/// The rules about roles and schemas that the contract does not declare: what declares them is
/// tried on the whole catalog.
const READING_ALL: [&Rule; 2] =
    [&undeclared_role_privileges::RULE, &ungoverned_schema_access::RULE];

/// Whether this session has been warned about a finding a few times at most. A script that grants
/// privileges on thousands of objects one by one is not told each time what would declare them.
fn is_among_first(finding: &Finding) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, usize>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        let times = known.entry(finding.fingerprint.clone()).or_default();
        *times += 1;
        *times <= MOST_TIMES
    })
}

/// How often a session is told what would declare the same finding, which grows with each grant.
const MOST_TIMES: usize = 20;

/// How many findings a session remembers that it has been warned about.
const MOST_KNOWN: usize = 1_000;

/// How many warnings are tried on the contract one by one where it cannot allow all of them.
const MOST_TRIED: usize = 5;

/// The exemptions, read when the first violation is found, which is rare.
struct Exempt<'s> {
    now: &'s State,
    own: Own,
    freshness: Freshness,
    current: OnceCell<Current<'s>>,
}

impl Exempt<'_> {
    /// Whether a finding is exempt. If so, the transaction is checked again at commit, because the
    /// exemption may be withdrawn until then.
    fn finding(&self, cx: &Context<'_>, finding: &Finding) -> bool {
        let accepted = self.hides(cx, finding);
        if accepted {
            transaction::leave_for_commit();
        }
        accepted
    }

    /// Whether a finding is exempt now.
    fn hides(&self, cx: &Context<'_>, finding: &Finding) -> bool {
        let current = self.current();
        // With the severity of the audit.
        let severity = finding.severity.min(cx.severity(finding.rule));
        !current.is_empty() && current.accept(&Finding { severity, ..finding.clone() })
    }

    fn current(&self) -> &Current<'_> {
        self.current.get_or_init(|| Current::read(self.now, &self.own, self.freshness))
    }

    /// Whether the audit's finding about the search_path of a routine is exempt.
    fn path(&self, cx: &Context<'_>, routine: &Routine) -> bool {
        search_path::finding(cx, routine).is_some_and(|finding| self.finding(cx, &finding))
    }
}

/// Checks changed permanent objects that depend on a temporary object, and those that depend on a
/// changed temporary routine. They are rejected where dropping the temporary object would drop an
/// object that the contract protects, or where they let other sessions call a temporary SECURITY
/// DEFINER routine.
fn temporary_dependencies(cx: &Context<'_>, changed: &[Changed], now: &State) -> Vec<Found> {
    let then = transaction::before(now);
    let mut found = Vec::new();
    for object in permanent_objects(changed, now) {
        let dependency = temporary::dependency(now, object);
        if dependency == TemporaryDependency::None
            || dependency == temporary::dependency(&then, object)
        {
            continue;
        }
        let calls_definer = dependency == TemporaryDependency::TemporaryDefiner;
        let dropped = || temporary::dropped_with(now, object).into_iter();
        if calls_definer || dropped().any(|object| is_protected(cx, object)) {
            let description = catalog::description(object.0.into(), object.1.into());
            let rejection =
                Rejection::of_temporary_dependency(cx.contract, &description, calls_definer);
            found.push(if dropped().any(|object| is_guard(cx, object)) {
                Found::of_guard(rejection)
            } else {
                Found::new(cx, rejection, GuardAction::Block, true)
            });
        }
    }
    found
}

/// Returns the changed permanent objects, and the permanent objects that depend on changed
/// temporary SECURITY DEFINER routines.
fn permanent_objects(changed: &[Changed], now: &State) -> Vec<Address> {
    let mut objects = Vec::new();
    for one in changed {
        let object = match *one {
            Changed::Relation(oid) => (catalog::PG_CLASS, oid),
            Changed::Routine(oid) | Changed::RoutineRow(oid) => (catalog::PG_PROC, oid),
            Changed::Other(catalog, oid) | Changed::Object(catalog, oid) => (catalog, oid),
            _ => continue,
        };
        if temporary::is_permanent(now, object) {
            objects.push(object);
        } else {
            objects.extend(temporary::permanent_dependents_of_definer(now, object));
        }
    }
    objects.sort_unstable();
    objects.dedup();
    objects
}

/// Whether the contract protects an object: one that it declares, a policy, or the guard itself.
fn is_protected(cx: &Context<'_>, (catalog, oid): (Oid, Oid)) -> bool {
    if catalog == catalog::PG_EXTENSION {
        return is_guard(cx, (catalog, oid));
    }
    if catalog == catalog::PG_POLICY {
        return true;
    }
    let Some((schema, name)) = catalog::name(catalog, oid) else { return false };
    cx.contract.declares_relation(&schema, &name)
        || cx.contract.functions_named(&schema, &name).next().is_some()
}

/// Whether an object is the extension itself.
fn is_guard(cx: &Context<'_>, (catalog, oid): Address) -> bool {
    let is_own = |(name, _): &(String, Oid)| name == "dragonfly_guard";
    catalog == catalog::PG_EXTENSION && cx.snapshot.extensions.get(&oid).is_some_and(is_own)
}

/// Whether a rule is checked after these changes. Rules about routines are checked separately, for
/// each routine.
fn applies(rule: &Rule, states: &Snapshots, are_names_changed: bool) -> bool {
    match rule.recheck {
        Recheck::Routines | Recheck::Uses => false,
        Recheck::Roles => states.plan == Plan::Everything,
        Recheck::Schemas => states.plan != Plan::Changed,
        Recheck::Names => states.plan != Plan::Changed || are_names_changed,
        Recheck::OwnObjects => states.own,
        Recheck::ChangedObjects => true,
    }
}

/// Returns schema, name and kind of all relations and routines, the names of the argument types of
/// the routines, and whether they are SECURITY DEFINER.
fn names(snapshot: &Snapshot) -> HashSet<(Oid, &str, &str, Vec<&str>, bool)> {
    let relations = snapshot
        .relations
        .iter()
        .map(|r| (r.schema, r.name.as_str(), r.kind.object_type(), vec![], false));
    let routines = snapshot.routines.iter().map(|r| {
        let arguments = snapshot.argument_names(r);
        (r.schema, r.name.as_str(), r.object_type(), arguments, r.security_definer)
    });
    relations.chain(routines).collect()
}

/// Returns the names of the columns of each relation of which the contract declares columns.
fn declared_columns<'s>(
    states: &Snapshots,
    snapshot: &'s Snapshot,
) -> HashMap<(Oid, &'s str), &'s [String]> {
    let declares = |relation: &&Relation| {
        let (schema, name) = (snapshot.schema_name(relation.schema), &relation.name);
        states.contract.declares_columns(schema, name)
    };
    let declared = snapshot.relations.iter().filter(declares);
    declared.map(|r| ((r.schema, r.name.as_str()), &*r.column_names)).collect()
}

/// Whether only regressions from the earlier state of a routine are blocked: it was SECURITY
/// DEFINER and not managed by the platform, and its owner has no more privileges now.
fn is_comparable(
    old: &Context<'_>,
    new: &Context<'_>,
    earlier: &Routine,
    routine: &Routine,
) -> bool {
    earlier.security_definer
        && old.routine_managed_by(earlier).is_none()
        && new.access.can_act_as(earlier.owner, routine.owner)
}

/// Rejects a changed routine that has the name of one of the extension's functions: a call that
/// omits arguments could execute it instead, with the privileges of the caller.
fn reject_impostors(changed: &[Changed], tag: &str) {
    for one in changed {
        let Changed::Routine(oid) = one else { continue };
        if let Some(identity) = catalog::impostor(*oid) {
            let now = State::now();
            let contract = contract::in_force(&now, &catalog::find_own(&now));
            let rejection = Rejection::of_impostor(&contract, &identity);
            let found = vec![Found::of_guard(rejection).violation];
            enforce::act(&contract, found, &Completion::default(), RejectedAt::Statement, tag);
        }
    }
}

/// Returns the rejection of a routine's search_path, if it is a regression.
fn path_check(
    cx: &Context<'_>,
    routine: &Routine,
    earlier: Option<&Routine>,
    tag: &str,
) -> Option<Found> {
    let after = definer_path::assess(cx, routine)?;
    let before = earlier.map(|earlier| cx.paths.config(&earlier.config, earlier.owner));
    let at_most = if after.verdict == Verdict::Safe {
        let was_worse = before.as_ref().is_some_and(|b| {
            definer_path::must_be_canonical(cx, routine, b) || b.verdict != Verdict::Safe
        });
        let worse = definer_path::must_be_canonical(cx, routine, &after) && !was_worse;
        if worse { GuardAction::Block } else { GuardAction::Audit }
    } else if definer_path::accepts_empty(cx, &after) {
        GuardAction::Audit
    } else {
        path_at_most(before.as_deref(), &after)
    };
    (at_most > GuardAction::Audit).then(|| {
        let action = cx.guard_action(&search_path::RULE).min(at_most);
        let rejection = Rejection::of_routine(cx, routine, &after, tag);
        Found::new(cx, rejection, action, true)
    })
}

/// Returns the rejection of a routine that executes code of types which its callers choose, if it
/// did not do so before. For a new routine it is checked at commit: the server grants EXECUTE to
/// PUBLIC, and only a later statement can revoke it.
fn caller_types_check(
    old: &Context<'_>,
    new: &Context<'_>,
    (routine, earlier): (&Routine, Option<&Routine>),
    exempt: &Exempt<'_>,
) -> Option<Found> {
    let verdict = new.paths.caller_types(routine)?.verdict;
    let before = earlier.and_then(|earlier| old.paths.caller_types(earlier));
    let finding = search_path::caller_types_finding(new, routine)?;
    if before.is_some_and(|before| before.verdict >= verdict) || exempt.finding(new, &finding) {
        return None;
    }
    let at_most =
        if verdict == Verdict::Exploitable { GuardAction::Block } else { GuardAction::Warn };
    let rejection = Rejection::of_caller_types(new, routine, &finding);
    let action = new.guard_action(&search_path::RULE).min(at_most);
    Some(Found::new(new, rejection, action, earlier.is_some()))
}

/// Returns the rejections of settings that disable protection and are new in a routine.
fn setting_checks(
    old: &Context<'_>,
    cx: &Context<'_>,
    (routine, earlier): (&Routine, Option<&Routine>),
    exempt: &Exempt<'_>,
) -> Vec<Found> {
    let known: Vec<&str> = earlier
        .map(|earlier| {
            let reported = security_definer_settings::reported(old, earlier);
            reported.into_iter().map(|(name, _)| name).collect()
        })
        .unwrap_or_default();
    security_definer_settings::reported(cx, routine)
        .into_iter()
        .filter(|(name, _)| !known.contains(name))
        .filter(|(name, value)| {
            !exempt.finding(cx, &security_definer_settings::finding(cx, routine, name, value))
        })
        .map(|(name, value)| {
            let rejection = Rejection::of_setting(cx, routine, name, value);
            if name == "dragonfly_guard.mode" {
                return Found::of_guard(rejection);
            }
            Found::new(cx, rejection, cx.guard_action(&security_definer_settings::RULE), true)
        })
        .collect()
}

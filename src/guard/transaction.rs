//! The state of the current transaction, besides its changes.

use super::changes::{self, Changed};
use crate::catalog;
use crate::pg::heap::{Committed, State};
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::Contract;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

/// The keys of warnings, with the subtransaction in which each was raised: one whose cause has been
/// rolled back must not replace a later error or warning.
type Reported = HashMap<String, pg_sys::SubTransactionId>;

/// The state. Except for what a rollback could make pass unchecked, a rolled back subtransaction
/// does not reset it, which can only cause an additional check.
#[derive(Debug, Default)]
struct Transaction {
    /// The number of commands that fired event triggers and have ended.
    ended: usize,
    /// The tag of the last command that started.
    started_tag: String,
    /// The tag of the last command that ended.
    ended_tag: String,
    /// Whether a superuser has dropped the extension by its name.
    drops_guard: bool,
    /// Whether everything has been checked and the transaction commits.
    commits: bool,
    /// Whether changes must be checked at commit.
    pending: bool,
    /// Whether a change has been found in what the rules check.
    relevant: bool,
    /// The first check of a statement.
    first: Option<FirstCheck>,
    /// The first command whose changes are checked; later than the first of the transaction where
    /// the guard was switched off meanwhile.
    from: pg_sys::CommandId,
    /// The warnings that the client has received, with the subtransaction that raised them.
    reported: Reported,
    /// The roles and schemas as the last check of a statement that changed schemas has allowed
    /// them; `None` before the first one and after the rollback of a subtransaction.
    checked_base: Option<Rc<Snapshot>>,
    /// The roles and schemas in [`before`], which statements of a transaction share.
    base_before: Option<BaseBefore>,
}

/// The roles and schemas in the state without the changes that are checked.
#[derive(Debug)]
struct BaseBefore {
    /// What determines the state, besides changes that a rollback undoes, and whether the
    /// transaction changes roles: otherwise the roles are the current ones.
    of: (pg_sys::CommandId, Committed, bool),
    base: Rc<Snapshot>,
}

/// The first check of a statement.
#[derive(Debug)]
struct FirstCheck {
    /// The transactions that were committed then.
    committed: Committed,
    /// The contract of the first check that found a change.
    contract: Option<Rc<Contract>>,
}

thread_local! {
    static CURRENT: RefCell<Transaction> = RefCell::default();
}

/// Records the start of a command that fires event triggers. `drops_guard`: it is a superuser's
/// DROP EXTENSION that names the extension.
pub fn command_starts(tag: String, drops_guard: bool) {
    CURRENT.with_borrow_mut(|t| {
        t.started_tag = tag;
        t.drops_guard |= drops_guard;
    });
}

/// Whether a superuser has dropped the extension by its name.
pub fn drops_guard() -> bool {
    CURRENT.with_borrow(|t| t.drops_guard)
}

/// Records that changes must be checked when the transaction commits.
pub fn leave_for_commit() {
    CURRENT.with_borrow_mut(|t| t.pending = true);
}

/// Records that everything has been checked and the transaction commits. What the server does
/// after that, such as dropping temporary tables, must not invalidate the check.
pub fn commits() {
    CURRENT.with_borrow_mut(|t| t.commits = true);
}

/// Whether the transaction is committing.
pub fn is_committing() -> bool {
    CURRENT.with_borrow(|t| t.commits)
}

/// Records the end of a command that fires event triggers.
pub fn command_ends(tag: &str) {
    CURRENT.with_borrow_mut(|t| {
        t.ended += 1;
        tag.clone_into(&mut t.ended_tag);
    });
}

/// Returns the number of commands that fired event triggers and have ended.
pub fn ended_commands() -> usize {
    CURRENT.with_borrow(|t| t.ended)
}

/// Whether a command that fires event triggers has at least started. (A command that drops the
/// guard drops the trigger for its own end.)
pub fn had_event() -> bool {
    CURRENT.with_borrow(|t| t.ended > 0 || !t.started_tag.is_empty())
}

/// Returns the tag of the last command that started.
pub fn last_started() -> String {
    CURRENT.with_borrow(|t| t.started_tag.clone())
}

/// Returns the subject of messages about the whole transaction: the tag of its only command, or
/// COMMIT.
pub fn subject() -> String {
    CURRENT.with_borrow(|t| if t.ended == 1 { t.ended_tag.clone() } else { "COMMIT".to_owned() })
}

/// What the transaction had done and reported before a trial.
pub struct BeforeTrial {
    ended: usize,
    ended_tag: String,
    reported: Reported,
}

/// Returns what [`after_trial`] restores.
pub fn before_trial() -> BeforeTrial {
    CURRENT.with_borrow(|t| BeforeTrial {
        ended: t.ended,
        ended_tag: t.ended_tag.clone(),
        reported: t.reported.clone(),
    })
}

/// Forgets the commands and warnings of a trial that has been rolled back: the same commands get
/// the same messages when they are executed.
pub fn after_trial(before: BeforeTrial) {
    CURRENT.with_borrow_mut(|t| {
        t.ended = before.ended;
        t.ended_tag = before.ended_tag;
        t.reported = before.reported;
    });
}

/// Whether changes must be checked at commit.
pub fn is_pending() -> bool {
    CURRENT.with_borrow(|t| t.pending)
}

/// Excludes all changes so far from checking, because the guard is switched off.
pub fn waive() {
    changes::forget();
    // SAFETY: a command has just ended; its changes are visible to the next command, whose number
    // this is.
    let next = unsafe { pg_sys::GetCurrentCommandId(false) };
    CURRENT.with_borrow_mut(|t| {
        t.from = next;
        t.pending = false;
        t.relevant = false;
        t.first = None;
        t.checked_base = None;
        t.base_before = None;
    });
}

/// Returns the roles and schemas as the last check of a statement has allowed them: a schema that
/// is still the same need not be checked again because of itself.
pub fn checked_base() -> Option<Rc<Snapshot>> {
    CURRENT.with_borrow(|t| t.checked_base.clone())
}

/// Records that a statement has been allowed that resulted in these roles and schemas.
pub fn base_checked(base: Rc<Snapshot>) {
    CURRENT.with_borrow_mut(|t| t.checked_base = Some(base));
}

/// Returns the roles and schemas in `then`, the result of [`before`]. They are read once for all
/// statements of a transaction. Where it has changed no role, the roles are those of `after`.
pub fn base_before(then: &State, after: &Snapshot) -> Rc<Snapshot> {
    let changes_roles = changes::has(Changed::Roles) || changes::has(Changed::Catalogs);
    let of = CURRENT.with_borrow(|t| (t.from, then.committed(), changes_roles));
    let known = CURRENT.with_borrow(|t| {
        t.base_before.as_ref().filter(|known| known.of == of).map(|known| Rc::clone(&known.base))
    });
    known.unwrap_or_else(|| {
        let base = Rc::new(if changes_roles {
            catalog::base(then).with_roles_and_schemas()
        } else {
            catalog::with_schemas(after, then)
        });
        CURRENT.with_borrow_mut(|t| {
            t.base_before = Some(BaseBefore { of, base: Rc::clone(&base) });
        });
        base
    })
}

/// Records that a subtransaction has been rolled back, and with it what statements had changed.
pub fn subtransaction_aborted(own: pg_sys::SubTransactionId) {
    CURRENT.with_borrow_mut(|t| {
        t.checked_base = None;
        t.base_before = None;
        t.reported.retain(|_, by| *by != own);
    });
}

/// Records that a subtransaction has been committed into its parent.
pub fn subtransaction_committed(own: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
    CURRENT.with_borrow_mut(|t| {
        t.reported.values_mut().filter(|by| **by == own).for_each(|by| *by = parent);
    });
}

/// Returns the state `now` of the catalogs without the changes that are checked. Changes of other
/// transactions are visible in both states or in neither.
pub fn before(now: &State) -> State {
    now.without_commands_from(CURRENT.with_borrow(|t| t.from))
}

/// Records that a statement has been checked. `pending`: changes must be checked at commit.
/// `committed`: the transactions that were committed then. `contract`: the contract in force, if
/// the statement changed anything that the rules check.
pub fn statement_checked(pending: bool, committed: Committed, contract: Option<&Rc<Contract>>) {
    CURRENT.with_borrow_mut(|t| {
        t.relevant |= contract.is_some();
        // If statements have been checked by different contracts, all are checked again at commit.
        let earlier = t.first.as_ref().and_then(|first| first.contract.clone());
        t.pending |= pending
            || contract.is_some_and(|new| earlier.is_some_and(|known| !Rc::ptr_eq(&known, new)));
        let first = t.first.get_or_insert(FirstCheck { committed, contract: None });
        if first.contract.is_none() {
            first.contract = contract.cloned();
        }
    });
}

/// Whether a change has been found in what the rules check.
pub fn is_relevant() -> bool {
    CURRENT.with_borrow(|t| t.relevant)
}

/// Whether no check is needed at commit: every change has been checked, and no other transaction
/// has been committed since the first check. `contract` is in force, `None` where no change has
/// been found that it is about.
pub fn is_settled(committed: &Committed, contract: Option<&Rc<Contract>>) -> bool {
    let is_same = |first: &FirstCheck| {
        first.committed == *committed
            && first
                .contract
                .as_ref()
                .is_none_or(|known| contract.is_some_and(|contract| Rc::ptr_eq(known, contract)))
    };
    CURRENT.with_borrow(|t| !t.pending && t.first.as_ref().is_some_and(is_same))
        && changes::unchecked().is_empty()
}

/// Records a warning and returns whether it is the first with this key.
pub fn report_once(key: &str) -> bool {
    // SAFETY: reads the state of the current transaction.
    let by = unsafe { pg_sys::GetCurrentSubTransactionId() };
    CURRENT.with_borrow_mut(|t| match t.reported.entry(key.to_owned()) {
        Entry::Occupied(_) => false,
        Entry::Vacant(new) => {
            new.insert(by);
            true
        }
    })
}

/// Whether the client has received a warning with this key.
pub fn is_reported(key: &str) -> bool {
    CURRENT.with_borrow(|t| t.reported.contains_key(key))
}

/// Forgets everything: the transaction has ended.
pub fn forget() {
    CURRENT.with_borrow_mut(|t| {
        if t.ended > 0 || !t.started_tag.is_empty() || t.commits {
            *t = Transaction::default();
        }
    });
}

/// Whether this transaction may have changed a catalog: it has a transaction ID and is not being
/// rolled back.
pub fn may_change() -> bool {
    // SAFETY: reads the state of the transaction.
    unsafe {
        pg_sys::IsTransactionState()
            && pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId
    }
}

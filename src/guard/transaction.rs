//! What the guard knows of a transaction, beside what it has changed.

use super::changes;
use crate::pg::heap::{Committed, State};
use dragonfly_core::contract::Contract;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

/// The memory. What a subtransaction that is rolled back leaves here does no harm: it makes the
/// guard look once more.
#[derive(Debug, Default)]
struct Transaction {
    /// Commands with an event that have ended.
    ended: usize,
    /// The tag of the last command that started, and of the last that ended.
    started_tag: String,
    ended_tag: String,
    /// A superuser has dropped the guard by its name.
    drops_guard: bool,
    /// Everything has been checked, and the transaction commits.
    commits: bool,
    /// Something must be checked at commit.
    pending: bool,
    /// Something that the contract is about has changed.
    relevant: bool,
    /// What was committed when the first statement was checked, and the contract by which it was.
    first: Option<(Committed, Option<Rc<Contract>>)>,
    /// The command from which on it is checked: everything, or what came after a superuser had
    /// switched the guard off.
    from: pg_sys::CommandId,
    /// What the client has been warned of already.
    reported: HashSet<String>,
}

thread_local! {
    static CURRENT: RefCell<Transaction> = RefCell::default();
}

/// A command with an event starts; whether it is one that drops the guard by its name.
pub fn command_starts(tag: String, drops_guard: bool) {
    CURRENT.with_borrow_mut(|t| {
        t.started_tag = tag;
        t.drops_guard |= drops_guard;
    });
}

/// Whether the guard has been dropped by its name.
pub fn drops_guard() -> bool {
    CURRENT.with_borrow(|t| t.drops_guard)
}

/// A statement is checked when the transaction commits, and not before.
pub fn leave_for_commit() {
    CURRENT.with_borrow_mut(|t| t.pending = true);
}

/// Everything has been checked. What the server still does on its own, dropping temporary tables,
/// must not undo it.
pub fn commits() {
    CURRENT.with_borrow_mut(|t| t.commits = true);
}

/// Whether the transaction is just committing.
pub fn is_committing() -> bool {
    CURRENT.with_borrow(|t| t.commits)
}

/// A command with an event has ended.
pub fn command_ends(tag: &str) {
    CURRENT.with_borrow_mut(|t| {
        t.ended += 1;
        t.ended_tag = tag.to_owned();
    });
}

/// Whether there was a command with an event, at least its start: one that takes the guard along
/// never ends for it.
pub fn had_event() -> bool {
    CURRENT.with_borrow(|t| t.ended > 0 || !t.started_tag.is_empty())
}

/// The tag of the last command that started.
pub fn last_started() -> String {
    CURRENT.with_borrow(|t| t.started_tag.clone())
}

/// What a message about the whole transaction names as its subject: the one command it consists of,
/// or COMMIT.
pub fn subject() -> String {
    CURRENT.with_borrow(|t| if t.ended == 1 { t.ended_tag.clone() } else { "COMMIT".to_owned() })
}

/// Whether something is left for the commit.
pub fn is_pending() -> bool {
    CURRENT.with_borrow(|t| t.pending)
}

/// What the transaction has done so far is not to be checked: a superuser has said so.
pub fn waive() {
    changes::forget();
    // SAFETY: a command has just ended; what it did is visible to the next, whose number this is.
    let next = unsafe { pg_sys::GetCurrentCommandId(false) };
    CURRENT
        .with_borrow_mut(|t| (t.from, t.pending, t.relevant, t.first) = (next, false, false, None));
}

/// The catalogs without what is to be checked.
pub fn before() -> State {
    State::before(CURRENT.with_borrow(|t| t.from))
}

/// A statement has been checked: whether something is left for the commit, what was committed when
/// it was checked, and, where it changed anything that matters, by which contract.
pub fn statement_checked(pending: bool, committed: Committed, contract: Option<&Rc<Contract>>) {
    CURRENT.with_borrow_mut(|t| {
        t.relevant |= contract.is_some();
        // One contract for one statement and another for the next: both must do.
        let known = t.first.as_ref().and_then(|(_, known)| known.clone());
        t.pending |= pending
            || contract.is_some_and(|new| known.is_some_and(|known| !Rc::ptr_eq(&known, new)));
        let (_, known) = t.first.get_or_insert((committed, None));
        if known.is_none() {
            *known = contract.cloned();
        }
    });
}

/// Whether anything that matters has changed so far.
pub fn is_relevant() -> bool {
    CURRENT.with_borrow(|t| t.relevant)
}

/// Whether every statement has been checked for good, for nothing has been committed meanwhile and
/// nothing was left.
pub fn is_settled(committed: &Committed, contract: &Rc<Contract>) -> bool {
    let same = |(first, by): &(Committed, Option<Rc<Contract>>)| {
        first == committed && by.as_ref().is_none_or(|by| Rc::ptr_eq(by, contract))
    };
    CURRENT.with_borrow(|t| !t.pending && t.first.as_ref().is_some_and(same))
        && changes::unchecked().is_empty()
}

/// Notes a warning; false where the client has seen it already.
pub fn report_once(key: &str) -> bool {
    CURRENT.with_borrow_mut(|t| t.reported.insert(key.to_owned()))
}

/// Whether the client has seen this as a warning.
pub fn is_reported(key: &str) -> bool {
    CURRENT.with_borrow(|t| t.reported.contains(key))
}

/// The transaction is over.
pub fn forget() {
    CURRENT.with_borrow_mut(|t| {
        if t.ended > 0 || !t.started_tag.is_empty() || t.commits {
            *t = Transaction::default();
        }
    });
}

/// Whether this transaction may have changed a catalog: it has a number of its own, and is not just
/// being rolled back.
pub fn may_change() -> bool {
    // SAFETY: reads the state of the transaction.
    unsafe {
        pg_sys::IsTransactionState()
            && pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId
    }
}

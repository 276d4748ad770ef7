//! Decides when changes are checked: at the end of a command or before the transaction commits.

use super::check;
use super::{changes, enforce, transaction};
use crate::catalog::{self, Own};
use crate::pg::heap::State;
use crate::settings::{self, CheckAt, Mode};
use dragonfly_core::guard::RejectedAt;
use pgrx::pg_sys;

/// Checks the changes of a command that has ended; `tag` is its command tag.
pub fn ended(tag: &str) {
    // Objects of the extension's own script are checked when the script has ended.
    if is_binary_upgrade() || catalog::in_own_script() {
        return;
    }
    transaction::command_ends(tag);
    check_unchecked(tag);
}

/// Checks the changes that have not been checked yet; `tag` is the tag of the last command.
pub fn check_unchecked(tag: &str) {
    let changed = changes::unchecked();
    if changed.is_empty() {
        return;
    }
    match settings::mode() {
        Mode::off => {
            enforce::unchecked(tag);
            return transaction::waive();
        }
        _ if settings::is_restoring_a_dump() => {
            enforce::restoring(tag);
            return transaction::waive();
        }
        _ if settings::check_at() == CheckAt::commit => transaction::leave_for_commit(),
        _ => check::run(&changed, RejectedAt::Statement, tag),
    }
    changes::checked(&changed);
}

/// Checks the transaction as a commit would. Raises an error where a commit would be rejected.
pub fn check_as_if_committing() {
    check_after(None);
}

/// Does the same after a call of `ops.declare()` that has executed these statements.
pub fn check_after_declaring(statements: &str) {
    check_after(Some(statements));
}

fn check_after(statements: Option<&str>) {
    let checks = transaction::had_event() || settings::is_hardened();
    if checks && settings::mode() != Mode::off && !settings::is_restoring_a_dump() {
        check::as_if_committing(statements);
    }
}

/// Checks the whole transaction if it ran a command that fires event triggers, or the guard is
/// hardened.
///
/// Other transactions are not checked where the guard is not hardened, so that the outcome does not
/// depend on whether the backend has already loaded the library.
pub fn before_commit(is_prepared: bool) {
    // The server's own work, such as dropping the temporary objects of an ended session, must not
    // fail. It fires no event triggers; code of users that it runs may.
    if is_binary_upgrade()
        || !transaction::had_event() && (!settings::is_hardened() || settings::is_server_internal())
    {
        return;
    }
    if settings::mode() == Mode::off || settings::is_restoring_a_dump() {
        // Changes that were made before the guard was switched off are not checked either.
        if (transaction::is_pending() || !changes::unchecked().is_empty())
            && Own::is_there(&State::now())
        {
            enforce::unchecked("COMMIT");
        }
        if transaction::may_change() {
            check::log_dropping_guard();
        }
        return;
    }
    // The last statement may have written a catalog directly. The command counter increment
    // invalidates the caches, whose callbacks record the change.
    if settings::is_hardened() && transaction::may_change() {
        // SAFETY: the transaction is still in progress.
        unsafe { pg_sys::CommandCounterIncrement() };
    }
    check::before_commit(is_prepared);
}

fn is_binary_upgrade() -> bool {
    // SAFETY: reads a variable of the server.
    unsafe { pg_sys::IsBinaryUpgrade }
}

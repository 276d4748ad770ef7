//! When to check: at the end of a command, and before the transaction commits.

use super::check::{self, Moment};
use super::{changes, enforce, transaction};
use crate::catalog::{self, Own};
use crate::pg::heap::State;
use crate::settings::{self, CheckAt, Mode};
use pgrx::pg_sys;

/// Checks what a command has changed.
pub fn ended(tag: &str) {
    // What the extension's own script creates is checked when it is complete.
    if is_binary_upgrade() || catalog::in_own_script() {
        return;
    }
    transaction::command_ends(tag);
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
        _ => check::run(&changed, Moment::Statement, tag),
    }
    changes::checked(&changed);
}

/// Checks now what would be checked if the transaction committed now; an error where it would be
/// rejected.
pub fn check_as_if_committing() {
    let checks = transaction::had_event() || settings::is_hardened();
    if checks && settings::mode() != Mode::off && !settings::is_restoring_a_dump() {
        check::as_if_committing();
    }
}

/// Checks the whole transaction, where commands with an event had a part in it, or the guard is
/// hardened. (Otherwise what fires no event is not checked: in a backend that does not happen to
/// have the library loaded it would pass.)
pub fn before_commit(is_prepared: bool) {
    // The server's own work, when it tidies up after a session that is gone, must not fail. What
    // others' code does in it is no such work.
    if is_binary_upgrade()
        || !transaction::had_event()
            && (!settings::is_hardened() || settings::is_server_internal())
    {
        return;
    }
    if settings::mode() == Mode::off || settings::is_restoring_a_dump() {
        // What was changed before it was switched off, and not checked.
        if (transaction::is_pending() || !changes::unchecked().is_empty())
            && Own::is_there(&State::now())
        {
            enforce::unchecked("COMMIT");
        }
        return;
    }
    // What the last statement has written may have been written directly: the caches have not been
    // told yet, which tell us.
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

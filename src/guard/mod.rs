//! The guard: event triggers that judge what a command has touched, by the same rules as the audit.
//!
//! `ddl_command_start` makes the backend load the library before the first command does anything;
//! from then on [`touched`] notes what any command changes, also where the list of
//! `pg_event_trigger_ddl_commands()` is empty (inside REFRESH MATERIALIZED VIEW). `ddl_command_end`
//! judges that against the catalog as the command left it; an error there takes the command back.
//! What a later command of the same transaction may still put right is judged when the transaction
//! commits, and so is everything else once more, in turn with other transactions.

mod act;
mod grants;
mod judge;
mod rejection;
mod states;
mod touched;
mod transaction;
mod utility;

use crate::catalog::{self, Own};
use crate::pg::call::{Call, sql_function};
use crate::pg::heap::State;
use crate::pg::list::nodes;
use crate::pg::report::Report;
use crate::settings::{self, CheckAt, Mode};
use judge::Moment;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
pub use rejection::Rejection;
use std::ffi::{CStr, c_void};

/// Hangs the guard into the server; called when the library is loaded.
pub fn install() {
    touched::install();
    // SAFETY: called once, by a backend's only thread.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) };
    if settings::is_hardened() {
        utility::install();
    }
}

sql_function!(
    /// `dragonfly_guard.ddl_command_start() RETURNS event_trigger`
    guard_ddl_command_start => command_start
);
fn command_start(call: Call) -> pg_sys::Datum {
    let tag = event(call);
    if tag == CREATE_EXTENSION {
        settings::extension_begins();
    }
    transaction::command_starts(tag, call.event_trigger_parse_tree().is_some_and(names_the_guard));
    pg_sys::Datum::null()
}

sql_function!(
    /// `dragonfly_guard.ddl_command_end() RETURNS event_trigger`
    guard_ddl_command_end => command_end
);
fn command_end(call: Call) -> pg_sys::Datum {
    let tag = event(call);
    call.event_trigger_parse_tree()
        .into_iter()
        .flat_map(grants::routines_of)
        .for_each(touched::note_routine);
    if tag == CREATE_EXTENSION {
        settings::extension_ends();
    }
    command_ended(&tag);
    pg_sys::Datum::null()
}

const CREATE_EXTENSION: &str = "CREATE EXTENSION";

/// Judges what a command has touched.
fn command_ended(tag: &str) {
    // What the extension's own script makes is judged when it is whole.
    if is_binary_upgrade() || catalog::in_own_script() {
        return;
    }
    transaction::command_ends(tag);
    let touched = touched::unjudged();
    if touched.is_empty() {
        return;
    }
    match settings::mode() {
        Mode::off => {
            act::unjudged(tag);
            return transaction::waive();
        }
        _ if settings::is_restoring_a_dump() => {
            act::restoring(tag);
            return transaction::waive();
        }
        _ if settings::check_at() == CheckAt::commit => transaction::leave_for_commit(),
        _ => judge::run(&touched, Moment::Statement, tag),
    }
    touched::judged(&touched);
}

/// Whether the statement is a superuser's DROP EXTENSION that names the guard, so that it is meant.
fn names_the_guard(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the parse tree of a statement; the cast follows the node's tag, and an extension's
    // name is a string.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_DropStmt || !pg_sys::superuser() {
            return false;
        }
        let drop = statement.cast::<pg_sys::DropStmt>();
        (*drop).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
            && nodes((*drop).objects)
                .any(|name| CStr::from_ptr(grants::string(name)) == c"dragonfly_guard")
    }
}

/// The tag of the command for which the server calls an event trigger; an error where somebody else
/// calls.
fn event(call: Call) -> String {
    call.event_trigger_tag().unwrap_or_else(|| {
        Report {
            message: "this function can only be called by an event trigger".into(),
            ..Report::default()
        }
        .error(PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED)
    })
}

/// Judges now what would be judged if the transaction committed now; an error where it would be
/// refused.
pub fn judge_as_if_committing() {
    let judges = transaction::had_event() || settings::is_hardened();
    if judges && settings::mode() != Mode::off && !settings::is_restoring_a_dump() {
        judge::as_if_committing();
    }
}

fn is_binary_upgrade() -> bool {
    // SAFETY: reads a variable of the server.
    unsafe { pg_sys::IsBinaryUpgrade }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PARALLEL_ABORT, XACT_EVENT_PARALLEL_COMMIT,
        XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            before_commit(event == XACT_EVENT_PRE_PREPARE)
        }
        XACT_EVENT_ABORT
        | XACT_EVENT_COMMIT
        | XACT_EVENT_PREPARE
        | XACT_EVENT_PARALLEL_ABORT
        | XACT_EVENT_PARALLEL_COMMIT => {
            touched::forget();
            transaction::forget();
        }
        _ => {}
    }
}

/// The last word, where commands with an event had a part in it, or the guard is hardened.
/// (Otherwise what fires no event is not judged: in a backend that does not happen to have the
/// library loaded it would pass.)
fn before_commit(is_prepared: bool) {
    // The server's own work, when it tidies up after a session that is gone, must not fail. What
    // others' code does in it is no such work.
    if is_binary_upgrade()
        || !transaction::had_event()
            && (!settings::is_hardened() || settings::is_the_servers_own_work())
    {
        return;
    }
    if settings::mode() == Mode::off || settings::is_restoring_a_dump() {
        // What was touched while nobody switched it off, and not judged.
        if (transaction::is_pending() || !touched::unjudged().is_empty())
            && Own::is_there(&State::now())
        {
            act::unjudged("COMMIT");
        }
        return;
    }
    // What the last statement has written may have been written directly: nobody has told the
    // caches yet, which tell us.
    if settings::is_hardened() && touched::may_change() {
        // SAFETY: the transaction is still in progress.
        unsafe { pg_sys::CommandCounterIncrement() };
    }
    judge::before_commit(is_prepared);
}

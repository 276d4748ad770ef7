//! What the guard does about what it has found: an error, a warning, a line in the server log.

use super::rejection::GUARD;
use super::transaction;
use crate::log::{self, Event};
use crate::pg::report::Report;
use crate::settings::{Mode, mode};
use dragonfly_core::contract::GuardAction;
use dragonfly_core::guard::Rejection;
use dragonfly_core::rule::{Rule, SqlState};
use dragonfly_core::sql::printable;
use pgrx::PgSqlErrorCode;
use std::cell::Cell;

/// Does what the contract wants, as far as the mode lets it: an error for all that is refused, a
/// warning for each of the rest. `tag` is the command.
pub fn act(found: Vec<(Rejection, GuardAction)>, tag: &str) {
    let (refused, warned): (Vec<_>, Vec<_>) = found
        .into_iter()
        .filter(|(rejection, action)| {
            *action > GuardAction::Audit && !transaction::is_reported(&rejection.key)
        })
        .partition(|(_, action)| *action == GuardAction::Block && mode() == Mode::block);
    let refused: Vec<Rejection> = refused.into_iter().map(|(rejection, _)| rejection).collect();
    refused
        .iter()
        .take(WRITTEN)
        .for_each(|rejection| log::write(Event::Rejected, tag, Some(rejection)));
    if let Some(rejection) = one(refused) {
        let (rule, code) = (rejection.rule.id, sqlstate(rejection.rule));
        report(rejection).error_from(rule, code);
    }
    for (rejection, _) in warned {
        if transaction::report_once(&rejection.key) {
            log::write(Event::Warned, tag, Some(&rejection));
            let code = sqlstate(rejection.rule);
            report(rejection).warning(code);
        }
    }
}

/// So many rejections of one command are written down one by one.
const WRITTEN: usize = 20;

fn report(rejection: Rejection) -> Report {
    Report { message: rejection.message, detail: rejection.detail, hint: rejection.hint }
}

/// The SQLSTATE of a rule as the server's error code.
fn sqlstate(rule: &Rule) -> PgSqlErrorCode {
    match rule.sqlstate {
        SqlState::InvalidGrantOperation => PgSqlErrorCode::ERRCODE_INVALID_GRANT_OPERATION,
        SqlState::DependentObjectsStillExist => {
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST
        }
        SqlState::InvalidFunctionDefinition => PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION,
        SqlState::InvalidObjectDefinition => PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
        SqlState::ReservedName => PgSqlErrorCode::ERRCODE_RESERVED_NAME,
    }
}

/// Several rejections of one command (an extension's script) as one: the first, and how many more.
fn one(rejections: Vec<Rejection>) -> Option<Rejection> {
    let more: Vec<String> = rejections.iter().skip(1).map(|r| r.problem.clone()).collect();
    let mut first = rejections.into_iter().next()?;
    if !more.is_empty() {
        first.detail = format!(
            "{} Also: {}",
            first.detail,
            more.iter().take(5).cloned().collect::<Vec<_>>().join(" ")
        );
        if more.len() > 5 {
            first.detail = format!("{} And {} more.", first.detail, more.len() - 5);
        }
    }
    Some(first)
}

/// A command that passes because the mode is off.
pub fn unchecked(tag: &str) {
    log::write(Event::Unchecked, tag, None);
}

/// A session that restores a dump: said once to whoever does it, and written down.
pub fn restoring(tag: &str) {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    if !SAID.replace(true) {
        log::write(Event::Restoring, tag, None);
        Report {
            message: "a dump is being restored: the security guard does not judge this session"
                .into(),
            detail: "Its settings are those that pg_dump begins with, and it is a superuser's."
                .into(),
            hint:
                "Afterwards, SELECT * FROM ops.audit_security() tells what has come with the dump."
                    .into(),
        }
        .warning(PgSqlErrorCode::ERRCODE_WARNING);
    }
}

/// A statement that would leave sessions without the guard, and that nothing could take back.
pub fn disables_guard(statement: &str, parameter: &str) -> ! {
    Report {
        message: format!("{statement} would silence the security guard"),
        detail: format!("Sessions to come would run without it, or with it switched off, by \"{}\".", printable(parameter)),
        hint: "A superuser who means it says SET dragonfly_guard.mode = off first, which leaves a line in the server log."
            .into(),
    }
    .error_from(GUARD, PgSqlErrorCode::ERRCODE_RESERVED_NAME)
}

/// A temporary table that goes at commit would take something lasting along, after everything has
/// been judged.
pub fn dropped_at_commit(what: &str) -> ! {
    Report {
        message: format!("ON COMMIT DROP would drop {} too", printable(what)),
        detail: "It depends on a temporary table of this transaction.".into(),
        hint: "Make it without the temporary table.".into(),
    }
    .error_from(GUARD, PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
}

/// A transaction that others would have to wait for, or could not judge themselves against.
pub fn cannot_release_commit_lock(is_prepared: bool) -> ! {
    let what = "a transaction that has changed a schema, or a SECURITY DEFINER routine";
    let (message, detail, hint) = if is_prepared {
        (
            format!("cannot PREPARE {what}"),
            "Nobody can see what it has done until it is committed, and so nobody could judge what others do meanwhile.",
            "COMMIT it, or SET dragonfly_guard.mode = off as a superuser.",
        )
    } else {
        (
            format!(
                "cannot commit {what}, together with something lasting that depends on a temporary table of its own"
            ),
            "Dropping the one with the other may have to wait for others, while others wait for this transaction.",
            "Do it in two transactions.",
        )
    };
    Report { message, detail: detail.into(), hint: hint.into() }
        .error_from(GUARD, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED)
}

/// The guard has been taken away by something other than DROP EXTENSION.
pub fn drops_guard(tag: &str) -> ! {
    Report {
        message: format!("{tag} would take the security guard along"),
        detail: "Extension dragonfly_guard, or something that it is made of, depends on what is dropped.".into(),
        hint: "A superuser who means it says SET dragonfly_guard.mode = off first, and DROP EXTENSION dragonfly_guard.".into(),
    }
    .error_from(GUARD, PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
}

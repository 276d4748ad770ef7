//! What the guard does about what it has found: an error, a warning, a line in the server log.

use super::transaction;
use crate::pg::report::Report;
use crate::settings::{Mode, mode};
use dragonfly_core::contract::GuardAction;
use dragonfly_core::guard::Refusal;
use dragonfly_core::rules::{Area, Rule};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;

/// Carries out what the contract wants, as far as the mode lets it: an error for all that is refused, a warning for each of the rest.
pub fn carry_out(found: Vec<(Refusal, GuardAction)>) {
    let (refused, warned): (Vec<_>, Vec<_>) = found
        .into_iter()
        .filter(|(refusal, action)| *action > GuardAction::Audit && !transaction::is_reported(&refusal.key))
        .partition(|(_, action)| *action == GuardAction::Block && mode() == Mode::block);
    if let Some(refusal) = one(refused.into_iter().map(|(refusal, _)| refusal).collect()) {
        let code = sqlstate(refusal.rule);
        report(refusal).error(code);
    }
    for (refusal, _) in warned {
        if mode() != Mode::off && transaction::report_once(&refusal.key) {
            let code = sqlstate(refusal.rule);
            report(refusal).warning(code);
        }
    }
}

fn report(refusal: Refusal) -> Report {
    Report { message: refusal.message, detail: refusal.detail, hint: refusal.hint }
}

/// The class of error by what the rule is about.
fn sqlstate(rule: &Rule) -> PgSqlErrorCode {
    match (rule.area, rule.id) {
        (_, "security_definer_search_path" | "security_definer_settings") => {
            PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION
        }
        (_, "required_object_missing" | "role_missing") => PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        (Area::Guard, _) => PgSqlErrorCode::ERRCODE_RESERVED_NAME,
        (Area::Grants | Area::Roles | Area::Functions, _) => PgSqlErrorCode::ERRCODE_INVALID_GRANT_OPERATION,
        (Area::Objects | Area::Views | Area::Rls, _) => PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
    }
}

/// Several refusals of one command (an extension's script) as one: the first, and how many more.
fn one(refusals: Vec<Refusal>) -> Option<Refusal> {
    let more: Vec<String> = refusals.iter().skip(1).map(|r| r.message.clone()).collect();
    let mut first = refusals.into_iter().next()?;
    if !more.is_empty() {
        first.detail = format!("{} Also: {}.", first.detail, more.iter().take(5).cloned().collect::<Vec<_>>().join("; "));
        if more.len() > 5 {
            first.detail = format!("{} And {} more.", first.detail, more.len() - 5);
        }
    }
    Some(first)
}

/// A command that passes because the mode is off.
pub fn unjudged(tag: &str) {
    Report {
        message: format!("dragonfly_guard.mode is off: {tag} has not been judged"),
        detail: format!("Session user \"{}\".", printable(&session_user())),
        ..Report::default()
    }
    .log();
}

/// A session that restores a dump.
pub fn restoring() {}

/// The guard has been taken away by something other than DROP EXTENSION.
pub fn taken_along(tag: &str) -> ! {
    Report {
        message: format!("{tag} would take the security guard along"),
        detail: "Extension dragonfly_guard has objects in what is dropped.".into(),
        hint: "A superuser who means it says DROP EXTENSION dragonfly_guard first.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
}

/// Who is logged in, whatever roles have been set since.
fn session_user() -> String {
    // SAFETY: the session user exists for as long as the session; null would mean that the role is gone.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
        if name.is_null() { String::new() } else { crate::pg::text::from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

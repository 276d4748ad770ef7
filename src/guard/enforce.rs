//! What the guard does about a violation: an error, a warning, a line in the server log.

use super::rejection::GUARD;
use super::transaction;
use crate::log::{self, About, Event};
use crate::pg::report::Report;
use crate::settings::{self, Mode, mode};
use dragonfly_core::contract::{Contract, Enforcement, GuardAction};
use dragonfly_core::exemptions::renewal_of_all;
use dragonfly_core::guard::{Completion, RUN_ANYWAY, RUNBOOK, RejectedAt, Rejection, merged};
use dragonfly_core::rule::{Rule, SqlState};
use dragonfly_core::rules::guard_tampered;
use dragonfly_core::sql::printable;
use pgrx::PgSqlErrorCode;
use std::cell::Cell;

/// A violation, and what the contract says about it.
pub struct Violation {
    /// What the guard says about it.
    pub rejection: Rejection,
    /// The guard action of its rule.
    pub action: GuardAction,
    /// The most that the guard does, whatever the action.
    pub limit: GuardAction,
}

impl Violation {
    /// Returns what the guard does about it in this session: the mildest of the guard action, the
    /// limit and the mode.
    pub fn enforced(&self) -> GuardAction {
        enforced(self.action.min(self.limit))
    }

    /// Whether the guard warns about it in this session, and has not done so yet.
    pub fn is_new_warning(&self) -> bool {
        self.enforced() == GuardAction::Warn && !transaction::is_reported(&known_as(self))
    }
}

/// Returns what remains of a guard action in the mode of this session.
fn enforced(action: GuardAction) -> GuardAction {
    match mode() {
        Mode::block => action,
        Mode::warn | Mode::off => action.min(GuardAction::Warn),
    }
}

/// Enforces the guard actions of the contract in the current mode: raises one error if there are
/// blocked rejections, whose DETAIL lists all of them and whose HINT contains `completion`, or a
/// warning for the rejections of each rule, whose HINT says how to declare them, or only logs them.
/// `contract` is in force; `tag` is the command tag.
pub fn act(
    contract: &Contract,
    found: Vec<Violation>,
    completion: &Completion,
    at: RejectedAt,
    tag: &str,
) {
    let new = found.into_iter().filter(|one| !transaction::is_reported(&known_as(one)));
    let (mut blocked, mut warned, mut observed) = (vec![], vec![], vec![]);
    for violation in new {
        match violation.enforced() {
            GuardAction::Block => blocked.push(violation),
            GuardAction::Warn => warned.push(violation),
            GuardAction::Observe => observed.push(violation),
            GuardAction::Audit => {}
        }
    }
    if !blocked.is_empty() {
        blocked
            .iter()
            .take(MOST_LOGGED)
            .for_each(|one| log::write(Event::Rejected, tag, (&one.rejection).into()));
        let rejections =
            |found: Vec<Violation>| found.into_iter().map(|one| one.rejection).collect();
        let (blocked, warned) = (rejections(blocked), rejections(warned));
        if let Some(mut rejection) = merged(contract, blocked, warned, completion, at) {
            // On a line of its own: what is before it can be pasted.
            rejection.hint = format!("{}\n{RUNBOOK}", rejection.hint);
            let (rule, code) = (rejection.rule.id, sqlstate(rejection.rule));
            report(rejection).error_from(rule, code);
        }
        return;
    }
    for violation in observed {
        if transaction::report_once(&known_as(&violation)) {
            log::write(Event::Observed, tag, (&violation.rejection).into());
        }
    }
    for violation in &mut warned {
        violation.rejection.executed(&completion.declared, &completion.causes);
    }
    let new = warned.into_iter().filter(|violation| {
        let is_new = transaction::report_once(&known_as(violation));
        if is_new {
            log::write(Event::Warned, tag, (&violation.rejection).into());
        }
        is_new
    });
    warn(new.map(|violation| violation.rejection).collect());
}

/// Raises one warning for all rejections of one rule, in the order of the first of each.
fn warn(rejections: Vec<Rejection>) {
    let mut by_rule: Vec<Vec<Rejection>> = Vec::new();
    for rejection in rejections {
        match by_rule.iter_mut().find(|known| known[0].rule == rejection.rule) {
            Some(known) => known.push(rejection),
            None => by_rule.push(vec![rejection]),
        }
    }
    for rejections in by_rule {
        let code = sqlstate(rejections[0].rule);
        collapsed(rejections).warning(code);
    }
}

/// The most violations that a warning lists, and the most hints that it has.
const MOST_LISTED: usize = 20;
const MOST_HINTS: usize = 5;

/// Returns one report of rejections of one rule: each in a line of the DETAIL.
fn collapsed(mut rejections: Vec<Rejection>) -> Report {
    if rejections.len() == 1 {
        return report(rejections.remove(0));
    }
    let count = rejections.len();
    let mut problems: Vec<&str> = rejections.iter().skip(1).map(|r| &*r.problem).collect();
    problems.insert(0, &rejections[0].detail);
    let renewed: Vec<_> = rejections.iter().filter_map(|r| r.renews.clone()).collect();
    let renewal = (renewed.len() > 1)
        .then(|| format!("If they are still acceptable, run: {}", renewal_of_all(&renewed)));
    let mut hints: Vec<&str> = renewal.as_deref().into_iter().collect();
    for rejection in &rejections {
        let is_among = renewal.is_some() && rejection.renews.is_some();
        if !is_among && !rejection.hint.is_empty() && !hints.contains(&&*rejection.hint) {
            hints.push(&rejection.hint);
        }
    }
    Report {
        message: format!("{} (and {} more)", rejections[0].message, count - 1),
        detail: first_lines(&problems, MOST_LISTED),
        hint: first_lines(&hints, MOST_HINTS),
    }
}

/// Returns the first lines, and how many more there are.
fn first_lines(lines: &[&str], most: usize) -> String {
    let mut shown: Vec<String> = lines.iter().take(most).map(|line| (*line).to_owned()).collect();
    if lines.len() > most {
        shown.push(format!("... and {} more.", lines.len() - most));
    }
    shown.join("\n")
}

/// Returns what a warning is remembered by. A warning in place of an error stands for exactly what
/// it says: the same violation later in the transaction passes, and one that has grown does not.
fn known_as(Violation { rejection, action, .. }: &Violation) -> String {
    match action {
        GuardAction::Block => format!("{}\n{}", rejection.key, rejection.detail),
        GuardAction::Warn | GuardAction::Observe | GuardAction::Audit => rejection.key.clone(),
    }
}

/// The maximum number of rejections of one command that are logged.
const MOST_LOGGED: usize = 20;

fn report(rejection: Rejection) -> Report {
    Report { message: rejection.message, detail: rejection.detail, hint: rejection.hint }
}

/// Returns the SQLSTATE of a rule as an error code of the server.
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

/// Logs a command that is not checked because the mode is off.
pub fn unchecked(tag: &str) {
    log::write(Event::Unchecked, tag, About::default());
}

/// Logs that a transaction has dropped the extension.
pub fn dropped(tag: &str) {
    let message = "extension dragonfly_guard was dropped";
    log::write(Event::Changed, tag, About::message(message));
}

/// Logs that a stored setting of `dragonfly_guard.mode` is changed by `statement`.
pub fn changes_stored_mode(statement: &str) {
    let message = format!("{statement} changes dragonfly_guard.mode for new sessions");
    log::write(Event::Changed, statement, About::message(&message));
}

/// Logs that the mode of this session is another one than before. Called after statements that may
/// have changed it, and before those that it matters for.
pub fn note_mode(tag: &str) {
    thread_local! {
        static KNOWN: Cell<Mode> = const { Cell::new(Mode::block) };
    }
    let (before, now) = (KNOWN.get(), mode());
    if before == now || !settings::is_session() {
        return;
    }
    KNOWN.set(now);
    let message = format!(
        "dragonfly_guard.mode changed from \"{}\" to \"{}\"",
        before.as_str(),
        now.as_str()
    );
    log::write(Event::Changed, tag, About::message(&message));
}

/// Logs a session that restores a dump and warns its client, once per session.
pub fn restoring(tag: &str) {
    thread_local! {
        static REPORTED: Cell<bool> = const { Cell::new(false) };
    }
    if !REPORTED.replace(true) {
        log::write(Event::Restoring, tag, About::default());
        Report {
            message: "security guard does not check this session because it restores a dump".into(),
            detail: "The session belongs to a superuser and has the settings that a dump of \
                     pg_dump starts with."
                .into(),
            hint: "After the restore, run SELECT * FROM ops.audit_security();".into(),
        }
        .warning(PgSqlErrorCode::ERRCODE_WARNING);
    }
}

/// Rejects a statement whose effect cannot be rolled back and would leave sessions without the
/// guard.
///
/// `parameter` is the changed parameter, `None` for RESET ALL.
pub fn disables_guard(statement: &str, parameter: Option<&str>) -> ! {
    let hint = RUN_ANYWAY;
    let (message, detail) = if let Some(parameter @ "session_replication_role") = parameter {
        // The event triggers of the guard fire always.
        (
            format!("{statement} violates the security contract: {parameter} = replica"),
            format!(
                "In new sessions, ordinary triggers and foreign keys would not fire. Neither would \
                 an event trigger of the security guard if it were not ENABLE ALWAYS. Rule {}.",
                guard_tampered::RULE.id
            ),
        )
    } else {
        let changed = parameter.map_or_else(
            || "all parameters".to_owned(),
            |name| format!("parameter \"{}\"", printable(name)),
        );
        (
            format!("{statement} would disable the security guard"),
            format!(
                "After the change of {changed}, new sessions would run without the security \
                 guard, or with the guard disabled."
            ),
        )
    };
    let report = Report { message, detail, hint: hint.into() };
    reject(report, statement, PgSqlErrorCode::ERRCODE_RESERVED_NAME)
}

/// Rejects a transaction in which a temporary table that is dropped at commit would drop a
/// permanent object too, after everything has been checked.
pub fn dropped_at_commit(what: &str) -> ! {
    let report = Report {
        message: format!("ON COMMIT DROP would drop {} too", printable(what)),
        detail: "The object depends on a temporary table that is dropped at commit.".into(),
        hint: "Create the object without a dependency on the temporary table.".into(),
    };
    reject(report, "COMMIT", PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
}

/// Rejects a transaction whose changes other transactions could not be checked against, or that
/// would make them wait. Where the contract blocks nothing, the transaction is only logged, or
/// warned about.
pub fn cannot_release_commit_lock(is_prepared: bool, enforcement: Enforcement) {
    let what = "a transaction that has changed a schema or a SECURITY DEFINER routine";
    let (message, detail, hint) = if is_prepared {
        (
            format!("cannot PREPARE {what}"),
            "Its changes are not visible to other transactions until it is committed, so the \
             security guard cannot check them together.",
            "Use COMMIT, or run SET dragonfly_guard.mode = off; as a superuser.",
        )
    } else {
        (
            format!("cannot commit {what} and drops a permanent object with a temporary table"),
            "Dropping the permanent object may wait for locks of sessions that wait for this \
             transaction.",
            "Use two transactions.",
        )
    };
    let report = Report { message, detail: detail.into(), hint: hint.into() };
    let command = if is_prepared { "PREPARE TRANSACTION" } else { "COMMIT" };
    match enforcement {
        Enforcement::Block => {
            reject(report, command, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED)
        }
        Enforcement::Warn => {
            log::write(Event::Warned, command, About::message(&report.message));
            report.warning(PgSqlErrorCode::ERRCODE_WARNING);
        }
        Enforcement::Observe => {
            log::write(Event::Observed, command, About::message(&report.message));
        }
    }
}

/// Rejects a transaction that has dropped the extension, by a dependency or, where the guard is
/// hardened, by its name.
pub fn drops_guard(tag: &str, is_by_name: bool) -> ! {
    let (message, detail) = if is_by_name {
        (
            format!("{tag} would disable the security guard"),
            "In hardened mode, the guard must be disabled before its extension is dropped.",
        )
    } else {
        (
            format!("{tag} would drop extension dragonfly_guard through a dependency"),
            "Extension dragonfly_guard, or one of its members, depends on a dropped object.",
        )
    };
    let report = Report {
        message,
        detail: detail.into(),
        hint: "To drop the extension, run SET dragonfly_guard.mode = off; and DROP EXTENSION \
               dragonfly_guard; as a superuser."
            .into(),
    };
    reject(report, tag, PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
}

/// Logs and raises an error by which the guard protects itself.
fn reject(report: Report, command: &str, code: PgSqlErrorCode) -> ! {
    log::write(Event::Rejected, command, About::message(&report.message));
    report.error_from(GUARD, code)
}

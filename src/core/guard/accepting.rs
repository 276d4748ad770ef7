//! How what is rejected can be accepted: which regressions may be intended, and the part of a HINT
//! that says how to declare or exempt them.

use super::calls::exempt_statements;
use super::change::Regression;
use super::completion::{Cause, CauseKind};
use super::declared::Declared;
use super::renamed::missing;
use crate::catalog::ObjectId;
use crate::contract::GuardAction;
use crate::fix::{Statement, Verb};
use crate::rules::{
    guard_tampered, rls_disabled, stored_settings, ungoverned_schema_access, untrusted_code,
};
use std::collections::BTreeSet;

/// How many calls that exempt an object a HINT has.
const MOST_CALLS: usize = 40;

/// What is known about declarations under which a contract would allow regressions.
#[derive(Clone, Copy)]
pub(super) enum Allowing<'d> {
    /// It has not been tried.
    Unknown,
    /// These; or none.
    Known(&'d [Declared]),
}

/// When a HINT is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The statement has just been rejected, and a later one may still have reverted it.
    AtStatement,
    /// The transaction has been rejected.
    AtCommit,
    /// The statement has been executed.
    Executed,
}

/// Returns how regressions can be declared or exempted; empty where nothing can. `declared`: what a
/// contract would say that allows them, where it is known.
pub(super) fn accept_hint(
    regressions: &[&Regression],
    read: Read,
    declared: Allowing<'_>,
) -> String {
    let is_done = read == Read::Executed;
    let first = if is_done { "" } else { " first" };
    let known = match declared {
        Allowing::Known(declared) => {
            let fits = |one: &&Declared| one.covers(regressions) && one.is_possible(is_done);
            declared.iter().find(fits)
        }
        Allowing::Unknown => None,
    };
    let calls = known.and_then(|one| one.calls(is_done));
    let declare = match declared {
        Allowing::Known(_) => known.is_some(),
        // A contract does not declare settings.
        Allowing::Unknown => regressions.iter().any(|r| r.finding.rule != &stored_settings::RULE),
    };
    let is_again = known.is_some_and(Declared::is_called_again);
    let when = if is_again { "it in the same call".to_owned() } else { format!("it{first}") };
    // What only has another name keeps what is declared for it.
    let follows = known.is_some_and(Declared::follows);
    let are_about_public = || regressions.iter().any(|r| r.finding.role() == Some("PUBLIC"));
    // What is missing or new is declared, or reverted by the rest of the HINT.
    let exempt = if follows || regressions.iter().any(|r| r.is_missing || r.can_be_completed) {
        String::new()
    } else {
        exempt_calls(regressions, is_done)
    };
    let mut hint = match calls {
        Some(calls) if exempt.is_empty() => {
            format!("If this is intended, declare {when}: {calls}")
        }
        Some(calls) => {
            format!("If this is intended, declare {when}: {calls}\nOr exempt {exempt}")
        }
        None => {
            let to_public = if are_about_public() {
                "grant to roles instead of PUBLIC, which a contract does not declare, and declare \
                 these grants"
            } else {
                "declare it"
            };
            let declare = declare.then(|| format!("{to_public} with ops.declare(){first}"));
            let exempt = Some(exempt_calls(regressions, is_done)).filter(|calls| !calls.is_empty());
            let exempt = exempt.map(|calls| format!("exempt {calls}"));
            match [declare, exempt] {
                [Some(declare), Some(exempt)] => {
                    format!("If this is intended, {declare}, or {exempt}")
                }
                [Some(declare), None] => format!("If this is intended, {declare}."),
                [None, Some(exempt)] => format!("If this is intended, {exempt}"),
                [None, None] => String::new(),
            }
        }
    };
    let safer: BTreeSet<&str> = regressions.iter().filter_map(|r| r.safer.as_deref()).collect();
    if !safer.is_empty() {
        let statements: Vec<&str> = safer.into_iter().collect();
        hint = joined(&[format!("Run{first}: {}", statements.join(" ")), hint]);
    }
    if read == Read::AtStatement && regressions.iter().any(|r| r.settled) {
        let later = "If a later statement of the transaction reverts it, run SET LOCAL \
                     dragonfly_guard.check_at = commit first.";
        hint = if hint.is_empty() { later.to_owned() } else { joined(&[hint, later.to_owned()]) };
    }
    hint
}

/// Returns the calls that exempt regressions, after the word "exempt"; the empty text where one of
/// them cannot be exempted by a call.
fn exempt_calls(regressions: &[&Regression], is_done: bool) -> String {
    let calls: Option<Vec<Vec<String>>> =
        regressions.iter().map(|regression| exempt_statements(regression, is_done)).collect();
    let calls: BTreeSet<String> = calls.into_iter().flatten().flatten().collect();
    let calls: Vec<String> = calls.into_iter().collect();
    match calls.as_slice() {
        [] => String::new(),
        [call] => format!("it: {call}"),
        some if some.len() <= MOST_CALLS => format!("it:\n{}", calls.join("\n")),
        _ => "each object with ops.exempt().".to_owned(),
    }
}

/// Returns the regressions that may be intended: what they are about can be declared or exempted.
/// Those that are explained by another name of something are not among them.
#[must_use]
pub fn intended<'r>(
    regressions: impl Iterator<Item = &'r Regression> + Clone,
    causes: &[Cause],
) -> Vec<&'r Regression> {
    let is_moved = |r: &&Regression| {
        let explains = |c: &&Cause| c.findings.contains(&r.finding.fingerprint);
        let moves = |c: &&Cause| new_name(c).is_some() || c.is_renamed_schema();
        causes.iter().filter(moves).any(|c| explains(&c))
    };
    let about_rows = regressions.filter(|r| !is_about_guard(r) && !is_moved(r));
    if !about_rows.clone().any(may_be_intended) {
        return vec![];
    }
    // An exemption of the privileges leaves what is reported with them.
    about_rows.filter(|r| !r.is_missing || r.existed || is_gone(r)).collect()
}

/// Whether the server has granted what a regression is about, as it does on every new routine.
#[must_use]
pub fn is_by_default(regression: &Regression) -> bool {
    let finding = &regression.finding;
    regression.action == GuardAction::Warn
        && !regression.existed
        && matches!(finding.object.id, ObjectId::Routine(_))
        && finding.role() == Some("PUBLIC")
}

/// Whether default privileges have granted what regressions are about.
pub(super) fn is_by_default_privileges(regressions: &[&Regression], causes: &[Cause]) -> bool {
    let explains = |cause: &Cause, regression: &Regression| {
        cause.kind == CauseKind::DefaultPrivileges
            && cause.findings.contains(&regression.finding.fingerprint)
    };
    let is_explained = |r: &&Regression| causes.iter().any(|cause| explains(cause, r));
    // What is disabled on a new object matters because of them.
    let is_consequence = |r: &&Regression| *r.finding.rule == rls_disabled::RULE && !r.existed;
    regressions.iter().all(|r| is_explained(r) || is_consequence(r))
        && regressions.iter().any(is_explained)
}

/// Whether something that the contract declares no longer exists.
pub(super) fn is_gone(regression: &Regression) -> bool {
    missing(regression).is_some()
}

/// Whether someone may want what a regression is about: an existing object allows more, or a
/// privilege on a new object, which a statement or default privileges have granted, or code of a
/// role that is trusted with the object.
fn may_be_intended(regression: &Regression) -> bool {
    let is_revoke = |statement: &Statement| match statement {
        Statement::Acl(acl) => acl.verb == Verb::Revoke,
        Statement::Ddl(_) => false,
    };
    !regression.can_be_completed
        || is_gone(regression)
        || regression.is_missing && regression.existed
        || *regression.finding.rule == untrusted_code::RULE
        || !regression.is_missing && regression.finding.fix.statements().iter().any(is_revoke)
        || *regression.finding.rule == ungoverned_schema_access::RULE
}

/// Whether a regression is about the guard itself, which is neither declared nor exempted.
pub(super) fn is_about_guard(regression: &Regression) -> bool {
    *regression.finding.rule == guard_tampered::RULE
}

/// Joins the parts of a HINT, each on its own line.
pub(super) fn joined(parts: &[String]) -> String {
    parts.join("\n")
}

/// Returns the new identity of a relation that has another name than before, if that is the cause.
pub(super) fn new_name(cause: &Cause) -> Option<&str> {
    if let CauseKind::Renamed(now) = &cause.kind { Some(now) } else { None }
}

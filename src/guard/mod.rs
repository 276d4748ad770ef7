//! The guard: event triggers that judge what a command has touched, by the same rules as the audit.
//!
//! `ddl_command_start` makes the backend load the library before the first command does anything; from then on
//! the hook of [`touched`] sees every routine that a command creates or alters, also where the list of
//! `pg_event_trigger_ddl_commands()` is empty (inside REFRESH MATERIALIZED VIEW). `ddl_command_end` judges those against the catalog
//! as the command left it. An error there takes the command back.

mod touched;

use crate::contract;
use crate::pg::call::{Call, sql_function};
use crate::pg::heap::{Latest, interrupts};
use crate::pg::report::Report;
use crate::scan::{self, Before, own::Own};
use crate::settings::{Mode, mode};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::{Contract, GuardAction};
use dragonfly_core::guard::{Refusal, is_worse};
use dragonfly_core::rules::{Context, Rule, security_definer_search_path as search_path, security_definer_settings};
use dragonfly_core::search_path::{Verdict, settings};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

pub use touched::install_hook;

sql_function!(
    /// `dragonfly_guard.ddl_command_start() RETURNS event_trigger`
    guard_ddl_command_start => command_start
);
fn command_start(call: Call) -> pg_sys::Datum {
    let _ = event(call);
    if let Some(extension) = call.extension_whose_contents_change() {
        touched::note_members(extension);
    }
    pg_sys::Datum::null()
}

sql_function!(
    /// `dragonfly_guard.ddl_command_end() RETURNS event_trigger`
    guard_ddl_command_end => command_end
);
fn command_end(call: Call) -> pg_sys::Datum {
    let tag = event(call);
    let touched = touched::unjudged();
    // SAFETY: reads a variable of the server.
    if !touched.is_empty() && !unsafe { pg_sys::IsBinaryUpgrade } {
        judge(&touched, &tag);
        touched::judged(touched.into_keys());
    }
    pg_sys::Datum::null()
}

/// The tag of the command for which the server calls an event trigger; an error where somebody else calls.
fn event(call: Call) -> String {
    call.event_trigger_tag().unwrap_or_else(|| {
        Report { message: "this function can only be called by an event trigger".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED)
    })
}

/// Judges the routines that a command touched, and refuses, warns or lets pass.
fn judge(touched: &HashMap<Oid, Option<Before>>, tag: &str) {
    if mode() == Mode::off {
        Report {
            message: format!("dragonfly_guard.mode is off: {tag} has not been judged"),
            detail: format!("Session user \"{}\".", printable(&session_user())),
            ..Report::default()
        }
        .log();
        return;
    }
    refuse_impostors(touched);
    let definers: Vec<Oid> = touched.keys().copied().filter(|oid| Before::is_definer(*oid)).collect();
    if definers.is_empty() {
        return;
    }
    // One transaction at a time, and each with what the one before it has committed: else two could pass one by one and together
    // leave what neither would have been allowed. The lock is on the extension, which nobody else can lock for longer than a moment.
    let own = Own::find(&Latest::take());
    own.lock();
    let latest = Latest::take();
    let contract = contract::in_force(&latest, &own);
    let mut snapshot = scan::for_routines(&latest, &definers);
    for (schema, owner, kind) in planted(&latest, &contract, &snapshot, touched) {
        snapshot.contents.entry(schema).or_default().insert((owner, kind));
    }
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let mut refusals = Vec::new();
    for routine in snapshot.routines.iter().filter(|r| r.security_definer && cx.routine_managed_by(r).is_none()) {
        let before = touched.get(&routine.oid).and_then(Option::as_ref).filter(|before| compares(&cx, before, routine));
        settings_check(&cx, routine, before);
        refusals.extend(path_check(&cx, routine, before, tag));
    }
    let Some(refusal) = one(refusals) else { return };
    act(&cx, &search_path::RULE, refusal, PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION);
}

/// Whether what a routine was can excuse what it is: it was SECURITY DEFINER, nothing of the platform excused it then, and its
/// owner now can do no more than its owner could.
fn compares(cx: &Context<'_>, before: &Before, routine: &Routine) -> bool {
    let extension = before.extension.as_ref().map(|(name, owner)| (name.as_str(), *owner));
    before.security_definer
        && !before.was_temporary()
        && cx.managed_by((&before.schema_name, before.schema_owner), extension, before.owner).is_none()
        && cx.access.can_act_as(before.owner, routine.owner)
}

/// A routine beside one of the extension's own, under its name: who calls ours with fewer arguments would call that one, with all of
/// the caller's rights.
fn refuse_impostors(touched: &HashMap<Oid, Option<Before>>) {
    for oid in touched.keys() {
        let Some(identity) = scan::impostor(*oid) else { continue };
        let refusal = Refusal {
            message: format!("routine {} would stand in the way of one of dragonfly_guard's own", printable(&identity)),
            detail: "Whoever calls the extension's function with other arguments could call this one instead, and run its code with their \
                     own rights."
                .into(),
            hint: "Give it another name, or put it into another schema.".into(),
        };
        carry_out(GuardAction::Block, refusal, PgSqlErrorCode::ERRCODE_RESERVED_NAME);
    }
}

/// The refusal of a routine's path, where the command made it worse.
fn path_check(cx: &Context<'_>, routine: &Routine, before: Option<&Before>, tag: &str) -> Option<Refusal> {
    let after = search_path::judgment(cx, routine)?;
    let before = before.map(|b| cx.judge.config(&b.config, b.owner));
    let worse = if after.verdict == Verdict::Safe {
        let was = before.as_ref().is_some_and(|b| search_path::must_be_canonical(cx, routine, b) || b.verdict != Verdict::Safe);
        search_path::must_be_canonical(cx, routine, &after) && !was
    } else {
        !search_path::accepts_empty(cx, &after) && is_worse(before.as_deref(), &after)
    };
    worse.then(|| Refusal::of_routine(cx, routine, &after, tag))
}

/// A setting that switches off protection, where the command added it.
fn settings_check(cx: &Context<'_>, routine: &Routine, before: Option<&Before>) {
    let known: Vec<&str> =
        before.map(|b| security_definer_settings::suspect(&b.config).map(|(n, _)| n).collect()).unwrap_or_default();
    for (name, value) in security_definer_settings::suspect(&routine.config).filter(|(name, _)| !known.contains(name)) {
        let refusal = Refusal {
            message: format!(
                "SECURITY DEFINER {} {} sets {name} to \"{}\"",
                routine.object_type(),
                cx.snapshot.routine_message(routine),
                printable(value)
            ),
            detail: format!("{} Rule {}.", security_definer_settings::RULE.why, security_definer_settings::RULE.id),
            hint: format!("Leave the SET {name} clause away."),
        };
        let code = PgSqlErrorCode::ERRCODE_INVALID_FUNCTION_DEFINITION;
        // Of a setting that switches off the guard itself, a warning would be the last word.
        if name == "dragonfly_guard.mode" {
            carry_out(GuardAction::Block, refusal, code);
        } else {
            act(cx, &security_definer_settings::RULE, refusal, code);
        }
    }
}

/// Does what contract and mode say about a refusal.
fn act(cx: &Context<'_>, rule: &Rule, refusal: Refusal, code: PgSqlErrorCode) {
    carry_out(cx.guard_action(rule), refusal, code);
}

fn carry_out(action: GuardAction, refusal: Refusal, code: PgSqlErrorCode) {
    let Refusal { message, detail, hint } = refusal;
    let report = Report { message, detail, hint };
    match (action, mode()) {
        (GuardAction::Audit, _) | (_, Mode::off) => {}
        (GuardAction::Warn, _) | (_, Mode::warn) => report.warning(code),
        (GuardAction::Block, Mode::block) => report.error(code),
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

/// What others have put into the schemas of all paths of the touched routines; and of the contract's own path, for the hint.
fn planted(latest: &Latest, contract: &Contract, snapshot: &Snapshot, touched: &HashMap<Oid, Option<Before>>) -> scan::Found {
    let before: Vec<&Before> = touched.values().flatten().collect();
    let owners: HashSet<Oid> = snapshot.routines.iter().map(|r| r.owner).chain(before.iter().map(|b| b.owner)).collect();
    let configs = snapshot.routines.iter().map(|r| &r.config).chain(before.iter().map(|b| &b.config));
    let mut names: HashSet<String> = contract.security_definer.search_path.iter().cloned().collect();
    for config in configs {
        let paths = settings(config).into_iter().filter_map(|value| snapshot.split_path(value).ok());
        names.extend(paths.flatten());
    }
    if names.contains("$user") {
        names.extend(owners.iter().map(|owner| snapshot.role_name(*owner)));
    }
    let schemas = names.iter().filter_map(|name| snapshot.schema_named(name)).map(|s| s.oid).collect();
    // Who is not trusted by some owner takes a walk through all memberships, which most of the time nobody needs.
    let untrusted = || {
        let access = Access::new(snapshot);
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let by_some = |role: Oid| owners.iter().any(|owner| !cx.judge.trusts(role, *owner));
        snapshot.roles.iter().map(|r| r.oid).filter(|r| by_some(*r)).collect()
    };
    scan::planted(latest, &schemas, untrusted)
}

/// Who is logged in, whatever roles have been set since.
fn session_user() -> String {
    // SAFETY: the session user exists for as long as the session; null would mean that the role is gone.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
        if name.is_null() { String::new() } else { crate::pg::text::from_server(CStr::from_ptr(name).to_bytes()) }
    }
}

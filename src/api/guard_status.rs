//! `ops.guard_status()`: what of the guard is on, what is not, what that leaves open, and how to
//! close it.

use crate::audit::with_context;
use crate::log::queue;
use crate::pg::call::{Call, Value, sql_function};
use crate::settings::{self, Mode, Preload};
use dragonfly_core::finding::Finding;
use dragonfly_core::rules::{Context, guard_tampered};
use pgrx::pg_sys;

/// One part of the guard. Where nothing is left open there is nothing to close.
struct Part {
    name: &'static str,
    active: bool,
    detail: String,
    leaves_open: Option<&'static str>,
    how_to_close: Option<String>,
}

sql_function!(
    /// `ops.guard_status()`
    ops_guard_status => guard_status
);
fn guard_status(call: Call) -> pg_sys::Datum {
    let parts = with_context(|cx| {
        let damage = cx.run(&guard_tampered::RULE);
        [
            event_triggers(&damage),
            mode(&damage),
            contract(cx),
            silent_statements(),
            log(),
            integrity(&damage),
            superusers(),
        ]
    });
    call.table(parts.map(|part| {
        vec![
            Value::Text(part.name.into()),
            Value::Bool(part.active),
            Value::Text(part.detail),
            Value::text(part.leaves_open),
            Value::text(part.how_to_close),
        ]
    }))
}

/// The statements that mend those findings.
fn fixes<'f>(damage: impl Iterator<Item = &'f Finding>) -> Option<String> {
    let fixes: Vec<String> = damage.filter_map(|f| f.fix.sql()).collect();
    (!fixes.is_empty()).then(|| fixes.join("\n"))
}

fn event_triggers(damage: &[Finding]) -> Part {
    let about = || damage.iter().filter(|f| f.object.object_type == "event trigger");
    // From 17 on they can all be switched off.
    let off = settings::value("event_triggers").is_some_and(|v| v != "on");
    let problems: Vec<&str> = about().map(|f| f.detail.as_str()).collect();
    let active = problems.is_empty() && !off;
    Part {
        name: "event triggers",
        active,
        detail: match (off, problems.as_slice()) {
            (true, _) => "event_triggers is off in this session.".into(),
            (false, []) => {
                "DDL is judged when a statement ends and when its transaction commits.".into()
            }
            (false, problems) => problems.join(" "),
        },
        leaves_open: (!active)
            .then_some("DDL passes unjudged, except where the library is preloaded."),
        how_to_close: if off { Some("SET event_triggers = on;".into()) } else { fixes(about()) },
    }
}

fn mode(damage: &[Finding]) -> Part {
    let stored = || damage.iter().filter(|f| f.evidence["parameter"] == "dragonfly_guard.mode");
    let (active, detail) = match settings::mode() {
        _ if settings::is_restoring_a_dump() => (
            false,
            "A dump is being restored, to go by the settings of this session: it is not judged.",
        ),
        Mode::block => (true, "block: what breaks the contract is refused."),
        Mode::warn => (false, "warn: what breaks the contract passes with a WARNING."),
        Mode::off => (false, "off: everything passes."),
    };
    let elsewhere: Vec<&str> = stored().map(|f| f.detail.as_str()).collect();
    let active = active && elsewhere.is_empty();
    Part {
        name: "mode",
        active,
        detail: [vec![detail], elsewhere].concat().join(" "),
        leaves_open: (!active)
            .then_some("Statements that break the contract are not refused there."),
        how_to_close: (!active)
            .then(|| fixes(stored()).unwrap_or_else(|| "RESET dragonfly_guard.mode;".into())),
    }
}

fn contract(cx: &Context<'_>) -> Part {
    Part {
        name: "contract",
        active: true,
        detail: format!(
            "\"{}\" {} is in force.",
            dragonfly_core::sql::printable(&cx.contract.name),
            cx.contract.version
        ),
        leaves_open: None,
        how_to_close: None,
    }
}

fn silent_statements() -> Part {
    let by = match settings::preload() {
        Preload::Shared => Some("shared_preload_libraries"),
        Preload::Session => Some("session_preload_libraries"),
        Preload::No => None,
    };
    Part {
        name: "statements without an event",
        active: by.is_some(),
        detail: match by {
            Some(by) => format!("The library was loaded by {by}, before this session's first statement."),
            None => "The library was loaded by the session's first DDL.".into(),
        },
        leaves_open: Some(match by {
            Some(_) => "Sessions in other databases, which have no contract or another one, can change roles and memberships.",
            None => "ALTER ROLE, GRANT role, GRANT ON DATABASE, ALTER DATABASE, REASSIGN OWNED, ALTER and DROP EVENT TRIGGER, DROP EXTENSION \
             of the guard, and UPDATE of a catalog pass; the audit finds what they lead to.",
        }),
        how_to_close: by.is_none().then(|| {
            "Add dragonfly_guard to shared_preload_libraries and restart; or, for new sessions of one database, ALTER DATABASE ... SET \
             session_preload_libraries = 'dragonfly_guard'."
                .into()
        }),
    }
}

fn log() -> Part {
    match queue::count() {
        Some(count) => Part {
            name: "log",
            active: count.dropped == 0 && !count.stuck,
            detail: format!(
                "Since the server started: {} entries written, {} waiting, {} dropped.",
                count.written, count.waiting, count.dropped
            ),
            leaves_open: (count.dropped > 0 || count.stuck).then_some("What was dropped, or waits, is in the server log only."),
            how_to_close: count.stuck.then(|| {
                "Raise max_worker_processes: the log writer finds no place. (Or a database with entries is gone, or lets nobody in.)".into()
            }),
        },
        None => Part {
            name: "log",
            active: false,
            detail: "Warnings and unjudged statements are written to ops.v_guard_log by the session itself.".into(),
            leaves_open: Some("What is refused, or rolled back for another reason, is in the server log only."),
            how_to_close: Some("Add dragonfly_guard to shared_preload_libraries and restart.".into()),
        },
    }
}

fn integrity(damage: &[Finding]) -> Part {
    let whole = damage.is_empty();
    Part {
        name: "integrity",
        active: whole,
        detail: match damage.len() {
            0 => "The extension's objects are as it made them, and nothing that is stored can silence them.".into(),
            1 => damage[0].detail.clone(),
            n => format!("{} And {} more: SELECT * FROM ops.audit_guard().", damage[0].detail, n - 1),
        },
        leaves_open: (!whole).then_some("The guard may not be what it seems to be."),
        how_to_close: fixes(damage.iter()),
    }
}

/// No guard inside a database is one against its superusers.
fn superusers() -> Part {
    Part {
        name: "superusers",
        active: false,
        detail: "A superuser can SET dragonfly_guard.mode, which leaves a line in the server log, and start the server without the library."
            .into(),
        leaves_open: Some("Single-user mode, event_triggers = off without preloading, and code of a superuser's own."),
        how_to_close: None,
    }
}

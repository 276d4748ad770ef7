//! `ops.guard_status()`: the status of each component of the guard in this session, the gap that
//! results from it, and how to close that gap.

use crate::audit::with_context;
use crate::catalog;
use crate::log::queue;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::State;
use crate::settings::{self, Mode, Preload};
use crate::store::contract::{highest_version, next_version};
use dragonfly_core::contract::Enforcement;
use dragonfly_core::finding::Finding;
use dragonfly_core::fix::Fix;
use dragonfly_core::report::page::GuardPart;
use dragonfly_core::rules::{Context, guard_tampered};
use dragonfly_core::sql::printable;
use pgrx::pg_sys;

/// One component of the guard. A component without a gap has no fix.
struct Component {
    name: &'static str,
    active: bool,
    detail: String,
    gap: Option<&'static str>,
    fix: Option<String>,
}

sql_function!(
    /// `ops.guard_status() RETURNS TABLE (component text, active bool, detail text, gap text,
    /// fix text)`
    ops_guard_status => guard_status
);
fn guard_status(call: Call) -> pg_sys::Datum {
    call.table(with_context(components).map(|component| {
        vec![
            Value::Text(component.name.into()),
            Value::Bool(component.active),
            Value::Text(component.detail),
            Value::text(component.gap),
            Value::text(component.fix),
        ]
    }))
}

fn components(cx: &Context<'_>) -> [Component; 7] {
    let findings = cx.run(&guard_tampered::RULE);
    [
        event_triggers(&findings),
        mode(cx.contract.enforcement, &findings),
        contract(cx),
        statements_without_event(),
        log(),
        integrity(&findings),
        superusers(),
    ]
}

/// Returns the components for a report.
pub fn parts(cx: &Context<'_>) -> Vec<GuardPart> {
    let part = |component: Component| GuardPart {
        name: component.name.into(),
        active: component.active,
        detail: component.detail,
        gap: component.gap.map(str::to_owned),
        fix: component.fix,
    };
    components(cx).map(part).into()
}

/// The statements that fix findings; `None` where no finding has one.
fn fixes<'f>(findings: impl Iterator<Item = &'f Finding>) -> Option<String> {
    let fixes: Vec<String> = findings.filter_map(|f| f.fix.sql()).collect();
    (!fixes.is_empty()).then(|| fixes.join("\n"))
}

/// Returns what has to be done where the platform skips event triggers.
fn proposal(findings: &[Finding]) -> Option<String> {
    let is_skipped = |problem: &str| matches!(problem, "skipped" | "unchecked");
    let problem = |finding: &&Finding| finding.evidence["problem"].as_str().is_some_and(is_skipped);
    match &findings.iter().find(problem)?.fix {
        Fix::Proposal(text) => Some(text.clone()),
        _ => None,
    }
}

fn event_triggers(findings: &[Finding]) -> Component {
    let about = || findings.iter().filter(|f| f.object.object_type == "event trigger");
    // Since PostgreSQL 17 a setting disables all event triggers.
    let off = settings::value("event_triggers").is_some_and(|v| v != "on");
    let problems: Vec<&str> = about().map(|f| f.detail.as_str()).collect();
    let active = problems.is_empty() && !off;
    Component {
        name: "event triggers",
        active,
        detail: match (off, problems.as_slice()) {
            (true, _) => "event_triggers is off in this session.".into(),
            (false, []) => "DDL is checked at the end of each statement and at commit.".into(),
            (false, problems) => problems.join(" "),
        },
        gap: if active {
            let is_unchecked = |finding: &&Finding| finding.evidence["problem"] == "unchecked";
            findings.iter().find(is_unchecked).map(|_| {
                "Sessions of superusers other than the owner of the event triggers are unchecked: \
                 supautils skips event triggers there."
            })
        } else {
            Some("DDL is not checked, except where the library is preloaded.")
        },
        fix: if off {
            Some("SET event_triggers = on;".into())
        } else {
            fixes(about()).or_else(|| proposal(findings))
        },
    }
}

fn mode(enforcement: Enforcement, findings: &[Finding]) -> Component {
    let stored = || findings.iter().filter(|f| f.evidence["parameter"] == "dragonfly_guard.mode");
    let (active, detail) = match settings::mode() {
        _ if settings::is_restoring_a_dump() => (
            false,
            "The settings of this session are those of a dump that is being restored: statements \
             are not checked.",
        ),
        Mode::block if enforcement != Enforcement::Block => {
            (true, "block: what the contract's enforcement says is done.")
        }
        Mode::block => (true, "block: statements that violate the contract are rejected."),
        Mode::warn => {
            (false, "warn: statements that violate the contract raise a WARNING and are executed.")
        }
        Mode::off => (false, "off: statements are not checked."),
    };
    let elsewhere: Vec<&str> = stored().map(|f| f.detail.as_str()).collect();
    let active = active && elsewhere.is_empty();
    Component {
        name: "mode",
        active,
        detail: [vec![detail], elsewhere].concat().join(" "),
        gap: (!active).then_some("Statements that violate the contract are not rejected there."),
        fix: (!active)
            .then(|| fixes(stored()).unwrap_or_else(|| "RESET dragonfly_guard.mode;".into())),
    }
}

fn contract(cx: &Context<'_>) -> Component {
    let enforcement = cx.contract.enforcement;
    let active = enforcement == Enforcement::Block;
    Component {
        name: "contract",
        active,
        detail: format!(
            "Contract \"{}\" {} is in force. Its enforcement is {}: {}.",
            printable(&cx.contract.name),
            cx.contract.version,
            enforcement.as_str(),
            enforcement.effect()
        ),
        gap: (!active).then_some("Statements that violate the contract are not rejected."),
        fix: (!active).then(|| {
            let state = State::now();
            let version = next_version(&highest_version(&state, &catalog::find_own(&state)));
            format!(
                "SELECT * FROM ops.load_contract(ops.contract() || \
                 '{{\"version\": \"{version}\", \"enforcement\": \"block\"}}');"
            )
        }),
    }
}

fn statements_without_event() -> Component {
    let by = match settings::preload() {
        Preload::Shared => Some("shared_preload_libraries"),
        Preload::Session => Some("session_preload_libraries"),
        Preload::No => None,
    };
    Component {
        name: "statements without an event",
        active: by.is_some(),
        detail: match by {
            Some(by) => {
                format!(
                    "The library was loaded by {by}, before the first statement of the session."
                )
            }
            None => "The library was loaded by the first DDL statement of the session.".into(),
        },
        gap: Some(match by {
            Some("session_preload_libraries") => {
                "Background workers, such as those of pg_cron and of logical replication, do not \
                 load the library: these statements are not checked there. Sessions in other \
                 databases, where no contract or a different one is in force, can change roles and \
                 memberships."
            }
            Some(_) => {
                "Sessions in other databases, where no contract or a different one is in force, \
                 can change roles and memberships."
            }
            None => {
                "ALTER ROLE, GRANT role, GRANT ON DATABASE, ALTER DATABASE, REASSIGN OWNED, ALTER \
                 and DROP EVENT TRIGGER, DROP EXTENSION dragonfly_guard, and UPDATE of a system \
                 catalog are not checked; the audit reports their effects."
            }
        }),
        fix: by.is_none().then(|| {
            "Add dragonfly_guard to shared_preload_libraries and restart the server; or, for new \
             sessions of one database: ALTER DATABASE ... SET session_preload_libraries = \
             'dragonfly_guard'."
                .into()
        }),
    }
}

fn log() -> Component {
    match queue::count() {
        Some(count) => Component {
            name: "log",
            active: count.dropped == 0 && !count.stuck && !count.has_failed,
            detail: format!(
                "Since the server started: {} entries written, {} waiting, {} dropped.{}",
                count.written,
                count.waiting,
                count.dropped,
                if count.has_failed {
                    " The last writer ended before it wrote its entries."
                } else {
                    ""
                }
            ),
            gap: (count.dropped > 0 || count.stuck || count.has_failed)
                .then_some("Entries that were dropped or are waiting are in the server log only."),
            fix: if count.has_failed {
                Some(
                    "Look in the server log for the error of \"dragonfly_guard log writer\" (a \
                     full disk, for example). Waiting entries are written as soon as it is \
                     resolved."
                        .into(),
                )
            } else {
                count.stuck.then(|| {
                    "Increase max_worker_processes: no worker slot is free for the log writer. (Or \
                     dragonfly_guard.log is locked, or a database with waiting entries does not \
                     accept connections.)"
                        .into()
                })
            },
        },
        None => Component {
            name: "log",
            active: false,
            detail: "Each session writes its warnings and unchecked statements to \
                     ops.v_guard_log itself."
                .into(),
            gap: Some(
                "Rejected statements, and entries of transactions that were rolled back, are in \
                 the server log only.",
            ),
            fix: Some(
                "Add dragonfly_guard to shared_preload_libraries and restart the server.".into(),
            ),
        },
    }
}

fn integrity(findings: &[Finding]) -> Component {
    let is_intact = findings.is_empty();
    Component {
        name: "integrity",
        active: is_intact,
        detail: match findings {
            [] => "The objects of the extension are unchanged, and no stored setting disables the \
                   guard."
                .into(),
            [only] => only.detail.clone(),
            [first, others @ ..] => format!(
                "{} And {} more: SELECT * FROM ops.audit_guard().",
                first.detail,
                others.len()
            ),
        },
        gap: (!is_intact).then_some("The guard may not work as the other components report."),
        fix: fixes(findings.iter()),
    }
}

/// Always a gap: an extension cannot restrict superusers.
fn superusers() -> Component {
    Component {
        name: "superusers",
        active: false,
        detail: "A superuser can change dragonfly_guard.mode, which is recorded in the server \
                 log, and can start the server without the library."
            .into(),
        gap: Some(
            "Single-user mode, event_triggers = off without preloading, and code that a superuser \
             loads.",
        ),
        fix: None,
    }
}

//! `ops.doctor()`: the daily check.

use super::explain;
use super::postgrest::AUTHENTICATOR;
use crate::audit::with_findings;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::{Refused, Trust, inert};
use crate::pg::scratch::Scratch;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use crate::{catalog as scan, settings};
use dragonfly_core::catalog::{Oid, Relation, RelationKind, Routine, RoutineKind};
use dragonfly_core::doctor::{Check, Trial, Trials, examine, reach};
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::{ReasonCode, split_identifiers, stored_value};
use dragonfly_core::sql::{printable, safe_qualified};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString};

sql_function!(
    /// `ops.doctor(authenticator name)`
    ops_doctor => doctor
);
fn doctor(call: Call) -> pg_sys::Datum {
    let authenticator = call.name(0).unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let checks: Vec<Check> = with_findings(|cx, findings, state| {
        let role = cx.snapshot.role_named(&authenticator);
        let bench = Bench::new(cx, state);
        let reached = explain::denied(cx.contract, state, &reach(cx), |read| {
            let timeout = CString::new(bench.patience()).unwrap_or_default();
            let outcome = setting::under(&[(c"lock_timeout", timeout.as_c_str())], read);
            if let Err(explain::Unreadable::Now(_)) = &outcome {
                bench.is_impatient.set(true);
            }
            outcome
        });
        let trials = Trials {
            view: &|view| bench.view(view),
            routine: &|routine| bench.body(routine),
            reached: &|reach| reached.get(reach).cloned().unwrap_or(Trial::Fine),
            exposed_schemas: role.and_then(|role| scan::setting_of(state, role.oid, "pgrst.db_schemas")),
            interrupts: &interrupts,
        };
        examine(cx, findings, &authenticator, &trials)
    });
    call.table(checks.into_iter().map(|check| {
        vec![
            Value::Text(check.area.into()),
            Value::Text(check.object),
            Value::Bool(check.ok),
            Value::Text(check.detail),
            Value::text(check.fix),
        ]
    }))
}

/// What trying takes.
struct Bench<'a> {
    cx: &'a Context<'a>,
    state: &'a State,
    memory: Scratch,
    /// Who is trusted; and why nothing is tried all the same.
    trusted: OnceCell<(Trust, Option<String>)>,
    /// A lock has been waited for in vain: the next are not waited for.
    is_impatient: Cell<bool>,
}

impl<'a> Bench<'a> {
    fn new(cx: &'a Context<'a>, state: &'a State) -> Self {
        Self { cx, state, memory: Scratch::new(), trusted: OnceCell::new(), is_impatient: Cell::new(false) }
    }

    /// Has the server put the queries of the views behind a view in its place, and plan the result as its owner and along the path of whoever uses it.
    fn view(&self, view: &Relation) -> Trial {
        let name = safe_qualified(self.cx.snapshot.schema_name(view.schema), &view.name);
        if view.kind == RelationKind::MaterializedView && !scan::is_populated(self.state, view.oid) {
            return Trial::Broken(format!("materialized view {name} has not been populated"));
        }
        let trust = match self.trust(view.owner) {
            Ok(trust) => trust,
            Err(why) => return Trial::Untried(why),
        };
        // Even to put them in place takes as much as their owners like.
        let is_strange = |oid: &Oid| scan::relation_owner(self.state, *oid).is_some_and(|owner| !trust.owners.contains(&owner));
        if let Some(strange) = scan::behind_view(self.state, view.oid).into_iter().filter(is_strange).min() {
            return Trial::Untried(self.said(Refused::Relation(strange)));
        }
        let settings = self.settings(view.schema, &[]);
        if let Some(why) = self.spoilt(&settings, view.owner) {
            return Trial::Untried(why);
        }
        let is_it = || scan::relation_owner(&State::now(), view.oid) == Some(view.owner);
        let depends = Cell::new(false);
        self.tried(trust, &settings, (is_it, &depends), || explain::view_is_read(view.oid, &name, view.owner, &depends))
    }

    /// Has the validator of its language read the body of a routine, as its owner and under its own settings.
    fn body(&self, routine: &Routine) -> Trial {
        // An aggregate has none; what it calls has.
        if routine.kind == RoutineKind::Aggregate {
            return Trial::Fine;
        }
        let Some(validator) = scan::validator(self.state, routine.oid) else { return Trial::Fine };
        let trust = match self.trust(routine.owner) {
            Ok(trust) => trust,
            Err(why) => return Trial::Untried(why),
        };
        let settings = self.settings(routine.schema, &routine.config);
        if let Some(why) = self.spoilt(&settings, routine.owner) {
            return Trial::Untried(why);
        }
        let is_it = || scan::routine_owner(&State::now(), routine.oid) == Some(routine.owner);
        let read = || {
            restricted::as_role(routine.owner, || {
                // SAFETY: a validator takes the OID of the routine, and raises an error or returns nothing.
                unsafe { pg_sys::OidFunctionCall1Coll(validator.into(), pg_sys::InvalidOid, pg_sys::Datum::from(routine.oid)) };
            });
            is_it()
        };
        self.tried(trust, &settings, (is_it, &Cell::new(false)), read)
    }

    /// Why names would not be looked up as whoever uses the thing looks them up: this session's temporary objects come first, or others can put things into the
    /// path meanwhile.
    fn spoilt(&self, settings: &[(CString, CString)], owner: Oid) -> Option<String> {
        if scan::temporary::has_schema() {
            return Some("this session has temporary objects, which come first".into());
        }
        let path = settings.iter().find(|(name, _)| name.as_c_str() == c"search_path")?;
        let judgment = self.cx.judge.path(&from_server(path.1.to_bytes()), owner);
        let is_open = judgment.reasons.iter().any(|r| matches!(r.code, ReasonCode::Writable | ReasonCode::ForeignObjects));
        is_open.then(|| "others can put things into its search_path".into())
    }

    /// What comes of `work`, while nobody's code runs; it gives false where it has found something else than was looked for. `is_it` says whether that is
    /// still there, and `depends` whether functions are asked what they say just now.
    fn tried(
        &self,
        trust: &Trust,
        settings: &[(CString, CString)],
        (is_it, depends): (impl Fn() -> bool, &Cell<bool>),
        work: impl FnOnce() -> bool,
    ) -> Trial {
        let settings: Vec<(&CStr, &CStr)> = settings.iter().map(|(name, value)| (name.as_c_str(), value.as_c_str())).collect();
        let attempt = || subtransaction::rolled_back(|| setting::under(&settings, work));
        let (outcome, refused) = self.memory.with(|| {
            let (outcome, refused) = inert(trust, attempt);
            let told = |error: Box<CaughtError>| {
                let report = subtransaction::report(&error);
                (report.sql_error_code(), report.message().to_owned(), is_about_sql(report.file()))
            };
            (outcome.map_err(told), refused)
        });
        let changed = || Trial::Untried("somebody is just changing it".into());
        match (refused, outcome) {
            (Some(refused), _) => Trial::Untried(self.said(refused)),
            (None, Ok(true)) => Trial::Fine,
            (None, Ok(false)) => changed(),
            (None, Err(_)) if !is_it() => changed(),
            (None, Err((code, message, is_about_sql))) => match code {
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED => {
                    self.is_impatient.set(true);
                    Trial::Untried("somebody has locked what it names".into())
                }
                // The planner asks functions what they say now, to guess how many rows there are: without a request's settings some say nothing.
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT if message.starts_with("unrecognized configuration parameter") => {
                    Trial::Untried(format!("that takes a request: {message}"))
                }
                // A function's own settings are set before it is asked whether it may run.
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE if message.starts_with("cannot set parameter") => {
                    Trial::Untried(format!("that would run a function: {message}"))
                }
                _ if depends.get() && !is_about_sql => Trial::Untried(format!("that takes a request: {message}")),
                _ => Trial::Broken(message),
            },
        }
    }

    fn said(&self, refused: Refused) -> String {
        let relation = |oid| {
            let name = scan::name(scan::PG_CLASS, oid);
            let name = name.map_or_else(|| "a table".into(), |(schema, name)| safe_qualified(&schema, &name));
            (printable(&name).into_owned(), scan::relation_owner(self.state, oid))
        };
        let role =
            |oid: Option<Oid>| printable(&oid.map(|oid| self.cx.snapshot.role_name(oid)).unwrap_or_default()).into_owned();
        match refused {
            Refused::Query => "that would run a query".into(),
            Refused::Function(oid) => {
                let name = scan::name(scan::PG_PROC, oid).map_or_else(
                    || "a function".into(),
                    |(schema, name)| {
                        format!("{}({})", safe_qualified(&schema, &name), scan::argument_types_of(self.state, oid))
                    },
                );
                format!(
                    "that would run function {}, which belongs to \"{}\"",
                    printable(&name),
                    role(scan::routine_owner(self.state, oid))
                )
            }
            Refused::Relation(oid) => {
                let (name, owner) = relation(oid);
                format!("it reads {name}, which belongs to \"{}\"", role(owner))
            }
            Refused::ForeignTable(oid) => format!("that would ask the server of foreign table {}", relation(oid).0),
        }
    }

    /// How far others are trusted while something of `owner`'s is read: superusers, and whom the contract trusts with the structure, of whom `owner` must be
    /// one. What runs by itself and is seen by no hook must not be there: checks of domains and functions of ranges that do more than compute.
    fn trust(&self, owner: Oid) -> Result<&Trust, String> {
        let trusted = self.trusted.get_or_init(|| {
            let trust = Trust::under(self.cx.contract, self.cx.snapshot);
            let live = scan::live_type(self.state).map(|oid| {
                let name = scan::deparse::attempted(|| scan::deparse::type_name(oid, -1));
                format!("reading a value of type {} could run something", printable(&name))
            });
            (trust, live)
        });
        match trusted {
            (trust, _) if !trust.owners.contains(&owner) => {
                let name = self.cx.snapshot.role_name(owner);
                Err(format!("it belongs to \"{}\", whom the contract does not trust with the structure", printable(&name)))
            }
            (_, Some(live)) => Err(live.clone()),
            (trust, None) => Ok(trust),
        }
    }

    /// How long to wait for a lock.
    fn patience(&self) -> String {
        let said = settings::value("lock_timeout").filter(|value| value != "0");
        said.unwrap_or_else(|| PATIENCE[usize::from(self.is_impatient.get())].into())
    }

    /// What a session has that comes to use something in `schema` with settings of its own, or none: PostgREST puts the schema first in the path.
    fn settings(&self, schema: Oid, own: &[String]) -> Vec<(CString, CString)> {
        let own = |name: &str| {
            let set = own.iter().filter_map(|item| item.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case(name));
            set.map(|(_, value)| value.to_owned())
        };
        let path = || {
            let everywhere =
                settings::of_new_sessions("search_path").and_then(|path| split_identifiers(&path, scan::VERSION).ok());
            let rest = everywhere
                .unwrap_or_else(|| vec!["public".into()])
                .into_iter()
                .filter(|name| name != "$user" && !name.is_empty());
            let first = self.cx.snapshot.schema_name(schema).to_owned();
            stored_value(&[first].into_iter().chain(rest).chain(["pg_temp".into()]).collect::<Vec<String>>())
        };
        let mut found = vec![
            ("search_path", own("search_path").unwrap_or_else(path)),
            ("row_security", "on".to_owned()),
            ("check_function_bodies", "on".to_owned()),
            ("lock_timeout", self.patience()),
        ];
        found.extend(
            OF_LITERALS.iter().filter_map(|name| Some((*name, own(name).or_else(|| settings::of_new_sessions(name))?))),
        );
        let text = |text: &str| CString::new(to_server(text)).unwrap_or_default();
        found.into_iter().map(|(name, value)| (text(name), text(&value))).collect()
    }
}

/// Whether an error comes from the parser or the rewriter, by the server's file that raises it: what a query or a function's body says is wrong, and not
/// what a function makes of its arguments just now.
fn is_about_sql(file: &str) -> bool {
    let file = file.rsplit('/').next().unwrap_or_default();
    file.starts_with("parse") || file.starts_with("rewrite") || matches!(file, "analyze.c" | "scan.l" | "gram.y")
}

/// How long a lock is waited for, unless the session says so itself; and once one has been waited for in vain.
const PATIENCE: [&str; 2] = ["1s", "10ms"];

/// The settings by which literals are read.
const OF_LITERALS: [&str; 7] =
    ["standard_conforming_strings", "backslash_quote", "datestyle", "intervalstyle", "timezone", "array_nulls", "xmloption"];

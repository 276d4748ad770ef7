//! `ops.doctor()`: the daily check.

use super::{AUTHENTICATOR, with_findings};
use crate::explain;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::{Refused, Trust, inert};
use crate::pg::scratch::Scratch;
use crate::pg::text::to_server;
use crate::pg::{restricted, setting, subtransaction};
use crate::{scan, settings};
use dragonfly_core::catalog::{Oid, Relation, RelationKind, Routine, RoutineKind};
use dragonfly_core::contract::RoleKind;
use dragonfly_core::doctor::{Check, Trial, Trials, examine, reach};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::{printable, safe_ident, safe_qualified};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::RefCell;
use std::collections::HashMap;
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
        let denied = explain::denied(cx.contract, state, &reach(cx));
        let trials = Trials {
            view: &|view| bench.view(view),
            routine: &|routine| bench.body(routine),
            denied: &|reach| denied.get(reach).cloned(),
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

/// Why something cannot be tried, or how far others are trusted while it is.
type Trusted = Result<Trust, String>;

/// What trying takes.
struct Bench<'a> {
    cx: &'a Context<'a>,
    state: &'a State,
    memory: Scratch,
    /// By owner: reading what is theirs.
    trusted: RefCell<HashMap<Oid, Trusted>>,
}

impl<'a> Bench<'a> {
    fn new(cx: &'a Context<'a>, state: &'a State) -> Self {
        Self { cx, state, memory: Scratch::new(), trusted: RefCell::default() }
    }

    /// Has the server put the queries of the views behind a view in its place, and plan the result as its owner and along the path of whoever uses it.
    fn view(&self, view: &Relation) -> Trial {
        let name = safe_qualified(self.cx.snapshot.schema_name(view.schema), &view.name);
        if view.kind == RelationKind::MaterializedView && !scan::is_populated(self.state, view.oid) {
            return Trial::Broken(format!("materialized view {name} has not been populated"));
        }
        let settings = self.settings(view.schema, &[]);
        let is_it = || scan::relation_owner(&State::now(), view.oid) == Some(view.owner);
        let read = |plans| explain::view_is_read(view.oid, &name, view.owner, plans);
        match self.trust(view.owner) {
            Ok(trust) => self.tried(&trust, &settings, is_it, || read(true)),
            Err(why) => match self.tried(&Trust::default(), &settings, is_it, || read(false)) {
                Trial::Fine => Trial::Untried(why),
                other => other,
            },
        }
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
        let is_it = || scan::routine_owner(&State::now(), routine.oid) == Some(routine.owner);
        let read = || {
            restricted::as_role(routine.owner, || {
                // SAFETY: a validator takes the OID of the routine, and raises an error or returns nothing.
                unsafe { pg_sys::OidFunctionCall1Coll(validator.into(), pg_sys::InvalidOid, pg_sys::Datum::from(routine.oid)) };
            });
            is_it()
        };
        self.tried(&trust, &self.settings(routine.schema, &routine.config), is_it, read)
    }

    /// What comes of `work`, while nobody's code runs; it gives false where it has found something else than was looked for, and `is_it` says whether that is
    /// still there.
    fn tried(
        &self,
        trust: &Trust,
        settings: &[(CString, CString)],
        is_it: impl Fn() -> bool,
        work: impl FnOnce() -> bool,
    ) -> Trial {
        let settings: Vec<(&CStr, &CStr)> = settings.iter().map(|(name, value)| (name.as_c_str(), value.as_c_str())).collect();
        let attempt = || subtransaction::rolled_back(|| setting::under(&settings, work));
        let (outcome, refused) = self.memory.with(|| {
            let (outcome, refused) = inert(trust, attempt);
            let told = |error: Box<CaughtError>| {
                let report = subtransaction::report(&error);
                (report.sql_error_code(), report.message().to_owned())
            };
            (outcome.map_err(told), refused)
        });
        let changed = || Trial::Untried("somebody is just changing it".into());
        match (refused, outcome) {
            (Some(refused), _) => Trial::Untried(self.said(refused)),
            (None, Ok(true)) => Trial::Fine,
            (None, Ok(false)) => changed(),
            (None, Err(_)) if !is_it() => changed(),
            (None, Err((code, message))) => match code {
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED => {
                    Trial::Untried("somebody has locked what it names".into())
                }
                // A setting that only a request brings along: the planner has asked for it to guess how many rows there are.
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT if message.starts_with("unrecognized configuration parameter") => {
                    Trial::Untried(format!("that takes a setting: {message}"))
                }
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

    /// How far others are trusted while something of `owner`'s is read: superusers, and the owner, whom the contract must trust with the structure. What
    /// runs by itself and is seen by no hook must belong to those alone: the checks of domains, the functions of ranges.
    fn trust(&self, owner: Oid) -> Trusted {
        let known = self.trusted.borrow().get(&owner).cloned();
        known.unwrap_or_else(|| {
            let trust = self.trust_anew(owner);
            self.trusted.borrow_mut().insert(owner, trust.clone());
            trust
        })
    }

    fn trust_anew(&self, owner: Oid) -> Trusted {
        let role = self.cx.snapshot.role(owner);
        let name = role.map(|role| role.name.as_str()).unwrap_or_default();
        if !role.is_some_and(|role| role.superuser) && !self.cx.contract.roles_of(RoleKind::Owner).any(|known| known == name) {
            return Err(format!("it belongs to \"{}\", whom the contract does not trust with the structure", printable(name)));
        }
        let trust = Trust::of_superusers(self.cx.snapshot).and(owner);
        match scan::strange_type(self.state, &trust.owners) {
            None => Ok(trust),
            Some(oid) => {
                let name = scan::deparse::attempted(|| scan::deparse::type_name(oid, -1));
                Err(format!("reading type {} of somebody else's could run its checks", printable(&name)))
            }
        }
    }

    /// What a session has that comes to use something in `schema` with settings of its own, or none: PostgREST puts the schema first in the path.
    fn settings(&self, schema: Oid, own: &[String]) -> Vec<(CString, CString)> {
        let own = |name: &str| {
            let set = own.iter().filter_map(|item| item.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case(name));
            set.map(|(_, value)| value.to_owned())
        };
        let path = || format!("{}, public, pg_temp", safe_ident(self.cx.snapshot.schema_name(schema)));
        let mut found = vec![
            ("search_path", own("search_path").unwrap_or_else(path)),
            ("row_security", "on".to_owned()),
            ("check_function_bodies", "on".to_owned()),
        ];
        found.extend(
            OF_LITERALS.iter().filter_map(|name| Some((*name, own(name).or_else(|| settings::of_new_sessions(name))?))),
        );
        let text = |text: &str| CString::new(to_server(text)).unwrap_or_default();
        found.into_iter().map(|(name, value)| (text(name), text(&value))).collect()
    }
}

/// The settings by which literals are read.
const OF_LITERALS: [&str; 7] =
    ["standard_conforming_strings", "backslash_quote", "datestyle", "intervalstyle", "timezone", "array_nulls", "xmloption"];

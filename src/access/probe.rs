//! Whether views and bodies of routines are valid, by the server's parser, rewriter, planner and
//! validators: what `ops.doctor()` reports, and what a plan must not change.

use super::declared::LockTimeout;
use crate::pg::heap::State;
use crate::pg::inert::{Blocked, Trust, inert};
use crate::pg::scratch::Scratch;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use crate::query;
use crate::{catalog, settings};
use dragonfly_core::catalog::{ObjectId, Oid, Relation, RelationKind, Routine, RoutineKind};
use dragonfly_core::doctor::Outcome;
use dragonfly_core::rules::Context;
use dragonfly_core::search_path::{ReasonCode, stored_value};
use dragonfly_core::sql::identifiers::split_identifiers;
use dragonfly_core::sql::{printable, safe_qualified};
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString};

/// Checks views and routines by the server's parser, rewriter, planner and validators, without
/// executing any code in them.
pub struct Probe<'a> {
    cx: &'a Context<'a>,
    state: &'a State,
    memory: Scratch,
    trusted: OnceCell<Trusted>,
    /// How long it waits for locks.
    pub timeout: LockTimeout,
}

/// Which objects can be probed.
struct Trusted {
    trust: Trust,
    /// Why none can be: reading a value of some type could execute code that no hook sees.
    hazard: Option<String>,
}

/// Names and values of settings.
type Settings = Vec<(CString, CString)>;

/// An object while it is probed.
struct Target<'p> {
    trust: &'p Trust,
    settings: &'p Settings,
    /// Whether the catalog still shows the object as the snapshot does.
    is_unchanged: &'p dyn Fn() -> bool,
    /// Set by the probe where a function in the object may return something else in another
    /// session.
    has_mutable_functions: &'p Cell<bool>,
}

impl<'a> Probe<'a> {
    /// Returns the probe of a catalog; `cx` is the whole catalog, as `state` shows it.
    pub fn new(cx: &'a Context<'a>, state: &'a State) -> Self {
        Self {
            cx,
            state,
            memory: Scratch::new(),
            trusted: OnceCell::new(),
            timeout: LockTimeout::default(),
        }
    }

    /// Returns the outcome for an object of the catalog; `None` for one that is neither a view nor
    /// a routine.
    pub fn object(&self, object: ObjectId) -> Option<Outcome> {
        match object {
            ObjectId::Relation(oid) => {
                let view = self.cx.snapshot.relation(oid)?;
                let is_view =
                    matches!(view.kind, RelationKind::View | RelationKind::MaterializedView);
                is_view.then(|| self.view(view))
            }
            ObjectId::Routine(oid) => Some(self.body(self.cx.snapshot.routine(oid)?)),
            _ => None,
        }
    }

    /// Has the server rewrite and plan the query of a view, as the owner of the view and with the
    /// search_path of the sessions that use it.
    pub fn view(&self, view: &Relation) -> Outcome {
        let name = safe_qualified(self.cx.snapshot.schema_name(view.schema), &view.name);
        if view.kind == RelationKind::MaterializedView
            && !catalog::is_populated(self.state, view.oid)
        {
            return Outcome::Fails(format!("materialized view {name} has not been populated"));
        }
        let trust = match self.trust(view.owner) {
            Ok(trust) => trust,
            Err(why) => return Outcome::Unchecked(why),
        };
        // Views can be written so that rewriting them takes any amount of time and memory.
        let is_untrusted = |oid: &Oid| {
            catalog::relation_owner(self.state, *oid)
                .is_some_and(|owner| !trust.owners.contains(&owner))
        };
        if let Some(untrusted) =
            catalog::behind_view(self.state, view.oid).into_iter().filter(is_untrusted).min()
        {
            return Outcome::Unchecked(self.describe(Blocked::Relation(untrusted)));
        }
        let settings = self.settings(view.schema, &[]);
        if let Some(why) = self.untrusted_path(&settings, view.owner) {
            return Outcome::Unchecked(why);
        }
        let has_mutable_functions = Cell::new(false);
        let target = Target {
            trust,
            settings: &settings,
            is_unchanged: &|| catalog::relation_owner(&State::now(), view.oid) == Some(view.owner),
            has_mutable_functions: &has_mutable_functions,
        };
        self.attempt(&target, || {
            query::view_is_read(view.oid, &name, view.owner, &has_mutable_functions)
        })
    }

    /// Has the validator of the language check the body of a routine, as the owner of the routine
    /// and with its settings.
    pub fn body(&self, routine: &Routine) -> Outcome {
        // An aggregate has no body; the functions that it consists of have one.
        if routine.kind == RoutineKind::Aggregate {
            return Outcome::Works;
        }
        let Some(validator) = catalog::validator(self.state, routine.oid) else {
            return Outcome::Works;
        };
        let trust = match self.trust(routine.owner) {
            Ok(trust) => trust,
            Err(why) => return Outcome::Unchecked(why),
        };
        let settings = self.settings(routine.schema, &routine.config);
        if let Some(why) = self.untrusted_path(&settings, routine.owner) {
            return Outcome::Unchecked(why);
        }
        let is_unchanged =
            || catalog::routine_owner(&State::now(), routine.oid) == Some(routine.owner);
        let target = Target {
            trust,
            settings: &settings,
            is_unchanged: &is_unchanged,
            has_mutable_functions: &Cell::new(false),
        };
        self.attempt(&target, || {
            restricted::as_role(routine.owner, || {
                // SAFETY: a validator takes the OID of the routine, and raises an error or returns
                // nothing.
                unsafe {
                    let routine = pg_sys::Datum::from(routine.oid);
                    pg_sys::OidFunctionCall1Coll(validator.into(), pg_sys::InvalidOid, routine);
                }
            });
            is_unchanged()
        })
    }

    /// Why names could be looked up differently than in the sessions that use the object: temporary
    /// objects of this session take precedence, or untrusted roles can create objects in the
    /// search_path during the probe.
    fn untrusted_path(&self, settings: &Settings, owner: Oid) -> Option<String> {
        if catalog::temporary::has_schema() {
            return Some("this session has temporary objects, which take precedence".into());
        }
        let (_, path) = settings.iter().find(|(name, _)| name.as_c_str() == c"search_path")?;
        let assessment = self.cx.paths.path(&from_server(path.to_bytes()), owner);
        let is_open = |code| matches!(code, ReasonCode::Writable | ReasonCode::ForeignObjects);
        let is_open = assessment.reasons.iter().any(|reason| is_open(reason.code));
        is_open.then(|| "untrusted roles can create objects in its search_path".into())
    }

    /// Returns the outcome of `work`, during which no untrusted code is executed. `work` returns
    /// false where the object that it found is no longer the one of the snapshot.
    fn attempt(&self, target: &Target<'_>, work: impl FnOnce() -> bool) -> Outcome {
        let settings: Vec<(&CStr, &CStr)> = target
            .settings
            .iter()
            .map(|(name, value)| (name.as_c_str(), value.as_c_str()))
            .collect();
        let attempt = || subtransaction::rolled_back(|| setting::under(&settings, work));
        let (result, blocked) = self.memory.with(|| {
            let (result, blocked) = inert(target.trust, attempt);
            let failure = |error: Box<CaughtError>| Failure::of(subtransaction::report(&error));
            (result.map_err(failure), blocked)
        });
        let modified = || Outcome::Unchecked("object is being modified concurrently".into());
        match (blocked, result) {
            (Some(blocked), _) => Outcome::Unchecked(self.describe(blocked)),
            (None, Ok(true)) => Outcome::Works,
            (None, Ok(false)) => modified(),
            (None, Err(_)) if !(target.is_unchanged)() => modified(),
            (None, Err(failure)) => {
                if failure.is_of_lock() {
                    self.timeout.locked_out();
                }
                failure.outcome(target.has_mutable_functions.get())
            }
        }
    }

    /// Describes what was blocked, as a clause.
    fn describe(&self, blocked: Blocked) -> String {
        let relation = |oid| {
            let name = catalog::name(catalog::PG_CLASS, oid);
            let name = name
                .map_or_else(|| "a table".into(), |(schema, name)| safe_qualified(&schema, &name));
            (printable(&name).into_owned(), catalog::relation_owner(self.state, oid))
        };
        let role = |oid: Option<Oid>| {
            printable(&oid.map(|oid| self.cx.snapshot.role_name(oid)).unwrap_or_default())
                .into_owned()
        };
        match blocked {
            Blocked::Query => "it would execute a query".into(),
            Blocked::Function(oid) => {
                let signature = |(schema, name): (String, String)| {
                    format!(
                        "{}({})",
                        safe_qualified(&schema, &name),
                        catalog::argument_types_of(self.state, oid)
                    )
                };
                let name = catalog::name(catalog::PG_PROC, oid)
                    .map_or_else(|| "a function".into(), signature);
                let owner = role(catalog::routine_owner(self.state, oid));
                format!(
                    "it would call function {}, which is owned by \"{owner}\"",
                    printable(&name)
                )
            }
            Blocked::Relation(oid) => {
                let (name, owner) = relation(oid);
                format!("it reads {name}, which is owned by \"{}\"", role(owner))
            }
            Blocked::ForeignTable(oid) => {
                format!("it would contact the server of foreign table {}", relation(oid).0)
            }
        }
    }

    /// Returns which owners are trusted while an object of `owner` is probed: superusers and the
    /// trusted owners of the contract.
    ///
    /// # Errors
    /// Where `owner` is none of them, or where a type exists whose values cannot be read without
    /// executing code that no hook sees: domains and ranges with functions that do more than
    /// compute.
    fn trust(&self, owner: Oid) -> Result<&Trust, String> {
        let trusted = self.trusted.get_or_init(|| Trusted {
            trust: Trust::under(self.cx.contract, self.cx.snapshot),
            hazard: catalog::type_running_code(self.state).map(|oid| {
                let name = catalog::deparse::deparsed(|| catalog::deparse::type_name(oid, -1));
                format!("reading a value of type {} could execute code", printable(&name))
            }),
        });
        if !trusted.trust.owners.contains(&owner) {
            let name = self.cx.snapshot.role_name(owner);
            return Err(format!("its owner \"{}\" is not a trusted owner", printable(&name)));
        }
        trusted.hazard.clone().map_or(Ok(&trusted.trust), Err)
    }

    /// The settings with which an object in `schema` is used: those of the object itself, or those
    /// of a request. PostgREST sets a search_path that starts with the schema.
    fn settings(&self, schema: Oid, own: &[String]) -> Settings {
        let own = |name: &str| {
            let mut items = own.iter().filter_map(|item| item.split_once('='));
            items
                .rfind(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let mut found = vec![
            ("search_path", own("search_path").unwrap_or_else(|| self.path_of_requests(schema))),
            ("row_security", "on".to_owned()),
            ("restrict_nonsystem_relation_kind", String::new()),
            ("check_function_bodies", "on".to_owned()),
            ("lock_timeout", self.timeout.value()),
        ];
        let of_literal = |name| Some((name, own(name).or_else(|| settings::reset_value(name))?));
        found.extend(OF_LITERALS.into_iter().filter_map(of_literal));
        let text = |text: &str| CString::new(to_server(text)).unwrap_or_default();
        found.into_iter().map(|(name, value)| (text(name), text(&value))).collect()
    }

    /// The search_path of a request to `schema`.
    fn path_of_requests(&self, schema: Oid) -> String {
        let everywhere = settings::reset_value("search_path");
        let rest = everywhere.and_then(|path| split_identifiers(&path, catalog::VERSION).ok());
        let rest = rest.unwrap_or_else(|| vec!["public".into()]);
        let rest = rest.into_iter().filter(|name| name != "$user" && !name.is_empty());
        let first = self.cx.snapshot.schema_name(schema).to_owned();
        stored_value(
            &[first].into_iter().chain(rest).chain(["pg_temp".into()]).collect::<Vec<String>>(),
        )
    }
}

/// An error during a probe. Its meaning is decided by its SQLSTATE and by the place in the server's
/// source that raised it. Its message is only shown, and may be translated.
struct Failure {
    code: PgSqlErrorCode,
    place: Place,
    message: String,
}

/// Which part of the server raised an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The parser or the rewriter: the SQL itself is invalid, and not an argument of a function.
    Sql,
    /// The code that reads and writes settings.
    Settings,
    /// The code that sets a parameter and checks whether it can be set.
    SettingOfParameter,
    Elsewhere,
}

impl Place {
    fn of(report: &ErrorReportWithLevel) -> Self {
        let file = report.file().rsplit('/').next().unwrap_or_default();
        let function = report.function_name().unwrap_or_default();
        if file.starts_with("parse") || file.starts_with("rewrite") {
            return Self::Sql;
        }
        match file {
            "analyze.c" | "scan.l" | "gram.y" => Self::Sql,
            // `set_config_option` and the functions that it consists of in later versions.
            "guc.c" if function.starts_with("set_config_") => Self::SettingOfParameter,
            "guc.c" | "guc_funcs.c" => Self::Settings,
            _ => Self::Elsewhere,
        }
    }
}

impl Failure {
    fn of(report: &ErrorReportWithLevel) -> Self {
        Self {
            code: report.sql_error_code(),
            place: Place::of(report),
            message: report.message().to_owned(),
        }
    }

    /// Whether a lock could not be acquired.
    fn is_of_lock(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        )
    }

    /// What the error means for the object. `has_mutable_functions` tells that functions in the
    /// object may return something else in another session.
    fn outcome(self, has_mutable_functions: bool) -> Outcome {
        let Self { code, place, ref message } = self;
        if self.is_of_lock() {
            return Outcome::Unchecked("an object that it uses is locked".into());
        }
        match (code, place) {
            // The planner calls functions to estimate how many rows there are, and a parameter that
            // only requests set does not exist here.
            (
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                Place::Settings | Place::SettingOfParameter,
            ) => Outcome::Unchecked(format!("it depends on the request: {message}")),
            // The settings of a function are set before any hook can block the call. Which of them
            // can be set depends on the role that calls it, and a security-restricted operation
            // forbids some.
            (PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, Place::SettingOfParameter) => {
                Outcome::Unchecked(format!("it would call a function: {message}"))
            }
            _ if has_mutable_functions && place != Place::Sql => {
                Outcome::Unchecked(format!("it depends on the request: {message}"))
            }
            _ => Outcome::Fails(self.message),
        }
    }
}

/// The settings that affect how literals are read.
const OF_LITERALS: [&str; 7] = [
    "standard_conforming_strings",
    "backslash_quote",
    "datestyle",
    "intervalstyle",
    "timezone",
    "array_nulls",
    "xmloption",
];

//! `ops.adopt()`: from a living database to a contract in force, with an exemption for each finding
//! that remains.

use super::contract::valid;
use super::infer::{expires_at, mode, reject_without_objects, with_inferred};
use super::{argument, permission, readers};
use crate::audit;
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::progress::{self, Progress};
use crate::pg::report::Report;
use crate::store::Installation;
use crate::store::contract::{History, is_shipped};
use crate::store::exemptions::{Change, Current, New};
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::exemptions::Accepted;
use dragonfly_core::infer::exempt::{Remaining, remaining};
use dragonfly_core::infer::summary::{
    Adoption, CouldBeClient, Line, approval, may_audit, opened_by_default,
};
use dragonfly_core::infer::{LeftOut, Mode, ToConfirm, name_deployers, roles_to_confirm};
use dragonfly_core::sql::{printable, quote_literal};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::BTreeMap;

sql_function!(
    /// `ops.adopt(schemas name[] DEFAULT NULL, mode text DEFAULT 'as_is', name text DEFAULT NULL,
    /// reason text DEFAULT NULL, expires_in interval DEFAULT '90 days', dry_run bool DEFAULT true,
    /// replace bool DEFAULT false) RETURNS TABLE (topic text, detail text)`
    ops_adopt => adopt
);
fn adopt(call: Call) -> pg_sys::Datum {
    answer(call, &Wanted::of(call, argument::names(call, 0, "schemas")))
}

sql_function!(
    /// `ops.adopt(schemas text, ...)`, with the same other arguments and columns: psql users write
    /// one schema as `'public'`, which is no array.
    ops_adopt_text => adopt_text
);
fn adopt_text(call: Call) -> pg_sys::Datum {
    answer(call, &Wanted::of(call, argument::names_in_text(call, 0, "schemas")))
}

fn answer(call: Call, wanted: &Wanted) -> pg_sys::Datum {
    let _progress = Progress::begin("adopting the database", 7);
    let lines = if argument::flag(call, 5, "dry_run") {
        wanted.tried()
    } else {
        permission::check(call);
        wanted.executed()
    };
    call.table(
        lines
            .into_iter()
            .map(|Line { topic, detail }| vec![Value::Text(topic.into()), Value::Text(detail)]),
    )
}

/// The arguments.
struct Wanted {
    schemas: Option<Vec<String>>,
    mode: Mode,
    name: Option<String>,
    reason: Option<String>,
    /// `expires_in` as text, and the time that results from it.
    expires_in: Option<String>,
    expires_at: Option<i64>,
    replace: bool,
}

impl Wanted {
    fn of(call: Call, schemas: Option<Vec<String>>) -> Self {
        Self {
            schemas,
            mode: mode(call, 1),
            name: argument::optional_text(call, 2, "name"),
            reason: argument::optional_reason(call, 3, "reason"),
            expires_in: call.interval_text(4),
            expires_at: expires_at(call, 4),
            replace: argument::flag(call, 6, "replace"),
        }
    }

    /// Returns the summary of what the call would do without `dry_run`.
    fn tried(&self) -> Vec<Line> {
        let installation = Installation::now();
        let adopted = self.inferred(&installation);
        let Installation { state, own, contract } = &installation;
        let is_replaced = !is_shipped(state, own);
        let place = in_place_of(contract, is_replaced);
        let what = format!("{} would be in force, {place}", named(&adopted.contract));
        let mut lines = vec![Line::new("dry run", what)];
        lines.extend(self.summary(&adopted));
        lines.push(audits(&adopted.contract));
        lines.extend(approvals(&adopted.contract));
        lines.push(Line::new("next", self.call(is_replaced)));
        lines
    }

    /// Puts the contract into force, exempts what remains, and returns the summary.
    fn executed(&self) -> Vec<Line> {
        // The locks come first: nothing changes between reading and writing.
        let (history, mut change) = (History::open(), Change::open());
        let installation = Installation::now();
        let Installation { state, own, contract } = &installation;
        let is_replaced = !is_shipped(state, own);
        if is_replaced && !self.replace {
            self.reject_replacing(contract);
        }
        let adopted = self.inferred(&installation);
        let document = serde_json::to_string(&adopted.contract).expect("a contract is JSON");
        readers::check(contract, &adopted.contract);
        history.add(&document, Some(&self.note()));
        readers::apply(&history.own, contract, &adopted.contract);
        let exemptions = self.exempt(&adopted.remaining, &installation, &mut change);
        let place = in_place_of(contract, is_replaced);
        let what = format!("{} is in force, {place}", named(&adopted.contract));
        let mut lines = vec![Line::new("contract", what)];
        lines.extend(self.summary(&adopted));
        lines.extend(approvals(&adopted.contract));
        lines.push(Line::new("next", next(&adopted.contract)));
        if exemptions.is_some() {
            lines.push(Line::new("fixes", FIXES));
        }
        lines.push(Line::new("undo", "SELECT * FROM ops.rollback_contract();"));
        lines.extend(exemptions.map(|(first, last)| {
            let undo =
                format!("SELECT ops.unexempt(id => n) FROM generate_series({first}, {last}) AS n;");
            Line::new("undo", undo)
        }));
        lines
    }

    fn inferred(&self, installation: &Installation) -> Adopted {
        let Installation { state, own, .. } = installation;
        with_inferred(installation, self.schemas.clone(), self.mode, |cx, inferred| {
            reject_without_objects(self.schemas.as_deref().unwrap_or_default(), cx.snapshot);
            let mut contract = inferred.contract;
            if let Some(name) = &self.name {
                contract.name.clone_from(name);
            }
            // Another role cannot grant what a deployer needs.
            if readers::is_superuser() {
                name_deployers(cx, &mut contract);
            }
            progress::step("validating the contract");
            valid(&serde_json::to_string(&contract).expect("a contract is JSON"));
            progress::step("applying the rules");
            let to_confirm = roles_to_confirm(cx, self.mode);
            audit::with_unexempt(&contract.clone(), state, own, |cx, found| Adopted {
                contract,
                left_out: inferred.left_out,
                could_be_clients: CouldBeClient::among(cx, &to_confirm),
                to_confirm,
                infos: found.iter().filter(|f| f.severity == Severity::Info).count(),
                opened: opened_by_default(cx),
                remaining: remaining(cx, found),
            })
        })
    }

    fn summary(&self, adopted: &Adopted) -> Vec<Line> {
        let expires_in = self.expires_in.as_deref();
        let Adopted { contract, left_out, to_confirm, could_be_clients, remaining, opened, infos } =
            adopted;
        Adoption {
            contract,
            left_out,
            to_confirm,
            could_be_clients,
            remaining,
            opened,
            infos: *infos,
            expires_in,
        }
        .lines()
    }

    /// Exempts each finding, except those that have to be fixed. Returns the ids of the first and
    /// the last exemption, if there are any.
    fn exempt(
        &self,
        remaining: &[Remaining],
        installation: &Installation,
        change: &mut Change,
    ) -> Option<(i32, i32)> {
        progress::step("storing exemptions");
        progress::parts(remaining.iter().filter(|of| of.can_be_exempt).count());
        let hashes = Current::none(&installation.state);
        let mut ids: Option<(i32, i32)> = None;
        for Remaining { finding, reason, .. } in remaining.iter().filter(|of| of.can_be_exempt) {
            interrupts();
            progress::part_done();
            let accepted = Accepted::now(finding, &|object| hashes.object_hash(object));
            let id = change.add(&New {
                fingerprint: Some(&finding.fingerprint),
                rule: finding.rule.id,
                object: &finding.object.identity,
                role: None,
                reason: self.reason.as_ref().unwrap_or(reason),
                expires_at: self.expires_at,
                accepted: &BTreeMap::from([(finding.fingerprint.clone(), accepted)]),
            });
            ids = Some((ids.map_or(id, |(first, _)| first), id));
        }
        ids
    }

    /// Returns the note of the contract in the history.
    fn note(&self) -> String {
        match &self.reason {
            Some(reason) => format!("Adopted, mode {}: {reason}", self.mode.as_str()),
            None => format!("Adopted, mode {}", self.mode.as_str()),
        }
    }

    /// Returns the call that executes what a dry run has shown.
    fn call(&self, replace: bool) -> String {
        let mut arguments = Vec::new();
        if let Some(schemas) = &self.schemas {
            let names: Vec<String> = schemas.iter().map(|name| quote_literal(name)).collect();
            arguments.push(format!("ARRAY[{}]", names.join(", ")));
        }
        if self.mode != Mode::AsIs {
            arguments.push(format!("mode => {}", quote_literal(self.mode.as_str())));
        }
        for (argument, text) in [("name", &self.name), ("reason", &self.reason)] {
            arguments
                .extend(text.as_ref().map(|text| format!("{argument} => {}", quote_literal(text))));
        }
        match self.expires_in.as_deref() {
            Some(DEFAULT_EXPIRY) => {}
            Some(interval) => arguments.push(format!("expires_in => {}", quote_literal(interval))),
            None => arguments.push("expires_in => NULL".to_owned()),
        }
        arguments.push("dry_run => false".to_owned());
        if replace {
            arguments.push("replace => true".to_owned());
        }
        format!("SELECT * FROM ops.adopt({});", arguments.join(", "))
    }

    fn reject_replacing(&self, contract: &Contract) -> ! {
        Report {
            message: format!("{} is already in force", named(contract)),
            detail: "A contract that is inferred now declares what exists now, and would replace \
                     it."
            .into(),
            hint: format!(
                "To allow a single change, run ops.declare(). To replace it: {}",
                self.call(true)
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
    }
}

/// Lists what was exempted, with the SQL that fixes it.
const FIXES: &str =
    "SELECT rule, object, role_name, fix FROM ops.audit_security(include_exempted => true);";

/// The default of `expires_in` as the server writes it with the default `IntervalStyle`.
const DEFAULT_EXPIRY: &str = "90 days";

/// Returns what to do after a contract came into force.
fn next(contract: &Contract) -> String {
    let state = State::now();
    let left = audit::findings_under(contract, &state, &catalog::find_own(&state));
    match left.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => "SELECT ops.assert_security();".to_owned(),
        1 => "1 error has to be fixed: SELECT * FROM ops.audit_security();".to_owned(),
        n => format!("{n} errors have to be fixed: SELECT * FROM ops.audit_security();"),
    }
}

/// Returns who may read the audits: the readers and deployers that exist.
fn audits(contract: &Contract) -> Line {
    let base = catalog::base(&State::now()).complete();
    let reads = |name: &&str| base.role_named(name).is_some_and(|role| !role.superuser);
    may_audit(&contract.ops_roles().into_keys().filter(reads).collect::<Vec<_>>())
}

/// Returns who may approve what the guard will reject, and the grant that deployers lack for it.
fn approvals(contract: &Contract) -> Vec<Line> {
    let (able, others) = permission::approvers(&State::now(), &contract.deployers());
    let grants = others.iter().map(|name| permission::approval_grant(name));
    approval(&able, &grants.collect::<Vec<_>>())
}

/// An inferred contract, and what remains under it.
struct Adopted {
    contract: Contract,
    left_out: Vec<LeftOut>,
    to_confirm: Vec<ToConfirm>,
    could_be_clients: Vec<CouldBeClient>,
    remaining: Vec<Remaining>,
    opened: Vec<String>,
    infos: usize,
}

/// Returns name and version of a contract.
fn named(contract: &Contract) -> String {
    format!("contract {} {}", printable(&contract.name), contract.version)
}

/// Returns which contract another one replaces.
fn in_place_of(contract: &Contract, is_own: bool) -> String {
    if is_own {
        format!("in place of {}", named(contract))
    } else {
        "in place of the one that the extension ships".to_owned()
    }
}

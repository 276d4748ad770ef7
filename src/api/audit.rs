//! The SQL functions of the audit: the findings as rows or as one error, and the list of rules.

use super::argument;
use crate::audit::{self, Filter, Fixes, with_context};
use crate::catalog::{self, Own};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::commit;
use crate::pg::heap::State;
use crate::pg::report::{Report, unknown_argument};
use crate::settings::{self, Preload};
use crate::store::Installation;
use dragonfly_core::catalog::Routine;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation::Orientation;
use dragonfly_core::report::NarrowFinding;
use dragonfly_core::rule::Area;
use dragonfly_core::rules::RULES;
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::search_path::Verdict;
use dragonfly_core::sql::{listed, printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Returns the columns of a finding under a contract, as every audit returns them.
pub fn row(finding: Finding, contract: &Contract) -> Vec<Value> {
    let role = finding.role().map(str::to_owned);
    vec![
        Value::Text(finding.rule.id.into()),
        Value::Text(finding.severity.as_str().into()),
        Value::Text(finding.object.object_type.into()),
        Value::name(finding.object.schema),
        Value::Text(finding.object.identity),
        Value::name(role),
        Value::Text(finding.detail),
        Value::Json(finding.evidence),
        Value::text(finding.fix.sql()),
        Value::text(contract.section(finding.rule.id)),
        Value::Text(finding.fingerprint),
    ]
}

/// Reads the arguments `rules`, `schemas` and `min_severity`, of which NULL means all, and
/// `include_exempted`; `first` is the position of the first.
pub fn filter(call: Call, first: usize) -> Filter {
    let exempted = argument::flag(call, first + 3, "include_exempted");
    Filter { exempted, ..wanted(call, first) }
}

/// Reads the arguments `rules`, `schemas` and `min_severity`, of which NULL means all; `first` is
/// the position of the first.
pub fn wanted(call: Call, first: usize) -> Filter {
    let min_severity = argument::optional_text(call, first + 2, "min_severity");
    let min_severity = min_severity.map_or(Severity::Info, |word| severity(&word));
    let rules = argument::texts(call, first, "rules");
    let schemas = argument::names(call, first + 1, "schemas");
    Filter { min_severity, ..audit::filter_about(rules, schemas) }
}

/// Reads a severity. Raises an error that lists the severities where `word` is none.
fn severity(word: &str) -> Severity {
    let known = Severity::ALL.map(Severity::as_str);
    word.parse().unwrap_or_else(|_| unknown_argument("severity", word, &known))
}

/// Lists findings for a message, each on a line and at most `limit` of them.
pub fn lines<'f>(findings: impl ExactSizeIterator<Item = &'f Finding>, limit: usize) -> String {
    let more = findings.len().saturating_sub(limit);
    let mut lines: Vec<String> = findings
        .take(limit)
        .map(|f| format!("{} {}: {}", f.severity.as_str(), f.rule.id, f.detail))
        .collect();
    if more > 0 {
        lines.push(format!("... and {more} more."));
    }
    lines.join("\n")
}

fn rows(call: Call, filter: &Filter) -> pg_sys::Datum {
    let Installation { contract, .. } = Installation::now();
    let found = audit::findings(filter, Fixes::OfPlan);
    call.table(found.into_iter().map(|finding| row(finding, &contract)))
}

sql_function!(
    /// `ops.audit_security(rules text[] DEFAULT NULL, schemas name[] DEFAULT NULL,
    /// min_severity text DEFAULT NULL, include_exempted bool DEFAULT false)
    /// RETURNS TABLE (rule text, severity text, object_type text,
    /// schema_name name, object text, role_name name, detail text, evidence jsonb, fix text,
    /// contract_section text, fingerprint text)`
    ops_audit_security => audit_security
);
fn audit_security(call: Call) -> pg_sys::Datum {
    rows(call, &filter(call, 0))
}

sql_function!(
    /// `ops.findings(min_severity text DEFAULT 'warning') RETURNS TABLE (severity text,
    /// object text, finding text)`
    ops_findings => narrow_findings
);
fn narrow_findings(call: Call) -> pg_sys::Datum {
    let min_severity = severity(&argument::text(call, 0, "min_severity"));
    let found = audit::findings(&Filter::new(RULES.to_vec(), min_severity), Fixes::OfRules);
    call.table(found.iter().map(|finding| {
        let NarrowFinding { object, finding: sentence } = NarrowFinding::of(finding);
        vec![
            Value::Text(finding.severity.as_str().into()),
            Value::Text(object),
            Value::Text(sentence),
        ]
    }))
}

/// Declares the audits of one area each. They have the columns of `ops.audit_security()`.
macro_rules! area_audits {
    ($($(#[$doc:meta])* $symbol:ident => $body:ident, $area:ident;)*) => {$(
        sql_function!($(#[$doc])* $symbol => $body);
        fn $body(call: Call) -> pg_sys::Datum {
            rows(call, &Filter::area(Area::$area))
        }
    )*};
}

area_audits! {
    /// `ops.audit_roles()`, which returns the findings of area `roles`.
    ops_audit_roles => audit_roles, Roles;
    /// `ops.audit_objects()`, which returns the findings of area `objects`.
    ops_audit_objects => audit_objects, Objects;
    /// `ops.audit_grants()`, which returns the findings of area `grants`.
    ops_audit_grants => audit_grants, Grants;
    /// `ops.audit_views()`, which returns the findings of area `views`.
    ops_audit_views => audit_views, Views;
    /// `ops.audit_functions()`, which returns the findings of area `functions`.
    ops_audit_functions => audit_functions, Functions;
    /// `ops.audit_rls()`, which returns the findings of area `rls`.
    ops_audit_rls => audit_rls, Rls;
    /// `ops.audit_policies()`, which returns the findings of area `policies`.
    ops_audit_policies => audit_policies, Policies;
    /// `ops.audit_guard()`, which returns the findings of area `guard`.
    ops_audit_guard => audit_guard, Guard;
}

/// The number of findings that an error lists.
const SHOWN: usize = 20;

sql_function!(
    /// `ops.assert_security(min_severity text DEFAULT 'error') RETURNS void`
    ops_assert_security => assert_security
);
fn assert_security(call: Call) -> pg_sys::Datum {
    let min_severity = severity(&argument::text(call, 0, "min_severity"));
    reject_empty_contract();
    let found = audit::findings(&Filter::new(RULES.to_vec(), min_severity), Fixes::OfRules);
    if !found.is_empty() {
        let (findings, them) =
            if found.len() == 1 { ("finding", "it") } else { ("findings", "them") };
        let list = format!(
            "SELECT * FROM ops.audit_security(min_severity => '{}') lists {them} with the SQL that \
             fixes {them}.",
            min_severity.as_str()
        );
        let is_led = found.iter().any(Orientation::stands_for);
        let orientation = is_led.then(audit::orientation).flatten().map(|it| it.hint());
        Report {
            message: format!(
                "database does not conform to its security contract: {} {findings}",
                found.len()
            ),
            detail: lines(found.iter(), SHOWN),
            hint: orientation.into_iter().chain([list]).collect::<Vec<_>>().join("\n"),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE);
    }
    pg_sys::Datum::null()
}

/// Raises an error where no schema that the contract governs exists: the absence of findings would
/// mean nothing.
fn reject_empty_contract() {
    let Installation { state, contract, .. } = Installation::now();
    let base = catalog::base(&state).complete();
    if contract.schemas.iter().all(|schema| base.schema_named(&schema.name).is_none()) {
        Report {
            message: "no schema that the security contract governs exists".into(),
            detail: format!(
                "Contract \"{}\" {} is in force.",
                printable(&contract.name),
                contract.version
            ),
            hint: "SELECT ops.infer_contract() returns a contract that describes this database."
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
    }
}

sql_function!(
    /// `ops.security_rules() RETURNS TABLE (rule text, title text, area text, severity text,
    /// guard text, sqlstate text, contract_section text, checks text, why text, fix text,
    /// exempt text, see_also text[])`
    ops_security_rules => security_rules
);
fn security_rules(call: Call) -> pg_sys::Datum {
    let Installation { contract, .. } = Installation::now();
    call.table(RULES.iter().map(|rule| {
        let severity = rule.severity_in(&contract);
        let guard = rule.action(&contract);
        vec![
            Value::Text(rule.id.into()),
            Value::Text(rule.title.into()),
            Value::Text(rule.area.as_str().into()),
            Value::Text(severity.as_str().into()),
            Value::Text(guard.as_str().into()),
            Value::Text(rule.sqlstate.code().into()),
            Value::text(contract.section(rule.id)),
            Value::Text(rule.checks.into()),
            Value::Text(rule.why.into()),
            Value::Text(rule.fix.into()),
            Value::Text(rule.exempt.into()),
            Value::Texts(rule.references.iter().map(|r| (*r).to_owned()).collect()),
        ]
    }))
}

sql_function!(
    /// `dragonfly_guard.announce() RETURNS void`: what CREATE EXTENSION says about the database. A
    /// NOTICE where the contract does not describe it, a NOTICE where hardened mode is off, and a
    /// WARNING about existing SECURITY DEFINER routines.
    guard_announce => announce
);
fn announce(_: Call) -> pg_sys::Datum {
    // While the script of an extension runs, the server suppresses messages below WARNING. When the
    // transaction commits, a migration may also have created what the contract declares.
    commit::before_commit(introduce);
    announce_definers();
    pg_sys::Datum::null()
}

/// Says what CREATE EXTENSION has installed: whether the contract describes the database, and
/// whether hardened mode is on. Says nothing in a session that restores a dump, which loads its own
/// contract later.
fn introduce() {
    if settings::is_restoring_a_dump() || !Own::is_there(&State::now()) {
        return;
    }
    with_context(|cx| {
        if let Some(orientation) = Orientation::of(cx) {
            Report {
                message: orientation.message(),
                detail: orientation.detail(),
                hint: orientation.hint(),
            }
            .notice();
        }
        if settings::preload() == Preload::No {
            hardened_mode_is_off(&cx.snapshot.database.name);
        }
    });
}

/// Says that hardened mode is off, and how to turn it on.
fn hardened_mode_is_off(database: &str) {
    Report {
        message: "hardened mode is off: statements that fire no event trigger are not checked"
            .into(),
        detail: String::new(),
        hint: format!(
            "Add dragonfly_guard to shared_preload_libraries and restart the server; or, for new \
             sessions of this database: ALTER DATABASE {} SET session_preload_libraries = \
             'dragonfly_guard';",
            safe_ident(database)
        ),
    }
    .notice();
}

/// Warns about existing SECURITY DEFINER routines without a safe search_path.
fn announce_definers() {
    let names: Vec<String> = with_context(|cx| {
        let unsafe_path = |r: &&Routine| {
            cx.routine_managed_by(r).is_none()
                && definer_path::assess(cx, r).is_some_and(|j| j.verdict != Verdict::Safe)
        };
        cx.snapshot
            .routines
            .iter()
            .filter(unsafe_path)
            .map(|r| cx.snapshot.routine_message(r))
            .collect()
    });
    if names.is_empty() {
        return;
    }
    let message = match names.len() {
        1 => "1 existing SECURITY DEFINER routine has no safe search_path".to_owned(),
        n => format!("{n} existing SECURITY DEFINER routines have no safe search_path"),
    };
    let mut shown: Vec<String> = names.iter().take(3).cloned().collect();
    if names.len() > shown.len() {
        let others = names.len() - shown.len();
        shown.push(format!("{others} {}", if others == 1 { "other" } else { "others" }));
    }
    Report {
        message,
        detail: format!(
            "{}. Existing routines are not changed; the guard rejects new ones.",
            listed(&shown)
        ),
        hint: "SELECT * FROM ops.audit_security() lists all findings with the SQL that fixes them."
            .into(),
    }
    .warning(PgSqlErrorCode::ERRCODE_WARNING);
}

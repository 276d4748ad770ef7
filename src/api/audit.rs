//! The SQL functions of the audit: findings as rows, as one error, as a catalogue of rules.

use crate::audit::{self, Filter, with_context};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::report::{Report, unknown_argument};
use crate::store::Installation;
use dragonfly_core::catalog::Routine;
use dragonfly_core::contract::Severity;
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::Area;
use dragonfly_core::rules::RULES;
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::search_path::Verdict;
use dragonfly_core::sql::listed;
use pgrx::{PgSqlErrorCode, pg_sys};

/// A finding as the audits show it.
pub fn row(finding: Finding) -> Vec<Value> {
    vec![
        Value::Text(finding.rule.id.into()),
        Value::Text(finding.severity.as_str().into()),
        Value::Text(finding.object.object_type.into()),
        Value::name(finding.object.schema),
        Value::Text(finding.object.identity),
        Value::name(finding.role),
        Value::Text(finding.detail),
        Value::Json(finding.evidence),
        Value::text(finding.fix.sql()),
        Value::Text(finding.rule.section.into()),
        Value::Text(finding.fingerprint),
    ]
}

/// The arguments `rules`, `schemas`, `min_severity`, each NULL for all, and `include_exempted`.
fn filter(call: Call) -> Filter {
    let min_severity = severity(call.text(2)).unwrap_or(Severity::Info);
    let exempted = call.bool(3).unwrap_or(false);
    Filter { exempted, min_severity, ..Filter::about(call.texts(0), call.names(1)) }
}

/// A severity by its word; an error lists the words.
fn severity(word: Option<String>) -> Option<Severity> {
    let known = Severity::ALL.map(Severity::as_str);
    word.map(|word| word.parse().unwrap_or_else(|_| unknown_argument("severity", &word, &known)))
}

fn rows(call: Call, filter: &Filter) -> pg_sys::Datum {
    call.table(audit::findings(filter).into_iter().map(row))
}

sql_function!(
    /// `ops.audit_security(rules text[], schemas name[], min_severity text, include_exempted boolean)`
    ops_audit_security => audit_security
);
fn audit_security(call: Call) -> pg_sys::Datum {
    rows(call, &filter(call))
}

/// Declares the audit of one area.
macro_rules! area_audits {
    ($($(#[$doc:meta])* $symbol:ident => $body:ident, $area:ident;)*) => {$(
        sql_function!($(#[$doc])* $symbol => $body);
        fn $body(call: Call) -> pg_sys::Datum {
            rows(call, &Filter::area(Area::$area))
        }
    )*};
}

area_audits! {
    /// `ops.audit_roles()`
    ops_audit_roles => audit_roles, Roles;
    /// `ops.audit_objects()`
    ops_audit_objects => audit_objects, Objects;
    /// `ops.audit_grants()`
    ops_audit_grants => audit_grants, Grants;
    /// `ops.audit_views()`
    ops_audit_views => audit_views, Views;
    /// `ops.audit_functions()`
    ops_audit_functions => audit_functions, Functions;
    /// `ops.audit_rls()`
    ops_audit_rls => audit_rls, Rls;
    /// `ops.audit_guard()`
    ops_audit_guard => audit_guard, Guard;
}

/// How many findings an error repeats.
const SHOWN: usize = 20;

sql_function!(
    /// `ops.assert_security(min_severity text)`
    ops_assert_security => assert_security
);
fn assert_security(call: Call) -> pg_sys::Datum {
    let min_severity = severity(call.text(0)).unwrap_or(Severity::Error);
    let found = audit::findings(&Filter::new(RULES.to_vec(), min_severity));
    if !found.is_empty() {
        let mut lines: Vec<String> = found
            .iter()
            .take(SHOWN)
            .map(|f| format!("{} {}: {}", f.severity.as_str(), f.rule.id, f.detail))
            .collect();
        if found.len() > SHOWN {
            lines.push(format!("... and {} more.", found.len() - SHOWN));
        }
        let (ways, severity) =
            (if found.len() == 1 { "way" } else { "ways" }, min_severity.as_str());
        Report {
            message: format!("the database differs from its security contract in {} {ways}", found.len()),
            detail: lines.join("\n"),
            hint: format!(
                "SELECT * FROM ops.audit_security(min_severity => '{severity}') lists them with the SQL that mends them."
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_ASSERT_FAILURE);
    }
    pg_sys::Datum::null()
}

sql_function!(
    /// `ops.security_rules()`
    ops_security_rules => security_rules
);
fn security_rules(call: Call) -> pg_sys::Datum {
    let Installation { contract, .. } = Installation::now();
    call.table(RULES.iter().map(|rule| {
        let declared = contract.rules.get(rule.id);
        let severity = declared.and_then(|d| d.severity).unwrap_or(rule.severity);
        let guard = declared.and_then(|d| d.guard).unwrap_or(rule.guard);
        vec![
            Value::Text(rule.id.into()),
            Value::Text(rule.title.into()),
            Value::Text(rule.area.as_str().into()),
            Value::Text(severity.as_str().into()),
            Value::Text(guard.as_str().into()),
            Value::Text(rule.sqlstate.code().into()),
            Value::Text(rule.section.into()),
            Value::Text(rule.checks.into()),
            Value::Text(rule.why.into()),
            Value::Text(rule.fix.into()),
            Value::Text(rule.exempt.into()),
            Value::Texts(rule.references.iter().map(|r| (*r).to_owned()).collect()),
        ]
    }))
}

sql_function!(
    /// `dragonfly_guard.announce()`: what CREATE EXTENSION finds in a database that was there
    /// before it, as one WARNING.
    guard_announce => announce
);
fn announce(_: Call) -> pg_sys::Datum {
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
        return pg_sys::Datum::null();
    }
    let message = match names.len() {
        1 => "1 SECURITY DEFINER routine that is here already has no safe search_path".to_owned(),
        n => {
            format!("{n} SECURITY DEFINER routines that are here already have no safe search_path")
        }
    };
    let mut shown: Vec<String> = names.iter().take(3).cloned().collect();
    if names.len() > shown.len() {
        shown.push(format!("{} others", names.len() - shown.len()));
    }
    Report {
        message,
        detail: format!(
            "{}. What is here stays as it is; the guard refuses new ones.",
            listed(&shown)
        ),
        hint: "SELECT * FROM ops.audit_security() lists everything, with the SQL that mends it."
            .into(),
    }
    .warning(PgSqlErrorCode::ERRCODE_WARNING);
    pg_sys::Datum::null()
}

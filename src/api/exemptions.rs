//! `ops.exempt()`, `ops.unexempt()`, and `ops.exemptions()`, behind `ops.v_exemptions`: each with
//! what it hides today.

use super::permission;
use crate::audit;
use crate::catalog::Own;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::clock;
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{Report, unknown_argument};
use crate::pg::text::timestamp;
use crate::store::contract;
use crate::store::exemptions::{self, Change, Current, New, Record};
use dragonfly_core::exemptions::{Accepted, Exemption, Status};
use dragonfly_core::finding::Finding;
use dragonfly_core::rules::{self, RULES};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::json;
use std::collections::BTreeMap;

sql_function!(
    /// `ops.exempt(fingerprint text, reason text, expires_at timestamptz, rule text, object text)
    /// RETURNS integer`
    ops_exempt => exempt
);
fn exempt(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let reason = call.text(1).filter(|reason| !reason.trim().is_empty());
    let Some(reason) = reason else {
        refuse(
            "an exemption needs a reason",
            "",
            "Say who decided it, and why: ops.exempt('...', reason => 'ticket 4711: ...').",
        )
    };
    let expires_at = call.timestamp(2);
    if let Some(at) = expires_at
        && at <= clock::now()
    {
        refuse(
            "an exemption cannot have expired already",
            &format!("It would end at {}.", timestamp(at)),
            "",
        )
    }
    let wanted = Wanted::of(call);
    let change = Change::open();
    let (own, state) = (&change.own, &change.state);
    let findings = audit::findings_with_exempt(&contract::in_force(state, own), state, own);
    let (rule, object, found) = wanted.look_for(&findings);
    let hashes = Current::none(state);
    let hash = |object| hashes.object_hash(object);
    let says_so = |r: &&Record| {
        r.withdrawn.is_none()
            && !r.exemption.is_expired
            && r.exemption.fingerprint == wanted.fingerprint
            && (&r.exemption.rule, &r.exemption.object) == (&rule, &object)
            && found.iter().all(|f| r.exemption.status(f, &hash) == Status::Active)
    };
    if let Some(same) = change.records.iter().find(says_so) {
        let hint = format!(
            "To say something else, SELECT ops.unexempt(id => {}) first.",
            same.exemption.id
        );
        refuse(&format!("it is exempt already, by exemption {}", same.exemption.id), "", &hint)
    }
    let accepted: BTreeMap<&str, Accepted> =
        found.iter().map(|f| (f.fingerprint.as_str(), Accepted::now(f, &hash))).collect();
    let id = change.add(&New {
        fingerprint: wanted.fingerprint.as_deref(),
        rule: &rule,
        object: &object,
        reason: &reason,
        expires_at,
        accepted: &accepted,
    });
    let until = expires_at.map(|at| format!(" until {}", timestamp(at))).unwrap_or_default();
    let count =
        if found.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", found.len()) };
    Report { message: format!("exemption {id} hides {count}{until}"), ..Report::default() }
        .notice();
    pg_sys::Datum::from(id)
}

/// What is to be accepted: one finding, or a rule for objects of some names.
struct Wanted {
    fingerprint: Option<String>,
    pattern: Option<(String, String)>,
}

impl Wanted {
    /// The arguments.
    fn of(call: Call) -> Self {
        let hint = "One finding: ops.exempt('<fingerprint>', 'why'). Several: ops.exempt(rule => '...', object => 'public.*', reason => 'why').";
        match (call.text(0), call.text(3), call.text(4)) {
            (Some(fingerprint), None, None) => {
                Self { fingerprint: Some(fingerprint), pattern: None }
            }
            (None, Some(rule), Some(object)) => {
                let Some(known) = rules::find(&rule) else {
                    unknown_argument("rule", &rule, &RULES.map(|r| r.id))
                };
                if !known.exempt_by_pattern {
                    refuse(
                        "what touches the guard itself is exempt one by one",
                        "",
                        "Give the fingerprint of the finding.",
                    )
                }
                if object.is_empty() || object.len() > 1000 {
                    refuse("a pattern has 1 to 1000 bytes", "", hint)
                }
                Self { fingerprint: None, pattern: Some((rule, object)) }
            }
            _ => refuse("an exemption is about one finding, or about a rule and objects", "", hint),
        }
    }

    /// Rule, object or pattern, and the findings of today that it is about. An error for a finding
    /// that there is none of: nobody knows what would be accepted.
    fn look_for<'f>(&self, findings: &'f [Finding]) -> (String, String, Vec<&'f Finding>) {
        if let Some((rule, object)) = &self.pattern {
            let pattern =
                Exemption { rule: rule.clone(), object: object.clone(), ..Exemption::default() };
            return (
                rule.clone(),
                object.clone(),
                findings.iter().filter(|f| pattern.is_about(f)).collect(),
            );
        }
        let fingerprint = self.fingerprint.as_deref().unwrap_or_default();
        let Some(found) = findings.iter().find(|f| f.fingerprint == fingerprint) else {
            let message =
                format!("there is no finding with the fingerprint \"{}\"", printable(fingerprint));
            refuse(
                &message,
                "",
                "SELECT rule, object, fingerprint FROM ops.audit_security() shows those of today.",
            )
        };
        (found.rule.id.to_owned(), found.object.identity.clone(), vec![found])
    }
}

sql_function!(
    /// `ops.unexempt(fingerprint text, id integer) RETURNS integer`
    ops_unexempt => unexempt
);
fn unexempt(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let (fingerprint, id) = (call.text(0), call.int(1));
    if fingerprint.is_some() == id.is_some() {
        let hint = "SELECT * FROM ops.v_exemptions shows them.";
        refuse("an exemption is taken back by its fingerprint or by its id", "", hint)
    }
    let change = Change::open();
    let meant = |r: &&Record| match id {
        Some(id) => r.exemption.id == id,
        None => r.exemption.fingerprint == fingerprint,
    };
    let ids: Vec<i32> = change
        .records
        .iter()
        .filter(|r| r.withdrawn.is_none())
        .filter(meant)
        .map(|r| r.exemption.id)
        .collect();
    if ids.is_empty() {
        refuse("there is no such exemption", "", "SELECT * FROM ops.v_exemptions shows them.")
    }
    ids.iter().for_each(|id| change.withdraw(*id));
    pg_sys::Datum::from(ids.len() as i32)
}

fn refuse(message: &str, detail: &str, hint: &str) -> ! {
    Report { message: message.into(), detail: detail.into(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

sql_function!(
    /// `dragonfly_guard.exemptions()`
    guard_exemptions => all
);
fn all(call: Call) -> pg_sys::Datum {
    let state = State::now();
    let own = Own::find(&state);
    let records = exemptions::all(&state, &own);
    let findings = if records.is_empty() {
        vec![]
    } else {
        audit::findings_with_exempt(&contract::in_force(&state, &own), &state, &own)
    };
    let hashes = Current::none(&state);
    call.table(records.iter().map(|record| row(&hashes, record, &findings)))
}

fn row(hashes: &Current<'_>, record: &Record, findings: &[Finding]) -> Vec<Value> {
    interrupts();
    let Record { exemption, exempted_at, expires_at, withdrawn } = record;
    let about: Vec<(&Finding, Status)> = findings
        .iter()
        .filter(|f| exemption.is_about(f))
        .map(|f| (f, exemption.status(f, &|object| hashes.object_hash(object))))
        .collect();
    let hidden: Vec<serde_json::Value> = about
        .iter()
        .filter(|(_, standing)| *standing == Status::Active && withdrawn.is_none())
        .map(|(f, _)| {
            json!({"severity": f.severity.as_str(), "object": f.object.identity, "role": f.role, "detail": f.detail, "fingerprint": f.fingerprint})
        })
        .collect();
    let status = match withdrawn {
        Some(_) => "withdrawn",
        None if exemption.is_expired => Status::Expired.as_str(),
        None if hidden.is_empty() && !about.is_empty() => Status::Changed.as_str(),
        None => Status::Active.as_str(),
    };
    vec![
        Value::Int4(exemption.id),
        Value::Text(status.into()),
        Value::Text(exemption.rule.clone()),
        Value::Text(exemption.object.clone()),
        Value::text(exemption.fingerprint.clone()),
        Value::Text(exemption.reason.clone()),
        Value::Name(exemption.exempted_by.clone()),
        Value::Timestamp(*exempted_at),
        expires_at.map_or(Value::Null, Value::Timestamp),
        Value::Int(hidden.len() as i64),
        Value::Json(hidden.into()),
        withdrawn.as_ref().map_or(Value::Null, |(at, _)| Value::Timestamp(*at)),
        Value::name(withdrawn.as_ref().map(|(_, by)| by.clone())),
    ]
}

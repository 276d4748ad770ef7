//! `ops.exempt()` and `ops.unexempt()`.

use super::permission;
use crate::audit;
use crate::catalog::{Look, Own};
use crate::pg::call::{Call, json_datum, sql_function};
use crate::pg::heap::State;
use crate::pg::report::{Report, unknown_argument};
use crate::pg::text::timestamp;
use crate::pg::write::{as_owner, next_id, text_datum};
use crate::store::contract;
use crate::store::exemptions::{Current, Record, Records};
use dragonfly_core::exemptions::{Accepted, Exemption, Exemptions, Standing};
use dragonfly_core::findings::Finding;
use dragonfly_core::rules::{self, RULES, guard_tampered};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::BTreeMap;

sql_function!(
    /// `ops.exempt(fingerprint text, reason text, expires_at timestamptz, rule text, object text) RETURNS integer`
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
        // SAFETY: asks the clock.
        && at <= unsafe { pg_sys::GetCurrentTimestamp() }
    {
        refuse("an exemption cannot have expired already", &format!("It would end at {}.", timestamp(at)), "")
    }
    let wanted = Wanted::of(call);
    let (own, state, records) = changing();
    let findings = audit::findings_with_accepted(&contract::in_force(&state, &own), &state, &own);
    let (rule, object, found) = wanted.look_for(&findings);
    let looking = Current::of(Exemptions::default(), &state, Look::Afresh);
    let basis = |object| looking.basis(object);
    let says_so = |r: &&Record| {
        r.withdrawn.is_none()
            && !r.exemption.is_expired
            && r.exemption.fingerprint == wanted.fingerprint
            && (&r.exemption.rule, &r.exemption.object) == (&rule, &object)
            && found.iter().all(|f| r.exemption.standing(f, &basis) == Standing::Active)
    };
    if let Some(same) = records.iter().find(says_so) {
        let hint = format!("To say something else, SELECT ops.unexempt(id => {}) first.", same.exemption.id);
        refuse(&format!("it is exempt already, by exemption {}", same.exemption.id), "", &hint)
    }
    let accepted: BTreeMap<&str, Accepted> = found.iter().map(|f| (f.fingerprint.as_str(), Accepted::now(f, &basis))).collect();
    let id = next_id(records.last().map(|r| r.exemption.id));
    let Some(table) = own.exemption_table(&state) else { damaged() };
    as_owner(
        table,
        |table| {
            format!(
                "INSERT INTO {table} (id, fingerprint, rule, object, reason, expires_at, basis) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            )
        },
        &[
            (pg_sys::INT4OID, Some(pg_sys::Datum::from(id))),
            (pg_sys::TEXTOID, wanted.fingerprint.as_deref().map(text_datum)),
            (pg_sys::TEXTOID, Some(text_datum(&rule))),
            (pg_sys::TEXTOID, Some(text_datum(&object))),
            (pg_sys::TEXTOID, Some(text_datum(&reason))),
            (pg_sys::TIMESTAMPTZOID, expires_at.map(pg_sys::Datum::from)),
            (pg_sys::JSONBOID, Some(json_datum(&serde_json::to_value(&accepted).expect("texts are JSON")))),
        ],
    );
    let until = expires_at.map(|at| format!(" until {}", timestamp(at))).unwrap_or_default();
    let count = if found.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", found.len()) };
    Report { message: format!("exemption {id} hides {count}{until}"), ..Report::default() }.notice();
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
            (Some(fingerprint), None, None) => Self { fingerprint: Some(fingerprint), pattern: None },
            (None, Some(rule), Some(object)) => {
                if rules::find(&rule).is_none() {
                    unknown_argument("rule", &rule, &RULES.map(|r| r.id));
                }
                if rule == guard_tampered::RULE.id {
                    refuse("what touches the guard itself is exempt one by one", "", "Give the fingerprint of the finding.")
                }
                if object.is_empty() || object.len() > 1000 {
                    refuse("a pattern has 1 to 1000 bytes", "", hint)
                }
                Self { fingerprint: None, pattern: Some((rule, object)) }
            }
            _ => refuse("an exemption is about one finding, or about a rule and objects", "", hint),
        }
    }

    /// Rule, object or pattern, and the findings of today that it is about. An error for a finding that there is none of: nobody knows what would
    /// be accepted.
    fn look_for<'f>(&self, findings: &'f [Finding]) -> (String, String, Vec<&'f Finding>) {
        if let Some((rule, object)) = &self.pattern {
            let pattern = Exemption { rule: rule.clone(), object: object.clone(), ..Exemption::default() };
            return (rule.clone(), object.clone(), findings.iter().filter(|f| pattern.is_about(f)).collect());
        }
        let fingerprint = self.fingerprint.as_deref().unwrap_or_default();
        let Some(found) = findings.iter().find(|f| f.fingerprint == fingerprint) else {
            let message = format!("there is no finding with the fingerprint \"{}\"", printable(fingerprint));
            refuse(&message, "", "SELECT rule, object, fingerprint FROM ops.audit_security() shows those of today.")
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
    let (own, state, records) = changing();
    let meant = |r: &&Record| match id {
        Some(id) => r.exemption.id == id,
        None => r.exemption.fingerprint == fingerprint,
    };
    let ids: Vec<i32> = records.iter().filter(|r| r.withdrawn.is_none()).filter(meant).map(|r| r.exemption.id).collect();
    if ids.is_empty() {
        refuse("there is no such exemption", "", "SELECT * FROM ops.v_exemptions shows them.")
    }
    let Some(table) = own.exemption_table(&state) else { damaged() };
    for id in &ids {
        as_owner(
            table,
            |table| {
                format!(
                    "UPDATE {table} SET withdrawn_at = pg_catalog.now(), withdrawn_by = SESSION_USER \
                     WHERE id OPERATOR(pg_catalog.=) $1"
                )
            },
            &[(pg_sys::INT4OID, Some(pg_sys::Datum::from(*id)))],
        );
    }
    pg_sys::Datum::from(ids.len() as i32)
}

/// Every exemption so far; nobody else changes one before this transaction ends. An error where somebody has since it began to see a state of its
/// own.
fn changing() -> (Own, State, Vec<Record>) {
    let own = Own::find(&State::now());
    own.change("the exemptions");
    let state = State::now();
    let Some(table) = Records::open(&state, &own) else { damaged() };
    let records = table.read(&state);
    let withdrawn = |records: &[Record]| records.iter().filter(|r| r.withdrawn.is_some()).count();
    let seen = table.read(&State::of_transaction());
    if (seen.len(), withdrawn(&seen)) != (records.len(), withdrawn(&records)) {
        Report {
            message: "could not serialize access: the exemptions have changed since this transaction began".into(),
            detail: String::new(),
            hint: "SELECT * FROM ops.v_exemptions shows how; try again in a new transaction.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE);
    }
    (own, state, records)
}

fn refuse(message: &str, detail: &str, hint: &str) -> ! {
    Report { message: message.into(), detail: detail.into(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

fn damaged() -> ! {
    Report {
        message: "the table dragonfly_guard.exemption has been changed".into(),
        detail: "Nothing is exempt until it is as the extension made it.".into(),
        hint: "SELECT * FROM ops.audit_guard() says what is wrong.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

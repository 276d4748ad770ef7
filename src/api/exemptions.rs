//! `ops.exempt()`, `ops.unexempt()`, and `dragonfly_guard.exemptions()`, which `ops.v_exemptions`
//! shows: each exemption with the findings that it hides now.

use super::{argument, permission};
use crate::audit;
use crate::catalog::{self, Freshness};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::clock;
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{Report, unknown_argument, unknown_rule};
use crate::pg::text::timestamp;
use crate::store::contract;
use crate::store::exemptions::{self, Change, Current, New, Record};
use dragonfly_core::audit::InForce;
use dragonfly_core::exemptions::{
    Accepted, Exemption, Missing, Status, covered_routines, is_about_routines, missing, routine_key,
};
use dragonfly_core::finding::Finding;
use dragonfly_core::orientation;
use dragonfly_core::report::shared_causes;
use dragonfly_core::rule::Rule;
use dragonfly_core::rules::{self, RULES};
use dragonfly_core::sql::{listed, printable};
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::json;
use std::collections::BTreeMap;

sql_function!(
    /// `ops.exempt(fingerprint text DEFAULT NULL, reason text DEFAULT NULL,
    /// expires_at timestamptz DEFAULT NULL, rule text DEFAULT NULL, object text DEFAULT NULL,
    /// role_name name DEFAULT NULL) RETURNS int4`
    ops_exempt => exempt
);
fn exempt(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let reason = call.text(1).filter(|reason| !reason.trim().is_empty());
    let Some(reason) = reason else {
        reject(
            "an exemption requires a reason",
            "",
            "State who decided it and why: ops.exempt('...', reason => 'ticket 4711: ...').",
        )
    };
    let reason = argument::no_gap(reason, "reason");
    let expires_at = call.timestamp(2);
    if let Some(at) = expires_at
        && at <= clock::now()
    {
        reject(
            "expires_at must be in the future",
            &format!("The exemption would have expired at {}.", timestamp(at)),
            "",
        )
    }
    let wanted = Wanted::of(call);
    let mut change = Change::open();
    let (own, state) = (&change.own, &change.state);
    let findings = audit::findings_with_exempt(&contract::in_force(state, own), state, own);
    let Exempted { rule, object, findings: found } = match wanted.look_up(&findings) {
        Some(exempted) => exempted,
        None => wanted.look_up_merged(&change, &findings),
    };
    let hashes = Current::none(state);
    let hash = |object| hashes.object_hash(object);
    let is_same = |r: &&Record| {
        !r.exemption.is_expired
            && r.exemption.fingerprint == wanted.fingerprint
            && (&r.exemption.rule, &r.exemption.object) == (&rule, &object)
            && r.exemption.role == wanted.role
            && found.iter().all(|f| r.exemption.status(f, &hash) == Status::Active)
    };
    if let Some(same) = change.records.iter().find(is_same) {
        let hint =
            format!("To replace it, run SELECT ops.unexempt(id => {}) first.", same.exemption.id);
        reject(&format!("already exempted by exemption {}", same.exemption.id), "", &hint)
    }
    let accepted = |finding: &Finding| {
        if finding.object.identity == object || wanted.fingerprint.is_none() {
            Accepted::now(finding, &hash)
        } else {
            Accepted::member(finding, &hash)
        }
    };
    let mut accepted: BTreeMap<String, Accepted> =
        found.iter().map(|f| (f.fingerprint.clone(), accepted(f))).collect();
    let mut routines = 0;
    if wanted.fingerprint.is_none() {
        let covered = audit::with_context(|cx| covered_routines(cx.snapshot, &rule, &object));
        for (routine, identity) in covered {
            interrupts();
            if let Some(hash) = hash(routine) {
                accepted.insert(routine_key(&identity), Accepted::routine(hash));
                routines += 1;
            }
        }
    }
    let current = Current::read(state, own, Freshness::Fresh);
    let already = found.iter().filter(|finding| current.accept(finding)).count();
    let is_hidden = |finding: &&Finding| finding.rule.id == rule && current.accept(finding);
    let hidden_before = findings.iter().filter(is_hidden).count();
    let is_found = !found.is_empty();
    let id = change.add(&New {
        fingerprint: wanted.fingerprint.as_deref(),
        rule: &rule,
        object: &object,
        role: wanted.role.as_deref(),
        reason: &reason,
        expires_at,
        accepted: &accepted,
    });
    let missing = if is_found {
        None
    } else {
        audit::with_context(|cx| missing(cx.snapshot, &rule, &object))
    };
    let with_it = State::now();
    let hidden_now = Current::read(&with_it, &change.own, Freshness::Fresh);
    let is_hidden = |finding: &&Finding| finding.rule.id == rule && hidden_now.accept(finding);
    let now = findings.iter().filter(is_hidden).count() - hidden_before;
    Hidden { now, already, routines }.report(id, expires_at, [&rule, &object], missing);
    pg_sys::Datum::from(id)
}

/// How many findings a new exemption hides.
struct Hidden {
    /// Those that no other exemption hides.
    now: usize,
    /// Those that another exemption hides already.
    already: usize,
    /// How many routines it covers as they are.
    routines: usize,
}

impl Hidden {
    /// Reports how many findings an exemption hides, until when, and whether its object is missing.
    fn report(
        &self,
        id: i32,
        expires_at: Option<i64>,
        [rule, object]: [&str; 2],
        missing: Option<Missing>,
    ) {
        let until = match expires_at {
            Some(at) => format!(" until {}", timestamp(at)),
            None => " and does not expire".to_owned(),
        };
        let count = match self.now {
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        let detail = match self.already {
            0 if self.now == 0 && self.routines > 0 => {
                "It covers what the rule finds about the routine later, while the routine is as it \
                 is now."
                    .to_owned()
            }
            0 => String::new(),
            1 => "It also covers 1 finding that another exemption hides.".to_owned(),
            n => format!("It also covers {n} findings that other exemptions hide."),
        };
        let message = format!("exemption {id} hides {count}{until}");
        let Some(Missing { meant }) = missing else {
            return Report { message, detail, ..Report::default() }.notice();
        };
        let later = if is_about_routines(rule) {
            "What a routine that is created later executes has not been accepted: the exemption \
             does not apply to it."
        } else {
            "The exemption applies to one that is created later or gets this name."
        };
        let detail = format!("There is no object \"{}\" now. {later}", printable(object));
        let meant = meant.map(|name| format!("Did you mean \"{}\"? ", printable(&name)));
        let hint = format!(
            "{}To withdraw it, run SELECT ops.unexempt(id => {id});",
            meant.unwrap_or_default()
        );
        Report { message, detail, hint }.notice();
    }
}

/// What is to be exempted: one finding, or the findings of a rule on objects with matching names,
/// of one role or of every role.
struct Wanted {
    fingerprint: Option<String>,
    pattern: Option<(String, String)>,
    role: Option<String>,
}

impl Wanted {
    /// Reads the arguments of `ops.exempt()`.
    fn of(call: Call) -> Self {
        let hint = "For one finding: ops.exempt('<fingerprint>', 'reason'). For several: \
                    ops.exempt(rule => '...', object => 'public.*', reason => '...').";
        let text = |i, name| argument::optional_text(call, i, name);
        let role = argument::optional_name(call, 5, "role_name");
        match (text(0, "fingerprint"), text(3, "rule"), text(4, "object")) {
            (Some(fingerprint), None, None) if role.is_none() => {
                Self { fingerprint: Some(fingerprint), pattern: None, role }
            }
            (None, Some(rule), Some(object)) => {
                let Some(known) = rules::find(&rule) else {
                    unknown_rule(&rule, &RULES.map(|r| r.id))
                };
                if !known.exempt_by_pattern {
                    reject(
                        &format!("findings of rule \"{rule}\" cannot be exempted by pattern"),
                        "",
                        "Exempt each finding by its fingerprint.",
                    )
                }
                if object.len() > 1000 {
                    reject("object must be 1 to 1000 bytes long", "", hint)
                }
                let role = role.map(|role| grantee(&role));
                Self { fingerprint: None, pattern: Some((rule, object)), role }
            }
            _ => reject("must specify either fingerprint, or rule and object", "", hint),
        }
    }

    /// Looks up the current findings; `None` where no finding has the fingerprint.
    fn look_up<'f>(&self, findings: &'f [Finding]) -> Option<Exempted<'f>> {
        if let Some((rule, object)) = &self.pattern {
            let pattern = Exemption {
                rule: rule.clone(),
                object: object.clone(),
                role: self.role.clone(),
                ..Exemption::default()
            };
            return Some(Exempted {
                rule: rule.clone(),
                object: object.clone(),
                findings: findings.iter().filter(|f| pattern.is_about(f)).collect(),
            });
        }
        let fingerprint = self.fingerprint.as_deref().unwrap_or_default();
        let found = findings.iter().find(|f| f.fingerprint == fingerprint)?;
        Some(Exempted {
            rule: found.rule.id.to_owned(),
            object: found.object.identity.clone(),
            findings: vec![found],
        })
    }

    /// Looks up the findings with one cause that the audit reports as one: first among those
    /// without an exemption, as the audit does, then among those whose exemption applies no longer,
    /// and last among those that are exempt by this fingerprint. Raises an error where there are
    /// none, because it is unknown what would be exempted.
    fn look_up_merged<'f>(&self, change: &Change, findings: &'f [Finding]) -> Exempted<'f> {
        let Change { own, state, .. } = change;
        let fingerprint = self.fingerprint.as_deref().unwrap_or_default();
        let current = Current::read(state, own, Freshness::Fresh);
        let is_new = |f: &&Finding| current.about(f).is_none();
        let is_ended = |f: &&Finding| !current.accept(f);
        let is_own = |f: &&Finding| {
            let about = current.about(f);
            about.is_some_and(|(exemption, _)| exemption.fingerprint == self.fingerprint)
        };
        let steps: [&dyn Fn(&&Finding) -> bool; 3] = [&is_new, &is_ended, &is_own];
        let found = audit::with_context(|cx| {
            let among = |step: &dyn Fn(&&Finding) -> bool| {
                let findings: Vec<&Finding> = findings.iter().filter(step).collect();
                shared_causes::members(cx, &findings, fingerprint)
                    .or_else(|| orientation::members(cx, &findings, fingerprint))
            };
            steps.into_iter().find_map(among)
        });
        let Some((object, found)) = found else {
            reject(
                &format!("finding with fingerprint \"{}\" does not exist", printable(fingerprint)),
                "",
                "SELECT rule, object, fingerprint FROM ops.audit_security() lists the current \
                 findings.",
            )
        };
        Exempted { rule: found[0].rule.id.to_owned(), object, findings: found }
    }
}

/// Returns the name of a role as findings have it. Raises an error where the role does not exist.
fn grantee(name: &str) -> String {
    const PUBLIC: &str = "PUBLIC";
    // No role can be named public.
    if name.eq_ignore_ascii_case(PUBLIC) {
        return PUBLIC.to_owned();
    }
    let snapshot = catalog::base(&State::now()).complete();
    if snapshot.role_named(name).is_none() {
        let known = snapshot.roles.iter().map(|role| role.name.as_str());
        let known: Vec<&str> = known.filter(|name| !name.starts_with("pg_")).collect();
        unknown_argument("role", name, &known)
    }
    name.to_owned()
}

/// What an exemption covers.
struct Exempted<'f> {
    rule: String,
    /// An identity, or a pattern.
    object: String,
    /// The current findings that it is about.
    findings: Vec<&'f Finding>,
}

sql_function!(
    /// `ops.unexempt(fingerprint text DEFAULT NULL, id int4 DEFAULT NULL) RETURNS int4`
    ops_unexempt => unexempt
);
fn unexempt(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let (fingerprint, id) = (argument::optional_text(call, 0, "fingerprint"), call.int(1));
    if fingerprint.is_some() == id.is_some() {
        reject("must specify either fingerprint or id", "", LIST_HINT)
    }
    let change = Change::open();
    let is_meant = |r: &&Record| match id {
        Some(id) => r.exemption.id == id,
        None => r.exemption.fingerprint == fingerprint,
    };
    let ids: Vec<i32> = change.records.iter().filter(is_meant).map(|r| r.exemption.id).collect();
    if ids.is_empty() {
        reject("exemption does not exist", "", LIST_HINT)
    }
    let back = findings_only_hidden_by(&change, &ids);
    ids.iter().for_each(|id| change.withdraw(*id));
    let which: Vec<String> = ids.iter().map(i32::to_string).collect();
    let (exemptions, are) =
        if ids.len() == 1 { ("exemption", "is") } else { ("exemptions", "are") };
    let count = match back {
        1 => "1 finding is back".to_owned(),
        n => format!("{n} findings are back"),
    };
    let message = format!("{exemptions} {} {are} withdrawn: {count}", listed(&which));
    Report { message, ..Report::default() }.notice();
    pg_sys::Datum::from(ids.len() as i32)
}

/// Returns how many findings no exemption hides but those with these ids.
fn findings_only_hidden_by(change: &Change, ids: &[i32]) -> usize {
    let (own, state) = (&change.own, &change.state);
    let (withdrawn, others): (Vec<&Record>, Vec<&Record>) =
        change.records.iter().partition(|record| ids.contains(&record.exemption.id));
    let rules = withdrawn.iter().filter_map(|record| rules::find(&record.exemption.rule));
    let rules: Vec<&'static Rule> = rules.collect();
    let current = Current::read(state, own, Freshness::Fresh);
    let contract = contract::in_force(state, own);
    let findings = audit::findings_with_exempt_of(&rules, &contract, own, &current, state);
    let hashes = Current::none(state);
    let hides = |record: &&&Record, finding: &Finding| {
        record.exemption.is_about(finding)
            && record.exemption.status(finding, &|object| hashes.object_hash(object))
                == Status::Active
    };
    let is_back = |finding: &&Finding| {
        withdrawn.iter().any(|record| hides(&record, finding))
            && !others.iter().any(|record| hides(&record, finding))
    };
    findings.iter().filter(is_back).count()
}

const LIST_HINT: &str = "SELECT * FROM ops.v_exemptions lists the exemptions.";

fn reject(message: &str, detail: &str, hint: &str) -> ! {
    Report { message: message.into(), detail: detail.into(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

sql_function!(
    /// `dragonfly_guard.exemptions() RETURNS TABLE (id int4, status text, rule text, object text,
    /// role_name name, fingerprint text, reason text, exempted_by name, exempted_at timestamptz,
    /// expires_at timestamptz, finding_count int8, findings jsonb, withdrawn_at timestamptz,
    /// withdrawn_by name)`
    guard_exemptions => all
);
fn all(call: Call) -> pg_sys::Datum {
    let state = State::now();
    let own = catalog::find_own(&state);
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
            json!({
                "severity": f.severity.as_str(),
                "object": f.object.identity,
                "role": f.role(),
                "detail": f.detail,
                "fingerprint": f.fingerprint,
            })
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
        Value::name(exemption.role.clone()),
        Value::text(exemption.fingerprint.clone()),
        Value::Text(exemption.reason.clone()),
        Value::Name(exemption.exempted_by.clone()),
        Value::Timestamp(*exempted_at),
        expires_at.map_or(Value::Null, Value::Timestamp),
        Value::Int(hidden.len() as i64),
        Value::Json(json!(hidden).into()),
        withdrawn.as_ref().map_or(Value::Null, |(at, _)| Value::Timestamp(*at)),
        Value::name(withdrawn.as_ref().map(|(_, by)| by.clone())),
    ]
}

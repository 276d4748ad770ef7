//! The audits: findings as rows, as one error, as a catalogue of rules.

use crate::catalog::{self, Look, Own};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{Report, unknown_argument};
use crate::store::contract;
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Routine, Snapshot};
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::findings::Finding;
use dragonfly_core::rules::{self, Area, Context, RULES, Rule, schema_create, security_definer_search_path as search_path};
use dragonfly_core::search_path::Verdict;
use dragonfly_core::sql::listed;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Reads contract and catalog, and gives both to `judge`.
pub fn with_context<T>(judge: impl FnOnce(&Context<'_>) -> T) -> T {
    let state = State::now();
    let own = Own::find(&state);
    under(&contract::in_force(&state, &own), &state, &own, judge)
}

/// The same under another contract.
fn under<T>(contract: &Contract, state: &State, own: &Own, judge: impl FnOnce(&Context<'_>) -> T) -> T {
    judging(contract, &catalog::whole(state, contract, own), judge)
}

fn judging<T>(contract: &Contract, snapshot: &Snapshot, judge: impl FnOnce(&Context<'_>) -> T) -> T {
    let access = Access::new(snapshot);
    judge(&Context::new(contract, snapshot, &access, &interrupts))
}

/// Everything that differs from the contract in force but for what is exempt, with what was looked at.
pub fn with_findings<T>(judge: impl FnOnce(&Context<'_>, &[Finding], &State) -> T) -> T {
    let state = State::now();
    let own = Own::find(&state);
    under(&contract::in_force(&state, &own), &state, &own, |cx| {
        let found = visible(cx, &RULES, &Current::read(&state, &own, Look::Afresh), false);
        judge(cx, &found, &state)
    })
}

/// Everything in a snapshot that differs from a contract which governs the same schemas.
pub fn findings_in(contract: &Contract, snapshot: &Snapshot) -> Vec<Finding> {
    judging(contract, snapshot, |cx| all(cx, &RULES))
}

/// Everything that differs from a contract, whether it is in force or not, but for what is exempt.
pub fn findings_under(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Look::Afresh);
    under(contract, state, own, |cx| visible(cx, &RULES, &current, false))
}

/// Everything in a snapshot that differs from a contract which governs the same schemas, but for what is exempt.
pub fn visible_in(contract: &Contract, snapshot: &Snapshot, current: &Current<'_>) -> Vec<Finding> {
    judging(contract, snapshot, |cx| visible(cx, &RULES, current, false))
}

/// What some rules find, without what is exempt unless that is asked for.
fn visible(cx: &Context<'_>, rules: &[&'static Rule], current: &Current<'_>, with_accepted: bool) -> Vec<Finding> {
    current.apply(with_consequences(cx, rules, current), with_accepted)
}

/// What some rules find, whether it is exempt or not, and what follows from what is.
fn with_consequences(cx: &Context<'_>, rules: &[&'static Rule], current: &Current<'_>) -> Vec<Finding> {
    let mut found = all(cx, rules);
    // What follows from an open schema is said about the schema; where nobody is to hear of that, it is said about each routine.
    if rules.contains(&&search_path::RULE) && current.mention(&schema_create::RULE) {
        let accepted = cx.run(&schema_create::RULE).into_iter().filter(|finding| current.accept(finding));
        let causes = accepted.filter_map(|finding| Some((finding.object.schema?, finding.role?))).collect();
        found.extend(search_path::following_from(cx, &causes));
        found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    }
    found
}

/// Everything that differs from a contract as it is found, whether it is exempt or not: what can be accepted.
pub fn findings_with_accepted(contract: &Contract, state: &State, own: &Own) -> Vec<Finding> {
    let current = Current::read(state, own, Look::Afresh);
    under(contract, state, own, |cx| with_consequences(cx, &RULES, &current))
}

/// What of an audit is wanted.
pub struct Filter {
    rules: Vec<&'static Rule>,
    schemas: Option<Vec<String>>,
    min_severity: Severity,
    /// With what is exempt.
    exempted: bool,
}

impl Filter {
    /// The arguments `rules`, `schemas`, `min_severity`, each NULL for all, and `exempted`.
    fn of(call: Call) -> Self {
        let min_severity = severity(call.text(2)).unwrap_or(Severity::Info);
        let exempted = call.bool(3).unwrap_or(false);
        Self { exempted, min_severity, ..Self::about(call.texts(0), call.names(1)) }
    }

    /// What some rules find about some schemas; `None` for all.
    pub fn about(rules: Option<Vec<String>>, schemas: Option<Vec<String>>) -> Self {
        let known = || RULES.iter().map(|r| r.id).collect::<Vec<_>>();
        let rules = match rules {
            None => RULES.to_vec(),
            Some(ids) => {
                for id in &ids {
                    if rules::find(id).is_none() {
                        unknown_argument("rule", id, &known());
                    }
                }
                RULES.iter().copied().filter(|r| ids.iter().any(|id| id == r.id)).collect()
            }
        };
        Self { schemas, ..Self::new(rules, Severity::Info) }
    }

    fn new(rules: Vec<&'static Rule>, min_severity: Severity) -> Self {
        Self { rules, schemas: None, min_severity, exempted: false }
    }

    fn area(area: Area) -> Self {
        Self::new(RULES.iter().copied().filter(|r| r.area == area).collect(), Severity::Info)
    }

    /// An error where a schema is neither there nor in the contract.
    pub fn check_schemas(&self, contract: &Contract, snapshot: &Snapshot) {
        for name in self.schemas.iter().flatten() {
            if contract.schema(name).is_none() && snapshot.schema_named(name).is_none() {
                let mut known: Vec<&str> = contract.schemas.iter().map(|s| s.name.as_str()).collect();
                known.extend(snapshot.schemas.iter().map(|s| s.name.as_str()).filter(|s| !s.starts_with("pg_")));
                known.sort_unstable();
                known.dedup();
                unknown_argument("schema", name, &known);
            }
        }
    }

    pub fn wants(&self, finding: &Finding) -> bool {
        finding.severity >= self.min_severity
            && self.rules.contains(&finding.rule)
            && self.schemas.as_ref().is_none_or(|s| finding.object.schema.as_ref().is_some_and(|schema| s.contains(schema)))
    }
}

/// A severity by its word; an error lists the words.
fn severity(word: Option<String>) -> Option<Severity> {
    let known = Severity::ALL.map(Severity::word);
    word.map(|word| Severity::from_word(&word).unwrap_or_else(|| unknown_argument("severity", &word, &known)))
}

/// The findings that the filter wants: the worst first, then by rule in the order of the contract's sections, then by object.
fn findings(filter: &Filter) -> Vec<Finding> {
    let state = State::now();
    let own = Own::find(&state);
    let found = under(&contract::in_force(&state, &own), &state, &own, |cx| {
        filter.check_schemas(cx.contract, cx.snapshot);
        visible(cx, &filter.rules, &Current::read(&state, &own, Look::Afresh), filter.exempted)
    });
    found.into_iter().filter(|f| filter.wants(f)).collect()
}

/// What some rules find under the contract in force, without what is exempt.
pub fn findings_of(rules: &[&'static Rule]) -> Vec<Finding> {
    findings(&Filter::new(rules.to_vec(), Severity::Info))
}

fn all(cx: &Context<'_>, rules: &[&'static Rule]) -> Vec<Finding> {
    let mut found: Vec<Finding> = rules.iter().flat_map(|rule| cx.run(rule)).collect();
    // Each rule gives its findings in order of name; the sort is stable.
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

/// A finding as the audits show it.
pub fn row(finding: Finding) -> Vec<Value> {
    vec![
        Value::Text(finding.rule.id.into()),
        Value::Text(finding.severity.word().into()),
        Value::Text(finding.object.object_type.into()),
        Value::name(finding.object.schema),
        Value::Text(finding.object.identity),
        Value::name(finding.role),
        Value::Text(finding.detail),
        Value::Json(finding.evidence),
        Value::text(finding.fix),
        Value::Text(finding.rule.section.into()),
        Value::Text(finding.fingerprint),
    ]
}

fn rows(call: Call, filter: &Filter) -> pg_sys::Datum {
    call.table(findings(filter).into_iter().map(row))
}

sql_function!(
    /// `ops.audit_security(rules text[], schemas name[], min_severity text, exempted boolean)`
    ops_audit_security => audit_security
);
fn audit_security(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::of(call))
}

sql_function!(
    /// `ops.audit_roles()`
    ops_audit_roles => audit_roles
);
fn audit_roles(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Roles))
}

sql_function!(
    /// `ops.audit_objects()`
    ops_audit_objects => audit_objects
);
fn audit_objects(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Objects))
}

sql_function!(
    /// `ops.audit_grants()`
    ops_audit_grants => audit_grants
);
fn audit_grants(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Grants))
}

sql_function!(
    /// `ops.audit_views()`
    ops_audit_views => audit_views
);
fn audit_views(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Views))
}

sql_function!(
    /// `ops.audit_functions()`
    ops_audit_functions => audit_functions
);
fn audit_functions(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Functions))
}

sql_function!(
    /// `ops.audit_rls()`
    ops_audit_rls => audit_rls
);
fn audit_rls(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Rls))
}

sql_function!(
    /// `ops.audit_guard()`
    ops_audit_guard => audit_guard
);
fn audit_guard(call: Call) -> pg_sys::Datum {
    rows(call, &Filter::area(Area::Guard))
}

/// How many findings an error repeats.
const SHOWN: usize = 20;

sql_function!(
    /// `ops.assert_security(min_severity text)`
    ops_assert_security => assert_security
);
fn assert_security(call: Call) -> pg_sys::Datum {
    let min_severity = severity(call.text(0)).unwrap_or(Severity::Error);
    let found = findings(&Filter::new(RULES.to_vec(), min_severity));
    if !found.is_empty() {
        let mut lines: Vec<String> =
            found.iter().take(SHOWN).map(|f| format!("{} {}: {}", f.severity.word(), f.rule.id, f.detail)).collect();
        if found.len() > SHOWN {
            lines.push(format!("... and {} more.", found.len() - SHOWN));
        }
        let (ways, severity) = (if found.len() == 1 { "way" } else { "ways" }, min_severity.word());
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
    let state = State::now();
    let contract = contract::in_force(&state, &Own::find(&state));
    call.table(RULES.iter().map(|rule| {
        let declared = contract.rules.get(rule.id);
        let severity = declared.and_then(|d| d.severity).unwrap_or(rule.severity);
        let guard = declared.and_then(|d| d.guard).unwrap_or(rule.guard);
        vec![
            Value::Text(rule.id.into()),
            Value::Text(rule.title.into()),
            Value::Text(rule.area.word().into()),
            Value::Text(severity.word().into()),
            Value::Text(guard.word().into()),
            Value::Text(rule.section.into()),
            Value::Text(rule.why.into()),
            Value::Text(rule.mend.into()),
        ]
    }))
}

sql_function!(
    /// `dragonfly_guard.announce()`: what CREATE EXTENSION finds in a database that was there before it, as one WARNING.
    guard_announce => announce
);
fn announce(_: Call) -> pg_sys::Datum {
    let names: Vec<String> = with_context(|cx| {
        let unsafe_path = |r: &&Routine| {
            cx.routine_managed_by(r).is_none() && search_path::judgment(cx, r).is_some_and(|j| j.verdict != Verdict::Safe)
        };
        cx.snapshot.routines.iter().filter(unsafe_path).map(|r| cx.snapshot.routine_message(r)).collect()
    });
    if names.is_empty() {
        return pg_sys::Datum::null();
    }
    let message = match names.len() {
        1 => "1 SECURITY DEFINER routine that is here already has no safe search_path".to_owned(),
        n => format!("{n} SECURITY DEFINER routines that are here already have no safe search_path"),
    };
    let mut shown: Vec<String> = names.iter().take(3).cloned().collect();
    if names.len() > shown.len() {
        shown.push(format!("{} others", names.len() - shown.len()));
    }
    Report {
        message,
        detail: format!("{}. What is here stays as it is; the guard refuses new ones.", listed(&shown)),
        hint: "SELECT * FROM ops.audit_security() lists everything, with the SQL that mends it.".into(),
    }
    .warning(PgSqlErrorCode::ERRCODE_WARNING);
    pg_sys::Datum::null()
}

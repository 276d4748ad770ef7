//! The SQL functions of the contract: they return the one in force, put another one into force, and
//! validate, describe, compare and audit contracts before that.

use super::argument;
use super::audit::row;
use super::{permission, readers};
use crate::audit::{self, Fixes};
use crate::catalog;
use crate::pg::call::{Call, Value, json_datum, sql_function, texts};
use crate::pg::heap::{State, interrupts};
use crate::pg::progress::{self, Progress};
use crate::pg::report::{Report, unknown_argument};
use crate::pg::write::text_datum;
use crate::store::contract::{
    History, Past, document_in_force, document_of, in_force, next_version, version, versions,
};
use dragonfly_core::contract::{
    self, Contract, Enforcement, Examined, Platform, Problem, Severity, examine_interruptibly,
    examine_lines,
};
use dragonfly_core::report::narrow_changes;
use dragonfly_core::sql::{capitalized, printable};
use pgrx::{PgSqlErrorCode, pg_sys};
use semver::Version;
use std::collections::HashSet;
use std::rc::Rc;

sql_function!(
    /// `ops.contract() RETURNS jsonb`
    ops_contract => contract_in_force
);
fn contract_in_force(_: Call) -> pg_sys::Datum {
    let state = State::now();
    stored(&document_in_force(&state, &catalog::find_own(&state)))
}

sql_function!(
    /// `ops.contract(version text) RETURNS jsonb`
    ops_contract_of_version => contract_of_version
);
fn contract_of_version(call: Call) -> pg_sys::Datum {
    let version = argument::text(call, 0, "version");
    let state = State::now();
    let own = catalog::find_own(&state);
    let text = document_of(&state, &own, &version).unwrap_or_else(|| {
        let known = versions(&state, &own);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        unknown_argument("contract version", &version, &known)
    });
    stored(&text)
}

/// Returns a document of the table of contracts as jsonb.
fn stored(text: &str) -> pg_sys::Datum {
    let json = serde_json::from_str(text)
        .unwrap_or_else(|e| pgrx::error!("jsonb_out returned invalid JSON: {e}"));
    json_datum(&json)
}

sql_function!(
    /// `ops.contract_json(contract jsonb DEFAULT NULL) RETURNS text`
    ops_contract_json => contract_json
);
fn contract_json(call: Call) -> pg_sys::Datum {
    let given = call.json_text(0);
    let contract = given.map_or_else(
        || {
            let state = State::now();
            in_force(&state, &catalog::find_own(&state))
        },
        |text| Rc::new(valid(&text)),
    );
    text_datum(&contract::write(&contract))
}

sql_function!(
    /// `dragonfly_guard.default_contract() RETURNS jsonb`
    guard_default_contract => default_contract
);
fn default_contract(_: Call) -> pg_sys::Datum {
    let json = serde_json::from_str(contract::DEFAULT).expect("the shipped contract is JSON");
    json_datum(&json)
}

sql_function!(
    /// `dragonfly_guard.is_contract(document jsonb) RETURNS bool`: true, or an error that names the
    /// invalid places of the document.
    guard_is_contract => is_contract
);
fn is_contract(call: Call) -> pg_sys::Datum {
    let Some(text) = call.json_text(0) else { return call.null() };
    valid(&text);
    pg_sys::Datum::from(true)
}

/// Reads the contract in a document. Raises an error where the document is not a valid contract.
pub(super) fn valid(text: &str) -> Contract {
    contract_in(examine_interruptibly(text, &interrupts))
}

/// Returns the contract that was read. Raises an error where the document is not a valid contract.
fn contract_in(Examined { contract, problems }: Examined) -> Contract {
    contract.unwrap_or_else(|| {
        let errors: Vec<&Problem> =
            problems.iter().filter(|p| p.severity == Severity::Error).collect();
        let (detail, hint) = match errors.as_slice() {
            [Problem { path, problem, hint: Some(hint), .. }] if path == "$" => {
                (format!("{}.", capitalized(problem)), format!("{}.", capitalized(hint)))
            }
            errors => (
                ended(first(errors)),
                "SELECT * FROM ops.validate_contract(...) lists all problems; ops.contract() \
                 returns a valid contract."
                    .into(),
            ),
        };
        Report { message: "not a valid security contract".into(), detail, hint }
            .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    })
}

/// Reports the warnings about a valid contract that say what was probably meant.
fn report_mistakes(Examined { contract, problems }: &Examined) {
    let is_mistake = |p: &&Problem| p.severity == Severity::Warning && p.hint.is_some();
    let mistakes: Vec<&Problem> = problems.iter().filter(is_mistake).collect();
    if contract.is_some() && !mistakes.is_empty() {
        Report {
            message: match mistakes.len() {
                1 => "the contract has a probable mistake".into(),
                n => format!("the contract has {n} probable mistakes"),
            },
            detail: ended(first(&mistakes)),
            hint: "SELECT * FROM ops.validate_contract(...) lists all problems.".into(),
        }
        .notice();
    }
}

/// Returns the first lines.
fn first<T: ToString>(lines: &[T]) -> String {
    let shown: Vec<String> = lines.iter().take(SHOWN).map(ToString::to_string).collect();
    let shown = shown.join("\n");
    match lines.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}\n... and {more} more"),
    }
}

/// Returns the text with a period, unless it ends with a question.
fn ended(mut text: String) -> String {
    if !text.ends_with('?') {
        text.push('.');
    }
    text
}

/// The number of problems or changes that a message lists.
const SHOWN: usize = 10;

sql_function!(
    /// `ops.load_contract(contract jsonb, note text DEFAULT NULL)
    /// RETURNS TABLE (version text, replaces text, findings int8, added int8, removed int8,
    /// changes text)`
    ops_load_contract => load_jsonb
);
fn load_jsonb(call: Call) -> pg_sys::Datum {
    let document = argument::required(call.json_text(0), "contract");
    load(call, &document, examine_interruptibly)
}

sql_function!(
    /// `ops.load_contract(contract text, note text DEFAULT NULL)`, with the same columns.
    ops_load_contract_text => load_text
);
fn load_text(call: Call) -> pg_sys::Datum {
    let document = argument::required(call.text(0), "contract");
    load(call, &document, examine_lines)
}

/// Examines a document.
type Examine = fn(&str, &dyn Fn()) -> Examined;

fn load(call: Call, document: &str, examine: Examine) -> pg_sys::Datum {
    permission::check(call);
    let note = argument::optional_text(call, 1, "note");
    // Some editors write a byte order mark at the beginning of a file.
    let document = document.trim_start_matches('\u{feff}');
    let examined = examine(document, &interrupts);
    report_mistakes(&examined);
    let contract = contract_in(examined);
    let history = History::open();
    let has_version = |past: &&Past| past.version.to_string() == contract.version;
    let is_in_force = history.past.last().as_ref().is_some_and(has_version);
    let known = history.past.iter().rev().find(has_version);
    let known = known.and_then(|past| history.read(past)).map(|(known, _)| known);
    if is_in_force && known.as_ref().is_some_and(|known| contract::are_same(known, &contract)) {
        return keep_in_force(&history, &contract).table(call);
    }
    if let Some(highest) = history.highest()
        && version(&contract).cmp_precedence(&highest.version).is_le()
    {
        reject_version(&contract, &highest.version, known.as_ref());
    }
    put_into_force(&history, &contract, document, note.as_deref()).table(call)
}

/// Raises the error for a contract whose version is not higher than the highest. `known` is the
/// latest contract with the same version.
fn reject_version(contract: &Contract, highest: &Version, known: Option<&Contract>) -> ! {
    let (version, next) = (&contract.version, next_version(highest));
    let not_higher = format!("contract version {version} is not higher than {highest}");
    let (message, detail, hint) = match known {
        Some(known) if contract::are_same(known, contract) => (
            not_higher,
            "The same contract has been loaded already. Another one is in force now.".into(),
            format!("To return to it, run SELECT * FROM ops.rollback_contract('{version}');"),
        ),
        Some(known) => (
            format!("contract version {version} has been loaded with other contents"),
            format!("The differences:\n{}", first(&contract::changes(known, contract))),
            format!("Change \"version\" to \"{next}\" or a higher one."),
        ),
        None => (
            not_higher,
            "Each contract must have a higher version than all earlier ones, so that a version \
             identifies one contract."
                .into(),
            format!(
                "Change \"version\" to \"{next}\" or a higher one. To return to an earlier \
                 contract, run SELECT * FROM ops.rollback_contract('...');"
            ),
        ),
    };
    Report { message, detail, hint }.error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

/// Reports that the contract in force is the same, and returns what loading it returns.
fn keep_in_force(history: &History, contract: &Contract) -> Loaded {
    let total = found_under(contract, &history.state, history).len();
    Report {
        message: format!("contract {} is in force already: {}", contract.version, counted(total)),
        detail: "It has the same contents. Nothing is changed.".into(),
        ..Report::default()
    }
    .notice();
    let findings = Counts { total, added: 0, removed: 0 };
    Loaded { version: contract.version.clone(), replaces: None, findings, changes: vec![] }
}

sql_function!(
    /// `ops.rollback_contract(to_version text DEFAULT NULL, note text DEFAULT NULL)
    /// RETURNS TABLE (version text, replaces text, findings int8, added int8, removed int8,
    /// changes text)`
    ops_rollback_contract => rollback
);
fn rollback(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let wanted = argument::optional_text(call, 0, "to_version");
    let note = argument::optional_text(call, 1, "note");
    let history = History::open();
    let current = history.past.last().map(|p| p.version.to_string());
    let earlier = history.past.iter().rev().skip(1);
    // The place of this version in the history: a second rollback returns to the contract before
    // it, and not to the one that the first rollback replaced.
    let first_loaded = history
        .past
        .iter()
        .position(|p| current.as_ref().is_some_and(|version| p.version.to_string() == *version));
    let found = match &wanted {
        Some(version) if current.as_ref() == Some(version) => Report {
            message: format!("contract {version} is already in force"),
            ..Report::default()
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE),
        Some(version) => earlier.clone().find(|p| p.version.to_string() == *version),
        None => {
            first_loaded.and_then(|place| place.checked_sub(1)).map(|before| &history.past[before])
        }
    };
    let Some((contract, document)) = found.and_then(|past| history.read(past)) else {
        let is_valid = |past: &&Past| history.read(past).is_some();
        let mut known: Vec<String> =
            earlier.filter(is_valid).map(|p| p.version.to_string()).collect();
        known.dedup();
        Report {
            message: match &wanted {
                Some(version) => format!("contract {} has not been in force", printable(version)),
                None => "no contract was in force before this one".into(),
            },
            detail: if known.is_empty() {
                String::new()
            } else {
                format!("Earlier contracts: {}.", known.join(", "))
            },
            hint: "SELECT * FROM ops.contract_history lists all contracts.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    };
    let note = note.unwrap_or_else(|| format!("Rolled back from {}", current.unwrap_or_default()));
    put_into_force(&history, &contract, &document, Some(&note)).table(call)
}

/// A contract that has just come into force.
pub(super) struct Loaded {
    version: String,
    replaces: Option<String>,
    findings: Counts,
    /// The changes from the contract before.
    pub changes: Vec<String>,
}

impl Loaded {
    fn table(self, call: Call) -> pg_sys::Datum {
        call.table([vec![
            Value::Text(self.version),
            Value::text(self.replaces),
            Value::Int(self.findings.total as i64),
            Value::Int(self.findings.added as i64),
            Value::Int(self.findings.removed as i64),
            Value::Text(narrow_changes(&self.changes)),
        ]])
    }
}

/// Stores a valid contract, and reports and returns its effect on the findings.
pub(super) fn put_into_force(
    history: &History,
    contract: &Contract,
    document: &str,
    note: Option<&str>,
) -> Loaded {
    put_into_force_and(history, contract, document, note, || {})
}

/// Does what [`put_into_force`] does, and `then`, before the findings are counted.
pub(super) fn put_into_force_and(
    history: &History,
    contract: &Contract,
    document: &str,
    note: Option<&str>,
    then: impl FnOnce(),
) -> Loaded {
    let earlier = history.past.last().and_then(|past| history.read(past));
    let earlier = earlier.as_ref().map(|(contract, _)| contract);
    // Where the earlier contract is not valid, CREATE EXTENSION is known to have granted this.
    let shipped;
    let before = if let Some(earlier) = earlier {
        earlier
    } else {
        shipped = valid(contract::DEFAULT);
        &shipped
    };
    readers::check(before, contract);
    history.add(document, note);
    readers::apply(&history.own, before, contract);
    let found = |contract| found_under(contract, &State::now(), history);
    let before = earlier.map(found).unwrap_or_default();
    then();
    let after = found(contract);
    let findings = Counts {
        total: after.len(),
        added: after.difference(&before).count(),
        removed: before.difference(&after).count(),
    };
    let changes = earlier.map(|earlier| contract::changes(earlier, contract)).unwrap_or_default();
    report(contract, findings);
    Loaded {
        version: contract.version.clone(),
        replaces: earlier.map(|c| c.version.clone()),
        findings,
        changes,
    }
}

/// Returns the fingerprints of the findings under a contract.
fn found_under(contract: &Contract, state: &State, history: &History) -> HashSet<String> {
    audit::reported_under(contract, state, &history.own, Fixes::OfRules)
        .into_iter()
        .map(|f| f.fingerprint)
        .collect()
}

/// How many findings a contract has, and how many it adds and removes.
#[derive(Clone, Copy)]
struct Counts {
    total: usize,
    added: usize,
    removed: usize,
}

fn report(contract: &Contract, Counts { total, added, removed }: Counts) {
    Report {
        message: format!(
            "contract {} is in force: {}, {added} added and {removed} removed",
            contract.version,
            counted(total)
        ),
        detail: match contract.enforcement {
            Enforcement::Block => String::new(),
            other => format!("Its enforcement is {}: {}.", other.as_str(), other.effect()),
        },
        hint: match added {
            0 => String::new(),
            _ => format!(
                "SELECT * FROM ops.audit_security() lists {}; the guard blocks regressions only.",
                if total == 1 { "it" } else { "them" }
            ),
        },
    }
    .notice();
}

fn counted(findings: usize) -> String {
    format!("{findings} {}", if findings == 1 { "finding" } else { "findings" })
}

sql_function!(
    /// `ops.validate_contract(contract jsonb) RETURNS TABLE (severity text, path text, object text,
    /// line int4, problem text, hint text, allowed text)`
    ops_validate_contract => validate_jsonb
);
fn validate_jsonb(call: Call) -> pg_sys::Datum {
    let document = argument::required(call.json_text(0), "contract");
    list(call, examine_interruptibly(&document, &interrupts).problems)
}

sql_function!(
    /// `ops.validate_contract(contract text)`, with the same columns.
    ops_validate_contract_text => validate_text
);
fn validate_text(call: Call) -> pg_sys::Datum {
    let document = argument::required(call.text(0), "contract");
    list(call, examine_lines(&document, &interrupts).problems)
}

fn list(call: Call, problems: Vec<Problem>) -> pg_sys::Datum {
    call.table(problems.into_iter().map(|p| {
        vec![
            Value::Text(p.severity.as_str().into()),
            Value::Text(p.path),
            Value::text(p.object),
            p.line.map_or(Value::Null, |line| Value::Int4(line as i32)),
            Value::Text(p.problem),
            Value::text(p.hint),
            Value::text(p.allowed),
        ]
    }))
}

sql_function!(
    /// `ops.contract_schema() RETURNS jsonb`
    ops_contract_schema => schema
);
fn schema(_: Call) -> pg_sys::Datum {
    json_datum(contract::schema())
}

sql_function!(
    /// `ops.contract_preset(name text) RETURNS jsonb`
    ops_contract_preset => preset
);
fn preset(call: Call) -> pg_sys::Datum {
    let name = argument::text(call, 0, "name");
    let Some(platform) = Platform::named(&name) else {
        unknown_argument("preset", &name, &Platform::ALL.map(Platform::as_str))
    };
    json_datum(&serde_json::to_value(platform.preset()).expect("a preset is JSON"))
}

sql_function!(
    /// `ops.contract_changes(earlier jsonb, later jsonb) RETURNS text[]`
    ops_contract_changes => changes
);
fn changes(call: Call) -> pg_sys::Datum {
    let earlier = argument::required(call.json_text(0), "earlier");
    let later = argument::required(call.json_text(1), "later");
    texts(&contract::changes(&valid(&earlier), &valid(&later)))
}

sql_function!(
    /// `ops.audit_contract(contract jsonb)`, with the columns of `ops.audit_security()`.
    ops_audit_contract => audit_contract
);
fn audit_contract(call: Call) -> pg_sys::Datum {
    let _progress = Progress::begin("auditing the contract", 2);
    progress::step("reading the contract");
    let document = argument::required(call.json_text(0), "contract");
    let contract = given_contract(&document);
    drop(document);
    progress::step("applying the rules");
    let state = State::now();
    let findings =
        audit::reported_under(&contract, &state, &catalog::find_own(&state), Fixes::OfRules);
    call.table(findings.into_iter().map(|finding| row(finding, &contract)))
}

/// Returns the contract in a document that a caller has given. Raises an error where it is not
/// valid.
pub(super) fn given_contract(document: &str) -> Contract {
    let examined = examine_interruptibly(document, &interrupts);
    report_mistakes(&examined);
    contract_in(examined)
}

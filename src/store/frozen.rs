//! Frozen schemas: snapshots that the extension's own table keeps, each under a label.

use super::contract;
use crate::api::drift::snapshot_of;
use crate::api::permission;
use crate::catalog::Own;
use crate::pg::call::{Call, json_datum, sql_function};
use crate::pg::heap::{Column, Row, State, Table, interrupts};
use crate::pg::report::{Report, unknown_argument};
use crate::pg::write::{as_owner, text_datum};
use dragonfly_core::drift::{self, Snapshot};
use dragonfly_core::sql::{listed, printable};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The longest label, in characters.
const LONGEST: usize = 200;

/// A snapshot that somebody has kept.
pub struct Frozen {
    /// Its name.
    pub label: String,
    /// What there was.
    pub snapshot: Snapshot,
}

/// The frozen schema of this label, or (`None`) the latest. An error where there is none of that label.
pub fn find(state: &State, own: &Own, label: Option<String>) -> Option<Frozen> {
    let records = Records::open(state, own);
    let all = records.labels(state);
    let (_, label) = match label {
        None => all.into_iter().max()?,
        Some(label) => match all.iter().find(|(_, known)| *known == label) {
            Some(found) => found.clone(),
            None => unknown_label(&label, &all),
        },
    };
    let text = records.snapshot(state, &label)?;
    let snapshot = drift::read(&text, &interrupts).unwrap_or_else(|problem| {
        Report {
            message: format!("the frozen schema \"{}\" cannot be read", printable(&label)),
            detail: format!("{problem}."),
            hint: "SELECT ops.freeze_schema('...', replace => true) freezes what is here now in its place.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
    });
    Some(Frozen { label, snapshot })
}

fn unknown_label(label: &str, known: &[(i64, String)]) -> ! {
    if known.is_empty() {
        refuse(
            format!("there is no frozen schema \"{}\"", printable(label)),
            "",
            "Nothing is frozen yet; SELECT ops.freeze_schema('...') does it.",
        )
    }
    let mut known: Vec<_> = known.iter().map(|(_, label)| printable(label)).collect();
    known.sort();
    unknown_argument("frozen schema", label, &known.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

sql_function!(
    /// `ops.freeze_schema(label text, schemas name[], replace boolean) RETURNS text`
    ops_freeze_schema => freeze_schema
);
fn freeze_schema(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let label = call.text(0).filter(|label| !label.trim().is_empty() && label.chars().count() <= LONGEST);
    let Some(label) = label else {
        let hint = "For example the name of a release: ops.freeze_schema('2027.1').";
        refuse(format!("a frozen schema has a label of 1 to {LONGEST} characters"), "", hint)
    };
    let (own, state, records) = changing();
    let is_there = records.labels(&state).iter().any(|(_, known)| *known == label);
    if is_there && call.bool(2) != Some(true) {
        refuse(
            format!("there is a frozen schema \"{}\" already", printable(&label)),
            "What was frozen is kept as it was.",
            "Choose another label; or take this one away with ops.unfreeze_schema(), or say replace => true.",
        )
    }
    let snapshot = snapshot_of(&state, &contract::in_force(&state, &own), call.names(1));
    let fingerprint = snapshot.fingerprint();
    let document = json_datum(&serde_json::to_value(&snapshot).expect("a snapshot is JSON"));
    let statement = |table: &str| match is_there {
        false => format!("INSERT INTO {table} (label, fingerprint, snapshot) VALUES ($1, $2, $3)"),
        true => format!(
            "UPDATE {table} SET frozen_at = pg_catalog.clock_timestamp(), frozen_by = SESSION_USER, fingerprint = $2, snapshot = $3 \
             WHERE label OPERATOR(pg_catalog.=) $1"
        ),
    };
    let arguments = [
        (pg_sys::TEXTOID, Some(text_datum(&label))),
        (pg_sys::TEXTOID, Some(text_datum(&fingerprint))),
        (pg_sys::JSONBOID, Some(document)),
    ];
    as_owner(records.oid, statement, &arguments);
    say(&label, &snapshot);
    text_datum(&fingerprint)
}

fn say(label: &str, snapshot: &Snapshot) {
    let names: Vec<_> = snapshot.schemas.iter().map(|name| printable(name)).collect();
    let schemas = if names.len() == 1 { "schema" } else { "schemas" };
    let objects =
        if snapshot.objects.len() == 1 { "1 object".to_owned() } else { format!("{} objects", snapshot.objects.len()) };
    Report {
        message: format!("\"{}\" keeps {objects} of {schemas} {}", printable(label), listed(&names)),
        ..Report::default()
    }
    .notice();
}

sql_function!(
    /// `ops.unfreeze_schema(label text) RETURNS void`
    ops_unfreeze_schema => unfreeze_schema
);
fn unfreeze_schema(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let label = call.text(0).unwrap_or_else(|| {
        Report { message: "label must not be null".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
    });
    let (_, state, records) = changing();
    let known = records.labels(&state);
    if !known.iter().any(|(_, known)| *known == label) {
        unknown_label(&label, &known)
    }
    as_owner(
        records.oid,
        |table| format!("DELETE FROM {table} WHERE label OPERATOR(pg_catalog.=) $1"),
        &[(pg_sys::TEXTOID, Some(text_datum(&label)))],
    );
    call.null()
}

/// What is frozen; nobody else changes it before this transaction ends. An error where somebody has since it began to see a state of its own.
fn changing() -> (Own, State, Records) {
    let own = Own::find(&State::now());
    own.change("what is frozen");
    let state = State::now();
    let records = Records::open(&state, &own);
    if records.labels(&State::of_transaction()) != records.labels(&state) {
        Report {
            message: "could not serialize access: what is frozen has changed since this transaction began".into(),
            detail: String::new(),
            hint: "SELECT * FROM ops.v_frozen_schemas shows how; try again in a new transaction.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE);
    }
    (own, state, records)
}

/// The table, open for reading.
struct Records {
    oid: u32,
    table: Table,
    label: Column,
    frozen_at: Column,
    snapshot: Column,
}

impl Records {
    /// An error where somebody has changed the columns that are read.
    fn open(state: &State, own: &Own) -> Self {
        let oid = own.frozen_table(state).unwrap_or_else(|| damaged());
        let table = Table::open(oid);
        let typed =
            |name: &str, type_oid| table.find(name).filter(|column| column.type_oid == type_oid).unwrap_or_else(|| damaged());
        let (label, frozen_at) = (typed("label", pg_sys::TEXTOID), typed("frozen_at", pg_sys::TIMESTAMPTZOID));
        let snapshot = typed("snapshot", pg_sys::JSONBOID);
        Self { oid, table, label, frozen_at, snapshot }
    }

    /// When each was frozen, and its label, in that order.
    fn labels(&self, state: &State) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        self.table.scan(state, |row: Row<'_>| {
            found.push((row.timestamp(self.frozen_at).unwrap_or(i64::MIN), row.text(self.label).unwrap_or_default()));
        });
        found.sort();
        found
    }

    /// The snapshot of this label, as JSON text.
    fn snapshot(&self, state: &State, label: &str) -> Option<String> {
        let mut found = None;
        self.table.scan(state, |row: Row<'_>| {
            if row.text(self.label).as_deref() == Some(label) {
                found = row.raw(self.snapshot).map(crate::pg::call::json_text);
            }
        });
        found
    }
}

fn refuse(message: String, detail: &str, hint: &str) -> ! {
    Report { message, detail: detail.into(), hint: hint.into() }.error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

fn damaged() -> ! {
    Report {
        message: "the table dragonfly_guard.frozen_schema has been changed".into(),
        detail: "What was frozen cannot be read.".into(),
        hint: "SELECT * FROM ops.audit_guard() says what is wrong.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

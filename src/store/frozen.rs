//! The table of frozen schemas: snapshots, each with a label.

use super::error::{AUDIT_GUARD, Subject, changed_since, table_changed};
use super::lock;
use crate::catalog::{self, Own};
use crate::pg::call::{json_text, object_datum};
use crate::pg::heap::{Row, State, Table, interrupts};
use crate::pg::jsonb::Member;
use crate::pg::report::{Report, unknown_argument};
use crate::pg::write::{as_owner, text_datum};
use dragonfly_core::drift::{self, Snapshot};
use dragonfly_core::sql::printable;
use dragonfly_reader::Column;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::Value;

/// A stored snapshot.
pub struct Frozen {
    /// Its label.
    pub label: String,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// Returns the frozen schema with this label, or the latest where `label` is `None`. Raises an
/// error where no frozen schema has the label.
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
            message: format!("frozen schema \"{}\" cannot be read", printable(&label)),
            detail: format!("{problem}."),
            hint: "SELECT ops.freeze_schema('...', replace => true); replaces it by the current \
                   state."
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
    });
    Some(Frozen { label, snapshot })
}

fn unknown_label(label: &str, known: &[(i64, String)]) -> ! {
    if known.is_empty() {
        Report {
            message: format!("frozen schema \"{}\" does not exist", printable(label)),
            detail: String::new(),
            hint: "No schema is frozen. To freeze the current state, run SELECT \
                 ops.freeze_schema('...');"
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
    let mut known: Vec<_> = known.iter().map(|(_, label)| printable(label)).collect();
    known.sort();
    unknown_argument("frozen schema", label, &known.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// Returns a snapshot as a value of type jsonb. Its objects are freed one after the other.
pub fn document(snapshot: Snapshot) -> pg_sys::Datum {
    let Snapshot { format, server, schemas, objects } = snapshot;
    let json = |of: Result<Value, _>| of.expect("a snapshot is JSON");
    let count = objects.len();
    let objects = objects.into_iter().map(|object| {
        interrupts();
        json(serde_json::to_value(object))
    });
    object_datum(vec![
        ("format", Member::Value(format.into())),
        ("server", Member::Value(json(serde_json::to_value(server)))),
        ("schemas", Member::Value(schemas.into())),
        ("objects", Member::List(count, Box::new(objects))),
    ])
}

/// A change of the table; no other session can change it before this transaction ends.
pub struct Change {
    /// The extension's own objects.
    pub own: Own,
    /// The state in which the table was read.
    pub state: State,
    records: Records,
    labels: Vec<(i64, String)>,
}

impl Change {
    /// Locks and reads the table. Raises an error where another session is changing it, or has
    /// changed it since this transaction took its snapshot.
    pub fn open() -> Self {
        let own = catalog::find_own(&State::now());
        lock::acquire_for_change(&own, "the frozen schemas");
        let state = State::now();
        let records = Records::open(&state, &own);
        let labels = records.labels(&state);
        if records.labels(&State::of_transaction()) != labels {
            changed_since(&Subject { name: "the frozen schemas", view: "ops.v_frozen_schemas" });
        }
        Self { own, state, records, labels }
    }

    /// Whether a frozen schema has this label.
    pub fn contains(&self, label: &str) -> bool {
        self.labels.iter().any(|(_, known)| known == label)
    }

    /// Stores a snapshot with this label, replacing an earlier one, and returns its fingerprint.
    pub fn put(&self, label: &str, snapshot: Snapshot) -> String {
        let fingerprint = snapshot.fingerprint();
        let document = document(snapshot);
        let replaces = self.contains(label);
        let statement = |table: &str| {
            if replaces {
                format!(
                    "UPDATE {table} SET frozen_at = pg_catalog.clock_timestamp(), \
                     frozen_by = SESSION_USER, fingerprint = $2, snapshot = $3 \
                     WHERE label OPERATOR(pg_catalog.=) $1"
                )
            } else {
                format!("INSERT INTO {table} (label, fingerprint, snapshot) VALUES ($1, $2, $3)")
            }
        };
        let arguments = [
            (pg_sys::TEXTOID, Some(text_datum(label))),
            (pg_sys::TEXTOID, Some(text_datum(&fingerprint))),
            (pg_sys::JSONBOID, Some(document)),
        ];
        as_owner(self.records.oid, statement, &arguments);
        fingerprint
    }

    /// Removes the snapshot with this label. Raises an error where no frozen schema has it.
    pub fn remove(&self, label: &str) {
        if !self.contains(label) {
            unknown_label(label, &self.labels)
        }
        as_owner(
            self.records.oid,
            |table| format!("DELETE FROM {table} WHERE label OPERATOR(pg_catalog.=) $1"),
            &[(pg_sys::TEXTOID, Some(text_datum(label)))],
        );
    }
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
    /// Opens the table. Raises an error where a column that is read has been altered.
    fn open(state: &State, own: &Own) -> Self {
        let oid = own.frozen_table(state).unwrap_or_else(|| altered());
        let table = Table::open(oid);
        let typed =
            |name: &str, type_oid| table.find_of_type(name, type_oid).unwrap_or_else(|| altered());
        let (label, frozen_at) =
            (typed("label", pg_sys::TEXTOID), typed("frozen_at", pg_sys::TIMESTAMPTZOID));
        let snapshot = typed("snapshot", pg_sys::JSONBOID);
        Self { oid, table, label, frozen_at, snapshot }
    }

    /// Returns when each was frozen (microseconds since 2000) and its label, in that order.
    fn labels(&self, state: &State) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        self.table.scan(state, |row: Row<'_>| {
            found.push((
                row.timestamp(self.frozen_at).unwrap_or(i64::MIN),
                row.text(self.label).unwrap_or_default(),
            ));
        });
        found.sort();
        found
    }

    /// Returns the snapshot with this label as JSON text.
    fn snapshot(&self, state: &State, label: &str) -> Option<String> {
        let mut found = None;
        self.table.scan(state, |row: Row<'_>| {
            if row.text(self.label).as_deref() == Some(label) {
                found = row.raw(self.snapshot).map(json_text);
            }
        });
        found
    }
}

fn altered() -> ! {
    table_changed("frozen_schema", "Frozen schemas cannot be read.", AUDIT_GUARD)
}

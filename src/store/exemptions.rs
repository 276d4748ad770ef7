//! Exemptions, as the extension's own table holds them: read for audit and guard ([`Current`]), changed and shown by SQL functions.

use crate::catalog::{self, Look, Own};
use crate::pg::heap::{Column, Row, State, Table, interrupts};
use crate::pg::text::timestamp;
use dragonfly_core::exemptions::{Exemption, Exemptions};
use dragonfly_core::findings::{Finding, ObjectId};
use dragonfly_core::rules::Rule;
use dragonfly_core::sql::quote_ident;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// The exemptions in force, with a look at the catalog for what the objects are made of now.
pub struct Current<'s> {
    exemptions: Exemptions,
    state: &'s State,
    look: Look,
    /// What has been looked at.
    known: RefCell<HashMap<ObjectId, Option<String>>>,
}

impl<'s> Current<'s> {
    /// As that state shows them. There are none where somebody has changed the table.
    pub fn read(state: &'s State, own: &Own, look: Look) -> Self {
        let rows = Records::open(state, own).map(|records| records.read(state)).unwrap_or_default();
        let list = rows.into_iter().filter(|r| r.withdrawn.is_none()).map(|r| r.exemption).collect();
        Self::of(Exemptions::new(list), state, look)
    }

    pub fn of(exemptions: Exemptions, state: &'s State, look: Look) -> Self {
        Self { exemptions, state, look, known: RefCell::default() }
    }

    /// What an object is made of.
    pub fn basis(&self, object: ObjectId) -> Option<String> {
        if let Some(known) = self.known.borrow().get(&object) {
            return known.clone();
        }
        interrupts();
        let basis = catalog::basis(self.state, object, self.look);
        self.known.borrow_mut().insert(object, basis.clone());
        basis
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.exemptions.list().is_empty()
    }

    /// Whether any of them could be about an object of this name, or about a policy of it.
    pub fn concern(&self, schema: &str, name: &str) -> bool {
        let identity = format!("{}.{}", quote_ident(schema), quote_ident(name));
        self.exemptions.list().iter().any(|e| e.fingerprint.is_none() || e.object.contains(&identity))
    }

    /// Whether any of them could be about a rule.
    pub fn mention(&self, rule: &Rule) -> bool {
        self.exemptions.mention(rule.id)
    }

    /// The findings without those that are accepted, unless they are asked for.
    pub fn apply(&self, findings: Vec<Finding>, with_accepted: bool) -> Vec<Finding> {
        self.exemptions.apply(findings, &|object| self.basis(object), with_accepted)
    }

    /// Whether a finding is accepted.
    pub fn accept(&self, finding: &Finding) -> bool {
        self.exemptions.accept(finding, &|object| self.basis(object))
    }
}

/// The table, open for reading.
pub struct Records {
    table: Table,
    columns: [Column; 11],
}

/// One row of it.
pub struct Record {
    pub exemption: Exemption,
    pub exempted_at: i64,
    pub expires_at: Option<i64>,
    /// When it was taken back, and by whom.
    pub withdrawn: Option<(i64, String)>,
}

/// Its columns with their types.
const COLUMNS: [(&str, pg_sys::Oid); 11] = [
    ("id", pg_sys::INT4OID),
    ("fingerprint", pg_sys::TEXTOID),
    ("rule", pg_sys::TEXTOID),
    ("object", pg_sys::TEXTOID),
    ("reason", pg_sys::TEXTOID),
    ("exempted_at", pg_sys::TIMESTAMPTZOID),
    ("exempted_by", pg_sys::NAMEOID),
    ("expires_at", pg_sys::TIMESTAMPTZOID),
    ("basis", pg_sys::JSONBOID),
    ("withdrawn_at", pg_sys::TIMESTAMPTZOID),
    ("withdrawn_by", pg_sys::NAMEOID),
];

impl Records {
    /// `None` where it is not there, or not as the extension made it.
    pub fn open(state: &State, own: &Own) -> Option<Self> {
        let table = Table::open(own.exemption_table(state)?);
        let found: Vec<Column> =
            COLUMNS.iter().filter_map(|(name, type_oid)| table.find(name).filter(|c| c.type_oid == *type_oid)).collect();
        let columns = found.try_into().ok()?;
        Some(Self { table, columns })
    }

    pub fn read(&self, state: &State) -> Vec<Record> {
        let mut records = Vec::new();
        self.table.scan(state, |row| records.push(self.record(&row)));
        records.sort_by_key(|r| r.exemption.id);
        records
    }

    fn record(&self, row: &Row<'_>) -> Record {
        let [id, fingerprint, rule, object, reason, exempted_at, exempted_by, expires_at, basis, withdrawn_at, withdrawn_by] =
            self.columns;
        let expires_at = row.timestamp(expires_at);
        let exempted_at = row.timestamp(exempted_at).unwrap_or_default();
        // SAFETY: asks the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        let basis = row.raw(basis).map(crate::pg::call::json_text).and_then(|json| serde_json::from_str(&json).ok());
        let text = |column| row.text(column).unwrap_or_default();
        Record {
            exemption: Exemption {
                id: row.int(id),
                fingerprint: row.text(fingerprint),
                rule: text(rule),
                object: text(object),
                reason: text(reason),
                exempted_by: row.name(exempted_by),
                exempted_at: timestamp(exempted_at),
                expires_at: expires_at.map(timestamp),
                is_expired: expires_at.is_some_and(|at| at <= now),
                accepted: basis.unwrap_or_default(),
            },
            exempted_at,
            expires_at,
            withdrawn: row.timestamp(withdrawn_at).map(|at| (at, row.name(withdrawn_by))),
        }
    }
}

//! The table of exemptions: read for audit and guard ([`Current`]), and changed ([`Change`]).

use super::error::{AUDIT_GUARD, Subject, changed_since, table_changed};
use super::lock;
use crate::catalog::{self, Freshness, Own};
use crate::pg::call::{json_datum, json_text};
use crate::pg::clock;
use crate::pg::heap::{Column, Row, State, Table, interrupts};
use crate::pg::text::timestamp;
use crate::pg::write::{as_owner, next_id, text_datum};
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::exemptions::{Accepted, Exemption, Exemptions};
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::Rule;
use dragonfly_core::sql::quote_ident;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// The exemptions in force, with a look at the catalog for what the objects are made of now.
pub struct Current<'s> {
    exemptions: Exemptions,
    state: &'s State,
    freshness: Freshness,
    /// What has been looked at.
    known: RefCell<HashMap<ObjectId, Option<String>>>,
}

impl<'s> Current<'s> {
    /// As that state shows them. There are none where somebody has changed the table.
    pub fn read(state: &'s State, own: &Own, freshness: Freshness) -> Self {
        let list = all(state, own)
            .into_iter()
            .filter(|r| r.withdrawn.is_none())
            .map(|r| r.exemption)
            .collect();
        Self::of(Exemptions::new(list), state, freshness)
    }

    /// None at all, for the objects' hashes alone.
    pub fn none(state: &'s State) -> Self {
        Self::of(Exemptions::default(), state, Freshness::Fresh)
    }

    fn of(exemptions: Exemptions, state: &'s State, freshness: Freshness) -> Self {
        Self { exemptions, state, freshness, known: RefCell::default() }
    }

    /// The hash of an object as it is.
    pub fn object_hash(&self, object: ObjectId) -> Option<String> {
        if let Some(known) = self.known.borrow().get(&object) {
            return known.clone();
        }
        interrupts();
        let hash = catalog::object_hash(self.state, object, self.freshness);
        self.known.borrow_mut().insert(object, hash.clone());
        hash
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.exemptions.list().is_empty()
    }

    /// Whether any of them could be about an object of this name, or about a policy of it.
    pub fn concern(&self, schema: &str, name: &str) -> bool {
        let identity = format!("{}.{}", quote_ident(schema), quote_ident(name));
        self.exemptions
            .list()
            .iter()
            .any(|e| e.fingerprint.is_none() || e.object.contains(&identity))
    }

    /// Whether any of them could be about a rule.
    pub fn mention(&self, rule: &Rule) -> bool {
        self.exemptions.mention(rule.id)
    }

    /// The findings without those that are accepted, unless they are asked for.
    pub fn apply(&self, findings: Vec<Finding>, with_accepted: bool) -> Vec<Finding> {
        self.exemptions.apply(findings, &|object| self.object_hash(object), with_accepted)
    }

    /// Whether a finding is accepted.
    pub fn accept(&self, finding: &Finding) -> bool {
        self.exemptions.accept(finding, &|object| self.object_hash(object))
    }
}

/// Every exemption so far, as that state shows them. There are none where somebody has changed the
/// table.
pub fn all(state: &State, own: &Own) -> Vec<Record> {
    Records::open(state, own).map(|records| records.read(state)).unwrap_or_default()
}

/// The table, open for reading.
struct Records {
    table: Table,
    columns: [Column; 11],
}

/// One row of it.
pub struct Record {
    /// What is exempt.
    pub exemption: Exemption,
    /// Since when.
    pub exempted_at: i64,
    /// Until when.
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
    fn open(state: &State, own: &Own) -> Option<Self> {
        let table = Table::open(own.exemption_table(state)?);
        let found: Vec<Column> = COLUMNS
            .iter()
            .filter_map(|(name, type_oid)| table.find(name).filter(|c| c.type_oid == *type_oid))
            .collect();
        let columns = found.try_into().ok()?;
        Some(Self { table, columns })
    }

    fn read(&self, state: &State) -> Vec<Record> {
        let mut records = Vec::new();
        self.table.scan(state, |row| records.push(self.record(&row)));
        records.sort_by_key(|r| r.exemption.id);
        records
    }

    fn record(&self, row: &Row<'_>) -> Record {
        let [
            id,
            fingerprint,
            rule,
            object,
            reason,
            exempted_at,
            exempted_by,
            expires_at,
            basis,
            withdrawn_at,
            withdrawn_by,
        ] = self.columns;
        let expires_at = row.timestamp(expires_at);
        let exempted_at = row.timestamp(exempted_at).unwrap_or_default();
        let now = clock::now();
        let basis = row.raw(basis).map(json_text).and_then(|json| serde_json::from_str(&json).ok());
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

/// A change of the table; no other session changes it before this transaction ends.
pub struct Change {
    /// The extension's own objects.
    pub own: Own,
    /// The state in which the table was read.
    pub state: State,
    /// Every exemption so far.
    pub records: Vec<Record>,
}

/// An exemption that is to be added.
pub struct New<'a> {
    /// Of the one finding that is exempt, if it is one.
    pub fingerprint: Option<&'a str>,
    /// The rule.
    pub rule: &'a str,
    /// The object, or a pattern of objects.
    pub object: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Until when.
    pub expires_at: Option<i64>,
    /// What is accepted now, by fingerprint.
    pub accepted: &'a BTreeMap<&'a str, Accepted>,
}

impl Change {
    /// Locks and reads the table. An error where another session is just changing it, or has since
    /// this transaction began to see a state of its own.
    pub fn open() -> Self {
        let own = Own::find(&State::now());
        lock::acquire_for_change(&own, "the exemptions");
        let state = State::now();
        let Some(table) = Records::open(&state, &own) else { damaged() };
        let records = table.read(&state);
        let withdrawn =
            |records: &[Record]| records.iter().filter(|r| r.withdrawn.is_some()).count();
        let seen = table.read(&State::of_transaction());
        if (seen.len(), withdrawn(&seen)) != (records.len(), withdrawn(&records)) {
            changed_since(&Subject { has: "the exemptions have", view: "ops.v_exemptions" });
        }
        Self { own, state, records }
    }

    /// Adds an exemption and returns its id.
    pub fn add(&self, new: &New<'_>) -> i32 {
        let id = next_id(self.records.last().map(|r| r.exemption.id));
        let accepted = json_datum(&serde_json::to_value(new.accepted).expect("texts are JSON"));
        as_owner(
            self.table(),
            |table| {
                format!(
                    "INSERT INTO {table} (id, fingerprint, rule, object, reason, expires_at, basis) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                )
            },
            &[
                (pg_sys::INT4OID, Some(pg_sys::Datum::from(id))),
                (pg_sys::TEXTOID, new.fingerprint.map(text_datum)),
                (pg_sys::TEXTOID, Some(text_datum(new.rule))),
                (pg_sys::TEXTOID, Some(text_datum(new.object))),
                (pg_sys::TEXTOID, Some(text_datum(new.reason))),
                (pg_sys::TIMESTAMPTZOID, new.expires_at.map(pg_sys::Datum::from)),
                (pg_sys::JSONBOID, Some(accepted)),
            ],
        );
        id
    }

    /// Withdraws an exemption.
    pub fn withdraw(&self, id: i32) {
        as_owner(
            self.table(),
            |table| {
                format!(
                    "UPDATE {table} SET withdrawn_at = pg_catalog.now(), withdrawn_by = SESSION_USER \
                     WHERE id OPERATOR(pg_catalog.=) $1"
                )
            },
            &[(pg_sys::INT4OID, Some(pg_sys::Datum::from(id)))],
        );
    }

    fn table(&self) -> Oid {
        self.own.exemption_table(&self.state).unwrap_or_else(|| damaged())
    }
}

fn damaged() -> ! {
    table_changed(
        "exemption",
        "Nothing is exempt until it is as the extension made it.",
        AUDIT_GUARD,
    )
}

//! The table of exemptions: reading it for audit and guard ([`Current`]), and changing it
//! ([`Change`]).

use super::error::{AUDIT_GUARD, Subject, changed_since, table_changed};
use super::lock;
use crate::catalog::{self, Freshness, Own};
use crate::pg::call::{json_datum, json_text};
use crate::pg::clock;
use crate::pg::heap::{Row, State, Table, interrupts};
use crate::pg::text::timestamp;
use crate::pg::write::{as_owner, next_id, text_datum};
use dragonfly_core::audit::InForce;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::exemptions::{Accepted, Exemption, Exemptions, Status, object_name};
use dragonfly_core::finding::Finding;
use dragonfly_core::rule::Rule;
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The exemptions in force, with the catalog state from which the objects' hashes are computed.
pub struct Current<'s> {
    exemptions: Exemptions,
    state: &'s State,
    freshness: Freshness,
    /// The hashes that have been computed.
    hashes: RefCell<HashMap<ObjectId, Option<String>>>,
}

impl<'s> Current<'s> {
    /// Reads the exemptions in a state of the catalogs: none where the table has been altered.
    pub fn read(state: &'s State, own: &Own, freshness: Freshness) -> Self {
        let records = Records::open(state, own).map(|records| records.not_withdrawn(state));
        let list = records.unwrap_or_default().into_iter().map(|r| r.exemption).collect();
        Self::of(Exemptions::new(list), state, freshness)
    }

    /// Returns no exemptions, for callers that need the objects' hashes only.
    pub fn none(state: &'s State) -> Self {
        Self::of(Exemptions::default(), state, Freshness::Fresh)
    }

    fn of(exemptions: Exemptions, state: &'s State, freshness: Freshness) -> Self {
        Self { exemptions, state, freshness, hashes: RefCell::default() }
    }

    /// Returns the hash of an object.
    pub fn object_hash(&self, object: ObjectId) -> Option<String> {
        if let Some(hash) = self.hashes.borrow().get(&object) {
            return hash.clone();
        }
        interrupts();
        let hash = catalog::object_hash(self.state, object, self.freshness);
        self.hashes.borrow_mut().insert(object, hash.clone());
        hash
    }

    /// Whether there are no exemptions.
    pub fn is_empty(&self) -> bool {
        self.exemptions.list().is_empty()
    }

    /// Whether the status of an exemption can depend on the hash of a relation, or of a policy on
    /// it, or of a routine. `identity` is that of the relation or routine.
    pub fn rest_on(&self, object: ObjectId, identity: &str) -> bool {
        self.exemptions.rest_on(object, identity)
    }

    /// Returns the names (schema and name, quoted) of the objects on whose definition exemptions
    /// are based.
    pub fn basis(&self) -> HashSet<&str> {
        let mut names = self.exemptions.basis();
        // An exemption by pattern accepts routines only as they were.
        let by_pattern = self.exemptions.list().iter().filter(|e| e.fingerprint.is_none());
        names.extend(by_pattern.map(|e| object_name(&e.object)));
        names
    }

    /// Returns the exemption with the strongest status for a finding, whatever the status is.
    pub fn about(&self, finding: &Finding) -> Option<(&Exemption, Status)> {
        self.exemptions.of(finding, &|object| self.object_hash(object))
    }

    /// Returns the exemption that a finding had while its object had an `earlier` name.
    pub fn of_name(&self, finding: &Finding, earlier: &str) -> Option<&Exemption> {
        self.exemptions.of_name(finding, earlier)
    }

    /// Returns the rules of the exemptions that are based on an object with one of some names.
    pub fn rules_about(&self, is_named: impl Fn(&str) -> bool) -> Vec<&'static Rule> {
        self.exemptions.rules_about(is_named)
    }

    /// Returns the state of the catalogs.
    pub fn state(&self) -> &'s State {
        self.state
    }
}

impl InForce for Current<'_> {
    fn mention(&self, rule: &Rule) -> bool {
        self.exemptions.mention(rule.id)
    }

    fn apply(&self, findings: Vec<Finding>, with_exempt: bool) -> Vec<Finding> {
        self.exemptions.apply(findings, &|object| self.object_hash(object), with_exempt)
    }

    fn accept(&self, finding: &Finding) -> bool {
        self.exemptions.accept(finding, &|object| self.object_hash(object))
    }
}

/// Returns all exemptions, withdrawn ones included, in a state of the catalogs: none where the
/// table has been altered.
pub fn all(state: &State, own: &Own) -> Vec<Record> {
    let records = Records::open(state, own).map(|records| records.read(state, |_| true));
    records.unwrap_or_default()
}

/// The table, open for reading.
struct Records {
    table: Table,
    columns: [Column; 12],
}

/// One row of the table.
pub struct Record {
    /// The exemption.
    pub exemption: Exemption,
    /// When it was created, in microseconds since 2000.
    pub exempted_at: i64,
    /// When it expires, in microseconds since 2000.
    pub expires_at: Option<i64>,
    /// When it was withdrawn, in microseconds since 2000, and the role that withdrew it.
    pub withdrawn: Option<(i64, String)>,
}

/// The columns of the table with their types.
const COLUMNS: [(&str, pg_sys::Oid); 12] = [
    ("id", pg_sys::INT4OID),
    ("fingerprint", pg_sys::TEXTOID),
    ("rule", pg_sys::TEXTOID),
    ("object", pg_sys::TEXTOID),
    ("reason", pg_sys::TEXTOID),
    ("exempted_at", pg_sys::TIMESTAMPTZOID),
    ("exempted_by", pg_sys::NAMEOID),
    ("expires_at", pg_sys::TIMESTAMPTZOID),
    ("basis", pg_sys::JSONBOID),
    ("role_name", pg_sys::NAMEOID),
    ("withdrawn_at", pg_sys::TIMESTAMPTZOID),
    ("withdrawn_by", pg_sys::NAMEOID),
];

impl Records {
    /// Opens the table; `None` where it does not exist or has been altered.
    fn open(state: &State, own: &Own) -> Option<Self> {
        let table = Table::open(own.exemption_table(state)?);
        let found: Vec<Column> = COLUMNS
            .iter()
            .filter_map(|(name, type_oid)| table.find_of_type(name, *type_oid))
            .collect();
        let columns = found.try_into().ok()?;
        Some(Self { table, columns })
    }

    /// Reads some exemptions, in the order of their ids.
    fn read(&self, state: &State, is_wanted: impl Fn(&Row<'_>) -> bool) -> Vec<Record> {
        let mut records = Vec::new();
        self.table.scan(state, |row| {
            if is_wanted(&row) {
                records.push(self.record(&row));
            }
        });
        records.sort_by_key(|r| r.exemption.id);
        records
    }

    /// Reads the exemptions that are not withdrawn. Withdrawn ones stay in the table for ever, and
    /// only those who list them have to keep them in memory.
    fn not_withdrawn(&self, state: &State) -> Vec<Record> {
        self.read(state, |row| !self.is_withdrawn(row))
    }

    fn is_withdrawn(&self, row: &Row<'_>) -> bool {
        let [.., withdrawn_at, _] = self.columns;
        !row.is_null(withdrawn_at)
    }

    fn tally(&self, state: &State) -> Tally {
        let [id, ..] = self.columns;
        let mut tally = Tally::default();
        self.table.scan(state, |row| {
            tally.all += 1;
            tally.withdrawn += usize::from(self.is_withdrawn(&row));
            tally.last = tally.last.max(Some(row.int(id)));
        });
        tally
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
            role_name,
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
                role: (!row.is_null(role_name)).then(|| row.name(role_name)),
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

/// What changes whenever an exemption is added or withdrawn.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// The number of all exemptions.
    all: usize,
    /// The number of withdrawn ones.
    withdrawn: usize,
    /// The highest id.
    last: Option<i32>,
}

/// A change of the table; no other session can change it before this transaction ends.
pub struct Change {
    /// The extension's own objects.
    pub own: Own,
    /// The state in which the table was read.
    pub state: State,
    /// The exemptions that are not withdrawn.
    pub records: Vec<Record>,
    /// The highest id of all exemptions.
    last: Option<i32>,
}

/// An exemption to add.
pub struct New<'a> {
    /// The fingerprint of the exempt finding; `None` for an exemption by rule and object.
    pub fingerprint: Option<&'a str>,
    /// The rule.
    pub rule: &'a str,
    /// The object, or a pattern of objects.
    pub object: &'a str,
    /// For an exemption by rule and object: the role whose findings are exempt; `None` for every
    /// role.
    pub role: Option<&'a str>,
    /// The reason.
    pub reason: &'a str,
    /// When it expires, in microseconds since 2000.
    pub expires_at: Option<i64>,
    /// What it accepts now, as in [`Exemption::accepted`].
    pub accepted: &'a BTreeMap<String, Accepted>,
}

impl Change {
    /// Locks and reads the table. Raises an error where another session is changing it, or has
    /// changed it since this transaction took its snapshot.
    pub fn open() -> Self {
        let own = catalog::find_own(&State::now());
        lock::acquire_for_change(&own, "the exemptions");
        let state = State::now();
        let Some(table) = Records::open(&state, &own) else { altered() };
        let tally = table.tally(&state);
        if table.tally(&State::of_transaction()) != tally {
            changed_since(&Subject { name: "the exemptions", view: "ops.v_exemptions" });
        }
        let records = table.not_withdrawn(&state);
        Self { own, state, records, last: tally.last }
    }

    /// Adds an exemption and returns its id.
    pub fn add(&mut self, new: &New<'_>) -> i32 {
        let id = next_id(self.last);
        self.last = Some(id);
        let accepted = json_datum(&serde_json::to_value(new.accepted).expect("texts are JSON"));
        as_owner(
            self.table(),
            |table| {
                format!(
                    "INSERT INTO {table} \
                     (id, fingerprint, rule, object, reason, expires_at, basis, role_name) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8::pg_catalog.name)"
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
                (pg_sys::TEXTOID, new.role.map(text_datum)),
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
                    "UPDATE {table} \
                     SET withdrawn_at = pg_catalog.now(), withdrawn_by = SESSION_USER \
                     WHERE id OPERATOR(pg_catalog.=) $1"
                )
            },
            &[(pg_sys::INT4OID, Some(pg_sys::Datum::from(id)))],
        );
    }

    fn table(&self) -> Oid {
        self.own.exemption_table(&self.state).unwrap_or_else(|| altered())
    }
}

fn altered() -> ! {
    table_changed(
        "exemption",
        "No exemption is in force until the table has its original definition.",
        AUDIT_GUARD,
    )
}

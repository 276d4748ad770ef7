//! The table of contracts: the contract in force, and every one before it.

use super::error::{Subject, changed_since, table_changed};
use super::lock;
use crate::catalog::Own;
use crate::pg::call::{json_datum, json_text};
use crate::pg::heap::{Column, Row, State, Table};
use crate::pg::report::Report;
use crate::pg::write::{as_owner, next_id, text_datum};
use dragonfly_core::contract::Contract;
use pgrx::{PgSqlErrorCode, pg_sys};
use semver::Version;
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// The last contract that was read, with the bytes it was read from: reading the same again
    /// costs one comparison.
    static LAST: RefCell<Option<(Vec<u8>, Rc<Contract>)>> = const { RefCell::new(None) };
}

/// The contract in force. An error where there is none, or what is there is no contract.
pub fn in_force(snapshot: &State, own: &Own) -> Rc<Contract> {
    let contracts = Contracts::open(own);
    let found = contracts.newest_row(snapshot, |row| {
        let bytes = row.bytes(contracts.document)?;
        let same = |(known, _): &&(Vec<u8>, Rc<Contract>)| *known == bytes;
        let known = LAST.with_borrow(|last| last.as_ref().filter(same).map(|(_, contract)| Rc::clone(contract)));
        if known.is_some() {
            return known;
        }
        let contract = Rc::new(Contract::from_stored(&contracts.text(row)?).unwrap_or_else(|e| {
            Report {
                message: "the security contract in force is not valid".into(),
                detail: format!("{e}."),
                hint: "Load another with ops.load_contract(); until then a superuser can SET dragonfly_guard.mode = off."
                    .into(),
            }
            .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
        }));
        LAST.set(Some((bytes, Rc::clone(&contract))));
        Some(contract)
    });
    found.unwrap_or_else(|| none_in_force())
}

/// The document in force, as it was loaded, as JSON text. An error where there is none.
pub fn document_in_force(state: &State, own: &Own) -> String {
    let contracts = Contracts::open(own);
    contracts.newest_row(state, |row| contracts.text(row)).unwrap_or_else(|| none_in_force())
}

/// The highest version that a contract has had so far.
pub fn highest_version(state: &State, own: &Own) -> Version {
    let past = past(&Contracts::open(own), state);
    highest(&past).map_or(Version::new(0, 0, 0), |p| p.version.clone())
}

fn none_in_force() -> ! {
    Report {
        message: "there is no security contract in force".into(),
        detail: "The table dragonfly_guard.contract has no row with a document.".into(),
        hint: "Load one with ops.load_contract(); dragonfly_guard.default_contract() is the one that ships.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// The table of contracts, open for reading.
struct Contracts {
    table: Table,
    id: Column,
    document: Column,
}

impl Contracts {
    /// An error where somebody has changed the columns that are read.
    fn open(own: &Own) -> Self {
        let table = Table::open(own.contract_table);
        let typed = |name: &str, type_oid: pg_sys::Oid| {
            table.find(name).filter(|column| column.type_oid == type_oid).unwrap_or_else(|| {
                table_changed(
                    "contract",
                    format!("Its column \"{name}\" is missing or of another type."),
                    "Put the column back; until then a superuser can SET dragonfly_guard.mode = off.",
                )
            })
        };
        let (id, document) = (typed("id", pg_sys::INT4OID), typed("document", pg_sys::JSONBOID));
        Self { table, id, document }
    }

    /// The document of a row, as text.
    fn text(&self, row: &Row<'_>) -> Option<String> {
        row.raw(self.document).map(json_text)
    }

    /// Shows the row in force, the one with the highest id, to `look`.
    fn newest_row<T>(
        &self,
        snapshot: &State,
        look: impl FnOnce(&Row<'_>) -> Option<T>,
    ) -> Option<T> {
        let newest = self.newest(snapshot)?;
        let (mut look, mut result) = (Some(look), None);
        self.table.scan(snapshot, |row| {
            if row.int(self.id) == newest
                && let Some(look) = look.take()
            {
                result = look(&row);
            }
        });
        result
    }

    /// The highest id.
    fn newest(&self, snapshot: &State) -> Option<i32> {
        let mut newest = None;
        self.table.scan(snapshot, |row| newest = newest.max(Some(row.int(self.id))));
        newest
    }
}

/// One contract that has been in force.
pub struct Past {
    id: i32,
    /// Its version.
    pub version: Version,
    /// `None` where what is there is none (any more).
    pub contract: Option<Contract>,
    /// As it was loaded.
    pub document: String,
}

/// Every contract so far, the one in force last.
fn past(contracts: &Contracts, state: &State) -> Vec<Past> {
    let mut past = Vec::new();
    contracts.table.scan(state, |row| {
        let document = contracts.text(&row).unwrap_or_default();
        let contract = Contract::from_stored(&document).ok();
        let version = contract.as_ref().map_or(Version::new(0, 0, 0), version);
        past.push(Past { id: row.int(contracts.id), version, contract, document });
    });
    past.sort_by_key(|p| p.id);
    past
}

fn highest(past: &[Past]) -> Option<&Past> {
    past.iter().max_by(|a, b| a.version.cmp_precedence(&b.version))
}

/// The version of a contract that has been checked.
pub fn version(contract: &Contract) -> Version {
    Version::parse(&contract.version).expect("a semantic version")
}

/// Every contract so far, the one in force last; no other session adds to it before the transaction
/// ends.
pub struct History {
    /// The extension's own objects.
    pub own: Own,
    /// The state in which it was read.
    pub state: State,
    /// The contracts.
    pub past: Vec<Past>,
}

impl History {
    /// Locks and reads it. An error where another session is just changing it, or has since this
    /// transaction began to see a state of its own.
    pub fn open() -> Self {
        let own = Own::find(&State::now());
        lock::acquire_for_change(&own, "the security contract");
        let state = State::now();
        let contracts = Contracts::open(&own);
        if contracts.newest(&State::of_transaction()) < contracts.newest(&state) {
            changed_since(&Subject {
                has: "the security contract has",
                view: "ops.contract_history",
            });
        }
        let past = past(&contracts, &state);
        Self { own, state, past }
    }

    /// The contract of the highest version.
    pub fn highest(&self) -> Option<&Past> {
        highest(&self.past)
    }

    /// Adds a contract, which is in force from now on. The document is stored as it was given, and
    /// not as it was understood.
    pub fn add(&self, document: &str, note: Option<&str>) {
        let id = next_id(self.past.last().map(|p| p.id)).max(2);
        let document = json_datum(&serde_json::from_str(document).expect("a contract is JSON"));
        as_owner(
            self.own.contract_table,
            |table| format!("INSERT INTO {table} (id, document, note) VALUES ($1, $2, $3)"),
            &[
                (pg_sys::INT4OID, Some(pg_sys::Datum::from(id))),
                (pg_sys::JSONBOID, Some(document)),
                (pg_sys::TEXTOID, note.map(text_datum)),
            ],
        );
    }
}

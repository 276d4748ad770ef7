//! The table of contracts: the contract in force and all earlier ones.

use super::error::{Subject, changed_since, table_changed};
use super::lock;
use crate::catalog::{self, Own};
use crate::pg::call::{json_datum, json_field, json_text};
use crate::pg::heap::{Row, State, Stored, Table};
use crate::pg::report::Report;
use crate::pg::scratch::Scratch;
use crate::pg::write::{as_owner, next_id, text_datum};
use dragonfly_core::catalog::Oid;
use dragonfly_core::contract::Contract;
use dragonfly_core::guard::RUNBOOK;
use dragonfly_reader::Column;
use pgrx::{PgSqlErrorCode, pg_sys};
use semver::Version;
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// The contract that was read last.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// The contract that was read last, with its document: reading the same row again takes one
/// comparison of what is stored in it, and reading the same document in another row one of both.
struct Last {
    stored: (Oid, Stored),
    document: Vec<u8>,
    contract: Rc<Contract>,
}

/// Returns the contract in force; `None` where there is none, or it is not valid, or its table has
/// been altered.
pub fn valid_in_force(snapshot: &State) -> Option<Rc<Contract>> {
    let contracts = Contracts::opened(&Own::complete(snapshot)?).ok()?;
    contracts.newest_row(snapshot, |row| known_or_read(&contracts, row)?.ok())
}

/// Returns the contract of a row: the one that was read last, where it has the same bytes.
fn known_or_read(contracts: &Contracts, row: &Row<'_>) -> Option<Result<Rc<Contract>, String>> {
    let stored = (contracts.table.storage(), row.stored(contracts.document)?);
    let known = |is_it: &dyn Fn(&Last) -> bool| {
        LAST.with_borrow(|last| {
            last.as_ref().filter(|last| is_it(last)).map(|last| Rc::clone(&last.contract))
        })
    };
    if let Some(contract) = known(&|last| last.stored == stored) {
        return Some(Ok(contract));
    }
    let document = row.bytes(contracts.document)?;
    let contract = match known(&|last| last.document == document) {
        Some(contract) => contract,
        None => match Contract::from_stored(&contracts.text(row)?) {
            Ok(contract) => Rc::new(contract),
            Err(error) => return Some(Err(error.to_string())),
        },
    };
    LAST.set(Some(Last { stored, document, contract: Rc::clone(&contract) }));
    Some(Ok(contract))
}

/// Returns the contract in force. Raises an error where there is none, or it is not valid.
pub fn in_force(snapshot: &State, own: &Own) -> Rc<Contract> {
    let contracts = Contracts::open(own);
    let found = contracts.newest_row(snapshot, |row| {
        let read = known_or_read(&contracts, row)?;
        Some(read.unwrap_or_else(|error| {
            Report {
                message: "the security contract in force is not valid".into(),
                detail: format!("{error}."),
                hint: format!(
                    "Load a valid contract with ops.load_contract(). Until then, run SET \
                     dragonfly_guard.mode = off; as a superuser to work without the guard. \
                     {RUNBOOK}"
                ),
            }
            .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
        }))
    });
    found.unwrap_or_else(|| none_in_force())
}

/// Returns the document of the contract in force, as it was loaded, as JSON text. Raises an error
/// where there is none.
pub fn document_in_force(state: &State, own: &Own) -> String {
    let contracts = Contracts::open(own);
    contracts.newest_row(state, |row| contracts.text(row)).unwrap_or_else(|| none_in_force())
}

/// Returns the document of the contract that was the last with this version, as JSON text; `None`
/// where none had it.
pub fn document_of(state: &State, own: &Own, version: &str) -> Option<String> {
    let contracts = Contracts::open(own);
    let past = contracts.past(state);
    let found = past.iter().rev().find(|past| past.version.to_string() == version)?;
    contracts.row(found.id, state, |row| contracts.text(row))
}

/// Returns the versions of all contracts, each once, the earliest first.
pub fn versions(state: &State, own: &Own) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for past in Contracts::open(own).past(state) {
        let version = past.version.to_string();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

/// Returns the highest version of all contracts; 0.0.0 where there is none.
pub fn highest_version(state: &State, own: &Own) -> Version {
    let past = Contracts::open(own).past(state);
    highest(&past).map_or(NO_VERSION, |p| p.version.clone())
}

/// Whether the contract in force is the one that CREATE EXTENSION puts into force.
pub fn is_shipped(state: &State, own: &Own) -> bool {
    let contracts = Contracts::open(own);
    let document = |id| contracts.row(id, state, |row| row.bytes(contracts.document));
    contracts
        .newest(state)
        .is_some_and(|newest| newest == SHIPPED || document(newest) == document(SHIPPED))
}

/// The id of the contract that the install script inserts.
const SHIPPED: i32 = 1;

fn none_in_force() -> ! {
    Report {
        message: "no security contract is in force".into(),
        detail: "Table dragonfly_guard.contract has no row with a document.".into(),
        hint: format!(
            "SELECT ops.load_contract(dragonfly_guard.default_contract()); loads the contract that \
             the extension ships. {RUNBOOK}"
        ),
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
    /// Opens the table. Raises an error where a column that is read has been altered.
    fn open(own: &Own) -> Self {
        Self::opened(own).unwrap_or_else(|name| {
            table_changed(
                "contract",
                format!("Column \"{name}\" is missing or has another type."),
                "Restore the column. Until then, run SET dragonfly_guard.mode = off; as a \
                 superuser to work without the guard.",
            )
        })
    }

    /// Opens the table.
    ///
    /// # Errors
    /// The name of a column that is read and has been altered.
    fn opened(own: &Own) -> Result<Self, &'static str> {
        let table = Table::open(own.contract_table);
        let typed = |name: &'static str, type_oid: pg_sys::Oid| {
            table.find_of_type(name, type_oid).ok_or(name)
        };
        let (id, document) = (typed("id", pg_sys::INT4OID)?, typed("document", pg_sys::JSONBOID)?);
        Ok(Self { table, id, document })
    }

    /// Returns the document of a row as JSON text.
    fn text(&self, row: &Row<'_>) -> Option<String> {
        row.raw(self.document).map(json_text)
    }

    /// Calls `read` with the row in force, which is the one with the highest id.
    fn newest_row<T>(
        &self,
        snapshot: &State,
        read: impl FnOnce(&Row<'_>) -> Option<T>,
    ) -> Option<T> {
        self.row(self.newest(snapshot)?, snapshot, read)
    }

    /// Calls `read` with the row with an id.
    fn row<T>(
        &self,
        id: i32,
        snapshot: &State,
        read: impl FnOnce(&Row<'_>) -> Option<T>,
    ) -> Option<T> {
        let (mut read, mut result) = (Some(read), None);
        self.table.scan(snapshot, |row| {
            if row.int(self.id) == id
                && let Some(read) = read.take()
            {
                result = read(&row);
            }
        });
        result
    }

    /// Returns the highest id.
    fn newest(&self, snapshot: &State) -> Option<i32> {
        let mut newest = None;
        self.table.scan(snapshot, |row| newest = newest.max(Some(row.int(self.id))));
        newest
    }

    /// Returns all contracts, the one in force last. Of each only the version is read: there can be
    /// thousands of them.
    fn past(&self, state: &State) -> Vec<Past> {
        let (memory, mut past) = (Scratch::new(), Vec::new());
        self.table.scan(state, |row| {
            let version = memory.with(|| json_field(row.raw(self.document)?, "version"));
            let version = version.and_then(|version| Version::parse(&version).ok());
            past.push(Past { id: row.int(self.id), version: version.unwrap_or(NO_VERSION) });
        });
        past.sort_by_key(|p| p.id);
        past
    }
}

/// The version of a document that has none.
const NO_VERSION: Version = Version::new(0, 0, 0);

/// A contract that is or has been in force.
pub struct Past {
    id: i32,
    /// Its version.
    pub version: Version,
}

fn highest(past: &[Past]) -> Option<&Past> {
    past.iter().max_by(|a, b| a.version.cmp_precedence(&b.version))
}

/// Returns the version of a valid contract.
pub fn version(contract: &Contract) -> Version {
    Version::parse(&contract.version).expect("a semantic version")
}

/// Returns the next minor version after the highest version of all contracts.
pub fn next_version(highest: &Version) -> Version {
    if highest.minor < u64::from(u32::MAX) {
        Version::new(highest.major, highest.minor + 1, 0)
    } else {
        Version::new(highest.major + 1, 0, 0)
    }
}

/// All contracts, the one in force last; no other session can add one before this transaction
/// ends.
pub struct History {
    /// The extension's own objects.
    pub own: Own,
    /// The state in which the table was read.
    pub state: State,
    /// The contracts, the one in force last.
    pub past: Vec<Past>,
}

impl History {
    /// Locks and reads the table. Raises an error where another session is changing it, or has
    /// changed it since this transaction took its snapshot.
    pub fn open() -> Self {
        let own = catalog::find_own(&State::now());
        lock::acquire_for_change(&own, "the security contract");
        let state = State::now();
        let contracts = Contracts::open(&own);
        if contracts.newest(&State::of_transaction()) < contracts.newest(&state) {
            changed_since(&Subject { name: "the security contract", view: "ops.contract_history" });
        }
        let past = contracts.past(&state);
        Self { own, state, past }
    }

    /// Returns a contract and its document, as it was loaded; `None` where the document is not
    /// valid, or no longer.
    pub fn read(&self, past: &Past) -> Option<(Contract, String)> {
        let contracts = Contracts::open(&self.own);
        let document = contracts.row(past.id, &self.state, |row| contracts.text(row))?;
        Some((Contract::from_stored(&document).ok()?, document))
    }

    /// Returns the contract with the highest version.
    pub fn highest(&self) -> Option<&Past> {
        highest(&self.past)
    }

    /// Adds a contract and puts it in force. The document is stored as it was given, not as it was
    /// parsed.
    pub fn add(&self, document: &str, note: Option<&str>) {
        let id = next_id(self.past.last().map(|p| p.id)).max(SHIPPED + 1);
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

//! The contract in force, as the extension's own table holds it.

use crate::catalog::Own;
use crate::pg::call::{Call, json_datum, json_text, sql_function};
use crate::pg::heap::{Column, Row, State, Table, interrupts};
use crate::pg::report::Report;
use dragonfly_core::contract::{Contract, Examined, Severity, examine_interruptibly};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// The last contract that was read, with the bytes it was read from: reading the same again costs one comparison.
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

fn none_in_force() -> ! {
    Report {
        message: "there is no security contract in force".into(),
        detail: "The table dragonfly_guard.contract has no row with a document.".into(),
        hint: "Load one with ops.load_contract(); dragonfly_guard.default_contract() is the one that ships.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// The table of contracts, open for reading.
pub struct Contracts {
    pub table: Table,
    pub id: Column,
    document: Column,
}

impl Contracts {
    /// An error where somebody has changed the columns that are read.
    pub fn open(own: &Own) -> Self {
        let table = Table::open(own.contract_table);
        let typed = |name: &str, type_oid: pg_sys::Oid| {
            table.find(name).filter(|column| column.type_oid == type_oid).unwrap_or_else(|| {
                Report {
                    message: "the table dragonfly_guard.contract has been changed".into(),
                    detail: format!("Its column \"{name}\" is missing or of another type."),
                    hint: "Put the column back; until then a superuser can SET dragonfly_guard.mode = off.".into(),
                }
                .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
            })
        };
        let (id, document) = (typed("id", pg_sys::INT4OID), typed("document", pg_sys::JSONBOID));
        Self { table, id, document }
    }

    /// The document of a row, as text.
    pub fn text(&self, row: &Row<'_>) -> Option<String> {
        row.raw(self.document).map(json_text)
    }

    /// Shows the row in force, the one with the highest id, to `look`.
    fn newest_row<T>(&self, snapshot: &State, look: impl FnOnce(&Row<'_>) -> Option<T>) -> Option<T> {
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
    pub fn newest(&self, snapshot: &State) -> Option<i32> {
        let mut newest = None;
        self.table.scan(snapshot, |row| newest = newest.max(Some(row.int(self.id))));
        newest
    }
}

sql_function!(
    /// `ops.contract() RETURNS jsonb`
    ops_contract => contract
);
fn contract(_: Call) -> pg_sys::Datum {
    let snapshot = State::now();
    let own = Own::find(&snapshot);
    let contracts = Contracts::open(&own);
    let text = contracts.newest_row(&snapshot, |row| contracts.text(row)).unwrap_or_else(|| none_in_force());
    let json = serde_json::from_str(&text).unwrap_or_else(|e| pgrx::error!("jsonb_out gave no JSON: {e}"));
    json_datum(&json)
}

sql_function!(
    /// `dragonfly_guard.default_contract() RETURNS jsonb`
    guard_default_contract => default_contract
);
fn default_contract(_: Call) -> pg_sys::Datum {
    let json = serde_json::from_str(dragonfly_core::contract::DEFAULT).expect("the shipped contract is JSON");
    json_datum(&json)
}

sql_function!(
    /// `dragonfly_guard.is_contract(jsonb) RETURNS boolean`: true, or an error that says where the document is wrong.
    guard_is_contract => is_contract
);
fn is_contract(call: Call) -> pg_sys::Datum {
    let Some(text) = call.json_text(0) else { return call.null() };
    valid(&text);
    pg_sys::Datum::from(true)
}

/// The contract in a document; an error where it is none.
pub fn valid(text: &str) -> Contract {
    let Examined { contract, problems } = examine_interruptibly(text, &interrupts);
    contract.unwrap_or_else(|| {
        let errors: Vec<String> =
            problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect();
        let shown = errors.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        let more = errors.len().saturating_sub(SHOWN);
        Report {
            message: "not a valid security contract".into(),
            detail: if more > 0 { format!("{shown}\n... and {more} more.") } else { format!("{shown}.") },
            hint: "SELECT * FROM ops.validate_contract(...) lists everything that is wrong with it; ops.contract() is a valid one.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    })
}

/// How much of what is wrong an error repeats.
const SHOWN: usize = 10;

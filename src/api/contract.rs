//! `ops.load_contract()` and `ops.rollback_contract()`: another contract comes into force, whole or not at all.

use super::permission;
use crate::audit;
use crate::catalog::Own;
use crate::pg::call::{Call, Value, json_datum, sql_function};
use crate::pg::heap::State;
use crate::pg::report::Report;
use crate::pg::write::{as_owner, next_id, text_datum};
use crate::store::contract::{Contracts, valid};
use dragonfly_core::contract::{Contract, changes};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};
use semver::Version;
use std::collections::HashSet;

sql_function!(
    /// `ops.load_contract(contract jsonb, note text)`
    ops_load_contract => of_jsonb
);
fn of_jsonb(call: Call) -> pg_sys::Datum {
    load(call, call.json_text(0))
}

sql_function!(
    /// `ops.load_contract(contract text, note text)`
    ops_load_contract_text => of_text
);
fn of_text(call: Call) -> pg_sys::Datum {
    load(call, call.text(0))
}

fn load(call: Call, document: Option<String>) -> pg_sys::Datum {
    let document = document.unwrap_or_else(|| {
        Report { message: "contract must not be null".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
    });
    permission::check(call);
    let contract = valid(&document);
    let history = History::open();
    if let Some(highest) = highest(&history.past)
        && version(&contract).cmp_precedence(&highest.version).is_le()
    {
        let same = contract.version == highest.version.to_string() && highest.contract.as_ref() == Some(&contract);
        Report {
            message: format!("contract {} is not higher than {}", contract.version, highest.version),
            detail: match same {
                true => "The same contract has been loaded already.".into(),
                false => {
                    "Each contract has a higher version than all that were loaded before it, so that a version says what it is."
                        .into()
                }
            },
            hint: "Raise its version; to go back to an earlier one, SELECT * FROM ops.rollback_contract('...').".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE);
    }
    history.put_into_force(call, &contract, &document, call.text(1))
}

sql_function!(
    /// `ops.rollback_contract(to_version text, note text)`
    ops_rollback_contract => rollback
);
fn rollback(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let history = History::open();
    let current = history.past.last().map(|p| p.version.to_string());
    let earlier = history.past.iter().rev().skip(1);
    // What was in force before this version came; going back twice leads two steps back.
    let came = history.past.iter().position(|p| current.as_ref().is_some_and(|version| p.version.to_string() == *version));
    let wanted = call.text(0);
    let found = match &wanted {
        Some(version) if current.as_ref() == Some(version) => {
            Report { message: format!("contract {version} is in force already"), ..Report::default() }
                .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
        }
        Some(version) => earlier.clone().find(|p| p.version.to_string() == *version),
        None => came.and_then(|came| came.checked_sub(1)).map(|before| &history.past[before]),
    };
    let Some((contract, document)) = found.and_then(|p| Some((p.contract.as_ref()?, &p.document))) else {
        let mut known: Vec<String> = earlier.filter(|p| p.contract.is_some()).map(|p| p.version.to_string()).collect();
        known.dedup();
        Report {
            message: match &wanted {
                Some(version) => format!("there was no contract {}", printable(version)),
                None => "there was no contract before the one in force".into(),
            },
            detail: if known.is_empty() { String::new() } else { format!("Earlier ones: {}.", known.join(", ")) },
            hint: "SELECT * FROM ops.contract_history shows them.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    };
    let note = call.text(1).unwrap_or_else(|| format!("Rolled back from {}", current.unwrap_or_default()));
    history.put_into_force(call, contract, document, Some(note))
}

fn highest(past: &[Past]) -> Option<&Past> {
    past.iter().max_by(|a, b| a.version.cmp_precedence(&b.version))
}

/// The highest version that a contract has had so far.
pub fn highest_version(state: &State, own: &Own) -> Version {
    let past = past(&Contracts::open(own), state);
    highest(&past).map_or(Version::new(0, 0, 0), |p| p.version.clone())
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

/// The version of a contract that has been checked.
fn version(contract: &Contract) -> Version {
    Version::parse(&contract.version).expect("a semantic version")
}

/// One contract that has been in force.
struct Past {
    id: i32,
    version: Version,
    /// `None` where what is there is none (any more).
    contract: Option<Contract>,
    /// As it was loaded.
    document: String,
}

/// Every contract so far, the one in force last; nobody else adds to it before the transaction ends.
struct History {
    own: Own,
    state: State,
    past: Vec<Past>,
}

impl History {
    /// An error where somebody else is just changing it, or has since this transaction began to see a state of its own.
    fn open() -> Self {
        let own = Own::find(&State::now());
        own.change("the security contract");
        let state = State::now();
        let contracts = Contracts::open(&own);
        if contracts.newest(&State::of_transaction()) < contracts.newest(&state) {
            Report {
                message: "could not serialize access: the security contract has changed since this transaction began".into(),
                detail: String::new(),
                hint: "SELECT * FROM ops.contract_history shows how; try again in a new transaction.".into(),
            }
            .error(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE);
        }
        let past = past(&contracts, &state);
        Self { own, state, past }
    }

    /// Writes the contract down and says what follows from it.
    fn put_into_force(&self, call: Call, contract: &Contract, document: &str, note: Option<String>) -> pg_sys::Datum {
        let earlier = self.past.last().and_then(|p| p.contract.as_ref());
        let next = next_id(self.past.last().map(|p| p.id)).max(2);
        // As it was given, and not as it was understood.
        let document = json_datum(&serde_json::from_str(document).expect("a contract is JSON"));
        as_owner(
            self.own.contract_table,
            |table| format!("INSERT INTO {table} (id, document, note) VALUES ($1, $2, $3)"),
            &[
                (pg_sys::INT4OID, Some(pg_sys::Datum::from(next))),
                (pg_sys::JSONBOID, Some(document)),
                (pg_sys::TEXTOID, note.as_deref().map(text_datum)),
            ],
        );
        let found = |contract: &Contract| -> HashSet<String> {
            audit::findings_under(contract, &self.state, &self.own).into_iter().map(|f| f.fingerprint).collect()
        };
        let (before, after) = (earlier.map(found).unwrap_or_default(), found(contract));
        let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
        let changes = earlier.map(|earlier| changes(earlier, contract)).unwrap_or_default();
        say(contract, after.len(), added, removed);
        call.table([vec![
            Value::Text(contract.version.clone()),
            Value::text(earlier.map(|c| c.version.clone())),
            Value::Int(after.len() as i64),
            Value::Int(added as i64),
            Value::Int(removed as i64),
            Value::Texts(changes),
        ]])
    }
}

fn say(contract: &Contract, findings: usize, added: usize, removed: usize) {
    let count = |n: usize| if n == 1 { "1 finding".to_owned() } else { format!("{n} findings") };
    Report {
        message: format!(
            "contract {} is in force: {} now, {added} more and {removed} less than before",
            contract.version,
            count(findings)
        ),
        detail: String::new(),
        hint: match added {
            0 => String::new(),
            _ => "SELECT * FROM ops.audit_security() lists them; the guard refuses only what makes it worse.".into(),
        },
    }
    .notice();
}

//! The SQL functions of drift: what the governed schemas hold, as a snapshot that can be frozen,
//! hashed, carried elsewhere and compared.

use super::permission;
use crate::audit;
use crate::catalog;
use crate::pg::call::{Call, Value, json_datum, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::{Report, unknown_argument};
use crate::pg::write::text_datum;
use crate::store::frozen::{self, Change, Frozen};
use crate::store::{Installation, contract};
use dragonfly_core::contract::Contract;
use dragonfly_core::drift::{self, Difference, Snapshot, compare, from_findings};
use dragonfly_core::rules::{required_object_missing, role_missing};
use dragonfly_core::sql::{listed, printable};
use pgrx::{PgSqlErrorCode, pg_sys};

sql_function!(
    /// `ops.schema_snapshot(schemas name[]) RETURNS jsonb`
    ops_schema_snapshot => schema_snapshot
);
fn schema_snapshot(call: Call) -> pg_sys::Datum {
    json_datum(&serde_json::to_value(current(call.names(0))).expect("a snapshot is JSON"))
}

sql_function!(
    /// `ops.schema_fingerprint(schemas name[]) RETURNS text`
    ops_schema_fingerprint => schema_fingerprint
);
fn schema_fingerprint(call: Call) -> pg_sys::Datum {
    text_datum(&current(call.names(0)).fingerprint())
}

sql_function!(
    /// `ops.compare_schema(snapshot jsonb)`
    ops_compare_schema => compare_schema
);
fn compare_schema(call: Call) -> pg_sys::Datum {
    let text = call.json_text(0).unwrap_or_else(|| {
        Report { message: "snapshot must not be null".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
    });
    let other = drift::read(&text, &interrupts).unwrap_or_else(|problem| {
        Report {
            message: "not a schema snapshot".into(),
            detail: format!("{problem}."),
            hint: "SELECT ops.schema_snapshot() in the other database gives one.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    });
    not_empty(&other.schemas);
    mention_release(&other, "the snapshot");
    let here = catalog::drift::read(&State::now(), other.schemas.clone());
    call.table(compare(&other, &here).into_iter().map(|difference| row("snapshot", difference)))
}

sql_function!(
    /// `ops.check_schema_consistency(label text, schemas name[])`
    ops_check_schema_consistency => check_schema_consistency
);
fn check_schema_consistency(call: Call) -> pg_sys::Datum {
    let Installation { state, own, contract } = Installation::now();
    let kept = frozen::find(&state, &own, call.text(0));
    // A schema that was frozen may be gone by now.
    let covered = kept.as_ref().map_or(&[][..], |kept| &kept.snapshot.schemas);
    let wanted = call.names(1).map(|names| known(names, &contract, &state, covered));
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let findings = audit::findings_of(&[&required_object_missing::RULE, &role_missing::RULE]);
    let is_wanted = |d: &Difference| {
        wanted.as_ref().is_none_or(|names| d.schema.as_ref().is_some_and(|s| names.contains(s)))
    };
    rows.extend(
        from_findings(&findings)
            .into_iter()
            .filter(is_wanted)
            .map(|difference| row("contract", difference)),
    );
    match kept {
        Some(Frozen { label, snapshot }) => {
            mention_release(&snapshot, &format!("\"{}\"", printable(&label)));
            let expected = match wanted {
                Some(wanted) => {
                    check_coverage(&label, &snapshot, &wanted);
                    snapshot.within(&wanted)
                }
                None => snapshot,
            };
            let actual = catalog::drift::read(&state, expected.schemas.clone());
            let source = format!("frozen {label}");
            rows.extend(
                compare(&expected, &actual).into_iter().map(|difference| row(&source, difference)),
            );
        }
        None => Report {
            message: "no schema has been frozen: looked for drift from the contract alone".into(),
            detail: String::new(),
            hint:
                "SELECT ops.freeze_schema('...') keeps what is here now, to be compared with later."
                    .into(),
        }
        .notice(),
    }
    call.table(rows)
}

/// A difference as the functions show it.
fn row(source: &str, difference: Difference) -> Vec<Value> {
    vec![
        Value::Text(source.into()),
        Value::Text(difference.change.as_str().into()),
        Value::Text(difference.object_type),
        Value::name(difference.schema),
        Value::Text(difference.identity),
        Value::text(difference.property),
        Value::text(difference.expected),
        Value::text(difference.actual),
    ]
}

/// What is there now, in those schemas or (`None`) the governed ones.
fn current(schemas: Option<Vec<String>>) -> Snapshot {
    let Installation { state, contract, .. } = Installation::now();
    snapshot_of(&state, &contract, schemas)
}

fn snapshot_of(state: &State, contract: &Contract, schemas: Option<Vec<String>>) -> Snapshot {
    let schemas = match schemas {
        Some(names) => known(names, contract, state, &[]),
        None => contract.schemas.iter().map(|schema| schema.name.clone()).collect(),
    };
    catalog::drift::read(state, schemas)
}

/// An error where there is nothing to look at.
fn not_empty(schemas: &[String]) {
    if schemas.is_empty() {
        Report {
            message: "schemas must not be empty".into(),
            detail: "Where nothing is looked at, no row would look like no drift.".into(),
            hint: "NULL stands for all schemas that the contract governs.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
}

/// Those schemas; an error where one is neither there nor declared, or is the server's own.
fn known(
    names: Vec<String>,
    contract: &Contract,
    state: &State,
    covered: &[String],
) -> Vec<String> {
    not_empty(&names);
    let there = catalog::base(state);
    let is_ours = |name: &str| !name.starts_with("pg_") && name != "information_schema";
    let mut valid: Vec<&str> =
        there.schemas.iter().map(|s| s.name.as_str()).filter(|name| is_ours(name)).collect();
    valid.extend(contract.schemas.iter().map(|schema| schema.name.as_str()));
    valid.extend(covered.iter().map(String::as_str));
    valid.sort_unstable();
    valid.dedup();
    for name in &names {
        if valid.binary_search(&name.as_str()).is_err() {
            let valid: Vec<_> = valid.iter().map(|name| printable(name)).collect();
            unknown_argument("schema", name, &valid.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
    }
    names
}

/// An error where a schema that is asked for was not looked at when the snapshot was taken: no row
/// would look like no drift.
fn check_coverage(label: &str, snapshot: &Snapshot, wanted: &[String]) {
    if let Some(name) = wanted.iter().find(|name| !snapshot.schemas.contains(name)) {
        let covered: Vec<_> = snapshot.schemas.iter().map(|name| printable(name)).collect();
        Report {
            message: format!(
                "\"{}\" does not cover schema \"{}\"",
                printable(label),
                printable(name)
            ),
            detail: format!("It was frozen with {}.", covered.join(", ")),
            hint: "Freeze the schema too: SELECT ops.freeze_schema('...', schemas => '{...}')."
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
}

/// Says that another release wrote the snapshot down: it may say the same thing in other words.
fn mention_release(snapshot: &Snapshot, name: &str) {
    if snapshot.server != catalog::VERSION {
        Report {
            message: format!("{name} was taken on PostgreSQL {}, and this is {}", snapshot.server, catalog::VERSION),
            detail: "A major release may write a definition in other words, which then counts as a change.".into(),
            hint: String::new(),
        }
        .notice();
    }
}

/// The longest label, in characters.
const LONGEST: usize = 200;

sql_function!(
    /// `ops.freeze_schema(label text, schemas name[], replace boolean) RETURNS text`
    ops_freeze_schema => freeze_schema
);
fn freeze_schema(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let label =
        call.text(0).filter(|label| !label.trim().is_empty() && label.chars().count() <= LONGEST);
    let Some(label) = label else {
        let hint = "For example the name of a release: ops.freeze_schema('2027.1').";
        refuse(format!("a frozen schema has a label of 1 to {LONGEST} characters"), "", hint)
    };
    let change = Change::open();
    if change.contains(&label) && call.bool(2) != Some(true) {
        refuse(
            format!("there is a frozen schema \"{}\" already", printable(&label)),
            "What was frozen is kept as it was.",
            "Choose another label; or take this one away with ops.unfreeze_schema(), or say replace => true.",
        )
    }
    let (own, state) = (&change.own, &change.state);
    let snapshot = snapshot_of(state, &contract::in_force(state, own), call.names(1));
    let fingerprint = change.put(&label, &snapshot);
    say(&label, &snapshot);
    text_datum(&fingerprint)
}

fn say(label: &str, snapshot: &Snapshot) {
    let names: Vec<_> = snapshot.schemas.iter().map(|name| printable(name)).collect();
    let schemas = if names.len() == 1 { "schema" } else { "schemas" };
    let objects = if snapshot.objects.len() == 1 {
        "1 object".to_owned()
    } else {
        format!("{} objects", snapshot.objects.len())
    };
    Report {
        message: format!(
            "\"{}\" keeps {objects} of {schemas} {}",
            printable(label),
            listed(&names)
        ),
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
    Change::open().remove(&label);
    call.null()
}

fn refuse(message: String, detail: &str, hint: &str) -> ! {
    Report { message, detail: detail.into(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

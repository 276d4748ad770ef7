//! The SQL functions of drift: snapshots of the governed schemas, which can be stored, hashed,
//! copied to another database and compared.

use super::{argument, permission};
use crate::audit;
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::lock_timeout;
use crate::pg::progress::{self, Progress};
use crate::pg::report::{Report, unknown_schema};
use crate::pg::write::text_datum;
use crate::store::frozen::{self, Change, Frozen};
use crate::store::{Installation, contract};
use dragonfly_core::contract::Contract;
use dragonfly_core::drift::{self, Difference, Release, Snapshot, compare, from_findings};
use dragonfly_core::rules::{required_object_missing, role_missing};
use dragonfly_core::sql::{listed, printable};
use pgrx::{PgSqlErrorCode, pg_sys};

sql_function!(
    /// `ops.schema_snapshot(schemas name[] DEFAULT NULL) RETURNS jsonb`
    ops_schema_snapshot => schema_snapshot
);
fn schema_snapshot(call: Call) -> pg_sys::Datum {
    frozen::document(current(argument::names(call, 0, "schemas")))
}

sql_function!(
    /// `ops.schema_snapshot(schemas text) RETURNS jsonb`
    ops_schema_snapshot_text => schema_snapshot_text
);
fn schema_snapshot_text(call: Call) -> pg_sys::Datum {
    frozen::document(current(argument::names_in_text(call, 0, "schemas")))
}

sql_function!(
    /// `ops.schema_fingerprint(schemas name[] DEFAULT NULL) RETURNS text`
    ops_schema_fingerprint => schema_fingerprint
);
fn schema_fingerprint(call: Call) -> pg_sys::Datum {
    text_datum(&current(argument::names(call, 0, "schemas")).fingerprint())
}

sql_function!(
    /// `ops.schema_fingerprint(schemas text) RETURNS text`
    ops_schema_fingerprint_text => schema_fingerprint_text
);
fn schema_fingerprint_text(call: Call) -> pg_sys::Datum {
    text_datum(&current(argument::names_in_text(call, 0, "schemas")).fingerprint())
}

sql_function!(
    /// `ops.compare_schema(snapshot jsonb) RETURNS TABLE (source text, change text,
    /// object_type text, schema_name name, object text, property text, expected text, actual text)`
    ops_compare_schema => compare_schema
);
fn compare_schema(call: Call) -> pg_sys::Datum {
    let text = argument::required(call.json_text(0), "snapshot");
    let other = drift::read(&text, &interrupts).unwrap_or_else(|problem| {
        Report {
            message: "invalid schema snapshot".into(),
            detail: format!("{problem}."),
            hint: "SELECT ops.schema_snapshot() in the other database returns one.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    });
    not_empty(&other.schemas);
    report_other_release(&other, "the snapshot");
    let current = read(&State::now(), other.schemas.clone());
    call.table(compare(&other, &current).into_iter().map(|difference| row("snapshot", difference)))
}

sql_function!(
    /// `ops.check_schema_consistency(label text DEFAULT NULL, schemas name[] DEFAULT NULL)`, with
    /// the columns of `ops.compare_schema()`.
    ops_check_schema_consistency => check_schema_consistency
);
fn check_schema_consistency(call: Call) -> pg_sys::Datum {
    let Installation { state, own, contract } = Installation::now();
    let frozen = frozen::find(&state, &own, argument::optional_text(call, 0, "label"));
    // A schema that was frozen may have been dropped since.
    let covered = frozen.as_ref().map_or(&[][..], |frozen| &frozen.snapshot.schemas);
    let wanted = argument::names(call, 1, "schemas");
    let wanted = wanted.map(|names| known(names, &contract, &state, covered));
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
    match frozen {
        Some(Frozen { label, snapshot }) => {
            report_other_release(&snapshot, &format!("frozen schema \"{}\"", printable(&label)));
            let expected = match wanted {
                Some(wanted) => {
                    check_coverage(&label, &snapshot, &wanted);
                    snapshot.within(&wanted)
                }
                None => snapshot,
            };
            let actual = read(&state, expected.schemas.clone());
            let source = format!("frozen {label}");
            rows.extend(
                compare(&expected, &actual).into_iter().map(|difference| row(&source, difference)),
            );
        }
        None => Report {
            message: "no frozen schema exists: checked for drift from the contract only".into(),
            detail: String::new(),
            hint:
                "SELECT ops.freeze_schema('...') stores the current schemas for later comparison."
                    .into(),
        }
        .notice(),
    }
    call.table(rows)
}

/// The columns of a difference.
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

/// The current snapshot of those schemas or (`None`) of the governed ones.
fn current(schemas: Option<Vec<String>>) -> Snapshot {
    let _progress = Progress::begin("reading the schemas", 2);
    let Installation { state, contract, .. } = Installation::now();
    snapshot_of(&state, &contract, schemas)
}

fn snapshot_of(state: &State, contract: &Contract, schemas: Option<Vec<String>>) -> Snapshot {
    let schemas = match schemas {
        Some(names) => known(names, contract, state, &[]),
        None => contract.schemas.iter().map(|schema| schema.name.clone()).collect(),
    };
    read(state, schemas)
}

/// Reads the schemas, without waiting for locks for long.
fn read(state: &State, schemas: Vec<String>) -> Snapshot {
    lock_timeout::of_reader(|| catalog::drift::read(state, schemas))
}

/// Raises an error where no schema is given.
fn not_empty(schemas: &[String]) {
    if schemas.is_empty() {
        Report {
            message: "schemas must not be empty".into(),
            detail: "Without a schema, an empty result would look like the absence of drift."
                .into(),
            hint: "NULL means all schemas that the contract governs.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
}

/// Returns the schemas. Raises an error where one belongs to the server, or neither exists nor is
/// declared nor is `covered` by a snapshot.
fn known(
    names: Vec<String>,
    contract: &Contract,
    state: &State,
    covered: &[String],
) -> Vec<String> {
    not_empty(&names);
    let present = catalog::base(state);
    let is_of_user = |name: &str| !name.starts_with("pg_") && name != "information_schema";
    let mut valid: Vec<&str> =
        present.schemas.iter().map(|s| s.name.as_str()).filter(|name| is_of_user(name)).collect();
    valid.extend(contract.schemas.iter().map(|schema| schema.name.as_str()));
    valid.extend(covered.iter().map(String::as_str));
    valid.sort_unstable();
    valid.dedup();
    for name in &names {
        if valid.binary_search(&name.as_str()).is_err() {
            let valid: Vec<_> = valid.iter().map(|name| printable(name)).collect();
            unknown_schema(name, &valid.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        }
    }
    names
}

/// Raises an error where the snapshot does not contain a wanted schema, because an empty result
/// would look like the absence of drift.
fn check_coverage(label: &str, snapshot: &Snapshot, wanted: &[String]) {
    if let Some(name) = wanted.iter().find(|name| !snapshot.schemas.contains(name)) {
        let covered: Vec<_> = snapshot.schemas.iter().map(|name| printable(name)).collect();
        Report {
            message: format!(
                "frozen schema \"{}\" does not contain schema \"{}\"",
                printable(label),
                printable(name)
            ),
            detail: format!("It contains: {}.", covered.join(", ")),
            hint: "SELECT ops.freeze_schema('...', schemas => '{...}') stores a snapshot of it."
                .into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
}

/// Reports that the snapshot is from another release, which may print the same definition
/// differently: minor releases do too (15.20 prints `UPDATE t AS x` in rules, 15.18 `UPDATE t x`).
fn report_other_release(snapshot: &Snapshot, name: &str) {
    let here = Release::of_number(catalog::release());
    if !snapshot.server.may_equal(here) {
        Report {
            message: format!(
                "{name} was taken on PostgreSQL {}, and this server is PostgreSQL {here}",
                snapshot.server
            ),
            detail: "Another release can print the same definition differently, which is then \
                     reported as a change."
                .into(),
            hint: String::new(),
        }
        .notice();
    }
}

/// The maximum length of a label, in characters.
const MAX_LABEL: usize = 200;

sql_function!(
    /// `ops.freeze_schema(label text, schemas name[] DEFAULT NULL, replace bool DEFAULT false)
    /// RETURNS text`
    ops_freeze_schema => freeze_schema
);
fn freeze_schema(call: Call) -> pg_sys::Datum {
    freeze(call, argument::names)
}

sql_function!(
    /// `ops.freeze_schema(label text, schemas text, replace bool DEFAULT false) RETURNS text`
    ops_freeze_schema_text => freeze_schema_text
);
fn freeze_schema_text(call: Call) -> pg_sys::Datum {
    freeze(call, argument::names_in_text)
}

/// Freezes the schemas that `names` reads from the arguments.
fn freeze(call: Call, names: argument::Names) -> pg_sys::Datum {
    permission::check(call);
    let label = argument::text(call, 0, "label");
    let replace = argument::flag(call, 2, "replace");
    if label.chars().count() > MAX_LABEL {
        let hint = "Use for example the name of a release: ops.freeze_schema('2027.1').";
        reject(format!("label must be 1 to {MAX_LABEL} characters long"), "", hint)
    }
    let _progress = Progress::begin("freezing the schemas", 3);
    let change = Change::open();
    if change.contains(&label) && !replace {
        reject(
            format!("frozen schema \"{}\" already exists", printable(&label)),
            "",
            "Use another label, ops.unfreeze_schema(), or replace => true.",
        )
    }
    let (own, state) = (&change.own, &change.state);
    let wanted = names(call, 1, "schemas");
    let snapshot = snapshot_of(state, &contract::in_force(state, own), wanted);
    let (schemas, objects) = (snapshot.schemas.clone(), snapshot.objects.len());
    progress::step("storing the snapshot");
    let fingerprint = change.put(&label, snapshot);
    report_frozen(&label, &schemas, objects);
    text_datum(&fingerprint)
}

fn report_frozen(label: &str, schemas: &[String], objects: usize) {
    let names: Vec<_> = schemas.iter().map(|name| printable(name)).collect();
    let schemas = if names.len() == 1 { "schema" } else { "schemas" };
    let objects = match objects {
        1 => "1 object".to_owned(),
        count => format!("{count} objects"),
    };
    Report {
        message: format!(
            "frozen schema \"{}\" contains {objects} of {schemas} {}",
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
    let label = argument::text(call, 0, "label");
    Change::open().remove(&label);
    call.null()
}

fn reject(message: String, detail: &str, hint: &str) -> ! {
    Report { message, detail: detail.into(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

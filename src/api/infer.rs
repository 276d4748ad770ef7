//! `ops.infer_contract()`: drafts a contract from the current state of the database.

use super::argument;
use crate::audit;
use crate::catalog::{self, Freshness};
use crate::pg::call::{Call, json_datum, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::report::{Report, unknown_argument};
use crate::store::Installation;
use crate::store::contract::highest_version;
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::infer::{infer, inferred_workers, seed};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::printable;
use pgrx::pg_sys;
use semver::Version;

sql_function!(
    /// `ops.infer_contract(schemas name[] DEFAULT NULL) RETURNS jsonb`
    ops_infer_contract => infer_contract
);
fn infer_contract(call: Call) -> pg_sys::Datum {
    let Installation { state, own, contract: base } = Installation::now();
    let present = catalog::base(&state).complete();
    let schemas = argument::names(call, 0, "schemas")
        .map_or_else(|| user_schemas(&base, &present), |wanted| existing(wanted, &present));
    let seed = seed(&base, &schemas);
    let snapshot = catalog::full(&state, &seed, &own);
    let access = Access::new(&snapshot);
    let highest = highest_version(&state, &own);
    let next = if highest.minor < u64::from(u32::MAX) {
        Version::new(highest.major, highest.minor + 1, 0)
    } else {
        Version::new(highest.major + 1, 0, 0)
    };
    let cx = Context::new(&seed, &snapshot, &access, &interrupts);
    let contract = infer(&cx, &next.to_string());
    let left_out = audit::findings_in(&contract, &snapshot);
    report_workers(&inferred_workers(&cx));
    report_left_out(&Current::read(&state, &own, Freshness::Fresh).apply(left_out, false));
    json_datum(&serde_json::to_value(contract).expect("a contract is JSON"))
}

/// Every schema that belongs neither to the server nor to the platform nor to the extension.
fn user_schemas(base: &Contract, present: &Snapshot) -> Vec<String> {
    let access = Access::new(present);
    let is_of_user = |name: &str| {
        !(name.starts_with("pg_")
            || matches!(name, "information_schema" | dragonfly_core::catalog::extension::SCHEMA))
    };
    let is_managed = |s: &dragonfly_core::catalog::Schema| {
        base.manages_schema(&s.name, access.is_superuser(s.owner))
    };
    present
        .schemas
        .iter()
        .filter(|s| is_of_user(&s.name) && !is_managed(s))
        .map(|s| s.name.clone())
        .collect()
}

/// Returns the schemas sorted, each once. Raises an error where one does not exist.
fn existing(mut wanted: Vec<String>, present: &Snapshot) -> Vec<String> {
    for name in &wanted {
        if present.schema_named(name).is_none() {
            let known: Vec<&str> = present
                .schemas
                .iter()
                .map(|s| s.name.as_str())
                .filter(|s| !s.starts_with("pg_"))
                .collect();
            unknown_argument("schema", name, &known);
        }
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Reports which roles were classified as workers, because fewer rules apply to workers than to
/// clients.
fn report_workers(roles: &[(String, &'static str)]) {
    if roles.is_empty() {
        return;
    }
    let lines: Vec<String> =
        roles.iter().map(|(role, why)| format!("\"{}\" {why}.", printable(role))).collect();
    Report {
        message: match roles.len() {
            1 => "1 undeclared role was classified as a worker".to_owned(),
            n => format!("{n} undeclared roles were classified as workers"),
        },
        detail: lines.join("\n"),
        hint: "If requests from outside can become such a role, change its kind to \"client\" and \
               review the contract again."
            .into(),
    }
    .notice();
}

/// The number of findings that a notice lists.
const SHOWN: usize = 10;

/// Reports what the contract does not declare because it would be insecure.
fn report_left_out(left_out: &[Finding]) {
    let matters: Vec<&Finding> = left_out.iter().filter(|f| f.severity > Severity::Info).collect();
    if matters.is_empty() {
        return;
    }
    Report {
        message: match matters.len() {
            1 => "1 finding would remain under the inferred contract".to_owned(),
            n => format!("{n} findings would remain under the inferred contract"),
        },
        detail: super::audit::lines(matters.into_iter(), SHOWN),
        hint: "SELECT * FROM ops.audit_contract(ops.infer_contract(...)) lists them with the SQL \
               that fixes them. Declare by hand what is intended."
            .into(),
    }
    .notice();
}

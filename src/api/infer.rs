//! `ops.infer_contract()`: a first contract from what is there.

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
    /// `ops.infer_contract(schemas name[]) RETURNS jsonb`
    ops_infer_contract => infer_contract
);
fn infer_contract(call: Call) -> pg_sys::Datum {
    let Installation { state, own, contract: base } = Installation::now();
    let there = catalog::base(&state).complete();
    let schemas = call
        .names(0)
        .map_or_else(|| schemas_of_people(&base, &there), |wanted| existing(wanted, &there));
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
    say_who_works(&inferred_workers(&cx));
    say(&Current::read(&state, &own, Freshness::Fresh).apply(left_out, false));
    json_datum(&serde_json::to_value(contract).expect("a contract is JSON"))
}

/// Every schema that is neither the server's nor the platform's nor ours.
fn schemas_of_people(base: &Contract, there: &Snapshot) -> Vec<String> {
    let access = Access::new(there);
    let is_ours = |name: &str| {
        !(name.starts_with("pg_")
            || matches!(name, "information_schema" | dragonfly_core::catalog::extension::SCHEMA))
    };
    let is_managed = |s: &dragonfly_core::catalog::Schema| {
        base.manages_schema(&s.name, access.is_superuser(s.owner))
    };
    there
        .schemas
        .iter()
        .filter(|s| is_ours(&s.name) && !is_managed(s))
        .map(|s| s.name.clone())
        .collect()
}

/// Those schemas; an error where one is not there.
fn existing(mut wanted: Vec<String>, there: &Snapshot) -> Vec<String> {
    for name in &wanted {
        if there.schema_named(name).is_none() {
            let known: Vec<&str> = there
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

/// Which roles are taken for workers, for a worker is held to less than a client.
fn say_who_works(roles: &[(String, &'static str)]) {
    if roles.is_empty() {
        return;
    }
    let lines: Vec<String> =
        roles.iter().map(|(role, why)| format!("\"{}\" {why}.", printable(role))).collect();
    Report {
        message: match roles.len() {
            1 => "1 role is taken for a worker, of which no contract speaks".to_owned(),
            n => format!("{n} roles are taken for workers, of which no contract speaks"),
        },
        detail: lines.join("\n"),
        hint: "Where requests from outside become such a role, make its kind \"client\", and look again.".into(),
    }
    .notice();
}

/// What a notice names of what was left out.
const SHOWN: usize = 10;

/// What the contract does not bless.
fn say(left_out: &[Finding]) {
    let matters: Vec<&Finding> = left_out.iter().filter(|f| f.severity > Severity::Info).collect();
    if matters.is_empty() {
        return;
    }
    let mut lines: Vec<String> = matters
        .iter()
        .take(SHOWN)
        .map(|f| format!("{} {}: {}", f.severity.as_str(), f.rule.id, f.detail))
        .collect();
    if matters.len() > SHOWN {
        lines.push(format!("... and {} more.", matters.len() - SHOWN));
    }
    let things = if matters.len() == 1 {
        "1 thing is there".to_owned()
    } else {
        format!("{} things are there", matters.len())
    };
    Report {
        message: format!("{things} that a contract should not bless: left out"),
        detail: lines.join("\n"),
        hint: "SELECT * FROM ops.audit_contract(ops.infer_contract(...)) lists them with the SQL that mends them; what is meant so, \
               declare by hand."
            .into(),
    }
    .notice();
}

//! The SQL function that returns the findings in the formats of pipelines.

use super::argument;
use super::audit::filter;
use crate::audit::{self, Fixes};
use crate::catalog;
use crate::pg::call::{Call, sql_function};
use crate::pg::report::unknown_argument;
use crate::pg::write::text_datum;
use crate::store::Installation;
use dragonfly_core::report::formats::{Format, Place, Report, write};
use pgrx::pg_sys;

sql_function!(
    /// `ops.report(format text, rules text[] DEFAULT NULL, schemas name[] DEFAULT NULL,
    /// min_severity text DEFAULT NULL, include_exempted bool DEFAULT true,
    /// path text DEFAULT 'security-contract.json') RETURNS text`
    ops_report => report
);
fn report(call: Call) -> pg_sys::Datum {
    let word = argument::text(call, 0, "format");
    let format: Format = word
        .parse()
        .unwrap_or_else(|_| unknown_argument("format", &word, &Format::ALL.map(Format::as_str)));
    let (filter, path) = (filter(call, 1), argument::text(call, 5, "path"));
    let Installation { state, contract, .. } = Installation::now();
    let findings = audit::findings(&filter, Fixes::OfPlan);
    let report = Report {
        contract: &contract,
        database: &catalog::base(&state).database.name,
        version: env!("CARGO_PKG_VERSION"),
        findings: &findings,
        // Which file a finding comes from is only known outside of the server.
        place: &|_| Place { path: path.clone(), line: 1 },
    };
    text_datum(&write(&report, format))
}

//! The SQL functions that return the findings as one text: in the formats of pipelines, and as a
//! page.

use super::argument;
use super::audit::filter;
use super::guard_status;
use crate::audit::{self, Fixes};
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::clock;
use crate::pg::report::unknown_argument;
use crate::pg::text::timestamp;
use crate::pg::write::text_datum;
use crate::store::Installation;
use dragonfly_core::drift::Release;
use dragonfly_core::report::formats::{Format, Place, Report, write};
use dragonfly_core::report::page::{Head, Limits, Page};
use dragonfly_core::report::summary;
use dragonfly_core::sql::printable;
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

sql_function!(
    /// `ops.report_html() RETURNS text`
    ops_report_html => report_html
);
fn report_html(_: Call) -> pg_sys::Datum {
    let html = audit::with_all_findings(true, Fixes::OfPlan, |cx, findings, _| {
        let head = Head {
            database: printable(&cx.snapshot.database.name).into_owned(),
            // Seconds are exact enough for a reader.
            at: timestamp(clock::now() / 1_000_000 * 1_000_000),
            version: env!("CARGO_PKG_VERSION").into(),
            server: Release::of_number(catalog::release()).to_string(),
        };
        Page::of(cx, findings, guard_status::parts(cx), head, Limits::default()).html()
    });
    text_datum(&html)
}

sql_function!(
    /// `ops.security_summary() RETURNS TABLE (topic text, summary text)`
    ops_security_summary => security_summary
);
fn security_summary(call: Call) -> pg_sys::Datum {
    let lines = audit::with_all_findings(true, Fixes::OfRules, |cx, findings, _| {
        summary(cx, findings, &guard_status::parts(cx))
    });
    call.table(
        lines.into_iter().map(|line| vec![Value::Text(line.topic.into()), Value::Text(line.text)]),
    )
}

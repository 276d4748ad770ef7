//! `ops.snapshot()`: the catalogs as data; `ops.audit_snapshot()`: the findings in such data, of a
//! database that need not have the extension.

use super::argument;
use super::audit::{row, wanted};
use super::contract::given_contract;
use crate::audit::check_schemas;
use crate::catalog;
use crate::pg::call::{Call, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::progress::{self, Progress};
use crate::pg::report::Report;
use crate::pg::statement;
use crate::pg::write::text_datum;
use crate::store::Installation;
use dragonfly_core::audit::Fixes;
use dragonfly_core::rules::Tool;
use dragonfly_core::sql::printable;
use dragonfly_reader::audit::{Unread, unread, with_audit};
use dragonfly_reader::data::{Data, Server, valued_settings};
use dragonfly_reader::{State as _, write};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::rc::Rc;

sql_function!(
    /// `ops.snapshot() RETURNS json`
    ops_snapshot => snapshot
);
fn snapshot(_: Call) -> pg_sys::Datum {
    let _progress = Progress::begin("reading the catalogs", 1);
    let state = State::now();
    text_datum(&write::snapshot(&state, &server(&state)))
}

/// Returns what a snapshot says of the server and of the session.
fn server(state: &State) -> Server {
    let valued = valued_settings();
    let settings = statement::rows("SELECT s.name, s.reset_val FROM pg_catalog.pg_settings AS s");
    let settings = settings.into_iter().filter_map(|row| match <[_; 2]>::try_from(row).ok()? {
        [Some(name), value] => {
            let is_valued = valued.contains(name.as_str());
            let is_of_server = !name.contains('.') || name == "dragonfly_guard.mode";
            is_of_server.then(|| (name, value.filter(|_| is_valued)))
        }
        _ => None,
    });
    let session = "SELECT current_user, pg_catalog.getdatabaseencoding()";
    let session = statement::rows(session).pop().unwrap_or_default();
    let [role, encoding] = session.try_into().unwrap_or_default();
    Server {
        version_num: catalog::release(),
        encoding: encoding.unwrap_or_default(),
        database: state.database(),
        role: role.unwrap_or_default(),
        time: state.time(),
        settings: settings.collect(),
    }
}

sql_function!(
    /// `ops.audit_snapshot(snapshot json, contract jsonb DEFAULT NULL, rules text[] DEFAULT NULL,
    /// schemas name[] DEFAULT NULL, min_severity text DEFAULT NULL)`, with the columns of
    /// `ops.audit_security()`
    ops_audit_snapshot => audit_snapshot
);
fn audit_snapshot(call: Call) -> pg_sys::Datum {
    let _progress = Progress::begin("auditing the snapshot", 2);
    progress::step("reading the snapshot");
    let text = argument::text(call, 0, "snapshot");
    let data = Data::parse(&text, interrupts).unwrap_or_else(|error| {
        Report {
            message: "snapshot is not valid".into(),
            detail: format!("{}.", printable(&error.to_string())),
            hint: "ops.snapshot() and the script sql/snapshot.sql write snapshots.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    });
    drop(text);
    let contract = match call.json_text(1) {
        Some(document) => Rc::new(given_contract(&document)),
        None => Installation::now().contract,
    };
    let wanted = wanted(call, 2);
    progress::step("applying the rules");
    let findings = with_audit(&data, &contract, Tool::Extension, |audit| {
        check_schemas(&wanted, &contract, audit.cx.snapshot);
        audit.findings(&wanted, Fixes::OfPlan)
    });
    if let Some(Unread { message, detail }) = unread(&data) {
        let hint = "A server with the extension reads every text: ops.audit_security().".into();
        Report { message, detail, hint }.notice();
    }
    call.table(findings.into_iter().map(|finding| row(finding, &contract)))
}

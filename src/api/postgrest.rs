//! `ops.fix_schema_cache()`: checks why PostgREST may be unable to read its schema cache (PGRST002)
//! and tells it to reload the cache.

use super::argument;
use crate::audit::with_context;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::write::text_datum;
use dragonfly_core::postgrest::{self, Check};
use pgrx::pg_sys;

/// The role that PostgREST logs in as, where the caller names none.
pub const AUTHENTICATOR: &str = "authenticator";

/// The channel on which PostgREST listens ("Schema Cache Reloading" in its documentation).
const CHANNEL: &str = "pgrst";

/// A notification that makes PostgREST reload something.
struct Reload {
    payload: &'static str,
    what: &'static str,
}

const RELOADS: [Reload; 2] = [
    Reload { payload: "reload schema", what: "schema cache" },
    Reload { payload: "reload config", what: "configuration" },
];

sql_function!(
    /// `ops.fix_schema_cache(authenticator name DEFAULT NULL)
    /// RETURNS TABLE (step text, ok bool, detail text, fix text)`
    ops_fix_schema_cache => fix_schema_cache
);
fn fix_schema_cache(call: Call) -> pg_sys::Datum {
    let authenticator = argument::optional_name(call, 0, "authenticator")
        .unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let mut checks = with_context(|cx| postgrest::checks(cx, &authenticator));
    for Reload { payload, what } in RELOADS {
        notify(payload);
        checks.push(Check {
            step: format!("NOTIFY {CHANNEL}, '{payload}'"),
            ok: true,
            detail: format!("PostgREST reloads its {what} when this transaction commits."),
            fix: None,
        });
    }
    call.table(checks.into_iter().map(|check| {
        vec![
            Value::Text(check.step),
            Value::Bool(check.ok),
            Value::Text(check.detail),
            Value::text(check.fix),
        ]
    }))
}

/// Executes NOTIFY by the server's own function.
fn notify(payload: &str) {
    let arguments = [Some(text_datum(CHANNEL)), Some(text_datum(payload))];
    // SAFETY: `pg_notify` takes two texts; it raises an error on a standby.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::pg_notify, &arguments) };
}

//! `ops.fix_schema_cache()`: checks why PostgREST may be unable to read its schema cache (PGRST002)
//! and tells it to reload the cache.

use super::argument;
use crate::audit::with_context;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::write::text_datum;
use dragonfly_core::contract::Contract;
use dragonfly_core::postgrest::{self, Check};
use pgrx::pg_sys;

/// Returns the role that PostgREST logs in as: the one that the caller names, otherwise the only
/// login role of the contract, otherwise the name that PostgREST's documentation uses.
pub fn authenticator_of(named: Option<&str>, contract: &Contract) -> String {
    named.or(contract.login_role()).unwrap_or("authenticator").to_owned()
}

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
    let named = argument::optional_name(call, 0, "authenticator");
    let mut checks =
        with_context(|cx| postgrest::checks(cx, &authenticator_of(named.as_deref(), cx.contract)));
    checks.extend(RELOADS.map(reload));
    call.table(checks.into_iter().map(|check| {
        vec![
            Value::Text(check.step),
            Value::Bool(check.ok),
            Value::Text(check.detail),
            Value::text(check.fix),
        ]
    }))
}

/// Tells PostgREST to reload, where the server can.
fn reload(Reload { payload, what }: Reload) -> Check {
    let step = format!("NOTIFY {CHANNEL}, '{payload}'");
    // SAFETY: reads the state of the server.
    if unsafe { pg_sys::RecoveryInProgress() } {
        let detail = "NOTIFY cannot be executed during recovery: call the function on the primary \
                      server, or restart PostgREST."
            .to_owned();
        return Check { step, ok: false, detail, fix: None };
    }
    notify(payload);
    let detail = format!("PostgREST reloads its {what} when this transaction commits.");
    Check { step, ok: true, detail, fix: None }
}

/// Executes NOTIFY by the server's own function.
fn notify(payload: &str) {
    let arguments = [Some(text_datum(CHANNEL)), Some(text_datum(payload))];
    // SAFETY: `pg_notify` takes two texts.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::pg_notify, &arguments) };
}

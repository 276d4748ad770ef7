//! `ops.fix_schema_cache()`: PostgREST reads its schema cache anew, and says before why it may have
//! had none (PGRST002).

use crate::audit::with_context;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::write::text_datum;
use dragonfly_core::postgrest::{self, Check};
use pgrx::pg_sys;

/// The role that PostgREST logs in as, unless somebody says another.
pub const AUTHENTICATOR: &str = "authenticator";

/// What PostgREST listens to, and what it does then ("Schema Cache Reloading" in its
/// documentation).
const CHANNEL: &str = "pgrst";
const RELOADS: [(&str, &str); 2] =
    [("reload schema", "its schema cache"), ("reload config", "its configuration")];

sql_function!(
    /// `ops.fix_schema_cache(authenticator name)`
    ops_fix_schema_cache => fix_schema_cache
);
fn fix_schema_cache(call: Call) -> pg_sys::Datum {
    let authenticator = call.name(0).unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let mut checks = with_context(|cx| postgrest::checks(cx, &authenticator));
    for (payload, what) in RELOADS {
        notify(payload);
        checks.push(Check {
            step: format!("NOTIFY {CHANNEL}, '{payload}'"),
            ok: true,
            detail: format!("Who listens reads {what} anew when this transaction commits."),
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

/// NOTIFY, by the server's own function.
fn notify(payload: &str) {
    let arguments = [Some(text_datum(CHANNEL)), Some(text_datum(payload))];
    // SAFETY: `pg_notify` takes two texts; an error on a standby.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::pg_notify, &arguments) };
}

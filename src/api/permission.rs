//! Who may change what the guard goes by: superusers, and whom one has let. EXECUTE alone does not
//! say that of every role.
//!
//! GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ops is easily said, and the role that runs migrations
//! has to hold EXECUTE on all of them, or its own GRANT and REVOKE on all functions would fail.
//! Such roles hold EXECUTE on `ops.every_function()` too, for which there is no other reason. Told
//! so, and not by their names: whoever creates roles can rename one.

use crate::catalog::{self, Own};
use crate::pg::call::{Call, sql_function};
use crate::pg::heap::State;
use crate::pg::report::Report;
use crate::pg::text::from_server;
use dragonfly_core::access::{Access, Follow};
use dragonfly_core::catalog::{AclItem, Oid, Privileges};
use dragonfly_core::sql::{printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The function that nobody is given but with all others.
const MARKER: &str = "every_function";

sql_function!(
    /// `ops.every_function()`
    ops_every_function => every_function
);
fn every_function(_: Call) -> pg_sys::Datum {
    pg_sys::Datum::null()
}

/// An error where the caller of a function that changes something is neither a superuser nor
/// somebody whom one has let.
pub fn check(call: Call) {
    // SAFETY: reads a variable of the backend.
    let caller = unsafe { pg_sys::GetUserId() }.to_u32();
    // SAFETY: a look-up in the system cache.
    if unsafe { pg_sys::superuser_arg(caller.into()) } {
        return;
    }
    let state = State::now();
    let snapshot = catalog::base(&state).complete();
    let access = Access::new(&snapshot);
    let reached = access.closure(caller, Follow::Privileges);
    let executes = |item: &&AclItem| item.privileges.contains(Privileges::EXECUTE);
    let marked = marker(&state).map(|marker| catalog::routine_acl(&state, marker));
    // Without the marker, nobody knows.
    let by_the_way = |role: Oid| {
        marked
            .as_ref()
            .is_none_or(|acl| acl.iter().filter(executes).any(|item| item.grantee == role))
    };
    let is_meant =
        catalog::routine_acl(&state, call.function()).iter().filter(executes).any(|item| {
            reached.contains(&item.grantee)
                && (item.grantable.contains(Privileges::EXECUTE) || !by_the_way(item.grantee))
        });
    if !is_meant {
        refuse(&snapshot.role_name(caller), call);
    }
}

/// The marker, among the extension's own functions.
fn marker(state: &State) -> Option<Oid> {
    let mut found = None;
    Own::find(state).members(state, |class, object| {
        if class == catalog::PG_PROC
            && catalog::name(class, object).is_some_and(|(_, name)| name == MARKER)
        {
            found = Some(object);
        }
    });
    found
}

fn refuse(caller: &str, call: Call) -> ! {
    // SAFETY: gives a C string; the function is there, for it runs.
    let signature = unsafe {
        from_server(
            std::ffi::CStr::from_ptr(pg_sys::format_procedure_qualified(call.function().into()))
                .to_bytes(),
        )
    };
    Report {
        message: "permission denied to change what the security guard goes by".into(),
        detail: format!(
            "Role \"{}\" may execute the function because it may execute every function of the schema; nobody has meant this one.",
            printable(caller)
        ),
        hint: format!(
            "A superuser who means it says GRANT EXECUTE ON FUNCTION {signature} TO {} WITH GRANT OPTION.",
            safe_ident(caller)
        ),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}

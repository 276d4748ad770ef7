//! Who may change what the guard goes by: superusers, and whom one has let. EXECUTE alone does not say that for every role.

use crate::contract;
use crate::pg::call::Call;
use crate::pg::heap::State;
use crate::pg::report::Report;
use crate::pg::text::from_server;
use crate::scan::{self, own::Own};
use dragonfly_core::access::{Access, Follow};
use dragonfly_core::catalog::{Privileges, Snapshot};
use dragonfly_core::sql::{printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::HashSet;

/// The role of the migrations. It may execute every function of schema ops, or its own GRANT ... ON ALL FUNCTIONS IN SCHEMA ops would fail.
const MIGRATIONS: &str = "postgres";

/// An error where the caller of a function that changes something is neither a superuser nor somebody whom one has let. The roles that the contract
/// is there to bind, and the one that runs migrations, come by EXECUTE without anybody meaning it: of them, the grant option is asked for.
pub fn check(call: Call) {
    // SAFETY: reads a variable of the backend.
    let caller = unsafe { pg_sys::GetUserId() }.to_u32();
    // SAFETY: a look-up in the system cache.
    if unsafe { pg_sys::superuser_arg(caller.into()) } {
        return;
    }
    let state = State::now();
    let snapshot = scan::base(&state).complete();
    let bound = bound(&state, &snapshot);
    let access = Access::new(&snapshot);
    let reached = access.closure(caller, Follow::Privileges);
    let is_meant = scan::routine_acl(&state, call.function()).iter().any(|item| {
        reached.contains(&item.grantee)
            && item.privileges.contains(Privileges::EXECUTE)
            && (item.grantable.contains(Privileges::EXECUTE) || !bound.contains(&snapshot.role_name(item.grantee)))
    });
    if !is_meant {
        refuse(&snapshot.role_name(caller), call);
    }
}

/// The names of roles for which EXECUTE is not enough. Where there is no contract that could name them, all.
fn bound(state: &State, snapshot: &Snapshot) -> HashSet<String> {
    let own = Own::find(state);
    match contract::readable(state, &own) {
        Some(contract) => {
            use dragonfly_core::contract::RoleKind::{Client, Worker};
            let names = contract.roles_of(Client).chain(contract.roles_of(Worker)).chain([MIGRATIONS]);
            names.map(str::to_owned).collect()
        }
        None => snapshot.roles.iter().map(|r| r.name.clone()).collect(),
    }
}

fn refuse(caller: &str, call: Call) -> ! {
    // SAFETY: gives a C string; the function is there, for it runs.
    let signature =
        unsafe { from_server(std::ffi::CStr::from_ptr(pg_sys::format_procedure_qualified(call.function().into())).to_bytes()) };
    Report {
        message: "permission denied to change what the security guard goes by".into(),
        detail: format!(
            "Role \"{}\" may execute the function by a grant on all functions of the schema; for a role that the contract binds, or that runs \
             migrations, that is not enough.",
            printable(caller)
        ),
        hint: format!(
            "A superuser who means it says GRANT EXECUTE ON FUNCTION {signature} TO {} WITH GRANT OPTION.",
            safe_ident(caller)
        ),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}

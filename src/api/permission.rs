//! Which roles may change contract, exemptions and snapshots: superusers, and roles to which a
//! superuser has granted EXECUTE on the function for that purpose.
//!
//! GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ops is common, and the role of migrations needs EXECUTE
//! on all of them, because otherwise its own GRANT and REVOKE on all functions would fail. A role
//! that can execute every function that only reviews contracts ([`REVIEWING`]) is taken for one
//! that was granted all functions at once; from it, the functions that change something require the
//! grant option. The roles are recognized by these grants and not by name, because a role that can
//! create roles can rename one.

use crate::catalog::{self, Own};
use crate::pg::call::Call;
use crate::pg::heap::State;
use crate::pg::report::Report;
use crate::pg::text::from_server;
use dragonfly_core::access::{Access, Follow};
use dragonfly_core::catalog::{AclItem, Oid, Privileges};
use dragonfly_core::sql::{printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The functions that change nothing and that only authors of contracts are granted by default.
const REVIEWING: [&str; 5] =
    ["validate_contract", "contract_schema", "audit_contract", "infer_contract", "try_migration"];

/// Raises an error where the caller of a function that changes something is neither a superuser nor
/// a role to which EXECUTE on it was granted for that purpose.
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
    let reviewing = reviewing(&state);
    let has_all = |role: Oid| {
        let can = |acl: &Vec<AclItem>| acl.iter().filter(executes).any(|item| item.grantee == role);
        reviewing.iter().all(can)
    };
    let is_granted =
        catalog::routine_acl(&state, call.function()).iter().filter(executes).any(|item| {
            reached.contains(&item.grantee)
                && (item.grantable.contains(Privileges::EXECUTE) || !has_all(item.grantee))
        });
    if !is_granted {
        reject(&snapshot.role_name(caller), call);
    }
}

/// Returns the ACLs of the reviewing functions. Without any, every role is taken to have all.
fn reviewing(state: &State) -> Vec<Vec<AclItem>> {
    let mut found = Vec::new();
    Own::find(state).members(state, |class, object| {
        let is_reviewing = |name: &str| REVIEWING.contains(&name);
        if class == catalog::PG_PROC
            && catalog::name(class, object).is_some_and(|(_, name)| is_reviewing(&name))
        {
            found.push(catalog::routine_acl(state, object));
        }
    });
    found
}

fn reject(caller: &str, call: Call) -> ! {
    // SAFETY: returns a C string; the function exists, because it is being called.
    let signature = unsafe {
        from_server(
            std::ffi::CStr::from_ptr(pg_sys::format_procedure_qualified(call.function().into()))
                .to_bytes(),
        )
    };
    Report {
        message: "permission denied to change security contract settings".into(),
        detail: format!(
            "Role \"{}\" can execute every function of the extension, which does not include the \
             privilege to change settings.",
            printable(caller)
        ),
        hint: format!(
            "As a superuser: GRANT EXECUTE ON FUNCTION {signature} TO {} WITH GRANT OPTION;",
            safe_ident(caller)
        ),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}

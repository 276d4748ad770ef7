//! Which roles may change contract, exemptions and snapshots: superusers, and roles to which a
//! superuser has granted EXECUTE on the function for that purpose.
//!
//! GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ops is common, and the role of migrations needs EXECUTE
//! on all of them, because otherwise its own GRANT and REVOKE on all functions would fail. A role
//! that can execute more than half of the functions for authors ([`FOR_AUTHORS`]) is taken for one
//! that was granted all functions at once, even if some were revoked from it later; from it, the
//! functions that change something require the grant option. The roles are recognized by these
//! grants and not by name, because a role that can create roles can rename one.

use crate::catalog;
use crate::pg::call::Call;
use crate::pg::heap::State;
use crate::pg::report::Report;
use dragonfly_core::access::{Access, Follow};
use dragonfly_core::catalog::{AclItem, Oid, Privileges, extension};
use dragonfly_core::sql::{printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The functions that CREATE EXTENSION grants to deployers only: `authors` in the installation
/// script.
pub(super) const FOR_AUTHORS: [&str; 19] = [
    "validate_contract",
    "contract_schema",
    "contract_preset",
    "audit_contract",
    "infer_contract",
    "infer_exemptions",
    "adopt",
    "try_migration",
    "prove_policy",
    "prove_isolation",
    "apply_golden_sql",
    "load_contract",
    "rollback_contract",
    "declare",
    "accept",
    "exempt",
    "unexempt",
    "freeze_schema",
    "unfreeze_schema",
];

/// The functions with which a rejected statement is approved, and an approval withdrawn.
const FOR_APPROVAL: [&str; 4] = ["declare", "accept", "exempt", "unexempt"];

/// Returns the statement with which a superuser allows a role to approve: all functions at once, so
/// that one rejection does not need one grant after another.
pub(super) fn approval_grant(role: &str) -> String {
    let functions = FOR_APPROVAL.map(|name| format!("{}.{name}", extension::API_SCHEMA));
    format!(
        "GRANT EXECUTE ON FUNCTION {} TO {} WITH GRANT OPTION;",
        functions.join(", "),
        safe_ident(role)
    )
}

/// Returns who of some roles that exist may approve, without superusers, and who may not: to
/// approve, a role needs EXECUTE with grant option on every function for it, itself or by a
/// membership.
pub(super) fn approvers<'n>(state: &State, names: &[&'n str]) -> (Vec<&'n str>, Vec<&'n str>) {
    let snapshot = catalog::base(state).complete();
    let access = Access::new(&snapshot);
    let acls = acls(state, &FOR_APPROVAL);
    let can_grant = |acl: &Vec<AclItem>, role: Oid| {
        let reached = access.closure(role, Follow::Privileges);
        acl.iter().any(|item| {
            reached.contains(&item.grantee) && item.grantable.contains(Privileges::EXECUTE)
        })
    };
    let roles = names.iter().filter_map(|name| Some((*name, snapshot.role_named(name)?)));
    let (able, others): (Vec<_>, Vec<_>) = roles
        .filter(|(_, role)| !role.superuser)
        .partition(|(_, role)| acls.iter().all(|acl| can_grant(acl, role.oid)));
    let names = |roles: Vec<(&'n str, _)>| roles.into_iter().map(|(name, _)| name).collect();
    (names(able), names(others))
}

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
    let for_authors = acls(&state, &FOR_AUTHORS);
    let was_granted_all = |role: Oid| {
        let can =
            |acl: &&Vec<AclItem>| acl.iter().filter(executes).any(|item| item.grantee == role);
        // Where the functions cannot be found, no grant is trusted.
        for_authors.is_empty() || for_authors.iter().filter(can).count() * 2 > for_authors.len()
    };
    let is_granted =
        catalog::routine_acl(&state, call.function()).iter().filter(executes).any(|item| {
            reached.contains(&item.grantee)
                && (item.grantable.contains(Privileges::EXECUTE) || !was_granted_all(item.grantee))
        });
    if !is_granted {
        reject(&snapshot.role_name(caller), call);
    }
}

/// Returns the ACLs of the extension's functions with some names, one for each overload.
fn acls(state: &State, names: &[&str]) -> Vec<Vec<AclItem>> {
    let mut found = Vec::new();
    catalog::find_own(state).members(state, |class, object| {
        let is_wanted = |name: &str| names.contains(&name);
        if class == catalog::PG_PROC
            && catalog::name(class, object).is_some_and(|(_, name)| is_wanted(&name))
        {
            found.push(catalog::routine_acl(state, object).to_vec());
        }
    });
    found
}

fn reject(caller: &str, call: Call) -> ! {
    let function = call.function();
    let is_for_approval = catalog::name(catalog::PG_PROC, function)
        .is_some_and(|(_, name)| FOR_APPROVAL.contains(&name.as_str()));
    let grant = if is_for_approval {
        approval_grant(caller)
    } else {
        format!(
            "GRANT EXECUTE ON FUNCTION {} TO {} WITH GRANT OPTION;",
            catalog::signature(function),
            safe_ident(caller)
        )
    };
    Report {
        message: "permission denied to change security contract settings".into(),
        detail: format!(
            "Role \"{}\" can execute most functions of the extension. EXECUTE on all of them does \
             not include the privilege to change settings.",
            printable(caller)
        ),
        hint: format!("As a superuser: {grant}"),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}

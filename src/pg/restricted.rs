//! Executing work as another role, as REFRESH MATERIALIZED VIEW and ANALYZE do.

use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;

/// The flags that REFRESH MATERIALIZED VIEW sets (matview.c).
const RESTRICTED: i32 =
    (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;

/// Executes `work` as `role`, in a security-restricted operation: code of the role that runs
/// meanwhile has the role's privileges and cannot change the session (miscinit.c).
///
/// Must be called in a subtransaction, whose end restores the user after an error.
pub fn as_role<T>(role: Oid, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads and writes variables of the backend; the previous values are restored below.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role.into(), context | RESTRICTED);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}

//! Acting as somebody else, as far as REFRESH and ANALYZE do.

use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;

/// As REFRESH MATERIALIZED VIEW does (matview.c).
const RESTRICTED: i32 =
    (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;

/// Does `work` as `role`, in a security-restricted operation: code of that role's which runs
/// meanwhile has the role's rights and can neither change the session nor leave anything behind
/// (miscinit.c). After an error the end of a subtransaction takes it back: there must be one.
pub fn as_role<T>(role: Oid, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads and writes variables of the backend; what was there before is put back.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role.into(), context | RESTRICTED);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}

//! The extension's locks, on numbered parts of its object address.
//!
//! An extension has no parts, so no SQL statement can take these locks. A lock on the extension
//! itself is not suitable: any role can take it by ALTER FUNCTION ... DEPENDS ON EXTENSION.

use crate::catalog::{Own, PG_EXTENSION};
use crate::pg::report::Report;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;

/// The part that is locked as the commit lock, while a transaction is checked and commits.
const COMMIT: u16 = 1;

/// The part that is locked by a transaction that changes the contract, the exemptions or the frozen
/// schemas.
const CHANGES: u16 = 2;

const COMMIT_MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Waits for the commit lock and holds it until the end of the transaction.
pub fn acquire_commit_lock(own: &Own) {
    // SAFETY: locks by OID.
    unsafe {
        pg_sys::LockDatabaseObject(PG_EXTENSION.into(), own.extension.into(), COMMIT, COMMIT_MODE);
    };
}

/// Releases the commit lock before the transaction ends.
pub fn release_commit_lock(own: &Own) {
    // SAFETY: undoes what `acquire_commit_lock` did in this transaction.
    unsafe {
        pg_sys::UnlockDatabaseObject(
            PG_EXTENSION.into(),
            own.extension.into(),
            COMMIT,
            COMMIT_MODE,
        );
    };
}

/// Locks contract, exemptions and frozen schemas against changes of other sessions, until this
/// transaction ends. `what` is the subject of the change, for messages.
///
/// Raises an error where another session holds the lock: a session that waited would change a
/// state that it has not seen.
pub fn acquire_for_change(own: &Own, what: &str) {
    let command = CString::new(format!("a change of {what}")).unwrap_or_default();
    // SAFETY: raises an error where the transaction is read-only, as on a standby.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
    if !try_for_change(own) {
        Report {
            message: format!("another session is changing {what}"),
            detail: "Only one transaction at a time can change the contract, the exemptions and \
                     the frozen schemas."
                .into(),
            hint: "Run the statement again when the other transaction has ended.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE);
    }
}

fn try_for_change(own: &Own) -> bool {
    // SAFETY: reads a variable of the backend; the tag is the one of SET_LOCKTAG_OBJECT (lock.h).
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: PG_EXTENSION,
            locktag_field3: own.extension,
            locktag_field4: CHANGES,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
        pg_sys::LockAcquire(&tag, mode, false, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

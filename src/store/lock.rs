//! The locks of the extension: on parts of it, by number. An extension has no parts, so no
//! statement locks one, whoever issues it; the extension itself is locked by ALTER FUNCTION ...
//! DEPENDS ON EXTENSION, of anybody's own function.

use crate::catalog::{Own, PG_EXTENSION};
use crate::pg::report::Report;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;

/// The part whose lock a transaction holds while it is checked and commits.
const COMMIT: u16 = 1;

/// The part whose lock a transaction holds that changes the contract, the exemptions or what is
/// frozen.
const CHANGES: u16 = 2;

const COMMIT_MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Waits for the commit lock, and holds it until the end of the transaction.
pub fn acquire_commit_lock(own: &Own) {
    // SAFETY: locks by OID.
    unsafe {
        pg_sys::LockDatabaseObject(PG_EXTENSION.into(), own.extension.into(), COMMIT, COMMIT_MODE)
    };
}

/// Releases the commit lock before the transaction ends.
pub fn release_commit_lock(own: &Own) {
    // SAFETY: undoes what `acquire_commit_lock` did in this transaction.
    unsafe {
        pg_sys::UnlockDatabaseObject(PG_EXTENSION.into(), own.extension.into(), COMMIT, COMMIT_MODE)
    };
}

/// Makes this session the only one that changes contract, exemptions or frozen schemas, until its
/// transaction ends. An error where another is just doing so: who waited would change what it has
/// not seen. `what` is what is to be changed.
pub fn acquire_for_change(own: &Own, what: &str) {
    let command = CString::new(format!("a change of {what}")).unwrap_or_default();
    // SAFETY: an error where the transaction is read-only, as on a standby.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
    if !try_for_change(own) {
        Report {
            message: format!("another session is just changing {what}"),
            detail:
                "Contract, exemptions and frozen schemas are changed by one transaction at a time."
                    .into(),
            hint: "Look at what it has done, and try again.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE);
    }
}

fn try_for_change(own: &Own) -> bool {
    // SAFETY: reads a variable of the backend; the tag is what SET_LOCKTAG_OBJECT makes (lock.h).
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

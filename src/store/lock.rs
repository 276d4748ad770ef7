//! The extension's locks, on numbered parts of its object address.
//!
//! An extension has no parts, so no SQL statement can take these locks. A lock on the extension
//! itself is not suitable: any role can take it by ALTER FUNCTION ... DEPENDS ON EXTENSION.

use crate::catalog::{Own, PG_EXTENSION};
use crate::pg::lock_timeout;
use crate::pg::report::Report;
use crate::settings;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;

/// The part that is locked as the commit lock, while a transaction is checked and commits.
const COMMIT: u16 = 1;

/// The part that is locked by a transaction that changes the contract, the exemptions or the frozen
/// schemas.
const CHANGES: u16 = 2;

const COMMIT_MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Waits for the commit lock and holds it until the end of the transaction.
///
/// Raises an error after `dragonfly_guard.commit_lock_timeout`, or `lock_timeout` where that is
/// shorter. The server detects no deadlock with a session that has the lock and waits for something
/// outside the server: for example for a remote commit of postgres_fdw, which waits for this lock.
pub fn acquire_commit_lock(own: &Own) {
    let limit = settings::commit_lock_timeout();
    let exceeded = || Report {
        message: "could not commit within dragonfly_guard.commit_lock_timeout".into(),
        detail: format!(
            "Another transaction has been committing for more than {limit} ms, and the security \
             guard checks and commits one transaction after the other."
        ),
        hint: "Run the transaction again. pg_locks shows the session that has the commit lock \
               (locktype object, classid pg_extension, objsubid 1). If it waits for a remote \
               commit of postgres_fdw, add dragonfly_guard to shared_preload_libraries."
            .into(),
    };
    // SAFETY: locks by OID.
    lock_timeout::at_most(limit, exceeded, || unsafe {
        pg_sys::LockDatabaseObject(PG_EXTENSION.into(), own.extension.into(), COMMIT, COMMIT_MODE);
    });
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

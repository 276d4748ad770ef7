//! The extension's own objects, found by what belongs to the extension and never by a name that somebody else could take.

use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::report::Report;
use dragonfly_core::catalog::Oid;
use pgrx::{PgSqlErrorCode, pg_sys};

/// The extension's name.
const NAME: &str = "dragonfly_guard";

/// The turn is a lock on a part of the extension. An extension has no parts, so no statement locks one, whoever issues it; the extension
/// itself is locked by ALTER FUNCTION ... DEPENDS ON EXTENSION, of anybody's own function.
const TURN: u16 = 1;

/// Who changes the contract, the exemptions or what is frozen does so alone: a lock on another part.
const CHANGES: u16 = 2;

/// Where the extension is.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// Its row of `pg_extension`.
    pub extension: Oid,
    /// The private schema.
    pub schema: Oid,
    /// The table of contracts.
    pub contract_table: Oid,
}

impl Own {
    /// Finds the extension. An error where it is not installed in this database, or its table is gone.
    pub fn find(state: &State) -> Self {
        let missing = |what: &str| -> ! {
            Report {
                message: format!("{what} is missing"),
                detail: String::new(),
                hint: "As a superuser, SET dragonfly_guard.mode = off to get on, and install the extension anew.".into(),
            }
            .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
        };
        let Some((extension, schema)) = Self::row(state) else { missing("extension dragonfly_guard") };
        let Some(contract_table) = Self::table(state, extension, "contract") else {
            missing("the table of contracts of extension dragonfly_guard")
        };
        Self { extension, schema, contract_table }
    }

    /// The table of exemptions; `None` where it is missing.
    pub fn exemption_table(&self, state: &State) -> Option<Oid> {
        Self::table(state, self.extension, "exemption")
    }

    /// The table of frozen schemas; `None` where it is missing.
    pub fn frozen_table(&self, state: &State) -> Option<Oid> {
        Self::table(state, self.extension, "frozen_schema")
    }

    /// The table of the log; `None` where it, or the extension, is missing. Never an error: it is asked where everything else may be broken.
    pub fn log_table(state: &State) -> Option<Oid> {
        Self::row(state).and_then(|(extension, _)| Self::table(state, extension, "log"))
    }

    /// The table of this name that belongs to the extension, and not whatever else may have taken its name.
    fn table(state: &State, extension: Oid, wanted: &str) -> Option<Oid> {
        let class = Table::open(oids::PG_CLASS);
        let (oid, name, kind) = (class.column("oid"), class.column("relname"), class.column("relkind"));
        let mut found = None;
        super::objects::members(state, extension, &mut |member_class, object| {
            if member_class == oids::PG_CLASS {
                class.lookup(state, oids::PG_CLASS_OID_INDEX, &[(oid, object)], |row| {
                    if row.char(kind) == b'r' && row.name(name) == wanted {
                        found = Some(object);
                    }
                });
            }
        });
        found
    }

    /// Whether it is installed in this database, as that state shows it.
    pub fn is_there(state: &State) -> bool {
        Self::row(state).is_some()
    }

    /// OID and schema of the extension.
    fn row(state: &State) -> Option<(Oid, Oid)> {
        let table = Table::open(oids::PG_EXTENSION);
        let (oid, name, schema) = (table.column("oid"), table.column("extname"), table.column("extnamespace"));
        let mut found = None;
        table.scan(state, |row| {
            if row.name(name) == NAME {
                found = Some((row.oid(oid), row.oid(schema)));
            }
        });
        found
    }

    /// Whether this is the extension, as one of those states shows it.
    pub fn is(extension: Oid, states: [&State; 2]) -> bool {
        states.iter().any(|state| Self::row(state).is_some_and(|(oid, _)| oid == extension))
    }

    /// Waits for its turn, until the end of the transaction.
    pub fn lock(&self) {
        // SAFETY: locks by OID.
        unsafe {
            let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
            pg_sys::LockDatabaseObject(oids::PG_EXTENSION.into(), self.extension.into(), TURN, mode);
        }
    }

    /// Makes this session the only one that changes contract, exemptions or frozen schemas, until its transaction ends. An error where another is just doing so:
    /// whoever waited would change what it has not seen.
    pub fn change(&self, what: &str) {
        let command = std::ffi::CString::new(format!("a change of {what}")).unwrap_or_default();
        // SAFETY: an error where the transaction is read-only, as on a standby.
        unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
        if !self.try_lock_changes() {
            Report {
                message: format!("another session is just changing {what}"),
                detail: "Contract, exemptions and frozen schemas are changed by one transaction at a time.".into(),
                hint: "Look at what it has done, and try again.".into(),
            }
            .error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE);
        }
    }

    fn try_lock_changes(&self) -> bool {
        // SAFETY: reads a variable of the backend; the tag is what SET_LOCKTAG_OBJECT makes (lock.h).
        unsafe {
            let tag = pg_sys::LOCKTAG {
                locktag_field1: pg_sys::MyDatabaseId.to_u32(),
                locktag_field2: oids::PG_EXTENSION,
                locktag_field3: self.extension,
                locktag_field4: CHANGES,
                locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
            };
            let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
            pg_sys::LockAcquire(&tag, mode, false, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
        }
    }

    /// Gives the turn back before the transaction ends.
    pub fn unlock(&self) {
        // SAFETY: undoes what `lock` did in this transaction.
        unsafe {
            let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
            pg_sys::UnlockDatabaseObject(oids::PG_EXTENSION.into(), self.extension.into(), TURN, mode);
        }
    }

    /// Calls `each` with class and OID of every member of the extension.
    pub fn members(&self, state: &State, mut each: impl FnMut(Oid, Oid)) {
        super::objects::members(state, self.extension, &mut each);
    }
}

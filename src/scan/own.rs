//! The extension's own objects, found by what belongs to the extension and never by a name that somebody else could take.

use super::oids;
use crate::pg::heap::{Latest, Table};
use crate::pg::report::Report;
use dragonfly_core::catalog::Oid;
use pgrx::{PgSqlErrorCode, pg_sys};

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
    pub fn find(latest: &Latest) -> Self {
        let missing = |what: &str| -> ! {
            Report {
                message: format!("{what} is missing"),
                detail: String::new(),
                hint: "As a superuser, SET dragonfly_guard.mode = off to get on, and install the extension anew.".into(),
            }
            .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
        };
        // SAFETY: a C string; 0 where there is no such extension.
        let extension = unsafe { pg_sys::get_extension_oid(c"dragonfly_guard".as_ptr(), true) }.to_u32();
        if extension == 0 {
            missing("extension dragonfly_guard");
        }
        let mut schema = 0;
        let table = Table::open(oids::PG_EXTENSION);
        let (oid, namespace) = (table.column("oid"), table.column("extnamespace"));
        table.scan(latest, |row| {
            if row.oid(oid) == extension {
                schema = row.oid(namespace);
            }
        });
        // The table that belongs to the extension, and not whatever else may have taken its name.
        let class = Table::open(oids::PG_CLASS);
        let (oid, name, kind) = (class.column("oid"), class.column("relname"), class.column("relkind"));
        let mut contract_table = 0;
        super::objects::members(latest, extension, &mut |member_class, object| {
            if member_class == oids::PG_CLASS {
                class.lookup(latest, oids::PG_CLASS_OID_INDEX, &[(oid, object)], |row| {
                    if row.char(kind) == b'r' && row.name(name) == "contract" {
                        contract_table = object;
                    }
                });
            }
        });
        if contract_table == 0 {
            missing("the table of contracts of extension dragonfly_guard");
        }
        Self { extension, schema, contract_table }
    }

    /// Waits for its turn, until the end of the transaction.
    pub fn lock(&self) {
        // SAFETY: locks by OID; an error where the extension has been dropped meanwhile ends the statement as any other.
        unsafe {
            let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
            pg_sys::LockDatabaseObject(oids::PG_EXTENSION.into(), self.extension.into(), 0, mode);
        }
    }

    /// Calls `each` with class and OID of every member of the extension.
    pub fn members(&self, latest: &Latest, mut each: impl FnMut(Oid, Oid)) {
        super::objects::members(latest, self.extension, &mut each);
    }
}

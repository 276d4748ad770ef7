//! The extension's own objects, found by what belongs to the extension and never by a name that
//! somebody else could take.

use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::report::Report;
use dragonfly_core::catalog::Oid;
use pgrx::PgSqlErrorCode;

/// The extension's name.
const NAME: &str = "dragonfly_guard";

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
    /// Finds the extension. An error where it is not installed in this database, or its table is
    /// gone.
    pub fn find(state: &State) -> Self {
        let missing = |what: &str| -> ! {
            Report {
                message: format!("{what} is missing"),
                detail: String::new(),
                hint: "As a superuser, SET dragonfly_guard.mode = off to get on, and install the extension anew.".into(),
            }
            .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
        };
        let Some((extension, schema)) = Self::row(state) else {
            missing("extension dragonfly_guard")
        };
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

    /// The table of the log; `None` where it, or the extension, is missing. Never an error: it is
    /// asked where everything else may be broken.
    pub fn log_table(state: &State) -> Option<Oid> {
        Self::row(state).and_then(|(extension, _)| Self::table(state, extension, "log"))
    }

    /// The table of this name that belongs to the extension, and not whatever else may have taken
    /// its name.
    fn table(state: &State, extension: Oid, wanted: &str) -> Option<Oid> {
        let class = Table::open(oids::PG_CLASS);
        let (oid, name, kind) =
            (class.column("oid"), class.column("relname"), class.column("relkind"));
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
        let (oid, name, schema) =
            (table.column("oid"), table.column("extname"), table.column("extnamespace"));
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

    /// Calls `each` with class and OID of every member of the extension.
    pub fn members(&self, state: &State, mut each: impl FnMut(Oid, Oid)) {
        super::objects::members(state, self.extension, &mut each);
    }
}

//! The extension's own objects, found by their membership in the extension and never by a name
//! that another role could have taken.

use crate::source::State;
use crate::{objects, oids};
use dragonfly_core::catalog::Oid;

/// The extension's name.
const NAME: &str = "dragonfly_guard";

/// The OIDs of the extension and its main objects.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// The OID of its row in `pg_extension`.
    pub extension: Oid,
    /// The private schema.
    pub schema: Oid,
    /// The table of contracts.
    pub contract_table: Oid,
}

impl Own {
    /// Returns the extension; `None` where it is not installed in this database, or its table of
    /// contracts does not exist.
    pub fn complete(state: &dyn State) -> Option<Self> {
        let (extension, schema) = Self::row(state)?;
        let contract_table = Self::table(state, (extension, schema), "contract")?;
        Some(Self { extension, schema, contract_table })
    }

    /// Returns the table of exemptions; `None` where it does not exist.
    pub fn exemption_table(&self, state: &dyn State) -> Option<Oid> {
        Self::table(state, (self.extension, self.schema), "exemption")
    }

    /// Returns the table of frozen schemas; `None` where it does not exist.
    pub fn frozen_table(&self, state: &dyn State) -> Option<Oid> {
        Self::table(state, (self.extension, self.schema), "frozen_schema")
    }

    /// Returns the log table; `None` where it or the extension does not exist. Raises no error,
    /// because events are logged even where other parts of the extension are broken.
    pub fn log_table(state: &dyn State) -> Option<Oid> {
        Self::row(state).and_then(|own| Self::table(state, own, "log"))
    }

    /// Returns the table of this name that is a member of the extension: usually the one in its
    /// private schema, which takes two lookups.
    pub fn table(
        state: &dyn State,
        (extension, own_schema): (Oid, Oid),
        wanted: &str,
    ) -> Option<Oid> {
        let class = state.table(oids::PG_CLASS);
        let (oid, name, kind) =
            (class.column("oid"), class.column("relname"), class.column("relkind"));
        let schema = class.column("relnamespace");
        let mut found = None;
        class.lookup_name(oids::PG_CLASS_NAME_INDEX, name, wanted, |row| {
            if row.oid(schema) == own_schema && row.char(kind) == b'r' {
                found = Some(row.oid(oid));
            }
        });
        let is_member =
            |table: &Oid| objects::extension_of(state, oids::PG_CLASS, *table) == Some(extension);
        if let Some(table) = found.filter(is_member) {
            return Some(table);
        }
        found = None;
        objects::members(state, extension, &mut |member_class, object| {
            if member_class == oids::PG_CLASS {
                class.lookup(oids::PG_CLASS_OID_INDEX, &[(oid, object)], |row| {
                    if row.char(kind) == b'r' && row.name(name) == wanted {
                        found = Some(object);
                    }
                });
            }
        });
        found
    }

    /// Whether the extension is installed in this database, in a state of the catalogs.
    pub fn is_there(state: &dyn State) -> bool {
        Self::row(state).is_some()
    }

    /// Returns the version of the extension's objects; `None` where it is not installed.
    pub fn version(state: &dyn State) -> Option<String> {
        let table = state.table(oids::PG_EXTENSION);
        let (name, version) = (table.column("extname"), table.column("extversion"));
        let mut found = None;
        table.scan(|row| {
            if row.name(name) == NAME {
                found = row.text(version);
            }
        });
        found
    }

    /// Returns OID and schema of the extension.
    pub fn row(state: &dyn State) -> Option<(Oid, Oid)> {
        let table = state.table(oids::PG_EXTENSION);
        let (oid, name, schema) =
            (table.column("oid"), table.column("extname"), table.column("extnamespace"));
        let mut found = None;
        table.scan(|row| {
            if row.name(name) == NAME {
                found = Some((row.oid(oid), row.oid(schema)));
            }
        });
        found
    }

    /// Whether this is the extension, in one of two states of the catalogs.
    pub fn is(extension: Oid, states: [&dyn State; 2]) -> bool {
        states.iter().any(|state| Self::row(*state).is_some_and(|(oid, _)| oid == extension))
    }

    /// Calls `each` with class and OID of every member of the extension.
    pub fn members(&self, state: &dyn State, mut each: impl FnMut(Oid, Oid)) {
        objects::members(state, self.extension, &mut each);
    }
}

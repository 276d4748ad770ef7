//! Where the rows of catalogs come from: a server, or a file with a copy of them.

use crate::rights::Rights;
use crate::text_body::Texts;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Acl, AclItem, Oid, Shared, Snapshot};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

/// A state of the catalogs.
pub trait State {
    /// Opens a catalog. Raises an error where it does not exist.
    fn open(&self, catalog: Oid) -> Box<dyn Rows + '_>;

    /// Whether the server has a catalog: older releases do not have all of them.
    fn has_catalog(&self, catalog: Oid) -> bool;

    /// Called in every loop over user objects, so that a user can cancel it.
    fn interrupts(&self);

    /// Returns the server's major version.
    fn version(&self) -> u32;

    /// Whether the encoding of the database is UTF-8, so that names are folded and truncated as the
    /// core does it.
    fn is_utf8(&self) -> bool;

    /// Returns the search_path with quoted names, where the encoding is another one than UTF-8;
    /// unchanged where it is not a valid list.
    fn quoted_path(&self, value: &str) -> String;

    /// Returns the OID of the database.
    fn database(&self) -> Oid;

    /// Returns the time of the state, in microseconds since 2000.
    fn time(&self) -> i64;

    /// Returns the value that a setting has in a new session, unless a role or a database has
    /// another one; `None` where it is not known.
    fn default_of(&self, setting: &str) -> Option<String>;

    /// Whether a setting exists whose value the role that has read the catalogs may not see.
    fn hides(&self, setting: &str) -> bool {
        let _ = setting;
        false
    }

    /// Returns the role that has logged in; `None` where it is not known.
    fn login(&self) -> Option<Oid>;

    /// Returns a list of libraries with the folder of the server's libraries in place of `$libdir`.
    fn libraries(&self, list: &str) -> String;

    /// Whether the first folder of a search path for libraries has the guard's library.
    fn leads_to_own_library(&self, path: &str) -> bool;

    /// Whether the platform replaces a function of the guard's event triggers in this session, and
    /// nothing else checks the session.
    fn skips(&self, function: Oid) -> bool;

    /// Whether the platform may skip event triggers in sessions of superusers, and nothing else
    /// checks these sessions.
    fn skips_superusers(&self) -> bool;

    /// Whether the server has a setting of this name.
    fn has_setting(&self, name: &str) -> bool;

    /// Returns the name that a type has in the state, qualified whatever the search_path is; `???`
    /// where it does not exist. Types of the server have the names of the SQL standard: `bigint`.
    fn type_name(&self, oid: Oid) -> String;

    /// Returns the name that a type has now; `???` where it does not exist.
    fn type_name_now(&self, oid: Oid) -> String;

    /// Returns schema and name that a relation or a routine has now; `None` for other objects and
    /// for objects that do not exist.
    fn name(&self, catalog: Oid, object: Oid) -> Option<(String, String)>;

    /// Returns the name that a schema has now; `None` where it does not exist.
    fn schema_name(&self, schema: Oid) -> Option<String>;

    /// Returns the bytes of a constant in a stored expression as the output function of its type
    /// writes them; `None` where that cannot be done without executing code of an application.
    fn constant(&self, data_type: Oid, bytes: &[u8]) -> Option<String>;

    /// Returns what roles may do in the state; `access` is that of `snapshot`, which has the roles,
    /// memberships and schemas of the state.
    fn rights<'a>(&'a self, snapshot: &'a Snapshot, access: &'a Access<'a>)
    -> Box<dyn Rights + 'a>;

    /// Returns a reader of the texts of functions; `None` where there is no server that reads them.
    fn texts(&self) -> Option<Box<dyn Texts + '_>>;
}

impl dyn State + '_ {
    /// Opens a catalog. Raises an error where it does not exist.
    pub fn table(&self, catalog: Oid) -> Table<'_> {
        Table(self.open(catalog))
    }
}

/// The rows of a catalog in a state.
pub trait Rows {
    /// Returns the column of this name; `None` where it does not exist, as in an older release.
    fn find(&self, name: &str) -> Option<Column>;

    /// Returns the column of this name.
    ///
    /// # Panics
    /// If the column does not exist.
    fn column(&self, name: &str) -> Column {
        self.find(name).unwrap_or_else(|| panic!("catalog column \"{name}\" does not exist"))
    }

    /// Calls `each` with the wanted rows until it returns false.
    fn visit(&self, wanted: &Wanted<'_>, each: &mut dyn FnMut(Row<'_>) -> bool);

    /// Returns the number of pages with rows.
    fn pages(&self) -> usize;
}

/// Which rows are wanted.
#[derive(Debug)]
pub enum Wanted<'k> {
    /// All.
    All,
    /// Those whose leading columns of an index equal the keys, all of type oid.
    Equal { index: Oid, keys: &'k [(Column, Oid)] },
    /// Those whose leading column of an index, of type oid, is less than a value.
    Below { index: Oid, column: Column, end: Oid },
    /// Those whose leading column of an index, of type name, equals a value.
    Named { index: Oid, column: Column, name: &'k str },
}

/// A column of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its number in the source.
    pub number: i16,
    /// Whether it is declared NOT NULL.
    pub not_null: bool,
}

/// A catalog, open for reading.
pub struct Table<'s>(Box<dyn Rows + 's>);

impl Table<'_> {
    /// Returns the column of this name.
    ///
    /// # Panics
    /// If the column does not exist.
    #[must_use]
    pub fn column(&self, name: &str) -> Column {
        self.0.column(name)
    }

    /// Returns the column of this name; `None` where it does not exist, as in an older release.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Column> {
        self.0.find(name)
    }

    /// Calls `each` with every row.
    pub fn scan(&self, mut each: impl FnMut(Row<'_>)) {
        self.visit(&Wanted::All, &mut each);
    }

    /// Calls `each` with the rows whose leading index columns equal `keys`, all of type oid.
    pub fn lookup(&self, index: Oid, keys: &[(Column, Oid)], mut each: impl FnMut(Row<'_>)) {
        self.visit(&Wanted::Equal { index, keys }, &mut each);
    }

    /// As [`Table::lookup`], until `each` returns false.
    pub fn lookup_while(
        &self,
        index: Oid,
        keys: &[(Column, Oid)],
        mut each: impl FnMut(Row<'_>) -> bool,
    ) {
        self.0.visit(&Wanted::Equal { index, keys }, &mut each);
    }

    /// Calls `each` with the rows whose leading index column, of type oid, is less than `end`.
    pub fn lookup_below(
        &self,
        index: Oid,
        (column, end): (Column, Oid),
        mut each: impl FnMut(Row<'_>),
    ) {
        self.visit(&Wanted::Below { index, column, end }, &mut each);
    }

    /// Calls `each` with the rows whose leading index column, of type name, equals `name`.
    pub fn lookup_name(
        &self,
        index: Oid,
        column: Column,
        name: &str,
        mut each: impl FnMut(Row<'_>),
    ) {
        self.visit(&Wanted::Named { index, column, name }, &mut each);
    }

    fn visit(&self, wanted: &Wanted<'_>, each: &mut dyn FnMut(Row<'_>)) {
        self.0.visit(wanted, &mut |row| {
            each(row);
            true
        });
    }

    /// Returns the number of pages with rows.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.0.pages()
    }
}

/// The values of a row.
pub trait Values {
    /// Whether a column is null.
    fn is_null(&self, column: Column) -> bool;
    /// Returns a column of type oid; 0 where null.
    fn oid(&self, column: Column) -> Oid;
    /// Returns a column of type int4, or of type int2 in the lower half; 0 where null.
    fn int(&self, column: Column) -> i32;
    /// Returns a column of type timestamptz: microseconds since 2000; `None` where null.
    fn timestamp(&self, column: Column) -> Option<i64>;
    /// Returns a column of type bool; false where null.
    fn bool(&self, column: Column) -> bool;
    /// Returns a column of type "char"; 0 where null.
    fn char(&self, column: Column) -> u8;
    /// Returns a column of type name; empty where null.
    fn name(&self, column: Column) -> Cow<'_, str>;
    /// Returns a column of type text or with the same representation; `None` where null.
    fn text(&self, column: Column) -> Option<String>;
    /// Calls `use_it` with what identifies the value of a variable-length column: of type text, its
    /// bytes. Without a call where null.
    fn with_bytes(&self, column: Column, use_it: &mut dyn FnMut(&[u8]));
    /// Returns a column of type bytea; `None` where null.
    fn bytea(&self, column: Column) -> Option<Vec<u8>>;
    /// Returns the elements of a column of type aclitem[]; none where null.
    fn acl_items(&self, column: Column) -> Vec<AclItem>;
    /// Returns a column of type oid[] or oidvector; empty where null.
    fn oids(&self, column: Column) -> Vec<Oid>;
    /// Returns a column of type int2vector or int2[]; empty where null.
    fn numbers(&self, column: Column) -> Vec<i16>;
    /// Returns a column of type text[]; empty where null.
    fn texts(&self, column: Column) -> Vec<String>;
    /// Returns a column of type "char"[]; empty where null.
    fn chars(&self, column: Column) -> Vec<u8>;
    /// Whether the current transaction, or a subtransaction of it, has written the row.
    fn is_own(&self) -> bool;
}

/// One row of a [`Table`].
#[derive(Clone, Copy)]
pub struct Row<'r>(pub &'r dyn Values);

impl<'r> Row<'r> {
    /// Whether a column is null.
    #[must_use]
    pub fn is_null(&self, column: Column) -> bool {
        self.0.is_null(column)
    }

    /// Returns a column of type oid; 0 where null.
    #[must_use]
    pub fn oid(&self, column: Column) -> Oid {
        self.0.oid(column)
    }

    /// Returns a column of type int4, or of type int2 in the lower half; 0 where null.
    #[must_use]
    pub fn int(&self, column: Column) -> i32 {
        self.0.int(column)
    }

    /// Returns a column of type timestamptz: microseconds since 2000; `None` where null.
    #[must_use]
    pub fn timestamp(&self, column: Column) -> Option<i64> {
        self.0.timestamp(column)
    }

    /// Returns a column of type bool; false where null.
    #[must_use]
    pub fn bool(&self, column: Column) -> bool {
        self.0.bool(column)
    }

    /// Returns a column of type "char"; 0 where null.
    #[must_use]
    pub fn char(&self, column: Column) -> u8 {
        self.0.char(column)
    }

    /// Returns a column of type name; empty where null.
    #[must_use]
    pub fn name(&self, column: Column) -> String {
        self.0.name(column).into_owned()
    }

    /// Returns a column of type name, without a copy where none is needed.
    #[must_use]
    pub fn borrowed_name(&self, column: Column) -> Cow<'r, str> {
        self.0.name(column)
    }

    /// Returns a column of type text or with the same representation; `None` where null.
    #[must_use]
    pub fn text(&self, column: Column) -> Option<String> {
        self.0.text(column)
    }

    /// Returns the bytes of a column of type text; `None` where null.
    #[must_use]
    pub fn bytes(&self, column: Column) -> Option<Vec<u8>> {
        let mut found = None;
        self.0.with_bytes(column, &mut |bytes| found = Some(bytes.to_vec()));
        found
    }

    /// Returns a column of type bytea; `None` where null.
    #[must_use]
    pub fn bytea(&self, column: Column) -> Option<Vec<u8>> {
        self.0.bytea(column)
    }

    /// Returns a column of type aclitem[]; `None` where null.
    #[must_use]
    pub fn acl(&self, column: Column) -> Option<Acl> {
        (!self.is_null(column)).then(|| self.acl_items(column).into())
    }

    /// Returns the elements of a column of type aclitem[]; none where null.
    #[must_use]
    pub fn acl_items(&self, column: Column) -> Vec<AclItem> {
        self.0.acl_items(column)
    }

    /// Returns a column of type oid[] or oidvector; empty where null.
    #[must_use]
    pub fn oids(&self, column: Column) -> Vec<Oid> {
        self.0.oids(column)
    }

    /// Returns a column of type int2vector or int2[]; empty where null.
    #[must_use]
    pub fn numbers(&self, column: Column) -> Vec<i16> {
        self.0.numbers(column)
    }

    /// Returns a column of type text[]; empty where null.
    #[must_use]
    pub fn texts(&self, column: Column) -> Vec<String> {
        self.0.texts(column)
    }

    /// Returns a column of type "char"[]; empty where null.
    #[must_use]
    pub fn chars(&self, column: Column) -> Vec<u8> {
        self.0.chars(column)
    }

    /// Whether the current transaction, or a subtransaction of it, has written the row.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.is_own()
    }
}

/// Values of a variable-length column that many rows have: each of them is read once.
#[derive(Debug)]
pub struct Repeated<T> {
    /// By their bytes.
    known: RefCell<HashMap<Box<[u8]>, Shared<T>>>,
}

impl<T> Default for Repeated<T> {
    fn default() -> Self {
        Self { known: RefCell::default() }
    }
}

impl<T> Repeated<T> {
    /// Returns the value of a column as `read` returns it; `None` where null.
    pub fn get<'r>(
        &self,
        row: &Row<'r>,
        column: Column,
        read: impl Fn(&Row<'r>, Column) -> T,
    ) -> Option<Shared<T>> {
        let mut found = None;
        row.0.with_bytes(column, &mut |bytes| {
            let mut known = self.known.borrow_mut();
            found = Some(known.get(bytes).cloned().unwrap_or_else(|| {
                let value: Shared<T> = read(row, column).into();
                known.insert(bytes.into(), value.clone());
                value
            }));
        });
        found
    }
}

/// A catalog and its index on the OID.
#[derive(Debug, Clone, Copy)]
pub struct ByOid {
    /// The catalog.
    pub catalog: Oid,
    /// The index.
    pub index: Oid,
}

/// Reads one column of the catalog row with an OID; `None` where there is no such row.
pub fn of_row<T>(
    state: &dyn State,
    ByOid { catalog, index }: ByOid,
    oid: Oid,
    column: &str,
    read: impl FnOnce(Row<'_>, Column) -> T,
) -> Option<T> {
    let table = state.table(catalog);
    let (key, column) = (table.column("oid"), table.column(column));
    let (mut read, mut found) = (Some(read), None);
    table.lookup(index, &[(key, oid)], |row| {
        found = read.take().map(|read| read(row, column));
    });
    found
}

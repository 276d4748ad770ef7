//! A snapshot as data as a source of the rows of catalogs.

use crate::analysis::InSnapshot;
use crate::by_rows::ByRows;
use crate::catalogs;
use crate::data::{Contents, Data, DataRow, acl, bytes};
use crate::oids;
use crate::printed;
use crate::rights::Rights;
use crate::source::{ByOid, Column, Row, Rows, State, Values, Wanted, of_row};
use crate::text_body::Texts;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{AclItem, Oid, Snapshot};
use std::borrow::Cow;

/// A catalog of a snapshot. An older release than the newest does not have all of them.
struct Table<'d> {
    data: &'d Data,
    catalog: Oid,
    contents: Option<&'d Contents>,
}

/// The settings that older releases do not have, with the first major version that has them.
const ADDED_SETTINGS: [(&str, u32); 2] = [("event_triggers", 17), ("extension_control_path", 18)];

/// The settings that pg_settings does not show.
const UNLISTED: [&str; 4] = ["role", "session_authorization", "is_superuser", "seed"];

/// The number of a column that an older release does not have: it is null in every row.
const MISSING: i16 = -1;

impl Rows for Table<'_> {
    fn find(&self, name: &str) -> Option<Column> {
        let number = self.contents?.column(name)? as i16;
        Some(Column { number, not_null: false })
    }

    fn column(&self, name: &str) -> Column {
        let known = catalogs::catalog(self.catalog)
            .is_some_and(|catalog| catalog.columns.iter().any(|(column, _)| *column == name));
        // A snapshot has every column that the reader looks at, unless the release does not.
        assert!(known, "column \"{name}\" is not one of those that a snapshot has");
        self.find(name).unwrap_or(Column { number: MISSING, not_null: false })
    }

    fn visit(&self, wanted: &Wanted<'_>, each: &mut dyn FnMut(Row<'_>) -> bool) {
        let Some(contents) = self.contents else { return };
        let place = |column: &Column| usize::try_from(column.number).unwrap_or(usize::MAX);
        let rows: Cow<'_, [u32]> = match wanted {
            Wanted::All => (0..contents.len()).collect::<Vec<_>>().into(),
            Wanted::Equal { index, keys } => {
                let keys: Vec<(usize, Oid)> =
                    keys.iter().map(|(column, value)| (place(column), *value)).collect();
                self.data.rows_with(self.catalog, *index, &keys).into()
            }
            Wanted::Below { column, end, .. } => {
                let is_below = |row: &u32| {
                    let value = DataRow::new(self.data, contents, *row).number(place(column));
                    value.is_some_and(|value| value < i64::from(*end))
                };
                (0..contents.len()).filter(is_below).collect::<Vec<_>>().into()
            }
            Wanted::Named { index, column, name } => {
                self.data.rows_named(self.catalog, *index, place(column), name).into()
            }
        };
        for row in rows.iter() {
            self.data.check_interrupts();
            let row = DataRow::new(self.data, contents, *row);
            if !each(Row(&row)) {
                return;
            }
        }
    }

    fn pages(&self) -> usize {
        // About as many rows fit on a page of the server.
        self.contents.map_or(0, |contents| contents.len() as usize / 50)
    }
}

fn place(column: Column) -> usize {
    usize::try_from(column.number).unwrap_or(usize::MAX)
}

impl Values for DataRow<'_> {
    fn is_null(&self, column: Column) -> bool {
        self.is_null(place(column))
    }

    fn oid(&self, column: Column) -> Oid {
        self.number(place(column)).unwrap_or_default() as Oid
    }

    fn int(&self, column: Column) -> i32 {
        self.number(place(column)).unwrap_or_default() as i32
    }

    fn timestamp(&self, column: Column) -> Option<i64> {
        self.number(place(column))
    }

    fn bool(&self, column: Column) -> bool {
        self.is_true(place(column))
    }

    fn char(&self, column: Column) -> u8 {
        let text = self.text(place(column)).unwrap_or_default();
        text.bytes().next().unwrap_or_default()
    }

    fn name(&self, column: Column) -> Cow<'_, str> {
        self.text(place(column)).unwrap_or_default().into()
    }

    fn text(&self, column: Column) -> Option<String> {
        self.text(place(column)).map(str::to_owned)
    }

    fn with_bytes(&self, column: Column, use_it: &mut dyn FnMut(&[u8])) {
        if !self.is_null(place(column)) {
            use_it(&self.identifying(place(column)));
        }
    }

    fn bytea(&self, column: Column) -> Option<Vec<u8>> {
        self.text(place(column)).and_then(bytes)
    }

    fn acl_items(&self, column: Column) -> Vec<AclItem> {
        self.text(place(column)).and_then(acl).unwrap_or_default()
    }

    fn oids(&self, column: Column) -> Vec<Oid> {
        self.numbers(place(column)).iter().map(|oid| *oid as Oid).collect()
    }

    fn numbers(&self, column: Column) -> Vec<i16> {
        self.numbers(place(column)).iter().map(|number| *number as i16).collect()
    }

    fn texts(&self, column: Column) -> Vec<String> {
        self.texts(place(column)).iter().map(|text| text.as_ref().to_owned()).collect()
    }

    fn chars(&self, column: Column) -> Vec<u8> {
        self.text(place(column)).unwrap_or_default().bytes().collect()
    }

    fn is_own(&self) -> bool {
        false
    }
}

impl Data {
    /// Returns the label of a value of an enumeration; `None` for values of other types.
    fn label(&self, data_type: Oid, bytes: &[u8]) -> Option<String> {
        let state: &dyn State = self;
        let kind =
            of_row(state, oids::TYPE_BY_OID, data_type, "typtype", |row, kind| row.char(kind));
        let oid = Oid::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let is_enumeration = kind == Some(b'e');
        let by_oid = ByOid { catalog: oids::PG_ENUM, index: oids::PG_ENUM_OID_INDEX };
        of_row(state, by_oid, oid, "enumlabel", |row, label| row.name(label))
            .filter(|_| is_enumeration)
    }
}

impl State for Data {
    fn open(&self, catalog: Oid) -> Box<dyn Rows + '_> {
        Box::new(Table { data: self, catalog, contents: self.contents(catalog) })
    }

    fn has_catalog(&self, catalog: Oid) -> bool {
        self.contents(catalog).is_some()
    }

    fn interrupts(&self) {
        self.check_interrupts();
    }

    fn version(&self) -> u32 {
        self.version()
    }

    fn is_utf8(&self) -> bool {
        self.server.encoding == "UTF8"
    }

    fn quoted_path(&self, value: &str) -> String {
        // How names in other encodings are folded, only the server knows.
        value.to_owned()
    }

    fn database(&self) -> Oid {
        self.server.database
    }

    fn time(&self) -> i64 {
        self.server.time
    }

    fn default_of(&self, setting: &str) -> Option<String> {
        self.server.settings.get(setting).cloned().flatten()
    }

    fn hides(&self, setting: &str) -> bool {
        // The server shows the values of some to superusers and members of pg_read_all_settings
        // only. Settings of an extension exist where it is loaded.
        let since = ADDED_SETTINGS.iter().find(|(added, _)| *added == setting);
        let exists = since.is_none_or(|(_, since)| self.version() >= *since);
        exists && !setting.contains('.') && self.default_of(setting).is_none()
    }

    fn login(&self) -> Option<Oid> {
        let state: &dyn State = self;
        let table = state.table(oids::PG_AUTHID);
        let (oid, name) = (table.column("oid"), table.column("rolname"));
        let mut found = None;
        table.scan(|row| {
            if row.borrowed_name(name) == *self.server.role {
                found = Some(row.oid(oid));
            }
        });
        found
    }

    fn libraries(&self, list: &str) -> String {
        list.to_owned()
    }

    fn leads_to_own_library(&self, path: &str) -> bool {
        path.split(':').next() == Some("$libdir")
    }

    fn skips(&self, _: Oid) -> bool {
        // Only the server itself can tell.
        false
    }

    fn skips_superusers(&self) -> bool {
        false
    }

    fn has_setting(&self, name: &str) -> bool {
        let mut known = self.server.settings.keys().map(String::as_str).chain(UNLISTED);
        known.any(|known| known.eq_ignore_ascii_case(name))
    }

    fn type_name(&self, oid: Oid) -> String {
        let name = |row: Row<'_>, name| row.text(name);
        let found = of_row(self, oids::TYPE_BY_OID, oid, catalogs::TYPE_NAME, name);
        found.flatten().unwrap_or_else(|| "???".to_owned())
    }

    fn type_name_now(&self, oid: Oid) -> String {
        self.type_name(oid)
    }

    fn name(&self, catalog: Oid, object: Oid) -> Option<(String, String)> {
        let state: &dyn State = self;
        let (by, name, schema) = match catalog {
            oids::PG_CLASS => (oids::CLASS_BY_OID, "relname", "relnamespace"),
            oids::PG_PROC => (oids::PROC_BY_OID, "proname", "pronamespace"),
            _ => return None,
        };
        let schema = of_row(state, by, object, schema, |row, of| row.oid(of))?;
        let name = of_row(state, by, object, name, |row, of| row.name(of))?;
        Some((self.schema_name(schema)?, name))
    }

    fn schema_name(&self, schema: Oid) -> Option<String> {
        of_row(self, oids::NAMESPACE_BY_OID, schema, "nspname", |row, name| row.name(name))
    }

    fn constant(&self, data_type: Oid, bytes: &[u8]) -> Option<String> {
        printed::constant(data_type, bytes).or_else(|| self.label(data_type, bytes))
    }

    fn rights<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        access: &'a Access<'a>,
    ) -> Box<dyn Rights + 'a> {
        Box::new(ByRows::new(self, snapshot, access))
    }

    fn texts(&self) -> Option<Box<dyn Texts + '_>> {
        Some(Box::new(InSnapshot::new(self)))
    }
}

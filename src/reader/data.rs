//! Rows of catalogs in memory, as a file has them: a snapshot as data.

use crate::catalogs::{CATALOGS, Catalog, Kind};
use crate::oids;
use dragonfly_core::catalog::{AclItem, Oid, Privileges};
use dragonfly_core::rules::shared::guard_settings;
use dragonfly_core::rules::stored_settings;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::rc::Rc;

/// The format's version. A reader rejects others.
pub const VERSION: u32 = 1;

/// A snapshot as data.
#[derive(Debug)]
pub struct Data {
    /// What is known of the server and of the session that has read the catalogs.
    pub server: Server,
    /// The rows, by the OID of the catalog.
    catalogs: HashMap<Oid, Contents>,
    pool: Pool,
    indexes: RefCell<Indexes>,
    /// The functions of which the text has been asked for and is not read.
    unread: RefCell<BTreeSet<Oid>>,
    interrupts: fn(),
}

/// What a snapshot says of the server and of the session that has read the catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `server_version_num`.
    pub version_num: u32,
    /// The encoding of the database.
    pub encoding: String,
    /// The OID of the database.
    pub database: Oid,
    /// The role that has read the catalogs.
    pub role: String,
    /// When they were read, in microseconds since 2000.
    pub time: i64,
    /// The settings of the server, and the values with which sessions start of those that matter.
    pub settings: BTreeMap<String, Option<String>>,
}

/// The rows of a catalog.
#[derive(Debug, Default)]
pub struct Contents {
    columns: Vec<String>,
    /// The values, one row after the other.
    cells: Vec<Cell>,
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Null,
    Bool(bool),
    Oid(Oid),
    Int(i32),
    /// A number that fits in none of these, by its place in the pool.
    Big(u32),
    /// A string, by its place in the pool.
    Text(u32),
    /// An array of numbers, by its place in the pool.
    Numbers(u32),
    /// An array of strings, by its place in the pool.
    Texts(u32),
}

/// Values that rows share: thousands of rows have the same one.
#[derive(Debug, Default)]
struct Pool {
    big: Vec<i64>,
    texts: Interned<str>,
    numbers: Interned<[i64]>,
    lists: Interned<[Rc<str>]>,
}

/// Distinct values with their places.
#[derive(Debug)]
struct Interned<T: ?Sized> {
    all: Vec<Rc<T>>,
    places: HashMap<Rc<T>, u32>,
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: HashMap::new() }
    }
}

impl<T: ?Sized + std::hash::Hash + Eq> Interned<T> {
    fn place<V: AsRef<T> + Into<Rc<T>>>(&mut self, value: V) -> u32 {
        if let Some(place) = self.places.get(value.as_ref()) {
            return *place;
        }
        let (place, value) = (self.all.len() as u32, value.into());
        self.places.insert(Rc::clone(&value), place);
        self.all.push(value);
        place
    }
}

/// The indexes that have been asked for, by the server's index and the columns.
type Indexes = HashMap<(Oid, Vec<usize>), Rc<Index>>;

/// The rows with each value of some columns.
type Index = HashMap<Box<[Key]>, Vec<u32>>;

/// A value in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Oid(Oid),
    /// By its place in the pool.
    Text(u32),
}

/// The columns of an index after those that rows are looked up by: rows with the same key come in
/// this order.
fn order(index: Oid) -> &'static [&'static str] {
    match index {
        oids::PG_ATTRIBUTE_RELID_INDEX => &["attnum"],
        oids::PG_ATTRDEF_RELID_INDEX => &["adnum"],
        oids::PG_CONSTRAINT_RELID_INDEX => &["contypid", "conname"],
        oids::PG_DEPEND_DEPENDER_INDEX => &["objid", "objsubid"],
        oids::PG_DEPEND_REFERENCE_INDEX => &["refobjid", "refobjsubid"],
        oids::PG_INHERITS_CHILD_INDEX => &["inhseqno"],
        oids::PG_POLICY_RELID_INDEX => &["polname"],
        oids::PG_REWRITE_RELATION_INDEX => &["rulename"],
        oids::PG_TRIGGER_RELID_INDEX => &["tgname"],
        oids::PG_AMOP_OPERATOR_INDEX => &["amoppurpose", "amopfamily"],
        _ => &[],
    }
}

/// Returns the settings of which a snapshot has the value: those that the rules look at.
#[must_use]
pub fn valued_settings() -> BTreeSet<&'static str> {
    let all = guard_settings::DISABLING.into_iter().chain(stored_settings::PARAMETERS);
    all.chain(["search_path"]).collect()
}

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The text is not JSON, or has another structure.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A column is missing.
    #[error("catalog {catalog} has no column {column}")]
    Column { catalog: &'static str, column: &'static str },
    /// A catalog is missing.
    #[error("catalog {0} is missing")]
    Catalog(&'static str),
}

/// Columns and catalogs that older releases do not have, with the first major version that has
/// them.
const ADDED: &[(&str, Option<&str>, u32)] = &[
    ("pg_auth_members", Some("inherit_option"), 16),
    ("pg_auth_members", Some("set_option"), 16),
    ("pg_constraint", Some("conenforced"), 18),
    ("pg_parameter_acl", None, 15),
    ("pg_proc", Some("prosqlbody"), 14),
    ("pg_publication_namespace", None, 15),
    ("pg_publication_rel", Some("prqual"), 15),
    ("pg_statistic_ext", Some("stxexprs"), 14),
    ("pg_type", Some("typsubscript"), 14),
];

impl Data {
    /// Reads a snapshot from its JSON text. `interrupts` is called for each row, and by those who
    /// read the snapshot in every loop; it unwinds if the caller cancels.
    ///
    /// # Errors
    /// If the text is no snapshot, or one of another version.
    pub fn parse(text: &str, interrupts: fn()) -> Result<Self, Invalid> {
        Self::of_json(serde_json::Deserializer::from_str(text), interrupts)
    }

    /// As [`Data::parse`], while the text is still being written.
    ///
    /// # Errors
    /// As of [`Data::parse`].
    pub fn read(text: impl io::Read, interrupts: fn()) -> Result<Self, Invalid> {
        Self::of_json(serde_json::Deserializer::from_reader(text), interrupts)
    }

    fn of_json<'de, T: serde_json::de::Read<'de>>(
        mut json: serde_json::Deserializer<T>,
        interrupts: fn(),
    ) -> Result<Self, Invalid> {
        let data = Document(interrupts).deserialize(&mut json)?;
        json.end()?;
        data.check()?;
        Ok(data)
    }

    fn check(&self) -> Result<(), Invalid> {
        let version = self.version();
        let is_expected = |catalog: &str, column: Option<&str>| {
            let added = ADDED.iter().find(|(of, name, _)| *of == catalog && *name == column);
            added.is_none_or(|(_, _, since)| version >= *since)
        };
        for catalog in CATALOGS {
            match self.catalogs.get(&catalog.oid) {
                None if is_expected(catalog.name, None) => {
                    return Err(Invalid::Catalog(catalog.name));
                }
                None => {}
                Some(contents) => {
                    let is_missing = |column: &&(&'static str, Kind)| {
                        !contents.columns.iter().any(|name| name == column.0)
                            && is_expected(catalog.name, Some(column.0))
                    };
                    if let Some((column, _)) = catalog.columns.iter().find(is_missing) {
                        return Err(Invalid::Column { catalog: catalog.name, column });
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the major version of the server.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.server.version_num / 10_000
    }

    /// Lets the caller cancel.
    pub fn check_interrupts(&self) {
        (self.interrupts)();
    }

    /// Records a function of which the text is not read.
    pub fn add_unread(&self, function: Oid) {
        self.unread.borrow_mut().insert(function);
    }

    /// Returns the functions of which an audit had to know the text and did not read it.
    #[must_use]
    pub fn unread(&self) -> BTreeSet<Oid> {
        self.unread.borrow().clone()
    }

    /// Returns a catalog; `None` where the snapshot does not have it.
    #[must_use]
    pub fn contents(&self, catalog: Oid) -> Option<&Contents> {
        self.catalogs.get(&catalog)
    }

    /// Returns the rows of a catalog with these values of type oid in some columns, in the order of
    /// an index.
    #[must_use]
    pub fn rows_with(&self, catalog: Oid, index: Oid, keys: &[(usize, Oid)]) -> Vec<u32> {
        let columns = keys.iter().map(|(column, _)| *column).collect();
        let key: Box<[Key]> = keys.iter().map(|(_, value)| Key::Oid(*value)).collect();
        let rows = self.index(catalog, index, columns).get(&key).cloned();
        rows.unwrap_or_default()
    }

    /// Returns the rows of a catalog with a name in a column.
    #[must_use]
    pub fn rows_named(&self, catalog: Oid, index: Oid, column: usize, name: &str) -> Vec<u32> {
        let Some(place) = self.pool.texts.places.get(name) else { return Vec::new() };
        let key: &[Key] = &[Key::Text(*place)];
        let rows = self.index(catalog, index, vec![column]).get(key).cloned();
        rows.unwrap_or_default()
    }

    fn index(&self, catalog: Oid, index: Oid, columns: Vec<usize>) -> Rc<Index> {
        let key = (index, columns);
        if let Some(known) = self.indexes.borrow().get(&key) {
            return Rc::clone(known);
        }
        let mut found = Index::new();
        if let Some(contents) = self.catalogs.get(&catalog) {
            for row in 0..contents.len() {
                let value = |column: &usize| match contents.cell(row, *column) {
                    Cell::Oid(oid) => Key::Oid(oid),
                    Cell::Text(place) => Key::Text(place),
                    _ => Key::Oid(0),
                };
                found.entry(key.1.iter().map(value).collect()).or_default().push(row);
            }
            let order: Vec<usize> =
                order(index).iter().filter_map(|name| contents.column(name)).collect();
            for rows in found.values_mut() {
                rows.sort_by(|a, b| {
                    let compare = |column: &usize| {
                        self.compare(contents.cell(*a, *column), contents.cell(*b, *column))
                    };
                    let unequal = order.iter().map(compare).find(|ordering| ordering.is_ne());
                    unequal.unwrap_or(std::cmp::Ordering::Equal)
                });
            }
        }
        let found = Rc::new(found);
        self.indexes.borrow_mut().insert(key, Rc::clone(&found));
        found
    }

    fn compare(&self, a: Cell, b: Cell) -> std::cmp::Ordering {
        match (self.text(a), self.text(b)) {
            (Some(a), Some(b)) => a.as_bytes().cmp(b.as_bytes()),
            _ => self.number(a).cmp(&self.number(b)),
        }
    }

    fn text(&self, cell: Cell) -> Option<&str> {
        match cell {
            Cell::Text(place) => Some(&self.pool.texts.all[place as usize]),
            _ => None,
        }
    }

    fn number(&self, cell: Cell) -> Option<i64> {
        match cell {
            Cell::Oid(oid) => Some(oid.into()),
            Cell::Int(number) => Some(number.into()),
            Cell::Big(place) => Some(self.pool.big[place as usize]),
            _ => None,
        }
    }

    fn numbers(&self, cell: Cell) -> &[i64] {
        match cell {
            Cell::Numbers(place) => &self.pool.numbers.all[place as usize],
            _ => &[],
        }
    }

    fn texts(&self, cell: Cell) -> &[Rc<str>] {
        match cell {
            Cell::Texts(place) => &self.pool.lists.all[place as usize],
            _ => &[],
        }
    }
}

impl Contents {
    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> u32 {
        if self.columns.is_empty() { 0 } else { (self.cells.len() / self.columns.len()) as u32 }
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Returns the place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    fn cell(&self, row: u32, column: usize) -> Cell {
        match self.columns.get(column) {
            Some(_) => self.cells[row as usize * self.columns.len() + column],
            None => Cell::Null,
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct DataRow<'d> {
    data: &'d Data,
    contents: &'d Contents,
    row: u32,
}

impl<'d> DataRow<'d> {
    /// Returns a row of a catalog.
    #[must_use]
    pub fn new(data: &'d Data, contents: &'d Contents, row: u32) -> Self {
        Self { data, contents, row }
    }

    fn cell(&self, column: usize) -> Cell {
        self.contents.cell(self.row, column)
    }

    /// Whether a column is null.
    #[must_use]
    pub fn is_null(&self, column: usize) -> bool {
        self.cell(column) == Cell::Null
    }

    /// Returns a number; `None` where null.
    #[must_use]
    pub fn number(&self, column: usize) -> Option<i64> {
        self.data.number(self.cell(column))
    }

    /// Whether a column is true.
    #[must_use]
    pub fn is_true(&self, column: usize) -> bool {
        self.cell(column) == Cell::Bool(true)
    }

    /// Returns a string; `None` where null.
    #[must_use]
    pub fn text(&self, column: usize) -> Option<&'d str> {
        self.data.text(self.cell(column))
    }

    /// Returns an array of numbers; empty where null.
    #[must_use]
    pub fn numbers(&self, column: usize) -> &'d [i64] {
        self.data.numbers(self.cell(column))
    }

    /// Returns an array of strings; empty where null.
    #[must_use]
    pub fn texts(&self, column: usize) -> &'d [Rc<str>] {
        self.data.texts(self.cell(column))
    }

    /// Returns bytes that no other value of the column has.
    #[must_use]
    pub fn identifying(&self, column: usize) -> Cow<'d, [u8]> {
        match self.cell(column) {
            Cell::Text(place) => {
                let text: &'d str = &self.data.pool.texts.all[place as usize];
                Cow::Borrowed(text.as_bytes())
            }
            Cell::Numbers(place) | Cell::Texts(place) => Cow::Owned(place.to_le_bytes().to_vec()),
            _ => Cow::Borrowed(&[]),
        }
    }
}

/// The letters of privileges in an ACL (acl.h).
const LETTERS: &str = "arwdDxtXUCTcsAm";

/// Reads an ACL as a snapshot has it: items as the server writes them, with OIDs in place of names,
/// separated by commas: `0=X/10,16384=X*/10`. `None` for another text.
#[must_use]
pub fn acl(text: &str) -> Option<Vec<AclItem>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(acl_item).collect()
}

fn acl_item(item: &str) -> Option<AclItem> {
    let (grantee, rest) = item.split_once('=')?;
    let (letters, grantor) = rest.split_once('/')?;
    let (mut privileges, mut grantable) = (0, 0);
    let mut last = 0;
    for letter in letters.chars() {
        if letter == '*' {
            grantable |= last;
        } else {
            last = 1 << LETTERS.find(letter)?;
            privileges |= last;
        }
    }
    Some(AclItem {
        grantee: grantee.parse().ok()?,
        grantor: grantor.parse().ok()?,
        privileges: Privileges(privileges),
        grantable: Privileges(grantable),
    })
}

/// Writes an ACL as a snapshot has it.
#[must_use]
pub fn acl_text(items: &[AclItem]) -> String {
    let item = |item: &AclItem| {
        let letters: String = LETTERS
            .chars()
            .enumerate()
            .filter(|(bit, _)| item.privileges.0 & (1 << bit) != 0)
            .map(|(bit, letter)| {
                let is_grantable = item.grantable.0 & (1 << bit) != 0;
                if is_grantable { format!("{letter}*") } else { letter.to_string() }
            })
            .collect();
        format!("{}={letters}/{}", item.grantee, item.grantor)
    };
    items.iter().map(item).collect::<Vec<_>>().join(",")
}

/// The document of a snapshot.
struct Document(fn());

impl<'de> DeserializeSeed<'de> for Document {
    type Value = Data;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Data, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let (mut server, mut pool, mut catalogs) = (None, Pool::default(), None);
        let mut version = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "server" if server.is_some() => return Err(A::Error::duplicate_field("server")),
                "catalogs" if catalogs.is_some() => {
                    return Err(A::Error::duplicate_field("catalogs"));
                }
                "dragonfly_guard_snapshot" => version = Some(map.next_value::<u32>()?),
                "server" => server = Some(map.next_value::<Server>()?),
                "catalogs" => catalogs = Some(map.next_value_seed(AllCatalogs(&mut pool, self.0))?),
                other => return Err(A::Error::custom(format!("unknown key \"{other}\""))),
            }
            if let Some(other) = version.filter(|version| *version != VERSION) {
                let message = format!("snapshot of version {other}, expected {VERSION}");
                return Err(A::Error::custom(message));
            }
        }
        if version.is_none() {
            return Err(A::Error::custom("the text is no snapshot"));
        }
        let server = server.ok_or_else(|| A::Error::missing_field("server"))?;
        let catalogs = catalogs.ok_or_else(|| A::Error::missing_field("catalogs"))?;
        Ok(Data {
            server,
            catalogs,
            pool,
            indexes: RefCell::default(),
            unread: RefCell::default(),
            interrupts: self.0,
        })
    }
}

/// The object with the catalogs.
struct AllCatalogs<'p>(&'p mut Pool, fn());

impl<'de> DeserializeSeed<'de> for AllCatalogs<'_> {
    type Value = HashMap<Oid, Contents>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AllCatalogs<'_> {
    type Value = HashMap<Oid, Contents>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with catalogs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let Some(catalog) = CATALOGS.iter().find(|catalog| catalog.name == name) else {
                return Err(A::Error::custom(format!("unknown catalog \"{name}\"")));
            };
            if found.contains_key(&catalog.oid) {
                return Err(A::Error::custom(format!("duplicate catalog \"{name}\"")));
            }
            let contents = map.next_value_seed(OneCatalog {
                catalog,
                pool: &mut *self.0,
                interrupts: self.1,
            })?;
            found.insert(catalog.oid, contents);
        }
        Ok(found)
    }
}

/// The object with the columns and the rows of a catalog.
struct OneCatalog<'p> {
    catalog: &'static Catalog,
    pool: &'p mut Pool,
    interrupts: fn(),
}

impl<'de> DeserializeSeed<'de> for OneCatalog<'_> {
    type Value = Contents;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Contents, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneCatalog<'_> {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with columns and rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Contents, A::Error> {
        let mut contents = Contents::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "columns" => contents.columns = map.next_value()?,
                "rows" if !contents.columns.is_empty() => {
                    let catalog = self.catalog;
                    let kind = |name: &String| {
                        let column = catalog.columns.iter().find(|(known, _)| known == name);
                        column.map(|(_, kind)| *kind).ok_or_else(|| {
                            let message = format!("unknown column \"{name}\" of {}", catalog.name);
                            A::Error::custom(message)
                        })
                    };
                    let kinds: Vec<Kind> =
                        contents.columns.iter().map(kind).collect::<Result<_, _>>()?;
                    let cells = &mut contents.cells;
                    map.next_value_seed(AllRows {
                        kinds: &kinds,
                        cells,
                        pool: &mut *self.pool,
                        interrupts: self.interrupts,
                    })?;
                }
                other => {
                    let message = format!("unexpected key \"{other}\" of {}", self.catalog.name);
                    return Err(A::Error::custom(message));
                }
            }
        }
        Ok(contents)
    }
}

/// The array with the rows.
struct AllRows<'p> {
    kinds: &'p [Kind],
    cells: &'p mut Vec<Cell>,
    pool: &'p mut Pool,
    interrupts: fn(),
}

impl<'de> DeserializeSeed<'de> for AllRows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for AllRows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { kinds, cells, pool, interrupts } = self;
        while seq.next_element_seed(OneRow { kinds, cells, pool })?.is_some() {
            interrupts();
        }
        Ok(())
    }
}

/// The array of a row.
struct OneRow<'p> {
    kinds: &'p [Kind],
    cells: &'p mut Vec<Cell>,
    pool: &'p mut Pool,
}

impl<'de> DeserializeSeed<'de> for OneRow<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for OneRow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a row of {} values", self.kinds.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for (at, kind) in self.kinds.iter().enumerate() {
            let value = seq.next_element_seed(Value { kind: *kind, pool: self.pool })?;
            self.cells.push(value.ok_or_else(|| A::Error::invalid_length(at, &self))?);
        }
        match seq.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::invalid_length(self.kinds.len() + 1, &self)),
        }
    }
}

/// A value of a column.
struct Value<'p> {
    kind: Kind,
    pool: &'p mut Pool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cell, D::Error> {
        json.deserialize_any(self)
    }
}

impl Value<'_> {
    fn expects_text(&self) -> bool {
        matches!(
            self.kind,
            Kind::Char
                | Kind::Name
                | Kind::Text
                | Kind::Bytes
                | Kind::Acl
                | Kind::Chars
                | Kind::TypeName
        )
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Oid => "an OID",
            Kind::Int | Kind::Time => "a number",
            Kind::Bool | Kind::Present => "true or false",
            Kind::Acl => "an ACL",
            Kind::Oids | Kind::Numbers => "an array of numbers",
            Kind::Texts => "an array of strings",
            _ => "a string",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Cell, E> {
        match self.kind {
            Kind::Bool | Kind::Present => Ok(Cell::Bool(value)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Cell, E> {
        let invalid = |of: &Self| E::invalid_value(serde::de::Unexpected::Unsigned(value), of);
        match self.kind {
            Kind::Oid => Oid::try_from(value).map(Cell::Oid).map_err(|_| invalid(&self)),
            Kind::Int => i32::try_from(value).map(Cell::Int).map_err(|_| invalid(&self)),
            Kind::Time => match i64::try_from(value) {
                Ok(value) => self.visit_i64(value),
                Err(_) => Err(invalid(&self)),
            },
            _ => Err(E::invalid_type(serde::de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Cell, E> {
        let unexpected = serde::de::Unexpected::Signed(value);
        match self.kind {
            Kind::Int => {
                i32::try_from(value).map(Cell::Int).map_err(|_| E::invalid_value(unexpected, &self))
            }
            Kind::Time => {
                self.pool.big.push(value);
                Ok(Cell::Big(self.pool.big.len() as u32 - 1))
            }
            _ => Err(E::invalid_type(unexpected, &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Cell, E> {
        let unexpected = serde::de::Unexpected::Str(value);
        if !self.expects_text() {
            return Err(E::invalid_type(unexpected, &self));
        }
        if self.kind == Kind::Acl && acl(value).is_none()
            || self.kind == Kind::Bytes && bytes(value).is_none()
        {
            return Err(E::invalid_value(unexpected, &self));
        }
        Ok(Cell::Text(self.pool.texts.place(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell, A::Error> {
        match self.kind {
            Kind::Oids | Kind::Numbers => {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element::<i64>()? {
                    numbers.push(number);
                }
                Ok(Cell::Numbers(self.pool.numbers.place(numbers)))
            }
            Kind::Texts => {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element::<Cow<'_, str>>()? {
                    let place = self.pool.texts.place(&*text);
                    texts.push(Rc::clone(&self.pool.texts.all[place as usize]));
                }
                Ok(Cell::Texts(self.pool.lists.place(texts)))
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }
}

/// Reads a string of hexadecimal digits; `None` for another text.
#[must_use]
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acl_is_written_as_it_is_read() {
        for text in ["", "0=X/10", "16384=arwdDxt/16384,0=r/16384", "10=U*C*/10,16385=X*/10"] {
            assert_eq!(acl_text(&acl(text).expect(text)), text);
        }
    }

    #[test]
    fn acl_with_another_text_is_none() {
        for text in ["=X/10", "app=X/10", "0=X", "0=?/10", "0=X/10,", "0=X/-1"] {
            assert_eq!(acl(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(bytes("00ff7A"), Some(vec![0, 255, 122]));
        for text in ["0", "0g", "é0", "+1"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}

//! Reads tables, views and sequences, with their columns.

use super::deparser::Of;
use super::{Reader, options, qualified};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, Table, interrupts};
use crate::pg::progress;
use crate::pg::text::from_server;
use dragonfly_core::catalog::{Acl, Oid};
use dragonfly_core::drift::{AclKind, Object};
use dragonfly_core::sql::quote_ident;
use dragonfly_reader as reader;
use pgrx::pg_sys;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;

/// The default access method of tables (pg_am.dat).
const HEAP: Oid = 2;

/// A relation.
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its qualified and quoted name.
    pub identity: String,
    /// `pg_class.relkind`.
    pub kind: u8,
    /// Its columns, until they are objects; those of a composite type remain.
    columns: Columns,
    /// Its owner.
    pub owner: Oid,
    is_partition: bool,
    object: Object,
}

/// A column of a relation.
struct Column {
    name: String,
    /// Its type in SQL syntax, with a collation that is not the default of the type.
    type_name: String,
    acl: Option<Acl>,
    object: Object,
}

/// The columns of a relation in order of their numbers, dropped ones omitted. Most relations have
/// few.
#[derive(Default)]
struct Columns(Vec<(i16, Column)>);

impl Columns {
    fn place(&self, number: i16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn get(&self, number: i16) -> Option<&Column> {
        self.place(number).ok().map(|at| &self.0[at].1)
    }

    fn get_mut(&mut self, number: i16) -> Option<&mut Column> {
        self.place(number).ok().map(|at| &mut self.0[at].1)
    }

    fn insert(&mut self, number: i16, column: Column) {
        if let Err(at) = self.place(number) {
            self.0.insert(at, (number, column));
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Column> {
        self.0.iter().map(|(_, column)| column)
    }
}

impl Relation {
    /// Returns the object type of its columns. (The attributes of composite types are no objects.)
    fn column_type(&self) -> &'static str {
        match self.kind {
            b'f' => "foreign table column",
            b'v' => "view column",
            b'm' => "materialized view column",
            _ => "table column",
        }
    }

    /// Whether its columns result from a query.
    fn is_view(&self) -> bool {
        matches!(self.kind, b'v' | b'm')
    }

    /// Returns the relation as context of an expression.
    pub fn of(&self, oid: Oid) -> Of<'_> {
        Of { relation: oid, name: &self.identity, owner: self.owner }
    }

    /// Returns the list of its columns: `id integer, name text`.
    pub fn attributes(&self) -> String {
        let attribute =
            |column: &Column| format!("{} {}", quote_ident(&column.name), column.type_name);
        self.columns.iter().map(attribute).collect::<Vec<_>>().join(", ")
    }

    /// Returns the identity of a column.
    fn column_identity(&self, name: &str) -> String {
        format!("{}.{}", self.identity, quote_ident(name))
    }
}

/// The columns of `pg_class` that are read.
struct ClassColumns {
    oid: reader::Column,
    name: reader::Column,
    schema: reader::Column,
    owner: reader::Column,
    kind: reader::Column,
    acl: reader::Column,
    persistence: reader::Column,
    method: reader::Column,
    row_security: reader::Column,
    force_row_security: reader::Column,
    replica_identity: reader::Column,
    options: reader::Column,
    is_partition: reader::Column,
    bound: reader::Column,
    of_type: reader::Column,
    toast: reader::Column,
}

impl ClassColumns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("relname"),
            schema: table.column("relnamespace"),
            owner: table.column("relowner"),
            kind: table.column("relkind"),
            acl: table.column("relacl"),
            persistence: table.column("relpersistence"),
            method: table.column("relam"),
            row_security: table.column("relrowsecurity"),
            force_row_security: table.column("relforcerowsecurity"),
            replica_identity: table.column("relreplident"),
            options: table.column("reloptions"),
            is_partition: table.column("relispartition"),
            bound: table.column("relpartbound"),
            of_type: table.column("reloftype"),
            toast: table.column("reltoastrelid"),
        }
    }
}

impl Reader<'_> {
    /// Adds the relations of the schemas and returns them by OID.
    pub fn relations(&mut self) -> HashMap<Oid, Relation> {
        let mut relations = self.classes();
        self.columns(&mut relations);
        self.defaults(&mut relations);
        self.inheritance(&mut relations);
        self.foreign_tables(&mut relations);
        self.partition_keys(&mut relations);
        self.sequences(&mut relations);
        progress::parts(relations.len());
        for (oid, relation) in &mut relations {
            interrupts();
            progress::part_done();
            if relation.is_view() {
                relation.object.set("definition", self.deparser.view(relation.of(*oid)));
                let columns = relation.attributes();
                relation.object.set("columns", columns);
            } else if relation.kind != b'S'
                && (relation.is_partition || relation.object.properties.get("inherits").is_none())
            {
                // A dump creates the inherited columns of a table first, so that their order is not
                // compared.
                relation.object.columns =
                    relation.columns.iter().map(|column| column.name.clone()).collect();
            }
            if relation.kind != b'c' {
                self.add(std::mem::take(&mut relation.object));
                self.column_objects(relation);
            }
        }
        relations
    }

    fn column_objects(&mut self, relation: &mut Relation) {
        let (column_type, is_view, owner) =
            (relation.column_type(), relation.is_view(), relation.owner);
        let Columns(columns) = std::mem::take(&mut relation.columns);
        if relation.kind == b'S' {
            return;
        }
        for (_, column) in columns {
            let mut object = column.object;
            (object.object_type, object.schema) =
                (column_type.to_owned(), Some(relation.schema.clone()));
            (object.identity, object.part_of) =
                (relation.column_identity(&column.name), Some(relation.identity.clone()));
            if column.acl.is_some() {
                self.grants(&mut object, AclKind::Column, owner, column.acl.as_ref());
            }
            if is_view {
                // The type of the column results from the query.
                object
                    .properties
                    .retain(|property| property == "default" || property.starts_with("grants to "));
                if object.properties.is_empty() {
                    continue;
                }
            }
            self.add(object);
        }
    }

    /// Reads `pg_class`.
    fn classes(&self) -> HashMap<Oid, Relation> {
        let table = Table::open(oids::PG_CLASS);
        let columns = ClassColumns::of(&table);
        let (mut relations, mut toasted, mut toast_options) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        table.scan(self.state, |row: Row<'_>| {
            let oid = row.oid(columns.oid);
            if row.char(columns.kind) == b't' {
                let options = options(row.texts(columns.options));
                toast_options.extend(options.map(|options| (oid, options)));
            } else if let Some(relation) = self.class(&columns, &row) {
                toasted.insert(row.oid(columns.toast), oid);
                relations.insert(oid, relation);
            }
        });
        for (toast, options) in toast_options {
            let relation: Option<&mut Relation> =
                toasted.get(&toast).and_then(|oid| relations.get_mut(oid));
            relation
                .into_iter()
                .for_each(|relation| relation.object.set("toast options", &*options));
        }
        relations
    }

    /// Reads a row of `pg_class`; `None` where the relation is not part of the snapshot.
    fn class(&self, columns: &ClassColumns, row: &Row<'_>) -> Option<Relation> {
        let (oid, kind, owner) =
            (row.oid(columns.oid), row.char(columns.kind), row.oid(columns.owner));
        let object_type = object_type(kind).filter(|_| row.char(columns.persistence) != b't')?;
        let schema = self.schema_of(oids::PG_CLASS, oid, row.oid(columns.schema))?;
        let identity = qualified(&schema, &row.name(columns.name));
        let mut object = Object::new(object_type, Some(&schema), identity.clone());
        object.set("owner", self.role(owner));
        let acl_kind = if kind == b'S' { AclKind::Sequence } else { AclKind::Relation };
        self.grants(&mut object, acl_kind, owner, row.acl(columns.acl).as_ref());
        object.set_if("unlogged", row.char(columns.persistence) == b'u');
        self.table_properties(columns, row, &mut object);
        Some(Relation {
            schema,
            identity,
            kind,
            columns: Columns::default(),
            owner,
            is_partition: row.bool(columns.is_partition),
            object,
        })
    }

    /// Sets the properties of tables and views that are stored in `pg_class`.
    fn table_properties(&self, columns: &ClassColumns, row: &Row<'_>, object: &mut Object) {
        let is_table = matches!(row.char(columns.kind), b'r' | b'p');
        if is_table {
            let word = |is_enabled| if is_enabled { "enabled" } else { "disabled" };
            object.set("row security", word(row.bool(columns.row_security)));
            object.set("force row security", word(row.bool(columns.force_row_security)));
        }
        match row.char(columns.replica_identity) {
            b'f' => object.set("replica identity", "full"),
            // A replica identity by an index is added with the index.
            b'n' if is_table => object.set("replica identity", "nothing"),
            _ => {}
        }
        let (of_type, method) = (row.oid(columns.of_type), row.oid(columns.method));
        if of_type != 0 {
            object.set("of type", self.deparser.type_name(of_type, -1));
        }
        if method != HEAP && method != 0 {
            object.set("access method", access_method(method));
        }
        let others = security_options(object, row.texts(columns.options));
        object.set_some("options", options(others));
        if let Some(bound) = row.raw(columns.bound) {
            object.set("partition bound", self.deparser.tree(bound, row.oid(columns.oid)));
        }
    }

    fn columns(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_ATTRIBUTE);
        let column = |name| table.column(name);
        let (relation, name, number, dropped) =
            (column("attrelid"), column("attname"), column("attnum"), column("attisdropped"));
        let (type_oid, modifier, collation) =
            (column("atttypid"), column("atttypmod"), column("attcollation"));
        let (not_null, identity, generated) =
            (column("attnotnull"), column("attidentity"), column("attgenerated"));
        let (acl, foreign) = (column("attacl"), column("attfdwoptions"));
        let not_valid = self.columns_not_valid();
        table.scan(self.state, |row: Row<'_>| {
            let relation_oid = row.oid(relation);
            let Some(relation) = relations.get_mut(&relation_oid) else { return };
            let number = row.int(number) as i16;
            let mut object = Object::default();
            if number < 0 {
                // Only the privileges on a system column can differ.
                if let Some(acl) = row.acl(acl) {
                    self.grants(&mut object, AclKind::Column, relation.owner, Some(&acl));
                    let column = row.name(name);
                    for (property, text) in object.properties.iter() {
                        relation.object.set(format!("{property} of {column}"), text);
                    }
                }
                return;
            }
            if row.bool(dropped) {
                return;
            }
            let mut type_name = self.deparser.type_name(row.oid(type_oid), row.int(modifier));
            object.set("type", &*type_name);
            if let Some(collation) = self.deparser.collation(row.oid(type_oid), row.oid(collation))
            {
                type_name = format!("{type_name} COLLATE {collation}");
                object.set("collation", collation);
            }
            if not_valid.contains(&(relation_oid, number)) {
                object.set("not null", "NOT VALID");
            } else {
                object.set_if("not null", row.bool(not_null));
            }
            match row.char(identity) {
                b'a' => object.set("identity", "ALWAYS"),
                b'd' => object.set("identity", "BY DEFAULT"),
                _ => {}
            }
            match row.char(generated) {
                b's' => object.set("generated", "STORED"),
                b'v' => object.set("generated", "VIRTUAL"),
                _ => {}
            }
            object.set_some("options", options(row.texts(foreign)));
            relation.columns.insert(
                number,
                Column { name: row.name(name), type_name, acl: row.acl(acl), object },
            );
        });
    }

    /// Returns the columns with a NOT NULL constraint that rows may violate, which exist since
    /// PostgreSQL 18: relation and number.
    fn columns_not_valid(&self) -> HashSet<(Oid, i16)> {
        let mut found = HashSet::new();
        if catalog::VERSION < 18 {
            return found;
        }
        let table = Table::open(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (kind, relation, validated, key) =
            (column("contype"), column("conrelid"), column("convalidated"), column("conkey"));
        table.scan(self.state, |row: Row<'_>| {
            if row.char(kind) == b'n' && !row.bool(validated) {
                let relation = row.oid(relation);
                found.extend(row.numbers(key).into_iter().map(|number| (relation, number)));
            }
        });
        found
    }

    fn defaults(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_ATTRDEF);
        let (relation, number, tree) =
            (table.column("adrelid"), table.column("adnum"), table.column("adbin"));
        table.scan(self.state, |row: Row<'_>| {
            let oid = row.oid(relation);
            let Some(relation) = relations.get_mut(&oid) else { return };
            let Some(column) = relation.columns.get_mut(row.int(number) as i16) else { return };
            if let Some(tree) = row.raw(tree) {
                column.object.set(
                    "default",
                    self.deparser.expression(
                        tree,
                        Of { relation: oid, name: &relation.identity, owner: relation.owner },
                    ),
                );
            }
        });
    }

    /// Adds the tables that a table is a partition of or inherits from, in their order.
    fn inheritance(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_INHERITS);
        let (child, parent, position) =
            (table.column("inhrelid"), table.column("inhparent"), table.column("inhseqno"));
        let mut parents: HashMap<Oid, BTreeMap<i32, String>> = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            if relations.contains_key(&row.oid(child)) {
                let name = catalog::name(oids::PG_CLASS, row.oid(parent))
                    .map(|(schema, name)| qualified(&schema, &name));
                parents
                    .entry(row.oid(child))
                    .or_default()
                    .insert(row.int(position), name.unwrap_or_default());
            }
        });
        for (child, parents) in parents {
            let Some(relation) = relations.get_mut(&child) else { continue };
            let property = if relation.is_partition { "partition of" } else { "inherits" };
            relation.object.set(property, parents.into_values().collect::<Vec<_>>().join(", "));
        }
    }

    fn foreign_tables(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_FOREIGN_TABLE);
        let (on, server, of_table) =
            (table.column("ftrelid"), table.column("ftserver"), table.column("ftoptions"));
        table.scan(self.state, |row: Row<'_>| {
            let Some(relation) = relations.get_mut(&row.oid(on)) else { return };
            // SAFETY: the server exists because the table depends on it; a C string.
            let server = unsafe {
                let server = pg_sys::GetForeignServer(row.oid(server).into());
                from_server(CStr::from_ptr((*server).servername).to_bytes())
            };
            relation.object.set("server", quote_ident(&server));
            relation.object.set_some("foreign options", options(row.texts(of_table)));
        });
    }

    fn partition_keys(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_PARTITIONED_TABLE);
        let (on, trees) = (table.column("partrelid"), table.column("partexprs"));
        table.scan(self.state, |row: Row<'_>| {
            let oid = row.oid(on);
            let Some(relation) = relations.get_mut(&oid) else { return };
            let key = self.deparser.call(pg_sys::pg_get_partkeydef, oid);
            let key = self.deparser.with_expressions(key, row.text(trees), relation.of(oid));
            relation.object.set("partition key", key);
        });
    }

    /// Adds the parameters of sequences and the columns that own them; not their current values.
    fn sequences(&self, relations: &mut HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_SEQUENCE);
        let column = |name| table.column(name);
        let (oid, type_oid, cycle) = (column("seqrelid"), column("seqtypid"), column("seqcycle"));
        let numbers = [
            ("start", column("seqstart")),
            ("increment", column("seqincrement")),
            ("minimum", column("seqmin")),
            ("maximum", column("seqmax")),
            ("cache", column("seqcache")),
        ];
        table.scan(self.state, |row: Row<'_>| {
            let Some(sequence) = relations.get_mut(&row.oid(oid)) else { return };
            sequence.object.set("type", self.deparser.type_name(row.oid(type_oid), -1));
            for (property, column) in &numbers {
                sequence.object.set(*property, row.bigint(*column).to_string());
            }
            sequence.object.set_if("cycle", row.bool(cycle));
        });
        let sequences: Vec<Oid> =
            relations.iter().filter(|(_, r)| r.kind == b'S').map(|(oid, _)| *oid).collect();
        let table = Table::open(oids::PG_DEPEND);
        let (class, object, to_class, to_object) = (
            table.column("classid"),
            table.column("objid"),
            table.column("refclassid"),
            table.column("refobjid"),
        );
        let (to_column, kind) = (table.column("refobjsubid"), table.column("deptype"));
        for sequence in sequences {
            let mut owner = None;
            let keys = [(class, oids::PG_CLASS), (object, sequence)];
            table.lookup(self.state, oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row: Row<'_>| {
                if row.oid(to_class) == oids::PG_CLASS
                    && row.int(to_column) > 0
                    && matches!(row.char(kind), b'a' | b'i')
                {
                    owner = Some((row.oid(to_object), row.int(to_column) as i16));
                }
            });
            let owner = owner.and_then(|(table, number)| {
                let table = relations.get(&table)?;
                Some(table.column_identity(&table.columns.get(number)?.name))
            });
            if let (Some(owner), Some(sequence)) = (owner, relations.get_mut(&sequence)) {
                sequence.object.set("owned by", &*owner);
                sequence.object.part_of = Some(owner);
            }
        }
    }
}

/// Returns the object type as `pg_identify_object` does; `None` for indexes and TOAST tables.
/// (Composite types are added as types.)
fn object_type(kind: u8) -> Option<&'static str> {
    Some(match kind {
        b'r' | b'p' => "table",
        b'f' => "foreign table",
        b'v' => "view",
        b'm' => "materialized view",
        b'S' => "sequence",
        b'c' => "composite type",
        _ => return None,
    })
}

/// Adds the security options of a view, normalized to booleans, and returns the other options.
fn security_options(object: &mut Object, options: Vec<String>) -> Vec<String> {
    let (security, rest): (Vec<String>, Vec<String>) =
        options.into_iter().partition(|option| option.starts_with("security_"));
    for (name, value) in security.iter().filter_map(|option| option.split_once('=')) {
        let value = value.to_ascii_lowercase();
        // As the server reads a boolean (`parse_bool`).
        let is_on = value == "1"
            || value == "on"
            || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)));
        object.set_if(name, is_on);
    }
    rest
}

/// Returns the name of a table access method.
fn access_method(method: Oid) -> String {
    // SAFETY: null or a C string.
    unsafe {
        let name = pg_sys::get_am_name(method.into());
        if name.is_null() {
            method.to_string()
        } else {
            from_server(CStr::from_ptr(name).to_bytes())
        }
    }
}

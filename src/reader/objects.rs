//! Reads schemas, relations with their column ACLs, the contents of schemas, extensions and their
//! members, and default ACLs.

use crate::oids;
use crate::source::{Column, Repeated, Row, State, Table, of_row};
use crate::toast::{TOAST, is_granted_toast, may_use_toast};
use dragonfly_core::catalog::{
    Acl, AclItem, CheckOption, Command, ContentKind, DefaultAcl, FIRST_NORMAL, ObjectId, Oid,
    OidMap, OidSet, PG_CATALOG, Privileges, Relation, RelationKind, Schema, Snapshot,
};
use dragonfly_core::sql::printable;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// `pg_depend.deptype` of a member of an extension.
const DEPENDENCY_EXTENSION: u8 = b'e';

/// Reads `pg_namespace`.
pub fn schemas(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_NAMESPACE);
    let (oid, name, owner, acl) = (
        table.column("oid"),
        table.column("nspname"),
        table.column("nspowner"),
        table.column("nspacl"),
    );
    table.scan(|row| {
        snapshot.schemas.push(Schema {
            oid: row.oid(oid),
            name: row.name(name),
            owner: row.oid(owner),
            acl: row.acl(acl),
        });
    });
}

/// Returns the earlier and the new name of each schema that has another name in the second state.
pub fn renamed_schemas(then: &dyn State, now: &dyn State) -> Vec<(String, String)> {
    let [before, after] = [then, now].map(|state| {
        let mut snapshot = Snapshot::default();
        schemas(state, &mut snapshot);
        snapshot.schemas
    });
    let name_now = |oid: Oid| after.iter().find(|new| new.oid == oid).map(|new| new.name.clone());
    let renamed = before.iter().filter_map(|old| Some((name_now(old.oid)?, old.name.clone())));
    renamed.filter(|(new, old)| new != old).map(|(new, old)| (old, new)).collect()
}

/// The columns of `pg_class` that the rules need.
struct Columns {
    oid: Column,
    name: Column,
    schema: Column,
    owner: Column,
    kind: Column,
    acl: Column,
    options: Column,
    row_security: Column,
    force_row_security: Column,
    persistence: Column,
    partition: Column,
    acls: Repeated<Vec<AclItem>>,
    no_names: Rc<[String]>,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("relname"),
            schema: table.column("relnamespace"),
            owner: table.column("relowner"),
            kind: table.column("relkind"),
            acl: table.column("relacl"),
            options: table.column("reloptions"),
            row_security: table.column("relrowsecurity"),
            force_row_security: table.column("relforcerowsecurity"),
            persistence: table.column("relpersistence"),
            partition: table.column("relispartition"),
            acls: Repeated::default(),
            no_names: [].into(),
        }
    }

    fn relation(&self, row: &Row<'_>, kind: RelationKind) -> Relation {
        let options = match kind {
            RelationKind::View => row.texts(self.options),
            _ => vec![],
        };
        Relation {
            oid: row.oid(self.oid),
            name: row.name(self.name),
            schema: row.oid(self.schema),
            owner: row.oid(self.owner),
            kind,
            acl: self.acls.get(row, self.acl, Row::acl_items),
            row_security: row.bool(self.row_security),
            force_row_security: row.bool(self.force_row_security),
            is_partition: row.bool(self.partition),
            security_invoker: has_option(&options, "security_invoker"),
            security_barrier: has_option(&options, "security_barrier"),
            check_option: check_option(&options),
            columns: Vec::new(),
            column_names: Rc::clone(&self.no_names),
            owned_by: None,
            code: Vec::new(),
            protected: Vec::new(),
        }
    }
}

/// Reads the relations of the `governed` schemas, and those of `open` schemas and those that were
/// created in schemas of the server without the names of their columns. Of other relations, of
/// types and of operators, it reads which roles own some in which schemas. Returns the TOAST tables
/// with an ACL; without USAGE on their schema, one on a column is of no use.
pub fn relations(
    state: &dyn State,
    governed: &HashSet<Oid>,
    open: &HashSet<Oid>,
    snapshot: &mut Snapshot,
) -> Vec<Oid> {
    let table = state.table(oids::PG_CLASS);
    let columns = Columns::of(&table);
    let (mut relations, mut toast) = (Vec::new(), Vec::new());
    let of_server = schemas_of_server(snapshot);
    let has_open_toast = may_use_toast(snapshot);
    let mut contents = Contents::of(snapshot);
    table.scan(|row| {
        let (schema, owner) = (row.oid(columns.schema), row.oid(columns.owner));
        let Some(kind) = RelationKind::from_relkind(row.char(columns.kind)) else {
            match row.char(columns.kind) {
                b'c' => contents.add(schema, owner, ContentKind::Type),
                TOAST if has_open_toast || !row.is_null(columns.acl) => {
                    toast.push(row.oid(columns.oid));
                }
                _ => {}
            }
            return;
        };
        contents.add(schema, owner, ContentKind::Relation);
        let is_created = || of_server.contains(&schema) && row.oid(columns.oid) >= FIRST_NORMAL;
        if governed.contains(&schema) || open.contains(&schema) || is_created() {
            relations.push(columns.relation(&row, kind));
        }
    });
    snapshot.relations = relations;
    complete_relations(state, snapshot, |relation| governed.contains(&relation.schema));
    types_and_operators(state, snapshot);
    toast.retain(|oid| is_granted_toast(state, *oid));
    toast
}

/// Returns the schemas of the server, temporary schemas excepted.
fn schemas_of_server(snapshot: &Snapshot) -> HashSet<Oid> {
    let schemas = snapshot.schemas.iter();
    schemas.filter(|s| s.is_of_server() && !s.is_temporary()).map(|s| s.oid).collect()
}

/// Reads those of the relations `oids` that exist, are not temporary and are of a kind that
/// contracts cover, and their extensions.
pub fn some_relations(state: &dyn State, oids: &[Oid], snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_CLASS);
    let columns = Columns::of(&table);
    for oid in oids {
        let mut found = false;
        table.lookup(oids::PG_CLASS_OID_INDEX, &[(columns.oid, *oid)], |row| {
            let kind = RelationKind::from_relkind(row.char(columns.kind));
            if let Some(kind) = kind.filter(|_| row.char(columns.persistence) != b't') {
                snapshot.relations.push(columns.relation(&row, kind));
                found = true;
            }
        });
        if let Some(extension) = found.then(|| extension_of(state, oids::PG_CLASS, *oid)).flatten()
        {
            snapshot.relation_extension.insert(*oid, extension);
        }
    }
    complete_relations(state, snapshot, |_| true);
}

/// Reads the relations of some schemas and the relations `also`, temporary ones excepted.
pub fn relations_in(
    state: &dyn State,
    schemas: &HashSet<Oid>,
    also: &HashSet<Oid>,
    snapshot: &mut Snapshot,
) {
    let table = state.table(oids::PG_CLASS);
    let columns = Columns::of(&table);
    let mut relations = Vec::new();
    let mut each = |row: Row<'_>| {
        let kind = RelationKind::from_relkind(row.char(columns.kind));
        relations.extend(
            kind.filter(|_| row.char(columns.persistence) != b't')
                .map(|kind| columns.relation(&row, kind)),
        );
    };
    match members_of_schemas(state, oids::PG_CLASS, schemas) {
        Some(members) if also.len() <= most_lookups(&table) => {
            for oid in &members | also {
                table.lookup(oids::PG_CLASS_OID_INDEX, &[(columns.oid, oid)], &mut each);
            }
        }
        _ => table.scan(|row| {
            if schemas.contains(&row.oid(columns.schema)) || also.contains(&row.oid(columns.oid)) {
                each(row);
            }
        }),
    }
    snapshot.relations = relations;
    complete_relations(state, snapshot, |_| true);
}

/// Returns the objects of one catalog in some schemas; `None` where one pass over the catalog is
/// faster, and for `pg_catalog`, on which nothing depends.
pub fn members_of_schemas(
    state: &dyn State,
    catalog: Oid,
    schemas: &HashSet<Oid>,
) -> Option<HashSet<Oid>> {
    if schemas.contains(&PG_CATALOG) {
        return None;
    }
    let most = most_lookups(&state.table(catalog));
    let table = state.table(oids::PG_DEPEND);
    let (class, object) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let mut members = HashSet::new();
    for schema in schemas {
        let keys = [(to_class, oids::PG_NAMESPACE), (to_object, *schema)];
        table.lookup_while(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            if row.oid(class) == catalog {
                members.insert(row.oid(object));
            }
            members.len() <= most
        });
    }
    (members.len() <= most).then_some(members)
}

/// Adds the ACLs of columns and the owners of sequences to the relations of the snapshot, and the
/// names of the columns to those for which `names_columns` is true.
fn complete_relations(
    state: &dyn State,
    snapshot: &mut Snapshot,
    names_columns: impl Fn(&Relation) -> bool,
) {
    let indexes: OidMap<usize> =
        snapshot.relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
    if !indexes.is_empty() {
        let named = snapshot.relations.iter().filter(|r| names_columns(r)).map(|r| r.oid).collect();
        columns_of(state, &indexes, &named, snapshot);
        sequence_owners(state, snapshot);
    }
}

/// Reads which relations the views and materialized views in some schemas read.
pub fn view_sources(state: &dyn State, schemas: &HashSet<Oid>, snapshot: &mut Snapshot) {
    let is_wanted = |relation: &&Relation| {
        matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView)
            && schemas.contains(&relation.schema)
    };
    let views: Vec<Oid> = snapshot.relations.iter().filter(is_wanted).map(|r| r.oid).collect();
    if views.is_empty() {
        return;
    }
    let mut rules = rules_of(state, &views);
    let depend = state.table(oids::PG_DEPEND);
    let (class, object) = (depend.column("classid"), depend.column("objid"));
    let (source_class, source) = (depend.column("refclassid"), depend.column("refobjid"));
    for view in views {
        let mut sources: Vec<Oid> = Vec::new();
        for rule in rules.remove(&view).unwrap_or_default() {
            let keys = [(class, oids::PG_REWRITE), (object, rule)];
            depend.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
                if row.oid(source_class) == oids::PG_CLASS && row.oid(source) != view {
                    sources.push(row.oid(source));
                }
            });
        }
        sources.sort_unstable();
        sources.dedup();
        snapshot.view_sources.insert(view, sources);
    }
}

/// Returns the rules of some views.
fn rules_of(state: &dyn State, views: &[Oid]) -> OidMap<Vec<Oid>> {
    let table = state.table(oids::PG_REWRITE);
    let (rule, of) = (table.column("oid"), table.column("ev_class"));
    let mut found: OidMap<Vec<Oid>> = views.iter().map(|view| (*view, vec![])).collect();
    if views.len() > MOST_LOOKUPS {
        table.scan(|row| {
            if let Some(rules) = found.get_mut(&row.oid(of)) {
                rules.push(row.oid(rule));
            }
        });
    } else {
        for (view, rules) in &mut found {
            table.lookup(oids::PG_REWRITE_RELATION_INDEX, &[(of, *view)], |row| {
                rules.push(row.oid(rule));
            });
        }
    }
    found
}

/// Whether the reloptions of a view contain a boolean option that is true, parsed as the server
/// parses a boolean (`parse_bool`).
fn has_option(options: &[String], name: &str) -> bool {
    option(options, name).is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value == "1"
            || value == "on"
            || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)))
    })
}

fn check_option(options: &[String]) -> CheckOption {
    match option(options, "check_option") {
        Some(value) if value.eq_ignore_ascii_case("local") => CheckOption::Local,
        Some(value) if value.eq_ignore_ascii_case("cascaded") => CheckOption::Cascaded,
        _ => CheckOption::None,
    }
}

/// Returns the value of one of the reloptions.
fn option<'o>(options: &'o [String], name: &str) -> Option<&'o str> {
    let mut values = options.iter().rev().filter_map(|option| option.split_once('='));
    values.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns the role as which a view reads its tables; `None` where that is its caller.
pub fn view_owner(state: &dyn State, view: Oid) -> Option<Oid> {
    let owner = of_row(state, oids::CLASS_BY_OID, view, "relowner", |row, owner| row.oid(owner));
    owner.filter(|_| !runs_as_invoker(state, view))
}

/// Whether a view has the option `security_invoker`.
pub fn runs_as_invoker(state: &dyn State, view: Oid) -> bool {
    of_row(state, oids::CLASS_BY_OID, view, "reloptions", |row, options| {
        has_option(&row.texts(options), "security_invoker")
    })
    .unwrap_or_default()
}

/// Returns the option of a view that checks new rows.
pub fn check_option_of(state: &dyn State, view: Oid) -> CheckOption {
    of_row(state, oids::CLASS_BY_OID, view, "reloptions", |row, options| {
        check_option(&row.texts(options))
    })
    .unwrap_or_default()
}

/// Returns the relation of this name, of any kind, in a schema.
pub fn relation_named(state: &dyn State, schema: Oid, wanted: &str) -> Option<Oid> {
    let table = state.table(oids::PG_CLASS);
    let (oid, name, of) =
        (table.column("oid"), table.column("relname"), table.column("relnamespace"));
    let mut found = None;
    table.lookup_name(oids::PG_CLASS_NAME_INDEX, name, wanted, |row| {
        if row.oid(of) == schema {
            found = Some(row.oid(oid));
        }
    });
    found
}

/// Returns the names of the relations and routines in a schema, for an error message.
pub fn names_in(state: &dyn State, schema: Oid) -> Vec<String> {
    let mut names = Vec::new();
    let class = state.table(oids::PG_CLASS);
    let (of, name, kind) =
        (class.column("relnamespace"), class.column("relname"), class.column("relkind"));
    class.scan(|row| {
        if row.oid(of) == schema && RelationKind::from_relkind(row.char(kind)).is_some() {
            names.push(row.name(name));
        }
    });
    let routines = state.table(oids::PG_PROC);
    let (of, name) = (routines.column("pronamespace"), routines.column("proname"));
    routines.scan(|row| {
        if row.oid(of) == schema {
            names.push(row.name(name));
        }
    });
    names.sort();
    names.dedup();
    names
}

/// Returns the kind of a relation, where contracts cover it.
pub fn relation_kind(state: &dyn State, relation: Oid) -> Option<RelationKind> {
    of_row(state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| {
        RelationKind::from_relkind(row.char(kind))
    })
    .flatten()
}

/// Returns the relations that a view depends on, directly or through other views, with the view.
pub fn behind_view(state: &dyn State, view: Oid) -> HashSet<Oid> {
    let rules = state.table(oids::PG_REWRITE);
    let (rule, on) = (rules.column("oid"), rules.column("ev_class"));
    let edges = state.table(oids::PG_DEPEND);
    let (class, object) = (edges.column("classid"), edges.column("objid"));
    let (to_class, to_object) = (edges.column("refclassid"), edges.column("refobjid"));
    let (mut seen, mut queue) = (HashSet::from([view]), vec![view]);
    while let Some(relation) = queue.pop() {
        state.interrupts();
        let mut of_relation = Vec::new();
        let keys = [(on, relation)];
        rules.lookup(oids::PG_REWRITE_RELATION_INDEX, &keys, |row| of_relation.push(row.oid(rule)));
        for rule in of_relation {
            let keys = [(class, oids::PG_REWRITE), (object, rule)];
            edges.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
                let named = row.oid(to_object);
                if row.oid(to_class) == oids::PG_CLASS && seen.insert(named) {
                    queue.push(named);
                }
            });
        }
    }
    seen
}

/// Returns a view with the views that depend on it, directly or through others.
pub fn views_over(state: &dyn State, view: Oid) -> HashSet<Oid> {
    let table = state.table(oids::PG_DEPEND);
    let (class, rule) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let (mut seen, mut queue) = (HashSet::from([view]), vec![view]);
    while let Some(relation) = queue.pop() {
        state.interrupts();
        let mut rules = Vec::new();
        let keys = [(to_class, oids::PG_CLASS), (to_object, relation)];
        table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            if row.oid(class) == oids::PG_REWRITE {
                rules.push(row.oid(rule));
            }
        });
        let view_of = |rule| {
            let by = oids::REWRITE_BY_OID;
            of_row(state, by, rule, "ev_class", |row, view| row.oid(view))
        };
        let views = views_among(state, rules.into_iter().filter_map(view_of));
        queue.extend(views.into_iter().filter(|view| seen.insert(*view)));
    }
    seen
}

/// Whether a relation is a view or a materialized view.
pub fn is_view(state: &dyn State, relation: Oid) -> bool {
    !views_among(state, [relation]).is_empty()
}

/// Returns those of some relations that are views or materialized views.
///
/// They are not looked up in the system cache: it would remember until the session ends that a
/// relation which another session has dropped does not exist.
pub fn views_among(state: &dyn State, relations: impl IntoIterator<Item = Oid>) -> Vec<Oid> {
    let table = state.table(oids::PG_CLASS);
    let (key, kind) = (table.column("oid"), table.column("relkind"));
    let is_view = |relation: &Oid| {
        let mut found = None;
        table.lookup(oids::CLASS_BY_OID.index, &[(key, *relation)], |row| {
            found = RelationKind::from_relkind(row.char(kind));
        });
        matches!(found, Some(RelationKind::View | RelationKind::MaterializedView))
    };
    relations.into_iter().filter(is_view).collect()
}

/// Whether a materialized view is populated.
pub fn is_populated(state: &dyn State, relation: Oid) -> bool {
    of_row(state, oids::CLASS_BY_OID, relation, "relispopulated", |row, is| row.bool(is))
        .unwrap_or_default()
}

/// Why a statement on a materialized view fails for a role with all privileges.
#[must_use]
pub fn unusable(state: &dyn State, relation: &Relation, wanted: Privileges) -> Option<String> {
    let name = printable(&relation.name);
    match wanted {
        _ if relation.kind != RelationKind::MaterializedView => None,
        Privileges::INSERT | Privileges::UPDATE | Privileges::DELETE => {
            Some(format!("cannot change materialized view \"{name}\""))
        }
        Privileges::SELECT if !is_populated(state, relation.oid) => {
            Some(format!("materialized view \"{name}\" has not been populated"))
        }
        _ => None,
    }
}

/// The system columns of every table by their numbers without the sign (heap.c).
const SYSTEM_COLUMNS: [&str; 7] = ["", "ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// Returns the numbers and names of the system columns.
pub fn system_columns() -> impl Iterator<Item = (i16, &'static str)> {
    (1..).zip(&SYSTEM_COLUMNS[1..]).map(|(number, name): (i16, &&str)| (-number, *name))
}

/// Returns the name of the system column with a number.
#[must_use]
pub fn system_column(number: i16) -> Option<&'static str> {
    system_columns().find(|(of, _)| *of == number).map(|(_, name)| name)
}

/// Returns the columns of a relation, in their order.
pub fn columns(state: &dyn State, relation: Oid) -> Vec<String> {
    numbered_columns(state, relation).into_iter().map(|(_, name)| name).collect()
}

/// Returns the columns of a relation with their numbers, in this order.
pub fn numbered_columns(state: &dyn State, relation: Oid) -> Vec<(i16, String)> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let (owner, name) = (table.column("attrelid"), table.column("attname"));
    let (number, dropped) = (table.column("attnum"), table.column("attisdropped"));
    let mut found = Vec::new();
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        let number = row.int(number) as i16;
        if number > 0 && !row.bool(dropped) {
            found.push((number, row.name(name)));
        }
    });
    found.sort();
    found
}

/// Returns the columns that INSERT or UPDATE can give any value, with their numbers. (INSERT with
/// OVERRIDING SYSTEM VALUE can do so with an identity column GENERATED ALWAYS.)
pub fn written_columns(state: &dyn State, relation: Oid, command: Command) -> Vec<(i16, String)> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let column = |name| table.column(name);
    let (number, name, dropped) = (column("attnum"), column("attname"), column("attisdropped"));
    let (generated, identity) = (column("attgenerated"), column("attidentity"));
    let (mut found, keys) = (Vec::new(), [(column("attrelid"), relation)]);
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
        let number = row.int(number) as i16;
        let is_always = row.char(identity) == b'a' && command == Command::Update;
        if number > 0 && !row.bool(dropped) && row.char(generated) == 0 && !is_always {
            found.push((number, row.name(name)));
        }
    });
    found
}

/// Returns the columns that a statement can set to DEFAULT only: generated columns, and identity
/// columns GENERATED ALWAYS.
pub fn computed_columns(state: &dyn State, relation: Oid) -> HashSet<String> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let (owner, name) = (table.column("attrelid"), table.column("attname"));
    let (generated, identity) = (table.column("attgenerated"), table.column("attidentity"));
    let mut found = HashSet::new();
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        if row.char(generated) != 0 || row.char(identity) == b'a' {
            found.insert(row.name(name));
        }
    });
    found
}

/// Returns the columns of the primary key, or of another unique index on columns alone, that an
/// INSERT can name in ON CONFLICT; `None` where there is none.
pub fn unique_key(state: &dyn State, relation: Oid) -> Option<Vec<String>> {
    let (_, key) = usable_keys(state, relation).into_iter().min()?;
    let mut names: HashMap<i16, String> = numbered_columns(state, relation).into_iter().collect();
    key.iter().map(|number| names.remove(number)).collect()
}

/// Returns the columns of each unique key of a table.
pub fn unique_keys(state: &dyn State, relation: Oid) -> Vec<BTreeSet<i16>> {
    let keys = usable_keys(state, relation).into_iter();
    keys.map(|(_, key)| key.into_iter().collect()).collect()
}

/// Returns the unique indexes of a table on columns alone, the primary key as false, with the
/// numbers of their columns.
fn usable_keys(state: &dyn State, relation: Oid) -> Vec<(bool, Vec<i16>)> {
    let index = state.table(oids::PG_INDEX);
    let column = |name| index.column(name);
    let (on, is_unique, is_primary) =
        (column("indrelid"), column("indisunique"), column("indisprimary"));
    let (is_valid, is_immediate) = (column("indisvalid"), column("indimmediate"));
    let (keys, count, predicate) = (column("indkey"), column("indnkeyatts"), column("indpred"));
    let mut found: Vec<(bool, Vec<i16>)> = Vec::new();
    index.lookup(oids::PG_INDEX_RELID_INDEX, &[(on, relation)], |row| {
        let mut key = row.numbers(keys);
        key.truncate(row.int(count) as i16 as usize);
        let is_usable = row.bool(is_unique) && row.bool(is_valid) && row.bool(is_immediate);
        // 0 stands for an expression.
        if is_usable && row.is_null(predicate) && !key.contains(&0) {
            found.push((!row.bool(is_primary), key));
        }
    });
    found
}

/// Records which roles own objects in which schemas. Many consecutive rows agree, so that the last
/// entry is remembered.
pub struct Contents<'s> {
    snapshot: &'s mut Snapshot,
    last: Option<(Oid, Oid, ContentKind)>,
}

impl<'s> Contents<'s> {
    /// Records into a snapshot.
    pub fn of(snapshot: &'s mut Snapshot) -> Self {
        Self { snapshot, last: None }
    }

    /// Records that `owner` owns an object of this kind in `schema`.
    pub fn add(&mut self, schema: Oid, owner: Oid, kind: ContentKind) {
        if self.last != Some((schema, owner, kind)) {
            self.snapshot.contents.entry(schema).or_default().insert((owner, kind));
            self.last = Some((schema, owner, kind));
        }
    }
}

/// The maximum number of objects, or of relations whose columns or rules are read, that are looked
/// up one by one in a small catalog; for more, one pass over the catalog is faster.
const MOST_LOOKUPS: usize = 300;

/// Returns that number for a catalog: a lookup takes less time than to read the rows of a page.
#[must_use]
pub fn most_lookups(table: &Table) -> usize {
    table.pages().max(MOST_LOOKUPS)
}

/// Reads the ACLs of the columns from `pg_attribute`, and the names of all columns of the `named`
/// relations. Most columns have no ACL.
fn columns_of(state: &dyn State, indexes: &OidMap<usize>, named: &OidSet, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_ATTRIBUTE);
    let (relation, name, acl) =
        (table.column("attrelid"), table.column("attname"), table.column("attacl"));
    let (number, dropped) = (table.column("attnum"), table.column("attisdropped"));
    let mut names: HashMap<usize, Vec<(i16, String)>> = HashMap::new();
    let mut each = |row: Row<'_>| {
        let (oid, has_acl) = (row.oid(relation), !row.is_null(acl));
        let is_named = named.contains(&oid);
        if !(is_named || has_acl) || row.bool(dropped) {
            return;
        }
        let Some(&i) = indexes.get(&oid) else { return };
        let number = row.int(number) as i16;
        if is_named && number > 0 {
            names.entry(i).or_default().push((number, row.name(name)));
        }
        if let Some(acl) = row.acl(acl) {
            snapshot.relations[i].columns.push((row.name(name), acl));
        }
    };
    if indexes.len() > most_lookups(&table) {
        table.scan(&mut each);
    } else {
        for oid in indexes.keys() {
            table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(relation, *oid)], &mut each);
        }
    }
    for (i, mut names) in names {
        names.sort_unstable();
        snapshot.relations[i].column_names = names.into_iter().map(|(_, name)| name).collect();
    }
}

/// Reads the table that owns each sequence.
fn sequence_owners(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_DEPEND);
    let (class, object, to_class, to_object) = (
        table.column("classid"),
        table.column("objid"),
        table.column("refclassid"),
        table.column("refobjid"),
    );
    let (to_column, kind) = (table.column("refobjsubid"), table.column("deptype"));
    for sequence in snapshot.relations.iter_mut().filter(|r| r.kind == RelationKind::Sequence) {
        let keys = [(class, oids::PG_CLASS), (object, sequence.oid)];
        table.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            if row.oid(to_class) == oids::PG_CLASS
                && row.int(to_column) > 0
                && matches!(row.char(kind), b'a' | b'i')
            {
                sequence.owned_by = Some(row.oid(to_object));
            }
        });
    }
}

/// Reads which roles own types and operators in which schemas, except the row types of tables and
/// the array types of other types.
fn types_and_operators(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_TYPE);
    let (schema, owner, relation) =
        (table.column("typnamespace"), table.column("typowner"), table.column("typrelid"));
    let (kind, element, length) =
        (table.column("typtype"), table.column("typelem"), table.column("typlen"));
    let mut contents = Contents::of(snapshot);
    table.scan(|row| {
        // Most types are the row type of a table, or an array type.
        if row.oid(relation) != 0
            || (row.oid(element) != 0 && row.char(kind) == b'b' && row.int(length) as i16 == -1)
        {
            return;
        }
        contents.add(row.oid(schema), row.oid(owner), ContentKind::Type);
    });
    let table = state.table(oids::PG_OPERATOR);
    let (schema, owner) = (table.column("oprnamespace"), table.column("oprowner"));
    table.scan(|row| contents.add(row.oid(schema), row.oid(owner), ContentKind::Operator));
}

/// Reads `pg_extension`.
pub fn extension_names(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_EXTENSION);
    let (oid, name, owner) =
        (table.column("oid"), table.column("extname"), table.column("extowner"));
    table.scan(|row| {
        snapshot.extensions.insert(row.oid(oid), (row.name(name), row.oid(owner)));
    });
}

/// Reads `pg_extension`, and which routines and relations are members.
pub fn extensions(state: &dyn State, snapshot: &mut Snapshot) {
    extension_names(state, snapshot);
    let extensions: Vec<Oid> = snapshot.extensions.keys().copied().collect();
    for extension in extensions {
        members(state, extension, &mut |class, object| match class {
            oids::PG_PROC => {
                snapshot.routine_extension.insert(object, extension);
            }
            oids::PG_CLASS => {
                snapshot.relation_extension.insert(object, extension);
            }
            _ => {}
        });
    }
}

/// Returns catalog and OID of all members of all extensions.
pub fn members_of_extensions(state: &dyn State) -> HashSet<(Oid, Oid)> {
    let mut snapshot = Snapshot::default();
    extension_names(state, &mut snapshot);
    let mut found = HashSet::new();
    for extension in snapshot.extensions.keys() {
        members(state, *extension, &mut |class, object| {
            found.insert((class, object));
        });
    }
    found
}

/// Calls `each` with catalog and OID of every member of an extension.
pub fn members(state: &dyn State, extension: Oid, each: &mut dyn FnMut(Oid, Oid)) {
    let table = state.table(oids::PG_DEPEND);
    let (class, object, kind) =
        (table.column("classid"), table.column("objid"), table.column("deptype"));
    let keys =
        [(table.column("refclassid"), oids::PG_EXTENSION), (table.column("refobjid"), extension)];
    table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
        if row.char(kind) == DEPENDENCY_EXTENSION {
            each(row.oid(class), row.oid(object));
        }
    });
}

/// Returns the extension that an object is a member of.
pub fn extension_of(state: &dyn State, catalog: Oid, object: Oid) -> Option<Oid> {
    let table = state.table(oids::PG_DEPEND);
    let (to_class, to_object, kind) =
        (table.column("refclassid"), table.column("refobjid"), table.column("deptype"));
    let keys = [(table.column("classid"), catalog), (table.column("objid"), object)];
    let mut found = None;
    table.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
        if row.char(kind) == DEPENDENCY_EXTENSION && row.oid(to_class) == oids::PG_EXTENSION {
            found = Some(row.oid(to_object));
        }
    });
    found
}

/// Whether the current transaction has written the catalog row of a relation or a routine.
pub fn is_written(state: &dyn State, object: ObjectId) -> bool {
    let (by_oid, oid) = match object {
        ObjectId::Relation(oid) => (oids::CLASS_BY_OID, oid),
        ObjectId::Routine(oid) => (oids::PROC_BY_OID, oid),
        _ => return false,
    };
    of_row(state, by_oid, oid, "oid", |row, _| row.is_own()).unwrap_or_default()
}

/// Returns the ACL of a relation; empty where it is null.
pub fn relation_acl(state: &dyn State, relation: Oid) -> Acl {
    of_row(state, oids::CLASS_BY_OID, relation, "relacl", |row, acl| row.acl(acl))
        .flatten()
        .unwrap_or_default()
}

/// Returns the owner of a relation.
pub fn owner(state: &dyn State, relation: Oid) -> Option<Oid> {
    of_row(state, oids::CLASS_BY_OID, relation, "relowner", |row, owner| row.oid(owner))
}

/// Whether a relation has rules, as views do.
pub fn has_rules(state: &dyn State, relation: Oid) -> bool {
    of_row(state, oids::CLASS_BY_OID, relation, "relhasrules", |row, has| row.bool(has))
        .unwrap_or_default()
}

/// Whether row security is enabled on a relation.
pub fn has_row_security(state: &dyn State, relation: Oid) -> bool {
    of_row(state, oids::CLASS_BY_OID, relation, "relrowsecurity", |row, is| row.bool(is))
        .unwrap_or_default()
}

/// Whether a relation is not temporary.
pub fn is_permanent(state: &dyn State, relation: Oid) -> bool {
    of_row(state, oids::CLASS_BY_OID, relation, "relpersistence", |row, is| row.char(is) != b't')
        .unwrap_or_default()
}

/// Returns the schema of a relation.
pub fn schema_of(state: &dyn State, relation: Oid) -> Option<Oid> {
    of_row(state, oids::CLASS_BY_OID, relation, "relnamespace", |row, schema| row.oid(schema))
}

/// Reads `pg_default_acl`.
pub fn default_acls(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_DEFAULT_ACL);
    let (role, schema, kind, acl) = (
        table.column("defaclrole"),
        table.column("defaclnamespace"),
        table.column("defaclobjtype"),
        table.column("defaclacl"),
    );
    table.scan(|row| {
        snapshot.default_acls.push(DefaultAcl {
            role: row.oid(role),
            schema: row.oid(schema),
            object_type: row.char(kind),
            acl: row.acl(acl).unwrap_or_default(),
        });
    });
    // Snapshot::complete does not order these: by the names of creator and schema and by type.
    let name =
        |s: &Snapshot, oid: Oid| s.schemas.iter().find(|x| x.oid == oid).map(|x| x.name.clone());
    let creator =
        |s: &Snapshot, oid: Oid| s.roles.iter().find(|x| x.oid == oid).map(|x| x.name.clone());
    let mut sorted = std::mem::take(&mut snapshot.default_acls);
    sorted.sort_by_cached_key(|d| {
        (creator(snapshot, d.role), name(snapshot, d.schema), d.object_type)
    });
    snapshot.default_acls = sorted;
}

//! Reads `pg_proc`.

use crate::objects::{self, Contents};
use crate::quoted_path::with_quoted_path;
use crate::source::{Column, Repeated, Row, State, Table, of_row};
use crate::{caller_typed, oids, types};
use dragonfly_core::catalog::{
    Acl, AclItem, ContentKind, Oid, OidSet, Routine, RoutineKind, Snapshot,
};
use dragonfly_core::explain::parse;
use dragonfly_core::search_path::settings;
use std::collections::{HashMap, HashSet};

/// The columns of `pg_proc` that the rules need.
struct Columns {
    oid: Column,
    name: Column,
    schema: Column,
    owner: Column,
    kind: Column,
    security_definer: Column,
    config: Column,
    acl: Column,
    arguments: Column,
    leakproof: Column,
    result: Column,
    all_arguments: Column,
    language: Column,
    source: Column,
    configs: Repeated<Vec<String>>,
    acls: Repeated<Vec<AclItem>>,
    argument_lists: Repeated<Vec<Oid>>,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("proname"),
            schema: table.column("pronamespace"),
            owner: table.column("proowner"),
            kind: table.column("prokind"),
            security_definer: table.column("prosecdef"),
            config: table.column("proconfig"),
            acl: table.column("proacl"),
            arguments: table.column("proargtypes"),
            leakproof: table.column("proleakproof"),
            result: table.column("prorettype"),
            all_arguments: table.column("proallargtypes"),
            language: table.column("prolang"),
            source: table.column("prosrc"),
            configs: Repeated::default(),
            acls: Repeated::default(),
            argument_lists: Repeated::default(),
        }
    }

    fn routine(&self, state: &dyn State, row: &Row<'_>) -> Routine {
        let read = |row: &Row<'_>, config| with_quoted_path(state, row.texts(config));
        let config = self.configs.get(row, self.config, read);
        let arguments = self.argument_lists.get(row, self.arguments, Row::oids);
        Routine {
            oid: row.oid(self.oid),
            name: row.name(self.name),
            schema: row.oid(self.schema),
            owner: row.oid(self.owner),
            kind: match row.char(self.kind) {
                b'p' => RoutineKind::Procedure,
                b'a' => RoutineKind::Aggregate,
                _ => RoutineKind::Function,
            },
            security_definer: row.bool(self.security_definer),
            config: config.unwrap_or_default(),
            acl: self.acls.get(row, self.acl, Row::acl_items),
            arguments: arguments.unwrap_or_default(),
            is_leakproof: row.bool(self.leakproof),
            is_trigger: TRIGGER_TYPES.contains(&row.oid(self.result)),
            converts_result: row.oid(self.result) == types::RECORD
                && row.oid(self.language) == SQL
                && row.is_null(self.all_arguments),
            is_constructor: self.is_constructor(row),
        }
    }

    fn is_constructor(&self, row: &Row<'_>) -> bool {
        row.oid(self.language) == INTERNAL
            && row.text(self.source).is_some_and(|name| CONSTRUCTORS.contains(&name.as_str()))
    }
}

/// The language `sql` (pg_language.dat).
const SQL: Oid = 14;
/// The language C (pg_language.dat).
const C: Oid = 13;
/// The language internal (pg_language.dat).
const INTERNAL: Oid = 12;

/// The functions of the server that make values of any range and multirange type (typecmds.c,
/// `makeRangeConstructors` and `makeMultirangeConstructors`). Only superusers can create functions
/// in language internal.
const CONSTRUCTORS: [&str; 5] = [
    "range_constructor2",
    "range_constructor3",
    "multirange_constructor0",
    "multirange_constructor1",
    "multirange_constructor2",
];

/// The pseudo-types `trigger` and `event_trigger`, which only functions for triggers return.
const TRIGGER_TYPES: [Oid; 2] = [types::TRIGGER, types::EVENT_TRIGGER];

/// Reads all SECURITY DEFINER routines and all routines of governed schemas. Of the others, it
/// reads which roles own routines in which schemas.
pub fn all(state: &dyn State, governed: &HashSet<Oid>, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_PROC);
    let columns = Columns::of(&table);
    let mut routines = Vec::new();
    // Routines in a temporary schema can be called by their session only.
    let temporary: HashSet<Oid> =
        snapshot.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    let mut contents = Contents::of(snapshot);
    table.scan(|row| {
        let schema = row.oid(columns.schema);
        contents.add(schema, row.oid(columns.owner), ContentKind::Routine);
        if (row.bool(columns.security_definer) || governed.contains(&schema))
            && !temporary.contains(&schema)
        {
            routines.push(columns.routine(state, &row));
        }
    });
    snapshot.routines = routines;
    complete(state, snapshot);
}

/// The objects that [`super::concerning`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Concerning<'a> {
    /// The schemas.
    pub schemas: &'a HashSet<Oid>,
    /// The names of those schemas that the search_paths of routines are read for.
    pub names: &'a HashSet<String>,
    /// Relations in any schema.
    pub relations: &'a HashSet<Oid>,
    /// Routines in any schema.
    pub routines: &'a HashSet<Oid>,
    /// The only routines that can have a search_path with one of the names, where that is known:
    /// otherwise every routine is read.
    pub searching: Option<&'a HashSet<Oid>>,
}

/// Reads the SECURITY DEFINER routines whose search_path contains one of the names, the routines in
/// the schemas, and other ones. `pg_catalog` is in every search_path.
pub fn searching(state: &dyn State, wanted: &Concerning<'_>, snapshot: &mut Snapshot) {
    let Concerning { schemas, names, routines: also, searching, .. } = *wanted;
    let table = state.table(oids::PG_PROC);
    let columns = Columns::of(&table);
    let mut routines = Vec::new();
    let none = HashSet::new();
    let all_search = names.contains("pg_catalog");
    let searching = if names.is_empty() { Some(&none) } else { searching };
    let is_looked_up = |few: &&HashSet<Oid>| few.len() <= objects::most_lookups(&table);
    let candidates = searching.filter(is_looked_up).and_then(|searching| {
        let members = objects::members_of_schemas(state, oids::PG_PROC, schemas)?;
        Some(&(&members | also) | searching)
    });
    let paths = PathsNaming::new(state, names, snapshot);
    let (schemas, also): (OidSet, OidSet) =
        (schemas.iter().copied().collect(), also.iter().copied().collect());
    let mut each = |row: Row<'_>| {
        let wanted = schemas.contains(&row.oid(columns.schema))
            || also.contains(&row.oid(columns.oid))
            || row.bool(columns.security_definer)
                && (all_search || paths.contain(&row, columns.config, columns.owner));
        if wanted {
            routines.push(columns.routine(state, &row));
        }
    };
    match candidates {
        Some(candidates) => {
            for oid in candidates {
                table.lookup(oids::PG_PROC_OID_INDEX, &[(columns.oid, oid)], &mut each);
            }
        }
        None => table.scan(each),
    }
    snapshot.routines = routines;
    complete(state, snapshot);
}

/// Tells which search_paths contain one of some names.
struct PathsNaming<'a> {
    state: &'a dyn State,
    names: &'a HashSet<String>,
    /// The roles with one of the names: "$user" stands for the name of the owner.
    users: OidSet,
    snapshot: &'a Snapshot,
    /// The answers by the stored settings: thousands of routines share a few search paths.
    known: Repeated<Named>,
}

/// How a search_path contains one of the names.
struct Named {
    directly: bool,
    by_user: bool,
}

impl<'a> PathsNaming<'a> {
    fn new(state: &'a dyn State, names: &'a HashSet<String>, snapshot: &'a Snapshot) -> Self {
        let users = snapshot.roles.iter().filter(|role| names.contains(&role.name));
        let users = users.map(|role| role.oid).collect();
        Self { state, names, users, snapshot, known: Repeated::default() }
    }

    /// Whether one of the search_paths in the settings of a routine contains one of the names.
    fn contain(&self, row: &Row<'_>, config: Column, owner: Column) -> bool {
        let named = self.known.get(row, config, |row, config| self.read(row.texts(config)));
        named.is_some_and(|named| {
            named.directly || named.by_user && self.users.contains(&row.oid(owner))
        })
    }

    fn read(&self, config: Vec<String>) -> Named {
        let config = with_quoted_path(self.state, config);
        let paths = settings(&config).into_iter().filter_map(|v| self.snapshot.split_path(v).ok());
        let mut found = Named { directly: false, by_user: false };
        for name in paths.flatten() {
            found.directly |= self.names.contains(&name);
            found.by_user |= name == "$user";
        }
        found
    }
}

/// Reads those of the routines `oids` that exist, and their extensions.
pub fn some(state: &dyn State, oids: &[Oid], snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_PROC);
    let columns = Columns::of(&table);
    for oid in oids {
        table.lookup(oids::PG_PROC_OID_INDEX, &[(columns.oid, *oid)], |row| {
            snapshot.routines.push(columns.routine(state, &row));
        });
        if let Some(extension) = objects::extension_of(state, oids::PG_PROC, *oid) {
            snapshot.routine_extension.insert(*oid, extension);
        }
    }
    complete(state, snapshot);
}

/// Reads the functions that settings of PostgREST name, where they are not in the snapshot yet.
pub fn named_in_settings(state: &dyn State, snapshot: &mut Snapshot) {
    let names: HashMap<Oid, &str> =
        snapshot.schemas.iter().map(|schema| (schema.oid, schema.name.as_str())).collect();
    let mut found = Vec::new();
    let of_functions = ["pgrst.db_pre_request", "pgrst.db_root_spec", "pgrst.db_pre_config"];
    for setting in &snapshot.settings {
        let is_function = of_functions.contains(&setting.name.as_str());
        let parts = is_function
            .then(|| parse(&setting.value))
            .flatten()
            .map(|named| named.parts)
            .unwrap_or_default();
        let Some(name) = parts.last() else { continue };
        let schema = (parts.len() == 2).then(|| parts[0].as_str());
        let is_it = |oid: &Oid| schema.is_none_or(|schema| names.get(oid) == Some(&schema));
        let wanted = names.keys().copied().filter(is_it).collect();
        found.extend(self::named(state, &[name.as_str()].into(), &wanted));
    }
    found.retain(|oid| !snapshot.routines.iter().any(|routine| routine.oid == *oid));
    found.sort_unstable();
    found.dedup();
    some(state, &found, snapshot);
}

/// Adds what other catalogs say about the routines.
fn complete(state: &dyn State, snapshot: &mut Snapshot) {
    name_types(state, snapshot);
    caller_typed::read(state, snapshot);
}

/// Adds the names that all argument types have in a state.
fn name_types(state: &dyn State, snapshot: &mut Snapshot) {
    for argument in snapshot.routines.iter().flat_map(|r| &r.arguments) {
        snapshot.types.entry(*argument).or_insert_with(|| state.type_name(*argument));
    }
}

/// Returns a list of argument types as in the identity of a routine.
pub fn argument_types(state: &dyn State, oids: &[Oid]) -> String {
    oids.iter().map(|oid| state.type_name_now(*oid)).collect::<Vec<_>>().join(",")
}

/// Returns the routines that have one of some types, or an array of it, as an argument.
pub fn with_argument(state: &dyn State, types: &HashSet<Oid>) -> Vec<Oid> {
    let table = state.table(oids::PG_DEPEND);
    let (class, object) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let mut routines = Vec::new();
    for one in types {
        // Routines depend on the array type itself.
        let array = of_row(state, oids::TYPE_BY_OID, *one, "typarray", |row, of| row.oid(of));
        for referenced in [Some(*one), array.filter(|array| *array != 0)].into_iter().flatten() {
            let keys = [(to_class, oids::PG_TYPE), (to_object, referenced)];
            table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
                if row.oid(class) == oids::PG_PROC {
                    routines.push(row.oid(object));
                }
            });
        }
    }
    routines
}

/// Returns the ACL of a routine; empty where it is null.
pub fn acl(state: &dyn State, routine: Oid) -> Acl {
    of_row(state, oids::PROC_BY_OID, routine, "proacl", |row, acl| row.acl(acl))
        .flatten()
        .unwrap_or_default()
}

/// Returns the input argument types of a routine; none where it does not exist.
pub fn argument_type_oids(state: &dyn State, routine: Oid) -> Vec<Oid> {
    of_row(state, oids::PROC_BY_OID, routine, "proargtypes", |row, types| row.oids(types))
        .unwrap_or_default()
}

/// Returns the owner of a SECURITY DEFINER routine; `None` for other routines.
pub fn definer(state: &dyn State, routine: Oid) -> Option<Oid> {
    is_definer(state, routine).then(|| owner(state, routine)).flatten()
}

/// Whether the body of a routine is text, which only its execution interprets: neither parsed nor
/// in C.
pub fn has_text(state: &dyn State, routine: Oid) -> bool {
    let by = oids::PROC_BY_OID;
    of_row(state, by, routine, "prosqlbody", |row, c| row.is_null(c)) == Some(true)
        && of_row(state, by, routine, "prolang", |row, c| ![INTERNAL, C].contains(&row.oid(c)))
            == Some(true)
}

/// Whether a routine has a parsed body (BEGIN ATOMIC), or defaults of arguments.
pub fn has_expressions(state: &dyn State, routine: Oid) -> bool {
    let by = oids::PROC_BY_OID;
    ["prosqlbody", "proargdefaults"].into_iter().any(|column| {
        of_row(state, by, routine, column, |row, column| !row.is_null(column)) == Some(true)
    })
}

/// Returns the input argument types of a routine as in its identity.
pub fn argument_types_of(state: &dyn State, routine: Oid) -> String {
    argument_types(state, &argument_type_oids(state, routine))
}

/// Returns the validator of a routine's language, if it has one.
pub fn validator(state: &dyn State, routine: Oid) -> Option<Oid> {
    let language =
        of_row(state, oids::PROC_BY_OID, routine, "prolang", |row, language| row.oid(language))?;
    of_row(state, oids::LANGUAGE_BY_OID, language, "lanvalidator", |row, validator| {
        row.oid(validator)
    })
    .filter(|oid| *oid != 0)
}

/// Returns the owner of a routine.
pub fn owner(state: &dyn State, routine: Oid) -> Option<Oid> {
    of_row(state, oids::PROC_BY_OID, routine, "proowner", |row, owner| row.oid(owner))
}

/// Whether a routine is SECURITY DEFINER.
pub fn is_definer(state: &dyn State, routine: Oid) -> bool {
    of_row(state, oids::PROC_BY_OID, routine, "prosecdef", |row, is| row.bool(is))
        .unwrap_or_default()
}

/// Returns the routines with one of the `names` in one of the `schemas`.
pub fn named(state: &dyn State, names: &HashSet<&str>, schemas: &HashSet<Oid>) -> Vec<Oid> {
    let table = state.table(oids::PG_PROC);
    let (oid, name, schema) =
        (table.column("oid"), table.column("proname"), table.column("pronamespace"));
    let mut found = Vec::new();
    for wanted in names {
        table.lookup_name(oids::PG_PROC_NAME_INDEX, name, wanted, |row| {
            if schemas.contains(&row.oid(schema)) {
                found.push(row.oid(oid));
            }
        });
    }
    found
}

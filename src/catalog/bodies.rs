//! Reads what the bodies of routines look up along the search_path, from their text. Nothing is
//! parsed by the server and nothing is executed.

use super::{oids, roles, routines};
use crate::pg::heap::{Column, Row, State, Table, interrupts, of_row};
use crate::settings;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Body, BodyName, NameKind, Named, Oid, PG_CATALOG, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::rules::Context;
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::sql::body::{Language, Mentions};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Adds to a complete snapshot the bodies of the routines whose search_path a fix may change, and
/// the search_paths of sessions, if there are such routines.
pub fn read(state: &State, contract: &Contract, snapshot: &mut Snapshot) {
    let wanted: HashSet<Oid> = {
        let access = Access::new(snapshot);
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let may_change = snapshot.routines.iter().filter(|r| definer_path::may_change(&cx, r));
        may_change.map(|r| r.oid).collect()
    };
    of(state, &wanted, snapshot);
}

/// Adds to a snapshot the bodies of some routines, and the search_paths of sessions.
pub fn of(state: &State, wanted: &HashSet<Oid>, snapshot: &mut Snapshot) {
    if wanted.is_empty() {
        return;
    }
    let mentions = mentions(state, wanted);
    let index = Objects::read(state, &mentions, snapshot);
    snapshot.bodies =
        Rc::new(mentions.into_iter().map(|(oid, found)| (oid, index.body(found))).collect());
    let reset = settings::reset_value("search_path");
    let (of_database, of_roles) = roles::search_paths(state);
    snapshot.default_path = of_database.or(reset).map(|path| routines::quoted_path(&path));
    snapshot.role_paths = of_roles.iter().map(|path| routines::quoted_path(path)).collect();
}

/// Returns what the texts of some routines mention. A body that was parsed when the routine was
/// created (BEGIN ATOMIC) mentions nothing: it does not depend on the search_path.
fn mentions(state: &State, wanted: &HashSet<Oid>) -> HashMap<Oid, Mentions> {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, language, text, parsed) =
        (column("oid"), column("prolang"), column("prosrc"), column("prosqlbody"));
    let mut languages: HashMap<Oid, Language> = HashMap::new();
    let mut found = HashMap::new();
    for routine in wanted {
        table.lookup(state, oids::PG_PROC_OID_INDEX, &[(oid, *routine)], |row| {
            let mentions = if row.is_null(parsed) {
                let language = *languages
                    .entry(row.oid(language))
                    .or_insert_with_key(|oid| language_of(state, *oid));
                Mentions::of(&row.text(text).unwrap_or_default(), language)
            } else {
                Mentions::default()
            };
            found.insert(*routine, mentions);
        });
    }
    found
}

fn language_of(state: &State, oid: Oid) -> Language {
    let name = of_row(state, oids::LANGUAGE_BY_OID, oid, "lanname", |row, name| row.name(name));
    match name.as_deref() {
        Some("sql") => Language::Sql,
        Some("plpgsql") => Language::PlPgSql,
        _ => Language::Other,
    }
}

/// The objects of the database that have one of the mentioned names.
#[derive(Default)]
struct Objects {
    by_name: HashMap<String, HashMap<NameKind, Vec<Named>>>,
}

impl Objects {
    /// Reads the catalogs of objects that are found along the search_path, one pass for each.
    fn read(state: &State, mentions: &HashMap<Oid, Mentions>, snapshot: &Snapshot) -> Self {
        let all = || mentions.values();
        let words: HashSet<&str> = all().flat_map(|m| m.words.keys().map(String::as_str)).collect();
        let operators: HashSet<&str> =
            all().flat_map(|m| m.operators.iter().map(String::as_str)).collect();
        let mut objects = Self::default();
        for source in Source::all() {
            let names = if source.is_operators() { &operators } else { &words };
            source.scan(state, names, |name, kind, object| {
                if snapshot.schema(object.schema).is_some_and(|schema| !schema.is_temporary()) {
                    let kinds = objects.by_name.entry(name).or_default();
                    kinds.entry(kind).or_default().push(object);
                }
            });
        }
        objects
    }

    /// Returns what a body looks up. Names that only `pg_catalog` contains are found along every
    /// search_path and are omitted.
    fn body(&self, mentions: Mentions) -> Body {
        let mut names = Vec::new();
        let operators = mentions.operators.iter().map(|operator| (operator, false));
        for (name, is_call) in mentions.words.iter().map(|(w, call)| (w, *call)).chain(operators) {
            for (kind, objects) in self.by_name.get(name).into_iter().flatten() {
                let is_routine = matches!(kind, NameKind::Function | NameKind::Procedure);
                if (is_call || !is_routine) && objects.iter().any(|o| o.schema != PG_CATALOG) {
                    names.push(BodyName {
                        kind: *kind,
                        name: name.clone(),
                        objects: objects.clone(),
                    });
                }
            }
        }
        names.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let Mentions { temporary, creates, runs_text, .. } = mentions;
        Body { names, temporary, creates, runs_text }
    }
}

/// A catalog of objects that are found along the search_path.
struct Source {
    table: Table,
    name: Column,
    schema: Column,
    details: Details,
}

/// How the rows of a catalog differ.
enum Details {
    Relation { kind: Column },
    Routine { kind: Column, arguments: Column },
    Type { kind: Column, relation: Column },
    Operator { left: Column, right: Column },
    Other(NameKind),
}

impl Source {
    fn all() -> [Self; 7] {
        let open = |catalog, name, schema, details: fn(&Table) -> Details| {
            let table = Table::open(catalog);
            let (name, schema) = (table.column(name), table.column(schema));
            let details = details(&table);
            Self { table, name, schema, details }
        };
        [
            open(oids::PG_CLASS, "relname", "relnamespace", |t| Details::Relation {
                kind: t.column("relkind"),
            }),
            open(oids::PG_PROC, "proname", "pronamespace", |t| Details::Routine {
                kind: t.column("prokind"),
                arguments: t.column("proargtypes"),
            }),
            open(oids::PG_TYPE, "typname", "typnamespace", |t| Details::Type {
                kind: t.column("typtype"),
                relation: t.column("typrelid"),
            }),
            open(oids::PG_OPERATOR, "oprname", "oprnamespace", |t| Details::Operator {
                left: t.column("oprleft"),
                right: t.column("oprright"),
            }),
            open(oids::PG_COLLATION, "collname", "collnamespace", |_| {
                Details::Other(NameKind::Collation)
            }),
            open(oids::PG_TS_CONFIG, "cfgname", "cfgnamespace", |_| {
                Details::Other(NameKind::TextSearchConfiguration)
            }),
            open(oids::PG_TS_DICT, "dictname", "dictnamespace", |_| {
                Details::Other(NameKind::TextSearchDictionary)
            }),
        ]
    }

    fn is_operators(&self) -> bool {
        matches!(self.details, Details::Operator { .. })
    }

    /// Calls `each` with every object that has one of some names.
    fn scan(
        &self,
        state: &State,
        names: &HashSet<&str>,
        mut each: impl FnMut(String, NameKind, Named),
    ) {
        if names.is_empty() {
            return;
        }
        self.table.scan(state, |row| {
            let name = row.name(self.name);
            if names.contains(name.as_str())
                && let Some((kind, arguments)) = self.details.of(row)
            {
                each(name, kind, Named { schema: row.oid(self.schema), arguments });
            }
        });
    }
}

impl Details {
    /// Returns the kind and the arguments of an object; `None` where it is not found by its name.
    fn of(&self, row: Row<'_>) -> Option<(NameKind, Vec<Oid>)> {
        match *self {
            // A composite type has a relation, too.
            Self::Relation { kind } => match row.char(kind) {
                b'r' | b'p' | b'f' | b'v' | b'm' | b'S' => Some((NameKind::Relation, vec![])),
                b'c' => Some((NameKind::Type, vec![])),
                _ => None,
            },
            Self::Routine { kind, arguments } => {
                let kind = match row.char(kind) {
                    b'p' => NameKind::Procedure,
                    _ => NameKind::Function,
                };
                Some((kind, row.oids(arguments)))
            }
            Self::Type { kind, relation } => (row.char(kind) != b'c' && row.oid(relation) == 0)
                .then_some((NameKind::Type, vec![])),
            Self::Operator { left, right } => {
                Some((NameKind::Operator, vec![row.oid(left), row.oid(right)]))
            }
            Self::Other(kind) => Some((kind, vec![])),
        }
    }
}

//! The contents of some schemas. The guard reads them at every CREATE FUNCTION, and therefore at a
//! cost that does not depend on the size of the catalog, unless untrusted roles own many objects.

use super::place::Place;
use super::{in_pg_catalog, oids};
use crate::pg::heap::{Row, State, Table};
use dragonfly_core::catalog::{ContentKind, Oid, OidSet, PG_CATALOG, RelationKind};
use dragonfly_reader::{ByOid, Column};
use pgrx::pg_sys;
use std::cell::LazyCell;
use std::collections::HashSet;

/// The number of objects in the schemas that are looked up one by one before those of the untrusted
/// roles are searched instead, which takes a lookup for each of these roles.
const MOST_LOOKUPS: usize = 200;

/// Returns the relations, routines, types and operators in the schemas `wanted`: all of them or,
/// where these are too many, those of the `untrusted` roles.
///
/// Of `pg_catalog`, it returns those of the `untrusted` roles: no object depends on that schema.
pub fn contents(
    state: &State,
    wanted: &HashSet<Oid>,
    untrusted: impl FnOnce() -> Vec<Oid>,
) -> Vec<Content> {
    let classes = [Class::relations(), Class::routines(), Class::types(), Class::operators()];
    let untrusted = LazyCell::new(untrusted);
    // A schema can have many objects, and a role many privileges, which are listed with what it
    // owns. Neither is known before, so that both searches take turns, each time with more lookups.
    let mut limit = MOST_LOOKUPS;
    let mut found = loop {
        let found = in_schemas(state, &classes, wanted, limit)
            .or_else(|| of_owners(state, &classes, &untrusted, wanted, limit));
        if let Some(found) = found {
            break found;
        }
        limit = limit.saturating_mul(4);
    };
    if wanted.contains(&PG_CATALOG) && state.is_current() {
        let owners = owners_in_catalog(state, &classes).into_iter();
        let owners = owners.filter(|(owner, _)| untrusted.contains(owner));
        found.extend(owners.map(|(owner, kind)| {
            let place = Place { schema: PG_CATALOG, owner };
            Content { place, kind }
        }));
    } else if wanted.contains(&PG_CATALOG) {
        found.extend(in_catalog(state, &classes, &untrusted));
    }
    found
}

/// Returns owners and kinds of the objects in `pg_catalog`, as the session knows them.
fn owners_in_catalog(state: &State, classes: &[Class]) -> HashSet<(Oid, ContentKind)> {
    let read = || {
        let all = classes.iter().flat_map(|class| {
            let found = class.in_catalog(state, &|_| true).into_iter();
            found.map(|(oid, content)| {
                ((class.by_oid.catalog, oid), (content.place.owner, content.kind))
            })
        });
        all.collect()
    };
    let look_up = |catalog, oid| {
        let class = classes.iter().find(|class| class.by_oid.catalog == catalog)?;
        let Content { place, kind } = class.cached(oid)?;
        (place.schema == PG_CATALOG).then_some((place.owner, kind))
    };
    in_pg_catalog::owners(&read, &look_up)
}

/// Returns the objects of some owners in `pg_catalog`. Objects of these owners are looked up one by
/// one or, where they are too many, in one pass over each catalog.
fn in_catalog(state: &State, classes: &[Class], owners: &[Oid]) -> Vec<Content> {
    of_owners(state, classes, owners, &[PG_CATALOG].into(), MOST_LOOKUPS).unwrap_or_else(|| {
        let owners: OidSet = owners.iter().copied().collect();
        let is_wanted = |owner| owners.contains(&owner);
        let found = classes.iter().flat_map(|class| class.in_catalog(state, &is_wanted));
        found.map(|(_, content)| content).collect()
    })
}

/// A relation, routine, type or operator.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// Its schema and owner.
    pub place: Place,
    /// Its kind.
    pub kind: ContentKind,
}

/// Reads the contents of schemas by `pg_depend`: all objects depend on their schema, except those
/// that initdb created, whose owner is trusted. `None` where there are more than `limit`.
fn in_schemas(
    state: &State,
    classes: &[Class],
    wanted: &HashSet<Oid>,
    limit: usize,
) -> Option<Vec<Content>> {
    let table = Table::open(oids::PG_DEPEND);
    let (class, object) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let mut members = Vec::new();
    for schema in wanted {
        let keys = [(to_class, oids::PG_NAMESPACE), (to_object, *schema)];
        table.lookup_while(state, oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            members.extend(
                classes
                    .iter()
                    .find(|c| c.by_oid.catalog == row.oid(class))
                    .map(|c| (c, row.oid(object))),
            );
            members.len() <= limit
        });
    }
    (members.len() <= limit).then(|| {
        members.into_iter().filter_map(|(class, object)| class.content(state, object)).collect()
    })
}

/// Reads the objects of some owners by `pg_shdepend`, where an object depends on its owner. `None`
/// where there are more than `limit` owners and objects.
fn of_owners(
    state: &State,
    classes: &[Class],
    owners: &[Oid],
    wanted: &HashSet<Oid>,
    limit: usize,
) -> Option<Vec<Content>> {
    if owners.len() > limit {
        return None;
    }
    // SAFETY: reads a variable of the backend.
    let current = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let table = Table::open(oids::PG_SHDEPEND);
    let (database, class, object) =
        (table.column("dbid"), table.column("classid"), table.column("objid"));
    let (to_class, to_object, kind) =
        (table.column("refclassid"), table.column("refobjid"), table.column("deptype"));
    let (mut found, mut visited) = (Vec::new(), 0);
    for owner in owners {
        let keys = [(to_class, oids::PG_AUTHID), (to_object, *owner)];
        table.lookup_while(state, oids::PG_SHDEPEND_REFERENCE_INDEX, &keys, |row| {
            visited += 1;
            if row.char(kind) == b'o' && row.oid(database) == current {
                let class = classes.iter().find(|c| c.by_oid.catalog == row.oid(class));
                found.extend(
                    class
                        .and_then(|c| c.content(state, row.oid(object)))
                        .filter(|content| wanted.contains(&content.place.schema)),
                );
            }
            visited <= limit
        });
    }
    (visited <= limit).then_some(found)
}

/// A catalog of relations, routines, types or operators.
struct Class {
    by_oid: ByOid,
    kind: ContentKind,
    cache: i32,
    table: Table,
    oid: Column,
    schema: Column,
    owner: Column,
    /// The kind of a relation; `None` in other catalogs.
    relation_kind: Option<Column>,
}

impl Class {
    fn open(by_oid: ByOid, kind: ContentKind, cache: i32, [schema, owner]: [&str; 2]) -> Self {
        let table = Table::open(by_oid.catalog);
        Self {
            by_oid,
            kind,
            cache,
            oid: table.column("oid"),
            schema: table.column(schema),
            owner: table.column(owner),
            relation_kind: None,
            table,
        }
    }

    /// Relations, and composite types: the dependency of one on its schema is that of its relation.
    fn relations() -> Self {
        let relations = Self::open(
            oids::CLASS_BY_OID,
            ContentKind::Relation,
            pg_sys::SysCacheIdentifier::RELOID as i32,
            ["relnamespace", "relowner"],
        );
        Self { relation_kind: Some(relations.table.column("relkind")), ..relations }
    }

    fn routines() -> Self {
        Self::open(
            oids::PROC_BY_OID,
            ContentKind::Routine,
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            ["pronamespace", "proowner"],
        )
    }

    fn types() -> Self {
        Self::open(
            oids::TYPE_BY_OID,
            ContentKind::Type,
            pg_sys::SysCacheIdentifier::TYPEOID as i32,
            ["typnamespace", "typowner"],
        )
    }

    fn operators() -> Self {
        Self::open(
            oids::OPERATOR_BY_OID,
            ContentKind::Operator,
            pg_sys::SysCacheIdentifier::OPEROID as i32,
            ["oprnamespace", "oprowner"],
        )
    }

    /// Returns an object of a state; `None` where it does not exist.
    fn content(&self, state: &State, object: Oid) -> Option<Content> {
        if state.is_current() {
            return self.cached(object);
        }
        let mut found = None;
        self.table.lookup(state, self.by_oid.index, &[(self.oid, object)], |row| {
            found = self.of_row(&row);
        });
        found
    }

    /// Returns the objects of some owners in `pg_catalog`, with their OIDs.
    fn in_catalog(&self, state: &State, is_wanted: &dyn Fn(Oid) -> bool) -> Vec<(Oid, Content)> {
        let mut found = Vec::new();
        self.table.scan(state, |row| {
            if row.oid(self.schema) == PG_CATALOG && is_wanted(row.oid(self.owner)) {
                found.extend(self.of_row(&row).map(|content| (row.oid(self.oid), content)));
            }
        });
        found
    }

    /// Returns an object from the system cache, which is faster than reading a state.
    fn cached(&self, object: Oid) -> Option<Content> {
        // SAFETY: the tuple is of that catalog, used while it is held, and released.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(self.cache, pg_sys::Datum::from(object));
            if tuple.is_null() {
                return None;
            }
            let content = self.of_row(&Row::from_tuple(tuple, &self.table));
            pg_sys::ReleaseSysCache(tuple);
            content
        }
    }

    fn of_row(&self, row: &Row<'_>) -> Option<Content> {
        let kind = match self.relation_kind.map(|column| row.char(column)) {
            Some(b'c') => ContentKind::Type,
            Some(kind) => RelationKind::from_relkind(kind).map(|_| ContentKind::Relation)?,
            None => self.kind,
        };
        let place = Place { schema: row.oid(self.schema), owner: row.oid(self.owner) };
        Some(Content { place, kind })
    }
}

//! The names that stand for another object in a later state than in an earlier one, or may do so.
//!
//! The server resolves the names in the text of a function when it reads the text. It can do that
//! in the current state only.

use super::oids;
use crate::pg::heap::{State, Table, interrupts, of_row};
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::sql::body::{Language, Mentions};
use std::collections::{HashMap, HashSet};

/// The names.
#[derive(Debug, Default)]
pub struct MovedNames {
    /// The names of schemas.
    schemas: HashSet<String>,
    /// The names of relations and routines, with those of their schemas.
    objects: HashMap<String, HashSet<String>>,
    /// The names of columns.
    columns: HashSet<String>,
    /// The relations whose columns differ, as `objects`.
    rows: HashMap<String, HashSet<String>>,
    /// The roles to which names may stand for something else.
    roles: HashSet<Oid>,
    /// Whether any name may be one of them.
    has_any: bool,
}

impl MovedNames {
    /// Returns the names of the schemas, and of those of some relations and routines, that differ
    /// in two states. `snapshots` have the roles and schemas of the states.
    pub fn between(
        states: [&State; 2],
        [before, after]: [&Snapshot; 2],
        objects: &[(Oid, Oid)],
    ) -> Self {
        let mut moved = Self::default();
        moved.add_schemas(before, after);
        if before.roles != after.roles || before.memberships != after.memberships {
            moved.add_roles(before, after);
        }
        for (class, oid) in objects {
            interrupts();
            moved.add(*class, *oid, states, [before, after]);
        }
        moved
    }

    /// Returns that any name may stand for another object.
    pub fn any() -> Self {
        Self { has_any: true, ..Self::default() }
    }

    fn add_schemas(&mut self, before: &Snapshot, after: &Snapshot) {
        let of = |snapshot: &Snapshot| -> HashSet<(Oid, String, String)> {
            // Who may use a schema decides whether a search_path contains it.
            let all = snapshot.schemas.iter().filter(|schema| !schema.is_temporary());
            all.map(|s| (s.oid, s.name.clone(), format!("{} {:?}", s.owner, s.acl))).collect()
        };
        let (was, is) = (of(before), of(after));
        self.schemas.extend(was.symmetric_difference(&is).map(|(_, name, _)| name.clone()));
        if !self.schemas.is_empty() {
            // A schema may be that of the role that executes the function.
            self.schemas.insert("$user".to_owned());
        }
    }

    /// Adds the roles that may use other schemas than before, or have another name.
    fn add_roles(&mut self, before: &Snapshot, after: &Snapshot) {
        if before.database.owner != after.database.owner {
            self.has_any = true;
        }
        let of = |snapshot: &Snapshot| -> HashSet<(Oid, String, bool, bool)> {
            let all = snapshot.roles.iter();
            all.map(|role| (role.oid, role.name.clone(), role.superuser, role.inherit)).collect()
        };
        if before.roles != after.roles {
            let (was, is) = (of(before), of(after));
            self.roles.extend(was.symmetric_difference(&is).map(|(role, ..)| *role));
        }
        let memberships = || before.memberships.iter().chain(&after.memberships);
        let members = memberships().filter(|membership| {
            before.memberships.contains(membership) != after.memberships.contains(membership)
        });
        self.roles.extend(members.map(|membership| membership.member));
        while !self.roles.is_empty() {
            let known = self.roles.len();
            let inherits = memberships().filter(|membership| self.roles.contains(&membership.role));
            let inherits: Vec<Oid> = inherits.map(|membership| membership.member).collect();
            self.roles.extend(inherits);
            if self.roles.len() == known {
                break;
            }
        }
    }

    fn add(&mut self, class: Oid, oid: Oid, states: [&State; 2], snapshots: [&Snapshot; 2]) {
        let [was, is] = states.map(|state| named(state, class, oid));
        if was == is {
            return;
        }
        let is_named = |(a, b): (&Named, &Named)| (a.schema, &a.name) == (b.schema, &b.name);
        let is_same = was.as_ref().zip(is.as_ref()).is_some_and(is_named);
        // The arguments of a routine are a part of what its name stands for.
        let differs_in_columns = is_same && class == oids::PG_CLASS;
        let into = if differs_in_columns { &mut self.rows } else { &mut self.objects };
        for (named, snapshot) in [&was, &is].into_iter().zip(snapshots) {
            let Some(Named { schema, name, .. }) = named else { continue };
            into.entry(name.clone()).or_default().insert(snapshot.schema_name(*schema).to_owned());
        }
        if differs_in_columns {
            let parts = |named: Option<Named>| -> HashSet<(i32, String, Oid)> {
                named.into_iter().flat_map(|named| named.parts).collect()
            };
            let (was, is) = (parts(was), parts(is));
            self.columns.extend(was.symmetric_difference(&is).map(|(_, name, _)| name.clone()));
        }
    }

    /// Returns the names of schemas.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str)
    }

    /// Whether the text of a function, which its owner reads with a search_path, may mention one of
    /// them.
    pub fn is_in(&self, text: &str, language: Language, path: &str, owner: Oid) -> bool {
        if self.has_any || self.roles.contains(&owner) {
            return true;
        }
        if self.schemas.is_empty() && self.objects.is_empty() && self.rows.is_empty() {
            return false;
        }
        let names: HashSet<String> =
            mentioned(text, language, path).map(|(name, _)| name).collect();
        // A name without a schema is that of an object in a schema of the path.
        let is_found = |schema: &String| {
            names.contains(schema) || names.contains("$user") || schema.is_empty()
        };
        let has_object = |objects: &HashMap<String, HashSet<String>>| {
            objects
                .iter()
                .any(|(name, schemas)| names.contains(name) && schemas.iter().any(&is_found))
        };
        // These name columns without their names.
        let names_all = || text.contains('*') || text.to_ascii_lowercase().contains("natural");
        self.schemas.iter().any(|schema| names.contains(schema))
            || self.columns.iter().any(|column| names.contains(column))
            || has_object(&self.objects)
            || (names_all() && has_object(&self.rows))
    }
}

/// Returns the names in the text of a function and in its search_path, each with whether it may be
/// that of a routine.
pub fn mentioned(
    text: &str,
    language: Language,
    path: &str,
) -> impl Iterator<Item = (String, bool)> + use<> {
    let Mentions { words, qualified, .. } = Mentions::of(text, language);
    let schemas: Vec<(String, bool)> =
        path.split(',').map(|name| (name.trim().trim_matches('"').to_owned(), false)).collect();
    words.into_iter().chain(qualified).chain(schemas)
}

/// What determines which object a name stands for.
#[derive(PartialEq, Eq)]
struct Named {
    schema: Oid,
    name: String,
    /// The columns of a relation with their types; of a routine, the arguments with a default.
    parts: Vec<(i32, String, Oid)>,
}

fn named(state: &State, class: Oid, oid: Oid) -> Option<Named> {
    let (by_oid, schema, name) = match class {
        oids::PG_CLASS => (oids::CLASS_BY_OID, "relnamespace", "relname"),
        oids::PG_PROC => (oids::PROC_BY_OID, "pronamespace", "proname"),
        _ => return None,
    };
    let schema = of_row(state, by_oid, oid, schema, |row, of| row.oid(of))?;
    let name = of_row(state, by_oid, oid, name, |row, of| row.name(of))?;
    let parts = if class == oids::PG_CLASS {
        columns(state, oid)
    } else {
        let defaults = of_row(state, by_oid, oid, "pronargdefaults", |row, of| row.int(of) as i16);
        vec![(defaults.unwrap_or_default().into(), String::new(), 0)]
    };
    Some(Named { schema, name, parts })
}

fn columns(state: &State, relation: Oid) -> Vec<(i32, String, Oid)> {
    let table = Table::open(oids::PG_ATTRIBUTE);
    let column = |name| table.column(name);
    let (number, name, of_type) = (column("attnum"), column("attname"), column("atttypid"));
    let (mut found, keys) = (Vec::new(), [(column("attrelid"), relation)]);
    table.lookup(state, oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
        let number = row.int(number) as i16;
        if number > 0 {
            found.push((number.into(), row.name(name), row.oid(of_type)));
        }
    });
    found.sort();
    found
}

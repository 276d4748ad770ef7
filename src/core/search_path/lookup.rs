//! What a body finds along a search_path, and what it no longer finds along another one.

use crate::catalog::{Body, BodyName, NameKind, Oid, PG_CATALOG, Snapshot};
use crate::sql::{printable, quote_ident};
use std::collections::HashMap;
use std::fmt;

/// The schemas that a search_path searches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// The existing schemas in their order, with `pg_catalog` and without `pg_temp`.
    schemas: Vec<Oid>,
    /// Whether temporary objects are found before those of these schemas.
    temporary_first: bool,
    /// Where objects are created: in the first schema that exists.
    creates_in: Option<Creation>,
    /// How many of the schemas SQL text of a body may depend on; the others are known from names
    /// in the body only.
    certain: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creation {
    Temporary,
    Schema(Oid),
}

impl Searched {
    /// Returns what `path` searches for a routine of `owner`.
    #[must_use]
    pub fn by(snapshot: &Snapshot, path: &[String], owner: Oid) -> Self {
        let place = |name: &String| match name.as_str() {
            "pg_temp" => Some(Creation::Temporary),
            "$user" => {
                Some(Creation::Schema(snapshot.schema_named(&snapshot.role_name(owner))?.oid))
            }
            name => Some(Creation::Schema(snapshot.schema_named(name)?.oid)),
        };
        let places: Vec<Creation> = path.iter().filter_map(place).collect();
        let mut schemas: Vec<Oid> = Vec::new();
        for place in &places {
            if let Creation::Schema(oid) = place
                && !schemas.contains(oid)
            {
                schemas.push(*oid);
            }
        }
        let temporary = places.iter().position(|place| *place == Creation::Temporary);
        let is_after_all =
            |at: usize| places[at..].iter().all(|place| *place == Creation::Temporary);
        if !schemas.contains(&PG_CATALOG) {
            schemas.insert(0, PG_CATALOG);
        }
        Self {
            certain: schemas.len(),
            schemas,
            temporary_first: !temporary.is_some_and(is_after_all),
            creates_in: places.first().copied(),
        }
    }

    /// Adds schemas that a body may depend on.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = Oid>) -> Self {
        for schema in more {
            if !self.schemas.contains(&schema) {
                self.schemas.push(schema);
            }
        }
        self
    }

    /// Returns the schemas in which the objects of a name are found, by the arguments.
    fn find<'n>(&self, name: &'n BodyName) -> HashMap<&'n [Oid], Oid> {
        let mut found = HashMap::new();
        for schema in &self.schemas {
            for object in name.objects.iter().filter(|object| object.schema == *schema) {
                found.entry(object.arguments.as_slice()).or_insert(*schema);
            }
        }
        found
    }

    /// Returns what `body` finds here and not along `new`.
    #[must_use]
    pub fn lost(&self, body: &Body, new: &Self) -> Vec<Lost> {
        let mut lost = Vec::new();
        for name in &body.names {
            let after = new.find(name);
            let mut schemas: Vec<Oid> = self
                .find(name)
                .into_iter()
                .filter(|(arguments, schema)| after.get(arguments) != Some(schema))
                .map(|(_, schema)| schema)
                .collect();
            schemas.sort_unstable();
            schemas.dedup();
            lost.extend(schemas.into_iter().map(|schema| Lost::Name {
                kind: name.kind,
                name: name.name.clone(),
                schema,
            }));
        }
        lost.extend(self.no_longer_hidden(body, new));
        if body.creates && new.creates_in != self.creates_in {
            lost.extend(self.creates_in.map(|place| match place {
                Creation::Schema(schema) => Lost::Creation(schema),
                Creation::Temporary => Lost::TemporaryCreation,
            }));
        }
        if body.runs_text {
            lost.extend(self.certainly_omitted(new).map(Lost::Text));
        }
        lost
    }

    /// Returns what changes where the body is not known: only schemas that are omitted.
    #[must_use]
    pub fn lost_by_unknown(&self, new: &Self) -> Vec<Lost> {
        self.certainly_omitted(new).map(Lost::Text).collect()
    }

    /// Returns the schemas that are not searched any more, or in another order.
    fn certainly_omitted<'a>(&'a self, new: &'a Self) -> impl Iterator<Item = Oid> + 'a {
        let certain = &self.schemas[..self.certain];
        let kept = |schemas: &[Oid], by: &[Oid]| -> Vec<Oid> {
            schemas.iter().copied().filter(|oid| by.contains(oid)).collect()
        };
        let is_same_order = kept(certain, &new.schemas) == kept(&new.schemas, certain);
        certain
            .iter()
            .copied()
            .filter(move |oid| *oid != PG_CATALOG && (!is_same_order || !new.schemas.contains(oid)))
    }

    /// Returns the temporary relations of the body that a permanent one would hide.
    fn no_longer_hidden(&self, body: &Body, new: &Self) -> Vec<Lost> {
        if !self.temporary_first || new.temporary_first {
            return vec![];
        }
        let names = body
            .names
            .iter()
            .filter(|n| n.kind == NameKind::Relation && body.temporary.contains(&n.name));
        names
            .filter_map(|n| {
                let schema = *new.find(n).values().next()?;
                Some(Lost::Temporary { name: n.name.clone(), schema })
            })
            .collect()
    }
}

/// Something that a body finds along one path and not along another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// An object in a schema.
    Name {
        /// Its kind.
        kind: NameKind,
        /// Its name.
        name: String,
        /// Its schema.
        schema: Oid,
    },
    /// A temporary relation of the body, which the relation of the same name in a schema would
    /// hide.
    Temporary {
        /// Its name.
        name: String,
        /// The schema.
        schema: Oid,
    },
    /// The schema in which the body creates objects.
    Creation(Oid),
    /// The temporary schema, in which the body creates objects.
    TemporaryCreation,
    /// A schema in which SQL text may find objects whose names are not in the body.
    Text(Oid),
}

impl Lost {
    /// Returns the schema in which a name is found.
    #[must_use]
    pub fn found_in(&self) -> Option<Oid> {
        match self {
            Self::Name { schema, .. } | Self::Creation(schema) | Self::Text(schema) => {
                Some(*schema)
            }
            Self::Temporary { .. } | Self::TemporaryCreation => None,
        }
    }

    /// Returns a phrase for a list of what is lost.
    #[must_use]
    pub fn describe<'a>(&'a self, snapshot: &'a Snapshot) -> impl fmt::Display + 'a {
        std::fmt::from_fn(move |f| {
            let schema = |oid: Oid| {
                let name = snapshot.schema_name(oid);
                printable(&quote_ident(name)).into_owned()
            };
            match self {
                Self::Name { kind, name, schema: of } => {
                    let name = match kind {
                        NameKind::Operator => name.clone(),
                        NameKind::Function | NameKind::Procedure => {
                            format!("{}()", quote_ident(name))
                        }
                        _ => quote_ident(name).into_owned(),
                    };
                    write!(f, "{} {} of schema {}", kind.as_str(), printable(&name), schema(*of))
                }
                Self::Temporary { name, schema: of } => {
                    let name = printable(&quote_ident(name)).into_owned();
                    write!(f, "temporary relation {name}, hidden by that of schema {}", schema(*of))
                }
                Self::Creation(of) => {
                    write!(f, "schema {} as the one where it creates objects", schema(*of))
                }
                Self::TemporaryCreation => {
                    f.write_str("the temporary schema as the one where it creates objects")
                }
                Self::Text(of) => {
                    write!(f, "names of schema {} in SQL text that it builds", schema(*of))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Named, Schema};

    const API: Oid = 101;
    const EXTENSIONS: Oid = 102;

    fn world() -> Snapshot {
        let schema = |oid, name: &str| Schema { oid, name: name.to_owned(), owner: 1, acl: None };
        Snapshot {
            version: 15,
            schemas: vec![
                schema(PG_CATALOG, "pg_catalog"),
                schema(API, "api"),
                schema(EXTENSIONS, "extensions"),
            ]
            .into(),
            ..Snapshot::default()
        }
        .complete()
    }

    fn name(kind: NameKind, name: &str, objects: &[(Oid, &[Oid])]) -> BodyName {
        let objects = objects
            .iter()
            .map(|(schema, arguments)| Named { schema: *schema, arguments: arguments.to_vec() })
            .collect();
        BodyName { kind, name: name.into(), objects }
    }

    fn lost(body: &Body, old: &str, new: &str) -> Vec<String> {
        let world = world();
        let by = |path: &str| Searched::by(&world, &world.split_path(path).unwrap(), 1);
        by(old).lost(body, &by(new)).iter().map(|l| l.describe(&world).to_string()).collect()
    }

    fn names(names: Vec<BodyName>) -> Body {
        Body { names, ..Body::default() }
    }

    #[test]
    fn objects_of_an_omitted_schema_are_lost() {
        let body = names(vec![
            name(NameKind::Operator, "%", &[(PG_CATALOG, &[23, 23]), (EXTENSIONS, &[25, 25])]),
            name(NameKind::Function, "next No", &[(API, &[])]),
            name(NameKind::Relation, "log", &[(API, &[]), (EXTENSIONS, &[])]),
        ]);
        assert_eq!(lost(&body, "api, extensions", "api, extensions, pg_temp"), [""; 0]);
        assert_eq!(
            lost(&body, "api, extensions", "api, pg_temp"),
            ["operator % of schema extensions"]
        );
        assert_eq!(
            lost(&body, "api, extensions", "extensions, pg_temp"),
            ["function \"next No\"() of schema api", "relation log of schema api"]
        );
        assert_eq!(lost(&body, "", "pg_catalog, pg_temp"), [""; 0]);
    }

    #[test]
    fn object_that_another_one_would_hide_is_lost() {
        let body = names(vec![name(NameKind::Function, "now", &[(PG_CATALOG, &[]), (API, &[])])]);
        assert_eq!(
            lost(&body, "api, pg_catalog", "api, pg_temp"),
            ["function now() of schema api"]
        );
        assert_eq!(lost(&body, "api", "pg_catalog, pg_temp"), [""; 0], "it is hidden already");
    }

    #[test]
    fn temporary_relation_that_a_permanent_one_would_hide_is_lost() {
        let mut body = names(vec![name(NameKind::Relation, "log", &[(API, &[])])]);
        body.temporary.insert("log".into());
        assert_eq!(
            lost(&body, "api", "api, pg_temp"),
            ["temporary relation log, hidden by that of schema api"]
        );
        assert_eq!(lost(&body, "api, pg_temp", "api, pg_temp"), [""; 0]);
        assert_eq!(lost(&body, "extensions", "extensions, pg_temp"), [""; 0]);
    }

    #[test]
    fn place_of_new_objects_counts_only_if_the_body_creates_some() {
        let body = Body { creates: true, ..Body::default() };
        let other = "schema api as the one where it creates objects";
        assert_eq!(lost(&body, "missing, api, extensions", "extensions, pg_temp"), [other]);
        assert_eq!(lost(&body, "missing, api", "api, pg_temp"), [""; 0]);
        assert_eq!(
            lost(&body, "pg_temp, api", "api, pg_temp"),
            ["the temporary schema as the one where it creates objects"]
        );
        assert_eq!(lost(&Body::default(), "api", "pg_catalog, pg_temp"), [""; 0]);
    }

    #[test]
    fn sql_text_may_need_each_omitted_schema() {
        let body = Body { runs_text: true, ..Body::default() };
        let text = "names of schema api in SQL text that it builds";
        assert_eq!(lost(&body, "api, extensions", "extensions, pg_temp"), [text]);
        assert_eq!(lost(&body, "api, extensions", "api, extensions, pg_temp"), [""; 0]);
        assert_eq!(lost(&body, "api, pg_catalog", "api, pg_temp"), [text], "another order");
    }
}

//! Looks up the objects that users name, as psql and the server print their names.

use crate::source::{State, of_row};
use crate::{objects, oids, routines};
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::{Missing, Named, Noun, arguments, bare_type, types_of_argument};
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_core::sql::{
    canonical_type, capitalized, listed, listed_as_alternatives, printable, safe_ident,
};
use std::collections::HashSet;

/// The object that a name refers to.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Found {
    Schema(Oid),
    /// With the columns that the name lists.
    Relation(Oid, Vec<String>),
    Routine(Oid),
    Nothing(Nothing),
}

/// A name that no object has.
#[derive(Debug, Default)]
pub struct Nothing {
    /// The schema, where that exists.
    pub schema: Option<Oid>,
    /// The object as messages name it.
    pub object: String,
    /// Objects with the same name in other schemas, as messages name them.
    pub existing: Vec<String>,
    /// A question about the name that was probably meant.
    pub similar: Option<String>,
}

impl Nothing {
    /// Returns it as the core knows it. The snapshot has the schemas.
    #[must_use]
    pub fn missing<'s>(&self, snapshot: &'s Snapshot) -> Missing<'s> {
        Missing {
            schema: self.schema.and_then(|schema| snapshot.schema(schema)),
            object: self.object.clone(),
            existing: self.existing.clone(),
            similar: self.similar.clone(),
        }
    }
}

/// Why a name cannot be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unnamed {
    /// The text is not a name of any object.
    Invalid(String),
    /// More than one routine has the name.
    Ambiguous {
        /// The name.
        name: String,
        /// The routines, with their arguments.
        several: Vec<String>,
    },
    /// The name of an object has no schema.
    Unqualified {
        /// What is wrong, without a period.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// A relation does not have the column.
    NoColumn {
        /// The name.
        column: String,
        /// The columns that the relation has.
        known: Vec<String>,
    },
}

/// What to write, for a text that is not a name.
pub const FORMS: &str = "Specify schema, schema.name, schema.table.column, schema.table(column, \
                         ...), or schema.function(types).";

/// Why a name without a schema is not looked up.
pub const UNQUALIFIED: &str = "A name without a schema is read as the name of a schema, because \
                               other objects would depend on the search_path.";

impl Unnamed {
    /// Returns the primary message, without a period.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Invalid(text) => format!("invalid object name: \"{}\"", printable(text)),
            Self::Ambiguous { name, .. } => {
                format!("routine name {} is not unique", printable(name))
            }
            Self::Unqualified { message, .. } => message.clone(),
            Self::NoColumn { column, .. } => {
                format!("unrecognized column \"{}\"", printable(column))
            }
        }
    }

    /// Returns what to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid(_) => FORMS.to_owned(),
            Self::Ambiguous { several, .. } => format!("Specify one of {}.", listed(several)),
            Self::Unqualified { hint, .. } => hint.clone(),
            Self::NoColumn { known, .. } if known.is_empty() => "There is none.".to_owned(),
            Self::NoColumn { column, known } => {
                let meant = question(column, known.iter().map(String::as_str));
                let meant = meant.map(|question| format!("{question} ")).unwrap_or_default();
                format!("{meant}Valid: {}.", known.join(", "))
            }
        }
    }
}

/// Where names are looked up.
pub struct Names<'a> {
    /// The catalogs.
    pub state: &'a dyn State,
    /// The schemas.
    pub base: &'a Snapshot,
    /// The contract, whose schemas are searched for objects of the same name.
    pub contract: &'a Contract,
    /// Looks up a type as users write it for a routine of a schema; `None` where that is not known.
    pub type_named: &'a dyn Fn(&str, &str) -> Option<Oid>,
}

/// A schema that exists.
#[derive(Clone, Copy)]
struct NamedSchema<'n> {
    oid: Oid,
    name: &'n str,
}

impl Names<'_> {
    /// Looks up a name.
    ///
    /// # Errors
    /// Where it cannot be the name of any object.
    pub fn find(&self, named: &Named) -> Result<Found, Unnamed> {
        Ok(match (&named.parts[..], named.noun) {
            ([schema], None | Some(Noun::Schema)) if named.list.is_none() => {
                match self.schema(schema) {
                    Some(oid) => Found::Schema(oid),
                    None if named.noun.is_some() => Found::Nothing(Nothing {
                        object: format!("schema {}", safe_ident(schema)),
                        similar: self.schema_meant(schema),
                        ..Nothing::default()
                    }),
                    None => return Err(self.unqualified(schema, named)),
                }
            }
            ([name], _) => return Err(self.unqualified(name, named)),
            ([schema, name], noun) if noun != Some(Noun::Schema) => match self.schema(schema) {
                Some(oid) => self.in_schema(NamedSchema { oid, name: schema }, name, named)?,
                None => self.missing_schema(schema, name),
            },
            ([schema, table, column], None | Some(Noun::Relation)) if named.list.is_none() => {
                let oid = self.schema(schema);
                match oid.and_then(|oid| self.relation(oid, table)) {
                    Some(relation) => self.columns(relation, vec![column.clone()])?,
                    None if oid.is_none() => self.missing_schema(schema, table),
                    None => Found::Nothing(Nothing {
                        schema: oid,
                        object: format!("table {}.{}", safe_ident(schema), safe_ident(table)),
                        existing: self.named_alike(table),
                        similar: oid.and_then(|oid| self.object_meant(oid, table)),
                    }),
                }
            }
            _ => return Err(Unnamed::Invalid(named.parts.join("."))),
        })
    }

    fn relation(&self, schema: Oid, name: &str) -> Option<Oid> {
        objects::relation_named(self.state, schema, name)
    }

    fn columns(&self, relation: Oid, columns: Vec<String>) -> Result<Found, Unnamed> {
        let known = objects::columns(self.state, relation);
        match columns.iter().find(|column| !known.contains(column)) {
            Some(column) => Err(Unnamed::NoColumn { column: column.clone(), known }),
            None => Ok(Found::Relation(relation, columns)),
        }
    }

    fn schema(&self, name: &str) -> Option<Oid> {
        self.base.schema_named(name).map(|s| s.oid)
    }

    fn missing_schema(&self, schema: &str, name: &str) -> Found {
        Found::Nothing(Nothing {
            schema: None,
            object: format!("schema {}", safe_ident(schema)),
            existing: self.named_alike(name),
            similar: self.schema_meant(schema),
        })
    }

    /// Asks whether a schema with a similar name is meant.
    fn schema_meant(&self, name: &str) -> Option<String> {
        let schemas = self.base.schemas.iter().filter(|schema| !schema.is_of_server());
        question(name, schemas.map(|schema| schema.name.as_str()))
    }

    /// Asks whether a relation or routine of a schema with a similar name is meant.
    fn object_meant(&self, schema: Oid, name: &str) -> Option<String> {
        let names = objects::names_in(self.state, schema);
        question(name, names.iter().map(String::as_str))
    }

    fn in_schema(
        &self,
        schema: NamedSchema<'_>,
        name: &str,
        named: &Named,
    ) -> Result<Found, Unnamed> {
        let relation =
            self.relation(schema.oid, name).filter(|_| named.noun != Some(Noun::Routine));
        let nothing = |list: &str| {
            let kind = if list.is_empty() { "object" } else { "function" };
            let object = format!("{kind} {}.{}{list}", safe_ident(schema.name), safe_ident(name));
            let existing = self.named_alike(name);
            let similar = self.object_meant(schema.oid, name);
            Found::Nothing(Nothing { schema: Some(schema.oid), object, existing, similar })
        };
        if named.noun == Some(Noun::Relation) && relation.is_none() {
            return Ok(nothing(""));
        }
        // A list names columns where a relation has them, or where no routine has the name.
        let is_of_columns = |relation: Oid| {
            let known = objects::columns(self.state, relation);
            let is_known = |column: &String| known.contains(column);
            let are_known = |of: Vec<String>| !of.is_empty() && of.iter().all(is_known);
            named.list.is_none() || named.columns().is_some_and(are_known)
        };
        let routines = routines::named(self.state, &[name].into(), &[schema.oid].into());
        let found = match (relation, &routines[..], named.list.as_deref()) {
            (Some(oid), found, _)
                if named.noun.is_some() || found.is_empty() || is_of_columns(oid) =>
            {
                let listed = named.columns().ok_or_else(|| Unnamed::Invalid(name.to_owned()))?;
                self.columns(oid, listed)?
            }
            (_, [], None) => nothing(""),
            (_, [oid], None) => Found::Routine(*oid),
            (_, several, None) => return Err(self.ambiguous(name, several)),
            (_, found, Some(list)) => {
                let arguments = arguments(list);
                self.with_arguments(schema, found, &arguments)
                    .map_or_else(|| nothing(&self.shown(schema, &arguments)), Found::Routine)
            }
        };
        Ok(found)
    }

    /// Returns the routine with these arguments: with the types that their names refer to, or the
    /// only one whose types have these names in whatever schema.
    fn with_arguments(
        &self,
        schema: NamedSchema<'_>,
        found: &[Oid],
        arguments: &[String],
    ) -> Option<Oid> {
        let named: Vec<Vec<String>> =
            arguments.iter().filter_map(|argument| types_of_argument(argument)).collect();
        let wanted: Vec<Option<Oid>> = named
            .iter()
            .map(|types| types.iter().find_map(|name| (self.type_named)(schema.name, name)))
            .collect();
        let types = |oid: Oid| routines::argument_type_oids(self.state, oid);
        let is_same = |oid: &&Oid| types(**oid).into_iter().map(Some).eq(wanted.iter().copied());
        if let Some(oid) = found.iter().find(is_same) {
            return Some(*oid);
        }
        let is_exact = |of: Oid, names: &[String]| {
            let name = canonical_type(&self.state.type_name(of));
            names.iter().any(|text| canonical_type(text) == name)
        };
        let is_bare = |of: Oid, names: &[String]| {
            let bare = self.bare_name(of);
            names.iter().any(|text| {
                // `char` is not "char".
                canonical_type(text) == text.trim().to_lowercase()
                    && bare_type(text) == Some(bare.clone())
            })
        };
        let has_exact_names = |oid: &&Oid| {
            let types = types(**oid);
            let mut pairs = types.iter().zip(&named);
            types.len() == named.len() && pairs.all(|(of, names)| is_exact(*of, names))
        };
        if let Some(oid) = found.iter().find(has_exact_names) {
            return Some(*oid);
        }
        let mut alike = found.iter().filter(|oid| {
            let types = types(**oid);
            let mut pairs = types.iter().zip(&named).zip(&wanted);
            types.len() == named.len()
                && pairs.all(|((of, names), wanted)| {
                    Some(*of) == *wanted || is_exact(*of, names) || is_bare(*of, names)
                })
        });
        alike.next().copied().filter(|_| alike.next().is_none())
    }

    /// Returns the name of a type without its schema; of an array, that of its elements.
    fn bare_name(&self, of: Oid) -> (String, bool) {
        let name = self.state.type_name(of);
        let is_array = name.ends_with("[]");
        let by = oids::TYPE_BY_OID;
        let element = || of_row(self.state, by, of, "typelem", |row, element| row.oid(element));
        let of = if is_array { element() } else { Some(of) };
        let name = of.and_then(|of| of_row(self.state, by, of, "typname", |row, of| row.name(of)));
        (name.unwrap_or_default(), is_array)
    }

    /// The routines and relations with this name in the governed schemas, as messages name them.
    fn named_alike(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let governed = self.contract.schemas.iter().map(|declared| declared.name.as_str());
        for schema in governed.filter_map(|name| self.base.schema_named(name)) {
            let qualified = format!("{}.{}", safe_ident(&schema.name), safe_ident(name));
            let relation = self.relation(schema.oid, name);
            let kind = relation.and_then(|oid| objects::relation_kind(self.state, oid));
            found.extend(kind.map(|kind| format!("{} {qualified}", kind.object_type())));
            let routines: HashSet<&str> = [name].into();
            let routines = routines::named(self.state, &routines, &[schema.oid].into());
            found.extend(routines.iter().map(|oid| {
                let types = routines::argument_types_of(self.state, *oid);
                format!("{qualified}({})", types.replace("pg_catalog.", ""))
            }));
        }
        found.sort();
        found
    }

    fn ambiguous(&self, name: &str, several: &[Oid]) -> Unnamed {
        let shown = |oid: &Oid| {
            let types = routines::argument_types_of(self.state, *oid).replace("pg_catalog.", "");
            format!("{}({})", printable(name), printable(&types))
        };
        let mut several: Vec<String> = several.iter().map(shown).collect();
        several.sort();
        Unnamed::Ambiguous { name: name.to_owned(), several }
    }

    fn unqualified(&self, name: &str, named: &Named) -> Unnamed {
        let existing = self.named_alike(name);
        let is_schema = named.list.is_none() && existing.is_empty();
        let message = if is_schema {
            format!("schema \"{}\" does not exist", printable(name))
        } else {
            format!("\"{}\" has no schema", printable(name))
        };
        let meant = self.schema_meant(name).filter(|_| is_schema);
        let hint = match existing.as_slice() {
            [] if meant.is_some() => meant.unwrap_or_default(),
            [] => "Specify schema.name, schema.table.column, or schema.function(types).".to_owned(),
            names => format!("Specify {}.", printable(&listed_as_alternatives(names))),
        };
        Unnamed::Unqualified { message, hint }
    }

    /// The arguments as messages name them: with the names of types that exist, otherwise as they
    /// were written.
    fn shown(&self, schema: NamedSchema<'_>, arguments: &[String]) -> String {
        let shown = |argument: &String| {
            let types = types_of_argument(argument)?;
            let found = types.iter().find_map(|name| (self.type_named)(schema.name, name));
            let name = found.map(|oid| routines::argument_types(self.state, &[oid]));
            let written = || argument.trim().to_owned();
            Some(name.map_or_else(written, |name| name.replace("pg_catalog.", "")))
        };
        format!("({})", arguments.iter().filter_map(shown).collect::<Vec<_>>().join(","))
    }
}

/// Asks whether the known name that is most similar is meant.
fn question<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let others = known.into_iter().filter(|name| *name != given);
    did_you_mean(given, others).map(|question| capitalized(&question))
}

//! Looks up the objects that users name, as psql and the server print their names.

use crate::catalog;
use crate::pg::heap::State;
use crate::pg::report::{Report, unknown_argument};
use crate::pg::text::to_server;
use crate::pg::{setting, subtransaction};
use crate::query;
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::{Named, Noun, arguments, bare_type, types_of_argument};
use dragonfly_core::sql::similar::did_you_mean;
use dragonfly_core::sql::{capitalized, listed_as_alternatives, printable, safe_ident};
use pgrx::PgSqlErrorCode;
use std::collections::HashSet;
use std::ffi::CString;

/// The object that a name refers to.
pub enum Found {
    Schema(Oid),
    /// With the columns that the name lists.
    Relation(Oid, Vec<String>),
    Routine(Oid),
    Nothing(Nothing),
}

/// A name that no object has.
#[derive(Default)]
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

/// Where names are looked up.
pub struct Names<'a> {
    pub state: &'a State,
    /// The schemas.
    pub base: &'a Snapshot,
    pub contract: &'a Contract,
}

/// A schema that exists.
#[derive(Clone, Copy)]
struct NamedSchema<'n> {
    oid: Oid,
    name: &'n str,
}

impl Names<'_> {
    /// Looks up a name. Raises an error where it cannot be the name of any object.
    pub fn find(&self, named: &Named) -> Found {
        match (&named.parts[..], named.noun) {
            ([schema], None | Some(Noun::Schema)) if named.list.is_none() => {
                match self.schema(schema) {
                    Some(oid) => Found::Schema(oid),
                    None if named.noun.is_some() => Found::Nothing(Nothing {
                        object: format!("schema {}", safe_ident(schema)),
                        similar: self.schema_meant(schema),
                        ..Nothing::default()
                    }),
                    None => self.reject_unqualified(schema, named),
                }
            }
            ([name], _) => self.reject_unqualified(name, named),
            ([schema, name], noun) if noun != Some(Noun::Schema) => match self.schema(schema) {
                Some(oid) => self.in_schema(NamedSchema { oid, name: schema }, name, named),
                None => self.missing_schema(schema, name),
            },
            ([schema, table, column], None | Some(Noun::Relation)) if named.list.is_none() => {
                let oid = self.schema(schema);
                match oid.and_then(|oid| catalog::relation_named(oid, table)) {
                    Some(relation) => columns(relation, vec![column.clone()]),
                    None if oid.is_none() => self.missing_schema(schema, table),
                    None => Found::Nothing(Nothing {
                        schema: oid,
                        object: format!("table {}.{}", safe_ident(schema), safe_ident(table)),
                        existing: self.named_alike(table),
                        similar: oid.and_then(|oid| self.object_meant(oid, table)),
                    }),
                }
            }
            _ => invalid_name(&named.parts.join(".")),
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
        let names = catalog::names_in(self.state, schema);
        question(name, names.iter().map(String::as_str))
    }

    fn in_schema(&self, schema: NamedSchema<'_>, name: &str, named: &Named) -> Found {
        let relation =
            catalog::relation_named(schema.oid, name).filter(|_| named.noun != Some(Noun::Routine));
        let nothing = |list: &str| {
            let kind = if list.is_empty() { "object" } else { "function" };
            let object = format!("{kind} {}.{}{list}", safe_ident(schema.name), safe_ident(name));
            let existing = self.named_alike(name);
            let similar = self.object_meant(schema.oid, name);
            Found::Nothing(Nothing { schema: Some(schema.oid), object, existing, similar })
        };
        if named.noun == Some(Noun::Relation) && relation.is_none() {
            return nothing("");
        }
        // A list names columns where a relation has them, or where no routine has the name.
        let is_of_columns = |relation: Oid| {
            let known = query::all_columns(relation);
            named.columns().is_some_and(|columns| columns.iter().all(|c| known.contains(c)))
        };
        let routines = catalog::routines_named(self.state, &[name].into(), &[schema.oid].into());
        match (relation, &routines[..], named.list.as_deref()) {
            (Some(oid), found, _)
                if named.noun.is_some() || found.is_empty() || is_of_columns(oid) =>
            {
                columns(oid, named.columns().unwrap_or_else(|| invalid_name(name)))
            }
            (_, [], None) => nothing(""),
            (_, [oid], None) => Found::Routine(*oid),
            (_, several, None) => self.reject_ambiguous(name, several),
            (_, found, Some(list)) => {
                let arguments = arguments(list);
                self.with_arguments(schema, found, &arguments)
                    .map_or_else(|| nothing(&shown(schema, &arguments)), Found::Routine)
            }
        }
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
            .map(|types| types.iter().find_map(|name| type_named(schema.name, name)))
            .collect();
        let types = |oid: Oid| catalog::argument_type_oids(self.state, oid);
        let is_same = |oid: &&Oid| types(**oid).into_iter().map(Some).eq(wanted.iter().copied());
        if let Some(oid) = found.iter().find(is_same) {
            return Some(*oid);
        }
        let is_called = |of: Oid, names: &[String]| {
            let (name, is_array) = catalog::bare_type_name(of);
            names.iter().any(|text| bare_type(text) == Some((name.clone(), is_array)))
        };
        let mut alike = found.iter().filter(|oid| {
            let types = types(**oid);
            let mut pairs = types.iter().zip(&named).zip(&wanted);
            types.len() == named.len()
                && pairs.all(|((of, names), wanted)| Some(*of) == *wanted || is_called(*of, names))
        });
        alike.next().copied().filter(|_| alike.next().is_none())
    }

    /// The routines and relations with this name in the governed schemas, as messages name them.
    fn named_alike(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let governed = self.contract.schemas.iter().map(|declared| declared.name.as_str());
        for schema in governed.filter_map(|name| self.base.schema_named(name)) {
            let qualified = format!("{}.{}", safe_ident(&schema.name), safe_ident(name));
            let relation = catalog::relation_named(schema.oid, name);
            let kind = relation.and_then(|oid| catalog::relation_kind(self.state, oid));
            found.extend(kind.map(|kind| format!("{} {qualified}", kind.object_type())));
            let routines: HashSet<&str> = [name].into();
            let routines = catalog::routines_named(self.state, &routines, &[schema.oid].into());
            found.extend(routines.iter().map(|oid| {
                let types = catalog::argument_types_of(self.state, *oid);
                format!("{qualified}({})", types.replace("pg_catalog.", ""))
            }));
        }
        found.sort();
        found
    }

    fn reject_ambiguous(&self, name: &str, several: &[Oid]) -> ! {
        let shown = |oid: &Oid| {
            let types = catalog::argument_types_of(self.state, *oid).replace("pg_catalog.", "");
            format!("{}({})", printable(name), printable(&types))
        };
        let mut shown: Vec<String> = several.iter().map(shown).collect();
        shown.sort();
        Report {
            message: format!("routine name {} is not unique", printable(name)),
            detail: String::new(),
            hint: format!("Specify one of {}.", dragonfly_core::sql::listed(&shown)),
        }
        .error(PgSqlErrorCode::ERRCODE_AMBIGUOUS_FUNCTION)
    }

    fn reject_unqualified(&self, name: &str, named: &Named) -> ! {
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
        Report {
            message,
            detail: "A name without a schema is read as the name of a schema, because other \
                     objects would depend on the search_path."
                .into(),
            hint,
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME)
    }
}

/// Asks whether the known name that is most similar is meant.
fn question<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let others = known.into_iter().filter(|name| *name != given);
    did_you_mean(given, others).map(|question| capitalized(&question))
}

/// The arguments as messages name them: with the names of types that exist, otherwise as they
/// were written.
fn shown(schema: NamedSchema<'_>, arguments: &[String]) -> String {
    let shown = |argument: &String| {
        let types = types_of_argument(argument)?;
        let found = types.iter().find_map(|name| type_named(schema.name, name));
        let name = found.map(|oid| catalog::argument_types(&[oid]));
        Some(
            name.map_or_else(|| argument.trim().to_owned(), |name| name.replace("pg_catalog.", "")),
        )
    };
    format!("({})", arguments.iter().filter_map(shown).collect::<Vec<_>>().join(","))
}

/// Looks up a type as users write it, `int` or `numeric(12,2)`: as a name of the server, of the
/// schema of the routine, or in the search_path of the session, with which psql and regprocedure
/// print names.
fn type_named(schema: &str, name: &str) -> Option<Oid> {
    let session = crate::settings::value("search_path").unwrap_or_default();
    let names = crate::pg::text::is_utf8()
        .then(|| {
            dragonfly_core::sql::identifiers::split_identifiers(&session, catalog::VERSION).ok()
        })
        .flatten()
        .unwrap_or_default();
    let mut path = vec!["pg_catalog".to_owned(), safe_ident(schema).into_owned()];
    let is_named = |name: &&String| !name.is_empty() && *name != "$user" && *name != "pg_temp";
    path.extend(names.iter().filter(is_named).map(|name| safe_ident(name).into_owned()));
    path.extend(["public".to_owned(), "pg_temp".to_owned()]);
    let path = CString::new(to_server(&path.join(", "))).unwrap_or_default();
    let work = || {
        setting::under(&[(c"search_path", path.as_c_str())], || catalog::deparse::type_named(name))
    };
    // The parser raises an error for a text that is not the name of a type.
    subtransaction::rolled_back(work).ok().flatten()
}

/// Returns a type, as it is written for a routine in this schema, in the form of the contract;
/// `None` where there is no such type.
pub fn type_in_contract(schema: &str, written: &str) -> Option<String> {
    type_named(schema, written).map(in_contract)
}

/// Returns the type that the server finds by the search_path of the session, in the form of the
/// contract.
pub fn type_in_session(written: &str) -> Option<String> {
    let found = subtransaction::rolled_back(|| catalog::deparse::type_named(written));
    found.ok().flatten().map(in_contract)
}

fn in_contract(oid: Oid) -> String {
    let name = catalog::current_type_name(oid);
    name.strip_prefix("pg_catalog.").map_or(name.clone(), str::to_owned)
}

fn columns(relation: Oid, columns: Vec<String>) -> Found {
    let known = query::all_columns(relation);
    for column in &columns {
        if !known.contains(column) {
            unknown_argument(
                "column",
                column,
                &known.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
    }
    Found::Relation(relation, columns)
}

/// Raises the error for a text that is no name.
pub fn invalid_name(text: &str) -> ! {
    Report {
        message: format!("invalid object name: \"{}\"", printable(text)),
        detail: String::new(),
        hint: "Specify schema, schema.name, schema.table.column, schema.table(column, ...), or \
               schema.function(types)."
            .into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_NAME)
}

//! Names of schemas, relations, types, functions and operators, along the search_path of a
//! function.

use crate::objects::relation_named;
use crate::source::{State, of_row};
use crate::text_body::Text;
use crate::{oids, roles, snapshot};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectKind, Oid, PG_CATALOG, Privileges};
use sqlparser::ast::{DataType, Ident, ObjectName};
use std::collections::HashSet;

/// The longest name, in bytes (`NAMEDATALEN`).
const LONGEST: usize = 63;

/// The schemas that names are looked up in.
pub(super) struct Names<'a> {
    state: &'a dyn State,
    /// Those of the search_path, with `pg_catalog`.
    path: Vec<Oid>,
    /// Those that the owner of the function may use.
    usable: HashSet<Oid>,
}

/// A function or an aggregate.
#[derive(Debug, Clone)]
pub(super) struct Function {
    pub oid: Oid,
    pub arguments: Vec<Oid>,
    /// How many arguments a call can leave out.
    pub defaults: usize,
    pub result: Oid,
    pub returns_set: bool,
    pub kind: u8,
    pub is_variadic: bool,
}

/// An operator with two operands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator {
    pub oid: Oid,
    pub left: Oid,
    pub right: Oid,
    pub result: Oid,
}

/// How values of a type become values of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cast {
    pub function: Oid,
    /// Whether it is applied without being asked for.
    pub is_implicit: bool,
    pub method: u8,
}

/// Returns a name as the server reads it; `None` where it would be truncated.
pub(super) fn name_of(ident: &Ident) -> Option<String> {
    let name = match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some('"') => ident.value.clone(),
        Some(_) => return None,
    };
    (name.len() <= LONGEST).then_some(name)
}

/// Returns the parts of a qualified name.
pub(super) fn parts_of(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| name_of(part.as_ident()?)).collect()
}

/// Returns the name that a type of the SQL standard, without a modifier, has in `pg_type`; `None`
/// for other types.
pub(super) fn standard_name(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Boolean | DataType::Bool => "bool",
        DataType::SmallInt(None) | DataType::Int2(None) => "int2",
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => "int4",
        DataType::BigInt(None) | DataType::Int8(None) => "int8",
        DataType::Text => "text",
        DataType::Varchar(None) | DataType::CharacterVarying(None) => "varchar",
        DataType::Uuid => "uuid",
        DataType::JSON => "json",
        DataType::JSONB => "jsonb",
        _ => return None,
    })
}

impl<'a> Names<'a> {
    /// Returns the schemas along the search_path of a function; `None` where that is not known.
    pub(super) fn of(state: &'a dyn State, text: &Text<'_>) -> Option<Self> {
        let base = snapshot::base(state).with_roles_and_schemas();
        let (of_database, _) = roles::search_paths(state, &base.database.name);
        let default = || of_database.or_else(|| state.default_of("search_path"));
        let path = text.path.clone().or_else(default)?;
        let access = Access::new(&base);
        let may_use = |schema: &Oid| {
            base.schema(*schema).is_some_and(|schema| {
                let acl = schema.acl.as_ref();
                access
                    .privileges(text.owner, schema.owner, acl, ObjectKind::Schema)
                    .contains(Privileges::USAGE)
            })
        };
        let usable: HashSet<Oid> =
            base.schemas.iter().map(|schema| schema.oid).filter(may_use).collect();
        let user = base.role(text.owner)?.name.clone();
        let mut found = Vec::new();
        for name in base.split_path(&path).ok()? {
            let name = if name == "$user" { &user } else { &name };
            let schema = base.schema_named(name).map(|schema| schema.oid);
            found.extend(schema.filter(|schema| usable.contains(schema)));
        }
        if !found.contains(&PG_CATALOG) {
            found.insert(0, PG_CATALOG);
        }
        Some(Self { state, path: found, usable })
    }

    /// Returns the schemas in which a name is looked up, with the name.
    fn places(&self, parts: &[String]) -> Option<(Vec<Oid>, String)> {
        match parts {
            [name] => Some((self.path.clone(), name.clone())),
            [schema, name] => {
                let schema = self.schema(schema)?;
                self.usable.contains(&schema).then(|| (vec![schema], name.clone()))
            }
            _ => None,
        }
    }

    fn schema(&self, wanted: &str) -> Option<Oid> {
        let table = self.state.table(oids::PG_NAMESPACE);
        let (oid, name) = (table.column("oid"), table.column("nspname"));
        let mut found = None;
        table.lookup_name(oids::PG_NAMESPACE_NAME_INDEX, name, wanted, |row| {
            found = Some(row.oid(oid));
        });
        found
    }

    /// Returns the relation of a name.
    pub(super) fn relation(&self, parts: &[String]) -> Option<Oid> {
        let (schemas, name) = self.places(parts)?;
        schemas.into_iter().find_map(|schema| relation_named(self.state, schema, &name))
    }

    /// Returns the functions and aggregates of a name: of those with the same arguments, the first
    /// one along the search_path.
    pub(super) fn functions(&self, parts: &[String]) -> Option<Vec<Function>> {
        let (schemas, wanted) = self.places(parts)?;
        let table = self.state.table(oids::PG_PROC);
        let column = |name| table.column(name);
        let (oid, name, schema) = (column("oid"), column("proname"), column("pronamespace"));
        let (arguments, modes) = (column("proargtypes"), column("proargmodes"));
        let (defaults, result) = (column("pronargdefaults"), column("prorettype"));
        let (returns_set, kind) = (column("proretset"), column("prokind"));
        let mut found: Vec<(usize, Function)> = Vec::new();
        table.lookup_name(oids::PG_PROC_NAME_INDEX, name, &wanted, |row| {
            let place = schemas.iter().position(|of| *of == row.oid(schema));
            let Some(place) = place else { return };
            found.push((
                place,
                Function {
                    oid: row.oid(oid),
                    arguments: row.oids(arguments),
                    defaults: row.int(defaults) as usize,
                    result: row.oid(result),
                    returns_set: row.bool(returns_set),
                    kind: row.char(kind),
                    is_variadic: row.chars(modes).contains(&b'v'),
                },
            ));
        });
        found.sort_by_key(|(place, _)| *place);
        let mut kept: Vec<Function> = Vec::new();
        for (_, function) in found {
            if !kept.iter().any(|other| other.arguments == function.arguments) {
                kept.push(function);
            }
        }
        Some(kept)
    }

    /// Returns the operators of a name with two operands: of those with the same types, the first
    /// one along the search_path.
    pub(super) fn operators(&self, symbol: &str) -> Vec<Operator> {
        let table = self.state.table(oids::PG_OPERATOR);
        let column = |name| table.column(name);
        let (oid, name, schema) = (column("oid"), column("oprname"), column("oprnamespace"));
        let (kind, left, right) = (column("oprkind"), column("oprleft"), column("oprright"));
        let result = column("oprresult");
        let mut found: Vec<(usize, Operator)> = Vec::new();
        table.lookup_name(oids::PG_OPERATOR_NAME_INDEX, name, symbol, |row| {
            let place = self.path.iter().position(|of| *of == row.oid(schema));
            if let Some(place) = place.filter(|_| row.char(kind) == b'b') {
                let operator = Operator {
                    oid: row.oid(oid),
                    left: row.oid(left),
                    right: row.oid(right),
                    result: row.oid(result),
                };
                found.push((place, operator));
            }
        });
        found.sort_by_key(|(place, _)| *place);
        let mut kept: Vec<Operator> = Vec::new();
        for (_, operator) in found {
            let is_same =
                |other: &Operator| (other.left, other.right) == (operator.left, operator.right);
            if !kept.iter().any(is_same) {
                kept.push(operator);
            }
        }
        kept
    }

    /// Returns the type that a text names; `None` where it has a modifier, or is an array.
    pub(super) fn data_type(&self, data_type: &DataType) -> Option<Oid> {
        let parts = match (standard_name(data_type), data_type) {
            (Some(name), _) => return self.type_in(&[PG_CATALOG], name),
            (None, DataType::Custom(name, modifiers)) if modifiers.is_empty() => parts_of(name)?,
            _ => return None,
        };
        let (schemas, name) = self.places(&parts)?;
        self.type_in(&schemas, &name)
    }

    fn type_in(&self, schemas: &[Oid], wanted: &str) -> Option<Oid> {
        let table = self.state.table(oids::PG_TYPE);
        let column = |name| table.column(name);
        let (oid, name, schema) = (column("oid"), column("typname"), column("typnamespace"));
        let mut found: Vec<(usize, Oid)> = Vec::new();
        table.lookup_name(oids::PG_TYPE_NAME_INDEX, name, wanted, |row| {
            let place = schemas.iter().position(|of| *of == row.oid(schema));
            found.extend(place.map(|place| (place, row.oid(oid))));
        });
        found.into_iter().min().map(|(_, oid)| oid)
    }

    /// Returns a column of the row of a type.
    pub(super) fn of_type<T>(
        &self,
        data_type: Oid,
        column: &str,
        read: impl FnOnce(crate::source::Row<'_>, crate::source::Column) -> T,
    ) -> Option<T> {
        of_row(self.state, oids::TYPE_BY_OID, data_type, column, read)
    }

    /// Returns the cast between two types.
    pub(super) fn cast(&self, from: Oid, to: Oid) -> Option<Cast> {
        let table = self.state.table(oids::PG_CAST);
        let column = |name| table.column(name);
        let (source, target) = (column("castsource"), column("casttarget"));
        let (function, context, method) =
            (column("castfunc"), column("castcontext"), column("castmethod"));
        let mut found = None;
        let keys = [(source, from), (target, to)];
        table.lookup(oids::PG_CAST_SOURCE_TARGET_INDEX, &keys, |row| {
            found = Some(Cast {
                function: row.oid(function),
                is_implicit: row.char(context) == b'i',
                method: row.char(method),
            });
        });
        found
    }
}

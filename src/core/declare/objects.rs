//! The objects of a contract that is being amended, by name.

use super::{FunctionName, Name, Unfit};
use crate::catalog::{Command, PUBLIC, Relation, RelationKind, Snapshot};
use crate::contract::{Contract, FunctionDecl, RoleKind, SequenceDecl, TableDecl, ViewDecl};
use crate::sql::{argument_types, canonical_type, safe_qualified};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// The kind of a declared relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    /// Whether it is a materialized view.
    View(bool),
    Sequence,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View(false) => "view",
            Self::View(true) => "materialized view",
            Self::Sequence => "sequence",
        }
    }
}

/// A contract whose relations and functions are found by name.
pub(super) struct Objects<'s> {
    contract: Contract,
    /// The kind of each relation and its position in its list.
    relations: HashMap<Name, (Kind, usize)>,
    /// The positions of the functions of each name.
    functions: HashMap<Name, Vec<usize>>,
    existing: Option<&'s Snapshot>,
}

impl<'s> Objects<'s> {
    pub fn of(contract: Contract, existing: Option<&'s Snapshot>) -> Self {
        let (relations, functions) = (HashMap::new(), HashMap::new());
        let mut objects = Self { contract, relations, functions, existing };
        objects.find_again();
        objects
    }

    /// Finds the objects again, after the lists have changed.
    pub fn find_again(&mut self) {
        let contract = &self.contract;
        let tables = contract.tables.iter().enumerate();
        let tables = tables.map(|(i, t)| (Name::new(&t.schema, &t.name), (Kind::Table, i)));
        let views = contract.views.iter().enumerate();
        let views =
            views.map(|(i, v)| (Name::new(&v.schema, &v.name), (Kind::View(v.materialized), i)));
        let sequences = contract.sequences.iter().enumerate();
        let sequences =
            sequences.map(|(i, s)| (Name::new(&s.schema, &s.name), (Kind::Sequence, i)));
        self.relations = tables.chain(views).chain(sequences).collect();
        self.functions.clear();
        for (i, function) in contract.functions.iter().enumerate() {
            let name = Name::new(&function.schema, &function.name);
            self.functions.entry(name).or_default().push(i);
        }
    }

    /// Returns the amended contract. Its index is built again.
    pub fn into_contract(self) -> Contract {
        self.contract.clone()
    }

    /// Returns the contract, in which a caller may change everything but the lists of relations and
    /// functions.
    pub fn contract(&mut self) -> &mut Contract {
        &mut self.contract
    }

    /// Returns the commands for which policies in the catalog allow each role every row of a
    /// table.
    pub fn open_policies(&self, name: &Name) -> Vec<(String, Vec<Command>)> {
        let relation = self.existing.and_then(|snapshot| {
            let schema = snapshot.schema_named(&name.schema)?;
            Some((snapshot, snapshot.relation_named(schema.oid, &name.name)?))
        });
        let Some((snapshot, relation)) = relation else { return vec![] };
        let policies = snapshot.policies_of(relation.oid).iter().filter(|p| p.permissive);
        let mut open = Vec::new();
        for policy in policies {
            let mut commands = policy.commands();
            commands.retain(|command| policy.is_for_all_rows(*command));
            let roles: Vec<String> = if policy.roles.contains(&PUBLIC) {
                self.contract.roles.iter().map(|role| role.name.clone()).collect()
            } else {
                let named = policy.roles.iter().filter_map(|role| snapshot.role(*role));
                named.map(|role| role.name.clone()).collect()
            };
            open.extend(roles.into_iter().map(|role| (role, commands.clone())));
        }
        open
    }

    /// Returns the declared kind of a role.
    pub fn kind_of_role(&self, name: &str) -> Option<RoleKind> {
        self.contract.kind_of(name)
    }

    /// Removes all that is declared, but for what every contract must have: name, version and
    /// canonical search_path.
    pub fn clear(&mut self) {
        let least = json!({
            "name": self.contract.name,
            "version": self.contract.version,
            "roles": [],
            "schemas": [],
            "security_definer": {"search_path": self.contract.security_definer.search_path},
        });
        self.contract = serde_json::from_value(least).expect("these fields make a contract");
        self.find_again();
    }

    fn kind_of(&self, name: &Name) -> Option<(Kind, usize)> {
        self.relations.get(name).copied()
    }

    fn add(&mut self, name: &Name, kind: Kind) -> usize {
        let (schema, name_in) = (name.schema.clone(), name.name.clone());
        let contract = &mut self.contract;
        let place = match kind {
            Kind::Table => {
                contract.tables.push(new_table(schema, name_in));
                contract.tables.len()
            }
            Kind::View(materialized) => {
                contract.views.push(new_view(schema, name_in, materialized));
                contract.views.len()
            }
            Kind::Sequence => {
                contract.sequences.push(SequenceDecl {
                    schema,
                    name: name_in,
                    purpose: String::new(),
                    grants: BTreeMap::new(),
                });
                contract.sequences.len()
            }
        } - 1;
        self.relations.insert(name.clone(), (kind, place));
        place
    }

    /// Returns the position of a relation of this kind, which is declared if it is not yet.
    fn of_kind(&mut self, name: &Name, kind: Kind) -> Result<usize, Unfit> {
        match self.kind_of(name) {
            Some((declared, place)) if declared == kind => Ok(place),
            Some((declared, _)) => Err(other_kind(name, declared)),
            None => Ok(self.add(name, kind)),
        }
    }

    /// Declares a table, and returns its declaration.
    pub fn new_table(&mut self, name: &Name) -> Result<&mut TableDecl, Unfit> {
        let place = self.of_kind(name, Kind::Table)?;
        Ok(&mut self.contract.tables[place])
    }

    /// Declares a view, and returns its declaration.
    pub fn view(&mut self, name: &Name, is_materialized: bool) -> Result<&mut ViewDecl, Unfit> {
        let place = self.of_kind(name, Kind::View(is_materialized))?;
        Ok(&mut self.contract.views[place])
    }

    /// Declares a sequence, and returns its declaration.
    pub fn sequence(&mut self, name: &Name) -> Result<&mut SequenceDecl, Unfit> {
        let place = self.of_kind(name, Kind::Sequence)?;
        Ok(&mut self.contract.sequences[place])
    }

    /// Returns the kind and position of a relation that is declared, or exists: it is then declared
    /// as it is in the catalog.
    pub fn known(&mut self, name: &Name) -> Result<(Kind, usize), Unfit> {
        if let Some(known) = self.kind_of(name) {
            return Ok(known);
        }
        let relation = self.existing.and_then(|snapshot| {
            let schema = snapshot.schema_named(&name.schema)?;
            snapshot.relation_named(schema.oid, &name.name)
        });
        let Some(relation) = relation else {
            let object = safe_qualified(&name.schema, &name.name);
            return Err(Unfit::new(
                format!("relation {object} is neither declared nor there"),
                format!(
                    "Put CREATE TABLE {object} (); before the statement, or CREATE VIEW {object} \
                     AS SELECT; or CREATE SEQUENCE {object};"
                ),
            ));
        };
        let kind = kind_of(relation);
        let place = self.add(name, kind);
        match kind {
            Kind::Table => {
                let table = &mut self.contract.tables[place];
                table.row_security = relation.row_security;
                table.force_row_security = relation.force_row_security;
            }
            Kind::View(_) => {
                self.contract.views[place].security_invoker = relation.security_invoker;
            }
            Kind::Sequence => {}
        }
        Ok((kind, place))
    }

    /// Returns the declaration of a table that is declared or exists.
    pub fn known_table(&mut self, name: &Name) -> Result<&mut TableDecl, Unfit> {
        match self.known(name)? {
            (Kind::Table, place) => Ok(&mut self.contract.tables[place]),
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// Returns the declaration of a view that is declared or exists.
    pub fn known_view(&mut self, name: &Name) -> Result<&mut ViewDecl, Unfit> {
        match self.known(name)? {
            (Kind::View(_), place) => Ok(&mut self.contract.views[place]),
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// Returns the declaration of a sequence that is declared or exists.
    pub fn known_sequence(&mut self, name: &Name) -> Result<&mut SequenceDecl, Unfit> {
        match self.known(name)? {
            (Kind::Sequence, place) => Ok(&mut self.contract.sequences[place]),
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// Removes the declaration of a relation.
    pub fn remove(&mut self, name: &Name, kind: Kind) -> Result<(), Unfit> {
        match self.kind_of(name) {
            Some((declared, place)) if declared == kind => {
                match kind {
                    Kind::Table => _ = self.contract.tables.remove(place),
                    Kind::View(_) => _ = self.contract.views.remove(place),
                    Kind::Sequence => _ = self.contract.sequences.remove(place),
                }
                self.find_again();
                Ok(())
            }
            Some((declared, _)) => Err(other_kind(name, declared)),
            None => Err(undeclared(kind.noun(), &safe_qualified(&name.schema, &name.name))),
        }
    }

    /// Gives a declared relation another name.
    pub fn rename(&mut self, from: &Name, kind: Kind, to: &Name) -> Result<(), Unfit> {
        if let Some((other, _)) = self.kind_of(to) {
            return Err(other_kind(to, other));
        }
        // ALTER TABLE names views and sequences as well.
        let place = match self.kind_of(from) {
            Some((declared, place)) if declared == kind || kind == Kind::Table => (declared, place),
            Some((declared, _)) => return Err(other_kind(from, declared)),
            None => {
                return Err(undeclared(kind.noun(), &safe_qualified(&from.schema, &from.name)));
            }
        };
        let contract = &mut self.contract;
        let Name { schema, name } = to.clone();
        match place {
            (Kind::Table, i) => {
                let declared = &mut contract.tables[i];
                (declared.schema, declared.name) = (schema, name);
            }
            (Kind::View(_), i) => {
                let declared = &mut contract.views[i];
                (declared.schema, declared.name) = (schema, name);
            }
            (Kind::Sequence, i) => {
                let declared = &mut contract.sequences[i];
                (declared.schema, declared.name) = (schema, name);
            }
        }
        self.find_again();
        Ok(())
    }

    /// Gives a declared function another name.
    pub fn rename_function(&mut self, from: &FunctionName, to: &Name) -> Result<(), Unfit> {
        if !self.functions.contains_key(&from.name) {
            return Err(undeclared("function", &from.to_string()));
        }
        let declared = self.known_function(from)?;
        declared.schema.clone_from(&to.schema);
        declared.name.clone_from(&to.name);
        self.find_again();
        Ok(())
    }

    /// Removes the declarations of all objects in a schema.
    pub fn remove_schema(&mut self, schema: &str) {
        self.contract.tables.retain(|table| table.schema != schema);
        self.contract.views.retain(|view| view.schema != schema);
        self.contract.sequences.retain(|sequence| sequence.schema != schema);
        self.contract.functions.retain(|function| function.schema != schema);
        self.find_again();
    }

    fn place_of(&self, function: &FunctionName) -> Option<usize> {
        let declared = self.functions.get(&function.name)?.iter();
        declared.copied().find(|place| {
            same_arguments(
                self.contract.functions[*place].arguments.as_deref(),
                function.arguments.as_deref(),
            )
        })
    }

    /// Declares a function, and returns its declaration.
    pub fn function(&mut self, function: &FunctionName) -> &mut FunctionDecl {
        let place = self.place_of(function).unwrap_or_else(|| {
            self.contract.functions.push(FunctionDecl {
                schema: function.name.schema.clone(),
                name: function.name.name.clone(),
                purpose: String::new(),
                arguments: function.arguments.clone(),
                security_definer: None,
                execute: vec![],
            });
            let place = self.contract.functions.len() - 1;
            self.functions.entry(function.name.clone()).or_default().push(place);
            place
        });
        &mut self.contract.functions[place]
    }

    /// Returns the declaration that a statement about a function means: the one with these
    /// arguments, or, without arguments, the only one of the name. A function that is not declared
    /// is declared.
    pub fn known_function(&mut self, function: &FunctionName) -> Result<&mut FunctionDecl, Unfit> {
        let of_name = self.functions.get(&function.name).map_or(&[][..], Vec::as_slice);
        let place = match (self.place_of(function), of_name) {
            (Some(place), _) => place,
            (None, []) => return Ok(self.function(function)),
            (None, [one]) if function.arguments.is_none() => *one,
            // A declaration for any arguments covers this one as well.
            (None, [one]) if self.contract.functions[*one].arguments.is_none() => *one,
            (None, _) if function.arguments.is_some() => {
                return Ok(self.function(function));
            }
            _ => {
                let name = safe_qualified(&function.name.schema, &function.name.name);
                return Err(Unfit::new(
                    format!("several functions {name} are declared"),
                    "Add the types of the arguments in parentheses.",
                ));
            }
        };
        Ok(&mut self.contract.functions[place])
    }

    /// Removes the declaration of a function.
    pub fn remove_function(&mut self, function: &FunctionName) -> Result<(), Unfit> {
        let of_name = self.functions.get(&function.name).map_or(&[][..], Vec::as_slice);
        let place = match (self.place_of(function), of_name) {
            (Some(place), _) => place,
            (None, [one]) if function.arguments.is_none() => *one,
            _ => {
                let name = safe_qualified(&function.name.schema, &function.name.name);
                let arguments = function.arguments.as_ref().map(|types| format!("({types})"));
                return Err(undeclared(
                    "function",
                    &format!("{name}{}", arguments.unwrap_or_default()),
                ));
            }
        };
        self.contract.functions.remove(place);
        self.find_again();
        Ok(())
    }

    /// Returns the names of the declared relations of a schema, in declared order.
    pub fn relations_in(&self, schema: &str, are_sequences: bool) -> Vec<Name> {
        let tables = self.contract.tables.iter().map(|t| (&t.schema, &t.name));
        let views = self.contract.views.iter().map(|v| (&v.schema, &v.name));
        let sequences = self.contract.sequences.iter().map(|s| (&s.schema, &s.name));
        let in_schema = |(_, name): &(&String, &String)| (*name).clone();
        if are_sequences {
            let found = sequences.filter(|(s, _)| *s == schema);
            found.map(|found| Name::new(schema, in_schema(&found))).collect()
        } else {
            let found = tables.chain(views).filter(|(s, _)| *s == schema);
            found.map(|found| Name::new(schema, in_schema(&found))).collect()
        }
    }
}

/// Whether two lists of argument types are the same, however they are written.
fn same_arguments(one: Option<&str>, other: Option<&str>) -> bool {
    let types =
        |list: &str| argument_types(list).iter().map(|t| canonical_type(t)).collect::<Vec<_>>();
    one.map(types) == other.map(types)
}

fn kind_of(relation: &Relation) -> Kind {
    match relation.kind {
        RelationKind::View => Kind::View(false),
        RelationKind::MaterializedView => Kind::View(true),
        RelationKind::Sequence => Kind::Sequence,
        _ => Kind::Table,
    }
}

fn new_table(schema: String, name: String) -> TableDecl {
    TableDecl {
        schema,
        name,
        purpose: String::new(),
        row_security: false,
        force_row_security: false,
        grants: BTreeMap::new(),
        column_grants: BTreeMap::new(),
        policies: BTreeMap::new(),
        all_rows: None,
    }
}

fn new_view(schema: String, name: String, materialized: bool) -> ViewDecl {
    ViewDecl {
        schema,
        name,
        purpose: String::new(),
        materialized,
        security_invoker: false,
        definition: None,
        grants: BTreeMap::new(),
        column_grants: BTreeMap::new(),
    }
}

fn other_kind(name: &Name, declared: Kind) -> Unfit {
    let object = safe_qualified(&name.schema, &name.name);
    Unfit::new(
        format!("{object} is declared as a {}", declared.noun()),
        format!("Drop that declaration first: DROP {} {object};", declared.noun().to_uppercase()),
    )
}

fn undeclared(noun: &str, object: &str) -> Unfit {
    Unfit::new(
        format!("{noun} {object} is not declared"),
        "SELECT ops.contract_sql(); shows what is declared.",
    )
}

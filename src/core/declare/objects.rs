//! The objects of a contract that is being amended, by name.

use super::{Cause, FunctionName, Name, Unfit};
use crate::catalog::{Command, PUBLIC, Policy, Relation, RelationKind, Routine, Snapshot};
use crate::contract::{Contract, FunctionDecl, RoleKind, SequenceDecl, TableDecl, ViewDecl};
use crate::sql::{argument_types, canonical_types, safe_qualified};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;

/// The kind of a declared relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    /// Whether it is a materialized view.
    View(bool),
    Sequence,
}

impl Kind {
    pub fn noun(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View(false) => "view",
            Self::View(true) => "materialized view",
            Self::Sequence => "sequence",
        }
    }
}

/// A contract whose relations and functions are found by name. A declaration that has been removed
/// stays in its list until the end, without schema and name, so that the positions of the others
/// remain.
pub(super) struct Objects<'s> {
    contract: Contract,
    /// The kind of each relation and its position in its list.
    relations: HashMap<Name, (Kind, usize)>,
    /// The positions of the functions of each name.
    functions: HashMap<Name, Vec<usize>>,
    /// The sequences that statements create for columns.
    of_columns: HashSet<Name>,
    existing: Option<&'s Snapshot>,
}

impl<'s> Objects<'s> {
    pub fn of(contract: Contract, existing: Option<&'s Snapshot>) -> Self {
        let (relations, functions) = (HashMap::new(), HashMap::new());
        let of_columns = HashSet::new();
        let mut objects = Self { contract, relations, functions, of_columns, existing };
        objects.find_again();
        objects
    }

    /// Returns the major version of the server; 0 where there is no catalog.
    pub fn version(&self) -> u32 {
        self.existing.map_or(0, |snapshot| snapshot.version)
    }

    /// Finds the objects again, after the lists have changed.
    pub fn find_again(&mut self) {
        self.forget_removed();
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

    /// Takes the removed declarations from the lists.
    fn forget_removed(&mut self) {
        let contract = &mut self.contract;
        contract.tables.retain(|table| !table.name.is_empty());
        contract.views.retain(|view| !view.name.is_empty());
        contract.sequences.retain(|sequence| !sequence.name.is_empty());
        contract.functions.retain(|function| !function.name.is_empty());
    }

    /// Returns the amended contract. Its index is built again.
    pub fn into_contract(mut self) -> Contract {
        self.forget_removed();
        self.contract.clone()
    }

    /// Whether a role exists in the catalog.
    pub fn has_role(&self, name: &str) -> bool {
        self.existing.is_some_and(|snapshot| snapshot.role_named(name).is_some())
    }

    /// Returns a relation of the catalog.
    fn existing_relation(&self, name: &Name) -> Option<&'s Relation> {
        self.existing.and_then(|snapshot| snapshot.relation_in(&name.schema, &name.name))
    }

    /// Returns the routines of the catalog with this name.
    fn existing_routines(&self, name: &Name) -> Vec<&'s Routine> {
        let Some(snapshot) = self.existing else { return vec![] };
        let Some(schema) = snapshot.schema_named(&name.schema) else { return vec![] };
        let of_name =
            |routine: &&Routine| routine.schema == schema.oid && routine.name == name.name;
        snapshot.routines.iter().filter(of_name).collect()
    }

    /// Returns the policies of a table in the catalog.
    pub fn existing_policies(&self, table: &Name) -> &'s [Policy] {
        match (self.existing, self.existing_relation(table)) {
            (Some(snapshot), Some(relation)) => snapshot.policies_of(relation.oid),
            _ => &[],
        }
    }

    /// Returns the names of the roles of a policy: all declared ones for PUBLIC.
    pub fn roles_of(&self, policy: &Policy) -> Vec<String> {
        if policy.roles.contains(&PUBLIC) {
            return self.contract.roles.iter().map(|role| role.name.clone()).collect();
        }
        let role = |oid| self.existing.and_then(|snapshot| snapshot.role(oid));
        let named = policy.roles.iter().filter_map(|oid| role(*oid));
        named.map(|role| role.name.clone()).collect()
    }

    /// Returns the contract, in which a caller may change everything but the lists of relations and
    /// functions.
    pub fn contract(&mut self) -> &mut Contract {
        &mut self.contract
    }

    /// Returns the commands for which policies in the catalog allow each role every row of a
    /// table.
    pub fn open_policies(&self, name: &Name) -> Vec<(String, Vec<Command>)> {
        let mut open = Vec::new();
        for policy in self.existing_policies(name).iter().filter(|policy| policy.permissive) {
            let mut commands = policy.commands();
            commands.retain(|command| policy.is_for_all_rows(*command));
            let roles = self.roles_of(policy).into_iter();
            open.extend(roles.map(|role| (role, commands.clone())));
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

    /// Says that a statement creates a sequence for a column.
    pub fn creates_sequence(&mut self, name: &Name) {
        self.of_columns.insert(name.clone());
    }

    /// Returns the kind and position of a relation that is declared, or exists: it is then declared
    /// as it is in the catalog.
    pub fn known(&mut self, name: &Name) -> Result<(Kind, usize), Unfit> {
        self.find(name).ok_or_else(|| {
            let create = format!(
                "CREATE TABLE {name} (); before the statement, or CREATE VIEW {name} AS SELECT; or \
                 CREATE SEQUENCE {name};"
            );
            self.unknown_relation(name, &create)
        })
    }

    fn find(&mut self, name: &Name) -> Option<(Kind, usize)> {
        if let Some(known) = self.kind_of(name) {
            return Some(known);
        }
        let Some(relation) = self.existing_relation(name) else {
            let is_created = self.of_columns.contains(name);
            return is_created.then(|| (Kind::Sequence, self.add(name, Kind::Sequence)));
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
        Some((kind, place))
    }

    /// Returns the declaration of a table that is declared or exists.
    pub fn known_table(&mut self, name: &Name) -> Result<&mut TableDecl, Unfit> {
        match self.known(name)? {
            (Kind::Table, place) => Ok(&mut self.contract.tables[place]),
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// `create`: the statement that would declare it.
    fn unknown_relation(&self, name: &Name, create: &str) -> Unfit {
        let object = name.to_string();
        let declared = self.relations.keys().filter(|known| known.schema == name.schema);
        let declared = declared.map(|known| known.name.as_str());
        let schema = self.existing.and_then(|snapshot| snapshot.schema_named(&name.schema));
        let existing = self.existing.iter().flat_map(|snapshot| &snapshot.relations);
        let there = existing.filter(|r| schema.is_some_and(|schema| schema.oid == r.schema));
        Unfit::unknown(
            format!("relation {object} is neither declared nor there"),
            format!("Put {create}"),
            &name.name,
            declared.chain(there.map(|relation| relation.name.as_str())),
        )
    }

    /// Returns the declaration of a view that is declared or exists, materialized or not.
    pub fn known_view(
        &mut self,
        name: &Name,
        is_materialized: bool,
    ) -> Result<&mut ViewDecl, Unfit> {
        match self.known(name)? {
            (Kind::View(found), place) if found == is_materialized => {
                Ok(&mut self.contract.views[place])
            }
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// Returns the declaration of a sequence that is declared or exists.
    pub fn known_sequence(&mut self, name: &Name) -> Result<&mut SequenceDecl, Unfit> {
        let found = self.find(name).ok_or_else(|| {
            let create = format!("CREATE SEQUENCE {name}; before the statement.");
            self.unknown_relation(name, &create)
        });
        match found? {
            (Kind::Sequence, place) => Ok(&mut self.contract.sequences[place]),
            (other, _) => Err(other_kind(name, other)),
        }
    }

    /// Whether a relation is declared.
    pub fn declares(&self, name: &Name) -> bool {
        self.relations.contains_key(name)
    }

    fn name_at(&mut self, (kind, place): (Kind, usize)) -> (&mut String, &mut String) {
        let contract = &mut self.contract;
        match kind {
            Kind::Table => {
                let declared = &mut contract.tables[place];
                (&mut declared.schema, &mut declared.name)
            }
            Kind::View(_) => {
                let declared = &mut contract.views[place];
                (&mut declared.schema, &mut declared.name)
            }
            Kind::Sequence => {
                let declared = &mut contract.sequences[place];
                (&mut declared.schema, &mut declared.name)
            }
        }
    }

    /// Removes the declaration of a relation.
    pub fn remove(&mut self, name: &Name, kind: Kind) -> Result<(), Unfit> {
        match self.kind_of(name) {
            Some((declared, place)) if declared == kind => {
                let (schema, in_schema) = self.name_at((kind, place));
                (*schema, *in_schema) = (String::new(), String::new());
                self.relations.remove(name);
                Ok(())
            }
            Some((declared, _)) => Err(other_kind(name, declared)),
            None => Err(self.undeclared_relation(name, kind)),
        }
    }

    fn undeclared_relation(&self, name: &Name, kind: Kind) -> Unfit {
        let in_schema = self.relations.keys().filter(|known| known.schema == name.schema);
        undeclared(kind.noun(), name, &name.name, in_schema.map(|known| known.name.as_str()))
    }

    /// Gives a declared relation another name.
    pub fn rename(&mut self, from: &Name, kind: Kind, to: &Name) -> Result<(), Unfit> {
        if let Some((other, _)) = self.kind_of(to) {
            if self.kind_of(from).is_none() && (other == kind || kind == Kind::Table) {
                return Ok(());
            }
            if self.kind_of(from).is_none_or(|(declared, _)| declared != other) {
                return Err(other_kind(to, other));
            }
            let message = format!("{} {to} is already declared", other.noun());
            return Err(taken(message, &other.noun().to_uppercase(), from, to));
        }
        // ALTER TABLE names views and sequences as well.
        let found = match self.kind_of(from) {
            Some((declared, place)) if declared == kind || kind == Kind::Table => (declared, place),
            Some((declared, _)) => return Err(other_kind(from, declared)),
            None => return Err(self.undeclared_relation(from, kind)),
        };
        let (schema, name) = self.name_at(found);
        (*schema, *name) = (to.schema.clone(), to.name.clone());
        self.relations.remove(from);
        self.relations.insert(to.clone(), found);
        Ok(())
    }

    /// Gives a declared function another name.
    pub fn rename_function(&mut self, from: &FunctionName, to: &Name) -> Result<(), Unfit> {
        let place = self.declared_function(from)?;
        let arguments = self.contract.functions[place].arguments.clone();
        let new = FunctionName { name: to.clone(), arguments };
        if self.place_of(&new).is_some() {
            let message = format!("function {new} is already declared");
            return Err(taken(message, "FUNCTION", from, new));
        }
        let declared = &mut self.contract.functions[place];
        declared.schema.clone_from(&to.schema);
        declared.name.clone_from(&to.name);
        self.forget_function(&from.name, place);
        self.functions.entry(to.clone()).or_default().push(place);
        Ok(())
    }

    fn forget_function(&mut self, name: &Name, place: usize) {
        if let Some(places) = self.functions.get_mut(name) {
            places.retain(|known| *known != place);
            if places.is_empty() {
                self.functions.remove(name);
            }
        }
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
                all_rows: false,
            });
            let place = self.contract.functions.len() - 1;
            self.functions.entry(function.name.clone()).or_default().push(place);
            place
        });
        &mut self.contract.functions[place]
    }

    /// Whether a function of this name is declared for any arguments.
    pub fn any_arguments(&self, name: &Name) -> Option<&FunctionDecl> {
        let any = FunctionName { name: name.clone(), arguments: None };
        self.place_of(&any).map(|place| &self.contract.functions[place])
    }

    /// Returns the position of the declaration that a statement about a function means: the one
    /// with these arguments, or, without arguments, the only one of the name.
    fn declared_function(&self, function: &FunctionName) -> Result<usize, Unfit> {
        let of_name = self.functions.get(&function.name).map_or(&[][..], Vec::as_slice);
        match (self.place_of(function), of_name) {
            (Some(place), _) => Ok(place),
            (None, [one]) if function.arguments.is_none() => Ok(*one),
            (None, [_, ..]) if function.arguments.is_none() => {
                Err(ambiguous(&function.name, "declared"))
            }
            (None, []) => {
                let in_schema = self.functions.keys().filter(|n| n.schema == function.name.schema);
                let names = in_schema.map(|known| known.name.as_str());
                Err(undeclared("function", function, &function.name.name, names))
            }
            (None, _) => Err(undeclared("function", function, &function.name.name, [])),
        }
    }

    /// Whether a statement about a function means one that is declared.
    pub fn declares_function(&self, function: &FunctionName) -> bool {
        !matches!(self.declared_function(function), Err(Unfit { cause: Cause::Unknown, .. }))
    }

    /// Returns the declaration that a statement about a function means. A function that is not
    /// declared but exists is declared with its arguments.
    pub fn known_function(&mut self, function: &FunctionName) -> Result<&mut FunctionDecl, Unfit> {
        match self.declared_function(function) {
            Ok(place) => return Ok(&mut self.contract.functions[place]),
            Err(reason) if reason.cause != Cause::Unknown => return Err(reason),
            Err(_) => {}
        }
        let found = self.existing_routines(&function.name);
        let named = |routine: &Routine| {
            let types = self.existing.map(|snapshot| snapshot.argument_names(routine).join(","));
            FunctionName {
                name: function.name.clone(),
                arguments: types.map(|types| argument_types(&types).join(", ")),
            }
        };
        let mut named = found.into_iter().map(named);
        let meant = if function.arguments.is_some() {
            named
                .find(|one| same_arguments(one.arguments.as_deref(), function.arguments.as_deref()))
        } else {
            let first = named.next();
            if named.next().is_some() {
                return Err(ambiguous(&function.name, "there"));
            }
            first
        };
        match meant {
            Some(meant) => Ok(self.function(&meant)),
            None => Err(self.unknown_function(function)),
        }
    }

    fn unknown_function(&self, function: &FunctionName) -> Unfit {
        let Name { schema, name } = &function.name;
        let declared = self.functions.keys().filter(|known| known.schema == *schema);
        let oid = self.existing.and_then(|snapshot| snapshot.schema_named(schema)).map(|s| s.oid);
        let existing = self.existing.iter().flat_map(|snapshot| &snapshot.routines);
        let there = existing.filter(|routine| oid == Some(routine.schema));
        let hint = match &function.arguments {
            Some(_) => format!("Put CREATE FUNCTION {function}; before the statement."),
            None => format!(
                "Put CREATE FUNCTION {function}(...); with the types of its arguments before the \
                 statement."
            ),
        };
        Unfit::unknown(
            format!("function {function} is neither declared nor there"),
            hint,
            name,
            declared.map(|known| known.name.as_str()).chain(there.map(|r| r.name.as_str())),
        )
    }

    /// Removes the declaration of a function.
    pub fn remove_function(&mut self, function: &FunctionName) -> Result<(), Unfit> {
        let place = self.declared_function(function)?;
        let declared = &mut self.contract.functions[place];
        (declared.schema, declared.name) = (String::new(), String::new());
        self.forget_function(&function.name, place);
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
    one.map(canonical_types) == other.map(canonical_types)
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
        keys: vec![],
        open_rows: BTreeMap::new(),
        append_only_by: vec![],
        privileged: false,
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

fn undeclared<'n>(
    noun: &str,
    object: impl Display,
    given: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Unfit {
    Unfit::unknown(
        format!("{noun} {object} is not declared"),
        "SELECT ops.contract_sql(); shows what is declared.",
        given,
        known,
    )
}

fn ambiguous(name: &Name, how: &str) -> Unfit {
    Unfit::new(
        format!("several functions {name} are {how}"),
        "Add the types of the arguments in parentheses.",
    )
}

/// Returns the reason why a declared object cannot have a name that is declared too, with both ways
/// out. `noun` is the word of DROP.
pub(super) fn taken(message: String, noun: &str, from: impl Display, to: impl Display) -> Unfit {
    let hint = format!(
        "To keep what is declared for {from}, put DROP {noun} {to}; before the statement. To keep \
         what is declared for {to}, write DROP {noun} {from}; in place of the statement."
    );
    Unfit::new(message, hint)
}

//! Describes a contract by declarations.

use super::rows::of_table as of_rows;
use super::setting::settings;
use super::{
    Declaration, FunctionName, Grant, Granted, Name, On, PolicyHeader, RowSecurity, Target,
};
use crate::catalog::{Attribute, Command, Privileges};
use crate::contract::{
    ByRole, ColumnGrantsByRole, Contract, FunctionDecl, GrantPrivilege, PolicyCommand, RoleDecl,
    SchemaDecl, SequenceDecl, TableDecl, ViewDecl, granted_to,
};
use crate::sql::safe_ident;
use std::collections::BTreeMap;

/// The declarations about one part of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are about.
    pub heading: String,
    /// The declarations, in an order in which they can be applied.
    pub declarations: Vec<Declaration>,
}

/// Returns declarations that describe a whole contract, in a stable order: the contract itself, its
/// roles, and each schema with its objects by kind and name.
#[must_use]
pub fn statements(contract: &Contract) -> Vec<Section> {
    let settings =
        settings(contract).into_iter().map(|(path, values)| Declaration::Set(path, values));
    let contract_itself = Section {
        heading: format!("Contract {} {}", safe_ident(&contract.name), contract.version),
        declarations: [Declaration::ResetAll].into_iter().chain(settings).collect(),
    };
    let mut roles: Vec<&RoleDecl> = contract.roles.iter().collect();
    roles.sort_by_key(|role| (role.kind as u8, &role.name));
    let roles = Section {
        heading: "Roles".to_owned(),
        declarations: roles.into_iter().flat_map(of_role).collect(),
    };
    let mut schemas: Vec<&SchemaDecl> = contract.schemas.iter().collect();
    schemas.sort_by_key(|schema| &schema.name);
    let objects = ByParent::of(contract);
    let schemas = schemas.into_iter().map(|schema| Section {
        heading: format!("Schema {}", safe_ident(&schema.name)),
        declarations: of_schema(schema)
            .into_iter()
            .chain(objects.of_schema(&schema.name))
            .chain(on_all_objects(schema))
            .collect(),
    });
    let sections = [contract_itself, roles].into_iter().chain(schemas);
    sections.filter(|section| !section.declarations.is_empty()).collect()
}

/// The objects of a contract by schema, each list sorted by name.
struct ByParent<'c> {
    tables: BTreeMap<&'c str, Vec<&'c TableDecl>>,
    views: BTreeMap<&'c str, Vec<&'c ViewDecl>>,
    sequences: BTreeMap<&'c str, Vec<&'c SequenceDecl>>,
    functions: BTreeMap<&'c str, Vec<&'c FunctionDecl>>,
}

impl<'c> ByParent<'c> {
    fn of(contract: &'c Contract) -> Self {
        Self {
            tables: grouped(&contract.tables, |t| (&t.schema, (&t.name, None))),
            views: grouped(&contract.views, |v| (&v.schema, (&v.name, None))),
            sequences: grouped(&contract.sequences, |s| (&s.schema, (&s.name, None))),
            functions: grouped(&contract.functions, |f| {
                (&f.schema, (&f.name, f.arguments.as_deref()))
            }),
        }
    }

    fn of_schema(&self, schema: &str) -> Vec<Declaration> {
        let tables = self.tables.get(schema).into_iter().flatten();
        let views = self.views.get(schema).into_iter().flatten();
        let sequences = self.sequences.get(schema).into_iter().flatten();
        let functions = self.functions.get(schema).into_iter().flatten();
        tables
            .flat_map(|table| of_table(table))
            .chain(views.flat_map(|view| of_view(view)))
            .chain(sequences.flat_map(|sequence| of_sequence(sequence)))
            .chain(functions.flat_map(|function| of_function(function)))
            .collect()
    }
}

/// The name of an object, and the arguments of a function.
type Key<'c> = (&'c String, Option<&'c str>);

fn grouped<'c, T>(
    declared: &'c [T],
    key: impl Fn(&'c T) -> (&'c String, Key<'c>),
) -> BTreeMap<&'c str, Vec<&'c T>> {
    let mut groups: BTreeMap<&str, Vec<(Key<'c>, &T)>> = BTreeMap::new();
    for one in declared {
        let (schema, name) = key(one);
        groups.entry(schema).or_default().push((name, one));
    }
    let sorted = |mut group: Vec<(Key<'c>, &'c T)>| {
        group.sort_by_key(|(name, _)| *name);
        group.into_iter().map(|(_, one)| one).collect()
    };
    groups.into_iter().map(|(schema, group)| (schema, sorted(group))).collect()
}

fn comment(target: Target, text: &str) -> Option<Declaration> {
    (!text.is_empty()).then(|| Declaration::Comment(target, text.to_owned()))
}

fn of_role(role: &RoleDecl) -> Vec<Declaration> {
    let target = Target::Role(role.name.clone());
    let attributes: Vec<(Attribute, bool)> = Attribute::ALL
        .into_iter()
        .filter_map(|attribute| Some((attribute, role.attribute(attribute)?)))
        .collect();
    let mut found =
        vec![Declaration::Create(target.clone()), Declaration::Kind(role.name.clone(), role.kind)];
    if !attributes.is_empty() {
        found.push(Declaration::Attributes(role.name.clone(), attributes));
    }
    found.extend(comment(target, &role.description));
    found
}

/// GRANT of one or more privileges; `None` for no role.
fn grant(privileges: Vec<Granted>, on: On, roles: &[String]) -> Option<Declaration> {
    (!roles.is_empty()).then(|| {
        Declaration::Grant(Grant {
            is_revoke: false,
            privileges,
            on,
            roles: roles.to_vec(),
            to_public: false,
        })
    })
}

fn whole(privilege: Privileges) -> Granted {
    Granted { privilege: Some(privilege), columns: vec![] }
}

fn all() -> Vec<Granted> {
    vec![Granted { privilege: None, columns: vec![] }]
}

fn of_schema(schema: &SchemaDecl) -> Vec<Declaration> {
    let target = Target::Schema(schema.name.clone());
    let mut found = vec![Declaration::Create(target.clone())];
    found.extend(comment(target, &schema.purpose));
    let on = On::Schemas(vec![schema.name.clone()]);
    found.extend(grant(vec![whole(Privileges::USAGE)], on, &schema.usage));
    found
}

/// Returns the grants on all objects of a schema. They follow the grants on single objects, as on a
/// server, and do not contain these.
fn on_all_objects(schema: &SchemaDecl) -> Vec<Declaration> {
    let names = || vec![schema.name.clone()];
    let mut found = Vec::new();
    for on in [On::AllTables(names()), On::AllSequences(names()), On::AllFunctions(names())] {
        found.extend(grant(all(), on, &schema.all_on_objects));
    }
    found.extend(grant(
        vec![whole(Privileges::EXECUTE)],
        On::AllFunctions(names()),
        &schema.execute_on_routines,
    ));
    found
}

fn of_table(table: &TableDecl) -> Vec<Declaration> {
    let name = Name::new(&table.schema, &table.name);
    let target = Target::Table(name.clone());
    let mut found = vec![Declaration::Create(target.clone())];
    found.extend(comment(target, &table.purpose));
    if table.row_security {
        found.push(Declaration::RowSecurity(name.clone(), RowSecurity::Enable));
    }
    if table.force_row_security {
        found.push(Declaration::RowSecurity(name.clone(), RowSecurity::Force));
    }
    found.extend(grants(&name, &table.grants, &table.column_grants));
    if let Some(all_rows) = &table.all_rows {
        found.push(if is_said_by_policies(table, all_rows) {
            Declaration::AllRows(name.clone(), true)
        } else {
            Declaration::AllRowsOf(name.clone(), all_rows.clone())
        });
    }
    found.extend(of_rows(table));
    let policies = policies(table);
    found.extend(policies.into_iter().map(|(header, roles)| {
        Declaration::CreatePolicy(PolicyHeader { table: name.clone(), roles, ..header })
    }));
    found
}

/// Whether all commands for which a policy may allow every row are among those of the policies.
fn is_said_by_policies(table: &TableDecl, all_rows: &ByRole<PolicyCommand>) -> bool {
    all_rows.keys().all(|role| {
        let covered = table.policy_commands(role);
        let open = table.all_rows_commands(role).unwrap_or_default();
        open.iter().all(|command| covered.contains(command))
    })
}

/// Returns the policies of a table, each with its roles: those with the same commands together.
fn policies(table: &TableDecl) -> Vec<(PolicyHeader, Vec<String>)> {
    let mut found: Vec<(PolicyHeader, Vec<String>)> = Vec::new();
    for role in table.policies.keys() {
        let covered = table.policy_commands(role);
        let mut open = table.all_rows_commands(role).unwrap_or_default();
        open.retain(|command| covered.contains(command));
        let closed: Vec<Command> =
            covered.iter().copied().filter(|command| !open.contains(command)).collect();
        for (commands, is_open) in [(closed, false), (open, true)] {
            for header in headers(&commands, is_open) {
                match found.iter_mut().find(|(known, _)| *known == header) {
                    Some((_, roles)) => roles.push(role.clone()),
                    None => found.push((header, vec![role.clone()])),
                }
            }
        }
    }
    found
}

/// Returns a policy for all commands, or one for each of them.
fn headers(commands: &[Command], is_open: bool) -> Vec<PolicyHeader> {
    let header = |name: &str, commands: &[Command]| PolicyHeader {
        name: format!("{name}{}", if is_open { "_all_rows" } else { "_rows" }),
        table: Name::new("", ""),
        commands: commands.to_vec(),
        roles: vec![],
        all_rows: if is_open { commands.to_vec() } else { vec![] },
    };
    if PolicyCommand::names_of(commands) == [PolicyCommand::All] {
        return vec![header("all", commands)];
    }
    commands.iter().map(|one| header(&one.as_str().to_lowercase(), &[*one])).collect()
}

/// Returns the grants on a relation: roles with the same privileges together.
fn grants<P: GrantPrivilege>(
    name: &Name,
    declared: &ByRole<P>,
    columns: &ColumnGrantsByRole,
) -> Vec<Declaration> {
    let on = || On::Tables(vec![name.clone()]);
    let mut found = by_privileges(declared, on);
    for (role, columns) in columns {
        let privileges = columns
            .each()
            .map(|(privilege, columns)| Granted {
                privilege: Some(privilege),
                columns: columns.to_vec(),
            })
            .collect();
        found.extend(grant(privileges, on(), std::slice::from_ref(role)));
    }
    found
}

fn by_privileges<P: GrantPrivilege>(declared: &ByRole<P>, on: impl Fn() -> On) -> Vec<Declaration> {
    let mut groups: Vec<(Privileges, Vec<String>)> = Vec::new();
    for role in declared.keys() {
        let privileges = granted_to(declared, role);
        match groups.iter_mut().find(|(known, _)| *known == privileges) {
            Some((_, roles)) => roles.push(role.clone()),
            None => groups.push((privileges, vec![role.clone()])),
        }
    }
    let privileges = |held: Privileges| {
        let is_all = held.contains(P::ALL.privileges());
        if is_all { all() } else { held.each().into_iter().map(whole).collect() }
    };
    groups.iter().filter_map(|(held, roles)| grant(privileges(*held), on(), roles)).collect()
}

fn of_view(view: &ViewDecl) -> Vec<Declaration> {
    let name = Name::new(&view.schema, &view.name);
    let target =
        if view.materialized { Target::MaterializedView } else { Target::View }(name.clone());
    let mut found = vec![Declaration::CreateView {
        name: name.clone(),
        is_materialized: view.materialized,
        security_invoker: view.security_invoker,
        definition: view.definition.clone(),
    }];
    found.extend(comment(target, &view.purpose));
    found.extend(grants(&name, &view.grants, &view.column_grants));
    found
}

fn of_sequence(sequence: &SequenceDecl) -> Vec<Declaration> {
    let name = Name::new(&sequence.schema, &sequence.name);
    let target = Target::Sequence(name.clone());
    let mut found = vec![Declaration::Create(target.clone())];
    found.extend(comment(target, &sequence.purpose));
    found.extend(by_privileges(&sequence.grants, || On::Sequences(vec![name.clone()])));
    found
}

fn of_function(declared: &FunctionDecl) -> Vec<Declaration> {
    let function = FunctionName {
        name: Name::new(&declared.schema, &declared.name),
        arguments: declared.arguments.clone(),
    };
    let on = || On::Functions(vec![function.clone()]);
    let mut found = Vec::new();
    if function.arguments.is_some() {
        found.push(Declaration::CreateFunction {
            function: function.clone(),
            security_definer: declared.security_definer,
        });
    } else {
        // CREATE FUNCTION needs the arguments, and the contract accepts any.
        found.push(Declaration::AnyArguments(function.name.clone()));
        let security = declared.security_definer;
        found.extend(security.map(|on| Declaration::SecurityDefiner(function.clone(), on)));
    }
    if declared.all_rows {
        found.push(Declaration::AllRowsOfRoutine(function.clone(), true));
    }
    found.extend(comment(Target::Function(function.clone()), &declared.purpose));
    found.extend(grant(vec![whole(Privileges::EXECUTE)], on(), &declared.execute));
    found
}

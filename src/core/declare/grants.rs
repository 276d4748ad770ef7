//! GRANT and REVOKE on the objects of a contract.

use super::amendment::{Amendment, OnEverything};
use super::objects::Kind;
use super::{Declaration, FunctionName, Grant, Granted, Name, On, Target, Unfit};
use crate::catalog::Privileges;
use crate::contract::{
    ByRole, ColumnGrants, ColumnGrantsByRole, GrantPrivilege, SchemaDecl, granted_to,
};
use crate::sql::{listed, printable, safe_ident};
use std::collections::HashMap;

/// Returns the statements that together grant, or revoke, ALL on all tables, all sequences and all
/// routines of a schema for a role: the contract declares that by one list of roles. A statement
/// that takes one of them back begins again.
pub(super) fn on_everything(declarations: &[Declaration]) -> OnEverything {
    let mut begun: HashMap<(bool, String, String), [Option<usize>; 3]> = HashMap::new();
    let mut complete = OnEverything::new();
    for (number, declaration) in declarations.iter().enumerate() {
        match declaration {
            Declaration::ResetAll => begun.clear(),
            Declaration::Drop(Target::Schema(name)) => begun.retain(|(_, s, _), _| s != name),
            Declaration::Drop(Target::Role(name)) => begun.retain(|(_, _, r), _| r != name),
            Declaration::Grant(grant) => {
                let Some((part, schemas)) = part_of_everything(&grant.on) else { continue };
                for (schema, role) in
                    schemas.iter().flat_map(|s| grant.roles.iter().map(move |r| (s, r)))
                {
                    begun.remove(&(!grant.is_revoke, schema.clone(), role.clone()));
                    if !is_all(grant) {
                        continue;
                    }
                    let of = (grant.is_revoke, schema.clone(), role.clone());
                    let parts = begun.entry(of).or_default();
                    parts[part] = Some(number);
                    if let [Some(tables), Some(sequences), Some(routines)] = *parts {
                        complete.extend(
                            [tables, sequences, routines]
                                .map(|number| (number, schema.clone(), role.clone())),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    complete
}

/// Returns which part of everything in schemas is meant: tables, sequences or routines.
fn part_of_everything(on: &On) -> Option<(usize, &[String])> {
    match on {
        On::AllTables(schemas) => Some((0, schemas)),
        On::AllSequences(schemas) => Some((1, schemas)),
        On::AllFunctions(schemas) => Some((2, schemas)),
        _ => None,
    }
}

/// Whether ALL is granted or revoked, on whole objects.
fn is_all(grant: &Grant) -> bool {
    grant.privileges.iter().any(|p| p.privilege.is_none() && p.columns.is_empty())
}

impl Amendment<'_> {
    pub(super) fn on_schema(&mut self, grant: &Grant, schema: &str) -> Result<(), Unfit> {
        self.require_schema(schema)?;
        let named = whole(grant, Privileges::USAGE | Privileges::CREATE);
        let only_create = grant.privileges.iter().any(|p| p.privilege == Some(Privileges::CREATE));
        if only_create && !grant.is_revoke {
            return Err(Unfit::inexpressible(
                "a contract does not declare CREATE on a schema",
                "Only the owner of a schema and trusted roles may create objects in it.",
            ));
        }
        reject_others(grant, Privileges::USAGE | Privileges::CREATE, "schemas")?;
        reject_columns(grant)?;
        if let Some(declared) = schema_of(self, schema)
            && named.contains(Privileges::USAGE)
        {
            change_list(&mut declared.usage, grant);
        }
        Ok(())
    }

    pub(super) fn on_relation(&mut self, grant: &Grant, name: &Name) -> Result<(), Unfit> {
        self.require_schema(&name.schema)?;
        let (kind, place) = self.objects.known(name)?;
        if kind == Kind::Sequence {
            return self.on_sequence(grant, name);
        }
        let all = Privileges::ALL_ON_TABLE | Privileges::MAINTAIN;
        reject_others(grant, all, "tables and views")?;
        self.reject_part_of_everything(grant, &name.schema, &name.to_string())?;
        let roles = self.roles_to_change(grant, &name.schema);
        let version = self.objects.version();
        let contract = self.contract();
        let (grants, columns) = if kind == Kind::Table {
            let table = &mut contract.tables[place];
            (&mut table.grants, &mut table.column_grants)
        } else {
            let view = &mut contract.views[place];
            (&mut view.grants, &mut view.column_grants)
        };
        let named = whole(grant, all);
        for role in &roles {
            // What is left of ALL keeps what ALL permits.
            let held = granted_to(grants, role).with_maintain(version);
            change(grants, role, (held, named), grant.is_revoke);
            change_columns(columns, role, grant)?;
        }
        Ok(())
    }

    pub(super) fn on_sequence(&mut self, grant: &Grant, name: &Name) -> Result<(), Unfit> {
        self.require_schema(&name.schema)?;
        reject_others(grant, Privileges::ALL_ON_SEQUENCE, "sequences")?;
        reject_columns(grant)?;
        self.reject_part_of_everything(grant, &name.schema, &name.to_string())?;
        let roles = self.roles_to_change(grant, &name.schema);
        let sequence = self.objects.known_sequence(name)?;
        let named = whole(grant, Privileges::ALL_ON_SEQUENCE);
        for role in &roles {
            let held = granted_to(&sequence.grants, role);
            change(&mut sequence.grants, role, (held, named), grant.is_revoke);
        }
        Ok(())
    }

    pub(super) fn on_function(&mut self, grant: &Grant, on: &FunctionName) -> Result<(), Unfit> {
        self.require_schema(&on.name.schema)?;
        reject_others(grant, Privileges::EXECUTE, "functions and procedures")?;
        reject_columns(grant)?;
        self.reject_part_of_everything(grant, &on.name.schema, &on.name.to_string())?;
        self.reject_part_of_routines(grant, on)?;
        let mut roles = self.roles_to_change(grant, &on.name.schema);
        if let Some(declared) = schema_of(self, &on.name.schema)
            && !grant.is_revoke
        {
            roles.retain(|role| !declared.execute_on_routines.contains(role));
        }
        let of_roles = Grant { roles, ..grant.clone() };
        change_list(&mut self.objects.known_function(on)?.execute, &of_roles);
        Ok(())
    }

    /// Fails where a statement revokes EXECUTE on one routine from a role that has it on more: on
    /// every routine of the schema, or on every one of this name.
    fn reject_part_of_routines(&mut self, grant: &Grant, on: &FunctionName) -> Result<(), Unfit> {
        if !grant.is_revoke {
            return Ok(());
        }
        let schema = &on.name.schema;
        let by_schema = schema_of(self, schema).map(|s| s.execute_on_routines.clone());
        let by_schema = by_schema.unwrap_or_default();
        if let Some(role) = grant.roles.iter().find(|role| by_schema.contains(role)) {
            return Err(Unfit::inexpressible(
                format!(
                    "role \"{}\" has EXECUTE on every routine in schema \"{}\"",
                    printable(role),
                    printable(schema)
                ),
                "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA from it first, and grant what remains \
                 routine by routine.",
            ));
        }
        let Some(any) = self.objects.any_arguments(&on.name) else { return Ok(()) };
        let is_covered = |role: &&String| on.arguments.is_some() && any.execute.contains(role);
        match grant.roles.iter().find(is_covered) {
            None => Ok(()),
            Some(role) => Err(Unfit::inexpressible(
                format!(
                    "role \"{}\" has EXECUTE on function {} with any arguments",
                    printable(role),
                    on.name
                ),
                format!(
                    "REVOKE EXECUTE ON ROUTINE {} from it first, without arguments, and grant what \
                     remains with the types of the arguments.",
                    on.name
                ),
            )),
        }
    }

    pub(super) fn on_all_tables(&mut self, grant: &Grant, schema: &str) -> Result<(), Unfit> {
        self.require_schema(schema)?;
        reject_columns(grant)?;
        let rest = self.beyond_everything(grant, schema)?;
        if rest.roles.is_empty() {
            return Ok(());
        }
        let names = self.objects.relations_in(schema, false);
        names.iter().try_for_each(|name| self.on_relation(&rest, name))
    }

    pub(super) fn on_all_sequences(&mut self, grant: &Grant, schema: &str) -> Result<(), Unfit> {
        self.require_schema(schema)?;
        reject_columns(grant)?;
        let rest = self.beyond_everything(grant, schema)?;
        if rest.roles.is_empty() {
            return Ok(());
        }
        let names = self.objects.relations_in(schema, true);
        names.iter().try_for_each(|name| self.on_sequence(&rest, name))
    }

    pub(super) fn on_all_functions(&mut self, grant: &Grant, schema: &str) -> Result<(), Unfit> {
        self.require_schema(schema)?;
        reject_others(grant, Privileges::EXECUTE, "functions and procedures")?;
        reject_columns(grant)?;
        let rest = self.beyond_everything(grant, schema)?;
        if let Some(declared) = schema_of(self, schema) {
            change_list(&mut declared.execute_on_routines, &rest);
        }
        let functions = self.contract().functions.iter_mut();
        for function in functions.filter(|f| rest.is_revoke && f.schema == schema) {
            function.execute.retain(|role| !rest.roles.contains(role));
        }
        Ok(())
    }

    /// Applies what a statement says about everything in a schema, and returns the statement for
    /// what remains.
    fn beyond_everything(&mut self, grant: &Grant, schema: &str) -> Result<Grant, Unfit> {
        self.reject_part_in_schema(grant, schema)?;
        self.change_everything(grant, schema);
        Ok(self.without_everything(grant, schema))
    }

    /// Adds the roles to, or removes them from, those with all privileges on all objects of a
    /// schema, where the statements say so.
    fn change_everything(&mut self, grant: &Grant, schema: &str) {
        let is_meant = |role: &&String| self.is_of_everything(schema, role);
        let roles: Vec<String> = grant.roles.iter().filter(is_meant).cloned().collect();
        let of_roles = Grant { roles, ..grant.clone() };
        if let Some(declared) = schema_of(self, schema) {
            change_list(&mut declared.all_on_objects, &of_roles);
        }
    }

    /// Returns the statement for the other roles only; a REVOKE for all of them.
    fn without_everything(&self, grant: &Grant, schema: &str) -> Grant {
        let mut rest = grant.clone();
        rest.roles.retain(|role| grant.is_revoke || !self.is_of_everything(schema, role));
        rest
    }

    /// Whether the current statement is one of those that together are about everything in a
    /// schema.
    fn is_of_everything(&self, schema: &str, role: &str) -> bool {
        self.everything.contains(&(self.current, schema.to_owned(), role.to_owned()))
    }

    /// Fails where a statement revokes one part of everything from a role that has everything.
    fn reject_part_in_schema(&mut self, grant: &Grant, schema: &str) -> Result<(), Unfit> {
        let mut rest = grant.clone();
        rest.roles.retain(|role| !self.is_of_everything(schema, role));
        let objects = format!("the objects in schema {}", safe_ident(schema));
        self.reject_part_of_everything(&rest, schema, &objects)
    }

    /// Returns the roles for which a declaration of the object changes: GRANT adds nothing for a
    /// role with all privileges on the objects of the schema.
    fn roles_to_change(&mut self, grant: &Grant, schema: &str) -> Vec<String> {
        let mut roles = grant.roles.clone();
        if let Some(declared) = schema_of(self, schema) {
            roles.retain(|role| grant.is_revoke || !declared.all_on_objects.contains(role));
        }
        roles
    }

    /// Fails where a statement revokes something from a role that has everything in the schema.
    fn reject_part_of_everything(
        &mut self,
        grant: &Grant,
        schema: &str,
        objects: &str,
    ) -> Result<(), Unfit> {
        let Some(declared) = schema_of(self, schema) else { return Ok(()) };
        let is_covered = |role: &&String| declared.all_on_objects.contains(*role);
        match grant.roles.iter().filter(|_| grant.is_revoke).find(is_covered) {
            None => Ok(()),
            Some(role) => Err(Unfit::inexpressible(
                format!(
                    "role \"{}\" has all privileges on every object in schema \"{}\"",
                    printable(role),
                    printable(schema)
                ),
                format!(
                    "REVOKE ALL on ALL TABLES, ALL SEQUENCES and ALL ROUTINES IN SCHEMA from it \
                     first, and grant what remains object by object, except on {objects}."
                ),
            )),
        }
    }
}

fn schema_of<'c>(amendment: &'c mut Amendment<'_>, name: &str) -> Option<&'c mut SchemaDecl> {
    amendment.contract().schemas.iter_mut().find(|schema| schema.name == name)
}

/// Returns the privileges that a statement names for whole objects; `all` for ALL.
fn whole(grant: &Grant, all: Privileges) -> Privileges {
    let named = grant.privileges.iter().filter(|p| p.columns.is_empty());
    named.fold(Privileges::NONE, |sum, p| sum | p.privilege.unwrap_or(all))
}

/// Fails where a statement names a privilege that such objects do not have.
fn reject_others(grant: &Grant, known: Privileges, objects: &str) -> Result<(), Unfit> {
    let named =
        grant.privileges.iter().filter_map(|p| p.privilege).fold(Privileges::NONE, |a, b| a | b);
    let others = named & !known;
    if others.is_empty() {
        return Ok(());
    }
    Err(Unfit::new(
        format!("there is no privilege {} on {objects}", listed(&others.words())),
        format!("Privileges on {objects}: {}.", listed(&known.words())),
    ))
}

/// Fails where a statement names columns of objects that have none.
fn reject_columns(grant: &Grant) -> Result<(), Unfit> {
    if grant.privileges.iter().all(|granted| granted.columns.is_empty()) {
        return Ok(());
    }
    Err(Unfit::new(
        "columns are named for objects that are no single relation",
        "Name columns in GRANT and REVOKE on tables and views only, each by its name.",
    ))
}

/// Adds the roles of a statement to a list, or removes them.
fn change_list(roles: &mut Vec<String>, grant: &Grant) {
    if grant.is_revoke {
        roles.retain(|role| !grant.roles.contains(role));
        return;
    }
    for role in &grant.roles {
        if !roles.contains(role) {
            roles.push(role.clone());
        }
    }
}

/// Adds privileges to those that a role has, or removes them.
fn change<P: GrantPrivilege>(
    grants: &mut ByRole<P>,
    role: &str,
    (held, privileges): (Privileges, Privileges),
    is_revoke: bool,
) {
    let now = if is_revoke { held & !privileges } else { held | privileges };
    let names = P::names_of(now);
    if names.is_empty() {
        grants.remove(role);
    } else {
        grants.insert(role.to_owned(), names);
    }
}

/// Adds privileges on columns, or removes them. REVOKE of a privilege on the whole object revokes
/// it on the columns too, as on the server.
fn change_columns(
    declared: &mut ColumnGrantsByRole,
    role: &str,
    grant: &Grant,
) -> Result<(), Unfit> {
    let mut columns = declared.remove(role).unwrap_or_default();
    for granted in &grant.privileges {
        let privileges = granted.privilege.unwrap_or(Privileges::ON_COLUMN);
        if !granted.columns.is_empty() && !Privileges::ON_COLUMN.contains(privileges) {
            return Err(Unfit::new(
                format!("there is no privilege {} on columns", listed(&privileges.words())),
                "Privileges on columns: SELECT, INSERT, UPDATE and REFERENCES.",
            ));
        }
        change_one(&mut columns, granted, privileges, grant.is_revoke);
    }
    if columns != ColumnGrants::default() {
        declared.insert(role.to_owned(), columns);
    }
    Ok(())
}

fn change_one(columns: &mut ColumnGrants, granted: &Granted, privileges: Privileges, revoke: bool) {
    if !revoke {
        granted.columns.iter().for_each(|column| columns.add(privileges, column));
        return;
    }
    for (privilege, list) in lists(columns) {
        if privileges.contains(privilege) {
            list.retain(|c| !granted.columns.is_empty() && !granted.columns.contains(c));
        }
    }
}

fn lists(columns: &mut ColumnGrants) -> [(Privileges, &mut Vec<String>); 4] {
    [
        (Privileges::SELECT, &mut columns.select),
        (Privileges::INSERT, &mut columns.insert),
        (Privileges::UPDATE, &mut columns.update),
        (Privileges::REFERENCES, &mut columns.references),
    ]
}

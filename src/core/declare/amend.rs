//! Applies declarations to a contract.

use super::amendment::Amendment;
use super::objects::{Kind, Objects};
use super::setting::set;
use super::{
    Declaration, FunctionName, Grant, Name, On, PolicyHeader, RowSecurity, Target, Unfit, grants,
};
use crate::catalog::{Command, Snapshot, owner_of_reserved_schema};
use crate::contract::{ByRole, Contract, PolicyCommand, RoleDecl, RoleKind, SchemaDecl};
use crate::sql::{printable, safe_ident};
use std::collections::{BTreeMap, HashSet};

/// Applies declarations to a contract, in their order, and returns the new contract. `existing` is
/// the catalog: an object that a statement names and the contract does not declare is declared as
/// it is there. `interrupts` is called for each declaration.
///
/// # Errors
/// The number of the first declaration that does not fit, from 0, and the reason.
pub fn amend(
    contract: &Contract,
    declarations: &[Declaration],
    existing: Option<&Snapshot>,
    interrupts: &dyn Fn(),
) -> Result<Contract, (usize, Unfit)> {
    let mut amendment = Amendment {
        everything: grants::on_everything(declarations),
        objects: Objects::of(contract.clone(), existing),
        current: 0,
        created: vec![],
        dropped: HashSet::new(),
    };
    for (place, declaration) in declarations.iter().enumerate() {
        interrupts();
        amendment.current = place;
        amendment.apply(declaration).map_err(|reason| (place, reason))?;
    }
    Ok(amendment.objects.into_contract())
}

impl Amendment<'_> {
    fn apply(&mut self, declaration: &Declaration) -> Result<(), Unfit> {
        match declaration {
            Declaration::ResetAll => self.objects.clear(),
            Declaration::Set(path, values) => set(self.contract(), path, values)?,
            Declaration::Create(target) => self.create(target)?,
            Declaration::SequenceOfColumn(name) => self.objects.creates_sequence(name),
            Declaration::CreateView { name, is_materialized, security_invoker, definition } => {
                self.require_schema(&name.schema)?;
                let view = self.objects.view(name, *is_materialized)?;
                view.security_invoker = *security_invoker;
                view.definition.clone_from(definition);
            }
            Declaration::CreateFunction { function, security_definer } => {
                self.create_function(function, *security_definer)?;
            }
            Declaration::AnyArguments(name) => {
                self.require_schema(&name.schema)?;
                self.objects.function(&FunctionName { name: name.clone(), arguments: None });
            }
            Declaration::Drop(target) => self.drop(target)?,
            Declaration::DropIfDeclared(target) => {
                if self.declares(target) {
                    self.drop(target)?;
                }
            }
            Declaration::Rename(renamed) => self.rename(renamed)?,
            Declaration::Attributes(role, attributes) => {
                let role = self.role(role)?;
                for (attribute, on) in attributes {
                    role.set_attribute(*attribute, Some(*on));
                }
            }
            Declaration::Kind(role, kind) => self.role(role)?.kind = *kind,
            Declaration::RowSecurity(table, change) => {
                let table = self.table(table)?;
                match change {
                    RowSecurity::Enable => table.row_security = true,
                    RowSecurity::Disable => table.row_security = false,
                    RowSecurity::Force => table.force_row_security = true,
                    RowSecurity::NoForce => table.force_row_security = false,
                }
            }
            Declaration::AllRows(table, is_declared) => {
                let table = self.table(table)?;
                match is_declared {
                    true => _ = table.all_rows.get_or_insert_default(),
                    false => table.all_rows = None,
                }
            }
            Declaration::AllRowsOf(table, all_rows) => self.all_rows_of(table, all_rows)?,
            Declaration::Rows(table, rows) => self.rows(table, rows)?,
            Declaration::SecurityInvoker(view, on) => {
                self.require_schema(&view.schema)?;
                self.objects.known_view(view, false)?.security_invoker = *on;
            }
            Declaration::SecurityDefiner(function, is_definer) => {
                self.require_schema(&function.name.schema)?;
                self.objects.known_function(function)?.security_definer = Some(*is_definer);
            }
            Declaration::AllRowsOfRoutine(function, is_meant) => {
                self.require_schema(&function.name.schema)?;
                self.objects.known_function(function)?.all_rows = *is_meant;
            }
            Declaration::Grant(grant) => self.grant(grant)?,
            Declaration::Membership { role, member, is_revoke } => {
                self.membership(role, member, *is_revoke)?;
            }
            Declaration::CreatePolicy(policy) => self.create_policy(policy)?,
            Declaration::DropPolicy(policy) => self.drop_described_policy(policy)?,
            Declaration::DropPolicyNamed { table, name, if_exists } => {
                self.drop_policy(table, name, *if_exists)?;
            }
            Declaration::Comment(target, text) => self.comment(target, text)?,
        }
        Ok(())
    }

    fn create(&mut self, target: &Target) -> Result<(), Unfit> {
        match target {
            Target::Role(name) => {
                if self.contract().role(name).is_none() {
                    // A role of which nothing else is said is a client: each of its privileges must
                    // be declared.
                    self.contract().roles.push(RoleDecl::new(name, RoleKind::Client));
                }
            }
            Target::Schema(name) => {
                not_reserved(name)?;
                if self.contract().schema(name).is_none() {
                    self.contract().schemas.push(new_schema(name));
                }
            }
            Target::Table(name) => {
                self.require_schema(&name.schema)?;
                self.objects.new_table(name)?;
            }
            Target::Sequence(name) => {
                self.require_schema(&name.schema)?;
                self.objects.sequence(name)?;
            }
            Target::View(name) | Target::MaterializedView(name) => {
                self.require_schema(&name.schema)?;
                let is_materialized = matches!(target, Target::MaterializedView(_));
                self.objects.view(name, is_materialized)?;
            }
            Target::Function(function) => {
                self.require_schema(&function.name.schema)?;
                self.objects.function(function);
            }
        }
        Ok(())
    }

    fn drop(&mut self, target: &Target) -> Result<(), Unfit> {
        match target {
            Target::Role(name) => {
                self.role(name)?;
                self.forget_role(name);
            }
            Target::Schema(name) => {
                self.require_schema(name)?;
                self.contract().schemas.retain(|schema| schema.name != *name);
                self.objects.remove_schema(name);
            }
            Target::Table(name) => self.objects.remove(name, Kind::Table)?,
            Target::View(name) => self.objects.remove(name, Kind::View(false))?,
            Target::MaterializedView(name) => self.objects.remove(name, Kind::View(true))?,
            Target::Sequence(name) => self.objects.remove(name, Kind::Sequence)?,
            Target::Function(function) => self.objects.remove_function(function)?,
        }
        Ok(())
    }

    fn forget_role(&mut self, name: &str) {
        let contract = self.contract();
        contract.roles.retain(|role| role.name != name);
        contract.trusted_roles.retain(|role| role != name);
        contract.identity.sessions.remove(name);
        for list in contract.readers.iter_mut().chain(&mut contract.deployers) {
            list.retain(|role| role != name);
        }
        for schema in &mut contract.schemas {
            for roles in
                [&mut schema.usage, &mut schema.all_on_objects, &mut schema.execute_on_routines]
            {
                roles.retain(|role| role != name);
            }
        }
        for table in &mut contract.tables {
            table.grants.remove(name);
            table.column_grants.remove(name);
            table.policies.remove(name);
            table.all_rows.iter_mut().for_each(|all_rows| _ = all_rows.remove(name));
            table.open_rows.remove(name);
            table.append_only_by.retain(|role| role != name);
        }
        for view in &mut contract.views {
            view.grants.remove(name);
            view.column_grants.remove(name);
        }
        contract.sequences.iter_mut().for_each(|sequence| _ = sequence.grants.remove(name));
        contract.functions.iter_mut().for_each(|f| f.execute.retain(|role| role != name));
    }

    /// Whether an object is declared.
    fn declares(&mut self, target: &Target) -> bool {
        match target {
            Target::Role(name) => self.contract().role(name).is_some(),
            Target::Schema(name) => self.contract().schema(name).is_some(),
            Target::Table(name)
            | Target::View(name)
            | Target::MaterializedView(name)
            | Target::Sequence(name) => self.objects.declares(name),
            Target::Function(function) => self.objects.declares_function(function),
        }
    }

    fn create_function(
        &mut self,
        function: &FunctionName,
        security_definer: Option<bool>,
    ) -> Result<(), Unfit> {
        self.require_schema(&function.name.schema)?;
        let declared = self.objects.function(function);
        if security_definer.is_none() && declared.security_definer == Some(true) {
            return Err(Unfit::new(
                format!("function {function} is declared SECURITY DEFINER"),
                "Add SECURITY DEFINER or SECURITY INVOKER: without the clause, CREATE OR REPLACE \
                 makes it SECURITY INVOKER.",
            ));
        }
        declared.security_definer = security_definer.or(declared.security_definer);
        Ok(())
    }

    /// Sets the field all_rows of a table.
    fn all_rows_of(&mut self, table: &Name, all_rows: &ByRole<PolicyCommand>) -> Result<(), Unfit> {
        for role in all_rows.keys() {
            self.require_role(role)?;
        }
        self.table(table)?.all_rows = Some(all_rows.clone());
        Ok(())
    }

    /// Says that a contract does not declare memberships, other than those of a login role in the
    /// roles that its requests become, which are allowed anyway.
    fn membership(&mut self, role: &str, member: &str, is_revoke: bool) -> Result<(), Unfit> {
        if is_revoke {
            self.require_known_role(role)?;
            return self.require_known_role(member);
        }
        let kind = |name: &str| self.objects.kind_of_role(name);
        let is_purpose = kind(member) == Some(RoleKind::Login)
            && matches!(kind(role), Some(RoleKind::Client | RoleKind::Worker));
        if is_purpose {
            return Ok(());
        }
        Err(Unfit::inexpressible(
            "a contract does not declare memberships",
            "Grant the privileges to the member itself. A membership of a login role in a client \
             or worker needs no declaration.",
        ))
    }

    fn create_policy(&mut self, policy: &PolicyHeader) -> Result<(), Unfit> {
        for role in &policy.roles {
            self.require_role(role)?;
        }
        let open = self.objects.open_policies(&policy.table);
        let table = self.table(&policy.table)?;
        if !policy.all_rows.is_empty() && table.all_rows.is_none() {
            // Without the field, each declared policy may allow every row. Those that do may
            // still, and the others may not begin to.
            let all_rows = table.all_rows.insert(BTreeMap::new());
            for (role, commands) in &open {
                let mut commands = commands.clone();
                commands.retain(|command| covered(&table.policies, role).contains(command));
                add_commands(all_rows, role, &commands);
            }
        }
        for role in &policy.roles {
            add_commands(&mut table.policies, role, &policy.commands);
            if let Some(all_rows) = &mut table.all_rows {
                add_commands(all_rows, role, &policy.all_rows);
            }
        }
        self.created.push(policy.clone());
        Ok(())
    }

    /// Removes what the declaration of a policy loses with it: what no other policy of the table
    /// says.
    fn drop_policy(&mut self, table: &Name, name: &str, if_exists: bool) -> Result<(), Unfit> {
        let is_meant = |policy: &PolicyHeader| policy.table == *table && policy.name == name;
        let (roles, commands) = if let Some(at) = self.created.iter().position(is_meant) {
            let policy = self.created.remove(at);
            (policy.roles, policy.commands)
        } else {
            let existing = self.objects.existing_policies(table).iter();
            let mut left = existing.filter(|policy| !self.dropped.contains(&policy.oid));
            match left.find(|policy| policy.name == name) {
                Some(policy) if !policy.permissive => {
                    return Err(Unfit::inexpressible(
                        "a contract does not declare restrictive policies",
                        "Execute the statement by itself.",
                    ));
                }
                Some(policy) => {
                    self.dropped.insert(policy.oid);
                    (self.objects.roles_of(policy), policy.commands())
                }
                None if if_exists => return Ok(()),
                None => return Err(self.unknown_policy(table, name)),
            }
        };
        self.remove_what_no_policy_says(table, &roles, &commands)
    }

    /// Does the same for a policy that need not be there any longer.
    fn drop_described_policy(&mut self, policy: &PolicyHeader) -> Result<(), Unfit> {
        let existing = self.objects.existing_policies(&policy.table).iter();
        let of_name = existing.filter(|one| one.name == policy.name).map(|one| one.oid);
        self.dropped.extend(of_name.collect::<Vec<_>>());
        self.remove_what_no_policy_says(&policy.table, &policy.roles, &policy.commands)
    }

    fn remove_what_no_policy_says(
        &mut self,
        table: &Name,
        roles: &[String],
        commands: &[Command],
    ) -> Result<(), Unfit> {
        for role in roles {
            let mut lost = commands.to_vec();
            lost.retain(|command| !self.is_said_by_a_policy(table, role, *command));
            self.remove_policy(table, role, &lost)?;
        }
        Ok(())
    }

    /// Whether a permissive policy of the table that is left is for this role and command.
    fn is_said_by_a_policy(&self, table: &Name, role: &String, command: Command) -> bool {
        let mut created = self.created.iter().filter(|policy| policy.table == *table);
        let existing = self.objects.existing_policies(table).iter();
        let mut left = existing.filter(|p| p.permissive && !self.dropped.contains(&p.oid));
        created.any(|policy| policy.commands.contains(&command) && policy.roles.contains(role))
            || left.any(|policy| {
                policy.covers(command) && self.objects.roles_of(policy).contains(role)
            })
    }

    fn remove_policy(
        &mut self,
        table: &Name,
        role: &str,
        commands: &[Command],
    ) -> Result<(), Unfit> {
        let table = self.table(table)?;
        remove_commands(&mut table.policies, role, commands);
        if let Some(all_rows) = &mut table.all_rows {
            remove_commands(all_rows, role, commands);
        }
        Ok(())
    }

    fn unknown_policy(&self, table: &Name, name: &str) -> Unfit {
        let existing = self.objects.existing_policies(table).iter();
        let created = self.created.iter().filter(|policy| policy.table == *table);
        Unfit::unknown(
            format!("policy {} on table {table} does not exist", safe_ident(name)),
            "A contract does not contain the names of policies: they are looked up in the \
             database.",
            name,
            existing.map(|p| p.name.as_str()).chain(created.map(|p| p.name.as_str())),
        )
    }

    fn comment(&mut self, target: &Target, text: &str) -> Result<(), Unfit> {
        let purpose = match target {
            Target::Role(name) => &mut self.role(name)?.description,
            Target::Schema(name) => {
                self.require_schema(name)?;
                let schemas = &mut self.contract().schemas;
                let Some(schema) = schemas.iter_mut().find(|s| s.name == *name) else {
                    return Ok(());
                };
                &mut schema.purpose
            }
            Target::Table(name) => &mut self.table(name)?.purpose,
            Target::View(name) | Target::MaterializedView(name) => {
                self.require_schema(&name.schema)?;
                let is_materialized = matches!(target, Target::MaterializedView(_));
                &mut self.objects.known_view(name, is_materialized)?.purpose
            }
            Target::Sequence(name) => {
                self.require_schema(&name.schema)?;
                &mut self.objects.known_sequence(name)?.purpose
            }
            Target::Function(function) => {
                self.require_schema(&function.name.schema)?;
                &mut self.objects.known_function(function)?.purpose
            }
        };
        text.clone_into(purpose);
        Ok(())
    }

    fn grant(&mut self, grant: &Grant) -> Result<(), Unfit> {
        if grant.to_public && !grant.is_revoke {
            return Err(Unfit::inexpressible(
                "a contract does not grant to PUBLIC",
                "Name the roles. PUBLIC may have what is declared for all of them.",
            ));
        }
        for role in &grant.roles {
            if grant.is_revoke {
                self.require_known_role(role)?;
            } else {
                self.require_role(role)?;
            }
        }
        match &grant.on {
            On::Schemas(names) => names.iter().try_for_each(|name| self.on_schema(grant, name)),
            On::Tables(names) => names.iter().try_for_each(|name| self.on_relation(grant, name)),
            On::Sequences(names) => names.iter().try_for_each(|name| self.on_sequence(grant, name)),
            On::Functions(functions) => {
                functions.iter().try_for_each(|function| self.on_function(grant, function))
            }
            On::AllTables(schemas) => {
                schemas.iter().try_for_each(|schema| self.on_all_tables(grant, schema))
            }
            On::AllSequences(schemas) => {
                schemas.iter().try_for_each(|schema| self.on_all_sequences(grant, schema))
            }
            On::AllFunctions(schemas) => {
                schemas.iter().try_for_each(|schema| self.on_all_functions(grant, schema))
            }
        }
    }
}

/// Fails for the name of a schema that no contract can govern.
pub(super) fn not_reserved(name: &str) -> Result<(), Unfit> {
    let Some(owner) = owner_of_reserved_schema(name) else { return Ok(()) };
    Err(Unfit::new(
        format!("schema \"{}\" belongs to {owner}", printable(name)),
        "Declare the schemas of the application: a contract does not govern this one.",
    ))
}

fn new_schema(name: &str) -> SchemaDecl {
    SchemaDecl {
        name: name.to_owned(),
        purpose: String::new(),
        usage: vec![],
        all_on_objects: vec![],
        execute_on_routines: vec![],
    }
}

type Policies = BTreeMap<String, Vec<PolicyCommand>>;

fn add_commands(declared: &mut Policies, role: &str, commands: &[Command]) {
    let mut all = covered(declared, role);
    all.extend(commands);
    replace(declared, role, &all);
}

fn remove_commands(declared: &mut Policies, role: &str, commands: &[Command]) {
    let mut all = covered(declared, role);
    all.retain(|command| !commands.contains(command));
    replace(declared, role, &all);
}

fn covered(declared: &Policies, role: &str) -> Vec<Command> {
    declared.get(role).into_iter().flatten().flat_map(|c| c.commands()).copied().collect()
}

fn replace(declared: &mut Policies, role: &str, commands: &[Command]) {
    let names = PolicyCommand::names_of(commands);
    if names.is_empty() {
        declared.remove(role);
    } else {
        declared.insert(role.to_owned(), names);
    }
}

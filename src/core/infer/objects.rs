//! Declares the tables, views, sequences and functions of an inferred contract.

use super::roles::{Roles, grants_by_name};
use crate::catalog::{
    Command, DefaultAcl, Oid, PUBLIC, Policy, Privileges, Relation, RelationKind, Role, Routine,
};
use crate::contract::{
    ByRole, Contract, FunctionDecl, PolicyCommand, SequenceDecl, TableDecl, ViewDecl,
};
use crate::rules::Context;
use crate::search_path::Verdict;
use crate::sql::argument_types;
use std::collections::{HashMap, HashSet};

/// Declares the objects in the governed schemas, except for managed ones.
pub(super) fn declare(cx: &Context<'_>, roles: &Roles<'_>, contract: &mut Contract) {
    let objects = Objects { cx, roles, all: workers_with_all(cx, roles) };
    for (relation, schema) in cx.relations() {
        if cx.relation_object(relation).managed_by.is_some() {
            continue;
        }
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {
                contract.views.push(objects.view(relation, &schema.name));
            }
            RelationKind::Sequence => {
                contract.sequences.extend(objects.sequence(relation, &schema.name));
            }
            _ => contract.tables.extend(objects.table(relation, &schema.name)),
        }
    }
    for (routine, schema) in cx.routines() {
        if cx.routine_object(routine).managed_by.is_none() {
            contract.functions.extend(objects.function(routine, &schema.name));
        }
    }
    for schema in &mut contract.schemas {
        let Some(oid) = cx.snapshot.schema_named(&schema.name).map(|s| s.oid) else { continue };
        let all = roles.workers().filter(|role| objects.all.contains(&(oid, role.oid)));
        schema.all_on_objects = all.map(|role| role.name.clone()).collect();
    }
}

struct Objects<'o, 'a> {
    cx: &'o Context<'a>,
    roles: &'o Roles<'a>,
    /// Schemas with the workers that have all privileges on all objects in them. They are declared
    /// for the schema instead of each object.
    all: HashSet<(Oid, Oid)>,
}

/// Returns the schemas with relations, each with the workers that have all privileges on every
/// object in it.
fn workers_with_all(cx: &Context<'_>, roles: &Roles<'_>) -> HashSet<(Oid, Oid)> {
    let mut missing: HashSet<(Oid, Oid)> = HashSet::new();
    let mut schemas = HashSet::new();
    for (relation, _) in cx.relations() {
        schemas.insert(relation.schema);
        let wanted = if relation.kind == RelationKind::Sequence {
            Privileges::ALL_ON_SEQUENCE
        } else {
            Privileges::ALL_ON_TABLE
        };
        let held = roles.privileges_in(relation.acl.as_ref().unwrap_or(&vec![]));
        let is_missing = |role: &&Role| {
            !held.get(&role.oid).is_some_and(|privileges| privileges.contains(wanted))
        };
        missing.extend(roles.workers().filter(is_missing).map(|role| (relation.schema, role.oid)));
    }
    for (routine, _) in cx.routines() {
        let executes = |role: &&Role| {
            let held = cx.access.privileges(
                role.oid,
                routine.owner,
                routine.acl.as_ref(),
                crate::catalog::ObjectKind::Routine,
            );
            held.contains(Privileges::EXECUTE)
        };
        missing.extend(
            roles.workers().filter(|role| !executes(role)).map(|role| (routine.schema, role.oid)),
        );
    }
    let pairs = schemas.iter().flat_map(|schema| roles.workers().map(|role| (*schema, role.oid)));
    pairs.filter(|pair| !missing.contains(pair)).collect()
}

impl Objects<'_, '_> {
    /// Returns the privileges of each role on a relation, without workers that have all privileges
    /// in the schema.
    fn grants(&self, relation: &Relation) -> HashMap<Oid, Privileges> {
        let mut held = self.roles.privileges_in(relation.acl.as_ref().unwrap_or(&vec![]));
        held.retain(|role, _| !self.all.contains(&(relation.schema, *role)));
        held
    }

    fn is_client(&self, role: Oid) -> bool {
        self.roles.clients().any(|client| client.oid == role)
    }

    /// Returns the declaration of a table. A client keeps the privileges that row security
    /// restricts: to read and change rows, unless a policy allows all rows. A partition without row
    /// security and grants is not declared.
    fn table(&self, relation: &Relation, schema: &str) -> Option<TableDecl> {
        self.cx.check_interrupts();
        let mut held = self.grants(relation);
        for (role, privileges) in held.iter_mut().filter(|(role, _)| self.is_client(**role)) {
            *privileges = self.restricted_by_policies(relation, *role, *privileges);
        }
        let policies = if relation.row_security { self.policies(relation) } else { ByRole::new() };
        let table = TableDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            row_security: relation.row_security,
            force_row_security: relation.row_security && relation.force_row_security,
            grants: grants_by_name(self.cx, &held),
            policies,
        };
        let is_empty = !table.row_security && table.grants.is_empty();
        (!(relation.is_partition && is_empty)).then_some(table)
    }

    fn restricted_by_policies(
        &self,
        relation: &Relation,
        client: Oid,
        privileges: Privileges,
    ) -> Privileges {
        if self.cx.snapshot.role(client).is_some_and(|role| role.bypass_rls || role.superuser) {
            return Privileges::NONE;
        }
        let allowed = self.allowed_rows(relation, client);
        let by_default = self.default_privileges(client, relation.schema, b'r');
        let restricted = |command: Command| {
            let privilege = command.privilege();
            // A default privilege counts as intended only if a policy exists for it.
            let is_intended = match allowed.get(&command) {
                Some(Rows::All) => false,
                Some(Rows::Some) => true,
                None => !by_default.contains(privilege),
            };
            if is_intended && relation.row_security {
                privileges & privilege
            } else {
                Privileges::NONE
            }
        };
        Command::ALL.into_iter().map(restricted).fold(Privileges::NONE, |all, one| all | one)
    }

    /// Returns the default privileges of a client on new objects of this type in the schema. Those
    /// of all creating roles count, because owners change.
    fn default_privileges(&self, client: Oid, schema: Oid, object_type: u8) -> Privileges {
        let covers =
            |d: &&DefaultAcl| d.object_type == object_type && (d.schema == 0 || d.schema == schema);
        let items = self.cx.snapshot.default_acls.iter().filter(covers).flat_map(|d| &d.acl);
        items
            .filter(|item| item.grantee == client)
            .fold(Privileges::NONE, |all, item| all | item.privileges)
    }

    /// Returns the commands that policies allow to a role, and for which rows.
    fn allowed_rows(&self, relation: &Relation, role: Oid) -> HashMap<Command, Rows> {
        let applies = |policy: &&Policy| {
            policy.permissive
                && policy
                    .roles
                    .iter()
                    .any(|named| *named == PUBLIC || self.cx.access.has_privileges_of(role, *named))
        };
        let mut allowed = HashMap::new();
        for policy in self.cx.snapshot.policies_of(relation.oid).iter().filter(applies) {
            for command in policy.commands() {
                let rows = allowed.entry(command).or_insert(Rows::Some);
                let writes = matches!(command, Command::Insert | Command::Update);
                if policy.always_true || (policy.unchecked && writes) {
                    *rows = Rows::All;
                }
            }
        }
        allowed
    }

    /// Returns the commands that policies allow to each role. For clients, policies for all rows
    /// are omitted.
    fn policies(&self, relation: &Relation) -> ByRole<PolicyCommand> {
        let mut policies = ByRole::new();
        // A login role becomes another one before it accesses rows, unless it has privileges.
        let held = self.grants(relation);
        let accesses = |role: &&Role| !self.roles.is_login(role) || held.contains_key(&role.oid);
        for role in self.roles.subjects().filter(accesses) {
            let allowed = self.allowed_rows(relation, role.oid);
            let is_declared = |command: &Command| match allowed.get(command) {
                Some(Rows::All) => !self.is_client(role.oid),
                Some(Rows::Some) => true,
                None => false,
            };
            let commands: Vec<Command> = Command::ALL.into_iter().filter(is_declared).collect();
            if !commands.is_empty() {
                policies.insert(role.name.clone(), policy_commands(&commands));
            }
        }
        policies
    }

    /// Returns the declaration of a view. A client keeps SELECT only: more privileges come from
    /// GRANT ALL or default privileges.
    fn view(&self, relation: &Relation, schema: &str) -> ViewDecl {
        let mut held = self.grants(relation);
        held.retain(|role, privileges| {
            let by_default = || self.default_privileges(*role, relation.schema, b'r');
            !self.is_client(*role) || (*privileges == Privileges::SELECT && by_default().is_empty())
        });
        ViewDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            materialized: relation.kind == RelationKind::MaterializedView,
            definition: None,
            grants: grants_by_name(self.cx, &held),
        }
    }

    /// Returns the declaration of a sequence on which a role has more than INSERT on its table
    /// needs. UPDATE, which resets a sequence, is not declared for a client.
    fn sequence(&self, relation: &Relation, schema: &str) -> Option<SequenceDecl> {
        let mut held = self.grants(relation);
        for (role, privileges) in &mut held {
            let allowed = Privileges::USAGE | Privileges::SELECT;
            let by_default = || self.default_privileges(*role, relation.schema, b'S');
            if self.is_client(*role) && !(allowed.contains(*privileges) && by_default().is_empty())
            {
                *privileges = Privileges::NONE;
            }
            // USAGE for INSERT on the table need not be declared.
            if relation.owned_by.is_some() && *privileges == Privileges::USAGE {
                *privileges = Privileges::NONE;
            }
        }
        let grants = grants_by_name(self.cx, &held);
        (!grants.is_empty()).then(|| SequenceDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            grants,
        })
    }

    /// Returns the declaration of a routine that is SECURITY DEFINER with a safe path, or that a
    /// role was granted EXECUTE on. EXECUTE of PUBLIC does not count.
    fn function(&self, routine: &Routine, schema: &str) -> Option<FunctionDecl> {
        let is_unsafe = routine.security_definer
            && self.cx.paths.config(&routine.config, routine.owner).verdict != Verdict::Safe;
        self.cx.check_interrupts();
        if is_unsafe {
            return None;
        }
        let held = self.roles.privileges_in(routine.acl.as_ref().unwrap_or(&vec![]));
        let executes = |role: &&Role| {
            held.get(&role.oid).is_some_and(|p| p.contains(Privileges::EXECUTE))
                && !self.all.contains(&(routine.schema, role.oid))
                && !(self.is_client(role.oid)
                    && self
                        .default_privileges(role.oid, routine.schema, b'f')
                        .contains(Privileges::EXECUTE))
        };
        let execute: Vec<String> =
            self.roles.subjects().filter(executes).map(|role| role.name.clone()).collect();
        (routine.security_definer || !execute.is_empty()).then(|| FunctionDecl {
            schema: schema.to_owned(),
            name: routine.name.clone(),
            purpose: String::new(),
            arguments: Some(
                argument_types(&self.cx.snapshot.argument_names(routine).join(",")).join(", "),
            ),
            security_definer: Some(routine.security_definer),
            execute,
        })
    }
}

/// The rows for which policies allow a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Some,
    All,
}

fn policy_commands(commands: &[Command]) -> Vec<PolicyCommand> {
    if commands.len() == Command::ALL.len() {
        return vec![PolicyCommand::All];
    }
    let declared = |command: &Command| match command {
        Command::Select => PolicyCommand::Select,
        Command::Insert => PolicyCommand::Insert,
        Command::Update => PolicyCommand::Update,
        Command::Delete => PolicyCommand::Delete,
    };
    commands.iter().map(declared).collect()
}

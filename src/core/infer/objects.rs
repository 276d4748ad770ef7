//! Tables, views, sequences and functions as they are.

use super::by_name;
use super::roles::Roles;
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

/// Declares what the governed schemas hold, but for what the platform brings along.
pub(super) fn declare(cx: &Context<'_>, roles: &Roles<'_>, contract: &mut Contract) {
    let objects = Objects { cx, roles, all: everything(cx, roles) };
    for (relation, schema) in cx.relations() {
        if cx.relation_object(relation).managed_by.is_some() {
            continue;
        }
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {
                contract.views.push(objects.view(relation, &schema.name))
            }
            RelationKind::Sequence => {
                contract.sequences.extend(objects.sequence(relation, &schema.name))
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
    /// Schema and worker that holds everything on everything in it: said once, and no grant by
    /// grant.
    all: HashSet<(Oid, Oid)>,
}

/// The workers that hold everything on every object of a schema which has any.
fn everything(cx: &Context<'_>, roles: &Roles<'_>) -> HashSet<(Oid, Oid)> {
    let mut lacking: HashSet<(Oid, Oid)> = HashSet::new();
    let mut schemas = HashSet::new();
    for (relation, _) in cx.relations() {
        schemas.insert(relation.schema);
        let wanted = if relation.kind == RelationKind::Sequence {
            Privileges::ALL_ON_SEQUENCE
        } else {
            Privileges::ALL_ON_TABLE
        };
        let held = roles.held(relation.acl.as_ref().unwrap_or(&vec![]));
        let lacks = |role: &&Role| {
            !held.get(&role.oid).is_some_and(|privileges| privileges.contains(wanted))
        };
        lacking.extend(roles.workers().filter(lacks).map(|role| (relation.schema, role.oid)));
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
        lacking.extend(
            roles.workers().filter(|role| !executes(role)).map(|role| (routine.schema, role.oid)),
        );
    }
    let pairs = schemas.iter().flat_map(|schema| roles.workers().map(|role| (*schema, role.oid)));
    pairs.filter(|pair| !lacking.contains(pair)).collect()
}

impl Objects<'_, '_> {
    /// What each role was granted on a relation, without workers that hold everything in its
    /// schema.
    fn grants(&self, relation: &Relation) -> HashMap<Oid, Privileges> {
        let mut held = self.roles.held(relation.acl.as_ref().unwrap_or(&vec![]));
        held.retain(|role, _| !self.all.contains(&(relation.schema, *role)));
        held
    }

    fn is_client(&self, role: Oid) -> bool {
        self.roles.clients().any(|client| client.oid == role)
    }

    /// A table. A client keeps what row security governs: reading and changing rows, where no
    /// policy opens all of them. A partition is its table's matter unless somebody has been let at
    /// it by itself.
    fn table(&self, relation: &Relation, schema: &str) -> Option<TableDecl> {
        self.cx.check_interrupts();
        let mut held = self.grants(relation);
        for (role, privileges) in held.iter_mut().filter(|(role, _)| self.is_client(**role)) {
            *privileges = self.governed_by_policies(relation, *role, *privileges);
        }
        let policies = if relation.row_security { self.policies(relation) } else { ByRole::new() };
        let table = TableDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            row_security: relation.row_security,
            force_row_security: relation.row_security && relation.force_row_security,
            grants: by_name(self.cx, &held),
            policies,
        };
        let says_nothing = !table.row_security && table.grants.is_empty();
        (!(relation.is_partition && says_nothing)).then_some(table)
    }

    fn governed_by_policies(
        &self,
        relation: &Relation,
        client: Oid,
        privileges: Privileges,
    ) -> Privileges {
        if self.cx.snapshot.role(client).is_some_and(|role| role.bypass_rls || role.superuser) {
            return Privileges::NONE;
        }
        let open = self.open_to(relation, client);
        let by_default = self.given_by_default(client, relation.schema, b'r');
        let governed = |command: Command| {
            let privilege = Privileges::from_word(command.as_str()).unwrap_or(Privileges::NONE);
            // What comes by default privileges was decided by whoever wrote the policy for it, if
            // anybody.
            let meant = match open.get(&command) {
                Some(Opening::Everything) => false,
                Some(Opening::Some) => true,
                None => !by_default.contains(privilege),
            };
            if meant && relation.row_security { privileges & privilege } else { Privileges::NONE }
        };
        Command::ALL.into_iter().map(governed).fold(Privileges::NONE, |all, one| all | one)
    }

    /// What default privileges give to a client on new objects like this one, whoever makes them
    /// (owners change): nobody has decided it for this one.
    fn given_by_default(&self, client: Oid, schema: Oid, object_type: u8) -> Privileges {
        let covers =
            |d: &&DefaultAcl| d.object_type == object_type && (d.schema == 0 || d.schema == schema);
        let items = self.cx.snapshot.default_acls.iter().filter(covers).flat_map(|d| &d.acl);
        items
            .filter(|item| item.grantee == client)
            .fold(Privileges::NONE, |all, item| all | item.privileges)
    }

    /// Which commands policies open to a role, and whether one of them opens every row.
    fn open_to(&self, relation: &Relation, role: Oid) -> HashMap<Command, Opening> {
        let applies = |policy: &&Policy| {
            policy.permissive
                && policy
                    .roles
                    .iter()
                    .any(|named| *named == PUBLIC || self.cx.access.has_privileges_of(role, *named))
        };
        let mut open = HashMap::new();
        for policy in self.cx.snapshot.policies_of(relation.oid).iter().filter(applies) {
            for command in policy.commands() {
                let opening = open.entry(command).or_insert(Opening::Some);
                let writes = matches!(command, Command::Insert | Command::Update);
                if policy.always_true || (policy.unchecked && writes) {
                    *opening = Opening::Everything;
                }
            }
        }
        open
    }

    /// The commands that policies open: to clients with a condition, to workers in any way.
    fn policies(&self, relation: &Relation) -> ByRole<PolicyCommand> {
        let mut policies = ByRole::new();
        for role in self.roles.subjects() {
            let open = self.open_to(relation, role.oid);
            let meant = |command: &Command| match open.get(command) {
                Some(Opening::Everything) => !self.is_client(role.oid),
                Some(Opening::Some) => true,
                None => false,
            };
            let commands: Vec<Command> = Command::ALL.into_iter().filter(meant).collect();
            if !commands.is_empty() {
                policies.insert(role.name.clone(), policy_words(&commands));
            }
        }
        policies
    }

    /// A view. A client that was given more than SELECT on it was given it by the way, with GRANT
    /// ALL or default privileges.
    fn view(&self, relation: &Relation, schema: &str) -> ViewDecl {
        let mut held = self.grants(relation);
        held.retain(|role, privileges| {
            let by_default = || self.given_by_default(*role, relation.schema, b'r');
            !self.is_client(*role) || (*privileges == Privileges::SELECT && by_default().is_empty())
        });
        ViewDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            materialized: relation.kind == RelationKind::MaterializedView,
            definition: None,
            grants: by_name(self.cx, &held),
        }
    }

    /// A sequence that somebody may use beyond what INSERT into its table allows. No client sets
    /// one back, and one that could was given too much by the way.
    fn sequence(&self, relation: &Relation, schema: &str) -> Option<SequenceDecl> {
        let mut held = self.grants(relation);
        for (role, privileges) in &mut held {
            let allowed = Privileges::USAGE | Privileges::SELECT;
            let by_default = || self.given_by_default(*role, relation.schema, b'S');
            if self.is_client(*role) && !(allowed.contains(*privileges) && by_default().is_empty())
            {
                *privileges = Privileges::NONE;
            }
            // What follows from the table needs no mention.
            if relation.owned_by.is_some() && *privileges == Privileges::USAGE {
                *privileges = Privileges::NONE;
            }
        }
        let grants = by_name(self.cx, &held);
        (!grants.is_empty()).then(|| SequenceDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            grants,
        })
    }

    /// A routine that is SECURITY DEFINER, with a safe path, or that somebody was let execute. What
    /// PUBLIC may do was decided by nobody.
    fn function(&self, routine: &Routine, schema: &str) -> Option<FunctionDecl> {
        let is_unsafe = routine.security_definer
            && self.cx.paths.config(&routine.config, routine.owner).verdict != Verdict::Safe;
        self.cx.check_interrupts();
        if is_unsafe {
            return None;
        }
        let held = self.roles.held(routine.acl.as_ref().unwrap_or(&vec![]));
        let executes = |role: &&Role| {
            held.get(&role.oid).is_some_and(|p| p.contains(Privileges::EXECUTE))
                && !self.all.contains(&(routine.schema, role.oid))
                && !(self.is_client(role.oid)
                    && self
                        .given_by_default(role.oid, routine.schema, b'f')
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

/// How far policies open a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Some,
    Everything,
}

fn policy_words(commands: &[Command]) -> Vec<PolicyCommand> {
    if commands.len() == Command::ALL.len() {
        return vec![PolicyCommand::All];
    }
    let word = |command: &Command| match command {
        Command::Select => PolicyCommand::Select,
        Command::Insert => PolicyCommand::Insert,
        Command::Update => PolicyCommand::Update,
        Command::Delete => PolicyCommand::Delete,
    };
    commands.iter().map(word).collect()
}

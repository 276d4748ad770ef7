//! Declares the tables, views, sequences and functions of an inferred contract.

use super::failing::Failing;
use super::mode::Mode;
use super::roles::{Roles, grants_by_name};
use crate::access::Access;
use crate::catalog::{
    Acl, Command, DefaultAcl, ObjectKind, Oid, OidMap, OidSet, PUBLIC, Policy, Privileges,
    Relation, RelationKind, Role, Routine,
};
use crate::contract::{
    ByRole, ColumnGrantsByRole, Contract, FunctionDecl, PolicyCommand, SequenceDecl, TableDecl,
    ViewDecl,
};
use crate::doctor::Target;
use crate::rules::Context;
use crate::rules::shared::reached::{
    is_for_all_rows, lets_through, of_policy, opened_by, tied_by, ties_of_writes,
};
use crate::search_path::Verdict;
use crate::sql::argument_types;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Declares the objects in the governed schemas, except for managed ones.
pub(super) fn declare(
    cx: &Context<'_>,
    roles: &Roles<'_>,
    mode: Mode,
    failing: &Failing,
    contract: &mut Contract,
) {
    let usage = usage(cx, roles);
    let mut all = workers_with_all(cx, roles);
    let creators = creators(cx);
    all.retain(|(schema, worker)| {
        usage.contains(&(*schema, *worker))
            && !failing.is_in(*schema, *worker)
            && creators[schema].iter().all(|creator| {
                creator == worker || gives_all_on_new(cx, roles, *creator, *schema, *worker)
            })
    });
    let accept_empty = contract.security_definer.accept_empty;
    let alone = alone(roles, &usage, &all);
    let applying = RefCell::default();
    let objects = Objects { cx, roles, mode, all, alone, applying, accept_empty, failing };
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
        // The constructors belong to their range type.
        if !routine.is_constructor && cx.routine_object(routine).managed_by.is_none() {
            contract.functions.extend(objects.function(routine, &schema.name));
        }
    }
    for schema in &mut contract.schemas {
        let Some(oid) = cx.snapshot.schema_named(&schema.name).map(|s| s.oid) else { continue };
        let all = roles.workers().filter(|role| objects.all.contains(&(oid, role.oid)));
        schema.all_on_objects = all.map(|role| role.name.clone()).collect();
    }
}

pub(super) struct Objects<'o, 'a> {
    pub(super) cx: &'o Context<'a>,
    pub(super) roles: &'o Roles<'a>,
    mode: Mode,
    /// Schemas with the workers that have all privileges on all objects in them, also on new ones
    /// by default privileges. They are declared for the schema instead of each object.
    all: HashSet<(Oid, Oid)>,
    /// By schema: the subjects with USAGE on it whose privileges are declared object by object, in
    /// order of name.
    alone: OidMap<Alone<'a>>,
    /// By role of a policy, or PUBLIC: the positions of the subjects to which the policy applies.
    applying: RefCell<OidMap<Rc<[usize]>>>,
    /// Whether the contract accepts `search_path = ''`.
    accept_empty: bool,
    failing: &'o Failing,
}

/// The roles whose privileges in a schema are declared object by object.
struct Alone<'a> {
    /// In order of name.
    roles: Vec<&'a Role>,
    oids: OidSet,
}

/// Returns these roles by schema.
fn alone<'a>(
    roles: &Roles<'a>,
    usage: &HashSet<(Oid, Oid)>,
    all: &HashSet<(Oid, Oid)>,
) -> OidMap<Alone<'a>> {
    let schemas: OidSet = usage.iter().map(|(schema, _)| *schema).collect();
    let of_schema = |schema: Oid| {
        let is_alone = |role: &&Role| {
            let pair = (schema, role.oid);
            usage.contains(&pair) && !all.contains(&pair)
        };
        let roles: Vec<&Role> = roles.subjects().filter(is_alone).collect();
        let oids = roles.iter().map(|role| role.oid).collect();
        (schema, Alone { roles, oids })
    };
    schemas.into_iter().map(of_schema).collect()
}

/// Returns the schemas, each with the roles that have USAGE on it, by a grant or through PUBLIC.
/// Nothing else is declared for roles without USAGE, because it would have no effect.
fn usage(cx: &Context<'_>, roles: &Roles<'_>) -> HashSet<(Oid, Oid)> {
    let mut usage = HashSet::new();
    for (schema, _) in cx.schemas() {
        let acl = schema.acl.clone().unwrap_or_default();
        let is_public = Access::public(&acl).contains(Privileges::USAGE);
        let held = roles.privileges_in(&acl);
        let has_usage = |role: &&Role| {
            is_public || held.get(&role.oid).is_some_and(|p| p.contains(Privileges::USAGE))
        };
        usage.extend(roles.subjects().filter(has_usage).map(|role| (schema.oid, role.oid)));
    }
    usage
}

/// Returns the schemas with relations, each with the workers that have all privileges on every
/// object in it.
fn workers_with_all(cx: &Context<'_>, roles: &Roles<'_>) -> HashSet<(Oid, Oid)> {
    let workers: Vec<&Role> = roles.workers().collect();
    if workers.is_empty() {
        return HashSet::new();
    }
    let mut with_all: OidMap<Vec<&Role>> = OidMap::default();
    for (relation, _) in cx.relations() {
        let wanted = if relation.kind == RelationKind::Sequence {
            Privileges::ALL_ON_SEQUENCE
        } else {
            Privileges::ALL_ON_TABLE
        };
        let held = roles.privileges_in(relation.acl.as_ref().unwrap_or(&Acl::default()));
        with_all.entry(relation.schema).or_insert_with(|| workers.clone()).retain(|role| {
            held.get(&role.oid).is_some_and(|privileges| privileges.contains(wanted))
        });
    }
    for (routine, _) in cx.routines() {
        let acl = routine.acl.as_ref();
        with_all.entry(routine.schema).or_default().retain(|role| {
            let held = cx.access.privileges(role.oid, routine.owner, acl, ObjectKind::Routine);
            held.contains(Privileges::EXECUTE)
        });
    }
    let pairs = |(schema, workers): (Oid, Vec<&Role>)| {
        workers.into_iter().map(move |role| (schema, role.oid)).collect::<Vec<_>>()
    };
    with_all.into_iter().flat_map(pairs).collect()
}

/// Returns the schemas with relations, each with the owners of the relations in it, except for
/// members of extensions.
fn creators(cx: &Context<'_>) -> HashMap<Oid, HashSet<Oid>> {
    let mut creators: HashMap<Oid, HashSet<Oid>> = HashMap::new();
    for (relation, _) in cx.relations() {
        let of_schema = creators.entry(relation.schema).or_default();
        if !cx.snapshot.relation_extension.contains_key(&relation.oid) {
            of_schema.insert(relation.owner);
        }
    }
    creators
}

/// Whether the default privileges of a creating role give a worker all privileges on every new
/// object in a schema. Otherwise the next table would lack privileges that "everything in the
/// schema" declares.
fn gives_all_on_new(
    cx: &Context<'_>,
    roles: &Roles<'_>,
    creator: Oid,
    schema: Oid,
    worker: Oid,
) -> bool {
    let defaults = |object_type: u8| {
        cx.snapshot.default_acls.iter().filter(move |default| {
            (default.role, default.object_type) == (creator, object_type)
                && (default.schema == 0 || default.schema == schema)
        })
    };
    let gives = |object_type: u8, wanted: Privileges| {
        let given = defaults(object_type).fold(Privileges::NONE, |all, default| {
            let held = roles.privileges_in(&default.acl);
            all | held.get(&worker).copied().unwrap_or_default()
        });
        given.contains(wanted)
    };
    // Without default privileges of the role in every schema, PUBLIC has EXECUTE.
    let public_executes = defaults(b'f')
        .find(|default| default.schema == 0)
        .is_none_or(|default| Access::public(&default.acl).contains(Privileges::EXECUTE));
    gives(b'r', Privileges::ALL_ON_TABLE)
        && gives(b'S', Privileges::ALL_ON_SEQUENCE)
        && (public_executes || gives(b'f', Privileges::EXECUTE))
}

impl Objects<'_, '_> {
    /// Returns the privileges of each role on a relation that work, without workers that have all
    /// privileges in the schema. As it is, privileges of PUBLIC count for every role.
    fn grants(&self, relation: &Relation) -> OidMap<Privileges> {
        let acl = relation.acl.as_ref().map_or(&[][..], |acl| acl.as_slice());
        let mut held = self.roles.privileges_in(acl);
        let public = Access::public(acl);
        if self.mode == Mode::AsIs && !public.is_empty() {
            let roles = self.declared_alone(relation.schema).iter();
            for role in roles.filter(|role| self.is_client_or_worker(role.oid)) {
                *held.entry(role.oid).or_default() |= public;
            }
        }
        held.retain(|role, _| self.is_declared_alone(relation.schema, *role));
        for (role, privileges) in &mut held {
            *privileges = self.working(relation, *role, *privileges);
        }
        held
    }

    /// Returns the privileges that work. TRUNCATE, REFERENCES and TRIGGER, with which nothing can
    /// be done on a view, come with the others that do not work.
    fn working(&self, relation: &Relation, role: Oid, held: Privileges) -> Privileges {
        let failing = self.failing.on(Target::Relation(relation.oid), role);
        let working = held & !failing;
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        let accesses_rows =
            Command::ALL.into_iter().any(|command| working.contains(command.privilege()));
        if is_view && !failing.is_empty() && !accesses_rows { Privileges::NONE } else { working }
    }

    /// Whether privileges of a role on objects in a schema are declared object by object.
    fn is_declared_alone(&self, schema: Oid, role: Oid) -> bool {
        self.alone.get(&schema).is_some_and(|alone| alone.oids.contains(&role))
    }

    /// Returns the roles whose privileges on objects in a schema are declared object by object, in
    /// order of name.
    fn declared_alone(&self, schema: Oid) -> &[&Role] {
        self.alone.get(&schema).map_or(&[], |alone| alone.roles.as_slice())
    }

    fn client(&self, role: Oid) -> Option<&Role> {
        self.cx.snapshot.role(role).filter(|_| self.is_client(role))
    }

    fn is_client(&self, role: Oid) -> bool {
        self.roles.is_client(role)
    }

    fn is_worker(&self, role: Oid) -> bool {
        self.roles.is_worker(role)
    }

    fn is_client_or_worker(&self, role: Oid) -> bool {
        self.is_client(role) || self.is_worker(role)
    }

    /// Returns the declaration of a table. A client keeps the privileges that row security
    /// restricts, if a policy allows it some rows. A partition without row security and grants is
    /// not declared.
    fn table(&self, relation: &Relation, schema: &str) -> Option<TableDecl> {
        self.cx.check_interrupts();
        let mut held = self.grants(relation);
        for (role, privileges) in &mut held {
            if let Some(client) = self.client(*role) {
                *privileges = self.restricted_by_policies(relation, client, *privileges);
            }
        }
        let policies = if relation.row_security { self.policies(relation) } else { ByRole::new() };
        let all_rows = self.all_rows(relation, &policies);
        let table = TableDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            row_security: relation.row_security,
            force_row_security: relation.row_security && relation.force_row_security,
            grants: grants_by_name(self.cx, &held),
            column_grants: self.column_grants(relation, &held, |client, privileges| {
                self.restricted_by_policies(relation, client, privileges)
            }),
            policies,
            all_rows,
            keys: self.keys(relation),
            open_rows: self.open_rows(relation),
            append_only_by: vec![],
            privileged: false,
        };
        let is_empty =
            !table.row_security && table.grants.is_empty() && table.column_grants.is_empty();
        (!(relation.is_partition && is_empty)).then_some(table)
    }

    /// Returns the columns by which every way ties rows that clients read to the caller, and those
    /// by which a client changes or deletes rows.
    fn keys(&self, relation: &Relation) -> Vec<String> {
        let exposed = self.exposed(relation);
        let clients = || exposed.iter().copied();
        let read = clients().filter_map(|client| tied_by(self.cx, relation, client));
        let mut keys = read.reduce(|all, columns| &all & &columns).unwrap_or_default();
        if !keys.is_empty() {
            let written = clients().flat_map(|client| ties_of_writes(self.cx, relation, client));
            for columns in written {
                if keys.is_disjoint(columns) {
                    keys.extend(columns.iter().cloned());
                }
            }
        }
        keys.into_iter().collect()
    }

    /// Returns the columns by whose values policies open rows for reading to each client.
    fn open_rows(&self, relation: &Relation) -> ByRole<String> {
        let of_client = |client: &Role| {
            let columns = opened_by(self.cx, relation, client);
            let is_declared = !columns.is_empty()
                && self.declared_commands(relation, client).contains(&Command::Select);
            is_declared.then(|| (client.name.clone(), columns.into_iter().collect()))
        };
        self.exposed(relation).into_iter().filter_map(of_client).collect()
    }

    /// Returns the clients that policies of a relation let reach something: of other clients
    /// nothing is known.
    fn exposed(&self, relation: &Relation) -> Vec<&Role> {
        let policies = self.cx.snapshot.policies_of(relation.oid).iter();
        let exposures = policies.flat_map(|policy| of_policy(self.cx, policy));
        let roles: OidSet = exposures.map(|of| of.role).collect();
        let mut clients: Vec<&Role> = roles.iter().filter_map(|role| self.client(*role)).collect();
        clients.sort_unstable_by_key(|client| &client.name);
        clients
    }

    /// Returns the privileges of a client that are declared: those for which a policy allows rows
    /// and, as it is, those that neither read nor remove rows.
    fn restricted_by_policies(
        &self,
        relation: &Relation,
        client: &Role,
        privileges: Privileges,
    ) -> Privileges {
        if !row_security_restricts(relation, client) {
            return Privileges::NONE;
        }
        let commands = self.declared_commands(relation, client).into_iter();
        let rows = commands.fold(Privileges::NONE, |all, command| all | command.privilege());
        let others = match self.mode {
            Mode::Strict => Privileges::NONE,
            Mode::AsIs => Privileges::REFERENCES | Privileges::TRIGGER | Privileges::MAINTAIN,
        };
        privileges & (rows | others)
    }

    /// Returns the commands that are declared for a client, in the order of [`Command::ALL`].
    pub(super) fn declared_commands(&self, relation: &Relation, client: &Role) -> Vec<Command> {
        let allowed = self.allowed_rows(relation, client);
        let rows = |command: Command| allowed.get(&command).copied();
        let is_declared = |command: Command| self.declares_rows(rows(command), command);
        // UPDATE and DELETE with a WHERE, which are declared, need SELECT as well.
        let needs_select = is_declared(Command::Update) || is_declared(Command::Delete);
        let is_needed = |command: Command| {
            command == Command::Select && needs_select && rows(Command::Select).is_some()
        };
        Command::ALL.into_iter().filter(|c| is_declared(*c) || is_needed(*c)).collect()
    }

    /// Whether a client may have a command that policies allow for these rows. A command for all
    /// rows is declared only as it is, and only to read.
    fn declares_rows(&self, rows: Option<Rows>, command: Command) -> bool {
        match rows {
            Some(Rows::Some) => true,
            Some(Rows::All) => self.mode == Mode::AsIs && command == Command::Select,
            None => false,
        }
    }

    /// Returns which of the privileges that a client holds on an object of this type probably come
    /// from default privileges: from those that it holds completely, because a deliberate grant, or
    /// a revoke, makes a difference. Those of all creating roles count, because owners change.
    pub(super) fn by_default(
        &self,
        client: Oid,
        schema: Oid,
        object_type: u8,
        held: Privileges,
    ) -> Privileges {
        let covers =
            |d: &&DefaultAcl| d.object_type == object_type && (d.schema == 0 || d.schema == schema);
        let items = self.cx.snapshot.default_acls.iter().filter(covers).flat_map(|d| &d.acl);
        items
            .filter(|item| item.grantee == client && held.contains(item.privileges))
            .fold(Privileges::NONE, |all, item| all | item.privileges)
    }

    /// Returns the commands that policies allow to a role, and for which rows: some, where a policy
    /// with a condition is sufficient.
    fn allowed_rows(&self, relation: &Relation, role: &Role) -> HashMap<Command, Rows> {
        let mut allowed = HashMap::new();
        for policy in self.cx.snapshot.policies_of(relation.oid).iter().filter(|p| p.permissive) {
            for command in Command::ALL {
                if !lets_through(self.cx, policy, relation, role, command)
                    || self.opens_by_accident(policy, relation, role, command)
                    || self.cx.closing_policy(relation, role, command).is_some()
                {
                    continue;
                }
                let rows = if is_for_all_rows(self.cx, policy, role, command) {
                    Rows::All
                } else {
                    Rows::Some
                };
                let least = allowed.entry(command).or_insert(rows);
                *least = rows.min(*least);
            }
        }
        allowed
    }

    /// Whether a policy without TO lets anonymous callers write although only default privileges
    /// give them the privilege. Probably neither is intended for them.
    fn opens_by_accident(
        &self,
        policy: &Policy,
        relation: &Relation,
        role: &Role,
        command: Command,
    ) -> bool {
        self.mode == Mode::Strict
            && command != Command::Select
            && self.cx.snapshot.is_anonymous(role)
            && policy.roles.contains(&PUBLIC)
            && {
                let acl = relation.acl.clone().unwrap_or_default();
                let held = self.cx.access.granted(role.oid, &acl);
                let by_default = self.by_default(role.oid, relation.schema, b'r', held);
                by_default.contains(command.privilege())
            }
    }

    /// Returns the commands that policies allow to each role. For clients, policies for all rows
    /// are omitted, except (as it is) to read.
    fn policies(&self, relation: &Relation) -> ByRole<PolicyCommand> {
        let mut policies = ByRole::new();
        // A login role becomes another one before it accesses rows, unless it has privileges.
        let held = self.grants(relation);
        let accesses = |role: &&Role| !self.roles.is_login(role) || held.contains_key(&role.oid);
        for role in self.subjects_of_policies(relation).into_iter().filter(accesses) {
            let commands = if self.is_client(role.oid) {
                self.declared_commands(relation, role)
            } else {
                let allowed = self.allowed_rows(relation, role);
                Command::ALL.into_iter().filter(|c| allowed.contains_key(c)).collect()
            };
            if !commands.is_empty() {
                policies.insert(role.name.clone(), PolicyCommand::names_of(&commands));
            }
        }
        policies
    }

    /// Returns the subjects to which a permissive policy of a relation applies, in order of name.
    fn subjects_of_policies(&self, relation: &Relation) -> Vec<&Role> {
        let policies = self.cx.snapshot.policies_of(relation.oid).iter();
        let named: OidSet =
            policies.filter(|p| p.permissive).flat_map(|p| &p.roles).copied().collect();
        let subjects = self.roles.all_subjects();
        let applies = |named: Oid, role: &Role| {
            named == PUBLIC || self.cx.access.has_privileges_of(role.oid, named)
        };
        let mut found: Vec<usize> = Vec::new();
        for named in named {
            let mut known = self.applying.borrow_mut();
            found.extend_from_slice(known.entry(named).or_insert_with(|| {
                let all = subjects.iter().enumerate();
                all.filter(|(_, role)| applies(named, role)).map(|(at, _)| at).collect()
            }));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| subjects[at]).collect()
    }

    /// Returns the commands of each client among its declared `policies` for which a policy allows
    /// every row; `None` where none of them is a client's.
    fn all_rows(
        &self,
        relation: &Relation,
        policies: &ByRole<PolicyCommand>,
    ) -> Option<ByRole<PolicyCommand>> {
        let of_client = |name: &String| {
            self.cx.snapshot.role_named(name).filter(|role| self.is_client(role.oid))
        };
        let mut clients = policies.keys().filter_map(of_client).peekable();
        clients.peek()?;
        let all_rows = clients.filter_map(|client| {
            let allowed = self.allowed_rows(relation, client);
            let mut commands = self.declared_commands(relation, client);
            commands.retain(|command| allowed.get(command) == Some(&Rows::All));
            (!commands.is_empty())
                .then(|| (client.name.clone(), PolicyCommand::names_of(&commands)))
        });
        Some(all_rows.collect())
    }

    /// Returns the declaration of a view. In strict mode, a client keeps SELECT at most.
    fn view(&self, relation: &Relation, schema: &str) -> ViewDecl {
        self.cx.check_interrupts();
        let mut held = self.grants(relation);
        if self.mode == Mode::Strict {
            for (role, privileges) in &mut held {
                if let Some(client) = self.client(*role) {
                    *privileges = self.kept_on_view(relation, client, *privileges);
                }
            }
        }
        ViewDecl {
            schema: schema.to_owned(),
            name: relation.name.clone(),
            purpose: String::new(),
            materialized: relation.kind == RelationKind::MaterializedView,
            security_invoker: relation.security_invoker,
            definition: None,
            grants: grants_by_name(self.cx, &held),
            column_grants: self.column_grants(relation, &held, |_, privileges| match self.mode {
                Mode::Strict => privileges & Privileges::SELECT,
                Mode::AsIs => privileges,
            }),
        }
    }

    /// Returns the privileges of each role on single columns, without those that it keeps on the
    /// whole relation. `kept` returns which privileges a client keeps.
    fn column_grants(
        &self,
        relation: &Relation,
        on_relation: &OidMap<Privileges>,
        kept: impl Fn(&Role, Privileges) -> Privileges,
    ) -> ColumnGrantsByRole {
        let mut grants = ColumnGrantsByRole::new();
        for (column, acl) in &relation.columns {
            for (role, privileges) in self.roles.privileges_in(acl) {
                let everywhere = on_relation.get(&role).copied().unwrap_or_default();
                let failing = self.failing.on_column(relation.oid, role, column);
                let mut privileges = privileges & Privileges::ON_COLUMN & !everywhere & !failing;
                if let Some(client) = self.client(role) {
                    privileges = kept(client, privileges);
                }
                if !privileges.is_empty() && self.is_declared_alone(relation.schema, role) {
                    let name = self.cx.snapshot.role_name(role);
                    grants.entry(name).or_default().add(privileges, column);
                }
            }
        }
        for role in self.roles.subjects().filter(|_| self.failing.has_instead(relation.oid)) {
            for (privilege, columns) in self.failing.instead(relation.oid, role.oid) {
                let granted = grants.entry(role.name.clone()).or_default();
                columns.iter().for_each(|column| granted.add(*privilege, column));
            }
        }
        grants
    }

    /// Returns the declaration of a sequence on which a role has more than INSERT on its table
    /// needs. In strict mode, UPDATE, which resets a sequence, and default privileges are not
    /// declared for a client.
    fn sequence(&self, relation: &Relation, schema: &str) -> Option<SequenceDecl> {
        let mut held = self.grants(relation);
        if self.mode == Mode::Strict {
            for (role, privileges) in &mut held {
                if self.is_client(*role) {
                    let by_default = self.by_default(*role, relation.schema, b'S', *privileges);
                    *privileges = *privileges & !(by_default | Privileges::UPDATE);
                }
                // USAGE for INSERT on the table need not be declared.
                if relation.owned_by.is_some() && *privileges == Privileges::USAGE {
                    *privileges = Privileges::NONE;
                }
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

    /// Returns the declaration of a routine that is SECURITY DEFINER, or that a role may execute.
    /// In strict mode, a SECURITY DEFINER routine needs an accepted path, and for a client neither
    /// EXECUTE by default privileges counts nor that of PUBLIC, which a worker uses with its own
    /// privileges.
    fn function(&self, routine: &Routine, schema: &str) -> Option<FunctionDecl> {
        self.cx.check_interrupts();
        if self.mode == Mode::Strict && !self.has_accepted_path(routine) {
            return None;
        }
        let held = self.roles.privileges_in(routine.acl.as_ref().unwrap_or(&Acl::default()));
        let is_callable = is_callable_by_public(routine);
        let through_public = |role: Oid| match self.mode {
            Mode::Strict => is_callable && self.is_worker(role),
            Mode::AsIs => is_callable && self.is_client_or_worker(role),
        };
        let executes = |role: &&Role| {
            let held = held.get(&role.oid).copied().unwrap_or_default();
            let by_default = || !self.by_default(role.oid, routine.schema, b'f', held).is_empty();
            let is_intended = self.mode == Mode::AsIs || !self.is_client(role.oid) || !by_default();
            let is_granted = held.contains(Privileges::EXECUTE);
            (is_granted && is_intended || through_public(role.oid))
                && self.failing.on(Target::Routine(routine.oid), role.oid).is_empty()
        };
        let alone = self.declared_alone(routine.schema).iter().copied();
        let execute: Vec<String> = alone.filter(executes).map(|role| role.name.clone()).collect();
        (routine.security_definer || !execute.is_empty()).then(|| FunctionDecl {
            schema: schema.to_owned(),
            name: routine.name.clone(),
            purpose: String::new(),
            arguments: Some(
                argument_types(&self.cx.snapshot.argument_names(routine).join(",")).join(", "),
            ),
            security_definer: Some(routine.security_definer),
            execute,
            all_rows: false,
        })
    }

    /// Whether a routine needs no path, or has a safe one, or the empty one that is accepted.
    fn has_accepted_path(&self, routine: &Routine) -> bool {
        if !routine.security_definer {
            return true;
        }
        let assessment = self.cx.paths.config(&routine.config, routine.owner);
        assessment.verdict == Verdict::Safe || self.accept_empty && assessment.is_empty_path()
    }
}

/// Whether row security applies to a client on a table.
pub(super) fn row_security_restricts(relation: &Relation, client: &Role) -> bool {
    relation.row_security && !client.bypass_rls && !client.superuser
}

/// Whether PUBLIC may execute a routine with the privileges of the caller, and a statement can call
/// it. A SECURITY DEFINER routine that everyone can execute is not declared.
fn is_callable_by_public(routine: &Routine) -> bool {
    let built_in = || ObjectKind::Routine.default_acl(routine.owner);
    let acl = routine.acl.clone().unwrap_or_else(built_in);
    !routine.security_definer
        && !routine.is_trigger
        && Access::public(&acl).contains(Privileges::EXECUTE)
}

/// The rows for which policies allow a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    Some,
    All,
}

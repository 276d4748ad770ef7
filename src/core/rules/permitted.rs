//! What the declared access needs: the routines that policies, views, constraints and defaults call
//! when a role does what the contract declares for it, and the relations that these read.
//!
//! The server checks EXECUTE as the role that runs the statement, also for functions in views. It
//! checks the relations of a view as the owner of the view, unless the view is a security_invoker
//! view, and the relations in a policy as the role for which the table of the policy is checked
//! (rewriteHandler.c, rowsecurity.c). EXECUTE on a routine in an expression requires no USAGE on
//! its schema, because the name was looked up when the expression was created.

use super::context::Context;
use super::needs::{NeedOnRelation, Needs, Why};
use crate::access::Access;
use crate::catalog::{
    Command, Dependencies, Holder, ObjectKind, Oid, OidMap, PartKind, Policy, Privileges, Relation,
    RelationKind, Role, Routine, RoutineKind, Use,
};
use crate::contract::{RoleKind, SchemaDecl};
use crate::sql::identifiers::split_uncut;
use crate::sql::{printable, quote_ident};
use std::collections::HashSet;

/// The role that calls functions and the role for which relations are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Acting {
    caller: Oid,
    checked: Oid,
}

impl Acting {
    fn as_one(role: Oid) -> Self {
        Self { caller: role, checked: role }
    }
}

/// What is read of a relation.
#[derive(Clone, Copy)]
enum Read<'u> {
    /// Whole rows.
    Rows,
    /// One column.
    Column(&'u str),
    /// Any column, for which the first stands.
    AnyColumn(&'u str),
}

/// What has been visited.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Visited {
    Relation(Oid, Command, Acting),
    Write(Oid, Command, Acting),
    Routine(Oid, Oid),
    Type(Oid, Oid, Values),
}

/// What is done with values of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Values {
    /// They are made: the constraints of domains are checked.
    Made,
    /// Statements compare and convert them.
    Used,
}

/// The search for needs, from what the contract declares along the dependencies.
struct Search<'s, 'a> {
    cx: &'s Context<'a>,
    needs: Needs,
    visited: HashSet<Visited>,
}

impl<'s, 'a> Search<'s, 'a> {
    /// Returns what the declared access of all clients and workers needs.
    fn run(cx: &'s Context<'a>) -> Needs {
        let mut search = Self { cx, needs: Needs::default(), visited: HashSet::new() };
        if !cx.snapshot.dependencies.is_empty() {
            let (with_parts, declared) = (search.routines_with_parts(), search.declared());
            for role in &cx.subjects {
                let declared = declared.get(&role.oid).map_or(&[][..], Vec::as_slice);
                search.declared_relations(role, declared);
                search.declared_routines(role, &with_parts);
            }
            let owners = cx.contract.roles_of(RoleKind::Owner);
            for owner in owners.filter_map(|name| cx.snapshot.role_named(name)) {
                search.held_by_owner(owner);
            }
        }
        search.pre_request();
        search.needs
    }

    fn dependencies(&self) -> &'a Dependencies {
        &self.cx.snapshot.dependencies
    }

    /// Returns the privileges that the contract declares on relations, by subject.
    fn declared(&self) -> OidMap<Vec<(&'a Relation, Privileges)>> {
        let cx = self.cx;
        let mut all: OidMap<Vec<(&Relation, Privileges)>> = OidMap::default();
        let others = cx.snapshot.dependencies.relations();
        for relation in cx.snapshot.relations.iter().chain(others) {
            cx.check_interrupts();
            let Some(schema) = cx.governed(relation.schema) else { continue };
            for role in cx.declared_subjects(relation, schema) {
                let declared = cx.declared_on_some_column(relation, schema, role);
                all.entry(role.oid).or_default().push((relation, declared));
            }
        }
        all
    }

    fn declared_relations(&mut self, role: &Role, declared: &[(&Relation, Privileges)]) {
        for (relation, declared) in declared {
            self.cx.check_interrupts();
            for command in Command::ALL.into_iter().filter(|c| declared.contains(c.privilege())) {
                self.relation(relation, command, Acting::as_one(role.oid));
            }
        }
    }

    /// Adds what an owner needs on the tables that it does not own: its views and SECURITY DEFINER
    /// routines access them, and the contract restricts it nowhere.
    fn held_by_owner(&mut self, owner: &Role) {
        let cx = self.cx;
        if owner.superuser {
            return;
        }
        for relation in cx.snapshot.relations.iter().filter(|r| r.owner != owner.oid) {
            cx.check_interrupts();
            if cx.governed(relation.schema).is_some() {
                let held = cx.access.relation_privileges(owner.oid, relation);
                for command in Command::ALL.into_iter().filter(|c| held.contains(c.privilege())) {
                    self.relation(relation, command, Acting::as_one(owner.oid));
                }
            }
        }
    }

    /// Returns the routines of governed schemas that use something, with the declarations of the
    /// schemas.
    fn routines_with_parts(&self) -> Vec<(&'a Routine, &'a SchemaDecl)> {
        let cx = self.cx;
        let all = cx.snapshot.routines.iter().chain(cx.snapshot.dependencies.routines());
        let uses_something =
            |of: &&Routine| !self.dependencies().parts_of(Holder::Routine(of.oid)).is_empty();
        let with_schema = |of: &'a Routine| Some((of, cx.governed(of.schema)?));
        all.filter(uses_something).filter_map(with_schema).collect()
    }

    fn declared_routines(&mut self, role: &Role, with_parts: &[(&Routine, &SchemaDecl)]) {
        for (routine, schema) in with_parts {
            self.cx.check_interrupts();
            if self.cx.declares_execute(routine, schema, role) {
                self.routine(routine.oid, role.oid);
            }
        }
    }

    /// Adds the function that PostgREST calls before each request, as the role of the request.
    fn pre_request(&mut self) {
        let cx = self.cx;
        for login in cx.snapshot.roles.iter().filter(|r| r.can_login && !r.superuser) {
            let Some(setting) = cx.snapshot.setting_of(login.oid, "pgrst.db_pre_request") else {
                continue;
            };
            // Requests become another role than the one that logs in.
            let becomes =
                |r: &&&Role| r.oid != login.oid && cx.access.can_set_role(login.oid, r.oid);
            for routine in called_before_requests(cx, &setting.value) {
                for role in cx.subjects.iter().filter(becomes) {
                    self.needs.add_execute(routine.oid, role.oid, Why::PreRequest);
                    self.routine(routine.oid, role.oid);
                }
            }
        }
    }

    /// Visits what a command on a relation evaluates.
    fn relation(&mut self, relation: &Relation, command: Command, acting: Acting) {
        if !self.visited.insert(Visited::Relation(relation.oid, command, acting)) {
            return;
        }
        let cx = self.cx;
        for policy in cx.policies_of(relation).iter().filter(|p| p.covers(command)) {
            if is_evaluated_for(cx, policy, acting.checked) {
                self.parts(Holder::Policy(policy.oid), relation.oid, acting, |_| true);
            }
        }
        self.rules(relation, command, acting);
        self.operators_of_columns(relation.oid, acting.caller);
        match relation.kind {
            RelationKind::View => self.view(relation, command, acting),
            // The query is executed by REFRESH, as the owner.
            RelationKind::MaterializedView => self.parts(
                Holder::Relation(relation.oid),
                relation.oid,
                Acting::as_one(relation.owner),
                |kind| *kind == PartKind::Query,
            ),
            _ => {}
        }
        if command != Command::Select {
            self.write(relation.oid, command, acting);
        }
    }

    /// Visits the operators and casts of the types of columns: a role that may access the column
    /// may use them in any statement.
    fn operators_of_columns(&mut self, relation: Oid, caller: Oid) {
        let dependencies = self.dependencies();
        for place in dependencies.parts_of(Holder::Relation(relation)) {
            let part = dependencies.part(*place);
            if part.kind == PartKind::Columns {
                for used in &part.uses {
                    if let Use::Type(oid) = used {
                        self.type_of_values(*oid, caller, Values::Used);
                    }
                }
            }
        }
    }

    /// Visits the query of a view, and for a write the table that the view stands for.
    fn view(&mut self, view: &Relation, command: Command, acting: Acting) {
        // A security_invoker view is checked as if the statement had named its relations, also
        // below a view of another owner.
        let checked = if view.security_invoker { acting.caller } else { view.owner };
        let inner = Acting { checked, ..acting };
        if command == Command::Insert {
            // Only WITH CHECK OPTION evaluates the condition of the view.
            self.calls_of_query(view, inner);
        } else {
            self.parts(Holder::Relation(view.oid), view.oid, inner, |k| *k == PartKind::Query);
        }
        if command != Command::Select
            && let Some((part, base)) = self.base_of(view.oid)
        {
            let why = Why::Part { part, on: view.oid };
            let need = NeedOnRelation {
                privileges: command.privilege(),
                column: None,
                is_any: false,
                why,
            };
            self.needs.add_on_relation(base.oid, inner.checked, need);
            self.relation(base, command, inner);
        }
    }

    fn calls_of_query(&mut self, view: &Relation, acting: Acting) {
        let dependencies = self.dependencies();
        for place in dependencies.parts_of(Holder::Relation(view.oid)) {
            let part = dependencies.part(*place);
            if part.kind == PartKind::Query {
                let calls = |used: &&Use| matches!(used, Use::Routine(_) | Use::Type(_));
                for used in part.uses.iter().filter(calls) {
                    self.used(used, Why::Part { part: *place, on: view.oid }, acting);
                }
            }
        }
    }

    /// Returns the only relation in the query of a view: the one that a write changes.
    fn base_of(&self, view: Oid) -> Option<(usize, &'a Relation)> {
        let dependencies = self.dependencies();
        let mut places = dependencies.parts_of(Holder::Relation(view)).iter().copied();
        let place = places.find(|p| dependencies.part(*p).kind == PartKind::Query)?;
        let read: HashSet<Oid> = dependencies
            .part(place)
            .uses
            .iter()
            .filter_map(|used| match used {
                Use::Relation(oid) | Use::Column(oid, _) | Use::AnyColumn(oid, _) => Some(*oid),
                _ => None,
            })
            .collect();
        let only = read.iter().next().filter(|_| read.len() == 1)?;
        Some((place, find_relation(self.cx, *only)?))
    }

    /// Visits the rules of a relation for a command. Their actions are checked as the owner.
    fn rules(&mut self, relation: &Relation, command: Command, acting: Acting) {
        let inner = Acting { checked: relation.owner, ..acting };
        let is_it = |kind: &PartKind| *kind == PartKind::Rule(command);
        self.parts(Holder::Relation(relation.oid), relation.oid, inner, is_it);
    }

    /// Visits what the server evaluates when it writes rows of a table or of its partitions.
    fn write(&mut self, table: Oid, command: Command, acting: Acting) {
        if !self.visited.insert(Visited::Write(table, command, acting)) {
            return;
        }
        let makes_rows = matches!(command, Command::Insert | Command::Update);
        self.parts(Holder::Relation(table), table, acting, |kind| match kind {
            PartKind::Check
            | PartKind::Generated
            | PartKind::Index
            | PartKind::PartitionKey
            | PartKind::Columns => makes_rows,
            PartKind::Default => command == Command::Insert,
            PartKind::TriggerCondition(commands) => commands.contains(&command),
            _ => false,
        });
        for child in self.dependencies().children_of(table) {
            self.write(*child, command, acting);
        }
    }

    /// Visits what the selected parts of an object use.
    fn parts(
        &mut self,
        holder: Holder,
        on: Oid,
        acting: Acting,
        selects: impl Fn(&PartKind) -> bool,
    ) {
        let dependencies = self.dependencies();
        for place in dependencies.parts_of(holder) {
            let part = dependencies.part(*place);
            if selects(&part.kind) {
                for used in &part.uses {
                    self.used(used, Why::Part { part: *place, on }, acting);
                }
            }
        }
    }

    fn used(&mut self, used: &Use, why: Why, acting: Acting) {
        match used {
            Use::Routine(routine) => {
                self.needs.add_execute(*routine, acting.caller, why);
                self.routine(*routine, acting.caller);
            }
            Use::Relation(oid) => self.read(*oid, Read::Rows, why, acting),
            Use::Column(oid, column) => self.read(*oid, Read::Column(column), why, acting),
            Use::AnyColumn(oid, first) => self.read(*oid, Read::AnyColumn(first), why, acting),
            Use::Type(oid) => self.type_of_values(*oid, acting.caller, Values::Made),
        }
    }

    fn read(&mut self, oid: Oid, read: Read<'_>, why: Why, acting: Acting) {
        let Some(relation) = find_relation(self.cx, oid) else { return };
        let (column, is_any) = match read {
            Read::Rows => (None, false),
            Read::Column(column) => (Some(column.to_owned()), false),
            Read::AnyColumn(first) => (Some(first.to_owned()), true),
        };
        if relation.kind == RelationKind::Sequence {
            let privileges = Privileges::USAGE;
            let need = NeedOnRelation { privileges, column: None, is_any: false, why };
            self.needs.add_on_relation(oid, acting.caller, need);
        } else {
            let need = NeedOnRelation { privileges: Privileges::SELECT, column, is_any, why };
            self.needs.add_on_relation(oid, acting.checked, need);
            self.relation(relation, Command::Select, acting);
        }
    }

    /// Visits the parsed body and the defaults of a routine that a role calls.
    fn routine(&mut self, oid: Oid, caller: Oid) {
        let dependencies = self.dependencies();
        let holder = Holder::Routine(oid);
        if dependencies.parts_of(holder).is_empty()
            || !self.visited.insert(Visited::Routine(oid, caller))
        {
            return;
        }
        // An aggregate calls its functions as its owner (nodeAgg.c, `ExecInitAgg`).
        let definer = find_routine(self.cx, oid)
            .filter(|r| r.security_definer || r.kind == RoutineKind::Aggregate);
        let body_runs_as = definer.map_or(caller, |r| r.owner);
        self.parts(holder, 0, Acting::as_one(body_runs_as), |_| true);
        if body_runs_as != caller {
            // The caller evaluates the defaults, which read no relations.
            for place in dependencies.parts_of(holder) {
                let part = dependencies.part(*place);
                let has_defaults = part.kind == PartKind::Routine { has_defaults: true };
                for used in part.uses.iter().filter(|used| {
                    matches!(used, Use::Type(_)) || matches!(used, Use::Routine(_)) && has_defaults
                }) {
                    self.used(used, Why::Part { part: *place, on: 0 }, Acting::as_one(caller));
                }
            }
        }
    }

    /// Visits the constraints of a domain or the operators of a type, also within a type.
    fn type_of_values(&mut self, oid: Oid, caller: Oid, values: Values) {
        let holder = Holder::Type(oid);
        if self.dependencies().parts_of(holder).is_empty()
            || !self.visited.insert(Visited::Type(oid, caller, values))
        {
            return;
        }
        let acting = Acting::as_one(caller);
        match values {
            Values::Made => self.parts(holder, 0, acting, |kind| *kind == PartKind::Type),
            Values::Used => {
                self.parts(holder, 0, acting, |kind| *kind == PartKind::Operators);
                let dependencies = self.dependencies();
                for place in dependencies.parts_of(holder) {
                    for used in &dependencies.part(*place).uses {
                        if let Use::Type(inner) = used {
                            self.type_of_values(*inner, caller, values);
                        }
                    }
                }
            }
        }
    }
}

/// What accesses need that the contract does not declare, access by access.
pub struct AccessNeeds<'s, 'a>(Search<'s, 'a>);

impl<'s, 'a> AccessNeeds<'s, 'a> {
    /// Returns the search in a catalog, before the first access.
    #[must_use]
    pub fn new(cx: &'s Context<'a>) -> Self {
        Self(Search { cx, needs: Needs::default(), visited: HashSet::new() })
    }

    /// Returns what a command of a role on a relation needs beyond the privilege on it, without
    /// what an earlier access needs.
    pub fn of_command(&mut self, relation: &Relation, command: Command, role: Oid) -> Needs {
        self.0.relation(relation, command, Acting::as_one(role));
        std::mem::take(&mut self.0.needs)
    }

    /// Returns what the owner of a relation needs to use and maintain it: to write rows, and to
    /// read or refresh a view; without what an earlier access needs.
    pub fn of_owner(&mut self, relation: &Relation) -> Needs {
        let acting = Acting::as_one(relation.owner);
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        if is_view || relation.force_row_security {
            self.0.relation(relation, Command::Select, acting);
        }
        self.0.operators_of_columns(relation.oid, relation.owner);
        self.0.parts(Holder::Relation(relation.oid), relation.oid, acting, |kind| {
            *kind == PartKind::Statistics
        });
        // REINDEX, ANALYZE and ALTER TABLE evaluate the same expressions as the owner.
        for command in [Command::Insert, Command::Update, Command::Delete] {
            self.0.write(relation.oid, command, acting);
        }
        std::mem::take(&mut self.0.needs)
    }

    /// Returns what the parsed body and the defaults of a routine need when a role calls it,
    /// without what an earlier access needs.
    pub fn of_call(&mut self, routine: Oid, role: Oid) -> Needs {
        self.0.routine(routine, role);
        std::mem::take(&mut self.0.needs)
    }
}

/// Whether the server evaluates a policy for a role. Row security may still be disabled on the
/// table: a plan may enable it.
fn is_evaluated_for(cx: &Context<'_>, policy: &Policy, role: Oid) -> bool {
    cx.access.policy_applies(policy, role)
        && cx.snapshot.role(role).is_some_and(|r| !r.superuser && !r.bypass_rls)
}

pub(super) fn find_relation<'a>(cx: &Context<'a>, oid: Oid) -> Option<&'a Relation> {
    cx.snapshot.relation(oid).or_else(|| cx.snapshot.dependencies.relation(oid))
}

pub(super) fn find_routine<'a>(cx: &Context<'a>, oid: Oid) -> Option<&'a Routine> {
    cx.snapshot.routine(oid).or_else(|| cx.snapshot.dependencies.routine(oid))
}

/// Returns the functions without required arguments that a value of `pgrst.db_pre_request` names,
/// with its schema. Without a schema, search_path decides when the request runs: then those of the
/// governed schemas.
fn called_before_requests<'a>(cx: &Context<'a>, value: &str) -> Vec<&'a Routine> {
    let parts: Option<Vec<String>> =
        value.split('.').map(|part| split_uncut(part, cx.snapshot.version).ok()?.pop()).collect();
    let (schema, name) = match parts.as_deref() {
        Some([schema, name]) => (cx.snapshot.schema_named(schema).map(|s| s.oid), name.clone()),
        Some([name]) => (None, name.clone()),
        _ => return vec![],
    };
    let is_there = |routine: &&Routine| {
        routine.name == name
            && schema.map_or_else(
                || cx.governed(routine.schema).is_some(),
                |schema| routine.schema == schema,
            )
    };
    let others = cx.snapshot.dependencies.routines();
    cx.snapshot.routines.iter().chain(others).filter(is_there).collect()
}

impl<'a> Context<'a> {
    /// Returns what the declared access of all roles needs, determined when it is first asked for.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        self.needs.get_or_init(|| Search::run(self))
    }

    /// Whether a role may have EXECUTE on a routine of a governed schema: the contract declares it,
    /// or something that the contract declares for a role needs it.
    #[must_use]
    pub fn permits_execute(&self, routine: &Routine, schema: &SchemaDecl, role: &Role) -> bool {
        self.declares_execute(routine, schema, role)
            || self.why_execute(routine.oid, role.oid).is_some()
    }

    /// Returns EXECUTE if [`Self::permits_execute`], otherwise no privileges.
    #[must_use]
    pub fn permitted_execute(
        &self,
        routine: &Routine,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        if self.permits_execute(routine, schema, role) {
            Privileges::EXECUTE
        } else {
            Privileges::NONE
        }
    }

    /// Returns the privileges that a role may have on a whole relation: those that the contract
    /// declares, and those that something declared needs. Where only some columns are read, SELECT
    /// is permitted on these columns alone, see [`Self::permitted_on_column`]. MAINTAIN is
    /// permitted with all others.
    #[must_use]
    pub fn permitted_on_relation(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        self.needed_on_relation(relation, schema, role).with_maintain(self.snapshot.version)
    }

    /// Returns the privileges that a role must not lose on a whole relation: those that the
    /// contract declares, and those that something declared needs.
    #[must_use]
    pub fn needed_on_relation(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        self.declared_on_relation(relation, schema, role)
            | self.needed_on(relation.oid, role.oid, |column| column.is_none())
    }

    /// Returns the privileges that a role may have on a relation or on some column of it.
    #[must_use]
    pub fn permitted_on_some_column(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        self.declared_on_some_column(relation, schema, role)
            | self.needed_on(relation.oid, role.oid, |_| true)
    }

    /// Returns the privileges that a role may have on a column beyond those on the relation.
    #[must_use]
    pub fn permitted_on_column(
        &self,
        relation: &Relation,
        column: &str,
        role: &Role,
    ) -> Privileges {
        self.needed_on(relation.oid, role.oid, |known| known == Some(column))
    }

    /// Returns the columns of a relation on which a role needs SELECT, each once.
    #[must_use]
    pub fn needed_columns(&self, relation: Oid, role: Oid) -> Vec<&str> {
        let needs = self.needs_of(relation, role);
        let reads = needs.filter(|need| need.privileges.contains(Privileges::SELECT));
        let mut columns: Vec<&str> = reads.filter_map(|need| need.column.as_deref()).collect();
        columns.dedup();
        columns
    }

    /// Returns the column of a relation on which a role may have SELECT because it needs it on any
    /// column; `None` where it does not.
    #[must_use]
    pub fn needed_any_column(&self, relation: Oid, role: Oid) -> Option<&str> {
        self.needs_of(relation, role).find(|need| need.is_any)?.column.as_deref()
    }

    /// Returns what a role needs on a relation. Where any column would do, it is the first, unless
    /// the role may read another column anyway: nothing more is needed then.
    fn needs_of(&self, relation: Oid, role: Oid) -> impl Iterator<Item = &NeedOnRelation> {
        let needs = self.needs().on_relation(relation).iter();
        let of_role = needs.filter(move |(of, _)| *of == role).map(|(_, need)| need);
        of_role.filter(move |need| !(need.is_any && self.reads_a_column(relation, role)))
    }

    /// Whether the contract declares SELECT on some column of a relation for a role, or something
    /// declared reads certain columns or whole rows of it.
    fn reads_a_column(&self, oid: Oid, role: Oid) -> bool {
        let mut needs = self.needs().on_relation(oid).iter();
        let select = Privileges::SELECT;
        let declared = || {
            let relation = find_relation(self, oid)?;
            let (schema, role) = (self.governed(relation.schema)?, self.snapshot.role(role)?);
            Some(self.declared_on_some_column(relation, schema, role))
        };
        needs.any(|(of, need)| *of == role && !need.is_any && need.privileges.contains(select))
            || declared().is_some_and(|declared| declared.contains(select))
    }

    /// Returns the privileges that a role needs on a relation, or on the selected columns.
    pub(crate) fn needed_on(
        &self,
        relation: Oid,
        role: Oid,
        selects: impl Fn(Option<&str>) -> bool,
    ) -> Privileges {
        self.needs_of(relation, role)
            .filter(|need| selects(need.column.as_deref()))
            .fold(Privileges::NONE, |all, need| all | need.privileges)
    }

    /// Returns why a role needs EXECUTE on a routine; `None` where it does not.
    #[must_use]
    pub fn why_execute(&self, routine: Oid, role: Oid) -> Option<Why> {
        self.needs().execute(routine).iter().find(|(of, _)| *of == role).map(|(_, why)| *why)
    }

    /// Returns why a role needs a privilege on a relation or on some of its columns; `None` where
    /// it does not.
    #[must_use]
    pub fn why_on_relation(&self, relation: Oid, role: Oid, privileges: Privileges) -> Option<Why> {
        self.needs_of(relation, role)
            .find(|need| need.privileges.intersects(privileges))
            .map(|need| need.why)
    }

    /// Returns what needs a privilege as a part of a sentence after `by`: `policy p on
    /// public.docs`, `view public.v`.
    #[must_use]
    pub fn user(&self, why: Why) -> String {
        let Why::Part { part, on } = why else {
            return "PostgREST before each request (pgrst.db_pre_request)".to_owned();
        };
        let part = self.snapshot.dependencies.part(part);
        let relation = find_relation(self, on)
            .map_or_else(String::new, |r| self.snapshot.relation_identity(r));
        let name = quote_ident(&part.name);
        let text = match (&part.kind, part.holder) {
            (PartKind::Policy, _) => format!("policy {name} on {relation}"),
            (PartKind::Query, _) => match find_relation(self, on).map(|r| r.kind) {
                Some(RelationKind::MaterializedView) => format!("materialized view {relation}"),
                _ => format!("view {relation}"),
            },
            (PartKind::Rule(_), _) => format!("rule {name} on {relation}"),
            (PartKind::Check, _) => format!("constraint {name} on {relation}"),
            (PartKind::Default, _) => format!("the default of column {relation}.{name}"),
            (PartKind::Generated, _) => format!("generated column {relation}.{name}"),
            (PartKind::Index, _) => format!("index {name} on {relation}"),
            (PartKind::PartitionKey, _) => format!("the partition key of {relation}"),
            (PartKind::Statistics, _) => format!("statistics {name} on {relation}"),
            (PartKind::TriggerFunction | PartKind::TriggerCondition(_), _) => {
                format!("trigger {name} on {relation}")
            }
            (PartKind::EventTrigger, _) => format!("event trigger {name}"),
            (PartKind::Columns, _) => format!("a column type of {relation}"),
            (PartKind::Type, _) => format!("domain {name}"),
            (PartKind::TypeFunctions, _) => format!("type {name}"),
            (PartKind::Operators, _) => format!("an operator or a cast of type {name}"),
            (PartKind::Routine { .. }, Holder::Routine(oid)) => find_routine(self, oid)
                .map_or_else(
                    || format!("function {name}"),
                    |r| format!("{} {}", r.object_type(), self.snapshot.routine_message(r)),
                ),
            (PartKind::Routine { .. }, _) => format!("function {name}"),
        };
        printable(&text).into_owned()
    }

    /// Returns the policies of a relation, listed in the snapshot or not.
    pub(crate) fn policies_of(&self, relation: &Relation) -> &'a [Policy] {
        if self.snapshot.relation(relation.oid).is_some() {
            self.snapshot.policies_of(relation.oid)
        } else {
            self.snapshot.dependencies.policies_of(relation.oid)
        }
    }

    /// Returns the roles that need EXECUTE on a routine and for which nothing declares it: what
    /// uses the routine, and the roles, in order of name.
    #[must_use]
    pub fn users_of(&self, routine: Oid) -> Vec<(String, Vec<String>)> {
        let mut users: Vec<(String, Vec<String>)> = Vec::new();
        for (role, why) in self.needs().execute(routine) {
            let (user, role) = (self.user(*why), self.snapshot.role_name(*role));
            match users.iter_mut().find(|(known, _)| *known == user) {
                Some((_, roles)) => roles.push(role),
                None => users.push((user, vec![role])),
            }
        }
        users.iter_mut().for_each(|(_, roles)| roles.sort());
        users
    }

    /// Whether PUBLIC, a client or a worker has USAGE on a schema, or the contract declares it for
    /// a role. No statement of a role can name a routine in another schema.
    #[must_use]
    pub fn is_reachable(&self, schema: Oid) -> bool {
        let (Some(declared), Some(found)) = (self.governed(schema), self.snapshot.schema(schema))
        else {
            return true;
        };
        !declared.usage.is_empty()
            || self.subjects.iter().any(|role| {
                self.access
                    .privileges(role.oid, found.owner, found.acl.as_ref(), ObjectKind::Schema)
                    .contains(Privileges::USAGE)
            })
            || found.acl.as_ref().is_some_and(|acl| Access::public(acl).contains(Privileges::USAGE))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::super::{
        column_privileges, routine_executable_by_public, routine_privileges,
        security_definer_executable_by_clients, table_privileges,
    };
    use super::*;
    use crate::catalog::{AclItem, Part, RoleSetting};
    use std::rc::Rc;

    const HELPER: Oid = 7_001;
    const INNER: Oid = 7_002;

    /// Returns a conforming world with two invoker functions in schema public, which only their
    /// owner can execute.
    fn world() -> World {
        let mut world = World::conforming();
        let (schema, owner) = (world.schema("public").oid, world.role("postgres").oid);
        for (oid, name) in [(HELPER, "helper"), (INNER, "inner")] {
            let name = name.into();
            let routine = Routine {
                oid,
                name,
                schema,
                owner,
                acl: Some(vec![].into()),
                ..Routine::default()
            };
            world.snapshot.routines.push(routine);
            // The worker may execute everything in the schema.
            let worker = world.role("service_role").oid;
            let name = if oid == HELPER { "helper" } else { "inner" };
            execute(&mut world, name, worker);
        }
        world
    }

    fn execute(world: &mut World, routine: &str, grantee: Oid) {
        let routine = world.routine(routine);
        let (grantor, privileges) = (routine.owner, Privileges::EXECUTE);
        let item = AclItem { grantee, grantor, privileges, grantable: Privileges::NONE };
        routine.acl.get_or_insert_default().push(item);
    }

    fn part(holder: Holder, kind: PartKind, name: &str, uses: Vec<Use>) -> Part {
        Part { holder, kind, name: name.into(), uses }
    }

    fn set(world: &mut World, parts: Vec<Part>) {
        world.snapshot.dependencies = Rc::new(Dependencies::new(parts, &[]));
    }

    /// Returns the roles that need EXECUTE on a routine, with the reasons.
    fn needing(world: &World, routine: Oid) -> Vec<String> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        let mut found: Vec<String> = cx
            .needs()
            .execute(routine)
            .iter()
            .map(|(role, why)| format!("{}: {}", snapshot.role_name(*role), cx.user(*why)))
            .collect();
        found.sort();
        found
    }

    /// Returns the policy of authenticated for SELECT on public.judgments.
    fn policy(world: &mut World) -> Oid {
        let table = world.relation("public.judgments").oid;
        let authenticated = world.role("authenticated").oid;
        let mut policies = world.snapshot.policies.iter();
        let is_it = |p: &&Policy| p.relation == table && p.roles == [authenticated];
        policies.find(is_it).expect("a policy").oid
    }

    #[test]
    fn function_in_policy_is_permitted_for_the_roles_of_the_policy_only() {
        let mut world = world();
        let policy = policy(&mut world);
        let holder = Holder::Policy(policy);
        set(&mut world, vec![part(holder, PartKind::Policy, "p", vec![Use::Routine(HELPER)])]);
        for role in ["anon", "authenticated"] {
            let role = world.role(role).oid;
            execute(&mut world, "helper", role);
        }
        assert_eq!(
            world.found(&routine_privileges::RULE),
            ["warning function public.helper() anon: Role \"anon\" has EXECUTE on function \
              public.helper(), which the contract does not declare. It is called by policy p on \
              public.judgments as \"authenticated\". => REVOKE EXECUTE ON ROUTINE \
              public.helper() FROM anon;"]
        );
        world.routine("helper").acl = None;
        assert_eq!(
            world.fixes(&routine_executable_by_public::RULE),
            ["GRANT EXECUTE ON ROUTINE public.helper() TO authenticated, service_role;\n\
              REVOKE EXECUTE ON ROUTINE public.helper() FROM PUBLIC;"]
        );
        world.routine("helper").security_definer = true;
        let found = world.findings(&security_definer_executable_by_clients::RULE);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].role(), Some("PUBLIC"));
        world.routine("helper").acl = Some(vec![].into());
        let authenticated = world.role("authenticated").oid;
        execute(&mut world, "helper", authenticated);
        assert_eq!(
            world.found(&security_definer_executable_by_clients::RULE),
            ["info function public.helper() authenticated: Role \"authenticated\" has EXECUTE on \
              function public.helper(), which the contract does not declare. It is permitted \
              because policy p on public.judgments calls the routine, which also lets the role \
              call it directly."]
        );
        // The policy is dropped: the privilege is one too many.
        world.snapshot.policies.retain(|p| p.oid != policy);
        assert_eq!(needing(&world, HELPER), [""; 0]);
    }

    #[test]
    fn function_in_view_of_view_is_called_as_the_reader_and_tables_are_read_as_the_owner() {
        let mut world = world();
        let (outer, inner) = (
            world.relation("public.v_judgment_pipeline").oid,
            world.relation("ops.v_reaper_status").oid,
        );
        let table = world.relation("ops.outbox").oid;
        let uses = vec![Use::Column(table, "id".into()), Use::Routine(HELPER)];
        let query = |oid, uses| part(Holder::Relation(oid), PartKind::Query, "_RETURN", uses);
        set(&mut world, vec![query(outer, vec![Use::Relation(inner)]), query(inner, uses)]);
        assert_eq!(
            needing(&world, HELPER),
            ["anon", "authenticated", "service_role"]
                .map(|role| format!("{role}: view ops.v_reaper_status"))
        );
        let anon = world.role("anon").oid;
        world.grant("ops.outbox", anon, Privileges::SELECT);
        assert_eq!(
            world.fixes(&table_privileges::RULE),
            ["REVOKE SELECT ON TABLE ops.outbox FROM anon;"],
            "the owner of the view reads the table"
        );
        world.relation("ops.v_reaper_status").security_invoker = true;
        assert_eq!(
            world.fixes(&table_privileges::RULE),
            ["REVOKE SELECT ON TABLE ops.outbox FROM anon;\n\
              GRANT SELECT (id) ON TABLE ops.outbox TO anon;"],
            "anon reads the column"
        );
        let item = AclItem {
            grantee: anon,
            grantor: world.role("postgres").oid,
            privileges: Privileges::SELECT,
            grantable: Privileges::NONE,
        };
        let columns = ["id", "payload"].map(|column| (column.to_owned(), vec![item].into()));
        world.relation("ops.outbox").columns.extend(columns);
        assert_eq!(
            world.fixes(&column_privileges::RULE),
            ["REVOKE SELECT (payload) ON TABLE ops.outbox FROM anon;"]
        );
    }

    #[test]
    fn policy_that_counts_rows_permits_select_on_the_first_column_only() {
        let mut world = world();
        let policy = policy(&mut world);
        let table = world.relation("ops.outbox").oid;
        let counts = Use::AnyColumn(table, "id".into());
        let part = part(Holder::Policy(policy), PartKind::Policy, "p", vec![counts]);
        set(&mut world, vec![part.clone()]);
        let authenticated = world.role("authenticated").oid;
        world.grant_column("ops.outbox", "id", authenticated, Privileges::SELECT);
        assert_eq!(world.fixes(&column_privileges::RULE), [""; 0]);
        world.grant_column("ops.outbox", "payload", authenticated, Privileges::SELECT);
        let revoke = "REVOKE SELECT (payload) ON TABLE ops.outbox FROM authenticated;";
        assert_eq!(world.fixes(&column_privileges::RULE), [revoke]);
        // Another column would do, but the declared access must not lose it.
        world.relation("ops.outbox").columns.retain(|(name, _)| name == "payload");
        let grant = "GRANT SELECT (id) ON TABLE ops.outbox TO authenticated;";
        assert_eq!(world.fixes(&column_privileges::RULE), [format!("{revoke}\n{grant}")]);
        world.relation("ops.outbox").columns.clear();
        world.grant("ops.outbox", authenticated, Privileges::SELECT);
        assert_eq!(
            world.fixes(&table_privileges::RULE),
            [format!("REVOKE SELECT ON TABLE ops.outbox FROM authenticated;\n{grant}")]
        );
        // Something else reads a column: then nothing more is needed.
        let uses = [part.uses.clone(), vec![Use::Column(table, "kind".into())]].concat();
        set(&mut world, vec![Part { uses, ..part }]);
        assert_eq!(
            world.fixes(&table_privileges::RULE),
            ["REVOKE SELECT ON TABLE ops.outbox FROM authenticated;\n\
              GRANT SELECT (kind) ON TABLE ops.outbox TO authenticated;"]
        );
    }

    #[test]
    fn write_evaluates_checks_and_domains_and_insert_evaluates_defaults() {
        let mut world = world();
        let table = world.relation("intake.simplicity_batches").oid;
        let (relation, domain) = (Holder::Relation(table), Holder::Type(9_100));
        set(
            &mut world,
            vec![
                part(relation, PartKind::Columns, "", vec![Use::Type(9_100)]),
                part(domain, PartKind::Type, "d", vec![Use::Routine(HELPER)]),
                part(relation, PartKind::Default, "id", vec![Use::Routine(INNER)]),
            ],
        );
        let roles = ["authenticated", "service_role"];
        assert_eq!(needing(&world, HELPER), roles.map(|role| format!("{role}: domain d")));
        assert_eq!(
            needing(&world, INNER),
            roles.map(|r| format!("{r}: the default of column intake.simplicity_batches.id"))
        );
        let table = world.contract.tables.iter_mut().find(|t| t.name == "simplicity_batches");
        table.expect("a table").grants.remove("authenticated");
        assert_eq!(needing(&world, INNER).len(), 1, "authenticated cannot write");
    }

    #[test]
    fn operators_of_column_types_are_needed_by_roles_that_may_access_the_columns() {
        let mut world = world();
        let table = world.relation("intake.simplicity_batches").oid;
        let (relation, outer, inner) = (Holder::Relation(table), 9_100, 9_101);
        let operators = |of, used| part(Holder::Type(of), PartKind::Operators, "t", vec![used]);
        set(
            &mut world,
            vec![
                part(relation, PartKind::Columns, "", vec![Use::Type(outer)]),
                part(Holder::Type(outer), PartKind::Type, "outer", vec![Use::Type(inner)]),
                operators(inner, Use::Routine(HELPER)),
                operators(9_102, Use::Routine(INNER)),
            ],
        );
        let roles = ["authenticated", "service_role"];
        assert_eq!(
            needing(&world, HELPER),
            roles.map(|role| format!("{role}: an operator or a cast of type t"))
        );
        assert_eq!(needing(&world, INNER), [""; 0], "no column has the type");
        let table = world.contract.tables.iter_mut().find(|t| t.name == "simplicity_batches");
        table.expect("a table").grants.remove("authenticated");
        assert_eq!(needing(&world, HELPER).len(), 1, "authenticated has no access");
    }

    #[test]
    fn body_of_definer_runs_as_its_owner_and_that_of_invoker_as_the_caller() {
        let mut world = world();
        let policy = policy(&mut world);
        let body = PartKind::Routine { has_defaults: false };
        set(
            &mut world,
            vec![
                part(Holder::Policy(policy), PartKind::Policy, "p", vec![Use::Routine(HELPER)]),
                part(Holder::Routine(HELPER), body, "helper", vec![Use::Routine(INNER)]),
            ],
        );
        let by_helper = |role: &str| format!("{role}: function public.helper()");
        assert!(needing(&world, INNER).contains(&by_helper("authenticated")));
        world.routine("helper").security_definer = true;
        let found = needing(&world, INNER);
        assert!(!found.contains(&by_helper("authenticated")), "{found:?}");
        assert!(found.contains(&by_helper("postgres")), "{found:?}");
    }

    #[test]
    fn function_called_before_requests_is_needed_by_the_roles_of_requests() {
        let mut world = world();
        world.add_role("authenticator");
        world.role("authenticator").can_login = true;
        world.grant_role("authenticated", "authenticator");
        let role = Some(world.role("authenticator").oid);
        world.snapshot.settings.push(RoleSetting {
            role,
            database: None,
            name: "pgrst.db_pre_request".into(),
            value: "public.helper".into(),
        });
        assert_eq!(
            needing(&world, HELPER),
            ["authenticated: PostgREST before each request (pgrst.db_pre_request)"]
        );
    }

    #[test]
    fn execute_in_a_schema_without_usage_is_information_and_trigger_functions_are_no_finding() {
        let mut world = world();
        let anon = world.role("anon").oid;
        execute(&mut world, "helper", anon);
        assert!(world.found(&routine_privileges::RULE)[0].starts_with("warning"));
        world.routine("helper").is_trigger = true;
        assert_eq!(world.found(&routine_privileges::RULE), [""; 0]);
        world.routine("helper").is_trigger = false;
        let public = world.contract.schemas.iter_mut().find(|s| s.name == "public");
        public.expect("a schema").usage.clear();
        world.schema("public").acl = Some(vec![].into());
        assert!(world.found(&routine_privileges::RULE)[0].starts_with("info"));
    }
}

//! The privileges that the bodies of routines use: of those that run because of what the contract
//! declares, directly, as triggers of declared writes, or called by such a body. The server checks
//! these privileges only when the body runs, so they are not among those that the declared access
//! needs ([`crate::rules::Needs`]); the text of the body tells which objects it mentions.
//!
//! What policies and bodies find out about memberships, as with `pg_has_role()`, is a use as well.
//! So is what the owner of a relation needs for it, whether or not the contract declares the
//! relation: to refresh a materialized view, to write rows or to maintain an index.

use super::effects::{self, Effect};
use crate::access::{Access, Follow};
use crate::catalog::{
    self, Command, Holder, ObjectId, ObjectKind, Oid, PUBLIC, PartKind, Privileges, Relation,
    RelationKind, Role, Routine, Schema, tells_of_memberships,
};
use crate::contract::RoleKind;
use crate::rules::{AccessNeeds, Context, Needs};
use crate::search_path::settings;
use crate::sql::body::{Language, Mentions};
use crate::sql::{listed, printable, safe_ident};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The text of a routine.
#[derive(Debug, Clone)]
pub struct Text {
    /// What it is written in.
    pub language: Language,
    /// The text.
    pub source: String,
}

/// The code in a database, as far as a plan has to know it.
#[derive(Debug, Clone, Default)]
pub struct Code {
    /// The texts of routines whose names are looked up when they run.
    pub texts: HashMap<Oid, Text>,
    /// The schemas and names of these routines: a snapshot does not list all of them.
    pub names: HashMap<Oid, (Oid, String)>,
    /// The table and the function of each trigger.
    pub triggers: Vec<(Oid, Oid)>,
    /// The operators that users created: function and name.
    pub operators: Vec<(Oid, String)>,
    /// The views whose queries call a built-in function that tells of memberships.
    pub asking_views: HashSet<Oid>,
    /// The routines with a parsed body that calls such a function.
    pub asking_bodies: HashSet<Oid>,
}

/// A role, an object, and the column for a privilege on a column only.
type Key = (Oid, ObjectId, Option<String>);

/// What uses a privilege.
#[derive(Debug, Clone, Copy)]
enum User {
    /// The body of this routine.
    Body(Oid),
    /// This relation, for which its owner needs the privilege.
    Relation(Oid),
}

/// A privilege that a role has, and that something uses as this role.
#[derive(Debug, Clone)]
struct Use {
    privileges: Privileges,
    /// What was found first.
    user: User,
    /// For a table whose row security does not apply to the role, whether it is enabled.
    all_rows: Option<bool>,
}

/// The privileges on an object, or on columns of it, that are used as an owner.
#[derive(Debug)]
pub(super) struct OwnerUse {
    pub role: Oid,
    pub privileges: Privileges,
    /// None for the object itself.
    pub columns: Vec<String>,
}

/// What asks for the memberships of a role. Of several, messages name the first in this order: that
/// in which a server happens to have rows decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    /// The body of this routine.
    Body(Oid),
    /// A policy on this table.
    PolicyOn(Oid),
    /// The query of this view.
    View(Oid),
}

/// The memberships that a role has and that something declared asks for.
#[derive(Debug, Clone)]
struct Asked {
    /// The roles that it is a member of.
    roles: BTreeSet<Oid>,
    /// What was found first.
    asker: Asker,
}

/// The privileges that bodies use, and the memberships that bodies and policies ask for.
#[derive(Debug, Clone, Default)]
pub struct Uses {
    found: BTreeMap<Oid, HashMap<Key, Use>>,
    /// By member.
    memberships: BTreeMap<Oid, Asked>,
    /// The routines whose bodies run because of what the contract declares.
    pub bodies: BTreeSet<Oid>,
    /// The names of bodies of routines that the snapshot does not list.
    names: HashMap<Oid, String>,
}

impl Uses {
    /// Returns what the bodies use that run because of what the contract declares, as far as the
    /// roles that they run as have the privileges.
    #[must_use]
    pub fn of(cx: &Context<'_>, code: &Code) -> Self {
        let mut search = Search::new(cx, code);
        search.begin();
        while let Some((routine, role)) = search.waiting.pop() {
            cx.check_interrupts();
            search.body(routine, role);
        }
        search.uses
    }

    /// Returns the privileges on an object that are used as a declared owner: by the bodies of
    /// SECURITY DEFINER routines, and for relations.
    pub(super) fn of_owners(&self, cx: &Context<'_>, object: ObjectId) -> Vec<OwnerUse> {
        let is_owner = |role: Oid| {
            let role = cx.snapshot.role(role);
            role.is_some_and(|r| cx.contract.kind_of(&r.name) == Some(RoleKind::Owner))
        };
        let owners = self.found.iter().filter(|(role, _)| is_owner(**role));
        let mut found: BTreeMap<(Oid, bool, Privileges), Vec<String>> = BTreeMap::new();
        for ((role, _, column), used) in
            owners.flat_map(|(_, uses)| uses).filter(|(key, _)| key.1 == object)
        {
            let columns = found.entry((*role, column.is_some(), used.privileges)).or_default();
            columns.extend(column.clone());
        }
        let of_role =
            |((role, _, privileges), mut columns): ((Oid, bool, Privileges), Vec<String>)| {
                columns.sort();
                OwnerUse { role, privileges, columns }
            };
        found.into_iter().map(of_role).collect()
    }

    /// Returns the privileges that bodies use and that their roles do not have in a catalog, and
    /// the memberships that are asked for and do not exist in it.
    #[must_use]
    pub fn lost(&self, cx: &Context<'_>) -> Vec<Effect> {
        let mut lost = Vec::new();
        for ((role, object, column), used) in self.found.values().flatten() {
            let Some(role) = cx.snapshot.role(*role) else { continue };
            let Some(held) = held_on(cx, role.oid, *object, column.as_deref()) else { continue };
            let missing = used.privileges & !held;
            if !missing.is_empty() {
                lost.extend(self.effect(
                    cx,
                    role,
                    (*object, column.as_deref()),
                    (missing, used.user),
                ));
            }
            lost.extend(self.hidden(cx, role, *object, used));
        }
        for (member, asked) in &self.memberships {
            let Some(member) = cx.snapshot.role(*member) else { continue };
            let still = cx.access.closure(member.oid, Follow::Members);
            let ended = asked.roles.iter().filter(|role| !still.contains(role));
            lost.extend(ended.filter_map(|role| self.unasked(cx, member, *role, asked.asker)));
        }
        lost.sort_by(|a, b| (&a.object, &a.detail).cmp(&(&b.object, &b.detail)));
        lost
    }

    /// Returns the effect that a role is no longer a member of another role.
    fn unasked(&self, cx: &Context<'_>, member: &Role, role: Oid, asker: Asker) -> Option<Effect> {
        let role = cx.snapshot.role(role)?;
        let asker = match asker {
            Asker::PolicyOn(table) => {
                let table = cx.snapshot.relation(table)?;
                format!("a policy on table {}", cx.snapshot.relation_sql(table))
            }
            Asker::View(view) => {
                let view = cx.snapshot.relation(view)?;
                format!("{} {}", view.kind.object_type(), cx.snapshot.relation_sql(view))
            }
            Asker::Body(routine) => self.described(cx, User::Body(routine)),
        };
        let object = Context::role_object(&role.name);
        Some(Effect {
            object: (object.object_type, object.identity),
            detail: format!(
                "Role \"{}\" would no longer be a member of role \"{}\", which {asker} may find \
                 out and depend on.",
                printable(&member.name),
                printable(&role.name)
            ),
        })
    }

    /// Returns the effect that row security hides the rows of a table that a body uses.
    fn hidden(
        &self,
        cx: &Context<'_>,
        role: &Role,
        object: ObjectId,
        used: &Use,
    ) -> Option<Effect> {
        let (ObjectId::Relation(oid), Some(is_enabled)) = (object, used.all_rows) else {
            return None;
        };
        let relation = cx.snapshot.relation(oid)?;
        let commands = effects::hidden_rows(cx, relation, role, is_enabled, used.privileges);
        let object = cx.relation_object(relation);
        (!commands.is_empty()).then(|| Effect {
            object: (object.object_type, object.identity),
            detail: format!(
                "No declared policy on table {} would allow role \"{}\" to {}, which {} may do as \
                 this role.",
                cx.snapshot.relation_sql(relation),
                printable(&role.name),
                listed(&commands),
                self.described(cx, used.user)
            ),
        })
    }

    /// Returns what uses a privilege, in a sentence.
    fn described(&self, cx: &Context<'_>, user: User) -> String {
        let (snapshot, dependencies) = (cx.snapshot, &cx.snapshot.dependencies);
        match user {
            User::Body(oid) => {
                let routine = snapshot.routine(oid).or_else(|| dependencies.routine(oid));
                let name =
                    |r: &Routine| format!("{} {}", r.object_type(), snapshot.routine_message(r));
                format!(
                    "the body of {}",
                    routine
                        .map(name)
                        .or_else(|| self.names.get(&oid).cloned())
                        .unwrap_or_else(|| "a routine".to_owned())
                )
            }
            User::Relation(oid) => {
                let relation = snapshot.relation(oid).or_else(|| dependencies.relation(oid));
                let name =
                    |r: &Relation| format!("{} {}", r.kind.object_type(), snapshot.relation_sql(r));
                relation.map_or_else(|| "a relation".to_owned(), name)
            }
        }
    }

    /// Returns the effect that a role loses what a body uses.
    fn effect(
        &self,
        cx: &Context<'_>,
        role: &Role,
        (object, column): (ObjectId, Option<&str>),
        (missing, user): (Privileges, User),
    ) -> Option<Effect> {
        let snapshot = cx.snapshot;
        let (object, name) = match object {
            ObjectId::Relation(oid) => {
                let relation = snapshot.relation(oid)?;
                let kind = relation.kind.object_type();
                (
                    cx.relation_object(relation),
                    format!("{kind} {}", snapshot.relation_sql(relation)),
                )
            }
            ObjectId::Routine(oid) => {
                let routine = snapshot.routine(oid)?;
                let kind = routine.object_type();
                (
                    cx.routine_object(routine),
                    format!("{kind} {}", snapshot.routine_message(routine)),
                )
            }
            ObjectId::Schema(oid) => {
                let name = &snapshot.schema(oid)?.name;
                (Context::schema_object(name), format!("schema {}", safe_ident(name)))
            }
            _ => return None,
        };
        let name = match column {
            Some(column) => format!("column \"{}\" of {name}", printable(column)),
            None => name,
        };
        let user = self.described(cx, user);
        Some(Effect {
            object: (object.object_type, object.identity),
            detail: format!(
                "Role \"{}\" would lose {missing} on {name}, which {user} may use as this role.",
                printable(&role.name)
            ),
        })
    }
}

/// Returns the privileges of a role on an object or a column; `None` where there is none.
fn held_on(
    cx: &Context<'_>,
    role: Oid,
    object: ObjectId,
    column: Option<&str>,
) -> Option<Privileges> {
    Some(match (object, column) {
        (ObjectId::Relation(oid), None) => {
            cx.access.relation_privileges(role, cx.snapshot.relation(oid)?)
        }
        (ObjectId::Relation(oid), Some(column)) => {
            cx.access.column_privileges(role, cx.snapshot.relation(oid)?, column)
        }
        (ObjectId::Routine(oid), _) => of_routine(cx.access, role, cx.snapshot.routine(oid)?),
        (ObjectId::Schema(oid), _) => of_schema(cx.access, role, cx.snapshot.schema(oid)?),
        _ => return None,
    })
}

pub(super) fn of_routine(access: &Access<'_>, role: Oid, routine: &Routine) -> Privileges {
    access.privileges(role, routine.owner, routine.acl.as_ref(), ObjectKind::Routine)
}

pub(super) fn of_schema(access: &Access<'_>, role: Oid, schema: &Schema) -> Privileges {
    access.privileges(role, schema.owner, schema.acl.as_ref(), ObjectKind::Schema)
}

/// What the text of a routine mentions.
struct Body {
    mentions: Mentions,
    verbs: Verbs,
}

impl Body {
    fn of(text: &Text) -> Self {
        Self { mentions: Mentions::of(&text.source, text.language), verbs: Verbs::of(text) }
    }

    /// Whether it mentions a built-in function that tells of memberships.
    fn asks_memberships(&self) -> bool {
        let Mentions { words, qualified, .. } = &self.mentions;
        let mut calls = words.iter().chain(qualified).filter(|(_, is_call)| **is_call);
        calls.any(|(name, _)| tells_of_memberships(name))
    }
}

/// The search for uses, from body to body.
struct Search<'s, 'a> {
    cx: &'s Context<'a>,
    code: &'s Code,
    needs: AccessNeeds<'s, 'a>,
    relations: HashMap<&'a str, Vec<&'a Relation>>,
    routines: HashMap<&'a str, Vec<&'a Routine>>,
    /// The functions of operators, by the name of the operator.
    operators: HashMap<&'s str, Vec<Oid>>,
    /// The functions of the triggers of a table.
    triggers: HashMap<Oid, Vec<Oid>>,
    bodies: HashMap<Oid, Rc<Body>>,
    /// The bodies to look into, with the roles that they run as.
    waiting: Vec<(Oid, Oid)>,
    visited: HashSet<(Oid, Oid)>,
    uses: Uses,
}

impl<'s, 'a> Search<'s, 'a> {
    fn new(cx: &'s Context<'a>, code: &'s Code) -> Self {
        let mut search = Self {
            cx,
            code,
            needs: AccessNeeds::new(cx),
            relations: HashMap::new(),
            routines: HashMap::new(),
            operators: HashMap::new(),
            triggers: HashMap::new(),
            bodies: HashMap::new(),
            waiting: vec![],
            visited: HashSet::new(),
            uses: Uses::default(),
        };
        for relation in &cx.snapshot.relations {
            search.relations.entry(&relation.name).or_default().push(relation);
        }
        for routine in &cx.snapshot.routines {
            search.routines.entry(&routine.name).or_default().push(routine);
        }
        let is_listed = |function: &Oid| cx.snapshot.routine(*function).is_some();
        for (function, name) in code.operators.iter().filter(|(function, _)| is_listed(function)) {
            search.operators.entry(name).or_default().push(*function);
        }
        for (table, function) in &code.triggers {
            search.triggers.entry(*table).or_default().push(*function);
        }
        search
    }

    /// Finds the bodies that run because of what the contract declares.
    fn begin(&mut self) {
        let cx = self.cx;
        self.owners();
        for (routine, role) in cx.needs().executions() {
            self.runs(routine, role);
        }
        for (routine, schema) in cx.routines() {
            for role in cx.subjects.iter().filter(|r| cx.declares_execute(routine, schema, r)) {
                self.runs(routine.oid, role.oid);
            }
        }
        for (relation, schema) in cx.relations().filter(|(r, _)| r.kind != RelationKind::Sequence) {
            for role in &cx.subjects {
                let declared = cx.declared_on_some_column(relation, schema, role);
                self.fires(relation.oid, role.oid, declared);
                if declared.is_empty() {
                    continue;
                }
                if self.is_asked_by_policies(relation, role) {
                    self.asks(role.oid, Asker::PolicyOn(relation.oid));
                }
                if self.is_asked_by_views(relation.oid) {
                    self.asks(role.oid, Asker::View(relation.oid));
                }
            }
        }
    }

    /// Adds what the owners of relations need for them. Clients own nothing by the contract.
    fn owners(&mut self) {
        let cx = self.cx;
        let others = cx.snapshot.dependencies.relations();
        for relation in cx.snapshot.relations.iter().chain(others) {
            let (role, user) = (relation.owner, User::Relation(relation.oid));
            let is_client = cx.clients.iter().any(|client| client.oid == role);
            if is_client || relation.kind == RelationKind::Sequence || cx.access.is_superuser(role)
            {
                continue;
            }
            cx.check_interrupts();
            let found = self.needs.of_owner(relation);
            self.needed(&found, user);
            self.reaches(relation.schema, role, user);
            self.fires(relation.oid, role, Privileges::WRITES);
        }
    }

    /// Whether a policy on a table that applies to a role asks for memberships.
    fn is_asked_by_policies(&self, relation: &Relation, role: &Role) -> bool {
        let held = self.cx.access.closure(role.oid, Follow::Privileges);
        let applies = |to: &Oid| *to == PUBLIC || held.contains(to);
        let policies = self.cx.snapshot.policies_of(relation.oid);
        policies.iter().any(|policy| policy.asks_memberships && policy.roles.iter().any(applies))
    }

    /// Whether a view or one that it reads asks for memberships.
    fn is_asked_by_views(&self, relation: Oid) -> bool {
        if self.code.asking_views.is_empty() {
            return false;
        }
        let (mut read, mut seen) = (vec![relation], HashSet::from([relation]));
        while let Some(relation) = read.pop() {
            if self.code.asking_views.contains(&relation) {
                return true;
            }
            read.extend(self.behind(relation).filter(|oid| seen.insert(*oid)));
        }
        false
    }

    /// Returns the relations that the query of a view reads.
    fn behind(&self, view: Oid) -> impl Iterator<Item = Oid> + use<'a> {
        let dependencies = &self.cx.snapshot.dependencies;
        let parts = dependencies.parts_of(Holder::Relation(view)).iter();
        let queries = parts.map(|part| dependencies.part(*part));
        let queries = queries.filter(|part| part.kind == PartKind::Query);
        queries.flat_map(|part| &part.uses).filter_map(|used| match used {
            catalog::Use::Relation(oid) | catalog::Use::Column(oid, _) => Some(*oid),
            _ => None,
        })
    }

    /// Adds the memberships of a role, if it has any.
    fn asks(&mut self, member: Oid, asker: Asker) {
        let held = self.cx.access.closure(member, Follow::Members);
        let roles: BTreeSet<Oid> = held.iter().copied().filter(|role| *role != member).collect();
        if !roles.is_empty() {
            let asked = self.uses.memberships.entry(member).or_insert(Asked { roles, asker });
            asked.asker = asked.asker.min(asker);
        }
    }

    /// Returns what the text of a routine mentions; `None` where it has no text.
    fn body_of(&mut self, routine: Oid) -> Option<Rc<Body>> {
        let text = self.code.texts.get(&routine)?;
        let body = self.bodies.entry(routine).or_insert_with(|| Rc::new(Body::of(text)));
        Some(Rc::clone(body))
    }

    /// Adds the body of a routine that a role calls.
    fn runs(&mut self, routine: Oid, caller: Oid) {
        if self.uses.bodies.insert(routine)
            && (self.code.asking_bodies.contains(&routine)
                || self.body_of(routine).is_some_and(|body| body.asks_memberships()))
        {
            // The role is an argument, and which one is known only when the body runs.
            for role in &self.cx.subjects {
                self.asks(role.oid, Asker::Body(routine));
            }
        }
        let definer = self.cx.snapshot.routine(routine).filter(|r| r.security_definer);
        let role = definer.map_or(caller, |r| r.owner);
        // A superuser needs no privilege.
        let is_superuser = self.cx.access.is_superuser(role);
        if !is_superuser && self.visited.insert((routine, role)) {
            self.waiting.push((routine, role));
        }
    }

    /// Adds the bodies of the triggers that fire when a role writes to a relation: also those of
    /// its partitions and, of a view, those of the tables behind it.
    fn fires(&mut self, relation: Oid, role: Oid, privileges: Privileges) {
        if !privileges.intersects(Privileges::WRITES) || self.triggers.is_empty() {
            return;
        }
        let dependencies = &self.cx.snapshot.dependencies;
        let (mut written, mut seen) = (vec![relation], HashSet::from([relation]));
        while let Some(relation) = written.pop() {
            for function in self.triggers.get(&relation).cloned().unwrap_or_default() {
                self.runs(function, role);
            }
            let behind = self.behind(relation);
            let next = dependencies.children_of(relation).iter().copied().chain(behind);
            written.extend(next.filter(|oid| seen.insert(*oid)));
        }
    }

    /// Looks into the body of a routine that runs as a role.
    fn body(&mut self, routine: Oid, role: Oid) {
        let user = User::Body(routine);
        let found = self.needs.of_call(routine, role);
        self.needed(&found, user);
        let Some(text) = self.code.texts.get(&routine) else { return };
        let Some(body) = self.body_of(routine) else { return };
        self.name(routine);
        for schema in self.schemas(routine, &body) {
            self.reaches(schema, role, user);
        }
        let (relations, routines) = self.named(&body);
        for relation in relations {
            self.relation(relation, role, &body.verbs, user);
        }
        for called in routines {
            if self.reaches(called.schema, role, user) {
                self.call(called.oid, role, user);
            }
        }
        // Whether the role has USAGE on the schema of the operator is not known here.
        for function in self.functions_of_operators(&body, text) {
            self.call(function, role, user);
        }
    }

    /// Keeps the name of a routine that the snapshot does not list.
    fn name(&mut self, routine: Oid) {
        let (snapshot, code) = (self.cx.snapshot, self.code);
        if snapshot.routine(routine).is_none()
            && let Some((schema, name)) = code.names.get(&routine)
        {
            let schema = safe_ident(snapshot.schema_name(*schema));
            let name = format!("function {schema}.{}", safe_ident(name));
            self.uses.names.insert(routine, name);
        }
    }

    /// Returns the relations and routines whose names a body mentions.
    fn named(&self, body: &Body) -> (Vec<&'a Relation>, Vec<&'a Routine>) {
        let Mentions { words, qualified, .. } = &body.mentions;
        let (mut relations, mut routines) = (Vec::new(), Vec::new());
        let unqualified = words.iter().map(|(name, is_call)| (name, *is_call, false));
        let names = qualified.iter().map(|(name, is_call)| (name, *is_call, true));
        for (name, is_call, is_qualified) in unqualified.chain(names) {
            // A name after a dot stands for an object in a schema that is mentioned, too.
            let is_meant = |schema: Oid| {
                !is_qualified || words.contains_key(self.cx.snapshot.schema_name(schema))
            };
            let found = self.relations.get(name.as_str()).into_iter().flatten();
            relations.extend(found.filter(|relation| is_meant(relation.schema)));
            let found = self.routines.get(name.as_str()).into_iter().flatten();
            routines.extend(found.filter(|routine| is_call && is_meant(routine.schema)));
        }
        (relations, routines)
    }

    /// Returns the functions of the operators that a body mentions.
    fn functions_of_operators(&self, body: &Body, text: &Text) -> Vec<Oid> {
        // The name in OPERATOR(schema.name) is no operator for `Mentions`.
        let has_qualified = body.verbs.words.contains("operator");
        let is_in_text = |name: &str| {
            body.mentions.operators.contains(name)
                || has_qualified && text.source.contains(&format!(".{name})"))
        };
        let functions = self.operators.iter().filter(|(name, _)| is_in_text(name));
        functions.flat_map(|(_, functions)| functions).copied().collect()
    }

    /// Returns the schemas that a body mentions, such as that of a type, and those in the
    /// search_path of the routine.
    fn schemas(&self, routine: Oid, body: &Body) -> Vec<Oid> {
        let snapshot = self.cx.snapshot;
        let config = snapshot.routine(routine).map_or(&[][..], |r| &r.config);
        let paths = settings(config).into_iter().filter_map(|path| snapshot.split_path(path).ok());
        let searched: Vec<String> = paths.flatten().collect();
        let names = body.mentions.words.keys().chain(&searched);
        names.filter_map(|name| Some(snapshot.schema_named(name)?.oid)).collect()
    }

    /// Whether a role can name objects of a schema, which is a use of USAGE.
    fn reaches(&mut self, schema: Oid, role: Oid, user: User) -> bool {
        let Some(found) = self.cx.snapshot.schema(schema) else { return false };
        let usage = of_schema(self.cx.access, role, found) & Privileges::USAGE;
        self.add(role, (ObjectId::Schema(schema), None), usage, user);
        !usage.is_empty()
    }

    /// Adds the call of a routine.
    fn call(&mut self, routine: Oid, role: Oid, user: User) {
        let Some(found) = self.cx.snapshot.routine(routine) else { return };
        let execute = of_routine(self.cx.access, role, found) & Privileges::EXECUTE;
        if !execute.is_empty() {
            self.add(role, (ObjectId::Routine(routine), None), execute, user);
            self.runs(routine, role);
        }
    }

    /// Adds the access to a relation by a body.
    fn relation(&mut self, relation: &Relation, role: Oid, verbs: &Verbs, user: User) {
        let cx = self.cx;
        let possible = verbs.privileges(relation.kind);
        let whole = cx.access.relation_privileges(role, relation) & possible;
        let mut used = whole;
        for (column, acl) in &relation.columns {
            let on_column =
                cx.access.privileges(role, relation.owner, Some(acl), ObjectKind::Column);
            let only = on_column & possible & !whole;
            used |= only;
            let column = Some(column.clone());
            self.add(role, (ObjectId::Relation(relation.oid), column), only, user);
        }
        if used.is_empty() || !self.reaches(relation.schema, role, user) {
            return;
        }
        self.add(role, (ObjectId::Relation(relation.oid), None), whole, user);
        self.fires(relation.oid, role, used);
        if relation.kind != RelationKind::Sequence {
            for command in Command::ALL.into_iter().filter(|c| used.contains(c.privilege())) {
                let found = self.needs.of_command(relation, command, role);
                self.needed(&found, user);
            }
        }
    }

    /// Adds what an access needs.
    fn needed(&mut self, needs: &Needs, user: User) {
        for (routine, role) in needs.executions() {
            self.call(routine, role, user);
        }
        for (relation, role, need) in needs.accesses() {
            let object = ObjectId::Relation(relation);
            let held = held_on(self.cx, role, object, need.column.as_deref()).unwrap_or_default();
            let used = held & need.privileges;
            self.add(role, (object, need.column.clone()), used, user);
        }
    }

    /// Returns whether row security is enabled on a table, if it does not apply to a role.
    fn all_rows(&self, role: Oid, object: ObjectId) -> Option<bool> {
        let ObjectId::Relation(oid) = object else { return None };
        let (relation, role) = (self.cx.snapshot.relation(oid)?, self.cx.snapshot.role(role)?);
        let is_restricted = self.cx.access.is_limited_by_policies(role.oid, relation);
        (!is_restricted).then_some(relation.row_security)
    }

    fn add(
        &mut self,
        role: Oid,
        (object, column): (ObjectId, Option<String>),
        privileges: Privileges,
        user: User,
    ) {
        if privileges.is_empty() || self.cx.access.is_superuser(role) {
            return;
        }
        let all_rows = self.all_rows(role, object);
        let of_role = self.uses.found.entry(role).or_default();
        let known = of_role.entry((role, object, column));
        let used = known.or_insert(Use { privileges: Privileges::NONE, user, all_rows });
        used.privileges |= privileges;
    }
}

/// The words in a text that tell which privileges it can use.
#[derive(Debug, Clone)]
pub(super) struct Verbs {
    words: HashSet<String>,
    /// Whether it may use any: it is written in a language that is not read.
    any: bool,
}

/// The words with which statements begin, or the functions, that require a privilege. SELECT is
/// also required by the conditions and expressions of other statements.
const VERBS: [(Privileges, &[&str]); 9] = [
    (
        Privileges::SELECT,
        &[
            "select",
            "perform",
            "from",
            "table",
            "returning",
            "where",
            "update",
            "conflict",
            "merge",
            "copy",
            "refresh",
            "lock",
            "currval",
            "lastval",
        ],
    ),
    (Privileges::INSERT, &["insert", "merge", "copy", "lock"]),
    (Privileges::UPDATE, &["update", "merge", "share", "lock", "nextval", "setval"]),
    (Privileges::DELETE, &["delete", "merge", "lock"]),
    (Privileges::TRUNCATE, &["truncate", "lock"]),
    (Privileges::REFERENCES, &["references"]),
    (Privileges::TRIGGER, &["trigger"]),
    (Privileges::USAGE, &["nextval", "currval", "lastval"]),
    (Privileges::MAINTAIN, &["vacuum", "analyze", "cluster", "refresh", "reindex", "lock"]),
];

impl Verbs {
    pub(super) fn of(text: &Text) -> Self {
        let source = text.source.to_lowercase();
        let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        Self { words: words.map(str::to_owned).collect(), any: text.language == Language::Other }
    }

    /// Returns the privileges on a relation of a kind that the text can use.
    pub(super) fn privileges(&self, kind: RelationKind) -> Privileges {
        let is_used = |(privileges, words): &&(Privileges, &[&str])| {
            let is_in_text = || words.iter().any(|word| self.words.contains(*word));
            (*privileges == Privileges::USAGE) <= (kind == RelationKind::Sequence)
                && (self.any || is_in_text())
        };
        let used = VERBS.iter().filter(is_used);
        used.fold(Privileges::NONE, |all, (privileges, _)| all | *privileges)
    }
}

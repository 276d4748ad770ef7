//! `ops.explain_access()`: why a role can or cannot.

use super::postgrest::AUTHENTICATOR;
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::Trust;
use crate::pg::report::{Report, unknown_argument};
use crate::pg::scratch::Scratch;
use crate::pg::text::to_server;
use crate::pg::{setting, subtransaction};
use crate::query::{self, Needs, Unreadable};
use crate::store::Installation;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{
    FIRST_UNPINNED, Oid, Privileges, Relation, RelationKind, Routine, Snapshot,
};
use dragonfly_core::contract::Contract;
use dragonfly_core::doctor::{Reach, Trial};
use dragonfly_core::explain::{
    Attempt, Called, Link, Moment, Named, Need, Noun, Question, Subject, Thing, explain, parse,
    types_of_argument,
};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::{listed, printable, safe_ident, safe_qualified};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CString;

sql_function!(
    /// `ops.explain_access(role name, object text, privilege text, authenticator name)`
    ops_explain_access => explain_access
);
fn explain_access(call: Call) -> pg_sys::Datum {
    let (Some(role), Some(object)) = (call.name(0), call.text(1)) else { return call.table([]) };
    let authenticator = call.name(3).unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let named = parse(&object).unwrap_or_else(|| no_name(&object));
    let links = answer(&role, &named, call.text(2), &authenticator);
    call.table(links.into_iter().zip(1..).map(|(link, number)| {
        vec![
            Value::Int4(number),
            Value::Text(link.step),
            link.ok.map_or(Value::Null, Value::Bool),
            Value::Text(link.detail),
            Value::text(link.fix),
        ]
    }))
}

/// What is known of each reach that does not work, or was not tried. `with_lock_timeout` reads what
/// a statement needs, and limits how long that waits for locks.
pub fn denied(
    contract: &Contract,
    state: &State,
    reach: &[Reach],
    with_lock_timeout: impl Fn(&dyn Fn() -> Result<Needs, Unreadable>) -> Result<Needs, Unreadable>,
) -> HashMap<Reach, Trial> {
    let memory = Scratch::new();
    let base = catalog::base(state).complete();
    let trust = Trust::of_superusers(&base);
    let owners = Trust::under(contract, &base).owners;
    let (mut statements, mut found) = (Vec::new(), HashMap::new());
    for reach in reach {
        if let Some(why) = complexity(state, reach.relation, &owners) {
            found.insert(*reach, Trial::Untried(why.into()));
            continue;
        }
        let kind = catalog::relation_kind(state, reach.relation);
        let read = || {
            memory.with(|| needs(reach.relation, kind, reach.privilege, &[], reach.role, &trust))
        };
        match Statement::certain(*reach, kind, with_lock_timeout(&read)) {
            Ok(statement) => statements.extend(statement),
            Err(error) => {
                found.insert(
                    *reach,
                    Trial::Untried(subtransaction::report(&error).message().to_owned()),
                );
            }
        }
    }
    found.extend(refused(contract, state, base, statements));
    found
}

/// Why the statements on a relation are not tried, if so: rewriting nested views takes as much time
/// and memory as their owners like, of whom `owners` are trusted.
fn complexity(state: &State, relation: Oid, owners: &HashSet<Oid>) -> Option<&'static str> {
    let is_untrusted = |oid: &Oid| {
        catalog::has_rules(state, *oid)
            && catalog::relation_owner(state, *oid).is_some_and(|owner| !owners.contains(&owner))
    };
    match catalog::behind_view(state, relation).iter().filter(|oid| is_untrusted(oid)).count() {
        2.. => Some("it depends on nested views or rules of owners that are not trusted"),
        _ => is_too_complex(state, relation).then_some("it depends on too many views or rules"),
    }
}

/// Whether the rules of a relation make so much of a statement that the server, which cannot be
/// interrupted while it rewrites, may run out of memory.
fn is_too_complex(state: &State, relation: Oid) -> bool {
    const MOST: u64 = 50_000;
    catalog::products(state, relation, MOST) >= MOST
}

/// The statement that stands for a reach, as far as it is certain what the role would meet.
struct Statement {
    reach: Reach,
    needs: Needs,
    /// Why no role can run it: the server's message.
    impossible: Option<String>,
}

impl Statement {
    /// `None` where nothing is certain. An UPDATE leaves a row's number as it is, INSERT and UPDATE
    /// supply the values that a default cannot, and not every column of a view is read.
    ///
    /// # Errors
    /// Where the statement cannot be read at present.
    fn certain(
        reach: Reach,
        kind: Option<RelationKind>,
        read: Result<Needs, Unreadable>,
    ) -> Result<Option<Self>, Box<CaughtError>> {
        let is_table = kind.is_some_and(RelationKind::is_table);
        let writes_no_values = matches!(reach.privilege, Privileges::SELECT | Privileges::DELETE);
        match read {
            Ok(mut needs) => {
                let is_update = reach.privilege == Privileges::UPDATE;
                needs.needs.retain(|need| !is_update || need.moment == Moment::Start);
                needs
                    .calls
                    .retain(|call| is_table && writes_no_values && call.moment == Moment::Start);
                Ok(Some(Self { reach, needs, impossible: None }))
            }
            Err(Unreadable::Never(why)) if writes_no_values => {
                Ok(Some(Self { reach, needs: Needs::default(), impossible: Some(why) }))
            }
            // As on a table without columns, in which there is nothing to update.
            Err(Unreadable::Never(_)) => Ok(None),
            Err(Unreadable::Now(error)) => Err(error),
        }
    }
}

/// The statements that the server would reject.
fn refused(
    contract: &Contract,
    state: &State,
    base: Snapshot,
    statements: Vec<Statement>,
) -> impl Iterator<Item = (Reach, Trial)> {
    let mut objects = Objects::default();
    for statement in &statements {
        objects.relations.insert(statement.reach.relation);
        objects.add(&statement.needs);
    }
    let snapshot = objects.snapshot(state, base);
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let callable = Callable::of(&snapshot);
    let trial = |Statement { reach, needs, impossible }| {
        let (relation, role) = (snapshot.relation(reach.relation)?, snapshot.role(reach.role)?);
        let attempt = callable.attempt(relation, needs, impossible, None);
        let why = dragonfly_core::explain::denied(&cx, role, &attempt, reach.privilege)?;
        Some((reach, Trial::Broken(why)))
    };
    statements.into_iter().filter_map(trial).collect::<Vec<_>>().into_iter()
}

/// Relations and routines that an answer is about.
#[derive(Default)]
struct Objects {
    relations: BTreeSet<Oid>,
    routines: BTreeSet<Oid>,
}

impl Objects {
    fn add(&mut self, needs: &Needs) {
        self.relations.extend(needs.needs.iter().map(|need| need.relation));
        self.routines.extend(needs.calls.iter().map(|call| call.routine));
    }

    /// These objects and what checking them requires; also the tables that own the sequences among
    /// them, for the contract speaks of those.
    fn snapshot(self, state: &State, base: Snapshot) -> Snapshot {
        let relations: Vec<Oid> = self.relations.into_iter().collect();
        let routines: Vec<Oid> = self.routines.into_iter().collect();
        let mut part = catalog::part(state, &relations, &routines);
        let owners = part
            .relations
            .iter()
            .filter_map(|r| r.owned_by)
            .filter(|table| !relations.contains(table));
        let owners: Vec<Oid> = owners.collect();
        part.relations.extend(catalog::part(state, &owners, &[]).relations);
        catalog::around(part, base, state)
    }
}

/// The routines of a snapshot, by OID.
struct Callable<'s>(HashMap<Oid, &'s Routine>);

impl<'s> Callable<'s> {
    fn of(snapshot: &'s Snapshot) -> Self {
        Self(snapshot.routines.iter().map(|routine| (routine.oid, routine)).collect())
    }

    fn calls(&self, needs: &Needs) -> Vec<Called<'s>> {
        let called = |call: &query::Call| {
            let query::Call { routine, check_as, moment } = *call;
            self.0.get(&routine).map(|routine| Called { routine, check_as, moment })
        };
        needs.calls.iter().filter_map(called).collect()
    }

    fn attempt(
        &self,
        relation: &'s Relation,
        needs: Needs,
        impossible: Option<String>,
        futile: Option<String>,
    ) -> Attempt<'s> {
        Attempt {
            relation,
            calls: self.calls(&needs),
            unresolved: needs.unresolved,
            needs: asked_first(needs.needs, relation.oid),
            impossible,
            futile,
        }
    }
}

/// The object that a name stands for.
enum Found {
    Schema(Oid),
    /// With the columns that were named.
    Relation(Oid, Vec<String>),
    Routine(Oid),
    /// No object; its schema, where that exists.
    Nothing(Option<Oid>),
}

fn answer(role: &str, named: &Named, privilege: Option<String>, authenticator: &str) -> Vec<Link> {
    let Installation { state, contract, .. } = Installation::now();
    let base = catalog::base(&state).complete();
    let asked = Asked::of(&state, &base, named, privilege.as_deref());
    let Required { needs, impossible } = asked.required(&state, &base, role);
    let mut objects = Objects::default();
    objects.relations.extend(asked.relation());
    objects.routines.extend(asked.routine());
    objects.add(&needs);
    let snapshot = objects.snapshot(&state, base);
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let callable = Callable::of(&snapshot);
    let wanted = asked.privilege;
    let subject = match &asked.found {
        Found::Schema(oid) => snapshot.schema(*oid).map(Subject::Schema),
        Found::Routine(oid) => {
            callable.0.get(oid).map(|routine| Subject::Routine(routine, callable.calls(&needs)))
        }
        Found::Relation(oid, _) => snapshot.relation(*oid).map(|relation| {
            let futile = futile(&state, relation, wanted);
            Subject::Relation(callable.attempt(relation, needs, impossible, futile))
        }),
        Found::Nothing(schema) => {
            let schema = schema.and_then(|schema| snapshot.schema(schema));
            Some(Subject::Missing { schema, name: asked.name.clone() })
        }
    };
    // For other roles, a temporary object of some session does not exist.
    let subject = subject.unwrap_or(Subject::Missing { schema: None, name: asked.name });
    explain(&cx, &Question { role, authenticator, privilege: wanted, subject })
}

/// What a question is about.
struct Asked {
    /// As a person would write it.
    name: String,
    found: Found,
    kind: Option<RelationKind>,
    privilege: Privileges,
}

/// What the statement that stands for a question requires.
#[derive(Default)]
struct Required {
    needs: Needs,
    /// Why no role can run it: the server's message.
    impossible: Option<String>,
}

impl Asked {
    fn of(state: &State, base: &Snapshot, named: &Named, privilege: Option<&str>) -> Self {
        let found = find(state, base, named);
        let relation = if let Found::Relation(oid, _) = found { Some(oid) } else { None };
        let kind = relation.and_then(|oid| catalog::relation_kind(state, oid));
        let privilege = wanted(thing(&found, kind), privilege);
        let name = named
            .parts
            .iter()
            .map(|part| safe_ident(part).into_owned())
            .collect::<Vec<_>>()
            .join(".");
        Self { name, found, kind, privilege }
    }

    fn relation(&self) -> Option<Oid> {
        if let Found::Relation(oid, _) = self.found { Some(oid) } else { None }
    }

    fn routine(&self) -> Option<Oid> {
        if let Found::Routine(oid) = self.found { Some(oid) } else { None }
    }

    /// Nothing where the role does not exist, or the object has no statements.
    fn required(&self, state: &State, base: &Snapshot, role: &str) -> Required {
        if let Some(relation) = self.relation().filter(|oid| is_too_complex(state, *oid)) {
            too_complex(relation);
        }
        let Some(role) = base.role_named(role).map(|role| role.oid) else {
            return Required::default();
        };
        let trust = Trust::of_superusers(base);
        let read = match &self.found {
            Found::Routine(oid) => query::of_call(*oid, &trust),
            Found::Relation(oid, columns) => {
                needs(*oid, self.kind, self.privilege, columns, role, &trust)
            }
            Found::Schema(_) | Found::Nothing(_) => return Required::default(),
        };
        match read {
            Ok(needs) => Required { needs, impossible: None },
            Err(Unreadable::Never(why)) => {
                Required { needs: Needs::default(), impossible: Some(why) }
            }
            Err(Unreadable::Now(error)) => error.rethrow(),
        }
    }
}

/// The privilege that is asked about. An error where objects of this kind have no such privilege.
fn wanted(thing: Thing, word: Option<&str>) -> Privileges {
    let Some(word) = word else { return thing.natural() };
    let possible = thing.possible(catalog::VERSION);
    let wanted = word.trim().parse().ok().filter(|p: &Privileges| possible.contains(*p));
    wanted.unwrap_or_else(|| unknown_argument("privilege", word, &possible.words()))
}

fn thing(found: &Found, kind: Option<RelationKind>) -> Thing {
    match found {
        Found::Schema(_) => Thing::Schema,
        Found::Routine(_) => Thing::Routine,
        Found::Relation(..) if kind == Some(RelationKind::Sequence) => Thing::Sequence,
        Found::Relation(..) => Thing::Relation,
        Found::Nothing(_) => Thing::Missing,
    }
}

/// What the statement that stands for a privilege needs, read by the server, or what is known
/// without one.
fn needs(
    oid: Oid,
    kind: Option<RelationKind>,
    wanted: Privileges,
    columns: &[String],
    role: Oid,
    trust: &Trust,
) -> Result<Needs, Unreadable> {
    let Some((schema, name)) = catalog::name(catalog::PG_CLASS, oid) else {
        return Ok(Needs::default());
    };
    let plain = |or: Privileges| Needs {
        needs: vec![Need { relation: oid, privileges: wanted, or, ..Need::default() }],
        ..Needs::default()
    };
    if kind == Some(RelationKind::Sequence) {
        // nextval requires one of the two (sequence.c).
        return Ok(plain(if wanted == Privileges::USAGE {
            Privileges::UPDATE
        } else {
            Privileges::NONE
        }));
    }
    let sql = dragonfly_core::sql::safe_qualified(&schema, &name);
    let all = || match columns {
        [] => query::all_columns(oid),
        columns => columns.to_vec(),
    };
    let list = |columns: &[String], end: &str| {
        columns.iter().map(|c| format!("{}{end}", safe_ident(c))).collect::<Vec<_>>().join(", ")
    };
    let statement = match wanted {
        Privileges::SELECT if columns.is_empty() => format!("SELECT * FROM {sql}"),
        Privileges::SELECT => format!("SELECT {} FROM {sql}", list(columns, "")),
        Privileges::INSERT if columns.is_empty() => format!("INSERT INTO {sql} DEFAULT VALUES"),
        Privileges::INSERT => {
            let values = vec!["DEFAULT"; columns.len()].join(", ");
            format!("INSERT INTO {sql} ({}) VALUES ({values})", list(columns, ""))
        }
        Privileges::UPDATE if all().is_empty() => {
            return Err(Unreadable::Never(format!("{sql} has no columns to update")));
        }
        Privileges::UPDATE => format!("UPDATE {sql} SET {}", list(&all(), " = DEFAULT")),
        Privileges::DELETE => format!("DELETE FROM {sql}"),
        Privileges::TRUNCATE if oid < FIRST_UNPINNED && kind == Some(RelationKind::Table) => {
            return Err(Unreadable::Never(format!(
                "permission denied: \"{}\" is a system catalog",
                printable(&name)
            )));
        }
        Privileges::TRUNCATE if kind.is_some_and(|k| !k.is_table()) => {
            return Err(Unreadable::Never(format!("\"{}\" is not a table", printable(&name))));
        }
        Privileges::TRUNCATE => return query::of_truncate(oid, trust),
        _ => return Ok(plain(Privileges::NONE)),
    };
    let mut needs = query::of(&statement, role, trust)?;
    // Where no column is named, the question is about the whole relation.
    for need in needs.needs.iter_mut().filter(|n| n.relation == oid && n.check_as.is_none()) {
        need.is_partial = !columns.is_empty();
    }
    Ok(needs)
}

/// Why a statement on a materialized view fails for a role that has the privileges.
fn futile(state: &State, relation: &Relation, wanted: Privileges) -> Option<String> {
    let name = printable(&relation.name);
    match wanted {
        _ if relation.kind != RelationKind::MaterializedView => None,
        Privileges::INSERT | Privileges::UPDATE | Privileges::DELETE => {
            Some(format!("cannot change materialized view \"{name}\""))
        }
        Privileges::SELECT if !catalog::is_populated(state, relation.oid) => {
            Some(format!("materialized view \"{name}\" has not been populated"))
        }
        _ => None,
    }
}

/// The needs, those on the relation that the statement names first, as the server checks them.
fn asked_first(mut needs: Vec<Need>, asked: Oid) -> Vec<Need> {
    needs.sort_by_key(|need| !(need.relation == asked && need.check_as.is_none()));
    needs
}

fn find(state: &State, base: &Snapshot, named: &Named) -> Found {
    let schema_named = |name: &str| base.schema_named(name).map(|s| s.oid);
    match (&named.parts[..], named.noun) {
        ([schema], None | Some(Noun::Schema)) if named.list.is_none() => match schema_named(schema)
        {
            Some(oid) => Found::Schema(oid),
            None if named.noun.is_some() => Found::Nothing(None),
            None => unqualified(schema),
        },
        ([name], _) => unqualified(name),
        ([schema, name], noun) if noun != Some(Noun::Schema) => match schema_named(schema) {
            Some(oid) => in_schema(state, NamedSchema { oid, name: schema }, name, named),
            None => Found::Nothing(None),
        },
        ([schema, table, column], None | Some(Noun::Relation)) if named.list.is_none() => {
            let relation =
                schema_named(schema).and_then(|schema| catalog::relation_named(schema, table));
            relation.map_or_else(
                || Found::Nothing(schema_named(schema)),
                |oid| columns(oid, vec![column.clone()]),
            )
        }
        _ => no_name(&named.parts.join(".")),
    }
}

/// A schema that exists.
#[derive(Clone, Copy)]
struct NamedSchema<'n> {
    oid: Oid,
    name: &'n str,
}

fn in_schema(state: &State, schema: NamedSchema<'_>, name: &str, named: &Named) -> Found {
    let relation =
        catalog::relation_named(schema.oid, name).filter(|_| named.noun != Some(Noun::Routine));
    if named.noun == Some(Noun::Relation) && relation.is_none() {
        return Found::Nothing(Some(schema.oid));
    }
    // A list names columns where a relation has them, or where no routine has the name.
    let is_of_columns = |relation: Oid| {
        let known = query::all_columns(relation);
        named.columns().is_some_and(|columns| columns.iter().all(|column| known.contains(column)))
    };
    let routines = catalog::routines_named(state, &[name].into(), &[schema.oid].into());
    match relation {
        Some(oid) if named.noun.is_some() || routines.is_empty() || is_of_columns(oid) => {
            columns(oid, named.columns().unwrap_or_else(|| no_name(name)))
        }
        _ => routine(state, schema, name, &routines, named.list.as_deref()),
    }
}

/// The one of the routines of a name that is meant.
fn routine(
    state: &State,
    schema: NamedSchema<'_>,
    name: &str,
    found: &[Oid],
    list: Option<&str>,
) -> Found {
    match (list, found) {
        (Some(list), _) => {
            let wanted = types_named(schema.name, &dragonfly_core::sql::argument_types(list));
            let same = |oid: &&Oid| {
                catalog::argument_type_oids(state, **oid)
                    .into_iter()
                    .map(Some)
                    .eq(wanted.iter().copied())
            };
            found
                .iter()
                .find(same)
                .map_or(Found::Nothing(Some(schema.oid)), |oid| Found::Routine(*oid))
        }
        (None, []) => Found::Nothing(Some(schema.oid)),
        (None, [oid]) => Found::Routine(*oid),
        (None, several) => {
            let shown = |oid: &Oid| {
                let types = catalog::argument_types_of(state, *oid).replace("pg_catalog.", "");
                format!("{}({})", printable(name), printable(&types))
            };
            Report {
                message: format!("routine name {} is not unique", printable(name)),
                detail: String::new(),
                hint: format!(
                    "Specify one of {}.",
                    listed(&several.iter().map(shown).collect::<Vec<_>>())
                ),
            }
            .error(PgSqlErrorCode::ERRCODE_AMBIGUOUS_FUNCTION)
        }
    }
}

/// The types of arguments as a person writes them: `int`, `numeric(12,2)`, a type of the routine's
/// own schema, with or without the argument's name before it.
fn types_named(schema: &str, names: &[String]) -> Vec<Option<Oid>> {
    let path =
        CString::new(to_server(&format!("pg_catalog, {}, public, pg_temp", safe_ident(schema))))
            .unwrap_or_default();
    let work = |name: &str| {
        setting::under(&[(c"search_path", path.as_c_str())], || catalog::deparse::type_named(name))
    };
    // For a text that is no name of a type, the parser raises an error.
    let found = |name: &str| subtransaction::rolled_back(|| work(name)).ok().flatten();
    names
        .iter()
        .filter_map(|name| types_of_argument(name))
        .map(|types| types.iter().find_map(|name| found(name)))
        .collect()
}

fn columns(relation: Oid, columns: Vec<String>) -> Found {
    let known = query::all_columns(relation);
    for column in &columns {
        if !known.contains(column) {
            unknown_argument(
                "column",
                column,
                &known.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
    }
    Found::Relation(relation, columns)
}

fn too_complex(relation: Oid) -> ! {
    let name = catalog::name(catalog::PG_CLASS, relation)
        .map(|(schema, name)| safe_qualified(&schema, &name));
    Report {
        message: format!(
            "{} depends on too many views or rules",
            printable(&name.unwrap_or_default())
        ),
        detail: "Rewriting a statement on it could take more memory than the server has.".into(),
        hint: "Ask about the tables that they read.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX)
}

fn unqualified(name: &str) -> ! {
    Report {
        message: format!("schema \"{}\" does not exist", printable(name)),
        detail: "A name without a schema can only be that of a schema: what else it means depends on the search_path.".into(),
        hint: "Write schema.name, schema.table.column, or schema.function(types).".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME)
}

fn no_name(text: &str) -> ! {
    Report {
        message: format!("invalid object name: \"{}\"", printable(text)),
        detail: String::new(),
        hint: "Write schema, schema.name, schema.table.column, schema.table(column, ...), or schema.function(types).".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_NAME)
}

//! `ops.explain_access()`: why a role can access an object or cannot.

use super::argument;
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
use dragonfly_core::doctor::{DeclaredAccess, Outcome};
use dragonfly_core::explain::{
    Attempt, Called, Link, Moment, Named, Need, Noun, Question, Subject, SubjectKind, explain,
    parse, types_of_argument,
};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::{listed, printable, safe_ident, safe_qualified};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CString;

sql_function!(
    /// `ops.explain_access(role name, object text, privilege text DEFAULT NULL,
    /// authenticator name DEFAULT NULL) RETURNS TABLE (link int4, step text, ok bool, detail text,
    /// fix text)`
    ops_explain_access => explain_access
);
fn explain_access(call: Call) -> pg_sys::Datum {
    let (role, object) = (argument::name(call, 0, "role"), argument::text(call, 1, "object"));
    let privilege = argument::optional_text(call, 2, "privilege");
    let authenticator = argument::optional_name(call, 3, "authenticator")
        .unwrap_or_else(|| AUTHENTICATOR.to_owned());
    let named = parse(&object).unwrap_or_else(|| invalid_name(&object));
    let links = answer(&role, &named, privilege, &authenticator);
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

/// Returns the outcome of each declared access that fails or could not be checked.
/// `with_lock_timeout` calls a function that reads what a statement needs, and limits how long it
/// waits for locks.
pub fn outcomes(
    contract: &Contract,
    state: &State,
    accesses: &[DeclaredAccess],
    with_lock_timeout: impl Fn(&dyn Fn() -> Result<Needs, Unreadable>) -> Result<Needs, Unreadable>,
) -> HashMap<DeclaredAccess, Outcome> {
    let memory = Scratch::new();
    let base = catalog::base(state).complete();
    let trust = Trust::of_superusers(&base);
    let owners = Trust::under(contract, &base).owners;
    let (mut statements, mut found) = (Vec::new(), HashMap::new());
    for access in accesses {
        if let Some(why) = too_complex_to_check(state, access.relation, &owners) {
            found.insert(*access, Outcome::Unchecked(why.into()));
            continue;
        }
        let kind = catalog::relation_kind(state, access.relation);
        let statement =
            Accessed { relation: access.relation, kind, privilege: access.privilege, columns: &[] };
        let read = || memory.with(|| needs(&statement, access.role, &trust));
        match Statement::certain(*access, kind, with_lock_timeout(&read)) {
            Ok(statement) => statements.extend(statement),
            Err(error) => {
                let why = subtransaction::report(&error).message().to_owned();
                found.insert(*access, Outcome::Unchecked(why));
            }
        }
    }
    found.extend(failures(contract, state, base, statements));
    found
}

/// Why statements on a relation are not checked; `None` where they are. Nested views can be written
/// so that rewriting them takes any amount of time and memory; `owners` are trusted not to do that.
fn too_complex_to_check(
    state: &State,
    relation: Oid,
    owners: &HashSet<Oid>,
) -> Option<&'static str> {
    let is_untrusted = |oid: &Oid| {
        catalog::has_rules(state, *oid)
            && catalog::relation_owner(state, *oid).is_some_and(|owner| !owners.contains(&owner))
    };
    match catalog::behind_view(state, relation).iter().filter(|oid| is_untrusted(oid)).count() {
        2.. => Some("it depends on nested views or rules of owners that are not trusted"),
        _ => is_too_complex(state, relation).then_some("it depends on too many views or rules"),
    }
}

/// Whether the rules of a relation multiply a statement so often that the server may run out of
/// memory. It cannot be interrupted while it rewrites.
fn is_too_complex(state: &State, relation: Oid) -> bool {
    const LIMIT: u64 = 50_000;
    catalog::products(state, relation, LIMIT) >= LIMIT
}

/// The statement of a declared access, with the checks of which the result is certain.
struct Statement {
    access: DeclaredAccess,
    needs: Needs,
    /// Why no role can execute it: the server's message.
    impossible: Option<String>,
}

impl Statement {
    /// Returns `None` where nothing is certain. Real statements differ from the one that was read:
    /// an UPDATE does not set the column with a sequence, INSERT and UPDATE supply values where the
    /// default fails, and a SELECT does not read every column of a view.
    ///
    /// # Errors
    /// Where the statement cannot be read at present.
    fn certain(
        access: DeclaredAccess,
        kind: Option<RelationKind>,
        read: Result<Needs, Unreadable>,
    ) -> Result<Option<Self>, Box<CaughtError>> {
        let is_table = kind.is_some_and(RelationKind::is_table);
        let writes_no_values = matches!(access.privilege, Privileges::SELECT | Privileges::DELETE);
        match read {
            Ok(mut needs) => {
                let is_update = access.privilege == Privileges::UPDATE;
                needs.needs.retain(|need| !is_update || need.moment == Moment::Start);
                needs
                    .calls
                    .retain(|call| is_table && writes_no_values && call.moment == Moment::Start);
                Ok(Some(Self { access, needs, impossible: None }))
            }
            Err(Unreadable::Never(why)) if writes_no_values => {
                Ok(Some(Self { access, needs: Needs::default(), impossible: Some(why) }))
            }
            // For example an UPDATE of a table without columns.
            Err(Unreadable::Never(_)) => Ok(None),
            Err(Unreadable::Now(error)) => Err(error),
        }
    }
}

/// The statements that fail.
fn failures(
    contract: &Contract,
    state: &State,
    base: Snapshot,
    statements: Vec<Statement>,
) -> Vec<(DeclaredAccess, Outcome)> {
    let mut objects = Objects::default();
    for statement in &statements {
        objects.relations.insert(statement.access.relation);
        objects.add(&statement.needs);
    }
    let snapshot = objects.snapshot(state, base);
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let callable = Callable::of(&snapshot);
    let failure = |Statement { access, needs, impossible }| {
        let (relation, role) = (snapshot.relation(access.relation)?, snapshot.role(access.role)?);
        let attempt = callable.attempt(relation, Required { needs, impossible }, None);
        let why = dragonfly_core::explain::denied(&cx, role, &attempt, access.privilege)?;
        Some((access, Outcome::Fails(why)))
    };
    statements.into_iter().filter_map(failure).collect()
}

/// The relations and routines that an answer is about.
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

    /// Reads these objects and what checking them requires; also the tables that own the sequences
    /// among them, because the contract declares privileges on those tables.
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
        required: Required,
        unusable: Option<String>,
    ) -> Attempt<'s> {
        let Required { needs, impossible } = required;
        Attempt {
            relation,
            calls: self.calls(&needs),
            unresolved: needs.unresolved,
            needs: named_first(needs.needs, relation.oid),
            impossible,
            unusable,
        }
    }
}

/// The object that a name refers to.
enum Found {
    Schema(Oid),
    /// With the columns that the name lists.
    Relation(Oid, Vec<String>),
    Routine(Oid),
    /// No object, with its schema where that exists.
    Nothing(Option<Oid>),
}

fn answer(role: &str, named: &Named, privilege: Option<String>, authenticator: &str) -> Vec<Link> {
    let Installation { state, contract, .. } = Installation::now();
    let base = catalog::base(&state).complete();
    let asked = Asked::of(&state, &base, named, privilege.as_deref());
    let required = asked.required(&state, &base, role);
    let mut objects = Objects::default();
    objects.relations.extend(asked.relation());
    objects.routines.extend(asked.routine());
    objects.add(&required.needs);
    let snapshot = objects.snapshot(&state, base);
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let callable = Callable::of(&snapshot);
    let wanted = asked.privilege;
    let subject = match &asked.found {
        Found::Schema(oid) => snapshot.schema(*oid).map(Subject::Schema),
        Found::Routine(oid) => {
            let calls = callable.calls(&required.needs);
            callable.0.get(oid).map(|routine| Subject::Routine(routine, calls))
        }
        Found::Relation(oid, _) => snapshot.relation(*oid).map(|relation| {
            let unusable = unusable(&state, relation, wanted);
            Subject::Relation(callable.attempt(relation, required, unusable))
        }),
        Found::Nothing(schema) => {
            let schema = schema.and_then(|schema| snapshot.schema(schema));
            Some(Subject::Missing { schema, name: asked.name.clone() })
        }
    };
    // The snapshot has no temporary objects: for other sessions they do not exist.
    let subject = subject.unwrap_or(Subject::Missing { schema: None, name: asked.name });
    explain(&cx, &Question { role, authenticator, privilege: wanted, subject })
}

/// What a question is about.
struct Asked {
    /// The name as SQL.
    name: String,
    found: Found,
    kind: Option<RelationKind>,
    privilege: Privileges,
}

/// What the statement of a question requires.
#[derive(Default)]
struct Required {
    needs: Needs,
    /// Why no role can execute it: the server's message.
    impossible: Option<String>,
}

impl Asked {
    fn of(state: &State, base: &Snapshot, named: &Named, privilege: Option<&str>) -> Self {
        let found = find(state, base, named);
        let relation = if let Found::Relation(oid, _) = found { Some(oid) } else { None };
        let kind = relation.and_then(|oid| catalog::relation_kind(state, oid));
        let privilege = wanted(subject_kind(&found, kind), privilege);
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

    /// Returns no requirements where the role does not exist, or there is no statement on the
    /// object.
    fn required(&self, state: &State, base: &Snapshot, role: &str) -> Required {
        if let Some(relation) = self.relation().filter(|oid| is_too_complex(state, *oid)) {
            reject_complex(relation);
        }
        let Some(role) = base.role_named(role).map(|role| role.oid) else {
            return Required::default();
        };
        let trust = Trust::of_superusers(base);
        let read = match &self.found {
            Found::Routine(oid) => query::of_call(*oid, &trust),
            Found::Relation(oid, columns) => {
                let (relation, kind, privilege) = (*oid, self.kind, self.privilege);
                needs(&Accessed { relation, kind, privilege, columns }, role, &trust)
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

/// The privilege of a question. Raises an error where objects of this kind do not have it.
fn wanted(kind: SubjectKind, word: Option<&str>) -> Privileges {
    let Some(word) = word else { return kind.default_privilege() };
    let valid = kind.valid_privileges(catalog::VERSION);
    let wanted = word.trim().parse().ok().filter(|p: &Privileges| valid.contains(*p));
    wanted.unwrap_or_else(|| unknown_argument("privilege", word, &valid.words()))
}

fn subject_kind(found: &Found, kind: Option<RelationKind>) -> SubjectKind {
    match found {
        Found::Schema(_) => SubjectKind::Schema,
        Found::Routine(_) => SubjectKind::Routine,
        Found::Relation(..) if kind == Some(RelationKind::Sequence) => SubjectKind::Sequence,
        Found::Relation(..) => SubjectKind::Relation,
        Found::Nothing(_) => SubjectKind::Missing,
    }
}

/// A privilege on a relation, or on some of its columns.
struct Accessed<'c> {
    relation: Oid,
    kind: Option<RelationKind>,
    privilege: Privileges,
    /// No columns for the whole relation.
    columns: &'c [String],
}

/// What is known about the statement that requires a privilege.
enum StatementText {
    /// The server can read this SQL.
    Sql(String),
    Truncate,
    /// No statement is read: the privilege itself is needed, or one of the others.
    None {
        or: Privileges,
    },
}

impl Accessed<'_> {
    /// The statement that requires the privilege.
    ///
    /// # Errors
    /// Where no role can execute it: the server's message.
    fn statement(&self, schema: &str, name: &str) -> Result<StatementText, String> {
        let Self { relation, kind, privilege, columns } = *self;
        if kind == Some(RelationKind::Sequence) {
            // nextval requires one of the two (sequence.c).
            let or =
                if privilege == Privileges::USAGE { Privileges::UPDATE } else { Privileges::NONE };
            return Ok(StatementText::None { or });
        }
        let sql = safe_qualified(schema, name);
        let list = |columns: &[String], end: &str| {
            columns.iter().map(|c| format!("{}{end}", safe_ident(c))).collect::<Vec<_>>().join(", ")
        };
        Ok(StatementText::Sql(match privilege {
            Privileges::SELECT if columns.is_empty() => format!("SELECT * FROM {sql}"),
            Privileges::SELECT => format!("SELECT {} FROM {sql}", list(columns, "")),
            Privileges::INSERT if columns.is_empty() => format!("INSERT INTO {sql} DEFAULT VALUES"),
            Privileges::INSERT => {
                let values = vec!["DEFAULT"; columns.len()].join(", ");
                format!("INSERT INTO {sql} ({}) VALUES ({values})", list(columns, ""))
            }
            Privileges::UPDATE => {
                let columns = match columns {
                    [] => query::all_columns(relation),
                    columns => columns.to_vec(),
                };
                if columns.is_empty() {
                    return Err(format!("{sql} has no columns to update"));
                }
                format!("UPDATE {sql} SET {}", list(&columns, " = DEFAULT"))
            }
            Privileges::DELETE => format!("DELETE FROM {sql}"),
            Privileges::TRUNCATE => {
                if relation < FIRST_UNPINNED && kind == Some(RelationKind::Table) {
                    let name = printable(name);
                    return Err(format!("permission denied: \"{name}\" is a system catalog"));
                }
                if kind.is_some_and(|kind| !kind.is_table()) {
                    return Err(format!("\"{}\" is not a table", printable(name)));
                }
                return Ok(StatementText::Truncate);
            }
            _ => return Ok(StatementText::None { or: Privileges::NONE }),
        }))
    }
}

/// Returns what the statement that requires the privilege needs when `role` executes it, as the
/// server reads it; or the privilege itself where there is no such statement.
fn needs(accessed: &Accessed<'_>, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    let Accessed { relation, privilege, columns, .. } = *accessed;
    let Some((schema, name)) = catalog::name(catalog::PG_CLASS, relation) else {
        return Ok(Needs::default());
    };
    let statement = match accessed.statement(&schema, &name).map_err(Unreadable::Never)? {
        StatementText::Sql(statement) => statement,
        StatementText::Truncate => return query::of_truncate(relation, trust),
        StatementText::None { or } => {
            let need = Need { relation, privileges: privilege, or, ..Need::default() };
            return Ok(Needs { needs: vec![need], ..Needs::default() });
        }
    };
    let mut needs = query::of(&statement, role, trust)?;
    // Where no column is named, the question is about the whole relation.
    for need in needs.needs.iter_mut().filter(|n| n.relation == relation && n.check_as.is_none()) {
        need.is_partial = !columns.is_empty();
    }
    Ok(needs)
}

/// Why a statement on a materialized view fails for a role with all privileges.
fn unusable(state: &State, relation: &Relation, wanted: Privileges) -> Option<String> {
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

/// Puts the needs on the relation that the statement names first, because the server checks them
/// first.
fn named_first(mut needs: Vec<Need>, named: Oid) -> Vec<Need> {
    needs.sort_by_key(|need| !(need.relation == named && need.check_as.is_none()));
    needs
}

/// Looks up a name. Raises an error where it cannot be the name of any object.
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
        _ => invalid_name(&named.parts.join(".")),
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
            columns(oid, named.columns().unwrap_or_else(|| invalid_name(name)))
        }
        _ => routine(state, schema, name, &routines, named.list.as_deref()),
    }
}

/// Selects one of the routines that have the name. Raises an error where a name without a list of
/// types is not unique.
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

/// Looks up the types of arguments as users write them: `int`, `numeric(12,2)`, or a type of the
/// schema of the routine, with or without the name of the argument.
fn types_named(schema: &str, names: &[String]) -> Vec<Option<Oid>> {
    let path =
        CString::new(to_server(&format!("pg_catalog, {}, public, pg_temp", safe_ident(schema))))
            .unwrap_or_default();
    let work = |name: &str| {
        setting::under(&[(c"search_path", path.as_c_str())], || catalog::deparse::type_named(name))
    };
    // The parser raises an error for a text that is not the name of a type.
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

fn reject_complex(relation: Oid) -> ! {
    let name = catalog::name(catalog::PG_CLASS, relation)
        .map(|(schema, name)| safe_qualified(&schema, &name));
    Report {
        message: format!(
            "{} depends on too many views or rules",
            printable(&name.unwrap_or_default())
        ),
        detail: "Rewriting a statement on it could exhaust the memory of the server.".into(),
        hint: "Call ops.explain_access() for the tables that it reads.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX)
}

fn unqualified(name: &str) -> ! {
    Report {
        message: format!("schema \"{}\" does not exist", printable(name)),
        detail: "A name without a schema is read as the name of a schema, because other objects \
                 would depend on the search_path."
            .into(),
        hint: "Specify schema.name, schema.table.column, or schema.function(types).".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME)
}

fn invalid_name(text: &str) -> ! {
    Report {
        message: format!("invalid object name: \"{}\"", printable(text)),
        detail: String::new(),
        hint: "Specify schema, schema.name, schema.table.column, schema.table(column, ...), or \
               schema.function(types)."
            .into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_NAME)
}

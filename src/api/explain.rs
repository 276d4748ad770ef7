//! `ops.explain_access()`: why a role can or cannot.

use super::postgrest::AUTHENTICATOR;
use crate::catalog::{self as scan, Own};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::Trust;
use crate::pg::report::{Report, unknown_argument};
use crate::pg::scratch::Scratch;
use crate::pg::text::to_server;
use crate::pg::{setting, subtransaction};
use crate::query as needs;
pub use crate::query::{Needs, Unreadable, view_is_read};
use crate::store::contract;
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
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::{BTreeSet, HashMap};
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

/// What comes of it when those who are meant to do something try, where it does not work or was not
/// tried. `patiently` waits for locks as long as it may.
pub fn denied(
    contract: &Contract,
    state: &State,
    reach: &[Reach],
    patiently: impl Fn(&dyn Fn() -> Result<Needs, Unreadable>) -> Result<Needs, Unreadable>,
) -> HashMap<Reach, Trial> {
    let memory = Scratch::new();
    let base = scan::base(state).complete();
    let trust = Trust::of_superusers(&base);
    let trusted = Trust::under(contract, &base).owners;
    let (mut readable, mut found) = (Vec::new(), HashMap::new());
    for reach in reach {
        let kind = scan::relation_kind(state, reach.relation);
        // To put strangers' views over each other in their place takes as much as those like.
        let is_strange = |oid: &Oid| {
            scan::has_rules(state, *oid)
                && scan::relation_owner(state, *oid).is_some_and(|owner| !trusted.contains(&owner))
        };
        let strange =
            scan::behind_view(state, reach.relation).iter().filter(|oid| is_strange(oid)).count();
        let why = match strange {
            2.. => Some(
                "it rests on views or rules over each other that belong to roles whom the contract does not trust with the structure",
            ),
            _ => is_too_much(state, reach.relation)
                .then_some("too many views or rules stand behind it"),
        };
        if let Some(why) = why {
            found.insert(*reach, Trial::Untried(why.into()));
            continue;
        }
        let is_table = kind.is_some_and(RelationKind::is_table);
        let looks = matches!(reach.privilege, Privileges::SELECT | Privileges::DELETE);
        let read = || {
            memory.with(|| needs(reach.relation, kind, reach.privilege, &[], reach.role, &trust))
        };
        match patiently(&read) {
            Ok(mut needs) => {
                // What is certain: whoever changes a row leaves its number as it is, and gives the
                // values that a default cannot; and not every column of a view is asked for.
                needs.needs.retain(|need| {
                    reach.privilege != Privileges::UPDATE || need.moment == Moment::Start
                });
                needs.calls.retain(|call| is_table && looks && call.moment == Moment::Start);
                readable.push((*reach, needs, None));
            }
            Err(Unreadable::Never(why)) if looks => {
                readable.push((*reach, Needs::default(), Some(why)))
            }
            // As a table without columns, in which there is nothing to change.
            Err(Unreadable::Never(_)) => {}
            Err(Unreadable::Now(error)) => {
                found.insert(
                    *reach,
                    Trial::Untried(subtransaction::report(&error).message().to_owned()),
                );
            }
        }
    }
    let relations: BTreeSet<Oid> = readable
        .iter()
        .flat_map(|(reach, needs, _)| {
            needs.needs.iter().map(|n| n.relation).chain([reach.relation])
        })
        .collect();
    let routines: BTreeSet<Oid> = readable
        .iter()
        .flat_map(|(_, needs, _)| needs.calls.iter().map(|call| call.routine))
        .collect();
    let snapshot = around(state, base, relations, routines);
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &interrupts);
    let called = Callable::of(&snapshot);
    let refused = |(reach, needs, impossible): (Reach, Needs, Option<String>)| {
        let (relation, role) = (snapshot.relation(reach.relation)?, snapshot.role(reach.role)?);
        let attempt = called.attempt(relation, needs, impossible, None);
        let why = dragonfly_core::explain::denied(&cx, role, &attempt, reach.privilege)?;
        Some((reach, Trial::Broken(why)))
    };
    found.extend(readable.into_iter().filter_map(refused));
    found
}

/// Whether the rules of a relation make so much of a statement that the server itself, which cannot
/// be interrupted meanwhile, may not live through it.
fn is_too_much(state: &State, relation: Oid) -> bool {
    const MOST: u64 = 50_000;
    scan::products(state, relation, MOST) >= MOST
}

/// The routines of a snapshot, by OID.
struct Callable<'s>(HashMap<Oid, &'s Routine>);

impl<'s> Callable<'s> {
    fn of(snapshot: &'s Snapshot) -> Self {
        Self(snapshot.routines.iter().map(|routine| (routine.oid, routine)).collect())
    }

    fn calls(&self, needs: &Needs) -> Vec<Called<'s>> {
        let called = |call: &needs::Call| {
            let needs::Call { routine, check_as, moment } = *call;
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

/// What a name stands for.
enum Found {
    Schema(Oid),
    /// With the columns that were named.
    Relation(Oid, Vec<String>),
    Routine(Oid),
    /// Nothing; the schema, where there is that.
    Nothing(Option<Oid>),
}

fn answer(role: &str, named: &Named, privilege: Option<String>, authenticator: &str) -> Vec<Link> {
    let state = State::now();
    let own = Own::find(&state);
    let contract = contract::in_force(&state, &own);
    let base = scan::base(&state).complete();
    let trust = Trust::of_superusers(&base);
    let found = find(&state, &base, named);
    let role_oid = base.role_named(role).map(|r| r.oid);
    let (relation, columns) = match &found {
        Found::Relation(oid, columns) => (Some(*oid), columns.as_slice()),
        _ => (None, &[][..]),
    };
    let kind = relation.and_then(|oid| scan::relation_kind(&state, oid));
    let wanted = wanted(thing(&found, kind), privilege.as_deref());
    if let Some(name) = relation
        .filter(|oid| is_too_much(&state, *oid))
        .and_then(|oid| scan::name(scan::PG_CLASS, oid))
    {
        Report {
            message: format!(
                "too many views or rules stand behind {}",
                printable(&safe_qualified(&name.0, &name.1))
            ),
            detail: "What the server makes of a statement on it may be more than it can hold."
                .into(),
            hint: "Ask about what they lead to.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX)
    }
    let needs = match (&found, role_oid) {
        (Found::Routine(oid), Some(_)) => Some(needs::of_call(*oid, &trust)),
        _ => relation
            .zip(role_oid)
            .map(|(oid, role)| needs(oid, kind, wanted, columns, role, &trust)),
    };
    let (needs, impossible) = match needs {
        Some(Ok(needs)) => (needs, None),
        Some(Err(Unreadable::Never(why))) => (Needs::default(), Some(why)),
        Some(Err(Unreadable::Now(error))) => error.rethrow(),
        None => (Needs::default(), None),
    };
    let asked = if let Found::Routine(oid) = found { Some(oid) } else { None };
    let relations: BTreeSet<Oid> =
        relation.into_iter().chain(needs.needs.iter().map(|n| n.relation)).collect();
    let routines: BTreeSet<Oid> =
        needs.calls.iter().map(|call| call.routine).chain(asked).collect();
    let snapshot = around(&state, base, relations, routines);
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let called = Callable::of(&snapshot);
    let name =
        named.parts.iter().map(|part| safe_ident(part).into_owned()).collect::<Vec<_>>().join(".");
    let subject = match found {
        Found::Schema(oid) => snapshot.schema(oid).map(Subject::Schema),
        Found::Routine(oid) => {
            called.0.get(&oid).map(|routine| Subject::Routine(routine, called.calls(&needs)))
        }
        Found::Relation(oid, _) => snapshot.relation(oid).map(|relation| {
            Subject::Relation(called.attempt(
                relation,
                needs,
                impossible,
                futile(&state, relation, wanted),
            ))
        }),
        Found::Nothing(schema) => Some(Subject::Missing {
            schema: schema.and_then(|s| snapshot.schema(s)),
            name: name.clone(),
        }),
    };
    // What is some session's temporary thing is not there for others.
    let subject = subject.unwrap_or(Subject::Missing { schema: None, name });
    explain(&cx, &Question { role, authenticator, privilege: wanted, subject })
}

/// Some relations and routines with what judging them takes; and the tables that the sequences
/// among them serve, for the contract speaks of those.
fn around(
    state: &State,
    base: Snapshot,
    relations: BTreeSet<Oid>,
    routines: BTreeSet<Oid>,
) -> Snapshot {
    let relations: Vec<Oid> = relations.into_iter().collect();
    let mut part = scan::part(state, &relations, &routines.into_iter().collect::<Vec<_>>());
    let served =
        part.relations.iter().filter_map(|r| r.owned_by).filter(|table| !relations.contains(table));
    let served: Vec<Oid> = served.collect();
    part.relations.extend(scan::part(state, &served, &[]).relations);
    scan::around(part, base, state)
}

/// The privilege that is asked about; an error where there is no such privilege on such a thing.
fn wanted(thing: Thing, word: Option<&str>) -> Privileges {
    let Some(word) = word else { return thing.natural() };
    let possible = thing.possible(scan::VERSION);
    let wanted = Privileges::from_word(word.trim()).filter(|p| possible.contains(*p));
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

/// The statement that stands for a privilege, asked of the server; and what no statement shows.
fn needs(
    oid: Oid,
    kind: Option<RelationKind>,
    wanted: Privileges,
    columns: &[String],
    role: Oid,
    trust: &Trust,
) -> Result<Needs, Unreadable> {
    let Some((schema, name)) = scan::name(scan::PG_CLASS, oid) else { return Ok(Needs::default()) };
    let plain = |or: Privileges| Needs {
        needs: vec![Need { relation: oid, privileges: wanted, or, ..Need::default() }],
        ..Needs::default()
    };
    if kind == Some(RelationKind::Sequence) {
        // nextval takes one of the two (sequence.c).
        return Ok(plain(if wanted == Privileges::USAGE {
            Privileges::UPDATE
        } else {
            Privileges::NONE
        }));
    }
    let sql = dragonfly_core::sql::safe_qualified(&schema, &name);
    let all = || match columns {
        [] => needs::all_columns(oid),
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
            return Err(Unreadable::Never(format!("{sql} has no columns to change")));
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
        Privileges::TRUNCATE => return needs::of_truncate(oid, trust),
        _ => return Ok(plain(Privileges::NONE)),
    };
    let mut needs = needs::of(&statement, role, trust)?;
    // The whole of it was meant, where no column was named.
    for need in needs.needs.iter_mut().filter(|n| n.relation == oid && n.check_as.is_none()) {
        need.is_partial = !columns.is_empty();
    }
    Ok(needs)
}

/// What a materialized view answers to whom it does not refuse.
fn futile(state: &State, relation: &Relation, wanted: Privileges) -> Option<String> {
    let name = printable(&relation.name);
    match wanted {
        _ if relation.kind != RelationKind::MaterializedView => None,
        Privileges::INSERT | Privileges::UPDATE | Privileges::DELETE => {
            Some(format!("cannot change materialized view \"{name}\""))
        }
        Privileges::SELECT if !scan::is_populated(state, relation.oid) => {
            Some(format!("materialized view \"{name}\" has not been populated"))
        }
        _ => None,
    }
}

/// The server asks for the privileges on the relation that the statement names first.
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
            Some(oid) => in_schema(state, (oid, schema), name, named),
            None => Found::Nothing(None),
        },
        ([schema, table, column], None | Some(Noun::Relation)) if named.list.is_none() => {
            let relation =
                schema_named(schema).and_then(|schema| scan::relation_named(schema, table));
            relation.map_or_else(
                || Found::Nothing(schema_named(schema)),
                |oid| columns(oid, vec![column.clone()]),
            )
        }
        _ => no_name(&named.parts.join(".")),
    }
}

fn in_schema(
    state: &State,
    (schema, schema_name): (Oid, &str),
    name: &str,
    named: &Named,
) -> Found {
    let relation = scan::relation_named(schema, name).filter(|_| named.noun != Some(Noun::Routine));
    if named.noun == Some(Noun::Relation) && relation.is_none() {
        return Found::Nothing(Some(schema));
    }
    // A list is one of columns where a relation has them, or where there is no routine of the name.
    let is_of_columns = |relation: Oid| {
        let known = needs::all_columns(relation);
        named.columns().is_some_and(|columns| columns.iter().all(|column| known.contains(column)))
    };
    let routines = scan::routines_named(state, &[name].into(), &[schema].into());
    match relation {
        Some(oid) if named.noun.is_some() || routines.is_empty() || is_of_columns(oid) => {
            columns(oid, named.columns().unwrap_or_else(|| no_name(name)))
        }
        _ => routine(state, (schema, schema_name), name, routines, named.list.as_deref()),
    }
}

/// Which of the routines of a name it is.
fn routine(
    state: &State,
    (schema, schema_name): (Oid, &str),
    name: &str,
    found: Vec<Oid>,
    list: Option<&str>,
) -> Found {
    match (list, found.as_slice()) {
        (Some(list), _) => {
            let wanted = types_named(schema_name, &dragonfly_core::sql::argument_types(list));
            let same = |oid: &&Oid| {
                scan::argument_type_oids(state, **oid)
                    .into_iter()
                    .map(Some)
                    .eq(wanted.iter().copied())
            };
            found.iter().find(same).map_or(Found::Nothing(Some(schema)), |oid| Found::Routine(*oid))
        }
        (None, []) => Found::Nothing(Some(schema)),
        (None, [oid]) => Found::Routine(*oid),
        (None, several) => {
            let shown = |oid: &Oid| {
                let types = scan::argument_types_of(state, *oid).replace("pg_catalog.", "");
                format!("{}({})", printable(name), printable(&types))
            };
            Report {
                message: format!(
                    "there are {} routines of the name {}",
                    several.len(),
                    printable(name)
                ),
                detail: String::new(),
                hint: format!(
                    "Say which: {}.",
                    listed(&several.iter().map(shown).collect::<Vec<_>>())
                ),
            }
            .error(PgSqlErrorCode::ERRCODE_AMBIGUOUS_FUNCTION)
        }
    }
}

/// Types as people name them: `int`, `numeric(12,2)`, a type of the routine's own schema, with the
/// argument's name before it.
fn types_named(schema: &str, names: &[String]) -> Vec<Option<Oid>> {
    let path =
        CString::new(to_server(&format!("pg_catalog, {}, public, pg_temp", safe_ident(schema))))
            .unwrap_or_default();
    let work = |name: &str| {
        setting::under(&[(c"search_path", path.as_c_str())], || scan::deparse::type_named(name))
    };
    // What is no type's name at all is an error of the parser's.
    let found = |name: &str| subtransaction::rolled_back(|| work(name)).ok().flatten();
    names
        .iter()
        .filter_map(|name| types_of_argument(name))
        .map(|types| types.iter().find_map(|name| found(name)))
        .collect()
}

fn columns(relation: Oid, columns: Vec<String>) -> Found {
    let known = needs::all_columns(relation);
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

fn unqualified(name: &str) -> ! {
    Report {
        message: format!("there is no schema \"{}\"", printable(name)),
        detail:
            "Only a schema is named by one name: what else there is depends on who looks for it."
                .into(),
        hint: "Write schema.name, schema.table.column, or schema.function(types).".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME)
}

fn no_name(text: &str) -> ! {
    Report {
        message: format!("\"{}\" is not the name of anything", printable(text)),
        detail: String::new(),
        hint: "Write schema, schema.name, schema.table.column, schema.table(column, ...), or schema.function(types).".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_NAME)
}

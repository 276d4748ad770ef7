//! `ops.explain_access()`: why a role can access an object or cannot.

use super::argument;
use super::postgrest::authenticator_of;
use crate::access::named::{reject, type_named};
use crate::access::{Callable, Objects, Required, Statement, add, forms, is_too_complex, unusable};
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::Trust;
use crate::pg::lock_timeout;
use crate::pg::report::{Report, unknown_argument};
use crate::query;
use crate::store::Installation;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Privileges, RelationKind, Snapshot};
use dragonfly_core::explain::{
    Attempt, Execution, Form, Link, Missing, Named, Question, Subject, SubjectKind, Variant,
    explain, parse,
};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::{printable, safe_ident, safe_qualified};
use dragonfly_reader::exposures::exposures_of_readers;
use dragonfly_reader::mentions::text_bodies;
use dragonfly_reader::named::{Found, Names, Unnamed};
use pgrx::{PgSqlErrorCode, pg_sys};

sql_function!(
    /// `ops.explain_access(role name, object text, privilege text DEFAULT NULL,
    /// authenticator name DEFAULT NULL) RETURNS TABLE (link int4, step text, ok bool, detail text,
    /// fix text)`
    ops_explain_access => explain_access
);
fn explain_access(call: Call) -> pg_sys::Datum {
    let (role, object) = (argument::name(call, 0, "role"), argument::text(call, 1, "object"));
    let privilege = argument::optional_text(call, 2, "privilege");
    let authenticator = argument::optional_name(call, 3, "authenticator");
    let named = parse(&object).unwrap_or_else(|| reject(&Unnamed::Invalid(object.clone())));
    let links =
        lock_timeout::of_reader(|| answer(&role, &named, privilege, authenticator.as_deref()));
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

fn answer(
    role: &str,
    named: &Named,
    privilege: Option<String>,
    authenticator: Option<&str>,
) -> Vec<Link> {
    let Installation { state, contract, .. } = Installation::now();
    let authenticator = &authenticator_of(authenticator, &contract);
    let base = catalog::base(&state).complete();
    let names = Names { state: &state, base: &base, contract: &contract, type_named: &type_named };
    let found = names.find(named).unwrap_or_else(|unnamed| reject(&unnamed));
    let asked = Asked::of(&state, found, named, privilege.as_deref());
    let required = asked.required(&state, &base, role);
    let owns_objects =
        base.role_named(role).is_some_and(|role| catalog::owns_objects(&state, role.oid));
    let mut objects = Objects::default();
    objects.relations.extend(asked.relation());
    objects.routines.extend(asked.routine());
    add(&mut objects, &required.plain.needs);
    add(&mut objects, &required.plain.defaults);
    required.forms.iter().for_each(|(_, required)| add(&mut objects, &required.needs));
    let snapshot = objects.snapshot(&state, base);
    // What needs a privilege decides whether it can be granted.
    let routines = snapshot.routines.iter().map(|r| ObjectId::Routine(r.oid));
    let relations = snapshot.relations.iter().map(|r| ObjectId::Relation(r.oid));
    let involved: Vec<ObjectId> = routines.chain(relations).collect();
    let mut snapshot = catalog::with_users(&state, &snapshot, &involved);
    let of = (&catalog::mentioned(&state), &contract.identities());
    snapshot.exposures = exposures_of_readers(of, &snapshot, role);
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let callable = Callable::of(&snapshot);
    let runner = snapshot.role_named(role).map(|role| role.oid).unwrap_or_default();
    let get = |routine| callable.get(routine);
    let texts = text_bodies(&state, &contract, &required.plain.needs.texts, runner, get);
    let wanted = asked.privilege;
    let subject = match &asked.found {
        Found::Schema(oid) => snapshot.schema(*oid).map(Subject::Schema),
        Found::Routine(oid) => {
            let execution = |routine| callable.execution(routine, &required.plain);
            callable
                .get(*oid)
                .map(|routine| Subject::Routine(Execution { texts, ..execution(routine) }))
        }
        Found::Relation(oid, _) => snapshot.relation(*oid).map(|relation| {
            let attempt = |required: &Required| {
                callable.attempt(relation, required, unusable(&state, relation, wanted))
            };
            let variant =
                |(form, required): &(Form, _)| Variant { form: *form, attempt: attempt(required) };
            let variants = required.forms.iter().map(variant).collect();
            Subject::Relation(Attempt { texts, ..attempt(&required.plain) }, variants)
        }),
        Found::Nothing(nothing) => Some(Subject::Missing(nothing.missing(&snapshot))),
    };
    // The snapshot has no temporary objects: for other sessions they do not exist.
    let subject = subject.unwrap_or_else(|| {
        Subject::Missing(Missing { object: asked.name.clone(), ..Missing::default() })
    });
    explain(&cx, &Question { role, authenticator, owns_objects, privilege: wanted, subject })
}

/// Statements on relations whose rules make more of them are not read.
const MOST_PRODUCTS: u64 = 50_000;

/// What a question is about.
struct Asked {
    /// The name as SQL.
    name: String,
    found: Found,
    kind: Option<RelationKind>,
    privilege: Privileges,
}

/// What the statements of a question require.
#[derive(Default)]
struct Statements {
    plain: Required,
    /// The other forms that roles can execute.
    forms: Vec<(Form, Required)>,
}

impl Asked {
    fn of(state: &State, found: Found, named: &Named, privilege: Option<&str>) -> Self {
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
    fn required(&self, state: &State, base: &Snapshot, role: &str) -> Statements {
        if let Some(relation) =
            self.relation().filter(|oid| is_too_complex(state, *oid, MOST_PRODUCTS))
        {
            reject_complex(relation);
        }
        let Some(role) = base.role_named(role).map(|role| role.oid) else {
            return Statements::default();
        };
        let trust = Trust::of_superusers(base);
        let required = |read| Required::of(read).unwrap_or_else(|error| error.rethrow());
        match &self.found {
            Found::Routine(oid) => {
                let read = Required::of_call(query::of_call(*oid, role, &trust));
                let plain = read.unwrap_or_else(|error| error.rethrow());
                Statements { plain, forms: vec![] }
            }
            Found::Relation(oid, columns) => {
                let (relation, kind, privilege) = (*oid, self.kind, self.privilege);
                let of = |form| {
                    let statement = Statement { relation, kind, privilege, columns, form };
                    required(statement.needs(role, &trust))
                };
                let plain = of(None);
                let mut others = Vec::new();
                if plain.impossible.is_none() {
                    let forms = forms(relation, kind, privilege).into_iter();
                    others.extend(forms.map(|form| (form, of(Some(form)))));
                }
                others.retain(|(_, required)| required.impossible.is_none());
                Statements { plain, forms: others }
            }
            Found::Schema(_) | Found::Nothing(_) => Statements::default(),
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

//! Why a role can access an object or cannot, as far as the catalogs tell.

use crate::checks::{Callable, add};
use crate::exposures::exposures_of_readers;
use crate::expressions::Mentioned;
use crate::mentions::text_bodies;
use crate::named::{Found, Names, Unnamed};
use crate::snapshot::{Objects, base, with_users};
use crate::source::State;
use crate::statement::{Finder, Needs, Statement};
use crate::{objects, oids};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Privileges, RelationKind, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::{
    Attempt, Execution, Form, Link, Missing, Named, Question, Subject, SubjectKind, TextBody,
    Variant, explain, parse,
};
use dragonfly_core::rules::{Context, Tool};

/// A question about an object.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'q> {
    /// The name of the role.
    pub role: &'q str,
    /// The object, as users name it.
    pub object: &'q str,
    /// The privilege; `None` for the usual one on such an object.
    pub privilege: Option<&'q str>,
    /// The role that requests log in as; `None` for that of the contract.
    pub authenticator: Option<&'q str>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// The name cannot be looked up.
    Unnamed(Unnamed),
    /// It depends on more than is followed.
    TooComplex,
    /// Objects of this kind do not have the privilege.
    Privilege {
        /// What is asked for.
        given: String,
        /// The privileges that they have.
        valid: Vec<&'static str>,
    },
}

/// Returns the links of the answer. The last but one is the verdict, the last one compares it with
/// the contract.
///
/// # Errors
/// Where the question is not one.
pub fn answer(
    state: &dyn State,
    contract: &Contract,
    tool: Tool,
    asked: Asked<'_>,
) -> Result<Vec<Link>, Unanswered> {
    let named = parse(asked.object)
        .ok_or_else(|| Unanswered::Unnamed(Unnamed::Invalid(asked.object.to_owned())))?;
    let base = base(state).complete();
    let names = Names { state, base: &base, contract, type_named: &|_, _| None };
    let found = names.find(&named).map_err(Unanswered::Unnamed)?;
    let privilege = privilege(state, &found, asked.privilege)?;
    let needs = needs(state, &base, asked.role, &found, privilege);
    if needs.plain.is_cut || needs.forms.iter().any(|(_, needs)| needs.is_cut) {
        return Err(Unanswered::TooComplex);
    }
    let mut objects = Objects::default();
    match &found {
        Found::Relation(oid, _) => objects.relations.extend([*oid]),
        Found::Routine(oid) => objects.routines.extend([*oid]),
        Found::Schema(_) | Found::Nothing(_) => {}
    }
    add(&mut objects, &needs.plain);
    needs.forms.iter().for_each(|(_, needs)| add(&mut objects, needs));
    let involved: Vec<ObjectId> = objects
        .routines
        .iter()
        .map(|oid| ObjectId::Routine(*oid))
        .chain(objects.relations.iter().map(|oid| ObjectId::Relation(*oid)))
        .collect();
    let snapshot = objects.snapshot(state, base);
    let mut snapshot = with_users(state, &snapshot, &involved);
    snapshot.exposures = {
        let access = Access::new(&snapshot);
        let mentioned = Mentioned::new(state, state.rights(&snapshot, &access), state.texts());
        exposures_of_readers((&mentioned, &contract.identities()), &snapshot, asked.role)
    };
    let access = Access::new(&snapshot);
    let interrupts = || state.interrupts();
    let mut cx = Context::new(contract, &snapshot, &access, &interrupts);
    cx.tool = tool;
    let role = snapshot.role_named(asked.role);
    let routines = Callable::new(&snapshot);
    let runner = role.map(|role| role.oid).unwrap_or_default();
    let get = |routine| routines.get(routine);
    let texts = text_bodies(state, contract, &needs.plain.entered, runner, get);
    let subject =
        subject(state, &snapshot, &found, (&named, privilege), (&routines, &needs, texts));
    let authenticator = asked.authenticator.or(contract.login_role()).unwrap_or("authenticator");
    let owns_objects = role.is_some_and(|role| owns_objects(state, role.oid));
    let role = asked.role;
    Ok(explain(&cx, &Question { role, authenticator, owns_objects, privilege, subject }))
}

/// What the statements of a question need.
#[derive(Default)]
struct AllNeeds {
    plain: Needs,
    /// The other forms that roles can execute.
    forms: Vec<(Form, Needs)>,
}

/// Returns the privilege of a question.
fn privilege(
    state: &dyn State,
    found: &Found,
    word: Option<&str>,
) -> Result<Privileges, Unanswered> {
    let kind = match found {
        Found::Schema(_) => SubjectKind::Schema,
        Found::Routine(_) => SubjectKind::Routine,
        Found::Relation(oid, _)
            if objects::relation_kind(state, *oid) == Some(RelationKind::Sequence) =>
        {
            SubjectKind::Sequence
        }
        Found::Relation(..) => SubjectKind::Relation,
        Found::Nothing(_) => SubjectKind::Missing,
    };
    let Some(word) = word else { return Ok(kind.default_privilege()) };
    let valid = kind.valid_privileges(state.version());
    let wanted = word.trim().parse().ok().filter(|of: &Privileges| valid.contains(*of));
    wanted.ok_or_else(|| Unanswered::Privilege { given: word.to_owned(), valid: valid.words() })
}

/// Returns what the access needs; nothing where the role does not exist.
fn needs(
    state: &dyn State,
    base: &Snapshot,
    role: &str,
    found: &Found,
    privilege: Privileges,
) -> AllNeeds {
    let Some(role) = base.role_named(role) else { return AllNeeds::default() };
    let access = Access::new(base);
    let rights = state.rights(base, &access);
    let finder = Finder { state, rights: &*rights, role: role.oid };
    match found {
        Found::Relation(relation, columns) => {
            let relation = *relation;
            let of = |form| finder.of_statement(&Statement { relation, privilege, columns, form });
            let plain = of(None);
            let is_possible = plain.impossible.is_none();
            let forms = finder.forms(relation, privilege).into_iter().filter(|_| is_possible);
            let forms = forms.map(|form| (form, of(Some(form)))).collect();
            AllNeeds { plain, forms }
        }
        Found::Routine(routine) => AllNeeds { plain: finder.of_call(*routine), forms: vec![] },
        Found::Schema(_) | Found::Nothing(_) => AllNeeds::default(),
    }
}

/// Whether a role owns a schema, relation or routine of the database: what it owns elsewhere, the
/// catalogs of this database do not tell in a snapshot.
fn owns_objects(state: &dyn State, role: Oid) -> bool {
    let owners = [
        (oids::PG_NAMESPACE, "nspowner"),
        (oids::PG_CLASS, "relowner"),
        (oids::PG_PROC, "proowner"),
    ];
    owners.into_iter().any(|(catalog, column)| {
        let table = state.table(catalog);
        let owner = table.column(column);
        let mut owns = false;
        table.scan(|row| owns |= row.oid(owner) == role);
        owns
    })
}

fn subject<'s>(
    state: &dyn State,
    snapshot: &'s Snapshot,
    found: &Found,
    (named, privilege): (&Named, Privileges),
    (routines, needs, texts): (&Callable<'s>, &AllNeeds, Vec<TextBody<'s>>),
) -> Subject<'s> {
    let subject = match found {
        Found::Schema(oid) => snapshot.schema(*oid).map(Subject::Schema),
        Found::Routine(oid) => routines.get(*oid).map(|routine| {
            let execution = routines.execution(routine, &needs.plain);
            Subject::Routine(Execution { texts, ..execution })
        }),
        Found::Relation(oid, _) => snapshot.relation(*oid).map(|relation| {
            let attempt = |needs: &Needs| routines.attempt(state, relation, privilege, needs);
            let variant =
                |(form, needs): &(Form, Needs)| Variant { form: *form, attempt: attempt(needs) };
            let variants = needs.forms.iter().map(variant).collect();
            Subject::Relation(Attempt { texts, ..attempt(&needs.plain) }, variants)
        }),
        Found::Nothing(nothing) => Some(Subject::Missing(nothing.missing(snapshot))),
    };
    // The snapshot has no temporary objects.
    subject.unwrap_or_else(|| {
        Subject::Missing(Missing { object: named.parts.join("."), ..Missing::default() })
    })
}

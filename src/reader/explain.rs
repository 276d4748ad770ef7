//! Why a role can access an object or cannot, as far as the catalogs tell.

use crate::exposures::exposures_of_readers;
use crate::expressions::Mentioned;
use crate::mentions::text_bodies;
use crate::named::{Found, Names, Unnamed};
use crate::needs::{Callable, Needs};
use crate::snapshot::{Objects, base, with_users};
use crate::source::State;
use crate::statement::{Finder, Statement};
use crate::{objects, oids};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Privileges, RelationKind, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::{
    Attempt, Execution, Form, Link, Missing, Named, Question, Subject, SubjectKind, TextBody,
    Variant, explain, parse,
};
use dragonfly_core::rules::{Context, Tool};
use dragonfly_core::sql::{printable, safe_ident};

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
    Privilege(UnknownPrivilege),
}

/// A word that is no privilege on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPrivilege {
    /// The word.
    pub given: String,
    /// The privileges that there are.
    pub valid: Vec<&'static str>,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its links. The last but one is the verdict, the last one compares it with the contract.
    pub links: Vec<Link>,
    /// What does not exist, of the role and the object.
    pub missing: Option<String>,
}

/// Returns the answer to a question.
///
/// # Errors
/// Where the question is not one.
pub fn answer(
    state: &dyn State,
    contract: &Contract,
    tool: Tool,
    asked: Asked<'_>,
) -> Result<Answer, Unanswered> {
    let named = parse(asked.object)
        .ok_or_else(|| Unanswered::Unnamed(Unnamed::Invalid(asked.object.to_owned())))?;
    let base = base(state).complete();
    let names = Names { state, base: &base, contract, type_named: &|_, _| None };
    let found = names.find(&named).map_err(Unanswered::Unnamed)?;
    let privilege = privilege(state, &found, asked.privilege).map_err(Unanswered::Privilege)?;
    let statements = statements(state, &base, asked.role, &found, privilege);
    if statements.all().any(|needs| needs.is_cut) {
        return Err(Unanswered::TooComplex);
    }
    let owns_objects =
        base.role_named(asked.role).is_some_and(|role| owns_objects(state, role.oid));
    let resolved = Resolved {
        role: asked.role,
        authenticator: asked.authenticator,
        owns_objects,
        named: &named,
        found: &found,
        privilege,
    };
    let missing = match (base.role_named(asked.role), &found) {
        (None, _) => Some(format!("role \"{}\"", printable(asked.role))),
        (_, Found::Nothing(_)) => Some(printable(asked.object).into_owned()),
        _ => None,
    };
    Ok(Answer { links: links(state, contract, tool, base, &resolved, &statements), missing })
}

/// A question whose object has been looked up.
#[derive(Debug, Clone, Copy)]
pub struct Resolved<'q> {
    /// The name of the role.
    pub role: &'q str,
    /// The role that requests log in as; `None` for that of the contract.
    pub authenticator: Option<&'q str>,
    /// Whether the role owns something.
    pub owns_objects: bool,
    /// The object, as users name it.
    pub named: &'q Named,
    /// What it is.
    pub found: &'q Found,
    /// The privilege.
    pub privilege: Privileges,
}

/// What the statements of a question need.
#[derive(Debug, Default)]
pub struct Statements {
    /// The statement that needs the least.
    pub plain: Needs,
    /// The other forms that roles can execute.
    pub forms: Vec<(Form, Needs)>,
}

impl Statements {
    fn all(&self) -> impl Iterator<Item = &Needs> {
        std::iter::once(&self.plain).chain(self.forms.iter().map(|(_, needs)| needs))
    }
}

/// Returns the links of the answer to a question, given what its statements need. `base` has the
/// roles and schemas of the state.
pub fn links(
    state: &dyn State,
    contract: &Contract,
    tool: Tool,
    base: Snapshot,
    of: &Resolved<'_>,
    statements: &Statements,
) -> Vec<Link> {
    let mut objects = Objects::default();
    match of.found {
        Found::Relation(oid, _) => objects.relations.extend([*oid]),
        Found::Routine(oid) => objects.routines.extend([*oid]),
        Found::Schema(_) | Found::Nothing(_) => {}
    }
    statements.all().for_each(|needs| needs.add_to(&mut objects));
    let snapshot = objects.snapshot(state, base);
    // What needs a privilege decides whether it can be granted.
    let routines = snapshot.routines.iter().map(|routine| ObjectId::Routine(routine.oid));
    let relations = snapshot.relations.iter().map(|relation| ObjectId::Relation(relation.oid));
    let involved: Vec<ObjectId> = routines.chain(relations).collect();
    let mut snapshot = with_users(state, &snapshot, &involved);
    snapshot.exposures = {
        let access = Access::new(&snapshot);
        let mentioned = Mentioned::new(state, state.rights(&snapshot, &access), state.texts());
        exposures_of_readers((&mentioned, &contract.identities()), &snapshot, of.role)
    };
    let access = Access::new(&snapshot);
    let interrupts = || state.interrupts();
    let mut cx = Context::new(contract, &snapshot, &access, &interrupts);
    cx.tool = tool;
    let routines = Callable::new(&snapshot);
    let runner = snapshot.role_named(of.role).map(|role| role.oid).unwrap_or_default();
    let get = |routine| routines.get(routine);
    let texts = text_bodies(state, contract, &statements.plain.entered, runner, get);
    let question = Question {
        role: of.role,
        authenticator: of.authenticator.or(contract.login_role()).unwrap_or("authenticator"),
        owns_objects: of.owns_objects,
        privilege: of.privilege,
        subject: subject(state, &snapshot, of, (&routines, statements, texts)),
    };
    explain(&cx, &question)
}

/// Returns the privilege of a question, which a word names; `None` for the usual one.
///
/// # Errors
/// Where objects of this kind do not have it.
pub fn privilege(
    state: &dyn State,
    found: &Found,
    word: Option<&str>,
) -> Result<Privileges, UnknownPrivilege> {
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
    wanted.ok_or_else(|| UnknownPrivilege { given: word.to_owned(), valid: valid.words() })
}

/// Returns what the access needs; nothing where the role does not exist.
fn statements(
    state: &dyn State,
    base: &Snapshot,
    role: &str,
    found: &Found,
    privilege: Privileges,
) -> Statements {
    let Some(role) = base.role_named(role) else { return Statements::default() };
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
            Statements { plain, forms }
        }
        Found::Routine(routine) => Statements { plain: finder.of_call(*routine), forms: vec![] },
        Found::Schema(_) | Found::Nothing(_) => Statements::default(),
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
    of: &Resolved<'_>,
    (routines, statements, texts): (&Callable<'s>, &Statements, Vec<TextBody<'s>>),
) -> Subject<'s> {
    let subject = match of.found {
        Found::Schema(oid) => snapshot.schema(*oid).map(Subject::Schema),
        Found::Routine(oid) => routines.get(*oid).map(|routine| {
            let execution = routines.execution(routine, &statements.plain);
            Subject::Routine(Execution { texts, ..execution })
        }),
        Found::Relation(oid, _) => snapshot.relation(*oid).map(|relation| {
            let unusable = || objects::unusable(state, relation, of.privilege);
            let attempt = |needs: &Needs| routines.attempt(relation, needs, unusable());
            let variant =
                |(form, needs): &(Form, Needs)| Variant { form: *form, attempt: attempt(needs) };
            let variants = statements.forms.iter().map(variant).collect();
            Subject::Relation(Attempt { texts, ..attempt(&statements.plain) }, variants)
        }),
        Found::Nothing(nothing) => Some(Subject::Missing(nothing.missing(snapshot))),
    };
    // The snapshot has no temporary objects: for other sessions they do not exist.
    let name = || of.named.parts.iter().map(|part| safe_ident(part)).collect::<Vec<_>>().join(".");
    subject.unwrap_or_else(|| Subject::Missing(Missing { object: name(), ..Missing::default() }))
}

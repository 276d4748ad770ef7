//! Why a role can do something or cannot: the whole chain, link by link, and the broken one.
//! Incident response, section 10 of the contract document.
//!
//! The edge asks the server which privileges a statement needs, of whom: a view's tables are read
//! with the rights of the view's owner, or of the caller where the view is security_invoker. Here
//! is worked out who has them, and how (aclchk.c; execMain.c, `ExecCheckPermissions`;
//! rowsecurity.c).

mod chain;
mod contract;
mod name;
mod needs;
mod rows;

#[cfg(test)]
mod tests;

pub use name::{Named, Noun, parse, types_of_argument};
pub use needs::Need;

use crate::catalog::{ObjectKind, Oid, Privileges, Relation, Role, Routine, Schema};
use crate::rules::Context;
use crate::sql::{printable, safe_ident};

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What was looked at.
    pub step: String,
    /// Whether it holds; `None` where it is there to be known and cannot break.
    pub ok: Option<bool>,
    /// What was seen, as a sentence.
    pub detail: String,
    /// The smallest statement that mends it.
    pub fix: Option<String>,
}

/// What the role wants to do something with.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Subject<'a> {
    Schema(&'a Schema),
    /// With what calling it takes beside EXECUTE on it.
    Routine(&'a Routine, Vec<Called<'a>>),
    Relation(Attempt<'a>),
    /// It is not there: its schema, where that is, and how a person would call it.
    Missing {
        schema: Option<&'a Schema>,
        name: String,
    },
}

/// A statement on a relation, as the server sees it.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The relation.
    pub relation: &'a Relation,
    /// What the server would ask for, the relation itself first.
    pub needs: Vec<Need>,
    /// The functions that it would call.
    pub calls: Vec<Called<'a>>,
    /// Sequences that are looked up by a name without a schema when it runs: what they are, depends
    /// on who runs it.
    pub unresolved: Vec<String>,
    /// Why the statement is refused whoever runs it: a view into which nothing can be inserted.
    pub impossible: Option<String>,
    /// Why it fails though nobody refuses it: a materialized view that holds nothing yet.
    pub futile: Option<String>,
}

/// A function that a statement would call.
#[derive(Debug)]
pub struct Called<'a> {
    /// The function.
    pub routine: &'a Routine,
    /// Who must be allowed to, where not the role itself: the owner of an aggregate (nodeAgg.c), or
    /// of a table whose indexes are made anew.
    pub check_as: Option<Oid>,
    /// When it is asked.
    pub moment: Moment,
}

/// When, in the course of a statement, the server asks for a privilege. In this order; the policies
/// come before or after [`Moment::Row`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before it begins: on relations, then on functions (execMain.c, `InitPlan`).
    #[default]
    Start,
    /// Once, whether or not there is a row: the conditions of triggers before the statement.
    Statement,
    /// As the values of a row are worked out: sequences, the partition that it belongs to, the
    /// conditions of triggers before the row, generated columns.
    Row,
    /// When the row has passed the policies: constraints, indexes, the conditions of triggers after
    /// the row.
    Kept,
    /// Once, at the end: the conditions of triggers after the statement.
    End,
}

/// Who wants to do what.
#[derive(Debug)]
pub struct Question<'a> {
    /// The role.
    pub role: &'a str,
    /// The role that PostgREST logs in as, and becomes the other from.
    pub authenticator: &'a str,
    /// One privilege.
    pub privilege: Privileges,
    /// On what.
    pub subject: Subject<'a>,
}

/// What kind of thing it is, as far as privileges differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Thing {
    Schema,
    Routine,
    Sequence,
    /// Tables and views of any make.
    Relation,
    /// Nobody knows.
    Missing,
}

impl Thing {
    /// The privilege that a person means who names none.
    #[must_use]
    pub fn natural(self) -> Privileges {
        match self {
            Self::Schema | Self::Sequence => Privileges::USAGE,
            Self::Routine => Privileges::EXECUTE,
            Self::Relation | Self::Missing => Privileges::SELECT,
        }
    }

    /// The privileges that one can have on it.
    #[must_use]
    pub fn possible(self, version: u32) -> Privileges {
        match self {
            Self::Schema => Privileges::USAGE | Privileges::CREATE,
            Self::Routine => Privileges::EXECUTE,
            Self::Sequence => Privileges::ALL_ON_SEQUENCE,
            Self::Relation if version >= 17 => Privileges::ALL_ON_TABLE | Privileges::MAINTAIN,
            Self::Relation => Privileges::ALL_ON_TABLE,
            Self::Missing => Privileges(u32::MAX),
        }
    }
}

/// Answers. The last link but one is the verdict, the last what the contract says.
#[must_use]
pub fn explain(cx: &Context<'_>, question: &Question<'_>) -> Vec<Link> {
    let role = cx.snapshot.role_named(question.role);
    let mut links = vec![exists(question.role, role)];
    let mut outcome = Outcome::default();
    match role {
        None => outcome.deny(format!("role \"{}\" does not exist", printable(question.role))),
        Some(role) => match &question.subject {
            Subject::Schema(schema) => {
                links.push(privilege_on_schema(cx, role, schema, question.privilege, &mut outcome))
            }
            Subject::Routine(routine, calls) => {
                links.push(usage(cx, role, cx.snapshot.schema(routine.schema), &mut outcome));
                links.push(execute(cx, role, routine, &mut outcome));
                links.extend(
                    calls.iter().filter_map(|called| refused(cx, role, called, &mut outcome)),
                );
                links.push(rights_of_body(cx, routine));
            }
            Subject::Relation(attempt) => {
                links.extend(statement(cx, role, attempt, question.privilege, &mut outcome))
            }
            Subject::Missing { schema, name } => {
                links.extend(schema.map(|schema| usage(cx, role, Some(schema), &mut outcome)));
                let why = format!("there is no {}", printable(name));
                links.push(Link {
                    step: "object".into(),
                    ok: Some(false),
                    detail: sentence(&why),
                    fix: None,
                });
                outcome.deny(why);
            }
        },
    }
    let broken: Vec<&Link> = links.iter().filter(|link| link.ok == Some(false)).collect();
    // No statement opens what fails for every role.
    let is_hopeless = broken.iter().any(|link| link.fix.is_none());
    let fixes = if is_hopeless {
        vec![]
    } else {
        broken.iter().filter_map(|link| link.fix.clone()).collect()
    };
    // Whether requests can become the role is not part of the verdict.
    if let Some(role) = role {
        links.insert(1, login(cx, role, question.authenticator));
    }
    let is_open = outcome.error.is_none() && outcome.no_rows.is_none();
    links.push(outcome.link(fixes));
    links.push(contract::link(cx, question, is_open));
    links
}

/// What the server would say to a role that tries; `None` where it would let it.
#[must_use]
pub fn denied(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    privilege: Privileges,
) -> Option<String> {
    let mut outcome = Outcome::default();
    statement(cx, role, attempt, privilege, &mut outcome);
    outcome.error
}

/// A statement on a relation, in the order in which the server refuses it.
fn statement(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    privilege: Privileges,
    outcome: &mut Outcome,
) -> Vec<Link> {
    let relation = attempt.relation;
    let failing = |step: &str, why: &String, fix: Option<String>, outcome: &mut Outcome| {
        outcome.deny(why.clone());
        Link { step: step.into(), ok: Some(false), detail: sentence(why), fix }
    };
    let mut links = vec![usage(cx, role, cx.snapshot.schema(relation.schema), outcome)];
    links.extend(attempt.impossible.as_ref().map(|why| failing("statement", why, None, outcome)));
    links.extend(asked(cx, role, attempt, Moment::Start, outcome));
    links.extend(attempt.futile.as_ref().map(|why| {
        let refresh = format!("REFRESH MATERIALIZED VIEW {};", cx.snapshot.relation_sql(relation));
        failing("contents", why, (privilege == Privileges::SELECT).then_some(refresh), outcome)
    }));
    links.extend(asked(cx, role, attempt, Moment::Statement, outcome));
    // The values of a new row are worked out before a policy looks at it; those of an old one after
    // policies have chosen it.
    let inserts = privilege == Privileges::INSERT;
    if inserts {
        links.extend(asked(cx, role, attempt, Moment::Row, outcome));
    }
    links.extend(rows::links(cx, role, attempt, outcome));
    if !inserts {
        links.extend(asked(cx, role, attempt, Moment::Row, outcome));
    }
    links.extend(
        [Moment::Kept, Moment::End]
            .into_iter()
            .flat_map(|moment| asked(cx, role, attempt, moment, outcome)),
    );
    links.extend(attempt.unresolved.iter().map(|name| Link {
        step: format!("sequence {}", printable(name)),
        ok: None,
        detail:
            "It is looked up when a row is inserted, along the search_path of the session.".into(),
        fix: None,
    }));
    links
}

/// What is asked for at one moment: a link for every privilege on a relation, and for every
/// function that may not be called.
fn asked(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    moment: Moment,
    outcome: &mut Outcome,
) -> Vec<Link> {
    // Where there are no rows, nobody asks.
    let mut unheard = Outcome::default();
    let by_row = matches!(moment, Moment::Row | Moment::Kept);
    let outcome = if by_row && outcome.no_rows.is_some() { &mut unheard } else { outcome };
    let mut links = needs::links(cx, role, attempt, moment, outcome);
    let calls = attempt.calls.iter().filter(|called| called.moment == moment);
    links.extend(calls.filter_map(|called| refused(cx, role, called, outcome)));
    links
}

/// A link for a function that may not be called.
fn refused(
    cx: &Context<'_>,
    role: &Role,
    called: &Called<'_>,
    outcome: &mut Outcome,
) -> Option<Link> {
    cx.check_interrupts();
    let who = checked_as(cx, role, called.check_as)
        .filter(|who| !may_execute(cx, who, called.routine))?;
    let mut link = execute(cx, who, called.routine, outcome);
    if called.check_as.is_some() {
        link.step += &format!(", as \"{}\", the owner", printable(&who.name));
    }
    Some(link)
}

/// What comes of it.
#[derive(Debug, Default)]
struct Outcome {
    /// What the server would say first.
    error: Option<String>,
    /// No policy applies, so that there is nothing to see or to change.
    no_rows: Option<String>,
    /// Something else that a person should know.
    note: Option<String>,
}

impl Outcome {
    fn deny(&mut self, error: String) {
        self.error.get_or_insert(error);
    }

    fn link(self, fixes: Vec<String>) -> Link {
        let (ok, detail) = match (&self.error, &self.no_rows) {
            (Some(error), _) => (false, format!("Denied: {error}.")),
            (None, Some(table)) => (
                false,
                format!("Allowed, but it reaches no row of {table}, and no error is raised."),
            ),
            (None, None) => (
                true,
                format!("Allowed.{}", self.note.map(|n| format!(" {n}")).unwrap_or_default()),
            ),
        };
        let fix = (!ok && !fixes.is_empty()).then(|| fixes.join("\n"));
        Link { step: "verdict".into(), ok: Some(ok), detail, fix }
    }
}

fn exists(name: &str, role: Option<&Role>) -> Link {
    let step = format!("role {}", safe_ident(name));
    let shown = printable(name);
    match role {
        None => {
            let fix = format!("CREATE ROLE {} NOLOGIN;", safe_ident(name));
            Link {
                step,
                ok: Some(false),
                detail: format!("Role \"{shown}\" does not exist."),
                fix: Some(fix),
            }
        }
        Some(role) => {
            let powers = [
                (role.superuser, "is a superuser"),
                (role.bypass_rls, "bypasses row level security"),
            ];
            let powers: Vec<&str> =
                powers.into_iter().filter(|(has, _)| *has).map(|(_, what)| what).collect();
            let detail = match powers.as_slice() {
                [] => format!("Role \"{shown}\" exists."),
                powers => format!("Role \"{shown}\" {}.", powers.join(" and ")),
            };
            Link { step, ok: Some(true), detail, fix: None }
        }
    }
}

/// Whether requests can come to be this role. That is no part of the verdict: it says what happens
/// once they are.
fn login(cx: &Context<'_>, role: &Role, authenticator: &str) -> Link {
    let (name, login) = (printable(&role.name), printable(authenticator));
    let step = format!("SET ROLE {}", safe_ident(&role.name));
    let found = cx.snapshot.role_named(authenticator);
    let (ok, detail) = match found {
        _ if role.can_login => (None, format!("Role \"{name}\" can log in itself.")),
        None => (None, format!("Role \"{login}\", which would become \"{name}\", does not exist.")),
        Some(by) if cx.access.can_set_role(by.oid, role.oid) => {
            (Some(true), format!("Role \"{login}\" can become \"{name}\"."))
        }
        Some(_) => (
            Some(false),
            format!(
                "Role \"{login}\" cannot become \"{name}\": a request with that role in its token fails."
            ),
        ),
    };
    let fix = (ok == Some(false))
        .then(|| format!("GRANT {} TO {};", safe_ident(&role.name), safe_ident(authenticator)));
    Link { step, ok, detail, fix }
}

/// Whether names in the schema can be used at all.
fn usage(cx: &Context<'_>, role: &Role, schema: Option<&Schema>, outcome: &mut Outcome) -> Link {
    match schema {
        Some(schema) => privilege_on_schema(cx, role, schema, Privileges::USAGE, outcome),
        None => Link {
            step: "schema".into(),
            ok: None,
            detail: "Its schema no longer exists.".into(),
            fix: None,
        },
    }
}

fn privilege_on_schema(
    cx: &Context<'_>,
    role: &Role,
    schema: &Schema,
    wanted: Privileges,
    outcome: &mut Outcome,
) -> Link {
    let sql = safe_ident(&schema.name);
    let held =
        cx.access.privileges(role.oid, schema.owner, schema.acl.as_ref(), ObjectKind::Schema);
    let ok = held.contains(wanted);
    let how = chain::how(cx, role, (schema.owner, schema.acl.as_ref(), ObjectKind::Schema), wanted);
    if !ok {
        outcome.deny(format!("permission denied for schema {}", printable(&schema.name)));
    }
    Link {
        step: format!("{wanted} on schema {sql}"),
        ok: Some(ok),
        detail: match ok {
            true => format!("Role \"{}\" has {wanted}{how}.", printable(&role.name)),
            false => format!(
                "Role \"{}\" lacks {wanted}: {}.",
                printable(&role.name),
                no_name(&schema.name, wanted)
            ),
        },
        fix: (!ok)
            .then(|| format!("GRANT {wanted} ON SCHEMA {sql} TO {};", safe_ident(&role.name))),
    }
}

fn no_name(schema: &str, wanted: Privileges) -> String {
    match wanted {
        Privileges::USAGE => format!("objects in schema {} cannot be accessed", safe_ident(schema)),
        _ => format!("objects cannot be created in schema {}", safe_ident(schema)),
    }
}

fn may_execute(cx: &Context<'_>, role: &Role, routine: &Routine) -> bool {
    let held =
        cx.access.privileges(role.oid, routine.owner, routine.acl.as_ref(), ObjectKind::Routine);
    held.contains(Privileges::EXECUTE)
}

fn execute(cx: &Context<'_>, role: &Role, routine: &Routine, outcome: &mut Outcome) -> Link {
    let name = cx.snapshot.routine_message(routine);
    let ok = may_execute(cx, role, routine);
    if !ok {
        outcome.deny(format!(
            "permission denied for {} {}",
            routine.object_type(),
            printable(&routine.name)
        ));
    }
    let how = chain::how(
        cx,
        role,
        (routine.owner, routine.acl.as_ref(), ObjectKind::Routine),
        Privileges::EXECUTE,
    );
    Link {
        step: format!("EXECUTE on {} {name}", routine.object_type()),
        ok: Some(ok),
        detail: match ok {
            true => format!("Role \"{}\" has EXECUTE{how}.", printable(&role.name)),
            false => format!("Role \"{}\" lacks EXECUTE.", printable(&role.name)),
        },
        fix: (!ok).then(|| {
            format!(
                "GRANT EXECUTE ON ROUTINE {} TO {};",
                cx.snapshot.routine_sql(routine),
                safe_ident(&role.name)
            )
        }),
    }
}

/// With whose rights the body runs: what it then may is another question.
fn rights_of_body(cx: &Context<'_>, routine: &Routine) -> Link {
    let detail = match routine.security_definer {
        true => format!(
            "SECURITY DEFINER: the body runs with the privileges of \"{}\".",
            printable(&cx.snapshot.role_name(routine.owner))
        ),
        false => "SECURITY INVOKER: the body runs with the privileges of the role, and may fail for lack of others.".into(),
    };
    Link { step: "body".into(), ok: None, detail, fix: None }
}

/// As a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

/// The role that a need is checked as.
fn checked_as<'a>(cx: &Context<'a>, role: &'a Role, check_as: Option<Oid>) -> Option<&'a Role> {
    check_as.map_or(Some(role), |oid| cx.snapshot.role(oid))
}

//! Why a role can access an object or cannot: every condition that the server checks, and the first
//! one that fails. Incident response, section 10 of the contract document.
//!
//! The edge reads from the server which privileges a statement needs, and as which role they are
//! checked: the tables of a view are read with the privileges of the owner of the view, or with
//! those of the caller where the view is security_invoker. This module decides which roles have
//! these privileges, and how they have them (aclchk.c; execMain.c, `ExecCheckPermissions`;
//! rowsecurity.c).

mod chain;
mod contract;
mod grant;
mod name;
mod needs;
mod passing;
mod question;
mod requests;
mod rows;
mod schema;

#[cfg(test)]
mod tests;

pub use name::{Named, Noun, arguments, bare_type, parse, types_of_argument};
pub use question::{
    Attempt, Body, Called, Cause, Checks, Denial, Execution, Form, Link, Missing, Moment, Need,
    Question, Subject, SubjectKind, TextBody, Variant, never_truncated,
};
pub use requests::{no_role_of_requests, other_login};

use question::{Verdict, checked_as};
use schema::{privilege_on_schema, usage};

use crate::catalog::{ObjectKind, Privileges, Role, Routine, Schema};
use crate::rules::Context;
use crate::sql::similar::did_you_mean;
use crate::sql::{capitalized, listed, printable, safe_ident};
use chain::Granted;
use grant::{Grant, On};

/// Answers a question. The last link but one is the verdict, the last one compares it with the
/// contract.
#[must_use]
pub fn explain(cx: &Context<'_>, question: &Question<'_>) -> Vec<Link> {
    let role = cx.snapshot.role_named(question.role);
    let mut links = vec![exists(cx, question.role, role)];
    let mut verdict = Verdict::default();
    match role {
        None => verdict.deny(format!("role \"{}\" does not exist", printable(question.role))),
        Some(role) => links.extend(access(cx, role, question, &mut verdict)),
    }
    if contract::platform(cx, &question.subject).is_some() {
        // Its privileges are not the application's to grant.
        links.iter_mut().skip(1).for_each(|link| link.fix = None);
    }
    let fixes = fixes(&links);
    // Whether requests can become the role is not part of the verdict.
    if let Some(role) = role {
        links.insert(1, requests::link(cx, role, question));
    }
    let denied = verdict.cause();
    links.push(verdict.link(&fixes));
    links.push(contract::link(cx, question, denied));
    links
}

/// The statements that fix the conditions that fail; none where one of them has no fix, because the
/// others together do not give access either.
fn fixes(links: &[Link]) -> Vec<String> {
    let failed = || links.iter().filter(|link| link.ok == Some(false));
    if failed().any(|link| link.fix.is_none()) {
        return vec![];
    }
    let mut fixes: Vec<String> = Vec::new();
    for fix in failed().filter_map(|link| link.fix.clone()) {
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    fixes
}

/// The links about the object itself.
fn access(
    cx: &Context<'_>,
    role: &Role,
    question: &Question<'_>,
    verdict: &mut Verdict,
) -> Vec<Link> {
    match &question.subject {
        Subject::Schema(schema) => {
            vec![privilege_on_schema(cx, role, schema, question.privilege, verdict)]
        }
        Subject::Routine(execution) => {
            let mut links = call(cx, role, execution, verdict);
            let body = links.len();
            links.extend(bodies(cx, role, &execution.bodies, verdict));
            links.insert(body, privileges_of_body(cx, execution));
            if verdict.is_allowed() {
                links.extend(denied_defaults(cx, role, &execution.defaults, verdict));
                note_texts(cx, &execution.texts, Some(execution.routine), verdict);
            }
            links
        }
        Subject::Relation(attempt, variants) => {
            let mut links = statement(cx, role, attempt, question.privilege, verdict);
            // The other forms need everything that the plain one needs.
            if verdict.is_allowed() {
                let form = |variant| denied_form(cx, role, variant, question.privilege, verdict);
                links.extend(variants.iter().filter_map(form));
            }
            if verdict.is_allowed() {
                note_texts(cx, &attempt.texts, None, verdict);
            }
            links
        }
        Subject::Missing(missing) => {
            let schema = missing.schema;
            let mut links: Vec<Link> =
                schema.iter().map(|schema| usage(cx, role, Some(schema), verdict)).collect();
            let why = format!("{} does not exist", printable(&missing.object));
            let mut link = Link::failed("object", &why, None);
            if let Some(question) = &missing.similar {
                link.detail += &format!(" {question}");
            }
            if !missing.existing.is_empty() {
                link.detail += &format!(" There is {}.", printable(&listed(&missing.existing)));
            }
            links.push(link);
            verdict.deny(why);
            links
        }
    }
}

/// Returns why a statement of the role fails or has no rows; `None` where neither is the case.
#[must_use]
pub fn denied(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    privilege: Privileges,
) -> Option<Denial> {
    let mut verdict = Verdict::default();
    let links = statement(cx, role, attempt, privilege, &mut verdict);
    verdict.denial(&fixes(&links))
}

/// Returns why a call by the role fails, as far as that is known without executing a body that the
/// server has not parsed; `None` where it does not.
#[must_use]
pub fn denied_execution(
    cx: &Context<'_>,
    role: &Role,
    execution: &Execution<'_>,
) -> Option<Denial> {
    let mut verdict = Verdict::default();
    let mut links = call(cx, role, execution, &mut verdict);
    links.extend(bodies(cx, role, &execution.bodies, &mut verdict));
    verdict.denial(&fixes(&links))
}

/// Returns why a role cannot use a schema; `None` where it can.
#[must_use]
pub fn denied_usage(cx: &Context<'_>, role: &Role, schema: &Schema) -> Option<Denial> {
    let mut verdict = Verdict::default();
    let link = usage(cx, role, Some(schema), &mut verdict);
    verdict.denial(&fixes(&[link]))
}

/// The links of a call, without the body.
fn call(
    cx: &Context<'_>,
    role: &Role,
    execution: &Execution<'_>,
    verdict: &mut Verdict,
) -> Vec<Link> {
    let routine = execution.routine;
    let mut links = vec![
        usage(cx, role, cx.snapshot.schema(routine.schema), verdict),
        execute(cx, role, routine, verdict),
    ];
    let denied = |call| denied_call(cx, role, call, verdict);
    links.extend(execution.calls.iter().filter_map(denied));
    if let Some(why) = &execution.impossible {
        verdict.deny_for(Cause::Statement, why.clone());
        links.push(Link::failed("statement in the body", why, None));
    }
    links
}

/// The links of the statements in bodies: those of the privileges on relations, and those that
/// fail.
fn bodies(cx: &Context<'_>, role: &Role, bodies: &[Body<'_>], verdict: &mut Verdict) -> Vec<Link> {
    let mut links = Vec::new();
    for body in bodies {
        cx.check_interrupts();
        let Some(runs_as) = checked_as(cx, role, body.runs_as) else { continue };
        let within = printable(&cx.snapshot.routine_message(body.routine)).into_owned();
        let mut found = Vec::new();
        for moment in Moment::ALL {
            found.extend(checks_at(cx, runs_as, &body.checks, moment, verdict));
            if moment == Moment::Statement {
                found.extend(rows::links(cx, runs_as, &body.checks.needs, verdict));
            }
        }
        found.extend(unresolved(&body.checks));
        for mut link in found {
            link.step += &format!(", in the body of {within}");
            if !links.contains(&link) {
                links.push(link);
            }
        }
    }
    links
}

/// Notes that the bodies of routines are text, which the server checks only when they run: of the
/// routine that the question is about in any case, of others where privileges can matter.
fn note_texts(
    cx: &Context<'_>,
    texts: &[TextBody<'_>],
    asked: Option<&Routine>,
    verdict: &mut Verdict,
) {
    for text in texts {
        let is_asked = asked.is_some_and(|asked| asked.oid == text.routine.oid);
        let may_fail = text.names_objects && !text.routine.security_definer;
        if is_asked || may_fail || text.missing.is_some() {
            verdict.notes.push(unchecked_text(cx, text, is_asked));
        }
    }
}

/// Returns the sentences about a body that is text.
fn unchecked_text(cx: &Context<'_>, text: &TextBody<'_>, is_asked: bool) -> String {
    let subject = if is_asked {
        "The body".to_owned()
    } else {
        let routine = text.routine;
        format!("The body of {} {}", routine.object_type(), cx.snapshot.routine_message(routine))
    };
    let missing = text.missing.as_ref().map(|missing| format!(" {missing}")).unwrap_or_default();
    format!("{subject} is text, which is checked only when it runs.{missing}")
}

/// A link for the defaults of arguments, where a call that omits the arguments fails and one that
/// gives them does not.
fn denied_defaults(
    cx: &Context<'_>,
    role: &Role,
    defaults: &Checks<'_>,
    verdict: &mut Verdict,
) -> Option<Link> {
    let mut omitting = Verdict::default();
    let links: Vec<Link> = Moment::ALL
        .into_iter()
        .flat_map(|moment| checks_at(cx, role, defaults, moment, &mut omitting))
        .collect();
    let Denial { message, fix, .. } = omitting.denial(&fixes(&links))?;
    let step = "call without the arguments that have defaults";
    verdict.notes.push(format!("A {step} is denied: {message}."));
    Some(Link::failed(step, &format!("denied: {message}"), fix))
}

/// A link for a form of the statement that fails or has no row, where the plain statement does not.
fn denied_form(
    cx: &Context<'_>,
    role: &Role,
    variant: &Variant<'_>,
    privilege: Privileges,
    verdict: &mut Verdict,
) -> Option<Link> {
    let Denial { cause, message, fix } = denied(cx, role, &variant.attempt, privilege)?;
    let step = variant.form.describe(privilege);
    let is_error = !message.starts_with("row security excludes");
    let result = if is_error { "denied" } else { "without effect" };
    verdict.notes.push(format!("{step} is {result}: {message}."));
    let because = match (variant.form, cause) {
        (Form::OnConflict, Cause::Privilege) => {
            " It also needs UPDATE, and SELECT on the columns of the key."
        }
        (_, Cause::Privilege) => " It also needs SELECT on the columns that it reads.",
        _ if is_error => " The policies for what it reads or updates apply too.",
        _ => " The policies for SELECT apply too, and no error is raised.",
    };
    let detail = format!("{}{because}", question::sentence(&format!("{result}: {message}")));
    Some(Link { step, ok: Some(false), detail, fix })
}

/// The links of a statement on a relation, in the order in which the server checks them.
fn statement(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    privilege: Privileges,
    verdict: &mut Verdict,
) -> Vec<Link> {
    let relation = attempt.relation;
    let mut links = vec![usage(cx, role, cx.snapshot.schema(relation.schema), verdict)];
    if let Some(why) = &attempt.impossible {
        verdict.deny_for(Cause::Statement, why.clone());
        links.push(Link::failed("statement", why, None));
    }
    let checks = &attempt.checks;
    links.extend(checks_at(cx, role, checks, Moment::Start, verdict));
    if let Some(why) = &attempt.unusable {
        let refresh = format!("REFRESH MATERIALIZED VIEW {};", cx.snapshot.relation_sql(relation));
        verdict.deny_for(Cause::Statement, why.clone());
        let fix = (privilege == Privileges::SELECT).then_some(refresh);
        links.push(Link::failed("contents", why, fix));
    }
    links.extend(checks_at(cx, role, checks, Moment::Statement, verdict));
    // The values of a new row are computed before the policies check it, those of an existing row
    // after policies have selected it.
    let inserts = privilege == Privileges::INSERT;
    if inserts {
        links.extend(checks_at(cx, role, checks, Moment::Row, verdict));
    }
    links.extend(rows::links(cx, role, &checks.needs, verdict));
    if !inserts {
        links.extend(checks_at(cx, role, checks, Moment::Row, verdict));
    }
    for moment in [Moment::Kept, Moment::End] {
        links.extend(checks_at(cx, role, checks, moment, verdict));
    }
    links.extend(unresolved(checks));
    // Without rows, the functions that are evaluated for each row are not called.
    if verdict.no_rows.is_none() {
        links.extend(bodies(cx, role, &attempt.bodies, verdict));
    }
    links
}

/// The links of sequences of which it is not known which one is used.
fn unresolved(checks: &Checks<'_>) -> impl Iterator<Item = Link> {
    checks.unresolved.iter().map(|name| Link {
        step: format!("sequence {}", printable(name)),
        ok: None,
        detail: "Its name is looked up in the search_path of the session when a row is inserted."
            .into(),
        fix: None,
    })
}

/// The checks at one moment: a link for every privilege on a relation, and for every function on
/// which EXECUTE is missing.
fn checks_at(
    cx: &Context<'_>,
    role: &Role,
    checks: &Checks<'_>,
    moment: Moment,
    verdict: &mut Verdict,
) -> Vec<Link> {
    // Without rows the server does not check what is needed for each row.
    let mut ignored = Verdict::default();
    let is_by_row = matches!(moment, Moment::Row | Moment::Kept);
    let verdict = if is_by_row && verdict.no_rows.is_some() { &mut ignored } else { verdict };
    let mut links = needs::links(cx, role, &checks.needs, moment, verdict);
    let calls = checks.calls.iter().filter(|call| call.moment == moment);
    links.extend(calls.filter_map(|call| denied_call(cx, role, call, verdict)));
    links
}

/// A link for a function on which EXECUTE is missing.
fn denied_call(
    cx: &Context<'_>,
    role: &Role,
    call: &Called<'_>,
    verdict: &mut Verdict,
) -> Option<Link> {
    cx.check_interrupts();
    let caller = checked_as(cx, role, call.check_as)
        .filter(|caller| !can_execute(cx, caller, call.routine))?;
    let mut link = execute(cx, caller, call.routine, verdict);
    if call.check_as.is_some() {
        link.step += &format!(", as \"{}\", the owner", printable(&caller.name));
    }
    Some(link)
}

/// Returns the names of all roles but those of the server.
fn known_roles<'a>(cx: &Context<'a>) -> impl Iterator<Item = &'a str> {
    let names = cx.snapshot.roles.iter().map(|role| role.name.as_str());
    names.filter(|name| !name.starts_with("pg_"))
}

fn exists(cx: &Context<'_>, name: &str, role: Option<&Role>) -> Link {
    let step = format!("role {}", safe_ident(name));
    let shown = printable(name);
    let Some(role) = role else {
        let mut link = Link::failed(&step, &format!("role \"{shown}\" does not exist"), None);
        let declared: Vec<&str> = cx.contract.roles.iter().map(|r| r.name.as_str()).collect();
        if declared.contains(&name) {
            link.fix = Some(format!("CREATE ROLE {} NOLOGIN;", safe_ident(name)));
        } else if name.eq_ignore_ascii_case("public") {
            link.detail += " PUBLIC stands for every role: ask about one of them.";
        } else if let Some(question) = did_you_mean(name, known_roles(cx)) {
            link.detail += &format!(" {}", capitalized(&question));
        } else if !declared.is_empty() {
            // It is probably misspelled.
            let names: Vec<String> =
                declared.iter().map(|name| format!("\"{}\"", printable(name))).collect();
            link.detail += &format!(" The contract declares {}.", listed(&names));
        }
        return link;
    };
    let powers = [(role.superuser, "is a superuser"), (role.bypass_rls, "bypasses row security")];
    let powers: Vec<&str> =
        powers.into_iter().filter(|(has, _)| *has).map(|(_, what)| what).collect();
    let detail = match powers.as_slice() {
        [] => format!("Role \"{shown}\" exists."),
        powers => format!("Role \"{shown}\" {}.", powers.join(" and ")),
    };
    Link { step, ok: Some(true), detail, fix: None }
}

fn granted_routine(routine: &Routine) -> Granted<'_> {
    Granted { owner: routine.owner, acl: routine.acl.as_ref(), kind: ObjectKind::Routine }
}

fn can_execute(cx: &Context<'_>, role: &Role, routine: &Routine) -> bool {
    granted_routine(routine).grants(cx, role).contains(Privileges::EXECUTE)
}

fn execute(cx: &Context<'_>, role: &Role, routine: &Routine, verdict: &mut Verdict) -> Link {
    let (kind, name) = (routine.object_type(), printable(&role.name));
    let step = format!("EXECUTE on {kind} {}", cx.snapshot.routine_message(routine));
    if can_execute(cx, role, routine) {
        let how = chain::how(cx, role, granted_routine(routine), Privileges::EXECUTE);
        let detail = format!("Role \"{name}\" has EXECUTE{how}.");
        return Link { step, ok: Some(true), detail, fix: None };
    }
    verdict.deny(format!("permission denied for {kind} {}", printable(&routine.name)));
    let detail = format!("Role \"{name}\" does not have EXECUTE.");
    let link = Link { step, ok: Some(false), detail, fix: None };
    Grant { role, privilege: Privileges::EXECUTE, on: On::Routine(routine) }.fix(cx, link)
}

/// The role whose privileges the body of a routine has, and whether what it can access is checked.
fn privileges_of_body(cx: &Context<'_>, execution: &Execution<'_>) -> Link {
    let routine = execution.routine;
    let is_read = execution.bodies.iter().any(|body| body.routine.oid == routine.oid);
    let detail = match (routine.security_definer, is_read) {
        (true, _) => format!(
            "SECURITY DEFINER: the body runs with the privileges of \"{}\".",
            printable(&cx.snapshot.role_name(routine.owner))
        ),
        (false, true) => {
            "SECURITY INVOKER: the body runs with the privileges of the role.".to_owned()
        }
        (false, false) => "SECURITY INVOKER: the body runs with the privileges of the role, and \
                           fails where they are not sufficient."
            .to_owned(),
    };
    Link { step: "body".into(), ok: None, detail, fix: None }
}

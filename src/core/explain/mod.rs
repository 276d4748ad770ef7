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
mod name;
mod needs;
mod question;
mod rows;
mod schema;

#[cfg(test)]
mod tests;

pub use name::{Named, Noun, parse, types_of_argument};
pub use question::{Attempt, Called, Link, Moment, Need, Question, Subject, SubjectKind};

use question::{Verdict, checked_as};
use schema::{privilege_on_schema, usage};

use crate::catalog::{ObjectKind, Privileges, Role, Routine};
use crate::rules::Context;
use crate::sql::{printable, safe_ident};
use chain::Granted;

/// Answers a question. The last link but one is the verdict, the last one compares it with the
/// contract.
#[must_use]
pub fn explain(cx: &Context<'_>, question: &Question<'_>) -> Vec<Link> {
    let role = cx.snapshot.role_named(question.role);
    let mut links = vec![exists(question.role, role)];
    let mut verdict = Verdict::default();
    match role {
        None => verdict.deny(format!("role \"{}\" does not exist", printable(question.role))),
        Some(role) => links.extend(access(cx, role, question, &mut verdict)),
    }
    let failed: Vec<&Link> = links.iter().filter(|link| link.ok == Some(false)).collect();
    // Where one condition has no fix, the others together do not give access either.
    let is_hopeless = failed.iter().any(|link| link.fix.is_none());
    let fixes = if is_hopeless {
        vec![]
    } else {
        failed.iter().filter_map(|link| link.fix.clone()).collect()
    };
    // Whether requests can become the role is not part of the verdict.
    if let Some(role) = role {
        links.insert(1, login(cx, role, question.authenticator));
    }
    let is_allowed = verdict.is_allowed();
    links.push(verdict.link(fixes));
    links.push(contract::link(cx, question, is_allowed));
    links
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
        Subject::Routine(routine, calls) => {
            let mut links = vec![
                usage(cx, role, cx.snapshot.schema(routine.schema), verdict),
                execute(cx, role, routine, verdict),
            ];
            links.extend(calls.iter().filter_map(|call| denied_call(cx, role, call, verdict)));
            links.push(privileges_of_body(cx, routine));
            links
        }
        Subject::Relation(attempt) => statement(cx, role, attempt, question.privilege, verdict),
        Subject::Missing { schema, name } => {
            let mut links: Vec<Link> =
                schema.iter().map(|schema| usage(cx, role, Some(schema), verdict)).collect();
            let why = format!("object {} does not exist", printable(name));
            links.push(Link::failed("object", &why, None));
            verdict.deny(why);
            links
        }
    }
}

/// Returns the error that the server raises when the role executes the statement; `None` where it
/// raises none.
#[must_use]
pub fn denied(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    privilege: Privileges,
) -> Option<String> {
    let mut verdict = Verdict::default();
    statement(cx, role, attempt, privilege, &mut verdict);
    verdict.error
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
        verdict.deny(why.clone());
        links.push(Link::failed("statement", why, None));
    }
    links.extend(checks_at(cx, role, attempt, Moment::Start, verdict));
    if let Some(why) = &attempt.unusable {
        let refresh = format!("REFRESH MATERIALIZED VIEW {};", cx.snapshot.relation_sql(relation));
        verdict.deny(why.clone());
        let fix = (privilege == Privileges::SELECT).then_some(refresh);
        links.push(Link::failed("contents", why, fix));
    }
    links.extend(checks_at(cx, role, attempt, Moment::Statement, verdict));
    // The values of a new row are computed before the policies check it, those of an existing row
    // after policies have selected it.
    let inserts = privilege == Privileges::INSERT;
    if inserts {
        links.extend(checks_at(cx, role, attempt, Moment::Row, verdict));
    }
    links.extend(rows::links(cx, role, attempt, verdict));
    if !inserts {
        links.extend(checks_at(cx, role, attempt, Moment::Row, verdict));
    }
    for moment in [Moment::Kept, Moment::End] {
        links.extend(checks_at(cx, role, attempt, moment, verdict));
    }
    links.extend(
        attempt.unresolved.iter().map(|name| Link {
            step: format!("sequence {}", printable(name)),
            ok: None,
            detail:
                "Its name is looked up in the search_path of the session when a row is inserted."
                    .into(),
            fix: None,
        }),
    );
    links
}

/// The checks at one moment: a link for every privilege on a relation, and for every function on
/// which EXECUTE is missing.
fn checks_at(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    moment: Moment,
    verdict: &mut Verdict,
) -> Vec<Link> {
    // Without rows the server does not check what is needed for each row.
    let mut ignored = Verdict::default();
    let is_by_row = matches!(moment, Moment::Row | Moment::Kept);
    let verdict = if is_by_row && verdict.no_rows.is_some() { &mut ignored } else { verdict };
    let mut links = needs::links(cx, role, attempt, moment, verdict);
    let calls = attempt.calls.iter().filter(|call| call.moment == moment);
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

fn exists(name: &str, role: Option<&Role>) -> Link {
    let step = format!("role {}", safe_ident(name));
    let shown = printable(name);
    let Some(role) = role else {
        let fix = format!("CREATE ROLE {} NOLOGIN;", safe_ident(name));
        return Link::failed(&step, &format!("role \"{shown}\" does not exist"), Some(fix));
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

/// Whether requests can become the role. It is not part of the verdict, which is about what the
/// role can do then.
fn login(cx: &Context<'_>, role: &Role, authenticator: &str) -> Link {
    let (name, login) = (printable(&role.name), printable(authenticator));
    let step = format!("SET ROLE {}", safe_ident(&role.name));
    let (ok, detail) = match cx.snapshot.role_named(authenticator) {
        _ if role.can_login => (None, format!("Role \"{name}\" can log in itself.")),
        None => (
            None,
            format!("Role \"{login}\", from which requests become \"{name}\", does not exist."),
        ),
        Some(by) if cx.access.can_set_role(by.oid, role.oid) => {
            (Some(true), format!("Role \"{login}\" can become \"{name}\"."))
        }
        Some(_) => (
            Some(false),
            format!(
                "Role \"{login}\" cannot become \"{name}\": a request with that role in its token \
                 fails."
            ),
        ),
    };
    let fix = (ok == Some(false))
        .then(|| format!("GRANT {} TO {};", safe_ident(&role.name), safe_ident(authenticator)));
    Link { step, ok, detail, fix }
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
    Link {
        step,
        ok: Some(false),
        detail: format!("Role \"{name}\" does not have EXECUTE."),
        fix: Some(format!(
            "GRANT EXECUTE ON ROUTINE {} TO {};",
            cx.snapshot.routine_sql(routine),
            safe_ident(&role.name)
        )),
    }
}

/// The role whose privileges the body of a routine has. What the body can access is not checked.
fn privileges_of_body(cx: &Context<'_>, routine: &Routine) -> Link {
    let detail = if routine.security_definer {
        format!(
            "SECURITY DEFINER: the body runs with the privileges of \"{}\".",
            printable(&cx.snapshot.role_name(routine.owner))
        )
    } else {
        "SECURITY INVOKER: the body runs with the privileges of the role, and fails where they are \
         not sufficient."
            .into()
    };
    Link { step: "body".into(), ok: None, detail, fix: None }
}

//! The search_path of a SECURITY DEFINER routine under a contract, for audit and guard: verdict,
//! accepted exceptions, fix.

use super::creators;
use crate::catalog::Routine;
use crate::contract::Accept;
use crate::fix::{Change, Fix, RoutineChange, Statement};
use crate::rules::context::Context;
use crate::search_path::{Assessment, Exploiter, ReasonCode, Verdict, set_clause, stored_value};
use crate::sql::{printable, safe_ident};
use std::rc::Rc;

/// Returns the assessment of a routine's path; `None` for SECURITY INVOKER.
#[must_use]
pub fn assess(cx: &Context<'_>, routine: &Routine) -> Option<Rc<Assessment>> {
    routine.security_definer.then(|| cx.paths.config(&routine.config, routine.owner))
}

/// Whether the path is empty and the contract accepts that.
#[must_use]
pub fn accepts_empty(cx: &Context<'_>, assessment: &Assessment) -> bool {
    cx.contract.security_definer.accept_empty && assessment.is_empty_path()
}

/// Whether all reasons are grants of CREATE on governed schemas, which are findings of their own.
#[must_use]
pub fn follows_from_schema(cx: &Context<'_>, assessment: &Assessment) -> bool {
    assessment.reasons.iter().all(|reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable, Some(schema), Some(role)) => creators::reports(cx, schema, role),
        _ => false,
    })
}

/// Returns the statements that revoke CREATE on governed schemas, if these grants are the only
/// reasons; otherwise `None`.
#[must_use]
pub fn schema_cause(cx: &Context<'_>, assessment: &Assessment) -> Option<String> {
    if assessment.reasons.is_empty() || !follows_from_schema(cx, assessment) {
        return None;
    }
    let mut statements: Vec<String> = assessment
        .reasons
        .iter()
        .filter_map(|r| {
            let grantee = match r.role.as_ref()? {
                Exploiter::Public => "PUBLIC".into(),
                Exploiter::Role(name) => safe_ident(name),
            };
            Some(format!(
                "REVOKE CREATE ON SCHEMA {} FROM {grantee};",
                safe_ident(r.schema.as_deref()?)
            ))
        })
        .collect();
    statements.dedup();
    Some(statements.join(" "))
}

/// Whether a safe path violates the contract: the routine is in a governed schema, and the contract
/// accepts only its own path.
#[must_use]
pub fn must_be_canonical(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> bool {
    let policy = &cx.contract.security_definer;
    policy.accept == Accept::Canonical
        && assessment.verdict == Verdict::Safe
        && cx.governed(routine.schema).is_some()
        && !assessment.is_canonical(&policy.search_path)
}

/// Returns `pg_catalog, pg_temp`, which is sufficient for a body that qualifies every name.
fn minimal() -> Vec<String> {
    vec!["pg_catalog".to_owned(), "pg_temp".to_owned()]
}

/// Returns a safe path for this routine: the contract's in a governed schema; elsewhere the
/// routine's own without the schemas that make it unsafe. `None` where no path is safe, because a
/// schema is the cause.
#[must_use]
pub fn safe_path(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
) -> Option<Vec<String>> {
    // CREATE on a governed schema is a finding of its own, with its own fix.
    let is_safe =
        |path: &Vec<String>| follows_from_schema(cx, &cx.paths.names(path, routine.owner));
    let mut kept: Vec<String> = assessment.path.clone().unwrap_or_default();
    kept.retain(|name| {
        !matches!(name.as_str(), "" | "pg_temp" | "pg_catalog" | "$user")
            && is_safe(&vec![name.clone(), "pg_temp".into()])
    });
    kept.dedup();
    let own = (!kept.is_empty()).then(|| [kept, vec!["pg_temp".to_owned()]].concat());
    let canonical = Some(cx.contract.security_definer.search_path.clone());
    let choices = if cx.governed(routine.schema).is_some() {
        [canonical, own, None]
    } else {
        [own, assessment.is_empty_path().then(minimal), canonical]
    };
    choices.into_iter().flatten().chain([minimal()]).find(is_safe)
}

/// Whether the routine may depend on schemas that `path` does not contain: then the path is a
/// person's decision.
fn loses_its_schemas(path: &[String], assessment: &Assessment) -> bool {
    let named = |name: &String| !matches!(name.as_str(), "" | "pg_temp" | "pg_catalog");
    path == minimal() && assessment.path.as_ref().is_none_or(|names| names.iter().any(named))
}

/// Returns the fix of a routine's path: the statement that sets a safe one, or a proposal.
#[must_use]
pub fn fix(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Fix {
    // No path is safe while a schema contains objects of untrusted roles.
    if let [only] = &assessment.reasons[..]
        && only.code == ReasonCode::ForeignObjects
    {
        let schema = only.schema.as_deref().unwrap_or_default();
        let role = only.role.as_ref().map(Exploiter::as_str).unwrap_or_default();
        return Fix::Proposal(format!(
            "Drop the objects of role \"{}\" in schema \"{}\", or change their owner to a trusted \
             owner.",
            printable(role),
            printable(schema)
        ));
    }
    Fix::or_proposal(alter(cx, routine, assessment).map(|statement| vec![statement]), || {
        format!(
            "ALTER ROUTINE {} SET search_path = ..., pg_temp;",
            cx.snapshot.routine_sql(routine)
        )
    })
}

/// Returns the ALTER ROUTINE that sets a safe path; `None` where a person has to decide.
fn alter(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Option<Statement> {
    let path =
        safe_path(cx, routine, assessment).filter(|path| !loses_its_schemas(path, assessment))?;
    let reset = if assessment.reasons.iter().any(|r| r.code == ReasonCode::DuplicateSetting) {
        let others =
            routine.config.iter().any(|c| !c.to_ascii_lowercase().starts_with("search_path="));
        let odd = routine.config.iter().any(|c| !c.starts_with("search_path="));
        match (odd, others) {
            (false, _) => "RESET search_path ",
            (true, false) => "RESET ALL ",
            (true, true) => return None,
        }
    } else {
        ""
    };
    Some(Statement::new(
        Change::AlterRoutine(routine.oid, vec![RoutineChange::SearchPath(stored_value(&path))]),
        format!(
            "ALTER ROUTINE {} {reset}SET search_path = {};",
            cx.snapshot.routine_sql(routine),
            set_clause(&path)
        ),
    ))
}

//! What to do about the search_path of a routine that is rejected.

use crate::catalog::Routine;
use crate::contract::RoleKind;
use crate::fix::Fix;
use crate::rules::Context;
use crate::rules::shared::definer_path::{cause_in_schema, fix, remedy, required, schema_cause};
use crate::search_path::{Assessment, Exploiter, Path, Reason, ReasonCode, Verdict};
use crate::sql::printable;
use std::rc::Rc;

/// Returns the HINT about routines whose search_path a command makes unsafe.
pub(super) fn exposed_hint(assessment: &Assessment) -> String {
    let reason = assessment.reasons.first();
    match reason.map(|r| (r.code, r.schema.as_deref(), r.role.as_ref())) {
        Some((ReasonCode::Writable | ReasonCode::ForeignObjects, Some(schema), Some(role))) => {
            let role = match role {
                Exploiter::Public => "PUBLIC".to_owned(),
                Exploiter::Role(name) => format!("role \"{}\"", printable(name)),
            };
            if schema == "pg_catalog" {
                return format!(
                    "Use another schema for {role}: every routine searches schema \"pg_catalog\"."
                );
            }
            format!(
                "Use another schema for {role}, or remove schema \"{}\" from the search_path of \
                 these routines first.",
                printable(schema)
            )
        }
        Some((ReasonCode::MissingSchema, ..)) => {
            "Change the search_path of these routines in the same transaction, or leave the schema \
             unchanged."
                .to_owned()
        }
        _ => "Remove the schema from the search_path of these routines first, or leave the schema \
              unchanged."
            .to_owned(),
    }
}

/// Returns the HINT about a changed routine without a safe search_path.
pub(super) fn search_path_hint(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
    tag: &str,
) -> String {
    if let Some(hint) = hint_at_cause(cx, routine, assessment) {
        return hint;
    }
    let kind = routine.object_type();
    let Some(remedy) =
        required(cx, routine, assessment).or_else(|| remedy(cx, routine, assessment))
    else {
        return format!(
            "No search_path is safe while untrusted roles own objects in its schemas. Drop these \
             objects, or change the owner of the {kind}."
        );
    };
    let clause = format!("SET search_path = {}", remedy.path.clause);
    let qualify = if remedy.lost.is_empty() {
        String::new()
    } else {
        format!(
            " Along it, the body or what it calls would not find {}: write these names with their \
             schemas.",
            remedy.describe_lost(cx)
        )
    };
    if let Some((owner, path)) = better_owner(cx, routine) {
        return format!(
            "A superuser's {kind} must not search schemas in which other roles can create \
             objects. Create it as role \"{}\" with SET search_path = {}, or use \
             {clause}.{qualify} \
             To restore a dump, run SET dragonfly_guard.mode = warn; and audit the database \
             afterwards.",
            printable(&owner),
            path.clause
        );
    }
    if alters_routine(tag) {
        match fix(cx, routine, assessment).sql() {
            Some(statement) => {
                format!("Set a safe search_path in the same statement or before it: {statement}")
            }
            None => format!("Set a safe search_path in the same statement: {clause}.{qualify}"),
        }
    } else {
        format!("Create the {kind} with SECURITY DEFINER {clause}.{qualify}")
    }
}

/// Returns the HINT about a changed routine without a safe search_path after the statement has been
/// executed; `None` where it is the same as before.
pub(super) fn executed_path_hint(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
) -> Option<String> {
    let is_same =
        hint_at_cause(cx, routine, assessment).is_some() || better_owner(cx, routine).is_some();
    if is_same {
        return None;
    }
    let is_content = |reason: &Reason| reason.code == ReasonCode::ForeignObjects;
    if assessment.reasons.iter().all(is_content)
        && let Some(cause) = cause_in_schema(assessment)
        && let Some(remedy) = remedy(cx, routine, assessment)
        && remedy.lost.is_empty()
    {
        return Some(format!(
            "{cause}\nOr run: ALTER ROUTINE {} SET search_path = {};",
            cx.snapshot.routine_sql(routine),
            remedy.path.clause
        ));
    }
    Some(match fix(cx, routine, assessment) {
        Fix::Proposal(text) => text,
        fix => format!("Run: {}", fix.sql()?),
    })
}

/// Returns the HINT about a routine whose cause is elsewhere: in the schema, or in the extension
/// that it is a member of.
fn hint_at_cause(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Option<String> {
    // REVOKE on the schema fixes this routine and all others that search the schema.
    if let Some(revoke) = schema_cause(cx, assessment) {
        return Some(format!("The cause is the schema, not the routine. Run: {revoke}"));
    }
    let extension = cx.snapshot.routine_extension.get(&routine.oid)?;
    let (name, _) = cx.snapshot.extensions.get(extension)?;
    Some(format!(
        "The script of extension \"{}\" creates it. If you trust the extension, add it to \
         managed.extensions in the contract.",
        printable(name)
    ))
}

/// Returns the owner role of the contract under which the routine could have a safe search_path
/// with the schemas that it needs, and this path; `None` unless the routine is a superuser's and
/// the contract's path is not safe for that superuser.
fn better_owner(cx: &Context<'_>, routine: &Routine) -> Option<(String, Rc<Path>)> {
    let path = &cx.contract.security_definer.search_path;
    let is_safe = |owner| cx.paths.names(path, owner).verdict == Verdict::Safe;
    if !cx.access.is_superuser(routine.owner) || is_safe(routine.owner) {
        return None;
    }
    let owner = cx
        .contract
        .roles_of(RoleKind::Owner)
        .filter_map(|name| cx.snapshot.role_named(name))
        .find(|owner| !owner.superuser && is_safe(owner.oid))?;
    let assessment = cx.paths.config(&routine.config, owner.oid);
    let moved = Routine { owner: owner.oid, ..routine.clone() };
    let remedy = required(cx, &moved, &assessment).or_else(|| remedy(cx, &moved, &assessment))?;
    Some((owner.name.clone(), remedy.path))
}

/// Whether the command is ALTER FUNCTION, ALTER PROCEDURE or ALTER ROUTINE, which can contain the
/// SET clause.
fn alters_routine(tag: &str) -> bool {
    matches!(tag, "ALTER FUNCTION" | "ALTER PROCEDURE" | "ALTER ROUTINE")
}

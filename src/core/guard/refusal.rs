//! The words of a refusal: what, why, and the SQL that would pass.

use crate::catalog::Routine;
use crate::contract::RoleKind;
use crate::rules::Context;
use crate::rules::security_definer_search_path::{RULE, fix, safe_path, schema_cause};
use crate::search_path::{Judgment, Verdict, set_clause};
use crate::sql::printable;

/// Message, detail and hint, in PostgreSQL's style.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refusal {
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Refusal {
    /// About one routine; `tag` is the command that ran.
    #[must_use]
    pub fn of_routine(cx: &Context<'_>, routine: &Routine, judgment: &Judgment, tag: &str) -> Self {
        let name = cx.snapshot.routine_message(routine);
        let kind = routine.object_type();
        let rule = format!("Rule {}, contract section {}.", RULE.id, RULE.section);
        if judgment.verdict == Verdict::Safe {
            let canonical = set_clause(&cx.contract.security_definer.search_path);
            return Self {
                message: format!("SECURITY DEFINER {kind} {name} does not have the contract's search_path"),
                detail: format!("Its path is safe, but the contract accepts {canonical} alone. {rule}"),
                hint: hint(cx, routine, judgment, tag),
            };
        }
        let trap = judgment.trap().map(|t| format!(" {t}")).unwrap_or_default();
        Self {
            message: format!("SECURITY DEFINER {kind} {name} has no safe search_path"),
            detail: format!("It would be {}: {}.{trap} {rule}", judgment.verdict.word(), judgment.in_words()),
            hint: hint(cx, routine, judgment, tag),
        }
    }
}

fn hint(cx: &Context<'_>, routine: &Routine, judgment: &Judgment, tag: &str) -> String {
    // Where a schema is open to others, closing it mends this routine and every other that searches it.
    if let Some(revoke) = schema_cause(cx, judgment) {
        return format!("The cause is the schema, not the routine. To close it: {revoke}");
    }
    if let Some((extension, _)) =
        cx.snapshot.routine_extension.get(&routine.oid).and_then(|oid| cx.snapshot.extensions.get(oid))
    {
        return format!(
            "The script of extension \"{}\" makes it. If you trust that extension, name it in the contract under managed.extensions.",
            printable(extension)
        );
    }
    let Some(path) = safe_path(cx, routine, judgment) else {
        return "No search_path makes it safe while others own objects in its schemas: drop those objects, or give the routine \
                another owner."
            .to_owned();
    };
    let clause = format!("SET search_path = {}", set_clause(&path));
    if let Some(owner) = better_owner(cx, routine) {
        return format!(
            "A superuser's routine must not search schemas in which others create. Make it as role \"{}\" with SET search_path = {}, or write {clause}. When restoring a dump, SET dragonfly_guard.mode = warn, and audit afterwards.",
            printable(&owner),
            set_clause(&cx.contract.security_definer.search_path)
        );
    }
    if tag.starts_with("ALTER") && routine_statement(tag) {
        match fix(cx, routine, judgment) {
            Some(statement) => format!("Give it a safe path in the same statement or before: {statement}"),
            None => format!("Give it a safe path in the same statement: {clause}"),
        }
    } else {
        format!("Write SECURITY DEFINER {clause} in the statement that makes it.")
    }
}

/// For a routine of a superuser who cannot have the contract's own path: the role that could, the one that keeps the structure.
fn better_owner(cx: &Context<'_>, routine: &Routine) -> Option<String> {
    let path = &cx.contract.security_definer.search_path;
    let is_safe = |owner| cx.judge.names(path, owner).verdict == Verdict::Safe;
    if !cx.access.is_superuser(routine.owner) || is_safe(routine.owner) {
        return None;
    }
    let owners = cx.contract.roles_of(RoleKind::Owner).filter_map(|name| cx.snapshot.role_named(name));
    owners.filter(|owner| !owner.superuser && is_safe(owner.oid)).map(|owner| owner.name.clone()).next()
}

/// ALTER FUNCTION, ALTER PROCEDURE, ALTER ROUTINE: the routine exists, and the statement could carry the clause.
fn routine_statement(tag: &str) -> bool {
    ["FUNCTION", "PROCEDURE", "ROUTINE"].iter().any(|kind| tag.ends_with(kind))
}

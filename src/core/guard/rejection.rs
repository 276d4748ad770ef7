//! The words of a rejection: what, why, and the SQL that would pass.

use crate::catalog::Routine;
use crate::contract::RoleKind;
use crate::guard::{Exposed, Regression};
use crate::rule::Rule;
use crate::rules::security_definer_search_path::RULE;
use crate::rules::shared::definer_path::{fix, safe_path, schema_cause};
use crate::rules::{Context, guard_tampered, required_object_missing, security_definer_settings};
use crate::search_path::{Assessment, ReasonCode, Verdict, set_clause};
use crate::sql::{listed, printable};

/// What is refused and why, in PostgreSQL's style.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The rule that says so.
    pub rule: &'static Rule,
    /// The object, as findings name it.
    pub object: String,
    /// What it is about, whichever command brings it up: said once, it need not be said again.
    pub key: String,
    /// The verdict on a search_path.
    pub verdict: Option<Verdict>,
    /// Primary message.
    pub message: String,
    /// A sentence or more.
    pub detail: String,
    /// The way out.
    pub hint: String,
}

/// How many of many are named.
const SHOWN: usize = 3;

impl Rejection {
    /// About one routine; `tag` is the command that ran.
    #[must_use]
    pub fn of_routine(
        cx: &Context<'_>,
        routine: &Routine,
        assessment: &Assessment,
        tag: &str,
    ) -> Self {
        let name = cx.snapshot.routine_message(routine);
        let kind = routine.object_type();
        let rule = source(&RULE);
        let object = cx.snapshot.routine_identity(routine);
        if assessment.verdict == Verdict::Safe {
            let canonical = set_clause(&cx.contract.security_definer.search_path);
            return Self {
                rule: &RULE,
                key: object.clone(),
                object,
                verdict: Some(assessment.verdict),
                message: format!(
                    "SECURITY DEFINER {kind} {name} does not have the contract's search_path"
                ),
                detail: format!(
                    "Its path is safe, but the contract accepts {canonical} alone. {rule}"
                ),
                hint: hint(cx, routine, assessment, tag),
            };
        }
        let trap = assessment.trap().map(|t| format!(" {t}")).unwrap_or_default();
        Self {
            rule: &RULE,
            key: object.clone(),
            object,
            verdict: Some(assessment.verdict),
            message: format!("SECURITY DEFINER {kind} {name} has no safe search_path"),
            detail: format!(
                "It would be {}: {}.{trap} {rule}",
                assessment.verdict.as_str(),
                assessment.describe()
            ),
            hint: hint(cx, routine, assessment, tag),
        }
    }

    /// About a setting of a routine that switches off protection.
    #[must_use]
    pub fn of_setting(cx: &Context<'_>, routine: &Routine, name: &str, value: &str) -> Self {
        let rule = &security_definer_settings::RULE;
        Self {
            rule,
            object: cx.snapshot.routine_identity(routine),
            key: format!("{} {name}", cx.snapshot.routine_identity(routine)),
            verdict: None,
            message: format!(
                "SECURITY DEFINER {} {} sets {name} to \"{}\"",
                routine.object_type(),
                cx.snapshot.routine_message(routine),
                printable(value)
            ),
            detail: format!("{} {}", rule.why, source(rule)),
            hint: format!("Leave the SET {name} clause away."),
        }
    }

    /// About a routine, by its identity, that a call of one of the extension's own could reach in
    /// its place.
    #[must_use]
    pub fn of_impostor(identity: &str) -> Self {
        Self {
            rule: &guard_tampered::RULE,
            object: identity.to_owned(),
            key: identity.to_owned(),
            verdict: None,
            message: format!("routine {} would stand in the way of one of dragonfly_guard's own", printable(identity)),
            detail: "Whoever calls the extension's function with other arguments could call this one instead, and run its code with \
                     their own rights."
                .into(),
            hint: "Give it another name, or put it into another schema.".into(),
        }
    }

    /// About an object that lasts, by its description, and rests on something temporary.
    #[must_use]
    pub fn of_temporary_dependency(description: &str) -> Self {
        let rule = &required_object_missing::RULE;
        Self {
            rule,
            object: description.to_owned(),
            key: format!("on sand {description}"),
            verdict: None,
            message: format!("{} depends on something temporary", printable(description)),
            detail: format!(
                "When the session ends, or the transaction, it would be dropped with it, or lose a policy, and nobody would be told. {}",
                source(rule)
            ),
            hint: "Make it without the temporary table, type or function.".to_owned(),
        }
    }

    /// About routines that were safe and would be so no longer, though nobody touched them. There
    /// is at least one.
    #[must_use]
    pub fn of_exposed(cx: &Context<'_>, exposed: &[Exposed<'_>], tag: &str) -> Option<Self> {
        let first = exposed.first()?;
        let mut names: Vec<String> =
            exposed.iter().take(SHOWN).map(|e| cx.snapshot.routine_message(e.routine)).collect();
        if exposed.len() > names.len() {
            names.push(format!("{} others", exposed.len() - names.len()));
        }
        let (count, noun) =
            (exposed.len(), if exposed.len() == 1 { "routine" } else { "routines" });
        let verdict =
            exposed.iter().map(|e| e.assessment.verdict).max().unwrap_or(first.assessment.verdict);
        let reason = first.assessment.reasons.first();
        let hint = match reason.map(|r| (r.code, r.schema.as_deref(), r.role.as_deref())) {
            Some((ReasonCode::Writable | ReasonCode::ForeignObjects, Some(schema), Some(role))) => format!(
                "Give {} another schema to create in, or take schema \"{}\" out of the search_path of these routines first.",
                if role == "PUBLIC" { "everybody".to_owned() } else { format!("\"{}\"", printable(role)) },
                printable(schema)
            ),
            _ => "Take the schema out of the search_path of these routines first, or leave it as it is.".to_owned(),
        };
        Some(Self {
            rule: &RULE,
            object: cx.snapshot.routine_identity(first.routine),
            key: format!("exposed {}", listed(&names)),
            verdict: Some(verdict),
            message: format!(
                "{tag} would make {count} SECURITY DEFINER {noun} unsafe: {}",
                listed(&names)
            ),
            detail: format!(
                "{} would be {}: {}. {}",
                cx.snapshot.routine_message(first.routine),
                first.assessment.verdict.as_str(),
                first.assessment.describe(),
                source(&RULE)
            ),
            hint,
        })
    }

    /// About anything else that has become worse.
    #[must_use]
    pub fn of_regression(worse: &Regression, tag: &str) -> Self {
        let finding = &worse.finding;
        let sentence = finding.detail.trim_end_matches('.');
        let mut characters = sentence.chars();
        let first = characters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
        // PUBLIC stays what it is.
        let what = match sentence.get(1..2).is_some_and(|c| c.chars().all(char::is_uppercase)) {
            true => sentence.to_owned(),
            false => first + characters.as_str(),
        };
        let hint = match (finding.fix.sql(), worse.completes) {
            (Some(fix), true) => format!("In the same transaction: {}", fix.replace('\n', " ")),
            (None, true) if finding.rule == &required_object_missing::RULE => {
                "Make it anew in the same transaction, or take it out of the contract first.".to_owned()
            }
            (None, true) => finding.rule.fix.to_owned(),
            (_, false) if worse.settled => {
                "If it is meant so, declare it in the contract first. Where a later statement takes it back, SET LOCAL \
                 dragonfly_guard.check_at = commit before."
                    .to_owned()
            }
            (_, false) => "If it is meant so, declare it in the contract first; otherwise leave it away.".to_owned(),
        };
        Self {
            rule: finding.rule,
            object: finding.object.identity.clone(),
            key: finding.fingerprint.clone(),
            verdict: None,
            message: format!("{tag} breaks the security contract: {what}"),
            detail: format!("{} {}", finding.rule.why, source(finding.rule)),
            hint,
        }
    }
}

/// Where it is written.
fn source(rule: &Rule) -> String {
    format!("Rule {}, contract section {}.", rule.id, rule.section)
}

fn hint(cx: &Context<'_>, routine: &Routine, assessment: &Assessment, tag: &str) -> String {
    // Where a schema is open to others, closing it mends this routine and every other that searches
    // it.
    if let Some(revoke) = schema_cause(cx, assessment) {
        return format!("The cause is the schema, not the routine. To close it: {revoke}");
    }
    if let Some((extension, _)) = cx
        .snapshot
        .routine_extension
        .get(&routine.oid)
        .and_then(|oid| cx.snapshot.extensions.get(oid))
    {
        return format!(
            "The script of extension \"{}\" makes it. If you trust that extension, name it in the contract under managed.extensions.",
            printable(extension)
        );
    }
    let Some(path) = safe_path(cx, routine, assessment) else {
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
        match fix(cx, routine, assessment).sql() {
            Some(statement) => {
                format!("Give it a safe path in the same statement or before: {statement}")
            }
            None => format!("Give it a safe path in the same statement: {clause}"),
        }
    } else {
        format!("Write SECURITY DEFINER {clause} in the statement that makes it.")
    }
}

/// For a routine of a superuser who cannot have the contract's own path: the role that could, the
/// one that keeps the structure.
fn better_owner(cx: &Context<'_>, routine: &Routine) -> Option<String> {
    let path = &cx.contract.security_definer.search_path;
    let is_safe = |owner| cx.paths.names(path, owner).verdict == Verdict::Safe;
    if !cx.access.is_superuser(routine.owner) || is_safe(routine.owner) {
        return None;
    }
    let owners =
        cx.contract.roles_of(RoleKind::Owner).filter_map(|name| cx.snapshot.role_named(name));
    owners
        .filter(|owner| !owner.superuser && is_safe(owner.oid))
        .map(|owner| owner.name.clone())
        .next()
}

/// ALTER FUNCTION, ALTER PROCEDURE, ALTER ROUTINE: the routine exists, and the statement could
/// carry the clause.
fn routine_statement(tag: &str) -> bool {
    ["FUNCTION", "PROCEDURE", "ROUTINE"].iter().any(|kind| tag.ends_with(kind))
}

//! Whether the contract declares the access.

use super::question::{Attempt, Cause, Execution, Link, Need, Question, Subject};
use crate::catalog::{ObjectKind, Privileges, RelationKind, Role, Schema};
use crate::contract::{RoleKind, SchemaDecl};
use crate::rules::shared::target::named_columns;
use crate::rules::{Context, Tool};
use crate::sql::{printable, quote_literal, safe_ident};

/// Whether the contract declares the privilege on each column that the statement needs.
fn are_columns_declared(
    cx: &Context<'_>,
    attempt: &Attempt<'_>,
    wanted: Privileges,
    (schema, role): (&SchemaDecl, &Role),
) -> bool {
    let Some(grants) = cx.column_grants(attempt.relation, schema, role) else { return false };
    let declared = grants.columns(wanted);
    let is_on_relation =
        |need: &&Need| need.relation == attempt.relation.oid && need.check_as.is_none();
    let need = attempt.checks.needs.iter().find(is_on_relation);
    let needed = need.map_or(&[][..], |need| need.columns(wanted));
    // Without columns, as in count(*), SELECT on any column is sufficient.
    !declared.is_empty() && needed.iter().all(|column| declared.contains(column))
}

/// Returns the last link. It fails where the verdict and the contract differ. `denied` tells why
/// the access is denied, if it is.
pub(super) fn link(cx: &Context<'_>, question: &Question<'_>, denied: Option<Cause>) -> Link {
    let is_allowed = denied.is_none();
    let (ok, detail) = match declared(cx, question) {
        Declared::Nothing(why) => (None, why),
        Declared::Allowed(why) => (Some(is_allowed), format!("Access should be allowed: {why}.")),
        Declared::Denied(why) => (Some(!is_allowed), format!("Access should be denied: {why}.")),
    };
    let schema = schema(cx, &question.subject);
    let fix = schema
        .filter(|_| ok == Some(false) && is_in_plan(cx, question, denied))
        .map(|schema| plan_of(cx.tool, &schema.name));
    Link { step: "contract".into(), ok, detail, fix }
}

/// Whether a role has the privilege on every column for which it is declared, if any is.
fn has_declared_columns(cx: &Context<'_>, question: &Question<'_>, role: &Role) -> bool {
    let Subject::Relation(attempt, _) = &question.subject else { return false };
    let schema = schema(cx, &question.subject).and_then(|schema| cx.governed(schema.oid));
    let grants = schema.and_then(|schema| cx.column_grants(attempt.relation, schema, role));
    let columns = grants.map_or(&[][..], |grants| grants.columns(question.privilege));
    let held = |column: &String| cx.access.column_privileges(role.oid, attempt.relation, column);
    !columns.is_empty() && columns.iter().all(|column| held(column).contains(question.privilege))
}

/// Returns what shows the plan for a schema. Its argument is a name, not an identifier.
fn plan_of(tool: Tool, schema: &str) -> String {
    if tool == Tool::Program {
        return format!("dragonfly-guard plan --schema {}", shell_word(schema));
    }
    format!("SELECT * FROM ops.golden_sql(schemas => ARRAY[{}]::name[]);", quote_literal(schema))
}

/// Returns a text as one word of a command line.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Whether the plan may resolve the difference: it grants what is declared and revokes what is not,
/// but not what something else needs that the access depends on.
fn is_in_plan(cx: &Context<'_>, question: &Question<'_>, denied: Option<Cause>) -> bool {
    let Some(role) = cx.snapshot.role_named(question.role) else { return true };
    match denied {
        None | Some(Cause::RowSecurity) => true,
        Some(Cause::Statement) => false,
        Some(Cause::Privilege) => {
            let has_usage = schema(cx, &question.subject).is_some_and(|schema| {
                let (owner, acl) = (schema.owner, schema.acl.as_ref());
                let held = cx.access.privileges(role.oid, owner, acl, ObjectKind::Schema);
                held.contains(Privileges::USAGE)
            });
            let has_privilege = match &question.subject {
                Subject::Routine(Execution { routine, .. }) => {
                    let (owner, acl) = (routine.owner, routine.acl.as_ref());
                    let held = cx.access.privileges(role.oid, owner, acl, ObjectKind::Routine);
                    held.contains(question.privilege)
                }
                Subject::Relation(attempt, _) => {
                    let held = cx.access.relation_privileges(role.oid, attempt.relation);
                    held.contains(question.privilege) || has_declared_columns(cx, question, role)
                }
                Subject::Schema(_) | Subject::Missing(_) => false,
            };
            !(has_usage && has_privilege)
        }
    }
}

/// What the contract declares, with the reason.
enum Declared {
    Allowed(String),
    Denied(String),
    /// The contract does not apply. The reason is a sentence.
    Nothing(String),
}

fn schema<'a>(cx: &Context<'a>, subject: &Subject<'a>) -> Option<&'a Schema> {
    match subject {
        Subject::Schema(schema) => Some(schema),
        Subject::Routine(Execution { routine, .. }) => cx.snapshot.schema(routine.schema),
        Subject::Relation(attempt, _) => cx.snapshot.schema(attempt.relation.schema),
        Subject::Missing(missing) => missing.schema,
    }
}

/// Returns the schema of the object, where the platform manages it.
pub(super) fn platform<'a>(cx: &Context<'a>, subject: &Subject<'a>) -> Option<&'a Schema> {
    schema(cx, subject).filter(|schema| cx.manages_schema(schema))
}

fn declared(cx: &Context<'_>, question: &Question<'_>) -> Declared {
    let name = printable(question.role);
    if let Some(schema) = platform(cx, &question.subject) {
        return Declared::Nothing(format!(
            "Schema {} is the platform's, so the contract declares nothing in it: its privileges \
             are granted by the administrator of the platform.",
            safe_ident(&schema.name)
        ));
    }
    let declared = cx.contract.roles.iter().find(|r| r.name == question.role);
    match declared.map(|r| r.kind) {
        None => {
            return Declared::Nothing(format!("The contract does not mention role \"{name}\"."));
        }
        Some(RoleKind::Owner) => {
            return Declared::Nothing(format!(
                "Role \"{name}\" is a trusted owner: the contract does not restrict it."
            ));
        }
        Some(_) => {}
    }
    let Some(schema) = schema(cx, &question.subject) else {
        return Declared::Nothing("The contract does not mention the object.".into());
    };
    let sql = safe_ident(&schema.name);
    let (Some(row), Some(role)) = (cx.governed(schema.oid), cx.snapshot.role_named(question.role))
    else {
        return Declared::Nothing(format!("The contract does not govern schema {sql}."));
    };
    let usage = row.usage.contains(&role.name);
    let wanted = question.privilege;
    let is_declared = match &question.subject {
        Subject::Schema(_) if wanted == Privileges::USAGE => usage,
        Subject::Schema(_) => false,
        Subject::Routine(Execution { routine, .. }) => cx.declares_execute(routine, row, role),
        Subject::Relation(attempt, _) => {
            let declared = cx.declared_on_relation(attempt.relation, row, role);
            // A sequence of a table into which the role can insert.
            let is_for_insert = attempt.relation.kind == RelationKind::Sequence
                && wanted == Privileges::USAGE
                && cx.declares_insert_by(attempt.relation, role);
            declared.with_maintain(cx.snapshot.version).contains(wanted)
                || are_columns_declared(cx, attempt, wanted, (row, role))
                || is_for_insert
        }
        Subject::Missing(_) => {
            return Declared::Nothing(
                "The object does not exist, so nothing is declared for it.".into(),
            );
        }
    };
    let on_columns = match &question.subject {
        Subject::Relation(attempt, _) if !is_declared => {
            let grants = cx.column_grants(attempt.relation, row, role);
            let columns = grants.map_or(&[][..], |grants| grants.columns(wanted));
            columns.iter().map(String::as_str).collect::<Vec<&str>>()
        }
        _ => vec![],
    };
    match (is_declared, usage) {
        (false, _) if !on_columns.is_empty() => Declared::Denied(format!(
            "{wanted} is declared for role \"{name}\" on {} only",
            named_columns(&on_columns)
        )),
        (true, true) => Declared::Allowed(format!("{wanted} is declared for role \"{name}\"")),
        (true, false) => Declared::Denied(format!(
            "{wanted} is declared for role \"{name}\", but USAGE on schema {sql} is not"
        )),
        (false, _) => Declared::Denied(format!("{wanted} is not declared for role \"{name}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Tool, plan_of};

    #[test]
    fn plan_of_a_schema_is_asked_for_by_its_name_not_by_its_identifier() {
        for (schema, literal) in [
            ("public", "'public'"),
            ("Api Data", "'Api Data'"),
            ("o'hara", "'o''hara'"),
            ("a\\b", "E'a\\\\b'"),
        ] {
            let query =
                format!("SELECT * FROM ops.golden_sql(schemas => ARRAY[{literal}]::name[]);");
            assert_eq!(plan_of(Tool::Extension, schema), query);
        }
    }

    #[test]
    fn plan_of_the_program_is_one_command_whatever_the_name() {
        for (schema, word) in
            [("public", "public"), ("Api Data", "'Api Data'"), ("o'hara", "'o'\\''hara'")]
        {
            let command = format!("dragonfly-guard plan --schema {word}");
            assert_eq!(plan_of(Tool::Program, schema), command);
        }
    }
}

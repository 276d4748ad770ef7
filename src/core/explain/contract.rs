//! Whether the contract says that it should be open.

use super::{Link, Question, Subject};
use crate::catalog::{Privileges, RelationKind, Schema};
use crate::contract::RoleKind;
use crate::rules::Context;
use crate::sql::{printable, safe_ident};

/// The last link. It breaks where the database and the contract are not of one mind.
pub(super) fn link(cx: &Context<'_>, question: &Question<'_>, is_open: bool) -> Link {
    let says = says(cx, question);
    let (ok, detail) = match &says {
        Says::Nothing(why) => (None, why.clone()),
        Says::Open(why) => (Some(is_open), format!("Access should be allowed: {why}.")),
        Says::Closed(why) => (Some(!is_open), format!("Access should be denied: {why}.")),
    };
    let schema = schema(cx, &question.subject).map(|s| safe_ident(&s.name).replace('\'', "''"));
    let fix = (ok == Some(false))
        .then(|| {
            schema.map(|schema| {
                format!("SELECT * FROM ops.golden_sql(schemas => ARRAY['{schema}']::name[]);")
            })
        })
        .flatten();
    Link { step: "contract".into(), ok, detail, fix }
}

enum Says {
    Open(String),
    Closed(String),
    Nothing(String),
}

fn schema<'a>(cx: &Context<'a>, subject: &Subject<'a>) -> Option<&'a Schema> {
    match subject {
        Subject::Schema(schema) => Some(schema),
        Subject::Routine(routine, _) => cx.snapshot.schema(routine.schema),
        Subject::Relation(attempt) => cx.snapshot.schema(attempt.relation.schema),
        Subject::Missing { schema, .. } => *schema,
    }
}

fn says(cx: &Context<'_>, question: &Question<'_>) -> Says {
    let name = printable(question.role);
    let declared = cx.contract.roles.iter().find(|r| r.name == question.role);
    match declared.map(|r| r.kind) {
        None => return Says::Nothing(format!("The contract does not mention role \"{name}\".")),
        Some(RoleKind::Owner) => {
            return Says::Nothing(format!(
                "Role \"{name}\" is a trusted owner: the contract does not restrict it."
            ));
        }
        Some(_) => {}
    }
    let Some(schema) = schema(cx, &question.subject) else {
        return Says::Nothing("The contract does not mention it.".into());
    };
    let sql = safe_ident(&schema.name);
    let (Some(row), Some(role)) = (cx.governed(schema.oid), cx.snapshot.role_named(question.role))
    else {
        return Says::Nothing(format!("The contract does not govern schema {sql}."));
    };
    let usage = row.usage.contains(&role.name);
    let wanted = question.privilege;
    let given = match &question.subject {
        Subject::Schema(_) if wanted == Privileges::USAGE => usage,
        Subject::Schema(_) => false,
        Subject::Routine(routine, _) => cx.declares_execute(routine, row, role),
        Subject::Relation(attempt) => {
            let declared = cx.declared_on_relation(attempt.relation, row, role);
            // A sequence of a table into which the role inserts, and a privilege that comes with
            // ALL from 17 on.
            let serves = attempt.relation.kind == RelationKind::Sequence
                && wanted == Privileges::USAGE
                && cx.declares_insert_by(attempt.relation, role);
            declared.contains(wanted)
                || serves
                || (wanted == Privileges::MAINTAIN && declared.contains(Privileges::ALL_ON_TABLE))
        }
        Subject::Missing { .. } => {
            return Says::Nothing("It does not exist, so that nothing is declared for it.".into());
        }
    };
    match (given, usage) {
        (true, true) => Says::Open(format!("{wanted} is declared for role \"{name}\"")),
        (true, false) => Says::Closed(format!(
            "{wanted} is declared for role \"{name}\", which by contract has no USAGE on schema {sql}"
        )),
        (false, _) => Says::Closed(format!("{wanted} is not declared for role \"{name}\"")),
    }
}

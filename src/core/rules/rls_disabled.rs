//! Row security is disabled on a table.

use super::context::Context;
use crate::catalog::Relation;
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::printable;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_disabled",
    title: "Row security is disabled",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    section: "7",
    checks: "Row security is enabled on every table for which the contract declares it, and on \
             every other table of a governed schema that a client can reach (warning).",
    why: "Without row security, policies are ignored, and a privilege on the table applies to \
          all of its rows.",
    fix: "Run ALTER TABLE ... ENABLE ROW LEVEL SECURITY.",
    exempt: "A lookup table whose rows every client may read.",
    exempt_by_pattern: true,
    example: Example {
        violating: "DROP POLICY queue_worker ON public.job_queue;\n\
                    ALTER TABLE public.job_queue DISABLE ROW LEVEL SECURITY;",
        correct: "DROP POLICY queue_worker ON public.job_queue;\n\
                  ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY;",
    },
    references: &[
        "splinter 0013_rls_disabled_in_public",
        "CIS PostgreSQL Benchmark 4.7",
        "CWE-862",
    ],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations() {
        let Some((severity, why)) = reason(cx, relation, schema) else { continue };
        let sql = cx.snapshot.relation_sql(relation);
        let fix = if relation.kind.has_row_security() {
            Fix::row_security(relation.oid, &sql)
        } else {
            let object_type = relation.kind.object_type();
            Fix::Proposal(format!(
                "A {object_type} cannot have row security. Revoke its privileges from clients:\n\
                 REVOKE ALL ON TABLE {sql} FROM ...;"
            ))
        };
        // A table that no client can access yet must not become accessible in this state.
        let measure = match cx.reached_by(relation) {
            Some(_) => Measure::excess("reached", vec![]),
            None => Measure::missing("not reached", vec![]),
        };
        let detail = format!("Row security is disabled on table {sql}, {why}.");
        let draft = Draft::new(cx.relation_object(relation), severity, detail)
            .evidence(json!({"row_security": false}))
            .fix(fix)
            .measure(measure);
        out.push(draft);
    }
}

/// Returns severity and reason where row security should be enabled and is not: the contract
/// requires it, or a client can access the table.
fn reason(
    cx: &Context<'_>,
    relation: &Relation,
    schema: &SchemaDecl,
) -> Option<(Severity, String)> {
    if relation.row_security {
        return None;
    }
    if cx.contract.table(&schema.name, &relation.name).is_some_and(|t| t.row_security) {
        let never =
            if relation.kind.has_row_security() { "" } else { ", and which cannot have it" };
        return Some((Severity::Error, format!("for which the contract requires it{never}")));
    }
    if !relation.kind.has_row_security() {
        return None;
    }
    let client = cx.reached_by(relation)?;
    Some((Severity::Warning, format!("which role \"{}\" can access", printable(&client.name))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn declared_table_and_table_that_a_client_can_access_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.relation("public.judgments").row_security = false;
        world.grant("public.plaintiff_tasks", anon, Privileges::SELECT);
        world.grant("ops.outbox", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "error table public.judgments: Row security is disabled on table public.judgments, \
                 for which the \
                 contract requires it. \
                 => ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;",
                "warning table public.plaintiff_tasks: Row security is disabled on table \
                 public.plaintiff_tasks, \
                 which role \"anon\" can access. => ALTER TABLE public.plaintiff_tasks ENABLE ROW \
                 LEVEL SECURITY;"
            ]
        );
    }
}

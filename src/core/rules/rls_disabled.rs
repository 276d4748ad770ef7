//! Row level security is off.

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
        out.push(Draft {
            object: cx.relation_object(relation),
            role: None,
            severity,
            key: String::new(),
            // That nobody can reach it yet is a difference: it must not become reachable as it is.
            measure: match cx.reached_by(relation) {
                Some(_) => Measure::surplus("reached", vec![]),
                None => Measure::lack("not reached", vec![]),
            },
            detail: format!("Row level security is off on table {sql}, {why}."),
            evidence: json!({"row_security": false}),
            fix: match relation.kind.has_row_security() {
                true => Fix::row_security(relation.oid, &sql),
                false => Fix::Proposal(format!(
                    "REVOKE ALL ON TABLE {sql} FROM ...; what has no row security is no table for clients"
                )),
            },
        });
    }
}

/// Why it should be on, where it should and is not: the contract demands it, or a client can reach
/// the table.
pub(super) fn reason(
    cx: &Context<'_>,
    relation: &Relation,
    schema: &SchemaDecl,
) -> Option<(Severity, String)> {
    if relation.row_security {
        return None;
    }
    if cx.contract.table(&schema.name, &relation.name).is_some_and(|t| t.row_security) {
        let never = if relation.kind.has_row_security() { "" } else { ", and which can have none" };
        return Some((Severity::Error, format!("for which the contract demands it{never}")));
    }
    if !relation.kind.has_row_security() {
        return None;
    }
    let client = cx.reached_by(relation)?;
    Some((Severity::Warning, format!("which role \"{}\" can reach", printable(&client.name))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Privileges;

    #[test]
    fn declared_tables_and_those_that_clients_reach() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.relation("public.judgments").row_security = false;
        world.grant("public.plaintiff_tasks", anon, Privileges::SELECT);
        world.grant("ops.outbox", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "error table public.judgments: Row level security is off on table public.judgments, for which the contract demands it. \
                 => ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;",
                "warning table public.plaintiff_tasks: Row level security is off on table public.plaintiff_tasks, which role \"anon\" can \
                 reach. => ALTER TABLE public.plaintiff_tasks ENABLE ROW LEVEL SECURITY;"
            ]
        );
    }
}

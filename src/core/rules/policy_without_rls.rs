//! A table has policies, but row security is disabled.

use super::context::Context;
use super::shared::row_security::RowSecurity;
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_without_rls",
    title: "A table has policies but row security is disabled",
    area: Area::Rls,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Row security is enabled on every table of the governed schemas that has policies.",
    why: "The policies have no effect until row security is enabled.",
    fix: "Run ALTER TABLE ... ENABLE ROW LEVEL SECURITY after creating the policies that the \
          declared roles need, or drop the policies.",
    exempt: "Policies that are created before the release that enables row security; set an \
             expiry.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE POLICY idle ON public.plaintiff_tasks FOR SELECT TO service_role USING \
                    (true);",
        correct: "ALTER TABLE public.plaintiff_tasks ENABLE ROW LEVEL SECURITY;\n\
                  CREATE POLICY active ON public.plaintiff_tasks FOR SELECT TO service_role \
                  USING (true);",
    },
    references: &[
        "splinter 0007_policy_exists_rls_disabled",
        "CIS PostgreSQL Benchmark 4.7",
        "CWE-693",
    ],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let row_security = RowSecurity::new(cx);
    for (relation, schema) in cx.relations().filter(|(r, _)| !r.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid);
        // Where the contract requires row security, rls_disabled reports the table.
        let required =
            cx.contract.table(&schema.name, &relation.name).is_some_and(|t| t.row_security);
        if policies.is_empty() || required {
            continue;
        }
        let sql = cx.snapshot.relation_sql(relation);
        let names: Vec<&str> = policies.iter().map(|p| p.name.as_str()).collect();
        let policies = match names.len() {
            1 => "a policy that does not apply".to_owned(),
            n => format!("{n} policies that do not apply"),
        };
        let detail = format!("Table {sql} has {policies}, because row security is disabled.");
        let draft = Draft::new(cx.relation_object(relation), Severity::Warning, detail)
            .evidence(json!({"policies": names}))
            .fix(row_security.enable(relation, schema));
        out.push(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::Policy;

    #[test]
    fn policy_on_a_table_without_row_security_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let relation = world.relation("ops.outbox").oid;
        world.snapshot.policies.push(Policy { name: "p".into(), relation, ..Policy::default() });
        assert_eq!(
            world.found(&RULE),
            ["warning table ops.outbox: Table ops.outbox has a policy that does not apply, \
                 because row security is \
              disabled. \
              => ALTER TABLE ops.outbox ENABLE ROW LEVEL SECURITY;"]
        );
    }
}

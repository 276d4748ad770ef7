//! Row security is not forced on the owner of the table.

use super::context::Context;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_not_forced",
    title: "Row security is not forced on the table owner",
    area: Area::Rls,
    severity: Severity::Info,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    section: "7",
    checks: "FORCE ROW LEVEL SECURITY is set where the contract declares it. Elsewhere its \
             absence is reported as information.",
    why: "Without FORCE the owner bypasses its own policies, and so does every view and \
          SECURITY DEFINER routine of the owner. Declared views often depend on that.",
    fix: "Run ALTER TABLE ... FORCE ROW LEVEL SECURITY after adding the policies that the \
          owner's views and routines need.",
    exempt: "Tables that are read through views of their owner. The finding is information \
             unless the contract declares FORCE.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER TABLE public.judgments NO FORCE ROW LEVEL SECURITY;",
        correct: "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;",
    },
    references: &["CIS PostgreSQL Benchmark 4.7"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in
        cx.relations().filter(|(r, _)| r.row_security && !r.force_row_security)
    {
        let Some(table) =
            cx.contract.table(&schema.name, &relation.name).filter(|t| t.row_security)
        else {
            continue;
        };
        let sql = cx.snapshot.relation_sql(relation);
        let (severity, required, fix) = if table.force_row_security {
            let force = Statement::new(
                Change::ForceRowSecurity(relation.oid),
                format!("ALTER TABLE {sql} FORCE ROW LEVEL SECURITY;"),
            );
            (Severity::Error, ", which the contract requires", Fix::by(force))
        } else {
            (Severity::Info, "", Fix::Unknown)
        };
        let detail = format!("Row security is not forced on the owner of table {sql}{required}.");
        let evidence = json!({"force_row_security": false, "declared": table.force_row_security});
        let draft = Draft::new(cx.relation_object(relation), severity, detail)
            .role(cx.snapshot.role_name(relation.owner))
            .evidence(evidence)
            .fix(fix)
            .measure(Measure::missing("", vec![]));
        out.push(draft);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn missing_force_is_information_unless_declared() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.relation("public.judgments").force_row_security = false;
        assert_eq!(
            world.found(&RULE),
            ["info table public.judgments postgres: Row security is not forced on the owner of \
                 table public.judgments."]
        );
        world.contract.tables[0].force_row_security = true;
        world.contract.rules.remove("rls_not_forced");
        assert!(world.fixes(&RULE)[0].contains("FORCE"));
    }
}

//! Privileges on single columns.

use super::context::Context;
use super::shared::privileges::Allowed;
use super::shared::target::Target;
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "column_privileges",
    title: "A role has a privilege on a column that the contract does not declare",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    section: "2",
    checks: "Client and worker roles have no privileges on single columns beyond those declared \
             for the table.",
    why: "A privilege on a column opens the table for that column, and is easily overlooked \
          because it is not part of the table's ACL.",
    fix: "Revoke the privilege on the column.",
    exempt: "A column privilege that is granted instead of a privilege on the whole table.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT SELECT (payload) ON public.job_queue TO authenticated;",
        correct: "GRANT SELECT (name) ON public.plaintiffs TO authenticated;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations() {
        let declared = |role: &Role| cx.declared_on_relation(relation, schema, role);
        for (column, acl) in &relation.columns {
            let permitted = |role: &Role| {
                cx.permitted_on_relation(relation, schema, role)
                    | cx.permitted_on_column(relation, column, role)
            };
            Target::of_column(cx, relation, column, acl).report_beyond(
                cx,
                &cx.subjects,
                Allowed { declared: &declared, permitted: &permitted },
                Privileges(u32::MAX),
                Severity::Error,
                out,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, Privileges};

    #[test]
    fn grant_on_a_column_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let grantor = world.relation("public.plaintiffs").owner;
        let item = AclItem {
            grantee: anon,
            grantor,
            privileges: Privileges::SELECT,
            grantable: Privileges::NONE,
        };
        world.relation("public.plaintiffs").columns.push(("Name".into(), vec![item]));
        assert_eq!(
            world.found(&RULE),
            ["error table public.plaintiffs anon: Role \"anon\" has SELECT on column \"Name\" \
                 of table public.plaintiffs, which the \
              contract does not declare. => REVOKE SELECT (\"Name\") ON TABLE public.plaintiffs \
              FROM anon;"]
        );
    }
}

//! Privileges on single columns.

use super::context::Context;
use super::shared::privileges::Allowed;
use super::shared::target::Target;
use crate::catalog::{Privileges, Relation, Role};
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "column_privileges",
    title: "Privileges on columns differ from the contract",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    section: "2",
    checks: "Client and worker roles have exactly the privileges on columns that the contract \
             declares in column_grants, or for the whole table or view.",
    why: "A privilege on a column opens the table for that column, and is easily overlooked \
          because it is not part of the table's ACL. Where the contract declares columns, a role \
          without the privilege fails at run time.",
    fix: "Grant or revoke as the contract declares.",
    exempt: "A column privilege for a limited time. Declare it if it is meant to stay.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT SELECT (payload) ON public.job_queue TO authenticated;",
        correct: "GRANT SELECT (name) ON public.plaintiffs TO authenticated;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations() {
        for (column, acl) in &relation.columns {
            let declared = |role: &Role| cx.declared_on_column(relation, schema, role, column);
            let permitted = |role: &Role| {
                declared(role)
                    | cx.permitted_on_relation(relation, schema, role)
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
        for role in cx.subjects.iter().copied() {
            report_missing(cx, relation, schema, role, out);
        }
    }
}

/// Adds a finding for each privilege that a role does not have on columns for which the contract
/// declares it. `required_object_missing` reports columns that do not exist.
fn report_missing(
    cx: &Context<'_>,
    relation: &Relation,
    schema: &SchemaDecl,
    role: &Role,
    out: &mut Vec<Draft>,
) {
    let Some(grants) = cx.column_grants(relation, schema, role) else { return };
    for (privilege, declared) in grants.each() {
        let is_missing = |column: &&str| {
            relation.column_names.iter().any(|name| name == column)
                && !cx.access.column_privileges(role.oid, relation, column).contains(privilege)
        };
        let columns: Vec<&str> = declared.iter().map(String::as_str).filter(is_missing).collect();
        if !columns.is_empty() {
            let target = Target::of_columns(cx, relation, columns);
            target.report_missing_on_columns(cx, role, privilege, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, PUBLIC, Privileges};
    use crate::contract::ColumnGrants;

    /// Returns a world in which the contract declares UPDATE for a client on two columns of a table.
    fn world_with_declared_columns() -> World {
        let mut world = World::conforming();
        let table =
            world.contract.tables.iter_mut().find(|t| t.name == "plaintiffs").expect("a table");
        let mut granted = ColumnGrants::default();
        granted.add(Privileges::UPDATE, "name");
        granted.add(Privileges::UPDATE, "status");
        table.column_grants.insert("authenticated".into(), granted);
        let names = ["id", "name", "status"].map(String::from);
        world.relation("public.plaintiffs").column_names = names.into();
        world
    }

    #[test]
    fn declared_privilege_on_columns_is_granted_on_these_columns_only() {
        let mut world = world_with_declared_columns();
        assert_eq!(
            world.found(&RULE),
            ["error table public.plaintiffs authenticated: Role \"authenticated\" does not have \
              UPDATE on columns \"name\" and \"status\" of table public.plaintiffs, which the \
              contract declares. => GRANT UPDATE (name, status) ON TABLE public.plaintiffs TO \
              authenticated;"]
        );
        let authenticated = world.role("authenticated").oid;
        world.grant_column("public.plaintiffs", "name", authenticated, Privileges::UPDATE);
        assert_eq!(
            world.fixes(&RULE),
            ["GRANT UPDATE (status) ON TABLE public.plaintiffs TO authenticated;"]
        );
        world.grant_column("public.plaintiffs", "status", authenticated, Privileges::UPDATE);
        assert_eq!(world.found(&RULE), [""; 0]);
    }

    #[test]
    fn privilege_on_another_column_than_declared_is_reported() {
        let mut world = world_with_declared_columns();
        let authenticated = world.role("authenticated").oid;
        for column in ["id", "name", "status"] {
            world.grant_column("public.plaintiffs", column, authenticated, Privileges::UPDATE);
        }
        assert_eq!(
            world.fixes(&RULE),
            ["REVOKE UPDATE (id) ON TABLE public.plaintiffs FROM authenticated;"]
        );
    }

    #[test]
    fn privilege_of_public_on_a_declared_column_is_kept_for_the_role() {
        let mut world = world_with_declared_columns();
        world.grant_column("public.plaintiffs", "name", PUBLIC, Privileges::UPDATE);
        assert_eq!(
            world.fixes(&RULE),
            [
                "GRANT UPDATE (name) ON TABLE public.plaintiffs TO authenticated;\n\
                 REVOKE UPDATE (name) ON TABLE public.plaintiffs FROM PUBLIC;",
                "GRANT UPDATE (status) ON TABLE public.plaintiffs TO authenticated;"
            ]
        );
    }

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

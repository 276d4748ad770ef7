//! Privileges on single columns.

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{Relation, Role};
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
                Mask::ALL,
                Severity::Error,
                out,
            );
        }
        for role in cx.declared_subjects(relation, schema) {
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
    use super::super::RULES;
    use super::super::testing::{Edit, World, edit};
    use super::{Context, RULE};
    use crate::access::Access;
    use crate::catalog::{AclItem, ObjectId, PUBLIC, Privileges};
    use crate::contract::ColumnGrants;
    use crate::fix::{AclStatement, Statement, Verb};
    use proptest::prelude::*;

    /// Returns a world in which the contract declares UPDATE for a client on two columns.
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
        world.relation("public.plaintiffs").columns.push(("Name".into(), vec![item].into()));
        assert_eq!(
            world.found(&RULE),
            ["error table public.plaintiffs anon: Role \"anon\" has SELECT on column \"Name\" \
                 of table public.plaintiffs, which the \
              contract does not declare. => REVOKE SELECT (\"Name\") ON TABLE public.plaintiffs \
              FROM anon;"]
        );
    }

    const COLUMNS: [&str; 3] = ["id", "name", "status"];
    const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];

    /// Returns a world whose tables have the same columns, with privileges on columns that are held
    /// or declared: `(table, column, role, privileges, is_declared)`.
    fn world_with(edits: &[Edit], grants: &[(usize, usize, usize, u32, bool)]) -> World {
        let mut world = World::conforming();
        world.add_role("mallory");
        for relation in &mut world.snapshot.relations {
            relation.column_names = COLUMNS.map(String::from).into();
        }
        edits.iter().for_each(|edit| world.edit(*edit));
        let tables = world.contract.tables.len();
        for (table, column, role, bits, is_declared) in grants {
            let privileges = Privileges(*bits) & Privileges::ON_COLUMN;
            let (column, role) = (COLUMNS[*column], ROLES[*role]);
            let table = &mut world.contract.tables[table % tables];
            if *is_declared {
                table.column_grants.entry(role.into()).or_default().add(privileges, column);
            } else {
                let name = format!("{}.{}", table.schema, table.name);
                let grantee = world.role(role).oid;
                world.grant_column(&name, column, grantee, privileges);
            }
        }
        world
    }

    /// Returns a GRANT with the grants that belong to the same step.
    fn with_following(statement: &AclStatement) -> Vec<AclStatement> {
        [vec![statement.clone()], statement.then.clone()].concat()
    }

    proptest! {
        /// No fix gives a role a privilege on a column that it does not have and that the contract
        /// does not declare for this column.
        #[test]
        fn fix_gives_no_privilege_on_a_column_that_is_not_declared(
            edits in proptest::collection::vec(edit(), 0..6),
            grants in proptest::collection::vec(
                (0usize..16, 0usize..3, 0usize..3, any::<u32>(), any::<bool>()), 0..8),
        ) {
            let world = world_with(&edits, &grants);
            let snapshot = world.snapshot.clone().complete();
            let access = Access::new(&snapshot);
            let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
            let fixes = RULES.iter().flat_map(|rule| cx.run(rule)).map(|finding| finding.fix);
            let statements = fixes.flat_map(|fix| fix.statements().to_vec());
            let acl = statements.filter_map(|statement| match statement {
                Statement::Acl(acl) => Some(with_following(&acl)),
                Statement::Ddl(_) => None,
            });
            let gives = |acl: &AclStatement| matches!(acl.verb, Verb::Grant | Verb::Keep);
            for acl in acl.flatten().filter(gives) {
                let ObjectId::Relation(oid) = acl.on.id else { continue };
                let relation = snapshot.relation(oid).unwrap();
                let schema = cx.governed(relation.schema).unwrap();
                let all: Vec<String> = relation.column_names.to_vec();
                let columns = if acl.on.columns.is_empty() { &all } else { &acl.on.columns };
                for (grantee, column) in
                    acl.grantees.iter().flat_map(|g| columns.iter().map(move |c| (g, c)))
                {
                    let role = snapshot.role(grantee.oid).unwrap();
                    let held = access.column_privileges(role.oid, relation, column);
                    let declared = cx.declared_on_column(relation, schema, role, column);
                    let given = acl.privileges & Privileges::ON_COLUMN;
                    prop_assert!((held | declared).contains(given), "{acl} on column {column}");
                    // A privilege on columns is not widened to the table.
                    let is_widened = acl.on.columns.is_empty()
                        && !(access.relation_privileges(role.oid, relation)).contains(given)
                        && columns.iter().any(|column| {
                            let held = access.column_privileges(role.oid, relation, column);
                            let on_table = access.relation_privileges(role.oid, relation);
                            (held & given & !on_table) != Privileges::NONE
                        });
                    prop_assert!(!is_widened, "{acl}");
                }
            }
        }
    }
}

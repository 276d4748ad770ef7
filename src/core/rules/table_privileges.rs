//! Privileges on tables differ from the declared ones, apart from writes by clients
//! (`direct_write`).

use super::context::Context;
use super::shared::privileges::{Allowed, Mask};
use super::shared::target::Target;
use crate::catalog::{Privileges, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "table_privileges",
    title: "Privileges on a table differ from the contract",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client and worker roles have exactly the declared privileges on each table of the \
             governed schemas, apart from client writes and what rule direct_write reports with \
             them.",
    why: "Views are the declared read surface. A client that can read a base table sees columns \
          that no view exposes; a worker without a declared privilege fails at run time.",
    fix: "Grant or revoke as the contract declares.",
    exempt: "A read privilege for a limited time, for example for a support tool. Declare it if \
             it is meant to stay.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT SELECT ON public.plaintiff_contacts TO anon;",
        correct: "GRANT SELECT ON public.plaintiff_contacts TO authenticated;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let clients = &cx.clients;
    let workers = &cx.workers;
    for (relation, schema) in cx.relations().filter(|(r, _)| r.kind.is_table()) {
        let declared = |role: &Role| cx.declared_on_relation(relation, schema, role);
        let permitted = |role: &Role| cx.permitted_on_relation(relation, schema, role);
        let allowed = Allowed { declared: &declared, permitted: &permitted };
        let target = Target::of_relation(cx, relation);
        let others = Mask::BesideWrites(!Privileges::WRITES);
        target.report_beyond(cx, clients, allowed, others, Severity::Error, out);
        target.report_roles(cx, workers, &permitted, Mask::ALL, Severity::Error, out);
        let subjects = cx.declared_subjects(relation, schema);
        target.report_missing(cx, &subjects, &declared, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, PUBLIC, Privileges};
    use crate::contract::{ColumnGrants, GrantPrivilege, TablePrivilege};
    use crate::fix::Fix;

    #[test]
    fn maintain_is_permitted_with_all_others_and_not_required() {
        let all = Privileges::ALL_ON_TABLE | Privileges::MAINTAIN;
        let mut world = World::conforming();
        world.snapshot.version = 17;
        let anon = world.role("anon").oid;
        let mut found = |declared, held| {
            let judgments = world.contract.tables.iter_mut().find(|t| t.name == "judgments");
            let names = TablePrivilege::names_of(declared);
            judgments.unwrap().grants.insert("anon".to_owned(), names);
            world.relation("public.judgments").acl = Some(vec![].into());
            world.grant("public.judgments", anon, held);
            let found = world.found(&RULE).into_iter();
            found.filter(|f| f.contains("anon")).collect::<Vec<String>>()
        };
        assert_eq!(found(all, all), [""; 0]);
        assert_eq!(found(all, Privileges::ALL_ON_TABLE), [""; 0]);
        let some = Privileges::SELECT | Privileges::MAINTAIN;
        assert_eq!(
            found(Privileges::SELECT, some),
            ["error table public.judgments anon: Role \"anon\" has MAINTAIN on table \
              public.judgments, which the contract does not declare. => REVOKE MAINTAIN ON TABLE \
              public.judgments FROM anon;"]
        );
    }

    #[test]
    fn undeclared_and_missing_privileges_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.grant("public.judgments", anon, Privileges::SELECT | Privileges::INSERT);
        world.grant("ops.outbox", PUBLIC, Privileges::SELECT);
        world.relation("intake.simplicity_raw").acl = Some(vec![].into());
        assert_eq!(
            world.found(&RULE),
            [
                "error table intake.simplicity_raw service_role: Role \"service_role\" does not \
                 have SELECT, INSERT, UPDATE, \
                 DELETE, TRUNCATE, REFERENCES, TRIGGER on table intake.simplicity_raw, which the \
                 contract declares. \
                 => GRANT ALL ON TABLE intake.simplicity_raw TO service_role;",
                "error table ops.outbox PUBLIC: PUBLIC (every role) has SELECT on table \
                 ops.outbox, which the contract does not \
                 declare. => REVOKE SELECT ON TABLE ops.outbox FROM PUBLIC;",
                "error table public.judgments anon: Role \"anon\" has SELECT on table \
                 public.judgments, which the contract does not \
                 declare. => REVOKE SELECT ON TABLE public.judgments FROM anon;"
            ]
        );
    }

    #[test]
    fn privilege_through_a_membership_is_fixed_by_revoking_the_membership() {
        let mut world = World::conforming();
        world.add_role("readers");
        let readers = world.role("readers").oid;
        world.grant_role("readers", "anon");
        world.grant("public.job_queue", readers, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            ["error table public.job_queue anon: Role \"anon\" has SELECT on table \
                 public.job_queue through membership in \
              \"readers\", which the contract does not declare. => REVOKE readers FROM anon;"]
        );
    }

    #[test]
    fn grant_option_for_a_declared_privilege_is_reported() {
        let mut world = World::conforming();
        let authenticated = world.role("authenticated").oid;
        let acl = world.relation("public.judgments").acl.as_mut().unwrap();
        acl.iter_mut().find(|item| item.grantee == authenticated).unwrap().grantable =
            Privileges::SELECT;
        assert_eq!(
            world.found(&RULE),
            ["error table public.judgments authenticated: Role \"authenticated\" has the grant \
                 option for SELECT on table \
              public.judgments, which the contract does not declare. => REVOKE GRANT OPTION FOR \
              SELECT ON TABLE public.judgments FROM authenticated \
              CASCADE;"]
        );
    }

    #[test]
    fn grant_of_another_grantor_is_revoked_with_the_grant_option() {
        let mut world = World::conforming();
        world.add_role("g");
        let (g, anon) = (world.role("g").oid, world.role("anon").oid);
        let owner = world.relation("public.judgments").owner;
        let item = |grantee, grantor, grantable| AclItem {
            grantee,
            grantor,
            privileges: Privileges::SELECT,
            grantable,
        };
        let acl = world.relation("public.judgments").acl.as_mut().unwrap();
        acl.extend([item(g, owner, Privileges::SELECT), item(anon, g, Privileges::NONE)]);
        assert_eq!(
            world.fixes(&RULE),
            ["REVOKE GRANT OPTION FOR SELECT ON TABLE public.judgments FROM g CASCADE;"]
        );
    }

    #[test]
    fn privilege_on_columns_is_not_widened_to_the_table() {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        table.grants.get_mut("authenticated").unwrap().push(TablePrivilege::Update);
        let authenticated = world.role("authenticated").oid;
        world.grant_column("public.judgments", "status", authenticated, Privileges::UPDATE);
        assert_eq!(
            world.found(&RULE),
            ["warning table public.judgments authenticated: Role \"authenticated\" has UPDATE on \
              column \"status\" of table public.judgments only, while the contract declares it \
              for all columns."]
        );
        let Fix::Proposal(proposal) = &world.findings(&RULE)[0].fix else { panic!("a proposal") };
        assert_eq!(
            proposal.lines().collect::<Vec<_>>(),
            [
                "Declare these columns instead of the table:",
                "SELECT * FROM ops.declare('REVOKE UPDATE ON TABLE public.judgments FROM \
                 authenticated; GRANT UPDATE (status) ON TABLE public.judgments TO authenticated', \
                 note => '...');",
                "Or grant UPDATE on all columns, which opens the other columns to the role:",
                "GRANT UPDATE ON TABLE public.judgments TO authenticated;",
            ]
        );
    }

    #[test]
    fn revoke_on_a_table_restores_declared_privileges_on_columns() {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "job_queue").unwrap();
        let mut granted = ColumnGrants::default();
        granted.add(Privileges::SELECT, "id");
        granted.add(Privileges::SELECT, "gone");
        table.column_grants.insert("anon".into(), granted);
        let anon = world.role("anon").oid;
        world.relation("public.job_queue").column_names = ["id".to_owned()].into();
        world.grant("public.job_queue", anon, Privileges::SELECT | Privileges::REFERENCES);
        assert_eq!(
            world.found(&RULE),
            ["error table public.job_queue anon: Role \"anon\" has SELECT, REFERENCES on table \
              public.job_queue; the contract declares only SELECT on column \"id\". => REVOKE \
              SELECT, REFERENCES ON TABLE public.job_queue FROM anon;\n\
              GRANT SELECT (id) ON TABLE public.job_queue TO anon;"]
        );
        world.relation("public.job_queue").acl.as_mut().unwrap().pop();
        world.grant("public.job_queue", PUBLIC, Privileges::SELECT);
        assert_eq!(
            world.fixes(&RULE),
            ["GRANT SELECT (id) ON TABLE public.job_queue TO anon;\n\
              REVOKE SELECT ON TABLE public.job_queue FROM PUBLIC;"]
        );
    }

    #[test]
    fn revoke_from_public_keeps_declared_privileges() {
        let mut world = World::conforming();
        world.relation("public.job_queue").acl = None;
        world.grant("public.job_queue", PUBLIC, Privileges::SELECT);
        let fixes: Vec<_> = world.fixes(&RULE);
        assert!(
            fixes[0].starts_with(
                "GRANT SELECT ON TABLE public.job_queue TO service_role;\nREVOKE SELECT"
            ),
            "{fixes:?}"
        );
    }
}

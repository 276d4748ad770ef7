//! The laws of a plan: after it, no finding is left that it claims to fix, and the next plan is
//! empty.

use super::simulate::Simulation;
use super::*;
use crate::access::Access;
use crate::catalog::{
    Acl, AclItem, Body, BodyName, DefaultAcl, Dependencies, Holder, Membership, NameKind, Named,
    Oid, PUBLIC, Part, PartKind, Privileges, Relation, RelationKind, Snapshot, Use,
};
use crate::contract::{Accept, Contract, GuardAction, RoleKind, Severity};
use crate::finding::Finding;
use crate::guard::Change;
use crate::rules::testing::{Edit, World, edit};
use crate::rules::{Context, RULES};
use crate::sql::body::Language;
use proptest::prelude::*;
use std::rc::Rc;

fn findings(contract: &Contract, snapshot: &Snapshot) -> Vec<Finding> {
    let access = Access::new(snapshot);
    let cx = Context::new(contract, snapshot, &access, &|| {});
    let mut found: Vec<Finding> = RULES.iter().flat_map(|rule| cx.run(rule)).collect();
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

fn shared(findings: &[Finding]) -> Vec<Rc<Finding>> {
    findings.iter().cloned().map(Rc::new).collect()
}

fn planner<'a>(
    contract: &'a Contract,
    audit: &'a dyn Fn(&Snapshot) -> Vec<Finding>,
    runner: Oid,
) -> Planner<'a> {
    Planner {
        contract,
        audit,
        wants: &|_| true,
        policy_sql: &|_| None,
        code: &Code::default,
        runner,
        interrupts: &|| {},
    }
}

fn plan_for(contract: &Contract, snapshot: &Snapshot) -> Plan {
    let runner = snapshot.role_named("root").unwrap().oid;
    let audit = |snapshot: &Snapshot| findings(contract, snapshot);
    let before = audit(snapshot);
    planner(contract, &audit, runner).plan(snapshot, &shared(&before))
}

fn plan(world: &World) -> Plan {
    plan_for(&world.contract.clone(), &world.snapshot.clone().complete())
}

fn statements(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|s| s.statement.as_str()).collect()
}

#[test]
fn plan_for_a_conforming_database_is_empty() {
    assert_eq!(statements(&plan(&World::conforming())), [""; 0]);
}

/// Section 8 of the contract document, on its own objects without any grants.
#[test]
fn plan_for_the_documents_objects_is_the_documents_golden_sql() {
    let mut world = World::conforming();
    world.snapshot.schemas.iter_mut().for_each(|s| s.acl = None);
    world.snapshot.relations.iter_mut().for_each(|r| r.acl = None);
    for routine in &mut world.snapshot.routines {
        routine.acl = Some(vec![].into());
        routine.config.clear();
    }
    let plan = plan(&world);
    assert!(plan.steps.iter().all(|s| !s.is_proposal() && s.undo.is_some()));
    let statements = statements(&plan);
    // ALTER ROUTINE comes before GRANT.
    assert!(
        statements[..6].iter().all(|s| s.ends_with(" SET search_path = public, pg_temp;")),
        "{statements:#?}"
    );
    assert_eq!(
        statements[0],
        "ALTER ROUTINE api.get_call_queue() SET search_path = public, pg_temp;"
    );
    let usage: Vec<&str> =
        statements.iter().copied().filter(|s| s.starts_with("GRANT USAGE ON SCHEMA")).collect();
    assert_eq!(
        usage,
        [
            "GRANT USAGE ON SCHEMA api TO anon, authenticated, service_role;",
            "GRANT USAGE ON SCHEMA enforcement TO service_role;",
            "GRANT USAGE ON SCHEMA intake TO authenticated, service_role;",
            "GRANT USAGE ON SCHEMA ops TO service_role;",
            "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;",
        ]
    );
    for statement in [
        "GRANT SELECT ON TABLE public.v_plaintiffs_overview TO anon, authenticated;",
        "GRANT ALL ON TABLE public.v_plaintiffs_overview TO service_role;",
        "GRANT SELECT ON TABLE ops.v_batch_performance TO anon, authenticated;",
        "GRANT EXECUTE ON ROUTINE api.get_dashboard_stats() TO anon, authenticated, service_role;",
        "GRANT INSERT, SELECT ON TABLE intake.simplicity_batches TO authenticated;",
    ] {
        let in_any_order = statement.replace("INSERT, SELECT", "SELECT, INSERT");
        assert!(
            statements.contains(&statement) || statements.contains(&in_any_order.as_str()),
            "{statement}\n{statements:#?}"
        );
    }
}

#[test]
fn unsafe_path_is_fixed_even_if_the_contracts_path_is_a_proposal() {
    let mut world = World::conforming();
    world.contract.security_definer.accept = Accept::Canonical;
    let intake = world.schema("intake").oid;
    let routine = world.routine("get_call_queue");
    routine.config = vec!["search_path=intake".into()].into();
    let log = BodyName {
        kind: NameKind::Relation,
        name: "log".into(),
        objects: [Named { schema: intake, arguments: vec![] }].into(),
    };
    let body = Body { names: vec![log], ..Body::default() };
    world.snapshot.bodies = Rc::new([(routine.oid, body.into())].into_iter().collect());
    let plan = plan(&world);
    assert_eq!(
        statements(&plan)[0],
        "ALTER ROUTINE api.get_call_queue() SET search_path = intake, pg_temp;"
    );
    assert!(plan.steps[1].is_proposal(), "{:#?}", plan.steps);
    assert!(plan.steps[1].statement.ends_with(" SET search_path = public, pg_temp;"));
    assert_eq!(plan.steps.len(), 2, "{:#?}", plan.steps);
}

#[test]
fn role_is_created_before_grants_to_it() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    world.snapshot.roles.retain(|r| r.oid != anon);
    let keeps = |acl: &mut Option<crate::catalog::Acl>| {
        acl.iter_mut().for_each(|acl| acl.retain(|i| i.grantee != anon));
    };
    world.snapshot.schemas.iter_mut().for_each(|s| keeps(&mut s.acl));
    world.snapshot.relations.iter_mut().for_each(|r| keeps(&mut r.acl));
    world.snapshot.routines.iter_mut().for_each(|r| keeps(&mut r.acl));
    let plan = plan(&world);
    assert!(plan.steps[0].statement.contains("CREATE ROLE anon NOLOGIN;"), "{:#?}", plan.steps[0]);
    assert_eq!(plan.steps[0].undo.as_deref(), Some("DROP ROLE IF EXISTS anon;"));
    assert!(
        plan.steps[1..].iter().all(|s| s.statement.ends_with(" TO anon;")),
        "{:#?}",
        statements(&plan)
    );
    assert!(plan.steps.len() > 10);
}

#[test]
fn proposal_is_an_sql_comment() {
    let mut world = World::conforming();
    let authenticated = world.role("authenticated").oid;
    let batches = world.relation("intake.simplicity_batches").oid;
    world.snapshot.policies.retain(|p| p.relation != batches || !p.roles.contains(&authenticated));
    let plan = plan(&world);
    assert_eq!(
        statements(&plan),
        ["-- CREATE POLICY \"authenticated select\" ON intake.simplicity_batches FOR SELECT TO \
             authenticated USING (...);\n\
             -- CREATE POLICY \"authenticated insert\" ON intake.simplicity_batches FOR INSERT TO \
             authenticated WITH CHECK (...);"]
    );
    assert!(plan.steps[0].is_proposal() && plan.fixes.is_empty());
}

#[test]
fn grants_to_roles_come_before_the_revoke_from_public() {
    let mut world = World::conforming();
    world.routine("get_ceo_metrics").acl = None;
    assert_eq!(
        statements(&plan(&world)),
        [
            "GRANT EXECUTE ON ROUTINE api.get_ceo_metrics() TO anon, authenticated, service_role;",
            "REVOKE EXECUTE ON ROUTINE api.get_ceo_metrics() FROM PUBLIC;",
        ]
    );
}

#[test]
fn revokes_of_several_roles_and_rules_are_merged() {
    let mut world = World::conforming();
    for role in ["anon", "authenticated"] {
        let oid = world.role(role).oid;
        world.grant("public.plaintiff_tasks", oid, Privileges::ALL_ON_TABLE);
    }
    let plan = plan(&world);
    assert_eq!(
        statements(&plan),
        ["REVOKE ALL ON TABLE public.plaintiff_tasks FROM anon, authenticated;"]
    );
    let rules: Vec<&str> = plan.steps[0].rules.iter().map(|r| r.id).collect();
    assert_eq!(rules, ["table_privileges", "direct_write"]);
    assert_eq!(
        plan.steps[0].undo.as_deref(),
        Some("GRANT ALL ON TABLE public.plaintiff_tasks TO anon, authenticated;")
    );
}

#[test]
fn revoke_cascade_has_no_undo() {
    let mut world = World::conforming();
    let (anon, authenticated) = (world.role("anon").oid, world.role("authenticated").oid);
    world.grant("public.v_judgment_pipeline", anon, Privileges::INSERT);
    let item = AclItem {
        grantee: authenticated,
        grantor: anon,
        privileges: Privileges::INSERT,
        grantable: Privileges::NONE,
    };
    let acl = world.relation("public.v_judgment_pipeline").acl.as_mut().unwrap();
    acl.last_mut().unwrap().grantable = Privileges::INSERT;
    acl.push(item);
    let plan = plan(&world);
    assert!(
        statements(&plan).iter().any(|s| s.ends_with("FROM anon CASCADE;")),
        "{:#?}",
        statements(&plan)
    );
    assert!(plan.steps.iter().any(|s| s.undo.is_none()));
}

#[test]
fn former_owner_of_a_plain_table_is_granted_its_declared_privileges() {
    let mut world = World::conforming();
    let worker = world.role("service_role").oid;
    let table = world.relation("public.job_queue");
    (table.owner, table.acl, table.row_security, table.force_row_security) =
        (worker, None, false, false);
    let queue = table.oid;
    world.snapshot.policies.retain(|p| p.relation != queue);
    let plan = plan(&world);
    let statements = statements(&plan);
    let place = |end: &str| statements.iter().position(|s| s.ends_with(end));
    let owner = place(" OWNER TO postgres;").unwrap();
    let grant = place("ON TABLE public.job_queue TO service_role;").unwrap();
    assert!(owner < grant, "{statements:#?}");
}

/// A routine of a client does not become the code of another role.
#[test]
fn owner_of_code_is_a_proposal_and_other_statements_stay() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    let routine = world.routine("get_ceo_metrics");
    (routine.owner, routine.config) = (anon, vec![].into());
    world.grant("public.judgments", anon, Privileges::TRUNCATE);
    let plan = plan(&world);
    let executed: Vec<&str> =
        plan.steps.iter().filter(|s| !s.is_proposal()).map(|s| s.statement.as_str()).collect();
    assert!(
        executed.contains(&"REVOKE TRUNCATE ON TABLE public.judgments FROM anon;"),
        "{executed:#?}"
    );
    assert!(!executed.iter().any(|s| s.contains("OWNER TO")), "{executed:#?}");
}

/// The cost must not depend on how many statements cause a problem.
#[test]
fn every_statement_with_a_problem_is_rejected_and_no_other() {
    let mut world = World::conforming();
    let worker = world.role("service_role").oid;
    let mut number = 0;
    for relation in &mut world.snapshot.relations {
        if relation.kind == RelationKind::Table {
            number += 1;
            // The worker has its declared privileges as the owner only.
            (relation.owner, relation.row_security, relation.force_row_security) =
                (worker, false, false);
        }
    }
    assert!(number > 10);
    world.snapshot.policies.clear();
    let audits = std::cell::Cell::new(0);
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| {
        audits.set(audits.get() + 1);
        let mut found = findings(&contract, snapshot);
        // A rule that objects to every change of an owner.
        for relation in snapshot.relations.iter().filter(|r| r.kind == RelationKind::Table) {
            let Some(mut finding) = found.first().cloned() else { break };
            if relation.owner != worker {
                finding.object.identity = snapshot.relation_identity(relation);
                finding.object.object_type = "table";
                (finding.severity, finding.roles) = (Severity::Error, vec!["objector".into()]);
                finding.fix = crate::fix::Fix::Unknown;
                finding.fingerprint = format!("objection to {}", relation.oid);
                found.push(finding);
            }
        }
        found
    };
    let before = audit(&snapshot);
    let runner = snapshot.role_named("root").unwrap().oid;
    let plan = planner(&contract, &audit, runner).plan(&snapshot, &shared(&before));
    let executed: Vec<&Step> = plan.steps.iter().filter(|s| !s.is_proposal()).collect();
    assert!(executed.iter().all(|s| !s.statement.contains("OWNER TO")), "{executed:#?}");
    assert!(audits.get() < 60, "{} audits for {number} tables", audits.get());
}

/// What the caller has no right to execute is a proposal for a role that has it.
#[test]
fn statement_without_the_right_to_execute_it_is_a_proposal() {
    let mut world = World::conforming();
    world.add_role("platform");
    world.role("platform").superuser = true;
    let (anon, platform, postgres) =
        (world.role("anon").oid, world.role("platform").oid, world.role("postgres").oid);
    let public = world.schema("public").oid;
    for role in [platform, postgres] {
        let item = AclItem {
            grantee: anon,
            grantor: role,
            privileges: Privileges::SELECT,
            grantable: Privileges::NONE,
        };
        let default =
            DefaultAcl { role, schema: public, object_type: b'r', acl: vec![item].into() };
        world.snapshot.default_acls.push(default);
    }
    world.grant("public.judgments", anon, Privileges::TRUNCATE);
    world.role("anon").bypass_rls = true;
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let plan = planner(&contract, &audit, postgres).plan(&snapshot, &shared(&audit(&snapshot)));
    let statements = statements(&plan);
    assert_eq!(
        statements,
        [
            "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE SELECT ON TABLES \
             FROM anon;",
            "REVOKE TRUNCATE ON TABLE public.judgments FROM anon;",
            "-- For a superuser or a role with CREATEROLE, because altering role \"anon\" needs \
             CREATEROLE:\n-- ALTER ROLE anon NOBYPASSRLS;",
            "-- For a superuser, because the default privileges belong to role \"platform\":\n\
             -- ALTER DEFAULT PRIVILEGES FOR ROLE platform IN SCHEMA public REVOKE SELECT ON \
             TABLES FROM anon;",
        ]
    );
}

fn text(source: &str) -> Text {
    Text { language: Language::PlPgSql, source: source.to_owned() }
}

/// Returns the plan for a world in which routines have these bodies.
fn plan_with(world: &World, code: &Code) -> Plan {
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let runner = snapshot.role_named("root").unwrap().oid;
    let code = || code.clone();
    let planner = Planner { code: &code, ..planner(&contract, &audit, runner) };
    planner.plan(&snapshot, &shared(&audit(&snapshot)))
}

/// Returns a world in which the roles of a declared routine run its body, and the routine.
fn world_with_invoker() -> (World, Oid) {
    let mut world = World::conforming();
    let routine = world.routine("get_ceo_metrics");
    routine.security_definer = false;
    let oid = routine.oid;
    for function in &mut world.contract.functions {
        function.security_definer = None;
    }
    (world, oid)
}

#[test]
fn revoke_of_what_the_body_of_a_declared_routine_may_use_is_a_proposal() {
    let (mut world, routine) = world_with_invoker();
    let anon = world.role("anon").oid;
    world.grant("public.plaintiff_contacts", anon, Privileges::SELECT);
    world.grant("public.judgments", anon, Privileges::TRUNCATE);
    let plan = |source: &str| {
        let code = Code { texts: [(routine, text(source))].into(), ..Code::default() };
        plan_with(&world, &code)
    };
    let statements_of = |source: &str| -> Vec<String> {
        statements(&plan(source)).into_iter().map(str::to_owned).collect()
    };
    let truncate = "REVOKE TRUNCATE ON TABLE public.judgments FROM anon;";
    let select = "REVOKE SELECT ON TABLE public.plaintiff_contacts FROM anon;";
    let proposal = format!(
        "-- These statements have another effect:\n\
         -- Role \"anon\" would lose SELECT on table public.plaintiff_contacts, which the body of \
         function api.get_ceo_metrics() may use as this role.\n\
         -- {select}"
    );
    // A table whose rows it reads, and one that it does not truncate.
    assert_eq!(
        statements_of("SELECT count(*) FROM public.Plaintiff_Contacts, judgments"),
        [truncate, proposal.as_str()]
    );
    assert!(statements_of("EXECUTE 'TRUNCATE judgments'").iter().all(|s| s != truncate));
    // Another table, another schema, a comment.
    for source in ["SELECT FROM plaintiff_contacts_old", "SELECT FROM intake.plaintiff_contacts"] {
        assert_eq!(statements_of(source), [select, truncate], "{source}");
    }
    assert_eq!(statements_of("SELECT 1 -- plaintiff_contacts"), [select, truncate]);
}

#[test]
fn privileges_that_the_body_does_not_use_are_revoked() {
    let (mut world, routine) = world_with_invoker();
    let anon = world.role("anon").oid;
    let read = Privileges::SELECT | Privileges::REFERENCES | Privileges::TRIGGER;
    world.grant("public.plaintiff_contacts", anon, read);
    world.grant("public.job_queue", anon, Privileges::WRITES);
    let plan = |source: &str| {
        let code = Code { texts: [(routine, text(source))].into(), ..Code::default() };
        plan_with(&world, &code)
    };
    let revoke =
        |words: &str, table: &str| format!("REVOKE {words} ON TABLE public.{table} FROM anon;");
    for (source, revoked, proposed) in [
        (
            "SELECT FROM plaintiff_contacts; INSERT INTO job_queue",
            [
                revoke("REFERENCES, TRIGGER", "plaintiff_contacts"),
                revoke("UPDATE, DELETE, TRUNCATE", "job_queue"),
            ],
            [revoke("INSERT", "job_queue"), revoke("SELECT", "plaintiff_contacts")],
        ),
        (
            "DELETE FROM job_queue; UPDATE job_queue; SELECT FROM plaintiff_contacts; REFERENCES",
            [revoke("TRIGGER", "plaintiff_contacts"), revoke("INSERT, TRUNCATE", "job_queue")],
            [
                revoke("UPDATE, DELETE", "job_queue"),
                revoke("SELECT, REFERENCES", "plaintiff_contacts"),
            ],
        ),
    ] {
        let plan = plan(source);
        let (steps, proposals): (Vec<&Step>, Vec<&Step>) =
            plan.steps.iter().partition(|step| !step.is_proposal());
        let steps: Vec<&str> = steps.iter().map(|step| step.statement.as_str()).collect();
        assert!(
            steps.len() == 2 && revoked.iter().all(|s| steps.contains(&s.as_str())),
            "{:#?}",
            statements(&plan)
        );
        assert_eq!(proposals.len(), 2, "{:#?}", statements(&plan));
        for statement in proposed {
            let end = format!("as this role.\n-- {statement}");
            assert!(
                proposals.iter().any(|step| step.statement.ends_with(&end)),
                "{:#?}",
                statements(&plan)
            );
        }
    }
}

#[test]
fn fix_of_the_audit_says_what_the_plan_does() {
    let (mut world, routine) = world_with_invoker();
    let anon = world.role("anon").oid;
    world.grant("public.plaintiff_contacts", anon, Privileges::SELECT | Privileges::REFERENCES);
    world.grant("public.job_queue", anon, Privileges::SELECT);
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let before = audit(&snapshot);
    let runner = snapshot.role_named("root").unwrap().oid;
    let with = |source: &str| {
        let code = Code { texts: [(routine, text(source))].into(), ..Code::default() };
        let code = || code.clone();
        let planner = Planner { code: &code, ..planner(&contract, &audit, runner) };
        let restated = planner.restated(&snapshot, &before);
        let fix = |f: &Finding| restated.get(&f.fingerprint).unwrap_or(&f.fix).sql().unwrap();
        let fixes: Vec<String> = before.iter().map(fix).collect();
        let plan = planner.plan(&snapshot, &shared(&before));
        (fixes, statements(&plan).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let (both, queue) = (
        "REVOKE SELECT, REFERENCES ON TABLE public.plaintiff_contacts FROM anon;",
        "REVOKE SELECT ON TABLE public.job_queue FROM anon;",
    );
    let (fixes, steps) = with("SELECT 1");
    assert_eq!(fixes, [queue, both]);
    assert_eq!(steps.len(), 2);
    let (fixes, steps) = with("SELECT FROM plaintiff_contacts, job_queue");
    let [part, of_queue, of_contacts] = &steps[..] else { panic!("{steps:#?}") };
    assert_eq!(part, "REVOKE REFERENCES ON TABLE public.plaintiff_contacts FROM anon;");
    assert!(of_contacts.starts_with("-- ") && of_queue.starts_with("-- "), "{steps:#?}");
    assert_eq!(fixes, [of_queue.clone(), format!("{part}\n{of_contacts}")]);
}

#[test]
fn revoke_of_what_a_trigger_or_a_called_body_may_use_is_a_proposal() {
    let (mut world, routine) = world_with_invoker();
    let roles = ["anon", "authenticated"].map(|role| world.role(role).oid);
    for role in roles {
        world.grant("public.plaintiff_contacts", role, Privileges::SELECT);
    }
    let mut helper = world.routine("get_ceo_metrics").clone();
    let schema = world.schema("public").oid;
    (helper.oid, helper.name, helper.schema, helper.acl) = (9_700, "helper".into(), schema, None);
    world.snapshot.routines.push(helper);
    let texts = HashMap::from([
        (routine, text("SELECT public.helper()")),
        (9_700, text("SELECT FROM plaintiff_contacts")),
    ]);
    let is_revoked = |plan: &Plan, from: &str| {
        statements(plan)
            .iter()
            .any(|s| *s == format!("REVOKE SELECT ON TABLE public.plaintiff_contacts FROM {from};"))
    };
    let helper = "REVOKE EXECUTE ON ROUTINE public.helper() FROM PUBLIC;";
    let plan = plan_with(&world, &Code { texts: texts.clone(), ..Code::default() });
    assert!(!is_revoked(&plan, "anon, authenticated"), "{:#?}", statements(&plan));
    assert!(!statements(&plan).contains(&helper), "{:#?}", statements(&plan));
    // Nothing calls it: it is a trigger of a table into which only authenticated may insert.
    let texts = HashMap::from([(9_700, texts[&9_700].clone())]);
    let table = world.relation("intake.simplicity_batches").oid;
    let code = Code { texts, triggers: vec![(table, 9_700)], ..Code::default() };
    assert!(is_revoked(&plan_with(&world, &code), "anon"));
}

/// Lets a role be a member of a group, which the contract declares for no client.
fn join(world: &mut World, member: &str) {
    world.add_role("staff");
    let (role, member) = (world.role("staff").oid, world.role(member).oid);
    let grantor = world.role("root").oid;
    let membership = Membership { role, member, grantor, admin: false, inherit: true, set: true };
    world.snapshot.memberships.push(membership);
}

#[test]
fn revoke_of_a_membership_that_a_policy_or_a_body_asks_for_is_a_proposal() {
    let (mut world, routine) = world_with_invoker();
    join(&mut world, "authenticated");
    let revoke = "REVOKE staff FROM authenticated;";
    let plan = |world: &World, source: &str| {
        let texts = [(routine, text(source))].into();
        let plan = plan_with(world, &Code { texts, ..Code::default() });
        statements(&plan).iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(plan(&world, "SELECT 1 -- pg_has_role()"), [revoke]);
    let body = plan(&world, "SELECT pg_catalog.pg_has_role($1, 'staff', 'MEMBER')");
    assert_eq!(
        body,
        [format!(
            "-- These statements have another effect:\n\
             -- Role \"authenticated\" would no longer be a member of role \"staff\", which the \
             body of function api.get_ceo_metrics() may find out and depend on.\n\
             -- {revoke}"
        )]
    );
    let table = world.relation("public.judgments").oid;
    let policies = world.snapshot.policies.iter_mut().filter(|p| p.relation == table);
    policies.for_each(|policy| policy.asks_memberships = true);
    let policy = plan(&world, "SELECT 1");
    assert!(
        policy[0].contains("which a policy on table public.judgments may find out"),
        "{policy:?}"
    );
}

#[test]
fn owner_of_a_definer_keeps_what_its_body_uses_through_public() {
    let mut world = World::conforming();
    world.add_role("code_owner");
    world.declare("code_owner", RoleKind::Owner);
    let owner = world.role("code_owner").oid;
    world.grant_schema("public", owner, Privileges::USAGE);
    let routine = world.routine("get_ceo_metrics");
    routine.owner = owner;
    let texts = [(routine.oid, text("SELECT FROM judgments"))].into();
    world.grant("public.judgments", PUBLIC, Privileges::SELECT);
    let plan = plan_with(&world, &Code { texts, ..Code::default() });
    let keep = "GRANT SELECT ON TABLE public.judgments TO code_owner;";
    let revoke = "REVOKE SELECT ON TABLE public.judgments FROM PUBLIC;";
    let at = |wanted: &str| statements(&plan).iter().position(|s| *s == wanted);
    assert!(at(keep).is_some() && at(keep) < at(revoke), "{:#?}", statements(&plan));
}

/// A materialized view, for which no role is declared to read it, and an index: their owner
/// refreshes and maintains them through what PUBLIC has.
#[test]
fn owner_keeps_what_its_undeclared_relations_use_through_public() {
    let mut world = World::conforming();
    world.add_role("refresher");
    let (owner, schema) = (world.role("refresher").oid, world.schema("public").oid);
    world.grant_schema("public", owner, Privileges::USAGE);
    let table = world.relation("public.judgments").oid;
    let routine = world.routine("get_ceo_metrics");
    (routine.acl, routine.security_definer) = (None, false);
    let routine = routine.oid;
    world.contract.functions.iter_mut().for_each(|f| f.security_definer = None);
    world.grant("public.judgments", PUBLIC, Privileges::SELECT);
    let relation = |oid, name: &str, kind| Relation {
        oid,
        name: name.into(),
        schema,
        owner,
        kind,
        acl: Some(vec![].into()),
        ..Relation::default()
    };
    world.add_relation(relation(9_801, "summary", RelationKind::MaterializedView));
    world.add_relation(relation(9_802, "cache", RelationKind::Table));
    let part = |relation, kind, uses| Part {
        holder: Holder::Relation(relation),
        kind,
        name: "part".into(),
        uses,
    };
    let parts = vec![
        part(9_801, PartKind::Query, vec![Use::Column(table, "id".into())]),
        part(9_802, PartKind::Statistics, vec![Use::Routine(routine)]),
    ];
    world.snapshot.dependencies = Rc::new(Dependencies::new(parts, &[]));
    let revokes = [
        "REVOKE SELECT ON TABLE public.judgments FROM PUBLIC;",
        "REVOKE EXECUTE ON ROUTINE api.get_ceo_metrics() FROM PUBLIC;",
    ];
    // An undeclared role: a person decides.
    let undeclared = plan(&world);
    let proposal = undeclared.steps.iter().find(|step| step.statement.ends_with(revokes[1]));
    assert!(
        proposal.is_some_and(|s| s.is_proposal() && s.statement.contains("table public.cache may")),
        "{:#?}",
        statements(&undeclared)
    );
    // A declared owner keeps it.
    world.declare("refresher", RoleKind::Owner);
    let declared = plan(&world);
    let keeps = [
        "GRANT SELECT (id) ON TABLE public.judgments TO refresher;",
        "GRANT EXECUTE ON ROUTINE api.get_ceo_metrics() TO anon, authenticated, service_role, \
         refresher;",
    ];
    for (keep, revoke) in keeps.iter().zip(revokes) {
        let at = |wanted: &str| statements(&declared).iter().position(|s| *s == wanted);
        assert!(at(keep).is_some() && at(keep) < at(revoke), "{:#?}", statements(&declared));
    }
}

/// USAGE that the contract declares is not granted while it would make undeclared rows reachable.
#[test]
fn statement_that_opens_something_is_a_proposal() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    world.schema("public").acl.as_mut().unwrap().retain(|i| i.grantee != anon);
    world.grant("public.plaintiff_contacts", anon, Privileges::SELECT);
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let of_usage = |f: &Finding| f.rule.id == "schema_usage";
    let runner = snapshot.role_named("root").unwrap().oid;
    let planner = Planner { wants: &of_usage, ..planner(&contract, &audit, runner) };
    let plan = planner.plan(&snapshot, &shared(&audit(&snapshot)));
    assert_eq!(
        statements(&plan),
        ["-- These statements have another effect:\n\
          -- Through USAGE on the schema, role \"anon\" could use SELECT on table \
          public.plaintiff_contacts.\n\
          -- GRANT USAGE ON SCHEMA public TO anon;"]
    );
    // With the REVOKE in the same plan, it is.
    let all = Planner { wants: &|_| true, ..planner }.plan(&snapshot, &shared(&audit(&snapshot)));
    assert!(statements(&all).contains(&"GRANT USAGE ON SCHEMA public TO anon;"));
}

/// Returns what the guard rejects of a change, one sentence each.
fn rejected_by_guard(contract: &Contract, before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let (old, new) = (Access::new(before), Access::new(after));
    let old = Context::new(contract, before, &old, &|| {});
    let new = Context::new(contract, after, &new, &|| {});
    let change = Change::new(&old, &new);
    let regressions = RULES.iter().flat_map(|rule| change.regressions(rule));
    let blocked = regressions.filter(|worse| worse.action == GuardAction::Block);
    blocked.map(|worse| worse.finding.detail).collect()
}

/// A client that is a member of the role for which EXECUTE is declared could call the routine.
#[test]
fn statement_that_the_guard_would_reject_is_a_proposal() {
    let mut world = World::conforming();
    world.grant_role("service_role", "anon");
    let worker = world.role("service_role").oid;
    let routine = world.routine("complete_outbox_message");
    routine.security_definer = false;
    routine.acl.as_mut().unwrap().retain(|item| item.grantee != worker);
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let of_routines = |f: &Finding| f.rule.id == "routine_privileges";
    let plan = |runner: &str| {
        let runner = snapshot.role_named(runner).unwrap().oid;
        let planner = Planner { wants: &of_routines, ..planner(&contract, &audit, runner) };
        planner.plan(&snapshot, &shared(&audit(&snapshot)))
    };
    let grant =
        "GRANT EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) TO service_role;";
    assert_eq!(statements(&plan("root")), ["REVOKE service_role FROM anon;", grant]);
    let owner = plan("postgres");
    assert!(owner.steps.iter().all(Step::is_proposal), "{:#?}", statements(&owner));
    let proposal = format!(
        "-- These statements have another effect:\n\
         -- Role \"anon\" has EXECUTE on function ops.complete_outbox_message(uuid) through \
         membership in \"service_role\", which the contract does not declare.\n-- {grant}"
    );
    assert!(statements(&owner).contains(&proposal.as_str()), "{:#?}", statements(&owner));
}

/// The routine is declared for a group, and its member can call it through PUBLIC already.
#[test]
fn execute_of_a_group_takes_the_place_of_that_of_public() {
    let mut world = World::conforming();
    world.grant_role("service_role", "anon");
    let routine = world.routine("complete_outbox_message");
    (routine.security_definer, routine.acl) = (false, None);
    let (contract, snapshot) = (world.contract.clone(), world.snapshot.clone().complete());
    let audit = |snapshot: &Snapshot| findings(&contract, snapshot);
    let runner = snapshot.role_named("root").unwrap().oid;
    let of_public = |f: &Finding| f.rule.id == "routine_executable_by_public";
    let planner = Planner { wants: &of_public, ..planner(&contract, &audit, runner) };
    let plan = planner.plan(&snapshot, &shared(&audit(&snapshot)));
    assert_eq!(
        statements(&plan),
        [
            "GRANT EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) TO \
             service_role;",
            "REVOKE EXECUTE ON ROUTINE ops.complete_outbox_message(pg_catalog.uuid) FROM PUBLIC;",
        ]
    );
}

/// Applies an edit of kinds that [`World::edit`] does not contain.
fn mutate(world: &mut World, edit: Edit) {
    let Edit { action, object, role, bits } = edit;
    let names = ["anon", "authenticated", "service_role", "postgres", "mallory"];
    let roles = names.map(|name| world.role(name).oid);
    let (grantee, root) = (roles.get(role).copied().unwrap_or(PUBLIC), world.role("root").oid);
    let relation = object % world.snapshot.relations.len();
    let routine = object % world.snapshot.routines.len();
    match action {
        0 if grantee != PUBLIC => {
            let (role, member) = (roles[(bits % 5) as usize], grantee);
            // The server allows no circular membership.
            let backwards = |m: &Membership| (m.role, m.member) == (member, role);
            if role != member
                && bits % 5 > (object % 5) as u32
                && !world.snapshot.memberships.iter().any(backwards)
            {
                let flag = |n: u32| bits >> n & 1 == 1;
                let membership = Membership {
                    role,
                    member,
                    grantor: root,
                    admin: flag(8),
                    inherit: flag(9),
                    set: flag(10),
                };
                world.snapshot.memberships.retain(|m| (m.role, m.member) != (role, member));
                world.snapshot.memberships.push(membership);
            }
        }
        1 if role < names.len() => {
            let role = world.role(names[role]);
            (role.superuser, role.bypass_rls, role.create_role) =
                (bits % 13 == 0, bits % 2 == 0, bits % 3 == 0);
        }
        2 => {
            let owner = world.snapshot.relations[relation].owner;
            let item = AclItem {
                grantee,
                grantor: owner,
                privileges: Privileges(bits) & (Privileges::SELECT | Privileges::UPDATE),
                grantable: Privileges::NONE,
            };
            world.snapshot.relations[relation]
                .columns
                .push((format!("c{object}"), vec![item].into()));
        }
        // A role with the grant option grants the privilege to another role.
        3 if grantee != PUBLIC => {
            let other = roles[(bits % 5) as usize];
            let relation = &mut world.snapshot.relations[relation];
            let owner = relation.owner;
            if other != grantee && grantee != owner && other != owner {
                let privileges = Privileges::SELECT | (Privileges(bits) & Privileges::WRITES);
                let acl = relation.acl.get_or_insert_default();
                let is_of = |i: &AclItem, a: Oid, b: Oid| (i.grantee, i.grantor) == (a, b);
                acl.retain(|i| !is_of(i, grantee, owner) && !is_of(i, other, grantee));
                acl.push(AclItem { grantee, grantor: owner, privileges, grantable: privileges });
                acl.push(AclItem {
                    grantee: other,
                    grantor: grantee,
                    privileges,
                    grantable: Privileges::NONE,
                });
            }
        }
        4 => {
            let config: &[&str] = [
                &[][..],
                &["search_path="],
                &["search_path=nowhere, public", "row_security=off"],
                &["search_path=public, pg_temp", "session_replication_role=replica"],
            ][(bits % 4) as usize];
            world.snapshot.routines[routine].config =
                config.iter().map(|c| (*c).to_owned()).collect();
        }
        5 if grantee != PUBLIC => world.snapshot.routines[routine].owner = grantee,
        6 => world.snapshot.routines[routine].acl = None,
        _ => {}
    }
}

/// Changes a catalog to one that SQL statements could have created.
fn normalize(world: &mut World) {
    let tidy = |acl: &mut Acl, owner: Oid| {
        let may_grant = |acl: &Acl, role: Oid| {
            role == owner
                || acl
                    .iter()
                    .any(|i| i.grantee == role && i.grantor == owner && !i.grantable.is_empty())
        };
        let mut tidied: Acl = Vec::new().into();
        for item in &acl.clone() {
            let grantor = if may_grant(acl, item.grantor) { item.grantor } else { owner };
            match tidied.iter_mut().find(|i| (i.grantee, i.grantor) == (item.grantee, grantor)) {
                Some(known) => {
                    known.privileges |= item.privileges;
                    known.grantable |= item.grantable;
                }
                None => tidied.push(AclItem { grantor, ..*item }),
            }
        }
        tidied.retain(|i| !i.privileges.is_empty());
        *acl = tidied;
    };
    let snapshot = &mut world.snapshot;
    for relation in &mut snapshot.relations {
        let owner = relation.owner;
        relation.acl.iter_mut().for_each(|acl| tidy(acl, owner));
        relation.columns.iter_mut().for_each(|(_, acl)| tidy(acl, owner));
        relation.columns.sort_by(|a, b| a.0.cmp(&b.0));
        relation.columns.dedup_by(|a, b| a.0 == b.0);
    }
    snapshot.routines.iter_mut().for_each(|r| r.acl.iter_mut().for_each(|acl| tidy(acl, r.owner)));
    snapshot.schemas.iter_mut().for_each(|s| s.acl.iter_mut().for_each(|acl| tidy(acl, s.owner)));
    snapshot.default_acls.iter_mut().for_each(|d| tidy(&mut d.acl, d.role));
    let mut known = std::collections::HashSet::new();
    snapshot
        .default_acls
        .retain(|d| !d.acl.is_empty() && known.insert((d.role, d.schema, d.object_type)));
    snapshot.policies.iter_mut().zip(20_000..).for_each(|(policy, oid)| policy.oid = oid);
}

/// The contract requires row security of a table without it: a client that loses its access to the
/// table makes nothing worse.
#[test]
fn revoke_on_a_table_without_row_security_is_executed() {
    let mut world = World::conforming();
    world.relation("public.judgments").row_security = false;
    let client = world.role("authenticated").oid;
    let before = world.snapshot.clone().complete();
    world.relation("public.judgments").acl.as_mut().unwrap().retain(|item| item.grantee != client);
    let (contract, after) = (world.contract.clone(), world.snapshot.clone().complete());
    let rejected = rejected_by_guard(&contract, &before, &after);
    let about_rows = |detail: &&String| detail.starts_with("Row security is disabled");
    assert_eq!(rejected.iter().filter(about_rows).count(), 0, "{rejected:#?}");
    let granted = rejected_by_guard(&contract, &after, &before);
    assert_eq!(granted.iter().filter(about_rows).count(), 1, "{granted:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn executed_plan_leaves_no_finding_that_it_claims_to_fix(
        edits in proptest::collection::vec(edit(), 0..10),
        mutations in proptest::collection::vec(Edit::any(7), 0..8),
        version in 15u32..=18,
        gone in proptest::option::of(0usize..40),
    ) {
        let mut world = World::conforming();
        world.snapshot.version = version;
        world.add_role("mallory");
        edits.into_iter().for_each(|edit| world.edit(edit));
        mutations.into_iter().for_each(|edit| mutate(&mut world, edit));
        if let Some(gone) = gone.filter(|i| *i < world.snapshot.relations.len()) {
            let gone = world.snapshot.relations.remove(gone).oid;
            world.snapshot.policies.retain(|p| p.relation != gone);
        }
        normalize(&mut world);
        let contract = world.contract.clone();
        let before = world.snapshot.clone().complete();
        let plan = plan_for(&contract, &before);

        // Simulates the statements, not their text.
        let runner = before.role_named("root").unwrap().oid;
        let mut simulation = Simulation::new(before.clone(), runner);
        for statement in &plan.chosen {
            simulation.execute(statement);
        }
        let after = simulation.complete();
        for (effects, what) in [
            (effects::opened(&contract, &before, &after, &|| {}), "opened"),
            (effects::lost(&contract, &before, &after, &|| {}), "lost"),
        ] {
            prop_assert!(
                effects.is_empty(),
                "{}: {}\n{:#?}",
                what,
                effects::described(&effects),
                statements(&plan)
            );
        }
        let mut found = findings(&contract, &after);
        let rejected = rejected_by_guard(&contract, &before, &after);
        prop_assert!(rejected.is_empty(), "{rejected:#?}\n{:#?}", statements(&plan));
        found.retain(|f| f.severity > Severity::Info);
        for finding in &found {
            let text = format!("{} {}", finding.rule.id, finding.detail);
            prop_assert!(!plan.fixes.contains(&finding.fingerprint), "left: {text}");
            let earlier = findings(&contract, &before);
            let existed = |about| earlier.iter().flat_map(Finding::about).any(|was| was == about);
            prop_assert!(
                finding.severity < Severity::Error || finding.about().all(existed),
                "new: {text}\n{:#?}",
                statements(&plan)
            );
        }
        // The next plan contains only the same proposals.
        let again = plan_for(&contract, &after);
        prop_assert!(
            again.steps.iter().all(Step::is_proposal),
            "{:#?}\nafter\n{:#?}",
            statements(&again),
            statements(&plan)
        );
        let proposals = |plan: &Plan| -> Vec<String> {
            let proposals = plan.steps.iter().filter(|s| s.is_proposal());
            proposals.map(|s| s.statement.clone()).collect()
        };
        prop_assert_eq!(proposals(&again), proposals(&plan));
    }
}

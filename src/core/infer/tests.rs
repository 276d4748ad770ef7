//! An audit under an inferred contract finds the omitted privileges and nothing else, and the
//! contract declares nothing that it should not.

use super::*;
use crate::catalog::{DefaultAcl, PUBLIC, Policy};
use crate::contract::{Severity, granted_to};
use crate::finding::Finding;
use crate::rules::RULES;
use crate::rules::testing::{World, edit};
use proptest::prelude::*;

/// Returns the contract for a world, and the findings under it with a severity above info.
fn inferred(world: &World) -> (Contract, Vec<Finding>) {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let names: Vec<String> = world.contract.schemas.iter().map(|s| s.name.clone()).collect();
    let seed = seed(&world.contract, &names);
    let contract = infer(&Context::new(&seed, &snapshot, &access, &|| {}), "1.1.0");
    let cx = Context::new(&contract, &snapshot, &access, &|| {});
    let found = RULES
        .iter()
        .flat_map(|rule| cx.run(rule))
        .filter(|f| f.severity > Severity::Info)
        .collect();
    (contract, found)
}

fn lines(found: &[Finding]) -> Vec<String> {
    found
        .iter()
        .map(|f| {
            format!("{} {} {}", f.rule.id, f.object.identity, f.role.as_deref().unwrap_or("-"))
        })
        .collect()
}

/// Returns a world without policies that are always true for a client.
fn strict_world() -> World {
    let mut world = World::conforming();
    let worker = world.role("service_role").oid;
    world
        .snapshot
        .policies
        .iter_mut()
        .filter(|p| !p.roles.contains(&worker))
        .for_each(|p| p.always_true = false);
    world
}

#[test]
fn conforming_database_conforms_to_the_inferred_contract() {
    let world = strict_world();
    let (contract, found) = inferred(&world);
    assert_eq!(lines(&found), [""; 0]);
    assert!(Contract::from_json(&serde_json::to_string(&contract).unwrap()).is_ok());
    let judgments = contract.table("public", "judgments").unwrap();
    assert!(judgments.row_security);
    assert_eq!(granted_to(&judgments.grants, "authenticated"), Privileges::SELECT);
    assert_eq!(granted_to(&judgments.grants, "anon"), Privileges::NONE);
    assert_eq!(judgments.policies["authenticated"], [crate::contract::PolicyCommand::Select]);
    assert_eq!(contract.schema("public").unwrap().all_on_objects, ["service_role"]);
    assert_eq!(contract.schema("enforcement").unwrap().usage, ["service_role"]);
    assert_eq!(
        granted_to(&contract.view("public", "v_judgment_pipeline").unwrap().grants, "anon"),
        Privileges::SELECT
    );
    assert_eq!(contract.functions.len(), world.contract.functions.len());
    assert_eq!(contract.security_definer.search_path, ["public", "pg_temp"]);
}

#[test]
fn privileges_on_columns_are_declared_where_row_security_restricts_them() {
    let mut world = strict_world();
    let anon = world.role("anon").oid;
    let authenticated = world.role("authenticated").oid;
    // Row security is enabled on judgments, with a policy for SELECT, and disabled on tasks.
    world.grant_column("public.judgments", "status", authenticated, Privileges::SELECT);
    world.grant_column("public.judgments", "status", anon, Privileges::SELECT);
    world.grant_column("public.judgments", "status", anon, Privileges::REFERENCES);
    world.grant_column("public.plaintiff_tasks", "title", anon, Privileges::SELECT);
    world.grant_column("public.v_judgment_pipeline", "status", authenticated, Privileges::UPDATE);
    for table in ["public.judgments", "public.plaintiff_tasks", "public.v_judgment_pipeline"] {
        let names = ["status", "title"].map(String::from);
        world.relation(table).column_names = names.into();
    }
    let (contract, found) = inferred(&world);
    let judgments = contract.table("public", "judgments").unwrap();
    let names: Vec<&String> = judgments.column_grants.keys().collect();
    assert_eq!(names, ["anon"], "authenticated has SELECT on the table");
    assert_eq!(judgments.column_grants["anon"].select, ["status"]);
    assert_eq!(judgments.column_grants["anon"].privileges(), Privileges::SELECT);
    let tasks = contract.table("public", "plaintiff_tasks").unwrap();
    assert!(tasks.column_grants.is_empty(), "no row security");
    let view = contract.view("public", "v_judgment_pipeline").unwrap();
    assert!(view.column_grants.is_empty(), "a client does not write to views");
    let columns: Vec<String> =
        lines(&found).into_iter().filter(|line| line.starts_with("column_privileges")).collect();
    assert_eq!(
        columns,
        [
            "column_privileges public.judgments anon",
            "column_privileges public.plaintiff_tasks anon",
            "column_privileges public.v_judgment_pipeline authenticated",
        ]
    );
}

#[test]
fn unintended_privileges_are_omitted() {
    let mut world = strict_world();
    let (anon, worker) = (world.role("anon").oid, world.role("service_role").oid);
    // anon can access a table without row security, a table with a policy for all rows, and a table
    // and a view with all privileges.
    world.grant("public.plaintiff_tasks", anon, Privileges::SELECT);
    world.grant("public.plaintiffs", anon, Privileges::ALL_ON_TABLE);
    let plaintiffs = world.relation("public.plaintiffs").oid;
    let policy = |name: &str, roles, always_true| Policy {
        oid: 9_000,
        name: name.into(),
        relation: plaintiffs,
        command: Some(crate::catalog::Command::Update),
        permissive: true,
        roles,
        always_true,
        unchecked: false,
    };
    world.snapshot.policies.push(policy("all_rows", vec![anon], true));
    world.grant("ops.v_reaper_status", anon, Privileges::ALL_ON_TABLE);
    world.routine("queue_job").config = vec!["search_path=".into()];
    world.routine("get_ceo_metrics").acl = None;
    world.grant_schema("intake", worker, Privileges::CREATE);
    let (contract, found) = inferred(&world);
    assert_eq!(contract.table("public", "plaintiff_tasks").unwrap().grants.get("anon"), None);
    let kept = granted_to(&contract.table("public", "plaintiffs").unwrap().grants, "anon");
    assert_eq!(kept, Privileges::SELECT | Privileges::INSERT | Privileges::DELETE);
    assert_eq!(contract.view("ops", "v_reaper_status").unwrap().grants.get("anon"), None);
    assert_eq!(contract.functions_named("api", "queue_job").count(), 0);
    assert!(contract.functions_named("api", "get_ceo_metrics").all(|f| f.execute.is_empty()));
    assert_eq!(
        lines(&found),
        [
            "schema_create intake service_role",
            "table_privileges public.plaintiff_tasks anon",
            "table_privileges public.plaintiffs anon",
            "view_privileges ops.v_reaper_status anon",
            "direct_write ops.v_reaper_status anon",
            "direct_write public.plaintiffs anon",
            "security_definer_search_path api.queue_job() -",
            "security_definer_executable_by_clients api.get_ceo_metrics() PUBLIC",
            "security_definer_executable_by_clients api.queue_job() anon",
            "security_definer_executable_by_clients api.queue_job() authenticated",
            "rls_disabled public.plaintiff_tasks -",
            "rls_policy_always_true all_rows on public.plaintiffs anon",
        ]
    );
}

#[test]
fn default_privileges_are_omitted() {
    let mut world = strict_world();
    let (anon, owner) = (world.role("anon").oid, world.role("postgres").oid);
    let api = world.schema("api").oid;
    let acl = vec![crate::catalog::AclItem {
        grantee: anon,
        grantor: owner,
        privileges: Privileges::EXECUTE,
        grantable: Privileges::NONE,
    }];
    world.snapshot.default_acls.push(DefaultAcl {
        role: owner,
        schema: api,
        object_type: b'f',
        acl,
    });
    let (contract, found) = inferred(&world);
    assert!(contract.functions.iter().all(|f| !f.execute.iter().any(|role| role == "anon")));
    assert!(
        contract
            .functions_named("api", "queue_job")
            .all(|f| f.execute.iter().any(|role| role == "authenticated"))
    );
    assert!(
        lines(&found)
            .contains(&"security_definer_executable_by_clients api.queue_job() anon".to_owned())
    );
}

#[test]
fn policy_with_unchecked_writes_is_omitted() {
    let mut world = strict_world();
    let authenticated = world.role("authenticated").oid;
    let relation = world.relation("public.judgments").oid;
    world.grant(
        "public.judgments",
        authenticated,
        Privileges::INSERT | Privileges::UPDATE | Privileges::DELETE,
    );
    world.snapshot.policies.push(Policy {
        oid: 9_001,
        name: "mine".into(),
        relation,
        command: None,
        permissive: true,
        roles: vec![authenticated],
        always_true: false,
        unchecked: true,
    });
    let (contract, found) = inferred(&world);
    let judgments = contract.table("public", "judgments").unwrap();
    assert_eq!(
        granted_to(&judgments.grants, "authenticated"),
        Privileges::SELECT | Privileges::DELETE
    );
    assert_eq!(
        lines(&found),
        [
            "direct_write public.judgments authenticated",
            "rls_policy_undeclared mine on public.judgments authenticated"
        ]
    );
}

#[test]
fn kind_of_undeclared_role_is_inferred_from_its_attributes() {
    let mut world = strict_world();
    world.contract.roles.clear();
    world.contract.trusted_roles.clear();
    for name in ["api_user", "app_rw", "web_login", "authenticator", "owner_of_most"] {
        world.add_role(name);
    }
    for login in ["web_login", "authenticator"] {
        world.role(login).can_login = true;
    }
    world.grant_role("app_rw", "web_login");
    world.grant_role("api_user", "authenticator");
    world.snapshot.memberships.last_mut().unwrap().inherit = false;
    let owner = world.role("owner_of_most").oid;
    world.snapshot.relations.iter_mut().for_each(|r| r.owner = owner);
    for name in ["api_user", "app_rw", "web_login"] {
        let role = world.role(name).oid;
        world.grant("public.judgments", role, Privileges::SELECT);
    }
    let (contract, _) = inferred(&world);
    let kind = |name: &str| {
        contract.roles.iter().find(|r| r.name == name).map(|r| format!("{:?}", r.kind))
    };
    assert_eq!(
        kind("api_user").as_deref(),
        Some("Client"),
        "authenticator can SET ROLE to it but does not inherit from it"
    );
    assert_eq!(kind("app_rw").as_deref(), Some("Client"), "client is the stricter kind");
    assert_eq!(kind("web_login").as_deref(), Some("Worker"), "it can log in");
    assert_eq!(kind("service_role").as_deref(), Some("Worker"), "it bypasses row security");
    assert_eq!(kind("anon").as_deref(), Some("Client"));
    assert_eq!(kind("owner_of_most").as_deref(), Some("Owner"));
    assert_eq!(kind("postgres").as_deref(), Some("Owner"), "the database's owner");
    assert_eq!(kind("authenticator"), None, "nothing was granted to it");
    let description =
        |name: &str| contract.roles.iter().find(|r| r.name == name).map(|r| r.description.as_str());
    assert_eq!(description("web_login"), Some("Inferred as a worker because it can log in."));
    assert_eq!(kind("root"), None, "a superuser");
    assert_eq!(contract.trusted_roles, [""; 0], "a person decides about trusted roles");
}

/// Rules with findings that no declaration prevents, or should.
const NOT_DECLARABLE: [&str; 10] = [
    "role_membership",
    "object_ownership",
    "schema_create",
    "column_privileges",
    "default_privileges",
    "security_definer_search_path",
    "security_definer_settings",
    "security_definer_executable_by_clients",
    "routine_executable_by_public",
    "policy_without_rls",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn audit_finds_omitted_privileges_only(
        edits in proptest::collection::vec(edit(), 0..12)
    ) {
        let mut world = strict_world();
        world.add_role("mallory");
        edits.into_iter().for_each(|edit| world.edit(edit));
        let (contract, found) = inferred(&world);
        prop_assert!(Contract::from_json(&serde_json::to_string(&contract).unwrap()).is_ok());
        let clients: Vec<&str> = contract.roles_of(crate::contract::RoleKind::Client).collect();

        // Nothing is declared that should not be.
        let snapshot = world.snapshot.clone().complete();
        for table in &contract.tables {
            for client in &clients {
                let declared = granted_to(&table.grants, client);
                prop_assert!(
                    table.row_security || declared.is_empty(),
                    "{}.{} {client}",
                    table.schema,
                    table.name
                );
                let never = Privileges::TRUNCATE | Privileges::TRIGGER | Privileges::REFERENCES;
                prop_assert!(!declared.intersects(never));
            }
            let schema = snapshot.schema_named(&table.schema).unwrap();
            let relation = snapshot.relation_named(schema.oid, &table.name).unwrap();
            let policies = snapshot.policies_of(relation.oid).iter();
            for policy in policies.filter(|p| p.permissive && p.always_true) {
                let is_for = |client: &&&str| {
                    policy.roles.iter().any(|r| *r == PUBLIC || snapshot.role_name(*r) == **client)
                };
                for client in clients.iter().filter(is_for) {
                    let declared = table.policy_commands(client);
                    prop_assert!(
                        !policy.commands().iter().any(|c| declared.contains(c)),
                        "{} {client}",
                        policy.name
                    );
                }
            }
        }

        for function in &contract.functions {
            let schema = snapshot.schema_named(&function.schema).unwrap().oid;
            let defaults = snapshot
                .default_acls
                .iter()
                .filter(|d| d.object_type == b'f' && d.schema == schema);
            for item in defaults.flat_map(|d| &d.acl) {
                let grantee = snapshot.role_name(item.grantee);
                let owned_by_another = snapshot.routines.iter().any(|r| {
                    r.name == function.name
                        && r.schema == schema
                        && snapshot.role_name(r.owner) != "postgres"
                });
                prop_assert!(
                    !clients.contains(&grantee.as_str())
                        || owned_by_another
                        || !function.execute.contains(&grantee)
                );
            }
        }

        // Findings are about omitted privileges of clients and PUBLIC, or not declarable.
        for finding in &found {
            let role = finding.role.as_deref().unwrap_or_default();
            let rule = finding.rule.id;
            let identity = &finding.object.identity;
            let is_of_client = clients.contains(&role)
                && !rule.starts_with("schema_usage")
                && finding.evidence["problem"] != "missing";
            let requires_row_security = contract
                .tables
                .iter()
                .any(|t| t.row_security && *identity == format!("{}.{}", t.schema, t.name));
            let is_omitted = NOT_DECLARABLE.contains(&rule)
                || role == "PUBLIC"
                || is_of_client
                || (rule == "rls_disabled" && !requires_row_security);
            prop_assert!(is_omitted, "{rule} {identity} {role}: {}", finding.detail);
        }
    }
}

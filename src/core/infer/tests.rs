//! An audit under an inferred contract finds the omitted privileges and nothing else, and the
//! contract declares nothing that it should not.

use super::*;
use crate::catalog::{AclItem, Attribute, DefaultAcl, Policy};
use crate::contract::{Examined, SessionKind, Severity, examine, granted_to};
use crate::finding::Finding;
use crate::rules::RULES;
use crate::rules::testing::{World, edit};
use proptest::prelude::*;

/// Returns the strict contract for a world, and the findings under it with a severity above info.
pub(super) fn inferred(world: &World) -> (Contract, Vec<Finding>) {
    inferred_in(Mode::Strict, world)
}

fn inferred_in(mode: Mode, world: &World) -> (Contract, Vec<Finding>) {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let names: Vec<String> = world.contract.schemas.iter().map(|s| s.name.clone()).collect();
    let seed = seed(&world.contract, &names);
    let cx = Context::new(&seed, &snapshot, &access, &|| {});
    let contract = infer(&cx, "1.1.0", mode, &|_, _, _| {}).contract;
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
            format!(
                "{} {} {}",
                f.rule.id,
                f.object.identity,
                if f.roles.is_empty() { "-".into() } else { f.roles.join(",") }
            )
        })
        .collect()
}

/// Returns a world without policies that are always true for a client, and without privileges of
/// clients in schemas on which they have no USAGE.
pub(super) fn strict_world() -> World {
    let mut world = World::conforming();
    let clients = [world.role("anon").oid, world.role("authenticated").oid];
    let unusable = world.relation("ops.v_batch_performance");
    unusable.acl.as_mut().unwrap().retain(|item| !clients.contains(&item.grantee));
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
    let worker = granted_to(&judgments.grants, "service_role");
    assert_eq!(worker, Privileges::ALL_ON_TABLE);
    assert_eq!(contract.schema("enforcement").unwrap().usage, ["service_role"]);
    assert_eq!(
        granted_to(&contract.view("public", "v_judgment_pipeline").unwrap().grants, "anon"),
        Privileges::SELECT
    );
    assert_eq!(contract.functions.len(), world.contract.functions.len());
    assert_eq!(contract.security_definer.search_path, ["public", "pg_temp"]);
}

#[test]
fn contract_of_another_database_leaves_neither_sections_nor_platform_lists() {
    let shipped = Contract::from_json(crate::contract::DEFAULT).unwrap();
    let mut world = World::conforming();
    let inferred = |world: &World, base: &Contract| {
        let snapshot = world.snapshot.clone().complete();
        let base = with_preset(base, &snapshot, &|_, _| false);
        let seed = seed(&base, &["public".to_owned()]);
        let access = Access::new(&snapshot);
        let cx = Context::new(&seed, &snapshot, &access, &|| {});
        infer(&cx, "1.1.0", Mode::AsIs, &|_, _, _| {}).contract
    };
    world.snapshot.roles.retain(|role| role.name != "authenticator");
    let mut later = shipped.clone();
    later.version = "1.5.0".into();
    for base in [shipped.clone(), later] {
        let contract = inferred(&world, &base);
        assert_eq!(contract.rules.values().filter(|rule| rule.section.is_some()).count(), 0);
        assert_eq!(contract.managed.schemas, [""; 0]);
        assert_eq!(contract.managed.roles, [""; 0]);
        assert!(contract.managed.extensions.contains(&"pgcrypto".to_owned()));
    }
    // What exists stays, and so does everything where the platform is Supabase.
    let cron = Schema { oid: 60_000, name: "cron".into(), ..world.schema("ops").clone() };
    world.snapshot.schemas.push(cron);
    assert_eq!(inferred(&world, &shipped).managed.schemas, ["cron"]);
    world.add_role("supabase_admin");
    world.role("supabase_admin").superuser = true;
    let managed = inferred(&world, &shipped).managed;
    assert!(managed.schemas.contains(&"vault".to_owned()), "{managed:?}");
    assert!(managed.roles.contains(&"supabase_admin".to_owned()), "{managed:?}");
    // A contract of this database has sections of its own.
    let mut own = shipped;
    own.description = "Our database".into();
    own.rules.get_mut("rls_disabled").unwrap().section = Some("9".into());
    let snapshot = world.snapshot.clone().complete();
    let kept = with_preset(&own, &snapshot, &|_, _| true);
    assert_eq!(kept.section("rls_disabled"), Some("9"));
}

#[test]
fn sessions_of_roles_that_are_no_clients_are_left_out() {
    let mut world = World::conforming();
    let sessions =
        ["anon", "service_role", "gone"].map(|role| (role.to_owned(), SessionKind::With));
    world.contract.identity.sessions = sessions.into();
    world.contract.identity.email_verified = true;
    let (contract, _) = inferred(&world);
    let kept: Vec<&String> = contract.identity.sessions.keys().collect();
    assert_eq!(kept, ["anon"]);
    assert!(contract.identity.email_verified);
}

/// Default privileges of `postgres` in schema public that give `service_role` everything.
fn all_by_default(world: &mut World) -> Vec<DefaultAcl> {
    let (role, grantee) = (world.role("postgres").oid, world.role("service_role").oid);
    let schema = world.schema("public").oid;
    let of = |object_type, privileges| DefaultAcl {
        role,
        schema,
        object_type,
        acl: vec![AclItem { grantee, grantor: role, privileges, grantable: Privileges::NONE }]
            .into(),
    };
    vec![of(b'r', Privileges::ALL_ON_TABLE), of(b'S', Privileges::ALL_ON_SEQUENCE)]
}

#[test]
fn everything_in_a_schema_is_declared_only_where_new_objects_get_it_by_default() {
    let all_on_objects = |world: &World| {
        let (contract, found) = inferred(world);
        assert_eq!(lines(&found), [""; 0]);
        contract.schema("public").unwrap().all_on_objects.clone()
    };
    let mut world = strict_world();
    assert_eq!(all_on_objects(&world), [""; 0]);
    let defaults = all_by_default(&mut world);
    world.snapshot.default_acls = defaults.clone();
    assert_eq!(all_on_objects(&world), ["service_role"]);
    // Tables, but no sequences; in another schema; less than all.
    world.snapshot.default_acls = defaults[..1].to_vec();
    assert_eq!(all_on_objects(&world), [""; 0]);
    world.snapshot.default_acls = defaults.clone();
    world.snapshot.default_acls[0].schema = world.schema("ops").oid;
    assert_eq!(all_on_objects(&world), [""; 0]);
    world.snapshot.default_acls = defaults.clone();
    world.snapshot.default_acls[0].acl[0].privileges = Privileges::SELECT;
    assert_eq!(all_on_objects(&world), [""; 0]);
    // Of all roles, only the worker executes new functions, or not even the worker.
    let acl = defaults[0].acl.clone();
    let functions = DefaultAcl { schema: 0, object_type: b'f', ..defaults[0].clone() };
    for (privileges, expected) in
        [(Privileges::EXECUTE, &["service_role"][..]), (Privileges::NONE, &[])]
    {
        let acl = vec![AclItem { privileges, ..acl[0] }];
        world.snapshot.default_acls = defaults.clone();
        world.snapshot.default_acls.push(DefaultAcl { acl: acl.into(), ..functions.clone() });
        assert_eq!(all_on_objects(&world), expected);
    }
    // A table of another role, which has no default privileges.
    world.snapshot.default_acls = defaults;
    world.add_role("importer");
    world.relation("public.judgments").owner = world.role("importer").oid;
    assert_eq!(inferred(&world).0.schema("public").unwrap().all_on_objects, [""; 0]);
}

#[test]
fn owners_of_the_structure_are_the_deployers() {
    let deployers = |world: &World| {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let names: Vec<String> = world.contract.schemas.iter().map(|s| s.name.clone()).collect();
        let seed = seed(&world.contract, &names);
        let cx = Context::new(&seed, &snapshot, &access, &|| {});
        let mut contract = infer(&cx, "1.1.0", Mode::AsIs, &|_, _, _| {}).contract;
        name_deployers(&cx, &mut contract);
        contract.deployers
    };
    let mut world = strict_world();
    assert_eq!(deployers(&world), None, "those of the shipped contract");
    let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    world.add_role("shop_owner");
    world.snapshot.database.owner = world.role("shop_owner").oid;
    world.role("postgres").superuser = true;
    assert_eq!(deployers(&world), of(&["shop_owner"]));
    // The owner of a single object is not a deployer.
    world.add_role("importer");
    world.role("importer").can_login = false;
    world.relation("public.judgments").owner = world.role("importer").oid;
    assert_eq!(deployers(&world), of(&["shop_owner"]));
    world.contract.deployers = of(&["release"]);
    assert_eq!(deployers(&world), of(&["release"]), "a person has said who");
}

#[test]
fn privileges_on_columns_are_declared_where_row_security_restricts_them() {
    let mut world = strict_world();
    let anon = world.role("anon").oid;
    let authenticated = world.role("authenticated").oid;
    // Row security is enabled on judgments, with a policy for SELECT, and disabled on tasks.
    let judgments = world.relation("public.judgments").oid;
    world
        .snapshot
        .policies
        .iter_mut()
        .filter(|p| p.relation == judgments && p.roles.contains(&authenticated))
        .for_each(|p| p.roles.push(anon));
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
        has_check: false,
        requires_authentication: false,
        asks_memberships: false,
        never_true: false,
        rejects_new_rows: false,
    };
    world.snapshot.policies.push(policy("all_rows", vec![anon], true));
    world.grant("ops.v_reaper_status", anon, Privileges::ALL_ON_TABLE);
    world.routine("queue_job").config = vec!["search_path=".into()].into();
    world.routine("get_ceo_metrics").acl = None;
    world.grant_schema("intake", worker, Privileges::CREATE);
    let (contract, found) = inferred(&world);
    assert_eq!(contract.table("public", "plaintiff_tasks").unwrap().grants.get("anon"), None);
    let kept = granted_to(&contract.table("public", "plaintiffs").unwrap().grants, "anon");
    assert_eq!(kept, Privileges::NONE, "no policy with a condition allows anon any row");
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
            "security_definer_executable_by_clients api.queue_job() anon,authenticated",
            "rls_disabled public.plaintiff_tasks -",
            "rls_policy_always_true all_rows on public.plaintiffs anon",
            "policy_read_missing public.plaintiffs anon",
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
        acl: acl.into(),
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

/// Returns a policy on `public.judgments`.
fn policy(world: &mut World, name: &str, command: Option<crate::catalog::Command>) -> Policy {
    let relation = world.relation("public.judgments").oid;
    Policy { name: name.into(), relation, command, permissive: true, ..Policy::default() }
}

#[test]
fn command_with_a_conditional_and_an_always_true_policy_is_declared() {
    // Reference data: readable by everyone, writable by administrators.
    let mut world = strict_world();
    let authenticated = world.role("authenticated").oid;
    let judgments = world.relation("public.judgments").oid;
    world.snapshot.policies.retain(|p| p.relation != judgments);
    world.grant("public.judgments", authenticated, Privileges::WRITES & !Privileges::TRUNCATE);
    let roles = vec![authenticated];
    let readable = Policy {
        always_true: true,
        roles: roles.clone(),
        ..policy(&mut world, "readable", Some(crate::catalog::Command::Select))
    };
    let admins = Policy { oid: 1, roles, ..policy(&mut world, "admins", None) };
    world.snapshot.policies.extend([readable, admins]);
    for mode in Mode::ALL {
        let (contract, found) = inferred_in(mode, &world);
        let declared = contract.table("public", "judgments").unwrap();
        assert_eq!(declared.policies["authenticated"], [crate::contract::PolicyCommand::All]);
        assert_eq!(
            lines(&found),
            ["rls_policy_always_true readable on public.judgments authenticated"]
        );
    }
}

#[test]
fn policy_without_to_does_not_make_anonymous_callers_writers() {
    let mut world = strict_world();
    let [anon, authenticated, owner] =
        ["anon", "authenticated", "postgres"].map(|name| world.role(name).oid);
    let schema = world.schema("public").oid;
    let judgments = world.relation("public.judgments").oid;
    world.snapshot.policies.retain(|p| p.relation != judgments);
    for role in [anon, authenticated] {
        world.grant("public.judgments", role, Privileges::ALL_ON_TABLE);
    }
    let own = Policy {
        roles: vec![crate::catalog::PUBLIC],
        requires_authentication: true,
        asks_memberships: false,
        ..policy(&mut world, "own", None)
    };
    world.snapshot.policies.push(own);
    let declared = |world: &World, mode| {
        let contract = inferred_in(mode, world).0;
        let table = contract.table("public", "judgments").unwrap();
        ["anon", "authenticated"].map(|role| table.policy_commands(role).len())
    };
    assert_eq!(Mode::ALL.map(|mode| declared(&world, mode)), [[0, 4], [0, 4]]);
    // Anonymous callers may satisfy the condition: granted deliberately, then by default.
    world.snapshot.policies.last_mut().unwrap().requires_authentication = false;
    assert_eq!(Mode::ALL.map(|mode| declared(&world, mode)), [[4, 4], [4, 4]]);
    let item = crate::catalog::AclItem {
        grantee: anon,
        grantor: owner,
        privileges: Privileges::ALL_ON_TABLE,
        grantable: Privileges::NONE,
    };
    let acl = vec![item];
    world.snapshot.default_acls.push(DefaultAcl {
        role: owner,
        schema,
        object_type: b'r',
        acl: acl.into(),
    });
    assert_eq!(Mode::ALL.map(|mode| declared(&world, mode)), [[1, 4], [4, 4]]);
}

#[test]
fn empty_path_is_accepted_where_most_routines_have_it() {
    let mut world = strict_world();
    let with_path = |world: &mut World, empty: usize, without: usize| {
        for (i, routine) in world.snapshot.routines.iter_mut().enumerate() {
            if i < empty {
                routine.config = vec!["search_path=\"\"".into()].into();
            } else if i < empty + without {
                routine.config.clear();
            }
        }
    };
    let count = world.snapshot.routines.len();
    with_path(&mut world, count / 2 + 1, 0);
    let (contract, found) = inferred(&world);
    assert!(contract.security_definer.accept_empty);
    assert_eq!(contract.security_definer.search_path, ["public", "pg_temp"], "the rest has it");
    assert!(found.iter().all(|f| f.severity == Severity::Warning), "{:#?}", lines(&found));
    assert_eq!(contract.functions.len(), count, "they are declared");
    // Routines without a path do not count as having another one.
    with_path(&mut world, count - 1, 1);
    let (contract, found) = inferred(&world);
    assert_eq!(contract.security_definer.search_path, ["pg_catalog", "pg_temp"]);
    let errors = found.iter().filter(|f| f.severity == Severity::Error);
    let errors = errors.filter(|f| f.rule.id == "security_definer_search_path");
    assert_eq!(errors.count(), 1, "it is not hidden among the others");
}

#[test]
fn remaining_findings_are_ordered_by_danger() {
    let mut world = strict_world();
    let [anon, worker] = ["anon", "service_role"].map(|name| world.role(name).oid);
    world.grant("public.plaintiff_tasks", anon, Privileges::SELECT | Privileges::INSERT);
    world.grant("public.plaintiff_contacts", anon, Privileges::SELECT | Privileges::INSERT);
    world.relation("public.plaintiff_contacts").row_security = true;
    world.relation("public.plaintiff_tasks").row_security = false;
    world.routine("queue_job").config.clear();
    world.grant_schema("intake", worker, Privileges::CREATE);
    let (contract, found) = inferred_in(Mode::AsIs, &world);
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &|| {});
    let ordered: Vec<String> = exempt::remaining(&cx, found)
        .into_iter()
        .map(|r| format!("{} {}: {}", r.finding.rule.id, r.finding.object.identity, r.reason))
        .map(|line| line.replace("Found when contract 1.1.0 was introduced. ", ""))
        .collect();
    let whole_table = "The table has no row security: every row is accessible.";
    let no_rows = "Without effect as long as no policy allows the role any row.";
    assert!(ordered[0].starts_with("schema_create intake: "), "{ordered:#?}");
    let position = |line: &str| ordered.iter().position(|o| o.starts_with(line)).expect(line);
    let places = [
        position(&format!("direct_write public.plaintiff_tasks: {whole_table}")),
        position(&format!("table_privileges public.plaintiff_tasks: {whole_table}")),
        position("security_definer_search_path api.queue_job(): "),
        position(&format!("direct_write public.plaintiff_contacts: {no_rows}")),
        position("rls_disabled public.plaintiff_tasks: "),
    ];
    assert!(places.is_sorted(), "{ordered:#?}");
}

/// UPDATE and DELETE with a WHERE need SELECT.
#[test]
fn select_is_declared_with_update_although_its_policy_is_always_true() {
    let mut world = strict_world();
    let authenticated = world.role("authenticated").oid;
    let relation = world.relation("public.judgments").oid;
    world.grant("public.judgments", authenticated, Privileges::UPDATE);
    let reads = |p: &&mut Policy| p.relation == relation && p.roles.contains(&authenticated);
    world.snapshot.policies.iter_mut().filter(reads).for_each(|p| p.always_true = true);
    let (contract, _) = inferred(&world);
    let judgments = contract.table("public", "judgments").unwrap();
    assert_eq!(granted_to(&judgments.grants, "authenticated"), Privileges::NONE);
    world.snapshot.policies.push(Policy {
        oid: 9_001,
        name: "mine".into(),
        relation,
        command: Some(crate::catalog::Command::Update),
        permissive: true,
        roles: vec![authenticated],
        ..Policy::default()
    });
    let (contract, _) = inferred(&world);
    let judgments = contract.table("public", "judgments").unwrap();
    assert_eq!(
        granted_to(&judgments.grants, "authenticated"),
        Privileges::SELECT | Privileges::UPDATE
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
        has_check: true,
        requires_authentication: false,
        asks_memberships: false,
        never_true: false,
        rejects_new_rows: false,
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
    assert_eq!(kind("app_rw").as_deref(), Some("Worker"), "web_login inherits its privileges");
    assert_eq!(kind("web_login").as_deref(), Some("Worker"), "it can log in");
    assert_eq!(kind("service_role").as_deref(), Some("Worker"), "it bypasses row security");
    assert_eq!(kind("anon").as_deref(), Some("Client"));
    assert_eq!(kind("owner_of_most").as_deref(), Some("Owner"));
    assert_eq!(kind("postgres").as_deref(), Some("Owner"), "the database's owner");
    assert_eq!(kind("authenticator").as_deref(), Some("Login"), "it can become api_user");
    let description =
        |name: &str| contract.roles.iter().find(|r| r.name == name).map(|r| r.description.as_str());
    assert_eq!(description("web_login"), Some("Can log in itself, as backend services do."));
    assert_eq!(
        description("app_rw"),
        Some(
            "Cannot log in. Roles that can log in inherit its privileges, as backend services do."
        )
    );
    assert_eq!(
        description("anon"),
        Some(
            "Cannot log in, owns nothing, and no service or login role is a member of it: taken \
             for a role of requests."
        )
    );
    assert_eq!(
        description("api_user"),
        Some("A login role can become it with SET ROLE: requests become it.")
    );
    assert_eq!(description("postgres"), Some("Owns the database."));
    assert_eq!(kind("root"), None, "a superuser");
    assert_eq!(contract.trusted_roles, [""; 0], "a person decides about trusted roles");
}

#[test]
fn group_whose_privileges_services_inherit_is_a_worker_unless_requests_become_it() {
    let mut world = strict_world();
    for name in ["app_rw", "inner", "unused", "owners_group", "web_anon", "with_settings"] {
        world.add_role(name);
        let role = world.role(name).oid;
        world.grant("public.judgments", role, Privileges::SELECT);
    }
    for (login, group) in [
        ("service", "app_rw"),
        ("postgres", "owners_group"),
        ("careless", "web_anon"),
        ("rest", "with_settings"),
    ] {
        if login != "postgres" {
            world.add_login(login);
        }
        world.grant_role(group, login);
    }
    world.grant_role("inner", "app_rw");
    let setting = crate::catalog::RoleSetting {
        role: Some(world.role("rest").oid),
        database: None,
        name: "pgrst.db_schemas".into(),
        value: "public".into(),
    };
    world.snapshot.settings.push(setting);
    let kinds = |world: &World| {
        let (contract, _) = inferred(world);
        let kind = |name: &&str| {
            let kind = contract.kind_of(name).map(crate::contract::RoleKind::as_str);
            format!("{name} {}", kind.unwrap_or("undeclared"))
        };
        let names = ["app_rw", "inner", "unused", "owners_group", "web_anon", "with_settings"];
        let logins = ["service", "careless", "rest"];
        names.iter().chain(&logins).map(kind).collect::<Vec<_>>()
    };
    let mut expected = [
        "app_rw worker",
        "inner worker",
        "unused client",
        "owners_group client",
        "web_anon client",
        "with_settings client",
        "service undeclared",
        "careless login",
        "rest login",
    ];
    assert_eq!(kinds(&world), expected);
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
    let to_confirm: Vec<String> = roles_to_confirm(&cx, Mode::AsIs)
        .into_iter()
        .map(|of| format!("{} {}: {}", of.role, of.kind.as_str(), of.why))
        .collect();
    let unused = "cannot log in, owns nothing, and no service or login role is a member of it";
    let group = "cannot log in; \"service\" can, and inherits its privileges";
    assert_eq!(
        to_confirm,
        [
            format!("app_rw worker: {group}"),
            format!("inner worker: {group}"),
            format!("owners_group client: {unused}"),
            format!("unused client: {unused}"),
        ]
    );
    // Requests become it as well.
    world.add_login("authenticator");
    world.grant_role_without_inherit("app_rw", "authenticator");
    for (place, kind) in [(0, "app_rw client"), (1, "inner client")] {
        expected[place] = kind;
    }
    assert_eq!(kinds(&world), expected);
}

#[test]
fn role_whose_rows_policies_limit_is_a_client_in_a_contract_of_what_exists() {
    let kind = |change: &dyn Fn(&mut World)| {
        let mut world = strict_world();
        for name in ["shop_api", "shop_login"] {
            world.add_login(name);
        }
        let api = world.role("shop_api").oid;
        world.grant("public.judgments", api, Privileges::SELECT);
        let mut tenant = policy(&mut world, "tenant", Some(crate::catalog::Command::Select));
        tenant.roles = vec![api];
        world.snapshot.policies.retain(|p| p.relation != tenant.relation);
        world.snapshot.policies.push(tenant);
        change(&mut world);
        inferred_in(Mode::AsIs, &world).0.kind_of("shop_api")
    };
    let last = |world: &mut World| world.snapshot.policies.len() - 1;
    let (client, worker) = (Some(RoleKind::Client), Some(RoleKind::Worker));
    assert_eq!(kind(&|_| {}), client, "named in a policy with a condition");
    assert_eq!(
        kind(&|world| {
            let policy = last(world);
            world.snapshot.policies[policy].roles = vec![crate::catalog::PUBLIC];
        }),
        client,
        "the policy is for PUBLIC"
    );
    assert_eq!(
        kind(&|world| {
            world.role("shop_api").can_login = false;
            world.grant_role("shop_api", "shop_login");
        }),
        client,
        "a service inherits its privileges"
    );
    assert_eq!(kind(&|world| world.role("shop_api").bypass_rls = true), worker);
    assert_eq!(
        kind(&|world| {
            let policy = last(world);
            world.snapshot.policies[policy].always_true = true;
        }),
        worker,
        "a service without BYPASSRLS needs such a policy"
    );
    assert_eq!(
        kind(&|world| {
            let policy = last(world);
            let mut all = world.snapshot.policies[policy].clone();
            (all.oid, all.name, all.always_true) = (70_000, "all".into(), true);
            world.snapshot.policies.push(all);
        }),
        worker,
        "another policy opens every row to it"
    );
    assert_eq!(
        kind(&|world| {
            let policy = last(world);
            let other = world.role("anon").oid;
            world.snapshot.policies[policy].roles = vec![other];
        }),
        worker,
        "no policy is for it"
    );
    assert_eq!(
        kind(&|world| world.relation("public.judgments").row_security = false),
        worker,
        "without row security, no policy applies"
    );
}

/// Returns a world as in PostgREST's documentation, with a login role that has privileges of its
/// own.
fn world_with_login() -> World {
    let mut world = strict_world();
    world.add_login("authenticator");
    for role in ["anon", "authenticated", "service_role"] {
        world.grant_role_without_inherit(role, "authenticator");
    }
    let authenticator = world.role("authenticator").oid;
    world.grant_schema("ops", authenticator, Privileges::USAGE);
    world.grant("ops.event_log", authenticator, Privileges::INSERT);
    world
}

#[test]
fn login_role_keeps_its_memberships_and_privileges() {
    let (contract, found) = inferred(&world_with_login());
    assert_eq!(contract.login_role(), Some("authenticator"));
    assert_eq!(lines(&found), [""; 0]);
    let log = contract.table("ops", "event_log").unwrap();
    assert_eq!(granted_to(&log.grants, "authenticator"), Privileges::INSERT);
    let declared = contract.role("authenticator").unwrap();
    for attribute in Attribute::ALL {
        assert_eq!(declared.attribute(attribute), Some(false), "{attribute:?}");
    }
}

#[test]
fn owner_of_a_view_that_cannot_log_in_is_an_owner_and_not_trusted() {
    let mut world = strict_world();
    world.add_role("an_api");
    let api = world.role("an_api").oid;
    world.relation("public.v_judgment_pipeline").owner = api;
    world.grant_schema("public", api, Privileges::USAGE);
    world.grant("public.judgments", api, Privileges::SELECT);
    let (contract, found) = inferred(&world);
    assert_eq!(lines(&found), [""; 0]);
    let kind = contract.kind_of("an_api");
    assert_eq!(kind, Some(crate::contract::RoleKind::Owner));
    assert_eq!(contract.trusted_roles, ["postgres"]);
    assert_eq!(contract.roles.last().unwrap().name, "an_api", "fixes name the first owner");
}

#[test]
fn owner_of_most_objects_is_an_owner_although_extensions_have_more_members() {
    let mut world = strict_world();
    world.add_role("migrations");
    world.contract.roles.retain(|role| role.name != "postgres");
    world.contract.trusted_roles.clear();
    let (owner, root) = (world.role("migrations").oid, world.role("root").oid);
    world.role("migrations").can_login = true;
    world.snapshot.database.owner = root;
    world.snapshot.schemas.iter_mut().for_each(|schema| schema.owner = owner);
    world.snapshot.relations.iter_mut().for_each(|relation| relation.owner = owner);
    world.snapshot.routines.iter_mut().for_each(|routine| routine.owner = owner);
    let schema = world.schema("public").oid;
    for oid in 50_000..50_500 {
        let mut member = world.snapshot.routines[0].clone();
        (member.oid, member.name, member.schema) = (oid, format!("of_extension_{oid}"), schema);
        (member.owner, member.security_definer) = (root, false);
        world.snapshot.routines.push(member);
        world.snapshot.routine_extension.insert(oid, 9_100);
    }
    world.snapshot.extensions.insert(9_100, ("citext".into(), root));
    let (contract, _) = inferred(&world);
    assert_eq!(contract.kind_of("migrations"), Some(crate::contract::RoleKind::Owner));
}

#[test]
fn roles_of_the_platform_and_roles_that_act_as_owners_are_not_declared() {
    let mut world = strict_world();
    for login in ["alice", "cli_login_1", "supabase_storage_admin"] {
        world.add_login(login);
        let role = world.role(login).oid;
        world.grant("public.judgments", role, Privileges::SELECT);
    }
    world.grant_role("postgres", "alice");
    let preset = |world: &World| {
        with_preset(&world.contract, &world.snapshot.clone().complete(), &|_, _| true)
    };
    assert_eq!(preset(&world), world.contract, "the platform is not known");
    world.add_role("supabase_admin");
    world.role("supabase_admin").superuser = true;
    world.contract.managed.roles.clear();
    world.contract = preset(&world);
    let (contract, found) = inferred(&world);
    for role in ["alice", "cli_login_1", "supabase_storage_admin", "supabase_admin"] {
        assert_eq!(contract.role(role), None, "{role}");
    }
    assert_eq!(lines(&found), ["role_membership postgres alice"]);
    assert!(contract.manages_role("pgbouncer", false), "the platform may create it later");

    // It owns what the contract declares.
    let storage = world.role("supabase_storage_admin").oid;
    world.routine("get_ceo_metrics").owner = storage;
    let (contract, found) = inferred(&world);
    assert_eq!(contract.kind_of("supabase_storage_admin"), Some(RoleKind::Owner));
    assert!(!contract.trusted_roles.contains(&"supabase_storage_admin".to_owned()));
    assert_eq!(lines(&found), ["role_membership postgres alice"]);
}

#[test]
fn names_of_roles_of_another_platform_are_not_managed() {
    let mut world = strict_world();
    world.add_role("dashboard_user");
    let (contract, _) = inferred(&world);
    assert!(contract.manages_role("dashboard_user", false), "it exists");
    for name in ["pgbouncer", "cli_login_1"] {
        assert!(world.contract.manages_role(name, true));
        assert!(!contract.manages_role(name, true), "{name}");
    }
}

#[test]
fn schema_named_like_one_of_another_platform_is_the_applications() {
    let mut world = strict_world();
    let preset = |world: &World, exists: bool| {
        with_preset(&world.contract, &world.snapshot.clone().complete(), &|_, _| exists)
    };
    let lists = |contract: &Contract, name: &str| contract.lists_managed_schema(name, true);
    assert!(lists(&preset(&world, true), "auth"), "the contract is about this database");
    let elsewhere = preset(&world, false);
    for (name, is_managed) in [("auth", false), ("realtime", false), ("cron", true)] {
        assert_eq!(lists(&elsewhere, name), is_managed, "{name}");
    }
    world.add_role("supabase_admin");
    world.role("supabase_admin").superuser = true;
    assert!(lists(&preset(&world, false), "auth"), "the database belongs to Supabase");
}

#[test]
fn roles_of_another_database_are_not_declared() {
    let mut world = strict_world();
    let mut base = world.contract.clone();
    let other = |name: &str| crate::contract::RoleDecl {
        name: name.into(),
        ..base.role("anon").unwrap().clone()
    };
    base.roles.extend(["visitor", "guest"].map(other));
    base.trusted_roles.push("visitor".into());
    world.add_role("visitor");
    world.add_role("guest");
    world.add_login("gateway");
    world.grant_role("visitor", "gateway");
    world.grant_role("anon", "guest");
    world.contract = base;
    let (contract, _) = inferred(&world);
    assert_eq!(contract.role("visitor"), None, "it has nothing in this database");
    assert_eq!(contract.trusted_roles, ["postgres"]);
    assert_eq!(contract.role("gateway"), None, "it becomes a role of another database");
    assert!(contract.role("guest").is_some(), "it is a member of anon");
    let visitor = world.role("visitor").oid;
    world.grant("public.judgments", visitor, Privileges::SELECT);
    world.contract.trusted_roles.pop();
    let (contract, _) = inferred(&world);
    assert!(contract.role("visitor").is_some());
    assert!(contract.role("gateway").is_some());
}

#[test]
fn usage_that_the_extension_grants_is_no_use_of_a_role() {
    let mut world = strict_world();
    world.add_role("reader");
    world.declare("reader", crate::contract::RoleKind::Worker);
    let reader = world.role("reader").oid;
    let is_declared = |world: &World| {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let seed = seed(&world.contract, &["public".into(), "api".into()]);
        let cx = Context::new(&seed, &snapshot, &access, &|| {});
        infer(&cx, "1.1.0", Mode::Strict, &|_, _, _| {}).contract.role("reader").is_some()
    };
    world.grant_schema("ops", reader, Privileges::USAGE);
    assert!(!is_declared(&world));
    world.grant_schema("api", reader, Privileges::USAGE);
    assert!(is_declared(&world));
}

#[test]
fn description_remains_while_it_fits() {
    let mut world = strict_world();
    let description =
        |world: &World| inferred(world).0.role("service_role").unwrap().description.clone();
    let known = world.contract.role("service_role").unwrap().description.clone();
    assert_eq!(description(&world), known);
    world.role("service_role").bypass_rls = false;
    assert_eq!(description(&world), "Declared with this kind by the contract that was in force.");
    world.role("service_role").bypass_rls = true;
    let snapshot = world.snapshot.clone().complete();
    world.contract = with_preset(&world.contract, &snapshot, &|_, _| false);
    assert_eq!(description(&world), "Bypasses row security, as backend services do.");
}

/// Returns what inference declares and leaves out if the server denies some accesses.
fn without(
    world: &World,
    denied: &dyn Fn(&crate::doctor::DeclaredAccess) -> bool,
) -> (Contract, Vec<String>) {
    use crate::doctor::AccessOutcome;
    use crate::explain::{Cause, Denial};
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let names: Vec<String> = world.contract.schemas.iter().map(|s| s.name.clone()).collect();
    let seed = seed(&world.contract, &names);
    let cx = Context::new(&seed, &snapshot, &access, &|| {});
    let outcome = |access: &crate::doctor::DeclaredAccess| {
        let denial = Denial { cause: Cause::Privilege, message: "denied".into(), fix: None };
        if denied(access) { AccessOutcome::Denied(denial) } else { AccessOutcome::Works }
    };
    let outcomes = |_: &Context<'_>,
                    accesses: Vec<crate::doctor::DeclaredAccess>,
                    answer: &mut super::Answer<'_>| {
        accesses.into_iter().for_each(|access| {
            let outcome = outcome(&access);
            answer(access, outcome);
        });
    };
    let Inferred { contract, left_out } = infer(&cx, "1.1.0", Mode::AsIs, &outcomes);
    let line = |of: LeftOut| {
        let name = of.access;
        format!("{} {} {} {:?}", name.role, name.privilege, name.object, of.columns)
    };
    (contract, left_out.into_iter().map(line).collect())
}

#[test]
fn access_that_fails_is_not_declared() {
    let mut world = strict_world();
    let view = "public.v_judgment_pipeline";
    world.relation(view).column_names = ["id", "status"].map(String::from).into();
    let (oid, anon) = (world.relation(view).oid, world.role("anon").oid);
    let target = crate::doctor::Target::Relation(oid);
    let (contract, left_out) = without(&world, &|access| {
        access.target == target && access.role == anon && access.columns != ["id"]
    });
    let declared = contract.view("public", "v_judgment_pipeline").unwrap();
    assert_eq!(granted_to(&declared.grants, "anon"), Privileges::NONE);
    assert_eq!(granted_to(&declared.grants, "authenticated"), Privileges::SELECT);
    assert_eq!(declared.column_grants["anon"].select, ["id"], "it works on this column");
    assert_eq!(left_out, [format!("anon SELECT view {view} [\"id\"]")]);
    assert_eq!(problems(&contract), [""; 0]);
}

#[test]
fn worker_with_all_privileges_has_them_one_by_one_where_one_fails() {
    let mut world = strict_world();
    world.snapshot.default_acls = all_by_default(&mut world.clone());
    let queue_job = world.snapshot.routines.iter().find(|r| r.name == "queue_job").unwrap().oid;
    let worker = world.snapshot.roles.iter().find(|r| r.name == "service_role").unwrap().oid;
    let target = crate::doctor::Target::Routine(queue_job);
    let is_denied =
        |access: &crate::doctor::DeclaredAccess| access.target == target && access.role == worker;
    let (contract, left_out) = without(&world, &is_denied);
    assert_eq!(left_out, ["service_role EXECUTE function api.queue_job() []"]);
    let function = contract.functions_named("api", "queue_job").next().unwrap();
    assert_eq!(function.execute, ["anon", "authenticated"]);
    assert_eq!(contract.schema("public").unwrap().all_on_objects, ["service_role"]);
    assert_eq!(problems(&contract), [""; 0]);
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

/// Returns the problems of a contract as a document, without information.
fn problems(contract: &Contract) -> Vec<String> {
    let Examined { problems, .. } = examine(&serde_json::to_string(contract).unwrap());
    problems
        .iter()
        .filter(|problem| problem.severity > Severity::Info)
        .map(ToString::to_string)
        .collect()
}

/// Returns the privileges on tables that the strict contract declares for clients although it
/// should not.
fn too_much(world: &World, contract: &Contract) -> Vec<String> {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(contract, &snapshot, &access, &|| {});
    let mut too_much = Vec::new();
    for table in &contract.tables {
        let schema = snapshot.schema_named(&table.schema).unwrap();
        let relation = snapshot.relation_named(schema.oid, &table.name).unwrap();
        for client in contract.roles_of(crate::contract::RoleKind::Client) {
            let declared = granted_to(&table.grants, client);
            let never = Privileges::TRUNCATE | Privileges::TRIGGER | Privileges::REFERENCES;
            if !declared.is_empty() && !table.row_security || declared.intersects(never) {
                too_much.push(format!("{} {client}: {declared}", table.name));
            }
            let role = snapshot.role_named(client).unwrap();
            for command in table.policy_commands(client) {
                let opens = |policy: &&Policy| {
                    policy.permissive
                        && !policy.is_for_all_rows(command)
                        && cx.policy_admits(policy, relation, role, command)
                };
                if !snapshot.policies_of(relation.oid).iter().any(|policy| opens(&policy)) {
                    too_much.push(format!("{} {client}: policy {command:?}", table.name));
                }
            }
        }
    }
    too_much
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn audit_finds_omitted_privileges_only(
        as_is in any::<bool>(),
        edits in proptest::collection::vec(edit(), 0..12)
    ) {
        let mode = if as_is { Mode::AsIs } else { Mode::Strict };
        let mut world = strict_world();
        world.add_role("mallory");
        edits.into_iter().for_each(|edit| world.edit(edit));
        let (contract, found) = inferred_in(mode, &world);
        prop_assert_eq!(problems(&contract), [""; 0]);
        if mode == Mode::Strict {
            prop_assert_eq!(too_much(&world, &contract), [""; 0]);
        }

        // The contract describes the database as it is: it is inferred again. With more owners
        // declared, more roles can be recognized.
        let mut again = inferred_in(mode, &World { contract: contract.clone(), ..world.clone() }).0;
        again.roles.clone_from(&contract.roles);
        prop_assert_eq!(&again, &contract);

        // Findings are about omitted privileges of clients and PUBLIC, or not declarable.
        let clients: Vec<&str> = contract.roles_of(crate::contract::RoleKind::Client).collect();
        let of_each_role = |finding: &'_ Finding| {
            let roles = finding.about().map(|(_, _, role, _)| role.unwrap_or_default().to_owned());
            roles.map(|role| (finding.clone(), role)).collect::<Vec<_>>()
        };
        for (finding, role) in found.iter().flat_map(of_each_role) {
            let role = role.as_str();
            let rule = finding.rule.id;
            let identity = &finding.object.identity;
            let is_of_client = clients.contains(&role)
                && !rule.starts_with("schema_usage")
                && finding.evidence["problem"] != "missing";
            let requires_row_security = contract
                .tables
                .iter()
                .any(|t| t.row_security && *identity == format!("{}.{}", t.schema, t.name));
            let has_usage = finding.object.schema.as_ref().is_none_or(|schema| {
                contract.schema(schema).is_some_and(|s| s.usage.iter().any(|name| name == role))
            });
            let is_omitted = NOT_DECLARABLE.contains(&rule)
                || role == "PUBLIC"
                || is_of_client
                || !has_usage
                || (rule == "rls_disabled" && !requires_row_security);
            prop_assert!(is_omitted, "{rule} {identity} {role}: {}", finding.detail);
            // Each of them can be fixed, or says what a person has to decide.
            prop_assert!(finding.fix != crate::fix::Fix::Unknown, "{rule} {identity} {role}");
        }

        // Each of them can be exempted.
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&contract, &snapshot, &access, &|| {});
        let remaining = exempt::remaining(&cx, found.clone());
        prop_assert_eq!(remaining.len(), found.len());
        prop_assert!(remaining.iter().all(|r| r.can_be_exempt && r.reason.ends_with('.')));
    }
}

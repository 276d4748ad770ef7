//! Login roles, roles of the platform, undeclared roles and ungoverned schemas, with real logins
//! and SET ROLE.

use dragonfly_tests::{Cluster, SUPERUSER, ServerError, attempt, column, provide_extension};
use postgres::Client;

/// An application behind PostgREST that declares nothing yet.
const APPLICATION: &str = "
    CREATE ROLE deployer LOGIN CREATEROLE;
    CREATE ROLE visitor NOLOGIN;
    CREATE ROLE member NOLOGIN;
    CREATE ROLE backend NOLOGIN BYPASSRLS;
    CREATE ROLE authenticator LOGIN NOINHERIT;
    GRANT visitor, member, backend TO authenticator;
    CREATE SCHEMA shop AUTHORIZATION deployer;
    SET ROLE deployer;
    CREATE TABLE shop.goods (id int PRIMARY KEY, owner text DEFAULT current_user);
    ALTER TABLE shop.goods ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON shop.goods TO member
        USING (owner = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));
    CREATE POLICY offered ON shop.goods FOR SELECT TO visitor USING (id > 0);
    CREATE FUNCTION shop.pre_request() RETURNS void LANGUAGE sql AS 'SELECT';
    REVOKE EXECUTE ON FUNCTION shop.pre_request() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION shop.pre_request() TO authenticator, visitor, member;
    GRANT USAGE ON SCHEMA shop TO authenticator, visitor, member, backend;
    GRANT SELECT ON shop.goods TO visitor;
    GRANT SELECT, INSERT, UPDATE, DELETE ON shop.goods TO member;
    GRANT ALL ON shop.goods TO backend;
    RESET ROLE;";

/// Starts a server with the application in database `app` and its inferred contract in force.
fn application(settings: &[&str], more: &str) -> (Cluster, Client) {
    let cluster = Cluster::start_with(settings);
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client.batch_execute("ALTER DATABASE app OWNER TO deployer").unwrap();
    client.batch_execute(more).unwrap();
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    load_inferred(&mut client);
    (cluster, client)
}

fn load_inferred(client: &mut Client) {
    client.batch_execute("SELECT ops.load_contract(ops.infer_contract('{shop}'))").unwrap();
}

fn findings(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT concat_ws(' ', severity, rule, object, role_name)
           FROM ops.audit_security(min_severity => 'warning') ORDER BY 1",
    )
}

/// Changes the contract in force with an SQL expression over `c`.
fn change_contract(client: &mut Client, expression: &str) {
    let sql = format!(
        "SELECT ops.load_contract(jsonb_set({expression}, '{{version}}', to_jsonb(
             (split_part(c->>'version', '.', 1)::int + 1) || '.0.0')))
           FROM ops.contract() AS c"
    );
    client.batch_execute(&sql).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
}

fn plan(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT statement FROM ops.golden_sql() WHERE statement NOT LIKE '--%' ORDER BY step",
    )
}

fn rejection(client: &mut Client, sql: &str) -> ServerError {
    let rejected = attempt(client, sql).expect_err(sql);
    assert!(rejected.detail.contains("Rule "), "{sql}: {rejected:?}");
    rejected
}

#[test]
fn inferred_contract_of_an_application_has_a_login_role_and_no_findings() {
    let (cluster, mut client) = application(&[], "");
    assert_eq!(findings(&mut client), [""; 0]);
    assert_eq!(plan(&mut client), [""; 0]);
    let kinds = "SELECT r->>'name' || ' ' || (r->>'kind')
                   FROM jsonb_array_elements(ops.contract()->'roles') r ORDER BY 1";
    assert_eq!(
        column(&mut client, kinds),
        [
            "authenticator login",
            "backend worker",
            "deployer owner",
            "member client",
            "visitor client"
        ]
    );
    let described = "SELECT r->>'name' FROM jsonb_array_elements(ops.contract()->'roles') r
                      WHERE coalesce(r->>'description', '') = ''";
    assert_eq!(column(&mut client, described), [""; 0]);
    let warnings = "SELECT problem FROM ops.validate_contract(ops.contract())";
    assert_eq!(column(&mut client, warnings), [""; 0]);

    // After the plan, the login role still becomes every role of requests.
    client.batch_execute("SELECT count(*) FROM ops.apply_golden_sql()").unwrap();
    let mut login = cluster.connect("app", "authenticator");
    login.batch_execute("SELECT shop.pre_request()").unwrap();
    for role in ["visitor", "member", "backend"] {
        login
            .batch_execute(&format!("SET ROLE {role}; SELECT * FROM shop.goods; RESET ROLE"))
            .unwrap();
    }
    let bad = "SELECT step FROM ops.fix_schema_cache() WHERE NOT ok";
    assert_eq!(column(&mut client, bad), [""; 0]);
}

#[test]
fn login_role_is_reported_where_it_can_do_more_than_become_clients() {
    let (_cluster, mut client) = application(&[], "");
    for (change, undo, expected) in [
        (
            "GRANT deployer TO authenticator",
            "REVOKE deployer FROM authenticator",
            "error role_membership deployer authenticator",
        ),
        (
            "GRANT pg_read_all_data TO authenticator",
            "REVOKE pg_read_all_data FROM authenticator",
            "error role_membership pg_read_all_data authenticator",
        ),
        (
            "ALTER ROLE authenticator BYPASSRLS",
            "ALTER ROLE authenticator NOBYPASSRLS",
            "error role_attributes authenticator authenticator",
        ),
        (
            "ALTER ROLE authenticator CREATEROLE",
            "ALTER ROLE authenticator NOCREATEROLE",
            "error role_attributes authenticator authenticator",
        ),
        (
            "ALTER ROLE authenticator REPLICATION",
            "ALTER ROLE authenticator NOREPLICATION",
            "error role_attributes authenticator authenticator",
        ),
        (
            "ALTER ROLE authenticator CREATEDB",
            "ALTER ROLE authenticator NOCREATEDB",
            "error role_attributes authenticator authenticator",
        ),
        (
            "GRANT DELETE ON shop.goods TO authenticator",
            "REVOKE DELETE ON shop.goods FROM authenticator",
            "error table_privileges shop.goods authenticator",
        ),
    ] {
        client.batch_execute(&format!("SET dragonfly_guard.mode = off; {change}")).unwrap();
        assert_eq!(findings(&mut client), [expected], "{change}");
        assert_eq!(plan(&mut client).len(), 1, "{change}");
        client.batch_execute(undo).unwrap();
    }
}

#[test]
fn login_role_that_inherits_from_clients_is_a_proposal() {
    let (_cluster, mut client) = application(&[], "");
    // Since PostgreSQL 16, the option of each membership counts.
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int / 10000", &[])
        .unwrap()
        .get(0);
    let inherit = match version {
        ..16 => "ALTER ROLE authenticator INHERIT",
        _ => "GRANT visitor, member, backend TO authenticator WITH INHERIT TRUE",
    };
    client.batch_execute(&format!("SET dragonfly_guard.mode = off; {inherit}")).unwrap();
    assert_eq!(
        findings(&mut client),
        ["backend", "member", "visitor"]
            .map(|role| format!("warning role_membership {role} authenticator"))
    );
    assert_eq!(plan(&mut client), [""; 0]);
}

#[test]
fn hardened_guard_allows_memberships_of_login_roles_only_where_they_belong() {
    let settings = ["shared_preload_libraries=dragonfly_guard"];
    let (_cluster, mut client) = application(
        &settings,
        "CREATE ROLE late NOLOGIN; CREATE ROLE alice LOGIN; REVOKE visitor FROM authenticator;
         ALTER TABLE shop.goods OWNER TO deployer;",
    );
    // What ops.fix_schema_cache() offers is accepted.
    let fix = "SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok";
    assert_eq!(column(&mut client, fix), ["GRANT visitor TO authenticator;"]);
    client.batch_execute("GRANT visitor TO authenticator").unwrap();
    assert_eq!(column(&mut client, fix), [""; 0]);
    assert_eq!(findings(&mut client), [""; 0]);

    rejection(&mut client, "GRANT backend TO visitor");
    rejection(&mut client, "GRANT deployer TO visitor");
    rejection(&mut client, "GRANT deployer TO authenticator");
    for attribute in ["SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION"] {
        rejection(&mut client, &format!("ALTER ROLE authenticator {attribute}"));
    }
    rejection(&mut client, "CREATE ROLE helper BYPASSRLS ROLE visitor");

    // The role of a person is allowed, and an escalation is reported.
    client.batch_execute("GRANT member TO alice").unwrap();
    assert_eq!(findings(&mut client), [""; 0]);
    client.batch_execute("GRANT backend, deployer TO alice").unwrap();
    assert_eq!(
        findings(&mut client),
        ["warning role_membership backend alice", "warning role_membership deployer alice"]
    );
    assert_eq!(plan(&mut client), [""; 0]);
}

#[test]
fn shipped_contract_leaves_an_undeclared_login_role_alone() {
    let settings = ["shared_preload_libraries=dragonfly_guard"];
    let cluster = Cluster::start_with(&settings);
    let mut client = cluster.guarded_document("app");
    let before = findings(&mut client);
    client.batch_execute("REVOKE anon FROM authenticator; GRANT anon TO authenticator").unwrap();
    assert_eq!(findings(&mut client), before);
    client.batch_execute("CREATE ROLE mallory LOGIN; GRANT service_role TO mallory").unwrap();
    assert_eq!(findings(&mut client), ["warning role_membership service_role mallory"]);
}

#[test]
fn undeclared_role_that_requests_can_become_is_checked_like_a_client() {
    let (cluster, mut client) = application(&[], "CREATE ROLE web_admin NOLOGIN");
    client.batch_execute("GRANT web_admin TO authenticator").unwrap();
    assert_eq!(findings(&mut client), [""; 0], "it has no privileges");
    let rejected = rejection(&mut client, "GRANT SELECT ON shop.goods TO web_admin");
    assert!(rejected.detail.contains("table_privileges"), "{rejected:?}");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             GRANT USAGE ON SCHEMA shop TO web_admin; GRANT SELECT ON shop.goods TO web_admin",
        )
        .unwrap();
    let mut login = cluster.connect("app", "authenticator");
    login.batch_execute("SET ROLE web_admin; SELECT * FROM shop.goods").unwrap();
    assert_eq!(
        findings(&mut client),
        ["error schema_usage shop web_admin", "error table_privileges shop.goods web_admin",]
    );
    // A role of one user that inherits from a client can do no more than the client.
    client
        .batch_execute(
            "REVOKE ALL ON shop.goods FROM web_admin; REVOKE USAGE ON SCHEMA shop FROM web_admin;
             GRANT member TO web_admin",
        )
        .unwrap();
    assert_eq!(findings(&mut client), [""; 0]);
}

#[test]
fn privileges_of_undeclared_roles_are_one_row_for_each_schema() {
    let (_cluster, mut client) = application(&[], "CREATE ROLE reports LOGIN");
    client
        .batch_execute(
            "GRANT USAGE ON SCHEMA shop TO reports; GRANT SELECT ON shop.goods TO reports;
             GRANT UPDATE (owner) ON shop.goods TO reports",
        )
        .unwrap();
    let rows = "SELECT severity || ': ' || detail FROM ops.audit_security(min_severity => 'info')
                 WHERE rule = 'undeclared_role_privileges'";
    let detail = "Role \"reports\", which the contract does not declare, has USAGE, SELECT on 1 \
                  relation and UPDATE on 1 column in schema shop.";
    assert_eq!(column(&mut client, rows), [format!("warning: {detail}")]);
    assert_eq!(plan(&mut client), [""; 0], "it is not known what they are for");

    let raised = "jsonb_set(c, '{rules}',
        '{\"undeclared_role_privileges\": {\"severity\": \"info\"}}')";
    change_contract(&mut client, raised);
    assert_eq!(column(&mut client, rows), [format!("info: {detail}")]);
    change_contract(&mut client, "jsonb_set(c, '{managed,roles}', '[\"rep*\"]')");
    assert_eq!(column(&mut client, rows), [""; 0], "a role of the platform");
    load_inferred(&mut client);
    assert_eq!(findings(&mut client), [""; 0]);
}

#[test]
fn ungoverned_schema_that_shows_governed_rows_is_reported() {
    let (cluster, mut client) = application(
        &[],
        "CREATE SCHEMA reports; CREATE VIEW reports.all_goods AS SELECT * FROM shop.goods;
         GRANT USAGE ON SCHEMA reports TO visitor; GRANT SELECT ON reports.all_goods TO visitor;
         INSERT INTO shop.goods VALUES (-1)",
    );
    let mut login = cluster.connect("app", "authenticator");
    login.batch_execute("SET ROLE visitor").unwrap();
    let shown = "SELECT id::text FROM reports.all_goods";
    assert_eq!(column(&mut login, shown), ["-1"], "the policy does not offer it");
    let rows = "SELECT detail FROM ops.audit_security() WHERE rule = 'ungoverned_schema_access'";
    assert_eq!(
        column(&mut client, rows),
        ["Role \"visitor\" has USAGE on schema reports, which the contract does not govern, with \
          SELECT on 1 relation; view reports.all_goods reads shop.goods with the privileges of its \
          owner."]
    );
    assert_eq!(plan(&mut client), [""; 0]);
    client.batch_execute("ALTER VIEW reports.all_goods SET (security_invoker = true)").unwrap();
    assert!(!column(&mut client, rows)[0].contains("reads"));
    change_contract(&mut client, "jsonb_set(c, '{managed,schemas}', '[\"reports\"]')");
    assert_eq!(column(&mut client, rows), [""; 0]);
    client.batch_execute("ALTER SCHEMA reports OWNER TO deployer").unwrap();
    assert_eq!(column(&mut client, rows).len(), 1, "it is not the platform's");
    // Its owner can add the view to an extension, which hides it no more than before.
    provide_extension(
        "guard_roles",
        "default_version = '1'\n",
        "1",
        "CREATE FUNCTION member() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    client
        .batch_execute(
            "ALTER VIEW reports.all_goods RESET (security_invoker); ALTER VIEW reports.all_goods \
             OWNER TO deployer; CREATE EXTENSION guard_roles SCHEMA reports; ALTER EXTENSION \
             guard_roles ADD VIEW reports.all_goods",
        )
        .unwrap();
    assert!(column(&mut client, rows)[0].contains("reads shop.goods"));
    client.batch_execute("ALTER EXTENSION guard_roles DROP VIEW reports.all_goods").unwrap();
    client.batch_execute("DROP VIEW reports.all_goods").unwrap();
    assert_eq!(column(&mut client, rows), [""; 0], "it contains nothing but an extension");
    change_contract(&mut client, "jsonb_set(c, '{managed,roles}', '[\"deployer_of_reports\"]')");
    client
        .batch_execute(
            "CREATE ROLE deployer_of_reports; ALTER SCHEMA reports OWNER TO deployer_of_reports; \
             CREATE VIEW reports.all_goods AS SELECT * FROM shop.goods; GRANT SELECT ON \
             reports.all_goods TO visitor",
        )
        .unwrap();
    assert_eq!(column(&mut client, rows), [""; 0], "it belongs to a role of the platform");
}

#[test]
fn managed_roles_are_information_and_in_no_plan() {
    let (_cluster, mut client) = application(
        &[],
        "CREATE ROLE platform NOLOGIN;
         ALTER DEFAULT PRIVILEGES FOR ROLE platform IN SCHEMA shop
           GRANT SELECT ON TABLES TO visitor",
    );
    let expected = "error default_privileges for role platform in schema shop on tables visitor";
    assert_eq!(findings(&mut client), [expected]);
    change_contract(&mut client, "jsonb_set(c, '{managed,roles}', '[\"platform\"]')");
    assert_eq!(findings(&mut client), [""; 0]);
    assert_eq!(plan(&mut client), [""; 0]);
    let managed_by = "SELECT evidence->>'managed_by' FROM ops.audit_security()
                       WHERE rule = 'default_privileges'";
    assert_eq!(column(&mut client, managed_by), ["role platform"]);

    // A pattern excuses no role that requests can become.
    client
        .batch_execute(
            "CREATE ROLE platform_web NOLOGIN; GRANT platform_web TO authenticator;
             SET dragonfly_guard.mode = off; GRANT SELECT ON shop.goods TO platform_web",
        )
        .unwrap();
    change_contract(&mut client, "jsonb_set(c, '{managed,roles}', '[\"platform*\"]')");
    assert_eq!(findings(&mut client), ["error table_privileges shop.goods platform_web"]);
    let all = "SELECT problem FROM ops.validate_contract(
        jsonb_set(ops.contract(), '{managed,roles}', '[\"*\"]')) WHERE severity = 'error'";
    assert_eq!(column(&mut client, all), ["not a name or a pattern"]);
}

#[test]
fn supabase_is_recognised_and_its_roles_are_left_alone() {
    let (_cluster, mut client) = application(
        &[],
        "CREATE ROLE supabase_admin SUPERUSER; CREATE ROLE supabase_storage_admin CREATEROLE LOGIN;
         CREATE ROLE cli_login_x LOGIN; GRANT deployer TO cli_login_x;
         GRANT supabase_storage_admin TO authenticator;
         GRANT SELECT ON shop.goods TO supabase_storage_admin;
         ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA shop
           GRANT ALL ON TABLES TO visitor",
    );
    assert_eq!(findings(&mut client), [""; 0]);
    assert_eq!(plan(&mut client), [""; 0]);
    let declared = "SELECT r->>'name' FROM jsonb_array_elements(ops.contract()->'roles') r
                     WHERE r->>'name' ~ '^(supabase|cli)'";
    assert_eq!(column(&mut client, declared), [""; 0]);
    let preset =
        "SELECT r->>'kind' FROM jsonb_array_elements(ops.contract_preset('supabase')->'roles') r
                   WHERE r->>'name' = 'authenticator'";
    assert_eq!(column(&mut client, preset), ["login"]);
    let unknown = attempt(&mut client, "SELECT ops.contract_preset('other')").unwrap_err();
    assert_eq!(unknown.message, "unrecognized preset \"other\"");
}

#[test]
fn name_of_a_managed_role_excuses_no_owner_of_declared_objects() {
    let (_cluster, mut client) = application(&[], "");
    change_contract(&mut client, "jsonb_set(c, '{managed,roles}', '[\"pgbouncer\"]')");
    client
        .batch_execute(
            "CREATE ROLE pgbouncer LOGIN; GRANT deployer TO pgbouncer;
             CREATE SCHEMA lab AUTHORIZATION pgbouncer; SET ROLE pgbouncer;
             CREATE FUNCTION lab.stamp() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN RETURN NEW; END';
             RESET ROLE;",
        )
        .unwrap();
    assert_eq!(findings(&mut client), ["warning role_membership deployer pgbouncer"]);
    client.batch_execute("REVOKE deployer FROM pgbouncer").unwrap();
    for (change, rule) in [
        ("ALTER TABLE shop.goods OWNER TO pgbouncer", "object_ownership"),
        ("ALTER FUNCTION shop.pre_request() OWNER TO pgbouncer", "object_ownership"),
        (
            "CREATE TRIGGER s BEFORE INSERT ON shop.goods EXECUTE FUNCTION lab.stamp()",
            "untrusted_code",
        ),
    ] {
        let rejected = rejection(&mut client, change);
        assert!(rejected.message.contains(rule), "{change}: {rejected:?}");
    }
    client.batch_execute("ALTER SCHEMA shop OWNER TO pgbouncer").unwrap();
    assert_eq!(findings(&mut client), ["warning object_ownership shop pgbouncer"]);
}

#[test]
fn inferred_contract_lists_no_managed_names_of_another_platform() {
    let (_cluster, mut client) = application(&[], "CREATE ROLE dashboard_user");
    let managed = "SELECT jsonb_array_elements_text(ops.contract()->'managed'->'roles')";
    assert_eq!(column(&mut client, managed), ["dashboard_user"]);
}

#[test]
fn login_role_that_can_no_longer_serve_requests_is_reported() {
    for settings in [&[][..], HARDENED] {
        let (cluster, mut client) = application(settings, "");
        assert_eq!(findings(&mut client), [""; 0]);
        for (change, undo, rule) in [
            (
                "ALTER ROLE authenticator NOLOGIN",
                "ALTER ROLE authenticator LOGIN",
                "role_attributes",
            ),
            (
                "REVOKE CONNECT ON DATABASE app FROM PUBLIC",
                "GRANT CONNECT ON DATABASE app TO authenticator",
                "role_attributes",
            ),
            (
                "REVOKE visitor, member FROM authenticator",
                "GRANT visitor TO authenticator",
                "role_membership",
            ),
        ] {
            client.batch_execute(change).unwrap();
            assert_eq!(
                findings(&mut client),
                [format!("warning {rule} authenticator authenticator")]
            );
            assert_eq!(plan(&mut client), [""; 0], "it may be intended");
            client.batch_execute(undo).unwrap();
            assert_eq!(findings(&mut client), [""; 0], "{undo}");
        }
        cluster.connect("app", "authenticator").batch_execute("SET ROLE visitor").unwrap();
    }
}

#[test]
fn role_that_a_routine_of_clients_sets_is_reported() {
    let (cluster, mut client) = application(
        &[],
        "CREATE FUNCTION shop.count() RETURNS text LANGUAGE sql AS
             'SELECT count(*)::text FROM shop.goods';
         REVOKE EXECUTE ON FUNCTION shop.count() FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION shop.count() TO visitor; INSERT INTO shop.goods VALUES (-1)",
    );
    let mut login = cluster.connect("app", "authenticator");
    login.batch_execute("SET ROLE visitor").unwrap();
    assert_eq!(column(&mut login, "SELECT shop.count()"), ["0"]);
    client.batch_execute("ALTER FUNCTION shop.count() SET role = 'backend'").unwrap();
    assert_eq!(column(&mut login, "SELECT shop.count()"), ["1"], "as the worker");
    assert_eq!(findings(&mut client), ["warning security_definer_settings shop.count()"]);
    let fix = "ALTER ROUTINE shop.count() RESET role;";
    assert_eq!(plan(&mut client), [fix]);
    client.batch_execute(fix).unwrap();
    let blocks = "jsonb_set(c, '{rules}',
        '{\"security_definer_settings\": {\"guard\": \"block\"}}')";
    change_contract(&mut client, blocks);
    for setting in ["role = 'backend'", "session_authorization = 'backend'", "row_security = off"] {
        let rejected =
            rejection(&mut client, &format!("ALTER FUNCTION shop.count() SET {setting}"));
        assert!(rejected.message.contains("function shop.count() sets"), "{rejected:?}");
    }
    client.batch_execute("ALTER FUNCTION shop.count() SET work_mem = '1MB'").unwrap();
}

fn major(client: &mut Client) -> i32 {
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    client.query_one(version, &[]).unwrap().get(0)
}

const HARDENED: &[&str] = &["shared_preload_libraries=dragonfly_guard"];

#[test]
fn fix_of_a_login_role_that_cannot_set_role_has_an_effect() {
    let (_cluster, mut client) = application(&[], "");
    if major(&mut client) < 16 {
        return;
    }
    client.batch_execute("GRANT visitor TO authenticator WITH SET FALSE").unwrap();
    for source in [
        "ops.explain_access('visitor', 'shop.goods') WHERE ok IS FALSE",
        "ops.fix_schema_cache() WHERE NOT ok",
        "ops.doctor() WHERE NOT ok AND area <> 'server'",
    ] {
        let fixes = column(&mut client, &format!("SELECT DISTINCT fix FROM {source}"));
        assert_eq!(fixes, ["GRANT visitor TO authenticator WITH SET TRUE;"], "{source}");
    }
    client.batch_execute("GRANT visitor TO authenticator WITH SET TRUE").unwrap();
    assert_eq!(column(&mut client, "SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok"), [""; 0]);
}

#[test]
fn membership_that_becomes_stronger_is_reported_although_the_weaker_is_exempt() {
    let (cluster, mut client) = application(HARDENED, "CREATE ROLE helper");
    let is_16 = major(&mut client) >= 16;
    let weak = if is_16 { " WITH INHERIT FALSE, SET FALSE" } else { "" };
    let steps: &[&str] = if is_16 {
        &["WITH SET TRUE", "WITH INHERIT TRUE", "WITH ADMIN TRUE"]
    } else {
        &["WITH ADMIN OPTION"]
    };
    let warnings = || cluster.log().matches("is a member of role \"helper\"").count();
    client.batch_execute(&format!("GRANT helper TO visitor{weak}")).unwrap();
    let mut expected = warnings();
    assert!(expected > 0, "{}", cluster.log());
    if is_16 {
        let detail = "SELECT detail FROM ops.audit_security('{role_membership}')";
        assert_eq!(
            column(&mut client, detail),
            ["Role \"visitor\" is a member of role \"helper\", which gives it no privileges \
                 while \
              INHERIT, SET and ADMIN are FALSE."]
        );
    }
    for (i, step) in steps.iter().enumerate() {
        // A pattern, and then the fingerprint.
        let accept = if i % 2 == 0 {
            "SELECT ops.exempt(rule => 'role_membership', object => 'helper', reason => \
             'Reviewed.')"
        } else {
            "SELECT ops.exempt(fingerprint => fingerprint, reason => 'Reviewed.') FROM \
             ops.audit_security('{role_membership}')"
        };
        client.batch_execute(accept).unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{accept}");
        client.batch_execute(&format!("GRANT helper TO visitor {step}")).unwrap();
        assert!(warnings() > expected, "{step}");
        expected = warnings();
        assert_eq!(findings(&mut client), ["warning role_membership helper visitor"], "{step}");
    }
}

#[test]
fn grant_to_a_group_that_a_client_can_become_counts_as_one_to_the_client() {
    for settings in [&[][..], HARDENED] {
        let (_cluster, mut client) = application(
            settings,
            "ALTER ROLE visitor NOINHERIT; CREATE ROLE team; CREATE ROLE inner_team; GRANT \
             inner_team TO team; CREATE TABLE shop.secrets (id int); ALTER TABLE shop.secrets \
             ENABLE ROW LEVEL SECURITY",
        );
        client.batch_execute("GRANT team TO visitor").unwrap();
        assert_eq!(
            findings(&mut client),
            ["warning role_membership inner_team visitor", "warning role_membership team visitor"]
                [1..]
        );
        for group in ["team", "inner_team"] {
            let grant = format!("GRANT SELECT ON shop.secrets TO {group}");
            let rejected = rejection(&mut client, &grant);
            assert!(
                rejected.message.contains("\"team\" has SELECT")
                    || rejected.detail.contains("\"team\" has SELECT")
                    || rejected.detail.contains(&format!("\"{group}\" has SELECT")),
                "{rejected:?}"
            );
        }
        // What was granted before the membership is found too.
        client
            .batch_execute("REVOKE team FROM visitor; GRANT SELECT ON shop.secrets TO inner_team")
            .unwrap();
        let member = "SET dragonfly_guard.mode = off; GRANT team TO visitor";
        client.batch_execute(member).unwrap();
        client.batch_execute("RESET dragonfly_guard.mode").unwrap();
        let found = findings(&mut client);
        assert!(
            found.iter().any(|f| f.starts_with("error table_privileges shop.secrets")),
            "{found:?}"
        );
        client.batch_execute("REVOKE team FROM visitor").unwrap();
        if !settings.is_empty() {
            let rejected = rejection(&mut client, "GRANT team TO visitor");
            assert!(rejected.message.contains("shop.secrets"), "{rejected:?}");
        }
    }
}

#[test]
fn declared_object_given_to_a_role_that_the_contract_does_not_name_is_one_finding() {
    let (_cluster, mut client) = application(
        &[],
        "CREATE ROLE mallory; ALTER SCHEMA shop OWNER TO root_su; ALTER TABLE shop.goods OWNER TO \
         root_su;
         CREATE FUNCTION shop.rpc(a int) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path \
         = shop, pg_temp AS 'SELECT 1'; CREATE FUNCTION shop.rpc2() RETURNS int LANGUAGE sql \
         SECURITY DEFINER SET search_path = shop, pg_temp AS 'SELECT 1'; ALTER FUNCTION \
         shop.pre_request() OWNER TO root_su; REVOKE EXECUTE ON FUNCTION shop.rpc, shop.rpc2 FROM \
         PUBLIC; GRANT EXECUTE ON FUNCTION shop.rpc, shop.rpc2 TO visitor;",
    );
    assert_eq!(findings(&mut client), [""; 0]);
    for change in
        ["ALTER TABLE shop.goods OWNER TO mallory", "ALTER FUNCTION shop.rpc(int) OWNER TO mallory"]
    {
        let rejected = rejection(&mut client, change);
        assert!(
            format!("{} {}", rejected.message, rejected.detail)
                .contains("is owned by role \"mallory\", which the contract does not name"),
            "{rejected:?}"
        );
    }
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE shop.goods OWNER TO mallory; RESET \
             dragonfly_guard.mode",
        )
        .unwrap();
    assert_eq!(findings(&mut client), ["error object_ownership shop.goods mallory"]);
    let detail = "SELECT detail FROM ops.audit_security('{object_ownership}')";
    assert_eq!(
        column(&mut client, detail),
        ["Table shop.goods is owned by role \"mallory\", which the contract does not name; 2 \
          SECURITY DEFINER routines search its schema."]
    );
    // Where the owner is accepted, the routines are reported.
    client
        .batch_execute(
            "SELECT ops.exempt(fingerprint => fingerprint, reason => 'Reviewed.') FROM \
             ops.audit_security('{object_ownership}')",
        )
        .unwrap();
    assert_eq!(
        findings(&mut client),
        ["shop.rpc(integer)", "shop.rpc2()"]
            .map(|routine| format!("error security_definer_search_path {routine}"))
    );
}

#[test]
fn renamed_role_is_checked_at_commit() {
    let (_cluster, mut client) = application(HARDENED, "");
    for role in ["member", "visitor", "backend", "deployer"] {
        let there = format!("BEGIN; ALTER ROLE {role} RENAME TO other_name;");
        let back = format!("{there} ALTER ROLE other_name RENAME TO {role}; COMMIT");
        attempt(&mut client, &back).unwrap_or_else(|rejected| panic!("{role}: {rejected:?}"));
        let rejected = attempt(&mut client, &format!("{there} COMMIT")).expect_err(role);
        attempt(&mut client, "ROLLBACK").unwrap();
        assert!(rejected.message.starts_with("ALTER ROLE violates"), "{role}: {rejected:?}");
        let cause = format!("is that role \"{role}\" has become role \"other_name\"");
        let is_first = rejected.detail.lines().next().is_some_and(|line| line.contains(&cause));
        assert!(is_first, "{role}: {rejected:?}");
    }
}

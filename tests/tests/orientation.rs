//! The first day: where hardly anything exists that the contract declares, every function says so
//! once, and CREATE EXTENSION says what to do next.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// An application with own roles, owned by a role that is no superuser.
const SHOP: &str = "CREATE ROLE shop_owner; CREATE ROLE shop_app;
    CREATE SCHEMA sales AUTHORIZATION shop_owner; CREATE SCHEMA stock AUTHORIZATION shop_owner;
    SET ROLE shop_owner;
    CREATE TABLE sales.orders (id int PRIMARY KEY, customer text);
    CREATE TABLE stock.parts (id int PRIMARY KEY);
    CREATE VIEW sales.v_orders AS SELECT id FROM sales.orders;
    CREATE FUNCTION sales.total() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    GRANT USAGE ON SCHEMA sales TO shop_app; GRANT SELECT ON sales.orders TO shop_app;
    RESET ROLE";

/// The roles that the shipped contract declares for requests and services.
const ROLES: &str = "CREATE ROLE anon; CREATE ROLE authenticated;
    CREATE ROLE service_role BYPASSRLS; CREATE ROLE postgres CREATEROLE";

const ADOPT: &str = "SELECT * FROM ops.adopt();";

/// Creates a database by some SQL and then the extension; returns what psql showed meanwhile.
fn created(cluster: &Cluster, database: &str, sql: &str) -> String {
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
    cluster.connect(database, SUPERUSER).batch_execute(sql).unwrap();
    messages(cluster, database, "CREATE EXTENSION dragonfly_guard")
}

/// Returns what psql shows on standard error for some SQL.
fn messages(cluster: &Cluster, database: &str, sql: &str) -> String {
    let output = cluster.client_program("psql", &["-X", "-q", "-d", database, "-c", sql]);
    String::from_utf8(output.stderr).unwrap()
}

/// The findings as rule and object.
fn found(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT concat_ws(' ', severity, rule, object_type, object) FROM ops.audit_security()",
    )
}

#[test]
fn database_of_another_application_has_one_finding_about_the_contract() {
    let cluster = Cluster::start();
    let shown = created(&cluster, "shop", SHOP);
    for part in [
        "NOTICE:  security contract \"dragonfly_civil\" 1.0.0 describes another application",
        "None of the 12 tables, 9 views and 6 functions that contract \"dragonfly_civil\" 1.0.0 \
         declares exists, and schemas sales and stock contain objects that it does not declare.",
        ADOPT,
        "WARNING:  1 existing SECURITY DEFINER routine has no safe search_path",
        "NOTICE:  hardened mode is off: statements that fire no event trigger are not checked",
        "ALTER DATABASE shop SET session_preload_libraries = 'dragonfly_guard';",
    ] {
        assert_eq!(shown.matches(part).count(), 1, "{part}: {shown}");
    }
    let mut client = cluster.connect("shop", SUPERUSER);
    assert_eq!(
        found(&mut client),
        [
            "error required_object_missing database shop",
            "error security_definer_search_path function sales.total()",
        ]
    );
    let fix = "SELECT fix FROM ops.audit_security() WHERE object_type = 'database'";
    assert_eq!(column(&mut client, fix), [ADOPT]);

    let error = attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    assert_eq!(error.message, "database does not conform to its security contract: 2 findings");
    assert_eq!(error.detail.lines().count(), 2, "{}", error.detail);
    assert!(error.hint.starts_with(ADOPT), "{}", error.hint);

    let failed = "SELECT concat_ws(' ', area, object, fix) FROM ops.doctor() WHERE NOT ok
        AND area NOT IN ('postgrest', 'server')";
    assert_eq!(
        column(&mut client, failed),
        [&format!("contract ops.contract() {ADOPT}"), "audit ops.audit_security()",]
    );
}

#[test]
fn plan_for_another_application_creates_nothing_of_the_contract() {
    let cluster = Cluster::start();
    let _ = created(&cluster, "shop", SHOP);
    let mut client = cluster.connect("shop", SUPERUSER);
    let plan = "SELECT statement FROM ops.golden_sql() ORDER BY step";
    let steps = column(&mut client, plan);
    assert_eq!(steps[0], format!("-- {ADOPT}"));
    assert!(steps.iter().any(|step| step.starts_with("ALTER ROUTINE sales.total() SET")));
    assert!(!steps.join("\n").contains("CREATE "), "{steps:#?}");
    // The numbers are those of the steps that are executed.
    let outcomes = "SELECT concat_ws(' ', step, outcome) FROM ops.apply_golden_sql(steps => '{2}')
        ORDER BY step LIMIT 2";
    assert_eq!(column(&mut client, outcomes), ["1 proposed", "2 tried"]);
    let only = "SELECT statement FROM ops.golden_sql(rules => '{security_definer_search_path}')";
    assert_eq!(column(&mut client, only).len(), 1);
}

#[test]
fn filtered_audits_list_what_they_are_about() {
    let cluster = Cluster::start();
    let _ = created(&cluster, "shop", SHOP);
    let mut client = cluster.connect("shop", SUPERUSER);
    let count = |client: &mut Client, sql: &str| column(client, sql).len();
    assert_eq!(count(&mut client, "SELECT object FROM ops.audit_roles()"), 4, "missing roles");
    assert_eq!(count(&mut client, "SELECT object FROM ops.audit_objects()"), 1);
    let of_contract = "SELECT fingerprint FROM ops.audit_security() WHERE object = 'shop'";
    let fingerprint = column(&mut client, of_contract).remove(0);
    // Only a person can accept that everything is missing.
    let exempt = format!("SELECT ops.exempt('{fingerprint}', 'later')");
    client.batch_execute(&exempt).unwrap();
    assert_eq!(found(&mut client), ["error security_definer_search_path function sales.total()"]);
}

#[test]
fn empty_database_with_the_roles_is_planned_and_never_passes() {
    let cluster = Cluster::start();
    let shown = created(&cluster, "app", ROLES);
    let part = "NOTICE:  database has none of the objects of security contract \
                \"dragonfly_civil\" 1.0.0 yet";
    assert_eq!(shown.matches(part).count(), 1, "{shown}");
    assert_eq!(shown.matches("NOTICE:").count(), 2, "{shown}");
    let mut client = cluster.connect("app", SUPERUSER);
    assert_eq!(found(&mut client), ["error required_object_missing database app"]);
    let error = attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    assert!(error.detail.ends_with("exists: the database has no objects yet."), "{error:?}");
    let plan = column(&mut client, "SELECT statement FROM ops.golden_sql()");
    assert!(plan.contains(&"CREATE SCHEMA IF NOT EXISTS api;".to_owned()), "{plan:#?}");
    // The guard checks migrations as in every other database.
    let error = attempt(
        &mut client,
        "CREATE TABLE public.judgments (id int); GRANT SELECT ON public.judgments TO anon",
    )
    .unwrap_err();
    assert!(
        error.detail.contains("Rule table_privileges, contract dragonfly_civil 1.0.0, section 2."),
        "{error:?}"
    );
}

#[test]
fn empty_database_without_the_roles_is_not_planned() {
    let cluster = Cluster::start();
    let _ = created(&cluster, "empty", "SELECT 1");
    let mut client = cluster.connect("empty", SUPERUSER);
    let plan = column(&mut client, "SELECT statement FROM ops.golden_sql()");
    assert_eq!(plan.len(), 1, "{plan:#?}");
    assert!(plan[0].starts_with("-- Run the migrations"), "{plan:#?}");
    assert!(attempt(&mut client, "SELECT ops.assert_security()").is_err());
}

#[test]
fn database_of_the_document_has_no_orientation() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let shown = messages(&cluster, "app", "CREATE EXTENSION dragonfly_guard");
    assert_eq!(shown.matches("NOTICE:").count(), 1, "only hardened mode: {shown}");
    assert!(shown.contains("hardened mode is off"), "{shown}");
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("SELECT ops.assert_security()").unwrap();
    client.batch_execute("SET dragonfly_guard.mode = off; DROP VIEW ops.v_rls_coverage").unwrap();
    let missing = found(&mut client);
    assert_eq!(missing[0], "error required_object_missing view ops.v_rls_coverage");
}

#[test]
fn transaction_that_creates_the_objects_has_no_orientation() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let hidden = messages(
        &cluster,
        "app",
        "SET client_min_messages = warning; CREATE EXTENSION dragonfly_guard",
    );
    assert_eq!(hidden, "");
    let rolled_back = messages(
        &cluster,
        "app",
        "DROP EXTENSION dragonfly_guard; BEGIN; CREATE EXTENSION dragonfly_guard; ROLLBACK",
    );
    assert_eq!(rolled_back, "");
    let mut sessions = cluster.connect("postgres", SUPERUSER);
    sessions.batch_execute("CREATE DATABASE other").unwrap();
    let created = messages(
        &cluster,
        "other",
        "BEGIN; CREATE EXTENSION dragonfly_guard; CREATE TABLE public.judgments (id int);
         CREATE TABLE public.plaintiffs (id int); CREATE TABLE public.job_queue (id int); COMMIT",
    );
    assert!(!created.contains("describes another") && !created.contains("yet"), "{created}");
}

#[test]
fn restore_of_a_dump_says_nothing() {
    let cluster = Cluster::start();
    let _ = created(&cluster, "shop", SHOP);
    let dump = cluster.client_program("pg_dump", &["-d", "shop"]);
    let file = cluster.folder().join("dump.sql");
    std::fs::write(&file, dump.stdout).unwrap();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE again").unwrap();
    let restored =
        cluster.client_program("psql", &["-X", "-q", "-d", "again", "-f", file.to_str().unwrap()]);
    let shown = String::from_utf8(restored.stderr).unwrap();
    assert!(!shown.contains("NOTICE:"), "{shown}");
}

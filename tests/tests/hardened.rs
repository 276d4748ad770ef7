//! Hardened mode: with the library preloaded, violations by statements that fire no event trigger
//! are rejected. Without preloading they pass, and the audit reports them.

use dragonfly_tests::{Cluster, SUPERUSER, ServerError, attempt, column, provide_extension};
use postgres::Client;

fn rejection(client: &mut Client, sql: &str) -> ServerError {
    match attempt(client, sql) {
        Err(rejected)
            if rejected.detail.contains("Rule ")
                || rejected.message.contains("security")
                || rejected.message.contains("would drop extension dragonfly_guard")
                || rejected.message.contains("ON COMMIT DROP") =>
        {
            client.batch_execute("ROLLBACK; RESET ROLE").unwrap();
            rejected
        }
        other => panic!("{sql}\nshould be rejected by the guard: {other:?}"),
    }
}

fn findings(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT rule || ' ' || object || ' ' || detail FROM ops.audit_security(min_severity => \
         'warning') ORDER BY 1",
    )
}

/// Statements that fire no event trigger, with the rule that they violate. `@DB@` is the database.
const WITHOUT_EVENTS: [(&str, &str); 44] = [
    ("ALTER ROLE anon BYPASSRLS", "role_attributes"),
    ("ALTER ROLE authenticated SUPERUSER", "role_attributes"),
    ("ALTER ROLE service_role CREATEROLE", "role_attributes"),
    ("ALTER USER authenticated CREATEDB", "role_attributes"),
    ("REVOKE anon FROM postgres; GRANT postgres TO anon", "role_membership"),
    ("GRANT service_role TO authenticated", "role_membership"),
    ("GRANT pg_read_all_data TO anon", "role_membership"),
    (
        "CREATE ROLE reader; GRANT SELECT ON public.judgments TO reader; ALTER ROLE anon INHERIT; \
         GRANT reader TO anon",
        "table_privileges",
    ),
    ("CREATE ROLE helper BYPASSRLS ROLE anon", "role_membership"),
    ("GRANT CREATE ON DATABASE @DB@ TO authenticated", "schema_create"),
    ("CREATE ROLE mallory; ALTER DATABASE @DB@ OWNER TO mallory", "security_definer_search_path"),
    ("REASSIGN OWNED BY postgres TO service_role", "role_membership"),
    // The database, which changes its owner too, excuses nothing.
    ("CREATE ROLE mallory; REASSIGN OWNED BY postgres TO mallory", "object_ownership"),
    ("ALTER ROLE postgres RENAME TO former", "object_ownership"),
    (
        "CREATE ROLE mallory; ALTER ROLE postgres RENAME TO former; ALTER ROLE mallory RENAME TO \
         postgres",
        "object_ownership",
    ),
    (
        "CREATE ROLE weak; GRANT CREATE ON SCHEMA extra TO weak; REASSIGN OWNED BY keeper TO weak",
        "security_definer_search_path",
    ),
    ("ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE", "guard_tampered"),
    ("ALTER EVENT TRIGGER zz_dragonfly_guard_start ENABLE REPLICA", "guard_tampered"),
    ("ALTER EVENT TRIGGER zz_dragonfly_guard_end RENAME TO harmless", "guard_tampered"),
    (
        "CREATE ROLE boss SUPERUSER; ALTER EVENT TRIGGER zz_dragonfly_guard_end OWNER TO boss; \
         ALTER ROLE boss NOSUPERUSER",
        "guard_tampered",
    ),
    ("ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER zz_dragonfly_guard_end", "guard_tampered"),
    ("ALTER DATABASE @DB@ SET session_replication_role = replica", "guard_tampered"),
    ("ALTER ROLE postgres SET dragonfly_guard.mode = off", "guard_tampered"),
    ("ALTER ROLE ALL IN DATABASE @DB@ SET session_replication_role = 'replica'", "guard_tampered"),
    ("GRANT SET ON PARAMETER session_replication_role TO postgres", "guard_tampered"),
    ("ALTER DATABASE @DB@ SET lo_compat_privileges = on", "stored_settings"),
    ("ALTER ROLE anon SET lo_compat_privileges TO true", "stored_settings"),
    ("ALTER ROLE ALL SET allow_system_table_mods = on", "stored_settings"),
    (
        "ALTER ROLE anon IN DATABASE @DB@ SET session_preload_libraries = '/tmp/x'",
        "stored_settings",
    ),
    (
        "CREATE ROLE boss SUPERUSER; ALTER ROLE boss SET lo_compat_privileges = on; ALTER ROLE \
         boss NOSUPERUSER",
        "stored_settings",
    ),
    (
        "INSERT INTO pg_db_role_setting VALUES (0, 0, '{lo_compat_privileges=on}')",
        "stored_settings",
    ),
    ("GRANT SET ON PARAMETER lo_compat_privileges TO anon", "server_object_privileges"),
    ("GRANT ALTER SYSTEM ON PARAMETER archive_command TO PUBLIC", "server_object_privileges"),
    ("DO $$ BEGIN EXECUTE 'ALTER ROLE anon BYPASSRLS'; END $$", "role_attributes"),
    ("UPDATE pg_class SET relrowsecurity = false WHERE relname = 'judgments'", "rls_disabled"),
    (
        "UPDATE pg_proc SET proconfig = NULL WHERE proname = 'get_ceo_metrics'",
        "security_definer_search_path",
    ),
    (
        "UPDATE pg_policy SET polroles = '{0}' WHERE polname = 'judgments_worker'",
        "rls_policy_always_true",
    ),
    ("DELETE FROM pg_policy WHERE polname = 'judgments_read'", "rls_policy_missing"),
    (
        "UPDATE pg_event_trigger SET evtenabled = 'D' WHERE evtname LIKE 'zz_dragonfly%'",
        "guard_tampered",
    ),
    (
        "INSERT INTO pg_db_role_setting VALUES (0, 0, '{session_replication_role=replica}')",
        "guard_tampered",
    ),
    (
        "UPDATE pg_auth_members SET member = 'anon'::regrole WHERE member = 'postgres'::regrole \
         AND roleid = 'service_role'::regrole",
        "role_membership",
    ),
    ("UPDATE pg_authid SET rolsuper = true WHERE rolname = 'authenticated'", "role_attributes"),
    (
        "CREATE OR REPLACE FUNCTION dragonfly_guard.ddl_command_end() RETURNS event_trigger \
         LANGUAGE plpgsql AS 'BEGIN END'",
        "guard_tampered",
    ),
    (
        "UPDATE pg_namespace SET nspacl = nspacl || '=C/postgres'::aclitem WHERE nspname = 'api'",
        "schema_create",
    ),
];

/// A routine that REASSIGN OWNED makes unsafe.
const KEEPER: &str = "SET dragonfly_guard.mode = off; CREATE ROLE keeper; CREATE SCHEMA extra \
                      AUTHORIZATION keeper;
    GRANT CREATE ON SCHEMA extra TO postgres; SET ROLE postgres;
    CREATE FUNCTION ops.exposed() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
    extra, pg_temp AS 'SELECT 1';
    REVOKE EXECUTE ON FUNCTION ops.exposed() FROM PUBLIC; RESET ROLE; GRANT keeper TO postgres; \
    RESET dragonfly_guard.mode";

fn rejects_statements_without_events(cluster: &Cluster, database: &str) {
    cluster.guarded_document(database).batch_execute(KEEPER).unwrap();
    let mut client = cluster.connect(database, SUPERUSER);
    let before = findings(&mut client);
    for (sql, rule) in WITHOUT_EVENTS {
        // In one transaction, so that the first statements are rolled back as well.
        let sql = format!("BEGIN; {}; COMMIT", sql.replace("@DB@", database));
        let rejected = rejection(&mut client, &sql);
        let text = format!("{} {}", rejected.message, rejected.detail);
        // A statement that disables the guard is rejected before it is executed.
        assert!(
            text.contains(rule) || text.contains("would disable the security guard"),
            "{sql}: {rejected:?}"
        );
        assert_eq!(findings(&mut client), before, "{sql}: something is left");
        // The same outside a transaction block.
        if !sql.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT").contains(';') {
            rejection(&mut client, sql.trim_start_matches("BEGIN; ").trim_end_matches("; COMMIT"));
            assert_eq!(findings(&mut client), before, "{sql}: something is left");
        }
    }
    // Statements that drop the guard, and statements that ROLLBACK does not revert.
    for sql in [
        "DROP EXTENSION dragonfly_guard",
        "DROP EXTENSION dragonfly_guard CASCADE",
        "DROP SCHEMA ops CASCADE",
        "DROP SCHEMA dragonfly_guard CASCADE",
        "ALTER SYSTEM SET session_replication_role = replica",
        "ALTER SYSTEM SET dragonfly_guard.mode = 'warn'",
        "ALTER SYSTEM SET lo_compat_privileges = on",
    ] {
        rejection(&mut client, sql);
        assert_eq!(
            column(
                &mut client,
                "SELECT count(*)::text FROM pg_extension WHERE extname = 'dragonfly_guard'"
            ),
            ["1"]
        );
    }
    // Statements without a violation pass.
    for sql in [
        "CREATE ROLE newcomer LOGIN PASSWORD 'x'; ALTER ROLE newcomer CONNECTION LIMIT 5; GRANT \
         pg_monitor TO newcomer; DROP ROLE newcomer",
        "ALTER ROLE anon NOBYPASSRLS; ALTER ROLE anon SET statement_timeout = '3s'; COMMENT ON \
         ROLE anon IS 'x'",
        "GRANT CONNECT ON DATABASE @DB@ TO anon; ALTER DATABASE @DB@ SET work_mem = '5MB'; ALTER \
         DATABASE @DB@ RESET work_mem",
        "VACUUM",
        "ALTER DATABASE @DB@ SET lo_compat_privileges = off; ALTER DATABASE @DB@ RESET ALL",
        "ALTER ROLE anon SET session_preload_libraries = 'auto_explain'; ALTER ROLE anon RESET ALL",
        "ALTER ROLE anon SET default_transaction_read_only = on; ALTER ROLE anon RESET ALL",
        "ALTER SYSTEM SET row_security = on",
        "ALTER SYSTEM RESET row_security",
        "ALTER SYSTEM SET work_mem = '4MB'",
        "ALTER SYSTEM RESET work_mem",
        "CREATE TABLE ops.scratch (id int)",
        "CREATE INDEX CONCURRENTLY ON ops.scratch (id)",
        "DROP TABLE ops.scratch; ANALYZE",
    ] {
        attempt(&mut client, &sql.replace("@DB@", database))
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    assert_eq!(findings(&mut client), before);
    // Earlier violations may stay, and be fixed one by one.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER ROLE anon BYPASSRLS CREATEDB; REVOKE \
                        anon FROM postgres; GRANT postgres TO anon; RESET dragonfly_guard.mode",
        )
        .unwrap();
    for sql in [
        "ALTER ROLE anon NOCREATEDB",
        "CREATE ROLE other",
        "REVOKE postgres FROM anon",
        "ALTER ROLE anon NOBYPASSRLS",
    ] {
        attempt(&mut client, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    rejection(&mut client, "ALTER ROLE anon BYPASSRLS");
    // A superuser can drop the extension.
    attempt(&mut client, "SET dragonfly_guard.mode = off; DROP EXTENSION dragonfly_guard").unwrap();
}

/// The audit reads what the guard has not checked, and its plan resets it.
/// The findings about stored settings above information.
const STORED: &str = "SELECT concat_ws(' ', severity, object, detail) FROM \
                      ops.audit_security(min_severity => 'warning') WHERE rule = 'stored_settings' \
                      ORDER BY 1";

#[test]
fn stored_setting_that_weakens_privileges_is_reported_and_reset() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "CREATE ROLE boss SUPERUSER; ALTER ROLE boss SET lo_compat_privileges = on;
             ALTER ROLE anon SET session_preload_libraries = 'auto_explain', '/tmp/a, b';
             ALTER ROLE authenticated SET session_preload_libraries = 'auto_explain';
             ALTER ROLE service_role SET row_security = off;
             ALTER ROLE authenticated SET row_security = off;
             ALTER DATABASE app SET lo_compat_privileges = on",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, STORED),
        [
            "error anon Role anon has the setting session_preload_libraries = 'auto_explain, \
             \"/tmp/a, b\"': code from outside of the server's own folder is loaded.",
            "error app Database app has the setting lo_compat_privileges = 'on': privileges on \
             large objects are not checked.",
            "warning authenticated Role authenticated has the setting row_security = 'off': \
             queries that a policy would filter raise errors.",
        ]
    );
    let undo = "SELECT undo FROM ops.golden_sql() WHERE statement LIKE 'ALTER ROLE anon RESET%'";
    assert_eq!(
        column(&mut client, undo),
        ["ALTER ROLE anon SET session_preload_libraries = 'auto_explain', '/tmp/a, b';"]
    );
    for statement in column(
        &mut client,
        "SELECT statement FROM ops.golden_sql() WHERE statement LIKE 'ALTER % RESET %'",
    ) {
        client.batch_execute(&statement).unwrap();
    }
    assert_eq!(column(&mut client, STORED), [""; 0]);
    client.batch_execute("ALTER SYSTEM SET lo_compat_privileges = on").unwrap();
    client.batch_execute("SELECT pg_reload_conf(), pg_sleep(0.5)").unwrap();
    assert_eq!(
        column(&mut client, STORED),
        ["error lo_compat_privileges Parameter lo_compat_privileges is 'on' for every session: \
          privileges on large objects are not checked."]
    );
}

#[test]
fn shared_preload_rejects_statements_without_events() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    rejects_statements_without_events(&cluster, "shared");
    let mut other = cluster.guarded("other");
    rejection(&mut other, "ALTER SYSTEM SET shared_preload_libraries = ''");
    // It removes only what ALTER SYSTEM has stored.
    attempt(&mut other, "ALTER SYSTEM RESET ALL").unwrap();
    attempt(&mut other, "ALTER SYSTEM SET shared_preload_libraries = 'dragonfly_guard'").unwrap();
    rejection(&mut other, "ALTER SYSTEM RESET ALL");
    rejection(&mut other, "ALTER SYSTEM RESET shared_preload_libraries");
    let replica = "ALTER ROLE anon SET session_replication_role = replica";
    let rejected = rejection(&mut other, replica);
    assert!(rejected.detail.contains("ordinary triggers and foreign keys"), "{rejected:?}");
    // A contract does not declare settings, and ALTER SYSTEM is reverted by no transaction.
    let rejected = rejection(&mut other, "ALTER SYSTEM SET lo_compat_privileges = on");
    assert_eq!(
        rejected.hint,
        "If this is intended, exempt it: SELECT ops.exempt(rule => 'stored_settings', object => \
         'lo_compat_privileges', reason => '...', expires_at => now() + interval '30 days');"
    );
    // A database without the extension is not guarded.
    let mut free = cluster.connect("postgres", SUPERUSER);
    free.batch_execute(
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
         CREATE ROLE anyone BYPASSRLS",
    )
    .unwrap();
}

#[test]
fn session_preload_rejects_statements_without_events() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE DATABASE held").unwrap();
    admin
        .batch_execute("ALTER DATABASE held SET session_preload_libraries = 'dragonfly_guard'")
        .unwrap();
    cluster.psql_file("held", "fixtures/document.sql");
    cluster.connect("held", SUPERUSER).batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    let mut client = cluster.connect("held", SUPERUSER);
    let rejected = rejection(&mut client, "ALTER ROLE anon BYPASSRLS");
    assert_eq!(rejected.code, "0LP01");
    rejection(&mut client, "ALTER DATABASE held RESET session_preload_libraries");
    rejection(&mut client, "ALTER DATABASE held RESET ALL");
    rejection(&mut client, "ALTER DATABASE held SET session_preload_libraries = 'auto_explain'");
    let status = column(
        &mut client,
        "SELECT detail FROM ops.guard_status() WHERE component = 'statements without an event'",
    );
    assert_eq!(
        status,
        ["The library was loaded by session_preload_libraries, before the first \
             statement of the session."]
    );
    // Since 17 event triggers can be disabled; the hook does not depend on them.
    if column(&mut client, "SELECT count(*)::text FROM pg_settings WHERE name = 'event_triggers'")
        == ["1"]
    {
        rejection(
            &mut client,
            "SET event_triggers = off; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY \
             DEFINER AS 'SELECT 1'",
        );
    }
}

#[test]
fn violation_without_preloading_passes_and_is_reported() {
    let cluster = Cluster::start();
    cluster.guarded_document("plain").batch_execute(KEEPER).unwrap();
    let mut client = cluster.connect("plain", SUPERUSER);
    let before = findings(&mut client);
    for (sql, rule) in WITHOUT_EVENTS {
        let mut fresh = cluster.connect("plain", SUPERUSER);
        // If one of the statements fires an event trigger, they are rejected in any case.
        let sql = sql.replace("@DB@", "plain");
        if attempt(&mut fresh, &format!("BEGIN; {sql}")).is_err()
            || sql.starts_with("ALTER EXTENSION")
        {
            continue;
        }
        let after: Vec<String> =
            findings(&mut fresh).into_iter().filter(|f| !before.contains(f)).collect();
        assert!(
            after.iter().any(|f| f.starts_with(rule)
                || (rule == "security_definer_search_path" && f.contains("SECURITY DEFINER"))),
            "{sql}: {after:?}"
        );
    }
    let open = column(
        &mut client,
        "SELECT component || ': ' || gap FROM ops.guard_status() WHERE NOT active AND component <> \
         'superusers' ORDER BY 1",
    );
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(
        open[0].starts_with("log: Rejected statements")
            && open[1].starts_with("statements without an event: ALTER ROLE"),
        "{open:?}"
    );
    // The status reports tampering.
    client.batch_execute("ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE").unwrap();
    let broken = "SELECT component || ': ' || coalesce(fix, '') FROM ops.guard_status() WHERE NOT \
                  active AND component IN ('event triggers', 'integrity') ORDER BY 1";
    let fix = "ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE ALWAYS;";
    assert_eq!(
        column(&mut client, broken),
        [format!("event triggers: {fix}"), format!("integrity: {fix}")]
    );
    client.batch_execute(fix).unwrap();
    assert_eq!(column(&mut client, broken), [""; 0]);
    client.batch_execute("SET dragonfly_guard.mode = warn").unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT detail || ' ' || fix FROM ops.guard_status() WHERE component = 'mode'"
        ),
        ["warn: statements that violate the contract raise a WARNING and are executed. \
             RESET dragonfly_guard.mode;"]
    );
}

#[test]
fn drop_that_cascades_to_the_guard_is_rejected() {
    let cluster = Cluster::start();
    provide_extension(
        "guard_plain",
        "default_version = '1'\nrelocatable = true\nsuperuser = true\ntrusted = true\n",
        "1",
        "CREATE FUNCTION x_plain() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    let mut client = cluster.guarded_document("kept");
    client
        .batch_execute(
            "CREATE ROLE mallory LOGIN; SET dragonfly_guard.mode = off; ALTER SCHEMA \
                          ops OWNER TO mallory; CREATE TABLE ops.unrelated (id int)",
        )
        .unwrap();
    let mut mallory = cluster.connect("kept", "mallory");
    // E01: the owner of schema ops can drop it with its contents.
    let rejected = rejection(&mut mallory, "DROP SCHEMA ops CASCADE");
    assert_eq!(
        rejected.message,
        "DROP SCHEMA would drop extension dragonfly_guard through a dependency"
    );
    rejection(&mut mallory, "DROP OWNED BY mallory CASCADE");
    rejection(&mut mallory, "DO $$ BEGIN EXECUTE 'DROP SCHEMA ops CASCADE'; END $$");
    let mut admin = cluster.connect("kept", SUPERUSER);
    rejection(&mut admin, "DROP SCHEMA dragonfly_guard CASCADE");
    rejection(&mut admin, "BEGIN; DROP SCHEMA ops CASCADE; COMMIT");
    assert_eq!(
        column(
            &mut admin,
            "SELECT count(*)::text FROM pg_event_trigger WHERE evtname LIKE 'zz_dragonfly%'"
        ),
        ["2"]
    );
    // Through another extension, or a temporary table with ON COMMIT DROP.
    admin
        .batch_execute(
            "GRANT CREATE ON DATABASE kept TO mallory; CREATE SCHEMA m AUTHORIZATION mallory",
        )
        .unwrap();
    mallory
        .batch_execute(
            "CREATE EXTENSION guard_plain SCHEMA m; ALTER EXTENSION guard_plain ADD SCHEMA ops",
        )
        .unwrap();
    rejection(&mut mallory, "DROP EXTENSION guard_plain CASCADE");
    rejection(
        &mut mallory,
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; CREATE FUNCTION m.dummy(t) RETURNS int \
         LANGUAGE sql AS 'select 1';
         ALTER EXTENSION guard_plain ADD FUNCTION m.dummy(t); COMMIT",
    );
    // A failed attempt to drop the extension does not allow a later one.
    rejection(
        &mut mallory,
        "BEGIN; DO $$ BEGIN DROP EXTENSION dragonfly_guard CASCADE; EXCEPTION WHEN OTHERS THEN \
         NULL; END $$; DROP EXTENSION guard_plain CASCADE; COMMIT",
    );
    mallory.batch_execute("ALTER EXTENSION guard_plain DROP SCHEMA ops").unwrap();
    // E03: the server rejects DROP of a single member of the extension.
    assert_eq!(
        attempt(&mut mallory, "DROP FUNCTION ops.audit_security CASCADE").unwrap_err().code,
        "2BP01"
    );
    assert_eq!(
        attempt(&mut admin, "DROP EVENT TRIGGER zz_dragonfly_guard_end").unwrap_err().code,
        "2BP01"
    );
    // A superuser can drop the extension by name.
    admin.batch_execute("DROP EXTENSION dragonfly_guard").unwrap();
    admin.batch_execute("DROP SCHEMA ops CASCADE").unwrap();
}

#[test]
fn code_in_sessions_of_other_roles_is_checked() {
    let cluster =
        Cluster::start_with(&["shared_preload_libraries=dragonfly_guard", "autovacuum_naptime=1s"]);
    let mut admin = cluster.guarded_document("round");
    let mut owner = cluster.connect("round", "postgres");
    let errors = "SELECT rule || ' ' || object FROM ops.audit_security(min_severity => 'error') \
                  WHERE object NOT LIKE '%bait%'";
    // Autovacuum executes code of a table's owner, which is checked there as well.
    owner
        .batch_execute(
            "CREATE TABLE ops.bait (a int) WITH (autovacuum_analyze_threshold = 1, \
             autovacuum_analyze_scale_factor = 0);
             CREATE FUNCTION ops.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION ops.imm(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
               $$ DECLARE r int; BEGIN SELECT ops.evil() INTO r; RETURN $1; END $$;
             CREATE INDEX ON ops.bait (ops.imm(a));
             CREATE OR REPLACE FUNCTION ops.evil() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
               IF session_user <> 'postgres' THEN
                 PERFORM set_config('dragonfly_guard.check_at', 'commit', false);
                 EXECUTE 'GRANT SELECT ON public.judgments TO anon';
                 EXECUTE 'ALTER TABLE public.plaintiffs DISABLE ROW LEVEL SECURITY';
               END IF; RETURN 1; END $$;
             INSERT INTO ops.bait SELECT generate_series(1, 100)",
        )
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !cluster.log().contains("automatic analyze of table \"round.ops.bait\"")
        && std::time::Instant::now() < deadline
    {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let log = cluster.log();
    assert!(
        log.contains("automatic analyze of table \"round.ops.bait\"")
            && log.contains("\"dragonfly_guard\":\"rejected\""),
        "{log}"
    );
    assert_eq!(column(&mut admin, errors), [""; 0]);
    owner.batch_execute("DROP TABLE ops.bait").unwrap();
    // The owner of the database stores the settings of a restore session for all sessions.
    owner
        .batch_execute(
            "SELECT set_config('search_path', '', false); ALTER DATABASE round SET search_path \
             FROM CURRENT;
             ALTER DATABASE round SET check_function_bodies = off; ALTER DATABASE round SET \
             row_security = off;
             ALTER DATABASE round SET client_min_messages = warning",
        )
        .unwrap();
    let mut misled = cluster.connect("round", SUPERUSER);
    rejection(&mut misled, "GRANT SELECT ON public.judgments TO anon");
    rejection(&mut misled, "ALTER ROLE anon CREATEDB");
    owner.batch_execute("ALTER DATABASE round RESET ALL").unwrap();
    // Rows of a catalog, changed by a superuser and committed under another role.
    for sql in [
        "BEGIN; UPDATE pg_extension SET extname = 'nope' WHERE extname = 'dragonfly_guard'; SET \
         SESSION AUTHORIZATION anon; COMMIT",
        "BEGIN; DELETE FROM pg_policy WHERE polname = 'judgments_read'; SET SESSION AUTHORIZATION \
         anon; COMMIT",
        "WITH gone AS (DELETE FROM pg_policy WHERE polname = 'judgments_read' RETURNING 1) SELECT \
         count(*) FROM gone",
        "INSERT INTO pg_auth_members SELECT * FROM pg_auth_members WHERE false; UPDATE pg_proc SET \
         prosecdef = false WHERE proname = 'get_ceo_metrics'",
    ] {
        rejection(&mut admin, sql);
        admin.batch_execute("RESET SESSION AUTHORIZATION").unwrap();
        assert_eq!(column(&mut admin, errors), [""; 0], "{sql}");
    }
    // Another contract during one statement.
    rejection(
        &mut admin,
        "BEGIN; INSERT INTO dragonfly_guard.contract (id, document) SELECT 2, \
         jsonb_set(ops.contract(), '{rules,table_privileges,guard}', '\"audit\"');
         GRANT SELECT ON public.judgments TO anon; DELETE FROM dragonfly_guard.contract WHERE id = \
         2; COMMIT",
    );
    // Settings for this database, stored in a session of a database without a contract.
    let mut outside = cluster.connect("postgres", SUPERUSER);
    for sql in [
        "ALTER DATABASE round SET dragonfly_guard.mode = off",
        "ALTER ROLE postgres IN DATABASE round SET session_replication_role = replica",
        "ALTER ROLE ALL SET dragonfly_guard.mode = 'warn'",
    ] {
        rejection(&mut outside, sql);
    }
    // Each statement with mode off is logged, also if it is checked at commit.
    let lines = || cluster.log().matches("\"dragonfly_guard\":\"unchecked\"").count();
    let before = lines();
    admin
        .batch_execute(
            "BEGIN; SET LOCAL dragonfly_guard.check_at = commit; GRANT SELECT ON public.judgments \
             TO anon; SET LOCAL dragonfly_guard.mode = off; COMMIT",
        )
        .unwrap();
    admin.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    admin.batch_execute("UPDATE pg_authid SET rolcreatedb = true WHERE rolname = 'anon'").unwrap();
    admin.batch_execute("ALTER SYSTEM SET session_replication_role = origin").unwrap();
    admin.batch_execute("ALTER SYSTEM SET session_replication_role = replica").unwrap();
    assert_eq!(lines(), before + 3);
    admin.batch_execute("RESET dragonfly_guard.mode").unwrap();
    admin.batch_execute("ALTER SYSTEM RESET session_replication_role").unwrap();
}

/// pg_dumpall creates a role by two statements.
#[test]
fn roles_of_pg_dumpall_pass() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let mut client = cluster.guarded("globals");
    client.batch_execute("CREATE ROLE service_role").unwrap();
    client
        .batch_execute(
            "ALTER ROLE service_role WITH NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOLOGIN \
             NOREPLICATION BYPASSRLS",
        )
        .unwrap();
    rejection(&mut client, "ALTER ROLE service_role NOBYPASSRLS");
    rejection(&mut client, "CREATE ROLE anon BYPASSRLS");
}

/// The hook does not change errors of other statements.
#[test]
fn error_keeps_its_position_and_context() {
    let errors = |settings: &[&str]| {
        let cluster = Cluster::start_with(settings);
        let mut client = cluster.guarded("errors");
        client
            .batch_execute(
                "CREATE FUNCTION public.boom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
                            EXECUTE 'CREATE TABLE t (a nothing)'; END $$",
            )
            .unwrap();
        [
            "CREATE TABLE t (id int DEFAULT (bar.id))",
            "ALTER TABLE nowhere ADD a int",
            "DO $$ BEGIN PERFORM public.boom(); END $$",
            "COMMENT ON TABLE x IS y",
        ]
        .map(|sql| {
            let error = client.batch_execute(sql).unwrap_err();
            let error = error.as_db_error().expect("the server's").clone();
            (
                error.code().code().to_owned(),
                error.message().to_owned(),
                error.position().cloned(),
                error.where_().map(str::to_owned),
            )
        })
    };
    let hardened = errors(&["shared_preload_libraries=dragonfly_guard"]);
    assert_eq!(hardened, errors(&[]));
    assert!(
        hardened[0].2.is_some()
            && hardened[2].3.as_ref().is_some_and(|context| context.contains("boom")),
        "{hardened:?}"
    );
}

#[test]
fn settings_that_decide_which_library_is_loaded_are_protected_where_they_do() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let mut client = cluster.guarded_document("app");
    let version = "SELECT current_setting('server_version_num')::int";
    // Earlier versions look up the file of an extension's library in one folder.
    let is_18 = client.query_one(version, &[]).unwrap().get::<_, i32>(0) >= 180_000;
    let audited = "SELECT count(*)::text FROM ops.audit_guard()";
    assert_eq!(column(&mut client, audited), ["0"]);
    for (sql, undo) in [
        (
            "ALTER DATABASE app SET dynamic_library_path = '/nowhere'",
            "ALTER DATABASE app RESET dynamic_library_path",
        ),
        (
            "ALTER ROLE postgres SET dynamic_library_path = '/nowhere:$libdir'",
            "ALTER ROLE postgres RESET dynamic_library_path",
        ),
        (
            "GRANT SET ON PARAMETER dynamic_library_path TO postgres",
            "REVOKE SET ON PARAMETER dynamic_library_path FROM postgres",
        ),
    ] {
        if is_18 {
            rejection(&mut client, sql);
            client
                .batch_execute(&format!(
                    "SET dragonfly_guard.mode = off; {sql}; RESET dragonfly_guard.mode"
                ))
                .unwrap();
            assert_ne!(column(&mut client, audited), ["0"], "{sql}");
        } else {
            attempt(&mut client, sql).unwrap();
        }
        client.batch_execute(undo).unwrap();
        assert_eq!(column(&mut client, audited), ["0"], "{undo}");
    }
    if is_18 {
        rejection(&mut client, "ALTER SYSTEM SET dynamic_library_path = '/nowhere'");
        rejection(&mut client, "GRANT SET ON PARAMETER extension_control_path TO postgres");
        rejection(&mut client, "GRANT ALTER SYSTEM ON PARAMETER dynamic_library_path TO postgres");
    }
    // The folder that is searched first is the library's own.
    attempt(
        &mut client,
        "ALTER DATABASE app SET dynamic_library_path = '$libdir:/more'; ALTER DATABASE app RESET \
         dynamic_library_path",
    )
    .unwrap();
}

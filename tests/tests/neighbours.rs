//! Other extensions with event triggers, hooks and workers: they and the guard work together.
//! docs/reference/neighbours.md lists the versions that Debian has.

use dragonfly_tests::{
    Cluster, SUPERUSER, attempt, column, has_extension, project, provide_extension, wait_for,
};
use postgres::Client;
use std::time::{Duration, Instant};

const UNSAFE: &str =
    "CREATE FUNCTION public.unsafe() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

const GRANT: &str = "GRANT SELECT ON public.judgments TO anon";

/// Whether a test needs an extension that the PostgreSQL under test does not have.
fn is_missing(extension: &str) -> bool {
    let is_missing = !has_extension(extension);
    if is_missing {
        eprintln!("skipped: this PostgreSQL has no {extension}");
    }
    is_missing
}

/// Returns lists of libraries: one by itself, and before and after the guard's.
fn in_any_order(library: &str) -> [String; 3] {
    [library.into(), format!("{library},dragonfly_guard"), format!("dragonfly_guard,{library}")]
}

/// Starts a server with libraries and settings, and returns it with a session of a superuser in
/// the database of the contract document.
fn start(libraries: &str, settings: &[&str]) -> (Cluster, Client) {
    let libraries = format!("shared_preload_libraries={libraries}");
    let cluster = Cluster::start_with(&[&[libraries.as_str()], settings].concat());
    let client = cluster.guarded_document("app");
    (cluster, client)
}

/// Returns the findings that are not only information.
fn findings(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT concat_ws(' ', severity, rule, object, role_name) FROM \
         ops.audit_security(min_severity => 'warning') ORDER BY rule, object, role_name",
    )
}

/// Waits until a query returns the rows expected, for 30 seconds.
fn eventually(client: &mut Client, sql: &str, expected: &[&str]) {
    let rows = wait_for(client, sql, Duration::from_secs(30), |rows| rows == expected);
    assert_eq!(rows, expected, "{sql}");
}

/// Waits until the server log contains a text, for 30 seconds.
fn wait_for_log(cluster: &Cluster, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !cluster.log().contains(text) {
        assert!(Instant::now() < deadline, "{text}: {}", cluster.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Checks that the guard rejects statements of the migration role, and that it is intact.
fn assert_guarded(cluster: &Cluster, client: &mut Client) {
    let mut migration = cluster.connect("app", "postgres");
    assert_eq!(attempt(&mut migration, UNSAFE).unwrap_err().code, "42P13");
    assert_eq!(attempt(&mut migration, GRANT).unwrap_err().code, "0LP01");
    assert_eq!(column(client, "SELECT detail FROM ops.audit_guard()"), [""; 0]);
}

#[test]
fn reference_has_the_versions_that_are_tested() {
    let page = std::fs::read_to_string(project().join("docs/reference/neighbours.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<(&str, &str)> = rows
        .filter_map(|row| row.split_once(" | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" | ")?.0)))
        .filter(|(name, _)| *name != "extension")
        .collect();
    assert_eq!(rows.len(), 9, "{rows:?}");
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    for (name, version) in rows {
        if !is_missing(name) {
            let installed = format!(
                "SELECT default_version FROM pg_available_extensions WHERE name = '{name}'"
            );
            assert_eq!(column(&mut client, &installed), [version], "{name}");
        }
    }
}

#[test]
fn pgaudit_works_in_any_order_of_libraries() {
    if is_missing("pgaudit") {
        return;
    }
    for libraries in in_any_order("pgaudit") {
        let cluster = Cluster::start_with(&[
            &format!("shared_preload_libraries={libraries}"),
            "pgaudit.log=all",
            "pgaudit.log_catalog=off",
        ]);
        let mut client = cluster.guarded("audited");
        client
            .batch_execute(
                "CREATE EXTENSION pgaudit; CREATE ROLE anon; CREATE TABLE public.t (id int)",
            )
            .unwrap();
        assert_eq!(attempt(&mut client, UNSAFE).unwrap_err().code, "42P13", "{libraries}");
        client
            .batch_execute(
                "CREATE VIEW public.v AS SELECT * FROM public.t; DROP VIEW public.v; \
                            ALTER ROLE anon NOLOGIN",
            )
            .unwrap();
        let rejected =
            attempt(&mut client, "BEGIN; DROP EXTENSION pgaudit; GRANT ALL ON public.t TO anon")
                .unwrap_err();
        assert_eq!(rejected.code, "0LP01", "{libraries}");
        client.batch_execute("ROLLBACK").unwrap();
        assert_eq!(
            column(&mut client, "SELECT count(*)::text FROM ops.audit_guard()"),
            ["0"],
            "{libraries}"
        );
        let log = cluster.log();
        for audited in
            ["DDL,CREATE TABLE,TABLE,public.t", "DDL,CREATE VIEW,VIEW,public.v", "ROLE,ALTER ROLE"]
        {
            assert!(log.contains(audited), "{libraries}: {audited}\n{log}");
        }
        assert!(log.contains("{\"dragonfly_guard\":\"rejected\""));
    }
}

/// Event triggers like those of pg_graphql and Supabase: they execute DDL in the schemas of the
/// platform, and set SECURITY DEFINER before the search_path.
const PLATFORM: &str = "
    CREATE SCHEMA graphql; CREATE SCHEMA graphql_public; CREATE SCHEMA extensions; CREATE SCHEMA \
    net;
    CREATE SEQUENCE graphql.seq_schema_version;
    CREATE FUNCTION graphql.increment_schema_version() RETURNS event_trigger LANGUAGE plpgsql \
    SECURITY DEFINER AS $$
      BEGIN PERFORM nextval('graphql.seq_schema_version'); END $$;
    CREATE EVENT TRIGGER graphql_watch_ddl ON ddl_command_end EXECUTE FUNCTION \
    graphql.increment_schema_version();
    CREATE EVENT TRIGGER graphql_watch_drop ON sql_drop EXECUTE FUNCTION \
    graphql.increment_schema_version();
    CREATE FUNCTION extensions.grant_pg_net_access() RETURNS event_trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_type = 'extension' AND \
        object_identity = 'pg_net') THEN
          GRANT USAGE ON SCHEMA net TO anon, authenticated, service_role;
          ALTER FUNCTION net.http_get(text) SECURITY DEFINER;
          ALTER FUNCTION net.http_get(text) SET search_path = net;
          REVOKE ALL ON FUNCTION net.http_get(text) FROM PUBLIC;
          GRANT EXECUTE ON FUNCTION net.http_get(text) TO anon, authenticated, service_role;
        END IF;
      END $$;
    CREATE EVENT TRIGGER issue_pg_net_access ON ddl_command_end WHEN TAG IN ('CREATE EXTENSION') \
    EXECUTE FUNCTION extensions.grant_pg_net_access();
    CREATE FUNCTION extensions.set_graphql_placeholder() RETURNS event_trigger LANGUAGE plpgsql AS \
    $$
      BEGIN
        IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_type = 'extension' \
        AND object_name = 'pg_graphql') THEN
          CREATE OR REPLACE FUNCTION graphql_public.graphql(query text) RETURNS jsonb LANGUAGE \
          plpgsql AS $f$ BEGIN RETURN NULL; END $f$;
        END IF;
      END $$;
    CREATE EVENT TRIGGER issue_graphql_placeholder ON sql_drop WHEN TAG IN ('DROP EXTENSION') \
    EXECUTE FUNCTION extensions.set_graphql_placeholder();
    CREATE FUNCTION extensions.pgrst_ddl_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ \
    BEGIN NOTIFY pgrst, 'reload schema'; END $$;
    CREATE EVENT TRIGGER pgrst_ddl_watch ON ddl_command_end EXECUTE FUNCTION \
    extensions.pgrst_ddl_watch();
    CREATE EVENT TRIGGER zzz_pgrst_last ON ddl_command_end EXECUTE FUNCTION \
    extensions.pgrst_ddl_watch()";

#[test]
fn event_triggers_of_the_platform_work() {
    provide_extension(
        "pg_net",
        "default_version = '1'\nrelocatable = true\n",
        "1",
        "CREATE FUNCTION http_get(url text) RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    provide_extension(
        "pg_graphql",
        "default_version = '1'\nschema = graphql\n",
        "1",
        "CREATE FUNCTION graphql.resolve(q text) RETURNS int LANGUAGE sql SECURITY DEFINER AS \
         'SELECT 1';",
    );
    for settings in [&[][..], &["shared_preload_libraries=dragonfly_guard"][..]] {
        let cluster = Cluster::start_with(settings);
        cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE platform").unwrap();
        cluster.psql_file("platform", "fixtures/document.sql");
        let mut client = cluster.connect("platform", SUPERUSER);
        client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
        client.batch_execute(PLATFORM).unwrap();
        // Each trigger works, and the guard rejects nothing.
        client
            .batch_execute(
                "CREATE EXTENSION pg_net SCHEMA net; CREATE EXTENSION pg_graphql; DROP \
                            EXTENSION pg_graphql",
            )
            .unwrap();
        let made = "SELECT prosecdef::text || coalesce(' ' || proconfig::text, '') FROM pg_proc \
                    WHERE pronamespace = 'net'::regnamespace
             UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = \
             'graphql_public'::regnamespace";
        assert_eq!(column(&mut client, made), ["true {search_path=net}", "graphql"]);
        client
            .batch_execute(
                "LISTEN pgrst; CREATE TABLE public.seen (id int); DROP TABLE public.seen",
            )
            .unwrap();
        let version = "SELECT (last_value > 5)::text FROM graphql.seq_schema_version";
        assert_eq!(column(&mut client, version), ["true"]);
        // The migration role is guarded.
        let mut migration = cluster.connect("platform", "postgres");
        assert_eq!(attempt(&mut migration, UNSAFE).unwrap_err().code, "42P13");
        assert_eq!(
            attempt(&mut migration, "GRANT SELECT ON public.judgments TO anon").unwrap_err().code,
            "0LP01"
        );
        migration
            .batch_execute("CREATE TABLE ops.harmless (id int); DROP TABLE ops.harmless")
            .unwrap();
        let left =
            "SELECT severity || ' ' || object FROM ops.audit_security(min_severity => 'warning')";
        assert_eq!(column(&mut client, left), [""; 0]);
    }
}

#[test]
fn jobs_of_pg_cron_are_checked() {
    if is_missing("pg_cron") {
        return;
    }
    let jobs = [
        ("1 index", "CREATE INDEX tasks_due ON public.plaintiff_tasks (due)"),
        ("2 function", UNSAFE),
        ("3 grant", GRANT),
        (
            "4 at commit",
            "DO $$ BEGIN SET LOCAL dragonfly_guard.check_at = commit; GRANT SELECT ON \
             public.plaintiffs TO anon; END $$",
        ),
        ("5 role", "GRANT service_role TO anon"),
    ];
    for (libraries, workers) in [
        ("pg_cron", "off"),
        ("pg_cron", "on"),
        ("pg_cron,dragonfly_guard", "off"),
        ("dragonfly_guard,pg_cron", "on"),
    ] {
        let case = format!("{libraries}, cron.use_background_workers = {workers}");
        let database = "cron.database_name=app";
        let (cluster, mut client) = start(libraries, &[database]);
        client
            .batch_execute("CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO postgres")
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{case}");
        let mut migration = cluster.connect("app", "postgres");
        for (name, command) in jobs {
            migration
                .execute("SELECT cron.schedule($1, '@reboot', $2)", &[&name, &command])
                .unwrap();
        }
        // Where a job connects to. Nothing answers at the default, so that jobs are not executed
        // before the server has been started again.
        let folder = cluster.folder().display().to_string();
        client.execute("UPDATE cron.job SET nodename = $1", &[&folder]).unwrap();
        drop((client, migration));
        let data = cluster.stop();
        let cluster = Cluster::run(
            data,
            &[
                &format!("shared_preload_libraries={libraries}"),
                database,
                &format!("cron.use_background_workers={workers}"),
            ],
        );
        let mut client = cluster.connect("app", SUPERUSER);
        let is_hardened = libraries.contains("dragonfly_guard");
        eventually(
            &mut client,
            "SELECT concat_ws(' ', jobname, status, substring(return_message from \
             'ERROR: +([^:\n]*)')) FROM cron.job JOIN cron.job_run_details USING (jobid) \
             WHERE start_time > pg_postmaster_start_time() ORDER BY 1",
            &[
                "1 index succeeded",
                "2 function failed SECURITY DEFINER function public.unsafe() has no safe \
                 search_path",
                "3 grant failed GRANT violates the security contract",
                "4 at commit failed GRANT violates the security contract",
                // No event trigger fires, so that only a preloaded library checks it.
                if is_hardened {
                    "5 role failed GRANT ROLE violates the security contract"
                } else {
                    "5 role succeeded"
                },
            ],
        );
        let done = "SELECT concat_ws(' ', to_regclass('public.tasks_due'), \
                    to_regproc('public.unsafe'), pg_has_role('anon', 'service_role', 'MEMBER'))";
        let expected = format!("tasks_due {}", if is_hardened { "f" } else { "t" });
        assert_eq!(column(&mut client, done), [expected], "{case}");
        if is_hardened {
            assert_eq!(findings(&mut client), [""; 0], "{case}");
            eventually(
                &mut client,
                "SELECT DISTINCT rule FROM ops.v_guard_log WHERE event = 'rejected' ORDER BY rule",
                &["role_membership", "security_definer_search_path", "table_privileges"],
            );
        }
    }
}

#[test]
fn topologies_of_postgis_are_governed_like_other_schemas() {
    if is_missing("postgis_topology") {
        return;
    }
    for libraries in ["", "dragonfly_guard"] {
        let (cluster, mut client) = start(libraries, &[]);
        let notes = "SELECT count(*)::text FROM ops.audit_security() WHERE severity = 'info'";
        let before = column(&mut client, notes);
        client
            .batch_execute(
                "CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology;
                 SELECT topology.CreateTopology('roads', 4326);
                 SELECT AddGeometryColumn('public', 'plaintiffs', 'home', 4326, 'POINT', 2);
                 SELECT topology.AddTopoGeometryColumn('roads', 'public', 'plaintiffs', 'road', \
                 'LINE');",
            )
            .unwrap();
        // What its members leave open is information, as they are managed: a plan does not change
        // them, and nothing has to be exempted.
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        assert_ne!(column(&mut client, notes), before, "{libraries}");
        client.batch_execute("SELECT ops.assert_security()").unwrap();
        // A script of an update, which replaces every function.
        let updated = if libraries.is_empty() { "postgis_topology" } else { "postgis" };
        client
            .batch_execute(&format!(
                "UPDATE pg_extension SET extversion = 'ANY' WHERE extname = '{updated}'"
            ))
            .unwrap();
        client.batch_execute(&format!("ALTER EXTENSION {updated} UPDATE")).unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        // A topology is a schema like another one: the contract does not govern it, and a client
        // that can use it is found.
        client
            .batch_execute(
                "GRANT USAGE ON SCHEMA roads TO anon; GRANT SELECT ON roads.node TO anon",
            )
            .unwrap();
        assert_eq!(
            findings(&mut client),
            ["warning ungoverned_schema_access roads anon"],
            "{libraries}"
        );
        client.batch_execute("REVOKE USAGE ON SCHEMA roads FROM anon").unwrap();
        // Geometry columns of governed tables are columns like others.
        let grant = "GRANT SELECT (home) ON public.plaintiffs TO anon";
        assert_eq!(attempt(&mut client, grant).unwrap_err().code, "0LP01", "{libraries}");
        assert_guarded(&cluster, &mut client);
        client
            .batch_execute(
                "SELECT topology.DropTopology('roads'); DROP EXTENSION postgis_topology; \
                 DROP EXTENSION postgis CASCADE",
            )
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        assert_eq!(column(&mut client, notes), before, "{libraries}");
    }
}

#[test]
fn pgtap_tests_what_the_guard_rejects() {
    if is_missing("pgtap") {
        return;
    }
    for libraries in ["", "dragonfly_guard"] {
        let (cluster, mut client) = start(libraries, &[]);
        client
            .batch_execute(
                "CREATE EXTENSION pgtap; CREATE SCHEMA tests;
                 CREATE FUNCTION tests.test_rejected() RETURNS SETOF text LANGUAGE plpgsql AS $$
                 BEGIN
                   RETURN NEXT throws_ok('GRANT SELECT ON public.judgments TO anon', '0LP01');
                   RETURN NEXT throws_like('CREATE FUNCTION public.f() RETURNS int LANGUAGE sql
                     SECURITY DEFINER AS $f$SELECT 1$f$', '%has no safe search_path');
                 END $$;
                 CREATE FUNCTION tests.test_executed() RETURNS SETOF text LANGUAGE plpgsql AS $$
                 BEGIN
                   RETURN NEXT lives_ok('CREATE INDEX judgments_stage ON public.judgments (stage)');
                   RETURN NEXT has_index('public', 'judgments', 'judgments_stage', 'an index');
                   RETURN NEXT is_empty('SELECT * FROM ops.audit_security(
                     min_severity => $f$warning$f$)', 'no findings');
                 END $$",
            )
            .unwrap();
        let run = "SELECT runtests FROM runtests('tests'::name) WHERE runtests !~ '^ *#'";
        assert_eq!(
            column(&mut client, run),
            [
                "    ok 1",
                "    ok 2 - an index",
                "    ok 3 - no findings",
                "    1..3",
                "ok 1 - tests.test_executed",
                "    ok 1 - threw 0LP01",
                "    ok 2 - Should throw exception like '%has no safe search_path'",
                "    1..2",
                "ok 2 - tests.test_rejected",
                "1..2",
            ],
            "{libraries}"
        );
        // Each test is rolled back.
        let index = "SELECT to_regclass('public.judgments_stage')::text";
        assert_eq!(column(&mut client, index), [""], "{libraries}");
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        assert_guarded(&cluster, &mut client);
    }
}

#[test]
fn pg_repack_leaves_access_and_fingerprint_of_a_table() {
    if is_missing("pg_repack") {
        return;
    }
    for libraries in ["", "dragonfly_guard"] {
        let (cluster, mut client) = start(libraries, &[]);
        client
            .batch_execute(
                "CREATE EXTENSION pg_repack;
                 INSERT INTO public.judgments (case_number, amount) SELECT i, i FROM \
                 generate_series(1, 1000) i;
                 SELECT ops.freeze_schema('release', 'public')",
            )
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        let access = "SELECT concat_ws(' ', oid, relacl, relrowsecurity, relforcerowsecurity, \
                      relowner, (SELECT string_agg(p::text, ' ' ORDER BY oid) FROM pg_policy p \
                      WHERE polrelid = c.oid)) FROM pg_class c \
                      WHERE oid = 'public.judgments'::regclass";
        let audit = "SELECT md5(string_agg(a::text, '' ORDER BY a::text)) FROM \
                     ops.audit_security() a";
        let fingerprint = "SELECT ops.schema_fingerprint('public')";
        let file = "SELECT relfilenode::text FROM pg_class \
                    WHERE oid = 'public.judgments'::regclass";
        let mut facts = || [access, audit, fingerprint].map(|sql| column(&mut client, sql));
        let before = facts();
        let mut other = cluster.connect("app", SUPERUSER);
        let first_file = column(&mut other, file);
        for option in ["--no-order", "--order-by=stage", "--only-indexes"] {
            let arguments = ["-d", "app", "-t", "public.judgments", option];
            let output = cluster.client_program("pg_repack", &arguments);
            let messages = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{libraries}, {option}: {messages}");
            assert!(!messages.contains("WARNING"), "{libraries}, {option}: {messages}");
        }
        assert_ne!(column(&mut other, file), first_file, "{libraries}");
        assert_eq!(facts(), before, "{libraries}");
        let changed = "SELECT count(*)::text FROM ops.check_schema_consistency('release')";
        assert_eq!(column(&mut other, changed), ["0"], "{libraries}");
        // The same table is checked as before.
        let disable = "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY";
        assert_eq!(attempt(&mut other, disable).unwrap_err().code, "42P17", "{libraries}");
        assert_guarded(&cluster, &mut other);
    }
}

#[test]
fn partitions_of_pg_partman_are_checked() {
    if is_missing("pg_partman") {
        return;
    }
    for libraries in in_any_order("pg_partman_bgw") {
        let (cluster, mut client) = start(
            &libraries,
            &[
                "pg_partman_bgw.dbname=app",
                "pg_partman_bgw.interval=1",
                &format!("pg_partman_bgw.role={SUPERUSER}"),
            ],
        );
        client
            .batch_execute("CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        let mut migration = cluster.connect("app", "postgres");
        migration
            .batch_execute(
                "CREATE TABLE public.visits (id bigint, at timestamptz NOT NULL) \
                 PARTITION BY RANGE (at);
                 ALTER TABLE public.visits ENABLE ROW LEVEL SECURITY;
                 GRANT ALL ON public.visits TO service_role",
            )
            .unwrap();
        // Partitions inherit no privileges unless the extension is told to: the worker's are
        // missing.
        client
            .batch_execute(
                "SELECT partman.create_parent('public.visits', 'at', 'native', 'daily', \
                 p_premake => 1)",
            )
            .unwrap();
        let partitions = "SELECT count(*)::text FROM pg_inherits \
                          WHERE inhparent = 'public.visits'::regclass";
        // How many there are depends on the time of day.
        let first = column(&mut client, partitions).remove(0);
        let missing = findings(&mut client);
        assert_eq!(missing.len().to_string(), first, "{libraries}: {missing:?}");
        assert!(missing.len() > 1, "{libraries}: {missing:?}");
        assert!(
            missing.iter().all(|f| f.starts_with("error table_privileges public.visits_")
                && f.ends_with(" service_role")),
            "{libraries}: {missing:?}"
        );
        client
            .batch_execute(
                "UPDATE partman.part_config SET inherit_privileges = true, \
                 infinite_time_partitions = true;
                 SELECT partman.reapply_privileges('public.visits')",
            )
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        // The background worker creates the next partitions.
        client.batch_execute("UPDATE partman.part_config SET premake = 3").unwrap();
        let are_more = partitions.replace("count(*)", &format!("(count(*) > {first})"));
        eventually(&mut client, &are_more, &["true"]);
        let made = column(&mut client, partitions);
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        // Clients may read the parent by its policies. A partition with the parent's privileges has
        // no row security, so that it would show every row: maintenance fails until privileges are
        // no longer inherited.
        client
            .batch_execute(
                "SELECT ops.declare('GRANT SELECT ON public.visits TO authenticated; \
                 CREATE POLICY own ON public.visits FOR SELECT TO authenticated', \
                 note => 'visitors see their visits');
                 BEGIN;
                 CREATE POLICY own ON public.visits FOR SELECT TO authenticated USING (id = 1);
                 GRANT SELECT ON public.visits TO authenticated;
                 COMMIT;
                 UPDATE partman.part_config SET premake = 5",
            )
            .unwrap();
        let rejected = "ERROR:  COMMIT violates the security contract: table_privileges on table \
                        public.visits_";
        wait_for_log(&cluster, rejected);
        assert_eq!(column(&mut client, partitions), made, "{libraries}");
        assert_guarded(&cluster, &mut client);
    }
}

#[test]
fn plpgsql_check_and_the_guard_work_in_any_order_of_libraries() {
    if is_missing("plpgsql_check") {
        return;
    }
    for libraries in in_any_order("plpgsql_check") {
        let (cluster, mut client) = start(&libraries, &["plpgsql_check.mode=every_start"]);
        client
            .batch_execute(
                "CREATE EXTENSION plpgsql_check; CREATE SCHEMA jobs;
                 CREATE FUNCTION jobs.opens() RETURNS void LANGUAGE plpgsql
                   AS 'BEGIN GRANT SELECT ON public.judgments TO anon; END';
                 CREATE FUNCTION jobs.is_wrong() RETURNS int LANGUAGE plpgsql
                   AS 'BEGIN RETURN nothing FROM public.judgments; END';
                 CREATE FUNCTION jobs.indexes() RETURNS void LANGUAGE plpgsql
                   AS 'BEGIN CREATE INDEX judgments_stage ON public.judgments (stage); END'",
            )
            .unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        // A check executes nothing.
        let check =
            |name: &str| format!("SELECT message FROM plpgsql_check_function_tb('jobs.{name}()')");
        for name in ["opens", "indexes"] {
            assert_eq!(column(&mut client, &check(name)), [""; 0], "{libraries}: {name}");
        }
        let wrong = "column \"nothing\" does not exist";
        assert_eq!(column(&mut client, &check("is_wrong")), [wrong], "{libraries}");
        // A call is checked by both.
        let call = |name: &str| format!("SELECT jobs.{name}()");
        assert_eq!(attempt(&mut client, &call("is_wrong")).unwrap_err().message, wrong);
        let rejected = attempt(&mut client, &call("opens")).unwrap_err();
        assert_eq!(rejected.code, "0LP01", "{libraries}: {rejected:?}");
        client.batch_execute(&call("indexes")).unwrap();
        assert_guarded(&cluster, &mut client);
    }
}

#[test]
fn hypothetical_indexes_are_no_changes() {
    if is_missing("hypopg") {
        return;
    }
    for libraries in ["hypopg", "dragonfly_guard,hypopg"] {
        let (cluster, mut client) = start(libraries, &[]);
        client.batch_execute("CREATE EXTENSION hypopg").unwrap();
        let fingerprint = "SELECT ops.schema_fingerprint('public')";
        let before = column(&mut client, fingerprint);
        client
            .batch_execute(
                "SELECT hypopg_create_index('CREATE INDEX ON public.judgments (stage)');
                 SET enable_seqscan = off",
            )
            .unwrap();
        let plan = column(&mut client, "EXPLAIN SELECT * FROM public.judgments WHERE stage = 'a'");
        assert!(plan.iter().any(|line| line.contains("judgments_stage")), "{libraries}: {plan:?}");
        assert_eq!(column(&mut client, fingerprint), before, "{libraries}");
        assert_eq!(findings(&mut client), [""; 0], "{libraries}");
        assert_guarded(&cluster, &mut client);
    }
}

#[test]
fn apply_worker_of_a_subscription_is_guarded() {
    for libraries in ["", "dragonfly_guard"] {
        let (cluster, mut client) =
            start(libraries, &["wal_level=logical", "wal_retrieve_retry_interval=100ms"]);
        // Publisher and subscriber are databases of one server: the slot is created beforehand.
        client.batch_execute("CREATE DATABASE source").unwrap();
        let mut source = cluster.connect("source", SUPERUSER);
        source
            .batch_execute(
                "CREATE TABLE public.plaintiff_status_history (plaintiff_id bigint, status text, \
                 at timestamptz DEFAULT now());
                 CREATE PUBLICATION feed FOR ALL TABLES",
            )
            .unwrap();
        source
            .batch_execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
            .unwrap();
        // Each row that arrives is executed as a statement.
        client
            .batch_execute(&format!(
                "CREATE FUNCTION public.execute() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN EXECUTE NEW.status; RETURN NULL; END $$;
                 CREATE TRIGGER execute AFTER INSERT ON public.plaintiff_status_history
                   FOR EACH ROW EXECUTE FUNCTION public.execute();
                 ALTER TABLE public.plaintiff_status_history ENABLE ALWAYS TRIGGER execute;
                 CREATE SUBSCRIPTION feed CONNECTION 'host={} user={SUPERUSER} dbname=source'
                   PUBLICATION feed WITH (create_slot = false, copy_data = false, \
                 disable_on_error = true)",
                cluster.folder().display()
            ))
            .unwrap();
        let mut send = |statement: &str| {
            let insert = "INSERT INTO public.plaintiff_status_history (status) VALUES ($1)";
            source.execute(insert, &[&statement]).unwrap();
        };
        let applied = "SELECT status FROM public.plaintiff_status_history";
        let harmless = "CREATE INDEX judgments_stage ON public.judgments (stage)";
        send(harmless);
        eventually(&mut client, applied, &[harmless]);
        let index = "SELECT to_regclass('public.judgments_stage')::text";
        assert_eq!(column(&mut client, index), ["judgments_stage"], "{libraries}");
        // The worker fails at a statement that violates the contract, also where it is checked at
        // commit. What it has applied before stays.
        for (statement, error) in [
            (GRANT, "ERROR:  GRANT violates the security contract: table_privileges on table"),
            (UNSAFE, "ERROR:  SECURITY DEFINER function public.unsafe() has no safe search_path"),
            (
                "SET LOCAL dragonfly_guard.check_at = commit; \
                 ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY",
                "violates the security contract: rls_disabled on table public.judgments",
            ),
        ] {
            send(statement);
            let enabled = "SELECT subenabled::text FROM pg_subscription";
            eventually(&mut client, enabled, &["false"]);
            wait_for_log(&cluster, error);
            assert_eq!(findings(&mut client), [""; 0], "{libraries}: {statement}");
            // Without the trigger, what follows is applied.
            let table = "ALTER TABLE public.plaintiff_status_history";
            client
                .batch_execute(&format!(
                    "{table} DISABLE TRIGGER execute; ALTER SUBSCRIPTION feed ENABLE"
                ))
                .unwrap();
            send(error);
            let follows = format!("{applied} WHERE status = '{error}'");
            eventually(&mut client, &follows, &[error]);
            client.batch_execute(&format!("{table} ENABLE ALWAYS TRIGGER execute")).unwrap();
        }
        // GRANT of a role fires no event trigger: the worker must preload the library. From
        // PostgreSQL 16 on, the owner of the table executes the trigger and needs ADMIN OPTION.
        client.batch_execute("GRANT service_role TO postgres WITH ADMIN OPTION").unwrap();
        send("GRANT service_role TO anon");
        if libraries.is_empty() {
            let member = "SELECT pg_has_role('anon', 'service_role', 'MEMBER')::text";
            eventually(&mut client, member, &["true"]);
        } else {
            wait_for_log(&cluster, "GRANT ROLE violates the security contract");
        }
        client.batch_execute("ALTER SUBSCRIPTION feed DISABLE").unwrap();
        assert_guarded(&cluster, &mut client);
    }
}

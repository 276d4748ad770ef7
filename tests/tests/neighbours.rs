//! Other extensions with event triggers and hooks: they and the guard work together.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, has_extension, provide_extension};

const UNSAFE: &str =
    "CREATE FUNCTION public.unsafe() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

#[test]
fn pgaudit_works_in_any_order_of_libraries() {
    if !has_extension("pgaudit") {
        eprintln!("skipped: this PostgreSQL has no pgaudit");
        return;
    }
    for libraries in ["pgaudit", "pgaudit,dragonfly_guard", "dragonfly_guard,pgaudit"] {
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

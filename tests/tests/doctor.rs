//! The daily check, section 9 of the contract document: `ops.doctor()` reports passing and failing
//! checks.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};

/// The failing checks but the one of the minor release, which depends on the server under test.
const FAILING: &str = "SELECT concat_ws(' | ', area, object, detail) FROM ops.doctor() WHERE NOT \
                       ok AND area <> 'server'";

#[test]
fn doctor_passes_on_conforming_database() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    assert_eq!(column(&mut client, FAILING), [""; 0]);
    let counts =
        "SELECT area || ' ' || count(*) FROM ops.doctor() GROUP BY area ORDER BY min(detail), area";
    let mut counted = column(&mut client, counts);
    counted.sort();
    assert_eq!(
        counted,
        [
            "audit 1",
            "function 6",
            "guard 1",
            "identity 1",
            "postgrest 9",
            "role 4",
            "schema 5",
            "server 1",
            "table 12",
            "view 9"
        ]
    );
    // In a read-only transaction, and for workers but not for clients.
    client
        .batch_execute(
            "BEGIN READ ONLY; SELECT * FROM ops.doctor(); ROLLBACK; SET ROLE service_role",
        )
        .unwrap();
    assert_eq!(column(&mut client, FAILING), [""; 0], "a worker sees the same");
    client.batch_execute("SET ROLE anon").unwrap();
    assert_eq!(attempt(&mut client, "SELECT * FROM ops.doctor()").unwrap_err().code, "42501");
}

/// Flaws of the running server are reported, and views of extended statistics that show too much.
#[test]
fn doctor_reports_flaws_of_the_server_in_row_security() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let of_server = "SELECT concat_ws(' | ', object, ok::text, detail) FROM ops.doctor()
          WHERE area = 'server' ORDER BY ok DESC";
    let release = column(&mut client, "SHOW server_version_num").remove(0).parse::<u32>().unwrap();
    let (major, minor) = (release / 10_000, release % 10_000);
    let fixed = match major {
        15 => 20,
        16 => 16,
        17 => 12,
        18 => 7,
        _ => 0,
    };
    let rows = column(&mut client, of_server);
    let [row] = rows.as_slice() else { panic!("{rows:#?}") };
    let is_passing = minor >= fixed;
    assert!(row.starts_with(&format!("PostgreSQL {major}.{minor} | {is_passing} | ")), "{row}");
    assert_eq!(row.contains(&format!("Install PostgreSQL {major}.{fixed} or")), !is_passing);
    // A view as it was before.
    client
        .batch_execute(
            "SET allow_system_table_mods = on; SET dragonfly_guard.mode = off;
             DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stats_ext
                 WITH (security_barrier) AS '
                 || replace(pg_get_viewdef('pg_catalog.pg_stats_ext'::regclass),
                     'pg_has_role(c.relowner, ''USAGE''::text)', 'true'); END $$",
        )
        .unwrap();
    let rows = column(&mut client, of_server);
    if major <= 16 {
        let last = rows.last().expect("a row");
        assert!(
            last.starts_with("pg_stats_ext | false | ") && last.contains("fix-CVE-2024-4317.sql"),
            "{rows:#?}"
        );
    } else {
        assert_eq!(rows.len(), 1, "{rows:#?}");
    }
}

#[test]
fn doctor_tells_what_the_contract_trusts() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let trusted = "SELECT detail FROM ops.doctor() WHERE area = 'identity' AND ok";
    let before = column(&mut client, trusted).remove(0);
    assert!(before.contains("functions auth.jwt() and auth.uid()"), "{before}");
    assert!(before.ends_with("the contract declares nothing else."), "{before}");
    client
        .batch_execute(
            "SELECT ops.declare($$SET contract.identity.settings.app.tenant = tenant$$,
             'who it is')",
        )
        .unwrap();
    let after = column(&mut client, trusted).remove(0);
    assert!(after.contains("parameters app.tenant and request.jwt.claims"), "{after}");
    assert!(after.contains("what the contract declares"), "{after}");
}

#[test]
fn doctor_reports_problems_with_their_fixes() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             DROP VIEW ops.v_reaper_status;
             REVOKE SELECT ON public.v_judgment_pipeline FROM anon;
             DROP POLICY judgments_read ON public.judgments;
             CREATE TABLE public.sums (id int);
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql STABLE \
             SECURITY DEFINER
               SET search_path = public, pg_temp AS $$ SELECT jsonb_build_object('amount', \
             sum(id)) FROM sums $$;
             DROP TABLE public.sums;
             ALTER ROLE authenticator SET pgrst.db_schemas = 'public, api, reports';
             ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, FAILING),
        [
            "table | public.judgments | No policy on table public.judgments allows \
             role \"authenticated\" to SELECT, which the contract declares.",
            "view | public.v_judgment_pipeline | Role \"anon\" does not have SELECT on \
             view public.v_judgment_pipeline, which the contract declares.",
            "view | ops.v_reaper_status | View ops.v_reaper_status, which the contract declares, \
             does not exist.",
            "function | api.get_ceo_metrics() | Its body is not valid: relation \"sums\" does not \
             exist.",
            "guard | dragonfly_guard | Event trigger zz_dragonfly_guard_end is disabled.",
            "postgrest | pgrst.db_schemas | Exposes reports, which does not exist.",
            "audit | ops.audit_security() | 4 errors and 0 warnings: ops.audit_security() lists \
             them.",
        ]
    );
    for fix in column(
        &mut client,
        "SELECT fix FROM ops.doctor() WHERE fix IS NOT NULL AND area <> 'audit'",
    ) {
        attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
    }
    let failing =
        column(&mut client, "SELECT object FROM ops.doctor() WHERE NOT ok AND area <> 'server'");
    assert_eq!(
        failing,
        [
            "public.judgments",
            "ops.v_reaper_status",
            "api.get_ceo_metrics()",
            "ops.audit_security()"
        ]
    );
}

/// Access that is granted and fails all the same: a view whose owner has no privileges on its
/// tables, a policy that reads its own table, a sequence.
#[test]
fn doctor_reports_granted_access_that_fails() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE other; ALTER VIEW \
             public.v_judgment_pipeline OWNER TO other;
             REVOKE ALL ON SEQUENCE public.job_queue_id_seq FROM service_role;
             CREATE POLICY again ON public.judgments FOR SELECT TO authenticated USING (EXISTS \
             (SELECT FROM public.judgments))",
        )
        .unwrap();
    let failing = "SELECT object || ': ' || detail FROM ops.doctor() WHERE area IN ('table', \
                   'view') AND NOT ok";
    let found = column(&mut client, failing);
    for line in [
        "public.job_queue: Role \"service_role\" cannot INSERT, which the contract declares: \
         permission denied for sequence job_queue_id_seq.",
        "public.judgments: Role \"authenticated\" cannot SELECT, which the contract declares: \
         infinite recursion detected in policy for \
         relation \"judgments\".",
    ] {
        assert!(found.iter().any(|f| f.contains(line)), "{line}\n{found:#?}");
    }
    let view = found.iter().find(|f| f.starts_with("public.v_judgment_pipeline")).unwrap();
    assert!(view.contains("permission denied for table judgments"), "{view}");
}

/// Functions that a default, a CHECK, a view or a policy calls, and a sequence: what the doctor
/// says about declared access is the verdict of `ops.explain_access()` and what the server does,
/// and its fixes restore the access.
#[test]
fn doctor_agrees_with_explain_access_and_the_server() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE FUNCTION enforcement.token() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN \
             1; END';
             CREATE FUNCTION enforcement.is_name(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql \
             AS 'BEGIN RETURN true; END';
             CREATE FUNCTION enforcement.weight(bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN \
             RETURN $1; END';
             CREATE FUNCTION enforcement.is_mine(bigint) RETURNS boolean STABLE LANGUAGE plpgsql \
             AS 'BEGIN RETURN true; END';
             REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA enforcement FROM PUBLIC, anon, \
             authenticated, service_role;
             ALTER TABLE intake.simplicity_batches ADD token text DEFAULT enforcement.token();
             ALTER TABLE public.plaintiffs ADD CHECK (enforcement.is_name(name));
             CREATE OR REPLACE VIEW public.v_collectability_snapshot AS SELECT tier, \
             enforcement.weight(count(*)) AS judgments FROM public.judgments GROUP BY tier;
             ALTER POLICY judgments_read ON public.judgments USING (enforcement.is_mine(id));
             REVOKE ALL ON SEQUENCE public.job_queue_id_seq FROM service_role; RESET ROLE",
        )
        .unwrap();
    let failing = "SELECT object, m[1], m[2], m[3] FROM ops.doctor(), LATERAL \
                   regexp_matches(detail, 'Role \"(\\w+)\" cannot (\\w+), which the contract \
                   declares: ([^.]+)\\.', 'g') m WHERE NOT ok AND area IN ('table', 'view')";
    let found = client.query(failing, &[]).unwrap();
    let mut shown = Vec::new();
    for row in &found {
        let (object, role, privilege, error): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let verdict = column(
            &mut client,
            &format!(
                "SELECT detail FROM ops.explain_access('{role}', '{object}', '{privilege}') WHERE \
                 step = 'verdict'"
            ),
        );
        assert_eq!(verdict, [format!("Denied: {error}.")], "{role} {privilege} {object}");
        shown.push(format!("{role} {privilege} {object}"));
    }
    shown.sort();
    assert_eq!(
        shown,
        [
            "anon SELECT public.v_collectability_snapshot",
            "authenticated INSERT intake.simplicity_batches",
            "authenticated SELECT public.judgments",
            "authenticated SELECT public.v_collectability_snapshot",
            "service_role INSERT intake.simplicity_batches",
            "service_role INSERT public.job_queue",
            "service_role INSERT public.plaintiffs",
            "service_role SELECT public.v_collectability_snapshot",
            "service_role UPDATE public.plaintiffs",
        ]
    );
    let statements = [
        ("authenticated", "SELECT * FROM public.judgments"),
        ("authenticated", "INSERT INTO intake.simplicity_batches (file_name) VALUES ('a')"),
        ("service_role", "INSERT INTO public.plaintiffs (name) VALUES ('a')"),
        ("service_role", "INSERT INTO public.job_queue (kind) VALUES ('a')"),
        ("anon", "SELECT * FROM public.v_collectability_snapshot"),
    ];
    let outcomes = |client: &mut postgres::Client| {
        statements.map(|(role, statement)| {
            let sql = format!("BEGIN; SET LOCAL ROLE {role}; {statement}");
            let result = attempt(client, &sql).map_err(|e| e.code);
            client.batch_execute("ROLLBACK").unwrap();
            result
        })
    };
    assert!(outcomes(&mut client).iter().all(|o| o.as_ref().is_err_and(|code| code == "42501")));
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    for fix in column(
        &mut client,
        "SELECT fix FROM ops.doctor() WHERE fix IS NOT NULL AND area IN ('table', 'view')",
    ) {
        attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
    }
    assert_eq!(outcomes(&mut client), [const { Ok(()) }; 5]);
    assert_eq!(client.query(failing, &[]).unwrap().len(), 0);
}

/// An access that no role can have is reported where the contract names it, and not where it
/// declares every privilege. UPDATE without SELECT is allowed and of little use.
#[test]
fn doctor_reports_access_that_no_role_can_have() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE anon; CREATE ROLE worker; CREATE TABLE \
             public.t (id int); ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON public.t FOR UPDATE TO anon USING (id > 0); CREATE VIEW public.v \
             AS SELECT count(*) AS n FROM public.t;
             GRANT UPDATE ON public.t TO anon; GRANT SELECT, INSERT ON public.v TO anon; GRANT ALL \
             ON public.v TO worker",
        )
        .unwrap();
    client
        .batch_execute(
            r#"SELECT ops.load_contract('{"name": "x", "version": "2.0.0", "roles": [{"name":
             "anon", "kind": "client"}, {"name": "worker", "kind": "worker"}], "schemas": [{"name":
             "public", "usage": ["anon", "worker"]}], "tables": [{"schema": "public", "name": "t",
             "row_security": true, "grants": {"anon": ["UPDATE"]}, "policies": {"anon":
             ["UPDATE"]}}], "views": [{"schema": "public", "name": "v", "grants": {"anon":
             ["SELECT", "INSERT"], "worker": ["ALL"]}}], "security_definer": {"search_path":
             ["pg_catalog", "pg_temp"]}}', 'test')"#,
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(
        column(
            &mut client,
            "SELECT concat_ws(' | ', object, ok, detail) FROM ops.doctor() WHERE area IN \
             ('table', 'view')"
        ),
        [
            "public.t | t | Exists, with row security, for \"anon\". Role \"anon\" does not have \
             SELECT, so that UPDATE and DELETE with a WHERE are denied.",
            "public.v | f | Role \"anon\" cannot INSERT, which the contract declares: cannot \
             insert into view \"v\".",
        ]
    );
}

/// The server prevents that the tables and functions of a view are dropped, but not the tables that
/// the bodies of those functions name, and not errors of evaluation.
#[test]
fn views_are_readable_where_the_session_restricts_the_kind_of_relations() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let failing = "SELECT object || ' ' || detail FROM ops.doctor() WHERE NOT ok \
                   AND area <> 'server'";
    let read = "SELECT concat_ws(' ', ok, step, detail, fix) FROM ops.explain_access('anon', \
                'public.v_judgment_pipeline', 'SELECT') ORDER BY link";
    let before = (column(&mut client, failing), column(&mut client, read));
    assert!(before.1.iter().all(|step| step.starts_with('t')), "{before:?}");
    client.batch_execute("SET restrict_nonsystem_relation_kind = 'view, foreign-table'").unwrap();
    attempt(&mut client, "SELECT * FROM public.v_judgment_pipeline").unwrap_err();
    assert_eq!((column(&mut client, failing), column(&mut client, read)), before);
}

#[test]
fn doctor_reports_views_that_cannot_be_planned() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE TABLE public.sums (id int);
             CREATE FUNCTION public.all_sums() RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id \
             FROM sums';
             CREATE VIEW public.v_sums AS SELECT * FROM public.all_sums();
             ALTER VIEW ops.v_reaper_status RENAME TO v_old;
             CREATE VIEW ops.v_reaper_status AS SELECT 100 / 0 AS share FROM ops.v_old; GRANT ALL \
             ON ops.v_reaper_status TO service_role;
             RESET ROLE",
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
    let failing = "SELECT object || ': ' || detail FROM ops.doctor() WHERE area = 'view' AND NOT \
                   ok";
    assert_eq!(
        column(&mut client, failing),
        ["ops.v_reaper_status: Cannot be read: division by zero."]
    );
    client.batch_execute("SET dragonfly_guard.mode = off; DROP TABLE public.sums").unwrap();
    assert_eq!(
        column(&mut client, failing),
        [
            "ops.v_reaper_status: Cannot be read: division by zero.",
            "public.v_sums: Cannot be read: relation \"sums\" does not exist.",
        ]
    );
}

/// Planning a query executes functions with constant arguments, in views and in the indexes of
/// their tables; reading a literal executes the checks of its type. The doctor executes no
/// untrusted code and reports what was not checked.
#[test]
fn doctor_executes_no_untrusted_code() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; CREATE TABLE public.stolen (by \
             name);
             GRANT CREATE ON SCHEMA public TO mallory; GRANT INSERT ON public.stolen TO PUBLIC; \
             SET ROLE mallory;
             CREATE FUNCTION public.evil(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'it runs as %', current_user; END $$;
             CREATE VIEW public.v_own AS SELECT 1 AS one WHERE public.evil(1) = 1;
             RESET ROLE;
             CREATE VIEW public.v_super AS SELECT * FROM public.judgments WHERE id = public.evil(1);
             CREATE VIEW public.v_nested AS SELECT * FROM public.v_super;
             CREATE VIEW public.v_migration AS SELECT * FROM public.judgments WHERE id = \
             public.evil(1);
             ALTER VIEW public.v_migration OWNER TO postgres;
             CREATE VIEW public.v_broken AS SELECT * FROM public.judgments WHERE id = 1 / (id - \
             id)",
        )
        .unwrap();
    // Nor an index expression of the table's owner, which the planner would execute.
    client
        .batch_execute(
            "SET ROLE mallory; CREATE FUNCTION public.sly(int) RETURNS int IMMUTABLE LANGUAGE \
             plpgsql AS
               $$ BEGIN IF current_user <> 'mallory' THEN RAISE EXCEPTION 'it runs as %', \
             current_user; END IF; RETURN 1; END $$;
             CREATE TABLE public.trap (x int); CREATE INDEX ON public.trap ((x + public.sly(1)));
             GRANT SELECT ON public.trap TO PUBLIC; RESET ROLE; CREATE VIEW public.v_index AS \
             SELECT x FROM public.trap",
        )
        .unwrap();
    client
        .batch_execute(
            "ALTER VIEW ops.v_reaper_status RENAME TO v_old; CREATE VIEW ops.v_reaper_status AS \
             SELECT public.evil(1) FROM ops.v_old;
             GRANT ALL ON ops.v_reaper_status TO service_role;",
        )
        .unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT object || detail FROM ops.doctor() WHERE area = 'view' AND NOT ok"
        ),
        [""; 0]
    );
    // Nor does it contact another server.
    if column(
        &mut client,
        "SELECT name::text FROM pg_available_extensions WHERE name = 'postgres_fdw'",
    ) == ["postgres_fdw"]
    {
        client
            .batch_execute(
                "CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER \
                 postgres_fdw OPTIONS (host 'nowhere.invalid');
                 CREATE USER MAPPING FOR PUBLIC SERVER elsewhere; CREATE TABLE public.near (id \
                 int) PARTITION BY LIST (id);
                 CREATE FOREIGN TABLE public.far PARTITION OF public.near DEFAULT SERVER elsewhere \
                 OPTIONS (use_remote_estimate 'true');
                 CREATE VIEW public.v_far AS SELECT * FROM public.near; CREATE VIEW \
                 public.v_farther AS SELECT * FROM public.far",
            )
            .unwrap();
        assert_eq!(
            column(
                &mut client,
                "SELECT object || detail FROM ops.doctor() WHERE area = 'view' AND NOT ok"
            ),
            [""; 0]
        );
    }
    let detail = "SELECT detail FROM ops.doctor() WHERE object = 'ops.v_reaper_status'";
    assert_eq!(
        column(&mut client, detail),
        ["Exists (its query was not planned: untrusted roles can create objects in its \
             search_path), for \"service_role\"."]
    );
    // Reading a literal of a domain executes the checks of the domain.
    client
        .batch_execute(
            "SET ROLE mallory; CREATE FUNCTION public.look(int) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'it runs as %', current_user; END $$;
             CREATE DOMAIN public.bait AS int; RESET ROLE;
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql SECURITY \
             DEFINER
               SET search_path = pg_catalog, pg_temp AS $$ SELECT to_jsonb('{1}'::public.bait[]) $$;
             ALTER DOMAIN public.bait ADD CHECK (public.look(VALUE)) NOT VALID",
        )
        .unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT substring(detail FROM '[(].*was not checked[^)]*') FROM ops.doctor() WHERE \
             object = 'api.get_ceo_metrics()'"
        ),
        ["(its body was not checked: reading a value of type public.bait could execute code"]
    );
}

/// Built-in functions can execute queries, keep locks and write files, so that domains and views
/// that call only these are untrusted code too.
#[test]
fn doctor_executes_no_built_in_functions_with_side_effects() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres; CREATE TABLE ops.secrets AS SELECT \
             'hunter2' AS secret; REVOKE ALL ON ops.secrets FROM PUBLIC;
             CREATE FUNCTION api.stages() RETURNS text[] IMMUTABLE LANGUAGE sql SET search_path = \
             '' AS $$ SELECT '{call,mail}'::text[] $$;
             CREATE VIEW public.v_stages WITH (security_invoker) AS SELECT * FROM public.judgments \
             WHERE stage = ANY (api.stages());
             RESET ROLE; REVOKE ALL ON ops.secrets FROM service_role;
             CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO mallory; GRANT USAGE ON SCHEMA \
             ops TO mallory; SET ROLE mallory;
             CREATE SEQUENCE public.told; GRANT ALL ON public.told TO PUBLIC;
             CREATE VIEW public.v_run AS SELECT setval('public.told', 99), \
             pg_advisory_lock(4242)::text; GRANT SELECT ON public.v_run TO PUBLIC;
             CREATE VIEW public.v_asks AS SELECT oid FROM pg_class WHERE relname <= \
             table_to_xml('public.v_run', false, false, '')::text;
             GRANT SELECT ON public.v_asks TO PUBLIC; RESET ROLE; SET ROLE postgres; CREATE VIEW \
             public.v_over AS SELECT * FROM public.v_asks; RESET ROLE",
        )
        .unwrap();
    // (A server that was built without XML reports that.)
    let wrong = "SELECT concat(object, ': ', detail) FROM ops.doctor()
        WHERE detail LIKE '%hunter2%' OR NOT ok AND area = 'view' AND detail NOT LIKE '%XML%'";
    assert_eq!(column(&mut client, wrong), [""; 0]);
    let left = "SELECT last_value || ' ' || (SELECT count(*) FROM pg_locks WHERE locktype = \
                'advisory' AND objid = 4242) FROM public.told";
    assert_eq!(column(&mut client, left), ["1 0"]);
    // A temporary type of a worker takes precedence over the server's.
    let mut worker = cluster.connect("app", dragonfly_tests::SUPERUSER);
    for check in [
        "query_to_xml('SELECT current_user || '':'' || (SELECT secret FROM ops.secrets)', false, \
         false, '')::pg_catalog.text::int > 0",
        "query_to_xml('SELECT * FROM ops.doctor()', false, false, '') IS NOT NULL",
        "pg_advisory_lock(4242) IS NOT NULL",
    ] {
        worker
            .batch_execute(&format!(
                "SET ROLE service_role; CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK \
                 ({check}); SELECT * FROM ops.doctor()"
            ))
            .unwrap();
        assert_eq!(column(&mut worker, wrong), [""; 0], "{check}");
        worker.batch_execute("DROP DOMAIN pg_temp.text").unwrap();
    }
    assert_eq!(column(&mut client, left), ["1 0"]);
}

/// A view and functions that call `ops.doctor()`.
#[test]
fn doctor_does_not_call_itself() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE FUNCTION public.health() RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT \
             count(*) FROM ops.doctor()';
             CREATE FUNCTION public.loud() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN \
             RETURN (SELECT count(*) FROM ops.doctor()); END';
             CREATE VIEW public.v_health AS SELECT public.health(), public.loud();
             ALTER VIEW ops.v_reaper_status RENAME TO v_old; CREATE VIEW ops.v_reaper_status AS \
             SELECT public.loud() FROM ops.v_old;
             GRANT ALL ON ops.v_reaper_status TO service_role; RESET ROLE",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, "SELECT detail FROM ops.doctor() WHERE object = 'ops.v_reaper_status'"),
        ["Exists (its query was not planned: it would call function public.loud(), which is \
             owned by \"postgres\"), for \"service_role\"."]
    );
    assert_eq!(
        column(&mut client, "SELECT object FROM ops.doctor() WHERE area = 'view' AND NOT ok"),
        [""; 0]
    );
    // The hooks are restored: functions are executed again.
    assert_eq!(column(&mut client, "SELECT (public.loud() > 40)::text"), ["true"]);
}

/// Locks, settings of a request, settings of a function and settings of the session cause no
/// failing check.
#[test]
fn doctor_reports_no_temporary_conditions() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
              CREATE FUNCTION public.uid() RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RAISE \
             'not logged in'; END $$;
              CREATE VIEW public.v_request AS SELECT * FROM public.judgments WHERE stage = \
             current_setting('app.stage');
              CREATE FUNCTION public.as_anon(int) RETURNS int IMMUTABLE LANGUAGE plpgsql SET role \
             = 'anon' AS 'BEGIN RETURN 1; END';
              CREATE VIEW public.v_role AS SELECT * FROM public.judgments WHERE id = \
             public.as_anon(1);
              CREATE VIEW public.v_class AS SELECT * FROM public.judgments WHERE id = \
             ((current_user || '_t')::regclass)::oid::bigint;
              CREATE VIEW public.v_empty AS SELECT * FROM public.judgments WHERE id = \
             current_setting('app.id', true)::bigint;
              CREATE VIEW public.v_user AS SELECT * FROM public.judgments WHERE stage = \
             public.uid();
              CREATE MATERIALIZED VIEW public.m_empty AS SELECT 1 AS one WITH NO DATA;
              CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql STABLE \
             SECURITY DEFINER
                SET search_path = public, pg_temp SET datestyle = 'ISO, DMY' AS $$ SELECT \
             to_jsonb('31/12/2020'::date) || to_jsonb('C:'::text) $$;
              RESET ROLE; SET app.id = ''; SET standard_conforming_strings = off",
        )
        .unwrap();
    // A search_path that is a single name with quotes in it, by mistake.
    client.batch_execute(r#"ALTER DATABASE app SET search_path = '"$user", public'"#).unwrap();
    let mut client = cluster.connect("app", dragonfly_tests::SUPERUSER);
    client.batch_execute("SET app.id = ''; SET standard_conforming_strings = off").unwrap();
    let failing = "SELECT object || ': ' || detail FROM ops.doctor() WHERE area IN ('view', \
                   'function') AND NOT ok";
    let empty =
        "public.m_empty: Cannot be read: materialized view public.m_empty has not been populated.";
    assert_eq!(column(&mut client, failing), [empty]);
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    other.batch_execute("BEGIN; LOCK TABLE public.plaintiffs").unwrap();
    client.batch_execute("SET lock_timeout = '50ms'").unwrap();
    assert_eq!(column(&mut client, failing), [empty]);
    let detail = column(
        &mut client,
        "SELECT detail FROM ops.doctor() WHERE object = 'public.v_plaintiffs_overview'",
    );
    assert!(
        detail[0].starts_with(
            "Exists (its query was not planned: an object that it uses is \
                               locked)"
        ),
        "{detail:?}"
    );
    assert!(
        detail[0].ends_with("Access was not tested: canceling statement due to lock timeout."),
        "{detail:?}"
    );
    // After the first lock that is not available, the doctor waits only briefly for others.
    other
        .batch_execute(
            "LOCK TABLE public.judgments, public.job_queue, ops.event_log, intake.simplicity_raw, \
             public.plaintiff_tasks",
        )
        .unwrap();
    client
        .batch_execute(
            "SET lock_timeout = 0; SET statement_timeout = '8s'; SELECT * FROM ops.doctor()",
        )
        .unwrap();
}

/// An error while a view is read leaves the session intact: the nesting of this one exceeds the
/// stack of the reader but not that of the server.
#[test]
fn session_survives_errors_in_deeply_nested_objects() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let deep = (0..3_000).fold("id".to_owned(), |inner, _| format!("coalesce({inner}, 1)"));
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; SET ROLE postgres; CREATE TABLE public.deep_table AS \
             SELECT 1 AS id;
             CREATE VIEW public.deep AS SELECT {deep} AS id FROM public.deep_table; GRANT SELECT \
             ON public.deep TO service_role;
             ALTER VIEW ops.v_reaper_status RENAME TO v_old; CREATE VIEW ops.v_reaper_status AS \
             SELECT o.* FROM ops.v_old o, public.deep;
             GRANT ALL ON ops.v_reaper_status TO service_role; RESET ROLE; SET statement_timeout = \
             '20s'"
        ))
        .unwrap();
    let ask = "SELECT * FROM ops.explain_access('service_role', 'public.deep', 'SELECT')";
    for around in [
        "{}",
        "BEGIN; SAVEPOINT a; {}",
        "DO $$ BEGIN PERFORM * FROM ({}) x; EXCEPTION WHEN others THEN NULL; END $$",
    ] {
        let _ = client.simple_query(&around.replace("{}", ask));
        let _ = client.simple_query("ROLLBACK TO a");
        let _ = client.simple_query("COMMIT");
        assert_eq!(column(&mut client, "SELECT (5 + 1)::text"), ["6"], "{around}");
        client.batch_execute("BEGIN; SELECT * FROM ops.doctor(); ROLLBACK").unwrap();
        assert_eq!(column(&mut client, "SELECT (5 + 1)::text"), ["6"], "{around}");
    }
    // Rules that write to each other, each deeply nested; a deeply nested domain; tables that
    // inherit from each other in every combination.
    let nested = |n: usize, inner: &str| {
        (0..n).fold(inner.to_owned(), |inner, _| format!("coalesce({inner}, 1)"))
    };
    let rules: String = (1..=12)
        .map(|i| {
            let value = nested(1_600, "NEW.x");
            format!(
                "CREATE TABLE public.r{i} (x int); CREATE RULE u AS ON UPDATE TO public.r{i} DO \
                 INSTEAD UPDATE public.r{} SET x = {value};",
                i - 1
            )
        })
        .collect();
    let family: String = (1..=24)
        .map(|i| {
            let j = i - 1;
            format!(
                "CREATE TABLE public.a{i} () INHERITS (public.a{j}, public.b{j}); CREATE TABLE \
                 public.b{i} () INHERITS (public.a{j}, public.b{j});"
            )
        })
        .collect();
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; CREATE TABLE public.r0 (x int); {rules}
             CREATE DOMAIN public.deep_domain AS int CHECK ({} > 0);
             CREATE TABLE public.a0 (); CREATE TABLE public.b0 (); {family}",
            nested(1_500, "VALUE")
        ))
        .unwrap();
    let error =
        attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'public.r12', 'UPDATE')")
            .unwrap_err();
    assert_eq!(error.code, "54001");
    // Rules that double with each table: the server cannot be interrupted while it rewrites them.
    let doubling: String = (1..=18)
        .map(|i| {
            let j = i - 1;
            format!(
                "CREATE TABLE public.d{i} (a int); CREATE RULE r1 AS ON INSERT TO public.d{i} DO \
                 ALSO INSERT INTO public.d{j} VALUES (new.a);
                 CREATE RULE r2 AS ON INSERT TO public.d{i} DO ALSO INSERT INTO public.d{j} VALUES \
                 (new.a + 1);"
            )
        })
        .collect();
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; CREATE TABLE public.d0 (a int); {doubling}"
        ))
        .unwrap();
    let error =
        attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'public.d18', 'INSERT')")
            .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("54001", "public.d18 depends on too many views or rules")
    );
    client
        .batch_execute("SELECT * FROM ops.explain_access('anon', 'public.d5', 'INSERT')")
        .unwrap();
    client
        .batch_execute(
            "SELECT * FROM ops.explain_access('anon', 'public.a0', 'DELETE'); SELECT * \
                        FROM ops.doctor()",
        )
        .unwrap();
    client.batch_execute("DROP DOMAIN public.deep_domain").unwrap();
    // A check that is cancelled.
    client.batch_execute("SET statement_timeout = '3ms'").unwrap();
    for _ in 0..30 {
        let _ = client.simple_query("SELECT * FROM ops.doctor()");
    }
    client.batch_execute("SET statement_timeout = 0").unwrap();
    assert_eq!(
        column(&mut client, "SELECT count(*)::text FROM ops.doctor() WHERE area = 'guard'"),
        ["1"]
    );
}

/// No hook sees the code of ranges and domains, so that nothing is probed while there are some that
/// do more than compute. Temporary types of other sessions do not matter.
#[test]
fn doctor_checks_no_body_while_a_type_could_execute_code() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let body = |client: &mut postgres::Client| {
        column(client, "SELECT detail FROM ops.doctor() WHERE object = 'api.get_ceo_metrics()'")[0]
            .clone()
    };
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    other
        .batch_execute("CREATE DOMAIN pg_temp.x AS int CHECK (pg_advisory_lock(VALUE) IS NOT NULL)")
        .unwrap();
    client
        .batch_execute(
            "CREATE DOMAIN public.plain AS text CHECK (VALUE ~ '^[a-z]+$' AND length(VALUE) < 9)",
        )
        .unwrap();
    assert!(body(&mut client).starts_with("Exists and its body is valid"), "{}", body(&mut client));
    for (made, gone) in [
        ("CREATE DOMAIN ops.lock AS int CHECK (pg_advisory_lock(VALUE) IS NOT \
          NULL)", "DROP DOMAIN ops.lock"),
        (
            "SET ROLE postgres; CREATE FUNCTION ops.ok(int) RETURNS boolean LANGUAGE sql AS \
             'SELECT $1 > 0'; CREATE DOMAIN ops.d AS int CHECK (ops.ok(VALUE))",
            "DROP DOMAIN ops.d",
        ),
        (
            "CREATE FUNCTION ops.far(int, int) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS 'BEGIN \
             RETURN $1 - $2; END';
             CREATE TYPE ops.r AS RANGE (subtype = int, subtype_diff = ops.far)",
            "DROP TYPE ops.r",
        ),
    ] {
        client.batch_execute(&format!("SET dragonfly_guard.mode = off; {made}; RESET \
                                       ROLE")).unwrap();
        assert!(body(&mut client).contains("could execute code"), "{made}: {}", body(&mut client));
        client.batch_execute(gone).unwrap();
        assert!(body(&mut client).starts_with("Exists and its body is \
            valid"), "{gone}: {}", body(&mut client));
    }
}

/// 150 nested views.
#[test]
fn doctor_limits_memory_on_nested_views() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let views: String = (1..=150)
        .map(|i| format!("CREATE VIEW public.v{i} AS SELECT * FROM public.v{};", i - 1))
        .collect();
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; SET ROLE postgres; CREATE VIEW public.v0 AS SELECT * \
             FROM public.judgments; {views} RESET ROLE"
        ))
        .unwrap();
    let started = std::time::Instant::now();
    client.batch_execute("SELECT * FROM ops.doctor()").unwrap();
    let pid = column(&mut client, "SELECT pg_backend_pid()::text")[0].clone();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    println!("{:?}, {peak:?} kB", started.elapsed());
    assert!(peak.unwrap() < 400_000, "{peak:?} kB");
}

/// A daily check must not wait for the end of a long migration, nor once for each statement that
/// it tries on the locked table.
#[test]
fn locked_table_is_waited_for_once_and_not_for_long() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let mut migration = cluster.connect("app", SUPERUSER);
    migration
        .batch_execute("BEGIN; LOCK TABLE public.plaintiffs IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    client.batch_execute("SET lock_timeout = '1s'").unwrap();
    let started = std::time::Instant::now();
    let unchecked = "SELECT count(*)::text FROM ops.doctor() WHERE detail LIKE '%is locked%'";
    assert_ne!(column(&mut client, unchecked), ["0"]);
    let elapsed = started.elapsed();
    assert!(elapsed < std::time::Duration::from_secs(4), "{elapsed:?}");
    client.batch_execute("RESET lock_timeout").unwrap();
    for call in [
        "SELECT * FROM ops.explain_access('anon', 'public.plaintiffs')",
        "SELECT ops.schema_fingerprint()",
        "SELECT ops.schema_snapshot()",
    ] {
        let started = std::time::Instant::now();
        let error = attempt(&mut client, call).unwrap_err();
        let elapsed = started.elapsed();
        assert!(elapsed < std::time::Duration::from_secs(9), "{call}: {elapsed:?}");
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("55P03", "could not obtain a lock on a table or view that must be read"),
            "{call}"
        );
        assert_eq!(column(&mut client, "SHOW lock_timeout"), ["0"], "{call}");
    }
    migration.batch_execute("ROLLBACK").unwrap();
    assert_eq!(column(&mut client, "SELECT ops.schema_fingerprint()").len(), 1);
}

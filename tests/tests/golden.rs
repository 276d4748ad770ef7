//! Golden SQL, section 8 of the document: the plan that fixes all findings, and its execution,
//! which is checked.

use dragonfly_tests::mutate::{PREPARATION, Random, mutation};
use dragonfly_tests::{Cluster, SUPERUSER, ServerError, attempt, column};
use postgres::Client;

// Without "by default", because after a REVOKE there is an ACL.
const WORSE_THAN_INFO: &str =
    "SELECT concat_ws(' | ', rule, object, role_name, replace(detail, ' by default', '')) FROM \
     ops.audit_security(min_severity => 'warning')
    ORDER BY 1";
const STATEMENTS: &str = "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) <> '-- '";
const PROPOSALS: &str = "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) = '-- '";

/// For the document's objects without grants, the plan consists of the statements of section 8.
#[test]
fn plan_for_the_documents_objects_without_grants_is_section_8() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             REVOKE ALL ON SCHEMA public, api, intake, enforcement FROM anon, authenticated, \
             service_role, PUBLIC;
             REVOKE ALL ON SCHEMA ops FROM service_role;
             REVOKE ALL ON ALL TABLES IN SCHEMA public, intake, enforcement FROM anon, \
             authenticated, service_role;
             REVOKE ALL ON ops.v_batch_performance, ops.event_log, ops.v_reaper_status FROM anon, \
             authenticated, service_role;
             REVOKE ALL ON ALL FUNCTIONS IN SCHEMA api, enforcement FROM anon, authenticated, \
             service_role;
             ALTER FUNCTION api.get_dashboard_stats() RESET search_path;
             ALTER FUNCTION ops.complete_outbox_message(uuid) RESET search_path;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let statements = column(&mut client, STATEMENTS);
    for golden in [
        "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;",
        "GRANT USAGE ON SCHEMA api TO anon, authenticated, service_role;",
        "GRANT USAGE ON SCHEMA intake TO authenticated, service_role;",
        "GRANT USAGE ON SCHEMA ops TO service_role;",
        "GRANT USAGE ON SCHEMA enforcement TO service_role;",
        "GRANT SELECT ON TABLE public.v_plaintiffs_overview TO anon, authenticated;",
        "GRANT SELECT ON TABLE ops.v_batch_performance TO anon, authenticated;",
        "GRANT ALL ON TABLE ops.v_batch_performance TO service_role;",
        "GRANT EXECUTE ON ROUTINE api.get_dashboard_stats() TO anon, authenticated, service_role;",
        "ALTER ROUTINE api.get_dashboard_stats() SET search_path = public, pg_temp;",
        "ALTER ROUTINE ops.complete_outbox_message(pg_catalog.uuid) SET search_path = public, \
         pg_temp;",
    ] {
        // On 17 and later ALL is more than the contract asks for.
        let golden = match golden.strip_prefix("GRANT ALL") {
            Some(rest) if statements.iter().all(|s| s != golden) => {
                format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER{rest}")
            }
            _ => golden.to_owned(),
        };
        assert!(statements.contains(&golden), "{golden}\n{statements:#?}");
    }
    assert_eq!(column(&mut client, PROPOSALS), [""; 0]);
    assert_eq!(
        column(&mut client, "SELECT step::text FROM ops.golden_sql() WHERE NOT reversible"),
        [""; 0]
    );
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)").unwrap();
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
    assert_eq!(column(&mut client, "SELECT statement FROM ops.golden_sql()"), [""; 0]);
}

/// One violation of every rule: the plan is tried, executed, empty the second time, and reverted
/// step by step.
#[test]
fn plan_can_be_tried_executed_and_reverted() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let before = column(&mut client, WORSE_THAN_INFO);
    let outcomes = "SELECT outcome || ' ' || count(*) FROM ops.apply_golden_sql(dry_run => $1) \
                    GROUP BY outcome ORDER BY 1";
    let mut run = |dry_run: bool| -> Vec<String> {
        client.query(outcomes, &[&dry_run]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(run(true), ["proposed 17", "tried 26"]);
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    assert_eq!(column(&mut other, WORSE_THAN_INFO), before, "nothing was changed");
    let undo = column(
        &mut other,
        "SELECT undo FROM ops.golden_sql() WHERE undo IS NOT NULL ORDER BY step DESC",
    );
    assert_eq!(run(false), ["done 26", "proposed 17"]);
    assert_eq!(run(false), ["proposed 17"], "applying it again does nothing");
    assert_eq!(
        column(&mut client, "SELECT statement FROM ops.golden_sql() ORDER BY step"),
        [
            "-- Create it from its migration:\n-- CREATE VIEW ops.v_event_log_recent AS SELECT \
             ...;",
            "-- Declare role postgres_old with kind \"owner\" if it is one. Otherwise:\n-- ALTER \
             DATABASE app OWNER TO postgres;",
            "-- Views read it: after the change, those of role \"postgres\" can read it, and those \
             of role \"service_role\" no longer can.\n\
             -- Role \"service_role\" also loses what it can do as the owner: grant it what it \
             needs.\n\
             -- ALTER TABLE ops.reaper_log OWNER TO postgres;",
            "-- Read its body first: role \"service_role\" can have written it.\n\
             -- ALTER ROUTINE lab.stamp() OWNER TO postgres;\n\
             -- Or drop what executes it.",
            "-- Function api.job(bigint):\n-- Qualify the argument with the name of the function, \
             or give it another name.",
            "-- Function api.find(text):\n-- Pass values with USING, and quote names with format() \
             and %I.",
            "-- Function api.act_as(text):\n-- Set the parameter to what the database knows of the \
             caller, or revoke EXECUTE from clients.",
            "-- CREATE POLICY \"authenticated insert\" ON intake.simplicity_batches FOR INSERT TO \
             authenticated WITH CHECK (...);",
            "-- Declare role \"reporter\" if these privileges are intended. Otherwise:\n-- REVOKE \
             SELECT ON TABLE public.plaintiffs FROM reporter;",
            "-- Add schema reports to the contract if it is intended. Otherwise:\n-- REVOKE USAGE \
             ON SCHEMA reports FROM anon;",
            "-- Function api.all_jobs():\n-- Compare a column with the caller, or make the routine \
             SECURITY INVOKER. Where every row is meant, declare all_rows for the routine.",
            "-- Function api.batches(text):\n-- Compare the column with the caller and not with \
             the argument, or compare the argument with the caller first.",
            "-- Declare it NOT LEAKPROOF, which is the default.\n-- ALTER FUNCTION \
             enforcement.open_actions(bigint) NOT LEAKPROOF;",
            "-- Drop the table from the publication, or restrict the rows by WHERE.\n-- ALTER \
             PUBLICATION changes DROP TABLE public.judgments;",
            "-- Compare a column with a value of the session that is the user's. Where each \
             database role is one user or tenant, set database_roles_are_tenants in identity.\n\
             -- ALTER POLICY judgments_read ON public.judgments USING (...);",
            "-- Write NULLIF(current_setting('request.jwt.claims', true), '') in the place of the \
             parameter.\n-- ALTER POLICY judgments_read ON public.judgments USING (...);",
            "-- Add bucket_id = '...' to the condition.\n-- ALTER POLICY own_files ON \
             storage.objects USING (...);",
        ]
    );
    // All except the repair of the guard's own trigger, which has no undo.
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    for statement in undo {
        attempt(&mut client, &statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    let mut again = column(&mut client, WORSE_THAN_INFO);
    again.extend(before.iter().filter(|f| f.starts_with("guard_tampered")).cloned());
    again.sort();
    assert_eq!(again, before);
}

/// Statements can be run by hand, each several times.
#[test]
fn statement_of_a_plan_can_be_run_twice() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; DROP ROLE helpers; CREATE ROLE \"it's $fix$\" NOLOGIN;
             GRANT \"it's $fix$\" TO anon; DROP SCHEMA IF EXISTS enforcement CASCADE;
             ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER zz_dragonfly_guard_start; DROP \
             EVENT TRIGGER zz_dragonfly_guard_start;
             CREATE FUNCTION ops.audit_security(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let statements = column(&mut client, STATEMENTS);
    assert!(statements.len() > 25);
    for kind in [
        "CREATE EVENT TRIGGER",
        "CREATE ROLE postgres",
        "CREATE SCHEMA IF NOT EXISTS",
        "DROP POLICY IF EXISTS",
        "DROP ROUTINE IF EXISTS",
    ] {
        assert!(statements.iter().any(|s| s.contains(kind)), "{kind}\n{statements:#?}");
    }
    for statement in statements {
        for _ in 0..2 {
            attempt(&mut client, &statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
        }
    }
    assert_eq!(column(&mut client, STATEMENTS), [""; 0]);
}

/// After random changes of the database, the executed plan leaves nothing that it could fix, and
/// the next plan is empty. If every step has an undo, reverting all steps restores all findings.
#[test]
fn plan_fixes_random_changes_and_can_be_reverted() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute(&format!("SET dragonfly_guard.mode = off; {PREPARATION}")).unwrap();
    let (mut fixed, mut reverted, mut by_hand) = (0, 0, 0);
    let seeds = std::env::var("DRAGONFLY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        let mut done = Vec::new();
        for _ in 0..3 + random.below(14) {
            let statement = mutation(&mut random);
            client.batch_execute("SAVEPOINT s").unwrap();
            match client.batch_execute(&statement) {
                Ok(()) => done.push(statement),
                Err(_) => client.batch_execute("ROLLBACK TO s").unwrap(),
            }
        }
        // A statement without an event (ALTER ROLE) is accepted together with the next that fires
        // one.
        client.batch_execute("CREATE SCHEMA done; DROP SCHEMA done").unwrap();
        let context = |what: &str| format!("seed {seed}: {what}\n{};", done.join(";\n"));
        let before = column(&mut client, WORSE_THAN_INFO);
        let irreversible = column(
            &mut client,
            "SELECT statement FROM ops.golden_sql() WHERE undo IS NULL AND left(statement, 3) <> \
             '-- '",
        );
        let undo = column(
            &mut client,
            "SELECT undo FROM ops.golden_sql() WHERE undo IS NOT NULL ORDER BY step DESC",
        );
        client.batch_execute("SET LOCAL dragonfly_guard.mode = block; SAVEPOINT by_hand").unwrap();
        for statement in column(&mut client, STATEMENTS) {
            client.batch_execute("SAVEPOINT s").unwrap();
            if let Err(rejected) = attempt(&mut client, &statement) {
                println!("{}", context(&format!("by hand: {statement}: {rejected:?}")));
                by_hand += 1;
                client.batch_execute("ROLLBACK TO s").unwrap();
            }
        }
        client.batch_execute("ROLLBACK TO by_hand").unwrap();
        let applied = client
            .query("SELECT outcome FROM ops.apply_golden_sql(false) WHERE outcome = 'done'", &[]);
        let applied =
            applied.unwrap_or_else(|e| panic!("{}", context(&format!("{:?}", e.as_db_error()))));
        fixed += applied.len();
        assert_eq!(column(&mut client, STATEMENTS), [""; 0], "{}", context("a statement is left"));
        let again = column(
            &mut client,
            "SELECT statement FROM ops.apply_golden_sql(false) WHERE outcome = 'done'",
        );
        assert_eq!(again, [""; 0], "{}", context("applied again"));
        if irreversible.is_empty() {
            client.batch_execute("SET LOCAL dragonfly_guard.mode = off").unwrap();
            for statement in undo {
                attempt(&mut client, &statement)
                    .unwrap_or_else(|e| panic!("{}", context(&format!("{statement}: {e:?}"))));
            }
            assert_eq!(column(&mut client, WORSE_THAN_INFO), before, "{}", context("reverted"));
            reverted += 1;
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
    println!(
        "{seeds} databases, {fixed} statements, {reverted} plans reverted, {by_hand} statements \
         rejected by hand"
    );
    assert!(fixed > seeds as usize && reverted > seeds as usize / 2);
    assert_eq!(by_hand, 0);
}

/// A plan without the expected result is rolled back: an event trigger grants what the plan
/// revokes; one step fails.
#[test]
fn plan_without_the_expected_result_is_rolled_back() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             GRANT SELECT ON public.plaintiff_contacts TO anon; GRANT USAGE ON SCHEMA enforcement \
             TO anon;
             CREATE FUNCTION public.helpful() RETURNS event_trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NOT has_table_privilege('anon', 'public.plaintiff_contacts', 'SELECT')
                        THEN GRANT SELECT ON public.plaintiff_contacts TO anon; END IF; END $$;
             CREATE EVENT TRIGGER helpful ON ddl_command_end WHEN TAG IN ('REVOKE') EXECUTE \
             FUNCTION public.helpful();
             ALTER DATABASE app SET dragonfly_guard.mode = 'off'",
        )
        .unwrap();
    let apply =
        "SELECT * FROM ops.apply_golden_sql(false, rules => '{schema_usage,table_privileges}')";
    for dry_run in [apply.replace("false", "true"), apply.to_owned()] {
        let rejected = attempt(&mut client, &dry_run).unwrap_err();
        assert_eq!(
            (rejected.code.as_str(), rejected.message.as_str()),
            ("P0004", "the plan did not resolve all findings")
        );
        assert_eq!(
            rejected.detail,
            "Not resolved by step 2: table_privileges: Role \"anon\" has SELECT on table \
             public.plaintiff_contacts, which the contract does not declare."
        );
        let usage = "SELECT has_schema_privilege('anon', 'enforcement', 'USAGE')::text";
        assert_eq!(column(&mut client, usage), ["true"], "all or nothing");
    }
    // A fix that causes another violation.
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION public.helpful() RETURNS event_trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NOT has_table_privilege('anon', 'public.judgments', 'DELETE')
                        THEN GRANT DELETE ON public.judgments TO anon; END IF; END $$",
        )
        .unwrap();
    let rejected = attempt(&mut client, apply).unwrap_err();
    assert_eq!(
        (rejected.code.as_str(), rejected.message.as_str()),
        ("P0004", "step 1 of the plan would open what the contract does not declare")
    );
    assert_eq!(
        rejected.detail,
        "REVOKE USAGE ON SCHEMA enforcement FROM anon;\n\
         It would give role \"anon\" DELETE on table public.judgments."
    );
    assert!(rejected.hint.contains("steps => '{2}'"), "{rejected:?}");
    let grants = "SELECT has_table_privilege('anon', 'public.judgments', 'DELETE')::text";
    assert_eq!(column(&mut client, grants), ["false"], "all or nothing");
    client
        .batch_execute(
            "DROP EVENT TRIGGER helpful; DROP FUNCTION public.helpful(); ALTER DATABASE app RESET \
             dragonfly_guard.mode",
        )
        .unwrap();
    // Another session has locked a table.
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    client
        .batch_execute(
            "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY; SET lock_timeout = '100ms'",
        )
        .unwrap();
    other.batch_execute("BEGIN; SELECT count(*) FROM public.judgments").unwrap();
    let rejected = attempt(&mut client, "SELECT * FROM ops.apply_golden_sql(false)").unwrap_err();
    assert_eq!(
        (rejected.code.as_str(), rejected.message.as_str()),
        ("55P03", "step 3 of the plan failed: canceling statement due to lock timeout")
    );
    assert!(
        rejected.detail.starts_with("ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;"),
        "{rejected:?}"
    );
    other.batch_execute("ROLLBACK").unwrap();
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
}

/// Grants that depend on other grants, on the owner, or on memberships: a setup, and the statements
/// that fix it.
const DEPENDENT_GRANTS: [(&str, &[&str]); 8] = [
    // The owner never loses the grant option.
    (
        "GRANT UPDATE ON public.v_judgment_pipeline TO anon WITH GRANT OPTION; SET ROLE anon; \
         GRANT UPDATE ON public.v_judgment_pipeline TO postgres;
         RESET ROLE; GRANT UPDATE ON public.v_judgment_pipeline TO authenticated",
        &[
            "REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM anon CASCADE;",
            "REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM authenticated;",
        ],
    ),
    (
        "GRANT EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO anon WITH GRANT OPTION; SET ROLE \
         anon;
         GRANT EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO postgres; RESET ROLE; GRANT \
         EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO PUBLIC",
        &[
            "REVOKE GRANT OPTION FOR EXECUTE ON ROUTINE \
             api.queue_job(pg_catalog.text,pg_catalog.jsonb) FROM anon CASCADE;",
            "REVOKE EXECUTE ON ROUTINE api.queue_job(pg_catalog.text,pg_catalog.jsonb) FROM \
             PUBLIC;",
        ],
    ),
    // A member of the owner does not lose it either: only that member can revoke what it has
    // granted.
    (
        "CREATE ROLE dev IN ROLE postgres; GRANT SELECT ON public.plaintiffs TO dev WITH GRANT \
         OPTION; SET ROLE dev; GRANT SELECT ON public.plaintiffs TO anon;
         RESET ROLE; REVOKE postgres FROM dev; GRANT postgres TO dev",
        &[
            "-- Only the grantor, dev, can revoke it: SET ROLE dev; REVOKE SELECT ON TABLE \
             public.plaintiffs FROM anon CASCADE; RESET ROLE;",
        ],
    ),
    // A grant of a role to itself is revoked as well.
    (
        "GRANT UPDATE ON public.plaintiffs TO authenticated WITH GRANT OPTION; SET ROLE \
         authenticated; GRANT UPDATE ON public.plaintiffs TO authenticated",
        &["REVOKE UPDATE ON TABLE public.plaintiffs FROM authenticated CASCADE;"],
    ),
    // A grant option from another grantor is revoked with the option of that grantor.
    (
        "CREATE ROLE dd; GRANT SELECT ON SEQUENCE public.job_queue_id_seq TO dd WITH GRANT OPTION; \
         SET ROLE dd;
         GRANT SELECT ON SEQUENCE public.job_queue_id_seq TO service_role WITH GRANT OPTION",
        &[
            "REVOKE GRANT OPTION FOR SELECT ON SEQUENCE public.job_queue_id_seq FROM dd CASCADE;",
            "-- Declare role \"dd\" if these privileges are intended. Otherwise:\n-- REVOKE SELECT \
             ON SEQUENCE public.job_queue_id_seq FROM dd;",
        ],
    ),
    // A policy that opens nothing, because no client can access the table, may stay; a privilege on
    // a table includes its columns.
    (
        "CREATE POLICY x ON enforcement.actions FOR UPDATE TO authenticated USING (true)",
        &["ALTER TABLE enforcement.actions ENABLE ROW LEVEL SECURITY;"],
    ),
    (
        "GRANT SELECT (kind) ON enforcement.actions TO PUBLIC",
        &["REVOKE SELECT (kind) ON TABLE enforcement.actions FROM PUBLIC;"],
    ),
    (
        "GRANT UPDATE ON public.plaintiff_tasks TO authenticated WITH GRANT OPTION; SET ROLE \
         authenticated; GRANT UPDATE ON public.plaintiff_tasks TO anon",
        &["REVOKE UPDATE ON TABLE public.plaintiff_tasks FROM authenticated CASCADE;"],
    ),
];

/// The plan has exactly the necessary statements, and each has the expected effect.
#[test]
fn plan_for_dependent_grants_is_minimal() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (setup, expected) in DEPENDENT_GRANTS {
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL dragonfly_guard.mode = off; {setup}; RESET ROLE"
            ))
            .unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        let plan = "SELECT statement FROM ops.golden_sql()";
        assert_eq!(column(&mut client, plan), expected, "{setup}");
        client
            .batch_execute("SELECT * FROM ops.apply_golden_sql(false)")
            .unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        let left = "SELECT statement FROM ops.golden_sql() WHERE NOT starts_with(statement, '--')";
        assert_eq!(column(&mut client, left), [""; 0], "{setup}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    // The plan contains no statement that the guard would reject: a superuser's routine must not
    // trust the new owner of the schema, and its body needs the schema.
    client
        .batch_execute(
            "BEGIN; SET LOCAL dragonfly_guard.mode = off; CREATE ROLE su2 SUPERUSER; CREATE ROLE \
             x1; GRANT SELECT ON public.plaintiffs TO anon;
             ALTER FUNCTION api.get_ceo_metrics() OWNER TO su2; ALTER SCHEMA public \
             OWNER TO x1; SET LOCAL dragonfly_guard.mode = block",
        )
        .unwrap();
    let applied = column(
        &mut client,
        "SELECT statement FROM ops.apply_golden_sql(false) WHERE outcome = 'done'",
    );
    // Other bodies need the schema as well, except for one that qualifies every name.
    assert_eq!(
        applied,
        [
            "REVOKE SELECT ON TABLE public.plaintiffs FROM anon;",
            "ALTER ROUTINE ops.complete_outbox_message(pg_catalog.uuid) SET search_path = \
             pg_catalog, pg_temp;"
        ]
    );
    client.batch_execute("ROLLBACK").unwrap();
    // A role that would grant in its own name would grant less than planned.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE TABLE public.notes (id int); GRANT \
                        SELECT ON public.notes TO postgres WITH GRANT OPTION",
        )
        .unwrap();
    let mut migration = cluster.connect("app", "postgres");
    assert_eq!(
        column(&mut migration, "SELECT DISTINCT outcome FROM ops.apply_golden_sql(false)"),
        ["proposed"]
    );
}

/// An undo statement contains text of another role. If parsing it would execute code of that role,
/// there is no undo.
#[test]
fn undo_executes_no_code_of_other_roles() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; CREATE SCHEMA apart \
             AUTHORIZATION mallory; SET ROLE mallory;
             CREATE FUNCTION apart.look(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE \
             'it runs as %', current_user; END $$;
             CREATE DOMAIN apart.bait AS int; RESET ROLE;
             ALTER TABLE public.job_queue OWNER TO mallory;
             SET ROLE mallory; GRANT SELECT ON public.job_queue TO anon;
             CREATE POLICY plain ON public.job_queue FOR SELECT TO anon USING \
             (kind = 'it''s');
             RESET ROLE",
        )
        .unwrap();
    let undo =
        "SELECT coalesce(undo, 'none') FROM ops.golden_sql(rules => '{rls_policy_undeclared}')";
    assert_eq!(
        column(&mut client, undo),
        ["CREATE POLICY plain ON public.job_queue AS PERMISSIVE FOR SELECT TO anon USING ((kind \
             = 'it''s'::text));"]
    );
    client
        .batch_execute(
            "DROP POLICY plain ON public.job_queue;
             CREATE POLICY trap ON public.job_queue FOR SELECT TO anon USING (id = ANY \
             ('{1}'::apart.bait[]));
             ALTER DOMAIN apart.bait ADD CHECK (apart.look(VALUE)) NOT VALID",
        )
        .unwrap();
    assert_eq!(column(&mut client, undo), ["none"]);
    assert_eq!(
        column(
            &mut client,
            "SELECT outcome FROM ops.apply_golden_sql(false, rules => '{rls_policy_undeclared}')"
        ),
        ["done"]
    );
}

/// A plan for some schemas or rules; which roles can read a plan; it is executed with the
/// privileges of the caller.
#[test]
fn plan_can_be_filtered_and_needs_privileges() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT USAGE ON SCHEMA ops, enforcement TO anon; GRANT \
             SELECT ON public.job_queue TO anon;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let statements = |filter: &str| format!("SELECT statement FROM ops.golden_sql({filter})");
    assert_eq!(
        column(&mut client, &statements("schemas => '{ops}'")),
        ["REVOKE USAGE ON SCHEMA ops FROM anon;"]
    );
    assert_eq!(
        column(&mut client, &statements("rules => '{table_privileges}'")),
        ["REVOKE SELECT ON TABLE public.job_queue FROM anon;"]
    );
    assert_eq!(column(&mut client, &statements("'{enforcement}', '{table_privileges}'")), [""; 0]);
    let unknown =
        attempt(&mut client, "SELECT * FROM ops.golden_sql(rules => '{table_privilege}')")
            .unwrap_err();
    assert_eq!(
        (unknown.code.as_str(), unknown.message.as_str()),
        ("22023", "unrecognized rule \"table_privilege\"")
    );
    client.batch_execute("BEGIN READ ONLY; SELECT * FROM ops.golden_sql(); ROLLBACK").unwrap();
    // Workers can read the plan, but not execute it; clients cannot read it.
    let as_role = |role: &str, sql: &str| format!("SET ROLE {role}; {sql}");
    attempt(&mut client, &as_role("service_role", "SELECT * FROM ops.golden_sql(); RESET ROLE"))
        .unwrap();
    for (role, call) in [("service_role", "apply_golden_sql"), ("anon", "golden_sql")] {
        let rejected = attempt(&mut client, &as_role(role, &format!("SELECT * FROM ops.{call}()")))
            .unwrap_err();
        assert_eq!(rejected.code, "42501", "{role}");
        client.batch_execute("RESET ROLE").unwrap();
    }
    // The migration role owns the schemas, but cannot change objects of a superuser.
    let mut migration = cluster.connect("app", "postgres");
    migration.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
    // What the caller cannot change is proposed to the roles that can, and the rest is executed.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE other; CREATE FUNCTION public.others() \
             RETURNS int LANGUAGE sql AS 'SELECT 1';
             ALTER FUNCTION public.others() OWNER TO other; REVOKE SELECT ON \
             public.v_judgment_pipeline FROM anon",
        )
        .unwrap();
    let apply = "SELECT outcome || ' ' || statement FROM ops.apply_golden_sql(false) WHERE rule <> \
                 'security_definer_search_path'";
    assert_eq!(
        column(&mut migration, apply),
        [
            "done GRANT SELECT ON TABLE public.v_judgment_pipeline TO anon;",
            "proposed -- For role \"other\", a member of it or a superuser, because ROUTINE \
             public.others() belongs to role \"other\": the server would not act for its owner:\n\
             -- GRANT EXECUTE ON ROUTINE public.others() TO service_role;\n\
             -- REVOKE EXECUTE ON ROUTINE public.others() FROM PUBLIC;",
        ]
    );
    client
        .batch_execute(
            "ALTER FUNCTION public.others() OWNER TO postgres; ALTER ROLE anon BYPASSRLS",
        )
        .unwrap();
    let outcomes = column(&mut migration, apply);
    assert_eq!(
        outcomes[..2],
        [
            "done GRANT EXECUTE ON ROUTINE public.others() TO service_role;",
            "done REVOKE EXECUTE ON ROUTINE public.others() FROM PUBLIC;",
        ]
    );
    // What the attribute requires depends on the release.
    assert!(
        outcomes[2].starts_with("proposed -- For a superuser")
            && outcomes[2].ends_with(":\n-- ALTER ROLE anon NOBYPASSRLS;"),
        "{outcomes:#?}"
    );
}

/// Objects of a client with everything that can carry code. Only the last one carries none.
const CODE_OF_A_CLIENT: &str = "
    SET dragonfly_guard.mode = off; CREATE ROLE mallory;
    CREATE FUNCTION api.ping() RETURNS text LANGUAGE sql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp AS 'SELECT current_user::text';
    CREATE FUNCTION api.invoker() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION api.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION api.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
    CREATE VIEW public.v_stats AS SELECT * FROM public.judgments;
    CREATE MATERIALIZED VIEW public.m_stats AS SELECT 1 AS one;
    CREATE TABLE public.x_rls (id int); ALTER TABLE public.x_rls ENABLE ROW LEVEL SECURITY;
    CREATE TABLE public.x_policy (id int);
    CREATE POLICY p ON public.x_policy TO postgres USING (false);
    CREATE TABLE public.x_trigger (id int);
    CREATE TRIGGER t BEFORE INSERT ON public.x_trigger FOR EACH ROW EXECUTE FUNCTION api.t();
    CREATE TABLE public.x_check (id int CHECK (api.f(id) > 0));
    CREATE TABLE public.x_index (id int); CREATE INDEX ON public.x_index (api.f(id));
    CREATE TABLE public.x_partial (id int); CREATE INDEX ON public.x_partial (id) WHERE id > 0;
    CREATE TABLE public.x_default (id int DEFAULT api.f(1));
    CREATE TABLE public.x_generated (id int, g int GENERATED ALWAYS AS (api.f(id)) STORED);
    CREATE TABLE public.x_rule (id int);
    CREATE RULE r AS ON INSERT TO public.x_rule DO ALSO SELECT 1;
    CREATE TABLE public.x_statistics (id int);
    CREATE STATISTICS public.s ON (id + 1), id FROM public.x_statistics;
    CREATE TABLE public.x_parent (id int) PARTITION BY RANGE (id);
    CREATE TABLE public.x_child PARTITION OF public.x_parent DEFAULT;
    CREATE TRIGGER t BEFORE INSERT ON public.x_child FOR EACH ROW EXECUTE FUNCTION api.t();
    CREATE TABLE public.x_read (id int); CREATE VIEW public.v_read AS SELECT * FROM public.x_read;
    CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
    CREATE FOREIGN TABLE public.x_foreign (id int) SERVER s;
    CREATE TABLE public.plain (id serial, n text DEFAULT lower('A'), CHECK (id > 0));
    DO $$ DECLARE o text; BEGIN
      FOREACH o IN ARRAY '{TABLE public.x_rls,TABLE public.x_policy,TABLE public.x_trigger,
        TABLE public.x_check,TABLE public.x_index,TABLE public.x_partial,TABLE public.x_default,
        TABLE public.x_generated,TABLE public.x_rule,TABLE public.x_statistics,
        TABLE public.x_parent,TABLE public.x_read,FOREIGN TABLE public.x_foreign,
        TABLE public.plain,VIEW public.v_stats,MATERIALIZED VIEW public.m_stats,
        FUNCTION api.ping(),FUNCTION api.invoker()}'::text[] LOOP
        EXECUTE format('ALTER %s OWNER TO anon', o);
      END LOOP; END $$;
    GRANT SELECT ON public.v_stats TO mallory; GRANT USAGE ON SCHEMA public, api TO mallory;
    SET dragonfly_guard.mode = block";

/// What a client can have written, or row security restricts, keeps its owner.
#[test]
fn owner_of_code_and_of_row_security_is_not_changed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute(CODE_OF_A_CLIENT).unwrap();
    let of_client = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND \
                     relowner = 'anon'::regrole UNION ALL SELECT proname FROM pg_proc WHERE \
                     proowner = 'anon'::regrole ORDER BY 1";
    let before = column(&mut client, of_client);
    assert_eq!(before.len(), 18);
    let proposed = "SELECT count(DISTINCT object)::text FROM ops.golden_sql(rules => \
                    '{object_ownership}') WHERE starts_with(statement, '--') AND \
                    starts_with(risk, 'a person decides: ')";
    assert_eq!(column(&mut client, proposed), ["17"]);
    let fixes = "SELECT fix FROM ops.audit_security() WHERE rule = 'object_ownership' AND fix IS \
                 NOT NULL";
    assert_eq!(column(&mut client, fixes), ["ALTER TABLE public.plain OWNER TO postgres;"]);
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    let after: Vec<String> = before.into_iter().filter(|name| name != "plain").collect();
    assert_eq!(column(&mut client, of_client), after);
}

/// A plan is executed in part: by the numbers of steps, and by their risk.
#[test]
fn steps_can_be_selected_by_number_and_risk() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             GRANT SELECT ON public.plaintiff_contacts TO anon;
             REVOKE USAGE ON SCHEMA api FROM anon;
             ALTER TABLE intake.simplicity_raw DISABLE ROW LEVEL SECURITY;
             DROP POLICY judgments_read ON public.judgments;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let outcomes = |arguments: &str| {
        format!(
            "SELECT step || ' ' || outcome FROM ops.apply_golden_sql({arguments}) ORDER BY step"
        )
    };
    assert_eq!(
        column(&mut client, "SELECT risk FROM ops.golden_sql()"),
        [
            "medium: callers relying on this undeclared privilege will lose access",
            "high: a role without a policy sees no rows and gets no error",
            "low: grants only what the contract declares",
            "a person decides",
        ]
    );
    assert_eq!(
        column(&mut client, &outcomes("steps => '{3, 1}'")),
        ["1 tried", "2 skipped", "3 tried", "4 proposed"]
    );
    for (max_risk, expected) in [
        ("low", ["1 skipped", "2 skipped", "3 tried", "4 proposed"]),
        ("medium", ["1 tried", "2 skipped", "3 tried", "4 proposed"]),
        ("high", ["1 tried", "2 tried", "3 tried", "4 proposed"]),
    ] {
        let sql = outcomes(&format!("max_risk => '{max_risk}'"));
        assert_eq!(column(&mut client, &sql), expected);
    }
    for (arguments, message) in [
        ("steps => '{1, 9, 0}'", "the plan has no steps 9 and 0"),
        ("steps => '{4}'", "step 4 of the plan is a proposal"),
        ("steps => '{}'", "steps must not be empty"),
        ("max_risk => 'tiny'", "unrecognized risk \"tiny\""),
    ] {
        let rejected = attempt(&mut client, &outcomes(arguments)).unwrap_err();
        assert_eq!((rejected.code.as_str(), rejected.message.as_str()), ("22023", message));
    }
    assert_eq!(
        column(&mut client, &outcomes("false, steps => '{1}'")),
        ["1 done", "2 skipped", "3 skipped", "4 proposed"]
    );
    assert_eq!(
        column(&mut client, &outcomes("false, max_risk => 'low'")),
        ["1 skipped", "2 done", "3 proposed"],
        "the steps that are left have new numbers"
    );
}

/// A part of a plan that would take declared access away fails as a whole: the REVOKE from PUBLIC
/// without the GRANT that keeps the privilege.
#[test]
fn selection_that_ends_declared_access_is_rolled_back() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             REVOKE EXECUTE ON FUNCTION api.get_call_queue() FROM anon, authenticated, service_role;
             GRANT EXECUTE ON FUNCTION api.get_call_queue() TO PUBLIC;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let steps = column(
        &mut client,
        "SELECT step::text FROM ops.golden_sql() WHERE starts_with(statement, 'REVOKE')",
    );
    let [step] = &steps[..] else { panic!("{steps:?}") };
    for dry_run in ["true", "false"] {
        let apply = format!("SELECT * FROM ops.apply_golden_sql({dry_run}, steps => '{{{step}}}')");
        let rejected = attempt(&mut client, &apply).unwrap_err();
        assert_eq!(
            (rejected.code.as_str(), rejected.message),
            (
                "P0004",
                format!("step {step} of the plan would end access that the contract declares")
            )
        );
        assert!(
            rejected.detail.contains(
                "It would take EXECUTE on function api.get_call_queue() from role \"anon\""
            ),
            "{}",
            rejected.detail
        );
    }
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
}

/// Executes a plan of two steps, the second of which makes an event trigger execute `statement`.
/// Returns why the plan fails.
fn plan_during_which(client: &mut Client, statement: &str) -> ServerError {
    client
        .batch_execute(&format!(
            "GRANT SELECT ON public.plaintiff_contacts TO anon;
             GRANT USAGE ON SCHEMA enforcement TO anon;
             CREATE FUNCTION public.meddling() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NOT has_table_privilege('anon', 'public.plaintiff_contacts', 'SELECT') THEN
                 {statement}
               END IF; END $$;
             CREATE EVENT TRIGGER meddling ON ddl_command_end WHEN TAG IN ('REVOKE')
               EXECUTE FUNCTION public.meddling();
             ALTER DATABASE app SET dragonfly_guard.mode = 'off'"
        ))
        .unwrap();
    let apply = "SELECT * FROM ops.apply_golden_sql(rules => '{schema_usage,table_privileges}')";
    attempt(client, apply).unwrap_err()
}

/// The server is asked before and after whether declared access works. The step that ends it is
/// named.
#[test]
fn step_that_ends_declared_access_is_named() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE FUNCTION public.helper() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
             ALTER FUNCTION public.helper() OWNER TO postgres;
             REVOKE EXECUTE ON FUNCTION public.helper() FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION public.helper() TO anon, authenticated, service_role;
             ALTER POLICY judgments_read ON public.judgments USING (public.helper() = 1);
             CREATE FUNCTION public.closed() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
             ALTER FUNCTION public.closed() OWNER TO postgres;
             REVOKE EXECUTE ON FUNCTION public.closed() FROM PUBLIC;",
        )
        .unwrap();
    let rejected = plan_during_which(
        &mut client,
        "ALTER POLICY judgments_read ON public.judgments USING (public.closed() = 1);",
    );
    assert_eq!(
        (rejected.code.as_str(), rejected.message.as_str()),
        ("P0004", "step 2 of the plan would end access that the contract declares")
    );
    assert!(
        rejected.detail.contains(
            "Role \"authenticated\" had working SELECT on table public.judgments before: "
        ) && rejected.detail.contains("permission denied for function closed"),
        "{}",
        rejected.detail
    );
}

/// The server is asked before and after whether views and the bodies of routines are valid. The
/// step after which one is not is named.
#[test]
fn step_that_invalidates_a_body_is_named() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE TABLE public.rates (rate int); ALTER TABLE public.rates OWNER TO postgres;
             REVOKE ALL ON public.rates FROM anon, authenticated;
             GRANT ALL ON public.rates TO service_role;
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql STABLE
               SECURITY DEFINER SET search_path = public, pg_temp
               AS 'SELECT to_jsonb(sum(rate)) FROM public.rates';",
        )
        .unwrap();
    let rejected =
        plan_during_which(&mut client, "ALTER TABLE IF EXISTS public.rates RENAME TO prices;");
    assert_eq!(
        (rejected.code.as_str(), rejected.message.as_str()),
        ("P0004", "step 2 of the plan would break what the contract declares")
    );
    let why = "The body of function api.get_ceo_metrics() was valid before: relation \
               \"public.rates\" does not exist.";
    assert!(rejected.detail.ends_with(why), "{}", rejected.detail);
}

/// A REVOKE that would take away what the body of a declared routine uses is a proposal, and is
/// left out as long as the body uses it.
#[test]
fn revoke_of_what_a_body_uses_is_a_proposal() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE FUNCTION public.norm(text) RETURNS text LANGUAGE sql AS 'SELECT lower($1)';
             CREATE FUNCTION api.clean(text) RETURNS text LANGUAGE sql AS 'SELECT public.norm($1)';
             ALTER FUNCTION public.norm(text) OWNER TO postgres;
             ALTER FUNCTION api.clean(text) OWNER TO postgres;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let of_norm = "SELECT statement FROM ops.golden_sql(rules => '{routine_executable_by_public}') \
                   WHERE statement LIKE '%REVOKE%public.norm%'";
    let grant = "GRANT EXECUTE ON ROUTINE public.norm(pg_catalog.text) TO service_role;";
    let revoke = "REVOKE EXECUTE ON ROUTINE public.norm(pg_catalog.text) FROM PUBLIC;";
    let proposal = format!(
        "-- These statements have another effect:\n\
         -- Role \"anon\" would lose EXECUTE on function public.norm(text), which the body of \
         function api.clean(text) may use as this role.\n-- {grant}\n-- {revoke}"
    );
    assert_eq!(column(&mut client, of_norm), [proposal.as_str()]);
    // The audit says the same to every role.
    let fix = "SELECT fix FROM ops.audit_security(rules => '{routine_executable_by_public}') WHERE \
               object LIKE 'public.norm(%'";
    for role in ["service_role", "postgres", SUPERUSER] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        assert_eq!(column(&mut client, fix), [proposal.as_str()], "{role}");
    }
    let of_area = fix.replace(
        "ops.audit_security(rules => '{routine_executable_by_public}')",
        "ops.audit_functions()",
    );
    assert_eq!(column(&mut client, &of_area), [proposal.as_str()]);
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    client.batch_execute("SET ROLE anon; SELECT api.clean('A'); RESET ROLE").unwrap();
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION api.clean(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        )
        .unwrap();
    assert_eq!(column(&mut client, of_norm), [revoke]);
    assert_eq!(column(&mut client, fix), [format!("{grant}\n{revoke}")]);
}

/// A declared GRANT that would let a client call a function through its membership, which the
/// caller cannot end, is a proposal: the guard would reject it.
#[test]
fn grant_that_the_guard_would_reject_is_a_proposal() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER ROLE postgres NOCREATEROLE;
             ALTER ROLE anon INHERIT; GRANT service_role TO anon;
             CREATE FUNCTION enforcement.step() RETURNS int LANGUAGE sql AS 'SELECT 1';
             ALTER FUNCTION enforcement.step() OWNER TO postgres;
             REVOKE EXECUTE ON FUNCTION enforcement.step() FROM PUBLIC;
             REVOKE SELECT ON public.job_queue FROM service_role;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let grants = "SELECT outcome || ' ' || statement FROM ops.apply_golden_sql(false, rules => \
                  '{routine_privileges,table_privileges}') WHERE statement LIKE '%GRANT %' ORDER \
                  BY 1";
    let mut migration = cluster.connect("app", "postgres");
    let execute = "GRANT EXECUTE ON ROUTINE enforcement.step() TO service_role;";
    let select = "GRANT SELECT ON TABLE public.job_queue TO service_role;";
    let proposals = column(&mut migration, grants);
    assert_eq!(proposals.len(), 2, "{proposals:#?}");
    for (proposal, grant) in proposals.iter().zip([execute, select]) {
        assert!(
            proposal
                .starts_with("proposed -- These statements have another effect:\n-- Role \"anon\"")
                && proposal.ends_with(grant),
            "{proposal}"
        );
    }
    // A superuser can end the membership.
    let done = [format!("done {execute}"), format!("done {select}")];
    assert_eq!(column(&mut client, grants), done);
}

/// Fixes that a person has to decide do not affect other statements, however many there are.
#[test]
fn proposals_do_not_affect_other_statements_however_many_there_are() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             DO $$ BEGIN FOR i IN 1..40 LOOP
               EXECUTE format($s$CREATE FUNCTION api.f%s() RETURNS int LANGUAGE sql SECURITY DEFINER
                 AS 'SELECT 1'$s$, i);
               EXECUTE format('ALTER FUNCTION api.f%s() OWNER TO service_role', i);
               EXECUTE format('REVOKE EXECUTE ON FUNCTION api.f%s() FROM PUBLIC', i);
             END LOOP; END $$;
             GRANT TRUNCATE ON public.judgments TO anon;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let outcomes = "SELECT outcome || ' ' || count(*) FROM ops.apply_golden_sql(false, rules => \
                    '{object_ownership,direct_write}') GROUP BY outcome ORDER BY 1";
    assert_eq!(column(&mut client, outcomes), ["done 1", "proposed 40"]);
    // The guard accepts each fix of the audit by itself.
    for fix in column(
        &mut client,
        "SELECT fix FROM ops.audit_security(min_severity => 'warning') WHERE fix IS NOT NULL",
    ) {
        client.batch_execute("BEGIN").unwrap();
        attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
        client.batch_execute("ROLLBACK").unwrap();
    }
}

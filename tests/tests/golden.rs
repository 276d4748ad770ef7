//! Golden SQL, section 8 of the document: the plan that brings a database into its contract, and
//! carrying it out under proof.

use dragonfly_tests::damage::{Dice, PREPARATION, damage};
use dragonfly_tests::{Cluster, attempt, column};

// "By default" or not: a REVOKE leaves an ACL where there was none.
const WORSE_THAN_INFO: &str =
    "SELECT concat_ws(' | ', rule, object, role_name, replace(detail, ' by default', '')) FROM ops.audit_security(min_severity => 'warning')
    ORDER BY 1";
const STATEMENTS: &str = "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) <> '-- '";
const PROPOSALS: &str = "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) = '-- '";

/// On the document's objects before anybody was granted anything, the plan is what section 8 says.
#[test]
fn without_its_grants_the_document_gets_its_section_8() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             REVOKE ALL ON SCHEMA public, api, intake, enforcement FROM anon, authenticated, service_role, PUBLIC;
             REVOKE ALL ON SCHEMA ops FROM service_role;
             REVOKE ALL ON ALL TABLES IN SCHEMA public, intake, enforcement FROM anon, authenticated, service_role;
             REVOKE ALL ON ops.v_batch_performance, ops.event_log, ops.v_reaper_status FROM anon, authenticated, service_role;
             REVOKE ALL ON ALL FUNCTIONS IN SCHEMA api, enforcement FROM anon, authenticated, service_role;
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
        "ALTER ROUTINE ops.complete_outbox_message(pg_catalog.uuid) SET search_path = public, pg_temp;",
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

/// One violation of every rule: tried, carried out, needless the second time; and taken back, step
/// by step.
#[test]
fn a_plan_is_tried_carried_out_and_taken_back() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let before = column(&mut client, WORSE_THAN_INFO);
    let outcomes = "SELECT outcome || ' ' || count(*) FROM ops.apply_golden_sql(dry_run => $1) GROUP BY outcome ORDER BY 1";
    let mut run = |dry_run: bool| -> Vec<String> {
        client.query(outcomes, &[&dry_run]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(run(true), ["proposed 2", "tried 27"]);
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    assert_eq!(column(&mut other, WORSE_THAN_INFO), before, "nothing was changed");
    let undo = column(
        &mut other,
        "SELECT undo FROM ops.golden_sql() WHERE undo IS NOT NULL ORDER BY step DESC",
    );
    assert_eq!(run(false), ["done 27", "proposed 2"]);
    assert_eq!(run(false), ["proposed 2"], "applying it again does nothing");
    assert_eq!(
        column(&mut client, "SELECT statement FROM ops.golden_sql() ORDER BY step"),
        [
            "-- From its migration:\n-- CREATE VIEW ops.v_event_log_recent AS SELECT ...;",
            "-- CREATE POLICY \"authenticated insert\" ON intake.simplicity_batches FOR INSERT TO authenticated WITH CHECK (...);",
        ]
    );
    // All but the guard's own trigger, which nobody should take back.
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    for statement in undo {
        attempt(&mut client, &statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    let mut again = column(&mut client, WORSE_THAN_INFO);
    again.extend(before.iter().filter(|f| f.starts_with("guard_tampered")).cloned());
    again.sort();
    assert_eq!(again, before);
}

/// A person who runs the statements by hand may run each twice.
#[test]
fn every_statement_can_be_run_twice() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; DROP ROLE helpers; CREATE ROLE \"it's $fix$\" NOLOGIN;
             GRANT \"it's $fix$\" TO anon; DROP SCHEMA IF EXISTS enforcement CASCADE;
             ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER zz_dragonfly_guard_start; DROP EVENT TRIGGER zz_dragonfly_guard_start;
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

/// The law, on a database to which random things have been done: carried out, the plan leaves
/// nothing that it could mend, and carrying it out again does nothing. And another: where every
/// step can be taken back, taking all of them back brings every finding back.
#[test]
fn whatever_has_been_done_the_plan_mends() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute(&format!("SET dragonfly_guard.mode = off; {PREPARATION}")).unwrap();
    let (mut mended, mut taken_back, mut by_hand) = (0, 0, 0);
    let seeds = std::env::var("DRAGONFLY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let mut dice = Dice::new(seed);
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        let mut done = Vec::new();
        for _ in 0..3 + dice.roll(14) {
            let statement = damage(&mut dice);
            client.batch_execute("SAVEPOINT s").unwrap();
            match client.batch_execute(&statement) {
                Ok(()) => done.push(statement),
                Err(_) => client.batch_execute("ROLLBACK TO s").unwrap(),
            }
        }
        // What fires no event (ALTER ROLE) is waived with the next that does.
        client.batch_execute("CREATE SCHEMA done; DROP SCHEMA done").unwrap();
        let told = |what: &str| format!("seed {seed}: {what}\n{};", done.join(";\n"));
        let before = column(&mut client, WORSE_THAN_INFO);
        let irreversible = column(
            &mut client,
            "SELECT statement FROM ops.golden_sql() WHERE undo IS NULL AND left(statement, 3) <> '-- '",
        );
        let undo = column(
            &mut client,
            "SELECT undo FROM ops.golden_sql() WHERE undo IS NOT NULL ORDER BY step DESC",
        );
        client.batch_execute("SET LOCAL dragonfly_guard.mode = block; SAVEPOINT by_hand").unwrap();
        for statement in column(&mut client, STATEMENTS) {
            client.batch_execute("SAVEPOINT s").unwrap();
            if let Err(refused) = attempt(&mut client, &statement) {
                println!("{}", told(&format!("by hand: {statement}: {refused:?}")));
                by_hand += 1;
                client.batch_execute("ROLLBACK TO s").unwrap();
            }
        }
        client.batch_execute("ROLLBACK TO by_hand").unwrap();
        let applied = client
            .query("SELECT outcome FROM ops.apply_golden_sql(false) WHERE outcome = 'done'", &[]);
        let applied =
            applied.unwrap_or_else(|e| panic!("{}", told(&format!("{:?}", e.as_db_error()))));
        mended += applied.len();
        assert_eq!(
            column(&mut client, STATEMENTS),
            [""; 0],
            "{}",
            told("something is left to mend")
        );
        let again = column(
            &mut client,
            "SELECT statement FROM ops.apply_golden_sql(false) WHERE outcome = 'done'",
        );
        assert_eq!(again, [""; 0], "{}", told("applied again"));
        if irreversible.is_empty() {
            client.batch_execute("SET LOCAL dragonfly_guard.mode = off").unwrap();
            for statement in undo {
                attempt(&mut client, &statement)
                    .unwrap_or_else(|e| panic!("{}", told(&format!("{statement}: {e:?}"))));
            }
            assert_eq!(column(&mut client, WORSE_THAN_INFO), before, "{}", told("taken back"));
            taken_back += 1;
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
    println!(
        "{seeds} databases, {mended} statements, {taken_back} plans taken back, {by_hand} refused by hand"
    );
    assert!(mended > seeds as usize && taken_back > seeds as usize / 2);
    assert_eq!(by_hand, 0);
}

/// What does not hold is not kept: another's automation opens what the plan closes; a step that
/// cannot run takes all others back.
#[test]
fn a_plan_that_does_not_hold_fails_whole() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             GRANT SELECT ON public.plaintiff_contacts TO anon; GRANT USAGE ON SCHEMA enforcement TO anon;
             CREATE FUNCTION public.helpful() RETURNS event_trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NOT has_table_privilege('anon', 'public.plaintiff_contacts', 'SELECT')
                        THEN GRANT SELECT ON public.plaintiff_contacts TO anon; END IF; END $$;
             CREATE EVENT TRIGGER helpful ON ddl_command_end WHEN TAG IN ('REVOKE') EXECUTE FUNCTION public.helpful();
             ALTER DATABASE app SET dragonfly_guard.mode = 'off'",
        )
        .unwrap();
    let apply =
        "SELECT * FROM ops.apply_golden_sql(false, rules => '{schema_usage,table_privileges}')";
    for dry_run in [apply.replace("false", "true"), apply.to_owned()] {
        let refused = attempt(&mut client, &dry_run).unwrap_err();
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            ("P0004", "the plan was carried out and does not bring the database into its contract")
        );
        assert_eq!(
            refused.detail,
            "left: table_privileges: Role \"anon\" has SELECT on table public.plaintiff_contacts, which the contract does not declare."
        );
        let usage = "SELECT has_schema_privilege('anon', 'enforcement', 'USAGE')::text";
        assert_eq!(column(&mut client, usage), ["true"], "all or nothing");
    }
    // What is mended in one place is broken in another.
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION public.helpful() RETURNS event_trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NOT has_table_privilege('anon', 'public.judgments', 'DELETE')
                        THEN GRANT DELETE ON public.judgments TO anon; END IF; END $$",
        )
        .unwrap();
    assert_eq!(
        attempt(&mut client, apply).unwrap_err().detail,
        "new: direct_write: Role \"anon\" has DELETE on table public.judgments, which the contract does not declare."
    );
    let grants = "SELECT has_table_privilege('anon', 'public.judgments', 'DELETE')::text";
    assert_eq!(column(&mut client, grants), ["false"], "all or nothing");
    client
        .batch_execute(
            "DROP EVENT TRIGGER helpful; DROP FUNCTION public.helpful(); ALTER DATABASE app RESET dragonfly_guard.mode",
        )
        .unwrap();
    // Somebody has locked a table.
    let mut other = cluster.connect("app", dragonfly_tests::SUPERUSER);
    client
        .batch_execute(
            "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY; SET lock_timeout = '100ms'",
        )
        .unwrap();
    other.batch_execute("BEGIN; SELECT count(*) FROM public.judgments").unwrap();
    let refused = attempt(&mut client, "SELECT * FROM ops.apply_golden_sql(false)").unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("55P03", "step 3 of the plan failed: canceling statement due to lock timeout")
    );
    assert!(
        refused.detail.starts_with("ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;"),
        "{refused:?}"
    );
    other.batch_execute("ROLLBACK").unwrap();
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
}

/// Grants that hang on others', on the owner's own, on memberships: a setup, and the statements
/// that mend it.
const HANGING: [(&str, &[&str]); 8] = [
    // The owner never loses the right to grant.
    (
        "GRANT UPDATE ON public.v_judgment_pipeline TO anon WITH GRANT OPTION; SET ROLE anon; GRANT UPDATE ON public.v_judgment_pipeline TO postgres;
         RESET ROLE; GRANT UPDATE ON public.v_judgment_pipeline TO authenticated",
        &[
            "REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM anon CASCADE;",
            "REVOKE UPDATE ON TABLE public.v_judgment_pipeline FROM authenticated;",
        ],
    ),
    (
        "GRANT EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO anon WITH GRANT OPTION; SET ROLE anon;
         GRANT EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO postgres; RESET ROLE; GRANT EXECUTE ON FUNCTION api.queue_job(text, jsonb) TO PUBLIC",
        &[
            "REVOKE GRANT OPTION FOR EXECUTE ON ROUTINE api.queue_job(pg_catalog.text,pg_catalog.jsonb) FROM anon CASCADE;",
            "REVOKE EXECUTE ON ROUTINE api.queue_job(pg_catalog.text,pg_catalog.jsonb) FROM PUBLIC;",
        ],
    ),
    // A member of the owner's never does either: what it has granted is its own to take back.
    (
        "CREATE ROLE dev IN ROLE postgres; GRANT SELECT ON public.plaintiffs TO dev WITH GRANT OPTION; SET ROLE dev; GRANT SELECT ON public.plaintiffs TO anon;
         RESET ROLE; REVOKE postgres FROM dev; GRANT postgres TO dev",
        &[
            "-- The grant is dev's, who can take it back: SET ROLE dev; REVOKE SELECT ON TABLE public.plaintiffs FROM anon CASCADE; RESET ROLE;",
        ],
    ),
    // What a role has granted to itself goes with the rest.
    (
        "GRANT UPDATE ON public.plaintiffs TO authenticated WITH GRANT OPTION; SET ROLE authenticated; GRANT UPDATE ON public.plaintiffs TO authenticated",
        &["REVOKE UPDATE ON TABLE public.plaintiffs FROM authenticated CASCADE;"],
    ),
    // The right to grant that somebody else gave goes with that somebody's.
    (
        "CREATE ROLE dd; GRANT SELECT ON SEQUENCE public.job_queue_id_seq TO dd WITH GRANT OPTION; SET ROLE dd;
         GRANT SELECT ON SEQUENCE public.job_queue_id_seq TO service_role WITH GRANT OPTION",
        &["REVOKE GRANT OPTION FOR SELECT ON SEQUENCE public.job_queue_id_seq FROM dd CASCADE;"],
    ),
    // A policy that is gone needs no row security; who has a table needs none of its columns.
    (
        "CREATE POLICY x ON enforcement.actions FOR UPDATE TO authenticated USING (true)",
        &["DROP POLICY IF EXISTS x ON enforcement.actions;"],
    ),
    (
        "GRANT SELECT (kind) ON enforcement.actions TO PUBLIC",
        &["REVOKE SELECT (kind) ON TABLE enforcement.actions FROM PUBLIC;"],
    ),
    (
        "GRANT UPDATE ON public.plaintiff_tasks TO authenticated WITH GRANT OPTION; SET ROLE authenticated; GRANT UPDATE ON public.plaintiff_tasks TO anon",
        &["REVOKE UPDATE ON TABLE public.plaintiff_tasks FROM authenticated CASCADE;"],
    ),
];

/// No statement too many and none too few, and each does what the plan said.
#[test]
fn what_hangs_on_others() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (setup, expected) in HANGING {
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
    // What the guard would refuse is not planned: the new owner of a schema is nobody for a
    // superuser's routine to trust.
    client
        .batch_execute(
            "BEGIN; SET LOCAL dragonfly_guard.mode = off; CREATE ROLE su2 SUPERUSER; CREATE ROLE x1; GRANT SELECT ON public.plaintiffs TO anon;
             ALTER FUNCTION ops.complete_outbox_message(uuid) OWNER TO su2; ALTER SCHEMA public OWNER TO x1; SET LOCAL dragonfly_guard.mode = block",
        )
        .unwrap();
    let applied = column(
        &mut client,
        "SELECT statement FROM ops.apply_golden_sql(false) WHERE outcome = 'done'",
    );
    assert_eq!(applied, ["REVOKE SELECT ON TABLE public.plaintiffs FROM anon;"]);
    client.batch_execute("ROLLBACK").unwrap();
    // Somebody who grants in their own name gives less than the plan says: that is no success.
    client
        .batch_execute("SET dragonfly_guard.mode = off; CREATE TABLE public.notes (id int); GRANT SELECT ON public.notes TO postgres WITH GRANT OPTION")
        .unwrap();
    let mut migration = cluster.connect("app", "postgres");
    let refused = attempt(&mut migration, "SELECT * FROM ops.apply_golden_sql(false)").unwrap_err();
    assert_eq!(refused.code, "P0004");
    assert!(
        refused.detail.starts_with("left: table_privileges: Role \"service_role\" lacks INSERT"),
        "{refused:?}"
    );
}

/// To take a step back, a person runs what somebody else once wrote. Where reading it would run
/// that somebody's code, there is no such statement.
#[test]
fn no_undo_is_a_trap() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; CREATE SCHEMA apart AUTHORIZATION mallory; SET ROLE mallory;
             CREATE FUNCTION apart.look(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'it runs as %', current_user; END $$;
             CREATE DOMAIN apart.bait AS int; RESET ROLE;
             ALTER TABLE public.job_queue OWNER TO mallory;
             SET ROLE mallory; CREATE POLICY plain ON public.job_queue FOR SELECT TO anon USING (kind = 'it''s');
             RESET ROLE",
        )
        .unwrap();
    let undo =
        "SELECT coalesce(undo, 'none') FROM ops.golden_sql(rules => '{rls_policy_undeclared}')";
    assert_eq!(
        column(&mut client, undo),
        [
            "CREATE POLICY plain ON public.job_queue AS PERMISSIVE FOR SELECT TO anon USING ((kind = 'it''s'::text));"
        ]
    );
    client
        .batch_execute(
            "DROP POLICY plain ON public.job_queue;
             CREATE POLICY trap ON public.job_queue FOR SELECT TO anon USING (id = ANY ('{1}'::apart.bait[]));
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

/// A plan for a part; who may have one; and who carries it out does it with their own rights.
#[test]
fn for_whom_and_for_what() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT USAGE ON SCHEMA ops, enforcement TO anon; GRANT SELECT ON public.job_queue TO anon;
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
        ("22023", "there is no rule \"table_privilege\"")
    );
    client.batch_execute("BEGIN READ ONLY; SELECT * FROM ops.golden_sql(); ROLLBACK").unwrap();
    // Workers may look. They carry nothing out, and clients do not look.
    let as_role = |role: &str, sql: &str| format!("SET ROLE {role}; {sql}");
    attempt(&mut client, &as_role("service_role", "SELECT * FROM ops.golden_sql(); RESET ROLE"))
        .unwrap();
    for (role, call) in [("service_role", "apply_golden_sql"), ("anon", "golden_sql")] {
        let refused = attempt(&mut client, &as_role(role, &format!("SELECT * FROM ops.{call}()")))
            .unwrap_err();
        assert_eq!(refused.code, "42501", "{role}");
        client.batch_execute("RESET ROLE").unwrap();
    }
    // The role of the migrations owns the schemas; what belongs to a superuser it cannot change.
    let mut migration = cluster.connect("app", "postgres");
    migration.batch_execute("SELECT * FROM ops.apply_golden_sql(false)").unwrap();
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
    // What belongs to somebody else the server leaves as it is, with a warning of its own. So says
    // the step; and where an error is left, nothing is done.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE other; CREATE FUNCTION public.others() RETURNS int LANGUAGE sql AS 'SELECT 1';
             ALTER FUNCTION public.others() OWNER TO other; REVOKE SELECT ON public.v_judgment_pipeline FROM anon",
        )
        .unwrap();
    let apply = "SELECT outcome || ' ' || statement FROM ops.apply_golden_sql(false) WHERE outcome <> 'proposed'";
    assert_eq!(
        column(&mut migration, apply),
        [
            "incomplete GRANT EXECUTE ON ROUTINE public.others() TO service_role;",
            "incomplete REVOKE EXECUTE ON ROUTINE public.others() FROM PUBLIC;",
            "done GRANT SELECT ON TABLE public.v_judgment_pipeline TO anon;"
        ]
    );
    client
        .batch_execute(
            "GRANT SELECT ON public.judgments TO anon; ALTER TABLE public.judgments OWNER TO other",
        )
        .unwrap();
    let refused = attempt(
        &mut migration,
        "SELECT * FROM ops.apply_golden_sql(false, rules => '{table_privileges}')",
    )
    .unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.detail.as_str()),
        (
            "P0004",
            "left: table_privileges: Role \"anon\" has SELECT on table public.judgments, which the contract does not declare."
        )
    );
    assert!(refused.hint.contains("You are no superuser"), "{refused:?}");
    client.batch_execute("SET dragonfly_guard.mode = off; ALTER ROLE anon SUPERUSER").unwrap();
    let refused = attempt(&mut migration, "SELECT * FROM ops.apply_golden_sql(false)").unwrap_err();
    assert_eq!(refused.code, "42501");
    assert!(refused.message.starts_with("step 1 of the plan failed: "), "{refused:?}");
}

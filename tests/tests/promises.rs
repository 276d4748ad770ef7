//! The other promises of the contract, kept at DDL time: what is refused when, in the document's
//! own database, and what passes.

use dragonfly_tests::{Cluster, Refused, SUPERUSER, attempt, column, project, provide_extension};
use postgres::Client;

/// The document's database, guarded, and a connection of its migration role.
fn document(cluster: &Cluster, database: &str) -> Client {
    drop(cluster.guarded_document(database));
    cluster.connect(database, "postgres")
}

/// The refusal of a statement, which must be the guard's; nothing of it stays.
fn refusal(client: &mut Client, sql: &str) -> Refused {
    match attempt(client, sql) {
        Err(refused) if refused.message.contains("breaks the security contract") => {
            client.batch_execute("ROLLBACK; RESET ROLE").unwrap();
            refused
        }
        other => panic!("{sql}\nshould be refused by the guard: {other:?}"),
    }
}

fn passes(client: &mut Client, sql: &str) {
    attempt(client, sql).unwrap_or_else(|refused| panic!("{sql}\nshould pass: {refused:?}"));
}

fn findings(cluster: &Cluster, database: &str) -> Vec<String> {
    column(
        &mut cluster.connect(database, SUPERUSER),
        "SELECT rule || ' ' || object || ': ' || detail FROM ops.audit_security(min_severity => 'warning')",
    )
}

/// Refuses each, with a message that contains the second, by the rule that is the third.
fn refuses(cluster: &Cluster, database: &str, routes: &[(&str, &str, &str)]) {
    let client = document(cluster, database);
    refuses_to(client, cluster, database, routes);
}

fn refuses_to(
    mut client: Client,
    cluster: &Cluster,
    database: &str,
    routes: &[(&str, &str, &str)],
) {
    let before = findings(cluster, database);
    for (sql, message, rule) in routes {
        let refused = refusal(&mut client, sql);
        let said = format!("{} {}", refused.message, refused.detail);
        assert!(
            said.contains(message) && refused.detail.contains(&format!("Rule {rule}")),
            "{sql}\n{refused:?}"
        );
        assert!(!refused.hint.is_empty(), "{sql}: {refused:?}");
        assert_eq!(findings(cluster, database), before, "{sql}: something is left");
    }
}

#[test]
fn clients_gain_nothing() {
    let cluster = Cluster::start();
    provide_extension(
        "guard_plain",
        "default_version = '1'\nrelocatable = true\nsuperuser = true\ntrusted = true\n",
        "1",
        "CREATE FUNCTION x_plain() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    refuses(
        &cluster,
        "gains",
        &[
            ("GRANT SELECT ON public.judgments TO anon", "role \"anon\" has SELECT on table public.judgments", "table_privileges"),
            ("GRANT SELECT ON public.judgments TO PUBLIC", "PUBLIC (every role) has SELECT on table public.judgments", "table_privileges"),
            ("GRANT UPDATE ON public.judgments TO authenticated", "has UPDATE on table public.judgments", "direct_write"),
            ("GRANT SELECT ON public.judgments TO authenticated WITH GRANT OPTION", "may grant SELECT on table", "table_privileges"),
            ("GRANT SELECT (phone) ON public.plaintiff_contacts TO anon", "plaintiff_contacts", "column_privileges"),
            ("GRANT SELECT ON ALL TABLES IN SCHEMA ops TO anon", "role \"anon\" has SELECT on table ops.event_log", "table_privileges"),
            ("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO anon", "has USAGE on sequence", "sequence_privileges"),
            ("GRANT EXECUTE ON FUNCTION ops.complete_outbox_message TO anon", "has EXECUTE on function", "security_definer_executable_by_clients"),
            ("GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO authenticated", "open_actions", "routine_privileges"),
            ("GRANT ALL ON ALL ROUTINES IN SCHEMA enforcement TO anon", "open_actions", "routine_privileges"),
            ("GRANT USAGE ON SCHEMA ops TO authenticated", "role \"authenticated\" has USAGE on schema ops", "schema_usage"),
            ("GRANT CREATE ON SCHEMA intake TO service_role", "has CREATE on schema intake", "schema_create"),
            ("GRANT EXECUTE ON FUNCTION api.get_ceo_metrics() TO anon WITH GRANT OPTION", "may grant EXECUTE", "security_definer_executable_by_clients"),
            ("ALTER DEFAULT PRIVILEGES IN SCHEMA api GRANT EXECUTE ON FUNCTIONS TO anon WITH GRANT OPTION", "new routines", "default_privileges"),
            // What was closed is not opened by making it anew, with what the server gives to
            // everybody.
            (
                "BEGIN; DROP FUNCTION ops.complete_outbox_message(uuid);
                 CREATE FUNCTION ops.complete_outbox_message(message uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS '';
                 COMMIT",
                "PUBLIC (every role) has EXECUTE",
                "security_definer_executable_by_clients",
            ),
            // What an extension of the migration role's is given does not become the extension's.
            (
                "CREATE EXTENSION guard_plain SCHEMA ops; ALTER EXTENSION guard_plain ADD TABLE public.job_queue; GRANT SELECT ON public.job_queue TO anon",
                "role \"anon\" has SELECT on table public.job_queue",
                "table_privileges",
            ),
            (
                "CREATE TABLE ops.own (id int); CREATE EXTENSION guard_plain SCHEMA ops; ALTER EXTENSION guard_plain ADD TABLE ops.own; GRANT SELECT ON ops.own TO anon",
                "role \"anon\" has SELECT on table ops.own",
                "table_privileges",
            ),
            // A sequence that is no longer its table's.
            (
                "ALTER TABLE intake.simplicity_batches ADD n bigserial; GRANT USAGE ON SEQUENCE intake.simplicity_batches_n_seq TO authenticated;
                 ALTER SEQUENCE intake.simplicity_batches_n_seq OWNED BY NONE",
                "has USAGE on sequence",
                "sequence_privileges",
            ),
            (
                "CREATE FUNCTION ops.z() RETURNS int LANGUAGE sql AS 'select 1'; SET LOCAL dragonfly_guard.check_at = commit;
                 GRANT SELECT ON public.judgments TO anon",
                "has SELECT",
                "table_privileges",
            ),
            ("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon", "new tables in schema public", "default_privileges"),
            ("ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO authenticated", "schemas", "default_privileges"),
            // What holds in a statement holds in whatever it hides in.
            ("DO $$ BEGIN EXECUTE 'GRANT SELECT ON public.judgments TO anon'; END $$", "has SELECT", "table_privileges"),
            ("BEGIN; GRANT SELECT ON public.judgments TO anon; REVOKE SELECT ON public.judgments FROM anon", "has SELECT", "table_privileges"),
            (
                "CREATE FUNCTION ops.g() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'GRANT SELECT ON public.judgments TO anon'; RETURN 1; END $$;
                 CREATE MATERIALIZED VIEW ops.m AS SELECT ops.g() WITH NO DATA; REFRESH MATERIALIZED VIEW ops.m",
                "has SELECT on table public.judgments",
                "table_privileges",
            ),
            ("CREATE SCHEMA extra CREATE VIEW extra.v AS SELECT 1 GRANT SELECT ON public.judgments TO anon", "has SELECT", "table_privileges"),
            ("CREATE SCHEMA extra GRANT EXECUTE ON FUNCTION ops.complete_outbox_message(uuid) TO anon", "has EXECUTE", "security_definer_executable_by_clients"),
        ],
    );
    // Becoming the owner is the most that can be gained.
    let admin = cluster.connect("gains", SUPERUSER);
    refuses_to(
        admin,
        &cluster,
        "gains",
        &[
            (
                "ALTER TABLE public.judgments OWNER TO service_role",
                "belongs to role \"service_role\"",
                "object_ownership",
            ),
            (
                "ALTER FUNCTION enforcement.open_actions(bigint) OWNER TO authenticated",
                "belongs to role \"authenticated\"",
                "object_ownership",
            ),
            (
                "ALTER SCHEMA intake OWNER TO service_role",
                "belongs to role \"service_role\"",
                "object_ownership",
            ),
        ],
    );
}

#[test]
fn rows_stay_behind_their_policies() {
    let cluster = Cluster::start();
    refuses(
        &cluster,
        "rows",
        &[
            (
                "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY",
                "row level security is off on table public.judgments",
                "rls_disabled",
            ),
            (
                "ALTER TABLE public.job_queue DISABLE ROW LEVEL SECURITY",
                "row level security is off on table public.job_queue",
                "rls_disabled",
            ),
            (
                "CREATE POLICY more ON public.judgments FOR UPDATE TO authenticated USING (id > 0)",
                "lets role \"authenticated\" UPDATE",
                "rls_policy_undeclared",
            ),
            (
                "CREATE POLICY all_of_it ON public.job_queue USING (true)",
                "lets role \"anon\" SELECT, INSERT, UPDATE, DELETE on every row",
                "rls_policy_always_true",
            ),
            (
                "ALTER POLICY queue_worker ON public.job_queue TO service_role, anon",
                "lets role \"anon\"",
                "rls_policy_always_true",
            ),
            (
                "DROP POLICY judgments_read ON public.judgments",
                "lets role \"authenticated\" SELECT, which the contract declares",
                "rls_policy_missing",
            ),
            (
                "ALTER POLICY judgments_read ON public.judgments TO service_role",
                "which the contract declares",
                "rls_policy_missing",
            ),
            ("DROP OWNED BY authenticated", "which the contract declares", "rls_policy_missing"),
            // Reached, and without row security.
            (
                "CREATE TABLE public.open_table (id int); GRANT SELECT ON public.open_table TO anon",
                "anon",
                "table_privileges",
            ),
            (
                "ALTER TABLE public.judgments RENAME TO verdicts",
                "table public.judgments, which the contract declares, does not exist",
                "required_object_missing",
            ),
            (
                "ALTER TABLE public.judgments SET SCHEMA ops",
                "does not exist",
                "required_object_missing",
            ),
            ("DROP TABLE public.judgments CASCADE", "does not exist", "required_object_missing"),
            (
                "DROP VIEW public.v_plaintiffs_overview",
                "view public.v_plaintiffs_overview, which the contract declares, does not exist",
                "required_object_missing",
            ),
            ("DROP FUNCTION api.get_ceo_metrics()", "does not exist", "required_object_missing"),
            (
                "ALTER FUNCTION api.get_ceo_metrics() RENAME TO metrics",
                "does not exist",
                "required_object_missing",
            ),
            (
                "ALTER FUNCTION api.get_ceo_metrics() SECURITY INVOKER",
                "is not SECURITY DEFINER",
                "required_object_missing",
            ),
            (
                "DROP SCHEMA enforcement CASCADE",
                "which the contract declares, does not exist",
                "required_object_missing",
            ),
            (
                "BEGIN; DROP TABLE public.plaintiff_tasks CASCADE; CREATE VIEW public.plaintiff_tasks AS SELECT 1; COMMIT",
                "is a view",
                "required_object_missing",
            ),
            // A table that is dropped and made anew is the declared one, and nothing of what
            // protected it is left.
            (
                "BEGIN; DROP TABLE public.job_queue; CREATE TABLE public.job_queue (id int); COMMIT",
                "row level security is off on table public.job_queue",
                "rls_disabled",
            ),
            (
                "BEGIN; CREATE TABLE public.other (LIKE public.job_queue); DROP TABLE public.job_queue; ALTER TABLE public.other RENAME TO job_queue; COMMIT",
                "row level security is off on table public.job_queue",
                "rls_disabled",
            ),
        ],
    );
}

/// What lasts and rests on something temporary goes with it, when a session or a transaction ends,
/// and no command says so. In any schema: something declared may rest on it in turn.
#[test]
fn nothing_is_built_on_sand() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "sand");
    cluster
        .connect("sand", SUPERUSER)
        .batch_execute("CREATE SCHEMA elsewhere AUTHORIZATION postgres")
        .unwrap();
    passes(
        &mut client,
        "CREATE FUNCTION elsewhere.ok() RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT true; END;
         ALTER POLICY judgments_read ON public.judgments USING (elsewhere.ok())",
    );
    let definer = "CREATE FUNCTION pg_temp.d(text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN $1; END'";
    for sql in [
        "CREATE TEMP TABLE tt (a int); CREATE FUNCTION elsewhere.tf() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM tt; END;
         CREATE OR REPLACE VIEW public.v_plaintiffs_overview AS SELECT id, name, status, tier, elsewhere.tf() FROM public.plaintiffs",
        "CREATE VIEW elsewhere.base AS SELECT * FROM public.plaintiffs; CREATE OR REPLACE VIEW public.v_plaintiffs_overview AS SELECT id, name, status, tier FROM elsewhere.base;
         CREATE FUNCTION pg_temp.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OR REPLACE VIEW elsewhere.base AS SELECT * FROM public.plaintiffs WHERE pg_temp.one() = 1",
        "CREATE TEMP TABLE tt (a int); CREATE OR REPLACE FUNCTION elsewhere.ok() RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT NOT EXISTS (SELECT FROM tt); END",
        "CREATE TEMP TABLE tt (a int); ALTER POLICY batches_upload ON intake.simplicity_batches WITH CHECK (rows_total IS NULL AND exists (SELECT FROM tt))",
        "BEGIN; CREATE TEMP TABLE tt (a int) ON COMMIT DROP; ALTER POLICY judgments_read ON public.judgments USING (exists (SELECT FROM tt)); COMMIT",
        "CREATE TEMP TABLE tt (a int); CREATE FUNCTION api.queue_job(tt) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
        "CREATE TYPE pg_temp.ty AS (a int); CREATE TABLE elsewhere.t (c pg_temp.ty, d int);
         ALTER POLICY judgments_read ON public.judgments USING (NOT EXISTS (SELECT c FROM elsewhere.t))",
        // A21: a routine in the session's temporary schema that others would call by way of
        // something that lasts.
        "CREATE FUNCTION pg_temp.tf() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'begin return new; end';
         CREATE TRIGGER t BEFORE INSERT ON public.job_queue FOR EACH ROW EXECUTE FUNCTION pg_temp.tf()",
        &format!("{definer}; CREATE FUNCTION elsewhere.w() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT pg_temp.d('x'); END"),
        &format!(
            "{definer}; CREATE FUNCTION elsewhere.w(text DEFAULT pg_temp.d('a')) RETURNS text LANGUAGE sql AS 'SELECT $1'"
        ),
        &format!("{definer}; CREATE DOMAIN public.dom AS text CHECK (pg_temp.d(VALUE) = VALUE)"),
        &format!("CREATE DOMAIN public.dom AS text; {definer}; ALTER DOMAIN public.dom ADD CHECK (pg_temp.d(VALUE) = VALUE)"),
        &format!("{definer}; CREATE OPERATOR elsewhere.## (RIGHTARG = text, FUNCTION = pg_temp.d)"),
        &format!(
            "SET dragonfly_guard.check_at = commit; BEGIN; CREATE SCHEMA zzz; {definer}; CREATE VIEW elsewhere.v AS SELECT pg_temp.d('x'); COMMIT"
        ),
    ] {
        let mut client = cluster.connect("sand", if sql.contains("zzz") { SUPERUSER } else { "postgres" });
        let refused = attempt(&mut client, sql).expect_err(sql);
        assert!(refused.message.ends_with("depends on something temporary"), "{sql}: {refused:?}");
    }
    // What nobody was promised may be built on it, as people do when they try things out.
    passes(
        &mut client,
        "CREATE TEMP TABLE t1 (a int); CREATE FUNCTION elsewhere.takes(t1) RETURNS SETOF t1 LANGUAGE sql AS 'SELECT * FROM t1'",
    );
    passes(
        &mut client,
        "CREATE FUNCTION ops.count_them() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM t1; END; DROP TABLE t1 CASCADE",
    );
    // Temporary things among themselves, and a session that goes.
    passes(
        &mut client,
        "CREATE TEMP TABLE tt (a int); CREATE TEMP VIEW tv AS SELECT * FROM tt, public.plaintiffs; DROP VIEW tv; CREATE TABLE ops.kept AS SELECT * FROM tt",
    );
    passes(
        &mut client,
        &format!(
            "{definer}; CREATE DOMAIN pg_temp.dom AS text CHECK (pg_temp.d(VALUE) = VALUE); DISCARD TEMP"
        ),
    );
    passes(
        &mut client,
        "BEGIN; CREATE TEMP TABLE pt (a int PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> '')) ON COMMIT DROP; ALTER TABLE pt ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON pt USING (true); CREATE INDEX ON pt (b); CREATE TEMP SEQUENCE sq OWNED BY pt.a; COMMIT; DROP TABLE ops.kept",
    );
}

/// Overloads, and the table that a sequence serves, are looked at too.
#[test]
fn what_stands_beside_it_counts() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "beside");
    passes(
        &mut client,
        "CREATE FUNCTION api.queue_job(kind text, payload jsonb, prio int) RETURNS bigint LANGUAGE sql
           SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1::bigint'",
    );
    passes(&mut client, "DROP FUNCTION api.queue_job(text, jsonb)");
    refusal(&mut client, "DROP FUNCTION api.queue_job(text, jsonb, int)");
    refusal(
        &mut client,
        "CREATE FUNCTION api.queue_job(i int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    // That PUBLIC may call a new one is only warned of, and no excuse for granting it to somebody.
    passes(
        &mut client,
        "CREATE FUNCTION ops.new_one() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
    );
    refusal(&mut client, "GRANT EXECUTE ON FUNCTION ops.new_one() TO anon");
    passes(&mut client, "ALTER TABLE intake.simplicity_batches ADD n bigserial");
    passes(&mut client, "GRANT USAGE ON SEQUENCE intake.simplicity_batches_n_seq TO authenticated");
}

#[test]
fn what_is_forced_stays_forced() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "forced");
    passes(
        &mut client,
        "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY; ALTER TABLE public.judgments NO FORCE ROW LEVEL SECURITY",
    );
    cluster
        .connect("forced", SUPERUSER)
        .batch_execute(
            "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;
             INSERT INTO dragonfly_guard.contract (id, document) SELECT 2, jsonb_set(document, '{tables}', (
               SELECT jsonb_agg(t || CASE t->>'name' WHEN 'judgments' THEN '{\"force_row_security\": true}' ELSE '{}' END::jsonb)
                 FROM jsonb_array_elements(document->'tables') t)) FROM dragonfly_guard.contract",
        )
        .unwrap();
    let refused = refusal(&mut client, "ALTER TABLE public.judgments NO FORCE ROW LEVEL SECURITY");
    assert!(
        refused.message.contains("is not forced on its owner, which the contract demands"),
        "{refused:?}"
    );
}

#[test]
fn new_tables_that_clients_reach() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "newcomers");
    passes(&mut client, "CREATE TABLE public.private_notes (id int)");
    // Supabase's default privileges, which the contract does not declare, were there before.
    cluster
        .connect("newcomers", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role",
        )
        .unwrap();
    let refused = refusal(&mut client, "CREATE TABLE public.notes (id int)");
    let said = refused.message + &refused.detail;
    assert!(
        said.contains("has SELECT")
            && said.contains("row level security is off on table public.notes"),
        "{said}"
    );
    for make in [
        "CREATE TABLE public.notes AS SELECT 1 AS id",
        "SELECT 1 AS id INTO public.notes",
        "CREATE TABLE public.notes (LIKE public.judgments INCLUDING ALL)",
        "CREATE TABLE public.notes () INHERITS (public.judgments)",
        "CREATE TABLE ops.notes (id int); ALTER TABLE ops.notes SET SCHEMA public; GRANT SELECT ON public.notes TO authenticated",
    ] {
        refusal(&mut client, make);
    }
    // The same in one transaction that makes it whole.
    passes(
        &mut client,
        "BEGIN; CREATE TABLE public.notes (id int); ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
         REVOKE ALL ON public.notes FROM anon, authenticated; COMMIT",
    );
    assert_eq!(
        column(
            &mut client,
            "SELECT relrowsecurity::text FROM pg_class WHERE oid = 'public.notes'::regclass"
        ),
        ["true"]
    );
}

#[test]
fn dropped_and_made_anew_in_one_transaction() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "anew");
    let before = findings(&cluster, "anew");
    passes(
        &mut client,
        "BEGIN; DROP VIEW public.v_plaintiff_call_queue CASCADE;
         CREATE VIEW public.v_plaintiff_call_queue AS SELECT p.id, p.name FROM public.plaintiffs p;
         GRANT SELECT ON public.v_plaintiff_call_queue TO anon, authenticated, service_role;
         GRANT ALL ON public.v_plaintiff_call_queue TO service_role;
         CREATE FUNCTION api.get_call_queue() RETURNS SETOF public.v_plaintiff_call_queue LANGUAGE sql STABLE
           SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT * FROM v_plaintiff_call_queue';
         REVOKE EXECUTE ON FUNCTION api.get_call_queue() FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION api.get_call_queue() TO anon, authenticated, service_role; COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; DROP POLICY judgments_read ON public.judgments;
         CREATE POLICY judgments_reading ON public.judgments FOR SELECT TO authenticated USING (amount > 0); COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; ALTER TABLE public.job_queue RENAME TO job_queue_old;
         CREATE TABLE public.job_queue (id bigserial PRIMARY KEY, kind text);
         CREATE POLICY w ON public.job_queue TO service_role USING (true);
         ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY;
         GRANT ALL ON public.job_queue TO service_role; GRANT ALL ON SEQUENCE public.job_queue_id_seq1 TO service_role;
         DROP TABLE public.job_queue_old CASCADE; COMMIT",
    );
    assert_eq!(findings(&cluster, "anew"), before);
    // In two transactions there is a moment without it.
    let refused = refusal(&mut client, "DROP VIEW public.v_plaintiffs_overview");
    assert!(refused.message.starts_with("DROP VIEW breaks"), "{refused:?}");
    assert_eq!(refused.code, "2BP01");
    // A savepoint that is rolled back takes back what would have made it whole.
    refusal(
        &mut client,
        "BEGIN; DROP VIEW public.v_plaintiffs_overview; SAVEPOINT s;
         CREATE VIEW public.v_plaintiffs_overview AS SELECT 1 AS id; ROLLBACK TO s; COMMIT",
    );
    refusal(&mut client, "BEGIN; DROP VIEW public.v_plaintiffs_overview; PREPARE TRANSACTION 'x'");
    // A procedure commits in between.
    passes(
        &mut client,
        "CREATE PROCEDURE ops.replace() LANGUAGE plpgsql AS $$ BEGIN DROP VIEW public.v_plaintiffs_overview; COMMIT; END $$",
    );
    let refused = attempt(&mut client, "CALL ops.replace()").unwrap_err();
    assert!(refused.message.contains("breaks the security contract"), "{refused:?}");
    assert_eq!(
        column(&mut client, "SELECT to_regclass('public.v_plaintiffs_overview')::text"),
        ["v_plaintiffs_overview"]
    );
}

#[test]
fn everything_at_commit_where_somebody_wants_it_so() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "deferred");
    passes(&mut client, "SET dragonfly_guard.check_at = commit");
    // As Supabase's own functions for pg_net do it: first SECURITY DEFINER, then the path.
    passes(
        &mut client,
        "BEGIN; CREATE FUNCTION ops.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION ops.f() FROM PUBLIC;
         ALTER FUNCTION ops.f() SECURITY DEFINER; ALTER FUNCTION ops.f() SET search_path = public, pg_temp; COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; GRANT SELECT ON public.judgments TO anon; REVOKE SELECT ON public.judgments FROM anon; COMMIT",
    );
    refusal(&mut client, "BEGIN; GRANT SELECT ON public.judgments TO anon; COMMIT");
    let refused = attempt(&mut client, "BEGIN; ALTER FUNCTION ops.f() RESET search_path; COMMIT")
        .unwrap_err();
    assert_eq!(refused.code, "42P13");
    passes(&mut client, "ROLLBACK");
    refusal(&mut client, "GRANT SELECT ON public.judgments TO anon");
}

#[test]
fn warnings_are_for_what_may_be_meant() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "warned");
    let warned = |message: &str| cluster.log().contains(&format!("WARNING:  {message}"));
    // A view that clients read, a SECURITY DEFINER function that PUBLIC may call: they pass, and
    // are not passed over.
    passes(
        &mut client,
        "CREATE VIEW public.v_extra AS SELECT id FROM public.judgments; GRANT SELECT ON public.v_extra TO anon",
    );
    assert!(
        warned(
            "COMMIT breaks the security contract: role \"anon\" has SELECT on view public.v_extra"
        ),
        "{}",
        cluster.log()
    );
    passes(
        &mut client,
        "CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
    );
    assert!(warned(
        "CREATE FUNCTION breaks the security contract: PUBLIC (every role) has EXECUTE on function public.helper()"
    ));
    // An ordinary function is no cause for a word.
    passes(&mut client, "CREATE FUNCTION public.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    assert!(!cluster.log().contains("public.plain()"));
    // What clients cannot read is nobody's business; what runs with their own rights is a note.
    passes(
        &mut client,
        "CREATE VIEW public.v_own AS SELECT 1 AS id; CREATE VIEW public.v_inv WITH (security_invoker) AS SELECT id FROM public.judgments; GRANT SELECT ON public.v_inv TO anon",
    );
    assert!(
        !cluster.log().contains("v_own") && !cluster.log().contains("v_inv"),
        "{}",
        cluster.log()
    );
    // With the whole guard set to warn, once for each thing.
    let mut admin = cluster.connect("warned", SUPERUSER);
    passes(
        &mut admin,
        "SET dragonfly_guard.mode = warn; BEGIN; GRANT SELECT ON public.judgments TO anon; DROP VIEW public.v_judgment_pipeline; COMMIT",
    );
    let log = cluster.log();
    assert_eq!(
        log.matches("WARNING:  GRANT breaks the security contract: role \"anon\" has SELECT on table public.judgments").count(),
        1
    );
    assert!(
        !log.contains("WARNING:  COMMIT breaks the security contract: role \"anon\" has SELECT on table public.judgments"),
        "{log}"
    );
    assert!(warned(
        "COMMIT breaks the security contract: view public.v_judgment_pipeline, which the contract declares, does not exist"
    ));
}

#[test]
fn what_was_wrong_may_stay_and_be_mended_in_steps() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "old");
    cluster
        .connect("old", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             GRANT ALL ON public.judgments TO anon; ALTER TABLE public.plaintiffs DISABLE ROW LEVEL SECURITY;
             CREATE TABLE public.legacy (id int); GRANT SELECT ON public.legacy TO PUBLIC; DROP VIEW public.v_collectability_snapshot;
             CREATE POLICY wide ON public.judgments TO anon USING (true)",
        )
        .unwrap();
    for sql in [
        "ALTER TABLE public.judgments ADD COLUMN note text; ALTER TABLE public.plaintiffs ADD COLUMN note text; CREATE INDEX ON public.legacy (id)",
        "ALTER TABLE public.legacy RENAME TO legacy_2; ALTER TABLE public.legacy_2 RENAME TO legacy",
        "ALTER POLICY wide ON public.judgments RENAME TO wider",
        "REVOKE DELETE ON public.judgments FROM anon",
        "REVOKE INSERT, UPDATE, TRUNCATE, REFERENCES, TRIGGER ON public.judgments FROM anon",
        "BEGIN; CREATE TABLE public.legacy_3 AS TABLE public.legacy; GRANT SELECT ON public.legacy_3 TO PUBLIC; DROP TABLE public.legacy; ALTER TABLE public.legacy_3 RENAME TO legacy; COMMIT",
        "GRANT SELECT ON public.judgments TO anon",
        "DROP TABLE public.legacy",
        "ALTER TABLE public.plaintiffs ENABLE ROW LEVEL SECURITY",
        "DROP POLICY wider ON public.judgments",
        "REVOKE ALL ON public.judgments FROM anon",
    ] {
        passes(&mut client, sql);
    }
    refusal(&mut client, "GRANT SELECT ON public.judgments TO anon");
    refusal(&mut client, "ALTER TABLE public.plaintiffs DISABLE ROW LEVEL SECURITY");
    // Another table in the place of an old sinner has no past of its own to hide behind.
    cluster
        .connect("old", SUPERUSER)
        .batch_execute("SET dragonfly_guard.mode = off; SET ROLE postgres; CREATE TABLE public.free (id int); GRANT SELECT ON public.free TO anon")
        .unwrap();
    refusal(
        &mut client,
        "BEGIN; ALTER TABLE public.free RENAME TO was_free; ALTER TABLE public.plaintiff_tasks RENAME TO free; GRANT SELECT ON public.free TO anon; COMMIT",
    );
}

/// A team that begins with the extension: the document's whole database, statement by statement,
/// under the guard.
#[test]
fn the_documents_database_can_be_built_under_the_guard() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE ROLE postgres LOGIN").unwrap();
    let mut client = cluster.guarded("built");
    client.batch_execute("ALTER SCHEMA ops OWNER TO postgres").unwrap();
    let document = std::fs::read_to_string(project().join("tests/fixtures/document.sql")).unwrap();
    let document = document
        .replace("CREATE SCHEMA ops;", "")
        .replace("CREATE ROLE postgres LOGIN", "ALTER ROLE postgres LOGIN");
    let file = std::env::temp_dir().join(format!("dragonfly_built_{}.sql", std::process::id()));
    std::fs::write(&file, document).unwrap();
    let output = cluster.client_program(
        "psql",
        &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "built", "-f", file.to_str().unwrap()],
    );
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    client.batch_execute("GRANT USAGE ON SCHEMA ops TO service_role").unwrap();
    assert_eq!(findings(&cluster, "built"), [""; 0]);
}

#[test]
fn how_identifiers_are_quoted_changes_nothing() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "quoted");
    client.batch_execute("SET quote_all_identifiers = on").unwrap();
    let refused = refusal(&mut client, "DROP FUNCTION ops.complete_outbox_message(uuid)");
    assert!(refused.message.contains("ops.complete_outbox_message"), "{refused:?}");
    let mut admin = cluster.connect("quoted", SUPERUSER);
    admin.batch_execute("SET quote_all_identifiers = on").unwrap();
    assert_eq!(
        column(&mut admin, "SELECT detail FROM ops.audit_security(min_severity => 'warning')"),
        [""; 0]
    );
}

/// A schema that takes the name of a governed one brings what is wrong in it: what was wrong in the
/// other excuses nothing, for that is still there.
#[test]
fn schemas_that_swap_their_names_excuse_nothing() {
    let cluster = Cluster::start();
    drop(document(&cluster, "swapped"));
    let mut admin = cluster.connect("swapped", SUPERUSER);
    admin
        .batch_execute(
            "SET client_min_messages = error; SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE TABLE enforcement.t (id int); GRANT SELECT ON enforcement.t TO anon;
             CREATE SCHEMA aside; GRANT USAGE ON SCHEMA aside TO service_role;
             CREATE TABLE aside.t (id int); GRANT SELECT ON aside.t TO anon;
             RESET ROLE; SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let swap = "BEGIN; ALTER SCHEMA enforcement RENAME TO enforcement_old; ALTER SCHEMA aside RENAME TO enforcement; COMMIT";
    let refused = refusal(&mut admin, swap);
    assert!(
        refused.message.contains("role \"anon\" has SELECT on table enforcement.t"),
        "{refused:?}"
    );
}

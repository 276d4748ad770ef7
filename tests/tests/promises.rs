//! Regressions against the other rules, in the document's database: which statements are rejected,
//! when, and which pass.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{
    Cluster, SUPERUSER, ServerError, attempt, column, project, provide_extension,
};
use postgres::Client;

/// Returns a connection of the migration role to the document's database with the extension.
fn document(cluster: &Cluster, database: &str) -> Client {
    drop(cluster.guarded_document(database));
    cluster.connect(database, "postgres")
}

/// Returns the rejection of a statement, which must be the guard's, and rolls back.
fn rejection(client: &mut Client, sql: &str) -> ServerError {
    match attempt(client, sql) {
        Err(rejected) if rejected.message.contains(" violates the security contract: ") => {
            client.batch_execute("ROLLBACK; RESET ROLE").unwrap();
            rejected
        }
        other => panic!("{sql}\nshould be rejected by the guard: {other:?}"),
    }
}

fn passes(client: &mut Client, sql: &str) {
    attempt(client, sql).unwrap_or_else(|rejected| panic!("{sql}\nshould pass: {rejected:?}"));
}

fn findings(cluster: &Cluster, database: &str) -> Vec<String> {
    column(
        &mut cluster.connect(database, SUPERUSER),
        "SELECT rule || ' ' || object || ': ' || detail FROM ops.audit_security(min_severity => \
         'warning')",
    )
}

/// Checks that each statement is rejected by the given rule, with the given text in message or
/// DETAIL.
fn rejects(cluster: &Cluster, database: &str, routes: &[(&str, &str, &str)]) {
    let client = document(cluster, database);
    rejects_as(client, cluster, database, routes);
}

fn rejects_as(
    mut client: Client,
    cluster: &Cluster,
    database: &str,
    routes: &[(&str, &str, &str)],
) {
    let before = findings(cluster, database);
    for (sql, expected, rule) in routes {
        let rejected = rejection(&mut client, sql);
        let text = format!("{} {}", rejected.message, rejected.detail);
        assert!(
            text.contains(expected) && rejected.detail.contains(&format!("Rule {rule}")),
            "{sql}\n{rejected:?}"
        );
        assert!(!rejected.hint.is_empty(), "{sql}: {rejected:?}");
        assert_eq!(findings(cluster, database), before, "{sql}: something is left");
    }
}

#[test]
fn undeclared_privileges_of_clients_are_rejected() {
    let cluster = Cluster::start();
    provide_extension(
        "guard_plain",
        "default_version = '1'\nrelocatable = true\nsuperuser = true\ntrusted = true\n",
        "1",
        "CREATE FUNCTION x_plain() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    rejects(
        &cluster,
        "gains",
        &[
            (
                "GRANT SELECT ON public.judgments TO anon",
                "Role \"anon\" has SELECT on table \
                public.judgments",
                "table_privileges",
            ),
            (
                "GRANT SELECT ON public.judgments TO PUBLIC",
                "PUBLIC (every role) has SELECT on \
                table public.judgments",
                "table_privileges",
            ),
            (
                "GRANT UPDATE ON public.judgments TO authenticated",
                "has UPDATE on table \
                public.judgments",
                "direct_write",
            ),
            (
                "GRANT SELECT ON public.judgments TO authenticated WITH GRANT OPTION",
                "has the grant \
                option for SELECT on table",
                "table_privileges",
            ),
            (
                "GRANT SELECT (phone) ON public.plaintiff_contacts TO \
              anon",
                "plaintiff_contacts",
                "column_privileges",
            ),
            (
                "GRANT SELECT ON ALL TABLES IN SCHEMA ops TO anon",
                "Role \"anon\" has SELECT on \
                table ops.event_log",
                "table_privileges",
            ),
            (
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO anon",
                "has USAGE on \
                sequence",
                "sequence_privileges",
            ),
            (
                "GRANT EXECUTE ON FUNCTION ops.complete_outbox_message TO anon",
                "has EXECUTE on \
                function",
                "security_definer_executable_by_clients",
            ),
            (
                "GRANT EXECUTE ON FUNCTION enforcement.open_actions(bigint) TO \
              authenticated",
                "open_actions",
                "routine_privileges",
            ),
            (
                "GRANT ALL ON ALL ROUTINES IN SCHEMA enforcement TO \
              anon",
                "open_actions",
                "routine_privileges",
            ),
            (
                "GRANT USAGE ON SCHEMA ops TO authenticated",
                "Role \"authenticated\" has USAGE on \
                schema ops",
                "schema_usage",
            ),
            (
                "GRANT CREATE ON SCHEMA intake TO service_role",
                "has CREATE on schema \
                intake",
                "schema_create",
            ),
            (
                "GRANT EXECUTE ON FUNCTION api.get_ceo_metrics() TO anon WITH GRANT OPTION",
                "has the \
                grant option for EXECUTE",
                "security_definer_executable_by_clients",
            ),
            (
                "ALTER DEFAULT PRIVILEGES IN SCHEMA api GRANT EXECUTE ON FUNCTIONS TO anon WITH \
              GRANT OPTION",
                "on new routines in schema api",
                "default_privileges",
            ),
            // The successor of a function without EXECUTE for PUBLIC must not have the default
            // privilege.
            (
                "BEGIN; DROP FUNCTION ops.complete_outbox_message(uuid);
                 CREATE FUNCTION ops.complete_outbox_message(message uuid) RETURNS void LANGUAGE \
                 sql SECURITY DEFINER SET search_path = public, pg_temp AS '';
                 COMMIT",
                "PUBLIC (every role) has EXECUTE",
                "security_definer_executable_by_clients",
            ),
            // A table that is added to an extension of the migration role is still checked.
            (
                "CREATE EXTENSION guard_plain SCHEMA ops; ALTER EXTENSION guard_plain ADD TABLE \
                 public.job_queue; GRANT SELECT ON public.job_queue TO anon",
                "Role \"anon\" has SELECT on table public.job_queue",
                "table_privileges",
            ),
            (
                "CREATE TABLE ops.own (id int); CREATE EXTENSION guard_plain SCHEMA ops; ALTER \
                 EXTENSION guard_plain ADD TABLE ops.own; GRANT SELECT ON ops.own TO anon",
                "Role \"anon\" has SELECT on table ops.own",
                "table_privileges",
            ),
            // A sequence that no longer belongs to its table, and that no default of it uses.
            (
                "ALTER TABLE intake.simplicity_batches ADD n bigserial; GRANT USAGE ON SEQUENCE \
                 intake.simplicity_batches_n_seq TO authenticated;
                 ALTER TABLE intake.simplicity_batches ALTER n DROP DEFAULT;
                 ALTER SEQUENCE intake.simplicity_batches_n_seq OWNED BY NONE",
                "has USAGE on sequence",
                "sequence_privileges",
            ),
            (
                "CREATE FUNCTION ops.z() RETURNS int LANGUAGE sql AS 'select 1'; SET LOCAL \
                 dragonfly_guard.check_at = commit;
                 GRANT SELECT ON public.judgments TO anon",
                "has SELECT",
                "table_privileges",
            ),
            (
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon",
                "on new \
                tables in schema public",
                "default_privileges",
            ),
            (
                "ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO \
              authenticated",
                "schemas",
                "default_privileges",
            ),
            // The same statements inside other statements.
            (
                "DO $$ BEGIN EXECUTE 'GRANT SELECT ON public.judgments TO anon'; END $$",
                "has \
                SELECT",
                "table_privileges",
            ),
            (
                "BEGIN; GRANT SELECT ON public.judgments TO anon; REVOKE SELECT ON \
              public.judgments FROM anon",
                "has SELECT",
                "table_privileges",
            ),
            (
                "CREATE FUNCTION ops.g() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'GRANT \
                 SELECT ON public.judgments TO anon'; RETURN 1; END $$;
                 CREATE MATERIALIZED VIEW ops.m AS SELECT ops.g() WITH NO DATA; REFRESH \
                 MATERIALIZED VIEW ops.m",
                "has SELECT on table public.judgments",
                "table_privileges",
            ),
            (
                "CREATE SCHEMA extra CREATE VIEW extra.v AS SELECT 1 GRANT SELECT ON \
              public.judgments TO anon",
                "has SELECT",
                "table_privileges",
            ),
            (
                "CREATE SCHEMA extra GRANT EXECUTE ON FUNCTION ops.complete_outbox_message(uuid) \
              TO anon",
                "has EXECUTE",
                "security_definer_executable_by_clients",
            ),
        ],
    );
    // An owner has all privileges.
    let admin = cluster.connect("gains", SUPERUSER);
    rejects_as(
        admin,
        &cluster,
        "gains",
        &[
            (
                "ALTER TABLE public.judgments OWNER TO service_role",
                "is owned by role \"service_role\"",
                "object_ownership",
            ),
            (
                "ALTER FUNCTION enforcement.open_actions(bigint) OWNER TO authenticated",
                "is owned by role \"authenticated\"",
                "object_ownership",
            ),
            (
                "ALTER SCHEMA intake OWNER TO service_role",
                "is owned by role \"service_role\"",
                "object_ownership",
            ),
        ],
    );
}

#[test]
fn weaker_row_security_and_missing_objects_are_rejected() {
    let cluster = Cluster::start();
    rejects(
        &cluster,
        "rows",
        &[
            (
                "ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY",
                "Row security is disabled on table public.judgments",
                "rls_disabled",
            ),
            (
                "ALTER TABLE public.job_queue DISABLE ROW LEVEL SECURITY",
                "Row security is disabled on table public.job_queue",
                "rls_disabled",
            ),
            (
                "CREATE POLICY more ON public.judgments FOR UPDATE TO authenticated USING (id > 0)",
                "allows role \"authenticated\" to UPDATE",
                "rls_policy_undeclared",
            ),
            (
                "CREATE POLICY all_of_it ON public.plaintiff_contacts USING (true)",
                "allows role \"anon\" to SELECT, INSERT, UPDATE, DELETE, which the contract does \
                 not declare; its condition is always true, so it applies to every row.",
                "rls_policy_always_true",
            ),
            (
                "ALTER POLICY contacts_worker ON public.plaintiff_contacts TO service_role, anon",
                "allows role \"anon\" to",
                "rls_policy_always_true",
            ),
            (
                "DROP POLICY judgments_read ON public.judgments",
                "allows role \"authenticated\" to SELECT, which the contract declares",
                "rls_policy_missing",
            ),
            (
                "ALTER POLICY judgments_read ON public.judgments TO service_role",
                "which the contract declares",
                "rls_policy_missing",
            ),
            ("DROP OWNED BY authenticated", "which the contract declares", "rls_policy_missing"),
            // A client can access a table without row security.
            (
                "CREATE TABLE public.open_table (id int); GRANT SELECT ON public.open_table TO \
                 anon",
                "anon",
                "table_privileges",
            ),
            (
                "ALTER TABLE public.judgments RENAME TO verdicts",
                "Table public.judgments, which the contract declares, does not exist",
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
                "View public.v_plaintiffs_overview, which the contract declares, does not exist",
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
                "BEGIN; DROP TABLE public.plaintiff_tasks CASCADE; CREATE VIEW \
                 public.plaintiff_tasks AS SELECT 1; COMMIT",
                "is a view",
                "required_object_missing",
            ),
            // A table that is dropped and created again is the declared one, without its
            // protection.
            (
                "BEGIN; DROP TABLE public.job_queue; CREATE TABLE public.job_queue (id int); \
                 COMMIT",
                "Row security is disabled on table public.job_queue",
                "rls_disabled",
            ),
            (
                "BEGIN; CREATE TABLE public.other (LIKE public.job_queue); DROP TABLE \
                 public.job_queue; ALTER TABLE public.other RENAME TO job_queue; COMMIT",
                "Row security is disabled on table public.job_queue",
                "rls_disabled",
            ),
        ],
    );
}

/// A permanent object that depends on a temporary one is dropped with it at the end of the session
/// or transaction, without a command. Objects of all schemas count, because declared objects may
/// depend on them.
#[test]
fn permanent_object_with_a_temporary_dependency_is_rejected() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "temporary");
    cluster
        .connect("temporary", SUPERUSER)
        .batch_execute("CREATE SCHEMA elsewhere AUTHORIZATION postgres")
        .unwrap();
    passes(
        &mut client,
        "CREATE FUNCTION elsewhere.ok() RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT true; \
         END;
         ALTER POLICY judgments_read ON public.judgments USING (elsewhere.ok())",
    );
    let definer = "CREATE FUNCTION pg_temp.d(text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER \
                   AS 'BEGIN RETURN $1; END'";
    let invoker = definer.replace(" SECURITY DEFINER", "");
    let replaced = definer.replace("CREATE", "CREATE OR REPLACE");
    for sql in [
        "CREATE TEMP TABLE tt (a int); CREATE FUNCTION elsewhere.tf() RETURNS bigint LANGUAGE sql \
         BEGIN ATOMIC SELECT count(*) FROM tt; END;
         CREATE OR REPLACE VIEW public.v_plaintiffs_overview AS SELECT id, name, status, tier, \
         elsewhere.tf() FROM public.plaintiffs",
        "CREATE VIEW elsewhere.base AS SELECT * FROM public.plaintiffs; CREATE OR REPLACE VIEW \
         public.v_plaintiffs_overview AS SELECT id, name, status, tier FROM elsewhere.base;
         CREATE FUNCTION pg_temp.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE OR REPLACE \
         VIEW elsewhere.base AS SELECT * FROM public.plaintiffs WHERE pg_temp.one() = 1",
        "CREATE TEMP TABLE tt (a int); CREATE OR REPLACE FUNCTION elsewhere.ok() RETURNS bool \
         LANGUAGE sql STABLE BEGIN ATOMIC SELECT NOT EXISTS (SELECT FROM tt); END",
        "CREATE TEMP TABLE tt (a int); ALTER POLICY batches_upload ON intake.simplicity_batches \
         WITH CHECK (rows_total IS NULL AND exists (SELECT FROM tt))",
        "BEGIN; CREATE TEMP TABLE tt (a int) ON COMMIT DROP; ALTER POLICY judgments_read ON \
         public.judgments USING (exists (SELECT FROM tt)); COMMIT",
        "CREATE TEMP TABLE tt (a int); CREATE FUNCTION api.queue_job(tt) RETURNS int LANGUAGE sql \
         SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
        "CREATE TYPE pg_temp.ty AS (a int); CREATE TABLE elsewhere.t (c pg_temp.ty, d int);
         ALTER POLICY judgments_read ON public.judgments USING (NOT EXISTS (SELECT c FROM \
         elsewhere.t))",
        // A21: a routine in the session's temporary schema that other sessions would call through a
        // permanent object.
        "CREATE FUNCTION pg_temp.tf() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'begin \
         return new; end';
         CREATE TRIGGER t BEFORE INSERT ON public.job_queue FOR EACH ROW EXECUTE FUNCTION \
         pg_temp.tf()",
        &format!(
            "{definer}; CREATE FUNCTION elsewhere.w() RETURNS text LANGUAGE sql BEGIN ATOMIC \
                  SELECT pg_temp.d('x'); END"
        ),
        &format!(
            "{definer}; CREATE FUNCTION elsewhere.w(text DEFAULT pg_temp.d('a')) RETURNS text \
             LANGUAGE sql AS 'SELECT $1'"
        ),
        &format!("{definer}; CREATE DOMAIN public.dom AS text CHECK (pg_temp.d(VALUE) = VALUE)"),
        &format!(
            "CREATE DOMAIN public.dom AS text; {definer}; ALTER DOMAIN public.dom ADD CHECK \
                  (pg_temp.d(VALUE) = VALUE)"
        ),
        &format!("{definer}; CREATE OPERATOR elsewhere.## (RIGHTARG = text, FUNCTION = pg_temp.d)"),
        &format!(
            "SET dragonfly_guard.check_at = commit; BEGIN; CREATE SCHEMA zzz; {definer}; CREATE \
             VIEW elsewhere.v AS SELECT pg_temp.d('x'); COMMIT"
        ),
        // It becomes SECURITY DEFINER after the permanent object was created.
        &format!(
            "{invoker}; CREATE TABLE elsewhere.later (a int, b text DEFAULT pg_temp.d('x')); \
             ALTER FUNCTION pg_temp.d SECURITY DEFINER"
        ),
        &format!("{invoker}; CREATE VIEW elsewhere.late AS SELECT pg_temp.d('x'); {replaced}"),
        &format!(
            "{invoker}; CREATE FUNCTION pg_temp.calls() RETURNS text LANGUAGE sql BEGIN ATOMIC \
             SELECT pg_temp.d('x'); END; CREATE VIEW elsewhere.late AS SELECT pg_temp.calls(); \
             ALTER FUNCTION pg_temp.d SECURITY DEFINER"
        ),
        &format!(
            "SET dragonfly_guard.check_at = commit; BEGIN; {invoker}; CREATE OPERATOR \
             elsewhere.### (RIGHTARG = text, FUNCTION = pg_temp.d); ALTER FUNCTION pg_temp.d \
             SECURITY DEFINER; COMMIT"
        ),
    ] {
        let mut client =
            cluster.connect("temporary", if sql.contains("zzz") { SUPERUSER } else { "postgres" });
        let rejected = attempt(&mut client, sql).expect_err(sql);
        assert!(rejected.message.ends_with("depends on a temporary object"), "{sql}: {rejected:?}");
    }
    // Objects on which no declared object depends may have temporary dependencies.
    passes(
        &mut client,
        "CREATE TEMP TABLE t1 (a int); CREATE FUNCTION elsewhere.takes(t1) RETURNS SETOF t1 \
         LANGUAGE sql AS 'SELECT * FROM t1'",
    );
    passes(
        &mut client,
        "CREATE FUNCTION ops.count_them() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) \
         FROM t1; END; DROP TABLE t1 CASCADE",
    );
    // Temporary objects may depend on each other, and DISCARD TEMP passes.
    passes(
        &mut client,
        "CREATE TEMP TABLE tt (a int); CREATE TEMP VIEW tv AS SELECT * FROM tt, public.plaintiffs; \
         DROP VIEW tv; CREATE TABLE ops.kept AS SELECT * FROM tt",
    );
    passes(
        &mut client,
        &format!(
            "{definer}; CREATE DOMAIN pg_temp.dom AS text CHECK (pg_temp.d(VALUE) = VALUE); \
             DISCARD TEMP"
        ),
    );
    passes(
        &mut client,
        "BEGIN; CREATE TEMP TABLE pt (a int PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> '')) ON \
         COMMIT DROP; ALTER TABLE pt ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON pt USING (true); CREATE INDEX ON pt (b); CREATE TEMP SEQUENCE sq OWNED \
         BY pt.a; COMMIT; DROP TABLE ops.kept",
    );
}

/// Overloads, and the table that owns a sequence, are checked as well.
#[test]
fn related_objects_are_checked() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "beside");
    passes(
        &mut client,
        "CREATE FUNCTION api.queue_job(kind text, payload jsonb, prio int) RETURNS bigint LANGUAGE \
         sql
           SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1::bigint'",
    );
    passes(&mut client, "DROP FUNCTION api.queue_job(text, jsonb)");
    rejection(&mut client, "DROP FUNCTION api.queue_job(text, jsonb, int)");
    rejection(
        &mut client,
        "CREATE FUNCTION api.queue_job(i int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    // EXECUTE of PUBLIC on a new function is only a warning, but does not excuse a GRANT to a
    // client.
    passes(
        &mut client,
        "CREATE FUNCTION ops.new_one() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
         public, pg_temp AS 'SELECT 1'",
    );
    rejection(&mut client, "GRANT EXECUTE ON FUNCTION ops.new_one() TO anon");
    passes(&mut client, "ALTER TABLE intake.simplicity_batches ADD n bigserial");
    passes(&mut client, "GRANT USAGE ON SEQUENCE intake.simplicity_batches_n_seq TO authenticated");
}

/// A client that is a member of a worker could call a function through PUBLIC: that the worker gets
/// EXECUTE instead opens nothing. Where PUBLIC did not have it, it does.
#[test]
fn execute_of_public_may_become_that_of_a_role_with_a_client_as_its_member() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "member");
    cluster
        .connect("member", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER ROLE anon INHERIT; GRANT service_role TO anon;
             SET ROLE postgres; CREATE FUNCTION ops.helper() RETURNS int LANGUAGE sql
               AS 'SELECT 1';
             CREATE FUNCTION ops.definer() RETURNS int LANGUAGE sql SECURITY DEFINER
               SET search_path = public, pg_temp AS 'SELECT 1'",
        )
        .unwrap();
    for function in ["ops.helper()", "ops.definer()"] {
        let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO service_role");
        let revoke = |from: &str| format!("REVOKE EXECUTE ON FUNCTION {function} FROM {from}");
        rejection(&mut client, &format!("{grant}, anon"));
        passes(&mut client, &format!("BEGIN; {grant}; {}; COMMIT", revoke("PUBLIC")));
        passes(&mut client, &revoke("service_role"));
        let rejected = rejection(&mut client, &grant);
        assert!(
            rejected.detail.contains("Role \"anon\" has EXECUTE on function ops.")
                && rejected.detail.contains("through membership in \"service_role\""),
            "{rejected:?}"
        );
    }
}

#[test]
fn no_force_on_a_declared_table_is_rejected() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "forced");
    passes(
        &mut client,
        "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY; ALTER TABLE public.judgments NO \
         FORCE ROW LEVEL SECURITY",
    );
    cluster
        .connect("forced", SUPERUSER)
        .batch_execute(
            "ALTER TABLE public.judgments FORCE ROW LEVEL SECURITY;
             INSERT INTO dragonfly_guard.contract (id, document) SELECT 2, jsonb_set(document, \
             '{tables}', (
               SELECT jsonb_agg(t || CASE t->>'name' WHEN 'judgments' THEN \
               '{\"force_row_security\": true}' ELSE '{}' END::jsonb)
                 FROM jsonb_array_elements(document->'tables') t)) FROM dragonfly_guard.contract",
        )
        .unwrap();
    let rejected =
        rejection(&mut client, "ALTER TABLE public.judgments NO FORCE ROW LEVEL SECURITY");
    assert!(
        rejected.detail.contains(
            "Row security is not forced on the owner of table \
                                  public.judgments, which the contract requires."
        ),
        "{rejected:?}"
    );
}

#[test]
fn new_table_that_a_client_can_access_is_rejected() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "newcomers");
    passes(&mut client, "CREATE TABLE public.private_notes (id int)");
    // Supabase's default privileges, which the contract does not declare, were there before.
    cluster
        .connect("newcomers", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, \
             service_role",
        )
        .unwrap();
    let rejected = rejection(&mut client, "CREATE TABLE public.notes (id int)");
    let text = rejected.message + &rejected.detail;
    assert!(
        text.contains("Roles \"anon\" and \"authenticated\" have SELECT")
            && text.contains("Row security is disabled on table public.notes"),
        "{text}"
    );
    for make in [
        "CREATE TABLE public.notes AS SELECT 1 AS id",
        "SELECT 1 AS id INTO public.notes",
        "CREATE TABLE public.notes (LIKE public.judgments INCLUDING ALL)",
        "CREATE TABLE public.notes () INHERITS (public.judgments)",
        "CREATE TABLE ops.notes (id int); ALTER TABLE ops.notes SET SCHEMA public; GRANT SELECT ON \
         public.notes TO authenticated",
    ] {
        rejection(&mut client, make);
    }
    // The same in one transaction that also enables row security and revokes the privileges.
    passes(
        &mut client,
        "BEGIN; CREATE TABLE public.notes (id int); ALTER TABLE public.notes ENABLE ROW LEVEL \
         SECURITY;
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
fn drop_and_create_in_one_transaction_passes() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "replaced");
    let before = findings(&cluster, "replaced");
    passes(
        &mut client,
        "BEGIN; DROP VIEW public.v_plaintiff_call_queue CASCADE;
         CREATE VIEW public.v_plaintiff_call_queue AS SELECT p.id, p.name FROM public.plaintiffs p;
         GRANT SELECT ON public.v_plaintiff_call_queue TO anon, authenticated, service_role;
         GRANT ALL ON public.v_plaintiff_call_queue TO service_role;
         CREATE FUNCTION api.get_call_queue() RETURNS SETOF public.v_plaintiff_call_queue LANGUAGE \
         sql STABLE
           SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT * FROM \
           v_plaintiff_call_queue';
         REVOKE EXECUTE ON FUNCTION api.get_call_queue() FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION api.get_call_queue() TO anon, authenticated, service_role; \
         COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; DROP POLICY judgments_read ON public.judgments;
         CREATE POLICY judgments_reading ON public.judgments FOR SELECT TO authenticated USING \
         (amount > 0); COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; ALTER TABLE public.job_queue RENAME TO job_queue_old;
         CREATE TABLE public.job_queue (id bigserial PRIMARY KEY, kind text);
         CREATE POLICY w ON public.job_queue TO service_role USING (true);
         ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY;
         GRANT ALL ON public.job_queue TO service_role; GRANT ALL ON SEQUENCE \
         public.job_queue_id_seq1 TO service_role;
         DROP TABLE public.job_queue_old CASCADE; COMMIT",
    );
    assert_eq!(findings(&cluster, "replaced"), before);
    // In two transactions, the view would be missing in between.
    let rejected = rejection(&mut client, "DROP VIEW public.v_plaintiffs_overview");
    assert!(
        rejected.message
            == "DROP VIEW violates the security contract: required_object_missing on view \
                public.v_plaintiffs_overview",
        "{rejected:?}"
    );
    assert_eq!(rejected.code, "2BP01");
    // ROLLBACK TO SAVEPOINT reverts the statement that would complete it.
    rejection(
        &mut client,
        "BEGIN; DROP VIEW public.v_plaintiffs_overview; SAVEPOINT s;
         CREATE VIEW public.v_plaintiffs_overview AS SELECT 1 AS id; ROLLBACK TO s; COMMIT",
    );
    rejection(
        &mut client,
        "BEGIN; DROP VIEW public.v_plaintiffs_overview; PREPARE TRANSACTION 'x'",
    );
    // A procedure that commits.
    passes(
        &mut client,
        "CREATE PROCEDURE ops.replace() LANGUAGE plpgsql AS $$ BEGIN DROP VIEW \
         public.v_plaintiffs_overview; COMMIT; END $$",
    );
    let rejected = attempt(&mut client, "CALL ops.replace()").unwrap_err();
    assert!(rejected.message.contains("violates the security contract"), "{rejected:?}");
    assert_eq!(
        column(&mut client, "SELECT to_regclass('public.v_plaintiffs_overview')::text"),
        ["v_plaintiffs_overview"]
    );
}

#[test]
fn check_at_commit_checks_only_the_result() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "deferred");
    passes(&mut client, "SET dragonfly_guard.check_at = commit");
    // As Supabase's own functions for pg_net do it: first SECURITY DEFINER, then the path.
    passes(
        &mut client,
        "BEGIN; CREATE FUNCTION ops.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON \
         FUNCTION ops.f() FROM PUBLIC;
         ALTER FUNCTION ops.f() SECURITY DEFINER; ALTER FUNCTION ops.f() SET search_path = public, \
         pg_temp; COMMIT",
    );
    passes(
        &mut client,
        "BEGIN; GRANT SELECT ON public.judgments TO anon; REVOKE SELECT ON public.judgments FROM \
         anon; COMMIT",
    );
    rejection(&mut client, "BEGIN; GRANT SELECT ON public.judgments TO anon; COMMIT");
    let rejected = attempt(&mut client, "BEGIN; ALTER FUNCTION ops.f() RESET search_path; COMMIT")
        .unwrap_err();
    assert_eq!(rejected.code, "42P13");
    passes(&mut client, "ROLLBACK");
    rejection(&mut client, "GRANT SELECT ON public.judgments TO anon");
}

#[test]
fn violation_with_guard_action_warn_passes_with_a_warning() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "warned");
    let warned = |message: &str| cluster.log().contains(&format!("WARNING:  {message}"));
    // A view that clients read, a SECURITY DEFINER function that PUBLIC may call: they pass, and
    // are not passed over.
    passes(
        &mut client,
        "CREATE VIEW public.v_extra AS SELECT id FROM public.judgments; GRANT SELECT ON \
         public.v_extra TO anon",
    );
    assert!(
        warned(
            "COMMIT violates the security contract: undeclared_view_readable on view public.v_extra"
        ),
        "{}",
        cluster.log()
    );
    passes(
        &mut client,
        "CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path \
         = public, pg_temp AS 'SELECT 1'",
    );
    assert!(warned(
        "CREATE FUNCTION violates the security contract: security_definer_executable_by_clients on \
         function public.helper()"
    ));
    // No warning about an ordinary function.
    passes(&mut client, "CREATE FUNCTION public.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    assert!(!cluster.log().contains("public.plain()"));
    // No warning about a view that clients cannot read, or that runs with their privileges, where
    // the worker has what the contract declares for every object of the schema.
    passes(
        &mut client,
        "CREATE VIEW public.v_own AS SELECT 1 AS id; CREATE VIEW public.v_inv WITH \
         (security_invoker) AS SELECT id FROM public.judgments; GRANT SELECT ON public.v_inv TO \
         anon; GRANT ALL ON public.v_own, public.v_inv TO service_role",
    );
    assert!(
        !cluster.log().contains("v_own") && !cluster.log().contains("v_inv"),
        "{}",
        cluster.log()
    );
    passes(&mut client, "CREATE TABLE public.bare (id int)");
    assert!(warned(
        "CREATE TABLE violates the security contract: table_privileges on table public.bare"
    ));
    // With dragonfly_guard.mode = warn, one warning for each problem.
    let mut admin = cluster.connect("warned", SUPERUSER);
    passes(
        &mut admin,
        "SET dragonfly_guard.mode = warn; BEGIN; GRANT SELECT ON public.judgments TO anon; DROP \
         VIEW public.v_judgment_pipeline; COMMIT",
    );
    let log = cluster.log();
    assert_eq!(
        log.matches(
            "WARNING:  GRANT violates the security contract: table_privileges on table \
                     public.judgments"
        )
        .count(),
        1
    );
    assert!(
        !log.contains(
            "WARNING:  COMMIT violates the security contract: table_privileges on table \
                       public.judgments"
        ),
        "{log}"
    );
    assert!(warned(
        "COMMIT violates the security contract: required_object_missing on view \
         public.v_judgment_pipeline"
    ));
}

#[test]
fn earlier_violation_may_stay_and_be_fixed_in_steps() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "old");
    cluster
        .connect("old", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             GRANT ALL ON public.judgments TO anon; ALTER TABLE public.plaintiffs DISABLE ROW \
             LEVEL SECURITY;
             CREATE TABLE public.legacy (id int); GRANT SELECT ON public.legacy TO PUBLIC; DROP \
             VIEW public.v_collectability_snapshot;
             CREATE POLICY wide ON public.judgments TO anon USING (true)",
        )
        .unwrap();
    for sql in [
        "ALTER TABLE public.judgments ADD COLUMN note text; ALTER TABLE public.plaintiffs ADD \
         COLUMN note text; CREATE INDEX ON public.legacy (id)",
        "ALTER TABLE public.legacy RENAME TO legacy_2; ALTER TABLE public.legacy_2 RENAME TO \
         legacy",
        "ALTER POLICY wide ON public.judgments RENAME TO wider",
        "REVOKE DELETE ON public.judgments FROM anon",
        "REVOKE INSERT, UPDATE, TRUNCATE, REFERENCES, TRIGGER ON public.judgments FROM anon",
        "BEGIN; CREATE TABLE public.legacy_3 AS TABLE public.legacy; GRANT SELECT ON \
         public.legacy_3 TO PUBLIC; DROP TABLE public.legacy; ALTER TABLE public.legacy_3 RENAME \
         TO legacy; COMMIT",
        "GRANT SELECT ON public.judgments TO anon",
        "DROP TABLE public.legacy",
        "ALTER TABLE public.plaintiffs ENABLE ROW LEVEL SECURITY",
        "DROP POLICY wider ON public.judgments",
        "REVOKE ALL ON public.judgments FROM anon",
    ] {
        passes(&mut client, sql);
    }
    rejection(&mut client, "GRANT SELECT ON public.judgments TO anon");
    rejection(&mut client, "ALTER TABLE public.plaintiffs DISABLE ROW LEVEL SECURITY");
    // Another table under the name of an old one does not have its history.
    cluster
        .connect("old", SUPERUSER)
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres; CREATE TABLE \
                        public.free (id int); GRANT SELECT ON public.free TO anon",
        )
        .unwrap();
    rejection(
        &mut client,
        "BEGIN; ALTER TABLE public.free RENAME TO was_free; ALTER TABLE public.plaintiff_tasks \
         RENAME TO free; GRANT SELECT ON public.free TO anon; COMMIT",
    );
}

/// A team that begins with the extension: the document's whole database, statement by statement,
/// under the guard.
#[test]
fn documents_database_can_be_created_under_the_guard() {
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
fn quote_all_identifiers_changes_nothing() {
    let cluster = Cluster::start();
    let mut client = document(&cluster, "quoted");
    client.batch_execute("SET quote_all_identifiers = on").unwrap();
    let rejected = rejection(&mut client, "DROP FUNCTION ops.complete_outbox_message(uuid)");
    assert!(rejected.message.contains("ops.complete_outbox_message"), "{rejected:?}");
    let mut admin = cluster.connect("quoted", SUPERUSER);
    admin.batch_execute("SET quote_all_identifiers = on").unwrap();
    assert_eq!(
        column(&mut admin, "SELECT detail FROM ops.audit_security(min_severity => 'warning')"),
        [""; 0]
    );
}

/// Violations in a schema that gets the name of a governed one are regressions: equal violations in
/// the former schema do not excuse them, because it still exists.
#[test]
fn violations_in_a_schema_that_gets_a_governed_name_are_rejected() {
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
    let swap = "BEGIN; ALTER SCHEMA enforcement RENAME TO enforcement_old; ALTER SCHEMA aside \
                RENAME TO enforcement; COMMIT";
    let rejected = rejection(&mut admin, swap);
    assert!(
        rejected.detail.contains("Role \"anon\" has SELECT on table enforcement.t"),
        "{rejected:?}"
    );
}

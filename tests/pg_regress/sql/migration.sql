-- A team installs the extension in an existing database and runs migrations.
\set VERBOSITY default
CREATE ROLE postgres NOSUPERUSER;
CREATE ROLE anon;
CREATE ROLE authenticated;
CREATE ROLE service_role BYPASSRLS;
ALTER DATABASE regression OWNER TO postgres;
SET ROLE postgres;
CREATE SCHEMA api;
GRANT USAGE ON SCHEMA api TO anon, authenticated, service_role;
CREATE TABLE public.judgments (id bigint PRIMARY KEY, stage text);
-- Unsafe routines that existed before the guard.
CREATE FUNCTION api.get_dashboard_stats() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM judgments';
CREATE FUNCTION api.get_call_queue() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public AS 'SELECT 1';
RESET ROLE;

CREATE EXTENSION dragonfly_guard;
SELECT severity, object, detail, fix FROM ops.audit_functions() WHERE rule = 'security_definer_search_path';

-- The next migration: unrelated statements are allowed.
SET ROLE postgres;
ALTER TABLE public.judgments ADD COLUMN amount numeric;
CREATE INDEX ON public.judgments (stage);
CREATE FUNCTION api.helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
-- An unsafe routine may be altered without being fixed ...
ALTER FUNCTION api.get_dashboard_stats() STABLE;
-- ... but a new unsafe routine is rejected.
CREATE FUNCTION api.get_ceo_metrics() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM judgments';
CREATE PROCEDURE api.close_all() LANGUAGE sql SECURITY DEFINER AS 'UPDATE judgments SET stage = NULL';
CREATE FUNCTION api.get_ceo_metrics() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1::bigint';
CREATE FUNCTION api.get_ceo_metrics() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = 'public, pg_temp' AS 'SELECT 1::bigint';
ALTER FUNCTION api.helper(int) SECURITY DEFINER;
DO $$ BEGIN EXECUTE 'ALTER FUNCTION api.helper(int) SECURITY DEFINER SET search_path = "$user", public, pg_temp'; END $$;
-- The statement from the hint is allowed.
CREATE FUNCTION api.get_ceo_metrics() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT count(*) FROM judgments';
ALTER FUNCTION api.get_ceo_metrics() RESET search_path;
-- A rejected statement in a transaction has no effect.
BEGIN;
CREATE TABLE public.half_done (id int);
CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1::bigint';
ROLLBACK;

-- One of the two unsafe routines is fixed; the other remains.
ALTER ROUTINE api.get_dashboard_stats() SET search_path = public, pg_temp;
RESET ROLE;
SELECT routine_name, verdict, reasons, canonical FROM ops.security_definer_functions() WHERE schema_name = 'api';
SET ROLE postgres;
ALTER FUNCTION api.get_dashboard_stats() RESET ALL;

-- Statements that would make safe routines unsafe are rejected.
GRANT CREATE ON SCHEMA public TO authenticated;
RESET ROLE;
ALTER SCHEMA public RENAME TO elsewhere;
-- CREATE granted on a schema with the guard off is one finding, which is named as the cause.
SET dragonfly_guard.mode = off;
GRANT CREATE ON SCHEMA public TO authenticated;
RESET dragonfly_guard.mode;
SET ROLE postgres;
CREATE FUNCTION api.queue_job() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1';
RESET ROLE;
SELECT rule, object, detail, fix FROM ops.audit_security(rules => '{schema_create,security_definer_search_path}');
REVOKE CREATE ON SCHEMA public FROM authenticated;

-- Only a superuser can turn the guard off. It is logged.
SET dragonfly_guard.mode = warn;
CREATE FUNCTION api.emergency() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
RESET dragonfly_guard.mode;
SELECT verdict, reasons, canonical FROM ops.judge_search_path('api.emergency()'::regprocedure);
SELECT verdict, reasons FROM ops.judge_search_path('public, pg_temp', 'postgres'::regrole);
SELECT verdict, reasons FROM ops.judge_search_path(NULL, 'postgres'::regrole);
SET ROLE postgres;
SET dragonfly_guard.mode = off;
RESET ROLE;

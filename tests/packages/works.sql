-- What a server does whose extension is from a package.
\set VERBOSITY terse
\set ON_ERROR_STOP off
SET client_min_messages = warning;
CREATE EXTENSION dragonfly_guard;
SELECT count(*) > 0 AS has_findings FROM ops.audit_security();
CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
DROP FUNCTION public.helper();
SELECT object FROM ops.audit_security() WHERE rule = 'guard_tampered';
SELECT component FROM ops.guard_status() WHERE component IN ('event triggers', 'integrity')
  AND active;
-- What takes a library that is preloaded is active then.
SELECT active = (current_setting('shared_preload_libraries') <> '') AS active_if_preloaded
  FROM ops.guard_status() WHERE component IN ('log', 'statements without an event');
SET dragonfly_guard.mode = off;
DROP EXTENSION dragonfly_guard;

-- service_role and pg_monitor may read, superusers may change, other roles may do neither.
CREATE ROLE anon;
CREATE ROLE authenticated;
CREATE ROLE service_role BYPASSRLS;
CREATE ROLE postgres;
CREATE ROLE watcher IN ROLE pg_monitor;
CREATE EXTENSION dragonfly_guard;
GRANT USAGE ON SCHEMA ops TO service_role, pg_monitor;

SET ROLE service_role;
SELECT count(*) > 0 AS sees_findings FROM ops.v_security_findings;
SELECT count(*) AS rules FROM ops.security_rules();
SELECT ops.contract()->>'version' AS contract;
SELECT * FROM dragonfly_guard.contract;
DELETE FROM dragonfly_guard.contract;
SET dragonfly_guard.mode = off;
RESET ROLE;

SET ROLE watcher;
SELECT count(*) > 0 AS sees_findings FROM ops.audit_objects();
RESET ROLE;

GRANT USAGE ON SCHEMA ops TO anon;
SET dragonfly_guard.mode = off;
GRANT USAGE ON SCHEMA ops TO anon;
RESET dragonfly_guard.mode;
SET ROLE anon;
SELECT * FROM ops.audit_security();
SELECT * FROM ops.v_security_findings;
SELECT ops.contract();
SELECT dragonfly_guard.default_contract();
RESET ROLE;

-- Trigger functions cannot be called directly.
SELECT dragonfly_guard.ddl_command_end();
DROP EVENT TRIGGER zz_dragonfly_guard_end;

-- The audit works in a read-only transaction with an old snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT count(*) > 0 AS sees_findings FROM ops.audit_security();
COMMIT;

-- Every object has a comment.
SELECT pg_describe_object(classid, objid, 0) AS without_comment FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dragonfly_guard')
   AND classid NOT IN ('pg_type'::regclass) AND obj_description(objid, classid::regclass::name) IS NULL;

-- NULL means no filter; an argument that does not exist is an error.
SELECT count(*) = (SELECT count(*) FROM ops.audit_security()) AS same FROM ops.audit_security(NULL, NULL, NULL);
SELECT * FROM ops.judge_search_path(NULL::regprocedure);
SELECT * FROM ops.judge_search_path('public', NULL);
SELECT * FROM ops.judge_search_path(4294967295::oid::regprocedure);
SELECT * FROM ops.judge_search_path('public', 4294967295::oid::regrole);
SELECT * FROM ops.audit_security(min_severity => 'fatal');
SELECT * FROM ops.audit_security(rules => '{no_such_rule}');

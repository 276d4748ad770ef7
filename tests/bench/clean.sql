-- Gives every SECURITY DEFINER routine a safe search_path, without a statement for each of them.
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_proc SET proconfig = '{"search_path=public, pg_temp"}' WHERE prosecdef AND oid >= 16384;
COMMIT;
VACUUM (FULL, ANALYZE) pg_proc;

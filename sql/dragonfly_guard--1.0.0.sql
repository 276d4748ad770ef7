-- The objects that CREATE EXTENSION dragonfly_guard creates.
--
-- The script runs as a superuser in a database where schema "ops" may belong to another role.
-- Therefore nothing is looked up in ops; every object is created, never replaced; operators and
-- functions are those of pg_catalog, by qualified name; and the first statements make sure that the
-- private schema is empty, belongs to a superuser and grants nothing to other roles.

DO $close$
DECLARE
  owner record;
  grantee pg_catalog.text;
  found pg_catalog.text;
BEGIN
  SELECT r.rolname, r.rolsuper, n.oid, n.nspowner, n.nspacl INTO STRICT owner
    FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_authid AS r
      ON r.oid OPERATOR(pg_catalog.=) n.nspowner
   WHERE n.nspname OPERATOR(pg_catalog.=) 'dragonfly_guard'::pg_catalog.name;
  FOR grantee IN
    SELECT DISTINCT CASE WHEN r.oid IS NULL THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END
      FROM pg_catalog.aclexplode(owner.nspacl) AS item
      LEFT JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) item.grantee
     WHERE item.grantee OPERATOR(pg_catalog.<>) owner.nspowner
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA dragonfly_guard FROM %s CASCADE', grantee);
  END LOOP;
  SELECT object.name INTO found FROM (
    SELECT p.proname FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT c.relname FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT t.typname FROM pg_catalog.pg_type AS t
      WHERE t.typnamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT o.oprname FROM pg_catalog.pg_operator AS o
      WHERE o.oprnamespace OPERATOR(pg_catalog.=) owner.oid
  ) AS object(name);
  IF NOT owner.rolsuper OR found IS NOT NULL THEN
    RAISE EXCEPTION 'schema "dragonfly_guard" already exists'
      USING ERRCODE = 'duplicate_schema',
            DETAIL = CASE WHEN owner.rolsuper
              THEN 'It contains objects that do not belong to the extension.'
                ELSE 'Its owner is not a superuser.' END,
            HINT = 'Drop or rename that schema and run CREATE EXTENSION again.';
  END IF;
END
$close$;

COMMENT ON SCHEMA dragonfly_guard IS
  'Private schema of dragonfly_guard: contracts, exemptions, log. The functions for users are in '
  'schema ops.';

-- Schema ops belongs to the application. It is created where it is missing, and is no member of the
-- extension.
DO $ops$
DECLARE
  reader pg_catalog.text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace
    WHERE nspname OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name) THEN
    CREATE SCHEMA ops;
    ALTER EXTENSION dragonfly_guard DROP SCHEMA ops;
    COMMENT ON SCHEMA ops IS 'Operations: monitoring, audits.';
    -- Default privileges must not grant anything here.
    FOR reader IN
      SELECT DISTINCT CASE WHEN r.oid IS NULL THEN 'PUBLIC'
        ELSE pg_catalog.quote_ident(r.rolname) END
        FROM pg_catalog.pg_namespace AS n, LATERAL pg_catalog.aclexplode(n.nspacl) AS item
        LEFT JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) item.grantee
       WHERE n.nspname OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name
         AND item.grantee OPERATOR(pg_catalog.<>) n.nspowner
    LOOP
      EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA ops FROM %s', reader);
    END LOOP;
  END IF;
END
$ops$;

---------------------------------------------------------------- the contract

CREATE FUNCTION dragonfly_guard.default_contract() RETURNS pg_catalog.jsonb
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'guard_default_contract';
COMMENT ON FUNCTION dragonfly_guard.default_contract() IS
  'Returns contract 1.0.0, which ships with the extension.';

CREATE FUNCTION dragonfly_guard.is_contract(document pg_catalog.jsonb) RETURNS pg_catalog.bool
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'guard_is_contract';
COMMENT ON FUNCTION dragonfly_guard.is_contract(pg_catalog.jsonb) IS
  'Returns true for a valid contract. Otherwise raises an error that names the place in the '
  'document and the values allowed there.';

CREATE TABLE dragonfly_guard.contract (
  id        pg_catalog.int4 PRIMARY KEY,
  document  pg_catalog.jsonb NOT NULL
    CONSTRAINT is_contract CHECK (dragonfly_guard.is_contract(document)),
  shipped   pg_catalog.bool NOT NULL DEFAULT false,
  -- CREATE EXTENSION inserts the shipped contract, and a dump leaves it out, so that a change to
  -- it would be lost.
  CONSTRAINT shipped_is_the_first
    CHECK (shipped OPERATOR(pg_catalog.=) (id OPERATOR(pg_catalog.=) 1)),
  CONSTRAINT shipped_stays_as_it_is CHECK (NOT shipped
    OR document OPERATOR(pg_catalog.=) dragonfly_guard.default_contract()),
  loaded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
  loaded_by pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  note      pg_catalog.text
);
COMMENT ON TABLE dragonfly_guard.contract IS
  'Every contract that has been in force; the one with the highest id is in force now.';
COMMENT ON COLUMN dragonfly_guard.contract.id IS
  'Number in the order in which contracts came into force.';
COMMENT ON COLUMN dragonfly_guard.contract.document IS
  'The contract; ops.contract_schema() describes its format.';
COMMENT ON COLUMN dragonfly_guard.contract.shipped IS
  'True for the contract that ships with the extension, which pg_dump omits.';
COMMENT ON COLUMN dragonfly_guard.contract.loaded_at IS 'Time at which it came into force.';
COMMENT ON COLUMN dragonfly_guard.contract.loaded_by IS 'Session user who loaded it.';
COMMENT ON COLUMN dragonfly_guard.contract.note IS 'Reason given when it was loaded.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.contract'::pg_catalog.regclass,
  'WHERE NOT shipped');
INSERT INTO dragonfly_guard.contract (id, document, shipped, note)
  VALUES (1, dragonfly_guard.default_contract(), true, 'Initial security contract');

CREATE FUNCTION ops.contract() RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_contract';
COMMENT ON FUNCTION ops.contract() IS
  'Returns the security contract in force. ops.contract_json() prints it for a file; '
  'ops.contract_history lists all contracts.';

CREATE FUNCTION ops.contract(version pg_catalog.text) RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_contract_of_version';
COMMENT ON FUNCTION ops.contract(pg_catalog.text) IS
  'Returns the security contract of that version, in force or earlier. ops.contract_history lists '
  'the versions.';

CREATE FUNCTION ops.contract_json(contract pg_catalog.jsonb DEFAULT NULL)
  RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_contract_json';
COMMENT ON FUNCTION ops.contract_json(pg_catalog.jsonb) IS
  'Returns a contract, or (NULL) the contract in force, as JSON text to read, edit and keep in '
  'version control: declarations sorted by schema and name, one per line where it fits, without '
  'fields that have their default.';

-- For jsonb and for text: jsonb keeps only one of two fields with the same name, and a person who
-- reviewed the text may have read the other one.
CREATE FUNCTION ops.validate_contract(contract pg_catalog.jsonb)
  RETURNS TABLE (severity pg_catalog.text, path pg_catalog.text, object pg_catalog.text,
    line pg_catalog.int4, problem pg_catalog.text, hint pg_catalog.text, allowed pg_catalog.text)
  LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'ops_validate_contract';
COMMENT ON FUNCTION ops.validate_contract(pg_catalog.jsonb) IS
  'Returns every problem of a contract: errors, which prevent loading it, and warnings, where '
  'it contradicts itself. path is a jsonpath into the document, object the declaration there; hint '
  'says what was probably meant, and allowed lists the values that are valid there.';

CREATE FUNCTION ops.validate_contract(contract pg_catalog.text)
  RETURNS TABLE (severity pg_catalog.text, path pg_catalog.text, object pg_catalog.text,
    line pg_catalog.int4, problem pg_catalog.text, hint pg_catalog.text, allowed pg_catalog.text)
  LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 10
    AS 'MODULE_PATHNAME', 'ops_validate_contract_text';
COMMENT ON FUNCTION ops.validate_contract(pg_catalog.text) IS
  'Like ops.validate_contract(jsonb), for a contract given as text: each problem has the line '
  'where it is, invalid JSON is reported with line and column, and a duplicate field is an error.';

CREATE FUNCTION ops.contract_schema() RETURNS pg_catalog.jsonb
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_contract_schema';
COMMENT ON FUNCTION ops.contract_schema() IS
  'Returns the JSON Schema (draft 2020-12) of a contract, for editors and validators. It also '
  'ships as docs/reference/contract.schema.json.';

CREATE FUNCTION ops.contract_preset(name pg_catalog.text) RETURNS pg_catalog.jsonb
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_contract_preset';
COMMENT ON FUNCTION ops.contract_preset(pg_catalog.text) IS
  'Returns the part of a contract that a platform determines, to be merged into a contract that is '
  'written by hand: the usual roles with their kinds, and the managed schemas, extensions and '
  'roles. Presets: ''supabase'', ''postgrest'', ''rds'', ''cloudsql'', ''azure'', ''neon''. '
  'infer_contract() recognises the platform itself.';

CREATE FUNCTION ops.contract_changes(earlier pg_catalog.jsonb, later pg_catalog.jsonb)
  RETURNS pg_catalog.text[]
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_contract_changes';
COMMENT ON FUNCTION ops.contract_changes(pg_catalog.jsonb, pg_catalog.jsonb) IS
  'Returns the differences between two contracts, one per line: + added, - removed, ~ changed.';

CREATE VIEW ops.contract_history AS
  SELECT h.id, h.version, h.in_force, h.loaded_at, h.loaded_by, h.note,
         CASE WHEN pg_catalog.cardinality(h.changes) OPERATOR(pg_catalog.>) 10
           THEN pg_catalog.concat_ws(E'\n',
             pg_catalog.array_to_string(h.changes[1:10], E'\n'),
             pg_catalog.format('... and %s more',
               pg_catalog.cardinality(h.changes) OPERATOR(pg_catalog.-) 10))
           ELSE pg_catalog.array_to_string(h.changes, E'\n')
         END AS changes
    FROM (SELECT c.id,
                 c.document OPERATOR(pg_catalog.->>) 'version'::pg_catalog.text AS version,
                 c.id OPERATOR(pg_catalog.=) pg_catalog.max(c.id) OVER () AS in_force,
                 c.loaded_at,
                 c.loaded_by,
                 c.note,
                 CASE WHEN pg_catalog.lag(c.document) OVER (ORDER BY c.id) IS NOT NULL
                   THEN ops.contract_changes(
                     pg_catalog.lag(c.document) OVER (ORDER BY c.id), c.document)
                 END AS changes
            FROM dragonfly_guard.contract AS c) AS h
   ORDER BY h.id;
COMMENT ON VIEW ops.contract_history IS
  'Every contract that has been in force, oldest first: time, session user (the role that logged '
  'in, whatever SET ROLE says), note, and the first ten changes from the one before, one per line. '
  'ops.contract(version) returns the contract itself, and ops.contract_changes() all changes '
  'between two.';

CREATE FUNCTION ops.load_contract(contract pg_catalog.jsonb, note pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8,
      added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text)
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_load_contract';
COMMENT ON FUNCTION ops.load_contract(pg_catalog.jsonb, pg_catalog.text) IS
  'Puts a contract into force. Its version must be higher than every earlier one, unless the same '
  'contract is in force already, which is a notice; an invalid contract changes nothing. Returns '
  'the first ten changes, one per line, and the number of findings that it adds and removes; '
  'ops.contract_changes() returns all changes. Requires superuser, or '
  'EXECUTE granted on this function.';

CREATE FUNCTION ops.load_contract(contract pg_catalog.text, note pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8,
      added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text)
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_load_contract_text';
COMMENT ON FUNCTION ops.load_contract(pg_catalog.text, pg_catalog.text) IS
  'Like ops.load_contract(jsonb), for a contract given as text: a duplicate field is an error.';

CREATE FUNCTION ops.rollback_contract(to_version pg_catalog.text DEFAULT NULL, note pg_catalog.text
  DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8,
      added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text)
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_rollback_contract';
COMMENT ON FUNCTION ops.rollback_contract(pg_catalog.text, pg_catalog.text) IS
  'Puts an earlier contract into force again: the given version, or (NULL) the one before the '
  'contract in force. Requires superuser, or EXECUTE granted on this function.';

CREATE FUNCTION ops.contract_sql() RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_contract_sql';
COMMENT ON FUNCTION ops.contract_sql() IS
  'Returns the contract in force as SQL statements in a stable order, which ops.declare() reads. '
  'Best shown with psql -At.';

CREATE FUNCTION ops.declare(statements pg_catalog.text, note pg_catalog.text,
    run pg_catalog.bool DEFAULT false)
  RETURNS TABLE (version pg_catalog.text, change pg_catalog.text)
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_declare';
COMMENT ON FUNCTION ops.declare(pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
  'Amends the contract by SQL statements, such as GRANT SELECT ON app.plans TO web_user: puts its '
  'next version into force, and returns the changes. run also executes the statements. Accepts '
  'GRANT, REVOKE, CREATE, DROP and COMMENT on roles, schemas, tables, views, sequences, functions '
  'and policies, ALTER TABLE ... ROW LEVEL SECURITY, ALTER ROLE, and SET contract.*; anything else '
  'is an error. Requires superuser, or EXECUTE granted on this function.';

CREATE FUNCTION ops.accept(fingerprint pg_catalog.text, note pg_catalog.text)
  RETURNS TABLE (version pg_catalog.text, change pg_catalog.text)
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_accept';
COMMENT ON FUNCTION ops.accept(pg_catalog.text, pg_catalog.text) IS
  'Amends the contract so that it allows a finding, by its fingerprint: what ops.declare() does '
  'with the statements in the HINT of a rejection. An error where no contract can allow it. '
  'Requires superuser, or EXECUTE granted on this function.';

---------------------------------------------------------------- the audits

CREATE FUNCTION ops.audit_security(
    rules pg_catalog.text[] DEFAULT NULL, schemas pg_catalog.name[]
      DEFAULT NULL, min_severity pg_catalog.text DEFAULT NULL,
    include_exempted pg_catalog.bool DEFAULT false)
  RETURNS TABLE (
    rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text,
      schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text,
      evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_audit_security';
COMMENT ON FUNCTION ops.audit_security(pg_catalog.text[], pg_catalog.name[], pg_catalog.text,
  pg_catalog.bool) IS
  'Returns every difference between the database and its contract, most severe first. Arguments '
  'restrict the result: rules by id (ops.security_rules()), schemas by name (as arrays: '
  '''{public}''), min_severity error, '
  'warning or info; NULL means all. include_exempted also returns findings that are exempted. '
  'fix is SQL that runs as it stands; what ops.golden_sql() only proposes is a comment in it (not '
  'where the catalog has more than 4,000 relations and routines, or with more than 2,000 findings: '
  'there, ask ops.golden_sql()). It is NULL where a person has to decide. fingerprint is the same '
  'after dump and restore.';

CREATE FUNCTION ops.report(
    format pg_catalog.text, rules pg_catalog.text[] DEFAULT NULL,
    schemas pg_catalog.name[] DEFAULT NULL, min_severity pg_catalog.text DEFAULT NULL,
    include_exempted pg_catalog.bool DEFAULT true,
    path pg_catalog.text DEFAULT 'security-contract.json')
  RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_report';
COMMENT ON FUNCTION ops.report(pg_catalog.text, pg_catalog.text[], pg_catalog.name[],
  pg_catalog.text, pg_catalog.bool, pg_catalog.text) IS
  'Returns the findings of ops.audit_security() in a format for pipelines: jsonl (one JSON '
  'object a line), sarif (2.1.0, for GitHub code scanning), junit, gitlab (Code Quality), github '
  '(annotations of GitHub Actions) or markdown (for a pull request). Exempted findings are '
  'suppressed in sarif, listed as exempt in junit and markdown, and left out of gitlab and github. '
  'path is the file where pipelines show the findings: the one with the contract. With psql, '
  'use -At.';

CREATE FUNCTION ops.report_html() RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_report_html';
COMMENT ON FUNCTION ops.report_html() IS
  'Returns the state of the database as one HTML page, to read in a browser or to print: the '
  'verdict, what to fix first, what each role may do, who reads and writes each table by which '
  'policy, SECURITY DEFINER routines, the guard, and all findings with their fixes. The page needs '
  'no network and no scripts. With psql, use -At.';

CREATE FUNCTION ops.security_summary()
  RETURNS TABLE (topic pg_catalog.text, summary pg_catalog.text)
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_security_summary';
COMMENT ON FUNCTION ops.security_summary() IS
  'Returns the state of the database in at most ten lines: the verdict, who is concerned, what to '
  'fix first, how much is exempt, the guard, and the next command.';

CREATE FUNCTION ops.findings(min_severity pg_catalog.text DEFAULT 'warning')
  RETURNS TABLE (severity pg_catalog.text, object pg_catalog.text, finding pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_findings';
COMMENT ON FUNCTION ops.findings(pg_catalog.text) IS
  'Returns the findings of ops.audit_security() to read on a terminal: wrapped to 120 columns, '
  'with the rule before the sentence. Programs use ops.audit_security().';

-- One function for each area, with the same columns.
DO $areas$
DECLARE
  area pg_catalog.text[];
BEGIN
  FOREACH area SLICE 1 IN ARRAY ARRAY[
    ['roles', 'declared roles: existence, attributes, memberships'],
    ['objects', 'declared schemas, tables, views, sequences and functions: existence, kind, owner'],
    ['grants', 'privileges on schemas, tables, columns and sequences; default privileges'],
    ['views', 'views and materialized views that clients can read'],
    ['functions', 'SECURITY DEFINER routines, and EXECUTE on routines'],
    ['rls', 'row security, and which policies exist'],
    ['policies', 'the rows that the conditions of policies let clients reach'],
    ['guard', 'the guard: whether it is intact, and whether a setting can disable it']]
  LOOP
    EXECUTE pg_catalog.format(
      'CREATE FUNCTION ops.%I() RETURNS TABLE (
         rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text,
           schema_name pg_catalog.name,
         object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text,
           evidence pg_catalog.jsonb,
         fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
       LANGUAGE c STABLE ROWS 100 AS %L, %L',
      'audit_' OPERATOR(pg_catalog.||) area[1], '$libdir/dragonfly_guard',
        'ops_audit_' OPERATOR(pg_catalog.||) area[1]);
    EXECUTE pg_catalog.format('COMMENT ON FUNCTION ops.%I() IS %L',
      'audit_' OPERATOR(pg_catalog.||) area[1],
      'Returns the findings of ops.audit_security() about '
        OPERATOR(pg_catalog.||) area[2] OPERATOR(pg_catalog.||) '.');
  END LOOP;
END
$areas$;

CREATE FUNCTION ops.audit_contract(contract pg_catalog.jsonb)
  RETURNS TABLE (
    rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text,
      schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text,
      evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_audit_contract';
COMMENT ON FUNCTION ops.audit_contract(pg_catalog.jsonb) IS
  'Returns what ops.audit_security() would return if that contract were in force.';

CREATE FUNCTION ops.snapshot() RETURNS pg_catalog.json
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_snapshot';
COMMENT ON FUNCTION ops.snapshot() IS
  'Returns the catalogs of this database as data: what the audit reads, and no row of a table of '
  'the application. The script sql/snapshot.sql writes the same on servers without the extension. '
  'ops.audit_snapshot() audits it.';

CREATE FUNCTION ops.audit_snapshot(snapshot pg_catalog.json,
    contract pg_catalog.jsonb DEFAULT NULL, rules pg_catalog.text[] DEFAULT NULL,
    schemas pg_catalog.name[] DEFAULT NULL, min_severity pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text,
      schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text,
      evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_audit_snapshot';
COMMENT ON FUNCTION ops.audit_snapshot(pg_catalog.json, pg_catalog.jsonb, pg_catalog.text[],
    pg_catalog.name[], pg_catalog.text) IS
  'Returns the findings in a snapshot of another database, which need not have the extension, '
  'under that contract, or (NULL) the contract in force here. Exemptions are not applied.';

CREATE FUNCTION ops.try_migration(sql pg_catalog.text)
  RETURNS TABLE (
    outcome pg_catalog.text, rule pg_catalog.text, severity pg_catalog.text,
      object_type pg_catalog.text, schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text,
      evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_try_migration';
COMMENT ON FUNCTION ops.try_migration(pg_catalog.text) IS
  'Runs a migration as the caller and rolls it back. Returns the findings that it would add and '
  'remove; or one row where the guard would reject it (outcome rejected), it fails by itself '
  '(failed), or it cannot be tried in a transaction (not tried). Returns no row where no finding '
  'changes.';

CREATE FUNCTION ops.infer_contract(schemas pg_catalog.name[] DEFAULT NULL,
    mode pg_catalog.text DEFAULT 'strict') RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_infer_contract';
COMMENT ON FUNCTION ops.infer_contract(pg_catalog.name[], pg_catalog.text) IS
  'Returns a contract that describes those schemas, or (NULL) all schemas that do not belong to '
  'the server, the platform or the extension. mode strict declares least privileges, as_is '
  'declares what exists. What a contract should not permit is omitted and counted in a notice; '
  'ops.audit_contract() of the result lists it. Access that fails is omitted and listed in a '
  'notice. ops.contract_json() prints the result for a file.';

CREATE FUNCTION ops.infer_contract(schemas pg_catalog.text,
    mode pg_catalog.text DEFAULT 'strict') RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_infer_contract_text';
COMMENT ON FUNCTION ops.infer_contract(pg_catalog.text, pg_catalog.text) IS
  'Like ops.infer_contract(name[]), for the name of one schema, or an array as text.';

CREATE FUNCTION ops.infer_exemptions(contract pg_catalog.jsonb DEFAULT NULL,
    expires_in pg_catalog.interval DEFAULT '90 days')
  RETURNS TABLE (
    severity pg_catalog.text, rule pg_catalog.text, object pg_catalog.text,
      role_name pg_catalog.name, detail pg_catalog.text,
    reason pg_catalog.text, statement pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_infer_exemptions';
COMMENT ON FUNCTION ops.infer_exemptions(pg_catalog.jsonb, pg_catalog.interval) IS
  'Returns the errors and warnings under that contract, or (NULL) the contract in force, each with '
  'the statement that exempts it while that contract is in force; the worst first. Exempts '
  'nothing itself. statement is NULL where something that is declared is missing.';

CREATE FUNCTION ops.adopt(schemas pg_catalog.name[] DEFAULT NULL,
    mode pg_catalog.text DEFAULT 'as_is', name pg_catalog.text DEFAULT NULL,
    reason pg_catalog.text DEFAULT NULL, expires_in pg_catalog.interval DEFAULT '90 days',
    dry_run pg_catalog.bool DEFAULT true, replace pg_catalog.bool DEFAULT false)
  RETURNS TABLE (topic pg_catalog.text, detail pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_adopt';
COMMENT ON FUNCTION ops.adopt(pg_catalog.name[], pg_catalog.text, pg_catalog.text, pg_catalog.text,
    pg_catalog.interval, pg_catalog.bool, pg_catalog.bool) IS
  'Puts the contract that ops.infer_contract(schemas, mode) returns into force, and exempts each '
  'error and warning that remains, so that ops.assert_security() succeeds. Returns a summary with '
  'the next commands. A dry run changes nothing. reason is that of all exemptions; NULL: each says '
  'why the finding matters. replace is required where a contract other than the shipped one is in '
  'force. Requires superuser, or EXECUTE granted on this function, unless it is a dry run.';

CREATE FUNCTION ops.adopt(schemas pg_catalog.text,
    mode pg_catalog.text DEFAULT 'as_is', name pg_catalog.text DEFAULT NULL,
    reason pg_catalog.text DEFAULT NULL, expires_in pg_catalog.interval DEFAULT '90 days',
    dry_run pg_catalog.bool DEFAULT true, replace pg_catalog.bool DEFAULT false)
  RETURNS TABLE (topic pg_catalog.text, detail pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_adopt_text';
COMMENT ON FUNCTION ops.adopt(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text,
    pg_catalog.interval, pg_catalog.bool, pg_catalog.bool) IS
  'Like ops.adopt(name[]), for the name of one schema, as in ops.adopt(''public''), or an array as '
  'text.';

CREATE FUNCTION ops.assert_security(min_severity pg_catalog.text DEFAULT 'error')
  RETURNS pg_catalog.void
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_assert_security';
COMMENT ON FUNCTION ops.assert_security(pg_catalog.text) IS
  'Returns nothing where ops.audit_security() has no finding of that severity or higher; '
  'otherwise raises one error that lists them. For CI.';

CREATE FUNCTION ops.assert_consistency() RETURNS pg_catalog.void
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_assert_consistency';
COMMENT ON FUNCTION ops.assert_consistency() IS
  'Returns nothing where the guard and the contract are consistent: the extension''s objects are '
  'intact, the guard rejects in this session, a contract for this database is in force, its '
  'schemas and roles exist, the log writer works, and the library has the version of the '
  'extension. Otherwise raises one error that lists what is not. For CI, before '
  'ops.assert_security().';

CREATE FUNCTION ops.security_rules()
  RETURNS TABLE (
    rule pg_catalog.text, title pg_catalog.text, area pg_catalog.text, severity pg_catalog.text,
      guard pg_catalog.text,
    sqlstate pg_catalog.text, contract_section pg_catalog.text, checks pg_catalog.text,
    why pg_catalog.text, fix pg_catalog.text, exempt pg_catalog.text, see_also pg_catalog.text[])
  LANGUAGE c STABLE ROWS 27 AS 'MODULE_PATHNAME', 'ops_security_rules';
COMMENT ON FUNCTION ops.security_rules() IS
  'Returns every rule with the severity and guard action (block, warn, audit) that the contract '
  'in force gives it, its SQLSTATE and its documentation.';

CREATE FUNCTION ops.role_matrix()
  RETURNS TABLE (
    schema_name pg_catalog.name, role_name pg_catalog.name, declared pg_catalog.text,
      actual pg_catalog.text,
    conforms pg_catalog.bool)
  LANGUAGE c STABLE ROWS 15 AS 'MODULE_PATHNAME', 'ops_role_matrix';
COMMENT ON FUNCTION ops.role_matrix() IS
  'Returns the role matrix: the privileges of each role in each governed schema, declared and '
  'actual. actual is NULL where the role or the schema does not exist.';

CREATE FUNCTION ops.rls_coverage()
  RETURNS TABLE (
    schema_name pg_catalog.name, table_name pg_catalog.name, declared pg_catalog.bool,
      row_security_declared pg_catalog.bool,
    row_security pg_catalog.bool, force_row_security pg_catalog.bool,
      policies_declared pg_catalog.jsonb,
    policies pg_catalog.jsonb, conforms pg_catalog.bool)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_rls_coverage';
COMMENT ON FUNCTION ops.rls_coverage() IS
  'Returns the row security of every governed table: whether it is enabled, '
  'and the commands that policies permit to each role, declared and actual. row_security is NULL '
  'where a declared table does not exist.';

CREATE FUNCTION ops.security_definer_functions()
  RETURNS TABLE (
    schema_name pg_catalog.name, routine_name pg_catalog.name, arguments pg_catalog.text,
      owner_name pg_catalog.name,
    search_path pg_catalog.text, config pg_catalog.text, verdict pg_catalog.text,
      reasons pg_catalog.text[],
    canonical pg_catalog.bool, managed_by pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_security_definer_functions';
COMMENT ON FUNCTION ops.security_definer_functions() IS
  'Returns every SECURITY DEFINER routine of the database with the verdict on its search_path '
  '(safe, fragile or exploitable) and the reasons.';

CREATE FUNCTION ops.rls_policies()
  RETURNS TABLE (
    schema_name pg_catalog.name, table_name pg_catalog.name, policy_name pg_catalog.name,
      permissive pg_catalog.text,
    roles pg_catalog.name[], command pg_catalog.text, using_expression pg_catalog.text,
      check_expression pg_catalog.text,
    ties pg_catalog.text[], open_when pg_catalog.text[], lookups pg_catalog.text[],
      unknown_because pg_catalog.text[])
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_rls_policies';
COMMENT ON FUNCTION ops.rls_policies() IS
  'Returns the row security policies of the governed schemas, with what their conditions let '
  'clients reach: the columns that tie a row to its caller (ties), the other ways in which a row '
  'passes, as ops.explain_policy() names them (open_when), the tables and views that are looked '
  'up, and what could not be read (unknown_because). An item that is not about every client or '
  'command ends with those that it is about. Restrictive policies count where they apply. NULL '
  'where a policy limits no client, and for restrictive policies themselves.';

CREATE FUNCTION ops.judge_search_path("function" pg_catalog.regprocedure)
  RETURNS TABLE (verdict pg_catalog.text, reasons pg_catalog.text[], canonical pg_catalog.bool,
    safe_path pg_catalog.text)
  LANGUAGE c STABLE ROWS 1 AS 'MODULE_PATHNAME', 'ops_judge_search_path';
COMMENT ON FUNCTION ops.judge_search_path(pg_catalog.regprocedure) IS
  'Returns the verdict on the search_path of a routine as if it were SECURITY DEFINER: safe, '
  'fragile or exploitable. reasons are CODE[:schema[:role]]; canonical tells whether it is the '
  'contract''s own path. safe_path is the path that the fix of the audit sets: it changes as '
  'little as makes the path safe. It is NULL where no fix is needed, or where a person has to '
  'decide, because the body would find fewer names.';

CREATE FUNCTION ops.judge_search_path(path pg_catalog.text, owner pg_catalog.regrole)
  RETURNS TABLE (verdict pg_catalog.text, reasons pg_catalog.text[], canonical pg_catalog.bool,
    safe_path pg_catalog.text)
  LANGUAGE c STABLE ROWS 1 AS 'MODULE_PATHNAME', 'ops_judge_search_path_of_owner';
COMMENT ON FUNCTION ops.judge_search_path(pg_catalog.text, pg_catalog.regrole) IS
  'Returns the verdict on a value of search_path, as stored in pg_proc.proconfig, for a SECURITY '
  'DEFINER routine of that owner. A NULL path means that none is set. safe_path is a safe path '
  'that differs as little as possible; NULL where the path is safe.';

CREATE FUNCTION ops.fix_schema_cache(authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (step pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text,
    fix pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_fix_schema_cache';
COMMENT ON FUNCTION ops.fix_schema_cache(pg_catalog.name) IS
  'For PGRST002: checks what PostgREST needs (its login role, by default that of the contract, the '
  'roles that requests switch to, the schemas that they can reach) and makes it reload schema '
  'cache and configuration (NOTIFY pgrst).';

---------------------------------------------------------------- plans and diagnosis

CREATE FUNCTION ops.golden_sql(schemas pg_catalog.name[] DEFAULT NULL, rules pg_catalog.text[]
  DEFAULT NULL)
  RETURNS TABLE (
    step pg_catalog.int4, rule pg_catalog.text, object pg_catalog.text, why pg_catalog.text,
      statement pg_catalog.text,
    reversible pg_catalog.bool, risk pg_catalog.text, undo pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_golden_sql';
COMMENT ON FUNCTION ops.golden_sql(pg_catalog.name[], pg_catalog.text[]) IS
  'Returns the statements that make the database conform to its contract, in order, each safe '
  'to run twice; for those schemas and rules, NULL for all. Proposals that a person has to '
  'complete come last, as comments. undo reverts a step (in reverse order; the guard may have '
  'to be disabled).';

CREATE FUNCTION ops.golden_sql(schemas pg_catalog.text, rules pg_catalog.text[] DEFAULT NULL)
  RETURNS TABLE (
    step pg_catalog.int4, rule pg_catalog.text, object pg_catalog.text, why pg_catalog.text,
      statement pg_catalog.text,
    reversible pg_catalog.bool, risk pg_catalog.text, undo pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_golden_sql_text';
COMMENT ON FUNCTION ops.golden_sql(pg_catalog.text, pg_catalog.text[]) IS
  'Like ops.golden_sql(name[]), for the name of one schema, or an array as text.';

CREATE FUNCTION ops.apply_golden_sql(
    dry_run pg_catalog.bool DEFAULT true, schemas pg_catalog.name[]
      DEFAULT NULL, rules pg_catalog.text[] DEFAULT NULL, steps pg_catalog.int4[] DEFAULT NULL,
    max_risk pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    step pg_catalog.int4, outcome pg_catalog.text, rule pg_catalog.text, object pg_catalog.text,
      why pg_catalog.text,
    statement pg_catalog.text, reversible pg_catalog.bool, risk pg_catalog.text,
      undo pg_catalog.text)
  LANGUAGE c ROWS 100 AS 'MODULE_PATHNAME', 'ops_apply_golden_sql';
COMMENT ON FUNCTION ops.apply_golden_sql(pg_catalog.bool, pg_catalog.name[], pg_catalog.text[],
    pg_catalog.int4[], pg_catalog.text) IS
  'Runs the plan of ops.golden_sql() as the caller and checks the result: what the plan should '
  'fix, new errors, access that opens, declared access that worked before, and views and bodies '
  'of routines that were valid before. If a check fails, raises an error that names the step and '
  'rolls everything back. steps: only these, by their numbers in ops.golden_sql() with the same '
  'filters; max_risk (low, medium, high): only steps with at most that risk; the others are '
  'skipped. By default it is a dry run (outcome tried). Outcome incomplete: a warning that the '
  'statement should fix remains.';

CREATE FUNCTION ops.explain_access(
    role pg_catalog.name, object pg_catalog.text, privilege pg_catalog.text
      DEFAULT NULL, authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (
    link pg_catalog.int4, step pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text,
      fix pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_explain_access';
COMMENT ON FUNCTION ops.explain_access(pg_catalog.name, pg_catalog.text, pg_catalog.text,
  pg_catalog.name) IS
  'Explains step by step why a role can or cannot use an object: the role, USAGE on the schema, '
  'the privilege and how the role holds it, the tables behind a view, policies; then the verdict '
  'with the smallest fix, and what the contract declares. object: schema, schema.name, '
  'schema.table.column, schema.table(columns) or schema.function(types); privilege NULL: SELECT, '
  'USAGE or EXECUTE. On a relation it stands for SELECT *, INSERT of defaults, UPDATE of every '
  'column, DELETE of every row.';

CREATE FUNCTION ops.prove_policy("table" pg_catalog.regclass, policy pg_catalog.name DEFAULT NULL,
  role pg_catalog.name DEFAULT NULL, without_where boolean DEFAULT false)
  RETURNS TABLE (policy_name pg_catalog.name, command pg_catalog.text, as_who pg_catalog.text,
    of_whom pg_catalog.text, expected pg_catalog.text, observed pg_catalog.text,
    verdict pg_catalog.text, why pg_catalog.text, witness pg_catalog.jsonb)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_prove_policy';
COMMENT ON FUNCTION ops.prove_policy(pg_catalog.regclass, pg_catalog.name, pg_catalog.name, boolean)
  IS
  'Has the server try what ops.explain_policy() says of the policies of a table, for all client '
  'roles if role is NULL: puts rows into the tables, tries to reach one as the client, with '
  'claims, and rolls all of it back. The verdict is confirmed, refuted (the server does something '
  'else), isolated here (another caller did not reach this row: a sample), or not tried. '
  'Triggers, defaults and functions of the application run; sequences keep their values. UPDATE '
  'and DELETE without WHERE, which no policy of SELECT limits, are executed where the table has '
  'no rows, or if without_where is true: they lock its rows until they are rolled back. Requires '
  'that the caller can become the client roles and the owners of the tables.';
CREATE FUNCTION ops.prove_isolation("table" pg_catalog.regclass, a pg_catalog.jsonb,
  b pg_catalog.jsonb, role pg_catalog.name DEFAULT NULL,
  commands pg_catalog.text[] DEFAULT NULL, without_where boolean DEFAULT false)
  RETURNS TABLE (policy_name pg_catalog.name, command pg_catalog.text, as_who pg_catalog.text,
    of_whom pg_catalog.text, expected pg_catalog.text, observed pg_catalog.text,
    verdict pg_catalog.text, why pg_catalog.text, witness pg_catalog.jsonb)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_prove_isolation';
COMMENT ON FUNCTION ops.prove_isolation(pg_catalog.regclass, pg_catalog.jsonb, pg_catalog.jsonb,
  pg_catalog.name, pg_catalog.text[], boolean) IS
  'Has the server try whether the caller with claims a reaches rows of the caller with claims b: '
  'rows that the policies of the table say are the second one''s, and the rows that are there. '
  'Everything is rolled back; see ops.prove_policy(), also for without_where. Commands are '
  'SELECT, INSERT, UPDATE and DELETE, all of them if NULL.';
CREATE FUNCTION ops.explain_policy("table" pg_catalog.regclass, policy pg_catalog.name DEFAULT NULL,
  role pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (policy_name pg_catalog.name, role_name pg_catalog.name, command pg_catalog.text,
    rows pg_catalog.text, answer pg_catalog.text, detail pg_catalog.text, witness pg_catalog.jsonb)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_explain_policy';
COMMENT ON FUNCTION ops.explain_policy(pg_catalog.regclass, pg_catalog.name, pg_catalog.name) IS
  'Tells which rows the policies of a table let a role reach, of all client roles if role is NULL: '
  'what ties a row to the caller (answer is tied), and in which other ways a row is reached, with '
  'what holds in such a way (witness). Parts that cannot be read are named (unknown). Nothing is '
  'executed.';

CREATE FUNCTION ops.doctor(authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (
    area pg_catalog.text, object pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text,
      fix pg_catalog.text)
  LANGUAGE c ROWS 50 AS 'MODULE_PATHNAME', 'ops_doctor';
COMMENT ON FUNCTION ops.doctor(pg_catalog.name) IS
  'The daily check: every declared object exists, is of the declared kind and can be used by the '
  'roles that it is declared for; views can be planned and function bodies parsed; the guard is '
  'intact; no flaw of the minor release voids row security (server); PostgREST finds what it needs '
  '(authenticator: its login role). Passing checks are reported as well, and what the contract '
  'trusts to say who a caller is (identity).';

-- Every argument is given, so that no overload in ops can be called instead.
CREATE VIEW ops.v_security_findings AS
  SELECT * FROM ops.audit_security(NULL::pg_catalog.text[], NULL::pg_catalog.name[],
    NULL::pg_catalog.text, false);
COMMENT ON VIEW ops.v_security_findings IS
  'The findings of ops.audit_security() as a view, for PostgREST, postgres_fdw and reports.';

---------------------------------------------------------------- exemptions

CREATE TABLE dragonfly_guard.exemption (
  id           pg_catalog.int4 PRIMARY KEY,
  fingerprint  pg_catalog.text,
  rule         pg_catalog.text NOT NULL,
  object       pg_catalog.text NOT NULL,
  reason       pg_catalog.text NOT NULL
    CONSTRAINT has_a_reason CHECK (pg_catalog.btrim(reason) OPERATOR(pg_catalog.<>) ''),
  exempted_at  pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
  exempted_by  pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  expires_at   pg_catalog.timestamptz,
  basis        pg_catalog.jsonb NOT NULL,
  withdrawn_at pg_catalog.timestamptz,
  withdrawn_by pg_catalog.name,
  role_name    pg_catalog.name
);
COMMENT ON TABLE dragonfly_guard.exemption IS
  'Exemptions from the contract; ops.v_exemptions shows them.';
COMMENT ON COLUMN dragonfly_guard.exemption.id IS 'Number in the order of creation.';
COMMENT ON COLUMN dragonfly_guard.exemption.fingerprint IS
  'Fingerprint of the exempted finding; NULL: every finding of the rule about objects that '
  'match.';
COMMENT ON COLUMN dragonfly_guard.exemption.rule IS 'Id of the rule.';
COMMENT ON COLUMN dragonfly_guard.exemption.object IS
  'Identity of the object, or a pattern with * and ?.';
COMMENT ON COLUMN dragonfly_guard.exemption.reason IS 'Reason for the exemption.';
COMMENT ON COLUMN dragonfly_guard.exemption.exempted_at IS 'Time of the exemption.';
COMMENT ON COLUMN dragonfly_guard.exemption.exempted_by IS 'Session user who exempted it.';
COMMENT ON COLUMN dragonfly_guard.exemption.expires_at IS 'Time at which it expires; NULL: never.';
COMMENT ON COLUMN dragonfly_guard.exemption.basis IS
  'Hash of each object at that time: a changed body, owner or search_path ends the exemption.';
COMMENT ON COLUMN dragonfly_guard.exemption.withdrawn_at IS 'Time at which it was withdrawn.';
COMMENT ON COLUMN dragonfly_guard.exemption.withdrawn_by IS 'Session user who withdrew it.';
COMMENT ON COLUMN dragonfly_guard.exemption.role_name IS
  'Role, or PUBLIC, whose findings about objects that match are exempted; NULL: those of every '
  'role.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.exemption'::pg_catalog.regclass, '');

CREATE FUNCTION ops.exempt(
    fingerprint pg_catalog.text DEFAULT NULL, reason pg_catalog.text
      DEFAULT NULL, expires_at pg_catalog.timestamptz DEFAULT NULL,
    rule pg_catalog.text DEFAULT NULL, object pg_catalog.text DEFAULT NULL,
    role_name pg_catalog.name DEFAULT NULL)
  RETURNS pg_catalog.int4 LANGUAGE c AS 'MODULE_PATHNAME', 'ops_exempt';
COMMENT ON FUNCTION ops.exempt(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz,
  pg_catalog.text, pg_catalog.text, pg_catalog.name) IS
  'Exempts one finding by its fingerprint, or every finding of a rule about objects that match a '
  'pattern (* and ? as in a shell), of role_name (PUBLIC, or a role) or of every role. Returns the '
  'number of the exemption. It ends when it '
  'expires, and when the object changes (owner, body, settings, query, policies and others). '
  'Requires superuser, or EXECUTE granted on this function.';

CREATE FUNCTION ops.unexempt(fingerprint pg_catalog.text DEFAULT NULL, id pg_catalog.int4
  DEFAULT NULL)
  RETURNS pg_catalog.int4 LANGUAGE c AS 'MODULE_PATHNAME', 'ops_unexempt';
COMMENT ON FUNCTION ops.unexempt(pg_catalog.text, pg_catalog.int4) IS
  'Withdraws exemptions by the fingerprint of the finding or by number; returns how many. '
  'Requires superuser, or EXECUTE granted on this function.';

CREATE FUNCTION dragonfly_guard.exemptions()
  RETURNS TABLE (
    id pg_catalog.int4, status pg_catalog.text, rule pg_catalog.text, object pg_catalog.text,
      role_name pg_catalog.name, fingerprint pg_catalog.text,
    reason pg_catalog.text, exempted_by pg_catalog.name, exempted_at pg_catalog.timestamptz,
      expires_at pg_catalog.timestamptz,
    finding_count pg_catalog.int8, findings pg_catalog.jsonb, withdrawn_at pg_catalog.timestamptz,
      withdrawn_by pg_catalog.name)
  LANGUAGE c STABLE ROWS 10 AS 'MODULE_PATHNAME', 'guard_exemptions';
COMMENT ON FUNCTION dragonfly_guard.exemptions() IS 'The rows of view ops.v_exemptions.';

CREATE VIEW ops.v_exemptions AS SELECT * FROM dragonfly_guard.exemptions();
COMMENT ON VIEW ops.v_exemptions IS
  'Every exemption with the findings that it exempts now. status is active, expired, changed '
  '(the object has changed since then) or withdrawn. exempted_by and withdrawn_by are session '
  'users, whatever SET ROLE says.';

---------------------------------------------------------------- drift

CREATE TABLE dragonfly_guard.frozen_schema (
  label       pg_catalog.text PRIMARY KEY,
  frozen_at   pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  frozen_by   pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  fingerprint pg_catalog.text NOT NULL,
  snapshot    pg_catalog.jsonb NOT NULL
);
COMMENT ON TABLE dragonfly_guard.frozen_schema IS
  'Snapshots of schemas; ops.v_frozen_schemas shows them.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.label IS 'Name of the snapshot.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.frozen_at IS
  'Time of the snapshot. Without a label, comparisons use the latest one.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.frozen_by IS 'Session user who took it.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.fingerprint IS
  'Result of ops.schema_fingerprint() at that time.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.snapshot IS
  'Result of ops.schema_snapshot() at that time.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.frozen_schema'::pg_catalog.regclass,
  '');

CREATE FUNCTION ops.schema_snapshot(schemas pg_catalog.name[] DEFAULT NULL) RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_snapshot';
COMMENT ON FUNCTION ops.schema_snapshot(pg_catalog.name[]) IS
  'Returns the definition of those schemas, or (NULL) of the governed ones, by names alone: '
  'tables, columns, types, views, routines, policies, grants, triggers. The result can be '
  'stored, or compared in another database.';

CREATE FUNCTION ops.schema_snapshot(schemas pg_catalog.text) RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_snapshot_text';
COMMENT ON FUNCTION ops.schema_snapshot(pg_catalog.text) IS
  'Like ops.schema_snapshot(name[]), for the name of one schema, or an array as text.';

CREATE FUNCTION ops.schema_fingerprint(schemas pg_catalog.name[] DEFAULT NULL)
  RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_fingerprint';
COMMENT ON FUNCTION ops.schema_fingerprint(pg_catalog.name[]) IS
  'Returns a hash of ops.schema_snapshot(): equal in two databases exactly when '
  'ops.compare_schema() finds no difference.';

CREATE FUNCTION ops.schema_fingerprint(schemas pg_catalog.text) RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_fingerprint_text';
COMMENT ON FUNCTION ops.schema_fingerprint(pg_catalog.text) IS
  'Like ops.schema_fingerprint(name[]), for the name of one schema, or an array as text.';

CREATE FUNCTION ops.compare_schema(snapshot pg_catalog.jsonb)
  RETURNS TABLE (
    source pg_catalog.text, change pg_catalog.text, object_type pg_catalog.text,
      schema_name pg_catalog.name, object pg_catalog.text,
    property pg_catalog.text, expected pg_catalog.text, actual pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_compare_schema';
COMMENT ON FUNCTION ops.compare_schema(pg_catalog.jsonb) IS
  'Returns the differences between this database and another one, whose ops.schema_snapshot() is '
  'given: expected is the value there, actual the value here.';

CREATE FUNCTION ops.freeze_schema(
    label pg_catalog.text, schemas pg_catalog.name[] DEFAULT NULL, replace pg_catalog.bool
      DEFAULT false)
  RETURNS pg_catalog.text LANGUAGE c AS 'MODULE_PATHNAME', 'ops_freeze_schema';
COMMENT ON FUNCTION ops.freeze_schema(pg_catalog.text, pg_catalog.name[], pg_catalog.bool) IS
  'Stores ops.schema_snapshot() under a label, for ops.check_schema_consistency(); returns its '
  'fingerprint. Requires superuser, or EXECUTE granted on this function.';

CREATE FUNCTION ops.freeze_schema(
    label pg_catalog.text, schemas pg_catalog.text, replace pg_catalog.bool DEFAULT false)
  RETURNS pg_catalog.text LANGUAGE c AS 'MODULE_PATHNAME', 'ops_freeze_schema_text';
COMMENT ON FUNCTION ops.freeze_schema(pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
  'Like ops.freeze_schema(text, name[]), for the name of one schema, or an array as text.';

CREATE FUNCTION ops.unfreeze_schema(label pg_catalog.text) RETURNS pg_catalog.void
  LANGUAGE c AS 'MODULE_PATHNAME', 'ops_unfreeze_schema';
COMMENT ON FUNCTION ops.unfreeze_schema(pg_catalog.text) IS
  'Deletes the snapshot stored under a label. Requires superuser, or EXECUTE granted on this '
  'function.';

CREATE FUNCTION ops.check_schema_consistency(label pg_catalog.text
  DEFAULT NULL, schemas pg_catalog.name[] DEFAULT NULL)
  RETURNS TABLE (
    source pg_catalog.text, change pg_catalog.text, object_type pg_catalog.text,
      schema_name pg_catalog.name, object pg_catalog.text,
    property pg_catalog.text, expected pg_catalog.text, actual pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_check_schema_consistency';
COMMENT ON FUNCTION ops.check_schema_consistency(pg_catalog.text, pg_catalog.name[]) IS
  'Returns drift: declared objects that are missing or of another kind, and the differences from '
  'the snapshot stored under that label, or (NULL) from the latest one. change is added, removed '
  'or changed; property names what changed. Returns no row where there is no drift.';

CREATE VIEW ops.v_frozen_schemas AS
  SELECT f.label, f.frozen_at, f.frozen_by, f.fingerprint,
         ARRAY(SELECT s.name::pg_catalog.name
                 FROM pg_catalog.jsonb_array_elements_text(
                   f.snapshot OPERATOR(pg_catalog.->) 'schemas'::pg_catalog.text)
                   AS s(name)) AS schemas
    FROM dragonfly_guard.frozen_schema AS f
   ORDER BY f.frozen_at, f.label;
COMMENT ON VIEW ops.v_frozen_schemas IS
  'The snapshots that ops.freeze_schema() has stored, oldest first. frozen_by is the session user.';

---------------------------------------------------------------- the guard

-- No index and no constraint: the log writer inserts rows without an executor. Not dumped.
CREATE TABLE dragonfly_guard.log (
  logged_at pg_catalog.timestamptz NOT NULL,
  entry     pg_catalog.jsonb NOT NULL
);
COMMENT ON TABLE dragonfly_guard.log IS
  'What the guard rejected, warned about or did not check; ops.v_guard_log shows it.';
COMMENT ON COLUMN dragonfly_guard.log.logged_at IS 'Time of the entry.';
COMMENT ON COLUMN dragonfly_guard.log.entry IS
  'The entry, equal to the line in the server log. repeated and last_at stand for equal entries of '
  'the same session that followed.';

CREATE FUNCTION ops.guard_status()
  RETURNS TABLE (
    component pg_catalog.text, active pg_catalog.bool, detail pg_catalog.text,
    gap pg_catalog.text, fix pg_catalog.text)
  LANGUAGE c STABLE ROWS 7 AS 'MODULE_PATHNAME', 'ops_guard_status';
COMMENT ON FUNCTION ops.guard_status() IS
  'Status of each guard component in this session, with the resulting gap and how to close it.';

CREATE VIEW ops.v_guard_log AS
  SELECT l.logged_at,
         l.entry OPERATOR(pg_catalog.->>) 'dragonfly_guard'::pg_catalog.text AS event,
         l.entry OPERATOR(pg_catalog.->>) 'mode'::pg_catalog.text AS mode,
         (l.entry OPERATOR(pg_catalog.->>) 'session_user'::pg_catalog.text)::pg_catalog.name
           AS session_user_name,
         (l.entry OPERATOR(pg_catalog.->>) 'role'::pg_catalog.text)::pg_catalog.name AS role_name,
         (l.entry OPERATOR(pg_catalog.->>) 'database'::pg_catalog.text)::pg_catalog.name
           AS database_name,
         (l.entry OPERATOR(pg_catalog.->>) 'pid'::pg_catalog.text)::pg_catalog.int4 AS pid,
         l.entry OPERATOR(pg_catalog.->>) 'command'::pg_catalog.text AS command,
         l.entry OPERATOR(pg_catalog.->>) 'rule'::pg_catalog.text AS rule,
         l.entry OPERATOR(pg_catalog.->>) 'object'::pg_catalog.text AS object,
         l.entry OPERATOR(pg_catalog.->>) 'verdict'::pg_catalog.text AS verdict,
         l.entry OPERATOR(pg_catalog.->>) 'message'::pg_catalog.text AS message,
         l.entry OPERATOR(pg_catalog.->>) 'statement'::pg_catalog.text AS statement,
         coalesce((l.entry OPERATOR(pg_catalog.->>) 'repeated'::pg_catalog.text)::pg_catalog.int4,
           0) AS repeated,
         coalesce((l.entry OPERATOR(pg_catalog.->>) 'last_at'::pg_catalog.text)
           ::pg_catalog.timestamptz, l.logged_at) AS last_at
    FROM dragonfly_guard.log AS l
   ORDER BY l.logged_at;
COMMENT ON VIEW ops.v_guard_log IS
  'What the guard did, oldest first. event is rejected, warned, observed (allowed without a '
  'message), unchecked (the mode was off), restoring (a dump) or changed (the guard itself was '
  'changed). Rejections are listed here only if the library is in shared_preload_libraries, all '
  'other entries always; the server log has all entries. repeated is the number of equal entries '
  'of the same session that followed, last_at the time of the last one.';

CREATE FUNCTION dragonfly_guard.ddl_command_start() RETURNS pg_catalog.event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'guard_ddl_command_start';
COMMENT ON FUNCTION dragonfly_guard.ddl_command_start() IS
  'Event trigger function: loads the library before the first command, so that its hooks see '
  'what the command changes.';

CREATE FUNCTION dragonfly_guard.ddl_command_end() RETURNS pg_catalog.event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'guard_ddl_command_end';
COMMENT ON FUNCTION dragonfly_guard.ddl_command_end() IS
  'Event trigger function: checks what the command changed and rejects violations of the '
  'contract.';

-- No filter by tag: REFRESH MATERIALIZED VIEW, CREATE EXTENSION and other commands create routines
-- too. ENABLE ALWAYS: sessions with session_replication_role = replica are checked like all others.
-- Event triggers fire in order of name, and these come late.
CREATE EVENT TRIGGER zz_dragonfly_guard_start
  ON ddl_command_start EXECUTE FUNCTION dragonfly_guard.ddl_command_start();
ALTER EVENT TRIGGER zz_dragonfly_guard_start ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER zz_dragonfly_guard_start IS 'dragonfly_guard: loads the guard.';
CREATE EVENT TRIGGER zz_dragonfly_guard_end
  ON ddl_command_end EXECUTE FUNCTION dragonfly_guard.ddl_command_end();
ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER zz_dragonfly_guard_end IS
  'dragonfly_guard: checks what a command has changed.';

---------------------------------------------------------------- privileges

-- PUBLIC has no privileges, and no role has any by default privileges set for these schemas. The
-- readers and deployers of the shipped contract can read. Loading a contract that names other ones
-- changes the grants (src/api/readers.rs).
CREATE FUNCTION dragonfly_guard.announce() RETURNS pg_catalog.void LANGUAGE c
  AS 'MODULE_PATHNAME', 'guard_announce';
COMMENT ON FUNCTION dragonfly_guard.announce() IS
  'Called by CREATE EXTENSION: reports existing violations.';

DO $privileges$
DECLARE
  object record;
  reader pg_catalog.name;
  readers CONSTANT pg_catalog.name[] := ARRAY(
    SELECT role.name FROM pg_catalog.jsonb_array_elements_text(
      dragonfly_guard.default_contract() OPERATOR(pg_catalog.->) 'readers'::pg_catalog.text)
      AS role(name));
  deployers CONSTANT pg_catalog.name[] := ARRAY(
    SELECT role.name FROM pg_catalog.jsonb_array_elements_text(
      dragonfly_guard.default_contract() OPERATOR(pg_catalog.->) 'deployers'::pg_catalog.text)
      AS role(name));
  -- Only superusers, and roles to which they grant it, draft contracts, load them and exempt
  -- findings. The role of migrations has EXECUTE on every function here all the same, because
  -- otherwise its own GRANT and REVOKE ... ON ALL FUNCTIONS IN SCHEMA ops would fail; the functions
  -- that change something require the grant option of such a role.
  authors CONSTANT pg_catalog.name[] := ARRAY[
    'validate_contract', 'contract_schema', 'contract_preset', 'audit_contract',
    'infer_contract', 'infer_exemptions', 'adopt', 'try_migration',
    'prove_policy', 'prove_isolation',
    'apply_golden_sql', 'load_contract', 'rollback_contract', 'declare', 'accept', 'exempt',
    'unexempt', 'freeze_schema', 'unfreeze_schema'];
BEGIN
  -- Both need USAGE on the schema.
  FOR reader IN
    SELECT r.rolname FROM pg_catalog.pg_authid AS r
     WHERE r.rolname OPERATOR(pg_catalog.=) ANY (readers OPERATOR(pg_catalog.||) deployers)
  LOOP
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA ops TO %I', reader);
  END LOOP;
  FOR object IN
    SELECT CASE WHEN p.oid IS NOT NULL THEN 'FUNCTION' ELSE 'TABLE' END AS kind,
           CASE WHEN p.oid IS NOT NULL
                  THEN pg_catalog.format('%I.%I(%s)', pn.nspname, p.proname,
                    pg_catalog.pg_get_function_identity_arguments(p.oid))
                ELSE pg_catalog.format('%I.%I', cn.nspname, c.relname) END AS identity,
           -- A view calls its functions with the privileges of the role that reads it.
           coalesce(pn.nspname, cn.nspname) OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name
             OR coalesce(p.proname OPERATOR(pg_catalog.=) 'exemptions'::pg_catalog.name, false)
               AS for_readers,
           coalesce(p.proname OPERATOR(pg_catalog.=) ANY (authors), false) AS for_authors,
           coalesce(p.proowner, c.relowner) AS owner,
           coalesce(p.proacl, c.relacl) AS acl
      FROM (SELECT d.classid::pg_catalog.regclass AS class, d.objid AS oid
              FROM pg_catalog.pg_depend AS d
              JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
             WHERE d.refclassid OPERATOR(pg_catalog.=)
               'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
               AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
               AND e.extname OPERATOR(pg_catalog.=) 'dragonfly_guard'::pg_catalog.name) AS m
      LEFT JOIN pg_catalog.pg_proc AS p
        ON m.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND p.oid OPERATOR(pg_catalog.=) m.oid
      LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid OPERATOR(pg_catalog.=) p.pronamespace
      LEFT JOIN pg_catalog.pg_class AS c
        ON m.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
          AND c.oid OPERATOR(pg_catalog.=) m.oid
      LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid OPERATOR(pg_catalog.=) c.relnamespace
     WHERE p.oid IS NOT NULL OR c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v}'::pg_catalog."char"[])
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC', object.kind, object.identity);
    FOR reader IN
      SELECT DISTINCT r.rolname
        FROM pg_catalog.aclexplode(object.acl) AS item
        JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) item.grantee
       WHERE item.grantee OPERATOR(pg_catalog.<>) object.owner
    LOOP
      EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %I', object.kind, object.identity,
        reader);
    END LOOP;
    IF object.for_readers THEN
      FOR reader IN
        SELECT r.rolname FROM pg_catalog.pg_authid AS r
         WHERE r.rolname OPERATOR(pg_catalog.=) ANY (deployers)
            OR r.rolname OPERATOR(pg_catalog.=) ANY (readers) AND NOT object.for_authors
      LOOP
        EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %I',
          CASE object.kind WHEN 'FUNCTION' THEN 'EXECUTE'
            ELSE 'SELECT' END, object.kind, object.identity, reader);
      END LOOP;
    END IF;
  END LOOP;
END
$privileges$;

-- pg_dump by a role that is no superuser reads the tables that are part of a dump: by the owner of
-- the database, and by the owner of the application, which was made the owner of schema public. The
-- log, which contains statements of other roles, is not part of a dump.
DO $dumps$
DECLARE
  reader pg_catalog.name;
BEGIN
  FOR reader IN
    SELECT 'pg_database_owner'::pg_catalog.name
    UNION
    SELECT r.rolname FROM pg_catalog.pg_namespace AS n
      JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
     WHERE n.nspname OPERATOR(pg_catalog.=) 'public'::pg_catalog.name AND NOT r.rolsuper
  LOOP
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA dragonfly_guard TO %I', reader);
    EXECUTE pg_catalog.format('GRANT SELECT ON TABLE dragonfly_guard.contract, '
      'dragonfly_guard.exemption, dragonfly_guard.frozen_schema TO %I', reader);
  END LOOP;
END
$dumps$;

-- A function in ops with the name of one of the extension's could be called instead of it with
-- other arguments, so the extension is not installed beside such a function.
DO $impostors$
DECLARE
  impostor pg_catalog.text;
BEGIN
  SELECT pg_catalog.format('%I.%I(%s)', 'ops', p.proname,
    pg_catalog.pg_get_function_identity_arguments(p.oid))
    INTO impostor
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_proc AS own
      ON own.proname OPERATOR(pg_catalog.=) p.proname
        AND own.pronamespace OPERATOR(pg_catalog.=) p.pronamespace
    JOIN pg_catalog.pg_depend AS d
      ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
     AND d.objid OPERATOR(pg_catalog.=) own.oid
       AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
    JOIN pg_catalog.pg_extension AS e
      ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        AND e.extname OPERATOR(pg_catalog.=) 'dragonfly_guard'::pg_catalog.name
   WHERE NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend AS m
            WHERE m.classid OPERATOR(pg_catalog.=) d.classid
              AND m.objid OPERATOR(pg_catalog.=) p.oid
              AND m.refclassid OPERATOR(pg_catalog.=) d.refclassid
                AND m.refobjid OPERATOR(pg_catalog.=) e.oid)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'function % conflicts with a function of extension dragonfly_guard', impostor
      USING ERRCODE = 'duplicate_function',
            HINT = 'Rename or drop it and run CREATE EXTENSION again.';
  END IF;
END
$impostors$;

SELECT dragonfly_guard.announce();

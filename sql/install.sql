-- What CREATE EXTENSION dragonfly_guard makes.
--
-- This runs as a superuser, in a database where schema "ops" may belong to somebody else. So: nothing is looked up in ops; every
-- object is created, never replaced; operators and functions come from pg_catalog, by name; and the first statements make sure
-- that the private schema is empty, belongs to a superuser, and is closed to everybody else.

DO $close$
DECLARE
  owner record;
  grantee pg_catalog.text;
  found pg_catalog.text;
BEGIN
  SELECT r.rolname, r.rolsuper, n.oid, n.nspowner, n.nspacl INTO STRICT owner
    FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
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
    SELECT p.proname FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT t.typname FROM pg_catalog.pg_type AS t WHERE t.typnamespace OPERATOR(pg_catalog.=) owner.oid
    UNION ALL SELECT o.oprname FROM pg_catalog.pg_operator AS o WHERE o.oprnamespace OPERATOR(pg_catalog.=) owner.oid
  ) AS object(name);
  IF NOT owner.rolsuper OR found IS NOT NULL THEN
    RAISE EXCEPTION 'schema "dragonfly_guard" is not free'
      USING ERRCODE = 'duplicate_schema',
            DETAIL = CASE WHEN owner.rolsuper THEN 'It holds objects of somebody else.' ELSE 'It belongs to a role that is no superuser.' END,
            HINT = 'Drop or rename that schema, and try again.';
  END IF;
END
$close$;

COMMENT ON SCHEMA dragonfly_guard IS 'dragonfly_guard: contract and guard. Private; the functions for people are in schema ops.';

-- The application's schema: made where it is missing, and then left to the application.
DO $ops$
DECLARE
  reader pg_catalog.text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name) THEN
    CREATE SCHEMA ops;
    ALTER EXTENSION dragonfly_guard DROP SCHEMA ops;
    COMMENT ON SCHEMA ops IS 'Operations: monitoring, audits.';
    -- Nobody gets anything here by default privileges either.
    FOR reader IN
      SELECT DISTINCT CASE WHEN r.oid IS NULL THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END
        FROM pg_catalog.pg_namespace AS n, LATERAL pg_catalog.aclexplode(n.nspacl) AS item
        LEFT JOIN pg_catalog.pg_authid AS r ON r.oid OPERATOR(pg_catalog.=) item.grantee
       WHERE n.nspname OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name AND item.grantee OPERATOR(pg_catalog.<>) n.nspowner
    LOOP
      EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA ops FROM %s', reader);
    END LOOP;
  END IF;
  -- Who may read the audits must be able to reach them: workers, monitoring, and the role of the migrations.
  FOR reader IN
    SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_authid AS r
     WHERE r.rolname OPERATOR(pg_catalog.=) ANY ('{service_role,pg_monitor,postgres}'::pg_catalog.name[])
  LOOP
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA ops TO %s', reader);
  END LOOP;
END
$ops$;

---------------------------------------------------------------- the contract

CREATE FUNCTION dragonfly_guard.default_contract() RETURNS pg_catalog.jsonb
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'guard_default_contract';
COMMENT ON FUNCTION dragonfly_guard.default_contract() IS 'The contract 1.0.0 that ships with the extension.';

CREATE FUNCTION dragonfly_guard.is_contract(document pg_catalog.jsonb) RETURNS pg_catalog.bool
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'guard_is_contract';
COMMENT ON FUNCTION dragonfly_guard.is_contract(pg_catalog.jsonb) IS
  'True for a valid contract; otherwise an error that says where the document is wrong and what is allowed there.';

CREATE TABLE dragonfly_guard.contract (
  id        pg_catalog.int4 PRIMARY KEY,
  document  pg_catalog.jsonb NOT NULL CONSTRAINT is_contract CHECK (dragonfly_guard.is_contract(document)),
  shipped   pg_catalog.bool NOT NULL DEFAULT false,
  -- What ships is put there by CREATE EXTENSION and is no part of a dump: a change to it would be lost.
  CONSTRAINT shipped_is_the_first CHECK (shipped OPERATOR(pg_catalog.=) (id OPERATOR(pg_catalog.=) 1)),
  CONSTRAINT shipped_stays_as_it_is CHECK (NOT shipped OR document OPERATOR(pg_catalog.=) dragonfly_guard.default_contract()),
  loaded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
  loaded_by pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  note      pg_catalog.text
);
COMMENT ON TABLE dragonfly_guard.contract IS 'Contracts; the one with the highest id is in force.';
COMMENT ON COLUMN dragonfly_guard.contract.id IS 'The order in which contracts came into force.';
COMMENT ON COLUMN dragonfly_guard.contract.document IS 'The contract itself: see the comments of src/core/contract.';
COMMENT ON COLUMN dragonfly_guard.contract.shipped IS 'Came with the extension, and so is no part of a dump.';
COMMENT ON COLUMN dragonfly_guard.contract.loaded_at IS 'When.';
COMMENT ON COLUMN dragonfly_guard.contract.loaded_by IS 'By which session user.';
COMMENT ON COLUMN dragonfly_guard.contract.note IS 'Why.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.contract'::pg_catalog.regclass, 'WHERE NOT shipped');
INSERT INTO dragonfly_guard.contract (id, document, shipped, note)
  VALUES (1, dragonfly_guard.default_contract(), true, 'Initial security contract');

CREATE FUNCTION ops.contract() RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_contract';
COMMENT ON FUNCTION ops.contract() IS 'The security contract in force; ops.contract_history has all of them.';

-- Twice each: jsonb keeps one of two fields with the same name, and a person who reviewed the text may have read the other.
CREATE FUNCTION ops.validate_contract(contract pg_catalog.jsonb)
  RETURNS TABLE (severity pg_catalog.text, path pg_catalog.text, problem pg_catalog.text, allowed pg_catalog.text)
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'ops_validate_contract';
COMMENT ON FUNCTION ops.validate_contract(pg_catalog.jsonb) IS
  'Everything that is wrong with a contract: errors, with which it cannot be loaded, and warnings where it contradicts itself. path is '
  'jsonpath; allowed says what would be right there.';

CREATE FUNCTION ops.validate_contract(contract pg_catalog.text)
  RETURNS TABLE (severity pg_catalog.text, path pg_catalog.text, problem pg_catalog.text, allowed pg_catalog.text)
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'ops_validate_contract_text';
COMMENT ON FUNCTION ops.validate_contract(pg_catalog.text) IS
  'The same of a contract as it stands in a file: what is no JSON is said with line and column, and a field that is there twice is an error.';

CREATE FUNCTION ops.contract_schema() RETURNS pg_catalog.jsonb
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_contract_schema';
COMMENT ON FUNCTION ops.contract_schema() IS
  'The JSON Schema (draft 2020-12) of a contract, for editors and validators; it ships as docs/contract.schema.json too.';

CREATE FUNCTION ops.contract_changes(earlier pg_catalog.jsonb, later pg_catalog.jsonb) RETURNS pg_catalog.text[]
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_contract_changes';
COMMENT ON FUNCTION ops.contract_changes(pg_catalog.jsonb, pg_catalog.jsonb) IS
  'How one contract differs from another, a line a change: + added, - taken away, ~ changed.';

CREATE VIEW ops.contract_history AS
  SELECT c.id,
         c.document OPERATOR(pg_catalog.->>) 'version'::pg_catalog.text AS version,
         c.id OPERATOR(pg_catalog.=) pg_catalog.max(c.id) OVER () AS in_force,
         c.loaded_at,
         c.loaded_by,
         c.note,
         ops.contract_changes(pg_catalog.lag(c.document) OVER (ORDER BY c.id), c.document) AS changes,
         c.document AS contract
    FROM dragonfly_guard.contract AS c
   ORDER BY c.id;
COMMENT ON VIEW ops.contract_history IS
  'Every contract that has come into force, the newest last: who, when, why, and what it changed.';

CREATE FUNCTION ops.load_contract(contract pg_catalog.jsonb, note pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8, added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text[])
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_load_contract';
COMMENT ON FUNCTION ops.load_contract(pg_catalog.jsonb, pg_catalog.text) IS
  'Puts a contract into force, whole or not at all; its version must be higher than every one before. Says how many findings it adds and '
  'takes away. Superusers, and whom one grants EXECUTE.';

CREATE FUNCTION ops.load_contract(contract pg_catalog.text, note pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8, added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text[])
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_load_contract_text';
COMMENT ON FUNCTION ops.load_contract(pg_catalog.text, pg_catalog.text) IS
  'The same of a contract as it stands in a file: a field that is there twice is an error.';

CREATE FUNCTION ops.rollback_contract(to_version pg_catalog.text DEFAULT NULL, note pg_catalog.text DEFAULT NULL)
  RETURNS TABLE (
    version pg_catalog.text, replaces pg_catalog.text, findings pg_catalog.int8, added pg_catalog.int8, removed pg_catalog.int8,
    changes pg_catalog.text[])
  LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'ops_rollback_contract';
COMMENT ON FUNCTION ops.rollback_contract(pg_catalog.text, pg_catalog.text) IS
  'Puts an earlier contract into force again: that version, or (NULL) the one before the one in force. Superusers, and whom one grants '
  'EXECUTE.';

---------------------------------------------------------------- the audits

CREATE FUNCTION ops.audit_security(
    rules pg_catalog.text[] DEFAULT NULL, schemas pg_catalog.name[] DEFAULT NULL, min_severity pg_catalog.text DEFAULT NULL,
    exempted pg_catalog.bool DEFAULT false)
  RETURNS TABLE (
    rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text, evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_audit_security';
COMMENT ON FUNCTION ops.audit_security(pg_catalog.text[], pg_catalog.name[], pg_catalog.text, pg_catalog.bool) IS
  'Every way in which the database differs from its contract, the worst first. rules: ids of ops.security_rules(); schemas: names; '
  'min_severity: error, warning or info; NULL for all; exempted: with what somebody has accepted (ops.exempt), which else is left out. '
  'fix is SQL that runs as it stands, NULL where only a person can decide; fingerprint stays the same across dump and restore.';

-- One area each, the same columns.
DO $areas$
DECLARE
  area pg_catalog.text[];
BEGIN
  FOREACH area SLICE 1 IN ARRAY ARRAY[
    ['roles', 'the declared roles: missing, attributes, memberships'],
    ['objects', 'the declared schemas, tables, views and functions: missing, of the wrong kind'],
    ['grants', 'privileges on schemas, tables, columns and sequences; default privileges'],
    ['views', 'the read surface'],
    ['functions', 'SECURITY DEFINER routines and who may execute what'],
    ['rls', 'row level security and policies'],
    ['guard', 'the guard itself: is it whole, and can something silence it']]
  LOOP
    EXECUTE pg_catalog.format(
      'CREATE FUNCTION ops.%I() RETURNS TABLE (
         rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name,
         object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text, evidence pg_catalog.jsonb,
         fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
       LANGUAGE c STABLE ROWS 100 AS %L, %L',
      'audit_' OPERATOR(pg_catalog.||) area[1], '$libdir/dragonfly_guard', 'ops_audit_' OPERATOR(pg_catalog.||) area[1]);
    EXECUTE pg_catalog.format('COMMENT ON FUNCTION ops.%I() IS %L', 'audit_' OPERATOR(pg_catalog.||) area[1],
      'The part of ops.audit_security() about ' OPERATOR(pg_catalog.||) area[2] OPERATOR(pg_catalog.||) '.');
  END LOOP;
END
$areas$;

CREATE FUNCTION ops.audit_contract(contract pg_catalog.jsonb)
  RETURNS TABLE (
    rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text, evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STABLE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'ops_audit_contract';
COMMENT ON FUNCTION ops.audit_contract(pg_catalog.jsonb) IS
  'What ops.audit_security() would find if that contract were in force.';

CREATE FUNCTION ops.try_migration(sql pg_catalog.text)
  RETURNS TABLE (
    outcome pg_catalog.text, rule pg_catalog.text, severity pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name,
    object pg_catalog.text, role_name pg_catalog.name, detail pg_catalog.text, evidence pg_catalog.jsonb,
    fix pg_catalog.text, contract_section pg_catalog.text, fingerprint pg_catalog.text)
  LANGUAGE c STRICT ROWS 10 AS 'MODULE_PATHNAME', 'ops_try_migration';
COMMENT ON FUNCTION ops.try_migration(pg_catalog.text) IS
  'Runs a migration as the caller, and rolls it back: the findings that it would add and remove; or one row where the guard would refuse it '
  '(outcome refused), it fails by itself (failed), or it cannot be tried in a transaction (not tried). No row: it changes no finding.';

CREATE FUNCTION ops.infer_contract(schemas pg_catalog.name[] DEFAULT NULL) RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_infer_contract';
COMMENT ON FUNCTION ops.infer_contract(pg_catalog.name[]) IS
  'A first contract from what is there, least privilege first, of those schemas or (NULL) of all that are neither the server''s nor the '
  'platform''s. What a contract should not bless is left out and named in a notice; ops.audit_contract() on the result lists it.';

CREATE FUNCTION ops.assert_security(min_severity pg_catalog.text DEFAULT 'error') RETURNS pg_catalog.void
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_assert_security';
COMMENT ON FUNCTION ops.assert_security(pg_catalog.text) IS
  'Nothing where ops.audit_security() has no finding of that severity or worse; otherwise one error that lists them: the gate for CI.';

CREATE FUNCTION ops.security_rules()
  RETURNS TABLE (
    rule pg_catalog.text, title pg_catalog.text, area pg_catalog.text, severity pg_catalog.text, guard pg_catalog.text,
    contract_section pg_catalog.text, why pg_catalog.text, mend pg_catalog.text)
  LANGUAGE c STABLE ROWS 27 AS 'MODULE_PATHNAME', 'ops_security_rules';
COMMENT ON FUNCTION ops.security_rules() IS
  'The catalogue of rules, with the severity and guard action (block, warn, audit) that the contract in force gives them.';

CREATE FUNCTION ops.role_matrix()
  RETURNS TABLE (
    schema_name pg_catalog.name, role_name pg_catalog.name, declared pg_catalog.text, actual pg_catalog.text,
    conforms pg_catalog.bool)
  LANGUAGE c STABLE ROWS 15 AS 'MODULE_PATHNAME', 'ops_role_matrix';
COMMENT ON FUNCTION ops.role_matrix() IS
  'Section 2 of the contract: what each role may do in each governed schema, declared beside actual; actual is NULL where role or '
  'schema is missing.';

CREATE FUNCTION ops.rls_coverage()
  RETURNS TABLE (
    schema_name pg_catalog.name, table_name pg_catalog.name, declared pg_catalog.bool, row_security_declared pg_catalog.bool,
    row_security pg_catalog.bool, force_row_security pg_catalog.bool, policies_declared pg_catalog.jsonb,
    policies pg_catalog.jsonb, conforms pg_catalog.bool)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_rls_coverage';
COMMENT ON FUNCTION ops.rls_coverage() IS
  'Section 7 of the contract: row level security of every governed table, and which commands policies open to whom, declared beside '
  'actual; row_security is NULL where a declared table is missing.';

CREATE FUNCTION ops.security_definer_functions()
  RETURNS TABLE (
    schema_name pg_catalog.name, routine_name pg_catalog.name, arguments pg_catalog.text, owner_name pg_catalog.name,
    search_path pg_catalog.text, config pg_catalog.text, verdict pg_catalog.text, reasons pg_catalog.text[],
    canonical pg_catalog.bool, managed_by pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_security_definer_functions';
COMMENT ON FUNCTION ops.security_definer_functions() IS
  'Every SECURITY DEFINER routine of the database with the verdict on its search_path: safe, fragile or exploitable, and why.';

CREATE FUNCTION ops.rls_policies()
  RETURNS TABLE (
    schema_name pg_catalog.name, table_name pg_catalog.name, policy_name pg_catalog.name, permissive pg_catalog.text,
    roles pg_catalog.name[], command pg_catalog.text, using_expression pg_catalog.text, check_expression pg_catalog.text)
  LANGUAGE sql STABLE ROWS 100
BEGIN ATOMIC
  SELECT p.schemaname, p.tablename, p.policyname, p.permissive, p.roles, p.cmd, p.qual, p.with_check
    FROM pg_catalog.pg_policies AS p
   WHERE p.schemaname OPERATOR(pg_catalog.=) ANY (
           SELECT (s.value OPERATOR(pg_catalog.->>) 'name'::pg_catalog.text)::pg_catalog.name
             FROM pg_catalog.jsonb_array_elements(ops.contract() OPERATOR(pg_catalog.->) 'schemas'::pg_catalog.text) AS s(value))
   ORDER BY 1, 2, 3;
END;
COMMENT ON FUNCTION ops.rls_policies() IS 'The row security policies of the governed schemas.';

CREATE FUNCTION ops.judge_search_path("function" pg_catalog.regprocedure)
  RETURNS TABLE (verdict pg_catalog.text, reasons pg_catalog.text[], canonical pg_catalog.bool)
  LANGUAGE c STABLE STRICT ROWS 1 AS 'MODULE_PATHNAME', 'ops_judge_search_path';
COMMENT ON FUNCTION ops.judge_search_path(pg_catalog.regprocedure) IS
  'The verdict on the search_path of a routine, as if it were SECURITY DEFINER: safe, fragile or exploitable. reasons are '
  'CODE[:schema[:role]]; canonical: it is the contract''s own path.';

CREATE FUNCTION ops.judge_search_path(path pg_catalog.text, owner pg_catalog.regrole)
  RETURNS TABLE (verdict pg_catalog.text, reasons pg_catalog.text[], canonical pg_catalog.bool)
  LANGUAGE c STABLE ROWS 1 AS 'MODULE_PATHNAME', 'ops_judge_search_path_of_owner';
COMMENT ON FUNCTION ops.judge_search_path(pg_catalog.text, pg_catalog.regrole) IS
  'The verdict on a value of search_path, as pg_proc.proconfig would hold it, for a SECURITY DEFINER routine of that owner; NULL for '
  'no search_path at all.';

CREATE FUNCTION ops.fix_schema_cache(authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (step pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text, fix pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_fix_schema_cache';
COMMENT ON FUNCTION ops.fix_schema_cache(pg_catalog.name) IS
  'For PGRST002: looks at what PostgREST needs (the role it logs in as, authenticator by default, the roles that requests become, the schemas they '
  'reach), and has it read schema cache and configuration anew (NOTIFY pgrst).';

---------------------------------------------------------------- mending

CREATE FUNCTION ops.golden_sql(schemas pg_catalog.name[] DEFAULT NULL, rules pg_catalog.text[] DEFAULT NULL)
  RETURNS TABLE (
    step pg_catalog.int4, rule pg_catalog.text, object pg_catalog.text, why pg_catalog.text, statement pg_catalog.text,
    reversible pg_catalog.bool, risk pg_catalog.text, undo pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_golden_sql';
COMMENT ON FUNCTION ops.golden_sql(pg_catalog.name[], pg_catalog.text[]) IS
  'The statements that bring the database into its contract, in their order, each safe to run twice; of those schemas and rules, NULL for all. '
  'What only a person can decide comes last, as a comment. undo takes a step back (in reverse order; the guard may have to be asked).';

CREATE FUNCTION ops.apply_golden_sql(
    dry_run pg_catalog.bool DEFAULT true, schemas pg_catalog.name[] DEFAULT NULL, rules pg_catalog.text[] DEFAULT NULL)
  RETURNS TABLE (
    step pg_catalog.int4, outcome pg_catalog.text, rule pg_catalog.text, object pg_catalog.text, why pg_catalog.text,
    statement pg_catalog.text, reversible pg_catalog.bool, risk pg_catalog.text, undo pg_catalog.text)
  LANGUAGE c ROWS 100 AS 'MODULE_PATHNAME', 'ops_apply_golden_sql';
COMMENT ON FUNCTION ops.apply_golden_sql(pg_catalog.bool, pg_catalog.name[], pg_catalog.text[]) IS
  'Carries the plan of ops.golden_sql() out as the caller, audits the result, and is an error that takes everything back where an error is left '
  'that the plan said it would mend, or a new one is there. By default it is only tried (outcome tried) and rolled back. Outcome incomplete: '
  'a warning that the statement is about is left, as where the server lets it pass because the caller may not change what belongs to somebody else.';

CREATE FUNCTION ops.explain_access(
    role pg_catalog.name, object pg_catalog.text, privilege pg_catalog.text DEFAULT NULL, authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (
    link pg_catalog.int4, step pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text, fix pg_catalog.text)
  LANGUAGE c ROWS 10 AS 'MODULE_PATHNAME', 'ops_explain_access';
COMMENT ON FUNCTION ops.explain_access(pg_catalog.name, pg_catalog.text, pg_catalog.text, pg_catalog.name) IS
  'Why a role can do something or cannot, link by link: the role, USAGE on the schema, the privilege and how it came by it, the tables behind a view, '
  'policies; then the verdict, with the smallest statements that would open it, and what the contract says. object: schema, schema.name, '
  'schema.table.column, schema.table(columns), schema.function(types); privilege NULL: SELECT, USAGE or EXECUTE. On a relation it stands for SELECT *, '
  'INSERT of defaults, UPDATE of every column, DELETE of every row.';

CREATE FUNCTION ops.doctor(authenticator pg_catalog.name DEFAULT NULL)
  RETURNS TABLE (
    area pg_catalog.text, object pg_catalog.text, ok pg_catalog.bool, detail pg_catalog.text, fix pg_catalog.text)
  LANGUAGE c ROWS 50 AS 'MODULE_PATHNAME', 'ops_doctor';
COMMENT ON FUNCTION ops.doctor(pg_catalog.name) IS
  'The daily check: everything that the contract declares is there, of the right kind, and within reach of those it is for; views can still be read, '
  'bodies of functions read; the guard is whole; PostgREST finds what it needs (authenticator: the role it logs in as). What is well is said too.';

-- With every argument given, so that no overload in ops can be called instead.
CREATE VIEW ops.v_security_findings AS
  SELECT * FROM ops.audit_security(NULL::pg_catalog.text[], NULL::pg_catalog.name[], NULL::pg_catalog.text, false);
COMMENT ON VIEW ops.v_security_findings IS 'All findings of ops.audit_security(), for PostgREST, postgres_fdw and BI.';

CREATE FUNCTION ops.every_function() RETURNS pg_catalog.void
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ops_every_function';
COMMENT ON FUNCTION ops.every_function() IS
  'Does nothing. Who may execute it was given EXECUTE on all functions of this schema at once, and so, without anybody meaning it, on those that '
  'change contract and exemptions; of such a role they ask for the grant option.';

---------------------------------------------------------------- exemptions

CREATE TABLE dragonfly_guard.exemption (
  id           pg_catalog.int4 PRIMARY KEY,
  fingerprint  pg_catalog.text,
  rule         pg_catalog.text NOT NULL,
  object       pg_catalog.text NOT NULL,
  reason       pg_catalog.text NOT NULL CONSTRAINT has_a_reason CHECK (pg_catalog.btrim(reason) OPERATOR(pg_catalog.<>) ''),
  exempted_at  pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
  exempted_by  pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  expires_at   pg_catalog.timestamptz,
  basis        pg_catalog.jsonb NOT NULL,
  withdrawn_at pg_catalog.timestamptz,
  withdrawn_by pg_catalog.name
);
COMMENT ON TABLE dragonfly_guard.exemption IS 'Findings that somebody has accepted; ops.v_exemptions shows them.';
COMMENT ON COLUMN dragonfly_guard.exemption.id IS 'In the order in which they were made.';
COMMENT ON COLUMN dragonfly_guard.exemption.fingerprint IS 'The one finding; NULL: every finding of the rule about objects that match.';
COMMENT ON COLUMN dragonfly_guard.exemption.rule IS 'The rule.';
COMMENT ON COLUMN dragonfly_guard.exemption.object IS 'The identity of the object, or a pattern with * and ?.';
COMMENT ON COLUMN dragonfly_guard.exemption.reason IS 'Why.';
COMMENT ON COLUMN dragonfly_guard.exemption.exempted_at IS 'When.';
COMMENT ON COLUMN dragonfly_guard.exemption.exempted_by IS 'By which session user.';
COMMENT ON COLUMN dragonfly_guard.exemption.expires_at IS 'Until when; NULL: for good.';
COMMENT ON COLUMN dragonfly_guard.exemption.basis IS 'What the objects were made of then, a hash each: another body, owner or path ends the exemption.';
COMMENT ON COLUMN dragonfly_guard.exemption.withdrawn_at IS 'When it was taken back.';
COMMENT ON COLUMN dragonfly_guard.exemption.withdrawn_by IS 'By which session user.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.exemption'::pg_catalog.regclass, '');

CREATE FUNCTION ops.exempt(
    fingerprint pg_catalog.text DEFAULT NULL, reason pg_catalog.text DEFAULT NULL, expires_at pg_catalog.timestamptz DEFAULT NULL,
    rule pg_catalog.text DEFAULT NULL, object pg_catalog.text DEFAULT NULL)
  RETURNS pg_catalog.int4 LANGUAGE c AS 'MODULE_PATHNAME', 'ops_exempt';
COMMENT ON FUNCTION ops.exempt(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.text, pg_catalog.text) IS
  'Accepts a finding, by its fingerprint, or every finding of a rule about objects that match (* and ? as in a shell); gives the number of '
  'the exemption. It ends when it expires, and when the body, owner or path of a routine, or what a view selects, changes. Superusers, and whom one '
  'grants EXECUTE.';

CREATE FUNCTION ops.unexempt(fingerprint pg_catalog.text DEFAULT NULL, id pg_catalog.int4 DEFAULT NULL)
  RETURNS pg_catalog.int4 LANGUAGE c AS 'MODULE_PATHNAME', 'ops_unexempt';
COMMENT ON FUNCTION ops.unexempt(pg_catalog.text, pg_catalog.int4) IS
  'Takes exemptions back, by the fingerprint of the finding or by number; gives how many. Superusers, and whom one grants EXECUTE.';

CREATE FUNCTION ops.exemptions()
  RETURNS TABLE (
    id pg_catalog.int4, status pg_catalog.text, rule pg_catalog.text, object pg_catalog.text, fingerprint pg_catalog.text,
    reason pg_catalog.text, exempted_by pg_catalog.name, exempted_at pg_catalog.timestamptz, expires_at pg_catalog.timestamptz,
    hides pg_catalog.int8, hidden pg_catalog.jsonb, withdrawn_at pg_catalog.timestamptz, withdrawn_by pg_catalog.name)
  LANGUAGE c STABLE ROWS 10 AS 'MODULE_PATHNAME', 'ops_exemptions';
COMMENT ON FUNCTION ops.exemptions() IS 'What ops.v_exemptions shows.';

CREATE VIEW ops.v_exemptions AS SELECT * FROM ops.exemptions();
COMMENT ON VIEW ops.v_exemptions IS
  'Every exemption with what it hides today. status is active, expired, changed (what it was about is no longer what was accepted) or '
  'withdrawn.';

---------------------------------------------------------------- drift

CREATE TABLE dragonfly_guard.frozen_schema (
  label       pg_catalog.text PRIMARY KEY,
  frozen_at   pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  frozen_by   pg_catalog.name NOT NULL DEFAULT SESSION_USER,
  fingerprint pg_catalog.text NOT NULL,
  snapshot    pg_catalog.jsonb NOT NULL
);
COMMENT ON TABLE dragonfly_guard.frozen_schema IS 'Snapshots of schemas that somebody has kept; ops.v_frozen_schemas shows them.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.label IS 'What it is called.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.frozen_at IS 'When; the latest is what is compared with unless a label is given.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.frozen_by IS 'By which session user.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.fingerprint IS 'What ops.schema_fingerprint() gave then.';
COMMENT ON COLUMN dragonfly_guard.frozen_schema.snapshot IS 'What ops.schema_snapshot() gave then.';
SELECT pg_catalog.pg_extension_config_dump('dragonfly_guard.frozen_schema'::pg_catalog.regclass, '');

CREATE FUNCTION ops.schema_snapshot(schemas pg_catalog.name[] DEFAULT NULL) RETURNS pg_catalog.jsonb
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_snapshot';
COMMENT ON FUNCTION ops.schema_snapshot(pg_catalog.name[]) IS
  'Everything that counts in those schemas or (NULL) the governed ones, by names alone: tables, columns, types, views, routines, policies, grants, '
  'triggers. To be kept, or compared with in another database.';

CREATE FUNCTION ops.schema_fingerprint(schemas pg_catalog.name[] DEFAULT NULL) RETURNS pg_catalog.text
  LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'ops_schema_fingerprint';
COMMENT ON FUNCTION ops.schema_fingerprint(pg_catalog.name[]) IS
  'One hash of ops.schema_snapshot(): equal in two databases exactly when ops.compare_schema() finds no difference between them.';

CREATE FUNCTION ops.compare_schema(snapshot pg_catalog.jsonb)
  RETURNS TABLE (
    source pg_catalog.text, change pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name, object pg_catalog.text,
    what pg_catalog.text, expected pg_catalog.text, actual pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_compare_schema';
COMMENT ON FUNCTION ops.compare_schema(pg_catalog.jsonb) IS
  'How this database differs from another, of which that is ops.schema_snapshot(): expected is there, actual is here.';

CREATE FUNCTION ops.freeze_schema(
    label pg_catalog.text, schemas pg_catalog.name[] DEFAULT NULL, replace pg_catalog.bool DEFAULT false)
  RETURNS pg_catalog.text LANGUAGE c AS 'MODULE_PATHNAME', 'ops_freeze_schema';
COMMENT ON FUNCTION ops.freeze_schema(pg_catalog.text, pg_catalog.name[], pg_catalog.bool) IS
  'Keeps ops.schema_snapshot() under a label, for ops.check_schema_consistency(); gives its fingerprint. Superusers, and whom one grants EXECUTE.';

CREATE FUNCTION ops.unfreeze_schema(label pg_catalog.text) RETURNS pg_catalog.void
  LANGUAGE c AS 'MODULE_PATHNAME', 'ops_unfreeze_schema';
COMMENT ON FUNCTION ops.unfreeze_schema(pg_catalog.text) IS
  'Forgets what was frozen under a label. Superusers, and whom one grants EXECUTE.';

CREATE FUNCTION ops.check_schema_consistency(label pg_catalog.text DEFAULT NULL, schemas pg_catalog.name[] DEFAULT NULL)
  RETURNS TABLE (
    source pg_catalog.text, change pg_catalog.text, object_type pg_catalog.text, schema_name pg_catalog.name, object pg_catalog.text,
    what pg_catalog.text, expected pg_catalog.text, actual pg_catalog.text)
  LANGUAGE c STABLE ROWS 100 AS 'MODULE_PATHNAME', 'ops_check_schema_consistency';
COMMENT ON FUNCTION ops.check_schema_consistency(pg_catalog.text, pg_catalog.name[]) IS
  'Drift: what the contract declares and is missing or something else, and how the database differs from what was frozen under that label or '
  '(NULL) last. change is added, removed or changed; what is the property that changed. No row: no drift.';

CREATE VIEW ops.v_frozen_schemas AS
  SELECT f.label, f.frozen_at, f.frozen_by, f.fingerprint,
         ARRAY(SELECT s.name::pg_catalog.name
                 FROM pg_catalog.jsonb_array_elements_text(f.snapshot OPERATOR(pg_catalog.->) 'schemas'::pg_catalog.text) AS s(name)) AS schemas
    FROM dragonfly_guard.frozen_schema AS f
   ORDER BY f.frozen_at, f.label;
COMMENT ON VIEW ops.v_frozen_schemas IS 'What ops.freeze_schema() has kept, the latest last.';

---------------------------------------------------------------- the guard

-- No index and no key: the writer adds rows past everything. Nothing for a dump.
CREATE TABLE dragonfly_guard.log (
  at    pg_catalog.timestamptz NOT NULL,
  entry pg_catalog.jsonb NOT NULL
);
COMMENT ON TABLE dragonfly_guard.log IS 'What the guard refused, warned of and let pass; ops.v_guard_log shows it.';
COMMENT ON COLUMN dragonfly_guard.log.at IS 'When.';
COMMENT ON COLUMN dragonfly_guard.log.entry IS 'The same as the line in the server log.';

CREATE FUNCTION ops.guard_status()
  RETURNS TABLE (
    part pg_catalog.text, active pg_catalog.bool, detail pg_catalog.text, leaves_open pg_catalog.text,
    how_to_close pg_catalog.text)
  LANGUAGE c STABLE ROWS 7 AS 'MODULE_PATHNAME', 'ops_guard_status';
COMMENT ON FUNCTION ops.guard_status() IS
  'What of the guard is really on in this session, what is not, what that leaves open, and how to close it.';

CREATE VIEW ops.v_guard_log AS
  SELECT l.at,
         l.entry OPERATOR(pg_catalog.->>) 'dragonfly_guard'::pg_catalog.text AS event,
         l.entry OPERATOR(pg_catalog.->>) 'mode'::pg_catalog.text AS mode,
         (l.entry OPERATOR(pg_catalog.->>) 'session_user'::pg_catalog.text)::pg_catalog.name AS session_user_name,
         (l.entry OPERATOR(pg_catalog.->>) 'role'::pg_catalog.text)::pg_catalog.name AS role_name,
         (l.entry OPERATOR(pg_catalog.->>) 'database'::pg_catalog.text)::pg_catalog.name AS database_name,
         (l.entry OPERATOR(pg_catalog.->>) 'pid'::pg_catalog.text)::pg_catalog.int4 AS pid,
         l.entry OPERATOR(pg_catalog.->>) 'command'::pg_catalog.text AS command,
         l.entry OPERATOR(pg_catalog.->>) 'rule'::pg_catalog.text AS rule,
         l.entry OPERATOR(pg_catalog.->>) 'object'::pg_catalog.text AS object,
         l.entry OPERATOR(pg_catalog.->>) 'verdict'::pg_catalog.text AS verdict,
         l.entry OPERATOR(pg_catalog.->>) 'message'::pg_catalog.text AS message,
         l.entry OPERATOR(pg_catalog.->>) 'statement'::pg_catalog.text AS statement
    FROM dragonfly_guard.log AS l
   ORDER BY l.at;
COMMENT ON VIEW ops.v_guard_log IS
  'What the guard did, the newest last: event is refused, warned, unjudged (its mode was off) or restoring (a dump). What was refused is '
  'here where the library is in shared_preload_libraries, the rest always; the server log has everything. statement is NULL where '
  'it may hold a password.';

CREATE FUNCTION dragonfly_guard.ddl_command_start() RETURNS pg_catalog.event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'guard_ddl_command_start';
COMMENT ON FUNCTION dragonfly_guard.ddl_command_start() IS 'Loads the library before the first command, so that its hook sees what it does.';

CREATE FUNCTION dragonfly_guard.ddl_command_end() RETURNS pg_catalog.event_trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'guard_ddl_command_end';
COMMENT ON FUNCTION dragonfly_guard.ddl_command_end() IS 'Judges what the command touched, and refuses what breaks the contract.';

-- No filter by tag: routines are also made inside REFRESH MATERIALIZED VIEW, CREATE EXTENSION and others. ENABLE ALWAYS: a session
-- with session_replication_role = replica is judged like any other. The names come late in the order in which triggers fire.
CREATE EVENT TRIGGER zz_dragonfly_guard_start ON ddl_command_start EXECUTE FUNCTION dragonfly_guard.ddl_command_start();
ALTER EVENT TRIGGER zz_dragonfly_guard_start ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER zz_dragonfly_guard_start IS 'dragonfly_guard: loads the guard.';
CREATE EVENT TRIGGER zz_dragonfly_guard_end ON ddl_command_end EXECUTE FUNCTION dragonfly_guard.ddl_command_end();
ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER zz_dragonfly_guard_end IS 'dragonfly_guard: judges what a command has done.';

---------------------------------------------------------------- rights

-- PUBLIC gets nothing, and nobody gets anything by default privileges that somebody set up for these schemas. Who watches, and who migrates,
-- may read.
CREATE FUNCTION dragonfly_guard.announce() RETURNS pg_catalog.void LANGUAGE c AS 'MODULE_PATHNAME', 'guard_announce';
COMMENT ON FUNCTION dragonfly_guard.announce() IS 'Called by the install script: says what CREATE EXTENSION found.';

DO $rights$
DECLARE
  object record;
  reader pg_catalog.name;
  -- Who drafts contracts, puts them into force and makes exemptions: superusers, and whom one lets. The role of the migrations may execute
  -- every function here all the same, for else its own GRANT and REVOKE ... ON ALL FUNCTIONS IN SCHEMA ops would fail; those that change
  -- something refuse it.
  authors CONSTANT pg_catalog.name[] := '{validate_contract,contract_schema,audit_contract,infer_contract,try_migration,apply_golden_sql,load_contract,rollback_contract,exempt,unexempt,freeze_schema,unfreeze_schema,every_function}';
BEGIN
  FOR object IN
    SELECT CASE WHEN p.oid IS NOT NULL THEN 'FUNCTION' ELSE 'TABLE' END AS kind,
           CASE WHEN p.oid IS NOT NULL
                  THEN pg_catalog.format('%I.%I(%s)', pn.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))
                ELSE pg_catalog.format('%I.%I', cn.nspname, c.relname) END AS identity,
           coalesce(pn.nspname, cn.nspname) OPERATOR(pg_catalog.=) 'ops'::pg_catalog.name AS for_readers,
           coalesce(p.proname OPERATOR(pg_catalog.=) ANY (authors), false) AS for_authors,
           coalesce(p.proowner, c.relowner) AS owner,
           coalesce(p.proacl, c.relacl) AS acl
      FROM (SELECT d.classid::pg_catalog.regclass AS class, d.objid AS oid
              FROM pg_catalog.pg_depend AS d
              JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
             WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
               AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
               AND e.extname OPERATOR(pg_catalog.=) 'dragonfly_guard'::pg_catalog.name) AS m
      LEFT JOIN pg_catalog.pg_proc AS p
        ON m.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) m.oid
      LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid OPERATOR(pg_catalog.=) p.pronamespace
      LEFT JOIN pg_catalog.pg_class AS c
        ON m.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) m.oid
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
      EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %I', object.kind, object.identity, reader);
    END LOOP;
    IF object.for_readers THEN
      FOR reader IN
        SELECT r.rolname FROM pg_catalog.pg_authid AS r
         WHERE r.rolname OPERATOR(pg_catalog.=) ANY ('{service_role,pg_monitor,postgres}'::pg_catalog.name[])
           AND (NOT object.for_authors OR r.rolname OPERATOR(pg_catalog.=) 'postgres'::pg_catalog.name)
      LOOP
        EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %I',
          CASE object.kind WHEN 'FUNCTION' THEN 'EXECUTE' ELSE 'SELECT' END, object.kind, object.identity, reader);
      END LOOP;
    END IF;
  END LOOP;
END
$rights$;

-- A function in ops with the name of one of ours would be called instead of ours with fewer arguments: such a schema is no place for us.
DO $impostors$
DECLARE
  impostor pg_catalog.text;
BEGIN
  SELECT pg_catalog.format('%I.%I(%s)', 'ops', p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))
    INTO impostor
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_proc AS own
      ON own.proname OPERATOR(pg_catalog.=) p.proname AND own.pronamespace OPERATOR(pg_catalog.=) p.pronamespace
    JOIN pg_catalog.pg_depend AS d
      ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
     AND d.objid OPERATOR(pg_catalog.=) own.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
    JOIN pg_catalog.pg_extension AS e
      ON e.oid OPERATOR(pg_catalog.=) d.refobjid AND e.extname OPERATOR(pg_catalog.=) 'dragonfly_guard'::pg_catalog.name
   WHERE NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend AS m
            WHERE m.classid OPERATOR(pg_catalog.=) d.classid AND m.objid OPERATOR(pg_catalog.=) p.oid
              AND m.refclassid OPERATOR(pg_catalog.=) d.refclassid AND m.refobjid OPERATOR(pg_catalog.=) e.oid)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'function % stands in the way of one of the extension''s own', impostor
      USING ERRCODE = 'duplicate_function',
            HINT = 'Rename or drop it, and try again.';
  END IF;
END
$impostors$;

SELECT dragonfly_guard.announce();

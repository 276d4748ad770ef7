-- A team loads its own contract, extends it in a migration, exempts a finding, and rolls back.
CREATE ROLE web LOGIN NOINHERIT;
CREATE ROLE visitor NOLOGIN;
GRANT visitor TO web;
CREATE SCHEMA shop;
CREATE TABLE shop.goods (id int PRIMARY KEY, name text);
GRANT USAGE ON SCHEMA shop TO visitor;
GRANT SELECT ON shop.goods TO visitor;
CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shop.goods';
REVOKE EXECUTE ON FUNCTION shop.total() FROM PUBLIC;
SET client_min_messages = error;
CREATE EXTENSION dragonfly_guard;
RESET client_min_messages;

-- A draft with several errors.
\set draft '{"name": "shop", "version": "2.0", "roles": [{"name": "visitor", "kind": "guest"}], "schemas": [{"name": "shop", "usage": ["visitor", "guest"]}], "tables": [{"schema": "shop", "name": "goods", "grants": {"visitor": ["READ"]}}], "security_definer": {"search_path": ["shop"]}, "tables": []}'
SELECT severity, path, problem, allowed FROM ops.validate_contract(:'draft');

-- Without the errors it is a valid contract with one contradiction.
\set contract '{"name": "shop", "version": "2.0.0", "roles": [{"name": "visitor", "kind": "client"}], "schemas": [{"name": "shop", "usage": ["visitor"]}], "tables": [{"schema": "shop", "name": "goods", "grants": {"visitor": ["SELECT"]}}], "security_definer": {"search_path": ["shop", "pg_temp"]}}'
SELECT severity, path, problem, allowed FROM ops.validate_contract(:'contract');
SELECT version, replaces, findings > 0 AS has_findings FROM ops.load_contract(:'contract', 'Ours');
SELECT rule, object, detail FROM ops.audit_security(schemas => '{shop}', min_severity => 'warning');

-- It is printed in a fixed order. A deployment can load it again; other contents need another version.
SELECT ops.contract_json();
SELECT version, replaces, added, removed FROM ops.load_contract(ops.contract_json());
SELECT ops.load_contract(jsonb_set(ops.contract(), '{name}', '"store"'));
SELECT count(*) FROM ops.contract_history;

-- A problem of a text has a line, and says what was probably meant.
SELECT path, object, line, problem, hint FROM ops.validate_contract(
  replace(replace(ops.contract_json(), '"grants"', '"grant"'), '"shop", "pg_temp"', '"pg_temp", "shop"'));
SELECT ops.load_contract(replace(ops.contract_json(), '"client"', '"clinet"'));

-- A file that cannot be read, and the name of a file.
\set missing `cat nowhere.json 2>/dev/null`
SELECT ops.load_contract(:'missing');
SELECT path, line, problem, hint FROM ops.validate_contract('contract.json');

-- A migration loads its contract.
BEGIN;
SELECT version, changes FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(), '{version}', '"2.1.0"'),
  '{tables,0,row_security}', 'true'), 'Row security');
ALTER TABLE shop.goods ENABLE ROW LEVEL SECURITY;
COMMIT;
SELECT version, in_force, note FROM ops.contract_history;
SELECT changes FROM ops.contract_history WHERE in_force;
SELECT severity, path, problem FROM ops.validate_contract(ops.contract());

-- A finding that cannot be fixed yet is exempted; there are no others.
SELECT ops.exempt(fingerprint, 'Ticket 7: rewritten in May')
  FROM ops.audit_security(rules => '{security_definer_search_path}');
SELECT ops.assert_security();
SELECT id, status, rule, object, reason, finding_count FROM ops.v_exemptions;

-- A change of the routine ends the exemption.
CREATE OR REPLACE FUNCTION shop.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shop.goods AS g';
SELECT detail FROM ops.audit_security(rules => '{security_definer_search_path}');
SELECT id, status, finding_count FROM ops.v_exemptions;

-- Roll back.
SELECT version, changes FROM ops.rollback_contract('2.0.0', 'Too slow');
SELECT ops.load_contract(jsonb_set(ops.contract(), '{version}', '"2.0.5"'));

-- Infer a contract from the database.
SELECT ops.infer_contract('{shop}') - 'roles' - 'managed' AS inferred;

SET ROLE web;
SELECT ops.load_contract('{}');
RESET ROLE;

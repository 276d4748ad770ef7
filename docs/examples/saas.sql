-- The database of docs/examples/saas.json, created while that contract is in force: roles and
-- schemas by a superuser, then a migration.
CREATE ROLE web_anon NOLOGIN NOINHERIT;
CREATE ROLE tenant_user NOLOGIN NOINHERIT;
CREATE ROLE billing_worker LOGIN BYPASSRLS;
CREATE ROLE saas_owner NOLOGIN;
CREATE SCHEMA app AUTHORIZATION saas_owner;
CREATE SCHEMA api AUTHORIZATION saas_owner;
CREATE SCHEMA billing AUTHORIZATION saas_owner;

SET ROLE saas_owner;

BEGIN;
GRANT USAGE ON SCHEMA app TO web_anon, tenant_user, billing_worker;
GRANT USAGE ON SCHEMA api TO tenant_user;
GRANT USAGE ON SCHEMA billing TO billing_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA billing GRANT ALL ON TABLES TO billing_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA billing GRANT ALL ON SEQUENCES TO billing_worker;

CREATE TABLE app.tenants (id bigint PRIMARY KEY, name text NOT NULL);
ALTER TABLE app.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.tenants FOR SELECT TO tenant_user
  USING (id = current_setting('app.tenant')::bigint);
GRANT SELECT ON app.tenants TO tenant_user, billing_worker;

CREATE TABLE app.projects (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id bigint NOT NULL REFERENCES app.tenants,
  name text NOT NULL,
  state text NOT NULL DEFAULT 'open'
);
CREATE INDEX ON app.projects (tenant_id);
ALTER TABLE app.projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.projects TO tenant_user
  USING (tenant_id = current_setting('app.tenant')::bigint);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.projects TO tenant_user;

CREATE TABLE app.plans (
  name text PRIMARY KEY, cents int NOT NULL, published boolean NOT NULL DEFAULT false
);
ALTER TABLE app.plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY price_list ON app.plans FOR SELECT TO web_anon, tenant_user USING (published);
GRANT SELECT ON app.plans TO web_anon, tenant_user;

CREATE VIEW app.v_project_counts WITH (security_invoker = true) AS
  SELECT state, count(*) AS projects FROM app.projects GROUP BY state;
GRANT SELECT ON app.v_project_counts TO tenant_user;

CREATE SEQUENCE app.ticket_numbers;
GRANT USAGE ON SEQUENCE app.ticket_numbers TO tenant_user;

CREATE TABLE billing.invoices (
  id bigint PRIMARY KEY, tenant_id bigint NOT NULL, cents int NOT NULL
);
GRANT ALL ON billing.invoices TO billing_worker;

CREATE FUNCTION api.archive_project(project bigint) RETURNS void LANGUAGE sql
  SECURITY DEFINER SET search_path = app, pg_temp
  AS $$
    UPDATE projects SET state = 'archived'
     WHERE id = project AND tenant_id = current_setting('app.tenant')::bigint
  $$;
REVOKE EXECUTE ON FUNCTION api.archive_project(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION api.archive_project(bigint) TO tenant_user;
COMMIT;

INSERT INTO app.tenants VALUES (1, 'one'), (2, 'two');
INSERT INTO app.plans VALUES ('free', 0, true), ('team', 900, true), ('secret', 1, false);
RESET ROLE;

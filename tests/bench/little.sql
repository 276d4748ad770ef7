-- One small schema with a few findings, for audits of one schema.
CREATE SCHEMA little;
GRANT USAGE ON SCHEMA little TO anon, authenticated;
CREATE TABLE little.t_1 (id bigint, owner_id uuid, body text);
CREATE TABLE little.t_2 (id bigint, owner_id uuid, body text);
ALTER TABLE little.t_2 ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON little.t_2 FOR SELECT TO authenticated USING (id > 0);
GRANT SELECT ON little.t_1, little.t_2 TO authenticated;
CREATE FUNCTION little.f_1() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION little.f_2() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = "$user", public, pg_temp AS 'SELECT 1';
CREATE FUNCTION little.f_3() RETURNS int LANGUAGE sql AS 'SELECT 1';

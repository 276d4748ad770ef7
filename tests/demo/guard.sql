-- One statement in a migration.
CREATE EXTENSION dragonfly_guard;

-- From here on as the role that runs migrations.
SET ROLE postgres;

-- The well-known mistake.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
  AS 'UPDATE judgments SET stage = ''closed'' WHERE judgments.id = $1';

-- The well-known advice, which is not safe either.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = ''
  AS 'UPDATE public.judgments SET stage = ''closed'' WHERE judgments.id = $1';

-- As the hint says.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
  AS 'UPDATE judgments SET stage = ''closed'' WHERE judgments.id = $1';
DROP FUNCTION api.close_case(bigint);

-- Does the database keep its contract?
RESET ROLE;
SELECT * FROM ops.role_matrix();
SELECT ops.assert_security();

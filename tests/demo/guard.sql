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

-- Nobody gets what the contract does not give, and no table loses its row security.
GRANT SELECT ON public.plaintiff_contacts TO anon;
ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY;
-- A view is dropped and made anew in one transaction; in two there would be a moment without it.
DROP VIEW public.v_collectability_snapshot;

-- Does the database keep its contract?
RESET ROLE;
SELECT * FROM ops.role_matrix();
SELECT ops.assert_security();

-- What of the guard is on in this session, and what is not.
SELECT component, active, detail, gap FROM ops.guard_status();

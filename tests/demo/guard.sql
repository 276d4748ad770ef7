-- One statement in a migration.
CREATE EXTENSION dragonfly_guard;

-- The role that runs migrations executes the rest.
SET ROLE postgres;

-- The common mistake: no search_path.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
  AS 'UPDATE judgments SET stage = ''closed'' WHERE judgments.id = $1';

-- The common advice, which is not safe either.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = ''
  AS 'UPDATE public.judgments SET stage = ''closed'' WHERE judgments.id = $1';

-- With the clause in HINT.
CREATE FUNCTION api.close_case(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
  AS 'UPDATE judgments SET stage = ''closed'' WHERE judgments.id = $1';
DROP FUNCTION api.close_case(bigint);

-- No role receives an undeclared privilege, and no declared table loses its row security.
GRANT SELECT ON public.plaintiff_contacts TO anon;
ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY;
-- A declared view can be dropped and created again in one transaction, but not only dropped.
DROP VIEW public.v_collectability_snapshot;

-- Does the database conform to its contract?
RESET ROLE;
SELECT * FROM ops.role_matrix();
SELECT ops.assert_security();

-- The status of each guard component in this session.
SELECT component, active, detail, gap FROM ops.guard_status();

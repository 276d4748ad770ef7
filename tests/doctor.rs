//! The daily check, section 9 of the document: the doctor says what is well, and what is not.

use dragonfly_tests::{Cluster, attempt, column};

const ILL: &str = "SELECT concat_ws(' | ', area, object, detail) FROM ops.doctor() WHERE NOT ok";

#[test]
fn a_healthy_database() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    assert_eq!(column(&mut client, ILL), [""; 0]);
    let counts = "SELECT area || ' ' || count(*) FROM ops.doctor() GROUP BY area ORDER BY min(detail), area";
    let mut counted = column(&mut client, counts);
    counted.sort();
    assert_eq!(counted, ["audit 1", "function 6", "guard 1", "postgrest 9", "role 4", "schema 5", "table 12", "view 9"]);
    // In a read-only transaction, and by whom it is for.
    client.batch_execute("BEGIN READ ONLY; SELECT * FROM ops.doctor(); ROLLBACK; SET ROLE service_role").unwrap();
    assert_eq!(column(&mut client, ILL), [""; 0], "a worker sees the same");
    client.batch_execute("SET ROLE anon").unwrap();
    assert_eq!(attempt(&mut client, "SELECT * FROM ops.doctor()").unwrap_err().code, "42501");
}

#[test]
fn what_is_broken_is_named_with_what_mends_it() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             DROP VIEW ops.v_reaper_status;
             REVOKE SELECT ON public.v_judgment_pipeline FROM anon;
             DROP POLICY judgments_read ON public.judgments;
             CREATE TABLE public.sums (id int);
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER
               SET search_path = public, pg_temp AS $$ SELECT jsonb_build_object('amount', sum(id)) FROM sums $$;
             DROP TABLE public.sums;
             ALTER ROLE authenticator SET pgrst.db_schemas = 'public, api, reports';
             ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, ILL),
        [
            "table | public.judgments | No policy of table public.judgments lets role \"authenticated\" SELECT, which the contract declares.",
            "view | public.v_judgment_pipeline | Role \"anon\" lacks SELECT on view public.v_judgment_pipeline, which the contract declares.",
            "view | ops.v_reaper_status | View ops.v_reaper_status, which the contract declares, does not exist.",
            "function | api.get_ceo_metrics() | Its body cannot be read: relation \"sums\" does not exist.",
            "guard | dragonfly_guard | Event trigger zz_dragonfly_guard_end is disabled.",
            "postgrest | pgrst.db_schemas | Exposes reports, which is not there.",
            "audit | ops.audit_security() | 4 errors and 0 warnings: ops.audit_security() lists them.",
        ]
    );
    for fix in column(&mut client, "SELECT fix FROM ops.doctor() WHERE fix IS NOT NULL AND area <> 'audit'") {
        attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
    }
    let ill = column(&mut client, "SELECT object FROM ops.doctor() WHERE NOT ok");
    assert_eq!(ill, ["public.judgments", "ops.v_reaper_status", "api.get_ceo_metrics()", "ops.audit_security()"]);
}

/// A view depends on tables and functions, which cannot go while it is there; but not on what the bodies of functions name, nor on what comes out.
#[test]
fn views_that_cannot_be_planned_any_more() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE TABLE public.sums (id int);
             CREATE FUNCTION public.all_sums() RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT id FROM sums';
             CREATE VIEW public.v_sums AS SELECT * FROM public.all_sums();
             CREATE FUNCTION public.share(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 100 / $1; END';
             ALTER VIEW ops.v_reaper_status RENAME TO v_old;
             CREATE VIEW ops.v_reaper_status AS SELECT public.share(0) FROM ops.v_old; GRANT ALL ON ops.v_reaper_status TO service_role;
             RESET ROLE",
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
    let ill = "SELECT object || ': ' || detail FROM ops.doctor() WHERE area = 'view' AND NOT ok";
    assert_eq!(column(&mut client, ill), ["ops.v_reaper_status: Cannot be read: division by zero."]);
    client.batch_execute("SET dragonfly_guard.mode = off; DROP TABLE public.sums").unwrap();
    assert_eq!(
        column(&mut client, ill),
        [
            "ops.v_reaper_status: Cannot be read: division by zero.",
            "public.v_sums: Cannot be read: relation \"sums\" does not exist.",
        ]
    );
}

/// Planning a query runs functions whose arguments are constant, in views and in what belongs to their tables; reading a literal runs the checks of its
/// type: not those of a stranger, and the doctor says what was not tried.
#[test]
fn the_doctor_runs_nobodys_code() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; CREATE TABLE public.stolen (by name);
             GRANT CREATE ON SCHEMA public TO mallory; GRANT INSERT ON public.stolen TO PUBLIC; SET ROLE mallory;
             CREATE FUNCTION public.evil(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'it runs as %', current_user; END $$;
             CREATE VIEW public.v_own AS SELECT 1 AS one WHERE public.evil(1) = 1;
             RESET ROLE;
             CREATE VIEW public.v_super AS SELECT * FROM public.judgments WHERE id = public.evil(1);
             CREATE VIEW public.v_nested AS SELECT * FROM public.v_super;
             CREATE VIEW public.v_migration AS SELECT * FROM public.judgments WHERE id = public.evil(1);
             ALTER VIEW public.v_migration OWNER TO postgres;
             CREATE VIEW public.v_broken AS SELECT * FROM public.judgments WHERE id = 1 / (id - id)",
        )
        .unwrap();
    // Neither does it run what a planner would, and no view names: an index expression of the table's owner.
    client
        .batch_execute(
            "SET ROLE mallory; CREATE FUNCTION public.sly(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
               $$ BEGIN IF current_user <> 'mallory' THEN RAISE EXCEPTION 'it runs as %', current_user; END IF; RETURN 1; END $$;
             CREATE TABLE public.trap (x int); CREATE INDEX ON public.trap ((x + public.sly(1)));
             GRANT SELECT ON public.trap TO PUBLIC; RESET ROLE; CREATE VIEW public.v_index AS SELECT x FROM public.trap",
        )
        .unwrap();
    client
        .batch_execute(
            "ALTER VIEW ops.v_reaper_status RENAME TO v_old; CREATE VIEW ops.v_reaper_status AS SELECT public.evil(1) FROM ops.v_old;
             GRANT ALL ON ops.v_reaper_status TO service_role;
             CREATE FOREIGN DATA WRAPPER nobody; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nobody;
             CREATE FOREIGN TABLE public.far (id int) SERVER elsewhere; CREATE VIEW public.v_far AS SELECT * FROM public.far",
        )
        .unwrap();
    assert_eq!(column(&mut client, "SELECT object || detail FROM ops.doctor() WHERE area = 'view' AND NOT ok"), [""; 0]);
    let said = "SELECT detail FROM ops.doctor() WHERE object = 'ops.v_reaper_status'";
    assert_eq!(
        column(&mut client, said),
        [
            "Is there and can be read (not planned: that would run function public.evil(integer), which belongs to \"mallory\"), for \
             service_role."
        ]
    );
    // A literal of a domain is read by the domain's own checks.
    client
        .batch_execute(
            "SET ROLE mallory; CREATE FUNCTION public.look(int) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'it runs as %', current_user; END $$;
             CREATE DOMAIN public.bait AS int; RESET ROLE;
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql SECURITY DEFINER
               SET search_path = public, pg_temp AS $$ SELECT to_jsonb('{1}'::public.bait[]) $$;
             ALTER DOMAIN public.bait ADD CHECK (public.look(VALUE)) NOT VALID",
        )
        .unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT substring(detail FROM 'Its body.*') FROM ops.doctor() WHERE object = 'api.get_ceo_metrics()'"
        ),
        ["Its body was not read: that would run function public.look(integer), which belongs to \"mallory\"."]
    );
}

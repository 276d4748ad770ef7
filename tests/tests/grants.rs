//! A GRANT on routines is checked by the rows that it has written, and not by its names: these may
//! mean other routines when it is checked.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;
use std::thread;
use std::time::Duration;

/// `secret.target` and `app.target` are SECURITY DEFINER routines that anon must not execute.
const WORLD: &str = "
    SELECT set_config('dragonfly_guard.mode', 'off', false);
    CREATE ROLE app_owner; CREATE ROLE anon;
    CREATE SCHEMA app AUTHORIZATION app_owner; CREATE SCHEMA secret AUTHORIZATION app_owner;
    GRANT USAGE ON SCHEMA app, secret TO anon; GRANT CREATE ON DATABASE grants TO app_owner;
    SET ROLE app_owner;
    CREATE FUNCTION app.target() RETURNS int LANGUAGE sql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
    CREATE FUNCTION secret.target() RETURNS int LANGUAGE sql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
    CREATE FUNCTION app.harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION app.moves() RETURNS int LANGUAGE plpgsql
      AS $$ BEGIN PERFORM set_config('search_path', 'secret', true); RETURN 1; END $$;
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA app, secret FROM PUBLIC;
    RESET ROLE; RESET dragonfly_guard.mode;
    SELECT FROM ops.load_contract(ops.infer_contract('{app,secret}') || '{\"functions\": []}', \
    'none');";

fn executable_by_anon(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text IN \
         ('app', 'secret') AND has_function_privilege('anon', oid, 'EXECUTE') ORDER BY 1",
    )
}

/// Asserts that a statement is rejected because anon would execute `routine`.
fn is_rejected(client: &mut Client, sql: &str, routine: &str) {
    let rejected = attempt(client, sql).expect_err(sql);
    client.batch_execute("ROLLBACK; RESET ROLE; RESET search_path").unwrap();
    let what = format!("security_definer_executable_by_clients on function {routine}");
    assert!(rejected.code == "0LP01" && rejected.message.contains(&what), "{sql}: {rejected:?}");
}

#[test]
fn grant_is_rejected_whatever_its_names_mean_afterwards() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("grants");
    client.batch_execute(WORLD).unwrap();
    for sql in [
        "GRANT EXECUTE ON FUNCTION secret.target() TO anon",
        "GRANT ALL ON ROUTINE secret.target TO anon",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA secret TO anon",
        "GRANT EXECUTE ON FUNCTION secret.target TO PUBLIC",
        "DO $$ BEGIN GRANT EXECUTE ON FUNCTION secret.target TO anon; ALTER FUNCTION secret.target \
         RENAME TO other; END $$",
        "BEGIN; SAVEPOINT s; GRANT EXECUTE ON FUNCTION app.harmless TO app_owner; ROLLBACK TO s; \
         GRANT EXECUTE ON FUNCTION secret.target TO anon; COMMIT",
        "SET search_path = secret; GRANT EXECUTE ON FUNCTION target() TO anon",
        // A bound of a partition changes the search_path between the elements.
        "SET ROLE app_owner; SET search_path = app; CREATE SCHEMA hole
         CREATE TABLE p (a int) PARTITION BY RANGE (a)
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (app.moves()) TO (100)
         GRANT EXECUTE ON FUNCTION target() TO anon",
    ] {
        is_rejected(&mut client, sql, "secret.target()");
    }
    // With check_at = commit the name is gone when the transaction is checked.
    is_rejected(
        &mut client,
        "SET dragonfly_guard.check_at = commit; BEGIN; GRANT EXECUTE ON FUNCTION secret.target TO \
         anon; ALTER FUNCTION secret.target RENAME TO other; COMMIT",
        "secret.other()",
    );
    // The routine is to be checked at commit anyway, and PUBLIC's EXECUTE is still a GRANT.
    is_rejected(
        &mut client,
        "BEGIN; CREATE FUNCTION secret.fresh() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
         search_path = pg_catalog, pg_temp AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION secret.fresh \
         TO PUBLIC; COMMIT",
        "secret.fresh()",
    );
    client.batch_execute("RESET dragonfly_guard.check_at").unwrap();
    // Another event trigger changes the search_path before the guard is called.
    client
        .batch_execute(
            "CREATE FUNCTION public.moves() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM set_config('search_path', 'app', false); END $$;
             CREATE EVENT TRIGGER aaa ON ddl_command_end EXECUTE FUNCTION public.moves()",
        )
        .unwrap();
    let sql = "SET search_path = secret; GRANT EXECUTE ON FUNCTION target() TO anon";
    is_rejected(&mut client, sql, "secret.target()");
    client.batch_execute("DROP EVENT TRIGGER aaa; RESET search_path").unwrap();
    assert_eq!(executable_by_anon(&mut client), [""; 0]);
    // What the contract does not forbid passes.
    client
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION secret.target TO app_owner; REVOKE EXECUTE ON \
             ALL FUNCTIONS IN SCHEMA app FROM anon",
        )
        .unwrap();
}

/// GRANT looks all names up first and locks no routine. So another session can rename one that is
/// granted later.
#[test]
fn grant_is_rejected_if_another_session_renames_the_routine_meanwhile() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("grants");
    admin.batch_execute(WORLD).unwrap();
    // The row of this routine is locked, so that the GRANT waits after it has looked up the names.
    let mut holder = cluster.connect("grants", SUPERUSER);
    holder.batch_execute("BEGIN; ALTER FUNCTION app.harmless() COST 7").unwrap();
    let mut granting = cluster.connect("grants", SUPERUSER);
    let grant = thread::spawn(move || {
        attempt(
            &mut granting,
            "SET ROLE app_owner; GRANT EXECUTE ON FUNCTION app.harmless(), secret.target() TO anon",
        )
    });
    let waits = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query \
                 LIKE '%GRANT EXECUTE%' AND pid <> pg_backend_pid()";
    while column(&mut admin, waits).is_empty() {
        assert!(!grant.is_finished(), "the GRANT waits for the row");
        thread::sleep(Duration::from_millis(20));
    }
    let mut renaming = cluster.connect("grants", SUPERUSER);
    let rename = "SET ROLE app_owner; SET lock_timeout = '3s'; ALTER FUNCTION secret.target() \
                  RENAME TO target2";
    let name = match attempt(&mut renaming, rename) {
        Ok(()) => "target2",
        // PostgreSQL 18 locks the routines that GRANT names, so that the other session waits.
        Err(waited) => {
            let version = "SELECT current_setting('server_version_num')::int";
            let version: i32 = admin.query_one(version, &[]).unwrap().get(0);
            assert!(version >= 170_000 && waited.code == "55P03", "{version}: {waited:?}");
            "target"
        }
    };
    holder.batch_execute("ROLLBACK").unwrap();
    let rejected = grant.join().unwrap().unwrap_err();
    let what = format!("security_definer_executable_by_clients on function secret.{name}()");
    assert!(rejected.message.contains(&what), "{rejected:?}");
    assert_eq!(executable_by_anon(&mut admin), [""; 0]);
}

/// PUBLIC stands for roles that such a contract says nothing about.
#[test]
fn grant_on_relations_to_public_is_rejected_where_the_contract_has_no_client() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("closed");
    client
        .batch_execute(
            "CREATE ROLE closed_owner; CREATE SCHEMA closed AUTHORIZATION closed_owner;
             SET ROLE closed_owner; CREATE TABLE closed.t (id int); CREATE SEQUENCE closed.s;
             CREATE VIEW closed.v AS SELECT 1 AS id; CREATE MATERIALIZED VIEW closed.m AS SELECT 1;
             RESET ROLE; SELECT ops.load_contract(ops.infer_contract('{closed}'), 'none')",
        )
        .unwrap();
    let clients = "SELECT count(*)::text FROM jsonb_array_elements(ops.contract()->'roles') AS r \
                   WHERE r->>'kind' = 'client'";
    assert_eq!(column(&mut client, clients), ["0"]);
    let audited = "SELECT DISTINCT rule || ' ' || object FROM ops.audit_security(min_severity => \
                   'error') ORDER BY 1";
    assert_eq!(column(&mut client, audited), [""; 0]);
    for (sql, found) in [
        ("GRANT SELECT ON closed.t TO PUBLIC", "table_privileges closed.t"),
        ("GRANT UPDATE ON ALL TABLES IN SCHEMA closed TO PUBLIC", "direct_write closed.t"),
        ("GRANT SELECT (id) ON closed.t TO PUBLIC", "column_privileges closed.t"),
        ("GRANT USAGE ON SEQUENCE closed.s TO PUBLIC", "sequence_privileges closed.s"),
        ("GRANT SELECT ON closed.v TO PUBLIC", "view_privileges closed.v"),
        ("GRANT SELECT ON closed.m TO PUBLIC", "view_privileges closed.m"),
        (
            "CREATE TABLE closed.later (id int); GRANT SELECT ON closed.later TO PUBLIC",
            "table_privileges closed.later",
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE closed_owner IN SCHEMA closed GRANT SELECT ON \
             TABLES TO PUBLIC",
            "default_privileges for role closed_owner in schema closed on tables",
        ),
    ] {
        let rejected = attempt(&mut client, &format!("BEGIN; {sql}; COMMIT")).expect_err(sql);
        client.batch_execute("ROLLBACK").unwrap();
        assert!(
            ["0LP01", "42P17"].contains(&&*rejected.code)
                && rejected.detail.contains("PUBLIC (every role)"),
            "{sql}: {rejected:?}"
        );
        client
            .batch_execute(&format!("SET dragonfly_guard.mode = off; BEGIN; {sql}; COMMIT"))
            .unwrap();
        let audited = column(&mut client, audited);
        assert!(audited.iter().any(|one| one == found), "{sql}: {audited:?}");
        client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    }
    // The server grants EXECUTE on a new function to PUBLIC.
    client
        .batch_execute("CREATE FUNCTION closed.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .unwrap();
}

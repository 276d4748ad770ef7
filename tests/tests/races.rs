//! Concurrent sessions: each statement is correct by itself, but together they would violate the
//! contract. One of them is rejected.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use std::sync::{Arc, Barrier};
use std::thread;

/// Runs two scripts concurrently in two sessions, and returns which of them pass. `|` separates
/// steps that start together.
fn together(cluster: &Cluster, database: &str, scripts: [&str; 2]) -> [bool; 2] {
    let barrier = Arc::new(Barrier::new(2));
    let sessions = scripts.map(|script| {
        let (mut client, barrier) = (cluster.connect(database, SUPERUSER), barrier.clone());
        let steps: Vec<String> = script.split('|').map(str::to_owned).collect();
        thread::spawn(move || {
            let mut passed = true;
            for step in steps {
                barrier.wait();
                passed = passed
                    && attempt(&mut client, &step)
                        .inspect_err(|e| assert_eq!(e.code, "42P13", "{step}: {e:?}"))
                        .is_ok();
            }
            passed
        })
    });
    sessions.map(|session| session.join().expect("no panic"))
}

#[test]
fn concurrent_grant_on_a_schema_and_function_that_searches_it_are_not_both_accepted() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("races");
    admin
        .batch_execute(
            "CREATE ROLE app_owner; CREATE ROLE mallory; CREATE SCHEMA app AUTHORIZATION app_owner",
        )
        .unwrap();
    let mut rejected = 0;
    for i in 0..60 {
        admin.batch_execute(&format!("CREATE SCHEMA s{i} AUTHORIZATION app_owner")).unwrap();
        let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][i % 3];
        let open = [
            format!("GRANT CREATE ON SCHEMA s{i} TO mallory"),
            format!("ALTER SCHEMA s{i} OWNER TO mallory"),
            format!("ALTER SCHEMA s{i} RENAME TO gone{i}"),
        ];
        let open = &open[i / 3 % 3];
        let make = format!(
            "SET ROLE app_owner; CREATE FUNCTION app.f{i}() RETURNS int LANGUAGE sql SECURITY \
             DEFINER SET search_path = s{i}, pg_temp AS 'SELECT 1'"
        );
        let scripts = if i < 30 {
            // Single statements; in later rounds, transactions that have an older snapshot.
            [open.clone(), make.clone()]
        } else {
            let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class");
            [format!("{begin}|{open}|COMMIT"), format!("{begin}|{make}|COMMIT")]
        };
        let passed = together(&cluster, "races", [&scripts[0], &scripts[1]]);
        let unsafe_now = column(
            &mut admin,
            &format!(
                "SELECT routine_name::text FROM ops.security_definer_functions() WHERE \
                 routine_name = 'f{i}' AND verdict <> 'safe'"
            ),
        );
        assert_eq!(unsafe_now, [""; 0], "round {i}, {level}: {open}: {passed:?}");
        assert!(passed[0] || passed[1], "round {i}: one session passes");
        rejected += usize::from(!passed[0]) + usize::from(!passed[1]);
    }
    assert!(rejected >= 30, "{rejected}");
}

#[test]
fn open_migration_blocks_no_other_session() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("waits");
    admin
        .batch_execute("CREATE TABLE public.one (id int); CREATE TABLE public.two (id int)")
        .unwrap();
    let safe = |name: &str| {
        format!(
            "CREATE FUNCTION public.{name}() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
             search_path = pg_catalog, pg_temp AS 'SELECT 1'"
        )
    };
    let mut long = cluster.connect("waits", SUPERUSER);
    long.batch_execute(&format!(
        "BEGIN; ALTER TABLE public.one ADD COLUMN a int; {}; CREATE SCHEMA later",
        safe("a")
    ))
    .unwrap();
    // Another one begins later and ends earlier; only table locks conflict.
    let mut short = cluster.connect("waits", SUPERUSER);
    short
        .batch_execute(&format!(
            "SET lock_timeout = '2s'; BEGIN; ALTER TABLE public.two ADD COLUMN a int; {}; CREATE \
             SCHEMA sooner; COMMIT",
            safe("b")
        ))
        .unwrap();
    long.batch_execute("ALTER TABLE public.two ADD COLUMN b int; COMMIT").unwrap();
    // A prepared transaction blocks no other session either.
    short
        .batch_execute(
            "BEGIN; CREATE TABLE public.forgotten (id int); PREPARE TRANSACTION 'forgotten'",
        )
        .unwrap();
    long.batch_execute(&format!(
        "SET lock_timeout = '2s'; {}; CREATE SCHEMA anyway; DROP TABLE public.one",
        safe("d")
    ))
    .unwrap();
    short.batch_execute("COMMIT PREPARED 'forgotten'").unwrap();
    // Changes against which other sessions could not be checked cannot be prepared.
    for change in
        [safe("c").as_str(), "CREATE SCHEMA prepared", "GRANT CREATE ON SCHEMA anyway TO PUBLIC"]
    {
        let rejected =
            attempt(&mut short, &format!("BEGIN; {change}; PREPARE TRANSACTION 'p'")).unwrap_err();
        assert_eq!(rejected.code, "0A000", "{change}: {rejected:?}");
        short.batch_execute("ROLLBACK").unwrap();
    }
    // The same for a session whose commit has to drop a view that another session is reading.
    admin.batch_execute("CREATE ROLE eve LOGIN; CREATE SCHEMA m AUTHORIZATION eve").unwrap();
    let mut eve = cluster.connect("waits", "eve");
    eve.batch_execute(
        "CREATE FUNCTION m.f() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT 1::bigint; \
         END; CREATE VIEW m.v AS SELECT m.f() AS a",
    )
    .unwrap();
    let mut reading = cluster.connect("waits", "eve");
    reading.batch_execute("BEGIN; SELECT * FROM m.v").unwrap();
    let hanging = thread::spawn(move || {
        eve.batch_execute(
            "BEGIN; CREATE TEMP TABLE tt (a int) ON COMMIT DROP;
             CREATE OR REPLACE FUNCTION m.f() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC \
             SELECT count(*) FROM tt; END;
             CREATE TABLE m.x (a int); COMMIT",
        )
    });
    thread::sleep(std::time::Duration::from_millis(500));
    assert!(!hanging.is_finished(), "the drop waits for the reading session");
    admin.batch_execute("SET lock_timeout = '2s'; CREATE TABLE public.innocent (id int)").unwrap();
    reading.batch_execute("COMMIT").unwrap();
    hanging.join().unwrap().unwrap();
    // The guard does not wait for locks that an ordinary role can take.
    admin.batch_execute("CREATE ROLE mallory LOGIN").unwrap();
    let mut mallory = cluster.connect("waits", "mallory");
    mallory.batch_execute("BEGIN").unwrap();
    for key in [0_i64, 1, i64::MAX] {
        mallory
            .batch_execute(&format!(
                "SELECT pg_advisory_lock({key}); SELECT pg_advisory_lock_shared({key})"
            ))
            .unwrap();
    }
    mallory
        .batch_execute(
            "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION \
             pg_temp.mine() DEPENDS ON EXTENSION dragonfly_guard",
        )
        .unwrap();
    for catalog in ["pg_extension", "pg_proc", "pg_event_trigger", "dragonfly_guard.contract"] {
        mallory.batch_execute("SAVEPOINT s").unwrap();
        attempt(&mut mallory, &format!("LOCK TABLE {catalog} IN SHARE ROW EXCLUSIVE MODE"))
            .unwrap_err();
        mallory.batch_execute("ROLLBACK TO s").unwrap();
    }
    admin.batch_execute(&format!("SET lock_timeout = '2s'; {}", safe("e"))).unwrap();
}

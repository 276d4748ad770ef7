//! Concurrent sessions: each statement is correct by itself, but together they would violate the
//! contract. One of them is rejected.

use dragonfly_tests::{Cluster, SUPERUSER, ServerError, attempt, column};
use postgres::{CancelToken, Client, NoTls};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

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

/// Executes in a session of its own, and returns a handle that yields the outcome.
fn in_background(
    cluster: &Cluster,
    database: &str,
    sql: &str,
) -> (thread::JoinHandle<Result<(), ServerError>>, CancelToken) {
    let (mut client, sql) = (cluster.connect(database, SUPERUSER), sql.to_owned());
    let cancel = client.cancel_token();
    (thread::spawn(move || attempt(&mut client, &sql)), cancel)
}

/// Waits until a number of sessions wait for the commit lock.
fn wait_for_waiting(admin: &mut Client, count: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let waiting: i64 = admin
            .query_one(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'object' AND \
                 classid = 'pg_extension'::regclass AND objsubid = 1",
                &[],
            )
            .unwrap()
            .get(0);
        if waiting == count {
            return;
        }
        assert!(Instant::now() < deadline, "{waiting} sessions wait for the commit lock");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Without a limit, a commit that waits for something outside the server, which itself waits for
/// the commit lock (a remote commit to the same database), would block all others for good.
#[test]
fn commit_that_waits_too_long_for_another_is_rolled_back() {
    // A commit that waits for a standby holds the commit lock.
    let settings = ["synchronous_standby_names=missing", "synchronous_commit=local"];
    let cluster = Cluster::start_with(&settings);
    let mut admin = cluster.guarded("limited");
    let (holder, cancel) =
        in_background(&cluster, "limited", "SET synchronous_commit = on; CREATE SCHEMA first");
    let holds = "SELECT count(*)::text FROM pg_locks WHERE granted AND locktype = 'object' AND \
                 classid = 'pg_extension'::regclass AND objsubid = 1";
    while column(&mut admin, holds) != ["1"] {
        thread::sleep(Duration::from_millis(20));
    }
    for (limits, message) in [
        (
            "SET dragonfly_guard.commit_lock_timeout = '300ms'",
            "could not commit within dragonfly_guard.commit_lock_timeout",
        ),
        ("SET lock_timeout = '300ms'", "canceling statement due to lock timeout"),
        (
            "SET lock_timeout = '1h'; SET dragonfly_guard.commit_lock_timeout = '300ms'",
            "could not commit within dragonfly_guard.commit_lock_timeout",
        ),
    ] {
        let mut waiting = cluster.connect("limited", SUPERUSER);
        waiting.batch_execute(limits).unwrap();
        let setting = column(&mut waiting, "SHOW lock_timeout");
        let started = Instant::now();
        let error = attempt(&mut waiting, "CREATE SCHEMA second").unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10), "{limits}");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("55P03", message), "{limits}");
        assert_eq!(column(&mut waiting, "SHOW lock_timeout"), setting, "{limits}");
        let none = "SELECT nspname::text FROM pg_namespace WHERE nspname = 'second'";
        assert_eq!(column(&mut waiting, none), [""; 0], "{limits}");
    }
    cancel.cancel_query(NoTls).unwrap();
    holder.join().unwrap().unwrap();
    attempt(&mut admin, "CREATE SCHEMA second").unwrap();
}

/// The set-up of a database that writes to itself by postgres_fdw: for each row, the remote
/// transaction creates a schema, so that its commit needs the commit lock.
fn loopback(cluster: &Cluster) -> String {
    format!(
        "CREATE TABLE public.events (id int);
         CREATE FUNCTION public.partition() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN EXECUTE format('CREATE SCHEMA remote%s', NEW.id); RETURN NEW; END $$;
         CREATE TRIGGER partition BEFORE INSERT ON public.events
             FOR EACH ROW EXECUTE FUNCTION public.partition();
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{}', dbname 'loopback');
         CREATE USER MAPPING FOR CURRENT_USER SERVER loopback OPTIONS (user '{SUPERUSER}');
         CREATE FOREIGN TABLE public.events_f (id int) SERVER loopback
             OPTIONS (schema_name 'public', table_name 'events');
         ALTER DATABASE loopback SET dragonfly_guard.commit_lock_timeout = '500ms'",
        cluster.folder().display()
    )
}

/// A session that has used a foreign table before its first DDL statement holds the commit lock
/// while the remote transaction commits, unless the library is preloaded. Where the remote commit
/// needs the lock too, the server detects no deadlock.
#[test]
fn remote_commit_that_needs_the_commit_lock_fails_whole_and_passes_where_preloaded() {
    for preload in ["", "dragonfly_guard"] {
        let cluster = Cluster::start_with(&[&format!("shared_preload_libraries={preload}")]);
        let mut admin = cluster.connect("postgres", SUPERUSER);
        if column(
            &mut admin,
            "SELECT name::text FROM pg_available_extensions WHERE name = 'postgres_fdw'",
        ) != ["postgres_fdw"]
        {
            eprintln!("skipped: there is no postgres_fdw");
            return;
        }
        drop(cluster.guarded("loopback"));
        cluster.connect("loopback", SUPERUSER).batch_execute(&loopback(&cluster)).unwrap();

        let mut session = cluster.connect("loopback", SUPERUSER);
        session.batch_execute("BEGIN; INSERT INTO public.events_f VALUES (1)").unwrap();
        session.batch_execute("CREATE SCHEMA local1").unwrap();
        let started = Instant::now();
        let committed = attempt(&mut session, "COMMIT");
        assert!(started.elapsed() < Duration::from_secs(20), "preloaded: {preload}");
        let mut other = cluster.connect("loopback", SUPERUSER);
        let state = column(
            &mut other,
            "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^(local|remote)'
             UNION ALL SELECT 'row ' || id FROM public.events ORDER BY 1",
        );
        if preload.is_empty() {
            let error = committed.unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("55P03", "could not commit within dragonfly_guard.commit_lock_timeout"),
            );
            assert!(error.hint.contains("shared_preload_libraries"), "{error:?}");
            assert_eq!(state, [""; 0], "neither transaction has left anything");
        } else {
            committed.unwrap();
            assert_eq!(state, ["local1", "remote1", "row 1"]);
        }
        // No session holds the lock, and the session works.
        attempt(&mut other, "CREATE SCHEMA other").unwrap();
        attempt(&mut session, "CREATE SCHEMA more").unwrap();
    }
}

/// A session learns of all relations that others change. It must not read their definitions, which
/// waits for their locks, for an exemption that does not depend on these.
#[test]
fn exemption_by_pattern_does_not_make_a_commit_wait_for_views_of_others() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("patterns");
    admin
        .batch_execute(
            "CREATE TABLE public.t (a int); CREATE VIEW public.v AS SELECT * FROM public.t;
             SELECT ops.exempt(rule => 'routine_executable_by_public', object => '*', reason => \
                 'A test.');
             SELECT ops.exempt(rule => 'table_privileges', object => 'public.*', reason => \
                 'A test.')",
        )
        .unwrap();
    let [mut ours, mut theirs] = [(); 2].map(|()| cluster.connect("patterns", SUPERUSER));
    ours.batch_execute("BEGIN; CREATE TABLE public.n (a int)").unwrap();
    theirs
        .batch_execute(
            "CREATE OR REPLACE VIEW public.v AS SELECT * FROM public.t WITH LOCAL CHECK OPTION",
        )
        .unwrap();
    // Our session is told now that the view has changed.
    ours.batch_execute("SELECT count(*) FROM pg_class").unwrap();
    theirs.batch_execute("BEGIN; ALTER TABLE public.t ADD z int").unwrap();
    ours.batch_execute("SET LOCAL lock_timeout = '2s'; COMMIT").unwrap();
    theirs.batch_execute("DROP VIEW public.v; COMMIT").unwrap();
}

#[test]
fn temporary_table_of_another_session_rejects_no_commit() {
    for preload in ["", "dragonfly_guard"] {
        let cluster = Cluster::start_with(&[&format!("shared_preload_libraries={preload}")]);
        let mut ours = cluster.guarded("temporary");
        let mut other = cluster.connect("temporary", SUPERUSER);
        // A permanent function depends on the other session's table, which changes meanwhile.
        other
            .batch_execute(
                "CREATE TEMP TABLE theirs (id int); CREATE FUNCTION public.takes(theirs) RETURNS \
                 int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE public.rests (c theirs)",
            )
            .unwrap();
        ours.batch_execute("CREATE TEMP TABLE ours (id int)").unwrap();
        for (change, theirs) in [
            ("CREATE SCHEMA s1", "CREATE INDEX ON theirs (id)"),
            ("CREATE SCHEMA s2", "ALTER TABLE theirs ADD COLUMN more int"),
            ("GRANT CREATE ON SCHEMA s1 TO postgres", "ALTER TABLE public.rests ADD d theirs"),
            ("CREATE SCHEMA s3", "DROP TABLE theirs CASCADE"),
        ] {
            let change = change.replace("postgres", SUPERUSER);
            ours.batch_execute(&format!("BEGIN; {change}")).unwrap();
            other.batch_execute(theirs).unwrap();
            ours.batch_execute("CREATE TABLE public.more (i int)").unwrap();
            attempt(&mut ours, "DROP TABLE public.more; COMMIT")
                .unwrap_or_else(|e| panic!("{preload}: {change}, {theirs}: {e:?}"));
        }
        // One of this session is still rejected: its dependents are dropped at the commit.
        let rejected = attempt(
            &mut ours,
            "BEGIN; CREATE TEMP TABLE gone (id int) ON COMMIT DROP; CREATE FUNCTION \
             public.takes(gone) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA s4; COMMIT",
        );
        assert_eq!(rejected.unwrap_err().code, "0A000", "{preload}");
    }
}

#[test]
fn table_that_another_session_drops_while_a_commit_waits_does_not_reject_it() {
    for preload in ["", "dragonfly_guard"] {
        // A commit that waits for a standby holds the commit lock.
        let cluster = Cluster::start_with(&[
            &format!("shared_preload_libraries={preload}"),
            "synchronous_standby_names=missing",
            "synchronous_commit=local",
        ]);
        let mut admin = cluster.guarded("dropped");
        let mut ours = cluster.connect("dropped", SUPERUSER);
        admin.batch_execute("CREATE SCHEMA elsewhere; CREATE TABLE public.c (i int)").unwrap();
        for (number, create, drop) in [
            (1, "CREATE TABLE elsewhere.t (id int PRIMARY KEY)", "DROP TABLE elsewhere.t"),
            (
                2,
                "CREATE TABLE elsewhere.t (id serial); CREATE VIEW elsewhere.v AS TABLE \
                 elsewhere.t",
                "DROP TABLE elsewhere.t CASCADE",
            ),
        ] {
            ours.batch_execute("CREATE TEMP TABLE IF NOT EXISTS ours (i int)").unwrap();
            ours.batch_execute(&format!("BEGIN; CREATE SCHEMA s{number}")).unwrap();
            admin.batch_execute(create).unwrap();
            // The session learns about the other's table with its next command.
            ours.batch_execute(&format!("CREATE TABLE s{number}.t (i int)")).unwrap();
            let (holding, cancel) = in_background(
                &cluster,
                "dropped",
                "SET synchronous_commit = on; ALTER TABLE public.c ENABLE ROW LEVEL SECURITY",
            );
            let deadline = Instant::now() + Duration::from_secs(30);
            while column(
                &mut admin,
                "SELECT 1::text FROM pg_stat_activity WHERE wait_event = \
                 'SyncRep'",
            )
            .is_empty()
            {
                assert!(Instant::now() < deadline, "no session waits for the standby");
                thread::sleep(Duration::from_millis(20));
            }
            let (dropping, _) = in_background(&cluster, "dropped", drop);
            wait_for_waiting(&mut admin, 1);
            let committing = thread::spawn(move || {
                let outcome = attempt(&mut ours, "COMMIT");
                (ours, outcome)
            });
            wait_for_waiting(&mut admin, 2);
            cancel.cancel_query(NoTls).unwrap();
            holding.join().unwrap().unwrap();
            dropping.join().unwrap().unwrap();
            let (client, outcome) = committing.join().unwrap();
            outcome.unwrap_or_else(|e| panic!("{preload}: {drop}: {e:?}"));
            ours = client;
            admin.batch_execute("ALTER TABLE public.c DISABLE ROW LEVEL SECURITY").unwrap();
        }
    }
}

/// A warning of a transaction with one command names the command, also where changes of another
/// session arrive between the event triggers of the command and its end.
#[test]
fn warning_names_the_command_where_another_session_changes_something_meanwhile() {
    for preload in ["", "dragonfly_guard"] {
        let cluster = Cluster::start_with(&[&format!("shared_preload_libraries={preload}")]);
        let mut other = cluster.guarded("app");
        other
            .batch_execute(
                "CREATE ROLE reader; CREATE TABLE public.t (); CREATE TABLE public.read ();
                CREATE FUNCTION public.waits() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN
                    PERFORM pg_catalog.pg_advisory_xact_lock(1); PERFORM FROM public.read; END';
                CREATE EVENT TRIGGER zzz_waits ON ddl_command_end WHEN TAG IN ('GRANT')
                    EXECUTE FUNCTION public.waits(); SELECT pg_advisory_lock(1)",
            )
            .unwrap();
        let (sender, warnings) = std::sync::mpsc::channel();
        let mut config = postgres::Config::new();
        config.host_path(cluster.folder()).user(SUPERUSER).dbname("app");
        config.notice_callback(move |warning| sender.send(warning.message().to_owned()).unwrap());
        let mut client = config.connect(NoTls).unwrap();
        let grant = thread::spawn(move || {
            client.batch_execute("GRANT SELECT ON public.t TO reader").unwrap();
        });
        let waits = "SELECT 1::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        while column(&mut other, waits).is_empty() {
            assert!(!grant.is_finished(), "{preload}: the event trigger waits");
            thread::sleep(Duration::from_millis(5));
        }
        other.batch_execute("CREATE TABLE public.u (); SELECT pg_advisory_unlock(1)").unwrap();
        grant.join().unwrap();
        let expected =
            "GRANT violates the security contract: undeclared_role_privileges on schema public";
        assert_eq!(warnings.try_iter().collect::<Vec<_>>(), [expected], "{preload}");
    }
}

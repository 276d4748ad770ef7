//! Faults: killed processes, exhausted resources, cancelled statements, failover, a replaced
//! library. After each of them the database is consistent, and the guard refuses.
//!
//! `scripts/test-faults` runs many rounds of each; `DRAGONFLY_FAULTS` is their number (1), and
//! `DRAGONFLY_SEED` repeats a run, as far as its timing allows.

use dragonfly_tests::workload::{
    self, CHANGES, DATABASE, Guarded, Random, Work, Workers, children, counts, kill_server, memory,
    reconnect, rounds, signal,
};
use dragonfly_tests::{Cluster, SUPERUSER, as_postgres, attempt, column, pg_config, program};
use postgres::{Client, NoTls};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const PRELOADED: &str = "shared_preload_libraries=dragonfly_guard";

/// SQLSTATEs of sessions that end because the server does.
const SERVER_ENDS: [&str; 3] = ["57P01", "57P02", "57P03"];

/// Each error that the sessions have seen is of one of these SQLSTATEs.
fn assert_errors(guarded: &Guarded, fault: &str, allowed: &[&str]) {
    for (work, error) in guarded.seen.errors.lock().unwrap().drain(..) {
        assert!(allowed.contains(&error.code.as_str()), "{fault}, {work:?}: {error:?}");
    }
}

/// Runs the sessions, and `fault` at a random time.
fn inject(
    cluster: &Cluster,
    guarded: &Guarded,
    random: &mut Random,
    fault: impl FnOnce(&mut Random),
) {
    let workers = Workers::start(cluster, &guarded.seen, &CHANGES);
    thread::sleep(Duration::from_millis(300));
    random.sleep(1200);
    fault(random);
    workers.finish();
}

#[test]
fn killed_backend_leaves_nothing_half_done() {
    let mut random = Random::seeded("killed_backend");
    for settings in [vec![PRELOADED], vec![]] {
        let cluster = Cluster::start_with(&settings);
        let guarded = Guarded::create(&cluster);
        for round in 0..2 * rounds() {
            inject(&cluster, &guarded, &mut random, |random| {
                // Any of the sessions that work.
                let pids = column(
                    &mut reconnect(&cluster),
                    "SELECT pid::text FROM pg_stat_activity
                        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
                );
                if !pids.is_empty() {
                    signal(random.pick(&pids).parse().unwrap(), libc::SIGKILL);
                }
            });
            let fault = format!("kill -9 of a backend, round {round}, {settings:?}");
            guarded.check_server_log(&cluster, &fault);
            guarded.check(&cluster, &fault, !settings.is_empty());
            assert_errors(&guarded, &fault, &SERVER_ENDS);
        }
        assert!(cluster.log().contains("terminated by signal 9"));
    }
}

#[test]
fn killed_log_writer_and_launcher_come_back_and_lose_no_entry() {
    let mut random = Random::seeded("killed_writer");
    let cluster = Cluster::start_with(&[PRELOADED]);
    let guarded = Guarded::create(&cluster);
    for round in 0..rounds() {
        for (title, how) in [
            ("log writer", libc::SIGKILL),
            ("log launcher", libc::SIGKILL),
            ("log writer", libc::SIGTERM),
            ("log launcher", libc::SIGTERM),
        ] {
            inject(&cluster, &guarded, &mut random, |_| {
                let deadline = Instant::now() + Duration::from_secs(20);
                while children(cluster.folder(), title).is_empty() {
                    assert!(Instant::now() < deadline, "there is no {title}");
                    thread::sleep(Duration::from_millis(20));
                }
                children(cluster.folder(), title).iter().for_each(|pid| signal(*pid, how));
            });
            let fault = format!("kill {how} of the {title}, round {round}");
            guarded.check(&cluster, &fault, true);
            assert_errors(&guarded, &fault, &SERVER_ENDS);
        }
    }
}

#[test]
fn ended_server_leaves_nothing_half_done() {
    let mut random = Random::seeded("ended_server");
    let mut cluster = Cluster::start_with(&[PRELOADED]);
    let guarded = Guarded::create(&cluster);
    for round in 0..rounds() {
        for mode in ["kill -9", "immediate", "fast"] {
            let workers = Workers::start(&cluster, &guarded.seen, &CHANGES);
            random.sleep(1500);
            let data = if mode == "kill -9" { kill_server(cluster) } else { cluster.stop_by(mode) };
            workers.finish();
            cluster = Cluster::run(data, &[PRELOADED]);
            let fault = format!("end of the server: {mode}, round {round}");
            guarded.check(&cluster, &fault, true);
            assert_errors(&guarded, &fault, &SERVER_ENDS);
        }
    }
}

/// A small file system that contains a tablespace. Its contents are deleted with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, if this user may.
    fn mount(folder: PathBuf) -> Option<Self> {
        assert!(as_postgres(Path::new("mkdir")).arg(&folder).status().unwrap().success());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m", "dragonfly_guard"])
            .arg(&folder)
            .output();
        let disk = Self(folder);
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        // Where it is not mounted, an empty folder is deleted.
        is_mounted.then(|| {
            let parent = disk.0.parent().unwrap();
            let owned = Command::new("chown").arg("--reference").arg(parent).arg(&disk.0).status();
            assert!(owned.unwrap().success());
            disk
        })
    }

    fn fill(&self) {
        let mut zeros = std::fs::File::create(self.0.join("filler")).unwrap();
        let _ = std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut zeros);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// SQLSTATEs of a full disk: in words, and as an error of the file system.
const DISK_FULL: [&str; 3] = ["53100", "58030", "54023"];

#[test]
fn full_disk_fails_statements_and_loses_no_entry() {
    let cluster = Cluster::start_with(&[PRELOADED, "autovacuum=off"]);
    let guarded = Guarded::create(&cluster);
    let name = format!("{}_disk", cluster.folder().file_name().unwrap().to_str().unwrap());
    let Some(disk) = SmallDisk::mount(cluster.folder().with_file_name(name)) else {
        eprintln!("full_disk: cannot mount a small file system, so files are limited instead");
        return full_by_limit(&cluster, &guarded);
    };
    // The data of the database is on the small file system, and the WAL is not: where that is full,
    // the server stops, with or without the extension.
    let mut admin = cluster.connect("postgres", SUPERUSER);
    let path = disk.0.display();
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{path}'")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) =
        attempt(&mut admin, &format!("ALTER DATABASE {DATABASE} SET TABLESPACE small"))
    {
        // The log writer leaves the database.
        assert!(error.code == "55006" && Instant::now() < deadline, "{error:?}");
    }
    for round in 0..rounds() {
        let workers = Workers::start(&cluster, &guarded.seen, &CHANGES);
        thread::sleep(Duration::from_millis(500));
        disk.fill();
        thread::sleep(Duration::from_secs(3));
        let mut client = reconnect(&cluster);
        client.batch_execute("SELECT count(*) FROM ops.audit_security()").unwrap();
        client.batch_execute("SELECT count(*) FROM ops.doctor()").unwrap();
        workers.finish();
        let failed = guarded.seen.errors.lock().unwrap().len();
        assert!(failed > 0, "the disk was full");
        disk.free();
        let fault = format!("full disk, round {round}");
        guarded.check(&cluster, &fault, true);
        assert_errors(&guarded, &fault, &DISK_FULL);
    }
    assert!(!cluster.log().contains("PANIC"), "{}", cluster.log());
    drop(cluster);
}

/// The log table cannot grow, because the files of the server's processes are limited.
fn full_by_limit(cluster: &Cluster, guarded: &Guarded) {
    let mut client = cluster.connect(DATABASE, SUPERUSER);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; INSERT INTO dragonfly_guard.log
                SELECT now(), jsonb_build_object('dragonfly_guard', 'changed', 'pid', i, 'text',
                    repeat(md5(i::text), 50)) FROM generate_series(1, 20000) i;
             SET dragonfly_guard.mode = block; CHECKPOINT",
        )
        .unwrap();
    let main = workload::main_process(cluster.folder());
    // Segments of the WAL are smaller than this, and the log is larger.
    workload::limit(main, "fsize", 17 << 20);
    let workers = Workers::start(cluster, &guarded.seen, &[Work::Refusals, Work::Freeze]);
    thread::sleep(Duration::from_secs(3));
    workers.finish();
    // The soft limit can be raised again.
    let unlimited = as_postgres(Path::new("prlimit"))
        .args([format!("--pid={main}"), "--fsize=unlimited:".into()])
        .status();
    assert!(unlimited.unwrap().success());
    children(cluster.folder(), "log writer").iter().for_each(|pid| signal(*pid, libc::SIGTERM));
    guarded.check(cluster, "limited files", true);
    assert_errors(guarded, "limited files", &DISK_FULL);
}

/// Calls that take a while and need memory and locks.
const CALLS: [&str; 11] = [
    "SELECT count(*) FROM ops.audit_security()",
    "SELECT count(*) FROM ops.golden_sql()",
    "SELECT count(*) FROM ops.apply_golden_sql(dry_run => true)",
    "SELECT count(*) FROM ops.apply_golden_sql(dry_run => false)",
    "SELECT ops.infer_contract()",
    "SELECT ops.freeze_schema('calls', '{api,public}', replace => true)",
    "SELECT count(*) FROM ops.doctor()",
    "SELECT count(*) FROM ops.explain_access('anon', 'public.judgments')",
    "SELECT count(*) FROM ops.check_schema_consistency()",
    "SELECT count(*) FROM ops.try_migration('CREATE TABLE work.tried (id int)')",
    "CREATE TABLE work.called (id int); CREATE VIEW work.v AS SELECT * FROM work.called;
     DROP TABLE work.called CASCADE",
];

#[test]
fn memory_that_runs_out_ends_a_statement_only() {
    let mut random = Random::seeded("memory");
    let cluster = Cluster::start_with(&[PRELOADED]);
    let guarded = Guarded::create(&cluster);
    let mut failed = 0;
    for _ in 0..20 * rounds() {
        let mut client = cluster.connect(DATABASE, SUPERUSER);
        client.batch_execute(workload::DAMAGE).unwrap();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let spare = random.below(8 << 20);
        workload::limit(pid, "as", (memory(pid, "VmSize:") << 10) + spare);
        let call = random.pick(&CALLS);
        if let Err(error) = client.batch_execute(call) {
            // The server says this where it has no memory to load a time zone (pgtz.c).
            let no_zone = |error: &postgres::Error| {
                let message = error.as_db_error().map(postgres::error::DbError::message);
                message.is_some_and(|m| m.starts_with("invalid value for parameter \"TimeZone\""))
            };
            let is_allowed =
                error.code().is_none_or(|code| code.code() == "53200") || no_zone(&error);
            assert!(is_allowed, "{call}, {spare}: {error:?}\n{}", cluster.log());
            failed += 1;
        }
    }
    assert!(failed > 0, "memory ran out");
    let log = cluster.log();
    assert!(!log.contains("terminated by signal") && !log.contains("PANIC"), "{log}");
    guarded.check(&cluster, "memory", true);
}

/// Executes a statement, again where a request to cancel an earlier one has come too late.
fn uncancelled(client: &mut Client, sql: &str) {
    while let Err(error) = attempt(client, sql) {
        assert_eq!(error.code, "57014", "{sql}: {error:?}");
    }
}

#[test]
fn cancelled_statements_leave_nothing() {
    let mut random = Random::seeded("cancelled");
    let cluster = Cluster::start_with(&[PRELOADED]);
    let guarded = Guarded::create(&cluster);
    let mut client = cluster.connect(DATABASE, SUPERUSER);
    let mut hit = 0;
    for i in 0..120 * rounds() {
        uncancelled(&mut client, workload::DAMAGE);
        let call = random.pick(&CALLS);
        let after = 1 + random.below(if i % 2 == 0 { 20 } else { 120 });
        let outcome = if i % 3 == 0 {
            uncancelled(&mut client, &format!("SET statement_timeout = {after}"));
            let outcome = attempt(&mut client, call);
            uncancelled(&mut client, "SET statement_timeout = 0");
            outcome
        } else {
            let token = client.cancel_token();
            let cancelled = thread::spawn(move || {
                thread::sleep(Duration::from_millis(after));
                token.cancel_query(NoTls)
            });
            let outcome = attempt(&mut client, call);
            cancelled.join().unwrap().unwrap();
            outcome
        };
        if let Err(error) = outcome {
            assert_eq!(error.code, "57014", "{call}: {error:?}");
            hit += 1;
        }
    }
    assert!(hit > 10, "{hit} statements were cancelled");
    drop(client);
    guarded.check(&cluster, "cancels", true);
}

#[test]
fn log_is_written_while_no_connection_is_free() {
    let cluster = Cluster::start_with(&[PRELOADED, "max_connections=12"]);
    let guarded = Guarded::create(&cluster);
    let workers = Workers::start(&cluster, &guarded.seen, &[Work::Refusals]);
    let mut others = Vec::new();
    while let Ok(client) = cluster.try_connect(DATABASE, SUPERUSER) {
        others.push(client);
    }
    thread::sleep(Duration::from_secs(2));
    let [written, _, dropped] = counts(&mut others[0]);
    assert!(written > 0 && dropped == 0, "{written} written, {dropped} dropped");
    drop(others);
    workers.finish();
    guarded.check(&cluster, "no free connection", true);
    assert_errors(&guarded, "no free connection", &[]);
}

#[test]
fn log_counts_what_it_cannot_write_without_workers() {
    for workers in ["max_worker_processes=1", "max_worker_processes=0"] {
        let cluster = Cluster::start_with(&[PRELOADED, workers]);
        let guarded = Guarded::create(&cluster);
        let mut client = cluster.connect(DATABASE, SUPERUSER);
        let before: usize = counts(&mut client).iter().sum();
        let sessions = Workers::start(&cluster, &guarded.seen, &[Work::Refusals]);
        while guarded.seen.refused.lock().unwrap().len() < 150 {
            thread::sleep(Duration::from_millis(20));
        }
        sessions.finish();
        let refused = guarded.seen.refused.lock().unwrap().len();
        let after = counts(&mut client);
        assert_eq!(after.iter().sum::<usize>() - before, refused, "{workers}: {after:?}");
        assert!(after[2] > 0, "{workers}: more than the queue holds");
        let status = "SELECT active::text FROM ops.guard_status() WHERE component = 'log'";
        assert_eq!(column(&mut client, status), ["false"], "{workers}");
        drop(client);
        guarded.check(&cluster, workers, false);
    }
}

#[test]
fn few_locks_fail_only_statements_that_need_many() {
    let settings = [PRELOADED, "max_locks_per_transaction=10", "max_connections=8"];
    let cluster = Cluster::start_with(&settings);
    let guarded = Guarded::create(&cluster);
    let mut client = cluster.connect(DATABASE, SUPERUSER);
    for part in 0..30 {
        let tables = (0..40).map(|i| format!("CREATE TABLE work.l{part}_{i} (id int);"));
        client.batch_execute(&tables.collect::<String>()).unwrap();
    }
    for call in CALLS {
        client.batch_execute(call).unwrap();
    }
    let comments: String = column(
        &mut client,
        "SELECT format('COMMENT ON TABLE work.%I IS ''x'';', relname) FROM pg_class
            WHERE relnamespace = 'work'::regnamespace",
    )
    .concat();
    let error = attempt(&mut client, &format!("BEGIN; {comments} COMMIT")).unwrap_err();
    assert_eq!(error.code, "53200", "{error:?}");
    client.batch_execute("ROLLBACK").unwrap();
    for part in 0..30 {
        let tables = (0..40).map(|i| format!("DROP TABLE work.l{part}_{i};"));
        client.batch_execute(&tables.collect::<String>()).unwrap();
    }
    drop(client);
    guarded.check(&cluster, "locks", true);
}

/// Runs a program of the server as its user.
fn run(name: &str, arguments: &[&str]) {
    let output = as_postgres(&program(name)).args(arguments).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}");
}

#[test]
fn promoted_standby_and_rewound_primary_are_consistent() {
    let mut random = Random::seeded("failover");
    let settings = [
        PRELOADED,
        "wal_level=replica",
        "max_wal_senders=4",
        "hot_standby=on",
        "wal_log_hints=on",
        "wal_keep_size=1GB",
    ];
    let primary = Cluster::start_with(&settings);
    let guarded = Guarded::create(&primary);
    let host = primary.folder().to_str().unwrap().to_owned();
    let copy = format!("{host}_s");
    run(
        "pg_basebackup",
        &["-D", &copy, "-R", "-X", "stream", "-c", "fast", "-h", &host, "-U", SUPERUSER],
    );
    let standby = Cluster::run(copy.clone().into(), &settings);
    // What is acknowledged has arrived on the standby.
    let mut admin = reconnect(&primary);
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    drop(admin);
    let workers = Workers::start(&primary, &guarded.seen, &CHANGES);
    thread::sleep(Duration::from_secs(1));
    random.sleep(1000);
    let old = kill_server(primary);
    workers.finish();
    let mut admin = standby.connect("postgres", SUPERUSER);
    admin.batch_execute("SELECT pg_promote()").unwrap();
    drop(admin);
    // The refusals of the last moment were waiting on the old primary.
    guarded.check(&standby, "promoted standby", false);
    let version = "SELECT ops.contract()->>'version'";
    let expected = column(&mut reconnect(&standby), version);
    // The old primary diverges.
    std::fs::write(Path::new(&old).join("postgresql.auto.conf"), "").unwrap();
    let diverged = Cluster::run(old, &settings);
    reconnect(&diverged)
        .batch_execute(
            "SELECT * FROM ops.load_contract(jsonb_set(ops.contract(), '{version}', '\"99.0.0\"'))",
        )
        .unwrap();
    let old = diverged.stop();
    let new = standby.stop();
    for folder in [&old, &new] {
        // It belongs to the user that runs the test.
        std::fs::remove_file(folder.join("server.log")).unwrap();
    }
    let [old_path, new_path] = [&old, &new].map(|path| path.to_str().unwrap().to_owned());
    run("pg_rewind", &["--target-pgdata", &old_path, "--source-pgdata", &new_path]);
    let new = Cluster::run(new, &settings);
    assert!(
        as_postgres(Path::new("touch")).arg(old.join("standby.signal")).status().unwrap().success()
    );
    let connection = format!("primary_conninfo=host={new_path} user={SUPERUSER}");
    let mut of_rewound = settings.to_vec();
    of_rewound.push(&connection);
    let rewound = Cluster::run(old, &of_rewound);
    assert_eq!(column(&mut reconnect(&rewound), version), expected);
    drop(new);
    reconnect(&rewound).batch_execute("SELECT pg_promote()").unwrap();
    guarded.check(&rewound, "rewound primary", false);
    assert_errors(&guarded, "failover", &SERVER_ENDS);
}

#[test]
fn replaced_library_harms_no_session() {
    let mut random = Random::seeded("library");
    let folder = pg_config("--pkglibdir");
    let library = folder.join("dragonfly_guard.so");
    for settings in [vec![PRELOADED], vec![]] {
        let cluster = Cluster::start_with(&settings);
        let guarded = Guarded::create(&cluster);
        let workers = Workers::start(&cluster, &guarded.seen, &CHANGES);
        for _ in 0..4 * rounds() {
            random.sleep(500);
            // The same code in a new file: what harms sessions is a file that is overwritten, and
            // addresses in a library that is no longer the one that was loaded.
            let copy = folder.join(format!("dragonfly_guard.{}", std::process::id()));
            std::fs::copy(&library, &copy).unwrap();
            std::fs::rename(&copy, &library).unwrap();
            // New sessions load the new file.
            for work in [Work::Ddl, Work::Refusals] {
                let seen = std::sync::Arc::default();
                let session = Workers::start(&cluster, &seen, &[work]);
                thread::sleep(Duration::from_millis(100));
                session.finish();
                assert!(seen.errors.lock().unwrap().is_empty(), "{:?}", seen.errors);
            }
        }
        workers.finish();
        guarded.check_server_log(&cluster, "replaced library");
        guarded.check(&cluster, "replaced library", !settings.is_empty());
        assert_errors(&guarded, "replaced library", &[]);
        assert!(!cluster.log().contains("terminated by signal"), "{}", cluster.log());
    }
}

//! The log: a line of JSON for every event, and rows that outlive the rejected transaction.

use dragonfly_tests::workload::{children, signal};
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, wait_for};
use postgres::Client;
use std::time::{Duration, Instant};

const UNSAFE: &str =
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

const PRELOADED: [&str; 1] = ["shared_preload_libraries=dragonfly_guard"];

/// The counters of the log, once its queue is empty.
const EMPTY_QUEUE: &str = "SELECT detail FROM ops.guard_status()
    WHERE component = 'log' AND detail LIKE '% 0 waiting%'";

/// Returns the entries in the server log.
fn lines(cluster: &Cluster) -> Vec<serde_json::Value> {
    cluster
        .log()
        .lines()
        .filter_map(|line| {
            line.split_once("LOG:  {\"dragonfly_guard\"")
                .map(|(_, rest)| format!("{{\"dragonfly_guard\"{rest}"))
        })
        .map(|json| serde_json::from_str(&json).unwrap_or_else(|e| panic!("{json}: {e}")))
        .collect()
}

/// Returns the rows of a query as soon as there are `count` of them, or after 20 seconds.
fn eventually(client: &mut Client, sql: &str, count: usize) -> Vec<String> {
    wait_for(client, sql, Duration::from_secs(20), |rows| rows.len() >= count)
}

/// Causes three rejections, two warnings and an unchecked command.
fn cause_events(cluster: &Cluster, client: &mut Client) -> Client {
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory",
        )
        .unwrap();
    let mut mallory = cluster.connect("lines", "mallory");
    mallory
        .batch_execute("SET client_min_messages = fatal; SET log_min_messages = fatal")
        .unwrap_err();
    attempt(
        &mut mallory,
        "/* a \"quoted\"\nstatement */ CREATE FUNCTION hers.f() RETURNS int LANGUAGE sql \
         SECURITY DEFINER AS 'SELECT 1'",
    )
    .unwrap_err();
    attempt(
        &mut mallory,
        &format!(
            "CREATE FUNCTION hers.g() RETURNS int LANGUAGE sql SECURITY DEFINER \
             AS 'SELECT 1 /* {} */'",
            "é".repeat(5000)
        ),
    )
    .unwrap_err();
    attempt(client, &format!("SELECT 'PASSWORD hunter2'; {UNSAFE}")).unwrap_err();
    client.batch_execute(&format!("SET dragonfly_guard.mode = warn; {UNSAFE}")).unwrap();
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER FUNCTION public.f() COST 5;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    mallory
}

#[test]
fn event_writes_one_line_without_preloading() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("lines");
    let mut mallory = cause_events(&cluster, &mut client);
    let is_change = |line: &serde_json::Value| line["dragonfly_guard"] == "changed";
    let (changes, lines): (Vec<_>, Vec<_>) = lines(&cluster).into_iter().partition(is_change);
    let changes: Vec<&str> = changes.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        changes,
        [
            "dragonfly_guard.mode changed from \"block\" to \"warn\"",
            "dragonfly_guard.mode changed from \"warn\" to \"off\"",
            "dragonfly_guard.mode changed from \"off\" to \"block\""
        ]
    );
    let text = |i: usize, key: &str| lines[i][key].as_str().unwrap_or_default().to_owned();
    let events: Vec<String> = (0..lines.len()).map(|i| text(i, "dragonfly_guard")).collect();
    assert_eq!(events, ["rejected", "rejected", "rejected", "warned", "warned", "unchecked"]);
    assert_eq!(text(0, "session_user"), "mallory");
    assert_eq!(text(0, "role"), "mallory");
    assert_eq!(text(0, "database"), "lines");
    assert_eq!(
        (text(0, "mode"), text(3, "mode"), text(5, "mode")),
        ("block".into(), "warn".into(), "off".into())
    );
    assert!(text(0, "at").starts_with("20"));
    assert_eq!(text(0, "command"), "CREATE FUNCTION");
    assert_eq!(text(0, "rule"), "security_definer_search_path");
    assert_eq!(text(0, "object"), "hers.f()");
    assert_eq!(text(0, "verdict"), "exploitable");
    assert!(text(0, "statement").starts_with("/* a \"quoted\"\nstatement */ CREATE FUNCTION"));
    assert!(text(1, "statement").len() < 1100 && text(1, "statement").ends_with("é..."));
    assert_eq!(
        text(2, "statement"),
        format!("SELECT '...'; {UNSAFE}"),
        "a literal that may hold a password"
    );
    assert_eq!(text(5, "command"), "ALTER FUNCTION");
    // Without preloading, events other than rejections are in the table too. The function violates
    // two rules: it has no search_path, and PUBLIC has EXECUTE on it.
    assert_eq!(
        column(
            &mut client,
            "SELECT event || ' ' || command || coalesce(' ' || rule, '') FROM ops.v_guard_log
              WHERE event <> 'changed'"
        ),
        [
            "warned CREATE FUNCTION security_definer_search_path",
            "warned CREATE FUNCTION security_definer_executable_by_clients",
            "unchecked ALTER FUNCTION"
        ]
    );
    assert_eq!(attempt(&mut mallory, "SELECT * FROM ops.v_guard_log").unwrap_err().code, "42501");
    // A rolled back transaction has no row, but its line.
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; BEGIN; {}; ROLLBACK",
            UNSAFE.replace("public.f", "public.g")
        ))
        .unwrap();
    let rows = "SELECT event FROM ops.v_guard_log WHERE event <> 'changed'";
    assert_eq!(column(&mut client, rows).len(), 3);
    assert_eq!(self::lines(&cluster).iter().filter(|line| !is_change(line)).count(), 7);
}

#[test]
fn rejection_writes_row_with_preloading() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut one = cluster.guarded("one");
    let mut two = cluster.guarded("two");
    attempt(&mut one, UNSAFE).unwrap_err();
    attempt(&mut one, &format!("BEGIN; CREATE TABLE public.t (id int); {UNSAFE}")).unwrap_err();
    one.batch_execute("ROLLBACK").unwrap();
    one.batch_execute(&format!(
        "DO $$ BEGIN EXECUTE $q${UNSAFE}$q$; EXCEPTION WHEN OTHERS THEN NULL; END $$"
    ))
    .unwrap();
    attempt(&mut two, UNSAFE).unwrap_err();
    two.batch_execute(&format!("SET dragonfly_guard.mode = warn; BEGIN; {UNSAFE}; ROLLBACK"))
        .unwrap();
    let rows = "SELECT concat_ws(' ', event, command, rule, object, verdict, session_user_name,
            database_name) FROM ops.v_guard_log WHERE event <> 'changed'";
    let line = |event: &str, database: &str| {
        format!(
            "{event} CREATE FUNCTION security_definer_search_path public.f() exploitable root_su \
             {database}"
        )
    };
    assert_eq!(eventually(&mut one, rows, 3), vec![line("rejected", "one"); 3]);
    assert_eq!(eventually(&mut two, rows, 2), [line("rejected", "two"), line("warned", "two")]);
    let age = "SELECT (max(now() - logged_at) < '60 seconds')::text FROM ops.v_guard_log";
    assert_eq!(column(&mut one, age), ["true"]);
    // Session two changed its mode, and the ROLLBACK changed it back.
    let status = eventually(
        &mut one,
        "SELECT active::text || ' ' || detail FROM ops.guard_status()
          WHERE component = 'log' AND detail LIKE '%: 7 % 0 waiting%'",
        1,
    );
    assert_eq!(status, ["true Since the server started: 7 entries written, 0 waiting, 0 dropped."]);

    // With many events, sessions do not wait, and dropped entries are counted.
    let start = Instant::now();
    one.batch_execute(&format!(
        "DO $$ BEGIN
            FOR i IN 1..1000 LOOP
                BEGIN EXECUTE $q${UNSAFE}$q$; EXCEPTION WHEN OTHERS THEN NULL; END;
            END LOOP;
         END $$"
    ))
    .unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    let detail = eventually(&mut one, EMPTY_QUEUE, 1).remove(0);
    let numbers: Vec<usize> =
        detail.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert_eq!(numbers[0] + numbers[2], 1007, "{detail}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        column(&mut one, "SELECT sum(1 + repeated)::text FROM ops.v_guard_log")[0]
            .parse::<usize>()
            .unwrap()
            + 4,
        numbers[0],
        "{detail}"
    );

    end_without_log_table(&cluster, (one, two));
}

/// Drops a database after its writer has ended, and logs an event in a database without the table.
fn end_without_log_table(cluster: &Cluster, (one, two): (Client, Client)) {
    // The writer disconnects, so that the database can be dropped.
    drop((one, two));
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("DROP DATABASE one").unwrap();
    // A database without the log table.
    let mut three = cluster.guarded("three");
    three
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             ALTER EXTENSION dragonfly_guard DROP TABLE dragonfly_guard.log;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    attempt(&mut three, UNSAFE).unwrap_err();
    assert_eq!(eventually(&mut three, EMPTY_QUEUE, 1).len(), 1);
    assert!(
        !cluster.log().contains("PANIC") && !cluster.log().contains("terminated by signal"),
        "{}",
        cluster.log()
    );
}

/// Statements that are long, contain escapes or invalid text, or contain a secret.
#[test]
fn unusual_statement_writes_one_bounded_line() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin
        .batch_execute(
            "CREATE DATABASE legacy ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'
                TEMPLATE template0",
        )
        .unwrap();
    let mut legacy = cluster.connect("legacy", SUPERUSER);
    legacy.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    let mut client = cluster.guarded("unusual");
    let statements = [
        format!("/* {} */ {UNSAFE}", "\u{1}".repeat(900)),
        format!("/* \u{2028}\u{2029}\u{85} \r\n */ {UNSAFE}"),
        format!("SELECT set_config('app.jwt_token', 'eyJhbGciOi', false); {UNSAFE}"),
        format!("{UNSAFE} /* {} */", "x".repeat(1_000_000)),
    ];
    for statement in &statements {
        attempt(&mut client, statement).unwrap_err();
    }
    attempt(&mut legacy, UNSAFE).unwrap_err();
    legacy.batch_execute("SET client_encoding = 'WIN1252'").unwrap();
    attempt(&mut legacy, UNSAFE).unwrap_err();
    let rows = "SELECT coalesce(length(statement), 0)::text FROM ops.v_guard_log";
    let lengths = eventually(&mut client, rows, 4);
    assert_eq!(lengths.len(), 4, "{lengths:?}");
    let statements = lines(&cluster).into_iter().map(|line| line["statement"].to_string());
    assert_eq!(statements.filter(|statement| statement.contains("eyJhbGciOi")).count(), 0);
    assert!(lengths.iter().all(|length| length.parse::<usize>().unwrap() <= 1_003), "{lengths:?}");
    // Equal ones may be one row.
    let each = "SELECT event FROM ops.v_guard_log, generate_series(0, repeated)";
    assert_eq!(eventually(&mut legacy, each, 2).len(), 2);
    // One line for each statement.
    assert_eq!(lines(&cluster).len(), 6);
    // The audit reports an altered table.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE dragonfly_guard.log ADD COLUMN note text",
        )
        .unwrap();
    let found = "SELECT count(*)::text FROM ops.audit_guard() WHERE object LIKE '%log%'";
    assert_eq!(column(&mut client, found), ["1"]);
}

/// Databases without a writer, because there is no free background worker or no connection is
/// allowed.
#[test]
fn database_without_writer_does_not_block_others() {
    let cluster = Cluster::start_with(&[
        "shared_preload_libraries=dragonfly_guard",
        "max_worker_processes=3",
    ]);
    let names: Vec<String> = (0..8).map(|i| format!("many{i}")).collect();
    let mut clients: Vec<Client> = names.iter().map(|name| cluster.guarded(name)).collect();
    for client in &mut clients {
        attempt(client, UNSAFE).unwrap_err();
    }
    for client in &mut clients {
        assert_eq!(eventually(client, "SELECT event FROM ops.v_guard_log", 1), ["rejected"]);
    }
    // A database that allows no connections, with more entries than the queue holds.
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("ALTER DATABASE many0 ALLOW_CONNECTIONS false").unwrap();
    for _ in 0..150 {
        attempt(&mut clients[0], UNSAFE).unwrap_err();
    }
    attempt(&mut clients[1], UNSAFE).unwrap_err();
    assert_eq!(eventually(&mut clients[1], "SELECT event FROM ops.v_guard_log", 2).len(), 2);
}

/// Returns event, command and message of the entries, from the server log.
fn events(cluster: &Cluster) -> Vec<String> {
    let text =
        |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines(cluster)
        .iter()
        .map(|line| {
            format!(
                "{} {}: {}",
                text(line, "dragonfly_guard"),
                text(line, "command"),
                text(line, "message")
            )
        })
        .collect()
}

#[test]
fn every_change_of_the_guard_is_in_both_logs_in_hardened_mode() {
    let cluster = Cluster::start_with(&[
        "shared_preload_libraries=dragonfly_guard",
        "max_prepared_transactions=2",
    ]);
    let mut client = cluster.guarded("changes");
    client.batch_execute("CREATE ROLE worker; CREATE SCHEMA app").unwrap();
    let mode =
        |from: &str, to: &str| format!("dragonfly_guard.mode changed from \"{from}\" to \"{to}\"");
    let disables =
        |command: &str| format!("rejected {command}: {command} would disable the security guard");
    let stored = |command: &str| {
        format!("changed {command}: {command} changes dragonfly_guard.mode for new sessions")
    };
    let cases = [
        ("SET dragonfly_guard.mode = warn", format!("changed SET: {}", mode("block", "warn"))),
        ("RESET dragonfly_guard.mode", format!("changed RESET: {}", mode("warn", "block"))),
        (
            "SELECT set_config('dragonfly_guard.mode', 'off', false)",
            format!("changed COMMIT: {}", mode("block", "off")),
        ),
        ("RESET ALL", format!("changed RESET: {}", mode("off", "block"))),
        ("ALTER ROLE worker SET dragonfly_guard.mode = 'off'", disables("ALTER ROLE")),
        ("ALTER DATABASE changes SET dragonfly_guard.mode = 'warn'", disables("ALTER DATABASE")),
        ("ALTER SYSTEM SET dragonfly_guard.mode = 'off'", disables("ALTER SYSTEM")),
        ("ALTER ROLE worker SET dragonfly_guard.mode = 'block'", stored("ALTER ROLE")),
        ("ALTER ROLE worker RESET ALL", stored("ALTER ROLE")),
        (
            "ALTER EVENT TRIGGER zz_dragonfly_guard_end DISABLE",
            "rejected ALTER EVENT TRIGGER: ALTER EVENT TRIGGER violates the security contract: \
             guard_tampered on event trigger zz_dragonfly_guard_end"
                .to_owned(),
        ),
        ("DROP EXTENSION dragonfly_guard", disables("DROP EXTENSION")),
        (
            "BEGIN; ALTER SCHEMA app RENAME TO other; PREPARE TRANSACTION 'p'",
            "rejected PREPARE TRANSACTION: cannot PREPARE a transaction that has changed a schema \
             or a SECURITY DEFINER routine"
                .to_owned(),
        ),
    ];
    for (number, (sql, expected)) in cases.iter().enumerate() {
        for statement in sql.split("; ") {
            let _ = attempt(&mut client, statement);
        }
        let _ = attempt(&mut client, "ROLLBACK");
        let events = events(&cluster);
        assert_eq!(events.last(), Some(expected), "{sql}");
        assert_eq!(events.len(), number + 1, "{sql}: {events:#?}");
    }
    // What does not concern the guard is neither rejected nor logged.
    client
        .batch_execute(
            "ALTER ROLE worker SET work_mem = '4MB'; ALTER ROLE worker RESET ALL;
             ALTER DATABASE changes SET work_mem = '4MB'; ALTER DATABASE changes RESET ALL;
             ALTER ROLE worker IN DATABASE changes SET work_mem = '4MB';
             ALTER ROLE worker IN DATABASE changes RESET ALL",
        )
        .unwrap();
    assert_eq!(events(&cluster).len(), cases.len());
    // Each line is a row as well.
    let rows = "SELECT concat(event, ' ', command, ': ', message) FROM ops.v_guard_log";
    let mut listed = eventually(&mut client, rows, cases.len());
    let mut expected: Vec<String> = cases.iter().map(|(_, expected)| expected.clone()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    // The line about the dropped extension outlives its table.
    client.batch_execute("SET dragonfly_guard.mode = off; DROP EXTENSION dragonfly_guard").unwrap();
    let last = "changed DROP EXTENSION: extension dragonfly_guard was dropped".to_owned();
    assert_eq!(events(&cluster).last(), Some(&last));
}

#[test]
fn dropped_extension_is_in_the_server_log_without_preloading() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("dropped");
    client.batch_execute("BEGIN; DROP EXTENSION dragonfly_guard; ROLLBACK").unwrap();
    assert_eq!(events(&cluster), [""; 0], "it was not dropped");
    client.batch_execute("DROP EXTENSION dragonfly_guard").unwrap();
    assert_eq!(events(&cluster), ["changed DROP EXTENSION: extension dragonfly_guard was dropped"]);
    client.batch_execute("DROP SCHEMA dragonfly_guard; CREATE EXTENSION dragonfly_guard").unwrap();
    client
        .batch_execute("SET dragonfly_guard.mode = off; DROP SCHEMA dragonfly_guard CASCADE")
        .unwrap();
    let last = "changed DROP SCHEMA: extension dragonfly_guard was dropped".to_owned();
    assert_eq!(events(&cluster).last(), Some(&last), "{:?}", events(&cluster));
}

/// A statement that is rejected; each has another text.
fn rejected(client: &mut Client, number: usize) {
    let name = format!("public.f{number}");
    attempt(client, &UNSAFE.replace("public.f", &name)).unwrap_err();
}

#[test]
fn every_entry_is_counted_as_written_waiting_or_dropped_at_any_time() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut client = cluster.guarded("taken");
    let mut other = cluster.connect("taken", SUPERUSER);
    let writer = "FROM pg_stat_activity WHERE backend_type = 'dragonfly_guard log writer'";
    // The writer takes entries, and cannot write them while the table is locked.
    other.batch_execute("BEGIN; LOCK TABLE dragonfly_guard.log IN SHARE MODE").unwrap();
    for number in 1..=3 {
        rejected(&mut client, number);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(counts(&mut client), [0, number, 0]);
        // Another writer gets what this one had.
        client.batch_execute(&format!("SELECT pg_terminate_backend(pid) {writer}")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(counts(&mut client), [0, number, 0]);
    }
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(eventually(&mut client, "SELECT event FROM ops.v_guard_log", 3).len(), 3);
    eventually(&mut client, EMPTY_QUEUE, 1);
    assert_eq!(counts(&mut client), [3, 0, 0]);
}

#[test]
fn error_of_the_writer_is_reported_and_loses_no_entry() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut client = cluster.guarded("failing");
    // Any error of the writer will do: here, a row that a constraint rejects. (The table is the
    // extension's own, and only a superuser can change it.)
    let file = column(&mut client, "SELECT pg_relation_filepath('dragonfly_guard.log')").remove(0);
    let file = cluster.folder().join(file);
    let hidden = file.with_extension("hidden");
    client.batch_execute("CHECKPOINT").unwrap();
    std::fs::rename(&file, &hidden).unwrap();
    rejected(&mut client, 1);
    let status = "SELECT concat(active, ' ', detail, ' ', fix) FROM ops.guard_status()
        WHERE component = 'log' AND detail LIKE '%ended before it wrote%'";
    let reported = eventually(&mut client, status, 1).remove(0);
    assert!(reported.starts_with("f Since"), "{reported}");
    assert!(reported.contains("Look in the server log"), "{reported}");
    assert_eq!(counts(&mut client), [0, 1, 0]);
    std::fs::rename(&hidden, &file).unwrap();
    assert_eq!(eventually(&mut client, "SELECT event FROM ops.v_guard_log", 1).len(), 1);
    let status = "SELECT active::text FROM ops.guard_status() WHERE component = 'log' AND detail
        LIKE '% 0 waiting%'";
    assert_eq!(eventually(&mut client, status, 1), ["true"]);
}

#[test]
fn entry_survives_every_way_in_which_the_server_ends() {
    let mut cluster = Cluster::start_with(&PRELOADED);
    let mut client = cluster.guarded("survives");
    let rows = "SELECT object FROM ops.v_guard_log ORDER BY object";
    let mut expected = Vec::new();
    for (number, mode) in (1..).zip(["fast", "immediate", "crash"]) {
        let mut other = cluster.connect("survives", SUPERUSER);
        other.batch_execute("BEGIN; LOCK TABLE dragonfly_guard.log IN SHARE MODE").unwrap();
        rejected(&mut client, number);
        expected.push(format!("public.f{number}()"));
        if mode == "crash" {
            let pid = column(&mut client, "SELECT pg_backend_pid()::text").remove(0);
            signal(pid.parse().unwrap(), libc::SIGKILL);
            let deadline = Instant::now() + Duration::from_mins(1);
            while !cluster.log().contains("all server processes terminated; reinitializing")
                || cluster.try_connect("survives", SUPERUSER).is_err()
            {
                assert!(Instant::now() < deadline, "{}", cluster.log());
                std::thread::sleep(Duration::from_millis(100));
            }
        } else {
            cluster = Cluster::run(cluster.stop_by(mode), &PRELOADED);
        }
        client = cluster.connect("survives", SUPERUSER);
        assert_eq!(eventually(&mut client, rows, number), expected, "{mode}");
    }
}

#[test]
fn equal_entries_of_a_session_are_counted_in_one_row() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut client = cluster.guarded("equal");
    let mut other = cluster.connect("equal", SUPERUSER);
    other.batch_execute("BEGIN; LOCK TABLE dragonfly_guard.log IN SHARE MODE").unwrap();
    rejected(&mut other, 1);
    other.batch_execute("ROLLBACK; BEGIN; LOCK TABLE dragonfly_guard.log IN SHARE MODE").unwrap();
    let start = Instant::now();
    for _ in 0..500 {
        rejected(&mut client, 2);
    }
    let [written, waiting, dropped] = counts(&mut client);
    assert_eq!((written + waiting, dropped), (501, 0));
    other.batch_execute("ROLLBACK").unwrap();
    eventually(&mut client, EMPTY_QUEUE, 1);
    // The writer takes what is waiting ten times a second. What it has taken counts no longer.
    let passes = 2 + start.elapsed().as_millis() / 100;
    let rows =
        "SELECT count(*) || ' ' || sum(1 + repeated) || ' ' || bool_and(last_at >= logged_at)
        FROM ops.v_guard_log WHERE object = 'public.f2()'";
    let rows = column(&mut client, rows).remove(0);
    let (count, rest) = rows.split_once(' ').unwrap();
    assert_eq!(rest, "500 true");
    let count: u128 = count.parse().unwrap();
    assert!(count <= passes && count < 250, "{count} rows in {passes} passes");
}

#[test]
fn many_entries_of_one_role_delete_no_row_of_another() {
    let cluster = Cluster::start_with(&PRELOADED);
    let mut client = cluster.guarded("trimmed");
    rejected(&mut client, 1);
    eventually(&mut client, "SELECT event FROM ops.v_guard_log", 1);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             INSERT INTO dragonfly_guard.log SELECT clock_timestamp(), jsonb_build_object(
                'dragonfly_guard', 'rejected', 'session_user', 'eve', 'command', 'GRANT', 'pid', i)
                FROM generate_series(1, 11500) i;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    rejected(&mut client, 2);
    let of = "SELECT object FROM ops.v_guard_log WHERE event = 'rejected' AND session_user_name = ";
    let mine = format!("{of} '{SUPERUSER}' ORDER BY 1");
    assert_eq!(eventually(&mut client, &mine, 2), ["public.f1()", "public.f2()"]);
    let eve = "SELECT min(pid) || ' ' || max(pid) || ' ' || (count(*) <= 10000) FROM
        ops.v_guard_log WHERE session_user_name = 'eve'";
    assert_eq!(column(&mut client, eve), ["1 11500 true"], "the first and the newest are kept");
}

#[test]
fn launcher_comes_back_after_it_was_terminated() {
    let cluster = Cluster::start_with(&PRELOADED);
    let launchers = || children(cluster.folder(), "log launcher");
    let before = launchers();
    assert_eq!(before.len(), 1);
    signal(before[0], libc::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let now = launchers();
        if now.len() == 1 && now != before {
            break;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the numbers of written, waiting and dropped entries.
fn counts(client: &mut Client) -> [usize; 3] {
    let detail = "SELECT detail FROM ops.guard_status() WHERE component = 'log'";
    let detail = column(client, detail).remove(0);
    let numbers = detail.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    numbers.collect::<Vec<usize>>().try_into().unwrap()
}

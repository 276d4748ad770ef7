//! The measurements of docs/performance.md: `make bench`. Everything in a table is measured in one
//! run, in rounds that execute each thing once; the tables have the medians of five rounds, and the
//! medians of the ratios within each round.
//!
//! `BENCH_SIZE` and `BENCH_PART` select a size and a part; without a part, the sections of the page
//! are replaced.

use dragonfly_tests::bench::{
    ONE_PROCESS, Size, Work, bench_sql, circumstances, create_extension, digits, fetched, measure,
    median, number_after, table, timed, write_section,
};
use dragonfly_tests::{Cluster, SUPERUSER, guard_program_in};
use postgres::Client;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The number of rounds.
const ROUNDS: usize = 5;

/// The database with the extension, and the one with the same catalog and without the extension.
const GUARDED: &str = "guarded";
const PLAIN: &str = "plain";

/// A part of the measurements of a size.
type Part = fn(&Bench<'_>) -> String;

/// The parts, in the order in which they change the database.
const PARTS: [(&str, Part); 6] = [
    ("audit", audit),
    ("outside", outside),
    ("functions", functions),
    ("assert", assert_of_clean_database),
    ("guard", guard),
    ("clients", clients),
];

/// A server with the two databases.
struct Bench<'a> {
    cluster: &'a Cluster,
    size: Size,
}

impl Bench<'_> {
    fn client(&self, database: &str) -> Client {
        let mut client = self.cluster.connect(database, SUPERUSER);
        client.batch_execute(ONE_PROCESS).unwrap();
        client
    }

    /// Returns SQL in the guarded database as a work.
    fn work(&self, name: &str, sql: impl Into<String>) -> Work<'static> {
        Work::sql(name, self.client(GUARDED), sql)
    }
}

#[test]
#[ignore = "takes half an hour"]
fn measurements_of_the_page() {
    let [size, part] = ["BENCH_SIZE", "BENCH_PART"]
        .map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let is_one = |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|it| it == name);
    let sizes: Vec<Size> = Size::ALL.into_iter().filter(|it| is_one(&size, it.name)).collect();
    let parts: Vec<Part> =
        PARTS.iter().filter(|(name, _)| is_one(&part, name)).map(|(_, work)| *work).collect();
    assert!(!sizes.is_empty(), "sizes are small, medium, large");
    assert!(!parts.is_empty(), "parts are {:?}", PARTS.map(|(name, _)| name));
    for size in sizes {
        let cluster = size.cluster();
        size.generate(&cluster, PLAIN);
        prepare(&cluster);
        let bench = Bench { cluster: &cluster, size };
        let mut text = circumstances(&mut bench.client(GUARDED)) + "\n";
        for part in &parts {
            let _ = write!(text, "\n{}", part(&bench));
        }
        println!("{}\n{text}", size.name);
        if part.is_none() {
            write_section(size.name, &text);
        }
    }
}

/// Creates the objects that are changed, and a copy of the database with the extension in it. The
/// sessions of the copy are in hardened mode.
fn prepare(cluster: &Cluster) {
    cluster.psql_file(PLAIN, "bench/little.sql");
    cluster
        .connect(PLAIN, SUPERUSER)
        .batch_execute(
            "CREATE ROLE postgres; CREATE SCHEMA bench;
             CREATE TABLE bench.t (id int); CREATE TABLE bench.rows (id int);
             DO $$ BEGIN FOR i IN 1..100 LOOP
                 EXECUTE format('CREATE TABLE public.g_%s (id int)', i);
                 EXECUTE format('CREATE ROLE bench_%s', i);
             END LOOP; END $$",
        )
        .unwrap();
    let mut client = cluster.connect("postgres", SUPERUSER);
    // The files are copied as they are: the log would have them all.
    let copy = format!("CREATE DATABASE {GUARDED} TEMPLATE {PLAIN} STRATEGY file_copy");
    client.batch_execute(&copy).unwrap();
    create_extension(&mut cluster.connect(GUARDED, SUPERUSER));
    cluster.psql_file(GUARDED, "bench/contract.sql");
    let preload = format!(
        "ALTER DATABASE {GUARDED} SET session_preload_libraries = 'dragonfly_guard'; CHECKPOINT"
    );
    client.batch_execute(&preload).unwrap();
}

/// Returns a row of a table: a work, its time, its ratio to a floor and the memory of its process.
fn row(work: &Work<'_>, floor: &Work<'_>, findings: &str) -> Vec<String> {
    vec![
        work.name.clone(),
        findings.to_owned(),
        digits(work.milliseconds()),
        digits(work.ratio(floor)),
        work.memory().map_or(String::new(), |memory| memory.to_string()),
    ]
}

/// Audits, the floor, and what others would execute.
fn audit(bench: &Bench<'_>) -> String {
    const WHOLE: &str = "ops.audit_security()";
    const SCHEMA: &str = "ops.audit_security(schemas => '{little}')";
    const RULE: &str = "ops.audit_security(rules => '{schema_create}')";
    const SEVERE: &str = "ops.audit_security(rules => '{rls_disabled}', min_severity => 'error')";
    let count = |from: &str| format!("SELECT count(*) FROM {from}");
    let fetch = || fetched(bench.cluster, GUARDED, &format!("SELECT * FROM {WHOLE}"));
    let mut works = vec![
        bench.work("floor: tests/bench/floor.sql", bench_sql("floor.sql")),
        bench.work("audit, `count(*)`", count(WHOLE)),
        Work::new("audit, fetched by psql", fetch),
        bench.work(
            "floor of one schema: tests/bench/floor_schema.sql",
            bench_sql("floor_schema.sql"),
        ),
        bench.work("audit of one small schema", count(SCHEMA)),
        bench.work("audit by rule `schema_create`", count(RULE)),
        bench.work("audit by rule `rls_disabled`, errors", count(SEVERE)),
        bench.work("tests/bench/naive_cross_join.sql", bench_sql("naive_cross_join.sql")),
    ];
    measure(&mut works, ROUNDS);
    let mut client = bench.client(GUARDED);
    let mut found = |from: &str| -> String {
        client.query_one(&count(from), &[]).unwrap().get::<_, i64>(0).to_string()
    };
    let of =
        [("", 0), (WHOLE, 0), (WHOLE, 0), ("", 3), (SCHEMA, 3), (RULE, 0), (SEVERE, 0), ("", 0)];
    let mut rows: Vec<Vec<String>> = works
        .iter()
        .zip(of)
        .map(|(work, (from, floor))| {
            let findings = if from.is_empty() { String::new() } else { found(from) };
            row(work, &works[floor], &findings)
        })
        .collect();
    rows.extend(peers(bench, &works[0]));
    let head = ["audit", "findings", "ms", "times the floor", "MB"];
    format!("{}\n", table(&head, &rows))
}

/// Returns the rows of what others offer, where it is installed.
fn peers(bench: &Bench<'_>, floor: &Work<'_>) -> Vec<Vec<String>> {
    let row = |name: &str, time: Option<f64>| {
        let cells = match time {
            Some(time) => [digits(time), digits(time / floor.milliseconds())],
            None => ["not installed".to_owned(), String::new()],
        };
        let [time, ratio] = cells;
        vec![name.to_owned(), String::new(), time, ratio, String::new()]
    };
    let median_of =
        |run: &dyn Fn() -> Duration| median((0..3).map(|_| run().as_secs_f64() * 1e3).collect());
    let splinter = std::env::var("SPLINTER").ok().filter(|file| !file.is_empty());
    let splinter = splinter.map(|file| {
        let run = || {
            let arguments = ["-X", "-q", "-1", "-d", GUARDED, "-o", "/dev/null", "-f", &file];
            let start = Instant::now();
            let output = bench.cluster.client_program("psql", &arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            start.elapsed()
        };
        median_of(&run)
    });
    let pgrls = pgrls(bench, GUARDED).map(|make| {
        let run = || {
            let start = Instant::now();
            // It fails where it finds something.
            let _ = make().output();
            start.elapsed()
        };
        median_of(&run)
    });
    vec![row("Supabase's lints (splinter)", splinter), row("`pgrls lint`", pgrls)]
}

/// Returns what makes a command of pgrls for a database, where it is installed.
fn pgrls<'b>(bench: &'b Bench<'_>, database: &str) -> Option<impl Fn() -> Command + 'b> {
    let program = std::env::var_os("PGRLS").filter(|path| !path.is_empty());
    let program = program.map_or_else(|| PathBuf::from("pgrls"), PathBuf::from);
    let folder = bench.cluster.folder().display();
    let url = format!("postgresql:///{database}?host={folder}&user={SUPERUSER}");
    let schemas: Vec<String> = (0..bench.size.schemas).map(|i| format!("app_{i}")).collect();
    let is_there = Command::new(&program).arg("--version").output().is_ok();
    is_there.then_some(move || {
        let mut command = Command::new(&program);
        command.args(["lint", "--database-url", &url, "--schemas", &schemas.join(",")]);
        command
    })
}

/// The catalogs whose rows are transferred beside the floor.
const TRANSFERRED: [&str; 9] = [
    "pg_class",
    "pg_proc",
    "pg_attribute",
    "pg_policy",
    "pg_depend",
    "pg_type",
    "pg_rewrite",
    "pg_index",
    "pg_auth_members",
];

/// The program, which audits a database without the extension, and the floor and a transfer of rows
/// for it: by COPY, where the client keeps none of them, and by SELECT, where it keeps those of one
/// catalog.
fn outside(bench: &Bench<'_>) -> String {
    let program = guard_program_in("release");
    let folder = bench.cluster.folder();
    let file = |name: &str| folder.with_extension(name).to_str().unwrap().to_owned();
    let (contract, snapshot) = (file("contract.json"), file("snapshot.json"));
    let mut client = bench.client(GUARDED);
    let text: String = client.query_one("SELECT ops.contract_json()", &[]).unwrap().get(0);
    std::fs::write(&contract, text).unwrap();
    let connection = ["-h", folder.to_str().unwrap(), "-U", SUPERUSER, "-d", PLAIN];
    let psql = |statement: &str| {
        let mut script = ONE_PROCESS.to_owned() + ";" + &bench_sql("floor.sql");
        for catalog in TRANSFERRED {
            script += &statement.replace('#', catalog);
        }
        let mut command = Command::new(dragonfly_tests::program("psql"));
        command.args(["-X", "-A", "-t", "-q", "-c", &script]).args(connection);
        command
    };
    let guard = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments);
        command
    };
    let audit = ["audit", "--fail-on", "never", "--format", "jsonl", "-c", &contract];
    let connected = |arguments: &[&str]| guard(&[arguments, &connection].concat());
    let mut works = vec![
        Work::program("floor, and the rows of nine catalogs by COPY", || {
            psql("; COPY (SELECT * FROM #) TO STDOUT")
        }),
        Work::program("floor, and these rows by SELECT", || psql("; SELECT * FROM #")),
        Work::program("`dragonfly-guard snapshot`", || connected(&["snapshot", "-o", &snapshot])),
        Work::program("`dragonfly-guard audit` of the file", || {
            guard(&[&audit[..], &["--snapshot", &snapshot]].concat())
        }),
        Work::program("`dragonfly-guard audit`, connected", || connected(&audit)),
    ];
    if let Some(pgrls) = pgrls(bench, PLAIN) {
        works.push(Work::program("`pgrls lint`", pgrls));
    }
    measure(&mut works, ROUNDS);
    let lines = String::from_utf8(connected(&audit).output().unwrap().stdout).unwrap();
    let found = lines.lines().count().to_string();
    let findings = |work: &Work<'_>| if work.name.contains("audit") { &found } else { "" };
    let rows: Vec<Vec<String>> =
        works.iter().map(|work| row(work, &works[0], findings(work))).collect();
    for file in [&contract, &snapshot] {
        std::fs::remove_file(file).unwrap();
    }
    let head = ["from outside", "findings", "ms", "times the first", "MB"];
    format!("{}\n", table(&head, &rows))
}

/// What reads everything for other purposes than an audit.
fn functions(bench: &Bench<'_>) -> String {
    let schemas = "ARRAY(SELECT nspname FROM pg_namespace WHERE nspname LIKE 'app%')";
    let mut works = [
        bench.work("audit", "SELECT count(*) FROM ops.audit_security()"),
        bench.work("`golden_sql()`", "SELECT count(*) FROM ops.golden_sql()"),
        bench.work(
            "`infer_contract()`",
            format!("SELECT length(ops.infer_contract({schemas})::text)"),
        ),
        bench.work("`schema_fingerprint()`", format!("SELECT ops.schema_fingerprint({schemas})")),
        bench.work(
            "`freeze_schema()`",
            format!("BEGIN; SELECT ops.freeze_schema('bench', {schemas}); ROLLBACK"),
        ),
    ];
    measure(&mut works, ROUNDS);
    let rows: Vec<Vec<String>> = works
        .iter()
        .map(|work| {
            vec![
                work.name.clone(),
                digits(work.milliseconds() / 1e3),
                work.memory().unwrap_or_default().to_string(),
                work.times.len().to_string(),
            ]
        })
        .collect();
    format!("{}\n", table(&["function", "s", "MB", "rounds"], &rows))
}

/// `ops.assert_security()` of a database without findings, and the floor of the same database.
fn assert_of_clean_database(bench: &Bench<'_>) -> String {
    for database in [GUARDED, PLAIN] {
        bench.cluster.psql_file(database, "bench/clean.sql");
    }
    let mut works = [
        bench.work("floor", bench_sql("floor.sql")),
        bench.work("`assert_security()`", "SELECT ops.assert_security()"),
        bench.work("`audit_security()`", "SELECT count(*) FROM ops.audit_security()"),
    ];
    measure(&mut works, ROUNDS);
    let rows: Vec<Vec<String>> = works.iter().map(|work| row(work, &works[0], "")).collect();
    let head = ["database without errors", "", "ms", "times the floor", "MB"];
    format!("{}\n", table(&head, &rows))
}

/// A kind of statement: what it does, and what takes it back. `#` stands for a number.
struct Statement {
    name: &'static str,
    sql: &'static str,
    undo: &'static str,
    /// How many of them are executed in a loop.
    count: u32,
}

const STATEMENTS: [Statement; 8] = [
    Statement {
        name: "COMMENT",
        sql: "COMMENT ON TABLE bench.t IS '#'",
        undo: "SELECT",
        count: 100,
    },
    Statement {
        name: "CREATE INDEX",
        sql: "CREATE INDEX i_# ON bench.t (id)",
        undo: "DROP INDEX bench.i_#",
        count: 100,
    },
    Statement {
        name: "CREATE FUNCTION",
        sql: "CREATE FUNCTION bench.f_#() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        undo: "DROP FUNCTION bench.f_#()",
        count: 100,
    },
    Statement {
        name: "CREATE FUNCTION, SECURITY DEFINER",
        sql: "CREATE FUNCTION bench.f_#() RETURNS int LANGUAGE sql SECURITY DEFINER
            SET search_path = public, pg_temp AS 'SELECT 1'",
        undo: "DROP FUNCTION bench.f_#()",
        count: 100,
    },
    Statement {
        name: "CREATE TABLE",
        sql: "CREATE TABLE public.made_# (id int)",
        undo: "DROP TABLE public.made_#",
        count: 100,
    },
    Statement {
        name: "GRANT on a table",
        sql: "GRANT SELECT ON public.g_# TO postgres",
        undo: "REVOKE SELECT ON public.g_# FROM postgres",
        count: 100,
    },
    Statement {
        name: "GRANT on a schema",
        sql: "GRANT USAGE ON SCHEMA app_0 TO bench_#",
        undo: "REVOKE USAGE ON SCHEMA app_0 FROM bench_#",
        count: 10,
    },
    Statement {
        name: "CREATE ROLE (hardened)",
        sql: "CREATE ROLE made_#",
        undo: "DROP ROLE made_#",
        count: 50,
    },
];

/// The number of statements that are executed one by one in a round.
const SINGLE: u32 = 10;

impl Statement {
    /// Executes the statement in transactions of its own, and returns the median of the times.
    fn single(&self, client: &mut Client) -> f64 {
        let numbered = |sql: &str, i: u32| sql.replace('#', &i.to_string());
        let times = (1..=SINGLE)
            .map(|i| timed(client, &numbered(self.sql, i)).as_secs_f64() * 1e6)
            .collect();
        (1..=SINGLE).for_each(|i| client.batch_execute(&numbered(self.undo, i)).unwrap());
        median(times)
    }

    /// Executes the statement in a loop, and returns the time that one of them took.
    fn looped(&self, client: &mut Client) -> f64 {
        let block = |sql: &str| {
            format!(
                "DO $do$ BEGIN FOR i IN 1..{} LOOP
                     EXECUTE replace($sql${sql}$sql$, '#', i::text);
                 END LOOP; END $do$",
                self.count
            )
        };
        let time = timed(client, &block(self.sql)).as_secs_f64() * 1e6;
        client.batch_execute(&block(self.undo)).unwrap();
        time / f64::from(self.count)
    }
}

/// What guards the statements.
#[derive(Clone, Copy)]
enum Guard {
    Nothing,
    Naive,
    Extension,
}

/// Statements without a guard, with the event trigger that most teams write, and with the
/// extension.
fn guard(bench: &Bench<'_>) -> String {
    let mut plain = bench.client(PLAIN);
    plain.batch_execute(&bench_sql("naive_guard.sql")).unwrap();
    let mut guarded = bench.client(GUARDED);
    for client in [&mut plain, &mut guarded] {
        client.batch_execute("SET client_min_messages = error").unwrap();
    }
    let rows: Vec<Vec<String>> = STATEMENTS
        .iter()
        .map(|statement| {
            let (mut single, mut looped) = ([const { vec![] }; 3], [const { vec![] }; 3]);
            for round in 0..=ROUNDS {
                for which in [Guard::Nothing, Guard::Naive, Guard::Extension] {
                    let client = match which {
                        Guard::Extension => &mut guarded,
                        Guard::Nothing | Guard::Naive => &mut plain,
                    };
                    if let Guard::Nothing | Guard::Naive = which {
                        let state = if let Guard::Naive = which { "ENABLE" } else { "DISABLE" };
                        let switch = format!("ALTER EVENT TRIGGER naive_guard {state}");
                        client.batch_execute(&switch).unwrap();
                    }
                    let times = (statement.single(client), statement.looped(client));
                    if round > 0 {
                        single[which as usize].push(times.0);
                        looped[which as usize].push(times.1);
                    }
                }
            }
            let added = |times: &[Vec<f64>; 3], which: Guard| {
                let pairs = times[which as usize].iter().zip(&times[Guard::Nothing as usize]);
                digits(median(pairs.map(|(guarded, plain)| guarded - plain).collect()))
            };
            let mut cells = vec![statement.name.to_owned()];
            for times in [&single, &looped] {
                cells.push(digits(median(times[Guard::Nothing as usize].clone())));
                cells.push(added(times, Guard::Naive));
                cells.push(added(times, Guard::Extension));
            }
            cells
        })
        .collect();
    plain.batch_execute("DROP EVENT TRIGGER naive_guard; DROP FUNCTION naive_guard()").unwrap();
    let head = [
        "microseconds for a statement",
        "alone",
        "naive guard adds",
        "guard adds",
        "in a loop",
        "naive guard adds",
        "guard adds",
    ];
    format!("{}\n", table(&head, &rows))
}

/// What a client of pgbench executes again and again.
const DDL: &str = "
    CREATE OR REPLACE FUNCTION bench.c_:client_id() RETURNS int LANGUAGE sql SECURITY DEFINER
        SET search_path = public, pg_temp AS 'SELECT 1';
    GRANT SELECT ON public.g_:number TO postgres;
    COMMENT ON TABLE public.g_:number IS 'x';
    REVOKE SELECT ON public.g_:number FROM postgres;
";
const ROWS: &str = "
    INSERT INTO bench.rows VALUES (1);
    SELECT count(*) FROM bench.t;
";

/// Several clients that execute DDL, or read and write rows, with and without the guard.
fn clients(bench: &Bench<'_>) -> String {
    let rows = [("DDL", 1, DDL), ("DDL", 8, DDL), ("DDL", 64, DDL), ("INSERT and SELECT", 1, ROWS)]
        .map(|(name, clients, script)| {
            let script = script.replace('\n', " ").replace(';', ";\n");
            let script = format!("\\set number :client_id + 1\n{script}");
            let file = bench.cluster.folder().join("bench.pgbench");
            std::fs::write(&file, script).unwrap();
            let mut rates = [vec![], vec![]];
            for _ in 0..ROUNDS {
                for (place, database) in [PLAIN, GUARDED].into_iter().enumerate() {
                    rates[place].push(transactions(bench, &file, clients, database));
                }
            }
            let ratio = median(rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect());
            let [plain, guarded] = rates.map(|rates| digits(median(rates)));
            vec![format!("{name}, {clients} clients"), plain, guarded, digits(ratio)]
        });
    let head = ["scripts in a second", "without the guard", "with the guard", "times slower"];
    format!("{}\n", table(&head, &rows))
}

/// Returns how often clients execute a script of pgbench in a second.
fn transactions(bench: &Bench<'_>, file: &std::path::Path, clients: u32, database: &str) -> f64 {
    let clients = clients.to_string();
    let script = file.to_str().unwrap();
    let arguments = ["-n", "-c", &clients, "-j", "2", "-T", "3", "-f", script, database];
    let output = bench.cluster.client_program("pgbench", &arguments);
    number_after("tps = ", &output)
}

//! Measurements: catalogs of a known size, rounds in which everything is measured once, medians,
//! and the tables of docs/performance.md.

use crate::{Cluster, SUPERUSER, project};
use postgres::Client;
use std::cell::Cell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The size of a catalog that tests/bench/gen_catalog.sql generates.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Size {
    pub name: &'static str,
    pub schemas: u32,
    pub tables: u32,
    pub routines: u32,
    pub roles: u32,
}

impl Size {
    /// A small application.
    pub const SMALL: Self = Self::new("small", 5, 300, 500, 10);
    /// Twenty of them.
    pub const MEDIUM: Self = Self::new("medium", 20, 5_000, 10_000, 100);
    /// More than most databases have.
    pub const LARGE: Self = Self::new("large", 50, 30_000, 100_000, 1_000);
    /// The three.
    pub const ALL: [Self; 3] = [Self::SMALL, Self::MEDIUM, Self::LARGE];

    /// Returns a size with a name.
    #[must_use]
    pub const fn new(
        name: &'static str,
        schemas: u32,
        tables: u32,
        routines: u32,
        roles: u32,
    ) -> Self {
        Self { name, schemas, tables, routines, roles }
    }

    /// Starts a server for catalogs of this size.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::start_with(&[
            "max_locks_per_transaction=4096",
            "shared_buffers=512MB",
            "max_connections=120",
            // Maintenance of the new catalogs would run beside what is measured.
            "autovacuum=off",
            "checkpoint_timeout=1h",
            "max_wal_size=8GB",
        ])
    }

    /// Creates a database with a generated catalog, without the extension.
    ///
    /// # Panics
    /// If psql fails.
    pub fn generate(&self, cluster: &Cluster, database: &str) {
        cluster
            .connect("postgres", SUPERUSER)
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .expect("a new database");
        let Self { schemas, tables, routines, roles, .. } = self;
        let settings = [
            format!("n_schemas={schemas}"),
            format!("n_tables={tables}"),
            format!("n_funcs={routines}"),
            format!("n_roles={roles}"),
        ];
        let file = bench_file("gen_catalog.sql");
        let mut arguments = vec!["-X", "-q", "-d", database, "-f", file.to_str().expect("UTF-8")];
        arguments.extend(settings.iter().flat_map(|setting| ["-v", setting]));
        let output = cluster.client_program("psql", &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A query that reads catalogs is executed by the process of the session alone, as an audit is: the
/// CPU time of parallel workers is not that of the session.
pub const ONE_PROCESS: &str = "SET max_parallel_workers_per_gather = 0";

/// Returns the path of a file in tests/bench.
#[must_use]
pub fn bench_file(name: &str) -> PathBuf {
    project().join("tests/bench").join(name)
}

/// Returns the SQL of a file in tests/bench.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn bench_sql(name: &str) -> String {
    std::fs::read_to_string(bench_file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Creates the extension in a database, without what it says about it.
///
/// # Panics
/// If that fails.
pub fn create_extension(client: &mut Client) {
    client
        .batch_execute(
            "SET client_min_messages = error; CREATE EXTENSION dragonfly_guard;
             RESET client_min_messages",
        )
        .expect("the extension");
}

/// Executes SQL and returns the time that it took.
///
/// # Panics
/// If the SQL fails.
pub fn timed(client: &mut Client, sql: &str) -> Duration {
    let start = Instant::now();
    client.batch_execute(sql).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    start.elapsed()
}

/// Executes SQL and returns the time for which the server's process has had a CPU: what else the
/// machine does matters less to it.
///
/// # Panics
/// If the SQL fails.
pub fn cpu_time(client: &mut Client, sql: &str) -> Duration {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a number").get(0);
    let so_far = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut clock = 0;
        // SAFETY: the function fills in the clock of the process, and then the time.
        let done = unsafe {
            libc::clock_getcpuclockid(pid, &raw mut clock) == 0
                && libc::clock_gettime(clock, &raw mut time) == 0
        };
        assert!(done, "no clock of process {pid}");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = so_far();
    client.batch_execute(sql).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    so_far().saturating_sub(before)
}

/// Returns the time that psql takes to execute a query and to fetch and print its rows.
///
/// # Panics
/// If psql fails.
#[must_use]
pub fn fetched(cluster: &Cluster, database: &str, query: &str) -> Duration {
    let timing = ["-X", "-A", "-d", database, "-o", "/dev/null", "-c", "\\timing on", "-c", query];
    let output = cluster.client_program("psql", &timing);
    Duration::from_secs_f64(number_after("Time: ", &output) / 1e3)
}

/// Returns the number that a program has printed after a label.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn number_after(label: &str, output: &Output) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split(label).nth(1).and_then(|rest| rest.split_whitespace().next());
    let number = word.and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Returns the most memory of its own that a process has had so far, in MB: without shared memory
/// and the program.
fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let [most, shared, files] = ["VmHWM:", "RssShmem:", "RssFile:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect(name)
    });
    most.saturating_sub(shared + files) >> 10
}

/// Creates routines, tables, views and policies, so that calls need time and memory, and roles with
/// privileges on them.
pub const MANY_OBJECTS: &str = "
    CREATE ROLE anon; CREATE ROLE reader; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon;
    SET dragonfly_guard.mode = off;
    DO $$ BEGIN FOR i IN 1..1500 LOOP
        EXECUTE format('CREATE TABLE app.t%s (id int, tenant text, note text)', i);
        EXECUTE format('CREATE VIEW app.v%s AS SELECT id, tenant FROM app.t%s', i, i);
        EXECUTE format('CREATE POLICY p ON app.t%s USING (tenant = current_user)', i);
        EXECUTE format('CREATE FUNCTION app.f%s(a int, b text) RETURNS int LANGUAGE sql SECURITY
            DEFINER AS ''SELECT count(*)::int FROM app.t%s''', i, i);
        EXECUTE format('GRANT SELECT ON app.t%s TO anon', i);
    END LOOP; END $$;
    SET dragonfly_guard.mode = block";

/// Returns the median of some values, of which there is at least one.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the median of some times, of which there is at least one.
#[must_use]
pub fn median_time(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Something that is measured.
pub struct Work<'a> {
    /// What it is, in a table.
    pub name: String,
    /// Executes it once and returns how long it took.
    run: Box<dyn FnMut() -> Duration + 'a>,
    /// Returns the most memory of its own that it has had, in MB.
    memory: Option<Box<dyn Fn() -> u64 + 'a>>,
    /// The time of each round.
    pub times: Vec<Duration>,
}

/// The time after which a work is not repeated: some take minutes.
const ENOUGH: Duration = Duration::from_mins(1);

impl<'a> Work<'a> {
    /// Returns a work that has not been measured yet.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Duration + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run), memory: None, times: vec![] }
    }

    /// Returns a program as a work: `make` returns a command for each run. Its output is ignored.
    pub fn program(name: impl Into<String>, mut make: impl FnMut() -> Command + 'a) -> Self {
        let peak = Rc::new(Cell::new(0));
        let seen = Rc::clone(&peak);
        let run = move || {
            let (time, memory) = executed(&mut make());
            peak.set(peak.get().max(memory));
            time
        };
        Self { memory: Some(Box::new(move || seen.get())), ..Self::new(name, run) }
    }

    /// Returns SQL as a work, with a session of its own.
    pub fn sql(name: impl Into<String>, mut client: Client, sql: impl Into<String>) -> Self {
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).expect("a number").get(0);
        let sql = sql.into();
        let run = move || timed(&mut client, &sql);
        Self { memory: Some(Box::new(move || memory(pid))), ..Self::new(name, run) }
    }

    /// Returns the median of the times in milliseconds.
    #[must_use]
    pub fn milliseconds(&self) -> f64 {
        median_time(self.times.clone()).as_secs_f64() * 1e3
    }

    /// Returns the median of the ratios to another work, each of the times of one round: what else
    /// the machine does slows both.
    #[must_use]
    pub fn ratio(&self, other: &Work<'_>) -> f64 {
        let pairs = self.times.iter().zip(&other.times);
        median(pairs.map(|(time, other)| time.as_secs_f64() / other.as_secs_f64()).collect())
    }

    /// Returns the most memory of its own that its process has had, in MB.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.memory.as_ref().map(|memory| memory())
    }
}

/// Executes a program, and returns how long it took and the most memory that it has had, in MB.
fn executed(command: &mut Command) -> (Duration, u64) {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let pid = child.expect("the program runs").id() as i32;
    let mut status = 0;
    // SAFETY: a rusage consists of numbers, for all of which 0 is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: waits for a child for which nothing else waits; both pointers are to locals.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "the program has ended");
    (start.elapsed(), usage.ru_maxrss as u64 / 1024)
}

/// Executes everything once without measuring it, and then once in each of some rounds.
pub fn measure(works: &mut [Work<'_>], rounds: usize) {
    for round in 0..=rounds {
        for work in &mut *works {
            if work.times.iter().sum::<Duration>() > ENOUGH {
                continue;
            }
            let time = (work.run)();
            // What takes long is not affected by what the first execution loads.
            if round > 0 || time * 2 > ENOUGH {
                work.times.push(time);
            }
        }
    }
}

/// Returns a table in Markdown.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Returns a number with about three digits.
#[must_use]
pub fn digits(number: f64) -> String {
    match number {
        _ if number.abs() >= 99.5 => format!("{number:.0}"),
        _ if number.abs() >= 9.95 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Returns what a program prints, without white space at its ends; the empty text where it fails.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(project()).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns a sentence about the machine, the server and the commit of a measurement.
#[must_use]
pub fn circumstances(client: &mut Client) -> String {
    let version: String = client.query_one("SHOW server_version", &[]).expect("a setting").get(0);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: f64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kilobytes| kilobytes.parse().ok())
        .unwrap_or_default();
    let changed = printed("git", &["status", "--porcelain", "--", "src", "sql"]);
    format!(
        "Measured on {} at commit {}{}:\n\
         PostgreSQL {}, {} {}, {count} CPUs ({}), {:.0} GB of memory.",
        printed("date", &["-u", "+%Y-%m-%d"]),
        printed("git", &["rev-parse", "--short=10", "HEAD"]),
        if changed.is_empty() { "" } else { " with changes" },
        version.split(' ').next().unwrap_or_default(),
        printed("uname", &["-s"]),
        // The version without what a distribution or a hypervisor adds.
        printed("uname", &["-r"]).split('-').next().unwrap_or_default(),
        cpu.unwrap_or("unknown"),
        memory / f64::from(1 << 20),
    )
}

/// Replaces a section of docs/performance.md, between a pair of comments with its name.
///
/// # Panics
/// If the page has no such section, or cannot be written.
pub fn write_section(name: &str, text: &str) {
    let path = project().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) =
        (format!("<!-- {name}: make bench -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    std::fs::write(path, format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
        .expect("the page is written");
}

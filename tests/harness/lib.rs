//! Temporary PostgreSQL servers for tests: each has its own data folder and Unix socket, no TCP,
//! and is deleted when the test ends.
//!
//! `scripts/test` prepares the environment: `PG_BIN` is the folder of the programs of a PostgreSQL
//! in which the extension is installed, `GUARD_CLUSTERS` a folder with an unused cluster named
//! `template`, and `GUARD_LOCALES` a folder with the locale [`GERMAN`].

pub mod application;
pub mod attempts;
pub mod bench;
pub mod browser;
pub mod hints;
pub mod history;
pub mod mutate;
pub mod outside;
pub mod pages;
pub mod projects;
pub mod search_path_cases;
pub mod workload;

use postgres::{Client, NoTls};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The superuser of every cluster.
pub const SUPERUSER: &str = "root_su";

/// A locale in which every server can translate its messages, by `lc_messages`.
pub const GERMAN: &str = "de_DE.UTF-8";

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    /// The programs of its PostgreSQL.
    bin: PathBuf,
    data: PathBuf,
    server: Child,
}

fn setting(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set: run the tests with `make test`"))
        .into()
}

/// Returns the path of a program of the PostgreSQL under test.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    setting("PG_BIN").join(name)
}

/// Returns the major version of the PostgreSQL under test.
#[must_use]
pub fn major_version() -> u32 {
    std::env::var("PG_MAJOR").expect("set by scripts/test").parse().expect("a number")
}

/// Returns the path of the program `dragonfly-guard`, which is built first, in the profile of the
/// tests.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn guard_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let is_release = !cfg!(debug_assertions);
    PROGRAM.get_or_init(|| guard_program_in(if is_release { "release" } else { "dev" }))
}

/// Builds the program `dragonfly-guard` in a profile, and returns its path.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn guard_program_in(profile: &str) -> PathBuf {
    let mut build = Command::new(project().join("scripts/program"));
    build.args(["--quiet", "--profile", profile]).stderr(Stdio::inherit());
    let output = build.output().expect("the script runs");
    assert!(output.status.success(), "the program is not built");
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// Returns a folder or file of the PostgreSQL under test, by the option of pg_config.
///
/// # Panics
/// If pg_config does not run.
#[must_use]
pub fn pg_config(option: &str) -> PathBuf {
    let output = Command::new(program("pg_config")).arg(option).output().expect("pg_config");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Returns the folder of the extensions of the PostgreSQL under test.
fn extensions() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| pg_config("--sharedir").join("extension"))
}

/// Whether the PostgreSQL under test has the files of an extension.
#[must_use]
pub fn has_extension(name: &str) -> bool {
    extensions().join(format!("{name}.control")).exists()
}

/// Returns a command that runs a program as a user that may run a server, which root may not.
#[must_use]
pub fn as_postgres(program: &Path) -> Command {
    // SAFETY: reads the user of the process.
    if unsafe { libc::geteuid() } == 0 {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Cluster {
    /// Starts a server on a copy of the template.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on a copy of the template, with settings (`name=value`).
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(&setting("PG_BIN"), &setting("GUARD_CLUSTERS"), settings)
    }

    /// Starts a server of the PostgreSQL whose programs are in `bin`, on a copy of the template in
    /// `clusters`.
    #[must_use]
    pub fn start_in(bin: &Path, clusters: &Path, settings: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let data = clusters.join(format!(
            "t{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let copied = as_postgres(Path::new("cp"))
            .arg("-a")
            .arg(clusters.join("template"))
            .arg(&data)
            .status();
        assert!(copied.expect("cp runs").success());
        Self::run_in(bin, data, settings)
    }

    /// Starts a server on the data folder `data`, which it owns from then on.
    #[must_use]
    pub fn run(data: PathBuf, settings: &[&str]) -> Self {
        Self::run_in(&setting("PG_BIN"), data, settings)
    }

    fn run_in(bin: &Path, data: PathBuf, settings: &[&str]) -> Self {
        // A base backup contains the lock file of the socket.
        let _ = std::fs::remove_file(data.join(".s.PGSQL.5432.lock"));
        let mut command = as_postgres(&bin.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&data).args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]);
        command.env("LOCPATH", setting("GUARD_LOCALES")).env_remove("LANGUAGE");
        for setting in
            ["max_prepared_transactions=5", "logging_collector=off", "log_line_prefix=%m [%p] "]
                .iter()
                .chain(settings)
        {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(data.join("server.log")).expect("a log file");
        let server = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let cluster = Self { bin: bin.to_owned(), data, server };
        let deadline = Instant::now() + Duration::from_mins(1);
        while cluster.try_connect("postgres", SUPERUSER).is_err() {
            assert!(Instant::now() < deadline, "the server did not start:\n{}", cluster.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        cluster
    }

    /// Returns the folder of the data and the socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.data
    }

    /// Returns the server log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.data.join("server.log")).unwrap_or_default())
            .into_owned()
    }

    /// Connects to a database.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn try_connect(&self, database: &str, user: &str) -> Result<Client, postgres::Error> {
        connect_in(&self.data, database, user)
    }

    /// Connects to a database.
    ///
    /// # Panics
    /// If the connection fails.
    #[must_use]
    pub fn connect(&self, database: &str, user: &str) -> Client {
        self.try_connect(database, user)
            .unwrap_or_else(|e| panic!("{user} cannot connect to {database}: {e}"))
    }

    /// Creates a database with the extension and connects to it as a superuser.
    #[must_use]
    pub fn guarded(&self, database: &str) -> Client {
        self.connect("postgres", SUPERUSER)
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .expect("a new database");
        let mut client = self.connect(database, SUPERUSER);
        client.batch_execute("CREATE EXTENSION dragonfly_guard").expect("the extension");
        client
    }

    /// Creates the database of the contract document with the extension and connects to it as a
    /// superuser. Other sessions create it, because a session that has executed DDL has loaded the
    /// library.
    #[must_use]
    pub fn guarded_document(&self, database: &str) -> Client {
        self.connect("postgres", SUPERUSER)
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .expect("a new database");
        self.psql_file(database, "fixtures/document.sql");
        self.connect(database, SUPERUSER)
            .batch_execute("CREATE EXTENSION dragonfly_guard")
            .expect("the extension");
        self.connect(database, SUPERUSER)
    }

    /// Runs a client program (psql, pg_dump, ...) on this server.
    #[must_use]
    pub fn client_program(&self, name: &str, arguments: &[&str]) -> Output {
        // Some builds of PostgreSQL are a server without clients.
        let own = program(name);
        Command::new(if own.exists() { own } else { PathBuf::from(name) })
            .args(arguments)
            .env("PGHOST", &self.data)
            .env("PGUSER", SUPERUSER)
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .output()
            .expect("a client program of PostgreSQL")
    }

    /// Runs a file with psql.
    ///
    /// # Panics
    /// If psql fails.
    pub fn psql_file(&self, database: &str, file: &str) {
        let file = project().join("tests").join(file);
        let file = file.to_str().expect("a path in UTF-8");
        let output = self.client_program(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", file],
        );
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Stops the server and returns its data folder, on which another server can be started.
    #[must_use]
    pub fn stop(self) -> PathBuf {
        self.stop_by("fast")
    }

    /// Stops the server by a mode of pg_ctl, and returns its data folder.
    #[must_use]
    pub fn stop_by(mut self, mode: &str) -> PathBuf {
        self.end(mode);
        std::mem::take(&mut self.data)
    }

    fn end(&mut self, how: &str) {
        let _ = as_postgres(&self.bin.join("pg_ctl"))
            .arg("stop")
            .arg("-D")
            .arg(&self.data)
            .args(["-s", "-w", "-m", how])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.server.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.data.as_os_str().is_empty() {
            self.end("immediate");
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// Connects to a database of the server whose socket is in `folder`.
///
/// # Errors
/// If the connection fails.
pub fn connect_in(folder: &Path, database: &str, user: &str) -> Result<Client, postgres::Error> {
    postgres::Config::new()
        .host_path(folder)
        .dbname(database)
        .user(user)
        .application_name("test")
        .connect(NoTls)
}

/// Returns the folder of the project.
#[must_use]
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the project")
}

/// An error of the server: SQLSTATE, message, DETAIL and HINT; the HINT without the line about the
/// runbook that ends it in each rejection of the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct ServerError {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// Runs SQL that may fail.
///
/// # Errors
/// The error of the server.
pub fn attempt(client: &mut Client, sql: &str) -> Result<(), ServerError> {
    client.batch_execute(sql).map_err(|e| {
        e.as_db_error().unwrap_or_else(|| panic!("the connection is lost: {e}\n{sql}")).into()
    })
}

impl From<&postgres::error::DbError> for ServerError {
    fn from(e: &postgres::error::DbError) -> Self {
        Self {
            code: e.code().code().to_owned(),
            message: e.message().to_owned(),
            detail: e.detail().unwrap_or_default().to_owned(),
            hint: without_runbook(e.hint().unwrap_or_default()).to_owned(),
        }
    }
}

/// Returns the HINT of a rejection without its last line, which names the runbook.
#[must_use]
pub fn without_runbook(hint: &str) -> &str {
    hint.strip_suffix("\nSee docs/how-to/runbook.md.").unwrap_or(hint)
}

/// Returns the call of `ops.declare()` in a HINT.
#[must_use]
pub fn declare_call(hint: &str) -> Option<String> {
    let rest = &hint[hint.find("SELECT * FROM ops.declare(")?..];
    let ends = ["note => '...');", "note => '...', run => true);"];
    let end = ends.iter().filter_map(|end| Some(rest.find(end)? + end.len())).min()?;
    Some(with_reason(&rest[..end]))
}

/// Returns a call of a HINT with a reason in place of the gap that it leaves for one.
#[must_use]
pub fn with_reason(call: &str) -> String {
    call.replace("=> '...'", "=> 'decided in ticket 4711'")
}

/// Returns the rows of a query with one text column; NULL as the empty text.
#[must_use]
pub fn column(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
}

/// Returns the rows of a query as soon as they are `wanted`, or after `limit`.
pub fn wait_for(
    client: &mut Client,
    sql: &str,
    limit: Duration,
    wanted: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let deadline = Instant::now() + limit;
    loop {
        let rows = column(client, sql);
        if wanted(&rows) || Instant::now() > deadline {
            return rows;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Compiles a library from a C file of the fixtures, and installs it into the PostgreSQL under
/// test.
///
/// # Panics
/// If it cannot be compiled.
pub fn provide_library(name: &str, source: &str) {
    let library = pg_config("--pkglibdir").join(format!("{name}.so"));
    // A server that has the library open keeps it.
    let new = library.with_extension(std::process::id().to_string());
    let status = Command::new("gcc")
        .args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&new)
        .arg("-I")
        .arg(pg_config("--includedir-server"))
        .arg(project().join("tests/fixtures").join(source))
        .status();
    assert!(status.expect("gcc runs").success(), "{source} is not compiled");
    std::fs::rename(new, library).expect("the library is installed");
}

/// Installs the control file and one script of an extension into the PostgreSQL under test.
/// `script` is the version, or `from--to`. Extensions that tests provide have a name of their own,
/// because tests run at the same time.
pub fn provide_extension(name: &str, control: &str, script: &str, sql: &str) {
    provide_script(name, script, sql);
    provide_file(&format!("{name}.control"), control);
}

/// Installs one more script of an extension. `script` is the version, or `from--to`.
pub fn provide_script(name: &str, script: &str, sql: &str) {
    provide_file(&format!("{name}--{script}.sql"), sql);
}

/// Installs a file of an extension at once: other tests may be reading it.
fn provide_file(name: &str, text: &str) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = extensions().join(name);
    let new = extensions().join(format!("{name}.{}.{number}", std::process::id()));
    std::fs::write(&new, text).expect("a new file");
    std::fs::rename(new, file).expect("the file is installed");
}

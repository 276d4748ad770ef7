//! Sessions that work on a guarded database while a test injects faults, and the check that the
//! database is consistent afterwards.

use crate::{Cluster, SUPERUSER, ServerError, as_postgres, attempt, column, connect_in};
use postgres::Client;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The database that the sessions work on.
pub const DATABASE: &str = "app";

/// How long a server may take to accept connections, or a log writer to write.
const PATIENCE: Duration = Duration::from_mins(1);

/// Random numbers, reproducible from a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from the seed in the environment variable `DRAGONFLY_SEED`, otherwise from the time,
    /// and prints the seed. `test` names who uses it.
    #[must_use]
    pub fn seeded(test: &str) -> Self {
        let given = std::env::var("DRAGONFLY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos().into())
        });
        eprintln!("{test}: DRAGONFLY_SEED={seed}");
        Self(seed)
    }

    /// Returns a number from 0 to `limit` - 1 (SplitMix64).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Returns one of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Sleeps for up to `milliseconds`.
    pub fn sleep(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds)));
    }
}

/// Returns how many rounds of each fault are run: the environment variable `DRAGONFLY_FAULTS`.
#[must_use]
pub fn rounds() -> u64 {
    std::env::var("DRAGONFLY_FAULTS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// What a session does, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Transactions of DDL that conform to the contract.
    Ddl,
    /// Routines that are refused; each has a name of its own.
    Refusals,
    /// Grants too much with the guard off, and applies the plan that revokes it.
    Plan,
    /// Loads a contract with the next version.
    Contract,
    /// Exempts by fingerprint, by rule and object, and by pattern, and withdraws exemptions.
    Exempt,
    /// Freezes a schema.
    Freeze,
    /// Creates, alters and drops a role.
    Roles,
    /// Audits, plans, diagnoses.
    Audit,
    /// Reads that have nothing to do with the guard.
    Reads,
}

/// The work in which a fault must do no harm.
pub const CHANGES: [Work; 6] =
    [Work::Ddl, Work::Refusals, Work::Plan, Work::Contract, Work::Exempt, Work::Freeze];

/// What the sessions have seen.
#[derive(Debug, Default)]
pub struct Seen {
    stop: AtomicBool,
    /// The routines whose creation the server has refused to a client.
    pub refused: Mutex<Vec<String>>,
    /// The number of the last contract whose loading was acknowledged.
    pub contract: AtomicU64,
    /// Exemptions that were acknowledged and not withdrawn.
    pub exempted: Mutex<Vec<i32>>,
    /// Every other error.
    pub errors: Mutex<Vec<(Work, ServerError)>>,
    /// How many steps have succeeded.
    pub steps: AtomicU64,
    /// The number of the measurement that is wanted.
    wanted: AtomicU64,
    /// What the sessions measured last, by number of the session.
    measured: Mutex<BTreeMap<usize, (u64, SessionMemory)>>,
}

/// The memory of one session between two statements, in kB.
#[derive(Debug, Clone, Copy)]
pub struct SessionMemory {
    /// What the session does.
    pub work: Work,
    /// What the process has of its own.
    pub process: u64,
    /// What is in use in PostgreSQL's memory contexts: almost all of it are the caches of the
    /// catalogs.
    pub contexts: u64,
}

impl SessionMemory {
    /// What is in use in no memory context: the heap of this extension's code, the data of the
    /// program, and what was freed and not returned to the system.
    #[must_use]
    pub fn outside(&self) -> u64 {
        self.process.saturating_sub(self.contexts)
    }
}

/// Sessions at work.
#[derive(Debug)]
pub struct Workers {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one session for each kind of work. Sessions that are disconnected connect again.
    #[must_use]
    pub fn start(cluster: &Cluster, seen: &Arc<Seen>, works: &[Work]) -> Self {
        seen.stop.store(false, Ordering::Relaxed);
        let threads = works.iter().enumerate().map(|(number, work)| {
            let (seen, folder, work) = (seen.clone(), cluster.folder().to_owned(), *work);
            std::thread::spawn(move || {
                while !seen.stop.load(Ordering::Relaxed) {
                    if let Ok(mut client) = connect_in(&folder, DATABASE, SUPERUSER) {
                        work_until_disconnected(&mut client, work, number, &seen);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        });
        Self { seen: seen.clone(), threads: threads.collect() }
    }

    /// Lets each session measure its memory after its current step. Returns what those have
    /// measured that did within a minute.
    #[must_use]
    pub fn measure(&self) -> Vec<SessionMemory> {
        let wanted = self.seen.wanted.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let measured: Vec<_> = self.seen.measured.lock().unwrap().values().copied().collect();
            let current: Vec<_> =
                measured.into_iter().filter(|(number, _)| *number == wanted).collect();
            if current.len() == self.threads.len() || Instant::now() > deadline {
                return current.into_iter().map(|(_, memory)| memory).collect();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the sessions after their current step.
    pub fn finish(self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a session does not panic");
        }
    }
}

fn work_until_disconnected(client: &mut Client, work: Work, number: usize, seen: &Seen) {
    let mut measured = seen.wanted.load(Ordering::Relaxed);
    while !seen.stop.load(Ordering::Relaxed) {
        let wanted = seen.wanted.load(Ordering::Relaxed);
        if measured < wanted
            && let Ok(memory) = session_memory(client, work)
        {
            seen.measured.lock().unwrap().insert(number, (wanted, memory));
            measured = wanted;
        }
        match step(client, work, number, seen) {
            Ok(()) => {
                seen.steps.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => match error.as_db_error() {
                Some(error) if is_in_turn(error.message()) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Some(error) => {
                    seen.errors.lock().unwrap().push((work, error.into()));
                    if client.batch_execute("ROLLBACK").is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}

/// Whether a step fails because of what another session does, or because it has been done by a
/// session whose acknowledgement was lost.
fn is_in_turn(message: &str) -> bool {
    ["another session is changing ", "already exempted by "].iter().any(|m| message.starts_with(m))
}

fn session_memory(client: &mut Client, work: Work) -> Result<SessionMemory, postgres::Error> {
    let row = client.query_one(
        "SELECT pg_backend_pid(), sum(used_bytes)::int8 / 1024 FROM pg_backend_memory_contexts",
        &[],
    )?;
    let (pid, contexts): (i32, i64) = (row.get(0), row.get(1));
    Ok(SessionMemory { work, process: memory(pid, "RssAnon:"), contexts: contexts as u64 })
}

/// Returns a number that no other call has returned.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn step(
    client: &mut Client,
    work: Work,
    number: usize,
    seen: &Seen,
) -> Result<(), postgres::Error> {
    match work {
        Work::Ddl => client.batch_execute(&ddl()),
        Work::Refusals => refusal(client, seen),
        Work::Plan => {
            client.batch_execute(DAMAGE)?;
            client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)")
        }
        Work::Contract => {
            let version = seen.contract.load(Ordering::Relaxed).max(next());
            client.batch_execute(&format!(
                "SELECT * FROM ops.load_contract(jsonb_set(ops.contract(), '{{version}}',
                     '\"2.{version}.0\"'), 'round {version}')"
            ))?;
            seen.contract.fetch_max(version, Ordering::Relaxed);
            Ok(())
        }
        Work::Exempt => exempt(client, seen),
        Work::Freeze => client.batch_execute(&format!(
            "SELECT ops.freeze_schema('work{number}', '{{api,public}}', replace => true)"
        )),
        Work::Roles => client.batch_execute(&format!(
            "CREATE ROLE worker{number}; ALTER ROLE worker{number} NOINHERIT;
             GRANT USAGE ON SCHEMA work TO worker{number};
             REVOKE ALL ON SCHEMA work FROM worker{number}; DROP ROLE worker{number}"
        )),
        Work::Audit => client.batch_execute(
            "SELECT count(*) FROM ops.audit_security(); SELECT count(*) FROM ops.golden_sql();
             SELECT count(*) FROM ops.guard_status()",
        ),
        Work::Reads => client.batch_execute(
            "SELECT count(*) FROM public.judgments; SELECT count(*) FROM pg_class;
             SELECT count(*) FROM pg_views WHERE schemaname = 'work'",
        ),
    }
}

/// A transaction that creates, changes and drops; and one that leaves a table and a view, which
/// belong together.
///
/// No column has a type that needs a TOAST table: PostgreSQL remembers in a session that no type
/// has the name of that table, for each table 0.7 kB, so that the memory of a session that creates
/// tables would grow without end, with and without this extension.
fn ddl() -> String {
    let id = next();
    format!(
        "BEGIN; CREATE TABLE work.a{id} (id int); ALTER TABLE work.a{id} ADD note int;
         CREATE FUNCTION work.f{id}() RETURNS int LANGUAGE sql AS 'SELECT 1';
         DROP FUNCTION work.f{id}(); DROP TABLE work.a{id}; COMMIT;
         BEGIN; CREATE TABLE work.t{id} (id int);
         CREATE VIEW work.v{id} AS SELECT * FROM work.t{id}; COMMIT;
         BEGIN; ALTER TABLE work.t{id} ADD z int; DROP TABLE work.t{id} CASCADE; COMMIT"
    )
}

fn refusal(client: &mut Client, seen: &Seen) -> Result<(), postgres::Error> {
    let name = format!("public.refused{}()", next());
    let create =
        format!("CREATE FUNCTION {name} RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'");
    match client.batch_execute(&create) {
        Err(error) if error.code().is_some_and(|code| code.code() == "42P13") => {
            seen.refused.lock().unwrap().push(name);
            // The writer manages about 1,000 entries a second.
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => panic!("{name} was not refused"),
    }
}

fn exempt(client: &mut Client, seen: &Seen) -> Result<(), postgres::Error> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let by_object = |rule: &str, object: &str| {
        format!("SELECT ops.exempt(rule => '{rule}', object => '{object}', reason => 'x')")
    };
    let call = match turn % 3 {
        0 => "SELECT ops.exempt(fingerprint, 'x') FROM ops.audit_security()
                  WHERE rule = 'rls_not_forced' ORDER BY random() LIMIT 1"
            .to_owned(),
        1 => by_object("routine_executable_by_public", &format!("work.nothing{}", next())),
        // Many of the views that other sessions create and drop.
        _ => by_object("view_privileges", &format!("work.v*{}", turn / 3 % 20)),
    };
    if let Some(row) = client.query_opt(&call, &[])? {
        seen.exempted.lock().unwrap().push(row.get(0));
    }
    if seen.exempted.lock().unwrap().len() > 20 {
        let oldest = seen.exempted.lock().unwrap().remove(0);
        client.execute("SELECT ops.unexempt(id => $1)", &[&oldest])?;
    }
    Ok(())
}

/// Violates the contract in every table of a schema, in one transaction.
pub const DAMAGE: &str = "SET dragonfly_guard.mode = off;
    GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA intake TO anon;
    SET dragonfly_guard.mode = block";

/// The database of the contract document, and what is true of it.
#[derive(Debug)]
pub struct Guarded {
    findings: Vec<String>,
    /// What the sessions have seen.
    pub seen: Arc<Seen>,
}

/// How the entry of a rejection in the server log begins.
const REJECTED: &str = "LOG:  {\"dragonfly_guard\":\"rejected\"";

/// All findings, exempt ones included.
const FINDINGS: &str = "SELECT concat_ws(' ', fingerprint, rule, object) FROM (
        SELECT fingerprint, rule, object FROM ops.audit_security()
        UNION SELECT f->>'fingerprint', rule, f->>'object'
            FROM ops.v_exemptions, jsonb_array_elements(findings) f WHERE status = 'active'
    ) all_findings ORDER BY 1";

impl Guarded {
    /// Creates the database.
    #[must_use]
    pub fn create(cluster: &Cluster) -> Self {
        let mut client = cluster.guarded_document(DATABASE);
        client.batch_execute("CREATE SCHEMA work").expect("a schema");
        Self { findings: column(&mut client, FINDINGS), seen: Arc::default() }
    }

    /// Checks, after the fault `fault`, that nothing is half done, nothing is lost, and the guard
    /// refuses. `refusals_are_rows` tells whether a log writer writes.
    ///
    /// # Panics
    /// If something is wrong.
    pub fn check(&self, cluster: &Cluster, fault: &str, refusals_are_rows: bool) {
        let mut client = reconnect(cluster);
        Self::check_objects(&mut client, fault);
        self.check_contract(&mut client, fault);
        self.check_exemptions(&mut client, fault);
        check_guard(&mut client, fault);
        client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)").unwrap();
        assert_eq!(column(&mut client, FINDINGS), self.findings, "{fault}");
        if refusals_are_rows {
            self.check_log(&mut client, fault);
        }
        check_locks(&mut client, fault);
    }

    fn check_objects(client: &mut Client, fault: &str) {
        let grants = "SELECT DISTINCT has_table_privilege('anon', oid, 'SELECT')::text
            FROM pg_class WHERE relnamespace = 'intake'::regnamespace AND relkind = 'r'";
        assert_eq!(column(client, grants).len(), 1, "{fault}: half a plan");
        let parts = "SELECT 't' || substr(relname, 2) FROM pg_class
            WHERE relnamespace = 'work'::regnamespace GROUP BY 1 HAVING count(*) <> 2";
        assert_eq!(column(client, parts), [""; 0], "{fault}: half a transaction");
        let refused = "SELECT proname::text FROM pg_proc WHERE proname LIKE 'refused%'";
        assert_eq!(column(client, refused), [""; 0], "{fault}: a violation has passed");
        let objects = "SELECT format('DROP TABLE work.%I CASCADE', relname) FROM pg_class
            WHERE relnamespace = 'work'::regnamespace AND relkind = 'r'";
        for drop in column(client, objects) {
            client.batch_execute(&drop).unwrap();
        }
    }

    fn check_contract(&self, client: &mut Client, fault: &str) {
        let in_force = "SELECT concat(ops.contract()->>'version', ' ', (SELECT version
            FROM ops.contract_history ORDER BY id DESC LIMIT 1))";
        let versions = column(client, in_force).remove(0);
        let (contract, last) = versions.split_once(' ').unwrap();
        assert_eq!(contract, last, "{fault}: the contract is the last of its history");
        let minor: u64 = contract.split('.').nth(1).unwrap().parse().unwrap();
        let acknowledged = self.seen.contract.load(Ordering::Relaxed);
        assert!(minor >= acknowledged, "{fault}: contract 2.{acknowledged}.0 is lost: {contract}");
        let problems = "SELECT problem FROM ops.validate_contract(ops.contract())
            WHERE severity = 'error'";
        assert_eq!(column(client, problems), [""; 0], "{fault}");
    }

    fn check_exemptions(&self, client: &mut Client, fault: &str) {
        let active =
            column(client, "SELECT id::text FROM ops.v_exemptions WHERE status = 'active'");
        for id in self.seen.exempted.lock().unwrap().iter() {
            // A withdrawal whose acknowledgement was lost has removed it from the list before.
            assert!(active.contains(&id.to_string()), "{fault}: exemption {id} is lost");
        }
        client.batch_execute("SELECT * FROM ops.check_schema_consistency()").unwrap();
    }

    /// Checks that every refusal that a client has seen has an entry of its own in the server log,
    /// also where no log writer writes rows. The server has not been started again since the
    /// refusals.
    ///
    /// # Panics
    /// If an entry is missing or there are two.
    pub fn check_server_log(&self, cluster: &Cluster, fault: &str) {
        let mut entries: BTreeMap<String, u32> = BTreeMap::new();
        for line in cluster.log().lines().filter(|line| line.contains(REJECTED)) {
            let object = line.split("\"object\":\"").nth(1).and_then(|rest| rest.split('"').next());
            *entries.entry(object.unwrap_or_default().to_owned()).or_default() += 1;
        }
        let refused = self.seen.refused.lock().unwrap();
        let wrong: Vec<_> =
            refused.iter().filter(|name| entries.get(*name).copied() != Some(1)).collect();
        let (count, of) = (wrong.len(), refused.len());
        assert!(
            wrong.is_empty(),
            "{fault}: {count} of {of} refusals have not one entry: {wrong:?}"
        );
    }

    /// Every refusal that a client has seen is a row, or is counted as dropped.
    fn check_log(&self, client: &mut Client, fault: &str) {
        let refused = self.seen.refused.lock().unwrap().clone();
        let rows = "SELECT object FROM ops.v_guard_log WHERE event = 'rejected'";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let [_, waiting, dropped] = counts(client);
            let rows = column(client, rows);
            let rows: std::collections::HashSet<_> = rows.into_iter().collect();
            let missing: Vec<_> = refused.iter().filter(|name| !rows.contains(*name)).collect();
            if missing.len() <= dropped {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{fault}: {waiting} entries are waiting, {dropped} were dropped, but {} of {} \
                 refusals are missing: {missing:?}",
                missing.len(),
                refused.len()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Returns the numbers of log entries that are written, waiting and dropped.
///
/// # Panics
/// If the library is not preloaded.
#[must_use]
pub fn counts(client: &mut Client) -> [usize; 3] {
    let detail = "SELECT detail FROM ops.guard_status() WHERE component = 'log'";
    let detail = column(client, detail).remove(0);
    let number = |what: &str| {
        let before = detail.split(what).next().filter(|before| before.len() < detail.len());
        let number = before.and_then(|before| before.trim().rsplit(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("{what}: {detail}"))
    };
    [number("entries written"), number("waiting"), number("dropped")]
}

fn check_guard(client: &mut Client, fault: &str) {
    for (statement, code) in [
        ("GRANT SELECT ON intake.simplicity_raw TO anon", "0LP01"),
        (
            "CREATE FUNCTION public.refused() RETURNS int LANGUAGE sql SECURITY DEFINER
             AS 'SELECT 1'",
            "42P13",
        ),
    ] {
        // The damage that a fault has left is not a violation by this statement.
        client.batch_execute(
            "SET dragonfly_guard.mode = off; REVOKE ALL ON ALL TABLES IN SCHEMA intake FROM anon;
             SET dragonfly_guard.mode = block",
        ).unwrap();
        let refused = attempt(client, statement).expect_err(fault);
        assert_eq!(refused.code, code, "{fault}: {refused:?}");
    }
}

/// No session is at work: none may hold a lock.
fn check_locks(client: &mut Client, fault: &str) {
    let locks = "SELECT l::text FROM pg_locks l WHERE pid <> pg_backend_pid() AND pid IN
        (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend')
        OR l.pid IS NULL";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let locks = column(client, locks);
        if locks.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{fault}: locks are left: {locks:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Connects as soon as the server accepts connections.
///
/// # Panics
/// If it does not within a minute.
#[must_use]
pub fn reconnect(cluster: &Cluster) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A server that is about to restart accepts a connection and ends it.
        if let Ok(mut client) = cluster.try_connect(DATABASE, SUPERUSER)
            && client.batch_execute("SELECT 1").is_ok()
        {
            return client;
        }
        assert!(Instant::now() < deadline, "the server accepts no connections: {}", cluster.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the process of the server.
///
/// # Panics
/// If it is not running.
#[must_use]
pub fn main_process(folder: &Path) -> i32 {
    let pid = std::fs::read_to_string(folder.join("postmaster.pid")).expect("a running server");
    pid.lines().next().and_then(|pid| pid.parse().ok()).expect("a process id")
}

/// Returns the processes of the server whose titles contain `title`.
#[must_use]
pub fn children(folder: &Path, title: &str) -> Vec<i32> {
    let main = main_process(folder).to_string();
    let processes = std::fs::read_dir("/proc").expect("a list of processes");
    let number = |entry: std::io::Result<std::fs::DirEntry>| -> Option<i32> {
        entry.ok()?.file_name().to_str()?.parse().ok()
    };
    let is_child = |pid: &i32| {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        // The name of the program, in parentheses, may contain spaces; state and parent follow.
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(&main) && String::from_utf8_lossy(&read("cmdline")).contains(title)
    };
    let mut found: Vec<i32> = processes.filter_map(number).filter(is_child).collect();
    found.sort_unstable();
    found
}

/// Sends a signal to a process of a server. It may have ended already.
pub fn signal(pid: i32, signal: i32) {
    // SAFETY: sends a signal to another process.
    unsafe { libc::kill(pid, signal) };
}

/// Kills the server's main process, waits until its other processes have noticed, and returns the
/// data folder.
///
/// # Panics
/// If they do not within a minute.
#[must_use]
pub fn kill_server(cluster: Cluster) -> PathBuf {
    let others = children(cluster.folder(), "");
    signal(main_process(cluster.folder()), libc::SIGKILL);
    let deadline = Instant::now() + PATIENCE;
    for pid in others {
        while Path::new(&format!("/proc/{pid}/cwd")).exists() {
            assert!(Instant::now() < deadline, "process {pid} has not ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    cluster.stop_by("immediate")
}

/// Returns an item of /proc/PID/status in kB, such as `VmSize:` or `RssAnon:`.
#[must_use]
pub fn memory(pid: i32, item: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(item));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Limits a resource (an option of prlimit without dashes) of a process of the server.
///
/// # Panics
/// If prlimit fails.
pub fn limit(pid: i32, resource: &str, bytes: u64) {
    let limited = as_postgres(Path::new("prlimit"))
        .args([format!("--pid={pid}"), format!("--{resource}={bytes}:")])
        .status();
    assert!(limited.expect("prlimit runs").success());
}

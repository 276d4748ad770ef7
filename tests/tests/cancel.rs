//! Long calls end soon after they are cancelled, whatever they are doing, and say what they are
//! doing.

use dragonfly_tests::bench::MANY_OBJECTS;
use dragonfly_tests::workload::Random;
use dragonfly_tests::{Cluster, SUPERUSER};
use postgres::error::SqlState;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The contract is that of the application.
const CALLS: [&str; 9] = [
    "SELECT count(*) FROM ops.golden_sql()",
    "SELECT count(*) FROM ops.apply_golden_sql()",
    "SELECT ops.infer_contract('{app}')",
    "SELECT count(*) FROM ops.adopt('{app}', replace => true)",
    "SELECT ops.schema_fingerprint('{app}')",
    "SELECT ops.freeze_schema('frozen', '{app}', replace => true)",
    "SELECT count(*) FROM ops.validate_contract(ops.contract())",
    "SELECT count(*) FROM ops.audit_contract(ops.contract())",
    "SELECT count(*) FROM ops.audit_snapshot(ops.snapshot())",
];

/// How long after the timeout a call may end. It is a small part of that on an idle machine.
const LATEST: Duration = Duration::from_millis(1500);

/// How often each call is cancelled.
const ROUNDS: u64 = 4;

#[test]
fn cancelled_call_ends_soon_at_any_point() {
    let cluster = Cluster::start_with(&["autovacuum=off", "max_locks_per_transaction=512"]);
    let mut client = cluster.guarded("app");
    client.batch_execute(MANY_OBJECTS).unwrap();
    // Policies limit the clients.
    let enable = "SET dragonfly_guard.mode = off;
        DO $$ BEGIN FOR i IN 1..1500 LOOP
            EXECUTE format('ALTER TABLE app.t%s ENABLE ROW LEVEL SECURITY', i);
        END LOOP; END $$;
        SET dragonfly_guard.mode = block";
    client.batch_execute(enable).unwrap();
    let load = "SET client_min_messages = error;
        SELECT ops.load_contract(ops.infer_contract('{app}'))";
    client.batch_execute(load).unwrap();
    let mut random = Random::seeded("cancelled_call_ends_soon_at_any_point");
    for call in CALLS {
        // The changes are rolled back.
        let run = |client: &mut postgres::Client, timeout: u64| {
            let sql = format!("BEGIN; SET LOCAL statement_timeout = {timeout}");
            client.batch_execute(&sql).unwrap();
            let start = Instant::now();
            let outcome = client.batch_execute(call);
            let took = start.elapsed();
            client.batch_execute("ROLLBACK").unwrap();
            (outcome, took)
        };
        let (outcome, whole) = run(&mut client, 0);
        outcome.unwrap();
        for _ in 0..ROUNDS {
            let timeout = 1 + random.below(whole.as_millis().max(1) as u64);
            let (outcome, took) = run(&mut client, timeout);
            let Err(error) = outcome else { continue };
            assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{call}: {error}");
            let late = took.saturating_sub(Duration::from_millis(timeout));
            println!("{late:?} after {timeout} of {} ms: {call}", whole.as_millis());
            assert!(late < LATEST, "{call} ended {late:?} after {timeout} ms");
        }
    }
}

#[test]
fn long_call_reports_its_progress_and_a_short_one_does_not() {
    let cluster = Cluster::start();
    let routines = "SET dragonfly_guard.mode = off;
        DO $$ BEGIN FOR i IN 1..20 LOOP
            EXECUTE format('CREATE FUNCTION public.f%s() RETURNS int LANGUAGE sql SECURITY DEFINER
                AS ''SELECT 1''', i);
        END LOOP; END $$;
        CREATE FUNCTION public.waits() RETURNS event_trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.2); END';
        CREATE EVENT TRIGGER waits ON ddl_command_end
            WHEN TAG IN ('ALTER ROUTINE', 'ALTER FUNCTION')
            EXECUTE FUNCTION public.waits()";
    cluster.guarded("app").batch_execute(routines).unwrap();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let mut config = postgres::Config::new();
    config.host_path(cluster.folder()).user(SUPERUSER).dbname("app");
    config.notice_callback(move |notice| heard.lock().unwrap().push(notice.message().to_owned()));
    let mut client = config.connect(postgres::NoTls).unwrap();
    let mut progress_of = |call: &str| -> Vec<String> {
        notices.lock().unwrap().clear();
        client.batch_execute(call).unwrap();
        let all = notices.lock().unwrap();
        all.iter().filter(|message| message.contains(": step ")).cloned().collect()
    };
    assert_eq!(progress_of("SELECT ops.schema_fingerprint('{public}')"), [""; 0]);
    let progress = progress_of(
        "SELECT * FROM ops.apply_golden_sql(rules => '{security_definer_search_path}')",
    );
    let expected = "applying the plan: step 5 of 6, executing the statements: ";
    assert!(!progress.is_empty() && progress.len() <= 4, "{progress:?}");
    let parts = progress[0].strip_prefix(expected).and_then(|of| of.strip_suffix(" of 20"));
    let done: Option<u32> = parts.and_then(|done| done.parse().ok());
    assert!(done.is_some_and(|done| (2..=20).contains(&done)), "{progress:?}");
}

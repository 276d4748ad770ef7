//! Memory that runs out ends a statement, at worst its session, and never the server.

use dragonfly_tests::bench::MANY_OBJECTS;
use dragonfly_tests::{Cluster, SUPERUSER, as_postgres, column};
use postgres::Client;
use std::path::Path;

const CALLS: [&str; 10] = [
    "SELECT count(*)::text FROM ops.audit_contract(ops.infer_contract('{app}'))",
    "SELECT count(*)::text FROM ops.audit_security()",
    "SELECT count(*)::text FROM ops.golden_sql()",
    "SELECT length(ops.infer_contract('{app}')::text)::text",
    "SELECT length(ops.schema_snapshot('{app}')::text)::text",
    "SELECT ops.schema_fingerprint('{app}')",
    "SELECT ops.freeze_schema('frozen', '{app}')",
    "SELECT count(*)::text FROM ops.doctor()",
    "BEGIN; CREATE SCHEMA more; GRANT CREATE ON SCHEMA app TO reader; COMMIT",
    "SELECT count(*)::text FROM ops.validate_contract(jsonb_build_object('schemas', (SELECT
        jsonb_agg(jsonb_build_object('name', 's' || i)) FROM generate_series(1, 100000) i)))",
];

/// Returns the address space of a process in bytes.
fn address_space(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Limits the address space of a process of the server.
fn limit(pid: i32, bytes: u64) {
    let limited = as_postgres(Path::new("prlimit"))
        .args([format!("--pid={pid}"), format!("--as={bytes}:")])
        .status();
    assert!(limited.expect("prlimit runs").success());
}

/// Runs a statement in a session with `spare` bytes of memory left. Returns the SQLSTATE of its
/// error.
fn within(cluster: &Cluster, call: &str, spare: u64) -> Option<String> {
    let mut client: Client = cluster.connect("small", SUPERUSER);
    // The library and the caches of the catalogs are loaded.
    client.batch_execute("SELECT count(*) FROM ops.security_rules()").unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    limit(pid, address_space(pid) + spare);
    let outcome = client.batch_execute(call);
    let error = outcome.err()?;
    let code = error.code().map(|code| code.code().to_owned());
    Some(code.unwrap_or_else(|| "the session has ended".to_owned()))
}

#[test]
fn statement_without_memory_ends_with_an_error_and_the_server_goes_on() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let mut client = cluster.guarded("small");
    client.batch_execute(MANY_OBJECTS).unwrap();
    let started = column(&mut client, "SELECT pg_postmaster_start_time()::text");
    let mut failed = 0;
    for call in CALLS {
        for spare in [0, 256 << 10, 1 << 20, 3 << 20, 8 << 20, 20 << 20, 40 << 20] {
            let code = within(&cluster, call, spare);
            failed += usize::from(code.is_some());
            let is_allowed = code.as_deref().is_none_or(|code| code == "53200");
            assert!(is_allowed, "{call}, {spare}: {code:?}\n{}", cluster.log());
        }
    }
    assert!(failed > CALLS.len(), "{failed} calls ran out of memory");
    // The session that was connected all the time still is.
    assert_eq!(column(&mut client, "SELECT pg_postmaster_start_time()::text"), started);
    let log = cluster.log();
    assert!(!log.contains("terminated by signal") && !log.contains("PANIC"), "{log}");
    for call in &CALLS[..3] {
        client.batch_execute(call).unwrap();
    }
}

/// Returns the maximum of memory that a process has had, and what it has of its own now, in MB.
fn used(pid: i32) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmHWM:", "RssAnon:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    })
}

#[test]
fn memory_of_a_large_contract_is_bounded_and_returned() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("large");
    client
        .batch_execute(
            "CREATE TABLE public.document AS SELECT count, ops.contract() || jsonb_build_object(
                'schemas', ops.contract()->'schemas' || (SELECT jsonb_agg(jsonb_build_object(
                    'name', 's' || i)) FROM generate_series(1, count) i)) AS contract
                FROM unnest('{140000, 200000}'::int[]) count",
        )
        .unwrap();
    let of = |count| format!("(SELECT contract FROM public.document WHERE count = {count})");
    let too_many = format!("SELECT problem FROM ops.validate_contract({})", of(200_000));
    let problems = column(&mut client, &too_many);
    assert!(problems[0].contains("JSON objects"), "{problems:?}");
    for function in ["ops.validate_contract", "ops.audit_contract"] {
        let mut session = cluster.connect("large", SUPERUSER);
        let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        let call = format!("SELECT count(*) FROM {function}({})", of(140_000));
        session.batch_execute(&call).unwrap();
        let [most, now] = used(pid);
        assert!(most < 500 && now < 40, "{function}: {most} MB, {now} MB afterwards");
    }
}

#[test]
fn caches_of_the_server_are_small_after_calls_that_look_at_every_object() {
    let cluster = Cluster::start();
    cluster.guarded("many").batch_execute(MANY_OBJECTS).unwrap();
    let used = "SELECT sum(total_bytes - free_bytes)::int8 >> 20 FROM pg_backend_memory_contexts";
    for call in [
        "SELECT ops.schema_fingerprint('{app}')",
        "SELECT ops.freeze_schema('frozen', '{app}')",
        "SELECT ops.infer_contract('{app}')",
    ] {
        let mut session = cluster.connect("many", SUPERUSER);
        let size = |session: &mut Client| -> i64 { session.query_one(used, &[]).unwrap().get(0) };
        session.batch_execute("SELECT count(*) FROM ops.security_rules()").unwrap();
        let before = size(&mut session);
        session.batch_execute(call).unwrap();
        let after = size(&mut session);
        assert!(after <= before + 10, "{call}: {before} MB before, {after} MB after");
    }
}

//! What audit and guard cost, measured beside what PostgreSQL itself needs, in one run: medians and
//! ratios, for the machine is shared.

use dragonfly_tests::{Cluster, SUPERUSER, project};
use postgres::Client;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(client: &mut Client, sql: &str) -> Duration {
    let start = Instant::now();
    client.batch_execute(sql).unwrap();
    start.elapsed()
}

fn catalog(cluster: &Cluster, database: &str, sizes: [&str; 4]) -> Client {
    cluster
        .connect("postgres", SUPERUSER)
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .unwrap();
    let file = project().join("tests/bench/gen_catalog.sql");
    let [schemas, tables, functions, roles] = sizes;
    let settings = [
        format!("n_schemas={schemas}"),
        format!("n_tables={tables}"),
        format!("n_funcs={functions}"),
        format!("n_roles={roles}"),
    ];
    let mut arguments = vec!["-X", "-q", "-d", database, "-f", file.to_str().unwrap()];
    arguments.extend(settings.iter().flat_map(|setting| ["-v", setting]));
    let output = cluster.client_program("psql", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = cluster.connect(database, SUPERUSER);
    client
        .batch_execute("SET client_min_messages = error; CREATE EXTENSION dragonfly_guard; RESET client_min_messages")
        .unwrap();
    client
}

#[test]
fn ten_thousand_routines() {
    let cluster = Cluster::start_with(&["max_locks_per_transaction=1024", "shared_buffers=256MB"]);
    let mut small = catalog(&cluster, "small", ["5", "300", "500", "10"]);
    let mut medium = catalog(&cluster, "medium", ["20", "5000", "10000", "100"]);

    // Every tenth routine breaks the rule in each of four ways; gen_catalog.sql says so at its
    // head.
    let found: i64 = medium
        .query_one(
            "SELECT count(*) FROM ops.audit_security(rules => '{security_definer_search_path}') WHERE severity = 'error'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(found, 4_000);

    let floor_sql = std::fs::read_to_string(project().join("tests/bench/floor.sql")).unwrap();
    let (mut floor, mut audit) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        floor.push(timed(&mut medium, &floor_sql));
        audit.push(timed(&mut medium, "SELECT count(*) FROM ops.audit_security()"));
    }
    let (floor, audit) = (median(floor), median(audit));
    let ratio = audit.as_secs_f64() / floor.as_secs_f64();
    println!("audit of 10k routines and 5k tables: {audit:?}, floor {floor:?}, ratio {ratio:.1}");
    assert!(ratio < 5.0, "the audit takes {ratio:.1} times the floor");

    let hash = "SELECT ops.schema_fingerprint(ARRAY(SELECT nspname FROM pg_namespace WHERE nspname LIKE 'app%'))";
    let hashing = median((0..5).map(|_| timed(&mut medium, hash)).collect());
    println!("fingerprint of the same: {hashing:?}");
    assert!(hashing < audit * 10, "a fingerprint takes {hashing:?}, an audit {audit:?}");

    // CREATE FUNCTION costs the same, whatever the size of the catalog.
    let create = "CREATE OR REPLACE FUNCTION app_0.f_0(a int, b text) RETURNS int LANGUAGE sql SECURITY DEFINER
        SET search_path = public, pg_temp AS 'SELECT 1'";
    let (mut in_small, mut in_medium, mut unguarded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..60 {
        in_small.push(timed(&mut small, create));
        in_medium.push(timed(&mut medium, create));
    }
    medium.batch_execute("DROP EXTENSION dragonfly_guard").unwrap();
    for _ in 0..60 {
        unguarded.push(timed(&mut medium, create));
    }
    let (in_small, in_medium, unguarded) = (median(in_small), median(in_medium), median(unguarded));
    println!(
        "CREATE FUNCTION: {in_small:?} with 500 routines, {in_medium:?} with 10k, {unguarded:?} without the guard"
    );
    assert!(in_medium < in_small * 2, "{in_medium:?} with 10k routines, {in_small:?} with 500");
}

/// What each kind of statement costs with the guard and without, in a database of a hundred
/// routines and in one of a hundred thousand. Takes minutes: `scripts/test --test speed --
/// --ignored --nocapture`. The figures in docs/performance.md are its.
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_routines() {
    let cluster = Cluster::start_with(&["max_locks_per_transaction=1024", "shared_buffers=512MB"]);
    let mut databases = [
        ("100 routines", catalog(&cluster, "small", ["5", "100", "100", "10"])),
        ("100,000 routines", catalog(&cluster, "large", ["20", "5000", "100000", "100"])),
        ("100 routines, unguarded", catalog(&cluster, "free", ["5", "100", "100", "10"])),
    ];
    databases[2].1.batch_execute("DROP EXTENSION dragonfly_guard; CREATE ROLE nobody").unwrap();
    for (_, client) in &mut databases {
        client
            .batch_execute("CREATE SCHEMA bench; CREATE TABLE bench.t (id int); CREATE TABLE public.governed (id int)")
            .unwrap();
    }
    for (what, sql) in [
        ("COMMENT", "COMMENT ON TABLE bench.t IS 'x'"),
        ("CREATE TEMP TABLE, DROP", "CREATE TEMP TABLE tt (id int); DROP TABLE tt"),
        ("CREATE INDEX, DROP", "CREATE INDEX i ON bench.t (id); DROP INDEX bench.i"),
        ("CREATE TABLE, DROP", "CREATE TABLE public.made (id int); DROP TABLE public.made"),
        (
            "CREATE FUNCTION, invoker",
            "CREATE OR REPLACE FUNCTION bench.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ),
        (
            "CREATE FUNCTION, definer",
            "CREATE OR REPLACE FUNCTION bench.g() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
        ),
        (
            "GRANT on a table, REVOKE",
            "GRANT SELECT ON public.governed TO nobody; REVOKE SELECT ON public.governed FROM nobody",
        ),
        (
            "GRANT on a schema, REVOKE",
            "GRANT USAGE ON SCHEMA bench TO nobody; REVOKE USAGE ON SCHEMA bench FROM nobody",
        ),
    ] {
        let mut times = [vec![], vec![], vec![]];
        // In blocks, each database at each place in the order once, for one disturbs the next.
        for round in 0..6 {
            for place in 0..3 {
                let i = (place + round) % 3;
                times[i].extend((0..10).map(|_| timed(&mut databases[i].1, sql)));
            }
        }
        let figures: Vec<String> = times
            .into_iter()
            .zip(&databases)
            .map(|(times, (name, _))| {
                format!("{:.2} ms ({name})", median(times).as_secs_f64() * 1e3)
            })
            .collect();
        println!("{what}: {}", figures.join(", "));
    }
}

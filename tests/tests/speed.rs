//! The run time of audit and guard, compared with that of PostgreSQL itself in the same run:
//! medians and ratios, because the machine may run other programs.

use dragonfly_tests::{Cluster, SUPERUSER, project};
use postgres::Client;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Executes SQL and returns the time that it took.
fn timed(client: &mut Client, sql: &str) -> Duration {
    let start = Instant::now();
    client.batch_execute(sql).unwrap();
    start.elapsed()
}

/// The size of a generated catalog.
struct Size {
    schemas: u32,
    tables: u32,
    functions: u32,
    roles: u32,
}

impl Size {
    const fn new(schemas: u32, tables: u32, functions: u32, roles: u32) -> Self {
        Self { schemas, tables, functions, roles }
    }
}

/// Creates a database with a generated catalog and the extension, and connects to it.
fn catalog(cluster: &Cluster, database: &str, size: &Size) -> Client {
    cluster
        .connect("postgres", SUPERUSER)
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .unwrap();
    let file = project().join("tests/bench/gen_catalog.sql");
    let Size { schemas, tables, functions, roles } = size;
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
        .batch_execute(
            "SET client_min_messages = error; CREATE EXTENSION dragonfly_guard;
             RESET client_min_messages",
        )
        .unwrap();
    client
}

#[test]
fn audit_and_guard_of_ten_thousand_routines_are_fast() {
    // Autovacuum of the new catalogs would run beside what is measured.
    let cluster = Cluster::start_with(&[
        "max_locks_per_transaction=1024",
        "shared_buffers=256MB",
        "autovacuum=off",
    ]);
    let mut small = catalog(&cluster, "small", &Size::new(5, 300, 500, 10));
    let mut medium = catalog(&cluster, "medium", &Size::new(20, 5_000, 10_000, 100));

    // A tenth of the routines violates the rule in each of four ways (see gen_catalog.sql).
    let found: i64 = medium
        .query_one(
            "SELECT count(*) FROM ops.audit_security(rules => '{security_definer_search_path}')
             WHERE severity = 'error'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(found, 4_000);
    // Evidence with up to 500 elements in a list is stored as the server stores it.
    let differs = "SELECT count(*) FROM ops.audit_security()
        WHERE evidence <> evidence::text::jsonb
           OR jsonb_hash(evidence) <> jsonb_hash(evidence::text::jsonb)";
    assert_eq!(medium.query_one(differs, &[]).unwrap().get::<_, i64>(0), 0);

    let floor_sql = std::fs::read_to_string(project().join("tests/bench/floor.sql")).unwrap();
    // Each audit is compared with the floor of its own moment: other work slows both.
    let (mut floor, mut audit, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..25 {
        floor.push(timed(&mut medium, &floor_sql));
        audit.push(timed(&mut medium, "SELECT count(*) FROM ops.audit_security()"));
        ratios.push(audit[audit.len() - 1].as_secs_f64() / floor[floor.len() - 1].as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let (floor, audit, ratio) = (median(floor), median(audit), ratios[ratios.len() / 2]);
    println!("audit of 10k routines and 5k tables: {audit:?}, floor {floor:?}, ratio {ratio:.1}");
    // It also reads what policies, views and constraints use, and the bodies of 4,000 routines.
    assert!(ratio < 7.5, "the audit takes {ratio:.1} times the floor");

    let hash = "SELECT ops.schema_fingerprint(
        ARRAY(SELECT nspname FROM pg_namespace WHERE nspname LIKE 'app%'))";
    let hashing = median((0..5).map(|_| timed(&mut medium, hash)).collect());
    println!("fingerprint of the same catalog: {hashing:?}");
    assert!(hashing < audit * 10, "a fingerprint takes {hashing:?}, an audit {audit:?}");

    // The run time of CREATE FUNCTION does not depend on the size of the catalog.
    let create = "CREATE OR REPLACE FUNCTION app_0.f_0(a int, b text) RETURNS int LANGUAGE sql
        SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'";
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
        "CREATE FUNCTION: {in_small:?} with 500 routines, {in_medium:?} with 10k, {unguarded:?} \
         without the guard"
    );
    assert!(in_medium < in_small * 2, "{in_medium:?} with 10k routines, {in_small:?} with 500");
}

/// Creates schemas with a SECURITY DEFINER routine each in one transaction, which is rolled back,
/// and returns the time that one of them took.
fn provisioning(client: &mut Client, schemas: u32) -> Duration {
    let each = "CREATE SCHEMA made_%1$s; CREATE FUNCTION made_%1$s.f() RETURNS int LANGUAGE sql
        SECURITY DEFINER SET search_path = made_%1$s, pg_temp AS ''SELECT 1''";
    let block = format!(
        "DO $$ BEGIN FOR i IN 1..{schemas} LOOP EXECUTE format('{each}', i); END LOOP; END $$"
    );
    client.batch_execute("BEGIN").unwrap();
    let time = timed(client, &block);
    client.batch_execute("ROLLBACK").unwrap();
    time / schemas
}

#[test]
fn cost_of_a_statement_does_not_depend_on_the_schemas_that_earlier_ones_created() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("provisioning");
    provisioning(&mut client, 20);
    let mut growth: Vec<f64> = (0..5)
        .map(|_| {
            let few = provisioning(&mut client, 100);
            let many = provisioning(&mut client, 400);
            println!("schema with a routine: {few:?} with 100, {many:?} with 400");
            many.as_secs_f64() / few.as_secs_f64()
        })
        .collect();
    growth.sort_by(f64::total_cmp);
    // Reading the changed schemas again for each statement would make it four.
    assert!(growth[2] < 2.0, "{growth:?}");
}

/// The statements whose run time is printed, with their names.
const STATEMENTS: [(&str, &str); 8] = [
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
        "CREATE OR REPLACE FUNCTION bench.g() RETURNS int LANGUAGE sql SECURITY DEFINER
            SET search_path = public, pg_temp AS 'SELECT 1'",
    ),
    (
        "GRANT on a table, REVOKE",
        "GRANT SELECT ON public.governed TO grantee;
         REVOKE SELECT ON public.governed FROM grantee",
    ),
    (
        "GRANT on a schema, REVOKE",
        "GRANT USAGE ON SCHEMA bench TO grantee; REVOKE USAGE ON SCHEMA bench FROM grantee",
    ),
];

/// Prints the run time of each kind of statement with and without the guard, in databases with a
/// hundred and a hundred thousand routines. Takes minutes: `scripts/test --test speed -- --ignored
/// --nocapture`. The figures in docs/performance.md are from this test.
#[test]
#[ignore = "takes minutes"]
fn print_run_times_of_statements() {
    let cluster = Cluster::start_with(&["max_locks_per_transaction=1024", "shared_buffers=512MB"]);
    let mut databases = [
        ("100 routines", catalog(&cluster, "small", &Size::new(5, 100, 100, 10))),
        ("100,000 routines", catalog(&cluster, "large", &Size::new(20, 5_000, 100_000, 100))),
        ("100 routines, unguarded", catalog(&cluster, "unguarded", &Size::new(5, 100, 100, 10))),
    ];
    databases[2].1.batch_execute("DROP EXTENSION dragonfly_guard; CREATE ROLE grantee").unwrap();
    for (_, client) in &mut databases {
        client
            .batch_execute(
                "CREATE SCHEMA bench; CREATE TABLE bench.t (id int);
                 CREATE TABLE public.governed (id int)",
            )
            .unwrap();
    }
    for (what, sql) in STATEMENTS {
        let mut times = [vec![], vec![], vec![]];
        // In blocks, with each database at each position, because a block may affect the next one.
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

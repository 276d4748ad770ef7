//! The run time of audit and guard, compared with that of PostgreSQL itself in the same run:
//! medians and ratios, because the machine may run other programs.

use dragonfly_tests::bench::{
    ONE_PROCESS, Size, Work, bench_sql, cpu_time, create_extension, measure, median, median_time,
    timed,
};
use dragonfly_tests::{Cluster, SUPERUSER};
use postgres::Client;
use std::time::Duration;

/// Creates a database with a generated catalog and the extension, and connects to it.
fn catalog(cluster: &Cluster, size: &Size) -> Client {
    size.generate(cluster, size.name);
    cluster.psql_file(size.name, "bench/little.sql");
    let mut client = cluster.connect(size.name, SUPERUSER);
    create_extension(&mut client);
    client
}

/// Returns the CPU time of SQL in a database as a work.
fn cpu<'a>(cluster: &Cluster, database: &str, sql: impl Into<String>) -> Work<'a> {
    let sql = sql.into();
    let mut client = cluster.connect(database, SUPERUSER);
    client.batch_execute(ONE_PROCESS).unwrap();
    Work::new(sql.clone(), move || cpu_time(&mut client, &sql))
}

/// The number of rounds.
const ROUNDS: usize = 9;

/// An audit and the SQL that reads what it must read; the most that the first may take of the
/// second. The margins are wide: other programs slow down what uses more memory more.
struct Limit {
    audit: &'static str,
    floor: &'static str,
    most: f64,
}

const WHOLE: Limit =
    Limit { audit: "SELECT count(*) FROM ops.audit_security()", floor: "floor.sql", most: 10.0 };

const ONE_SCHEMA: Limit = Limit {
    audit: "SELECT count(*) FROM ops.audit_security(schemas => '{little}')",
    floor: "floor_schema.sql",
    most: 40.0,
};

const ASSERTION: Limit =
    Limit { audit: "SELECT ops.assert_security()", floor: "floor.sql", most: 7.0 };

impl Limit {
    /// Returns the ratio in a database. Fails where it is too high.
    fn check(&self, cluster: &Cluster, database: &str) -> f64 {
        let floor = cpu(cluster, database, bench_sql(self.floor));
        let mut works = [floor, cpu(cluster, database, self.audit)];
        measure(&mut works, ROUNDS);
        let [floor, audit] = works;
        let ratio = audit.ratio(&floor);
        println!(
            "{database}: {}: {:.1} ms, {ratio:.1} times {}",
            self.audit,
            audit.milliseconds(),
            self.floor
        );
        assert!(ratio < self.most, "{}: {ratio:.1} times {}", self.audit, self.floor);
        ratio
    }
}

#[test]
fn audit_and_guard_of_ten_thousand_routines_are_fast() {
    let cluster = Size::MEDIUM.cluster();
    let mut small = catalog(&cluster, &Size::SMALL);
    let mut medium = catalog(&cluster, &Size::MEDIUM);

    // A tenth of the routines violates the rule in each of four ways (see gen_catalog.sql), and two
    // of schema little do.
    let found: i64 = medium
        .query_one(
            "SELECT count(*) FROM ops.audit_security(rules => '{security_definer_search_path}')
             WHERE severity = 'error'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(found, 4_002);
    // Evidence with up to 500 elements in a list is stored as the server stores it.
    let differs = "SELECT count(*) FROM ops.audit_security()
        WHERE evidence <> evidence::text::jsonb
           OR jsonb_hash(evidence) <> jsonb_hash(evidence::text::jsonb)";
    assert_eq!(medium.query_one(differs, &[]).unwrap().get::<_, i64>(0), 0);

    // The cost is linear: twenty times the objects do not make each of them more expensive. A
    // quadratic audit would take twenty times as long.
    let [of_few, of_many] = ["small", "medium"].map(|name| {
        let most = if name == "small" { f64::INFINITY } else { WHOLE.most };
        Limit { most, ..WHOLE }.check(&cluster, name)
    });
    assert!(of_many < of_few * 2.0, "{of_few:.1} times the floor for few, {of_many:.1} for many");
    ONE_SCHEMA.check(&cluster, "medium");

    let hash = "SELECT ops.schema_fingerprint(
        ARRAY(SELECT nspname FROM pg_namespace WHERE nspname LIKE 'app%'))";
    let floor = cpu(&cluster, "medium", bench_sql(WHOLE.floor));
    let mut works = [floor, cpu(&cluster, "medium", hash)];
    measure(&mut works, 3);
    let ratio = works[1].ratio(&works[0]);
    println!("fingerprint of the same catalog: {ratio:.1} times the floor");
    assert!(ratio < 80.0, "a fingerprint takes {ratio:.1} times the floor");

    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE ROLE postgres").unwrap();
    cluster.psql_file("medium", "bench/contract.sql");
    cluster.psql_file("medium", "bench/clean.sql");
    ASSERTION.check(&cluster, "medium");

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
    let [in_small, in_medium, unguarded] = [in_small, in_medium, unguarded].map(median_time);
    println!(
        "CREATE FUNCTION: {in_small:?} with 500 routines, {in_medium:?} with 10k, {unguarded:?} \
         without the guard"
    );
    assert!(in_medium < in_small * 2, "{in_medium:?} with 10k routines, {in_small:?} with 500");
}

/// Creates schemas with a SECURITY DEFINER routine each in one transaction, which is rolled back,
/// and returns the CPU time that one of them took.
fn provisioning(client: &mut Client, schemas: u32) -> Duration {
    let each = "CREATE SCHEMA made_%1$s; CREATE FUNCTION made_%1$s.f() RETURNS int LANGUAGE sql
        SECURITY DEFINER SET search_path = made_%1$s, pg_temp AS ''SELECT 1''";
    let block = format!(
        "DO $$ BEGIN FOR i IN 1..{schemas} LOOP EXECUTE format('{each}', i); END LOOP; END $$"
    );
    client.batch_execute("BEGIN").unwrap();
    let time = cpu_time(client, &block);
    client.batch_execute("ROLLBACK").unwrap();
    time / schemas
}

#[test]
fn cost_of_a_statement_does_not_depend_on_the_schemas_that_earlier_ones_created() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("provisioning");
    provisioning(&mut client, 20);
    let growth: Vec<f64> = (0..5)
        .map(|_| {
            let few = provisioning(&mut client, 100);
            let many = provisioning(&mut client, 400);
            println!("schema with a routine: {few:?} with 100, {many:?} with 400");
            many.as_secs_f64() / few.as_secs_f64()
        })
        .collect();
    // Reading the changed schemas again for each statement would make it four.
    assert!(median(growth.clone()) < 2.0, "{growth:?}");
}

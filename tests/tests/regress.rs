//! Runs the pg_regress suites of tests/pg_regress.

use dragonfly_tests::{Cluster, SUPERUSER, pg_config, program, project};
use std::process::Command;

fn run_suite(name: &str) {
    // Debian installs pg_regress with the files for building extensions.
    let pgxs = pg_config("--pgxs");
    let pg_regress = pgxs.with_file_name("../test/regress/pg_regress");
    if !pg_regress.exists() {
        eprintln!("skipped: this PostgreSQL has no pg_regress");
        return;
    }
    let cluster = Cluster::start();
    let folder = project().join("tests/pg_regress");
    let output =
        std::env::temp_dir().join(format!("dragonfly_regress_{}_{name}", std::process::id()));
    // pg_regress 15 searches for expected results beside the actual ones, 16 and later beside the
    // input.
    std::fs::create_dir_all(output.join("expected")).unwrap();
    let expected = format!("expected/{name}.out");
    std::fs::copy(folder.join(&expected), output.join(&expected)).unwrap();
    let run = Command::new(pg_regress)
        .arg(format!("--inputdir={}", folder.display()))
        .arg(format!("--outputdir={}", output.display()))
        .arg(format!("--bindir={}", program("").display()))
        .arg(format!("--host={}", cluster.folder().display()))
        .arg(format!("--user={SUPERUSER}"))
        .args(["--port=5432", "--dbname=regression", name])
        .env("PGDATABASE", "postgres")
        .output()
        .expect("pg_regress runs");
    let diffs = std::fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
    assert!(
        run.status.success(),
        "{}\n{}\n{diffs}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    let _ = std::fs::remove_dir_all(&output);
}

#[test]
fn migration() {
    run_suite("migration");
}

#[test]
fn attack() {
    run_suite("attack");
}

#[test]
fn readers() {
    run_suite("readers");
}

#[test]
fn contract() {
    run_suite("contract");
}

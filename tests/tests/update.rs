//! ALTER EXTENSION UPDATE. Versions before and after the current one exist in these tests only:
//! their installation scripts are the current one with changes, and the scripts between them are
//! written as those of a release are.

use dragonfly_tests::history::{assert_restored_and_guarded, database_with_history_since};
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, project, provide_script, wait_for};
use postgres::Client;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CURRENT: &str = env!("CARGO_PKG_VERSION");
const EARLIER: &str = "0.9.0-test";
const LATER: &str = "99.0.0-test";

const UNSAFE: &str =
    "CREATE FUNCTION api.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

fn read(file: &str) -> String {
    std::fs::read_to_string(project().join(file)).expect("a file of the project")
}

/// Returns the part of `script` from `start` to the end of the first statement with `last`.
fn part<'s>(script: &'s str, start: &str, last: &str) -> &'s str {
    let from = script.find(start).unwrap_or_else(|| panic!("the script has no {start}"));
    let text = &script[from..];
    let end = text.find(last).and_then(|at| Some(at + text[at..].find(";\n")? + 2));
    &text[..end.unwrap_or_else(|| panic!("the script has no {last}"))]
}

/// Replaces the only `old` in `script`.
fn replace(script: &str, old: &str, new: &str) -> String {
    assert_eq!(script.matches(old).count(), 1, "{old}");
    script.replace(old, new)
}

/// Installs the scripts of both other versions.
fn provide_versions() {
    let current = read(&format!("sql/dragonfly_guard--{CURRENT}.sql"));
    let consistency = part(
        &current,
        "CREATE FUNCTION ops.assert_consistency()",
        "COMMENT ON FUNCTION ops.assert_consistency()",
    );

    // The later one has more objects and lacks one.
    let update = read("tests/fixtures/next_version.sql");
    let column = part(&update, "COMMENT ON COLUMN dragonfly_guard.exemption.ticket", "ticket");
    let added = part(&update, "CREATE TABLE dragonfly_guard.remark", "ops.contract_again() IS");
    let later = replace(&current, consistency, "");
    let later = replace(
        &later,
        "  role_name    pg_catalog.name\n);\n",
        &format!("  role_name    pg_catalog.name,\n  ticket pg_catalog.text\n);\n{column}"),
    );
    let later = replace(&later, "STABLE ROWS 7 AS", "STABLE ROWS 8 AS");
    let later = replace(&later, "checks what a command has changed.", "checks each command.");
    let privileges =
        "\n---------------------------------------------------------------- privileges";
    let later = replace(&later, privileges, &format!("{added}{privileges}"));
    provide_script("dragonfly_guard", LATER, &later);
    provide_script("dragonfly_guard", &format!("{CURRENT}--{LATER}"), &update);

    // The earlier one lacks a function and a view, and has another number of rows.
    let log = part(&current, "CREATE VIEW ops.v_guard_log", "COMMENT ON VIEW ops.v_guard_log");
    let earlier = replace(&replace(&current, consistency, ""), log, "");
    let earlier = replace(&earlier, "STABLE ROWS 7 AS", "STABLE ROWS 6 AS");
    provide_script("dragonfly_guard", EARLIER, &earlier);
    let privileges = part(&update, "-- PUBLIC has no privileges.", "END\n$privileges$")
        .replace("ops.contract_again()", "ops.assert_consistency()")
        .replace("dragonfly_guard.remark, ops.v_remarks", "ops.v_guard_log")
        .replace("ops.v_remarks", "ops.v_guard_log");
    let status = part(&update, "CREATE OR REPLACE FUNCTION ops.guard_status()", "ops_guard_status")
        .replace("ROWS 8", "ROWS 7");
    let update = [consistency, log, &status, &privileges].concat();
    provide_script("dragonfly_guard", &format!("{EARLIER}--{CURRENT}"), &update);
}

/// Installs the scripts of the released versions before the current one, and returns the versions.
fn provide_released() -> Vec<String> {
    let files = std::fs::read_dir(project().join("sql")).unwrap();
    let names = files.filter_map(|file| file.unwrap().file_name().into_string().ok());
    let is_script = |name: &String| name.starts_with("dragonfly_guard--");
    let versions = names.filter(is_script).filter_map(|name| {
        let version = name.strip_prefix("dragonfly_guard--")?.strip_suffix(".sql")?.to_owned();
        provide_script("dragonfly_guard", &version, &read(&format!("sql/{name}")));
        (version != CURRENT && !version.contains("--")).then_some(version)
    });
    versions.collect()
}

/// Returns the statements that create a version of the extension. A session with another library
/// may do that only with the guard off.
fn create(version: &str) -> String {
    format!(
        "SET dragonfly_guard.mode = off; CREATE EXTENSION dragonfly_guard VERSION '{version}'; \
         RESET dragonfly_guard.mode"
    )
}

/// Creates a database with a version of the extension.
fn created(cluster: &Cluster, database: &str, version: &str) -> Client {
    let admin = &mut cluster.connect("postgres", SUPERUSER);
    admin.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
    cluster.connect(database, SUPERUSER).batch_execute(&create(version)).unwrap();
    cluster.connect(database, SUPERUSER)
}

fn roles(cluster: &Cluster) {
    let sql = "CREATE ROLE service_role; CREATE ROLE postgres CREATEROLE CREATEDB LOGIN";
    cluster.connect("postgres", SUPERUSER).batch_execute(sql).unwrap();
}

#[test]
fn updated_extension_equals_a_created_one() {
    provide_versions();
    let catalog = read("tests/fixtures/extension_catalog.sql");
    let cluster = Cluster::start();
    roles(&cluster);
    let released = provide_released();
    let released = released.iter().map(|version| (version.as_str(), CURRENT));
    let pairs = released.chain([(EARLIER, CURRENT), (CURRENT, LATER)]);
    for (number, (from, to)) in pairs.enumerate() {
        let expected = column(&mut created(&cluster, &format!("created{number}"), to), &catalog);
        let mut client = created(&cluster, &format!("updated{number}"), from);
        let before = column(&mut client, &catalog);
        // Only a session with the later library may update.
        let mode = if to == LATER { "off" } else { "block" };
        client
            .batch_execute(&format!(
                "SET dragonfly_guard.mode = {mode}; ALTER EXTENSION dragonfly_guard UPDATE \
                 TO '{to}'"
            ))
            .unwrap();
        let after = column(&mut client, &catalog);
        assert_ne!(before, after);
        let differing = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).cloned().collect()
        };
        assert_eq!(differing(&after, &expected), [""; 0], "{from} to {to}: only after an update");
        assert_eq!(differing(&expected, &after), [""; 0], "{from} to {to}: only when created");
    }
}

#[test]
fn later_library_works_with_earlier_objects_and_names_the_update() {
    provide_versions();
    let cluster = Cluster::start();
    let mut client = created(&cluster, "app", EARLIER);
    client.batch_execute("CREATE SCHEMA api").unwrap();
    assert_eq!(attempt(&mut client, UNSAFE).unwrap_err().code, "42P13");
    let found = "SELECT concat_ws(' => ', detail, fix) FROM ops.audit_guard()";
    assert_eq!(
        column(&mut client, found),
        [format!(
            "Extension dragonfly_guard has version {EARLIER}, and the library of this session has \
             version {CURRENT}. => ALTER EXTENSION dragonfly_guard UPDATE;"
        )]
    );
    let status = "SELECT fix FROM ops.guard_status() WHERE component = 'integrity'";
    let fix = column(&mut client, status).remove(0);
    client.batch_execute(&fix).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    assert_eq!(attempt(&mut client, UNSAFE).unwrap_err().code, "42P13");
}

#[test]
fn session_with_an_earlier_library_does_not_update_and_goes_on_after_an_update() {
    provide_versions();
    let cluster = Cluster::start();
    let mut client = created(&cluster, "app", CURRENT);
    client.batch_execute("CREATE SCHEMA api").unwrap();
    let update = format!("ALTER EXTENSION dragonfly_guard UPDATE TO '{LATER}'");
    let rejected = attempt(&mut client, &update).unwrap_err();
    assert_eq!(rejected.code, "42939", "{rejected:?}");
    let problem = format!(
        "xtension dragonfly_guard has version {LATER}, and the library of this session has version \
         {CURRENT}"
    );
    assert!(format!("{rejected:?}").contains(&problem), "{rejected:?}");
    let way = format!(
        "Install the files of version {LATER}, and reconnect. Where the library is preloaded, \
         restart the server."
    );
    assert!(rejected.hint.contains(&way), "{rejected:?}");
    // Another session, of the later library, has updated.
    let sql = format!("SET dragonfly_guard.mode = off; {update}");
    cluster.connect("app", SUPERUSER).batch_execute(&sql).unwrap();
    assert_eq!(attempt(&mut client, UNSAFE).unwrap_err().code, "42P13");
    let found = "SELECT detail FROM ops.audit_guard()";
    assert_eq!(column(&mut client, found), [format!("E{problem}.")]);
}

#[test]
fn update_beside_ddl_keeps_contract_exemptions_log_and_frozen_schemas() {
    provide_versions();
    for settings in [&[][..], &["shared_preload_libraries=dragonfly_guard"][..]] {
        let cluster = Cluster::start_with(settings);
        let mut client = database_with_history_since(&cluster, &create(EARLIER));
        let findings = "SELECT fingerprint || ' ' || rule || ' ' || object
                          FROM ops.audit_security() WHERE rule <> 'guard_tampered' ORDER BY 1";
        let findings = column(&mut client, findings);
        for statement in [
            "SET dragonfly_guard.mode = warn",
            "CREATE FUNCTION public.w() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "DROP FUNCTION public.w()",
            "RESET dragonfly_guard.mode",
        ] {
            client.batch_execute(statement).unwrap();
        }
        let log = "SELECT entry::text FROM dragonfly_guard.log
                    WHERE entry ->> 'object' = 'public.w()' ORDER BY 1";
        // A preloaded library has a log writer of its own.
        let entries = wait_for(&mut client, log, Duration::from_secs(20), |rows| !rows.is_empty());
        assert!(!entries.is_empty());
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (cluster, is_done) = (&cluster, &is_done);
                scope.spawn(move || {
                    let mut client = cluster.connect("app", SUPERUSER);
                    let mut rounds = 0;
                    while !is_done.load(Ordering::Relaxed) || rounds < 5 {
                        let harmless = format!(
                            "CREATE FUNCTION api.f{number}() RETURNS int LANGUAGE sql \
                             AS 'SELECT 1'; \
                             REVOKE ALL ON FUNCTION api.f{number}() FROM PUBLIC; \
                             DROP FUNCTION api.f{number}()"
                        );
                        attempt(&mut client, &harmless).expect("harmless DDL");
                        let rejected = attempt(&mut client, UNSAFE).expect_err("unsafe DDL");
                        assert_eq!(rejected.code, "42P13", "{rejected:?}");
                        rounds += 1;
                    }
                });
            }
            let updated = attempt(&mut client, "ALTER EXTENSION dragonfly_guard UPDATE");
            is_done.store(true, Ordering::Relaxed);
            updated.expect("the update");
        });
        assert_restored_and_guarded(&cluster, "app", &findings);
        assert_eq!(column(&mut client, log), entries);
    }
}

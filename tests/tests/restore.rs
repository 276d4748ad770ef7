//! Dumps, restores, upgrades and standbys of a guarded database.

use dragonfly_tests::history::{FINDINGS, assert_restored_and_guarded, database_with_history};
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, program};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a client program that reads `input`. The guard recognizes a restore session by the settings
/// at the beginning of the dump.
fn restoring(cluster: &Cluster, name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program(name))
        .args(arguments)
        .env("PGHOST", cluster.folder())
        .env("PGUSER", SUPERUSER)
        .env_remove("PGOPTIONS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn dump_and_restore_keep_contract_and_exemptions() {
    let cluster = Cluster::start();
    let findings = column(&mut database_with_history(&cluster), FINDINGS);
    let plain = cluster.client_program("pg_dump", &["-d", "app"]);
    succeeded(&plain);

    // In one transaction; each restore has a database of its own.
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE DATABASE one OWNER postgres").unwrap();
    succeeded(&restoring(
        &cluster,
        "psql",
        &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", "one"],
        &plain.stdout,
    ));
    assert_restored_and_guarded(&cluster, "one", &findings);

    let custom = cluster.client_program("pg_dump", &["-Fc", "-d", "app"]);
    succeeded(&custom);
    for (database, jobs) in [("two", "1"), ("three", "2")] {
        admin.batch_execute(&format!("CREATE DATABASE {database} OWNER postgres")).unwrap();
        let file =
            std::env::temp_dir().join(format!("dragonfly_{}_{database}.dump", std::process::id()));
        std::fs::write(&file, &custom.stdout).unwrap();
        succeeded(&restoring(
            &cluster,
            "pg_restore",
            &["-e", "-j", jobs, "-d", database, file.to_str().unwrap()],
            b"",
        ));
        std::fs::remove_file(&file).unwrap();
        assert_restored_and_guarded(&cluster, database, &findings);
    }

    // All databases and roles of the cluster, into another.
    for database in ["one", "two", "three"] {
        admin.batch_execute(&format!("DROP DATABASE {database}")).unwrap();
    }
    let all = cluster.client_program("pg_dumpall", &[]);
    succeeded(&all);
    let other = Cluster::start();
    restoring(&other, "psql", &["-X", "-q", "-d", "postgres"], &all.stdout);
    assert_restored_and_guarded(&other, "app", &findings);
}

/// The script of an extension sets a search_path that stays in force for the rest of the dump.
#[test]
fn restore_with_an_extension_that_sets_a_path_passes() {
    dragonfly_tests::provide_extension(
        "zz_with_a_path",
        "default_version = '1'\nrelocatable = false\nschema = public\n",
        "1",
        "SET search_path TO public; CREATE FUNCTION public.zz() RETURNS int LANGUAGE sql AS \
         'SELECT 1';",
    );
    let cluster = Cluster::start();
    let mut client = database_with_history(&cluster);
    client.batch_execute("CREATE EXTENSION zz_with_a_path").unwrap();
    assert_eq!(
        column(&mut client, "SELECT current_setting('search_path')"),
        ["public"],
        "it stays"
    );
    let findings = column(&mut client, FINDINGS);
    let plain = cluster.client_program("pg_dump", &["-d", "app"]);
    cluster
        .connect("postgres", SUPERUSER)
        .batch_execute("CREATE DATABASE one OWNER postgres")
        .unwrap();
    succeeded(&restoring(
        &cluster,
        "psql",
        &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", "one"],
        &plain.stdout,
    ));
    assert_restored_and_guarded(&cluster, "one", &findings);
    // The path alone does not make a restore session.
    let mut client = cluster.connect("one", SUPERUSER);
    client
        .batch_execute(
            "DROP EXTENSION zz_with_a_path; CREATE EXTENSION zz_with_a_path; SET \
                        check_function_bodies = off",
        )
        .unwrap();
    let unsafe_one =
        "CREATE FUNCTION api.new() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    assert_eq!(attempt(&mut client, unsafe_one).unwrap_err().code, "42P13");
}

#[test]
fn pg_upgrade_keeps_contract_and_exemptions() {
    upgraded_from(&program(""), Cluster::start());
}

/// `GUARD_FROM` is the folder of the previous major version, in which the extension is installed.
#[test]
fn pg_upgrade_from_the_previous_major_version_keeps_contract_and_exemptions() {
    let Some(from) = std::env::var_os("GUARD_FROM").map(PathBuf::from) else {
        eprintln!("skipped: the previous major version has no extension; try scripts/test-majors");
        return;
    };
    let bin = from.join("bin");
    let old = Cluster::start_in(&bin, &from.join("clusters"), &[]);
    let version = column(&mut old.connect("postgres", SUPERUSER), "SHOW server_version_num");
    let major = version[0].parse::<u32>().unwrap() / 10_000;
    assert_eq!(major + 1, dragonfly_tests::major_version());
    upgraded_from(&bin, old);
}

/// Gives a cluster a database with history, upgrades it, and checks that nothing is lost.
fn upgraded_from(bin: &Path, cluster: Cluster) {
    let mut client = database_with_history(&cluster);
    let findings = column(&mut client, FINDINGS);
    let checksums = column(&mut client, "SHOW data_checksums");
    drop(client);
    let old = cluster.stop();
    let new = old.with_file_name(format!("{}_new", old.file_name().unwrap().to_str().unwrap()));
    let (old_text, new_text) = (old.to_str().unwrap(), new.to_str().unwrap());
    let options = [
        "-D",
        new_text,
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ];
    let without = if checksums == ["off"] && dragonfly_tests::major_version() >= 18 {
        Some("--no-data-checksums")
    } else {
        None
    };
    let options: Vec<&str> = options.into_iter().chain(without).collect();
    as_postgres("initdb", &options, Path::new("/"));
    let own = program("").to_str().unwrap().to_owned();
    let bin = bin.to_str().unwrap();
    as_postgres(
        "pg_upgrade",
        &["-b", bin, "-B", &own, "-d", old_text, "-D", new_text, "-U", SUPERUSER],
        &new,
    );
    let upgraded = Cluster::run(new, &[]);
    assert_restored_and_guarded(&upgraded, "app", &findings);
    std::fs::remove_dir_all(old).unwrap();
}

#[test]
fn hot_standby_can_be_audited_and_promoted() {
    let primary =
        Cluster::start_with(&["wal_level=replica", "max_wal_senders=4", "hot_standby=on"]);
    let findings = column(&mut database_with_history(&primary), FINDINGS);
    let standby = primary
        .folder()
        .with_file_name(format!("{}_s", primary.folder().file_name().unwrap().to_str().unwrap()));
    let host = primary.folder().to_str().unwrap();
    as_postgres(
        "pg_basebackup",
        &[
            "-D",
            standby.to_str().unwrap(),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-h",
            host,
            "-U",
            SUPERUSER,
        ],
        Path::new("/"),
    );
    let standby = Cluster::run(standby, &[]);
    let mut client = standby.connect("app", SUPERUSER);
    assert_eq!(column(&mut client, "SELECT pg_is_in_recovery()::text"), ["true"]);
    assert_eq!(
        column(
            &mut client,
            "SELECT count(*)::text FROM ops.check_schema_consistency() WHERE source = 'frozen \
             before'"
        ),
        ["0"]
    );
    assert_eq!(column(&mut client, FINDINGS), findings);
    assert_eq!(
        attempt(&mut client, "SELECT ops.assert_security('info')").unwrap_err().code,
        "P0004"
    );
    client
        .batch_execute(
            "SELECT * FROM ops.doctor(); SELECT * FROM ops.golden_sql(); SELECT \
                        ops.schema_fingerprint()",
        )
        .unwrap();
    // Everything but the NOTIFY.
    assert_eq!(
        column(
            &mut client,
            "SELECT concat(step, ': ', detail) FROM ops.fix_schema_cache('root_su') WHERE step ~ \
             'NOTIFY' AND NOT ok"
        ),
        ["schema", "config"].map(|what| format!(
            "NOTIFY pgrst, 'reload {what}': NOTIFY cannot be executed during recovery: call the \
             function on the primary server, or restart PostgREST."
        ))
    );
    for privilege in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"] {
        client
            .batch_execute(&format!(
                "SELECT * FROM ops.explain_access('postgres', \
                                     'dragonfly_guard.exemption', '{privilege}')"
            ))
            .unwrap();
    }
    for call in ["ops.freeze_schema('a')", "ops.load_contract(ops.contract())", "ops.unexempt('a')"]
    {
        assert_eq!(
            attempt(&mut client, &format!("SELECT {call}")).unwrap_err().code,
            "25006",
            "{call}"
        );
    }
    client.batch_execute("SELECT pg_promote()").unwrap();
    assert_restored_and_guarded(&standby, "app", &findings);
}

#[test]
fn dropped_extension_can_be_created_again() {
    let cluster = Cluster::start();
    let mut client = database_with_history(&cluster);
    client.batch_execute("DROP EXTENSION dragonfly_guard").unwrap();
    // Like every schema that CREATE EXTENSION creates, the private one stays, empty.
    let left =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'dragonfly_guard'::regnamespace
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'dragonfly_guard'::regnamespace
        UNION ALL SELECT evtname FROM pg_event_trigger";
    assert_eq!(column(&mut client, left), [""; 0]);
    attempt(
        &mut client,
        "CREATE FUNCTION api.free() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    )
    .unwrap();
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    assert_eq!(column(&mut client, "SELECT ops.contract()->>'version'"), ["1.0.0"]);
    assert_eq!(
        column(
            &mut client,
            "SELECT object FROM ops.audit_functions() WHERE rule = 'security_definer_search_path' \
             AND severity = 'error'"
        ),
        ["api.free()", "api.legacy()"]
    );
}

/// Runs a server program in a folder, which must succeed.
fn as_postgres(name: &str, arguments: &[&str], folder: &Path) {
    let output = dragonfly_tests::as_postgres(&program(name))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs pg_dump as a role; returns its output, or its error messages.
fn dump_as(cluster: &Cluster, role: &str, database: &str) -> Result<String, String> {
    let output = Command::new(program("pg_dump"))
        .args(["-h", cluster.folder().to_str().unwrap(), "-U", role, "-d", database])
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn owner_who_is_no_superuser_can_dump_and_sees_no_log() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE ROLE dba LOGIN; CREATE ROLE deployer LOGIN; \
             CREATE ROLE visitor LOGIN",
        )
        .unwrap();
    client.batch_execute("CREATE DATABASE owned OWNER dba").unwrap();
    let mut client = cluster.connect("owned", SUPERUSER);
    client
        .batch_execute(
            "ALTER SCHEMA public OWNER TO deployer;
             CREATE SCHEMA app AUTHORIZATION deployer; SET ROLE deployer;
             CREATE TABLE app.t (id int); GRANT USAGE ON SCHEMA app TO dba, visitor;
             GRANT SELECT ON app.t TO dba, visitor; RESET ROLE;
             CREATE EXTENSION dragonfly_guard;
             SELECT ops.load_contract(ops.infer_contract('{app}'), 'Ours');
             SELECT ops.freeze_schema('before')",
        )
        .unwrap();
    let by_superuser = dump_as(&cluster, SUPERUSER, "owned").unwrap();
    assert!(by_superuser.contains("COPY dragonfly_guard.contract"), "{by_superuser}");
    // Newer releases of pg_dump write a random key into the dump.
    let lines = |dump: &str| {
        let lines = dump.lines().filter(|line| !line.contains("restrict "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for role in ["dba", "deployer"] {
        assert_eq!(
            lines(&dump_as(&cluster, role, "owned").unwrap()),
            lines(&by_superuser),
            "{role}"
        );
        let mut client = cluster.connect("owned", role);
        let error = attempt(&mut client, "SELECT * FROM dragonfly_guard.log").unwrap_err();
        assert_eq!(error.code, "42501", "{role}");
        let error = attempt(&mut client, "DELETE FROM dragonfly_guard.contract").unwrap_err();
        assert_eq!(error.code, "42501", "{role}");
    }
    let error = dump_as(&cluster, "visitor", "owned").unwrap_err();
    assert!(error.contains("permission denied"), "{error}");
    assert_eq!(column(&mut client, "SELECT detail FROM ops.audit_guard()"), [""; 0]);
}

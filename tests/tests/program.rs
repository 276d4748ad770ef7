//! The program `dragonfly-guard`, which audits databases without the extension.

use dragonfly_tests::outside::{Ended, Outside, contract, findings, fingerprints, run};
use dragonfly_tests::{
    SUPERUSER, as_postgres, attempt, column, guard_program, major_version, project,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Violations of the contract: an error, a warning, and more.
const VIOLATIONS: &str = "
    GRANT SELECT ON public.plaintiff_contacts TO anon;
    GRANT UPDATE ON public.judgments TO authenticated;
    ALTER TABLE public.judgments DISABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON public.plaintiffs FOR SELECT TO authenticated USING (true);
    CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';";

#[test]
fn exit_code_says_whether_the_database_conforms_or_could_not_be_checked() {
    let outside = Outside::start();
    let clean = outside.audit(&[]);
    assert_eq!((clean.code, clean.out.contains("error\t")), (Some(0), false), "{clean:?}");
    assert!(clean.err.contains("on database \"app\" under contract dragonfly_civil"), "{clean:?}");

    attempt(&mut outside.client(), VIOLATIONS).unwrap();
    let found = outside.audit(&[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("error\ttable_privileges\ttable public.plaintiff_contacts\t"));
    assert_eq!(outside.audit(&["--fail-on", "never"]).code, Some(0));
    let rule = ["--rule", "rls_not_forced"];
    assert_eq!(outside.audit(&rule).code, Some(0), "no error of this rule");
    let one = outside.audit(&["--rule", "table_privileges", "--schema", "public"]);
    assert_eq!(one.out.lines().count(), 1, "{one:?}");

    let contract = contract();
    let snapshot = outside.write("broken.json", "{\"dragonfly_guard_snapshot\":1");
    let invalid = outside.write("contract.json", "{\"name\": 1}");
    let folder = outside.cluster.folder().to_str().unwrap();
    let of_none = ["audit", "-c", &contract, "-h", folder, "-U", "looker", "-d", "none"];
    for (arguments, message) in [
        (&["audit"][..], "no contract is given"),
        (&["audit", "-c", "/none", "app"], "could not read /none"),
        (&["audit", "-c", &invalid, "app"], "contract.json is not a valid security contract"),
        (&["audit", "-c", &contract, "-h", "/none", "app"], "connection to server on socket"),
        (&of_none, "FATAL: database \"none\" does not exist"),
        (&["audit", "-c", &contract, "--snapshot", &snapshot], "is not a valid snapshot"),
        (&["audit", "--fial-on", "never"], "unexpected argument"),
        (&["audit", "-c", &contract, "app", "--rule", "rls"], "rule \"rls\" does not exist"),
        (&["diff", &snapshot, &snapshot, "-c", &contract], "is not a valid snapshot"),
        (&["contract", "diff", &contract, &invalid], "is not a valid security contract"),
    ] {
        let ended = run(arguments, &[]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?} {ended:?}");
        assert!(ended.err.contains(message), "{arguments:?} {ended:?}");
    }
    let unknown = outside.audit(&["--schema", "pubic"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("HINT:  Did you mean \"public\"?"), "{unknown:?}");
}

#[test]
fn snapshot_has_the_findings_of_the_connection() {
    let outside = Outside::start();
    attempt(&mut outside.client(), VIOLATIONS).unwrap();
    let file = outside.file("app.json");
    let written = outside.connected(&["snapshot", "-o", &file]);
    assert_eq!((written.code, written.out.as_str()), (Some(0), ""), "{written:?}");
    let (contract, connected) = (contract(), outside.fingerprints());
    assert!(connected.len() > 5, "{connected:?}");
    let audit = ["audit", "--snapshot", &file, "-c", &contract, "--format", "jsonl"];
    assert_eq!(fingerprints(&run(&audit, &[]).out), connected);
    // An earlier snapshot outlives a failed connection.
    let failed = run(&["snapshot", "-h", "/none", "-o", &file], &[]);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert_eq!(fingerprints(&run(&audit, &[]).out), connected);

    for (format, beginning) in [
        ("sarif", "{"),
        ("junit", "<?xml"),
        ("gitlab", "["),
        ("github", "::"),
        ("markdown", "### "),
        ("html", "<!"),
    ] {
        let report = run(&["audit", "--snapshot", &file, "-c", &contract, "-f", format], &[]);
        assert_eq!(report.code, Some(1), "{report:?}");
        assert!(report.out.trim_start().to_lowercase().starts_with(beginning), "{}", report.out);
    }
}

#[test]
fn finding_is_shown_at_the_migration_that_creates_its_object() {
    let outside = Outside::start();
    attempt(&mut outside.client(), VIOLATIONS).unwrap();
    std::fs::create_dir_all(outside.file("migrations")).unwrap();
    outside.write("migrations/9_tables.sql", "CREATE TABLE public.judgments ();\n");
    outside.write("migrations/10_violations.sql", VIOLATIONS);
    let migrations = outside.file("migrations");
    let report = outside.audit(&["--format", "sarif", "--sources", &migrations]);
    let log: Value = serde_json::from_str(&report.out).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let place = |rule: &str| {
        let of_rule = results.iter().find(|one| one["ruleId"] == rule).unwrap();
        let place = &of_rule["locations"][0]["physicalLocation"];
        let path = place["artifactLocation"]["uri"].as_str().unwrap();
        (path.rsplit('/').next().unwrap().to_owned(), place["region"]["startLine"].as_u64())
    };
    assert_eq!(place("security_definer_search_path"), ("10_violations.sql".into(), Some(6)));
    assert_eq!(place("rls_disabled"), ("9_tables.sql".into(), Some(1)));
    // The migrations do not create its table.
    assert_eq!(place("table_privileges").0, "default.json");

    let missing = outside.audit(&["--sources", &outside.file("none")]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("could not read"), "{missing:?}");
}

#[test]
fn github_action_writes_annotations_a_summary_and_sarif() {
    let outside = Outside::start();
    attempt(&mut outside.client(), VIOLATIONS).unwrap();
    let migration = outside.write("1_violations.sql", VIOLATIONS);
    let (sarif, summary) = (outside.file("findings.sarif"), outside.file("summary.md"));
    let action = |host: &str, fail_on: &str| -> Ended {
        let mut command = Command::new(project().join("scripts/github-action"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("PROGRAM", guard_program()).envs([
            ("PGHOST", host),
            ("PGUSER", "looker"),
            ("PGDATABASE", "app"),
            ("CONTRACT", &contract()),
            ("SOURCES", outside.files.to_str().unwrap()),
            ("FAIL_ON", fail_on),
            ("SARIF", &sarif),
            ("GITHUB_STEP_SUMMARY", &summary),
        ]);
        command.output().expect("the script runs").into()
    };
    let folder = outside.cluster.folder().to_str().unwrap();
    let found = action(folder, "error");
    assert_eq!(found.code, Some(1), "{found:?}");
    let annotation = found.out.lines().find(|line| line.contains("public.helper()")).unwrap();
    assert!(annotation.starts_with(&format!("::error file={migration},line=6,")), "{annotation}");
    assert_eq!(found.err.matches("on database \"app\"").count(), 1, "{found:?}");
    assert!(std::fs::read_to_string(&summary).unwrap().starts_with("### "));
    let log: Value = serde_json::from_str(&std::fs::read_to_string(&sarif).unwrap()).unwrap();
    assert_eq!(log["version"], "2.1.0");

    assert_eq!(action(folder, "never").code, Some(0));
    let failed = action("/nowhere", "never");
    assert_eq!((failed.code, failed.out.as_str()), (Some(2), ""), "{failed:?}");
}

#[test]
fn every_input_of_the_github_action_is_read_by_its_script() {
    let text = |file: &str| std::fs::read_to_string(project().join(file)).unwrap();
    let (action, script) = (text("action.yml"), text("scripts/github-action"));
    let inputs = action.split("\nruns:").next().unwrap().lines();
    let inputs: Vec<&str> = inputs
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with(' '))
        .collect();
    assert!(inputs.contains(&"contract") && inputs.contains(&"fail-on"), "{inputs:?}");
    for input in inputs {
        let variable = input.replace('-', "_").to_uppercase();
        let passed = format!("{variable}: ${{{{ inputs.{input} }}}}\n");
        assert!(action.contains(&passed), "{passed}");
        let is_read = script.contains(&format!("\"${variable}\""))
            || script.contains(&format!("${{{variable}:-"));
        assert!(is_read, "{variable}");
    }
}

#[test]
fn setting_that_the_role_cannot_see_is_a_note() {
    let outside = Outside::start();
    let hidden = |outside: &Outside| -> Vec<String> {
        let rule = outside.audit(&["--rule", "stored_settings", "--format", "jsonl"]);
        assert_eq!(rule.code, Some(0), "{rule:?}");
        let line =
            |f: &Value| format!("{} {} {}", f["severity"], f["object"], f["evidence"]["value"]);
        findings(&rule.out).iter().map(line).collect()
    };
    let note = |parameter: &str| format!("\"info\" \"{parameter}\" null");
    let mut hidden_ones = vec![note("session_preload_libraries")];
    if major_version() >= 18 {
        hidden_ones.push(note("extension_control_path"));
    }
    assert_eq!(hidden(&outside), hidden_ones);
    attempt(&mut outside.client(), "GRANT pg_read_all_settings TO looker").unwrap();
    assert_eq!(hidden(&outside), [""; 0]);
}

#[test]
fn earlier_findings_and_accepted_ones_do_not_count() {
    let outside = Outside::start();
    let before = outside.file("baseline.jsonl");
    attempt(&mut outside.client(), "GRANT SELECT ON public.plaintiff_contacts TO anon").unwrap();
    let found = outside.audit(&["--format", "jsonl", "-o", &before]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let known = outside.audit(&["--baseline", &before]);
    assert_eq!((known.code, known.out.as_str()), (Some(0), ""), "{known:?}");
    assert!(known.err.contains(" of the baseline left out"), "{known:?}");
    attempt(&mut outside.client(), "GRANT UPDATE ON public.judgments TO authenticated").unwrap();
    let new = outside.audit(&["--baseline", &before]);
    assert_eq!((new.code, new.out.lines().count()), (Some(1), 1), "{new:?}");

    let exemptions = |object: &str, expires_at: &str| {
        let list = serde_json::json!([
            {"rule": "table_privileges", "object": "public.plaintiff_*", "reason": "public"},
            {"rule": "direct_write", "object": object, "reason": "until the worker is replaced",
             "expires_at": expires_at},
        ]);
        outside.write("exemptions.json", &list.to_string())
    };
    let file = exemptions("public.judgments", "2999-01-01");
    let accepted = outside.audit(&["--exemptions", &file]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    assert!(accepted.err.contains("; 2 exempt"), "{accepted:?}");
    let sarif = outside.audit(&["--exemptions", &file, "--format", "sarif"]);
    let log: Value = serde_json::from_str(&sarif.out).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let region = |of: &Value| {
        of["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64().unwrap()
    };
    let text = std::fs::read_to_string(contract()).unwrap();
    let writes: Vec<&Value> = results.iter().filter(|of| of["ruleId"] == "direct_write").collect();
    // The declaration begins there with a brace.
    let declared: String = text.lines().skip(region(writes[0]) as usize - 1).take(3).collect();
    assert!(writes.len() == 1 && declared.contains("\"judgments\""), "{declared}: {writes:#?}");
    let suppressed = results.iter().filter(|of| !of["suppressions"][0].is_null());
    assert_eq!(suppressed.count(), 2, "{results:#?}");

    let file = exemptions("public.judgments", "2020-01-01");
    let expired = outside.audit(&["--exemptions", &file]);
    assert_eq!(expired.code, Some(1), "{expired:?}");
    assert!(expired.err.contains("has expired at 2020-01-01 and no longer counts"), "{expired:?}");
    assert!(expired.out.contains("It was exempt until 2020-01-01."), "{expired:?}");
    let unused = outside.audit(&["--exemptions", &exemptions("public.none", "2999-01-01")]);
    assert!(unused.err.contains("is about no finding; remove it"), "{unused:?}");
    let file = outside.write("exemptions.json", r#"[{"rule": "direct_write", "object": "*"}]"#);
    let invalid = outside.audit(&["--exemptions", &file]);
    assert_eq!(invalid.code, Some(2), "{invalid:?}");
}

#[test]
fn plan_brings_the_database_into_its_contract_and_its_undo_back() {
    let outside = Outside::start();
    // Names that would end a comment or a statement, if they were not escaped.
    let hostile = "
        CREATE TABLE public.kept ();
        CREATE TABLE public.\"x\nDROP TABLE public.kept; --\" ();
        GRANT SELECT ON public.\"x\nDROP TABLE public.kept; --\" TO anon;";
    let mut client = outside.client();
    attempt(&mut client, VIOLATIONS).unwrap();
    attempt(&mut client, hostile).unwrap();
    let before = outside.fingerprints();
    let (plan, undo) = (outside.file("plan.sql"), outside.file("undo.sql"));
    let planned = outside.connected(&["plan", "-c", &contract(), "-o", &plan, "--undo", &undo]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    let psql = |file: &str| {
        let output = outside.cluster.client_program(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", "app", "-f", file],
        );
        let text = std::fs::read_to_string(file).unwrap();
        assert!(output.status.success(), "{output:?}\n{text}");
    };
    psql(&plan);
    psql(&plan);
    let (after, audit) = (outside.fingerprints(), outside.audit(&[]));
    let text = std::fs::read_to_string(&plan).unwrap();
    assert!(after.len() < before.len(), "{before:?} {after:?}\n{text}");
    assert!(!text.contains("ops.declare("), "the extension is not there:\n{text}");
    assert_eq!(audit.code, Some(0), "{audit:?}\n{text}");
    attempt(&mut client, "SELECT FROM public.kept").unwrap();
    psql(&undo);
    let back = outside.fingerprints();
    let missing: Vec<_> = before.difference(&back).collect();
    let text = std::fs::read_to_string(&undo).unwrap();
    // The text of a policy is in no snapshot.
    let without = text.matches("none in the undo file").count();
    assert!(missing.len() <= without, "{missing:?}\n{text}");
    attempt(&mut client, "SELECT FROM public.kept").unwrap();

    let unknown = outside.connected(&["plan", "-c", &contract(), "--role", "anom"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("Did you mean \"anon\"?"), "{unknown:?}");
}

#[test]
fn difference_of_snapshots_is_what_a_migration_opens() {
    let outside = Outside::start();
    let (old, new) = (outside.file("old.json"), outside.file("new.json"));
    assert_eq!(outside.connected(&["snapshot", "-o", &old]).code, Some(0));
    attempt(&mut outside.client(), "GRANT SELECT ON public.plaintiff_contacts TO anon").unwrap();
    assert_eq!(outside.connected(&["snapshot", "-o", &new]).code, Some(0));
    let contract = contract();
    let opened = run(&["diff", &old, &new, "-c", &contract], &[]);
    assert_eq!((opened.code, opened.out.lines().count()), (Some(1), 1), "{opened:?}");
    assert!(opened.out.starts_with("added\terror\ttable_privileges\t"), "{opened:?}");
    let closed = run(&["diff", &new, &old, "-c", &contract], &[]);
    assert_eq!(closed.code, Some(0), "{closed:?}");
    assert!(closed.out.starts_with("removed\t"), "{closed:?}");
    let folder = outside.cluster.folder().to_str().unwrap();
    let database = format!("host={folder} user=looker dbname=app");
    let same = run(&["diff", &new, &database, "-c", &contract], &[]);
    assert_eq!((same.code, same.out.as_str()), (Some(0), ""), "{same:?}");

    // One finding tells what a role may do in a schema.
    let undeclared = "CREATE ROLE reporter; GRANT USAGE ON SCHEMA public TO reporter;
        GRANT SELECT ON public.job_queue TO reporter";
    attempt(&mut outside.client(), undeclared).unwrap();
    let (earlier, baseline) = (outside.file("old.json"), outside.file("baseline.jsonl"));
    assert_eq!(outside.connected(&["snapshot", "-o", &earlier]).code, Some(0));
    assert_eq!(outside.audit(&["--format", "jsonl", "-o", &baseline]).code, Some(1));
    attempt(&mut outside.client(), "GRANT SELECT ON public.plaintiffs TO reporter").unwrap();
    let more = run(&["diff", &earlier, &database, "-c", &contract], &[]);
    assert_eq!((more.code, more.out.lines().count()), (Some(1), 1), "{more:?}");
    assert!(more.out.starts_with("changed\twarning\tundeclared_role_privileges\t"), "{more:?}");
    let more = outside.audit(&["--baseline", &baseline, "--fail-on", "warning"]);
    assert_eq!((more.code, more.out.lines().count()), (Some(1), 1), "{more:?}");
}

#[test]
fn finding_that_has_become_worse_is_not_in_the_baseline() {
    let outside = Outside::start();
    let mut client = outside.client();
    let policy = "CREATE POLICY idle ON public.job_queue FOR SELECT TO anon USING (true)";
    attempt(&mut client, policy).unwrap();
    let baseline = outside.file("baseline.jsonl");
    let rule = ["--rule", "rls_policy_always_true"];
    let audit = |arguments: &[&str]| outside.audit(&[&rule[..], arguments].concat());
    assert_eq!(audit(&["--format", "jsonl", "-o", &baseline]).code, Some(0), "information");
    assert_eq!(audit(&["--baseline", &baseline, "--fail-on", "info"]).code, Some(0));
    attempt(&mut client, "GRANT SELECT ON public.job_queue TO anon").unwrap();
    let worse = audit(&["--baseline", &baseline]);
    assert_eq!((worse.code, worse.out.lines().count()), (Some(1), 1), "{worse:?}");
}

#[test]
fn what_would_hide_a_grant_on_the_server_hides_nothing() {
    let outside = Outside::start();
    let mut client = outside.client();
    let rule = ["--rule", "server_object_privileges"];
    let found = || outside.audit(&[&rule[..], &["--format", "jsonl"]].concat());
    let grants = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO anon;
        GRANT SELECT ON pg_catalog.pg_authid TO anon;
        GRANT SET ON PARAMETER session_replication_role TO anon";
    attempt(&mut client, grants).unwrap();
    assert_eq!(findings(&found().out).len(), 3, "{:?}", found());
    // Its ACL becomes that which the extension is said to have created.
    let add = "ALTER EXTENSION plpgsql ADD FUNCTION pg_catalog.pg_read_file(text);
        ALTER EXTENSION plpgsql ADD TABLE pg_catalog.pg_authid";
    attempt(&mut client, add).unwrap();
    assert_eq!(findings(&found().out).len(), 3, "{:?}", found());
}

#[test]
fn settings_of_the_auditing_role_are_not_those_of_the_server() {
    let outside = Outside::start();
    let mut client = outside.client();
    let own = "ALTER ROLE looker SET lo_compat_privileges = off; ALTER ROLE looker VALID UNTIL
        '294276-12-31 23:59:59+00'";
    attempt(&mut client, own).unwrap();
    attempt(&mut client, "ALTER SYSTEM SET lo_compat_privileges = on").unwrap();
    attempt(&mut client, "SELECT pg_reload_conf()").unwrap();
    let audit = outside.audit(&["--rule", "stored_settings", "--format", "jsonl"]);
    let hidden =
        |f: &Value| f["object"] == "lo_compat_privileges" && f["evidence"]["value"].is_null();
    assert!(findings(&audit.out).iter().any(hidden), "{audit:?}");
    attempt(&mut client, "ALTER ROLE looker RESET lo_compat_privileges").unwrap();
    let audit = outside.audit(&["--rule", "stored_settings", "--format", "jsonl"]);
    let found = |f: &Value| f["object"] == "lo_compat_privileges" && f["severity"] == "error";
    assert!(findings(&audit.out).iter().any(found), "{audit:?}");
}

#[test]
fn inferred_contract_is_valid_and_describes_the_database() {
    let outside = Outside::start();
    let file = outside.file("contract.json");
    let inferred = outside.connected(&["infer", "-o", &file, "--mode", "as-is"]);
    assert_eq!(inferred.code, Some(0), "{inferred:?}");
    let valid = run(&["validate", &file], &[]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
    let same = run(&["contract", "diff", &file, &file], &[]);
    assert_eq!((same.code, same.out.as_str()), (Some(0), ""), "{same:?}");
    assert_eq!(run(&["contract", "diff", &contract(), &file], &[]).code, Some(1));
    let audit = outside.connected(&["audit", "-c", &file, "--rule", "table_privileges"]);
    assert_eq!((audit.code, audit.out.as_str()), (Some(0), ""), "{audit:?}");
}

#[test]
fn explain_follows_the_access_of_a_role_and_exits_with_the_verdict() {
    let outside = Outside::start();
    attempt(&mut outside.client(), "REVOKE USAGE ON SCHEMA api FROM authenticated").unwrap();
    let explain = |arguments: &[&str]| outside.connected(&[&["explain"], arguments].concat());
    let allowed = explain(&["anon", "public.v_plaintiffs_overview"]);
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    assert!(allowed.out.contains("yes\tverdict\tAllowed."), "{allowed:?}");
    assert!(allowed.out.contains(", as \"postgres\", the owner of the view"), "{allowed:?}");
    assert!(allowed.err.contains("triggers, rules, indexes"), "{allowed:?}");
    assert!(!allowed.out.contains("contract"), "{allowed:?}");

    let denied = explain(&["anon", "public.judgments(amount)", "-P", "update"]);
    assert_eq!(denied.code, Some(1), "{denied:?}");
    let verdict = "no\tverdict\tDenied: permission denied for table judgments.\t\
                   GRANT UPDATE (amount) ON TABLE public.judgments TO anon;";
    assert!(denied.out.contains(verdict), "{denied:?}");
    // The contract allows one access and not the other.
    let file = contract();
    let compared = explain(&["anon", "public.judgments", "--contract", &file]);
    assert!(compared.out.contains("The contract does not declare it.\t\n"), "{compared:?}");
    assert!(compared.out.contains("yes\tcontract\tAccess should be denied"), "{compared:?}");
    let compared = explain(&["authenticated", "schema api", "-c", &file, "--format", "json"]);
    let links: Vec<Value> = serde_json::from_str(&compared.out).unwrap();
    let last = links.last().unwrap();
    assert_eq!(compared.code, Some(1), "{compared:?}");
    assert_eq!(
        (&last["step"], &last["fix"]),
        (&"contract".into(), &"dragonfly-guard plan --schema api".into())
    );

    for (arguments, message, hint) in [
        (&["anon", "judgments"][..], "\"judgments\" does not exist", "Specify schema.name"),
        (&["anon", "public.judgments.amout"], "unrecognized column", "Did you mean \"amount\"?"),
        (&["anon", "a.b.c.d"], "invalid object name: \"a.b.c.d\"", "Specify schema"),
        (
            &["anon", "public.judgments", "-P", "selekt"],
            "unrecognized privilege \"selekt\"",
            "Did you mean \"SELECT\"?",
        ),
    ] {
        let Ended { code, out, err } = explain(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(message) && err.contains(hint), "{err}");
    }
    let missing = explain(&["anonn", "public.judgments"]);
    // A check that a role is refused would pass with a mistake in its name.
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.out.contains("Role \"anonn\" does not exist. Did you mean \"anon\"?"));
}

/// The superuser of a provider of servers, the group of its administrators, the role that runs the
/// migrations, and the owner of the database.
const PROVIDERS: [[&str; 4]; 4] = [
    ["rdsadmin", "rds_superuser", "master", "master"],
    ["cloudsqladmin", "cloudsqlsuperuser", "gcp_login", "cloudsqlsuperuser"],
    ["azuresu", "azure_pg_admin", "azure_login", "azure_pg_admin"],
    ["cloud_admin", "neon_superuser", "neondb_owner", "neondb_owner"],
];

#[test]
fn roles_of_a_provider_are_managed_in_an_inferred_contract() {
    let outside = Outside::start();
    let mut client = outside.cluster.connect("postgres", SUPERUSER);
    for [superuser, administrators, migrations, owner] in PROVIDERS {
        attempt(
            &mut client,
            &format!(
                "CREATE ROLE {superuser} SUPERUSER LOGIN;
                 CREATE ROLE {administrators} CREATEROLE CREATEDB;
                 GRANT pg_monitor, pg_signal_backend TO {administrators};
                 CREATE ROLE {migrations} LOGIN CREATEROLE CREATEDB IN ROLE {administrators};
                 CREATE ROLE shop_app LOGIN"
            ),
        )
        .unwrap();
        attempt(&mut client, &format!("CREATE DATABASE shop OWNER {owner}")).unwrap();
        let mut shop = outside.cluster.connect("shop", SUPERUSER);
        attempt(
            &mut shop,
            &format!(
                "SET ROLE {migrations};
                 CREATE TABLE public.orders (id bigint PRIMARY KEY);
                 CREATE TABLE public.goods (id bigint PRIMARY KEY);
                 GRANT SELECT, INSERT ON public.orders, public.goods TO shop_app"
            ),
        )
        .unwrap();
        drop(shop);

        let (folder, file) = (outside.cluster.folder(), outside.file("shop.json"));
        let of_shop = ["-h", folder.to_str().unwrap(), "-U", "looker", "-d", "shop"];
        let drafted = run(&[&["infer", "-o", &file][..], &of_shop].concat(), &[]);
        assert_eq!(drafted.code, Some(0), "{drafted:?}");
        let contract: Value =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let names = |list: &Value, key: &str| -> Vec<String> {
            let name = |of: &Value| of[key].as_str().or(of.as_str()).unwrap().to_owned();
            list.as_array().unwrap().iter().map(name).collect()
        };
        let mut declared = names(&contract["roles"], "name");
        declared.sort();
        assert_eq!(
            declared,
            BTreeSet::from([migrations, "shop_app"]).into_iter().collect::<Vec<_>>()
        );
        let managed = names(&contract["managed"]["roles"], "");
        for role in [superuser, administrators] {
            assert!(managed.iter().any(|name| name == role), "{role}: {managed:?}");
        }
        let audit = ["audit", "-c", &file, "--fail-on", "warning"];
        let audited = run(&[&audit[..], &of_shop].concat(), &[]);
        assert_eq!(audited.code, Some(0), "{superuser}: {audited:?}");

        attempt(&mut client, "DROP DATABASE shop WITH (FORCE)").unwrap();
        let roles = format!("DROP ROLE shop_app, {migrations}, {administrators}, {superuser}");
        attempt(&mut client, &roles).unwrap();
    }
}

#[test]
fn validate_names_lines_and_fails_on_errors() {
    let outside = Outside::start();
    let file = outside.write("contract.json", "{\n  \"name\": 1\n}");
    let invalid = run(&["validate", &file], &[]);
    assert_eq!(invalid.code, Some(1), "{invalid:?}");
    assert!(invalid.out.contains("contract.json:2: error: $.name"), "{invalid:?}");
    assert_eq!(run(&["validate", "/none"], &[]).code, Some(2));
    assert_eq!(run(&["validate", &contract()], &[]).code, Some(0));
}

/// Runs the program while a catalog that it reads late is locked, and ends its session.
fn interrupted(outside: &Outside, arguments: &[&str]) -> Ended {
    let mut client = outside.client();
    let mut lock = client.transaction().unwrap();
    // A catalog that no session reads when it starts.
    lock.batch_execute("LOCK TABLE pg_catalog.pg_default_acl").unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE usename = 'looker' AND wait_event_type = 'Lock'";
    let mut other = outside.client();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| outside.connected(arguments));
        while column(&mut other, &end.replace("pg_terminate_backend(pid)", "'x'")).is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        attempt(&mut other, end).unwrap();
        running.join().unwrap()
    })
}

#[test]
fn session_that_ends_while_the_catalogs_are_read_is_an_error() {
    let outside = Outside::start();
    let (contract, file) = (contract(), outside.write("app.json", "the earlier one"));
    for arguments in
        [&["audit", "-c", &contract][..], &["snapshot", "-o", &file], &["infer"], &["snapshot"]]
    {
        let ended = interrupted(&outside, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains("could not read the catalogs"), "{arguments:?}: {ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the earlier one");
    let files = || std::fs::read_dir(&outside.files).unwrap().count();
    assert_eq!(files(), 1, "nothing else is left behind");
    let (link, mode) = (outside.file("link.json"), std::fs::Permissions::from_mode(0o640));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::set_permissions(&file, mode.clone()).unwrap();
    let written = outside.connected(&["snapshot", "-o", &link]);
    assert_eq!((written.code, files()), (Some(0), 2), "{written:?}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("{\"dragonfly_guard_snapshot"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode.mode());
    assert_eq!(outside.connected(&["snapshot", "-o", "/dev/null"]).code, Some(0));
    attempt(&mut outside.client(), "ALTER ROLE looker SET lock_timeout = '50ms'").unwrap();
    let mut client = outside.client();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK TABLE pg_catalog.pg_default_acl").unwrap();
    let ended = outside.audit(&[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("canceling statement due to lock timeout"), "{ended:?}");
}

#[test]
fn server_that_does_not_answer_is_not_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connection = format!("host=127.0.0.1 port={port} connect_timeout=1 user=looker");
    let start = std::time::Instant::now();
    let ended = run(&["snapshot", &connection], &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("Timeout expired."), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn closed_pipe_is_no_error() {
    let outside = Outside::start();
    let folder = outside.cluster.folder().to_str().unwrap();
    let mut command = Command::new(guard_program())
        .args(["snapshot", "-h", folder, "-U", "looker", "app"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(command.stdout.take());
    let ended: Ended = command.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn program_needs_no_library_of_the_machine() {
    let libraries = Command::new("ldd").arg(guard_program()).output().unwrap();
    let Ended { out, err, .. } = libraries.into();
    let said = format!("{out}{err}");
    let is_static = ["statically linked", "not a dynamic executable"];
    assert!(is_static.iter().any(|text| said.contains(text)), "{said}");
}

#[test]
fn rules_completions_and_man_page_are_written() {
    let rules = run(&["rules", "--format", "json"], &[]);
    let rules: Value = serde_json::from_str(&rules.out).unwrap();
    assert!(rules.as_array().unwrap().iter().any(|rule| rule["id"] == "rls_disabled"));
    for shell in ["bash", "zsh", "fish"] {
        let completions = run(&["completions", shell], &[]);
        assert!(completions.out.contains("snapshot"), "{completions:?}");
    }
    let page = run(&["man"], &[]);
    assert!(page.out.contains(".SH \"COMMAND AUDIT\""), "{page:?}");
    for command in ["audit", "plan", "infer", "snapshot", "diff", "validate", "rules"] {
        let help = run(&[command, "--help"], &[]);
        assert!(help.out.contains("Example"), "{help:?}");
    }
}

/// Creates an authority and a certificate for host `localhost` in the folder of a server.
fn certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let mut command = as_postgres(Path::new("openssl"));
        let output = command.current_dir(folder).args(arguments).output().expect("openssl");
        assert!(output.status.success(), "{output:?}");
    };
    let key = ["req", "-newkey", "rsa:2048", "-nodes"];
    openssl(
        &[
            &key[..],
            &["-x509", "-subj", "/CN=authority", "-days", "2", "-keyout", "ca.key"],
            &["-out", "ca.crt"],
        ]
        .concat(),
    );
    openssl(
        &[&key[..], &["-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"]]
            .concat(),
    );
    let extensions = folder.join("extensions");
    let written = as_postgres(Path::new("sh"))
        .args(["-c", &format!("echo subjectAltName=DNS:localhost > {}", extensions.display())])
        .status();
    assert!(written.unwrap().success());
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "extensions",
        "-out",
        "server.crt",
    ]);
}

/// A server that listens at an address, where passwords are asked for.
fn listening() -> (Outside, String) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Each server has its own address, so that all can have the same port.
    let id = std::process::id();
    let address =
        format!("127.{}.{}.{}", 83 + NEXT.fetch_add(1, Relaxed), id / 250 % 250, id % 250 + 1);
    let listen = format!("listen_addresses={address}");
    let outside = Outside::start_with(&[&listen, "password_encryption=scram-sha-256"]);
    let rules = "local all all trust\nhost all all all scram-sha-256\n";
    std::fs::write(outside.cluster.folder().join("pg_hba.conf"), rules).unwrap();
    let mut client = outside.client();
    attempt(&mut client, "SELECT pg_reload_conf()").unwrap();
    attempt(&mut client, "ALTER ROLE looker PASSWORD 'secret: \\'").unwrap();
    (outside, address)
}

const PASSWORD: (&str, &str) = ("PGPASSWORD", "secret: \\");

/// Runs `snapshot`, of which the beginning is returned.
fn snapshot(connection: &str, environment: &[(&str, &str)]) -> Ended {
    let mut ended = run(&["snapshot", connection], environment);
    ended.out.truncate(30);
    ended
}

#[test]
fn password_comes_from_the_environment_a_file_or_a_service() {
    let (outside, address) = listening();
    let target = format!("host=localhost hostaddr={address} user=looker dbname=app");
    // The server reads its rules again at its own time.
    while snapshot(&target, &[]).code == Some(0) {
        std::thread::sleep(Duration::from_millis(30));
    }
    for (more, environment, message) in [
        ("", &[("PGPASSWORD", "wrong")][..], "password authentication failed"),
        ("", &[], "HINT:  Set PGPASSWORD, or add a line to ~/.pgpass"),
        ("sslmode=some", &[PASSWORD], "invalid sslmode value"),
        ("port=1", &[PASSWORD], "port 1 failed"),
    ] {
        let ended = snapshot(&format!("{target} {more}"), environment);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{more}: {ended:?}");
        assert!(ended.err.contains(message), "{more}: {ended:?}");
    }
    let ended = snapshot(&target, &[PASSWORD]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");

    let uri = format!("postgresql://looker:secret%3A%20%5C@{address}/app");
    let visible = snapshot(&uri, &[]);
    assert_eq!(visible.code, Some(0), "{visible:?}");
    assert!(visible.err.contains("the connection string on the command line has a password"));

    let lines = "other:*:*:*:no\nlocalhost:5432:app:looker:secret\\: \\\\\n";
    let file = outside.write(".pgpass", lines);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    outside.write(".pg_service.conf", &format!("[audited]\n{}\n", target.replace(' ', "\n")));
    let home = [("HOME", outside.files.to_str().unwrap()), ("PGSERVICE", "audited")];
    let ended = run(&["audit", "-c", &contract()], &home);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn certificate_is_verified_as_sslmode_says() {
    let (outside, address) = listening();
    let mut client = outside.client();
    let library = "SELECT setting FROM pg_settings WHERE name = 'ssl_library'";
    if column(&mut client, library) == [""] {
        println!("this build of the server has no TLS");
        return;
    }
    certificates(outside.cluster.folder());
    attempt(&mut client, "ALTER SYSTEM SET ssl = on").unwrap();
    attempt(&mut client, "SELECT pg_reload_conf()").unwrap();
    let authority = outside.cluster.folder().join("ca.crt").to_str().unwrap().to_owned();
    let target = |host: &str, more: &str| {
        let of = format!("host={host} hostaddr={address} user=looker dbname=app {more}");
        snapshot(&of, &[PASSWORD])
    };
    while target("localhost", "sslmode=require").code != Some(0) {
        std::thread::sleep(Duration::from_millis(30));
    }
    let verified = |mode: &str| format!("sslmode={mode} sslrootcert={authority}");
    for (host, more, is_accepted) in [
        ("localhost", verified("verify-full"), true),
        ("localhost", verified("verify-ca"), true),
        ("localhost", "sslmode=prefer".to_owned(), true),
        ("localhost", "sslmode=require channel_binding=require".to_owned(), true),
        // Another host has no certificate of this authority.
        ("db", verified("verify-full"), false),
        ("db", verified("verify-ca"), true),
        ("db", verified("require"), true),
        // The system does not know this authority.
        ("localhost", "sslmode=verify-full".to_owned(), false),
        ("localhost", "sslmode=verify-ca".to_owned(), false),
    ] {
        let ended = target(host, &more);
        assert_eq!(ended.code, Some(if is_accepted { 0 } else { 2 }), "{more}: {ended:?}");
        assert_eq!(ended.err.contains("certificate"), !is_accepted, "{more}: {ended:?}");
    }
}

#[test]
fn names_are_read_and_written_in_any_encoding() {
    let outside = Outside::start();
    let mut client = outside.cluster.connect("postgres", SUPERUSER);
    let template = "TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    for (database, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII")] {
        let create = format!("CREATE DATABASE {database} ENCODING '{encoding}' {template}");
        attempt(&mut client, &create).unwrap();
        let mut client = outside.cluster.connect(database, SUPERUSER);
        let open = "CREATE TABLE public.\"café\" (); GRANT SELECT ON public.\"café\" TO PUBLIC";
        attempt(&mut client, open).unwrap();
    }
    let folder = outside.cluster.folder().to_str().unwrap();
    let on = |database: &str, arguments: &[&str]| {
        run(&[arguments, &["-h", folder, "-U", "looker", "-d", database]].concat(), &[])
    };
    let rule = ["audit", "-c", &contract(), "--rule", "table_privileges"];
    for database in ["latin", "ascii"] {
        let found = on(database, &rule);
        assert!(found.out.contains("table public.\"café\"\tPUBLIC"), "{found:?}");
    }
    let plan = outside.file("plan.sql");
    let planned = on("latin", &["plan", "-c", &contract(), "-o", &plan]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    let psql = ["-X", "-q", "-U", SUPERUSER, "-d", "latin", "-f", &plan];
    let output = outside.cluster.client_program("psql", &psql);
    assert!(output.status.success(), "{output:?}");
    assert!(!on("latin", &rule).out.contains("PUBLIC"));

    // What is no text in UTF-8 is not read, and that is no success.
    let bytes = outside.files.join("bytes.sql");
    std::fs::write(&bytes, b"CREATE TABLE public.\"bad\xff\" ();").unwrap();
    let psql = ["-X", "-q", "-U", SUPERUSER, "-d", "ascii", "-f", bytes.to_str().unwrap()];
    assert!(outside.cluster.client_program("psql", &psql).status.success());
    let failed = on("ascii", &rule);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.err.contains("text that is not valid UTF-8"), "{failed:?}");
}

//! The database of the contract document: it conforms to the contract; with one violation of each
//! rule, the audit finds exactly the violations, and every fix can be executed.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

fn document(cluster: &Cluster) -> Client {
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    client
}

const ABOVE_INFO: &str = "SELECT concat_ws(' | ', rule, object_type, object, role_name)
    FROM ops.audit_security(min_severity => 'warning')";

/// The violations of each rule that violations.sql creates.
fn violations() -> Vec<&'static str> {
    let lines = include_str!("../fixtures/violations.txt").lines();
    lines.filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn database_of_the_document_conforms() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    assert_eq!(column(&mut client, ABOVE_INFO), [""; 0]);
    assert_eq!(
        column(&mut client, "SELECT DISTINCT rule FROM ops.audit_security()"),
        ["rls_not_forced"]
    );
    client.batch_execute("SELECT ops.assert_security('warning')").unwrap();
    let differing = "SELECT schema_name || ' ' || role_name FROM ops.role_matrix() WHERE NOT \
        conforms
        UNION ALL SELECT schema_name || '.' || table_name FROM ops.rls_coverage() WHERE NOT \
            conforms";
    assert_eq!(column(&mut client, differing), [""; 0]);
    let verdicts =
        "SELECT DISTINCT verdict || ' ' || canonical FROM ops.security_definer_functions()";
    assert_eq!(column(&mut client, verdicts), ["safe true"]);
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.rls_policies()"), ["12"]);
}

#[test]
fn exactly_the_violations_are_found() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    cluster.psql_file("app", "fixtures/violations.sql");
    let mut found = column(&mut client, ABOVE_INFO);
    found.extend(column(
        &mut client,
        "SELECT concat_ws(' | ', rule, object_type, object, role_name) FROM \
         ops.audit_security(rules => '{rls_not_forced}') LIMIT 1 OFFSET 3",
    ));
    assert_eq!(found, violations());
    let never_violated =
        "SELECT rule FROM ops.security_rules() EXCEPT SELECT rule FROM ops.audit_security()";
    let mut never_violated = column(&mut client, never_violated);
    // tests/tests/policy_rules.rs violates these, each by a policy with its name.
    let policies = include_str!("../fixtures/policy_violations.sql");
    never_violated.retain(|rule| {
        let policy = rule.strip_prefix("policy_").unwrap_or(rule);
        !policies.contains(&format!("CREATE POLICY {policy} ON "))
            && !policies.contains(&format!("-- {rule}: "))
    });
    assert_eq!(never_violated, [""; 0], "rules without a violation");

    let error = attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("P0004", "database does not conform to its security contract: 32 findings")
    );
    assert!(
        error.detail.contains("error role_attributes: Role \"anon\" has attribute BYPASSRLS"),
        "{}",
        error.detail
    );
}

#[test]
fn every_fix_is_executed_and_findings_without_fix_remain() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    cluster.psql_file("app", "fixtures/violations.sql");
    client.batch_execute("ALTER ROLE postgres_old RENAME TO postgres").unwrap();
    let fixes =
        "SELECT fix FROM ops.audit_security(min_severity => 'warning') WHERE fix IS NOT NULL";
    assert_eq!(column(&mut client, fixes).len(), 26);
    // The worker that lost the ownership of a table is granted its privileges in the second round.
    for _round in 0..2 {
        for fix in column(&mut client, fixes) {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}\n{e:?}"));
        }
    }
    assert_eq!(
        column(&mut client, ABOVE_INFO),
        [
            "required_object_missing | view | ops.v_event_log_recent",
            "object_ownership | table | ops.reaper_log | service_role",
            "untrusted_code | table | public.plaintiffs | service_role",
            "definer_name_captured | function | api.job(bigint)",
            "definer_body_dynamic_sql | function | api.find(pg_catalog.text)",
            "definer_sets_identity | function | api.act_as(pg_catalog.text)",
            "rls_policy_missing | table | intake.simplicity_batches | authenticated",
            "undeclared_role_privileges | schema | public | reporter",
            "ungoverned_schema_access | schema | reports | anon",
            "definer_body_unscoped | function | api.all_jobs()",
            "definer_body_argument_identity | function | api.batches(pg_catalog.text)",
            "leakproof_function | function | enforcement.open_actions(bigint)",
            "published_with_row_security | table | public.judgments",
            "policy_role_name | policy | judgments_read on public.judgments | authenticated",
            "policy_raises | policy | judgments_read on public.judgments | authenticated",
            "policy_bucket_unbound | policy | own_files on storage.objects | authenticated",
        ]
    );
}

#[test]
fn fixes_of_an_empty_database_leave_missing_objects_only() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("empty");
    for round in 0..4 {
        let fixes =
            column(&mut client, "SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL");
        if fixes.is_empty() {
            break;
        }
        assert!(round < 3, "the fixes do not converge: {fixes:?}");
        for fix in fixes {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}\n{e:?}"));
        }
    }
    assert_eq!(
        column(&mut client, "SELECT DISTINCT rule FROM ops.audit_security()"),
        ["required_object_missing"]
    );
}

#[test]
fn unknown_argument_is_an_error_with_the_valid_values() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    for (call, message, hint) in [
        (
            "rules => '{no_such}'",
            "unrecognized rule \"no_such\"",
            "SELECT rule, title FROM ops.security_rules() lists the rules.",
        ),
        (
            "schemas => '{nowhere}'",
            "unrecognized schema \"nowhere\"",
            "Valid: api, dragonfly_guard, enforcement",
        ),
        (
            "min_severity => 'fatal'",
            "unrecognized severity \"fatal\"",
            "Valid: error, warning, info.",
        ),
        ("rules => ARRAY[E'a\\n\\x1b']", "unrecognized rule \"a\\u000A\\u001B\"", "SELECT rule, "),
    ] {
        let error =
            attempt(&mut client, &format!("SELECT * FROM ops.audit_security({call})")).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("22023", message));
        assert!(error.hint.starts_with(hint), "{}", error.hint);
    }
    let all = "SELECT count(*)::text FROM ops.audit_security(NULL, NULL, NULL)";
    assert_eq!(column(&mut client, all), ["7"]);
    assert_eq!(
        column(&mut client, "SELECT count(*)::text FROM ops.audit_security(schemas => '{intake}')"),
        ["3"]
    );
    let error = attempt(&mut client, "SELECT ops.audit_security(rules => '{}')").unwrap_err();
    assert_eq!(error.message, "rules must not be empty");
}

#[test]
fn invalid_contract_is_rejected_with_its_path() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    for (document, place) in [
        ("'[]'", "$"),
        ("'{\"name\": 1}'", "$.name"),
        ("jsonb_set(ops.contract(), '{tables,0,colour}', '1')", "$.tables[0].colour"),
        ("jsonb_set(ops.contract(), '{roles,0,kind}', '\"king\"')", "$.roles[0].kind"),
        ("jsonb_set(ops.contract(), '{schemas,1,usage}', '[\"missing\"]')", "$.schemas[1].usage"),
    ] {
        let error = attempt(
            &mut client,
            &format!("INSERT INTO dragonfly_guard.contract (id, document) VALUES (2, {document})"),
        )
        .unwrap_err();
        assert_eq!(error.message, "not a valid security contract");
        assert!(error.detail.starts_with(place), "{document}: {}", error.detail);
    }
    // Without the constraint, the guard blocks every change, and the hint names the way out.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE dragonfly_guard.contract DROP CONSTRAINT \
             is_contract;
             RESET dragonfly_guard.mode; INSERT INTO dragonfly_guard.contract (id, document) \
                 VALUES (2, '{}')",
        )
        .unwrap();
    let definer =
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    let error = attempt(&mut client, definer).unwrap_err();
    assert_eq!(error.message, "the security contract in force is not valid");
    assert!(error.hint.contains("SET dragonfly_guard.mode = off"));
    assert_eq!(
        attempt(&mut client, "CREATE TABLE public.t (id int)").unwrap_err().message,
        error.message
    );
    attempt(&mut client, "CREATE TEMP TABLE unrelated (id int); COMMENT ON SCHEMA public IS NULL")
        .unwrap();
    attempt(&mut client, &format!("SET dragonfly_guard.mode = off; {definer}")).unwrap();
}

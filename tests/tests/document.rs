//! The database of the contract document: whole, the audit has nothing against it; with one
//! violation of every rule, it finds exactly those, and every fix runs.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

fn document(cluster: &Cluster) -> Client {
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    client
}

const WORSE_THAN_INFO: &str = "SELECT concat_ws(' | ', rule, object_type, object, role_name)
    FROM ops.audit_security(min_severity => 'warning')";

/// One for every rule; required_object_missing and others as violations.sql makes them.
const VIOLATIONS: [&str; 28] = [
    "role_missing | role | postgres | postgres",
    "role_attributes | role | anon | anon",
    "role_membership | role | helpers | authenticated",
    "required_object_missing | view | ops.v_event_log_recent",
    "object_ownership | table | ops.reaper_log | service_role",
    "schema_usage | schema | enforcement | authenticated",
    "schema_create | schema | intake | service_role",
    "table_privileges | table | ops.outbox | service_role",
    "table_privileges | table | public.plaintiff_contacts | anon",
    "column_privileges | table | public.job_queue | authenticated",
    "sequence_privileges | sequence | public.job_queue_id_seq | authenticated",
    "default_privileges | default acl | for role postgres_old in schema public on tables | anon",
    "view_privileges | view | public.v_judgment_pipeline | anon",
    "undeclared_view_readable | view | public.v_everybody | authenticated",
    "materialized_view_readable | materialized view | public.m_contacts | PUBLIC",
    "direct_write | table | public.judgments | authenticated",
    "security_definer_search_path | function | api.get_ceo_metrics()",
    "security_definer_executable_by_clients | function | ops.complete_outbox_message(pg_catalog.uuid) | authenticated",
    "routine_privileges | function | api.queue_job(pg_catalog.text,pg_catalog.jsonb) | anon",
    "rls_disabled | table | intake.simplicity_raw",
    "rls_policy_missing | table | intake.simplicity_batches | authenticated",
    "rls_policy_undeclared | policy | mine on public.plaintiffs | authenticated",
    "rls_policy_always_true | policy | anybody on public.job_queue | anon",
    "guard_tampered | event trigger | zz_dragonfly_guard_end",
    "security_definer_settings | function | api.get_call_queue()",
    "routine_executable_by_public | function | enforcement.open_actions(bigint) | PUBLIC",
    "policy_without_rls | table | public.plaintiff_tasks",
    // The note that every declared table without FORCE gets is the one of rls_not_forced.
    "rls_not_forced | table | public.judgments | postgres_old",
];

#[test]
fn the_documents_database_conforms() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    assert_eq!(column(&mut client, WORSE_THAN_INFO), [""; 0]);
    assert_eq!(
        column(&mut client, "SELECT DISTINCT rule FROM ops.audit_security()"),
        ["rls_not_forced"]
    );
    client.batch_execute("SELECT ops.assert_security('warning')").unwrap();
    let differing = "SELECT schema_name || ' ' || role_name FROM ops.role_matrix() WHERE NOT conforms
        UNION ALL SELECT schema_name || '.' || table_name FROM ops.rls_coverage() WHERE NOT conforms";
    assert_eq!(column(&mut client, differing), [""; 0]);
    let verdicts =
        "SELECT DISTINCT verdict || ' ' || canonical FROM ops.security_definer_functions()";
    assert_eq!(column(&mut client, verdicts), ["safe true"]);
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.rls_policies()"), ["12"]);
}

#[test]
fn one_violation_of_every_rule_is_found_and_nothing_else() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    cluster.psql_file("app", "fixtures/violations.sql");
    let mut found = column(&mut client, WORSE_THAN_INFO);
    found.extend(column(
        &mut client,
        "SELECT concat_ws(' | ', rule, object_type, object, role_name) FROM ops.audit_security(rules => '{rls_not_forced}') LIMIT 1 OFFSET 3",
    ));
    assert_eq!(found, VIOLATIONS);
    let never_violated =
        "SELECT rule FROM ops.security_rules() EXCEPT SELECT rule FROM ops.audit_security()";
    assert_eq!(column(&mut client, never_violated), [""; 0], "a rule has no case");

    let refused = attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("P0004", "the database differs from its security contract in 24 ways")
    );
    assert!(
        refused.detail.contains("error role_attributes: Role \"anon\" has the attribute BYPASSRLS"),
        "{}",
        refused.detail
    );
}

#[test]
fn every_fix_runs_and_leaves_only_what_a_person_decides() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    cluster.psql_file("app", "fixtures/violations.sql");
    client.batch_execute("ALTER ROLE postgres_old RENAME TO postgres").unwrap();
    let fixes =
        "SELECT fix FROM ops.audit_security(min_severity => 'warning') WHERE fix IS NOT NULL";
    assert_eq!(column(&mut client, fixes).len(), 24);
    // The worker that gave up a table gets back in the second round what it had as the owner.
    for _round in 0..2 {
        for fix in column(&mut client, fixes) {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}\n{e:?}"));
        }
    }
    assert_eq!(
        column(&mut client, WORSE_THAN_INFO),
        [
            "required_object_missing | view | ops.v_event_log_recent",
            "rls_policy_missing | table | intake.simplicity_batches | authenticated",
        ]
    );
}

#[test]
fn an_empty_database_is_mended_as_far_as_sql_can() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("empty");
    for round in 0..4 {
        let fixes =
            column(&mut client, "SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL");
        if fixes.is_empty() {
            break;
        }
        assert!(round < 3, "the fixes never come to an end: {fixes:?}");
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
fn what_is_asked_for_and_not_there_is_an_error_that_lists_what_is() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    for (call, message, hint) in [
        (
            "rules => '{no_such}'",
            "there is no rule \"no_such\"",
            "Valid: role_missing, role_attributes",
        ),
        (
            "schemas => '{nowhere}'",
            "there is no schema \"nowhere\"",
            "Valid: api, dragonfly_guard, enforcement",
        ),
        (
            "min_severity => 'fatal'",
            "there is no severity \"fatal\"",
            "Valid: error, warning, info.",
        ),
        ("rules => ARRAY[E'a\\n\\x1b']", "there is no rule \"a\\u000A\\u001B\"", "Valid: "),
    ] {
        let refused =
            attempt(&mut client, &format!("SELECT * FROM ops.audit_security({call})")).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("22023", message));
        assert!(refused.hint.starts_with(hint), "{}", refused.hint);
    }
    let all = "SELECT count(*)::text FROM ops.audit_security(NULL, NULL, NULL)";
    assert_eq!(column(&mut client, all), ["7"]);
    assert_eq!(
        column(&mut client, "SELECT count(*)::text FROM ops.audit_security(schemas => '{intake}')"),
        ["3"]
    );
    assert_eq!(
        column(&mut client, "SELECT count(*)::text FROM ops.audit_security(rules => '{}')"),
        ["0"]
    );
}

#[test]
fn a_malformed_contract_is_refused_with_the_place() {
    let cluster = Cluster::start();
    let mut client = document(&cluster);
    for (document, place) in [
        ("'[]'", "$"),
        ("'{\"name\": 1}'", "$.name"),
        ("jsonb_set(ops.contract(), '{tables,0,colour}', '1')", "$.tables[0].colour"),
        ("jsonb_set(ops.contract(), '{roles,0,kind}', '\"king\"')", "$.roles[0].kind"),
        ("jsonb_set(ops.contract(), '{schemas,1,usage}', '[\"nobody\"]')", "$.schemas[1].usage"),
    ] {
        let refused = attempt(
            &mut client,
            &format!("INSERT INTO dragonfly_guard.contract (id, document) VALUES (2, {document})"),
        )
        .unwrap_err();
        assert_eq!(refused.message, "not a valid security contract");
        assert!(refused.detail.starts_with(place), "{document}: {}", refused.detail);
    }
    // Past the check, the guard fails closed and says the way out.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE dragonfly_guard.contract DROP CONSTRAINT is_contract;
             RESET dragonfly_guard.mode; INSERT INTO dragonfly_guard.contract (id, document) VALUES (2, '{}')",
        )
        .unwrap();
    let definer =
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    let refused = attempt(&mut client, definer).unwrap_err();
    assert_eq!(refused.message, "the security contract in force is not valid");
    assert!(refused.hint.contains("SET dragonfly_guard.mode = off"));
    assert_eq!(
        attempt(&mut client, "CREATE TABLE public.t (id int)").unwrap_err().message,
        refused.message
    );
    attempt(&mut client, "CREATE TEMP TABLE unrelated (id int); COMMENT ON SCHEMA public IS NULL")
        .unwrap();
    attempt(&mut client, &format!("SET dragonfly_guard.mode = off; {definer}")).unwrap();
}
